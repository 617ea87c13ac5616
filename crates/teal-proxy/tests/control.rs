//! The agent's side of the proxy: handshake, tables, processes, listeners, shutdown.

mod common;
use common::{App, Client, DEADLINE, Kind, Stage, ok, release};
use std::os::fd::AsFd;
use std::sync::Arc;
use teal_model::ids::TableNumber;
use teal_model::wire::{BackendId, FromAgent, FromProxy, ListenerKey};
use tokio::sync::Notify;

#[tokio::test]
async fn the_next_agent_gets_the_table_and_the_sockets_back() {
    let app = App::saying("fine").await;
    let mut stage = Stage::with(&app).await;
    let mut client = stage.client().await;
    client.get("/").await;

    let before = std::mem::replace(&mut stage.agent, stage.proxy.connect().await.expect("connected"));
    drop(before);
    let FromProxy::Hello { table, listeners, workers, version, .. } = &stage.agent.hello else { panic!("a hello") };
    assert_eq!((table.as_ref(), listeners.len()), (Some(&stage.table), 1));
    assert_eq!((*workers, version.as_str()), (1, "test"));
    let socket = std::net::TcpListener::from(stage.agent.sockets.remove(0));
    assert_eq!(socket.local_addr().expect("an address"), stage.addr);
    stage.agent.wait_for(|m| matches!(m, FromProxy::Ready).then_some(())).await.expect("ready");
    assert_eq!(client.get("/").await.text(), "fine");
    stage.flip(2, &[&app]).await;
}

#[tokio::test]
async fn traffic_goes_on_without_an_agent() {
    let app = App::saying("fine").await;
    let stage = Stage::with(&app).await;
    let Stage { proxy, agent, addr, .. } = stage;
    drop(agent);
    let mut client = Client::connect(addr).await;
    for _ in 0..50 {
        assert_eq!(client.get("/").await.text(), "fine");
    }
    let mut agent = proxy.connect().await.expect("connected");
    assert!(agent.statistics().await.expect("statistics").releases[0].counters.answered[1] >= 50);
}

#[tokio::test]
async fn a_newer_agent_supersedes_the_one_before() {
    let app = App::saying("fine").await;
    let mut stage = Stage::with(&app).await;
    let mut second = stage.proxy.connect().await.expect("connected");
    second.wait_for(|m| matches!(m, FromProxy::Ready).then_some(())).await.expect("in charge");
    assert!(stage.agent.statistics().await.is_err(), "the first is not heard any more");
    assert_eq!(second.statistics().await.expect("statistics").table, stage.table.number);
}

#[tokio::test]
async fn a_table_that_is_older_or_contradicts_itself_is_refused() {
    let app = App::saying("fine").await;
    let mut stage = Stage::with(&app).await;
    let good = stage.table.clone();
    assert_eq!(stage.agent.publish(&good).await.expect("answered"), Ok(good.number), "the same again is fine");

    let mut older = good.clone();
    older.number = TableNumber { epoch: 0, n: 99 };
    assert!(stage.agent.publish(&older).await.expect("answered").is_err());
    let mut other = good.clone();
    other.trusted_proxies.push("10.0.0.0/8".into());
    assert!(stage.agent.publish(&other).await.expect("answered").is_err(), "the same number");

    let mut torn = good.clone();
    torn.number.n += 1;
    torn.services.values_mut().for_each(|entry| entry.releases.clear());
    let why = stage.agent.publish(&torn).await.expect("answered").expect_err("refused");
    assert!(why.contains("shop/web@1"), "{why}");
    assert_eq!(stage.client().await.get("/").await.text(), "fine", "the table before is served by");
    let later = TableNumber { epoch: 2, n: 0 };
    stage.table.number = later;
    assert_eq!(stage.agent.publish(&stage.table).await.expect("answered"), Ok(later));
}

fn pidfd(child: &std::process::Child) -> std::os::fd::OwnedFd {
    let pid = rustix::process::Pid::from_child(child);
    rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()).expect("a pidfd")
}

fn sleeper() -> std::process::Child {
    std::process::Command::new("sleep").arg("60").spawn().expect("started")
}

#[tokio::test]
async fn a_backend_is_dropped_in_the_moment_its_process_ends() {
    let (one, two) = (App::saying("one").await, App::saying("two").await);
    let mut stage = Stage::new(2).await;
    let mut child = sleeper();
    let id = BackendId(format!("1:{}", one.addr));
    let watch = FromAgent::Processes { backends: vec![id.clone()] };
    stage.agent.send(&watch, &[pidfd(&child).as_fd()]).await.expect("sent");
    stage.flip(1, &[&one]).await;
    assert_eq!(stage.client().await.get("/").await.text(), "one");

    child.kill().expect("killed");
    let gone = |m: &FromProxy| match m {
        FromProxy::BackendGone { backend, .. } => Some(backend.clone()),
        _ => None,
    };
    assert_eq!(stage.agent.wait_for(gone).await.expect("told"), id);
    // The application still answers, yet nobody asks it: the address may be another's by now.
    let mut clients = [stage.client().await, stage.client().await, stage.client().await];
    for client in &mut clients {
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    }
    stage.until_held(3).await;
    stage.publish().await;
    stage.until_held(3).await;
    stage.flip(2, &[&two]).await;
    for client in &mut clients {
        assert_eq!(client.answer().await.text(), "two");
    }
    child.wait().expect("reaped");
}

