//! The skew guard: what one release does not have, the other may.

mod common;
use common::{App, Client, Kind, Message, Stage, ok, release};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use teal_model::wire::SkewGuard;
use tokio::sync::Notify;

fn missing(text: &str) -> String {
    format!("HTTP/1.1 404 Not Found\r\nContent-Length: {}\r\n\r\n{text}", text.len())
}

fn path(request: &Message) -> String {
    request.start().split(' ').nth(1).unwrap_or_default().to_owned()
}

/// Release 2 has all requests; release 1 is listed, with what `old` says.
async fn stage(new: &App, old: &App) -> Stage {
    let mut stage = Stage::new(1).await;
    let guard = SkewGuard { prefixes: vec!["/assets/".into()], releases: vec![release(1), release(2)] };
    stage.entry().skew_guard = Some(guard);
    stage.split(&[(2, 1, &[new]), (1, 0, &[old])]).await;
    stage
}

#[tokio::test]
async fn what_one_release_has_not_is_asked_of_the_other_and_each_exchange_counts_for_its_own() {
    let new = App::answering(|_| missing("new has it not")).await;
    let old = App::answering(|request| ok(&path(request))).await;
    let mut stage = stage(&new, &old).await;
    let mut client = stage.client().await;
    for _ in 0..5 {
        let answer = client.get("/assets/app.js?v=1").await;
        assert_eq!((answer.status(), answer.text()), (200, "/assets/app.js?v=1"));
    }
    let head = "HEAD /assets/app.js HTTP/1.1\r\nHost: a\r\n\r\n";
    client.send(head).await;
    assert_eq!(client.receive(Kind::Bodiless).await.expect("an answer").status(), 200);
    for (request, status) in [
        ("GET /assetsx HTTP/1.1\r\nHost: a\r\n\r\n", 404),
        ("GET /other HTTP/1.1\r\nHost: a\r\n\r\n", 404),
        ("DELETE /assets/x HTTP/1.1\r\nHost: a\r\n\r\n", 404),
        ("POST /assets/x HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx", 404),
        ("GET /assets/x HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx", 404),
    ] {
        client.send(request).await;
        assert_eq!(client.answer().await.status(), status, "{request}");
    }
    let (second, first) =
        (stage.until(1, |one| one.in_flight == 0).await, stage.until(2, |one| one.in_flight == 0).await);
    assert_eq!((first.counters.requests, first.counters.answered), (11, [0, 0, 0, 11, 0]));
    assert_eq!((second.counters.requests, second.counters.answered), (6, [0, 6, 0, 0, 0]));
    assert_eq!((first.waiting.count(), second.waiting.count()), (0, 0));
    assert_eq!(second.latency.count(), 6);
    assert!(new.connections() <= 3, "its connections are kept: {}", new.connections());
}

#[tokio::test]
async fn the_first_404_is_passed_on_where_the_other_has_nothing_better() {
    let new = App::answering(|_| missing("from the new")).await;
    let old = App::raw(|stream| async move {
        let mut peer = Client::over(stream);
        while let Some(request) = peer.receive(Kind::Request).await {
            match &path(&request)[..] {
                "/assets/404" => peer.send(&missing("from the old")).await,
                "/assets/500" => peer.send("HTTP/1.1 500 Oh\r\nContent-Length: 3\r\n\r\nold").await,
                "/assets/304" => peer.send("HTTP/1.1 304 Not Modified\r\n\r\n").await,
                "/assets/garbage" => return peer.send("garbage\r\n\r\n").await,
                _ => return,
            }
        }
    })
    .await;
    let mut stage = stage(&new, &old).await;
    let mut client = stage.client().await;
    for path in ["404", "500", "closed", "garbage"] {
        let answer = client.get(&format!("/assets/{path}")).await;
        assert_eq!((answer.status(), answer.text()), (404, "from the new"), "{path}");
    }
    assert_eq!(client.get("/assets/304").await.status(), 304);
    let counters = stage.until(1, |one| one.in_flight == 0).await.counters;
    assert_eq!((counters.answered, counters.failed.reset), ([0, 0, 1, 1, 1], 2));
    old.stop();
    while tokio::net::TcpStream::connect(old.addr).await.is_ok() {}
    assert_eq!(client.get("/assets/x").await.text(), "from the new");
    assert_eq!(stage.release(1).await.counters.failed.connect, 1);
    stage.split(&[(2, 1, &[&new]), (1, 0, &[])]).await;
    assert_eq!(client.get("/assets/x").await.text(), "from the new");
    let first = stage.until(2, |one| one.in_flight == 0).await;
    assert_eq!((first.counters.answered[3], first.counters.requests), (7, 7));
}

