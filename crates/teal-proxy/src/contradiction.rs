//! What a table must be free of before anyone routes by it.

use crate::network::Network;
use crate::sticky;
use std::collections::{HashMap, HashSet};
use teal_model::ids::{ReleaseKey, ServiceKey};
use teal_model::wire::{ListenerKey, Protocol, Route, RouteTable, ServiceEntry, StickyBy};

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
    of_preview(entry, &listed)
        .or_else(|| of_skew_guard(entry, &listed))
        .or_else(|| of_sticky(entry))
        .map(|why| format!("{key} {why}"))
}

fn of_preview(entry: &ServiceEntry, listed: &HashSet<&ReleaseKey>) -> Option<String> {
    let preview = entry.preview.as_ref()?;
    if !listed.contains(&preview.release) {
        return Some(format!("has a preview of {}, which it does not list", preview.release));
    }
    if let Some(wrong) = preview.networks.iter().find(|text| Network::parse(text).is_none()) {
        return Some(format!("permits previews from `{wrong}`, which is not a network"));
    }
    preview.tokens.iter().any(String::is_empty).then(|| "permits previews with an empty token".into())
}

fn of_skew_guard(entry: &ServiceEntry, listed: &HashSet<&ReleaseKey>) -> Option<String> {
    let guard = entry.skew_guard.as_ref()?;
    if let Some(unlisted) = guard.releases.iter().find(|release| !listed.contains(release)) {
        return Some(format!("has a skew guard over {unlisted}, which it does not list"));
    }
    let wrong = guard.prefixes.iter().find(|prefix| !prefix.starts_with('/'))?;
    Some(format!("has a skew guard for the path `{wrong}`, which does not start with `/`"))
}

/// Its key is not told.
fn of_sticky(entry: &ServiceEntry) -> Option<String> {
    match &entry.sticky.as_ref()?.by {
        StickyBy::Cookie { name, .. } if !is_token(name) => {
            Some(format!("is sticky by the cookie `{name}`, which is no name"))
        }
        StickyBy::Cookie { key, .. } if sticky::key_bytes(key).is_none() => {
            Some("is sticky by a cookie whose key is no hex, or shorter than 16 bytes".into())
        }
        StickyBy::Header { name } if !is_token(name) => {
            Some(format!("is sticky by the field `{name}`, which is no name"))
        }
        _ => None,
    }
}

/// RFC 9110 5.6.2.
fn is_token(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b))
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
