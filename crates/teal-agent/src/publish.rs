//! The one builder of route tables: journaled routings and observed replicas in, a numbered table out.

mod behind;

pub use behind::{given_port, taken};

use crate::clock::monotonic_us;
use crate::journal::{Diversion, Journal};
use crate::keys::Keys;
use crate::nginx::{Need, Nginx};
use crate::reach::Ways;
use crate::store::{ReleaseStore, StoredRelease};
use crate::traffic::{Publication, Traffic};
use crate::world::{Holder, Replica, Watch, World};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;
use teal_model::config as settings;
use teal_model::config::{Port, Protocol as Transport, RouteRule, Service};
use teal_model::deployment::{Health, Published, Routing};
use teal_model::door::{self, Door};
use teal_model::fault::{Code, Fault};
use teal_model::ids::{ReleaseKey, ServiceKey, TableNumber};
use teal_model::plan::listeners;
use teal_model::wire::{
    Address, Backend, BackendId, Hold, ListenerKey, Preview, Protocol, ReleaseEntry, Route, RoutePort, RouteTable,
    ServiceEntry, Share, SkewGuard, Sticky, StickyBy, Timeouts,
};
use tokio::sync::Mutex;

/// No acknowledgement within this time: the proxy is being replaced, or hangs. The effect has failed then, and the deployment
/// goes back.
pub const ACKNOWLEDGE_WITHIN: Duration = Duration::from_secs(10);

pub struct Publisher {
    traffic: Arc<dyn Traffic>,
    nginx: Arc<Nginx>,
    journal: Arc<Journal>,
    store: Arc<ReleaseStore>,
    watch: Watch,
    keys: Keys,
    state: Mutex<Tables>,
    /// Held while an nginx is told; before the tables' own lock.
    telling: Mutex<()>,
}

struct Tables {
    number: TableNumber,
    routings: BTreeMap<ServiceKey, Routing>,
    /// The last table that was sent, with number zero, and the backends whose process was sent with it: to see whether a
    /// new one says anything new.
    last: (RouteTable, BTreeSet<BackendId>),
    settings: HashMap<ReleaseKey, Arc<StoredRelease>>,
    /// Listeners that have, or had, another one beside them: what came that way is routed as if it had come to the first.
    diversions: Vec<Diversion>,
    /// What each release was last seen to speak: it may have no replica that runs for a moment.
    doors: HashMap<ReleaseKey, Vec<Door>>,
    told: behind::Told,
}

/// What a publisher speaks to, and reads.
pub struct Surroundings {
    pub traffic: Arc<dyn Traffic>,
    pub nginx: Arc<Nginx>,
    pub journal: Arc<Journal>,
    pub store: Arc<ReleaseStore>,
    pub watch: Watch,
    pub keys: Keys,
}

/// A table without its number.
struct Built {
    table: RouteTable,
    processes: BTreeMap<BackendId, Arc<OwnedFd>>,
    /// Services that could not be built anew: they stay as they were in the last table.
    faults: Vec<(ServiceKey, Fault)>,
}

impl Built {
    fn gist(&self) -> (RouteTable, BTreeSet<BackendId>) {
        (self.table.clone(), self.processes.keys().cloned().collect())
    }
}

impl Publisher {
    pub fn new(
        Surroundings { traffic, nginx, journal, store, watch, keys }: Surroundings,
        epoch: u64,
        routings: BTreeMap<ServiceKey, Routing>,
        serving: Option<&RouteTable>,
    ) -> Self {
        let number = TableNumber { epoch, n: 0 };
        let doors = serving.map(doors_of).unwrap_or_default();
        // A service whose settings cannot be read stays as it was found to be served.
        let last = (serving.cloned().unwrap_or_default(), BTreeSet::new());
        let tables = Tables {
            number,
            routings,
            last,
            settings: HashMap::new(),
            diversions: Vec::new(),
            doors,
            told: behind::Told::default(),
        };
        Self { traffic, nginx, journal, store, watch, keys, state: Mutex::new(tables), telling: Mutex::new(()) }
    }

