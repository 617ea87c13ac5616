//! Where this host reaches the ports of a replica: at the container's own address, or at ports of the host that Docker
//! publishes for it.
//!
//! ```text
//! Reach::Address   host ─────────────────────────────▶ 172.18.0.3:8080
//! Reach::Ports     host ─▶ 127.0.0.1:20417 ─ Docker ─▶ 172.18.0.3:8080     20417 is kept for color and index
//! ```

use crate::agent::Agent;
use crate::journal::{HostPort, Slot};
use crate::publish::given_port;
use crate::runtime::{Container, Publish, label};
use crate::store::StoredRelease;
use crate::traffic::shared::holders;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::ops::RangeInclusive;
use teal_model::config::{Probe, Protocol, Service};
use teal_model::fault::{Code, Fault};
use teal_model::ids::{Color, ReleaseKey};
use teal_model::plan::Reach;

/// Where ports of replicas are published while nobody but this host is to reach them.
pub const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
/// Below what Linux gives to connections by itself, and few programs ask for them.
const RANGE: RangeInclusive<u16> = 20_000..=29_999;
/// Of that range, what well-known servers listen on.
const WELL_KNOWN: [u16; 8] = [22_000, 25_565, 26_257, 26_379, 27_017, 27_018, 27_019, 28_015];
const LOCAL_PORTS: &str = "/proc/sys/net/ipv4/ip_local_port_range";

/// Where this host reaches the ports of one run of a container.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Ways {
    address: Option<IpAddr>,
    published: BTreeMap<u16, SocketAddr>,
}

impl Ways {
    /// As the container itself shows them.
    pub fn of(container: &Container, reach: &Reach) -> Self {
        let address = container.addresses.values().next().copied().filter(|_| reach.has_addresses());
        let published = container.published.iter().filter(|port| reach.is_ports() && !port.udp);
        // An address of its own goes before a port that is published for everybody.
        let mut published: Vec<_> = published.collect();
        published.sort_by_key(|port| port.host_ip.is_some());
        let at = |port: &Publish| Some(SocketAddr::new(port.host_ip.unwrap_or(LOOPBACK), port.host_port?));
        Self {
            address,
            published: published.into_iter().filter_map(|port| Some((port.container_port, at(port)?))).collect(),
        }
    }

    /// None: nowhere.
    pub fn to(&self, port: u16) -> Option<SocketAddr> {
        self.published.get(&port).copied().or_else(|| Some(SocketAddr::new(self.address?, port)))
    }

    /// Docker takes the connection first: that it was taken does not say that anybody listens in the container.
    pub fn is_relayed(&self, port: u16) -> bool {
        self.published.contains_key(&port)
    }

    pub fn is_empty(&self) -> bool {
        self.address.is_none() && self.published.is_empty()
    }

    /// For people: its ports of the host, else its address.
    pub fn words(&self) -> Option<String> {
        let ports: Vec<String> = self.published.values().map(ToString::to_string).collect();
        let address = || self.address.map(|address| address.to_string());
        if ports.is_empty() { address() } else { Some(ports.join(" ")) }
    }

    #[cfg(test)]
    pub fn at(address: IpAddr) -> Self {
        Self { address: Some(address), ..Self::default() }
    }

    #[cfg(test)]
    pub fn relayed(ports: impl IntoIterator<Item = (u16, SocketAddr)>) -> Self {
        Self { address: None, published: ports.into_iter().collect() }
    }
}

/// The container ports that the host may have to reach.
fn targets(stored: &StoredRelease) -> BTreeSet<u16> {
    let service = &stored.service;
    if let Some(nginx) = service.teal.nginx.as_ref().filter(|_| stored.reach.has_addresses()) {
        return nginx.port.into_iter().chain(asked(service)).collect();
    }
    let published = service.ports.iter().filter(|port| port.protocol == Protocol::Tcp).map(|port| port.target);
    let exposed = service.expose.iter().filter(|port| port.protocol == Protocol::Tcp).map(|port| port.port);
    published.chain(exposed).chain(asked(service)).chain(stored.exposed.iter().copied()).collect()
}

/// The port that readiness is asked at, where one is written.
fn asked(service: &Service) -> Option<u16> {
    match &service.teal.health.probe {
        Probe::Http { port, .. } | Probe::Tcp { port } => *port,
        Probe::Default | Probe::None => None,
    }
}

impl Agent {
    /// What Docker publishes of a replica at `on`, so that the host reaches it: ports that its color and index keep.
    pub async fn reached_at(
        &self,
        release: &ReleaseKey,
        stored: &StoredRelease,
        (color, replica): (Color, u32),
        on: IpAddr,
    ) -> Result<Vec<Publish>, Fault> {
        if !stored.reach.is_ports() {
            return Ok(Vec::new());
        }
        let mut all = Vec::new();
        for target in targets(stored) {
            if let Some(port) = given_port(stored, color, replica, target) {
                if !is_free(on, port) && !self.is_there(release, replica).await? {
                    return Err(self.taken(color, SocketAddr::new(on, port)).await);
                }
                all.push(Publish { host_ip: Some(on), host_port: Some(port), container_port: target, udp: false });
                continue;
            }
            let slot = Slot { service: release.service.clone(), color, replica, target };
            let port = match self.journal.host_port(&slot)?.filter(|port| !is_free(on, *port)) {
                // The container is there already, and it is itself who has bound it.
                Some(port) if self.is_there(release, replica).await? => port,
                _ => self.assign(&slot, on)?,
            };
            all.push(Publish { host_ip: Some(on), host_port: Some(port), container_port: target, udp: false });
        }
        Ok(all)
    }

