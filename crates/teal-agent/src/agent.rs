//! The agent as a whole: its parts, how it starts, and what a request to deploy or abort becomes.

use crate::alerts::{Alerts, Subject};
use crate::clock::unix_ms;
use crate::conduct::Conductor;
use crate::found;
use crate::histories::Histories;
use crate::journal::{Journal, Kept};
use crate::kept::Stays;
use crate::keys::Keys;
use crate::meter::Meter;
use crate::nginx::Nginx;
use crate::publish::{Publisher, Surroundings, doors_of, holder_of};
use crate::reserve::Reserve;
use crate::runtime::{Runtime, RuntimeError};
use crate::store::{ReleaseStore, StoredRelease};
use crate::traffic::{Opening, Traffic};
use crate::world::Watch;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use teal_model::api::{Accepted, DeployRequest, Notice, What};
use teal_model::config::NetworkMode;
use teal_model::deployment::{Deployment, Event, Judged, Promote};
use teal_model::door::Door;
use teal_model::fault::{Code, Fault, did_you_mean};
use teal_model::ids::{ReleaseKey, ServiceKey};
use teal_model::plan::{Member, Plan, overlap};
use teal_model::wire::{BackendId, ListenerKey, RouteTable};
use tokio::sync::{broadcast, watch};

/// Notices that a slow reader may be behind before it has to read the journal instead.
const NOTICES: usize = 256;

pub struct Agent {
    pub id: String,
    pub state_dir: PathBuf,
    pub journal: Arc<Journal>,
    pub store: Arc<ReleaseStore>,
    pub runtime: Arc<dyn Runtime>,
    pub traffic: Arc<dyn Traffic>,
    pub watch: Watch,
    pub publisher: Arc<Publisher>,
    pub nginx: Arc<Nginx>,
    pub meter: Meter,
    pub histories: Histories,
    pub reserve: Reserve,
    pub(crate) salt: String,
    pub keys: Keys,
    running: Mutex<BTreeMap<u64, Handle>>,
    /// Services that are being removed: nobody else touches their containers.
    removing: Mutex<BTreeSet<ServiceKey>>,
    /// Releases that were warm and are being ended, when nothing of theirs is in flight any more.
    cooling: Mutex<BTreeSet<ReleaseKey>>,
    /// Held from the look at what is claimed until the claim is made.
    pub claims: tokio::sync::Mutex<()>,
    pub(crate) said: Alerts,
}

/// What others may do with a deployment that runs.
#[derive(Clone)]
pub struct Handle {
    pub orders: watch::Sender<Orders>,
    pub notices: broadcast::Sender<Notice>,
    pub judged: watch::Receiver<Judged>,
}

/// What somebody asked of a deployment that runs, until it is done.
#[derive(Debug, Clone, Default)]
pub struct Orders {
    pub abort: Option<String>,
    pub promote: Option<Promote>,
    pub freeze: Option<String>,
}

impl Agent {
    /// `serving`: the table that a proxy was found serving by. Goes on with every deployment that had not ended.
    pub async fn start(
        state_dir: PathBuf,
        journal: Arc<Journal>,
        runtime: Arc<dyn Runtime>,
        traffic: Arc<dyn Traffic>,
        serving: Option<RouteTable>,
    ) -> Result<Arc<Self>, Fault> {
        let id = journal.agent_id()?;
        let epoch = journal.begin_epoch()?;
        let store = Arc::new(ReleaseStore::open(&state_dir)?);
        let doors = serving.as_ref().map(doors_of).unwrap_or_default();
        let releases = serving.iter().flat_map(|table| table.services.values()).flat_map(|service| &service.releases);
        let trusted: BTreeMap<BackendId, Vec<Door>> = releases
            .flat_map(|release| release.backends.iter().map(|backend| (&release.release, backend.id.clone())))
            .map(|(release, backend)| (backend, doors.get(release).cloned().unwrap_or_default()))
            .collect();
        let watch = Watch::start(runtime.clone(), store.clone(), id.clone(), trusted);
        let routings =
            journal.services()?.into_iter().filter_map(|record| Some((record.service, record.routing?))).collect();
        // A proxy that an agent with another journal left behind may have a higher epoch: stay above it.
        let epoch = epoch.max(serving.as_ref().map_or(0, |table| table.number.epoch + 1));
        let nginx = Arc::new(Nginx::open(&state_dir, &id, runtime.clone()));
        let salt = journal.salt()?;
        let keys = Keys::of(&salt);
        let surroundings = Surroundings {
            traffic: traffic.clone(),
            nginx: nginx.clone(),
            journal: journal.clone(),
            store: store.clone(),
            watch: watch.clone(),
            keys: keys.clone(),
        };
        let publisher = Arc::new(Publisher::new(surroundings, epoch, routings, serving.as_ref()));
        let agent = Arc::new(Self {
            salt,
            keys,
            meter: Meter::start(vec![traffic.clone(), nginx.counted()]),
            histories: Histories::of(journal.histories()?),
            reserve: Reserve::of(&state_dir),
            nginx,
            id,
            state_dir,
            journal,
            store,
            runtime,
            traffic,
            watch,
            publisher,
            running: Mutex::new(BTreeMap::new()),
            removing: Mutex::new(BTreeSet::new()),
            cooling: Mutex::new(BTreeSet::new()),
            claims: tokio::sync::Mutex::new(()),
            said: Alerts::default(),
        });
        agent.resume(serving).await?;
        Ok(agent)
    }

