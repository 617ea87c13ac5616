//! What is written is read as the same.

use std::collections::BTreeMap;
use teal_model::config::write::{may_be_secret, write};
use teal_model::config::*;

fn read_back(project: &Project) -> (Project, String, BTreeMap<String, String>) {
    let written = write(project, &["a heading"]);
    let secrets = written.secrets.clone();
    let read = move |path: &std::path::Path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        secrets.get(&name).cloned().ok_or_else(|| std::io::Error::from(std::io::ErrorKind::NotFound))
    };
    let sources = Sources {
        files: &[SourceFile { name: "compose.yaml", text: &written.compose }],
        profiles: &[],
        services: &[],
        directory: std::path::Path::new("/srv/shop"),
        // Would be seen where a `$` is not kept as it is.
        environment: &BTreeMap::from([("HOME".to_owned(), "/root".to_owned())]),
        dotenv: None,
        read: &read,
        project_name: None,
    };
    let parsed = parse(&sources).unwrap_or_else(|problems| panic!("{problems:#?}\n{}", written.compose));
    assert_eq!(parsed.warnings, [], "{}", written.compose);
    (parsed.project, written.compose, written.secrets)
}

fn project(service: Service) -> Project {
    let mut project = Project { name: "shop".to_owned(), directory: "/srv/shop".to_owned(), ..Project::default() };
    let mut service = Service { name: "web".to_owned(), ..service };
    if service.container.image.is_empty() {
        service.container.image = "registry:5000/shop/web:1.4".to_owned();
    }
    if service.networks.is_empty() && service.network_mode.is_none() {
        service.networks.insert(DEFAULT_NETWORK.to_owned(), Attachment::default());
    }
    for mount in &service.container.mounts {
        if let (MountKind::Volume, Some(name)) = (mount.kind, &mount.source) {
            let volume = Volume { name: name.clone(), external: true, ..Volume::default() };
            project.volumes.insert(name.clone(), volume);
        }
    }
    for key in service.networks.keys().filter(|key| *key != DEFAULT_NETWORK) {
        let network = Network { name: format!("{key} of docker"), external: true, ..Network::default() };
        project.networks.insert(key.clone(), network);
    }
    project.services.insert("web".to_owned(), service);
    project
}

fn same(service: Service) -> String {
    let wanted = project(service);
    let (read, text, _) = read_back(&wanted);
    assert_eq!(read.services, wanted.services, "{text}");
    assert_eq!(read.volumes, wanted.volumes, "{text}");
    let external =
        |project: &Project| project.networks.clone().into_iter().filter(|(_, one)| one.external).collect::<Vec<_>>();
    assert_eq!(external(&read), external(&wanted), "{text}");
    text
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

/// Texts that YAML, the interpolation or an env file could take for something else.
const ODD: [&str; 24] = [
    "",
    " ",
    "a b",
    "$HOME",
    "${HOME}",
    "$$",
    "a$",
    "yes",
    "no",
    "null",
    "~",
    "1",
    "1.0",
    "0x1f",
    "2026-01-01",
    "a: b",
    "a #b",
    "- a",
    "'a'",
    "\"a\"",
    "a\\nb",
    "one\ntwo\r\n\tthree\n",
    "schlüssel \u{1f511} \u{2028}\u{85}\u{7f}\u{1}",
    "{a: [b]}",
];

#[test]
fn every_text_comes_back_as_it_was() {
    let named = |prefix: &'static str| {
        ODD.iter().enumerate().map(move |(at, text)| (format!("{prefix}{at}"), (*text).to_owned()))
    };
    same(Service {
        container: ContainerSettings {
            environment: named("OPEN_").chain(named("SECRET_")).collect(),
            labels: named("a.label/").collect(),
            command: Some(words(&ODD)),
            entrypoint: Some(words(&["/bin/sh", "-c", "exec \"$0\" \"$@\"; # $1"])),
            ..Default::default()
        },
        ..Default::default()
    });
}

