//! What a deployment would do now: what the file says, what runs, and what the images say, put before the one that decides.

use crate::agent::{Agent, fault_of};
use crate::clock::unix_ms;
use crate::commands;
use crate::publish::asked_routes;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use teal_model::api::DeployRequest;
use teal_model::config::{Project, PullPolicy, Service};
use teal_model::fault::{Code, Fault};
use teal_model::ids::ServiceKey;
use teal_model::plan::{ImageFacts, Plan, Running, Unchanged, Warm, listeners, plan};
use teal_model::wire::Route;

impl Agent {
    /// What a deployment would do now.
    pub async fn plan(&self, request: &DeployRequest) -> Result<Plan, Fault> {
        let mut images = BTreeMap::new();
        for service in request.project.services.values() {
            let reference = request.choice.reference(service);
            if let Some(mut facts) = self.facts(reference).await? {
                facts.may_change = !request.choice.pinned.contains_key(&service.name)
                    && is_pulled(service.pull_policy, reference, !facts.repo_digests.is_empty());
                images.insert(reference.to_owned(), facts);
            }
        }
        self.plan_with(request, &images).await
    }

    /// The same for people who only look: what would be refused is a warning.
    pub async fn preview(&self, request: &DeployRequest) -> Result<Plan, Fault> {
        let mut plan = self.plan(request).await?;
        let keys: Vec<ServiceKey> = plan.services().cloned().collect();
        let refused = [
            self.journal.refuse_busy(&keys, unix_ms()).map_err(Fault::from),
            self.refuse_taken_routes(&plan, request, None).await,
            self.refuse_taken_ports(&plan).await,
            self.refuse_nginx(&plan).await.map(|remarks| plan.warnings.extend(remarks)),
            self.refuse_just_reverted(&plan, &request.choice),
            self.refuse_closing_canary(&plan, &request.project),
        ];
        let refused = refused.into_iter().filter_map(Result::err);
        plan.warnings.extend(refused.map(|fault| format!("as it stands this is refused: {fault}")));
        for member in &plan.members {
            let name = &member.service.service;
            let live = member.live.as_ref().and_then(|live| self.store.release(&live.release).ok());
            let before = live.iter().flat_map(|live| listeners(&live.service));
            let closed = before.filter(|listener| !member.listeners.contains(listener));
            plan.warnings
                .extend(closed.map(|one| format!("{one} will be closed: {name} does not publish it any more")));
        }
        Ok(plan)
    }

    /// With a candidate's first share its ports and routes take the place of those before, for all users.
    pub fn refuse_closing_canary(&self, plan: &Plan, project: &Project) -> Result<(), Fault> {
        for member in plan.members.iter().filter(|member| member.safety.steps.iter().any(|step| step.share > 0)) {
            let (service, name) = (&member.service, &member.service.service);
            let live = member.live.as_ref().map(|live| self.store.release(&live.release)).transpose()?;
            let before = live.iter().flat_map(|live| asked_routes(service, &live.service));
            let now = asked_routes(service, &project.services[name]);
            let covers = |one: &Route, before: &Route| {
                one.listener == before.listener
                    && (one.host.is_none() || one.host == before.host)
                    && before.path.starts_with(&one.path)
            };
            let Some(lost) = before.into_iter().find(|before| !now.iter().any(|one| covers(one, before))) else {
                continue;
            };
            let host = lost.host.map(|host| format!(" for {host}")).unwrap_or_default();
            let what = format!(
                "{name} is not at {}{host}{} any more, and its canary would end that for all users with the first share",
                lost.listener, lost.path
            );
            let hint = "keep the old port or route beside the new one in this deployment, and take it out in the next; \
                        or deploy without `canary`";
            return Err(Fault::new(Code::Config, what).hint(hint));
        }
        Ok(())
    }

