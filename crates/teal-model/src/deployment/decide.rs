//! The next step of a deployment, from what is seen now: what to do, what to wait for, and what is not waited for.

use super::routing::had_share;
use super::{
    Action, CLOSING_MS, Deployment, End, Growth, Health, LOST_AFTER_MS, Migration, Phase, Proof, Pull, Ruling, Seen,
    State, Step,
};
use crate::config::{FailureAction, Pace};
use crate::fault::{Code, Fault};
use crate::ids::ReleaseKey;
use crate::plan::Member;

/// The next step of a deployment, given what is seen now.
pub fn decide(deployment: &Deployment, seen: &Seen, now_ms: u64) -> Step {
    if deployment.state.has_ended() {
        return Step::Finish;
    }
    if deployment.state.may_revert() {
        if let Some(who) = &seen.abort {
            return Step::Fail(Fault::new(Code::Aborted, format!("aborted by {who}")));
        }
        if let Some(step) = lost_candidate(deployment, seen, now_ms) {
            return step;
        }
    }
    if deployment.state.is_watched()
        && let Some(step) = verdict(deployment, seen).or_else(|| ordered(deployment, seen))
    {
        return step;
    }
    let Some(action) = deployment.script().into_iter().find(|action| !deployment.done.contains(action)) else {
        return gate(deployment, seen, now_ms);
    };
    if action == Action::Publish
        && let Some(step) = hesitation(deployment, seen, now_ms)
    {
        return step;
    }
    Step::Do(action)
}

/// Why the routing of this state is not published now: those that would get the requests are not there.
fn hesitation(deployment: &Deployment, seen: &Seen, now_ms: u64) -> Option<Step> {
    let members = &deployment.plan.members;
    let ready = |release: &ReleaseKey, wanted| readiness(seen.replicas.get(release), wanted);
    match &deployment.state {
        // Those that were ready once are a matter of the facts.
        State::Shifting { step: 1.. } | State::Draining { closing: false } => still_there(deployment, seen, now_ms),
        State::Shifting { .. } => {
            let candidates = members.iter().filter(|member| !member.takes_its_turn());
            candidates
                .map(|member| (member, ready(&member.candidate, member.replicas_in(0))))
                .find_map(|(member, seen)| lost(&member.candidate, seen, deployment, now_ms))
        }
        // It has done what it was for.
        State::Releasing { member } if members[*member].job => None,
        State::Releasing { member } => {
            let member = &members[*member];
            lost(&member.candidate, ready(&member.candidate, member.replicas), deployment, now_ms)
        }
        // Seen to serve before this phase; an agent that has just begun may not have seen it yet. Later they wait in the proxy.
        State::Reverting { phase: Phase::Release { member }, .. } => {
            let live = members[*member].live.as_ref().filter(|live| !serving(seen.replicas.get(&live.release)));
            let until_ms = deployment.entered_ms + LOST_AFTER_MS;
            live.filter(|_| now_ms < until_ms).map(|_| Step::Wait { until_ms: Some(until_ms) })
        }
        // Back to what does not serve would be worse than staying: the candidate may still do.
        State::Reverting { phase: Phase::Back, from, .. } if had_share(from) => {
            let blue_green = members.iter().filter(|member| !member.takes_its_turn());
            blue_green.filter_map(|member| Some((&member.live.as_ref()?.release, &member.candidate))).find_map(
                |(live, candidate)| match (serving(seen.replicas.get(live)), serving(seen.replicas.get(candidate))) {
                    (false, true) => {
                        lost(live, readiness(seen.replicas.get(live), 1), deployment, now_ms).map(|step| match step {
                            Step::Fail(fault) => Step::Fail(Fault { code: Code::Stuck, ..fault }),
                            step => step,
                        })
                    }
                    _ => None,
                },
            )
        }
        _ => None,
    }
}

/// None: it is ready. A release that was ready before is given a moment to be so again.
fn lost(release: &ReleaseKey, readiness: Readiness, deployment: &Deployment, now_ms: u64) -> Option<Step> {
    let last = match readiness {
        Readiness::Ready => return None,
        Readiness::Failed(fault) => return Some(Step::Fail(fault.of(&release.service))),
        Readiness::Waiting(last) => last,
    };
    let fault = || Fault::new(Code::NeverReady, format!("{release} was ready and is not any more")).detail(vec![last]);
    Some(before(deployment.entered_ms + LOST_AFTER_MS, now_ms, || Step::Fail(fault().of(&release.service))))
}

