//! What Teal needs of a container engine. Every call may be repeated: `ensure`, not `do`.
//!
//! `docker` is the real one; `fake` keeps an engine in memory for tests that crash the agent at every step.

pub mod docker;
pub mod fake;
mod network;

pub use docker::holder::IMAGE as HOLDER_IMAGE;
pub use network::{Joined, NetworkFacts, NetworkSpec, Place, Publish};

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;
use teal_model::api::DescribedContainer;
use teal_model::config::{ContainerSettings, ExposedPort, FileToWrite};
use tokio::sync::mpsc;
use tokio::time::timeout;

/// For the last lines of a log.
const LOG_WITHIN: Duration = Duration::from_secs(3);

/// Label keys that Teal sets on all it creates. Never `com.docker.compose.*`: Compose would take them for its orphans.
pub mod label {
    pub const AGENT: &str = "teal.agent";
    pub const PROJECT: &str = "teal.project";
    pub const SERVICE: &str = "teal.service";
    pub const RELEASE: &str = "teal.release";
    pub const COLOR: &str = "teal.color";
    pub const REPLICA: &str = "teal.replica";
    /// On the containers of a job: ended is what they are to be.
    pub const JOB: &str = "teal.job";
    /// On a holder, and on nothing else.
    pub const HOLDER: &str = "teal.holder";
    /// On the container of a migration, in place of [`RELEASE`]: it is no replica.
    pub const MIGRATION: &str = "teal.migration";
}

#[derive(Debug, thiserror::Error)]
pub enum RuntimeError {
    /// No daemon answers: not running, or no permission for its socket.
    #[error("the Docker daemon at {at} does not answer: {why}")]
    Unreachable { at: String, why: String },
    #[error("the Docker daemon at {at} speaks API {theirs}, Teal needs at least {ours}")]
    TooOld { at: String, theirs: String, ours: String },
    /// The image is not here, and the registry has none of that name or refuses to say.
    #[error("image {image} cannot be pulled: {why}")]
    Pull { image: String, why: String },
    #[error("no {kind} `{name}`")]
    NotFound { kind: &'static str, name: String },
    #[error("{what} failed: {why}")]
    Refused { what: String, why: String },
    #[error("the disk that Docker keeps its data on is full: {why}")]
    DiskFull { why: String },
}

pub type Result<T> = std::result::Result<T, RuntimeError>;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Engine {
    pub version: String,
    /// Negotiated: the highest that both sides speak.
    pub api_version: String,
    /// Where Docker keeps its data.
    pub root_dir: String,
    /// Why this host cannot reach its containers at their addresses; None: it can.
    pub unreachable: Option<String>,
    /// Containers live on while the daemon restarts.
    pub live_restore: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Image {
    /// `sha256:...`
    pub id: String,
    pub repo_digests: Vec<String>,
    /// Ports of EXPOSE, sorted.
    pub exposed: Vec<ExposedPort>,
    /// Paths of VOLUME.
    pub volumes: Vec<String>,
    pub has_healthcheck: bool,
    pub labels: BTreeMap<String, String>,
    pub entrypoint: Vec<String>,
    pub command: Vec<String>,
    /// Digests of its layers, from the lowest.
    #[serde(default)]
    pub layers: Vec<String>,
}

/// An image that is here, as it lies on the disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageOnDisk {
    pub id: String,
    /// Tags, or digests where it has no tag; none: its tag has moved on.
    pub names: Vec<String>,
    pub bytes: u64,
    /// The image that it was built from here, as far as its builder says.
    pub parent: Option<String>,
}

/// One container to be, named and labelled.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ContainerSpec {
    pub name: String,
    /// The image by id, so that a moved tag changes nothing.
    pub image_id: String,
    pub labels: BTreeMap<String, String>,
    pub settings: ContainerSettings,
    /// Its places in networks, the one with the highest priority first. With a `network_mode` none, but for `bridge`,
    /// where one place on `bridge` may say what the mode cannot.
    pub networks: Vec<Place>,
    /// Docker's word where it has no networks of its own: `host`, `none`, `bridge`, `container:ID`.
    pub network_mode: Option<String>,
    /// Container id of each service whose ipc or pid namespace it joins ([`Namespace::Service`]).
    ///
    /// [`Namespace::Service`]: teal_model::config::Namespace::Service
    pub joins: BTreeMap<String, String>,
    /// What Docker itself publishes: UDP, `mode: direct`, and ports of the host where containers are reached by them.
    pub publish: Vec<Publish>,
    /// Ports that it says it listens on (`expose`); a fact for people, no network opens or closes by it.
    pub expose: Vec<ExposedPort>,
    /// Anonymous volumes of an earlier container by their path, carried over as Compose does. Where `settings.mounts` has
    /// something else at that path, that is mounted.
    pub anonymous: BTreeMap<String, String>,
    /// Restart policy `no` for candidates; the service's own (`settings.restart`) once live, see `set_restart`.
    pub restart_now: bool,
}

