//! The messages between agent and proxy, and the route table that they carry.
//!
//! ```text
//! agent ──(connects to run/proxy.sock)──▶ proxy
//!        ◀── Hello + every listening socket
//!        ──▶ Welcome
//!        ──▶ Processes (+ pidfds), Table, Listeners (+ sockets)
//!        ◀── Acknowledged, Ready, Statistics every 100 ms, BackendGone
//! ```
//!
//! Framing: a stream socket carries frames of `u32 length, u32 descriptors, JSON` (both numbers little-endian). Descriptors
//! travel as SCM_RIGHTS beside the bytes, at most [`MAX_DESCRIPTORS`] a frame (the kernel takes 253 a message), and belong
//! to the frame in the order in which they arrive.

mod address;
mod latency;
mod port;

pub use address::{Address, UnixSocket};
pub use latency::Latency;
pub use port::{NotAPort, RoutePort};

use crate::ids::{ReleaseKey, ServiceKey, TableNumber};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;

/// The protocol versions that this build speaks. 2: ports are text ([`RoutePort`]), routes may be plain TCP. 3: a
/// listener may be a socket with a path ([`Address`]). 4: sticky shares, previews, the skew guard.
pub const PROTOCOL: ProtocolRange = ProtocolRange { min: 4, max: 4 };
/// Descriptors in one frame; longer lists are sent as several frames.
pub const MAX_DESCRIPTORS: usize = 200;
/// Bytes in one frame; a longer one is a protocol error.
pub const MAX_FRAME: usize = 16 * 1024 * 1024;
/// How often the proxy sends [`FromProxy::Statistics`] unasked, in milliseconds.
pub const STATISTICS_EVERY_MS: u64 = 100;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProtocolRange {
    pub min: u32,
    pub max: u32,
}

impl ProtocolRange {
    /// The highest version that both sides speak.
    pub fn common(self, other: ProtocolRange) -> Option<u32> {
        let version = self.max.min(other.max);
        (version >= self.min && version >= other.min).then_some(version)
    }
}

/// A listening address. `namespace` names a network namespace other than the host's own, and then the listener is *inside*:
/// containers call it by the service's name. The proxy is transparent there: `X-Forwarded-*` and `Forwarded` are passed on
/// as the caller sent them, since without Teal the two would have talked directly.
///
/// The same address in two namespaces is two listeners. The name is the agent's choice; where it says which run of the
/// namespace it means (`shop/web@1700000000`), the namespace after a restart is another listener by itself, and where it
/// does not, [`FromAgent::Listeners`] replaces the socket.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ListenerKey {
    pub addr: Address,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
}

impl ListenerKey {
    /// In the host's own namespace.
    pub fn host(addr: impl Into<Address>) -> Self {
        Self { addr: addr.into(), namespace: None }
    }

    /// None: it is no port.
    pub fn tcp(&self) -> Option<SocketAddr> {
        match &self.addr {
            Address::Tcp(addr) => Some(*addr),
            Address::Unix(_) => None,
        }
    }
}

impl fmt::Display for ListenerKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.namespace {
            None => write!(f, "{}", self.addr),
            Some(namespace) => write!(f, "{}%{namespace}", self.addr),
        }
    }
}

/// The immutable numbered snapshot by which every request is routed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct RouteTable {
    pub number: TableNumber,
    pub routes: Vec<Route>,
    pub services: BTreeMap<ServiceKey, ServiceEntry>,
    /// Peers whose `X-Forwarded-*` and `Forwarded` are believed, as CIDR (`10.0.0.0/8`, `::1/128`).
    #[serde(default)]
    pub trusted_proxies: Vec<String>,
}

