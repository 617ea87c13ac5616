//! What a deployment will do, decided before anything happens: every choice is made here, with its reason.

mod batches;
mod reach;
mod safety;
mod together;
mod warnings;

use crate::config::{
    ExposedPort, Mode, MountKind, NetworkMode, Nginx, Probe, Project, Protocol as Transport, Service, Strategy,
    UpdateOrder,
};
use crate::door::{self, Door};
use crate::fault::did_you_mean;
use crate::ids::{Color, ReleaseKey, ServiceKey};
use crate::wire::{Address, ListenerKey, Protocol};
use batches::divide;
pub use batches::{Batches, Span};
pub use reach::Reach;
use reach::reach;
pub use safety::{ALL, Back, Safety};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
pub use together::{Follows, follows};
use together::{goes_along, is_optional, joins, keep_together};
use warnings::warn;

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Plan {
    pub project: String,
    /// Those that take their turn first, then blue-green ones, each in `depends_on` order.
    pub members: Vec<Member>,
    pub unchanged: Vec<Unchanged>,
    /// Services that the file does not have any more, and that are removed at the end.
    #[serde(default)]
    pub orphans: Vec<Unchanged>,
    pub warnings: Vec<String>,
    /// Services whose image is pulled first, so its id (and whether anything changes at all) is known only then.
    pub unresolved: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub take: Option<Take>,
    /// The deployment that has to have flipped before this one begins; where that is taken back, so is this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<u64>,
}

/// A service that gets a new release.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Member {
    pub service: ServiceKey,
    pub strategy: Strategy,
    /// Why this strategy.
    pub why: String,
    /// Nothing of its own has changed: why it gets a new release all the same.
    #[serde(default)]
    pub because: Option<String>,
    /// It runs once, and is ready when every replica has exited 0.
    #[serde(default)]
    pub job: bool,
    /// A job whose failure everyone who waits for it can do with (`required: false`).
    #[serde(default)]
    pub optional: bool,
    /// Services in whose network, ipc or pid namespace its containers live: it starts after them, also in a revert.
    #[serde(default)]
    pub joins: Vec<String>,
    /// The one of `joins` that flips in this group: its containers start behind those of that candidate.
    #[serde(default)]
    pub flips_with: Option<String>,
    /// What its one container is called once it is live.
    #[serde(default)]
    pub container_name: Option<String>,
    pub candidate: ReleaseKey,
    pub color: Color,
    /// As written.
    pub image: String,
    /// As [`Choice::pinned`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pinned: Option<String>,
    /// None until it was pulled.
    pub image_id: Option<String>,
    pub repo_digests: Vec<String>,
    pub replicas: u32,
    /// None: all replicas change at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub batches: Option<Batches>,
    pub settings_hash: String,
    pub live: Option<LiveRelease>,
    pub listeners: Vec<ListenerKey>,
    #[serde(default)]
    pub naming: Naming,
    #[serde(default)]
    pub reach: Reach,
    /// What is spoken on its ports, as far as that is known.
    #[serde(default)]
    pub ports: Vec<PortPlan>,
    /// Its clients come through an nginx, which is told with each flip.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nginx: Option<Nginx>,
    pub deadline_ms: u64,
    pub drain_ms: u64,
    pub bake_ms: u64,
    pub readiness: String,
    #[serde(default)]
    pub safety: Safety,
}

/// Who owns a service's name on its networks.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "owner")]
pub enum Naming {
    /// A holder container, inside which the proxy listens: calls by name get what requests from outside get.
    #[default]
    Holder,
    /// The service's own containers, as in Compose: two releases never run side by side.
    Containers { why: String },
}

impl Naming {
    pub fn is_holder(&self) -> bool {
        *self == Naming::Holder
    }
}

/// One port of a service, for people.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortPlan {
    /// Port of the host; None: for other containers alone.
    pub published: Option<u16>,
    pub target: u16,
    pub udp: bool,
    /// None: its containers are asked.
    pub protocol: Option<Protocol>,
    /// How that is known.
    pub why: String,
}

impl Plan {
    /// Every service that the deployment changes.
    pub fn services(&self) -> impl Iterator<Item = &ServiceKey> {
        let orphans = self.orphans.iter().map(|orphan| &orphan.service);
        self.members.iter().map(|member| &member.service).chain(orphans)
    }

    pub fn is_empty(&self) -> bool {
        self.members.is_empty() && self.orphans.is_empty()
    }
}

impl Member {
    /// The proxy serves it, so its requests can be held and its in-flight count is known.
    pub fn serves(&self) -> bool {
        !self.listeners.is_empty() || self.naming.is_holder() || self.live.as_ref().is_some_and(|live| live.serves)
    }

