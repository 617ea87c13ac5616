//! Networks of the project, and a service's place in them.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::IpAddr;

/// The key of the network that every service joins which names none.
pub const DEFAULT_NETWORK: &str = "default";

/// A top-level network. One that no service uses is not created.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Network {
    /// In Docker: `<project>_<key>` unless `name` or `external` says otherwise.
    pub name: String,
    /// It exists already, and is neither created nor removed.
    pub external: bool,
    pub driver: Option<String>,
    pub driver_opts: BTreeMap<String, String>,
    /// No way out of it.
    pub internal: bool,
    pub attachable: bool,
    /// None leaves it to the daemon.
    pub enable_ipv4: Option<bool>,
    pub enable_ipv6: Option<bool>,
    pub ipam: Option<Ipam>,
    pub labels: BTreeMap<String, String>,
}

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Ipam {
    pub driver: Option<String>,
    pub config: Vec<IpamPool>,
    pub options: BTreeMap<String, String>,
}

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct IpamPool {
    /// CIDR.
    pub subnet: Option<String>,
    /// CIDR: where containers get their addresses from.
    pub ip_range: Option<String>,
    pub gateway: Option<IpAddr>,
    /// Addresses that something else in the network has, by its name.
    pub aux_addresses: BTreeMap<String, IpAddr>,
}

/// How a service's containers stand in a network.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Attachment {
    /// Names beside the service's own.
    pub aliases: Vec<String>,
    /// A fixed address: one container at a time can have it.
    pub ipv4_address: Option<IpAddr>,
    pub ipv6_address: Option<IpAddr>,
    pub link_local_ips: Vec<IpAddr>,
    pub mac_address: Option<String>,
    /// The name of the interface in the container (Docker 28 and later).
    pub interface_name: Option<String>,
    /// The network with the highest is connected first.
    pub priority: i64,
    /// The network with the highest has the default route (Docker 28 and later).
    pub gw_priority: i64,
    pub driver_opts: BTreeMap<String, String>,
}

/// `network_mode`: instead of networks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NetworkMode {
    /// Docker's own `bridge`, without names.
    Bridge,
    /// The host's network: the container's ports are the host's.
    Host,
    /// No network but the loopback.
    None,
    /// The network of a container of this service.
    Service(String),
    /// The network of a container that Teal does not manage, by name or id.
    Container(String),
}
