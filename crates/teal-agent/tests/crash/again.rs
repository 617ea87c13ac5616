//! Releases that are made again: they are what they were made from, to the file, to `keep` and to whoever goes back.

use crate::deaths::web;
use crate::shop::{self, Shop, project};
use crate::stage::{good, start, until_ended};
use std::sync::Arc;
use std::time::Duration;
use teal_agent::agent::Agent;
use teal_agent::runtime::fake::FakeRuntime;
use teal_agent::runtime::{Container, Status, label};
use teal_model::api::{DeployRequest, RollbackRequest, RolledBack};
use teal_model::config::{PullPolicy, Retain, Service};
use teal_model::deployment::State;
use teal_model::fault::Code;

fn request(version: &str, keep: u32, retain_ms: u64) -> DeployRequest {
    let mut service = Service { replicas: 1, ..shop::web(&format!("web:{version}")) };
    service.teal.retain = Retain::For { ms: retain_ms };
    service.teal.keep = keep;
    project(vec![service])
}

fn released(versions: &[&str], keep: u32, retain_ms: u64) -> Shop {
    let shop = Shop::new();
    for version in versions {
        shop.image(&format!("web:{version}"), good());
        assert_eq!(shop.deploy(&request(version, keep, retain_ms)), State::Done);
    }
    shop
}

fn back(to: Option<u64>) -> RollbackRequest {
    RollbackRequest {
        project: "shop".to_owned(),
        services: vec!["web".to_owned()],
        to,
        dry_run: false,
        who: "test".to_owned(),
    }
}

/// The number that is live then.
async fn goes_back(agent: &Arc<Agent>, to: Option<u64>) -> u64 {
    let RolledBack::Deploys(accepted) = agent.rollback(back(to)).await.unwrap() else { panic!() };
    assert_eq!(until_ended(agent, accepted.deployment).await, State::Done);
    // The reconciler has its turn, too.
    tokio::time::sleep(Duration::from_secs(40)).await;
    live(agent).release.number
}

fn live(agent: &Agent) -> teal_agent::journal::ReleaseRecord {
    let services = agent.journal.services().unwrap();
    services.into_iter().find(|one| one.service == web()).unwrap().live.unwrap()
}

fn with_agent<T>(shop: &Shop, body: impl AsyncFnOnce(Arc<Agent>, FakeRuntime) -> T) -> T {
    let engine = shop.engine.restarted();
    shop.life(async {
        let agent = start(shop.dir.path(), &engine, &shop.traffic).await;
        body(agent, engine).await
    })
}

#[test]
fn the_file_of_a_release_that_was_made_again_has_nothing_to_deploy() {
    let shop = released(&["v1", "v2"], 5, 0);
    with_agent(&shop, async |agent, _| {
        assert_eq!(goes_back(&agent, None).await, 3);
        assert_eq!(live(&agent).image, "web:v1", "by its name, and not by an id");
        assert!(agent.plan(&request("v1", 5, 0)).await.unwrap().is_empty());
        assert!(!agent.plan(&request("v2", 5, 0)).await.unwrap().is_empty());
    });
    // And where the name has moved on.
    shop.image("web:v1", good());
    with_agent(&shop, async |agent, _| {
        assert!(!agent.plan(&request("v1", 5, 0)).await.unwrap().is_empty());
        let first = live(&agent).image_id;
        assert_eq!(goes_back(&agent, Some(2)).await, 4);
        assert_eq!(goes_back(&agent, Some(1)).await, 5);
        assert_eq!((live(&agent).image.as_str(), live(&agent).image_id), ("web:v1", first));
    });
}

#[test]
fn a_policy_that_always_pulls_is_about_the_name_and_not_about_what_is_made_again() {
    let shop = Shop::new();
    let always = |version: &str| {
        let mut request = request(version, 5, 0);
        request.project.services.get_mut("web").unwrap().pull_policy = PullPolicy::Always;
        request
    };
    for version in ["v1", "v2"] {
        shop.image(&format!("web:{version}"), good());
        assert_eq!(shop.deploy(&always(version)), State::Done);
    }
    let first = with_agent(&shop, async |agent, _| agent.journal.were_live(&web()).unwrap()[1].image_id.clone());
    shop.image("web:v1", good());
    with_agent(&shop, async |agent, _| {
        assert_eq!(goes_back(&agent, None).await, 3);
        assert_eq!(live(&agent).image_id, first);
    });
}

