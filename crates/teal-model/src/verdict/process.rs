//! Evidence that grows with what experts win.

use super::counts::Counts;

/// What one wall-clock second may multiply a bet by: errors come in bursts, and a burst is no fault.
const SECOND_AT_MOST: f64 = 5.0;
/// Of the money, for each expert at the start; the rest is laid in by and by, since a fault may begin at any time.
const AT_ONCE: f64 = 0.5;
/// The same for containment after it was released.
const AGAIN: f64 = 0.05;
/// So many times as many failures in a second as a bet foretells are a burst to it as well.
const FORETOLD_AT_MOST: f64 = 2.0;
/// The shortest span of time for which as much is laid in as for a bake.
const SPAN_MS: u64 = 300_000;
/// More need not be known. It also bounds how long a recovery takes to be seen.
const ENOUGH: f64 = 1e9;

/// How fast money is laid in: so much each second, of each expert's.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pace {
    lay_in: f64,
    /// Where the bake takes longer than it was given: a fault is still found, and each further span as long as a bake may be wrong half
    /// as often as the first.
    afterwards: f64,
}

impl Pace {
    pub fn of(bake_ms: u64) -> Self {
        let spread = |over_ms: u64| (1.0 - AT_ONCE) * 1000.0 / over_ms as f64;
        Self { lay_in: spread(bake_ms.max(1000)), afterwards: spread(bake_ms.max(SPAN_MS)) }
    }
}

#[derive(Debug, Clone)]
pub(super) struct Process {
    bets: Vec<Bet>,
    /// Not laid in yet.
    unspent: f64,
    /// Of the candidate, in this second.
    requests: u64,
}

/// What one bet is on.
#[derive(Debug, Clone, Copy)]
pub(super) struct Stake {
    /// The part of the candidate's requests that fails.
    pub rate: f64,
    /// Logarithm of what one failure wins.
    pub failure: f64,
}

#[derive(Debug, Clone)]
struct Bet {
    stake: Stake,
    /// Money before this second, with a second's gain bounded; and without.
    sure: f64,
    early: f64,
    /// Logarithm of what this second has won.
    second: f64,
    /// What it has won since it last had nothing to show, and on what.
    run: f64,
    onset: Onset,
}

/// What was counted since the trouble began, as one expert sees it.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Onset {
    pub since_ms: u64,
    pub candidate: Counts,
    pub live: Counts,
}

impl Process {
    pub fn new(stakes: impl Iterator<Item = Stake>, now_ms: u64) -> Self {
        let onset = Onset { since_ms: now_ms, ..Onset::default() };
        let bet = |stake| Bet { stake, sure: AT_ONCE, early: AT_ONCE, second: 0.0, run: 0.0, onset };
        Self { bets: stakes.map(bet).collect(), unspent: 1.0 - AT_ONCE, requests: 0 }
    }

    /// `gains`: logarithms, one an expert.
    pub fn add(&mut self, gains: impl Iterator<Item = f64>, candidate: Counts, live: Counts, now_ms: u64) {
        self.requests += candidate.n;
        for (bet, gain) in self.bets.iter_mut().zip(gains) {
            bet.second += gain;
            bet.run += gain;
            bet.onset.candidate += candidate;
            bet.onset.live += live;
            if bet.run <= 0.0 {
                bet.run = 0.0;
                bet.onset = Onset { since_ms: now_ms, ..Onset::default() };
            }
        }
    }

    /// The second is over. One without requests says nothing, so nothing is laid in for it: else time alone would be evidence.
    pub fn end_second(&mut self, pace: Pace) {
        let lay_in = match self.requests {
            0 => 0.0,
            _ if self.unspent > 0.0 => pace.lay_in.min(self.unspent),
            _ => pace.afterwards,
        };
        for bet in &mut self.bets {
            bet.sure = bet.sure(self.requests) + lay_in;
            bet.early = bet.early() + lay_in;
            bet.second = 0.0;
        }
        self.unspent = (self.unspent - lay_in).max(0.0);
        self.requests = 0;
    }

    /// To take a release back.
    pub fn sure(&self) -> f64 {
        self.mean(|bet| bet.sure(self.requests))
    }

    /// To turn its share down: also a burst counts.
    pub fn early(&self) -> f64 {
        self.mean(|bet| bet.early())
    }

    /// Containment begins anew, and more reluctantly.
    pub fn calm(&mut self) {
        for bet in &mut self.bets {
            // What this second has won stays with `sure` alone.
            bet.early = AGAIN * (-bet.second).exp();
        }
    }

    /// As the expert sees it who has won most.
    pub fn onset(&self) -> Onset {
        self.bets.iter().max_by(|a, b| a.run.total_cmp(&b.run)).map_or_else(Onset::default, |bet| bet.onset)
    }

    fn mean(&self, of: impl Fn(&Bet) -> f64) -> f64 {
        if self.bets.is_empty() {
            return 0.0;
        }
        self.bets.iter().map(of).sum::<f64>() / self.bets.len() as f64 + self.unspent
    }
}

impl Stake {
    /// Logarithm of what a second with so many requests may win at most. A bet on few failures wins little by many at once: they are
    /// not what it foretold, and would be remembered for minutes, as it loses just as little by each request that goes well.
    fn most(self, requests: u64) -> f64 {
        let foretold = 1.0 + FORETOLD_AT_MOST * self.rate * requests as f64;
        SECOND_AT_MOST.ln().min(foretold * self.failure)
    }
}

impl Bet {
    /// `requests`: of the candidate, in this second.
    fn sure(&self, requests: u64) -> f64 {
        (self.sure * self.second.min(self.stake.most(requests)).exp()).min(ENOUGH)
    }

    fn early(&self) -> f64 {
        (self.early * self.second.exp()).min(ENOUGH)
    }
}
