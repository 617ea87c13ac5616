//! What the verdict is held to: the rows of docs/verdict.md.

use crate::bake::{Outcome, Scenario, bakes};
use crate::measure::{Limit, Measured, bad_answers, caught, contained_s, false_reverts, revert_s, reverts};
use crate::threshold;
use crate::trouble::{Slowing, Trouble};

/// Bakes a row.
#[derive(Debug, Clone, Copy)]
pub struct Size {
    /// Of the first row, which is about something rare.
    pub healthy: usize,
    /// Of healthy candidates beside some trouble, which take the whole bake.
    pub troubled: usize,
    /// Of bad candidates.
    pub bad: usize,
}

impl Size {
    pub const FULL: Size = Size { healthy: 20_000, troubled: 1_000, bad: 1_000 };
}

pub struct Row {
    pub name: &'static str,
    /// Beyond what a verdict has to keep: bakes that the parameters were not found with, and harder ones.
    pub ours: bool,
    pub measure: fn(Size) -> Vec<Measured>,
}

const fn row(name: &'static str, measure: fn(Size) -> Vec<Measured>) -> Row {
    Row { name, ours: false, measure }
}

const fn ours(name: &'static str, measure: fn(Size) -> Vec<Measured>) -> Row {
    Row { name, ours: true, measure }
}

pub const ROWS: &[Row] = &[
    row("healthy", healthy),
    row("bursts", bursts),
    row("outage", outage),
    row("drift", drift),
    row("clusters", clusters),
    row("fails_100", fails_100),
    row("fails_10", fails_10),
    row("fails_2", fails_2),
    row("real", real),
    row("late", late),
    row("warmup", warmup),
    row("slow_x3", slow_x3),
    row("threshold", fixed_threshold),
    ours("ramp", ramp),
    ours("route", route),
    ours("users", users),
    ours("tenfold", tenfold),
    ours("base", base),
    ours("latency", latency),
    ours("bursts_small_share", bursts_small_share),
    ours("outage_new", outage_new),
    ours("warmup_all", warmup_all),
    ours("slow_x3_wide", slow_x3_wide),
];

const ALL: u32 = 10_000;
const HALF: u32 = 5_000;
const RATES: [f64; 4] = [1.0, 20.0, 200.0, 1000.0];

/// The same number of bakes of each.
fn mixed(scenarios: &[Scenario], seed: u64, total: usize) -> Vec<Outcome> {
    let each = total.div_ceil(scenarios.len());
    let of = |(index, scenario): (usize, &Scenario)| bakes(scenario, seed << 8 | index as u64, each);
    scenarios.iter().enumerate().flat_map(of).collect()
}

/// At every rate, with half and with all of the requests.
fn at_all_rates(of: impl Fn(Scenario) -> Scenario) -> Vec<Scenario> {
    RATES.iter().flat_map(|rps| [HALF, ALL].map(|share| of(Scenario::new(*rps, share)))).collect()
}

const AT_ALL_RATES: &str = "1, 20, 200 and 1000 rps, half and all of the requests";

fn healthy(size: Size) -> Vec<Measured> {
    let of = |rps: &f64| {
        let known = [500, HALF, ALL].map(|share| Scenario::new(*rps, share));
        known.into_iter().chain([Scenario { history: None, ..Scenario::new(*rps, 9_500) }])
    };
    let scenarios: Vec<Scenario> = RATES.iter().flat_map(of).collect();
    let how = "1, 20, 200 and 1000 rps; 5, 50 and 100 % share, and 95 % without a history";
    vec![false_reverts("healthy", &mixed(&scenarios, 1, size.healthy), Limit::AtMost(1.0), how)]
}

fn troubled(name: &str, seed: u64, size: Size, limit: f64, trouble: Trouble, how: &str) -> Vec<Measured> {
    let outcomes = mixed(&at_all_rates(|scenario| scenario.with(trouble)), seed, size.troubled);
    vec![false_reverts(name, &outcomes, Limit::AtMost(limit), &format!("{how}; {AT_ALL_RATES}"))]
}

fn bursts(size: Size) -> Vec<Measured> {
    let how = "the candidate's, every 120 s or so, 0.5 to 2 s, 20 to 80 % failing";
    troubled("bursts", 2, size, 10.0, Trouble::Bursts, how)
}

/// Few requests between two bursts to outweigh them.
fn bursts_small_share(size: Size) -> Vec<Measured> {
    let few = bakes(&Scenario::new(200.0, 500).with(Trouble::Bursts), 6, size.troubled);
    vec![false_reverts("bursts_small_share", &few, Limit::AtMost(10.0), "200 rps, 5 % of the requests")]
}

fn outage(size: Size) -> Vec<Measured> {
    troubled("outage", 3, size, 0.0, Trouble::Outage { for_s: 20.0 }, "both fail for 20 s")
}

