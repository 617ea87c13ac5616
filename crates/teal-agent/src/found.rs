//! The table that a proxy was found serving by, when the journal does not know of it yet: it outranks the journal.

use std::collections::BTreeMap;
use teal_model::deployment::{Action, Deployment, Event, Routing, State};
use teal_model::fault::{Code, Fault};
use teal_model::ids::{ReleaseKey, ServiceKey};
use teal_model::plan::{ALL, Member};
use teal_model::wire::RouteTable;

/// What has happened to a deployment according to this table, and the journal could not say.
pub fn unsaid(deployment: &Deployment, recorded: &BTreeMap<ServiceKey, Routing>, table: &RouteTable) -> Option<Event> {
    taken_back(deployment, recorded, table).or_else(|| turned_down(deployment, table))
}

/// What this state publishes is in force already: a share that was given is not taken away for a moment, and one that was taken
/// away is not given.
pub fn is_in_force(deployment: &Deployment, table: &RouteTable) -> bool {
    let mut flips = deployment.plan.members.iter().filter(|member| !member.takes_its_turn());
    match &deployment.state {
        State::Reverting { .. } => flips.all(|member| is_lives(member, table)),
        State::Shifting { .. } => flips.all(|member| share(table, &member.candidate) == deployment.share(member)),
        _ => false,
    }
}

/// What a release gets of its service's requests, in hundredths of a percent.
fn share(table: &RouteTable, release: &ReleaseKey) -> u32 {
    let Some(entry) = table.services.get(&release.service) else { return 0 };
    let all: u32 = entry.split.iter().map(|share| share.weight).sum();
    let weight = entry.split.iter().find(|share| &share.release == release).map_or(0, |share| share.weight);
    (weight * ALL).checked_div(all).unwrap_or(0)
}

/// Its candidate has no share, and its live release has, if there is one.
fn is_lives(member: &Member, table: &RouteTable) -> bool {
    share(table, &member.candidate) == 0 && member.live.as_ref().is_none_or(|live| share(table, &live.release) > 0)
}

/// Against what was published last by the journal.
fn taken_back(deployment: &Deployment, recorded: &BTreeMap<ServiceKey, Routing>, table: &RouteTable) -> Option<Event> {
    if !deployment.state.may_revert() {
        return None;
    }
    let (mut some, mut all) = (false, true);
    for member in &deployment.plan.members {
        let Some(recorded) = recorded.get(&member.service) else { continue };
        let is_back = is_lives(member, table);
        let meant = recorded.split.iter().any(|(release, _)| release == &member.candidate);
        some |= is_back && (meant || recorded.holding && member.live.is_some());
        all &= is_back;
    }
    let fault = Fault::new(Code::Journal, "it was taken back before the agent ended, and the journal could not say so");
    match (some, all) {
        (true, true) => Some(Event::TakenBack { fault }),
        (true, false) => Some(Event::Failed { action: None, fault }),
        (false, _) => None,
    }
}

/// By the verdict.
fn turned_down(deployment: &Deployment, table: &RouteTable) -> Option<Event> {
    let flips = deployment.plan.members.iter().filter(|member| !member.takes_its_turn());
    let lower = flips.filter_map(|member| {
        let served = share(table, &member.candidate);
        (served > 0 && served < deployment.share(member)).then_some(served)
    });
    let share = lower.min().filter(|_| deployment.state.is_watched())?;
    Some(Event::Did { action: Action::Cap { share: Some(share) }, published: None })
}
