//! Counters: each worker writes its own, the control thread adds them up.
//!
//! ```text
//! worker 0 ─▶ WorkerCounters ─┐
//! worker 1 ─▶ WorkerCounters ─┼─▶ Collector ─▶ Statistics ─▶ agent
//! ```
//!
//! A counter has one writer, so adding is a load and a store without a lock prefix; the maps are locked only when a
//! table changes and when statistics are collected.

use crate::gap::{Gap, GapReader};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use teal_model::ids::{ReleaseKey, ServiceKey, TableNumber};
use teal_model::wire::{
    BackendId, BackendStatistics, Connections, Counters, Failed, Latency, Protocol, ReleaseStatistics,
    ServiceStatistics, Statistics, TcpCounters,
};

/// How long a release that no table lists any more, and that has nothing in flight, is still reported.
const FORGET_RELEASE_AFTER: Duration = Duration::from_secs(10);

/// A number with one writing thread.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
    pub(crate) fn set(&self, n: u64) {
        self.0.store(n, Relaxed);
    }
    pub(crate) fn up(&self) {
        self.set(self.get() + 1);
    }
    pub(crate) fn down(&self) {
        self.set(self.get().saturating_sub(1));
    }
}

/// Why an exchange failed, as [`Failed`] counts it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Failure {
    Connect,
    Reset,
    Cut,
    Timeout,
}

#[derive(Debug)]
pub(crate) struct ReleaseCounters {
    /// Requests.
    pub(crate) in_flight: Counter,
    pub(crate) tunnels: Counter,
    pub(crate) tcp_open: Counter,
    pub(crate) tcp_ended: Counter,
    pub(crate) tcp_failed: Counter,
    /// Among the ended.
    pub(crate) tcp_closed: Counter,
    /// By class of status, 1xx first.
    pub(crate) answered: [Counter; 5],
    pub(crate) connect: Counter,
    pub(crate) reset: Counter,
    pub(crate) cut: Counter,
    pub(crate) timeout: Counter,
    pub(crate) client_aborts: Counter,
    pub(crate) retries: Counter,
    latency: [Counter; Latency::BUCKETS],
    backends: Mutex<BTreeMap<BackendId, Arc<BackendCounters>>>,
}

impl Default for ReleaseCounters {
    fn default() -> Self {
        Self {
            in_flight: Counter::default(),
            tunnels: Counter::default(),
            tcp_open: Counter::default(),
            tcp_ended: Counter::default(),
            tcp_failed: Counter::default(),
            tcp_closed: Counter::default(),
            answered: Default::default(),
            connect: Counter::default(),
            reset: Counter::default(),
            cut: Counter::default(),
            timeout: Counter::default(),
            client_aborts: Counter::default(),
            retries: Counter::default(),
            latency: [const { Counter(AtomicU64::new(0)) }; Latency::BUCKETS],
            backends: Mutex::default(),
        }
    }
}

#[derive(Debug, Default)]
pub(crate) struct BackendCounters {
    pub(crate) in_flight: Counter,
    pub(crate) idle: Counter,
    pub(crate) ejected: Counter,
}

#[derive(Debug, Default)]
pub(crate) struct ServiceCounters {
    pub(crate) held: Counter,
    pub(crate) held_total: Counter,
    pub(crate) hold_expired: Counter,
    /// TCP connections among these.
    pub(crate) tcp_held_total: Counter,
    pub(crate) tcp_hold_expired: Counter,
    pub(crate) gap: Gap,
}

#[derive(Debug, Default)]
pub(crate) struct WorkerCounters {
    pub(crate) open: Counter,
    pub(crate) parked: Counter,
    pub(crate) accepted: Counter,
    pub(crate) refused: Counter,
    releases: Mutex<BTreeMap<ReleaseKey, Arc<ReleaseCounters>>>,
    services: Mutex<BTreeMap<ServiceKey, Arc<ServiceCounters>>>,
}

/// A poisoned map is still a map of counters.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl ReleaseCounters {
    /// Exchanges that have not ended.
    pub(crate) fn under_way(&self, protocol: Protocol) -> &Counter {
        match protocol {
            Protocol::Http => &self.in_flight,
            Protocol::Tcp => &self.tcp_open,
        }
    }

    fn is_drained(&self) -> bool {
        self.in_flight.get() == 0 && self.tcp_open.get() == 0
    }

    pub(crate) fn latency(&self, took: Duration) {
        let us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.latency[Latency::bucket(us)].up();
    }

    pub(crate) fn failed(&self, failure: Failure) {
        match failure {
            Failure::Connect => self.connect.up(),
            Failure::Reset => self.reset.up(),
            Failure::Cut => self.cut.up(),
            Failure::Timeout => self.timeout.up(),
        }
    }

    pub(crate) fn backend(&self, id: &BackendId) -> Arc<BackendCounters> {
        lock(&self.backends).entry(id.clone()).or_default().clone()
    }

    pub(crate) fn keep_backends(&self, keep: impl Fn(&BackendId) -> bool) {
        lock(&self.backends).retain(|id, counters| keep(id) || counters.in_flight.get() > 0);
    }
}