#[tokio::test]
async fn a_404_of_every_framing_comes_whole_and_a_long_one_asks_nobody() {
    let new = App::raw(|stream| async move {
        let mut peer = Client::over(stream);
        while let Some(request) = peer.receive(Kind::Request).await {
            match &path(&request)[..] {
                "/assets/chunked" => {
                    let head = "HTTP/1.1 404 Not Found\r\nTransfer-Encoding: chunked\r\n\r\n";
                    peer.send(&format!("{head}3\r\nnew\r\n0\r\n\r\n")).await;
                }
                "/assets/long" => peer.send(&missing(&"x".repeat(200_000))).await,
                "/assets/longer" => {
                    let head = "HTTP/1.1 404 Not Found\r\nTransfer-Encoding: chunked\r\n\r\n";
                    peer.send(&format!("{head}{:x}\r\n{}\r\n0\r\n\r\n", 70_000, "x".repeat(70_000))).await;
                }
                _ => return peer.send("HTTP/1.1 404 Not Found\r\n\r\nnew").await,
            }
        }
    })
    .await;
    let asked = Arc::new(AtomicUsize::new(0));
    let count = asked.clone();
    let old = App::answering(move |_| {
        count.fetch_add(1, Ordering::SeqCst);
        missing("old")
    })
    .await;
    let stage = stage(&new, &old).await;
    let mut client = stage.client().await;
    for (path, length, times) in [("chunked", 3, 1), ("close", 3, 2), ("long", 200_000, 2), ("longer", 70_000, 2)] {
        let answer = client.get(&format!("/assets/{path}")).await;
        assert_eq!((answer.status(), answer.body.len()), (404, length), "{path}");
        assert_eq!(asked.load(Ordering::SeqCst), times, "{path}");
    }
}

#[tokio::test]
async fn neither_release_is_drained_while_the_exchange_lasts() {
    let go = Arc::new(Notify::new());
    let bell = go.clone();
    let new = App::answering(|_| missing("new")).await;
    let old = App::raw(move |stream| {
        let bell = bell.clone();
        async move {
            let mut peer = Client::over(stream);
            while peer.receive(Kind::Request).await.is_some() {
                bell.notified().await;
                peer.send(&ok("old")).await;
            }
        }
    })
    .await;
    let mut stage = stage(&new, &old).await;
    let mut client = stage.client().await;
    client.send("GET /assets/x HTTP/1.1\r\nHost: a\r\n\r\n").await;
    stage.until(1, |one| one.in_flight == 1).await;
    assert_eq!(stage.release(2).await.in_flight, 1);
    go.notify_one();
    assert_eq!(client.answer().await.text(), "old");
    stage.until(1, |one| one.in_flight == 0).await;
    stage.until(2, |one| one.in_flight == 0).await;

    client.send("GET /assets/x HTTP/1.1\r\nHost: a\r\n\r\n").await;
    stage.until(1, |one| one.in_flight == 1).await;
    drop(client);
    assert_eq!(stage.until(1, |one| one.in_flight == 0).await.counters.client_aborts, 1);
    stage.until(2, |one| one.in_flight == 0).await;
}

#[tokio::test]
async fn a_release_that_is_no_longer_listed_is_not_asked() {
    let new = App::answering(|_| missing("new")).await;
    let old = App::saying("old").await;
    let mut stage = stage(&new, &old).await;
    stage.entry().releases.retain(|listed| listed.release == release(2));
    stage.entry().skew_guard.as_mut().expect("a guard").releases = vec![release(2)];
    stage.publish().await;
    assert_eq!(stage.client().await.get("/assets/x").await.status(), 404);
    assert_eq!(old.connections(), 0);
}

