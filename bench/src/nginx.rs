//! `make bench-nginx`: what the clients of each way to deploy beside nginx lose at a flip, in alternating rounds.

use crate::flip::{Done, median};
use std::collections::BTreeMap;
use std::time::Instant;
use teal_e2e::figures::{Better, Figures};
use teal_e2e::nginx;
use teal_e2e::prober::{Cause, Pace};
use teal_e2e::scenario::nginx::{Round, Setup, WAIT, round};

/// Of each client, in the paced rounds.
const PER_SECOND: f64 = 20.0;
/// Beyond the steady state of the same setup.
const EXTRA_STALL_MS: f64 = 5.0;
const FLIPS: usize = 10;
const SHORT_FLIPS: usize = 2;

/// A load, and what it adds to the id of a figure.
const LOADS: [(&str, &str, Option<f64>); 2] =
    [("", "20 requests/s each", Some(PER_SECOND)), ("_full", "closed loop", None)];

/// With names of setups, those alone.
pub fn run(arguments: &[String]) -> Done {
    // `--flips N`, for what is rare: at 20 requests/s alone.
    let long = arguments.iter().skip_while(|argument| *argument != "--flips").nth(1).and_then(|n| n.parse().ok());
    let short = arguments.iter().any(|argument| argument == "--short");
    let flips = long.unwrap_or(if short { SHORT_FLIPS } else { FLIPS });
    let loads = if long.is_some() { &LOADS[..1] } else { &LOADS[..] };
    let named = |setup: &Setup| arguments.iter().any(|argument| argument == setup.name());
    let mut setups: Vec<Setup> = Setup::ALL.into_iter().chain(Setup::TUNED).filter(named).collect();
    if setups.is_empty() {
        setups = Setup::ALL.to_vec();
    }
    let mut figures = Figures::start(if long.is_some() { "nginx-long" } else { "nginx" });
    let mut standing = Vec::new();
    for setup in setups {
        standing.push((setup, setup.stand()?));
    }
    let mut versions = 0;
    for (suffix, load, rate) in loads.iter().copied() {
        let mut rounds: BTreeMap<Setup, Vec<Round>> = BTreeMap::new();
        for number in 1..=flips {
            let began = Instant::now();
            versions += 1;
            for (setup, standing) in &mut standing {
                let pace = rate.map_or(Pace::Closed, Pace::per_second);
                rounds.entry(*setup).or_default().push(round(standing.as_mut(), pace, versions)?);
            }
            eprintln!("bench-nginx: {load}, round {number} of {flips} took {:.0} s", began.elapsed().as_secs_f64());
        }
        let lost = |setup| rounds.get(&setup).map(|rounds| rounds.iter().map(|round| round.failed).sum::<u64>());
        for (setup, rounds) in &rounds {
            tell(&mut figures, *setup, suffix, load, rounds);
            // By the race of a reload both lose; what the plain script loses by its haste is another matter.
            let other = if *setup == Setup::Mode { Setup::ScriptWait } else { Setup::Script };
            let teals = setup.promises() || *setup == Setup::Mode;
            if let (true, Some(script @ 1..), Some(own)) = (teals, lost(other), lost(*setup)) {
                let detail = format!("failed requests, {own} against {script} of the {}, {load}", other.name());
                let id = format!("nginx.{}.vs_script{suffix}", setup.name());
                figures.note(&id, own as f64 / script as f64, "", Better::Lower, detail);
            }
        }
    }
    Ok(figures.finish(&mut std::io::stdout())?)
}

fn tell(figures: &mut Figures, setup: Setup, suffix: &str, load: &str, rounds: &[Round]) {
    let id = |what: &str| format!("nginx.{}.{what}{suffix}", setup.name());
    let sum = |value: fn(&Round) -> u64| rounds.iter().map(value).sum::<u64>();
    let failed = sum(|round| round.failed);
    let detail = format!(
        "{load}, {} flips, {} requests{}; {}",
        rounds.len(),
        sum(|round| round.requests),
        by_cause(rounds),
        words(setup, rounds)
    );
    let a_flip = failed as f64 / rounds.len() as f64;
    match setup.promises() {
        true => figures.at_most(&id("failed"), a_flip, "a flip", 0.0, detail),
        false => figures.note(&id("failed"), a_flip, "a flip", Better::Lower, detail),
    }
    let gateway = [Cause::Status502, Cause::Status503, Cause::Status504];
    let gateway: u64 =
        rounds.iter().flat_map(|round| gateway.map(|cause| round.causes.get(&cause).copied().unwrap_or(0))).sum();
    let gateway = gateway as f64 / rounds.len() as f64;
    let detail = "answers 502, 503, 504; among the failed";
    match setup == Setup::Mode || Setup::TUNED.contains(&setup) {
        true => figures.at_most(&id("bad_gateway"), gateway, "a flip", 0.0, detail),
        false => figures.note(&id("bad_gateway"), gateway, "a flip", Better::Lower, detail),
    }
    let (stalls, steady): (Vec<u64>, Vec<u64>) = rounds.iter().map(|round| (round.stall_us, round.steady_us)).unzip();
    let most = |us: &[u64]| us.iter().max().copied().unwrap_or(0) as f64 / 1e3;
    let extra = (median(&stalls) - median(&steady)) / 1e3;
    let detail = format!(
        "longest time without an answer: median {:.1} ms (max {:.1}), steady {:.1} ms (max {:.1})",
        median(&stalls) / 1e3,
        most(&stalls),
        median(&steady) / 1e3,
        most(&steady)
    );
    match setup.promises() {
        true => figures.at_most(&id("extra_stall_ms"), extra, "ms", EXTRA_STALL_MS, detail),
        false => figures.note(&id("extra_stall_ms"), extra, "ms", Better::Lower, detail),
    }
}

fn by_cause(rounds: &[Round]) -> String {
    let mut causes: BTreeMap<Cause, u64> = BTreeMap::new();
    for (cause, count) in rounds.iter().flat_map(|round| &round.causes) {
        *causes.entry(*cause).or_default() += count;
    }
    let most = rounds.iter().map(|round| round.failed).max().unwrap_or(0);
    let causes: String = causes.iter().map(|(cause, count)| format!(", {count} {cause}")).collect();
    if causes.is_empty() { causes } else { format!("{causes}, at most {most} in one flip") }
}

fn words(setup: Setup, rounds: &[Round]) -> String {
    let idle: u64 = rounds.iter().map(|round| round.closed_idle).sum();
    let busy = rounds.iter().map(|round| round.busy_share).fold(0.0, f64::max);
    let mut words = format!("{idle} closed while idle; load generator at most {:.0} % busy", busy * 100.0);
    if setup == Setup::ScriptWait {
        words.push_str(&format!("; {} s between reload and stop", WAIT.as_secs()));
    }
    if setup != Setup::Edge {
        words.push_str(&format!("; {}", nginx::version().unwrap_or_else(|error| error.to_string())));
    }
    if let Some(first) = rounds.iter().find_map(|round| round.first_failure.as_ref()) {
        words.push_str(&format!("; {first}"));
    }
    words
}
