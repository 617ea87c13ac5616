//! What the tests share: a proxy with one service, applications that behave as told, and a client on a raw socket.
#![allow(dead_code, reason = "each test file uses its part")]

use std::collections::BTreeMap;
use std::future::Future;
use std::net::{SocketAddr, TcpListener as StdListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use teal_model::ids::{ReleaseKey, ServiceKey, TableNumber};
use teal_model::wire::{
    Backend, BackendId, Hold, ListenerKey, Protocol, ReleaseEntry, ReleaseStatistics, Route, RoutePort, RouteTable,
    ServiceEntry, ServiceStatistics, Share, Timeouts,
};
use teal_proxy::harness::{Agent, Proxy};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// The port of every route and backend that a test does not change.
pub const PORT: RoutePort = RoutePort::Published(80);
pub const DEADLINE: Duration = Duration::from_secs(20);

pub fn service() -> ServiceKey {
    ServiceKey::new("shop", "web")
}

pub fn release(number: u64) -> ReleaseKey {
    ReleaseKey::new(service(), number)
}

/// A proxy that serves `shop/web` on one address.
pub struct Stage {
    pub proxy: Proxy,
    pub agent: Agent,
    pub addr: SocketAddr,
    pub socket: StdListener,
    pub table: RouteTable,
}

impl Stage {
    pub async fn new(workers: usize) -> Self {
        let proxy = Proxy::start(workers).expect("the proxy starts");
        let mut agent = proxy.connect().await.expect("connected");
        let socket = StdListener::bind("127.0.0.1:0").expect("bound");
        let addr = socket.local_addr().expect("an address");
        let key = ListenerKey::host(addr);
        agent.listen(key.clone(), &socket).await.expect("sent");
        let route = Route {
            listener: key,
            host: None,
            path: "/".into(),
            service: service(),
            port: PORT,
            protocol: Protocol::Http,
        };
        let hold = Hold { for_ms: 10_000, max_waiting: 100 };
        let entry = ServiceEntry { hold, ..ServiceEntry::default() };
        let table = RouteTable {
            number: TableNumber { epoch: 1, n: 0 },
            routes: vec![route],
            services: BTreeMap::from([(service(), entry)]),
            trusted_proxies: Vec::new(),
        };
        Self { proxy, agent, addr, socket, table }
    }

    /// One worker and one release with one backend.
    pub async fn with(app: &App) -> Self {
        let mut stage = Self::new(1).await;
        stage.flip(1, &[app]).await;
        stage
    }

    pub fn entry(&mut self) -> &mut ServiceEntry {
        self.table.services.get_mut(&service()).expect("the service")
    }

    /// Gives all requests to a release with these backends, and keeps the others listed.
    pub async fn flip(&mut self, number: u64, apps: &[&App]) {
        let entry = self.entry();
        entry.split = vec![Share { release: release(number), weight: 1 }];
        entry.releases.retain(|listed| listed.release != release(number));
        entry.releases.push(release_entry(number, apps));
        self.publish().await;
    }

    /// Each release: number, weight, applications. Those without a weight are listed and have no share.
    pub async fn split(&mut self, releases: &[(u64, u32, &[&App])]) {
        let entry = self.entry();
        entry.releases = releases.iter().map(|(number, _, apps)| release_entry(*number, apps)).collect();
        let share = |(number, weight, _): &(u64, u32, _)| Share { release: release(*number), weight: *weight };
        entry.split = releases.iter().map(share).filter(|share| share.weight > 0).collect();
        self.publish().await;
    }

    /// The table as it is now, under the next number.
    pub async fn publish(&mut self) {
        self.table.number.n += 1;
        self.agent.publish(&self.table).await.expect("answered").expect("acknowledged");
    }

    pub async fn release(&mut self, number: u64) -> ReleaseStatistics {
        let statistics = self.agent.statistics().await.expect("statistics");
        let found = statistics.releases.into_iter().find(|one| one.release == release(number));
        found.expect("the release")
    }

    pub async fn service(&mut self) -> ServiceStatistics {
        let statistics = self.agent.statistics().await.expect("statistics");
        statistics.services.into_iter().find(|one| one.service == service()).expect("the service")
    }

    /// Asks until the release's statistics satisfy `good`.
    pub async fn until(&mut self, number: u64, good: impl Fn(&ReleaseStatistics) -> bool) -> ReleaseStatistics {
        let asking = async {
            loop {
                let statistics = self.release(number).await;
                if good(&statistics) {
                    return statistics;
                }
            }
        };
        tokio::time::timeout(DEADLINE, asking).await.expect("in time")
    }

    pub async fn until_held(&mut self, held: u64) {
        let asking = async { while self.service().await.held != held {} };
        tokio::time::timeout(DEADLINE, asking).await.expect("in time");
    }

    pub async fn client(&self) -> Client {
        Client::connect(self.addr).await
    }
}

pub fn release_entry(number: u64, apps: &[&App]) -> ReleaseEntry {
    let backend = |app: &&App| Backend {
        id: BackendId(format!("{}:{}", number, app.addr)),
        addrs: BTreeMap::from([(PORT, app.addr)]),
    };
    ReleaseEntry { release: release(number), backends: apps.iter().map(backend).collect(), close_tunnels: false }
}

pub fn timeouts(connect_ms: u64, response_ms: u64) -> Timeouts {
    Timeouts { connect_ms, response_ms }
}

/// An application: every connection is given to a function.
pub struct App {
    pub addr: SocketAddr,
    connections: Arc<AtomicUsize>,
    task: tokio::task::JoinHandle<()>,
}

impl App {
    pub async fn raw<F, R>(serve: F) -> Self
    where
        F: Fn(TcpStream) -> R + Send + Sync + 'static,
        R: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
        let addr = listener.local_addr().expect("an address");
        let connections = Arc::new(AtomicUsize::new(0));
        let count = connections.clone();
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                count.fetch_add(1, Ordering::Relaxed);
                let _ = stream.set_nodelay(true);
                tokio::spawn(serve(stream));
            }
        });
        Self { addr, connections, task }
    }

    /// Answers every request with what `answer` says of it, on connections that stay.
    pub async fn answering(answer: impl Fn(&Message) -> String + Send + Sync + 'static) -> Self {
        let answer = Arc::new(answer);
        Self::raw(move |stream| {
            let answer = answer.clone();
            async move {
                let mut peer = Client::over(stream);
                while let Some(request) = peer.receive(Kind::Request).await {
                    peer.send(&answer(&request)).await;
                }
            }
        })
        .await
    }

    /// Answers 200 with this text.
    pub async fn saying(text: &'static str) -> Self {
        Self::answering(move |_| ok(text)).await
    }

    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }

    /// Takes no more connections.
    pub fn stop(&self) {
        self.task.abort();
    }
}

