//! The control thread: obeys the agent, publishes tables, watches processes, sends statistics.
//!
//! ```text
//! agent ◀──Link──▶ Control ──Command──▶ workers
//!                     ▲  ▲────Report──────┘
//!                     └── pidfds, signals, the tick
//! ```
//!
//! An agent that goes away changes nothing: the last table is served by, and the next agent gets the sockets back.

use crate::agent::{self, Agent, Heard};
use crate::contradiction::contradiction;
use crate::counters::WorkerCounters;
use crate::processes::Processes;
use crate::run::{Options, RunError};
use crate::stats::Collector;
use crate::worker::{Command, Report};
use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};
use teal_model::ids::TableNumber;
use teal_model::wire::{
    BackendId, FromAgent, FromProxy, ListenerKey, MAX_DESCRIPTORS, PROTOCOL, RouteTable, STATISTICS_EVERY_MS,
};
use tokio::net::UnixListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;
use tokio::time::MissedTickBehavior;

/// After SIGTERM requests in flight get this long.
const FINISH_WITHIN: Duration = Duration::from_secs(30);
/// Messages from all agents' connections, and ended processes, that wait for control.
const INBOX: usize = 256;

type WorkerHandle = (mpsc::Sender<Command>, Arc<WorkerCounters>);

pub(crate) struct Control {
    listener: UnixListener,
    signals: Option<[Signal; 2]>,
    version: String,
    instance: String,
    workers: Vec<WorkerState>,
    reports: mpsc::Receiver<Report>,
    agents: agent::Inbox,
    heard: mpsc::Receiver<(u64, Heard)>,
    agent: Option<Agent>,
    connections: u64,
    table: Option<Arc<RouteTable>>,
    sockets: BTreeMap<ListenerKey, OwnedFd>,
    had_listeners: bool,
    processes: Processes,
    ended: mpsc::Receiver<BackendId>,
    collector: Collector,
    /// Published and not taken by every worker yet, oldest first.
    pending: Vec<TableNumber>,
    finish_by: Option<Instant>,
}

struct WorkerState {
    commands: mpsc::Sender<Command>,
    took: TableNumber,
    finished: bool,
}

impl Control {
    pub(crate) fn new(
        options: Options,
        workers: Vec<WorkerHandle>,
        reports: mpsc::Receiver<Report>,
        epoch: Instant,
    ) -> Result<Self, RunError> {
        let listener = std::os::unix::net::UnixListener::from(options.control);
        listener.set_nonblocking(true).map_err(RunError::Control)?;
        let listener = UnixListener::from_std(listener).map_err(RunError::Control)?;
        let signals = options.signals.then(catch_signals).transpose().map_err(RunError::Signals)?;
        let (ended_sender, ended) = mpsc::channel(INBOX);
        let (agents, heard) = mpsc::channel(INBOX);
        let instance = instance();
        let counters = workers.iter().map(|(_, counters)| counters.clone()).collect();
        let state = |(commands, _)| WorkerState { commands, took: TableNumber::default(), finished: false };
        Ok(Self {
            listener,
            signals,
            version: options.version,
            collector: Collector::new(counters, instance.clone(), epoch),
            instance,
            workers: workers.into_iter().map(state).collect(),
            reports,
            agents,
            heard,
            agent: None,
            connections: 0,
            table: None,
            sockets: BTreeMap::new(),
            had_listeners: false,
            processes: Processes::new(ended_sender),
            ended,
            pending: Vec::new(),
            finish_by: None,
        })
    }

    pub(crate) async fn run(mut self) -> Result<(), RunError> {
        let mut tick = tokio::time::interval(Duration::from_millis(STATISTICS_EVERY_MS));
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while !self.is_over() {
            tokio::select! {
                biased;
                () = signalled(&mut self.signals) => self.finish(FINISH_WITHIN).await,
                Some(backend) = self.ended.recv() => self.backend_ended(backend).await,
                report = self.reports.recv() => match report {
                    Some(report) => self.hear_worker(report),
                    None => return Err(RunError::Worker),
                },
                Some((connection, heard)) = self.heard.recv() => self.hear_agent(connection, heard).await,
                accepted = self.listener.accept() => match accepted {
                    Ok((stream, _)) => self.greet(stream),
                    Err(error) => {
                        tracing::warn!(%error, "an agent's connection could not be accepted");
                        tokio::time::sleep(Duration::from_millis(50)).await;
                    }
                },
                _ = tick.tick() => self.send_statistics(None),
            }
        }
        tracing::info!("the proxy ends");
        for worker in &self.workers {
            let _ = worker.commands.send(Command::Stop).await;
        }
        Ok(())
    }

