//! The messages between CLI and agent: JSON over HTTP on the agent's unix socket.
//!
//! | method and path | asks | answers |
//! |---|---|---|
//! | GET /v1/hello | | [`Hello`] |
//! | POST /v1/plan | [`DeployRequest`] | [`crate::plan::Plan`] |
//! | POST /v1/deployments | [`DeployRequest`] | [`Accepted`] |
//! | GET /v1/deployments?project=&limit= | | list of [`Summary`], newest first |
//! | GET /v1/deployments/N | | [`Detail`] |
//! | GET /v1/deployments/N/events?from= | | [`Notice`] a line, until the deployment has ended |
//! | POST /v1/deployments/N/abort | [`AbortRequest`] | [`Summary`] |
//! | POST /v1/deployments/N/promote | [`PromoteRequest`] | [`Summary`] |
//! | POST /v1/deployments/N/freeze | [`FreezeRequest`] | [`Summary`] |
//! | POST /v1/rollback | [`RollbackRequest`] | [`RolledBack`] |
//! | POST /v1/prune | [`PruneRequest`] | [`Pruned`] |
//! | GET /v1/sharing?port= | | list of [`Holder`]: who else listens on a port of ours, on the same socket |
//! | POST /v1/remove | [`RemoveRequest`] | [`Removed`] |
//! | POST /v1/adopt | [`AdoptRequest`] | [`Adoption`] |
//! | POST /v1/describe | [`DescribeRequest`] | list of [`DescribedContainer`] |
//! | POST /v1/adopt/undo | [`GiveBackRequest`] | [`Adoption`] |
//! | GET /v1/status?project= | | [`Status`] |
//! | GET /v1/logs?project=&service=&lines=&follow= | | [`Log`] a line |
//! | POST /v1/exec | [`ExecRequest`] | frames, see [`ExecRequest`] |
//! | POST /v1/down | [`DownRequest`] | `{}` |
//!
//! Every error is a [`crate::fault::Fault`] with status 4xx or 5xx.

use crate::config::{Network, Project, Service, Volume};
use crate::deployment::State;
use crate::door::Door;
use crate::fault::Fault;
use crate::ids::{ReleaseKey, ServiceKey, TableNumber};
use crate::plan::{Choice, Plan};
use crate::receipt::Receipt;
use crate::wire::{Protocol, TcpCounters};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::IpAddr;

/// Raised when a message changes its meaning; sent as the header `teal-api`.
pub const VERSION: u32 = 1;
pub const VERSION_HEADER: &str = "teal-api";

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Hello {
    pub version: String,
    pub api: u32,
    pub agent: String,
    pub pid: u32,
    pub state_dir: String,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DeployRequest {
    /// Holds secrets (the environment).
    pub project: Project,
    pub choice: Choice,
    /// `user@host`, or what CI says of itself.
    pub who: String,
}

/// A process that has a listening socket.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    pub pid: u32,
    pub name: String,
    /// Every address that it listens on.
    pub listens: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Accepted {
    pub deployment: u64,
    pub plan: Plan,
    /// A second deployment, that begins when this one has flipped: it starts those again that follow what went back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub then: Option<Box<Accepted>>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AbortRequest {
    pub who: String,
}

/// A canary's next step, now.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PromoteRequest {
    /// All requests at once, over the steps that are left.
    pub full: bool,
    pub who: String,
}

/// A canary stays at the share it has, until it is promoted or aborted.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FreezeRequest {
    pub who: String,
}

/// Back to the release before the live one, or to `to`. A deployment of these services that runs is aborted instead.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RollbackRequest {
    pub project: String,
    /// Empty: every service that the newest deployment of the project changed.
    pub services: Vec<String>,
    /// The number of a release; with one service alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<u64>,
    /// Only say what would be done.
    #[serde(default)]
    pub dry_run: bool,
    pub who: String,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "rolled_back")]
pub enum RolledBack {
    /// The deployment that ran is taken back.
    Aborted { deployment: u64 },
    /// It goes back by a deployment of its own.
    Deploys(Box<Accepted>),
    /// With `dry_run`.
    Would { plan: Box<Plan> },
    /// With `dry_run`, while a deployment runs: that would be taken back.
    WouldAbort { deployment: u64, plan: Box<Plan> },
    /// The release that was asked for is live, itself or made again.
    Already { release: ReleaseKey, again: Option<u64> },
}

/// Images of releases that nobody can go back to any more.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PruneRequest {
    /// None: every project.
    pub project: Option<String>,
    /// Only say what would be removed.
    pub dry_run: bool,
    pub who: String,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Default)]
