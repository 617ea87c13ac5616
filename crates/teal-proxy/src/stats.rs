//! Counters: each worker writes its own, the control thread adds them up.
//!
//! ```text
//! worker 0 ─▶ WorkerCounters ─┐
//! worker 1 ─▶ WorkerCounters ─┼─▶ Collector ─▶ Statistics ─▶ agent
//! ```

use crate::counters::{Counter, ReleaseCounters, ServiceCounters, Taken, WorkerCounters, lock};
use crate::gap::{self, Gap, GapReader};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};
use teal_model::ids::{ReleaseKey, ServiceKey, TableNumber};
use teal_model::wire::{
    BackendStatistics, Connections, Latency, MAX_SAMPLES, ReleaseStatistics, ServiceStatistics, Statistics,
};

/// How long a release that no table lists any more, and that has nothing in flight, is still reported.
const FORGET_RELEASE_AFTER: Duration = Duration::from_secs(10);

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
            // Who asks wants numbers, and may throw the message away.
            releases: self.releases(token.is_none()),
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

    /// `with_samples`: they are taken, and not told again.
    fn releases(&self, with_samples: bool) -> Vec<ReleaseStatistics> {
        let now = gap::slot(self.epoch, Instant::now());
        let mut by_key: BTreeMap<ReleaseKey, (ReleaseStatistics, Vec<Taken>)> = BTreeMap::new();
        let empty = || Latency { buckets: vec![0; Latency::BUCKETS] };
        for worker in &self.workers {
            for (key, counters) in &*lock(&worker.releases) {
                let (sum, samples) = by_key.entry(key.clone()).or_insert_with(|| {
                    let sum = ReleaseStatistics::of(key.clone());
                    (ReleaseStatistics { latency: empty(), waiting: empty(), ..sum }, Vec::new())
                });
                add_release(sum, counters, now);
                if with_samples {
                    samples.extend(counters.take_samples());
                }
            }
        }
        let finish = |(mut release, mut samples): (ReleaseStatistics, Vec<Taken>)| {
            for histogram in [&mut release.latency, &mut release.waiting] {
                let used = histogram.buckets.iter().rposition(|n| *n > 0).map_or(0, |last| last + 1);
                histogram.buckets.truncate(used);
            }
            samples.sort_by_key(|(taken, _)| *taken);
            let newest = samples.split_off(samples.len().saturating_sub(MAX_SAMPLES));
            release.samples = newest.into_iter().map(|(_, sample)| sample).collect();
            release
        };
        by_key.into_values().map(finish).collect()
    }

    fn services(&mut self) -> Vec<ServiceStatistics> {
        let now = gap::slot(self.epoch, Instant::now());
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

fn add_release(sum: &mut ReleaseStatistics, part: &ReleaseCounters, now: u64) {
    part.requests.add_to(&mut sum.counters);
    part.previews.add_to(&mut sum.preview);
    let (open, tcp_ended, tcp_failed) = (part.tcp_open.get(), part.tcp_ended.get(), part.tcp_failed.get());
    sum.tcp.connections += tcp_ended + tcp_failed + open;
    sum.tcp.failed += tcp_failed;
    sum.tcp.open += open;
    sum.tcp.closed += part.tcp_closed.get();
    sum.in_flight += part.in_flight();
    sum.tunnels += part.tunnels.get();
    part.add_latency_to(&mut sum.latency.buckets);
    if part.requests.in_flight.get() > 0 {
        part.waits.add_to(&mut sum.waiting.buckets, now);
    }
    for (id, counters) in &*part.backends() {
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
    use crate::counters::Failure;
    use teal_model::wire::{BackendId, Sample, TcpCounters};

    #[test]
    fn requests_are_the_sum_of_what_became_of_them() {
        let workers = [Arc::new(WorkerCounters::default()), Arc::new(WorkerCounters::default())];
        let key = ReleaseKey::new(ServiceKey::new("shop", "web"), 7);
        for worker in &workers {
            let release = worker.release(&key);
            let requests = &release.requests;
            requests.in_flight.up();
            requests.answered[1].up();
            requests.failed(Failure::Cut);
            requests.client_aborts.up();
            release.previews.in_flight.up();
            release.previews.answered[4].up();
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
        assert_eq!((release.counters.requests, release.in_flight, release.latency.count()), (8, 6, 2));
        assert_eq!((release.preview.requests, release.preview.answered[4]), (4, 2), "counted apart");
        assert_eq!(
            release.tcp,
            TcpCounters { connections: 18, failed: 6, open: 2, closed: 2 },
            "none of them a request"
        );
        assert_eq!(release.tcp.ended(), 10);
        assert_eq!(release.backends[0].idle, 4);
        assert_eq!((statistics.token, statistics.sequence), (Some(3), 1));
    }

    #[test]
    fn the_newest_samples_of_all_workers_are_told_once_and_not_to_those_who_ask() {
        let workers = [Arc::new(WorkerCounters::default()), Arc::new(WorkerCounters::default())];
        let key = ReleaseKey::new(ServiceKey::new("shop", "web"), 7);
        let sample =
            |path: String| Sample { method: "GET".into(), path, status: Some(500), backend: BackendId("a:1".into()) };
        for n in 0..10 {
            workers[n % 2].release(&key).sample(sample(format!("/{n}")));
        }
        let mut collector = Collector::new(workers.to_vec(), "i".into(), Instant::now());
        let mut told = |token| {
            let mut statistics = collector.collect(token, TableNumber::default(), &|_| true, &|_| true);
            let samples = std::mem::take(&mut statistics.releases[0].samples);
            samples.into_iter().map(|sample| sample.path).collect::<Vec<_>>()
        };
        assert!(told(Some(1)).is_empty());
        assert_eq!(told(None), ["/7", "/8", "/9"]);
        assert!(told(None).is_empty());
    }
}
