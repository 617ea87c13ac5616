//! What is kept for going back: releases out of traffic that are warm, those that were live, what was taken back and how often a
//! service has failed.

use super::{Journal, ReleaseRecord, Result, Written};
use crate::lineage::{Lineage, Origin};
use rusqlite::{Transaction, params};
use std::collections::BTreeMap;
use teal_model::config::Retain;
use teal_model::deployment::{Action, Deployment};
use teal_model::fault::Fault;
use teal_model::ids::{ReleaseKey, ServiceKey};
use teal_model::plan::Member;
use teal_model::verdict::History;

/// A release out of traffic whose containers go on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Retained {
    pub release: ReleaseKey,
    /// Unix milliseconds; None: until the next deployment.
    pub until_ms: Option<u64>,
}

/// The newest release of a service that was taken back for a fault of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TakenBack {
    pub release: ReleaseKey,
    pub image_id: String,
    pub settings_hash: String,
    pub why: String,
    /// That took it back, and others with it.
    pub deployment: u64,
}

impl Journal {
    pub fn retained(&self) -> Result<Vec<Retained>> {
        let db = self.db();
        let read = || -> Written<Vec<Retained>> {
            let mut query = db.prepare("SELECT service, release, until_ms FROM retained ORDER BY service")?;
            let mut rows = query.query([])?;
            let mut all = Vec::new();
            while let Some(row) = rows.next()? {
                let service = ServiceKey::try_from(row.get::<_, String>(0)?)?;
                let release = ReleaseKey::new(service, row.get::<_, i64>(1)? as u64);
                all.push(Retained { release, until_ms: row.get::<_, Option<i64>>(2)?.map(|ms| ms as u64) });
            }
            Ok(all)
        };
        read().map_err(|error| self.io(error))
    }

    pub fn forget_retained(&self, release: &ReleaseKey) -> Result<()> {
        self.write(|t| {
            t.execute(
                "DELETE FROM retained WHERE service = ?1 AND release = ?2",
                params![release.service.to_string(), release.number as i64],
            )?;
            Ok(())
        })
    }

    /// Every release of a service that was live once, newest first.
    pub fn were_live(&self, service: &ServiceKey) -> Result<Vec<ReleaseRecord>> {
        let db = self.db();
        let read = || -> Written<Vec<ReleaseRecord>> {
            let mut query =
                db.prepare("SELECT record FROM releases WHERE service = ?1 AND was_live ORDER BY number DESC")?;
            let mut rows = query.query([service.to_string()])?;
            let mut all = Vec::new();
            while let Some(row) = rows.next()? {
                all.push(serde_json::from_str(&row.get::<_, String>(0)?)?);
            }
            Ok(all)
        };
        read().map_err(|error| self.io(error))
    }

    /// Every release of every service.
    pub fn lineages(&self) -> Result<BTreeMap<ServiceKey, Lineage>> {
        let db = self.db();
        let read = || -> Written<BTreeMap<ServiceKey, Lineage>> {
            let mut query = db.prepare("SELECT service, was_live, record FROM releases")?;
            let mut rows = query.query([])?;
            let mut all: BTreeMap<ServiceKey, Lineage> = BTreeMap::new();
            while let Some(row) = rows.next()? {
                let service = ServiceKey::try_from(row.get::<_, String>(0)?)?;
                let record: ReleaseRecord = serde_json::from_str(&row.get::<_, String>(2)?)?;
                let origin = Origin { was_live: row.get(1)?, before: record.before, again: record.again };
                all.entry(service).or_default().add(record.release.number, origin);
            }
            Ok(all)
        };
        read().map_err(|error| self.io(error))
    }

    pub fn lineage(&self, service: &ServiceKey) -> Result<Lineage> {
        Ok(self.lineages()?.remove(service).unwrap_or_default())
    }

    pub fn taken_back(&self, service: &ServiceKey) -> Result<Option<TakenBack>> {
        Ok(self.all_taken_back()?.into_iter().find(|one| one.release.service == *service))
    }

    /// All that one deployment has taken back, this one too.
    pub fn taken_back_with(&self, one: &TakenBack) -> Result<Vec<TakenBack>> {
        Ok(self.all_taken_back()?.into_iter().filter(|other| other.deployment == one.deployment).collect())
    }

    fn all_taken_back(&self) -> Result<Vec<TakenBack>> {
        let db = self.db();
        let read = || -> Written<Vec<TakenBack>> {
            let mut query =
                db.prepare("SELECT service, release, image_id, settings_hash, why, deployment FROM taken_back")?;
            let mut rows = query.query([])?;
            let mut all = Vec::new();
            while let Some(row) = rows.next()? {
                let service = ServiceKey::try_from(row.get::<_, String>(0)?)?;
                all.push(TakenBack {
                    release: ReleaseKey::new(service, row.get::<_, i64>(1)? as u64),
                    image_id: row.get(2)?,
                    settings_hash: row.get(3)?,
                    why: row.get(4)?,
                    deployment: row.get::<_, i64>(5)? as u64,
                });
            }
            Ok(all)
        };
        read().map_err(|error| self.io(error))
    }

