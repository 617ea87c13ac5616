//! What only goes when somebody asks for it by name: services that the file does not have any more, and volumes. And the
//! name that a container has from the file.

use crate::agent::{Agent, fault_of};
use crate::containers::replica_name;
use crate::effects::named_volumes;
use crate::journal::ServiceRecord;
use crate::runtime::label;
use std::collections::{BTreeMap, BTreeSet};
use teal_model::api::{RemoveRequest, RemoveVolumes};
use teal_model::fault::{Code, Fault};
use teal_model::ids::{ReleaseKey, ServiceKey};

impl Agent {
    /// `container_name`. It is for people: containers are found by their labels, so a name that somebody else has is said
    /// and stops nothing.
    pub async fn name_release(&self, release: &ReleaseKey) -> Result<(), Fault> {
        let stored = self.store.release(release)?;
        let Some(name) = stored.service.container_name.as_ref().filter(|_| stored.service.replicas == 1) else {
            return Ok(());
        };
        let subject = format!("{} by its container_name", release.service);
        for container in self.containers_of(release).await? {
            match self.runtime.rename(&container.id, name).await.map_err(fault_of) {
                Ok(()) => self.clear_alert(&subject),
                Err(fault) if fault.code == Code::DockerRefused => {
                    self.alert(&subject, format!("{} is not called {name}: {fault}", container.name));
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
            let ServiceKey { project, service } = &record.service;
            let labels = [(label::AGENT, self.id.as_str()), (label::PROJECT, project), (label::SERVICE, service)];
            let found = self.runtime.list(&labels).await.map_err(fault_of)?;
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