    async fn resume(self: &Arc<Self>, serving: Option<RouteTable>) -> Result<(), Fault> {
        self.know_adopted()?;
        self.publisher.divert(self.journal.diversions()?).await;
        self.watch.refresh().await;
        self.forget_settings().await?;
        let unfinished = self.journal.unfinished()?;
        let recorded = self.publisher.routings().await;
        let mut first = BTreeMap::new();
        for kept in &unfinished {
            let mut deployment = kept.deployment.clone();
            let Some(table) = &serving else { continue };
            if found::is_in_force(&deployment, table) {
                self.publisher.adopt(deployment.routing()).await;
            }
            let Some(event) = found::unsaid(&deployment, &recorded, table) else { continue };
            // Every state that may revert takes this event.
            let applied = deployment.apply(&event, unix_ms());
            debug_assert!(applied.is_ok(), "{applied:?}");
            self.publisher.adopt(deployment.routing()).await;
            first.insert(deployment.number, event);
        }
        // Table before ports, so that no request finds a port without a route.
        if self.watch.now().known {
            self.serve().await?;
        }
        tokio::spawn(crate::reconcile::follow(Arc::downgrade(self)));
        tokio::spawn(crate::reconcile::keep_whole(Arc::downgrade(self)));
        tokio::spawn(crate::histories::keep(Arc::downgrade(self)));
        let (agent, begun) = (self.clone(), unfinished.clone());
        tokio::spawn(async move {
            if let Err(fault) = agent.follow_up(&begun).await {
                agent.alert("journal", fault.to_string());
            }
        });
        for kept in unfinished {
            let number = kept.deployment.number;
            tracing::info!(deployment = number, state = kept.deployment.state.name(), "goes on");
            self.conduct(kept, None, first.remove(&number));
        }
        Ok(())
    }

    /// Publishes what the journal says, and opens the ports of it. Not before the engine has said what runs: a table made
    /// earlier would have no backend, and a proxy that has one goes on with it.
    pub async fn serve(&self) -> Result<(), Fault> {
        for fault in self.publisher.refresh().await? {
            self.alert("table", fault.to_string());
        }
        self.reserve().await?;
        self.open().await;
        Ok(())
    }

    /// The published ports of live services whose containers have not said yet what they speak: nobody else gets them.
    async fn reserve(&self) -> Result<(), Fault> {
        let dockers = self.dockers_ports()?;
        let ours = |one: &ListenerKey| one.namespace.is_none() && !dockers.iter().any(|taken| overlap(taken, one));
        for listener in self.needed_listeners(None).await?.into_iter().filter(ours) {
            self.open_one(Opening::host(listener, false)).await;
        }
        Ok(())
    }

    /// Opens every port that the table has a route for and that is not open yet.
    pub async fn open(&self) {
        let opened = self.open_all().await;
        self.tell("ports", opened.map_err(|fault| fault.to_string()));
    }

