//! Calls by name: the holder of each service owns its name and its address, and the proxy listens inside it.
//!
//! ```text
//! caller ──"app:8080"──▶ holder's address ─ listening socket of its namespace ─▶ proxy ─▶ a replica with a share
//! ```
//!
//! A holder does nothing but be there (runtime/docker/holder.rs), so it is the same container over all releases: a caller that
//! resolves the name once and keeps the address keeps a right one.

use crate::agent::{Agent, fault_of};
use crate::runtime::{Container, ContainerSpec, NetworkFacts, NetworkSpec, Place, RuntimeError, Status, label};
use crate::store::StoredRelease;
use crate::world::held_by;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};
use teal_model::config::{Attachment, ContainerSettings, Isolation, Network, Restart};
use teal_model::fault::Fault;
use teal_model::ids::ServiceKey;

/// The image of holders may be removed by another agent in the moment before its container is made.
const TRIES: usize = 3;

/// A service's networks in Docker, the one with the highest priority first.
pub fn attachments(stored: &StoredRelease) -> Vec<(&Network, &Attachment)> {
    let mut all: Vec<_> = stored
        .service
        .networks
        .iter()
        .filter_map(|(key, attachment)| Some((stored.networks.get(key)?, attachment)))
        .collect();
    all.sort_by_key(|(_, attachment)| std::cmp::Reverse(attachment.priority));
    all
}

pub fn holder_name(service: &ServiceKey) -> String {
    format!("{}-{}-holder", service.project, service.service)
}

/// Every name by which others of a network know the service.
pub fn aliases(stored: &StoredRelease, attachment: &Attachment) -> Vec<String> {
    let service = &stored.service;
    let mut names = vec![service.name.clone()];
    names.extend(service.container_name.clone());
    names.extend(attachment.aliases.iter().cloned());
    let mut seen = BTreeSet::new();
    names.retain(|name| seen.insert(name.clone()));
    names
}

impl Agent {
    /// Every network of a release, made when missing.
    pub async fn ensure_networks(
        &self,
        project: &str,
        stored: &StoredRelease,
    ) -> Result<BTreeMap<String, NetworkFacts>, Fault> {
        let mut facts = BTreeMap::new();
        for (network, _) in attachments(stored) {
            let labels = BTreeMap::from([
                (label::AGENT.to_owned(), self.id.clone()),
                (label::PROJECT.to_owned(), project.to_owned()),
            ]);
            let spec = NetworkSpec { name: network.name.clone(), labels, settings: network.clone() };
            let seen = self.runtime.ensure_network(&spec).await.map_err(fault_of)?;
            for key in &seen.differs {
                tracing::warn!(network = network.name, key, "the network that exists says something else");
            }
            facts.insert(network.name.clone(), seen);
        }
        Ok(facts)
    }

    /// A container's own address on a network of ours, outside the range that Docker hands out: it stays the same over every
    /// restart. None: the network is somebody else's, or has no room for it, so Docker chooses.
    pub async fn fixed_address(
        &self,
        network: &str,
        facts: &NetworkFacts,
        container: &str,
    ) -> Result<Option<Ipv4Addr>, Fault> {
        let (true, Some(subnet), Some(range)) = (facts.ours, facts.subnet, facts.ip_range) else { return Ok(None) };
        let used = self.runtime.network_addresses(network).await.map_err(fault_of)?;
        let free = |address: &Ipv4Addr| {
            Some(*address) != facts.gateway && used.get(&IpAddr::V4(*address)).is_none_or(|owner| owner == container)
        };
        let outside = hosts(subnet).filter(|address| !contains(range, *address)).filter(free);
        Ok(self.journal.assign_address(network, container, outside)?)
    }

    /// The holder of a service, running, in the release's networks and under its names.
    pub async fn ensure_holder(&self, key: &ServiceKey, stored: &StoredRelease) -> Result<(), Fault> {
        let facts = self.ensure_networks(&key.project, stored).await?;
        let name = holder_name(key);
        let mut places = Vec::new();
        for (network, attachment) in attachments(stored) {
            let written = |address: Option<IpAddr>| match address {
                Some(IpAddr::V4(address)) => Some(address),
                _ => None,
            };
            let ipv4 = match written(attachment.ipv4_address) {
                Some(address) => Some(address),
                None => self.fixed_address(&network.name, &facts[&network.name], &name).await?,
            };
            let ipv6 = match attachment.ipv6_address {
                Some(IpAddr::V6(address)) => Some(address),
                _ => None,
            };
            let aliases = aliases(stored, attachment);
            let (network, priority) = (network.name.clone(), attachment.priority);
            places.push(Place { network, aliases, ipv4, ipv6, priority, ..Place::default() });
        }
        let container = self.holder(key, name, &places).await?;
        for place in &places {
            if !container.networks.get(&place.network).is_some_and(|joined| joined.is_as(place)) {
                self.runtime.connect(&container.id, place).await.map_err(fault_of)?;
            }
        }
        if container.status != Status::Running {
            self.runtime.start(&container.id).await.map_err(fault_of)?;
        }
        Ok(())
    }

