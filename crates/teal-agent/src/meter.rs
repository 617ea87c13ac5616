//! What the proxy counted while a deployment ran, for its receipt.

use crate::traffic::Counts;
use std::collections::{BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};
use teal_model::ids::{ReleaseKey, ServiceKey};
use teal_model::receipt::{Connections, Failures, Measured, Quantiles, Traffic as Measurement};
use teal_model::wire::{Counters, Latency, ServiceStatistics, Statistics};
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::watch;
use tokio::time::timeout;

/// How far back "before" looks.
const BEFORE: Duration = Duration::from_secs(60);
/// How often the past is kept.
const KEEP_EVERY: Duration = Duration::from_secs(1);

/// The first of its sources is the proxy.
pub struct Meter {
    sources: Vec<Source>,
}

#[derive(Clone)]
struct Source {
    counts: Arc<dyn Counts>,
    past: Arc<Mutex<Past>>,
    /// The message that was taken last.
    heard: watch::Receiver<u64>,
}

#[derive(Default)]
struct Past {
    kept: VecDeque<(Instant, Arc<Statistics>)>,
    newest: Option<Arc<Statistics>>,
    windows: Vec<Weak<Mutex<Tally>>>,
}

/// An answer comes beside the stream of messages, and may be here before those that were sent before it: they are waited for,
/// so that none is taken for lost.
const CATCH_UP: Duration = Duration::from_secs(1);

/// The measurement of one deployment, from its start on.
pub struct Window {
    parts: Vec<Part>,
}

/// What one source has counted of it.
struct Part {
    source: Source,
    tally: Arc<Mutex<Tally>>,
    before: Option<Latency>,
}

/// What was counted since the start, message by message: a release that the proxy forgets, or that begins again at zero,
/// keeps what it had.
#[derive(Default)]
struct Tally {
    services: BTreeSet<ServiceKey>,
    last: Option<Arc<Statistics>>,
    counters: Counters,
    held: u64,
    hold_expired: u64,
    tcp: Connections,
    longest_us: u64,
    latency: Latency,
    /// The latencies until the flip.
    until_flip: Option<Latency>,
    /// Why nothing is claimed.
    unknown: Option<String>,
}

fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Meter {
    pub fn start(sources: Vec<Arc<dyn Counts>>) -> Self {
        Self { sources: sources.into_iter().map(Source::start).collect() }
    }

    /// Begins to measure.
    pub async fn open(&self, services: BTreeSet<ServiceKey>) -> Window {
        let mut parts = Vec::new();
        for source in &self.sources {
            parts.push(source.open(services.clone()).await);
        }
        Window { parts }
    }

    /// Those who count: the proxy first.
    pub fn sources(&self) -> Vec<Arc<dyn Counts>> {
        self.sources.iter().map(|source| source.counts.clone()).collect()
    }

    /// What each of them said last.
    pub fn newest(&self) -> Vec<Option<Arc<Statistics>>> {
        self.sources.iter().map(|source| locked(&source.past).newest.clone()).collect()
    }

    /// Of everything that a release has answered, since those who count began; None: nothing.
    pub fn latency_of(&self, release: &ReleaseKey) -> Option<Latency> {
        let newest = self.newest();
        let counted = newest.iter().flatten().flat_map(|said| &said.releases).filter(|one| &one.release == release);
        counted.map(|one| one.latency.clone()).reduce(|mut sum, more| {
            sum.add(&more);
            sum
        })
    }

    /// Requests and TCP connections a second that a service has served over the last ten seconds.
    pub fn rate(&self, service: &ServiceKey) -> Option<Rate> {
        let rates: Vec<Rate> = self.sources.iter().filter_map(|source| source.rate(service)).collect();
        let add = |sum: Rate, more: Rate| Rate {
            requests: sum.requests + more.requests,
            connections: sum.connections + more.connections,
        };
        rates.into_iter().reduce(add)
    }
}

