//! The effects of a deployment, one function an action: each may be repeated, and finds what an earlier try left.

use crate::agent::{Agent, fault_of};
use crate::containers::restart_of;
use crate::nginx::Need;
use crate::publish::asked_routes;
use crate::runtime::{Container, ContainerSpec, RuntimeError, Status, label};
use crate::store::StoredRelease;
use crate::takeover::taken_from;
use crate::traffic::Opening;
use crate::world::{held_by, index_of, migration_of, release_of};
use futures_util::future::{join_all, try_join_all};
use std::collections::BTreeSet;
use std::time::Duration;
use teal_model::api::DeployRequest;
use teal_model::config::{MountKind, Restart, Volume};
use teal_model::deployment::{Action, Deployment, Published, State};
use teal_model::fault::{Code, Fault};
use teal_model::ids::{Color, ReleaseKey, ServiceKey};
use teal_model::plan::{Member, Plan, Span, listeners, overlap};
use teal_model::wire::{ListenerKey, Route};

/// Compose's `stop_grace_period` where nothing else is known.
pub const DEFAULT_GRACE: Duration = Duration::from_secs(10);
const AGAIN: Duration = Duration::from_millis(500);
/// How long an action waits for a daemon that is being restarted.
const ENGINE_AWAY: Duration = Duration::from_secs(30);
/// How long a table without the retiring release is sent again when nobody confirms it: there is nothing to go back to.
const SILENT_FOR: Duration = Duration::from_secs(60);

pub fn grace(stored: &StoredRelease) -> Duration {
    Duration::from_millis(stored.service.container.stop_grace_period_ms)
}

/// The top-level volumes that a release mounts.
pub fn named_volumes(stored: &StoredRelease) -> impl Iterator<Item = &Volume> {
    let mounts = &stored.service.container.mounts;
    stored.volumes.values().filter(|volume| {
        mounts.iter().any(|mount| mount.kind == MountKind::Volume && mount.source.as_deref() == Some(&volume.name))
    })
}

/// How a container of a release comes to be.
#[derive(Debug, Clone, Copy)]
pub struct Replicas {
    pub color: Color,
    pub span: Span,
    /// The service's own restart policy (it is live) instead of `no`.
    pub restarts: bool,
}

impl Agent {
    pub async fn perform(&self, deployment: &Deployment, action: &Action) -> Result<Option<Published>, Fault> {
        match action {
            Action::BindListeners => self.bind(deployment).await?,
            Action::EnsureNetwork => self.ensure_surroundings(deployment).await?,
            Action::StartRelease { release, span } => {
                let how = how_it_starts(deployment, release, *span)?;
                self.clear_way(deployment, release).await?;
                self.start_release(release, how).await?;
            }
            Action::StopRelease { release, span } => self.stop_release(release, *span).await?,
            Action::RemoveRelease { release } => {
                let is_first = |member: &Member| member.candidate == *release && member.live.is_none();
                match deployment.plan.members.iter().any(is_first) {
                    true => self.remove_first_release(release).await?,
                    false => self.remove_release(release).await?,
                }
            }
            Action::SetRestart { release } => {
                let restart = restart_of(&self.store.release(release)?.service);
                let containers = self.containers_of(release).await?;
                try_join_all(containers.iter().map(|container| self.runtime.set_restart(&container.id, restart)))
                    .await
                    .map_err(fault_of)?;
            }
            Action::Migrate { release } => self.begin_migration(release).await?,
            Action::EndMigration { release } => self.end_migration(release).await?,
            Action::Retain { release } => self.retain(release).await?,
            Action::DropRetained { release } => self.drop_retained(release).await?,
            Action::Cap { share } => {
                let capped = Deployment { cap: *share, ..deployment.clone() };
                let (published, said) = self.publisher.flip(capped.routing(), Need::Serves).await?;
                self.say_of_nginx(&said);
                return Ok(Some(published));
            }
            Action::Publish => {
                if matches!(deployment.state, State::Shifting { .. } | State::Releasing { .. }) {
                    self.give_back_ports(deployment).await?;
                }
                self.prepare_diversions(deployment).await?;
                let need = match deployment.state {
                    State::Reverting { .. } | State::Retiring => Need::Back,
                    _ => Need::Serves,
                };
                let (published, said) = self.publisher.flip(deployment.routing(), need).await?;
                self.say_of_nginx(&said);
                // Ports of which it was not known before what they speak, and those inside for a release that is new.
                self.open().await;
                self.divert(Some(deployment)).await?;
                if matches!(deployment.state, State::Reverting { .. }) {
                    self.leave_ports(deployment).await?;
                }
                return Ok(Some(published));
            }
            Action::NameRelease { release } => self.name_release(release).await?,
            Action::RemoveOrphan { service } => self.remove_orphan(service).await?,
            Action::Tidy => drop(self.tidy(&deployment.plan.project, Some(deployment.number)).await?),
        }
        Ok(None)
    }

