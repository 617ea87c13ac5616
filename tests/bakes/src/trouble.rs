//! What goes wrong in a made-up bake.

use crate::random::Random;
use crate::requests::HUNDREDTH;

/// How requests come to fail.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Trouble {
    /// None but the usual failures.
    None,
    /// This part of the candidate's requests fails from this second on.
    Candidate { rate: f64, from_s: f64 },
    /// From the usual rate to this one, evenly, in so many seconds.
    Ramp { to: f64, over_s: f64 },
    /// The candidate has a bad moment every two minutes or so, of 0.5 to 2 s, in which 20 to 80 % fail.
    Bursts,
    /// Both fail altogether for so many seconds.
    Outage { for_s: f64 },
    /// Both go from the usual rate to this one during the bake.
    Drift { to: f64 },
    /// As many failures as usual, but in a row: of one client, so many on average, with pauses of so many seconds on average.
    InARow { failures: f64, pause_s: f64 },
}

/// How requests come to take longer; of the candidate alone.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Slowing {
    None,
    /// Each so many times as long.
    All {
        times: f64,
    },
    /// Each so many times as long at first, and as the live release's after so many seconds.
    WarmUp {
        times: f64,
        over_s: f64,
    },
    /// The same for the slowest hundredth of requests alone.
    TailWarmUp {
        times: f64,
        over_s: f64,
    },
    /// This part of requests, of any latency.
    Route {
        part: f64,
        times: f64,
    },
}

/// Trouble as it is in one bake.
#[derive(Debug)]
pub struct Fate {
    trouble: Trouble,
    usual: f64,
    bake_s: f64,
    /// Of bad moments and outages: from, to, and the part that fails.
    moments: Vec<(f64, f64, f64)>,
}

/// Of the longest bake.
const LONGEST_S: f64 = 900.0;

impl Fate {
    pub fn new(trouble: Trouble, usual: f64, bake_s: f64, random: &mut Random) -> Self {
        let mut moments = Vec::new();
        match trouble {
            Trouble::Bursts => {
                let mut from = random.exponential(120.0);
                while from < LONGEST_S {
                    let to = from + random.between(0.5, 2.0);
                    moments.push((from, to, random.between(0.2, 0.8)));
                    from = to + random.exponential(120.0);
                }
            }
            Trouble::Outage { for_s } => {
                let from = random.between(0.0, bake_s - for_s);
                moments.push((from, from + for_s, 1.0));
            }
            _ => {}
        }
        Self { trouble, usual, bake_s, moments }
    }

    /// The part of requests that fails, of candidate and live release.
    pub fn failing(&self, at_s: f64) -> (f64, f64) {
        let usual = self.usual;
        let even = |to: f64, over_s: f64| usual + (to - usual) * (at_s / over_s).min(1.0);
        let moment =
            || self.moments.iter().find(|(from, to, _)| (*from..*to).contains(&at_s)).map(|(_, _, part)| *part);
        match self.trouble {
            Trouble::None => (usual, usual),
            Trouble::Candidate { rate, from_s } => (if at_s >= from_s { rate } else { usual }, usual),
            Trouble::Ramp { to, over_s } => (even(to, over_s), usual),
            Trouble::Drift { to } => (even(to, self.bake_s), even(to, self.bake_s)),
            Trouble::Bursts => (moment().unwrap_or(usual), usual),
            Trouble::Outage { .. } => (moment().unwrap_or(usual), moment().unwrap_or(usual)),
            Trouble::InARow { .. } => (0.0, 0.0),
        }
    }
}

impl Slowing {
    /// How many times as long a request of the candidate takes, whose latency would be beyond so many standard deviations.
    pub fn times(self, at_s: f64, deviations: f64, random: &mut Random) -> f64 {
        let cooling = |times: f64, over_s: f64| 1.0 + (times - 1.0) * (1.0 - at_s / over_s).max(0.0);
        match self {
            Slowing::None => 1.0,
            Slowing::All { times } => times,
            Slowing::WarmUp { times, over_s } => cooling(times, over_s),
            Slowing::TailWarmUp { times, over_s } if deviations > HUNDREDTH => cooling(times, over_s),
            Slowing::TailWarmUp { .. } => 1.0,
            Slowing::Route { part, times } => {
                if random.happens(part) {
                    times
                } else {
                    1.0
                }
            }
        }
    }
}
