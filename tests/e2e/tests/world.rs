//! What happens to a project from outside, by hand or by accident, and how it comes back by itself.

// A test fails where it stands.
#![allow(clippy::unwrap_used)]

use std::time::Duration;
use teal_e2e::daemon::Daemon;
use teal_e2e::prober::{Clients, Config, Pace, Prober};
use teal_e2e::scenario::{CALLER_IMAGE, IMAGE, calls};
use teal_e2e::stage::{Stage, docker, kill};

/// Longer than the reconciler's own turn.
const BACK: Duration = Duration::from_secs(30);

/// `app` is published and called by name, once resolved.
fn compose(image: &str) -> String {
    format!(
        "services:
  app:
    image: {image}
    environment: {{ VERSION: \"${{VERSION:-0}}\", SIGTERM: drain }}
    expose: [\"8080\"]
    ports: [\"PORT:8080\"]
    restart: always
    deploy: {{ replicas: 2 }}
  caller:
    image: {CALLER_IMAGE}
    environment: {{ TARGETS: \"http://app:8080/\", RESOLVE: once, CONNECTIONS: \"2\", RATE: \"20\" }}
    restart: always
    depends_on: [app]
"
    )
}

fn stage(image: &str) -> Stage {
    let stage = Stage::new("world");
    stage.compose(&compose(image)).up();
    stage.must_deploy("1");
    stage
}

/// Calls by name are answered again, and none of them fails any more.
fn calls_are_answered(stage: &Stage) {
    let counts = || {
        let all = calls::now(stage, "caller").unwrap();
        let answers: u64 = all.iter().flat_map(|of| of.versions.values()).map(|version| version.answers).sum();
        (answers, calls::failed(&all))
    };
    let mut last = counts();
    stage.until("calls by name are answered", BACK, || {
        std::thread::sleep(Duration::from_secs(1));
        let before = std::mem::replace(&mut last, counts());
        last.0 > before.0 + 10 && last.1 == before.1
    });
}

fn address(container: &str) -> String {
    docker(&["inspect", "-f", "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}", container]).trim().to_owned()
}

fn whole(stage: &Stage) -> bool {
    let services = stage.status().services;
    let app = services.iter().find(|service| service.service.service == "app");
    app.is_some_and(|app| app.replicas.len() == 2 && app.replicas.iter().all(|replica| replica.health == "ready"))
}

#[test]
fn a_holder_that_is_restarted_or_removed_comes_back_at_its_address() {
    let stage = stage(IMAGE);
    let holder = format!("{}-app-holder", stage.project);
    calls_are_answered(&stage);
    let before = address(&holder);
    for by_hand in [&["restart", "-t", "0"][..], &["kill"], &["rm", "-f"]] {
        docker(&[by_hand, &[&holder]].concat());
        calls_are_answered(&stage);
        assert_eq!(address(&holder), before, "after {by_hand:?}");
    }
}

#[test]
fn replicas_that_are_restarted_by_hand_cost_no_request() {
    let stage = stage(IMAGE);
    let load = Config::new(stage.address()).with(Clients::steady(8).pace(Pace::per_second(20.0)));
    let prober = Prober::start(load).unwrap();
    for replica in stage.replicas("app") {
        docker(&["restart", &replica]);
        stage.until("both replicas are ready", BACK, || whole(&stage));
    }
    let report = prober.stop().unwrap();
    // What the app had in hand when it was told to end it finished: it drains.
    assert_eq!(report.failed(), 0, "{:#?}\n{}", report.failures, stage.logs());
    calls_are_answered(&stage);
}

#[test]
fn a_network_that_is_removed_is_made_again() {
    let stage = stage(IMAGE);
    calls_are_answered(&stage);
    let network = format!("{}_default", stage.project);
    for container in stage.containers() {
        docker(&["network", "disconnect", "-f", &network, &container]);
    }
    docker(&["network", "rm", &network]);
    // Who resolved the name before has no network either, and asks again.
    stage.until("all are in the network again", BACK, || {
        stage.networks().contains(&network)
            && whole(&stage)
            && stage.containers().iter().all(|one| !address(one).is_empty())
    });
    calls_are_answered(&stage);
}

#[test]
fn an_image_whose_name_is_gone_still_makes_its_replicas() {
    let tag = format!("teal-e2e-world:{}", std::process::id());
    docker(&["tag", IMAGE, &tag]);
    let stage = stage(&tag);
    docker(&["rmi", &tag]);
    let replica = stage.replicas("app").remove(0);
    docker(&["rm", "-f", &replica]);
    stage.until("the replica is back", BACK, || whole(&stage));
    calls_are_answered(&stage);
}

/// A host that loses its power: agent, proxy, daemon and containers are gone at once.
#[test]
fn after_a_reboot_everything_is_as_the_journal_says() {
    let mut daemon = Daemon::default();
    let stage = stage(IMAGE);
    calls_are_answered(&stage);
    let before: Vec<String> = stage.containers();
    let agent = stage.agent_pid();
    let status = std::fs::read_to_string(format!("/proc/{agent}/status")).unwrap();
    let parent = status.lines().find_map(|line| line.strip_prefix("PPid:")).unwrap().trim().parse().unwrap();
    for pid in [parent, agent, stage.proxy_pid()] {
        kill(pid, rustix::process::Signal::KILL);
    }
    daemon.restart(false).unwrap();
    stage.up();
    stage.until("both replicas are ready", BACK, || whole(&stage));
    assert_eq!(stage.containers(), before);
    calls_are_answered(&stage);
    let answer = std::net::TcpStream::connect(stage.address());
    assert!(answer.is_ok(), "the published port is open again: {answer:?}");
}
