//! nginx in front, as teams have it: Teal writes its upstreams, tests, reloads, and waits until the new workers alone serve.
//!
//! ```text
//! routings ─▶ file (atomic, checksummed) ─▶ nginx -t ─▶ SIGHUP ─▶ asked until the new generation answers, and every worker
//!     ▲            │ refused                    │ refused             of before is shutting down ─▶ flipped
//!     └────────────┴── the file before it ◀─────┴──────────────────── or not in time
//! ```
//!
//! What the file says follows from the routings alone, and nginx tells what it has read: so a new agent sees by looking what
//! an earlier one has left undone.

mod asked;
mod file;
mod log;
mod process;

pub use file::{Server, Upstream, Upstreams};
pub use log::Counted;

use crate::runtime::Runtime;
use file::{Found, Text, edited, render, replace, short};
use process::Running;
use rustix::process::Signal;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};
use teal_model::config::{NginxPlace, NginxProcess};
use teal_model::fault::{Code, Fault};
use teal_model::nginx::{Configuration, Lint, Wanted, lint, names_upstream};
use tokio::sync::Mutex;
use tokio::time::sleep;

/// Where the servers that tell the generation listen.
const CONFIRM_PORTS: std::ops::Range<u16> = 31_000..31_100;
const LOOK: Duration = Duration::from_millis(10);
/// Where it cannot be seen which workers there are: so many answers in a row, each on a connection of its own.
const IN_A_ROW: u32 = 50;
const SAID_LINES: usize = 10;

/// Every nginx that some service's clients come through.
pub struct Nginx {
    dir: PathBuf,
    agent: String,
    runtime: Arc<dyn Runtime>,
    known: Mutex<BTreeMap<NginxPlace, Left>>,
    counted: Arc<Counted>,
}

/// What was left at one nginx: kept beside the journal, for the next agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Left {
    process: NginxProcess,
    confirm_port: u16,
    /// The text of its file.
    text: Option<String>,
    /// The generation that this agent has seen to be served by every worker.
    #[serde(skip)]
    settled: Option<String>,
}

/// How much is needed of a nginx that does not run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// New requests are to go elsewhere: it must serve by the new file.
    Serves,
    /// It is enough when it will read the right file once it starts.
    WillServe,
}

impl Nginx {
    pub fn open(state_dir: &Path, agent: &str, runtime: Arc<dyn Runtime>) -> Result<Self, Fault> {
        let dir = state_dir.join("upstreams");
        let unreadable =
            |error: std::io::Error| Fault::new(Code::StateDir, format!("{} cannot be read: {error}", dir.display()));
        let mut known = BTreeMap::new();
        if dir.exists() {
            for entry in std::fs::read_dir(&dir).map_err(unreadable)? {
                let text = std::fs::read_to_string(entry.map_err(unreadable)?.path()).map_err(unreadable)?;
                match serde_json::from_str::<Left>(&text) {
                    Ok(left) => drop(known.insert(left.process.place(), left)),
                    Err(error) => {
                        tracing::warn!(%error, "what was left at an nginx cannot be read: it is looked at anew")
                    }
                }
            }
        }
        let counted = Arc::new(Counted::new(agent));
        for left in known.values() {
            counted.follow(&left.process, &runtime);
        }
        Ok(Self { dir, agent: agent.to_owned(), runtime, known: Mutex::new(known), counted })
    }

    /// What its log says of the requests.
    pub fn counted(&self) -> Arc<Counted> {
        self.counted.clone()
    }

    /// Each nginx serves by what is wanted of it, those that nothing is wanted of any more too. Returns what is to be said
    /// and keeps nothing from going on.
    pub async fn ensure(&self, mut wanted: BTreeMap<NginxProcess, Upstreams>, need: Need) -> Result<Vec<Fault>, Fault> {
        let mut known = self.known.lock().await;
        for (place, left) in known.iter() {
            if !wanted.keys().any(|process| process.place() == *place) {
                wanted.insert(left.process.clone(), Upstreams::new());
            }
        }
        let mut said = Vec::new();
        for (process, upstreams) in wanted {
            let left = match known.get(&process.place()) {
                Some(left) => Left { process: process.clone(), ..left.clone() },
                None if upstreams.is_empty() => continue,
                None => Left { confirm_port: free_port(&known)?, process: process.clone(), text: None, settled: None },
            };
            let (left, faults) = self.ensure_one(left, upstreams.clone(), need).await?;
            said.extend(faults);
            match left {
                Some(left) => {
                    known.insert(process.place(), left);
                    self.counted.follow(&process, &self.runtime);
                    self.look_at_logs(&process, &upstreams).await;
                }
                None => {
                    known.remove(&process.place());
                    self.counted.leave(&process.place());
                }
            }
        }
        Ok(said)
    }

