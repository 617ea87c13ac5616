//! `x-teal`: what Compose has no word for, of the project and of a service.

use super::canary;
use super::deploy::Deploy;
use super::health::read_health;
use super::keys;
use super::listen;
use super::nginx;
use super::preview;
use super::project::{CanaryStep, Mode, Retain, RouteRule, ServiceSettings, Sticky, Strategy, UpdateConfig};
use super::quantity;
use super::ranges;
use super::read::{Item, MapReader};
use super::rollback;
use super::route;
use super::trial;

/// Top-level `x-teal`.
#[derive(Default)]
pub(super) struct TealProject {
    pub trusted_proxies: Vec<String>,
    /// Of every service that does not say it itself.
    pub defaults: ServiceSettings,
}

pub(super) fn read_project(item: &Item<'_>) -> TealProject {
    let mut out = TealProject::default();
    let Some(map) = item.map(&keys::TEAL_PROJECT) else { return out };
    out.trusted_proxies =
        map.take("trusted_proxies").map(|item| ranges::read(&item, &ranges::PRIVATE_RANGES)).unwrap_or_default();
    read_shared(&map, &UpdateConfig::default(), &mut out.defaults);
    map.finish();
    out
}

/// What a service says, or its project for all services: of several words the service's goes first, then `update_config`.
fn read_shared(map: &MapReader<'_>, update: &UpdateConfig, settings: &mut ServiceSettings) {
    if let Some(bake) = map.take("bake") {
        settings.bake_ms = bake.duration_ms().unwrap_or_default();
    }
    if let Some(retain) = map.take("retain") {
        settings.retain = read_retain(&retain).unwrap_or(Retain::DEFAULT);
    }
    if let Some(keep) = map.take("keep") {
        settings.keep = keep.count(1..=100).unwrap_or_default();
    }
    if let Some(item) = map.take("rollback") {
        settings.rollback = rollback::read(&item, update);
    }
    if let Some(item) = map.take("preview") {
        settings.preview = preview::read(&item);
    }
}

fn read_retain(item: &Item<'_>) -> Option<Retain> {
    let read = |text: &str| match text {
        "until-next" => Some(Retain::UntilNext),
        time => quantity::duration_ms(time).map(|ms| Retain::For { ms }),
    };
    item.parsed(read, "a duration", "Write `10m`, `0` or `until-next`.")
}

/// A service's `x-teal`, with the places that cross checks point to.
#[derive(Default)]
pub(super) struct TealSettings<'a> {
    pub settings: ServiceSettings,
    pub routes: Vec<(RouteRule, Item<'a>)>,
    pub listen: Vec<listen::Wanted<'a>>,
    /// Where it is written that two releases may run side by side, or that they may not.
    pub strategy: Option<Item<'a>>,
    pub canary: Option<Item<'a>>,
    pub health: Option<Item<'a>>,
    pub nginx: Option<Item<'a>>,
}

pub(super) fn read_service<'a>(
    item: Option<Item<'a>>,
    deploy: &Deploy<'_>,
    defaults: &ServiceSettings,
) -> TealSettings<'a> {
    let update = &deploy.update;
    let mut out = TealSettings { settings: defaults.clone(), ..TealSettings::default() };
    out.settings.bake_ms = update.monitor_ms.unwrap_or(defaults.bake_ms);
    rollback::heed(update, &mut out.settings.rollback);
    let Some(map) = item.and_then(|item| item.map(&keys::TEAL_SERVICE)) else { return out };
    read_shared(&map, update, &mut out.settings);
    read_strategy(&map, deploy.replicas, &mut out);
    read_trial(&map, &mut out.settings);
    let settings = &mut out.settings;
    if let Some(mode) = map.take("mode") {
        settings.mode = mode
            .choice(&[("auto", Mode::Auto), ("http", Mode::Http), ("tcp", Mode::Tcp), ("direct", Mode::Direct)])
            .unwrap_or_default();
    }
    if let Some(route) = map.take("route") {
        out.routes = route::read(&route);
        settings.routes = out.routes.iter().map(|(rule, _)| rule.clone()).collect();
    }
    out.listen = map.take("listen").map(|item| listen::read(&item)).unwrap_or_default();
    out.health = map.take("health");
    if let Some(health) = &out.health {
        settings.health = read_health(health);
    }
    if let Some(drain) = map.take("drain") {
        settings.drain_ms = drain.duration_ms().unwrap_or(ServiceSettings::DRAIN_MS);
    }
    if let Some(hold) = map.take("hold") {
        read_hold(&hold, settings);
    }
    if let Some(timeouts) = map.take("timeouts")
        && let Some(timeouts) = timeouts.map(&keys::TIMEOUTS)
    {
        let connect = timeouts.take("connect").and_then(|v| v.time_ms());
        settings.connect_timeout_ms = connect.unwrap_or(ServiceSettings::CONNECT_TIMEOUT_MS);
        settings.response_timeout_ms = timeouts.take("response").and_then(|v| v.duration_ms()).unwrap_or(0);
        timeouts.finish();
    }
    read_traffic(&map, &mut out);
    refuse_without_http(&map, &mut out.settings);
    map.finish();
    out
}

