//! A canary, step by step: each share is what was written, and a user who was moved stays moved.

use super::web;
use crate::clock::monotonic_us;
use crate::prober::{Clients, Config, Prober, Report};
use crate::stage::Stage;
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

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
    stage.must_deploy("0");
    let before = position(stage);
    let begun = stage.deploy("1", &["--no-wait"]);
    assert_eq!(begun.exit, 0, "{begun:#?}");
    let shifting = |(state, _): &Position| state.contains("stepping");
    stage.until("the first step is in force", PATIENCE, || {
        let now = position(stage);
        shifting(&now) && now.1 > before.1
    });
    Ok(())
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
