//! A proxy in memory for tests: it takes tables like the real one, outlives the agent, and remembers all of them.

use super::{Counts, Opening, ProxyState, Publication, Traffic};
use crate::clock::monotonic_us;
use async_trait::async_trait;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use teal_model::deployment::Published;
use teal_model::fault::{Code, Fault};
use teal_model::ids::ReleaseKey;
use teal_model::wire::{BackendId, Counters, ListenerKey, ReleaseStatistics, RouteTable, Statistics};
use tokio::sync::{broadcast, watch};

/// When the agent is to die at a publication.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Crash {
    /// The table was not sent.
    Before(usize),
    /// It is in force, and the agent has not heard of it.
    After(usize),
}

/// Publications that nobody confirms.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Silence {
    /// The first of them, counted over the life of the proxy among those that are waited for ([`Proxy::flips`]).
    pub at: usize,
    pub times: usize,
    /// The table is in force all the same, and only its acknowledgement is lost.
    pub taken: bool,
}

/// How often requests come while somebody drives the proxy ([`FakeTraffic::drive`]), and statistics of them.
const TICK: Duration = Duration::from_millis(100);

/// Requests to every service.
pub struct Load {
    /// A second, to each service.
    pub rate: f64,
    /// Whether a request fails: the how many-th of its release it is, from 0 on.
    pub fails: Fails,
}

type Fails = Box<dyn Fn(&ReleaseKey, u64) -> bool + Send>;
type OnTable = Box<dyn Fn(&RouteTable) + Send>;
type Dies = Box<dyn Fn() -> bool + Send>;

#[derive(Default)]
pub struct Proxy {
    pub listeners: BTreeSet<ListenerKey>,
    pub tables: Vec<Arc<RouteTable>>,
    pub in_flight: BTreeMap<ReleaseKey, u64>,
    pub load: Option<Load>,
    pub counted: BTreeMap<ReleaseKey, Counters>,
    /// Parts of requests that are still to come.
    owed: BTreeMap<ReleaseKey, f64>,
    pub crash: Option<Crash>,
    /// Asked before each publication: the agent dies at it.
    pub dies: Option<Dies>,
    pub silence: Option<Silence>,
    /// Every backend whose process was sent.
    pub processes: BTreeSet<BackendId>,
    /// Looks at each table in the moment that it is in force.
    pub on_table: Option<OnTable>,
    /// Publications whose acknowledgement somebody waited for.
    pub flips: usize,
    /// What is led away from whoever has it, and where to.
    pub diversions: BTreeMap<ListenerKey, ListenerKey>,
    /// For each table, what was led away at some moment while it was in force.
    pub led: Vec<BTreeSet<ListenerKey>>,
    /// This host can divert nothing, and says why.
    pub cannot_divert: Option<String>,
    /// Addresses that are taken by somebody else.
    pub taken: BTreeSet<ListenerKey>,
    sequence: u64,
}

#[derive(Clone)]
pub struct FakeTraffic {
    proxy: Arc<Mutex<Proxy>>,
    crashed: Arc<tokio::sync::Notify>,
    statistics: broadcast::Sender<Arc<Statistics>>,
    state: watch::Sender<ProxyState>,
}

impl Default for FakeTraffic {
    fn default() -> Self {
        let state = ProxyState { pid: Some(1), instance: Some("fake".to_owned()), ..ProxyState::default() };
        Self {
            proxy: Arc::default(),
            crashed: Arc::default(),
            statistics: broadcast::channel(16).0,
            state: watch::channel(state).0,
        }
    }
}

impl FakeTraffic {
    pub fn proxy(&self) -> MutexGuard<'_, Proxy> {
        self.proxy.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn table(&self) -> Option<Arc<RouteTable>> {
        self.proxy().tables.last().cloned()
    }

    /// Resolves when the agent was to die at a publication.
    pub async fn crashed(&self) {
        self.crashed.notified().await;
    }

    /// Gives the requests of the load to releases as the table in force says, and tells of them. Never ends.
    pub async fn drive(&self) {
        loop {
            tokio::time::sleep(TICK).await;
            self.proxy().serve();
            self.ask().await;
        }
    }

    async fn die(&self) {
        self.crashed.notify_one();
        std::future::pending::<()>().await;
    }
}

impl Proxy {
    /// What comes within a tick.
    fn serve(&mut self) {
        let (Some(load), Some(table)) = (&self.load, self.tables.last()) else { return };
        for entry in table.services.values().filter(|entry| !entry.holding) {
            let all: u32 = entry.split.iter().map(|share| share.weight).sum();
            for share in &entry.split {
                let owed = self.owed.entry(share.release.clone()).or_default();
                *owed += load.rate * TICK.as_secs_f64() * f64::from(share.weight) / f64::from(all);
                let counters = self.counted.entry(share.release.clone()).or_default();
                while *owed >= 1.0 {
                    *owed -= 1.0;
                    let class = if (load.fails)(&share.release, counters.requests) { 4 } else { 1 };
                    counters.requests += 1;
                    counters.answered[class] += 1;
                }
            }
        }
    }

