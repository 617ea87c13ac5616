//! The last seconds of both releases.

use super::counts::Counts;
use super::slow::Slow;
use std::collections::VecDeque;

/// What "recent" is, in seconds.
const RECENT: u64 = 10;
/// Requests of a release that say how it is now; with fewer in that time it looks back further.
const SAYS: u64 = 10;
/// But never more than this many seconds.
const LONGEST: u64 = 3_600;

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
    seen: Seen,
}

/// Seconds of one release that had requests.
#[derive(Debug, Clone, Default)]
struct Tail {
    seconds: VecDeque<Second>,
}

#[derive(Debug, Clone, Default)]
pub(super) struct Recent {
    candidate: Tail,
    live: Tail,
}

#[derive(Debug, Clone, Copy)]
pub(super) enum Of {
    Candidate,
    Live,
}

impl Recent {
    pub fn add(&mut self, second: u64, candidate: Seen, live: Seen) {
        self.candidate.add(second, candidate);
        self.live.add(second, live);
    }

    /// Requests a second to both.
    pub fn rate(&self, started_ms: u64, now_ms: u64) -> f64 {
        let first = (now_ms / 1000 + 1).saturating_sub(RECENT);
        let requests: u64 = [&self.candidate, &self.live].iter().map(|tail| tail.since(first)).sum();
        let over_ms = now_ms.saturating_sub(started_ms.max(first * 1000)).max(100);
        requests as f64 * 1000.0 / over_ms as f64
    }

    /// Of the last ten seconds, or as many more as ten requests need; None: there were not so many after the second `after`.
    pub fn of(&self, which: Of, second: u64, after: Option<u64>) -> Option<Seen> {
        let tail = match which {
            Of::Candidate => &self.candidate,
            Of::Live => &self.live,
        };
        tail.seen(second, after)
    }
}

impl Tail {
    fn add(&mut self, second: u64, seen: Seen) {
        if seen == Seen::default() {
            return;
        }
        if self.seconds.back().is_none_or(|last| last.second != second) {
            self.seconds.push_back(Second { second, seen: Seen::default() });
        }
        if let Some(last) = self.seconds.back_mut() {
            last.seen.add(seen);
        }
        while self.seconds.front().is_some_and(|first| first.second + RECENT <= second && self.says_without(first)) {
            self.seconds.pop_front();
        }
    }

    /// Those after the first say enough, or it is from too long ago.
    fn says_without(&self, first: &Second) -> bool {
        let newest = self.seconds.back().map_or(0, |last| last.second);
        let others: u64 = self.seconds.iter().skip(1).map(|one| one.seen.requests.n).sum();
        others >= SAYS || first.second + LONGEST <= newest
    }

    fn since(&self, first: u64) -> u64 {
        self.seconds.iter().filter(|one| one.second >= first).map(|one| one.seen.requests.n).sum()
    }

    fn seen(&self, second: u64, after: Option<u64>) -> Option<Seen> {
        let mut sum = Seen::default();
        for one in self.seconds.iter().rev().take_while(|one| after.is_none_or(|after| one.second > after)) {
            if one.second + RECENT <= second && sum.requests.n >= SAYS {
                break;
            }
            sum.add(one.seen);
        }
        (sum.requests.n >= SAYS).then_some(sum)
    }
}
