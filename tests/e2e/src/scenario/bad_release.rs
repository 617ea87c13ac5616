//! A release that looks well and goes wrong under its users: it is taken back by itself, and what they saw of it is counted.

use super::{TROUBLE, web};
use crate::prober::{Clients, Config, Pace, Prober, Report};
use crate::stage::{Deployed, Stage};
use std::time::Duration;

/// Requests a second, from clients that do not wait for each other's answers.
pub const RATE: f64 = 200.0;
const CLIENTS: usize = 40;
/// Before the deployment: for as many requests as it takes to know how often the service fails as a rule; then the candidate gets all of them.
const BEFORE: Duration = Duration::from_secs(13);
const AFTER: Duration = Duration::from_secs(1);
/// A leak is a death that comes soon.
const MEMORY: &str = "    mem_limit: 64m\n    deploy:";
const SETTINGS: &str = "      bake: 2m";
/// A hang is a failure where it is said how long an answer may take; elsewhere, when clients have waited for long and leave.
const BOUNDED: &str = "      bake: 2m\n      timeouts: { response: 2s }";

/// What is wrong with the release.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wrong {
    FailsAll,
    FailsTenth,
    Hangs,
    /// The same, and nobody has said how long an answer may take. Clients leave after ten seconds.
    HangsOn,
    Leaks,
    /// 20 s after its start.
    Crashes,
}

impl Wrong {
    pub const ALL: [Wrong; 6] =
        [Wrong::FailsAll, Wrong::FailsTenth, Wrong::Hangs, Wrong::HangsOn, Wrong::Leaks, Wrong::Crashes];

    /// In the ids of figures.
    pub fn name(self) -> &'static str {
        match self {
            Wrong::FailsAll => "fails_all",
            Wrong::FailsTenth => "fails_10pct",
            Wrong::Hangs => "hangs",
            Wrong::HangsOn => "hangs_on",
            Wrong::Leaks => "leaks",
            Wrong::Crashes => "crashes",
        }
    }

    /// The part of the requests that it fails, where that is what is wrong with it.
    pub fn fails(self) -> Option<f64> {
        match self {
            Wrong::FailsAll => Some(1.0),
            Wrong::FailsTenth => Some(0.1),
            Wrong::Hangs | Wrong::HangsOn | Wrong::Leaks | Wrong::Crashes => None,
        }
    }

    fn variable(self) -> (&'static str, &'static str) {
        match self {
            Wrong::FailsAll => ("FAIL", "1"),
            Wrong::FailsTenth => ("FAIL", "0.1"),
            Wrong::Hangs | Wrong::HangsOn => ("HANG", "1"),
            Wrong::Leaks => ("LEAK", "20"),
            Wrong::Crashes => ("CRASH", "20000"),
        }
    }

    fn settings(self) -> &'static str {
        if self == Wrong::HangsOn { SETTINGS } else { BOUNDED }
    }
}

pub struct TakenBack {
    pub deployed: Deployed,
    pub report: Report,
    /// When the deployment had ended.
    ended_us: u64,
}

impl TakenBack {
    /// From the acknowledged flip until the last request was sent that failed, or that the bad release got. None: no flip.
    pub fn exposed_us(&self) -> Option<u64> {
        let flip = self.deployed.flip()?;
        Some(self.report.last_exposed_to("bad").map_or(0, |us| us.saturating_sub(flip.acknowledged_us)))
    }

    /// Failures of requests that were sent after everything was back.
    pub fn failed_afterwards(&self) -> usize {
        self.report.records.iter().filter(|record| !record.ok() && record.sent_us() > self.ended_us).count()
    }
}

/// `good` is deployed, and then `bad` under load.
pub fn run(stage: &Stage, wrong: Wrong) -> std::io::Result<TakenBack> {
    stage.compose(&web(2, wrong.settings(), TROUBLE).replace("    deploy:", MEMORY)).up();
    stage.must_deploy("good");
    let prober = Prober::start(load(stage))?;
    std::thread::sleep(BEFORE);
    let deployed = stage.deploy_with("bad", &[], &[wrong.variable()]);
    let ended_us = crate::clock::monotonic_us();
    std::thread::sleep(AFTER);
    Ok(TakenBack { deployed, report: prober.stop()?, ended_us })
}

/// The load that all of these are measured under.
pub fn load(stage: &Stage) -> Config {
    let pace = Pace::per_second(RATE / CLIENTS as f64);
    Config::new(stage.address()).with(Clients::steady(CLIENTS).pace(pace))
}
