//! The measured record of one deployment.

use crate::ids::TableNumber;
use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Receipt {
    pub deployment: u64,
    pub project: String,
    pub who: String,
    /// Unix milliseconds.
    pub started_ms: u64,
    pub ended_ms: u64,
    pub outcome: Outcome,
    pub releases: Vec<ReleaseLine>,
    pub steps: Vec<StepTime>,
    pub traffic: Traffic,
    /// What there is to be told beside: of the verdict, of what somebody did meanwhile.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub enum Outcome {
    Done,
    /// What was asked for is live already.
    Unchanged,
    Reverted {
        why: crate::fault::Fault,
    },
    Stuck {
        step: String,
        error: crate::fault::Fault,
    },
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ReleaseLine {
    pub service: String,
    pub from: Option<u64>,
    pub to: u64,
    /// The earlier release that `to` is, or was made from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub back: Option<u64>,
    pub color: String,
    pub strategy: String,
    pub image: String,
    pub image_id: String,
    pub repo_digests: Vec<String>,
    pub replicas: u32,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StepTime {
    pub step: String,
    pub ms: u64,
    /// The table that this step published last, with the time from sending it to the last worker's acknowledgement.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub table: Option<TableNumber>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub acknowledged_in_us: Option<u64>,
}

/// Counted by the proxy for the deployment's services while it ran.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "known", rename_all = "snake_case")]
// There is one of it a receipt: a box would save nothing.
#[allow(clippy::large_enum_variant)]
pub enum Traffic {
    Measured(Measured),
    /// The proxy was replaced meanwhile, or gave no statistics: nobody knows, so nothing is claimed.
    Unknown {
        why: String,
    },
    /// The proxy serves no service of the deployment.
    None,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Default)]
pub struct Measured {
    pub served: u64,
    pub failed: Failures,
    /// Requests that waited while a service had no backend.
    pub held: u64,
    pub retried: u64,
    pub client_aborts: u64,
    /// Longest time without any answer while a request was waiting for one, or a connection for a replica. Resolution 1 ms.
    pub longest_stall_us: u64,
    /// The minute before, as far as it was seen.
    pub before: Quantiles,
    /// From the start to the acknowledgement of the flip.
    pub during: Quantiles,
    /// From then to the end.
    pub after: Quantiles,
    #[serde(default)]
    pub tcp: Connections,
}

/// Plain TCP connections; none of them is a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct Connections {
    /// Taken by a replica, and ended meanwhile.
    pub served: u64,
    pub failed: ConnectionFailures,
    /// Waited while the service had no backend.
    pub held: u64,
    /// Of the served: closed by the proxy, since the drain time of their release was over.
    pub closed: u64,
    /// At the end.
    pub open: u64,
}

impl Connections {
    /// There was none.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct ConnectionFailures {
    /// No replica took it: reset.
    pub connect: u64,
    /// Waited longer than `hold`: reset.
    pub hold_expired: u64,
}

impl ConnectionFailures {
    pub fn total(&self) -> u64 {
        self.connect + self.hold_expired
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct Failures {
    pub connect: u64,
    pub reset: u64,
    pub cut: u64,
    pub timeout: u64,
    /// 503: waited longer than `hold`.
    pub hold_expired: u64,
    /// 5xx that the app itself answered.
    pub app_5xx: u64,
}

impl Failures {
    pub fn total(&self) -> u64 {
        self.connect + self.reset + self.cut + self.timeout + self.hold_expired + self.app_5xx
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct Quantiles {
    pub requests: u64,
    pub p50_us: Option<u64>,
    pub p99_us: Option<u64>,
}

impl From<&crate::wire::Latency> for Quantiles {
    fn from(latency: &crate::wire::Latency) -> Self {
        Self { requests: latency.count(), p50_us: latency.quantile_us(0.5), p99_us: latency.quantile_us(0.99) }
    }
}
