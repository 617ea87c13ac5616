//! What only shows when the services are seen together: dependencies, shared ports, and settings that contradict
//! each other.

use super::depends::Dependency;
use super::health::check_deadline;
use super::listen;
use super::nginx;
use super::ports::{self, overlap, word};
use super::problem::suggestion;
use super::project::{Condition, DependsOn, Mount, MountKind, NetworkMode, Port, Protocol, RouteRule, Strategy};
use super::service::{ReadService, keep_unnamed_ports};
use std::collections::BTreeMap;

pub(super) type Services<'a> = BTreeMap<String, ReadService<'a>>;

pub(super) fn check(services: &mut Services<'_>, disabled: &BTreeMap<String, Vec<String>>, project: &str) {
    resolve_dependencies(services, disabled);
    find_cycles(services);
    settle_ports(services, project);
    share_volumes(services);
    mark_jobs(services);
    for service in services.values_mut() {
        nginx::settle(service, project);
    }
    listen::settle(services);
    check_shared_ports(services);
    for service in services.values() {
        check_routes(service);
        check_strategy(service);
        check_single(service);
        check_network_mode(service);
        if let (Some(item), Some(check)) = (&service.healthcheck, &service.service.container.healthcheck) {
            check_deadline(item, check, &service.service.teal.health);
        }
        check_probe_port(service);
    }
}

fn resolve_dependencies(services: &mut Services<'_>, disabled: &BTreeMap<String, Vec<String>>) {
    let names: Vec<String> = services.keys().cloned().collect();
    for (name, read) in services.iter_mut() {
        for Dependency { on, depends, item } in &read.depends_on {
            if on == name {
                item.problem("a service cannot depend on itself", "Take it out.");
            } else if names.contains(on) {
                // What `depends_on` says goes before what another key implies.
                read.service.depends_on.entry(on.clone()).or_insert(*depends);
            } else if !depends.required {
                item.warning(format!("there is no service `{on}`, and it is not required: it is left out"), "");
            } else if let Some(profiles) = disabled.get(on) {
                let hint = format!(
                    "Choose it with `--profile {}`, or write `required: false`.",
                    profiles.join("` or `--profile ")
                );
                item.problem(format!("`{on}` waits for a profile that was not chosen"), &hint);
            } else {
                let hint = suggestion(on, names.iter().map(String::as_str));
                let hint = hint.unwrap_or_else(|| "Add the service, or take this out.".to_owned());
                item.problem(format!("there is no service `{on}`"), &hint);
            }
        }
    }
}

/// What is written with a number has it, whatever the others choose.
fn settle_ports(services: &mut Services<'_>, project: &str) {
    let mut taken: Vec<Port> = Vec::new();
    let fixed = |read: &ReadService<'_>| -> Vec<Port> {
        read.wanted.iter().filter(|(wanted, _)| wanted.among.is_none()).map(|(wanted, _)| wanted.port.clone()).collect()
    };
    taken.extend(services.values().flat_map(fixed));
    for (name, read) in services.iter_mut() {
        if read.service.network_mode == Some(NetworkMode::Host) {
            for (_, item) in &read.wanted {
                item.warning(
                    "no port is published: with `network_mode: host` it is the host's already",
                    "Take it out.",
                );
            }
            continue;
        }
        for (wanted, item) in &read.wanted {
            let Some(port) = ports::settle(wanted, item, &format!("{project}/{name}"), &taken) else { continue };
            if wanted.among.is_some() {
                taken.push(port.clone());
            }
            read.ports.push((port, item.clone()));
        }
        read.service.ports = read.ports.iter().map(|(port, _)| port.clone()).collect();
        keep_unnamed_ports(&mut read.service.teal.routes, &read.ports);
    }
}