/// Of a service without a history.
fn outage_new(size: Size) -> Vec<Measured> {
    let of = |rps: &f64| Scenario { history: None, ..Scenario::new(*rps, 9_500) }.with(Trouble::Outage { for_s: 20.0 });
    let scenarios: Vec<Scenario> = RATES.iter().map(of).collect();
    let how = "both fail for 20 s, no history; 1, 20, 200 and 1000 rps, 95 % of the requests";
    vec![false_reverts("outage_new", &mixed(&scenarios, 7, size.troubled), Limit::AtMost(1.0), how)]
}

fn drift(size: Size) -> Vec<Measured> {
    troubled("drift", 4, size, 0.0, Trouble::Drift { to: 0.02 }, "both from 0.1 to 2 % in 300 s")
}

fn clusters(size: Size) -> Vec<Measured> {
    let trouble = Trouble::InARow { failures: 5.0, pause_s: 0.1 };
    troubled("clusters", 5, size, 0.0, trouble, "0.1 % fail, five in half a second on average")
}

fn failing(rate: f64, rps: f64, share: u32, seed: u64, size: Size) -> Vec<Outcome> {
    bakes(&Scenario::new(rps, share).with(Trouble::Candidate { rate, from_s: 0.0 }), seed, size.bad)
}

fn fails_100(size: Size) -> Vec<Measured> {
    let fast = failing(1.0, 1000.0, HALF, 10, size);
    let half = failing(1.0, 20.0, HALF, 11, size);
    let all = failing(1.0, 20.0, ALL, 12, size);
    let slow = failing(1.0, 1.0, HALF, 13, size);
    let at = |what: &str| format!("all fail, {what}");
    let (at_1000, at_20, at_20_all, at_1) =
        (at("1000 rps, half"), at("20 rps, half"), at("20 rps, all of the requests"), at("1 rps, half"));
    vec![
        revert_s("fails_100.rps_1000", &fast, Limit::AtMost(5.0), &at_1000),
        bad_answers("fails_100.rps_1000", &fast, Limit::AtMost(350.0), &at_1000),
        contained_s("fails_100.rps_1000", &fast, Limit::AtMost(0.2), &at_1000),
        revert_s("fails_100.rps_20", &half, Limit::AtMost(8.0), &at_20),
        bad_answers("fails_100.rps_20", &half, Limit::AtMost(25.0), &at_20),
        revert_s("fails_100.rps_20_all", &all, Limit::AtMost(8.0), &at_20_all),
        bad_answers("fails_100.rps_20_all", &all, Limit::AtMost(25.0), &at_20_all),
        revert_s("fails_100.rps_1", &slow, Limit::AtMost(30.0), &at_1),
        bad_answers("fails_100.rps_1", &slow, Limit::AtMost(20.0), &at_1),
    ]
}

fn fails_10(size: Size) -> Vec<Measured> {
    let (fast, slow) = (failing(0.1, 1000.0, HALF, 14, size), failing(0.1, 20.0, HALF, 15, size));
    vec![
        revert_s("fails_10.rps_1000", &fast, Limit::AtMost(8.0), "10 % fail, 1000 rps, half"),
        revert_s("fails_10.rps_20", &slow, Limit::AtMost(50.0), "10 % fail, 20 rps, half"),
    ]
}

fn fails_2(size: Size) -> Vec<Measured> {
    let (fast, slow) = (failing(0.02, 1000.0, HALF, 16, size), failing(0.02, 20.0, HALF, 17, size));
    vec![
        revert_s("fails_2.rps_1000", &fast, Limit::AtMost(30.0), "2 % fail, 1000 rps, half"),
        caught("fails_2.rps_20", &slow, 300.0, Limit::AtLeast(95.0), "2 % fail, 20 rps, half"),
    ]
}

/// The same as with real containers.
fn real(size: Size) -> Vec<Measured> {
    let (all, some) = (failing(1.0, 200.0, ALL, 18, size), failing(0.1, 200.0, ALL, 19, size));
    vec![
        revert_s("real_100", &all, Limit::None, "all fail, 200 rps, all of the requests"),
        bad_answers("real_100", &all, Limit::None, "until the revert; without what is in flight then"),
        revert_s("real_10", &some, Limit::None, "10 % fail, 200 rps, all of the requests"),
        bad_answers("real_10", &some, Limit::None, "until the revert; without what is in flight then"),
    ]
}

