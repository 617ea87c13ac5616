//! What a run showed: totals, latencies, and questions about stretches of time.

use super::drive::Harvest;
use super::record::{Cause, Failure, Kind, Record};
use super::recorder::{FAILURES_KEPT, Snapshot};
use std::collections::BTreeMap;
use std::fmt;

/// Beyond it the load generator itself is what is measured.
pub const BUSY_MAX: f64 = 0.8;

/// A run that is over. All times are CLOCK_MONOTONIC in microseconds.
#[derive(Debug)]
pub struct Report {
    pub started_us: u64,
    pub ended_us: u64,
    /// Exact, even when not every record was kept.
    pub totals: Snapshot,
    pub causes: BTreeMap<Cause, u64>,
    /// The first failures.
    pub failures: Vec<Failure>,
    /// In the order in which requests ended.
    pub records: Vec<Record>,
    /// Requests that were counted but have no record: then answers below about times are about the rest only.
    pub records_dropped: u64,
    /// What `Record::version` means.
    pub versions: Vec<String>,
    /// Processor time of all threads.
    pub cpu_us: u64,
    /// Processor time by elapsed time, of the busiest thread.
    pub busy_share: f64,
}

/// Counts of a stretch of time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    pub from_us: u64,
    pub sent: u64,
    pub answered: u64,
    pub failed: u64,
    pub worst_us: u64,
}

impl Report {
    pub(super) fn from_harvests(harvests: Vec<Harvest>) -> Self {
        let mut report = Self {
            started_us: u64::MAX,
            ended_us: 0,
            totals: Snapshot::default(),
            causes: BTreeMap::new(),
            failures: Vec::new(),
            records: Vec::new(),
            records_dropped: 0,
            versions: vec![String::new()],
            cpu_us: 0,
            busy_share: 0.0,
        };
        for harvest in harvests {
            report.add(harvest);
        }
        report.records.sort_by_key(Record::ended_us);
        report.failures.sort_by_key(|failure| failure.failed_us);
        report.failures.truncate(FAILURES_KEPT);
        report
    }

    fn add(&mut self, harvest: Harvest) {
        let elapsed_us = harvest.ended_us.saturating_sub(harvest.started_us).max(1);
        self.started_us = self.started_us.min(harvest.started_us);
        self.ended_us = self.ended_us.max(harvest.ended_us);
        self.cpu_us += harvest.cpu_us;
        self.busy_share = self.busy_share.max(harvest.cpu_us as f64 / elapsed_us as f64);
        let mut recorder = harvest.recorder;
        self.totals.merge(&recorder.live);
        for (cause, count) in recorder.causes {
            *self.causes.entry(cause).or_default() += count;
        }
        let mapped: Vec<u16> =
            recorder.versions.iter().map(|version| self.intern(&String::from_utf8_lossy(version))).collect();
        for record in &mut recorder.records {
            record.version = mapped[usize::from(record.version)];
        }
        self.records.append(&mut recorder.records);
        self.records_dropped += recorder.dropped;
        self.failures.append(&mut recorder.failures);
    }

    fn intern(&mut self, version: &str) -> u16 {
        if let Some(index) = self.versions.iter().position(|known| known == version) {
            return index as u16;
        }
        self.versions.push(version.to_owned());
        (self.versions.len() - 1) as u16
    }

    pub fn requests(&self) -> u64 {
        self.totals.requests
    }

    pub fn failed(&self) -> u64 {
        self.totals.failed
    }

    pub fn failed_by(&self, cause: Cause) -> u64 {
        self.causes.get(&cause).copied().unwrap_or(0)
    }

    pub fn requests_per_second(&self) -> f64 {
        self.totals.requests as f64 / (self.ended_us.saturating_sub(self.started_us).max(1) as f64 / 1e6)
    }

    /// Why this run proves nothing about the server, if so.
    pub fn void(&self) -> Option<String> {
        (self.busy_share > BUSY_MAX).then(|| {
            format!("the load generator was {:.0} % busy, over {:.0} %", self.busy_share * 100.0, BUSY_MAX * 100.0)
        })
    }

    /// Answers without a failure, by when they ended. Slow requests and WebSocket messages are answers too.
    fn good(&self) -> impl Iterator<Item = &Record> {
        self.records.iter().filter(|record| record.ok())
    }

    /// The latency that the share `q` (0 to 1) of good answers kept within; slow requests, which wait on purpose,
    /// are left out. None without answers.
    pub fn latency_us(&self, q: f64) -> Option<u64> {
        self.latency_between(q, 0, u64::MAX)
    }

    /// The same, of requests due in a stretch of time.
    pub fn latency_between(&self, q: f64, from_us: u64, to_us: u64) -> Option<u64> {
        let due = |record: &&Record| (from_us..to_us).contains(&record.due_us) && record.kind != Kind::Slow;
        let mut latencies: Vec<u64> = self.good().filter(due).map(Record::latency_us).collect();
        if latencies.is_empty() {
            return None;
        }
        let rank = ((latencies.len() as f64 * q).ceil() as usize).clamp(1, latencies.len()) - 1;
        Some(*latencies.select_nth_unstable(rank).1)
    }

    /// The longest time without any good answer to anyone, in microseconds; the ends of the stretch count like answers.
    pub fn longest_gap(&self, from_us: u64, to_us: u64) -> u64 {
        self.longest_gap_at(from_us, to_us).1
    }

    /// The same, with the moment it began.
    pub fn longest_gap_at(&self, from_us: u64, to_us: u64) -> (u64, u64) {
        let (mut last_us, mut longest) = (from_us, (from_us, 0));
        let answers = self.good().map(Record::ended_us).filter(|us| (from_us..to_us).contains(us));
        for us in answers.chain([to_us]) {
            let gap_us = us.saturating_sub(last_us);
            if gap_us > longest.1 {
                longest = (last_us, gap_us);
            }
            last_us = us;
        }
        longest
    }

