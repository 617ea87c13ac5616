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
use teal_model::wire::{BackendId, ListenerKey, ReleaseStatistics, RouteTable, Statistics};
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

type OnTable = Box<dyn Fn(&RouteTable) + Send>;

#[derive(Default)]
pub struct Proxy {
    pub listeners: BTreeSet<ListenerKey>,
    pub tables: Vec<Arc<RouteTable>>,
    pub in_flight: BTreeMap<ReleaseKey, u64>,
    pub crash: Option<Crash>,
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

    async fn die(&self) {
        self.crashed.notify_one();
        std::future::pending::<()>().await;
    }
}

#[async_trait]
impl Counts for FakeTraffic {
    async fn ask(&self) -> Option<Arc<Statistics>> {
        let mut proxy = self.proxy();
        proxy.sequence += 1;
        let releases = proxy.in_flight.iter().map(|(release, in_flight)| ReleaseStatistics {
            in_flight: *in_flight,
            ..ReleaseStatistics::of(release.clone())
        });
        let table = proxy.tables.last().map(|table| table.number).unwrap_or_default();
        let statistics = Arc::new(Statistics {
            instance: "fake".to_owned(),
            sequence: proxy.sequence,
            table,
            releases: releases.collect(),
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
        let mut proxy = self.proxy();
        if let Some(taken) = openings.iter().map(|opening| &opening.listener).find(|key| proxy.taken.contains(*key)) {
            return Err(Fault::new(Code::PortInUse, format!("{taken} is in use by another process")));
        }
        proxy.listeners.extend(openings.iter().map(|opening| opening.listener.clone()));
        Ok(())
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
        let (crash, index) = {
            let proxy = self.proxy();
            (proxy.crash, proxy.tables.len())
        };
        if crash == Some(Crash::Before(index)) {
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
