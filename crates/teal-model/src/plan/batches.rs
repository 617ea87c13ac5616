//! Batches: the replicas of a service that nobody calls change a few at a time, as its `update_config` says.

use super::{ImageFacts, Member, Plan, called_port};
use crate::config::{MountKind, Project, Service};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::num::NonZeroU32;

/// How many replicas change at a time, and how long none changes between two batches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Batches {
    pub size: NonZeroU32,
    pub delay_ms: u64,
}

/// Replicas of a release by their index, both ends included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Span {
    pub first: u32,
    pub last: u32,
}

impl Span {
    pub const ALL: Span = Span { first: 1, last: u32::MAX };

    pub fn is_all(&self) -> bool {
        *self == Self::ALL
    }

    pub fn contains(&self, index: u32) -> bool {
        (self.first..=self.last).contains(&index)
    }

    /// `, replicas 3 to 4`; nothing when it is all of them.
    pub fn words(&self) -> String {
        match (self.first, self.last) {
            _ if self.is_all() => String::new(),
            (first, u32::MAX) => format!(", from replica {first} on"),
            (first, last) if first == last => format!(", replica {first}"),
            (first, last) => format!(", replicas {first} to {last}"),
        }
    }
}

impl Default for Span {
    fn default() -> Self {
        Self::ALL
    }
}

impl Member {
    pub fn batch_count(&self) -> u32 {
        self.batches.map_or(1, |batches| self.replicas.div_ceil(batches.size.get()))
    }

    /// How many candidates run in a step of the group; in those after its own all do.
    pub fn replicas_in(&self, step: usize) -> u32 {
        let named = self.safety.steps.get(step).and_then(|step| step.replicas);
        named.map_or(self.replicas, |named| named.min(self.replicas))
    }

    /// How many candidates there are after so many batches. Further ones come with the steps of a canary.
    pub fn replicas_after(&self, count: u32) -> u32 {
        match self.batches {
            Some(batches) => batches.size.get().saturating_mul(count).min(self.replicas),
            None if count == 0 => 0,
            None => self.replicas_in(0),
        }
    }

    /// The replicas of one batch, of the live release and of the candidate. With the last go those that the live release has
    /// beyond.
    pub fn batch(&self, batch: u32) -> Span {
        let is_last = batch + 1 >= self.batch_count() && self.replicas_in(0) == self.replicas;
        Span {
            first: self.replicas_after(batch) + 1,
            last: if is_last { u32::MAX } else { self.replicas_after(batch + 1) },
        }
    }
}

/// Gives members the batches that their `update_config` asks for, or says why they change all at once.
pub(super) fn divide(project: &Project, images: &BTreeMap<String, ImageFacts>, plan: &mut Plan) {
    for at in 0..plan.members.len() {
        let member = &plan.members[at];
        let service = &project.services[&member.service.service];
        let update = &service.update;
        let size = update.parallelism.and_then(NonZeroU32::new);
        if member.job || size.is_none() && update.delay_ms.is_none() {
            continue;
        }
        let name = &member.service.service;
        match (at_once(service, images.get(member.reference()), member, &plan.members), size) {
            (Some(why), _) => plan.warnings.push(format!(
                "the replicas of {name} change all at once, since {why}: `parallelism` and `delay` of its update_config have no effect"
            )),
            (None, Some(size)) if size.get() < member.replicas && member.fallback().is_some() => {
                plan.members[at].batches = Some(Batches { size, delay_ms: update.delay_ms.unwrap_or(0) });
            }
            (None, None) if member.replicas > 1 => plan.warnings.push(format!(
                "the replicas of {name} change all at once, since `parallelism` of its update_config gives no number: its `delay` has no effect"
            )),
            // One batch, or a first release: there is nothing to change little by little.
            _ => {}
        }
    }
}

/// Why a service does not change in batches.
fn at_once(service: &Service, image: Option<&ImageFacts>, member: &Member, members: &[Member]) -> Option<String> {
    let door = member.live.iter().flat_map(|live| &live.doors).next();
    if let Some(port) = called_port(service, image, member.live.as_ref()).or(door.map(|door| door.port)) {
        return Some(format!("calls on port {port} move in one flip"));
    }
    // Direct and UDP: Docker publishes it, or others call its containers by its name.
    if !service.ports.is_empty() || !member.naming.is_holder() && service.network_mode.is_none() {
        return Some("its requests move in one flip".to_owned());
    }
    if member.safety.steps.iter().any(|step| step.replicas.is_some()) {
        return Some("the steps of its canary name its `replicas`".to_owned());
    }
    let name = &member.service.service;
    let beside = members.iter().find(|other| other.joins.contains(name)).map(|other| &other.service.service);
    if let Some(other) = beside.or(member.joins.first()) {
        return Some(format!("it shares a namespace with {other}"));
    }
    let shared = service.container.mounts.iter().find(|mount| {
        let own = mount.kind == MountKind::Tmpfs || mount.kind == MountKind::Volume && mount.source.is_none();
        !mount.read_only && !own
    });
    match shared {
        Some(mount) if member.is_recreate() => {
            Some(format!("two releases would write to the volume at {} side by side", mount.target))
        }
        _ => None,
    }
}