    /// Good answers that ended in a stretch of time.
    pub fn answers_between(&self, from_us: u64, to_us: u64) -> u64 {
        self.good().filter(|record| (from_us..to_us).contains(&record.ended_us())).count() as u64
    }

    pub fn requests_sent_between(&self, from_us: u64, to_us: u64) -> u64 {
        self.records.iter().filter(|record| (from_us..to_us).contains(&record.sent_us())).count() as u64
    }

    pub fn failed_between(&self, from_us: u64, to_us: u64) -> u64 {
        let failed = |record: &&Record| !record.ok() && (from_us..to_us).contains(&record.ended_us());
        self.records.iter().filter(failed).count() as u64
    }

    /// Requests sent after a flip was acknowledged, and answered by the old version all the same. Messages on a
    /// WebSocket opened before are none: they stay with their release until it is drained.
    pub fn stale_answers(&self, acked_at_us: u64, old_version: &str) -> Vec<Record> {
        let Some(old) = self.version(old_version) else {
            return Vec::new();
        };
        let stale = |record: &&Record| {
            record.version == old && record.sent_us() > acked_at_us && record.kind != Kind::WebSocketMessage
        };
        self.records.iter().filter(stale).copied().collect()
    }

    /// Good answers of a version, over the whole run; exact.
    pub fn answers_of(&self, version: &str) -> u64 {
        self.totals.by_version.iter().find(|(known, _)| known == version).map_or(0, |(_, count)| *count)
    }

    /// When a version gave its first good answer.
    pub fn first_answer_of(&self, version: &str) -> Option<u64> {
        let version = self.version(version)?;
        self.good().find(|record| record.version == version).map(Record::ended_us)
    }

    /// When the last request that a version answered well was sent, WebSocket messages apart.
    pub fn last_sent_to(&self, version: &str) -> Option<u64> {
        let version = self.version(version)?;
        let of_it = |record: &&Record| record.version == version && record.kind != Kind::WebSocketMessage;
        self.good().filter(of_it).map(Record::sent_us).max()
    }

    /// When the last request was sent that failed, or that this version answered, well or not.
    pub fn last_exposed_to(&self, version: &str) -> Option<u64> {
        let version = self.version(version);
        let exposed = |record: &&Record| !record.ok() || Some(record.version) == version;
        self.records.iter().filter(exposed).map(Record::sent_us).max()
    }

    /// The part of the good answers to requests of a stretch of time that this version gave. None without answers.
    pub fn share_of(&self, version: &str, from_us: u64, to_us: u64) -> Option<f64> {
        let version = self.version(version);
        let sent = self.good().filter(|record| (from_us..to_us).contains(&record.sent_us()));
        let (all, its) =
            sent.fold((0u64, 0u64), |(all, its), record| (all + 1, its + u64::from(Some(record.version) == version)));
        (all > 0).then(|| its as f64 / all as f64)
    }

    /// The whole run in slices of `width_us`.
    pub fn windows(&self, width_us: u64) -> Vec<Window> {
        let width_us = width_us.max(1);
        let slices = (self.ended_us.saturating_sub(self.started_us) / width_us + 1) as usize;
        let mut windows: Vec<Window> = (0..slices as u64)
            .map(|slice| Window {
                from_us: self.started_us + slice * width_us,
                sent: 0,
                answered: 0,
                failed: 0,
                worst_us: 0,
            })
            .collect();
        let place = |us: u64| ((us.saturating_sub(self.started_us) / width_us) as usize).min(slices - 1);
        for record in &self.records {
            windows[place(record.sent_us())].sent += 1;
            let window = &mut windows[place(record.ended_us())];
            if record.ok() {
                window.answered += 1
            } else {
                window.failed += 1
            }
            window.worst_us = window.worst_us.max(record.latency_us());
        }
        windows
    }

    fn version(&self, name: &str) -> Option<u16> {
        self.versions.iter().position(|known| known == name).map(|index| index as u16)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.ended_us.saturating_sub(self.started_us) as f64 / 1e6;
        let millis = |q: f64| self.latency_us(q).map_or_else(|| "-".to_owned(), |us| format!("{:.2}", us as f64 / 1e3));
        writeln!(
            f,
            "{} requests in {seconds:.1} s ({:.0}/s), {} failed",
            self.totals.requests,
            self.requests_per_second(),
            self.totals.failed
        )?;
        writeln!(
            f,
            "latency ms: median {}  p99 {}  p99.9 {}  max {}; longest time without an answer: {:.1} ms",
            millis(0.5),
            millis(0.99),
            millis(0.999),
            millis(1.0),
            self.longest_gap(self.started_us, self.ended_us) as f64 / 1e3
        )?;
        writeln!(
            f,
            "connections: {} opened, {} closed by the server while idle, {} closed as announced; WebSockets closed in order: {}",
            self.totals.connections,
            self.totals.closed_by_server,
            self.totals.closed_as_announced,
            self.totals.websockets_closed
        )?;
        for (version, count) in self.totals.by_version.iter().filter(|(_, count)| *count > 0) {
            writeln!(f, "version {}: {count} answers", if version.is_empty() { "unknown" } else { version })?;
        }
        for (cause, count) in &self.causes {
            writeln!(f, "failed, {cause}: {count}")?;
        }
        for failure in &self.failures {
            writeln!(f, "  {failure}")?;
        }
        if self.records_dropped > 0 {
            writeln!(
                f,
                "{} requests were counted without a record; latencies are of the others",
                self.records_dropped
            )?;
        }
        write!(f, "load generator: {:.0} % of a core", self.busy_share * 100.0)
    }
}
