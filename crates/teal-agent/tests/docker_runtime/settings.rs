//! What the team wrote about a container, as Docker has it.

use super::*;
use teal_model::config::{
    BlkioLimits, ContainerSettings, CpuLimits, Device, DeviceRequest, Devices, Isolation, Limits, Namespace, Recursive,
    Resolver, Ulimit,
};

#[tokio::test]
async fn every_setting_arrives() {
    let place = Place::new().await;
    let host = tempfile::tempdir().unwrap();
    let missing = host.path().join("made/by/docker");
    let volume = place.name("data");
    place.runtime.ensure_volume(&volume, None, &BTreeMap::new(), &place.labels()).await.unwrap();
    let mut spec = place.spec("a", &["facts", "/bind", "/bind-ro", "/volume", "/anonymous", "/tmpfs"]);
    let s = &mut spec.settings;
    s.environment = BTreeMap::from([("A".into(), "one two=3".into()), ("B".into(), String::new())]);
    s.labels = BTreeMap::from([("team".into(), "core".into())]);
    s.user = Some("12:34".into());
    s.working_dir = Some("/work/here".into());
    s.stop_signal = Some("SIGUSR1".into());
    s.stop_grace_period_ms = 2_500;
    s.mem_limit_bytes = Some(64 << 20);
    s.cpus_milli = Some(500);
    s.logging =
        Some(Logging { driver: Some("json-file".into()), options: BTreeMap::from([("max-size".into(), "1m".into())]) });
    s.healthcheck = Some(Healthcheck {
        test: Some(words(&["CMD", "/app", "exit", "0"])),
        interval_ms: Some(1500),
        timeout_ms: None,
        start_period_ms: Some(100),
        retries: Some(4),
        ..Default::default()
    });
    s.mounts = vec![
        mount(MountKind::Bind, missing.to_str(), "/bind"),
        Mount {
            read_only: true,
            create_host_path: false,
            options: words(&["rprivate"]),
            ..mount(MountKind::Bind, host.path().to_str(), "/bind-ro")
        },
        Mount { options: words(&["nocopy"]), ..mount(MountKind::Volume, Some(&volume), "/volume") },
        mount(MountKind::Volume, None, "/anonymous"),
        Mount { options: words(&["size=64k", "mode=1777"]), ..mount(MountKind::Tmpfs, None, "/tmpfs") },
    ];
    let text = place.output(&spec).await;
    assert!(text.starts_with("uid=12 gid=34 cwd=/work/here A=one two=3 B=\n"), "{text}");
    for (path, state) in
        [("/bind-ro", "read-only"), ("/tmpfs", "writable"), ("/volume", "read-only"), ("/anonymous", "read-only")]
    {
        // uid 12 may write to the tmpfs alone; the rest shows that it is there.
        assert!(text.contains(&format!("{path} {state}")), "{text}");
    }
    assert!(missing.is_dir());
    let name = &spec.name;
    for (of, wanted) in [
        (".Config.StopSignal", r#""SIGUSR1""#),
        (".Config.StopTimeout", "3"),
        (".HostConfig.Memory", "67108864"),
        (".HostConfig.NanoCpus", "500000000"),
        (".HostConfig.RestartPolicy.Name", r#""no""#),
        (".HostConfig.LogConfig", r#"{"Type":"json-file","Config":{"max-size":"1m"}}"#),
        (".Config.Healthcheck.Test", r#"["CMD","/app","exit","0"]"#),
        (".Config.Healthcheck.Interval", "1500000000"),
        (".Config.Healthcheck.Retries", "4"),
        (r#"(index .Config.Labels "team")"#, r#""core""#),
        (r#"(index .Config.Labels "teal.service")"#, r#""web""#),
    ] {
        assert_eq!(fact(name, of), wanted, "{of}");
    }
    let mounts = fact(name, ".Mounts");
    assert!(mounts.contains(&volume) && mounts.matches(r#""Type":"volume""#).count() == 2, "{mounts}");
    assert!(fact(name, ".NetworkSettings.Networks").contains(r#""a""#));
    assert!(fact(name, ".HostConfig.Tmpfs").contains("size=64k"));
}

#[tokio::test]
async fn an_empty_command_or_entrypoint_clears_the_images_own() {
    let place = Place::new().await;
    let mut kept = place.spec("kept", &[]);
    kept.settings.command = None;
    let made = place.runtime.ensure_container(&kept).await.unwrap();
    assert_eq!(
        (fact(&made.id, ".Config.Entrypoint"), fact(&made.id, ".Config.Cmd")),
        (r#"["/app"]"#.into(), r#"["serve"]"#.into())
    );

    let cleared = place.runtime.ensure_container(&place.spec("cleared", &[])).await.unwrap();
    assert_eq!(fact(&cleared.id, ".Path"), r#""/app""#);
    assert_eq!(fact(&cleared.id, ".Args"), "[]");

    let mut bare = place.spec("bare", &["/app", "args", "x y"]);
    bare.settings.entrypoint = Some(Vec::new());
    assert_eq!(place.output(&bare).await, "[/app][args][x y]");

    let mut nothing = place.spec("nothing", &[]);
    nothing.settings.entrypoint = Some(Vec::new());
    assert!(matches!(place.runtime.ensure_container(&nothing).await, Err(RuntimeError::Refused { .. })));
}

#[tokio::test]
async fn the_restart_policy_is_no_until_it_is_set() {
    let place = Place::new().await;
    let mut now = place.spec("now", &["serve"]);
    now.settings.restart = Restart::OnFailure(3);
    now.restart_now = true;
    let now = place.runtime.ensure_container(&now).await.unwrap();
    assert_eq!(fact(&now.id, ".HostConfig.RestartPolicy"), r#"{"Name":"on-failure","MaximumRetryCount":3}"#);

    let later = place.run(&place.spec("later", &["serve"])).await;
    for (restart, name) in
        [(Restart::UnlessStopped, "unless-stopped"), (Restart::Always, "always"), (Restart::No, "no")]
    {
        place.runtime.set_restart(&later.id, restart).await.unwrap();
        assert_eq!(fact(&later.id, ".HostConfig.RestartPolicy.Name"), format!("\"{name}\""));
    }
}

/// Asserts what Docker has of a container, each by its path in `docker inspect`.
fn has(name: &str, wanted: &[(&str, &str)]) {
    for (of, wanted) in wanted {
        assert_eq!(fact(name, of), *wanted, "{of}");
    }
}

#[tokio::test]
async fn every_limit_arrives() {
    let place = Place::new().await;
    let mut spec = place.spec("a", &["serve"]);
    let s = &mut spec.settings;
    s.mem_limit_bytes = Some(64 << 20);
    s.limits = Limits {
        mem_reservation_bytes: Some(32 << 20),
        memswap_limit_bytes: Some(-1),
        mem_swappiness: Some(10),
        pids: Some(50),
        oom_kill_disable: true,
        oom_score_adj: Some(100),
        shm_size_bytes: Some(8 << 20),
        ulimits: BTreeMap::from([("nofile".into(), Ulimit { soft: 1024, hard: 2048 })]),
        cpu: CpuLimits {
            shares: Some(512),
            period_us: Some(100_000),
            quota_us: Some(50_000),
            set: Some("0".into()),
            ..Default::default()
        },
        ..Default::default()
    };
    place.run(&spec).await;
    has(
        &spec.name,
        &[
            (".HostConfig.Memory", "67108864"),
            (".HostConfig.MemoryReservation", "33554432"),
            (".HostConfig.MemorySwap", "-1"),
            (".HostConfig.MemorySwappiness", "10"),
            (".HostConfig.PidsLimit", "50"),
            (".HostConfig.OomKillDisable", "true"),
            (".HostConfig.OomScoreAdj", "100"),
            (".HostConfig.ShmSize", "8388608"),
            (".HostConfig.Ulimits", r#"[{"Name":"nofile","Hard":2048,"Soft":1024}]"#),
            (".HostConfig.CpuShares", "512"),
            (".HostConfig.CpuPeriod", "100000"),
            (".HostConfig.CpuQuota", "50000"),
            (".HostConfig.CpusetCpus", r#""0""#),
        ],
    );
    let device = || BTreeMap::from([("/dev/null".to_owned(), 1_048_576u64)]);
    let mut spec = place.spec("disks", &["serve"]);
    spec.settings.limits.blkio = BlkioLimits {
        read_bps: device(),
        write_bps: device(),
        read_iops: device(),
        write_iops: device(),
        ..Default::default()
    };
    place.runtime.ensure_container(&spec).await.unwrap();
    for key in ["ReadBps", "WriteBps", "ReadIOps", "WriteIOps"] {
        has(&spec.name, &[(&format!(".HostConfig.BlkioDevice{key}"), r#"[{"Path":"/dev/null","Rate":1048576}]"#)]);
    }
}

#[tokio::test]
async fn what_a_container_shares_and_may_do_arrives() {
    let place = Place::new().await;
    let mut spec = place.spec("a", &["facts", "/", "/writable", "/dev/shm"]);
    let s = &mut spec.settings;
    s.init = Some(false);
    s.read_only = true;
    s.tty = true;
    s.stdin_open = true;
    s.runtime = Some("runc".into());
    s.platform = Some("linux/amd64".into());
    s.group_add = words(&["1000", "2000"]);
    s.mounts = vec![mount(MountKind::Tmpfs, None, "/writable")];
    s.isolation = Isolation {
        cap_add: words(&["NET_ADMIN"]),
        cap_drop: words(&["ALL"]),
        security_opt: words(&["no-new-privileges:true", "systempaths=unconfined"]),
        sysctls: BTreeMap::from([("net.core.somaxconn".into(), "512".into())]),
        ipc: Some(Namespace::Shareable),
        userns: Some(Namespace::Host),
        cgroup: Some(Namespace::Private),
        cgroup_parent: Some("/teal-test".into()),
        ..Default::default()
    };
    s.devices = Devices {
        devices: vec![Device { source: "/dev/null".into(), target: "/dev/nothing".into(), permissions: "rw".into() }],
        cgroup_rules: words(&["c 1:3 mr"]),
        requests: Vec::new(),
    };
    s.resolver = Resolver {
        hostname: Some("web".into()),
        domainname: Some("example.com".into()),
        extra_hosts: words(&["printer:10.0.0.9"]),
        dns: words(&["10.0.0.53"]),
        dns_search: words(&["example.com"]),
        dns_opt: words(&["ndots:2"]),
    };
    if std::env::consts::ARCH != "x86_64" {
        s.platform = None;
    }
    let text = place.output(&spec).await;
    for wanted in ["/ read-only", "/writable writable", "/dev/shm writable"] {
        assert!(text.contains(wanted), "{text}");
    }
    has(
        &spec.name,
        &[
            (".HostConfig.Init", "false"),
            (".HostConfig.ReadonlyRootfs", "true"),
            (".Config.Tty", "true"),
            (".Config.OpenStdin", "true"),
            (".HostConfig.Runtime", r#""runc""#),
            (".HostConfig.GroupAdd", r#"["1000","2000"]"#),
            (".HostConfig.CapAdd", r#"["NET_ADMIN"]"#),
            (".HostConfig.CapDrop", r#"["ALL"]"#),
            (".HostConfig.SecurityOpt", r#"["no-new-privileges:true"]"#),
            (".HostConfig.MaskedPaths", "[]"),
            (".HostConfig.ReadonlyPaths", "[]"),
            (".HostConfig.Sysctls", r#"{"net.core.somaxconn":"512"}"#),
            (".HostConfig.IpcMode", r#""shareable""#),
            (".HostConfig.UsernsMode", r#""host""#),
            (".HostConfig.CgroupnsMode", r#""private""#),
            (".HostConfig.CgroupParent", r#""/teal-test""#),
            (
                ".HostConfig.Devices",
                r#"[{"PathOnHost":"/dev/null","PathInContainer":"/dev/nothing","CgroupPermissions":"rw"}]"#,
            ),
            (".HostConfig.DeviceCgroupRules", r#"["c 1:3 mr"]"#),
            (".Config.Hostname", r#""web""#),
            (".Config.Domainname", r#""example.com""#),
            (".HostConfig.ExtraHosts", r#"["printer:10.0.0.9"]"#),
            (".HostConfig.Dns", r#"["10.0.0.53"]"#),
            (".HostConfig.DnsSearch", r#"["example.com"]"#),
            (".HostConfig.DnsOptions", r#"["ndots:2"]"#),
        ],
    );
}

#[tokio::test]
async fn namespaces_of_the_host_and_of_other_containers_are_joined() {
    let place = Place::new().await;
    let mut owner = place.spec("owner", &["serve"]);
    owner.settings.isolation.ipc = Some(Namespace::Shareable);
    let owner = place.run(&owner).await;
    let mut spec = place.spec("joins", &["serve"]);
    spec.settings.isolation.ipc = Some(Namespace::Service("owner".into()));
    spec.settings.isolation.pid = Some(Namespace::Container(owner.name.clone()));
    let error = place.runtime.ensure_container(&spec).await.unwrap_err();
    assert!(error.to_string().contains("service:owner"), "{error}");
    spec.joins.insert("owner".into(), owner.id.clone());
    place.run(&spec).await;
    has(
        &spec.name,
        &[
            (".HostConfig.IpcMode", &format!("\"container:{}\"", owner.id)),
            (".HostConfig.PidMode", &format!("\"container:{}\"", owner.id)),
        ],
    );
    let mut spec = place.spec("host", &["serve"]);
    let host = || Some(Namespace::Host);
    spec.settings.isolation = Isolation { ipc: host(), pid: host(), uts: host(), cgroup: host(), ..Default::default() };
    place.run(&spec).await;
    has(
        &spec.name,
        &[
            (".HostConfig.IpcMode", r#""host""#),
            (".HostConfig.PidMode", r#""host""#),
            (".HostConfig.UTSMode", r#""host""#),
            (".HostConfig.CgroupnsMode", r#""host""#),
        ],
    );
    // Created alone: where the daemon is itself confined, it cannot start one.
    let mut spec = place.spec("privileged", &["serve"]);
    spec.settings.isolation.privileged = true;
    place.runtime.ensure_container(&spec).await.unwrap();
    has(&spec.name, &[(".HostConfig.Privileged", "true")]);
}

#[tokio::test]
async fn gpus_are_asked_for_as_docker_takes_them() {
    let place = Place::new().await;
    let mut spec = place.spec("a", &["serve"]);
    spec.settings.devices.requests = vec![DeviceRequest {
        driver: Some("nvidia".into()),
        device_ids: words(&["0", "3"]),
        capabilities: words(&["gpu", "compute"]),
        options: BTreeMap::from([("k".into(), "v".into())]),
        ..Default::default()
    }];
    place.runtime.ensure_container(&spec).await.unwrap();
    let wanted = r#"[{"Driver":"nvidia","Count":0,"DeviceIDs":["0","3"],"Capabilities":[["gpu","compute"]],"Options":{"k":"v"}}]"#;
    has(&spec.name, &[(".HostConfig.DeviceRequests", wanted)]);
}

#[tokio::test]
async fn mounts_of_other_containers_and_without_those_below_arrive() {
    let place = Place::new().await;
    let host = tempfile::tempdir().unwrap();
    let mut owner = place.spec("owner", &["serve"]);
    owner.settings.mounts = vec![mount(MountKind::Volume, None, "/shared")];
    let owner = place.run(&owner).await;
    let mut spec = place.spec("a", &["facts", "/shared", "/flat"]);
    spec.settings.volumes_from = vec![format!("{}:ro", owner.name)];
    spec.settings.mounts = vec![Mount {
        create_host_path: false,
        recursive: Some(Recursive::Disabled),
        ..mount(MountKind::Bind, host.path().to_str(), "/flat")
    }];
    let text = place.output(&spec).await;
    assert!(text.contains("/shared read-only") && text.contains("/flat writable"), "{text}");
    assert_eq!(place.seen(&spec.name).await.volumes["/shared"], owner.volumes["/shared"]);
    let mounts = fact(&spec.name, "(index .HostConfig.Mounts 0)");
    assert!(mounts.contains(r#""NonRecursive":true"#), "{mounts}");
}

#[tokio::test]
async fn what_this_engine_is_too_old_for_is_refused_by_key_and_leaves_nothing() {
    let place = Place::new().await;
    let engine = place.runtime.engine().await.unwrap();
    if engine.api_version != "1.41" {
        return;
    }
    let volume = mount(MountKind::Volume, Some("v"), "/v");
    let plain = ContainerSettings::default;
    let part = Mount { subpath: Some("x".into()), ..volume.clone() };
    let image = Mount { kind: MountKind::Image, ..volume };
    let device = Device { source: "vendor.com/gpu=0".into(), ..Default::default() };
    for (key, settings) in [
        ("annotations", ContainerSettings { annotations: BTreeMap::from([("a".into(), "b".into())]), ..plain() }),
        ("subpath", ContainerSettings { mounts: vec![part], ..plain() }),
        ("image", ContainerSettings { mounts: vec![image], ..plain() }),
        ("CDI", ContainerSettings { devices: Devices { devices: vec![device], ..Default::default() }, ..plain() }),
    ] {
        let spec = ContainerSpec { settings, ..place.spec("a", &["serve"]) };
        let error = place.runtime.ensure_container(&spec).await.unwrap_err();
        assert!(matches!(&error, RuntimeError::Refused { why, .. } if why.contains(key)), "{error}");
    }
    assert_eq!(place.runtime.list(&[(label::AGENT, &place.id)]).await.unwrap(), []);
    // The agent runs the test itself in the start period, so this is no reason to refuse.
    let mut spec = place.spec("checked", &["serve"]);
    spec.settings.healthcheck = Some(Healthcheck {
        test: Some(words(&["CMD", "/app", "exit", "0"])),
        start_interval_ms: Some(100),
        ..Default::default()
    });
    place.run(&spec).await;
}

#[tokio::test]
async fn what_the_storage_driver_cannot_do_is_docker_s_to_say() {
    let place = Place::new().await;
    let mut spec = place.spec("a", &["serve"]);
    spec.settings.limits.storage_opt = BTreeMap::from([("no-such-option".into(), "1".into())]);
    let error = place.runtime.ensure_container(&spec).await.unwrap_err();
    assert!(matches!(error, RuntimeError::Refused { .. }), "{error}");
}
