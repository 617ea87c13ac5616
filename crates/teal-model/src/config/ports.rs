//! Published ports: where the proxy listens, in Compose's short and long form.

use super::keys;
use super::project::{ExposedPort, Port, Protocol};
use super::read::Item;
use super::yaml::Value;
use std::net::IpAddr;

const SHAPE: &str = "Write `HOST:CONTAINER` (`\"80:8080\"`) or `ADDRESS:HOST:CONTAINER`.";
/// Above what Linux gives to outgoing connections by default (`ip_local_port_range`), so that none is in the way.
const OWN_RANGE: std::ops::RangeInclusive<u16> = 61_000..=65_535;
/// A range is written by hand, and every port of it is a listener.
const MAX_RANGE: usize = 1_000;

/// A port as it is asked for.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Wanted {
    pub port: Port,
    /// Where `port.published` is one of several: the first that is free in the project. Empty: any.
    pub among: Option<Vec<u16>>,
}

/// Every published port with the place that asks for it. What is given no number here gets one in [`settle`].
pub(super) fn read<'a>(item: &Item<'a>) -> Vec<(Wanted, Item<'a>)> {
    let mut ports: Vec<(Wanted, Item<'a>)> = Vec::new();
    for item in item.list().unwrap_or_default() {
        let Some(more) = (if item.is_map() { long(&item) } else { short(&item) }) else { continue };
        for wanted in more {
            let same = |(other, _): &&(Wanted, Item<'a>)| other.among.is_none() && other.port == wanted.port;
            if wanted.among.is_none() && ports.iter().find(same).is_some() {
                let (number, protocol) = (wanted.port.published, word(wanted.port.protocol));
                item.problem(format!("{protocol}port {number} is published twice"), "Keep one of them.");
            } else {
                ports.push((wanted, item.clone()));
            }
        }
    }
    ports
}

pub(super) fn word(protocol: Protocol) -> &'static str {
    if protocol == Protocol::Udp { "UDP " } else { "" }
}

fn short(item: &Item<'_>) -> Option<Vec<Wanted>> {
    let text = item.text()?;
    let (text, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let protocol = read_protocol(item, protocol)?;
    // From the right, so that an IPv6 address needs no brackets.
    let mut parts = text.rsplitn(3, ':');
    let target = parts.next().unwrap_or_default();
    let published = parts.next().filter(|text| !text.is_empty());
    let address = parts.next().filter(|text| !text.is_empty());
    let targets = range(item, target, "the container's port", SHAPE);
    let published = published.map(|text| range(item, text, "the published port", SHAPE));
    let host_ip = match address {
        Some(text) => Some(address_of(item, text)?),
        None => None,
    };
    let port = Port { host_ip, protocol, ..Port::default() };
    match published {
        Some(published) => pair(item, &port, Some(published?), &targets?),
        None => pair(item, &port, None, &targets?),
    }
}

fn long(item: &Item<'_>) -> Option<Vec<Wanted>> {
    let map = item.map(&keys::PORT)?;
    let protocol = match map.take_filled("protocol") {
        Some(protocol) => protocol.text().and_then(|text| read_protocol(&protocol, text)),
        None => Some(Protocol::Tcp),
    };
    if let Some(mode) = map.take_filled("mode") {
        mode.choice(&[("host", ()), ("ingress", ())]);
    }
    let app_protocol = map.take_filled("app_protocol").and_then(|v| v.word()).map(str::to_lowercase);
    if let Some(name) = map.take("name") {
        name.text();
    }
    let target = map.take("target");
    if target.is_none() {
        item.problem("`target` is missing", "Give the container's port: `target: 8080`.");
    }
    let published = map.take_filled("published");
    let host_ip = map.take_filled("host_ip").map(|ip| address_of(&ip, ip.text()?));
    map.finish();
    let target = target.and_then(|target| range(&target, target.text()?, "the container's port", ""));
    let published = published.map(|item| range(&item, item.text()?, "the published port", ""));
    let host_ip = match host_ip {
        Some(ip) => Some(ip?),
        None => None,
    };
    let port = Port { host_ip, protocol: protocol?, app_protocol, ..Port::default() };
    match published {
        Some(published) => pair(item, &port, Some(published?), &target?),
        None => pair(item, &port, None, &target?),
    }
}

/// Ranges of one length go together one by one; a range for a single target leaves the choice.
fn pair(item: &Item<'_>, port: &Port, published: Option<Vec<u16>>, targets: &[u16]) -> Option<Vec<Wanted>> {
    let fixed = |published, target| Wanted { port: Port { published, target, ..port.clone() }, among: None };
    match published {
        None => {
            let any = |target: &u16| Wanted { port: Port { target: *target, ..port.clone() }, among: Some(Vec::new()) };
            Some(targets.iter().map(any).collect())
        }
        Some(published) if published.len() == targets.len() => {
            Some(published.iter().zip(targets).map(|(published, target)| fixed(*published, *target)).collect())
        }
        Some(published) if targets.len() == 1 => {
            let port = Port { target: targets[0], ..port.clone() };
            Some(vec![Wanted { port, among: Some(published) }])
        }
        Some(_) => {
            item.problem("ranges of different length", "Write as many published ports as container ports.");
            None
        }
    }
}

/// `8000` or `8000-8010`.
fn range(item: &Item<'_>, text: &str, what: &str, hint: &str) -> Option<Vec<u16>> {
    let Some((first, last)) = text.split_once('-') else {
        return number(item, text, what, hint).map(|number| vec![number]);
    };
    let (first, last) = (number(item, first, what, hint)?, number(item, last, what, hint)?);
    if first > last || usize::from(last - first) >= MAX_RANGE {
        item.problem(format!("{what} is no range"), &format!("Write the lower one first, at most {MAX_RANGE} ports."));
        return None;
    }
    Some((first..=last).collect())
}

fn number(item: &Item<'_>, text: &str, what: &str, hint: &str) -> Option<u16> {
    // `parse` takes a leading `+`, which no port has.
    let port = text.parse().ok().filter(|port| *port > 0 && text.starts_with(|c: char| c.is_ascii_digit()));
    if port.is_none() && item.node.value != Value::Unknown {
        item.problem(format!("{what} is not a number from 1 to 65535"), hint);
    }
    port
}

fn read_protocol(item: &Item<'_>, protocol: &str) -> Option<Protocol> {
    match protocol.to_ascii_lowercase().as_str() {
        "tcp" => Some(Protocol::Tcp),
        "udp" => Some(Protocol::Udp),
        "sctp" => {
            item.problem("SCTP ports are not supported", "Keep a service that needs this port out of the project.");
            None
        }
        _ => {
            item.problem("not a protocol", "Write `tcp` or `udp`.");
            None
        }
    }
}

fn address_of(item: &Item<'_>, text: &str) -> Option<IpAddr> {
    let bare = text.strip_prefix('[').and_then(|t| t.strip_suffix(']')).unwrap_or(text);
    let address = bare.parse().ok();
    if address.is_none() {
        item.problem("the address is not an IP address", "Write `127.0.0.1:80:8080` or `[::1]:80:8080`.");
    }
    address
}

/// `expose`: `8080`, `8080/udp`, `8080-8085`.
pub(super) fn read_exposed(item: &Item<'_>) -> Vec<ExposedPort> {
    let mut out = Vec::new();
    for item in item.list().unwrap_or_default() {
        let Some(text) = item.text() else { continue };
        let (text, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
        let ports = range(&item, text, "the port", "Write the container's port alone: `\"8080\"`.");
        if let (Some(protocol), Some(ports)) = (read_protocol(&item, protocol), ports) {
            out.extend(ports.into_iter().map(|port| ExposedPort { port, protocol }));
        }
    }
    out.sort_unstable();
    out.dedup();
    out
}

/// Gives a number to each port that leaves the choice. `seed` makes it the same at every reading, where nothing else of
/// the project has it.
pub(super) fn settle(wanted: &Wanted, item: &Item<'_>, seed: &str, taken: &[Port]) -> Option<Port> {
    let Some(among) = &wanted.among else { return Some(wanted.port.clone()) };
    let free = |published: u16| {
        let port = Port { published, ..wanted.port.clone() };
        (!taken.iter().any(|other| overlap(&port, other))).then_some(port)
    };
    if !among.is_empty() {
        let port = among.iter().find_map(|published| free(*published));
        match &port {
            Some(port) => item.warning(
                format!("one port of the range is used: {}", port.published),
                "The proxy balances over all replicas on one port: write that one.",
            ),
            None => item.problem("every port of the range is published already", "Write a longer range."),
        }
        return port;
    }
    let size = u32::from(OWN_RANGE.end() - OWN_RANGE.start()) + 1;
    let start = fnv(&format!("{seed}/{}", wanted.port.target)) % size;
    let port = (0..size).find_map(|n| {
        let offset = u16::try_from((start + n) % size).ok()?;
        free(OWN_RANGE.start() + offset)
    })?;
    let (published, target) = (port.published, port.target);
    item.warning(
        format!("no published port is written: {published} is used, now and in later deployments"),
        &format!("Write `\"{published}:{target}\"` or another port; for the project's own containers alone, `expose`."),
    );
    Some(port)
}

/// FNV-1a: the same number for the same words, in every version of Teal.
fn fnv(text: &str) -> u32 {
    text.bytes().fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193))
}

/// Whether one listener would take connections of the other's.
pub(super) fn overlap(a: &Port, b: &Port) -> bool {
    let covers = |wide: Option<IpAddr>, narrow: Option<IpAddr>| match (wide, narrow) {
        (None, _) => true,
        (Some(wide), Some(narrow)) => wide == narrow || (wide.is_unspecified() && wide.is_ipv4() == narrow.is_ipv4()),
        (Some(_), None) => false,
    };
    a.published == b.published
        && a.protocol == b.protocol
        && (covers(a.host_ip, b.host_ip) || covers(b.host_ip, a.host_ip))
}
