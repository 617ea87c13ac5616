//! Networks of the engine in memory: subnets, places, addresses, names.

use super::world::{Kept, World};
use crate::runtime::{Joined, NetworkFacts, NetworkSpec, Place, Publish, Result, RuntimeError, Status, label};
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};

/// Every network has a subnet of this length in 127.0.0.0/8: the first 127.0.0.0/24.
const BITS: u8 = 24;
/// Docker hands out the upper half of Teal's networks by itself.
const UPPER_HALF: u32 = 128;
/// 127.0.0.1 is the test's own, and gateway of the first network.
const FIRST_HOST: u32 = 2;
/// Where ports begin that nobody asked for by number.
const FIRST_PORT: u16 = 32_768;

#[derive(Debug, Clone)]
pub(super) struct Net {
    pub(super) labels: BTreeMap<String, String>,
    number: u32,
    /// Made by this engine's `ensure_network`, with an `ip-range`.
    chosen: bool,
}

impl Net {
    fn base(&self) -> u32 {
        u32::from(Ipv4Addr::new(127, 0, 0, 0)) + (self.number << (32 - BITS))
    }

    fn gateway(&self) -> Ipv4Addr {
        Ipv4Addr::from(self.base() + 1)
    }

    /// What the engine hands out by itself.
    fn dynamic(&self) -> impl Iterator<Item = IpAddr> + use<> {
        let base = self.base();
        let first = if self.chosen { UPPER_HALF } else { FIRST_HOST };
        (first..255).map(move |host| IpAddr::V4(Ipv4Addr::from(base + host)))
    }

    fn facts(&self, agent: Option<&String>) -> NetworkFacts {
        let ours = agent.is_some() && self.labels.get(label::AGENT) == agent;
        let range = (Ipv4Addr::from(self.base() + UPPER_HALF), BITS + 1);
        NetworkFacts {
            ours,
            subnet: Some((Ipv4Addr::from(self.base()), BITS)),
            ip_range: self.chosen.then_some(range),
            gateway: Some(self.gateway()),
            configured_subnet: self.chosen,
            differs: Vec::new(),
        }
    }
}

fn gone(name: &str) -> RuntimeError {
    RuntimeError::NotFound { kind: "network", name: name.to_owned() }
}

impl World {
    pub(super) fn ensure_network(&mut self, spec: &NetworkSpec) -> Result<(NetworkFacts, bool)> {
        let new = !self.networks.contains_key(&spec.name);
        if new && spec.settings.external {
            return Err(gone(&spec.name));
        }
        if new {
            let labels = spec.settings.labels.iter().chain(&spec.labels).map(|(k, v)| (k.clone(), v.clone())).collect();
            self.add_network(&spec.name, labels, true);
        }
        let facts = self.networks.get(&spec.name).map(|net| net.facts(spec.labels.get(label::AGENT)));
        Ok((facts.ok_or_else(|| gone(&spec.name))?, new))
    }

    pub(super) fn add_network(&mut self, name: &str, labels: BTreeMap<String, String>, chosen: bool) {
        let number = (0..).find(|number| self.networks.values().all(|net| net.number != *number)).unwrap_or(0);
        self.networks.insert(name.to_owned(), Net { labels, number, chosen });
    }

    pub(super) fn networks_labelled(&self, labels: &[(&str, &str)]) -> Vec<String> {
        let carries =
            |net: &Net| labels.iter().all(|(key, value)| net.labels.get(*key).is_some_and(|have| have == value));
        self.networks.iter().filter(|(_, net)| carries(net)).map(|(name, _)| name.clone()).collect()
    }

    pub(super) fn remove_network(&mut self, name: &str, agent: &str) -> (bool, bool) {
        let ours =
            self.networks.get(name).is_none_or(|net| net.labels.get(label::AGENT).is_some_and(|owner| owner == agent));
        let used = !ours || self.containers.iter().any(|kept| kept.seen.networks.contains_key(name));
        let removed = !used && self.networks.remove(name).is_some();
        (!used, removed)
    }

    pub(super) fn network_addresses(&self, name: &str) -> Result<BTreeMap<IpAddr, String>> {
        let net = self.networks.get(name).ok_or_else(|| gone(name))?;
        let mut taken = BTreeMap::from([(IpAddr::V4(net.gateway()), "gateway".to_owned())]);
        for kept in &self.containers {
            let Some(joined) = kept.seen.networks.get(name) else { continue };
            let four = [joined.ipv4, joined.fixed_ipv4].into_iter().flatten().map(IpAddr::V4);
            let six = [joined.ipv6, joined.fixed_ipv6].into_iter().flatten().map(IpAddr::V6);
            taken.extend(four.chain(six).map(|address| (address, kept.seen.name.clone())));
        }
        Ok(taken)
    }

