//! What is mounted into a container, and the volumes that are somebody's already.

use super::key;
use bollard::models::{
    ContainerConfig, HostConfig, ImageConfig, Mount as DockerMount, MountBindOptionsPropagationEnum as Propagation,
    MountType,
};
use std::collections::BTreeMap;
use teal_model::api::DescribedContainer;
use teal_model::config::{Mount, MountKind, Recursive, Volume};

pub fn read(host: &HostConfig, config: &ContainerConfig, image: &ImageConfig, out: &mut DescribedContainer) {
    let mut mounts: Vec<Mount> = Vec::new();
    for bind in host.binds.iter().flatten() {
        match short(bind) {
            Some(mount) => mounts.push(mount),
            None => out.unsaid.push(format!("the mount `{bind}`")),
        }
    }
    for mount in host.mounts.iter().flatten() {
        match long(mount) {
            Ok(mount) => mounts.push(mount),
            Err(what) => out.unsaid.push(what),
        }
    }
    let mounted = |mounts: &[Mount], path: &str| mounts.iter().any(|mount| mount.target == path);
    let images = image.volumes.as_deref().unwrap_or_default();
    let tmpfs: BTreeMap<&String, &String> = host.tmpfs.iter().flatten().collect();
    let mut own: Vec<&String> = config.volumes.iter().flatten().filter(|path| !images.contains(path)).collect();
    own.sort_unstable();
    for path in own {
        if !mounted(&mounts, path) && !tmpfs.contains_key(path) {
            mounts.push(Mount { target: path.clone(), ..Mount::default() });
        }
    }
    for (target, options) in tmpfs {
        let words = options.split(',').filter(|word| !word.is_empty());
        let read_only = words.clone().any(|word| word == "ro");
        let options = words.filter(|word| !matches!(*word, "ro" | "rw")).map(str::to_owned).collect();
        mounts.push(Mount { kind: MountKind::Tmpfs, target: target.clone(), read_only, options, ..Mount::default() });
    }
    // As the reader of compose files puts them.
    mounts.sort_by_key(|mount| mount.kind == MountKind::Tmpfs);
    for name in mounts.iter().filter(|mount| mount.kind == MountKind::Volume).filter_map(|mount| mount.source.clone()) {
        out.volumes.insert(key(&name), Volume { name, external: true, ..Volume::default() });
    }
    out.service.container.mounts = mounts;
}

/// `SOURCE:TARGET[:OPTIONS]`, as `docker run -v` left it.
fn short(text: &str) -> Option<Mount> {
    let (source, target, options) = match text.split(':').collect::<Vec<_>>()[..] {
        [source, target] => (source, target, ""),
        [source, target, options] => (source, target, options),
        _ => return None,
    };
    let is_path = source.starts_with('/');
    let words = options.split(',').filter(|word| !word.is_empty());
    // Consistency is a word for other systems.
    let kept = words.clone().filter(|word| !matches!(*word, "ro" | "rw" | "cached" | "delegated" | "consistent"));
    Some(Mount {
        kind: if is_path { MountKind::Bind } else { MountKind::Volume },
        source: Some(source.to_owned()),
        target: target.to_owned(),
        read_only: words.clone().any(|word| word == "ro"),
        create_host_path: is_path,
        options: kept.map(str::to_owned).collect(),
        ..Mount::default()
    })
}

/// As `docker run --mount` left it. Err: what the file cannot say.
fn long(seen: &DockerMount) -> Result<Mount, String> {
    let DockerMount {
        target,
        source,
        typ,
        read_only,
        consistency: _,
        bind_options,
        volume_options,
        image_options,
        tmpfs_options,
    } = seen.clone();
    let target = target.unwrap_or_default();
    let kind = match typ {
        Some(MountType::BIND) => MountKind::Bind,
        Some(MountType::VOLUME) => MountKind::Volume,
        Some(MountType::TMPFS) => MountKind::Tmpfs,
        Some(MountType::IMAGE) => MountKind::Image,
        _ => return Err(format!("the mount at {target}, whose type Compose does not know")),
    };
    let mut mount = Mount {
        kind,
        source: source.filter(|source| !source.is_empty()),
        target,
        read_only: read_only.unwrap_or(false) || kind == MountKind::Image,
        ..Mount::default()
    };
    if let Some(bind) = bind_options {
        mount.create_host_path = bind.create_mountpoint.unwrap_or(false);
        mount.options.extend(bind.propagation.and_then(propagation).map(str::to_owned));
        mount.recursive = match bind {
            _ if bind.non_recursive == Some(true) => Some(Recursive::Disabled),
            _ if bind.read_only_non_recursive == Some(true) => Some(Recursive::Writable),
            _ if bind.read_only_force_recursive == Some(true) => Some(Recursive::Readonly),
            _ => None,
        };
    }
    if let Some(volume) = volume_options {
        if volume.no_copy == Some(true) {
            mount.options.push("nocopy".to_owned());
        }
        mount.subpath = volume.subpath.filter(|path| !path.is_empty());
        // A volume with a name is there, with the labels that it was made with.
        let labels = volume.labels.unwrap_or_default().into_iter().collect();
        mount.labels = if mount.source.is_none() { labels } else { BTreeMap::new() };
    }
    if let Some(image) = image_options {
        mount.subpath = image.subpath.filter(|path| !path.is_empty());
    }
    if let Some(memory) = tmpfs_options {
        mount.options.extend(memory.size_bytes.filter(|bytes| *bytes > 0).map(|bytes| format!("size={bytes}")));
        mount.options.extend(memory.mode.filter(|mode| *mode > 0).map(|mode| format!("mode={mode:o}")));
    }
    Ok(mount)
}

fn propagation(seen: Propagation) -> Option<&'static str> {
    Some(match seen {
        Propagation::PRIVATE => "private",
        Propagation::RPRIVATE => "rprivate",
        Propagation::SHARED => "shared",
        Propagation::RSHARED => "rshared",
        Propagation::SLAVE => "slave",
        Propagation::RSLAVE => "rslave",
        Propagation::EMPTY => return None,
    })
}
