//! What Teal is told about a service beside Compose's own keys.

use super::nginx::Nginx;
use super::safety::{CanaryStep, Migrate, Preview, Retain, Rollback, Smoke, Sticky, Warmup};
use crate::wire::UnixSocket;
use serde::{Deserialize, Serialize};

/// What Compose has no word for: a service's `x-teal`, with the defaults filled in.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ServiceSettings {
    pub mode: Mode,
    /// None: the plan chooses (writable volume or stop-first: recreate; else blue-green).
    pub strategy: Option<Strategy>,
    /// Empty: every host name and path of every published port. A port that no rule holds for was given
    /// `/` as a rule of its own.
    pub routes: Vec<RouteRule>,
    /// Sockets with a path, beside the published ports or instead of them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub listen: Vec<Listen>,
    pub health: Health,
    pub drain_ms: u64,
    pub hold_ms: u64,
    pub hold_max_waiting: u32,
    pub retain: Retain,
    /// Releases whose image and settings are kept.
    pub keep: u32,
    /// The watch after the candidate got all requests.
    pub bake_ms: u64,
    /// `strategy: canary`: empty for any other.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub canary: Vec<CanaryStep>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sticky: Option<Sticky>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub preview: Option<Preview>,
    /// Path prefixes under which a 404 of one release is asked of the other while both run.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub skew_guard: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub migrate: Option<Migrate>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub smoke: Option<Smoke>,
    pub rollback: Rollback,
    pub connect_timeout_ms: u64,
    /// 0 waits for ever.
    pub response_timeout_ms: u64,
    /// `traffic: nginx`: clients of the host come through an nginx that Teal does not own, instead of the proxy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nginx: Option<Nginx>,
}

impl ServiceSettings {
    pub const DRAIN_MS: u64 = 30_000;
    pub const HOLD_MS: u64 = 120_000;
    pub const HOLD_MAX_WAITING: u32 = 10_000;
    pub const CONNECT_TIMEOUT_MS: u64 = 2_000;
    pub const BAKE_MS: u64 = 300_000;
    pub const KEEP: u32 = 5;

    /// Without what only says how a release arrives, how it is watched, and what stays of it.
    pub(super) fn as_released(&self) -> Self {
        let usual = Self::default();
        Self {
            health: Health { warmup: None, ..self.health.clone() },
            retain: usual.retain,
            keep: usual.keep,
            bake_ms: usual.bake_ms,
            canary: usual.canary,
            migrate: usual.migrate,
            smoke: usual.smoke,
            rollback: usual.rollback,
            ..self.clone()
        }
    }
}

impl Default for ServiceSettings {
    fn default() -> Self {
        Self {
            mode: Mode::Auto,
            strategy: None,
            routes: Vec::new(),
            listen: Vec::new(),
            health: Health::default(),
            drain_ms: Self::DRAIN_MS,
            hold_ms: Self::HOLD_MS,
            hold_max_waiting: Self::HOLD_MAX_WAITING,
            retain: Retain::DEFAULT,
            keep: Self::KEEP,
            bake_ms: Self::BAKE_MS,
            canary: Vec::new(),
            sticky: None,
            preview: None,
            skew_guard: Vec::new(),
            migrate: None,
            smoke: None,
            rollback: Rollback::default(),
            connect_timeout_ms: Self::CONNECT_TIMEOUT_MS,
            response_timeout_ms: 0,
            nginx: None,
        }
    }
}

/// How clients reach the service: `x-teal.mode`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// By what is known of each port: its `app_protocol`, else what the container answers.
    #[default]
    Auto,
    /// The proxy speaks HTTP on every published port.
    Http,
    /// The proxy passes bytes on every published port.
    Tcp,
    /// No proxy: the containers own the service's name and its published ports, so it is recreated.
    Direct,
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

/// `x-teal.listen`: where clients of this host reach the service without a port.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Listen {
    pub socket: UnixSocket,
    /// The container port that answers.
    pub target: u16,
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
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub warmup: Option<Warmup>,
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
            warmup: None,
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
