//! `x-teal`: what Compose has no word for, of the project and of a service.

use super::health::read_health;
use super::keys;
use super::listen;
use super::nginx;
use super::project::{Mode, Retain, RouteRule, ServiceSettings, Strategy};
use super::read::{Item, MapReader};
use std::net::IpAddr;

/// What `private` stands for in `trusted_proxies`: RFC 1918, RFC 4193, loopback and link-local.
pub const PRIVATE_RANGES: [&str; 8] = [
    "10.0.0.0/8",
    "172.16.0.0/12",
    "192.168.0.0/16",
    "127.0.0.0/8",
    "169.254.0.0/16",
    "::1/128",
    "fc00::/7",
    "fe80::/10",
];

/// Top-level `x-teal`: the trusted proxies.
pub(super) fn read_project(item: &Item<'_>) -> Vec<String> {
    let Some(map) = item.map(&keys::TEAL_PROJECT) else { return Vec::new() };
    let mut trusted: Vec<String> = Vec::new();
    for item in map.take("trusted_proxies").and_then(|list| list.one_or_list()).unwrap_or_default() {
        let Some(text) = item.text() else { continue };
        if text == "private" {
            trusted.extend(PRIVATE_RANGES.map(str::to_owned));
        } else if let Some(range) =
            item.parsed(cidr, "an address or a range", "Write `10.0.0.0/8`, `::1` or `private`.")
        {
            trusted.push(range);
        }
    }
    map.finish();
    trusted.dedup();
    trusted
}

/// `10.1.2.3/8` -> `10.0.0.0/8`, `::1` -> `::1/128`.
fn cidr(text: &str) -> Option<String> {
    let (address, bits) = match text.split_once('/') {
        Some((address, bits)) => (address, Some(bits)),
        None => (text, None),
    };
    let address: IpAddr = address.parse().ok()?;
    let width: u32 = if address.is_ipv4() { 32 } else { 128 };
    let bits = match bits {
        Some(bits) if bits.chars().all(|c| c.is_ascii_digit()) => bits.parse().ok().filter(|bits| *bits <= width)?,
        Some(_) => return None,
        None => width,
    };
    let host_bits = width - bits;
    let network = match address {
        IpAddr::V4(v4) => IpAddr::V4((v4.to_bits() & u32::MAX.checked_shl(host_bits).unwrap_or(0)).into()),
        IpAddr::V6(v6) => IpAddr::V6((v6.to_bits() & u128::MAX.checked_shl(host_bits).unwrap_or(0)).into()),
    };
    Some(format!("{network}/{bits}"))
}

/// Whether the forwarding headers of this peer are believed; `ranges` as [`Project::trusted_proxies`] has them.
///
/// [`Project::trusted_proxies`]: super::Project::trusted_proxies
pub fn is_trusted(ranges: &[String], peer: IpAddr) -> bool {
    ranges.iter().any(|range| {
        let bits = range.split_once('/').map_or("", |(_, bits)| bits);
        cidr(&format!("{peer}/{bits}")).as_ref() == Some(range)
    })
}

/// A service's `x-teal`, with the places that cross checks point to.
#[derive(Default)]
pub(super) struct TealSettings<'a> {
    pub settings: ServiceSettings,
    pub routes: Vec<(RouteRule, Item<'a>)>,
    pub listen: Vec<listen::Wanted<'a>>,
    pub strategy: Option<Item<'a>>,
    pub health: Option<Item<'a>>,
    pub nginx: Option<Item<'a>>,
}

pub(super) fn read_service<'a>(item: &Item<'a>) -> TealSettings<'a> {
    let mut out = TealSettings::default();
    let Some(map) = item.map(&keys::TEAL_SERVICE) else { return out };
    let settings = &mut out.settings;
    if let Some(mode) = map.take("mode") {
        settings.mode = mode
            .choice(&[("auto", Mode::Auto), ("http", Mode::Http), ("tcp", Mode::Tcp), ("direct", Mode::Direct)])
            .unwrap_or_default();
    }
    out.strategy = map.take("strategy");
    settings.strategy = out.strategy.as_ref().and_then(read_strategy);
    if let Some(route) = map.take("route") {
        out.routes = read_routes(&route);
        settings.routes = out.routes.iter().map(|(rule, _)| rule.clone()).collect();
    }
    out.listen = map.take("listen").map(|item| listen::read(&item)).unwrap_or_default();
    out.health = map.take("health");
    if let Some(health) = &out.health {
        settings.health = read_health(health);
    }
    if let Some(drain) = map.take("drain") {
        settings.drain_ms = drain.duration_ms().unwrap_or(ServiceSettings::DRAIN_MS);
    }
    if let Some(hold) = map.take("hold") {
        read_hold(&hold, settings);
    }
    if let Some(retain) = map.take("retain") {
        settings.retain = Retain::For { ms: retain.duration_ms().unwrap_or(0) };
    }
    if let Some(bake) = map.take("bake") {
        settings.bake_ms = bake.duration_ms().unwrap_or(ServiceSettings::BAKE_MS);
    }
    if let Some(timeouts) = map.take("timeouts")
        && let Some(timeouts) = timeouts.map(&keys::TIMEOUTS)
    {
        let connect = timeouts.take("connect").and_then(|v| v.time_ms());
        settings.connect_timeout_ms = connect.unwrap_or(ServiceSettings::CONNECT_TIMEOUT_MS);
        settings.response_timeout_ms = timeouts.take("response").and_then(|v| v.duration_ms()).unwrap_or(0);
        timeouts.finish();
    }
    read_traffic(&map, &mut out);
    map.finish();
    out
}

