//! The keys of `x-teal` that tell how a release proves itself, and what takes it back.

use super::keys::{Level, no, yes};

pub static WARMUP: Level = Level {
    name: "services.<name>.x-teal.health.warmup",
    extensions: false,
    keys: &[
        yes("requests", "To each replica. Default 100."),
        yes("path", "What is asked for. Default: the path of `health`, or `/`."),
        yes("paths", "The same, several in turn."),
        yes("concurrency", "Requests at the same time to one replica. Default 4."),
        yes("timeout", "For all of them. Default 1m."),
    ],
};

pub static ROLLBACK: Level = Level {
    name: "services.<name>.x-teal.rollback",
    extensions: false,
    keys: &[
        yes("on", "`errors`, `latency`, `facts`, `history`, or a list of these; `none`. Default `[errors, facts]`."),
        yes(
            "action",
            "`rollback` (default), `pause`: the share stays until somebody promotes or aborts, `continue`: a warning.",
        ),
        yes(
            "evidence",
            "When a release is taken back: 1000 (default) is a false alarm in at most one of 1000 deployments.",
        ),
        yes("contain", "The evidence at which its share is turned down first. Default 100."),
        yes("ratio", "How many times the failures of the live release it may have. Default 1.5."),
        yes("margin", "And how much above that, as a share of all requests. Default `0.2%`."),
        yes("min_requests", "Requests without which a bake says nothing. Default 300."),
        yes("extend", "How long a bake that said nothing goes on at most; then it ends with a warning. Default 15m."),
        yes("judges", "Others who may say that a release is bad, see below."),
    ],
};

pub static JUDGE: Level = Level {
    name: "services.<name>.x-teal.rollback.judges[]",
    extensions: false,
    keys: &[
        yes("name", "As it is told. Required."),
        yes("command", "A program on the agent's host: exit 0 is good, anything else bad."),
        yes("prometheus", "`http://HOST:9090`, instead of a command."),
        yes("query", "The expression, as in an alerting rule: any result is bad. Required with `prometheus`."),
        yes("every", "Between two questions. Default 10s."),
        yes("timeout", "For one question. Default 10s."),
        yes("failures", "Bad answers in a row that count. Default 1."),
    ],
};

pub static CANARY: Level = Level {
    name: "services.<name>.x-teal.canary[]",
    extensions: false,
    keys: &[
        yes(
            "percent",
            "Of the requests, to two decimals; more than in the step before. 0 as the first: previews alone. Required.",
        ),
        yes("for", "How long the step lasts, or `manual`: until `teal promote`. Default 2m."),
        yes(
            "replicas",
            "How many of the service's replicas run in the step; no fewer than in the step before. Default: as many as in that, and all in the first.",
        ),
        no("steps", "Write the list itself: `canary: [\"5% 2m\", \"25% 10m\"]`."),
    ],
};

pub static STICKY: Level = Level {
    name: "services.<name>.x-teal.sticky",
    extensions: false,
    keys: &[
        yes("cookie", "The name of the cookie that Teal sets."),
        yes("header", "The request header that tells users apart, as `X-User-Id`."),
    ],
};

pub static PREVIEW: Level = Level {
    name: "services.<name>.x-teal.preview",
    extensions: false,
    keys: &[
        yes(
            "networks",
            "Addresses (CIDR or single) that may ask; `private` is all private ranges but loopback. Default: none.",
        ),
        yes("token", "A secret of at least 16 characters: whoever sends it may ask from anywhere."),
    ],
};

pub static MIGRATE: Level = Level {
    name: "services.<name>.x-teal.migrate",
    extensions: false,
    keys: &[yes("command", "As the service's `command`. Required."), yes("timeout", "Default 10m.")],
};

pub static SMOKE: Level = Level {
    name: "services.<name>.x-teal.smoke",
    extensions: false,
    keys: &[yes("checks", "One, or a list. Required."), yes("timeout", "For all of them. Default 1m.")],
};

pub static SMOKE_CHECK: Level = Level {
    name: "services.<name>.x-teal.smoke.checks[]",
    extensions: false,
    keys: &[
        yes("path", "`GET` of this path at the candidate must answer 2xx or 3xx."),
        yes("status", "The only status that counts."),
        yes("host", "The `Host` header."),
        yes("command", "A program on the agent's host, in the project's folder, instead of a path: it must exit 0."),
    ],
};
