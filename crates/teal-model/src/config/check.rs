//! What only shows when the services are seen together: dependencies, shared ports, and settings that contradict
//! each other.

use super::health::check_deadline;
use super::ports::overlap;
use super::problem::suggestion;
use super::project::{DependsOn, Mount, MountKind, Port, RouteRule, Strategy};
use super::service::ReadService;
use std::collections::BTreeMap;

pub(super) type Services<'a> = BTreeMap<String, ReadService<'a>>;

pub(super) fn check(services: &mut Services<'_>) {
    resolve_dependencies(services);
    find_cycles(services);
    check_shared_ports(services);
    for service in services.values() {
        check_routes(service);
        check_strategy(service);
        if let (Some(item), Some(check)) = (&service.healthcheck, &service.service.container.healthcheck) {
            check_deadline(item, check, &service.service.teal.health);
        }
        check_probe_port(service);
    }
}

fn resolve_dependencies(services: &mut Services<'_>) {
    let names: Vec<String> = services.keys().cloned().collect();
    for (name, read) in services.iter_mut() {
        for dependency in &read.depends_on {
            let on = &dependency.on;
            if on == name {
                dependency.item.problem("a service cannot depend on itself", "Take it out.");
            } else if names.contains(on) {
                let depends = DependsOn { condition: dependency.condition, ..Default::default() };
                read.service.depends_on.insert(on.clone(), depends);
            } else if dependency.required {
                let hint = suggestion(on, names.iter().map(String::as_str));
                let hint = hint.unwrap_or_else(|| "Add the service, or take this out.".to_owned());
                dependency.item.problem(format!("there is no service `{on}`"), &hint);
            } else {
                let what = format!("there is no service `{on}`, and it is not required: it is left out");
                dependency.item.warning(what, "");
            }
        }
    }
}

/// Each cycle once, told at the first of its services by name.
fn find_cycles(services: &Services<'_>) {
    for (start, read) in services {
        let Some(cycle) = cycle_from(start, services) else { continue };
        if cycle.iter().all(|name| *name >= start.as_str()) {
            let item = read
                .depends_on
                .iter()
                .find(|dependency| cycle.get(1).is_some_and(|next| dependency.on == *next))
                .map_or(&read.item, |dependency| &dependency.item);
            let way = [cycle.as_slice(), &[start.as_str()]].concat().join(" -> ");
            item.problem(format!("services that wait for each other: {way}"), "Take one of the dependencies out.");
        }
    }
}

/// A shortest way from a service back to itself, by breadth.
fn cycle_from<'s>(start: &'s str, services: &'s Services<'_>) -> Option<Vec<&'s str>> {
    let mut came_from: BTreeMap<&str, &str> = BTreeMap::new();
    let mut queue = std::collections::VecDeque::from([start]);
    while let Some(at) = queue.pop_front() {
        for next in services.get(at)?.service.depends_on.keys() {
            if next == start {
                let mut way = vec![at];
                while let Some(before) = came_from.get(way[way.len() - 1]) {
                    way.push(before);
                }
                way.reverse();
                return Some(way);
            }
            if !came_from.contains_key(next.as_str()) {
                came_from.insert(next, at);
                queue.push_back(next);
            }
        }
    }
    None
}

/// What leads to a service on one of its ports: host and path.
fn rules_on(port: &Port, routes: &[RouteRule]) -> Vec<(Option<String>, String)> {
    let rules: Vec<_> = routes
        .iter()
        .filter(|rule| rule.port.is_none_or(|number| number == port.published))
        .map(|rule| (rule.host.clone(), rule.path.clone()))
        .collect();
    if rules.is_empty() { vec![(None, "/".to_owned())] } else { rules }
}

fn check_shared_ports(services: &Services<'_>) {
    let all: Vec<_> =
        services.values().flat_map(|read| read.ports.iter().map(move |(port, item)| (read, port, item))).collect();
    for (n, (read, port, item)) in all.iter().enumerate() {
        for (other, other_port, _) in all[..n].iter().filter(|(_, other_port, _)| overlap(port, other_port)) {
            let (name, number) = (&other.service.name, port.published);
            if other.service.name == read.service.name {
                item.problem(format!("port {number} is published twice on the same address"), "Keep one of the two.");
                continue;
            }
            if port.host_ip != other_port.host_ip {
                item.problem(
                    format!("port {number} is published by `{name}` on an address that overlaps this one"),
                    "Write the same address for both, or other ports.",
                );
                continue;
            }
            let lone = read.teal.routes.is_empty() || other.teal.routes.is_empty();
            let mine = rules_on(port, &read.service.teal.routes);
            let theirs = rules_on(other_port, &other.service.teal.routes);
            if lone {
                item.problem(
                    format!("port {number} is published by `{name}` as well"),
                    "Publish another port, or give both services an `x-teal.route` that tells them apart (`/` for the one that takes the rest).",
                );
            } else if let Some((host, path)) = mine.iter().find(|rule| theirs.contains(rule)) {
                let route = format!("{}{path}", host.as_deref().unwrap_or_default());
                item.problem(
                    format!("port {number} with the route `{route}` leads to `{name}` as well"),
                    "Give one of the two another `x-teal.route`.",
                );
            }
        }
    }
}

fn check_routes(read: &ReadService<'_>) {
    for (rule, item) in &read.teal.routes {
        if read.ports.is_empty() {
            // The port itself may be what is wrong, and that was said.
            if read.item.names_no_ports() {
                item.problem(
                    "a route without a published port",
                    "Add `ports: [\"80:8080\"]`: the proxy listens there.",
                );
            }
        } else if let Some(number) = rule.port
            && !read.ports.iter().any(|(port, _)| port.published == number)
        {
            let known: Vec<String> = read.ports.iter().map(|(port, _)| port.published.to_string()).collect();
            item.problem(
                format!("port {number} is not published by this service"),
                &format!("It publishes {}.", known.join(", ")),
            );
        }
    }
}

fn is_writable(mount: &Mount) -> bool {
    !mount.read_only && mount.kind != MountKind::Tmpfs
}

fn check_strategy(read: &ReadService<'_>) {
    let Some(item) = &read.teal.strategy else { return };
    let writable = read.service.container.mounts.iter().find(|mount| is_writable(mount));
    if let (Some(Strategy::BlueGreen), Some(mount)) = (read.service.teal.strategy, writable) {
        item.warning(
            format!("two releases will write to the volume at `{}` at the same time", mount.target),
            "Mount it read-only, use `recreate`, or leave it if the program is made for that.",
        );
    }
}

fn check_probe_port(read: &ReadService<'_>) {
    use super::project::Probe;
    let (Probe::Http { port: None, .. } | Probe::Tcp { port: None }) = &read.service.teal.health.probe else { return };
    if let Some(item) = &read.teal.health
        && read.ports.is_empty()
        && read.item.names_no_ports()
    {
        item.problem("a probe without a port", "The service publishes none: add `port: 8080`.");
    }
}
