//! What is wrong is said as long as it is, and no longer.

use crate::shop::{Shop, project, web};
use crate::stage::{good, start, until_ended};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use teal_agent::agent::Agent;
use teal_agent::runtime::RuntimeError;
use teal_agent::runtime::fake::{Fault as Happens, Moment, Op};
use teal_model::api::DeployRequest;
use teal_model::deployment::State;
use teal_model::fault::Code;
use teal_model::wire::ListenerKey;

/// More than a round of the reconciler.
const ROUND: Duration = Duration::from_secs(20);

fn request(version: &str) -> DeployRequest {
    project(vec![web(&format!("web:{version}"))])
}

fn released() -> Shop {
    let shop = Shop::new();
    shop.image("web:v1", good()).image("web:v2", good());
    assert_eq!(shop.deploy(&request("v1")), State::Done);
    shop
}

async fn deploy(agent: &Arc<Agent>, request: &DeployRequest) -> State {
    let accepted = agent.deploy(request.clone()).await.unwrap();
    until_ended(agent, accepted.deployment).await
}

fn port() -> ListenerKey {
    ListenerKey::host(SocketAddr::from(([127, 0, 0, 1], 8003)))
}

#[test]
fn settings_that_cannot_be_forgotten_are_said_until_they_can() {
    let shop = released();
    let engine = shop.engine.restarted();
    // A folder is not removed as a file is.
    let odd = shop.dir.path().join("secrets/odd");
    shop.life(async {
        let agent = start(shop.dir.path(), &engine, &shop.traffic).await;
        std::fs::create_dir(&odd).unwrap();
        assert_eq!(deploy(&agent, &request("v2")).await, State::Done);
        let alerts = agent.alerts();
        assert!(matches!(&alerts[..], [one] if one.contains("secrets/odd cannot be written")), "{alerts:?}");
        std::fs::remove_dir(&odd).unwrap();
        tokio::time::sleep(ROUND).await;
        assert_eq!(agent.alerts(), Vec::<String>::new());
    });
}

#[test]
fn a_release_that_is_not_whole_is_nobodys_business_once_another_one_is_live() {
    let shop = released();
    let engine = shop.engine.restarted();
    shop.life(async {
        let agent = start(shop.dir.path(), &engine, &shop.traffic).await;
        let why = || RuntimeError::Refused { what: "create a container".into(), why: "input/output error".into() };
        engine.hook(move |effect, moment| match (effect.op, moment) {
            (Op::EnsureContainer, Moment::Before) if effect.on.contains("blue") => Happens::Fail(why()),
            _ => Happens::None,
        });
        let gone = shop.of("web").remove(0);
        teal_agent::runtime::Runtime::remove(&engine, &gone.id, true).await.unwrap();
        tokio::time::sleep(ROUND).await;
        let alerts = agent.alerts();
        assert!(matches!(&alerts[..], [one] if one.contains("shop/web@1 is not whole")), "{alerts:?}");
        assert_eq!(deploy(&agent, &request("v2")).await, State::Done);
        tokio::time::sleep(ROUND).await;
        assert_eq!(agent.alerts(), Vec::<String>::new());
    });
}

#[test]
fn a_first_deployment_that_meets_a_taken_port_says_so_itself_and_leaves_no_alert() {
    let shop = Shop::new();
    shop.image("web:v1", good());
    let engine = shop.engine.restarted();
    shop.traffic.proxy().taken.insert(port());
    shop.life(async {
        let agent = start(shop.dir.path(), &engine, &shop.traffic).await;
        let plan = agent.preview(&request("v1")).await.unwrap();
        let foreseen = |words: &String| words.contains("this is refused: 127.0.0.1:8003 is in use by another process");
        assert!(plan.warnings.iter().any(foreseen), "{:?}", plan.warnings);
        let state = deploy(&agent, &request("v1")).await;
        assert!(matches!(&state, State::Reverted { why } if why.code == Code::PortInUse), "{state:?}");
        assert_eq!(agent.alerts(), Vec::<String>::new());
    });
}

#[test]
fn a_port_of_a_live_service_is_opened_when_whoever_took_it_has_gone() {
    let shop = released();
    let engine = shop.engine.restarted();
    shop.traffic.proxy().listeners.clear();
    shop.traffic.proxy().taken.insert(port());
    shop.life(async {
        let agent = start(shop.dir.path(), &engine, &shop.traffic).await;
        tokio::time::sleep(ROUND).await;
        let alerts = agent.alerts();
        assert!(
            matches!(&alerts[..], [one] if one.contains("a port of a live service cannot be opened")),
            "{alerts:?}"
        );
        shop.traffic.proxy().taken.clear();
        tokio::time::sleep(ROUND).await;
        assert_eq!(agent.alerts(), Vec::<String>::new());
        assert!(shop.traffic.proxy().listeners.contains(&port()));
    });
}
