//! Who watches a candidate, what counts against it, and what does not.

use crate::canary::stepwise;
use crate::deaths::{listen, web};
use crate::shop::{self, Shop, project};
use crate::stage::{good, service, start, until_ended};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use teal_agent::agent::Agent;
use teal_agent::clock::unix_ms;
use teal_agent::runtime::{ContainerHealth, label};
use teal_agent::traffic::fake::Load;
use teal_model::api::{DeployRequest, RollbackRequest, RolledBack};
use teal_model::config::{CanaryStep, FailureAction, Healthcheck, Judge, JudgeAsks, Pace, Service, Strategy};
use teal_model::deployment::{Deployment, Promote, State};
use teal_model::fault::Code;

const INTERVAL_MS: u64 = 30_000;

fn deployment(agent: &Agent, number: u64) -> Deployment {
    agent.journal.deployment(number).unwrap().unwrap().deployment
}

async fn until(agent: &Agent, number: u64, met: impl Fn(&Deployment) -> bool) -> Deployment {
    let waits = async {
        while !met(&deployment(agent, number)) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        deployment(agent, number)
    };
    let waited = tokio::time::timeout(Duration::from_secs(60), waits).await;
    waited.unwrap_or_else(|_| panic!("{:#?}", deployment(agent, number)))
}

/// Docker looks at it every half a minute, at moments of its own.
fn checked(version: &str) -> DeployRequest {
    let mut service = Service { replicas: 1, ..shop::web(&format!("web:{version}")) };
    service.container.healthcheck = Some(Healthcheck {
        test: Some(vec!["CMD".to_owned(), "check".to_owned()]),
        interval_ms: Some(INTERVAL_MS),
        timeout_ms: Some(5_000),
        ..Healthcheck::default()
    });
    service.teal.bake_ms = 600_000;
    project(vec![service])
}

#[test]
fn an_outage_of_both_takes_nothing_back_and_one_of_the_candidate_alone_does() {
    let shop = Shop::new();
    shop.image("web:v1", good()).image("web:v2", good());
    assert_eq!(shop.deploy(&checked("v1")), State::Done);
    let engine = shop.engine.restarted();
    shop.life(async {
        let agent = start(shop.dir.path(), &engine, &shop.traffic).await;
        let number = agent.deploy(checked("v2")).await.unwrap().deployment;
        until(&agent, number, |deployment| deployment.state == State::Baking).await;
        let of =
            |release: &str| shop.of("web").into_iter().find(|one| one.labels[label::RELEASE] == release).unwrap().id;
        let (live, candidate) = (of("1"), of("2"));
        let fails = || ContainerHealth::Unhealthy("no database".to_owned());
        let phase = Duration::from_millis(INTERVAL_MS - 1_000);
        engine.set_health(&candidate, fails());
        tokio::time::sleep(phase).await;
        engine.set_health(&live, fails());
        tokio::time::sleep(Duration::from_secs(90)).await;
        engine.set_health(&live, ContainerHealth::Healthy);
        tokio::time::sleep(phase).await;
        engine.set_health(&candidate, ContainerHealth::Healthy);
        tokio::time::sleep(Duration::from_secs(20)).await;
        assert_eq!(deployment(&agent, number).state, State::Baking, "both needed what was down");

        let began = tokio::time::Instant::now();
        engine.set_health(&candidate, fails());
        let State::Reverted { why } = until_ended(&agent, number).await else { panic!() };
        assert_eq!((why.code, why.service), (Code::NeverReady, Some(Box::new(web()))));
        assert!(began.elapsed() > Duration::from_millis(INTERVAL_MS * 3 / 2), "{:?}", began.elapsed());
    });
}

#[test]
fn a_step_is_not_over_because_the_agent_was_away_for_as_long() {
    let shop = Shop::new();
    shop.image("web:v1", good()).image("web:v2", good());
    assert_eq!(shop.deploy(&stepwise("v1")), State::Done);
    shop.traffic.proxy().load = Some(Load { rate: 20.0, fails: Box::new(|_, _| false) });
    let engine = shop.engine.restarted();
    let step = |deployment: &Deployment| deployment.state == State::Stepping { step: 0 };
    let number = shop.life(async {
        let agent = start(shop.dir.path(), &engine, &shop.traffic).await;
        let number = agent.deploy(stepwise("v2")).await.unwrap().deployment;
        until(&agent, number, step).await;
        number
    });
    let tables = listen(&shop);
    let engine = shop.engine.restarted();
    shop.life(async {
        tokio::time::sleep(Duration::from_secs(900)).await;
        let agent = start(shop.dir.path(), &engine, &shop.traffic).await;
        let began = unix_ms();
        let entered =
            until(&agent, number, |deployment| deployment.state == State::Stepping { step: 1 }).await.entered_ms;
        assert!(entered >= began + 20_000, "the next step came after {} ms", entered - began);
        assert!(tables.lock().unwrap().iter().all(|sent| sent.at_ms >= began + 19_900 || sent.share(2) <= 1_000));
    });
}

