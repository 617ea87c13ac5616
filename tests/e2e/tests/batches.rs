//! Workers that change two at a time, against the real Docker: its own events tell what started and ended when.

// A test fails where it stands.
#![allow(clippy::unwrap_used)]

use teal_e2e::stage::{Stage, docker};

const DELAY_S: f64 = 2.0;

/// Four that work until they are told to end, or exit 7 by themselves after `$LIFE` seconds.
fn four(order: &str) -> String {
    format!(
        "services:
  worker:
    image: teal-debian:12
    pull_policy: never
    restart: always
    command: [sh, -c, 'trap \"exit 0\" TERM; sleep $$LIFE & wait $$!; exit 7']
    environment: {{ VERSION: \"${{VERSION:-0}}\", LIFE: \"${{LIFE:-3600}}\" }}
    deploy:
      replicas: 4
      update_config: {{ order: {order}, parallelism: 2, delay: 2s }}
"
    )
}

/// Seconds, what happened, and to which replica, in their order: `start green-1`, `die blue-2`.
fn happened(stage: &Stage, since: &str) -> Vec<(f64, String)> {
    let label = format!("label=teal.project={}", stage.project);
    let format = "{{.TimeNano}} {{.Action}} {{index .Actor.Attributes \"name\"}}";
    let until = docker(&["info", "--format", "{{.SystemTime}}"]);
    let filters = ["--filter", label.as_str(), "--filter", "event=start", "--filter", "event=die"];
    let window = ["events", "--since", since, "--until", until.trim(), "--format", format];
    let text = docker(&[&window[..], &filters[..]].concat());
    let prefix = format!("{}-worker-", stage.project);
    let mut all: Vec<(u64, String)> = text
        .lines()
        .filter_map(|line| {
            let (time, rest) = line.split_once(' ')?;
            let (action, name) = rest.split_once(' ')?;
            let replica = name.strip_prefix(&prefix).filter(|name| *name != "holder")?;
            Some((time.parse().ok()?, format!("{action} {replica}")))
        })
        .collect();
    all.sort();
    all.into_iter().map(|(nanoseconds, words)| (nanoseconds as f64 / 1e9, words)).collect()
}

fn now() -> String {
    docker(&["info", "--format", "{{.SystemTime}}"]).trim().to_owned()
}

fn deploy(stage: &Stage, version: &str, life: &str) -> std::process::Output {
    stage.command(&["deploy"]).env("VERSION", version).env("LIFE", life).output().unwrap()
}

fn must_deploy(stage: &Stage, version: &str) -> String {
    let done = deploy(stage, version, "3600");
    assert!(done.status.success(), "{done:?}\n{}", stage.logs());
    String::from_utf8_lossy(&done.stdout).into_owned()
}

/// Two at a time, those of a batch in any order.
fn in_pairs(happened: &[(f64, String)]) -> Vec<Vec<&str>> {
    let pairs = happened.chunks(2).map(|pair| {
        let mut pair: Vec<&str> = pair.iter().map(|(_, words)| words.as_str()).collect();
        pair.sort_unstable();
        pair
    });
    pairs.collect()
}

/// Name, id, start and restart policy of each of the service's containers, running ones alone.
fn running(stage: &Stage) -> Vec<String> {
    let ids = stage.replicas("worker");
    let format = "{{.Name}} {{.State.Running}} {{.HostConfig.RestartPolicy.Name}} {{.Id}} {{.State.StartedAt}}";
    let mut all: Vec<String> =
        ids.iter().map(|id| docker(&["inspect", "--format", format, id]).trim().to_owned()).collect();
    all.sort();
    all
}

#[test]
fn stop_first_two_stop_and_two_start_and_a_candidate_that_exits_leaves_all_four_old_ones() {
    let stage = Stage::new("stopfirst");
    stage.compose(&four("stop-first")).up();
    must_deploy(&stage, "1");
    let plan = stage.command(&["plan"]).env("VERSION", "2").output().unwrap();
    let plan = String::from_utf8_lossy(&plan.stdout).into_owned();
    assert!(plan.contains("2 at a time stop, and start as the new release, 2 s apart"), "{plan}");

    let since = now();
    let said = must_deploy(&stage, "2");
    assert!(said.contains("batch 1 of 2") && said.contains("wait 2s before the next batch"), "{said}");
    let happened = happened(&stage, &since);
    assert_eq!(
        in_pairs(&happened),
        [
            ["die blue-1", "die blue-2"],
            ["start green-1", "start green-2"],
            ["die blue-3", "die blue-4"],
            ["start green-3", "start green-4"],
        ]
    );
    assert!(happened[4].0 - happened[3].0 >= DELAY_S, "{happened:?}");

    let before = running(&stage);
    assert_eq!(before.len(), 4, "{before:?}");
    let failed = deploy(&stage, "3", "1");
    let said = String::from_utf8_lossy(&failed.stdout).into_owned();
    assert_eq!(failed.status.code(), Some(8), "{said}\n{}", stage.logs());
    assert!(said.contains("exited with code 7"), "{said}");
    let after = running(&stage);
    let prefix = format!("/{}-worker-green", stage.project);
    assert_eq!(after.len(), 4, "{after:?}");
    for (at, (before, after)) in before.iter().zip(&after).enumerate() {
        assert!(after.starts_with(&format!("{prefix}-{} true always ", at + 1)), "{after}");
        // The first two were started again, the others were not reached.
        let (before, after) = (before.rsplit_once(' ').unwrap(), after.rsplit_once(' ').unwrap());
        assert_eq!(before.0, after.0, "the same containers");
        assert_eq!(before.1 == after.1, at >= 2, "{before:?} {after:?}");
    }
    assert!(!stage.containers().iter().any(|name| name.contains("blue")), "{:?}", stage.containers());
}

#[test]
fn start_first_two_start_then_two_more_and_the_old_ones_stop_at_the_end() {
    let stage = Stage::new("startfirst");
    stage.compose(&four("start-first")).up();
    must_deploy(&stage, "1");
    let since = now();
    must_deploy(&stage, "2");
    let happened = happened(&stage, &since);
    let pairs = in_pairs(&happened);
    assert_eq!(pairs[..2], [["start green-1", "start green-2"], ["start green-3", "start green-4"]], "{happened:?}");
    assert!(happened[2].0 - happened[1].0 >= DELAY_S, "{happened:?}");
    assert_eq!(happened.len(), 8);
    assert!(happened[4..].iter().all(|(_, words)| words.starts_with("die blue-")), "{happened:?}");

    let (since, before) = (now(), running(&stage));
    let failed = deploy(&stage, "3", "1");
    assert_eq!(failed.status.code(), Some(8), "{failed:?}");
    assert_eq!(running(&stage), before, "they were never touched");
    let happened = self::happened(&stage, &since);
    assert_eq!(in_pairs(&happened)[0], ["start blue-1", "start blue-2"]);
    assert!(happened.iter().all(|(_, words)| words.contains("blue")), "{happened:?}");
}
