//! What the journal keeps of releases, services and deployments.

use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use teal_model::api::Summary;
use teal_model::deployment::{Deployment, Routing};
use teal_model::ids::{Color, ReleaseKey, ServiceKey};
use teal_model::plan::{AdoptedLive, LiveRelease, Member};
use teal_model::receipt::Receipt;
use teal_model::wire::ListenerKey;

/// What is kept of a release; its settings, which hold secrets, are in the release store.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ReleaseRecord {
    pub release: ReleaseKey,
    pub color: Color,
    pub image: String,
    pub image_id: Option<String>,
    pub repo_digests: Vec<String>,
    pub settings_hash: String,
    pub replicas: u32,
    pub serves: bool,
    /// Two releases never run side by side.
    pub recreate: bool,
    /// It ran once: its containers have ended, and are not missed.
    #[serde(default)]
    pub job: bool,
    pub created_ms: u64,
    /// Its containers, where Teal has not made them: they carry no label of ours, and are found by these ids.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub adopted: Vec<AdoptedReplica>,
    /// The release that it replaced.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<u64>,
    /// The earlier release that it was made from again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub again: Option<u64>,
}

/// A container that somebody else started, and that is a replica of a release.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AdoptedReplica {
    pub id: String,
    pub name: String,
    pub index: u32,
    /// Addresses that Docker published for it when it was adopted.
    pub published: Vec<ListenerKey>,
}

/// Where new connections to a port of Docker's are led while the containers behind it end, and for how long a connection that
/// came this way may go on: until its service is forgotten.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diversion {
    pub listener: ListenerKey,
    pub service: ServiceKey,
    pub stand_in: ListenerKey,
    /// New connections are led there, and it is listened on.
    pub open: bool,
}

#[derive(Debug, Clone, PartialEq)]
pub struct ServiceRecord {
    pub service: ServiceKey,
    pub live: Option<ReleaseRecord>,
    pub since_ms: Option<u64>,
    pub routing: Option<Routing>,
}

/// A row of `deployments`.
#[derive(Debug, Clone)]
pub struct Kept {
    pub deployment: Deployment,
    pub project: String,
    pub who: String,
    pub services: Vec<String>,
    pub started_ms: u64,
    pub ended_ms: Option<u64>,
    pub receipt: Option<Receipt>,
}

impl Kept {
    pub fn summary(&self) -> Summary {
        Summary {
            deployment: self.deployment.number,
            project: self.project.clone(),
            services: self.services.clone(),
            who: self.who.clone(),
            started_ms: self.started_ms,
            ended_ms: self.ended_ms,
            state: self.deployment.state.clone(),
            releases: self
                .deployment
                .plan
                .members
                .iter()
                .map(|member| match &member.live {
                    Some(live) if live.adopted.is_some() => {
                        let name = &member.service.service;
                        format!("{name} {} (adopted) -> {}", live.release.number, member.candidate.number)
                    }
                    Some(live) => {
                        let back = match member.safety.back {
                            Some(_) if member.is_again() => " (again)",
                            Some(_) => " (back)",
                            None => "",
                        };
                        let name = &member.service.service;
                        format!("{name} {} -> {}{back}", live.release.number, member.candidate.number)
                    }
                    None => format!("{} {}", member.service.service, member.candidate.number),
                })
                .chain(
                    self.deployment
                        .plan
                        .unchanged
                        .iter()
                        .filter(|one| one.adopted)
                        .map(|one| format!("{} {} (adopted)", one.service.service, one.release)),
                )
                .collect(),
        }
    }
}

impl ServiceRecord {
    pub fn live_release(&self) -> Option<LiveRelease> {
        let live = self.live.as_ref()?;
        Some(LiveRelease {
            release: live.release.clone(),
            color: live.color,
            image: live.image.clone(),
            image_id: live.image_id.clone().unwrap_or_default(),
            settings_hash: live.settings_hash.clone(),
            serves: live.serves,
            job: live.job,
            doors: Vec::new(),
            adopted: live.is_adopted().then(|| AdoptedLive { published: live.published(), gap: None }),
        })
    }
}

impl ReleaseRecord {
    pub fn of(member: &Member, now_ms: u64) -> Self {
        Self {
            release: member.candidate.clone(),
            color: member.color,
            image: member.image.clone(),
            image_id: member.image_id.clone(),
            repo_digests: member.repo_digests.clone(),
            settings_hash: member.settings_hash.clone(),
            replicas: member.replicas,
            serves: !member.listeners.is_empty() || member.naming.is_holder(),
            recreate: member.is_recreate(),
            job: member.job,
            created_ms: now_ms,
            adopted: Vec::new(),
            before: member.live.as_ref().map(|live| live.release.number),
            again: member.safety.back.map(|back| back.to),
        }
    }

    pub fn is_adopted(&self) -> bool {
        !self.adopted.is_empty()
    }

    /// What Docker publishes for its adopted containers.
    pub fn published(&self) -> Vec<ListenerKey> {
        let all: BTreeSet<&ListenerKey> = self.adopted.iter().flat_map(|replica| &replica.published).collect();
        all.into_iter().cloned().collect()
    }
}
