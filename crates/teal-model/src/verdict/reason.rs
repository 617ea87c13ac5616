//! Why a release is contained or taken back, in numbers and in words.

use super::counts::Counts;
use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Reason {
    #[serde(flatten)]
    pub part: Part,
    /// Since the trouble began: of all requests, or (slow) of those that did not fail.
    pub candidate: Counts,
    /// Over the same time; none for [`Part::History`] and [`Part::NoHistory`].
    pub live: Counts,
    /// How long that is.
    pub over_ms: u64,
    /// An e-value: the chance of so much evidence against a candidate that is no worse is at most one in this.
    pub evidence: f64,
}

/// What was judged.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(tag = "part", rename_all = "snake_case")]
pub enum Part {
    /// Failed requests beside those of the live release.
    Errors,
    /// Failed requests beside the rate that the service had before.
    History { usual: f64 },
    /// The same of a service without a history: beside what nobody would take for usual.
    NoHistory { supposed: f64 },
    /// Requests that took longer than a line: 95 (99) of a hundred of the live release's took less.
    Slow { percentile: u8, candidate_us: u64, live_us: u64 },
}

/// What somebody should look at, although nothing is taken back.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "warning", rename_all = "snake_case")]
pub enum Warning {
    /// Both releases fail: what they depend on is down, or the candidate has spoiled what they share.
    BothFail {
        candidate: Counts,
        live: Counts,
    },
    Slow {
        why: Reason,
    },
    /// Nothing is left to compare with.
    LiveGone {
        why: Option<Reason>,
    },
}

impl Reason {
    /// What was counted, and how likely that is. `candidate` and `live`: what people call them, as a rule by their colors.
    pub fn words(&self, candidate: &str, live: &str) -> String {
        let chance = thousands(at_least(self.evidence));
        format!("{}; chance of that among equals less than 1 in {chance}", self.counted(candidate, live))
    }

    /// What was counted alone: of first evidence, in which a burst counts in full, the chance would say too much.
    pub fn counted(&self, candidate: &str, live: &str) -> String {
        let of = |counts: Counts| format!("{} of {}", thousands(counts.bad), thousands(counts.n));
        let (ours, theirs) = (of(self.candidate), of(self.live));
        match self.part {
            Part::Errors => format!("{candidate} failed {ours} requests, {live} {theirs}"),
            Part::History { usual } => {
                format!("{candidate} failed {ours} requests, where {} is usual", percent(usual))
            }
            Part::NoHistory { supposed } => {
                format!("{candidate} failed {ours} requests, where not even {} could be usual", percent(supposed))
            }
            Part::Slow { candidate_us, live_us, .. } => format!(
                "{candidate} took longer than {} for {ours} requests, {live} longer than {} for {theirs}",
                milliseconds(candidate_us),
                milliseconds(live_us)
            ),
        }
    }
}

impl Warning {
    pub fn words(&self, candidate: &str, live: &str) -> String {
        match self {
            Warning::BothFail { candidate: ours, live: theirs } => format!(
                "both fail, {candidate} {} of {} requests and {live} {} of {}: is something down that both depend on?",
                thousands(ours.bad),
                thousands(ours.n),
                thousands(theirs.bad),
                thousands(theirs.n)
            ),
            Warning::Slow { why } => why.words(candidate, live),
            Warning::LiveGone { why: None } => format!("{live} is gone: nothing is left to compare {candidate} with"),
            Warning::LiveGone { why: Some(why) } => {
                format!("{live} is gone, and {}", why.words(candidate, live))
            }
        }
    }
}

/// One digit and zeros, rounded down, up to a million.
fn at_least(evidence: f64) -> u64 {
    let evidence = evidence.clamp(1.0, 1e6) as u64;
    let unit = 10u64.pow(evidence.ilog10());
    evidence / unit * unit
}

/// `1,204`.
pub fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.char_indices() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

fn percent(part: f64) -> String {
    let text = format!("{:.2}", part * 100.0);
    format!("{} %", text.trim_end_matches('0').trim_end_matches('.'))
}

fn milliseconds(us: u64) -> String {
    format!("{} ms", thousands(us.div_ceil(1000)))
}