/// Which service answers on a listener. The longest matching path prefix of the best matching host wins:
/// an exact host before `*.example.com` before no host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Route {
    pub listener: ListenerKey,
    /// Lower case, without port; `*.example.com` matches one or more labels. None matches every host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// A path prefix that starts with `/` and matches whole segments: `/api` matches `/api` and `/api/x`, not `/apix`.
    pub path: String,
    pub service: ServiceKey,
    /// The key under which each backend says where it answers, so that two releases may differ there.
    pub port: RoutePort,
    #[serde(default, skip_serializing_if = "Protocol::is_http")]
    pub protocol: Protocol,
}

/// What is spoken on a listener: all its routes agree on it. A [`Protocol::Tcp`] listener has exactly one route, without
/// a host and with the path `/`. A connection ends as it began: by what its listener spoke when it was accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, Default)]
#[serde(rename_all = "snake_case")]
pub enum Protocol {
    #[default]
    Http,
    /// Bytes both ways, whatever they mean; a connection stays with the backend that it was given to.
    Tcp,
}

impl Protocol {
    pub fn is_http(&self) -> bool {
        *self == Protocol::Http
    }
}

/// Where the requests of one service go, and its TCP connections, which count as one request each here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct ServiceEntry {
    /// Shares of the requests. A release that is not listed, or has weight 0, gets none. Empty: requests are held.
    pub split: Vec<Share>,
    /// Requests wait here even though backends exist (recreate, pause).
    #[serde(default)]
    pub holding: bool,
    pub releases: Vec<ReleaseEntry>,
    pub hold: Hold,
    pub timeouts: Timeouts,
    /// None: each request is given to a release by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sticky: Option<Sticky>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preview: Option<Preview>,
    /// What asks for a preview is not passed on to the application, also while there is no [`ServiceEntry::preview`].
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub hides_preview: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub skew_guard: Option<SkewGuard>,
}

/// How a user keeps to one release. What tells users apart gives each of them a place in 0..1 (with [`Sticky::salt`], so that it
/// is not the same users each time); those below the first release's share get that one, and so on in the order of the split.
/// So a share that grows takes users along once, and none of those it has goes back. A user whose release has no backend that
/// takes connections is served by another one until it has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sticky {
    pub by: StickyBy,
    pub salt: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "by", rename_all = "snake_case")]
pub enum StickyBy {
    /// A cookie that the proxy sets where there is none that it has signed: HMAC-SHA256 by `key` (hex, 16 bytes or more).
    /// First requests that a browser sends at the same time may each get one, and the last stays.
    Cookie { name: String, key: String },
    /// A request without it goes by the weights.
    Header { name: String },
    /// The client's, as the forwarding fields of trusted proxies tell it. TCP connections too.
    Address,
}

/// Requests with `Teal-Preview: candidate`, as a field or a cookie, go to this release, whatever its share: from these networks, or
/// with `candidate TOKEN` (cookie: `candidate.TOKEN`). They are counted apart, and what asks for them is not passed on. They are served while
/// the service is holding, and get 503 at once where the release has no backend. The answer says `Teal-Preview: SERVICE@NUMBER`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Preview {
    pub release: ReleaseKey,
    /// CIDR. Only a client counts that no proxy can stand for: a peer that says nothing of earlier clients, or one that trusted proxies tell
    /// of and that is none of them; never a caller inside.
    pub networks: Vec<String>,
    /// Any of these.
    pub tokens: Vec<String>,
}

/// A GET or HEAD for a path under these prefixes that one of these releases answers with 404 is asked of the other, and that answer is
/// passed on unless it is 404 too.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SkewGuard {
    /// Whole segments, as [`Route::path`].
    pub prefixes: Vec<String>,
    pub releases: Vec<ReleaseKey>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Share {
    pub release: ReleaseKey,
    /// Relative to the sum of the weights of the split. As long as all of them stay the same, a split goes on over tables
    /// where it was, so that a share of one in 10,000 has its turn too.
    pub weight: u32,
}

