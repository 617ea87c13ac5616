//! Workers that change two at a time: the order, a revert between two batches, and death at every effect and every moment.

use crate::shop::{Shop, project, worker};
use crate::stage::{good, life, start, until_ended};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use teal_agent::runtime::fake::{App, Fault, Moment, Op};
use teal_agent::runtime::{Container, Status, label};
use teal_model::api::DeployRequest;
use teal_model::config::{Restart, Service, UpdateConfig, UpdateOrder};
use teal_model::deployment::State;
use teal_model::fault::Code;
use tokio::time::Instant;

const DELAY: Duration = Duration::from_secs(2);

fn four(version: &str, order: UpdateOrder) -> DeployRequest {
    let update =
        UpdateConfig { parallelism: Some(2), delay_ms: Some(DELAY.as_millis() as u64), ..UpdateConfig::default() };
    let worker = worker("worker", &format!("worker:{version}"));
    project(vec![Service { replicas: 4, order: Some(order), update, ..worker }])
}

/// Version 1 is live; version 2 behaves as told.
fn live(order: UpdateOrder, second: App) -> Shop {
    let shop = Shop::new();
    shop.image("worker:v1", good()).image("worker:v2", second);
    assert_eq!(shop.deploy(&four("v1", order)), State::Done);
    shop
}

fn ids(containers: &[Container]) -> Vec<&str> {
    containers.iter().map(|container| container.id.as_str()).collect()
}

/// Four run, of one release, as live ones do.
fn four_are_live(shop: &Shop, release: &str, when: &str) {
    let there = shop.of("worker");
    assert_eq!(there.len(), 4, "{when}: {there:#?}");
    for container in &there {
        assert_eq!(container.labels[label::RELEASE], release, "{when}");
        assert_eq!(container.status, Status::Running, "{when}: {}", container.name);
        assert_eq!(shop.engine.restart_policy(&container.id), Some(Restart::Always), "{when}: {}", container.name);
    }
}

#[derive(Default)]
struct Heard {
    changes: Vec<(String, Instant)>,
    /// How many ran after each stop.
    left: Vec<usize>,
}

/// Hears starts and stops that change something, with the replica's color and index. `third_dies`: the first candidate of
/// the second batch ends as soon as it is started.
fn listen(shop: &Shop, third_dies: bool) -> Arc<Mutex<Heard>> {
    let (heard, world) = (Arc::<Mutex<Heard>>::default(), shop.engine.clone());
    let hear = heard.clone();
    shop.engine.hook(move |effect, moment| {
        let replica = effect.on.strip_prefix("shop-worker-").filter(|name| *name != "holder");
        if let (Moment::After, Op::Start | Op::Stop, Some(name)) = (moment, effect.op, replica) {
            if effect.changed {
                hear.lock().unwrap().changes.push((format!("{:?} {name}", effect.op), Instant::now()));
            }
            if effect.op == Op::Stop {
                let runs = |one: &Container| {
                    one.status == Status::Running
                        && one.name.starts_with("shop-worker-")
                        && !one.labels.contains_key(label::HOLDER)
                };
                hear.lock().unwrap().left.push(world.containers().into_iter().filter(runs).count());
            }
            if third_dies && effect.op == Op::Start && name == "green-3" {
                let third = world.containers().into_iter().find(|container| container.name == effect.on).unwrap();
                world.kill(&third.id, 3);
            }
        }
        Fault::None
    });
    heard
}

fn deploy(shop: &Shop, order: UpdateOrder, third_dies: bool) -> (State, Vec<(String, Instant)>) {
    let heard = listen(shop, third_dies);
    let state = shop.deploy(&four("v2", order));
    let changes = heard.lock().unwrap().changes.drain(..).collect();
    (state, changes)
}

/// Those of one batch may come in any order.
fn in_pairs(changes: &[(String, Instant)]) -> Vec<Vec<&str>> {
    let mut pairs: Vec<Vec<&str>> =
        changes.chunks(2).map(|pair| pair.iter().map(|one| one.0.as_str()).collect()).collect();
    pairs.iter_mut().for_each(|pair| pair.sort_unstable());
    pairs
}

#[test]
fn stop_first_two_stop_two_start_and_after_the_delay_the_next_two() {
    let shop = live(UpdateOrder::StopFirst, good());
    let (state, changes) = deploy(&shop, UpdateOrder::StopFirst, false);
    assert_eq!(state, State::Done);
    let pairs = in_pairs(&changes);
    assert_eq!(
        pairs,
        [
            ["Stop blue-1", "Stop blue-2"],
            ["Start green-1", "Start green-2"],
            ["Stop blue-3", "Stop blue-4"],
            ["Start green-3", "Start green-4"],
        ]
    );
    assert!(changes[4].1 - changes[3].1 >= DELAY, "{changes:?}");
    four_are_live(&shop, "2", "at the end");
}

#[test]
fn start_first_two_start_and_after_the_delay_the_next_two_and_the_live_ones_stop_at_the_end() {
    let shop = live(UpdateOrder::StartFirst, good());
    let (state, changes) = deploy(&shop, UpdateOrder::StartFirst, false);
    assert_eq!(state, State::Done);
    let pairs = in_pairs(&changes);
    assert_eq!(pairs[..2], [["Start green-1", "Start green-2"], ["Start green-3", "Start green-4"]]);
    assert!(changes[2].1 - changes[1].1 >= DELAY, "{changes:?}");
    assert!(changes[4..].iter().all(|change| change.0.starts_with("Stop blue-")), "{changes:?}");
    assert_eq!(changes.len(), 8);
    four_are_live(&shop, "2", "at the end");
}

