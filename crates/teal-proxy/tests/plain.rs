//! Plain TCP through the proxy: bytes, ends, flips, drains, holds, failures.

mod common;
use common::{App, DEADLINE, PORT, Stage, release, release_entry, timeouts};
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use teal_model::wire::{BackendId, Counters, FromAgent, FromProxy, Protocol, TcpCounters};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;

/// A listener that speaks plain TCP, and no table yet.
async fn plain(workers: usize) -> Stage {
    let mut stage = Stage::new(workers).await;
    stage.table.routes[0].protocol = Protocol::Tcp;
    stage
}

async fn plain_with(app: &App) -> Stage {
    let mut stage = plain(1).await;
    stage.flip(1, &[app]).await;
    stage
}

async fn echo() -> App {
    App::raw(|mut stream| async move {
        let (mut from, mut to) = stream.split();
        let _ = tokio::io::copy(&mut from, &mut to).await;
        let _ = to.shutdown().await;
    })
    .await
}

/// Says its byte first, then returns what it hears.
async fn greeting(byte: u8) -> App {
    App::raw(move |mut stream| async move {
        let _ = stream.write_all(&[byte]).await;
        let (mut from, mut to) = stream.split();
        let _ = tokio::io::copy(&mut from, &mut to).await;
    })
    .await
}

/// Tells what every connection ended with.
async fn listening() -> (App, mpsc::UnboundedReceiver<Result<Vec<u8>, ErrorKind>>) {
    let (tell, told) = mpsc::unbounded_channel();
    let app = App::raw(move |mut stream| {
        let tell = tell.clone();
        async move {
            let mut heard = Vec::new();
            let end = stream.read_to_end(&mut heard).await;
            let _ = tell.send(end.map(|_| heard).map_err(|error| error.kind()));
        }
    })
    .await;
    (app, told)
}

async fn soon<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(DEADLINE, work).await.expect("in time")
}

async fn connect(stage: &Stage) -> TcpStream {
    TcpStream::connect(stage.addr).await.expect("connected")
}

async fn read(stream: &mut TcpStream, n: usize) -> Vec<u8> {
    let mut bytes = vec![0; n];
    soon(stream.read_exact(&mut bytes)).await.expect("bytes");
    bytes
}

async fn to_end(stream: &mut TcpStream) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    soon(stream.read_to_end(&mut bytes)).await.map(|_| bytes)
}

async fn is_reset(stream: &mut TcpStream) -> bool {
    to_end(stream).await.is_err_and(|error| error.kind() == ErrorKind::ConnectionReset)
}

/// The reset may come before the client's own system has told it that it is connected.
async fn is_refused(stage: &Stage) -> bool {
    match TcpStream::connect(stage.addr).await {
        Ok(mut client) => is_reset(&mut client).await,
        Err(error) => error.kind() == ErrorKind::ConnectionReset,
    }
}

fn unused_addr() -> SocketAddr {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("bound");
    listener.local_addr().expect("an address")
}

#[tokio::test]
async fn bytes_pass_both_ways_and_a_client_may_end_its_side_first() {
    let mut stage = plain_with(&echo().await).await;
    let mut client = connect(&stage).await;
    client.write_all(b"\0not HTTP\r\n\r\n").await.expect("sent");
    assert_eq!(read(&mut client, 13).await, b"\0not HTTP\r\n\r\n");
    client.write_all(b"last").await.expect("sent");
    client.shutdown().await.expect("ended");
    assert_eq!(to_end(&mut client).await.expect("an orderly end"), b"last");
    let release = stage.until(1, |release| release.in_flight == 0).await;
    assert_eq!(release.tcp, TcpCounters { connections: 1, ..TcpCounters::default() });
    assert_eq!((release.counters, release.latency.count()), (Counters::default(), 0), "no request");
}

