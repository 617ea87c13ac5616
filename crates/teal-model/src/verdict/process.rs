//! Evidence that grows with what experts win.

use super::counts::Counts;

/// What one wall-clock second may multiply a bet by: errors come in bursts, and a burst is no fault.
const SECOND_AT_MOST: f64 = 5.0;
/// Of the money, for each expert at the start; the rest is laid in by and by, since a fault may begin at any time.
const AT_ONCE: f64 = 0.5;
/// The same for containment after it was released.
const AGAIN: f64 = 0.05;
/// More need not be known. It also bounds how long a recovery takes to be seen.
const ENOUGH: f64 = 1e9;

#[derive(Debug, Clone)]
pub(super) struct Process {
    bets: Vec<Bet>,
    /// Not laid in yet.
    unspent: f64,
}

#[derive(Debug, Clone)]
struct Bet {
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
    pub fn new(experts: usize, now_ms: u64) -> Self {
        let onset = Onset { since_ms: now_ms, ..Onset::default() };
        let bet = Bet { sure: AT_ONCE, early: AT_ONCE, second: 0.0, run: 0.0, onset };
        Self { bets: vec![bet; experts], unspent: 1.0 - AT_ONCE }
    }

    /// `gains`: logarithms, one an expert.
    pub fn add(&mut self, gains: impl Iterator<Item = f64>, candidate: Counts, live: Counts, now_ms: u64) {
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

    /// `lay_in`: for each expert, for the seconds that ended.
    pub fn end_second(&mut self, lay_in: f64) {
        for bet in &mut self.bets {
            bet.sure = bet.sure() + lay_in;
            bet.early = bet.early() + lay_in;
            bet.second = 0.0;
        }
        // Longer than the bake it goes on at the same rate: each further span of that length may be wrong half as often as the first.
        self.unspent = (self.unspent - lay_in).max(0.0);
    }

    /// To take a release back.
    pub fn sure(&self) -> f64 {
        self.mean(Bet::sure)
    }

    /// To turn its share down: also a burst counts.
    pub fn early(&self) -> f64 {
        self.mean(Bet::early)
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

    fn mean(&self, of: fn(&Bet) -> f64) -> f64 {
        if self.bets.is_empty() {
            return 0.0;
        }
        self.bets.iter().map(of).sum::<f64>() / self.bets.len() as f64 + self.unspent
    }
}

impl Bet {
    fn sure(&self) -> f64 {
        (self.sure * self.second.exp().min(SECOND_AT_MOST)).min(ENOUGH)
    }

    fn early(&self) -> f64 {
        (self.early * self.second.exp()).min(ENOUGH)
    }
}
