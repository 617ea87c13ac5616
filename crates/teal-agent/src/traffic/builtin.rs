//! Teal's own proxy: its process, its socket, and the listening sockets that outlive it.
//!
//! ```text
//! BuiltinProxy ──commands──▶ Keeper (one task) ──Link──▶ proxy process
//!     ▲ statistics, state ◀──┘   └─ pidfd: its end is seen at once, another is started on the same sockets
//! ```

mod peer;

use super::firewall::Firewall;
use super::listeners::Listeners;
use super::{Counts, Opening, ProxyState, Publication, Traffic};
use crate::clock::monotonic_us;
use async_trait::async_trait;
pub use peer::recorded;
use peer::{Peer, end};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};
use teal_model::deployment::Published;
use teal_model::fault::{Code, Fault};
use teal_model::ids::TableNumber;
use teal_model::wire::{BackendId, FromAgent, FromProxy, ListenerKey, MAX_DESCRIPTORS, RouteTable, Statistics};
use tokio::sync::{broadcast, mpsc, oneshot, watch};
use tokio::time::timeout;

/// An answer to Ask.
const ASK_WITHIN: Duration = Duration::from_secs(1);
const CRASH_WINDOW: Duration = Duration::from_secs(10);
const CRASHES: usize = 3;
/// Messages that a slow reader may be behind before it has missed some.
const STATISTICS_KEPT: usize = 256;

#[derive(Debug, Clone)]
pub struct ProxyOptions {
    /// The program to run as `PROGRAM proxy --control-fd 0`.
    pub program: PathBuf,
    /// The agent's end connects here; the proxy is given the listening end.
    pub socket: PathBuf,
    pub log: PathBuf,
    /// Unprivileged user and group ids, when the agent is root.
    pub user: Option<(u32, u32)>,
    pub workers: Option<u32>,
    pub agent: String,
}

enum Command {
    Bind(Vec<Opening>, oneshot::Sender<Result<(), Fault>>),
    CannotBind(Vec<ListenerKey>, oneshot::Sender<Result<(), Fault>>),
    Retain(BTreeSet<ListenerKey>, oneshot::Sender<()>),
    Publish(Publication, Option<oneshot::Sender<Result<Published, Fault>>>),
    Ask(oneshot::Sender<Arc<Statistics>>),
    Shutdown(Duration, oneshot::Sender<()>),
}

pub struct BuiltinProxy {
    commands: mpsc::Sender<Command>,
    statistics: broadcast::Sender<Arc<Statistics>>,
    state: watch::Receiver<ProxyState>,
    firewall: Firewall,
}

impl BuiltinProxy {
    /// Finds the proxy that runs, or starts one. The second value is the table that a running one serves by.
    pub async fn open(options: ProxyOptions) -> Result<(Self, Option<RouteTable>), Fault> {
        let firewall = Firewall::new(&options.agent);
        let (commands, inbox) = mpsc::channel(64);
        let (statistics, _) = broadcast::channel(STATISTICS_KEPT);
        let (state_to, state) = watch::channel(ProxyState::default());
        let mut keeper = Keeper {
            options,
            inbox,
            statistics: statistics.clone(),
            state: state_to,
            listeners: Listeners::default(),
            publication: None,
            sent_processes: HashSet::new(),
            sent_us: 0,
            waiting: Vec::new(),
            asked: HashMap::new(),
            next_token: 0,
            crashes: VecDeque::new(),
        };
        let found = keeper.find().await;
        let (peer, table) = match found {
            Some((peer, table)) => (peer, table),
            None => (keeper.start().await?, None),
        };
        tokio::spawn(keeper.run(peer));
        Ok((Self { commands, statistics, state, firewall }, table))
    }

    async fn command(&self, command: Command) -> Result<(), Fault> {
        self.commands.send(command).await.map_err(|_| gone())
    }
}

fn silent(number: TableNumber, within: Duration) -> Fault {
    let what = format!("table {number} was not acknowledged by every worker within {} s", within.as_secs());
    Fault::new(Code::ProxyDown, what)
}

fn gone() -> Fault {
    Fault::new(Code::ProxyDown, "the proxy was shut down")
}

