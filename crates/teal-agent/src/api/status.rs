//! What `teal status` shows: services, replicas, the proxy, deployments that run.

use super::watched::watched;
use super::{Answer, Shared};
use crate::agent::Agent;
use crate::journal::{Kept, Retained, ServiceRecord};
use crate::reach::Ways;
use crate::runtime::Status as Runs;
use crate::traffic::Counts;
use crate::world::Replica;
use axum::extract::{Query, State};
use serde::Deserialize;
use std::collections::HashMap;
use std::sync::Arc;
use teal_model::api::{
    Hello, ProxyStatus, PublishedPort, ReplicaStatus, RetainedStatus, ServiceStatus, Status, VERSION,
};
use teal_model::config::{Mode, Nginx, Port, Protocol as Transport, Service};
use teal_model::deployment::Health;
use teal_model::door::{self, Door};
use teal_model::fault::Fault;
use teal_model::ids::{ReleaseKey, ServiceKey};
use teal_model::plan::listeners;
use teal_model::wire::{Statistics, TcpCounters};

pub fn hello(agent: &Agent) -> Hello {
    Hello {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        api: VERSION,
        agent: agent.id.clone(),
        pid: std::process::id(),
        state_dir: agent.state_dir.display().to_string(),
    }
}

#[derive(Deserialize)]
pub struct StatusQuery {
    project: Option<String>,
}

pub async fn status(State(shared): State<Shared>, Query(query): Query<StatusQuery>) -> Answer<Status> {
    let agent = &shared.agent;
    let of_project = |project: &str| query.project.as_ref().is_none_or(|wanted| wanted == project);
    let statistics = agent.traffic.ask().await;
    let proxy = agent.traffic.state().borrow().clone();
    let doors = agent.publisher.all_doors().await;
    let mut services = Vec::new();
    let running = agent.journal.unfinished()?;
    let mut warm = agent.warm()?;
    let world = agent.watch.now();
    for record in agent.journal.services()?.into_iter().filter(|record| of_project(&record.service.project)) {
        let deploying = running
            .iter()
            .any(|kept| kept.deployment.plan.members.iter().any(|member| member.service == record.service));
        // What a deployment that got stuck left.
        let runs = world.replicas.values().any(|replica| replica.release.service == record.service);
        if record.live.is_none() && !deploying && !runs {
            continue;
        }
        let of_nginx = match record.routing.as_ref().map(|routing| &routing.settings) {
            Some(release) if is_behind(agent, release) => Some(OfNginx { counted: agent.nginx.counted().ask().await }),
            _ => None,
        };
        let warm = warm.remove(&record.service).filter(|warm| !agent.is_spent(&warm.release));
        let warm = warm.map(|warm| retained(agent, &record, warm)).transpose()?;
        services.push(service(agent, &record, warm, &running, &doors, statistics.as_deref(), of_nginx));
    }
    let connections = statistics.as_ref().map(|statistics| statistics.connections).unwrap_or_default();
    let engine = agent.runtime.engine().await;
    let mut alerts = agent.alerts();
    alerts.extend(engine.as_ref().err().map(ToString::to_string));
    Ok(axum::Json(Status {
        agent: hello(agent),
        proxy: ProxyStatus {
            pid: proxy.pid,
            table: proxy.acknowledged,
            connections: connections.open,
            parked: connections.parked,
        },
        engine: engine.ok().map(|engine| format!("{} (API {})", engine.version, engine.api_version)),
        services,
        watched: running
            .iter()
            .filter(|kept| of_project(&kept.project))
            .filter_map(|kept| watched(agent, kept))
            .collect(),
        running: running.iter().filter(|kept| of_project(&kept.project)).map(Kept::summary).collect(),
        alerts,
    }))
}

fn retained(agent: &Agent, record: &ServiceRecord, warm: Retained) -> Result<RetainedStatus, Fault> {
    let lineage = agent.journal.lineage(&record.service)?;
    let number = warm.release.number;
    let way = record.live.as_ref().map(|live| lineage.way(live.release.number, number)).unwrap_or_default();
    Ok(RetainedStatus { release: number, until_ms: warm.until_ms, way })
}

/// What an nginx says of a service.
struct OfNginx {
    counted: Option<Arc<Statistics>>,
}

fn is_behind(agent: &Agent, release: &ReleaseKey) -> bool {
    agent.store.release(release).is_ok_and(|stored| stored.service.teal.nginx.is_some())
}

