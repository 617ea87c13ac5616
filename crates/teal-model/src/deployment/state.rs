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
    Migrating,
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
    /// Recreate: held requests go to the candidate.
    Releasing {
        member: usize,
    },
    /// Blue-green: every candidate of the group gets its share in one table.
    Shifting,
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

impl State {
    pub fn name(&self) -> &'static str {
        match self {
            State::Planned => "planned",
            State::Pulling => "pulling",
            State::Migrating => "migrating",
            State::Holding { .. } => "holding",
            State::Stopping { .. } => "stopping",
            State::Starting { .. } => "starting",
            State::Warming { .. } => "warming",
            State::Delaying { .. } => "delaying",
            State::Releasing { .. } => "releasing",
            State::Shifting => "shifting",
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

    /// The live replicas of a recreate member that had been told to stop by the end of this state; `index`: that of the member.
    pub(super) fn stopped_of_live(&self, index: usize, member: &Member) -> Option<Span> {
        let all_if = |stopped: bool| stopped.then_some(Span::ALL);
        match self {
            State::Planned | State::Pulling | State::Migrating => None,
            State::Holding { member: at } => all_if(*at > index),
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
            State::Holding { member }
            | State::Stopping { member, .. }
            | State::Starting { member, .. }
            | State::Warming { member, .. }
            | State::Delaying { member, .. }
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
            State::Planned | State::Pulling | State::Migrating => 0,
            State::Holding { member: at } if *at == index => 0,
            state if state.at().is_none_or(|at| at >= index) => member.replicas,
            _ => 0,
        }
    }

    /// How many members, from the first, this state has touched.
    pub fn reached(&self, plan: &Plan) -> usize {
        match self {
            State::Planned | State::Pulling | State::Migrating => 0,
            state => state.at().map_or(plan.members.len(), |member| member + 1),
        }
    }
}
