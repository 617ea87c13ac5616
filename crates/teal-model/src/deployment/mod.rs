//! The one page that says what a deployment may do: its states, what each of them does, and which may follow which.
//!
//! ```text
//! Planned ─▶ Pulling ─▶ Migrating* ─▶ each member in turn ─────────────────────────────▶ Baking ─▶ Draining ─▶ Retiring ─▶ Done
//!                                      recreate:   Holding ▶ (Stopping ▶ Starting ▶ Warming ▶ Delaying)* ▶ Proving ▶ Releasing
//!                                      blue-green: (Starting ▶ Warming ▶ Delaying)*; after the last Proving ▶ (Shifting ▶ Stepping ▶ Growing*)* ▶ Shifting
//!    any of them before Retiring ─▶ Reverting { Back ▶ (Hold ▶ Swap ▶ Release)* ▶ Drain ▶ Clean } ─▶ Reverted
//! ```
//!
//! [`decide`] looks and names the next step, the agent's conductor does it and says what happened, [`Deployment::apply`]
//! takes that down. Nothing here has an effect, so an agent that died goes on by asking `decide` again.

mod decide;
mod growing;
mod routing;
mod state;

pub use decide::decide;
pub use routing::Routing;
use routing::had_share;
pub use state::{Growth, Phase, State};

use crate::fault::{Code, Fault};
use crate::ids::{ReleaseKey, ServiceKey};
use crate::plan::{ALL, Member, Plan, Span};
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
    /// The migration of a release was begun, once.
    Migrate {
        release: ReleaseKey,
    },
    /// What it ran in is gone.
    EndMigration {
        release: ReleaseKey,
    },
    /// Out of traffic, and warm: the release that a rollback goes back to.
    Retain {
        release: ReleaseKey,
    },
    /// One that was kept warm until now goes.
    DropRetained {
        release: ReleaseKey,
    },
    /// At most this share for candidates, in hundredths of a percent, whatever the step says; None: as the step says.
    Cap {
        share: Option<u32>,
    },
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
            Action::Migrate { release } => format!("migrate for {release}"),
            Action::EndMigration { release } => format!("remove the container of the migration for {release}"),
            Action::Retain { release } => format!("keep {release} warm"),
            Action::DropRetained { release } => format!("end {release}, which was kept warm"),
            Action::Cap { share: Some(share) } => {
                format!("at most {} of the requests to the candidate", percent(*share))
            }
            Action::Cap { share: None } => "the whole share of this step again".to_owned(),
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
    /// Somebody wants the next step now; `full`: the last.
    Promoted {
        full: bool,
        who: String,
    },
    /// No step forward until somebody promotes, and why.
    Frozen {
        why: String,
    },
    /// Something to be told in the receipt.
    Noted {
        words: String,
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
    /// The verdict has turned the candidates' share down to this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cap: Option<u32>,
    /// Why it takes no step forward.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub frozen: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
    /// It was taken back for a fault of the candidates', which had requests.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub found_bad: bool,
}

