//! What runs, as far as the agent knows: every container of its own, whether it is ready, and the process behind it.
//!
//! ```text
//! engine events ─┐
//! every 15 s ────┼─▶ Watcher: list, compare ─▶ World (a snapshot that others watch)
//! nudges ────────┘      └─ one warming task a run of a container ─▶ pidfd, probe answers
//! ```

mod warming;

use crate::runtime::{Container, ContainerEvent, ContainerHealth, Runtime, RuntimeError, Status, label};
use crate::store::ReleaseStore;
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;
use teal_model::deployment::Health;
use teal_model::door::Door;
use teal_model::fault::Fault;
use teal_model::ids::{ReleaseKey, ServiceKey};
use teal_model::wire::BackendId;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep, sleep_until};
use warming::{Warming, hold_namespace, post_mortem};

const RESYNC: Duration = Duration::from_secs(15);

/// A snapshot; replaced, never changed.
#[derive(Clone, Default)]
pub struct World {
    /// None: the engine answered the last time it was asked.
    pub engine_error: Option<String>,
    /// The engine has answered at least once: what is not in `replicas` is not there.
    pub known: bool,
    /// By container id.
    pub replicas: BTreeMap<String, Replica>,
    /// By service: the container that owns its name.
    pub holders: BTreeMap<ServiceKey, Holder>,
    /// Containers of migrations, whether they have ended or not.
    pub migrations: BTreeMap<ReleaseKey, Container>,
}

/// The container that owns a service's name and address on its networks.
#[derive(Clone)]
pub struct Holder {
    pub container: Container,
    /// Its network namespace, once it was seen to be that of this run.
    pub namespace: Option<Arc<OwnedFd>>,
}

impl Holder {
    /// Names this run's namespace: after a restart its listeners are others.
    pub fn instance(&self) -> String {
        let started = Sha256::digest(self.container.started_at.as_bytes());
        let short: String = started.iter().take(4).map(|byte| format!("{byte:02x}")).collect();
        format!("{}.{short}", self.container.id.get(..12).unwrap_or(&self.container.id))
    }
}

#[derive(Clone)]
pub struct Replica {
    pub container: Container,
    pub release: ReleaseKey,
    pub index: u32,
    /// Somebody else made it.
    pub adopted: bool,
    probe: Probed,
    exit: Option<Fault>,
    /// Its HEALTHCHECK was run by the agent, before the engine's next time, and passed.
    checked: bool,
    pub process: Option<Arc<OwnedFd>>,
    /// What it speaks, as far as it was asked.
    pub doors: Vec<Door>,
}

#[derive(Clone, PartialEq)]
enum Probed {
    NotYet(String),
    Passed,
    Never(Fault),
}

impl Replica {
    pub fn backend(&self) -> BackendId {
        backend_id(&self.container)
    }

    pub fn is_job(&self) -> bool {
        self.container.labels.contains_key(label::JOB)
    }

    pub fn health(&self) -> Health {
        if self.is_job() {
            return self.completion();
        }
        if let Some(fault) = &self.exit {
            return Health::Failed { fault: fault.clone() };
        }
        match (&self.container.status, &self.probe) {
            (Status::Created, _) => Health::Warming { last: "it is created and not started yet".to_owned() },
            (Status::Running, Probed::NotYet(last)) => Health::Warming { last: last.clone() },
            (Status::Running, Probed::Never(fault)) => Health::Failed { fault: fault.clone() },
            (Status::Running, Probed::Passed) => match &self.container.health {
                None | Some(ContainerHealth::Healthy) => Health::Ready,
                Some(ContainerHealth::Starting) if self.checked => Health::Ready,
                Some(ContainerHealth::Starting) => {
                    Health::Warming { last: "its HEALTHCHECK has not passed yet".to_owned() }
                }
                Some(ContainerHealth::Unhealthy(output)) => {
                    Health::Warming { last: format!("its HEALTHCHECK fails: {output}") }
                }
            },
            (Status::Paused, _) => Health::Unknown { why: "it is paused".to_owned() },
            _ => Health::Unknown { why: "it has ended; its log is being read".to_owned() },
        }
    }

    /// A job is ready when it has exited 0.
    fn completion(&self) -> Health {
        let warming = |last: &str| Health::Warming { last: last.to_owned() };
        match (&self.container.status, &self.exit) {
            (Status::Exited { code: 0, .. }, _) => Health::Ready,
            (_, Some(fault)) => Health::Failed { fault: fault.clone() },
            (Status::Created, _) => warming("it is created and not started yet"),
            (Status::Running, _) => warming("it has not exited yet"),
            (Status::Restarting, _) => warming("it failed, and is tried again (`restart: on-failure`)"),
            (Status::Paused, _) => Health::Unknown { why: "it is paused".to_owned() },
            _ => Health::Unknown { why: "it has ended; its log is being read".to_owned() },
        }
    }

