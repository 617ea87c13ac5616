//! Back to the journaled state by itself: tables follow what runs, live releases are whole, nothing is left over.

use crate::agent::Agent;
use crate::effects::{DEFAULT_GRACE, Replicas, grace};
use crate::world::{index_of, release_of};
use std::collections::BTreeSet;
use std::sync::{Arc, Weak};
use std::time::Duration;
use teal_model::deployment::State;
use teal_model::fault::Fault;
use teal_model::ids::{ReleaseKey, ServiceKey};
use tokio::time::{Instant, sleep_until};

/// How often live releases are made whole and leftovers removed; a change that is seen does it earlier.
const EVERY: Duration = Duration::from_secs(15);
/// After a change, so that a restart in progress is not mistaken for an end.
const SETTLE: Duration = Duration::from_millis(500);

/// Runs as long as the agent does.
pub async fn follow(agent: Weak<Agent>) {
    let Some((mut world, mut proxy)) = agent.upgrade().map(|agent| (agent.watch.changes(), agent.traffic.state()))
    else {
        return;
    };
    let mut next = Instant::now() + SETTLE;
    let mut looping = false;
    loop {
        let changed = tokio::select! {
            changed = world.changed() => changed.is_ok(),
            _ = proxy.changed() => false,
            () = sleep_until(next) => false,
        };
        let Some(agent) = agent.upgrade() else { return };
        let crash_loop = proxy.borrow().crash_loop;
        if crash_loop && !looping {
            stop_crashing(&agent);
        }
        looping = crash_loop;
        if changed && world.borrow_and_update().engine_error.is_none() {
            if let Err(fault) = agent.publisher.refresh().await {
                agent.alert(format!("the route table cannot follow what runs: {fault}"));
            }
            next = next.min(Instant::now() + SETTLE);
        }
        if Instant::now() >= next {
            next = Instant::now() + EVERY;
            if let Err(fault) = tidy_up(&agent).await {
                // The daemon may only be away; what matters of it is an alert where a service is not whole.
                tracing::warn!(%fault, "not reconciled");
            }
        }
    }
}

/// The table may be what kills the proxy: back to the splits before it, under a new number.
fn stop_crashing(agent: &Agent) {
    agent.alert("the proxy crashed three times within ten seconds".to_owned());
    match agent.journal.unfinished() {
        Ok(unfinished) => {
            for kept in unfinished.iter().filter(|kept| kept.deployment.state.may_revert()) {
                if let Err(fault) = agent.abort(kept.deployment.number, "the agent, because the proxy crashes") {
                    agent.alert(fault.to_string());
                }
            }
        }
        Err(error) => agent.alert(error.to_string()),
    }
}

async fn tidy_up(agent: &Arc<Agent>) -> Result<(), Fault> {
    // Containers first, the journal second: a container that is in the list was begun for before the journal is read.
    let world = agent.watch.now();
    if world.engine_error.is_some() {
        return Ok(());
    }
    let unfinished = agent.journal.unfinished()?;
    let services = agent.journal.services()?;
    let mut busy: BTreeSet<ServiceKey> = unfinished
        .iter()
        .flat_map(|kept| kept.deployment.plan.members.iter().map(|member| member.service.clone()))
        .collect();
    busy.extend(agent.removing().iter().cloned());
    for record in services.iter().filter(|record| !busy.contains(&record.service)) {
        let Some(live) = &record.live else { continue };
        let there: BTreeSet<u32> = world.of(&live.release).map(|replica| replica.index).collect();
        if (1..=live.replicas).any(|index| !there.contains(&index)) {
            tracing::warn!(release = %live.release, "replicas are missing: they are started again");
            let how = Replicas { color: live.color, alias: live.recreate, restarts: true };
            if let Err(fault) = agent.start_release(&live.release, how).await {
                agent.alert(format!("{} is not whole: {fault}", live.release));
            }
        }
    }
    let live: BTreeSet<ReleaseKey> =
        services.iter().filter_map(|record| record.live.as_ref()).map(|live| live.release.clone()).collect();
    for replica in world.replicas.values() {
        if live.contains(&replica.release) || busy.contains(&replica.release.service) {
            continue;
        }
        // A stuck deployment keeps its containers until the next one: someone has to look at them.
        if is_stuck(agent, &replica.release)? {
            continue;
        }
        tracing::warn!(container = replica.container.name, release = ?release_of(&replica.container), index = index_of(&replica.container), "left over: removed");
        let patience = agent.store.release(&replica.release).map_or(DEFAULT_GRACE, |stored| grace(&stored));
        agent.runtime.stop(&replica.container.id, patience).await.map_err(crate::agent::fault_of)?;
        agent.runtime.remove(&replica.container.id, true).await.map_err(crate::agent::fault_of)?;
    }
    Ok(())
}

fn is_stuck(agent: &Agent, release: &ReleaseKey) -> Result<bool, Fault> {
    let newest = agent.journal.history(Some(&release.service.project), 1)?;
    Ok(newest.first().is_some_and(|kept| matches!(kept.deployment.state, State::Stuck { .. })))
}
