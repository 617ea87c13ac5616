//! What only goes when somebody asks for it by name: services, those that the file does not have any more, and volumes. And the
//! name that a container has from the file.

use crate::agent::{Agent, fault_of};
use crate::alerts::Subject;
use crate::clock::unix_ms;
use crate::containers::replica_name;
use crate::effects::{DEFAULT_GRACE, grace, named_volumes};
use crate::journal::ServiceRecord;
use crate::nginx::Need;
use crate::runtime::{Container, label};
use crate::world::release_of;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use teal_model::api::{RemoveRequest, RemoveVolumes, Removed};
use teal_model::fault::{Code, Fault};
use teal_model::ids::{ReleaseKey, ServiceKey};
use tokio::time::{Instant, sleep};

impl Agent {
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
                    removed.volumes_kept.extend(named_volumes(&stored).map(|volume| volume.name.clone()));
                }
                releases.push(live.release.clone());
            }
        }
        let quiet = keys.iter().map(|key| (key.clone(), None)).collect();
        let (_, said) = self.publisher.flip(quiet, Need::Back).await?;
        self.say_of_nginx(&said);
        removed.nginx = said;
        self.drain(&releases).await;
        for record in chosen {
            for container in self.containers_of_service(record).await? {
                removed.volumes_kept.extend(anonymous_volumes(&container));
                let release = release_of(&container).or_else(|| Some(record.live.as_ref()?.release.clone()));
                let stored = release.and_then(|release| self.store.release(&release).ok());
                let patience = stored.map_or(DEFAULT_GRACE, |stored| grace(&stored));
                self.runtime.stop(&container.id, patience).await.map_err(fault_of)?;
                self.runtime.remove(&container.id, true).await.map_err(fault_of)?;
                self.journal.free_addresses(&container.name)?;
                removed.containers.push(container.name);
            }
        }
        for name in volumes {
            self.runtime.remove_volume(name).await.map_err(fault_of)?;
        }
        let mut told = BTreeSet::new();
        removed.volumes_kept.retain(|name| !volumes.contains(name) && told.insert(name.clone()));
        removed.volumes_removed = volumes.to_vec();
        // Last: a removal that was interrupted is whole again after a restart, and can be asked for again.
        for record in chosen {
            self.free_addresses_of(record)?;
            self.journal.forget(&record.service)?;
            self.clear_alerts_of(&record.service);
        }
        self.know_adopted()?;
        removed.networks = self.tidy(&request.project, None).await?;
        self.forget_holder_image().await?;
        self.forget_settings().await?;
        tracing::info!(project = request.project, who = request.who, ?keys, "removed");
        Ok(removed)
    }

    /// Also those that it was adopted with.
    async fn containers_of_service(&self, record: &ServiceRecord) -> Result<Vec<Container>, Fault> {
        let ServiceKey { project, service } = &record.service;
        let labels = [(label::AGENT, self.id.as_str()), (label::PROJECT, project), (label::SERVICE, service)];
        let mut containers = self.runtime.list(&labels).await.map_err(fault_of)?;
        for replica in record.live.iter().flat_map(|live| &live.adopted) {
            containers.extend(self.runtime.inspect(&replica.id).await.map_err(fault_of)?);
        }
        Ok(containers)
    }

    /// Until nothing is in flight, or the longest drain time of these releases is over.
    async fn drain(&self, releases: &[ReleaseKey]) {
        let longest = releases
            .iter()
            .filter_map(|release| self.store.release(release).ok())
            .map(|stored| stored.service.teal.drain_ms)
            .max()
            .unwrap_or(0);
        let deadline = Instant::now() + Duration::from_millis(longest);
        while Instant::now() < deadline {
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
            sleep(Duration::from_millis(50)).await;
        }
    }

    /// `container_name`. It is for people: containers are found by their labels, so a name that somebody else has is said
    /// and stops nothing.
    pub async fn name_release(&self, release: &ReleaseKey) -> Result<(), Fault> {
        let stored = self.store.release(release)?;
        let Some(name) = stored.service.container_name.as_ref().filter(|_| stored.service.replicas == 1) else {
            return Ok(());
        };
        let subject = Subject::Release(release.clone(), "container_name");
        for container in self.containers_of(release).await? {
            match self.runtime.rename(&container.id, name).await.map_err(fault_of) {
                Ok(()) => self.clear_alert(subject.clone()),
                Err(fault) if fault.code == Code::DockerRefused => {
                    self.alert(subject.clone(), format!("{} is not called {name}: {fault}", container.name));
                }
                Err(fault) => return Err(fault),
            }
        }
        self.watch.refresh().await;
        Ok(())
    }

    /// As `teal remove` does it, within the deployment that has claimed the service.
    pub async fn remove_orphan(&self, service: &ServiceKey) -> Result<(), Fault> {
        let request = RemoveRequest {
            project: service.project.clone(),
            services: vec![service.service.clone()],
            volumes: RemoveVolumes::Keep,
            who: "deploy --remove-orphans".to_owned(),
        };
        let chosen: Vec<ServiceRecord> =
            self.journal.services()?.into_iter().filter(|record| &record.service == service).collect();
        self.remove_services(&request, &chosen, std::slice::from_ref(service), &[]).await.map(drop)
    }

    /// The volumes that are to go with these services: none that is external, nobody's but theirs.
    pub(crate) async fn volumes_to_remove(
        &self,
        request: &RemoveRequest,
        chosen: &[ServiceRecord],
    ) -> Result<Vec<String>, Fault> {
        let mut theirs = BTreeMap::new();
        let mut containers = BTreeSet::new();
        for record in chosen {
            let stored = record.live.as_ref().map(|live| self.store.release(&live.release)).transpose()?;
            let mounted = stored.iter().flat_map(named_volumes);
            theirs.extend(mounted.map(|volume| (volume.name.clone(), volume.external)));
            let found = self.containers_of_service(record).await?;
            for name in found.iter().flat_map(anonymous_volumes) {
                theirs.entry(name).or_insert(false);
            }
            containers.extend(found.into_iter().map(|container| container.name));
        }
        let wanted: Vec<String> = match &request.volumes {
            RemoveVolumes::Keep => Vec::new(),
            RemoveVolumes::All => {
                theirs.iter().filter(|(_, external)| !**external).map(|(name, _)| name.clone()).collect()
            }
            RemoveVolumes::Named(names) => names.clone(),
        };
        for name in &wanted {
            match theirs.get(name) {
                Some(false) => {}
                Some(true) => {
                    return Err(Fault::new(
                        Code::Usage,
                        format!("the volume {name} is external: it is not the project's"),
                    )
                    .hint(format!("nothing was removed; `docker volume rm {name}` removes it when nobody uses it")));
                }
                None => {
                    let known: Vec<&str> = theirs.keys().map(String::as_str).collect();
                    let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
                    return Err(Fault::new(Code::NotFound, format!("what is to be removed has no volume {name}"))
                        .hint(format!("nothing was removed; it has: {known}")));
                }
            }
            let users = self.runtime.volume_users(name).await.map_err(fault_of)?;
            if let Some(other) = users.iter().find(|user| !containers.contains(*user)) {
                return Err(Fault::new(
                    Code::DockerRefused,
                    format!("the volume {name} is in use by the container {other}"),
                )
                .hint("nothing was removed; remove that one first, or keep the volume"));
            }
        }
        Ok(wanted)
    }

    /// The addresses of a container that is gone for good, whatever it was called when it got them.
    pub(crate) fn free_addresses_of(&self, record: &ServiceRecord) -> Result<(), Fault> {
        if let Some(live) = &record.live {
            for index in 1..=live.replicas {
                self.journal.free_addresses(&replica_name(&record.service, live.color, index))?;
            }
        }
        Ok(())
    }
}

fn anonymous_volumes(container: &Container) -> impl Iterator<Item = String> + '_ {
    container.volumes.values().filter(|volume| volume.anonymous).map(|volume| volume.name.clone())
}