impl Source {
    fn start(counts: Arc<dyn Counts>) -> Self {
        let past = Arc::new(Mutex::new(Past::default()));
        let mut statistics = counts.statistics();
        let kept = past.clone();
        let (hears, heard) = watch::channel(0);
        tokio::spawn(async move {
            loop {
                match statistics.recv().await {
                    Ok(newest) => {
                        let sequence = newest.sequence;
                        locked(&kept).take(newest);
                        hears.send_replace(sequence);
                    }
                    // The next one has a hole before it, and is seen to.
                    Err(RecvError::Lagged(_)) => {}
                    Err(RecvError::Closed) => return,
                }
            }
        });
        Self { counts, past, heard }
    }

    async fn open(&self, services: BTreeSet<ServiceKey>) -> Part {
        // Before it asks: what comes between the answer and now is counted, too.
        let tally = Arc::new(Mutex::new(Tally { services, ..Tally::default() }));
        locked(&self.past).windows.push(Arc::downgrade(&tally));
        let newest = self.counts.ask().await;
        {
            let mut tally = locked(&tally);
            match newest {
                None => tally.unknown = Some(self.counts.unknown()),
                Some(newest) => drop(tally.last.get_or_insert(newest)),
            }
        }
        Part { source: self.clone(), tally, before: None }
    }

    fn rate(&self, service: &ServiceKey) -> Option<Rate> {
        let past = locked(&self.past);
        let (newest_at, newest) = past.kept.back()?;
        let (then_at, then) =
            past.kept.iter().find(|(at, _)| newest_at.duration_since(*at) <= Duration::from_secs(10))?;
        let seconds = newest_at.duration_since(*then_at).as_secs_f64();
        if newest.instance != then.instance || seconds < 0.5 {
            return None;
        }
        let services = BTreeSet::from([service.clone()]);
        let requests: u64 = counters(newest, then, &services).answered.iter().sum();
        let connections = connections(newest, then, &services).served;
        Some(Rate { requests: requests as f64 / seconds, connections: connections as f64 / seconds })
    }
}

/// A second.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rate {
    pub requests: f64,
    pub connections: f64,
}

