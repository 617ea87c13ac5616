//! The forms of what a service has several of: ports, mounts, networks, devices.

use super::{Level, yes};

pub static PORT: Level = Level {
    name: "services.<name>.ports[]",
    extensions: true,
    keys: &[
        yes("target", "The container's port. Required."),
        yes("published", "The port that the proxy listens on; a range leaves the choice. Default: one above 61000."),
        yes("host_ip", "The address that the proxy listens on. Default: all, IPv4 and IPv6."),
        yes("protocol", "`tcp` or `udp`."),
        yes("mode", "`host` or `ingress`; both mean the proxy."),
        yes("app_protocol", "What is spoken on it: a hint for `x-teal.mode: auto`."),
        yes("name", "A name for people."),
    ],
};

pub static MOUNT: Level = Level {
    name: "services.<name>.volumes[]",
    extensions: true,
    keys: &[
        yes("type", "`volume`, `bind`, `tmpfs` or `image`. Required."),
        yes("source", "A named volume's key, or a path on the host. None for `tmpfs` and for an anonymous volume."),
        yes("target", "An absolute path in the container. Required."),
        yes("read_only", "Default false."),
        yes("consistency", "Accepted with a warning: it does nothing on Linux."),
        yes("bind", "See below."),
        yes("volume", "See below."),
        yes("tmpfs", "See below."),
        yes("image", "See below."),
    ],
};

pub static MOUNT_BIND: Level = Level {
    name: "services.<name>.volumes[].bind",
    extensions: true,
    keys: &[
        yes("create_host_path", "Create the host path when it is missing. Default true."),
        yes("propagation", "`private`, `rprivate`, `shared`, `rshared`, `slave`, `rslave`."),
        yes("selinux", "`z` or `Z`."),
        yes("recursive", "Mounts below the source: `enabled`, `disabled`, `writable`, `readonly`."),
    ],
};

pub static MOUNT_VOLUME: Level = Level {
    name: "services.<name>.volumes[].volume",
    extensions: true,
    keys: &[
        yes("nocopy", "Do not fill a new volume from the image. Default false."),
        yes("labels", "Of a volume that this mount creates."),
        yes("subpath", "The folder in the volume that is mounted."),
    ],
};

pub static MOUNT_TMPFS: Level = Level {
    name: "services.<name>.volumes[].tmpfs",
    extensions: true,
    keys: &[yes("size", "A size. Default: half of the memory."), yes("mode", "Octal permissions, `1777` by default.")],
};

pub static MOUNT_IMAGE: Level = Level {
    name: "services.<name>.volumes[].image",
    extensions: true,
    keys: &[yes("subpath", "The folder in the image that is mounted.")],
};

pub static GRANT: Level = Level {
    name: "services.<name>.secrets[]",
    extensions: true,
    keys: &[
        yes("source", "The key at the top level. Required."),
        yes("target", "Where it is in the container. Default: `/run/secrets/<source>`, for a config `/<source>`."),
        yes("uid", "A number. Of a file of the host owner and mode stay as they are there, with a warning."),
        yes("gid", "A number."),
        yes("mode", "Octal, default `0444`."),
    ],
};

pub static DEPENDENCY: Level = Level {
    name: "services.<name>.depends_on.<name>",
    extensions: true,
    keys: &[
        yes("condition", "`service_started`, `service_healthy`, `service_completed_successfully`. Required."),
        yes(
            "required",
            "`false`: a service that is not in the file is left out with a warning, and a job that is may fail. Any other one must get ready, see below.",
        ),
        yes("restart", "`true`: it gets a new release, too, when the other one gets one; as a job it does not."),
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
        yes(
            "start_interval",
            "Between two checks within `start_period`. Docker's default: 5s. Before Docker 25 Teal itself runs a `test` that is written here.",
        ),
    ],
};

pub static LOGGING: Level = Level {
    name: "services.<name>.logging",
    extensions: true,
    keys: &[yes("driver", "A log driver of the Docker daemon."), yes("options", "The driver's options.")],
};

pub static SERVICE_NETWORK: Level = Level {
    name: "services.<name>.networks.<name>",
    extensions: true,
    keys: &[
        yes("aliases", "Names beside the service's own."),
        yes("ipv4_address", "A fixed address: one container at a time has it, so the service is recreated."),
        yes("ipv6_address", "As `ipv4_address`."),
        yes("link_local_ips", "Further addresses."),
        yes("mac_address", "As `ipv4_address`."),
        yes("interface_name", "The interface in the container. Docker 28 and later."),
        yes("priority", "The network with the highest is connected first."),
        yes("gw_priority", "The network with the highest has the default route. Docker 28 and later."),
        yes("driver_opts", "The driver's options."),
    ],
};

pub static ULIMIT: Level = Level {
    name: "services.<name>.ulimits.<name>",
    extensions: true,
    keys: &[yes("soft", "-1 is without limit. Required."), yes("hard", "-1 is without limit. Required.")],
};

pub static DEVICE: Level = Level {
    name: "services.<name>.devices[]",
    extensions: true,
    keys: &[
        yes("source", "The device on the host, or a CDI name. Required."),
        yes("target", "The device in the container. Default: the same."),
        yes("permissions", "Of the letters `rwm`, which is the default."),
    ],
};

pub static BLKIO: Level = Level {
    name: "services.<name>.blkio_config",
    extensions: false,
    keys: &[
        yes("weight", "10 to 1000."),
        yes("weight_device", "A list, see below."),
        yes("device_read_bps", "A list, see below: bytes a second."),
        yes("device_write_bps", "A list: bytes a second."),
        yes("device_read_iops", "A list: operations a second."),
        yes("device_write_iops", "A list: operations a second."),
    ],
};

pub static BLKIO_LIMIT: Level = Level {
    name: "services.<name>.blkio_config.device_read_bps[]",
    extensions: false,
    keys: &[yes("path", "The device. Required."), yes("rate", "A size, or a number. Required.")],
};

pub static BLKIO_WEIGHT: Level = Level {
    name: "services.<name>.blkio_config.weight_device[]",
    extensions: false,
    keys: &[yes("path", "The device. Required."), yes("weight", "10 to 1000. Required.")],
};
