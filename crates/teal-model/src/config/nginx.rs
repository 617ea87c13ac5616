//! `x-teal.nginx`: a service whose clients come through the team's own nginx.

use super::keys;
use super::project::{Nginx, NginxProcess, Protocol};
use super::read::Item;
use super::service::ReadService;
use super::words;
use crate::door;
use crate::ids::Color;
use std::collections::BTreeSet;

pub(super) fn read(item: &Item<'_>) -> Nginx {
    let mut nginx = Nginx::default();
    let Some(map) = item.map(&keys::NGINX) else { return nginx };
    let name = |text: &str| {
        let plain = text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.'));
        (plain && text.starts_with(|c: char| c.is_ascii_alphanumeric())).then(|| text.to_owned())
    };
    if let Some(upstream) = map.take("upstream") {
        let hint = "Write the name as in `proxy_pass http://NAME`: letters, digits, `_`, `-` and `.`.";
        nginx.upstream = upstream.parsed(name, "a name", hint).unwrap_or_default();
    }
    if let Some(address) = map.take("address") {
        let address = address.parsed(|text| text.parse().ok(), "an address", "Write one of the host: `127.0.0.1`.");
        nginx.address = address.unwrap_or(nginx.address);
    }
    nginx.port = map.take("port").and_then(|port| port.port());
    nginx.keepalive = map.take("keepalive").and_then(|n| n.count(0..=10_000)).unwrap_or(Nginx::KEEPALIVE);
    if let Some(ports) = map.take("ports")
        && let Some(ports) = ports.map(&keys::NGINX_PORTS)
    {
        for color in [Color::Blue, Color::Green] {
            if let Some(item) = ports.take(&color.to_string()) {
                nginx.ports.insert(color, read_ports(&item));
            }
        }
        ports.finish();
    }
    let process = &mut nginx.process;
    process.container = map.take("container").and_then(|name| name.word()).map(str::to_owned);
    for (key, path) in [("file", &mut process.file), ("log", &mut process.log), ("pid", &mut process.pid)] {
        let Some(item) = map.take(key) else { continue };
        // It stands unquoted in a configuration, and names a file.
        let plain = |text: &str| {
            let fits = |c: char| c.is_ascii_graphic() && !matches!(c, ';' | '{' | '}' | '"' | '\'' | '$' | '\\' | '#');
            (text.starts_with('/') && !text.ends_with('/') && text.chars().all(fits)).then(|| text.to_owned())
        };
        let read =
            item.parsed(plain, "a path", "Write it from the root, without spaces: `/etc/nginx/conf.d/teal.conf`.");
        *path = read.unwrap_or_default();
    }
    if let Some(test) = map.take("test") {
        process.test = words::read_program(&test).unwrap_or_default();
    }
    process.reload = map.take("reload").and_then(|reload| words::read_program(&reload));
    process.confirm_ms = map.take("confirm").and_then(|v| v.time_ms()).unwrap_or(NginxProcess::CONFIRM_MS);
    map.finish();
    nginx
}

/// `[8080, 9090]` for the one replica, or a list of such lists.
fn read_ports(item: &Item<'_>) -> Vec<Vec<u16>> {
    let Some(items) = item.list() else { return Vec::new() };
    let pair = |items: Vec<Item<'_>>, of: &Item<'_>| -> Vec<u16> {
        if !(1..=2).contains(&items.len()) {
            of.problem(
                "neither one port nor two",
                "Write the port that nginx calls, then the health port: `[8080, 9090]`.",
            );
        }
        items.iter().filter_map(Item::port).collect()
    };
    match items.iter().any(Item::is_list) {
        true => items.iter().map(|item| pair(item.list().unwrap_or_default(), item)).collect(),
        false => vec![pair(items, item)],
    }
}

/// What only shows when the rest of the service is known; fills in what it implies.
pub(super) fn settle(read: &mut ReadService<'_>, project: &str) {
    let Some(item) = &read.teal.nginx else { return };
    let replicas = read.service.replicas as usize;
    let exposed = read.service.expose.iter().find(|port| port.protocol == Protocol::Tcp).map(|port| port.port);
    let first = door::first_port(&read.service).or(exposed);
    let Some(nginx) = &mut read.service.teal.nginx else { return };
    if nginx.upstream.is_empty() {
        nginx.upstream = format!("{project}_{}", read.service.name);
    }
    nginx.port = nginx.port.or(first);
    if nginx.port.is_none() {
        item.problem("no port is known that nginx could call", "Add `expose: [8080]`, or `port: 8080` here.");
    }
    if let Some((_, item)) = read.teal.routes.first() {
        item.problem("means nothing behind nginx, which chooses the service by itself", "Take it out.");
    }
    if !read.teal.listen.is_empty() {
        item.problem(
            "with `listen` the proxy serves, and with `traffic: nginx` it does not",
            "Take one of the two out.",
        );
    }
    if read.service.network_mode.is_some() {
        item.problem("nginx calls ports that Docker publishes, and this network has none", "Take `network_mode` out.");
    }
    let default = NginxProcess::default();
    if nginx.process.container.is_none() && nginx.process.pid != default.pid && nginx.process.test == default.test {
        item.warning(
            "`nginx -t` tests the files of another nginx than the one of this `pid`",
            "Write its own: `test: [nginx, -p, PREFIX, -c, FILE, -t]`.",
        );
    }
    let mut seen = BTreeSet::new();
    for (color, all) in &nginx.ports {
        if all.len() < replicas {
            item.problem(
                format!("{replicas} replicas, and ports for {} of {color}", all.len()),
                "Give each replica a list: `blue: [[8080, 9090], [8081, 9091]]`; or take `ports` out: they are chosen then.",
            );
        }
        for port in all.iter().flatten() {
            if !seen.insert(*port) {
                item.problem(format!("port {port} is given twice"), "Give each replica of each color its own.");
            }
        }
    }
    if nginx.ports.len() == 1 {
        item.problem("ports for one color only", "Give both `blue` and `green`: the colors take turns.");
    }
}
