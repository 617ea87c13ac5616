//! What a walk meets of canaries, verdicts, migrations and releases that stay warm, and what it must never see.

use super::*;
use teal_model::config::{CanaryStep, FailureAction, Migrate, Pace, Retain};
use teal_model::deployment::{End, Growth, Judged, Migration, Promote, Proof, Routing, Ruling};
use teal_model::plan::{ALL, Back, Safety};

pub fn safety(random: &mut Random, member: &Member) -> Safety {
    let mut safety = Safety::default();
    let beside = !member.takes_its_turn() && member.live.is_some();
    if beside && random.one_in(2) {
        let grows = member.batches.is_none() && random.one_in(2);
        let mut replicas = 1;
        safety.steps = [100, 2_500, 5_000][..1 + random.below(3) as usize]
            .iter()
            .map(|share| {
                replicas += random.below(u64::from(member.replicas - replicas) + 1) as u32;
                CanaryStep {
                    share: *share,
                    pace: if random.one_in(4) { Pace::Manual } else { Pace::For { ms: 1_000 } },
                    replicas: grows.then_some(replicas),
                }
            })
            .collect();
    }
    if beside && random.one_in(3) {
        safety.compared = 500;
    }
    if beside && random.one_in(2) {
        safety.retain = Some(if random.one_in(2) { Retain::UntilNext } else { Retain::For { ms: 60_000 } });
    }
    if beside && random.one_in(4) {
        safety.retained = Some(ReleaseKey::new(member.service.clone(), 0));
    }
    if !member.job && random.one_in(4) {
        safety.migrate = Some(Migrate { command: vec!["migrate".to_owned()], timeout_ms: 4_000 });
    }
    safety.proves = !member.job && random.one_in(4);
    safety.preview = beside && random.one_in(4);
    safety.rollback.action =
        [FailureAction::Rollback, FailureAction::Rollback, FailureAction::Pause, FailureAction::Continue]
            [random.below(4) as usize];
    safety
}

/// Every candidate that flips is warm already.
pub fn go_back(random: &mut Random, plan: &mut Plan) {
    if random.one_in(8) && plan.members.iter().all(|member| !member.takes_its_turn()) {
        for member in &mut plan.members {
            member.bake_ms = 0;
            let retain = member.safety.retain;
            member.safety = Safety { back: Some(Back { to: 2, retained: true }), retain, ..Safety::default() };
        }
    }
}

pub fn look(random: &mut Random, deployment: &Deployment, seen: &mut Seen) {
    let fault = |code| Fault::new(code, "bad");
    let number = random.below(40);
    let ruling = match number {
        0 => Ruling::Revert(fault(Code::Worse)),
        1..6 => Ruling::Cap(Some(500)),
        6..9 => Ruling::Cap(Some(5_000)),
        _ => Ruling::Cap(deployment.cap),
    };
    let contained = deployment.cap == Some(500) && ruling == Ruling::Cap(Some(500));
    let end = match random.below(4) {
        0 => End::Extend { until_ms: deployment.entered_ms + 5_000 },
        1 => End::Inconclusive,
        _ => End::Promote,
    };
    seen.judged = Judged { ruling, end, contained, both_fail: random.one_in(20), ..Judged::default() };
    let who = || "someone".to_owned();
    // Whatever was paused or waits goes on some day.
    seen.promote = random.one_in(30).then(|| Promote { full: random.one_in(3), who: who() });
    seen.freeze = random.one_in(60).then(who);
    seen.proof = Some(match random.below(20) {
        0 => Proof::Failed(fault(Code::SmokeFailed)),
        1..8 => Proof::Running,
        _ => Proof::Passed,
    });
    for member in &deployment.plan.members {
        let migration = match random.below(40) {
            0 => Migration::Failed(fault(Code::MigrationFailed)),
            1 => Migration::Lost(fault(Code::Stuck)),
            2..20 => Migration::Running,
            _ => Migration::Succeeded,
        };
        seen.migrations.insert(member.candidate.clone(), migration);
    }
}