    /// An action whose daemon is away is tried again for a while: it may only be restarting. So is a table of the last state
    /// that the proxy does not confirm.
    pub async fn perform_patiently(
        &self,
        deployment: &Deployment,
        action: &Action,
    ) -> Result<Option<Published>, Fault> {
        let since = tokio::time::Instant::now();
        loop {
            match self.perform(deployment, action).await {
                Err(fault) if fault.code == Code::DockerDown && since.elapsed() < ENGINE_AWAY => {
                    tokio::time::sleep(AGAIN).await
                }
                Err(fault)
                    if fault.code == Code::ProxyDown
                        && deployment.state == State::Retiring
                        && since.elapsed() < SILENT_FOR =>
                {
                    tokio::time::sleep(AGAIN).await
                }
                // Somebody may be in the middle of an edit of nginx's configuration.
                Err(fault)
                    if fault.code.is_of_nginx()
                        && matches!(deployment.state, State::Retiring | State::Reverting { .. })
                        && since.elapsed() < SILENT_FOR =>
                {
                    tokio::time::sleep(AGAIN).await
                }
                done => return done,
            }
        }
    }

    async fn bind(&self, deployment: &Deployment) -> Result<(), Fault> {
        let wanted = self.to_bind(&deployment.plan)?;
        let reserve = |listener: &ListenerKey| Opening {
            take_from: taken_from(deployment.plan.take.as_ref(), listener),
            ..Opening::host(listener.clone(), false)
        };
        let openings: Vec<Opening> = wanted.iter().map(reserve).collect();
        let Err(fault) = self.traffic.bind(&openings).await else {
            self.open().await;
            return Ok(());
        };
        // Who has it? Docker's own publishing is the likeliest.
        let mut detail = Vec::new();
        for port in wanted.iter().filter_map(ListenerKey::tcp).map(|addr| addr.port()) {
            match self.runtime.publishing(port).await {
                Ok(names) => {
                    detail.extend(names.into_iter().map(|name| format!("the container {name} publishes port {port}")))
                }
                Err(error) => detail.push(format!("which container publishes it is not known: {error}")),
            }
        }
        detail.sort();
        detail.dedup();
        Err(fault.detail(detail))
    }

    /// The listeners of a plan but for those that Docker has, until the adopted containers behind them are stopped.
    fn to_bind(&self, plan: &Plan) -> Result<BTreeSet<ListenerKey>, Fault> {
        let dockers = self.dockers_ports()?;
        let ours = |listener: &&ListenerKey| !dockers.iter().any(|taken| overlap(taken, listener));
        Ok(plan.members.iter().flat_map(|member| &member.listeners).filter(ours).cloned().collect())
    }

    /// What opening the ports of this plan would be refused for now.
    pub async fn refuse_taken_ports(&self, plan: &Plan) -> Result<(), Fault> {
        let mut wanted: Vec<ListenerKey> = self.to_bind(plan)?.into_iter().collect();
        wanted.retain(|listener| taken_from(plan.take.as_ref(), listener).is_none());
        self.traffic.cannot_bind(&wanted).await
    }

    /// A route that leads to another service already would take its requests away. `asking`: the deployment that asks, once
    /// it has a number.
    pub async fn refuse_taken_routes(
        &self,
        plan: &Plan,
        request: &DeployRequest,
        asking: Option<u64>,
    ) -> Result<(), Fault> {
        let ours: BTreeSet<&ServiceKey> = plan.members.iter().map(|member| &member.service).collect();
        let mut others = self.publisher.routes().await;
        for kept in self.journal.unfinished()?.into_iter().filter(|kept| Some(kept.deployment.number) != asking) {
            for member in &kept.deployment.plan.members {
                // One whose settings are gone will not get as far as having routes.
                let settings = self.store.release(&member.candidate);
                others.extend(settings.iter().flat_map(|settings| asked_routes(&member.service, &settings.service)));
            }
        }
        others.retain(|other| !ours.contains(&other.service));
        for key in ours {
            for route in asked_routes(key, &request.project.services[&key.service]) {
                let same = |other: &&Route| {
                    (&other.listener, &other.host, &other.path) == (&route.listener, &route.host, &route.path)
                };
                if let Some(taken) = others.iter().find(same) {
                    let what = format!(
                        "{} is published by {} already, for the same host and path",
                        route.listener, taken.service
                    );
                    return Err(Fault::new(Code::PortInUse, what)
                        .hint("publish another port, or tell the services apart by `x-teal.route`"));
                }
            }
        }
        Ok(())
    }

