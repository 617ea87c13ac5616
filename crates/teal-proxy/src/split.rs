//! The shares of a service: which release the next request goes to, and which one a user belongs to.
//!
//! ```text
//! weights 3:1, a round of four     credit  a  b      next
//!                                          3  1  ─▶  a     each request adds the weights and
//!                                          2  2  ─▶  a     takes their sum from the one chosen
//!                                          1  3  ─▶  b
//!                                          4  0  ─▶  a
//! ```

use std::cell::Cell;
use teal_model::ids::ReleaseKey;
use teal_model::wire;

/// A round that is longer begins within its first so many steps.
const LONGEST_ROUND: i64 = 20_000;

/// Smooth weighted round robin over the releases with a share. It outlives the table while its shares stay the same, since
/// a round begun anew with every table would never reach the end where a small share has its turn.
#[derive(Debug, Default)]
pub(crate) struct Split {
    shares: Vec<Share>,
}

#[derive(Debug)]
struct Share {
    release: ReleaseKey,
    weight: i64,
    credit: Cell<i64>,
}

fn with_weight(shares: &[wire::Share]) -> impl Iterator<Item = &wire::Share> {
    shares.iter().filter(|share| share.weight > 0)
}

impl Split {
    /// `phase`: where in its round it begins, in parts of 2^32. Workers that all began at the front would give a small share
    /// nothing at first, and then all at once.
    pub(crate) fn new(shares: &[wire::Share], phase: u32) -> Self {
        let share = |share: &wire::Share| Share {
            release: share.release.clone(),
            weight: share.weight.into(),
            credit: Cell::new(0),
        };
        let split = Self { shares: with_weight(shares).map(share).collect() };
        let divisor = split.shares.iter().fold(0, |divisor, share| greatest_common(divisor, share.weight));
        let round = split.total() / divisor.max(1);
        for _ in 0..(round.min(LONGEST_ROUND) * i64::from(phase)) >> 32 {
            split.next(|_| true);
        }
        split
    }

    pub(crate) fn is_of(&self, shares: &[wire::Share]) -> bool {
        let mine = self.shares.iter().map(|share| (&share.release, share.weight));
        mine.eq(with_weight(shares).map(|share| (&share.release, i64::from(share.weight))))
    }

    pub(crate) fn releases(&self) -> impl Iterator<Item = &ReleaseKey> {
        self.shares.iter().map(|share| &share.release)
    }

    fn total(&self) -> i64 {
        self.shares.iter().map(|share| share.weight).sum()
    }

    /// The share that a place lies in, which is in parts of 2^64: the first share is the lowest interval.
    pub(crate) fn at(&self, place: u64) -> Option<usize> {
        // Neither is negative.
        let point = (u128::from(place) * self.total() as u128) >> 64;
        let mut end = 0;
        self.shares.iter().position(|share| {
            end += share.weight as u128;
            point < end
        })
    }

    /// The share whose turn it is among those that are usable.
    pub(crate) fn next(&self, usable: impl Fn(usize) -> bool) -> Option<usize> {
        let mut total = 0;
        let mut best: Option<(usize, &Share)> = None;
        for (at, share) in self.shares.iter().enumerate().filter(|(at, _)| usable(*at)) {
            total += share.weight;
            share.credit.set(share.credit.get() + share.weight);
            if best.is_none_or(|(_, best)| share.credit.get() > best.credit.get()) {
                best = Some((at, share));
            }
        }
        let (at, share) = best?;
        share.credit.set(share.credit.get() - total);
        Some(at)
    }
}

fn greatest_common(a: i64, b: i64) -> i64 {
    if b == 0 { a } else { greatest_common(b, a % b) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use teal_model::ids::ServiceKey;

    fn shares(weights: &[u32]) -> Vec<wire::Share> {
        let release = |number| ReleaseKey::new(ServiceKey::new("shop", "web"), number);
        (1..).zip(weights).map(|(number, weight)| wire::Share { release: release(number), weight: *weight }).collect()
    }

    fn counts(splits: &[Split], requests: usize) -> Vec<usize> {
        let mut counts = vec![0; splits[0].shares.len()];
        for n in 0..requests {
            counts[splits[n % splits.len()].next(|_| true).expect("a share")] += 1;
        }
        counts
    }

    #[test]
    fn ten_thousand_requests_are_split_exactly_whatever_the_weights_and_phases() {
        for weights in [&[99, 1][..], &[9900, 100], &[9999, 1], &[50, 25, 25], &[3333, 6667], &[1, 1, 1], &[7, 93]] {
            for workers in [1, 2, 3, 8] {
                let split = |worker: u32| Split::new(&shares(weights), worker.wrapping_mul(0x9E37_79B9));
                let counts = counts(&(0..workers).map(split).collect::<Vec<_>>(), 10_000);
                let sum: u32 = weights.iter().sum();
                for (count, weight) in counts.iter().zip(weights) {
                    let expected = 10_000.0 * f64::from(*weight) / f64::from(sum);
                    assert!(
                        (*count as f64 - expected).abs() <= 1.0 + workers as f64,
                        "{weights:?} {workers} {counts:?}"
                    );
                }
            }
        }
    }

    #[test]
    fn a_share_of_one_percent_gets_its_part_also_where_no_split_lives_for_a_round() {
        let mut phase = 0_u32;
        let mut candidate = 0;
        for _ in 0..10_000 {
            phase = phase.wrapping_add(0x9E37_79B9);
            candidate += usize::from(Split::new(&shares(&[99, 1]), phase).next(|_| true) == Some(1));
        }
        assert!((90..=110).contains(&candidate), "{candidate}");
    }

    #[test]
    fn the_requests_of_a_share_that_cannot_be_used_go_to_the_others() {
        let split = Split::new(&shares(&[50, 25, 25]), 7);
        let mut counts = [0; 3];
        (0..300).for_each(|_| counts[split.next(|at| at != 0).expect("a share")] += 1);
        assert_eq!(counts, [0, 150, 150]);
        assert_eq!(split.next(|_| false), None);
    }

    #[test]
    fn a_split_is_the_same_while_its_shares_are() {
        let split = Split::new(&shares(&[1, 0, 2]), 0);
        assert!(split.is_of(&shares(&[1, 0, 2])) && split.shares.len() == 2);
        assert!(!split.is_of(&shares(&[2, 0, 1])) && !split.is_of(&shares(&[1, 1, 2])));
    }
}
