//! Deployments of real containers under load: what is measured at length by the benches, in short. Every count of failed
//! requests is exact, so none of these may be off by one.

// A test fails where it stands.
#![allow(clippy::unwrap_used)]

use std::time::Duration;
use teal_e2e::prober::{Clients, Config, Pace, Prober, Report};
use teal_e2e::scenario::{crash, flip, keepalive, proxy_crash, recreate, web};
use teal_e2e::stage::{Stage, docker};
use teal_model::deployment::State;

fn nothing_failed(report: &Report, stage: &Stage) {
    assert_eq!(report.failed(), 0, "{:#?}\n{}", report.failures, stage.logs());
}

#[test]
fn ten_flips_lose_no_request() {
    let stage = Stage::new("flip");
    let flips = flip::run(&stage, 10).unwrap();
    nothing_failed(&flips.report, &stage);
    assert_eq!(flips.report.totals.closed_by_server, 0, "a flip closes no client's connection");
    assert_eq!(
        flips.stale_answers(),
        0,
        "no request sent after the acknowledgement is answered by the retiring release"
    );
    assert_eq!(flips.retried, 0, "no request is sent to a stopped backend");
    assert!(flips.report.answers_of("10") > 0, "the last release serves");
    assert!(flips.near_requests() > 1_000, "{} requests near the flips", flips.near_requests());
}

#[test]
fn a_recreated_service_holds_its_requests() {
    let stage = Stage::new("recreate");
    let recreated = recreate::run(&stage, 2).unwrap();
    nothing_failed(&recreated.report, &stage);
    assert!(recreated.held > 0, "requests waited");
    assert!(recreated.report.answers_of("2") > 0);
}

#[test]
fn an_app_that_closes_under_its_clients_loses_nothing() {
    let stage = Stage::new("keepalive");
    let kept = keepalive::run(&stage, 10).unwrap();
    assert_eq!(kept.failed(), 0, "{:#?}\n{:#?}\n{}", kept.gaps.failures, kept.early.failures, stage.logs());
    assert!(kept.gaps.requests() > 500 && kept.early.requests() > 500);
}

#[test]
fn an_agent_killed_in_a_canary_or_a_bake_costs_no_request_and_promotes_nothing_by_accident() {
    let stage = Stage::new("crash-watched");
    let crashes = crash::watched(&stage, 5).unwrap();
    nothing_failed(&crashes.report, &stage);
    assert!(crashes.ends.len() >= 5, "{:?}", crashes.ends);
    for (place, state) in &crashes.ends {
        assert!(matches!(state, State::Done | State::Reverted { .. }), "killed at {place}: {state:?}");
    }
    assert!(
        crashes.ends.iter().any(|(place, _)| place.contains("stepping") || place.contains("baking")),
        "{:?}",
        crashes.ends
    );
    assert_eq!(crashes.leftovers, Vec::<String>::new());
}

#[test]
fn a_killed_agent_costs_no_request_and_leaves_nothing() {
    let stage = Stage::new("crash");
    let crashes = crash::run(&stage, 7).unwrap();
    nothing_failed(&crashes.report, &stage);
    assert!(crashes.ends.len() >= 3, "{:?}", crashes.ends);
    for (place, state) in &crashes.ends {
        assert!(matches!(state, State::Done | State::Reverted { .. }), "killed at {place}: {state:?}");
    }
    assert_eq!(crashes.leftovers, Vec::<String>::new());
}

#[test]
fn a_killed_proxy_refuses_no_connection() {
    let stage = Stage::new("proxy");
    let crashes = proxy_crash::run(&stage, 2, Duration::from_secs(5)).unwrap();
    assert_eq!(crashes.refused(), 0);
    assert_eq!(crashes.failed_elsewhere, 0, "{:#?}", crashes.report.failures);
    assert!(crashes.serving_us.iter().all(|us| *us < 5_000_000), "{:?}", crashes.serving_us);
}