    /// Every listener that a routing or an unfinished deployment needs, except the deployment that asks.
    pub async fn needed_listeners(&self, asking: Option<u64>) -> Result<BTreeSet<ListenerKey>, Fault> {
        let mut needed = self.publisher.listeners().await;
        needed.extend(self.publisher.published().await);
        for kept in self.journal.unfinished()?.into_iter().filter(|kept| Some(kept.deployment.number) != asking) {
            for member in kept.deployment.plan.members {
                needed.extend(member.listeners);
                // A revert goes back to the live release's ports.
                let live = member.live.and_then(|live| self.store.release(&live.release).ok());
                needed.extend(live.iter().flat_map(|settings| listeners(&settings.service)));
            }
        }
        Ok(needed)
    }

    /// Networks, and the holders of the names, of the members whose turn it is.
    async fn ensure_surroundings(&self, deployment: &Deployment) -> Result<(), Fault> {
        let members = &deployment.plan.members;
        let chosen = match deployment.state {
            State::Starting { member, .. } | State::Migrating { member, .. } => &members[member..=member],
            _ => &members[..],
        };
        for member in chosen {
            let stored = self.store.release(&member.candidate)?;
            match member.naming.is_holder() {
                true => self.ensure_holder(&member.service, &stored).await?,
                false => drop(self.ensure_networks(&member.service.project, &stored).await?),
            }
        }
        self.watch.refresh().await;
        Ok(())
    }

    /// What a stuck deployment left may have the names that this release's containers get.
    async fn clear_way(&self, deployment: &Deployment, release: &ReleaseKey) -> Result<(), Fault> {
        let service = &release.service;
        let labels =
            [(label::AGENT, self.id.as_str()), (label::PROJECT, &service.project), (label::SERVICE, &service.service)];
        let wanted =
            |of: &ReleaseKey| {
                deployment.plan.members.iter().any(|member| {
                    &member.candidate == of || member.live.as_ref().is_some_and(|live| &live.release == of)
                })
            };
        let routing = self.publisher.routings().await.remove(service);
        let routed = |of: &ReleaseKey| routing.as_ref().is_some_and(|routing| routing.listed.contains(of));
        for container in self.runtime.list(&labels).await.map_err(fault_of)? {
            let migration = migration_of(&container);
            let of = migration.clone().or_else(|| release_of(&container));
            if held_by(&container).is_some() || of.is_some_and(|of| wanted(&of) || routed(&of)) {
                continue;
            }
            tracing::warn!(container = container.name, "of an earlier deployment that got stuck: removed");
            match migration {
                Some(release) => self.end_migration(&release).await?,
                None => {
                    self.runtime.stop(&container.id, DEFAULT_GRACE).await.map_err(fault_of)?;
                    self.runtime.remove(&container.id, true).await.map_err(fault_of)?;
                }
            }
        }
        Ok(())
    }

    pub async fn start_release(&self, release: &ReleaseKey, how: Replicas) -> Result<(), Fault> {
        let stored = self.store.release(release)?;
        let mut adopted = self.adopted_of(release)?;
        if !adopted.is_empty() {
            adopted.retain(|replica| how.span.contains(replica.index));
            return self.start_adopted(release, &adopted, stored.service.container.restart).await;
        }
        self.ensure_volumes(release, &stored).await?;
        let mut specs = self.container_specs(release, &stored, how).await?;
        // Found by its labels: a live one may have got a name of its own.
        let there = self.containers_of(release).await?;
        for spec in &mut specs {
            let replica = |container: &&Container| {
                container.labels.get(label::REPLICA) == spec.labels.get(label::REPLICA)
                    && !matches!(container.status, Status::Removing | Status::Dead)
            };
            if let Some(found) = there.iter().find(replica) {
                spec.name.clone_from(&found.name);
            }
        }
        let starts = specs.iter().map(|spec| self.start_replica(spec, how));
        // All of them come to an end before an error is told, so that none is being created while the revert removes them.
        let started = join_all(starts).await;
        self.watch.refresh().await;
        started.into_iter().collect::<Result<Vec<()>, RuntimeError>>().map_err(fault_of)?;
        if how.restarts {
            self.name_release(release).await?;
        }
        Ok(())
    }

    async fn start_replica(&self, spec: &ContainerSpec, how: Replicas) -> Result<(), RuntimeError> {
        let container = self.runtime.ensure_container(spec).await?;
        match container.status {
            // A candidate that has ended is a fact for the deployment to see, not something to try again.
            Status::Exited { .. } | Status::Dead if !how.restarts => Ok(()),
            _ => self.runtime.start(&container.id).await,
        }?;
        if how.restarts {
            self.runtime.set_restart(&container.id, spec.settings.restart).await?;
        }
        Ok(())
    }