    async fn open_all(&self) -> Result<(), Fault> {
        let world = self.watch.now();
        let (dockers, shared) = (self.dockers_ports()?, self.not_yet_shared().await?);
        let (mut wanted, waiting) = (self.publisher.published().await, self.publisher.waiting().await);
        for listener in self.publisher.listeners().await {
            wanted.insert(listener.clone());
            if dockers.iter().any(|taken| overlap(taken, &listener)) || shared.contains(&listener) {
                continue;
            }
            let namespace = match holder_of(&listener) {
                None => None,
                Some((service, instance)) => {
                    let holder = world.holders.get(&service).filter(|holder| holder.instance() == instance);
                    // One whose namespace is not held yet is opened when it is.
                    let Some(namespace) = holder.and_then(|holder| holder.namespace.clone()) else { continue };
                    Some(namespace)
                }
            };
            let opening = Opening { namespace, ..Opening::host(listener, true) };
            match waiting.contains(&opening.listener) {
                // Nothing of it is live: its deployment says so, when it opens what it needs.
                true => drop(self.traffic.bind(&[opening]).await),
                false => self.open_one(opening).await,
            }
        }
        self.clear_alerts_where(|subject| matches!(subject, Subject::Port(port) if !wanted.contains(port)));
        Ok(())
    }

    /// One by one: a port that somebody else took meanwhile must not keep the others closed.
    async fn open_one(&self, opening: Opening) {
        let subject = Subject::Port(opening.listener.clone());
        let opened = self.traffic.bind(&[opening]).await;
        self.tell(subject, opened.map_err(|fault| format!("a port of a live service cannot be opened: {fault}")));
    }

    fn conduct(self: &Arc<Self>, kept: Kept, window: Option<crate::meter::Window>, first: Option<Event>) {
        let orders = watch::Sender::new(Orders::default());
        let (notices, _) = broadcast::channel(NOTICES);
        let (judged_to, judged) = watch::channel(Judged::default());
        let number = kept.deployment.number;
        self.running().insert(number, Handle { orders: orders.clone(), notices: notices.clone(), judged });
        let agent = self.clone();
        let conductor = Conductor::new(agent.clone(), kept, window, orders, notices, judged_to);
        let ended = tokio::spawn(conductor.run(first));
        tokio::spawn(async move {
            if let Err(error) = ended.await {
                // Its journal is whole: the next agent goes on with it.
                agent.alert("conductor", format!("deployment {number} stopped in a fault of Teal's own ({error}): restart the agent to go on with it"));
            }
            agent.running().remove(&number);
        });
    }