#[tokio::test]
async fn parts_and_copies_that_a_client_has_are_asked_of_the_other_as_they_were_of_the_first() {
    let new = App::answering(|_| missing("new")).await;
    let old = App::raw(|stream| async move {
        let mut peer = Client::over(stream);
        while let Some(request) = peer.receive(Kind::Request).await {
            let answer = match (request.field("if-none-match"), request.field("range")) {
                (Some("\"1\""), _) => {
                    "HTTP/1.1 304 Not Modified\r\nETag: \"1\"\r\nContent-Length: 3\r\n\r\n".to_owned()
                }
                (_, Some("bytes=0-1")) => {
                    "HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 0-1/3\r\nContent-Length: 2\r\n\r\nol"
                        .to_owned()
                }
                (_, Some(_)) => "HTTP/1.1 416 Range Not Satisfiable\r\nContent-Length: 0\r\n\r\n".to_owned(),
                _ if request.field("if-match").is_some() => {
                    "HTTP/1.1 412 Precondition Failed\r\nContent-Length: 0\r\n\r\n".to_owned()
                }
                _ => ok("old"),
            };
            peer.send(&answer).await;
        }
    })
    .await;
    let mut stage = stage(&new, &old).await;
    let mut client = stage.client().await;
    for (fields, status, text) in [
        ("If-None-Match: \"1\"\r\n", 304, ""),
        ("If-None-Match: \"2\"\r\n", 200, "old"),
        ("Range: bytes=0-1\r\n", 206, "ol"),
        ("Range: bytes=9-\r\n", 416, ""),
        ("If-Match: \"2\"\r\n", 412, ""),
        ("If-None-Match: \"1\"\r\nRange: bytes=0-1\r\n", 304, ""),
    ] {
        client.send(&format!("GET /assets/x HTTP/1.1\r\nHost: a\r\n{fields}\r\n")).await;
        let kind = if status == 304 { Kind::Bodiless } else { Kind::Response };
        let answer = client.receive(kind).await.expect("an answer");
        assert_eq!((answer.status(), answer.text()), (status, text), "{fields}");
    }
    assert_eq!(stage.until(1, |one| one.in_flight == 0).await.counters.answered, [0, 2, 2, 2, 0]);
}

#[tokio::test]
async fn head_and_http_1_0_get_one_answer_in_their_own_framing() {
    let chunked = |status: &'static str, text: &'static str| {
        App::answering(move |request| {
            let body = format!("{:x}\r\n{text}\r\n0\r\n\r\n", text.len());
            let body = if request.start().starts_with("HEAD ") { "" } else { &body };
            format!("HTTP/1.1 {status}\r\nTransfer-Encoding: chunked\r\n\r\n{body}")
        })
    };
    let new = chunked("404 Not Found", "new").await;
    let old = App::answering(|request| match (&path(request)[..], request.start().starts_with("HEAD ")) {
        ("/assets/none", _) => missing(""),
        (_, true) => "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n".to_owned(),
        (_, false) => "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nold\r\n0\r\n\r\n".to_owned(),
    })
    .await;
    let stage = stage(&new, &old).await;
    for (path, status, text) in [("x", 200, "old"), ("none", 404, "new")] {
        let mut client = stage.client().await;
        client.send(&format!("GET /assets/{path} HTTP/1.0\r\n\r\n")).await;
        let answer = client.answer().await;
        assert_eq!((answer.status(), answer.text(), answer.field("transfer-encoding")), (status, text, None), "{path}");
        let mut client = stage.client().await;
        for _ in 0..2 {
            client.send(&format!("HEAD /assets/{path} HTTP/1.1\r\nHost: a\r\n\r\n")).await;
            assert_eq!(client.receive(Kind::Bodiless).await.expect("an answer").status(), status, "{path}");
        }
    }
}

#[tokio::test]
async fn an_upgrade_is_asked_of_one_release_alone() {
    let new = App::answering(|_| missing("new")).await;
    let old = App::saying("old").await;
    let stage = stage(&new, &old).await;
    let mut client = stage.client().await;
    let answer = client.get_with("/assets/x", "Connection: Upgrade\r\nUpgrade: websocket\r\n").await;
    assert_eq!((answer.status(), old.connections()), (404, 0));
}