    fn is_over(&self) -> bool {
        let Some(by) = self.finish_by else { return false };
        self.workers.iter().all(|worker| worker.finished) || Instant::now() >= by
    }

    /// Says hello on a new connection; it takes the place of the one before when its agent has answered.
    fn greet(&mut self, stream: tokio::net::UnixStream) {
        self.connections += 1;
        let (keys, sockets): (Vec<_>, Vec<_>) =
            self.sockets.iter().filter_map(|(key, socket)| Some((key.clone(), socket.try_clone().ok()?))).unzip();
        let mut sockets = sockets.into_iter();
        let mut parts = keys.chunks(MAX_DESCRIPTORS);
        let hello = FromProxy::Hello {
            protocol: PROTOCOL,
            instance: self.instance.clone(),
            version: self.version.clone(),
            pid: std::process::id(),
            workers: self.workers.len() as u32,
            table: self.table.as_deref().cloned(),
            listeners: parts.next().unwrap_or_default().to_vec(),
        };
        let mut greeting = vec![(hello, sockets.by_ref().take(MAX_DESCRIPTORS).collect())];
        for part in parts {
            let rest = FromProxy::Sockets { listeners: part.to_vec() };
            greeting.push((rest, sockets.by_ref().take(MAX_DESCRIPTORS).collect()));
        }
        agent::greet(self.connections, stream, greeting, self.agents.clone());
    }

    async fn hear_agent(&mut self, connection: u64, heard: Heard) {
        match heard {
            Heard::Welcomed(agent) => {
                // A slower handshake of an older connection does not displace a newer agent.
                if self.agent.as_ref().is_none_or(|current| current.connection < connection) {
                    tracing::info!(agent = agent.name, connection, "an agent is in charge");
                    self.agent = Some(agent);
                    self.tell_ready();
                }
            }
            Heard::Lost(why) => {
                if self.agent.as_ref().is_some_and(|agent| agent.connection == connection) {
                    tracing::warn!(why, "the agent is gone; the last table is served by");
                    self.agent = None;
                }
            }
            Heard::Message(message, descriptors) => {
                if self.agent.as_ref().is_some_and(|agent| agent.connection == connection) {
                    self.obey(message, descriptors).await;
                }
            }
        }
    }

    async fn obey(&mut self, message: FromAgent, descriptors: Vec<OwnedFd>) {
        match message {
            FromAgent::Welcome { .. } => {}
            FromAgent::Processes { backends } => self.watch(backends, descriptors).await,
            FromAgent::Table(table) => self.publish(table).await,
            FromAgent::Listeners { add, remove } => self.change_listeners(add, descriptors, remove).await,
            FromAgent::Ask { token } => self.send_statistics(Some(token)),
            FromAgent::Shutdown { within_ms } => self.finish(Duration::from_millis(within_ms)).await,
        }
    }

    async fn watch(&mut self, backends: Vec<BackendId>, pidfds: Vec<OwnedFd>) {
        for (backend, pidfd) in backends.into_iter().zip(pidfds) {
            match self.processes.watch(backend.clone(), pidfd) {
                Ok(false) => {}
                Ok(true) => self.retire(backend).await,
                Err(error) => tracing::error!(%backend, %error, "a backend's process cannot be watched"),
            }
        }
    }

    async fn backend_ended(&mut self, backend: BackendId) {
        self.processes.mark_gone(backend.clone());
        self.retire(backend).await;
    }

    /// Every worker stops sending requests there before the agent hears of it.
    async fn retire(&mut self, backend: BackendId) {
        self.command(|gone| Command::Gone(gone.clone())).await;
        tracing::warn!(%backend, "a backend's process has ended");
        self.tell(FromProxy::BackendGone { backend, why: "its process has ended".into() });
    }

    async fn command(&self, command: impl Fn(&crate::worker::Gone) -> Command) {
        let gone = self.processes.gone();
        for worker in &self.workers {
            // A worker that is gone has panicked, which its thread's end reports.
            let _ = worker.commands.send(command(&gone)).await;
        }
    }

    async fn publish(&mut self, table: RouteTable) {
        let serving = self.table.as_ref().map(|table| table.number);
        let refusal = match &self.table {
            Some(current) if table.number < current.number => Some("a later table is served by".to_owned()),
            Some(current) if table.number == current.number && table != **current => {
                Some("another table has this number".to_owned())
            }
            Some(current) if table.number == current.number => {
                if !self.pending.contains(&table.number) {
                    self.acknowledge(table.number);
                }
                return;
            }
            _ => contradiction(&table),
        };
        if let Some(why) = refusal {
            tracing::warn!(table = %table.number, why, "a table is refused");
            return self.tell(FromProxy::Refused { table: table.number, serving, why });
        }
        let table = Arc::new(table);
        if let Some(before) = self.table.replace(table.clone()) {
            self.processes.forget(&before, &table);
        }
        self.pending.push(table.number);
        self.command(|gone| Command::Table { table: table.clone(), gone: gone.clone() }).await;
        self.tell_ready();
    }

