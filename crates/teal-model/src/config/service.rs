//! One service: Compose's settings of its containers, and what the proxy and the deployment need to know.

use super::environment;
use super::health::read_healthcheck;
use super::keys;
use super::parse::Context;
use super::ports;
use super::project::{
    Condition, ContainerSettings, Logging, Port, PullPolicy, Restart, RouteRule, Service, UpdateOrder,
};
use super::read::{Item, MapReader};
use super::teal::{self, TealSettings};
use super::volumes;
use super::words::{self, Unsplit};
use super::yaml::Value;
use std::collections::BTreeMap;

/// Compose's own default.
pub(super) const STOP_GRACE_PERIOD_MS: u64 = 10_000;
const MAX_REPLICAS: u32 = 100;
/// Docker refuses less.
const MIN_MEMORY: u64 = 6 << 20;

/// A service as read, with the places that cross checks point to.
pub(super) struct ReadService<'a> {
    pub service: Service,
    pub item: Item<'a>,
    pub ports: Vec<(Port, Item<'a>)>,
    pub depends_on: Vec<Dependency<'a>>,
    pub teal: TealSettings<'a>,
    pub healthcheck: Option<Item<'a>>,
}

pub(super) struct Dependency<'a> {
    pub on: String,
    pub condition: Condition,
    pub required: bool,
    pub item: Item<'a>,
}

pub(super) fn read<'a>(name: &str, item: Item<'a>, context: &Context<'_>) -> Option<ReadService<'a>> {
    if item.node.is_null() {
        item.problem("an empty service", "Give at least its `image`.");
        return None;
    }
    let map = item.map(&keys::SERVICE)?;
    let ports = map.take("ports").map(|ports| ports::read(&ports)).unwrap_or_default();
    let depends_on = map.take("depends_on").map(|item| read_depends_on(&item)).unwrap_or_default();
    let teal = map.take("x-teal").map(|teal| teal::read_service(&teal)).unwrap_or_default();
    let healthcheck = map.take("healthcheck");
    let container = read_container(&map, healthcheck.as_ref(), context);
    let (replicas, order) = read_deploy(&map);
    if let Some(networks) = map.take("networks") {
        read_networks(&networks);
    }
    let mut settings = teal.settings.clone();
    keep_unnamed_ports(&mut settings.routes, &ports);
    let service = Service {
        name: name.to_owned(),
        container,
        pull_policy: map.take_filled("pull_policy").and_then(|v| read_pull_policy(&v)).unwrap_or(PullPolicy::Default),
        ports: ports.iter().map(|(port, _)| port.clone()).collect(),
        replicas,
        order,
        teal: settings,
        ..Service::default()
    };
    map.finish();
    Some(ReadService { service, item, ports, depends_on, teal, healthcheck })
}

