//! Questions to a report, asked of runs whose answers are known.

use super::{Rude, calm, wait};
use crate::clock::monotonic_us;
use crate::prober::drive::Harvest;
use crate::prober::recorder::Recorder;
use crate::prober::{Cause, Clients, Kind, Pace, Prober, Record, Report};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Requests as (sent, took, version, failed), in a run from 0 to 1 s that used so much processor time.
fn report(requests: &[(u64, u32, &str, bool)], cpu_us: u64) -> Report {
    let mut recorder = Recorder::new(1_000);
    for (sent_us, took_us, version, failed) in requests {
        let version = recorder.intern(version.as_bytes());
        recorder.add(Record {
            due_us: *sent_us,
            late_us: 0,
            took_us: *took_us,
            client: 1,
            version,
            status: 200,
            kind: Kind::Get,
            cause: failed.then_some(Cause::Closed),
        });
    }
    Report::from_harvests(vec![Harvest { recorder, started_us: 0, ended_us: 1_000_000, cpu_us }])
}

#[test]
fn the_longest_gap_counts_good_answers_and_the_ends() {
    let report = report(&[(0, 100, "a", false), (50_000, 100, "a", true), (300_000, 100, "a", false)], 0);
    assert_eq!(report.longest_gap(0, 300_200), 300_000, "a failure is no answer");
    assert_eq!(report.longest_gap_at(0, 1_000_000), (300_100, 699_900), "the end counts");
    assert_eq!(report.longest_gap(400_000, 500_000), 100_000, "nobody was answered at all");
}

#[test]
fn stale_answers_are_those_sent_after_the_acknowledgement() {
    let report = report(&[(100, 900, "a", false), (500, 10, "a", false), (600, 10, "b", false)], 0);
    assert_eq!(report.stale_answers(400, "a").len(), 1);
    assert_eq!(report.stale_answers(500, "a").len(), 0, "sent at that moment is not after it");
    assert_eq!(report.stale_answers(50, "a").len(), 2);
    assert_eq!(report.stale_answers(50, "never seen").len(), 0);
    assert_eq!(report.first_answer_of("b"), Some(610));
    assert_eq!(report.last_sent_to("a"), Some(500));
}

#[test]
fn counts_and_latencies_of_a_stretch_hold_its_ends() {
    let requests: Vec<(u64, u32, &str, bool)> = (0..100).map(|n| (n * 1_000, 10 + n as u32, "a", n == 99)).collect();
    let report = report(&requests, 0);
    assert_eq!(report.answers_between(0, 10_000), 10);
    assert_eq!(report.requests_sent_between(1_000, 3_000), 2);
    assert_eq!(report.failed_between(0, 1_000_000), 1);
    assert_eq!(report.latency_us(0.5), Some(59));
    assert_eq!(report.latency_us(1.0), Some(108), "a failure has no latency");
    assert_eq!(report.latency_between(1.0, 0, 10_000), Some(19));
    assert_eq!(report.latency_between(0.5, 500_000, 600_000), None);
    let windows = report.windows(500_000);
    assert_eq!((windows[0].sent, windows[0].answered, windows[0].failed), (100, 99, 1));
    assert_eq!(windows[1].answered, 0);
}

#[test]
fn a_busy_load_generator_makes_a_run_void() {
    assert_eq!(report(&[], 790_000).void(), None);
    assert!(report(&[], 810_000).void().unwrap().contains("81 %"));
}

#[test]
fn threads_that_met_versions_in_different_order_agree() {
    let both: Vec<Harvest> = [["a", "b"], ["b", "a"]]
        .iter()
        .map(|order| {
            let mut recorder = Recorder::new(10);
            for version in order {
                let version = recorder.intern(version.as_bytes());
                recorder.add(Record { version, ..report(&[(1, 1, "x", false)], 0).records[0] });
            }
            Harvest { recorder, started_us: 0, ended_us: 1, cpu_us: 0 }
        })
        .collect();
    let report = Report::from_harvests(both);
    for version in ["a", "b"] {
        let index = report.versions.iter().position(|known| known == version).unwrap() as u16;
        assert_eq!(report.records.iter().filter(|record| record.version == index).count(), 2);
        assert_eq!(report.answers_of(version), 2);
    }
}

#[test]
fn an_old_version_that_answers_after_the_flip_is_caught_live() {
    let flipped = Arc::new(AtomicBool::new(false));
    let seen = Arc::clone(&flipped);
    // The first connection keeps to the old version.
    let server = Rude::start(move |mut visitor, number| {
        while visitor.request().is_some() {
            let version = if number == 0 || !seen.load(Ordering::SeqCst) { "v1" } else { "v2" };
            visitor.say(format!("HTTP/1.1 200 OK\r\nX-Version: {version}\r\nContent-Length: 0\r\n\r\n").as_bytes());
        }
    });
    let clients = Clients { connections: 2, ..calm() };
    let handle = Prober::start(server.config(clients)).unwrap();
    wait(&handle, |live| live.requests >= 10);
    flipped.store(true, Ordering::SeqCst);
    let acked_us = monotonic_us();
    wait(&handle, |live| live.by_version.iter().any(|(version, count)| version == "v2" && *count > 5));
    let report = handle.stop().unwrap();
    let stale = report.stale_answers(acked_us, "v1");
    assert!(stale.len() >= 2, "{report}");
    assert!(stale.iter().all(|record| record.client == stale[0].client), "only one client's connection is stale");
}

#[test]
fn a_stall_of_everybody_is_the_longest_gap() {
    let stalled = Arc::new(AtomicBool::new(false));
    let gate = Arc::clone(&stalled);
    let server = Rude::start(move |mut visitor, _| {
        while visitor.request().is_some() {
            while gate.load(Ordering::SeqCst) {
                std::thread::sleep(Duration::from_millis(1));
            }
            visitor.say(super::GOOD);
        }
    });
    let clients = Clients::steady(4).pace(Pace::Think(Duration::from_millis(2)));
    let handle = Prober::start(server.config(clients)).unwrap();
    wait(&handle, |live| live.requests >= 20);
    let from_us = monotonic_us();
    stalled.store(true, Ordering::SeqCst);
    std::thread::sleep(Duration::from_millis(250));
    stalled.store(false, Ordering::SeqCst);
    let before = handle.snapshot().requests;
    wait(&handle, |live| live.requests >= before + 20);
    let report = handle.stop().unwrap();
    let gap_us = report.longest_gap(from_us, report.ended_us);
    assert!((240_000..450_000).contains(&gap_us), "{gap_us}");
    assert_eq!(report.failed(), 0, "{report}");
}
