//! What a deployment will do, decided before anything happens: every choice is made here, with its reason.

use crate::config::{Mode, MountKind, Port, Probe, Project, Protocol, Service, Strategy, UpdateOrder};
use crate::ids::{Color, ReleaseKey, ServiceKey};
use crate::wire::ListenerKey;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    pub project: String,
    /// Recreate members first, then blue-green ones, each in `depends_on` order.
    pub members: Vec<Member>,
    pub unchanged: Vec<Unchanged>,
    pub warnings: Vec<String>,
    /// Services whose image is pulled first, so its id (and whether anything changes at all) is known only then.
    pub unresolved: Vec<String>,
}

/// A service that gets a new release.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Member {
    pub service: ServiceKey,
    pub strategy: Strategy,
    /// Why this strategy.
    pub why: String,
    pub candidate: ReleaseKey,
    pub color: Color,
    /// As written.
    pub image: String,
    /// None until it was pulled.
    pub image_id: Option<String>,
    pub repo_digests: Vec<String>,
    pub replicas: u32,
    pub settings_hash: String,
    pub live: Option<LiveRelease>,
    pub listeners: Vec<ListenerKey>,
    pub deadline_ms: u64,
    pub drain_ms: u64,
    pub bake_ms: u64,
    pub readiness: String,
}

impl Member {
    /// It serves published ports, so its requests can be held and its in-flight count is known.
    pub fn serves(&self) -> bool {
        !self.listeners.is_empty() || self.live.as_ref().is_some_and(|live| live.serves)
    }

    pub fn is_recreate(&self) -> bool {
        self.strategy == Strategy::Recreate
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Unchanged {
    pub service: ServiceKey,
    pub release: u64,
}

/// What is known of the release that serves now.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LiveRelease {
    pub release: ReleaseKey,
    pub color: Color,
    pub image: String,
    pub image_id: String,
    pub settings_hash: String,
    pub serves: bool,
}

/// What is known of an image that is here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageFacts {
    pub id: String,
    pub repo_digests: Vec<String>,
    pub volumes: Vec<String>,
    pub has_healthcheck: bool,
    /// The deployment pulls it first, so its id may be another one then.
    pub may_change: bool,
}

/// What runs now, as far as a plan needs it.
#[derive(Debug, Clone, Default)]
pub struct Running {
    pub live: BTreeMap<String, LiveRelease>,
    /// The number that the next release of each service gets.
    pub next: BTreeMap<String, u64>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct Choice {
    /// Empty: all services of the project.
    pub services: Vec<String>,
    /// Deploy what is live already, too.
    pub force: bool,
}

#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum PlanError {
    #[error("the project {project} has no service `{name}`{}", suggest(.near))]
    NoSuchService { project: String, name: String, near: Option<String> },
}

fn suggest(near: &Option<String>) -> String {
    near.as_ref().map(|near| format!(". Did you mean `{near}`?")).unwrap_or_default()
}

/// `hash` gives the salted hash of a service's settings; `images` holds what is known by image reference.
pub fn plan(
    project: &Project,
    choice: &Choice,
    running: &Running,
    images: &BTreeMap<String, ImageFacts>,
    hash: &dyn Fn(&Service) -> String,
) -> Result<Plan, PlanError> {
    for name in &choice.services {
        if !project.services.contains_key(name) {
            let near = project
                .services
                .keys()
                .min_by_key(|key| strsim::levenshtein(key, name))
                .filter(|key| strsim::levenshtein(key, name) <= 2);
            return Err(PlanError::NoSuchService {
                project: project.name.clone(),
                name: name.clone(),
                near: near.cloned(),
            });
        }
    }
    let mut plan = Plan {
        project: project.name.clone(),
        members: Vec::new(),
        unchanged: Vec::new(),
        warnings: Vec::new(),
        unresolved: Vec::new(),
    };
    for name in warming_order(project) {
        if !choice.services.is_empty() && !choice.services.contains(&name) {
            continue;
        }
        let service = &project.services[&name];
        let live = running.live.get(&name).cloned();
        let image = images.get(&service.container.image);
        let settings_hash = hash(service);
        let key = ServiceKey::new(&project.name, &name);
        if let (Some(live), Some(image)) = (&live, image)
            && !choice.force
            && !image.may_change
            && live.image_id == image.id
            && live.settings_hash == settings_hash
        {
            plan.unchanged.push(Unchanged { service: key, release: live.release.number });
            continue;
        }
        if image.is_none_or(|image| image.may_change) {
            plan.unresolved.push(name.clone());
        }
        plan.members.push(member(
            service,
            key,
            live,
            image,
            settings_hash,
            running.next.get(&name).copied().unwrap_or(1),
        ));
    }
    warn(project, &mut plan);
    plan.members.sort_by_key(|member| !member.is_recreate());
    Ok(plan)
}

fn member(
    service: &Service,
    key: ServiceKey,
    live: Option<LiveRelease>,
    image: Option<&ImageFacts>,
    settings_hash: String,
    number: u64,
) -> Member {
    let (strategy, why) = strategy(service, image);
    Member {
        candidate: ReleaseKey::new(key.clone(), number),
        color: live.as_ref().map_or(Color::Blue, |live| live.color.other()),
        service: key,
        strategy,
        why,
        image: service.container.image.clone(),
        image_id: image.filter(|image| !image.may_change).map(|image| image.id.clone()),
        repo_digests: image.map(|image| image.repo_digests.clone()).unwrap_or_default(),
        replicas: service.replicas,
        settings_hash,
        live,
        listeners: listeners(service),
        deadline_ms: service.teal.health.deadline_ms,
        drain_ms: service.teal.drain_ms,
        bake_ms: service.teal.bake_ms,
        readiness: readiness(service, image),
    }
}

