//! What became of the calls: the form that the caller prints, and that tests read.

use crate::target::Resolve;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Failures that are kept with their words.
const KEPT: usize = 20;

/// All that one process has counted since it started. A later line of the same run holds all that an earlier one held.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Counts {
    /// When the process started; CLOCK_MONOTONIC in microseconds, like all times here.
    pub run: u64,
    pub at_us: u64,
    pub targets: Vec<Calls>,
}

/// The calls of one target, resolved in one way.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Calls {
    pub target: String,
    pub resolve: Resolve,
    pub calls: u64,
    pub failed: u64,
    /// Opened.
    pub connections: u64,
    /// Closed by the other side while idle, and noticed before anything was written: no failure.
    pub closed_idle: u64,
    pub causes: BTreeMap<Cause, u64>,
    /// Who answered.
    pub versions: BTreeMap<String, Answered>,
    /// The first failures.
    pub failures: Vec<Failure>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answered {
    pub answers: u64,
    /// The last time that a call could still have gone to another version, and went to this one: when an HTTP request was
    /// sent, when a TCP connection was opened.
    pub chosen_us: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// The name was not found.
    NoName,
    Refused,
    /// Any other error of connecting.
    NoConnection,
    /// End of stream before the answer.
    Closed,
    Reset,
    /// End of stream within the answer.
    Cut,
    Timeout,
    /// Not 2xx.
    Status,
    /// Another answer than the call must get.
    WrongAnswer,
    /// An answer of another service.
    WrongService,
    /// A name was found that must not be.
    Found,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    pub cause: Cause,
    pub at_us: u64,
    pub detail: String,
}

impl Calls {
    pub fn new(target: String, resolve: Resolve) -> Self {
        Self {
            target,
            resolve,
            calls: 0,
            failed: 0,
            connections: 0,
            closed_idle: 0,
            causes: BTreeMap::new(),
            versions: BTreeMap::new(),
            failures: Vec::new(),
        }
    }

    pub fn answered(&mut self, version: &str, chosen_us: u64) {
        self.calls += 1;
        let answered = self.versions.entry(version.to_owned()).or_default();
        answered.answers += 1;
        answered.chosen_us = answered.chosen_us.max(chosen_us);
    }

    pub fn failed(&mut self, failure: Failure) {
        self.calls += 1;
        self.failed += 1;
        *self.causes.entry(failure.cause).or_default() += 1;
        if self.failures.len() < KEPT {
            self.failures.push(failure);
        }
    }

    pub fn failed_by(&self, cause: Cause) -> u64 {
        self.causes.get(&cause).copied().unwrap_or(0)
    }

    fn add(&mut self, other: Self) {
        self.calls += other.calls;
        self.failed += other.failed;
        self.connections += other.connections;
        self.closed_idle += other.closed_idle;
        for (cause, count) in other.causes {
            *self.causes.entry(cause).or_default() += count;
        }
        for (version, theirs) in other.versions {
            let ours = self.versions.entry(version).or_default();
            ours.answers += theirs.answers;
            ours.chosen_us = ours.chosen_us.max(theirs.chosen_us);
        }
        self.failures.extend(other.failures);
        self.failures.truncate(KEPT);
    }
}

/// What all runs of a caller have counted, by the lines of its log: a container may have been restarted, and its log goes
/// on. Lines that are no counts are skipped.
pub fn of_log(log: &str) -> Vec<Calls> {
    let mut runs: BTreeMap<u64, Counts> = BTreeMap::new();
    for counts in log.lines().filter_map(|line| serde_json::from_str::<Counts>(line).ok()) {
        runs.insert(counts.run, counts);
    }
    let mut all: Vec<Calls> = Vec::new();
    for calls in runs.into_values().flat_map(|counts| counts.targets) {
        match all.iter_mut().find(|known| (&known.target, known.resolve) == (&calls.target, calls.resolve)) {
            Some(known) => known.add(calls),
            None => all.push(calls),
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(run: u64, answers: u64, failures: usize) -> String {
        let mut calls = Calls::new("http://app:8080/".into(), Resolve::Once);
        for at_us in 0..answers {
            calls.answered("v1", at_us);
        }
        for _ in 0..failures {
            calls.failed(Failure { cause: Cause::Refused, at_us: 1, detail: "x".into() });
        }
        serde_json::to_string(&Counts { run, at_us: 9, targets: vec![calls] }).unwrap()
    }

    #[test]
    fn the_last_line_of_each_run_counts() {
        let log = [line(1, 3, 0), line(1, 5, 1), "caller: no counts".into(), line(2, 2, 30)].join("\n");
        let all = of_log(&log);
        assert_eq!(all.len(), 1);
        assert_eq!((all[0].calls, all[0].failed, all[0].failed_by(Cause::Refused)), (38, 31, 31));
        assert_eq!(all[0].versions["v1"], Answered { answers: 7, chosen_us: 4 });
        assert_eq!(all[0].failures.len(), KEPT);
        assert_eq!(of_log(""), []);
    }
}
