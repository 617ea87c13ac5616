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
pub enum Traffic {
    Measured(Measured),
    /// The proxy was replaced meanwhile, or gave no statistics: nobody knows, so nothing is claimed.
    Unknown {
        why: String,
    },
    /// No service of the deployment publishes a port.
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
    /// Longest time without any answer while a request was waiting for one. Resolution 1 ms.
    pub longest_stall_us: u64,
    /// The minute before, as far as it was seen.
    pub before: Quantiles,
    /// From the start to the acknowledgement of the flip.
    pub during: Quantiles,
    /// From then to the end.
    pub after: Quantiles,
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
