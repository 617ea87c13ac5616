//! Containers made, started, stopped and removed.

use super::*;

#[tokio::test]
async fn the_engine_tells_its_version_and_the_agreed_api() {
    let engine = DockerRuntime::from_env().unwrap().engine().await.unwrap();
    assert_eq!(engine.version, docker(&["version", "-f", "{{.Server.Version}}"]));
    assert!(engine.api_version.starts_with("1.") && engine.root_dir.starts_with('/'), "{engine:?}");
    let live_restore = docker(&["info", "-f", "{{.LiveRestoreEnabled}}"]) == "true";
    assert_eq!(engine.live_restore, live_restore);
    let at_its_address =
        |name: &str| docker(&["network", "inspect", "-f", "{{range .IPAM.Config}}{{.Gateway}}{{end}}", name]);
    let here = std::net::UdpSocket::bind((at_its_address("bridge").as_str(), 0)).is_ok();
    assert_eq!(engine.unreachable.is_none(), here, "{:?}", engine.unreachable);
}

#[tokio::test]
async fn a_container_lives_its_life_and_every_step_may_be_repeated() {
    let place = Place::new().await;
    let rt = &place.runtime;
    let spec = place.spec("a", &["serve"]);
    let made = rt.ensure_container(&spec).await.unwrap();
    assert_eq!((made.status.clone(), made.pid, made.health.clone()), (Status::Created, 0, None));
    assert_eq!((made.name.as_str(), made.image_id.as_str()), (spec.name.as_str(), place.image.id.as_str()));
    assert_eq!(rt.ensure_container(&spec).await.unwrap(), made);

    rt.start(&made.id).await.unwrap();
    rt.start(&made.id).await.unwrap();
    let running = place.seen(&made.id).await;
    assert_eq!(running.status, Status::Running);
    assert!(running.pid > 1 && running.started_at > made.started_at);
    assert!(running.addresses[&place.network].is_ipv4());
    assert_eq!(rt.ensure_container(&spec).await.unwrap(), running);

    rt.stop(&made.id, GRACE).await.unwrap();
    rt.stop(&made.id, GRACE).await.unwrap();
    let stopped = place.seen(&spec.name).await;
    assert_eq!((stopped.status, stopped.pid), (Status::Exited { code: 0, out_of_memory: false }, 0));

    rt.remove(&made.id, false).await.unwrap();
    rt.remove(&made.id, false).await.unwrap();
    rt.stop(&made.id, GRACE).await.unwrap();
    assert_eq!(rt.inspect(&made.id).await.unwrap(), None);
    assert!(matches!(rt.start(&made.id).await, Err(RuntimeError::NotFound { kind: "container", .. })));
    assert!(matches!(rt.set_restart(&made.id, Restart::No).await, Err(RuntimeError::NotFound { .. })));
}

#[tokio::test]
async fn a_name_taken_by_something_else_is_refused_and_nothing_touched() {
    let place = Place::new().await;
    let spec = place.spec("a", &["serve"]);
    place.runtime.ensure_container(&spec).await.unwrap();
    let mut other = spec.clone();
    other.labels.insert(label::RELEASE.into(), "2".into());
    let error = place.runtime.ensure_container(&other).await.unwrap_err();
    assert!(error.to_string().contains("another release"), "{error}");

    let stranger = place.spec("stranger", &["serve"]);
    docker(&["create", "--name", &stranger.name, &place.image.name]);
    let error = place.runtime.ensure_container(&stranger).await.unwrap_err();
    docker(&["rm", &stranger.name]);
    assert!(error.to_string().contains("Teal did not make"), "{error}");
}

