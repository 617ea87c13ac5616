//! A migration is started once, whenever the agent dies, and leaves nothing.

use crate::deaths::{Act, every_death};
use crate::shop::{self, Shop, project};
use crate::stage::{good, life, service, start, until_ended};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use teal_agent::agent::Agent;
use teal_agent::journal::Journal;
use teal_agent::migrate::{Migration, MigrationEnd, migration_failed};
use teal_agent::runtime::fake::{App, FakeRuntime, Moment, Op};
use teal_agent::runtime::{Runtime, RuntimeError, Status, label};
use teal_agent::store::StoredRelease;
use teal_agent::traffic::fake::FakeTraffic;
use teal_model::api::DeployRequest;
use teal_model::config::{Migrate, Mount, MountKind, Restart, Service, Strategy, Volume};
use teal_model::deployment::{Deployment, State};
use teal_model::fault::Code;
use teal_model::ids::{ReleaseKey, ServiceKey};
use teal_model::plan::ALL;

const NAME: &str = "shop-web-migrate-1";

fn release() -> ReleaseKey {
    ReleaseKey::new(ServiceKey::new("shop", "web"), 1)
}

fn stored(image_id: &str) -> StoredRelease {
    let mut web = service("web", "web:v1", Strategy::BlueGreen, 8003);
    web.teal.migrate = Some(Migrate { command: vec!["up".to_owned()], timeout_ms: 60_000 });
    let target = |source: Option<&str>, target: &str| Mount {
        source: source.map(str::to_owned),
        target: target.to_owned(),
        ..Mount::default()
    };
    web.container.mounts = vec![target(Some("shop_data"), "/data"), target(None, "/cache")];
    web.container.mounts.iter_mut().for_each(|mount| mount.kind = MountKind::Volume);
    StoredRelease {
        networks: project(vec![web.clone()]).project.networks,
        service: web,
        volumes: [("data".to_owned(), Volume { name: "shop_data".to_owned(), ..Volume::default() })].into(),
        image_id: Some(image_id.to_owned()),
        ..StoredRelease::default()
    }
}

fn engine(app: App) -> (FakeRuntime, String) {
    let engine = FakeRuntime::new();
    let image = engine.add_image("web:v1", app);
    (engine, image.id)
}

/// An agent in whose journal the service is being deployed: nobody tidies up after it.
async fn deploying(dir: &Path, engine: &FakeRuntime, image_id: &str) -> Arc<Agent> {
    let agent = start(dir, engine, &FakeTraffic::default()).await;
    let request = project(vec![service("web", "web:v1", Strategy::BlueGreen, 8003)]);
    let plan = agent.plan(&request).await.unwrap();
    agent.journal.begin(&mut Deployment::new(0, plan, 0), "test", 0).unwrap();
    agent.store.put_release(&release(), &stored(image_id)).unwrap();
    agent
}

fn starts(engine: &FakeRuntime) -> usize {
    engine.changes().iter().filter(|change| **change == format!("Start {NAME}")).count()
}

#[test]
fn it_runs_once_without_the_name_and_the_ports_of_its_service() {
    let dir = tempfile::tempdir().unwrap();
    let says = (1..=30).map(|line| format!("line {line}")).collect();
    let (engine, image) = engine(App { exits: Some((Duration::from_secs(20), 0)), says, ..App::default() });
    life(async {
        let agent = deploying(dir.path(), &engine, &image).await;
        agent.begin_migration(&release()).await.unwrap();
        assert_eq!(agent.migration(&release()).await.unwrap(), Migration::Running);
        let container = engine.inspect(NAME).await.unwrap().unwrap();
        assert_eq!(container.status, Status::Running);
        assert_eq!((container.labels.get(label::RELEASE), container.published.len()), (None, 0));
        assert_eq!(engine.restart_policy(&container.id), Some(Restart::No));
        assert_eq!((engine.resolve("shop_default", "web"), container.health), (vec![], None));
        assert_eq!(container.volumes["/data"].name, "shop_data");

        agent.watch.refresh().await;
        let world = agent.watch.now();
        assert_eq!((world.replicas.len(), world.migrations.len()), (0, 1), "it is no replica");
        // Long enough for the reconciler to have looked.
        tokio::time::sleep(Duration::from_secs(40)).await;
        agent.begin_migration(&release()).await.unwrap();
        let Migration::Exited { code: 0, last_lines } = agent.migration(&release()).await.unwrap() else { panic!() };
        assert_eq!((last_lines.len(), last_lines[19].as_str()), (20, "line 30"));

        for _ in 0..2 {
            agent.end_migration(&release()).await.unwrap();
        }
        assert_eq!((engine.containers().len(), engine.volumes()), (0, vec!["shop_data".to_owned()]));
        agent.begin_migration(&release()).await.unwrap();
        assert_eq!(agent.migration(&release()).await.unwrap(), Migration::Gone);
        assert_eq!(starts(&engine), 1, "once a release");
    });
}

