//! Networks of the project, and how a service stands in them.

use super::keys;
use super::parse::Context;
use super::problem::suggestion;
use super::project::{Attachment, DEFAULT_NETWORK, Ipam, IpamPool, Network, NetworkMode, Project};
use super::read::{Item, MapReader};
use super::volumes::is_name;
use std::collections::BTreeMap;
use std::net::IpAddr;

/// Top-level `networks`.
pub(super) fn read_all(item: &Item<'_>, project: &str) -> BTreeMap<String, Network> {
    let mut networks = BTreeMap::new();
    for (entry, item) in item.entries().unwrap_or_default() {
        if !is_name(&entry.key) {
            item.problem("not a network name", "A name is letters, digits, `.`, `_` and `-`.");
        } else if let Some(network) = read_network(&item, &entry.key, project) {
            networks.insert(entry.key.clone(), network);
        }
    }
    networks
}

fn read_network(item: &Item<'_>, key: &str, project: &str) -> Option<Network> {
    let map = item.map(&keys::NETWORK)?;
    let (external, old_name) = super::volumes::read_external(map.take("external"));
    let name = map.take("name").and_then(|name| name.word()).map(str::to_owned).or(old_name);
    let settings = ["driver", "driver_opts", "internal", "attachable", "enable_ipv4", "enable_ipv6", "ipam", "labels"];
    if external {
        for setting in settings.into_iter().filter_map(|key| map.take(key)) {
            setting.problem("an external network has no settings", "It exists already: take this out, or `external`.");
        }
    }
    let flag = |key: &str| map.take_filled(key).and_then(|v| v.boolean());
    let default_name = if external { key.to_owned() } else { Project::network_name(project, key) };
    let network = Network {
        name: name.unwrap_or(default_name),
        external,
        driver: map.take_filled("driver").and_then(|v| v.word()).map(str::to_owned),
        driver_opts: map.take("driver_opts").and_then(|v| v.string_map()).unwrap_or_default(),
        internal: flag("internal").unwrap_or(false),
        attachable: flag("attachable").unwrap_or(false),
        enable_ipv4: flag("enable_ipv4"),
        enable_ipv6: flag("enable_ipv6"),
        ipam: map.take("ipam").and_then(|v| read_ipam(&v)),
        labels: map.take("labels").map(|v| super::service::read_labels(&v)).unwrap_or_default(),
    };
    map.finish();
    Some(network)
}

fn read_ipam(item: &Item<'_>) -> Option<Ipam> {
    let map = item.map(&keys::IPAM)?;
    let pools = map.take("config").and_then(|v| v.list()).unwrap_or_default();
    let ipam = Ipam {
        driver: map.take_filled("driver").and_then(|v| v.word()).map(str::to_owned),
        config: pools.iter().filter_map(read_pool).collect(),
        options: map.take("options").and_then(|v| v.string_map()).unwrap_or_default(),
    };
    map.finish();
    Some(ipam)
}

fn read_pool(item: &Item<'_>) -> Option<IpamPool> {
    let map = item.map(&keys::IPAM_POOL)?;
    let range = |key: &str| {
        map.take_filled(key).and_then(|v| v.parsed(read_range, "a range of addresses", "Write `172.28.0.0/16`."))
    };
    let mut others = BTreeMap::new();
    for (entry, item) in map.take("aux_addresses").and_then(|v| v.entries()).unwrap_or_default() {
        others.extend(address(&item).map(|address| (entry.key.clone(), address)));
    }
    let pool = IpamPool {
        subnet: range("subnet"),
        ip_range: range("ip_range"),
        gateway: map.take_filled("gateway").and_then(|v| address(&v)),
        aux_addresses: others,
    };
    map.finish();
    Some(pool)
}

fn read_range(text: &str) -> Option<String> {
    let (address, bits) = text.split_once('/')?;
    let address: IpAddr = address.parse().ok()?;
    let most = if address.is_ipv4() { 32 } else { 128 };
    bits.parse::<u32>().ok().filter(|bits| *bits <= most).map(|_| text.to_owned())
}

fn address(item: &Item<'_>) -> Option<IpAddr> {
    item.parsed(|text| text.parse().ok(), "an IP address", "")
}

/// Where a service's containers are connected.
#[derive(Default)]
pub(super) struct Place<'a> {
    pub networks: BTreeMap<String, Attachment>,
    pub mode: Option<NetworkMode>,
    /// Services whose network is used: they come first.
    pub joined: Vec<(String, Item<'a>)>,
    pub item: Option<Item<'a>>,
}

