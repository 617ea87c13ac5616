//! A canary whose candidate grows with its steps: its course, what holds it, and what ends it.

use crate::member;
use std::collections::BTreeMap;
use teal_model::config::{CanaryStep, FailureAction, Pace, Strategy};
use teal_model::deployment::{
    Action, Deployment, Event, Growth, Health, Judged, Phase, Promote, Proof, Ruling, Seen, State, Step, decide,
};
use teal_model::fault::{Code, Fault};
use teal_model::ids::ReleaseKey;
use teal_model::plan::{Plan, Span};

const STEP_MS: u64 = 60_000;

/// Four replicas: one has 5 %, two have 25 %, and the others come with all requests.
fn canary() -> Deployment {
    let mut web = member("web", Strategy::BlueGreen, true);
    web.replicas = 4;
    let step = |share, replicas| CanaryStep { share, pace: Pace::For { ms: STEP_MS }, replicas: Some(replicas) };
    web.safety.steps = vec![step(500, 1), step(2_500, 2)];
    Deployment::new(1, Plan { project: "shop".to_owned(), members: vec![web], ..Plan::default() }, 0)
}

fn in_state(state: State) -> Deployment {
    Deployment { state, ..canary() }
}

fn growing(from: usize, step: usize, part: Growth, promoted: bool) -> State {
    State::Growing { from, step, part, promoted }
}

fn candidate(deployment: &Deployment) -> ReleaseKey {
    deployment.plan.members[0].candidate.clone()
}

/// So many candidates are ready, beside the live release.
fn ready(deployment: &Deployment, replicas: usize) -> Seen {
    let live = deployment.plan.members[0].live.as_ref().unwrap().release.clone();
    let replicas = [(candidate(deployment), vec![Health::Ready; replicas]), (live, vec![Health::Ready; 4])];
    Seen { replicas: BTreeMap::from(replicas), ..Seen::default() }
}

fn promote(deployment: &mut Deployment, full: bool) {
    let seen = Seen { promote: Some(Promote { full, who: "ana".to_owned() }), ..ready(deployment, 4) };
    let Step::Promote(Promote { full, who }) = decide(deployment, &seen, 1) else { panic!("{:?}", deployment.state) };
    deployment.apply(&Event::Promoted { full, who }, 1).unwrap();
}

/// Everything goes well: what is done, and with how many replicas in the table.
fn course(mut deployment: Deployment, mut started: usize) -> Vec<String> {
    let (mut now, mut said) = (deployment.entered_ms, Vec::new());
    while deployment.state != State::Baking {
        let seen = Seen { proof: Some(Proof::Passed), ..ready(&deployment, started) };
        let event = match decide(&deployment, &seen, now) {
            Step::Wait { until_ms } => {
                now = until_ms.unwrap();
                continue;
            }
            Step::Enter(to) => {
                if matches!(to, State::Proving { .. } | State::Growing { part: Growth::Proving, .. }) {
                    said.push("prove".to_owned());
                }
                Event::Entered { to }
            }
            Step::Do(action) => {
                match &action {
                    Action::StartRelease { span, .. } => {
                        started += (1..=4).filter(|index| span.contains(*index)).count();
                        said.push(action.words());
                    }
                    Action::Publish => {
                        let routing =
                            deployment.routing().remove(&deployment.plan.members[0].service).flatten().unwrap();
                        let release = candidate(&deployment);
                        let fit = (1..=4).filter(|one| routing.takes(&release, *one)).count();
                        let share: u32 =
                            routing.split.iter().filter(|(one, _)| *one == release).map(|(_, it)| it).sum();
                        said.push(format!("{share} to {fit}"));
                    }
                    _ => {}
                }
                Event::Did { action, published: None }
            }
            step => panic!("{step:?} in {:?}", deployment.state),
        };
        deployment.apply(&event, now).unwrap();
    }
    said
}

const BEGIN: State = State::Starting { member: 0, batch: 0 };

#[test]
fn further_replicas_are_started_ready_and_proved_before_the_share_rises() {
    let mut proves = in_state(BEGIN);
    proves.plan.members[0].safety.proves = true;
    let wanted = [
        "start shop/web@2, replica 1",
        "prove",
        "0 to 4",
        "500 to 1",
        "start shop/web@2, replica 2",
        "prove",
        "2500 to 2",
        "start shop/web@2, replicas 3 to 4",
        "prove",
        "100 to 4",
    ];
    assert_eq!(course(proves, 0), wanted);
    let mut plain: Vec<&str> = wanted.into_iter().filter(|said| *said != "prove").collect();
    plain.remove(1);
    assert_eq!(course(in_state(BEGIN), 0), plain);
}

