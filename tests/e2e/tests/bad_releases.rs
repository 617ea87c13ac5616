//! Releases that look well and are not: they are taken back by themselves or in one word, and what they cost is counted.

// A test fails where it stands.
#![allow(clippy::unwrap_used)]

use std::time::Duration;
use teal_e2e::scenario::bad_release::{self, Wrong};
use teal_e2e::scenario::rollback::{self, Release};
use teal_e2e::scenario::{canary, dependency};
use teal_e2e::stage::Stage;
use teal_model::receipt::Outcome;

/// `most`: bad answers. At 200 requests a second these are a few seconds of all of them.
fn is_taken_back(wrong: Wrong, most: u64) {
    let stage = Stage::new(&wrong.name().replace('_', "-"));
    let taken = bad_release::run(&stage, wrong).unwrap();
    let (deployed, report) = (&taken.deployed, &taken.report);
    assert_eq!(deployed.exit, 8, "{wrong:?}: {deployed:#?}\n{}", stage.logs());
    let outcome = deployed.receipt().map(|receipt| &receipt.outcome);
    assert!(matches!(outcome, Some(Outcome::Reverted { .. })), "{wrong:?}: {outcome:?}");
    assert!(taken.exposed_us().is_some(), "{wrong:?}: it had requests before it was found out");
    assert!(report.failed() <= most, "{wrong:?}: {} bad answers, {:#?}", report.failed(), report.failures);
    assert_eq!(taken.failed_afterwards(), 0, "{wrong:?}: {:#?}", report.failures);
    assert!(report.answers_of("good") > 0);
}

#[test]
fn a_release_that_fails_every_request_is_taken_back() {
    is_taken_back(Wrong::FailsAll, 1_000);
}

#[test]
fn a_release_that_fails_a_tenth_of_the_requests_is_taken_back() {
    is_taken_back(Wrong::FailsTenth, 400);
}

#[test]
fn a_release_that_hangs_is_taken_back() {
    is_taken_back(Wrong::Hangs, 1_000);
}

#[test]
fn a_release_that_hangs_until_clients_leave_is_taken_back() {
    is_taken_back(Wrong::HangsOn, 2_000);
}

#[test]
fn a_release_that_leaks_until_it_is_killed_is_taken_back() {
    is_taken_back(Wrong::Leaks, 200);
}

#[test]
fn a_release_that_crashes_a_while_after_the_flip_is_taken_back() {
    is_taken_back(Wrong::Crashes, 200);
}

#[test]
fn an_outage_behind_both_releases_is_an_alert_and_no_revert() {
    let stage = Stage::new("outage");
    let outage = dependency::run(&stage, Duration::from_secs(15)).unwrap();
    assert!(outage.report.failed() as f64 > outage.lasted.as_secs_f64() * bad_release::RATE / 2.0, "it was an outage");
    assert!(!outage.alerts.is_empty(), "{}", stage.logs());
    assert!(!dependency::was_taken_back(&outage.state), "{:?}\n{}", outage.state, stage.logs());
}

#[test]
fn a_rollback_to_a_warm_release_costs_no_request_and_little_time() {
    costs_nothing("rollback", Release::Live);
}

#[test]
fn a_rollback_of_a_deployment_that_bakes_costs_no_request_and_little_time() {
    costs_nothing("abort", Release::Bakes);
}

fn costs_nothing(name: &str, from: Release) {
    let stage = Stage::new(name);
    let back = rollback::run(&stage, from, 3).unwrap();
    assert_eq!(back.report.failed(), 0, "{:#?}\n{}", back.report.failures, stage.logs());
    let exposed = back.exposed_us();
    assert_eq!(exposed.len(), 3, "each release had served before");
    assert!(exposed.iter().all(|us| *us < 1_000_000), "{exposed:?}");
    assert!(back.first_serves(), "the release before it is back");
}

#[test]
fn each_step_of_a_canary_has_its_share_and_loses_nothing() {
    let stage = Stage::new("canary");
    let weighed = canary::weigh(&stage, &[1.0, 10.0, 50.0], 10_000).unwrap();
    assert_eq!(weighed.report.failed(), 0, "{:#?}\n{}", weighed.report.failures, stage.logs());
    let off = weighed.off();
    assert!(off.len() == 3 && off.iter().all(|points| *points <= 0.5), "{off:?}");
}

#[test]
fn a_candidate_grows_with_its_steps_and_loses_nothing() {
    for (name, jumps, wanted) in [("grows", false, vec![1, 2, 3, 4]), ("grows-full", true, vec![1, 4])] {
        let stage = Stage::new(name);
        let grown = canary::grow(&stage, &[(10.0, 1), (25.0, 2), (50.0, 3)], jumps).unwrap();
        assert_eq!(grown.report.failed(), 0, "{:#?}\n{}", grown.report.failures, stage.logs());
        assert_eq!(grown.running, wanted, "{:#?}", grown.said);
        for (said, running) in grown.said.iter().zip(&wanted) {
            assert!(said.contains(&format!("{running} of 4 replicas")), "{said}");
        }
        assert!(grown.report.answers_of("0") > 0 && grown.report.answers_of("1") > 0);
    }
}

#[test]
fn a_user_who_was_moved_to_the_candidate_stays_there() {
    let stage = Stage::new("sticky");
    let users = canary::users(&stage, &[25.0, 50.0]).unwrap();
    let moved = |at: usize| users.iter().filter(|met| met[at] == "1").count();
    assert_eq!(canary::moved_back(&users), 0, "{users:?}");
    for met in &users {
        assert!(met.chunks(2).all(|pair| pair[0] == pair[1]), "{met:?}");
    }
    let (first, second, last) = (moved(0), moved(2), moved(4));
    // Sixty users: about 15, 30, and all of them.
    assert!((3..=30).contains(&first) && (18..=42).contains(&second) && last == users.len(), "{first} {second} {last}");
}
