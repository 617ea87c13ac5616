//! A container's places in networks: at its creation and afterwards, and the ports that Docker publishes.

use super::super::{Container, ContainerSpec, Joined, Place, Result, RuntimeError};
use super::DockerRuntime;
use super::connection::{bounded, status};
use super::lifecycle::plain;
use super::seen::joined;
use super::version::Speaks;
use bollard::models::{
    EndpointIpamConfig, EndpointSettings, NetworkConnectRequest, NetworkDisconnectRequest, NetworkingConfig,
    PortBinding, PortMap,
};
use std::collections::{BTreeSet, HashMap};
use teal_model::config::Protocol;

/// Networks without a name service: Docker refuses aliases there.
const PLAIN_NETWORKS: [&str; 4] = ["host", "none", "bridge", "default"];
/// What Docker and Compose call it: `interface_name` is an option of the network's driver.
const MAC_OF_ANOTHER: &str = "networks.NAME.mac_address (of all but the first network)";
const INTERFACE_NAME: &str = "com.docker.network.endpoint.ifname";

/// The one that a container is created in: that with the highest priority.
pub fn first(spec: &ContainerSpec) -> Option<&Place> {
    // The last of equals would win.
    spec.networks.iter().rev().max_by_key(|place| place.priority)
}

/// `HostConfig.NetworkMode`: Docker's word, else the first network.
pub fn mode(spec: &ContainerSpec) -> Option<String> {
    spec.network_mode.clone().or_else(|| first(spec).map(|place| place.network.clone()))
}

/// Docker before API 1.44 takes one network at the creation, so that is all that any gets; the others follow by `connect`.
pub fn networking(spec: &ContainerSpec, speaks: &Speaks) -> Result<Option<NetworkingConfig>> {
    let Some(place) = first(spec) else { return Ok(None) };
    if let Some(mode) = &spec.network_mode
        && *mode != place.network
    {
        return Err(
            speaks.refused(format!("`network_mode: {mode}` leaves no place for the network `{}`", place.network))
        );
    }
    let endpoint = endpoint(place, speaks)?;
    Ok(Some(NetworkingConfig { endpoints_config: Some(HashMap::from([(place.network.clone(), endpoint)])) }))
}

/// What the networks after the first cannot say is refused before there is a container.
pub fn refuse_unsayable(spec: &ContainerSpec, speaks: &Speaks) -> Result<()> {
    let created_in = first(spec).map(|place| place.network.as_str());
    for place in spec.networks.iter().filter(|place| Some(place.network.as_str()) != created_in) {
        if place.mac.is_some() {
            speaks.needs(MAC_OF_ANOTHER, "25.0", 44)?;
        }
        endpoint(place, speaks)?;
    }
    Ok(())
}

/// The first network's address before API 1.44, where it is the container's.
pub fn old_mac<'a>(spec: &'a ContainerSpec, speaks: &Speaks) -> Option<&'a str> {
    first(spec)?.mac.as_deref().filter(|_| !speaks.at_least(44))
}

fn endpoint(place: &Place, speaks: &Speaks) -> Result<EndpointSettings> {
    let named = !PLAIN_NETWORKS.contains(&place.network.as_str());
    let mut options = place.driver_opts.clone();
    if let Some(name) = &place.interface_name {
        speaks.needs("interface_name", "28.1", 49)?;
        options.insert(INTERFACE_NAME.to_owned(), name.clone());
    }
    if place.gw_priority != 0 {
        speaks.needs("gw_priority", "28.0", 48)?;
    }
    let fixed = place.ipv4.is_some() || place.ipv6.is_some() || !place.link_local.is_empty();
    Ok(EndpointSettings {
        aliases: named.then(|| place.aliases.clone()),
        links: (!place.links.is_empty()).then(|| place.links.clone()),
        ipam_config: fixed.then(|| EndpointIpamConfig {
            ipv4_address: place.ipv4.map(|ip| ip.to_string()),
            ipv6_address: place.ipv6.map(|ip| ip.to_string()),
            link_local_ips: (!place.link_local.is_empty())
                .then(|| place.link_local.iter().map(ToString::to_string).collect()),
        }),
        mac_address: place.mac.clone().filter(|_| speaks.at_least(44)),
        driver_opts: (!options.is_empty()).then(|| options.into_iter().collect()),
        gw_priority: (place.gw_priority != 0).then_some(place.gw_priority),
        ..Default::default()
    })
}

