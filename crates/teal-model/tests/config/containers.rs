//! What Compose says of a container, its limits, its networks and its files.

use crate::common::{Input, each_is_refused, file, show, web, web_and, web_warnings};
use teal_model::config::{
    BuildSecretSource, ContainerSettings, ExposedPort, MountKind, Namespace, NetworkMode, Port, Protocol, Recursive,
    Restart, Service, Ulimit,
};

fn container(lines: &str) -> ContainerSettings {
    web(lines).container
}

/// `web` in a project with more at the top level.
fn web_in(lines: &str, more: &str) -> Service {
    file(&web_and(lines, more)).ok().project.services["web"].clone()
}

#[test]
fn limits_are_read_in_every_spelling() {
    let limits = |lines| container(lines).limits;
    assert_eq!(limits("memswap_limit: -1\nmem_limit: 1g").memswap_limit_bytes, Some(-1));
    assert_eq!(limits("shm_size: 64mb").shm_size_bytes, Some(64 << 20));
    assert_eq!(limits("pids_limit: '-1'").pids, Some(-1));
    assert_eq!(
        (limits("cpu_period: 50ms").cpu.period_us, limits("cpu_quota: -1").cpu.quota_us),
        (Some(50_000), Some(-1))
    );
    let nofile = |lines| limits(lines).ulimits["nofile"];
    assert_eq!(nofile("ulimits: {nofile: 1024}"), Ulimit { soft: 1024, hard: 1024 });
    assert_eq!(nofile("ulimits: {nofile: {soft: 1, hard: -1}}"), Ulimit { soft: 1, hard: -1 });
    each_is_refused(&[
        ("ulimits: {nofile: {soft: 5}}", "`soft` and `hard` belong together"),
        ("ulimits: {nofile: {soft: 5, hard: 1}}", "the soft limit is above the hard one"),
        ("ulimits: {nofle: 5}", "Did you mean `nofile`?"),
        ("mem_swappiness: 101", "not a whole number from 0 to 100"),
        ("oom_score_adj: 1001", "not a whole number from -1000 to 1000"),
        ("cpuset: one", "not a set of cores"),
        ("cpu_period: long", "not a time"),
        ("memswap_limit: 1g", "a limit of memory and swap without one of memory"),
        ("blkio_config: {weight: 5}", "not a whole number from 10 to 1000"),
        ("blkio_config: {device_read_bps: [{rate: 1m}]}", "`path` and `rate` are needed"),
    ]);
}

#[test]
fn deploys_resources_are_the_services_own_limits() {
    let lines = "deploy: {resources: {limits: {cpus: '0.5', memory: 1g, pids: 9}, reservations: {memory: 512m}}}";
    let c = container(lines);
    assert_eq!((c.cpus_milli, c.mem_limit_bytes, c.limits.pids), (Some(500), Some(1 << 30), Some(9)));
    assert_eq!(c.limits.mem_reservation_bytes, Some(512 << 20));
    assert_eq!(container(&format!("{lines}\nmem_limit: 1024m")).mem_limit_bytes, Some(1 << 30), "the same twice");
}

#[test]
fn a_restart_policy_counts_where_restart_is_not_written() {
    let restart = |lines| container(lines).restart;
    assert_eq!(restart("deploy: {restart_policy: {condition: on-failure, max_attempts: 3}}"), Restart::OnFailure(3));
    assert_eq!(restart("deploy: {restart_policy: {condition: any, delay: 5s, window: 1m}}"), Restart::Always);
    assert_eq!(restart("restart: 'no'\ndeploy: {restart_policy: {condition: any}}"), Restart::No);
}

