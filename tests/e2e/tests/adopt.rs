//! Containers that Compose started are taken over under load: no restart, and no request that fails.

// A test fails where it stands.
#![allow(clippy::unwrap_used)]

use rustix::process::Signal;
use std::time::Duration;
use teal_e2e::leftovers::{Part, Scope, Snapshot};
use teal_e2e::prober::{Clients, Config, Pace, Prober, Report};
use teal_e2e::scenario::adopt::{Composed, new_connections, rules};
use teal_e2e::stage::{Stage, docker, kill};

fn nothing_failed(report: &Report, stage: &Stage) {
    assert_eq!(report.failed(), 0, "{:#?}\n{}", report.failures, stage.logs());
}

fn is_adopted(stage: &Stage) -> bool {
    let services = stage.status().services;
    services.iter().any(|one| one.adopted && one.replicas.iter().all(|replica| replica.health == "ready"))
}

fn adopt(stage: &Stage) {
    let text = stage.must(&["adopt", "compose", "--yes"]);
    assert!(text.contains("adopted web as release"), "{text}");
    stage.until("it is seen to be ready", Duration::from_secs(10), || is_adopted(stage));
}

#[test]
fn what_compose_started_is_adopted_and_deployed_over_without_a_failed_request() {
    let stage = Stage::new("adopt");
    let composed = Composed::up(&stage, "", "");
    stage.up();
    let (life, before) = (composed.life().unwrap(), Snapshot::take(&Scope::default()));
    let prober = Prober::start(new_connections(&stage)).unwrap();
    let dry = stage.must(&["adopt", "compose", "--dry-run"]);
    assert!(dry.contains(&composed.name()) && dry.contains(&format!("127.0.0.1:{}", stage.port)), "{dry}");
    assert!(stage.status().services.is_empty(), "a dry run changes nothing");
    adopt(&stage);
    // What is adopted already stays so.
    assert!(stage.must(&["adopt", "compose", "--yes"]).contains("nothing to adopt"));
    let same = stage.deploy("0", &[]);
    assert_eq!(same.exit, 0, "{same:#?}");
    // The file says VERSION 0, as the container was started, and the image is the same.
    assert!(stage.must(&["plan"]).contains("going on as it was started"));
    kill(stage.agent_pid(), Signal::KILL);
    stage.until("another agent watches it", Duration::from_secs(20), || {
        stage.teal(&["status"]).status.success() && is_adopted(&stage)
    });
    stage.must(&["exec", "-T", "web", "--", "/sample-app", "healthcheck"]);
    assert!(stage.must(&["logs", "web"]).contains(&composed.name()));
    assert_eq!(composed.life().unwrap(), life, "it runs as it did");
    let text = stage.command(&["plan"]).env("VERSION", "1").output().unwrap();
    let text = String::from_utf8_lossy(&text.stdout).into_owned();
    assert!(text.contains("(adopted) -> ") && text.contains("so none is refused"), "{text}");
    let deployed = stage.must_deploy("1");
    std::thread::sleep(Duration::from_millis(500));
    let report = prober.stop().unwrap();
    nothing_failed(&report, &stage);
    assert!(report.answers_of("0") > 0 && report.answers_of("1") > 0, "{:?}", report.versions);
    let flip = deployed.flip().unwrap();
    assert_eq!(report.stale_answers(flip.acknowledged_us, "0").len(), 0, "new connections reach the candidate alone");
    assert_eq!(composed.life(), None, "the adopted container is gone");
    assert_eq!(rules(&stage), Vec::<String>::new());
    assert!(stage.networks().contains(&format!("{}_default", stage.project)), "Compose's network stays");
    stage.must(&["remove", "--yes"]);
    assert!(
        stage.networks().contains(&format!("{}_default", stage.project)),
        "Compose's network is not ours to remove"
    );
    // Others use this machine at the same time: only what is about this project's names or ports is ours.
    let after = Snapshot::take(&Scope::default());
    let ours = |thing: &str| thing.contains(&stage.project) || thing.contains(&format!(":{}", stage.port));
    let left: Vec<_> = before.diff(&after).left.into_iter().filter(|(_, thing)| ours(thing)).collect();
    assert_eq!(left.iter().filter(|(part, _)| *part != Part::UnixSocket).count(), 0, "{left:?}");
}

#[test]
fn connections_that_came_while_the_port_changed_hands_go_on_over_later_deployments() {
    let stage = Stage::new("adopt-keep");
    let _composed = Composed::up(&stage, "", "      BOOT_MS: \"${BOOT_MS:-0}\"");
    stage.up();
    adopt(&stage);
    let mut deploying = stage.command(&["deploy"]).env("VERSION", "1").env("BOOT_MS", "3000").spawn().unwrap();
    stage.until("new connections are led to Teal", Duration::from_secs(20), || !rules(&stage).is_empty());
    let prober =
        Prober::start(Config::new(stage.address()).with(Clients::mixed(16).pace(Pace::per_second(50.0)))).unwrap();
    assert!(deploying.wait().unwrap().success(), "{}", stage.logs());
    assert_eq!(rules(&stage), Vec::<String>::new());
    stage.must_deploy("2");
    stage.must_deploy("3");
    std::thread::sleep(Duration::from_millis(300));
    let report = prober.stop().unwrap();
    nothing_failed(&report, &stage);
    assert_eq!(report.totals.closed_by_server, 0);
    for version in ["0", "1", "2", "3"] {
        assert!(report.answers_of(version) > 0, "{version}: {:?}", report.versions);
    }
}

