//! Groups against the real Docker: jobs, workers, a sidecar, names, orphans and volumes.

// A test fails where it stands.
#![allow(clippy::unwrap_used)]

use std::time::Duration;
use teal_e2e::prober::{Clients, Config, Handle, Pace, Prober};
use teal_e2e::scenario::{IMAGE, web};
use teal_e2e::stage::{Stage, docker};

/// A service that exits by itself, after `$LIFE` ms with `$CODE`; `more` are lines of its own.
fn ending(name: &str, more: &str) -> String {
    format!(
        "  {name}:
    image: {IMAGE}
    environment:
      VERSION: \"${{VERSION:-0}}\"
      EXIT_AFTER_MS: \"${{LIFE:-1000}}\"
      EXIT_CODE: \"${{CODE:-0}}\"
{more}"
    )
}

fn inspect(container: &str, what: &str) -> String {
    docker(&["inspect", "--format", what, container]).trim().to_owned()
}

fn prober(stage: &Stage) -> Handle {
    Prober::start(Config::new(stage.address()).with(Clients::steady(4).pace(Pace::per_second(50.0)))).unwrap()
}

#[test]
fn a_job_ends_before_the_web_service_begins_and_its_failure_leaves_the_live_one_alone() {
    let stage = Stage::new("job");
    let after = "    depends_on: { migrate: { condition: service_completed_successfully } }\n";
    let text = web(1, after, "") + &ending("migrate", "");
    stage.compose(&text).up();
    stage.must_deploy("1");
    let ran = format!("{}-migrate-blue-1", stage.project);
    let ended = inspect(&ran, "{{.State.Status}} {{.State.ExitCode}} {{.HostConfig.RestartPolicy.Name}}");
    assert!(matches!(ended.as_str(), "exited 0 no" | "exited 0 "), "{ended}");
    let web = inspect(&format!("{}-web-blue-1", stage.project), "{{.State.StartedAt}}");
    assert!(inspect(&ran, "{{.State.FinishedAt}}") <= web, "it had ended before web began");
    let status = stage.status();
    let job = status.services.iter().find(|service| service.service.service == "migrate").unwrap();
    assert_eq!(job.replicas[0].health, "completed");

    let clients = prober(&stage);
    let failed = stage.command(&["deploy"]).env("VERSION", "2").env("CODE", "3").output().unwrap();
    let said = String::from_utf8_lossy(&failed.stdout).into_owned();
    assert_eq!(failed.status.code(), Some(8), "{said}");
    assert!(said.contains("exited with code 3") && said.contains("exiting 3, as planned"), "{said}");
    assert_eq!(inspect(&format!("{}-web-blue-1", stage.project), "{{.State.StartedAt}}"), web);
    assert_eq!(stage.replicas("migrate").len(), 1, "only the live one is left");

    // A web service of another version behind a job that has not changed: the job is left alone.
    let finished = inspect(&ran, "{{.State.FinishedAt}}");
    let text = text.replacen("VERSION: \"${VERSION:-0}\"", "VERSION: \"9\"", 1);
    stage.compose(&text);
    let unchanged = stage.deploy("1", &[]);
    assert!(unchanged.done(), "{unchanged:#?}\n{}", stage.logs());
    assert_eq!(inspect(&ran, "{{.State.FinishedAt}}"), finished, "it was not run again");
    stage.must_deploy("3");
    assert_eq!(inspect(&format!("{}-migrate-green-1", stage.project), "{{.State.ExitCode}}"), "0");
    assert_eq!(stage.replicas("migrate").len(), 1);
    let report = clients.stop().unwrap();
    assert_eq!(report.failed(), 0, "{:#?}\n{}", report.failures, stage.logs());
    assert!(report.answers_of("1") > 0 && report.answers_of("9") > 0);
}

#[test]
fn a_worker_that_dies_while_the_web_service_comes_takes_both_back() {
    let stage = Stage::new("worker");
    let boots = "      BOOT_MS: \"${BOOT:-0}\"";
    let more = "    restart: always\n    deploy: { update_config: { order: stop-first } }\n";
    stage.compose(&(web(1, "", boots) + &ending("worker", more))).up();
    let first = stage.command(&["deploy"]).env("VERSION", "1").env("LIFE", "3600000").output().unwrap();
    assert!(first.status.success(), "{first:?}\n{}", stage.logs());
    let clients = prober(&stage);
    // It runs, so it is ready; two seconds later it is gone, while web still boots.
    let mut second = stage.command(&["deploy"]);
    let second = second.env("VERSION", "2").env("LIFE", "2000").env("CODE", "7").env("BOOT", "8000").output().unwrap();
    let said = String::from_utf8_lossy(&second.stdout).into_owned();
    assert_eq!(second.status.code(), Some(8), "{said}\n{}", stage.logs());
    assert!(said.contains("exited with code 7"), "{said}");
    let names: Vec<String> = stage.containers();
    assert!(!names.iter().any(|name| name.contains("green")), "{names:?}");
    let worker = format!("{}-worker-blue-1", stage.project);
    assert_eq!(inspect(&worker, "{{.State.Running}} {{.HostConfig.RestartPolicy.Name}}"), "true always");
    let report = clients.stop().unwrap();
    assert_eq!(report.failed(), 0, "{:#?}", report.failures);
    assert_eq!(report.answers_of("2"), 0, "web goes on as it was");
}