#[test]
fn steps_with_the_same_replicas_and_those_without_any_start_nothing() {
    let mut same = in_state(BEGIN);
    same.plan.members[0].safety.steps[1].replicas = Some(1);
    let all = |said: Vec<String>| said.into_iter().filter(|said| said.starts_with("start")).collect::<Vec<_>>();
    assert_eq!(all(course(same, 0)), ["start shop/web@2, replica 1", "start shop/web@2, replicas 2 to 4"]);
    let mut none = in_state(BEGIN);
    none.plan.members[0].safety.steps.iter_mut().for_each(|step| step.replicas = None);
    assert_eq!(course(none, 0), ["start shop/web@2", "500 to 4", "2500 to 4", "100 to 4"]);
}

#[test]
fn in_a_group_those_grow_that_are_to_and_all_wait_for_them() {
    let mut deployment = in_state(State::Stepping { step: 0 });
    let mut api = member("api", Strategy::BlueGreen, true);
    api.safety.steps = vec![CanaryStep { share: 1_000, pace: Pace::For { ms: STEP_MS }, replicas: None }];
    deployment.plan.members.push(api.clone());
    let mut seen = ready(&deployment, 1);
    seen.replicas.insert(api.candidate.clone(), vec![Health::Ready; 2]);
    let Step::Enter(to) = decide(&deployment, &seen, STEP_MS) else { panic!() };
    assert_eq!(to, growing(0, 1, Growth::Starting, false));
    deployment.apply(&Event::Entered { to }, STEP_MS).unwrap();
    let span = Span { first: 2, last: 2 };
    assert_eq!(deployment.script(), [Action::StartRelease { release: candidate(&deployment), span }]);
    assert_eq!((deployment.share(&deployment.plan.members[0]), deployment.share(&api)), (500, 1_000));
}

#[test]
fn a_further_replica_that_fails_takes_the_release_back() {
    let exited = Fault::new(Code::ReplicaExited, "exited with 3");
    for part in [Growth::Starting, Growth::Warming, Growth::Proving] {
        let mut deployment = in_state(growing(0, 1, part, false));
        let mut seen = ready(&deployment, 1);
        seen.replicas.get_mut(&candidate(&deployment)).unwrap().push(Health::Failed { fault: exited.clone() });
        let Step::Fail(fault) = decide(&deployment, &seen, 1) else { panic!("{part:?}") };
        assert_eq!(fault.code, Code::ReplicaExited);
        deployment.apply(&Event::Failed { action: None, fault }, 1).unwrap();
        assert!(matches!(&deployment.state, State::Reverting { phase: Phase::Back, .. }), "{part:?}");
        assert!(deployment.found_bad, "it had requests: it does not come again by mistake");
        let routing = deployment.routing().remove(&deployment.plan.members[0].service).flatten().unwrap();
        assert!(routing.split.iter().all(|(release, _)| *release != candidate(&deployment)), "{part:?}");
    }
    let warming = in_state(growing(0, 1, Growth::Warming, false));
    let mut seen = ready(&warming, 1);
    seen.replicas.get_mut(&candidate(&warming)).unwrap().push(Health::Warming { last: "503".to_owned() });
    assert_eq!(decide(&warming, &seen, 4_999), Step::Wait { until_ms: Some(5_000) });
    let Step::Fail(fault) = decide(&warming, &seen, 5_000) else { panic!() };
    assert_eq!((fault.code, &fault.detail[1]), (Code::NeverReady, &"1 of 2 ready; last probe: 503".to_owned()));
    let gone = decide(&warming, &ready(&warming, 1), 1);
    assert!(matches!(&gone, Step::Fail(fault) if fault.code == Code::ReplicaRemoved), "removed: {gone:?}");
    let mut proving = in_state(growing(0, 1, Growth::Proving, false));
    proving.plan.members[0].safety.proves = true;
    let fault = Fault::new(Code::SmokeFailed, "answered 500");
    let seen = Seen { proof: Some(Proof::Failed(fault.clone())), ..ready(&proving, 2) };
    assert_eq!(decide(&proving, &seen, 1), Step::Fail(fault.of(&proving.plan.members[0].service)));
}

#[test]
fn what_is_done_about_a_further_replica_that_fails_is_the_services_choice() {
    let fault = Fault::new(Code::ReplicaExited, "exited with 3");
    for action in [FailureAction::Pause, FailureAction::Continue] {
        let mut deployment = in_state(growing(0, 1, Growth::Warming, false));
        deployment.plan.members[0].safety.rollback.action = action;
        let mut seen = ready(&deployment, 1);
        seen.replicas.get_mut(&candidate(&deployment)).unwrap().push(Health::Failed { fault: fault.clone() });
        match decide(&deployment, &seen, 1) {
            Step::Freeze(why) if action == FailureAction::Pause => {
                deployment.apply(&Event::Frozen { why }, 1).unwrap();
                assert_eq!(decide(&deployment, &seen, 2), Step::Wait { until_ms: None });
                promote(&mut deployment, false);
            }
            Step::Note(words) if action == FailureAction::Continue => {
                deployment.apply(&Event::Noted { words }, 1).unwrap();
            }
            step => panic!("{action:?}: {step:?}"),
        }
        assert_eq!(decide(&deployment, &seen, 3), Step::Enter(State::Shifting { step: 1 }), "{action:?}");
    }
    let mut spared = in_state(growing(1, 2, Growth::Warming, false));
    spared.plan.members[0].safety.rollback.max_failure_ratio = 0.25;
    let mut seen = ready(&spared, 3);
    seen.replicas.get_mut(&candidate(&spared)).unwrap().push(Health::Failed { fault: fault.clone() });
    assert_eq!(decide(&spared, &seen, 1), Step::Enter(State::Shifting { step: 2 }), "one of four may fail");
    seen.replicas.get_mut(&candidate(&spared)).unwrap()[0] = Health::Failed { fault };
    assert!(matches!(decide(&spared, &seen, 1), Step::Fail(_)), "and not two");
}

