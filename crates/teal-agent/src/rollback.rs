//! Going back: to a release that is warm by a flip alone, to an older one by a deployment of what was kept of it.

use crate::agent::Agent;
use crate::alerts::Subject;
use crate::journal::{Kept, ReleaseRecord, TakenBack};
use crate::lineage::Lineage;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use teal_model::api::{Accepted, DeployRequest, RollbackRequest, RolledBack};
use teal_model::config::Project;
use teal_model::deployment::{Promote, State};
use teal_model::fault::{Code, Fault};
use teal_model::ids::{ReleaseKey, ServiceKey};
use teal_model::plan::{Back, Choice, Member, Plan, follows};
use tokio::time::{Instant, sleep};

/// A deployment that cannot be taken back any more is about to end.
const ENDS_WITHIN: Duration = Duration::from_secs(30);

impl Agent {
    pub async fn rollback(self: &Arc<Self>, request: RollbackRequest) -> Result<RolledBack, Fault> {
        if let Some(answer) = self.take_back_what_runs(&request).await? {
            return Ok(answer);
        }
        let names = self.names(&request)?;
        if let Some(answer) = self.live_already(&request, &names)? {
            return Ok(answer);
        }
        let targets = self.targets(&request, names)?;
        let followers = self.followers(&targets)?;
        let mut asked = self.request_for(&request, &targets).await?;
        let at_once = asked.choice.back.values().all(|back| back.retained);
        if !at_once && !followers.is_empty() {
            // One deployment, as for any other change.
            let all: Vec<ReleaseRecord> = targets.iter().chain(&followers).cloned().collect();
            asked = self.request_for(&request, &all).await?;
        }
        let then = Some(followers).filter(|followers| at_once && !followers.is_empty());
        if request.dry_run {
            let mut plan = self.preview(&asked).await?;
            plan.warnings.extend(then.iter().map(|followers| start_again(followers)));
            return Ok(RolledBack::Would { plan: Box::new(plan) });
        }
        let mut accepted = self.deploy_on_any_disk(asked).await?;
        if let Some(followers) = then {
            accepted.plan.warnings.push(start_again(&followers));
            match self.start_again_after(accepted.deployment, &request, &followers).await {
                Ok(next) => accepted.then = Some(Box::new(next)),
                Err(fault) => accepted.plan.warnings.push(format!("that is refused: {fault}")),
            }
        }
        Ok(RolledBack::Deploys(Box::new(accepted)))
    }

    /// What follows a release that goes back by a flip waits for that, and does not hold it up.
    async fn start_again_after(
        self: &Arc<Self>,
        first: u64,
        request: &RollbackRequest,
        followers: &[ReleaseRecord],
    ) -> Result<Accepted, Fault> {
        let mut asked = self.request_for(request, followers).await?;
        asked.choice.after = Some(first);
        self.deploy_on_any_disk(asked).await
    }

    /// An agent may have died before it had begun what follows a rollback.
    pub async fn follow_up(self: &Arc<Self>, unfinished: &[Kept]) -> Result<(), Fault> {
        let Some(first) = unfinished.last().filter(|kept| kept.deployment.goes_back_by_a_flip()) else { return Ok(()) };
        let back = first.deployment.plan.members.iter().map(|member| self.journal.release(&member.candidate));
        let back: Vec<ReleaseRecord> = back.collect::<Result<Vec<_>, _>>()?.into_iter().flatten().collect();
        let followers = self.followers(&back)?;
        if followers.is_empty() {
            return Ok(());
        }
        let request = RollbackRequest {
            project: first.project.clone(),
            services: Vec::new(),
            to: None,
            dry_run: false,
            who: first.who.clone(),
        };
        if let Err(fault) = self.start_again_after(first.deployment.number, &request, &followers).await {
            for service in followers.into_iter().map(|follower| follower.release.service) {
                let words = format!("{service} is not started again, though what it follows went back: {fault}");
                self.alert(Subject::Service(service, "start"), words);
            }
        }
        Ok(())
    }

