//! How many requests may be sent again: retries must not become the load that keeps a sick application down.

use std::cell::Cell;
use std::time::{Duration, Instant};

const WINDOW: Duration = Duration::from_secs(5);
/// Always allowed in two windows.
const FLOOR: u32 = 100;
/// One retry for so many requests.
const PER_RETRY: u32 = 5;

/// Counts of the current window and the one before.
#[derive(Debug)]
pub(crate) struct Budget {
    since: Cell<Instant>,
    requests: Cell<[u32; 2]>,
    retries: Cell<[u32; 2]>,
}

impl Budget {
    pub(crate) fn new(now: Instant) -> Self {
        Self { since: Cell::new(now), requests: Cell::default(), retries: Cell::default() }
    }

    pub(crate) fn request(&self, now: Instant) {
        self.turn(now);
        let [current, before] = self.requests.get();
        self.requests.set([current.saturating_add(1), before]);
    }

    /// Whether one more may be sent again; counts it if so.
    pub(crate) fn retry(&self, now: Instant) -> bool {
        self.turn(now);
        let sum = |[current, before]: [u32; 2]| current.saturating_add(before);
        let allowed = FLOOR.max(sum(self.requests.get()) / PER_RETRY);
        let [current, before] = self.retries.get();
        let granted = sum([current, before]) < allowed;
        self.retries.set([current + u32::from(granted), before]);
        granted
    }

    fn turn(&self, now: Instant) {
        let passed = now.saturating_duration_since(self.since.get());
        if passed < WINDOW {
            return;
        }
        self.since.set(now);
        let turned = |counts: [u32; 2]| [0, if passed < 2 * WINDOW { counts[0] } else { 0 }];
        self.requests.set(turned(self.requests.get()));
        self.retries.set(turned(self.retries.get()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fifth_of_the_requests_may_be_sent_again_and_a_few_always() {
        let start = Instant::now();
        let budget = Budget::new(start);
        let granted = |now| (0..1_000_000).take_while(|_| budget.retry(now)).count();
        assert_eq!(granted(start), 100);
        (0..1000).for_each(|_| budget.request(start));
        assert_eq!(granted(start), 100, "200 in all");
        assert_eq!(granted(start + WINDOW), 0);
        assert_eq!(granted(start + 2 * WINDOW), 100);
    }
}