/// How requests wait while a service has no backend; beyond either bound they get 503 with Retry-After.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hold {
    pub for_ms: u64,
    /// Requests that may wait at the same time, over all workers.
    pub max_waiting: u32,
}

impl Default for Hold {
    fn default() -> Self {
        Self { for_ms: 120_000, max_waiting: 10_000 }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Timeouts {
    /// TCP connect to a backend.
    pub connect_ms: u64,
    /// From the end of the request to the head of the answer; 0 waits for ever. Elapsed: 504.
    pub response_ms: u64,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self { connect_ms: 2_000, response_ms: 0 }
    }
}

/// A release that the proxy may be asked to send requests to. It may be listed without a share (retained, draining):
/// then its connections stay, and its in-flight count is still reported. A release that is no longer listed has its pooled
/// idle connections closed before the table is acknowledged.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReleaseEntry {
    pub release: ReleaseKey,
    pub backends: Vec<Backend>,
    /// Close the tunnels (WebSockets, TCP connections) that are left, with jitter: the drain time is over.
    #[serde(default)]
    pub close_tunnels: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Backend {
    /// One run of one container: another after a restart. Names the pidfd of [`FromAgent::Processes`].
    pub id: BackendId,
    /// [`Route::port`] -> where the proxy reaches it.
    pub addrs: BTreeMap<RoutePort, SocketAddr>,
}

/// `container id:start`, so that the same container after a restart is another backend.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct BackendId(pub String);

impl fmt::Display for BackendId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum FromAgent {
    /// Answer to Hello: the version both speak from here on.
    Welcome {
        protocol: u32,
        agent: String,
    },
    /// One pidfd a backend, in this order, sent before the first table that names the backend. The proxy drops the backend
    /// by itself in the moment the pidfd fires, whatever later tables say.
    Processes {
        backends: Vec<BackendId>,
    },
    Table(RouteTable),
    /// Sockets to serve from now on (one descriptor each, in the order of `add`), and to stop accepting on. `remove` is
    /// done first: a listener in both, here or in two messages, gets another socket. That is needed when the container
    /// whose namespace it is in has started again, since the socket before is dead for callers then. Connections that
    /// were accepted before stay, and are routed by the current table.
    /// `add` that is served already and not removed is a no-op (its descriptor is closed).
    Listeners {
        add: Vec<ListenerKey>,
        remove: Vec<ListenerKey>,
    },
    /// Send [`FromProxy::Statistics`] now, with this token.
    Ask {
        token: u64,
    },
    /// Stop accepting, let requests in flight end for at most this long, exit.
    Shutdown {
        within_ms: u64,
    },
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum FromProxy {
    /// First frame on every connection. Descriptors: one a listener, in order (continued in [`FromProxy::Sockets`] when
    /// there are more than [`MAX_DESCRIPTORS`]).
    Hello {
        protocol: ProtocolRange,
        /// Random for each process; counters are cumulative within one instance.
        instance: String,
        version: String,
        pid: u32,
        workers: u32,
        /// The table that is served by, whole: a reverted one outranks the journal.
        table: Option<RouteTable>,
        listeners: Vec<ListenerKey>,
    },
    /// The rest of Hello's sockets.
    Sockets {
        listeners: Vec<ListenerKey>,
    },
    /// Every worker routes by this table, and the pooled connections of releases it does not list are closed.
    Acknowledged {
        table: TableNumber,
        /// CLOCK_MONOTONIC microseconds when the last worker took it.
        at_us: u64,
    },
    /// Not taken, and why: a lower number than the one served by, or a table that contradicts itself.
    Refused {
        table: TableNumber,
        serving: Option<TableNumber>,
        why: String,
    },
    /// Table and listeners are there and being served; sent once, when both have arrived.
    Ready,
    /// A listener could not be served.
    ListenerFailed {
        listener: ListenerKey,
        why: String,
    },
    BackendGone {
        backend: BackendId,
        why: String,
    },
    Statistics(Statistics),
}

/// Cumulative since the start of the proxy instance, over all workers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Default)]
pub struct Statistics {
    /// Of [`FromAgent::Ask`]; None when sent on the tick.
    pub token: Option<u64>,
    pub instance: String,
    /// Counts the messages of this kind; a hole means that gaps (`longest_gap_us`) were lost.
    pub sequence: u64,
    /// The lowest table that any worker routes by.
    pub table: TableNumber,
    /// CLOCK_MONOTONIC, microseconds.
    pub at_us: u64,
    pub releases: Vec<ReleaseStatistics>,
    pub services: Vec<ServiceStatistics>,
    pub connections: Connections,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ReleaseStatistics {
    pub release: ReleaseKey,
    /// Exchanges (previews, tunnels and TCP connections included) that have claimed this release and have not ended.
    pub in_flight: u64,
    /// Of these, upgraded connections, and TCP connections that a backend has taken.
    pub tunnels: u64,
    pub counters: Counters,
    #[serde(default)]
    pub tcp: TcpCounters,
    /// Until the head of the answer; of answers below 500.
    pub latency: Latency,
    /// How long those have waited that wait for the head of an answer now. Not cumulative. At most 16 ms less than it is.
    #[serde(default)]
    pub waiting: Latency,
    /// Requests of previews, which are in none of the above but `in_flight`.
    #[serde(default)]
    pub preview: Counters,
    /// The newest requests that failed, or were answered 5xx, since the message before: at most [`MAX_SAMPLES`] a release.
    /// Only in messages on the tick, so that none is lost with an answer to [`FromAgent::Ask`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub samples: Vec<Sample>,
    pub backends: Vec<BackendStatistics>,
}

impl ReleaseStatistics {
    /// Nothing was counted yet.
    pub fn of(release: ReleaseKey) -> Self {
        Self {
            release,
            in_flight: 0,
            tunnels: 0,
            counters: Counters::default(),
            tcp: TcpCounters::default(),
            latency: Latency::default(),
            waiting: Latency::default(),
            preview: Counters::default(),
            samples: Vec::new(),
            backends: Vec::new(),
        }
    }
}

/// Who leaves after so long may have left for want of an answer; see [`Counters::gave_up`].
pub const GAVE_UP_AFTER_MS: u64 = 5_000;

/// Of [`ReleaseStatistics::samples`], in one message.
pub const MAX_SAMPLES: usize = 3;

/// A request that failed. No query, no header, no body.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sample {
    pub method: String,
    /// The path, cut after 200 bytes.
    pub path: String,
    /// None: no answer came, or it broke off.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    pub backend: BackendId,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BackendStatistics {
    pub backend: BackendId,
    pub in_flight: u64,
    /// Pooled connections without a request.
    pub idle: u64,
    pub ejected: bool,
}

/// What became of the connections to [`Protocol::Tcp`] listeners that claimed a release; none of them is a request in
/// [`Counters`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct TcpCounters {
    /// Given to this release: ended, failed or open.
    pub connections: u64,
    /// No backend took it, so it was reset. Those whose hold expired never had a release: [`ServiceStatistics::hold_expired`].
    pub failed: u64,
    /// Now; part of [`ReleaseStatistics::in_flight`].
    pub open: u64,
    /// Of those that ended: closed by the proxy, since the drain time of their release was over.
    #[serde(default)]
    pub closed: u64,
}

impl TcpCounters {
    /// Those that a backend took and that are over. It only grows, unlike `connections`, from which one goes that is tried elsewhere.
    pub fn ended(&self) -> u64 {
        self.connections.saturating_sub(self.failed + self.open)
    }
}

/// What became of the requests that claimed a release. `requests = answered + failed.* + client_aborts + in flight`, where
/// in flight is [`ReleaseStatistics::in_flight`] without [`TcpCounters::open`] and without the previews under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct Counters {
    pub requests: u64,
    /// Answers passed on whole, by class: [1xx (upgrades), 2xx, 3xx, 4xx, 5xx].
    pub answered: [u64; 5],
    pub failed: Failed,
    /// The client went away first; not a failure of the release.
    pub client_aborts: u64,
    /// Of these, those that had waited for the head of the answer for at least [`GAVE_UP_AFTER_MS`]: on this release, and since it
    /// had the whole request.
    #[serde(default)]
    pub gave_up: u64,
    /// First attempts that were sent again elsewhere; they count against the release of the first attempt.
    pub retries: u64,
}

