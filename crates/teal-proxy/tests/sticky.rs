//! Users who keep to one release.

mod common;
use common::{App, Client, Kind, Message, PORT, Stage, ok};
use std::collections::HashMap;
use teal_model::wire::{Protocol, Sticky, StickyBy};

const KEY: &str = "000102030405060708090a0b0c0d0e0f";

async fn stage(by: StickyBy) -> (Stage, [App; 2]) {
    let mut stage = Stage::new(2).await;
    stage.entry().sticky = Some(Sticky { by, salt: "7".into() });
    (stage, [App::saying("live").await, App::saying("candidate").await])
}

fn by_cookie() -> StickyBy {
    StickyBy::Cookie { name: "teal".into(), key: KEY.into() }
}

/// The candidate gets so many percent, first in the order.
async fn give(stage: &mut Stage, apps: &[App; 2], percent: u32) {
    stage.split(&[(2, percent, &[&apps[1]]), (1, 100 - percent, &[&apps[0]])]).await;
}

/// The `Cookie` field that a browser sends after this answer.
fn cookie(answer: &Message) -> Option<String> {
    let value = answer.field("set-cookie")?.split(';').next()?;
    Some(format!("Cookie: {value}\r\n"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_growing_share_takes_each_user_along_once_and_the_weights_of_new_users_are_exact() {
    let (mut stage, apps) = stage(by_cookie()).await;
    give(&mut stage, &apps, 5).await;
    let mut client = stage.client().await;
    let mut users = HashMap::new();
    for _ in 0..400 {
        let answer = client.get("/").await;
        users.insert(cookie(&answer).expect("a cookie"), answer.text().to_owned());
    }
    assert_eq!(users.len(), 400, "each its own");
    let on_candidate = |users: &HashMap<_, String>| users.values().filter(|release| *release == "candidate").count();
    assert!(on_candidate(&users).abs_diff(20) <= 1, "exact, not by chance: {}", on_candidate(&users));
    for percent in [5, 25, 50, 100] {
        give(&mut stage, &apps, percent).await;
        for (cookie, before) in &mut users {
            let answer = client.get_with("/", cookie).await;
            assert_eq!(answer.field("set-cookie"), None, "it has one");
            assert!(before == "live" || answer.text() == "candidate", "none goes back");
            assert!(percent != 5 || answer.text() == before, "nor moves while no share does");
            *before = answer.text().to_owned();
        }
        let expected = 400.0 * f64::from(percent) / 100.0;
        assert!((on_candidate(&users) as f64 - expected).abs() <= 50.0, "{percent} %: {}", on_candidate(&users));
    }
}

#[tokio::test]
async fn a_forged_cookie_is_no_cookie() {
    let (mut stage, apps) = stage(by_cookie()).await;
    give(&mut stage, &apps, 50).await;
    let mut client = stage.client().await;
    let mine = cookie(&client.get("/").await).expect("a cookie");
    for forged in [mine.replace("teal=", "teal=x"), mine.replace('.', ".."), "Cookie: teal=candidate\r\n".into()] {
        let mut seen = [0; 2];
        for _ in 0..10 {
            let answer = client.get_with("/", &forged).await;
            assert!(cookie(&answer).is_some_and(|fresh| fresh != forged), "it gets a real one");
            seen[usize::from(answer.text() == "candidate")] += 1;
        }
        assert_eq!(seen, [5, 5], "it chooses nothing");
    }
}

#[tokio::test]
async fn the_cookie_is_secure_behind_https_and_the_applications_own_stay() {
    let app = App::answering(|_| {
        "HTTP/1.1 200 OK\r\nSet-Cookie: a=1\r\nSet-Cookie: teal=2\r\nContent-Length: 0\r\n\r\n".to_owned()
    })
    .await;
    let (mut stage, _) = stage(by_cookie()).await;
    stage.split(&[(1, 1, &[&app])]).await;
    let mut client = stage.client().await;
    let https = "X-Forwarded-Proto: https\r\n";
    let cookies = |answer: &Message| {
        let lines = answer.head.lines().filter_map(|line| line.strip_prefix("Set-Cookie: "));
        lines.map(str::to_owned).collect::<Vec<_>>()
    };
    let told = cookies(&client.get_with("/", https).await);
    assert_eq!(told[..2], ["a=1", "teal=2"]);
    let (value, attributes) = told[2].split_once("; ").expect("attributes");
    assert!(value.starts_with("teal=") && value.len() == "teal=".len() + 22 + 1 + 22, "{value}");
    assert_eq!(attributes, "Path=/; Max-Age=2592000; HttpOnly; SameSite=Lax", "not believed");
    stage.table.trusted_proxies = vec!["127.0.0.1".into()];
    stage.publish().await;
    assert!(cookies(&client.get_with("/", https).await)[2].ends_with("; SameSite=Lax; Secure"));
    assert!(!cookies(&client.get("/").await)[2].contains("Secure"));
}

#[tokio::test]
async fn a_user_is_known_by_a_field_and_those_without_it_are_split_by_weight() {
    let (mut stage, apps) = stage(StickyBy::Header { name: "X-User".into() }).await;
    give(&mut stage, &apps, 50).await;
    let mut client = stage.client().await;
    let mut on_candidate = 0;
    for user in 0..100 {
        let field = format!("x-user: {user}\r\n");
        let first = client.get_with("/", &field).await;
        assert_eq!(first.field("set-cookie"), None);
        for _ in 0..3 {
            assert_eq!(client.get_with("/", &field).await.text(), first.text());
        }
        on_candidate += usize::from(first.text() == "candidate");
    }
    assert!((25..=75).contains(&on_candidate), "{on_candidate}");
    let mut by_weight = 0;
    for _ in 0..100 {
        by_weight += usize::from(client.get("/").await.text() == "candidate");
    }
    assert!((49..=51).contains(&by_weight), "{by_weight}");
}

#[tokio::test]
async fn an_address_keeps_to_its_release_with_requests_and_connections() {
    let (mut stage, apps) = stage(StickyBy::Address).await;
    stage.table.trusted_proxies = vec!["127.0.0.1".into()];
    give(&mut stage, &apps, 50).await;
    let mut client = stage.client().await;
    let mut seen = HashMap::new();
    for n in 0..40 {
        let fields = format!("X-Forwarded-For: 203.0.113.{n}\r\n");
        let first = client.get_with("/", &fields).await.text().to_owned();
        assert_eq!(client.get_with("/", &fields).await.text(), first);
        *seen.entry(first).or_insert(0) += 1;
    }
    assert_eq!(seen.len(), 2, "{seen:?}");
    let mine = client.get("/").await.text().to_owned();
    stage.table.routes[0].protocol = Protocol::Tcp;
    stage.publish().await;
    for _ in 0..6 {
        assert_eq!(stage.client().await.get("/").await.text(), mine);
    }
}

#[tokio::test]
async fn where_a_users_release_is_gone_another_serves_and_upgrades_keep_to_it() {
    let upgrading = |name: &'static str| {
        App::raw(move |stream| async move {
            let mut peer = Client::over(stream);
            while let Some(request) = peer.receive(Kind::Request).await {
                if request.field("upgrade").is_none() {
                    peer.send(&ok(name)).await;
                    continue;
                }
                peer.send("HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\n").await;
                return peer.send(name).await;
            }
        })
    };
    let (mut stage, _) = stage(by_cookie()).await;
    let apps = [upgrading("live").await, upgrading("candidate").await];
    give(&mut stage, &apps, 50).await;
    let mut client = stage.client().await;
    let mut first = client.get("/").await;
    while first.text() == "live" {
        first = client.get("/").await;
    }
    let mine = cookie(&first).expect("a cookie");
    for _ in 0..4 {
        let mut client = stage.client().await;
        client.send(&format!("GET / HTTP/1.1\r\nHost: a\r\n{mine}Connection: Upgrade\r\nUpgrade: x\r\n\r\n")).await;
        assert!(client.head().await.expect("a head").starts_with("HTTP/1.1 101 "));
        assert_eq!(client.rest().await, b"candidate");
    }
    let mut unknown = stage.client().await;
    unknown.send("GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n").await;
    assert!(unknown.head().await.expect("a head").contains("Set-Cookie: teal="), "an upgrade settles a user too");

    for backend in
        stage.entry().releases.iter_mut().filter(|one| one.release.number == 2).flat_map(|one| &mut one.backends)
    {
        let unused = std::net::TcpListener::bind("127.0.0.1:0").and_then(|socket| socket.local_addr());
        backend.addrs.insert(PORT, unused.expect("an address"));
    }
    stage.publish().await;
    assert_eq!(client.get_with("/", &mine).await.text(), "live", "it takes no connection");
    stage.split(&[(2, 50, &[]), (1, 50, &[&apps[0]])]).await;
    let answer = client.get_with("/", &mine).await;
    assert_eq!((answer.text(), answer.field("set-cookie")), ("live", None));
    give(&mut stage, &apps, 50).await;
    assert_eq!(client.get_with("/", &mine).await.text(), "candidate", "where it belongs");
}

#[tokio::test]
async fn head_and_http_1_0_settle_a_user_and_keep_to_its_release() {
    let apps = ["live", "candidate"].map(|name| {
        App::answering(move |request| {
            let body = if request.start().starts_with("HEAD ") { "" } else { name };
            format!("HTTP/1.1 200 OK\r\nX-By: {name}\r\nContent-Length: {}\r\n\r\n{body}", name.len())
        })
    });
    let [live, candidate] = apps;
    let apps = [live.await, candidate.await];
    let (mut stage, _) = stage(by_cookie()).await;
    give(&mut stage, &apps, 50).await;
    let mut seen = HashMap::new();
    for _ in 0..8 {
        let mut client = stage.client().await;
        client.send("HEAD / HTTP/1.1\r\nHost: a\r\n\r\n").await;
        let first = client.receive(Kind::Bodiless).await.expect("an answer");
        let (mine, by) = (cookie(&first).expect("a cookie"), first.field("x-by").expect("a name").to_owned());
        for request in ["GET / HTTP/1.0", "GET / HTTP/1.0\r\nConnection: keep-alive", "GET / HTTP/1.1\r\nHost: a"] {
            let mut old = stage.client().await;
            old.send(&format!("{request}\r\n{mine}\r\n")).await;
            let answer = old.answer().await;
            assert_eq!((answer.text(), answer.field("set-cookie")), (&by[..], None), "{request}");
        }
        *seen.entry(by).or_insert(0) += 1;
    }
    assert_eq!(seen, HashMap::from([("live".to_owned(), 4), ("candidate".to_owned(), 4)]));
    let mut old = stage.client().await;
    old.send("GET / HTTP/1.0\r\n\r\n").await;
    assert!(cookie(&old.answer().await).is_some());
}
