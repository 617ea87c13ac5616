//! What happened and what is meant to happen, on disk before it happens: SQLite, and the only writer of state.
//!
//! A deployment is kept as a snapshot beside its events. Both are written in one transaction, so going on after a crash is
//! reading the snapshot and asking what comes next: an intent without an outcome is simply not among the things done.

mod places;
mod record;
mod rows;
mod warm;

pub use places::{HostPort, Slot};
pub use record::{AdoptedReplica, Diversion, Kept, ReleaseRecord, ServiceRecord};
use rows::{put_entry, put_release, put_releases, put_routing, put_snapshot, settle_claims, settle_stuck};
use rusqlite::{Connection, OptionalExtension, Transaction, params};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use teal_model::api::{Notice, What};
use teal_model::deployment::{Action, Deployment, Event, Routing, State};
use teal_model::fault::{Code, Fault};
use teal_model::ids::{ReleaseKey, ServiceKey};
use teal_model::receipt::Receipt;
use teal_model::wire::ListenerKey;
pub use warm::{Retained, TakenBack};

const SCHEMA: &str = "
CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS deployments (
  number INTEGER PRIMARY KEY AUTOINCREMENT, project TEXT NOT NULL, services TEXT NOT NULL, who TEXT NOT NULL,
  started_ms INTEGER NOT NULL, ended_ms INTEGER, snapshot TEXT NOT NULL, receipt TEXT);
