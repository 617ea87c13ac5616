//! Publishing tables under traffic: what requests, drains and connections see of it.

mod common;
use common::{App, Client, DEADLINE, Kind, Stage, ok, release_entry};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::Notify;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn flips_under_load_lose_nothing_and_nothing_stale_follows_an_acknowledgement() {
    let blue = App::saying("1").await;
    let green = App::saying("2").await;
    let mut stage = Stage::new(2).await;
    stage.flip(1, &[&blue]).await;

    // The release that was acknowledged last before a request was sent, and whether one is being published.
    let (live, over) = (Arc::new(AtomicU64::new(1)), Arc::new(AtomicBool::new(false)));
    let clients: Vec<_> = (0..16)
        .map(|n| {
            let (addr, live, over) = (stage.addr, live.clone(), over.clone());
            tokio::spawn(async move {
                let mut client = Client::connect(addr).await;
                let mut asked = 0;
                while !over.load(Ordering::SeqCst) {
                    let before = live.load(Ordering::SeqCst);
                    let answer = if n % 2 == 0 { client.get("/").await } else { client.post("body").await };
                    assert_eq!(answer.status(), 200);
                    let after = live.load(Ordering::SeqCst);
                    let by: u64 = answer.text().parse().expect("a number");
                    // An even `live` is a flip on its way: either release may answer.
                    assert!(before % 2 == 0 || before != after || by == release_of(before), "{by} after {before}");
                    asked += 1;
                }
                asked
            })
        })
        .collect();
    for n in 1..=40 {
        live.store(2 * n, Ordering::SeqCst);
        stage.flip(1 + n % 2, &[if n % 2 == 0 { &blue } else { &green }]).await;
        live.store(2 * n + 1, Ordering::SeqCst);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    over.store(true, Ordering::SeqCst);
    let mut asked = 0;
    for client in clients {
        asked += client.await.expect("no request failed");
    }
    stage.until(1, |release| release.in_flight == 0).await;
    stage.until(2, |release| release.in_flight == 0).await;
    let statistics = stage.agent.statistics().await.expect("statistics");
    let sum =
        |of: fn(&teal_model::wire::Counters) -> u64| statistics.releases.iter().map(|r| of(&r.counters)).sum::<u64>();
    assert_eq!((sum(|c| c.answered[1]), sum(|c| c.failed.total()), statistics.connections.accepted), (asked, 0, 16));
}

/// `live` counts halves of flips: 1 is release 1, 3 is release 2, 5 is release 1 again.
fn release_of(live: u64) -> u64 {
    1 + (live / 2) % 2
}

#[tokio::test]
async fn an_idle_proxy_takes_a_table_in_less_than_a_millisecond() {
    let app = App::saying("x").await;
    let mut stage = Stage::new(2).await;
    let mut took = Vec::new();
    for _ in 0..50 {
        let start = Instant::now();
        stage.flip(1, &[&app]).await;
        took.push(start.elapsed());
    }
    took.sort();
    // The way there and back included; the machine may be busy with other things.
    assert!(took[10] < Duration::from_millis(3), "{took:?}");
}

/// An application that answers when told to.
async fn slow(go: Arc<Notify>, text: &'static str) -> App {
    App::raw(move |stream| {
        let go = go.clone();
        async move {
            let mut peer = Client::over(stream);
            while peer.receive(Kind::Request).await.is_some() {
                go.notified().await;
                peer.send(&ok(text)).await;
            }
        }
    })
    .await
}

#[tokio::test]
async fn a_request_in_flight_survives_the_flip_and_is_counted_until_it_ends() {
    let go = Arc::new(Notify::new());
    let blue = slow(go.clone(), "blue").await;
    let green = App::saying("green").await;
    let mut stage = Stage::with(&blue).await;
    let mut old = stage.client().await;
    old.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    stage.until(1, |release| release.in_flight == 1).await;

    stage.flip(2, &[&green]).await;
    let mut new = stage.client().await;
    for _ in 0..20 {
        assert_eq!(new.get("/").await.text(), "green");
        assert_eq!(stage.release(1).await.in_flight, 1, "not drained yet");
    }
    go.notify_one();
    assert_eq!(old.answer().await.text(), "blue");
    stage.until(1, |release| release.in_flight == 0).await;
    assert_eq!(old.get("/").await.text(), "green", "on the same connection");
}

#[tokio::test]
async fn pooled_connections_of_an_unlisted_release_are_closed_before_the_acknowledgement() {
    let closed = Arc::new(AtomicBool::new(false));
    let told = Arc::new(Notify::new());
    let (flag, bell) = (closed.clone(), told.clone());
    let blue = App::raw(move |stream| {
        let (flag, bell) = (flag.clone(), bell.clone());
        async move {
            let mut peer = Client::over(stream);
            while peer.receive(Kind::Request).await.is_some() {
                peer.send(&ok("blue")).await;
            }
            flag.store(true, Ordering::SeqCst);
            bell.notify_one();
        }
    })
    .await;
    let green = App::saying("green").await;
    let mut stage = Stage::with(&blue).await;
    assert_eq!(stage.client().await.get("/").await.text(), "blue");
    stage.flip(2, &[&green]).await;
    assert!(!closed.load(Ordering::SeqCst), "still listed");
    assert_eq!(stage.release(1).await.backends[0].idle, 1);
    stage.entry().releases.retain(|listed| listed.release.number == 2);
    stage.publish().await;
    tokio::time::timeout(DEADLINE, told.notified()).await.expect("closed");
}

#[tokio::test]
async fn a_client_that_goes_away_frees_what_it_held() {
    let blue = App::raw(|stream| async move {
        let mut peer = Client::over(stream);
        peer.receive(Kind::Request).await;
        assert!(peer.is_closed().await, "the request is given up");
    })
    .await;
    let mut stage = Stage::with(&blue).await;
    let mut client = stage.client().await;
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    stage.until(1, |release| release.in_flight == 1).await;
    drop(client);
    let statistics = stage.until(1, |release| release.in_flight == 0).await;
    assert_eq!((statistics.counters.client_aborts, statistics.counters.failed.total()), (1, 0));
}

#[tokio::test]
async fn requests_are_held_while_there_is_no_backend_and_go_on_with_the_table_that_has_one() {
    let app = App::answering(|request| ok(&String::from_utf8_lossy(&request.body))).await;
    let mut stage = Stage::new(2).await;
    stage.publish().await;
    let mut clients = Vec::new();
    for n in 0..10 {
        let mut client = stage.client().await;
        let body = n.to_string();
        client.send(&format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n{body}", body.len())).await;
        clients.push((client, body));
    }
    stage.until_held(10).await;
    stage.entry().holding = true;
    stage.flip(1, &[&app]).await;
    assert_eq!(stage.service().await.held, 10, "the service is on hold");
    stage.entry().holding = false;
    stage.publish().await;
    for (client, body) in &mut clients {
        assert_eq!(client.answer().await.text(), body);
    }
    let service = stage.service().await;
    assert_eq!((service.held, service.held_total, service.hold_expired), (0, 10, 0));
}

#[tokio::test]
async fn a_hold_has_bounds_and_beyond_them_is_a_503() {
    let mut stage = Stage::new(1).await;
    stage.entry().hold.max_waiting = 2;
    stage.publish().await;
    let mut waiting = [stage.client().await, stage.client().await];
    for client in &mut waiting {
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    }
    stage.until_held(2).await;
    let mut third = stage.client().await;
    let answer = third.get("/").await;
    assert_eq!((answer.status(), answer.field("retry-after").is_some()), (503, true));

    let [first, mut second] = waiting;
    drop(first);
    stage.until_held(1).await;
    stage.entry().hold.for_ms = 1;
    stage.publish().await;
    assert_eq!(second.answer().await.status(), 503);
    assert_eq!(second.get("/").await.status(), 503, "the connection stays");
    assert_eq!(stage.service().await.held, 0);
}

#[tokio::test]
async fn shares_are_kept() {
    let (blue, green) = (App::saying("blue").await, App::saying("green").await);
    let mut stage = Stage::with(&blue).await;
    let entry = stage.entry();
    entry.releases.push(release_entry(2, &[&green]));
    entry.split[0].weight = 9;
    entry.split.push(teal_model::wire::Share { release: common::release(2), weight: 1 });
    stage.publish().await;
    let mut client = stage.client().await;
    let mut to_green = 0;
    for _ in 0..100 {
        to_green += usize::from(client.get("/").await.text() == "green");
    }
    assert_eq!(to_green, 10);
}

#[tokio::test]
async fn the_longest_gap_is_measured() {
    let go = Arc::new(Notify::new());
    let app = slow(go.clone(), "x").await;
    let mut stage = Stage::with(&app).await;
    let mut client = stage.client().await;
    let start = Instant::now();
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    stage.until(1, |release| release.in_flight == 1).await;
    let mut longest = 0;
    while longest < 50_000 {
        longest = stage.service().await.longest_gap_us;
        assert!(u128::from(longest) <= start.elapsed().as_micros() + 2000, "{longest}");
        assert!(start.elapsed() < DEADLINE);
    }
    go.notify_one();
    client.answer().await;
    // The slot of the answer must be over before it is looked at.
    tokio::time::sleep(Duration::from_millis(5)).await;
    stage.service().await;
    assert_eq!(stage.service().await.longest_gap_us, 0, "nobody waits");
}