#[tokio::test]
async fn a_process_that_ended_before_its_table_gets_no_request() {
    let app = App::saying("one").await;
    let mut stage = Stage::new(1).await;
    let mut child = sleeper();
    let process = pidfd(&child);
    child.kill().expect("killed");
    child.wait().expect("reaped");
    let watch = FromAgent::Processes { backends: vec![BackendId(format!("1:{}", app.addr))] };
    stage.agent.send(&watch, &[process.as_fd()]).await.expect("sent");
    stage.flip(1, &[&app]).await;
    let mut client = stage.client().await;
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    stage.until_held(1).await;
    assert_eq!(app.connections(), 0);
}

#[tokio::test]
async fn listeners_come_and_go_while_connections_stay() {
    let app = App::saying("fine").await;
    let mut stage = Stage::with(&app).await;
    let mut client = stage.client().await;
    client.get("/").await;

    let socket = std::net::TcpListener::bind("127.0.0.1:0").expect("bound");
    let key = ListenerKey::host(socket.local_addr().expect("an address"));
    let mut route = stage.table.routes[0].clone();
    route.listener = key.clone();
    stage.table.routes.push(route);
    stage.publish().await;
    stage.agent.listen(key.clone(), &socket).await.expect("sent");
    assert_eq!(Client::connect(key.tcp().expect("a port")).await.get("/").await.text(), "fine");

    let old = ListenerKey::host(stage.addr);
    stage.agent.send(&FromAgent::Listeners { add: vec![], remove: vec![old] }, &[]).await.expect("sent");
    stage.agent.statistics().await.expect("obeyed");
    assert_eq!(client.get("/").await.text(), "fine");
    assert_eq!(Client::connect(key.tcp().expect("a port")).await.get("/").await.text(), "fine");
}

#[tokio::test]
async fn a_descriptor_that_is_no_listening_socket_is_reported() {
    let app = App::saying("fine").await;
    let mut stage = Stage::with(&app).await;
    let file = std::fs::File::open("/dev/null").expect("opened");
    let key = ListenerKey::host(std::net::SocketAddr::from(([127, 0, 0, 1], 1)));
    stage.agent.listen(key.clone(), &file).await.expect("sent");
    let failed = |m: &FromProxy| match m {
        FromProxy::ListenerFailed { listener, .. } => Some(listener.clone()),
        _ => None,
    };
    assert_eq!(stage.agent.wait_for(failed).await.expect("told"), key);
}

#[tokio::test]
async fn a_shutdown_lets_requests_end() {
    let go = Arc::new(Notify::new());
    let when = go.clone();
    let app = App::raw(move |stream| {
        let when = when.clone();
        async move {
            let mut peer = Client::over(stream);
            if peer.receive(Kind::Request).await.is_some() {
                when.notified().await;
                peer.send(&ok("in the end")).await;
            }
        }
    })
    .await;
    let mut stage = Stage::with(&app).await;
    let mut client = stage.client().await;
    let mut idle = stage.client().await;
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    stage.until(1, |release| release.in_flight == 1).await;
    stage.agent.send(&FromAgent::Shutdown { within_ms: 20_000 }, &[]).await.expect("sent");
    stage.agent.statistics().await.expect("still there");
    go.notify_one();
    let answer = client.answer().await;
    assert_eq!(answer.text(), "in the end");
    assert!(idle.is_closed().await);
    let Stage { proxy, .. } = stage;
    let ended = tokio::task::spawn_blocking(move || proxy.join());
    tokio::time::timeout(DEADLINE, ended).await.expect("in time").expect("joined").expect("an orderly end");
}

#[tokio::test]
async fn a_shutdown_ends_in_its_time_whatever_is_in_flight() {
    let app = App::raw(|stream| async move {
        let mut peer = Client::over(stream);
        peer.receive(Kind::Request).await;
        peer.is_closed().await;
    })
    .await;
    let mut stage = Stage::with(&app).await;
    let mut client = stage.client().await;
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    stage.until(1, |release| release.in_flight == 1).await;
    stage.agent.send(&FromAgent::Shutdown { within_ms: 50 }, &[]).await.expect("sent");
    let Stage { proxy, .. } = stage;
    let ended = tokio::task::spawn_blocking(move || proxy.join());
    tokio::time::timeout(DEADLINE, ended).await.expect("in time").expect("joined").expect("an orderly end");
}

#[tokio::test]
async fn statistics_come_unasked_and_count_up() {
    let app = App::saying("fine").await;
    let mut stage = Stage::with(&app).await;
    let unasked = |m: &FromProxy| match m {
        FromProxy::Statistics(statistics) if statistics.token.is_none() => Some(statistics.clone()),
        _ => None,
    };
    let first = stage.agent.wait_for(unasked).await.expect("statistics");
    let second = stage.agent.wait_for(unasked).await.expect("statistics");
    assert_eq!(second.sequence, first.sequence + 1);
    assert!(second.at_us > first.at_us && second.instance == first.instance);
    assert_eq!(second.releases[0].release, release(1));
}
