//! `deploy`: what Compose itself heeds of it, and what is Swarm's.

use super::{Level, idle, same, yes};

pub static DEPLOY: Level = Level {
    name: "services.<name>.deploy",
    extensions: true,
    keys: &[
        yes("replicas", "Containers of a release, 1 to 100. Default 1."),
        yes(
            "mode",
            "`replicated`; `global` is one container on this host; `replicated-job` and `global-job` run once: a job, see `depends_on`.",
        ),
        yes("update_config", "See below."),
        yes("rollback_config", "See below."),
        yes("resources", "See below."),
        yes("restart_policy", "Where `restart` is not written. See below."),
        same("labels", "They are the Swarm service's, not the containers'."),
        same("endpoint_mode", "The proxy balances over the replicas."),
        yes("placement", "See below."),
    ],
};

pub static UPDATE_CONFIG: Level = Level {
    name: "services.<name>.deploy.update_config",
    extensions: true,
    keys: &[
        yes("order", "`start-first` or `stop-first`. `x-teal.strategy` goes before it."),
        yes(
            "parallelism",
            "How many replicas change at a time, of a service that nobody calls. Default, and `0`: all at once.",
        ),
        yes("delay", "How long nothing changes between two such batches. Default `0s`."),
        yes(
            "failure_action",
            "`rollback`, `pause` or `continue`: the same as `x-teal.rollback.action`. Default `rollback`; Swarm's is `pause`.",
        ),
        yes("monitor", "The same as `x-teal.bake`, which goes before it."),
        yes(
            "max_failure_ratio",
            "0 to 1: the part of the candidate's replicas that may fail before it is taken back. Default 0.",
        ),
    ],
};

pub static ROLLBACK_CONFIG: Level = Level {
    name: "services.<name>.deploy.rollback_config",
    extensions: true,
    keys: &[
        same("order", "The live release stays up until the candidate has taken over: a revert is one flip back."),
        same("parallelism", "A revert is one flip; what was stopped starts again all at once."),
        same("delay", "A revert is one flip; what was stopped starts again all at once."),
        same("failure_action", "A revert that fails stops, and says so."),
        same("monitor", "A revert is one flip."),
        same("max_failure_ratio", "A revert is one flip."),
    ],
};

pub static RESOURCES: Level = Level {
    name: "services.<name>.deploy.resources",
    extensions: true,
    keys: &[yes("limits", "See below."), yes("reservations", "See below.")],
};

pub static RESOURCE_LIMITS: Level = Level {
    name: "services.<name>.deploy.resources.limits",
    extensions: true,
    keys: &[
        yes("cpus", "The same as the service's `cpus`."),
        yes("memory", "The same as `mem_limit`."),
        yes("pids", "The same as `pids_limit`."),
    ],
};

pub static RESERVATIONS: Level = Level {
    name: "services.<name>.deploy.resources.reservations",
    extensions: true,
    keys: &[
        same("cpus", "Only Swarm reserves cores."),
        yes("memory", "The same as `mem_reservation`."),
        idle("generic_resources", "Only Swarm knows them; a GPU is asked for with `devices` or `gpus`."),
        yes("devices", "GPUs and the like, see below."),
    ],
};

pub static DEVICE_REQUEST: Level =
    Level { name: "services.<name>.deploy.resources.reservations.devices[]", extensions: true, keys: REQUEST };

pub static GPU: Level = Level { name: "services.<name>.gpus[]", extensions: true, keys: REQUEST };

const REQUEST: &[super::Key] = &[
    yes("capabilities", "What it must be able to do; `gpu` is implied under `gpus`."),
    yes("count", "How many, or `all`, which is the default."),
    yes("device_ids", "Which ones, instead of `count`."),
    yes("driver", "As `nvidia`."),
    yes("options", "The driver's options."),
];

pub static RESTART_POLICY: Level = Level {
    name: "services.<name>.deploy.restart_policy",
    extensions: true,
    keys: &[
        yes("condition", "`none` is `restart: no`, `on-failure`, `any` is `always`."),
        yes("max_attempts", "With `on-failure`."),
        same("delay", "Docker chooses the time between two starts."),
        same("window", "Docker chooses the time between two starts."),
    ],
};

pub static PLACEMENT: Level = Level {
    name: "services.<name>.deploy.placement",
    extensions: true,
    keys: &[
        same("constraints", "Every host runs all services of its project."),
        same("preferences", "Every host runs all services of its project."),
        same("max_replicas_per_node", "Every host runs all services of its project."),
    ],
};