    pub fn is_recreate(&self) -> bool {
        self.strategy == Strategy::Recreate
    }

    /// It gets its requests as soon as it is ready, before the members after it begin: it is recreated, or it is the first
    /// release, so that nothing else could answer those who depend on it.
    pub fn takes_its_turn(&self) -> bool {
        self.is_recreate() || self.live.is_none() && self.flips_with.is_none()
    }

    /// What its image is found by.
    pub fn reference(&self) -> &str {
        self.pinned.as_deref().unwrap_or(&self.image)
    }

    /// The candidate is a release that was live before, and runs.
    pub fn is_warm(&self) -> bool {
        self.safety.back.is_some_and(|back| back.retained)
    }

    /// The candidate is what is live, started again, since others go back.
    pub fn is_again(&self) -> bool {
        self.safety.back.zip(self.live.as_ref()).is_some_and(|(back, live)| back.to == live.release.number)
    }

    /// The release of its service that is out of traffic and warm, until the candidate takes its place.
    pub fn warm(&self) -> Option<&ReleaseKey> {
        if self.is_warm() { Some(&self.candidate) } else { self.safety.retained.as_ref() }
    }

    /// What it replaces stays, out of traffic.
    pub fn retains(&self) -> bool {
        self.safety.retain.is_some() && self.live.is_some()
    }

    /// Its migration runs in its turn, since members that serve nobody yet come before it, and it may need them.
    pub(crate) fn migrates_late(&self, before: &[Member]) -> bool {
        before.iter().any(|member| member.live.is_none() && member.takes_its_turn())
    }

    /// The live release that goes on, or is started again, when the candidate does not come to be. A job that has run is
    /// not run again.
    pub fn fallback(&self) -> Option<&LiveRelease> {
        self.live.as_ref().filter(|live| !live.job)
    }

    /// What is live was adopted.
    pub fn adopted(&self) -> Option<&AdoptedLive> {
        self.live.as_ref()?.adopted.as_ref()
    }

    /// Its listeners that Docker has until the adopted containers are stopped.
    pub fn taken_over(&self) -> impl Iterator<Item = &ListenerKey> {
        let published = self.adopted().map(|adopted| adopted.published.as_slice()).unwrap_or_default();
        self.listeners.iter().filter(|listener| published.iter().any(|taken| overlap(taken, listener)))
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Unchanged {
    pub service: ServiceKey,
    pub release: u64,
    /// Its containers were started by somebody else, and go on so.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub adopted: bool,
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
    /// It ran once and has ended.
    #[serde(default)]
    pub job: bool,
    #[serde(default)]
    pub doors: Vec<Door>,
    /// Its containers were started by somebody else.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub adopted: Option<AdoptedLive>,
}

/// What is different about a live release whose containers Teal has not made: until it is retired, Docker has its ports.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct AdoptedLive {
    /// Addresses that Docker publishes for its containers.
    pub published: Vec<ListenerKey>,
    /// Why new connections to them cannot be led to the proxy while its containers run; None: they can.
    pub gap: Option<String>,
}

/// What is known of an image that is here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageFacts {
    pub id: String,
    pub repo_digests: Vec<String>,
    pub volumes: Vec<String>,
    #[serde(default)]
    pub exposed: Vec<ExposedPort>,
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
    /// Why this host cannot reach the containers of its Engine at their addresses; None: it can.
    pub unreachable: Option<String>,
    /// Why nobody here may listen inside the networks of its containers; None: the agent does.
    pub closed: Option<String>,
    /// Releases out of traffic that are kept warm.
    pub retained: BTreeMap<String, Warm>,
    /// Services of which it is known how often they fail.
    pub history: BTreeSet<String>,
    /// Why a service's live release is not whole: what was asked for does not run.
    pub not_whole: BTreeMap<String, String>,
    /// Why a service's release cannot be kept warm beside the next one.
    pub short_of_memory: BTreeMap<String, String>,
}

/// A release out of traffic whose containers go on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Warm {
    pub release: ReleaseKey,
    pub color: Color,
    pub image: String,
    pub image_id: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct Choice {
    /// Empty: all services of the project.
    pub services: Vec<String>,
    /// Deploy what is live already, too.
    pub force: bool,
    /// Remove what runs and is not in the file any more.
    #[serde(default)]
    pub remove_orphans: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub take: Option<Take>,
    /// As [`Plan::after`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<u64>,
    /// Services that go back to an earlier release; the project has its settings. Those that only follow others go "back" to
    /// what is live.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub back: BTreeMap<String, Back>,
    /// The image of these services by its id or digest: its name may be another one's by now.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub pinned: BTreeMap<String, String>,
}

