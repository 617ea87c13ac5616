//! What a release goes through before the first request of a user, and what happens where it does not pass.

// A test fails where it stands.
#![allow(clippy::unwrap_used)]

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;
use teal_e2e::scenario::web;
use teal_e2e::stage::{Deployed, Stage};
use teal_model::fault::Code;
use teal_model::receipt::Outcome;

/// Status and version of the answer to a GET with these fields.
fn get(stage: &Stage, path: &str, fields: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(stage.address()).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: web\r\n{fields}Connection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let version = answer.lines().find_map(|line| line.strip_prefix("X-Version: ")).unwrap_or_default();
    (answer.split(' ').nth(1).unwrap().parse().unwrap(), version.to_owned())
}

fn why(deployed: &Deployed) -> Code {
    match deployed.receipt().map(|receipt| &receipt.outcome) {
        Some(Outcome::Reverted { why }) => why.code,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_candidate_is_looked_at_before_any_user_meets_it() {
    let stage = Stage::new("preview");
    let settings = "      canary: [0% manual, 50% manual]\n      preview: {networks: 127.0.0.0/8}\n      smoke: [/health, /]\n      sticky: cookie";
    stage
        .compose(
            &web(2, &format!("      bake: 0\n{settings}"), "").replace("interval: 50ms", "interval: 50ms, warmup: 20"),
        )
        .up();
    stage.must_deploy("0");
    let begun = stage.deploy("1", &["--no-wait"]);
    assert_eq!(begun.exit, 0, "{begun:#?}");
    let steps = || stage.status().running.iter().any(|running| running.state.name() == "stepping");
    stage.until("nobody has a share yet", Duration::from_secs(30), steps);
    for _ in 0..10 {
        assert_eq!(get(&stage, "/", ""), (200, "0".to_owned()), "a user");
        assert_eq!(get(&stage, "/", "Teal-Preview: candidate\r\n"), (200, "1".to_owned()), "from this host");
        assert_eq!(get(&stage, "/", "Cookie: a=b; Teal-Preview=candidate\r\n"), (200, "1".to_owned()));
        assert_eq!(get(&stage, "/", "Teal-Preview: candidate wrong\r\n").0, 200);
    }
    stage.must(&["promote", "--full"]);
    stage.until("it is live", Duration::from_secs(60), || stage.status().running.is_empty());
    assert_eq!(get(&stage, "/", ""), (200, "1".to_owned()));
}

#[test]
fn a_candidate_on_another_port_and_host_is_tested_before_anybody_is_led_there() {
    let stage = Stage::new("moved");
    let smoke = "      bake: 0\n      smoke: [/health, {command: [./smoke.sh]}]";
    stage.compose(&web(1, smoke, "")).up();
    let script = stage.folder().join("smoke.sh");
    let asks = "#!/bin/sh\necho \"$TEAL_URL $TEAL_HOST\" > asked\nexec curl -fsS -H \"Host: $TEAL_HOST\" -H \"Teal-Preview: $TEAL_PREVIEW\" \"$TEAL_URL/\"\n";
    std::fs::write(&script, asks).unwrap();
    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).unwrap();
    let asked = || std::fs::read_to_string(stage.folder().join("asked")).unwrap();
    stage.must_deploy("0");
    stage.must_deploy("1");
    let by_port = format!("http://{0} localhost:{1}\n", stage.address(), stage.address().port());
    assert_eq!(asked(), by_port, "through the proxy, as users");
    let moved = web(1, &format!("{smoke}\n      route: {{host: new.example}}"), "");
    stage.compose(&moved);
    stage.must_deploy("2");
    let told = asked();
    assert!(told.ends_with(" new.example\n") && !told.starts_with(&format!("http://{} ", stage.address())), "{told}");
    let mut stream = TcpStream::connect(stage.address()).unwrap();
    write!(stream, "GET / HTTP/1.1\r\nHost: new.example\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.contains("X-Version: 2\r\n"), "{answer}");
}

#[test]
fn a_candidate_that_fails_a_smoke_test_meets_no_user() {
    let stage = Stage::new("smoke");
    stage.compose(&web(1, "      smoke: [/health, {path: /assets/0.js, status: 200}]", "")).up();
    stage.must_deploy("0");
    let deployed = stage.deploy("1", &[]);
    assert_eq!((deployed.exit, why(&deployed)), (8, Code::SmokeFailed), "{deployed:#?}");
    assert_eq!(get(&stage, "/", ""), (200, "0".to_owned()));
    assert_eq!(stage.replicas("web").len(), 1, "{:?}", stage.containers());
}

#[test]
fn a_migration_runs_before_the_release_and_where_it_fails_nothing_changes() {
    let stage = Stage::new("migrate");
    let file = web(1, "      migrate: store report", "")
        .replace("    ports:", "    volumes: [\"./data:/data:ro\"]\n    ports:");
    stage.compose(&file).up();
    std::fs::create_dir_all(stage.folder().join("data")).unwrap();
    let deployed = stage.deploy("0", &[]);
    assert_eq!((deployed.exit, why(&deployed)), (8, Code::MigrationFailed), "{deployed:#?}");
    assert!(stage.containers().is_empty(), "{:?}", stage.containers());
    std::fs::write(stage.folder().join("data/starts"), "0 1\n").unwrap();
    stage.must_deploy("0");
    stage.must_deploy("1");
    assert_eq!(get(&stage, "/", ""), (200, "1".to_owned()));
    std::fs::remove_file(stage.folder().join("data/starts")).unwrap();
    let deployed = stage.deploy("2", &[]);
    assert_eq!((deployed.exit, why(&deployed)), (8, Code::MigrationFailed), "{deployed:#?}");
    assert_eq!(get(&stage, "/", ""), (200, "1".to_owned()));
    assert!(!stage.containers().iter().any(|name| name.contains("web-migrate")), "{:?}", stage.containers());
}

#[test]
fn what_somebody_went_back_from_is_not_deployed_again_by_mistake() {
    let stage = Stage::new("loop");
    stage.compose(&web(1, "      bake: 0\n      retain: 10m", "")).up();
    stage.must_deploy("0");
    stage.must_deploy("1");
    stage.must(&["rollback"]);
    assert_eq!(get(&stage, "/", "").1, "0");
    let again = stage.deploy("1", &[]);
    assert_eq!(again.exit, 8, "{again:#?}");
    assert_eq!(get(&stage, "/", "").1, "0");
    let forced = stage.deploy("1", &["--force"]);
    assert!(forced.done(), "{forced:#?}");
    assert_eq!(get(&stage, "/", "").1, "1");
}

#[test]
fn an_older_release_is_made_again_from_what_was_kept_of_it() {
    let stage = Stage::new("older");
    stage.compose(&web(1, "      bake: 0\n      retain: 0", "")).up();
    for version in ["0", "1", "2"] {
        stage.must_deploy(version);
    }
    stage.must(&["rollback"]);
    assert_eq!(get(&stage, "/", "").1, "1");
    stage.must(&["rollback", "web", "--to", "1"]);
    assert_eq!(get(&stage, "/", "").1, "0");
    let output = stage.teal(&["rollback"]);
    assert_eq!(
        output.status.code(),
        Some(6),
        "there is nothing before it: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    assert_eq!(get(&stage, "/", "").1, "0");
}

#[test]
fn a_page_of_one_release_finds_its_files_while_the_other_serves() {
    let stage = Stage::new("skew");
    stage.compose(&web(1, "      bake: 0\n      retain: 10m\n      skew_guard: /assets", "")).up();
    stage.must_deploy("0");
    stage.must_deploy("1");
    for version in ["0", "1"] {
        assert_eq!(get(&stage, &format!("/assets/{version}.js"), ""), (200, version.to_owned()));
    }
    assert_eq!(get(&stage, "/assets/2.js", "").0, 404);
}
