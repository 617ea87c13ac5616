//! Somebody else ends or removes containers: it is said, mended by a deployment, and held against no release.

use crate::deaths::web;
use crate::shop::{self, Shop, project};
use crate::stage::{good, start, until_ended};
use std::time::Duration;
use teal_agent::agent::Agent;
use teal_agent::runtime::fake::{App, FakeRuntime};
use teal_agent::runtime::{Runtime, Status, label};
use teal_model::api::DeployRequest;
use teal_model::config::{Restart, Service};
use teal_model::deployment::State;
use teal_model::fault::{Code, Fault};

fn of(version: &str, restart: Restart, bake_ms: u64) -> DeployRequest {
    let mut web = Service { replicas: 2, ..shop::web(&format!("web:{version}")) };
    web.container.restart = restart;
    web.teal.bake_ms = bake_ms;
    project(vec![web])
}

fn live(restart: Restart) -> Shop {
    let shop = Shop::new();
    shop.image("web:v1", good()).image("web:v2", good());
    assert_eq!(shop.deploy(&of("v1", restart, 0)), State::Done);
    shop
}

async fn said_later(agent: &Agent) -> Vec<String> {
    tokio::time::sleep(Duration::from_secs(20)).await;
    agent.alerts()
}

/// Why `web` would be deployed; None: it is unchanged.
async fn because(agent: &Agent, request: &DeployRequest) -> Option<String> {
    let plan = agent.preview(request).await.unwrap();
    assert_eq!(plan.members.len() + plan.unchanged.len(), 1, "{plan:?}");
    plan.members.into_iter().next().map(|member| member.because.unwrap())
}

#[test]
fn a_live_release_that_has_ended_is_said_and_deployed_again() {
    let shop = live(Restart::No);
    let engine = shop.engine.restarted();
    let request = of("v1", Restart::No, 0);
    shop.life(async {
        let agent = start(shop.dir.path(), &engine, &shop.traffic).await;
        assert_eq!((said_later(&agent).await, because(&agent, &request).await), (vec![], None));
        for (standing, container) in [1, 0].into_iter().zip(shop.of("web")) {
            engine.kill(&container.id, 137);
            let lacks = format!("is not whole: {standing} of 2 replicas run");
            assert_eq!(because(&agent, &request).await, Some(format!("web 1 {lacks}")), "it is seen at once");
            let says = format!("shop/web@1 {lacks}. `teal deploy --force web` deploys it again");
            assert_eq!(said_later(&agent).await, [says]);
        }
        let number = agent.deploy(request.clone()).await.unwrap().deployment;
        assert_eq!(until_ended(&agent, number).await, State::Done);
        assert_eq!(agent.alerts(), Vec::<String>::new());
        assert_eq!((said_later(&agent).await, because(&agent, &request).await), (vec![], None));
        let there: Vec<_> =
            shop.of("web").into_iter().map(|one| (one.status, one.labels[label::RELEASE].clone())).collect();
        assert_eq!(there, vec![(Status::Running, "2".to_owned()); 2]);
        // There is one to go back to now.
        engine.kill(&shop.of("web")[0].id, 137);
        assert!(said_later(&agent).await[0].ends_with("again, `teal rollback web` goes back to release 1"));
    });
}

#[test]
fn one_that_docker_starts_again_is_whole() {
    let shop = live(Restart::Always);
    let engine = shop.engine.restarted();
    shop.life(async {
        let agent = start(shop.dir.path(), &engine, &shop.traffic).await;
        tokio::time::sleep(Duration::from_secs(1)).await;
        engine.kill(&shop.of("web")[0].id, 137);
        assert_eq!(because(&agent, &of("v1", Restart::Always, 0)).await, None);
        assert_eq!(said_later(&agent).await, Vec::<String>::new());
    });
}

#[test]
fn a_job_that_has_ended_is_done() {
    let shop = Shop::new();
    shop.image("web:v1", App { exits: Some((Duration::from_secs(1), 0)), ..good() });
    let mut request = of("v1", Restart::No, 0);
    let job = request.project.services.get_mut("web").unwrap();
    job.is_job = true;
    job.ports.clear();
    assert_eq!(shop.deploy(&request), State::Done);
    let engine = shop.engine.restarted();
    shop.life(async {
        let agent = start(shop.dir.path(), &engine, &shop.traffic).await;
        assert_eq!((said_later(&agent).await, because(&agent, &request).await), (vec![], None));
    });
}

/// v2 bakes, and `act` is done to its containers: how that is taken back, and what a second try of it gets.
fn in_the_bake(act: impl AsyncFn(&FakeRuntime, &str)) -> (Fault, Option<Fault>) {
    let shop = live(Restart::No);
    let engine = shop.engine.restarted();
    let request = of("v2", Restart::No, 60_000);
    shop.life(async {
        let agent = start(shop.dir.path(), &engine, &shop.traffic).await;
        let number = agent.deploy(request.clone()).await.unwrap().deployment;
        tokio::time::sleep(Duration::from_secs(20)).await;
        let state = agent.journal.deployment(number).unwrap().unwrap().deployment.state;
        assert_eq!(state, State::Baking);
        for candidate in shop.of("web").iter().filter(|one| one.labels[label::RELEASE] == "2") {
            act(&engine, &candidate.id).await;
        }
        let State::Reverted { why } = until_ended(&agent, number).await else { panic!("it is not taken back") };
        assert_eq!(agent.journal.services().unwrap()[0].service, web());
        (why, agent.deploy(request).await.err())
    })
}

#[test]
fn a_candidate_that_was_removed_may_be_deployed_again_and_one_that_ended_may_not() {
    let (why, again) = in_the_bake(async |engine, id| engine.remove(id, true).await.unwrap());
    assert_eq!((why.code, again), (Code::ReplicaRemoved, None));
    let (why, again) = in_the_bake(async |engine, id| engine.kill(id, 1));
    let again = again.unwrap();
    assert_eq!((why.code, again.code), (Code::ReplicaExited, Code::JustReverted));
    assert!(again.hint.ends_with("`teal deploy --force web`"), "{}", again.hint);
}
