//! One run of a container, from its start to its end: its process is held, it is probed until it passes, its ports are looked
//! at; and when it ended, why.

use super::{Probed, Report, backend_id};
use crate::early;
use crate::probe::{Answer, Interview};
use crate::reach::Ways;
use crate::runtime::{Container, Runtime, Status, last_words};
use crate::sockets::Sockets;
use crate::store::{ReleaseStore, StoredRelease};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use std::collections::BTreeSet;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;
use teal_model::config::{Protocol as Transport, Service};
use teal_model::door::Door;
use teal_model::fault::{Code, Fault};
use teal_model::ids::ReleaseKey;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, sleep_until};

/// A replica on whose port nobody listens yet is asked again after this, so that a quick start is seen quickly.
const EAGER: Duration = Duration::from_millis(50);
/// The ports of a replica are looked at this often while it is young, and later.
const LOOK: Duration = Duration::from_millis(100);
const YOUNG: Duration = Duration::from_secs(120);
const LOOK_AGAIN: Duration = Duration::from_secs(2);
/// A port that the release before it listens on is waited for this long, and one that is only named this long.
const GIVEN_UP_AFTER: Duration = Duration::from_secs(30);
const UNUSED_AFTER: Duration = Duration::from_secs(2);
const LOG_LINES: u32 = 10;
/// A process that could not be held is tried again after this.
const AGAIN: Duration = Duration::from_millis(200);

/// Why a container ended, with its last words.
pub(super) async fn post_mortem(
    runtime: Arc<dyn Runtime>,
    container: Container,
    release: ReleaseKey,
    reports: mpsc::Sender<Report>,
) {
    let how = match &container.status {
        Status::Exited { out_of_memory: true, .. } => "was killed because it ran out of memory".to_owned(),
        Status::Exited { code, .. } => format!("exited with code {code}"),
        Status::Restarting => "is being restarted by the engine".to_owned(),
        _ => "is dead".to_owned(),
    };
    let lines = last_words(&*runtime, &container.id, LOG_LINES).await;
    let mut fault = Fault::new(Code::ReplicaExited, format!("{} of {release} {how}", container.name)).detail(lines);
    if matches!(container.status, Status::Exited { code: 0, .. }) {
        fault = fault.hint("if it is meant to run once and end, write `deploy: {mode: replicated-job}`");
    }
    // The watcher that would take it may have ended with the agent.
    let _ = reports.send(Report::Exit { run: backend_id(&container), fault }).await;
}

/// A namespace is believed like a process: only when the container still has its pid after it was opened.
pub(super) async fn hold_namespace(runtime: Arc<dyn Runtime>, container: Container, reports: mpsc::Sender<Report>) {
    if container.pid == 0 {
        return;
    }
    let namespace = match std::fs::File::open(format!("/proc/{}/ns/net", container.pid)) {
        Ok(namespace) => namespace,
        Err(error) => {
            tracing::warn!(container = container.name, %error, "its network namespace cannot be opened");
            return;
        }
    };
    loop {
        match runtime.inspect(&container.id).await {
            Ok(Some(now)) if now.pid == container.pid && now.started_at == container.started_at => {
                let namespace = Arc::new(OwnedFd::from(namespace));
                let _ = reports.send(Report::Namespace { run: backend_id(&container), namespace }).await;
                return;
            }
            Ok(_) => return,
            Err(_) => sleep(AGAIN).await,
        }
    }
}

/// From the start of a run to its end: its process is held, then it is probed until it passes, then its ports are looked at
/// from time to time.
pub(super) struct Warming {
    pub(super) runtime: Arc<dyn Runtime>,
    pub(super) store: Arc<ReleaseStore>,
    pub(super) container: Container,
    pub(super) release: ReleaseKey,
    pub(super) passed: bool,
    pub(super) doors: Vec<Door>,
    /// What the release before it speaks, where there is one.
    pub(super) before: Option<Vec<Door>>,
    /// None: it cannot be seen what it listens on.
    pub(super) sockets: Option<Sockets>,
    pub(super) reports: mpsc::Sender<Report>,
}

impl Warming {
    pub(super) async fn run(mut self) {
        let began = Instant::now();
        self.hold_process().await;
        if let Some(pid) = u32::try_from(self.container.pid).ok().filter(|pid| *pid != 0) {
            match Sockets::of(pid) {
                Ok(sockets) => self.sockets = Some(sockets),
                Err(error) => self.cannot_see(&error),
            }
        }
        let stored = match self.store.release(&self.release) {
            Ok(stored) => stored,
            Err(fault) if self.passed => {
                tracing::warn!(release = %self.release, %fault, "its ports are not looked at");
                return;
            }
            Err(fault) => return self.report(Probed::Never(fault)).await,
        };
        let service = &stored.service;
        if !self.passed && self.container.health.is_some() {
            let early =
                early::check(self.runtime.clone(), self.container.clone(), service.container.healthcheck.clone());
            let (run, reports) = (backend_id(&self.container), self.reports.clone());
            tokio::spawn(async move {
                if early.await {
                    // The watcher that would take it may have ended with the agent.
                    let _ = reports.send(Report::Checked { run }).await;
                }
            });
        }
        let ways = Ways::of(&self.container, &stored.reach);
        if ways.is_empty() {
            if self.passed {
                return;
            }
            if service.ports.is_empty() || service.network_mode.is_some() {
                return self.report(Probed::Passed).await;
            }
            let what = match stored.reach.is_ports() {
                true => format!("no port of {} is published on this host", self.container.name),
                false => format!("{} has no address on any network", self.container.name),
            };
            return self.report(Probed::Never(Fault::new(Code::DockerRefused, what))).await;
        }
        let before = self.before.clone().unwrap_or_default();
        let mut interview = Interview::new(service.clone(), ways, before, &self.doors);
        if !self.passed {
            if !self.probe(service, &mut interview).await {
                return;
            }
            self.meet_callers_ports(&stored, &mut interview, began).await;
            self.report(Probed::Passed).await;
        }
        loop {
            sleep(if began.elapsed() < YOUNG { LOOK } else { LOOK_AGAIN }).await;
            self.meet(&mut interview).await;
        }
    }

