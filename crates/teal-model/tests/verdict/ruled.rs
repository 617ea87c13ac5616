use teal_model::config::Rollback;
use teal_model::verdict::{Counts, End, Line, Lines, Part, Ruling, Slow, Tick, Warning, Watch, most_share};

const BAKE_MS: u64 = 300_000;
const START_MS: u64 = 1_000_000_300;

const NOT_KNOWN: Part = Part::NoHistory { supposed: 0.1 };

/// A watch, the time, and what the candidate has.
struct Bake {
    watch: Watch,
    now_ms: u64,
    share: u32,
}

impl Bake {
    fn with(rules: &Rollback, history: Option<f64>) -> Self {
        let lines = Lines { p95: Line { us: 50_000, above: 0.05 }, p99: Line { us: 90_000, above: 0.01 } };
        let watch = Watch::new(rules, BAKE_MS, history, Some(lines), START_MS);
        Self { watch, now_ms: START_MS, share: 10_000 }
    }

    fn new() -> Self {
        Self::with(&Rollback::default(), Some(0.001))
    }

    fn tick(&mut self, candidate: Counts, live: Option<Counts>, slow: u64) -> Ruling {
        self.now_ms += 100;
        let of = |n, bad| Slow { p95: Counts { n, bad }, p99: Counts { n, bad } };
        let slow = Some((of(candidate.n - candidate.bad, slow), of(live.unwrap_or_default().n, 0)));
        let ruling = self.watch.tick(self.now_ms, &Tick { candidate, live, slow, share: self.share });
        if let Ruling::Contain { share, .. } | Ruling::Release { share } = ruling {
            self.share = share;
        }
        ruling
    }

    /// The first ruling but keep in so many seconds of ten requests a tick to each.
    fn rules(&mut self, seconds: u64, bad: u64, live: Option<u64>, slow: u64) -> Ruling {
        let of = |bad| Counts { n: 10, bad };
        let mut rulings = (0..seconds * 10).map(|_| self.tick(of(bad), live.map(of), slow));
        rulings.find(|ruling| *ruling != Ruling::Keep).unwrap_or(Ruling::Keep)
    }

    fn warnings(&self) -> Vec<Warning> {
        self.watch.warnings(self.now_ms)
    }
}

#[test]
fn a_candidate_that_fails_is_contained_and_then_taken_back() {
    let mut bake = Bake::new();
    assert_eq!(bake.rules(60, 0, Some(0), 0), Ruling::Keep);
    let Ruling::Contain { share, why } = bake.rules(1, 10, Some(0), 0) else { panic!("not contained") };
    assert_eq!((share, why.live.bad), (500, 0), "200 requests a second: 5 %");
    assert_eq!(bake.watch.contained(), Some(10_000));
    let since = bake.now_ms;
    let Ruling::Revert { why } = bake.rules(10, 10, Some(0), 0) else { panic!("not taken back") };
    assert!(bake.now_ms - since <= 8_000, "{} ms", bake.now_ms - since);
    assert_eq!((why.part, why.candidate.n), (Part::Errors, why.candidate.bad), "since the onset, all failed");
    assert!(why.evidence >= 1000.0 && why.over_ms <= 9_000, "{why:?}");
}

#[test]
fn a_burst_contains_and_is_forgiven_at_half_of_the_requests() {
    let mut bake = Bake::new();
    assert!(matches!(bake.rules(1, 10, Some(0), 0), Ruling::Contain { .. }));
    let since = bake.now_ms;
    assert_eq!(bake.rules(60, 0, Some(0), 0), Ruling::Release { share: 5_000 });
    assert!(bake.now_ms - since >= 10_000);
    assert_eq!((bake.watch.contained(), bake.warnings()), (None, vec![]));
}

#[test]
fn where_both_fail_it_is_frozen_until_both_are_well() {
    let mut bake = Bake::new();
    assert_eq!(bake.rules(30, 0, Some(0), 0), Ruling::Keep);
    assert!(matches!(bake.rules(1, 10, Some(10), 0), Ruling::Contain { .. }));
    assert_eq!(bake.rules(60, 10, Some(10), 0), Ruling::Keep);
    assert!(
        matches!(bake.warnings()[..], [Warning::BothFail { candidate, live }] if candidate.bad > 90 && live.bad > 90)
    );
    assert_eq!(bake.rules(30, 0, Some(10), 0), Ruling::Keep, "the live release still fails");
    assert_eq!(bake.rules(30, 0, Some(0), 0), Ruling::Release { share: 5_000 });
    assert_eq!(bake.warnings(), []);
}

