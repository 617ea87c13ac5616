//! Orders that were acknowledged, and those that the database has.

use crate::prober::{Kind, Report};
use crate::stage::{Stage, docker};
use std::collections::{BTreeMap, BTreeSet};

#[derive(Debug)]
pub struct Orders {
    /// Answered with 200.
    pub acknowledged: u64,
    /// Of these, not in the database.
    pub lost: u64,
    /// Requests that the database has more than once: somebody sent them again.
    pub doubled: u64,
}

/// `report` is of a prober whose every `POST` was an order.
pub fn compare(stage: &Stage, report: &Report) -> std::io::Result<Orders> {
    let database = stage.replicas("db");
    let database = database.first().ok_or_else(|| std::io::Error::other("no database runs"))?;
    let rows = docker(&["exec", database, "psql", "-U", "postgres", "-tAc", "SELECT request FROM orders"]);
    let mut requests: BTreeMap<&str, u64> = BTreeMap::new();
    for request in rows.lines() {
        *requests.entry(request).or_default() += 1;
    }
    // One that failed may have got as far as the database all the same.
    let failed: BTreeSet<&str> = report.failures.iter().map(|failure| failure.request_id.as_str()).collect();
    let found = requests.keys().filter(|request| !failed.contains(**request)).count() as u64;
    let acknowledged = report.records.iter().filter(|record| record.kind == Kind::Post && record.ok()).count() as u64;
    Ok(Orders {
        acknowledged,
        lost: acknowledged.saturating_sub(found),
        doubled: requests.values().map(|times| times - 1).sum(),
    })
}
