use super::*;
use crate::contradiction::contradiction;
use crate::target::{Choice, Way};
use std::time::Instant;
use teal_model::wire::{self, Backend as WireBackend, Protocol, Route, ServiceEntry, Share as WireShare};

const PORT: RoutePort = RoutePort::Published(80);

fn service(name: &str) -> ServiceKey {
    ServiceKey::new("shop", name)
}

fn listener() -> ListenerKey {
    ListenerKey::host(std::net::SocketAddr::from(([0, 0, 0, 0], 80)))
}

fn route(host: Option<&str>, path: &str, to: &str) -> Route {
    Route {
        listener: listener(),
        host: host.map(Into::into),
        path: path.into(),
        service: service(to),
        port: PORT,
        protocol: Protocol::Http,
    }
}

/// Each release: number, weight, backends.
fn entry(name: &str, releases: &[(u64, u32, &[&str])]) -> ServiceEntry {
    let key = |number| ReleaseKey::new(service(name), number);
    let backend = |id: &&str| WireBackend {
        id: BackendId((*id).into()),
        addrs: BTreeMap::from([(PORT, "127.0.0.1:1".parse().expect("an address"))]),
    };
    ServiceEntry {
        split: releases
            .iter()
            .map(|(number, weight, _)| WireShare { release: key(*number), weight: *weight })
            .collect(),
        releases: releases
            .iter()
            .map(|(number, _, backends)| ReleaseEntry {
                release: key(*number),
                backends: backends.iter().map(backend).collect(),
                close_tunnels: false,
            })
            .collect(),
        ..ServiceEntry::default()
    }
}

#[derive(Default)]
struct Worker {
    known: Known,
    counters: WorkerCounters,
    gone: HashSet<BackendId>,
}

impl Worker {
    fn take(&mut self, table: &RouteTable) -> Table {
        assert_eq!(contradiction(table), None);
        Table::prepare(table, &self.gone, &mut self.known, &self.counters, |_| Arc::default())
    }
}

fn table(routes: Vec<Route>, services: Vec<(&str, ServiceEntry)>) -> RouteTable {
    let services = services.into_iter().map(|(name, entry)| (service(name), entry)).collect();
    RouteTable { routes, services, ..RouteTable::default() }
}

fn chosen(target: &Target, tried: &[Rc<Backend>]) -> Option<String> {
    match target.choose(Way::Weights, tried) {
        Choice::Use(_, backend) => Some(backend.id.0.clone()),
        Choice::Hold => None,
    }
}

#[test]
fn the_best_host_and_then_the_longest_path_wins() {
    let names = ["exact", "api", "wild", "deep", "any", "assets"];
    let wire = table(
        vec![
            route(None, "/", "any"),
            route(None, "/assets/", "assets"),
            route(Some("a.example.com"), "/", "exact"),
            route(Some("a.example.com"), "/api", "api"),
            route(Some("*.example.com"), "/", "wild"),
            route(Some("*.b.example.com"), "/", "deep"),
        ],
        names.iter().map(|name| (*name, entry(name, &[(1, 1, &[name])]))).collect(),
    );
    let prepared = Worker::default().take(&wire);
    let routes = prepared.routes(&listener());
    for (host, path, expected) in [
        ("a.example.com", "/", "exact"),
        ("A.Example.COM:8080", "/apix", "exact"),
        ("a.example.com.", "/api?x=/", "api"),
        ("a.example.com", "/api/x", "api"),
        ("b.example.com", "/api", "wild"),
        ("x.y.b.example.com", "/", "deep"),
        ("example.com", "/", "any"),
        ("[::1]:80", "/assets", "assets"),
        ("", "/assetsx", "any"),
    ] {
        let target = routes.find(host.as_bytes(), path.as_bytes()).expect("a route");
        assert_eq!(chosen(target, &[]).as_deref(), Some(expected), "{host}{path}");
    }
    let other = ListenerKey::host(std::net::SocketAddr::from(([0, 0, 0, 0], 81)));
    assert!(prepared.routes(&other).find(b"a.example.com", b"/").is_none());
}

fn only_target(table: &Table) -> Rc<Target> {
    table.routes(&listener()).find(b"", b"/").expect("a route").clone()
}

#[test]
fn releases_get_their_shares_and_those_without_get_none() {
    let wire = table(
        vec![route(None, "/", "web")],
        vec![("web", entry("web", &[(1, 95, &["a"]), (2, 5, &["b"]), (3, 0, &["c"])]))],
    );
    let target = only_target(&Worker::default().take(&wire));
    let mut counts = BTreeMap::new();
    for _ in 0..1000 {
        *counts.entry(chosen(&target, &[]).expect("a backend")).or_insert(0) += 1;
    }
    assert_eq!(counts, BTreeMap::from([("a".into(), 950), ("b".into(), 50)]));
}

