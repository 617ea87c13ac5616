//! `make bench-flip`: flips, recreates, an awkward app, crashes, overhead and CPU, with the limits that are promised.

use crate::cpu;
use std::error::Error;
use std::time::{Duration, Instant};
use teal_e2e::figures::{Better, Figures};
use teal_e2e::prober::Report;
use teal_e2e::scenario::crash::State;
use teal_e2e::scenario::{crash, flip, keepalive, overhead, proxy_crash, recreate};
use teal_e2e::stage::Stage;

/// How long the full runs are, and the short ones.
struct Size {
    flips: usize,
    requests: f64,
    near: f64,
    recreates: usize,
    keepalive_seconds: u64,
    crash_stride: usize,
    kills: usize,
    pairs: usize,
    cpu_rounds: usize,
}

const FULL: Size = Size {
    flips: 100,
    requests: 1_000_000.0,
    near: 50_000.0,
    recreates: 20,
    keepalive_seconds: 60,
    crash_stride: 1,
    kills: 20,
    pairs: 20,
    cpu_rounds: 7,
};
const SHORT: Size = Size {
    flips: 10,
    requests: 50_000.0,
    near: 2_000.0,
    recreates: 3,
    keepalive_seconds: 15,
    crash_stride: 6,
    kills: 3,
    pairs: 5,
    cpu_rounds: 3,
};