    async fn taken(&self, color: Color, at: SocketAddr) -> Fault {
        let (port, who) = (at.port(), holders(at));
        let what = format!("port {port}, which `x-teal.nginx.ports` gives to {color}, is in use by {who}");
        let names = match self.runtime.publishing(port).await {
            Ok(names) => names.into_iter().map(|name| format!("the container {name} publishes port {port}")).collect(),
            Err(error) => vec![format!("which container publishes it is not known: {error}")],
        };
        Fault::new(Code::PortInUse, what)
            .hint("end what has it, or take `ports` out: they are chosen free then")
            .detail(names)
    }

    async fn is_there(&self, release: &ReleaseKey, replica: u32) -> Result<bool, Fault> {
        let index = replica.to_string();
        let all = self.containers_of(release).await?;
        Ok(all.iter().any(|container| container.labels.get(label::REPLICA) == Some(&index)))
    }

    fn assign(&self, slot: &Slot, on: IpAddr) -> Result<u16, Fault> {
        let free = |port| is_free(on, port);
        let none = || {
            let what = format!("no port between {} and {} is free on {on}", RANGE.start(), RANGE.end());
            Fault::new(Code::PortInUse, what)
                .hint("each replica is published at ports of its own here: end what has so many")
        };
        let HostPort { port, instead_of } =
            self.journal.assign_host_port(slot, candidates(&self.id, local_ports()), free)?.ok_or_else(none)?;
        let Slot { service, color, replica, target } = slot;
        if let Some(before) = instead_of {
            tracing::warn!(%service, %color, replica, target, before, port, "somebody else has the port that it kept: it gets another");
        }
        Ok(port)
    }
}

fn is_free(on: IpAddr, port: u16) -> bool {
    TcpListener::bind((on, port)).is_ok()
}

/// Each agent begins at a place of its own, so that two of a host seldom want the same one.
fn candidates(agent: &str, local: RangeInclusive<u16>) -> impl Iterator<Item = u16> {
    let size = RANGE.len();
    let first = agent.bytes().fold(0usize, |sum, byte| (sum * 31 + usize::from(byte)) % size);
    let all = RANGE.skip(first).chain(RANGE.take(first));
    all.filter(move |port| !local.contains(port) && !WELL_KNOWN.contains(port))
}

/// What Linux gives to connections that ask for no port. Where nobody says: none of ours.
fn local_ports() -> RangeInclusive<u16> {
    let read = || {
        let text = std::fs::read_to_string(LOCAL_PORTS).ok()?;
        let mut words = text.split_whitespace().map(str::parse);
        Some(words.next()?.ok()?..=words.next()?.ok()?)
    };
    read().unwrap_or(32_768..=60_999)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use teal_model::config::{ExposedPort, Port, Service};

    fn ports(only: bool) -> Reach {
        Reach::Ports { why: String::new(), only }
    }

    #[test]
    fn a_replica_is_reached_at_its_port_else_at_its_address_else_nowhere() {
        let on = |ip: Option<&str>, host_port, container_port, udp| Publish {
            host_ip: ip.map(|ip| ip.parse().unwrap()),
            host_port: Some(host_port),
            container_port,
            udp,
        };
        let container = Container {
            addresses: BTreeMap::from([("net".to_owned(), "10.0.0.2".parse().unwrap())]),
            published: vec![
                on(None, 53, 53, true),
                on(Some("127.0.0.1"), 20_001, 8080, false),
                on(None, 80, 8080, false),
                on(None, 9000, 9000, false),
            ],
            ..Container::default()
        };
        let to = |reach: &Reach, port| Ways::of(&container, reach).to(port).map(|at| at.to_string());
        let at = |text: &str| Some(text.to_owned());
        assert_eq!(to(&Reach::Address, 8080), at("10.0.0.2:8080"));
        assert_eq!((to(&ports(true), 8080), to(&ports(false), 8080)), (at("127.0.0.1:20001"), at("127.0.0.1:20001")));
        assert_eq!(to(&ports(true), 9000), at("127.0.0.1:9000"), "published for everybody");
        assert_eq!((to(&ports(true), 53), to(&ports(false), 53)), (None, at("10.0.0.2:53")));
        let ways = Ways::of(&container, &ports(false));
        assert!(ways.is_relayed(8080) && !ways.is_relayed(53));
        assert!(Ways::of(&Container::default(), &ports(true)).is_empty());
    }

    #[test]
    fn every_port_that_the_host_asks_is_published() {
        let mut service = Service {
            ports: vec![
                Port { published: 80, target: 8080, ..Port::default() },
                Port { published: 53, target: 53, protocol: Protocol::Udp, ..Port::default() },
            ],
            expose: vec![ExposedPort { port: 9000, ..ExposedPort::default() }],
            ..Service::default()
        };
        service.teal.health.probe = Probe::Tcp { port: Some(9001) };
        let stored = StoredRelease { service, exposed: vec![7000, 8080], ..StoredRelease::default() };
        assert_eq!(targets(&stored), BTreeSet::from([7000, 8080, 9000, 9001]));
    }

    #[test]
    fn ports_are_not_those_that_others_are_given_or_look_for() {
        let all: Vec<u16> = candidates("a", 29_000..=60_999).collect();
        assert_eq!(all.len(), 9000 - WELL_KNOWN.len());
        assert!(all.iter().all(|port| (20_000..29_000).contains(port) && !WELL_KNOWN.contains(port)));
        assert_ne!(candidates("a", 1..=1).next(), candidates("b", 1..=1).next());
        assert_eq!(candidates("a", 1024..=65_535).next(), None);
    }
}
