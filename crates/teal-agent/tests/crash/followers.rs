//! Who is started again with what it depends on (`restart: true`) is so in a rollback, too.

use crate::shop::{Shop, project, web};
use crate::stage::{good, service, start, until_ended};
use rusqlite::Connection;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use teal_agent::agent::Agent;
use teal_agent::runtime::fake::Op;
use teal_agent::traffic::fake::{Crash, Silence};
use teal_model::api::{Accepted, DeployRequest, RollbackRequest, RolledBack};
use teal_model::config::{DependsOn, Retain, Service, Strategy};
use teal_model::deployment::State;
use teal_model::ids::{ReleaseKey, ServiceKey};

/// `web` depends on `db`, and is started again with it.
fn request(db: &str, retain_ms: u64) -> DeployRequest {
    let mut db = Service { replicas: 1, ..service("db", &format!("db:{db}"), Strategy::BlueGreen, 8002) };
    db.teal.retain = Retain::For { ms: retain_ms };
    let mut web = Service { replicas: 1, ..web("web:v1") };
    let depends = DependsOn { restart: true, ..DependsOn::default() };
    web.depends_on = BTreeMap::from([("db".to_owned(), depends)]);
    project(vec![db, web])
}

/// Both have two releases, for the first deployment brought the first ones.
fn released(retain_ms: u64) -> Shop {
    let shop = Shop::new();
    shop.image("db:v1", good()).image("db:v2", good()).image("web:v1", good());
    assert_eq!(shop.deploy(&request("v1", retain_ms)), State::Done);
    assert_eq!(shop.deploy(&request("v2", retain_ms)), State::Done);
    shop
}

fn back(services: &[&str]) -> RollbackRequest {
    RollbackRequest {
        project: "shop".to_owned(),
        services: services.iter().map(|name| (*name).to_owned()).collect(),
        to: None,
        dry_run: false,
        who: "test".to_owned(),
    }
}

async fn rollback(agent: &Arc<Agent>) -> Accepted {
    match agent.rollback(back(&["db"])).await.unwrap() {
        RolledBack::Deploys(accepted) => *accepted,
        other => panic!("{other:?}"),
    }
}

fn live(agent: &Agent) -> Vec<u64> {
    let services = agent.journal.services().unwrap();
    services.into_iter().filter_map(|one| Some(one.live?.release.number)).collect()
}

#[test]
fn a_rollback_by_a_flip_starts_them_again_behind_it() {
    let shop = released(600_000);
    let engine = shop.engine.restarted();
    shop.life(async {
        let agent = start(shop.dir.path(), &engine, &shop.traffic).await;
        let would = agent.rollback(RollbackRequest { dry_run: true, ..back(&["db"]) }).await.unwrap();
        let RolledBack::Would { plan } = would else { panic!() };
        assert!(plan.warnings.iter().any(|words| words.starts_with("web is started again after that")), "{plan:?}");
        let began = shop.engine.journal().len();
        // It drains for a while, and nobody waits for that.
        shop.traffic.proxy().in_flight.insert(ReleaseKey::new(ServiceKey::new("shop", "db"), 2), 1);
        let accepted = rollback(&agent).await;
        assert_eq!(accepted.plan.members.len(), 1);
        let then = accepted.then.expect("web is started again");
        let (two, flipped) = (then.plan.members, || {
            shop.traffic.table().unwrap().services[&ServiceKey::new("shop", "db")].split[0].release.number == 1
        });
        assert_eq!((two.len(), two[0].is_again()), (1, true));
        while !shop.engine.journal()[began..].iter().any(|one| one.op == Op::Start && one.changed) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        assert!(flipped(), "not before the flip");
        assert_eq!(until_ended(&agent, then.deployment).await, State::Done);
        assert_eq!(live(&agent), [2, 3], "db still drains");
        assert_eq!(until_ended(&agent, accepted.deployment).await, State::Done);
        assert_eq!(live(&agent), [1, 3]);
        tokio::time::sleep(Duration::from_secs(20)).await;
        assert_eq!(agent.alerts(), Vec::<String>::new());
        let lines: Vec<String> =
            agent.journal.history(None, 2).unwrap().iter().flat_map(|kept| kept.summary().releases).collect();
        assert_eq!(lines, ["web 2 -> 3 (again)", "db 2 -> 1 (back)"]);
        assert_eq!(agent.journal.taken_back(&ServiceKey::new("shop", "web")).unwrap(), None, "it is as good as it was");
    });
    // The same file again: only what somebody went back from is refused.
    assert_eq!(shop.deploy(&request("v1", 600_000)), State::Done);
}

#[test]
fn a_rollback_that_makes_a_release_again_is_one_deployment_with_them() {
    let shop = released(0);
    let engine = shop.engine.restarted();
    shop.life(async {
        let agent = start(shop.dir.path(), &engine, &shop.traffic).await;
        let accepted = rollback(&agent).await;
        assert!(accepted.then.is_none());
        let names: Vec<&str> = accepted.plan.members.iter().map(|member| member.service.service.as_str()).collect();
        assert_eq!(names, ["db", "web"]);
        assert_eq!(until_ended(&agent, accepted.deployment).await, State::Done);
        assert_eq!(live(&agent), [3, 3]);
    });
}

/// In this moment the agent has begun the one, and not yet the other.
#[test]
fn an_agent_that_dies_between_the_two_leaves_a_next_one_that_starts_them_again() {
    let shop = released(600_000);
    let engine = shop.engine.restarted();
    // Behind the table that it begins with.
    let flip = shop.traffic.proxy().tables.len() + 1;
    shop.traffic.proxy().crash = Some(Crash::Before(flip));
    shop.life(async {
        let goes_back = async {
            let agent = start(shop.dir.path(), &engine, &shop.traffic).await;
            rollback(&agent).await;
            std::future::pending::<()>().await;
        };
        tokio::select! {
            biased;
            () = shop.traffic.crashed() => {}
            () = goes_back => unreachable!(),
        }
    });
    shop.traffic.proxy().crash = None;
    // It may have been quicker than that: as if it had not been.
    let journal = Connection::open(shop.dir.path().join("journal.sqlite3")).unwrap();
    for (table, column) in
        [("unfinished", "deployment"), ("releases", "deployment"), ("entries", "deployment"), ("deployments", "number")]
    {
        journal.execute(&format!("DELETE FROM {table} WHERE {column} = 4"), []).unwrap();
    }
    drop(journal);
    let engine = shop.engine.restarted();
    shop.life(async {
        let agent = start(shop.dir.path(), &engine, &shop.traffic).await;
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert_eq!(live(&agent), [1, 3]);
        assert_eq!(agent.alerts(), Vec::<String>::new());
    });
}

#[test]
fn they_are_left_alone_where_the_rollback_is_taken_back() {
    let shop = released(600_000);
    let engine = shop.engine.restarted();
    shop.life(async {
        let agent = start(shop.dir.path(), &engine, &shop.traffic).await;
        let before = shop.starts_of("web");
        // No table of it is acknowledged.
        let at = shop.traffic.proxy().flips;
        shop.traffic.proxy().silence = Some(Silence { at, times: 1, taken: false });
        let accepted = rollback(&agent).await;
        let then = accepted.then.unwrap();
        assert!(matches!(until_ended(&agent, accepted.deployment).await, State::Reverted { .. }));
        assert!(matches!(until_ended(&agent, then.deployment).await, State::Reverted { .. }));
        assert_eq!((live(&agent), shop.starts_of("web")), (vec![2, 2], before));
    });
}