    /// What is live and is started again with any change of these: it lives in a namespace of theirs, or depends on them with
    /// `restart: true`; and what follows that.
    fn followers(&self, targets: &[ReleaseRecord]) -> Result<Vec<ReleaseRecord>, Fault> {
        let mut changes: Vec<&ServiceKey> = targets.iter().map(|target| &target.release.service).collect();
        let live: Vec<ReleaseRecord> = self.journal.services()?.into_iter().filter_map(|record| record.live).collect();
        let mut followers = Vec::new();
        let follows = |live: &ReleaseRecord, changes: &[&ServiceKey]| {
            let service = &live.release.service;
            let changed = |name: &str| changes.contains(&&ServiceKey::new(&service.project, name));
            let stored = self.store.release(&live.release);
            !changes.contains(&service) && stored.is_ok_and(|stored| follows(&stored.service, &changed).is_some())
        };
        while let Some(next) = live.iter().find(|live| follows(live, &changes)) {
            changes.push(&next.release.service);
            followers.push(next.clone());
        }
        Ok(followers)
    }

    /// A full disk keeps nobody from going back.
    async fn deploy_on_any_disk(self: &Arc<Self>, request: DeployRequest) -> Result<Accepted, Fault> {
        self.reserve.give_up_if_short();
        match self.deploy(request.clone()).await {
            Err(fault) if matches!(fault.code, Code::Journal | Code::DiskFull) && self.reserve.give_up() => {
                self.deploy(request).await
            }
            done => done,
        }
    }

    /// A deployment of these services that has not ended: going back is taking it back.
    async fn take_back_what_runs(&self, request: &RollbackRequest) -> Result<Option<RolledBack>, Fault> {
        let deadline = Instant::now() + ENDS_WITHIN;
        loop {
            let concerns = |kept: &Kept| {
                let named = |service: &String| request.services.is_empty() || request.services.contains(service);
                kept.project == request.project && kept.services.iter().any(named)
            };
            let unfinished = self.journal.unfinished()?;
            let Some(kept) = unfinished.iter().find(|kept| concerns(kept)) else { return Ok(None) };
            let number = kept.deployment.number;
            let plan = &kept.deployment.plan;
            let aborted = match request.dry_run {
                true => RolledBack::WouldAbort { deployment: number, plan: Box::new(plan.clone()) },
                false => RolledBack::Aborted { deployment: number },
            };
            // Somebody else was quicker: his way back is not taken back.
            let leads_there = |member: &Member, number: u64| {
                request.to.is_none_or(|to| self.is_same_release(&member.service, number, to))
            };
            let goes_back = |member: &Member| member.safety.back.is_some_and(|back| leads_there(member, back.to));
            let state = &kept.deployment.state;
            let arrives = state.may_revert() || matches!(state, State::Retiring | State::Done);
            if plan.members.iter().any(goes_back) && arrives {
                return Ok(Some(match request.dry_run {
                    true => RolledBack::Would { plan: Box::new(plan.clone()) },
                    false => {
                        RolledBack::Deploys(Box::new(Accepted { deployment: number, plan: plan.clone(), then: None }))
                    }
                }));
            }
            match &kept.deployment.state {
                State::Reverting { .. } => return Ok(Some(aborted)),
                state if state.may_revert() => {
                    let asked = plan.members.iter().find(|member| request.services.contains(&member.service.service));
                    let live = asked.and_then(|member| Some((member, member.live.as_ref()?.release.number)));
                    let leads = live.is_some_and(|(member, live)| leads_there(member, live));
                    if let Some(to) = request.to.filter(|_| !leads) {
                        let what =
                            format!("deployment {number} runs, and taking it back does not lead to release {to}");
                        return Err(Fault::new(Code::Busy, what).hint("take it back first: `teal rollback`"));
                    }
                    if !request.dry_run {
                        self.abort(number, &request.who)?;
                    }
                    return Ok(Some(aborted));
                }
                // Its candidate is live already, and gone back from as such.
                _ if request.dry_run => return Ok(None),
                _ if Instant::now() >= deadline => {
                    return Err(Fault::new(Code::Busy, format!("deployment {number} is about to end")));
                }
                _ => sleep(Duration::from_millis(20)).await,
            }
        }
    }

