//! Groups of more than web services: jobs, those that live in another's namespace, names, orphans, volumes, workers.

use crate::shop::{Shop, project, web, worker};
use crate::stage::{every_table_serves_or_holds, good, life, request, start, until_ended};
use std::collections::BTreeMap;
use std::time::Duration;
use teal_agent::runtime::fake::{App, Moment, Op};
use teal_agent::runtime::{Container, Status, label};
use teal_model::api::{DeployRequest, RemoveRequest, RemoveVolumes};
use teal_model::config::{
    Condition, DependsOn, Healthcheck, Mount, MountKind, NetworkMode, Restart, Service, Strategy, Volume,
};
use teal_model::deployment::State;
use teal_model::fault::Code;

fn job(image: &str) -> Service {
    Service { is_job: true, ..worker("migrate", image) }
}

fn after(service: Service, on: &str, depends: DependsOn) -> Service {
    Service { depends_on: BTreeMap::from([(on.to_owned(), depends)]), ..service }
}

fn completed() -> DependsOn {
    DependsOn { condition: Condition::ServiceCompletedSuccessfully, ..DependsOn::default() }
}

fn ends(code: i64) -> App {
    App { exits: Some((Duration::from_secs(2), code)), says: vec!["table users: exists".to_owned()], ..App::default() }
}

fn broken() -> App {
    App { cannot_start: Some("no such file".to_owned()), ..App::default() }
}

fn shop(version: &str) -> DeployRequest {
    let migrate = job(&format!("migrate:{version}"));
    project(vec![migrate, after(web(&format!("app:{version}")), "migrate", completed())])
}

#[test]
fn a_job_runs_once_before_those_that_wait_for_it() {
    let stage = Shop::new();
    stage.image("app:v1", good()).image("migrate:v1", ends(0));
    stage.image("app:v2", good()).image("migrate:v2", ends(0));
    assert_eq!(stage.deploy(&shop("v1")), State::Done);
    let changes = stage.engine.changes();
    let at = |change: &str| changes.iter().position(|one| one == change).unwrap();
    assert!(at("Start shop-migrate-blue-1") < at("Start shop-web-blue-1"), "{changes:?}");
    let ran = &stage.of("migrate")[0];
    assert_eq!(ran.status, Status::Exited { code: 0, out_of_memory: false });
    assert_eq!(stage.engine.restart_policy(&ran.id), Some(Restart::No), "it is done");
    assert!(!changes.iter().any(|change| change.contains("migrate-holder")), "nobody calls it");

    // Nothing of it has changed: it is not run again, and neither is it missed when it is cleaned away.
    let mut only_web = shop("v1");
    only_web.project.services.get_mut("web").unwrap().container.image = "app:v2".to_owned();
    assert_eq!(stage.deploy(&only_web), State::Done);
    assert_eq!(stage.starts_of("migrate"), 1);
    life(async {
        let agent = start(stage.dir.path(), &stage.engine.restarted(), &stage.traffic).await;
        agent.runtime.remove(&stage.of("migrate")[0].id, false).await.unwrap();
        tokio::time::sleep(Duration::from_secs(40)).await;
        assert_eq!(agent.alerts(), Vec::<String>::new());
    });
    assert_eq!((stage.of("migrate").len(), stage.starts_of("migrate")), (0, 1));

    // The next one takes its place.
    assert_eq!(stage.deploy(&shop("v2")), State::Done);
    assert_eq!((stage.of("migrate").len(), stage.starts_of("migrate")), (1, 2));
    assert_eq!(stage.of("migrate")[0].labels[label::RELEASE], "2");
}