    /// Containers that this name leads to on the network.
    pub(super) fn resolve(&self, network: &str, name: &str) -> Vec<IpAddr> {
        let running = self.containers.iter().filter(|kept| kept.seen.status == Status::Running);
        let found = running.filter_map(|kept| {
            let joined = kept.seen.networks.get(network)?;
            (kept.seen.name == name || joined.aliases.contains(name)).then_some(joined)?;
            kept.seen.addresses.get(network).copied()
        });
        found.collect()
    }

    pub(super) fn connect(&mut self, id: &str, place: &Place) -> Result<bool> {
        let at = self.position(id)?;
        if self.containers[at].seen.networks.get(&place.network).is_some_and(|joined| joined.is_as(place)) {
            return Ok(false);
        }
        if !self.networks.contains_key(&place.network) {
            return Err(gone(&place.network));
        }
        self.disconnect(id, &place.network)?;
        self.containers[at].seen.networks.insert(place.network.clone(), joined(place));
        if self.containers[at].seen.status == Status::Running {
            self.give_address(at, &place.network)?;
        }
        Ok(true)
    }

    pub(super) fn disconnect(&mut self, id: &str, network: &str) -> Result<bool> {
        let Ok(at) = self.position(id) else { return Ok(false) };
        let seen = &mut self.containers[at].seen;
        seen.addresses.remove(network);
        Ok(seen.networks.remove(network).is_some())
    }

    /// What a start needs and may not get: every network, fixed addresses, ports.
    pub(super) fn admit(&self, at: usize) -> Result<()> {
        let kept = &self.containers[at];
        let refused = |why: String| RuntimeError::Refused { what: format!("start container {}", kept.seen.id), why };
        for (network, joined) in &kept.seen.networks {
            if !self.networks.contains_key(network) {
                return Err(gone(network));
            }
            if joined.fixed_ipv4.is_some_and(|ip| self.has_address(network, IpAddr::V4(ip))) {
                return Err(refused("Address already in use".into()));
            }
        }
        let ports: BTreeSet<(u16, bool)> = self.ports_taken().collect();
        let wanted = kept.publish.iter().filter_map(|publish| Some((publish.host_port?, publish.udp)));
        match wanted.into_iter().find(|port| ports.contains(port)) {
            Some((port, _)) => Err(refused(format!("Bind for 0.0.0.0:{port} failed: port is already allocated"))),
            None => Ok(()),
        }
    }

    /// Addresses and ports of a container that starts.
    pub(super) fn plug_in(&mut self, at: usize) {
        self.containers[at].seen.addresses.clear();
        let networks: Vec<String> = self.containers[at].seen.networks.keys().cloned().collect();
        for network in networks {
            // `admit` has looked, or the engine starts again what ran before.
            let _ = self.give_address(at, &network);
        }
        let taken: BTreeSet<(u16, bool)> = self.ports_taken().collect();
        let mut free =
            (FIRST_PORT..).filter(|port| !taken.contains(&(*port, false)) && !taken.contains(&(*port, true)));
        let kept = &mut self.containers[at];
        let published = kept
            .publish
            .iter()
            .map(|publish| Publish { host_port: publish.host_port.or_else(|| free.next()), ..publish.clone() });
        kept.seen.published = published.collect();
    }

    pub(super) fn unplug(&mut self, at: usize) {
        let seen = &mut self.containers[at].seen;
        seen.addresses.clear();
        seen.published.clear();
        for joined in seen.networks.values_mut() {
            (joined.ipv4, joined.ipv6) = (None, None);
        }
    }

    fn give_address(&mut self, at: usize, network: &str) -> Result<()> {
        let net = self.networks.get(network).ok_or_else(|| gone(network))?;
        let fixed = self.containers[at].seen.networks.get(network).and_then(|joined| joined.fixed_ipv4).map(IpAddr::V4);
        let full = || RuntimeError::Refused {
            what: format!("give an address on network `{network}`"),
            why: "no available IPv4 addresses".into(),
        };
        let address = match fixed {
            Some(fixed) => fixed,
            None => net.dynamic().find(|ip| !self.has_address(network, *ip)).ok_or_else(full)?,
        };
        let seen = &mut self.containers[at].seen;
        seen.addresses.insert(network.to_owned(), address);
        if let (Some(joined), IpAddr::V4(address)) = (seen.networks.get_mut(network), address) {
            joined.ipv4 = Some(address);
            joined.ipv6 = joined.fixed_ipv6;
        }
        Ok(())
    }

    fn has_address(&self, network: &str, address: IpAddr) -> bool {
        self.containers.iter().any(|kept| kept.seen.addresses.get(network) == Some(&address))
    }

    fn ports_taken(&self) -> impl Iterator<Item = (u16, bool)> {
        let published = |kept: &Kept| kept.seen.published.clone();
        self.containers.iter().flat_map(published).filter_map(|publish| Some((publish.host_port?, publish.udp)))
    }
}

pub(super) fn joined(place: &Place) -> Joined {
    Joined {
        aliases: place.aliases.iter().cloned().collect(),
        ipv4: None,
        ipv6: None,
        fixed_ipv4: place.ipv4,
        fixed_ipv6: place.ipv6,
        links: place.links.iter().cloned().collect(),
    }
}