fn port(number: u16, protocol: Protocol) -> String {
    match protocol {
        Protocol::Tcp => format!("{number}/tcp"),
        Protocol::Udp => format!("{number}/udp"),
    }
}

fn protocol(udp: bool) -> Protocol {
    if udp { Protocol::Udp } else { Protocol::Tcp }
}

/// `expose` and what is published; Docker wants the latter among the former.
pub fn exposed(spec: &ContainerSpec) -> Option<Vec<String>> {
    let written = spec.expose.iter().map(|exposed| port(exposed.port, exposed.protocol));
    let published = spec.publish.iter().map(|publish| port(publish.container_port, protocol(publish.udp)));
    let all: BTreeSet<String> = written.chain(published).collect();
    (!all.is_empty()).then(|| all.into_iter().collect())
}

pub fn bindings(spec: &ContainerSpec) -> Option<PortMap> {
    let mut ports = PortMap::new();
    for publish in &spec.publish {
        let binding = PortBinding {
            host_ip: publish.host_ip.map(|ip| ip.to_string()),
            host_port: Some(publish.host_port.map(|port| port.to_string()).unwrap_or_default()),
        };
        let inside = port(publish.container_port, protocol(publish.udp));
        ports.entry(inside).or_default().get_or_insert_default().push(binding);
    }
    (!ports.is_empty()).then_some(ports)
}

impl DockerRuntime {
    /// Into those of its networks that it is not in yet; whether there were any.
    pub(super) async fn join_the_rest(&self, seen: &Container, spec: &ContainerSpec) -> Result<bool> {
        let mut places: Vec<&Place> = spec.networks.iter().collect();
        places.sort_by_key(|place| std::cmp::Reverse(place.priority));
        places.retain(|place| !seen.networks.contains_key(&place.network));
        for place in &places {
            self.network_connect(&seen.id, place).await?;
        }
        Ok(!places.is_empty())
    }

    pub(super) async fn network_connect(&self, id: &str, place: &Place) -> Result<()> {
        let id = plain(id)?;
        match self.joined_as(id, &place.network).await? {
            Some(joined) if joined.is_as(place) => return Ok(()),
            Some(_) => self.network_disconnect(id, &place.network).await?,
            None => {}
        }
        let what = format!("connect container {id} to network `{}`", place.network);
        let client = self.connection.client().await?;
        let speaks = Speaks::new(client.client_version(), &what);
        if place.mac.is_some() {
            speaks.needs(MAC_OF_ANOTHER, "25.0", 44)?;
        }
        let request =
            NetworkConnectRequest { container: id.to_owned(), endpoint_config: Some(endpoint(place, &speaks)?) };
        match bounded(client.connect_network(plain_network(&place.network)?, request)).await {
            Ok(()) => Ok(()),
            // Somebody was quicker, or an earlier try whose answer was lost.
            Err(error) if error.to_string().contains("already exists in network") => Ok(()),
            Err(error) => Err(self.connection.fault(what, error)),
        }
    }

    pub(super) async fn network_disconnect(&self, id: &str, network: &str) -> Result<()> {
        let Ok(id) = plain(id) else { return Ok(()) };
        if self.joined_as(id, network).await?.is_none() {
            return Ok(());
        }
        let client = self.connection.client().await?;
        let request = NetworkDisconnectRequest { container: id.to_owned(), force: None };
        match bounded(client.disconnect_network(plain_network(network)?, request)).await {
            Ok(()) => Ok(()),
            Err(error) if status(&error) == Some(404) || error.to_string().contains("is not connected") => Ok(()),
            Err(error) => {
                Err(self.connection.fault(format!("disconnect container {id} from network `{network}`"), error))
            }
        }
    }