#[test]
fn a_release_that_never_gets_ready_changes_nothing() {
    let stage = Stage::new("never");
    stage
        .compose(
            &web(2, "", "      HEALTH: \"${HEALTH:-ok}\"").replace("interval: 50ms", "interval: 50ms, deadline: 2s"),
        )
        .up();
    stage.must_deploy("1");
    let before = stage.containers();
    let prober =
        Prober::start(Config::new(stage.address()).with(Clients::steady(8).pace(Pace::per_second(50.0)))).unwrap();
    let output = stage.command(&["deploy"]).env("VERSION", "2").env("HEALTH", "never").output().unwrap();
    let report = prober.stop().unwrap();
    let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(8), "{text}");
    assert!(text.contains("not ready within 2 s") && text.contains("503"), "{text}");
    nothing_failed(&report, &stage);
    assert_eq!(report.answers_of("1"), report.requests());
    assert_eq!(stage.containers(), before);
}

#[test]
fn what_is_live_already_is_left_alone() {
    let stage = Stage::new("same");
    stage.compose(&web(1, "", "")).up();
    stage.must_deploy("1");
    let before = stage.containers();
    let output = stage.command(&["deploy"]).env("VERSION", "1").output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(text.contains("unchanged") || text.contains("live already"), "{text}");
    assert_eq!(stage.containers(), before);
    assert!(stage.deploy("1", &["--force"]).done());
    assert_ne!(stage.containers(), before);
}

#[test]
fn websockets_outlive_the_flip_and_end_within_the_drain_time() {
    let stage = Stage::new("ws");
    stage.compose(&web(1, "", "").replace("drain: 30s", "drain: 2s")).up();
    stage.must_deploy("1");
    let load = Config::new(stage.address())
        .with(Clients::steady(4).pace(Pace::per_second(20.0)))
        .with_websockets(4, Duration::from_millis(50));
    let prober = Prober::start(load).unwrap();
    std::thread::sleep(Duration::from_millis(500));
    let deployed = stage.must_deploy("2");
    std::thread::sleep(Duration::from_millis(300));
    let report = prober.stop().unwrap();
    let flip = deployed.flip().unwrap();
    let old = report.versions.iter().position(|version| version == "1").unwrap() as u16;
    let after = report
        .records
        .iter()
        .filter(|record| record.version == old && record.ok() && record.sent_us() > flip.acknowledged_us)
        .count();
    assert!(after > 10, "messages went on to the retiring release after the flip: {after}");
    let http = report.failures.iter().filter(|failure| !format!("{:?}", failure.cause).contains("WebSocket")).count();
    assert_eq!(http, 0, "{:#?}", report.failures);
}

#[test]
fn a_container_that_dies_leaves_the_pool_and_returns() {
    let stage = Stage::new("reconcile");
    stage.compose(&web(2, "", "    restart: always")).up();
    stage.must_deploy("1");
    let prober =
        Prober::start(Config::new(stage.address()).with(Clients::steady(4).pace(Pace::per_second(50.0)))).unwrap();
    let ready = || {
        stage
            .status()
            .services
            .first()
            .map_or(0, |service| service.replicas.iter().filter(|replica| replica.health == "ready").count())
    };
    let first = stage.containers()[0].clone();
    docker(&["kill", &first]);
    stage.until("it has left the pool", Duration::from_secs(10), || ready() == 1);
    docker(&["start", &first]);
    stage.until("it is ready again", Duration::from_secs(20), || ready() == 2);
    let second = stage.containers()[1].clone();
    docker(&["rm", "--force", &second]);
    stage.until("a removed container is there again", Duration::from_secs(30), || {
        ready() == 2 && stage.containers().contains(&second)
    });
    let report = prober.stop().unwrap();
    // Requests that were being answered by the container in the moment it was killed are lost with it.
    assert!(report.failed() <= 8, "{:#?}", report.failures);
    assert!(report.requests() > 100, "{} requests", report.requests());
}