#[test]
fn one_that_is_held_in_a_step_says_why() {
    let shop = Shop::new();
    shop.image("web:v1", good()).image("web:v2", good());
    assert_eq!(shop.deploy(&stepwise("v1")), State::Done);
    let fails = |release: &teal_model::ids::ReleaseKey, n| release.number == 2 && (50..55).contains(&n);
    shop.traffic.proxy().load = Some(Load { rate: 100.0, fails: Box::new(fails) });
    let engine = shop.engine.restarted();
    shop.life(async {
        let agent = start(shop.dir.path(), &engine, &shop.traffic).await;
        let number = agent.deploy(stepwise("v2")).await.unwrap().deployment;
        until(&agent, number, |deployment| deployment.cap.is_some()).await;
        let held = || agent.handle(number).and_then(|handle| handle.judged.borrow().held.clone());
        tokio::time::sleep(Duration::from_millis(200)).await;
        let why = held().unwrap();
        let wanted = "the share of web is turned down until it does well for a while (green (web 2) failed ";
        assert!(why.starts_with(wanted), "{why}");
        until(&agent, number, |deployment| deployment.state == State::Baking).await;
        assert_eq!(held(), None);
        assert_eq!(until_ended(&agent, number).await, State::Done);
    });
}

/// Both flip together.
fn two(web: &str, api: &str) -> DeployRequest {
    let mut services = vec![
        service("web", &format!("web:{web}"), Strategy::BlueGreen, 8003),
        service("api", &format!("api:{api}"), Strategy::BlueGreen, 8001),
    ];
    services.iter_mut().for_each(|service| service.teal.bake_ms = 30_000);
    project(services)
}

fn two_live() -> Shop {
    let shop = Shop::new();
    for version in ["v1", "v2", "v3"] {
        shop.image(&format!("web:{version}"), good()).image(&format!("api:{version}"), good());
    }
    assert_eq!(shop.deploy(&two("v1", "v1")), State::Done);
    shop
}

async fn refuses(agent: &Arc<Agent>, request: DeployRequest) {
    assert_eq!(agent.deploy(request).await.unwrap_err().code, Code::JustReverted);
}

#[test]
fn of_a_group_only_the_accused_is_refused_again() {
    let shop = two_live();
    let fails = |release: &teal_model::ids::ReleaseKey, _| release.service.service == "api" && release.number == 2;
    shop.traffic.proxy().load = Some(Load { rate: 50.0, fails: Box::new(fails) });
    let State::Reverted { why } = shop.deploy(&two("v2", "v2")) else { panic!() };
    assert_eq!(why.service.map(|service| service.service).as_deref(), Some("api"));
    let engine = shop.engine.restarted();
    shop.life(async {
        let agent = start(shop.dir.path(), &engine, &shop.traffic).await;
        refuses(&agent, two("v2", "v2")).await;
        refuses(&agent, two("v3", "v2")).await;
        let fixed = agent.deploy(two("v2", "v3")).await.unwrap();
        assert_eq!(until_ended(&agent, fixed.deployment).await, State::Done);
    });
}

#[test]
fn a_group_that_somebody_went_back_from_is_refused_as_a_whole() {
    let shop = two_live();
    assert_eq!(shop.deploy(&two("v2", "v2")), State::Done);
    let engine = shop.engine.restarted();
    shop.life(async {
        let agent = start(shop.dir.path(), &engine, &shop.traffic).await;
        let (services, who) = (Vec::new(), "test".to_owned());
        let back = RollbackRequest { project: "shop".to_owned(), services, to: None, dry_run: false, who };
        let RolledBack::Deploys(accepted) = agent.rollback(back).await.unwrap() else { panic!() };
        assert_eq!(until_ended(&agent, accepted.deployment).await, State::Done);
        refuses(&agent, two("v2", "v2")).await;
        let fixed = agent.deploy(two("v2", "v3")).await.unwrap();
        assert_eq!(until_ended(&agent, fixed.deployment).await, State::Done);
    });
}

/// Judges are commands, and take the time of the real clock.
fn in_real_time(body: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async { tokio::time::timeout(Duration::from_secs(60), body).await.expect("within a minute") });
    runtime.shutdown_background();
}

/// The judge `orders` runs in this directory.
fn judged(version: &str, directory: &Path, script: &str) -> DeployRequest {
    let mut service = Service { replicas: 1, ..shop::web(&format!("web:{version}")) };
    service.teal.bake_ms = 2_000;
    let asks = JudgeAsks::Command { command: ["sh", "-c", script].map(str::to_owned).to_vec() };
    let judge = Judge { name: "orders".to_owned(), asks, every_ms: 200, timeout_ms: 5_000, failures: 1 };
    service.teal.rollback.judges = vec![judge];
    let mut request = project(vec![service]);
    request.project.directory = directory.display().to_string();
    request
}