    /// Before others call it: it listens where the release before it does or, if it is the first, where file and image say.
    /// Not for ever: a port may have been given up.
    async fn meet_callers_ports(&mut self, stored: &StoredRelease, interview: &mut Interview, began: Instant) {
        let exposed = stored.service.expose.iter().filter(|port| port.protocol == Transport::Tcp).map(|port| port.port);
        let (wanted, patience): (BTreeSet<u16>, _) = match &self.before {
            _ if !stored.naming.is_holder() => (BTreeSet::new(), Duration::ZERO),
            // Those behind it in its network start when it is ready.
            Some(before) if stored.shares_network => (before.iter().map(|door| door.port).collect(), UNUSED_AFTER),
            Some(before) => (before.iter().map(|door| door.port).collect(), GIVEN_UP_AFTER),
            None => (exposed.chain(stored.exposed.iter().copied()).collect(), UNUSED_AFTER),
        };
        let mut said = String::new();
        loop {
            self.meet(interview).await;
            let missing = wanted
                .iter()
                .find(|port| interview.can_reach(**port) && self.doors.iter().all(|door| door.port != **port));
            let Some(missing) = missing.filter(|_| began.elapsed() < patience) else { return };
            self.say(&mut said, format!("it does not listen on port {missing} yet")).await;
            sleep(EAGER).await;
        }
    }

    /// Sees which ports it listens on, and what is spoken there.
    async fn meet(&mut self, interview: &mut Interview) {
        interview.meet(self.listening()).await;
        let doors = interview.doors();
        if doors != self.doors {
            self.doors.clone_from(&doors);
            let _ = self.reports.send(Report::Doors { run: backend_id(&self.container), doors }).await;
        }
    }

    async fn report(&self, probe: Probed) {
        let _ = self.reports.send(Report::Probe { run: backend_id(&self.container), probe }).await;
    }

    /// A pidfd names one process for ever, a pid does not: it is believed only when the container still has it afterwards.
    async fn hold_process(&self) {
        let Some(pid) = Pid::from_raw(self.container.pid) else { return };
        let process = loop {
            match pidfd_open(pid, PidfdFlags::NONBLOCK) {
                Ok(process) => break process,
                // A process that is gone is no error: its end is an event of its own.
                Err(Errno::SRCH) => return,
                // Out of descriptors or memory: without it a restart could give its address to another container unseen.
                Err(error) if !self.passed => {
                    let last = format!("its process {} cannot be held: {error}", self.container.pid);
                    self.report(Probed::NotYet(last)).await;
                }
                Err(_) => {}
            }
            sleep(AGAIN).await;
        };
        loop {
            match self.runtime.inspect(&self.container.id).await {
                Ok(Some(now)) if now.pid == self.container.pid && now.started_at == self.container.started_at => {
                    let report = Report::Process { run: backend_id(&self.container), process: Arc::new(process) };
                    let _ = self.reports.send(report).await;
                    return;
                }
                Ok(_) => return,
                Err(_) => sleep(AGAIN).await,
            }
        }
    }

    /// True: it has passed. False: it never will.
    async fn probe(&self, service: &Service, interview: &mut Interview) -> bool {
        let interval = Duration::from_millis(service.teal.health.interval_ms);
        let mut successes = 0;
        let mut said = String::new();
        loop {
            let began = Instant::now();
            let mut pause = interval;
            match interview.round(self.listening()).await {
                Answer::Passed => {
                    successes += 1;
                    if successes >= service.teal.health.successes {
                        return true;
                    }
                }
                Answer::Never(fault) => {
                    self.report(Probed::Never(fault)).await;
                    return false;
                }
                Answer::Closed(last) => {
                    successes = 0;
                    // Nobody is bothered by being asked more often while nobody listens.
                    pause = interval.min(EAGER);
                    self.say(&mut said, last).await;
                }
                Answer::NotYet(last) => {
                    successes = 0;
                    self.say(&mut said, last).await;
                }
            }
            sleep_until(began + pause).await;
        }
    }

    /// None: it cannot be seen.
    fn listening(&self) -> Option<BTreeSet<u16>> {
        let seen = self.sockets.as_ref().map(Sockets::listening).transpose();
        seen.unwrap_or_else(|error| {
            self.cannot_see(&error);
            None
        })
    }

    fn cannot_see(&self, error: &std::io::Error) {
        tracing::warn!(container = self.container.name, %error, "it cannot be seen what it listens on");
    }

    async fn say(&self, said: &mut String, last: String) {
        if *said != last {
            said.clone_from(&last);
            self.report(Probed::NotYet(last)).await;
        }
    }
}
