//! Batches of a service that nobody calls: their course, their revert, and what may not be.

use crate::member;
use std::collections::BTreeMap;
use std::num::NonZeroU32;
use teal_model::config::Strategy;
use teal_model::deployment::{Action, Deployment, Event, Health, LOST_AFTER_MS, Phase, Seen, State, Step, decide};
use teal_model::fault::{Code, Fault};
use teal_model::ids::{ReleaseKey, ServiceKey};
use teal_model::plan::{Batches, Plan, Span};

fn in_batches(strategy: Strategy) -> Deployment {
    let mut worker = member("worker", strategy, true);
    worker.replicas = 5;
    worker.batches = Some(Batches { size: NonZeroU32::new(2).unwrap(), delay_ms: 2_000 });
    Deployment::new(1, Plan { project: "shop".to_owned(), members: vec![worker], ..Plan::default() }, 0)
}

/// Everything goes well: every action, and every time that was waited for, in their order.
fn course(mut deployment: Deployment, from: State) -> Vec<String> {
    deployment.state = from;
    let (mut now, mut said, mut started) = (0, Vec::new(), 0);
    let candidate = deployment.plan.members[0].candidate.clone();
    while !deployment.state.has_ended() {
        let mut seen =
            Seen { replicas: BTreeMap::from([(candidate.clone(), vec![Health::Ready; started])]), ..Seen::default() };
        seen.in_flight.insert(deployment.plan.members[0].live.as_ref().unwrap().release.clone(), Some(0));
        let event = match decide(&deployment, &seen, now) {
            Step::Wait { until_ms } => {
                said.push(format!("wait {} ms", until_ms.unwrap() - now));
                now = until_ms.unwrap();
                continue;
            }
            Step::Enter(to) => Event::Entered { to },
            Step::Do(action) => {
                if let Action::StartRelease { span, .. } = &action {
                    started += (1..=5).filter(|index| span.contains(*index)).count();
                }
                said.push(action.words());
                Event::Did { action, published: None }
            }
            step => panic!("{step:?}"),
        };
        deployment.apply(&event, now).unwrap();
    }
    said
}

#[test]
fn a_batch_stops_then_starts_and_the_next_one_waits_for_it() {
    let said = course(in_batches(Strategy::Recreate), State::Holding { member: 0 });
    assert_eq!(
        said[..15],
        [
            "publish the route table",
            "publish the route table",
            "stop shop/worker@1, replicas 1 to 2",
            "publish the route table",
            "networks and the holder of the name",
            "start shop/worker@2, replicas 1 to 2",
            "wait 2000 ms",
            "stop shop/worker@1, replicas 3 to 4",
            "start shop/worker@2, replicas 3 to 4",
            "wait 2000 ms",
            "stop shop/worker@1, from replica 5 on",
            "start shop/worker@2, from replica 5 on",
            "publish the route table",
            "wait 1000 ms",
            "publish the route table",
        ]
    );
}

#[test]
fn beside_the_live_release_batches_only_start() {
    let said = course(in_batches(Strategy::BlueGreen), State::Starting { member: 0, batch: 0 });
    let starts = [
        "start shop/worker@2, replicas 1 to 2",
        "start shop/worker@2, replicas 3 to 4",
        "start shop/worker@2, from replica 5 on",
    ];
    let [first, second, third] = starts;
    assert_eq!(said[1..6], [first, "wait 2000 ms", second, "wait 2000 ms", third]);
    let stop = said.iter().position(|words| words.starts_with("stop")).unwrap();
    assert_eq!(said[stop], "stop shop/worker@1");
    assert!(said[..stop].iter().any(|words| words == "set the restart policy of shop/worker@2"), "retiring: {said:?}");
}