fn serving(replicas: Option<&Vec<Health>>) -> bool {
    replicas.is_some_and(|replicas| replicas.contains(&Health::Ready))
}

/// The candidates that have the requests, before those of the releases behind them are taken away: one that serves, each.
fn still_there(deployment: &Deployment, seen: &Seen, now_ms: u64) -> Option<Step> {
    let gone = |member: &&Member| !member.job && !serving(seen.replicas.get(&member.candidate));
    deployment.plan.members.iter().filter(gone).find_map(|member| {
        lost(&member.candidate, readiness(seen.replicas.get(&member.candidate), 1), deployment, now_ms)
    })
}

/// A candidate that had been ready and is not any more: a fact, at once. Jobs end, and may be cleaned away.
fn lost_candidate(deployment: &Deployment, seen: &Seen, now_ms: u64) -> Option<Step> {
    deployment.plan.members.iter().enumerate().filter(|(_, member)| !member.job).find_map(|(i, member)| {
        let started = deployment.state.started(i, member);
        let replicas = seen.replicas.get(&member.candidate).filter(|_| started > 0)?;
        let mut failed = replicas.iter().filter_map(|health| match health {
            Health::Failed { fault } => Some(fault.clone()),
            _ => None,
        });
        let watched = had_share(&deployment.state);
        if watched && !member.safety.rollback.on.facts {
            return None;
        }
        let tolerated = tolerated(member);
        let fault = match (watched, failed.nth(if watched { tolerated } else { 0 })) {
            (_, Some(fault)) => Some(fault),
            (true, None) if tolerated > 0 => None,
            (_, None) => missing(member, replicas, started as usize),
        };
        let fault = fault.or_else(|| unready(member, deployment, seen, now_ms).filter(|_| tolerated == 0))?;
        if watched { against(member, fault, deployment) } else { Some(Step::Fail(fault)) }
    })
}

/// How many replicas of a candidate that has requests may fail.
fn tolerated(member: &Member) -> usize {
    (f64::from(member.replicas) * member.safety.rollback.max_failure_ratio) as usize
}

/// Its checks fail while those of the live release pass: that is its own fault, and not that of something both need.
fn unready(member: &Member, deployment: &Deployment, seen: &Seen, now_ms: u64) -> Option<Fault> {
    let from_ms = *seen.unready_from.get(&member.candidate).filter(|_| deployment.state.is_watched())?;
    let live = member.live.as_ref().filter(|_| !member.takes_its_turn())?;
    (now_ms >= from_ms && serving(seen.replicas.get(&live.release))).then(|| {
        let last = seen.replicas.get(&member.candidate).and_then(|replicas| {
            replicas.iter().find_map(|health| match health {
                Health::Warming { last } => Some(last.clone()),
                _ => None,
            })
        });
        let what = format!("{} is not ready any more, and {} is, by the same check", member.candidate, live.release);
        Fault::new(Code::NeverReady, what).detail(last.into_iter().collect())
    })
}

/// What is done about a bad candidate, as the service wants it. None: it has been done already.
fn against(member: &Member, fault: Fault, deployment: &Deployment) -> Option<Step> {
    match member.safety.rollback.action {
        FailureAction::Rollback => Some(Step::Fail(fault.of(&member.service))),
        FailureAction::Pause => {
            let why = format!("paused (action: pause): {fault}");
            // What is told already, somebody has gone on from, knowing it.
            let news = deployment.frozen.is_none() && !deployment.notes.contains(&why);
            (news && deployment.state.is_watched()).then_some(Step::Freeze(why))
        }
        FailureAction::Continue => {
            let words = format!("goes on all the same (action: continue): {fault}");
            (!deployment.notes.contains(&words)).then_some(Step::Note(words))
        }
    }
}

