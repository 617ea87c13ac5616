//! What the containers that call others have counted.

use crate::stage::{Stage, docker};
pub use caller::counts::{Calls, Cause};
use caller::counts::{Counts, of_log};
use teal_model::deployment::Published;

/// The calls of a service of `teal-caller`, at this moment.
pub fn now(stage: &Stage, service: &str) -> std::io::Result<Vec<Calls>> {
    let mut all = Vec::new();
    for container in stage.replicas(service) {
        let text = docker(&["exec", &container, "/caller", "counts"]);
        let counts: Counts = serde_json::from_str(text.trim())?;
        all.extend(counts.targets);
    }
    if all.is_empty() {
        return Err(std::io::Error::other(format!("no container of {service} calls anybody")));
    }
    Ok(all)
}

/// The calls of all runs, also of those that a restart has ended, as of the last line that was logged.
pub fn logged(container: &str) -> Vec<Calls> {
    of_log(&docker(&["logs", container]))
}

/// Calls that chose a release after the table without it was acknowledged by every worker: each target and version is
/// named once, however often it answered.
pub fn stale(calls: &[Calls], flips: &[(String, Published)]) -> Vec<String> {
    let mut stale = Vec::new();
    for of in calls {
        for (version, flip) in flips {
            let late = of.versions.get(version).map(|answered| answered.chosen_us);
            if let Some(chosen_us) = late.filter(|us| *us > flip.acknowledged_us) {
                let later = chosen_us - flip.acknowledged_us;
                stale.push(format!("{} ({:?}) got {version} {later} us after the flip", of.target, of.resolve));
            }
        }
    }
    stale
}

pub fn failed(calls: &[Calls]) -> u64 {
    calls.iter().map(|of| of.failed).sum()
}

/// Answers of another service than the one that was called, and names that must not be found here.
pub fn wrong(calls: &[Calls]) -> u64 {
    let causes = [Cause::WrongService, Cause::WrongAnswer, Cause::Found];
    calls.iter().flat_map(|of| causes.map(|cause| of.failed_by(cause))).sum()
}

/// Targets that nobody has answered: nothing is known of them.
pub fn unanswered(calls: &[Calls]) -> Vec<String> {
    let silent = calls.iter().filter(|of| of.versions.is_empty());
    silent.map(|of| format!("{} ({:?})", of.target, of.resolve)).collect()
}

/// One line for people.
pub fn describe(calls: &[Calls]) -> String {
    let total: u64 = calls.iter().map(|of| of.calls).sum();
    let mut text = format!("{total} calls, {} closed while idle", calls.iter().map(|of| of.closed_idle).sum::<u64>());
    for of in calls.iter().filter(|of| of.failed > 0) {
        text.push_str(&format!("; {} ({:?}) {:?}", of.target, of.resolve, of.causes));
        if let Some(first) = of.failures.first() {
            text.push_str(&format!(", first {}", first.detail));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use caller::target::Resolve;

    #[test]
    fn a_call_is_stale_when_it_chose_after_the_flip() {
        let flip = |acknowledged_us| Published { acknowledged_us, ..published() };
        let mut calls = Calls::new("tcp://app:9000".into(), Resolve::Once);
        calls.answered("1", 99);
        calls.answered("2", 250);
        let flips = [("1".to_owned(), flip(100)), ("2".to_owned(), flip(200)), ("3".to_owned(), flip(300))];
        let stale = stale(&[calls.clone()], &flips);
        assert_eq!(stale, ["tcp://app:9000 (Once) got 2 50 us after the flip"]);
        assert!(unanswered(&[calls]).is_empty());
        assert_eq!(unanswered(&[Calls::new("x".into(), Resolve::Each)]), ["x (Each)"]);
    }

    fn published() -> Published {
        serde_json::from_value(serde_json::json!({
            "table": { "epoch": 1, "n": 1 }, "sent_us": 0, "acknowledged_us": 0
        }))
        .unwrap()
    }
}
