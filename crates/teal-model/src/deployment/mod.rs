//! The one page that says what a deployment may do: its states, what each of them does, and which may follow which.
//!
//! ```text
//! Planned ─▶ Pulling ─▶ Migrating ─▶ each member in turn ──────────────────────────────▶ Baking ─▶ Draining ─▶ Retiring ─▶ Done
//!                                     recreate:   Holding ▶ (Stopping ▶ Starting ▶ Warming ▶ Delaying)* ▶ Releasing
//!                                     blue-green: (Starting ▶ Warming ▶ Delaying)*, and one Shifting after the last
//!    any of them before Retiring ─▶ Reverting { Back ▶ (Hold ▶ Swap ▶ Release)* ▶ Drain ▶ Clean } ─▶ Reverted
//! ```
//!
//! [`decide`] looks and names the next step, the agent's conductor does it and says what happened, [`Deployment::apply`]
//! takes that down. Nothing here has an effect, so an agent that died goes on by asking `decide` again.

mod decide;
mod routing;
mod state;

pub use decide::decide;
pub use routing::Routing;
pub use state::{Phase, State};

use crate::fault::Fault;
use crate::ids::{ReleaseKey, ServiceKey};
use crate::plan::{Member, Plan, Span};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// How long tunnels get to end after they were asked to, once the drain time is over.
pub const CLOSING_MS: u64 = 3_000;
/// A release that was ready and is not seen ready any more: for so long it may only be a moment's weakness.
pub const LOST_AFTER_MS: u64 = 10_000;

/// An effect, safe to repeat.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "action", rename_all = "snake_case")]
pub enum Action {
    BindListeners,
    EnsureNetwork,
    /// Every replica of the span exists and runs.
    StartRelease {
        release: ReleaseKey,
        #[serde(default, skip_serializing_if = "Span::is_all")]
        span: Span,
    },
    /// No replica of the span runs.
    StopRelease {
        release: ReleaseKey,
        #[serde(default, skip_serializing_if = "Span::is_all")]
        span: Span,
    },
    RemoveRelease {
        release: ReleaseKey,
    },
    /// The service's own restart policy, instead of a candidate's `no`.
    SetRestart {
        release: ReleaseKey,
    },
    /// The routing of the state that the deployment is in ([`Deployment::routing`]), acknowledged by every worker.
    Publish,
    /// The live containers get the name that the file gives them: only now nobody else of the service has it.
    NameRelease {
        release: ReleaseKey,
    },
    /// A service that the file does not have any more goes: routes, requests, containers.
    RemoveOrphan {
        service: ServiceKey,
    },
    /// Listeners that no routing names are closed; networks without containers are removed.
    Tidy,
}