    async fn ensure_one(
        &self,
        mut left: Left,
        mut upstreams: Upstreams,
        need: Need,
    ) -> Result<(Option<Left>, Vec<Fault>), Fault> {
        let process = left.process.clone();
        let mut said = Vec::new();
        let running = match Running::find(&process, &self.runtime).await {
            Ok(running) => Some(running),
            Err(down) if need == Need::WillServe => {
                said.push(down);
                None
            }
            Err(down) => return Err(down),
        };
        let Some(path) = self.place(&process, running.as_ref()) else {
            // A container that does not run: it is seen to when it does.
            return Ok((Some(left), said));
        };
        let found = self.read(&path)?;
        let clinging = self.clinging(&left, running.as_ref(), &upstreams).await;
        if !clinging.is_empty() {
            let names = clinging.join(", ");
            let what = format!("{} still names {names}, which nobody serves: it answers 502", process.words());
            said.push(
                Fault::new(Code::NginxRefused, what).hint("take its `proxy_pass` out; until then Teal's file names it"),
            );
        }
        upstreams.extend(clinging.into_iter().map(|name| (name, Upstream { servers: Vec::new(), keepalive: 0 })));
        let text = render(&self.agent, &process.log, left.confirm_port, &upstreams);
        if let Some(fault) = edited(&path, &found, left.text.as_deref()) {
            // Nothing is asked of it that it has not read: its own business until then.
            if left.text.as_deref() == Some(text.whole.as_str()) {
                return Ok((Some(left), vec![fault]));
            }
            return Err(fault);
        }
        if upstreams.is_empty() {
            return self.leave(left, &path, running, said).await;
        }
        let there = found == Found::Ours(text.whole.clone());
        if there
            && let Some(running) = &running
            && settled(running, &left, &text).await
        {
            left.settled = Some(text.generation);
            left.text = Some(text.whole);
            return Ok((Some(left), said));
        }
        let before = left.text.clone();
        left.text = Some(text.whole.clone());
        self.keep(&left, before.is_some())?;
        if !there {
            replace(&path, &text.whole).map_err(|error| unwritable(&path, &error))?;
        }
        let Some(running) = running else { return Ok((Some(left), said)) };
        if let Err(fault) = self.reload(&running, &left, &text).await {
            // As it was, so that whoever reloads it next finds what it serves by.
            match found {
                Found::Ours(was) if !there => {
                    replace(&path, &was).map_err(|error| unwritable(&path, &error))?;
                    left.text = Some(was);
                }
                Found::Ours(_) => {}
                _ => {
                    file::clear(&path).map_err(|error| unwritable(&path, &error))?;
                    left.text = None;
                }
            }
            self.keep(&left, true)?;
            if fault.code == Code::NginxStale {
                // It may have taken the new file after all: by this it goes back.
                if let Err(error) = self.order(&running, &left.process).await {
                    tracing::error!(%error, "nginx cannot be told to read the file before");
                }
            }
            return Err(fault);
        }
        left.settled = Some(text.generation);
        Ok((Some(left), said))
    }

    /// Upstreams that are not wanted any more, and that nginx would not start without, since its configuration names them.
    async fn clinging(&self, left: &Left, running: Option<&Running>, wanted: &Upstreams) -> Vec<String> {
        let text = left.text.as_deref().unwrap_or_default();
        let had = text.lines().filter_map(|line| line.strip_prefix("upstream ")?.strip_suffix(" {"));
        let mut dropped: Vec<String> = had.filter(|name| !wanted.contains_key(*name)).map(str::to_owned).collect();
        if dropped.is_empty() {
            return dropped;
        }
        let configuration = match running {
            // It is looked at again when it runs.
            None => return dropped,
            Some(running) => self.configuration(running, &left.process).await,
        };
        // Where it cannot be seen, the test of what is written without them says it.
        dropped.retain(|name| configuration.as_ref().is_some_and(|configuration| names_upstream(configuration, name)));
        dropped
    }

    /// Nothing of ours is needed there any more.
    async fn leave(
        &self,
        left: Left,
        path: &Path,
        running: Option<Running>,
        said: Vec<Fault>,
    ) -> Result<(Option<Left>, Vec<Fault>), Fault> {
        let was = std::fs::read_to_string(path).ok();
        file::clear(path).map_err(|error| unwritable(path, &error))?;
        if let Some(running) = running {
            let tested = running.run(&left.process.test, &self.runtime).await?;
            if !tested.done {
                if let Some(was) = was {
                    replace(path, &was).map_err(|error| unwritable(path, &error))?;
                }
                return Err(refused(&left.process, &tested.words));
            }
            self.order(&running, &left.process).await?;
            remove_log(&running.path(&left.process.log));
        }
        let kept = self.kept(&left.process);
        if let Err(error) = std::fs::remove_file(&kept)
            && error.kind() != std::io::ErrorKind::NotFound
        {
            tracing::warn!(%error, kept = %kept.display(), "it stays");
        }
        Ok((None, said))
    }

