//! A route table made ready for one worker: what a request's listener, host and path lead to.
//!
//! ```text
//! listener ─▶ host (exact, *.suffix, any) ─▶ longest path ─▶ Target ─▶ release by weight ─▶ backend by least in flight
//! ```
//!
//! Services, releases and backends outlive the table: the next one takes over those that it names as well.

use crate::backend::Backend;
use crate::counters::{ReleaseCounters, ServiceCounters, WorkerCounters};
use crate::network::Network;
use crate::split::Split;
use crate::target::Target;
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use teal_model::ids::{ReleaseKey, ServiceKey, TableNumber};
use teal_model::wire::{BackendId, ListenerKey, Protocol, ReleaseEntry, RoutePort, RouteTable};
use tokio::sync::Notify;

/// A service, over all tables that name it.
#[derive(Debug)]
pub(crate) struct Service {
    pub(crate) counters: Arc<ServiceCounters>,
    /// Requests of all workers that wait now.
    pub(crate) waiting: Arc<AtomicU32>,
    pub(crate) split: RefCell<Rc<Split>>,
}

/// A release, over all tables that name it.
#[derive(Debug)]
pub(crate) struct Release {
    pub(crate) key: ReleaseKey,
    pub(crate) counters: Arc<ReleaseCounters>,
    pub(crate) close_tunnels: Cell<bool>,
    /// Told when `close_tunnels` becomes true.
    pub(crate) closing: Notify,
}

/// The routes of one listener.
#[derive(Debug, Default)]
pub(crate) struct Routes {
    /// For connections that come now.
    pub(crate) protocol: Protocol,
    exact: HashMap<Box<str>, Vec<Path>>,
    /// `.example.com`, longest first.
    suffixes: Vec<(Box<str>, Vec<Path>)>,
    any: Vec<Path>,
}

#[derive(Debug)]
struct Path {
    /// Without a slash at its end.
    prefix: Box<str>,
    target: Rc<Target>,
}

/// What is kept from table to table.
#[derive(Debug, Default)]
pub(crate) struct Known {
    services: HashMap<ServiceKey, Rc<Service>>,
    releases: HashMap<ReleaseKey, Rc<Release>>,
    backends: HashMap<(ReleaseKey, BackendId, RoutePort), Rc<Backend>>,
    /// Of the last split that was begun, in parts of 2^32.
    phase: u32,
}

#[derive(Debug, Default)]
pub(crate) struct Table {
    pub(crate) number: TableNumber,
    listeners: HashMap<ListenerKey, Rc<Routes>>,
    trusted: Vec<Network>,
}

impl Table {
    /// Prepares `wire`. Backends that it does not name, and those in `gone`, are retired.
    pub(crate) fn prepare(
        wire: &RouteTable,
        gone: &HashSet<BackendId>,
        known: &mut Known,
        counters: &WorkerCounters,
        waiting: impl Fn(&ServiceKey) -> Arc<AtomicU32>,
    ) -> Self {
        let mut fresh = Known { phase: known.phase, ..Known::default() };
        for (key, entry) in &wire.services {
            let service = known.services.remove(key).unwrap_or_else(|| {
                Rc::new(Service { counters: counters.service(key), waiting: waiting(key), split: RefCell::default() })
            });
            if !service.split.borrow().is_of(&entry.split) {
                *service.split.borrow_mut() = Rc::new(Split::new(&entry.split, fresh.next_phase()));
            }
            fresh.services.insert(key.clone(), service);
            for release in &entry.releases {
                keep_release(release, known, &mut fresh, counters);
            }
        }
        // What is left is no longer listed.
        known.backends.values().for_each(|backend| backend.retire());
        fresh.retire(gone);
        let mut table = Self { number: wire.number, listeners: HashMap::new(), trusted: Vec::new() };
        // Refused before it came here, if one of them is no network.
        table.trusted.extend(wire.trusted_proxies.iter().filter_map(|text| Network::parse(text)));
        table.add_routes(wire, &fresh);
        *known = fresh;
        table
    }

    fn add_routes(&mut self, wire: &RouteTable, known: &Known) {
        let mut targets: BTreeMap<(&ServiceKey, RoutePort), Rc<Target>> = BTreeMap::new();
        let mut listeners: HashMap<ListenerKey, Routes> = HashMap::new();
        for route in &wire.routes {
            let (Some(entry), Some(service)) = (wire.services.get(&route.service), known.services.get(&route.service))
            else {
                continue; // refused before it came here
            };
            let target = targets
                .entry((&route.service, route.port))
                .or_insert_with(|| Rc::new(Target::new(service, entry, route.port, known)))
                .clone();
            let path = Path { prefix: route.path.trim_end_matches('/').into(), target };
            let routes = listeners.entry(route.listener.clone()).or_default();
            routes.protocol = route.protocol;
            match route.host.as_deref() {
                None => routes.any.push(path),
                Some(host) => match host.strip_prefix('*') {
                    None => routes.exact.entry(host.into()).or_default().push(path),
                    Some(suffix) => match routes.suffixes.iter_mut().find(|(known, _)| **known == *suffix) {
                        Some((_, paths)) => paths.push(path),
                        None => routes.suffixes.push((suffix.into(), vec![path])),
                    },
                },
            }
        }
        for mut routes in listeners.drain() {
            routes.1.sort();
            self.listeners.insert(routes.0, Rc::new(routes.1));
        }
    }

    pub(crate) fn routes(&self, listener: &ListenerKey) -> Rc<Routes> {
        self.listeners.get(listener).cloned().unwrap_or_default()
    }

