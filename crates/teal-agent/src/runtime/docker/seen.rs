//! Docker's words for images and containers into Teal's. Nothing here talks to the daemon.

use super::super::{Container, ContainerHealth, HeldVolume, Image, ImageOnDisk, Joined, Publish, Rhythm, Status};
use super::pid::is_of;
use bollard::models::{
    ContainerInspectResponse, ContainerState, ContainerStateStatusEnum, EndpointSettings, HealthConfig,
    HealthStatusEnum, ImageInspect, ImageSummary, MountPoint, NetworkSettings,
};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;
use teal_model::config::{ExposedPort, Protocol};

/// How much of a container's id Docker makes a name of it.
const SHORT_ID: usize = 12;
/// Of the names that Docker gives to anonymous volumes.
const ANONYMOUS_DIGITS: usize = 64;

pub fn image(seen: ImageInspect) -> Image {
    let config = seen.config.unwrap_or_default();
    let tested = config.healthcheck.and_then(|h| h.test).is_some_and(|t| t.first().is_some_and(|kind| kind != "NONE"));
    let mut exposed: Vec<ExposedPort> =
        config.exposed_ports.iter().flatten().filter_map(|port| exposed(port)).collect();
    exposed.sort_unstable();
    let mut volumes = config.volumes.unwrap_or_default();
    volumes.sort_unstable();
    Image {
        id: seen.id.unwrap_or_default(),
        repo_digests: seen.repo_digests.unwrap_or_default(),
        exposed,
        volumes,
        has_healthcheck: tested,
        labels: config.labels.unwrap_or_default().into_iter().collect(),
        entrypoint: config.entrypoint.unwrap_or_default(),
        command: config.cmd.unwrap_or_default(),
        layers: seen.root_fs.and_then(|root| root.layers).unwrap_or_default(),
    }
}

pub fn image_on_disk(seen: ImageSummary) -> ImageOnDisk {
    // What has no name is called so by older engines.
    let named = |names: Vec<String>| names.into_iter().filter(|name| !name.contains("<none>")).collect::<Vec<_>>();
    let tags = named(seen.repo_tags);
    let names = if tags.is_empty() { named(seen.repo_digests) } else { tags };
    ImageOnDisk {
        id: seen.id,
        names,
        bytes: u64::try_from(seen.size).unwrap_or_default(),
        parent: Some(seen.parent_id).filter(|parent| !parent.is_empty()),
    }
}

