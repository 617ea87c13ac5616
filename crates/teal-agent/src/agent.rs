//! The agent as a whole: its parts, how it starts, and what a request to deploy, abort or remove becomes.

use crate::clock::unix_ms;
use crate::commands;
use crate::conduct::Conductor;
use crate::found;
use crate::histories::Histories;
use crate::journal::{Journal, Kept, ServiceRecord};
use crate::keys::Keys;
use crate::meter::Meter;
use crate::nginx::{Need, Nginx};
use crate::publish::{Publisher, Surroundings, doors_of, holder_of};
use crate::reserve::Reserve;
use crate::runtime::{Runtime, RuntimeError, label};
use crate::store::{ReleaseStore, StoredRelease};
use crate::traffic::{Opening, Traffic};
use crate::world::Watch;
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use teal_model::api::{Accepted, DeployRequest, Notice, RemoveRequest, Removed, What};
use teal_model::config::{NetworkMode, PullPolicy, Service};
use teal_model::deployment::{Deployment, Event, Promote};
use teal_model::door::Door;
use teal_model::fault::{Code, Fault, did_you_mean};
use teal_model::ids::{ReleaseKey, ServiceKey};
use teal_model::plan::{ImageFacts, Member, Plan, Running, Unchanged, Warm, overlap, plan};
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
    salt: String,
    pub keys: Keys,
    running: Mutex<BTreeMap<u64, Handle>>,
    /// Services that are being removed: nobody else touches their containers.
    removing: Mutex<BTreeSet<ServiceKey>>,
    /// Releases that were warm and are being ended, when nothing of theirs is in flight any more.
    cooling: Mutex<BTreeSet<ReleaseKey>>,
    /// Held from the look at what is claimed until the claim is made.
    pub claims: tokio::sync::Mutex<()>,
    alerts: Mutex<BTreeMap<String, String>>,
}

