//! A route table made ready for one worker: what a request's listener, host and path lead to.
//!
//! ```text
//! listener ─▶ host (exact, *.suffix, any) ─▶ longest path ─▶ Target ─▶ release by weight ─▶ backend by least in flight
//! ```
//!
//! Services, releases and backends outlive the table: the next one takes over those that it names as well.

use crate::backend::Backend;
use crate::stats::{ReleaseCounters, ServiceCounters, WorkerCounters};
use std::cell::Cell;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::time::Instant;
use teal_model::ids::{ReleaseKey, ServiceKey, TableNumber};
use teal_model::wire::{BackendId, Hold, ListenerKey, ReleaseEntry, RoutePort, RouteTable, ServiceEntry, Timeouts};
use tokio::sync::Notify;

/// A service, over all tables that name it.
#[derive(Debug)]
pub(crate) struct Service {
    pub(crate) counters: Arc<ServiceCounters>,
    /// Requests of all workers that wait now.
    pub(crate) waiting: Arc<AtomicU32>,
}

/// A release, over all tables that name it.
#[derive(Debug)]
pub(crate) struct Release {
    pub(crate) counters: Arc<ReleaseCounters>,
    pub(crate) close_tunnels: Cell<bool>,
    /// Told when `close_tunnels` becomes true.
    pub(crate) closing: Notify,
}

/// Where requests of one service for one port go, by one table.
#[derive(Debug)]
pub(crate) struct Target {
    pub(crate) service: Rc<Service>,
    pub(crate) hold: Hold,
    pub(crate) timeouts: Timeouts,
    holding: bool,
    shares: Vec<Share>,
}

#[derive(Debug)]
struct Share {
    release: Rc<Release>,
    weight: i64,
    /// Smooth weighted round robin: grows by `weight` a request, falls by the sum when chosen.
    credit: Cell<i64>,
    backends: Vec<Rc<Backend>>,
    next: Cell<usize>,
}

/// The routes of one listener.
#[derive(Debug, Default)]
pub(crate) struct Routes {
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
        let mut fresh = Known::default();
        for (key, entry) in &wire.services {
            let service = known
                .services
                .remove(key)
                .unwrap_or_else(|| Rc::new(Service { counters: counters.service(key), waiting: waiting(key) }));
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

/// What to do with a request.
#[derive(Debug)]
pub(crate) enum Choice<'a> {
    Use(&'a Rc<Release>, &'a Rc<Backend>),
    /// Nobody is there to answer.
    Hold,
}

impl Target {
    fn new(service: &Rc<Service>, entry: &ServiceEntry, port: RoutePort, known: &Known) -> Self {
        let share = |share: &teal_model::wire::Share| {
            let listed = entry.releases.iter().find(|release| release.release == share.release)?;
            let backend = |id: &BackendId| known.backends.get(&(share.release.clone(), id.clone(), port)).cloned();
            Some(Share {
                release: known.releases.get(&share.release)?.clone(),
                weight: i64::from(share.weight),
                credit: Cell::new(0),
                backends: listed.backends.iter().filter_map(|listed| backend(&listed.id)).collect(),
                next: Cell::new(0),
            })
        };
        Self {
            service: service.clone(),
            hold: entry.hold,
            timeouts: entry.timeouts,
            holding: entry.holding,
            shares: entry.split.iter().filter(|share| share.weight > 0).filter_map(share).collect(),
        }
    }

    /// The release by its weight, the backend by least in flight. Those in `tried` only when there is no other.
    pub(crate) fn choose(&self, tried: &[Rc<Backend>]) -> Choice<'_> {
        if self.holding {
            return Choice::Hold;
        }
        let alive = |share: &&Share| share.backends.iter().any(|backend| !backend.is_retired());
        let mut total = 0;
        let mut best: Option<&Share> = None;
        for share in self.shares.iter().filter(alive) {
            total += share.weight;
            share.credit.set(share.credit.get() + share.weight);
            if best.is_none_or(|best| share.credit.get() > best.credit.get()) {
                best = Some(share);
            }
        }
        let Some(share) = best else { return Choice::Hold };
        share.credit.set(share.credit.get() - total);
        match share.backend(tried) {
            Some(backend) => Choice::Use(&share.release, backend),
            None => Choice::Hold,
        }
    }

    /// Whether a request would find a backend.
    pub(crate) fn is_open(&self) -> bool {
        self.has_other(&[])
    }

    /// Whether a backend outside `tried` could be chosen.
    pub(crate) fn has_other(&self, tried: &[Rc<Backend>]) -> bool {
        let mut backends = self.shares.iter().flat_map(|share| &share.backends);
        !self.holding && backends.any(|backend| !backend.is_retired() && !is_in(backend, tried))
    }
}

