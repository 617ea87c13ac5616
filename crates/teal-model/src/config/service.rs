//! One service: Compose's settings of its containers, and what the proxy and the deployment need to know.

use super::build;
use super::container;
use super::depends::{self, Dependency, implied};
use super::deploy;
use super::keys;
use super::networks;
use super::parse::Context;
use super::ports::{self, Wanted};
use super::profiles;
use super::project::{Port, PullPolicy, RouteRule, Service};
use super::quantity;
use super::read::{Item, MapReader};
use super::resolver;
use super::teal::{self, TealSettings};
use std::collections::BTreeMap;

/// A service as read, with the places that cross checks point to.
pub(super) struct ReadService<'a> {
    pub service: Service,
    pub item: Item<'a>,
    pub wanted: Vec<(Wanted, Item<'a>)>,
    /// What was settled of them.
    pub ports: Vec<(Port, Item<'a>)>,
    pub depends_on: Vec<Dependency<'a>>,
    pub volumes_from: Vec<Item<'a>>,
    pub container_name: Option<Item<'a>>,
    pub network_mode: Option<Item<'a>>,
    pub replicas: Option<Item<'a>>,
    pub teal: TealSettings<'a>,
    pub healthcheck: Option<Item<'a>>,
}

pub(super) fn read<'a>(name: &str, item: Item<'a>, context: &Context<'_>) -> Option<ReadService<'a>> {
    if item.node.is_null() {
        item.problem("an empty service", "Give at least its `image`.");
        return None;
    }
    let map = item.map(&keys::SERVICE)?;
    let wanted = map.take("ports").map(|ports| ports::read(&ports)).unwrap_or_default();
    let healthcheck = map.take("healthcheck");
    let deploy = deploy::read(&map);
    let teal = teal::read_service(map.take("x-teal"), &deploy, context.defaults);
    let (settings, joined) = container::read(&map, name, healthcheck.as_ref(), &deploy, context);
    let place = networks::read_place(&map, context);
    let links = map.take("links").map(|item| resolver::read_links(&item)).unwrap_or_default();
    let mut depends_on = map.take("depends_on").map(|item| depends::read(&item)).unwrap_or_default();
    let others = links.iter().map(|(link, item)| (link.service.clone(), item.clone()));
    depends_on.extend(others.chain(joined).chain(place.joined.iter().cloned()).map(|(on, item)| implied(on, item)));
    let volumes_from = map.take("volumes_from").and_then(|list| list.list()).unwrap_or_default();
    depends_on.extend(volumes_from.iter().filter_map(|item| {
        let text = item.text()?;
        let is_service = !text.starts_with("container:");
        is_service.then(|| implied(text.split(':').next().unwrap_or_default().to_owned(), item.clone()))
    }));
    if let Some(profiles) = map.take("profiles") {
        profiles::check(&profiles);
    }
    let container_name = map.take_filled("container_name");
    let mut service = Service {
        name: name.to_owned(),
        container: settings,
        container_name: container_name.as_ref().and_then(read_container_name),
        expose: map.take("expose").map(|v| ports::read_exposed(&v)).unwrap_or_default(),
        networks: place.networks,
        network_mode: place.mode,
        mac_address: map.take_filled("mac_address").and_then(|v| networks::read_mac(&v)),
        links: links.into_iter().map(|(link, _)| link).collect(),
        external_links: map.take("external_links").and_then(|v| v.words()).unwrap_or_default(),
        replicas: deploy.replicas,
        is_job: deploy.is_job,
        order: deploy.update.order,
        update: deploy.update,
        rollback: deploy.rollback,
        teal: teal.settings.clone(),
        ..Service::default()
    };
    read_origin(&map, &mut service, context);
    map.finish();
    Some(ReadService {
        service,
        item,
        wanted,
        ports: Vec::new(),
        depends_on,
        volumes_from,
        container_name,
        network_mode: place.item,
        replicas: deploy.item,
        teal,
        healthcheck,
    })
}

/// Where the image comes from: a build, a registry, or what is here already.
fn read_origin(map: &MapReader<'_>, service: &mut Service, context: &Context<'_>) {
    service.build = map.take("build").and_then(|v| build::read(&v, context));
    let policy = map.take_filled("pull_policy");
    service.pull_policy = match policy.as_ref().and_then(read_pull_policy) {
        Some(Pull::Policy(policy)) => policy,
        Some(Pull::Build) => {
            match (&mut service.build, &policy) {
                (Some(build), _) => build.always = true,
                (None, Some(item)) if !map.has("build") => {
                    item.problem("`build` without a `build`", "Say how it is built.")
                }
                (None, _) => {}
            }
            PullPolicy::Never
        }
        // A name that was made up here is in no registry.
        None if !map.has("image") => PullPolicy::Never,
        None => PullPolicy::Default,
    };
}

/// A published port that no rule holds for keeps every host and path: rules for one port take nothing from another.
pub(super) fn keep_unnamed_ports(routes: &mut Vec<RouteRule>, ports: &[(Port, Item<'_>)]) {
    if routes.iter().all(|rule| rule.port.is_some()) && !routes.is_empty() {
        for (port, _) in ports {
            if !routes.iter().any(|rule| rule.port == Some(port.published)) {
                routes.push(RouteRule { host: None, path: "/".to_owned(), port: Some(port.published) });
            }
        }
    }
}

fn read_container_name(item: &Item<'_>) -> Option<String> {
    let fits = |text: &str| {
        let known = text.len() >= 2
            && text.starts_with(|c: char| c.is_ascii_alphanumeric())
            && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-'));
        known.then(|| text.to_owned())
    };
    item.parsed(fits, "a container's name", "A name is letters, digits, `.`, `_` and `-`.")
}

/// The image as written; where only `build` is, the name that Compose gives to what is built.
pub(super) fn read_image(map: &MapReader<'_>, name: &str, context: &Context<'_>) -> Option<String> {
    let Some(image) = map.take("image") else {
        if map.has("build") {
            return Some(format!("{}-{name}", context.project));
        }
        if map.has("provider") {
            // Refused by its own name.
            return None;
        }
        map.item.problem(
            "`image` is missing",
            "Name the image to run (`image: registry.example.com/app:1.2`), or say how it is built: `build: .`.",
        );
        return None;
    };
    let text = image.word()?;
    if let Some(why) = super::image::wrong(text) {
        let what = format!("not an image reference: {why}");
        image.problem(&what, "Write `name:tag`, `registry:5000/name:tag` or `name@sha256:...`.");
        return None;
    }
    Some(text.to_owned())
}

pub(super) fn read_labels(item: &Item<'_>) -> BTreeMap<String, String> {
    let mut labels = BTreeMap::new();
    for (name, (value, item)) in item.pairs().unwrap_or_default() {
        let owner = if name.starts_with("teal.") {
            "Teal"
        } else if name.starts_with("com.docker.compose.") {
            "Compose"
        } else {
            labels.insert(name, value.unwrap_or_default());
            continue;
        };
        item.problem(format!("labels under `{name}` belong to {owner}"), "Choose another name.");
    }
    labels
}

enum Pull {
    Policy(PullPolicy),
    Build,
}

fn read_pull_policy(item: &Item<'_>) -> Option<Pull> {
    let text = item.text()?;
    if let Some(time) = text.strip_prefix("every_") {
        item.parsed(
            |_| quantity::duration_ms(time).filter(|ms| *ms > 0),
            "a pull policy",
            "Write the time with its unit: `every_12h`.",
        )?;
        return Some(Pull::Policy(PullPolicy::Always));
    }
    item.choice(&[
        ("always", Some(PullPolicy::Always)),
        ("never", Some(PullPolicy::Never)),
        ("missing", Some(PullPolicy::Missing)),
        ("if_not_present", Some(PullPolicy::Missing)),
        ("daily", Some(PullPolicy::Always)),
        ("weekly", Some(PullPolicy::Always)),
        ("refresh", Some(PullPolicy::Always)),
        ("build", None),
    ])
    .map(|policy| policy.map_or(Pull::Build, Pull::Policy))
}
