//! The requests of a bake, as the proxy's statistics tell them.

use crate::bake::{Scenario, TICK_MS};
use crate::random::Random;
use crate::trouble::{Fate, Slowing, Trouble};
use teal_model::ids::{ReleaseKey, ServiceKey};
use teal_model::wire::{Latency, ReleaseStatistics};

/// Half of the requests take less.
const MEDIAN_US: f64 = 20_000.0;
/// So many standard deviations above the mean, of a normal distribution, is one in a hundred.
pub const HUNDREDTH: f64 = 2.326;

pub struct Requests<'a> {
    scenario: &'a Scenario,
    fate: Fate,
    pub candidate: Release,
    pub live: Release,
    /// Clients whose requests fail in a row.
    unlucky: Vec<Unlucky>,
}

pub struct Release {
    pub statistics: ReleaseStatistics,
    waiting: Vec<Waiting>,
}

struct Waiting {
    since_us: f64,
    takes_us: f64,
}

struct Unlucky {
    candidate: bool,
    next_s: f64,
    left: u64,
}

impl<'a> Requests<'a> {
    pub fn new(scenario: &'a Scenario, random: &mut Random) -> Self {
        let fate = Fate::new(scenario.trouble, scenario.usual, scenario.bake_ms as f64 / 1e3, random);
        let (candidate, live) = (Release::new(2), Release::new(1));
        Self { scenario, fate, candidate, live, unlucky: Vec::new() }
    }

    /// What happens in the tick that ends at `at_s`, with this share (0 to 1) of the candidate.
    pub fn tick(&mut self, at_s: f64, share: f64, random: &mut Random) {
        let arriving = self.scenario.rps_at(at_s) * TICK_MS as f64 / 1e3;
        let failing = self.fate.failing(at_s);
        let (slowing, latency) = (self.scenario.slowing, self.scenario.latency);
        for (release, part, failing, slowing) in
            [(&mut self.candidate, share, failing.0, slowing), (&mut self.live, 1.0 - share, failing.1, Slowing::None)]
        {
            release.statistics.counters.answered[4] += random.poisson(arriving * part * failing);
            let well = random.poisson(arriving * part * (1.0 - failing));
            if let Some(tail) = latency {
                (0..well).for_each(|_| release.arrives(at_s, tail, slowing, random));
                release.answers(at_s);
            } else {
                release.statistics.counters.answered[1] += well;
            }
        }
        if let Trouble::InARow { failures, pause_s } = self.scenario.trouble {
            self.in_a_row(at_s, share, arriving * self.scenario.usual, failures, pause_s, random);
        }
    }

    fn in_a_row(&mut self, at_s: f64, share: f64, failing: f64, failures: f64, pause_s: f64, random: &mut Random) {
        for _ in 0..random.poisson(failing / failures) {
            let candidate = random.happens(share);
            self.unlucky.push(Unlucky { candidate, next_s: at_s, left: random.geometric(failures) });
        }
        for client in &mut self.unlucky {
            while client.left > 0 && client.next_s <= at_s {
                let release = if client.candidate { &mut self.candidate } else { &mut self.live };
                release.statistics.counters.answered[4] += 1;
                client.next_s += random.exponential(pause_s);
                client.left -= 1;
            }
        }
        self.unlucky.retain(|client| client.left > 0);
    }
}

impl Release {
    fn new(number: u64) -> Self {
        let key = ReleaseKey::new(ServiceKey::new("shop", "web"), number);
        Self { statistics: ReleaseStatistics::of(key), waiting: Vec::new() }
    }

    fn arrives(&mut self, at_s: f64, tail: f64, slowing: Slowing, random: &mut Random) {
        let deviations = random.normal();
        let takes_us = takes_us(tail, deviations) * slowing.times(at_s, deviations, random);
        let since_us = (at_s - random.unit() * TICK_MS as f64 / 1e3) * 1e6;
        self.waiting.push(Waiting { since_us, takes_us });
    }

    fn answers(&mut self, at_s: f64) {
        let (now_us, statistics) = (at_s * 1e6, &mut self.statistics);
        statistics.waiting.buckets.clear();
        self.waiting.retain(|request| {
            let waits = request.since_us + request.takes_us > now_us;
            if waits {
                count(&mut statistics.waiting, now_us - request.since_us);
            } else {
                count(&mut statistics.latency, request.takes_us);
                statistics.counters.answered[1] += 1;
            }
            waits
        });
    }
}

/// Lognormal: one in a hundred takes more than `tail` times the median.
fn takes_us(tail: f64, deviations: f64) -> f64 {
    MEDIAN_US * tail.powf(deviations / HUNDREDTH)
}

fn count(latency: &mut Latency, us: f64) {
    let bucket = Latency::bucket(us as u64);
    if latency.buckets.len() <= bucket {
        latency.buckets.resize(bucket + 1, 0);
    }
    latency.buckets[bucket] += 1;
}

/// Of a live release before the shift.
pub fn latency_before(tail: f64, random: &mut Random) -> Latency {
    let mut latency = Latency::default();
    for _ in 0..10_000 {
        count(&mut latency, takes_us(tail, random.normal()));
    }
    latency
}
