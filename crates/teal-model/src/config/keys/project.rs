//! The top level, and what is defined there for all services.

use super::{Level, no, same, yes};

pub static PROJECT: Level = Level {
    name: "(top level)",
    extensions: true,
    keys: &[
        yes(
            "name",
            "The project's name. `-p` and `COMPOSE_PROJECT_NAME` go before it; without any, the folder's name.",
        ),
        yes("version", "Accepted with a warning: it is obsolete and says nothing."),
        yes("include", "Other compose files that become part of this one. See below."),
        yes("services", "See below."),
        yes("networks", "See below."),
        yes("volumes", "Named volumes, see below."),
        yes("secrets", "See below."),
        yes("configs", "See below."),
        yes("x-teal", "See below."),
        no("models", "Run the model beside the project and give its address in `environment`."),
    ],
};

pub static INCLUDE: Level = Level {
    name: "include[]",
    extensions: false,
    keys: &[
        yes("path", "A compose file, or a list of files that are merged. Required."),
        yes("project_directory", "Where its relative paths start. Default: the folder of the first file."),
        yes("env_file", "Its variables, below those of this project. Default: the `.env` of its folder."),
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

pub static EXTERNAL: Level = Level {
    name: "volumes.<name>.external",
    extensions: true,
    keys: &[yes("name", "The old form, with a warning: write `name` beside `external: true`.")],
};

pub static NETWORK: Level = Level {
    name: "networks.<name>",
    extensions: true,
    keys: &[
        yes("name", "The network's name in Docker. Default: `<project>_<key>`."),
        yes("external", "`true`: it exists already. It is neither created nor removed."),
        yes("driver", "Default: `bridge`. Another one must be there in Docker."),
        yes("driver_opts", "The driver's options."),
        yes("internal", "No way out of it. Default false."),
        yes("attachable", "For `overlay`."),
        yes("enable_ipv4", "Default: the daemon's."),
        yes("enable_ipv6", "Default: the daemon's."),
        yes("ipam", "Addresses, see below."),
        yes("labels", "A map or a list."),
    ],
};

pub static IPAM: Level = Level {
    name: "networks.<name>.ipam",
    extensions: true,
    keys: &[
        yes("driver", "Default: Docker's own."),
        yes("config", "See below."),
        yes("options", "The driver's options."),
    ],
};

pub static IPAM_POOL: Level = Level {
    name: "networks.<name>.ipam.config[]",
    extensions: true,
    keys: &[
        yes("subnet", "As `172.28.0.0/16`."),
        yes("ip_range", "Where containers get their addresses from."),
        yes("gateway", "An address."),
        yes("aux_addresses", "Addresses that something else has, by its name."),
    ],
};

pub static SECRET: Level = Level {
    name: "secrets.<name>",
    extensions: true,
    keys: &[
        yes("file", "A file of this host; it is mounted read-only."),
        yes("environment", "The variable that holds it; it is written into the containers."),
        same("name", "It has a name in Swarm alone."),
        same("labels", "It has labels in Swarm alone."),
        no("external", "It would be Swarm's. Put it into a file on this host: `file: /etc/shop/key`."),
        no("driver", "It is for Swarm: use `file` or `environment`."),
        no("driver_opts", "It is for Swarm: use `file` or `environment`."),
        no("template_driver", "It is for Swarm: write the text as it is needed."),
    ],
};

pub static CONFIG: Level = Level {
    name: "configs.<name>",
    extensions: true,
    keys: &[
        yes("file", "A file of this host; it is mounted read-only."),
        yes("environment", "The variable that holds it; it is written into the containers."),
        yes("content", "The text itself; variables are filled in."),
        same("name", "It has a name in Swarm alone."),
        same("labels", "It has labels in Swarm alone."),
        no("external", "It would be Swarm's. Put it into a file on this host: `file: /etc/shop/app.conf`."),
        no("template_driver", "It is for Swarm: `content` fills in variables."),
    ],
};
