//! Figures of many bakes.

use crate::bake::Outcome;

#[derive(Debug, Clone, PartialEq)]
pub struct Measured {
    pub id: String,
    /// Infinite: it did not happen often enough to have a time.
    pub value: f64,
    pub unit: &'static str,
    pub limit: Limit,
    pub detail: String,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Limit {
    AtMost(f64),
    AtLeast(f64),
    /// Told for its own sake; less is better.
    None,
}

impl Measured {
    pub fn keeps_its_limit(&self) -> bool {
        match self.limit {
            Limit::AtMost(limit) => self.value <= limit,
            Limit::AtLeast(limit) => self.value >= limit,
            Limit::None => true,
        }
    }
}

pub fn reverts(outcomes: &[Outcome]) -> usize {
    outcomes.iter().filter(|outcome| outcome.reverted_s.is_some()).count()
}

/// Of candidates that should stay.
pub fn false_reverts(id: &str, outcomes: &[Outcome], limit: Limit, how: &str) -> Measured {
    let (reverts, bakes) = (reverts(outcomes), outcomes.len());
    let contained = outcomes.iter().filter(|outcome| outcome.containments > 0).count();
    let promoted = outcomes.iter().filter(|outcome| outcome.promoted).count();
    Measured {
        id: format!("verdict.{id}.reverts"),
        value: reverts as f64 * 1000.0 / bakes as f64,
        unit: "in 1000",
        limit,
        detail: format!("{reverts} of {bakes} bakes; {contained} contained, {promoted} promoted; {how}"),
    }
}

/// The 95th percentile of times to a revert.
pub fn revert_s(id: &str, outcomes: &[Outcome], limit: Limit, how: &str) -> Measured {
    timed(format!("verdict.{id}.revert_s"), outcomes, |outcome| outcome.reverted_s, limit, how)
}

pub fn contained_s(id: &str, outcomes: &[Outcome], limit: Limit, how: &str) -> Measured {
    timed(format!("verdict.{id}.contained_s"), outcomes, |outcome| outcome.contained_s, limit, how)
}

fn timed(id: String, outcomes: &[Outcome], of: fn(&Outcome) -> Option<f64>, limit: Limit, how: &str) -> Measured {
    let times = sorted(outcomes.iter().map(|outcome| of(outcome).unwrap_or(f64::INFINITY)));
    let never = times.iter().filter(|time| time.is_infinite()).count();
    let detail = format!(
        "{} bakes, never in {never}; median {:.1} s, 95 % {:.1} s, longest {:.1} s; {how}",
        times.len(),
        part(&times, 0.5),
        part(&times, 0.95),
        part(&times, 1.0)
    );
    Measured { id, value: (part(&times, 0.95) * 10.0).round() / 10.0, unit: "s", limit, detail }
}

/// The 95th percentile of failed requests of the candidate until the revert.
pub fn bad_answers(id: &str, outcomes: &[Outcome], limit: Limit, how: &str) -> Measured {
    let bad = sorted(outcomes.iter().map(|outcome| outcome.bad as f64));
    let detail = format!("median {}, 95 % {}, most {}; {how}", part(&bad, 0.5), part(&bad, 0.95), part(&bad, 1.0));
    Measured { id: format!("verdict.{id}.bad_answers"), value: part(&bad, 0.95), unit: "answers", limit, detail }
}

/// Percent that were taken back within so many seconds.
pub fn caught(id: &str, outcomes: &[Outcome], within_s: f64, limit: Limit, how: &str) -> Measured {
    let caught = outcomes.iter().filter(|outcome| outcome.reverted_s.is_some_and(|time| time <= within_s)).count();
    Measured {
        id: format!("verdict.{id}.caught"),
        value: caught as f64 * 100.0 / outcomes.len() as f64,
        unit: "%",
        limit,
        detail: format!("{caught} of {} bakes within {within_s:.0} s; {how}", outcomes.len()),
    }
}

fn sorted(values: impl Iterator<Item = f64>) -> Vec<f64> {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values
}

/// The value that this part of them does not exceed.
fn part(sorted: &[f64], part: f64) -> f64 {
    let rank = (sorted.len() as f64 * part).ceil() as usize;
    sorted.get(rank.max(1) - 1).copied().unwrap_or(f64::NAN)
}