impl WorkerCounters {
    pub(crate) fn release(&self, key: &ReleaseKey) -> Arc<ReleaseCounters> {
        lock(&self.releases).entry(key.clone()).or_default().clone()
    }

    pub(crate) fn service(&self, key: &ServiceKey) -> Arc<ServiceCounters> {
        lock(&self.services).entry(key.clone()).or_default().clone()
    }
}

/// Adds up the workers' counters.
#[derive(Debug)]
pub(crate) struct Collector {
    workers: Vec<Arc<WorkerCounters>>,
    instance: String,
    epoch: Instant,
    sequence: u64,
    gaps: BTreeMap<ServiceKey, GapReader>,
    unlisted: BTreeMap<ReleaseKey, Instant>,
}

impl Collector {
    pub(crate) fn new(workers: Vec<Arc<WorkerCounters>>, instance: String, epoch: Instant) -> Self {
        Self { workers, instance, epoch, sequence: 0, gaps: BTreeMap::new(), unlisted: BTreeMap::new() }
    }

    /// `..._listed`: the releases and services of the current table.
    pub(crate) fn collect(
        &mut self,
        token: Option<u64>,
        table: TableNumber,
        release_listed: &dyn Fn(&ReleaseKey) -> bool,
        service_listed: &dyn Fn(&ServiceKey) -> bool,
    ) -> Statistics {
        self.sequence += 1;
        self.forget(release_listed, service_listed);
        Statistics {
            token,
            instance: self.instance.clone(),
            sequence: self.sequence,
            table,
            at_us: monotonic_us(),
            releases: self.releases(),
            services: self.services(),
            connections: self.connections(),
        }
    }

    fn connections(&self) -> Connections {
        let sum = |of: fn(&WorkerCounters) -> &Counter| self.workers.iter().map(|worker| of(worker).get()).sum();
        Connections {
            open: sum(|worker| &worker.open),
            parked: sum(|worker| &worker.parked),
            accepted: sum(|worker| &worker.accepted),
            refused: sum(|worker| &worker.refused),
        }
    }

    fn releases(&self) -> Vec<ReleaseStatistics> {
        let mut by_key: BTreeMap<ReleaseKey, ReleaseStatistics> = BTreeMap::new();
        for worker in &self.workers {
            for (key, counters) in &*lock(&worker.releases) {
                let sum = by_key.entry(key.clone()).or_insert_with(|| ReleaseStatistics {
                    latency: Latency { buckets: vec![0; Latency::BUCKETS] },
                    ..ReleaseStatistics::of(key.clone())
                });
                add_release(sum, counters);
            }
        }
        let mut releases: Vec<_> = by_key.into_values().collect();
        for release in &mut releases {
            let used = release.latency.buckets.iter().rposition(|n| *n > 0).map_or(0, |last| last + 1);
            release.latency.buckets.truncate(used);
        }
        releases
    }

    fn services(&mut self) -> Vec<ServiceStatistics> {
        let now = crate::gap::slot(self.epoch, Instant::now());
        let mut by_key: BTreeMap<ServiceKey, Vec<Arc<ServiceCounters>>> = BTreeMap::new();
        for worker in &self.workers {
            for (key, counters) in &*lock(&worker.services) {
                by_key.entry(key.clone()).or_default().push(counters.clone());
            }
        }
        let describe = |(service, parts): (ServiceKey, Vec<Arc<ServiceCounters>>)| {
            let sum = |of: fn(&ServiceCounters) -> &Counter| parts.iter().map(|part| of(part).get()).sum();
            let gaps: Vec<&Gap> = parts.iter().map(|part| &part.gap).collect();
            let reader = self.gaps.entry(service.clone()).or_insert_with(|| GapReader::starting_at(now));
            ServiceStatistics {
                held: sum(|part| &part.held),
                held_total: sum(|part| &part.held_total),
                hold_expired: sum(|part| &part.hold_expired),
                tcp_held_total: sum(|part| &part.tcp_held_total),
                tcp_hold_expired: sum(|part| &part.tcp_hold_expired),
                longest_gap_us: reader.longest_until(now, &gaps) * 1000,
                service,
            }
        };
        by_key.into_iter().map(describe).collect()
    }