#[test]
fn every_setting_comes_back_as_it_was() {
    let mount = |kind, source: Option<&str>, target: &str| Mount {
        kind,
        source: source.map(str::to_owned),
        target: target.to_owned(),
        create_host_path: kind == MountKind::Bind,
        ..Mount::default()
    };
    let bind = mount(MountKind::Bind, Some("/srv/a"), "/a");
    let volume = mount(MountKind::Volume, Some("data"), "/b");
    let text = same(Service {
        container: ContainerSettings {
            user: Some("1000:1000".to_owned()),
            group_add: words(&["audio", "44"]),
            working_dir: Some("/app".to_owned()),
            restart: Restart::OnFailure(3),
            healthcheck: Some(Healthcheck {
                test: Some(words(&["CMD-SHELL", "curl -f http://localhost/?a=$B || exit 1"])),
                interval_ms: Some(1500),
                timeout_ms: Some(2000),
                start_period_ms: Some(60_000),
                start_interval_ms: Some(1),
                retries: Some(4),
            }),
            stop_signal: Some("SIGQUIT".to_owned()),
            stop_grace_period_ms: 1500,
            mounts: vec![
                bind.clone(),
                Mount { target: "/a2".into(), read_only: true, options: words(&["rslave", "z"]), ..bind.clone() },
                Mount {
                    target: "/a3".into(),
                    create_host_path: false,
                    recursive: Some(Recursive::Disabled),
                    ..bind.clone()
                },
                Mount { target: "/a4".into(), source: Some("/srv/x:y".into()), ..bind },
                volume.clone(),
                Mount { target: "/b2".into(), options: words(&["nocopy"]), ..volume.clone() },
                Mount { target: "/b3".into(), subpath: Some("part".into()), ..volume },
                mount(MountKind::Volume, None, "/anonymous"),
                Mount {
                    labels: [("a".to_owned(), "b".to_owned())].into(),
                    ..mount(MountKind::Volume, None, "/labelled")
                },
                Mount { read_only: true, ..mount(MountKind::Image, Some("assets:1"), "/image") },
                Mount { options: words(&["size=1048576", "mode=1777"]), ..mount(MountKind::Tmpfs, None, "/t") },
                Mount { read_only: true, ..mount(MountKind::Tmpfs, None, "/t2") },
            ],
            mem_limit_bytes: Some(64 << 20),
            cpus_milli: Some(1250),
            limits: Limits {
                mem_reservation_bytes: Some(32 << 20),
                memswap_limit_bytes: Some(-1),
                mem_swappiness: Some(10),
                pids: Some(100),
                oom_kill_disable: true,
                oom_score_adj: Some(-500),
                shm_size_bytes: Some(1 << 20),
                ulimits: [("nofile".to_owned(), Ulimit { soft: 100, hard: 200 })].into(),
                cpu: CpuLimits {
                    shares: Some(512),
                    period_us: Some(100_000),
                    quota_us: None,
                    rt_period_us: Some(1_000_000),
                    rt_runtime_us: Some(950_000),
                    set: Some("0,1".to_owned()),
                },
                blkio: BlkioLimits {
                    weight: Some(300),
                    weight_device: [("/dev/sda".to_owned(), 400)].into(),
                    read_bps: [("/dev/sda".to_owned(), 1 << 20)].into(),
                    write_bps: [("/dev/sda".to_owned(), 2 << 20)].into(),
                    read_iops: [("/dev/sda".to_owned(), 120)].into(),
                    write_iops: [("/dev/sda".to_owned(), 30)].into(),
                },
                storage_opt: [("size".to_owned(), "10G".to_owned())].into(),
            },
            isolation: Isolation {
                privileged: true,
                cap_add: words(&["CAP_NET_ADMIN"]),
                cap_drop: words(&["ALL"]),
                security_opt: words(&["no-new-privileges:true", "systempaths=unconfined"]),
                sysctls: [("net.core.somaxconn".to_owned(), "1024".to_owned())].into(),
                ipc: Some(Namespace::Shareable),
                pid: Some(Namespace::Host),
                uts: Some(Namespace::Host),
                userns: Some(Namespace::Host),
                cgroup: Some(Namespace::Private),
                cgroup_parent: Some("/limits".to_owned()),
            },
            devices: Devices {
                devices: vec![Device {
                    source: "/dev/null".into(),
                    target: "/dev/zero".into(),
                    permissions: "rw".into(),
                }],
                cgroup_rules: words(&["c 1:3 mr"]),
                requests: vec![
                    DeviceRequest { count: Some(-1), capabilities: words(&["gpu"]), ..Default::default() },
                    DeviceRequest {
                        driver: Some("nvidia".into()),
                        device_ids: words(&["0", "GPU-1"]),
                        capabilities: words(&["gpu", "compute"]),
                        ..Default::default()
                    },
                ],
            },
            resolver: Resolver {
                hostname: Some("web".to_owned()),
                domainname: Some("example.com".to_owned()),
                extra_hosts: words(&["db:10.0.0.1", "six:fd00::1", "host:host-gateway"]),
                dns: words(&["10.0.0.53", "fd00::53"]),
                dns_search: words(&["example.com"]),
                dns_opt: words(&["ndots:2"]),
            },
            logging: Some(Logging {
                driver: Some("json-file".to_owned()),
                options: [("max-size".to_owned(), "10m".to_owned())].into(),
            }),
            annotations: [("run.oci.keep".to_owned(), "1".to_owned())].into(),
            platform: Some("linux/amd64".to_owned()),
            runtime: Some("runsc".to_owned()),
            init: Some(false),
            read_only: true,
            stdin_open: true,
            tty: true,
            ..Default::default()
        },
        ports: [(None, 80, Protocol::Tcp), (Some("127.0.0.1"), 22, Protocol::Tcp), (Some("::1"), 53, Protocol::Udp)]
            .map(|(ip, port, protocol)| Port {
                host_ip: ip.map(|ip| ip.parse().unwrap()),
                published: port,
                target: port,
                protocol,
                app_protocol: None,
            })
            .into(),
        expose: vec![ExposedPort { port: 9000, protocol: Protocol::Udp }],
        networks: [
            (
                "back".to_owned(),
                Attachment {
                    aliases: words(&["web-blue", "8.example"]),
                    ipv4_address: Some("172.28.0.5".parse().unwrap()),
                    ipv6_address: Some("fd00::5".parse().unwrap()),
                    gw_priority: 2,
                    driver_opts: [("com.example.a".to_owned(), "1".to_owned())].into(),
                    ..Default::default()
                },
            ),
            ("front".to_owned(), Attachment::default()),
        ]
        .into(),
        external_links: words(&["db:database"]),
        ..Default::default()
    });
    assert!(
        text.starts_with("# a heading\nname: shop\nservices:\n  web:\n    image: registry:5000/shop/web:1.4\n"),
        "{text}"
    );
}

