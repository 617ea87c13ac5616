//! Containers that Compose or a script started become the live release of their service, as they are and without a restart; and back.
//!
//! They carry none of our labels, and labels cannot be added later: the journal has their ids. Nothing is done to them. Docker
//! goes on publishing their ports and answering to their name until the first deployment (divert.rs).

use crate::agent::{Agent, fault_of};
use crate::clock::unix_ms;
use crate::divert::published;
use crate::journal::{AdoptedReplica, ReleaseRecord, ServiceRecord};
use crate::runtime::{Container, Status};
use crate::store::StoredRelease;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use teal_model::api::{AdoptRequest, AdoptedContainer, AdoptedService, Adoption, DescribedContainer, GiveBackRequest};
use teal_model::config::{Project, Service};
use teal_model::deployment::{Deployment, State};
use teal_model::fault::{Code, Fault};
use teal_model::ids::{Color, ReleaseKey, ServiceKey};
use teal_model::plan::{Naming, Plan, Reach, Unchanged};
use teal_model::receipt::{Outcome, Receipt, ReleaseLine, Traffic};

/// What Compose says of its containers; read, and never set.
const PROJECT: &str = "com.docker.compose.project";
const SERVICE: &str = "com.docker.compose.service";
const NUMBER: &str = "com.docker.compose.container-number";
const ONE_OFF: &str = "com.docker.compose.oneoff";

/// A service that is to be adopted.
struct Found {
    shown: AdoptedService,
    record: ReleaseRecord,
    stored: StoredRelease,
}

impl Agent {
    pub async fn describe(&self, names: &[String]) -> Result<Vec<DescribedContainer>, Fault> {
        let mut all = Vec::new();
        for name in names {
            let found = self.runtime.describe(name).await.map_err(fault_of)?;
            all.push(found.ok_or_else(|| {
                Fault::new(Code::NotFound, format!("there is no container {name}"))
                    .hint("`docker ps -a` lists those that there are")
            })?);
        }
        Ok(all)
    }

    pub async fn adopt(self: &Arc<Self>, request: AdoptRequest) -> Result<Adoption, Fault> {
        let project = &request.project;
        if let Some(name) = request.services.iter().find(|name| !project.services.contains_key(*name)) {
            return Err(Fault::new(Code::NotFound, format!("the project {} has no service `{name}`", project.name))
                .hint("see the services of the compose file"));
        }
        let engine = self.runtime.engine().await.map_err(fault_of)?;
        let _claims = self.claims.lock().await;
        let mut adoption =
            Adoption { project: project.name.clone(), deployment: None, services: Vec::new(), left: Vec::new() };
        let mut found = self.find(&request, &mut adoption).await?;
        for one in &mut found {
            one.stored.reach = match &engine.unreachable {
                Some(why) => Reach::Ports { why: why.clone(), only: true },
                None => Reach::Address,
            };
        }
        if adoption.services.is_empty() && found.is_empty() {
            let what = format!("no service of {} can be adopted", project.name);
            return Err(Fault::new(Code::NotFound, what).detail(adoption.left).hint(match request.containers {
                Some(_) => "name containers that run",
                None => "`docker compose up` starts them; `-p` names another project",
            }));
        }
        let keys: Vec<ServiceKey> = found.iter().map(|one| one.record.release.service.clone()).collect();
        self.journal.refuse_busy(&keys, unix_ms())?;
        if let Some(key) = keys.iter().find(|key| self.removing().contains(key)) {
            return Err(Fault::new(Code::Busy, format!("{key} is being removed")).hint("wait for it: `teal status`"));
        }
        if !request.dry_run && !found.is_empty() {
            adoption.deployment = Some(self.record(&request, &found)?);
            self.know_adopted()?;
            self.watch.refresh().await;
            tracing::info!(project = project.name, who = request.who, ?keys, "adopted");
        }
        adoption.services.extend(found.into_iter().map(|one| one.shown));
        adoption.services.sort_by(|a, b| a.service.cmp(&b.service));
        Ok(adoption)
    }

    /// The containers that were named for each service.
    async fn named(
        &self,
        named: &BTreeMap<String, Vec<String>>,
        adoption: &mut Adoption,
    ) -> Result<BTreeMap<String, BTreeMap<u32, Container>>, Fault> {
        let mut running: BTreeMap<String, BTreeMap<u32, Container>> = BTreeMap::new();
        for (service, ids) in named {
            for (id, index) in ids.iter().zip(1..) {
                match self.runtime.inspect(id).await.map_err(fault_of)? {
                    Some(container) if container.status == Status::Running => {
                        running.entry(service.clone()).or_default().insert(index, container);
                    }
                    Some(container) => adoption.left.push(format!("{}: it does not run", container.name)),
                    None => adoption.left.push(format!("{id}: it is gone")),
                }
            }
        }
        Ok(running)
    }

