//! Death before and after every effect: the next agent goes on.

use crate::stage::{die_once, effects_of, exits, good};
use teal_agent::runtime::fake::Moment;
use teal_agent::traffic::fake::Crash;
use teal_model::deployment::State;
use teal_model::fault::Code;

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
