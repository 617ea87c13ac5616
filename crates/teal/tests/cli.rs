//! The command against a little agent that answers as it is told.
#![allow(clippy::unwrap_used)]

#[path = "cli/back.rs"]
mod back;
#[path = "common/mod.rs"]
mod common;
#[path = "cli/deploys.rs"]
mod deploys;
#[path = "cli/exec.rs"]
mod exec;
#[path = "cli/looking.rs"]
mod looking;
#[path = "../src/print/made_up.rs"]
#[allow(dead_code)]
mod made_up;
#[path = "cli/usage.rs"]
mod usage;

use common::{Fake, Reply, json, lines};
use teal_model::api::{Accepted, Notice, What};
use teal_model::receipt::Outcome;

fn accepted() -> Reply {
    json(&Accepted { deployment: 12, plan: made_up::plan(), then: None })
}

/// The deployment ends with this outcome.
fn ending(outcome: Outcome) -> Vec<Notice> {
    let mut notices = made_up::notices();
    if let Some(Notice { what: What::Ended { receipt }, .. }) = notices.last_mut() {
        receipt.outcome = outcome;
    }
    notices
}

fn deploying(outcome: Outcome) -> Fake {
    Fake::new(move |request| match request.line.as_str() {
        "POST /v1/deployments" => accepted(),
        _ => Reply::Stream(lines(&ending(outcome.clone())), true),
    })
}
