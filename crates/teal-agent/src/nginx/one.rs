//! One nginx, from what was left there to what is wanted, and back when it does not take that.

use super::file::{self, Found, Text, Upstream, Upstreams, edited, render, replace};
use super::process::{Reached, Running};
use super::{Need, Nginx, last_lines, refused, unreadable, unwritable};
use rustix::process::Signal;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use teal_model::config::NginxProcess;
use teal_model::fault::{Code, Fault};
use teal_model::ids::ServiceKey;
use teal_model::nginx::names_upstream;
use tokio::time::sleep;

const LOOK: Duration = Duration::from_millis(10);
/// For longer than this a master does not let its old workers take connections beside the new ones (100 ms).
const SETTLES: Duration = Duration::from_millis(300);
/// Where it cannot be seen which workers there are: so many answers in a row, each on a connection of its own.
const IN_A_ROW: u32 = 50;

/// What was left at one nginx: kept beside the journal, for the next agent.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Left {
    pub(super) process: NginxProcess,
    confirm_port: u16,
    /// The text of its file.
    text: Option<String>,
    #[serde(skip)]
    seen: Seen,
}

/// What this agent has seen of it.
#[derive(Debug, Clone, Default)]
struct Seen {
    /// The generation that every worker has served by.
    settled: Option<String>,
    /// It was told to read another file, and did not show that it had: it may yet.
    doubted: bool,
    /// The text that it did not take.
    failed: Option<Failed>,
    /// The workers that the last reload told to end; None: any.
    leaving: Option<BTreeSet<u32>>,
    /// Those whose configuration was looked at.
    looked: BTreeSet<u32>,
}

#[derive(Debug, Clone)]
struct Failed {
    master: u32,
    generation: String,
    fault: Fault,
    need: Need,
}

impl Left {
    pub fn new(process: NginxProcess, confirm_port: u16) -> Self {
        Self { process, confirm_port, text: None, seen: Seen::default() }
    }

    pub fn with(mut self, process: Option<&NginxProcess>) -> Self {
        self.process = process.cloned().unwrap_or(self.process);
        self
    }

    pub fn confirm_port(&self) -> u16 {
        self.confirm_port
    }

    pub fn text(&self) -> Option<&str> {
        self.text.as_deref()
    }

    /// A file of ours is, or may be, there.
    pub fn is_there(&self) -> bool {
        self.text.is_some()
    }

    pub fn was_told_to_end(&self, worker: u32) -> bool {
        self.seen.leaving.as_ref().is_none_or(|leaving| leaving.contains(&worker))
    }

    pub fn has_looked(&self, workers: &BTreeSet<u32>) -> bool {
        !workers.is_empty() && self.seen.looked.is_superset(workers)
    }

    pub fn looked(&mut self, workers: BTreeSet<u32>) {
        self.seen.looked = workers;
    }

    /// Every worker serves by this text. Asked for long enough that no reload of a moment ago may still be under way.
    async fn is_settled(&self, running: &Running, text: &Text) -> bool {
        let long_enough = match (self.seen.doubted, self.seen.settled.as_ref() == Some(&text.generation)) {
            (true, _) => Duration::from_millis(self.process.confirm_ms),
            (false, true) => Duration::ZERO,
            (false, false) => SETTLES,
        };
        let began = Instant::now();
        while running.generation(self.confirm_port).await.is_ok_and(|serving| serving == text.generation) {
            if began.elapsed() >= long_enough {
                return true;
            }
            sleep(LOOK * 2).await;
        }
        false
    }

    fn settles(&mut self, text: Text) {
        self.text = Some(text.whole);
        (self.seen.settled, self.seen.doubted, self.seen.failed) = (Some(text.generation), false, None);
    }
}