/// What others may do with a deployment that runs.
#[derive(Clone)]
pub struct Handle {
    pub orders: watch::Sender<Orders>,
    pub notices: broadcast::Sender<Notice>,
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
            reserve: Reserve::open(&state_dir),
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
            alerts: Mutex::new(BTreeMap::new()),
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
        let world = self.watch.now();
        let dockers = match self.dockers_ports() {
            Ok(dockers) => dockers,
            Err(fault) => return self.alert("journal", fault.to_string()),
        };
        let shared = match self.not_yet_shared().await {
            Ok(shared) => shared,
            Err(fault) => return self.alert("journal", fault.to_string()),
        };
        for listener in self.publisher.listeners().await {
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
            self.open_one(Opening { namespace, ..Opening::host(listener, true) }).await;
        }
    }

    /// One by one: a port that somebody else took meanwhile must not keep the others closed.
    async fn open_one(&self, opening: Opening) {
        let subject = opening.listener.to_string();
        match self.traffic.bind(&[opening]).await {
            Ok(()) => self.clear_alert(&subject),
            Err(fault) => self.alert(&subject, format!("a port of a live service cannot be opened: {fault}")),
        }
    }

    fn conduct(self: &Arc<Self>, kept: Kept, window: Option<crate::meter::Window>, first: Option<Event>) {
        let orders = watch::Sender::new(Orders::default());
        let (notices, _) = broadcast::channel(NOTICES);
        let number = kept.deployment.number;
        self.running().insert(number, Handle { orders: orders.clone(), notices: notices.clone() });
        let agent = self.clone();
        let conductor = Conductor::new(agent.clone(), kept, window, orders, notices);
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

    /// Says something until it is cleared, or another word comes for the same subject.
    pub fn alert(&self, subject: &str, words: String) {
        tracing::error!(subject, "{words}");
        self.alerts_now().insert(subject.to_owned(), words);
    }

    /// What an nginx is not, and what goes on all the same.
    pub fn say_of_nginx(&self, said: &[Fault]) {
        match said {
            [] => self.clear_alert("nginx"),
            some => {
                let words: Vec<String> = some.iter().map(ToString::to_string).collect();
                self.alert("nginx", words.join("; "));
            }
        }
    }

    /// The same, and into the log only when it is new.
    pub fn alert_once(&self, subject: &str, words: String) {
        if !self.alerts_now().contains_key(subject) {
            tracing::error!(subject, "{words}");
        }
        self.alerts_now().insert(subject.to_owned(), words);
    }

    pub fn clear_alert(&self, subject: &str) {
        self.alerts_now().remove(subject);
    }

    pub fn alerts(&self) -> Vec<String> {
        self.alerts_now().values().cloned().collect()
    }

    fn alerts_now(&self) -> MutexGuard<'_, BTreeMap<String, String>> {
        self.alerts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Removes the stored settings that no live release, routing or unfinished deployment needs.
    pub async fn forget_settings(&self) -> Result<(), Fault> {
        // A deployment that begins meanwhile stores settings for a claim that was not read yet.
        let _claims = self.claims.lock().await;
        let mut deployments = BTreeSet::new();
        let mut releases: BTreeSet<ReleaseKey> = self.may_go_back_to()?.into_iter().collect();
        for record in self.journal.services()? {
            releases.extend(record.live.map(|live| live.release));
            releases.extend(
                record.routing.into_iter().flat_map(|routing| routing.listed.into_iter().chain([routing.settings])),
            );
        }
        for kept in self.journal.unfinished()? {
            deployments.insert(kept.deployment.number);
            for member in kept.deployment.plan.members {
                releases.insert(member.candidate);
                releases.extend(member.live.map(|live| live.release));
            }
        }
        self.store.retain(&releases, &deployments)
    }

    /// What a deployment would do now.
    pub async fn plan(&self, request: &DeployRequest) -> Result<Plan, Fault> {
        let mut images = BTreeMap::new();
        for service in request.project.services.values() {
            let reference = &service.container.image;
            if let Some(mut facts) = self.facts(reference).await? {
                facts.may_change = is_pulled(service.pull_policy, reference, !facts.repo_digests.is_empty());
                images.insert(reference.clone(), facts);
            }
        }
        self.plan_with(request, &images).await
    }

    /// The same for people who only look: what would be refused is a warning.
    pub async fn preview(&self, request: &DeployRequest) -> Result<Plan, Fault> {
        let mut plan = self.plan(request).await?;
        let keys: Vec<ServiceKey> = plan.services().cloned().collect();
        let refused = [
            self.journal.refuse_busy(&keys, unix_ms()).map_err(Fault::from),
            self.refuse_taken_routes(&plan, request, None).await,
            self.refuse_nginx(&plan).await.map(|remarks| plan.warnings.extend(remarks)),
            self.refuse_just_reverted(&plan, &request.choice),
        ];
        let refused = refused.into_iter().filter_map(Result::err);
        plan.warnings.extend(refused.map(|fault| format!("as it stands this is refused: {fault}")));
        for member in &plan.members {
            let live = member.live.as_ref().and_then(|live| self.store.release(&live.release).ok());
            let before = live.iter().flat_map(|live| teal_model::plan::listeners(&live.service));
            for listener in before.filter(|listener| !member.listeners.contains(listener)) {
                let name = &member.service.service;
                plan.warnings.push(format!("{listener} will be closed: {name} does not publish it any more"));
            }
        }
        Ok(plan)
    }

    pub async fn plan_with(
        &self,
        request: &DeployRequest,
        images: &BTreeMap<String, ImageFacts>,
    ) -> Result<Plan, Fault> {
        let project = &request.project;
        let doors = self.publisher.all_doors().await;
        let engine = self.runtime.engine().await.map_err(fault_of)?;
        // An agent of root's beside the Engine may go everywhere; any other has to try.
        let closed = match engine.unreachable.is_none() && rustix::process::geteuid().is_root() {
            true => None,
            false => self.runtime.closed().await.map_err(fault_of)?,
        };
        let next = self.journal.next_releases(&project.name)?;
        let mut running = Running { next, unreachable: engine.unreachable, closed, ..Running::default() };
        for warm in self.journal.retained()?.into_iter().filter(|warm| warm.release.service.project == project.name) {
            let record = self.journal.release(&warm.release)?;
            let warm = record.map(|record| Warm {
                release: warm.release,
                color: record.color,
                image: record.image,
                image_id: record.image_id,
            });
            running.retained.extend(warm.map(|warm| (warm.release.service.service.clone(), warm)));
        }
        let known = self
            .histories
            .now()
            .into_iter()
            .filter(|(key, history)| key.project == project.name && history.rate().is_some());
        running.history = known.map(|(key, _)| key.service).collect();
        // Containers may have ended since it was looked last; going back needs no such look, and shall be quick.
        if request.choice.back.is_empty() {
            self.watch.refresh().await;
        }
        let changing = self.changing()?;
        for record in self.journal.services()?.into_iter().filter(|record| record.service.project == project.name) {
            let settled = record.live.as_ref().filter(|_| !changing.contains(&record.service));
            let not_whole = settled.and_then(|live| self.not_whole(live));
            running.not_whole.extend(not_whole.map(|why| (record.service.service.clone(), why)));
            if let Some(mut live) = record.live_release() {
                live.doors = doors.get(&live.release).cloned().unwrap_or_default();
                let short = self.short_of_memory(&live.release);
                running.short_of_memory.extend(short.map(|why| (record.service.service.clone(), why)));
                if let Some(adopted) = &mut live.adopted {
                    let published = adopted.published.iter().cloned().collect();
                    adopted.gap = self.traffic.cannot_divert(&published).await;
                }
                running.live.insert(record.service.service, live);
            }
        }
        let names = running.live.iter().filter(|(name, _)| !project.services.contains_key(*name));
        let (waiting, orphans): (Vec<_>, Vec<_>) = names.partition(|(name, _)| project.disabled.contains_key(*name));
        let mut plan =
            plan(project, &request.choice, &running, images, &|service| self.hash(service)).map_err(|error| {
                Fault::new(Code::NotFound, error.to_string()).hint("see the services of the compose file")
            })?;
        let profiles = |name: &String| project.disabled[name].join(" or ");
        plan.warnings.extend(waiting.into_iter().map(|(name, _)| {
            format!("{name} runs, and waits for the profile {} in the file: it goes on as it is", profiles(name))
        }));
        plan.warnings.extend(self.look_at_take(request).await?);
        plan.warnings.extend(commands::warnings(project, &plan));
        match request.choice.remove_orphans {
            _ if !request.choice.back.is_empty() => {}
            true => plan.orphans.extend(
                orphans.iter().map(|(_, live)| Unchanged {
                    service: live.release.service.clone(),
                    release: live.release.number,
                    adopted: false,
                }),
            ),
            false => plan.warnings.extend(orphans.iter().map(|(name, _)| {
                format!("{name} runs and is not in the file: it goes on as it is. `teal deploy --remove-orphans` or `teal remove {name}` ends it")
            })),
        }
        Ok(plan)
    }

    pub async fn facts(&self, reference: &str) -> Result<Option<ImageFacts>, Fault> {
        let image = self.runtime.image(reference).await.map_err(fault_of)?;
        Ok(image.map(|image| ImageFacts {
            id: image.id,
            repo_digests: image.repo_digests,
            volumes: image.volumes,
            exposed: image.exposed,
            has_healthcheck: image.has_healthcheck,
            may_change: false,
        }))
    }

    /// Tells whether two releases have the same settings, without telling what they are.
    pub fn hash(&self, service: &Service) -> String {
        let mut hasher = Sha256::new();
        hasher.update(self.salt.as_bytes());
        // A Service is plain data: maps with string keys, numbers and text.
        hasher.update(serde_json::to_vec(&service.as_released()).unwrap_or_default());
        hasher.finalize().iter().take(16).map(|byte| format!("{byte:02x}")).collect()
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
        let accepted = Accepted { deployment: deployment.number, plan: deployment.plan.clone() };
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

    /// Takes services out of traffic, lets them finish, and removes their containers. Volumes stay.
    pub async fn remove(&self, request: &RemoveRequest) -> Result<Removed, Fault> {
        let records: Vec<_> =
            self.journal.services()?.into_iter().filter(|record| record.service.project == request.project).collect();
        for name in &request.services {
            if !records.iter().any(|record| &record.service.service == name) {
                return Err(self.not_here(&request.project, Some(name)));
            }
        }
        let chosen: Vec<_> = records
            .into_iter()
            .filter(|record| request.services.is_empty() || request.services.contains(&record.service.service))
            .filter(|record| record.live.is_some() || record.routing.is_some())
            .collect();
        if chosen.is_empty() {
            return Err(self.not_here(&request.project, None));
        }
        let keys: Vec<ServiceKey> = chosen.iter().map(|record| record.service.clone()).collect();
        self.runtime.engine().await.map_err(fault_of)?;
        let volumes = self.volumes_to_remove(request, &chosen).await?;
        {
            let _claims = self.claims.lock().await;
            self.journal.refuse_busy(&keys, unix_ms())?;
            self.removing().extend(keys.iter().cloned());
        }
        let removed = self.remove_services(request, &chosen, &keys, &volumes).await;
        self.removing().retain(|key| !keys.contains(key));
        removed
    }

    pub(crate) async fn remove_services(
        &self,
        request: &RemoveRequest,
        chosen: &[ServiceRecord],
        keys: &[ServiceKey],
        volumes: &[String],
    ) -> Result<Removed, Fault> {
        let mut removed = Removed::default();
        let mut releases: Vec<ReleaseKey> = Vec::new();
        for record in chosen {
            if let Some(live) = &record.live {
                if let Ok(stored) = self.store.release(&live.release) {
                    removed
                        .volumes_kept
                        .extend(crate::effects::named_volumes(&stored).map(|volume| volume.name.clone()));
                }
                releases.push(live.release.clone());
            }
        }
        let quiet = keys.iter().map(|key| (key.clone(), None)).collect();
        let (_, said) = self.publisher.flip(quiet, Need::Back).await?;
        self.say_of_nginx(&said);
        self.drain(&releases).await;
        for key in keys {
            let of_service =
                [(label::AGENT, self.id.as_str()), (label::PROJECT, &key.project), (label::SERVICE, &key.service)];
            let mut containers = self.runtime.list(&of_service).await.map_err(fault_of)?;
            let live = chosen.iter().filter(|record| &record.service == key).filter_map(|record| record.live.as_ref());
            for replica in live.flat_map(|live| &live.adopted) {
                containers.extend(self.runtime.inspect(&replica.id).await.map_err(fault_of)?);
            }
            for container in containers {
                let live = chosen.iter().find(|record| &record.service == key).and_then(|record| record.live.as_ref());
                let release = crate::world::release_of(&container).or_else(|| Some(live?.release.clone()));
                let grace = release.and_then(|release| self.store.release(&release).ok());
                let grace = grace.map_or(crate::effects::DEFAULT_GRACE, |stored| crate::effects::grace(&stored));
                self.runtime.stop(&container.id, grace).await.map_err(fault_of)?;
                self.runtime.remove(&container.id, true).await.map_err(fault_of)?;
                self.journal.free_addresses(&container.name)?;
                removed.containers.push(container.name);
            }
        }
        for name in volumes {
            self.runtime.remove_volume(name).await.map_err(fault_of)?;
        }
        removed.volumes_kept.retain(|name| !volumes.contains(name));
        removed.volumes_removed = volumes.to_vec();
        // Last: a removal that was interrupted is whole again after a restart, and can be asked for again.
        for record in chosen {
            self.free_addresses_of(record)?;
            self.journal.forget(&record.service)?;
            self.clear_alert(&record.service.to_string());
            self.clear_alert(&crate::whole::subject(&record.service));
        }
        self.know_adopted()?;
        removed.networks = self.tidy(&request.project, None).await?;
        self.forget_holder_image().await?;
        self.forget_settings().await?;
        tracing::info!(project = request.project, who = request.who, ?keys, "removed");
        Ok(removed)
    }

    /// Until nothing is in flight, or the longest drain time of these releases is over.
    async fn drain(&self, releases: &[ReleaseKey]) {
        let longest = releases
            .iter()
            .filter_map(|release| self.store.release(release).ok())
            .map(|stored| stored.service.teal.drain_ms)
            .max()
            .unwrap_or(0);
        let deadline = tokio::time::Instant::now() + std::time::Duration::from_millis(longest);
        while tokio::time::Instant::now() < deadline {
            let idle = self.traffic.ask().await.is_some_and(|statistics| {
                statistics.releases.iter().filter(|one| releases.contains(&one.release)).all(|one| one.in_flight == 0)
            });
            let mut of_nginx = Vec::new();
            for release in releases {
                of_nginx.push(self.in_flight_of_nginx(release).await);
            }
            if idle && of_nginx.iter().all(|count| *count == Some(0)) {
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    }
}

/// Does a deployment pull an image that is here already? A tag is pulled unless it was built here or the policy says otherwise.
pub fn is_pulled(policy: PullPolicy, reference: &str, came_from_registry: bool) -> bool {
    let pinned = reference.contains("@sha256:") || reference.starts_with("sha256:");
    match policy {
        PullPolicy::Never | PullPolicy::Missing => false,
        PullPolicy::Always => true,
        PullPolicy::Default => came_from_registry && !pinned,
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