#[test]
fn a_promotion_to_the_end_starts_what_is_missing_first() {
    let mut deployment = in_state(State::Stepping { step: 0 });
    promote(&mut deployment, true);
    assert_eq!(deployment.state, growing(0, 2, Growth::Starting, true));
    let span = Span { first: 2, last: 4 };
    assert_eq!(deployment.script(), [Action::StartRelease { release: candidate(&deployment), span }]);
    assert_eq!(deployment.share(&deployment.plan.members[0]), 500, "until they are there");
    assert_eq!(course(deployment, 1), ["start shop/web@2, replicas 2 to 4", "100 to 4"]);
}

#[test]
fn promotions_abort_and_freeze_work_while_replicas_get_ready() {
    let grow = |part| in_state(growing(0, 1, part, false));
    let mut further = grow(Growth::Warming);
    promote(&mut further, true);
    assert_eq!(further.state, growing(0, 2, Growth::Starting, true), "all that are missing");
    let mut same = grow(Growth::Proving);
    same.entered_ms = 17;
    promote(&mut same, false);
    assert_eq!((same.state.clone(), same.entered_ms), (growing(0, 1, Growth::Proving, true), 17), "it goes on");

    for part in [Growth::Starting, Growth::Warming, Growth::Proving] {
        let mut deployment = grow(part);
        let seen = Seen { abort: Some("bo".to_owned()), ..ready(&deployment, 2) };
        assert!(matches!(decide(&deployment, &seen, 1), Step::Fail(fault) if fault.code == Code::Aborted));
        let seen = Seen { freeze: Some("bo".to_owned()), proof: Some(Proof::Passed), ..ready(&deployment, 2) };
        let Step::Freeze(why) = decide(&deployment, &seen, 1) else { panic!() };
        deployment.apply(&Event::Frozen { why }, 1).unwrap();
        let frozen = Seen { freeze: None, ..seen };
        let shifts = |step: &Step| matches!(step, Step::Enter(State::Shifting { .. }));
        assert!(!shifts(&decide(&deployment, &frozen, 2)), "{part:?}");
        promote(&mut deployment, false);
        assert_eq!(shifts(&decide(&deployment, &frozen, 3)), part != Growth::Starting, "{part:?}");
    }
}

#[test]
fn one_that_is_turned_down_meanwhile_gets_no_step_unless_somebody_wants_it_knowing_that() {
    let mut deployment = in_state(growing(0, 1, Growth::Warming, false));
    let cap = |share| Seen {
        judged: Judged { ruling: Ruling::Cap(Some(share)), contained: true, ..Judged::default() },
        ..ready(&canary(), 2)
    };
    let turn_down = |deployment: &mut Deployment, share| {
        let Step::Do(action) = decide(deployment, &cap(share), 1) else { panic!() };
        deployment.apply(&Event::Did { action, published: None }, 1).unwrap();
        assert_eq!(deployment.share(&deployment.plan.members[0]), share);
    };
    turn_down(&mut deployment, 200);
    assert_eq!(decide(&deployment, &cap(200), 2), Step::Wait { until_ms: None });
    promote(&mut deployment, false);
    assert_eq!(deployment.share(&deployment.plan.members[0]), 200, "until the step");
    let mut again = deployment.clone();
    let Step::Enter(to) = decide(&deployment, &cap(200), 3) else { panic!() };
    deployment.apply(&Event::Entered { to }, 3).unwrap();
    assert_eq!((deployment.state.clone(), deployment.cap), (State::Shifting { step: 1 }, None));

    turn_down(&mut again, 100);
    assert_eq!(decide(&again, &cap(100), 3), Step::Wait { until_ms: None }, "that was not known");
}

#[test]
fn what_a_growing_deployment_is_travels_through_the_journal() {
    for promoted in [false, true] {
        let state = growing(0, 2, Growth::Proving, promoted);
        let text = serde_json::to_string(&state).unwrap();
        assert_eq!(serde_json::from_str::<State>(&text).unwrap(), state, "{text}");
        assert_eq!(text.contains("promoted"), promoted);
    }
}
