//! An expert bets on two rates of failure: one of the live release, one of the candidate.

use super::counts::Counts;
use super::process::Stake;

/// What "no worse" is: the candidate's rate is at most `ratio` times the live one's, and `margin`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Rule {
    pub ratio: f64,
    pub margin: f64,
}

impl Rule {
    /// The highest rate of a candidate beside a live release with this one.
    pub fn allows(self, live: f64) -> f64 {
        self.ratio * live + self.margin
    }
}

/// No rate is known so well that less could be said.
const LEAST: f64 = 5e-4;
/// A live release that fails more often than this is no measure for another.
const MOST: f64 = 0.5;
/// Where both releases fail, or the usual rate is wrong.
const OTHERS: [(f64, f64); 4] = [(0.05, 0.15), (0.05, 0.35), (0.3, 0.6), (0.3, 0.95)];

pub(super) fn usual(rate: f64) -> f64 {
    rate.clamp(LEAST, MOST)
}

/// Rates of a candidate that is worse than one beside a live release with its usual rate may be, each four times the one before.
pub(super) fn worse(rule: Rule, usual: f64) -> impl Iterator<Item = f64> {
    let allowed = rule.allows(usual);
    let first = (2.0 * allowed).max(0.004);
    std::iter::successors(Some(first), |rate| Some(rate * 4.0))
        .take_while(|rate| *rate < 0.6)
        .chain([0.97])
        .filter(move |rate| *rate > allowed)
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Expert {
    live: f64,
    candidate: f64,
}

impl Expert {
    pub fn all(rule: Rule, usual: f64) -> Vec<Expert> {
        worse(rule, usual)
            .map(|candidate| (usual, candidate))
            .chain(OTHERS)
            .map(|(live, candidate)| Expert { live, candidate })
            .filter(|expert| expert.candidate > rule.allows(expert.live))
            .collect()
    }

    pub fn stake(self, rule: Rule) -> Stake {
        Stake { rate: self.candidate, failure: (self.candidate / rule.allows(self.live)).ln() }
    }

    /// How much better this expert foretold what was counted than the best two rates that the rule allows: the logarithm of a bet's
    /// gain, which is expected to be none or a loss as long as the rule is kept, for any number of requests of both.
    ///
    /// After Turner, Ly and Grünwald, <https://arxiv.org/abs/2106.02693>, with a line instead of equality.
    pub fn gain(self, rule: Rule, candidate: Counts, live: Counts) -> f64 {
        let b = self.nearest(rule, candidate.n as f64, live.n as f64);
        score(candidate, self.candidate, rule.allows(b)) + score(live, self.live, b)
    }

    /// The live release's rate on the border of the rule that is hardest to tell from this expert: the root of
    /// `n_b (b - tb) / (b (1 - b)) + R n_g (g - tg) / (g (1 - g))` with `g = R b + d`. Between its bracket's ends the expression
    /// times its denominators is a cubic with one root, so Newton's steps find it, halving where one leads astray.
    fn nearest(self, rule: Rule, n_candidate: f64, n_live: f64) -> f64 {
        let (tb, tg, r) = (self.live, self.candidate, rule.ratio);
        let part = n_live / (n_live + n_candidate);
        let (mut low, mut high) = (tb, ((tg - rule.margin) / r).min(1.0 - 1e-9));
        let mut b = low + (high - low) * (1.0 - part);
        for _ in 0..60 {
            let g = rule.allows(b);
            let (vb, vg) = (b * (1.0 - b), g * (1.0 - g));
            let value = part * (b - tb) * vg + r * (1.0 - part) * (g - tg) * vb;
            if value > 0.0 {
                high = b
            } else {
                low = b
            }
            let slope =
                part * (vg + (b - tb) * r * (1.0 - 2.0 * g)) + r * (1.0 - part) * (r * vb + (g - tg) * (1.0 - 2.0 * b));
            let step = b - value / slope;
            let next = if step > low && step < high { step } else { 0.5 * (low + high) };
            if (next - b).abs() <= 1e-10 {
                return next;
            }
            b = next;
        }
        b
    }
}

/// How much likelier these counts are at one rate than at another, as a logarithm.
pub(super) fn score(counts: Counts, at: f64, than: f64) -> f64 {
    let well = (counts.n - counts.bad) as f64 * ((1.0 - at) / (1.0 - than)).ln();
    if counts.bad == 0 { well } else { well + counts.bad as f64 * (at / than).ln() }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULE: Rule = Rule { ratio: 1.5, margin: 0.002 };

    #[test]
    fn the_nearest_rates_are_where_the_derivative_is_zero() {
        for expert in Expert::all(RULE, 0.001) {
            for (n_candidate, n_live) in [(1.0, 1.0), (1.0, 999.0), (20_000.0, 1.0), (50.0, 50.0)] {
                let b = expert.nearest(RULE, n_candidate, n_live);
                let (mut low, mut high) = (expert.live, (expert.candidate - RULE.margin) / RULE.ratio);
                for _ in 0..200 {
                    let b = 0.5 * (low + high);
                    let g = RULE.allows(b);
                    let slope = n_live * (b - expert.live) / (b * (1.0 - b))
                        + RULE.ratio * n_candidate * (g - expert.candidate) / (g * (1.0 - g));
                    if slope > 0.0 { high = b } else { low = b }
                }
                assert!((b - low).abs() < 1e-8, "{expert:?} {n_candidate} {n_live}: {b}, by halves {low}");
            }
        }
    }

    /// The sum over all outcomes of their chance times the gain.
    fn expected(expert: Expert, n: (u64, u64), rates: (f64, f64)) -> f64 {
        let chance = |n: u64, bad: u64, rate: f64| {
            let ways: f64 = (0..bad).map(|i| (n - i) as f64 / (bad - i) as f64).product();
            ways * rate.powi(bad as i32) * (1.0 - rate).powi((n - bad) as i32)
        };
        let mut sum = 0.0;
        for g in 0..=n.0 {
            for b in 0..=n.1 {
                let gain = expert.gain(RULE, Counts { n: n.0, bad: g }, Counts { n: n.1, bad: b }).exp();
                sum += gain * chance(n.0, g, rates.0) * chance(n.1, b, rates.1);
            }
        }
        sum
    }

    #[test]
    fn nobody_is_expected_to_win_against_a_candidate_that_keeps_the_rule() {
        for expert in Expert::all(RULE, 0.001) {
            for n in [(1, 1), (1, 12), (9, 1), (7, 7)] {
                for live in [0.0, 0.001, 0.02, 0.2, 0.5] {
                    for candidate in [RULE.allows(live), 0.5 * live] {
                        let wins = expected(expert, n, (candidate, live));
                        assert!(wins <= 1.0 + 1e-9, "{expert:?} {n:?} at {candidate} and {live}: {wins}");
                    }
                }
            }
        }
    }

    #[test]
    fn experts_begin_above_what_is_allowed() {
        let rates: Vec<f64> = worse(RULE, 0.001).collect();
        let wanted = [0.007, 0.028, 0.112, 0.448, 0.97];
        assert!(rates.iter().zip(wanted).all(|(rate, wanted)| (rate - wanted).abs() < 1e-9), "{rates:?}");
        assert_eq!(rates.len(), wanted.len());
        assert_eq!(Expert::all(RULE, 0.001).len(), 9);
    }
}