/// `8080`, `8080/tcp`, `53/udp`; Teal has no word for SCTP.
fn exposed(text: &str) -> Option<ExposedPort> {
    let (number, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let protocol = match protocol {
        "tcp" => Protocol::Tcp,
        "udp" => Protocol::Udp,
        _ => return None,
    };
    Some(ExposedPort { port: number.parse().ok()?, protocol })
}

pub fn container(seen: ContainerInspectResponse) -> Container {
    let state = seen.state.unwrap_or_default();
    let running = state.running.unwrap_or(false);
    let id = seen.id.unwrap_or_default();
    let settings = seen.network_settings.unwrap_or_default();
    let published = published(&settings);
    let endpoints = settings.networks.unwrap_or_default();
    let config = seen.config.unwrap_or_default();
    Container {
        name: seen.name.unwrap_or_default().trim_start_matches('/').to_owned(),
        labels: config.labels.unwrap_or_default().into_iter().collect(),
        image_id: seen.image.unwrap_or_default(),
        status: status(&state),
        health: health(&state),
        rhythm: health(&state).and(config.healthcheck.as_ref().map(rhythm)),
        restarts: seen.restart_count.and_then(|n| u64::try_from(n).ok()).unwrap_or(0),
        pid: running
            .then(|| state.pid.and_then(|pid| i32::try_from(pid).ok()))
            .flatten()
            .filter(|pid| is_of(*pid, &id))
            .unwrap_or(0),
        started_at: state.started_at.unwrap_or_default(),
        addresses: endpoints.iter().filter_map(|(name, e)| Some((name.clone(), address(e)?))).collect(),
        networks: endpoints.into_iter().map(|(name, endpoint)| (name, joined(&id, endpoint))).collect(),
        published,
        volumes: volumes(seen.mounts.unwrap_or_default()),
        id,
    }
}

fn address(endpoint: &EndpointSettings) -> Option<IpAddr> {
    parse(&endpoint.ip_address).or_else(|| parse(&endpoint.global_ipv6_address))
}

/// Docker's word for no address is an empty one.
fn parse<T: std::str::FromStr>(text: &Option<String>) -> Option<T> {
    text.as_deref().and_then(|text| text.parse().ok())
}

pub fn joined(id: &str, endpoint: EndpointSettings) -> Joined {
    let asked = endpoint.ipam_config.unwrap_or_default();
    // Before API 1.45 the short id is among the aliases.
    let short = id.get(..SHORT_ID).unwrap_or(id);
    Joined {
        aliases: endpoint.aliases.into_iter().flatten().filter(|alias| alias != short).collect(),
        ipv4: parse(&endpoint.ip_address),
        ipv6: parse(&endpoint.global_ipv6_address),
        fixed_ipv4: parse(&asked.ipv4_address),
        fixed_ipv6: parse(&asked.ipv6_address),
        links: endpoint.links.into_iter().flatten().collect(),
    }
}

fn published(settings: &NetworkSettings) -> Vec<Publish> {
    let mut all = Vec::new();
    for (port, bindings) in settings.ports.iter().flatten() {
        let Some(inside) = exposed(port) else { continue };
        for binding in bindings.iter().flatten() {
            let ip: Option<IpAddr> = parse(&binding.host_ip);
            all.push(Publish {
                host_ip: ip.filter(|ip| !ip.is_unspecified()),
                host_port: parse(&binding.host_port),
                container_port: inside.port,
                udp: inside.protocol == Protocol::Udp,
            });
        }
    }
    all.sort_unstable();
    // `0.0.0.0` and `::` are both every address.
    all.dedup();
    all
}

fn volumes(mounts: Vec<MountPoint>) -> BTreeMap<String, HeldVolume> {
    let held = mounts.into_iter().filter_map(|mount| {
        let name = mount.name.filter(|name| !name.is_empty())?;
        let anonymous = name.len() == ANONYMOUS_DIGITS && name.chars().all(|c| c.is_ascii_hexdigit());
        Some((mount.destination?, HeldVolume { name, anonymous }))
    });
    held.collect()
}

fn status(state: &ContainerState) -> Status {
    use ContainerStateStatusEnum as S;
    match state.status {
        Some(S::RUNNING | S::STOPPING) => Status::Running,
        Some(S::PAUSED) => Status::Paused,
        Some(S::RESTARTING) => Status::Restarting,
        Some(S::REMOVING) => Status::Removing,
        Some(S::DEAD) => Status::Dead,
        Some(S::EXITED) => {
            Status::Exited { code: state.exit_code.unwrap_or(-1), out_of_memory: state.oom_killed.unwrap_or(false) }
        }
        Some(S::CREATED | S::EMPTY) | None => Status::Created,
    }
}

fn health(state: &ContainerState) -> Option<ContainerHealth> {
    let health = state.health.as_ref()?;
    Some(match health.status? {
        HealthStatusEnum::STARTING => ContainerHealth::Starting,
        HealthStatusEnum::HEALTHY => ContainerHealth::Healthy,
        HealthStatusEnum::UNHEALTHY => {
            let output = health.log.as_ref().and_then(|log| log.last()?.output.as_deref());
            ContainerHealth::Unhealthy(output.unwrap_or_default().trim().to_owned())
        }
        HealthStatusEnum::NONE | HealthStatusEnum::EMPTY => return None,
    })
}

fn rhythm(check: &HealthConfig) -> Rhythm {
    let time = |nanoseconds: Option<i64>| nanoseconds.and_then(|ns| u64::try_from(ns).ok()).map(Duration::from_nanos);
    Rhythm::of(time(check.interval), time(check.timeout))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use bollard::models::{ImageConfig, PortBinding};
    use std::collections::HashMap;

    #[test]
    fn exposed_ports_tell_tcp_from_udp() {
        let config = ImageConfig {
            exposed_ports: Some(vec!["8080/tcp".into(), "53/udp".into(), "80/tcp".into(), "9/sctp".into()]),
            ..Default::default()
        };
        let seen = image(ImageInspect { config: Some(config), ..Default::default() });
        let port = |port, protocol| ExposedPort { port, protocol };
        assert_eq!(seen.exposed, [port(53, Protocol::Udp), port(80, Protocol::Tcp), port(8080, Protocol::Tcp)]);
        assert!(!seen.has_healthcheck);
    }

    #[test]
    fn the_short_id_that_old_engines_add_is_no_alias() {
        let endpoint = EndpointSettings {
            aliases: Some(vec!["web".into(), "0123456789ab".into()]),
            ip_address: Some(String::new()),
            ..Default::default()
        };
        let joined = joined("0123456789abcdef", endpoint);
        assert_eq!(joined.aliases.into_iter().collect::<Vec<_>>(), ["web"]);
        assert_eq!(joined.ipv4, None);
    }

    #[test]
    fn a_port_on_every_address_is_one_publication() {
        let on = |ip: &str| PortBinding { host_ip: Some(ip.into()), host_port: Some("8080".into()) };
        let ports =
            HashMap::from([("80/tcp".to_owned(), Some(vec![on("0.0.0.0"), on("::")])), ("90/tcp".to_owned(), None)]);
        let seen = published(&NetworkSettings { ports: Some(ports), ..Default::default() });
        assert_eq!(seen, [Publish { host_ip: None, host_port: Some(8080), container_port: 80, udp: false }]);
    }

    #[test]
    fn a_healthcheck_that_does_not_say_when_is_made_as_docker_does() {
        let second = 1_000_000_000;
        let of = |interval, timeout| rhythm(&HealthConfig { interval, timeout, ..Default::default() });
        let seconds = |check: Rhythm| (check.every.as_secs(), check.within.as_secs(), check.agrees_within().as_secs());
        assert_eq!(seconds(of(Some(10 * second), Some(2 * second))), (10, 2, 15));
        assert_eq!(seconds(of(Some(0), None)), (30, 30, 60));
    }

    #[test]
    fn an_anonymous_volume_is_told_by_its_name() {
        let mount = |name: &str, at: &str| MountPoint {
            name: Some(name.into()),
            destination: Some(at.into()),
            ..Default::default()
        };
        let seen = volumes(vec![mount(&"0a".repeat(32), "/a"), mount("shop_data", "/b"), MountPoint::default()]);
        assert!(seen["/a"].anonymous && !seen["/b"].anonymous && seen.len() == 2);
    }
}