#[test]
fn a_revert_between_two_batches_stops_what_was_stopped_and_starts_all() {
    let mut deployment = in_batches(Strategy::Recreate);
    deployment.state = State::Delaying { member: 0, batch: 1 };
    let fault = Fault::new(Code::ReplicaExited, "exited");
    let candidate = deployment.plan.members[0].candidate.clone();
    // One of the first batch ends while the second one has just come.
    let health = [vec![Health::Ready; 3], vec![Health::Failed { fault: fault.clone() }]].concat();
    let seen = Seen { replicas: BTreeMap::from([(candidate.clone(), health)]), ..Seen::default() };
    assert_eq!(decide(&deployment, &seen, 1), Step::Fail(fault.clone()));
    let gone = Seen { replicas: BTreeMap::from([(candidate, vec![Health::Ready; 3])]), ..Seen::default() };
    assert!(matches!(decide(&deployment, &gone, 1), Step::Fail(fault) if fault.what.starts_with("1 of 4 containers")));
    deployment.apply(&Event::Failed { action: None, fault }, 1).unwrap();
    let mut words = Vec::new();
    while !matches!(deployment.state, State::Reverting { phase: Phase::Swap { .. }, .. }) {
        let Step::Enter(to) = (match decide(&deployment, &Seen::default(), 100_000) {
            Step::Do(action) => {
                deployment.apply(&Event::Did { action, published: None }, 1).unwrap();
                continue;
            }
            step => step,
        }) else {
            panic!("{:?}", deployment.state)
        };
        deployment.apply(&Event::Entered { to }, 1).unwrap();
    }
    words.extend(deployment.script().iter().map(Action::words));
    assert_eq!(
        words,
        ["publish the route table", "stop shop/worker@2", "stop shop/worker@1, replicas 1 to 4", "start shop/worker@1"]
    );
}

#[test]
fn held_requests_go_back_once_the_live_release_is_seen_to_serve() {
    let mut deployment = in_batches(Strategy::Recreate);
    let live = deployment.plan.members[0].live.as_ref().unwrap().release.clone();
    let from = Box::new(State::Warming { member: 0, batch: 1 });
    let why = Fault::new(Code::ReplicaExited, "exited");
    deployment.state = State::Reverting { why, from, phase: Phase::Release { member: 0 } };
    let with = |health: Health| Seen { replicas: BTreeMap::from([(live.clone(), vec![health])]), ..Seen::default() };
    let warming = with(Health::Warming { last: "it was not probed yet".to_owned() });
    assert_eq!(decide(&deployment, &warming, 1), Step::Wait { until_ms: Some(LOST_AFTER_MS) });
    assert_eq!(decide(&deployment, &with(Health::Ready), 1), Step::Do(Action::Publish));
    assert_eq!(decide(&deployment, &warming, LOST_AFTER_MS), Step::Do(Action::Publish), "they wait in the proxy then");
}

#[test]
fn a_batch_cannot_be_left_out_or_done_twice() {
    let mut deployment = in_batches(Strategy::Recreate);
    deployment.state = State::Warming { member: 0, batch: 0 };
    let before = deployment.clone();
    for to in [
        State::Releasing { member: 0 },
        State::Delaying { member: 0, batch: 1 },
        State::Stopping { member: 0, batch: 1 },
        State::Starting { member: 0, batch: 0 },
    ] {
        assert!(deployment.apply(&Event::Entered { to: to.clone() }, 1).is_err(), "{to:?}");
    }
    let release = deployment.plan.members[0].candidate.clone();
    let action = Action::StartRelease { release, span: Span { first: 3, last: 4 } };
    assert!(deployment.apply(&Event::Did { action, published: None }, 1).is_err());
    assert_eq!(deployment, before);
}

#[test]
fn what_an_older_journal_says_is_all_of_a_release() {
    let state: State = serde_json::from_str(r#"{"state":"stopping","member":1}"#).unwrap();
    assert_eq!(state, State::Stopping { member: 1, batch: 0 });
    let release = ReleaseKey::new(ServiceKey::new("shop", "web"), 2);
    for (action, word) in [
        (Action::StartRelease { release: release.clone(), span: Span::ALL }, "start_release"),
        (Action::StopRelease { release: release.clone(), span: Span::ALL }, "stop_release"),
    ] {
        let text = serde_json::json!({ "action": word, "release": release }).to_string();
        assert_eq!(serde_json::from_str::<Action>(&text).unwrap(), action);
        assert_eq!(serde_json::to_value(&action).unwrap(), serde_json::from_str::<serde_json::Value>(&text).unwrap());
    }
    let deployment = in_batches(Strategy::Recreate);
    let mut older = serde_json::to_value(&deployment).unwrap();
    older["plan"]["members"][0].as_object_mut().unwrap().remove("batches").unwrap();
    let older: Deployment = serde_json::from_value(older).unwrap();
    assert_eq!((older.plan.members[0].batch_count(), older.plan.members[0].batch(0)), (1, Span::ALL));
}
