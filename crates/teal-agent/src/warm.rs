//! Releases that are kept warm: out of traffic, running, and gone when their time is over or their memory is needed.

use crate::agent::{Agent, fault_of};
use crate::alerts::Subject;
use crate::clock::unix_ms;
use crate::journal::Retained;
use crate::nginx::Need;
use crate::probe::{Answer, Interview};
use crate::reach::Ways;
use futures_util::future::{join_all, try_join_all};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;
use teal_model::config::Restart;
use teal_model::deployment::{Health, Routing};
use teal_model::fault::{Code, Fault};
use teal_model::ids::{ReleaseKey, ServiceKey};
use teal_model::plan::Span;
use tokio::time::{sleep, timeout};

/// Below this part of all memory that is free, what is only warm goes.
const SHORT: u64 = 20;
/// Exchanges that a release out of traffic may still have: the other release asked it for a page.
const FINISH_WITHIN: Duration = Duration::from_secs(5);

impl Agent {
    /// Nothing starts it again by itself: it is the live release that a restart of the host needs.
    pub async fn retain(&self, release: &ReleaseKey) -> Result<(), Fault> {
        let containers = self.containers_of(release).await?;
        try_join_all(containers.iter().map(|container| self.runtime.set_restart(&container.id, Restart::No)))
            .await
            .map_err(fault_of)?;
        Ok(())
    }

    /// Out of the table, without a request, and gone. Safe to repeat.
    pub async fn drop_retained(&self, release: &ReleaseKey) -> Result<(), Fault> {
        self.let_go(release).await?;
        self.end_warm(release).await
    }

    /// From here on nobody goes back to it by a flip.
    async fn let_go(&self, release: &ReleaseKey) -> Result<(), Fault> {
        let service = &release.service;
        let routing = self.publisher.routings().await.remove(service);
        if let Some(mut routing) = routing.filter(|routing| routing.listed.contains(release)) {
            if routing.split.iter().any(|(one, share)| one == release && *share > 0) {
                return Err(Fault::new(Code::Internal, format!("{release} has requests, and cannot be ended")));
            }
            routing.listed.retain(|one| one != release);
            self.unlist(service, routing).await?;
        }
        Ok(self.journal.forget_retained(release)?)
    }

    async fn end_warm(&self, release: &ReleaseKey) -> Result<(), Fault> {
        let deadline = tokio::time::Instant::now() + FINISH_WITHIN;
        while tokio::time::Instant::now() < deadline {
            let counted = self.traffic.ask().await;
            let idle = |one: &teal_model::wire::ReleaseStatistics| &one.release != release || one.in_flight == 0;
            if counted.is_some_and(|counted| counted.releases.iter().all(idle)) {
                break;
            }
            sleep(Duration::from_millis(20)).await;
        }
        self.stop_release(release, Span::ALL).await?;
        self.remove_release(release).await
    }

    async fn unlist(&self, service: &ServiceKey, routing: Routing) -> Result<(), Fault> {
        let change = BTreeMap::from([(service.clone(), Some(routing.clone()))]);
        let (_, said) = self.publisher.flip(change, Need::Back).await?;
        self.say_of_nginx(&said);
        self.journal.put_routing(service, Some(&routing))?;
        Ok(())
    }

    /// What is warm and may be gone back to, by service.
    pub fn warm(&self) -> Result<BTreeMap<ServiceKey, Retained>, Fault> {
        Ok(self.journal.retained()?.into_iter().map(|one| (one.release.service.clone(), one)).collect())
    }

