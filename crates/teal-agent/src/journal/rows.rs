//! The rows that one transaction writes.

use super::{Entry, ReleaseRecord, Written};
use rusqlite::{OptionalExtension, Transaction, params};
use teal_model::api::{Notice, What};
use teal_model::deployment::{Deployment, Routing};
use teal_model::ids::ServiceKey;
use teal_model::plan::{Member, Plan};

pub(super) fn put_release(t: &Transaction<'_>, deployment: u64, record: &ReleaseRecord) -> Written<()> {
    t.execute(
        "INSERT OR REPLACE INTO releases (service, number, deployment, record) VALUES (?1, ?2, ?3, ?4)",
        params![
            record.release.service.to_string(),
            record.release.number as i64,
            deployment as i64,
            serde_json::to_string(record)?
        ],
    )?;
    Ok(())
}

/// The plan that the images made: services that turned out unchanged are given back, with their reserved numbers.
pub(super) fn settle_claims(t: &Transaction<'_>, deployment: u64, plan: &Plan, now_ms: u64) -> Written<()> {
    t.execute("DELETE FROM unfinished WHERE deployment = ?1", [deployment as i64])?;
    t.execute("DELETE FROM releases WHERE deployment = ?1", [deployment as i64])?;
    for service in plan.services() {
        t.execute(
            "INSERT INTO unfinished (service, deployment) VALUES (?1, ?2)",
            params![service.to_string(), deployment as i64],
        )?;
    }
    put_releases(t, deployment, plan, now_ms)
}

/// The candidates; one that is warm has its record already.
pub(super) fn put_releases(t: &Transaction<'_>, deployment: u64, plan: &Plan, now_ms: u64) -> Written<()> {
    let is_new = |member: &&Member| !member.safety.back.is_some_and(|back| back.retained);
    for member in plan.members.iter().filter(is_new) {
        put_release(t, deployment, &ReleaseRecord::of(member, now_ms))?;
    }
    Ok(())
}

/// What has all requests of a service is its live release from here on, however it came to that.
pub(super) fn settle_stuck(t: &Transaction<'_>, deployment: &Deployment, now_ms: u64) -> Written<()> {
    for member in &deployment.plan.members {
        let service = member.service.to_string();
        let routing: Option<Option<String>> =
            t.query_row("SELECT routing FROM services WHERE service = ?1", [&service], |row| row.get(0)).optional()?;
        let routing: Option<Routing> = routing.flatten().map(|text| serde_json::from_str(&text)).transpose()?;
        if routing.is_some_and(|routing| routing.split.len() == 1 && routing.split[0].0 == member.candidate) {
            t.execute(
                "UPDATE services SET live = ?2, since_ms = ?3 WHERE service = ?1",
                params![service, member.candidate.number as i64, now_ms as i64],
            )?;
            t.execute(
                "UPDATE releases SET was_live = 1 WHERE service = ?1 AND number = ?2",
                params![service, member.candidate.number as i64],
            )?;
            // It may be one that was only warm before.
            t.execute(
                "DELETE FROM retained WHERE service = ?1 AND release = ?2",
                params![service, member.candidate.number as i64],
            )?;
        }
    }
    Ok(())
}

pub(super) fn put_snapshot(t: &Transaction<'_>, deployment: &Deployment) -> Written<()> {
    t.execute(
        "UPDATE deployments SET snapshot = ?2 WHERE number = ?1",
        params![deployment.number as i64, serde_json::to_string(deployment)?],
    )?;
    Ok(())
}

pub(super) fn put_routing(t: &Transaction<'_>, service: &ServiceKey, routing: Option<&Routing>) -> Written<()> {
    let text = routing.map(serde_json::to_string).transpose()?;
    t.execute(
        "INSERT INTO services (service, routing) VALUES (?1, ?2) ON CONFLICT (service) DO UPDATE SET routing = ?2",
        params![service.to_string(), text],
    )?;
    Ok(())
}

pub(super) fn put_entry(
    t: &Transaction<'_>,
    deployment: u64,
    at_ms: u64,
    entry: Option<&Entry>,
    what: What,
) -> Written<Notice> {
    let sequence: i64 = t.query_row(
        "SELECT coalesce(max(sequence), 0) + 1 FROM entries WHERE deployment = ?1",
        [deployment as i64],
        |row| row.get(0),
    )?;
    let notice = Notice { deployment, sequence: sequence as u64, at_ms, what };
    t.execute(
        "INSERT INTO entries (deployment, sequence, at_ms, entry, notice) VALUES (?1, ?2, ?3, ?4, ?5)",
        params![
            deployment as i64,
            sequence,
            at_ms as i64,
            entry.map(serde_json::to_string).transpose()?,
            serde_json::to_string(&notice)?
        ],
    )?;
    Ok(notice)
}