fn is_in(backend: &Rc<Backend>, tried: &[Rc<Backend>]) -> bool {
    tried.iter().any(|other| Rc::ptr_eq(other, backend))
}

impl Share {
    fn backend(&self, tried: &[Rc<Backend>]) -> Option<&Rc<Backend>> {
        if let [only] = &self.backends[..] {
            return (!only.is_retired()).then_some(only);
        }
        let mut clock = None;
        let mut ejected = |backend: &Backend| backend.is_ejected(|| *clock.get_or_insert_with(Instant::now));
        let alive = self.backends.iter().filter(|backend| !backend.is_retired());
        let (count, out) = alive.fold((0, 0), |(count, out), backend| (count + 1, out + usize::from(ejected(backend))));
        // More than half out: rather the fault of the network or of every backend, and the rest would drown.
        let panic = out * 2 > count;

        let start = self.next.get();
        let mut best: Option<((bool, bool, u32), usize)> = None;
        for step in 0..self.backends.len() {
            let at = (start + step) % self.backends.len();
            let backend = &self.backends[at];
            if backend.is_retired() {
                continue;
            }
            let rank = (is_in(backend, tried), !panic && ejected(backend), backend.in_flight());
            if best.is_none_or(|(best, _)| rank < best) {
                best = Some((rank, at));
            }
        }
        let (_, at) = best?;
        self.next.set(at + 1);
        Some(&self.backends[at])
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
    let matches = |prefix: &[u8]| {
        prefix.is_empty() || path.starts_with(prefix) && matches!(path.get(prefix.len()), None | Some(b'/'))
    };
    paths.iter().find(|known| matches(known.prefix.as_bytes())).map(|path| &path.target)
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

/// `10.0.0.0/8`; an address alone is a network of one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Network {
    bits: u128,
    length: u32,
    v4: bool,
}

impl Network {
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (addr, length) = match text.split_once('/') {
            Some((addr, length)) => (addr, Some(length.parse::<u32>().ok()?)),
            None => (text, None),
        };
        let addr: std::net::IpAddr = addr.parse().ok()?;
        let longest = if addr.is_ipv4() { 32 } else { 128 };
        let length = length.unwrap_or(longest);
        (length <= longest).then(|| Self { bits: bits(addr), length, v4: addr.is_ipv4() })
    }

    fn contains(self, addr: std::net::IpAddr) -> bool {
        let width = if self.v4 { 32 } else { 128 };
        let differing = self.bits ^ bits(addr);
        self.v4 == addr.is_ipv4() && (self.length == 0 || differing >> (width - self.length) == 0)
    }
}

fn bits(addr: std::net::IpAddr) -> u128 {
    match addr {
        std::net::IpAddr::V4(v4) => u128::from(v4.to_bits()),
        std::net::IpAddr::V6(v6) => v6.to_bits(),
    }
}

/// What is wrong with a table, if anything: it must hang together before anyone routes by it.
pub(crate) fn contradiction(table: &RouteTable) -> Option<String> {
    for (key, entry) in &table.services {
        let mut listed = HashSet::new();
        for release in &entry.releases {
            if release.release.service != *key {
                return Some(format!("{key} lists {}, a release of another service", release.release));
            }
            if !listed.insert(&release.release) {
                return Some(format!("{key} lists {} twice", release.release));
            }
            let mut ids = HashSet::new();
            if let Some(twice) = release.backends.iter().find(|backend| !ids.insert(&backend.id)) {
                return Some(format!("{} lists backend {} twice", release.release, twice.id));
            }
        }
        let mut shared = HashSet::new();
        for share in &entry.split {
            if !listed.contains(&share.release) {
                return Some(format!("{key} gives a share to {}, which it does not list", share.release));
            }
            if !shared.insert(&share.release) {
                return Some(format!("{key} gives {} two shares", share.release));
            }
        }
    }
    for route in &table.routes {
        if !table.services.contains_key(&route.service) {
            return Some(format!("{} is routed to {}, which is not listed", route.listener, route.service));
        }
        if !route.path.starts_with('/') {
            return Some(format!("the path `{}` of {} does not start with `/`", route.path, route.service));
        }
        if let Some(host) = &route.host
            && !is_host(host)
        {
            return Some(format!("the host `{host}` of {} is not a lower-case name", route.service));
        }
    }
    let wrong = table.trusted_proxies.iter().find(|text| Network::parse(text).is_none());
    wrong.map(|text| format!("the trusted proxy `{text}` is not a network"))
}

fn is_host(host: &str) -> bool {
    let name = host.strip_prefix("*.").unwrap_or(host);
    let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-._[]:".contains(&b);
    !name.is_empty() && name.bytes().all(allowed)
}

#[cfg(test)]
#[path = "table_tests.rs"]
mod tests;
