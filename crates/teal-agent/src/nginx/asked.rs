//! What a deployment asks of an nginx before it begins, and while it drains.

use crate::agent::Agent;
use crate::publish::taken;
use std::collections::{BTreeMap, BTreeSet};
use teal_model::config::{Nginx, NginxProcess};
use teal_model::fault::{Code, Fault};
use teal_model::ids::{ReleaseKey, ServiceKey};
use teal_model::nginx::Wanted;
use teal_model::plan::{Member, Plan};

impl Agent {
    /// An nginx that could not be told is said before anything happens. Returns what of its configuration is worth a word.
    pub async fn refuse_nginx(&self, plan: &Plan) -> Result<Vec<String>, Fault> {
        let mut others = self.publisher.all_behind().await;
        self.refuse_what_stays(plan, &others).await?;
        others.retain(|service, _| plan.members.iter().all(|member| member.service != *service));
        let mut remarks = Vec::new();
        let mut ours: BTreeMap<&ServiceKey, &Nginx> = BTreeMap::new();
        let mut checked: BTreeSet<&NginxProcess> = BTreeSet::new();
        for member in &plan.members {
            let Some(nginx) = &member.nginx else { continue };
            let place = nginx.process.place();
            let same = |other: &&Nginx| other.process.place() == place;
            let with_us = ours.iter().map(|(service, nginx)| (*service, *nginx));
            for (service, other) in others.iter().chain(with_us).filter(|(_, other)| same(other)) {
                if other.upstream == nginx.upstream {
                    return Err(taken(service, nginx));
                }
                if other.process != nginx.process {
                    let said = differs(service, nginx);
                    if ours.contains_key(service) {
                        return Err(said);
                    }
                    remarks.push(format!("{said}; from now on it is what {} says", member.service.service));
                }
            }
            ours.insert(&member.service, nginx);
            if checked.insert(&nginx.process) {
                self.nginx.check(&nginx.process).await?;
            }
        }
        for process in checked {
            remarks.extend(self.remarks_on(process, &plan.members).await);
        }
        Ok(remarks)
    }

    /// Where nginx still leads to what a service leaves, it would answer 502 from the flip on.
    async fn refuse_what_stays(&self, plan: &Plan, now: &BTreeMap<ServiceKey, Nginx>) -> Result<(), Fault> {
        for member in &plan.members {
            let Some(before) = now.get(&member.service) else { continue };
            let same =
                |after: &Nginx| (after.process.place(), &after.upstream) == (before.process.place(), &before.upstream);
            if member.nginx.as_ref().is_some_and(same) || !self.nginx.names(&before.process, &before.upstream).await {
                continue;
            }
            let what = format!(
                "{} leaves the upstream {} of {}, which still leads there",
                member.service.service,
                before.upstream,
                before.process.words()
            );
            let hint = "deploy it as a second service first, point `proxy_pass` there and reload; then remove this one";
            return Err(Fault::new(Code::NginxRefused, what).hint(hint));
        }
        Ok(())
    }

    async fn remarks_on(&self, process: &NginxProcess, members: &[Member]) -> Vec<String> {
        let of_it = members
            .iter()
            .filter_map(|member| Some((member, member.nginx.as_ref().filter(|nginx| nginx.process == *process)?)));
        let wanted: Vec<Wanted<'_>> = of_it
            .map(|(member, nginx)| Wanted {
                upstream: &nginx.upstream,
                log: &process.log,
                drain_ms: member.drain_ms,
                keepalive: nginx.keepalive > 0,
            })
            .collect();
        let mut remarks: Vec<String> = Vec::new();
        for remark in self.nginx.lint(process, &wanted).await.into_iter().flatten().flat_map(|lint| lint.remarks) {
            if !remarks.contains(&remark) {
                remarks.push(remark);
            }
        }
        remarks
    }

    /// What may still come to a release from an nginx; 0 where it is behind none, None where nobody can say.
    pub async fn in_flight_of_nginx(&self, release: &ReleaseKey) -> Option<u64> {
        match self.publisher.behind(release).await {
            Ok(None) => Some(0),
            Ok(Some((process, addrs))) => self.nginx.in_flight(&process, &addrs).await,
            Err(_) => None,
        }
    }
}

fn differs(service: &ServiceKey, nginx: &Nginx) -> Fault {
    let what = format!("{service} says otherwise how {} is tested, reloaded or logs", nginx.process.words());
    Fault::new(Code::Config, what).hint("write the same in `x-teal.nginx` of both")
}
