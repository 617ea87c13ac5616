//! Ten mistakes of a tired person: each is a clear error with what to do, changes nothing and leaves nothing behind.
//!
//! They are listed in [`MISTAKES`], of which the table in `docs/errors.md` is made, too.

// A test fails where it stands.
#![allow(clippy::unwrap_used)]

use std::io::{Read, Write};
use std::process::Output;
use std::time::Duration;
use teal_e2e::disk::Disk;
use teal_e2e::leftovers::{Part, Scope, Snapshot};
use teal_e2e::prober::{Clients, Config, Pace, Prober};
use teal_e2e::scenario::web;
use teal_e2e::stage::{Stage, docker};
use teal_model::fault::{Code, MISTAKES, Mistake};

fn case(name: &str) -> &'static Mistake {
    MISTAKES.iter().find(|case| case.name == name).unwrap_or_else(|| panic!("`{name}` is in MISTAKES"))
}

/// Checks exit code and words.
fn expect(name: &str, output: &Output) {
    let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    let case = case(name);
    assert_eq!(output.status.code(), Some(i32::from(case.code.exit())), "{name}: {text}");
    for words in case.says {
        assert!(text.contains(words), "{name}: `{words}` is not in: {text}");
    }
    assert!(text.contains("hint: ") || case.code == Code::Config, "{name}: no hint in {text}");
}

fn own_name() -> String {
    std::fs::read_to_string("/proc/self/comm").unwrap().trim().to_owned()
}

/// A first deployment that fails leaves the host as it was before.
fn fails_and_leaves_nothing(name: &str, compose: &str) {
    let stage = Stage::new("error");
    stage.compose(compose).up();
    // Volumes of images are the engine's; what the first start of Teal makes is there before, the reserve a moment after the rest.
    let reserve = stage.state_dir().join("reserve");
    stage.until("the agent has its reserve", Duration::from_secs(30), || reserve.exists());
    let scope = Scope { directories: vec![stage.root().to_owned()], ..Scope::default() };
    let before = Snapshot::take(&scope);
    expect(name, &stage.teal(&["deploy"]));
    let left = before
        .diff(&Snapshot::take(&scope))
        .except(|part, thing| part == Part::File && thing.contains("journal.sqlite3"));
    assert!(left.is_clean(), "{name}: {left}");
}

#[test]
fn broken_yaml() {
    let stage = Stage::new("error");
    stage.compose("services:\n  web: [\n").up();
    expect("broken YAML", &stage.teal(&["deploy"]));
}

#[test]
fn an_unknown_key() {
    let stage = Stage::new("error");
    stage.compose("services:\n  web:\n    image: a\n    prots: [\"1:2\"]\n").up();
    expect("an unknown key", &stage.teal(&["deploy"]));
}

#[test]
fn a_missing_image() {
    let text = web(1, "", "").replace("teal-sample:v1", "127.0.0.1:1/none:1");
    fails_and_leaves_nothing("a missing image", &text);
}

#[test]
fn an_image_that_exits() {
    let text = web(2, "", "      EXIT_AFTER_MS: \"300\"\n      EXIT_CODE: \"3\"\n      BOOT_MS: \"5000\"");
    fails_and_leaves_nothing("an image that exits", &text);
}

#[test]
fn a_port_that_does_not_speak_http() {
    let text = web(1, "", "      SPEAK: garbage").replace("health: { path: /health, interval: 50ms }", "mode: http");
    fails_and_leaves_nothing("a port that does not speak HTTP", &text);
}

#[test]
fn a_port_in_use() {
    let stage = Stage::new("error");
    let _taken = std::net::TcpListener::bind(stage.address()).unwrap();
    stage.compose(&web(1, "", "")).up();
    let before = stage.containers();
    let words = format!("{} is in use by {} (pid {})", stage.address(), own_name(), std::process::id());
    let plan = stage.must(&["plan"]);
    assert!(plan.contains(&format!("as it stands this is refused: {words}")), "{plan}");
    let output = stage.teal(&["deploy"]);
    expect("a port in use", &output);
    let said = String::from_utf8_lossy(&output.stderr) + String::from_utf8_lossy(&output.stdout);
    assert!(said.contains(&words), "{said}");
    assert_eq!(stage.containers(), before);
    assert_eq!(stage.status().alerts, Vec::<String>::new());
}

