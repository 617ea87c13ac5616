//! Back to the journaled state by itself: tables follow what runs, live releases are whole, nothing is left over.

use crate::agent::Agent;
use crate::alerts::Subject;
use crate::effects::{DEFAULT_GRACE, Replicas, grace};
use crate::kept::Stays;
use crate::names::attachments;
use crate::runtime::{Container, Status};
use crate::store::StoredRelease;
use crate::world::World;
use futures_util::future::join_all;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Weak};
use std::time::Duration;
use teal_model::deployment::State;
use teal_model::fault::Fault;
use teal_model::ids::{ReleaseKey, ServiceKey};
use teal_model::plan::Span;
use tokio::time::{Instant, sleep_until};

/// How often live releases are made whole and leftovers removed; a change that is seen does it earlier.
const EVERY: Duration = Duration::from_secs(15);
/// After a change, so that a restart in progress is not mistaken for an end.
const SETTLE: Duration = Duration::from_millis(500);

/// Tables follow what runs. Runs as long as the agent does.
pub async fn follow(agent: Weak<Agent>) {
    let Some((mut world, mut proxy)) = agent.upgrade().map(|agent| (agent.watch.changes(), agent.traffic.state()))
    else {
        return;
    };
    let mut looping = false;
    let mut opened = world.borrow_and_update().known;
    loop {
        let changed = tokio::select! {
            changed = world.changed() => changed.is_ok(),
            changed = proxy.changed() => changed.is_ok(),
        };
        let Some(agent) = agent.upgrade().filter(|_| changed) else { return };
        let crash_loop = proxy.borrow_and_update().crash_loop;
        if crash_loop && !looping {
            stop_crashing(&agent);
        }
        if looping && !crash_loop {
            agent.clear_alert("proxy");
        }
        looping = crash_loop;
        let known = world.borrow_and_update().known;
        if known && !std::mem::replace(&mut opened, known) {
            // An engine that was away when the agent began.
            if let Err(fault) = agent.serve().await {
                agent.alert("table", fault.to_string());
            }
        }
        if !known {
            continue;
        }
        let refreshed = agent.publisher.refresh().await;
        agent.open().await;
        match refreshed {
            Ok(faults) if faults.is_empty() => agent.clear_alert("table"),
            Ok(faults) => faults.into_iter().for_each(|fault| agent.alert("table", fault.to_string())),
            Err(fault) => agent.alert("table", format!("the route table cannot follow what runs: {fault}")),
        }
    }
}

/// Live releases are whole and nothing is left over. Runs as long as the agent does.
pub async fn keep_whole(agent: Weak<Agent>) {
    let Some(mut world) = agent.upgrade().map(|agent| agent.watch.changes()) else { return };
    let mut next = Instant::now() + SETTLE;
    loop {
        tokio::select! {
            changed = world.changed() => match changed {
                Ok(()) => next = next.min(Instant::now() + SETTLE),
                Err(_) => return,
            },
            () = sleep_until(next) => {
                let Some(agent) = agent.upgrade() else { return };
                next = Instant::now() + EVERY;
                agent.tell("reserve", agent.reserve.refill());
                let said = agent.publisher.look_at_nginx().await;
                agent.say_of_nginx(&said);
                if agent.is_alerted("settings") {
                    agent.try_to_forget_settings().await;
                }
                if let Err(fault) = tidy_up(&agent).await {
                    // The daemon may only be away; what matters of it is an alert where a service is not whole.
                    tracing::warn!(%fault, "not reconciled");
                }
            }
        }
    }
}

/// The table may be what kills the proxy: back to the splits before it, under a new number.
fn stop_crashing(agent: &Agent) {
    agent.alert("proxy", "the proxy crashed three times within ten seconds".to_owned());
    match agent.journal.unfinished() {
        Ok(unfinished) => {
            for kept in unfinished.iter().filter(|kept| kept.deployment.state.may_revert()) {
                if let Err(fault) = agent.abort(kept.deployment.number, "the agent, because the proxy crashes") {
                    agent.alert("proxy", fault.to_string());
                }
            }
        }
        Err(error) => agent.alert("proxy", error.to_string()),
    }
}

/// The holder of a live release's service runs and is where it belongs, and so are the replicas: somebody may have removed
/// a network under them.
async fn keep_named(agent: &Agent, world: &World, release: &ReleaseKey, stored: &StoredRelease, how: Replicas) {
    let service = &release.service;
    let networks: Vec<&str> = attachments(stored).iter().map(|(network, _)| network.name.as_str()).collect();
    let stands = |container: &Container| {
        container.status == Status::Running && networks.iter().all(|name| container.networks.contains_key(*name))
    };
    let called = Subject::Service(service.clone(), "name");
    if stored.naming.is_holder() && !world.holders.get(service).is_some_and(|holder| stands(&holder.container)) {
        tracing::warn!(%service, "its holder is not what it should be: it is made so");
        let ensured = agent.ensure_holder(service, stored).await;
        agent.tell(called, ensured.map_err(|fault| format!("{service} by name is not reached: {fault}")));
    } else {
        agent.clear_alert(called);
    }
    let lost = |container: &Container| container.status == Status::Running && !stands(container);
    let joined = Subject::Release(release.clone(), "networks");
    if world.of(release).any(|replica| lost(&replica.container)) {
        tracing::warn!(%release, "it has lost a network: it joins again");
        let rejoined = agent.rejoin(release, stored, how).await;
        agent.tell(joined, rejoined.map_err(|fault| format!("{release} cannot join its networks: {fault}")));
    } else {
        agent.clear_alert(joined);
    }
}