    pub async fn containers_of(&self, release: &ReleaseKey) -> Result<Vec<Container>, Fault> {
        let ServiceNames { project, service } = names(release);
        let number = release.number.to_string();
        let labels = [
            (label::AGENT, self.id.as_str()),
            (label::PROJECT, project),
            (label::SERVICE, service),
            (label::RELEASE, &number),
        ];
        let mut all = self.runtime.list(&labels).await.map_err(fault_of)?;
        for replica in self.adopted_of(release)? {
            all.extend(self.runtime.inspect(&replica.id).await.map_err(fault_of)?);
        }
        Ok(all)
    }

    pub async fn stop_release(&self, release: &ReleaseKey, span: Span) -> Result<(), Fault> {
        let grace = self.store.release(release).map_or(DEFAULT_GRACE, |stored| grace(&stored));
        let adopted = self.adopted_of(release)?;
        let index = |container: &Container| {
            let of_others = adopted.iter().find(|replica| replica.id == container.id);
            of_others.map_or_else(|| index_of(container), |replica| replica.index)
        };
        let mut containers = self.containers_of(release).await?;
        containers.retain(|container| span.is_all() || span.contains(index(container)));
        // Else a daemon that restarts would bring it back beside the release that took its place.
        let stops = containers.iter().map(|container| async move {
            self.runtime.set_restart(&container.id, Restart::No).await?;
            self.runtime.stop(&container.id, grace).await
        });
        try_join_all(stops).await.map_err(fault_of)?;
        if !adopted.is_empty() {
            // Whose ports are whose follows from what runs.
            self.watch.refresh().await;
        }
        Ok(())
    }

    pub async fn remove_release(&self, release: &ReleaseKey) -> Result<(), Fault> {
        let containers = self.containers_of(release).await?;
        try_join_all(containers.iter().map(|container| self.runtime.remove(&container.id, true)))
            .await
            .map_err(fault_of)?;
        Ok(())
    }

    /// One that comes to nothing before anything was live: no later one carries its anonymous volumes on.
    async fn remove_first_release(&self, release: &ReleaseKey) -> Result<(), Fault> {
        let containers = self.containers_of(release).await?;
        try_join_all(containers.iter().map(|container| self.runtime.remove_with_volumes(&container.id)))
            .await
            .map_err(fault_of)?;
        Ok(())
    }

    /// Closes listeners that nothing needs, removes the project's network when its last container is gone. Returns removed
    /// networks. `asking`: the deployment whose end this is.
    pub async fn tidy(&self, project: &str, asking: Option<u64>) -> Result<Vec<String>, Fault> {
        self.end_diversions(project, asking).await?;
        self.traffic.retain(&self.needed_listeners(asking).await?).await?;
        self.remove_holders(project, &self.needed_holders(asking).await?).await?;
        let mut removed = Vec::new();
        for network in
            self.runtime.networks(&[(label::AGENT, &self.id), (label::PROJECT, project)]).await.map_err(fault_of)?
        {
            if self.runtime.remove_network(&network, &self.id).await.map_err(fault_of)? {
                self.journal.free_network(&network)?;
                removed.push(network);
            }
        }
        Ok(removed)
    }

    /// Services whose name a holder owns: of live releases and of unfinished deployments, except the one that asks.
    async fn needed_holders(&self, asking: Option<u64>) -> Result<BTreeSet<ServiceKey>, Fault> {
        let mut releases: Vec<ReleaseKey> =
            self.journal.services()?.into_iter().filter_map(|record| Some(record.live?.release)).collect();
        let mut needed = BTreeSet::new();
        for kept in self.journal.unfinished()?.into_iter().filter(|kept| Some(kept.deployment.number) != asking) {
            for member in kept.deployment.plan.members {
                releases.extend(member.live.map(|live| live.release));
                needed.extend(member.naming.is_holder().then_some(member.service));
            }
        }
        // Settings that cannot be read say nothing: rather one holder too many.
        let held = |release: &ReleaseKey| self.store.release(release).is_ok_and(|stored| !stored.naming.is_holder());
        needed.extend(releases.into_iter().filter(|release| !held(release)).map(|release| release.service));
        Ok(needed)
    }
}

struct ServiceNames<'a> {
    project: &'a str,
    service: &'a str,
}

fn names(release: &ReleaseKey) -> ServiceNames<'_> {
    ServiceNames { project: &release.service.project, service: &release.service.service }
}

fn how_it_starts(deployment: &Deployment, release: &ReleaseKey, span: Span) -> Result<Replicas, Fault> {
    for member in &deployment.plan.members {
        if &member.candidate == release {
            return Ok(Replicas { color: member.color, span, restarts: false });
        }
        if let Some(live) = member.live.as_ref().filter(|live| &live.release == release) {
            return Ok(Replicas { color: live.color, span, restarts: true });
        }
    }
    Err(Fault::new(Code::Internal, format!("{release} is not of deployment {}", deployment.number)))
}