fn read_traffic<'a>(map: &MapReader<'a>, out: &mut TealSettings<'a>) {
    let traffic = map.take("traffic");
    let through_nginx = traffic.as_ref().and_then(|traffic| traffic.choice(&[("teal", false), ("nginx", true)]));
    let nginx = map.take("nginx");
    if let (Some(nginx), None | Some(false)) = (&nginx, through_nginx) {
        nginx.problem("has no effect without `traffic: nginx`", "Add that, or take this out.");
    }
    if through_nginx != Some(true) {
        return;
    }
    if matches!(out.settings.mode, Mode::Tcp | Mode::Direct) {
        map.item.problem("`traffic: nginx` and this `mode` contradict each other", "Take one of the two out.");
    }
    out.settings.nginx = Some(nginx.as_ref().map(nginx::read).unwrap_or_default());
    out.nginx = nginx.or(traffic);
}

/// What the proxy does with requests, where it sees none.
fn refuse_without_http(map: &MapReader<'_>, settings: &mut ServiceSettings) {
    let why = match settings.mode {
        _ if settings.nginx.is_some() => "nginx carries the requests, and Teal's proxy none of them",
        Mode::Tcp => "with `mode: tcp` the proxy passes bytes, and sees no requests",
        Mode::Direct => "with `mode: direct` no request passes the proxy",
        Mode::Auto | Mode::Http => return,
    };
    let by_address = settings.mode == Mode::Tcp && settings.sticky == Some(Sticky::Address);
    for key in ["sticky", "preview", "skew_guard"].into_iter().filter(|key| *key != "sticky" || !by_address) {
        if let Some(item) = map.take(key).filter(|item| !item.is_word("false")) {
            item.problem(why, "Take it out.");
        }
    }
    // The project's, which is meant for the others.
    settings.preview = None;
}

/// A canary is blue-green in steps; its steps alone say so as well.
fn read_strategy<'a>(map: &MapReader<'a>, replicas: u32, out: &mut TealSettings<'a>) {
    let strategy = map.take("strategy");
    out.canary = map.take("canary");
    let steps = out.canary.as_ref().map(|item| canary::read_steps(item, replicas));
    let chosen = match &strategy {
        Some(strategy) => strategy.choice(&[
            ("blue-green", (Strategy::BlueGreen, false)),
            ("canary", (Strategy::BlueGreen, true)),
            ("recreate", (Strategy::Recreate, false)),
        ]),
        None => steps.as_ref().map(|_| (Strategy::BlueGreen, true)),
    };
    match (chosen, &out.canary) {
        (Some((_, false)), Some(canary)) => {
            canary.problem("contradicts the `strategy`", "Write `strategy: canary`, or take this out.");
        }
        (Some((_, true)), _) => out.settings.canary = steps.unwrap_or_else(|| CanaryStep::DEFAULT.to_vec()),
        _ => {}
    }
    out.settings.strategy = chosen.map(|(strategy, _)| strategy);
    out.strategy = strategy.or_else(|| out.canary.clone());
}

fn read_trial(map: &MapReader<'_>, settings: &mut ServiceSettings) {
    settings.sticky = map.take("sticky").and_then(|v| canary::read_sticky(&v));
    settings.migrate = map.take("migrate").and_then(|v| trial::read_migrate(&v));
    settings.smoke = map.take("smoke").and_then(|v| trial::read_smoke(&v));
    settings.skew_guard = map.take("skew_guard").map(|v| read_prefixes(&v)).unwrap_or_default();
}

/// `x-teal.skew_guard`: where the files of a release are.
fn read_prefixes(item: &Item<'_>) -> Vec<String> {
    let mut prefixes = Vec::new();
    for item in item.one_or_list().unwrap_or_default() {
        match item.parsed(route::path_prefix, "a path", "Write the folder of your assets: `/assets`.").as_deref() {
            Some("/") => item.problem(
                "every request that finds nothing would be asked twice",
                "Write the folder of your assets: `/assets`.",
            ),
            Some(prefix) => prefixes.push(prefix.to_owned()),
            None => {}
        }
    }
    prefixes.dedup();
    prefixes
}

fn read_hold(item: &Item<'_>, settings: &mut ServiceSettings) {
    if !item.is_map() {
        settings.hold_ms = item.duration_ms().unwrap_or(ServiceSettings::HOLD_MS);
        return;
    }
    let Some(map) = item.map(&keys::HOLD) else { return };
    settings.hold_ms = map.take("for").and_then(|v| v.duration_ms()).unwrap_or(ServiceSettings::HOLD_MS);
    let waiting = map.take("max_waiting").and_then(|v| v.count(1..=1_000_000));
    settings.hold_max_waiting = waiting.unwrap_or(ServiceSettings::HOLD_MAX_WAITING);
    map.finish();
}