#[test]
fn a_frozen_candidate_that_stays_bad_alone_is_taken_back() {
    let mut bake = Bake::new();
    assert!(matches!(bake.rules(1, 10, Some(10), 0), Ruling::Contain { .. }));
    assert_eq!(bake.rules(20, 10, Some(10), 0), Ruling::Keep);
    assert!(matches!(bake.rules(20, 10, Some(0), 0), Ruling::Revert { why } if why.part == Part::Errors));
}

#[test]
fn without_a_live_release_history_judges_only_where_it_is_asked_to() {
    let mut bake = Bake::new();
    assert_eq!(bake.rules(60, 10, None, 0), Ruling::Keep);
    assert!(matches!(&bake.warnings()[..], [Warning::LiveGone { why: Some(why) }] if why.candidate.bad == 6_000));
    let mut rules = Rollback::default();
    rules.on.history = true;
    let mut asked = Bake::with(&rules, Some(0.001));
    assert!(
        matches!(asked.rules(60, 10, None, 0), Ruling::Revert { why } if why.part == Part::History { usual: 0.001 })
    );
    let mut unknown = Bake::with(&rules, None);
    assert_eq!(unknown.rules(60, 10, None, 0), Ruling::Keep);
    assert!(matches!(&unknown.warnings()[..], [Warning::LiveGone { why: Some(why) }] if why.part == NOT_KNOWN));
}

#[test]
fn without_a_history_it_is_told_where_both_fail() {
    let mut bake = Bake::with(&Rollback::default(), None);
    assert_eq!(bake.rules(30, 0, Some(0), 0), Ruling::Keep);
    assert!(matches!(bake.rules(5, 10, Some(10), 0), Ruling::Contain { why, .. } if why.part == NOT_KNOWN));
    assert_eq!(bake.rules(60, 10, Some(10), 0), Ruling::Keep);
    assert!(matches!(bake.warnings()[..], [Warning::BothFail { .. }]));
    assert_eq!(bake.rules(60, 0, Some(0), 0), Ruling::Release { share: 5_000 });
    // One that always fails a little is not known to, and is no reason for anything.
    assert_eq!(Bake::with(&Rollback::default(), None).rules(300, 1, Some(1), 0), Ruling::Keep);
}

#[test]
fn without_a_history_the_live_release_keeps_some_requests() {
    assert_eq!((most_share(Some(0.001)), most_share(None)), (10_000, 9_500));
}

#[test]
fn errors_that_nobody_listens_to_do_nothing() {
    let mut rules = Rollback::default();
    rules.on.errors = false;
    assert_eq!(Bake::with(&rules, Some(0.001)).rules(60, 10, Some(0), 0), Ruling::Keep);
}

#[test]
fn latency_contains_and_warns_and_takes_back_where_it_is_asked_to() {
    let mut bake = Bake::new();
    assert_eq!(bake.rules(9, 0, Some(0), 10), Ruling::Keep, "caches are cold");
    assert!(
        matches!(bake.rules(60, 0, Some(0), 10), Ruling::Contain { why, .. } if matches!(why.part, Part::Slow { .. }))
    );
    assert_eq!(bake.rules(60, 0, Some(0), 10), Ruling::Keep);
    assert!(matches!(bake.warnings()[..], [Warning::Slow { .. }]));
    assert_eq!(bake.rules(60, 0, Some(0), 0), Ruling::Release { share: 5_000 });
    let mut rules = Rollback::default();
    rules.on.latency = true;
    let mut asked = Bake::with(&rules, Some(0.001));
    assert!(matches!(asked.rules(60, 0, Some(0), 10), Ruling::Contain { .. }));
    assert!(matches!(asked.rules(60, 0, Some(0), 10), Ruling::Revert { .. }));
}

#[test]
fn a_small_share_is_contained_without_growing() {
    let mut bake = Bake::new();
    bake.share = 100;
    assert!(matches!(bake.rules(1, 10, Some(0), 0), Ruling::Contain { share: 100, .. }));
    assert_eq!(bake.rules(60, 0, Some(0), 0), Ruling::Release { share: 100 });
}

