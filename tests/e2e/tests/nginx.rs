//! Teal and an nginx of the host, side by side.

// A test fails where it stands.
#![allow(clippy::unwrap_used)]

use teal_e2e::scenario::nginx::{Behind, behind};

#[test]
fn ten_flips_behind_nginx_lose_no_request() {
    let mut standing = Behind::start("behind").unwrap();
    let report = behind(&mut standing, 10).unwrap();
    assert_eq!(report.failed(), 0, "{:#?}\n{}\n{}", report.failures, standing.errors(), standing.stage().logs());
    assert_eq!(report.totals.closed_by_server, 0, "a flip closes no connection between client and nginx");
    assert!(report.answers_of("0") > 0 && report.answers_of("10") > 0, "{:?}", report.totals.by_version);
    assert_eq!(standing.errors(), "", "nginx has nothing to complain of");
}
