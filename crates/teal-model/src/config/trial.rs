//! What a release must pass before its first request: `x-teal.migrate`, `x-teal.smoke` and `health.warmup`.

use super::health::{read_host, read_path, read_status};
use super::keys;
use super::project::{Migrate, Probe, Smoke, SmokeCheck, Warmup};
use super::read::Item;
use super::words;

pub(super) fn read_migrate(item: &Item<'_>) -> Option<Migrate> {
    if !item.is_map() {
        return Some(Migrate { command: words::read_program(item)?, timeout_ms: Migrate::TIMEOUT_MS });
    }
    let map = item.map(&keys::MIGRATE)?;
    let command = map.take("command");
    let timeout_ms = map.take("timeout").and_then(|v| v.time_ms()).unwrap_or(Migrate::TIMEOUT_MS);
    map.finish();
    let Some(command) = command else {
        item.problem("`command` is missing", "Write `{command: [rails, db:migrate], timeout: 10m}`.");
        return None;
    };
    Some(Migrate { command: words::read_program(&command)?, timeout_ms })
}

/// A check, a list of them, or a map with a time for all.
pub(super) fn read_smoke(item: &Item<'_>) -> Option<Smoke> {
    let mut checks = Some(item.clone());
    let mut timeout_ms = Smoke::TIMEOUT_MS;
    if let Some(map) = item.is_map().then(|| item.map(&keys::SMOKE)).flatten()
        && (map.has("checks") || map.has("timeout"))
    {
        checks = map.take("checks");
        timeout_ms = map.take("timeout").and_then(|v| v.time_ms()).unwrap_or(timeout_ms);
        map.finish();
    }
    let items = checks.and_then(|checks| checks.one_or_list()).unwrap_or_default();
    if items.is_empty() {
        item.problem("no checks", "Write `[/up, {command: [./smoke.sh]}]`.");
    }
    let checks: Vec<SmokeCheck> = items.iter().filter_map(read_check).collect();
    (!checks.is_empty()).then_some(Smoke { checks, timeout_ms })
}

fn read_check(item: &Item<'_>) -> Option<SmokeCheck> {
    if !item.is_map() {
        let path = read_path(item, "Start it with `/`; a program is written `{command: [./smoke.sh]}`.")?;
        return Some(SmokeCheck::Http { path, status: None, host: None });
    }
    let map = item.map(&keys::SMOKE_CHECK)?;
    let (command, path) = (map.take("command"), map.take("path"));
    let (status, host) = (map.take("status"), map.take("host"));
    map.finish();
    match (command, path) {
        (Some(command), None) => {
            for http in [&status, &host].into_iter().flatten() {
                http.problem("means nothing to a command", "Take it out.");
            }
            Some(SmokeCheck::Command { command: words::read_program(&command)? })
        }
        (None, Some(path)) => Some(SmokeCheck::Http {
            path: read_path(&path, "")?,
            status: status.and_then(|v| read_status(&v)),
            host: host.and_then(|host| read_host(&host)),
        }),
        _ => {
            item.problem("neither one path nor one command", "Write `{path: /up}` or `{command: [./smoke.sh]}`.");
            None
        }
    }
}

/// A number, or a map. What is asked for when nothing else is said is what `health` asks for.
pub(super) fn read_warmup(item: &Item<'_>, probe: &Probe) -> Option<Warmup> {
    const MOST: u32 = 100_000;
    let usual = match probe {
        Probe::Http { path, .. } => path.clone(),
        Probe::Default | Probe::Tcp { .. } | Probe::None => "/".to_owned(),
    };
    let mut warmup = Warmup {
        requests: Warmup::REQUESTS,
        paths: vec![usual],
        concurrency: Warmup::CONCURRENCY,
        timeout_ms: Warmup::TIMEOUT_MS,
    };
    if !item.is_map() {
        warmup.requests = item.count(0..=MOST)?;
        return (warmup.requests > 0).then_some(warmup);
    }
    let map = item.map(&keys::WARMUP)?;
    warmup.requests = map.take("requests").and_then(|v| v.count(1..=MOST)).unwrap_or(Warmup::REQUESTS);
    warmup.concurrency = map.take("concurrency").and_then(|v| v.count(1..=1_000)).unwrap_or(Warmup::CONCURRENCY);
    warmup.timeout_ms = map.take("timeout").and_then(|v| v.time_ms()).unwrap_or(Warmup::TIMEOUT_MS);
    let (path, paths) = (map.take("path"), map.take("paths"));
    map.finish();
    if let (Some(_), Some(paths)) = (&path, &paths) {
        paths.problem("`path` and `paths`", "Keep one of the two.");
    }
    if let Some(written) = path.or(paths) {
        let items = written.one_or_list().unwrap_or_default();
        warmup.paths = items.iter().filter_map(|item| read_path(item, "")).collect();
        if items.is_empty() {
            written.problem("no paths", "Write one, or take the key out.");
        }
    }
    Some(warmup)
}
