//! What a container of a service is created with, in Compose's meaning and Docker's terms.

use super::limits::Limits;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;

/// Its hash (with the image id) tells whether two releases are the same, and it holds secrets (the environment, `files`):
/// never log it, never put it in an error.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ContainerSettings {
    /// The image reference as written (after interpolation): `registry:5000/team/app:1.2` or `app@sha256:...`. Where only
    /// `build` is written, the name that the built image gets: `<project>-<service>`.
    pub image: String,
    /// None keeps the image's own; an empty list clears it.
    pub command: Option<Vec<String>>,
    pub entrypoint: Option<Vec<String>>,
    pub environment: BTreeMap<String, String>,
    pub labels: BTreeMap<String, String>,
    pub annotations: BTreeMap<String, String>,
    pub user: Option<String>,
    /// Supplementary groups, by name or number.
    pub group_add: Vec<String>,
    pub working_dir: Option<String>,
    pub restart: Restart,
    pub healthcheck: Option<Healthcheck>,
    /// A signal name or number; None keeps the image's own (SIGTERM).
    pub stop_signal: Option<String>,
    /// Compose's default is 10 s.
    pub stop_grace_period_ms: u64,
    pub mounts: Vec<Mount>,
    /// `container:NAME[:ro]` of `volumes_from`, as Docker takes them (`NAME` or `NAME:ro`). Services named there have
    /// their mounts in `mounts` already.
    pub volumes_from: Vec<String>,
    /// Written into the container before it starts: secrets and configs that are no file on the host.
    pub files: Vec<FileToWrite>,
    pub mem_limit_bytes: Option<u64>,
    /// Thousandths of a core.
    pub cpus_milli: Option<u64>,
    /// Every other limit of memory, processors, disks and handles.
    pub limits: Limits,
    pub isolation: Isolation,
    pub devices: Devices,
    pub resolver: Resolver,
    pub logging: Option<Logging>,
    /// `linux/arm64`; None is the daemon's own.
    pub platform: Option<String>,
    /// The OCI runtime: `runsc`. None is the daemon's default.
    pub runtime: Option<String>,
    /// `None` leaves it to the daemon.
    pub init: Option<bool>,
    /// The root filesystem is mounted read-only.
    pub read_only: bool,
    pub stdin_open: bool,
    pub tty: bool,
}

impl ContainerSettings {
    pub const STOP_GRACE_PERIOD_MS: u64 = 10_000;
}

impl Default for ContainerSettings {
    fn default() -> Self {
        Self {
            image: String::new(),
            command: None,
            entrypoint: None,
            environment: BTreeMap::new(),
            labels: BTreeMap::new(),
            annotations: BTreeMap::new(),
            user: None,
            group_add: Vec::new(),
            working_dir: None,
            restart: Restart::No,
            healthcheck: None,
            stop_signal: None,
            stop_grace_period_ms: Self::STOP_GRACE_PERIOD_MS,
            mounts: Vec::new(),
            volumes_from: Vec::new(),
            files: Vec::new(),
            mem_limit_bytes: None,
            cpus_milli: None,
            limits: Limits::default(),
            isolation: Isolation::default(),
            devices: Devices::default(),
            resolver: Resolver::default(),
            logging: None,
            platform: None,
            runtime: None,
            init: None,
            read_only: false,
            stdin_open: false,
            tty: false,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Restart {
    #[default]
    No,
    Always,
    UnlessStopped,
    /// At most this many times; 0 is without end.
    OnFailure(u32),
}

/// The container's own HEALTHCHECK. Fields that are None keep the image's own.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Healthcheck {
    /// `["NONE"]` (also from `disable: true`), `["CMD", ...]` or `["CMD-SHELL", "..."]`.
    pub test: Option<Vec<String>>,
    pub interval_ms: Option<u64>,
    pub timeout_ms: Option<u64>,
    pub start_period_ms: Option<u64>,
    /// Between two checks within the start period (Docker 25 and later).
    pub start_interval_ms: Option<u64>,
    pub retries: Option<u32>,
}

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Mount {
    pub kind: MountKind,
    /// The volume's Docker name, the absolute host path, the image, or None (anonymous volume, tmpfs).
    pub source: Option<String>,
    pub target: String,
    pub read_only: bool,
    /// Bind: create the host path when it is missing (short form does; long form by `bind.create_host_path`).
    pub create_host_path: bool,
    /// Bind: `z`/`Z`, propagation; volume: `nocopy`; tmpfs: `size=1048576` (bytes), `mode=1777` (octal), and with the
    /// service's `tmpfs` whatever mount(8) takes; as Docker takes them.
    pub options: Vec<String>,
    /// Volume and image: the folder in it that is mounted.
    pub subpath: Option<String>,
    /// Volume: labels of a volume that this mount creates (an anonymous one).
    pub labels: BTreeMap<String, String>,
    /// Bind: what becomes of mounts below the source.
    pub recursive: Option<Recursive>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MountKind {
    #[default]
    Volume,
    Bind,
    Tmpfs,
    /// The files of an image, read-only (Docker 28 and later).
    Image,
}

/// `bind.recursive`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Recursive {
    /// Mounts below come along, read-only ones where the kernel can: Docker's default.
    Enabled,
    /// Mounts below do not come along.
    Disabled,
    /// They come along and stay writable under a read-only mount.
    Writable,
    /// They come along read-only, or the container does not start.
    Readonly,
}

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Logging {
    pub driver: Option<String>,
    pub options: BTreeMap<String, String>,
}

/// A secret or a config whose text stands in the compose file or in the environment.
#[derive(Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct FileToWrite {
    /// Absolute, in the container.
    pub target: String,
    /// Secret: it is in no log and no error.
    pub content: String,
    /// Permission bits; Compose's default is 0444.
    pub mode: u32,
    /// As numbers; None is root.
    pub uid: Option<u32>,
    pub gid: Option<u32>,
}

impl fmt::Debug for FileToWrite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { target, content, mode, uid, gid } = self;
        f.debug_struct("FileToWrite")
            .field("target", target)
            .field("content", &format_args!("<{} bytes>", content.len()))
            .field("mode", &format_args!("{mode:04o}"))
            .field("uid", uid)
            .field("gid", gid)
            .finish()
    }
}