/// What the requests so far say.
fn verdict(deployment: &Deployment, seen: &Seen) -> Option<Step> {
    if let Some(words) = seen.judged.words.iter().find(|words| !deployment.notes.contains(words)) {
        return Some(Step::Note(words.clone()));
    }
    match &seen.judged.ruling {
        Ruling::Keep => None,
        Ruling::Cap(share) => (deployment.cap != *share).then_some(Step::Do(Action::Cap { share: *share })),
        Ruling::Revert(fault) => {
            let accused =
                |member: &&Member| seen.judged.accused.as_ref().is_none_or(|service| *service == member.service);
            let member = deployment.plan.members.iter().find(accused)?;
            against(member, fault.clone(), deployment)
        }
    }
}

/// What somebody asked for.
fn ordered(deployment: &Deployment, seen: &Seen) -> Option<Step> {
    if let Some(promote) = &seen.promote {
        return Some(Step::Promote(promote.clone()));
    }
    let who = seen.freeze.as_ref().filter(|_| deployment.frozen.is_none())?;
    Some(Step::Freeze(format!("frozen by {who}")))
}

/// A step, or the bake, is not ended before somebody says so.
fn is_kept(deployment: &Deployment, seen: &Seen) -> bool {
    deployment.frozen.is_some() || seen.judged.both_fail
}

/// The next share is not given before that.
fn is_held(deployment: &Deployment, seen: &Seen) -> bool {
    match deployment.state {
        State::Growing { promoted: true, .. } => deployment.frozen.is_some(),
        _ => seen.judged.contained || is_kept(deployment, seen),
    }
}

/// Containers that were started and are not there any more. Where something is unknown, so is this.
fn missing(member: &Member, replicas: &[Health], wanted: usize) -> Option<Fault> {
    let unknown = replicas.iter().any(|health| matches!(health, Health::Unknown { .. }));
    (replicas.len() < wanted && !unknown).then(|| {
        let what = format!("{} of {wanted} containers of {} are gone", wanted - replicas.len(), member.candidate);
        Fault::new(Code::ReplicaRemoved, what)
    })
}

