//! What others do, for comparison: a candidate is bad when more than 1 % of its requests in a minute failed.

use crate::bake::{Outcome, Scenario, TICK_MS};
use crate::random::Random;
use crate::requests::Requests;

const TOO_MANY: f64 = 0.01;
const MINUTE: u64 = 60_000 / TICK_MS;

/// As [`crate::bake`], by so many bad minutes in a row.
pub fn bake(scenario: &Scenario, strikes: u32, seed: u64) -> Outcome {
    let mut random = Random::new(seed);
    let mut requests = Requests::new(scenario, &mut random);
    let (mut before, mut struck, mut outcome) = ((0, 0), 0, Outcome::default());
    for tick in 1..=scenario.bake_ms / TICK_MS {
        let at_s = (tick * TICK_MS) as f64 / 1e3;
        requests.tick(at_s, f64::from(scenario.share) / 1e4, &mut random);
        if tick % MINUTE != 0 {
            continue;
        }
        let answered = requests.candidate.statistics.counters.answered;
        let (well, bad) = (answered[1] - before.0, answered[4] - before.1);
        before = (answered[1], answered[4]);
        outcome.bad = answered[4];
        let fails = bad as f64 > TOO_MANY * (well + bad) as f64;
        struck = if fails { struck + 1 } else { 0 };
        if struck == strikes {
            outcome.reverted_s = Some(at_s);
            return outcome;
        }
    }
    outcome.promoted = true;
    outcome
}
