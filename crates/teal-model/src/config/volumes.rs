//! Volumes of the project and mounts of a service, in Compose's short and long form.

use super::keys;
use super::parse::Context;
use super::problem::suggestion;
use super::project::{Mount, MountKind, Project, Volume};
use super::read::Item;
use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

const PROPAGATIONS: [&str; 6] = ["private", "rprivate", "shared", "rshared", "slave", "rslave"];

/// Top-level `volumes`.
pub(super) fn read_all(item: &Item<'_>, project: &str) -> BTreeMap<String, Volume> {
    let mut volumes = BTreeMap::new();
    for (entry, item) in item.entries().unwrap_or_default() {
        if !is_name(&entry.key) {
            item.problem("not a volume name", "A name is letters, digits, `.`, `_` and `-`.");
            continue;
        }
        if let Some(volume) = read_volume(&item, &entry.key, project) {
            volumes.insert(entry.key.clone(), volume);
        }
    }
    volumes
}

fn read_volume(item: &Item<'_>, key: &str, project: &str) -> Option<Volume> {
    let map = item.map(&keys::VOLUME)?;
    let name = map.take("name").and_then(|name| name.word()).map(str::to_owned);
    let external = map.take("external");
    let external = match &external {
        Some(old) if old.is_map() => {
            old.problem("the old form of `external`", "Write `external: true` and `name: ...` beside it.");
            true
        }
        Some(item) => item.boolean().unwrap_or(false),
        None => false,
    };
    let driver = map.take("driver");
    let driver_opts = map.take("driver_opts");
    let labels = map.take("labels");
    if external {
        for setting in [&driver, &driver_opts, &labels].into_iter().flatten() {
            setting.problem("an external volume has no settings", "It exists already: take this out, or `external`.");
        }
    }
    let default_name = if external { key.to_owned() } else { Project::volume_name(project, key) };
    let volume = Volume {
        name: name.unwrap_or(default_name),
        external,
        driver: driver.and_then(|driver| driver.word()).map(str::to_owned),
        driver_opts: driver_opts.and_then(|opts| opts.string_map()).unwrap_or_default(),
        labels: labels.map(|labels| super::service::read_labels(&labels)).unwrap_or_default(),
    };
    map.finish();
    Some(volume)
}

fn is_name(name: &str) -> bool {
    !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-'))
}

/// A service's `volumes`.
pub(super) fn read_mounts(item: &Item<'_>, context: &Context<'_>) -> Vec<Mount> {
    let mut mounts: Vec<Mount> = Vec::new();
    for item in item.list().unwrap_or_default() {
        let Some(mount) = (if item.is_map() { long(&item, context) } else { short(&item, context) }) else { continue };
        if mounts.iter().any(|other| other.target == mount.target) {
            item.problem(format!("two mounts at `{}`", mount.target), "Keep one of them.");
        } else {
            mounts.push(mount);
        }
    }
    mounts
}

fn short(item: &Item<'_>, context: &Context<'_>) -> Option<Mount> {
    let text = item.word()?;
    let parts: Vec<&str> = text.split(':').collect();
    let (source, target, options) = match parts.as_slice() {
        [target] => (None, *target, ""),
        [source, target] => (Some(*source), *target, ""),
        [source, target, options] => (Some(*source), *target, *options),
        _ => {
            item.problem("more than three parts", "Write `SOURCE:TARGET` or `SOURCE:TARGET:OPTIONS`.");
            return None;
        }
    };
    if parts.iter().any(|part| part.is_empty()) {
        item.problem("an empty part between the colons", "Write `SOURCE:TARGET` or `SOURCE:TARGET:OPTIONS`.");
        return None;
    }
    let is_path = source.is_some_and(|s| s.starts_with(['/', '.', '~']));
    let kind = if is_path { MountKind::Bind } else { MountKind::Volume };
    let (read_only, options) = short_options(item, options, kind);
    let source = match source {
        Some(path) if is_path => Some(host_path(item, path, context)?),
        Some(name) => Some(volume_name(item, name, context)?),
        None => None,
    };
    let target = container_path(item, target)?;
    Some(Mount { kind, source, target, read_only, create_host_path: is_path, options, ..Default::default() })
}

