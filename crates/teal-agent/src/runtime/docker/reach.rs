//! Can this host reach containers at their addresses, and enter their network namespaces? Found by looking, since an Engine may
//! be rootless, in a virtual machine, or in other namespaces than the agent.

use super::super::{ContainerSpec, Result, Runtime, RuntimeError};
use super::DockerRuntime;
use super::connection::bounded;
use super::holder::IMAGE as HOLDER;
use crate::sockets::Sockets;
use bollard::models::{Network, SystemInfo};
use bollard::query_parameters::{ListContainersOptions, ListNetworksOptions};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::{IpAddr, UdpSocket};

/// Docker's own network, whose interface has the same name and often the same address on every host.
const DEFAULT: &str = "bridge";
const BRIDGE_NAME: &str = "com.docker.network.bridge.name";
/// Docker names the interface of a network after its id.
const ID_IN_NAME: usize = 12;
/// Of the containers that run already, so many are tried.
const TRIED: i32 = 3;
const TRIES: usize = 3;
/// What is tried where none of them can be entered.
const TRIAL: &str = "teal-trial";

impl DockerRuntime {
    /// Why this host cannot reach this Engine's containers at their addresses; None: it can.
    pub(super) async fn unreachable(&self, info: &SystemInfo) -> Result<Option<String>> {
        // Beside an Engine of root's there are networks with the same addresses here, so these are believed first.
        if info.security_options.iter().flatten().any(|option| option.contains("rootless")) {
            return Ok(Some("this Docker is rootless: its networks are in a namespace of its own".to_owned()));
        }
        if info.operating_system.as_ref().is_some_and(|system| system.contains("Docker Desktop")) {
            return Ok(Some("this Docker is Docker Desktop: its networks are in a virtual machine".to_owned()));
        }
        let client = self.connection.client().await?;
        let all = bounded(client.list_networks(None::<ListNetworksOptions>))
            .await
            .map_err(|error| self.connection.fault("list networks", error))?;
        let bridges: Vec<Bridge> = all.iter().filter_map(bridge).collect();
        Ok(judge(&bridges, &interfaces(), &is_here))
    }

    /// Why nobody here may enter the network namespace of a container; None: it was done.
    pub(super) async fn look_inside(&self) -> Result<Option<String>> {
        let client = self.connection.client().await?;
        let running = HashMap::from([("status".to_owned(), vec!["running".to_owned()])]);
        let options = ListContainersOptions { limit: Some(TRIED), filters: Some(running), ..Default::default() };
        let listed = bounded(client.list_containers(Some(options)))
            .await
            .map_err(|error| self.connection.fault("list containers", error))?;
        for id in listed.into_iter().filter_map(|one| one.id) {
            if self.container_inspect(&id).await?.is_some_and(|seen| enter(seen.pid).is_none()) {
                return Ok(None);
            }
        }
        // Those may have ended in this moment: one of our own does not.
        let mut tries = 0;
        loop {
            tries += 1;
            match self.try_one().await {
                // Another agent has tried at the same time, and taken container or image away.
                Err(RuntimeError::NotFound { .. }) if tries < TRIES => {}
                tried => return tried,
            }
        }
    }

    /// Of one name for all agents, so that the next one takes away what a crash has left.
    async fn try_one(&self) -> Result<Option<String>> {
        let image_id = self.holder_image().await?.id;
        let labels = BTreeMap::from([("teal.trial".to_owned(), "1".to_owned())]);
        let network_mode = Some("none".to_owned());
        let spec = ContainerSpec { name: TRIAL.to_owned(), image_id, labels, network_mode, ..ContainerSpec::default() };
        let made = self.ensure_container(&spec).await?;
        let tried = self.run_and_enter(&made.id).await;
        self.remove(&made.id, true).await?;
        self.image_remove(HOLDER).await?;
        tried
    }

    async fn run_and_enter(&self, id: &str) -> Result<Option<String>> {
        self.start(id).await?;
        let gone = || RuntimeError::NotFound { kind: "container", name: TRIAL.to_owned() };
        Ok(enter(self.container_inspect(id).await?.ok_or_else(gone)?.pid))
    }
}

