//! `teal rollback` under load: how soon nobody reaches the other release any more.

use super::web;
use crate::clock::monotonic_us;
use crate::prober::{Clients, Config, Prober, Report};
use crate::stage::Stage;
use std::time::Duration;
use teal_model::deployment::State;

/// The one that is gone back from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Release {
    /// It is live, and the one before is warm.
    Live,
    /// Its deployment has not ended: that is aborted.
    Bakes,
}

const PATIENCE: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_millis(500);

pub struct RolledBack {
    pub report: Report,
    pub rounds: Vec<Round>,
}

/// One deployment and the way back from it. Times are CLOCK_MONOTONIC in microseconds.
pub struct Round {
    version: String,
    /// Before the command was started.
    began_us: u64,
    /// When it had ended.
    ended_us: u64,
}

impl RolledBack {
    /// From the start of the command until the last request was sent that the release answered which it took back, of each round.
    pub fn exposed_us(&self) -> Vec<u64> {
        let of = |round: &Round| self.report.last_sent_to(&round.version).map(|us| us.saturating_sub(round.began_us));
        self.rounds.iter().filter_map(of).collect()
    }

    /// After the last command, and nobody else.
    pub fn first_serves(&self) -> bool {
        let after = self.rounds.last().map_or(0, |round| round.ended_us);
        self.report.share_of("0", after, u64::MAX) == Some(1.0)
    }

    /// How long the command took.
    pub fn commands_us(&self) -> Vec<u64> {
        self.rounds.iter().map(|round| round.ended_us - round.began_us).collect()
    }
}

/// `rounds` times another release, and back to the first one.
pub fn run(stage: &Stage, from: Release, rounds: usize) -> std::io::Result<RolledBack> {
    let bake = match from {
        Release::Live => "0",
        Release::Bakes => "10m",
    };
    stage.compose(&web(2, &format!("      bake: {bake}\n      retain: 10m"), "")).up();
    stage.must_deploy("0");
    let prober = Prober::start(Config::new(stage.address()).with(Clients::steady(32)))?;
    let mut done = Vec::new();
    for version in (1..=rounds).map(|round| round.to_string()) {
        deploy(stage, from, &version);
        std::thread::sleep(PAUSE);
        let began_us = monotonic_us();
        stage.must(&["rollback"]);
        done.push(Round { version, began_us, ended_us: monotonic_us() });
        stage.until("nothing runs", PATIENCE, || stage.status().running.is_empty());
        std::thread::sleep(PAUSE);
    }
    Ok(RolledBack { report: prober.stop()?, rounds: done })
}

fn deploy(stage: &Stage, from: Release, version: &str) {
    if from == Release::Live {
        stage.must_deploy(version);
        return;
    }
    let begun = stage.deploy(version, &["--no-wait"]);
    assert_eq!(begun.exit, 0, "{begun:#?}");
    let bakes = || stage.status().running.iter().any(|running| running.state == State::Baking);
    stage.until("it bakes", PATIENCE, bakes);
}
