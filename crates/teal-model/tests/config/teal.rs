//! `x-teal` and what the services of a project may not do to each other.

use crate::common::{each_is_refused, file, show, web, web_and, web_warnings};
use teal_model::config::{Health, NginxProcess, Probe, RouteRule, ServiceSettings, Strategy, is_trusted};
use teal_model::ids::Color;
use teal_model::wire::UnixSocket;

fn rule(host: Option<&str>, path: &str, port: Option<u16>) -> RouteRule {
    RouteRule { host: host.map(str::to_owned), path: path.to_owned(), port }
}

#[test]
fn a_service_without_x_teal_has_the_defaults() {
    assert_eq!(web("").teal, ServiceSettings::default());
    assert_eq!(web("x-teal:").teal, ServiceSettings::default());
    assert_eq!(web("x-teal: {}").teal, ServiceSettings::default());
}

#[test]
fn every_setting_is_read_with_its_unit() {
    let teal = web(
        "ports: ['80:8080']\nx-teal:\n  strategy: recreate\n  drain: 1m\n  hold: {for: 30s, max_waiting: 50}\n  retain: 0\n  bake: 0s\n  timeouts: {connect: 500ms, response: 1m}",
    )
    .teal;
    assert_eq!(teal.strategy, Some(Strategy::Recreate));
    assert_eq!((teal.drain_ms, teal.hold_ms, teal.hold_max_waiting), (60_000, 30_000, 50));
    assert_eq!((teal.connect_timeout_ms, teal.response_timeout_ms), (500, 60_000));
    assert_eq!(web("x-teal: {hold: 5s}").teal.hold_ms, 5_000);
    assert_eq!(web("x-teal: {hold: 0, drain: 0}").teal.hold_ms, 0);
    assert_eq!(web("x-teal: {hold: {max_waiting: 1}}").teal.hold_ms, ServiceSettings::HOLD_MS);
}

#[test]
fn settings_that_make_no_sense_are_refused() {
    each_is_refused(&[
        ("x-teal: {strategy: bluegreen}", "Did you mean `blue-green`?"),
        ("x-teal: {strategy: rolling}", "not one of `blue-green`, `canary`, `recreate`"),
        ("x-teal: {drain: 30}", "not a duration"),
        ("x-teal: {hold: {for: x}}", "hold.for: not a duration"),
        ("x-teal: {hold: {max_waiting: 0}}", "a whole number from 1 to 1000000"),
        ("x-teal: {timeouts: {connect: 0}}", "connect: must be longer than 0"),
        ("x-teal: {timeouts: {read: 1s}}", "timeouts.read: unknown key"),
        ("x-teal: {stratgy: recreate}", "services.web.x-teal.stratgy: unknown key. Did you mean `strategy`?"),
        ("x-teal: blue-green", "expected a map, found a string"),
        ("x-teal: {mode: nginx}", "x-teal.mode: not one of `auto`, `http`, `tcp`, `direct`"),
        ("x-teal: {nginx: {}}", "x-teal.nginx: has no effect without `traffic: nginx`"),
        ("x-teal: {traffic: apache}", "x-teal.traffic: not one of `teal`, `nginx`"),
        ("x-teal: {traffic: nginx}", "no port is known that nginx could call"),
        ("expose: [80]\nx-teal: {traffic: nginx, mode: tcp}", "contradict each other"),
        ("expose: [80]\nx-teal: {traffic: nginx, nginx: {upstream: 'a b'}}", "nginx.upstream: not a name"),
        ("expose: [80]\nx-teal: {traffic: nginx, nginx: {file: teal.conf}}", "nginx.file: not a path"),
        ("expose: [80]\nx-teal: {traffic: nginx, nginx: {ports: {blue: [1, 2]}}}", "ports for one color only"),
        ("expose: [80]\nx-teal: {traffic: nginx, nginx: {ports: {blue: [1, 2], green: [2]}}}", "port 2 is given twice"),
        (
            "expose: [80]\nx-teal: {traffic: nginx, nginx: {ports: {blue: [1, 2, 3], green: [4]}}}",
            "neither one port nor two",
        ),
        (
            "expose: [80]\nx-teal: {traffic: nginx, nginx: {test: 'nginx -t && x'}}",
            "`&` needs a shell, and none runs here",
        ),
    ]);
}

