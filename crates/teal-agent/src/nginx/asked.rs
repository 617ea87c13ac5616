//! What a deployment asks of an nginx before it begins, and while it drains.

use crate::agent::Agent;
use std::collections::BTreeSet;
use teal_model::fault::Fault;
use teal_model::ids::ReleaseKey;
use teal_model::nginx::Wanted;
use teal_model::plan::Plan;

impl Agent {
    /// An nginx that could not be told is said before anything happens. Returns what of its configuration is worth a word.
    pub async fn refuse_nginx(&self, plan: &Plan) -> Result<Vec<String>, Fault> {
        let mut checked = BTreeSet::new();
        for member in &plan.members {
            let Some(nginx) = &member.nginx else { continue };
            self.publisher.refuse_taken_upstream(&member.service, nginx).await?;
            if checked.insert(&nginx.process) {
                self.nginx.check(&nginx.process).await?;
            }
        }
        let mut remarks = Vec::new();
        for process in checked {
            let members = plan.members.iter();
            let wanted: Vec<Wanted<'_>> = members
                .filter_map(|member| Some((member, member.nginx.as_ref().filter(|nginx| nginx.process == *process)?)))
                .map(|(member, nginx)| Wanted {
                    upstream: &nginx.upstream,
                    log: &process.log,
                    drain_ms: member.drain_ms,
                    keepalive: nginx.keepalive > 0,
                })
                .collect();
            for lint in self.nginx.lint(process, &wanted).await.unwrap_or_default() {
                for remark in lint.remarks {
                    if !remarks.contains(&remark) {
                        remarks.push(remark);
                    }
                }
            }
        }
        Ok(remarks)
    }

    /// Connections that an nginx holds to a release; 0 where it is behind none, None where nobody can say.
    pub async fn connections_of_nginx(&self, release: &ReleaseKey) -> Option<u64> {
        match self.publisher.behind(release).await {
            Ok(None) => Some(0),
            Ok(Some((process, addrs))) => self.nginx.connections(&process, &addrs).await,
            Err(_) => None,
        }
    }
}
