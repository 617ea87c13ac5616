//! Client connections between requests, and behind an upgrade.

mod common;
use common::{App, Client, DEADLINE, Kind, Stage, ok};
use std::time::{Duration, Instant};
use tokio::io::AsyncWriteExt;

async fn until_parked(stage: &mut Stage, parked: u64) {
    let start = Instant::now();
    while stage.agent.statistics().await.expect("statistics").connections.parked != parked {
        assert!(start.elapsed() < DEADLINE);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn an_idle_connection_is_parked_and_served_again() {
    let app = App::answering(|request| ok(request.start())).await;
    let mut stage = Stage::with(&app).await;
    let mut client = stage.client().await;
    let mut silent = stage.client().await;
    client.get("/").await;
    until_parked(&mut stage, 2).await;
    // Half a head, then the rest with two more requests behind it.
    client.send("GET /1 HTTP/1.1\r\nHo").await;
    until_parked(&mut stage, 1).await;
    let get = |n| format!("GET /{n} HTTP/1.1\r\nHost: a\r\n\r\n");
    client.send(&format!("st: a\r\n\r\n{}{}", get(2), get(3))).await;
    for n in 1..=3 {
        let answer = client.answer().await;
        assert_eq!((answer.text(), answer.field("connection")), (format!("GET /{n} HTTP/1.1").as_str(), None));
    }
    assert_eq!(silent.get("/").await.status(), 200);
    until_parked(&mut stage, 2).await;
    drop((client, silent));
    until_parked(&mut stage, 0).await;
    assert_eq!(stage.agent.statistics().await.expect("statistics").connections.open, 0);
}

#[tokio::test]
async fn a_head_that_comes_byte_by_byte_is_served() {
    let app = App::saying("fine").await;
    let stage = Stage::with(&app).await;
    let mut client = stage.client().await;
    for byte in "\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n".chars() {
        client.send(&byte.to_string()).await;
        tokio::task::yield_now().await;
    }
    assert_eq!(client.answer().await.text(), "fine");
}

#[tokio::test]
async fn a_table_change_closes_no_client_connection() {
    let (blue, green) = (App::saying("blue").await, App::saying("green").await);
    let mut stage = Stage::with(&blue).await;
    let mut clients = Vec::new();
    for _ in 0..20 {
        let mut client = stage.client().await;
        client.get("/").await;
        clients.push(client);
    }
    until_parked(&mut stage, 20).await;
    for number in 2..12 {
        stage.flip(number, &[if number % 2 == 0 { &green } else { &blue }]).await;
        stage.entry().releases.retain(|listed| listed.release.number == number);
        stage.publish().await;
        let answer = clients[number as usize].get("/").await;
        assert_eq!(answer.text(), if number % 2 == 0 { "green" } else { "blue" });
        assert_eq!(answer.field("connection"), None);
    }
    assert_eq!(stage.agent.statistics().await.expect("statistics").connections.open, 20);
}

/// Echoes behind a 101 that arrives together with the first bytes.
async fn echo() -> App {
    App::raw(|stream| async move {
        let mut peer = Client::over(stream);
        let Some(request) = peer.receive(Kind::Request).await else { return };
        assert_eq!((request.field("upgrade"), request.field("connection")), (Some("websocket"), Some("Upgrade")));
        assert_eq!(request.field("sec-websocket-key"), Some("abc"));
        peer.send(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nX: y\r\n\r\nwelcome ",
        )
        .await;
        let early = std::mem::take(&mut peer.unread);
        let _ = peer.stream.write_all(&early).await;
        let (mut read, mut write) = peer.stream.split();
        let _ = tokio::io::copy(&mut read, &mut write).await;
        let _ = write.write_all(b" bye").await;
    })
    .await
}

const UPGRADE: &str = "GET /ws HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n\
                       Sec-WebSocket-Key: abc\r\n\r\n";

#[tokio::test]
async fn a_websocket_is_a_tunnel_that_loses_no_byte_either_way() {
    let app = echo().await;
    let mut stage = Stage::with(&app).await;
    let mut client = stage.client().await;
    client.send(&format!("{UPGRADE}early ")).await;
    let head = client.head().await.expect("a head");
    assert!(head.starts_with("HTTP/1.1 101") && head.contains("Upgrade: websocket"), "{head}");
    client.send("late").await;
    assert_eq!(client.exactly(18).await.expect("all of it"), b"welcome early late");
    let statistics = stage.release(1).await;
    assert_eq!((statistics.in_flight, statistics.tunnels, statistics.latency.count()), (1, 1, 0));

    client.stream.shutdown().await.expect("half closed");
    assert_eq!(client.rest().await, b" bye", "the other half still works");
    let counters = stage.until(1, |release| release.in_flight == 0).await.counters;
    assert_eq!((counters.answered, counters.failed.total(), counters.client_aborts), ([1, 0, 0, 0, 0], 0, 0));
}

#[tokio::test]
async fn a_websocket_that_is_reset_ends_though_the_other_side_is_silent() {
    let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
    let app = App::raw(move |stream| {
        let tell = tell.clone();
        async move {
            let mut peer = Client::over(stream);
            peer.receive(Kind::Request).await.expect("a request");
            peer.send("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n").await;
            let _ = tell.send(peer.is_closed().await);
        }
    })
    .await;
    let mut stage = Stage::with(&app).await;
    let mut client = stage.client().await;
    client.send(UPGRADE).await;
    client.head().await.expect("a head");
    rustix::net::sockopt::set_socket_linger(&client.stream, Some(Duration::ZERO)).expect("set");
    drop(client);
    assert!(tokio::time::timeout(DEADLINE, told.recv()).await.expect("in time").expect("told"));
    stage.until(1, |release| release.in_flight == 0).await;
}

#[tokio::test]
async fn a_tunnel_survives_the_flip_until_its_release_is_told_to_close_tunnels() {
    let (blue, green) = (echo().await, App::saying("green").await);
    let mut stage = Stage::with(&blue).await;
    let mut client = stage.client().await;
    client.send(UPGRADE).await;
    client.head().await.expect("a head");
    client.exactly(8).await.expect("welcome");
    stage.flip(2, &[&green]).await;
    client.send("still here").await;
    assert_eq!(client.exactly(10).await.expect("echoed"), b"still here");
    stage.entry().releases[0].close_tunnels = true;
    stage.publish().await;
    let start = Instant::now();
    assert!(client.is_closed().await);
    assert!(start.elapsed() < Duration::from_secs(3));
    assert_eq!(stage.until(1, |release| release.in_flight == 0).await.tunnels, 0);
}

#[tokio::test]
async fn an_upgrade_that_is_declined_is_an_answer_like_any_other() {
    let app = App::saying("no").await;
    let stage = Stage::with(&app).await;
    let mut client = stage.client().await;
    for _ in 0..3 {
        client.send(UPGRADE).await;
        assert_eq!(client.answer().await.text(), "no");
    }
}