    /// Tests, tells nginx to read its files again, and waits until nobody serves by those before.
    async fn reload(&self, running: &Running, left: &Left, text: &Text) -> Result<(), Fault> {
        let process = &left.process;
        let tested = running.run(&process.test, &self.runtime).await?;
        if !tested.done {
            return Err(refused(process, &tested.words));
        }
        let before: BTreeSet<u32> =
            running.workers().into_iter().filter(|(_, leaves)| !leaves).map(|(pid, _)| pid).collect();
        let began = Instant::now();
        self.order(running, process).await?;
        let (mut running, mut in_a_row) = (running.clone(), 0);
        let mut last;
        loop {
            if running.workers().is_empty() {
                // The command may have started another master.
                running = Running::find(process, &self.runtime).await.unwrap_or(running);
            }
            let answer = running.generation(left.confirm_port).await;
            let serving = answer.as_ref().is_ok_and(|answer| *answer == text.generation);
            in_a_row = if serving { in_a_row + 1 } else { 0 };
            let now = running.workers();
            let old = now.iter().filter(|(pid, leaves)| before.contains(pid) && !leaves).count();
            let seen = !before.is_empty() && now.iter().any(|(pid, leaves)| !before.contains(pid) && !leaves);
            // Asked once more after the last of the old ones has closed its listening sockets.
            if in_a_row >= 2 && seen && old == 0 || in_a_row >= IN_A_ROW && before.is_empty() {
                return Ok(());
            }
            last = match answer {
                Ok(_) if serving => format!("{old} of its old workers still take connections"),
                Ok(_) => "its workers serve by the file before".to_owned(),
                Err(error) => format!("the server that tells the generation does not answer: {error}"),
            };
            if began.elapsed() >= Duration::from_millis(process.confirm_ms) {
                break;
            }
            sleep(LOOK).await;
        }
        let what = format!("{} was told to reload, and after {} s {last}", process.words(), began.elapsed().as_secs());
        Err(Fault::new(Code::NginxStale, what))
    }

    async fn order(&self, running: &Running, process: &NginxProcess) -> Result<(), Fault> {
        let Some(command) = &process.reload else { return running.signal(Signal::HUP) };
        let ran = running.run(command, &self.runtime).await?;
        let failed = || Fault::new(Code::NginxRefused, format!("`{}` failed", command.join(" ")));
        if ran.done { Ok(()) } else { Err(failed().detail(last_lines(&ran.words))) }
    }

