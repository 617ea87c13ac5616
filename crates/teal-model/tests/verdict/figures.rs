//! A short form of `make bench-verdict`: the same rows and limits with fewer bakes.

use teal_bakes::{Measured, ROWS, Size};

const SHORT: Size = Size { healthy: 800, troubled: 160, bad: 300 };

fn measured(names: &[&str]) -> Vec<Measured> {
    let rows: Vec<_> = ROWS.iter().filter(|row| names.contains(&row.name)).collect();
    assert_eq!(rows.len(), names.len(), "all rows are there");
    rows.iter().flat_map(|row| (row.measure)(SHORT)).collect()
}

fn missed(names: &[&str]) -> Vec<Measured> {
    measured(names).into_iter().filter(|measured| !measured.keeps_its_limit()).collect()
}

#[test]
fn healthy_candidates_stay() {
    assert_eq!(missed(&["healthy", "tenfold", "base"]), []);
}

#[test]
fn what_both_suffer_takes_nothing_back() {
    assert_eq!(missed(&["outage", "outage_new", "drift", "clusters"]), []);
}

#[test]
fn bad_moments_of_the_candidate_seldom_take_it_back() {
    let bursts = measured(&["bursts", "bursts_small_share"]);
    // With so few bakes one more or less is six in a thousand.
    assert!(bursts.iter().all(|measured| measured.value <= 25.0), "{bursts:?}");
}

#[test]
fn candidates_that_fail_are_taken_back_in_time() {
    assert_eq!(missed(&["fails_100", "fails_10", "fails_2", "late", "ramp"]), []);
}

#[test]
fn slow_candidates_are_taken_back_where_that_is_asked_for() {
    assert_eq!(missed(&["slow_x3", "warmup"]), []);
}
