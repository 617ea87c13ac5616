//! `kill -9` of the agent in the middle of deployments, under load, at chosen lines of its journal.

use super::web;
use crate::leftovers::{Leftovers, Part, Scope, Snapshot};
use crate::prober::{Clients, Config, Pace, Prober, Report};
use crate::stage::{Stage, kill};
use rusqlite::{Connection, OpenFlags};
use rustix::process::Signal;
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};
pub use teal_model::deployment::State;

pub struct Crashes {
    pub report: Report,
    /// Where the agent was killed, and how the deployment ended.
    pub ends: Vec<(String, State)>,
    pub leftovers: Vec<String>,
}

/// One kill for every line that a deployment writes (intents and outcomes alternate), or every `stride`-th.
pub fn run(stage: &Stage, stride: usize) -> std::io::Result<Crashes> {
    stage.compose(&web(2, "", "")).up();
    stage.must_deploy("0");
    of_live(stage, stage.address(), stride)
}

/// The same of deployments with canary steps whose candidate grows, and a bake, and a release that stays warm behind each.
pub fn watched(stage: &Stage, stride: usize) -> std::io::Result<Crashes> {
    let settings = "      canary: [{ percent: 5, for: 1s, replicas: 1 }, { percent: 50, for: 1s, replicas: 2 }]\n      bake: 2s\n      retain: until-next";
    stage.compose(&web(2, settings, "")).up();
    stage.must_deploy("a");
    stage.must_deploy("b");
    of_live(stage, stage.address(), stride)
}

/// The same of a stage whose live release serves at this address; the newest deployment shows how many lines there are.
pub fn of_live(stage: &Stage, address: SocketAddr, stride: usize) -> std::io::Result<Crashes> {
    let journal = Journal::open(stage).map_err(std::io::Error::other)?;
    let newest = journal.newest().map_err(std::io::Error::other)?;
    let lines = journal.lines(newest).map_err(std::io::Error::other)?;
    let before = snapshot(stage);
    let load =
        Config::new(address).with(Clients { slow_share: 0.0, ..Clients::mixed(32).pace(Pace::per_second(50.0)) });
    let prober = Prober::start(load)?;
    let mut ends = Vec::new();
    for (version, line) in (1..).zip((1..=lines).step_by(stride.max(1))) {
        ends.push(kill_at(stage, &journal, newest + version, line)?);
    }
    let report = prober.stop()?;
    // Kept connections of the prober are gone when the proxy has seen their end.
    std::thread::sleep(Duration::from_millis(500));
    let secrets = stage.state_dir().join("secrets");
    let is_kept = |part: Part, thing: &str| part == Part::File && Path::new(thing).starts_with(&secrets);
    let mut leftovers = surplus(&before.diff(&snapshot(stage)).except(is_kept));
    let kept: Vec<_> = std::fs::read_dir(&secrets)?.flatten().map(|file| file.file_name()).collect();
    if kept.len() > KEPT {
        leftovers.push(format!("settings of {} releases: {kept:?}", kept.len()));
    }
    Ok(Crashes { report, ends, leftovers })
}

/// Releases of the one service whose settings stay for a rollback: `keep`.
const KEPT: usize = 5;

/// A live release has replaced another: its containers (and their interfaces, sockets, settings) have other names, and must
/// be as many. What there is more of is left over.
fn surplus(leftovers: &Leftovers) -> Vec<String> {
    let mut more: Vec<String> =
        leftovers.unread.iter().map(|(part, why)| format!("not compared: {part}: {why}")).collect();
    let parts: BTreeSet<Part> = leftovers.left.iter().map(|(part, _)| *part).collect();
    for part in parts {
        let left: Vec<&String> = leftovers.left.iter().filter(|(of, _)| *of == part).map(|(_, thing)| thing).collect();
        let gone = leftovers.gone.iter().filter(|(of, _)| *of == part).count();
        if left.len() > gone {
            more.push(format!("{part}: {left:?} instead of {gone}"));
        }
    }
    more
}

fn snapshot(stage: &Stage) -> Snapshot {
    Snapshot::take(&Scope { directories: vec![stage.root().to_owned()], ..Scope::default() })
}

fn journal(stage: &Stage) -> std::path::PathBuf {
    stage.state_dir().join("journal.sqlite3")
}

/// The agent's journal, read beside it.
struct Journal(Connection);

impl Journal {
    fn open(stage: &Stage) -> rusqlite::Result<Self> {
        let db = Connection::open_with_flags(journal(stage), OpenFlags::SQLITE_OPEN_READ_ONLY)?;
        db.busy_timeout(Duration::from_secs(5))?;
        Ok(Self(db))
    }

    fn lines(&self, deployment: u64) -> rusqlite::Result<u64> {
        let count = "SELECT count(*) FROM entries WHERE deployment = ?1";
        self.0.query_row(count, [deployment as i64], |row| row.get::<_, i64>(0)).map(|lines| lines as u64)
    }

    fn newest(&self) -> rusqlite::Result<u64> {
        self.0
            .query_row("SELECT max(number) FROM deployments", [], |row| row.get::<_, i64>(0))
            .map(|newest| newest as u64)
    }

    fn last(&self, deployment: u64) -> rusqlite::Result<String> {
        let last = "SELECT coalesce(entry, 'end') FROM entries WHERE deployment = ?1 ORDER BY sequence DESC LIMIT 1";
        self.0.query_row(last, [deployment as i64], |row| row.get(0))
    }
}

fn kill_at(stage: &Stage, journal: &Journal, deployment: u64, line: u64) -> std::io::Result<(String, State)> {
    let agent = stage.agent_pid();
    let mut cli = stage
        .command(&["deploy", "--output", "json"])
        .env("VERSION", deployment.to_string())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?;
    let deadline = Instant::now() + Duration::from_secs(30);
    while journal.lines(deployment).map_err(std::io::Error::other)? < line && Instant::now() < deadline {
        std::thread::sleep(Duration::from_micros(200));
    }
    kill(agent, Signal::KILL);
    let place = journal.last(deployment).map_err(std::io::Error::other)?;
    stage.until("the agent comes back", Duration::from_secs(20), || {
        let output = stage.teal(&["status", "--output", "json"]);
        output.status.success() && stage.agent_pid() != agent
    });
    let mut state = None;
    stage.until("the deployment ends", Duration::from_secs(60), || {
        let text = stage.must(&["show", &deployment.to_string(), "--output", "json"]);
        let detail: teal_model::api::Detail =
            serde_json::from_str(text.trim()).unwrap_or_else(|error| panic!("{error}: {text}"));
        state = detail.summary.ended_ms.map(|_| detail.summary.state);
        state.is_some()
    });
    cli.wait()?;
    let state = state.unwrap_or_else(|| panic!("it ended"));
    Ok((format!("line {line}: {}", place), state))
}
