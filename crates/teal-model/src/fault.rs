//! Every way in which Teal can refuse or fail, with its exit code and what to do: the one place that words hints.

use crate::ids::ServiceKey;
use serde::{Deserialize, Serialize};
use std::fmt;

/// The kind of a fault. `docs/errors.md` is generated from [`Code::ALL`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Code {
    Internal,
    Usage,
    Config,
    NoAgent,
    AgentVersion,
    AgentRuns,
    StateDir,
    Journal,
    Busy,
    NotFound,
    DockerDown,
    DockerRefused,
    DiskFull,
    PortInUse,
    ImageMissing,
    ReplicaExited,
    ReplicaRemoved,
    NeverReady,
    NotHttp,
    MigrationFailed,
    SmokeFailed,
    Worse,
    JustReverted,
    ProxyDown,
    NginxDown,
    NginxFile,
    NginxRefused,
    NginxStale,
    Aborted,
    Stuck,
}

impl Code {
    pub const ALL: &'static [Code] = &[
        Code::Internal,
        Code::Usage,
        Code::Config,
        Code::NoAgent,
        Code::AgentVersion,
        Code::AgentRuns,
        Code::StateDir,
        Code::Journal,
        Code::Busy,
        Code::NotFound,
        Code::DockerDown,
        Code::DockerRefused,
        Code::DiskFull,
        Code::PortInUse,
        Code::ImageMissing,
        Code::ReplicaExited,
        Code::ReplicaRemoved,
        Code::NeverReady,
        Code::NotHttp,
        Code::MigrationFailed,
        Code::SmokeFailed,
        Code::Worse,
        Code::JustReverted,
        Code::ProxyDown,
        Code::NginxDown,
        Code::NginxFile,
        Code::NginxRefused,
        Code::NginxStale,
        Code::Aborted,
        Code::Stuck,
    ];

    /// The name used in JSON and docs.
    pub fn name(self) -> &'static str {
        match self {
            Code::Internal => "internal",
            Code::Usage => "usage",
            Code::Config => "config",
            Code::NoAgent => "no_agent",
            Code::AgentVersion => "agent_version",
            Code::AgentRuns => "agent_runs",
            Code::StateDir => "state_dir",
            Code::Journal => "journal",
            Code::Busy => "busy",
            Code::NotFound => "not_found",
            Code::DockerDown => "docker_down",
            Code::DockerRefused => "docker_refused",
            Code::DiskFull => "disk_full",
            Code::PortInUse => "port_in_use",
            Code::ImageMissing => "image_missing",
            Code::ReplicaExited => "replica_exited",
            Code::ReplicaRemoved => "replica_removed",
            Code::NeverReady => "never_ready",
            Code::NotHttp => "not_http",
            Code::MigrationFailed => "migration_failed",
            Code::SmokeFailed => "smoke_failed",
            Code::Worse => "worse",
            Code::JustReverted => "just_reverted",
            Code::ProxyDown => "proxy_down",
            Code::NginxDown => "nginx_down",
            Code::NginxFile => "nginx_file",
            Code::NginxRefused => "nginx_refused",
            Code::NginxStale => "nginx_stale",
            Code::Aborted => "aborted",
            Code::Stuck => "stuck",
        }
    }

    /// The exit code of the CLI; stable. 2 is what every argument parser uses for wrong usage.
    pub fn exit(self) -> u8 {
        match self {
            Code::Internal => 1,
            Code::Usage => 2,
            Code::Config => 3,
            Code::NoAgent | Code::AgentVersion | Code::AgentRuns => 4,
            Code::Busy => 5,
            Code::NotFound => 6,
            Code::StateDir
            | Code::Journal
            | Code::DockerDown
            | Code::DockerRefused
            | Code::DiskFull
            | Code::PortInUse
            | Code::ProxyDown
            | Code::NginxDown
            | Code::NginxFile
            | Code::NginxRefused
            | Code::NginxStale => 7,
            Code::ImageMissing
            | Code::ReplicaExited
            | Code::ReplicaRemoved
            | Code::NeverReady
            | Code::NotHttp
            | Code::MigrationFailed
            | Code::SmokeFailed
            | Code::Worse
            | Code::JustReverted => 8,
            Code::Aborted => 9,
            Code::Stuck => 10,
        }
    }

    pub fn is_of_nginx(self) -> bool {
        matches!(self, Code::NginxDown | Code::NginxFile | Code::NginxRefused | Code::NginxStale)
    }

    /// When it happens, for the manual.
    pub fn when(self) -> &'static str {
        match self {
            Code::Internal => "something that Teal did not foresee",
            Code::Usage => "the command line is wrong",
            Code::Config => "the compose file has problems; all of them are listed",
            Code::NoAgent => "no agent answers on its socket",
            Code::AgentVersion => "the agent that runs is of another version than the command",
            Code::AgentRuns => "another agent owns the state directory",
            Code::StateDir => "the state or run directory cannot be written",
            Code::Journal => "the journal cannot be written; a running deployment is reverted, traffic goes on",
            Code::Busy => "a service of the deployment is being deployed already",
            Code::NotFound => "there is no such project, service or deployment",
            Code::DockerDown => "the Docker daemon does not answer",
            Code::DockerRefused => "the Docker daemon refused a step",
            Code::DiskFull => "the disk is full",
            Code::PortInUse => "another process listens on a published port",
            Code::ImageMissing => "an image is not here and cannot be pulled",
            Code::ReplicaExited => "a candidate's container exited or was restarted while warming",
            Code::ReplicaRemoved => "somebody else removed a candidate's containers; it was not found bad",
            Code::NeverReady => "a candidate was not ready within its deadline",
            Code::NotHttp => {
                "a candidate answers on its port, but not in HTTP, which the release before it or `x-teal.mode` says it does"
            }
            Code::MigrationFailed => "the migration of a release did not exit 0, or not in time; nothing was changed",
            Code::SmokeFailed => "a smoke test of the candidate failed, before it had any request of a user",
            Code::Worse => "the candidate did worse than the live release, and was taken back",
            Code::JustReverted => "this image with these settings was taken back a moment ago",
            Code::ProxyDown => "the proxy did not acknowledge a route table",
            Code::NginxDown => "the nginx that a service is behind does not run",
            Code::NginxFile => {
                "the file that Teal writes for nginx was edited, is somebody else's, or cannot be written"
            }
            Code::NginxRefused => "nginx refuses its configuration or does not take it, or a command for it failed",
            Code::NginxStale => "nginx was told to reload, and its old workers went on; the file before is back",
            Code::Aborted => "the deployment was aborted and reverted",
            Code::Stuck => "a revert failed; Teal stopped and left things as they are",
        }
    }

    /// What to do, where the fault itself has no better word.
    pub fn hint(self) -> &'static str {
        match self {
            Code::Internal => {
                "see the agent's log (`agent.log` in the state directory, or the journal of its service) and report it"
            }
            Code::Usage => "see `teal help`",
            Code::Config => "correct the file, then `teal check`",
            Code::NoAgent => "start it with `teal up --detach`, or name its directory with --run-dir",
            Code::AgentVersion => "restart it: `teal down && teal up --detach` (traffic goes on meanwhile)",
            Code::AgentRuns => "use that agent, or give this one directories of its own: --state-dir and --run-dir",
            Code::StateDir => "run as a user who may write there, or choose another: --state-dir and --run-dir",
            Code::Journal => "make room on the disk of the state directory; traffic is as before",
            Code::Busy => "watch it with `teal status`; `teal promote` ends its watch, `teal abort` takes it back",
            Code::NotFound => "see `teal status` and `teal history`",
            Code::DockerDown => "start Docker (`systemctl start docker`), and see that this user may use its socket",
            Code::DockerRefused => "see the words above",
            Code::DiskFull => "make room (`docker system df` shows what Docker uses), then deploy again",
            Code::PortInUse => "stop what listens there, or publish another port",
            Code::ImageMissing => {
                "check the name and tag, `docker login`, or build it first and set `pull_policy: never`"
            }
            Code::ReplicaExited => "see its last log lines above; the live release serves as before",
            Code::ReplicaRemoved => "see who removed them, then deploy again",
            Code::NeverReady => "see the last probe above; raise `x-teal.health.deadline` if it only needs more time",
            Code::NotHttp => "publish the port that speaks HTTP, or pass its bytes on with `x-teal: {mode: tcp}`",
            Code::MigrationFailed => "see its last log lines above; what it had done already stays done",
            Code::SmokeFailed => "see its last lines above; the live release serves as before",
            Code::Worse => "see the numbers and log lines above; the live release serves as before",
            Code::JustReverted => {
                "deploy another image or other settings; to try it once more, `teal deploy --force SERVICE`"
            }
            Code::ProxyDown => "see `proxy.log` in the state directory; the agent starts the proxy again by itself",
            Code::NginxDown => "start nginx, or name its pid file or container in `x-teal.nginx`",
            Code::NginxFile => {
                "put what you need into a file of your own and remove this one: Teal writes it again with the next deployment"
            }
            Code::NginxRefused => "correct it until `nginx -t` passes; requests go where they went before",
            Code::NginxStale => "see nginx's error log: it may not be able to listen somewhere, or a worker hangs",
            Code::Aborted => "deploy again when ready; the live release serves as before",
            Code::Stuck => "see `teal show` for the step, put it right, then deploy again",
        }
    }
}

