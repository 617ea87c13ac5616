//! What the proxy counted while a deployment ran, for its receipt.

use crate::traffic::Traffic;
use std::collections::{BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};
use teal_model::ids::ServiceKey;
use teal_model::receipt::{Failures, Measured, Quantiles, Traffic as Measurement};
use teal_model::wire::{Counters, Latency, Statistics};
use tokio::sync::broadcast::error::RecvError;

/// How far back "before" looks.
const BEFORE: Duration = Duration::from_secs(60);
/// How often the past is kept.
const KEEP_EVERY: Duration = Duration::from_secs(1);

pub struct Meter {
    traffic: Arc<dyn Traffic>,
    past: Arc<Mutex<Past>>,
}

#[derive(Default)]
struct Past {
    kept: VecDeque<(Instant, Arc<Statistics>)>,
    sequence: Option<(String, u64)>,
    windows: Vec<Weak<Mutex<Gaps>>>,
}

/// The longest gap so far, and whether any message was missed.
#[derive(Default)]
struct Gaps {
    services: BTreeSet<ServiceKey>,
    longest_us: u64,
    missed: Option<String>,
}

/// The measurement of one deployment, from its start on.
pub struct Window {
    traffic: Arc<dyn Traffic>,
    services: BTreeSet<ServiceKey>,
    before: Quantiles,
    start: Option<Arc<Statistics>>,
    flip: Option<Arc<Statistics>>,
    gaps: Arc<Mutex<Gaps>>,
}

fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Meter {
    pub fn start(traffic: Arc<dyn Traffic>) -> Self {
        let past = Arc::new(Mutex::new(Past::default()));
        let mut statistics = traffic.statistics();
        let kept = past.clone();
        tokio::spawn(async move {
            loop {
                match statistics.recv().await {
                    Ok(newest) => locked(&kept).take(newest),
                    // The next one has a hole before it, and is seen to.
                    Err(RecvError::Lagged(_)) => {}
                    Err(RecvError::Closed) => return,
                }
            }
        });
        Self { traffic, past }
    }

    /// Begins to measure.
    pub async fn open(&self, services: BTreeSet<ServiceKey>) -> Window {
        let start = self.traffic.ask().await;
        let gaps = Arc::new(Mutex::new(Gaps { services: services.clone(), ..Gaps::default() }));
        let mut past = locked(&self.past);
        past.windows.push(Arc::downgrade(&gaps));
        let oldest = past.kept.front().map(|(_, statistics)| statistics.clone());
        let before = match (&oldest, &start) {
            (Some(oldest), Some(start)) if oldest.instance == start.instance => {
                Quantiles::from(&latency(start, oldest, &services))
            }
            _ => Quantiles::default(),
        };
        Window { traffic: self.traffic.clone(), services, before, start, flip: None, gaps }
    }

    /// Requests a second of a service over the last ten seconds.
    pub fn rate(&self, service: &ServiceKey) -> Option<f64> {
        let past = locked(&self.past);
        let (newest_at, newest) = past.kept.back()?;
        let (then_at, then) =
            past.kept.iter().find(|(at, _)| newest_at.duration_since(*at) <= Duration::from_secs(10))?;
        let seconds = newest_at.duration_since(*then_at).as_secs_f64();
        if newest.instance != then.instance || seconds < 0.5 {
            return None;
        }
        let services = BTreeSet::from([service.clone()]);
        let requests = counters(newest, then, &services).requests;
        Some(requests as f64 / seconds)
    }
}

impl Past {
    fn take(&mut self, newest: Arc<Statistics>) {
        let now = Instant::now();
        let missed = match &self.sequence {
            Some((instance, _)) if instance != &newest.instance => Some("the proxy was replaced meanwhile".to_owned()),
            Some((_, sequence)) if newest.sequence != sequence + 1 => {
                Some("the proxy's statistics were interrupted meanwhile".to_owned())
            }
            _ => None,
        };
        self.sequence = Some((newest.instance.clone(), newest.sequence));
        self.windows.retain(|window| match window.upgrade() {
            None => false,
            Some(window) => {
                let mut gaps = locked(&window);
                for service in &newest.services {
                    if gaps.services.contains(&service.service) {
                        gaps.longest_us = gaps.longest_us.max(service.longest_gap_us);
                    }
                }
                if gaps.missed.is_none() {
                    gaps.missed.clone_from(&missed);
                }
                true
            }
        });
        if self.kept.back().is_none_or(|(at, _)| now.duration_since(*at) >= KEEP_EVERY) {
            self.kept.push_back((now, newest));
        }
        while self.kept.front().is_some_and(|(at, _)| now.duration_since(*at) > BEFORE) {
            self.kept.pop_front();
        }
    }
}

