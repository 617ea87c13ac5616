//! One request and its answer, through a proxy with one backend.

mod common;
use common::{App, Client, Kind, Stage, ok};

#[tokio::test]
async fn requests_on_one_connection_are_answered_over_one_backend_connection() {
    let app = App::answering(|request| ok(request.start())).await;
    let stage = Stage::with(&app).await;
    let mut client = stage.client().await;
    for n in 0..50 {
        let answer = client.get(&format!("/{n}")).await;
        assert_eq!((answer.status(), answer.text()), (200, format!("GET /{n} HTTP/1.1").as_str()));
    }
    assert_eq!(app.connections(), 1);
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_order() {
    let app = App::answering(|request| ok(request.start())).await;
    let stage = Stage::with(&app).await;
    let mut client = stage.client().await;
    let get = |n| format!("GET /{n} HTTP/1.1\r\nHost: a\r\n\r\n");
    client.send(&(0..20).map(get).collect::<String>()).await;
    for n in 0..20 {
        assert_eq!(client.answer().await.text(), format!("GET /{n} HTTP/1.1"));
    }
}

#[tokio::test]
async fn bodies_pass_whole_in_every_framing_and_size() {
    let app = App::answering(|request| {
        let body = String::from_utf8(request.body.clone()).expect("text");
        match request.field("x-as") {
            Some("chunked") => {
                let chunks = request
                    .body
                    .chunks(10_000)
                    .map(|part| format!("{:x}\r\n{}\r\n", part.len(), std::str::from_utf8(part).expect("text")));
                format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{}0\r\n\r\n", chunks.collect::<String>())
            }
            _ => ok(&body),
        }
    })
    .await;
    let stage = Stage::with(&app).await;
    let mut client = stage.client().await;
    for size in [0, 1, 1000, 16_384, 70_000, 1 << 20] {
        let body: String = (0..size).map(|n| char::from(b'a' + (n % 26) as u8)).collect();
        for (framed, answer_as) in
            [("length", "length"), ("length", "chunked"), ("chunked", "chunked"), ("chunked", "length")]
        {
            let framed = match framed {
                "chunked" if size == 0 => "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n".to_owned(),
                "chunked" => format!("Transfer-Encoding: chunked\r\n\r\n{size:x};x=y\r\n{body}\r\n0\r\n\r\n"),
                _ => format!("Content-Length: {size}\r\n\r\n{body}"),
            };
            let request = format!("PUT / HTTP/1.1\r\nHost: a\r\nX-As: {answer_as}\r\n{framed}");
            // Both ways at once: neither side waits for the other to have read everything.
            client.send(&request).await;
            let answer = client.answer().await;
            assert_eq!(answer.status(), 200);
            assert!(answer.body == body.as_bytes(), "{size} {answer_as}");
        }
    }
}

#[tokio::test]
async fn an_answer_that_ends_with_its_connection_reaches_the_client_in_chunks() {
    let app = App::raw(|stream| async move {
        let mut peer = Client::over(stream);
        if peer.receive(Kind::Request).await.is_some() {
            peer.send("HTTP/1.1 200 OK\r\n\r\nuntil the end").await;
        }
    })
    .await;
    let stage = Stage::with(&app).await;
    let mut client = stage.client().await;
    for _ in 0..3 {
        let answer = client.get("/").await;
        assert_eq!((answer.text(), answer.field("transfer-encoding")), ("until the end", Some("chunked")));
    }
}

#[tokio::test]
async fn http_1_0_clients_are_served() {
    let app = App::answering(|request| {
        assert_eq!(request.start(), "GET / HTTP/1.1");
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n".into()
    })
    .await;
    let stage = Stage::with(&app).await;
    let mut client = stage.client().await;
    client.send("GET / HTTP/1.0\r\n\r\n").await;
    let answer = client.answer().await;
    assert_eq!(
        (answer.text(), answer.field("transfer-encoding"), answer.field("connection")),
        ("hello", None, Some("close"))
    );
}

#[tokio::test]
async fn head_and_answers_without_a_body_leave_the_connection_in_step() {
    let app = App::answering(|request| match request.start().split(' ').nth(1) {
        Some("/head") => "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n".into(),
        Some("/204") => "HTTP/1.1 204 No Content\r\n\r\n".into(),
        Some("/304") => "HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n".into(),
        _ => ok("fine"),
    })
    .await;
    let stage = Stage::with(&app).await;
    let mut client = stage.client().await;
    for _ in 0..3 {
        client.send("HEAD /head HTTP/1.1\r\nHost: a\r\n\r\n").await;
        let head = client.receive(Kind::Bodiless).await.expect("a head");
        assert_eq!(head.field("content-length"), Some("1000"));
        client.send("GET /204 HTTP/1.1\r\nHost: a\r\n\r\n").await;
        assert_eq!(client.receive(Kind::Bodiless).await.expect("a head").status(), 204);
        client.send("GET /304 HTTP/1.1\r\nHost: a\r\n\r\n").await;
        assert_eq!(client.receive(Kind::Bodiless).await.expect("a head").status(), 304);
        assert_eq!(client.get("/").await.text(), "fine");
    }
    assert_eq!(app.connections(), 1);
}

#[tokio::test]
async fn trailers_pass_to_a_client_that_takes_them() {
    let app = App::answering(|request| {
        assert_eq!(request.trailers, "X-Sum: 7\r\n");
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-End\r\n\r\n2\r\nok\r\n0\r\nX-End: 1\r\n\r\n".into()
    })
    .await;
    let stage = Stage::with(&app).await;
    let mut client = stage.client().await;
    for (te, expected) in [("TE: trailers\r\n", "X-End: 1\r\n"), ("", "")] {
        client
            .send(&format!(
                "POST / HTTP/1.1\r\nHost: a\r\n{te}Transfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\nX-Sum: 7\r\n\r\n"
            ))
            .await;
        assert_eq!(client.answer().await.trailers, expected);
    }
}

#[tokio::test]
async fn a_client_that_expects_100_is_told_to_go_on() {
    let app = App::answering(|request| ok(&String::from_utf8_lossy(&request.body))).await;
    let stage = Stage::with(&app).await;
    let mut client = stage.client().await;
    for _ in 0..3 {
        client.send("POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n").await;
        assert_eq!(client.answer().await.status(), 100);
        client.send("hello").await;
        assert_eq!(client.answer().await.text(), "hello");
    }
}

#[tokio::test]
async fn early_hints_pass() {
    let app = App::answering(|_| {
        format!("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n{}", ok("then"))
    })
    .await;
    let stage = Stage::with(&app).await;
    let mut client = stage.client().await;
    let hints = client.get("/").await;
    assert_eq!((hints.status(), hints.field("link")), (103, Some("</a>")));
    assert_eq!(client.answer().await.text(), "then");
}

#[tokio::test]
async fn an_event_stream_arrives_event_by_event_and_ends_with_its_client() {
    let app = App::raw(|stream| async move {
        let mut peer = Client::over(stream);
        if peer.receive(Kind::Request).await.is_none() {
            return;
        }
        peer.send("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n").await;
        for event in ["a", "b", "c"] {
            peer.send(&format!("1\r\n{event}\r\n")).await;
            // The client has seen it when it says so on another connection; here it is enough to yield.
            tokio::task::yield_now().await;
        }
        assert!(peer.is_closed().await);
    })
    .await;
    let mut stage = Stage::with(&app).await;
    let mut client = stage.client().await;
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    client.head().await.expect("a head");
    assert_eq!(client.exactly(18).await.expect("three events"), b"1\r\na\r\n1\r\nb\r\n1\r\nc\r\n");
    assert_eq!(stage.release(1).await.in_flight, 1);
    drop(client);
    let statistics = stage.until(1, |release| release.in_flight == 0).await;
    assert_eq!((statistics.counters.client_aborts, statistics.counters.failed.total()), (1, 0));
}

#[tokio::test]
async fn an_answer_cut_short_is_never_made_to_look_whole() {
    let app = App::raw(|stream| async move {
        let mut peer = Client::over(stream);
        let Some(request) = peer.receive(Kind::Request).await else { return };
        let framing =
            if request.start().contains("chunked") { "Transfer-Encoding: chunked" } else { "Content-Length: 20" };
        peer.send(&format!("HTTP/1.1 200 OK\r\n{framing}\r\n\r\n4\r\nhalf\r\n")).await;
    })
    .await;
    let mut stage = Stage::with(&app).await;
    for path in ["/chunked", "/length"] {
        let mut client = stage.client().await;
        client.send(&format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n")).await;
        assert!(client.receive(Kind::Response).await.is_none(), "{path}");
    }
    assert_eq!(stage.until(1, |release| release.in_flight == 0).await.counters.failed.cut, 2);
}

#[tokio::test]
async fn statistics_add_up_to_what_was_asked() {
    let app = App::answering(|request| match request.start().split(' ').nth(1) {
        Some("/404") => "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n".into(),
        Some("/500") => "HTTP/1.1 500 Oh\r\nContent-Length: 0\r\n\r\n".into(),
        _ => ok("x"),
    })
    .await;
    let mut stage = Stage::with(&app).await;
    let mut client = stage.client().await;
    for path in ["/", "/", "/404", "/500"] {
        client.get(path).await;
    }
    let release = stage.until(1, |release| release.in_flight == 0).await;
    assert_eq!(release.counters.answered, [0, 2, 0, 1, 1]);
    assert_eq!((release.counters.requests, release.latency.count()), (4, 3), "a 5xx is no latency");
    assert_eq!(release.backends[0].idle, 1);
    let connections = stage.agent.statistics().await.expect("statistics").connections;
    assert_eq!((connections.open, connections.accepted), (1, 1));
}
