//! Requests whose end two parsers may see in different places are refused, on the raw socket, and the connection closed.

mod common;
use common::{App, Client, Kind, Stage, ok};

async fn stage() -> (App, Stage) {
    let app = App::answering(|request| ok(request.start())).await;
    let stage = Stage::with(&app).await;
    (app, stage)
}

/// The status of the only answer; the connection must be closed behind it.
async fn only_status(stage: &Stage, bytes: &str) -> u16 {
    let mut client = stage.client().await;
    client.send(bytes).await;
    let status = client.answer().await.status();
    assert!(client.is_closed().await, "closed after {bytes:?}");
    status
}

#[tokio::test]
async fn ambiguous_framing_is_a_400_and_a_close() {
    let (app, stage) = stage().await;
    let smuggled = "0\r\n\r\nGET /evil HTTP/1.1\r\nHost: a\r\n\r\n";
    for fields in [
        "Content-Length: 5\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: chunked\r\nContent-Length: 5",
        "Content-Length: 5\r\nContent-Length: 6",
        "Content-Length: 5\r\nContent-Length: 5",
        "Content-Length: 5,5",
        "Content-Length: +5",
        "Content-Length: 5a",
        "Content-Length: -1",
        "Content-Length: 18446744073709551617",
        "Transfer-Encoding: xchunked",
        "Transfer-Encoding: chunked, identity",
        "Transfer-Encoding: identity, chunked",
        "Transfer-Encoding: gzip",
        "Transfer-Encoding:\x0bchunked",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity",
        "Transfer-Encoding : chunked",
        "Transfer-Encoding\t: chunked",
        "X: y\r\n Transfer-Encoding: chunked",
        "X: y\rTransfer-Encoding: chunked",
        "X: y\0",
        "X\0: y",
        "Host: b",
        "No colon",
    ] {
        let status = only_status(&stage, &format!("POST / HTTP/1.1\r\nHost: a\r\n{fields}\r\n\r\n{smuggled}")).await;
        assert_eq!(status, 400, "{fields:?}");
    }
    assert_eq!(app.connections(), 0, "none of it was passed on");
    let mut stage = stage;
    assert_eq!(stage.agent.statistics().await.expect("statistics").connections.refused, 23);
}

#[tokio::test]
async fn other_malformed_requests_are_refused() {
    let (app, stage) = stage().await;
    for (request, expected) in [
        ("GET / HTTP/1.1\r\n\r\n", 400),
        ("GET http://b/ HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        ("GET / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
        ("GET /\r\n\r\n", 400),
        ("get\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\n Host: a\r\n\r\n", 400),
        ("CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n", 405),
        ("GET / HTTP/1.1\r\nHost: a\r\nExpect: the-unexpected\r\n\r\n", 417),
        ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
    ] {
        assert_eq!(only_status(&stage, request).await, expected, "{request:?}");
    }
    let long = format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "x".repeat(70_000));
    assert_eq!(only_status(&stage, &long).await, 431);
    let many = format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "X: y\r\n".repeat(120));
    assert_eq!(only_status(&stage, &many).await, 431);
    assert_eq!(app.connections(), 0);
}

#[tokio::test]
async fn a_body_chunked_wrongly_is_a_400_and_a_close() {
    let app = App::raw(|stream| async move {
        let mut peer = Client::over(stream);
        assert!(peer.receive(Kind::Request).await.is_none(), "the request never looks whole");
    })
    .await;
    let stage = Stage::with(&app).await;
    for body in [
        "x\r\n",
        "5\nhello\r\n0\r\n\r\n",
        "5\r\nhelloworld\r\n",
        "-5\r\nhello\r\n",
        "0x5\r\nhello\r\n",
        "5\r\nhello\n0\r\n\r\n",
    ] {
        let request = format!("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n{body}");
        assert_eq!(only_status(&stage, &request).await, 400, "{body:?}");
    }
}

#[tokio::test]
async fn what_follows_a_body_is_the_next_request_and_nothing_else() {
    let (_app, stage) = stage().await;
    let mut client = stage.client().await;
    client
        .send(
            "POST /1 HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nGET \
             POST /2 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3;x=\"\r\nabc\r\n0\r\nX: y\r\n\r\n\
             \r\nGET /3 HTTP/1.1\r\nHost: a\r\n\r\n",
        )
        .await;
    for expected in ["POST /1 HTTP/1.1", "POST /2 HTTP/1.1", "GET /3 HTTP/1.1"] {
        assert_eq!(client.answer().await.text(), expected);
    }
}

#[tokio::test]
async fn a_second_answer_behind_the_first_reaches_nobody() {
    let app =
        App::answering(
            |request| {
                if request.start().contains("/split") { ok("first") + &ok("poison") } else { ok("clean") }
            },
        )
        .await;
    let stage = Stage::with(&app).await;
    let mut client = stage.client().await;
    for _ in 0..10 {
        assert_eq!(client.get("/split").await.text(), "first");
        assert_eq!(client.get("/").await.text(), "clean");
    }
}

#[tokio::test]
async fn forwarding_fields_are_the_proxys_own() {
    let app = App::answering(|request| ok(&request.head)).await;
    let mut stage = Stage::with(&app).await;
    let request = "GET / HTTP/1.1\r\nHost: a.example\r\nX-Forwarded-For: 6.6.6.6\r\nForwarded: for=6.6.6.6\r\n\
                   X-Forwarded-Proto: https\r\nConnection: X-Forwarded-For, Host, X-Gone\r\nX-Gone: 1\r\n\r\n";
    let mut client = stage.client().await;
    client.send(request).await;
    let seen = client.answer().await;
    for line in [
        "X-Forwarded-For: 127.0.0.1\r\n",
        "X-Forwarded-Proto: http\r\n",
        "X-Forwarded-Host: a.example\r\n",
        "Host: a.example\r\n",
    ] {
        assert!(seen.text().contains(line), "{line} in {}", seen.text());
    }
    assert!(!seen.text().contains("6.6.6.6") && !seen.text().contains("X-Gone"), "{}", seen.text());

    stage.table.trusted_proxies = vec!["127.0.0.0/8".into()];
    stage.publish().await;
    client.send(request).await;
    let seen = client.answer().await;
    for line in ["X-Forwarded-For: 6.6.6.6, 127.0.0.1\r\n", "X-Forwarded-Proto: https\r\n"] {
        assert!(seen.text().contains(line), "{line} in {}", seen.text());
    }
}

#[tokio::test]
async fn no_route_is_a_404_and_the_connection_stays() {
    let (_app, mut stage) = stage().await;
    stage.table.routes[0].path = "/app".into();
    stage.publish().await;
    let mut client = stage.client().await;
    assert_eq!(client.get("/").await.status(), 404);
    assert_eq!(client.post("a body that nobody reads").await.status(), 404);
    assert_eq!(client.get("/app/x").await.status(), 200);
}
