//! A project as Teal sees it: everything interpolated, every default filled in, every duration and size a number with a unit.
//!
//! It travels as JSON from the CLI (which has the files and the environment) to the agent (which has Docker).

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::IpAddr;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Project {
    pub name: String,
    /// The folder of the compose file; relative bind mounts were resolved against it.
    pub directory: String,
    pub services: BTreeMap<String, Service>,
    /// Named volumes, by their key in the file.
    pub volumes: BTreeMap<String, Volume>,
    /// Peers whose forwarding headers are believed, as CIDR. `x-teal.trusted_proxies`.
    pub trusted_proxies: Vec<String>,
}

/// A top-level volume. Its Docker name is `<project>_<key>` unless `name` or `external` says otherwise.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Volume {
    pub name: String,
    pub external: bool,
    pub driver: Option<String>,
    pub driver_opts: BTreeMap<String, String>,
    pub labels: BTreeMap<String, String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Service {
    pub name: String,
    pub container: ContainerSettings,
    pub pull_policy: PullPolicy,
    pub ports: Vec<Port>,
    pub depends_on: BTreeMap<String, DependsOn>,
    pub replicas: u32,
    pub order: Option<UpdateOrder>,
    pub teal: ServiceSettings,
}

/// What a container of the service is created with. Its hash (with the image id) tells whether two releases are the same,
/// and it holds secrets (the environment): never log it, never put it in an error.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ContainerSettings {
    /// The image reference as written (after interpolation): `registry:5000/team/app:1.2` or `app@sha256:...`.
    pub image: String,
    /// None keeps the image's own; an empty list clears it.
    pub command: Option<Vec<String>>,
    pub entrypoint: Option<Vec<String>>,
    pub environment: BTreeMap<String, String>,
    pub labels: BTreeMap<String, String>,
    pub user: Option<String>,
    pub working_dir: Option<String>,
    pub restart: Restart,
    pub healthcheck: Option<Healthcheck>,
    /// A signal name or number; None keeps the image's own (SIGTERM).
    pub stop_signal: Option<String>,
    /// Compose's default is 10 s.
    pub stop_grace_period_ms: u64,
    pub mounts: Vec<Mount>,
    pub mem_limit_bytes: Option<u64>,
    /// Thousandths of a core.
    pub cpus_milli: Option<u64>,
    pub logging: Option<Logging>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Restart {
    No,
    Always,
    UnlessStopped,
    /// At most this many times; 0 is without end.
    OnFailure(u32),
}