#[test]
fn wherever_the_agent_dies_it_is_started_once() {
    let mut died = 0;
    for moment in [Moment::Before, Moment::After] {
        for index in 0.. {
            let dir = tempfile::tempdir().unwrap();
            let (engine, image) = engine(App::default());
            engine.crash_at(index, moment);
            let ended = life(async {
                let agent = start(dir.path(), &engine, &FakeTraffic::default()).await;
                agent.store.put_release(&release(), &stored(&image)).unwrap();
                let release = release();
                tokio::select! {
                    biased;
                    () = engine.crashed() => false,
                    begun = agent.begin_migration(&release) => begun.is_ok(),
                }
            });
            if ended {
                break;
            }
            died += 1;
            let engine = engine.restarted();
            life(async {
                let agent = start(dir.path(), &engine, &FakeTraffic::default()).await;
                agent.store.put_release(&release(), &stored(&image)).unwrap();
                agent.begin_migration(&release()).await.unwrap();
                assert_eq!(agent.migration(&release()).await.unwrap(), Migration::Running, "{moment:?} {index}");
            });
            assert_eq!(starts(&engine), 1, "{moment:?} {index}");
        }
    }
    assert!(died >= 8, "volume, network, container and start, before and after: {died}");
}

#[test]
fn one_that_may_have_run_and_is_gone_is_not_run_again() {
    let dir = tempfile::tempdir().unwrap();
    let (engine, image) = engine(App::default());
    life(async {
        let agent = deploying(dir.path(), &engine, &image).await;
        agent.begin_migration(&release()).await.unwrap();
        engine.remove(NAME, true).await.unwrap();
        agent.begin_migration(&release()).await.unwrap();
        assert_eq!(agent.migration(&release()).await.unwrap(), Migration::Gone);
        assert_eq!(starts(&engine), 1);
        let fault = migration_failed(&release(), MigrationEnd::Lost, Vec::new());
        assert!(fault.to_string().contains("how it ended is not known"), "{fault}");
    });
}

#[test]
fn one_that_fails_or_hangs_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let app = App { exits: Some((Duration::from_secs(1), 3)), says: vec!["no such table".into()], ..App::default() };
    let (engine, image) = engine(app);
    life(async {
        let agent = deploying(dir.path(), &engine, &image).await;
        agent.begin_migration(&release()).await.unwrap();
        assert_eq!(agent.migration_lines(&release()).await.unwrap(), ["no such table"], "while it runs, too");
        tokio::time::sleep(Duration::from_secs(2)).await;
        let Migration::Exited { code, last_lines } = agent.migration(&release()).await.unwrap() else { panic!() };
        let fault = migration_failed(&release(), MigrationEnd::Exited { code }, last_lines);
        assert_eq!(fault.code, Code::MigrationFailed);
        assert_eq!(fault.to_string(), "the migration of shop/web@1 exited with code 3");
        assert_eq!(fault.detail, ["no such table"]);
        let late = migration_failed(&release(), MigrationEnd::TimedOut { after: Duration::from_secs(600) }, Vec::new());
        assert_eq!(late.to_string(), "the migration of shop/web@1 had not ended after 600 s, and was stopped");
    });
}

#[test]
fn one_that_cannot_be_started_is_a_failed_migration() {
    let dir = tempfile::tempdir().unwrap();
    let (engine, image) = engine(App { cannot_start: Some("exec: \"up\": not found".into()), ..App::default() });
    life(async {
        let agent = deploying(dir.path(), &engine, &image).await;
        let fault = agent.begin_migration(&release()).await.unwrap_err();
        assert_eq!(
            (fault.code, fault.detail.as_slice()),
            (Code::MigrationFailed, ["exec: \"up\": not found".to_owned()].as_slice())
        );
        let down = RuntimeError::Unreachable { at: "fake".into(), why: "connection refused".into() };
        engine.fail_next(Op::Start, down);
        assert_eq!(
            agent.begin_migration(&release()).await.unwrap_err().code,
            Code::DockerDown,
            "it may be tried again"
        );
    });
}

#[test]
fn what_is_left_of_it_when_its_deployment_has_ended_goes() {
    let dir = tempfile::tempdir().unwrap();
    let (engine, image) = engine(App::default());
    life(async {
        let agent = start(dir.path(), &engine, &FakeTraffic::default()).await;
        agent.store.put_release(&release(), &stored(&image)).unwrap();
        agent.begin_migration(&release()).await.unwrap();
        assert_eq!(engine.containers().len(), 1);
        tokio::time::sleep(Duration::from_secs(40)).await;
        assert_eq!(engine.containers().len(), 0);
    });
}