fn late(size: Size) -> Vec<Measured> {
    let at = |rate: f64, rps: f64, seed, limit| {
        let scenario = Scenario::new(rps, HALF).with(Trouble::Candidate { rate, from_s: 150.0 });
        let percent = rate * 100.0;
        let how = format!("{percent} % fail from second 150 on, {rps} rps, half");
        revert_s(&format!("late_{percent}.rps_{rps}"), &bakes(&scenario, seed, size.bad), limit, &how)
    };
    vec![
        at(1.0, 1000.0, 20, Limit::AtMost(10.5)),
        at(1.0, 20.0, 21, Limit::AtMost(10.5)),
        at(0.1, 1000.0, 22, Limit::AtMost(50.0)),
        at(0.1, 20.0, 23, Limit::AtMost(50.0)),
    ]
}

/// One request in a hundred takes twice the median, or five times.
const NARROW: f64 = 2.0;
const WIDE: f64 = 5.0;

fn slowed(slowing: Slowing, reverts: bool, seed: u64, bakes: usize) -> Vec<Outcome> {
    let of = |rps| [NARROW, WIDE].map(|tail| Scenario::new(rps, HALF).slowing(tail, slowing, reverts));
    let scenarios: Vec<Scenario> = [20.0, 200.0, 1000.0].into_iter().flat_map(of).collect();
    mixed(&scenarios, seed, bakes)
}

const SLOWED: &str = "20, 200 and 1000 rps, half; p99 twice and five times the median";

fn warmup(size: Size) -> Vec<Measured> {
    let tail = Slowing::TailWarmUp { times: 10.0, over_s: 180.0 };
    let how = format!("the slowest hundredth x10 at first, x1 after 180 s; {SLOWED}");
    vec![
        false_reverts("warmup.on", &slowed(tail, true, 30, size.troubled), Limit::AtMost(10.0), &how),
        false_reverts("warmup.default", &slowed(tail, false, 31, size.troubled), Limit::AtMost(0.0), &how),
    ]
}

/// What is nine times as slow ten seconds after the shift is a release that is three times as slow, and more, so where latency takes
/// back it is taken back: no rule keeps this limit and that of `slow_x3`.
fn warmup_all(size: Size) -> Vec<Measured> {
    let all = Slowing::WarmUp { times: 10.0, over_s: 180.0 };
    let how = format!("every request x10 at first, x1 after 180 s; {SLOWED}");
    vec![
        false_reverts("warmup_all.on", &slowed(all, true, 32, size.bad), Limit::AtMost(10.0), &how),
        false_reverts("warmup_all.default", &slowed(all, false, 33, size.troubled), Limit::AtMost(0.0), &how),
    ]
}

fn slow_x3(size: Size) -> Vec<Measured> {
    three_times_as_slow("slow_x3", NARROW, 34, size)
}

/// Much of what is slower hides behind requests that were slow before.
fn slow_x3_wide(size: Size) -> Vec<Measured> {
    three_times_as_slow("slow_x3_wide", WIDE, 36, size)
}

fn three_times_as_slow(name: &str, tail: f64, seed: u64, size: Size) -> Vec<Measured> {
    let at = |rps: f64, seed, limit| {
        let scenario = Scenario::new(rps, HALF).slowing(tail, Slowing::All { times: 3.0 }, true);
        let mut outcomes = bakes(&scenario, seed, size.bad);
        // The ten seconds that are not judged do not count.
        for outcome in &mut outcomes {
            outcome.reverted_s = outcome.reverted_s.map(|time| time - 10.0);
        }
        let how = format!("every request x3, {rps} rps, half; p99 {tail} times the median");
        revert_s(&format!("{name}.rps_{rps}"), &outcomes, Limit::AtMost(limit), &how)
    };
    vec![at(20.0, seed, 15.0), at(1000.0, seed + 1, 5.0)]
}

fn fixed_threshold(size: Size) -> Vec<Measured> {
    let run = |scenario: &Scenario, strikes, seed: u64| -> Vec<Outcome> {
        (0..size.bad).map(|index| threshold::bake(scenario, strikes, seed << 32 | index as u64)).collect()
    };
    let all_fail = Scenario::new(1000.0, HALF).with(Trouble::Candidate { rate: 1.0, from_s: 0.0 });
    let bad = run(&all_fail, 2, 40);
    let how = "more than 1 % in a minute";
    let healthy = |rps: f64| reverts(&run(&Scenario::new(rps, HALF), 1, 41)) as f64 * 100.0 / size.bad as f64;
    let by_rate = [1.0, 2.0, 5.0, 20.0].map(|rps| (rps, healthy(rps)));
    let most = by_rate.iter().map(|(_, percent)| *percent).fold(0.0, f64::max);
    let detail: Vec<String> = by_rate.iter().map(|(rps, percent)| format!("{percent:.1} % at {rps} rps")).collect();
    vec![
        bad_answers("threshold", &bad, Limit::None, &format!("all fail, 1000 rps, half; {how}, twice")),
        Measured {
            id: "verdict.threshold.false_reverts".to_owned(),
            value: most,
            unit: "%",
            limit: Limit::None,
            detail: format!("healthy, half of the requests; {how}, once; {}", detail.join(", ")),
        },
    ]
}

