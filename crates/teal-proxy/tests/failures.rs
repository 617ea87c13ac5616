//! Applications that fail: what is repeated, what is not, and what the client hears.

mod common;
use common::{App, Client, Kind, PORT, Stage, ok, timeouts};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::io::AsyncReadExt;
use tokio::sync::Notify;

/// Answers the first request of a connection, reads the second and closes without an answer.
async fn closes_on_the_second(requests: Arc<AtomicUsize>) -> App {
    App::raw(move |stream| {
        let requests = requests.clone();
        async move {
            let mut peer = Client::over(stream);
            if peer.receive(Kind::Request).await.is_some() {
                requests.fetch_add(1, Ordering::SeqCst);
                peer.send(&ok("first")).await;
            }
            if peer.receive(Kind::Request).await.is_some() {
                requests.fetch_add(1, Ordering::SeqCst);
            }
        }
    })
    .await
}

#[tokio::test]
async fn a_repeatable_request_on_a_stale_connection_is_sent_again() {
    let requests = Arc::new(AtomicUsize::new(0));
    let app = closes_on_the_second(requests.clone()).await;
    let mut stage = Stage::with(&app).await;
    let mut client = stage.client().await;
    for _ in 0..10 {
        assert_eq!(client.get("/").await.text(), "first");
        client.send("PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbody").await;
        assert_eq!(client.answer().await.status(), 200);
    }
    let counters = stage.until(1, |release| release.in_flight == 0).await.counters;
    assert_eq!((counters.answered[1], counters.failed.total(), counters.requests), (20, 0, 20));
    assert!(counters.retries > 0);
}

#[tokio::test]
async fn a_post_is_never_sent_twice() {
    let requests = Arc::new(AtomicUsize::new(0));
    let app = closes_on_the_second(requests.clone()).await;
    let mut stage = Stage::with(&app).await;
    let mut client = stage.client().await;
    let mut asked = 0;
    for _ in 0..20 {
        asked += 1;
        client.post("body").await;
    }
    assert_eq!(requests.load(Ordering::SeqCst), asked, "as many as were asked");
    assert_eq!(stage.release(1).await.counters.retries, 0);
}

#[tokio::test]
async fn a_post_does_not_use_a_connection_that_the_application_has_closed() {
    let closed = Arc::new(Notify::new());
    let bell = closed.clone();
    let app = App::raw(move |stream| {
        let bell = bell.clone();
        async move {
            let mut peer = Client::over(stream);
            peer.receive(Kind::Request).await;
            peer.send(&ok("x")).await;
            drop(peer);
            bell.notify_one();
        }
    })
    .await;
    let stage = Stage::with(&app).await;
    let mut client = stage.client().await;
    for _ in 0..50 {
        assert_eq!(client.post("body").await.status(), 200);
        closed.notified().await;
    }
}

#[tokio::test]
async fn another_backend_takes_over_when_one_refuses_connections() {
    let (dead, alive) = (App::saying("dead").await, App::saying("alive").await);
    let mut stage = Stage::new(1).await;
    stage.flip(1, &[&dead, &alive]).await;
    dead.stop();
    while tokio::net::TcpStream::connect(dead.addr).await.is_ok() {}
    let mut client = stage.client().await;
    for _ in 0..20 {
        assert_eq!(client.post("x").await.text(), "alive");
    }
    let statistics = stage.until(1, |release| release.in_flight == 0).await;
    assert_eq!(statistics.counters.failed.total(), 0);
    assert!(statistics.backends.iter().any(|backend| backend.ejected));
    assert!(statistics.counters.retries <= 4, "an ejected backend is left alone");
}

fn unused_addr() -> SocketAddr {
    std::net::TcpListener::bind("127.0.0.1:0").and_then(|socket| socket.local_addr()).expect("an address")
}

#[tokio::test]
async fn without_another_backend_a_dead_one_is_a_502_after_the_connect_timeout() {
    let app = App::saying("x").await;
    let mut stage = Stage::new(1).await;
    stage.entry().timeouts = timeouts(100, 0);
    stage.flip(1, &[&app]).await;
    for backend in &mut stage.entry().releases[0].backends {
        backend.addrs.insert(PORT, unused_addr());
    }
    stage.publish().await;
    let mut client = stage.client().await;
    assert_eq!(client.get("/").await.status(), 502);
    assert_eq!(client.get("/").await.status(), 502, "the connection stays");
    assert_eq!(stage.release(1).await.counters.failed.connect, 2);
}

#[tokio::test]
async fn a_request_that_finds_its_backend_dead_goes_on_with_the_next_table() {
    let (blue, green) = (App::saying("blue").await, App::saying("green").await);
    let mut stage = Stage::new(1).await;
    stage.entry().timeouts = timeouts(10_000, 0);
    stage.flip(1, &[&blue]).await;
    for backend in &mut stage.entry().releases[0].backends {
        backend.addrs.insert(PORT, unused_addr());
    }
    stage.publish().await;
    let mut client = stage.client().await;
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbody").await;
    stage.until(1, |release| release.counters.retries == 1).await;
    stage.flip(2, &[&green]).await;
    assert_eq!(client.answer().await.text(), "green");
}