impl Choice {
    /// What the image of a service is found by.
    pub fn reference<'a>(&'a self, service: &'a Service) -> &'a str {
        self.pinned.get(&service.name).unwrap_or(&service.container.image)
    }
}

/// Ports of the host that another process has, and that are to be served on its own sockets; or given back to it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Take {
    pub ports: Vec<u16>,
    /// The process's name: `nginx`.
    pub from: String,
    /// It has them alone again.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub undo: bool,
}

#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum PlanError {
    #[error("the project {project} has no service `{name}`{near}")]
    NoSuchService { project: String, name: String, near: String },
}

/// `hash` gives the salted hash of a service's settings; `images` holds what is known by [`Choice::reference`].
pub fn plan(
    project: &Project,
    choice: &Choice,
    running: &Running,
    images: &BTreeMap<String, ImageFacts>,
    hash: &dyn Fn(&Service) -> String,
) -> Result<Plan, PlanError> {
    for name in &choice.services {
        if !project.services.contains_key(name) {
            let near = did_you_mean(name, project.services.keys().map(String::as_str));
            return Err(PlanError::NoSuchService { project: project.name.clone(), name: name.clone(), near });
        }
    }
    let mut plan = Plan {
        project: project.name.clone(),
        members: Vec::new(),
        unchanged: Vec::new(),
        orphans: Vec::new(),
        warnings: Vec::new(),
        unresolved: Vec::new(),
        take: choice.take.clone(),
        after: choice.after,
    };
    for name in warming_order(project) {
        let service = &project.services[&name];
        let live = running.live.get(&name).cloned();
        let mut because = live.as_ref().and_then(|_| goes_along(service, &plan.members));
        if !choice.services.is_empty() && !choice.services.contains(&name) && because.is_none() {
            continue;
        }
        let image = images.get(choice.reference(service));
        let settings_hash = hash(service);
        let key = ServiceKey::new(&project.name, &name);
        if let (Some(live), Some(image)) = (&live, image)
            && !choice.force
            && !choice.back.contains_key(&name)
            && because.is_none()
            && !image.may_change
            && live.image_id == image.id
            && live.settings_hash == settings_hash
        {
            because = running.not_whole.get(&name).cloned();
            if because.is_none() {
                let adopted = live.adopted.is_some();
                plan.unchanged.push(Unchanged { service: key, release: live.release.number, adopted });
                continue;
            }
        }
        if image.is_none_or(|image| image.may_change) {
            plan.unresolved.push(name.clone());
        }
        let flips_with = joins(service).into_iter().find(|joined| {
            plan.members.iter().any(|member| member.service.service == *joined && !member.takes_its_turn())
        });
        let mut member = member(service, key, live, image, settings_hash, running, flips_with);
        if let Some(back) = choice.back.get(&name) {
            safety::go_back(&mut member, *back, running);
        }
        (member.because, member.optional) = (because, service.is_job && is_optional(project, &name));
        member.pinned = choice.pinned.get(&name).cloned();
        plan.members.push(member);
    }
    keep_together(&mut plan.members);
    divide(project, images, &mut plan);
    safety::settle(project, running, &mut plan.members, &mut plan.warnings);
    warn(project, &mut plan);
    plan.members.sort_by_key(|member| !member.takes_its_turn());
    Ok(plan)
}

fn member(
    service: &Service,
    key: ServiceKey,
    live: Option<LiveRelease>,
    image: Option<&ImageFacts>,
    settings_hash: String,
    running: &Running,
    flips_with: Option<String>,
) -> Member {
    let naming = naming(service, image, running);
    let safety = Safety::of(service, &key.service, live.is_some(), running);
    let number = running.next.get(&key.service).copied().unwrap_or(1);
    let (strategy, why) = strategy(service, image, live.as_ref(), &naming, flips_with.as_deref());
    let ports = ports(service, image, live.as_ref(), &naming);
    Member {
        candidate: ReleaseKey::new(key.clone(), number),
        color: live.as_ref().map_or(Color::Blue, |live| live.color.other()),
        service: key,
        strategy,
        why,
        because: None,
        job: service.is_job,
        optional: false,
        joins: joins(service),
        flips_with: flips_with.filter(|_| strategy == Strategy::BlueGreen),
        container_name: service.container_name.clone().filter(|_| service.replicas == 1),
        image: service.container.image.clone(),
        pinned: None,
        image_id: image.filter(|image| !image.may_change).map(|image| image.id.clone()),
        repo_digests: image.map(|image| image.repo_digests.clone()).unwrap_or_default(),
        replicas: service.replicas,
        batches: None,
        settings_hash,
        live,
        listeners: listeners(service),
        naming,
        reach: reach(service, running),
        ports,
        nginx: service.teal.nginx.clone(),
        deadline_ms: service.teal.health.deadline_ms,
        drain_ms: service.teal.drain_ms,
        bake_ms: service.teal.bake_ms,
        readiness: readiness(service, image),
        safety,
    }
}