pub type Done = Result<(), Box<dyn Error>>;
/// A name to choose it by, and what measures it.
pub type Part<S> = (&'static str, fn(&S, &mut Figures) -> Done);

pub fn run(arguments: &[String]) -> Done {
    let size = if arguments.iter().any(|argument| argument == "--short") { SHORT } else { FULL };
    let mut figures = Figures::start("flip");
    let all: [Part<Size>; 7] = [
        ("flips", flips),
        ("recreate", recreates),
        ("keepalive", awkward),
        ("agent", agent),
        ("proxy", proxy),
        ("overhead", deploying),
        ("cpu", processor),
    ];
    run_parts("flip", arguments, &size, &mut figures, &all)?;
    Ok(figures.finish(&mut std::io::stdout())?)
}

/// Those that the arguments name, or all.
pub fn run_parts<S>(bench: &str, arguments: &[String], size: &S, figures: &mut Figures, all: &[Part<S>]) -> Done {
    let parts: Vec<&str> =
        arguments.iter().map(String::as_str).filter(|argument| !argument.starts_with("--")).collect();
    for (name, part) in all {
        if !parts.is_empty() && !parts.contains(name) {
            continue;
        }
        let began = Instant::now();
        eprintln!("bench-{bench}: {name} ...");
        part(size, figures)?;
        eprintln!("bench-{bench}: {name} took {:.0} s", began.elapsed().as_secs_f64());
    }
    Ok(())
}

pub fn median(values: &[u64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_unstable();
    sorted.get(sorted.len() / 2).map_or(0.0, |us| *us as f64)
}

pub fn first_failures(report: &Report) -> String {
    let some: Vec<String> = report
        .failures
        .iter()
        .take(5)
        .map(|failure| format!("{:?} {:?}: {}", failure.kind, failure.cause, failure.detail))
        .collect();
    let load = format!("{} requests, load generator {:.0} % busy", report.requests(), report.busy_share * 100.0);
    if some.is_empty() { load } else { format!("{load}; {}", some.join("; ")) }
}

fn flips(size: &Size, figures: &mut Figures) -> Done {
    let stage = Stage::new("bench-flip");
    let run = flip::run(&stage, size.flips)?;
    let report = &run.report;
    let detail = format!("{} flips, {}", run.flips.len(), first_failures(report));
    figures.at_most("flip.failed", report.failed() as f64, "requests", 0.0, detail);
    figures.at_least(
        "flip.requests",
        report.requests() as f64,
        "requests",
        size.requests,
        "64 keep-alive clients, closed loop, half POST, one in 200 takes 0 to 2 s",
    );
    figures.at_least(
        "flip.near_requests",
        run.near_requests() as f64,
        "requests",
        size.near,
        "sent from 100 ms before a table to 100 ms after its acknowledgement",
    );
    figures.at_most("flip.closed", report.totals.closed_by_server as f64, "connections", 0.0, "closed by Teal");
    figures.at_most(
        "flip.stale_answers",
        run.stale_answers() as f64,
        "answers",
        0.0,
        "sent after the acknowledgement, answered by the retiring release",
    );
    figures.at_most("flip.retried", run.retried as f64, "requests", 0.0, "by the receipts of all deployments");
    let (windows, controls) = run.stalls_us();
    let extra = (median(&windows) - median(&controls)) / 1e3;
    let worst = |us: &[u64]| us.iter().max().copied().unwrap_or(0) as f64 / 1e3;
    let detail = format!(
        "median of {} windows {:.2} ms (max {:.1}), of controls {:.2} ms (max {:.1})",
        windows.len(),
        median(&windows) / 1e3,
        worst(&windows),
        median(&controls) / 1e3,
        worst(&controls)
    );
    figures.at_most("flip.extra_stall_ms", extra, "ms", 5.0, detail);
    let acknowledged: Vec<u64> = run.flips.iter().map(|(_, flip)| flip.acknowledged_us - flip.sent_us).collect();
    figures.note(
        "flip.acknowledged_us",
        median(&acknowledged),
        "us",
        Better::Lower,
        format!("median; max {:.0}", acknowledged.iter().max().copied().unwrap_or(0)),
    );
    Ok(())
}

fn recreates(size: &Size, figures: &mut Figures) -> Done {
    let stage = Stage::new("bench-recreate");
    let run = recreate::run(&stage, size.recreates)?;
    let detail = format!("{} recreates, {} requests held, {}", size.recreates, run.held, first_failures(&run.report));
    figures.at_most("recreate.failed", run.report.failed() as f64, "requests", 0.0, detail);
    Ok(())
}

fn awkward(size: &Size, figures: &mut Figures) -> Done {
    let stage = Stage::new("bench-keepalive");
    let run = keepalive::run(&stage, size.keepalive_seconds)?;
    let detail = format!("gaps: {}; early answers: {}", first_failures(&run.gaps), first_failures(&run.early));
    figures.at_most("keepalive.failed", run.failed() as f64, "requests", 0.0, detail);
    let detail = format!("had read or answered the request, by its own log, and closed: {:?}", run.lost_by_app);
    figures.note("keepalive.lost_by_app", run.lost_by_app.len() as f64, "requests", Better::Lower, detail);
    Ok(())
}

fn agent(size: &Size, figures: &mut Figures) -> Done {
    let stage = Stage::new("bench-agent");
    let run = crash::run(&stage, size.crash_stride)?;
    let (well, badly): (Vec<_>, Vec<_>) =
        run.ends.iter().partition(|(_, state)| matches!(state, State::Done | State::Reverted { .. }));
    let detail = format!("{} kills, {}", run.ends.len(), first_failures(&run.report));
    figures.at_most("crash.agent.failed", run.report.failed() as f64, "requests", 0.0, detail);
    figures.at_most(
        "crash.agent.unfinished",
        badly.len() as f64,
        "deployments",
        0.0,
        format!("{} completed or reverted; {badly:?}", well.len()),
    );
    figures.at_most("crash.agent.leftovers", run.leftovers.len() as f64, "things", 0.0, run.leftovers.join("; "));
    Ok(())
}

fn proxy(size: &Size, figures: &mut Figures) -> Done {
    let stage = Stage::new("bench-proxy");
    let run = proxy_crash::run(&stage, size.kills, Duration::from_secs(5))?;
    figures.at_most("crash.proxy.refused", run.refused() as f64, "connections", 0.0, format!("{} kills", size.kills));
    let serving = median(&run.serving_us) / 1e3;
    let worst = run.serving_us.iter().max().copied().unwrap_or(0) as f64 / 1e3;
    figures.at_most(
        "crash.proxy.serving_ms",
        serving,
        "ms",
        100.0,
        format!("from the kill to the first answer sent after it, median; max {worst:.0}"),
    );
    figures.at_most(
        "crash.proxy.failed_elsewhere",
        run.failed_elsewhere as f64,
        "requests",
        0.0,
        format!(
            "{} were in flight and lost; {}",
            run.report.failed() - run.failed_elsewhere,
            first_failures(&run.report)
        ),
    );
    Ok(())
}

fn deploying(size: &Size, figures: &mut Figures) -> Done {
    let stage = Stage::new("bench-overhead");
    let run = overhead::run(&stage, size.pairs);
    let middle = |values: Vec<f64>| {
        let mut values = values;
        values.sort_by(f64::total_cmp);
        values[values.len() / 2]
    };
    let (teal, bare) =
        (middle(run.pairs.iter().map(|pair| pair.0).collect()), middle(run.pairs.iter().map(|pair| pair.1).collect()));
    let detail = format!("{} pairs; a deployment {teal:.0} ms, bare Docker {bare:.0} ms", run.pairs.len());
    figures.at_most("deploy.overhead_ms", run.median_ms(), "ms", 200.0, detail);
    Ok(())
}

fn processor(size: &Size, figures: &mut Figures) -> Done {
    let run = cpu::run(size.cpu_rounds)?;
    let detail = format!(
        "teal {:.1} us, nginx {:.1} us of CPU a request, medians of {} alternating rounds; {}",
        run.teal_us, run.nginx_us, size.cpu_rounds, run.detail
    );
    figures.at_most("cpu.vs_nginx", run.teal_us / run.nginx_us, "ratio", 1.1, detail);
    Ok(())
}