/// A published port that no rule holds for keeps every host and path: rules for one port take nothing from another.
fn keep_unnamed_ports(routes: &mut Vec<RouteRule>, ports: &[(Port, Item<'_>)]) {
    if routes.iter().all(|rule| rule.port.is_some()) && !routes.is_empty() {
        for (port, _) in ports {
            if !routes.iter().any(|rule| rule.port == Some(port.published)) {
                routes.push(RouteRule { host: None, path: "/".to_owned(), port: Some(port.published) });
            }
        }
    }
}

fn read_container(map: &MapReader<'_>, healthcheck: Option<&Item<'_>>, context: &Context<'_>) -> ContainerSettings {
    ContainerSettings {
        image: read_image(map).unwrap_or_default(),
        command: map.take("command").and_then(|v| read_command(&v)),
        entrypoint: map.take("entrypoint").and_then(|v| read_command(&v)),
        environment: environment::read(map.take("env_file"), map.take("environment"), context),
        labels: map.take("labels").map(|v| read_labels(&v)).unwrap_or_default(),
        user: map.take_filled("user").and_then(|v| v.word()).map(str::to_owned),
        working_dir: map.take_filled("working_dir").and_then(|v| read_working_dir(&v)),
        restart: map.take_filled("restart").and_then(|v| read_restart(&v)).unwrap_or(Restart::No),
        healthcheck: healthcheck.and_then(read_healthcheck),
        stop_signal: map.take_filled("stop_signal").and_then(|v| read_signal(&v)),
        stop_grace_period_ms: map
            .take_filled("stop_grace_period")
            .and_then(|v| v.duration_ms())
            .unwrap_or(STOP_GRACE_PERIOD_MS),
        mounts: map.take("volumes").map(|v| volumes::read_mounts(&v, context)).unwrap_or_default(),
        mem_limit_bytes: map.take_filled("mem_limit").and_then(|v| read_memory(&v)),
        cpus_milli: map.take_filled("cpus").and_then(|v| read_cpus(&v)),
        logging: map.take("logging").and_then(|v| read_logging(&v)),
        ..ContainerSettings::default()
    }
}

fn read_image(map: &MapReader<'_>) -> Option<String> {
    let Some(image) = map.take("image") else {
        // `build` alone is refused by its own name, which says the same.
        if !map.has("build") {
            map.item.problem("`image` is missing", "Name the image to run: `image: registry.example.com/app:1.2`.");
        }
        return None;
    };
    let text = image.word()?;
    let fits = text.chars().all(|c| c.is_ascii_graphic()) && text.starts_with(|c: char| c.is_ascii_alphanumeric());
    if !fits {
        image.problem("not an image reference", "Write `name:tag`, `registry:5000/name:tag` or `name@sha256:...`.");
        return None;
    }
    Some(text.to_owned())
}

fn read_command(item: &Item<'_>) -> Option<Vec<String>> {
    if item.is_list() {
        return item.strings();
    }
    match words::split(item.text()?) {
        Ok(words) => Some(words),
        Err(Unsplit::Open) => {
            item.problem("a quote that is never closed", "Write a list: `[\"program\", \"argument\"]`.");
            None
        }
        Err(Unsplit::Shell(c)) => {
            item.problem(
                format!("`{c}` needs a shell, and none runs here"),
                "Write `[\"sh\", \"-c\", \"...\"]`, or put quotes around the word.",
            );
            None
        }
    }
}

pub(super) fn read_labels(item: &Item<'_>) -> BTreeMap<String, String> {
    let mut labels = BTreeMap::new();
    for (name, (value, item)) in item.pairs().unwrap_or_default() {
        let owner = if name.starts_with("teal.") {
            "Teal"
        } else if name.starts_with("com.docker.compose.") {
            "Compose"
        } else {
            labels.insert(name, value.unwrap_or_default());
            continue;
        };
        item.problem(format!("labels under `{name}` belong to {owner}"), "Choose another name.");
    }
    labels
}

fn read_working_dir(item: &Item<'_>) -> Option<String> {
    let absolute = |text: &str| text.starts_with('/').then(|| text.to_owned());
    item.parsed(absolute, "an absolute path", "Start it with `/`.")
}

fn read_restart(item: &Item<'_>) -> Option<Restart> {
    let read = |text: &str| match text {
        "no" | "false" => Some(Restart::No),
        "always" => Some(Restart::Always),
        "unless-stopped" => Some(Restart::UnlessStopped),
        "on-failure" => Some(Restart::OnFailure(0)),
        other => other.strip_prefix("on-failure:").and_then(|times| times.parse().ok()).map(Restart::OnFailure),
    };
    item.parsed(read, "a restart policy", "Write `no`, `always`, `unless-stopped`, `on-failure` or `on-failure:3`.")
}

const SIGNALS: [&str; 35] = [
    "ABRT", "ALRM", "BUS", "CHLD", "CLD", "CONT", "FPE", "HUP", "ILL", "INT", "IO", "IOT", "KILL", "PIPE", "POLL",
    "PROF", "PWR", "QUIT", "RTMAX", "RTMIN", "SEGV", "STKFLT", "STOP", "SYS", "TERM", "TRAP", "TSTP", "TTIN", "TTOU",
    "URG", "USR1", "USR2", "VTALRM", "WINCH", "XCPU",
];

fn read_signal(item: &Item<'_>) -> Option<String> {
    let read = |text: &str| {
        let upper = text.to_ascii_uppercase();
        let name = upper.strip_prefix("SIG").unwrap_or(&upper);
        let real_time = |name: &str, sign: char| {
            let offset = name.split_once(sign).and_then(|(_, offset)| offset.parse::<u8>().ok());
            offset.is_some_and(|offset| offset <= 15)
        };
        let known = SIGNALS.contains(&name)
            || name == "XFSZ"
            || (name.starts_with("RTMIN+") && real_time(name, '+'))
            || (name.starts_with("RTMAX-") && real_time(name, '-'))
            || text.parse::<u8>().is_ok_and(|number| (1..=64).contains(&number));
        known.then(|| text.to_owned())
    };
    item.parsed(read, "a signal", "Write a name (`SIGTERM`, `QUIT`) or a number from 1 to 64.")
}

fn read_memory(item: &Item<'_>) -> Option<u64> {
    let bytes = item.bytes()?;
    if bytes > 0 && bytes < MIN_MEMORY {
        item.problem("less than Docker's minimum of 6m", "");
    }
    Some(bytes).filter(|bytes| *bytes > 0)
}

fn read_cpus(item: &Item<'_>) -> Option<u64> {
    let milli = item.parsed(
        super::quantity::cpus_milli,
        "a number of cores",
        "Write a number such as `0.5` or `2`, to a thousandth at most.",
    )?;
    Some(milli).filter(|milli| *milli > 0)
}

fn read_logging(item: &Item<'_>) -> Option<Logging> {
    let map = item.map(&keys::LOGGING)?;
    let logging = Logging {
        driver: map.take("driver").and_then(|driver| driver.word()).map(str::to_owned),
        options: map.take("options").and_then(|options| options.string_map()).unwrap_or_default(),
    };
    map.finish();
    Some(logging)
}

fn read_pull_policy(item: &Item<'_>) -> Option<PullPolicy> {
    let text = item.text()?;
    if text == "build" {
        item.problem("`build` is not supported", "Build and tag the image first, and write `never` here.");
        return None;
    }
    if matches!(text, "daily" | "weekly" | "refresh") || text.starts_with("every_") {
        item.problem("pulling by the calendar is not supported", "Use `always`: Teal pulls at a deployment.");
        return None;
    }
    item.choice(&[
        ("always", PullPolicy::Always),
        ("never", PullPolicy::Never),
        ("missing", PullPolicy::Missing),
        ("if_not_present", PullPolicy::Missing),
    ])
}

fn read_deploy(map: &MapReader<'_>) -> (u32, Option<UpdateOrder>) {
    let scale_item = map.take("scale");
    let scale = scale_item.as_ref().and_then(read_replicas);
    let Some(deploy) = map.take("deploy").and_then(|deploy| deploy.map(&keys::DEPLOY)) else {
        return (scale.unwrap_or(1), None);
    };
    let replicas = deploy.take("replicas").and_then(|v| read_replicas(&v));
    if let (Some(item), Some(scale), Some(replicas)) = (scale_item, scale, replicas)
        && scale != replicas
    {
        item.problem("`scale` and `deploy.replicas` differ", "Keep one of the two.");
    }
    if let Some(mode) = deploy.take("mode") {
        match mode.text() {
            Some("replicated") | None => {}
            Some("global" | "replicated-job" | "global-job") => {
                mode.problem("only `replicated` is supported", "Every host of a project runs all of its services.");
            }
            Some(_) => {
                mode.choice(&[("replicated", ())]);
            }
        }
    }
    let mut order = None;
    if let Some(config) = deploy.take("update_config").and_then(|config| config.map(&keys::UPDATE_CONFIG)) {
        order = config.take("order").and_then(|order| {
            order.choice(&[("start-first", UpdateOrder::StartFirst), ("stop-first", UpdateOrder::StopFirst)])
        });
        config.finish();
    }
    deploy.finish();
    (replicas.or(scale).unwrap_or(1), order)
}

fn read_replicas(item: &Item<'_>) -> Option<u32> {
    item.count(1..=MAX_REPLICAS)
}

fn read_networks(item: &Item<'_>) {
    const ONE: &str = "Take it out: all services of a project share one network; a recreated service is reached by its name, a blue-green one through its published port.";
    if item.is_list() {
        for item in item.list().unwrap_or_default() {
            if item.text().is_some_and(|name| name != "default") {
                item.problem("networks other than `default` are not supported", ONE);
            }
        }
        return;
    }
    for (entry, item) in item.entries().unwrap_or_default() {
        if entry.key != "default" {
            item.report.problem(
                entry.key_mark,
                &item.path,
                "networks other than `default` are not supported",
                Some(ONE.to_owned()),
            );
        } else if let Some(map) = item.map(&keys::SERVICE_NETWORK) {
            map.finish();
        }
    }
}

fn read_depends_on<'a>(item: &Item<'a>) -> Vec<Dependency<'a>> {
    if item.is_list() {
        let read = |item: Item<'a>| {
            let on = item.word()?.to_owned();
            Some(Dependency { on, condition: Condition::ServiceStarted, required: true, item })
        };
        return item.list().unwrap_or_default().into_iter().filter_map(read).collect();
    }
    let entries = item.entries().unwrap_or_default();
    entries.into_iter().filter_map(|(entry, item)| read_dependency(&entry.key, item)).collect()
}