    /// Those that Compose has labelled as replicas of a service of the file.
    async fn composed(
        &self,
        request: &AdoptRequest,
        adoption: &mut Adoption,
    ) -> Result<BTreeMap<String, BTreeMap<u32, Container>>, Fault> {
        let project = &request.project;
        let mut running: BTreeMap<String, BTreeMap<u32, Container>> = BTreeMap::new();
        for container in self.runtime.list(&[(PROJECT, &project.name)]).await.map_err(fault_of)? {
            let label = |key: &str| container.labels.get(key).map(String::as_str);
            let Some(service) = label(SERVICE).map(str::to_owned) else { continue };
            let wanted = request.services.is_empty() || request.services.contains(&service);
            if !wanted || label(ONE_OFF).is_some_and(|value| value.eq_ignore_ascii_case("true")) {
                continue;
            }
            let number = label(NUMBER).and_then(|number| number.parse::<u32>().ok());
            let left = match (&container.status, number) {
                _ if !project.services.contains_key(&service) => "its service is not in the file",
                (Status::Running, Some(number)) => {
                    running.entry(service).or_default().insert(number, container);
                    continue;
                }
                (Status::Running, None) => "Compose gave it no number",
                _ => "it does not run",
            };
            adoption.left.push(format!("{}: {left}", container.name));
        }
        Ok(running)
    }

    /// Running containers, by their service of the file; those that are adopted already are told at once.
    async fn find(&self, request: &AdoptRequest, adoption: &mut Adoption) -> Result<Vec<Found>, Fault> {
        let project = &request.project;
        let mut running = match &request.containers {
            Some(named) => self.named(named, adoption).await?,
            None => self.composed(request, adoption).await?,
        };
        let records = self.journal.services()?;
        let next = self.journal.next_releases(&project.name)?;
        let mut found = Vec::new();
        for (name, service) in &project.services {
            if !request.services.is_empty() && !request.services.contains(name) {
                continue;
            }
            let key = ServiceKey::new(&project.name, name);
            let live = records.iter().find(|record| record.service == key).and_then(|record| record.live.as_ref());
            let containers: Vec<(u32, Container)> = running.remove(name).into_iter().flatten().collect();
            match live {
                Some(live) if live.is_adopted() => adoption.services.push(shown(live, service, true, Vec::new())),
                Some(live) => adoption.left.push(format!("{name}: release {} of Teal is live", live.release.number)),
                None if containers.is_empty() && request.containers.is_some() => {}
                None if containers.is_empty() => adoption.left.push(format!("{name}: no container of Compose runs")),
                None => {
                    let number = next.get(name).copied().unwrap_or(1);
                    let release = ReleaseKey::new(key, number);
                    found.push(self.take(project, service, release, &containers).await?);
                }
            }
        }
        Ok(found)
    }

    async fn take(
        &self,
        project: &Project,
        service: &Service,
        release: ReleaseKey,
        containers: &[(u32, Container)],
    ) -> Result<Found, Fault> {
        let mut notes = Vec::new();
        let images: BTreeSet<&str> = containers.iter().map(|(_, container)| container.image_id.as_str()).collect();
        let image_id = images.first().copied().unwrap_or_default().to_owned();
        let facts = self.facts(&service.container.image).await?;
        let mut same = images.len() == 1;
        if !same {
            notes.push("its containers run different images: the first deployment puts one in their place".to_owned());
        }
        match &facts {
            None => notes.push(format!("{} is not here: the first deployment pulls it", service.container.image)),
            Some(facts) if facts.id != image_id => {
                notes.push(format!("{} is another image by now: `teal deploy` brings it", service.container.image));
            }
            Some(_) => {}
        }
        if containers.len() != service.replicas as usize {
            same = false;
            notes.push(format!(
                "{} run and the file says {}: `teal deploy` brings them",
                containers.len(),
                service.replicas
            ));
        }
        let stored = StoredRelease {
            service: service.clone(),
            volumes: project.volumes.clone(),
            networks: project.networks.clone(),
            trusted_proxies: project.trusted_proxies.clone(),
            image_id: Some(image_id.clone()),
            exposed: Vec::new(),
            shares_network: false,
            directory: project.directory.clone(),
            reach: Reach::Address,
            color: None,
            naming: Naming::Containers { why: "it was adopted: its containers own its name".to_owned() },
        };
        let adopted = containers.iter().map(|(index, container)| AdoptedReplica {
            id: container.id.clone(),
            name: container.name.clone(),
            index: *index,
            published: published(container),
        });
        let record = ReleaseRecord {
            release,
            color: Color::Blue,
            image: service.container.image.clone(),
            image_id: Some(image_id),
            repo_digests: facts.map(|facts| facts.repo_digests).unwrap_or_default(),
            // What it was made of is not known where it is not what the file says: then any deployment changes it.
            settings_hash: if same { self.hash(service) } else { String::new() },
            replicas: containers.len() as u32,
            serves: false,
            recreate: false,
            job: false,
            created_ms: unix_ms(),
            adopted: adopted.collect(),
            before: None,
            again: None,
        };
        Ok(Found { shown: shown(&record, service, false, notes), record, stored })
    }