async fn tidy_up(agent: &Arc<Agent>) -> Result<(), Fault> {
    // Nobody claims a service while it is seen to: what is read here holds until the effect is done.
    let _claims = agent.claims.lock().await;
    let world = agent.watch.now();
    if !world.known || world.engine_error.is_some() {
        return Ok(());
    }
    let mut busy: BTreeSet<ServiceKey> = agent.removing().iter().cloned().collect();
    for kept in agent.journal.unfinished()? {
        busy.extend(kept.deployment.plan.services().cloned());
    }
    let services = agent.journal.services()?;
    let is_live = |release: &ReleaseKey| {
        services.iter().filter_map(|record| record.live.as_ref()).any(|live| &live.release == release)
    };
    agent.clear_alerts_where(|subject| {
        matches!(subject, Subject::Release(release, _) if !is_live(release) && !busy.contains(&release.service))
    });
    for record in services.iter().filter(|record| !busy.contains(&record.service)) {
        let Some(live) = &record.live else { continue };
        let how = Replicas { color: live.color, span: Span::ALL, restarts: true };
        // Containers that somebody else made stand where he put them.
        if !live.is_adopted()
            && let Ok(stored) = agent.store.release(&live.release)
        {
            keep_named(agent, &world, &live.release, &stored, how).await;
            if agent.is_alerted(Subject::Release(live.release.clone(), "container_name")) {
                // What still keeps it from its name stays said.
                drop(agent.name_release(&live.release).await);
            }
        }
        if live.is_adopted() {
            agent.tell_whether_whole(live);
            continue;
        }
        // A job has run, whether its container is still there or not.
        if live.job {
            continue;
        }
        let there: BTreeSet<u32> = world.of(&live.release).map(|replica| replica.index).collect();
        if (1..=live.replicas).any(|index| !there.contains(&index)) {
            tracing::warn!(release = %live.release, "replicas are missing: they are started again");
            if let Err(fault) = agent.start_release(&live.release, how).await {
                agent.alert(crate::whole::subject(&live.release), format!("{} is not whole: {fault}", live.release));
                continue;
            }
        }
        agent.tell_whether_whole(live);
    }
    agent.cool_down(&busy).await?;
    // Those of a holder that has started again are in a namespace that nobody is in any more.
    agent.traffic.retain(&agent.needed_listeners(None).await?).await?;
    let needed = agent.kept_releases().await?.with(Stays::Containers);
    let projects: BTreeSet<String> =
        agent.journal.diversions()?.into_iter().filter(|one| one.open).map(|one| one.service.project).collect();
    for project in projects {
        agent.end_diversions(&project, None).await?;
    }
    // A stuck deployment keeps its containers until the next one: someone has to look at them.
    let stuck = |service: &ServiceKey| {
        let newest = agent.journal.newest_of(service)?;
        Ok::<_, Fault>(newest.is_some_and(|kept| matches!(kept.deployment.state, State::Stuck { .. })))
    };
    for (release, container) in &world.migrations {
        if !busy.contains(&release.service) && !stuck(&release.service)? {
            tracing::warn!(container = container.name, %release, "left over: removed");
            agent.end_migration(release).await?;
        }
    }
    let mut left_over: BTreeMap<ReleaseKey, Vec<Container>> = BTreeMap::new();
    // What was given back between the look and now is nobody's to remove.
    for replica in world.replicas.values().filter(|replica| !replica.adopted) {
        let service = &replica.release.service;
        if needed.contains(&replica.release) || busy.contains(service) || stuck(service)? {
            continue;
        }
        tracing::warn!(container = replica.container.name, release = %replica.release, "left over: removed");
        left_over.entry(replica.release.clone()).or_default().push(replica.container.clone());
    }
    left_over.into_iter().for_each(|(release, containers)| end(agent, release, containers));
    // Nothing is left of what was warm and could not be ended at once.
    let ended = |service: &ServiceKey| {
        !busy.contains(service) && !needed.iter().any(|one| &one.service == service && !is_live(one))
    };
    agent.clear_alerts_where(|subject| matches!(subject, Subject::Service(service, "warm") if ended(service)));
    Ok(())
}

/// They take the time that they are given, and nobody who wants to deploy waits for that.
fn end(agent: &Arc<Agent>, release: ReleaseKey, containers: Vec<Container>) {
    let agent = agent.clone();
    agent.cooling().insert(release.clone());
    tokio::spawn(async move {
        let patience = agent.store.release(&release).map_or(DEFAULT_GRACE, |stored| grace(&stored));
        let ends = containers.iter().map(async |container| {
            agent.runtime.stop(&container.id, patience).await?;
            agent.runtime.remove(&container.id, true).await
        });
        if let Err(error) = join_all(ends).await.into_iter().collect::<Result<Vec<()>, _>>() {
            // It is left over still, and tried again as such.
            tracing::warn!(%release, %error, "left over: not removed yet");
        }
        agent.cooling().remove(&release);
    });
}
