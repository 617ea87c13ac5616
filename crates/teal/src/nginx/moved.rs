//! What was changed in nginx's files for a service: kept beside the journal, until it is taken back.
//!
//! Not beside the files themselves, since nginx includes whole folders.

use super::Nginx;
use crate::print::diff;
use serde::{Deserialize, Serialize};
use std::fs::OpenOptions;
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use teal_model::fault::{Code, Fault};
use teal_model::ids::ServiceKey;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Moved {
    pub service: ServiceKey,
    pub nginx: Nginx,
    /// The file with the process id of nginx's master.
    pub pid: Option<PathBuf>,
    pub files: Vec<Changed>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Changed {
    pub path: PathBuf,
    pub before: String,
    pub after: String,
}

impl Moved {
    /// Puts the new texts in place, and lets nginx take them; whatever fails leaves every file as it was.
    pub fn apply(&self, state: &Path) -> Result<(), Fault> {
        let mut kept = self.clone();
        if let Some(earlier) = Self::read(state, &self.service)? {
            kept.files = earlier.beneath(&self.files)?;
        }
        kept.keep(state)?;
        let done = self.write(|file| &file.after).and_then(|()| self.nginx.test());
        if let Err(fault) = done {
            self.write(|file| &file.before)?;
            self.forget_unless_earlier(state, &kept)?;
            return Err(fault.hint("every file is as it was; nginx was not reloaded"));
        }
        if let Err(fault) = self.nginx.reload(self.pid.as_deref()) {
            self.write(|file| &file.before)?;
            // It may have taken them late: then it takes these, too.
            let again = self.nginx.reload(None);
            self.forget_unless_earlier(state, &kept)?;
            let hint = match again {
                Ok(()) => "every file is as it was; see nginx's error log",
                Err(_) => "every file is as it was; see that nginx runs, and its error log",
            };
            return Err(fault.hint(hint));
        }
        Ok(())
    }

    /// Every file as it was before the first change, if nobody has changed it since.
    pub fn undo(&self, state: &Path) -> Result<(), Fault> {
        for file in &self.files {
            let now = read(&file.path)?;
            if now != file.after && now != file.before {
                let what = format!("{} was edited since", file.path.display());
                return Err(Fault::new(Code::Usage, what)
                    .detail(diff::lines(&file.after, &now))
                    .hint("take back by hand what is to go; nothing was changed"));
            }
        }
        self.write(|file| &file.before)?;
        let taken = self.nginx.test().and_then(|()| self.nginx.reload(self.pid.as_deref()));
        if let Err(fault) = taken {
            self.write(|file| &file.after)?;
            return Err(fault.hint("the files are as they were before this command"));
        }
        self.forget(state)
    }

    /// Those of an earlier change, with what is changed now on top.
    fn beneath(self, now: &[Changed]) -> Result<Vec<Changed>, Fault> {
        let mut files = self.files;
        for change in now {
            match files.iter_mut().find(|file| file.path == change.path) {
                Some(file) if file.after == change.before => file.after.clone_from(&change.after),
                Some(file) => {
                    let what = format!("{} was edited since it was changed for {}", file.path.display(), self.service);
                    return Err(Fault::new(Code::Usage, what)
                        .detail(diff::lines(&file.after, &change.before))
                        .hint("`teal adopt nginx --undo` first, or make the further changes by hand"));
                }
                None => files.push(change.clone()),
            }
        }
        Ok(files)
    }

    fn forget_unless_earlier(&self, state: &Path, kept: &Moved) -> Result<(), Fault> {
        let mut earlier = kept.clone();
        for file in &mut earlier.files {
            if let Some(change) = self.files.iter().find(|change| change.path == file.path) {
                file.after.clone_from(&change.before);
            }
        }
        earlier.files.retain(|file| file.before != file.after);
        if earlier.files.is_empty() { self.forget(state) } else { earlier.keep(state) }
    }

    /// In place: a file may be mounted into a container by itself, or be led to by a link.
    fn write(&self, text: impl Fn(&Changed) -> &String) -> Result<(), Fault> {
        for file in &self.files {
            let opened = OpenOptions::new().write(true).truncate(true).open(&file.path);
            let written = opened.and_then(|mut out| out.write_all(text(file).as_bytes()).and_then(|()| out.sync_all()));
            written.map_err(|error| {
                Fault::new(Code::Usage, format!("{} cannot be written: {error}", file.path.display()))
                    .hint("run it as the user that nginx's files belong to; `--undo` puts back what was changed")
            })?;
        }
        Ok(())
    }

    fn keep(&self, state: &Path) -> Result<(), Fault> {
        let path = record(state, &self.service);
        let unusable = |error: std::io::Error| {
            Fault::new(Code::StateDir, format!("{} cannot be written: {error}", path.display()))
        };
        let folder = path.parent().unwrap_or(state);
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(unusable)?;
        let next = path.with_extension("next");
        let mut file =
            OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&next).map_err(unusable)?;
        let text = serde_json::to_vec_pretty(self).unwrap_or_default();
        file.write_all(&text).and_then(|()| file.sync_all()).map_err(unusable)?;
        std::fs::rename(&next, &path).map_err(unusable)
    }

    fn forget(&self, state: &Path) -> Result<(), Fault> {
        let path = record(state, &self.service);
        std::fs::remove_file(&path)
            .map_err(|error| Fault::new(Code::StateDir, format!("{} cannot be removed: {error}", path.display())))
    }

    pub fn read(state: &Path, service: &ServiceKey) -> Result<Option<Self>, Fault> {
        let path = record(state, service);
        let unreadable = |why: String| Fault::new(Code::StateDir, format!("{} cannot be read: {why}", path.display()));
        match std::fs::read(&path) {
            Ok(text) => serde_json::from_slice(&text).map(Some).map_err(|error| unreadable(error.to_string())),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(unreadable(error.to_string())),
        }
    }

    /// Of every service.
    pub fn all(state: &Path) -> Result<Vec<Self>, Fault> {
        let mut all = Vec::new();
        for entry in std::fs::read_dir(folder(state)).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.extension().is_some_and(|end| end == "json") {
                let text = read(&path)?;
                all.push(serde_json::from_str(&text).map_err(|error| {
                    Fault::new(Code::StateDir, format!("{} cannot be read: {error}", path.display()))
                })?);
            }
        }
        Ok(all)
    }
}

