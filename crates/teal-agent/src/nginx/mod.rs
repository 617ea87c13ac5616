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
mod one;
mod process;

pub use file::{Server, Upstream, Upstreams};
pub use log::Counted;

use crate::runtime::Runtime;
use file::{Found, edited, short};
use one::Left;
use process::Running;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use teal_model::config::{NginxPlace, NginxProcess};
use teal_model::fault::{Code, Fault};
use teal_model::nginx::{Configuration, Lint, Wanted as Looked, lint, names_upstream};
use tokio::sync::Mutex;

/// Where the servers that tell the generation listen.
const CONFIRM_PORTS: std::ops::Range<u16> = 31_000..31_100;
const SAID_LINES: usize = 10;

/// Every nginx that some service's clients come through.
pub struct Nginx {
    dir: PathBuf,
    agent: String,
    runtime: Arc<dyn Runtime>,
    known: Mutex<BTreeMap<NginxPlace, Left>>,
    counted: Arc<Counted>,
}

/// What one nginx is to serve by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    pub process: NginxProcess,
    pub upstreams: Upstreams,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// New requests are to go elsewhere: it must run, and serve by the new file.
    Serves,
    /// They are to go where nothing is amiss. One that does not run has only to find the right file when it starts; where it
    /// does not take the file, that stays for whoever reloads it next.
    Back,
    /// It is only looked after: what it does not take is said, and not tried again before something has changed.
    Kept,
}

/// What became of all of them.
#[derive(Debug, Default)]
pub struct Ensured {
    /// By place, with what is to be said of it.
    pub done: BTreeMap<NginxPlace, Vec<Fault>>,
    /// The first that failed of those that were asked for.
    pub failed: Option<Fault>,
    /// What failed of others.
    pub said: Vec<Fault>,
}