    fn record(&self, request: &AdoptRequest, found: &[Found]) -> Result<u64, Fault> {
        for one in found {
            self.store.put_release(&one.record.release, &one.stored)?;
        }
        let now = unix_ms();
        let records: Vec<ReleaseRecord> = found.iter().map(|one| one.record.clone()).collect();
        let unchanged = records.iter().map(|record| Unchanged {
            service: record.release.service.clone(),
            release: record.release.number,
            adopted: true,
        });
        let plan = Plan {
            project: request.project.name.clone(),
            members: Vec::new(),
            orphans: Vec::new(),
            unchanged: unchanged.collect(),
            warnings: Vec::new(),
            unresolved: Vec::new(),
            take: None,
        };
        let mut deployment = Deployment::new(0, plan, now);
        deployment.state = State::Done;
        let lines = records.iter().map(|record| ReleaseLine {
            service: record.release.service.service.clone(),
            from: None,
            to: record.release.number,
            back: None,
            color: record.color.to_string(),
            strategy: "adopted".to_owned(),
            image: record.image.clone(),
            image_id: record.image_id.clone().unwrap_or_default(),
            repo_digests: record.repo_digests.clone(),
            replicas: record.replicas,
        });
        let mut receipt = Receipt {
            deployment: 0,
            project: request.project.name.clone(),
            who: request.who.clone(),
            started_ms: now,
            ended_ms: now,
            outcome: Outcome::Done,
            releases: lines.collect(),
            steps: Vec::new(),
            traffic: Traffic::None,
            notes: Vec::new(),
        };
        self.journal.adopt(&mut deployment, &request.who, &records, &mut receipt, now)?;
        Ok(deployment.number)
    }

    /// Adopted releases are forgotten while they are live; their containers are left as they are.
    pub async fn give_back(&self, request: &GiveBackRequest) -> Result<Adoption, Fault> {
        let _claims = self.claims.lock().await;
        let project = &request.project;
        let of_project = |record: &ServiceRecord| &record.service.project == project && record.live.is_some();
        let records: Vec<ServiceRecord> = self.journal.services()?.into_iter().filter(of_project).collect();
        for name in &request.services {
            let record = records.iter().find(|record| &record.service.service == name);
            let live = record.and_then(|record| record.live.as_ref());
            let refusal = match live {
                Some(live) if live.is_adopted() => continue,
                Some(live) => Fault::new(
                    Code::Usage,
                    format!("{name} was deployed since: its live release {} is Teal's own", live.release.number),
                )
                .hint("`teal remove` ends it"),
                None => Fault::new(Code::NotFound, format!("nothing of {project}/{name} is adopted")),
            };
            return Err(refusal);
        }
        let chosen = |record: &&ServiceRecord| {
            let wanted = request.services.is_empty() || request.services.contains(&record.service.service);
            wanted && record.live.as_ref().is_some_and(ReleaseRecord::is_adopted)
        };
        let chosen: Vec<&ServiceRecord> = records.iter().filter(chosen).collect();
        if chosen.is_empty() {
            return Err(Fault::new(Code::NotFound, format!("nothing of {project} is adopted")));
        }
        let keys: Vec<ServiceKey> = chosen.iter().map(|record| record.service.clone()).collect();
        self.journal.refuse_busy(&keys, unix_ms())?;
        let mut adoption =
            Adoption { project: project.clone(), deployment: None, services: Vec::new(), left: Vec::new() };
        for live in chosen.iter().filter_map(|record| record.live.as_ref()) {
            let service = self.store.release(&live.release).map(|stored| stored.service).unwrap_or_default();
            adoption.services.push(shown(live, &service, true, Vec::new()));
        }
        if request.dry_run {
            return Ok(adoption);
        }
        // Only a deployment that was taken back leaves a route.
        if chosen.iter().any(|record| record.routing.is_some()) {
            let none = keys.iter().map(|key| (key.clone(), None)).collect();
            let (_, said) = self.publisher.flip(none, crate::nginx::Need::Back).await?;
            self.say_of_nginx(&said);
        }
        // Before the watcher forgets them: what is not adopted any more is not touched, and what is not ours neither.
        for record in &chosen {
            self.journal.forget(&record.service)?;
            self.clear_alert(&record.service.to_string());
            self.clear_alert(&crate::whole::subject(&record.service));
        }
        self.know_adopted()?;
        self.watch.refresh().await;
        tracing::info!(project, who = request.who, ?keys, "given back");
        Ok(adoption)
    }
}

fn shown(record: &ReleaseRecord, service: &Service, already: bool, notes: Vec<String>) -> AdoptedService {
    let container = |replica: &AdoptedReplica| AdoptedContainer {
        container: replica.id.chars().take(12).collect(),
        name: replica.name.clone(),
        replica: replica.index,
        image_id: record.image_id.clone().unwrap_or_default(),
    };
    AdoptedService {
        service: record.release.service.clone(),
        release: record.release.number,
        already,
        image: record.image.clone(),
        containers: record.adopted.iter().map(container).collect(),
        ports: record.published().iter().map(ToString::to_string).collect(),
        named: service.network_mode.is_none(),
        notes,
    }
}