fn short_options(item: &Item<'_>, text: &str, kind: MountKind) -> (bool, Vec<String>) {
    let mut read_only = false;
    let mut options = Vec::new();
    for option in text.split(',').filter(|option| !option.is_empty()) {
        let fits = match option {
            "ro" | "rw" => {
                read_only = option == "ro";
                continue;
            }
            "cached" | "delegated" | "consistent" => {
                warn_of_consistency(item);
                continue;
            }
            "z" | "Z" => true,
            "nocopy" => kind == MountKind::Volume,
            other => kind == MountKind::Bind && PROPAGATIONS.contains(&other),
        };
        if fits {
            options.push(option.to_owned());
        } else {
            item.problem(
                format!("unknown option `{option}`"),
                "A mount takes `ro`, `rw`, `z`, `Z`; a volume also `nocopy`; a path also a propagation such as `rslave`.",
            );
        }
    }
    (read_only, options)
}

fn warn_of_consistency(item: &Item<'_>) {
    item.warning("the consistency of a mount does nothing on Linux", "Take it out.");
}

fn long(item: &Item<'_>, context: &Context<'_>) -> Option<Mount> {
    let map = item.map(&keys::MOUNT)?;
    let kind = match map.take("type") {
        Some(kind) => match kind.text() {
            Some("npipe" | "cluster" | "image") => {
                kind.problem("a mount type that is not supported", "Use `volume`, `bind` or `tmpfs`.");
                None
            }
            Some(_) => {
                kind.choice(&[("volume", MountKind::Volume), ("bind", MountKind::Bind), ("tmpfs", MountKind::Tmpfs)])
            }
            None => None,
        },
        None => {
            item.problem("`type` is missing", "Write `type: volume`, `type: bind` or `type: tmpfs`.");
            None
        }
    };
    let target = match map.take("target") {
        Some(target) => target.word().and_then(|text| container_path(&target, text)),
        None => {
            item.problem("`target` is missing", "Give the path in the container: `target: /data`.");
            None
        }
    };
    let source = map.take("source");
    let read_only = map.take("read_only").and_then(|v| v.boolean()).unwrap_or(false);
    if let Some(consistency) = map.take("consistency") {
        warn_of_consistency(&consistency);
    }
    let mut options = Vec::new();
    let bind = map.take("bind");
    let volume = map.take("volume");
    let tmpfs = map.take("tmpfs");
    map.finish();
    for (settings, of) in [(&bind, MountKind::Bind), (&volume, MountKind::Volume), (&tmpfs, MountKind::Tmpfs)] {
        if let (Some(settings), Some(kind)) = (settings, kind)
            && kind != of
        {
            settings.problem("settings of another type of mount", "Take them out, or change `type`.");
        }
    }
    let create_host_path = bind.is_none_or(|bind| read_bind(&bind, &mut options).unwrap_or(true));
    if let Some(volume) = volume {
        read_volume_settings(&volume, &mut options);
    }
    if let Some(tmpfs) = tmpfs {
        read_tmpfs(&tmpfs, &mut options);
    }
    let source = match (kind?, source) {
        (MountKind::Tmpfs, Some(source)) => {
            source.problem("a tmpfs has no source", "Take it out.");
            None
        }
        (MountKind::Bind, None) => {
            item.problem("`source` is missing", "Give the path on the host: `source: ./data`.");
            None
        }
        (MountKind::Tmpfs | MountKind::Volume, None) => None,
        (MountKind::Image, source) => source.and_then(|source| source.word().map(str::to_owned)),
        (MountKind::Bind, Some(source)) => Some(host_path(&source, source.word()?, context)?),
        (MountKind::Volume, Some(source)) => Some(volume_name(&source, source.word()?, context)?),
    };
    let kind = kind?;
    let create_host_path = kind == MountKind::Bind && create_host_path;
    Some(Mount { kind, source, target: target?, read_only, create_host_path, options, ..Default::default() })
}

