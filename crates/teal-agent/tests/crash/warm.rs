//! Releases that are kept warm: gone back to by a flip, and gone when their time is over.

use crate::deaths::{Act, every_death, fill_disk, web};
use crate::shop::{self, Shop, project};
use crate::stage::{good, start, until_ended};
use rusqlite::Connection;
use std::time::Duration;
use teal_agent::agent::Agent;
use teal_agent::runtime::fake::{Fault, Moment, Op};
use teal_agent::runtime::{Container, Status, label};
use teal_model::api::{DeployRequest, RollbackRequest, RolledBack};
use teal_model::config::{Restart, Retain, Service};
use teal_model::deployment::State;
use teal_model::fault::Code;
use teal_model::ids::ReleaseKey;
use teal_model::plan::ALL;

const WARM: Duration = Duration::from_secs(600);

fn kept_warm(version: &str) -> DeployRequest {
    let mut service = Service { replicas: 1, ..shop::web(&format!("web:{version}")) };
    service.teal.retain = Retain::For { ms: WARM.as_millis() as u64 };
    project(vec![service])
}

/// Every one of them was live, the last one is.
fn released(versions: &[&str]) -> Shop {
    let shop = Shop::new();
    for version in versions {
        shop.image(&format!("web:{version}"), good());
        assert_eq!(shop.deploy(&kept_warm(version)), State::Done);
    }
    shop
}

fn back() -> RollbackRequest {
    RollbackRequest {
        project: "shop".to_owned(),
        services: vec!["web".to_owned()],
        to: None,
        dry_run: false,
        who: "test".to_owned(),
    }
}

fn live_number(agent: &Agent) -> Option<u64> {
    let services = agent.journal.services().unwrap();
    services.into_iter().find(|one| one.service == web())?.live.map(|live| live.release.number)
}

fn warm_number(agent: &Agent) -> Option<u64> {
    agent.journal.retained().unwrap().first().map(|one| one.release.number)
}

fn releases(shop: &Shop) -> Vec<String> {
    let mut numbers: Vec<String> = shop.of("web").iter().map(|one| one.labels[label::RELEASE].clone()).collect();
    numbers.sort();
    numbers
}

#[test]
fn going_back_to_what_is_warm_survives_every_death() {
    every_death(
        || released(&["v1", "v2"]),
        &Act::Back(back()),
        |story| {
            let when = &story.when;
            assert_eq!(story.state, State::Done, "{when}");
            let all = |sent: &crate::deaths::Sent| sent.split == [(1, ALL)] || sent.split == [(2, ALL)];
            assert!(story.tables.iter().all(all), "{when}: {:?}", story.tables);
            story.settled(1, Some(2));
            let taken = story.journal().taken_back(&web()).unwrap();
            assert_eq!(taken.map(|one| one.release.number), Some(2), "{when}");
            assert_eq!(story.shop.starts_of("web"), 3, "{when}: nothing was started for it");
        },
    );
}

#[test]
fn a_second_rollback_goes_further_back_and_starts_what_is_gone() {
    let shop = released(&["v1", "v2", "v3"]);
    let engine = shop.engine.restarted();
    shop.life(async {
        let agent = start(shop.dir.path(), &engine, &shop.traffic).await;
        for (live, warm) in [(2, 3), (4, 2)] {
            let RolledBack::Deploys(accepted) = agent.rollback(back()).await.unwrap() else { panic!() };
            assert_eq!(until_ended(&agent, accepted.deployment).await, State::Done);
            assert_eq!((live_number(&agent), warm_number(&agent)), (Some(live), Some(warm)));
        }
        let services = agent.journal.services().unwrap();
        assert_eq!(services[0].live.as_ref().unwrap().again, Some(1), "it was made from the first one");
        assert_eq!(agent.rollback(back()).await.unwrap_err().code, Code::NotFound, "nothing is before that");
    });
    assert_eq!(releases(&shop), ["2", "4"]);
}

