//! The last seconds of both releases.

use super::counts::Counts;
use super::slow::Slow;
use std::collections::VecDeque;

/// What "recent" is, in seconds.
const RECENT: u64 = 10;
/// Requests of a release that say how it is now; with fewer in that time it looks back further.
const SAYS: u64 = 10;
/// But never more than this many seconds.
const LONGEST: u64 = 900;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Seen {
    pub requests: Counts,
    pub slow: Slow,
}

impl Seen {
    fn add(&mut self, more: Seen) {
        self.requests += more.requests;
        self.slow.p95 += more.slow.p95;
        self.slow.p99 += more.slow.p99;
    }
}

#[derive(Debug, Clone, Copy)]
struct Second {
    second: u64,
    candidate: Seen,
    live: Seen,
}

#[derive(Debug, Clone, Default)]
pub(super) struct Recent {
    seconds: VecDeque<Second>,
}

#[derive(Debug, Clone, Copy)]
pub(super) enum Of {
    Candidate,
    Live,
}

impl Recent {
    pub fn add(&mut self, second: u64, candidate: Seen, live: Seen) {
        if self.seconds.back().is_none_or(|last| last.second != second) {
            self.seconds.push_back(Second { second, candidate: Seen::default(), live: Seen::default() });
        }
        if let Some(last) = self.seconds.back_mut() {
            last.candidate.add(candidate);
            last.live.add(live);
        }
        while self.seconds.front().is_some_and(|first| first.second + LONGEST <= second) {
            self.seconds.pop_front();
        }
    }

    /// Requests a second to both.
    pub fn rate(&self, started_ms: u64, now_ms: u64) -> f64 {
        let first = (now_ms / 1000 + 1).saturating_sub(RECENT);
        let counted = self.seconds.iter().filter(|seen| seen.second >= first);
        let requests: u64 = counted.map(|seen| seen.candidate.requests.n + seen.live.requests.n).sum();
        let over_ms = now_ms.saturating_sub(started_ms.max(first * 1000)).max(100);
        requests as f64 * 1000.0 / over_ms as f64
    }

    /// Of the last ten seconds, or as many more as ten requests need; None: there were not so many after the second `after`.
    pub fn of(&self, which: Of, second: u64, after: Option<u64>) -> Option<Seen> {
        let mut sum = Seen::default();
        for seen in self.seconds.iter().rev().take_while(|seen| after.is_none_or(|after| seen.second > after)) {
            if seen.second + RECENT <= second && sum.requests.n >= SAYS {
                break;
            }
            sum.add(match which {
                Of::Candidate => seen.candidate,
                Of::Live => seen.live,
            });
        }
        (sum.requests.n >= SAYS).then_some(sum)
    }
}