/// Requests that ended in an error made by the proxy, or in a cut answer, by cause.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct Failed {
    /// No backend took the connection (502).
    pub connect: u64,
    /// The backend closed or reset before the head of an answer (502).
    pub reset: u64,
    /// The answer broke off after its head.
    pub cut: u64,
    /// `response_ms` elapsed (504).
    pub timeout: u64,
}

impl Failed {
    pub fn total(&self) -> u64 {
        self.connect + self.reset + self.cut + self.timeout
    }
}

/// What is known of a service before a release is chosen.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ServiceStatistics {
    pub service: ServiceKey,
    /// Requests and TCP connections waiting now.
    pub held: u64,
    /// Those that ever waited.
    pub held_total: u64,
    /// 503, or a reset: waited longer than `hold.for_ms`, or found the queue full.
    pub hold_expired: u64,
    /// TCP connections among `held_total` and `hold_expired`.
    #[serde(default)]
    pub tcp_held_total: u64,
    #[serde(default)]
    pub tcp_hold_expired: u64,
    /// Longest time without an answer while a request was waiting for one, of those gaps that ended (or, for the one still
    /// open, had lasted so far) since the message before; microseconds, 1 ms resolution. A TCP connection waits until a
    /// backend has taken it.
    pub longest_gap_us: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct Connections {
    pub open: u64,
    pub parked: u64,
    pub accepted: u64,
    /// Requests refused before routing, by status: framing and limits (400, 413, 431), no route (404), expectation.
    pub refused: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_arrives_as_it_was_sent() {
        let service = ServiceKey::new("shop", "web");
        let at = |port| SocketAddr::from(([10, 0, 0, 1], port));
        let addrs = BTreeMap::from([(RoutePort::Published(80), at(8080)), (RoutePort::Inside(8080), at(8080))]);
        let release = ReleaseEntry {
            release: ReleaseKey::new(service.clone(), 1),
            backends: vec![Backend { id: BackendId("a:1".into()), addrs }],
            close_tunnels: false,
        };
        let entry = ServiceEntry { releases: vec![release], ..ServiceEntry::default() };
        let route = |port, protocol| Route {
            listener: ListenerKey { addr: at(80).into(), namespace: Some("shop/web@1".into()) },
            host: None,
            path: "/".into(),
            service: service.clone(),
            port,
            protocol,
        };
        let routes =
            vec![route(RoutePort::Published(80), Protocol::Http), route(RoutePort::Inside(8080), Protocol::Tcp)];
        let services = BTreeMap::from([(service.clone(), entry)]);
        let table = RouteTable { routes, services, ..RouteTable::default() };
        let sent = serde_json::to_string(&FromAgent::Table(table.clone())).expect("written");
        assert_eq!(
            (sent.matches("\"tcp\"").count(), sent.matches("protocol").count()),
            (1, 1),
            "HTTP goes without saying"
        );
        assert_eq!(serde_json::from_str::<FromAgent>(&sent).expect("read"), FromAgent::Table(table));
    }

    #[test]
    fn versions_that_do_not_overlap_have_nothing_in_common() {
        let range = |min, max| ProtocolRange { min, max };
        assert_eq!(range(1, 3).common(range(2, 5)), Some(3));
        assert_eq!(range(1, 1).common(range(2, 5)), None);
    }
}