fn enter(pid: i32) -> Option<String> {
    match u32::try_from(pid) {
        Ok(0) | Err(_) => Some("the processes of this Docker are not among those of this host".to_owned()),
        Ok(pid) => Sockets::of(pid).err().map(|error| format!("its network cannot be entered from here ({error})")),
    }
}

struct Bridge {
    name: String,
    interface: String,
    gateway: IpAddr,
}

fn bridge(network: &Network) -> Option<Bridge> {
    if network.driver.as_deref() != Some("bridge") {
        return None;
    }
    let named = network.options.as_ref().and_then(|options| options.get(BRIDGE_NAME)).cloned();
    let by_id = || Some(format!("br-{}", network.id.as_ref()?.get(..ID_IN_NAME)?));
    let pools = network.ipam.as_ref()?.config.as_deref().unwrap_or_default();
    let gateway = pools.iter().find_map(|pool| pool.gateway.as_deref()?.split('/').next()?.parse().ok())?;
    Some(Bridge { name: network.name.clone()?, interface: named.or_else(by_id)?, gateway })
}

/// A network whose interface is named after its id can be no other Engine's; Docker's own is asked where there is none.
fn judge(bridges: &[Bridge], interfaces: &BTreeSet<String>, is_here: &dyn Fn(IpAddr) -> bool) -> Option<String> {
    let (default, made): (Vec<&Bridge>, Vec<&Bridge>) = bridges.iter().partition(|bridge| bridge.name == DEFAULT);
    let asked = if made.is_empty() { default } else { made };
    let here = |bridge: &&Bridge| interfaces.contains(&bridge.interface) && is_here(bridge.gateway);
    let first = asked.first()?;
    if asked.iter().any(here) {
        return None;
    }
    Some(format!(
        "the networks of this Docker are not on this host: {}, the gateway of {}, is no address of it",
        first.gateway, first.name
    ))
}

/// Only an address of this host can be bound.
fn is_here(address: IpAddr) -> bool {
    UdpSocket::bind((address, 0)).is_ok()
}

/// Of the network namespace that this process is in.
fn interfaces() -> BTreeSet<String> {
    let listed = std::fs::read_to_string("/proc/self/net/dev").unwrap_or_default();
    listed.lines().filter_map(|line| Some(line.split_once(':')?.0.trim().to_owned())).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn bridge(name: &str, interface: &str, gateway: &str) -> Bridge {
        Bridge { name: name.to_owned(), interface: interface.to_owned(), gateway: gateway.parse().unwrap() }
    }

    #[test]
    fn networks_that_are_not_on_this_host_are_told_from_those_that_are() {
        let here = BTreeSet::from(["lo".to_owned(), "docker0".to_owned(), "br-aa".to_owned()]);
        let is_here = |address: IpAddr| ["172.17.0.1", "172.18.0.1"].iter().any(|one| address.to_string() == *one);
        let unreachable = |bridges: &[Bridge]| judge(bridges, &here, &is_here);
        let docker0 = || bridge("bridge", "docker0", "172.17.0.1");
        assert_eq!(unreachable(&[docker0()]), None);
        assert_eq!(unreachable(&[]), None, "nothing says that they are elsewhere");
        assert_eq!(unreachable(&[docker0(), bridge("shop", "br-aa", "172.18.0.1")]), None);
        let why = unreachable(&[docker0(), bridge("shop", "br-bb", "172.18.0.1")]).unwrap();
        assert!(why.contains("172.18.0.1, the gateway of shop"), "{why}");
        assert!(unreachable(&[bridge("bridge", "docker0", "192.168.65.1")]).is_some());
    }

    #[test]
    fn addresses_and_interfaces_of_this_host_are_known() {
        assert!(interfaces().contains("lo"));
        assert!(is_here("127.0.0.1".parse().unwrap()));
        assert!(!is_here("192.0.2.1".parse().unwrap()), "TEST-NET-1 is nobody's");
    }
}
