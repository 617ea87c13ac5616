//! Networks, and a container's place in them.

use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use teal_model::config::Network;

/// A network to be. A bridge without a subnet of its own gets one (fixed addresses need it, and it cannot be added later), and
/// its upper half is the range for addresses that Docker hands out by itself (`ip-range`).
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct NetworkSpec {
    pub name: String,
    /// Teal's; those of the file are in `settings`.
    pub labels: BTreeMap<String, String>,
    pub settings: Network,
}

/// A network as it is.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct NetworkFacts {
    /// It carries the `teal.agent` that was asked for: Teal made it and removes it.
    pub ours: bool,
    /// Address and prefix length of its IPv4 subnet.
    pub subnet: Option<(Ipv4Addr, u8)>,
    /// The part of it that Docker hands out by itself; None: any of it.
    pub ip_range: Option<(Ipv4Addr, u8)>,
    pub gateway: Option<Ipv4Addr>,
    /// The subnet was written or chosen by Teal, so that containers may have fixed addresses. Docker does not say it of
    /// networks of others: false there, unless something only a written one has (an `ip-range`) shows it.
    pub configured_subnet: bool,
    /// Keys of the file (`driver`, `ipam`...) that say something else than the network that exists.
    pub differs: Vec<String>,
}

/// Where and how a container is in a network: Compose's `networks.NAME`, resolved.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Place {
    /// Docker's name of it.
    pub network: String,
    /// Names by which others of the network find it.
    pub aliases: Vec<String>,
    /// Fixed addresses. Docker wants a network with a configured subnet.
    pub ipv4: Option<Ipv4Addr>,
    pub ipv6: Option<Ipv6Addr>,
    pub link_local: Vec<IpAddr>,
    /// Before Docker 25 only in the first network.
    pub mac: Option<String>,
    /// The first network is the one with the highest.
    pub priority: i64,
    /// The default route is that of the highest (Docker 28).
    pub gw_priority: i64,
    /// In the container (Docker 28.1).
    pub interface_name: Option<String>,
    pub driver_opts: BTreeMap<String, String>,
    /// `CONTAINER:ALIAS` (`external_links`).
    pub links: Vec<String>,
}

/// How a container is in a network, as the engine tells.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Joined {
    /// Those that were asked for; not the container's name, which always holds, nor its short id.
    pub aliases: BTreeSet<String>,
    /// Addresses now; None while it does not run.
    pub ipv4: Option<Ipv4Addr>,
    pub ipv6: Option<Ipv6Addr>,
    /// Addresses that were asked for.
    pub fixed_ipv4: Option<Ipv4Addr>,
    pub fixed_ipv6: Option<Ipv6Addr>,
    pub links: BTreeSet<String>,
}

impl Joined {
    /// Names and addresses are those that the place asks for.
    pub fn is_as(&self, place: &Place) -> bool {
        self.aliases.iter().eq(place.aliases.iter().collect::<BTreeSet<_>>())
            && self.links.iter().eq(place.links.iter().collect::<BTreeSet<_>>())
            && (self.fixed_ipv4, self.fixed_ipv6) == (place.ipv4, place.ipv6)
    }
}

/// A port that Docker itself publishes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Publish {
    /// None: every address.
    pub host_ip: Option<IpAddr>,
    /// None: Docker chooses one, and perhaps another at the next start.
    pub host_port: Option<u16>,
    pub container_port: u16,
    pub udp: bool,
}
