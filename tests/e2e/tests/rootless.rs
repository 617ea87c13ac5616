//! An Engine whose containers this host cannot reach at their addresses: rootless Docker, beside the one of this host.

// A test fails where it stands.
#![allow(clippy::unwrap_used)]

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::MetadataExt;
use std::time::Duration;
use teal_e2e::leftovers::{Part, Scope, Snapshot};
use teal_e2e::prober::{Clients, Config, Pace, Prober};
use teal_e2e::rootless::Rootless;
use teal_e2e::scenario::{CALLER_IMAGE, IMAGE, calls, flip, recreate, web};
use teal_e2e::stage::{Stage, docker};

#[test]
fn a_rootless_engine_is_deployed_to_as_any_other() {
    let engine = Rootless::start().unwrap();
    engine.load(&[IMAGE, CALLER_IMAGE]).unwrap();
    let scope = Scope { docker_host: Some(engine.host.clone()), ..Scope::default() };
    let before = Snapshot::take(&scope);
    for test in [
        "plans_say_how_containers_are_reached",
        "flips_lose_no_request",
        "a_recreated_service_holds_its_requests",
        "what_never_gets_ready_is_taken_back",
        "calls_by_name_follow_the_flip",
        "a_port_is_not_open_before_somebody_listens",
        "an_agent_of_the_same_user_recreates",
    ] {
        engine.run(test);
    }
    let left = before.diff(&Snapshot::take(&scope));
    let of_engine = [Part::Container, Part::Network, Part::Image, Part::Volume];
    let left: Vec<_> = left.left.iter().filter(|(part, _)| of_engine.contains(part)).collect();
    assert!(left.is_empty(), "{left:?}");
}

/// The rest is run by it alone: `DOCKER_HOST` names the Engine.
fn stage(name: &str) -> Stage {
    let security = docker(&["info", "--format", "{{.SecurityOptions}}"]);
    assert!(security.contains("rootless"), "{security}");
    Stage::new(name)
}

#[test]
#[ignore = "it is run with a rootless Engine"]
fn plans_say_how_containers_are_reached() {
    let stage = stage("plan");
    stage.compose(&web(2, "", "")).up();
    let plan = stage.must(&["plan"]);
    assert!(plan.contains("reached  at ports of this host") && plan.contains("this Docker is rootless"), "{plan}");
    assert!(plan.contains("web  blue-green"), "root may listen inside: {plan}");
    let ports = || -> Vec<String> {
        let publication = |name: &String| docker(&["port", name, "8080/tcp"]).trim().to_owned();
        stage.containers().iter().filter(|name| !name.ends_with("-holder")).map(publication).collect()
    };
    stage.must_deploy("1");
    let blue = ports();
    assert!(blue.len() == 2 && blue.iter().all(|at| at.starts_with("127.0.0.1:2")), "{blue:?}");
    stage.must_deploy("2");
    assert!(ports().iter().all(|at| !blue.contains(at)));
    stage.must_deploy("3");
    assert_eq!(ports(), blue, "a color keeps its ports");
}

#[test]
#[ignore = "it is run with a rootless Engine"]
fn flips_lose_no_request() {
    let stage = stage("flip");
    let flips = flip::run(&stage, 5).unwrap();
    assert_eq!(flips.report.failed(), 0, "{:#?}\n{}", flips.report.failures, stage.logs());
    assert_eq!((flips.report.totals.closed_by_server, flips.stale_answers(), flips.retried), (0, 0, 0));
    assert!(flips.report.answers_of("5") > 0 && flips.near_requests() > 100, "{}", flips.near_requests());
}

#[test]
#[ignore = "it is run with a rootless Engine"]
fn a_recreated_service_holds_its_requests() {
    let stage = stage("recreate");
    let recreated = recreate::run(&stage, 2).unwrap();
    assert_eq!(recreated.report.failed(), 0, "{:#?}\n{}", recreated.report.failures, stage.logs());
    assert!(recreated.held > 0 && recreated.report.answers_of("2") > 0);
}

