//! What one worker counts. A counter has one writer, so adding is a load and a store without a lock prefix; the maps are
//! locked only when a table changes, a request fails, or statistics are collected.

use crate::gap::Gap;
use crate::waits::Waits;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use teal_model::ids::{ReleaseKey, ServiceKey};
use teal_model::wire::{BackendId, Counters, Failed, Latency, MAX_SAMPLES, Sample};

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

/// What became of requests, as [`Counters`] tells it.
#[derive(Debug, Default)]
pub(crate) struct RequestCounters {
    pub(crate) in_flight: Counter,
    /// By class of status, 1xx first.
    pub(crate) answered: [Counter; 5],
    connect: Counter,
    reset: Counter,
    cut: Counter,
    timeout: Counter,
    pub(crate) client_aborts: Counter,
    /// Among these.
    pub(crate) gave_up: Counter,
    pub(crate) retries: Counter,
}

impl RequestCounters {
    pub(crate) fn failed(&self, failure: Failure) {
        match failure {
            Failure::Connect => self.connect.up(),
            Failure::Reset => self.reset.up(),
            Failure::Cut => self.cut.up(),
            Failure::Timeout => self.timeout.up(),
        }
    }

    pub(crate) fn add_to(&self, sum: &mut Counters) {
        let in_flight = self.in_flight.get();
        let mut ended = 0;
        let mut add = |to: &mut u64, counter: &Counter| {
            *to += counter.get();
            ended += counter.get();
        };
        for (to, counter) in sum.answered.iter_mut().zip(&self.answered) {
            add(to, counter);
        }
        let Failed { connect, reset, cut, timeout } = &mut sum.failed;
        add(connect, &self.connect);
        add(reset, &self.reset);
        add(cut, &self.cut);
        add(timeout, &self.timeout);
        add(&mut sum.client_aborts, &self.client_aborts);
        // Counted from its parts, so that a statistic taken between two of a worker's writes still adds up.
        sum.requests += ended + in_flight;
        sum.gave_up += self.gave_up.get();
        sum.retries += self.retries.get();
    }
}

#[derive(Debug)]
pub(crate) struct ReleaseCounters {
    pub(crate) requests: RequestCounters,
    pub(crate) previews: RequestCounters,
    pub(crate) tunnels: Counter,
    pub(crate) tcp_open: Counter,
    pub(crate) tcp_ended: Counter,
    pub(crate) tcp_failed: Counter,
    /// Among the ended.
    pub(crate) tcp_closed: Counter,
    pub(crate) waits: Waits,
    latency: [Counter; Latency::BUCKETS],
    samples: Mutex<Vec<Taken>>,
    backends: Mutex<BTreeMap<BackendId, Arc<BackendCounters>>>,
}

/// A sample, and when it was taken.
pub(crate) type Taken = (Instant, Sample);

impl Default for ReleaseCounters {
    fn default() -> Self {
        Self {
            requests: RequestCounters::default(),
            previews: RequestCounters::default(),
            tunnels: Counter::default(),
            tcp_open: Counter::default(),
            tcp_ended: Counter::default(),
            tcp_failed: Counter::default(),
            tcp_closed: Counter::default(),
            waits: Waits::default(),
            latency: [const { Counter(AtomicU64::new(0)) }; Latency::BUCKETS],
            samples: Mutex::default(),
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
    pub(crate) releases: Mutex<BTreeMap<ReleaseKey, Arc<ReleaseCounters>>>,
    pub(crate) services: Mutex<BTreeMap<ServiceKey, Arc<ServiceCounters>>>,
}

/// A poisoned map is still a map of counters.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl ReleaseCounters {
    pub(crate) fn is_drained(&self) -> bool {
        self.in_flight() == 0
    }

    /// Exchanges that have not ended.
    pub(crate) fn in_flight(&self) -> u64 {
        self.requests.in_flight.get() + self.previews.in_flight.get() + self.tcp_open.get()
    }

    pub(crate) fn latency(&self, took: Duration) {
        let us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.latency[Latency::bucket(us)].up();
    }

    pub(crate) fn add_latency_to(&self, buckets: &mut [u64]) {
        for (to, counter) in buckets.iter_mut().zip(&self.latency) {
            *to += counter.get();
        }
    }

    /// Keeps a sample, the newest few of them.
    pub(crate) fn sample(&self, sample: Sample) {
        let mut samples = lock(&self.samples);
        if samples.len() == MAX_SAMPLES {
            samples.remove(0);
        }
        samples.push((Instant::now(), sample));
    }

    pub(crate) fn take_samples(&self) -> Vec<Taken> {
        std::mem::take(&mut *lock(&self.samples))
    }

    pub(crate) fn backend(&self, id: &BackendId) -> Arc<BackendCounters> {
        lock(&self.backends).entry(id.clone()).or_default().clone()
    }

    pub(crate) fn backends(&self) -> MutexGuard<'_, BTreeMap<BackendId, Arc<BackendCounters>>> {
        lock(&self.backends)
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
