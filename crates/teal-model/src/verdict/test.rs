//! The two tests: the candidate against the live release, and either against what is usual.

use super::counts::Counts;
use super::expert::{Expert, Rule, score, usual, worse};
use super::process::Process;

/// The candidate beside the live release, over the same time.
#[derive(Debug, Clone)]
pub(super) struct Comparison {
    rule: Rule,
    experts: Vec<Expert>,
    /// Counted since both had a request.
    candidate: Counts,
    live: Counts,
    pub process: Process,
}

impl Comparison {
    pub fn new(rule: Rule, rate: f64, now_ms: u64) -> Self {
        let experts = Expert::all(rule, usual(rate));
        let process = Process::new(experts.len(), now_ms);
        Self { rule, experts, candidate: Counts::default(), live: Counts::default(), process }
    }

    pub fn add(&mut self, candidate: Counts, live: Counts, now_ms: u64) {
        self.candidate += candidate;
        self.live += live;
        if self.candidate.n == 0 || self.live.n == 0 {
            return;
        }
        let (candidate, live) = (std::mem::take(&mut self.candidate), std::mem::take(&mut self.live));
        let gains = self.experts.iter().map(|expert| expert.gain(self.rule, candidate, live));
        self.process.add(gains, candidate, live, now_ms);
    }
}

/// One release against the rate that the service usually has.
#[derive(Debug, Clone)]
pub(super) struct Usual {
    /// As it was given, for people.
    pub rate: f64,
    allowed: f64,
    worse: Vec<f64>,
    pub process: Process,
}

impl Usual {
    pub fn new(rule: Rule, rate: f64, now_ms: u64) -> Self {
        let worse: Vec<f64> = worse(rule, usual(rate)).collect();
        let process = Process::new(worse.len(), now_ms);
        Self { rate, allowed: rule.allows(usual(rate)), worse, process }
    }

    pub fn add(&mut self, counts: Counts, now_ms: u64) {
        if counts.n > 0 {
            let gains = self.worse.iter().map(|rate| score(counts, *rate, self.allowed));
            self.process.add(gains, counts, Counts::default(), now_ms);
        }
    }
}