/// Data is never shared by accident: two releases that write the same volume side by side must be asked for.
fn strategy(
    service: &Service,
    image: Option<&ImageFacts>,
    live: Option<&LiveRelease>,
    naming: &Naming,
    flips_with: Option<&str>,
) -> (Strategy, String) {
    // Beside a candidate that it joins it has nothing in common with its own live release.
    let joined = flips_with.filter(|name| service.network_mode == Some(NetworkMode::Service((*name).to_owned())));
    if let (Naming::Containers { why }, None) = (naming, joined) {
        return (Strategy::Recreate, why.clone());
    }
    if let Some(strategy) = service.teal.strategy {
        let written =
            if service.teal.canary.is_empty() { "written in x-teal.strategy" } else { "in the steps of its canary" };
        return (strategy, written.to_owned());
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
    match service.order {
        Some(UpdateOrder::StartFirst) => {
            return (Strategy::BlueGreen, "deploy.update_config.order is start-first".to_owned());
        }
        Some(UpdateOrder::StopFirst) => {
            return (Strategy::Recreate, "deploy.update_config.order is stop-first".to_owned());
        }
        None => {}
    }
    if let Some(joined) = joined {
        return (Strategy::BlueGreen, format!("it lives in the network of {joined}, and flips with it"));
    }
    if service.teal.nginx.is_some() {
        return (Strategy::BlueGreen, "nginx calls it, and it writes to no volume".to_owned());
    }
    if !service.ports.is_empty() {
        return (Strategy::BlueGreen, "it publishes ports and writes to no volume".to_owned());
    }
    if let Some(listen) = service.teal.listen.first() {
        let path = &listen.socket.path;
        return (Strategy::BlueGreen, format!("clients come by {path}, and it writes to no volume"));
    }
    match called_port(service, image, live) {
        Some(port) => (Strategy::BlueGreen, format!("others call it on port {port}, and it writes to no volume")),
        None => (
            Strategy::Recreate,
            "it publishes and exposes no port, and Compose's default order is stop-first".to_owned(),
        ),
    }
}

/// A port for other containers, by which a service is told from a worker: named in the file, or by the image if the live
/// release listens there. Workers are often made from the image of the web service, so the image alone says nothing.
fn called_port(service: &Service, image: Option<&ImageFacts>, live: Option<&LiveRelease>) -> Option<u16> {
    let tcp = |port: &&ExposedPort| port.protocol == Transport::Tcp;
    let exposed = || image.into_iter().flat_map(|image| &image.exposed).filter(tcp).map(|port| port.port);
    let written = service.expose.iter().find(tcp).map(|port| port.port);
    written.or_else(|| exposed().find(|port| live.is_some_and(|live| door::spoken(&live.doors, *port).is_some())))
}

/// The proxy carries TCP alone, and only where containers have a network of their own.
fn naming(service: &Service, image: Option<&ImageFacts>, running: &Running) -> Naming {
    let containers = |why: String| Naming::Containers { why };
    if service.is_job {
        return containers("it is a job: it runs once, and nobody calls it".to_owned());
    }
    if service.network_mode.is_some() {
        return containers("network_mode gives it no network of its own".to_owned());
    }
    if service.teal.mode == Mode::Direct {
        return containers("x-teal.mode is direct: its containers own its name and its ports".to_owned());
    }
    if let Some(why) = &running.closed {
        return containers(format!("its containers own its name, since nobody can listen there for them: {why}"));
    }
    if let Some(port) = service.ports.iter().find(|port| port.protocol == Transport::Udp) {
        return containers(format!("it publishes {}/udp, which Docker itself does", port.published));
    }
    if let Some(port) = service.expose.iter().find(|port| port.protocol == Transport::Udp) {
        return containers(format!("it exposes {}/udp, which the proxy does not carry", port.port));
    }
    // HTTP/3 beside HTTPS is an offer that no caller has to take.
    let udp = |port: &&ExposedPort| port.protocol == Transport::Udp && port.port != 443;
    match image.and_then(|image| image.exposed.iter().find(udp)) {
        Some(port) => containers(format!("its image exposes {}/udp, which the proxy does not carry", port.port)),
        None => Naming::Holder,
    }
}

/// Published ports, then those that the file or the image names for other containers.
fn ports(service: &Service, image: Option<&ImageFacts>, live: Option<&LiveRelease>, naming: &Naming) -> Vec<PortPlan> {
    let protocol = |port: u16| match door::written(service, port) {
        Some(protocol) => (Some(protocol), "as the file says".to_owned()),
        None => match live.and_then(|live| Some((door::spoken(&live.doors, port)?, live.release.number))) {
            Some((protocol, number)) => (Some(protocol), format!("as release {number} does")),
            None => (None, "its containers are asked".to_owned()),
        },
    };
    let mut all = Vec::new();
    for port in &service.ports {
        let udp = port.protocol == Transport::Udp;
        let (protocol, why) = match udp || service.is_job || service.teal.mode == Mode::Direct {
            true => (None, "published by Docker itself".to_owned()),
            false => protocol(port.target),
        };
        // Behind nginx nobody opens it.
        let published = Some(port.published).filter(|_| udp || service.teal.nginx.is_none());
        all.push(PortPlan { published, target: port.target, udp, protocol, why });
    }
    if !naming.is_holder() {
        return all;
    }
    let exposed = service.expose.iter().chain(image.iter().flat_map(|image| &image.exposed));
    let mut inside: BTreeSet<u16> =
        exposed.filter(|port| port.protocol == Transport::Tcp).map(|port| port.port).collect();
    inside.extend(live.iter().flat_map(|live| &live.doors).map(|door| door.port));
    for target in inside {
        if !service.ports.iter().any(|port| port.target == target) {
            let (protocol, why) = protocol(target);
            all.push(PortPlan { published: None, target, udp: false, protocol, why });
        }
    }
    all
}

fn readiness(service: &Service, image: Option<&ImageFacts>) -> String {
    if service.is_job {
        return "it has exited 0".to_owned();
    }
    let probe = match &service.teal.health.probe {
        Probe::Http { path, port, .. } => {
            let port = port.or_else(|| door::first_port(service));
            format!("HTTP GET {path}{}", port.map(|port| format!(" on port {port}")).unwrap_or_default())
        }
        Probe::Tcp { port } => {
            let port = port.or_else(|| door::first_port(service));
            format!("TCP connect{}", port.map(|port| format!(" to port {port}")).unwrap_or_default())
        }
        Probe::Default if service.teal.nginx.is_some() => "an answer in HTTP on the port that nginx calls".to_owned(),
        Probe::Default if !service.ports.is_empty() => {
            "an answer on every published port: HTTP where it is spoken, a connection elsewhere".to_owned()
        }
        Probe::Default | Probe::None => "the container runs".to_owned(),
    };
    let own = match &service.container.healthcheck {
        Some(check) => check.test.as_ref().is_none_or(|test| test.first().is_none_or(|word| word != "NONE")),
        None => image.is_some_and(|image| image.has_healthcheck),
    };
    if own { format!("{probe}, and its HEALTHCHECK") } else { probe }
}

/// Every address that the proxy listens on for the service's clients on the host: published ports and sockets.
pub fn listeners(service: &Service) -> Vec<ListenerKey> {
    let mut keys = BTreeSet::new();
    let direct = service.teal.mode == Mode::Direct || service.network_mode.is_some() || service.is_job;
    let direct = direct || service.teal.nginx.is_some();
    for port in service.ports.iter().filter(|port| port.protocol == Transport::Tcp && !direct) {
        let ips = match port.host_ip {
            Some(ip) => vec![ip],
            None => vec![IpAddr::V4(Ipv4Addr::UNSPECIFIED), IpAddr::V6(Ipv6Addr::UNSPECIFIED)],
        };
        keys.extend(ips.into_iter().map(|ip| ListenerKey::host(SocketAddr::new(ip, port.published))));
    }
    let sockets = service.teal.listen.iter().filter(|_| !direct);
    keys.extend(sockets.map(|listen| ListenerKey::host(Address::Unix(listen.socket.clone()))));
    keys.into_iter().collect()
}

/// Only one of them can be open: the same port, on the same address or on all of its kind; the same path.
pub fn overlap(one: &ListenerKey, other: &ListenerKey) -> bool {
    let (a, b) = match (&one.addr, &other.addr) {
        (Address::Tcp(a), Address::Tcp(b)) => (a, b),
        (Address::Unix(a), Address::Unix(b)) => return a.path == b.path,
        _ => return false,
    };
    let any = a.ip() == b.ip() || a.ip().is_unspecified() || b.ip().is_unspecified();
    one.namespace == other.namespace && a.port() == b.port() && a.is_ipv4() == b.is_ipv4() && any
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
