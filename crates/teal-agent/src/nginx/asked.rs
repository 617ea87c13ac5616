//! What a deployment asks of an nginx before it begins, and while it drains.

use crate::agent::Agent;
use crate::publish::taken;
use std::collections::BTreeSet;
use teal_model::config::Nginx;
use teal_model::fault::{Code, Fault};
use teal_model::ids::{ReleaseKey, ServiceKey};
use teal_model::nginx::Wanted;
use teal_model::plan::Plan;

fn differs(service: &ServiceKey, nginx: &Nginx) -> Fault {
    let what = format!("{service} says otherwise how {} is tested, reloaded or logs", nginx.process.words());
    Fault::new(Code::Config, what).hint("write the same in `x-teal.nginx` of both, and deploy them together")
}

impl Agent {
    /// An nginx that could not be told is said before anything happens. Returns what of its configuration is worth a word.
    pub async fn refuse_nginx(&self, plan: &Plan) -> Result<Vec<String>, Fault> {
        let mut checked = BTreeSet::new();
        let mut others = match plan.members.iter().any(|member| member.nginx.is_some()) {
            true => self.publisher.all_behind().await?,
            false => return Ok(Vec::new()),
        };
        others.retain(|service, _| plan.members.iter().all(|member| member.service != *service));
        for member in &plan.members {
            let Some(nginx) = &member.nginx else { continue };
            let of_one = others.iter().filter(|(_, other)| other.process.place() == nginx.process.place());
            for (service, other) in of_one {
                if other.upstream == nginx.upstream {
                    return Err(taken(service, nginx));
                }
                if other.process != nginx.process {
                    return Err(differs(service, nginx));
                }
            }
            others.insert(member.service.clone(), nginx.clone());
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