#[test]
fn a_service_behind_nginx_says_how_it_is_told() {
    let nginx = |more: &str| {
        let teal = web(&format!("ports: ['80:8080']\nx-teal: {{traffic: nginx{more}}}")).teal;
        teal.nginx.expect("it is behind nginx")
    };
    let plain = nginx("");
    assert_eq!((plain.upstream.as_str(), plain.port), ("shop_web", Some(8080)));
    assert_eq!(plain.process, NginxProcess::default());
    let full = nginx(
        ", nginx: {upstream: app, port: 9000, address: 172.17.0.1, keepalive: 0, container: edge, reload: nginx -s reload, \
         ports: {blue: [8080, 9090], green: [[8081, 9091]]}, confirm: 3s}",
    );
    assert_eq!((full.upstream.as_str(), full.port, full.keepalive), ("app", Some(9000), 0));
    assert_eq!(full.address.to_string(), "172.17.0.1");
    assert_eq!(full.ports[&Color::Blue], [[8080, 9090]]);
    assert_eq!(full.ports[&Color::Green], [[8081, 9091]]);
    let words = ["nginx", "-s", "reload"].map(str::to_owned).to_vec();
    assert_eq!((full.process.reload, full.process.confirm_ms), (Some(words), 3_000));
}

#[test]
fn routes_are_read_as_string_map_and_list() {
    for (route, want) in [
        ("/api", vec![rule(None, "/api", None)]),
        ("/api/", vec![rule(None, "/api", None)]),
        ("/", vec![rule(None, "/", None)]),
        ("Shop.example.com", vec![rule(Some("shop.example.com"), "/", None)]),
        ("example.com/a/b", vec![rule(Some("example.com"), "/a/b", None)]),
        ("'*.example.com'", vec![rule(Some("*.example.com"), "/", None)]),
        ("{host: example.com}", vec![rule(Some("example.com"), "/", None)]),
        ("{path: /x, port: 80}", vec![rule(None, "/x", Some(80))]),
        ("{port: 80}", vec![rule(None, "/", Some(80))]),
        ("[a.example.com, {path: /b}]", vec![rule(Some("a.example.com"), "/", None), rule(None, "/b", None)]),
    ] {
        assert_eq!(web(&format!("ports: ['80:1']\nx-teal: {{route: {route}}}")).teal.routes, want, "{route}");
    }
}

#[test]
fn a_socket_leads_to_a_port_of_the_container() {
    let listen = |text: &str| web(text).teal.listen.pop().map(|one| (one.socket, one.target));
    let socket = |mode, group: Option<&str>| UnixSocket {
        path: "/run/shop.sock".to_owned(),
        mode,
        group: group.map(str::to_owned),
    };
    let short = listen("ports: ['80:8080']\nx-teal: {listen: unix:/run/shop.sock}");
    assert_eq!(short, Some((socket(0o660, None), 8080)));
    let alone = web("x-teal: {listen: {unix: /run/shop.sock, mode: '0600', group: www-data, port: 3000}}");
    assert_eq!(alone.teal.listen[0].socket, socket(0o600, Some("www-data")));
    assert_eq!(alone.teal.listen[0].target, 3000);
    assert_eq!(alone.expose.iter().map(|port| port.port).collect::<Vec<_>>(), [3000], "its containers listen there");
    let routed = web("x-teal: {route: shop.example, listen: {unix: /run/shop.sock, port: 3000}}");
    assert_eq!(routed.teal.routes, [rule(Some("shop.example"), "/", None)]);
}