impl Code {
    /// The same where there was no release before: nothing serves.
    pub fn hint_of_a_first(self) -> &'static str {
        match self {
            Code::ReplicaExited => "see its last log lines above; there was no release before it",
            Code::Aborted => "deploy again when ready; there was no release before",
            Code::Journal => "make room on the disk of the state directory",
            other => other.hint(),
        }
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What happened, where, and what to do. Travels from the agent to the CLI and is kept in the journal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{what}")]
pub struct Fault {
    pub code: Code,
    pub what: String,
    pub hint: String,
    /// Log lines, problems of a file: what a reader wants to see under the message.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub detail: Vec<String>,
    /// Whose candidate it is about, where that is one's alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<Box<ServiceKey>>,
}

impl Fault {
    pub fn new(code: Code, what: impl Into<String>) -> Self {
        Self { code, what: what.into(), hint: code.hint().to_owned(), detail: Vec::new(), service: None }
    }

    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = hint.into();
        self
    }

    /// A hint that speaks of the live release has nothing to speak of in a first deployment.
    pub fn of_a_first(mut self) -> Self {
        if self.hint == self.code.hint() {
            self.hint = self.code.hint_of_a_first().to_owned();
        }
        self
    }

    pub fn detail(mut self, detail: Vec<String>) -> Self {
        self.detail = detail;
        self
    }

