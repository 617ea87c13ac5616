//! Where a deployment stands. Each state carries what it needs to go on after a crash.

use crate::fault::Fault;
use crate::plan::{Member, Plan, Span};
use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum State {
    /// Nothing but the listeners.
    Planned,
    /// Images are fetched; the plan is made again with what they say.
    Pulling,
    /// A release's migration runs; `turn`: the members before it serve already, since it may need them.
    Migrating {
        member: usize,
        turn: bool,
    },
    /// Recreate: new requests wait, the live release finishes those it has.
    Holding {
        member: usize,
    },
    /// Recreate: the live release's containers end, and stay on disk.
    Stopping {
        member: usize,
        #[serde(default)]
        batch: u32,
    },
    Starting {
        member: usize,
        #[serde(default)]
        batch: u32,
    },
    Warming {
        member: usize,
        #[serde(default)]
        batch: u32,
    },
    /// A batch is ready; the next one waits for the `delay` between them.
    Delaying {
        member: usize,
        batch: u32,
    },
    /// Warmed up with requests, and tested as its users will use it, before it has any of theirs; None: every blue-green candidate.
    Proving {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        member: Option<usize>,
    },
    /// Recreate: held requests go to the candidate.
    Releasing {
        member: usize,
    },
    /// Blue-green: every candidate of the group gets its share of this step in one table; all requests in the last.
    Shifting {
        step: usize,
    },
    /// A share is held, and watched.
    Stepping {
        step: usize,
    },
    /// A share is held, and watched, while further replicas of the candidates get fit for the share of the next step.
    Growing {
        /// The step whose share holds.
        from: usize,
        /// The one that they are for.
        step: usize,
        part: Growth,
        /// Somebody wants that step, whatever was seen before.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        promoted: bool,
    },
    /// Every candidate has the share that it ends with, and is watched.
    Baking,
    /// The retiring releases finish what they have; `closing`: the drain time is over, tunnels are asked to end.
    Draining {
        closing: bool,
    },
    /// The candidates are live. Old containers go.
    Retiring,
    Done,
    Reverting {
        why: Fault,
        from: Box<State>,
        phase: Phase,
    },
    Reverted {
        why: Fault,
    },
    Stuck {
        step: String,
        error: Fault,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "phase", rename_all = "snake_case")]
pub enum Phase {
    /// Blue-green members: all requests to the live release.
    Back,
    /// A recreate member: hold its requests again, and let the candidate finish.
    Hold { member: usize },
    /// Its candidate ends, its live release starts again.
    Swap { member: usize },
    /// Held requests go to the live release.
    Release { member: usize },
    /// Candidates finish what they have.
    Drain,
    /// Candidates go.
    Clean,
}

/// What further replicas go through, as the first ones did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Growth {
    Starting,
    Warming,
    Proving,
}

impl State {
    pub fn name(&self) -> &'static str {
        match self {
            State::Planned => "planned",
            State::Pulling => "pulling",
            State::Migrating { .. } => "migrating",
            State::Holding { .. } => "holding",
            State::Stopping { .. } => "stopping",
            State::Starting { .. } => "starting",
            State::Warming { .. } => "warming",
            State::Delaying { .. } => "delaying",
            State::Proving { .. } => "proving",
            State::Releasing { .. } => "releasing",
            State::Shifting { .. } => "shifting",
            State::Stepping { .. } => "stepping",
            State::Growing { .. } => "growing",
            State::Baking => "baking",
            State::Draining { .. } => "draining",
            State::Retiring => "retiring",
            State::Done => "done",
            State::Reverting { .. } => "reverting",
            State::Reverted { .. } => "reverted",
            State::Stuck { .. } => "stuck",
        }
    }

    pub fn has_ended(&self) -> bool {
        matches!(self, State::Done | State::Reverted { .. } | State::Stuck { .. })
    }

    /// A deployment in this state may still be taken back.
    pub fn may_revert(&self) -> bool {
        !self.has_ended() && !matches!(self, State::Retiring | State::Reverting { .. })
    }

    /// Requests are shared, and the verdict may change by how much.
    pub fn is_watched(&self) -> bool {
        matches!(self, State::Stepping { .. } | State::Growing { .. } | State::Baking)
    }

    /// The live replicas of a recreate member that had been told to stop by the end of this state; `index`: that of the member.
    pub(super) fn stopped_of_live(&self, index: usize, member: &Member) -> Option<Span> {
        let all_if = |stopped: bool| stopped.then_some(Span::ALL);
        match self {
            State::Planned | State::Pulling | State::Migrating { turn: false, .. } => None,
            State::Holding { member: at } | State::Migrating { member: at, .. } => all_if(*at > index),
            State::Stopping { member: at, batch }
            | State::Starting { member: at, batch }
            | State::Warming { member: at, batch }
            | State::Delaying { member: at, batch }
                if *at == index =>
            {
                Some(Span { last: member.batch(*batch).last, ..Span::ALL })
            }
            state => all_if(state.at().is_none_or(|at| at >= index)),
        }
    }

    /// The member whose turn it is.
    fn at(&self) -> Option<usize> {
        match self {
            State::Migrating { member, turn: true }
            | State::Holding { member }
            | State::Stopping { member, .. }
            | State::Starting { member, .. }
            | State::Warming { member, .. }
            | State::Delaying { member, .. }
            | State::Proving { member: Some(member) }
            | State::Releasing { member } => Some(*member),
            _ => None,
        }
    }

    /// How many candidates of a member have been started before this state, or in it once its actions are done.
    pub(super) fn started(&self, index: usize, member: &Member) -> u32 {
        match self {
            State::Stopping { member: at, batch } | State::Starting { member: at, batch } if *at == index => {
                member.replicas_after(*batch)
            }
            State::Warming { member: at, batch } | State::Delaying { member: at, batch } if *at == index => {
                member.replicas_after(batch + 1)
            }
            State::Planned | State::Pulling | State::Migrating { turn: false, .. } => 0,
            State::Holding { member: at } | State::Migrating { member: at, .. } if *at == index => 0,
            state if state.at().is_none_or(|at| at >= index) => member.replicas_in(state.step_started()),
            _ => 0,
        }
    }

    /// The step whose replicas have been started.
    fn step_started(&self) -> usize {
        match self {
            State::Shifting { step }
            | State::Stepping { step }
            | State::Growing { step, part: Growth::Warming | Growth::Proving, .. } => *step,
            State::Growing { from, part: Growth::Starting, .. } => *from,
            State::Baking | State::Draining { .. } => usize::MAX,
            _ => 0,
        }
    }

    /// How many members, from the first, this state has touched.
    pub fn reached(&self, plan: &Plan) -> usize {
        match self {
            State::Planned | State::Pulling | State::Migrating { turn: false, .. } => 0,
            state => state.at().map_or(plan.members.len(), |member| member + 1),
        }
    }
}