fn service(
    agent: &Agent,
    record: &ServiceRecord,
    retained: Option<RetainedStatus>,
    running: &[Kept],
    doors: &HashMap<ReleaseKey, Vec<Door>>,
    statistics: Option<&Statistics>,
    of_nginx: Option<OfNginx>,
) -> ServiceStatus {
    // What other containers call by name is beside it.
    let statistics = match &of_nginx {
        Some(of_nginx) => of_nginx.counted.as_deref(),
        None => statistics,
    };
    let key: &ServiceKey = &record.service;
    let world = agent.watch.now();
    let stopped = |replica: &Replica| {
        matches!(replica.container.status, Runs::Exited { .. } | Runs::Dead | Runs::Removing)
            && running.iter().any(|kept| kept.deployment.has_stopped(&replica.release, replica.index))
    };
    let replicas = world.replicas.values().filter(|replica| &replica.release.service == key);
    let replicas = replicas.map(|replica| ReplicaStatus {
        container: replica.container.id.chars().take(12).collect(),
        name: replica.container.name.clone(),
        release: replica.release.number,
        health: match replica.health() {
            _ if stopped(replica) => "stopped".to_owned(),
            Health::Ready if replica.is_job() => "completed".to_owned(),
            Health::Ready => "ready".to_owned(),
            Health::Warming { last } => format!("warming: {last}"),
            Health::Unknown { why } => format!("unknown: {why}"),
            Health::Failed { fault } => format!("failed: {fault}"),
        },
        address: {
            let reach = agent.store.release(&replica.release).map(|stored| stored.reach).unwrap_or_default();
            Ways::of(&replica.container, &reach).words()
        },
        restarts: replica.container.restarts,
    });
    let releases = statistics.map(|statistics| {
        statistics.releases.iter().filter(|release| &release.release.service == key).collect::<Vec<_>>()
    });
    let sum = |count: &dyn Fn(&teal_model::wire::ReleaseStatistics) -> u64| {
        releases.as_ref().map(|releases| releases.iter().map(|release| count(release)).sum())
    };
    let adopted = record.live.as_ref().is_some_and(crate::journal::ReleaseRecord::is_adopted);
    let words = |nginx: &Nginx| format!("{}, upstream {}", nginx.process.words(), nginx.upstream);
    // Until its first deployment an adopted service has no route, and Docker has its ports.
    let of = record.routing.as_ref().map(|routing| &routing.settings);
    let of = of.or(record.live.as_ref().filter(|_| adopted).map(|live| &live.release));
    let settings = of.and_then(|release| agent.store.release(release).ok());
    let doors = record.routing.as_ref().and_then(|routing| doors.get(&routing.settings)).map_or(&[][..], Vec::as_slice);
    let rate = agent.meter.rate(key);
    let behind = settings.as_ref().and_then(|stored| stored.service.teal.nginx.as_ref().map(words));
    ServiceStatus {
        service: key.clone(),
        live: record.live.as_ref().map(|live| live.release.clone()),
        color: record.live.as_ref().map(|live| live.color.to_string()),
        image: record.live.as_ref().map(|live| live.image.clone()),
        image_id: record.live.as_ref().and_then(|live| live.image_id.clone()),
        since_ms: record.since_ms,
        retained,
        published: settings
            .as_ref()
            .map(|stored| published(&stored.service, doors, adopted))
            .filter(|_| behind.is_none() || adopted)
            .unwrap_or_default(),
        trusted_proxies: settings.as_ref().map(|stored| stored.trusted_proxies.clone()).unwrap_or_default(),
        by_name: world.holders.contains_key(key).then(|| doors.to_vec()),
        listeners: settings
            .filter(|_| !adopted)
            .map(|stored| listeners(&stored.service).iter().map(ToString::to_string).collect())
            .unwrap_or_default(),
        adopted,
        holding: record.routing.as_ref().is_some_and(|routing| routing.holding),
        replicas: replicas.collect(),
        // Of nginx its connections are known, and not which of them has a request.
        in_flight: sum(&|release| release.in_flight).filter(|_| behind.is_none()),
        behind,
        rate: rate.map(|rate| rate.requests),
        connection_rate: rate.map(|rate| rate.connections),
        requests: sum(&|release| release.counters.requests),
        failed: sum(&|release| release.counters.failed.total()),
        tcp: releases.map(|releases| {
            releases.iter().fold(TcpCounters::default(), |sum, release| TcpCounters {
                connections: sum.connections + release.tcp.connections,
                failed: sum.failed + release.tcp.failed,
                open: sum.open + release.tcp.open,
                closed: sum.closed + release.tcp.closed,
            })
        }),
    }
}

fn published(service: &Service, doors: &[Door], adopted: bool) -> Vec<PublishedPort> {
    let of = |port: &Port| {
        let udp = port.protocol == Transport::Udp;
        let direct = adopted || udp || service.teal.mode == Mode::Direct || service.network_mode.is_some();
        let spoken = || door::written(service, port.target).or_else(|| door::spoken(doors, port.target));
        let protocol = if direct { None } else { spoken() };
        PublishedPort { host_ip: port.host_ip, published: port.published, target: port.target, direct, udp, protocol }
    };
    service.ports.iter().map(of).collect()
}