    pub(crate) fn trusts(&self, peer: std::net::IpAddr) -> bool {
        self.trusted.iter().any(|network| network.contains(peer.to_canonical()))
    }
}

fn keep_release(entry: &ReleaseEntry, known: &mut Known, fresh: &mut Known, counters: &WorkerCounters) {
    let release = known.releases.remove(&entry.release).unwrap_or_else(|| {
        Rc::new(Release {
            key: entry.release.clone(),
            counters: counters.release(&entry.release),
            close_tunnels: Cell::new(false),
            closing: Notify::new(),
        })
    });
    release.close_tunnels.set(entry.close_tunnels);
    if entry.close_tunnels {
        release.closing.notify_waiters();
    }
    for listed in &entry.backends {
        for (port, addr) in &listed.addrs {
            let key = (entry.release.clone(), listed.id.clone(), *port);
            let backend = match known.backends.remove(&key) {
                Some(backend) if backend.addr == *addr => backend,
                other => {
                    other.inspect(|moved| moved.retire());
                    let backend = Backend::new(listed.id.clone(), *addr, &release.counters);
                    // How an application treats its connections changes rarely from one release to the next.
                    let elder = known
                        .backends
                        .iter()
                        .chain(&fresh.backends)
                        .find(|((of, _, at), _)| of.service == entry.release.service && at == port);
                    if let Some((_, elder)) = elder {
                        backend.inherit(elder);
                    }
                    Rc::new(backend)
                }
            };
            fresh.backends.insert(key, backend);
        }
    }
    release.counters.keep_backends(|id| entry.backends.iter().any(|backend| backend.id == *id));
    fresh.releases.insert(entry.release.clone(), release);
}

impl Known {
    pub(crate) fn of_worker(index: usize) -> Self {
        // The fraction of the root of two; what is above 2^32 goes.
        Self { phase: (index as u32).wrapping_mul(0x6A09_E667), ..Self::default() }
    }

    /// By the golden ratio, which fills a round evenly.
    fn next_phase(&mut self) -> u32 {
        self.phase = self.phase.wrapping_add(0x9E37_79B9);
        self.phase
    }

    pub(crate) fn release(&self, key: &ReleaseKey) -> Option<Rc<Release>> {
        self.releases.get(key).cloned()
    }

    pub(crate) fn backend(&self, release: &ReleaseKey, id: &BackendId, port: RoutePort) -> Option<Rc<Backend>> {
        self.backends.get(&(release.clone(), id.clone(), port)).cloned()
    }

    /// Takes backends whose process has ended out of traffic.
    pub(crate) fn retire(&self, gone: &HashSet<BackendId>) {
        for backend in self.backends.values().filter(|backend| gone.contains(&backend.id)) {
            backend.retire();
        }
    }

    pub(crate) fn backends(&self) -> impl Iterator<Item = &Rc<Backend>> {
        self.backends.values()
    }
}

impl Routes {
    fn sort(&mut self) {
        let longest_first = |paths: &mut Vec<Path>| paths.sort_by_key(|path| std::cmp::Reverse(path.prefix.len()));
        longest_first(&mut self.any);
        self.exact.values_mut().for_each(longest_first);
        self.suffixes.iter_mut().for_each(|(_, paths)| longest_first(paths));
        self.suffixes.sort_by_key(|(suffix, _)| std::cmp::Reverse(suffix.len()));
    }

    /// The target of a request, by the bytes of its Host field and its path (a query may follow).
    pub(crate) fn find(&self, host: &[u8], path: &[u8]) -> Option<&Rc<Target>> {
        let path = &path[..path.iter().position(|b| *b == b'?').unwrap_or(path.len())];
        if !(self.exact.is_empty() && self.suffixes.is_empty()) {
            let mut lower = [0; 255];
            if let Some(target) = bare_host(host, &mut lower).and_then(|host| self.find_by_host(host, path)) {
                return Some(target);
            }
        }
        longest(&self.any, path)
    }

    fn find_by_host(&self, host: &str, path: &[u8]) -> Option<&Rc<Target>> {
        let exact = self.exact.get(host).and_then(|paths| longest(paths, path));
        exact.or_else(|| {
            let matches = |suffix: &str| host.len() > suffix.len() && host.ends_with(suffix);
            self.suffixes.iter().filter(|(suffix, _)| matches(suffix)).find_map(|(_, paths)| longest(paths, path))
        })
    }
}

fn longest<'a>(paths: &'a [Path], path: &[u8]) -> Option<&'a Rc<Target>> {
    paths.iter().find(|known| is_under(known.prefix.as_bytes(), path)).map(|path| &path.target)
}

/// Whole segments; `prefix` is without a slash at its end.
pub(crate) fn is_under(prefix: &[u8], path: &[u8]) -> bool {
    prefix.is_empty() || path.starts_with(prefix) && matches!(path.get(prefix.len()), None | Some(b'/'))
}

/// Lower case, without port and without the root's dot.
fn bare_host<'a>(host: &[u8], lower: &'a mut [u8; 255]) -> Option<&'a str> {
    let end = match host.first() {
        Some(b'[') => host.iter().position(|b| *b == b']')? + 1,
        _ => host.iter().position(|b| *b == b':').unwrap_or(host.len()),
    };
    let host = host[..end].strip_suffix(b".").unwrap_or(&host[..end]);
    let lower = lower.get_mut(..host.len())?;
    lower.copy_from_slice(host);
    lower.make_ascii_lowercase();
    std::str::from_utf8(lower).ok()
}

#[cfg(test)]
#[path = "table_tests.rs"]
mod tests;