#[test]
fn a_bake_that_is_over_promotes_or_says_that_it_knows_too_little() {
    let mut bake = Bake::new();
    bake.rules(30, 0, Some(0), 0);
    assert_eq!(bake.watch.at_end(bake.now_ms), End::Extend { until_ms: START_MS + BAKE_MS });
    assert_eq!(bake.watch.at_end(START_MS + BAKE_MS), End::Promote);
    let mut quiet = Bake::new();
    quiet.rules(2, 0, Some(0), 0);
    assert_eq!(quiet.watch.at_end(START_MS + BAKE_MS), End::Extend { until_ms: START_MS + 900_000 });
    let end = End::Inconclusive { requests: 200, contained: false };
    assert_eq!(quiet.watch.at_end(START_MS + 900_000), end);
    let mut contained = Bake::new();
    contained.rules(30, 0, Some(0), 0);
    contained.rules(1, 10, Some(0), 0);
    let end = contained.watch.at_end(START_MS + 900_000);
    assert!(matches!(end, End::Inconclusive { contained: true, .. }), "{end:?}");
}

#[test]
fn after_a_restart_it_is_still_contained_and_has_seen_nothing() {
    let watch = Watch::new(&Rollback::default(), BAKE_MS, Some(0.001), None, START_MS);
    let mut bake = Bake { watch: watch.resume(Some(10_000)), now_ms: START_MS, share: 500 };
    bake.watch.bakes_since(START_MS - BAKE_MS);
    assert_eq!(bake.watch.at_end(START_MS), End::Extend { until_ms: START_MS - BAKE_MS + 900_000 });
    assert_eq!(bake.rules(60, 0, Some(0), 0), Ruling::Release { share: 5_000 });
    bake.rules(60, 0, Some(0), 0);
    assert_eq!(bake.watch.at_end(bake.now_ms), End::Promote);
}

#[test]
fn a_fault_is_found_long_after_the_bake_was_over() {
    let mut bake = Bake::new();
    assert_eq!(bake.rules(800, 0, Some(0), 0), Ruling::Keep);
    assert!(matches!(bake.rules(2, 10, Some(0), 0), Ruling::Contain { .. }));
    assert!(matches!(bake.rules(12, 10, Some(0), 0), Ruling::Revert { .. }));
}

#[test]
fn time_alone_is_no_evidence() {
    for (live, pause_s) in [(0, 1), (3, 1), (3, 20)] {
        let mut bake = Bake::with(&Rollback::default(), Some(0.001));
        bake.watch = Watch::new(&Rollback::default(), 0, Some(0.001), None, START_MS);
        for second in 0..86_400 {
            let candidate = Counts { n: u64::from(second % pause_s == 0) * live / 3, bad: 0 };
            assert_eq!(bake.tick(candidate, Some(Counts { n: live, bad: 0 }), 0), Ruling::Keep, "after {second} s");
            bake.now_ms += 900;
        }
    }
}

#[test]
fn a_clock_that_is_set_hides_nothing() {
    for set_ms in [-3_600_000, 700_000_000] {
        let mut bake = Bake::new();
        assert_eq!(bake.rules(20, 0, Some(0), 0), Ruling::Keep);
        bake.now_ms = bake.now_ms.checked_add_signed(set_ms).unwrap();
        assert_eq!(bake.rules(1, 0, Some(0), 0), Ruling::Keep);
        assert!(matches!(bake.rules(1, 10, Some(0), 0), Ruling::Contain { .. }));
        assert!(matches!(bake.rules(9, 10, Some(0), 0), Ruling::Revert { .. }));
    }
}

#[test]
fn a_contained_candidate_with_few_requests_is_let_again() {
    let mut bake = Bake::new();
    assert!(matches!(bake.rules(1, 10, Some(0), 0), Ruling::Contain { .. }));
    // One request in two minutes.
    let mut rulings = (0..1_800).map(|second| {
        bake.now_ms += 900;
        bake.tick(Counts { n: u64::from(second % 120 == 0), bad: 0 }, Some(Counts { n: 10, bad: 0 }), 0)
    });
    assert!(rulings.any(|ruling| matches!(ruling, Ruling::Release { .. })));
}

#[test]
fn no_requests_are_no_failure() {
    let mut bake = Bake::new();
    assert!((0..3_000).all(|_| bake.tick(Counts::default(), Some(Counts { n: 3, bad: 0 }), 0) == Ruling::Keep));
}