pub fn ok(text: &str) -> String {
    format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{text}", text.len())
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Request,
    Response,
    /// To HEAD: no body, whatever the fields say.
    Bodiless,
}

/// A message as it was on the wire.
#[derive(Debug, Clone)]
pub struct Message {
    pub head: String,
    pub body: Vec<u8>,
    /// The body's chunks were followed by these.
    pub trailers: String,
}

impl Message {
    pub fn start(&self) -> &str {
        self.head.lines().next().unwrap_or_default()
    }

    pub fn status(&self) -> u16 {
        self.start().split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status")
    }

    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("text")
    }

    pub fn field(&self, name: &str) -> Option<&str> {
        self.head.lines().skip(1).find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }
}

/// One end of a connection that speaks HTTP by hand.
pub struct Client {
    pub stream: TcpStream,
    pub unread: Vec<u8>,
}

impl Client {
    pub async fn connect(addr: SocketAddr) -> Self {
        let stream = TcpStream::connect(addr).await.expect("connected");
        stream.set_nodelay(true).expect("nodelay");
        Self::over(stream)
    }

    pub fn over(stream: TcpStream) -> Self {
        Self { stream, unread: Vec::new() }
    }

    pub async fn send(&mut self, text: &str) {
        // A peer that is gone shows when it is read from.
        let _ = self.stream.write_all(text.as_bytes()).await;
    }

    pub async fn get(&mut self, path: &str) -> Message {
        self.send(&format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n")).await;
        self.answer().await
    }

    /// `fields`: each with its line end.
    pub async fn get_with(&mut self, path: &str, fields: &str) -> Message {
        self.send(&format!("GET {path} HTTP/1.1\r\nHost: a\r\n{fields}\r\n")).await;
        self.answer().await
    }

    pub async fn post(&mut self, body: &str) -> Message {
        self.send(&format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n{body}", body.len())).await;
        self.answer().await
    }

    pub async fn answer(&mut self) -> Message {
        self.receive(Kind::Response).await.expect("an answer")
    }

    async fn more(&mut self) -> bool {
        let reading = self.stream.read_buf(&mut self.unread);
        matches!(tokio::time::timeout(DEADLINE, reading).await.expect("in time"), Ok(n) if n > 0)
    }

    async fn line(&mut self) -> Option<String> {
        loop {
            if let Some(end) = self.unread.windows(2).position(|two| two == b"\r\n") {
                let line: Vec<u8> = self.unread.drain(..end + 2).collect();
                return Some(String::from_utf8(line[..end].to_vec()).expect("text"));
            }
            if !self.more().await {
                return None;
            }
        }
    }

    pub async fn exactly(&mut self, n: usize) -> Option<Vec<u8>> {
        while self.unread.len() < n {
            if !self.more().await {
                return None;
            }
        }
        Some(self.unread.drain(..n).collect())
    }

    /// Everything until the end; None when it ends with an error.
    pub async fn rest(&mut self) -> Vec<u8> {
        while self.more().await {}
        std::mem::take(&mut self.unread)
    }

    /// A head and nothing behind it.
    pub async fn head(&mut self) -> Option<String> {
        let mut head = String::new();
        loop {
            let line = self.line().await?;
            if line.is_empty() && !head.is_empty() {
                return Some(head);
            }
            if !line.is_empty() {
                head += &line;
                head += "\r\n";
            }
        }
    }

    /// The next message; None when the connection ends before it is whole.
    pub async fn receive(&mut self, kind: Kind) -> Option<Message> {
        let head = self.head().await?;
        let mut message = Message { head, body: Vec::new(), trailers: String::new() };
        if kind == Kind::Bodiless {
            return Some(message);
        }
        if message.field("transfer-encoding").is_some() {
            loop {
                let size = usize::from_str_radix(self.line().await?.split(';').next()?, 16).expect("a chunk size");
                if size == 0 {
                    break;
                }
                message.body.extend(self.exactly(size).await?);
                assert_eq!(self.exactly(2).await?, b"\r\n");
            }
            loop {
                match self.line().await? {
                    line if line.is_empty() => break,
                    line => message.trailers += &(line + "\r\n"),
                }
            }
        } else if let Some(length) = message.field("content-length") {
            message.body = self.exactly(length.parse().expect("a length")).await?;
        } else if kind == Kind::Response && !matches!(message.status(), 100..=199 | 204 | 304) {
            message.body = self.rest().await;
        }
        Some(message)
    }

    /// Whether the peer has ended its side, without anything before.
    pub async fn is_closed(&mut self) -> bool {
        self.unread.is_empty() && !self.more().await
    }
}