    async fn holder(&self, key: &ServiceKey, name: String, places: &[Place]) -> Result<Container, Fault> {
        let labels = [
            (label::AGENT, self.id.as_str()),
            (label::PROJECT, &key.project),
            (label::SERVICE, &key.service),
            (label::HOLDER, "1"),
        ];
        let mut spec = ContainerSpec {
            name,
            labels: labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect(),
            settings: ContainerSettings {
                restart: Restart::Always,
                read_only: true,
                isolation: Isolation {
                    cap_drop: vec!["ALL".to_owned()],
                    security_opt: vec!["no-new-privileges:true".to_owned()],
                    ..Isolation::default()
                },
                ..ContainerSettings::default()
            },
            networks: places.to_vec(),
            restart_now: true,
            ..ContainerSpec::default()
        };
        let mut tries = 0;
        loop {
            spec.image_id = self.runtime.holder_image().await.map_err(fault_of)?.id;
            tries += 1;
            match self.runtime.ensure_container(&spec).await {
                Err(RuntimeError::NotFound { kind: "image", .. }) if tries < TRIES => {}
                made => return made.map_err(fault_of),
            }
        }
    }

    /// Out of the networks that no release of the service needs any more.
    pub async fn trim_holder(&self, key: &ServiceKey, needed: &BTreeSet<String>) -> Result<(), Fault> {
        let world = self.watch.now();
        let Some(holder) = world.holders.get(key) else { return Ok(()) };
        for network in holder.container.networks.keys().filter(|network| !needed.contains(*network)) {
            self.runtime.disconnect(&holder.container.id, network).await.map_err(fault_of)?;
        }
        Ok(())
    }

    /// Removes a project's holders of services that `needed` does not name, and the image with the last of them.
    pub async fn remove_holders(&self, project: &str, needed: &BTreeSet<ServiceKey>) -> Result<(), Fault> {
        let ours = [(label::AGENT, self.id.as_str()), (label::PROJECT, project)];
        let mut removed = false;
        for container in self.runtime.list(&ours).await.map_err(fault_of)? {
            if held_by(&container).is_some_and(|service| !needed.contains(&service)) {
                self.runtime.remove(&container.id, true).await.map_err(fault_of)?;
                self.journal.free_addresses(&container.name)?;
                removed = true;
            }
        }
        if removed {
            self.forget_holder_image().await?;
        }
        Ok(())
    }

    /// In use by a holder (also another agent's), it stays.
    pub async fn forget_holder_image(&self) -> Result<(), Fault> {
        self.runtime.remove_image(crate::runtime::HOLDER_IMAGE).await.map(drop).map_err(fault_of)
    }
}

/// Every address of a subnet but the first and the last.
fn hosts((base, bits): (Ipv4Addr, u8)) -> impl Iterator<Item = Ipv4Addr> {
    let size = 1u32.checked_shl(32 - u32::from(bits)).unwrap_or(u32::MAX);
    let first = u32::from(base) & !(size - 1);
    (1..size.saturating_sub(1)).map(move |offset| Ipv4Addr::from(first + offset))
}

fn contains((base, bits): (Ipv4Addr, u8), address: Ipv4Addr) -> bool {
    let mask = u32::MAX.checked_shl(32 - u32::from(bits)).unwrap_or(0);
    u32::from(base) & mask == u32::from(address) & mask
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fixed_addresses_are_those_that_docker_does_not_hand_out() {
        let (subnet, range) = ((Ipv4Addr::new(10, 1, 2, 0), 24), (Ipv4Addr::new(10, 1, 2, 128), 25));
        let fixed: Vec<Ipv4Addr> = hosts(subnet).filter(|address| !contains(range, *address)).collect();
        assert_eq!(fixed.first(), Some(&Ipv4Addr::new(10, 1, 2, 1)));
        assert_eq!(fixed.last(), Some(&Ipv4Addr::new(10, 1, 2, 127)));
        assert_eq!(hosts((Ipv4Addr::new(10, 0, 0, 0), 31)).count(), 0);
    }
}