#[test]
fn sockets_that_lead_nowhere_are_refused() {
    for (listen, want) in [
        ("unix:/run/shop.sock", "a socket without a port of the container. The service publishes none"),
        ("unix:shop.sock", "not a socket"),
        ("/run/shop.sock", "not a socket"),
        ("unix:/run/../shop.sock", "not a socket"),
        ("unix:/run/", "not a socket"),
        ("{unix: run/shop.sock, port: 1}", "listen.unix: not a path"),
        ("{port: 1}", "a socket without a path"),
        ("{unix: /run/shop.sock, port: 1, mode: rw}", "mode: not an octal file mode"),
        ("{unix: /run/shop.sock, port: 1, owner: x}", "listen.owner: unknown key"),
        ("[{unix: /a, port: 1}, {unix: /a, port: 2}]", "`web` listens on /a as well"),
    ] {
        each_is_refused(&[(&format!("x-teal: {{listen: {listen}}}"), want)]);
    }
    let direct = "ports: ['80:1']\nx-teal: {mode: direct, listen: unix:/a}";
    each_is_refused(&[(direct, "the proxy does not serve this service: `mode: direct`")]);
}

#[test]
fn routes_that_lead_nowhere_are_refused() {
    for (route, want) in [
        ("http://example.com", "not a route"),
        ("example.com:80", "not a route"),
        ("''", "not a route"),
        ("'*'", "not a route"),
        ("-x.com", "not a route"),
        ("/a?b=c", "not a route"),
        ("/a/../b", "not a route"),
        ("/a//b", "not a route"),
        ("/grün", "not a route"),
        ("{host: 'a b'}", "route.host: not a host name"),
        ("{path: api}", "route.path: not a path"),
        ("{port: 81}", "port 81 is not published by this service. It publishes 80."),
        ("{}", "an empty route"),
        ("{hots: x}", "Did you mean `host`?"),
        ("[/a, /a]", "the same route twice"),
    ] {
        each_is_refused(&[(&format!("ports: ['80:1']\nx-teal: {{route: {route}}}"), want)]);
    }
    each_is_refused(&[("x-teal: {route: /a}", "x-teal.route: a route without a published port")]);
}

#[test]
fn health_is_none_a_path_or_a_map() {
    let http = |path: &str, port, status, host: Option<&str>| Probe::Http {
        path: path.to_owned(),
        port,
        status,
        host: host.map(str::to_owned),
    };
    for (health, want) in [
        ("none", Probe::None),
        ("/healthz", http("/healthz", None, None, None)),
        (
            "{path: /up?full=1, port: 9000, status: 204, host: shop.example.com}",
            http("/up?full=1", Some(9000), Some(204), Some("shop.example.com")),
        ),
        ("{tcp: true}", Probe::Tcp { port: None }),
        ("{tcp: true, port: 5432}", Probe::Tcp { port: Some(5432) }),
        ("{deadline: 10m}", Probe::Default),
    ] {
        assert_eq!(web(&format!("ports: ['80:1']\nx-teal: {{health: {health}}}")).teal.health.probe, want, "{health}");
    }
    let health = web("x-teal: {health: {interval: 2s, timeout: 3s, successes: 4, deadline: 5m}}").teal.health;
    let want = Health {
        probe: Probe::Default,
        interval_ms: 2_000,
        timeout_ms: 3_000,
        successes: 4,
        deadline_ms: 300_000,
        ..Health::default()
    };
    assert_eq!(health, want);
}

#[test]
fn health_that_cannot_be_probed_is_refused() {
    each_is_refused(&[
        ("x-teal: {health: healthz}", "not a path. Write `none`, a path"),
        ("x-teal: {health: {path: healthz}}", "not a path"),
        ("x-teal: {health: {port: 80}}", "says how to probe, but not what"),
        ("x-teal: {health: {path: /x}}", "a probe without a port. The service publishes none: add `port: 8080`."),
        ("x-teal: {health: {tcp: true}}", "a probe without a port"),
        ("x-teal: {health: {tcp: true, path: /x, port: 1}}", "health.path: means nothing to a TCP probe"),
        ("x-teal: {health: {path: /x, port: 1, status: 99}}", "a whole number from 100 to 599"),
        ("x-teal: {health: {interval: 0}}", "must be longer than 0"),
        ("x-teal: {health: {successes: 0}}", "a whole number from 1 to 1000"),
        ("x-teal: {health: {interval: 10s, successes: 30}}", "the deadline is over before"),
        ("x-teal: {health: {pth: /x}}", "Did you mean `path`?"),
    ]);
}

