//! Mounts, in the short form where it says everything.

use super::Entries;
use super::emit::Yaml;
use crate::config::project::{ContainerSettings, Mount, MountKind, Recursive};

pub(super) fn write(settings: &ContainerSettings, map: &mut Entries) {
    let (memory, others): (Vec<&Mount>, Vec<&Mount>) =
        settings.mounts.iter().partition(|mount| mount.kind == MountKind::Tmpfs);
    map.list("volumes", others.into_iter().map(|mount| short(mount).unwrap_or_else(|| long(mount))));
    map.list("tmpfs", memory.into_iter().map(tmpfs));
    map.list("volumes_from", settings.volumes_from.iter().map(|from| Yaml::text(&format!("container:{from}"))));
}

fn short(mount: &Mount) -> Option<Yaml> {
    let is_bind = mount.kind == MountKind::Bind;
    let parts = [mount.source.as_deref().unwrap_or_default(), &mount.target];
    let sayable = matches!(mount.kind, MountKind::Bind | MountKind::Volume)
        && mount.create_host_path == is_bind
        && mount.subpath.is_none()
        && mount.labels.is_empty()
        && mount.recursive.is_none()
        && (mount.source.is_some() || mount.options.is_empty() && !mount.read_only)
        && parts.iter().all(|part| !part.contains(':'));
    if !sayable {
        return None;
    }
    let mut options = mount.options.clone();
    if mount.read_only {
        options.push("ro".to_owned());
    }
    let mut text: Vec<String> = mount.source.iter().cloned().collect();
    text.push(mount.target.clone());
    text.extend((!options.is_empty()).then(|| options.join(",")));
    Some(Yaml::text(&text.join(":")))
}

fn long(mount: &Mount) -> Yaml {
    let kind = match mount.kind {
        MountKind::Volume => "volume",
        MountKind::Bind => "bind",
        MountKind::Tmpfs => "tmpfs",
        MountKind::Image => "image",
    };
    let mut map = Entries::default();
    map.text("type", Some(kind));
    map.text("source", mount.source.as_deref());
    map.text("target", Some(&mount.target));
    map.flag("read_only", mount.read_only && mount.kind != MountKind::Image);
    let mut inner = Entries::default();
    let selinux = mount.options.iter().find(|option| matches!(option.as_str(), "z" | "Z"));
    let propagation = mount.options.iter().find(|option| !matches!(option.as_str(), "z" | "Z" | "nocopy"));
    if mount.kind == MountKind::Bind {
        inner.push("create_host_path", Yaml::bool(mount.create_host_path));
        inner.text("propagation", propagation.map(String::as_str));
        inner.text("selinux", selinux.map(String::as_str));
        inner.text(
            "recursive",
            mount.recursive.map(|recursive| match recursive {
                Recursive::Enabled => "enabled",
                Recursive::Disabled => "disabled",
                Recursive::Writable => "writable",
                Recursive::Readonly => "readonly",
            }),
        );
    } else {
        inner.flag("nocopy", mount.options.iter().any(|option| option == "nocopy"));
        inner.text("subpath", mount.subpath.as_deref());
        inner.texts("labels", &mount.labels);
    }
    map.map(kind, inner.0);
    Yaml::Map(map.0)
}

fn tmpfs(mount: &Mount) -> Yaml {
    let mut options = mount.options.clone();
    if mount.read_only {
        options.push("ro".to_owned());
    }
    let options = if options.is_empty() { String::new() } else { format!(":{}", options.join(",")) };
    Yaml::text(&format!("{}{options}", mount.target))
}