    fn statistics_of(&self, release: &ReleaseKey) -> ReleaseStatistics {
        ReleaseStatistics {
            in_flight: self.in_flight.get(release).copied().unwrap_or_default(),
            counters: self.counted.get(release).copied().unwrap_or_default(),
            ..ReleaseStatistics::of(release.clone())
        }
    }
}

#[async_trait]
impl Counts for FakeTraffic {
    async fn ask(&self) -> Option<Arc<Statistics>> {
        let mut proxy = self.proxy();
        proxy.sequence += 1;
        let known: BTreeSet<&ReleaseKey> = proxy.in_flight.keys().chain(proxy.counted.keys()).collect();
        let releases = known.into_iter().map(|release| proxy.statistics_of(release));
        let releases: Vec<ReleaseStatistics> = releases.collect();
        let table = proxy.tables.last().map(|table| table.number).unwrap_or_default();
        let statistics = Arc::new(Statistics {
            instance: "fake".to_owned(),
            sequence: proxy.sequence,
            table,
            releases,
            ..Statistics::default()
        });
        // To everybody, as the real one.
        let _ = self.statistics.send(statistics.clone());
        Some(statistics)
    }

    fn statistics(&self) -> broadcast::Receiver<Arc<Statistics>> {
        self.statistics.subscribe()
    }
}

#[async_trait]
impl Traffic for FakeTraffic {
    async fn bind(&self, openings: &[Opening]) -> Result<(), Fault> {
        let wanted: Vec<ListenerKey> = openings.iter().map(|opening| opening.listener.clone()).collect();
        self.cannot_bind(&wanted).await?;
        self.proxy().listeners.extend(wanted);
        Ok(())
    }

    async fn cannot_bind(&self, listeners: &[ListenerKey]) -> Result<(), Fault> {
        match listeners.iter().find(|key| self.proxy().taken.contains(*key)) {
            Some(taken) => Err(Fault::new(Code::PortInUse, format!("{taken} is in use by another process"))),
            None => Ok(()),
        }
    }

    async fn retain(&self, listeners: &BTreeSet<ListenerKey>) -> Result<(), Fault> {
        self.proxy().listeners.retain(|listener| listeners.contains(listener));
        Ok(())
    }

    async fn cannot_divert(&self, _: &BTreeSet<ListenerKey>) -> Option<String> {
        self.proxy().cannot_divert.clone()
    }

    async fn divert(&self, diversions: &BTreeMap<ListenerKey, ListenerKey>) -> Result<(), Fault> {
        let mut proxy = self.proxy();
        proxy.diversions.clone_from(diversions);
        if let Some(led) = proxy.led.last_mut() {
            led.extend(diversions.keys().cloned());
        }
        Ok(())
    }

    async fn publish(&self, publication: Publication, within: Option<Duration>) -> Result<Option<Published>, Fault> {
        let (crash, index, dies) = {
            let proxy = self.proxy();
            (proxy.crash, proxy.tables.len(), proxy.dies.as_ref().is_some_and(|dies| dies()))
        };
        if dies || crash == Some(Crash::Before(index)) {
            self.die().await;
        }
        let sent_us = monotonic_us();
        let number = publication.table.number;
        {
            let mut proxy = self.proxy();
            if let Some(last) = proxy.tables.last()
                && last.number >= number
            {
                return Err(Fault::new(
                    Code::ProxyDown,
                    format!("the proxy refused table {number}: it serves by {}", last.number),
                ));
            }
            let at = proxy.flips;
            proxy.flips += usize::from(within.is_some());
            let silence = proxy.silence.filter(|silence| {
                within.is_some() && (silence.at..silence.at.saturating_add(silence.times)).contains(&at)
            });
            if silence.is_none_or(|silence| silence.taken) {
                proxy.processes.extend(publication.processes.iter().map(|(backend, _)| backend.clone()));
                proxy.tables.push(publication.table);
                let led = proxy.diversions.keys().cloned().collect();
                proxy.led.push(led);
                if let (Some(look), Some(table)) = (&proxy.on_table, proxy.tables.last()) {
                    look(table);
                }
            }
            if silence.is_some() {
                let what = format!("table {number} was not acknowledged by every worker");
                return Err(Fault::new(Code::ProxyDown, what));
            }
        }
        self.state.send_modify(|state| state.acknowledged = Some(number));
        if crash == Some(Crash::After(index)) {
            self.die().await;
        }
        Ok(within.map(|_| Published { table: number, sent_us, acknowledged_us: monotonic_us() }))
    }

    fn state(&self) -> watch::Receiver<ProxyState> {
        self.state.subscribe()
    }

    async fn shutdown(&self, _within: Duration) -> Result<(), Fault> {
        self.proxy().listeners.clear();
        Ok(())
    }
}