#[test]
fn docker_not_running() {
    let stage = Stage::new("error");
    stage.compose(&web(1, "", ""));
    let up = stage.command(&["up", "--detach"]).env("DOCKER_HOST", "unix:///nowhere/docker.sock").output().unwrap();
    assert!(up.status.success(), "{}", String::from_utf8_lossy(&up.stderr));
    expect("Docker not running", &stage.teal(&["deploy"]));
}

#[test]
fn a_state_directory_that_cannot_be_written() {
    let stage = Stage::new("error");
    let output = stage.command(&["up", "--detach"]).env("TEAL_STATE_DIR", "/proc/teal").output().unwrap();
    expect("a state directory that cannot be written", &output);
}

#[test]
fn a_full_disk() {
    let stage = Stage::new("error");
    let disk = Disk::mount(stage.state_dir(), 4).unwrap();
    stage.compose(&web(2, "", "")).up();
    stage.must_deploy("1");
    let before = stage.containers();
    let prober =
        Prober::start(Config::new(stage.address()).with(Clients::steady(4).pace(Pace::per_second(50.0)))).unwrap();
    disk.fill().unwrap();
    let output = stage.command(&["deploy"]).env("VERSION", "2").output().unwrap();
    expect("a full disk", &output);
    assert_eq!(stage.containers(), before);
    disk.free().unwrap();
    stage.until("it can be deployed again", Duration::from_secs(20), || stage.deploy("2", &[]).done());
    let report = prober.stop().unwrap();
    assert_eq!(report.failed(), 0, "{:#?}", report.failures);
    // Its directory is a mount: it has to be free before it goes.
    stage.teal(&["remove", "--yes"]);
    stage.teal(&["down", "--proxy"]);
    drop(disk);
}

#[test]
fn a_second_deployment_at_the_same_time() {
    let stage = Stage::new("error");
    stage.compose(&web(1, "", "      BOOT_MS: \"60000\"")).up();
    let mut first = stage.command(&["deploy"]).stdout(std::process::Stdio::null()).spawn().unwrap();
    stage.until("the first one runs", Duration::from_secs(20), || !stage.status().running.is_empty());
    expect("a second deployment at the same time", &stage.teal(&["deploy"]));
    stage.must(&["abort"]);
    first.wait().unwrap();
    assert_eq!(stage.containers(), Vec::<String>::new());
}

#[test]
fn an_agent_of_another_version() {
    let stage = Stage::new("error");
    stage.compose(&web(1, "", ""));
    std::fs::create_dir_all(stage.run_dir()).unwrap();
    let socket = stage.run_dir().join("agent.sock");
    let listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut request = [0; 4096];
            if stream.read(&mut request).is_ok() {
                let _ = stream.write_all(b"HTTP/1.1 426 Upgrade Required\r\nteal-api: 99\r\ncontent-length: 2\r\nconnection: close\r\n\r\n{}");
            }
        }
    });
    expect("an agent of another version", &stage.teal(&["deploy"]));
    std::fs::remove_file(socket).unwrap();
}

#[test]
fn docker_restarts_and_the_service_goes_on() {
    // A daemon of everybody's is not restarted here: what a restart does to a container is done to one.
    let stage = Stage::new("restart");
    stage.compose(&web(2, "", "")).up();
    stage.must_deploy("1");
    for name in stage.containers() {
        docker(&["restart", "--time", "1", &name]);
    }
    let ready = || {
        stage
            .status()
            .services
            .first()
            .map_or(0, |service| service.replicas.iter().filter(|replica| replica.health == "ready").count())
    };
    stage.until("both are ready at their new addresses", Duration::from_secs(20), || ready() == 2);
    let prober =
        Prober::start(Config::new(stage.address()).with(Clients::steady(4).pace(Pace::per_second(50.0)))).unwrap();
    std::thread::sleep(Duration::from_millis(500));
    assert_eq!(prober.stop().unwrap().failed(), 0);
}
