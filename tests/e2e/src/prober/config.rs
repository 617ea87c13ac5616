//! What a prober does: which clients it plays, how fast, and what it expects to hear.

use std::net::SocketAddr;
use std::time::Duration;

/// A whole run.
#[derive(Debug, Clone)]
pub struct Config {
    pub target: SocketAddr,
    /// The `Host` header.
    pub host: String,
    /// Further headers of every request.
    pub headers: Vec<(String, String)>,
    pub clients: Vec<Clients>,
    pub websockets: Vec<WebSockets>,
    /// From the moment a request should have been sent until its last byte; beyond it the request failed.
    pub timeout: Duration,
    /// The clients are spread over this many threads.
    pub threads: usize,
    /// The processors that the threads are pinned to, in turn; empty: the scheduler chooses.
    pub cpus: Vec<usize>,
    pub seed: u64,
    /// Put before every `X-Request-Id`, so that the requests of two probers can be told apart.
    pub tag: String,
    /// Records beyond it are counted but not kept (24 bytes each).
    pub keep_records: usize,
}

/// Clients of one kind, each with one keep-alive connection and one request at a time.
#[derive(Debug, Clone)]
pub struct Clients {
    pub connections: usize,
    pub pace: Pace,
    pub get_path: String,
    /// A `GET`'s body must begin with this; empty: any body will do.
    pub get_starts_with: Vec<u8>,
    /// Of all requests, 0 to 1.
    pub post_share: f64,
    pub post_path: String,
    pub post_bytes: usize,
    /// The answer to a `POST` must be the body that was sent.
    pub post_echoes: bool,
    /// Of the rest, 0 to 1: requests that the app takes its time for, evenly between 0 and `slow_max`.
    pub slow_share: f64,
    /// The number of milliseconds is appended.
    pub slow_path: String,
    pub slow_max: Duration,
}

/// When a client sends its next request.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Pace {
    /// At once, when the answer is there.
    Closed,
    /// This long after the answer.
    Think(Duration),
    /// On a schedule that does not care for answers: what cannot be sent in time is sent late, and its latency counts
    /// from when it was due.
    Every(Duration),
    /// A random time after the answer, evenly within `spread` of `around`: for the moment an idle connection is closed.
    Gap { around: Duration, spread: Duration },
}

/// WebSocket clients that send a message, and want to hear the same.
#[derive(Debug, Clone)]
pub struct WebSockets {
    pub connections: usize,
    /// From an echo to the next message.
    pub every: Duration,
    pub path: String,
    pub bytes: usize,
}

impl Config {
    pub fn new(target: SocketAddr) -> Self {
        Self {
            target,
            host: target.to_string(),
            headers: Vec::new(),
            clients: Vec::new(),
            websockets: Vec::new(),
            timeout: Duration::from_secs(10),
            threads: 1,
            cpus: Vec::new(),
            seed: 1,
            tag: String::new(),
            keep_records: 20_000_000,
        }
    }

    #[must_use]
    pub fn with(mut self, clients: Clients) -> Self {
        self.clients.push(clients);
        self
    }

    #[must_use]
    pub fn with_websockets(mut self, connections: usize, every: Duration) -> Self {
        self.websockets.push(WebSockets { connections, every, path: "/ws".to_owned(), bytes: 64 });
        self
    }
}

impl Clients {
    /// `GET /` alone, in a closed loop.
    pub fn steady(connections: usize) -> Self {
        Self {
            connections,
            pace: Pace::Closed,
            get_path: "/".to_owned(),
            get_starts_with: Vec::new(),
            post_share: 0.0,
            post_path: "/echo".to_owned(),
            post_bytes: 256,
            post_echoes: true,
            slow_share: 0.0,
            slow_path: "/slow?ms=".to_owned(),
            slow_max: Duration::from_secs(2),
        }
    }

    /// The mix that deployments are judged by: a fifth of it POSTs, and one request in 200 slow.
    pub fn mixed(connections: usize) -> Self {
        Self { post_share: 0.2, slow_share: 0.005, ..Self::steady(connections) }
    }

    /// POSTs alone, each sent about when the app's keep-alive time for the idle connection ends.
    pub fn gaps(connections: usize, around: Duration, spread: Duration) -> Self {
        Self { post_share: 1.0, pace: Pace::Gap { around, spread }, ..Self::steady(connections) }
    }

    #[must_use]
    pub fn pace(mut self, pace: Pace) -> Self {
        self.pace = pace;
        self
    }

    /// `GET` on this path only.
    #[must_use]
    pub fn path(mut self, path: &str) -> Self {
        path.clone_into(&mut self.get_path);
        self
    }
}

impl Pace {
    /// An open loop with this many requests a second and client.
    pub fn per_second(requests: f64) -> Self {
        Self::Every(Duration::from_secs_f64(1.0 / requests))
    }
}