impl Window {
    /// All requests go elsewhere from now on.
    pub async fn flipped(&mut self) {
        self.flip = self.traffic.ask().await;
    }

    pub async fn close(self) -> Measurement {
        let unknown = |why: &str| Measurement::Unknown { why: why.to_owned() };
        let Some(start) = &self.start else { return unknown("the proxy gave no statistics at the start") };
        let Some(end) = self.traffic.ask().await else { return unknown("the proxy gave no statistics at the end") };
        if start.instance != end.instance {
            return unknown("the proxy was replaced meanwhile");
        }
        let gaps = locked(&self.gaps);
        if let Some(why) = &gaps.missed {
            return unknown(why);
        }
        // The last message may not have been taken yet.
        let of_ours = end.services.iter().filter(|service| self.services.contains(&service.service));
        let longest_us = of_ours.map(|service| service.longest_gap_us).max().unwrap_or(0).max(gaps.longest_us);
        let counted = counters(&end, start, &self.services);
        let failed = counted.failed;
        let mut measured = Measured {
            served: counted.answered.iter().sum(),
            failed: Failures {
                connect: failed.connect,
                reset: failed.reset,
                cut: failed.cut,
                timeout: failed.timeout,
                hold_expired: 0,
                app_5xx: counted.answered[4],
            },
            retried: counted.retries,
            client_aborts: counted.client_aborts,
            longest_stall_us: longest_us,
            before: self.before,
            ..Measured::default()
        };
        for now in end.services.iter().filter(|now| self.services.contains(&now.service)) {
            let then = start.services.iter().find(|then| then.service == now.service);
            measured.held += now.held_total - then.map_or(0, |then| then.held_total);
            measured.failed.hold_expired += now.hold_expired - then.map_or(0, |then| then.hold_expired);
        }
        let flip = self.flip.as_ref().filter(|flip| flip.instance == end.instance).unwrap_or(&end);
        measured.during = Quantiles::from(&latency(flip, start, &self.services));
        measured.after = Quantiles::from(&latency(&end, flip, &self.services));
        Measurement::Measured(measured)
    }
}

/// What the releases of these services counted between two snapshots of one instance.
fn counters(now: &Statistics, then: &Statistics, services: &BTreeSet<ServiceKey>) -> Counters {
    let mut sum = Counters::default();
    for release in now.releases.iter().filter(|release| services.contains(&release.release.service)) {
        let earlier = then
            .releases
            .iter()
            .find(|earlier| earlier.release == release.release)
            .map(|earlier| earlier.counters)
            .unwrap_or_default();
        let counters = release.counters;
        sum.requests += counters.requests - earlier.requests;
        for (class, answered) in sum.answered.iter_mut().enumerate() {
            *answered += counters.answered[class] - earlier.answered[class];
        }
        sum.failed.connect += counters.failed.connect - earlier.failed.connect;
        sum.failed.reset += counters.failed.reset - earlier.failed.reset;
        sum.failed.cut += counters.failed.cut - earlier.failed.cut;
        sum.failed.timeout += counters.failed.timeout - earlier.failed.timeout;
        sum.client_aborts += counters.client_aborts - earlier.client_aborts;
        sum.retries += counters.retries - earlier.retries;
    }
    sum
}

fn latency(now: &Statistics, then: &Statistics, services: &BTreeSet<ServiceKey>) -> Latency {
    let mut sum = Latency::default();
    for release in now.releases.iter().filter(|release| services.contains(&release.release.service)) {
        match then.releases.iter().find(|earlier| earlier.release == release.release) {
            Some(earlier) => sum.add(&release.latency.since(&earlier.latency)),
            None => sum.add(&release.latency),
        }
    }
    sum
}