pub fn read(path: &Path) -> Result<String, Fault> {
    std::fs::read_to_string(path).map_err(|error| {
        Fault::new(Code::Usage, format!("{} cannot be read: {error}", path.display()))
            .hint("run it as the user that nginx's files belong to")
    })
}

fn folder(state: &Path) -> PathBuf {
    state.join("nginx")
}

fn record(state: &Path, service: &ServiceKey) -> PathBuf {
    folder(state).join(format!("{}.{}.json", service.project, service.service))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// nginx that takes what does not say `no`.
    fn stage() -> (tempfile::TempDir, Moved) {
        use std::os::unix::fs::PermissionsExt;
        let temp = tempfile::tempdir().unwrap();
        let (file, program) = (temp.path().join("a.conf"), temp.path().join("program"));
        std::fs::write(
            &program,
            format!("#!/bin/sh\nif grep -q no {}; then echo refused >&2; exit 1; fi\n", file.display()),
        )
        .unwrap();
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
        std::fs::write(&file, "one\n").unwrap();
        let nginx = Nginx { program: program.display().to_string(), config: None, prefix: None, container: None };
        let moved = Moved {
            service: ServiceKey::new("shop", "app"),
            nginx,
            pid: None,
            files: vec![Changed { path: file, before: "one\n".into(), after: "two\n".into() }],
        };
        (temp, moved)
    }

    fn change(moved: &Moved, before: &str, after: &str) -> Moved {
        let mut next = moved.clone();
        (next.files[0].before, next.files[0].after) = (before.to_owned(), after.to_owned());
        next
    }

    #[test]
    fn what_was_changed_is_taken_back_to_the_byte() {
        let (temp, moved) = stage();
        moved.apply(temp.path()).unwrap();
        assert_eq!(read(&moved.files[0].path).unwrap(), "two\n");
        change(&moved, "two\n", "three\n").apply(temp.path()).unwrap();
        let kept = Moved::read(temp.path(), &moved.service).unwrap().unwrap();
        assert_eq!(Moved::all(temp.path()).unwrap(), std::slice::from_ref(&kept));
        kept.undo(temp.path()).unwrap();
        assert_eq!(read(&moved.files[0].path).unwrap(), "one\n", "as before the first change");
        assert_eq!(Moved::read(temp.path(), &moved.service).unwrap(), None);
    }

    #[test]
    fn what_nginx_refuses_leaves_everything_as_it_was() {
        let (temp, moved) = stage();
        let fault = change(&moved, "one\n", "no\n").apply(temp.path()).unwrap_err();
        assert_eq!((fault.code, fault.detail), (Code::NginxRefused, vec!["refused".to_owned()]));
        assert_eq!(read(&moved.files[0].path).unwrap(), "one\n");
        assert_eq!(Moved::read(temp.path(), &moved.service).unwrap(), None);
        moved.apply(temp.path()).unwrap();
        change(&moved, "two\n", "no\n").apply(temp.path()).unwrap_err();
        assert_eq!(read(&moved.files[0].path).unwrap(), "two\n");
        assert_eq!(
            Moved::read(temp.path(), &moved.service).unwrap(),
            Some(moved),
            "the first change can be taken back"
        );
    }

    #[test]
    fn what_somebody_edited_since_is_not_overwritten() {
        let (temp, moved) = stage();
        moved.apply(temp.path()).unwrap();
        std::fs::write(&moved.files[0].path, "two\nmine\n").unwrap();
        let fault = moved.undo(temp.path()).unwrap_err();
        assert!(fault.what.contains("was edited since") && fault.detail.contains(&"+mine".to_owned()), "{fault:?}");
        assert_eq!(read(&moved.files[0].path).unwrap(), "two\nmine\n");
        let fault = change(&moved, "two\nmine\n", "x\n").apply(temp.path()).unwrap_err();
        assert!(fault.what.contains("was edited since it was changed for shop/app"), "{fault:?}");
        assert_eq!(read(&moved.files[0].path).unwrap(), "two\nmine\n");
    }
}