pub(super) fn read_place<'a>(map: &MapReader<'a>, context: &Context<'_>) -> Place<'a> {
    let mut place = Place::default();
    let networks = map.take("networks");
    if let Some(item) = map.take_filled("network_mode") {
        place.mode = read_mode(&item);
        if let Some(NetworkMode::Service(name)) = &place.mode {
            place.joined.push((name.clone(), item.clone()));
        }
        if let Some(networks) = &networks {
            networks.problem("`networks` beside `network_mode`", "Keep one of the two.");
        }
        place.item = Some(item);
        return place;
    }
    place.networks = networks.as_ref().map(|item| read_attachments(item, context)).unwrap_or_default();
    // `networks: []` means no network of the project, which Compose reads as the default one.
    if networks.is_none_or(|item| item.len() == 0) {
        place.networks.insert(DEFAULT_NETWORK.to_owned(), Attachment::default());
    }
    place
}

fn read_mode(item: &Item<'_>) -> Option<NetworkMode> {
    let text = item.text()?;
    match text.split_once(':') {
        Some(("service", name)) if !name.is_empty() => return Some(NetworkMode::Service(name.to_owned())),
        Some(("container", name)) if !name.is_empty() => return Some(NetworkMode::Container(name.to_owned())),
        _ => {}
    }
    match text {
        "host" => Some(NetworkMode::Host),
        "none" => Some(NetworkMode::None),
        "bridge" | "default" => Some(NetworkMode::Bridge),
        _ => {
            item.problem(
                "not one of `bridge`, `host`, `none`, `service:NAME`, `container:NAME`",
                "A network by its name goes under `networks`; one that exists already is `external: true` at the top level.",
            );
            None
        }
    }
}

fn read_attachments(item: &Item<'_>, context: &Context<'_>) -> BTreeMap<String, Attachment> {
    let mut out = BTreeMap::new();
    if item.is_list() {
        for item in item.list().unwrap_or_default() {
            let Some(name) = item.word() else { continue };
            check_defined(&item, name, context);
            out.insert(name.to_owned(), Attachment::default());
        }
        return out;
    }
    for (entry, item) in item.entries().unwrap_or_default() {
        check_defined(&item, &entry.key, context);
        out.extend(read_attachment(&item).map(|attachment| (entry.key.clone(), attachment)));
    }
    out
}

fn check_defined(item: &Item<'_>, name: &str, context: &Context<'_>) {
    if name != DEFAULT_NETWORK && !context.network_keys.contains(name) {
        let hint = format!("Write `{name}:` under top-level `networks`.");
        let known = context.network_keys.iter().map(String::as_str);
        let hint = suggestion(name, known).map_or(hint.clone(), |suggestion| format!("{suggestion} {hint}"));
        item.problem(format!("network `{name}` is not defined"), &hint);
    }
}

fn read_attachment(item: &Item<'_>) -> Option<Attachment> {
    let map = item.map(&keys::SERVICE_NETWORK)?;
    let ip = |key: &str, v4: bool| {
        let item = map.take_filled(key)?;
        let found = address(&item)?;
        if found.is_ipv4() != v4 {
            item.problem(if v4 { "not an IPv4 address" } else { "not an IPv6 address" }, "");
        }
        Some(found)
    };
    let number = |key: &str| map.take_filled(key).and_then(|v| v.signed(-1_000_000..=1_000_000)).unwrap_or(0);
    let link_local = map.take("link_local_ips").and_then(|v| v.list()).unwrap_or_default();
    let attachment = Attachment {
        aliases: map.take("aliases").and_then(|v| v.words()).unwrap_or_default(),
        ipv4_address: ip("ipv4_address", true),
        ipv6_address: ip("ipv6_address", false),
        link_local_ips: link_local.iter().filter_map(address).collect(),
        mac_address: map.take_filled("mac_address").and_then(|v| read_mac(&v)),
        interface_name: map.take_filled("interface_name").and_then(|v| v.word()).map(str::to_owned),
        priority: number("priority"),
        gw_priority: number("gw_priority"),
        driver_opts: map.take("driver_opts").and_then(|v| v.string_map()).unwrap_or_default(),
    };
    map.finish();
    Some(attachment)
}

pub(super) fn read_mac(item: &Item<'_>) -> Option<String> {
    let fits = |text: &str| {
        let parts: Vec<&str> = text.split([':', '-']).collect();
        let hex = |part: &&str| part.len() == 2 && part.chars().all(|c| c.is_ascii_hexdigit());
        (parts.len() == 6 && parts.iter().all(hex)).then(|| parts.join(":").to_lowercase())
    };
    item.parsed(fits, "a MAC address", "Write `02:42:ac:11:65:43`.")
}