#[test]
fn a_deadline_below_the_healthchecks_own_time_is_a_warning() {
    let slow = "healthcheck: {test: x, start_period: 2m, interval: 30s, retries: 3}";
    let said = web_warnings(slow);
    assert!(said.contains("may take 3m30s (start_period + interval x retries), but the deadline is 3m"), "{said}");
    assert_eq!(web_warnings(&format!("{slow}\nx-teal: {{health: {{deadline: 4m}}}}")), "");
    assert_eq!(web_warnings("healthcheck: {disable: true, start_period: 10m}"), "");
}

#[test]
fn blue_green_over_a_writable_volume_is_allowed_with_a_warning() {
    let said = web_warnings("volumes: ['./a:/data']\nx-teal: {strategy: blue-green}");
    assert!(said.contains("two releases will write to the volume at `/data`"), "{said}");
    for quiet in [
        "volumes: ['./a:/data:ro']\nx-teal: {strategy: blue-green}",
        "volumes: [{type: tmpfs, target: /data}]\nx-teal: {strategy: blue-green}",
        "volumes: ['./a:/data']\nx-teal: {strategy: recreate}",
        "volumes: ['./a:/data']",
    ] {
        assert_eq!(web_warnings(quiet), "", "{quiet}");
    }
}

#[test]
fn trusted_proxies_are_networks() {
    let text = web_and("", "x-teal: {trusted_proxies: [10.1.2.3/8, 192.0.2.7, '::1', 'fd00::/8', 0.0.0.0/0]}\n");
    let got = file(&text).ok().project.trusted_proxies;
    assert_eq!(got, ["10.0.0.0/8", "192.0.2.7/32", "::1/128", "fd00::/8", "0.0.0.0/0"]);
    let private = file(&web_and("", "x-teal: {trusted_proxies: private}\n")).ok().project.trusted_proxies;
    assert_eq!(private, teal_model::config::PRIVATE_RANGES);
    for (teal, want) in [
        ("{trusted_proxies: [10.0.0.0/33]}", "x-teal.trusted_proxies[0]: not an address or a range"),
        ("{trusted_proxies: [lb.example.com]}", "not an address or a range"),
        ("{trusted_proxys: []}", "Did you mean `trusted_proxies`?"),
        ("{hosts: [a]}", "x-teal.hosts: not built yet"),
        ("{load_balancer: {}}", "x-teal.load_balancer: not built yet"),
        ("{store: etcd}", "x-teal.store: not built yet"),
        ("{notify: []}", "x-teal.notify: not built yet"),
    ] {
        let problems = file(&web_and("", &format!("x-teal: {teal}\n"))).fail();
        assert!(problems.contains(want), "{teal}\n{problems}");
    }
}

#[test]
fn a_misspelt_x_teal_does_not_go_unseen() {
    for slip in ["x-tael", "x-teel", "x-tela", "x-Teal", "x-teals"] {
        let said = web_warnings(&format!("{slip}: {{strategy: recreate}}"));
        let want = format!("services.web.{slip}: an extension that Teal does not read. Did you mean `x-teal`?");
        assert!(said.contains(&want), "{said}");
        let said = show(&file(&web_and("", &format!("{slip}: {{bake: 0}}\n"))).ok().warnings);
        assert!(said.contains(&format!(": {slip}: an extension that Teal does not read.")), "{said}");
    }
    assert_eq!(web_warnings("x-logging: {a: b}"), "");
    for key in ["x-teal", "x-tael"] {
        let said = web_warnings(&format!("deploy: {{{key}: {{bake: 0}}}}"));
        let want =
            format!("services.web.deploy.{key}: an extension that Teal does not read. Teal reads `x-teal` under");
        assert!(said.contains(&want), "{said}");
    }
}

