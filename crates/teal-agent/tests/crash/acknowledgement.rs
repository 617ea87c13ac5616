//! Invariant 8: a table that is not acknowledged is neither in force nor out of it. Requests stay where they are until the
//! deadline, then go back.

use crate::stage::{
    Died, Stage, deploy_and_die, every_table_serves_or_holds, good, life, only_live_is_left, request, stage, start,
    stops_only_what_is_out_of_the_table, until_ended,
};
use std::time::Duration;
use teal_agent::traffic::fake::Silence;
use teal_model::deployment::State;
use teal_model::fault::Code;

fn deploy_with(silence: impl Fn(usize) -> Silence, index: usize) -> State {
    let Stage { dir, engine, traffic, images } = &stage(good());
    stops_only_what_is_out_of_the_table(engine, traffic);
    let before = traffic.proxy().tables.len() - 1;
    let state = life(async {
        let agent = start(dir.path(), engine, traffic).await;
        traffic.proxy().silence = Some(silence(index));
        agent.deploy(request("v2")).await.unwrap();
        let state = until_ended(&agent, 2).await;
        tokio::time::sleep(Duration::from_secs(40)).await;
        state
    });
    every_table_serves_or_holds(traffic, before);
    match &state {
        State::Done => only_live_is_left(engine, &traffic.table().unwrap(), &images[1]),
        State::Reverted { why } => {
            assert_eq!(why.code, Code::ProxyDown);
            only_live_is_left(engine, &traffic.table().unwrap(), &images[0]);
        }
        // What is stuck stays for somebody to look at; every_table_serves_or_holds has seen to the traffic.
        State::Stuck { error, .. } => assert_eq!(error.code, Code::ProxyDown),
        other => panic!("it has ended: {other:?}"),
    }
    state
}

/// The flips of a deployment that goes well.
fn publications() -> std::ops::Range<usize> {
    let Stage { dir, engine, traffic, .. } = &stage(good());
    let from = traffic.proxy().flips;
    assert!(matches!(deploy_and_die(dir.path(), &engine.restarted(), traffic, "v2"), Died::Not(State::Done)));
    from..traffic.proxy().flips
}

#[test]
fn a_table_that_was_lost_on_the_way_takes_the_deployment_back() {
    let ends: Vec<State> =
        publications().map(|index| deploy_with(|at| Silence { at, times: 1, taken: false }, index)).collect();
    assert!(ends.iter().filter(|state| matches!(state, State::Reverted { .. })).count() >= 5, "{ends:?}");
    // From Retiring on there is nothing to go back to: the table is sent again.
    assert!(matches!(ends.last(), Some(State::Done)), "{ends:?}");
    assert!(!ends.iter().any(|state| matches!(state, State::Stuck { .. })), "{ends:?}");
}

#[test]
fn a_table_in_force_that_nobody_confirmed_takes_the_deployment_back() {
    let ends: Vec<State> =
        publications().map(|index| deploy_with(|at| Silence { at, times: 1, taken: true }, index)).collect();
    assert!(ends.iter().filter(|state| matches!(state, State::Reverted { .. })).count() >= 5, "{ends:?}");
    assert!(!ends.iter().any(|state| matches!(state, State::Stuck { .. })), "{ends:?}");
}

/// A proxy that stays silent: nothing of what may serve is stopped.
#[test]
fn a_proxy_that_confirms_nothing_any_more_keeps_every_release_that_may_serve() {
    for index in publications() {
        for taken in [false, true] {
            deploy_with(|at| Silence { at, times: usize::MAX, taken }, index);
        }
    }
}
