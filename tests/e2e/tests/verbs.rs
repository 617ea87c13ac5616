//! The verbs against the real thing, beside deploy: up, down, exec, logs, history, remove; and the kinds of readiness.

// A test fails where it stands.
#![allow(clippy::unwrap_used)]

use std::time::Duration;
use teal_e2e::prober::{Clients, Config, Pace, Prober};
use teal_e2e::scenario::web;
use teal_e2e::stage::{Stage, docker};

#[test]
fn traffic_goes_on_without_an_agent_and_the_next_agent_takes_over() {
    let stage = Stage::new("down");
    stage.compose(&web(2, "", "")).up();
    stage.must_deploy("1");
    let prober =
        Prober::start(Config::new(stage.address()).with(Clients::mixed(8).pace(Pace::per_second(50.0)))).unwrap();
    let (agent, proxy) = (stage.agent_pid(), stage.proxy_pid());
    assert!(stage.must(&["down"]).contains("the proxy goes on serving"));
    assert!(!stage.teal(&["status"]).status.success(), "no agent answers");
    std::thread::sleep(Duration::from_millis(500));
    stage.up();
    assert_ne!(stage.agent_pid(), agent);
    assert_eq!(stage.proxy_pid(), proxy, "the same proxy, with its connections");
    stage.must_deploy("2");
    let report = prober.stop().unwrap();
    assert_eq!(report.failed(), 0, "{:#?}\n{}", report.failures, stage.logs());
    assert_eq!(report.totals.closed_by_server, 0);
    assert!(report.answers_of("1") > 0 && report.answers_of("2") > 0);
    stage.must(&["remove", "--yes"]);
    stage.must(&["down", "--proxy"]);
    assert!(std::net::TcpStream::connect(stage.address()).is_err(), "nothing listens any more");
    let left: Vec<_> = std::fs::read_dir(stage.run_dir()).unwrap().flatten().map(|entry| entry.file_name()).collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn a_proxy_without_an_agent_can_be_ended() {
    let stage = Stage::new("orphan");
    stage.compose(&web(1, "", "")).up();
    stage.must_deploy("1");
    stage.must(&["down"]);
    assert!(std::net::TcpStream::connect(stage.address()).is_ok());
    assert!(stage.must(&["down"]).contains("teal down --proxy"));
    stage.must(&["down", "--proxy"]);
    assert!(std::net::TcpStream::connect(stage.address()).is_err(), "nothing listens any more");
    // The containers were left: the next agent serves them again.
    stage.up();
    stage.until("the service is back", Duration::from_secs(10), || {
        std::net::TcpStream::connect(stage.address()).is_ok()
    });
    let prober =
        Prober::start(Config::new(stage.address()).with(Clients::steady(2).pace(Pace::per_second(50.0)))).unwrap();
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(prober.stop().unwrap().failed(), 0);
}

#[test]
fn a_candidate_that_somebody_removes_fails_the_deployment_at_once() {
    let stage = Stage::new("gone");
    stage.compose(&web(2, "", "      BOOT_MS: \"${BOOT:-0}\"")).up();
    stage.must_deploy("1");
    let before = stage.containers();
    let mut deploy = stage.command(&["deploy"]);
    let deploy = deploy.env("VERSION", "2").env("BOOT", "60000").stdout(std::process::Stdio::piped()).spawn().unwrap();
    stage.until("both candidates run", Duration::from_secs(20), || {
        let text = stage.must(&["status"]);
        text.contains("green-1") && text.contains("green-2")
    });
    std::thread::sleep(Duration::from_millis(500));
    docker(&["rm", "--force", &format!("{}-web-green-1", stage.project)]);
    let output = deploy.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(8), "{said}");
    assert!(said.contains("1 of 2 containers of"), "{said}");
    assert_eq!(stage.containers(), before);
}