impl Nginx {
    pub fn open(state_dir: &Path, agent: &str, runtime: Arc<dyn Runtime>) -> Self {
        let dir = state_dir.join("upstreams");
        let mut known = BTreeMap::new();
        for entry in std::fs::read_dir(&dir).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.extension().is_none_or(|extension| extension != "json") {
                continue;
            }
            let read = std::fs::read(&path).map_err(|error| error.to_string());
            match read.and_then(|text| serde_json::from_slice::<Left>(&text).map_err(|error| error.to_string())) {
                Ok(left) => drop(known.insert(left.process.place(), left)),
                Err(error) => {
                    tracing::warn!(%error, path = %path.display(), "what was left at an nginx cannot be read: it is looked at anew");
                }
            }
        }
        let counted = Arc::new(Counted::new(agent));
        for left in known.values() {
            counted.follow(&left.process, &runtime);
        }
        Self { dir, agent: agent.to_owned(), runtime, known: Mutex::new(known), counted }
    }

    /// What its log says of the requests.
    pub fn counted(&self) -> Arc<Counted> {
        self.counted.clone()
    }

    /// Each nginx serves by what is wanted of it, those that nothing is wanted of any more too. `skip`: nothing has changed
    /// there. `asked`: those that must; what fails of others is said.
    pub async fn ensure(
        &self,
        wanted: &BTreeMap<NginxPlace, Wanted>,
        skip: &BTreeSet<NginxPlace>,
        need: Need,
        asked: &BTreeSet<NginxPlace>,
    ) -> Ensured {
        let mut known = self.known.lock().await;
        let mut ensured = Ensured::default();
        let places: BTreeSet<NginxPlace> = known.keys().chain(wanted.keys()).cloned().collect();
        for place in places.difference(skip) {
            let nothing = Upstreams::new();
            let upstreams = wanted.get(place).map_or(&nothing, |wanted| &wanted.upstreams);
            let mut left = match (known.remove(place), wanted.get(place)) {
                (Some(left), wanted) => left.with(wanted.map(|wanted| &wanted.process)),
                (None, Some(wanted)) => match free_port(&known) {
                    Ok(port) => Left::new(wanted.process.clone(), port),
                    Err(fault) => {
                        ensured.fails(fault, asked.contains(place));
                        continue;
                    }
                },
                (None, None) => continue,
            };
            let need = if asked.contains(place) || need == Need::Back { need } else { Need::Kept };
            match self.ensure_one(&mut left, upstreams, need).await {
                Ok((stays, said)) => {
                    ensured.done.insert(place.clone(), said);
                    if !stays {
                        self.counted.leave(place);
                        continue;
                    }
                    self.counted.follow(&left.process, &self.runtime);
                    self.look_at_logs(&mut left, upstreams).await;
                }
                Err(fault) => ensured.fails(fault, asked.contains(place)),
            }
            if left.is_there() || wanted.contains_key(place) {
                known.insert(place.clone(), left);
            }
        }
        ensured
    }

    /// What of its configuration is worth a word. None: it cannot be seen.
    pub async fn lint(&self, process: &NginxProcess, wanted: &[Looked<'_>]) -> Option<Vec<Lint>> {
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

    /// Some request of its goes to this upstream.
    pub async fn names(&self, process: &NginxProcess, upstream: &str) -> bool {
        let Ok(running) = Running::find(process, &self.runtime).await else { return false };
        let configuration = self.configuration(&running, process).await;
        configuration.is_some_and(|configuration| names_upstream(&configuration, upstream))
    }

    /// Whether its log tells of every request that goes to these upstreams; only when other workers may have read another
    /// configuration.
    async fn look_at_logs(&self, left: &mut Left, upstreams: &Upstreams) {
        let Ok(running) = Running::find(&left.process, &self.runtime).await else { return };
        let workers: BTreeSet<u32> = running.workers().into_iter().map(|(pid, _)| pid).collect();
        if left.has_looked(&workers) {
            return;
        }
        let Some(configuration) = self.configuration(&running, &left.process).await else {
            let why = "nginx's configuration cannot be looked at: `x-teal.nginx.test` is no `nginx -t`, or it fails";
            return self.counted.sees(&left.process, Some(why.to_owned()));
        };
        let uncounted = upstreams.keys().find_map(|upstream| {
            let looked = Looked { upstream, log: &left.process.log, drain_ms: 0, keepalive: false };
            lint(&configuration, &looked).uncounted
        });
        self.counted.sees(&left.process, uncounted);
        left.looked(workers);
    }

    /// What is wrong with an nginx before anything is asked of it.
    pub async fn check(&self, process: &NginxProcess) -> Result<(), Fault> {
        let left = self.known.lock().await.get(&process.place()).cloned();
        let running = Running::find(process, &self.runtime).await?;
        let path = running.path(&process.file).map_err(|error| unreadable(Path::new(&process.file), &error))?;
        if path.is_dir() || !path.parent().is_some_and(Path::is_dir) {
            let what = format!("{} is a folder, or its own folder is not there", process.file);
            return Err(Fault::new(Code::NginxFile, what)
                .hint("name a file in a folder that nginx includes, in `x-teal.nginx.file`"));
        }
        let found = self.read(&path)?;
        if let Some(fault) = edited(&path, &found, left.as_ref().and_then(Left::text)) {
            return Err(fault);
        }
        // It is put aside when it is long, and removed in the end.
        let log = running.path(&process.log).map_err(|error| unreadable(Path::new(&process.log), &error))?;
        if log::is_of_others(&log) {
            let what = format!("{} holds lines that are not Teal's", process.log);
            return Err(Fault::new(Code::NginxFile, what).hint("name a log of its own in `x-teal.nginx.log`"));
        }
        // It may name an upstream that is yet to be written.
        if found == Found::Nothing {
            return Ok(());
        }
        let tested = running.run(&process.test, &self.runtime).await?;
        if tested.done { Ok(()) } else { Err(refused(process, &tested.words)) }
    }

    /// What may still come from nginx to these addresses: the connections that it holds, and workers of before the last reload,
    /// which may have a request that they have not passed on yet. None: nobody can say.
    pub async fn in_flight(&self, process: &NginxProcess, addrs: &BTreeSet<SocketAddr>) -> Option<u64> {
        let found = Running::find(process, &self.runtime).await;
        let (process, addrs) = (process.clone(), addrs.clone());
        let leaving = match &found {
            Ok(running) => {
                let known = self.known.lock().await;
                let left = known.get(&process.place());
                let workers = running.workers().into_iter().filter(|(_, leaves)| *leaves);
                workers.filter(|(pid, _)| left.is_none_or(|left| left.was_told_to_end(*pid))).count()
            }
            Err(fault) if fault.code == Code::NginxDown => 0,
            Err(_) => return None,
        };
        let counted = tokio::task::spawn_blocking(move || match found {
            Ok(running) => running.connections(&addrs),
            Err(_) => process::connections_without(&process, &addrs),
        });
        match counted.await.unwrap_or_else(|error| Err(std::io::Error::other(error))) {
            Ok(count) => Some((count + leaving) as u64),
            Err(error) => {
                tracing::warn!(%error, "nginx's connections cannot be counted");
                None
            }
        }
    }

    fn read(&self, path: &Path) -> Result<Found, Fault> {
        Found::read(path, &self.agent).map_err(|error| unreadable(path, &error))
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

    fn forget(&self, left: &Left) {
        let kept = self.kept(&left.process);
        if let Err(error) = file::remove(&kept) {
            tracing::warn!(%error, kept = %kept.display(), "it stays");
        }
    }
}

impl Ensured {
    fn fails(&mut self, fault: Fault, asked: bool) {
        match (asked, &self.failed) {
            (true, None) => self.failed = Some(fault),
            _ => self.said.push(fault),
        }
    }
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

fn unreadable(path: &Path, error: &std::io::Error) -> Fault {
    Fault::new(Code::NginxFile, format!("{} cannot be read: {error}", path.display()))
}

fn unwritable(path: &Path, error: &std::io::Error) -> Fault {
    Fault::new(Code::NginxFile, format!("{} cannot be written: {error}", path.display()))
        .hint("the agent must be able to write there; of a container, mount that folder writable")
}

/// A port of loopback that no other nginx of ours has, and nobody on this host.
fn free_port(known: &BTreeMap<NginxPlace, Left>) -> Result<u16, Fault> {
    let free = |port: &u16| {
        known.values().all(|left| left.confirm_port() != *port)
            && TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok()
    };
    CONFIRM_PORTS.into_iter().find(free).ok_or_else(|| {
        Fault::new(Code::PortInUse, format!("no port from {} to {} is free", CONFIRM_PORTS.start, CONFIRM_PORTS.end))
    })
}