    fn forget(&mut self, release_listed: &dyn Fn(&ReleaseKey) -> bool, service_listed: &dyn Fn(&ServiceKey) -> bool) {
        let now = Instant::now();
        self.unlisted.retain(|key, _| !release_listed(key));
        for worker in &self.workers {
            for key in lock(&worker.releases).keys().filter(|key| !release_listed(key)) {
                self.unlisted.entry(key.clone()).or_insert(now);
            }
        }
        for worker in &self.workers {
            lock(&worker.releases).retain(|key, counters| {
                let since = self.unlisted.get(key);
                since.is_none_or(|since| now - *since < FORGET_RELEASE_AFTER) || !counters.is_drained()
            });
            lock(&worker.services).retain(|key, counters| service_listed(key) || counters.held.get() > 0);
        }
        self.gaps.retain(|key, _| service_listed(key));
    }
}

fn add_release(sum: &mut ReleaseStatistics, part: &ReleaseCounters) {
    let (in_flight, open) = (part.in_flight.get(), part.tcp_open.get());
    let mut ended = 0;
    let mut add = |to: &mut u64, counter: &Counter| {
        *to += counter.get();
        ended += counter.get();
    };
    for (to, counter) in sum.counters.answered.iter_mut().zip(&part.answered) {
        add(to, counter);
    }
    let Failed { connect, reset, cut, timeout } = &mut sum.counters.failed;
    add(connect, &part.connect);
    add(reset, &part.reset);
    add(cut, &part.cut);
    add(timeout, &part.timeout);
    add(&mut sum.counters.client_aborts, &part.client_aborts);
    // Counted from its parts, so that a statistic taken between two of a worker's writes still adds up.
    sum.counters.requests += ended + in_flight;
    sum.counters.retries += part.retries.get();
    let (tcp_ended, tcp_failed) = (part.tcp_ended.get(), part.tcp_failed.get());
    sum.tcp.connections += tcp_ended + tcp_failed + open;
    sum.tcp.failed += tcp_failed;
    sum.tcp.open += open;
    sum.tcp.closed += part.tcp_closed.get();
    sum.in_flight += in_flight + open;
    sum.tunnels += part.tunnels.get();
    for (to, counter) in sum.latency.buckets.iter_mut().zip(&part.latency) {
        *to += counter.get();
    }
    for (id, counters) in &*lock(&part.backends) {
        let at = sum.backends.iter().position(|backend| backend.backend == *id).unwrap_or_else(|| {
            sum.backends.push(BackendStatistics { backend: id.clone(), in_flight: 0, idle: 0, ejected: false });
            sum.backends.len() - 1
        });
        let backend = &mut sum.backends[at];
        backend.in_flight += counters.in_flight.get();
        backend.idle += counters.idle.get();
        backend.ejected |= counters.ejected.get() > 0;
    }
}

/// CLOCK_MONOTONIC in microseconds.
pub(crate) fn monotonic_us() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    // Neither is negative on a monotonic clock.
    now.tv_sec as u64 * 1_000_000 + now.tv_nsec as u64 / 1_000
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_the_sum_of_what_became_of_them() {
        let workers = [Arc::new(WorkerCounters::default()), Arc::new(WorkerCounters::default())];
        let key = ReleaseKey::new(ServiceKey::new("shop", "web"), 7);
        for worker in &workers {
            let release = worker.release(&key);
            release.in_flight.up();
            release.answered[1].up();
            release.failed(Failure::Cut);
            release.client_aborts.up();
            release.latency(Duration::from_micros(100));
            release.backend(&BackendId("a:1".into())).idle.set(2);
            release.tcp_open.up();
            release.tcp_ended.set(5);
            release.tcp_failed.set(3);
            release.tcp_closed.set(1);
        }
        let mut collector = Collector::new(workers.to_vec(), "i".into(), Instant::now());
        let statistics = collector.collect(Some(3), TableNumber::default(), &|_| true, &|_| true);
        let [release] = &statistics.releases[..] else { panic!("one release: {statistics:?}") };
        assert_eq!((release.counters.requests, release.in_flight, release.latency.count()), (8, 4, 2));
        assert_eq!(
            release.tcp,
            TcpCounters { connections: 18, failed: 6, open: 2, closed: 2 },
            "none of them a request"
        );
        assert_eq!(release.tcp.ended(), 10);
        assert_eq!(release.backends[0].idle, 4);
        assert_eq!((statistics.token, statistics.sequence), (Some(3), 1));
    }
}