/// The container's own HEALTHCHECK. Fields that are None keep the image's own.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Healthcheck {
    /// `["NONE"]` (also from `disable: true`), `["CMD", ...]` or `["CMD-SHELL", "..."]`.
    pub test: Option<Vec<String>>,
    pub interval_ms: Option<u64>,
    pub timeout_ms: Option<u64>,
    pub start_period_ms: Option<u64>,
    pub retries: Option<u32>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Mount {
    pub kind: MountKind,
    /// The volume's Docker name, the absolute host path, or None (anonymous volume, tmpfs).
    pub source: Option<String>,
    pub target: String,
    pub read_only: bool,
    /// Bind: create the host path when it is missing (short form does; long form by `bind.create_host_path`).
    pub create_host_path: bool,
    /// Bind: `z`/`Z`, propagation; volume: `nocopy`; tmpfs: `size=1048576` (bytes), `mode=1777` (octal); as Docker takes them.
    pub options: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MountKind {
    Volume,
    Bind,
    Tmpfs,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Logging {
    pub driver: Option<String>,
    pub options: BTreeMap<String, String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PullPolicy {
    /// Compose's `missing`/`if_not_present`.
    Missing,
    Always,
    Never,
    /// Nothing written: a tag is pulled unless the image was built here.
    Default,
}

/// A published port: where the proxy listens, and which container port answers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Port {
    /// None: every address, IPv4 and IPv6.
    pub host_ip: Option<IpAddr>,
    pub published: u16,
    pub target: u16,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DependsOn {
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

/// What Compose has no word for: a service's `x-teal`, with the defaults filled in.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ServiceSettings {
    /// None: the plan chooses (writable volume or stop-first: recreate; else blue-green).
    pub strategy: Option<Strategy>,
    /// Empty: every host name and path of every published port. A port that no rule holds for was given
    /// `/` as a rule of its own.
    pub routes: Vec<RouteRule>,
    pub health: Health,
    pub drain_ms: u64,
    pub hold_ms: u64,
    pub hold_max_waiting: u32,
    /// How long the retired release stays warm. Only 0 until rollback is built.
    pub retain_ms: u64,
    /// The watch after the flip. Only 0 until the verdict is built.
    pub bake_ms: u64,
    pub connect_timeout_ms: u64,
    /// 0 waits for ever.
    pub response_timeout_ms: u64,
}

impl ServiceSettings {
    pub const DRAIN_MS: u64 = 30_000;
    pub const HOLD_MS: u64 = 120_000;
    pub const HOLD_MAX_WAITING: u32 = 10_000;
    pub const CONNECT_TIMEOUT_MS: u64 = 2_000;
}

impl Default for ServiceSettings {
    fn default() -> Self {
        Self {
            strategy: None,
            routes: Vec::new(),
            health: Health::default(),
            drain_ms: Self::DRAIN_MS,
            hold_ms: Self::HOLD_MS,
            hold_max_waiting: Self::HOLD_MAX_WAITING,
            retain_ms: 0,
            bake_ms: 0,
            connect_timeout_ms: Self::CONNECT_TIMEOUT_MS,
            response_timeout_ms: 0,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Strategy {
    BlueGreen,
    Recreate,
}

/// `x-teal.route`: host and path that lead to this service, on every published port or on one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RouteRule {
    /// Lower case, without port; `*.example.com` for one or more labels.
    pub host: Option<String>,
    /// A prefix of whole segments, without a slash at its end (but `/` itself).
    pub path: String,
    /// The published port it holds for; None: all of the service's.
    pub port: Option<u16>,
}

/// When a replica counts as ready. The container's HEALTHCHECK, where there is one, must pass as well.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Health {
    pub probe: Probe,
    /// Between two probes.
    pub interval_ms: u64,
    /// For one probe.
    pub timeout_ms: u64,
    /// Successes in a row.
    pub successes: u32,
    /// From the container's start until it must be ready.
    pub deadline_ms: u64,
}

impl Health {
    pub const INTERVAL_MS: u64 = 1_000;
    pub const TIMEOUT_MS: u64 = 5_000;
    pub const SUCCESSES: u32 = 1;
    pub const DEADLINE_MS: u64 = 180_000;
}

impl Default for Health {
    fn default() -> Self {
        Self {
            probe: Probe::Default,
            interval_ms: Self::INTERVAL_MS,
            timeout_ms: Self::TIMEOUT_MS,
            successes: Self::SUCCESSES,
            deadline_ms: Self::DEADLINE_MS,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum Probe {
    /// Nothing written: HTTP `HEAD /` on every published container port, any answer that is HTTP counts; a service
    /// without published ports is ready when its container runs (and its HEALTHCHECK passes).
    Default,
    /// `health.path` (and `health.port`, else the first published container port): 2xx or 3xx, or `status` when given.
    Http { path: String, port: Option<u16>, status: Option<u16>, host: Option<String> },
    /// `health.tcp: true`: the port accepts a connection.
    Tcp { port: Option<u16> },
    /// `health: none`: the container's HEALTHCHECK alone, or only that it runs.
    None,
}

impl Project {
    /// A volume's Docker name.
    pub fn volume_name(project: &str, key: &str) -> String {
        format!("{project}_{key}")
    }
}