#[test]
fn a_rollback_while_a_deployment_runs_takes_that_back() {
    let shop = released(&["v1"]);
    shop.image("web:v2", good());
    let engine = shop.engine.restarted();
    shop.life(async {
        let agent = start(shop.dir.path(), &engine, &shop.traffic).await;
        let mut baked = kept_warm("v2");
        baked.project.services.get_mut("web").unwrap().teal.bake_ms = 60_000;
        let number = agent.deploy(baked).await.unwrap().deployment;
        tokio::time::sleep(Duration::from_secs(20)).await;
        let state = || agent.journal.deployment(number).unwrap().unwrap().deployment.state;
        assert_eq!(state(), State::Baking);
        let would = agent.rollback(RollbackRequest { dry_run: true, ..back() }).await.unwrap();
        assert!(matches!(would, RolledBack::WouldAbort { deployment, .. } if deployment == number), "{would:?}");
        let elsewhere = agent.rollback(RollbackRequest { dry_run: true, to: Some(7), ..back() }).await.unwrap_err();
        assert_eq!((elsewhere.code, state()), (Code::Busy, State::Baking), "nothing was done");
        let done = agent.rollback(back()).await.unwrap();
        assert_eq!(done, RolledBack::Aborted { deployment: number });
        let State::Reverted { why } = until_ended(&agent, number).await else { panic!("{:?}", state()) };
        assert_eq!((why.code, live_number(&agent), warm_number(&agent)), (Code::Aborted, Some(1), None));
    });
    assert_eq!(releases(&shop), ["1"]);
}

/// It fails before its candidate would need the color of what is warm.
#[test]
fn what_is_warm_stays_listed_by_a_deployment_that_comes_to_nothing_and_by_every_death_in_it() {
    every_death(
        || released(&["v1", "v2"]),
        &Act::Deploy(Box::new(kept_warm("missing"))),
        |story| {
            assert!(
                matches!(&story.state, State::Reverted { why } if why.code == Code::ImageMissing),
                "{}",
                story.when
            );
            story.settled(2, Some(1));
        },
    );
}

#[test]
fn a_rollback_that_is_taken_back_leaves_what_was_warm_as_it_was() {
    let shop = released(&["v1", "v2"]);
    let engine = shop.engine.restarted();
    shop.traffic.proxy().in_flight.insert(ReleaseKey::new(web(), 2), 1);
    let listed = || {
        let table = shop.traffic.table().unwrap();
        let mut listed: Vec<u64> = table.services[&web()].releases.iter().map(|one| one.release.number).collect();
        listed.sort();
        listed
    };
    shop.life(async {
        let agent = start(shop.dir.path(), &engine, &shop.traffic).await;
        for _ in 0..2 {
            let RolledBack::Deploys(accepted) = agent.rollback(back()).await.unwrap() else { panic!() };
            tokio::time::sleep(Duration::from_secs(1)).await;
            agent.abort(accepted.deployment, "test").unwrap();
            assert!(matches!(until_ended(&agent, accepted.deployment).await, State::Reverted { .. }));
            assert_eq!((live_number(&agent), warm_number(&agent), listed()), (Some(2), Some(1), vec![1, 2]));
        }
    });
}

/// Once it has ended, and only then, nothing lists it any more.
#[test]
fn a_deployment_that_fails_after_it_has_ended_what_was_warm_lists_it_no_more() {
    let prepare = || {
        let shop = released(&["v1", "v2"]);
        let image = shop.engine.add_image("web:v3", crate::stage::exits());
        // It is waited for, and never comes.
        shop.engine.change_image(&image.id, |image| image.has_healthcheck = true);
        shop
    };
    every_death(prepare, &Act::Deploy(Box::new(kept_warm("v3"))), |story| {
        assert!(matches!(&story.state, State::Reverted { .. }), "{}", story.when);
        let warm = story.journal().retained().unwrap().first().map(|one| one.release.number);
        story.settled(2, warm);
    });
}