/// Data is never shared by accident: two releases that write the same volume side by side must be asked for.
fn strategy(service: &Service, image: Option<&ImageFacts>) -> (Strategy, String) {
    if let Some(strategy) = service.teal.strategy {
        return (strategy, "written in x-teal.strategy".to_owned());
    }
    if let Some(why) = service.only_once() {
        return (Strategy::Recreate, why);
    }
    if let Some(mount) =
        service.container.mounts.iter().find(|mount| !mount.read_only && mount.kind != MountKind::Tmpfs)
    {
        return (Strategy::Recreate, format!("it writes to a volume at {}", mount.target));
    }
    if let Some(path) = image.and_then(|image| {
        image.volumes.iter().find(|path| !service.container.mounts.iter().any(|mount| &mount.target == *path))
    }) {
        return (Strategy::Recreate, format!("its image has a volume of its own at {path}"));
    }
    match (service.order, service.ports.is_empty()) {
        (Some(UpdateOrder::StartFirst), _) => {
            (Strategy::BlueGreen, "deploy.update_config.order is start-first".to_owned())
        }
        (Some(UpdateOrder::StopFirst), _) => {
            (Strategy::Recreate, "deploy.update_config.order is stop-first".to_owned())
        }
        (None, false) => (Strategy::BlueGreen, "it publishes ports and writes to no volume".to_owned()),
        (None, true) => {
            (Strategy::Recreate, "it publishes no port, and Compose's default order is stop-first".to_owned())
        }
    }
}

fn readiness(service: &Service, image: Option<&ImageFacts>) -> String {
    let probe = match &service.teal.health.probe {
        Probe::Http { path, port, .. } => {
            let port = port.or_else(|| service.ports.first().map(|port| port.target));
            format!("HTTP GET {path}{}", port.map(|port| format!(" on port {port}")).unwrap_or_default())
        }
        Probe::Tcp { port } => {
            let port = port.or_else(|| service.ports.first().map(|port| port.target));
            format!("TCP connect{}", port.map(|port| format!(" to port {port}")).unwrap_or_default())
        }
        Probe::Default if !service.ports.is_empty() => "an HTTP answer on every published port".to_owned(),
        Probe::Default | Probe::None => "the container runs".to_owned(),
    };
    let own = match &service.container.healthcheck {
        Some(check) => check.test.as_ref().is_none_or(|test| test.first().is_none_or(|word| word != "NONE")),
        None => image.is_some_and(|image| image.has_healthcheck),
    };
    if own { format!("{probe}, and its HEALTHCHECK") } else { probe }
}

/// Every address that the proxy listens on for the service's published ports.
pub fn listeners(service: &Service) -> Vec<ListenerKey> {
    let mut keys = BTreeSet::new();
    // Ports of a direct service are its containers' own; a listener takes TCP.
    let proxied = |port: &&Port| port.protocol == Protocol::Tcp && service.teal.mode != Mode::Direct;
    for port in service.ports.iter().filter(proxied) {
        let ips = match port.host_ip {
            Some(ip) => vec![ip],
            None => vec![IpAddr::V4(Ipv4Addr::UNSPECIFIED), IpAddr::V6(Ipv6Addr::UNSPECIFIED)],
        };
        keys.extend(
            ips.into_iter().map(|ip| ListenerKey { addr: SocketAddr::new(ip, port.published), namespace: None }),
        );
    }
    keys.into_iter().collect()
}

/// Services in the order in which they warm: each after those it depends on; names break ties.
pub fn warming_order(project: &Project) -> Vec<String> {
    fn visit(project: &Project, name: &str, seen: &mut BTreeSet<String>, order: &mut Vec<String>) {
        let Some(service) = project.services.get(name) else { return };
        if !seen.insert(name.to_owned()) {
            return;
        }
        for dependency in service.depends_on.keys() {
            visit(project, dependency, seen, order);
        }
        order.push(name.to_owned());
    }
    let (mut seen, mut order) = (BTreeSet::new(), Vec::new());
    for name in project.services.keys() {
        visit(project, name, &mut seen, &mut order);
    }
    order
}

fn warn(project: &Project, plan: &mut Plan) {
    for member in &plan.members {
        let name = &member.service.service;
        let service = &project.services[name];
        if member.strategy == Strategy::BlueGreen
            && let Some(caller) = project.services.values().find(|other| other.depends_on.contains_key(name))
        {
            plan.warnings.push(format!(
                "{} cannot reach {name} by its service name: while two releases of {name} live side by side the name belongs to neither. Call it through its published port, or set `x-teal: {{strategy: recreate}}`.",
                caller.name
            ));
        }
        if member.is_recreate() && member.serves() && service.teal.health.deadline_ms > service.teal.hold_ms {
            plan.warnings.push(format!(
                "{name} may take {} s to get ready, but its requests are held for {} s only; then they get 503.",
                service.teal.health.deadline_ms / 1000,
                service.teal.hold_ms / 1000
            ));
        }
    }
}
