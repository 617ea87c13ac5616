//! What a service says of how a new release proves itself, and of how it is taken back.

use serde::{Deserialize, Serialize};

/// One step of `x-teal.canary`: a share of the requests, what it is held for, and by how many.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct CanaryStep {
    /// Hundredths of a percent of the requests, below all. 0: previews alone.
    pub share: u32,
    pub pace: Pace,
    /// Replicas of the candidate that run in it; None: all of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replicas: Option<u32>,
}

impl CanaryStep {
    /// How long a step lasts that says nothing of it.
    pub const MS: u64 = 120_000;
    /// `strategy: canary` without steps.
    pub const DEFAULT: [CanaryStep; 4] = [Self::of(100), Self::of(500), Self::of(2_500), Self::of(5_000)];

    const fn of(share: u32) -> Self {
        Self { share, pace: Pace::For { ms: Self::MS }, replicas: None }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "pace")]
pub enum Pace {
    For {
        ms: u64,
    },
    /// Until `teal promote`.
    Manual,
}

/// `x-teal.sticky`: what tells one user from another, so that each sees one release.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "by")]
pub enum Sticky {
    /// A signed cookie of Teal's.
    Cookie { name: String },
    /// A request header that the application's clients send.
    Header { name: String },
    /// The client's address.
    Address,
}

impl Sticky {
    pub const COOKIE: &str = "teal";
}

/// `x-teal.preview`: who may ask for the candidate before its first share, by `Teal-Preview: candidate`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Preview {
    /// CIDR, as `trusted_proxies` has them.
    pub networks: Vec<String>,
    /// From anywhere with this word.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
}

/// `x-teal.retain`: how long a retired release stays warm.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "retain")]
pub enum Retain {
    /// 0: it is stopped at once.
    For { ms: u64 },
    /// Until the next deployment of the service.
    UntilNext,
}

impl Retain {
    pub const DEFAULT: Retain = Retain::For { ms: 600_000 };

    pub fn is_none(self) -> bool {
        self == Retain::For { ms: 0 }
    }
}

/// `x-teal.migrate`: run once a release, from its image, before any of its containers starts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Migrate {
    pub command: Vec<String>,
    pub timeout_ms: u64,
}

impl Migrate {
    pub const TIMEOUT_MS: u64 = 600_000;
}

/// `x-teal.smoke`: checks of the candidate through its preview, before any user's request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Smoke {
    pub checks: Vec<SmokeCheck>,
    /// For all of them.
    pub timeout_ms: u64,
}

impl Smoke {
    pub const TIMEOUT_MS: u64 = 60_000;
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "check")]
pub enum SmokeCheck {
    /// On the agent's host, in the project's directory; must exit 0.
    Command { command: Vec<String> },
    /// `GET` must be answered 2xx or 3xx, or `status` when given.
    Http {
        path: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        status: Option<u16>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        host: Option<String>,
    },
}

/// `health.warmup`: requests to each replica of a candidate before its first share.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Warmup {
    pub requests: u32,
    /// Asked for in turn; at least one.
    pub paths: Vec<String>,
    /// Requests at the same time to one replica.
    pub concurrency: u32,
    /// For all of them.
    pub timeout_ms: u64,
}

impl Warmup {
    pub const REQUESTS: u32 = 100;
    pub const CONCURRENCY: u32 = 4;
    pub const TIMEOUT_MS: u64 = 60_000;
}

/// `x-teal.rollback`: what takes a release back by itself, and how sure one has to be.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Rollback {
    pub on: RollbackOn,
    /// What happens where the verdict is revert: Compose's `failure_action`.
    pub action: FailureAction,
    /// Evidence (an e-value) against the candidate at which it is taken back.
    pub revert_at: f64,
    /// The same, at which its share is turned down first.
    pub contain_at: f64,
    /// How many times the live release's rate of failures the candidate may have (R).
    pub ratio: f64,
    /// And how much above that, as a part of all requests (d).
    pub margin: f64,
    /// Requests without which a bake says nothing.
    pub min_requests: u64,
    /// A bake that said nothing goes on for at most this.
    pub extend_ms: u64,
    /// Compose's `max_failure_ratio`: the part of the candidate's replicas that may fail.
    pub max_failure_ratio: f64,
    pub judges: Vec<Judge>,
}

impl Default for Rollback {
    fn default() -> Self {
        Self {
            on: RollbackOn::default(),
            action: FailureAction::Rollback,
            revert_at: 1000.0,
            contain_at: 100.0,
            ratio: 1.5,
            margin: 0.002,
            min_requests: 300,
            extend_ms: 900_000,
            max_failure_ratio: 0.0,
            judges: Vec::new(),
        }
    }
}

/// The parts of the verdict that are listened to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct RollbackOn {
    /// Failed requests.
    pub errors: bool,
    /// Slow requests take it back; without it they turn its share down and warn.
    pub latency: bool,
    /// Containers that exit, restart, are killed for memory, or are not ready any more.
    pub facts: bool,
    /// Where the live release is gone: the candidate's failures against what the service had before.
    pub history: bool,
}

impl Default for RollbackOn {
    fn default() -> Self {
        Self { errors: true, latency: false, facts: true, history: false }
    }
}

/// Compose's `deploy.update_config.failure_action`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FailureAction {
    #[default]
    Rollback,
    /// The share stays as it is until somebody promotes or aborts.
    Pause,
    /// A warning.
    Continue,
}

/// Somebody else who may say that a release is bad.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Judge {
    pub name: String,
    pub asks: JudgeAsks,
    pub every_ms: u64,
    pub timeout_ms: u64,
    /// Bad answers in a row that make a verdict.
    pub failures: u32,
}

impl Judge {
    pub const EVERY_MS: u64 = 10_000;
    pub const TIMEOUT_MS: u64 = 10_000;
    pub const FAILURES: u32 = 1;
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "asks")]
pub enum JudgeAsks {
    /// On the agent's host; exit 0: good, anything else: bad.
    Command { command: Vec<String> },
    /// An expression as in an alerting rule: any result is bad.
    Prometheus { url: String, query: String },
}
