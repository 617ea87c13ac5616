//! `deploy` and `scale`: how many, in which order, and what Swarm alone heeds.

use super::keys;
use super::project::{Restart, UpdateConfig, UpdateOrder};
use super::read::{Item, MapReader};
use super::rollback::ACTIONS;

const MAX_REPLICAS: u32 = 100;

/// What a service says under `deploy`, with `scale` beside it.
#[derive(Default)]
pub(super) struct Deploy<'a> {
    pub replicas: u32,
    pub is_job: bool,
    pub update: UpdateConfig,
    pub rollback: UpdateConfig,
    /// Where `restart` says nothing.
    pub restart: Option<Restart>,
    pub resources: Option<Item<'a>>,
    /// Where more than one replica is asked for.
    pub item: Option<Item<'a>>,
}

pub(super) fn read<'a>(map: &MapReader<'a>) -> Deploy<'a> {
    let scale_item = map.take_filled("scale");
    let scale = scale_item.as_ref().and_then(read_replicas);
    let Some(deploy) = map.take("deploy").and_then(|deploy| deploy.map(&keys::DEPLOY)) else {
        return Deploy { replicas: scale.unwrap_or(1), item: scale_item, ..Deploy::default() };
    };
    let replicas_item = deploy.take_filled("replicas");
    let replicas = replicas_item.as_ref().and_then(read_replicas);
    if let (Some(item), Some(scale), Some(replicas)) = (&scale_item, scale, replicas)
        && scale != replicas
    {
        item.problem("`scale` and `deploy.replicas` differ", "Keep one of the two.");
    }
    let mode = deploy.take_filled("mode").and_then(|mode| {
        let known = ["replicated", "global", "replicated-job", "global-job"].map(|word| (word, word));
        mode.choice(&known).map(|word| (word, mode.clone()))
    });
    let is_global = mode.as_ref().is_some_and(|(word, _)| word.starts_with("global"));
    if let (Some((_, mode)), true) = (&mode, is_global && replicas.or(scale).is_some_and(|n| n > 1)) {
        mode.problem("`global` is one container a host", "Take out `replicas`, or write `replicated`.");
    }
    let configured = |key: &str, level| deploy.take(key).and_then(|v| read_update(&v, level)).unwrap_or_default();
    let read = Deploy {
        replicas: replicas.or(scale).unwrap_or(1),
        is_job: mode.is_some_and(|(word, _)| word.ends_with("-job")),
        update: configured("update_config", &keys::UPDATE_CONFIG),
        rollback: configured("rollback_config", &keys::ROLLBACK_CONFIG),
        restart: deploy.take("restart_policy").and_then(|v| read_restart(&v)),
        resources: deploy.take("resources"),
        item: replicas_item.or(scale_item),
    };
    if let Some(placement) = deploy.take("placement").and_then(|v| v.map(&keys::PLACEMENT)) {
        placement.finish();
    }
    deploy.finish();
    read
}

fn read_replicas(item: &Item<'_>) -> Option<u32> {
    if item.text() == Some("0") {
        item.problem(
            "no replica at all",
            "Take the service out, or give it `profiles`: it is left alone until one of them is chosen.",
        );
        return None;
    }
    item.count(1..=MAX_REPLICAS)
}

fn read_update(item: &Item<'_>, level: &'static keys::Level) -> Option<UpdateConfig> {
    let map = item.map(level)?;
    let ratio = |text: &str| text.parse::<f64>().ok().filter(|ratio| (0.0..=1.0).contains(ratio));
    let config = UpdateConfig {
        parallelism: map.take_filled("parallelism").and_then(|v| v.count(0..=1_000)),
        delay_ms: map.take_filled("delay").and_then(|v| v.duration_ms()),
        failure_action: map.take_filled("failure_action").and_then(|v| v.choice(&ACTIONS)),
        monitor_ms: map.take_filled("monitor").and_then(|v| v.duration_ms()),
        max_failure_ratio: map
            .take_filled("max_failure_ratio")
            .and_then(|v| v.parsed(ratio, "a share from 0 to 1", "Write a number such as `0.2`.")),
        order: map.take_filled("order").and_then(|v| {
            v.choice(&[("start-first", UpdateOrder::StartFirst), ("stop-first", UpdateOrder::StopFirst)])
        }),
    };
    map.finish();
    Some(config)
}

fn read_restart(item: &Item<'_>) -> Option<Restart> {
    let map = item.map(&keys::RESTART_POLICY)?;
    let condition = map.take_filled("condition");
    let attempts = map.take_filled("max_attempts").and_then(|v| v.count(0..=1_000_000)).unwrap_or(0);
    for key in ["delay", "window"] {
        if let Some(time) = map.take_filled(key) {
            time.duration_ms();
        }
    }
    map.finish();
    let restart = match condition {
        Some(condition) => condition.choice(&[
            ("none", Restart::No),
            ("on-failure", Restart::OnFailure(attempts)),
            ("any", Restart::Always),
            ("always", Restart::Always),
            ("unless-stopped", Restart::UnlessStopped),
        ])?,
        None => Restart::Always,
    };
    Some(restart)
}