#[tokio::test]
async fn an_application_that_does_not_answer_in_time_is_a_504() {
    let app = App::raw(|stream| async move {
        let mut peer = Client::over(stream);
        peer.receive(Kind::Request).await;
        assert!(peer.is_closed().await);
    })
    .await;
    let mut stage = Stage::new(1).await;
    stage.entry().timeouts = timeouts(1000, 50);
    stage.flip(1, &[&app]).await;
    let mut client = stage.client().await;
    assert_eq!(client.get("/").await.status(), 504);
    assert_eq!(client.post("x").await.status(), 504);
    assert_eq!(stage.release(1).await.counters.failed.timeout, 2);
}

#[tokio::test]
async fn garbage_from_an_application_is_a_502() {
    let app = App::raw(|stream| async move {
        let mut peer = Client::over(stream);
        peer.receive(Kind::Request).await;
        peer.send("SSH-2.0-OpenSSH\r\n\r\n").await;
    })
    .await;
    let stage = Stage::with(&app).await;
    assert_eq!(stage.client().await.get("/").await.status(), 502);
}

/// Answers at once, without reading what follows the head, and closes; a close with unread bytes is a reset.
async fn rude() -> App {
    App::raw(|stream| async move {
        let mut peer = Client::over(stream);
        if peer.head().await.is_some() {
            peer.send(&ok("no thanks")).await;
        }
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_early_answer_always_reaches_the_client() {
    let app = rude().await;
    let mut stage = Stage::new(2).await;
    stage.flip(1, &[&app]).await;
    let addr = stage.addr;
    let clients: Vec<_> = (0..8_usize)
        .map(|n| {
            tokio::spawn(async move {
                let mut client = Client::connect(addr).await;
                for round in 0..60 {
                    let size = [0, 100, 4_000, 60_000, 200_000, 900_000][(n + round) % 6];
                    let (body, slow) = ("x".repeat(size), round % 3 == 0);
                    client.send(&format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {size}\r\n\r\n")).await;
                    if slow {
                        let (first, rest) = body.split_at(size / 2);
                        client.send(first).await;
                        tokio::time::sleep(Duration::from_millis(2)).await;
                        client.send(rest).await;
                    } else {
                        client.send(&body).await;
                    }
                    let answer = client.answer().await;
                    assert_eq!((answer.status(), answer.text()), (200, "no thanks"), "{size} {slow}");
                }
            })
        })
        .collect();
    for client in clients {
        client.await.expect("every answer came");
    }
    let statistics = stage.agent.statistics().await.expect("statistics");
    assert_eq!(statistics.connections.accepted, 8, "every client kept its connection");
    let counters = stage.until(1, |release| release.in_flight == 0).await.counters;
    assert_eq!((counters.answered[1], counters.failed.total()), (480, 0));
}

#[tokio::test]
async fn an_early_answer_to_an_endless_body_reaches_the_client_before_the_close() {
    let app = rude().await;
    let stage = Stage::with(&app).await;
    for _ in 0..20 {
        let client = stage.client().await;
        let (mut read, mut write) = client.stream.into_split();
        let sending = tokio::spawn(async move {
            use tokio::io::AsyncWriteExt;
            let head = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000000\r\n\r\n";
            let mut sent = write.write_all(head.as_bytes()).await;
            for _ in 0..40 {
                if sent.is_err() {
                    break;
                }
                sent = write.write_all(&[b'x'; 64 * 1024]).await;
            }
            // Not the end of its side: that would mean that it has gone.
            std::future::pending::<()>().await;
        });
        let mut answer = Vec::new();
        while !answer.ends_with(b"no thanks") {
            let n = read.read_buf(&mut answer).await.expect("no reset");
            assert!(n > 0, "{:?}", String::from_utf8_lossy(&answer));
        }
        sending.abort();
    }
}

#[tokio::test]
async fn half_the_backends_failing_is_worked_around_and_more_is_not_made_worse() {
    let (a, b, c) = (App::saying("a").await, App::saying("b").await, App::saying("c").await);
    let mut stage = Stage::new(1).await;
    stage.entry().timeouts = timeouts(200, 0);
    stage.flip(1, &[&a, &b, &c]).await;
    a.stop();
    b.stop();
    for addr in [a.addr, b.addr] {
        while tokio::net::TcpStream::connect(addr).await.is_ok() {}
    }
    let mut client = stage.client().await;
    for _ in 0..30 {
        assert_eq!(client.get("/").await.text(), "c");
    }
}
