//! How a container is called, and how it finds others by name.

use super::project::{Link, Resolver};
use super::read::{Item, MapReader};
use std::net::IpAddr;

pub(super) fn read(map: &MapReader<'_>) -> Resolver {
    let addresses = |key: &str| {
        let list = map.take(key).and_then(|v| v.one_or_list()).unwrap_or_default();
        list.iter()
            .filter_map(|item| item.parsed(|text| text.parse::<IpAddr>().ok(), "an IP address", ""))
            .map(|address| address.to_string())
            .collect()
    };
    Resolver {
        hostname: map.take_filled("hostname").and_then(|v| read_host(&v)),
        domainname: map.take_filled("domainname").and_then(|v| read_host(&v)),
        extra_hosts: map.take("extra_hosts").map(|v| read_extra_hosts(&v)).unwrap_or_default(),
        dns: addresses("dns"),
        dns_search: map.take("dns_search").and_then(|v| v.words()).unwrap_or_default(),
        dns_opt: map.take("dns_opt").and_then(|v| v.words()).unwrap_or_default(),
    }
}

fn read_host(item: &Item<'_>) -> Option<String> {
    // RFC 1123 labels, and `_` that some images insist on.
    let fits = |text: &str| {
        let label = |label: &str| {
            (1..=63).contains(&label.len())
                && label.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
        };
        (text.len() <= 253 && text.split('.').all(label)).then(|| text.to_owned())
    };
    item.parsed(fits, "a host name", "Write letters, digits, `-` and `.`.")
}

/// As Docker takes them: `name:address`.
pub(super) fn read_extra_hosts(item: &Item<'_>) -> Vec<String> {
    const SHAPE: &str = "Write `name=address`; the address may be `host-gateway`.";
    let mut out = Vec::new();
    let mut add = |item: &Item<'_>, name: &str, address: &str| {
        let bare = address.strip_prefix('[').and_then(|a| a.strip_suffix(']')).unwrap_or(address);
        if name.is_empty() || !(bare == "host-gateway" || bare.parse::<IpAddr>().is_ok()) {
            item.problem("not a name with an address", SHAPE);
        } else {
            out.push(format!("{name}:{bare}"));
        }
    };
    if item.is_map() {
        for (entry, item) in item.entries().unwrap_or_default() {
            for item in item.one_or_list().unwrap_or_default() {
                if let Some(address) = item.text() {
                    add(&item, &entry.key, address);
                }
            }
        }
        return out;
    }
    for item in item.list().unwrap_or_default() {
        let Some(text) = item.word() else { continue };
        // `=` goes before `:`, which stands in IPv6 addresses, too.
        let pair = text.split_once('=').or_else(|| text.split_once(':'));
        match pair {
            Some((name, address)) => add(&item, name, address),
            None => item.problem("not a name with an address", SHAPE),
        }
    }
    out
}

/// `service` or `service:alias`.
pub(super) fn read_links<'a>(item: &Item<'a>) -> Vec<(Link, Item<'a>)> {
    let read = |item: Item<'a>| {
        let text = item.word()?;
        let (service, alias) = text.split_once(':').unwrap_or((text, text));
        Some((Link { service: service.to_owned(), alias: alias.to_owned() }, item))
    };
    item.list().unwrap_or_default().into_iter().filter_map(read).collect()
}
