//! A service that cannot run twice: every request waits while it is replaced, none fails.

use super::web;
use crate::prober::{Clients, Config, Prober, Report};
use crate::stage::Stage;
use std::time::Duration;

pub struct Recreated {
    pub report: Report,
    /// Requests that waited, by the receipts.
    pub held: u64,
}

pub fn run(stage: &Stage, rounds: usize) -> std::io::Result<Recreated> {
    stage.compose(&web(1, "      strategy: recreate\n      hold: 60s", "")).up();
    stage.must_deploy("0");
    let mut load =
        Config::new(stage.address()).with(Clients { post_share: 0.5, slow_share: 0.0, ..Clients::mixed(64) });
    // Longer than a replacement takes, shorter than `hold`.
    load.timeout = Duration::from_secs(30);
    let prober = Prober::start(load)?;
    std::thread::sleep(Duration::from_millis(300));
    let mut held = 0;
    for version in 1..=rounds {
        let deployed = stage.must_deploy(&version.to_string());
        if let Some(teal_model::receipt::Traffic::Measured(measured)) =
            deployed.receipt().map(|receipt| &receipt.traffic)
        {
            held += measured.held;
        }
    }
    std::thread::sleep(Duration::from_millis(300));
    Ok(Recreated { report: prober.stop()?, held })
}