fn read_traffic<'a>(map: &MapReader<'a>, out: &mut TealSettings<'a>) {
    let traffic = map.take("traffic");
    let through_nginx = traffic.as_ref().and_then(|traffic| traffic.choice(&[("teal", false), ("nginx", true)]));
    let nginx = map.take("nginx");
    if let (Some(nginx), None | Some(false)) = (&nginx, through_nginx) {
        nginx.problem("has no effect without `traffic: nginx`", "Add that, or take this out.");
    }
    if through_nginx != Some(true) {
        return;
    }
    if matches!(out.settings.mode, Mode::Tcp | Mode::Direct) {
        map.item.problem("`traffic: nginx` and this `mode` contradict each other", "Take one of the two out.");
    }
    out.settings.nginx = Some(nginx.as_ref().map(nginx::read).unwrap_or_default());
    out.nginx = nginx.or(traffic);
}

fn read_strategy(item: &Item<'_>) -> Option<Strategy> {
    if item.text()? == "canary" {
        item.problem("`canary` is not built yet", "Use `blue-green`.");
        return None;
    }
    item.choice(&[("blue-green", Strategy::BlueGreen), ("recreate", Strategy::Recreate)])
}

fn read_hold(item: &Item<'_>, settings: &mut ServiceSettings) {
    if !item.is_map() {
        settings.hold_ms = item.duration_ms().unwrap_or(ServiceSettings::HOLD_MS);
        return;
    }
    let Some(map) = item.map(&keys::HOLD) else { return };
    settings.hold_ms = map.take("for").and_then(|v| v.duration_ms()).unwrap_or(ServiceSettings::HOLD_MS);
    let waiting = map.take("max_waiting").and_then(|v| v.count(1..=1_000_000));
    settings.hold_max_waiting = waiting.unwrap_or(ServiceSettings::HOLD_MAX_WAITING);
    map.finish();
}

fn read_routes<'a>(item: &Item<'a>) -> Vec<(RouteRule, Item<'a>)> {
    let mut routes: Vec<(RouteRule, Item<'a>)> = Vec::new();
    for item in item.one_or_list().unwrap_or_default() {
        let Some(rule) = (if item.is_map() { long_route(&item) } else { short_route(&item) }) else { continue };
        if routes.iter().any(|(other, _)| *other == rule) {
            item.problem("the same route twice", "Keep one of the two.");
        } else {
            routes.push((rule, item));
        }
    }
    routes
}

fn short_route(item: &Item<'_>) -> Option<RouteRule> {
    const SHAPE: &str = "Write `example.com`, `/path` or `example.com/path`; a port goes into `{host, path, port}`.";
    let read = |text: &str| {
        let at = text.find('/').unwrap_or(text.len());
        let (host, path) = text.split_at(at);
        let host = if host.is_empty() { None } else { Some(host_name(host)?) };
        let path = if path.is_empty() { (host.is_some()).then(|| "/".to_owned())? } else { path_prefix(path)? };
        Some(RouteRule { host, path, port: None })
    };
    item.parsed(read, "a route", SHAPE)
}

fn long_route(item: &Item<'_>) -> Option<RouteRule> {
    let map = item.map(&keys::ROUTE)?;
    let host = map.take("host");
    let path = map.take("path");
    let port = map.take("port");
    map.finish();
    if host.is_none() && path.is_none() && port.is_none() {
        item.problem("an empty route", "Give a `host`, a `path` or both.");
        return None;
    }
    let host = host.map(|host| {
        host.parsed(host_name, "a host name", "Write `example.com` or `*.example.com`, without scheme and port.")
    });
    let path = path.map(|path| {
        path.parsed(path_prefix, "a path", "Start it with `/`, without query; other letters are written `%xx`.")
    });
    let port = port.map(|port| port.port());
    // A part that is there but wrong was reported; a part that is absent is no restriction.
    let flat = |part: Option<Option<String>>| match part {
        Some(None) => Err(()),
        Some(Some(text)) => Ok(Some(text)),
        None => Ok(None),
    };
    let (host, path) = (flat(host).ok()?, flat(path).ok()?);
    let port = match port {
        Some(port) => Some(port?),
        None => None,
    };
    Some(RouteRule { host, path: path.unwrap_or_else(|| "/".to_owned()), port })
}

/// Lower case, `*.` at most at the start (RFC 1123 labels, and `_` that some internal names have).
fn host_name(text: &str) -> Option<String> {
    let text = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
    let labels = text.strip_prefix("*.").unwrap_or(&text);
    let fits = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    (text.len() <= 253 && labels.split('.').all(fits)).then_some(text)
}

/// A prefix of whole segments, so a slash at the end says nothing and goes.
fn path_prefix(text: &str) -> Option<String> {
    let plain = text.starts_with('/')
        && !text.contains("//")
        && text.chars().all(|c| c.is_ascii_graphic() && !matches!(c, '?' | '#' | '*' | '\\'))
        && text.split('/').all(|segment| segment != "." && segment != "..");
    let trimmed = text.trim_end_matches('/');
    plain.then(|| if trimmed.is_empty() { "/".to_owned() } else { trimmed.to_owned() })
}