fn two(a: &str, b: &str) -> String {
    format!("services:\n  a: {{image: x, {a}}}\n  b: {{image: x, {b}}}\n")
}

#[test]
fn services_share_a_port_only_when_routes_tell_them_apart() {
    let port = "ports: ['80:1']";
    for (a, b) in [
        ("x-teal: {route: /a}", "x-teal: {route: /b}"),
        ("x-teal: {route: /}", "x-teal: {route: /b}"),
        ("x-teal: {route: a.example.com}", "x-teal: {route: b.example.com}"),
        ("x-teal: {route: a.example.com/x}", "x-teal: {route: /x}"),
    ] {
        file(&two(&format!("{port}, {a}"), &format!("{port}, {b}"))).ok();
    }
    for (a, b, want) in [
        (port.to_owned(), port.to_owned(), "services.b.ports[0]: port 80 is published by `a` as well"),
        (port.to_owned(), format!("{port}, x-teal: {{route: /b}}"), "published by `a` as well"),
        (
            format!("{port}, x-teal: {{route: [/a, x.example.com]}}"),
            format!("{port}, x-teal: {{route: [/b, X.example.com/]}}"),
            "port 80 with the route `x.example.com/` leads to `a` as well",
        ),
        (
            format!("{port}, x-teal: {{route: /a}}"),
            "ports: ['127.0.0.1:80:1'], x-teal: {route: /b}".to_owned(),
            "on an address that overlaps this one",
        ),
        ("ports: ['0.0.0.0:80:1']".to_owned(), "ports: ['127.0.0.1:80:1']".to_owned(), "overlaps this one"),
    ] {
        let problems = file(&two(&a, &b)).fail();
        assert!(problems.contains(want), "{a} | {b}\n{problems}");
    }
    for (a, b) in [
        ("ports: ['80:1']", "ports: ['81:1']"),
        ("ports: ['127.0.0.1:80:1']", "ports: ['127.0.0.2:80:1']"),
        ("ports: ['0.0.0.0:80:1']", "ports: ['[::1]:80:1']"),
    ] {
        file(&two(a, b)).ok();
    }
}

#[test]
fn routes_bound_to_one_port_leave_the_others_alone() {
    let a = "ports: ['80:1', '81:1'], x-teal: {route: {path: /a, port: 80}}";
    let project = file(&two(a, "ports: ['80:1'], x-teal: {route: /b}")).ok().project;
    assert_eq!(project.services["a"].teal.routes, [rule(None, "/a", Some(80)), rule(None, "/", Some(81))]);
    let problems = file(&two(a, "ports: ['81:1'], x-teal: {route: /}")).fail();
    assert!(problems.contains("port 81 with the route `/` leads to `a` as well"), "{problems}");
}

#[test]
fn warnings_come_in_the_order_of_the_file() {
    let text = web_and("labels: {a: $A}\nuser: root$B", "version: '3'\n");
    let warnings = file(&text).ok().warnings;
    assert_eq!(warnings.iter().map(|w| w.line).collect::<Vec<_>>(), [4, 5, 6], "{}", show(&warnings));
}

#[test]
fn a_peer_is_trusted_by_its_range() {
    let ranges = ["10.0.0.0/8", "127.0.0.1/32", "::1/128"].map(str::to_owned);
    for (peer, is) in [
        ("10.9.8.7", true),
        ("11.0.0.1", false),
        ("127.0.0.1", true),
        ("127.0.0.2", false),
        ("::1", true),
        ("::2", false),
    ] {
        assert_eq!(is_trusted(&ranges, peer.parse().unwrap()), is, "{peer}");
    }
}
