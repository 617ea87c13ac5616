//! What serves now.

use crate::print::words::{ago, count, counted, for_how_long, short_id, table};
use crate::print::{Paint, history};
use teal_model::api::{ReplicaStatus, ServiceStatus, Status};

pub fn text(status: &Status, now_ms: u64, paint: Paint) -> String {
    let mut text = head(status, paint);
    if status.services.is_empty() {
        text.push_str("\nno service is deployed\n");
    } else {
        text.push_str(&format!("\n{}", services(&status.services, now_ms, paint)));
        text.push_str(&format!("\n{}", replicas(&status.services, paint)));
    }
    for summary in &status.running {
        let name = paint.cyan(&format!("deployment {} of {}", summary.deployment, summary.project));
        text.push_str(&format!("\n{name} is {}: {}\n", history::state(&summary.state), summary.releases.join(", ")));
        text.push_str(&format!("  by {}, {}\n", summary.who, ago(summary.started_ms, now_ms)));
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
    let head = ["SERVICE", "RELEASE", "COLOR", "FOR", "LISTENS", "IN FLIGHT", "RATE", "REQUESTS", "FAILED", "IMAGE"];
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
            if service.listeners.is_empty() { "-".to_owned() } else { service.listeners.join(" ") },
            number(service.in_flight),
            service.rate.map_or_else(|| "-".to_owned(), |rate| format!("{rate:.1}/s")),
            number(service.requests),
            number(service.failed),
            image,
        ]);
    }
    table(&rows, paint)
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
            service.replicas.clear();
        }
        golden("status-unknown.txt", &text(&status, made_up::NOW_MS, Paint::NONE));
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
