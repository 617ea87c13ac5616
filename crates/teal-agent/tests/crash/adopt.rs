//! Containers that Compose started: adopted, deployed over, given back, and every death in between.

use crate::stage::{exits, good, life, request, start, until_ended};
use std::collections::BTreeSet;
use std::time::Duration;
use teal_agent::agent::Agent;
use teal_agent::runtime::fake::{App, FakeRuntime, Fault, Moment, Op};
use teal_agent::runtime::{Runtime, Status, label};
use teal_agent::traffic::fake::{Crash, FakeTraffic};
use teal_model::api::{AdoptRequest, DeployRequest, GiveBackRequest};
use teal_model::config::Probe;
use teal_model::deployment::State;
use teal_model::fault::Code;
use teal_model::ids::ServiceKey;
use teal_model::wire::{ListenerKey, RouteTable};

/// What Compose left: two containers of `api`, which is blue-green, and of `db`, which is recreated.
struct Composed {
    dir: tempfile::TempDir,
    engine: FakeRuntime,
    traffic: FakeTraffic,
    ids: BTreeSet<String>,
}

fn listener(port: u16) -> ListenerKey {
    ListenerKey::host(std::net::SocketAddr::from(([127, 0, 0, 1], port)))
}

/// Docker has a port for as long as a container that publishes it runs.
fn as_docker_has_it(engine: &FakeRuntime, traffic: &FakeTraffic) {
    let runs = |port| {
        let publishes = |container: &teal_agent::runtime::Container| {
            container.published.iter().any(|one| one.host_port == Some(port))
        };
        engine.containers().iter().any(|container| container.status == Status::Running && publishes(container))
    };
    traffic.proxy().taken = [8001, 8002].into_iter().filter(|port| runs(*port)).map(listener).collect();
}

fn composed(v2: App) -> Composed {
    let (dir, engine, traffic) = (tempfile::tempdir().unwrap(), FakeRuntime::new(), FakeTraffic::default());
    let v1 = engine.add_image("app:v1", good());
    let v2 = engine.add_image("app:v2", v2);
    // Without one, a release that ends after a moment could be live before that.
    engine.change_image(&v2.id, |image| image.has_healthcheck = true);
    let mut ids = BTreeSet::new();
    life(async {
        for (service, port) in [("api", 8001), ("db", 8002)] {
            for number in ["1", "2"] {
                let published = (number == "1").then_some(port);
                let container = engine.add_stranger(&format!("shop-{service}-{number}"), &v1.id, published);
                engine.relabel(
                    &container.id,
                    &[
                        ("com.docker.compose.project", "shop"),
                        ("com.docker.compose.service", service),
                        ("com.docker.compose.container-number", number),
                        ("com.docker.compose.oneoff", "False"),
                    ],
                );
                ids.insert(container.id);
            }
        }
    });
    as_docker_has_it(&engine, &traffic);
    Composed { dir, engine, traffic, ids }
}

fn of_two(version: &str) -> DeployRequest {
    let mut request = request(version);
    request.project.services.retain(|name, _| name != "web");
    request
}

async fn adopt(agent: &std::sync::Arc<Agent>) {
    adopt_as(agent, of_two("v1")).await;
}

async fn adopt_as(agent: &std::sync::Arc<Agent>, v1: DeployRequest) {
    let request = AdoptRequest {
        project: v1.project,
        services: Vec::new(),
        containers: None,
        dry_run: false,
        who: "test".to_owned(),
    };
    let adoption = agent.adopt(request).await.unwrap();
    assert_eq!(adoption.services.len(), 2, "{adoption:?}");
    // It is seen to be ready.
    tokio::time::sleep(Duration::from_secs(2)).await;
}

fn strangers(engine: &FakeRuntime, ids: &BTreeSet<String>) -> BTreeSet<String> {
    let running = engine.containers().into_iter().filter(|container| container.status == Status::Running);
    running.map(|container| container.id).filter(|id| ids.contains(id)).collect()
}