#[test]
fn a_candidate_that_ends_takes_all_back_and_those_that_were_not_reached_go_on_untouched() {
    // Ready at once, and gone in the pause.
    let second = App { exits: Some((Duration::from_secs(1), 3)), ..good() };
    let shop = live(UpdateOrder::StopFirst, second);
    let before = shop.of("worker");
    let (state, changes) = deploy(&shop, UpdateOrder::StopFirst, false);
    assert!(matches!(&state, State::Reverted { why } if why.code == Code::ReplicaExited), "{state:?}");
    four_are_live(&shop, "1", "after the revert");
    assert_eq!(ids(&shop.of("worker")), ids(&before));
    let touched = |index: u32| changes.iter().any(|change| change.0.ends_with(&format!("blue-{index}")));
    assert!(touched(1) && touched(2) && !touched(3) && !touched(4), "{changes:?}");
}

#[test]
fn a_candidate_of_the_second_batch_that_ends_takes_both_back() {
    let shop = live(UpdateOrder::StopFirst, good());
    let (state, changes) = deploy(&shop, UpdateOrder::StopFirst, true);
    assert!(matches!(&state, State::Reverted { why } if why.code == Code::ReplicaExited), "{state:?}");
    four_are_live(&shop, "1", "after the revert");
    let starts = |color: &str| changes.iter().filter(|change| change.0.starts_with(&format!("Start {color}"))).count();
    assert_eq!((starts("green"), starts("blue")), (4, 4), "{changes:?}");

    let shop = live(UpdateOrder::StartFirst, good());
    let (state, changes) = deploy(&shop, UpdateOrder::StartFirst, true);
    assert!(matches!(state, State::Reverted { .. }), "{state:?}");
    assert!(!changes.iter().any(|change| change.0.contains("blue")), "the live ones were never touched: {changes:?}");
    four_are_live(&shop, "1", "after the revert");
}

/// What ends an agent's life early.
enum Death {
    At(usize, Moment),
    After(Duration),
}

/// Deploys version 2 with a death planned, and lets another agent end it. None: it had ended before.
fn die_once(shop: &Shop, order: UpdateOrder, death: &Death) -> Option<State> {
    let engine = shop.engine.restarted();
    let (index, time) = match death {
        Death::At(index, moment) => (Some((*index, *moment)), Duration::from_secs(3_000)),
        Death::After(time) => (None, *time),
    };
    if let Some((index, moment)) = index {
        engine.crash_at(index, moment);
    }
    let ended = life(async {
        let deploy = async {
            let agent = start(shop.dir.path(), &engine, &shop.traffic).await;
            let accepted = agent.deploy(four("v2", order)).await.unwrap();
            until_ended(&agent, accepted.deployment).await
        };
        tokio::select! {
            biased;
            () = engine.crashed() => false,
            () = tokio::time::sleep(time) => false,
            _ = deploy => true,
        }
    });
    if ended {
        return None;
    }
    Some(life(async {
        let agent = start(shop.dir.path(), &shop.engine.restarted(), &shop.traffic).await;
        // It may have died before it had begun anything: then this agent begins.
        if agent.journal.deployment(2).unwrap().is_none() {
            agent.deploy(four("v2", order)).await.unwrap();
        }
        let state = until_ended(&agent, 2).await;
        // The reconciler has its turn, too.
        tokio::time::sleep(Duration::from_secs(40)).await;
        assert_eq!(agent.alerts(), Vec::<String>::new());
        state
    }))
}

/// Deaths before and after every effect, and every 150 ms.
fn whatever_death_comes(order: UpdateOrder, third_dies: bool) {
    let shop = live(order, good());
    let from = shop.engine.journal().len();
    let (_, changes) = deploy(&shop, order, third_dies);
    let to = shop.engine.journal().len();
    let effects = (from..to).flat_map(|index| [Death::At(index, Moment::Before), Death::At(index, Moment::After)]);
    let lasted = changes[changes.len() - 1].1 - changes[0].1;
    let steps = lasted.as_millis() as u64 / 150 + 3;
    let times = (1..=steps).map(|step| Death::After(Duration::from_millis(150 * step)));
    let mut died = 0;
    for death in effects.chain(times) {
        let shop = live(order, good());
        let before = shop.of("worker");
        let heard = listen(&shop, third_dies);
        let Some(state) = die_once(&shop, order, &death) else { continue };
        died += 1;
        let when = match death {
            Death::At(index, moment) => format!("died at effect {index} {moment:?}"),
            Death::After(time) => format!("died after {time:?}"),
        };
        match third_dies {
            false => assert_eq!(state, State::Done, "{when}"),
            true => assert!(matches!(state, State::Reverted { .. }), "{when}: {state:?}"),
        }
        four_are_live(&shop, if third_dies { "1" } else { "2" }, &when);
        assert!(!third_dies || ids(&shop.of("worker")) == ids(&before), "{when}");
        let least = heard.lock().unwrap().left.iter().copied().min();
        assert!(third_dies || least.is_some_and(|left| left >= 2), "{when}: {least:?} of four were left");
    }
    assert!(died > 2 * (to - from), "{died} deaths of {} effects and {steps} moments", to - from);
}

#[test]
fn batches_that_stop_first_survive_every_death() {
    whatever_death_comes(UpdateOrder::StopFirst, false);
}

#[test]
fn batches_that_start_first_survive_every_death() {
    whatever_death_comes(UpdateOrder::StartFirst, false);
}

#[test]
fn a_revert_in_the_second_batch_that_stops_first_survives_every_death() {
    whatever_death_comes(UpdateOrder::StopFirst, true);
}

#[test]
fn a_revert_in_the_second_batch_that_starts_first_survives_every_death() {
    whatever_death_comes(UpdateOrder::StartFirst, true);
}