#[test]
fn a_small_share_has_its_turn_though_tables_come_with_every_request() {
    let mut worker = Worker::default();
    let replicas = [&["a"][..], &["a", "b"]];
    let mut candidate = 0;
    for n in 0..1000 {
        let entry = entry("web", &[(1, 9900, replicas[n % 2]), (2, 100, &["c"])]);
        let target = only_target(&worker.take(&table(vec![route(None, "/", "web")], vec![("web", entry)])));
        candidate += usize::from(chosen(&target, &[]).as_deref() == Some("c"));
    }
    assert_eq!(candidate, 10);
}

#[test]
fn all_ports_of_a_service_have_one_split() {
    let ports = [PORT, RoutePort::Published(81)];
    let mut entry = entry("web", &[(1, 9, &["a"]), (2, 1, &["b"])]);
    for backend in entry.releases.iter_mut().flat_map(|release| &mut release.backends) {
        backend.addrs.insert(ports[1], backend.addrs[&ports[0]]);
    }
    let other = Route { path: "/other".into(), port: ports[1], ..route(None, "/", "web") };
    let prepared = Worker::default().take(&table(vec![route(None, "/", "web"), other], vec![("web", entry)]));
    let routes = prepared.routes(&listener());
    let paths = [&b"/"[..], b"/other"];
    let candidate = (0..100).filter(|n| {
        let target = routes.find(b"", paths[n % 2]).expect("a route");
        chosen(target, &[]).as_deref() == Some("b")
    });
    assert_eq!(candidate.count(), 10);
}

#[test]
fn requests_go_where_fewest_are_and_take_turns() {
    let wire = table(vec![route(None, "/", "web")], vec![("web", entry("web", &[(1, 1, &["a", "b", "c"])]))]);
    let mut worker = Worker::default();
    let target = only_target(&worker.take(&wire));
    let turns: Vec<_> = (0..6).filter_map(|_| chosen(&target, &[])).collect();
    assert_eq!(turns, ["a", "b", "c", "a", "b", "c"]);
    for backend in worker.known.backends().filter(|backend| backend.id.0 != "b") {
        backend.claim();
    }
    assert!((0..6).all(|_| chosen(&target, &[]).as_deref() == Some("b")));
}

#[test]
fn a_gone_backend_gets_nothing_and_without_any_requests_are_held() {
    let wire = table(vec![route(None, "/", "web")], vec![("web", entry("web", &[(1, 1, &["a", "b"])]))]);
    let mut worker = Worker::default();
    let target = only_target(&worker.take(&wire));
    worker.known.retire(&HashSet::from([BackendId("a".into())]));
    assert!((0..4).all(|_| chosen(&target, &[]).as_deref() == Some("b")));
    worker.known.retire(&HashSet::from([BackendId("b".into())]));
    assert_eq!(chosen(&target, &[]), None);
    worker.gone = HashSet::from([BackendId("a".into()), BackendId("b".into())]);
    assert_eq!(chosen(&only_target(&worker.take(&wire)), &[]), None, "whatever later tables say");
}

#[test]
fn never_more_than_half_of_the_backends_are_ejected() {
    let wire = table(vec![route(None, "/", "web")], vec![("web", entry("web", &[(1, 1, &["a", "b", "c"])]))]);
    let mut worker = Worker::default();
    let target = only_target(&worker.take(&wire));
    let eject = |id: &str| {
        let backend = worker.known.backends().find(|backend| backend.id.0 == id).expect("listed");
        (0..3).for_each(|_| backend.failed(Instant::now()));
    };
    let reached = || (0..9).filter_map(|_| chosen(&target, &[])).collect::<HashSet<_>>().len();
    eject("a");
    assert_eq!(reached(), 2);
    eject("b");
    assert_eq!(reached(), 3);
}

#[test]
fn a_retry_goes_to_another_backend_where_there_is_one() {
    let wire = table(vec![route(None, "/", "web")], vec![("web", entry("web", &[(1, 1, &["a", "b"])]))]);
    let mut worker = Worker::default();
    let target = only_target(&worker.take(&wire));
    let mut tried: Vec<_> = worker.known.backends().filter(|backend| backend.id.0 == "a").cloned().collect();
    assert!((0..4).all(|_| chosen(&target, &tried).as_deref() == Some("b")) && target.has_other(Way::Weights, &tried));
    tried = worker.known.backends().cloned().collect();
    assert!(chosen(&target, &tried).is_some() && !target.has_other(Way::Weights, &tried));
}

#[test]
fn a_backend_that_is_no_longer_listed_is_retired_and_one_that_stays_is_the_same() {
    let web =
        |backends: &[&str]| table(vec![route(None, "/", "web")], vec![("web", entry("web", &[(1, 1, backends)]))]);
    let mut worker = Worker::default();
    worker.take(&web(&["a", "b"]));
    let before: HashMap<_, _> =
        worker.known.backends().map(|backend| (backend.id.0.clone(), backend.clone())).collect();
    worker.take(&web(&["b", "c"]));
    assert!(before["a"].is_retired() && !before["b"].is_retired());
    assert!(worker.known.backends().any(|backend| Rc::ptr_eq(backend, &before["b"])));
}

