//! What a replica is created as: the service's settings, and what Teal adds to them.

use crate::agent::{Agent, fault_of};
use crate::effects::{Replicas, named_volumes};
use crate::names::{aliases, attachments, holder_name};
use crate::reach::LOOPBACK;
use crate::runtime::{ContainerSpec, Place, Publish, Status, label};
use crate::store::StoredRelease;

use std::collections::BTreeMap;
use std::net::IpAddr;
use teal_model::config::{Attachment, Mode, MountKind, Namespace, NetworkMode, Protocol, Restart, Service};
use teal_model::fault::{Code, Fault};
use teal_model::ids::{Color, ReleaseKey, ServiceKey};

impl Agent {
    /// One a replica of the span, in their order.
    pub async fn container_specs(
        &self,
        release: &ReleaseKey,
        stored: &StoredRelease,
        how: Replicas,
    ) -> Result<Vec<ContainerSpec>, Fault> {
        let ServiceKey { project, service } = &release.service;
        let facts = self.ensure_networks(project, stored).await?;
        let mut labels = stored.service.container.labels.clone();
        for (key, value) in [
            (label::AGENT, self.id.clone()),
            (label::PROJECT, project.clone()),
            (label::SERVICE, service.clone()),
            (label::RELEASE, release.number.to_string()),
            (label::COLOR, how.color.to_string()),
        ] {
            labels.insert(key.to_owned(), value);
        }
        let mut settings = stored.service.container.clone();
        if stored.service.is_job {
            labels.insert(label::JOB.to_owned(), "1".to_owned());
            settings.restart = restart_of(&stored.service);
        }
        let common = ContainerSpec {
            image_id: stored.image_id.clone().unwrap_or_else(|| stored.service.container.image.clone()),
            settings,
            network_mode: self.network_mode(project, stored)?,
            joins: self.joins(project, stored)?,
            expose: stored.service.expose.clone(),
            // What a job does about its own failure belongs to its one run.
            restart_now: how.restarts || stored.service.is_job,
            ..ContainerSpec::default()
        };
        let on = stored.service.teal.nginx.as_ref().map_or(LOOPBACK, |nginx| nginx.address);
        let mut specs = Vec::new();
        for index in (1..=stored.service.replicas).filter(|index| how.span.contains(*index)) {
            let name = replica_name(&release.service, how.color, index);
            let mut networks = Vec::new();
            for (network, attachment) in attachments(stored) {
                let fixed = self.fixed_address(&network.name, &facts[&network.name], &name).await?;
                let mut place = place(stored, attachment);
                place.network.clone_from(&network.name);
                place.links = links(project, stored);
                place.ipv4 = place.ipv4.or(fixed);
                networks.push(place);
            }
            let mut publish = publish(stored);
            publish.extend(self.reached_at(release, stored, (how.color, index), on).await?);
            let mut labels = labels.clone();
            labels.insert(label::REPLICA.to_owned(), index.to_string());
            let anonymous = self.anonymous_volumes(release, stored, index).await?;
            specs.push(ContainerSpec { name, labels, networks, publish, anonymous, ..common.clone() });
        }
        Ok(specs)
    }

    /// The volumes that it mounts, made when missing.
    pub async fn ensure_volumes(&self, release: &ReleaseKey, stored: &StoredRelease) -> Result<(), Fault> {
        for volume in named_volumes(stored).filter(|volume| !volume.external) {
            let mut labels = volume.labels.clone();
            labels.insert(label::PROJECT.to_owned(), release.service.project.clone());
            self.runtime
                .ensure_volume(&volume.name, volume.driver.as_deref(), &volume.driver_opts, &labels)
                .await
                .map_err(fault_of)?;
        }
        Ok(())
    }

    /// Replicas that run, back in the networks that they have lost.
    pub async fn rejoin(&self, release: &ReleaseKey, stored: &StoredRelease, how: Replicas) -> Result<(), Fault> {
        let containers = self.containers_of(release).await?;
        for spec in self.container_specs(release, stored, how).await? {
            let Some(container) = containers.iter().find(|container| container.name == spec.name) else { continue };
            for place in spec.networks.iter().filter(|place| !container.networks.contains_key(&place.network)) {
                self.runtime.connect(&container.id, place).await.map_err(fault_of)?;
            }
        }
        self.watch.refresh().await;
        Ok(())
    }

