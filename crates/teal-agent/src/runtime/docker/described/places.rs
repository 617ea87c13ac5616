//! Where a container stands: its networks, its published ports, and how it is called.

use super::super::seen::joined;
use super::{key, sorted};
use bollard::models::{ContainerConfig, ContainerInspectResponse, HostConfig, ImageConfig};
use std::collections::BTreeSet;
use std::net::IpAddr;
use teal_model::api::DescribedContainer;
use teal_model::config::{Attachment, DEFAULT_NETWORK, ExposedPort, Network, NetworkMode, Port, Protocol};

const SHORT_ID: usize = 12;
/// Docker's own network, where nobody has a name.
const BRIDGE: &str = "bridge";

pub fn read(
    seen: &ContainerInspectResponse,
    config: &ContainerConfig,
    host: &HostConfig,
    image: &ImageConfig,
    out: &mut DescribedContainer,
) {
    let mode = host.network_mode.as_deref().unwrap_or_default();
    let shares = mode == "host" || mode.starts_with("container:");
    let given = |word: &Option<String>| word.clone().filter(|word| !word.is_empty() && !shares);
    let short = out.id.get(..SHORT_ID).unwrap_or_default().to_owned();
    out.service.container.resolver.hostname = given(&config.hostname).filter(|name| *name != short);
    out.service.container.resolver.domainname = given(&config.domainname);
    match mode {
        "host" => out.service.network_mode = Some(NetworkMode::Host),
        "none" => out.service.network_mode = Some(NetworkMode::None),
        "" | "default" | BRIDGE => {
            out.service.networks.insert(DEFAULT_NETWORK.to_owned(), Attachment::default());
            out.notes.push(
                "it is on Docker's own bridge; from the first deployment on it is in a network of the project"
                    .to_owned(),
            );
        }
        other => {
            let container = other.strip_prefix("container:");
            out.service.network_mode = container.map(|id| NetworkMode::Container(id.to_owned()));
        }
    }
    if out.service.network_mode.is_none() {
        networks(seen, out);
    }
    ports(seen, host, out);
    let published: BTreeSet<u16> = out.service.ports.iter().map(|port| port.target).collect();
    let images = image.exposed_ports.as_deref().unwrap_or_default();
    let own = config.exposed_ports.iter().flatten().filter(|port| !images.contains(port));
    let mut expose: Vec<ExposedPort> = own.filter_map(|port| inside(port)).collect();
    expose.retain(|port| !published.contains(&port.port));
    expose.sort_unstable();
    out.service.expose = expose;
}

fn networks(seen: &ContainerInspectResponse, out: &mut DescribedContainer) {
    let all = seen.network_settings.iter().flat_map(|settings| settings.networks.iter().flatten());
    for (name, endpoint) in all {
        if name == BRIDGE {
            if !out.service.networks.contains_key(DEFAULT_NETWORK) {
                out.unsaid.push("its place on Docker's own bridge beside its networks".to_owned());
            }
            continue;
        }
        let place = joined(&out.id, endpoint.clone());
        out.service.external_links.extend(place.links);
        let attachment = Attachment {
            aliases: place.aliases.into_iter().filter(|alias| *alias != out.name).collect(),
            ipv4_address: place.fixed_ipv4.map(IpAddr::V4),
            ipv6_address: place.fixed_ipv6.map(IpAddr::V6),
            gw_priority: endpoint.gw_priority.unwrap_or(0),
            driver_opts: sorted(endpoint.driver_opts.clone()),
            ..Attachment::default()
        };
        out.service.networks.insert(key(name), attachment);
        out.networks.insert(key(name), Network { name: name.clone(), external: true, ..Network::default() });
    }
    out.service.external_links.sort_unstable();
    out.service.external_links.dedup();
}

/// What was asked for, with Docker's choice where it was asked to choose.
fn ports(seen: &ContainerInspectResponse, host: &HostConfig, out: &mut DescribedContainer) {
    let actual = seen.network_settings.as_ref().and_then(|settings| settings.ports.clone()).unwrap_or_default();
    let mut ports: Vec<Port> = Vec::new();
    let asked = host.port_bindings.clone().unwrap_or_default();
    let chosen = |text: &str| {
        let binding = actual.get(text)?.as_ref()?.first()?;
        binding.host_port.as_deref()?.parse::<u16>().ok()
    };
    let all = if host.publish_all_ports == Some(true) { actual.keys().collect::<Vec<_>>() } else { Vec::new() };
    let words: BTreeSet<&String> = asked.keys().chain(all).collect();
    for text in words {
        let Some(target) = inside(text) else {
            out.unsaid.push(format!("the published port {text}, whose protocol Teal does not carry"));
            continue;
        };
        let bindings = asked.get(text).cloned().flatten().filter(|list| !list.is_empty());
        for binding in bindings.unwrap_or_else(|| vec![Default::default()]) {
            let fixed = binding.host_port.as_deref().and_then(|port| port.parse::<u16>().ok()).filter(|port| *port > 0);
            let Some(published) = fixed.or_else(|| chosen(text)) else {
                out.unsaid.push(format!("a published port for {text}: Docker has given it none"));
                continue;
            };
            if fixed.is_none() {
                out.notes.push(format!("Docker had chosen the port {published} for {text}; the file fixes it"));
            }
            ports.push(Port {
                host_ip: binding.host_ip.as_deref().and_then(|ip| ip.parse().ok()),
                published,
                target: target.port,
                protocol: target.protocol,
                app_protocol: None,
            });
        }
    }
    ports.sort_by_key(|port| (port.published, port.target, port.host_ip));
    out.service.ports = ports;
}

fn inside(text: &str) -> Option<ExposedPort> {
    let (number, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let protocol = match protocol {
        "tcp" => Protocol::Tcp,
        "udp" => Protocol::Udp,
        _ => return None,
    };
    Some(ExposedPort { port: number.parse().ok()?, protocol })
}
