//! What the agent is told of requests that wait, and of those that failed.

mod common;
use common::{App, Client, Kind, Stage, ok, release};
use std::sync::Arc;
use std::time::{Duration, Instant};
use teal_model::wire::{FromProxy, ReleaseStatistics, Sample};
use tokio::sync::Notify;

#[tokio::test]
async fn a_request_is_known_to_wait_until_the_head_of_its_answer() {
    let go = Arc::new(Notify::new());
    let bell = go.clone();
    let app = App::raw(move |stream| {
        let bell = bell.clone();
        async move {
            let mut peer = Client::over(stream);
            while peer.receive(Kind::Request).await.is_some() {
                bell.notified().await;
                peer.send("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nha").await;
                bell.notified().await;
                peer.send("lf").await;
            }
        }
    })
    .await;
    let mut stage = Stage::with(&app).await;
    let start = Instant::now();
    let mut clients = [stage.client().await, stage.client().await];
    for client in &mut clients {
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    }
    let waited = |release: &ReleaseStatistics| release.waiting.quantile_us(0.0).unwrap_or(0);
    let both = stage.until(1, |release| release.waiting.count() == 2 && waited(release) > 100_000).await;
    let most = Duration::from_micros(both.waiting.quantile_us(1.0).expect("two wait"));
    assert!(most <= start.elapsed() * 9 / 8, "{most:?}");

    go.notify_one();
    let one = stage.until(1, |release| release.waiting.count() == 1).await;
    assert_eq!((one.in_flight, one.latency.count()), (2, 1), "its body is still on its way");
    drop(clients);
    let none = stage.until(1, |release| release.in_flight == 0).await;
    assert_eq!(none.waiting.count(), 0, "who has gone waits no longer");
}

#[tokio::test]
async fn a_client_that_leaves_after_a_long_wait_has_given_up_on_the_release() {
    let app = App::raw(|stream| async move {
        let mut peer = Client::over(stream);
        let Some(request) = peer.receive(Kind::Request).await else { return };
        if request.start().contains("/head") {
            peer.send("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nha").await;
        }
        peer.is_closed().await;
    })
    .await;
    let mut stage = Stage::with(&app).await;
    let asking = [
        "GET /nothing HTTP/1.1\r\nHost: a\r\n\r\n",
        "POST /nothing HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nhalf",
        // These two waited for no head: one had it, the other was still sending.
        "GET /head HTTP/1.1\r\nHost: a\r\n\r\n",
        "POST /upload HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nha",
    ];
    let mut clients = Vec::new();
    for request in asking {
        let mut client = stage.client().await;
        client.send(request).await;
        clients.push(client);
    }
    let waited = |release: &ReleaseStatistics| release.waiting.quantile_us(0.0).unwrap_or(0);
    // A bucket is told by its upper end, an eighth above the lower.
    stage.until(1, |release| release.waiting.count() == 3 && waited(release) > 5_700_000).await;
    let mut hasty = stage.client().await;
    hasty.send(asking[0]).await;
    stage.until(1, |release| release.waiting.count() == 4).await;
    drop((clients, hasty));
    let counters = stage.until(1, |release| release.in_flight == 0).await.counters;
    assert_eq!((counters.gave_up, counters.client_aborts, counters.requests), (2, 5, 5));
    assert_eq!(counters.failed.total(), 0);
}

/// What is told without being asked, until there are `count` samples.
async fn samples(stage: &mut Stage, count: usize) -> Vec<Sample> {
    let mut samples = Vec::new();
    while samples.len() < count {
        let told = stage.agent.wait_for(|message| match message {
            FromProxy::Statistics(statistics) if statistics.token.is_none() => Some(statistics.releases.clone()),
            _ => None,
        });
        let told = told.await.expect("statistics").into_iter().find(|one| one.release == release(1));
        samples.extend(told.expect("the release").samples);
    }
    samples
}

#[tokio::test]
async fn requests_that_fail_leave_a_sample() {
    let app = App::raw(|stream| async move {
        let mut peer = Client::over(stream);
        while let Some(request) = peer.receive(Kind::Request).await {
            match request.start().split(' ').nth(1) {
                Some("/cut") => return peer.send("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nha").await,
                Some("/closed") => return,
                Some("/fine") => peer.send(&ok("x")).await,
                _ => peer.send("HTTP/1.1 500 Oh\r\nContent-Length: 0\r\n\r\n").await,
            }
        }
    })
    .await;
    let mut stage = Stage::with(&app).await;
    let mut client = stage.client().await;
    client.get("/fine").await;
    client.get("/error?secret=1").await;
    // So much is not kept of any request.
    let body = "x".repeat(300_000);
    let long = "y".repeat(300);
    client.send(&format!("POST /{long} HTTP/1.1\r\nHost: a\r\nContent-Length: 300000\r\n\r\n{body}")).await;
    assert_eq!(client.answer().await.status(), 500);
    let told = samples(&mut stage, 2).await;
    let seen: Vec<_> = told.iter().map(|sample| (&sample.method[..], &sample.path[..], sample.status)).collect();
    assert_eq!(seen, [("GET", "/error", Some(500)), ("POST", &format!("/{long}")[..200], Some(500))]);
    assert_eq!(told[0].backend.0, format!("1:{}", app.addr));

    client.send("POST /closed HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n").await;
    assert_eq!(client.answer().await.status(), 502);
    client.send("GET /cut HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert!(client.receive(Kind::Response).await.is_none());
    let told = samples(&mut stage, 2).await;
    let seen: Vec<_> = told.iter().map(|sample| (&sample.path[..], sample.status)).collect();
    assert_eq!(seen, [("/closed", None), ("/cut", None)]);
}
