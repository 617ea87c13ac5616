//! Where a thread's clients write down what happened; and the live counts that others may look at meanwhile.

use super::record::{Cause, Failure, Record};
use std::collections::BTreeMap;

/// Failures kept with their details.
pub const FAILURES_KEPT: usize = 50;
const VERSION_MAX_BYTES: usize = 128;

#[derive(Debug, Default)]
pub struct Recorder {
    pub records: Vec<Record>,
    pub keep: usize,
    pub dropped: u64,
    pub failures: Vec<Failure>,
    pub causes: BTreeMap<Cause, u64>,
    pub versions: Vec<Vec<u8>>,
    pub live: Snapshot,
}

/// Counts while a prober runs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// Requests that ended, failed ones included.
    pub requests: u64,
    pub failed: u64,
    /// Idle keep-alive connections that the server closed, seen before the next request was written: no failure.
    pub closed_by_server: u64,
    /// Connections closed after an answer that had announced it.
    pub closed_as_announced: u64,
    /// Connections opened.
    pub connections: u64,
    /// WebSockets that ended with a close frame while no message was in flight.
    pub websockets_closed: u64,
    /// The longest latency since the last snapshot was taken.
    pub worst_us: u64,
    /// Answers without a failure, by version; the first entry has none.
    pub by_version: Vec<(String, u64)>,
}

impl Recorder {
    pub fn new(keep: usize) -> Self {
        Self {
            keep,
            versions: vec![Vec::new()],
            live: Snapshot { by_version: vec![(String::new(), 0)], ..Snapshot::default() },
            ..Self::default()
        }
    }

    /// The number of a version; there are few.
    pub fn intern(&mut self, version: &[u8]) -> u16 {
        if let Some(index) = self.versions.iter().rposition(|known| known == version) {
            return index as u16;
        }
        if version.len() > VERSION_MAX_BYTES || self.versions.len() >= usize::from(u16::MAX) {
            return 0;
        }
        self.versions.push(version.to_vec());
        self.live.by_version.push((String::from_utf8_lossy(version).into_owned(), 0));
        (self.versions.len() - 1) as u16
    }

    pub fn add(&mut self, record: Record) {
        self.live.requests += 1;
        self.live.worst_us = self.live.worst_us.max(record.latency_us());
        match record.cause {
            None => self.live.by_version[usize::from(record.version)].1 += 1,
            Some(cause) => {
                self.live.failed += 1;
                *self.causes.entry(cause).or_default() += 1;
            }
        }
        if self.records.len() < self.keep {
            self.records.push(record);
        } else {
            self.dropped += 1;
        }
    }

    pub fn explain(&mut self, failure: impl FnOnce() -> Failure) {
        if self.failures.len() < FAILURES_KEPT {
            self.failures.push(failure());
        }
    }
}

impl Snapshot {
    /// Adds another thread's counts.
    pub fn merge(&mut self, other: &Self) {
        self.requests += other.requests;
        self.failed += other.failed;
        self.closed_by_server += other.closed_by_server;
        self.closed_as_announced += other.closed_as_announced;
        self.connections += other.connections;
        self.websockets_closed += other.websockets_closed;
        self.worst_us = self.worst_us.max(other.worst_us);
        for (version, count) in &other.by_version {
            match self.by_version.iter_mut().find(|(known, _)| known == version) {
                Some((_, sum)) => *sum += count,
                None => self.by_version.push((version.clone(), *count)),
            }
        }
    }
}