impl Action {
    /// For people: what was being done.
    pub fn words(&self) -> String {
        match self {
            Action::BindListeners => "open the published ports".to_owned(),
            Action::EnsureNetwork => "networks and the holder of the name".to_owned(),
            Action::StartRelease { release, span } => format!("start {release}{}", span.words()),
            Action::StopRelease { release, span } => format!("stop {release}{}", span.words()),
            Action::RemoveRelease { release } => format!("remove {release}"),
            Action::SetRestart { release } => format!("set the restart policy of {release}"),
            Action::NameRelease { release } => format!("name {release}"),
            Action::RemoveOrphan { service } => format!("remove {service}, which is not in the file"),
            Action::Publish => "publish the route table".to_owned(),
            Action::Tidy => "clean up".to_owned(),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    Entered {
        to: State,
    },
    /// Images are here; the plan with their ids. Without members: nothing to do.
    Resolved {
        plan: Box<Plan>,
    },
    Did {
        action: Action,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        published: Option<Published>,
    },
    /// `action` is None when what was waited for did not come.
    Failed {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        action: Option<Action>,
        fault: Fault,
    },
    /// The route table was found to be back at what was live, for every member: only what is left over is to be cleaned.
    TakenBack {
        fault: Fault,
    },
}

/// When a table went to the workers and when the last of them took it; CLOCK_MONOTONIC microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Published {
    pub table: crate::ids::TableNumber,
    pub sent_us: u64,
    pub acknowledged_us: u64,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Deployment {
    pub number: u64,
    pub plan: Plan,
    pub state: State,
    /// Unix milliseconds.
    pub entered_ms: u64,
    /// What was done since the state (or the phase) was entered.
    pub done: Vec<Action>,
}

/// What an observation may say of a replica.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "health", rename_all = "snake_case")]
pub enum Health {
    /// The engine or the probe gave no answer; neither healthy nor unhealthy.
    Unknown {
        why: String,
    },
    /// Runs, and is not ready yet; what the last probe said.
    Warming {
        last: String,
    },
    Ready,
    /// It exited, was restarted, or speaks something else: waiting does not help.
    Failed {
        fault: Fault,
    },
}

/// What the world looks like to a deployment.
#[derive(Debug, Clone, Default)]
pub struct Seen {
    /// By image reference, while Pulling.
    pub pulls: BTreeMap<String, Pull>,
    /// One entry a replica that is to be.
    pub replicas: BTreeMap<ReleaseKey, Vec<Health>>,
    /// Read after the current table was acknowledged; None is unknown.
    pub in_flight: BTreeMap<ReleaseKey, Option<u64>>,
    pub abort: Option<String>,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Pull {
    Running,
    Here,
    Failed(Fault),
}

#[derive(Debug, Clone, PartialEq)]
pub enum Step {
    /// Nothing to do before this time (Unix milliseconds), or before something new is seen.
    Wait {
        until_ms: Option<u64>,
    },
    /// Make the plan again: every image is here.
    Resolve,
    Enter(State),
    Do(Action),
    Fail(Fault),
    Finish,
}

#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("a deployment that is {from} cannot take `{event}`")]
pub struct Illegal {
    pub from: String,
    pub event: String,
}

impl Deployment {
    pub fn new(number: u64, plan: Plan, now_ms: u64) -> Self {
        Self { number, plan, state: State::Planned, entered_ms: now_ms, done: Vec::new() }
    }

    /// Takes down what happened. An event that this state cannot have is refused and changes nothing.
    pub fn apply(&mut self, event: &Event, now_ms: u64) -> Result<(), Illegal> {
        let illegal = |from: &State, event: String| Err(Illegal { from: from.name().to_owned(), event });
        match event {
            Event::Entered { to } => {
                let gives_up = matches!((&self.state, to), (state, State::Reverting { phase, .. }) if state.may_revert() && *phase == Phase::Back);
                if !gives_up && !self.successors().contains(to) {
                    return illegal(&self.state, to.name().to_owned());
                }
                self.enter(to.clone(), now_ms);
            }
            Event::Resolved { plan } => {
                if self.state != State::Pulling {
                    return illegal(&self.state, "resolved".to_owned());
                }
                self.plan = (**plan).clone();
                self.enter(if self.plan.is_empty() { State::Done } else { State::Migrating }, now_ms);
            }
            Event::Did { action, .. } => {
                if !self.script().contains(action) {
                    return illegal(&self.state, action.words());
                }
                if !self.done.contains(action) {
                    self.done.push(action.clone());
                }
            }
            Event::TakenBack { fault } => {
                if !self.state.may_revert() {
                    return illegal(&self.state, "taken back".to_owned());
                }
                let from = Box::new(self.state.clone());
                self.enter(State::Reverting { why: fault.clone(), from, phase: Phase::Drain }, now_ms);
            }
            Event::Failed { action, fault } => {
                if self.state.has_ended() {
                    return illegal(&self.state, "failed".to_owned());
                }
                let next = if self.state.may_revert() {
                    State::Reverting { why: fault.clone(), from: Box::new(self.state.clone()), phase: Phase::Back }
                } else {
                    State::Stuck {
                        step: action.as_ref().map_or_else(|| format!("{} (waiting)", self.state.name()), Action::words),
                        error: fault.clone(),
                    }
                };
                self.enter(next, now_ms);
            }
        }
        Ok(())
    }

    fn enter(&mut self, state: State, now_ms: u64) {
        self.state = state;
        self.entered_ms = now_ms;
        self.done.clear();
    }

    /// What this state (or phase) does, in this order.
    pub fn script(&self) -> Vec<Action> {
        let members = &self.plan.members;
        let start = |release: &ReleaseKey, span| Action::StartRelease { release: release.clone(), span };
        let stop = |release: &ReleaseKey, span| Action::StopRelease { release: release.clone(), span };
        match &self.state {
            // Where nothing is live yet, requests that come from now on wait.
            State::Planned if members.iter().any(|member| member.live.is_none()) => {
                vec![Action::Publish, Action::BindListeners]
            }
            State::Planned => vec![Action::BindListeners],
            State::Holding { .. } | State::Releasing { .. } | State::Shifting | State::Draining { closing: true } => {
                vec![Action::Publish]
            }
            State::Stopping { member, batch } => {
                let span = members[*member].batch(*batch);
                let live = members[*member].live.iter().map(|live| stop(&live.release, span));
                // The table of the first batch is that of the others.
                let publish = (*batch == 0).then_some(Action::Publish);
                publish.into_iter().chain(live).collect()
            }
            State::Starting { member, batch } => {
                // Requests wait from here on, unless a live release has them. Those to an adopted one come through the proxy from
                // here on.
                let waits = members[*member].takes_its_turn() || members[*member].adopted().is_some();
                let mut script = Vec::new();
                if *batch == 0 {
                    script.extend(waits.then_some(Action::Publish));
                    script.push(Action::EnsureNetwork);
                }
                script.push(start(&members[*member].candidate, members[*member].batch(*batch)));
                script
            }
            State::Retiring => {
                let mut script = vec![Action::Publish];
                script.extend(members.iter().map(|member| Action::SetRestart { release: member.candidate.clone() }));
                let old = || members.iter().filter_map(|member| member.live.as_ref()).map(|live| live.release.clone());
                // Those first that depend on others.
                script.extend(old().rev().map(|release| stop(&release, Span::ALL)));
                // The ports of adopted containers are free now, and not before.
                script.extend(members.iter().any(|member| member.adopted().is_some()).then_some(Action::BindListeners));
                script.extend(old().map(|release| Action::RemoveRelease { release }));
                let named = members.iter().filter(|member| member.container_name.is_some());
                script.extend(named.map(|member| Action::NameRelease { release: member.candidate.clone() }));
                let orphans = self.plan.orphans.iter();
                script.extend(orphans.map(|orphan| Action::RemoveOrphan { service: orphan.service.clone() }));
                script.push(Action::Tidy);
                script
            }
            State::Reverting { phase, from, .. } => match phase {
                Phase::Back | Phase::Hold { .. } | Phase::Release { .. } => vec![Action::Publish],
                Phase::Swap { member } => {
                    let (index, member) = (*member, &members[*member]);
                    let mut script = vec![Action::Publish, stop(&member.candidate, Span::ALL)];
                    for live in member.live.iter().map(|live| &live.release) {
                        // A stop that was begun goes on in the engine: what still runs may be on its way out.
                        script.extend(from.stopped_of_live(index, member).map(|span| stop(live, span)));
                        script.push(start(live, Span::ALL));
                    }
                    script
                }
                Phase::Drain => Vec::new(),
                Phase::Clean => {
                    let mut script = vec![Action::Publish];
                    for member in members.iter().take(from.reached(&self.plan)) {
                        script.push(stop(&member.candidate, Span::ALL));
                        script.push(Action::RemoveRelease { release: member.candidate.clone() });
                    }
                    script.push(Action::Tidy);
                    script
                }
            },
            _ => Vec::new(),
        }
    }

    /// The states that may follow this one when all goes well.
    fn successors(&self) -> Vec<State> {
        let plan = &self.plan;
        match &self.state {
            State::Planned => vec![State::Pulling],
            State::Pulling | State::Done | State::Reverted { .. } | State::Stuck { .. } => Vec::new(),
            State::Migrating => vec![self.turn_of(0)],
            State::Holding { member } => vec![State::Stopping { member: *member, batch: 0 }],
            State::Stopping { member, batch } => vec![State::Starting { member: *member, batch: *batch }],
            State::Starting { member, batch } => vec![State::Warming { member: *member, batch: *batch }],
            State::Warming { member, batch } if batch + 1 < plan.members[*member].batch_count() => {
                vec![State::Delaying { member: *member, batch: *batch }]
            }
            State::Warming { member, .. } if plan.members[*member].takes_its_turn() => {
                vec![State::Releasing { member: *member }]
            }
            State::Warming { member, .. } | State::Releasing { member } => vec![self.turn_of(member + 1)],
            State::Delaying { member, batch } => match plan.members[*member].takes_its_turn() {
                true => vec![State::Stopping { member: *member, batch: batch + 1 }],
                false => vec![State::Starting { member: *member, batch: batch + 1 }],
            },
            State::Shifting => vec![State::Baking],
            State::Baking => vec![State::Draining { closing: false }],
            State::Draining { closing: false } => vec![State::Retiring, State::Draining { closing: true }],
            State::Draining { closing: true } => vec![State::Retiring],
            State::Retiring => vec![State::Done],
            State::Reverting { why, from, phase } => match self.next_phase(from, *phase) {
                Some(phase) => vec![State::Reverting { why: why.clone(), from: from.clone(), phase }],
                None => vec![State::Reverted { why: why.clone() }],
            },
        }
    }

    /// The first state of a member, or of what comes after the last one.
    fn turn_of(&self, member: usize) -> State {
        match self.plan.members.get(member) {
            Some(one) if one.takes_its_turn() && one.fallback().is_some() => State::Holding { member },
            Some(_) => State::Starting { member, batch: 0 },
            None if self.plan.members.iter().any(|member| !member.takes_its_turn()) => State::Shifting,
            None => State::Baking,
        }
    }

    /// The members as a revert takes them back: the other way round, but whoever lives in another's namespace after that
    /// one, since its live containers cannot start before.
    fn revert_order(&self) -> Vec<usize> {
        fn visit(members: &[Member], i: usize, order: &mut Vec<usize>) {
            if order.contains(&i) {
                return;
            }
            // A service that joined itself would be a cycle, which no plan has.
            let joined = |other: &usize| *other != i && members[i].joins.contains(&members[*other].service.service);
            (0..members.len()).filter(joined).for_each(|other| visit(members, other, order));
            order.push(i);
        }
        let mut order = Vec::new();
        (0..self.plan.members.len()).rev().for_each(|i| visit(&self.plan.members, i, &mut order));
        order
    }

    fn next_phase(&self, from: &State, phase: Phase) -> Option<Phase> {
        let reached = from.reached(&self.plan);
        // Without a live release there is nothing to swap it for: it goes with the others.
        let swapped = |i: &usize| {
            let member = &self.plan.members[*i];
            *i < reached && member.takes_its_turn() && member.fallback().is_some()
        };
        let order = self.revert_order();
        let after = |at: usize| {
            order.iter().copied().skip(at).find(swapped).map_or(Phase::Drain, |member| Phase::Hold { member })
        };
        Some(match phase {
            Phase::Back => after(0),
            Phase::Hold { member } => Phase::Swap { member },
            Phase::Swap { member } => Phase::Release { member },
            Phase::Release { member } => {
                after(order.iter().position(|i| *i == member).map_or(order.len(), |at| at + 1))
            }
            Phase::Drain => Phase::Clean,
            Phase::Clean => return None,
        })
    }
}