/// No step forward but by time, by what the requests say, or by somebody.
pub fn is_no_accident(deployment: &Deployment, seen: &Seen, step: &Step, now_ms: u64) {
    let waited = now_ms - deployment.entered_ms;
    match (&deployment.state, step) {
        (State::Stepping { step }, Step::Enter(_)) => {
            let paces = deployment.plan.members.iter().filter_map(|member| Some(member.safety.steps.get(*step)?.pace));
            assert!(paces.clone().all(|pace| matches!(pace, Pace::For { ms } if waited >= ms)));
            assert!(
                paces.count() > 0 && deployment.frozen.is_none() && !seen.judged.contained && !seen.judged.both_fail
            );
        }
        (State::Baking, Step::Enter(State::Draining { .. })) => {
            let bake = deployment.plan.members.iter().map(|member| member.bake_ms).max().unwrap();
            assert!(waited >= bake);
            assert!(bake == 0 || deployment.frozen.is_none() && !seen.judged.both_fail);
            assert!(bake == 0 || !matches!(seen.judged.end, End::Extend { .. }), "too little is known");
        }
        (state, Step::Promote(_) | Step::Do(Action::Cap { .. })) => assert!(state.is_watched()),
        (State::Migrating { member, .. }, Step::Enter(_)) => {
            let release = &deployment.plan.members[*member].candidate;
            assert_eq!(seen.migrations[release], Migration::Succeeded);
        }
        (State::Proving { .. }, Step::Enter(_)) => assert_eq!(seen.proof, Some(Proof::Passed)),
        (State::Growing { step, part, promoted, .. }, Step::Enter(to)) => {
            let shifts = matches!(to, State::Shifting { .. });
            assert!(
                !shifts
                    || deployment.frozen.is_none() && (*promoted || !seen.judged.contained && !seen.judged.both_fail)
            );
            for member in deployment.plan.members.iter().filter(|_| *part == Growth::Warming) {
                let ready = seen.replicas[&member.candidate].iter().filter(|health| **health == Health::Ready).count();
                // Where the service wants no more than a warning, or somebody went on knowing it.
                let strict = member.safety.rollback.action == FailureAction::Rollback && !member.takes_its_turn();
                assert!(!strict || ready >= member.replicas_in(*step) as usize, "{} in {part:?}", member.service);
            }
        }
        _ => {}
    }
}

/// No request for a replica that was not started for the share that holds.
pub fn has_its_replicas(deployment: &Deployment, member: &Member, routing: &Routing, running: &BTreeSet<u32>) {
    let fit: BTreeSet<u32> = (1..=member.replicas).filter(|one| routing.takes(&member.candidate, *one)).collect();
    let (State::Shifting { step } | State::Stepping { step } | State::Growing { from: step, .. }) = deployment.state
    else {
        assert_eq!(fit.len() as u32, member.replicas, "{:?}", deployment.state);
        return;
    };
    if member.live.is_some() && !member.takes_its_turn() {
        assert_eq!(fit, (1..=member.replicas_in(step)).collect());
        assert!(fit.is_subset(running), "{fit:?} of {running:?} in {:?}", deployment.state);
    }
}

/// A candidate has what its step gives it, and less where it was turned down.
pub fn has_its_share(deployment: &Deployment, member: &Member, split: &[(ReleaseKey, u32)]) {
    let (State::Shifting { step } | State::Stepping { step } | State::Growing { from: step, .. }) = deployment.state
    else {
        return;
    };
    let sum: u32 = split.iter().map(|(_, share)| share).sum();
    let has: u32 = split.iter().filter(|(release, _)| release == &member.candidate).map(|(_, share)| share).sum();
    let most = member.safety.share(step).min(deployment.cap.unwrap_or(ALL)).min(ALL - member.safety.compared);
    if member.live.is_some() && !member.takes_its_turn() {
        assert_eq!(u64::from(has) * u64::from(ALL), u64::from(most) * u64::from(sum), "{split:?}");
    }
}

/// Until it is ended it may be asked, and gone back to at once; requests that are held ask nobody.
pub fn lists_what_is_warm(member: &Member, routing: &Routing, warm: &BTreeSet<ReleaseKey>) {
    for release in warm.iter().filter(|release| release.service == member.service && !routing.holding) {
        assert!(routing.listed.contains(release), "{release} is warm: {routing:?}");
    }
    let known = |release: &ReleaseKey| {
        let is_live = member.live.as_ref().is_some_and(|live| &live.release == release);
        is_live || release == &member.candidate || warm.contains(release)
    };
    assert!(routing.listed.iter().all(known), "{routing:?}");
}