/// What the container shares with the host and may do there.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Isolation {
    pub privileged: bool,
    pub cap_add: Vec<String>,
    pub cap_drop: Vec<String>,
    /// As Docker takes them: `no-new-privileges:true`, `apparmor:unconfined`, `seccomp=<the profile's JSON>` (a path was
    /// read by the CLI, as `docker run` does).
    pub security_opt: Vec<String>,
    pub sysctls: BTreeMap<String, String>,
    pub ipc: Option<Namespace>,
    pub pid: Option<Namespace>,
    /// Only `Host`.
    pub uts: Option<Namespace>,
    /// Only `Host`.
    pub userns: Option<Namespace>,
    /// `Host` or `Private`.
    pub cgroup: Option<Namespace>,
    pub cgroup_parent: Option<String>,
}

/// Whose namespace a container uses.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Namespace {
    Host,
    Private,
    /// `ipc: shareable`: its own, which others may join.
    Shareable,
    /// `ipc: none`.
    None,
    /// That of a container of this service of the project.
    Service(String),
    /// That of a container that Teal does not manage, by name or id.
    Container(String),
}

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Devices {
    pub devices: Vec<Device>,
    /// `c 1:3 mr`.
    pub cgroup_rules: Vec<String>,
    /// `gpus` and `deploy.resources.reservations.devices`.
    pub requests: Vec<DeviceRequest>,
}

#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Device {
    /// A path on the host, or a CDI name (`vendor.com/class=name`; then target and permissions mean nothing).
    pub source: String,
    pub target: String,
    /// Of the letters `rwm`.
    pub permissions: String,
}

/// Devices that a driver chooses: GPUs.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct DeviceRequest {
    pub driver: Option<String>,
    /// -1 is all of them. None with `device_ids`.
    pub count: Option<i64>,
    pub device_ids: Vec<String>,
    /// All of them are needed: `["gpu", "nvidia"]`.
    pub capabilities: Vec<String>,
    pub options: BTreeMap<String, String>,
}

/// How the container is called and finds others by name.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Resolver {
    pub hostname: Option<String>,
    pub domainname: Option<String>,
    /// Lines of `/etc/hosts` as Docker takes them: `name:address`, the address may be `host-gateway`.
    pub extra_hosts: Vec<String>,
    pub dns: Vec<String>,
    pub dns_search: Vec<String>,
    pub dns_opt: Vec<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_content_of_a_secret_is_in_no_debug_output() {
        let settings = ContainerSettings {
            files: vec![FileToWrite {
                target: "/run/secrets/key".into(),
                content: "hunter2".into(),
                ..Default::default()
            }],
            ..Default::default()
        };
        let shown = format!("{settings:?}");
        assert!(shown.contains("/run/secrets/key") && !shown.contains("hunter2"), "{shown}");
    }

    #[test]
    fn settings_that_an_earlier_version_stored_can_still_be_read() {
        let old = r#"{"image": "app:1", "restart": "always", "stop_grace_period_ms": 5000}"#;
        let settings: ContainerSettings = serde_json::from_str(old).unwrap_or_default();
        assert_eq!((settings.image.as_str(), settings.restart), ("app:1", Restart::Always));
        assert_eq!(ContainerSettings::default().stop_grace_period_ms, 10_000);
    }
}
