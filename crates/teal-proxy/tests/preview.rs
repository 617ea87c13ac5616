//! Requests that ask for the candidate by name.

mod common;
use common::{App, Client, Kind, Stage, ok, release, release_entry};
use teal_model::wire::{ListenerKey, Preview, Route};

const ASKED: &str = "Teal-Preview: candidate\r\n";

/// Tells which release it is, and the fields that it got.
async fn app(number: u64) -> App {
    App::answering(move |request| ok(&format!("{number}\n{}", request.head))).await
}

/// Release 1 has every share, release 2 the previews.
async fn stage(networks: &[&str], tokens: &[&str]) -> (Stage, [App; 2]) {
    let apps = [app(1).await, app(2).await];
    let mut stage = Stage::new(1).await;
    let texts = |list: &[&str]| list.iter().map(|text| (*text).to_owned()).collect();
    let preview = Preview { release: release(2), networks: texts(networks), tokens: texts(tokens) };
    stage.entry().preview = Some(preview);
    stage.split(&[(1, 1, &[&apps[0]]), (2, 0, &[&apps[1]])]).await;
    (stage, apps)
}

/// Who answered, and the head that it got.
async fn asked(client: &mut Client, fields: &str) -> (String, String) {
    let answer = client.get_with("/", fields).await;
    assert_eq!(answer.status(), 200);
    let (number, head) = answer.text().split_once('\n').expect("two parts");
    let expected = (number == "2").then_some("shop/web@2");
    assert_eq!(answer.field("teal-preview"), expected, "the tester sees what answered");
    (number.to_owned(), head.to_ascii_lowercase())
}

#[tokio::test]
async fn a_preview_goes_to_a_release_without_a_share_and_nobody_else_does() {
    let (stage, _apps) = stage(&["127.0.0.0/8"], &["secret"]).await;
    let mut client = stage.client().await;
    for (fields, expected) in [
        (ASKED, "2"),
        ("Cookie: Teal-Preview=candidate\r\n", "2"),
        ("Teal-Preview: candidate secret\r\n", "2"),
        ("Cookie: a=b; Teal-Preview=candidate.secret\r\n", "2"),
        ("Teal-Preview: candidate wrong\r\n", "1"),
        ("Cookie: Teal-Preview=candidate.wrong\r\n", "1"),
        ("", "1"),
    ] {
        let (number, head) = asked(&mut client, fields).await;
        assert_eq!(number, expected, "{fields}");
        assert!(!head.contains("teal-preview:") && !head.contains("secret") && !head.contains("wrong"), "{head}");
        assert_eq!(head.contains("a=b"), fields.contains("a=b"));
    }
}

#[tokio::test]
async fn the_network_is_that_of_the_client_before_the_trusted_proxies() {
    let (mut stage, _apps) = stage(&["10.1.0.0/16"], &[]).await;
    let mut client = stage.client().await;
    let from = |hops: &str| format!("{ASKED}X-Forwarded-For: {hops}\r\n");
    assert_eq!(asked(&mut client, &from("10.1.2.3")).await.0, "1", "the peer's word is not believed");
    stage.table.trusted_proxies = vec!["127.0.0.0/8".into(), "192.0.2.0/24".into()];
    stage.publish().await;
    for (hops, expected) in [
        ("10.1.2.3", "2"),
        ("203.0.113.9, 10.1.2.3", "2"),
        ("10.1.2.3, 192.0.2.1", "2"),
        ("10.1.2.3:4711", "2"),
        ("10.1.2.3, 203.0.113.9", "1"),
        ("10.1.2.3, unknown", "1"),
        ("10.2.2.3", "1"),
    ] {
        assert_eq!(asked(&mut client, &from(hops)).await.0, expected, "{hops}");
    }
    let only_forwarded = format!("{ASKED}Forwarded: for=203.0.113.9\r\n");
    stage.entry().preview.as_mut().expect("a preview").networks = vec!["127.0.0.0/8".into()];
    stage.publish().await;
    for (fields, why) in [
        (ASKED.to_owned(), "it does not say for whom it asks"),
        (only_forwarded, "nor in words that are read"),
        (from("127.0.0.1"), "nor does another that is trusted"),
        (from("127.0.0.1, 192.0.2.1"), "nor do several"),
    ] {
        assert_eq!(asked(&mut client, &fields).await.0, "1", "the proxy is not the client: {why}");
    }
}