#[test]
fn namespaces_and_rights_are_read() {
    let isolation = container(
        "privileged: true\ncap_add: [NET_ADMIN]\ncap_drop: [ALL]\nsysctls: [net.core.somaxconn=1024]\nipc: shareable\npid: container:x\nuts: host\ncgroup: private",
    )
    .isolation;
    assert!(isolation.privileged);
    assert_eq!((isolation.cap_add[0].as_str(), isolation.cap_drop[0].as_str()), ("NET_ADMIN", "ALL"));
    assert_eq!(isolation.sysctls["net.core.somaxconn"], "1024");
    assert_eq!((isolation.ipc, isolation.pid), (Some(Namespace::Shareable), Some(Namespace::Container("x".into()))));
    assert_eq!((isolation.uts, isolation.cgroup), (Some(Namespace::Host), Some(Namespace::Private)));
    let web = web_in("ipc: service:db", "  db: {image: d, ipc: shareable}\n");
    assert!(web.depends_on.contains_key("db"), "whose namespace is used comes first");
    each_is_refused(&[
        ("ipc: mine", "not one of `host`, `private`, `shareable`, `none`, `service:NAME`, `container:NAME`"),
        ("uts: service:x", "not one of `host`"),
        ("pid: service:none", "there is no service `none`"),
    ]);
}

#[test]
fn a_seccomp_profile_is_read_from_its_file() {
    let text = web_and("security_opt: ['seccomp:./profile.json', 'no-new-privileges:true', 'seccomp:unconfined']", "");
    let files: &[(&str, &str)] = &[("./profile.json", "{ \"defaultAction\":  \"SCMP_ACT_ALLOW\" }")];
    let parsed = Input { text: &text, files, ..Input::default() }.ok();
    assert_eq!(
        parsed.project.services["web"].container.isolation.security_opt,
        ["seccomp={\"defaultAction\":\"SCMP_ACT_ALLOW\"}", "no-new-privileges:true", "seccomp:unconfined"]
    );
    each_is_refused(&[("security_opt: ['seccomp:none.json']", "the seccomp profile cannot be read")]);
}

#[test]
fn devices_are_read_in_every_form() {
    for (device, want) in [
        ("/dev/a", ("/dev/a", "/dev/a", "rwm")),
        ("/dev/a:/dev/b", ("/dev/a", "/dev/b", "rwm")),
        ("/dev/a:/dev/b:r", ("/dev/a", "/dev/b", "r")),
        ("/dev/a:rw", ("/dev/a", "/dev/a", "rw")),
        ("vendor.com/class=name", ("vendor.com/class=name", "vendor.com/class=name", "rwm")),
        ("{source: /dev/a, target: /dev/b, permissions: m}", ("/dev/a", "/dev/b", "m")),
    ] {
        let devices = container(&format!("devices:\n  - {device}")).devices.devices;
        let got = (devices[0].source.as_str(), devices[0].target.as_str(), devices[0].permissions.as_str());
        assert_eq!(got, want, "{device}");
    }
    each_is_refused(&[
        ("devices: [ttyUSB0]", "the path of a device is absolute"),
        ("devices: ['/dev/a:/dev/b:x']", "not a device"),
        ("gpus: some", "not one of `all`"),
        ("gpus: [{count: 1, device_ids: ['0']}]", "`count` beside `device_ids`"),
        ("deploy: {resources: {reservations: {devices: [{count: 1}]}}}", "neither `capabilities` nor `driver`"),
    ]);
}

#[test]
fn names_and_resolvers_are_read() {
    let r =
        container("hostname: web1\nextra_hosts: ['a:10.0.0.1', 'b=::1', 'c:[::2]', 'd:host-gateway']\ndns: [1.1.1.1]")
            .resolver;
    assert_eq!(r.hostname.as_deref(), Some("web1"));
    assert_eq!(r.extra_hosts, ["a:10.0.0.1", "b:::1", "c:::2", "d:host-gateway"]);
    assert_eq!(container("extra_hosts: {a: [10.0.0.1, 10.0.0.2]}").resolver.extra_hosts, ["a:10.0.0.1", "a:10.0.0.2"]);
    let web = web_in("links: [db, 'db:mysql']", "  db: {image: d}\n");
    assert_eq!(web.links.iter().map(|link| link.alias.as_str()).collect::<Vec<_>>(), ["db", "mysql"]);
    assert!(web.depends_on.contains_key("db"));
    each_is_refused(&[
        ("extra_hosts: [a]", "not a name with an address"),
        ("extra_hosts: ['a:b']", "not a name with an address"),
        ("dns: [localhost]", "not an IP address"),
        ("hostname: a b", "not a host name"),
        ("links: [none]", "there is no service `none`"),
    ]);
}

