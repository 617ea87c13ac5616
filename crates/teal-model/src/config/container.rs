//! What the containers of a service are created with.

use super::deploy::Deploy;
use super::devices;
use super::environment;
use super::files::{self, Granted, Kind};
use super::health::read_healthcheck;
use super::isolation;
use super::keys;
use super::limits;
use super::parse::Context;
use super::project::{ContainerSettings, Logging, Mount, Restart};
use super::read::{Item, MapReader};
use super::resolver;
use super::service::{read_image, read_labels};
use super::volumes;
use super::words;
use std::collections::BTreeMap;

/// A container's settings, and the services that its namespaces belong to.
pub(super) fn read<'a>(
    map: &MapReader<'a>,
    name: &str,
    healthcheck: Option<&Item<'_>>,
    deploy: &Deploy<'_>,
    context: &Context<'_>,
) -> (ContainerSettings, Vec<(String, Item<'a>)>) {
    let (isolation, joined) = isolation::read(map, context);
    let limits = limits::read(map, deploy.resources.as_ref());
    let mut granted = Granted::default();
    files::read_grants(map.take("secrets"), Kind::Secret, context.secrets, &mut granted);
    files::read_grants(map.take("configs"), Kind::Config, context.configs, &mut granted);
    let flag = |key: &str| map.take_filled(key).and_then(|v| v.boolean());
    let word = |key: &str| map.take_filled(key).and_then(|v| v.word()).map(str::to_owned);
    let restart = map.take_filled("restart").and_then(|v| read_restart(&v));
    let settings = ContainerSettings {
        image: read_image(map, name, context).unwrap_or_default(),
        command: map.take("command").and_then(|v| words::read(&v)),
        entrypoint: map.take("entrypoint").and_then(|v| words::read(&v)),
        environment: environment::read(map.take("env_file"), map.take("environment"), context),
        labels: labels(map, context),
        annotations: map.take("annotations").and_then(|v| v.string_map()).unwrap_or_default(),
        user: word("user"),
        group_add: map.take("group_add").and_then(|v| v.strings()).unwrap_or_default(),
        working_dir: map.take_filled("working_dir").and_then(|v| read_working_dir(&v)),
        restart: restart.or(deploy.restart).unwrap_or(Restart::No),
        healthcheck: healthcheck.and_then(read_healthcheck),
        stop_signal: map.take_filled("stop_signal").and_then(|v| read_signal(&v)),
        stop_grace_period_ms: map
            .take_filled("stop_grace_period")
            .and_then(|v| v.duration_ms())
            .unwrap_or(ContainerSettings::STOP_GRACE_PERIOD_MS),
        mounts: mounts(map, granted.mounts, context),
        volumes_from: Vec::new(),
        files: granted.files,
        mem_limit_bytes: limits.mem_limit_bytes,
        cpus_milli: limits.cpus_milli,
        limits: limits.limits,
        isolation,
        devices: devices::read(map, limits.requests),
        resolver: resolver::read(map),
        logging: map.take("logging").and_then(|v| read_logging(&v)),
        platform: word("platform"),
        runtime: word("runtime"),
        init: flag("init"),
        read_only: flag("read_only").unwrap_or(false),
        stdin_open: flag("stdin_open").unwrap_or(false),
        tty: flag("tty").unwrap_or(false),
    };
    (settings, joined)
}

/// Volumes, then `tmpfs`, then secrets and configs; what is written under `volumes` keeps its place.
fn mounts(map: &MapReader<'_>, granted: Vec<Mount>, context: &Context<'_>) -> Vec<Mount> {
    let mut mounts = map.take("volumes").map(|v| volumes::read_mounts(&v, context)).unwrap_or_default();
    let tmpfs = map.take("tmpfs").map(|v| volumes::read_tmpfs_list(&v)).unwrap_or_default();
    for mount in tmpfs.into_iter().chain(granted) {
        if mounts.iter().any(|other| other.target == mount.target) {
            map.item.problem(format!("two mounts at `{}`", mount.target), "Keep one of them.");
        } else {
            mounts.push(mount);
        }
    }
    mounts
}

/// The files' labels below those that are written here.
fn labels(map: &MapReader<'_>, context: &Context<'_>) -> BTreeMap<String, String> {
    let mut labels = map.take("label_file").map(|v| environment::read_label_files(&v, context)).unwrap_or_default();
    labels.extend(map.take("labels").map(|v| read_labels(&v)).unwrap_or_default());
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

fn read_logging(item: &Item<'_>) -> Option<Logging> {
    let map = item.map(&keys::LOGGING)?;
    let logging = Logging {
        driver: map.take("driver").and_then(|driver| driver.word()).map(str::to_owned),
        options: map.take("options").and_then(|options| options.string_map()).unwrap_or_default(),
    };
    map.finish();
    Some(logging)
}