#[tokio::test]
async fn a_proxy_that_nobody_trusts_is_not_taken_for_the_client() {
    let (stage, _apps) = stage(&["127.0.0.0/8"], &["secret"]).await;
    let mut client = stage.client().await;
    assert_eq!(asked(&mut client, ASKED).await.0, "2", "somebody who asks for himself");
    for field in ["X-Forwarded-For: 127.0.0.1", "X-Forwarded-Proto: https", "X-Real-IP: 127.0.0.1", "Forwarded: for=a"]
    {
        assert_eq!(asked(&mut client, &format!("{ASKED}{field}\r\n")).await.0, "1", "{field}");
        let with_token = format!("Teal-Preview: candidate secret\r\n{field}\r\n");
        assert_eq!(asked(&mut client, &with_token).await.0, "2", "{field}: a token is one from anywhere");
    }
}

#[tokio::test]
async fn callers_inside_need_a_token() {
    let (mut stage, _apps) = stage(&["127.0.0.0/8"], &["secret"]).await;
    let socket = std::net::TcpListener::bind("127.0.0.1:0").expect("bound");
    let addr = socket.local_addr().expect("an address");
    let key = ListenerKey { addr: addr.into(), namespace: Some("shop/web@1".into()) };
    stage.agent.listen(key.clone(), &socket).await.expect("sent");
    let inside = Route { listener: key, ..stage.table.routes[0].clone() };
    stage.table.routes.push(inside);
    stage.publish().await;
    let mut caller = Client::connect(addr).await;
    assert_eq!(asked(&mut caller, ASKED).await.0, "1", "it may be a proxy of others");
    assert_eq!(asked(&mut caller, "Teal-Preview: candidate secret\r\n").await.0, "2");
}

#[tokio::test]
async fn what_asks_for_a_preview_is_hidden_also_while_there_is_none() {
    let (mut stage, apps) = stage(&[], &[]).await;
    stage.entry().preview = None;
    stage.entry().hides_preview = true;
    stage.entry().releases = vec![release_entry(1, &[&apps[0]])];
    stage.publish().await;
    let mut client = stage.client().await;
    for (fields, left) in [
        (ASKED, ""),
        ("Teal-Preview: candidate secret\r\n", ""),
        ("Cookie: Teal-Preview=candidate.secret\r\n", ""),
        ("Cookie: a=b; Teal-Preview=candidate.secret; c=d\r\n", "cookie: a=b; c=d"),
        ("Teal-Preview: other\r\n", "teal-preview: other"),
    ] {
        let (number, head) = asked(&mut client, fields).await;
        assert!(number == "1" && !head.contains("secret") && !head.contains("candidate"), "{head}");
        assert!(head.contains(left), "{head}");
    }
}

#[tokio::test]
async fn previews_of_every_kind_of_request_meet_the_candidate() {
    let upgrading = App::raw(|stream| async move {
        let mut peer = Client::over(stream);
        while let Some(request) = peer.receive(Kind::Request).await {
            if request.field("upgrade").is_some() {
                assert_eq!(request.field("teal-preview"), None);
                peer.send("HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\n").await;
                let said = peer.exactly(2).await.expect("bytes");
                return peer.send(&String::from_utf8_lossy(&said)).await;
            }
            let head = request.start().starts_with("HEAD ");
            peer.send(if head {
                "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n"
            } else {
                "HTTP/1.1 304 Not Modified\r\nETag: \"2\"\r\n\r\n"
            })
            .await;
        }
    })
    .await;
    let (mut stage, apps) = stage(&["127.0.0.0/8"], &[]).await;
    stage.split(&[(1, 1, &[&apps[0]]), (2, 0, &[&upgrading])]).await;
    let answered_by = "Teal-Preview: shop/web@2\r\nVary: Teal-Preview, Cookie\r\n";
    let mut old = stage.client().await;
    old.send(&format!("GET / HTTP/1.0\r\n{ASKED}If-None-Match: \"2\"\r\n\r\n")).await;
    let answer = old.head().await.expect("an answer");
    assert!(answer.starts_with("HTTP/1.1 304 ") && answer.contains(answered_by), "{answer}");
    assert!(old.is_closed().await, "HTTP/1.0 ends with its answer");

    let mut client = stage.client().await;
    client.send(&format!("HEAD / HTTP/1.1\r\nHost: a\r\n{ASKED}\r\n")).await;
    let answer = client.head().await.expect("an answer");
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.contains(answered_by), "{answer}");

    client.send(&format!("GET / HTTP/1.1\r\nHost: a\r\n{ASKED}Connection: Upgrade\r\nUpgrade: x\r\n\r\n")).await;
    let answer = client.head().await.expect("an answer");
    assert!(answer.starts_with("HTTP/1.1 101 ") && answer.contains(answered_by), "{answer}");
    assert_eq!(stage.until(2, |one| one.tunnels == 1).await.in_flight, 1);
    client.send("hi").await;
    assert_eq!(client.rest().await, b"hi");
    drop(client);
    let candidate = stage.until(2, |one| one.in_flight == 0).await;
    assert_eq!((candidate.preview.answered, candidate.counters.requests), ([1, 1, 1, 0, 0], 0));
    assert_eq!(stage.release(1).await.counters.requests, 0);
}