#[test]
fn networks_are_joined_by_name_and_the_default_one_by_saying_nothing() {
    let more = "networks:\n  back: {internal: true, driver: bridge, ipam: {config: [{subnet: 172.28.0.0/16, gateway: 172.28.0.1}]}}\n  out: {external: true, name: shared}\n";
    let project = file(&web_and("networks: [back, out]", more)).ok().project;
    assert_eq!(project.services["web"].networks.keys().collect::<Vec<_>>(), ["back", "out"]);
    assert!(!project.networks.contains_key("default"), "nobody joins it");
    assert_eq!(
        (project.networks["back"].name.as_str(), project.networks["out"].name.as_str()),
        ("shop_back", "shared")
    );
    assert!(project.networks["back"].internal && project.networks["out"].external);
    let default = file(&web_and("", "networks: {default: {name: own}}\n")).ok().project;
    assert_eq!(default.networks["default"].name, "own");
    assert!(default.services["web"].networks.contains_key("default"));
    assert_eq!(file(&web_and("", "")).ok().project.networks["default"].name, "shop_default");
    for (lines, mode) in [
        ("network_mode: host", NetworkMode::Host),
        ("network_mode: none", NetworkMode::None),
        ("network_mode: bridge", NetworkMode::Bridge),
        ("network_mode: container:x", NetworkMode::Container("x".into())),
    ] {
        let web = web(lines);
        assert_eq!((web.network_mode, web.networks.len()), (Some(mode), 0), "{lines}");
    }
    assert!(web_warnings("network_mode: host\nports: ['80:80']").contains("no port is published"));
    for (lines, more, want) in [
        ("networks: [bak]", "networks: {back: }\n", "network `bak` is not defined. Did you mean `back`?"),
        ("networks: {back: {ipv4_address: '::1'}}", "networks: {back: }\n", "not an IPv4 address"),
        ("", "networks: {a: {external: true, driver: x}}\n", "networks.a.driver: an external network has no settings"),
        ("", "networks: {a: {ipam: {config: [{subnet: 10.0.0.0}]}}}\n", "not a range of addresses"),
        ("network_mode: shared", "", "A network by its name goes under `networks`"),
        ("network_mode: none\nports: ['80:80']", "", "published ports mean nothing in this network"),
        ("network_mode: host\nnetworks: [default]", "", "`networks` beside `network_mode`"),
    ] {
        let said = file(&web_and(lines, more)).fail();
        assert!(said.contains(want), "{lines}\n{want}\n{said}");
    }
}

#[test]
fn a_secret_of_a_file_is_mounted_and_one_of_a_variable_is_written() {
    let more = "secrets:\n  cert: {file: ./cert.pem}\n  key: {environment: KEY}\nconfigs:\n  app: {content: 'level=${LEVEL:-info}'}\n";
    let text = web_and("secrets: [cert, {source: key, target: tls.key, uid: 5, mode: 0400}]\nconfigs: [app]", more);
    let input = Input { text: &text, dotenv: Some("KEY=open sesame"), ..Input::default() };
    let c = input.ok().project.services["web"].container.clone();
    let mount = &c.mounts[0];
    assert_eq!((mount.kind, mount.source.as_deref()), (MountKind::Bind, Some("/srv/shop/cert.pem")));
    assert_eq!((mount.target.as_str(), mount.read_only, mount.create_host_path), ("/run/secrets/cert", true, false));
    assert_eq!((c.files[0].target.as_str(), c.files[0].content.as_str()), ("/run/secrets/tls.key", "open sesame"));
    assert_eq!((c.files[0].uid, c.files[0].mode, c.files[1].mode), (Some(5), 0o400, 0o444));
    assert_eq!((c.files[1].target.as_str(), c.files[1].content.as_str()), ("/app", "level=info"));
    assert!(!format!("{c:?}").contains("sesame"));
    let owned = web_and("secrets: [{source: cert, uid: 5}]", "secrets: {cert: {file: ./c}}\n");
    assert!(show(&file(&owned).ok().warnings).contains("owner and mode of a file of the host stay"));
    for (more, want) in [
        (
            "secrets: {cert: {external: true}}\n",
            "secrets.cert.external: not supported. It would be Swarm's. Put it into a file",
        ),
        ("secrets: {cert: {}}\n", "one of `file` or `environment` is needed"),
        (
            "secrets: {cert: {environment: NOBODY_SET_IT}}\n",
            "variable `NOBODY_SET_IT`, which the secret is made of, is not set",
        ),
        ("secrets: {crt: {file: x}}\n", "secret `cert` is not defined. Did you mean `crt`?"),
    ] {
        let said = file(&web_and("secrets: [cert]", more)).fail();
        assert!(said.contains(want), "{want}\n{said}");
    }
}

