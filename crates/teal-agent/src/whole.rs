//! Whether a live release is whole: as many replicas run as it has. One that Docker is about to start again runs.

use crate::agent::Agent;
use crate::alerts::Subject;
use crate::journal::ReleaseRecord;
use crate::runtime::Status;
use crate::world::Replica;
use std::collections::BTreeSet;
use teal_model::fault::Fault;
use teal_model::ids::{ReleaseKey, ServiceKey};

/// What an alert of it is about.
pub fn subject(live: &ReleaseKey) -> Subject {
    Subject::Release(live.clone(), "replicas")
}

fn stands(replica: &Replica) -> bool {
    matches!(replica.container.status, Status::Running | Status::Paused | Status::Restarting)
}

impl Agent {
    /// In words, why it is not. None: it is, or nobody can say.
    pub fn not_whole(&self, live: &ReleaseRecord) -> Option<String> {
        let lacks = self.lacks(live)?;
        Some(format!("{} {} {lacks}", live.release.service.service, live.release.number))
    }

    fn lacks(&self, live: &ReleaseRecord) -> Option<String> {
        let world = self.watch.now();
        // A job has run, whether its container is still there or not.
        if live.job || !world.known || world.engine_error.is_some() {
            return None;
        }
        let standing = world.of(&live.release).filter(|replica| stands(replica)).count();
        let wanted = live.replicas;
        (standing < wanted as usize).then(|| format!("is not whole: {standing} of {wanted} replicas run"))
    }

    /// Says so until it is whole again.
    pub fn tell_whether_whole(&self, live: &ReleaseRecord) {
        let Some(lacks) = self.lacks(live) else { return self.clear_alert(subject(&live.release)) };
        let name = &live.release.service.service;
        let otherwise = match (live.is_adopted(), live.before) {
            (true, _) => "; Teal has not made its containers and starts none of them again".to_owned(),
            (false, Some(before)) => format!(", `teal rollback {name}` goes back to release {before}"),
            (false, None) => String::new(),
        };
        let words = format!("{} {lacks}. `teal deploy --force {name}` deploys it again{otherwise}", live.release);
        self.alert_once(subject(&live.release), words);
    }

    /// Services whose containers a deployment is changing: what of them does not run it may have stopped itself.
    pub fn changing(&self) -> Result<BTreeSet<ServiceKey>, Fault> {
        let mut changing = BTreeSet::new();
        for kept in self.journal.unfinished()? {
            let plan = &kept.deployment.plan;
            let reached = kept.deployment.state.reached(plan);
            changing.extend(plan.members.iter().take(reached).map(|member| member.service.clone()));
        }
        Ok(changing)
    }
}