pub struct Pruned {
    pub images: Vec<PrunedImage>,
    /// What was to be removed and could not be, with the reason.
    pub left: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PrunedImage {
    pub id: String,
    /// Its references.
    pub names: Vec<String>,
    pub bytes: u64,
    /// `shop/web@3`: what it was of.
    pub releases: Vec<ReleaseKey>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RemoveRequest {
    pub project: String,
    /// Empty: the whole project.
    pub services: Vec<String>,
    #[serde(default)]
    pub volumes: RemoveVolumes,
    pub who: String,
}

/// Data goes only when it is asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "snake_case")]
pub enum RemoveVolumes {
    #[default]
    Keep,
    /// Every named volume of these services that is not external.
    All,
    /// By their names in Docker.
    Named(Vec<String>),
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Default)]
pub struct Removed {
    pub containers: Vec<String>,
    pub networks: Vec<String>,
    #[serde(default)]
    pub volumes_removed: Vec<String>,
    /// Named volumes that nobody asked to remove.
    pub volumes_kept: Vec<String>,
    /// What an nginx does from now on that still leads to one of these services.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub nginx: Vec<Fault>,
}

/// What these containers are, as services of a compose file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DescribeRequest {
    pub names: Vec<String>,
}

/// A container that somebody started, as the service that it would be.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct DescribedContainer {
    pub id: String,
    pub name: String,
    pub running: bool,
    /// A label by which Compose or Teal says that it is theirs.
    pub reserved: Option<String>,
    /// Without a name. Holds secrets (the environment).
    pub service: Service,
    /// Those that it stands in, as external ones.
    pub networks: BTreeMap<String, Network>,
    pub volumes: BTreeMap<String, Volume>,
    /// What it has and no key of a compose file can say.
    pub unsaid: Vec<String>,
    pub notes: Vec<String>,
}

/// Containers that somebody else started become the live release of their service, as they are.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AdoptRequest {
    /// Holds secrets (the environment).
    pub project: Project,
    /// Empty: every service of the project.
    pub services: Vec<String>,
    /// The containers of each service by id, in the order of its replicas; None: those that Compose has labelled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub containers: Option<BTreeMap<String, Vec<String>>>,
    /// Only say what would be done.
    pub dry_run: bool,
    pub who: String,
}

/// Adopted releases are forgotten, and their containers left as they are.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GiveBackRequest {
    pub project: String,
    /// Empty: every adopted service of the project.
    pub services: Vec<String>,
    pub dry_run: bool,
    pub who: String,
}

/// What was adopted or given back, or would be.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Adoption {
    pub project: String,
    /// Its number in the history; None: nothing was changed.
    pub deployment: Option<u64>,
    pub services: Vec<AdoptedService>,
    /// What was left alone, and why.
    pub left: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AdoptedService {
    pub service: ServiceKey,
    pub release: u64,
    /// It had been adopted before, as it is now.
    pub already: bool,
    pub image: String,
    pub containers: Vec<AdoptedContainer>,
    /// `127.0.0.1:80`: published by Docker, until the first deployment.
    pub ports: Vec<String>,
    /// Others of its networks call it by its name.
    pub named: bool,
    /// What the first deployment will change.
    pub notes: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AdoptedContainer {
    pub container: String,
    pub name: String,
    pub replica: u32,
    pub image_id: String,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DownRequest {
    /// End the proxy too: traffic stops.
    pub proxy: bool,
}

/// Something that happened in a deployment; the `sequence` only grows and has no holes within a deployment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Notice {
    pub deployment: u64,
    pub sequence: u64,
    /// Unix milliseconds.
    pub at_ms: u64,
    #[serde(flatten)]
    pub what: What,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "what", rename_all = "snake_case")]