/// Docker gives a port back when its container has ended, and wants it again when that starts.
fn ports_follow_containers(engine: &FakeRuntime, traffic: &FakeTraffic) {
    let (world, proxy) = (engine.clone(), traffic.clone());
    engine.hook(move |effect, moment| {
        if matches!(effect.op, Op::Stop | Op::Remove | Op::Start) && moment == Moment::After {
            as_docker_has_it(&world, &proxy);
        }
        if effect.op == Op::Start && moment == Moment::Before && effect.on.starts_with("shop-") {
            let publishes = [("shop-api-1", 8001), ("shop-db-1", 8002)];
            let port = publishes.iter().find(|(name, _)| *name == effect.on).map(|(_, port)| *port);
            let open = port.is_some_and(|port| proxy.proxy().listeners.contains(&listener(port)));
            assert!(!open, "{} is started while Teal has its port", effect.on);
        }
        Fault::None
    });
}

async fn wait_for(agent: &Agent, engine: &FakeRuntime, traffic: &FakeTraffic, deployment: u64) -> State {
    while agent.handle(deployment).is_some() {
        as_docker_has_it(engine, traffic);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    until_ended(agent, deployment).await
}

/// How v2 ends over adopted containers, with a death that is planned. None: it did not come to that.
fn die_once(v2: App, plan: impl FnOnce(&FakeRuntime, &FakeTraffic)) -> Option<State> {
    let Composed { dir, engine, traffic, ids } = &composed(v2);
    life(async { adopt(&start(dir.path(), engine, traffic).await).await });
    assert_eq!(&strangers(engine, ids), ids);
    let engine = &engine.restarted();
    ports_follow_containers(engine, traffic);
    plan(engine, traffic);
    let died = life(async {
        let deploy = async {
            let agent = start(dir.path(), engine, traffic).await;
            tokio::time::sleep(Duration::from_secs(2)).await;
            let accepted = agent.deploy(of_two("v2")).await.unwrap();
            wait_for(&agent, engine, traffic, accepted.deployment).await
        };
        tokio::select! {
            biased;
            () = engine.crashed() => true,
            () = traffic.crashed() => true,
            _ = deploy => false,
        }
    });
    if !died {
        return None;
    }
    traffic.proxy().crash = None;
    let engine = &engine.restarted();
    ports_follow_containers(engine, traffic);
    let state = life(async {
        as_docker_has_it(engine, traffic);
        let agent = start(dir.path(), engine, traffic).await;
        if agent.journal.deployment(2).unwrap().is_none() {
            agent.deploy(of_two("v2")).await.unwrap();
        }
        let state = wait_for(&agent, engine, traffic, 2).await;
        tokio::time::sleep(Duration::from_secs(40)).await;
        assert_eq!(agent.alerts(), Vec::<String>::new());
        state
    });
    how_it_ended(&state, engine, traffic, ids);
    Some(state)
}

fn how_it_ended(state: &State, engine: &FakeRuntime, traffic: &FakeTraffic, ids: &BTreeSet<String>) {
    let proxy = traffic.proxy();
    assert!(proxy.diversions.is_empty(), "{:?}", proxy.diversions);
    let mut open: Vec<&ListenerKey> = proxy.listeners.iter().filter(|one| one.namespace.is_none()).collect();
    open.sort();
    let left = strangers(engine, ids);
    let ours = engine.containers().into_iter().filter(|one| one.labels.contains_key(label::AGENT)).count();
    match state {
        State::Done => {
            assert_eq!(open, [&listener(8001), &listener(8002)]);
            assert!(left.is_empty() && engine.containers().len() == 6, "{left:?}");
        }
        _ => {
            assert_eq!(open, Vec::<&ListenerKey>::new(), "they are Docker's");
            assert_eq!((&left, ours), (ids, 0), "the adopted containers run, and nothing else is left");
        }
    }
    let mut checked = 0;
    for (table, led) in proxy.tables.iter().zip(&proxy.led) {
        // Before new connections are led to the proxy, none of the service's comes there.
        for (service, port) in [("api", 8001), ("db", 8002)] {
            if !led.contains(&listener(port)) {
                continue;
            }
            let key = ServiceKey::new("shop", service);
            let entry = &table.services[&key];
            let shared = |release| entry.split.iter().any(|share| &share.release == release);
            let serves = entry.releases.iter().any(|one| shared(&one.release) && !one.backends.is_empty());
            // An agent that has just begun has asked none of them yet: requests wait until it has.
            let waits = table.number.n == 1 && entry.hold.for_ms > 0;
            assert!(entry.holding || serves || waits, "{key} has no backend in table {}: {entry:?}", table.number);
            checked += 1;
        }
    }
    assert!(checked > 0 || proxy.cannot_divert.is_some(), "something was led away");
}

#[test]
fn adopted_containers_are_deployed_over() {
    let Composed { dir, engine, traffic, ids } = &composed(good());
    ports_follow_containers(engine, traffic);
    life(async {
        let agent = start(dir.path(), engine, traffic).await;
        let before = engine.changes();
        adopt(&agent).await;
        assert_eq!(engine.changes(), before, "nothing is done to what is adopted");
        assert!(traffic.proxy().listeners.is_empty(), "its ports are Docker's");
        let plan = agent.preview(&of_two("v1")).await.unwrap();
        assert!(plan.members.is_empty() && plan.unchanged.iter().all(|one| one.adopted), "{plan:#?}");
        let plan = agent.preview(&of_two("v2")).await.unwrap();
        assert!(plan.warnings.iter().any(|words| words.contains("8001") && words.contains("none is refused")));
        let accepted = agent.deploy(of_two("v2")).await.unwrap();
        let state = wait_for(&agent, engine, traffic, accepted.deployment).await;
        assert_eq!(state, State::Done);
        tokio::time::sleep(Duration::from_secs(40)).await;
        assert_eq!(agent.alerts(), Vec::<String>::new());
        how_it_ended(&state, engine, traffic, ids);
    });
}

/// A probe that only the next version answers, say: Docker brings requests to the adopted containers all the same.
#[test]
fn connections_are_not_led_to_a_release_that_the_proxy_would_not_give_them() {
    let Composed { dir, engine, traffic, ids } = &composed(good());
    ports_follow_containers(engine, traffic);
    life(async {
        let agent = start(dir.path(), engine, traffic).await;
        let mut v1 = of_two("v1");
        v1.project.services.get_mut("api").unwrap().teal.health.probe = Probe::Tcp { port: Some(1) };
        adopt_as(&agent, v1).await;
        let from = traffic.proxy().tables.len();
        let accepted = agent.deploy(of_two("v2")).await.unwrap();
        let state = wait_for(&agent, engine, traffic, accepted.deployment).await;
        assert_eq!(state, State::Done);
        how_it_ended(&state, engine, traffic, ids);
        let proxy = traffic.proxy();
        let api = |table: &RouteTable| table.services[&ServiceKey::new("shop", "api")].split[0].release.number;
        let led = proxy.tables.iter().zip(&proxy.led).skip(from);
        let led: Vec<u64> = led.filter(|(_, led)| led.contains(&listener(8001))).map(|(table, _)| api(table)).collect();
        assert!(!led.is_empty() && led.iter().all(|number| *number == 2), "{led:?}");
    });
}

#[test]
fn without_a_way_to_lead_connections_away_the_plan_says_so() {
    let Composed { dir, engine, traffic, ids } = &composed(good());
    ports_follow_containers(engine, traffic);
    traffic.proxy().cannot_divert = Some("iptables cannot be run".to_owned());
    life(async {
        let agent = start(dir.path(), engine, traffic).await;
        adopt(&agent).await;
        let plan = agent.preview(&of_two("v2")).await.unwrap();
        let said = |port: &str| plan.warnings.iter().any(|words| words.contains(port) && words.contains("are refused"));
        assert!(said("8001") && said("8002"), "{:?}", plan.warnings);
        let accepted = agent.deploy(of_two("v2")).await.unwrap();
        let state = wait_for(&agent, engine, traffic, accepted.deployment).await;
        assert_eq!(state, State::Done);
        how_it_ended(&state, engine, traffic, ids);
    });
}

#[test]
fn what_is_given_back_is_touched_by_nobody() {
    let Composed { dir, engine, traffic, ids } = &composed(good());
    life(async {
        let agent = start(dir.path(), engine, traffic).await;
        adopt(&agent).await;
        let changes = engine.changes();
        let mut request = GiveBackRequest {
            project: "shop".to_owned(),
            services: vec!["api".to_owned()],
            dry_run: true,
            who: "test".to_owned(),
        };
        agent.give_back(&request).await.unwrap();
        assert_eq!(agent.journal.services().unwrap().iter().filter(|one| one.live.is_some()).count(), 2);
        request.dry_run = false;
        agent.give_back(&request).await.unwrap();
        assert_eq!(agent.give_back(&request).await.unwrap_err().code, Code::NotFound);
        tokio::time::sleep(Duration::from_secs(40)).await;
        assert_eq!(engine.changes(), changes);
        assert_eq!(&strangers(engine, ids), ids);
        // The other one is still ours, and its number is not used again for this one.
        adopt(&agent).await;
        let record = agent.journal.services().unwrap();
        let api = record.iter().find(|one| one.service == ServiceKey::new("shop", "api")).unwrap();
        assert_eq!(api.live.as_ref().unwrap().release.number, 2);
    });
}

#[test]
fn an_adopted_container_that_is_gone_is_said() {
    let Composed { dir, engine, traffic, ids } = &composed(good());
    life(async {
        let agent = start(dir.path(), engine, traffic).await;
        adopt(&agent).await;
        engine.remove(ids.first().unwrap(), true).await.unwrap();
        tokio::time::sleep(Duration::from_secs(40)).await;
        let alerts = agent.alerts();
        assert!(alerts.iter().any(|words| words.contains("api@1 is not whole: 1 of 2 replicas run")), "{alerts:?}");
        assert_eq!(strangers(engine, ids).len(), 3, "nothing is made in its place");
        let plan = agent.preview(&of_two("v1")).await.unwrap();
        let because = plan.members.iter().map(|member| member.because.clone().unwrap()).collect::<Vec<_>>();
        assert_eq!(because, ["api 1 is not whole: 1 of 2 replicas run"]);
        let accepted = agent.deploy(of_two("v1")).await.unwrap();
        assert_eq!(wait_for(&agent, engine, traffic, accepted.deployment).await, State::Done);
        assert_eq!(agent.alerts(), Vec::<String>::new());
    });
}

/// Effects and publications of a deployment over adopted containers, counted from its beginning.
fn effects_of(v2: &App) -> (usize, usize, usize, usize) {
    let Composed { dir, engine, traffic, .. } = &composed(v2.clone());
    life(async { adopt(&start(dir.path(), engine, traffic).await).await });
    let engine = &engine.restarted();
    ports_follow_containers(engine, traffic);
    let (effects, tables) = (engine.journal().len(), traffic.proxy().tables.len());
    life(async {
        let agent = start(dir.path(), engine, traffic).await;
        tokio::time::sleep(Duration::from_secs(2)).await;
        let accepted = agent.deploy(of_two("v2")).await.unwrap();
        wait_for(&agent, engine, traffic, accepted.deployment).await;
    });
    (effects, engine.journal().len(), tables, traffic.proxy().tables.len())
}

#[test]
fn a_death_at_every_effect_over_adopted_containers_is_survived() {
    for (v2, done) in [(good(), true), (exits(), false)] {
        let (from, to, first, last) = effects_of(&v2);
        let mut died = 0;
        for index in from..to {
            for moment in [Moment::Before, Moment::After] {
                let Some(state) = die_once(v2.clone(), |engine, _| engine.crash_at(index, moment)) else { continue };
                assert_eq!(matches!(state, State::Done), done, "died at effect {index} {moment:?}: {state:?}");
                assert!(
                    done || matches!(state, State::Reverted { .. }),
                    "died at effect {index} {moment:?}: {state:?}"
                );
                died += 1;
            }
        }
        for index in first..last {
            for crash in [Crash::Before(index), Crash::After(index)] {
                let planned = |_: &FakeRuntime, traffic: &FakeTraffic| traffic.proxy().crash = Some(crash);
                let Some(state) = die_once(v2.clone(), planned) else { continue };
                assert_eq!(matches!(state, State::Done), done, "died {crash:?}: {state:?}");
                died += 1;
            }
        }
        assert!(died > to - from, "{died} deaths of {} effects", to - from);
    }
}