fn migrating(version: &str, ends: Option<i64>) -> (DeployRequest, App) {
    let mut web = Service { replicas: 1, ..shop::web(&format!("web:{version}")) };
    web.teal.migrate = ends.map(|_| Migrate { command: vec!["up".to_owned()], timeout_ms: 60_000 });
    (project(vec![web]), App { migrates: ends.map(|code| (Duration::from_secs(5), code)), ..good() })
}

/// v1 is live without one; v2's ends so.
fn about_to_migrate(code: i64) -> Shop {
    let shop = Shop::new();
    let (first, app) = migrating("v1", None);
    shop.image("web:v1", app).image("web:v2", migrating("v2", Some(code)).1);
    assert_eq!(shop.deploy(&first), State::Done);
    shop
}

fn second() -> Act {
    Act::Deploy(Box::new(migrating("v2", Some(0)).0))
}

fn migrations(shop: &Shop) -> usize {
    shop.engine.changes().iter().filter(|change| **change == "Start shop-web-migrate-2").count()
}

#[test]
fn a_deployment_migrates_once_whatever_death_comes_between() {
    every_death(
        || about_to_migrate(0),
        &second(),
        |story| {
            assert_eq!((&story.state, migrations(&story.shop)), (&State::Done, 1), "{}", story.when);
            story.settled(2, None);
        },
    );
}

#[test]
fn a_migration_that_fails_changes_nothing_whatever_death_comes_between() {
    every_death(
        || about_to_migrate(3),
        &second(),
        |story| {
            let failed = matches!(&story.state, State::Reverted { why } if why.code == Code::MigrationFailed);
            assert!(failed, "{}: {:?}", story.when, story.state);
            assert_eq!((migrations(&story.shop), story.shop.starts_of("web")), (1, 3), "{}", story.when);
            assert!(story.tables.iter().all(|sent| sent.share(1) == ALL), "{}", story.when);
            story.settled(1, None);
        },
    );
}

#[test]
fn a_migration_of_which_nobody_knows_how_it_ended_is_neither_done_twice_nor_taken_for_done() {
    let shop = about_to_migrate(0);
    let engine = shop.engine.restarted();
    shop.life(async {
        let agent = start(shop.dir.path(), &engine, &shop.traffic).await;
        let number = agent.deploy(migrating("v2", Some(0)).0).await.unwrap().deployment;
        tokio::time::sleep(Duration::from_secs(2)).await;
        let running = engine.containers().into_iter().find(|one| one.name == "shop-web-migrate-2").unwrap();
        agent.runtime.remove(&running.id, true).await.unwrap();
        let state = until_ended(&agent, number).await;
        assert!(matches!(&state, State::Stuck { error, .. } if error.code == Code::Stuck), "{state:?}");
        assert_eq!(migrations(&shop), 1);
        let live = agent.journal.services().unwrap()[0].live.as_ref().map(|live| live.release.number);
        assert_eq!(live, Some(1), "it goes on as it was");
        // The next deployment runs its own.
        let number = agent.deploy(migrating("v2", Some(0)).0).await.unwrap().deployment;
        assert_eq!(until_ended(&agent, number).await, State::Done);
        assert_eq!((shop.of("web").len(), migrations(&shop)), (1, 1));
    });
}

#[test]
fn its_time_is_its_own_and_what_it_ran_in_stays_until_the_end() {
    let shop = about_to_migrate(0);
    assert_eq!(shop.deploy(&migrating("v2", Some(0)).0), State::Done);
    let receipt = Journal::open(shop.dir.path()).unwrap().deployment(2).unwrap().unwrap().receipt.unwrap();
    let steps: Vec<&str> = receipt.steps.iter().map(|step| step.step.split(" (").next().unwrap()).collect();
    let begins = ["pull images", "prepare networks and holders", "migrate for shop/web@2", "start shop/web@2"];
    let at = steps.iter().position(|step| *step == begins[0]).unwrap();
    assert_eq!(steps[at..at + begins.len()], begins);
    let took = |step: usize| receipt.steps[at + step].ms;
    assert!(took(0) < 5_000 && took(2) >= 4_900, "{:?}", receipt.steps);
    let changes = shop.engine.changes();
    let started = changes.iter().position(|change| change == "Start shop-web-green-1");
    let removed = changes.iter().position(|change| change.starts_with("Remove") && change.contains("web-migrate-2"));
    assert!(started.is_some() && started < removed, "{changes:?}");
}