#[test]
fn a_command_runs_in_a_container_and_its_exit_code_comes_back() {
    let stage = Stage::new("exec");
    stage.compose(&web(1, "", "")).up();
    stage.must_deploy("1");
    assert_eq!(stage.teal(&["exec", "web", "--", "/sample-app", "healthcheck"]).status.code(), Some(0));
    assert_ne!(stage.teal(&["exec", "web", "--", "/no-such-program"]).status.code(), Some(0));
    assert_eq!(stage.teal(&["exec", "nobody", "--", "/sample-app"]).status.code(), Some(6));
    let logs = stage.must(&["logs", "web"]);
    assert!(logs.contains("web-blue-1"), "{logs}");
    assert_eq!(stage.teal(&["logs", "nobody"]).status.code(), Some(6));
}

#[test]
fn a_candidate_waits_for_its_own_healthcheck() {
    let stage = Stage::new("healthcheck");
    let compose = web(1, "", "      HEALTH: \"${HEALTH:-ok}\"")
        .replace("teal-sample:v1", "teal-sample:checked")
        .replace("health: { path: /health, interval: 50ms }", "health: { interval: 50ms, deadline: 4s }")
        .replace("    deploy:", "    healthcheck: { interval: 500ms, retries: 2 }\n    deploy:");
    stage.compose(&compose).up();
    stage.must_deploy("1");
    assert_eq!(stage.status().services[0].replicas[0].health, "ready");
    // Its pages answer, its HEALTHCHECK does not pass.
    let output = stage.command(&["deploy"]).env("VERSION", "2").env("HEALTH", "never").output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(8), "{said}");
    assert!(said.contains("its HEALTHCHECK"), "{said}");
}

#[test]
fn health_may_be_asked_on_another_port_than_the_apps() {
    let stage = Stage::new("management");
    let compose = web(1, "", "      MANAGEMENT_PORT: \"9090\"\n      HEALTH: \"${HEALTH:-ok}\"")
        .replace("path: /health, interval: 50ms", "path: /actuator/health, port: 9090, interval: 50ms, deadline: 2s");
    stage.compose(&compose).up();
    stage.must_deploy("1");
    let output = stage.command(&["deploy"]).env("VERSION", "2").env("HEALTH", "never").output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(8), "{said}");
    assert!(said.contains(":9090/actuator/health answered 503"), "{said}");
}

#[test]
fn what_is_removed_is_gone_and_its_history_stays() {
    let stage = Stage::new("remove");
    stage.compose(&web(1, "", "")).up();
    stage.must_deploy("1");
    // A new agent knows of the network, too.
    stage.must(&["down"]);
    stage.up();
    stage.must(&["remove", "--yes"]);
    assert_eq!(stage.containers(), Vec::<String>::new());
    let networks = docker(&["network", "ls", "--format", "{{.Name}}"]);
    assert!(!networks.contains(&stage.project), "{networks}");
    assert!(std::net::TcpStream::connect(stage.address()).is_err(), "its port is closed");
    let settings: Vec<_> = std::fs::read_dir(stage.state_dir().join("secrets")).unwrap().collect();
    assert!(settings.is_empty(), "{settings:?}");
    assert!(stage.must(&["history"]).contains("done"));
    assert_eq!(stage.teal(&["remove", "--yes"]).status.code(), Some(6));
    let again = stage.must_deploy("1");
    assert_eq!(again.receipt().unwrap().releases[0].to, 2, "a number is never used twice");
}

#[test]
fn no_secret_leaves_the_store() {
    let stage = Stage::new("secret");
    stage.compose(&web(1, "", "      PASSWORD: hunter2-in-the-clear\n      EXIT_AFTER_MS: \"${EXIT:-86400000}\"")).up();
    stage.must_deploy("1");
    let output = stage.command(&["deploy"]).env("VERSION", "2").env("EXIT", "200").output().unwrap();
    let mut told = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    for verb in [&["plan"][..], &["status"], &["history"], &["show"], &["show", "--output", "json"]] {
        let output = stage.teal(verb);
        told += &String::from_utf8_lossy(&output.stdout);
        told += &String::from_utf8_lossy(&output.stderr);
    }
    assert!(!told.contains("hunter2"), "{told}");
    for file in ["journal.sqlite3", "journal.sqlite3-wal", "agent.log", "proxy.log"] {
        let bytes = std::fs::read(stage.state_dir().join(file)).unwrap_or_default();
        assert!(!bytes.windows(7).any(|window| window == b"hunter2"), "{file} holds it");
    }
}
