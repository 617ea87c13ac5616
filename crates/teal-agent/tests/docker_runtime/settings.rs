//! What the team wrote about a container, as Docker has it.

use super::*;

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