/// `12.5 %`, of hundredths of a percent.
pub fn percent(share: u32) -> String {
    let text = format!("{}.{:02}", share / 100, share % 100);
    format!("{} %", text.trim_end_matches('0').trim_end_matches('.'))
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
    /// Candidates that fail their check while their live releases pass it, and from when on that is no moment's weakness any more
    /// (Unix milliseconds).
    pub unready_from: BTreeMap<ReleaseKey, u64>,
    pub migrations: BTreeMap<ReleaseKey, Migration>,
    /// Of what Proving does; None: it has not begun.
    pub proof: Option<Proof>,
    pub judged: Judged,
    pub promote: Option<Promote>,
    pub freeze: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Promote {
    pub full: bool,
    pub who: String,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Migration {
    Running,
    Succeeded,
    Failed(Fault),
    /// It was begun, and nobody knows how it ended.
    Lost(Fault),
}

#[derive(Debug, Clone, PartialEq)]
pub enum Proof {
    Running,
    Passed,
    Failed(Fault),
}

/// What the verdict says of the candidates, and has said.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Judged {
    pub ruling: Ruling,
    /// Why it says so, each once.
    pub words: Vec<String>,
    pub end: End,
    /// Candidate and live release fail alike: nothing is decided meanwhile.
    pub both_fail: bool,
    /// Whose candidate is to be taken back.
    pub accused: Option<ServiceKey>,
    /// A candidate has less than its share.
    pub contained: bool,
    /// Why no step forward is taken, for people.
    pub held: Option<String>,
    /// Since when somebody watches (Unix milliseconds); 0: nobody has to.
    pub watched_from_ms: u64,
    /// For people.
    pub progress: String,
}

#[derive(Debug, Clone, PartialEq, Default)]
pub enum Ruling {
    #[default]
    Keep,
    Cap(Option<u32>),
    Revert(Fault),
}

/// Whether the bake, were it over, has said enough.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum End {
    /// Or there is nothing to be judged.
    #[default]
    Promote,
    Extend {
        until_ms: u64,
    },
    Inconclusive,
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
    Promote(Promote),
    Freeze(String),
    Note(String),
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
        // What is warm needs neither an image nor a start.
        let at_once = !plan.members.is_empty() && plan.members.iter().all(Member::is_warm);
        let state = if at_once { State::Shifting { step: 0 } } else { State::Planned };
        Self {
            number,
            plan,
            state,
            entered_ms: now_ms,
            done: Vec::new(),
            cap: None,
            frozen: None,
            notes: Vec::new(),
            found_bad: false,
        }
    }

    /// Every candidate is warm: nothing is started, and nothing is waited for.
    pub fn goes_back_by_a_flip(&self) -> bool {
        self.is_warm() && !self.plan.members.is_empty() && (self.state.may_revert() || self.state == State::Retiring)
    }

    /// A replica of a live release that this deployment has told to stop: it has not failed.
    pub fn has_stopped(&self, release: &ReleaseKey, index: u32) -> bool {
        let stopped = |at: usize, member: &Member| {
            let by = |state: &State| {
                let span = state.stopped_of_live(at, member).filter(|_| member.takes_its_turn());
                span.is_some_and(|span| span.contains(index))
            };
            match &self.state {
                State::Retiring => !member.retains(),
                State::Reverting { from, phase: Phase::Back | Phase::Hold { .. } | Phase::Swap { .. }, .. } => by(from),
                // It was started again.
                State::Reverting { .. } => false,
                state => by(state),
            }
        };
        let of = |member: &Member| member.live.as_ref().is_some_and(|live| live.release == *release);
        self.plan.members.iter().enumerate().any(|(at, member)| of(member) && stopped(at, member))
    }

    /// Every candidate is warm.
    fn is_warm(&self) -> bool {
        self.plan.members.iter().all(Member::is_warm)
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
                if matches!((&self.state, to), (State::Growing { promoted: true, .. }, State::Shifting { .. })) {
                    self.cap = None;
                }
                self.enter(to.clone(), now_ms);
            }
            Event::Resolved { plan } => {
                if self.state != State::Pulling {
                    return illegal(&self.state, "resolved".to_owned());
                }
                self.plan = (**plan).clone();
                self.enter(if self.plan.is_empty() { State::Done } else { self.first_turn() }, now_ms);
            }
            Event::Promoted { full, who } => {
                let wanted = |next: usize| if *full { self.last_step() } else { next };
                let next = match &self.state {
                    State::Stepping { step } => self.toward(*step, wanted(step + 1), true),
                    State::Growing { from, step, part, .. } => self.grow_on((*from, *step, *part), wanted(*step)),
                    State::Baking => State::Draining { closing: false },
                    state => return illegal(state, "promoted".to_owned()),
                };
                self.notes.push(self.promoted_by(who));
                self.frozen = None;
                // The share rises when the replicas are there that it is for.
                if !matches!(next, State::Growing { .. }) {
                    self.cap = None;
                }
                match (&self.state, &next) {
                    (State::Growing { part: now, .. }, State::Growing { part, .. }) if now == part => self.state = next,
                    _ => self.enter(next, now_ms),
                }
            }
            Event::Frozen { why } => {
                if !self.state.is_watched() && !matches!(self.state, State::Shifting { .. }) {
                    return illegal(&self.state, "frozen".to_owned());
                }
                self.frozen = Some(why.clone());
                self.notes.push(why.clone());
            }
            Event::Noted { words } => self.notes.push(words.clone()),
            Event::Did { action: Action::Cap { share }, .. } => {
                if !self.state.is_watched() {
                    return illegal(&self.state, "cap".to_owned());
                }
                // Turned down after somebody wanted more: he has not seen that.
                if let State::Growing { promoted, .. } = &mut self.state {
                    *promoted &= share.unwrap_or(ALL) >= self.cap.unwrap_or(ALL);
                }
                self.cap = *share;
            }
            Event::Did { action, .. } => {
                if !self.script().contains(action) {
                    return illegal(&self.state, action.words());
                }
                if !self.done.contains(action) {
                    self.done.push(action.clone());
                }
                if let Action::DropRetained { release } = action {
                    self.is_cold(release);
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
                // It may have been done, and is not done twice.
                let lost = matches!(self.state, State::Migrating { .. }) && fault.code == Code::Stuck;
                let own = matches!(fault.code, Code::Worse | Code::ReplicaExited | Code::NeverReady);
                self.found_bad |= own && action.is_none() && had_share(&self.state);
                let next = if self.state.may_revert() && !lost {
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

    /// What is told of a promotion, as long as it stands where it was promoted; also what it goes over, since that ends with it.
    pub fn promoted_by(&self, who: &str) -> String {
        let at = match &self.state {
            State::Stepping { step } => format!(" in step {} of {}", step + 1, self.last_step()),
            State::Baking => " in the bake".to_owned(),
            _ => String::new(),
        };
        let over = match (&self.frozen, self.cap) {
            (Some(why), _) => format!(", although {why}"),
            (None, Some(cap)) => format!(", although it was turned down to {}", percent(cap)),
            (None, None) => String::new(),
        };
        format!("promoted by {who}{at}{over}")
    }

    /// It is not warm any more: no table lists it from here on.
    pub fn is_cold(&mut self, release: &ReleaseKey) {
        for member in &mut self.plan.members {
            member.safety.retained.take_if(|warm| warm == release);
        }
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
            State::Holding { .. }
            | State::Releasing { .. }
            | State::Proving { .. }
            | State::Draining { closing: true } => vec![Action::Publish],
            // It begins here, and its ports may be others.
            State::Shifting { step: 0 } if self.is_warm() => vec![Action::BindListeners, Action::Publish],
            State::Shifting { .. } => vec![Action::Publish],
            // What the bake has left to the live release.
            State::Draining { closing: false } => {
                let whole = |member: &Member| member.takes_its_turn() || self.share(member) == ALL;
                if members.iter().all(whole) { Vec::new() } else { vec![Action::Publish] }
            }
            State::Migrating { member, .. } => {
                vec![Action::EnsureNetwork, Action::Migrate { release: members[*member].candidate.clone() }]
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
                    // It has the color, and with it the names, that the candidate gets.
                    let warm =
                        members[*member].safety.retained.iter().filter(|one| **one != members[*member].candidate);
                    script.extend(warm.map(|release| Action::DropRetained { release: release.clone() }));
                    script.push(Action::EnsureNetwork);
                }
                script.push(start(&members[*member].candidate, members[*member].batch(*batch)));
                script
            }
            State::Growing { from, step, part: Growth::Starting, .. } => {
                let growing = self.growing(*from, *step).into_iter();
                growing.map(|(member, span)| start(&member.candidate, span)).collect()
            }
            State::Retiring => {
                let mut script = vec![Action::Publish];
                script.extend(members.iter().map(|member| Action::SetRestart { release: member.candidate.clone() }));
                let live = |member: &Member| member.live.as_ref().map(|live| live.release.clone());
                script.extend(
                    members
                        .iter()
                        .filter(|member| member.retains())
                        .filter_map(live)
                        .map(|release| Action::Retain { release }),
                );
                let old = || members.iter().filter(|member| !member.retains()).filter_map(live);
                // Those first that depend on others.
                script.extend(old().rev().map(|release| stop(&release, Span::ALL)));
                // The ports of adopted containers are free now, and not before.
                script.extend(members.iter().any(|member| member.adopted().is_some()).then_some(Action::BindListeners));
                script.extend(old().map(|release| Action::RemoveRelease { release }));
                let named = members.iter().filter(|member| member.container_name.is_some());
                script.extend(named.map(|member| Action::NameRelease { release: member.candidate.clone() }));
                let orphans = self.plan.orphans.iter();
                script.extend(orphans.map(|orphan| Action::RemoveOrphan { service: orphan.service.clone() }));
                script.extend(self.migrations());
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
                    script.extend(self.migrations());
                    // One that was warm before is so again.
                    let made = |member: &&Member| !member.is_warm();
                    for member in members.iter().take(from.reached(&self.plan)).filter(made) {
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
            State::Migrating { member, turn: true } => vec![self.begin(*member)],
            State::Migrating { member, turn: false } => {
                vec![self.early_migration(member + 1).unwrap_or_else(|| self.turn_of(0))]
            }
            State::Holding { member } => vec![State::Stopping { member: *member, batch: 0 }],
            State::Stopping { member, batch } => vec![State::Starting { member: *member, batch: *batch }],
            State::Starting { member, batch } => vec![State::Warming { member: *member, batch: *batch }],
            State::Warming { member, batch } if batch + 1 < plan.members[*member].batch_count() => {
                vec![State::Delaying { member: *member, batch: *batch }]
            }
            State::Warming { member, .. } if plan.members[*member].takes_its_turn() => {
                let (member, proves) = (*member, plan.members[*member].safety.proves);
                vec![if proves { State::Proving { member: Some(member) } } else { State::Releasing { member } }]
            }
            State::Proving { member: Some(member) } => vec![State::Releasing { member: *member }],
            State::Proving { member: None } => vec![State::Shifting { step: 0 }],
            State::Warming { member, .. } | State::Releasing { member } => vec![self.turn_of(member + 1)],
            State::Delaying { member, batch } => match plan.members[*member].takes_its_turn() {
                true => vec![State::Stopping { member: *member, batch: batch + 1 }],
                false => vec![State::Starting { member: *member, batch: batch + 1 }],
            },
            State::Shifting { step } if *step < self.last_step() => vec![State::Stepping { step: *step }],
            State::Shifting { .. } => vec![State::Baking],
            State::Stepping { step } => vec![self.toward(*step, step + 1, false)],
            State::Growing { from, step, part, promoted } => vec![self.grown((*from, *step, *part), *promoted)],
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
        let members = &self.plan.members;
        match members.get(member) {
            Some(one) if one.safety.migrate.is_some() && one.migrates_late(&members[..member]) => {
                State::Migrating { member, turn: true }
            }
            Some(_) => self.begin(member),
            None => {
                let flips = || members.iter().filter(|member| !member.takes_its_turn());
                match flips().next() {
                    None => State::Baking,
                    Some(_) if flips().any(|member| member.safety.proves) => State::Proving { member: None },
                    Some(_) => State::Shifting { step: 0 },
                }
            }
        }
    }

    fn begin(&self, member: usize) -> State {
        let one = &self.plan.members[member];
        match one.takes_its_turn() && one.fallback().is_some() {
            true => State::Holding { member },
            false => State::Starting { member, batch: 0 },
        }
    }

    /// The migrations that need nothing of this deployment come before anything of it starts.
    fn first_turn(&self) -> State {
        self.early_migration(0).unwrap_or_else(|| self.turn_of(0))
    }

    fn early_migration(&self, from: usize) -> Option<State> {
        let members = &self.plan.members;
        let early = |i: &usize| members[*i].safety.migrate.is_some() && !members[*i].migrates_late(&members[..*i]);
        (from..members.len()).find(early).map(|member| State::Migrating { member, turn: false })
    }

    fn migrations(&self) -> impl Iterator<Item = Action> {
        let members = self.plan.members.iter().filter(|member| member.safety.migrate.is_some());
        members.map(|member| Action::EndMigration { release: member.candidate.clone() })
    }

    /// The step in which candidates get what they end with.
    pub fn last_step(&self) -> usize {
        self.plan.members.iter().map(|member| member.safety.steps.len()).max().unwrap_or(0)
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