    fn running(&self) -> MutexGuard<'_, BTreeMap<u64, Handle>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn removing(&self) -> MutexGuard<'_, BTreeSet<ServiceKey>> {
        self.removing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn cooling(&self) -> MutexGuard<'_, BTreeSet<ReleaseKey>> {
        self.cooling.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn handle(&self, deployment: u64) -> Option<Handle> {
        self.running().get(&deployment).cloned()
    }

    /// Removes the stored settings of releases that nobody needs them of, and the requests of deployments that have ended.
    pub async fn forget_settings(&self) -> Result<(), Fault> {
        // A deployment that begins meanwhile stores settings for a claim that was not read yet.
        let _claims = self.claims.lock().await;
        let unfinished = self.journal.unfinished()?;
        let deployments = unfinished.into_iter().map(|kept| kept.deployment.number).collect();
        self.store.retain(&self.kept_releases().await?.with(Stays::Settings), &deployments)
    }

    /// What cannot be forgotten now is said, and tried again by the reconciler.
    pub async fn try_to_forget_settings(&self) {
        let forgotten = self.forget_settings().await;
        self.tell("settings", forgotten.map_err(|fault| fault.to_string()));
    }

    pub async fn deploy(self: &Arc<Self>, request: DeployRequest) -> Result<Accepted, Fault> {
        let all = request.project.services.keys().map(|name| ServiceKey::new(&request.project.name, name));
        let window = self.meter.open(all.collect()).await;
        let claims = self.claims.lock().await;
        let mut plan = self.plan(&request).await?;
        let now = unix_ms();
        let keys: BTreeSet<ServiceKey> = plan.services().cloned().collect();
        if let Some(key) = self.removing().intersection(&keys).next() {
            return Err(Fault::new(Code::Busy, format!("{key} is being removed")).hint("wait for it: `teal status`"));
        }
        self.journal.refuse_busy(&keys.iter().cloned().collect::<Vec<_>>(), now)?;
        self.refuse_taken_routes(&plan, &request, None).await?;
        self.refuse_just_reverted(&plan, &request.choice)?;
        self.refuse_closing_canary(&plan, &request.project)?;
        let remarks = self.refuse_nginx(&plan).await?;
        plan.warnings.extend(remarks);
        let behind_now = self.publisher.all_behind().await;
        let is_behind = |member: &Member| member.nginx.is_some() || behind_now.contains_key(&member.service);
        let behind = plan.members.iter().any(is_behind);
        let window = plan.members.iter().any(|member| member.serves()).then(|| window.only(keys, behind));
        let mut deployment = Deployment::new(0, plan, now);
        self.journal.begin(&mut deployment, &request.who, now)?;
        // From here on the services are claimed: whatever fails ends as a deployment that was reverted.
        let stored = self
            .store
            .put_request(deployment.number, &request)
            .and_then(|()| self.store_candidates(&deployment.plan, &request));
        drop(claims);
        let accepted = Accepted { deployment: deployment.number, plan: deployment.plan.clone(), then: None };
        tracing::info!(deployment = deployment.number, project = accepted.plan.project, who = request.who, "begins");
        let services = accepted.plan.services().map(|key| key.service.clone()).collect();
        let kept = Kept {
            deployment,
            project: request.project.name,
            who: request.who,
            services,
            started_ms: now,
            ended_ms: None,
            receipt: None,
        };
        self.conduct(kept, window, stored.err().map(|fault| Event::Failed { action: None, fault }));
        Ok(accepted)
    }

    /// The settings of every candidate, before anything needs them.
    pub fn store_candidates(&self, plan: &Plan, request: &DeployRequest) -> Result<(), Fault> {
        // One that is warm has its settings.
        let is_new = |member: &&Member| !member.safety.back.is_some_and(|back| back.retained);
        for member in plan.members.iter().filter(is_new) {
            let stored = StoredRelease {
                service: request.project.services[&member.service.service].clone(),
                volumes: request.project.volumes.clone(),
                networks: request.project.networks.clone(),
                trusted_proxies: request.project.trusted_proxies.clone(),
                image_id: member.image_id.clone(),
                exposed: member.ports.iter().filter(|port| port.published.is_none()).map(|port| port.target).collect(),
                naming: member.naming.clone(),
                reach: member.reach.clone(),
                color: Some(member.color),
                shares_network: request
                    .project
                    .services
                    .values()
                    .any(|other| other.network_mode == Some(NetworkMode::Service(member.service.service.clone()))),
                directory: request.project.directory.clone(),
            };
            self.store.put_release(&member.candidate, &stored)?;
        }
        Ok(())
    }

    pub fn abort(&self, deployment: u64, who: &str) -> Result<Kept, Fault> {
        let unknown = || Fault::new(Code::NotFound, format!("there is no deployment {deployment}"));
        let kept = self.journal.deployment(deployment)?.ok_or_else(unknown)?;
        match self.handle(deployment) {
            Some(handle) if kept.deployment.state.may_revert() => {
                handle.orders.send_modify(|orders| orders.abort = Some(who.to_owned()));
                Ok(kept)
            }
            Some(_) => Err(Fault::new(
                Code::Busy,
                format!("deployment {deployment} is {} and cannot be aborted any more", kept.deployment.state.name()),
            )
            .hint("wait for its end: `teal status`")),
            None => Err(Fault::new(
                Code::NotFound,
                format!("deployment {deployment} does not run: it is {}", kept.deployment.state.name()),
            )),
        }
    }

    /// What was asked for is not deployed here; the nearest name that is.
    pub fn not_here(&self, project: &str, service: Option<&str>) -> Fault {
        let known: Vec<ServiceKey> = match self.journal.services() {
            Ok(records) => records.into_iter().filter(|one| one.live.is_some() || one.routing.is_some()),
            Err(error) => return error.into(),
        }
        .map(|record| record.service)
        .collect();
        let what = match service.filter(|_| known.iter().any(|one| one.project == project)) {
            Some(name) => {
                let names = known.iter().filter(|one| one.project == project).map(|one| one.service.as_str());
                format!("the project {project} has no service `{name}` here{}", did_you_mean(name, names))
            }
            None => {
                let near = did_you_mean(project, known.iter().map(|one| one.project.as_str()));
                format!("there is no project `{project}` here{near}")
            }
        };
        Fault::new(Code::NotFound, what)
    }
}

/// Words a container engine's error as a fault.
pub fn fault_of(error: RuntimeError) -> Fault {
    let code = match &error {
        RuntimeError::Unreachable { .. } | RuntimeError::TooOld { .. } => Code::DockerDown,
        RuntimeError::Pull { .. } => Code::ImageMissing,
        RuntimeError::NotFound { .. } | RuntimeError::Refused { .. } => Code::DockerRefused,
        RuntimeError::DiskFull { .. } => Code::DiskFull,
    };
    Fault::new(code, error.to_string())
}

/// For the API: the end of a deployment is its last notice.
pub fn is_last(notice: &Notice) -> bool {
    matches!(notice.what, What::Ended { .. })
}
