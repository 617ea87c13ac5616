//! The disk of the state directory is full to the last byte: what was live before is gone back to all the same.

// A test fails where it stands.
#![allow(clippy::unwrap_used)]

use std::time::Duration;
use teal_e2e::disk::Disk;
use teal_e2e::prober::{Clients, Config, Handle, Prober, Report};
use teal_e2e::scenario::web;
use teal_e2e::stage::{Stage, kill};
use teal_model::api::Summary;
use teal_model::deployment::State;

const MEBIBYTES: u32 = 28;
const RESERVE: u64 = 8 << 20;
const SOON: Duration = Duration::from_secs(30);

/// Releases 1 to `releases` of two replicas were live, the last one is.
fn released(name: &str, retain: &str, releases: u32) -> (Stage, Disk) {
    let stage = Stage::new(name);
    let disk = Disk::mount(stage.state_dir(), MEBIBYTES).unwrap();
    stage.compose(&web(2, &format!("      bake: 0\n      retain: {retain}"), "")).up();
    (1..=releases).for_each(|version| drop(stage.must_deploy(&version.to_string())));
    stage.until("room is kept", SOON, || reserve(&stage) == Some(RESERVE));
    (stage, disk)
}

fn reserve(stage: &Stage) -> Option<u64> {
    std::fs::metadata(stage.state_dir().join("reserve")).ok().map(|file| file.len())
}

fn prober(stage: &Stage) -> Handle {
    Prober::start(Config::new(stage.address()).with(Clients::steady(8))).unwrap()
}

fn live(stage: &Stage) -> Option<u64> {
    stage.status().services[0].live.as_ref().map(|live| live.number)
}

fn newest(stage: &Stage) -> Summary {
    let text = stage.must(&["history", "--output", "json"]);
    serde_json::from_str(text.lines().next().unwrap()).unwrap()
}

/// Nobody has noticed, it is in the history, and all is as it was once there is room again.
fn was_gone_back(stage: &Stage, disk: Disk, report: &Report, line: &str) {
    assert_eq!(report.failed(), 0, "{:#?}\n{}", report.failures, stage.logs());
    assert!(reserve(stage).is_none() && disk.left().unwrap() < RESERVE, "the room that was kept has paid for it");
    let summary = newest(stage);
    assert_eq!((summary.releases, summary.state), (vec![line.to_owned()], State::Done));
    let is_said = || stage.status().alerts.iter().any(|words| words.contains("no room is kept"));
    stage.until("it is said that it did", SOON, is_said);
    disk.free().unwrap();
    stage.until("room is kept again", SOON, || reserve(stage) == Some(RESERVE));
    stage.until("nothing is wrong", SOON, || stage.status().alerts.is_empty());
    stage.must_deploy("9");
    stage.must(&["remove", "--yes"]);
    // Its directory is a mount: it has to be free before it goes.
    stage.must(&["down", "--proxy"]);
    drop(disk);
}

#[test]
fn a_warm_release_is_gone_back_to_on_a_full_disk() {
    let (stage, disk) = released("full-warm", "10m", 2);
    let prober = prober(&stage);
    disk.fill().unwrap();
    assert_eq!(disk.left().unwrap(), 0);
    stage.must(&["rollback"]);
    let report = prober.stop().unwrap();
    assert_eq!(live(&stage), Some(1));
    assert!(report.answers_of("1") > 0 && report.answers_of("2") > 0, "{:?}", report.totals.by_version);
    was_gone_back(&stage, disk, &report, "web 2 -> 1 (back)");
}

#[test]
fn an_older_release_is_made_again_on_a_full_disk() {
    let (stage, disk) = released("full-old", "0", 3);
    let prober = prober(&stage);
    disk.fill().unwrap();
    assert_eq!(disk.left().unwrap(), 0);
    stage.must(&["rollback", "web", "--to", "1"]);
    let report = prober.stop().unwrap();
    assert_eq!(live(&stage), Some(4));
    assert!(report.answers_of("1") > 0, "{:?}", report.totals.by_version);
    was_gone_back(&stage, disk, &report, "web 3 -> 4 (back)");
}

#[test]
fn an_agent_that_starts_on_a_full_disk_comes_up_and_goes_back() {
    let (stage, disk) = released("full-start", "10m", 2);
    let prober = prober(&stage);
    stage.must(&["down"]);
    disk.fill().unwrap();
    assert_eq!(disk.left().unwrap(), 0);
    stage.up();
    assert_eq!((live(&stage), reserve(&stage)), (Some(2), None));
    stage.must(&["rollback"]);
    let report = prober.stop().unwrap();
    assert_eq!(live(&stage), Some(1));
    was_gone_back(&stage, disk, &report, "web 2 -> 1 (back)");
}

#[test]
fn an_agent_that_is_killed_beside_a_full_disk_is_there_again() {
    let (stage, disk) = released("full-kill", "10m", 2);
    let prober = prober(&stage);
    disk.fill().unwrap();
    let before = stage.agent_pid();
    kill(before, rustix::process::Signal::KILL);
    let again = || stage.teal(&["status"]).status.success() && stage.agent_pid() != before;
    stage.until("another agent answers", SOON, again);
    stage.must(&["rollback"]);
    let report = prober.stop().unwrap();
    assert_eq!(live(&stage), Some(1));
    was_gone_back(&stage, disk, &report, "web 2 -> 1 (back)");
}

#[test]
fn where_nothing_was_set_aside_an_agent_says_why_it_does_not_begin_and_does_so_when_there_is_room() {
    let (stage, disk) = released("full-bare", "10m", 1);
    let prober = prober(&stage);
    stage.must(&["down"]);
    std::fs::remove_file(stage.state_dir().join("reserve")).unwrap();
    disk.fill().unwrap();
    let output = stage.teal(&["agent"]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && said.contains("is full, and nothing is set aside there"), "{said}");
    disk.free().unwrap();
    stage.up();
    assert_eq!((live(&stage), prober.stop().unwrap().failed()), (Some(1), 0));
    stage.must(&["remove", "--yes"]);
    stage.must(&["down", "--proxy"]);
    drop(disk);
}