impl Nginx {
    /// Returns whether anything of ours stays there, and what is to be said.
    pub(super) async fn ensure_one(
        &self,
        left: &mut Left,
        upstreams: &Upstreams,
        need: Need,
    ) -> Result<(bool, Vec<Fault>), Fault> {
        let mut said = Vec::new();
        let running = match Running::find(&left.process, &self.runtime).await {
            Ok(running) => Some(running),
            Err(fault) if fault.code == Code::NginxDown && need != Need::Serves => {
                said.push(fault);
                None
            }
            Err(fault) if need == Need::Kept => return Ok((true, vec![fault])),
            Err(fault) => return Err(fault),
        };
        let Some(path) = place(&left.process, running.as_ref())? else {
            // A container that does not run: it is seen to when it does.
            return Ok((true, said));
        };
        let upstreams = self.with_clinging(left, running.as_ref(), upstreams, &mut said).await;
        let text = render(&self.agent, &left.process.log, left.confirm_port, &upstreams);
        let found = self.read(&path)?;
        if let Some(fault) = edited(&path, &found, left.text()) {
            // Nothing is asked of it that it has not read: its own business until then.
            if need == Need::Kept || left.text() == Some(text.whole.as_str()) {
                return Ok((true, vec![fault]));
            }
            return Err(fault);
        }
        if upstreams.is_empty() {
            return self.leave(left, &path, running, said).await;
        }
        let there = found == Found::Ours(text.whole.clone());
        if let Some(running) = &running {
            if there && left.is_settled(running, &text).await {
                left.settles(text);
                return Ok((true, said));
            }
            // What it did not take is not tried again on the way back: it serves as it did before. Nor without being asked.
            if let Some(failed) = &left.seen.failed
                && (failed.master, &failed.generation) == (running.master, &text.generation)
                && (need == Need::Kept || need == Need::Back && failed.need == Need::Serves)
            {
                said.push(failed.fault.clone());
                return Ok((true, said));
            }
        }
        let known = left.text.replace(text.whole.clone()).is_some();
        self.keep(left, known)?;
        if !there {
            replace(&path, &text.whole).map_err(|error| unwritable(&path, &error))?;
        }
        let Some(running) = running else { return Ok((true, said)) };
        match self.reload(&running, left, &text).await {
            Ok(()) => left.settles(text),
            Err(fault) => {
                let (master, generation) = (running.master, text.generation);
                left.seen.failed = Some(Failed { master, generation, fault: fault.clone(), need });
                if need != Need::Back && !there {
                    self.take_back(&running, left, &path, found, &fault).await?;
                }
                return Err(fault);
            }
        }
        Ok((true, said))
    }

    /// As it was, so that whoever reloads it next finds what it serves by.
    async fn take_back(
        &self,
        running: &Running,
        left: &mut Left,
        path: &Path,
        found: Found,
        fault: &Fault,
    ) -> Result<(), Fault> {
        match found {
            Found::Ours(was) => {
                replace(path, &was).map_err(|error| unwritable(path, &error))?;
                left.text = Some(was);
                self.keep(left, true)?;
            }
            _ => {
                file::clear(path).map_err(|error| unwritable(path, &error))?;
                left.text = None;
                self.forget(left);
            }
        }
        if fault.code == Code::NginxStale {
            // It may have taken the new file after all: by this it goes back.
            if let Err(error) = self.order(running, &left.process).await {
                tracing::error!(%error, "nginx cannot be told to read the file before");
            }
        }
        Ok(())
    }

