use teal_model::ids::{ReleaseKey, ServiceKey};
use teal_model::verdict::{Counts, History, Lines, Slow, Slowness, counts};
use teal_model::wire::{Counters, Failed, Latency, ReleaseStatistics};

fn said(counters: Counters) -> ReleaseStatistics {
    let key = ReleaseKey::new(ServiceKey::new("shop", "web"), 1);
    ReleaseStatistics { counters, ..ReleaseStatistics::of(key) }
}

fn latency(times_ms: impl IntoIterator<Item = u64>) -> Latency {
    let mut latency = Latency { buckets: vec![0; Latency::BUCKETS] };
    times_ms.into_iter().for_each(|ms| latency.buckets[Latency::bucket(ms * 1000)] += 1);
    latency
}

#[test]
fn whatever_the_release_did_wrong_is_bad_and_what_the_client_did_is_nothing() {
    let before = said(Counters { answered: [0, 100, 1, 2, 3], client_aborts: 7, ..Counters::default() });
    let failed = Failed { connect: 1, reset: 2, cut: 3, timeout: 4 };
    let now = said(Counters {
        requests: 1_000,
        answered: [1, 200, 2, 4, 8],
        failed,
        client_aborts: 70,
        gave_up: 6,
        retries: 5,
    });
    assert_eq!(counts(&now, Some(&before)), Counts { n: 104 + 26, bad: 5 + 10 + 5 + 6 });
    assert_eq!(counts(&before, None), Counts { n: 106, bad: 3 });
    assert_eq!(counts(&before, Some(&before)), Counts::default());
}

#[test]
fn counters_of_a_new_proxy_begin_at_zero() {
    let before = said(Counters { answered: [0, 100, 0, 0, 10], ..Counters::default() });
    let now = said(Counters { answered: [0, 4, 0, 0, 1], ..Counters::default() });
    assert_eq!(counts(&now, Some(&before)), Counts { n: 5, bad: 1 });
}

#[test]
fn lines_are_drawn_by_two_thousand_requests() {
    let times = |n: u64| {
        (0..n).map(move |i| {
            if i % 100 < 94 {
                20
            } else if i % 100 < 98 {
                60
            } else {
                300
            }
        })
    };
    assert_eq!(Lines::of(&latency(times(1_999))), None);
    let lines = Lines::of(&latency(times(2_000))).unwrap();
    assert_eq!((lines.p95.us / 10_000, lines.p99.us / 10_000), (6, 32), "ends of the buckets of 60 and 300 ms");
    assert_eq!((lines.p95.above, lines.p99.above), (0.02, 0.0));
    assert_eq!(lines.p95.candidate_us(), lines.p95.us + lines.p95.us / 4 + 10_000);
}

/// A live release whose 95th and 99th percentile are both about 20 ms.
fn live() -> (Slowness, ReleaseStatistics) {
    let lines = Lines::of(&latency([20; 2_000])).expect("enough requests");
    (Slowness::live(&lines), said(Counters::default()))
}

fn both(n: u64, bad: u64) -> Slow {
    Slow { p95: Counts { n, bad }, p99: Counts { n, bad } }
}

#[test]
fn a_request_that_hangs_counts_once_and_before_it_ends() {
    let (mut slowness, mut now) = live();
    now.latency = latency([10, 10]);
    now.waiting = latency([15]);
    assert_eq!(slowness.take(&now), both(2, 0));
    now.waiting = latency([115]);
    assert_eq!(slowness.take(&now), both(1, 1));
    now.waiting = latency([215]);
    assert_eq!(slowness.take(&now), both(0, 0));
    (now.waiting, now.latency) = (latency([]), latency([10, 10, 300]));
    assert_eq!(slowness.take(&now), both(0, 0));
    now.latency = latency([10, 10, 300, 400, 10]);
    assert_eq!(slowness.take(&now), both(2, 1));
}

#[test]
fn one_that_hangs_and_fails_is_made_up_for_by_the_next() {
    let (mut slowness, mut now) = live();
    now.waiting = latency([100, 100]);
    assert_eq!(slowness.take(&now), both(2, 2));
    now.waiting = latency([]);
    assert_eq!(slowness.take(&now), both(0, 0));
    now.latency = latency([100, 100, 100]);
    assert_eq!(slowness.take(&now), both(1, 1), "three slow answers in all");
}

#[test]
fn the_latencies_of_a_new_proxy_begin_at_zero() {
    let (mut slowness, mut now) = live();
    now.latency = latency([10, 10, 100, 100]);
    slowness.take(&now);
    now.latency = latency([10, 100]);
    assert_eq!(slowness.take(&now), both(2, 1));
}

#[test]
fn history_needs_requests_and_forgets() {
    let mut history = History::default();
    history.add(Counts { n: 1_999, bad: 0 }, 0);
    assert_eq!(history.rate(), None);
    history.add(Counts { n: 8_001, bad: 1_000 }, 100);
    let bad = history.rate().unwrap();
    assert!((bad - 0.1).abs() < 1e-6, "{bad}");
    let day = 24 * 3_600_000;
    history.add(Counts { n: 5_000, bad: 0 }, day);
    assert!((history.rate().unwrap() - bad / 2.0).abs() < 1e-6, "what is a day old counts half");
    let kept: History = serde_json::from_str(&serde_json::to_string(&history).unwrap()).unwrap();
    assert!((kept.rate().unwrap() - bad / 2.0).abs() < 1e-6);
    history.add(Counts::default(), 30 * day);
    assert_eq!(history.rate(), None);
}