/// When a check is made again, and how long it may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rhythm {
    pub every: Duration,
    pub within: Duration,
}

impl Rhythm {
    /// Docker's own, where neither file nor image says otherwise.
    const DOCKER: Duration = Duration::from_secs(30);

    /// As a HEALTHCHECK has them; nothing and 0 are Docker's own.
    pub fn of(every: Option<Duration>, within: Option<Duration>) -> Self {
        let or_dockers = |time: Option<Duration>| time.filter(|time| !time.is_zero()).unwrap_or(Self::DOCKER);
        Self { every: or_dockers(every), within: or_dockers(within) }
    }

    /// By when two that fail or pass for the same reason have both been seen to, although they are checked at moments of their own.
    pub fn agrees_within(self) -> Duration {
        self.every + self.within.max(self.every / 2)
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Container {
    pub id: String,
    pub name: String,
    pub labels: BTreeMap<String, String>,
    pub image_id: String,
    pub status: Status,
    /// Of the container's own HEALTHCHECK; None when it has none.
    pub health: Option<ContainerHealth>,
    /// How old `health` may be.
    pub rhythm: Option<Rhythm>,
    /// How often the engine restarted it by itself.
    pub restarts: u64,
    /// RFC 3339 with nanoseconds, as the engine says it; changes with every start.
    pub started_at: String,
    /// Host pid of the container's init; 0 when it does not run, or when the process of that number here is another.
    pub pid: i32,
    /// Address by network name.
    pub addresses: BTreeMap<String, IpAddr>,
    /// By network name; also those of a container that does not run.
    pub networks: BTreeMap<String, Joined>,
    /// What Docker publishes of it now; nothing while it does not run. `host_port` is always there.
    pub published: Vec<Publish>,
    /// Volumes by their path in the container.
    pub volumes: BTreeMap<String, HeldVolume>,
}

/// A volume that a container has mounted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeldVolume {
    pub name: String,
    /// Docker gave it its name: 64 hexadecimal digits, by which it is told (no API version says it otherwise).
    pub anonymous: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    #[default]
    Created,
    Running,
    Paused,
    /// The engine waits to start it again.
    Restarting,
    Exited {
        code: i64,
        out_of_memory: bool,
    },
    Removing,
    Dead,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ContainerHealth {
    Starting,
    Healthy,
    /// The output of the last check.
    Unhealthy(String),
}

/// How far a pull is; sent at most a few times a second.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PullProgress {
    pub layers_done: u32,
    pub layers: u32,
    pub bytes_done: u64,
    pub bytes: u64,
}

/// Something happened to a container of this agent; look again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContainerEvent {
    pub container: String,
    /// Docker's word: `die`, `start`, `health_status: healthy`, `destroy`...
    pub action: String,
}

/// A line that a container wrote.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogLine {
    pub stderr: bool,
    /// RFC 3339, as the engine says it.
    pub at: String,
    pub text: String,
}