/// `volumes_from`: the mounts of the other service at the same places.
fn share_volumes(services: &mut Services<'_>) {
    let mounts: BTreeMap<String, Vec<Mount>> =
        services.iter().map(|(name, read)| (name.clone(), read.service.container.mounts.clone())).collect();
    for (name, read) in services.iter_mut() {
        for item in &read.volumes_from {
            let Some(text) = item.word() else { continue };
            if let Some(container) = text.strip_prefix("container:") {
                read.service.container.volumes_from.push(container.to_owned());
                continue;
            }
            let (from, mode) = text.split_once(':').unwrap_or((text, "rw"));
            if !matches!(mode, "ro" | "rw") {
                item.problem("neither `ro` nor `rw`", "Write `SERVICE`, `SERVICE:ro` or `container:NAME`.");
            }
            for mount in mounts.get(from).filter(|_| from != name).into_iter().flatten() {
                if mount.source.is_none() && mount.kind == MountKind::Volume {
                    item.problem(
                        format!("the volume of `{from}` at `{}` has no name, so it cannot be shared", mount.target),
                        "Give it a name under top-level `volumes`.",
                    );
                } else if !read.service.container.mounts.iter().any(|own| own.target == mount.target) {
                    let read_only = mount.read_only || mode == "ro";
                    read.service.container.mounts.push(Mount { read_only, ..mount.clone() });
                }
            }
        }
    }
}

/// A service whose completion is waited for is expected to complete.
fn mark_jobs(services: &mut Services<'_>) {
    let completes = |depends: &DependsOn| depends.condition == Condition::ServiceCompletedSuccessfully;
    let jobs: Vec<String> = services
        .values()
        .flat_map(|read| read.service.depends_on.iter())
        .filter(|(_, depends)| completes(depends))
        .map(|(on, _)| on.clone())
        .collect();
    for name in jobs {
        if let Some(read) = services.get_mut(&name) {
            read.service.is_job = true;
        }
    }
}

/// Things of which there is one: a name, an address, the host's own ports.
fn check_single(read: &ReadService<'_>) {
    let Some(why) = read.service.only_once() else { return };
    let strategy = read.teal.strategy.as_ref().filter(|_| read.service.teal.strategy == Some(Strategy::BlueGreen));
    if let Some(strategy) = strategy {
        strategy.problem(
            format!("two releases cannot run side by side: {why}"),
            "Take that out, or write `strategy: recreate`.",
        );
    }
    if read.service.replicas > 1 {
        let item = read.container_name.as_ref().or(read.replicas.as_ref()).unwrap_or(&read.item);
        item.problem(
            format!("{} replicas cannot run side by side: {why}", read.service.replicas),
            "Take one of the two out.",
        );
    }
}

fn check_network_mode(read: &ReadService<'_>) {
    let reachable = matches!(read.service.network_mode, None | Some(NetworkMode::Bridge));
    if let (Some(item), false) = (&read.network_mode, read.ports.is_empty() || reachable) {
        item.problem(
            "published ports mean nothing in this network",
            "Take `ports` out, or `network_mode`: the proxy reaches containers on a network of the project.",
        );
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
            let (name, number, word) = (&other.service.name, port.published, word(port.protocol));
            if other.service.name == read.service.name {
                item.problem(
                    format!("{word}port {number} is published twice on the same address"),
                    "Keep one of the two.",
                );
                continue;
            }
            if port.host_ip != other_port.host_ip {
                item.problem(
                    format!("{word}port {number} is published by `{name}` on an address that overlaps this one"),
                    "Write the same address for both, or other ports.",
                );
                continue;
            }
            if port.protocol == Protocol::Udp {
                item.problem(format!("{word}port {number} is published by `{name}` as well"), "Publish another port.");
                continue;
            }
            let lone = read.teal.routes.is_empty() || other.teal.routes.is_empty();
            let mine = rules_on(port, &read.service.teal.routes);
            let theirs = rules_on(other_port, &other.service.teal.routes);
            if lone {
                item.problem(
                    format!("{word}port {number} is published by `{name}` as well"),
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
        if read.ports.is_empty() && rule.port.is_none() && !read.teal.listen.is_empty() {
            continue;
        }
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
        && read.service.teal.nginx.is_none()
        && read.service.teal.listen.is_empty()
        && read.item.names_no_ports()
    {
        item.problem("a probe without a port", "The service publishes none: add `port: 8080`.");
    }
}
