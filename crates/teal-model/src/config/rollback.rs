//! `x-teal.rollback`, with what `deploy.update_config` says of it: when a release is taken back without being asked.

use super::keys;
use super::project::{FailureAction, Judge, JudgeAsks, Rollback, RollbackOn, UpdateConfig};
use super::quantity;
use super::read::Item;
use super::words;
use std::collections::BTreeSet;
use std::ops::RangeInclusive;

pub(super) const ACTIONS: [(&str, FailureAction); 3] =
    [("rollback", FailureAction::Rollback), ("pause", FailureAction::Pause), ("continue", FailureAction::Continue)];

const NEVER: RollbackOn = RollbackOn { errors: false, latency: false, facts: false, history: false };

/// Compose's words go over the defaults, and `x-teal` over Compose's words.
pub(super) fn heed(update: &UpdateConfig, rollback: &mut Rollback) {
    rollback.action = update.failure_action.unwrap_or(rollback.action);
    rollback.max_failure_ratio = update.max_failure_ratio.unwrap_or(rollback.max_failure_ratio);
}

/// `none`, or a map.
pub(super) fn read(item: &Item<'_>, update: &UpdateConfig) -> Rollback {
    let mut rollback = Rollback::default();
    heed(update, &mut rollback);
    if !item.is_map() {
        let none = |text: &str| (text == "none").then_some(NEVER);
        let hint = "Write `none`, or a map such as `{on: [errors, facts], action: pause}`.";
        rollback.on = item.parsed(none, "a map", hint).unwrap_or_default();
        return rollback;
    }
    let Some(map) = item.map(&keys::ROLLBACK) else { return rollback };
    rollback.on = map.take("on").map(|on| read_on(&on)).unwrap_or_default();
    rollback.action = map.take("action").and_then(|v| v.choice(&ACTIONS)).unwrap_or(rollback.action);
    for (key, range, value) in [
        ("evidence", 10.0..=1e9, &mut rollback.revert_at),
        ("contain", 2.0..=1e9, &mut rollback.contain_at),
        ("ratio", 1.0..=100.0, &mut rollback.ratio),
    ] {
        *value = map.take(key).and_then(|v| read_number(&v, range)).unwrap_or(*value);
    }
    if let Some(margin) = map.take("margin") {
        let share = |text: &str| quantity::percent(text.strip_suffix('%')?);
        let margin = margin.parsed(share, "a share of the requests", "Write `0.2%`.");
        rollback.margin = margin.map_or(rollback.margin, |share| f64::from(share) / 10_000.0);
    }
    if let Some(least) = map.take("min_requests").and_then(|v| v.integer(1..=1_000_000_000)) {
        rollback.min_requests = least;
    }
    rollback.extend_ms = map.take("extend").and_then(|v| v.duration_ms()).unwrap_or(rollback.extend_ms);
    rollback.judges = map.take("judges").map(|judges| read_judges(&judges)).unwrap_or_default();
    map.finish();
    if rollback.contain_at > rollback.revert_at {
        item.problem(
            "the share would be turned down only after the release was taken back",
            "Give `contain` less than `evidence`.",
        );
    }
    rollback
}

fn read_number(item: &Item<'_>, range: RangeInclusive<f64>) -> Option<f64> {
    let what = format!("a number from {} to {}", range.start(), range.end());
    item.parsed(|text| text.parse().ok().filter(|n| range.contains(n)), &what, "")
}

/// The parts that are named; the others are off.
fn read_on(item: &Item<'_>) -> RollbackOn {
    let mut on = NEVER;
    let items = item.one_or_list().unwrap_or_default();
    for item in &items {
        match item.choice(&["errors", "latency", "facts", "history", "none"].map(|word| (word, word))) {
            Some("errors") => on.errors = true,
            Some("latency") => on.latency = true,
            Some("facts") => on.facts = true,
            Some("history") => on.history = true,
            _ => {}
        }
    }
    if items.is_empty() {
        item.problem("nothing is named", "Write `none` where nothing may take a release back.");
    } else if on != NEVER && items.iter().any(|item| item.is_word("none")) {
        item.problem("`none` beside others", "Take one of them out.");
    }
    on
}

fn read_judges(item: &Item<'_>) -> Vec<Judge> {
    let mut names = BTreeSet::new();
    let items = item.one_or_list().unwrap_or_default();
    let judges = items.iter().filter_map(|item| {
        let judge = read_judge(item)?;
        if !names.insert(judge.name.clone()) {
            item.problem("another judge has this name", "Give each its own: it is in what the deployment tells.");
        }
        Some(judge)
    });
    judges.collect()
}

fn read_judge(item: &Item<'_>) -> Option<Judge> {
    let map = item.map(&keys::JUDGE)?;
    let name = map.take("name");
    let (command, url, query) = (map.take("command"), map.take("prometheus"), map.take("query"));
    let time = |key: &str, default| map.take(key).and_then(|v| v.time_ms()).unwrap_or(default);
    let (every_ms, timeout_ms) = (time("every", Judge::EVERY_MS), time("timeout", Judge::TIMEOUT_MS));
    let failures = map.take("failures").and_then(|v| v.count(1..=100)).unwrap_or(Judge::FAILURES);
    map.finish();
    if name.is_none() {
        item.problem("`name` is missing", "Give it one: it is in what the deployment tells.");
    }
    let asks = match (command, url, query) {
        (Some(command), None, None) => words::read_program(&command).map(|command| JudgeAsks::Command { command }),
        (None, Some(url), Some(query)) => {
            let (url, query) = (read_url(&url), query.word());
            url.zip(query).map(|(url, query)| JudgeAsks::Prometheus { url, query: query.to_owned() })
        }
        _ => {
            item.problem(
                "neither a command nor a question for Prometheus",
                "Write `command: [./judge.sh]`, or `prometheus: http://127.0.0.1:9090` with a `query`.",
            );
            None
        }
    };
    Some(Judge { name: name?.name()?, asks: asks?, every_ms, timeout_ms, failures })
}

/// The address of a Prometheus, with the path it is served under, if any.
fn read_url(item: &Item<'_>) -> Option<String> {
    if item.text()?.starts_with("https://") {
        item.problem(
            "Prometheus is asked without TLS",
            "Give its address within your network (`http://10.0.0.5:9090`), or ask it with `command: [./judge.sh]`.",
        );
        return None;
    }
    let read = |text: &str| {
        let rest = text.strip_prefix("http://")?.trim_end_matches('/');
        let fits = |c: char| c.is_ascii_graphic() && !matches!(c, '@' | '?' | '#' | '\\');
        (!rest.is_empty() && !rest.starts_with(['/', ':']) && rest.chars().all(fits)).then(|| format!("http://{rest}"))
    };
    item.parsed(read, "an address of a Prometheus", "Write `http://HOST:9090`, without a user and without a query.")
}
