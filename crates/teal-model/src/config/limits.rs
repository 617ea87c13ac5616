//! Memory, processors, disks, handles: a service's own keys, and the same under `deploy.resources`.

use super::devices;
use super::keys;
use super::project::{BlkioLimits, CpuLimits, DeviceRequest, Limits, Ulimit};
use super::quantity;
use super::read::{Item, MapReader};
use std::collections::BTreeMap;

/// Docker refuses less.
const MIN_MEMORY: u64 = 6 << 20;
const MICROS_A_MILLI: u64 = 1_000;
const MAX: u64 = i64::MAX as u64;
/// setrlimit(2).
const ULIMITS: [&str; 16] = [
    "as",
    "core",
    "cpu",
    "data",
    "fsize",
    "locks",
    "memlock",
    "msgqueue",
    "nice",
    "nofile",
    "nproc",
    "rss",
    "rtprio",
    "rttime",
    "sigpending",
    "stack",
];

/// What of a container's limits comes out of its service and its `deploy.resources` together.
#[derive(Default)]
pub(super) struct Read {
    pub mem_limit_bytes: Option<u64>,
    pub cpus_milli: Option<u64>,
    pub limits: Limits,
    pub requests: Vec<DeviceRequest>,
}

pub(super) fn read(map: &MapReader<'_>, resources: Option<&Item<'_>>) -> Read {
    let resources = resources.map(read_resources).unwrap_or_default();
    let cpus = map.take_filled("cpus");
    let memory = map.take_filled("mem_limit");
    let reservation = map.take_filled("mem_reservation");
    let pids = map.take_filled("pids_limit");
    let swap = map.take_filled("memswap_limit");
    let cpu = CpuLimits {
        shares: map.take_filled("cpu_shares").and_then(|v| v.integer(0..=MAX)),
        period_us: map.take_filled("cpu_period").and_then(|v| micros(&v)),
        quota_us: map.take_filled("cpu_quota").and_then(|v| quota(&v)),
        rt_period_us: map.take_filled("cpu_rt_period").and_then(|v| micros(&v)),
        rt_runtime_us: map.take_filled("cpu_rt_runtime").and_then(|v| micros(&v)),
        set: map.take_filled("cpuset").and_then(|v| read_cpuset(&v)),
    };
    let read = Read {
        mem_limit_bytes: agreed(&memory, read_memory, resources.memory, "deploy.resources.limits.memory"),
        cpus_milli: agreed(&cpus, read_cpus, resources.cpus, "deploy.resources.limits.cpus"),
        limits: Limits {
            mem_reservation_bytes: agreed(
                &reservation,
                |v| v.bytes(),
                resources.reservation,
                "deploy.resources.reservations.memory",
            ),
            memswap_limit_bytes: swap.as_ref().and_then(Item::bytes_or_unlimited),
            mem_swappiness: map.take_filled("mem_swappiness").and_then(|v| v.count(0..=100)).map(|n| n as u8),
            pids: agreed(&pids, |v| v.signed(-1..=i64::MAX), resources.pids, "deploy.resources.limits.pids"),
            oom_kill_disable: map.take_filled("oom_kill_disable").and_then(|v| v.boolean()).unwrap_or(false),
            oom_score_adj: map.take_filled("oom_score_adj").and_then(|v| v.signed(-1000..=1000)).map(|n| n as i16),
            shm_size_bytes: map.take_filled("shm_size").and_then(|v| v.bytes()),
            ulimits: map.take("ulimits").map(|v| read_ulimits(&v)).unwrap_or_default(),
            cpu,
            blkio: map.take("blkio_config").and_then(|v| read_blkio(&v)).unwrap_or_default(),
            storage_opt: map.take("storage_opt").and_then(|v| v.string_map()).unwrap_or_default(),
        },
        requests: resources.requests,
    };
    if let (Some(swap), None) = (&swap, read.mem_limit_bytes) {
        swap.problem("a limit of memory and swap without one of memory", "Write `mem_limit` beside it.");
    }
    if let (Some(cpus), Some(_)) = (&cpus, read.limits.cpu.quota_us) {
        cpus.problem("`cpus` and `cpu_quota` are two words for one limit", "Keep one of the two.");
    }
    read
}

/// A limit that may be written in two places has one value, as Compose demands.
fn agreed<T: PartialEq>(
    own: &Option<Item<'_>>,
    read: impl Fn(&Item<'_>) -> Option<T>,
    deploys: Option<T>,
    name: &str,
) -> Option<T> {
    let Some(item) = own else { return deploys };
    let own = read(item);
    if let (Some(own), Some(deploys)) = (&own, &deploys)
        && own != deploys
    {
        item.problem(format!("differs from `{name}`"), "Keep one of the two.");
    }
    own.or(deploys)
}

#[derive(Default)]
struct Resources {
    memory: Option<u64>,
    cpus: Option<u64>,
    pids: Option<i64>,
    reservation: Option<u64>,
    requests: Vec<DeviceRequest>,
}

fn read_resources(item: &Item<'_>) -> Resources {
    let mut out = Resources::default();
    let Some(map) = item.map(&keys::RESOURCES) else { return out };
    if let Some(limits) = map.take("limits").and_then(|v| v.map(&keys::RESOURCE_LIMITS)) {
        out.memory = limits.take_filled("memory").and_then(|v| read_memory(&v));
        out.cpus = limits.take_filled("cpus").and_then(|v| read_cpus(&v));
        out.pids = limits.take_filled("pids").and_then(|v| v.signed(-1..=i64::MAX));
        limits.finish();
    }
    if let Some(reserved) = map.take("reservations").and_then(|v| v.map(&keys::RESERVATIONS)) {
        out.reservation = reserved.take_filled("memory").and_then(|v| v.bytes());
        if let Some(cpus) = reserved.take_filled("cpus") {
            read_cpus(&cpus);
        }
        out.requests = reserved.take("devices").map(|v| devices::read_requests(&v, &[])).unwrap_or_default();
        reserved.finish();
    }
    map.finish();
    out
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
        quantity::cpus_milli,
        "a number of cores",
        "Write a number such as `0.5` or `2`, to a thousandth at most.",
    )?;
    Some(milli).filter(|milli| *milli > 0)
}