    /// Changes the routing of some services and waits until every worker routes by it. On an error the routings are as
    /// before, except that a table which was sent may be in force, and that an nginx may have been told.
    pub async fn flip(
        &self,
        changes: BTreeMap<ServiceKey, Option<Routing>>,
        need: Need,
    ) -> Result<(Published, Vec<Fault>), Fault> {
        let _telling = self.telling.lock().await;
        let mut tables = self.state.lock().await;
        let mut routings = tables.routings.clone();
        let changed: Vec<ServiceKey> = changes.keys().cloned().collect();
        merge(&mut routings, changes);
        let mut built = self.build(&mut tables, &routings)?;
        if let Some(at) = built.faults.iter().position(|(service, _)| changed.contains(service)) {
            return Err(built.faults.swap_remove(at).1);
        }
        let began = monotonic_us();
        // It takes longer, and it may refuse.
        let said = self.tell_nginx(&mut tables, &routings, need, &changed).await?;
        let told_after_us = monotonic_us() - began;
        tables.routings = routings;
        let publication = tables.number_it(built);
        let published = self.traffic.publish(publication, Some(ACKNOWLEDGE_WITHIN)).await?;
        let mut published =
            published.ok_or_else(|| Fault::new(Code::Internal, "a table was published without waiting"))?;
        if told_after_us > 1_000 {
            published.sent_us = began;
        }
        Ok((published, said))
    }

    /// Takes routings over without a table of their own: the next one has them.
    pub async fn adopt(&self, routings: BTreeMap<ServiceKey, Option<Routing>>) {
        merge(&mut self.state.lock().await.routings, routings);
    }

    /// From the next table on.
    pub async fn divert(&self, diversions: Vec<Diversion>) {
        self.state.lock().await.diversions = diversions;
    }

    /// Sends a table if what runs now makes one that differs from the last. Returns what could not be built anew.
    pub async fn refresh(&self) -> Result<Vec<Fault>, Fault> {
        let mut tables = self.state.lock().await;
        let routings = tables.routings.clone();
        let mut built = self.build(&mut tables, &routings)?;
        let faults: Vec<Fault> = std::mem::take(&mut built.faults).into_iter().map(|(_, fault)| fault).collect();
        if built.gist() != tables.last || tables.number.n == 0 {
            let publication = tables.number_it(built);
            self.traffic.publish(publication, None).await?;
        }
        Ok(faults)
    }

    /// Every listener that some routing needs.
    pub async fn listeners(&self) -> BTreeSet<ListenerKey> {
        let mut listeners: BTreeSet<ListenerKey> =
            self.routes().await.into_iter().map(|route| route.listener).collect();
        let open = |one: &&Diversion| one.open && listeners.contains(&one.listener);
        let tables = self.state.lock().await;
        let stand_ins: Vec<ListenerKey> =
            tables.diversions.iter().filter(open).map(|one| one.stand_in.clone()).collect();
        listeners.extend(stand_ins);
        listeners
    }

    /// Listeners where every request waits: no release of their services has a share.
    pub async fn waiting(&self) -> BTreeSet<ListenerKey> {
        let routes = self.routes().await;
        let routings = self.routings().await;
        let serves = |route: &Route| {
            routings.get(&route.service).is_some_and(|routing| !routing.split.is_empty() && !routing.holding)
        };
        let served: BTreeSet<&ListenerKey> =
            routes.iter().filter(|route| serves(route)).map(|route| &route.listener).collect();
        routes.iter().map(|route| &route.listener).filter(|listener| !served.contains(listener)).cloned().collect()
    }

    /// Every listener of a published port, also of those that have no route yet.
    pub async fn published(&self) -> BTreeSet<ListenerKey> {
        let mut tables = self.state.lock().await;
        let releases: Vec<ReleaseKey> = tables.routings.values().map(|routing| routing.settings.clone()).collect();
        let settings = releases.iter().filter_map(|release| self.settings(&mut tables, release).ok());
        settings.flat_map(|settings| listeners(&settings.service)).collect()
    }

