//! Death before and after every effect: the next agent goes on.

use crate::stage::{Stage, die_once, effects_of, exits, good, life, stage, start};
use std::time::Duration;
use teal_agent::runtime::fake::Moment;
use teal_agent::traffic::fake::Crash;
use teal_model::deployment::State;
use teal_model::fault::Code;
use teal_model::ids::ServiceKey;
use teal_model::wire::RouteTable;

#[test]
fn a_good_release_survives_a_death_at_every_engine_effect() {
    let (from, to, ..) = effects_of(&good());
    let mut died = 0;
    for index in from..to {
        for moment in [Moment::Before, Moment::After] {
            let Some(state) = die_once(good(), |engine, _| engine.crash_at(index, moment)) else { continue };
            assert!(matches!(state, State::Done), "died at effect {index} {moment:?}: {state:?}");
            died += 1;
        }
    }
    assert!(died >= 2 * (to - from) - 2, "{died} deaths of {} effects", to - from);
}

#[test]
fn a_good_release_survives_a_death_at_every_publication() {
    let (_, _, from, to) = effects_of(&good());
    let mut died = 0;
    for index in from..to {
        for crash in [Crash::Before(index), Crash::After(index)] {
            let Some(state) = die_once(good(), |_, traffic| traffic.proxy().crash = Some(crash)) else { continue };
            assert!(matches!(state, State::Done), "died {crash:?}: {state:?}");
            died += 1;
        }
    }
    assert!(died >= 2 * (to - from) - 4, "{died} deaths of {} publications", to - from);
}

#[test]
fn a_release_that_exits_is_reverted_whatever_death_comes_between() {
    let (from, to, first, last) = effects_of(&exits());
    let mut died = 0;
    for index in from..to {
        for moment in [Moment::Before, Moment::After] {
            let Some(state) = die_once(exits(), |engine, _| engine.crash_at(index, moment)) else { continue };
            assert!(
                matches!(&state, State::Reverted { why } if why.code == Code::ReplicaExited),
                "died at effect {index} {moment:?}: {state:?}"
            );
            died += 1;
        }
    }
    for index in first..last {
        for crash in [Crash::Before(index), Crash::After(index)] {
            let Some(state) = die_once(exits(), |_, traffic| traffic.proxy().crash = Some(crash)) else { continue };
            assert!(matches!(state, State::Reverted { .. }), "died {crash:?}: {state:?}");
            died += 1;
        }
    }
    assert!(died > to - from, "{died} deaths");
}

/// A damaged file of the store: the next agent cannot build the service's routes, and leaves those that it found.
#[test]
fn settings_that_cannot_be_read_leave_a_service_as_it_is_served() {
    let Stage { dir, engine, traffic, .. } = &stage(good());
    let web = ServiceKey::new("shop", "web");
    let before = traffic.table().unwrap();
    std::fs::write(dir.path().join("secrets/shop.web.1.json"), "{").unwrap();
    let engine = &engine.restarted();
    life(async {
        let agent = start(dir.path(), engine, traffic).await;
        tokio::time::sleep(Duration::from_secs(40)).await;
        assert!(agent.alerts().iter().any(|words| words.contains("is damaged")), "{:?}", agent.alerts());
    });
    let after = traffic.table().unwrap();
    assert!(after.number > before.number);
    assert_eq!(after.services.get(&web), before.services.get(&web));
    let routes = |table: &RouteTable| table.routes.iter().filter(|route| route.service == web).count();
    assert_eq!(routes(&after), routes(&before));
    let ports =
        traffic.proxy().listeners.iter().filter(|one| one.tcp().is_some_and(|addr| addr.port() == 8003)).count();
    assert_eq!(ports, 1, "its port stays open");
}
