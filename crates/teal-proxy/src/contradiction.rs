//! What a table must be free of before anyone routes by it.

use crate::table::Network;
use std::collections::{HashMap, HashSet};
use teal_model::ids::ServiceKey;
use teal_model::wire::{ListenerKey, Protocol, Route, RouteTable, ServiceEntry};

/// What is wrong with a table, if anything: it must hang together as a whole.
pub(crate) fn contradiction(table: &RouteTable) -> Option<String> {
    let of_services = table.services.iter().find_map(|(key, entry)| of_service(key, entry));
    let of_routes = || table.routes.iter().find_map(|route| of_route(route, table));
    let of_networks = || {
        let wrong = table.trusted_proxies.iter().find(|text| Network::parse(text).is_none());
        wrong.map(|text| format!("the trusted proxy `{text}` is not a network"))
    };
    of_services.or_else(of_routes).or_else(|| of_listeners(&table.routes)).or_else(of_networks)
}

fn of_service(key: &ServiceKey, entry: &ServiceEntry) -> Option<String> {
    let mut listed = HashSet::new();
    for release in &entry.releases {
        if release.release.service != *key {
            return Some(format!("{key} lists {}, a release of another service", release.release));
        }
        if !listed.insert(&release.release) {
            return Some(format!("{key} lists {} twice", release.release));
        }
        let mut ids = HashSet::new();
        if let Some(twice) = release.backends.iter().find(|backend| !ids.insert(&backend.id)) {
            return Some(format!("{} lists backend {} twice", release.release, twice.id));
        }
    }
    let mut shared = HashSet::new();
    for share in &entry.split {
        if !listed.contains(&share.release) {
            return Some(format!("{key} gives a share to {}, which it does not list", share.release));
        }
        if !shared.insert(&share.release) {
            return Some(format!("{key} gives {} two shares", share.release));
        }
    }
    None
}

fn of_route(route: &Route, table: &RouteTable) -> Option<String> {
    if !table.services.contains_key(&route.service) {
        return Some(format!("{} is routed to {}, which is not listed", route.listener, route.service));
    }
    if !route.path.starts_with('/') {
        return Some(format!("the path `{}` of {} does not start with `/`", route.path, route.service));
    }
    let host = route.host.as_ref().filter(|host| !is_host(host))?;
    Some(format!("the host `{host}` of {} is not a lower-case name", route.service))
}

/// The bytes of a TCP connection name neither a host nor a path, so only one route can be meant.
fn of_listeners(routes: &[Route]) -> Option<String> {
    let mut spoken: HashMap<&ListenerKey, Protocol> = HashMap::new();
    for route in routes {
        let listener = &route.listener;
        let tcp = route.protocol == Protocol::Tcp;
        if tcp && (route.host.is_some() || route.path != "/") {
            return Some(format!("{listener} is plain TCP, and its route to {} has a host or a path", route.service));
        }
        match spoken.insert(listener, route.protocol) {
            Some(other) if other != route.protocol => {
                return Some(format!("{listener} is to speak both HTTP and plain TCP"));
            }
            Some(_) if tcp => return Some(format!("{listener} is plain TCP, and has two routes")),
            _ => {}
        }
    }
    None
}

fn is_host(host: &str) -> bool {
    let name = host.strip_prefix("*.").unwrap_or(host);
    let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-._[]:".contains(&b);
    !name.is_empty() && name.bytes().all(allowed)
}