    /// Every route that some routing makes; of a service whose settings cannot be read, those of the last table.
    pub async fn routes(&self) -> Vec<Route> {
        let mut tables = self.state.lock().await;
        let world = self.watch.now();
        tables.take_doors(&world);
        let mut all = Vec::new();
        for (service, routing) in tables.routings.clone() {
            match self.settings(&mut tables, &routing.settings) {
                Ok(settings) => {
                    let doors = tables.doors_of(&routing.settings);
                    all.extend(routes(&service, &settings.service, doors));
                    all.extend(
                        world.holders.get(&service).into_iter().flat_map(|holder| inside(&service, holder, doors)),
                    );
                }
                Err(_) => all.extend(tables.last.0.routes.iter().filter(|route| route.service == service).cloned()),
            }
        }
        all
    }

    /// What each release was last seen to speak.
    pub async fn all_doors(&self) -> HashMap<ReleaseKey, Vec<Door>> {
        let mut tables = self.state.lock().await;
        tables.take_doors(&self.watch.now());
        tables.doors.clone()
    }

    pub async fn routings(&self) -> BTreeMap<ServiceKey, Routing> {
        self.state.lock().await.routings.clone()
    }

    fn settings(&self, tables: &mut Tables, release: &ReleaseKey) -> Result<Arc<StoredRelease>, Fault> {
        if let Some(settings) = tables.settings.get(release) {
            return Ok(settings.clone());
        }
        let settings = Arc::new(self.store.release(release)?);
        tables.settings.insert(release.clone(), settings.clone());
        Ok(settings)
    }

    fn build(&self, tables: &mut Tables, routings: &BTreeMap<ServiceKey, Routing>) -> Result<Built, Fault> {
        let world = self.watch.now();
        if !world.known {
            // A table made now would have no backend at all: the proxy goes on with the one that it has.
            let why = world.engine_error.clone().unwrap_or_else(|| "the Docker daemon was not asked yet".to_owned());
            return Err(Fault::new(Code::DockerDown, why));
        }
        tables.take_doors(&world);
        let mut built = Built { table: RouteTable::default(), processes: BTreeMap::new(), faults: Vec::new() };
        let mut trusted = BTreeSet::new();
        for (service, routing) in routings {
            match self.entry(tables, &world, routing) {
                Ok(entry) => {
                    trusted.extend(entry.settings.trusted_proxies.iter().cloned());
                    let doors = tables.doors_of(&routing.settings);
                    built.table.routes.extend(routes(service, &entry.settings.service, doors));
                    let holder = world.holders.get(service);
                    built.table.routes.extend(holder.into_iter().flat_map(|holder| inside(service, holder, doors)));
                    built.processes.extend(entry.processes);
                    built.table.services.insert(service.clone(), entry.entry);
                }
                Err(fault) => {
                    let (last, _) = &tables.last;
                    built.table.routes.extend(last.routes.iter().filter(|route| &route.service == service).cloned());
                    trusted.extend(last.trusted_proxies.iter().cloned());
                    if let Some(entry) = last.services.get(service) {
                        built.table.services.insert(service.clone(), entry.clone());
                    }
                    built.faults.push((service.clone(), fault));
                }
            }
        }
        let beside = routes_beside(&built.table.routes, &tables.diversions);
        built.table.routes.extend(beside);
        built.table.trusted_proxies = trusted.into_iter().collect();
        Ok(built)
    }

