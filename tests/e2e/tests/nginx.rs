//! Teal and an nginx of the host, side by side.

// A test fails where it stands.
#![allow(clippy::unwrap_used)]

use rustix::process::Signal;
use std::os::unix::fs::MetadataExt;
use std::time::Duration;
use teal_e2e::prober::{Cause, Pace, Prober, Report};
use teal_e2e::scenario::flip;
use teal_e2e::scenario::nginx::{Behind, Standing, behind, load};
use teal_e2e::scenario::takeover::{BY_NGINX, Seen, Takeover};
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

/// New connections lose nothing; a kept one may be closed by nginx in the moment in which its client sends, as at any end of it.
fn came_over(takeover: &Takeover, seen: &Seen) {
    let told = |report: &Report| {
        format!("{:#?}\n{}\n{}\n{}", report.failures, seen.said, takeover.nginx.errors(), takeover.stage.logs())
    };
    assert!(seen.well && seen.said.contains("is Teal's alone"), "{}", told(&seen.new));
    assert_eq!(seen.new.failed(), 0, "{}", told(&seen.new));
    let races = seen.kept.failed_by(Cause::Closed) + seen.kept.failed_by(Cause::Reset);
    assert_eq!(seen.kept.failed(), races, "{}", told(&seen.kept));
    assert!(seen.new.answers_of(BY_NGINX) > 0 && seen.new.answers_of("1") > 0);
    assert!(seen.both.0 > 0 && seen.both.1 > 0, "both answer while both listen: {:?}", seen.both);
    let versions = [&seen.new, &seen.kept].map(|report| report.last_sent_to(BY_NGINX).unwrap());
    let ended = seen.new.ended_us.saturating_sub(500_000);
    assert!(versions.iter().all(|last| *last < ended), "at the end Teal answers alone");
}

#[test]
fn a_port_comes_from_an_nginx_that_quits() {
    let mut takeover = Takeover::start("takeover", "").unwrap();
    let seen = takeover.run(|takeover| takeover.nginx.signal("quit")).unwrap();
    assert!(!seen.said.contains("nginx -s quit"), "it has another port: {}", seen.said);
    came_over(&takeover, &seen);
    let nginx = &mut takeover.nginx;
    takeover.stage.until("nginx has ended", Duration::from_secs(5), || nginx.has_ended());
}

#[test]
fn a_port_comes_from_an_nginx_that_goes_on_with_others() {
    let takeover = Takeover::start("giveup", "").unwrap();
    let seen = takeover.run(Takeover::give_up).unwrap();
    came_over(&takeover, &seen);
    assert!(seen.said.contains(&format!("take `listen {}` out", takeover.address.port())), "{}", seen.said);
    assert!(std::net::TcpStream::connect(takeover.other).is_ok(), "its other port is its own as before");
    // Undone while nginx does not listen there: the port closes.
    takeover.stage.must(&["remove", "--yes"]);
    assert!(std::net::TcpStream::connect(takeover.address).is_err());
}

#[test]
fn a_port_goes_back_to_an_nginx_that_has_not_stopped() {
    let takeover = Takeover::start("back", "").unwrap();
    let (stage, port) = (&takeover.stage, takeover.address.port().to_string());
    let prober = Prober::start(takeover.load(true)).unwrap();
    std::thread::sleep(Duration::from_millis(300));
    stage.must(&["takeover", &port, "--yes", "--no-wait"]);
    stage.until("Teal answers, too", Duration::from_secs(10), || {
        prober.snapshot().by_version.iter().any(|(version, count)| version == "0" && *count > 0)
    });
    let output = stage.teal(&["takeover", &port, "--undo", "--yes"]);
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(text.contains("still publishes port"), "{text}");
    takeover.forget_port();
    stage.must(&["takeover", &port, "--undo", "--yes"]);
    let mark = prober.snapshot();
    std::thread::sleep(Duration::from_secs(1));
    let report = prober.stop().unwrap();
    assert_eq!(report.failed(), 0, "{:#?}\n{}", report.failures, stage.logs());
    let by_teal =
        |by_version: &[(String, u64)]| by_version.iter().find(|(known, _)| known == "0").map(|(_, count)| *count);
    assert_eq!(by_teal(&mark.by_version), by_teal(&report.totals.by_version), "nginx answers alone");
    assert_eq!(stage.status().alerts, Vec::<String>::new());
}

#[test]
fn a_first_release_takes_a_port_when_it_serves_and_not_before() {
    let takeover = Takeover::first("first").unwrap();
    let mut load = takeover.load(true);
    load.clients[0].post_share = 0.0;
    load.clients[0].slow_share = 0.0;
    let prober = Prober::start(load).unwrap();
    takeover.stage.must(&["takeover", &takeover.address.port().to_string(), "--yes", "--no-wait"]);
    std::thread::sleep(Duration::from_secs(1));
    let report = prober.stop().unwrap();
    assert_eq!(report.failed(), 0, "{:#?}\n{}", report.failures, takeover.stage.logs());
    assert!(report.answers_of(BY_NGINX) > 0 && report.answers_of("0") > 0, "{:?}", report.totals.by_version);
    let held: u64 = flip::receipts(&takeover.stage).iter().map(|measured| measured.held).sum();
    assert_eq!(held, 0, "while it boots nginx answers, and nobody waits for Teal");
}

#[test]
fn a_takeover_that_is_taken_back_leaves_the_port_to_nginx() {
    let takeover = Takeover::first("takenback").unwrap();
    let mut load = takeover.load(true);
    load.clients[0].post_share = 0.0;
    load.clients[0].slow_share = 0.0;
    let prober = Prober::start(load).unwrap();
    let port = takeover.address.port().to_string();
    let output = takeover.stage.command(&["takeover", &port, "--yes"]).env("HEALTH", "never").output().unwrap();
    assert_eq!(output.status.code(), Some(8), "{}", String::from_utf8_lossy(&output.stderr));
    std::thread::sleep(Duration::from_millis(500));
    let report = prober.stop().unwrap();
    assert_eq!(report.failed(), 0, "{:#?}\n{}", report.failures, takeover.stage.logs());
    assert_eq!(report.answers_of(BY_NGINX), report.requests());
}

#[test]
fn what_cannot_be_taken_is_refused_before_anything_happens() {
    let takeover = Takeover::start("refused", "reuseport").unwrap();
    let before = takeover.stage.containers();
    let port = takeover.address.port().to_string();
    let output = takeover.stage.teal(&["takeover", &port, "--yes"]);
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && text.contains("`reuseport`"), "{text}");
    let output = takeover.stage.teal(&["takeover", &port, "--from", "haproxy", "--yes"]);
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && text.contains("is not haproxy's: nginx ("), "{text}");
    assert_eq!(takeover.stage.containers(), before);
}