    /// The services that are meant.
    fn names(&self, request: &RollbackRequest) -> Result<Vec<String>, Fault> {
        let names = match request.services.is_empty() {
            false => request.services.clone(),
            true => self.changed_last(&request.project)?,
        };
        if request.to.is_some() && names.len() != 1 {
            let what = format!(
                "a release has a number within its service, and {} are meant: {}",
                names.len(),
                names.join(", ")
            );
            return Err(Fault::new(Code::Usage, what).hint("name one: `teal rollback SERVICE --to N`"));
        }
        Ok(names)
    }

    fn live_already(&self, request: &RollbackRequest, names: &[String]) -> Result<Option<RolledBack>, Fault> {
        let (Some(to), [name]) = (request.to, names) else { return Ok(None) };
        let live = self.live_record(&request.project, name)?;
        let is_live = self.is_same_release(&live.release.service, live.release.number, to);
        Ok(is_live.then_some(RolledBack::Already { release: live.release, again: live.again }))
    }

    /// The release that each service goes back to.
    fn targets(&self, request: &RollbackRequest, names: Vec<String>) -> Result<Vec<ReleaseRecord>, Fault> {
        let target = |name: String| self.target(&self.live_record(&request.project, &name)?, request.to);
        names.into_iter().map(target).collect()
    }

    fn live_record(&self, project: &str, name: &str) -> Result<ReleaseRecord, Fault> {
        let key = ServiceKey::new(project, name);
        let record = self.journal.services()?.into_iter().find(|record| record.service == key);
        record.and_then(|record| record.live).ok_or_else(|| self.not_here(project, Some(name)))
    }

    /// One of them is the other, or was made from it again.
    fn is_same_release(&self, service: &ServiceKey, one: u64, other: u64) -> bool {
        one == other || self.journal.lineage(service).is_ok_and(|lineage| lineage.is_same(one, other))
    }

    fn target(&self, live: &ReleaseRecord, to: Option<u64>) -> Result<ReleaseRecord, Fault> {
        let service = &live.release.service;
        let were = self.journal.were_live(service)?;
        let lineage = self.journal.lineage(service)?;
        // What its content replaced when it was new: so each time further back, and not to and fro.
        let number = to.or_else(|| lineage.before(live.release.number));
        let target = number.and_then(|number| were.iter().find(|one| one.release.number == number));
        target.cloned().ok_or_else(|| match to {
            Some(to) => {
                let numbers: Vec<String> = were.iter().take(10).map(|one| one.release.number.to_string()).collect();
                Fault::new(Code::NotFound, format!("{service} has no release {to} that was live"))
                    .hint("see `teal history`")
                    .detail(vec![format!("releases that were live: {}", numbers.join(", "))])
            }
            None => self.nothing_before(live, &lineage),
        })
    }

    fn nothing_before(&self, live: &ReleaseRecord, lineage: &Lineage) -> Fault {
        let ReleaseKey { service, number } = &live.release;
        let again = live.again.map(|again| format!(", which is {again} again")).unwrap_or_default();
        let fault = Fault::new(Code::NotFound, format!("{service} has no release before {number}{again}"));
        let came_after: BTreeSet<u64> =
            lineage.were_live().map(|one| lineage.source(one)).filter(|one| *one > lineage.source(*number)).collect();
        let newest_kept = came_after.iter().rev().find(|one| self.kept_as(service, **one, lineage).is_some());
        let hint = match newest_kept {
            Some(newest) => format!("`teal rollback {} --to {newest}` goes forward again", service.service),
            None => "see `teal history`".to_owned(),
        };
        let numbers: Vec<String> = came_after.iter().rev().map(u64::to_string).collect();
        let detail =
            (!numbers.is_empty()).then(|| format!("came after it, and gone back from: {}", numbers.join(", ")));
        fault.hint(hint).detail(detail.into_iter().collect())
    }