    /// Runs and was ready once in this run: better than nothing when no other is.
    pub fn may_serve(&self) -> bool {
        self.container.status == Status::Running && self.probe == Probed::Passed && !self.is_job()
    }
}

impl World {
    pub fn of<'a>(&'a self, release: &'a ReleaseKey) -> impl Iterator<Item = &'a Replica> {
        self.replicas.values().filter(move |replica| &replica.release == release)
    }
}

pub fn backend_id(container: &Container) -> BackendId {
    BackendId(format!("{}:{}", container.id, container.started_at))
}

/// The release that a container of ours belongs to; None: its labels are not whole.
pub fn release_of(container: &Container) -> Option<ReleaseKey> {
    let label = |key: &str| container.labels.get(key);
    let service = ServiceKey::new(label(label::PROJECT)?, label(label::SERVICE)?);
    Some(ReleaseKey::new(service, label(label::RELEASE)?.parse().ok()?))
}

pub fn index_of(container: &Container) -> u32 {
    container.labels.get(label::REPLICA).and_then(|index| index.parse().ok()).unwrap_or(0)
}

/// Containers that somebody else made, by their id: the release and the index that each is a replica of.
pub type Adopted = BTreeMap<String, (ReleaseKey, u32)>;

/// The service that a holder of ours holds the name of.
pub fn held_by(container: &Container) -> Option<ServiceKey> {
    let label = |key: &str| container.labels.get(key);
    label(label::HOLDER)?;
    Some(ServiceKey::new(label(label::PROJECT)?, label(label::SERVICE)?))
}

/// The release whose migration a container of ours runs.
pub fn migration_of(container: &Container) -> Option<ReleaseKey> {
    let label = |key: &str| container.labels.get(key);
    let number = label(label::MIGRATION)?.parse().ok()?;
    Some(ReleaseKey::new(ServiceKey::new(label(label::PROJECT)?, label(label::SERVICE)?), number))
}

/// The handle that others hold.
#[derive(Clone)]
pub struct Watch {
    world: watch::Receiver<Arc<World>>,
    nudges: mpsc::Sender<oneshot::Sender<()>>,
    adopted: watch::Sender<Adopted>,
}

impl Watch {
    /// `trusted`: backends that a proxy has been sending requests to, and what they speak; they were ready before this
    /// agent was.
    pub fn start(
        runtime: Arc<dyn Runtime>,
        store: Arc<ReleaseStore>,
        agent: String,
        trusted: BTreeMap<BackendId, Vec<Door>>,
    ) -> Self {
        let (world_to, world) = watch::channel(Arc::new(World::default()));
        let (nudges, nudged) = mpsc::channel(64);
        let (reports_to, reports) = mpsc::channel(256);
        let (adopted, adopted_here) = watch::channel(Adopted::new());
        let watcher = Watcher {
            runtime,
            store,
            agent,
            trusted,
            adopted: adopted_here,
            world: World::default(),
            world_to,
            reports_to,
            tasks: HashMap::new(),
        };
        tokio::spawn(watcher.run(nudged, reports));
        Self { world, nudges, adopted }
    }

    pub fn now(&self) -> Arc<World> {
        self.world.borrow().clone()
    }

    pub fn changes(&self) -> watch::Receiver<Arc<World>> {
        self.world.clone()
    }

    /// From the next look on these are watched like our own, and no others of somebody else.
    pub fn adopt(&self, containers: Adopted) {
        self.adopted.send_replace(containers);
    }

    /// Looks again, and returns when it has looked.
    pub async fn refresh(&self) {
        let (reply, answer) = oneshot::channel();
        if self.nudges.send(reply).await.is_ok() {
            // An error says that the watcher ended with the agent: there is nothing left to wait for.
            let _ = answer.await;
        }
    }
}

enum Report {
    Process { run: BackendId, process: Arc<OwnedFd> },
    Probe { run: BackendId, probe: Probed },
    Doors { run: BackendId, doors: Vec<Door> },
    Checked { run: BackendId },
    Exit { run: BackendId, fault: Fault },
    Namespace { run: BackendId, namespace: Arc<OwnedFd> },
}