fn ramp(size: Size) -> Vec<Measured> {
    let ramp = Trouble::Ramp { to: 0.2, over_s: 120.0 };
    let how = |rps| format!("from 0.1 to 20 % in 120 s, {rps} rps, half");
    [(20.0, 50), (1000.0, 51)]
        .into_iter()
        .flat_map(|(rps, seed)| {
            let outcomes = bakes(&Scenario::new(rps, HALF).with(ramp), seed, size.bad);
            let name = format!("ramp.rps_{rps}");
            [
                caught(&name, &outcomes, 300.0, Limit::AtLeast(95.0), &how(rps)),
                revert_s(&name, &outcomes, Limit::None, &how(rps)),
                bad_answers(&name, &outcomes, Limit::None, &how(rps)),
            ]
        })
        .collect()
}

fn route(size: Size) -> Vec<Measured> {
    let slow = |part| Slowing::Route { part, times: 20.0 };
    let how = |part: &str| format!("{part} of the requests x20; {SLOWED}");
    let rare = slowed(slow(0.005), true, 52, size.bad);
    let common = slowed(slow(0.05), true, 53, size.bad);
    let warned = slowed(slow(0.05), false, 54, size.troubled);
    vec![
        caught("route_rare.on", &rare, 300.0, Limit::None, &how("0.5 %")),
        caught("route.on", &common, 300.0, Limit::AtLeast(95.0), &how("5 %")),
        revert_s("route.on", &common, Limit::None, &how("5 %")),
        false_reverts("route.default", &warned, Limit::AtMost(0.0), &how("5 %")),
    ]
}

fn users(size: Size) -> Vec<Measured> {
    let tries = |name: &str, pause_s, seed| {
        let trouble = Trouble::InARow { failures: 20.0, pause_s };
        let outcomes = mixed(&at_all_rates(|scenario| scenario.with(trouble)), seed, size.troubled);
        let how = format!("0.1 % fail, of users who try 20 times on average, every {pause_s} s; {AT_ALL_RATES}");
        false_reverts(name, &outcomes, Limit::AtMost(10.0), &how)
    };
    vec![tries("users", 1.0, 55), tries("users_slow", 5.0, 56)]
}

fn tenfold(size: Size) -> Vec<Measured> {
    let rising = vec![(0.0, 20.0), (100.0, 200.0), (200.0, 20.0)];
    let falling = vec![(0.0, 1000.0), (100.0, 100.0), (200.0, 1000.0)];
    let with = |trouble| {
        let of = |rps: &Vec<(f64, f64)>| {
            [HALF, ALL].map(|share| Scenario { rps: rps.clone(), ..Scenario::new(0.0, share) }.with(trouble))
        };
        [&rising, &falling].into_iter().flat_map(of).collect::<Vec<_>>()
    };
    let how = "20, 200, 20 rps and 1000, 100, 1000 rps, 100 s each; half and all of the requests";
    let bad = mixed(&with(Trouble::Candidate { rate: 0.1, from_s: 95.0 }), 58, size.bad);
    vec![
        false_reverts("tenfold", &mixed(&with(Trouble::None), 57, size.troubled), Limit::AtMost(1.0), how),
        revert_s("tenfold", &bad, Limit::AtMost(50.0), &format!("10 % fail from second 95 on; {how}")),
    ]
}

fn base(size: Size) -> Vec<Measured> {
    let mut measured = Vec::new();
    for (name, usual, seed) in [("base_001", 0.0001, 60), ("base_1", 0.01, 62), ("base_10", 0.1, 64)] {
        let at = |scenario| Scenario { usual, history: Some(usual), ..scenario };
        let how = format!("{} % fail as usual; {AT_ALL_RATES}", usual * 100.0);
        let healthy = mixed(&at_all_rates(at), seed, size.troubled);
        measured.push(false_reverts(name, &healthy, Limit::AtMost(1.0), &how));
        let trouble = Trouble::Candidate { rate: 1.0, from_s: 0.0 };
        let bad = bakes(&at(Scenario::new(20.0, HALF)).with(trouble), seed + 1, size.bad);
        measured.push(revert_s(name, &bad, Limit::None, "all of the candidate's fail, 20 rps, half"));
    }
    measured
}

fn latency(size: Size) -> Vec<Measured> {
    let healthy = slowed(Slowing::None, true, 70, size.troubled);
    let how = format!("healthy, and latency takes back; {SLOWED}");
    vec![false_reverts("latency", &healthy, Limit::AtMost(1.0), &how)]
}