    /// The newest release of the same content whose settings are kept.
    fn kept_as(&self, service: &ServiceKey, number: u64, lineage: &Lineage) -> Option<ReleaseKey> {
        let same = lineage.were_live().filter(|one| lineage.is_same(*one, number));
        same.map(|one| ReleaseKey::new(service.clone(), one)).find(|one| self.store.has_release(one))
    }

    /// A release of the same content that is warm, and whole.
    async fn warm_as(&self, record: &ReleaseRecord, lineage: &Lineage) -> Result<Option<ReleaseKey>, Fault> {
        let ReleaseKey { service, number } = &record.release;
        // What is live is started again, beside one that may be warm from before that.
        if self.live_record(&service.project, &service.service)?.release == record.release {
            return Ok(None);
        }
        let warm = self.warm()?.remove(service).map(|warm| warm.release);
        let Some(warm) = warm.filter(|warm| lineage.is_same(warm.number, *number)) else { return Ok(None) };
        Ok((self.is_ready_now(&warm).await == Some(true)).then_some(warm))
    }

    /// The services that the newest deployment of a project has changed.
    fn changed_last(&self, project: &str) -> Result<Vec<String>, Fault> {
        let history = self.journal.history(Some(project), 100)?;
        // One that only started others again has changed nothing.
        let changes = |kept: &Kept| kept.deployment.plan.members.iter().any(|member| !member.is_again());
        let newest = history.into_iter().find(changes);
        let Some(kept) = newest else { return Err(self.not_here(project, None)) };
        let number = kept.deployment.number;
        if kept.deployment.state != State::Done {
            let what =
                format!("deployment {number} was not the one that went live: it is {}", kept.deployment.state.name());
            let hint = "what was live before it is live; to go further back name a service: `teal rollback SERVICE`";
            return Err(Fault::new(Code::NotFound, what).hint(hint));
        }
        let went = |member: &&Member| member.live.is_some() && !member.job && !member.is_again();
        let names: Vec<String> =
            kept.deployment.plan.members.iter().filter(went).map(|member| member.service.service.clone()).collect();
        match names.is_empty() {
            true => Err(Fault::new(
                Code::NotFound,
                format!("deployment {number} replaced no release: there is nothing before it"),
            )
            .hint("`teal remove` ends what it has started")),
            false => Ok(names),
        }
    }

    /// What was kept of these releases, as a project to be deployed.
    async fn request_for(&self, request: &RollbackRequest, records: &[ReleaseRecord]) -> Result<DeployRequest, Fault> {
        let mut project = Project { name: request.project.clone(), ..Project::default() };
        let mut choice = Choice::default();
        for record in records {
            let ReleaseKey { service, number } = &record.release;
            let lineage = self.journal.lineage(service)?;
            let warm = self.warm_as(record, &lineage).await?;
            let kept = warm.clone().or_else(|| self.kept_as(service, *number, &lineage));
            let stored = self.store.release(kept.as_ref().unwrap_or(&record.release)).map_err(|fault| {
                let what = format!("the settings of {} are not kept any more", record.release);
                Fault::new(Code::NotFound, what)
                    .hint("raise `x-teal.keep`; deploy the earlier file")
                    .detail(vec![fault.what])
            })?;
            let same = self.same_image(record).await?;
            choice.pinned.extend(same.map(|same| (service.service.clone(), same)));
            let to = warm.as_ref().map_or(*number, |warm| warm.number);
            choice.back.insert(service.service.clone(), Back { to, retained: warm.is_some() });
            project.services.insert(service.service.clone(), stored.service);
            project.volumes.extend(stored.volumes);
            project.networks.extend(stored.networks);
            project.trusted_proxies = stored.trusted_proxies;
            project.directory = stored.directory;
        }
        Ok(DeployRequest { project, choice, who: request.who.clone() })
    }

