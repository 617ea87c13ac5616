//! `x-teal.canary` and `x-teal.sticky`: which requests a candidate gets while it proves itself.

use super::keys;
use super::project::{CanaryStep, Pace, Sticky};
use super::quantity;
use super::read::Item;

const ALL: u32 = 10_000;
const SHAPE: &str = "Write `10%`, `\"10% 5m\"`, `\"10% manual\"` or `{percent: 10, for: 5m}`.";

/// A step as written.
struct Written<'a> {
    share: u32,
    pace: Option<Pace>,
    replicas: Option<(u32, Item<'a>)>,
}

/// A step, or a list of them, each with a larger share than the one before, and no fewer of the service's `replicas`. All
/// requests are the step after the last, whether it is written or not.
pub(super) fn read_steps(item: &Item<'_>, replicas: u32) -> Vec<CanaryStep> {
    let mut steps: Vec<CanaryStep> = Vec::new();
    let items = item.one_or_list().unwrap_or_default();
    let written: Vec<_> = items.iter().map(|item| (item, read_step(item, replicas))).collect();
    let mut before = None;
    for (item, step) in written.iter().filter_map(|(item, step)| Some((*item, step.as_ref()?))) {
        if before.is_some_and(|before| step.share <= before) {
            item.problem("not more than the step before", "Let each step give the candidate more requests.");
        } else if step.share < ALL {
            let pace = step.pace.unwrap_or(Pace::For { ms: CanaryStep::MS });
            let runs = settle_replicas(step, steps.last(), replicas);
            steps.push(CanaryStep { share: step.share, pace, replicas: runs });
        } else if let Some((_, item)) = &step.replicas {
            item.problem("all requests are the last step, and all replicas run in it", "Take it out.");
        } else if step.pace.is_some() {
            item.problem(
                "all requests are the last step, and it lasts as long as `bake`",
                "Write `100%` alone, or take it out.",
            );
        }
        before = Some(step.share);
    }
    if steps.is_empty() && written.iter().all(|(_, step)| step.is_some()) {
        item.problem("no step below 100%", "Write some (`[5% 2m, 25% 10m]`), or take `canary` out.");
    }
    steps
}

/// As many as in the step before, where a step names none. Replicas that have requests are not taken away in a later step.
fn settle_replicas(step: &Written<'_>, before: Option<&CanaryStep>, all: u32) -> Option<u32> {
    let Some((wanted, item)) = &step.replicas else { return before?.replicas };
    let running = before.map_or(1, |before| before.replicas.unwrap_or(all));
    if *wanted < running {
        let what = format!("{wanted} of {all} replicas, and the step before runs {running}");
        item.problem(
            what,
            "Let no step run fewer than the one before; a first step that names no `replicas` runs all.",
        );
    }
    Some(*wanted)
}

fn read_step<'a>(item: &Item<'a>, replicas: u32) -> Option<Written<'a>> {
    if item.is_map() {
        return read_long(item, replicas);
    }
    if is_too_much(item) {
        return None;
    }
    let read = |text: &str| {
        let (share, pace) = text.split_once('%')?;
        let pace = match pace.trim() {
            "" => None,
            word => Some(read_pace(word)?),
        };
        Some(Written { share: read_share(share)?, pace, replicas: None })
    };
    item.parsed(read, "a step of a canary", SHAPE)
}

fn read_long<'a>(item: &Item<'a>, all: u32) -> Option<Written<'a>> {
    let map = item.map(&keys::CANARY)?;
    let share = map.take("percent");
    let pace = map.take("for").map(|v| v.parsed(read_pace, "a duration", "Write `5m` or `manual`."));
    let replicas = map.take("replicas").and_then(|item| Some((read_replicas(&item, all)?, item)));
    if share.is_none() && !map.has("steps") {
        item.problem("`percent` is missing", SHAPE);
    }
    map.finish();
    let share = share.filter(|share| !is_too_much(share))?;
    let share = share.parsed(read_share, "a share of the requests", "Write a number such as `10` or `0.5`.")?;
    Some(Written { share, pace: pace.flatten(), replicas })
}

fn read_replicas(item: &Item<'_>, all: u32) -> Option<u32> {
    let read = |text: &str| text.parse().ok().filter(|n| (1..=all).contains(n));
    let what = format!("a number of replicas from 1 to {all}");
    item.parsed(read, &what, "How many the service has is said by its `deploy.replicas`.")
}

/// More than all requests, which is told by itself: the rest of such a step may be right.
fn is_too_much(item: &Item<'_>) -> bool {
    let number = |text: &str| text.split('%').next().and_then(|number| number.trim().parse::<f64>().ok());
    let is_too_much = item.as_text().and_then(number).is_some_and(|percent| percent > 100.0);
    if is_too_much {
        item.problem("more than 100 %, which is all requests", SHAPE);
    }
    is_too_much
}

/// With or without its sign.
fn read_share(text: &str) -> Option<u32> {
    quantity::percent(text.strip_suffix('%').unwrap_or(text))
}

fn read_pace(text: &str) -> Option<Pace> {
    match text {
        "manual" => Some(Pace::Manual),
        time => quantity::duration_ms(time).filter(|ms| *ms > 0).map(|ms| Pace::For { ms }),
    }
}

/// `cookie`, `address`, or a map with a name.
pub(super) fn read_sticky(item: &Item<'_>) -> Option<Sticky> {
    const SHAPE: &str = "Write `cookie`, `address`, `{cookie: NAME}` or `{header: NAME}`.";
    if !item.is_map() {
        let read = |text: &str| match text {
            "cookie" => Some(Sticky::Cookie { name: Sticky::COOKIE.to_owned() }),
            "address" => Some(Sticky::Address),
            _ => None,
        };
        return item.parsed(read, "something that tells users apart", SHAPE);
    }
    let map = item.map(&keys::STICKY)?;
    let (cookie, header) = (map.take("cookie"), map.take("header"));
    map.finish();
    match (cookie, header) {
        (Some(cookie), None) => Some(Sticky::Cookie { name: cookie.name()? }),
        (None, Some(header)) => Some(Sticky::Header { name: header.name()? }),
        _ => {
            item.problem("neither one cookie nor one header", SHAPE);
            None
        }
    }
}
