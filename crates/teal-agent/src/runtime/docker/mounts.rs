//! Volumes, host paths, memory and images into a container.

use super::super::{ContainerSpec, Result};
use super::container::list;
use super::version::Speaks;
use bollard::models::{
    HostConfig, Mount as DockerMount, MountBindOptions, MountBindOptionsPropagationEnum as Propagation,
    MountImageOptions, MountType, MountVolumeOptions,
};
use teal_model::config::{Mount, MountKind, Recursive};

const NO_COPY: &str = "nocopy";

pub fn set(host: &mut HostConfig, spec: &ContainerSpec, speaks: &Speaks) -> Result<()> {
    let (mut short, mut long, mut memory) = (Vec::new(), Vec::new(), Vec::new());
    for mount in mounts(spec) {
        match mount.kind {
            MountKind::Tmpfs => memory.push(tmpfs(&mount)),
            _ if needs_short_form(&mount) => short.push(short_form(&mount, speaks)?),
            _ => long.push(long_form(&mount, speaks)?),
        }
    }
    host.binds = (!short.is_empty()).then_some(short);
    host.mounts = (!long.is_empty()).then_some(long);
    host.tmpfs = (!memory.is_empty()).then(|| memory.into_iter().collect());
    host.volumes_from = list(&spec.settings.volumes_from);
    Ok(())
}

/// What is written, and the anonymous volumes of the container before: under the mount that made one, or where the image has
/// a VOLUME.
fn mounts(spec: &ContainerSpec) -> Vec<Mount> {
    let mut all = spec.settings.mounts.clone();
    for (target, volume) in &spec.anonymous {
        let same = |mount: &&mut Mount| mount.target.trim_end_matches('/') == target.trim_end_matches('/');
        match all.iter_mut().find(same) {
            Some(mount) if mount.kind == MountKind::Volume && mount.source.is_none() => {
                mount.source = Some(volume.clone());
            }
            Some(_) => {}
            None => all.push(Mount { source: Some(volume.clone()), target: target.clone(), ..Default::default() }),
        }
    }
    all
}

/// The long form cannot say `z`, and below API 1.42 cannot create a host path; the short one cannot hold a colon, nor
/// anything but options.
fn needs_short_form(mount: &Mount) -> bool {
    let Some(source) = &mount.source else {
        return false;
    };
    let creates = mount.kind == MountKind::Bind && mount.create_host_path && beyond_short_form(mount).is_none();
    let unknown = mount.options.iter().any(|o| o != NO_COPY && propagation(o).is_none());
    (creates || unknown) && !source.contains(':') && mount.kind != MountKind::Image
}

/// The key that only the long form can say.
fn beyond_short_form(mount: &Mount) -> Option<&'static str> {
    match mount {
        Mount { recursive: Some(_), .. } => Some("bind.recursive"),
        Mount { subpath: Some(_), .. } => Some("volume.subpath"),
        _ => None,
    }
}

fn short_form(mount: &Mount, speaks: &Speaks) -> Result<String> {
    let target = &mount.target;
    if let Some(key) = beyond_short_form(mount) {
        let options = mount.options.join(",");
        return Err(speaks.refused(format!("`{key}` of the mount at `{target}` cannot go with `{options}`")));
    }
    let mut options = mount.options.clone();
    options.retain(|o| o != "ro" && o != "rw");
    options.push(if mount.read_only { "ro".into() } else { "rw".into() });
    Ok(format!("{}:{target}:{}", mount.source.as_deref().unwrap_or_default(), options.join(",")))
}

fn long_form(mount: &Mount, speaks: &Speaks) -> Result<DockerMount> {
    let unsaid = mount.options.iter().find(|o| *o != NO_COPY && *o != "ro" && *o != "rw" && propagation(o).is_none());
    if let Some(option) = unsaid {
        let target = &mount.target;
        return Err(speaks.refused(format!(
            "the mount at `{target}` cannot have `{option}`, since Docker's long form has no such option"
        )));
    }
    let (typ, key) = match mount.kind {
        MountKind::Bind => (MountType::BIND, "volumes.bind"),
        MountKind::Image => (MountType::IMAGE, "volumes.type: image"),
        MountKind::Volume | MountKind::Tmpfs => (MountType::VOLUME, "volumes.volume"),
    };
    match mount.kind {
        MountKind::Image => speaks.needs(key, "28.0", 48)?,
        _ if mount.subpath.is_some() => speaks.needs("volumes.volume.subpath", "26.0", 45)?,
        _ => {}
    }
    Ok(DockerMount {
        target: Some(mount.target.clone()),
        source: mount.source.clone(),
        typ: Some(typ),
        read_only: Some(mount.read_only),
        bind_options: match mount.kind {
            MountKind::Bind => Some(bind_options(mount, speaks)?),
            _ => None,
        },
        volume_options: (mount.kind == MountKind::Volume).then(|| MountVolumeOptions {
            no_copy: Some(mount.options.iter().any(|o| o == NO_COPY)),
            labels: (!mount.labels.is_empty()).then(|| mount.labels.clone().into_iter().collect()),
            subpath: mount.subpath.clone(),
            ..Default::default()
        }),
        image_options: (mount.kind == MountKind::Image && mount.subpath.is_some())
            .then(|| MountImageOptions { subpath: mount.subpath.clone() }),
        ..Default::default()
    })
}