pub enum What {
    Entered {
        state: State,
        /// For people: which step of how many.
        step: String,
    },
    /// An effect begins.
    Doing {
        words: String,
    },
    Did {
        words: String,
        ms: u64,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        published: Option<crate::deployment::Published>,
    },
    /// Of something long (a pull, a warm-up, a drain): not kept in the journal.
    Progress {
        words: String,
    },
    Planned {
        plan: Box<Plan>,
        /// For people: the step that begins with it, if one does.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        step: String,
    },
    Failed {
        fault: Fault,
    },
    Warning {
        words: String,
    },
    /// The last one.
    Ended {
        receipt: Box<Receipt>,
    },
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    pub deployment: u64,
    pub project: String,
    pub services: Vec<String>,
    pub who: String,
    pub started_ms: u64,
    pub ended_ms: Option<u64>,
    pub state: State,
    /// `web 3 -> 4`, for people.
    pub releases: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Detail {
    pub summary: Summary,
    pub plan: Plan,
    pub receipt: Option<Receipt>,
    pub notices: Vec<Notice>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Status {
    pub agent: Hello,
    pub proxy: ProxyStatus,
    /// None: the Docker daemon does not answer.
    pub engine: Option<String>,
    pub services: Vec<ServiceStatus>,
    pub running: Vec<Summary>,
    /// Those of them whose candidates have a share, and are watched.
    #[serde(default)]
    pub watched: Vec<Watched>,
    pub alerts: Vec<String>,
}

/// A canary's step, or a bake.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Watched {
    pub deployment: u64,
    pub shares: Vec<Shared>,
    pub since_ms: u64,
    /// It is over then, if nothing is said against it; None: when somebody promotes it.
    pub until_ms: Option<u64>,
    /// The verdict has turned the shares down; `notes` say why.
    pub turned_down: bool,
    /// Why it takes no step forward.
    pub frozen: Option<String>,
    /// Why it takes none by itself, although nobody has frozen it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held: Option<String>,
    pub notes: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Shared {
    pub candidate: ReleaseKey,
    /// Of the requests, in hundredths of a percent.
    pub share: u32,
    /// How many replicas have it, and how many there will be.
    #[serde(default)]
    pub replicas: u32,
    #[serde(default)]
    pub of: u32,
    /// As many are started for the share of the next step.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grows_to: Option<u32>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ProxyStatus {
    pub pid: Option<u32>,
    pub table: Option<TableNumber>,
    pub connections: u64,
    pub parked: u64,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ServiceStatus {
    pub service: ServiceKey,
    pub live: Option<ReleaseKey>,
    pub color: Option<String>,
    pub image: Option<String>,
    pub image_id: Option<String>,
    pub since_ms: Option<u64>,
    /// Out of traffic, and warm.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retained: Option<RetainedStatus>,
    /// Addresses that the proxy listens on for it.
    pub listeners: Vec<String>,
    /// The live release's containers were started by somebody else, and Docker publishes its ports.
    #[serde(default)]
    pub adopted: bool,
    /// Peers whose forwarding headers are believed, as CIDR.
    #[serde(default)]
    pub trusted_proxies: Vec<String>,
    /// Published ports, in the order of the file; none where its clients come through an nginx.
    #[serde(default)]
    pub published: Vec<PublishedPort>,
    /// The nginx that it is behind, and its upstream there, for people. Then the numbers of requests are nginx's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub behind: Option<String>,
    /// How other containers call it: the ports behind its name. None: its containers own the name, so any port is theirs.
    #[serde(default)]
    pub by_name: Option<Vec<Door>>,
    pub holding: bool,
    pub replicas: Vec<ReplicaStatus>,
    pub in_flight: Option<u64>,
    /// Requests a second over the last ten seconds; None when the proxy gave no statistics.
    pub rate: Option<f64>,
    /// The same of plain TCP connections that ended.
    #[serde(default)]
    pub connection_rate: Option<f64>,
    /// Of the releases that the proxy still counts: those that it serves, and those that it stopped serving seconds ago.
    pub requests: Option<u64>,
    /// Requests that failed.
    pub failed: Option<u64>,
    /// Plain TCP connections; none of them is a request.
    #[serde(default)]
    pub tcp: Option<TcpCounters>,
}

/// The release that a rollback goes back to in a moment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RetainedStatus {
    pub release: u64,
    /// Unix milliseconds; None: until the next deployment.
    pub until_ms: Option<u64>,
    #[serde(default)]
    pub way: Way,
}

/// How somebody goes back to a release that is warm.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Way {
    /// It is the one before what is live.
    Before,
    #[default]
    ByNumber,
    /// It is what is live: that was made from it again.
    Same,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PublishedPort {
    /// None: every address.
    pub host_ip: Option<IpAddr>,
    pub published: u16,
    pub target: u16,
    /// Docker publishes it, and the proxy does not see it.
    pub direct: bool,
    pub udp: bool,
    /// What is spoken there. None: not known yet, or not the proxy's to know.
    pub protocol: Option<Protocol>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ReplicaStatus {
    pub container: String,
    pub name: String,
    pub release: u64,
    pub health: String,
    pub address: Option<String>,
    pub restarts: u64,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Log {
    pub replica: String,
    pub stderr: bool,
    pub at: String,
    pub text: String,
}

/// The answer is `101 Switching Protocols`; then both sides send frames of one byte (0 input, 1 output, 2 end of input,
/// 3 exit code as decimal text, 4 a [`Fault`] as JSON), a u32 length (little-endian) and the bytes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ExecRequest {
    pub project: String,
    pub service: String,
    /// 1-based; None: the first that runs.
    pub replica: Option<u32>,
    pub command: Vec<String>,
    pub tty: bool,
}