    fn entry(&self, tables: &mut Tables, world: &World, routing: &Routing) -> Result<Entry, Fault> {
        let settings = self.settings(tables, &routing.settings)?;
        let mut processes = BTreeMap::new();
        let mut releases = Vec::new();
        for release in &routing.listed {
            let ports = self.settings(tables, release)?;
            let also = if routing.preview.as_ref() == Some(release) { &settings.service.ports[..] } else { &[] };
            let mut backends = Vec::new();
            for replica in serving(world, routing, release) {
                let Some(backend) = backend(replica, &ports, also, tables.doors_of(release)) else { continue };
                if let Some(process) = &replica.process {
                    processes.insert(backend.id.clone(), process.clone());
                }
                backends.push(backend);
            }
            let close_tunnels = routing.close_tunnels.contains(release);
            releases.push(ReleaseEntry { release: release.clone(), backends, close_tunnels });
        }
        let teal = &settings.service.teal;
        let share = |(release, weight): &(ReleaseKey, u32)| Share { release: release.clone(), weight: *weight };
        let entry = ServiceEntry {
            split: routing.split.iter().map(share).collect(),
            holding: routing.holding,
            releases,
            hold: Hold { for_ms: teal.hold_ms, max_waiting: teal.hold_max_waiting },
            timeouts: Timeouts { connect_ms: teal.connect_timeout_ms, response_ms: teal.response_timeout_ms },
            sticky: self.sticky(routing, teal.sticky.as_ref()),
            preview: self.preview(tables, routing)?,
            hides_preview: teal.preview.is_some(),
            skew_guard: skew_guard(routing, &teal.skew_guard),
        };
        Ok(Entry { entry, settings, processes })
    }
}

impl Publisher {
    /// Only where there is something to keep to.
    fn sticky(&self, routing: &Routing, sticky: Option<&settings::Sticky>) -> Option<Sticky> {
        let [(first, _), _, ..] = &routing.split[..] else { return None };
        let by = match sticky? {
            settings::Sticky::Cookie { name } => StickyBy::Cookie { name: name.clone(), key: self.keys.cookie() },
            settings::Sticky::Header { name } => StickyBy::Header { name: name.clone() },
            settings::Sticky::Address => StickyBy::Address,
        };
        Some(Sticky { by, salt: first.to_string() })
    }

    fn preview(&self, tables: &mut Tables, routing: &Routing) -> Result<Option<Preview>, Fault> {
        let Some(release) = &routing.preview else { return Ok(None) };
        let asked = self.settings(tables, release)?.service.teal.preview.clone().unwrap_or_default();
        let tokens = asked.token.into_iter().chain([self.keys.preview(release)]).collect();
        Ok(Some(Preview { release: release.clone(), networks: asked.networks, tokens }))
    }
}

/// Between those that are fit to answer: not one that is only looked at, nor one whose last requests are waited for.
fn skew_guard(routing: &Routing, prefixes: &[String]) -> Option<SkewGuard> {
    let has_share = |release: &ReleaseKey| routing.split.iter().any(|(one, share)| one == release && *share > 0);
    let fit = |release: &&ReleaseKey| {
        has_share(release) || routing.preview.as_ref() != Some(*release) && !routing.close_tunnels.contains(*release)
    };
    let releases: Vec<ReleaseKey> = routing.listed.iter().filter(fit).cloned().collect();
    (!prefixes.is_empty() && releases.len() > 1).then(|| SkewGuard { prefixes: prefixes.to_vec(), releases })
}

/// The routes of stand-ins. One whose address became somebody's own published port is none any more.
fn routes_beside(routes: &[Route], diversions: &[Diversion]) -> Vec<Route> {
    let mut beside = Vec::new();
    for one in diversions.iter().filter(|one| !routes.iter().any(|route| route.listener == one.stand_in)) {
        let diverted = routes.iter().filter(|route| route.listener == one.listener && route.service == one.service);
        beside.extend(diverted.map(|route| Route { listener: one.stand_in.clone(), ..route.clone() }));
    }
    beside
}

fn merge(routings: &mut BTreeMap<ServiceKey, Routing>, changes: BTreeMap<ServiceKey, Option<Routing>>) {
    for (service, routing) in changes {
        match routing {
            Some(routing) => drop(routings.insert(service, routing)),
            None => drop(routings.remove(&service)),
        }
    }
}

