//! A project as Teal sees it: everything interpolated, every default filled in, every duration and size a number with a unit.
//!
//! It travels as JSON from the CLI (which has the files and the environment) to the agent (which has Docker).

mod build;
mod container;
mod limits;
mod network;
mod nginx;
mod safety;
mod settings;

pub use build::{Build, BuildSecret, BuildSecretSource};
pub use container::*;
pub use limits::{BlkioLimits, CpuLimits, Limits, Ulimit};
pub use network::{Attachment, DEFAULT_NETWORK, Ipam, IpamPool, Network, NetworkMode};
pub use nginx::{Nginx, NginxPlace, NginxProcess};
pub use safety::*;
pub use settings::*;

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::IpAddr;

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Project {
    pub name: String,
    /// The folder of the compose file; relative bind mounts were resolved against it.
    pub directory: String,
    /// Those that are enabled: without profiles, with one that was chosen, or named on the command line.
    pub services: BTreeMap<String, Service>,
    /// Services that wait for a profile nobody chose, and the profiles that enable each.
    pub disabled: BTreeMap<String, Vec<String>>,
    /// Networks, by their key in the file; `default` is among them where a service uses it.
    pub networks: BTreeMap<String, Network>,
    /// Named volumes, by their key in the file.
    pub volumes: BTreeMap<String, Volume>,
    /// Peers whose forwarding headers are believed, as CIDR. `x-teal.trusted_proxies`.
    pub trusted_proxies: Vec<String>,
}

/// A top-level volume. Its Docker name is `<project>_<key>` unless `name` or `external` says otherwise.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Volume {
    pub name: String,
    pub external: bool,
    pub driver: Option<String>,
    pub driver_opts: BTreeMap<String, String>,
    pub labels: BTreeMap<String, String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Service {
    pub name: String,
    pub container: ContainerSettings,
    /// A name for the one container of the service.
    pub container_name: Option<String>,
    pub pull_policy: PullPolicy,
    /// How the image is made, where `build` is written; the CLI has done it before the agent hears of the service.
    pub build: Option<Build>,
    pub ports: Vec<Port>,
    /// Ports that are open to the containers of its networks alone.
    pub expose: Vec<ExposedPort>,
    /// By the network's key in [`Project::networks`]. Empty with a `network_mode`, else never.
    pub networks: BTreeMap<String, Attachment>,
    pub network_mode: Option<NetworkMode>,
    /// On the network that has no settings of its own, or on `network_mode: bridge`.
    pub mac_address: Option<String>,
    /// Names under which this service alone finds others of the project.
    pub links: Vec<Link>,
    /// `CONTAINER:ALIAS` outside of the project.
    pub external_links: Vec<String>,
    pub depends_on: BTreeMap<String, DependsOn>,
    pub replicas: u32,
    /// It runs once and is expected to exit 0: another service waits for its completion, or `deploy.mode` says so.
    pub is_job: bool,
    /// `deploy.update_config.order`.
    pub order: Option<UpdateOrder>,
    pub update: UpdateConfig,
    pub rollback: UpdateConfig,
    pub teal: ServiceSettings,
}

impl Default for Service {
    fn default() -> Self {
        Self {
            name: String::new(),
            container: ContainerSettings::default(),
            container_name: None,
            pull_policy: PullPolicy::Default,
            build: None,
            ports: Vec::new(),
            expose: Vec::new(),
            networks: BTreeMap::new(),
            network_mode: None,
            mac_address: None,
            links: Vec::new(),
            external_links: Vec::new(),
            depends_on: BTreeMap::new(),
            replicas: 1,
            is_job: false,
            order: None,
            update: UpdateConfig::default(),
            rollback: UpdateConfig::default(),
            teal: ServiceSettings::default(),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PullPolicy {
    /// Compose's `missing`/`if_not_present`.
    Missing,
    /// Also `daily`, `weekly` and `every_...`: Teal pulls at deployments alone.
    Always,
    /// Also `build`.
    Never,
    /// Nothing written: a tag is pulled unless the image was built here.
    #[default]
    Default,
}

/// A published port: where the proxy listens, and which container port answers.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Port {
    /// None: every address, IPv4 and IPv6.
    pub host_ip: Option<IpAddr>,
    pub published: u16,
    pub target: u16,
    pub protocol: Protocol,
    /// What is spoken on it, in the file's words: `http`, `http2`, `grpc`, `tcp`. A hint for `mode: auto`.
    pub app_protocol: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    #[default]
    Tcp,
    Udp,
}

/// `expose`: a port for the other containers of its networks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ExposedPort {
    pub port: u16,
    pub protocol: Protocol,
}

/// `links`: `service` or `service:alias`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Link {
    pub service: String,
    pub alias: String,
}

/// What a service waits for before it starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct DependsOn {
    pub condition: Condition,
    /// It is started again when the other one was.
    pub restart: bool,
    /// False: it starts also when the other one fails.
    pub required: bool,
}

impl Default for DependsOn {
    fn default() -> Self {
        Self { condition: Condition::ServiceStarted, restart: false, required: true }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Condition {
    ServiceStarted,
    ServiceHealthy,
    ServiceCompletedSuccessfully,
}

/// `deploy.update_config.order`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum UpdateOrder {
    StartFirst,
    StopFirst,
}

/// `deploy.update_config` and `deploy.rollback_config` as written; Compose itself heeds none of them. Of an update, `order`
/// is in [`Service::order`] too, and what Teal makes of `failure_action`, `monitor` and `max_failure_ratio` in
/// [`Service::teal`]. Of a rollback nothing changes what Teal does: it is one flip.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct UpdateConfig {
    pub parallelism: Option<u32>,
    pub delay_ms: Option<u64>,
    pub failure_action: Option<FailureAction>,
    pub monitor_ms: Option<u64>,
    /// 0 to 1.
    pub max_failure_ratio: Option<f64>,
    pub order: Option<UpdateOrder>,
}

impl Service {
    /// What makes a release of it. A change of anything else is no reason for one, and takes effect with the next.
    pub fn as_released(&self) -> Service {
        let update =
            UpdateConfig { failure_action: None, monitor_ms: None, max_failure_ratio: None, ..self.update.clone() };
        Service { update, teal: self.teal.as_released(), ..self.clone() }
    }

    /// Why two releases of it, or two replicas, cannot run side by side; None when they can.
    pub fn only_once(&self) -> Option<String> {
        if let Some(name) = &self.container_name {
            return Some(format!("its container is always called {name} (`container_name`)"));
        }
        if self.teal.mode == Mode::Direct && !self.ports.is_empty() {
            return Some("its container owns the published ports (`mode: direct`)".to_owned());
        }
        if self.network_mode == Some(NetworkMode::Host) {
            return Some("its ports are the host's (`network_mode: host`)".to_owned());
        }
        let fixed =
            |at: &&Attachment| at.ipv4_address.is_some() || at.ipv6_address.is_some() || at.mac_address.is_some();
        if self.networks.values().find(fixed).is_some() || self.mac_address.is_some() {
            return Some("its address is written down, and one container at a time can have it".to_owned());
        }
        None
    }
}

impl Project {
    /// A volume's Docker name.
    pub fn volume_name(project: &str, key: &str) -> String {
        format!("{project}_{key}")
    }

    /// A network's Docker name.
    pub fn network_name(project: &str, key: &str) -> String {
        format!("{project}_{key}")
    }
}