struct Watcher {
    runtime: Arc<dyn Runtime>,
    store: Arc<ReleaseStore>,
    agent: String,
    trusted: BTreeMap<BackendId, Vec<Door>>,
    adopted: watch::Receiver<Adopted>,
    world: World,
    world_to: watch::Sender<Arc<World>>,
    reports_to: mpsc::Sender<Report>,
    /// The warming task of each run.
    tasks: HashMap<BackendId, AbortHandle>,
}

impl Watcher {
    async fn run(mut self, mut nudged: mpsc::Receiver<oneshot::Sender<()>>, mut reports: mpsc::Receiver<Report>) {
        let mut events = None;
        let mut of_others = None;
        let mut resync = Instant::now();
        loop {
            // They carry no label to ask for, so every container's events are heard.
            if self.adopted.borrow().is_empty() {
                of_others = None;
            } else if of_others.is_none() {
                of_others = self.runtime.events(&[]).await.ok();
            }
            if events.is_none() {
                // Subscribe first, then list: what happens in between is in the backlog.
                events = self.runtime.events(&[(label::AGENT, &self.agent)]).await.ok();
                resync = Instant::now();
            }
            let event = heard(&mut events);
            let adopted = self.adopted.clone();
            let of_other = heard_of(&mut of_others, &adopted);
            tokio::select! {
                reply = nudged.recv() => {
                    let Some(reply) = reply else { return };
                    let mut replies = vec![reply];
                    while let Ok(reply) = nudged.try_recv() {
                        replies.push(reply);
                    }
                    self.look().await;
                    for reply in replies {
                        let _ = reply.send(());
                    }
                }
                event = event => match event {
                    Some(_) => {
                        // Events come in bursts (kill, die, stop): one look serves them all.
                        while events.as_mut().is_some_and(|events| events.try_recv().is_ok()) {}
                        self.look().await;
                    }
                    None => events = None,
                },
                event = of_other => match event {
                    Some(_) => self.look().await,
                    None => of_others = None,
                },
                report = reports.recv() => {
                    if let Some(report) = report {
                        self.take(report);
                        self.announce();
                    }
                }
                () = sleep_until(resync) => {
                    self.look().await;
                    // Without an engine there are no events: try again soon.
                    resync = Instant::now() + if self.world.engine_error.is_some() { Duration::from_secs(1) } else { RESYNC };
                    if self.world.engine_error.is_some() {
                        events = None;
                        sleep(Duration::from_millis(500)).await;
                    }
                }
            }
        }
    }

    async fn look(&mut self) {
        let adopted = self.adopted.borrow().clone();
        match self.list(&adopted).await {
            Ok(containers) => {
                self.world.engine_error = None;
                self.world.known = true;
                self.compare(containers, &adopted);
            }
            // Nobody knows what runs: what was known stays.
            Err(error) => self.world.engine_error = Some(error.to_string()),
        }
        self.announce();
    }

    async fn list(&self, adopted: &Adopted) -> Result<Vec<Container>, RuntimeError> {
        let mut all = self.runtime.list(&[(label::AGENT, &self.agent)]).await?;
        for id in adopted.keys() {
            all.extend(self.runtime.inspect(id).await?);
        }
        Ok(all)
    }

    fn compare(&mut self, containers: Vec<Container>, adopted: &Adopted) {
        let mut before = std::mem::take(&mut self.world.replicas);
        let mut held = std::mem::take(&mut self.world.holders);
        self.world.migrations.clear();
        for container in containers {
            if let Some(release) = migration_of(&container) {
                self.world.migrations.insert(release, container);
                continue;
            }
            if let Some(service) = held_by(&container) {
                let run = backend_id(&container);
                let known = held.remove(&service).filter(|known| backend_id(&known.container) == run);
                let namespace = known.and_then(|known| known.namespace);
                if namespace.is_none() && container.status == Status::Running {
                    let (runtime, reports) = (self.runtime.clone(), self.reports_to.clone());
                    tokio::spawn(hold_namespace(runtime, container.clone(), reports));
                }
                self.world.holders.insert(service, Holder { container, namespace });
                continue;
            }
            let of_others = adopted.get(&container.id);
            let Some(release) = of_others.map(|(release, _)| release.clone()).or_else(|| release_of(&container)) else {
                tracing::warn!(
                    container = container.name,
                    "a container has our agent's label and not the others: left alone"
                );
                continue;
            };
            let run = backend_id(&container);
            let known = before.remove(&container.id).filter(|known| known.backend() == run);
            let checked = known.as_ref().is_some_and(|known| known.checked);
            let (probe, exit, process, doors) = match (known, self.trusted.get(&run)) {
                (Some(known), _) => (known.probe, known.exit, known.process, known.doors),
                (None, Some(doors)) => (Probed::Passed, None, None, doors.clone()),
                (None, None) => (Probed::NotYet("it was not probed yet".to_owned()), None, None, Vec::new()),
            };
            let index = of_others.map_or_else(|| index_of(&container), |(_, index)| *index);
            let adopted = of_others.is_some();
            let replica = Replica { release, index, adopted, probe, exit, checked, process, doors, container };
            let spoken = spoken_before(&replica.release, before.values().chain(self.world.replicas.values()));
            self.attend(&replica, spoken);
            self.world.replicas.insert(replica.container.id.clone(), replica);
        }
        let runs: BTreeSet<BackendId> = self
            .world
            .replicas
            .values()
            .filter(|replica| replica.container.status == Status::Running)
            .map(Replica::backend)
            .collect();
        self.tasks.retain(|run, task| {
            let keep = runs.contains(run)
                || !task.is_finished() && self.world.replicas.values().any(|replica| &replica.backend() == run);
            if !keep {
                task.abort();
            }
            keep
        });
    }

