//! Where the agent's files and its socket are.

use crate::cli::Global;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use teal_model::fault::{Code, Fault};

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dirs {
    /// Journal, logs and secrets: for the agent's user alone.
    pub state: PathBuf,
    /// Sockets; gone after a reboot.
    pub run: PathBuf,
}

impl Dirs {
    pub fn new(global: &Global) -> Result<Self, Fault> {
        let root = rustix::process::geteuid().is_root();
        Self::resolve(global.state_dir.clone(), global.run_dir.clone(), root, &|name| {
            std::env::var_os(name).map(PathBuf::from)
        })
    }

    fn resolve(
        state: Option<PathBuf>,
        run: Option<PathBuf>,
        root: bool,
        env: &dyn Fn(&str) -> Option<PathBuf>,
    ) -> Result<Self, Fault> {
        // The XDG Base Directory specification: a relative path is to be ignored.
        let xdg = |name: &str| env(name).filter(|path| path.is_absolute()).map(|path| path.join("teal"));
        let state = match state {
            Some(state) => state,
            None if root => PathBuf::from("/var/lib/teal"),
            None => xdg("XDG_STATE_HOME").or_else(|| xdg_home(env)).ok_or_else(|| {
                Fault::new(Code::StateDir, "there is no HOME to keep the state directory in")
                    .hint("name a directory: --state-dir DIR")
            })?,
        };
        let run = match run {
            Some(run) => run,
            None if root => PathBuf::from("/run/teal"),
            None => xdg("XDG_RUNTIME_DIR").unwrap_or_else(|| state.join("run")),
        };
        Ok(Self { state: absolute(state), run: absolute(run) })
    }

    pub fn socket(&self) -> PathBuf {
        self.run.join("agent.sock")
    }

    pub fn agent_log(&self) -> PathBuf {
        self.state.join("agent.log")
    }

    /// Makes what is missing: 0700 for the state, which holds secrets; 0755 for the sockets.
    pub fn create(&self) -> Result<(), Fault> {
        make(&self.state, 0o700)?;
        make(&self.run, 0o755)
    }
}

fn xdg_home(env: &dyn Fn(&str) -> Option<PathBuf>) -> Option<PathBuf> {
    env("HOME").filter(|home| home.is_absolute()).map(|home| home.join(".local/state/teal"))
}

/// The agent is started with another working directory, perhaps, and must find the same place.
fn absolute(path: PathBuf) -> PathBuf {
    std::path::absolute(&path).unwrap_or(path)
}

fn make(path: &Path, mode: u32) -> Result<(), Fault> {
    let unusable = |why: &dyn std::fmt::Display| {
        Fault::new(Code::StateDir, format!("cannot use the directory {}: {why}", path.display()))
    };
    std::fs::DirBuilder::new().recursive(true).mode(mode).create(path).map_err(|why| unusable(&why))?;
    let wanted = rustix::fs::Access::WRITE_OK | rustix::fs::Access::EXEC_OK;
    rustix::fs::accessat(rustix::fs::CWD, path, wanted, rustix::fs::AtFlags::EACCESS).map_err(|why| unusable(&why))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn dirs(
        state: Option<&str>,
        run: Option<&str>,
        root: bool,
        env: &[(&str, &str)],
    ) -> Result<(String, String), Fault> {
        let env = |name: &str| env.iter().find(|(key, _)| *key == name).map(|(_, value)| PathBuf::from(value));
        let dirs = Dirs::resolve(state.map(Into::into), run.map(Into::into), root, &env)?;
        Ok((dirs.state.display().to_string(), dirs.run.display().to_string()))
    }

    #[test]
    fn root_and_users_have_their_usual_places() {
        let pair = |state: &str, run: &str| (state.to_owned(), run.to_owned());
        assert_eq!(dirs(None, None, true, &[("HOME", "/root")]).unwrap(), pair("/var/lib/teal", "/run/teal"));
        assert_eq!(
            dirs(None, None, false, &[("HOME", "/home/a")]).unwrap(),
            pair("/home/a/.local/state/teal", "/home/a/.local/state/teal/run")
        );
        let xdg = [("HOME", "/home/a"), ("XDG_STATE_HOME", "/s"), ("XDG_RUNTIME_DIR", "/run/user/7")];
        assert_eq!(dirs(None, None, false, &xdg).unwrap(), pair("/s/teal", "/run/user/7/teal"));
        assert_eq!(dirs(Some("/x"), Some("/y"), false, &xdg).unwrap(), pair("/x", "/y"));
        assert_eq!(dirs(None, None, false, &[]).unwrap_err().code, Code::StateDir);
    }

    #[test]
    fn missing_directories_are_made_and_secrets_are_kept_private() {
        let temp = tempfile::tempdir().unwrap();
        let dirs = Dirs { state: temp.path().join("a/state"), run: temp.path().join("b/run") };
        dirs.create().unwrap();
        dirs.create().unwrap();
        assert_eq!(std::fs::metadata(&dirs.state).unwrap().permissions().mode() & 0o777, 0o700);
        assert!(dirs.run.is_dir());
    }

    #[test]
    fn a_directory_that_cannot_be_made_is_a_state_dir_fault() {
        let temp = tempfile::tempdir().unwrap();
        let file = temp.path().join("file");
        std::fs::write(&file, "").unwrap();
        let dirs = Dirs { state: file.join("state"), run: temp.path().join("run") };
        assert_eq!(dirs.create().unwrap_err().code, Code::StateDir);
    }
}
