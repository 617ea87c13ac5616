//! What Teal needs of the thing that carries requests: open ports, one table at a time, exact counts.

pub mod builtin;
pub mod fake;
mod firewall;
mod listeners;
pub mod shared;
mod socket;
mod unix;

use async_trait::async_trait;
use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;
use teal_model::deployment::Published;
use teal_model::fault::Fault;
use teal_model::ids::TableNumber;
use teal_model::wire::{BackendId, ListenerKey, RouteTable, Statistics};
use tokio::sync::{broadcast, watch};

/// A table, and the pidfd of every backend that it names: the proxy drops a backend by itself when its process ends.
#[derive(Clone)]
pub struct Publication {
    pub table: Arc<RouteTable>,
    pub processes: Vec<(BackendId, Arc<OwnedFd>)>,
}

/// An address to be opened.
#[derive(Debug, Clone)]
pub struct Opening {
    pub listener: ListenerKey,
    /// The network namespace to open it in; None: the host's.
    pub namespace: Option<Arc<OwnedFd>>,
    /// False: it is only reserved, so that nobody else takes it. Connections wait in its queue until it is served.
    pub served: bool,
    /// The name of a process of this host whose listening socket there is copied, if it has one.
    pub take_from: Option<String>,
}

impl Opening {
    /// In the host's namespace.
    pub fn host(listener: ListenerKey, served: bool) -> Self {
        Self { listener, namespace: None, served, take_from: None }
    }
}

/// How the proxy is.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ProxyState {
    pub pid: Option<u32>,
    pub instance: Option<String>,
    /// The table that every worker routes by.
    pub acknowledged: Option<TableNumber>,
    /// Starts of a proxy process that followed a crash, by this agent.
    pub crashes: u64,
    /// Three crashes within ten seconds: the table may be what kills it.
    pub crash_loop: bool,
}

/// Whoever counts requests.
#[async_trait]
pub trait Counts: Send + Sync + 'static {
    /// Statistics read now; of a proxy, after every worker has acknowledged the newest table. None: unknown.
    async fn ask(&self) -> Option<Arc<Statistics>>;
    /// Why it is unknown.
    fn unknown(&self) -> String {
        "the proxy gave no statistics".to_owned()
    }
    /// Every message of statistics, asked for or not: each tells of the gaps since the one before.
    fn statistics(&self) -> broadcast::Receiver<Arc<Statistics>>;
}

#[async_trait]
pub trait Traffic: Counts {
    /// Binds what is not bound yet: all of them or none. One that was only reserved is served when it is asked for so.
    async fn bind(&self, openings: &[Opening]) -> Result<(), Fault>;
    /// As [`Traffic::bind`], without binding: what it would be refused for.
    async fn cannot_bind(&self, listeners: &[ListenerKey]) -> Result<(), Fault>;
    /// Closes every listener that is not named.
    async fn retain(&self, listeners: &BTreeSet<ListenerKey>) -> Result<(), Fault>;
    /// Why new connections to these addresses, which Docker publishes, cannot be led to listeners of ours; None: they can.
    async fn cannot_divert(&self, listeners: &BTreeSet<ListenerKey>) -> Option<String>;
    /// New connections to each of these addresses go to the listener of ours behind it, whoever else takes them otherwise;
    /// those that are open stay where they are. Exactly these: other diversions of this agent are taken away.
    async fn divert(&self, diversions: &BTreeMap<ListenerKey, ListenerKey>) -> Result<(), Fault>;
    /// Sends a table. With `within`, waits for every worker's acknowledgement for at most that long.
    async fn publish(&self, publication: Publication, within: Option<Duration>) -> Result<Option<Published>, Fault>;
    fn state(&self) -> watch::Receiver<ProxyState>;
    /// Ends the proxy.
    async fn shutdown(&self, within: Duration) -> Result<(), Fault>;
}
