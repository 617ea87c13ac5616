//! Every key of the Compose specification and what becomes of it (those of `x-teal` are in teal_keys.rs): the tables
//! behind "unknown key", "not supported" and docs/configuration.md.

pub use super::teal_keys::{HEALTH, HOLD, ROUTE, TEAL_PROJECT, TEAL_SERVICE, TIMEOUTS};

/// What becomes of a key. The text is one or two short sentences for people.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// Read; the text says how.
    Honoured(&'static str),
    /// Refused by name; the text says what to do instead.
    Refused(&'static str),
    /// Teal's own, and to come; the text says what to do until then.
    NotBuilt(&'static str),
}

#[derive(Debug, Clone, Copy)]
pub struct Key {
    pub name: &'static str,
    pub standing: Standing,
}

/// A map in the file whose keys are fixed.
#[derive(Debug)]
pub struct Level {
    /// As it stands in the file: `services.<name>.deploy`.
    pub name: &'static str,
    pub keys: &'static [Key],
    /// Whether the specification allows `x-...` here.
    pub extensions: bool,
}

impl Level {
    pub fn standing(&self, key: &str) -> Option<&Standing> {
        self.keys.iter().find(|k| k.name == key).map(|k| &k.standing)
    }
}

pub(super) const fn yes(name: &'static str, how: &'static str) -> Key {
    Key { name, standing: Standing::Honoured(how) }
}

pub(super) const fn no(name: &'static str, instead: &'static str) -> Key {
    Key { name, standing: Standing::Refused(instead) }
}

pub(super) const fn later(name: &'static str, until: &'static str) -> Key {
    Key { name, standing: Standing::NotBuilt(until) }
}

/// All levels, in the order of the manual.
pub static LEVELS: [&Level; 24] = [
    &PROJECT,
    &SERVICE,
    &PORT,
    &MOUNT,
    &MOUNT_BIND,
    &MOUNT_VOLUME,
    &MOUNT_TMPFS,
    &DEPENDENCY,
    &ENV_FILE,
    &HEALTHCHECK,
    &LOGGING,
    &DEPLOY,
    &UPDATE_CONFIG,
    &VOLUME,
    &NETWORKS,
    &NETWORK,
    &SERVICE_NETWORKS,
    &SERVICE_NETWORK,
    &TEAL_PROJECT,
    &TEAL_SERVICE,
    &ROUTE,
    &HEALTH,
    &HOLD,
    &TIMEOUTS,
];

pub static PROJECT: Level = Level {
    name: "(top level)",
    extensions: true,
    keys: &[
        yes(
            "name",
            "The project's name. `-p` and `COMPOSE_PROJECT_NAME` go before it; without any, the folder's name.",
        ),
        yes("version", "Accepted with a warning: it is obsolete and says nothing."),
        yes("services", "See below."),
        yes("volumes", "Named volumes, see below."),
        yes("networks", "Only `default`, and only without settings: all services of a project share one network."),
        yes("x-teal", "See below."),
        no("include", "Write the services into this file."),
        no("configs", "Mount the file with `volumes` (`./app.conf:/etc/app.conf:ro`)."),
        no("secrets", "Use `env_file`, or mount the file with `volumes` (read-only)."),
        no("models", "Run the model beside the project and give its address in `environment`."),
    ],
};

pub static SERVICE: Level = Level {
    name: "services.<name>",
    extensions: true,
    keys: &[
        yes("image", "Required. A reference with a tag or a digest."),
        yes(
            "command",
            "A list, or a string that is split into words without a shell. Null keeps the image's, empty clears it.",
        ),
        yes("entrypoint", "As `command`."),
        yes(
            "environment",
            "A map or a list. A name without value is taken from the environment, and left out when unset there.",
        ),
        yes("env_file", "A path, a list, or the long form. Later files win, `environment` wins over all."),
        yes("ports", "`[ADDRESS:]HOST:CONTAINER` or the long form: the proxy listens on HOST. TCP only."),
        yes("volumes", "Short and long form: `volume`, `bind`, `tmpfs`."),
        yes(
            "depends_on",
            "Short and long form, `service_started` and `service_healthy`: either way a service starts when those before it are ready.",
        ),
        yes("labels", "A map or a list. `teal.*` and `com.docker.compose.*` are reserved."),
        yes("user", "User or UID, with an optional group."),
        yes("working_dir", "An absolute path in the container."),
        yes("restart", "`no`, `always`, `unless-stopped`, `on-failure[:times]`."),
        yes("healthcheck", "See below. Must pass before a replica counts as ready."),
        yes("stop_signal", "A name (`SIGQUIT`, `QUIT`) or a number."),
        yes("stop_grace_period", "Between the stop signal and the kill. Default 10s."),
        yes("deploy", "See below."),
        yes("scale", "Replicas; the same as `deploy.replicas`."),
        yes("mem_limit", "A size of at least 6m; 0 is no limit."),
        yes("cpus", "Cores, to a thousandth; 0 is no limit."),
        yes("logging", "Driver and options."),
        yes("networks", "Only `default`, without settings."),
        yes("pull_policy", "`always`, `never`, `missing`, `if_not_present`."),
        yes("x-teal", "See below."),
        no("annotations", "Use `labels`."),
        no("attach", "Take it out: Teal attaches to no container."),
        no("blkio_config", "Take it out."),
        no(
            "build",
            "Build and tag the image first: `docker compose build`, or `docker build -t NAME:TAG .`, and name it in `image`.",
        ),
        no("cap_add", "Take it out, and give the image what it needs."),
        no("cap_drop", "Take it out, and run the program as another user with `user`."),
        no("cgroup", "Take it out."),
        no("cgroup_parent", "Take it out."),
        no("configs", "Mount the file with `volumes` (`./app.conf:/etc/app.conf:ro`)."),
        no("container_name", "Take it out: two releases run side by side, so Teal names the containers."),
        no("cpu_count", "Use `cpus`."),
        no("cpu_percent", "Use `cpus`."),
        no("cpu_period", "Use `cpus`."),
        no("cpu_quota", "Use `cpus`."),
        no("cpu_rt_period", "Use `cpus`."),
        no("cpu_rt_runtime", "Use `cpus`."),
        no("cpu_shares", "Use `cpus`."),
        no("cpuset", "Use `cpus`."),
        no("credential_spec", "Take it out: it is for Windows."),
        no("develop", "Take it out, or keep it in a file for development only."),
        no("device_cgroup_rules", "Take it out."),
        no("devices", "Keep a service that needs a device out of the project."),
        no("dns", "Set it in the Docker daemon's configuration."),
        no("dns_opt", "Set it in the Docker daemon's configuration."),
        no("dns_search", "Set it in the Docker daemon's configuration."),
        no("domainname", "Take it out."),
        no(
            "expose",
            "Take it out: containers of a project reach each other on every port. A port for clients goes into `ports`.",
        ),
        no("extends", "Write the settings here, or share them with a YAML anchor and `<<`."),
        no("external_links", "Give the address in `environment`."),
        no("extra_hosts", "Give the address in `environment`."),
        no("gpus", "Keep a service that needs a GPU out of the project."),
        no("group_add", "Give the group with `user: UID:GID`."),
        no("hostname", "Take it out: replicas and releases run side by side under names of their own."),
        no("init", "Build the init into the image (`ENTRYPOINT [\"tini\", \"--\"]`)."),
        no("ipc", "Take it out."),
        no("isolation", "Take it out: it is for Windows."),
        no("label_file", "Use `labels`."),
        no(
            "links",
            "Take it out: a recreated service is reached by its name, a blue-green one through its published port. For the order of starting use `depends_on`.",
        ),
        no("mac_address", "Take it out."),
        no("mem_reservation", "Use `mem_limit`."),
        no("mem_swappiness", "Take it out."),
        no("memswap_limit", "Use `mem_limit`."),
        no("models", "Give the model's address in `environment`."),
        no("network_mode", "Take it out: the proxy reaches containers on the project's own network."),
        no("oom_kill_disable", "Take it out."),
        no("oom_score_adj", "Take it out."),
        no("pid", "Take it out."),
        no("pids_limit", "Take it out."),
        no("platform", "Build the image for this machine's platform."),
        no("post_start", "Do it in the image's entrypoint."),
        no("pre_stop", "Do it when the stop signal arrives; requests are drained before it."),
        no("privileged", "Keep a privileged service out of the project."),
        no("profiles", "Take it out, or keep the service in a file of its own."),
        no("provider", "Keep the service out of the project."),
        no("pull_refresh_after", "Use `pull_policy: always`."),
        no("read_only", "Take it out, and mount with `:ro` what must not be written."),
        no("runtime", "Set the default runtime in the Docker daemon's configuration."),
        no("secrets", "Use `env_file`, or mount the file with `volumes` (read-only)."),
        no("security_opt", "Take it out, or set it in the Docker daemon's configuration."),
        no("shm_size", "Mount a tmpfs: `volumes: [{type: tmpfs, target: /dev/shm, tmpfs: {size: 1g}}]`."),
        no("stdin_open", "Take it out: a service has no terminal."),
        no("storage_opt", "Take it out."),
        no("sysctls", "Set it on the host."),
        no("tmpfs", "Write it under `volumes`: `{type: tmpfs, target: /run}`."),
        no("tty", "Take it out: a service has no terminal."),
        no("ulimits", "Set `default-ulimits` in the Docker daemon's configuration."),
        no("use_api_socket", "Keep a service that drives Docker out of the project."),
        no("userns_mode", "Set it in the Docker daemon's configuration."),
        no("uts", "Take it out."),
        no("volumes_from", "Name the volumes under `volumes` of both services."),
    ],
};

pub static PORT: Level = Level {
    name: "services.<name>.ports[]",
    extensions: true,
    keys: &[
        yes("target", "The container's port. Required."),
        yes("published", "The port that the proxy listens on. Required."),
        yes("host_ip", "The address that the proxy listens on. Default: all, IPv4 and IPv6."),
        yes("protocol", "Only `tcp`."),
        yes("mode", "`host` or `ingress`; both mean the proxy."),
        yes("app_protocol", "Only `http`."),
        yes("name", "A name for people."),
    ],
};

pub static MOUNT: Level = Level {
    name: "services.<name>.volumes[]",
    extensions: true,
    keys: &[
        yes("type", "`volume`, `bind` or `tmpfs`. Required."),
        yes("source", "A named volume's key, or a path on the host. None for `tmpfs` and for an anonymous volume."),
        yes("target", "An absolute path in the container. Required."),
        yes("read_only", "Default false."),
        yes("consistency", "Accepted with a warning: it does nothing on Linux."),
        yes("bind", "See below."),
        yes("volume", "See below."),
        yes("tmpfs", "See below."),
        no("image", "Put the files into the service's own image, or into a volume."),
    ],
};

pub static MOUNT_BIND: Level = Level {
    name: "services.<name>.volumes[].bind",
    extensions: true,
    keys: &[
        yes("create_host_path", "Create the host path when it is missing. Default true."),
        yes("propagation", "`private`, `rprivate`, `shared`, `rshared`, `slave`, `rslave`."),
        yes("selinux", "`z` or `Z`."),
        no("recursive", "Take it out: mounts below the source come along."),
    ],
};

pub static MOUNT_VOLUME: Level = Level {
    name: "services.<name>.volumes[].volume",
    extensions: true,
    keys: &[
        yes("nocopy", "Do not fill a new volume from the image. Default false."),
        no("labels", "Label the volume under top-level `volumes`."),
        no("subpath", "Use a volume of its own."),
    ],
};

pub static MOUNT_TMPFS: Level = Level {
    name: "services.<name>.volumes[].tmpfs",
    extensions: true,
    keys: &[yes("size", "A size. Default: half of the memory."), yes("mode", "Octal permissions, `1777` by default.")],
};

pub static DEPENDENCY: Level = Level {
    name: "services.<name>.depends_on.<name>",
    extensions: true,
    keys: &[
        yes("condition", "`service_started`, `service_healthy`, `service_completed_successfully`. Required."),
        yes(
            "required",
            "`false`: a service that is not in the file is left out with a warning. One that is in the file is waited for.",
        ),
        yes("restart", "Only `false`."),
    ],
};

pub static ENV_FILE: Level = Level {
    name: "services.<name>.env_file[]",
    extensions: false,
    keys: &[
        yes("path", "Relative to the project's folder. Required."),
        yes("required", "`false`: a file that does not exist is skipped. Default true."),
        yes("format", "`raw`: values are taken letter by letter, without quotes and variables."),
    ],
};

pub static HEALTHCHECK: Level = Level {
    name: "services.<name>.healthcheck",
    extensions: true,
    keys: &[
        yes(
            "test",
            "A string (run by the container's shell), or a list that starts with `CMD`, `CMD-SHELL` or `NONE`.",
        ),
        yes("interval", "Between two checks. Docker's default: 30s."),
        yes("timeout", "For one check. Docker's default: 30s."),
        yes("start_period", "Failures within it do not count. Docker's default: 0."),
        yes("retries", "Failures in a row that make it unhealthy. Docker's default: 3."),
        yes("disable", "`true` switches the image's own check off, as `test: [NONE]`."),
        no("start_interval", "Use a shorter `interval`."),
    ],
};

pub static LOGGING: Level = Level {
    name: "services.<name>.logging",
    extensions: true,
    keys: &[yes("driver", "A log driver of the Docker daemon."), yes("options", "The driver's options.")],
};

pub static DEPLOY: Level = Level {
    name: "services.<name>.deploy",
    extensions: true,
    keys: &[
        yes("replicas", "Containers of a release, 1 to 100. Default 1."),
        yes("mode", "Only `replicated`."),
        yes("update_config", "See below."),
        no("endpoint_mode", "Take it out: the proxy balances over the replicas."),
        no("labels", "Use the service's own `labels`."),
        no("placement", "Take it out: every host runs all services of its project."),
        no("resources", "Use `mem_limit` and `cpus`."),
        no("restart_policy", "Use `restart`."),
        no("rollback_config", "Take it out: a revert is one flip of the proxy."),
    ],
};

pub static UPDATE_CONFIG: Level = Level {
    name: "services.<name>.deploy.update_config",
    extensions: true,
    keys: &[
        yes("order", "`start-first` or `stop-first`. `x-teal.strategy` goes before it."),
        no("delay", "Take it out: all replicas of a release change in one flip."),
        no(
            "failure_action",
            "Take it out: a release that fails before the flip gets no request, and the live one stays.",
        ),
        no("max_failure_ratio", "Take it out: every replica must be ready before the flip."),
        no("monitor", "Take it out."),
        no("parallelism", "Take it out: all replicas of a release change in one flip."),
    ],
};

pub static VOLUME: Level = Level {
    name: "volumes.<name>",
    extensions: true,
    keys: &[
        yes("name", "The volume's name in Docker. Default: `<project>_<key>`."),
        yes("external", "`true`: it exists already and is never created. Its name is `name`, or the key as it is."),
        yes("driver", "Default: the daemon's."),
        yes("driver_opts", "The driver's options."),
        yes("labels", "A map or a list."),
    ],
};

pub static NETWORKS: Level = Level {
    name: "networks",
    extensions: true,
    keys: &[yes("default", "The one network of the project; without settings.")],
};

const NETWORK_SETTING: &str = "Take it out: the project's network has no settings yet.";

pub static NETWORK: Level = Level {
    name: "networks.default",
    extensions: true,
    keys: &[
        no("name", NETWORK_SETTING),
        no("driver", NETWORK_SETTING),
        no("driver_opts", NETWORK_SETTING),
        no("attachable", NETWORK_SETTING),
        no("enable_ipv4", NETWORK_SETTING),
        no("enable_ipv6", NETWORK_SETTING),
        no("external", NETWORK_SETTING),
        no("internal", NETWORK_SETTING),
        no("ipam", NETWORK_SETTING),
        no("labels", NETWORK_SETTING),
    ],
};

pub static SERVICE_NETWORKS: Level = Level {
    name: "services.<name>.networks",
    extensions: false,
    keys: &[yes("default", "The one network of the project; without settings.")],
};

const ATTACHMENT: &str =
    "Take it out: a recreated service is reached by its name, a blue-green one through its published port.";

pub static SERVICE_NETWORK: Level = Level {
    name: "services.<name>.networks.default",
    extensions: true,
    keys: &[
        no("aliases", ATTACHMENT),
        no("driver_opts", ATTACHMENT),
        no("gw_priority", ATTACHMENT),
        no("interface_name", ATTACHMENT),
        no("ipv4_address", ATTACHMENT),
        no("ipv6_address", ATTACHMENT),
        no("link_local_ips", ATTACHMENT),
        no("mac_address", ATTACHMENT),
        no("priority", ATTACHMENT),
    ],
};

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_key_stands_in_its_table_once_and_says_what_becomes_of_it() {
        for level in LEVELS {
            let names: BTreeSet<_> = level.keys.iter().map(|k| k.name).collect();
            assert_eq!(names.len(), level.keys.len(), "{}", level.name);
            for key in level.keys {
                let (Standing::Honoured(text) | Standing::Refused(text) | Standing::NotBuilt(text)) = key.standing;
                assert!(text.ends_with('.'), "{}.{}: {text}", level.name, key.name);
            }
        }
    }

    /// From the schema of the Compose specification: a key that is missing here would be called unknown.
    #[test]
    fn the_tables_hold_every_key_of_the_specification() {
        let service = "annotations attach blkio_config build cap_add cap_drop cgroup cgroup_parent command configs \
            container_name cpu_count cpu_percent cpu_period cpu_quota cpu_rt_period cpu_rt_runtime cpu_shares cpus cpuset \
            credential_spec depends_on deploy develop device_cgroup_rules devices dns dns_opt dns_search domainname \
            entrypoint env_file environment expose extends external_links extra_hosts gpus group_add healthcheck hostname \
            image init ipc isolation label_file labels links logging mac_address mem_limit mem_reservation mem_swappiness \
            memswap_limit models network_mode networks oom_kill_disable oom_score_adj pid pids_limit platform ports \
            post_start pre_stop privileged profiles provider pull_policy pull_refresh_after read_only restart runtime scale \
            secrets security_opt shm_size stdin_open stop_grace_period stop_signal storage_opt sysctls tmpfs tty ulimits \
            use_api_socket user userns_mode uts volumes volumes_from working_dir";
        let top = "configs include models name networks secrets services version volumes";
        let deploy =
            "endpoint_mode labels mode placement replicas resources restart_policy rollback_config update_config";
        for (level, keys) in [(&SERVICE, service), (&PROJECT, top), (&DEPLOY, deploy)] {
            let missing: Vec<_> = keys.split_whitespace().filter(|key| level.standing(key).is_none()).collect();
            assert_eq!(missing, Vec::<&str>::new(), "{}", level.name);
            let strange: Vec<_> = level.keys.iter().map(|k| k.name).filter(|name| !keys.contains(name)).collect();
            assert!(strange.is_empty() || strange == ["x-teal"], "{}: {strange:?}", level.name);
        }
    }
}
