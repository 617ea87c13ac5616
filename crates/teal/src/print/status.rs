//! What serves now.

use crate::print::words::{ago, count, counted, for_how_long, short_id, spoken, table};
use crate::print::{Paint, history, watched};
use std::net::SocketAddr;
use teal_model::api::{PublishedPort, ReplicaStatus, ServiceStatus, Status, Way};
use teal_model::ids::ServiceKey;
use teal_model::wire::TcpCounters;

pub fn text(status: &Status, now_ms: u64, paint: Paint) -> String {
    let mut text = head(status, paint);
    if status.services.is_empty() {
        text.push_str("\nno service is deployed\n");
    } else {
        text.push_str(&format!("\n{}", services(&status.services, now_ms, paint)));
        text.push_str(&format!("\n{}", ways(&status.services, paint)));
        text.push_str(&format!("\n{}", replicas(&status.services, paint)));
    }
    let warm: Vec<String> = status.services.iter().filter_map(|service| retained(service, status, now_ms)).collect();
    if !warm.is_empty() {
        text.push_str(&format!("\n{}", warm.concat()));
    }
    for summary in &status.running {
        let name = paint.cyan(&format!("deployment {} of {}", summary.deployment, summary.project));
        text.push_str(&format!("\n{name} is {}: {}\n", history::state(&summary.state), summary.releases.join(", ")));
        text.push_str(&format!("  by {}, {}\n", summary.who, ago(summary.started_ms, now_ms)));
        for watched in status.watched.iter().filter(|watched| watched.deployment == summary.deployment) {
            text.push_str(&watched::text(watched, &summary.state, now_ms, paint));
        }
    }
    for alert in &status.alerts {
        text.push_str(&format!("\n{} {alert}\n", paint.red("alert:")));
    }
    text
}

fn head(status: &Status, paint: Paint) -> String {
    let agent = &status.agent;
    let mut text = format!("agent   {}, pid {}, state in {}\n", agent.version, agent.pid, agent.state_dir);
    let proxy = &status.proxy;
    text.push_str(&match proxy.pid {
        None => format!("proxy   {}\n", paint.red("does not run")),
        Some(pid) => {
            let table = proxy.table.map_or_else(|| "no table yet".to_owned(), |table| format!("table {table}"));
            format!(
                "proxy   pid {pid}, {table}, {} open, {} of them parked\n",
                counted(proxy.connections, "connection"),
                count(proxy.parked)
            )
        }
    });
    text.push_str(&match &status.engine {
        Some(engine) => format!("Docker  {engine}\n"),
        None => format!("Docker  {}\n", paint.red("does not answer")),
    });
    text
}

fn services(services: &[ServiceStatus], now_ms: u64, paint: Paint) -> String {
    let head =
        ["SERVICE", "RELEASE", "COLOR", "FOR", "IN FLIGHT", "RATE", "REQUESTS", "CONNECTIONS", "FAILED", "IMAGE"];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    for service in services {
        // A dash is what nobody knows; it is not a zero.
        let number = |value: Option<u64>| value.map_or_else(|| "-".to_owned(), count);
        let release = service.live.as_ref().map_or_else(|| "none".to_owned(), |live| live.number.to_string());
        let image = match (&service.image, &service.image_id) {
            (Some(image), Some(id)) => format!("{image} ({})", short_id(id)),
            (Some(image), None) => image.clone(),
            _ => "-".to_owned(),
        };
        rows.push(vec![
            service.service.to_string(),
            match (service.holding, service.adopted) {
                (true, _) => format!("{release}, holding"),
                (false, true) => format!("{release}, adopted"),
                (false, false) => release,
            },
            service.color.clone().unwrap_or_else(|| "-".to_owned()),
            service.since_ms.map_or_else(|| "-".to_owned(), |since| for_how_long(now_ms.saturating_sub(since))),
            number(service.in_flight),
            rate(service),
            number(service.requests),
            service.tcp.map_or_else(|| "-".to_owned(), |tcp| connections(&tcp)),
            number(service.failed.map(|failed| failed + service.tcp.map_or(0, |tcp| tcp.failed))),
            image,
        ]);
    }
    table(&rows, paint)
}

/// The release that a rollback goes back to in a moment.
fn retained(service: &ServiceStatus, status: &Status, now_ms: u64) -> Option<String> {
    let warm = service.retained.as_ref()?;
    let until = match warm.until_ms {
        Some(until) => format!("for {} more", for_how_long(until.saturating_sub(now_ms))),
        None => "until the next deployment".to_owned(),
    };
    let ServiceKey { project, service: name } = &service.service;
    // While it is deployed a rollback takes the deployment back.
    let deployed = status.running.iter().any(|one| one.project == *project && one.services.contains(name));
    let back = match warm.way {
        _ if deployed => String::new(),
        Way::Before => format!(": `teal rollback {name}` goes back to it"),
        Way::ByNumber => format!(": `teal rollback {name} --to {}` goes to it", warm.release),
        Way::Same => ", and is what is live".to_owned(),
    };
    Some(format!("{}@{} is warm {until}{back}\n", service.service, warm.release))
}