#[test]
fn holding_and_an_empty_split_hold() {
    let mut held = entry("web", &[(1, 1, &["a"])]);
    held.holding = true;
    let mut empty = entry("web", &[(1, 1, &["a"])]);
    empty.split.clear();
    for entry in [held, empty] {
        let wire = table(vec![route(None, "/", "web")], vec![("web", entry)]);
        assert_eq!(chosen(&only_target(&Worker::default().take(&wire)), &[]), None);
    }
}

#[test]
fn a_table_that_contradicts_itself_is_told_why() {
    let good = || table(vec![route(None, "/", "web")], vec![("web", entry("web", &[(1, 1, &["a"])]))]);
    let wrong = |change: fn(&mut RouteTable)| {
        let mut table = good();
        change(&mut table);
        contradiction(&table).expect("a contradiction")
    };
    assert_eq!(contradiction(&good()), None);
    assert!(wrong(|t| t.services.values_mut().for_each(|s| s.releases.clear())).contains("share to shop/web@1"));
    assert!(wrong(|t| t.services.clear()).contains("routed to shop/web"));
    assert!(wrong(|t| t.routes[0].path = "x".into()).contains("`x`"));
    assert!(wrong(|t| t.routes[0].host = Some("A".into())).contains("`A`"));
    assert!(wrong(|t| t.trusted_proxies.push("10.0.0.0/33".into())).contains("10.0.0.0/33"));
    assert!(
        wrong(|t| t.services.values_mut().for_each(|s| {
            let again = s.releases[0].clone();
            s.releases.push(again);
        }))
        .contains("twice")
    );
}

#[test]
fn what_a_service_goes_by_beside_its_weights_must_hang_together_too() {
    let key = |number| ReleaseKey::new(service("web"), number);
    let why = |change: &dyn Fn(&mut ServiceEntry)| {
        let mut entry = entry("web", &[(1, 1, &["a"])]);
        change(&mut entry);
        contradiction(&table(vec![route(None, "/", "web")], vec![("web", entry)])).unwrap_or_default()
    };
    let preview = |number, network: &str, token: &str| {
        let (networks, tokens) = (vec![network.to_owned()], vec![token.to_owned()]);
        why(&move |entry| {
            let (networks, tokens) = (networks.clone(), tokens.clone());
            entry.preview = Some(wire::Preview { release: key(number), networks, tokens });
        })
    };
    assert_eq!(preview(1, "10.0.0.0/8", "t"), "");
    assert!(preview(2, "10.0.0.0/8", "t").contains("preview of shop/web@2"));
    assert!(preview(1, "10.0.0.0/99", "t").contains("10.0.0.0/99"));
    assert!(preview(1, "10.0.0.0/8", "").contains("empty token"));
    let guard = |number, prefix: &str| {
        let guard = wire::SkewGuard { prefixes: vec![prefix.into()], releases: vec![key(1), key(number)] };
        why(&move |entry| entry.skew_guard = Some(guard.clone()))
    };
    assert_eq!(guard(1, "/assets"), "");
    assert!(guard(2, "/assets").contains("skew guard over shop/web@2"));
    assert!(guard(1, "assets").contains("`assets`"));
    let sticky = |by: wire::StickyBy| {
        why(&move |entry| entry.sticky = Some(wire::Sticky { by: by.clone(), salt: String::new() }))
    };
    let cookie = |name: &str, key: &str| sticky(wire::StickyBy::Cookie { name: name.into(), key: key.into() });
    let secret = "00".repeat(16);
    assert_eq!(cookie("teal", &secret), "");
    assert_eq!(sticky(wire::StickyBy::Address), "");
    for name in ["", "a b", "a\r\nSet-Cookie: b", "a;b", "a=b"] {
        assert!(cookie(name, &secret).contains("no name"), "{name}");
        assert!(sticky(wire::StickyBy::Header { name: name.into() }).contains("no name"), "{name}");
    }
    for key in ["", "00", &"xy".repeat(16)] {
        let why = cookie("teal", key);
        assert!(why.contains("no hex") && (key.is_empty() || !why.contains(key)), "{why}");
    }
}

#[test]
fn a_tcp_listener_has_one_route_for_everything() {
    let tcp = |host, path| Route { protocol: Protocol::Tcp, ..route(host, path, "web") };
    let why = |routes| contradiction(&table(routes, vec![("web", entry("web", &[(1, 1, &["a"])]))]));
    assert_eq!(why(vec![tcp(None, "/")]), None);
    assert!(
        why(vec![tcp(None, "/"), tcp(None, "/")]).is_some_and(|why| why.contains("0.0.0.0:80") && why.contains("two"))
    );
    assert!(why(vec![tcp(Some("a"), "/")]).is_some_and(|why| why.contains("a host or a path")));
    assert!(why(vec![tcp(None, "/x")]).is_some_and(|why| why.contains("a host or a path")));
    for both in [vec![tcp(None, "/"), route(None, "/", "web")], vec![route(None, "/x", "web"), tcp(None, "/")]] {
        assert!(why(both).is_some_and(|why| why.contains("both")));
    }
    let mut inside = tcp(None, "/");
    inside.listener.namespace = Some("shop/web@1".into());
    assert_eq!(why(vec![route(None, "/", "web"), inside]), None, "the same address elsewhere is another listener");
}
