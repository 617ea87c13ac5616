//! How a member of a deployment proves itself, and what becomes of what it replaces.

use super::{Member, Naming, Running};
use crate::config::{CanaryStep, Migrate, NetworkMode, Project, Retain, Rollback, Service};
use crate::ids::ReleaseKey;
use serde::{Deserialize, Serialize};

/// All requests, in hundredths of a percent.
pub const ALL: u32 = 10_000;
/// What the live release keeps through a bake where nobody knows how often it failed before: else there would be nothing to
/// compare with.
const COMPARED: u32 = 500;

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Safety {
    /// Shares of the candidate before it gets all requests.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub steps: Vec<CanaryStep>,
    /// What the live release keeps of the requests until the bake is over.
    #[serde(skip_serializing_if = "is_zero")]
    pub compared: u32,
    pub rollback: Rollback,
    /// What it replaces stays warm for so long; None: it is removed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retain: Option<Retain>,
    /// A release that was kept warm until now, and goes before the candidate starts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retained: Option<ReleaseKey>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub migrate: Option<Migrate>,
    /// Requests that warm it up, or smoke tests, come before those of users.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub proves: bool,
    /// Of these, for people: requests to each replica, and tests.
    #[serde(skip_serializing_if = "is_zero")]
    pub warmup: u32,
    #[serde(skip_serializing_if = "is_zero")]
    pub smoke: u32,
    /// Somebody may ask for the candidate before it has a share.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub preview: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub back: Option<Back>,
}

/// The candidate is no new release.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Back {
    /// The release that it is, or was made from.
    pub to: u64,
    /// It runs still: the candidate is that release itself.
    pub retained: bool,
}

fn is_zero(n: &u32) -> bool {
    *n == 0
}

impl Safety {
    pub(super) fn of(service: &Service, name: &str, live: bool, running: &Running) -> Self {
        let teal = &service.teal;
        let compared = live && teal.bake_ms > 0 && teal.rollback.on.errors && !running.history.contains(name);
        Self {
            steps: if live { teal.canary.clone() } else { Vec::new() },
            compared: if compared { COMPARED } else { 0 },
            rollback: teal.rollback.clone(),
            retain: None,
            retained: running.retained.get(name).map(|warm| warm.release.clone()),
            migrate: teal.migrate.clone(),
            proves: teal.smoke.is_some() || teal.health.warmup.is_some(),
            warmup: teal.health.warmup.as_ref().map_or(0, |warmup| warmup.requests),
            smoke: teal.smoke.as_ref().map_or(0, |smoke| smoke.checks.len() as u32),
            preview: teal.preview.is_some(),
            back: None,
        }
    }

    /// The candidate's share in a step of the group, of those before it gets all.
    pub fn share(&self, step: usize) -> u32 {
        self.steps.get(step).map_or(ALL, |step| step.share)
    }
}

/// Settles what follows from the member as a whole: whether two of its releases run side by side at all.
pub(super) fn settle(project: &Project, running: &Running, members: &mut [Member], warnings: &mut Vec<String>) {
    for member in members {
        let service = &project.services[&member.service.service];
        let beside = !member.takes_its_turn() && member.live.is_some() && member.adopted().is_none();
        if !beside || member.naming != Naming::Holder && member.nginx.is_none() {
            member.safety.steps.clear();
        }
        // Two releases of it never share its requests.
        if !beside || member.listeners.is_empty() && member.nginx.is_none() && !member.naming.is_holder() {
            member.safety.compared = 0;
        }
        if member.live.is_none() || member.job || member.safety.back.is_some() {
            member.bake_ms = 0;
            member.safety.compared = 0;
        }
        let wanted = Some(service.teal.retain).filter(|retain| !retain.is_none() && beside);
        let name = &member.service.service;
        let joined = !member.joins.is_empty()
            || project.services.values().any(|other| other.network_mode == Some(NetworkMode::Service(name.clone())));
        member.safety.retain = wanted.filter(|_| !joined);
        if let (Some(why), Some(_)) = (running.short_of_memory.get(name), member.safety.retain) {
            member.safety.retain = None;
            warnings.push(format!("{name}: release {} is not kept warm for a rollback: {why}", live_number(member)));
        }
        if let Some(migrate) = &member.safety.migrate {
            warnings.push(format!(
                "{name}: `{}` runs once, before its containers; a rollback does not undo it",
                migrate.command.join(" ")
            ));
        }
    }
}

/// The candidate is the release that is warm, or is made from an earlier one; either has been proved.
pub(super) fn go_back(member: &mut Member, back: Back, running: &Running) {
    let warm =
        running.retained.get(&member.service.service).filter(|warm| back.retained && warm.release.number == back.to);
    let safety = &mut member.safety;
    (safety.steps, safety.migrate, safety.proves) = (Vec::new(), None, false);
    safety.back = Some(Back { retained: warm.is_some(), ..back });
    if let Some(warm) = warm {
        safety.retained = None;
        member.candidate = warm.release.clone();
        member.color = warm.color;
        (member.image, member.image_id) = (warm.image.clone(), warm.image_id.clone());
    }
}

fn live_number(member: &Member) -> u64 {
    member.live.as_ref().map_or(0, |live| live.release.number)
}