    /// Starts what a replica in this condition needs: probing, or reading why it ended.
    fn attend(&mut self, replica: &Replica, before: Option<Vec<Door>>) {
        let run = replica.backend();
        let ended = match &replica.container.status {
            // That is what it was for, or it is not over yet.
            Status::Exited { code: 0, .. } | Status::Restarting | Status::Running if replica.is_job() => return,
            status => matches!(status, Status::Exited { .. } | Status::Restarting | Status::Dead),
        };
        if ended {
            if replica.exit.is_none() {
                let task = tokio::spawn(post_mortem(
                    self.runtime.clone(),
                    replica.container.clone(),
                    replica.release.clone(),
                    self.reports_to.clone(),
                ));
                if let Some(warming) = self.tasks.insert(run, task.abort_handle()) {
                    warming.abort();
                }
            }
        } else if replica.container.status == Status::Running && !self.tasks.contains_key(&run) {
            let task = Warming {
                runtime: self.runtime.clone(),
                store: self.store.clone(),
                container: replica.container.clone(),
                release: replica.release.clone(),
                passed: replica.probe == Probed::Passed,
                doors: replica.doors.clone(),
                before,
                sockets: None,
                reports: self.reports_to.clone(),
            };
            self.tasks.insert(run, tokio::spawn(task.run()).abort_handle());
        }
    }

    fn take(&mut self, report: Report) {
        if let Report::Namespace { run, namespace } = report {
            let mut holders = self.world.holders.values_mut();
            if let Some(holder) = holders.find(|holder| backend_id(&holder.container) == run) {
                holder.namespace = Some(namespace);
            }
            return;
        }
        let (Report::Process { run, .. }
        | Report::Probe { run, .. }
        | Report::Doors { run, .. }
        | Report::Checked { run }
        | Report::Namespace { run, .. }
        | Report::Exit { run, .. }) = &report;
        let Some(replica) = self.world.replicas.values_mut().find(|replica| &replica.backend() == run) else { return };
        match report {
            Report::Process { process, .. } => replica.process = Some(process),
            Report::Probe { probe, .. } => replica.probe = probe,
            Report::Doors { doors, .. } => replica.doors = doors,
            Report::Checked { .. } => replica.checked = true,
            Report::Namespace { .. } => {}
            Report::Exit { fault, .. } => replica.exit = Some(fault),
        }
    }

    fn announce(&self) {
        self.world_to.send_replace(Arc::new(self.world.clone()));
    }
}

async fn heard(events: &mut Option<mpsc::Receiver<ContainerEvent>>) -> Option<ContainerEvent> {
    match events {
        Some(events) => events.recv().await,
        None => std::future::pending().await,
    }
}

/// The next event of an adopted container.
async fn heard_of(
    events: &mut Option<mpsc::Receiver<ContainerEvent>>,
    adopted: &watch::Receiver<Adopted>,
) -> Option<ContainerEvent> {
    loop {
        let event = heard(events).await?;
        if adopted.borrow().contains_key(&event.container) {
            return Some(event);
        }
    }
}

/// What the newest other release of the service speaks. None: there is no other.
fn spoken_before<'a>(release: &ReleaseKey, others: impl Iterator<Item = &'a Replica>) -> Option<Vec<Door>> {
    let others = others.filter(|other| other.release.service == release.service && other.release != *release);
    others.max_by_key(|other| (other.release.number, other.doors.len())).map(|other| other.doors.clone())
}