#[async_trait]
impl Counts for BuiltinProxy {
    async fn ask(&self) -> Option<Arc<Statistics>> {
        let (reply, answer) = oneshot::channel();
        let asked = async {
            self.command(Command::Ask(reply)).await.ok()?;
            answer.await.ok()
        };
        timeout(ASK_WITHIN, asked).await.ok()?
    }

    fn statistics(&self) -> broadcast::Receiver<Arc<Statistics>> {
        self.statistics.subscribe()
    }
}

#[async_trait]
impl Traffic for BuiltinProxy {
    async fn bind(&self, openings: &[Opening]) -> Result<(), Fault> {
        let (reply, answer) = oneshot::channel();
        self.command(Command::Bind(openings.to_vec(), reply)).await?;
        answer.await.map_err(|_| gone())?
    }

    async fn cannot_bind(&self, listeners: &[ListenerKey]) -> Result<(), Fault> {
        let (reply, answer) = oneshot::channel();
        self.command(Command::CannotBind(listeners.to_vec(), reply)).await?;
        answer.await.map_err(|_| gone())?
    }

    async fn retain(&self, listeners: &BTreeSet<ListenerKey>) -> Result<(), Fault> {
        let (reply, answer) = oneshot::channel();
        self.command(Command::Retain(listeners.clone(), reply)).await?;
        answer.await.map_err(|_| gone())
    }

    async fn cannot_divert(&self, listeners: &BTreeSet<ListenerKey>) -> Option<String> {
        self.firewall.cannot(listeners).await
    }

    async fn divert(&self, diversions: &BTreeMap<ListenerKey, ListenerKey>) -> Result<(), Fault> {
        self.firewall.ensure(diversions).await
    }

    async fn publish(&self, publication: Publication, within: Option<Duration>) -> Result<Option<Published>, Fault> {
        let number = publication.table.number;
        let Some(within) = within else {
            let send = self.command(Command::Publish(publication, None));
            return timeout(ASK_WITHIN, send).await.map_err(|_| silent(number, ASK_WITHIN))?.map(|()| None);
        };
        let (reply, answer) = oneshot::channel();
        let published = async {
            self.command(Command::Publish(publication, Some(reply))).await?;
            answer.await.map_err(|_| gone())?
        };
        timeout(within, published).await.map_err(|_| silent(number, within))?.map(Some)
    }

    fn state(&self) -> watch::Receiver<ProxyState> {
        self.state.clone()
    }

    async fn shutdown(&self, within: Duration) -> Result<(), Fault> {
        // Nobody listens any more where they lead.
        if let Err(fault) = self.firewall.ensure(&BTreeMap::new()).await {
            tracing::warn!(%fault, "firewall rules may be left over");
        }
        let (reply, answer) = oneshot::channel();
        self.command(Command::Shutdown(within, reply)).await?;
        answer.await.map_err(|_| gone())
    }
}

/// What ended a conversation with a proxy.
enum Ended {
    /// Its process is gone.
    Process,
    /// Its process may be there, the link is not.
    Link(String),
    /// Nobody needs it any more.
    Shutdown,
}

struct Keeper {
    options: ProxyOptions,
    inbox: mpsc::Receiver<Command>,
    statistics: broadcast::Sender<Arc<Statistics>>,
    state: watch::Sender<ProxyState>,
    listeners: Listeners,
    publication: Option<Publication>,
    sent_processes: HashSet<BackendId>,
    sent_us: u64,
    waiting: Vec<(TableNumber, oneshot::Sender<Result<Published, Fault>>)>,
    asked: HashMap<u64, oneshot::Sender<Arc<Statistics>>>,
    next_token: u64,
    crashes: VecDeque<Instant>,
}

impl Keeper {
    async fn run(mut self, mut peer: Peer) {
        loop {
            let ended = match self.furnish(&mut peer).await {
                Ok(()) => self.converse(&mut peer).await,
                Err(why) => Ended::Link(why),
            };
            self.asked.clear();
            match ended {
                Ended::Shutdown => return,
                Ended::Process => {
                    tracing::error!(pid = peer.pid, "the proxy ended by itself: another is started on its sockets")
                }
                Ended::Link(why) => {
                    tracing::warn!(pid = peer.pid, why, "the link to the proxy broke");
                    if let Some((again, _)) = self.find().await {
                        peer = again;
                        continue;
                    }
                    // Never two proxies with two tables.
                    end(&peer.process).await;
                }
            }
            self.note_crash();
            peer = self.start_until_it_runs().await;
        }
    }