#[test]
fn a_job_that_fails_is_said_with_its_last_words_and_nobody_behind_it_begins() {
    let stage = Shop::new();
    stage.image("app:v1", good()).image("migrate:v1", ends(0)).image("app:v2", good()).image("migrate:v2", ends(3));
    assert_eq!(stage.deploy(&shop("v1")), State::Done);
    let web = stage.starts_of("web");
    let State::Reverted { why } = stage.deploy(&shop("v2")) else { panic!("it is taken back") };
    assert_eq!(why.code, Code::ReplicaExited);
    assert!(why.what.contains("exited with code 3"), "{why}");
    assert_eq!(why.detail, ["table users: exists"]);
    assert_eq!(stage.starts_of("web"), web, "web was not touched");
    assert_eq!(stage.starts_of("migrate"), 2, "the live job is not run again by the revert");
    assert_eq!(stage.of("migrate").len(), 1, "the live one, as it ended");
}

#[test]
fn a_job_that_nobody_requires_may_fail() {
    let stage = Shop::new();
    stage.image("app:v1", good()).image("migrate:v1", ends(3));
    let depends = DependsOn { required: false, ..completed() };
    let request = project(vec![job("migrate:v1"), after(web("app:v1"), "migrate", depends)]);
    assert_eq!(stage.deploy(&request), State::Done);
    assert_eq!(stage.of("web").len(), 2);
}

#[test]
fn a_job_is_tried_again_where_its_restart_policy_says_so() {
    let stage = Shop::new();
    stage.image("app:v1", good()).image("migrate:v1", ends(3));
    let mut request = shop("v1");
    request.project.services.get_mut("migrate").unwrap().container.restart = Restart::OnFailure(2);
    assert!(matches!(stage.deploy(&request), State::Reverted { .. }));
    assert_eq!(stage.of("migrate").len(), 0);
}

#[test]
fn a_job_runs_once_whatever_death_comes_between() {
    let prepare = || {
        let stage = Shop::new();
        stage.image("app:v1", good()).image("migrate:v1", ends(0)).image("app:v2", good()).image("migrate:v2", ends(0));
        assert_eq!(stage.deploy(&shop("v1")), State::Done);
        stage
    };
    let stage = prepare();
    let from = stage.engine.journal().len();
    assert_eq!(stage.deploy(&shop("v2")), State::Done);
    let to = stage.engine.journal().len();
    let mut died = 0;
    for index in from..to {
        for moment in [Moment::Before, Moment::After] {
            let stage = prepare();
            let engine = stage.engine.restarted();
            engine.crash_at(index, moment);
            let dead = life(async {
                let deploy = async {
                    let agent = start(stage.dir.path(), &engine, &stage.traffic).await;
                    let accepted = agent.deploy(shop("v2")).await.unwrap();
                    until_ended(&agent, accepted.deployment).await
                };
                tokio::select! {
                    biased;
                    () = engine.crashed() => true,
                    _ = deploy => false,
                }
            });
            if !dead {
                continue;
            }
            died += 1;
            let state = life(async {
                let agent = start(stage.dir.path(), &stage.engine.restarted(), &stage.traffic).await;
                if agent.journal.deployment(2).unwrap().is_none() {
                    agent.deploy(shop("v2")).await.unwrap();
                }
                let state = until_ended(&agent, 2).await;
                tokio::time::sleep(Duration::from_secs(40)).await;
                state
            });
            assert_eq!(state, State::Done, "died at effect {index} {moment:?}");
            assert_eq!(stage.starts_of("migrate"), 2, "died at effect {index} {moment:?}");
            assert_eq!((stage.of("migrate").len(), stage.of("web").len()), (1, 2));
        }
    }
    assert!(died > to - from, "{died} deaths of {} effects", to - from);
}