/// Microseconds as a number, or a duration.
fn micros(item: &Item<'_>) -> Option<u64> {
    let read = |text: &str| match text.parse::<u64>() {
        Ok(us) if us <= MAX => Some(us),
        _ => match text.strip_suffix("us").and_then(|us| us.parse().ok()) {
            Some(us) => Some(us),
            None => quantity::duration_ms(text).map(|ms| ms * MICROS_A_MILLI),
        },
    };
    item.parsed(read, "a time", "Write microseconds, or a number with its unit: `50ms`.")
}

fn quota(item: &Item<'_>) -> Option<i64> {
    match item.text() {
        Some("-1") => Some(-1),
        _ => micros(item).and_then(|us| i64::try_from(us).ok()),
    }
}

fn read_cpuset(item: &Item<'_>) -> Option<String> {
    let fits = |text: &str| {
        let number = |text: &str| !text.is_empty() && text.chars().all(|c| c.is_ascii_digit());
        let range = |text: &str| text.split_once('-').map_or(number(text), |(a, b)| number(a) && number(b));
        text.split(',').all(|part| range(part.trim())).then(|| text.to_owned())
    };
    item.parsed(fits, "a set of cores", "Write `0-3` or `0,2`.")
}

pub(super) fn read_ulimits(item: &Item<'_>) -> BTreeMap<String, Ulimit> {
    let mut out = BTreeMap::new();
    for (entry, item) in item.entries().unwrap_or_default() {
        if !ULIMITS.contains(&entry.key.as_str()) {
            let hint = super::problem::suggestion(&entry.key, ULIMITS);
            item.report.problem(entry.key_mark, &item.path, "not a limit of a process", hint);
            continue;
        }
        let limit = if item.is_map() {
            let Some(map) = item.map(&keys::ULIMIT) else { continue };
            let (soft, hard) = (map.take("soft"), map.take("hard"));
            map.finish();
            if soft.is_none() || hard.is_none() {
                item.problem("`soft` and `hard` belong together", "Write both, or one number for the two.");
            }
            let read = |v: Option<Item<'_>>| v.and_then(|v| v.signed(-1..=i64::MAX));
            let (soft, hard) = (read(soft), read(hard));
            soft.zip(hard).map(|(soft, hard)| Ulimit { soft, hard })
        } else {
            item.signed(-1..=i64::MAX).map(|both| Ulimit { soft: both, hard: both })
        };
        if let Some(limit) = limit {
            if limit.hard >= 0 && (limit.soft < 0 || limit.soft > limit.hard) {
                item.problem("the soft limit is above the hard one", "");
            }
            out.insert(entry.key.clone(), limit);
        }
    }
    out
}

fn read_blkio(item: &Item<'_>) -> Option<BlkioLimits> {
    let map = item.map(&keys::BLKIO)?;
    let weight = |v: &Item<'_>| v.count(10..=1000).and_then(|n| u16::try_from(n).ok());
    let iops = |v: &Item<'_>| v.integer(0..=MAX);
    let limits = BlkioLimits {
        weight: map.take("weight").and_then(|v| weight(&v)),
        weight_device: by_device(map.take("weight_device"), &keys::BLKIO_WEIGHT, "weight", weight),
        read_bps: by_device(map.take("device_read_bps"), &keys::BLKIO_LIMIT, "rate", |v| v.bytes()),
        write_bps: by_device(map.take("device_write_bps"), &keys::BLKIO_LIMIT, "rate", |v| v.bytes()),
        read_iops: by_device(map.take("device_read_iops"), &keys::BLKIO_LIMIT, "rate", iops),
        write_iops: by_device(map.take("device_write_iops"), &keys::BLKIO_LIMIT, "rate", iops),
    };
    map.finish();
    Some(limits)
}

fn by_device<T>(
    item: Option<Item<'_>>,
    level: &'static keys::Level,
    key: &str,
    read: impl Fn(&Item<'_>) -> Option<T>,
) -> BTreeMap<String, T> {
    let mut out = BTreeMap::new();
    for item in item.and_then(|item| item.list()).unwrap_or_default() {
        let Some(map) = item.map(level) else { continue };
        let (path, value) = (map.take("path"), map.take(key));
        map.finish();
        if path.is_none() || value.is_none() {
            item.problem(format!("`path` and `{key}` are needed"), &format!("Write `{{path: /dev/sda, {key}: ...}}`."));
        }
        let path = path.and_then(|path| path.word());
        if let (Some(path), Some(value)) = (path, value.and_then(|value| read(&value))) {
            out.insert(path.to_owned(), value);
        }
    }
    out
}
