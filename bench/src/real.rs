//! What users see of releases that go wrong, with real containers: bad answers until they are taken back, an outage behind both
//! colors, the way back in one word, and the shares of a canary.

use crate::flip::{Done, first_failures, median, run_parts};
use std::time::Duration;
use teal_bakes::{Scenario, Trouble, bakes};
use teal_e2e::figures::{Better, Figures};
use teal_e2e::scenario::bad_release::{self, RATE, Wrong};
use teal_e2e::scenario::rollback::{self, Release};
use teal_e2e::scenario::{canary, dependency};
use teal_e2e::stage::Stage;

/// How long the full runs are, and the short ones.
pub struct Size {
    outage: Duration,
    /// Of each release that the simulation knows too.
    rounds: usize,
    rollbacks: usize,
    aborts: usize,
    canary_requests: u64,
}

const FULL: Size =
    Size { outage: Duration::from_secs(60), rounds: 5, rollbacks: 100, aborts: 20, canary_requests: 10_000 };
const SHORT: Size =
    Size { outage: Duration::from_secs(15), rounds: 1, rollbacks: 5, aborts: 5, canary_requests: 10_000 };
/// Percentage points that a share may be off.
const OFF: f64 = 0.5;
/// How many times the bad answers of simulated bakes real ones may have.
const TIMES: f64 = 1.5;
/// Hundredths of a percent.
const ALL: u32 = 10_000;
const BAKES: usize = 1_000;
/// Until the last request is forwarded to a release that somebody goes back from.
const BACK_MS: f64 = 50.0;

pub fn run(arguments: &[String]) -> Done {
    let size = if arguments.iter().any(|argument| argument == "--short") { SHORT } else { FULL };
    let mut figures = Figures::start("real");
    let all = [("bad", bad as _), ("outage", outage as _), ("rollback", rollbacks as _), ("canary", shares as _)];
    run_parts("real", arguments, &size, &mut figures, &all)?;
    Ok(figures.finish(&mut std::io::stdout())?)
}

/// The median of simulated bakes at the same rate: all requests on a candidate that fails this part of them.
fn simulated(fails: f64) -> f64 {
    let scenario = Scenario::new(RATE, ALL).with(Trouble::Candidate { rate: fails, from_s: 0.0 });
    median(&bakes(&scenario, 1, BAKES).iter().map(|outcome| outcome.bad).collect::<Vec<_>>())
}

fn bad(size: &Size, figures: &mut Figures) -> Done {
    for wrong in Wrong::ALL {
        let id = |what: &str| format!("real.{}.{what}", wrong.name());
        let fails = wrong.fails();
        let mut runs = Vec::new();
        for _ in 0..fails.map_or(1, |_| size.rounds) {
            let stage = Stage::new(&format!("bench-{}", wrong.name().replace('_', "-")));
            runs.push(bad_release::run(&stage, wrong)?);
        }
        let reverted = runs.iter().filter(|taken| taken.deployed.exit == 8).count() as f64;
        figures.at_least(&id("reverted"), reverted, "deployments", runs.len() as f64, format!("of {}", runs.len()));
        let counts: Vec<u64> = runs.iter().map(|taken| taken.report.failed()).collect();
        let taken = &runs[0];
        let detail = format!(
            "{RATE} requests/s, all of them on the candidate; each run {counts:?}; {}",
            first_failures(&taken.report)
        );
        match fails.map(simulated) {
            Some(simulated) => figures.at_most(
                &id("bad_answers"),
                median(&counts),
                "requests",
                TIMES * simulated,
                format!("{detail}; simulated {simulated}, medians"),
            ),
            None => figures.note(&id("bad_answers"), median(&counts), "requests", Better::Lower, detail),
        }
        let why = "from the acknowledged flip until the last request was sent that failed or that the release got";
        match taken.exposed_us() {
            Some(us) => figures.note(&id("exposed"), us as f64 / 1e3, "ms", Better::Lower, why),
            None => figures.unknown(&id("exposed"), "ms", 0.0, Better::Lower, "there was no flip"),
        }
        figures.at_most(
            &id("failed_afterwards"),
            taken.failed_afterwards() as f64,
            "requests",
            0.0,
            "sent after the end",
        );
    }
    Ok(())
}

fn outage(size: &Size, figures: &mut Figures) -> Done {
    let stage = Stage::new("bench-outage");
    let outage = dependency::run(&stage, size.outage)?;
    let failed = outage.report.failed();
    let detail =
        format!("{:.0} s, {failed} requests failed on both; then {}", outage.lasted.as_secs_f64(), outage.state.name());
    let reverts = f64::from(u8::from(dependency::was_taken_back(&outage.state)));
    figures.at_most("real.outage.reverts", reverts, "deployments", 0.0, detail);
    figures.at_least("real.outage.alerts", outage.alerts.len() as f64, "alerts", 1.0, outage.alerts.join("; "));
    Ok(())
}

fn rollbacks(size: &Size, figures: &mut Figures) -> Done {
    went_back(figures, "rollback", Release::Live, size.rollbacks)?;
    went_back(figures, "rollback.baking", Release::Bakes, size.aborts)
}

fn went_back(figures: &mut Figures, id: &str, from: Release, rounds: usize) -> Done {
    let what = match from {
        Release::Live => "to a warm release",
        Release::Bakes => "of a deployment that bakes",
    };
    let stage = Stage::new("bench-rollback");
    let back = rollback::run(&stage, from, rounds)?;
    let detail = format!("{} rollbacks {what}, {}", back.rounds.len(), first_failures(&back.report));
    figures.at_most(&format!("{id}.failed"), back.report.failed() as f64, "requests", 0.0, detail);
    let words = |values: &[u64], what: &str| {
        let most = values.iter().max().map_or(0.0, |us| *us as f64 / 1e3);
        format!("{what}; median of {}, at most {most:.1} ms", values.len())
    };
    let exposed = back.exposed_us();
    let detail = words(&exposed, "from the command's start until the last request was sent that the release got");
    figures.at_most(&format!("{id}.ms"), median(&exposed) / 1e3, "ms", BACK_MS, detail);
    let commands = back.commands_us();
    let detail = words(&commands, "from the command's start to its end");
    figures.note(&format!("{id}.command_ms"), median(&commands) / 1e3, "ms", Better::Lower, detail);
    Ok(())
}

fn shares(size: &Size, figures: &mut Figures) -> Done {
    let percents = [1.0, 10.0, 50.0];
    let stage = Stage::new("bench-canary");
    let weighed = canary::weigh(&stage, &percents, size.canary_requests)?;
    let detail = format!("{} requests at each share, {}", size.canary_requests, first_failures(&weighed.report));
    figures.at_most("real.canary.failed", weighed.report.failed() as f64, "requests", 0.0, detail);
    let off = weighed.off();
    let each: Vec<String> =
        percents.iter().zip(&off).map(|(percent, off)| format!("{off:.3} at {percent} %")).collect();
    let most = off.iter().copied().fold(0.0, f64::max);
    figures.at_most("canary.weight_error_pp", most, "points", OFF, format!("the largest of {}", each.join(", ")));
    let stage = Stage::new("bench-sticky");
    let users = canary::users(&stage, &percents)?;
    figures.at_most(
        "real.canary.moved_back",
        canary::moved_back(&users) as f64,
        "users",
        0.0,
        format!("of {}", users.len()),
    );
    Ok(())
}