    async fn joined_as(&self, id: &str, network: &str) -> Result<Option<Joined>> {
        let client = self.connection.client().await?;
        match bounded(client.inspect_container(id, None)).await {
            Ok(seen) => {
                let full = seen.id.unwrap_or_default();
                let endpoints = seen.network_settings.and_then(|settings| settings.networks);
                Ok(endpoints.and_then(|mut all| all.remove(network)).map(|endpoint| joined(&full, endpoint)))
            }
            Err(error) if status(&error) == Some(404) => Ok(None),
            Err(error) => Err(self.connection.fault(format!("inspect container {id}"), error)),
        }
    }
}

/// A network's name goes into the path of a request.
fn plain_network(name: &str) -> Result<&str> {
    plain(name).map_err(|_| RuntimeError::NotFound { kind: "network", name: name.to_owned() })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::super::Publish;
    use super::*;
    use bollard::ClientVersion;

    fn speaks(minor: usize) -> Speaks {
        Speaks::new(ClientVersion { major_version: 1, minor_version: minor }, "create container `a`")
    }

    fn place(network: &str, priority: i64) -> Place {
        Place { network: network.into(), priority, ..Default::default() }
    }

    #[test]
    fn the_first_network_is_the_one_with_the_highest_priority_then_the_one_written_first() {
        let mut spec =
            ContainerSpec { networks: vec![place("a", 0), place("b", 7), place("c", 7)], ..Default::default() };
        assert_eq!(mode(&spec).as_deref(), Some("b"));
        spec.networks.truncate(1);
        assert_eq!(mode(&spec).as_deref(), Some("a"));
        spec.network_mode = Some("host".into());
        assert_eq!(mode(&spec).as_deref(), Some("host"));
        assert!(networking(&spec, &speaks(41)).unwrap_err().to_string().contains("network_mode: host"));
    }

    #[test]
    fn what_an_endpoint_cannot_say_on_an_old_engine_is_refused_by_key() {
        for (place, key, enough) in [
            (Place { interface_name: Some("lan0".into()), ..place("n", 0) }, "interface_name", 49),
            (Place { gw_priority: 3, ..place("n", 0) }, "gw_priority", 48),
        ] {
            let text = endpoint(&place, &speaks(enough - 1)).unwrap_err().to_string();
            assert!(text.contains(key), "{text}");
            assert!(endpoint(&place, &speaks(enough)).is_ok());
        }
        let mac = Place { mac: Some("02:42:ac:11:00:02".into()), ..place("n", 0) };
        let spec = ContainerSpec { networks: vec![mac.clone()], ..Default::default() };
        assert_eq!(endpoint(&mac, &speaks(43)).unwrap().mac_address, None);
        assert_eq!(old_mac(&spec, &speaks(43)), mac.mac.as_deref());
        assert_eq!(endpoint(&mac, &speaks(44)).unwrap().mac_address, mac.mac);
        assert_eq!(old_mac(&spec, &speaks(44)), None);
    }

    #[test]
    fn published_ports_are_exposed_and_may_be_published_twice() {
        let publish = |host_port, udp| Publish { host_ip: None, host_port, container_port: 53, udp };
        let spec = ContainerSpec {
            publish: vec![publish(Some(5353), true), publish(None, true), publish(Some(53), false)],
            ..Default::default()
        };
        assert_eq!(exposed(&spec).unwrap(), ["53/tcp", "53/udp"]);
        let ports = bindings(&spec).unwrap();
        let hosts = |key: &str| {
            ports[key].iter().flatten().map(|b| b.host_port.clone().unwrap_or_default()).collect::<Vec<_>>()
        };
        assert_eq!((hosts("53/udp"), hosts("53/tcp")), (vec!["5353".to_owned(), String::new()], vec!["53".to_owned()]));
    }
}
