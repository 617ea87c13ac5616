//! `make bench-project`: a whole Compose project, and the limits that are promised for one.

use crate::flip::{Done, first_failures, run_parts};
use teal_e2e::figures::{Better, Figures};
use teal_e2e::scenario::{calls, data, identity, networks, project, unchanged};
use teal_e2e::stage::Stage;

/// How long the full runs are, and the short ones.
pub struct Size {
    deployments: usize,
    network_deployments: usize,
    restarts: usize,
    data_deployments: usize,
    unchanged: usize,
}

const FULL: Size = Size { deployments: 50, network_deployments: 10, restarts: 10, data_deployments: 20, unchanged: 20 };
const SHORT: Size = Size { deployments: 5, network_deployments: 2, restarts: 2, data_deployments: 3, unchanged: 5 };

pub fn run(arguments: &[String]) -> Done {
    let size = if arguments.iter().any(|argument| argument == "--short") { SHORT } else { FULL };
    let mut figures = Figures::start("project");
    run_parts(
        "project",
        arguments,
        &size,
        &mut figures,
        &[
            ("project", whole),
            ("internal", two_networks),
            ("identity", daemon),
            ("data", stores),
            ("noop", nothing_changed),
        ],
    )?;
    Ok(figures.finish(&mut std::io::stdout())?)
}

fn whole(size: &Size, figures: &mut Figures) -> Done {
    let before = project::snapshot();
    let stage = Stage::new("bench-project");
    let run = project::run(&stage, size.deployments)?;
    let stale = run.stale_answers();
    let detail =
        format!("{} deployments of the app, {stale} stale answers, {}", run.flips.len(), first_failures(&run.report));
    figures.at_most("project.failed", (run.report.failed() + stale as u64) as f64, "requests", 0.0, detail);
    let stale = run.stale_calls();
    let detail = format!("HTTP and TCP, resolved once and each time: {}; {stale:?}", calls::describe(&run.calls));
    let silent = calls::unanswered(&run.calls);
    if silent.is_empty() {
        let failed = calls::failed(&run.calls) + stale.len() as u64;
        figures.at_most("internal.failed", failed as f64, "calls", 0.0, detail);
    } else {
        let why = format!("no answer ever: {}; {detail}", silent.join(", "));
        figures.unknown("internal.failed", "calls", 0.0, Better::Lower, why);
    }
    let detail = format!("of nginx, worker, database, cache and callers; {}", run.restarts.join("; "));
    figures.at_most("project.restarts", run.restarts.len() as f64, "services", 0.0, detail);
    let orders = &run.orders;
    let detail = format!(
        "{} orders acknowledged, {} in the database twice, {} done by the worker",
        orders.acknowledged, orders.doubled, run.worked
    );
    figures.at_most("project.rows_lost", orders.lost as f64, "rows", 0.0, detail);
    let left = project::left_over(&stage, &before);
    figures.at_most("project.leftovers", left.len() as f64, "things", 0.0, left.join("; "));
    Ok(())
}

fn two_networks(size: &Size, figures: &mut Figures) -> Done {
    let before = project::snapshot();
    let stage = Stage::new("bench-networks");
    let calls = networks::run(&stage, size.network_deployments)?;
    let detail = format!("{} failed, {}", calls::failed(&calls), calls::describe(&calls));
    let silent = calls::unanswered(&calls);
    if silent.is_empty() {
        figures.at_most("internal.wrong", calls::wrong(&calls) as f64, "calls", 0.0, detail);
    } else {
        let why = format!("no answer ever: {}; {detail}", silent.join(", "));
        figures.unknown("internal.wrong", "calls", 0.0, Better::Lower, why);
    }
    let left = project::left_over(&stage, &before);
    figures.at_most("internal.leftovers", left.len() as f64, "things", 0.0, left.join("; "));
    Ok(())
}

fn daemon(size: &Size, figures: &mut Figures) -> Done {
    let stage = Stage::new("bench-identity");
    let run = identity::run(&stage, size.restarts)?;
    let detail = format!(
        "{} restarts of the Docker daemon, {} moved addresses; {} requests, {}",
        2 * size.restarts + 1,
        run.moved,
        run.requests,
        run.detail
    );
    figures.at_most("identity.wrong", run.wrong as f64, "answers", 0.0, detail);
    for (id, down) in [("dockerd.down_ms", &run.down_us), ("dockerd.live_restore_down_ms", &run.live_restore_down_us)] {
        let millis: Vec<f64> = down.iter().map(|us| *us as f64 / 1e3).collect();
        let detail = format!("longest time without an answer of some service, median; {}", spread(&millis));
        figures.note(id, median(&millis), "ms", Better::Lower, detail);
    }
    Ok(())
}

fn stores(size: &Size, figures: &mut Figures) -> Done {
    let (mut doubles, mut lost, mut told) = (0, Vec::new(), Vec::new());
    for kind in data::KINDS {
        let stage = Stage::new("bench-data");
        let run = data::run(&stage, kind, size.data_deployments);
        doubles += run.doubles;
        told.push(format!("{kind:?}: {} volumes", run.volumes));
        lost.extend(run.lost.into_iter().map(|what| format!("{kind:?}: {what}")));
    }
    let detail = format!("{} deployments each; {}", size.data_deployments, told.join(", "));
    figures.at_most("data.doubles", doubles as f64, "meetings", 0.0, detail);
    figures.at_most("data.lost", lost.len() as f64, "deployments", 0.0, lost.join("; "));
    Ok(())
}

fn nothing_changed(size: &Size, figures: &mut Figures) -> Done {
    let stage = Stage::new("bench-noop");
    let run = unchanged::run(&stage, size.unchanged);
    let detail = format!("{} services, median; {}", unchanged::SERVICES, spread(&run.millis));
    if run.untouched {
        figures.at_most("project.noop_ms", median(&run.millis), "ms", 300.0, detail);
    } else {
        figures.unknown("project.noop_ms", "ms", 300.0, Better::Lower, "containers were replaced all the same");
    }
    Ok(())
}

/// Not a number without values, which keeps no limit.
fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
}

fn spread(values: &[f64]) -> String {
    let (least, most) = values.iter().fold((f64::MAX, 0.0), |(least, most), it| (it.min(least), it.max(most)));
    format!("{} runs, {least:.0} to {most:.0} ms", values.len())
}