fn read_dependency<'a>(on: &str, item: Item<'a>) -> Option<Dependency<'a>> {
    let map = item.map(&keys::DEPENDENCY)?;
    let condition = match map.take("condition") {
        Some(condition) => condition.choice(&[
            ("service_started", Condition::ServiceStarted),
            ("service_healthy", Condition::ServiceHealthy),
            ("service_completed_successfully", Condition::ServiceCompletedSuccessfully),
        ]),
        None => {
            item.problem("`condition` is missing", "Write `condition: service_started` or `service_healthy`.");
            None
        }
    };
    let condition = condition.filter(|condition| {
        let job = *condition == Condition::ServiceCompletedSuccessfully;
        if job {
            item.problem(
                "`service_completed_successfully` is not supported: every service is expected to go on running",
                "Run the job beside the deployment, and take the dependency out.",
            );
        }
        !job
    });
    let required = map.take("required").and_then(|v| v.boolean()).unwrap_or(true);
    if let Some(restart) = map.take_filled("restart")
        && restart.node.value != Value::Unknown
        && restart.boolean() == Some(true)
    {
        restart.problem(
            "`restart: true` is not supported",
            "Take it out: a new release gets no request before it is ready, so nothing has to restart with it.",
        );
    }
    map.finish();
    let condition = condition.unwrap_or(Condition::ServiceStarted);
    Some(Dependency { on: on.to_owned(), condition, required, item })
}