    pub async fn plan_with(
        &self,
        request: &DeployRequest,
        images: &BTreeMap<String, ImageFacts>,
    ) -> Result<Plan, Fault> {
        let project = &request.project;
        let doors = self.publisher.all_doors().await;
        let engine = self.runtime.engine().await.map_err(fault_of)?;
        // An agent of root's beside the Engine may go everywhere; any other has to try.
        let closed = match engine.unreachable.is_none() && rustix::process::geteuid().is_root() {
            true => None,
            false => self.runtime.closed().await.map_err(fault_of)?,
        };
        let next = self.journal.next_releases(&project.name)?;
        let mut running = Running { next, unreachable: engine.unreachable, closed, ..Running::default() };
        for warm in self.journal.retained()?.into_iter().filter(|warm| warm.release.service.project == project.name) {
            let record = self.journal.release(&warm.release)?;
            let warm = record.map(|record| Warm {
                release: warm.release,
                color: record.color,
                image: record.image,
                image_id: record.image_id,
            });
            running.retained.extend(warm.map(|warm| (warm.release.service.service.clone(), warm)));
        }
        let known = self
            .histories
            .now()
            .into_iter()
            .filter(|(key, history)| key.project == project.name && history.rate().is_some());
        running.history = known.map(|(key, _)| key.service).collect();
        // Containers may have ended since it was looked last; going back needs no such look, and shall be quick.
        if request.choice.back.is_empty() {
            self.watch.refresh().await;
        }
        let changing = self.changing()?;
        for record in self.journal.services()?.into_iter().filter(|record| record.service.project == project.name) {
            let settled = record.live.as_ref().filter(|_| !changing.contains(&record.service));
            let not_whole = settled.and_then(|live| self.not_whole(live));
            running.not_whole.extend(not_whole.map(|why| (record.service.service.clone(), why)));
            if let Some(mut live) = record.live_release() {
                live.doors = doors.get(&live.release).cloned().unwrap_or_default();
                let short = self.short_of_memory(&live.release);
                running.short_of_memory.extend(short.map(|why| (record.service.service.clone(), why)));
                if let Some(adopted) = &mut live.adopted {
                    let published = adopted.published.iter().cloned().collect();
                    adopted.gap = self.traffic.cannot_divert(&published).await;
                }
                running.live.insert(record.service.service, live);
            }
        }
        let names = running.live.iter().filter(|(name, _)| !project.services.contains_key(*name));
        let (waiting, orphans): (Vec<_>, Vec<_>) = names.partition(|(name, _)| project.disabled.contains_key(*name));
        let mut plan =
            plan(project, &request.choice, &running, images, &|service| self.hash(service)).map_err(|error| {
                Fault::new(Code::NotFound, error.to_string()).hint("see the services of the compose file")
            })?;
        let profiles = |name: &String| project.disabled[name].join(" or ");
        plan.warnings.extend(waiting.into_iter().map(|(name, _)| {
            format!("{name} runs, and waits for the profile {} in the file: it goes on as it is", profiles(name))
        }));
        plan.warnings.extend(self.look_at_take(request).await?);
        plan.warnings.extend(commands::warnings(project, &plan));
        match request.choice.remove_orphans {
            _ if !request.choice.back.is_empty() => {}
            true => plan.orphans.extend(
                orphans.iter().map(|(_, live)| Unchanged {
                    service: live.release.service.clone(),
                    release: live.release.number,
                    adopted: false,
                }),
            ),
            false => plan.warnings.extend(orphans.iter().map(|(name, _)| {
                format!("{name} runs and is not in the file: it goes on as it is. `teal deploy --remove-orphans` or `teal remove {name}` ends it")
            })),
        }
        Ok(plan)
    }

    pub async fn facts(&self, reference: &str) -> Result<Option<ImageFacts>, Fault> {
        let image = self.runtime.image(reference).await.map_err(fault_of)?;
        Ok(image.map(|image| ImageFacts {
            id: image.id,
            repo_digests: image.repo_digests,
            volumes: image.volumes,
            exposed: image.exposed,
            has_healthcheck: image.has_healthcheck,
            may_change: false,
        }))
    }

    /// Tells whether two releases have the same settings, without telling what they are.
    pub fn hash(&self, service: &Service) -> String {
        let mut hasher = Sha256::new();
        hasher.update(self.salt.as_bytes());
        // A Service is plain data: maps with string keys, numbers and text.
        hasher.update(serde_json::to_vec(&service.as_released()).unwrap_or_default());
        hasher.finalize().iter().take(16).map(|byte| format!("{byte:02x}")).collect()
    }
}

/// Does a deployment pull an image that is here already? A tag is pulled unless it was built here or the policy says otherwise.
pub fn is_pulled(policy: PullPolicy, reference: &str, came_from_registry: bool) -> bool {
    let pinned = reference.contains("@sha256:") || reference.starts_with("sha256:");
    match policy {
        PullPolicy::Never | PullPolicy::Missing => false,
        PullPolicy::Always => true,
        PullPolicy::Default => came_from_registry && !pinned,
    }
}
