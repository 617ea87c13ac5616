//! The one builder of route tables: journaled routings and observed replicas in, a numbered table out.

use crate::store::{ReleaseStore, StoredRelease};
use crate::traffic::{Publication, Traffic};
use crate::world::{Replica, Watch, World};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use teal_model::config::RouteRule;
use teal_model::deployment::{Health, Published, Routing};
use teal_model::fault::Fault;
use teal_model::ids::{ReleaseKey, ServiceKey, TableNumber};
use teal_model::plan::listeners;
use teal_model::wire::{Backend, Hold, ListenerKey, ReleaseEntry, Route, RouteTable, ServiceEntry, Share, Timeouts};
use tokio::sync::Mutex;

/// No acknowledgement within this time is Unknown: traffic stays where it is while the proxy is asked again or replaced.
pub const ACKNOWLEDGE_WITHIN: Duration = Duration::from_secs(10);

pub struct Publisher {
    traffic: Arc<dyn Traffic>,
    store: Arc<ReleaseStore>,
    watch: Watch,
    state: Mutex<Tables>,
}

struct Tables {
    number: TableNumber,
    routings: BTreeMap<ServiceKey, Routing>,
    /// The last table that was sent, with number zero: to see whether a new one says anything new.
    last: Option<RouteTable>,
    settings: HashMap<ReleaseKey, Arc<StoredRelease>>,
}

impl Publisher {
    pub fn new(
        traffic: Arc<dyn Traffic>,
        store: Arc<ReleaseStore>,
        watch: Watch,
        epoch: u64,
        routings: BTreeMap<ServiceKey, Routing>,
    ) -> Self {
        let tables = Tables { number: TableNumber { epoch, n: 0 }, routings, last: None, settings: HashMap::new() };
        Self { traffic, store, watch, state: Mutex::new(tables) }
    }

    /// Changes the routing of some services and waits until every worker routes by it.
    pub async fn flip(&self, changes: BTreeMap<ServiceKey, Option<Routing>>) -> Result<Published, Fault> {
        let mut tables = self.state.lock().await;
        for (service, routing) in changes {
            match routing {
                Some(routing) => drop(tables.routings.insert(service, routing)),
                None => drop(tables.routings.remove(&service)),
            }
        }
        let publication = self.build(&mut tables)?;
        let published = self.traffic.publish(publication, Some(ACKNOWLEDGE_WITHIN)).await?;
        published.ok_or_else(|| Fault::new(teal_model::fault::Code::Internal, "a table was published without waiting"))
    }

    /// Sends a table if what runs now makes one that differs from the last.
    pub async fn refresh(&self) -> Result<(), Fault> {
        let mut tables = self.state.lock().await;
        let before = tables.last.clone();
        let number = tables.number;
        let publication = self.build(&mut tables)?;
        if before == tables.last {
            tables.number = number;
            return Ok(());
        }
        self.traffic.publish(publication, None).await.map(drop)
    }

    /// Every listener that some routing needs.
    pub async fn listeners(&self) -> Result<BTreeSet<ListenerKey>, Fault> {
        let mut tables = self.state.lock().await;
        let releases: Vec<ReleaseKey> = tables.routings.values().map(|routing| routing.settings.clone()).collect();
        let mut keys = BTreeSet::new();
        for release in releases {
            keys.extend(listeners(&self.settings(&mut tables, &release)?.service));
        }
        Ok(keys)
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

    fn build(&self, tables: &mut Tables) -> Result<Publication, Fault> {
        let world = self.watch.now();
        let mut table = RouteTable::default();
        let mut processes = BTreeMap::new();
        let mut trusted = BTreeSet::new();
        for (service, routing) in tables.routings.clone() {
            let settings = self.settings(tables, &routing.settings)?;
            trusted.extend(settings.trusted_proxies.iter().cloned());
            table.routes.extend(routes(&service, &settings));
            let mut releases = Vec::new();
            for release in &routing.listed {
                let ports = self.settings(tables, release)?;
                let mut backends = Vec::new();
                for replica in serving(&world, release) {
                    let Some(backend) = backend(replica, &ports) else { continue };
                    if let Some(process) = &replica.process {
                        processes.insert(backend.id.clone(), process.clone());
                    }
                    backends.push(backend);
                }
                releases.push(ReleaseEntry {
                    release: release.clone(),
                    backends,
                    close_tunnels: routing.close_tunnels.contains(release),
                });
            }
            let teal = &settings.service.teal;
            table.services.insert(
                service,
                ServiceEntry {
                    split: routing
                        .split
                        .iter()
                        .map(|(release, weight)| Share { release: release.clone(), weight: *weight })
                        .collect(),
                    holding: routing.holding,
                    releases,
                    hold: Hold { for_ms: teal.hold_ms, max_waiting: teal.hold_max_waiting },
                    timeouts: Timeouts { connect_ms: teal.connect_timeout_ms, response_ms: teal.response_timeout_ms },
                },
            );
        }
        table.trusted_proxies = trusted.into_iter().collect();
        tables.last = Some(table.clone());
        tables.number.n += 1;
        table.number = tables.number;
        Ok(Publication { table: Arc::new(table), processes: processes.into_iter().collect() })
    }
}

/// The ready replicas; where none is, those that were (an unhealthy backend is better than none).
fn serving<'a>(world: &'a World, release: &'a ReleaseKey) -> Vec<&'a Replica> {
    let ready: Vec<&Replica> = world.of(release).filter(|replica| replica.health() == Health::Ready).collect();
    if ready.is_empty() { world.of(release).filter(|replica| replica.may_serve()).collect() } else { ready }
}

/// Published ports name the addresses, so that two releases may listen on different container ports.
fn backend(replica: &Replica, settings: &StoredRelease) -> Option<Backend> {
    let ip = replica.address()?;
    let addrs = settings.service.ports.iter().map(|port| (port.published, SocketAddr::new(ip, port.target))).collect();
    Some(Backend { id: replica.backend(), addrs })
}

fn routes(service: &ServiceKey, settings: &StoredRelease) -> Vec<Route> {
    let everything = [RouteRule { host: None, path: "/".to_owned(), port: None }];
    let rules = if settings.service.teal.routes.is_empty() { &everything[..] } else { &settings.service.teal.routes };
    let mut routes = Vec::new();
    for listener in listeners(&settings.service) {
        let port = listener.addr.port();
        for rule in rules.iter().filter(|rule| rule.port.is_none_or(|only| only == port)) {
            routes.push(Route {
                listener: listener.clone(),
                host: rule.host.clone(),
                path: rule.path.clone(),
                service: service.clone(),
                port,
            });
        }
    }
    routes
}
