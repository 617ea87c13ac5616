//! A canary, step by step: each share is what was written, as many replicas run, and a user who was moved stays moved.

use super::web;
use crate::clock::monotonic_us;
use crate::prober::{Clients, Config, Prober, Report};
use crate::stage::{Stage, docker};
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::time::Duration;
use teal_model::deployment::State;

const PATIENCE: Duration = Duration::from_secs(30);
const USERS: usize = 60;
const USER: &str = "X-User-Id";

/// A step, and the stretch of time in which it was in force.
pub struct Step {
    pub percent: f64,
    from_us: u64,
    to_us: u64,
}

pub struct Weighed {
    pub report: Report,
    pub steps: Vec<Step>,
}

impl Weighed {
    /// Percentage points between what was written and what was, of each step.
    pub fn off(&self) -> Vec<f64> {
        let share = |step: &Step| self.report.share_of("1", step.from_us, step.to_us);
        let off = |step: &Step| share(step).map_or(100.0, |share| (share * 100.0 - step.percent).abs());
        self.steps.iter().map(off).collect()
    }
}

pub struct Grown {
    pub report: Report,
    /// Containers of the candidate that ran, in each step and when it was live.
    pub running: Vec<usize>,
    /// What `teal status` said in each step.
    pub said: Vec<String>,
}

/// Each step with so many of four replicas that are warmed up and tested, under load; `jumps`: over all steps but the first.
pub fn grow(stage: &Stage, steps: &[(f64, u32)], jumps: bool) -> io::Result<Grown> {
    let step =
        |(percent, replicas): &(f64, u32)| format!("{{ percent: {percent}, replicas: {replicas}, for: manual }}");
    let steps: Vec<String> = steps.iter().map(step).collect();
    let settings = format!("      canary: [{}]\n      smoke: [/health, /]", steps.join(", "));
    let text = web(4, &format!("      bake: 0\n{settings}"), "      BOOT_MS: \"700\"");
    stage.compose(&text.replace("interval: 50ms", "interval: 50ms, warmup: 20")).up();
    begin(stage);
    let prober = Prober::start(Config::new(stage.address()).with(Clients::steady(16)))?;
    let (mut running, mut said) = (Vec::new(), Vec::new());
    for at in 0..if jumps { 1 } else { steps.len() } {
        if at > 0 {
            stage.must(&["promote"]);
        }
        let holds = |state: &State| *state == State::Stepping { step: at };
        stage.until("the step is held", PATIENCE, || stage.status().running.iter().any(|one| holds(&one.state)));
        running.push(candidates(stage));
        said.push(stage.must(&["status"]));
        std::thread::sleep(Duration::from_millis(500));
    }
    stage.must(&["promote", "--full"]);
    stage.until("the canary is live", PATIENCE, || stage.status().running.is_empty());
    running.push(candidates(stage));
    Ok(Grown { report: prober.stop()?, running, said })
}

/// Containers of the second release that run.
fn candidates(stage: &Stage) -> usize {
    let project = format!("label=teal.project={}", stage.project);
    docker(&["ps", "--filter", &project, "--filter", "label=teal.release=2", "--format", "{{.Names}}"]).lines().count()
}

/// As many requests as this at each of these shares.
pub fn weigh(stage: &Stage, percents: &[f64], requests: u64) -> io::Result<Weighed> {
    deploy(stage, percents, "")?;
    let prober = Prober::start(Config::new(stage.address()).with(Clients::steady(16)))?;
    let mut steps = Vec::new();
    for percent in percents {
        if !steps.is_empty() {
            promote(stage, &[]);
        }
        let (from_us, before) = (monotonic_us(), prober.snapshot().requests);
        let enough = || prober.snapshot().requests - before >= requests;
        stage.until("there were requests enough", Duration::from_secs(120), enough);
        steps.push(Step { percent: *percent, from_us, to_us: monotonic_us() });
    }
    promote(stage, &["--full"]);
    stage.until("the canary is live", PATIENCE, || stage.status().running.is_empty());
    Ok(Weighed { report: prober.stop()?, steps })
}

/// The version that each user met at each share, and at last when all are moved.
pub fn users(stage: &Stage, percents: &[f64]) -> io::Result<Vec<Vec<String>>> {
    deploy(stage, percents, &format!("      sticky: {{ header: {USER} }}"))?;
    let mut met: Vec<Vec<String>> = vec![Vec::new(); USERS];
    for round in 0..=percents.len() {
        match round {
            0 => {}
            last if last == percents.len() => promote(stage, &["--full"]),
            _ => promote(stage, &[]),
        }
        // Twice: a user is not moved within a step either.
        for _ in 0..2 {
            for (user, met) in met.iter_mut().enumerate() {
                met.push(version_for(stage, user)?);
            }
        }
    }
    stage.until("the canary is live", PATIENCE, || stage.status().running.is_empty());
    Ok(met)
}

/// Users who met the candidate, and then the live release again.
pub fn moved_back(users: &[Vec<String>]) -> usize {
    users.iter().filter(|met| !met.is_sorted()).count()
}

/// `1` as a canary of `0`, at its first share.
fn deploy(stage: &Stage, percents: &[f64], more: &str) -> io::Result<()> {
    let steps: Vec<String> = percents.iter().map(|percent| format!("\"{percent}% manual\"")).collect();
    let settings = format!("      bake: 0\n      canary: [{}]\n{more}", steps.join(", "));
    stage.compose(&web(2, &settings, "")).up();
    begin(stage);
    Ok(())
}

fn begin(stage: &Stage) {
    stage.must_deploy("0");
    let before = position(stage);
    let begun = stage.deploy("1", &["--no-wait"]);
    assert_eq!(begun.exit, 0, "{begun:#?}");
    let shifting = |(state, _): &Position| state.contains("stepping");
    stage.until("the first step is in force", PATIENCE, || {
        let now = position(stage);
        shifting(&now) && now.1 > before.1
    });
}

fn promote(stage: &Stage, arguments: &[&str]) {
    let before = position(stage);
    stage.must(&[&["promote"], arguments].concat());
    stage.until("the next step is in force", PATIENCE, || {
        let now = position(stage);
        now.0 != before.0 && now.1 > before.1
    });
}

/// Where the deployment stands, and the table in force.
type Position = (String, Option<teal_model::ids::TableNumber>);

fn position(stage: &Stage) -> Position {
    let status = stage.status();
    let state = status.running.first().map(|running| serde_json::to_string(&running.state).unwrap_or_default());
    (state.unwrap_or_default(), status.proxy.table)
}

fn version_for(stage: &Stage, user: usize) -> io::Result<String> {
    let mut stream = TcpStream::connect(stage.address())?;
    write!(stream, "GET / HTTP/1.1\r\nHost: web\r\n{USER}: user-{user}\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let version = answer.lines().find_map(|line| line.strip_prefix("X-Version: "));
    version.map(str::to_owned).ok_or_else(|| io::Error::other(answer.clone()))
}
