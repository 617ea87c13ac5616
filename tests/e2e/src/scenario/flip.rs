//! Flip after flip under load from keep-alive clients, with stretches in between in which only containers start.

use super::web;
use crate::prober::{Clients, Config, Prober, Report};
use crate::stage::{Stage, docker};
use std::time::Duration;
use teal_model::deployment::Published;

/// Before a table is sent and after its last acknowledgement.
pub const MARGIN_US: u64 = 100_000;

pub struct Flips {
    pub report: Report,
    /// Version of the retiring release, and its flip.
    pub flips: Vec<(String, Published)>,
    /// Stretches as long as the flip's, right after as many containers were started, without a flip.
    pub controls: Vec<(u64, u64)>,
    /// The proxy's own count over all releases.
    pub retried: u64,
}

impl Flips {
    pub fn windows(&self) -> Vec<(u64, u64)> {
        self.flips.iter().map(|(_, flip)| (flip.sent_us - MARGIN_US, flip.acknowledged_us + MARGIN_US)).collect()
    }

    pub fn near_requests(&self) -> u64 {
        self.windows().iter().map(|(from, to)| self.report.requests_sent_between(*from, *to)).sum()
    }

    pub fn stale_answers(&self) -> usize {
        self.flips.iter().map(|(old, flip)| self.report.stale_answers(flip.acknowledged_us, old).len()).sum()
    }

    /// Longest time without an answer, of every window and of every control.
    pub fn stalls_us(&self) -> (Vec<u64>, Vec<u64>) {
        let longest =
            |windows: &[(u64, u64)]| windows.iter().map(|(from, to)| self.report.longest_gap(*from, *to)).collect();
        (longest(&self.windows()), longest(&self.controls))
    }
}

/// `flips` deployments of two replicas under 64 keep-alive clients in a closed loop.
pub fn run(stage: &Stage, flips: usize) -> std::io::Result<Flips> {
    stage.compose(&web(2, "", "")).up();
    stage.must_deploy("0");
    let load = Config::new(stage.address()).with(Clients { post_share: 0.5, ..Clients::mixed(64) });
    let prober = Prober::start(load)?;
    std::thread::sleep(Duration::from_millis(500));
    let (mut done, mut controls) = (Vec::new(), Vec::new());
    for version in 1..=flips {
        controls.push(control(stage, version));
        let deployed = stage.must_deploy(&version.to_string());
        let flip = deployed.flip().unwrap_or_else(|| panic!("no flip in {deployed:#?}"));
        done.push(((version - 1).to_string(), flip));
        // The margin after the acknowledgement belongs to this flip alone.
        std::thread::sleep(Duration::from_micros(2 * MARGIN_US));
    }
    let report = prober.stop()?;
    let retried = done_retries(stage);
    Ok(Flips { report, flips: done, controls, retried })
}

/// Two containers start beside the project, as a candidate's do, and nothing is flipped.
fn control(stage: &Stage, round: usize) -> (u64, u64) {
    let names: Vec<String> = (1..=2).map(|replica| format!("{}-control-{round}-{replica}", stage.project)).collect();
    let started: Vec<_> = names
        .iter()
        .map(|name| {
            std::thread::spawn({
                let name = name.clone();
                move || docker(&["run", "--detach", "--name", &name, super::IMAGE])
            })
        })
        .collect();
    for one in started {
        one.join().unwrap_or_else(|_| panic!("a control container did not start"));
    }
    // A deployment flips once its candidate has answered its probes: about this long after the start.
    std::thread::sleep(Duration::from_millis(60));
    let from = crate::clock::monotonic_us();
    std::thread::sleep(Duration::from_micros(2 * MARGIN_US));
    let to = crate::clock::monotonic_us();
    for name in names {
        docker(&["rm", "--force", &name]);
    }
    (from, to)
}

/// Retries that the receipts of the project's deployments tell of.
fn done_retries(stage: &Stage) -> u64 {
    receipts(stage).iter().map(|measured| measured.retried).sum()
}

/// What the proxy measured during each deployment of the project.
pub fn receipts(stage: &Stage) -> Vec<teal_model::receipt::Measured> {
    let history = stage.must(&["history", "--limit", "1000", "--output", "json"]);
    let numbers = history.lines().filter_map(|line| serde_json::from_str::<teal_model::api::Summary>(line).ok());
    let details = numbers.map(|summary| stage.must(&["show", &summary.deployment.to_string(), "--output", "json"]));
    let receipts = details.filter_map(|text| {
        let detail: teal_model::api::Detail =
            serde_json::from_str(text.trim()).unwrap_or_else(|error| panic!("{error}: {text}"));
        detail.receipt
    });
    receipts
        .filter_map(|receipt| match receipt.traffic {
            teal_model::receipt::Traffic::Measured(measured) => Some(measured),
            _ => None,
        })
        .collect()
}