    /// A reference that no other image can get.
    async fn same_image(&self, record: &ReleaseRecord) -> Result<Option<String>, Fault> {
        let Some(id) = &record.image_id else { return Ok(None) };
        if self.facts(id).await?.is_some() {
            return Ok(Some(id.clone()));
        }
        record.repo_digests.first().cloned().map(Some).ok_or_else(|| {
            let what = format!("the image of {} ({}, {id}) is not here any more", record.release, record.image);
            Fault::new(Code::ImageMissing, what)
                .hint("it was built here and came from no registry: build it again and deploy that")
        })
    }

    /// What was taken back a moment ago is not deployed again by whoever did not hear of it.
    pub fn refuse_just_reverted(&self, plan: &Plan, choice: &Choice) -> Result<(), Fault> {
        if choice.force || !choice.back.is_empty() {
            return Ok(());
        }
        let again = |before: &TakenBack| {
            let mut same = plan.members.iter().filter(|member| member.service == before.release.service);
            same.any(|one| one.image_id.as_ref() == Some(&before.image_id) && one.settings_hash == before.settings_hash)
        };
        let mut refused = Vec::new();
        for member in &plan.members {
            let Some(before) = self.journal.taken_back(&member.service)?.filter(again) else { continue };
            // Of several nobody knows which one it was for: with another one changed it may be put right.
            if self.journal.taken_back_with(&before)?.iter().all(again) {
                refused.push((&member.service, before));
            }
        }
        // Without names every service that has not changed would be deployed, too.
        let names: Vec<&str> = refused.iter().map(|(service, _)| service.service.as_str()).collect();
        let once_more = Code::JustReverted.hint().replace("SERVICE", &names.join(" "));
        let Some((service, before)) = refused.into_iter().next() else { return Ok(()) };
        let what = format!("{service} is what {} was, which was taken back", before.release);
        Err(Fault::new(Code::JustReverted, what).hint(once_more).detail(vec![before.why]))
    }

    pub fn promote(&self, deployment: u64, promote: Promote) -> Result<Kept, Fault> {
        let (kept, handle) = self.watched(deployment, "promoted")?;
        handle.orders.send_modify(|orders| orders.promote = Some(promote));
        Ok(kept)
    }

    pub fn freeze(&self, deployment: u64, who: &str) -> Result<Kept, Fault> {
        let (kept, handle) = self.watched(deployment, "frozen")?;
        handle.orders.send_modify(|orders| orders.freeze = Some(who.to_owned()));
        Ok(kept)
    }

    /// A deployment whose candidates have a share, and may get another.
    fn watched(&self, deployment: u64, be: &str) -> Result<(Kept, crate::agent::Handle), Fault> {
        let unknown = || Fault::new(Code::NotFound, format!("there is no deployment {deployment}"));
        let kept = self.journal.deployment(deployment)?.ok_or_else(unknown)?;
        let state = &kept.deployment.state;
        match self.handle(deployment).filter(|_| state.is_watched()) {
            Some(handle) => Ok((kept, handle)),
            None => {
                let what = format!("deployment {deployment} is {} and cannot be {be} now", state.name());
                Err(Fault::new(Code::Busy, what).hint("only canary steps and bakes can be: see `teal status`"))
            }
        }
    }
}

/// For people.
fn start_again(followers: &[ReleaseRecord]) -> String {
    let names: Vec<&str> = followers.iter().map(|record| record.release.service.service.as_str()).collect();
    let one = names.len() == 1;
    let (are, follow) = if one { ("is", "it follows") } else { ("are", "they follow") };
    format!("{} {are} started again after that, since {follow} what goes back", names.join(", "))
}