struct Entry {
    entry: ServiceEntry,
    settings: Arc<StoredRelease>,
    processes: BTreeMap<BackendId, Arc<OwnedFd>>,
}

impl Tables {
    fn take_doors(&mut self, world: &World) {
        let mut seen: HashMap<&ReleaseKey, BTreeMap<u16, Protocol>> = HashMap::new();
        for replica in world.replicas.values() {
            let doors = seen.entry(&replica.release).or_default();
            for door in &replica.doors {
                doors.entry(door.port).or_insert(door.protocol);
            }
        }
        for (release, doors) in seen.into_iter().filter(|(_, doors)| !doors.is_empty()) {
            let doors = doors.into_iter().map(|(port, protocol)| Door { port, protocol });
            self.doors.insert(release.clone(), doors.collect());
        }
        // A release that is not routed any more, and has no container, is forgotten.
        self.doors.retain(|release, _| {
            self.routings.values().any(|routing| routing.listed.contains(release) || &routing.settings == release)
                || world.replicas.values().any(|replica| &replica.release == release)
        });
    }

    /// Of a release that has not been heard yet, what the one before it speaks: while a service is recreated its ports stay
    /// open, and those who call wait.
    fn doors_of(&self, release: &ReleaseKey) -> &[Door] {
        let before = || {
            let others = self.doors.iter().filter(|(other, _)| other.service == release.service);
            others.max_by_key(|(other, _)| other.number).map(|(_, doors)| doors)
        };
        self.doors.get(release).or_else(before).map_or(&[], Vec::as_slice)
    }

    fn number_it(&mut self, built: Built) -> Publication {
        self.last = built.gist();
        self.number.n += 1;
        let table = RouteTable { number: self.number, ..built.table };
        Publication { table: Arc::new(table), processes: built.processes.into_iter().collect() }
    }
}

/// The ready replicas; where none is, those that were (an unhealthy backend is better than none).
fn serving<'a>(world: &'a World, routing: &Routing, release: &'a ReleaseKey) -> Vec<&'a Replica> {
    let fit: Vec<&Replica> = world.of(release).filter(|replica| routing.takes(release, replica.index)).collect();
    // A job is ready when it has ended.
    let is_ready = |replica: &Replica| !replica.is_job() && replica.health() == Health::Ready;
    match fit.iter().any(|replica| is_ready(replica)) {
        true => fit.into_iter().filter(|replica| is_ready(replica)).collect(),
        false => fit.into_iter().filter(|replica| replica.may_serve()).collect(),
    }
}

/// Published ports name the addresses, so that two releases may listen on different container ports; other containers call
/// the container's own. `also`: ports of the release whose routes hold, under which what is looked at beside it is to be found as well.
fn backend(replica: &Replica, settings: &StoredRelease, also: &[Port], doors: &[Door]) -> Option<Backend> {
    let ways = Ways::of(&replica.container, &settings.reach);
    if ways.is_empty() {
        return None;
    }
    let published = also.iter().chain(&settings.service.ports).filter(|port| port.protocol == Transport::Tcp);
    let published = published.filter_map(|port| Some((RoutePort::Published(port.published), ways.to(port.target)?)));
    let inside =
        doors.iter().map(|door| door.port).chain(settings.service.teal.listen.iter().map(|listen| listen.target));
    let inside = inside.filter_map(|port| Some((RoutePort::Inside(port), ways.to(port)?)));
    Some(Backend { id: replica.backend(), addrs: published.chain(inside).collect() })
}