/// There is room again as soon as the reserve is given up.
#[test]
fn a_full_disk_keeps_nobody_from_going_back() {
    let shop = released(&["v1", "v2"]);
    let (dir, engine) = (shop.dir.path(), shop.engine.restarted());
    let reserve = dir.join("reserve");
    shop.life(async {
        let agent = start(dir, &engine, &shop.traffic).await;
        assert!(std::fs::metadata(&reserve).unwrap().len() >= 1 << 20, "some room is kept");
        fill_disk(dir, 3, 0);
        let frees = async {
            while reserve.exists() {
                tokio::task::yield_now().await;
            }
            Connection::open(dir.join("journal.sqlite3")).unwrap().execute_batch("DROP TRIGGER full").unwrap();
            std::future::pending::<()>().await;
        };
        let done = tokio::select! {
            done = agent.rollback(back()) => done.unwrap(),
            () = frees => unreachable!(),
        };
        let RolledBack::Deploys(accepted) = done else { panic!("{done:?}") };
        assert_eq!(until_ended(&agent, accepted.deployment).await, State::Done);
        assert_eq!((live_number(&agent), warm_number(&agent)), (Some(1), Some(2)));
        tokio::time::sleep(Duration::from_secs(40)).await;
        assert!(reserve.exists(), "it is made again once there is room");
    });
}

#[test]
fn what_is_warm_ends_when_its_time_is_over() {
    let shop = released(&["v1", "v2"]);
    let engine = shop.engine.restarted();
    shop.life(async {
        let agent = start(shop.dir.path(), &engine, &shop.traffic).await;
        tokio::time::sleep(WARM / 2).await;
        assert_eq!((releases(&shop).len(), warm_number(&agent)), (2, Some(1)));
        tokio::time::sleep(WARM / 2).await;
        assert_eq!((releases(&shop), warm_number(&agent)), (vec!["2".to_owned()], None));
    });
    let entry = shop.traffic.table().unwrap().services[&web()].clone();
    let listed: Vec<u64> = entry.releases.iter().map(|one| one.release.number).collect();
    assert_eq!(listed, [2]);
}

#[test]
fn what_is_warm_is_not_stopped_while_something_of_it_is_in_flight() {
    let shop = released(&["v1", "v2"]);
    let engine = shop.engine.restarted();
    shop.traffic.proxy().in_flight.insert(ReleaseKey::new(web(), 1), 1);
    shop.life(async {
        let agent = start(shop.dir.path(), &engine, &shop.traffic).await;
        while warm_number(&agent).is_some() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert_eq!(releases(&shop).len(), 2, "out of the table, and not stopped");
        shop.traffic.proxy().in_flight.clear();
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert_eq!(releases(&shop), ["2"]);
    });
}

#[test]
fn a_second_rollback_does_not_take_the_first_one_back() {
    let shop = released(&["v1", "v2"]);
    let engine = shop.engine.restarted();
    shop.traffic.proxy().in_flight.insert(ReleaseKey::new(web(), 2), 1);
    shop.life(async {
        let agent = start(shop.dir.path(), &engine, &shop.traffic).await;
        let RolledBack::Deploys(first) = agent.rollback(back()).await.unwrap() else { panic!() };
        tokio::time::sleep(Duration::from_secs(1)).await;
        let RolledBack::Deploys(second) = agent.rollback(back()).await.unwrap() else { panic!() };
        assert_eq!(first.deployment, second.deployment, "it is told of the one that drains");
        assert_eq!(until_ended(&agent, first.deployment).await, State::Done);
        assert_eq!(live_number(&agent), Some(1));
    });
}