    /// The anonymous volumes of the replica before this one, by their path: what the image or the file still wants there.
    async fn anonymous_volumes(
        &self,
        release: &ReleaseKey,
        stored: &StoredRelease,
        index: u32,
    ) -> Result<BTreeMap<String, String>, Fault> {
        let world = self.watch.now();
        let before = world
            .replicas
            .values()
            .filter(|replica| replica.release.service == release.service && replica.release != *release)
            .filter(|replica| replica.index == index && replica.release.number < release.number)
            .max_by_key(|replica| replica.release.number);
        let mut held: BTreeMap<String, String> = before
            .into_iter()
            .flat_map(|replica| &replica.container.volumes)
            .filter(|(_, volume)| volume.anonymous)
            .map(|(target, volume)| (target.clone(), volume.name.clone()))
            .collect();
        if held.is_empty() {
            return Ok(held);
        }
        let image = stored.image_id.as_deref().unwrap_or(&stored.service.container.image);
        let image = self.runtime.image(image).await.map_err(fault_of)?;
        let mounts = &stored.service.container.mounts;
        held.retain(|target, _| {
            let written = mounts.iter().find(|mount| &mount.target == target);
            match written {
                Some(mount) => mount.kind == MountKind::Volume && mount.source.is_none(),
                None => image.as_ref().is_some_and(|image| image.volumes.contains(target)),
            }
        });
        Ok(held)
    }

    pub fn network_mode(&self, project: &str, stored: &StoredRelease) -> Result<Option<String>, Fault> {
        Ok(match &stored.service.network_mode {
            None => None,
            Some(NetworkMode::Bridge) => Some("bridge".to_owned()),
            Some(NetworkMode::Host) => Some("host".to_owned()),
            Some(NetworkMode::None) => Some("none".to_owned()),
            Some(NetworkMode::Container(name)) => Some(format!("container:{name}")),
            Some(NetworkMode::Service(name)) => Some(format!("container:{}", self.container_of(project, name)?)),
        })
    }

    pub fn joins(&self, project: &str, stored: &StoredRelease) -> Result<BTreeMap<String, String>, Fault> {
        let isolation = &stored.service.container.isolation;
        let mut joins = BTreeMap::new();
        for namespace in [&isolation.ipc, &isolation.pid].into_iter().flatten() {
            if let Namespace::Service(name) = namespace {
                joins.insert(name.clone(), self.container_of(project, name)?);
            }
        }
        Ok(joins)
    }

    /// The first replica of a service that runs, of its newest release.
    fn container_of(&self, project: &str, service: &str) -> Result<String, Fault> {
        let key = ServiceKey::new(project, service);
        let world = self.watch.now();
        let running = world
            .replicas
            .values()
            .filter(|replica| replica.release.service == key && replica.container.status == Status::Running);
        let newest = running.max_by_key(|replica| (replica.release.number, std::cmp::Reverse(replica.index)));
        newest.map(|replica| replica.container.id.clone()).ok_or_else(|| {
            Fault::new(Code::DockerRefused, format!("no container of {key} runs, whose namespace is to be joined"))
                .hint(format!("deploy {service} first, or name it in `depends_on`"))
        })
    }
}

pub fn replica_name(service: &ServiceKey, color: Color, index: u32) -> String {
    format!("{}-{}-{color}-{index}", service.project, service.service)
}

/// The restart policy of a live container. A job that has ended is not started again but for its failures.
pub fn restart_of(service: &Service) -> Restart {
    match service.container.restart {
        Restart::OnFailure(times) => Restart::OnFailure(times),
        _ if service.is_job => Restart::No,
        restart => restart,
    }
}

/// Where a replica stands in a network. The service's own names and addresses belong to its holder, where it has one.
fn place(stored: &StoredRelease, attachment: &Attachment) -> Place {
    let mut place = Place { link_local: attachment.link_local_ips.clone(), ..nameless_place(attachment) };
    // Of the container itself: it is not what callers find the service by.
    place.mac = attachment.mac_address.clone().or_else(|| stored.service.mac_address.clone());
    if !stored.naming.is_holder() {
        place.aliases = aliases(stored, attachment);
        if let Some(IpAddr::V4(address)) = attachment.ipv4_address {
            place.ipv4 = Some(address);
        }
        if let Some(IpAddr::V6(address)) = attachment.ipv6_address {
            place.ipv6 = Some(address);
        }
    }
    place
}

/// The same without anything that one container at a time can have.
pub fn nameless_place(attachment: &Attachment) -> Place {
    Place {
        priority: attachment.priority,
        gw_priority: attachment.gw_priority,
        interface_name: attachment.interface_name.clone(),
        driver_opts: attachment.driver_opts.clone(),
        ..Place::default()
    }
}

/// `links` lead to the holder of the other service.
pub fn links(project: &str, stored: &StoredRelease) -> Vec<String> {
    let own = stored
        .service
        .links
        .iter()
        .map(|link| format!("{}:{}", holder_name(&ServiceKey::new(project, &link.service)), link.alias));
    own.chain(stored.service.external_links.iter().cloned()).collect()
}

/// What Docker itself publishes.
fn publish(stored: &StoredRelease) -> Vec<Publish> {
    let direct = stored.service.teal.mode == Mode::Direct || stored.service.is_job;
    let ports = stored.service.ports.iter().filter(|port| direct || port.protocol == Protocol::Udp);
    ports
        .map(|port| Publish {
            host_ip: port.host_ip,
            host_port: Some(port.published),
            container_port: port.target,
            udp: port.protocol == Protocol::Udp,
        })
        .collect()
}