#[test]
fn what_excludes_each_other_comes_back_too() {
    for mode in [NetworkMode::Host, NetworkMode::None, NetworkMode::Container("db".to_owned())] {
        same(Service { network_mode: Some(mode), ..Default::default() });
    }
    for restart in [Restart::No, Restart::Always, Restart::UnlessStopped, Restart::OnFailure(0)] {
        same(Service { container: ContainerSettings { restart, ..Default::default() }, ..Default::default() });
    }
    let quota = Limits { cpu: CpuLimits { quota_us: Some(50_000), ..Default::default() }, ..Default::default() };
    let cleared = ContainerSettings {
        command: Some(Vec::new()),
        entrypoint: Some(Vec::new()),
        limits: quota,
        ..Default::default()
    };
    same(Service { container: cleared, ..Default::default() });
    let off = Healthcheck { test: Some(words(&["NONE"])), ..Default::default() };
    same(Service {
        container: ContainerSettings { healthcheck: Some(off), ..Default::default() },
        ..Default::default()
    });
}

#[test]
fn what_may_be_secret_is_not_in_the_compose_file() {
    let environment = [("PGPASSWORD", "hunter2"), ("DATABASE_URL", "postgres://u:hunter2@db/x"), ("MODE", "hunter3")];
    let environment = environment.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
    let container = ContainerSettings { environment, ..Default::default() };
    let (_, text, secrets) = read_back(&project(Service { container, ..Default::default() }));
    assert!(
        text.contains("env_file: [web.env]") && text.contains("MODE: hunter3") && !text.contains("hunter2"),
        "{text}"
    );
    assert_eq!(secrets["web.env"], "DATABASE_URL=postgres://u:hunter2@db/x\nPGPASSWORD=hunter2\n");
    for (name, value, is) in [
        ("API_KEY", "x", true),
        ("MONKEY", "x", false),
        ("GITHUB_TOKEN", "x", true),
        ("ClientSecret", "x", true),
        ("COMPASS", "x", false),
        ("CERT", "-----BEGIN PRIVATE KEY-----", true),
        ("URL", "https://example.com/a:b@c", false),
        ("AMQP", "amqp://user:pw@mq:5672", true),
    ] {
        assert_eq!(may_be_secret(name, value), is, "{name}={value}");
    }
}