#[test]
fn a_second_rollback_goes_no_further_while_the_first_one_ends() {
    let shop = released(&["v1", "v2", "v3"]);
    let engine = shop.engine.restarted();
    shop.life(async {
        let agent = start(shop.dir.path(), &engine, &shop.traffic).await;
        engine.hook(|effect, moment| match (effect.op, moment) {
            (Op::SetRestart, Moment::Before) => Fault::Delay(Duration::from_secs(5)),
            _ => Fault::None,
        });
        let RolledBack::Deploys(first) = agent.rollback(back()).await.unwrap() else { panic!() };
        let state = || agent.journal.deployment(first.deployment).unwrap().unwrap().deployment.state;
        while state() != State::Retiring {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let RolledBack::Deploys(second) = agent.rollback(back()).await.unwrap() else { panic!() };
        assert_eq!((second.deployment, state()), (first.deployment, State::Retiring));
        assert_eq!(until_ended(&agent, first.deployment).await, State::Done);
        assert_eq!(live_number(&agent), Some(2));
    });
}

#[test]
fn an_agent_that_dies_while_it_ends_what_was_warm_leaves_nothing() {
    let warm = || released(&["v1", "v2"]);
    let whole = warm();
    let from = whole.engine.journal().len();
    let engine = whole.engine.restarted();
    let over = |shop: &Shop, engine: &teal_agent::runtime::fake::FakeRuntime| {
        shop.life(async {
            let waits = async {
                let _agent = start(shop.dir.path(), engine, &shop.traffic).await;
                tokio::time::sleep(WARM + Duration::from_secs(30)).await;
            };
            tokio::select! {
                biased;
                () = engine.crashed() => true,
                () = waits => false,
            }
        })
    };
    assert!(!over(&whole, &engine));
    let effects: Vec<usize> = (from..whole.engine.journal().len()).collect();
    assert!(effects.len() >= 2, "it is stopped and removed");
    for at in effects {
        for moment in [Moment::Before, Moment::After] {
            let shop = warm();
            let engine = shop.engine.restarted();
            engine.crash_at(at, moment);
            assert!(over(&shop, &engine), "effect {at}");
            let engine = shop.engine.restarted();
            shop.life(async {
                let agent = start(shop.dir.path(), &engine, &shop.traffic).await;
                tokio::time::sleep(Duration::from_secs(40)).await;
                assert_eq!((live_number(&agent), warm_number(&agent)), (Some(2), None), "effect {at} {moment:?}");
                assert_eq!(agent.alerts(), Vec::<String>::new());
            });
            assert_eq!(releases(&shop), ["2"], "effect {at} {moment:?}");
        }
    }
}

#[test]
fn the_next_deployment_ends_it_before_its_candidate_starts_and_survives_every_death() {
    let prepare = || {
        let shop = released(&["v1", "v2"]);
        shop.image("web:v3", good());
        shop
    };
    every_death(prepare, &Act::Deploy(Box::new(kept_warm("v3"))), |story| {
        assert_eq!(story.state, State::Done, "{}", story.when);
        story.settled(3, Some(2));
        let journal = story.shop.engine.journal();
        // It has the name of the first one.
        let at =
            |op| journal.iter().rposition(|one| one.changed && one.op == op && one.on == "shop-web-blue-1").unwrap();
        assert!(at(Op::Remove) < at(Op::Start), "{}", story.when);
    });
}

#[test]
fn what_is_warm_is_not_started_with_its_host_and_is_forgotten_when_it_is_gone() {
    let shop = released(&["v1", "v2"]);
    let engine = shop.engine.restarted();
    shop.life(async {
        let agent = start(shop.dir.path(), &engine, &shop.traffic).await;
        let runs = |one: &Container| one.status == Status::Running;
        let warm = |one: &Container| one.labels[label::RELEASE] == "1";
        let is_no = |one: &Container| engine.restart_policy(&one.id) == Some(Restart::No);
        assert!(shop.of("web").iter().filter(|one| warm(one)).all(is_no));
        engine.restart_engine();
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert!(!shop.of("web").iter().any(|one| warm(one) && runs(one)));
        tokio::time::sleep(Duration::from_secs(40)).await;
        assert_eq!((releases(&shop), warm_number(&agent)), (vec!["2".to_owned()], None));
        assert!(shop.of("web").iter().all(runs));
    });
}