CREATE TABLE IF NOT EXISTS unfinished (service TEXT PRIMARY KEY, deployment INTEGER NOT NULL REFERENCES deployments(number));
CREATE TABLE IF NOT EXISTS entries (
  deployment INTEGER NOT NULL, sequence INTEGER NOT NULL, at_ms INTEGER NOT NULL, entry TEXT, notice TEXT,
  PRIMARY KEY (deployment, sequence)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS releases (
  service TEXT NOT NULL, number INTEGER NOT NULL, deployment INTEGER NOT NULL, record TEXT NOT NULL,
  was_live INTEGER NOT NULL DEFAULT 0, PRIMARY KEY (service, number)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS addresses (
  network TEXT NOT NULL, container TEXT NOT NULL, address TEXT NOT NULL,
  PRIMARY KEY (network, container), UNIQUE (network, address)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS diversions (
  listener TEXT PRIMARY KEY, service TEXT NOT NULL, stand_in TEXT NOT NULL, open INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS host_ports (
  port INTEGER PRIMARY KEY, service TEXT NOT NULL, color TEXT NOT NULL, replica INTEGER NOT NULL, target INTEGER NOT NULL,
  UNIQUE (service, color, replica, target));
CREATE TABLE IF NOT EXISTS retained (service TEXT PRIMARY KEY, release INTEGER NOT NULL, until_ms INTEGER);
CREATE TABLE IF NOT EXISTS taken_back (
  service TEXT PRIMARY KEY, release INTEGER NOT NULL, image_id TEXT NOT NULL, settings_hash TEXT NOT NULL, why TEXT NOT NULL,
  deployment INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS histories (service TEXT PRIMARY KEY, history TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS services (service TEXT PRIMARY KEY, live INTEGER, since_ms INTEGER, routing TEXT);
";
/// Raised when a table changes its meaning.
const SCHEMA_VERSION: u32 = 3;

#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    #[error("the journal {path} cannot be opened: {why}")]
    Open { path: PathBuf, why: String },
    #[error(
        "the journal {path} was written by another version of Teal (schema {theirs}, this one knows {SCHEMA_VERSION})"
    )]
    Version { path: PathBuf, theirs: u32 },
    #[error("the journal {path} cannot be written or read: {why}")]
    Io { path: PathBuf, why: String },
    #[error("{service} is being deployed already: deployment {deployment}, begun by {who} {seconds} s ago")]
    Busy { service: ServiceKey, deployment: u64, who: String, seconds: u64 },
}

impl From<JournalError> for Fault {
    fn from(error: JournalError) -> Fault {
        let code = match &error {
            JournalError::Open { .. } => Code::StateDir,
            JournalError::Version { .. } => Code::AgentVersion,
            JournalError::Io { .. } => Code::Journal,
            JournalError::Busy { .. } => Code::Busy,
        };
        let fault = Fault::new(code, error.to_string());
        match error {
            JournalError::Version { .. } => {
                fault.hint("run the version of Teal that wrote it, or use another --state-dir")
            }
            _ => fault,
        }
    }
}

pub type Result<T> = std::result::Result<T, JournalError>;

/// One durable line: what is meant to be done, or what happened.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "entry", rename_all = "snake_case")]
pub enum Entry {
    Began { deployment: u64 },
    Intent { action: Action },
    Event { event: Event },
}

pub struct Journal {
    path: PathBuf,
    db: Mutex<Connection>,
}

impl Journal {
    /// Opens or creates `journal.sqlite3` in the state directory.
    pub fn open(state_dir: &Path) -> Result<Self> {
        let path = state_dir.join("journal.sqlite3");
        let open = || -> rusqlite::Result<Connection> {
            let db = Connection::open(&path)?;
            db.busy_timeout(std::time::Duration::from_secs(5))?;
            db.pragma_update(None, "journal_mode", "WAL")?;
            // An intent is durable before its effect, so every commit reaches the disk.
            db.pragma_update(None, "synchronous", "FULL")?;
            db.execute_batch(SCHEMA)?;
            Ok(db)
        };
        let db = open().map_err(|error| JournalError::Open { path: path.clone(), why: error.to_string() })?;
        let journal = Self { path, db: Mutex::new(db) };
        let version = journal.meta("schema", || SCHEMA_VERSION.to_string())?;
        if version != SCHEMA_VERSION.to_string() {
            return Err(JournalError::Version { path: journal.path.clone(), theirs: version.parse().unwrap_or(0) });
        }
        Ok(journal)
    }

    fn db(&self) -> MutexGuard<'_, Connection> {
        // A panic elsewhere cannot leave a transaction half done: dropping it rolls it back.
        self.db.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn io(&self, error: impl std::fmt::Display) -> JournalError {
        JournalError::Io { path: self.path.clone(), why: error.to_string() }
    }

    fn write<T>(
        &self,
        body: impl FnOnce(&Transaction<'_>) -> std::result::Result<T, Box<dyn std::error::Error>>,
    ) -> Result<T> {
        let mut db = self.db();
        let run = || -> std::result::Result<T, Box<dyn std::error::Error>> {
            let transaction = db.transaction()?;
            let value = body(&transaction)?;
            transaction.commit()?;
            Ok(value)
        };
        run().map_err(|error| self.io(error))
    }

    /// The value of a key, made when missing.
    fn meta(&self, key: &str, make: impl FnOnce() -> String) -> Result<String> {
        self.write(|t| {
            let found: Option<String> =
                t.query_row("SELECT value FROM meta WHERE key = ?1", [key], |row| row.get(0)).optional()?;
            if let Some(found) = found {
                return Ok(found);
            }
            let value = make();
            t.execute("INSERT INTO meta (key, value) VALUES (?1, ?2)", params![key, value])?;
            Ok(value)
        })
    }

    /// Names this state directory in labels: several agents may share one Docker daemon.
    pub fn agent_id(&self) -> Result<String> {
        self.meta("agent", || crate::random_hex(8))
    }

    /// Salts the hashes of settings, since settings hold secrets and the journal does not.
    pub fn salt(&self) -> Result<String> {
        self.meta("salt", || crate::random_hex(16))
    }

    /// The next epoch of route table numbers.
    pub fn begin_epoch(&self) -> Result<u64> {
        self.write(|t| {
            let epoch: Option<String> =
                t.query_row("SELECT value FROM meta WHERE key = 'epoch'", [], |row| row.get(0)).optional()?;
            let next = epoch.and_then(|epoch| epoch.parse::<u64>().ok()).unwrap_or(0) + 1;
            t.execute("INSERT OR REPLACE INTO meta (key, value) VALUES ('epoch', ?1)", [next.to_string()])?;
            Ok(next)
        })
    }

    /// Begins a deployment: claims its services, reserves its release numbers.
    pub fn begin(&self, deployment: &mut Deployment, who: &str, now_ms: u64) -> Result<()> {
        let services: Vec<String> = deployment.plan.services().map(ToString::to_string).collect();
        if let Some(busy) = self.busy(&services, now_ms)? {
            return Err(busy);
        }
        self.write(|t| {
            let names: Vec<&str> = deployment.plan.services().map(|key| key.service.as_str()).collect();
            t.execute(
                "INSERT INTO deployments (project, services, who, started_ms, snapshot) VALUES (?1, ?2, ?3, ?4, '')",
                params![deployment.plan.project, serde_json::to_string(&names)?, who, now_ms as i64],
            )?;
            deployment.number = t.last_insert_rowid() as u64;
            for service in &services {
                t.execute(
                    "INSERT INTO unfinished (service, deployment) VALUES (?1, ?2)",
                    params![service, deployment.number as i64],
                )?;
            }
            put_releases(t, deployment.number, &deployment.plan, now_ms)?;
            let planned = What::Planned { plan: Box::new(deployment.plan.clone()), step: String::new() };
            put_entry(t, deployment.number, now_ms, Some(&Entry::Began { deployment: deployment.number }), planned)?;
            put_snapshot(t, deployment)
        })
    }

    fn busy(&self, services: &[String], now_ms: u64) -> Result<Option<JournalError>> {
        let db = self.db();
        for service in services {
            let row = db
                .query_row(
                    "SELECT d.number, d.who, d.started_ms FROM unfinished u JOIN deployments d ON d.number = u.deployment WHERE u.service = ?1",
                    [service],
                    |row| Ok((row.get::<_, i64>(0)?, row.get::<_, String>(1)?, row.get::<_, i64>(2)?)),
                )
                .optional()
                .map_err(|error| self.io(error))?;
            if let Some((deployment, who, started_ms)) = row {
                let service = ServiceKey::try_from(service.clone()).map_err(|error| self.io(error))?;
                let seconds = now_ms.saturating_sub(started_ms as u64) / 1000;
                return Ok(Some(JournalError::Busy { service, deployment: deployment as u64, who, seconds }));
            }
        }
        Ok(None)
    }

    /// Is any of these services being deployed? Says so as the error that a second deployment gets.
    pub fn refuse_busy(&self, services: &[ServiceKey], now_ms: u64) -> Result<()> {
        let services: Vec<String> = services.iter().map(ToString::to_string).collect();
        self.busy(&services, now_ms)?.map_or(Ok(()), Err)
    }

    /// An intent: durable before its effect.
    pub fn intend(&self, deployment: &Deployment, action: &Action, now_ms: u64) -> Result<Notice> {
        let what = What::Doing { words: action.words() };
        self.write(|t| put_entry(t, deployment.number, now_ms, Some(&Entry::Intent { action: action.clone() }), what))
    }

    /// What happened, with the deployment as it is after it.
    pub fn happened(&self, deployment: &Deployment, event: &Event, what: What, now_ms: u64) -> Result<Notice> {
        self.write(|t| {
            let notice = put_entry(t, deployment.number, now_ms, Some(&Entry::Event { event: event.clone() }), what)?;
            put_snapshot(t, deployment)?;
            match event {
                // What is stuck stays as it was published last.
                Event::Did { action: Action::Publish | Action::Cap { .. }, .. }
                    if !matches!(deployment.state, State::Stuck { .. }) =>
                {
                    for (service, routing) in deployment.routing() {
                        put_routing(t, &service, routing.as_ref())?;
                    }
                }
                Event::Resolved { plan } => settle_claims(t, deployment.number, plan, now_ms)?,
                Event::Did { action, .. } => warm::put_warmth(t, deployment, action, now_ms)?,
                Event::Entered { to: State::Retiring } => warm::put_live(t, deployment, now_ms)?,
                _ => {}
            }
            Ok(notice)
        })
    }

    /// The end: claims are given back and the receipt is kept.
    pub fn end(&self, deployment: &Deployment, receipt: &Receipt, now_ms: u64) -> Result<Notice> {
        self.write(|t| {
            t.execute("DELETE FROM unfinished WHERE deployment = ?1", [deployment.number as i64])?;
            match &deployment.state {
                State::Stuck { .. } => settle_stuck(t, deployment, now_ms)?,
                State::Reverted { why } if deployment.found_bad => warm::put_reverted(t, deployment, why)?,
                _ => {}
            }
            t.execute(
                "UPDATE deployments SET ended_ms = ?2, receipt = ?3 WHERE number = ?1",
                params![deployment.number as i64, now_ms as i64, serde_json::to_string(receipt)?],
            )?;
            put_snapshot(t, deployment)?;
            places::free_host_ports(t)?;
            put_entry(t, deployment.number, now_ms, None, What::Ended { receipt: Box::new(receipt.clone()) })
        })
    }

    /// Containers of somebody else become the live releases of their services: all of it, or nothing. It is a deployment that
    /// has ended in the history; its plan has no member.
    pub fn adopt(
        &self,
        deployment: &mut Deployment,
        who: &str,
        releases: &[ReleaseRecord],
        receipt: &mut Receipt,
        now_ms: u64,
    ) -> Result<()> {
        self.write(|t| {
            let names: Vec<&str> = releases.iter().map(|record| record.release.service.service.as_str()).collect();
            t.execute(
                "INSERT INTO deployments (project, services, who, started_ms, ended_ms, snapshot) VALUES (?1, ?2, ?3, ?4, ?4, '')",
                params![deployment.plan.project, serde_json::to_string(&names)?, who, now_ms as i64],
            )?;
            deployment.number = t.last_insert_rowid() as u64;
            receipt.deployment = deployment.number;
            for record in releases {
                put_release(t, deployment.number, record)?;
                t.execute(
                    "UPDATE releases SET was_live = 1 WHERE service = ?1 AND number = ?2",
                    params![record.release.service.to_string(), record.release.number as i64],
                )?;
                t.execute(
                    "INSERT INTO services (service, live, since_ms) VALUES (?1, ?2, ?3) ON CONFLICT (service) DO UPDATE SET live = ?2, since_ms = ?3, routing = NULL",
                    params![record.release.service.to_string(), record.release.number as i64, now_ms as i64],
                )?;
            }
            t.execute(
                "UPDATE deployments SET receipt = ?2 WHERE number = ?1",
                params![deployment.number as i64, serde_json::to_string(receipt)?],
            )?;
            put_snapshot(t, deployment)?;
            let planned = What::Planned { plan: Box::new(deployment.plan.clone()), step: String::new() };
            put_entry(t, deployment.number, now_ms, Some(&Entry::Began { deployment: deployment.number }), planned)?;
            put_entry(t, deployment.number, now_ms, None, What::Ended { receipt: Box::new(receipt.clone()) })?;
            Ok(())
        })
    }

    pub fn release(&self, release: &ReleaseKey) -> Result<Option<ReleaseRecord>> {
        let db = self.db();
        let read = || -> std::result::Result<Option<ReleaseRecord>, Box<dyn std::error::Error>> {
            let text: Option<String> = db
                .query_row(
                    "SELECT record FROM releases WHERE service = ?1 AND number = ?2",
                    params![release.service.to_string(), release.number as i64],
                    |row| row.get(0),
                )
                .optional()?;
            Ok(text.map(|text| serde_json::from_str(&text)).transpose()?)
        };
        read().map_err(|error| self.io(error))
    }

    /// A service that is removed: no live release, no routing. Its releases stay in the history, and its numbers are never used again.
    pub fn forget(&self, service: &ServiceKey) -> Result<()> {
        self.write(|t| {
            t.execute(
                "UPDATE services SET live = NULL, since_ms = NULL, routing = NULL WHERE service = ?1",
                [service.to_string()],
            )?;
            for table in ["retained", "taken_back", "histories"] {
                t.execute(&format!("DELETE FROM {table} WHERE service = ?1"), [service.to_string()])?;
            }
            t.execute("DELETE FROM diversions WHERE service = ?1 AND NOT open", [service.to_string()])?;
            places::free_host_ports(t)
        })
    }

    pub fn put_routing(&self, service: &ServiceKey, routing: Option<&Routing>) -> Result<()> {
        self.write(|t| put_routing(t, service, routing))
    }

    pub fn unfinished(&self) -> Result<Vec<Kept>> {
        self.deployments("WHERE ended_ms IS NULL ORDER BY number", &[])
    }

    /// Newest first.
    pub fn history(&self, project: Option<&str>, limit: u32) -> Result<Vec<Kept>> {
        match project {
            Some(project) => self.deployments("WHERE project = ?1 ORDER BY number DESC LIMIT ?2", &[&project, &limit]),
            None => self.deployments("ORDER BY number DESC LIMIT ?1", &[&limit]),
        }
    }

    pub fn deployment(&self, number: u64) -> Result<Option<Kept>> {
        Ok(self.deployments("WHERE number = ?1", &[&(number as i64)])?.into_iter().next())
    }

    fn deployments(&self, tail: &str, values: &[&dyn rusqlite::ToSql]) -> Result<Vec<Kept>> {
        let db = self.db();
        let read = || -> std::result::Result<Vec<Kept>, Box<dyn std::error::Error>> {
            let mut query = db.prepare(&format!(
                "SELECT project, services, who, started_ms, ended_ms, snapshot, receipt FROM deployments {tail}"
            ))?;
            let mut rows = query.query(values)?;
            let mut kept = Vec::new();
            while let Some(row) = rows.next()? {
                let receipt: Option<String> = row.get(6)?;
                kept.push(Kept {
                    project: row.get(0)?,
                    services: serde_json::from_str(&row.get::<_, String>(1)?)?,
                    who: row.get(2)?,
                    started_ms: row.get::<_, i64>(3)? as u64,
                    ended_ms: row.get::<_, Option<i64>>(4)?.map(|ms| ms as u64),
                    deployment: serde_json::from_str(&row.get::<_, String>(5)?)?,
                    receipt: receipt.map(|text| serde_json::from_str(&text)).transpose()?,
                });
            }
            Ok(kept)
        };
        read().map_err(|error| self.io(error))
    }

    /// The notices of a deployment from `from` on.
    pub fn notices(&self, deployment: u64, from: u64) -> Result<Vec<Notice>> {
        let db = self.db();
        let read = || -> std::result::Result<Vec<Notice>, Box<dyn std::error::Error>> {
            let mut query = db.prepare("SELECT notice FROM entries WHERE deployment = ?1 AND sequence >= ?2 AND notice IS NOT NULL ORDER BY sequence")?;
            let mut rows = query.query(params![deployment as i64, from as i64])?;
            let mut notices = Vec::new();
            while let Some(row) = rows.next()? {
                notices.push(serde_json::from_str(&row.get::<_, String>(0)?)?);
            }
            Ok(notices)
        };
        read().map_err(|error| self.io(error))
    }

    pub fn services(&self) -> Result<Vec<ServiceRecord>> {
        let db = self.db();
        let read = || -> std::result::Result<Vec<ServiceRecord>, Box<dyn std::error::Error>> {
            let mut query = db.prepare(
                "SELECT s.service, s.since_ms, s.routing, r.record FROM services s LEFT JOIN releases r ON r.service = s.service AND r.number = s.live ORDER BY s.service",
            )?;
            let mut rows = query.query([])?;
            let mut services = Vec::new();
            while let Some(row) = rows.next()? {
                let (routing, record): (Option<String>, Option<String>) = (row.get(2)?, row.get(3)?);
                services.push(ServiceRecord {
                    service: ServiceKey::try_from(row.get::<_, String>(0)?)?,
                    since_ms: row.get::<_, Option<i64>>(1)?.map(|ms| ms as u64),
                    routing: routing.map(|text| serde_json::from_str(&text)).transpose()?,
                    live: record.map(|text| serde_json::from_str(&text)).transpose()?,
                });
            }
            Ok(services)
        };
        read().map_err(|error| self.io(error))
    }

    /// How the newest deployment of a service stands.
    pub fn newest_of(&self, service: &ServiceKey) -> Result<Option<Kept>> {
        let history = self.history(Some(&service.project), 100)?;
        Ok(history.into_iter().find(|kept| kept.services.contains(&service.service)))
    }

    /// The number that the next release of each service of a project gets.
    pub fn next_releases(&self, project: &str) -> Result<BTreeMap<String, u64>> {
        let db = self.db();
        let read = || -> std::result::Result<BTreeMap<String, u64>, Box<dyn std::error::Error>> {
            let mut query = db.prepare("SELECT service, max(number) FROM releases GROUP BY service")?;
            let mut rows = query.query([])?;
            let mut next = BTreeMap::new();
            while let Some(row) = rows.next()? {
                let key = ServiceKey::try_from(row.get::<_, String>(0)?)?;
                if key.project == project {
                    next.insert(key.service, row.get::<_, i64>(1)? as u64 + 1);
                }
            }
            Ok(next)
        };
        read().map_err(|error| self.io(error))
    }
}

/// As it was written: an address of the host's own namespace.
fn host_listener(text: &str) -> std::result::Result<ListenerKey, std::net::AddrParseError> {
    Ok(ListenerKey::host(text.parse::<std::net::SocketAddr>()?))
}

type Written<T> = std::result::Result<T, Box<dyn std::error::Error>>;
