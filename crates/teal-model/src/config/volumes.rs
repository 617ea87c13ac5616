//! Volumes of the project and mounts of a service, in Compose's short and long form.

use super::keys;
use super::parse::Context;
use super::problem::suggestion;
use super::project::{Mount, MountKind, Project, Recursive, Volume};
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
    let (external, old_name) = read_external(map.take("external"));
    let name = map.take("name").and_then(|name| name.word()).map(str::to_owned).or(old_name);
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

/// Whether it is external, and the name that the old form `external: {name: ...}` gives it.
pub(super) fn read_external(item: Option<Item<'_>>) -> (bool, Option<String>) {
    let Some(item) = item else { return (false, None) };
    if !item.is_map() {
        return (item.boolean().unwrap_or(false), None);
    }
    item.warning("the old form of `external`", "Write `external: true`, and `name: ...` beside it.");
    let Some(map) = item.map(&keys::EXTERNAL) else { return (true, None) };
    let name = map.take("name").and_then(|name| name.word()).map(str::to_owned);
    map.finish();
    (true, name)
}

pub(super) fn is_name(name: &str) -> bool {
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

/// `tmpfs`: `/run` or `/run:size=64m,mode=755`.
pub(super) fn read_tmpfs_list(item: &Item<'_>) -> Vec<Mount> {
    let read = |item: &Item<'_>| {
        let text = item.word()?;
        let (target, options) = text.split_once(':').unwrap_or((text, ""));
        let target = container_path(item, target)?;
        let mut options: Vec<String> =
            options.split(',').filter(|option| !option.is_empty()).map(str::to_owned).collect();
        let read_only = options.iter().any(|option| option == "ro");
        options.retain(|option| !matches!(option.as_str(), "ro" | "rw"));
        Some(Mount { kind: MountKind::Tmpfs, target, read_only, options, ..Mount::default() })
    };
    item.one_or_list().unwrap_or_default().iter().filter_map(read).collect()
}

/// `C:\data`, `C:/data:/data`, `.\data`, `\\server\share`; `c:/data` alone is a volume with a short name.
fn is_windows_path(text: &str) -> bool {
    let drive = |text: &str| {
        let (letter, rest) = text.split_once(':')?;
        let is_letter = letter.len() == 1 && letter.starts_with(|c: char| c.is_ascii_alphabetic());
        Some(is_letter && (rest.starts_with('\\') || (rest.starts_with('/') && rest.contains(":/"))))
    };
    text.starts_with(".\\") || text.starts_with("\\\\") || drive(text).unwrap_or(false)
}

fn short(item: &Item<'_>, context: &Context<'_>) -> Option<Mount> {
    let text = item.word()?;
    if is_windows_path(text) {
        item.problem("a path of Windows", "Write the path as it is on the server: `./data:/data`, `/srv/data:/data`.");
        return None;
    }
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
            Some("npipe" | "cluster") => {
                kind.problem(
                    "a mount type that is not supported",
                    "It is for Windows or Swarm: use `volume`, `bind`, `tmpfs` or `image`.",
                );
                None
            }
            Some(_) => kind.choice(&[
                ("volume", MountKind::Volume),
                ("bind", MountKind::Bind),
                ("tmpfs", MountKind::Tmpfs),
                ("image", MountKind::Image),
            ]),
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
    let read_only = map.take_filled("read_only").and_then(|v| v.boolean()).unwrap_or(false);
    if let Some(consistency) = map.take("consistency") {
        warn_of_consistency(&consistency);
    }
    let mut mount = Mount::default();
    let bind = map.take("bind");
    let volume = map.take("volume");
    let tmpfs = map.take("tmpfs");
    let image = map.take("image");
    map.finish();
    for (settings, of) in
        [(&bind, MountKind::Bind), (&volume, MountKind::Volume), (&tmpfs, MountKind::Tmpfs), (&image, MountKind::Image)]
    {
        if let (Some(settings), Some(kind)) = (settings, kind)
            && kind != of
        {
            settings.problem("settings of another type of mount", "Take them out, or change `type`.");
        }
    }
    let create_host_path = bind.is_none_or(|bind| read_bind(&bind, &mut mount).unwrap_or(true));
    if let Some(volume) = volume {
        read_volume_settings(&volume, &mut mount);
    }
    if let Some(tmpfs) = tmpfs {
        read_tmpfs(&tmpfs, &mut mount.options);
    }
    if let Some(image) = image.and_then(|image| image.map(&keys::MOUNT_IMAGE)) {
        mount.subpath = image.take("subpath").and_then(|v| read_subpath(&v));
        image.finish();
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
        (MountKind::Image, None) => {
            item.problem("`source` is missing", "Name the image whose files are mounted: `source: assets:1.2`.");
            None
        }
        (MountKind::Tmpfs | MountKind::Volume, None) => None,
        (MountKind::Image, Some(source)) => Some(source.word()?.to_owned()),
        (MountKind::Bind, Some(source)) => Some(host_path(&source, source.word()?, context)?),
        (MountKind::Volume, Some(source)) => Some(volume_name(&source, source.word()?, context)?),
    };
    let kind = kind?;
    let create_host_path = kind == MountKind::Bind && create_host_path;
    let read_only = read_only || kind == MountKind::Image;
    Some(Mount { kind, source, target: target?, read_only, create_host_path, ..mount })
}