    /// What of its configuration is worth a word. None: it cannot be seen.
    pub async fn lint(&self, process: &NginxProcess, wanted: &[Wanted<'_>]) -> Option<Vec<Lint>> {
        let running = Running::find(process, &self.runtime).await.ok()?;
        let configuration = self.configuration(&running, process).await?;
        Some(wanted.iter().map(|wanted| lint(&configuration, wanted)).collect())
    }

    /// All its files; None: the test is no `nginx -t`, or does not pass.
    async fn configuration(&self, running: &Running, process: &NginxProcess) -> Option<Configuration> {
        let mut command = process.test.clone();
        // The test that also prints what it has tested.
        "-T".clone_into(command.iter_mut().find(|word| *word == "-t")?);
        let ran = running.run(&command, &self.runtime).await.ok().filter(|ran| ran.done)?;
        match Configuration::of_dump(&ran.printed) {
            Ok(configuration) => Some(configuration),
            Err(problems) => {
                let problem = problems.first().map(ToString::to_string);
                tracing::warn!(problem, "nginx's configuration cannot be read");
                None
            }
        }
    }

    /// Whether its log tells of every request that goes to these upstreams.
    async fn look_at_logs(&self, process: &NginxProcess, upstreams: &Upstreams) {
        let wanted: Vec<Wanted<'_>> = upstreams
            .keys()
            .map(|upstream| Wanted { upstream, log: &process.log, drain_ms: 0, keepalive: false })
            .collect();
        let uncounted = match self.lint(process, &wanted).await {
            Some(lints) => lints.into_iter().find_map(|lint| lint.uncounted),
            // Then what is in the log is believed.
            None => None,
        };
        self.counted.sees(process, uncounted);
    }

    /// What is wrong with an nginx before anything is asked of it.
    pub async fn check(&self, process: &NginxProcess) -> Result<(), Fault> {
        let left = self.known.lock().await.get(&process.place()).cloned();
        let running = Running::find(process, &self.runtime).await?;
        let path = running.path(&process.file);
        let found = self.read(&path)?;
        if let Some(fault) = edited(&path, &found, left.as_ref().and_then(|left| left.text.as_deref())) {
            return Err(fault);
        }
        // It may name an upstream that is yet to be written.
        if found == Found::Nothing {
            return Ok(());
        }
        let tested = running.run(&process.test, &self.runtime).await?;
        if tested.done { Ok(()) } else { Err(refused(process, &tested.words)) }
    }

    /// Connections that nginx holds to these addresses; None: nobody can say.
    pub async fn connections(&self, process: &NginxProcess, addrs: &BTreeSet<SocketAddr>) -> Option<u64> {
        let counted = match Running::find(process, &self.runtime).await {
            Ok(running) => running.connections(addrs),
            // It does not run, so it holds none.
            Err(fault) if fault.code == Code::NginxDown => return Some(0),
            Err(_) => return None,
        };
        match counted {
            Ok(count) => Some(count as u64),
            Err(error) => {
                tracing::warn!(%error, "nginx's connections cannot be counted");
                None
            }
        }
    }

    fn place(&self, process: &NginxProcess, running: Option<&Running>) -> Option<PathBuf> {
        match (running, &process.container) {
            (Some(running), _) => Some(running.path(&process.file)),
            (None, None) => Some(PathBuf::from(&process.file)),
            (None, Some(_)) => None,
        }
    }

    fn read(&self, path: &Path) -> Result<Found, Fault> {
        Found::read(path, &self.agent)
            .map_err(|error| Fault::new(Code::NginxFile, format!("{} cannot be read: {error}", path.display())))
    }

    fn kept(&self, process: &NginxProcess) -> PathBuf {
        let name = format!("{}:{}", process.container.as_deref().unwrap_or_default(), process.file);
        self.dir.join(format!("{}.json", short(&name)))
    }

    /// `known`: it is only a later text, without which an edit is seen and not shown.
    fn keep(&self, left: &Left, known: bool) -> Result<(), Fault> {
        let path = self.kept(&left.process);
        let json = serde_json::to_vec(left).map_err(|error| Fault::new(Code::Internal, error.to_string()))?;
        let fresh = path.with_extension("new");
        let written = std::fs::create_dir_all(&self.dir)
            .and_then(|()| std::fs::write(&fresh, json))
            .and_then(|()| std::fs::rename(&fresh, &path));
        match written {
            Err(error) if known => {
                tracing::error!(%error, path = %path.display(), "what is left at nginx cannot be written down");
                Ok(())
            }
            Err(error) => Err(Fault::new(Code::StateDir, format!("{} cannot be written: {error}", path.display()))),
            Ok(()) => Ok(()),
        }
    }
}

/// The same answer for longer than a master lets its old workers take connections beside the new ones (100 ms): an agent that
/// died may have told it to reload a moment ago.
async fn settled(running: &Running, left: &Left, text: &Text) -> bool {
    let began = Instant::now();
    let known = left.settled.as_ref() == Some(&text.generation);
    while running.generation(left.confirm_port).await.is_ok_and(|serving| serving == text.generation) {
        if known || began.elapsed() > Duration::from_millis(300) {
            return true;
        }
        sleep(LOOK * 2).await;
    }
    false
}

fn refused(process: &NginxProcess, words: &str) -> Fault {
    let what = format!("`{}` refuses the configuration of {}", process.test.join(" "), process.words());
    let fault = Fault::new(Code::NginxRefused, what).detail(last_lines(words));
    match words.contains("duplicate upstream") {
        true => fault.hint("take your own `upstream` block of that name out: Teal writes it now"),
        false => fault,
    }
}

fn last_lines(words: &str) -> Vec<String> {
    let lines: Vec<String> = words.lines().filter(|line| !line.trim().is_empty()).map(str::to_owned).collect();
    lines[lines.len().saturating_sub(SAID_LINES)..].to_vec()
}

fn unwritable(path: &Path, error: &std::io::Error) -> Fault {
    Fault::new(Code::NginxFile, format!("{} cannot be written: {error}", path.display()))
        .hint("the agent must be able to write there; of a container, mount that folder writable")
}

fn remove_log(path: &Path) {
    if let Err(error) = std::fs::remove_file(path)
        && error.kind() != std::io::ErrorKind::NotFound
    {
        tracing::warn!(%error, path = %path.display(), "it stays");
    }
}

/// A port of loopback that no other nginx of ours has, and nobody on this host.
fn free_port(known: &BTreeMap<NginxPlace, Left>) -> Result<u16, Fault> {
    let free = |port: &u16| {
        known.values().all(|left| left.confirm_port != *port) && TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok()
    };
    CONFIRM_PORTS.into_iter().find(free).ok_or_else(|| {
        Fault::new(Code::PortInUse, format!("no port from {} to {} is free", CONFIRM_PORTS.start, CONFIRM_PORTS.end))
    })
}
