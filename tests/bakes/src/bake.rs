//! One bake, from the shift to its verdict.

use crate::random::Random;
use crate::requests::{Requests, latency_before};
use crate::trouble::{Slowing, Trouble};
use std::num::NonZeroUsize;
use teal_model::config::Rollback;
use teal_model::verdict::{Counts, End, Lines, Reason, Ruling, Slowness, Tick, Watch, counts};
use teal_model::wire::ReleaseStatistics;

pub const TICK_MS: u64 = 100;

#[derive(Debug, Clone, PartialEq)]
pub struct Scenario {
    pub trouble: Trouble,
    pub slowing: Slowing,
    /// One request in a hundred takes more than so many times the median; None: they take no time at all.
    pub latency: Option<f64>,
    /// The part of requests that fails without any trouble, and what the watch believes it is.
    pub usual: f64,
    pub history: Option<f64>,
    /// Requests a second, from each of these seconds on.
    pub rps: Vec<(f64, f64)>,
    /// The candidate's, at the shift: hundredths of a percent.
    pub share: u32,
    pub bake_ms: u64,
    pub rules: Rollback,
}

impl Scenario {
    pub fn new(rps: f64, share: u32) -> Self {
        Self {
            trouble: Trouble::None,
            slowing: Slowing::None,
            latency: None,
            usual: 0.001,
            history: Some(0.001),
            rps: vec![(0.0, rps)],
            share,
            bake_ms: 300_000,
            rules: Rollback::default(),
        }
    }

    pub fn with(self, trouble: Trouble) -> Self {
        Self { trouble, ..self }
    }

    /// Requests take time, the candidate's so much more; and it is taken back for that, or not.
    pub fn slowing(self, tail: f64, slowing: Slowing, reverts: bool) -> Self {
        let mut rules = self.rules;
        rules.on.latency = reverts;
        Self { slowing, latency: Some(tail), rules, ..self }
    }

    pub fn rps_at(&self, at_s: f64) -> f64 {
        self.rps.iter().take_while(|(from_s, _)| *from_s <= at_s).last().map_or(0.0, |(_, rps)| *rps)
    }

    /// When the candidate becomes worse.
    fn begins_s(&self) -> f64 {
        if let Trouble::Candidate { from_s, .. } = self.trouble { from_s } else { 0.0 }
    }
}

/// Times are seconds since the candidate became worse.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Outcome {
    pub reverted_s: Option<f64>,
    pub why: Option<Reason>,
    pub contained_s: Option<f64>,
    pub containments: u32,
    /// Failed requests of the candidate since then.
    pub bad: u64,
    /// It ended by a promotion, not by a revert and not undecided.
    pub promoted: bool,
}

/// Watches one candidate until something is decided.
pub fn bake(scenario: &Scenario, seed: u64) -> Outcome {
    let mut random = Random::new(seed);
    let mut requests = Requests::new(scenario, &mut random);
    let from_ms = 1_000_000_000 + random.between(0.0, 1000.0) as u64;
    let lines = scenario.latency.and_then(|tail| Lines::of(&latency_before(tail, &mut random)));
    let mut watch = Watch::new(&scenario.rules, scenario.bake_ms, scenario.history, lines, from_ms);
    let mut slowness = lines.map(|lines| (Slowness::candidate(&lines), Slowness::live(&lines)));
    let mut before = [requests.candidate.statistics.clone(), requests.live.statistics.clone()];
    let (mut share, mut outcome) = (scenario.share, Outcome::default());
    for tick in 1.. {
        let (at_s, now_ms) = ((tick * TICK_MS) as f64 / 1e3, from_ms + tick * TICK_MS);
        requests.tick(at_s, f64::from(share) / 1e4, &mut random);
        let (candidate, live) = (&requests.candidate.statistics, &requests.live.statistics);
        let counted = Tick {
            candidate: newly(candidate, &mut before[0]),
            live: Some(newly(live, &mut before[1])),
            slow: slowness.as_mut().map(|(ours, theirs)| (ours.take(candidate), theirs.take(live))),
            share,
        };
        let since_s = at_s - scenario.begins_s();
        if since_s > 0.0 {
            outcome.bad += counted.candidate.bad;
        }
        match watch.tick(now_ms, &counted) {
            Ruling::Keep => {}
            Ruling::Contain { share: less, .. } => {
                share = less;
                outcome.containments += 1;
                if since_s > 0.0 {
                    outcome.contained_s.get_or_insert(since_s);
                }
            }
            Ruling::Release { share: more } => share = more,
            Ruling::Revert { why } => {
                outcome.reverted_s = Some(since_s);
                outcome.why = Some(why);
                return outcome;
            }
        }
        match watch.at_end(now_ms) {
            End::Extend { .. } => {}
            end => {
                outcome.promoted = end == End::Promote;
                return outcome;
            }
        }
    }
    outcome
}

/// What the statistics have more than before.
fn newly(now: &ReleaseStatistics, before: &mut ReleaseStatistics) -> Counts {
    let counted = counts(now, Some(before));
    before.counters = now.counters;
    counted
}

/// Many of them, on all processors. Which bake has which seed does not depend on how many there are of either.
pub fn bakes(scenario: &Scenario, seed: u64, bakes: usize) -> Vec<Outcome> {
    let threads = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
    let mut outcomes = vec![Outcome::default(); bakes];
    std::thread::scope(|scope| {
        for (chunk, part) in outcomes.chunks_mut(bakes.div_ceil(threads).max(1)).enumerate() {
            let first = chunk * bakes.div_ceil(threads);
            scope.spawn(move || {
                for (index, outcome) in part.iter_mut().enumerate() {
                    *outcome = bake(scenario, seed << 32 | (first + index) as u64);
                }
            });
        }
    });
    outcomes
}