#[async_trait]
pub trait Runtime: Send + Sync + 'static {
    async fn engine(&self) -> Result<Engine>;
    /// Why nobody here may enter the network namespaces of its containers, found by trying; None: they are open.
    async fn closed(&self) -> Result<Option<String>>;
    /// None: the image is not here. `reference` is a name, a digest or an id.
    async fn image(&self, reference: &str) -> Result<Option<Image>>;
    /// Every image that is here, whosever.
    async fn images(&self) -> Result<Vec<ImageOnDisk>>;
    /// Credentials come from Docker's own config file (auths and credential helpers).
    async fn pull(&self, reference: &str, progress: mpsc::Sender<PullProgress>) -> Result<Image>;
    /// The network by that name, created when missing, but for an `external` one: `NotFound`. One that exists is used as it
    /// is, whosever; `NetworkFacts::differs` says where that is not what was asked for.
    async fn ensure_network(&self, spec: &NetworkSpec) -> Result<NetworkFacts>;
    /// Names of all networks that carry these labels.
    async fn networks(&self, labels: &[(&str, &str)]) -> Result<Vec<String>>;
    /// Addresses that are taken on a network, and by what: a container's name (also of one that does not run but has a fixed
    /// address), `gateway`, or the name of an auxiliary address.
    async fn network_addresses(&self, name: &str) -> Result<BTreeMap<IpAddr, String>>;
    /// Removes a network that carries this agent's label. One that is gone, still in use, or somebody else's is not an
    /// error: `true` says that it was removed or is gone.
    async fn remove_network(&self, name: &str, agent: &str) -> Result<bool>;
    /// A named volume, created when missing.
    async fn ensure_volume(
        &self,
        name: &str,
        driver: Option<&str>,
        options: &BTreeMap<String, String>,
        labels: &BTreeMap<String, String>,
    ) -> Result<()>;
    /// Names of all containers, running or not and whosever, that have this volume mounted.
    async fn volume_users(&self, name: &str) -> Result<Vec<String>>;
    /// Removes a volume with its data; gone already is fine, in use is an error. Only `teal remove --volumes` asks for it.
    async fn remove_volume(&self, name: &str) -> Result<()>;
    /// Created, in its networks, with its files, and not started. A container of that name with the same labels is that
    /// container; with others, an error. What this engine is too old for is refused by key.
    async fn ensure_container(&self, spec: &ContainerSpec) -> Result<Container>;
    /// Started; running already is fine.
    async fn start(&self, id: &str) -> Result<()>;
    /// Signal, wait for at most `grace`, SIGKILL; stopped or gone already is fine.
    async fn stop(&self, id: &str, grace: Duration) -> Result<()>;
    /// Removed with its anonymous volumes kept; gone already is fine. A running container is an error unless `force`.
    async fn remove(&self, id: &str, force: bool) -> Result<()>;
    /// Removed, running or not, and its anonymous volumes with it where no other container has them; gone already is fine.
    async fn remove_with_volumes(&self, id: &str) -> Result<()>;
    /// In that network, in that place. Being there in another one (aliases, fixed addresses) ends by leaving and joining again,
    /// which cuts the container's connections there.
    async fn connect(&self, id: &str, place: &Place) -> Result<()>;
    /// Out of that network; not in it, and gone altogether, is fine.
    async fn disconnect(&self, id: &str, network: &str) -> Result<()>;
    /// Writes files into a container that does not run yet. `ensure_container` has done it for `settings.files`.
    async fn write_files(&self, id: &str, files: &[FileToWrite]) -> Result<()>;
    /// The image that holders run: it does nothing for ever. Loaded when it is not here; no registry has it.
    async fn holder_image(&self) -> Result<Image>;
    /// Takes a name (or an id) from an image, and removes the image with its last one. Never forced: false says that it is in
    /// use, or gone already.
    async fn remove_image(&self, reference: &str) -> Result<bool>;
    /// Gives an image that is here one more name; whatever had it loses it.
    async fn tag_image(&self, id: &str, name: &str) -> Result<()>;
    /// Gives a container another name; having it already is fine, another container's is an error.
    async fn rename(&self, id: &str, name: &str) -> Result<()>;
    /// Sets the restart policy of a container that exists.
    async fn set_restart(&self, id: &str, restart: teal_model::config::Restart) -> Result<()>;
    /// None: there is no such container.
    async fn inspect(&self, id: &str) -> Result<Option<Container>>;
    /// As a service of a compose file, whosever it is; None: there is no such container.
    async fn describe(&self, name: &str) -> Result<Option<DescribedContainer>>;
    /// All containers, running or not, that carry all these labels.
    async fn list(&self, labels: &[(&str, &str)]) -> Result<Vec<Container>>;
    /// Containers that publish this host port themselves: names, for the hint of "port in use".
    async fn publishing(&self, port: u16) -> Result<Vec<String>>;
    /// The last `lines` lines.
    async fn tail(&self, id: &str, lines: u32) -> Result<Vec<LogLine>>;
    /// The last `lines` lines and then, with `follow`, what comes; ends when the receiver is dropped or the container ends.
    async fn logs(&self, id: &str, lines: u32, follow: bool, to: mpsc::Sender<LogLine>) -> Result<()>;
    /// Subscribes first; the receiver is closed when the subscription breaks (then subscribe again and list).
    async fn events(&self, labels: &[(&str, &str)]) -> Result<mpsc::Receiver<ContainerEvent>>;
    /// Runs a command in the container; stdin from `input`, output to `output` (raw when `tty`). Returns the exit code.
    async fn exec(
        &self,
        id: &str,
        command: &[String],
        tty: bool,
        input: mpsc::Receiver<Vec<u8>>,
        output: mpsc::Sender<Vec<u8>>,
    ) -> Result<i64>;
}

/// The last lines of a container's log, or why there are none.
pub async fn last_words(runtime: &dyn Runtime, id: &str, lines: u32) -> Vec<String> {
    match timeout(LOG_WITHIN, runtime.tail(id, lines)).await {
        Ok(Ok(lines)) if lines.is_empty() => vec!["it wrote no log".to_owned()],
        Ok(Ok(lines)) => lines.into_iter().map(|line| line.text).collect(),
        Ok(Err(error)) => vec![format!("its log cannot be read: {error}")],
        Err(_) => vec![format!("its log cannot be read: no answer within {} s", LOG_WITHIN.as_secs())],
    }
}
