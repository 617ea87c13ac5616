//! Requests that take longer than those of the live release did.

use super::counts::{Counts, since};
use crate::wire::{Latency, ReleaseStatistics};
use serde::{Deserialize, Serialize};

/// Requests of the live release without which its latency is not known.
const ENOUGH: u64 = 2_000;
/// What the candidate may take longer.
const LONGER_US: u64 = 10_000;

/// A latency that a known part of the live release's requests exceeded before the shift.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Line {
    /// Microseconds: the border of a bucket of [`Latency`].
    pub us: u64,
    /// The part of requests above it.
    pub above: f64,
}

impl Line {
    fn of(latency: &Latency, part: f64) -> Option<Self> {
        let us = latency.quantile_us(part)?;
        Some(Self { us, above: above(latency, us) as f64 / latency.count() as f64 })
    }

    /// A quarter more and 10 ms.
    pub fn candidate_us(self) -> u64 {
        self.us.saturating_add(self.us / 4).saturating_add(LONGER_US)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Lines {
    pub p95: Line,
    pub p99: Line,
}

impl Lines {
    /// Of the live release before the shift; None: too few requests to tell.
    pub fn of(latency: &Latency) -> Option<Self> {
        if latency.count() < ENOUGH {
            return None;
        }
        Some(Self { p95: Line::of(latency, 0.95)?, p99: Line::of(latency, 0.99)? })
    }
}

/// Requests that did not fail; bad are those that crossed the line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Slow {
    pub p95: Counts,
    pub p99: Counts,
}

/// Follows the statistics of one release, and counts a request in the moment in which it is known on which side of a line it is: a fast
/// one when its answer comes, a slow one when its age crosses the line. So requests that hang are seen before they end.
#[derive(Debug, Clone)]
pub struct Slowness {
    p95: Crossing,
    p99: Crossing,
}

#[derive(Debug, Clone)]
struct Crossing {
    us: u64,
    answered: u64,
    fast: u64,
    slow: u64,
}

impl Slowness {
    pub fn candidate(lines: &Lines) -> Self {
        Self { p95: Crossing::of(lines.p95.candidate_us()), p99: Crossing::of(lines.p99.candidate_us()) }
    }

    pub fn live(lines: &Lines) -> Self {
        Self { p95: Crossing::of(lines.p95.us), p99: Crossing::of(lines.p99.us) }
    }

    /// What came since the statistics before; the first time, since the proxy started.
    pub fn take(&mut self, now: &ReleaseStatistics) -> Slow {
        Slow { p95: self.p95.take(now), p99: self.p99.take(now) }
    }
}

impl Crossing {
    fn of(us: u64) -> Self {
        Self { us, answered: 0, fast: 0, slow: 0 }
    }

    fn take(&mut self, now: &ReleaseStatistics) -> Counts {
        let answered = now.latency.count();
        if answered < self.answered {
            *self = Self::of(self.us);
        }
        let over = above(&now.latency, self.us);
        let (fast, slow) = (answered - over, over + above(&now.waiting, self.us));
        // One that waited too long and then failed is no answer at all: `slow` stays, and makes up for the next one.
        let newly = slow.saturating_sub(self.slow);
        let counts = Counts { n: since(fast, self.fast) + newly, bad: newly };
        *self = Self { us: self.us, answered, fast, slow: self.slow + newly };
        counts
    }
}

/// Those in buckets above the one of `us`.
fn above(latency: &Latency, us: u64) -> u64 {
    latency.buckets.iter().skip(Latency::bucket(us) + 1).sum()
}
