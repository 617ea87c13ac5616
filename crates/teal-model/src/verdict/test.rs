//! The two tests: the candidate against the live release, and either against what is usual.

use super::counts::Counts;
use super::expert::{Expert, Rule, score, usual, worse};
use super::process::{Process, Stake};
use super::reason::Part;

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
        let process = Process::new(experts.iter().map(|expert| expert.stake(rule)), now_ms);
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

/// Nobody takes so many failures for usual, of a service of which nothing is known.
const SUPPOSED: f64 = 0.1;

/// One release against the rate that the service usually has.
#[derive(Debug, Clone)]
pub(super) struct Usual {
    /// None: it has no history, so this test tells that something is very wrong, but takes nothing back.
    rate: Option<f64>,
    pub allowed: f64,
    worse: Vec<f64>,
    pub process: Process,
}

impl Usual {
    pub fn new(rule: Rule, rate: Option<f64>, now_ms: u64) -> Self {
        let supposed = usual(rate.unwrap_or(SUPPOSED));
        let allowed = rule.allows(supposed);
        let worse: Vec<f64> = worse(rule, supposed).collect();
        let stakes = worse.iter().map(|rate| Stake { rate: *rate, failure: (rate / allowed).ln() });
        let process = Process::new(stakes, now_ms);
        Self { rate, allowed, worse, process }
    }

    pub fn is_known(&self) -> bool {
        self.rate.is_some()
    }

    pub fn part(&self) -> Part {
        match self.rate {
            Some(usual) => Part::History { usual },
            None => Part::NoHistory { supposed: SUPPOSED },
        }
    }

    pub fn add(&mut self, counts: Counts, now_ms: u64) {
        if counts.n > 0 {
            let gains = self.worse.iter().map(|rate| score(counts, *rate, self.allowed));
            self.process.add(gains, counts, Counts::default(), now_ms);
        }
    }
}
