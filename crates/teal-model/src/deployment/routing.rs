//! Where the requests of each member go in each state: a total function, so that a table can be built again at any time.

use super::{Deployment, Phase, State};
use crate::ids::{ReleaseKey, ServiceKey};
use crate::plan::{ALL, Member};
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
    /// The release that previews lead to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preview: Option<ReleaseKey>,
    /// Of this release only so many replicas, the first, may have requests: those after them are not fit for them yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grows: Option<(ReleaseKey, u32)>,
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
            preview: None,
            grows: None,
            settings: release.clone(),
        }
    }

    /// Every release that the proxy may be asked for by it.
    pub fn names(self) -> impl Iterator<Item = ReleaseKey> {
        self.listed.into_iter().chain([self.settings])
    }

    /// A share for the candidate, in hundredths of a percent; its settings hold from its first share on.
    fn shared(candidate: &ReleaseKey, share: u32, live: &ReleaseKey) -> Self {
        if share >= ALL {
            return Self::to(candidate).and(Some(live));
        }
        let split = [(candidate, share), (live, ALL - share)];
        let split = split.into_iter().filter(|(_, share)| *share > 0).map(|(release, share)| (release.clone(), share));
        Self {
            split: split.collect(),
            listed: vec![candidate.clone(), live.clone()],
            ..Self::to(if share > 0 { candidate } else { live })
        }
    }

    fn held(settings: &ReleaseKey, listed: Vec<ReleaseKey>) -> Self {
        Self {
            split: Vec::new(),
            holding: true,
            listed,
            close_tunnels: Vec::new(),
            preview: None,
            grows: None,
            settings: settings.clone(),
        }
    }

    /// Also known to the proxy, without a share.
    fn and(mut self, release: Option<&ReleaseKey>) -> Self {
        self.listed.extend(release.filter(|release| !self.listed.contains(release)).cloned());
        self
    }

    /// Whether requests may go to this replica, when the release has any.
    pub fn takes(&self, release: &ReleaseKey, replica: u32) -> bool {
        self.grows.as_ref().is_none_or(|(grows, fit)| grows != release || replica <= *fit)
    }

    fn previewed(mut self, release: Option<&ReleaseKey>) -> Self {
        self.preview = release.cloned();
        self.and(release)
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
        let back = || live.map(|live| Routing::to(live).and(member.warm()));
        let stays = || Some(back().unwrap_or_else(|| Routing::held(candidate, Vec::new())));
        match &self.state {
            State::Planned | State::Pulling | State::Migrating { turn: false, .. } => stays(),
            State::Retiring | State::Done => Some(Routing::to(candidate).and(live.filter(|_| member.retains()))),
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
                    _ => back().map(|routing| routing.and(Some(candidate))),
                }
            }
            state if member.takes_its_turn() => Some(self.routing_in_turn(state, i, member)),
            State::Proving { member: None } => {
                Some(stays()?.previewed(Some(candidate).filter(|_| member.safety.proves || member.safety.preview)))
            }
            State::Shifting { .. } | State::Stepping { .. } | State::Growing { .. } | State::Baking => {
                Some(match live {
                    Some(live) => Routing {
                        grows: Some((candidate.clone(), self.fit(member))).filter(|(_, fit)| *fit < member.replicas),
                        ..Routing::shared(candidate, self.share(member), live)
                            .previewed(Some(candidate).filter(|_| member.safety.preview))
                    },
                    None => Routing::to(candidate),
                })
            }
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

    /// What a blue-green candidate gets of the requests now, in hundredths of a percent.
    pub fn share(&self, member: &Member) -> u32 {
        let meant = self.step().map_or(ALL, |step| member.safety.share(step));
        meant.min(ALL - member.safety.compared).min(self.cap.unwrap_or(ALL))
    }

    /// How many of a blue-green candidate's replicas are fit for requests.
    pub fn fit(&self, member: &Member) -> u32 {
        self.step().map_or(member.replicas, |step| member.replicas_in(step))
    }

    /// The step whose share holds; None: every candidate has what it ends with, or nothing.
    fn step(&self) -> Option<usize> {
        match &self.state {
            State::Shifting { step } | State::Stepping { step } | State::Growing { from: step, .. } => Some(*step),
            _ => None,
        }
    }

    /// Before a revert, and in it until its own turn comes.
    fn routing_in_turn(&self, state: &State, i: usize, member: &Member) -> Routing {
        let candidate = &member.candidate;
        let live = member.live.as_ref().map(|live| &live.release);
        let before = || match live {
            Some(live) => Routing::to(live).and(member.warm()),
            None => Routing::held(candidate, Vec::new()),
        };
        match state {
            State::Holding { member } if *member == i => {
                Routing::held(live.unwrap_or(candidate), live.into_iter().cloned().collect())
            }
            State::Migrating { member, .. } if *member == i => before(),
            State::Proving { member: Some(member) } if *member == i => {
                Routing::held(candidate, Vec::new()).previewed(Some(candidate))
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
    matches!(from, State::Shifting { .. } | State::Draining { .. }) || from.is_watched()
}