fn bind_options(mount: &Mount, speaks: &Speaks) -> Result<MountBindOptions> {
    if mount.create_host_path && beyond_short_form(mount).is_some() && !speaks.at_least(42) {
        // Docker says so itself when the path is missing; said here, it does not depend on the host's files.
        let key = "volumes.bind.recursive together with bind.create_host_path";
        speaks.needs(key, "23.0", 42)?;
    }
    if mount.recursive == Some(Recursive::Readonly) {
        speaks.needs("volumes.bind.recursive: readonly", "25.0", 44)?;
    }
    Ok(MountBindOptions {
        propagation: mount.options.iter().find_map(|o| propagation(o)),
        create_mountpoint: mount.create_host_path.then_some(true),
        non_recursive: (mount.recursive == Some(Recursive::Disabled)).then_some(true),
        // Before API 1.44 mounts below a read-only one were always writable.
        read_only_non_recursive: (mount.recursive == Some(Recursive::Writable) && speaks.at_least(44)).then_some(true),
        read_only_force_recursive: (mount.recursive == Some(Recursive::Readonly)).then_some(true),
    })
}

fn tmpfs(mount: &Mount) -> (String, String) {
    let mut options = mount.options.clone();
    if mount.read_only {
        options.push("ro".into());
    }
    (mount.target.clone(), options.join(","))
}

fn propagation(option: &str) -> Option<Propagation> {
    Some(match option {
        "private" => Propagation::PRIVATE,
        "rprivate" => Propagation::RPRIVATE,
        "shared" => Propagation::SHARED,
        "rshared" => Propagation::RSHARED,
        "slave" => Propagation::SLAVE,
        "rslave" => Propagation::RSLAVE,
        _ => return None,
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use bollard::ClientVersion;

    fn speaks(minor: usize) -> Speaks {
        Speaks::new(ClientVersion { major_version: 1, minor_version: minor }, "create container `a`")
    }

    fn bound(options: &[&str], create_host_path: bool, source: &str) -> Mount {
        Mount {
            kind: MountKind::Bind,
            source: Some(source.into()),
            target: "/in".into(),
            read_only: true,
            create_host_path,
            options: options.iter().map(|o| (*o).to_owned()).collect(),
            ..Default::default()
        }
    }

    fn set_of(mount: Mount, minor: usize) -> Result<HostConfig> {
        let mut spec = ContainerSpec::default();
        spec.settings.mounts = vec![mount];
        let mut host = HostConfig::default();
        set(&mut host, &spec, &speaks(minor)).map(|()| host)
    }

    #[test]
    fn a_bind_takes_the_form_that_can_say_it() {
        let binds = |mount| set_of(mount, 41).unwrap().binds;
        assert_eq!(binds(bound(&["z"], true, "/srv")).unwrap(), ["/srv:/in:z,ro"]);
        assert_eq!(binds(bound(&[], true, "/srv")).unwrap(), ["/srv:/in:ro"]);
        assert_eq!(binds(bound(&["Z"], false, "/srv")).unwrap(), ["/srv:/in:Z,ro"]);
        assert_eq!(binds(bound(&["rshared"], false, "/srv")), None);
        let odd = set_of(bound(&[], true, "/srv/a:b"), 41).unwrap().mounts.unwrap().remove(0);
        assert_eq!(odd.bind_options.and_then(|b| b.create_mountpoint), Some(true));
        let text = set_of(bound(&["z"], false, "/srv/a:b"), 41).unwrap_err().to_string();
        assert!(text.contains("`z`"), "{text}");
    }

    #[test]
    fn what_an_old_engine_cannot_mount_is_refused_by_key() {
        let volume = Mount { source: Some("v".into()), target: "/v".into(), ..Default::default() };
        let part = Mount { subpath: Some("a".into()), ..volume.clone() };
        let image = Mount { kind: MountKind::Image, ..volume };
        let locked = Mount { recursive: Some(Recursive::Readonly), ..bound(&["rprivate"], false, "/srv") };
        let created = Mount { recursive: Some(Recursive::Disabled), ..bound(&[], true, "/srv") };
        for (mount, key, enough) in [
            (part, "volumes.volume.subpath", 45),
            (image, "volumes.type: image", 48),
            (locked, "bind.recursive: readonly", 44),
            (created, "create_host_path", 42),
        ] {
            let text = set_of(mount.clone(), enough - 1).unwrap_err().to_string();
            assert!(text.contains(key), "{text}");
            assert_eq!(set_of(mount, enough).unwrap().mounts.unwrap().len(), 1);
        }
    }

    #[test]
    fn mounts_below_a_read_only_one_stay_writable_when_asked_for() {
        let mount = Mount { recursive: Some(Recursive::Writable), ..bound(&[], false, "/srv") };
        let said = |minor| {
            let mounts = set_of(mount.clone(), minor).unwrap().mounts.unwrap();
            mounts[0].bind_options.clone().unwrap().read_only_non_recursive
        };
        assert_eq!((said(43), said(44)), (None, Some(true)));
    }

    #[test]
    fn an_anonymous_volume_goes_where_it_was_unless_something_else_is_there() {
        let mut spec = ContainerSpec::default();
        let at = |target: &str, source: Option<&str>| Mount {
            source: source.map(str::to_owned),
            target: target.into(),
            options: vec![NO_COPY.into()],
            ..Default::default()
        };
        spec.settings.mounts = vec![at("/cache/", None), at("/data", Some("shop_data"))];
        for (target, name) in [("/cache", "v1"), ("/data", "v2"), ("/image", "v3")] {
            spec.anonymous.insert(target.into(), name.into());
        }
        let seen: Vec<(String, Option<String>)> = mounts(&spec).into_iter().map(|m| (m.target, m.source)).collect();
        let wanted = [("/cache/", "v1"), ("/data", "shop_data"), ("/image", "v3")];
        assert_eq!(seen, wanted.map(|(target, source)| (target.to_owned(), Some(source.to_owned()))));
    }
}