    fn hear_worker(&mut self, report: Report) {
        match report {
            Report::Took { worker, table } => {
                self.workers[worker].took = table;
                let taken = self.lowest_table();
                for number in self.pending.extract_if(.., |number| *number <= taken).collect::<Vec<_>>() {
                    self.acknowledge(number);
                }
            }
            Report::ListenerFailed { listener, why } => {
                tracing::error!(%listener, why, "a listener cannot be served");
                // The first worker's word is enough.
                if self.sockets.remove(&listener).is_some() {
                    self.tell(FromProxy::ListenerFailed { listener, why });
                }
            }
            Report::Finished { worker } => self.workers[worker].finished = true,
        }
    }

    fn lowest_table(&self) -> TableNumber {
        self.workers.iter().map(|worker| worker.took).min().unwrap_or_default()
    }

    fn acknowledge(&mut self, table: TableNumber) {
        self.tell(FromProxy::Acknowledged { table, at_us: crate::stats::monotonic_us() });
    }

    async fn change_listeners(&mut self, add: Vec<ListenerKey>, sockets: Vec<OwnedFd>, remove: Vec<ListenerKey>) {
        if add.len() != sockets.len() {
            let why = format!("{} listeners came with {} sockets", add.len(), sockets.len());
            for listener in add {
                self.tell(FromProxy::ListenerFailed { listener, why: why.clone() });
            }
            return;
        }
        // First, so that a listener in both gets another socket.
        for key in remove {
            if self.sockets.remove(&key).is_some() {
                self.command(|_| Command::Unlisten(key.clone())).await;
            }
        }
        for (key, socket) in add.into_iter().zip(sockets) {
            if self.finish_by.is_none() && !self.sockets.contains_key(&key) {
                self.listen(key, socket).await;
            }
        }
        self.had_listeners = true;
        self.tell_ready();
    }

    async fn listen(&mut self, key: ListenerKey, socket: OwnedFd) {
        let copies: Result<Vec<_>, _> = self.workers.iter().map(|_| socket.try_clone()).collect();
        match copies {
            Ok(copies) => {
                for (worker, copy) in self.workers.iter().zip(copies) {
                    let _ = worker.commands.send(Command::Listen(key.clone(), copy)).await;
                }
                self.sockets.insert(key, socket);
            }
            Err(error) => self.tell(FromProxy::ListenerFailed { listener: key, why: error.to_string() }),
        }
    }

    fn tell_ready(&mut self) {
        if self.table.is_some()
            && self.had_listeners
            && let Some(agent) = &mut self.agent
            && !std::mem::replace(&mut agent.told_ready, true)
        {
            self.tell(FromProxy::Ready);
        }
    }

    fn send_statistics(&mut self, token: Option<u64>) {
        if self.agent.is_none() {
            return;
        }
        let table = self.table.clone().unwrap_or_default();
        let release_listed = |key: &teal_model::ids::ReleaseKey| {
            let service = table.services.get(&key.service);
            service.is_some_and(|service| service.releases.iter().any(|release| release.release == *key))
        };
        let service_listed = |key: &teal_model::ids::ServiceKey| table.services.contains_key(key);
        let statistics = self.collector.collect(token, self.lowest_table(), &release_listed, &service_listed);
        self.tell(FromProxy::Statistics(statistics));
    }

    /// Stops accepting and lets requests in flight end.
    async fn finish(&mut self, within: Duration) {
        let by = Instant::now() + within;
        self.finish_by = Some(self.finish_by.map_or(by, |before| before.min(by)));
        self.sockets.clear();
        self.command(|_| Command::Finish).await;
    }

    fn tell(&mut self, message: FromProxy) {
        if self.agent.as_ref().is_some_and(|agent| !agent.tell(message)) {
            tracing::warn!("the agent does not read; its connection is dropped");
            self.agent = None;
        }
    }
}

fn catch_signals() -> std::io::Result<[Signal; 2]> {
    Ok([signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?])
}

async fn signalled(signals: &mut Option<[Signal; 2]>) {
    match signals {
        Some([terminate, interrupt]) => {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
        }
        None => std::future::pending().await,
    }
}

/// Unlike any other process's: the hasher's keys are random.
fn instance() -> String {
    use std::hash::{BuildHasher, RandomState};
    format!("{:016x}", RandomState::new().hash_one(std::process::id()))
}