#[test]
fn a_worker_that_dies_while_the_web_service_comes_takes_the_group_back() {
    let stage = Shop::new();
    stage.image("app:v1", good()).image("worker:v1", good());
    stage.image("app:v2", App { boots_in: Duration::from_secs(4), ..good() });
    let checked = |version: &str| {
        let mut web = web(&format!("app:{version}"));
        web.container.healthcheck =
            Some(Healthcheck { test: Some(vec!["CMD".into(), "check".into()]), ..Healthcheck::default() });
        project(vec![worker("worker", &format!("worker:{version}")), web])
    };
    assert_eq!(stage.deploy(&checked("v1")), State::Done);
    let before = stage.of("web");
    // Ready at once, and gone while web warms.
    let worker = App { exits: Some((Duration::from_secs(2), 3)), ..good() };
    stage.image("worker:v2", worker);
    let State::Reverted { why } = stage.deploy(&checked("v2")) else { panic!("it is taken back") };
    assert_eq!(why.code, Code::ReplicaExited);
    let ids = |containers: Vec<Container>| containers.into_iter().map(|c| c.id).collect::<Vec<_>>();
    assert_eq!(ids(stage.of("web")), ids(before), "web goes on as it was");
    let worker = stage.of("worker");
    assert_eq!((worker.len(), &worker[0].status), (1, &Status::Running), "the worker before it works again");
    assert_eq!(stage.engine.restart_policy(&worker[0].id), Some(Restart::Always));
}

#[test]
fn a_container_gets_its_name_once_it_is_live_and_keeps_it_in_a_revert() {
    let stage = Shop::new();
    stage.image("app:v1", good()).image("app:v2", good()).image("app:v3", broken());
    let named = |version: &str| {
        let named = worker("db", &format!("app:{version}"));
        project(vec![Service { container_name: Some("the-db".to_owned()), ..named }])
    };
    for version in ["v1", "v2"] {
        assert_eq!(stage.deploy(&named(version)), State::Done);
        let there = stage.of("db");
        assert_eq!(there.iter().map(|c| c.name.as_str()).collect::<Vec<_>>(), ["the-db"], "{version}");
    }
    let before = stage.of("db");
    assert!(matches!(stage.deploy(&named("v3")), State::Reverted { .. }));
    let after = stage.of("db");
    assert_eq!((after.len(), &after[0].name, &after[0].id), (1, &"the-db".to_owned(), &before[0].id));
    assert_eq!(after[0].status, Status::Running);
}

#[test]
fn a_name_that_somebody_else_has_stops_nothing() {
    let stage = Shop::new();
    let image = stage.engine.add_image("app:v1", good());
    life(async { stage.engine.add_stranger("the-db", &image.id, None) });
    let request = project(vec![Service { container_name: Some("the-db".to_owned()), ..worker("db", "app:v1") }]);
    life(async {
        let agent = start(stage.dir.path(), &stage.engine.restarted(), &stage.traffic).await;
        let accepted = agent.deploy(request).await.unwrap();
        assert_eq!(until_ended(&agent, accepted.deployment).await, State::Done);
        assert!(agent.alerts().iter().any(|alert| alert.contains("is not called the-db")), "{:?}", agent.alerts());
    });
}