    async fn start_until_it_runs(&mut self) -> Peer {
        let mut pause = Duration::from_millis(20);
        loop {
            match self.start().await {
                Ok(peer) => return peer,
                Err(fault) => tracing::error!(%fault, "the proxy did not start; trying again"),
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(Duration::from_secs(5));
        }
    }

    fn note_crash(&mut self) {
        let now = Instant::now();
        self.crashes.push_back(now);
        self.crashes.retain(|at| now.duration_since(*at) < CRASH_WINDOW);
        let looping = self.crashes.len() >= CRASHES;
        self.state.send_modify(|state| {
            state.pid = None;
            state.acknowledged = None;
            state.crashes += 1;
            state.crash_loop = looping;
        });
    }

    /// What a new proxy needs before it may serve: the table, then the listeners.
    async fn furnish(&mut self, peer: &mut Peer) -> Result<(), String> {
        if let Some(publication) = self.publication.clone() {
            self.send_table(peer, &publication).await?;
        }
        let keys = self.listeners.served();
        self.send_listeners(peer, &keys, Vec::new()).await
    }

    async fn send_table(&mut self, peer: &mut Peer, publication: &Publication) -> Result<(), String> {
        let new: Vec<_> = publication.processes.iter().filter(|(id, _)| !self.sent_processes.contains(id)).collect();
        for some in new.chunks(MAX_DESCRIPTORS) {
            let backends = some.iter().map(|(id, _)| id.clone()).collect();
            let descriptors: Vec<_> = some.iter().map(|(_, fd)| fd.as_fd()).collect();
            peer.sender
                .send(&FromAgent::Processes { backends }, &descriptors)
                .await
                .map_err(|error| error.to_string())?;
        }
        self.sent_processes = publication.processes.iter().map(|(id, _)| id.clone()).collect();
        self.sent_us = monotonic_us();
        peer.sender.send(&FromAgent::Table((*publication.table).clone()), &[]).await.map_err(|error| error.to_string())
    }

    async fn send_listeners(
        &mut self,
        peer: &mut Peer,
        add: &[ListenerKey],
        remove: Vec<ListenerKey>,
    ) -> Result<(), String> {
        let mut remove = Some(remove);
        let chunks: Vec<&[ListenerKey]> =
            if add.is_empty() { vec![add] } else { add.chunks(MAX_DESCRIPTORS).collect() };
        for some in chunks {
            let descriptors: Vec<_> = some.iter().filter_map(|key| self.listeners.get(key)).map(AsFd::as_fd).collect();
            let message = FromAgent::Listeners { add: some.to_vec(), remove: remove.take().unwrap_or_default() };
            peer.sender.send(&message, &descriptors).await.map_err(|error| error.to_string())?;
        }
        Ok(())
    }

    async fn converse(&mut self, peer: &mut Peer) -> Ended {
        loop {
            tokio::select! {
                biased;
                _ = peer.process.ended() => return Ended::Process,
                received = peer.receiver.recv() => match received {
                    Ok((message, descriptors)) => self.hear(peer, message, descriptors),
                    Err(error) => {
                        // The process ends a moment after its socket: say which it was.
                        return match timeout(Duration::from_millis(200), peer.process.ended()).await {
                            Ok(_) => Ended::Process,
                            Err(_) => Ended::Link(error.to_string()),
                        };
                    }
                },
                command = self.inbox.recv() => match command {
                    None => std::future::pending().await,
                    Some(command) => match self.obey(peer, command).await {
                        Ok(false) => {}
                        Ok(true) => return Ended::Shutdown,
                        Err(why) => return Ended::Link(why),
                    },
                },
            }
        }
    }

    fn hear(&mut self, peer: &Peer, message: FromProxy, descriptors: Vec<OwnedFd>) {
        match message {
            FromProxy::Acknowledged { table, at_us } => {
                let calm = self.crashes.back().is_none_or(|at| at.elapsed() > CRASH_WINDOW);
                self.state.send_modify(|state| {
                    state.acknowledged = Some(table);
                    state.crash_loop &= !calm;
                });
                let published = Published { table, sent_us: self.sent_us, acknowledged_us: at_us };
                for (number, reply) in std::mem::take(&mut self.waiting) {
                    match number <= table {
                        true => drop(reply.send(Ok(published))),
                        false => self.waiting.push((number, reply)),
                    }
                }
            }
            FromProxy::Refused { table, serving, why } => {
                tracing::error!(%table, ?serving, why, "the proxy refused a table");
                for (number, reply) in std::mem::take(&mut self.waiting) {
                    match number == table {
                        true => {
                            drop(reply.send(Err(Fault::new(
                                Code::ProxyDown,
                                format!("the proxy refused table {table}: {why}"),
                            ))))
                        }
                        false => self.waiting.push((number, reply)),
                    }
                }
            }
            FromProxy::Statistics(statistics) => {
                let statistics = Arc::new(statistics);
                // Whoever asked may have given up, and nobody may be measuring.
                let _ = self.statistics.send(statistics.clone());
                if let Some(reply) = statistics.token.and_then(|token| self.asked.remove(&token)) {
                    let _ = reply.send(statistics);
                }
            }
            FromProxy::BackendGone { backend, why } => tracing::info!(%backend, why, "the proxy dropped a backend"),
            FromProxy::ListenerFailed { listener, why } => {
                tracing::error!(%listener, why, "the proxy cannot serve a listener")
            }
            FromProxy::Ready => tracing::info!(instance = peer.instance, "the proxy is ready"),
            FromProxy::Sockets { listeners } => {
                for (listener, descriptor) in listeners.into_iter().zip(descriptors) {
                    self.listeners.found(listener, descriptor);
                }
            }
            FromProxy::Hello { .. } => tracing::warn!("the proxy said Hello twice"),
        }
    }

    /// `true`: the proxy was told to end.
    async fn obey(&mut self, peer: &mut Peer, command: Command) -> Result<bool, String> {
        match command {
            Command::Bind(wanted, reply) => {
                let bound = self.listeners.bind(&wanted);
                let new = bound.clone().unwrap_or_default();
                // The answer may have gone: whoever asked was interrupted, and asks again.
                let _ = reply.send(bound.map(drop));
                if !new.is_empty() {
                    self.send_listeners(peer, &new, Vec::new()).await?;
                }
            }
            // Nobody has to hear it any more.
            Command::CannotBind(wanted, reply) => drop(reply.send(self.listeners.cannot_bind(&wanted))),
            Command::Retain(wanted, reply) => {
                let remove = self.listeners.retain(&wanted);
                let _ = reply.send(());
                if !remove.is_empty() {
                    self.send_listeners(peer, &[], remove).await?;
                }
            }
            Command::Publish(publication, reply) => {
                if let Some(reply) = reply {
                    self.waiting.push((publication.table.number, reply));
                }
                self.publication = Some(publication.clone());
                self.send_table(peer, &publication).await?;
            }
            // Whoever asked while the proxy was being replaced has given up.
            Command::Ask(reply) if reply.is_closed() => {}
            Command::Ask(reply) => {
                self.next_token += 1;
                self.asked.insert(self.next_token, reply);
                peer.sender
                    .send(&FromAgent::Ask { token: self.next_token }, &[])
                    .await
                    .map_err(|error| error.to_string())?;
            }
            Command::Shutdown(within, reply) => {
                self.listeners.retain(&BTreeSet::new());
                let message = FromAgent::Shutdown { within_ms: within.as_millis() as u64 };
                let told = peer.sender.send(&message, &[]).await;
                if told.is_err() || timeout(within + Duration::from_secs(2), peer.process.ended()).await.is_err() {
                    end(&peer.process).await;
                }
                for file in [self.options.socket.clone(), self.record()] {
                    if let Err(error) = std::fs::remove_file(&file) {
                        tracing::warn!(%error, file = %file.display(), "stays behind");
                    }
                }
                let _ = reply.send(());
                return Ok(true);
            }
        }
        Ok(false)
    }
}
