//! The Docker daemon of this host, restarted as its admin would: `scripts/docker.sh restart`.

use std::io;
use std::path::Path;
use std::process::{Command, Stdio};

/// Restarts end with a daemon that has the options it had before: dropped, it takes its own away.
#[derive(Debug, Default)]
pub struct Daemon {
    live_restore: bool,
}

impl Daemon {
    /// Returns when the daemon answers again. With `live_restore` its containers run on from the next restart on, without
    /// it they are stopped, and those start again whose restart policy says so. Fails when the daemon here was started by
    /// nobody that may restart it.
    pub fn restart(&mut self, live_restore: bool) -> io::Result<()> {
        let options: &[&str] = if live_restore { &["--live-restore"] } else { &[] };
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../scripts/docker.sh");
        let output = Command::new(script).arg("restart").args(options).stdin(Stdio::null()).output()?;
        if !output.status.success() {
            return Err(io::Error::other(String::from_utf8_lossy(&output.stderr).trim().to_owned()));
        }
        self.live_restore = live_restore;
        Ok(())
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if self.live_restore {
            // Whoever comes next sees a daemon that does not answer, and says so.
            let _ = self.restart(false);
        }
    }
}
