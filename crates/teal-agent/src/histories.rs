//! How often each service fails as a rule: what its live releases have counted, kept over restarts.

use crate::agent::Agent;
use crate::journal::JournalError;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;
use teal_model::ids::{ReleaseKey, ServiceKey};
use teal_model::verdict::{History, counts};
use teal_model::wire::Statistics;
use tokio::time::{Instant, sleep};

const EVERY: Duration = Duration::from_secs(1);
const WRITTEN_EVERY: Duration = Duration::from_secs(60);

pub struct Histories(Mutex<BTreeMap<ServiceKey, History>>);

impl Histories {
    pub fn of(kept: BTreeMap<ServiceKey, History>) -> Self {
        Self(Mutex::new(kept))
    }

    fn locked(&self) -> MutexGuard<'_, BTreeMap<ServiceKey, History>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn now(&self) -> BTreeMap<ServiceKey, History> {
        self.locked().clone()
    }
}

/// Adds up what live releases answer. Runs as long as the agent does.
pub async fn keep(agent: Weak<Agent>) {
    let mut last: Vec<Option<Arc<Statistics>>> = Vec::new();
    let mut took = Instant::now();
    let mut written = Instant::now();
    loop {
        sleep(EVERY).await;
        let Some(agent) = agent.upgrade() else { return };
        let live = match live_alone(&agent) {
            Ok(live) => live,
            Err(error) => {
                tracing::warn!(%error, "how often services fail is not counted");
                continue;
            }
        };
        let over = std::mem::replace(&mut took, Instant::now()).elapsed();
        let newest = agent.meter.newest();
        last.resize(newest.len(), None);
        for (last, newest) in last.iter_mut().zip(newest) {
            let before = std::mem::replace(last, newest.clone());
            let (Some(before), Some(newest)) = (before, newest) else { continue };
            if before.instance != newest.instance {
                continue;
            }
            for now in newest.releases.iter().filter(|now| live.contains(&now.release)) {
                let Some(then) = before.releases.iter().find(|then| then.release == now.release) else { continue };
                let mut histories = agent.histories.locked();
                let history = histories.entry(now.release.service.clone()).or_default();
                history.add(counts(now, Some(then)), u64::try_from(over.as_millis()).unwrap_or(u64::MAX));
            }
        }
        if written.elapsed() >= WRITTEN_EVERY {
            written = Instant::now();
            let mut histories = agent.histories.now();
            histories.retain(|service, _| live.iter().any(|live| &live.service == service));
            if let Err(error) = agent.journal.put_histories(&histories) {
                tracing::warn!(%error, "how often services fail is not written down");
            }
        }
    }
}

/// Live releases of services that nobody deploys: what happens in a deployment is no history yet.
fn live_alone(agent: &Agent) -> Result<Vec<ReleaseKey>, JournalError> {
    let busy: Vec<ServiceKey> = agent
        .journal
        .unfinished()?
        .iter()
        .flat_map(|kept| kept.deployment.plan.services().cloned().collect::<Vec<_>>())
        .collect();
    let live = agent.journal.services()?.into_iter().filter_map(|record| record.live).map(|live| live.release);
    Ok(live.filter(|release| !busy.contains(&release.service)).collect())
}