#[test]
fn mounts_of_other_kinds_are_read() {
    let c = container(
        "tmpfs: ['/run', '/tmp:size=1m,ro']\nvolumes: [{type: image, source: 'a:1', target: /i, image: {subpath: x}}, {type: bind, source: /a, target: /b, bind: {recursive: disabled}}]",
    );
    let kinds: Vec<_> = c.mounts.iter().map(|mount| mount.kind).collect();
    assert_eq!(kinds, [MountKind::Image, MountKind::Bind, MountKind::Tmpfs, MountKind::Tmpfs]);
    assert_eq!((c.mounts[0].subpath.as_deref(), c.mounts[0].read_only), (Some("x"), true));
    assert_eq!(c.mounts[1].recursive, Some(Recursive::Disabled));
    assert_eq!((c.mounts[3].options[0].as_str(), c.mounts[3].read_only), ("size=1m", true));
}

#[test]
fn mounts_of_another_service_are_taken_over() {
    let more = "  data: {image: d, volumes: ['v:/v', './x:/x']}\nvolumes: {v: }\n";
    let web = web_in("volumes_from: ['data:ro', 'container:old']\nvolumes: ['./own:/x']", more);
    let mounts: Vec<_> = web.container.mounts.iter().map(|m| (m.target.as_str(), m.read_only)).collect();
    assert_eq!(mounts, [("/x", false), ("/v", true)]);
    assert_eq!(web.container.volumes_from, ["old"]);
    assert!(web.depends_on.contains_key("data"));
    let anonymous = web_and("volumes_from: [data]", "  data: {image: d, volumes: [/v]}\n");
    assert!(file(&anonymous).fail().contains("has no name, so it cannot be shared"));
}

fn ports(lines: &str) -> Vec<(u16, u16, Protocol)> {
    web(lines).ports.iter().map(|Port { published, target, protocol, .. }| (*published, *target, *protocol)).collect()
}

#[test]
fn ranges_of_ports_and_udp_are_read() {
    use Protocol::{Tcp, Udp};
    assert_eq!(ports("ports: ['53:53/udp', '53:53']"), [(53, 53, Udp), (53, 53, Tcp)]);
    assert_eq!(ports("ports: ['8000-8001:9000-9001']"), [(8000, 9000, Tcp), (8001, 9001, Tcp)]);
    assert_eq!(
        ports("ports: ['8000:80', '8000-8005:81']"),
        [(8000, 80, Tcp), (8001, 81, Tcp)],
        "the first that is free"
    );
    assert_eq!(
        web("ports: [{target: 80, published: 80, app_protocol: HTTP2}]").ports[0].app_protocol.as_deref(),
        Some("http2")
    );
    let exposed = web("expose: [80, '81/udp', '90-91']").expose;
    assert_eq!(exposed.len(), 4);
    assert!(exposed.contains(&ExposedPort { port: 81, protocol: Udp }));
}