#[tokio::test]
async fn a_server_may_speak_first_and_end_its_side_first() {
    let (tell, mut told) = mpsc::unbounded_channel();
    let app = App::raw(move |mut stream| {
        let tell = tell.clone();
        async move {
            stream.write_all(b"220 ready\r\n").await.expect("sent");
            stream.shutdown().await.expect("ended");
            let mut heard = Vec::new();
            stream.read_to_end(&mut heard).await.expect("an orderly end");
            let _ = tell.send(heard);
        }
    })
    .await;
    let stage = plain_with(&app).await;
    let mut client = connect(&stage).await;
    assert_eq!(to_end(&mut client).await.expect("an orderly end"), b"220 ready\r\n");
    client.write_all(b"said after the end").await.expect("sent");
    client.shutdown().await.expect("ended");
    assert_eq!(soon(told.recv()).await.expect("heard"), b"said after the end");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn much_passes_both_ways_at_once() {
    const BYTES: usize = 32 << 20;
    let stage = plain_with(&echo().await).await;
    let (mut from, mut to) = connect(&stage).await.into_split();
    let sent: Arc<[u8]> = (0..BYTES).map(|n| (n % 251) as u8).collect();
    let copy = sent.clone();
    let sending = tokio::spawn(async move {
        to.write_all(&copy).await.expect("sent");
        to.shutdown().await.expect("ended");
    });
    let mut heard = Vec::with_capacity(BYTES);
    soon(from.read_to_end(&mut heard)).await.expect("an orderly end");
    sending.await.expect("sent");
    assert!(heard == *sent, "{} bytes of {BYTES}", heard.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_under_flips_never_fail_and_none_goes_to_a_release_without_a_share() {
    let (blue, green) = (greeting(1).await, greeting(2).await);
    let mut stage = plain(2).await;
    stage.flip(1, &[&blue]).await;
    let mut kept = connect(&stage).await;
    assert_eq!(read(&mut kept, 1).await, [1]);

    // As in flip.rs: an even number is a flip on its way.
    let (live, over) = (Arc::new(AtomicU64::new(1)), Arc::new(AtomicBool::new(false)));
    let clients: Vec<_> = (0..8)
        .map(|_| {
            let (addr, live, over) = (stage.addr, live.clone(), over.clone());
            tokio::spawn(async move {
                let mut made = 0;
                while !over.load(Ordering::SeqCst) {
                    let before = live.load(Ordering::SeqCst);
                    let mut client = TcpStream::connect(addr).await.expect("connected");
                    let by = u64::from(read(&mut client, 1).await[0]);
                    let after = live.load(Ordering::SeqCst);
                    let expected = 1 + (before / 2) % 2;
                    assert!(before % 2 == 0 || before != after || by == expected, "{by} after {before}");
                    client.write_all(b"ping").await.expect("sent");
                    assert_eq!(read(&mut client, 4).await, b"ping");
                    made += 1;
                }
                made
            })
        })
        .collect();
    for n in 1..=200 {
        live.store(2 * n, Ordering::SeqCst);
        stage.flip(1 + n % 2, &[if n % 2 == 0 { &blue } else { &green }]).await;
        live.store(2 * n + 1, Ordering::SeqCst);
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    over.store(true, Ordering::SeqCst);
    let mut made = 0;
    for client in clients {
        made += client.await.expect("no connection failed");
    }
    kept.write_all(b"still here").await.expect("sent");
    assert_eq!(read(&mut kept, 10).await, b"still here", "200 tables later");
    let of_blue = stage.until(1, |release| release.in_flight == 1).await.tcp;
    let of_green = stage.until(2, |release| release.in_flight == 0).await.tcp;
    assert_eq!((of_blue.connections + of_green.connections, of_blue.failed + of_green.failed), (made + 1, 0));
}

#[tokio::test]
async fn a_drain_counts_every_open_connection() {
    let (blue, green) = (greeting(1).await, greeting(2).await);
    let mut stage = plain_with(&blue).await;
    let mut clients = Vec::new();
    for _ in 0..5 {
        let mut client = connect(&stage).await;
        assert_eq!(read(&mut client, 1).await, [1]);
        clients.push(client);
    }
    stage.flip(2, &[&green]).await;
    for open in (1..=5).rev() {
        let release = stage.until(1, |release| release.in_flight == open).await;
        assert_eq!((release.tunnels, release.tcp.open, release.backends[0].in_flight), (open, open, open));
        assert_eq!((release.tcp.connections, release.counters.requests), (5, 0));
        clients.pop();
    }
    stage.until(1, |release| release.in_flight == 0 && release.backends[0].in_flight == 0).await;
    // Unlisted with a connection: counted on, and the connection stays.
    let mut last = connect(&stage).await;
    assert_eq!(read(&mut last, 1).await, [2]);
    stage.entry().releases.clear();
    stage.entry().split.clear();
    stage.publish().await;
    assert_eq!(stage.release(2).await.in_flight, 1);
    last.write_all(b"x").await.expect("sent");
    assert_eq!(read(&mut last, 1).await, b"x");
}

#[tokio::test]
async fn connections_are_held_and_then_served_with_what_they_have_said() {
    let mut stage = plain(2).await;
    stage.publish().await;
    let (mut silent, mut talking, mut ended) = (connect(&stage).await, connect(&stage).await, connect(&stage).await);
    talking.write_all(b"early").await.expect("sent");
    ended.write_all(b"early").await.expect("sent");
    ended.shutdown().await.expect("ended");
    stage.until_held(3).await;
    stage.entry().holding = true;
    let app = greeting(7).await;
    stage.flip(1, &[&app]).await;
    assert_eq!(stage.service().await.held, 3, "the service is on hold");
    stage.entry().holding = false;
    stage.publish().await;
    assert_eq!(read(&mut silent, 1).await, [7]);
    assert_eq!(read(&mut talking, 6).await, b"\x07early");
    assert_eq!(to_end(&mut ended).await.expect("an orderly end"), b"\x07early");
    let service = stage.service().await;
    assert_eq!((service.held, service.held_total, service.hold_expired), (0, 3, 0));
    assert_eq!(service.tcp_held_total, 3);
    assert_eq!(stage.release(1).await.tcp.connections, 3);
}

#[tokio::test]
async fn more_than_is_kept_of_a_held_connection_waits_in_its_socket() {
    let mut stage = plain(1).await;
    stage.publish().await;
    let (mut from, mut to) = connect(&stage).await.into_split();
    let sending = tokio::spawn(async move {
        to.write_all(&[5; 1 << 20]).await.expect("sent");
        to.shutdown().await.expect("ended");
    });
    stage.until_held(1).await;
    stage.flip(1, &[&echo().await]).await;
    let mut heard = Vec::new();
    soon(from.read_to_end(&mut heard)).await.expect("an orderly end");
    assert!(heard.len() == 1 << 20 && heard.iter().all(|byte| *byte == 5), "{}", heard.len());
    sending.await.expect("sent");
}

#[tokio::test]
async fn a_client_that_goes_away_while_it_is_held_leaves_the_queue() {
    let mut stage = plain(1).await;
    stage.publish().await;
    let (closing, mut resetting) = (connect(&stage).await, connect(&stage).await);
    resetting.write_all(b"early").await.expect("sent");
    resetting.shutdown().await.expect("ended");
    stage.until_held(2).await;
    drop(closing);
    stage.until_held(1).await;
    rustix::net::sockopt::set_socket_linger(&resetting, Some(Duration::ZERO)).expect("set");
    drop(resetting);
    stage.until_held(0).await;
    let app = echo().await;
    stage.flip(1, &[&app]).await;
    assert_eq!((stage.release(1).await.tcp.connections, app.connections()), (0, 0));
}

#[tokio::test]
async fn a_hold_has_bounds_and_beyond_them_the_connection_is_reset() {
    let mut stage = plain(1).await;
    stage.entry().hold.max_waiting = 1;
    stage.publish().await;
    let mut first = connect(&stage).await;
    stage.until_held(1).await;
    assert!(is_refused(&stage).await, "the queue is full");
    stage.entry().hold.for_ms = 1;
    stage.publish().await;
    assert!(is_reset(&mut first).await);
    let service = stage.service().await;
    assert_eq!((service.held, service.held_total, service.hold_expired), (0, 1, 2));
    assert_eq!((service.tcp_held_total, service.tcp_hold_expired), (1, 2));
}

#[tokio::test]
async fn a_backend_that_takes_no_connection_costs_none() {
    let app = greeting(1).await;
    let mut stage = plain(1).await;
    stage.flip(1, &[&app]).await;
    let mut dead = release_entry(1, &[&app]).backends.remove(0);
    dead.id = BackendId("dead:1".into());
    dead.addrs.insert(PORT, unused_addr());
    stage.entry().releases[0].backends.insert(0, dead);
    stage.publish().await;
    for _ in 0..20 {
        assert_eq!(read(&mut connect(&stage).await, 1).await, [1]);
    }
    let release = stage.until(1, |release| release.in_flight == 0).await;
    assert_eq!(release.tcp, TcpCounters { connections: 20, ..TcpCounters::default() });
    let dead = release.backends.iter().find(|backend| backend.backend.0 == "dead:1").expect("listed");
    assert!(dead.ejected, "as for HTTP");
}

#[tokio::test]
async fn where_no_backend_takes_it_a_connection_is_reset_and_counted_as_failed() {
    let app = echo().await;
    let mut stage = plain_with(&app).await;
    stage.entry().releases[0].backends[0].addrs.insert(PORT, unused_addr());
    stage.entry().timeouts = timeouts(50, 0);
    stage.publish().await;
    assert!(is_refused(&stage).await);
    let release = stage.until(1, |release| release.in_flight == 0).await;
    assert_eq!(release.tcp, TcpCounters { connections: 1, failed: 1, ..TcpCounters::default() });
    assert_eq!(release.counters, Counters::default());
}

#[tokio::test]
async fn a_connection_whose_backend_just_goes_is_taken_by_the_next_table() {
    let (gone, app) = (echo().await, greeting(2).await);
    let mut stage = plain_with(&gone).await;
    stage.entry().releases[0].backends[0].addrs.insert(PORT, unused_addr());
    stage.entry().timeouts = timeouts(20_000, 0);
    stage.publish().await;
    let mut client = connect(&stage).await;
    stage.until(1, |release| release.in_flight == 1).await;
    stage.flip(2, &[&app]).await;
    assert_eq!(read(&mut client, 1).await, [2]);
    let release = stage.until(1, |release| release.in_flight == 0).await;
    assert_eq!(release.tcp.connections, 0, "it counts where it ended up");
}

#[tokio::test]
async fn connections_left_over_are_closed_when_the_drain_time_is_over() {
    let (blue, green) = (greeting(1).await, greeting(2).await);
    let mut stage = plain_with(&blue).await;
    let (mut old, start) = (connect(&stage).await, Instant::now());
    assert_eq!(read(&mut old, 1).await, [1]);
    stage.flip(2, &[&green]).await;
    let mut new = connect(&stage).await;
    assert_eq!(read(&mut new, 1).await, [2]);
    stage.entry().releases[0].close_tunnels = true;
    stage.publish().await;
    assert_eq!(to_end(&mut old).await.expect("an orderly end"), b"");
    assert!(start.elapsed() < Duration::from_secs(4));
    let release = stage.until(1, |release| release.in_flight == 0).await;
    assert_eq!(release.tcp, TcpCounters { connections: 1, closed: 1, ..TcpCounters::default() });
    new.write_all(b"x").await.expect("sent");
    assert_eq!(read(&mut new, 1).await, b"x");
}

#[tokio::test]
async fn a_reset_is_passed_on_as_a_reset() {
    let (app, mut told) = listening().await;
    let mut stage = plain_with(&app).await;
    let client = connect(&stage).await;
    stage.until(1, |release| release.tunnels == 1).await;
    rustix::net::sockopt::set_socket_linger(&client, Some(Duration::ZERO)).expect("set");
    drop(client);
    assert_eq!(soon(told.recv()).await.expect("told"), Err(ErrorKind::ConnectionReset));
    stage.until(1, |release| release.in_flight == 0).await;

    let rude = App::raw(|stream| async move {
        rustix::net::sockopt::set_socket_linger(&stream, Some(Duration::ZERO)).expect("set");
    })
    .await;
    stage.flip(2, &[&rude]).await;
    assert!(is_refused(&stage).await);
}

#[tokio::test]
async fn an_answer_reaches_the_client_though_the_application_did_not_read_all() {
    let rude = App::raw(|mut stream| async move {
        stream.read_exact(&mut [0; 4]).await.expect("the start");
        // Closed with bytes unread, so behind the answer comes a reset.
        let _ = stream.write_all(&[9; 20_000]).await;
    })
    .await;
    let stage = plain_with(&rude).await;
    for _ in 0..20 {
        let mut client = connect(&stage).await;
        client.write_all(&[1; 64]).await.expect("sent");
        let mut heard = Vec::new();
        let mut block = [0; 4096];
        while let Ok(n) = soon(client.read(&mut block)).await
            && n > 0
        {
            heard.extend_from_slice(&block[..n]);
        }
        assert!(heard.iter().all(|byte| *byte == 9));
        assert_eq!(heard.len(), 20_000);
    }
}

#[tokio::test]
async fn http_and_tcp_are_served_side_by_side() {
    let (http, tcp) = (App::saying("page").await, greeting(3).await);
    let mut stage = Stage::with(&http).await;
    let socket = std::net::TcpListener::bind("127.0.0.1:0").expect("bound");
    let mut route = stage.table.routes[0].clone();
    let addr = socket.local_addr().expect("an address");
    route.listener.addr = addr.into();
    route.protocol = Protocol::Tcp;
    route.port = teal_model::wire::RoutePort::Inside(5432);
    stage.entry().releases[0].backends[0].addrs.insert(route.port, tcp.addr);
    stage.table.routes.push(route.clone());
    stage.publish().await;
    stage.agent.listen(route.listener.clone(), &socket).await.expect("sent");

    let mut page = stage.client().await;
    let mut stream = TcpStream::connect(addr).await.expect("connected");
    assert_eq!(read(&mut stream, 1).await, [3]);
    assert_eq!(page.get("/").await.text(), "page");
    let release = stage.until(1, |release| release.counters.answered[1] == 1).await;
    assert_eq!((release.counters.requests, release.in_flight, release.tunnels), (1, 1, 1));
    assert_eq!(release.tcp, TcpCounters { connections: 1, open: 1, ..TcpCounters::default() });
}

#[tokio::test]
async fn a_listener_may_change_what_it_speaks_and_connections_end_as_they_began() {
    // Speaks HTTP to either; the proxy does or does not.
    let app = App::answering(|request| common::ok(request.field("x-forwarded-for").unwrap_or("nobody"))).await;
    let mut stage = Stage::with(&app).await;
    let mut as_http = stage.client().await;
    assert_eq!(as_http.get("/").await.text(), "127.0.0.1");

    stage.table.routes[0].protocol = Protocol::Tcp;
    stage.publish().await;
    let mut as_tcp = stage.client().await;
    assert_eq!(as_tcp.get("/").await.text(), "nobody");
    assert_eq!(as_http.get("/").await.text(), "127.0.0.1");

    stage.table.routes[0].protocol = Protocol::Http;
    stage.publish().await;
    assert_eq!(as_tcp.get("/").await.text(), "nobody");
    assert_eq!(as_http.get("/").await.text(), "127.0.0.1");
    assert_eq!(stage.client().await.get("/").await.text(), "127.0.0.1");
    assert_eq!(stage.release(1).await.tcp.connections, 1);
}

#[tokio::test]
async fn a_backend_whose_process_has_ended_gets_no_connection() {
    let (one, two) = (greeting(1).await, greeting(2).await);
    let mut stage = plain(1).await;
    let mut child = std::process::Command::new("sleep").arg("60").spawn().expect("started");
    let pid = rustix::process::Pid::from_child(&child);
    let pidfd = rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()).expect("a pidfd");
    let id = release_entry(1, &[&one]).backends.remove(0).id;
    let watch = FromAgent::Processes { backends: vec![id.clone()] };
    stage.agent.send(&watch, &[pidfd.as_fd()]).await.expect("sent");
    stage.flip(1, &[&one, &two]).await;
    child.kill().expect("killed");
    let gone = |m: &FromProxy| matches!(m, FromProxy::BackendGone { .. }).then_some(());
    stage.agent.wait_for(gone).await.expect("told");
    for _ in 0..6 {
        assert_eq!(read(&mut connect(&stage).await, 1).await, [2]);
    }
    child.wait().expect("reaped");
}

#[tokio::test]
async fn a_shutdown_lets_connections_end_within_its_time() {
    let app = greeting(1).await;
    let mut stage = plain_with(&app).await;
    let mut client = connect(&stage).await;
    assert_eq!(read(&mut client, 1).await, [1]);
    stage.agent.send(&FromAgent::Shutdown { within_ms: 20_000 }, &[]).await.expect("sent");
    assert_eq!(stage.agent.statistics().await.expect("still there").releases[0].release, release(1));
    client.write_all(b"x").await.expect("sent");
    assert_eq!(read(&mut client, 1).await, b"x");
    drop(client);
    let Stage { proxy, .. } = stage;
    let ended = tokio::task::spawn_blocking(move || proxy.join());
    soon(ended).await.expect("joined").expect("an orderly end");
}