#[tokio::test]
async fn a_create_that_fails_leaves_nothing_behind_and_quotes_no_secret() {
    let place = Place::new().await;
    let mut spec = place.spec("a", &["serve"]);
    spec.settings.environment.insert("PASSWORD".into(), "hunter2".into());
    spec.settings.mounts =
        vec![Mount { create_host_path: false, ..mount(MountKind::Bind, Some("/nowhere/at/all"), "/x") }];
    let error = place.runtime.ensure_container(&spec).await.unwrap_err();
    assert!(matches!(error, RuntimeError::Refused { .. }) && error.to_string().contains("/nowhere/at/all"), "{error}");
    assert!(!format!("{error:?}").contains("hunter2"));
    assert_eq!(place.runtime.list(&[(label::AGENT, &place.id)]).await.unwrap(), []);

    let mut spec = place.spec("a", &["serve"]);
    spec.image_id = format!("sha256:{}", "0".repeat(64));
    let error = place.runtime.ensure_container(&spec).await.unwrap_err();
    assert!(matches!(error, RuntimeError::NotFound { kind: "image", .. }), "{error}");
}

#[tokio::test]
async fn a_start_that_fails_says_why() {
    let place = Place::new().await;
    let mut spec = place.spec("a", &[]);
    spec.settings.entrypoint = Some(words(&["/no-such-program"]));
    let made = place.runtime.ensure_container(&spec).await.unwrap();
    let error = place.runtime.start(&made.id).await.unwrap_err();
    assert!(matches!(&error, RuntimeError::Refused { why, .. } if why.contains("/no-such-program")), "{error}");
    assert_ne!(place.seen(&made.id).await.status, Status::Running);
}

#[tokio::test]
async fn a_graceful_stop_returns_when_the_container_is_gone() {
    let place = Place::new().await;
    let made = place.run(&place.spec("a", &["serve"])).await;
    let begin = Instant::now();
    place.runtime.stop(&made.id, Duration::from_secs(30)).await.unwrap();
    assert!(begin.elapsed() < Duration::from_secs(3), "{:?}", begin.elapsed());
}

#[tokio::test]
async fn the_grace_of_a_stop_counts_in_milliseconds() {
    let place = Place::new().await;
    let made = place.run(&place.spec("a", &["deaf"])).await;
    let begin = Instant::now();
    place.runtime.stop(&made.id, Duration::from_millis(300)).await.unwrap();
    let took = begin.elapsed();
    // Docker's own stop would take 1 s.
    assert!(took >= Duration::from_millis(300) && took < Duration::from_millis(900), "{took:?}");
    assert_eq!(place.seen(&made.id).await.status, Status::Exited { code: 137, out_of_memory: false });

    let made = place.run(&place.spec("b", &["deaf"])).await;
    let begin = Instant::now();
    place.runtime.stop(&made.id, Duration::from_secs(1)).await.unwrap();
    assert!(begin.elapsed() >= Duration::from_secs(1) && begin.elapsed() < Duration::from_secs(3));
}

#[tokio::test]
async fn a_stop_goes_on_when_its_caller_is_gone() {
    let place = Place::new().await;
    let made = place.run(&place.spec("a", &["deaf"])).await;
    let given_up = timeout(Duration::from_millis(300), place.runtime.stop(&made.id, Duration::from_millis(1500))).await;
    assert!(given_up.is_err());
    place.until(&made.id, |c| matches!(c.status, Status::Exited { code: 137, .. })).await;
}

#[tokio::test]
async fn a_stopped_container_stays_down_whatever_its_policy() {
    let place = Place::new().await;
    let mut spec = place.spec("a", &["serve"]);
    spec.restart_now = true;
    let made = place.run(&spec).await;
    place.runtime.stop(&made.id, Duration::from_millis(2500)).await.unwrap();
    let mut spec = place.spec("loop", &["exit", "3"]);
    spec.restart_now = true;
    let looping = place.run(&spec).await;
    let seen = place.until(&looping.id, |c| c.restarts >= 2 && c.status == Status::Restarting).await;
    assert_eq!(seen.pid, 0);
    place.runtime.stop(&looping.id, Duration::from_millis(500)).await.unwrap();
    tokio::time::sleep(Duration::from_millis(1500)).await;
    for id in [made.id, looping.id] {
        assert!(matches!(place.seen(&id).await.status, Status::Exited { .. }));
    }
}