fn watched(state: State) -> Deployment {
    let mut web = member("web", Strategy::BlueGreen, true);
    let step = |share| CanaryStep { share, pace: Pace::For { ms: 1_000 }, replicas: None };
    web.safety.steps = vec![step(100), step(5_000)];
    let plan = Plan { project: "shop".to_owned(), members: vec![web], ..Plan::default() };
    let mut deployment = Deployment::new(1, plan, 0);
    deployment.state = state;
    deployment
}

fn all_well(deployment: &Deployment) -> Seen {
    let member = &deployment.plan.members[0];
    let ready = |release: &ReleaseKey| (release.clone(), vec![Health::Ready; 2]);
    let live = &member.live.as_ref().unwrap().release;
    Seen { replicas: [ready(&member.candidate), ready(live)].into(), ..Seen::default() }
}

#[test]
fn readiness_that_is_lost_is_a_fact_only_where_the_live_release_passes_the_same_check() {
    let deployment = watched(State::Baking);
    let mut seen = all_well(&deployment);
    let member = &deployment.plan.members[0];
    seen.unready_from.insert(member.candidate.clone(), 10_100);
    assert!(!matches!(decide(&deployment, &seen, 10_099), Step::Fail(_)), "a moment's weakness");
    let step = decide(&deployment, &seen, 10_100);
    assert!(matches!(&step, Step::Fail(fault) if fault.code == Code::NeverReady), "{step:?}");
    let warming = vec![Health::Warming { last: "503".to_owned() }; 2];
    seen.replicas.insert(member.live.as_ref().unwrap().release.clone(), warming);
    assert!(!matches!(decide(&deployment, &seen, 20_000), Step::Fail(_)), "something that both need is down");
}

#[test]
fn a_step_lasts_for_as_long_as_somebody_watched_it() {
    let deployment = watched(State::Stepping { step: 0 });
    let mut seen = all_well(&deployment);
    seen.judged.watched_from_ms = 900_000;
    assert_eq!(decide(&deployment, &seen, 900_001), Step::Wait { until_ms: Some(901_000) });
    assert_eq!(decide(&deployment, &seen, 901_000), Step::Enter(State::Shifting { step: 1 }));
}

#[test]
fn whoever_is_accused_is_named_and_no_other() {
    let mut deployment = watched(State::Stepping { step: 0 });
    deployment.plan.members.push(member("api", Strategy::BlueGreen, true));
    let api = deployment.plan.members[1].service.clone();
    let mut seen = all_well(&deployment);
    let live = deployment.plan.members[1].live.as_ref().unwrap().release.clone();
    for release in [&deployment.plan.members[1].candidate, &live] {
        seen.replicas.insert(release.clone(), vec![Health::Ready; 2]);
    }
    let bad = |step| match step {
        Step::Fail(fault) => fault.service.map(|service| *service),
        step => panic!("{step:?}"),
    };
    let verdict = Judged {
        ruling: Ruling::Revert(Fault::new(Code::Worse, "green failed 41 of 1,204 requests")),
        accused: Some(api.clone()),
        ..Judged::default()
    };
    assert_eq!(bad(decide(&deployment, &Seen { judged: verdict, ..seen.clone() }, 1)), Some(api.clone()));
    let exited = Health::Failed { fault: Fault::new(Code::ReplicaExited, "exited") };
    seen.replicas.insert(deployment.plan.members[1].candidate.clone(), vec![Health::Ready, exited]);
    assert_eq!(bad(decide(&deployment, &seen, 1)), Some(api));
}

