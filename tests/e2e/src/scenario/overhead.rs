//! What a deployment costs beside bare Docker: create, start, stop and remove of the same image.

use super::web;
use crate::stage::{Stage, docker};
use std::time::Instant;

pub struct Overhead {
    /// Pairs of milliseconds: a deployment, bare Docker.
    pub pairs: Vec<(f64, f64)>,
}

impl Overhead {
    pub fn median_ms(&self) -> f64 {
        let mut more: Vec<f64> = self.pairs.iter().map(|(teal, bare)| teal - bare).collect();
        more.sort_by(f64::total_cmp);
        more[more.len() / 2]
    }
}

pub fn run(stage: &Stage, pairs: usize) -> Overhead {
    stage.compose(&web(1, "", "")).up();
    stage.must_deploy("0");
    let mut measured = Vec::new();
    // What stands for the live release, which bare Docker stops and removes.
    let mut old = bare_start(stage, 0);
    for round in 1..=pairs {
        let began = Instant::now();
        stage.must_deploy(&round.to_string());
        let teal = began.elapsed().as_secs_f64() * 1e3;
        let began = Instant::now();
        let new = bare_start(stage, round);
        docker(&["stop", &old]);
        docker(&["rm", &old]);
        measured.push((teal, began.elapsed().as_secs_f64() * 1e3));
        old = new;
    }
    docker(&["rm", "--force", &old]);
    Overhead { pairs: measured }
}

fn bare_start(stage: &Stage, round: usize) -> String {
    let name = format!("{}-bare-{round}", stage.project);
    let network = format!("{}_default", stage.project);
    docker(&["create", "--name", &name, "--network", &network, "--env", "SIGTERM=drain", super::IMAGE]);
    docker(&["start", &name]);
    name
}