#[tokio::test]
async fn removing_keeps_anonymous_volumes_and_spares_what_runs() {
    let place = Place::new().await;
    let mut spec = place.spec("a", &["serve"]);
    spec.settings.mounts = vec![mount(MountKind::Volume, None, "/data")];
    let made = place.run(&spec).await;
    let volume = docker(&["inspect", "-f", "{{(index .Mounts 0).Name}}", &made.id]);
    assert!(matches!(place.runtime.remove(&made.id, false).await, Err(RuntimeError::Refused { .. })));
    assert_eq!(place.seen(&made.id).await.status, Status::Running);
    let (one, two) = tokio::join!(place.runtime.remove(&made.id, true), place.runtime.remove(&made.id, true));
    one.unwrap();
    two.unwrap();
    assert_eq!(place.runtime.inspect(&made.id).await.unwrap(), None);
    assert_eq!(docker(&["volume", "rm", &volume]), volume);
}

#[tokio::test]
async fn a_list_tells_everything_about_the_containers_with_all_the_labels() {
    let place = Place::new().await;
    let mut specs: Vec<ContainerSpec> = (0..5).map(|n| place.spec(&format!("n{n}"), &["serve"])).collect();
    specs[4].labels.insert(label::COLOR.into(), "green".into());
    for spec in &specs {
        place.runtime.ensure_container(spec).await.unwrap();
    }
    let running = place.run(&specs[4]).await;
    let all = place.runtime.list(&[(label::AGENT, &place.id)]).await.unwrap();
    assert_eq!(all.len(), 5);
    assert_eq!(place.runtime.list(&[(label::AGENT, &place.id), (label::COLOR, "green")]).await.unwrap(), [running]);
    assert_eq!(place.runtime.list(&[(label::AGENT, "nobody")]).await.unwrap(), []);
}

/// A daemon that can go away: a way to the real one that the test cuts.
fn relay(socket: &std::path::Path) -> tokio::task::JoinHandle<()> {
    let listener = tokio::net::UnixListener::bind(socket).unwrap();
    tokio::spawn(async move {
        let mut open = tokio::task::JoinSet::new();
        while let Ok((mut near, _)) = listener.accept().await {
            open.spawn(async move {
                let mut far = tokio::net::UnixStream::connect("/var/run/docker.sock").await?;
                tokio::io::copy_bidirectional(&mut near, &mut far).await
            });
        }
    })
}

#[tokio::test]
async fn a_daemon_that_goes_away_is_unreachable_and_found_again() {
    let place = Place::new().await;
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("docker.sock");
    let way = relay(&socket);
    let runtime = DockerRuntime::at(&format!("unix://{}", socket.display())).unwrap();
    let mut events = runtime.events(&[(label::AGENT, &place.id)]).await.unwrap();
    place.runtime.ensure_container(&place.spec("a", &["serve"])).await.unwrap();
    assert_eq!(timeout(PATIENCE, events.recv()).await.unwrap().unwrap().action, "create");

    way.abort();
    assert_eq!(timeout(PATIENCE, events.recv()).await.unwrap(), None);
    let error = runtime.list(&[(label::AGENT, &place.id)]).await.unwrap_err();
    assert!(matches!(error, RuntimeError::Unreachable { .. }), "{error}");
    std::fs::remove_file(&socket).unwrap();
    let error = runtime.engine().await.unwrap_err();
    assert!(error.to_string().contains("not running"), "{error}");

    let way = relay(&socket);
    let seen = runtime.list(&[(label::AGENT, &place.id)]).await.unwrap();
    assert_eq!(seen.len(), 1);
    way.abort();
}