#[test]
fn a_port_without_a_published_one_gets_the_same_number_every_time() {
    let first = ports("ports: [80, 81]");
    assert_eq!(first, ports("ports: ['80', {target: 81}]"));
    assert!(first.iter().all(|(published, _, _)| *published >= 61_000) && first[0].0 != first[1].0);
    assert!(web_warnings("ports: [80]").contains("no published port is written: "));
    let two = file(&web_and("ports: [80]", "  api: {image: a, ports: [80]}\n")).ok().project.services;
    assert_ne!(two["web"].ports[0].published, two["api"].ports[0].published);
}

#[test]
fn what_there_is_one_of_cannot_run_side_by_side() {
    let fixed = "networks: {n: {ipv4_address: 10.0.0.9}}";
    let more = "networks: {n: }\n";
    for (lines, why) in [
        ("container_name: the-web", "its container is always called the-web"),
        ("ports: ['80:80']\nx-teal: {mode: direct}", "its container owns the published ports"),
        ("network_mode: host", "its ports are the host's"),
        ("mac_address: 02:42:ac:11:65:43", "its address is written down"),
    ] {
        assert!(web(lines).only_once().unwrap().contains(why), "{lines}");
    }
    assert!(web_in(fixed, more).only_once().is_some());
    assert_eq!(web("ports: ['80:80']").only_once(), None);
    each_is_refused(&[
        (
            "container_name: x1\nx-teal: {strategy: blue-green}",
            "two releases cannot run side by side: its container is always called x1",
        ),
        ("container_name: x1\nscale: 2", "2 replicas cannot run side by side"),
        ("container_name: a b", "not a container's name"),
    ]);
}

#[test]
fn jobs_are_what_others_wait_for_to_complete() {
    assert!(web("deploy: {mode: replicated-job}").is_job);
    let text = web_and(
        "depends_on: {init: {condition: service_completed_successfully, restart: true}}",
        "  init: {image: i}\n",
    );
    let services = file(&text).ok().project.services;
    assert!(services["init"].is_job && !services["web"].is_job);
    assert!(services["web"].depends_on["init"].restart);
}

#[test]
fn builds_are_read_in_every_form() {
    let text = web_and(
        "build:\n  context: ./app\n  args: [A=1, FROM_ENV, UNSET]\n  additional_contexts: {base: ../base, img: 'docker-image://alpine'}\n  secrets: [key, {source: token, target: t}]\n  ssh: [default]\n  tags: ['a:1']\n  labels: {x: y}\n  shm_size: 1m",
        "secrets: {key: {file: ./key}, token: {environment: TOKEN}}\n",
    );
    let input = Input { text: &text, environment: &[("FROM_ENV", "e")], ..Input::default() };
    let build = input.ok().project.services["web"].build.clone().unwrap();
    assert_eq!(build.context, "/srv/shop/app");
    assert_eq!(build.args.iter().map(|(k, v)| format!("{k}={v}")).collect::<Vec<_>>(), ["A=1", "FROM_ENV=e"]);
    assert_eq!(
        (build.additional_contexts["base"].as_str(), build.additional_contexts["img"].as_str()),
        ("/srv/base", "docker-image://alpine")
    );
    assert_eq!(build.secrets[0].from, BuildSecretSource::File("/srv/shop/key".into()));
    assert_eq!(
        (build.secrets[1].id.as_str(), &build.secrets[1].from),
        ("t", &BuildSecretSource::Environment("TOKEN".into()))
    );
    for (context, want) in
        [("https://github.com/acme/app.git#main", "https://github.com/acme/app.git#main"), (".", "/srv/shop")]
    {
        assert_eq!(web(&format!("build: {context}")).build.unwrap().context, want);
    }
    assert!(web("build: .\npull_policy: build").build.unwrap().always);
    each_is_refused(&[
        ("build: {isolation: hyperv}", "build.isolation: not supported"),
        ("build: {privileged: true}", "Use `entitlements"),
        ("build: {contxt: .}", "Did you mean `context`?"),
        ("build: {additional_contexts: {x: 'service:db'}}", "build that service first"),
    ]);
}