#[test]
fn who_lives_in_anothers_network_comes_along_and_after_it() {
    let stage = Shop::new();
    stage.image("app:v1", good()).image("app:v2", good()).image("side:v1", good());
    let with = |version: &str, strategy| {
        let side = Service {
            network_mode: Some(NetworkMode::Service("web".to_owned())),
            networks: BTreeMap::new(),
            ..worker("side", "side:v1")
        };
        let web = Service {
            teal: teal_model::config::ServiceSettings { strategy, ..web("").teal },
            ..web(&format!("app:{version}"))
        };
        project(vec![after(side, "web", DependsOn { restart: true, ..DependsOn::default() }), web])
    };
    assert_eq!(stage.deploy(&with("v1", Some(Strategy::BlueGreen))), State::Done);
    let from = stage.traffic.proxy().tables.len();
    assert_eq!(stage.deploy(&with("v2", Some(Strategy::BlueGreen))), State::Done);
    let changes = stage.engine.changes();
    let last =
        |change: &str| changes.iter().rposition(|one| one == change).unwrap_or_else(|| panic!("{change}: {changes:?}"));
    assert!(last("Start shop-web-green-1") < last("Start shop-side-green-1"), "{changes:?}");
    assert!(last("Start shop-side-green-1") < last("Stop shop-web-blue-1"), "both are there before the flip");
    assert!(stage.traffic.proxy().tables[from..].iter().all(|table| table.services.values().all(|one| !one.holding)));
    assert_eq!((stage.of("side").len(), stage.of("web").len()), (1, 2));

    // Recreated, the live ones come back in the order in which they can: web, then who lives in it.
    stage.image("app:v3", good()).image("side:v1", good());
    let mut third = with("v3", Some(Strategy::Recreate));
    let side = third.project.services.get_mut("side").unwrap();
    side.container.image = "side:v3".to_owned();
    stage.image("side:v3", broken());
    let from = stage.engine.changes().len();
    assert!(matches!(stage.deploy(&third), State::Reverted { .. }));
    let changes = stage.engine.changes()[from..].to_vec();
    let last =
        |change: &str| changes.iter().rposition(|one| one == change).unwrap_or_else(|| panic!("{change}: {changes:?}"));
    assert!(last("Start shop-web-green-1") < last("Start shop-side-green-1"), "{changes:?}");
    assert_eq!((stage.of("side").len(), stage.of("web").len()), (1, 2));
    assert!(stage.of("side").iter().chain(&stage.of("web")).all(|one| one.status == Status::Running));
}

#[test]
fn what_the_file_does_not_have_any_more_goes_when_it_is_asked_for() {
    let stage = Shop::new();
    stage.image("app:v1", good()).image("app:v2", good());
    let both = project(vec![web("app:v1"), worker("old", "app:v1")]);
    assert_eq!(stage.deploy(&both), State::Done);
    let mut without = project(vec![web("app:v1")]);
    assert_eq!(stage.deploy(&without), State::Done, "nothing to do");
    assert_eq!(stage.of("old").len(), 1, "it goes on");
    without.choice.remove_orphans = true;
    let from = stage.traffic.proxy().tables.len();
    let untouched = stage.of("web");
    assert_eq!(stage.deploy(&without), State::Done, "also when nothing else is to be done");
    assert!(stage.of("old").is_empty());
    assert!(!stage.engine.containers().iter().any(|c| c.name == "shop-old-holder"));
    assert_eq!(stage.of("web"), untouched);
    for table in &stage.traffic.proxy().tables[from..] {
        let web = &table.services[&teal_model::ids::ServiceKey::new("shop", "web")];
        assert!(!web.holding && web.releases.iter().any(|release| !release.backends.is_empty()));
    }
    // One that waits for a profile is none.
    let mut waiting = both.clone();
    waiting.project.services.get_mut("web").unwrap().container.image = "app:v2".to_owned();
    assert_eq!(stage.deploy(&waiting), State::Done);
    waiting.project.services.remove("old");
    waiting.project.disabled.insert("old".to_owned(), vec!["debug".to_owned()]);
    waiting.choice.remove_orphans = true;
    assert_eq!(stage.deploy(&waiting), State::Done);
    assert_eq!(stage.of("old").len(), 1);
}

