//! What became of the requests of one release.

use crate::wire::{Counters, ReleaseStatistics};
use serde::{Deserialize, Serialize};
use std::ops::AddAssign;

/// Requests that ended, and those of them that count against their release.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Counts {
    pub n: u64,
    pub bad: u64,
}

impl Counts {
    /// The bad ones as a part of all; 0 where there were none.
    pub fn rate(self) -> f64 {
        if self.n == 0 { 0.0 } else { self.bad as f64 / self.n as f64 }
    }
}

impl AddAssign for Counts {
    fn add_assign(&mut self, more: Self) {
        self.n += more.n;
        self.bad += more.bad;
    }
}

/// What ended between two statistics of one release; `then` None: since the proxy started.
///
/// Bad are answers of 5xx, requests without an answer or with half of one, and first attempts that were sent again elsewhere. Of those
/// whose client went away only the ones count that had waited long for an answer.
pub fn counts(now: &ReleaseStatistics, then: Option<&ReleaseStatistics>) -> Counts {
    let of = |count: fn(&Counters) -> u64| since(count(&now.counters), then.map_or(0, |then| count(&then.counters)));
    let well: u64 = (0..4)
        .map(|class| since(now.counters.answered[class], then.map_or(0, |then| then.counters.answered[class])))
        .sum();
    let bad = of(|counters| counters.answered[4])
        + of(|counters| counters.failed.connect)
        + of(|counters| counters.failed.reset)
        + of(|counters| counters.failed.cut)
        + of(|counters| counters.failed.timeout)
        + of(|counters| counters.gave_up)
        + of(|counters| counters.retries);
    Counts { n: well + bad, bad }
}

/// A counter that is lower than it was has begun again.
pub(super) fn since(now: u64, then: u64) -> u64 {
    if now >= then { now - then } else { now }
}
