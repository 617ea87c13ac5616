//! `depends_on`, and every key that means the same: what a service needs of others.

use super::keys;
use super::project::{Condition, DependsOn};
use super::read::Item;

pub(super) struct Dependency<'a> {
    pub on: String,
    pub depends: DependsOn,
    pub item: Item<'a>,
}

/// A service that another key names comes first, too, as in Compose.
pub(super) fn implied<'a>(on: String, item: Item<'a>) -> Dependency<'a> {
    Dependency { on, depends: DependsOn::default(), item }
}

pub(super) fn read<'a>(item: &Item<'a>) -> Vec<Dependency<'a>> {
    if item.is_list() {
        let read = |item: Item<'a>| Some(implied(item.word()?.to_owned(), item));
        return item.list().unwrap_or_default().into_iter().filter_map(read).collect();
    }
    let entries = item.entries().unwrap_or_default();
    entries.into_iter().filter_map(|(entry, item)| read_dependency(&entry.key, item)).collect()
}

fn read_dependency<'a>(on: &str, item: Item<'a>) -> Option<Dependency<'a>> {
    let map = item.map(&keys::DEPENDENCY)?;
    let condition = match map.take("condition") {
        Some(condition) => condition.choice(&[
            ("service_started", Condition::ServiceStarted),
            ("service_healthy", Condition::ServiceHealthy),
            ("service_completed_successfully", Condition::ServiceCompletedSuccessfully),
        ]),
        None => {
            item.problem("`condition` is missing", "Write `condition: service_started` or `service_healthy`.");
            None
        }
    };
    let required = map.take("required").and_then(|v| v.boolean()).unwrap_or(true);
    let restart = map.take_filled("restart").and_then(|v| v.boolean()).unwrap_or(false);
    map.finish();
    let condition = condition.unwrap_or(Condition::ServiceStarted);
    Some(Dependency { on: on.to_owned(), depends: DependsOn { condition, restart, required }, item })
}