#[test]
fn a_sidecar_goes_along_with_the_service_whose_network_it_has() {
    let stage = Stage::new("sidecar");
    let side = format!(
        "  side:\n    image: {IMAGE}\n    environment: {{ PORT: \"9999\" }}\n    network_mode: service:web\n    restart: always\n"
    );
    stage.compose(&(web(1, "", "") + &side)).up();
    stage.must_deploy("1");
    let clients = prober(&stage);
    for version in ["2", "3"] {
        stage.must_deploy(version);
        let (web, side) = (stage.replicas("web").pop().unwrap(), stage.replicas("side").pop().unwrap());
        assert_eq!((stage.replicas("web").len(), stage.replicas("side").len()), (1, 1));
        let mode = inspect(&side, "{{.HostConfig.NetworkMode}} {{.State.Running}}");
        assert_eq!(mode, format!("container:{} true", inspect(&web, "{{.Id}}")));
    }
    let report = clients.stop().unwrap();
    assert_eq!(report.failed(), 0, "{:#?}\n{}", report.failures, stage.logs());
    assert!(report.answers_of("3") > 0);
}

#[test]
fn a_container_has_the_name_of_the_file() {
    let stage = Stage::new("name");
    let name = format!("{}-the-app", stage.project);
    stage.compose(&web(1, "", "").replace("    deploy:", &format!("    container_name: {name}\n    deploy:"))).up();
    for version in ["1", "2"] {
        stage.must_deploy(version);
        assert!(docker(&["logs", &name]).contains("version="), "docker logs {name}");
        assert_eq!(stage.replicas("web").len(), 1);
    }
    let id = inspect(&name, "{{.Id}}");
    stage.must_deploy("3");
    assert_ne!(inspect(&name, "{{.Id}}"), id, "the next one has it");
}

#[test]
fn orphans_and_volumes_go_when_somebody_says_so() {
    let stage = Stage::new("orphans");
    let store = "  store:\n    image: teal-sample:store\n    volumes: [\"data:/data\"]\n";
    let old = format!("  old:\n    image: {IMAGE}\n");
    let top = "volumes:\n  data: {}\n";
    stage.compose(&(web(1, "", "") + store + &old + top)).up();
    stage.must_deploy("1");
    stage.compose(&(web(1, "", "") + store + top));
    let plan = stage.must(&["plan", "--remove-orphans"]);
    assert!(plan.contains("removed at the end, not in the file: old"), "{plan}");
    assert!(stage.must(&["plan"]).contains("old runs and is not in the file"));
    let clients = prober(&stage);
    let deployed = stage.deploy("2", &["--remove-orphans"]);
    assert!(deployed.done(), "{deployed:#?}\n{}", stage.logs());
    assert!(stage.replicas("old").is_empty());
    assert!(!stage.containers().iter().any(|name| name.contains("-old-")), "{:?}", stage.containers());
    let report = clients.stop().unwrap();
    assert_eq!(report.failed(), 0, "{:#?}", report.failures);

    let volume = format!("{}_data", stage.project);
    assert_eq!(stage.volumes(), [volume.as_str()]);
    for refused in
        [&["remove", "--volumes", "--yes"][..], &["remove", "--volumes"], &["remove", "--volumes=wrong", "--yes"]]
    {
        assert!(!stage.teal(refused).status.success(), "{refused:?}");
        assert_eq!(stage.volumes(), [volume.as_str()], "{refused:?}");
        assert_eq!(stage.replicas("store").len(), 1, "{refused:?}");
    }
    // A stranger that has it mounted keeps it, and the refusal comes before anything is removed.
    let stranger = format!("{}-stranger", stage.project);
    docker(&["create", "--name", &stranger, "--volume", &format!("{volume}:/data"), IMAGE]);
    let all = format!("--volumes={volume}");
    let refused = stage.teal(&["remove", &all, "--yes"]);
    docker(&["rm", &stranger]);
    assert!(!refused.status.success() && stage.replicas("store").len() == 1, "{refused:?}");
    let said = stage.must(&["remove", &all, "--yes"]);
    assert!(said.contains(&format!("removed with their data: {volume}")), "{said}");
    assert!(stage.volumes().is_empty());
}

#[test]
fn a_start_interval_is_kept_with_a_docker_that_does_not_know_it() {
    let stage = Stage::new("interval");
    let slow = "    healthcheck: { interval: 20s, start_period: 60s, start_interval: 300ms, test: [CMD, /sample-app, healthcheck] }\n    deploy:";
    let text = web(1, "", "").replace("teal-sample:v1", "teal-sample:checked").replace("    deploy:", slow);
    stage.compose(&text).up();
    let began = std::time::Instant::now();
    stage.must_deploy("1");
    assert!(
        began.elapsed() < Duration::from_secs(15),
        "{:?}: the engine's own first check is after 20 s",
        began.elapsed()
    );
}

#[test]
fn a_call_by_name_is_answered_over_ipv6_too() {
    let stage = Stage::new("ipv6");
    // A unique local prefix (RFC 4193) of this test's own.
    let subnet = format!("fd7e:a1:{:x}::/64", std::process::id() & 0xffff);
    let network =
        format!("networks: {{ default: {{ enable_ipv6: true, ipam: {{ config: [{{ subnet: \"{subnet}\" }}] }} }} }}\n");
    stage.compose(&(web(1, "", "") + &network)).up();
    let address = "{{range .NetworkSettings.Networks}}{{.GlobalIPv6Address}}{{end}}";
    for version in ["1", "2"] {
        stage.must_deploy(version);
        let holder = inspect(&format!("{}-web-holder", stage.project), address);
        assert!(holder.contains(':'), "the holder has an address of IPv6: {holder}");
        let call = format!("exec 3<>/dev/tcp/{holder}/8080; printf 'GET / HTTP/1.0\\r\\n\\r\\n' >&3; cat <&3");
        let network = format!("{}_default", stage.project);
        let said = docker(&["run", "--rm", "--network", &network, "teal-debian:12", "bash", "-c", &call]);
        assert!(said.contains(&format!("version {version}")), "{said}\n{}", stage.logs());
    }
}
