//! When a container counts as healthy: Compose's `healthcheck` and `x-teal.health`.

use super::keys;
use super::project::{Health, Healthcheck, Probe};
use super::quantity::show_ms;
use super::read::{Item, MapReader};
use super::trial;

/// What Docker takes where neither file nor image says otherwise.
const DOCKER_INTERVAL_MS: u64 = 30_000;
const DOCKER_RETRIES: u32 = 3;

pub(super) fn read_healthcheck(item: &Item<'_>) -> Option<Healthcheck> {
    let map = item.map(&keys::HEALTHCHECK)?;
    let disable = map.take("disable").and_then(|v| v.boolean()).unwrap_or(false);
    let test = map.take("test");
    if let (true, Some(test)) = (disable, &test) {
        test.problem("a test beside `disable: true`", "Keep one of the two.");
    }
    // Docker reads 0 as "the image's own", which is what None says.
    let time = |key: &str| map.take(key).and_then(|v| v.duration_ms()).filter(|ms| *ms > 0);
    let check = Healthcheck {
        test: if disable { Some(vec!["NONE".to_owned()]) } else { test.and_then(|test| read_test(&test)) },
        interval_ms: time("interval"),
        timeout_ms: time("timeout"),
        start_period_ms: time("start_period"),
        start_interval_ms: time("start_interval"),
        retries: map.take("retries").and_then(|v| v.count(0..=1_000_000)).filter(|n| *n > 0),
    };
    map.finish();
    Some(check)
}

fn read_test(item: &Item<'_>) -> Option<Vec<String>> {
    const SHAPE: &str = "Write `[\"CMD\", \"program\", \"argument\"]`, `[\"CMD-SHELL\", \"command\"]` or `[\"NONE\"]`.";
    if !item.is_list() {
        return Some(vec!["CMD-SHELL".to_owned(), item.word()?.to_owned()]);
    }
    let words = item.strings()?;
    let fits = match words.first().map(String::as_str) {
        Some("NONE") => words.len() == 1,
        Some("CMD") => words.len() >= 2,
        Some("CMD-SHELL") => {
            if words.len() > 2 {
                item.warning("the shell runs only the word after `CMD-SHELL`", "Write the command as one string.");
            }
            words.len() >= 2
        }
        _ => false,
    };
    if !fits {
        item.problem("not a test that Docker can run", SHAPE);
        return None;
    }
    Some(words)
}

/// `x-teal.health`: `none`, a path, or a map.
pub(super) fn read_health(item: &Item<'_>) -> Health {
    let mut health = Health::default();
    if item.is_map() {
        read_map(item, &mut health);
    } else if let Some(text) = item.text() {
        if text == "none" {
            health.probe = Probe::None;
        } else if let Some(path) = read_path(item, "Write `none`, a path (`/healthz`), or a map.") {
            health.probe = Probe::Http { path, port: None, status: None, host: None };
        }
    }
    health
}

fn read_map(item: &Item<'_>, health: &mut Health) {
    let Some(map) = item.map(&keys::HEALTH) else { return };
    health.probe = read_probe(&map);
    let time = |key: &str, default| map.take(key).and_then(|v| v.time_ms()).unwrap_or(default);
    health.interval_ms = time("interval", Health::INTERVAL_MS);
    health.timeout_ms = time("timeout", Health::TIMEOUT_MS);
    health.deadline_ms = time("deadline", Health::DEADLINE_MS);
    health.successes = map.take("successes").and_then(|v| v.count(1..=1_000)).unwrap_or(Health::SUCCESSES);
    health.warmup = map.take("warmup").and_then(|warmup| trial::read_warmup(&warmup, &health.probe));
    map.finish();
    if health.deadline_ms < health.interval_ms.saturating_mul(u64::from(health.successes - 1)) {
        item.problem(
            "the deadline is over before enough probes can succeed",
            "Give a longer `deadline`, a shorter `interval`, or fewer `successes`.",
        );
    }
}

fn read_probe(map: &MapReader<'_>) -> Probe {
    let path = map.take("path");
    let status = map.take("status");
    let host = map.take("host");
    let port = map.take("port");
    let tcp = map.take("tcp").and_then(|v| v.boolean()).unwrap_or(false);
    let port_number = port.as_ref().and_then(Item::port);
    if tcp {
        for http in [&path, &status, &host].into_iter().flatten() {
            http.problem("means nothing to a TCP probe", "Take it out, or take out `tcp`.");
        }
        return Probe::Tcp { port: port_number };
    }
    let Some(path) = path else {
        if let Some(lone) = [&port, &status, &host].into_iter().flatten().next() {
            lone.problem("says how to probe, but not what", "Add `path: /healthz` or `tcp: true`.");
        }
        return Probe::Default;
    };
    Probe::Http {
        path: read_path(&path, "").unwrap_or_default(),
        port: port_number,
        status: status.and_then(|v| read_status(&v)),
        host: host.and_then(|host| read_host(&host)),
    }
}

pub(super) fn read_host(item: &Item<'_>) -> Option<String> {
    let fits = |text: &str| {
        let plain =
            !text.is_empty() && text.chars().all(|c| c.is_ascii_graphic() && !matches!(c, '/' | '?' | '#' | '@'));
        plain.then(|| text.to_owned())
    };
    item.parsed(fits, "a host name", "Write it as in a `Host` header: `example.com`.")
}

pub(super) fn read_status(item: &Item<'_>) -> Option<u16> {
    item.integer(100..=599).and_then(|n| u16::try_from(n).ok())
}

/// A path with an optional query, as it stands in a request.
pub(super) fn read_path(item: &Item<'_>, hint: &str) -> Option<String> {
    let fits = |text: &str| {
        let whole = text.starts_with('/') && text.chars().all(|c| c.is_ascii_graphic() && c != '#');
        whole.then(|| text.to_owned())
    };
    let hint = if hint.is_empty() { "Start it with `/`, and write other letters as `%xx`." } else { hint };
    item.parsed(fits, "a path", hint)
}

/// A container that needs longer by its own healthcheck than Teal waits would never be deployed.
pub(super) fn check_deadline(item: &Item<'_>, check: &Healthcheck, health: &Health) {
    if check.test.as_ref().is_some_and(|test| test.first().is_some_and(|word| word == "NONE")) {
        return;
    }
    let interval = check.interval_ms.unwrap_or(DOCKER_INTERVAL_MS);
    let retries = check.retries.unwrap_or(DOCKER_RETRIES);
    let needs = check.start_period_ms.unwrap_or(0).saturating_add(interval.saturating_mul(u64::from(retries)));
    if health.deadline_ms < needs {
        item.warning(
            format!(
                "the healthcheck may take {} (start_period + interval x retries), but the deadline is {}",
                show_ms(needs),
                show_ms(health.deadline_ms)
            ),
            "Give `x-teal.health.deadline` more, or the healthcheck less.",
        );
    }
}
