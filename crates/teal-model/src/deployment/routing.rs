//! Where the requests of each member go in each state: a total function, so that a table can be built again at any time.

use super::{Deployment, Phase, State};
use crate::ids::{ReleaseKey, ServiceKey};
use crate::plan::Member;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The routing of one service: the journaled half of its entry in the route table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Routing {
    /// Shares; empty: requests wait.
    pub split: Vec<(ReleaseKey, u32)>,
    pub holding: bool,
    /// Releases whose connections and counts the proxy keeps.
    pub listed: Vec<ReleaseKey>,
    pub close_tunnels: Vec<ReleaseKey>,
    /// The release whose ports, routes and timeouts hold.
    pub settings: ReleaseKey,
}

impl Routing {
    pub fn to(release: &ReleaseKey) -> Self {
        Self {
            split: vec![(release.clone(), 100)],
            holding: false,
            listed: vec![release.clone()],
            close_tunnels: Vec::new(),
            settings: release.clone(),
        }
    }

    fn held(settings: &ReleaseKey, listed: Vec<ReleaseKey>) -> Self {
        Self { split: Vec::new(), holding: true, listed, close_tunnels: Vec::new(), settings: settings.clone() }
    }

    /// Also known to the proxy, without a share.
    fn and(mut self, release: Option<&ReleaseKey>) -> Self {
        self.listed.extend(release.cloned());
        self
    }
}

impl Deployment {
    /// Where the requests of every member go while the deployment is in this state. None: the service has no routes at all.
    /// Not asked of a deployment that is stuck: there the routing stays as it was published last.
    pub fn routing(&self) -> BTreeMap<ServiceKey, Option<Routing>> {
        self.plan
            .members
            .iter()
            .enumerate()
            .map(|(i, member)| (member.service.clone(), self.routing_of(i, member)))
            .collect()
    }

    fn routing_of(&self, i: usize, member: &Member) -> Option<Routing> {
        let candidate = &member.candidate;
        let live = member.live.as_ref().map(|live| &live.release);
        let stays = || Some(live.map_or_else(|| Routing::held(candidate, Vec::new()), Routing::to));
        let back = || live.map(Routing::to);
        match &self.state {
            State::Planned | State::Pulling | State::Migrating => stays(),
            State::Retiring | State::Done => Some(Routing::to(candidate)),
            State::Reverted { .. } => back(),
            State::Stuck { .. } => None,
            State::Reverting { from, phase, .. } => {
                let touched = i < from.reached(&self.plan);
                match phase {
                    Phase::Clean => back(),
                    // Nothing was ever published of it.
                    _ if !touched => back(),
                    Phase::Back if member.takes_its_turn() => Some(self.routing_in_turn(from, i, member)),
                    // Requests that it has are finished; new ones wait for the end of the revert.
                    _ if live.is_none() => {
                        let served = !self.routing_in_turn(from, i, member).split.is_empty();
                        served.then(|| Routing::held(candidate, vec![candidate.clone()]))
                    }
                    Phase::Hold { member } | Phase::Swap { member } | Phase::Release { member }
                        if self.plan.members[i].takes_its_turn() =>
                    {
                        let order = self.revert_order();
                        let place = |of: usize| order.iter().position(|i| *i == of);
                        match place(i).cmp(&place(*member)) {
                            // As it was when the revert began.
                            std::cmp::Ordering::Greater => Some(self.routing_in_turn(from, i, &self.plan.members[i])),
                            std::cmp::Ordering::Less => stays(),
                            std::cmp::Ordering::Equal => match phase {
                                Phase::Release { .. } => stays(),
                                Phase::Hold { .. } => Some(Routing::held(
                                    candidate,
                                    live.into_iter().chain([candidate]).cloned().collect(),
                                )),
                                _ => Some(Routing::held(live.unwrap_or(candidate), Vec::new())),
                            },
                        }
                    }
                    _ if member.takes_its_turn() => back(),
                    _ => live.map(|live| Routing::to(live).and(Some(candidate))),
                }
            }
            state if member.takes_its_turn() => Some(self.routing_in_turn(state, i, member)),
            State::Shifting | State::Baking => Some(Routing::to(candidate).and(live)),
            State::Draining { closing } => {
                let mut routing = Routing::to(candidate).and(live);
                if *closing {
                    routing.close_tunnels.extend(live.cloned());
                }
                Some(routing)
            }
            _ => stays(),
        }
    }

    /// Before a revert, and in it until its own turn comes.
    fn routing_in_turn(&self, state: &State, i: usize, member: &Member) -> Routing {
        let candidate = &member.candidate;
        let live = member.live.as_ref().map(|live| &live.release);
        let before = || live.map_or_else(|| Routing::held(candidate, Vec::new()), Routing::to);
        match state {
            State::Holding { member } if *member == i => {
                Routing::held(live.unwrap_or(candidate), live.into_iter().cloned().collect())
            }
            State::Stopping { member, .. }
            | State::Starting { member, .. }
            | State::Warming { member, .. }
            | State::Delaying { member, .. }
                if *member == i =>
            {
                Routing::held(candidate, Vec::new())
            }
            State::Releasing { member } if *member == i => Routing::to(candidate),
            state if i < state.reached(&self.plan) => Routing::to(candidate),
            _ => before(),
        }
    }
}

/// The states in which blue-green candidates have requests.
pub(super) fn had_share(from: &State) -> bool {
    matches!(from, State::Shifting | State::Baking | State::Draining { .. })
}