/// Everything of this state is done: what is waited for now?
fn gate(deployment: &Deployment, seen: &Seen, now_ms: u64) -> Step {
    let members = &deployment.plan.members;
    let next = || deployment.successors().into_iter().next().map_or(Step::Finish, Step::Enter);
    match &deployment.state {
        State::Pulling => pulled(deployment, seen),
        State::Warming { member, batch } => {
            let member = &members[*member];
            let replicas = seen.replicas.get(&member.candidate);
            match unready_yet(member, readiness(replicas, member.replicas_after(batch + 1)), deployment, now_ms) {
                None => next(),
                Some(Step::Fail(_)) if member.optional => next(),
                Some(step) => step,
            }
        }
        State::Growing { from, step, part, .. } => {
            let stopped = match part {
                Growth::Starting => None,
                Growth::Warming => deployment.growing(*from, *step).into_iter().find_map(|(member, _)| {
                    let readiness = tolerant(member, seen.replicas.get(&member.candidate), member.replicas_in(*step));
                    accused(member, unready_yet(member, readiness, deployment, now_ms)?, deployment)
                }),
                Growth::Proving => match &seen.proof {
                    Some(Proof::Passed) => None,
                    Some(Proof::Failed(fault)) => {
                        deployment.proved().first().and_then(|(member, _)| against(member, fault.clone(), deployment))
                    }
                    Some(Proof::Running) | None => Some(Step::Wait { until_ms: None }),
                },
            };
            match stopped.unwrap_or_else(next) {
                Step::Enter(State::Shifting { .. }) if is_held(deployment, seen) => Step::Wait { until_ms: None },
                step => step,
            }
        }
        State::Delaying { member, .. } => {
            let delay_ms = members[*member].batches.map_or(0, |batches| batches.delay_ms);
            before(deployment.entered_ms + delay_ms, now_ms, next)
        }
        State::Holding { member } => {
            let member = &members[*member];
            drained(member.live.as_ref().map(|live| &live.release), member.drain_ms, deployment, seen, now_ms, next)
        }
        State::Migrating { member, .. } => {
            let member = &members[*member];
            let timeout_ms = member.safety.migrate.as_ref().map_or(0, |migrate| migrate.timeout_ms);
            match seen.migrations.get(&member.candidate) {
                Some(Migration::Succeeded) => next(),
                Some(Migration::Failed(fault) | Migration::Lost(fault)) => Step::Fail(fault.clone()),
                Some(Migration::Running) | None => before(deployment.entered_ms + timeout_ms, now_ms, || {
                    let what =
                        format!("the migration for {} did not end within {} s", member.candidate, timeout_ms / 1000);
                    let hint = "raise `x-teal.migrate.timeout` if it only needs more time; what it had done already stays done";
                    Step::Fail(Fault::new(Code::MigrationFailed, what).hint(hint))
                }),
            }
        }
        State::Proving { .. } => match &seen.proof {
            Some(Proof::Passed) => next(),
            Some(Proof::Failed(fault)) => Step::Fail(fault.clone()),
            // Each of its parts has a time limit of its own.
            Some(Proof::Running) | None => Step::Wait { until_ms: None },
        },
        State::Stepping { step } => {
            let paces: Vec<Pace> =
                members.iter().filter_map(|member| Some(member.safety.steps.get(*step)?.pace)).collect();
            let held = |pace: &Pace| match pace {
                Pace::For { ms } => *ms,
                Pace::Manual => 0,
            };
            // Time in which nobody watched says nothing.
            let from_ms = deployment.entered_ms.max(seen.judged.watched_from_ms);
            let until_ms = from_ms + paces.iter().map(held).max().unwrap_or(0);
            // The next step is no way to make one that was turned down.
            if paces.contains(&Pace::Manual) || is_held(deployment, seen) {
                return Step::Wait { until_ms: None };
            }
            before(until_ms, now_ms, next)
        }
        State::Baking => {
            let bake = members.iter().map(|member| member.bake_ms).max().unwrap_or(0);
            if bake == 0 {
                return still_there(deployment, seen, now_ms).unwrap_or_else(next);
            }
            if is_kept(deployment, seen) {
                return Step::Wait { until_ms: None };
            }
            before(deployment.entered_ms + bake, now_ms, || match seen.judged.end {
                End::Promote => next(),
                End::Extend { until_ms } => Step::Wait { until_ms: Some(until_ms) },
                End::Inconclusive => {
                    let words = match seen.judged.contained {
                        true => "its share was turned down, and too few requests came to tell more: it goes live all the same",
                        false => "too few requests to judge it by: it goes live all the same",
                    }
                    .to_owned();
                    if deployment.notes.contains(&words) { next() } else { Step::Note(words) }
                }
            })
        }
        State::Draining { closing } => {
            let retiring =
                members.iter().filter(|member| !member.takes_its_turn()).filter_map(|member| member.live.as_ref());
            let (patience, over) = match closing {
                false => {
                    (members.iter().map(|member| member.drain_ms).max().unwrap_or(0), State::Draining { closing: true })
                }
                true => (CLOSING_MS, State::Retiring),
            };
            if let Some(step) = still_there(deployment, seen, now_ms) {
                return step;
            }
            if retiring.clone().all(|live| seen.in_flight.get(&live.release) == Some(&Some(0))) {
                return Step::Enter(State::Retiring);
            }
            before(deployment.entered_ms + patience, now_ms, || Step::Enter(over.clone()))
        }
        State::Reverting { phase, from, .. } => match phase {
            Phase::Hold { member } => {
                let member = &members[*member];
                drained(Some(&member.candidate), member.drain_ms, deployment, seen, now_ms, next)
            }
            Phase::Swap { member } => match &members[*member].live {
                None => next(),
                Some(live) if serving(seen.replicas.get(&live.release)) => next(),
                Some(live) => {
                    let replicas = seen.replicas.get(&live.release).map(Vec::as_slice).unwrap_or_default();
                    let failed = |health: &Health| matches!(health, Health::Failed { .. });
                    let stuck = || {
                        let said = replicas.iter().map(|health| format!("{health:?}")).collect();
                        Step::Fail(
                            Fault::new(Code::Stuck, format!("{} did not get ready again", live.release)).detail(said),
                        )
                    };
                    if !replicas.is_empty() && replicas.iter().all(failed) {
                        return stuck();
                    }
                    before(deployment.entered_ms + members[*member].deadline_ms, now_ms, stuck)
                }
            },
            Phase::Drain => {
                let patience = members.iter().map(|member| member.drain_ms).max().unwrap_or(0);
                // One that never had a share has none in flight.
                let reached = from.reached(&deployment.plan);
                let idle = members
                    .iter()
                    .take(reached)
                    .all(|member| matches!(seen.in_flight.get(&member.candidate), Some(Some(0))));
                if idle { next() } else { before(deployment.entered_ms + patience, now_ms, next) }
            }
            _ => next(),
        },
        _ => next(),
    }
}