#[test]
fn a_pause_that_somebody_promoted_over_does_not_come_again_for_the_same_reason() {
    let mut deployment = watched(State::Stepping { step: 0 });
    deployment.plan.members[0].safety.rollback.action = FailureAction::Pause;
    let mut seen = all_well(&deployment);
    let candidate = deployment.plan.members[0].candidate.clone();
    let exited = |name: &str| Health::Failed { fault: Fault::new(Code::ReplicaExited, format!("{name} exited")) };
    seen.replicas.insert(candidate.clone(), vec![Health::Ready, exited("green-2")]);
    let Step::Freeze(why) = decide(&deployment, &seen, 1) else { panic!() };
    deployment.apply(&Event::Frozen { why: why.clone() }, 1).unwrap();
    deployment.apply(&Event::Promoted { full: false, who: "ana".to_owned() }, 2).unwrap();
    assert_eq!(deployment.notes, [why.clone(), format!("promoted by ana in step 1 of 2, although {why}")]);
    deployment.state = State::Stepping { step: 1 };
    assert_eq!(decide(&deployment, &seen, 1_002), Step::Enter(State::Shifting { step: 2 }));
    seen.replicas.insert(candidate, vec![exited("green-1"), exited("green-2")]);
    assert!(matches!(decide(&deployment, &seen, 3), Step::Freeze(_)), "another one is news");
}

#[test]
fn what_is_done_about_a_bad_candidate_is_the_services_choice() {
    for (action, wanted) in
        [(FailureAction::Rollback, "fail"), (FailureAction::Pause, "freeze"), (FailureAction::Continue, "note")]
    {
        let mut deployment = watched(State::Stepping { step: 0 });
        deployment.plan.members[0].safety.rollback.action = action;
        let mut seen = all_well(&deployment);
        seen.judged.ruling = Ruling::Revert(Fault::new(Code::Worse, "green failed 41 of 1,204 requests"));
        let step = decide(&deployment, &seen, 1);
        let event = match (wanted, step) {
            ("fail", Step::Fail(_)) => continue,
            ("freeze", Step::Freeze(why)) => Event::Frozen { why },
            ("note", Step::Note(words)) => Event::Noted { words },
            (_, step) => panic!("{action:?}: {step:?}"),
        };
        deployment.apply(&event, 1).unwrap();
        assert!(matches!(decide(&deployment, &seen, 2), Step::Wait { .. }), "it is said once");
        let goes_on = matches!(decide(&deployment, &seen, 5_000), Step::Enter(State::Shifting { step: 1 }));
        assert_eq!(goes_on, wanted == "note");
    }
}

#[test]
fn as_many_replicas_may_fail_as_the_service_says() {
    let mut deployment = watched(State::Baking);
    let mut seen = all_well(&deployment);
    let candidate = deployment.plan.members[0].candidate.clone();
    let fault = Fault::new(Code::ReplicaExited, "exited");
    seen.replicas.insert(candidate, vec![Health::Ready, Health::Failed { fault }]);
    assert!(matches!(decide(&deployment, &seen, 1), Step::Fail(_)));
    deployment.plan.members[0].safety.rollback.max_failure_ratio = 0.5;
    assert!(!matches!(decide(&deployment, &seen, 1), Step::Fail(_)));
    deployment.plan.members[0].safety.rollback.max_failure_ratio = 0.4;
    assert!(matches!(decide(&deployment, &seen, 1), Step::Fail(_)));
    deployment.plan.members[0].safety.rollback.on.facts = false;
    assert!(!matches!(decide(&deployment, &seen, 1), Step::Fail(_)));
}

#[test]
fn a_promotion_is_one_step_or_all_of_them_and_ends_a_freeze() {
    for (full, next) in [(false, 1), (true, 2)] {
        let mut deployment = watched(State::Stepping { step: 0 });
        deployment.apply(&Event::Frozen { why: "frozen by me".to_owned() }, 1).unwrap();
        let seen = all_well(&deployment);
        assert!(matches!(decide(&deployment, &seen, 60_000), Step::Wait { .. }), "frozen");
        let seen = Seen { promote: Some(Promote { full, who: "me".to_owned() }), ..seen };
        let Step::Promote(Promote { full, who }) = decide(&deployment, &seen, 60_000) else { panic!() };
        deployment.apply(&Event::Promoted { full, who }, 60_000).unwrap();
        assert_eq!((&deployment.state, &deployment.frozen), (&State::Shifting { step: next }, &None));
        assert_eq!(
            deployment.notes.last().map(String::as_str),
            Some("promoted by me in step 1 of 2, although frozen by me")
        );
    }
    let mut deployment = watched(State::Baking);
    deployment.apply(&Event::Promoted { full: false, who: "me".to_owned() }, 1).unwrap();
    assert_eq!(deployment.state, State::Draining { closing: false });
    assert_eq!(deployment.notes, ["promoted by me in the bake"]);
}