#[tokio::test]
async fn previews_are_counted_apart() {
    let (mut stage, _apps) = stage(&["127.0.0.0/8"], &[]).await;
    let mut client = stage.client().await;
    for _ in 0..3 {
        asked(&mut client, ASKED).await;
    }
    let candidate = stage.until(2, |release| release.in_flight == 0).await;
    assert_eq!((candidate.preview.requests, candidate.preview.answered), (3, [0, 3, 0, 0, 0]));
    assert_eq!((candidate.counters.requests, candidate.latency.count(), candidate.waiting.count()), (0, 0, 0));
}

#[tokio::test]
async fn a_preview_under_way_is_in_flight_and_no_gap() {
    let slow = App::raw(|stream| async move {
        let mut peer = Client::over(stream);
        peer.receive(Kind::Request).await;
        assert!(peer.is_closed().await);
    })
    .await;
    let (mut stage, apps) = stage(&["127.0.0.0/8"], &[]).await;
    stage.split(&[(1, 1, &[&apps[0]]), (2, 0, &[&slow])]).await;
    let mut client = stage.client().await;
    client.send(&format!("GET / HTTP/1.1\r\nHost: a\r\n{ASKED}\r\n")).await;
    let candidate = stage.until(2, |release| release.in_flight == 1).await;
    assert_eq!((candidate.preview.requests, candidate.counters.requests, candidate.waiting.count()), (1, 0, 0));
    tokio::time::sleep(std::time::Duration::from_millis(30)).await;
    assert_eq!(stage.service().await.longest_gap_us, 0, "no user waits");
    drop(client);
    let candidate = stage.until(2, |release| release.in_flight == 0).await;
    assert_eq!(candidate.preview.client_aborts, 1);
}

#[tokio::test]
async fn a_preview_is_served_while_users_are_held_and_says_where_nobody_can_serve_it() {
    let (mut stage, apps) = stage(&["127.0.0.0/8"], &[]).await;
    stage.entry().holding = true;
    stage.publish().await;
    let mut client = stage.client().await;
    assert_eq!(asked(&mut client, ASKED).await.0, "2");
    stage.entry().holding = false;
    stage.split(&[(1, 1, &[&apps[0]]), (2, 0, &[])]).await;
    let answer = client.get_with("/", ASKED).await;
    assert_eq!((answer.status(), answer.field("teal-preview")), (503, None));
    assert!(answer.text().contains("this preview has no replica"), "{}", answer.text());
    assert_eq!(stage.service().await.held_total, 0);
    assert_eq!(asked(&mut client, "").await.0, "1", "the connection stays");
}

#[tokio::test]
async fn without_a_preview_the_field_is_the_applications() {
    let (mut stage, apps) = stage(&[], &[]).await;
    stage.entry().preview = None;
    stage.entry().releases = vec![release_entry(1, &[&apps[0]])];
    stage.publish().await;
    let (number, head) = asked(&mut stage.client().await, "Teal-Preview: candidate x\r\n").await;
    assert!(number == "1" && head.contains("teal-preview: candidate x"), "{head}");
}

#[tokio::test]
async fn a_preview_keeps_its_body_and_a_second_request_behind_it_is_another() {
    let apps = [App::saying("1").await, App::answering(|request| ok(&String::from_utf8_lossy(&request.body))).await];
    let (mut stage, _apps) = stage(&["127.0.0.0/8"], &[]).await;
    stage.split(&[(1, 1, &[&apps[0]]), (2, 0, &[&apps[1]])]).await;
    let mut client = stage.client().await;
    let head =
        format!("POST / HTTP/1.1\r\nHost: a\r\n{ASKED}Cookie: Teal-Preview=candidate.x\r\nContent-Length: 4\r\n\r\n");
    client.send(&format!("{head}bodyGET / HTTP/1.1\r\nHost: a\r\n\r\n")).await;
    assert_eq!(client.answer().await.text(), "body");
    assert_eq!(client.answer().await.text(), "1");
}