/// Whether the host path is created when it is missing.
fn read_bind(item: &Item<'_>, mount: &mut Mount) -> Option<bool> {
    let map = item.map(&keys::MOUNT_BIND)?;
    let create = map.take("create_host_path").and_then(|v| v.boolean());
    if let Some(propagation) = map.take("propagation") {
        let words = PROPAGATIONS.map(|word| (word, word));
        mount.options.extend(propagation.choice(&words).map(str::to_owned));
    }
    if let Some(selinux) = map.take("selinux") {
        mount.options.extend(selinux.choice(&[("z", "z"), ("Z", "Z")]).map(str::to_owned));
    }
    mount.recursive = map.take("recursive").and_then(|v| {
        v.choice(&[
            ("enabled", Recursive::Enabled),
            ("disabled", Recursive::Disabled),
            ("writable", Recursive::Writable),
            ("readonly", Recursive::Readonly),
        ])
    });
    map.finish();
    create
}

fn read_volume_settings(item: &Item<'_>, mount: &mut Mount) {
    let Some(map) = item.map(&keys::MOUNT_VOLUME) else { return };
    if map.take("nocopy").and_then(|v| v.boolean()) == Some(true) {
        mount.options.push("nocopy".to_owned());
    }
    mount.subpath = map.take("subpath").and_then(|v| read_subpath(&v));
    mount.labels = map.take("labels").map(|v| super::service::read_labels(&v)).unwrap_or_default();
    map.finish();
}

fn read_subpath(item: &Item<'_>) -> Option<String> {
    let inside = |text: &str| {
        let stays = !text.is_empty() && !text.starts_with('/') && text.split('/').all(|part| part != "..");
        stays.then(|| text.to_owned())
    };
    item.parsed(inside, "a path inside of it", "Write it without `/` at the start and without `..`.")
}

fn read_tmpfs(item: &Item<'_>, options: &mut Vec<String>) {
    let Some(map) = item.map(&keys::MOUNT_TMPFS) else { return };
    options.extend(map.take("size").and_then(|size| size.bytes()).map(|bytes| format!("size={bytes}")));
    if let Some(mode) = map.take("mode") {
        options.extend(super::files::read_mode(&mode).map(|mode| format!("mode={mode:o}")));
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

/// An absolute path on the host: relative to the folder of its file, `~` is the home folder.
pub(super) fn host_path(item: &Item<'_>, path: &str, context: &Context<'_>) -> Option<String> {
    if is_windows_path(path) {
        item.problem("a path of Windows", "Write the path as it is on the server: `./data`, `/srv/data`.");
        return None;
    }
    let Some(rest) = path.strip_prefix('~') else {
        return Some(clean(&context.directory(item.mark()).join(path)));
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