#[test]
fn going_to_and_fro_uses_nothing_up_of_what_is_kept() {
    let shop = released(&["v6", "v7", "v8"], 2, 0);
    with_agent(&shop, async |agent, _| {
        assert_eq!(goes_back(&agent, None).await, 4);
        assert_eq!(goes_back(&agent, Some(3)).await, 5);
        assert_eq!(goes_back(&agent, None).await, 6);
        assert_eq!((live(&agent).image.as_str(), live(&agent).again), ("web:v7", Some(2)));
        // Two are kept, and the first one was a third.
        let fault = agent.rollback(back(None)).await.unwrap_err();
        assert_eq!(
            (fault.code, fault.what.as_str()),
            (Code::NotFound, "the settings of shop/web@1 are not kept any more")
        );
        assert_eq!(goes_back(&agent, Some(5)).await, 7);
        assert_eq!(live(&agent).image, "web:v8");
    });
}

#[test]
fn what_is_warm_is_gone_to_by_a_flip_whatever_its_number() {
    let shop = released(&["v1", "v2", "v3"], 5, 600_000);
    with_agent(&shop, async |agent, _| {
        assert_eq!(goes_back(&agent, Some(1)).await, 4, "made again, and 3 is warm");
        assert_eq!(goes_back(&agent, Some(3)).await, 3);
        let starts = shop.starts_of("web");
        assert_eq!(goes_back(&agent, Some(1)).await, 4, "it is warm as 4");
        assert_eq!(shop.starts_of("web"), starts);
        assert_eq!(live(&agent).again, Some(1));
    });
}

#[test]
fn what_is_live_already_is_no_error_and_nothing_to_do() {
    let shop = released(&["v1", "v2"], 5, 0);
    with_agent(&shop, async |agent, _| {
        let answer =
            |number, again| RolledBack::Already { release: teal_model::ids::ReleaseKey::new(web(), number), again };
        assert_eq!(agent.rollback(back(Some(2))).await.unwrap(), answer(2, None));
        assert_eq!(goes_back(&agent, None).await, 3);
        for to in [1, 3] {
            assert_eq!(agent.rollback(back(Some(to))).await.unwrap(), answer(3, Some(1)));
        }
        assert_eq!(agent.journal.history(None, 9).unwrap().len(), 3);
    });
}

#[test]
fn where_nothing_is_before_what_is_live_the_error_names_what_came_after_and_leads_there() {
    let shop = released(&["v1", "v2"], 5, 0);
    with_agent(&shop, async |agent, _| {
        goes_back(&agent, None).await;
        for services in [vec!["web".to_owned()], Vec::new()] {
            let fault = agent.rollback(RollbackRequest { services, ..back(None) }).await.unwrap_err();
            assert_eq!(fault.what, "shop/web has no release before 3, which is 1 again");
            assert_eq!(fault.hint, "`teal rollback web --to 2` goes forward again");
            assert_eq!(fault.detail, ["came after it, and gone back from: 2"]);
        }
        assert_eq!(goes_back(&agent, Some(2)).await, 4);
    });
}

#[test]
fn a_release_that_was_warm_and_has_ended_is_none() {
    let shop = released(&["v1", "v2"], 5, 600_000);
    with_agent(&shop, async |agent, engine| {
        let warm = agent.journal.retained().unwrap()[0].release.clone();
        assert!(!agent.is_spent(&warm));
        let is_warm = |one: &&Container| one.labels[label::RELEASE] == "1";
        let container = shop.of("web").iter().find(is_warm).unwrap().id.clone();
        engine.kill(&container, 1);
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert!(agent.is_spent(&warm), "and is not shown as warm from this moment on");
        assert!(shop.of("web").iter().any(|one| one.status == Status::Running));
    });
}
