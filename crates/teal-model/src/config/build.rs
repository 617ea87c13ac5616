//! `build`: how the image of a service is made.

use super::files::{Definition, Kind, find};
use super::include::is_remote;
use super::keys;
use super::limits::read_ulimits;
use super::parse::Context;
use super::project::{Build, BuildSecret, BuildSecretSource};
use super::read::{Item, MapReader};
use super::resolver::read_extra_hosts;
use super::volumes::clean;
use std::collections::BTreeMap;
use std::path::Path;

pub(super) fn read(item: &Item<'_>, context: &Context<'_>) -> Option<Build> {
    if !item.is_map() {
        return Some(Build { context: folder(item, item.word()?, context), ..Build::default() });
    }
    let map = item.map(&keys::BUILD)?;
    let list = |key: &str| map.take(key).and_then(|v| v.words()).unwrap_or_default();
    let word = |key: &str| map.take_filled(key).and_then(|v| v.word()).map(str::to_owned);
    let flag = |key: &str| map.take_filled(key).and_then(|v| v.boolean()).unwrap_or(false);
    let here = map.take_filled("context");
    let inline = map.take("dockerfile_inline");
    let dockerfile = map.take_filled("dockerfile");
    if let (Some(inline), Some(_)) = (&inline, &dockerfile) {
        inline.problem("`dockerfile_inline` beside `dockerfile`", "Keep one of the two.");
    }
    let build = Build {
        context: match &here {
            Some(here) => folder(here, here.word()?, context),
            None => clean(context.directory(item.mark())),
        },
        dockerfile: dockerfile.and_then(|v| v.word()).map(str::to_owned),
        dockerfile_inline: inline.and_then(|v| v.text()).map(str::to_owned),
        args: map.take("args").map(|v| read_args(&v, context)).unwrap_or_default(),
        target: word("target"),
        labels: map.take("labels").and_then(|v| v.string_map()).unwrap_or_default(),
        tags: list("tags"),
        platforms: list("platforms"),
        cache_from: list("cache_from"),
        cache_to: list("cache_to"),
        no_cache: flag("no_cache"),
        pull: flag("pull"),
        network: word("network"),
        additional_contexts: read_contexts(&map, context),
        extra_hosts: map.take("extra_hosts").map(|v| read_extra_hosts(&v)).unwrap_or_default(),
        secrets: read_secrets(&map, context),
        ssh: read_ssh(&map),
        shm_size_bytes: map.take_filled("shm_size").and_then(|v| v.bytes()),
        ulimits: map.take("ulimits").map(|v| read_ulimits(&v)).unwrap_or_default(),
        entitlements: list("entitlements"),
        provenance: word("provenance"),
        sbom: word("sbom"),
        always: false,
    };
    map.finish();
    Some(build)
}

/// A folder of this host, or what docker itself fetches.
fn folder(item: &Item<'_>, text: &str, context: &Context<'_>) -> String {
    let elsewhere =
        is_remote(text) || ["docker-image:", "oci-layout:", "github.com/"].iter().any(|s| text.starts_with(s));
    if elsewhere { text.to_owned() } else { clean(&context.directory(item.mark()).join(Path::new(text))) }
}

/// A name without a value is taken from the environment, and left out when unset there.
fn read_args(item: &Item<'_>, context: &Context<'_>) -> BTreeMap<String, String> {
    let pairs = item.pairs().unwrap_or_default();
    let value = |name: &str, value: Option<String>, item: &Item<'_>| {
        value.or_else(|| context.variables(item.mark()).get(name).cloned())
    };
    pairs.into_iter().filter_map(|(name, (v, item))| value(&name, v, &item).map(|v| (name, v))).collect()
}

fn read_contexts(map: &MapReader<'_>, context: &Context<'_>) -> BTreeMap<String, String> {
    let mut out = BTreeMap::new();
    for (name, (place, item)) in map.take("additional_contexts").and_then(|v| v.pairs()).unwrap_or_default() {
        let place = place.unwrap_or_default();
        if place.starts_with("service:") {
            item.problem(
                "the image of another service as a context is not supported",
                "Name the image: `docker-image://NAME:TAG`, and build that service first.",
            );
        } else if place.is_empty() {
            item.problem("empty", "Give a folder, a URL or `docker-image://NAME:TAG`.");
        } else {
            out.insert(name, folder(&item, &place, context));
        }
    }
    out
}

fn read_secrets(map: &MapReader<'_>, context: &Context<'_>) -> Vec<BuildSecret> {
    let mut out = Vec::new();
    for item in map.take("secrets").and_then(|v| v.list()).unwrap_or_default() {
        let (source, id) = if item.is_map() {
            let Some(map) = item.map(&keys::GRANT) else { continue };
            let source = map.take("source").and_then(|v| v.word());
            let target = map.take("target").and_then(|v| v.word());
            for key in ["uid", "gid", "mode"] {
                if let Some(v) = map.take(key) {
                    v.warning("has no effect in a build", "Say it in the Dockerfile's `--mount=type=secret`.");
                }
            }
            map.finish();
            if source.is_none() {
                item.problem("`source` is missing", "Name one of the top-level `secrets`.");
            }
            (source, target)
        } else {
            (item.word(), None)
        };
        let Some(source) = source else { continue };
        let from = match find(&item, source, Kind::Secret, context.secrets) {
            Some(Definition::File(path)) => BuildSecretSource::File(path.clone()),
            Some(Definition::Text { variable: Some(name), .. }) => BuildSecretSource::Environment(name.clone()),
            Some(Definition::Text { .. } | Definition::Unknown) | None => continue,
        };
        out.push(BuildSecret { id: id.unwrap_or(source).to_owned(), from });
    }
    out
}

/// `default`, a list, or a map of ids to keys.
fn read_ssh(map: &MapReader<'_>) -> Vec<String> {
    let Some(item) = map.take("ssh") else { return Vec::new() };
    if !item.is_list() && !item.is_map() {
        return item.word().map(|word| vec![word.to_owned()]).unwrap_or_default();
    }
    let pairs = item.pairs().unwrap_or_default();
    pairs.into_iter().map(|(id, (path, _))| path.map_or(id.clone(), |path| format!("{id}={path}"))).collect()
}
