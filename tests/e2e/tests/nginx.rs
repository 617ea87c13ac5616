//! Teal and an nginx of the host, side by side.

// A test fails where it stands.
#![allow(clippy::unwrap_used)]

use rustix::process::Signal;
use std::os::unix::fs::MetadataExt;
use std::time::Duration;
use teal_e2e::prober::{Pace, Prober};
use teal_e2e::scenario::nginx::{Behind, Standing, behind, load};
use teal_e2e::stage::kill;

#[test]
fn ten_flips_behind_nginx_lose_no_request() {
    let mut standing = Behind::start("behind").unwrap();
    let report = behind(&mut standing, 10).unwrap();
    assert_eq!(report.failed(), 0, "{:#?}\n{}\n{}", report.failures, standing.errors(), standing.stage().logs());
    assert_eq!(report.totals.closed_by_server, 0, "a flip closes no connection between client and nginx");
    assert!(report.answers_of("0") > 0 && report.answers_of("10") > 0, "{:?}", report.totals.by_version);
    assert_eq!(standing.errors(), "", "nginx has nothing to complain of");
}

#[test]
fn a_socket_between_nginx_and_teal_loses_no_request() {
    let mut standing = Behind::by_socket("socket").unwrap();
    let report = behind(&mut standing, 3).unwrap();
    assert_eq!(report.failed(), 0, "{:#?}\n{}\n{}", report.failures, standing.errors(), standing.stage().logs());
    assert!(report.answers_of("0") > 0 && report.answers_of("3") > 0, "{:?}", report.totals.by_version);
    assert_eq!(standing.errors(), "", "nginx has nothing to complain of");
    let socket = standing.socket();
    assert_eq!(std::fs::metadata(&socket).unwrap().mode() & 0o777, 0o660);
    standing.stage().must(&["remove", "--yes"]);
    assert!(!socket.exists(), "what nothing needs is taken away");
}

#[test]
fn a_socket_is_there_whoever_dies() {
    let standing = Behind::by_socket("deaths").unwrap();
    let stage = standing.stage();
    let prober = Prober::start(load(standing.address(), Pace::per_second(20.0))).unwrap();
    std::thread::sleep(Duration::from_secs(1));
    let agent = stage.agent_pid();
    kill(agent, Signal::KILL);
    stage.until("another agent answers", Duration::from_secs(20), || {
        stage.teal(&["status"]).status.success() && stage.agent_pid() != agent
    });
    let before = prober.snapshot();
    assert_eq!(before.failed, 0, "{}", standing.errors());
    let proxy = stage.proxy_pid();
    kill(proxy, Signal::KILL);
    stage.until("another proxy serves", Duration::from_secs(20), || {
        stage.status().proxy.pid.is_some_and(|pid| pid != proxy)
    });
    std::thread::sleep(Duration::from_secs(1));
    let report = prober.stop().unwrap();
    let complaints = standing.errors();
    assert!(!complaints.contains("connect()"), "no connection is refused: {complaints}");
    let killed = 64;
    assert!(report.failed() <= killed, "those in flight alone: {:#?}\n{complaints}", report.failures);
}