/// v1 is live; its successor is judged by whether there is a file `bad`.
async fn with_judge(shop: &Shop, script: &str) -> (Arc<Agent>, DeployRequest) {
    shop.image("web:v1", good()).image("web:v2", good());
    let (agent, traffic) = (start(shop.dir.path(), &shop.engine, &shop.traffic).await, shop.traffic.clone());
    tokio::spawn(async move { traffic.drive().await });
    let first = agent.deploy(judged("v1", shop.dir.path(), script)).await.unwrap();
    assert_eq!(until_ended(&agent, first.deployment).await, State::Done);
    (agent, judged("v2", shop.dir.path(), script))
}

const BAD: &str = "test ! -e bad";

fn set_bad(shop: &Shop, bad: bool) {
    let file = shop.dir.path().join("bad");
    if bad { std::fs::write(file, "").unwrap() } else { std::fs::remove_file(file).unwrap() }
}

#[test]
fn a_judge_that_was_bad_before_the_candidate_had_requests_takes_nothing_back() {
    let shop = Shop::new();
    in_real_time(async {
        let (agent, request) = with_judge(&shop, BAD).await;
        set_bad(&shop, true);
        let number = agent.deploy(request).await.unwrap().deployment;
        let told = |deployment: &Deployment, words: &str| deployment.notes.iter().any(|note| note == words);
        let before = "the judge orders was bad before shop/web@2 was watched, and has no say until it is good";
        until(&agent, number, |deployment| told(deployment, before)).await;
        tokio::time::sleep(Duration::from_millis(300)).await;
        assert_eq!(deployment(&agent, number).state, State::Baking);
        set_bad(&shop, false);
        let now = "the judge orders is good now, and has a say";
        until(&agent, number, |deployment| told(deployment, now)).await;
        set_bad(&shop, true);
        let State::Reverted { why } = until_ended(&agent, number).await else { panic!("it has a say now") };
        assert!(why.what.starts_with("the judge orders finds shop/web@2 bad: "), "{why}");
    });
}

#[test]
fn why_a_judge_does_not_know_is_told_each_reason_once() {
    let shop = Shop::new();
    in_real_time(async {
        let script = "echo x >> asked; test $(wc -l < asked) -le 3 && exit 127; exit 126";
        let (agent, request) = with_judge(&shop, script).await;
        let number = agent.deploy(request).await.unwrap().deployment;
        assert_eq!(until_ended(&agent, number).await, State::Done);
        let notes = deployment(&agent, number).notes;
        let unknown: Vec<&String> = notes.iter().filter(|note| note.contains("does not know")).collect();
        let [first, second] = &unknown[..] else { panic!("{notes:?}") };
        assert!(first.contains("exited with code 127") && second.contains("exited with code 126"), "{notes:?}");
    });
}

#[test]
fn a_promotion_over_a_pause_begins_anew_and_one_of_a_step_alone_does_not() {
    let shop = Shop::new();
    in_real_time(async {
        let (agent, mut request) = with_judge(&shop, BAD).await;
        let web = request.project.services.get_mut("web").unwrap();
        let by_hand = |share| CanaryStep { replicas: None, share, pace: Pace::Manual };
        web.teal.canary = vec![by_hand(1_000), by_hand(5_000)];
        web.teal.rollback.action = FailureAction::Pause;
        let number = agent.deploy(request).await.unwrap().deployment;
        let in_step = |step| move |deployment: &Deployment| deployment.state == State::Stepping { step };
        let watched_from = || agent.handle(number).unwrap().judged.borrow().watched_from_ms;
        let promote = || agent.promote(number, Promote { full: false, who: "ana".to_owned() }).unwrap();
        until(&agent, number, in_step(0)).await;
        tokio::time::sleep(Duration::from_millis(100)).await;
        let began = watched_from();
        promote();
        until(&agent, number, in_step(1)).await;
        tokio::time::sleep(Duration::from_millis(1_500)).await;
        assert_eq!(watched_from(), began, "what was seen in the first step counts on");
        set_bad(&shop, true);
        let why = until(&agent, number, |deployment| deployment.frozen.is_some()).await.frozen.unwrap();
        set_bad(&shop, false);
        promote();
        until(&agent, number, |deployment| deployment.state == State::Baking).await;
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert!(watched_from() > began);
        assert_eq!(until_ended(&agent, number).await, State::Done);
        let notes = deployment(&agent, number).notes;
        assert!(notes.contains(&"promoted by ana in step 1 of 2".to_owned()), "{notes:?}");
        assert!(notes.contains(&format!("promoted by ana in step 2 of 2, although {why}")), "{notes:?}");
    });
}