/// The routes of a service with these settings, for clients of the host. A port of which nobody knows yet what it speaks has
/// none: its connections wait.
pub fn routes(service: &ServiceKey, settings: &Service, doors: &[Door]) -> Vec<Route> {
    let everything = [RouteRule { host: None, path: "/".to_owned(), port: None }];
    let rules = if settings.teal.routes.is_empty() { &everything[..] } else { &settings.teal.routes };
    let mut routes = Vec::new();
    for listener in listeners(settings) {
        let (port, number, target) = match &listener.addr {
            Address::Tcp(addr) => {
                let number = addr.port();
                let target = settings.ports.iter().find(|one| one.published == number).map(|one| one.target);
                (RoutePort::Published(number), Some(number), target)
            }
            Address::Unix(socket) => {
                let target = settings.teal.listen.iter().find(|one| &one.socket == socket).map(|one| one.target);
                (RoutePort::Inside(target.unwrap_or_default()), None, target)
            }
        };
        let Some(target) = target else { continue };
        let route = |host: Option<String>, path: String, protocol: Protocol| Route {
            listener: listener.clone(),
            host,
            path,
            service: service.clone(),
            port,
            protocol,
        };
        match door::written(settings, target).or_else(|| door::spoken(doors, target)) {
            None => {}
            Some(Protocol::Tcp) => routes.push(route(None, "/".to_owned(), Protocol::Tcp)),
            Some(Protocol::Http) => routes.extend(
                rules
                    .iter()
                    .filter(|rule| rule.port.is_none() || rule.port == number)
                    .map(|rule| route(rule.host.clone(), rule.path.clone(), Protocol::Http)),
            ),
        }
    }
    routes
}

/// Every route that a service may come to have for clients of the host, whatever its containers turn out to speak.
pub fn asked_routes(service: &ServiceKey, settings: &Service) -> Vec<Route> {
    let http = |port| Door { port, protocol: Protocol::Http };
    let targets = settings.ports.iter().map(|port| port.target);
    let targets = targets.chain(settings.teal.listen.iter().map(|listen| listen.target));
    let doors: Vec<Door> = targets.map(http).collect();
    routes(service, settings, &doors)
}

/// The routes of a service for other containers, which call it by its name: in the network namespace of its holder.
fn inside(service: &ServiceKey, holder: &Holder, doors: &[Door]) -> Vec<Route> {
    let namespace = format!("{service}@{}", holder.instance());
    let has_ipv6 = holder.container.networks.values().any(|joined| joined.ipv6.is_some());
    let ipv6 = has_ipv6.then_some(IpAddr::V6(Ipv6Addr::UNSPECIFIED));
    let addresses: Vec<IpAddr> = ipv6.into_iter().chain([IpAddr::V4(Ipv4Addr::UNSPECIFIED)]).collect();
    let route = |door: &Door, ip: &IpAddr| Route {
        listener: ListenerKey { addr: SocketAddr::new(*ip, door.port).into(), namespace: Some(namespace.clone()) },
        host: None,
        path: "/".to_owned(),
        service: service.clone(),
        port: RoutePort::Inside(door.port),
        protocol: door.protocol,
    };
    doors.iter().flat_map(|door| addresses.iter().map(|ip| route(door, ip))).collect()
}

/// The service and the run of its holder that a listener's namespace names.
pub fn holder_of(listener: &ListenerKey) -> Option<(ServiceKey, &str)> {
    let (service, instance) = listener.namespace.as_deref()?.split_once('@')?;
    Some((ServiceKey::try_from(service.to_owned()).ok()?, instance))
}

/// What the releases of a table speak, as it tells by its routes.
pub fn doors_of(table: &RouteTable) -> HashMap<ReleaseKey, Vec<Door>> {
    let mut all = HashMap::new();
    for (service, entry) in &table.services {
        for release in &entry.releases {
            let mut doors = BTreeMap::new();
            for backend in &release.backends {
                for (port, addr) in &backend.addrs {
                    // The address may be a port of the host: that of the container is the one that callers inside name.
                    let RoutePort::Inside(door) = port else { continue };
                    let leads_there =
                        |route: &&Route| &route.service == service && backend.addrs.get(&route.port) == Some(addr);
                    let route = table.routes.iter().find(leads_there);
                    doors.extend(route.map(|route| (*door, route.protocol)));
                }
            }
            let doors = doors.into_iter().map(|(port, protocol)| Door { port, protocol });
            all.insert(release.release.clone(), doors.collect());
        }
    }
    all
}