/// Whether the host path is created when it is missing.
fn read_bind(item: &Item<'_>, options: &mut Vec<String>) -> Option<bool> {
    let map = item.map(&keys::MOUNT_BIND)?;
    let create = map.take("create_host_path").and_then(|v| v.boolean());
    if let Some(propagation) = map.take("propagation") {
        let words = PROPAGATIONS.map(|word| (word, word));
        options.extend(propagation.choice(&words).map(str::to_owned));
    }
    if let Some(selinux) = map.take("selinux") {
        options.extend(selinux.choice(&[("z", "z"), ("Z", "Z")]).map(str::to_owned));
    }
    map.finish();
    create
}

fn read_volume_settings(item: &Item<'_>, options: &mut Vec<String>) {
    let Some(map) = item.map(&keys::MOUNT_VOLUME) else { return };
    if map.take("nocopy").and_then(|v| v.boolean()) == Some(true) {
        options.push("nocopy".to_owned());
    }
    map.finish();
}

fn read_tmpfs(item: &Item<'_>, options: &mut Vec<String>) {
    let Some(map) = item.map(&keys::MOUNT_TMPFS) else { return };
    options.extend(map.take("size").and_then(|size| size.bytes()).map(|bytes| format!("size={bytes}")));
    if let Some(mode) = map.take("mode") {
        let octal = |text: &str| {
            let digits = text.strip_prefix("0o").unwrap_or(text);
            u32::from_str_radix(digits, 8).ok().filter(|mode| *mode <= 0o7777 && !digits.starts_with('+'))
        };
        let mode = mode.parsed(octal, "an octal file mode", "Write it as `1777`.");
        options.extend(mode.map(|mode| format!("mode={mode:o}")));
    }
    map.finish();
}

/// The Docker name of a volume of the project.
fn volume_name(item: &Item<'_>, key: &str, context: &Context<'_>) -> Option<String> {
    if let Some(volume) = context.volumes.get(key) {
        return Some(volume.name.clone());
    }
    if !context.volume_keys.contains(key) {
        let hint = format!("Write `{key}:` under top-level `volumes`, or `./{key}` if you mean a folder.");
        let known = context.volumes.keys().map(String::as_str);
        let hint = suggestion(key, known).map_or(hint.clone(), |suggestion| format!("{suggestion} {hint}"));
        item.problem(format!("volume `{key}` is not defined"), &hint);
    }
    None
}

fn container_path(item: &Item<'_>, path: &str) -> Option<String> {
    if !path.starts_with('/') {
        item.problem("the path in the container is not absolute", "Start it with `/`.");
        return None;
    }
    Some(clean(Path::new(path)))
}

/// An absolute path on the host: relative to the project's folder, `~` is the home folder.
fn host_path(item: &Item<'_>, path: &str, context: &Context<'_>) -> Option<String> {
    let Some(rest) = path.strip_prefix('~') else {
        return Some(clean(&context.sources.directory.join(path)));
    };
    if !rest.is_empty() && !rest.starts_with('/') {
        item.problem("the home folder of another user is not known", "Write the path from `/`.");
        return None;
    }
    match context.sources.environment.get("HOME").filter(|home| home.starts_with('/')) {
        Some(home) => Some(clean(&Path::new(home).join(rest.trim_start_matches('/')))),
        None => {
            item.problem("`~` without a HOME in the environment", "Write the path from `/`.");
            None
        }
    }
}

/// `/a/./b/../c/` -> `/a/c`, by the letters alone: the host may be another machine.
pub(super) fn clean(path: &Path) -> String {
    let mut out = PathBuf::from("/");
    for part in path.components() {
        match part {
            Component::ParentDir => {
                out.pop();
            }
            Component::Normal(name) => out.push(name),
            Component::CurDir | Component::RootDir | Component::Prefix(_) => {}
        }
    }
    out.to_string_lossy().into_owned()
}
