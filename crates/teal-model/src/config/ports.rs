//! Published ports: where the proxy listens, in Compose's short and long form.

use super::keys;
use super::project::Port;
use super::read::Item;
use super::yaml::Value;
use std::net::IpAddr;

const SHAPE: &str = "Write `HOST:CONTAINER` (`\"80:8080\"`) or `ADDRESS:HOST:CONTAINER`.";
const NO_RANGE: &str = "Write one entry a port.";
const EPHEMERAL: &str =
    "The proxy listens on a port that clients know: write `HOST:CONTAINER`, for example `\"80:8080\"`.";

pub(super) fn read<'a>(item: &Item<'a>) -> Vec<(Port, Item<'a>)> {
    let mut ports: Vec<(Port, Item<'a>)> = Vec::new();
    for item in item.list().unwrap_or_default() {
        let Some(port) = (if item.is_map() { long(&item) } else { short(&item) }) else { continue };
        if ports.iter().any(|(other, _)| other.published == port.published && other.host_ip == port.host_ip) {
            item.problem(format!("port {} is published twice", port.published), "Keep one of the two.");
        } else {
            ports.push((port, item));
        }
    }
    ports
}

fn short(item: &Item<'_>) -> Option<Port> {
    let text = item.text()?;
    let (text, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    if !is_tcp(item, protocol) {
        return None;
    }
    // From the right, so that an IPv6 address needs no brackets.
    let mut parts = text.rsplitn(3, ':');
    let target = parts.next().unwrap_or_default();
    let published = parts.next().unwrap_or_default();
    let address = parts.next();
    if target.contains('-') || published.contains('-') {
        item.problem("port ranges are not supported", NO_RANGE);
        return None;
    }
    let target = number(item, target, "the container's port", SHAPE);
    if published.is_empty() {
        if target.is_some() {
            item.problem("no published port", EPHEMERAL);
        }
        return None;
    }
    let published = number(item, published, "the published port", SHAPE);
    let host_ip = match address {
        Some(text) => Some(address_of(item, text)?),
        None => None,
    };
    Some(Port { host_ip, published: published?, target: target?, ..Default::default() })
}

fn long(item: &Item<'_>) -> Option<Port> {
    let map = item.map(&keys::PORT)?;
    let tcp = map.take("protocol").and_then(|protocol| Some(is_tcp(&protocol, protocol.text()?))).unwrap_or(true);
    if let Some(mode) = map.take("mode") {
        mode.choice(&[("host", ()), ("ingress", ())]);
    }
    if let Some(protocol) = map.take("app_protocol")
        && protocol.text().is_some_and(|text| text != "http")
    {
        protocol.problem("only `http` is proxied", "Take the key out if the container speaks HTTP.");
    }
    if let Some(name) = map.take("name") {
        name.text();
    }
    let target = map.take("target");
    if target.is_none() {
        item.problem("`target` is missing", "Give the container's port: `target: 8080`.");
    }
    let published = map.take("published");
    if published.is_none() {
        item.problem("no published port", "The proxy listens on a port that clients know: write `published: 80`.");
    }
    let host_ip = map.take("host_ip").map(|ip| address_of(&ip, ip.text()?));
    map.finish();
    let target = target.and_then(|target| single(&target, "the container's port"));
    let published = published.and_then(|published| single(&published, "the published port"));
    let host_ip = match host_ip {
        Some(ip) => Some(ip?),
        None => None,
    };
    if !tcp {
        return None;
    }
    Some(Port { host_ip, published: published?, target: target?, ..Default::default() })
}

fn single(item: &Item<'_>, what: &str) -> Option<u16> {
    let text = item.text()?;
    if text.contains('-') {
        item.problem("port ranges are not supported", NO_RANGE);
        return None;
    }
    number(item, text, what, "")
}

fn number(item: &Item<'_>, text: &str, what: &str, hint: &str) -> Option<u16> {
    // `parse` takes a leading `+`, which no port has.
    let port = text.parse().ok().filter(|port| *port > 0 && text.starts_with(|c: char| c.is_ascii_digit()));
    if port.is_none() && item.node.value != Value::Unknown {
        item.problem(format!("{what} is not a number from 1 to 65535"), hint);
    }
    port
}

fn is_tcp(item: &Item<'_>, protocol: &str) -> bool {
    match protocol.to_ascii_lowercase().as_str() {
        "tcp" => true,
        "udp" | "sctp" => {
            item.problem(
                format!("{} ports are not supported", protocol.to_ascii_uppercase()),
                "Teal proxies HTTP over TCP: keep a service that needs this port out of the project.",
            );
            false
        }
        _ => {
            item.problem("not a protocol", "Only `tcp` is known here.");
            false
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

/// Whether one listener would take connections of the other's.
pub(super) fn overlap(a: &Port, b: &Port) -> bool {
    let covers = |wide: Option<IpAddr>, narrow: Option<IpAddr>| match (wide, narrow) {
        (None, _) => true,
        (Some(wide), Some(narrow)) => wide == narrow || (wide.is_unspecified() && wide.is_ipv4() == narrow.is_ipv4()),
        (Some(_), None) => false,
    };
    a.published == b.published && (covers(a.host_ip, b.host_ip) || covers(b.host_ip, a.host_ip))
}
