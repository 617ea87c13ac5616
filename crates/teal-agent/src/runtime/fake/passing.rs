//! How the world changes by itself: health, ends, restarts.

use super::Checked;
use super::world::{Kept, World};
use crate::runtime::{ContainerHealth, Status};
use teal_model::config::Restart;
use tokio::time::Instant;

impl World {
    /// Brings every container to where it is by now.
    pub(super) fn settle(&mut self) {
        let now = Instant::now();
        for at in 0..self.containers.len() {
            if self.containers[at].seen.status != Status::Running {
                continue;
            }
            self.check(at, now);
            if let Some((_, code)) = self.containers[at].ends.filter(|(when, _)| *when <= now) {
                self.end(at, code);
            }
        }
    }

    /// When a container changes by itself next.
    pub(super) fn next_due(&self) -> Option<Instant> {
        let running = self.containers.iter().filter(|k| k.seen.status == Status::Running);
        let moments = running.flat_map(|k| {
            let due = k.verdict_at().filter(|_| k.seen.health == Some(ContainerHealth::Starting));
            [due.map(|(when, _)| when), k.ends.map(|(when, _)| when)]
        });
        moments.flatten().min()
    }

    fn check(&mut self, at: usize, now: Instant) {
        let kept = &mut self.containers[at];
        if kept.seen.health != Some(ContainerHealth::Starting) {
            return;
        }
        let Some((_, health)) = kept.verdict_at().filter(|(when, _)| *when <= now) else {
            return;
        };
        let action =
            if health == ContainerHealth::Healthy { "health_status: healthy" } else { "health_status: unhealthy" };
        kept.seen.health = Some(health);
        let id = kept.seen.id.clone();
        self.tell(&id, action);
    }

    pub(super) fn end(&mut self, at: usize, code: i64) {
        let kept = &self.containers[at];
        if kept.seen.status != Status::Running {
            return;
        }
        self.unplug(at);
        let kept = &mut self.containers[at];
        kept.seen.status = Status::Exited { code, out_of_memory: false };
        kept.seen.health = kept.checked.then_some(ContainerHealth::Unhealthy(String::new()));
        kept.ends = None;
        let (id, stopped) = (kept.seen.id.clone(), kept.stopped);
        let again = match kept.restart {
            Restart::No => false,
            Restart::Always | Restart::UnlessStopped => true,
            Restart::OnFailure(most) => code != 0 && (most == 0 || kept.seen.restarts < u64::from(most)),
        };
        // An app that ends the moment it starts would start for ever in one moment of a paused clock.
        let hopeless = kept.app.exits.is_some_and(|(after, _)| after.is_zero());
        self.said.notify_waiters();
        self.tell(&id, "die");
        if again && !stopped && !hopeless {
            self.containers[at].seen.restarts += 1;
            self.run(at);
        }
    }
}

impl Kept {
    fn verdict_at(&self) -> Option<(Instant, ContainerHealth)> {
        let started = self.started?;
        match &self.app.health {
            Checked::HealthyOnceBooted => Some((started + self.app.boots_in, ContainerHealth::Healthy)),
            Checked::HealthyAfter(after) => Some((started + *after, ContainerHealth::Healthy)),
            Checked::StartingForEver => None,
            Checked::UnhealthyAfter(after, output) => {
                Some((started + *after, ContainerHealth::Unhealthy(output.clone())))
            }
        }
    }
}