    /// With upstreams that are not wanted any more and that nginx would not start without, since its configuration names them.
    async fn with_clinging(
        &self,
        left: &Left,
        running: Option<&Running>,
        wanted: &Upstreams,
        said: &mut Vec<Fault>,
    ) -> Upstreams {
        let text = left.text().unwrap_or_default();
        let had = text.lines().filter_map(|line| line.strip_prefix("upstream ")?.strip_suffix(" {"));
        let mut dropped: Vec<String> = had.filter(|name| !wanted.contains_key(*name)).map(str::to_owned).collect();
        let mut all = wanted.clone();
        if dropped.is_empty() {
            return all;
        }
        // One that does not run is looked at again when it does. Where it cannot be seen, the test of what is written without
        // them says it.
        if let Some(running) = running {
            let configuration = self.configuration(running, &left.process).await;
            let named = |name: &String| configuration.as_ref().is_some_and(|it| names_upstream(it, name));
            dropped.retain(named);
        }
        if !dropped.is_empty() {
            let names = dropped.join(", ");
            let what = format!("{} still names {names}, which nobody serves: it answers 502", left.process.words());
            let fault = Fault::new(Code::NginxRefused, what);
            said.push(fault.hint("take its `proxy_pass` out; until then Teal's file names it"));
        }
        let nobody = Upstream { service: ServiceKey::new("", ""), servers: Vec::new(), keepalive: 0 };
        all.extend(dropped.into_iter().map(|name| (name, nobody.clone())));
        all
    }

    /// Nothing of ours is needed there any more.
    async fn leave(
        &self,
        left: &mut Left,
        path: &Path,
        running: Option<Running>,
        said: Vec<Fault>,
    ) -> Result<(bool, Vec<Fault>), Fault> {
        let gone = |error: std::io::Error| unwritable(path, &error);
        if path.exists() {
            file::put_aside(path).map_err(gone)?;
            if let Some(running) = &running {
                let tested = running.run(&left.process.test, &self.runtime).await;
                if !tested.as_ref().is_ok_and(|tested| tested.done) {
                    file::put_back(path).map_err(gone)?;
                    return Err(refused(&left.process, &tested?.words));
                }
                self.order(running, &left.process).await?;
            }
        }
        file::clear(path).map_err(gone)?;
        if let Some(running) = running {
            let log = running.path(&left.process.log).map_err(|error| unreadable(path, &error))?;
            for log in [log.to_path_buf(), super::log::aside(&log)] {
                file::remove(&log).map_err(|error| unwritable(&log, &error))?;
            }
        }
        left.text = None;
        self.forget(left);
        Ok((false, said))
    }

    /// Tests, tells nginx to read its files again, and waits until nobody serves by those before.
    async fn reload(&self, running: &Running, left: &mut Left, text: &Text) -> Result<(), Fault> {
        let process = left.process.clone();
        let tested = running.run(&process.test, &self.runtime).await?;
        if !tested.done {
            return Err(refused(&process, &tested.words));
        }
        let workers = running.workers().into_iter();
        let before: BTreeSet<u32> = workers.filter(|(_, leaves)| !leaves).map(|(pid, _)| pid).collect();
        left.seen.leaving = Some(before.clone());
        (left.seen.settled, left.seen.doubted) = (None, true);
        let began = Instant::now();
        self.order(running, &process).await?;
        let (mut running, mut in_a_row) = (running.clone(), 0);
        let mut last;
        loop {
            if running.workers().is_empty() {
                // The command may have started another master.
                running = Running::find(&process, &self.runtime).await.unwrap_or(running);
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
        let fault = Fault::new(Code::NginxStale, what);
        Err(match in_a_row == 0 && left.seen.looked.is_empty() {
            true => fault.hint(format!("nginx must include {} within `http`; else see its error log", process.file)),
            false => fault,
        })
    }

    async fn order(&self, running: &Running, process: &NginxProcess) -> Result<(), Fault> {
        let Some(command) = &process.reload else { return running.signal(Signal::HUP) };
        let ran = running.run(command, &self.runtime).await?;
        let failed = || Fault::new(Code::NginxRefused, format!("`{}` failed", command.join(" ")));
        if ran.done { Ok(()) } else { Err(failed().detail(last_lines(&ran.words))) }
    }
}

fn place(process: &NginxProcess, running: Option<&Running>) -> Result<Option<Reached>, Fault> {
    match (running, &process.container) {
        (Some(running), _) => {
            running.path(&process.file).map(Some).map_err(|error| unreadable(Path::new(&process.file), &error))
        }
        (None, None) => Ok(Some(PathBuf::from(&process.file).into())),
        (None, Some(_)) => Ok(None),
    }
}