#[test]
fn a_deployment_over_an_adopted_release_that_fails_gives_the_port_back() {
    let stage = Stage::new("adopt-revert");
    let composed = Composed::up(&stage, "", "      HEALTH: \"${HEALTH:-ok}\"");
    let file = stage.folder().join("compose.yaml");
    let text = std::fs::read_to_string(&file).unwrap().replace("interval: 50ms", "interval: 50ms, deadline: 2s");
    std::fs::write(&file, text).unwrap();
    stage.up();
    adopt(&stage);
    let life = composed.life();
    let prober = Prober::start(new_connections(&stage)).unwrap();
    let output = stage.command(&["deploy"]).env("VERSION", "1").env("HEALTH", "never").output().unwrap();
    assert_eq!(output.status.code(), Some(8), "{}", stage.logs());
    std::thread::sleep(Duration::from_millis(300));
    let report = prober.stop().unwrap();
    nothing_failed(&report, &stage);
    assert_eq!(report.answers_of("0"), report.requests());
    assert_eq!(composed.life(), life, "it was not touched");
    assert_eq!(rules(&stage), Vec::<String>::new());
    assert!(is_adopted(&stage));
    // And it can still be given back.
    assert!(stage.must(&["adopt", "--undo", "--yes"]).contains("left to Docker"));
    assert_eq!(composed.life(), life);
}

#[test]
fn what_was_adopted_is_given_back_as_it_was() {
    let stage = Stage::new("adopt-undo");
    let composed = Composed::up(&stage, "", "");
    stage.up();
    let life = composed.life();
    adopt(&stage);
    stage.must(&["adopt", "--undo", "--yes", "web"]);
    assert!(stage.status().services.is_empty());
    kill(stage.agent_pid(), Signal::KILL);
    stage.until("another agent serves", Duration::from_secs(20), || stage.teal(&["status"]).status.success());
    // The reconciler has its turn, too.
    std::thread::sleep(Duration::from_secs(2));
    assert_eq!(composed.life(), life, "nobody touched it");
    assert_eq!(stage.teal(&["adopt", "--undo", "--yes"]).status.code(), Some(6));
    adopt(&stage);
    assert!(stage.deploy("1", &[]).done(), "{}", stage.logs());
    assert_eq!(stage.teal(&["adopt", "--undo", "--yes", "web"]).status.code(), Some(2), "it was deployed since");
}

#[test]
fn a_recreated_service_holds_new_connections_while_the_adopted_container_ends() {
    let stage = Stage::new("adopt-once");
    let composed = Composed::up(&stage, "      strategy: recreate\n      hold: 60s", "");
    stage.up();
    adopt(&stage);
    let prober = Prober::start(new_connections(&stage)).unwrap();
    std::thread::sleep(Duration::from_millis(300));
    stage.must_deploy("1");
    std::thread::sleep(Duration::from_millis(300));
    let report = prober.stop().unwrap();
    nothing_failed(&report, &stage);
    assert!(report.answers_of("0") > 0 && report.answers_of("1") > 0);
    assert_eq!(composed.life(), None);
    assert_eq!(rules(&stage), Vec::<String>::new());
}

#[test]
fn without_a_firewall_to_ask_the_gap_is_said_and_short() {
    let stage = Stage::new("adopt-gap");
    let _composed = Composed::up(&stage, "", "");
    // No `iptables` in this PATH.
    let up = stage.command(&["up", "--detach"]).env("PATH", "/nonexistent").output().unwrap();
    assert!(up.status.success(), "{}", String::from_utf8_lossy(&up.stderr));
    adopt(&stage);
    let text = stage.command(&["plan"]).env("VERSION", "1").output().unwrap();
    let text = String::from_utf8_lossy(&text.stdout).into_owned();
    assert!(text.contains("connections are refused for as long as they take to stop"), "{text}");
    let prober = Prober::start(new_connections(&stage)).unwrap();
    std::thread::sleep(Duration::from_millis(300));
    stage.must_deploy("1");
    std::thread::sleep(Duration::from_millis(500));
    let report = prober.stop().unwrap();
    let times: Vec<u64> = report.records.iter().filter(|record| !record.ok()).map(|record| record.ended_us()).collect();
    let gap_ms = times.iter().max().zip(times.iter().min()).map_or(0, |(last, first)| (last - first) / 1000);
    let failed = report.failed();
    assert!(gap_ms < 3_000, "{failed} of {} requests failed within {gap_ms} ms", report.requests());
    assert!(report.answers_of("1") > 0);
}

#[test]
fn an_agent_that_is_killed_while_the_port_changes_hands_costs_no_request() {
    for after_ms in [300, 1200, 2500, 3200] {
        let stage = Stage::new("adopt-crash");
        let composed = Composed::up(&stage, "", "");
        stage.up();
        adopt(&stage);
        let prober = Prober::start(new_connections(&stage)).unwrap();
        let begun = stage.command(&["deploy", "--no-wait"]).env("VERSION", "1").output().unwrap();
        assert!(begun.status.success());
        std::thread::sleep(Duration::from_millis(after_ms));
        kill(stage.agent_pid(), Signal::KILL);
        stage.until("the deployment ends", Duration::from_secs(60), || {
            let output = stage.teal(&["history", "--output", "json"]);
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            output.status.success() && text.lines().next().is_some_and(|line| line.contains("\"state\":\"done\""))
        });
        std::thread::sleep(Duration::from_millis(300));
        let report = prober.stop().unwrap();
        nothing_failed(&report, &stage);
        assert!(report.answers_of("1") > 0, "killed after {after_ms} ms");
        assert_eq!(rules(&stage), Vec::<String>::new(), "killed after {after_ms} ms");
        assert_eq!(composed.life(), None);
        assert_eq!(docker(&["ps", "-aq", "--filter", &format!("name={}-web-1", stage.project)]), "");
    }
}