    pub fn of(mut self, service: &ServiceKey) -> Self {
        self.service = Some(Box::new(service.clone()));
        self
    }
}

/// The name that was probably meant; two letters in the wrong order are one mistake.
pub fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let near = known.into_iter().min_by_key(|known| strsim::osa_distance(known, name));
    near.filter(|known| strsim::osa_distance(known, name) <= 2)
}

/// `. Did you mean `web`?`, or nothing.
pub fn did_you_mean<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    nearest(name, known).map(|near| format!(". Did you mean `{near}`?")).unwrap_or_default()
}

/// A mistake that the tests make on purpose, against the real thing: what is said then is what the manual shows.
#[derive(Debug)]
pub struct Mistake {
    pub name: &'static str,
    pub code: Code,
    /// Words of the error and of its hint.
    pub says: &'static [&'static str],
}

pub const MISTAKES: &[Mistake] = &[
    Mistake { name: "broken YAML", code: Code::Config, says: &["compose.yaml:", "YAML"] },
    Mistake { name: "an unknown key", code: Code::Config, says: &["services.web.prots", "Did you mean `ports`?"] },
    Mistake {
        name: "a missing image",
        code: Code::ImageMissing,
        says: &["127.0.0.1:1/none:1 cannot be pulled", "docker login"],
    },
    Mistake {
        name: "an image that exits",
        code: Code::ReplicaExited,
        says: &["exited with code 3", "see its last log lines above"],
    },
    Mistake { name: "a port that does not speak HTTP", code: Code::NotHttp, says: &["does not speak HTTP"] },
    Mistake { name: "a port in use", code: Code::PortInUse, says: &["is in use by", "publish another port"] },
    Mistake {
        name: "Docker not running",
        code: Code::DockerDown,
        says: &["/nowhere/docker.sock does not answer", "start Docker"],
    },
    Mistake {
        name: "a state directory that cannot be written",
        code: Code::StateDir,
        says: &["/proc/teal", "--state-dir"],
    },
    Mistake { name: "a full disk", code: Code::DiskFull, says: &["cannot be written", "make room"] },
    Mistake {
        name: "a second deployment at the same time",
        code: Code::Busy,
        says: &["is being deployed already", "begun by test", "teal abort"],
    },
    Mistake { name: "an agent of another version", code: Code::AgentVersion, says: &["speaks API", "restart it"] },
];