/// Requests and connections together: most services have one kind.
fn rate(service: &ServiceStatus) -> String {
    let sum = service.rate.map(|rate| rate + service.connection_rate.unwrap_or(0.0));
    sum.map_or_else(|| "-".to_owned(), |rate| format!("{rate:.1}/s"))
}

fn connections(tcp: &TcpCounters) -> String {
    match tcp.connections {
        0 => "0".to_owned(),
        all => format!("{} ({} open)", count(all), count(tcp.open)),
    }
}

/// How a service is reached: from outside, and by its name from other containers.
fn ways(services: &[ServiceStatus], paint: Paint) -> String {
    let mut rows = vec![["SERVICE", "PUBLISHED", "BY NAME"].map(str::to_owned).to_vec()];
    for service in services {
        let published: Vec<String> = service.published.iter().map(published).chain(service.behind.clone()).collect();
        let by_name = match &service.by_name {
            None => "its containers".to_owned(),
            Some(doors) => {
                let doors = doors.iter().map(|door| format!("{} {}", door.port, spoken(door.protocol)));
                doors.collect::<Vec<_>>().join(", ")
            }
        };
        let or_nothing = |text: String| if text.is_empty() { "nothing".to_owned() } else { text };
        rows.push(vec![service.service.to_string(), or_nothing(published.join(", ")), or_nothing(by_name)]);
    }
    table(&rows, paint)
}

/// `80 -> 8080 HTTP`
fn published(port: &PublishedPort) -> String {
    let PublishedPort { published, target, .. } = port;
    let host = match port.host_ip {
        Some(ip) => SocketAddr::new(ip, *published).to_string(),
        None => published.to_string(),
    };
    let protocol = match port.protocol {
        Some(protocol) => spoken(protocol),
        None if port.direct => "by Docker",
        None => "(not known yet)",
    };
    format!("{host} -> {target}{} {protocol}", if port.udp { "/udp" } else { "" })
}

fn replicas(services: &[ServiceStatus], paint: Paint) -> String {
    let mut rows = vec![["REPLICA", "RELEASE", "HEALTH", "ADDRESS", "RESTARTS"].map(str::to_owned).to_vec()];
    let mut sorted: Vec<&ReplicaStatus> = services.iter().flat_map(|service| &service.replicas).collect();
    sorted.sort_by(|a, b| a.name.cmp(&b.name));
    for replica in sorted {
        let ReplicaStatus { name, release, health, address, restarts, .. } = replica;
        rows.push(vec![
            name.clone(),
            release.to_string(),
            health.clone(),
            address.clone().unwrap_or_else(|| "-".to_owned()),
            restarts.to_string(),
        ]);
    }
    if rows.len() == 1 { "no replica runs\n".to_owned() } else { table(&rows, paint) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::print::{golden, made_up};

    #[test]
    fn status_shows_what_serves_and_how_it_does() {
        golden("status.txt", &text(&made_up::status(), made_up::NOW_MS, Paint::NONE));
    }

    #[test]
    fn what_is_not_known_is_not_shown_as_zero() {
        let mut status = made_up::status();
        status.engine = None;
        status.proxy.pid = None;
        status.running.clear();
        for service in &mut status.services {
            service.holding = true;
            (service.in_flight, service.rate, service.requests, service.failed) = (None, None, None, None);
            (service.connection_rate, service.tcp) = (None, None);
            service.replicas.clear();
        }
        golden("status-unknown.txt", &text(&status, made_up::NOW_MS, Paint::NONE));
    }

    #[test]
    fn the_way_to_what_is_warm_is_the_one_that_leads_there() {
        let mut status = made_up::status();
        status.running.clear();
        let mut line = |way: Way| {
            let service = status.services.iter_mut().find(|service| service.retained.is_some()).unwrap();
            service.retained.as_mut().unwrap().way = way;
            let text = text(&status, made_up::NOW_MS, Paint::NONE);
            text.lines().find(|line| line.contains("is warm for")).unwrap().to_owned()
        };
        assert!(line(Way::Before).ends_with(": `teal rollback web` goes back to it"));
        assert!(line(Way::ByNumber).ends_with(": `teal rollback web --to 3` goes to it"));
        assert!(line(Way::Same).ends_with(", and is what is live"));
    }

    #[test]
    fn an_empty_host_says_so() {
        let mut status = made_up::status();
        status.services.clear();
        status.running.clear();
        status.alerts.clear();
        golden("status-empty.txt", &text(&status, made_up::NOW_MS, Paint::NONE));
    }
}
