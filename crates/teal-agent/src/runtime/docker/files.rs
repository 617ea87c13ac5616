//! Files put into a container before it starts: secrets and configs whose text is in the compose file or the environment.

use super::super::{ContainerSpec, Result, RuntimeError};
use super::DockerRuntime;
use super::connection::{bounded, status};
use super::lifecycle::plain;
use bollard::query_parameters::UploadToContainerOptions;
use teal_model::config::{ContainerSettings, FileToWrite, MountKind};

/// As Compose writes them.
const FILE_TIME: u64 = 0;

/// What would be lost is refused before the container is made: Docker writes nothing under a read-only root, and a tmpfs is
/// mounted over what was written.
pub fn refuse_lost(spec: &ContainerSpec) -> Result<()> {
    let refused = |why: String| RuntimeError::Refused { what: format!("create container `{}`", spec.name), why };
    let settings = &spec.settings;
    let Some(first) = settings.files.first() else { return Ok(()) };
    if settings.read_only {
        return Err(refused(format!(
            "Docker cannot write `{}` into a container that is `read_only`; give the secret or config as a `file`",
            first.target
        )));
    }
    match settings.files.iter().find_map(|file| Some((file, tmpfs_above(settings, &file.target)?))) {
        Some((file, tmpfs)) => Err(refused(format!(
            "the tmpfs on `{tmpfs}` would hide `{}`; give the secret or config as a `file`, or another target",
            file.target
        ))),
        None => Ok(()),
    }
}

fn tmpfs_above<'a>(settings: &'a ContainerSettings, target: &str) -> Option<&'a str> {
    let under = |mount: &str| {
        target.strip_prefix(mount.trim_end_matches('/')).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    // The deepest mount is the one that counts.
    let mounts = settings.mounts.iter().filter(|mount| under(&mount.target));
    let deepest = mounts.max_by_key(|mount| mount.target.trim_end_matches('/').len())?;
    (deepest.kind == MountKind::Tmpfs).then_some(deepest.target.as_str())
}

/// From the root. Folders on the way are not in it: those that exist keep mode and owner, and Docker makes the others.
fn archive(files: &[FileToWrite]) -> std::io::Result<Vec<u8>> {
    let mut archive = tar::Builder::new(Vec::new());
    for file in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(file.content.len() as u64);
        header.set_mode(file.mode & 0o7777);
        header.set_uid(file.uid.unwrap_or(0).into());
        header.set_gid(file.gid.unwrap_or(0).into());
        header.set_mtime(FILE_TIME);
        archive.append_data(&mut header, file.target.trim_start_matches('/'), file.content.as_bytes())?;
    }
    archive.into_inner()
}

impl DockerRuntime {
    pub(super) async fn files_write(&self, id: &str, files: &[FileToWrite]) -> Result<()> {
        if files.is_empty() {
            return Ok(());
        }
        let id = plain(id)?;
        let what = || format!("write files into container {id}");
        // A path, or what is wrong with it; never the content.
        let archive = archive(files).map_err(|error| RuntimeError::Refused { what: what(), why: error.to_string() })?;
        let options = UploadToContainerOptions { path: "/".into(), ..Default::default() };
        let client = self.connection.client().await?;
        match bounded(client.upload_to_container(id, Some(options), bollard::body_full(archive.into()))).await {
            Ok(()) => Ok(()),
            Err(error) if status(&error) == Some(404) && error.to_string().contains("No such container") => {
                Err(RuntimeError::NotFound { kind: "container", name: id.to_owned() })
            }
            Err(error) => Err(self.connection.fault(what(), error)),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use teal_model::config::Mount;

    fn file(target: &str) -> FileToWrite {
        FileToWrite { target: target.into(), content: "hunter2".into(), mode: 0o440, uid: Some(70_000), gid: None }
    }

    fn spec(change: impl FnOnce(&mut ContainerSettings)) -> ContainerSpec {
        let mut spec = ContainerSpec { name: "web".into(), ..Default::default() };
        spec.settings.files = vec![file("/run/secrets/key")];
        change(&mut spec.settings);
        spec
    }

    #[test]
    fn the_archive_has_mode_and_owner_and_no_folders() {
        let long = format!("/{}key", "folder/".repeat(20));
        let bytes = archive(&[file("/run/secrets/key"), file(&long)]).unwrap();
        let mut read = tar::Archive::new(bytes.as_slice());
        let seen: Vec<_> = read
            .entries()
            .unwrap()
            .map(|entry| {
                let entry = entry.unwrap();
                let header = entry.header();
                let path = entry.path().unwrap().to_string_lossy().into_owned();
                (path, header.mode().unwrap(), header.uid().unwrap(), header.gid().unwrap())
            })
            .collect();
        assert_eq!(seen[0], ("run/secrets/key".to_owned(), 0o440, 70_000, 0));
        assert_eq!((seen.len(), seen[1].0.ends_with("folder/key")), (2, true));
    }

    #[test]
    fn a_target_that_leaves_the_container_is_refused_without_the_content() {
        let text = archive(&[file("/run/../../etc/passwd")]).unwrap_err().to_string();
        assert!(!text.contains("hunter2"), "{text}");
    }

    #[test]
    fn a_file_that_nobody_would_see_is_refused() {
        let tmpfs = |target: &str| Mount { kind: MountKind::Tmpfs, target: target.into(), ..Default::default() };
        let volume = |target: &str| Mount { target: target.into(), ..Default::default() };
        refuse_lost(&spec(|_| {})).unwrap();
        refuse_lost(&spec(|s| s.mounts = vec![tmpfs("/run/secret"), tmpfs("/run"), volume("/run/secrets/")])).unwrap();
        let text = refuse_lost(&spec(|s| s.mounts = vec![tmpfs("/run/")])).unwrap_err().to_string();
        assert!(text.contains("tmpfs") && text.contains("/run/secrets/key"), "{text}");
        assert!(refuse_lost(&spec(|s| s.read_only = true)).unwrap_err().to_string().contains("read_only"));
        refuse_lost(&spec(|s| {
            s.read_only = true;
            s.files.clear();
        }))
        .unwrap();
    }
}
