//! What users see of releases that go wrong, with real containers: bad answers until they are taken back, an outage behind both
//! colors, the way back in one word, and the shares of a canary.

use crate::flip::{Done, first_failures, median, run_parts};
use std::time::Duration;
use teal_e2e::figures::{Better, Figures};
use teal_e2e::scenario::bad_release::{self, RATE, Wrong};
use teal_e2e::scenario::{canary, dependency, rollback};
use teal_e2e::stage::Stage;

/// How long the full runs are, and the short ones.
pub struct Size {
    outage: Duration,
    rollbacks: usize,
    canary_requests: u64,
}

const FULL: Size = Size { outage: Duration::from_secs(60), rollbacks: 20, canary_requests: 10_000 };
const SHORT: Size = Size { outage: Duration::from_secs(15), rollbacks: 5, canary_requests: 10_000 };
/// Percentage points that a share may be off.
const OFF: f64 = 0.5;

pub fn run(arguments: &[String]) -> Done {
    let size = if arguments.iter().any(|argument| argument == "--short") { SHORT } else { FULL };
    let mut figures = Figures::start("real");
    let all = [("bad", bad as _), ("outage", outage as _), ("rollback", rollbacks as _), ("canary", shares as _)];
    run_parts("real", arguments, &size, &mut figures, &all)?;
    Ok(figures.finish(&mut std::io::stdout())?)
}

fn bad(_: &Size, figures: &mut Figures) -> Done {
    for wrong in Wrong::ALL {
        let stage = Stage::new(&format!("bench-{}", wrong.name().replace('_', "-")));
        let taken = bad_release::run(&stage, wrong)?;
        let report = &taken.report;
        let id = |what: &str| format!("real.{}.{what}", wrong.name());
        let detail = format!("{RATE} requests/s, all of them on the candidate; {}", first_failures(report));
        figures.at_least(&id("reverted"), f64::from(u8::from(taken.deployed.exit == 8)), "of 1", 1.0, "by itself");
        figures.note(&id("bad_answers"), report.failed() as f64, "requests", Better::Lower, detail);
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
    let stage = Stage::new("bench-rollback");
    let back = rollback::run(&stage, size.rollbacks)?;
    let detail = format!("{} rollbacks to a warm release, {}", back.rounds.len(), first_failures(&back.report));
    figures.at_most("real.rollback.failed", back.report.failed() as f64, "requests", 0.0, detail);
    for (id, values, what) in [
        (
            "real.rollback.exposed",
            back.exposed_us(),
            "from the command's start until the last request was sent that the release got",
        ),
        ("real.rollback.command", back.commands_us(), "from the command's start to its end"),
    ] {
        let most = values.iter().max().map_or(0.0, |us| *us as f64 / 1e3);
        figures.note(
            id,
            median(&values) / 1e3,
            "ms",
            Better::Lower,
            format!("{what}; median of {}, at most {most:.1} ms", values.len()),
        );
    }
    Ok(())
}

fn shares(size: &Size, figures: &mut Figures) -> Done {
    let percents = [1.0, 10.0, 50.0];
    let stage = Stage::new("bench-canary");
    let weighed = canary::weigh(&stage, &percents, size.canary_requests)?;
    let detail = format!("{} requests at each share, {}", size.canary_requests, first_failures(&weighed.report));
    figures.at_most("real.canary.failed", weighed.report.failed() as f64, "requests", 0.0, detail);
    for (percent, off) in percents.iter().zip(weighed.off()) {
        figures.at_most(
            &format!("real.canary.off_at_{percent}"),
            off,
            "points",
            OFF,
            "between what was written and what was",
        );
    }
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