#[test]
fn a_volume_goes_only_by_name_and_never_from_under_others() {
    let stage = Shop::new();
    stage.image("app:v1", good());
    let mounts = |service: Service, volumes: &[&str]| {
        let mount = |name: &&str| Mount {
            kind: MountKind::Volume,
            source: Some((*name).to_owned()),
            target: format!("/{name}"),
            ..Mount::default()
        };
        let mut service = service;
        service.container.mounts = volumes.iter().map(mount).collect();
        service
    };
    let db = mounts(worker("db", "app:v1"), &["shop_data", "shop_shared", "outside"]);
    let backup = mounts(worker("backup", "app:v1"), &["shop_shared"]);
    let mut request = project(vec![db, backup]);
    for (name, external) in [("shop_data", false), ("shop_shared", false), ("outside", true)] {
        let volume = Volume { name: name.to_owned(), external, ..Volume::default() };
        request.project.volumes.insert(name.to_owned(), volume);
    }
    assert_eq!(stage.deploy(&request), State::Done);
    life(async {
        let agent = start(stage.dir.path(), &stage.engine.restarted(), &stage.traffic).await;
        let remove = |services: &[&str], volumes| RemoveRequest {
            project: "shop".to_owned(),
            services: services.iter().map(|name| (*name).to_owned()).collect(),
            volumes,
            who: "test".to_owned(),
        };
        let named = |name: &str| RemoveVolumes::Named(vec![name.to_owned()]);
        for (volumes, said) in [
            (named("outside"), "is external"),
            (named("shop_typo"), "has no volume shop_typo"),
            (named("shop_shared"), "in use by the container shop-backup-blue-1"),
            (RemoveVolumes::All, "in use by the container shop-backup-blue-1"),
        ] {
            let refused = agent.remove(&remove(&["db"], volumes)).await.unwrap_err();
            assert!(refused.what.contains(said), "{refused}");
        }
        assert_eq!(stage.of("db")[0].status, Status::Running, "a refusal removes nothing");
        let removed = agent.remove(&remove(&["db"], named("shop_data"))).await.unwrap();
        assert_eq!(removed.volumes_removed, ["shop_data"]);
        assert_eq!(removed.volumes_kept, ["outside", "shop_shared"]);
        let removed = agent.remove(&remove(&[], RemoveVolumes::All)).await.unwrap();
        assert_eq!(removed.volumes_removed, ["shop_shared"]);
    });
    assert!(!stage.engine.volumes().iter().any(|name| name.starts_with("shop_")), "{:?}", stage.engine.volumes());
    let removals = stage.engine.journal().iter().filter(|effect| effect.op == Op::RemoveVolume).count();
    assert_eq!(removals, 2);
}

#[test]
fn a_start_interval_holds_also_with_an_engine_that_does_not_know_it() {
    let ready_after = |api: &str| {
        let stage = Shop::new();
        stage.engine.change_engine(|engine| engine.api_version = api.to_owned());
        let slow = teal_agent::runtime::fake::Checked::HealthyAfter(Duration::from_secs(4));
        stage.image("app:v1", App { health: slow, ..good() });
        let mut web = web("app:v1");
        web.container.healthcheck = Some(Healthcheck {
            test: Some(vec!["CMD".into(), "/check".into()]),
            start_interval_ms: Some(500),
            start_period_ms: Some(60_000),
            ..Healthcheck::default()
        });
        let request = project(vec![web]);
        life(async {
            let agent = start(stage.dir.path(), &stage.engine.restarted(), &stage.traffic).await;
            let began = tokio::time::Instant::now();
            let accepted = agent.deploy(request).await.unwrap();
            while !matches!(
                agent.journal.deployment(accepted.deployment).unwrap().unwrap().deployment.state,
                State::Done
            ) {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            began.elapsed()
        })
    };
    assert!(ready_after("1.41") < Duration::from_secs(2), "the agent's own check");
    assert!(ready_after("1.44") > Duration::from_secs(3), "the engine's");
}

#[test]
fn every_table_of_a_group_with_a_job_serves_or_holds() {
    let stage = Shop::new();
    stage.image("migrate:v1", ends(0)).image("migrate:v2", ends(0));
    for name in ["app:v1", "app:v2", "web:v1", "web:v2"] {
        stage.image(name, good());
    }
    let with_job = |version: &str| {
        let mut request = request(version);
        request.project.services.insert("migrate".to_owned(), job(&format!("migrate:{version}")));
        request
    };
    assert_eq!(stage.deploy(&with_job("v1")), State::Done);
    let from = stage.traffic.proxy().tables.len() - 1;
    assert_eq!(stage.deploy(&with_job("v2")), State::Done);
    every_table_serves_or_holds(&stage.traffic, from);
}