    pub fn histories(&self) -> Result<BTreeMap<ServiceKey, History>> {
        let db = self.db();
        let read = || -> Written<BTreeMap<ServiceKey, History>> {
            let mut query = db.prepare("SELECT service, history FROM histories")?;
            let mut rows = query.query([])?;
            let mut all = BTreeMap::new();
            while let Some(row) = rows.next()? {
                let service = ServiceKey::try_from(row.get::<_, String>(0)?)?;
                all.insert(service, serde_json::from_str(&row.get::<_, String>(1)?)?);
            }
            Ok(all)
        };
        read().map_err(|error| self.io(error))
    }

    pub fn put_histories(&self, histories: &BTreeMap<ServiceKey, History>) -> Result<()> {
        self.write(|t| {
            for (service, history) in histories {
                t.execute(
                    "INSERT OR REPLACE INTO histories (service, history) VALUES (?1, ?2)",
                    params![service.to_string(), serde_json::to_string(history)?],
                )?;
            }
            Ok(())
        })
    }
}

/// The candidates are live, from here on.
pub(super) fn put_live(t: &Transaction<'_>, deployment: &Deployment, now_ms: u64) -> Written<()> {
    for member in &deployment.plan.members {
        let (service, number) = (member.service.to_string(), member.candidate.number as i64);
        t.execute(
            "INSERT INTO services (service, live, since_ms) VALUES (?1, ?2, ?3) ON CONFLICT (service) DO UPDATE SET live = ?2, since_ms = ?3",
            params![service, number, now_ms as i64],
        )?;
        t.execute("UPDATE releases SET was_live = 1 WHERE service = ?1 AND number = ?2", params![service, number])?;
        // What was warm is live now, or is none any more: the one that it replaces takes its place.
        t.execute("DELETE FROM retained WHERE service = ?1", [&service])?;
        match (&member.safety.back, &member.live) {
            // Somebody went back: what he left is not deployed again by mistake.
            (Some(_), Some(live)) if !member.is_again() => {
                let why = format!("somebody went back from it to release {}", member.candidate.number);
                let back = (&live.release, live.image_id.as_str(), live.settings_hash.as_str());
                put_taken_back(t, deployment.number, back, &why)?;
            }
            _ => drop(t.execute("DELETE FROM taken_back WHERE service = ?1", [&service])?),
        }
    }
    Ok(())
}

/// Its candidates had requests, and one of them was found bad: that one, where it is known which, and else all of them together.
pub(super) fn put_reverted(t: &Transaction<'_>, deployment: &Deployment, why: &Fault) -> Written<()> {
    let made = |member: &&Member| member.safety.back.is_none() && member.live.is_some();
    let accused = |member: &&Member| why.service.as_ref().is_none_or(|service| **service == member.service);
    for member in deployment.plan.members.iter().filter(made).filter(accused) {
        let image_id = member.image_id.as_deref().unwrap_or_default();
        let candidate = (&member.candidate, image_id, member.settings_hash.as_str());
        put_taken_back(t, deployment.number, candidate, &why.what)?;
    }
    Ok(())
}

fn put_taken_back(
    t: &Transaction<'_>,
    deployment: u64,
    (release, image_id, settings_hash): (&ReleaseKey, &str, &str),
    why: &str,
) -> Written<()> {
    t.execute(
        "INSERT OR REPLACE INTO taken_back (service, release, image_id, settings_hash, why, deployment)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        params![release.service.to_string(), release.number as i64, image_id, settings_hash, why, deployment as i64],
    )?;
    Ok(())
}

/// What an action has done to what is warm.
pub(super) fn put_warmth(t: &Transaction<'_>, deployment: &Deployment, action: &Action, now_ms: u64) -> Written<()> {
    match action {
        Action::Retain { release } => {
            let member = deployment.plan.members.iter().find(|member| member.service == release.service);
            let until_ms = match member.and_then(|member| member.safety.retain) {
                Some(Retain::For { ms }) => Some((now_ms + ms) as i64),
                Some(Retain::UntilNext) | None => None,
            };
            t.execute(
                "INSERT OR REPLACE INTO retained (service, release, until_ms) VALUES (?1, ?2, ?3)",
                params![release.service.to_string(), release.number as i64, until_ms],
            )?;
        }
        Action::DropRetained { release } => {
            t.execute(
                "DELETE FROM retained WHERE service = ?1 AND release = ?2",
                params![release.service.to_string(), release.number as i64],
            )?;
        }
        _ => {}
    }
    Ok(())
}
