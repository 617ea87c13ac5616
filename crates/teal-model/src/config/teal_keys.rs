//! The keys of `x-teal`, and what becomes of each.

use super::keys::{Level, later, yes};

pub static TEAL_PROJECT: Level = Level {
    name: "x-teal",
    extensions: false,
    keys: &[
        yes(
            "trusted_proxies",
            "Addresses (CIDR or single) whose forwarding headers are believed; `private` is all private ranges.",
        ),
        yes("bake", "As a service's, for every service that does not say it itself; so are the four that follow."),
        yes("retain", "See there."),
        yes("keep", "See there."),
        yes("rollback", "See there. A service that has a `rollback` takes nothing from this one."),
        yes("preview", "See there. A service that has a `preview` takes nothing from this one; `false` is none."),
        later("hosts", "Deploy on each host by itself."),
        later(
            "load_balancer",
            "Take the host out of the load balancer yourself, or leave it in: deployments lose no request.",
        ),
        later("notify", "Take it out."),
        later("store", "Take it out."),
    ],
};

pub static TEAL_SERVICE: Level = Level {
    name: "services.<name>.x-teal",
    extensions: false,
    keys: &[
        yes(
            "mode",
            "`auto` (default), `http` and `tcp`: how the proxy speaks on the published ports. `direct`: no proxy; the containers own the service's name and its published ports, so it is recreated.",
        ),
        yes(
            "strategy",
            "`blue-green`, `canary` or `recreate`. Default: recreate for `stop-first` and for writable volumes, else blue-green.",
        ),
        yes("route", "Host and path that lead here. Default: all of every published port."),
        yes(
            "listen",
            "A socket with a path, `unix:/run/shop.sock` or a map, beside the published ports or instead of them.",
        ),
        yes("health", "When a replica is ready; `none`, a path, or a map. See below."),
        yes("drain", "How long the requests of a release may go on after its last new one. Default 30s."),
        yes("hold", "How long requests wait while no release serves; a duration or a map. Default 2m."),
        yes("bake", "How long the new release is watched after it got all requests. Default 5m; 0 for not at all."),
        yes("rollback", "What takes a release back by itself; `none`, or a map. See [rollback](#rollback)."),
        yes("canary", "The steps of `strategy: canary`, which it implies. See [canary](#canary)."),
        yes(
            "sticky",
            "`cookie`, `address`, or a map: each user sees one release while two serve. See [sticky](#sticky).",
        ),
        yes(
            "preview",
            "A map: who may ask for the candidate before its first share. Default: nobody. See [preview](#preview).",
        ),
        yes(
            "skew_guard",
            "Path prefixes, as `/assets`: what one release does not find there (404) is asked of the other while both run.",
        ),
        yes(
            "retain",
            "How long the retired release stays warm, for a rollback in a moment: a duration, or `until-next` for until the next deployment. Default 10m; 0 stops it at once.",
        ),
        yes(
            "keep",
            "Releases whose image and settings are kept for a rollback, 1 to 100; one that was made again counts with the one it was made from. Default 5.",
        ),
        yes(
            "migrate",
            "A command that runs once a release, before any of its containers starts. See [migrate](#migrate).",
        ),
        yes("smoke", "Checks that a candidate must pass before its first request. See [smoke](#smoke)."),
        yes("timeouts", "Between proxy and container. See below."),
        yes(
            "traffic",
            "`teal` (default): the built-in proxy serves the published ports. `nginx`: the team's own nginx does, and Teal tells it where the containers are.",
        ),
        yes("nginx", "With `traffic: nginx`. See below and docs/nginx.md."),
    ],
};

pub static ROUTE: Level = Level {
    name: "services.<name>.x-teal.route",
    extensions: false,
    keys: &[
        yes("host", "`example.com`, or `*.example.com` for one or more labels before it. Default: every host."),
        yes("path", "A prefix of whole segments: `/api` leads `/api/x` here, not `/apix`. Default `/`."),
        yes("port", "The published port it holds for. Default: all of the service's."),
    ],
};

pub static LISTEN: Level = Level {
    name: "services.<name>.x-teal.listen",
    extensions: false,
    keys: &[
        yes("unix", "The absolute path of the socket; its folder is made where it is missing."),
        yes("mode", "Its permissions. Default `0660`: owner and group may connect."),
        yes("group", "Its group, by name or number. Default: the agent's."),
        yes("port", "The container's port. Default: the first published one's target."),
    ],
};

pub static HEALTH: Level = Level {
    name: "services.<name>.x-teal.health",
    extensions: false,
    keys: &[
        yes("path", "`GET` of this path must answer 2xx or 3xx."),
        yes("port", "The container's port. Default: the first published one's target."),
        yes("status", "The only status that counts."),
        yes("host", "The `Host` header."),
        yes("tcp", "`true`: an accepted connection is enough."),
        yes("interval", "Between two probes. Default 1s."),
        yes("timeout", "For one probe. Default 5s."),
        yes("successes", "In a row. Default 1."),
        yes("deadline", "From the container's start until it must be ready. Default 3m."),
        yes("warmup", "Requests to each replica before the first share: how many, or a map. Default: none. See below."),
    ],
};

pub static HOLD: Level = Level {
    name: "services.<name>.x-teal.hold",
    extensions: false,
    keys: &[
        yes("for", "How long a request waits; then 503. Default 2m."),
        yes("max_waiting", "How many may wait at the same time; one more gets 503 at once. Default 10000."),
    ],
};

pub static TIMEOUTS: Level = Level {
    name: "services.<name>.x-teal.timeouts",
    extensions: false,
    keys: &[
        yes("connect", "TCP connect to a container. Default 2s."),
        yes("response", "From the end of the request to the head of the answer, then 504. Default 0: for ever."),
    ],
};

pub static NGINX: Level = Level {
    name: "services.<name>.x-teal.nginx",
    extensions: false,
    keys: &[
        yes("upstream", "The name behind `proxy_pass http://`. Default: `<project>_<service>`."),
        yes(
            "file",
            "The file that Teal writes, as nginx sees it; included within `http`. Default /etc/nginx/conf.d/teal.conf.",
        ),
        yes(
            "log",
            "Where nginx logs the requests that Teal counts, as nginx sees it. Default /var/log/nginx/teal.log.",
        ),
        yes("container", "The container that nginx runs in. Default: none, it runs on the host."),
        yes("pid", "The file with the pid of nginx's master, on the host. Default /run/nginx.pid."),
        yes("test", "The command that tests the configuration. Default `nginx -t`; in a container it runs there."),
        yes("reload", "The command that reloads nginx. Default: SIGHUP to its master."),
        yes(
            "confirm",
            "How long a reload may take until the new workers alone serve; then it is taken back. Default 10s.",
        ),
        yes("address", "The address that containers are published on, and nginx calls. Default 127.0.0.1."),
        yes("port", "The container's port that nginx calls. Default: the first published one's target."),
        yes("ports", "Host ports of each color. Default: chosen free, and kept. See below."),
        yes("keepalive", "Idle connections that each worker of nginx keeps to the service. Default 32."),
    ],
};

pub static NGINX_PORTS: Level = Level {
    name: "services.<name>.x-teal.nginx.ports",
    extensions: false,
    keys: &[
        yes(
            "blue",
            "`[8080, 9090]`: the port that nginx calls, then the health port; with several replicas a list of such lists.",
        ),
        yes("green", "The same for the other color."),
    ],
};