    /// Ends what is warm and need not be any more. `busy`: services that others see to.
    pub async fn cool_down(self: &Arc<Self>, busy: &BTreeSet<ServiceKey>) -> Result<(), Fault> {
        let short = memory().is_some_and(|memory| memory.available < memory.total / SHORT);
        for Retained { release, until_ms } in self.journal.retained()? {
            if busy.contains(&release.service) {
                continue;
            }
            let why = match until_ms {
                Some(until_ms) if until_ms <= unix_ms() => "its time is over",
                _ if short => "memory is short",
                _ if self.is_spent(&release) => "it does not run any more",
                _ => continue,
            };
            tracing::info!(%release, why, "was kept warm: ended");
            let subject = Subject::Service(release.service.clone(), "warm");
            if let Err(fault) = self.let_go(&release).await {
                self.alert(subject, format!("{release} cannot be ended: {fault}"));
                continue;
            }
            // Its containers take the time that they are given, and nobody waits for that.
            let agent = self.clone();
            self.cooling().insert(release.clone());
            tokio::spawn(async move {
                let ended = agent.end_warm(&release).await;
                agent.cooling().remove(&release);
                // It is left over then, and removed as such.
                agent.tell(subject, ended.map_err(|fault| format!("{release} is not ended yet: {fault}")));
            });
        }
        Ok(())
    }

    /// Not all of it runs: nobody goes back to it by a flip.
    pub fn is_spent(&self, release: &ReleaseKey) -> bool {
        let world = self.watch.now();
        world.of(release).next().is_none()
            || world.of(release).any(|replica| matches!(replica.health(), Health::Failed { .. }))
    }

    /// Whether every replica passes its check now; None: nobody can say.
    pub async fn is_ready_now(&self, release: &ReleaseKey) -> Option<bool> {
        self.are_ready_now(release, Span::ALL).await
    }

    /// The same of some of them.
    pub async fn are_ready_now(&self, release: &ReleaseKey, span: Span) -> Option<bool> {
        let stored = self.store.release(release).ok()?;
        let world = self.watch.now();
        let replicas: Vec<_> = world.of(release).filter(|replica| span.contains(replica.index)).collect();
        if replicas.is_empty() || world.engine_error.is_some() {
            return None;
        }
        let patience = Duration::from_millis(stored.service.teal.health.timeout_ms);
        let checks = replicas.iter().map(|replica| {
            let ways = Ways::of(&replica.container, &stored.reach);
            let mut interview = Interview::new(stored.service.clone(), ways.clone(), Vec::new(), &replica.doors);
            async move {
                if replica.health() != Health::Ready {
                    return false;
                }
                ways.is_empty() || matches!(timeout(patience, interview.round(None)).await, Ok(Answer::Passed))
            }
        });
        Some(join_all(checks).await.into_iter().all(|passed| passed))
    }

    /// Why the live release of a service would not stay beside the next one; by what its containers use now.
    pub fn short_of_memory(&self, release: &ReleaseKey) -> Option<String> {
        let memory = memory()?;
        let world = self.watch.now();
        let used: u64 = world.of(release).filter_map(|replica| resident(replica.container.pid)).sum();
        let short = memory.available.saturating_sub(used) < memory.total / SHORT;
        short.then(|| {
            format!(
                "it uses {} MiB, the next one may need as much, and {} of {} MiB are available",
                used >> 20,
                memory.available >> 20,
                memory.total >> 20
            )
        })
    }
}

struct Memory {
    total: u64,
    available: u64,
}

fn memory() -> Option<Memory> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    Some(Memory { total: kilobytes(&text, "MemTotal:")?, available: kilobytes(&text, "MemAvailable:")? })
}

/// Of a process, in bytes.
fn resident(pid: i32) -> Option<u64> {
    kilobytes(&std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?, "VmRSS:")
}

fn kilobytes(text: &str, key: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(key))?;
    Some(line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok()? << 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_read_as_the_kernel_writes_it() {
        assert_eq!(kilobytes("MemTotal:       24689436 kB\nMemFree: 1 kB\n", "MemTotal:"), Some(24_689_436 << 10));
        assert_eq!(kilobytes("MemTotal: many\n", "MemTotal:"), None);
        let memory = memory().unwrap();
        assert!(memory.available < memory.total && resident(std::process::id() as i32).unwrap() > 1 << 20);
    }
}
