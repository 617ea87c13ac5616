//! Back to the journaled state by itself: tables follow what runs, live releases are whole, nothing is left over.

use crate::agent::Agent;
use crate::effects::{DEFAULT_GRACE, Replicas, grace};
use crate::names::attachments;
use crate::runtime::{Container, Status};
use crate::store::StoredRelease;
use crate::world::World;
use std::collections::BTreeSet;
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
                agent.reserve.refill();
                let said = agent.publisher.look_at_nginx().await;
                agent.say_of_nginx(&said);
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
    let subject = format!("{service} by name");
    if stored.naming.is_holder() && !world.holders.get(service).is_some_and(|holder| stands(&holder.container)) {
        tracing::warn!(%service, "its holder is not what it should be: it is made so");
        match agent.ensure_holder(service, stored).await {
            Ok(()) => agent.clear_alert(&subject),
            Err(fault) => agent.alert(&subject, format!("{subject} is not reached: {fault}")),
        }
    }
    let lost = |container: &Container| container.status == Status::Running && !stands(container);
    if world.of(release).any(|replica| lost(&replica.container)) {
        tracing::warn!(%release, "it has lost a network: it joins again");
        let subject = format!("networks of {release}");
        match agent.rejoin(release, stored, how).await {
            Ok(()) => agent.clear_alert(&subject),
            Err(fault) => agent.alert(&subject, format!("{release} cannot join its networks: {fault}")),
        }
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
    for record in services.iter().filter(|record| !busy.contains(&record.service)) {
        let Some(live) = &record.live else { continue };
        let how = Replicas { color: live.color, span: Span::ALL, restarts: true };
        // Containers that somebody else made stand where he put them.
        if !live.is_adopted()
            && let Ok(stored) = agent.store.release(&live.release)
        {
            keep_named(agent, &world, &live.release, &stored, how).await;
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
                let subject = crate::whole::subject(&record.service);
                agent.alert(&subject, format!("{} is not whole: {fault}", live.release));
                continue;
            }
        }
        agent.tell_whether_whole(live);
    }
    agent.cool_down(&busy).await?;
    // Those of a holder that has started again are in a namespace that nobody is in any more.
    agent.traffic.retain(&agent.needed_listeners(None).await?).await?;
    let mut needed: BTreeSet<ReleaseKey> =
        services.iter().filter_map(|record| record.live.as_ref()).map(|live| live.release.clone()).collect();
    needed.extend(agent.warm()?.into_values().map(|warm| warm.release));
    needed.extend(agent.cooling().iter().cloned());
    for routing in agent.publisher.routings().await.into_values() {
        needed.extend(routing.listed);
    }
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
    // What was given back between the look and now is nobody's to remove.
    for replica in world.replicas.values().filter(|replica| !replica.adopted) {
        let service = &replica.release.service;
        if needed.contains(&replica.release) || busy.contains(service) || stuck(service)? {
            continue;
        }
        tracing::warn!(container = replica.container.name, release = %replica.release, "left over: removed");
        let patience = agent.store.release(&replica.release).map_or(DEFAULT_GRACE, |stored| grace(&stored));
        agent.runtime.stop(&replica.container.id, patience).await.map_err(crate::agent::fault_of)?;
        agent.runtime.remove(&replica.container.id, true).await.map_err(crate::agent::fault_of)?;
    }
    Ok(())
}