impl Past {
    fn take(&mut self, newest: Arc<Statistics>) {
        let now = Instant::now();
        self.newest = Some(newest.clone());
        self.windows.retain(|window| match window.upgrade() {
            None => false,
            Some(window) => {
                locked(&window).take(&newest);
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

impl Tally {
    /// Messages may come twice (as an answer, and to everybody) and are taken once.
    fn take(&mut self, newest: &Arc<Statistics>) {
        let Some(last) = self.last.clone() else {
            self.last = Some(newest.clone());
            return;
        };
        if last.instance != newest.instance {
            self.unknown.get_or_insert_with(|| "the proxy was replaced meanwhile".to_owned());
            return;
        }
        if newest.sequence <= last.sequence {
            return;
        }
        if newest.sequence > last.sequence + 1 {
            self.unknown.get_or_insert_with(|| "the proxy's statistics were interrupted meanwhile".to_owned());
        }
        add(&mut self.counters, &counters(newest, &last, &self.services));
        self.latency.add(&latency(newest, &last, &self.services));
        let tcp = connections(newest, &last, &self.services);
        self.tcp.served += tcp.served;
        self.tcp.closed += tcp.closed;
        self.tcp.failed.connect += tcp.failed.connect;
        self.tcp.open = tcp.open;
        for now in newest.services.iter().filter(|now| self.services.contains(&now.service)) {
            let then = last.services.iter().find(|then| then.service == now.service);
            let of = |count: fn(&ServiceStatistics) -> u64| since(count(now), then.map_or(0, count));
            let (held, expired) = (of(|service| service.tcp_held_total), of(|service| service.tcp_hold_expired));
            self.tcp.held += held;
            self.tcp.failed.hold_expired += expired;
            self.held += of(|service| service.held_total).saturating_sub(held);
            self.hold_expired += of(|service| service.hold_expired).saturating_sub(expired);
            self.longest_us = self.longest_us.max(now.longest_gap_us);
        }
        self.last = Some(newest.clone());
    }
}

impl Window {
    /// Looks at these services alone; `behind_nginx`: some of them are.
    pub fn only(mut self, services: BTreeSet<ServiceKey>, behind_nginx: bool) -> Self {
        // What an nginx cannot say of others is nothing to these.
        self.parts.truncate(if behind_nginx { self.parts.len() } else { 1 });
        for part in &mut self.parts {
            part.only(&services);
        }
        self
    }

    /// All requests go elsewhere from now on.
    pub async fn flipped(&mut self) {
        for part in &mut self.parts {
            let now = part.ask().await;
            let mut tally = locked(&part.tally);
            if let Some(now) = now {
                tally.take(&now);
            }
            let until_flip = tally.latency.clone();
            tally.until_flip = Some(until_flip);
        }
    }

    pub async fn close(mut self) -> Measurement {
        for part in &mut self.parts {
            let end = part.ask().await;
            let mut tally = locked(&part.tally);
            match end {
                Some(end) => tally.take(&end),
                None => drop(tally.unknown.get_or_insert_with(|| part.source.counts.unknown())),
            }
        }
        let mut sum = Tally::default();
        let (mut before, mut during) = (Latency::default(), Latency::default());
        for part in &self.parts {
            let tally = locked(&part.tally);
            if let Some(why) = &tally.unknown {
                return Measurement::Unknown { why: why.clone() };
            }
            add(&mut sum.counters, &tally.counters);
            sum.held += tally.held;
            sum.hold_expired += tally.hold_expired;
            add_tcp(&mut sum.tcp, &tally.tcp);
            sum.tcp.open += tally.tcp.open;
            sum.longest_us = sum.longest_us.max(tally.longest_us);
            sum.latency.add(&tally.latency);
            during.add(tally.until_flip.as_ref().unwrap_or(&tally.latency));
            before.add(part.before.as_ref().unwrap_or(&Latency::default()));
        }
        let (counted, failed) = (sum.counters, sum.counters.failed);
        Measurement::Measured(Measured {
            served: counted.answered.iter().sum(),
            failed: Failures {
                connect: failed.connect,
                reset: failed.reset,
                cut: failed.cut,
                timeout: failed.timeout,
                hold_expired: sum.hold_expired,
                app_5xx: counted.answered[4],
            },
            held: sum.held,
            retried: counted.retries,
            client_aborts: counted.client_aborts,
            longest_stall_us: sum.longest_us,
            before: Quantiles::from(&before),
            during: Quantiles::from(&during),
            after: Quantiles::from(&sum.latency.since(&during)),
            tcp: sum.tcp,
        })
    }
}

impl Part {
    fn only(&mut self, services: &BTreeSet<ServiceKey>) {
        let start = {
            let mut tally = locked(&self.tally);
            tally.services.clone_from(services);
            tally.last.clone()
        };
        let oldest = locked(&self.source.past).kept.front().map(|(_, statistics)| statistics.clone());
        self.before = match (oldest, start) {
            (Some(oldest), Some(start)) if oldest.instance == start.instance => {
                Some(latency(&start, &oldest, services))
            }
            _ => None,
        };
    }

    /// The newest message, taken behind those before it.
    async fn ask(&mut self) -> Option<Arc<Statistics>> {
        let newest = self.source.counts.ask().await?;
        // Nothing to be done about it when it does not come: what is missing is seen by its number.
        let _ = timeout(CATCH_UP, self.source.heard.wait_for(|heard| *heard >= newest.sequence)).await;
        Some(newest)
    }
}

fn add_tcp(sum: &mut Connections, more: &Connections) {
    sum.served += more.served;
    sum.closed += more.closed;
    sum.held += more.held;
    sum.failed.connect += more.failed.connect;
    sum.failed.hold_expired += more.failed.hold_expired;
}

/// A counter that is lower than it was has begun again.
fn since(now: u64, then: u64) -> u64 {
    if now >= then { now - then } else { now }
}

/// Counters of ended requests, one by one. `requests` counts those in flight too and may go down, so it is left out.
fn zip(a: &mut Counters, b: &Counters, change: impl Fn(&mut u64, u64)) {
    for (a, b) in a.answered.iter_mut().zip(b.answered) {
        change(a, b);
    }
    change(&mut a.failed.connect, b.failed.connect);
    change(&mut a.failed.reset, b.failed.reset);
    change(&mut a.failed.cut, b.failed.cut);
    change(&mut a.failed.timeout, b.failed.timeout);
    change(&mut a.client_aborts, b.client_aborts);
    change(&mut a.gave_up, b.gave_up);
    change(&mut a.retries, b.retries);
}

fn add(sum: &mut Counters, more: &Counters) {
    zip(sum, more, |sum, more| *sum += more);
}

/// What the releases of these services counted between two snapshots of one instance.
fn counters(now: &Statistics, then: &Statistics, services: &BTreeSet<ServiceKey>) -> Counters {
    let mut sum = Counters::default();
    for release in now.releases.iter().filter(|release| services.contains(&release.release.service)) {
        let mut counted = release.counters;
        if let Some(earlier) = then.releases.iter().find(|earlier| earlier.release == release.release) {
            zip(&mut counted, &earlier.counters, |now, then| *now = since(*now, then));
        }
        add(&mut sum, &counted);
    }
    sum
}

/// The same for plain TCP, without what is held: `open` as it is now.
fn connections(now: &Statistics, then: &Statistics, services: &BTreeSet<ServiceKey>) -> Connections {
    let mut sum = Connections::default();
    for release in now.releases.iter().filter(|release| services.contains(&release.release.service)) {
        let earlier = then.releases.iter().find(|earlier| earlier.release == release.release);
        let (tcp, earlier) = (release.tcp, earlier.map(|earlier| earlier.tcp).unwrap_or_default());
        sum.served += since(tcp.ended(), earlier.ended());
        sum.closed += since(tcp.closed, earlier.closed);
        sum.failed.connect += since(tcp.failed, earlier.failed);
        sum.open += tcp.open;
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

#[cfg(test)]
mod tests {
    use super::*;
    use teal_model::ids::ReleaseKey;
    use teal_model::wire::{ReleaseStatistics, TcpCounters};

    fn db() -> ServiceKey {
        ServiceKey::new("shop", "db")
    }

    /// Of one instance: what the proxy says of a database with these connections.
    fn said(sequence: u64, tcp: TcpCounters, held: (u64, u64), tcp_held: (u64, u64)) -> Arc<Statistics> {
        let release = ReleaseStatistics {
            in_flight: tcp.open,
            tunnels: tcp.open,
            tcp,
            ..ReleaseStatistics::of(ReleaseKey::new(db(), 1))
        };
        let service = ServiceStatistics {
            service: db(),
            held: 0,
            held_total: held.0,
            hold_expired: held.1,
            tcp_held_total: tcp_held.0,
            tcp_hold_expired: tcp_held.1,
            longest_gap_us: 0,
        };
        Arc::new(Statistics { sequence, releases: vec![release], services: vec![service], ..Statistics::default() })
    }

    fn counted(messages: &[Arc<Statistics>]) -> Tally {
        let mut tally = Tally { services: BTreeSet::from([db()]), last: messages.first().cloned(), ..Tally::default() };
        messages.iter().skip(1).for_each(|message| tally.take(message));
        tally
    }

    #[test]
    fn connections_are_counted_beside_requests_and_none_twice() {
        let tally = counted(&[
            said(1, TcpCounters { connections: 10, failed: 1, open: 4, closed: 0 }, (3, 0), (2, 0)),
            said(2, TcpCounters { connections: 15, failed: 2, open: 6, closed: 0 }, (9, 2), (6, 1)),
            // One that no replica took has gone elsewhere: there are fewer than before, and nothing has begun again.
            said(3, TcpCounters { connections: 14, failed: 2, open: 3, closed: 2 }, (9, 2), (6, 1)),
        ]);
        assert_eq!(tally.unknown, None);
        let tcp = tally.tcp;
        assert_eq!((tcp.served, tcp.closed, tcp.open, tcp.held), (4, 2, 3, 4));
        assert_eq!((tcp.failed.connect, tcp.failed.hold_expired), (1, 1));
        assert_eq!((tally.held, tally.hold_expired), (2, 1), "the rest of those that waited were requests");
    }

    #[test]
    fn a_hole_in_the_statistics_makes_it_unknown() {
        let tcp = TcpCounters { connections: 10, ..TcpCounters::default() };
        assert!(counted(&[said(1, tcp, (0, 0), (0, 0)), said(3, tcp, (0, 0), (0, 0))]).unknown.is_some());
    }
}
