//! A rootless Docker Engine of a test's own, beside the one of this host: `scripts/rootless.sh`.

use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Dropped, it ends, and nothing of it stays.
pub struct Rootless {
    dir: PathBuf,
    /// As `DOCKER_HOST` has it.
    pub host: String,
}

impl Rootless {
    /// Returns when it answers.
    pub fn start() -> io::Result<Self> {
        let dir = std::env::temp_dir().join(format!("teal-rootless-{}", std::process::id()));
        // One that did not come up leaves what it has made so far.
        let mut engine = Self { dir, host: String::new() };
        engine.host = script("start", &engine.dir)?;
        Ok(engine)
    }

    /// Images of this host's Engine, there too.
    pub fn load(&self, images: &[&str]) -> io::Result<()> {
        let mut saving = Command::new("docker").arg("save").args(images).stdout(Stdio::piped()).spawn()?;
        let saved = saving.stdout.take().map_or_else(Stdio::null, Stdio::from);
        let loaded = Command::new("docker").args(["--host", &self.host, "load"]).stdin(saved).output()?;
        match saving.wait()?.success() && loaded.status.success() {
            true => Ok(()),
            false => Err(io::Error::other(String::from_utf8_lossy(&loaded.stderr).into_owned())),
        }
    }

    /// Runs a test of this program that is ignored otherwise, with this Engine as its Docker.
    pub fn run(&self, test: &str) {
        let this = std::env::current_exe().unwrap_or_else(|error| panic!("this program: {error}"));
        let ran = Command::new(this)
            .args(["--exact", test, "--ignored", "--nocapture"])
            .env("DOCKER_HOST", &self.host)
            .env_remove("NEXTEST")
            .output()
            .unwrap_or_else(|error| panic!("{test}: {error}"));
        let (said, complained) = (String::from_utf8_lossy(&ran.stdout), String::from_utf8_lossy(&ran.stderr));
        assert!(ran.status.success() && said.contains("1 passed"), "{test}\n{said}\n{complained}");
    }
}

impl Drop for Rootless {
    fn drop(&mut self) {
        if let Err(error) = script("stop", &self.dir) {
            assert!(std::thread::panicking(), "{error}");
        }
    }
}

fn script(word: &str, dir: &Path) -> io::Result<String> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../scripts/rootless.sh");
    let output = Command::new(script).arg(word).arg(dir).stdin(Stdio::null()).output()?;
    match output.status.success() {
        true => Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned()),
        false => Err(io::Error::other(String::from_utf8_lossy(&output.stderr).trim().to_owned())),
    }
}