#[test]
#[ignore = "it is run with a rootless Engine"]
fn what_never_gets_ready_is_taken_back() {
    let stage = stage("never");
    let text = web(2, "", "      HEALTH: \"${HEALTH:-ok}\"").replace("interval: 50ms", "interval: 50ms, deadline: 2s");
    stage.compose(&text).up();
    stage.must_deploy("1");
    let before = stage.containers();
    let load = Config::new(stage.address()).with(Clients::steady(8).pace(Pace::per_second(50.0)));
    let prober = Prober::start(load).unwrap();
    let output = stage.command(&["deploy"]).env("VERSION", "2").env("HEALTH", "never").output().unwrap();
    let report = prober.stop().unwrap();
    assert_eq!(output.status.code(), Some(8), "{}", String::from_utf8_lossy(&output.stdout));
    assert_eq!(report.failed(), 0, "{:#?}\n{}", report.failures, stage.logs());
    assert_eq!((report.answers_of("1"), stage.containers()), (report.requests(), before));
}

#[test]
#[ignore = "it is run with a rootless Engine"]
fn calls_by_name_follow_the_flip() {
    let stage = stage("names");
    let caller = format!(
        "  caller:
    image: {CALLER_IMAGE}
    environment: {{ TARGETS: \"http://web:8080/\", RESOLVE: once, CONNECTIONS: \"2\", RATE: \"50\" }}
    depends_on: [web]
"
    );
    stage.compose(&(web(2, "", "") + &caller)).up();
    stage.must_deploy("1");
    let answered = |version: &str| {
        let all = calls::now(&stage, "caller").unwrap();
        all.iter().filter_map(|of| of.versions.get(version)).map(|of| of.answers).sum::<u64>()
    };
    stage.until("the first release is called", Duration::from_secs(10), || answered("1") > 10);
    let deployed = stage.must_deploy("2");
    stage.until("the second release is called", Duration::from_secs(10), || answered("2") > 10);
    let all = calls::now(&stage, "caller").unwrap();
    assert_eq!(calls::failed(&all), 0, "{}\n{}", calls::describe(&all), stage.logs());
    assert_eq!(calls::stale(&all, &[("1".to_owned(), deployed.flip().unwrap())]), Vec::<String>::new());
}

/// Docker takes connections from the start of the container on, whether or not anybody listens in it.
#[test]
#[ignore = "it is run with a rootless Engine"]
fn a_port_is_not_open_before_somebody_listens() {
    let stage = stage("boot");
    let text = web(1, "", "      BOOT_MS: \"2000\"");
    let text = text.replace("health: { path: /health, interval: 50ms }", "mode: tcp");
    stage.compose(&text).up();
    stage.must_deploy("1");
    let mut answer = String::new();
    let mut client = TcpStream::connect(stage.address()).unwrap();
    client.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    client.write_all(b"GET / HTTP/1.0\r\n\r\n").unwrap();
    client.read_to_string(&mut answer).unwrap();
    assert!(answer.contains("200 OK"), "{answer}\n{}", stage.logs());
}

/// It may not enter the network of its containers, nor see what they listen on.
#[test]
#[ignore = "it is run with a rootless Engine"]
fn an_agent_of_the_same_user_recreates() {
    let socket = std::env::var("DOCKER_HOST").unwrap();
    let owner = std::fs::metadata(socket.trim_start_matches("unix://")).unwrap().uid();
    assert_ne!(owner, 0);
    let stage = Stage::of_user("user", owner).unwrap();
    let recreated = recreate::run(&stage, 1).unwrap();
    assert_eq!(recreated.report.failed(), 0, "{:#?}\n{}", recreated.report.failures, stage.logs());
    assert!(recreated.held > 0 && recreated.report.answers_of("1") > 0);
    stage.compose(&web(1, "", ""));
    let plan = stage.must(&["plan"]);
    assert!(
        plan.contains("web  recreate: its containers own its name") && plan.contains("cannot be entered"),
        "{plan}"
    );
    assert!(stage.containers().iter().all(|name| !name.ends_with("-holder")), "{:?}", stage.containers());
}
