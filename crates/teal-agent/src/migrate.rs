//! A migration: one container of a release's image, run before any replica of it starts, and never started a second time.
//!
//! ```text
//! begin: created ─▶ marked in the store ─▶ started        looked at until it has ended        end: stopped, removed
//! ```
//!
//! What crashed before the mark has not run, and is gone on with. What is marked may have run: if its container is gone, so is
//! its exit code, and nobody knows how it ended.

use crate::agent::{Agent, fault_of};
use crate::containers::{links, nameless_place};
use crate::effects::{DEFAULT_GRACE, grace};
use crate::names::attachments;
use crate::runtime::{Container, ContainerSpec, Place, RuntimeError, Status, label, last_words};
use crate::store::StoredRelease;
use std::collections::BTreeMap;
use std::time::Duration;
use teal_model::config::{Healthcheck, Restart};
use teal_model::fault::{Code, Fault};
use teal_model::ids::{ReleaseKey, ServiceKey};

/// Of its log, in the fault of one that failed.
const LOG_LINES: u32 = 20;

/// How a migration stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Migration {
    Running,
    Exited {
        code: i64,
        last_lines: Vec<String>,
    },
    /// It was begun, and its container is not there any more.
    Gone,
}

/// How a migration failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MigrationEnd {
    Exited { code: i64 },
    TimedOut { after: Duration },
    Lost,
}

pub fn migration_failed(release: &ReleaseKey, end: MigrationEnd, last_lines: Vec<String>) -> Fault {
    let how = match end {
        MigrationEnd::Exited { code } => format!("exited with code {code}"),
        MigrationEnd::TimedOut { after } => format!("had not ended after {} s, and was stopped", after.as_secs()),
        MigrationEnd::Lost => "was begun, and its container is gone: how it ended is not known".to_owned(),
    };
    let fault = Fault::new(Code::MigrationFailed, format!("the migration of {release} {how}")).detail(last_lines);
    match end {
        MigrationEnd::Lost => {
            fault.hint("see in the data whether it has done its work; the next deployment runs it once more")
        }
        MigrationEnd::TimedOut { .. } => {
            fault.hint("raise `x-teal.migrate.timeout` if it only needs more time; what it had done already stays done")
        }
        MigrationEnd::Exited { .. } => fault,
    }
}

impl Agent {
    /// Its container is made and started, unless that was done before. Nothing to do for a release without a migration.
    ///
    /// # Errors
    /// It cannot be started, or the engine does not answer.
    pub async fn begin_migration(&self, release: &ReleaseKey) -> Result<(), Fault> {
        let stored = self.store.release(release)?;
        let Some(migrate) = &stored.service.teal.migrate else { return Ok(()) };
        let there = self.migration_containers(release).await?;
        if there.is_empty() && self.store.may_have_migrated(release) {
            return Ok(());
        }
        let container = match there.into_iter().next() {
            Some(container) => container,
            None => {
                self.ensure_volumes(release, &stored).await?;
                let spec = self.migration_spec(release, &stored, &migrate.command).await?;
                self.runtime.ensure_container(&spec).await.map_err(fault_of)?
            }
        };
        if container.status != Status::Created {
            return Ok(());
        }
        self.store.mark_migrated(release)?;
        self.runtime.start(&container.id).await.map_err(|error| match error {
            RuntimeError::Refused { why, .. } => {
                let what = format!("the migration of {release} cannot be started");
                Fault::new(Code::MigrationFailed, what).hint("correct `x-teal.migrate`").detail(vec![why])
            }
            error => fault_of(error),
        })
    }

    pub async fn migration(&self, release: &ReleaseKey) -> Result<Migration, Fault> {
        let Some(container) = self.migration_containers(release).await?.into_iter().next() else {
            return Ok(Migration::Gone);
        };
        Ok(match container.status {
            Status::Exited { code, out_of_memory } => {
                let of_memory = out_of_memory.then(|| "(it was killed because it ran out of memory)".to_owned());
                let mut last_lines = self.words_of(&container, LOG_LINES - u32::from(out_of_memory)).await;
                last_lines.extend(of_memory);
                Migration::Exited { code, last_lines }
            }
            Status::Removing | Status::Dead => Migration::Gone,
            _ => Migration::Running,
        })
    }

    /// What it has said last, also while it runs.
    pub async fn migration_lines(&self, release: &ReleaseKey) -> Result<Vec<String>, Fault> {
        match self.migration_containers(release).await?.first() {
            Some(container) => Ok(self.words_of(container, LOG_LINES).await),
            None => Ok(Vec::new()),
        }
    }

    /// Stopped if it runs, and removed with what only it had.
    pub async fn end_migration(&self, release: &ReleaseKey) -> Result<(), Fault> {
        let patience = self.store.release(release).map_or(DEFAULT_GRACE, |stored| grace(&stored));
        for container in self.migration_containers(release).await? {
            self.runtime.stop(&container.id, patience).await.map_err(fault_of)?;
            self.runtime.remove_with_volumes(&container.id).await.map_err(fault_of)?;
        }
        Ok(())
    }

    async fn words_of(&self, container: &Container, lines: u32) -> Vec<String> {
        last_words(&*self.runtime, &container.id, lines).await
    }

    async fn migration_containers(&self, release: &ReleaseKey) -> Result<Vec<Container>, Fault> {
        let ServiceKey { project, service } = &release.service;
        let number = release.number.to_string();
        let labels = [
            (label::AGENT, self.id.as_str()),
            (label::PROJECT, project),
            (label::SERVICE, service),
            (label::MIGRATION, &number),
        ];
        self.runtime.list(&labels).await.map_err(fault_of)
    }

    /// The service's own container with another command, and without what only its replicas may have: names, fixed addresses,
    /// published ports, health check, restarts.
    async fn migration_spec(
        &self,
        release: &ReleaseKey,
        stored: &StoredRelease,
        command: &[String],
    ) -> Result<ContainerSpec, Fault> {
        let ServiceKey { project, service } = &release.service;
        self.ensure_networks(project, stored).await?;
        let mut settings = stored.service.container.clone();
        settings.command = Some(command.to_vec());
        settings.healthcheck = Some(Healthcheck { test: Some(vec!["NONE".to_owned()]), ..Healthcheck::default() });
        settings.restart = Restart::No;
        // Nobody types, and a terminal would mix what it says with what it complains of.
        (settings.stdin_open, settings.tty) = (false, false);
        let mut labels: BTreeMap<String, String> = settings.labels.clone();
        for (key, value) in [
            (label::AGENT, self.id.clone()),
            (label::PROJECT, project.clone()),
            (label::SERVICE, service.clone()),
            (label::MIGRATION, release.number.to_string()),
        ] {
            labels.insert(key.to_owned(), value);
        }
        let world = self.watch.now();
        // It does not wait for others: one that was never deployed has nothing that a link could lead to.
        let mut reached = stored.clone();
        reached.service.links.retain(|link| world.holders.contains_key(&ServiceKey::new(project, &link.service)));
        let links = links(project, &reached);
        let networks = attachments(stored).into_iter().map(|(network, attachment)| Place {
            network: network.name.clone(),
            links: links.clone(),
            ..nameless_place(attachment)
        });
        Ok(ContainerSpec {
            name: format!("{project}-{service}-migrate-{}", release.number),
            image_id: stored.image_id.clone().unwrap_or_else(|| settings.image.clone()),
            labels,
            networks: networks.collect(),
            network_mode: self.network_mode(project, stored)?,
            joins: self.joins(project, stored)?,
            settings,
            ..ContainerSpec::default()
        })
    }
}