fn pulled(deployment: &Deployment, seen: &Seen) -> Step {
    let mut waiting = false;
    for member in deployment.plan.members.iter().filter(|member| !member.is_warm()) {
        match seen.pulls.get(member.reference()) {
            Some(Pull::Failed(fault)) => return Step::Fail(fault.clone()),
            Some(Pull::Here) => {}
            Some(Pull::Running) | None => waiting = true,
        }
    }
    if waiting { Step::Wait { until_ms: None } } else { Step::Resolve }
}

fn before(deadline_ms: u64, now_ms: u64, over: impl FnOnce() -> Step) -> Step {
    if now_ms >= deadline_ms { over() } else { Step::Wait { until_ms: Some(deadline_ms) } }
}

/// Nothing in flight, or the drain time is over. Unknown is not zero.
fn drained(
    release: Option<&ReleaseKey>,
    drain_ms: u64,
    deployment: &Deployment,
    seen: &Seen,
    now_ms: u64,
    next: impl FnOnce() -> Step,
) -> Step {
    let Some(release) = release else { return next() };
    if seen.in_flight.get(release) == Some(&Some(0)) {
        return next();
    }
    before(deployment.entered_ms + drain_ms, now_ms, next)
}

/// None: it is ready. One that waits has until its deadline.
fn unready_yet(member: &Member, readiness: Readiness, deployment: &Deployment, now_ms: u64) -> Option<Step> {
    let last = match readiness {
        Readiness::Ready => return None,
        Readiness::Failed(fault) => return Some(Step::Fail(fault)),
        Readiness::Waiting(last) => last,
    };
    let what = format!("{} was not ready within {} s", member.candidate, member.deadline_ms / 1000);
    let fault = || Fault::new(Code::NeverReady, what).detail(vec![format!("waited for: {}", member.readiness), last]);
    Some(before(deployment.entered_ms + member.deadline_ms, now_ms, || Step::Fail(fault())))
}

/// A failure of a candidate that has requests, as the service wants it. None: it goes on all the same.
fn accused(member: &Member, step: Step, deployment: &Deployment) -> Option<Step> {
    match step {
        Step::Fail(fault) => against(member, fault, deployment),
        step => Some(step),
    }
}

/// The same for one that has requests: as many may fail as the service can do without.
fn tolerant(member: &Member, replicas: Option<&Vec<Health>>, wanted: u32) -> Readiness {
    let mut left = if member.safety.rollback.on.facts { tolerated(member) } else { usize::MAX };
    let mut rest = replicas.cloned().unwrap_or_default();
    let all = rest.len();
    rest.retain(|health| {
        let is_spared = matches!(health, Health::Failed { .. }) && left > 0;
        left -= usize::from(is_spared);
        !is_spared
    });
    readiness(Some(&rest), wanted.saturating_sub((all - rest.len()) as u32))
}

enum Readiness {
    Ready,
    Waiting(String),
    Failed(Fault),
}

fn readiness(replicas: Option<&Vec<Health>>, wanted: u32) -> Readiness {
    let none = Vec::new();
    let replicas = replicas.unwrap_or(&none);
    let mut ready = 0;
    let mut last = String::new();
    for health in replicas {
        match health {
            Health::Failed { fault } => return Readiness::Failed(fault.clone()),
            Health::Ready => ready += 1,
            Health::Warming { last: said } => last = format!("last probe: {said}"),
            Health::Unknown { why } => last = format!("unknown: {why}"),
        }
    }
    if ready >= wanted {
        return Readiness::Ready;
    }
    let separator = if last.is_empty() { "" } else { "; " };
    Readiness::Waiting(format!("{ready} of {wanted} ready{separator}{last}"))
}
