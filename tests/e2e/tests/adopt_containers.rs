//! Containers that a script started are written down as a compose file, and taken over as they run.

// A test fails where it stands.
#![allow(clippy::unwrap_used)]

use serde_json::Value;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;
use teal_e2e::prober::Prober;
use teal_e2e::scenario::adopt::{Scripted, new_connections, rules};
use teal_e2e::stage::{Stage, docker};

fn adopted_and_ready(stage: &Stage) -> bool {
    let services = stage.status().services;
    services.iter().any(|one| one.adopted && one.replicas.iter().all(|replica| replica.health == "ready"))
}

fn edit(stage: &Stage, from: &str, to: &str) {
    let file = stage.folder().join("compose.yaml");
    let text = std::fs::read_to_string(&file).unwrap();
    assert!(text.contains(from), "{text}");
    stage.compose(&text.replace(from, to));
}

#[test]
fn what_docker_run_started_is_adopted_and_deployed_over_without_a_failed_request() {
    let stage = Stage::new("adopt-run");
    let scripted = Scripted::run(&stage, &["--env=API_KEY=hunter2 $HOME"]);
    let green = format!("{}-app-green", stage.project);
    docker(&["create", "--name", &green, "teal-sample:v1"]);
    stage.up();
    let life = scripted.life().unwrap();
    let prober = Prober::start(new_connections(&stage)).unwrap();
    let both = ["adopt", "containers", &scripted.name(), &green];
    let dry = stage.must(&[&both[..], &["--dry-run"]].concat());
    assert!(dry.contains(&format!("{green}: it does not run")) && !dry.contains("hunter2"), "{dry}");
    assert!(
        !stage.folder().join("compose.yaml").exists() && stage.status().services.is_empty(),
        "a dry run changes nothing"
    );
    stage.must(&[&both[..], &["--yes"]].concat());
    let service = format!("{}-app", stage.project);
    let secret = stage.folder().join(format!("{service}.env"));
    assert_eq!(secret.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(std::fs::read_to_string(&secret).unwrap(), "API_KEY=\"hunter2 \\$HOME\"\n");
    stage.until("it is seen to be ready", Duration::from_secs(10), || adopted_and_ready(&stage));
    assert_eq!(scripted.life().unwrap(), life, "it runs as it did");
    // What the file says is what runs: nothing is to be done.
    assert!(stage.must(&["plan"]).contains("going on as it was started"));
    edit(&stage, "VERSION: \"0\"", "VERSION: \"1\"");
    edit(&stage, "image: teal-sample:v1", "image: teal-sample:checked");
    let text = stage.must(&["plan"]);
    assert!(text.contains("so none is refused") && text.contains("blue-green"), "{text}");
    let deployed = stage.deploy("1", &[]);
    assert!(deployed.done(), "{deployed:#?}\n{}", stage.logs());
    std::thread::sleep(Duration::from_millis(500));
    let report = prober.stop().unwrap();
    assert_eq!(report.failed(), 0, "{:#?}\n{}", report.failures, stage.logs());
    assert!(report.answers_of("0") > 0 && report.answers_of("1") > 0, "{:?}", report.versions);
    assert!(std::net::TcpStream::connect(("127.0.0.1", scripted.management)).is_ok(), "the second port is served, too");
    assert_eq!(scripted.life(), None, "the adopted container is gone");
    assert_eq!(rules(&stage), Vec::<String>::new());
    docker(&["rm", &green]);
}

#[test]
fn the_containers_of_the_written_file_are_what_was_adopted() {
    let stage = Stage::new("adopt-same");
    let volume = format!("{}_data", stage.project);
    let bound = format!("--mount=type=bind,source={},target=/bound,readonly", stage.root().display());
    let named = format!("--volume={volume}:/data");
    let scripted = Scripted::run(
        &stage,
        &[
            "--user=1000:1000",
            "--group-add=44",
            "--workdir=/config",
            "--hostname=shop",
            "--network-alias=shop",
            "--memory=64m",
            "--memory-reservation=32m",
            "--cpus=0.5",
            "--cpu-shares=512",
            "--pids-limit=100",
            "--ulimit=nofile=1000:2000",
            "--shm-size=8m",
            "--oom-score-adj=10",
            "--stop-timeout=7",
            "--stop-signal=SIGINT",
            "--cap-add=NET_ADMIN",
            "--cap-drop=MKNOD",
            "--security-opt=no-new-privileges:true",
            "--read-only",
            "--sysctl=net.core.somaxconn=512",
            "--device=/dev/null:/dev/none:rw",
            "--init",
            "--ipc=shareable",
            "--add-host=db:10.0.0.1",
            "--dns=10.0.0.53",
            "--dns-search=example.com",
            "--dns-option=ndots:2",
            "--health-cmd=/sample-app healthcheck $0",
            "--health-interval=1500ms",
            "--health-retries=9",
            "--log-opt=max-size=10m",
            "--label=team=core: \"one\"",
            "--env=ODD= a\tb $x # ",
            "--env=TOKEN=a'b\"c\\d",
            "--tmpfs=/tmp:size=1m",
            "--volume=/anonymous",
            &bound,
            &named,
        ],
    );
    let before: Value = serde_json::from_str(&docker(&["inspect", &scripted.name()])).unwrap();
    stage.up();
    let said = stage.must(&["adopt", "containers", &format!("shop={}", scripted.name()), "--yes"]);
    assert!(!said.contains("not in the file"), "{said}");
    stage.until("it is watched", Duration::from_secs(10), || !stage.status().services.is_empty());
    // There is no shell in the image, so that nothing with this healthcheck ever gets ready.
    edit(&stage, r#"["CMD-SHELL", "/sample-app healthcheck $$0"]"#, r#"["CMD", "/sample-app", "healthcheck"]"#);
    let deployed = stage.deploy("0", &["--force"]);
    let ours = stage.containers();
    assert!(!ours.is_empty(), "{deployed:#?}\n{}", stage.logs());
    let name = ours.iter().find(|name| name.contains("-shop-")).unwrap();
    let after: Value = serde_json::from_str(&docker(&["inspect", name])).unwrap();
    let (before, after) = (&before[0], &after[0]);
    // The ports are the proxy's, networks are joined by name, and mounts may take the other form.
    let other = ["PortBindings", "NetworkMode", "Binds", "Mounts", "RestartPolicy"];
    let nothing = |value: &Value| match value {
        Value::Array(all) => all.is_empty(),
        Value::Object(all) => all.is_empty(),
        other => other.is_null(),
    };
    for (key, was) in before["HostConfig"].as_object().unwrap() {
        let is = &after["HostConfig"][key];
        assert!(other.contains(&key.as_str()) || was == is || nothing(was) && nothing(is), "{key}: {was} {is}");
    }
    for key in ["User", "WorkingDir", "Hostname", "Entrypoint", "Cmd", "StopSignal", "StopTimeout", "Tty", "OpenStdin"]
    {
        assert_eq!(before["Config"][key], after["Config"][key], "{key}");
    }
    let sorted = |value: &Value| {
        let mut all: Vec<String> = value.as_array().unwrap().iter().map(ToString::to_string).collect();
        all.sort();
        all
    };
    assert_eq!(sorted(&before["Config"]["Env"]), sorted(&after["Config"]["Env"]));
    assert_eq!(after["Config"]["Labels"]["team"], "core: \"one\"");
    assert_eq!(after["Config"]["Healthcheck"]["Interval"], before["Config"]["Healthcheck"]["Interval"]);
    let mounts = |value: &Value| {
        let mounts = value["Mounts"].as_array().unwrap().iter();
        let mut all: Vec<String> = mounts
            .map(|one| format!("{} {} {} {}", one["Type"], one["Source"], one["Destination"], one["RW"]))
            .collect();
        all.sort();
        all
    };
    assert_eq!(mounts(before), mounts(after), "the anonymous volume, too");
    stage.must(&["remove", "--yes"]);
    let volumes = after["Mounts"].as_array().unwrap().iter().filter_map(|mount| mount["Name"].as_str());
    assert!(volumes.clone().any(|name| name == volume), "data outlives the service");
    volumes.for_each(|name| drop(docker(&["volume", "rm", name])));
}

#[test]
fn what_cannot_be_adopted_is_said_and_nothing_is_written() {
    let stage = Stage::new("adopt-no");
    let scripted = Scripted::run(&stage, &[]);
    stage.up();
    let refused = |arguments: &[&str]| {
        let output = stage.teal(&[&["adopt", "containers"], arguments, &["--yes"]].concat());
        assert!(!output.status.success());
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    assert!(refused(&["none-of-that-name"]).contains("there is no container none-of-that-name"));
    let green = format!("{}-app-green", stage.project);
    docker(&["run", "--detach", "--name", &green, "teal-sample:v1"]);
    assert!(refused(&[&scripted.name(), &green]).contains("both run"));
    docker(&["rm", "--force", &green]);
    std::fs::write(stage.folder().join("compose.yaml"), "services: {}\n").unwrap();
    assert!(refused(&[&scripted.name()]).contains("not overwritten"));
    assert_eq!(std::fs::read_to_string(stage.folder().join("compose.yaml")).unwrap(), "services: {}\n");
    assert_eq!(std::fs::read_dir(stage.folder()).unwrap().count(), 1);
    assert!(stage.status().services.is_empty());
}
