//! How often a live release fails when nobody deploys.

use super::counts::Counts;
use serde::{Deserialize, Serialize};

/// Old requests count half as much a day later, so a bad hour is forgotten in a week.
const HALF_LIFE_MS: f64 = 86_400_000.0;
/// Fewer say too little of one in a thousand.
const ENOUGH: f64 = 2_000.0;

#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct History {
    n: f64,
    bad: f64,
}

impl History {
    /// What was counted in the last `over_ms` milliseconds.
    pub fn add(&mut self, counts: Counts, over_ms: u64) {
        let fade = (-(over_ms as f64) / HALF_LIFE_MS).exp2();
        self.n = self.n * fade + counts.n as f64;
        self.bad = self.bad * fade + counts.bad as f64;
    }

    /// The part of its requests that failed; None before there were enough.
    pub fn rate(&self) -> Option<f64> {
        (self.n >= ENOUGH).then(|| self.bad / self.n)
    }
}