#[test]
fn one_deployment_at_a_time_and_an_abort_reverts() {
    let stage = Stage::new("abort");
    stage.compose(&web(1, "", "      BOOT_MS: \"${BOOT:-0}\"")).up();
    stage.must_deploy("1");
    let before = stage.containers();
    let mut first = stage
        .command(&["deploy"])
        .env("VERSION", "2")
        .env("BOOT", "60000")
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    stage.until("the first one warms", Duration::from_secs(20), || {
        stage.status().running.iter().any(|running| matches!(running.state, State::Warming { .. }))
    });
    let second = stage.deploy("3", &[]);
    assert_eq!(second.exit, 5, "{second:#?}");
    let said = format!("{}{}", second.stdout, second.stderr);
    assert!(said.contains("begun by test"), "{said}");
    let planned = stage.teal(&["plan"]);
    assert!(planned.status.success(), "a plan is answered meanwhile");
    stage.must(&["abort"]);
    assert_eq!(first.wait().unwrap().code(), Some(9));
    assert_eq!(stage.containers(), before);
    assert!(stage.deploy("3", &[]).done(), "nothing is locked afterwards");
}

#[test]
fn another_project_cannot_take_a_port_that_serves() {
    let stage = Stage::new("taken");
    stage.compose(&web(1, "", "")).up();
    stage.must_deploy("1");
    let prober =
        Prober::start(Config::new(stage.address()).with(Clients::steady(4).pace(Pace::per_second(50.0)))).unwrap();
    let other = format!("{}-other", stage.project);
    let refused = stage.teal(&["deploy", "--project-name", &other]);
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(refused.status.code(), Some(7), "{said}");
    assert!(said.contains(&format!("is published by {}/web already", stage.project)), "{said}");
    let report = prober.stop().unwrap();
    nothing_failed(&report, &stage);
    assert_eq!(report.answers_of("1"), report.requests());
}

/// `api` is recreated and comes first, `web` depends on it; both are one deployment.
const GROUP: &str = "
services:
  web:
    image: teal-sample:v1
    environment: { VERSION: \"${VERSION:-0}\", SIGTERM: drain, HEALTH: \"${HEALTH:-ok}\" }
    ports: [\"PORT:8080\"]
    depends_on: [api]
    x-teal: { health: { path: /health, interval: 50ms, deadline: 2s }, route: /headers }
  api:
    image: teal-sample:v1
    environment: { VERSION: \"${VERSION:-0}\", SIGTERM: drain }
    ports: [\"PORT:8080\"]
    volumes: [\"data:/data\"]
    x-teal: { health: { path: /health, interval: 50ms }, hold: 30s, route: / }
volumes:
  data: {}
";

#[test]
fn a_group_flips_together_and_reverts_together() {
    let stage = Stage::new("group");
    stage.compose(GROUP).up();
    stage.must_deploy("1");
    let clients = |path: &str| Clients { get_path: path.to_owned(), ..Clients::steady(8).pace(Pace::per_second(50.0)) };
    let load = || Config::new(stage.address()).with(clients("/headers")).with(clients("/"));
    let prober = Prober::start(Config { timeout: Duration::from_secs(30), ..load() }).unwrap();
    let deployed = stage.must_deploy("2");
    assert_eq!(deployed.receipt().unwrap().releases.len(), 2);
    // web never gets healthy: api, replaced before it, goes back, too.
    let output = stage.command(&["deploy"]).env("VERSION", "3").env("HEALTH", "never").output().unwrap();
    assert_eq!(output.status.code(), Some(8), "{}", String::from_utf8_lossy(&output.stdout));
    std::thread::sleep(Duration::from_millis(300));
    let end = teal_e2e::clock::monotonic_us();
    std::thread::sleep(Duration::from_millis(500));
    let report = prober.stop().unwrap();
    nothing_failed(&report, &stage);
    let three = report.versions.iter().position(|version| version == "3");
    let late =
        report.records.iter().filter(|record| record.sent_us() > end && Some(usize::from(record.version)) == three);
    assert_eq!(late.count(), 0, "after the revert no request reaches version 3");
    let volume = format!("{}_data", stage.project);
    stage.must(&["remove", "--yes"]);
    assert!(docker(&["volume", "ls", "--quiet"]).lines().any(|name| name == volume), "no volume is ever removed");
    docker(&["volume", "rm", &volume]);
}
