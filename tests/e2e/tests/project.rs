//! Whole projects: what `make bench-project` measures at length, in short.

// A test fails where it stands.
#![allow(clippy::unwrap_used)]

use std::time::Duration;
use teal_e2e::scenario::{CALLER_IMAGE, IMAGE, calls, data, identity, networks, project, unchanged};
use teal_e2e::stage::Stage;

#[test]
fn an_app_is_deployed_again_and_again_and_its_project_does_not_notice() {
    let before = project::snapshot();
    let stage = Stage::new("project");
    let run = project::run(&stage, 3).unwrap();
    assert_eq!(run.report.failed(), 0, "{:#?}\n{}", run.report.failures, stage.logs());
    assert_eq!(run.stale_answers(), 0, "no answer of a release that may not answer any more");
    assert!(run.report.answers_of("3") > 0, "the last release serves");
    assert_eq!(calls::failed(&run.calls), 0, "{:#?}\n{}", run.calls, stage.logs());
    assert_eq!(run.stale_calls(), Vec::<String>::new());
    assert_eq!(calls::unanswered(&run.calls), Vec::<String>::new(), "HTTP and TCP, resolved once and each time");
    assert_eq!(run.restarts, Vec::<String>::new(), "only the app is replaced");
    assert!(run.orders.acknowledged > 0 && run.worked > 0, "{:?}, {} done", run.orders, run.worked);
    assert_eq!(run.orders.lost, 0, "what was acknowledged is in the database");
    assert_eq!(project::left_over(&stage, &before), Vec::<String>::new());
}

#[test]
fn a_name_means_on_each_network_what_compose_says() {
    let stage = Stage::new("networks");
    let calls = networks::run(&stage, 1).unwrap();
    assert_eq!(calls::unanswered(&calls), Vec::<String>::new());
    assert_eq!(calls::wrong(&calls), 0, "{calls:#?}");
}

#[test]
fn a_restarted_docker_daemon_leads_no_request_to_a_wrong_service() {
    let stage = Stage::new("identity");
    let run = identity::run(&stage, 1).unwrap();
    assert_eq!(run.wrong, 0, "{}", run.detail);
    assert!(run.requests > 0 && run.down_us.len() == 1 && run.live_restore_down_us.len() == 1);
}

#[test]
fn data_is_held_by_one_at_a_time_and_found_by_the_next() {
    for kind in data::KINDS {
        let stage = Stage::new("data");
        let run = data::run(&stage, kind, 2);
        assert_eq!((run.doubles, &run.lost), (0, &Vec::new()), "{kind:?}");
    }
}

#[test]
fn a_project_that_has_not_changed_is_left_alone_at_once() {
    let stage = Stage::new("unchanged");
    let run = unchanged::run(&stage, 3);
    assert!(run.untouched);
    assert_eq!(run.millis.len(), 3);
}

#[test]
fn calls_to_a_service_that_is_recreated_wait() {
    let stage = Stage::new("recreated");
    let compose = format!(
        "services:
  app:
    image: {IMAGE}
    environment: {{ VERSION: \"${{VERSION:-0}}\", SIGTERM: drain, ECHO_PORT: \"9000\" }}
    expose: [\"8080\", \"9000\"]
    x-teal: {{ strategy: recreate }}
  caller:
    image: {CALLER_IMAGE}
    environment: {{ TARGETS: \"http://app:8080/ tcp://app:9000\", RESOLVE: both, CONNECTIONS: \"4\", RATE: \"20\" }}
    depends_on: [app]
"
    );
    stage.compose(&compose).up();
    stage.must_deploy("0");
    for version in ["1", "2", "3"] {
        let deployed = stage.deploy(version, &["app"]);
        assert!(deployed.done(), "{deployed:#?}\n{}", stage.logs());
    }
    std::thread::sleep(Duration::from_secs(1));
    let calls = calls::now(&stage, "caller").unwrap();
    assert_eq!(calls::failed(&calls), 0, "{}\n{}", calls::describe(&calls), stage.logs());
    assert!(calls.iter().all(|of| of.versions.contains_key("0") && of.versions.contains_key("3")), "{calls:#?}");
}
