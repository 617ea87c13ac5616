//! Further replicas of a canary's candidate: which a step needs, and what comes before its share.
//!
//! ```text
//! Stepping 0 ─▶ Growing: Starting ▶ Warming ▶ Proving ─▶ Shifting 1     the share of step 0 holds until there
//! ```

use super::{Deployment, Growth, State};
use crate::plan::{Member, Span};

impl Deployment {
    /// What comes after the share of one step on the way to that of another.
    pub(super) fn toward(&self, from: usize, step: usize, promoted: bool) -> State {
        match self.growing(from, step).is_empty() {
            true => State::Shifting { step },
            false => State::Growing { from, step, part: Growth::Starting, promoted },
        }
    }

    /// Somebody wants this step while replicas for it, or for one before it, get fit: what was begun goes on, unless more are
    /// needed.
    pub(super) fn grow_on(&self, (from, step, part): (usize, usize, Growth), wanted: usize) -> State {
        match self.growing(step, wanted).is_empty() {
            true => State::Growing { from, step: wanted, part, promoted: true },
            false => self.toward(from, wanted, true),
        }
    }

    /// What follows a part of the growth that is done.
    pub(super) fn grown(&self, (from, step, part): (usize, usize, Growth), promoted: bool) -> State {
        let grow = |part| State::Growing { from, step, part, promoted };
        let proves = || self.growing(from, step).iter().any(|(member, _)| member.safety.proves);
        match part {
            Growth::Starting => grow(Growth::Warming),
            Growth::Warming if proves() => grow(Growth::Proving),
            Growth::Warming | Growth::Proving => State::Shifting { step },
        }
    }

    /// The further replicas that candidates need for the share of a step.
    pub(super) fn growing(&self, from: usize, step: usize) -> Vec<(&Member, Span)> {
        let further = |member: &Member| Span { first: member.replicas_in(from) + 1, last: member.replicas_in(step) };
        let members = self.plan.members.iter().map(|member| (member, further(member)));
        members.filter(|(_, further)| further.first <= further.last).collect()
    }

    /// Who is warmed up and tested in this state, and which of its replicas.
    pub fn proved(&self) -> Vec<(&Member, Span)> {
        let all_if = |is: &dyn Fn(usize, &Member) -> bool| {
            let members = self.plan.members.iter().enumerate().filter(|(i, member)| is(*i, member));
            members.map(|(_, member)| (member, Span::ALL)).collect()
        };
        let mut proved: Vec<(&Member, Span)> = match &self.state {
            State::Proving { member: Some(at) } => all_if(&|i, _| i == *at),
            State::Proving { member: None } => all_if(&|_, member| !member.takes_its_turn()),
            State::Growing { from, step, part: Growth::Proving, .. } => self.growing(*from, *step),
            _ => Vec::new(),
        };
        proved.retain(|(member, _)| member.safety.proves);
        proved
    }
}
