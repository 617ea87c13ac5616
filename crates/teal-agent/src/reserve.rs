//! Room on the disk for the way back: a file that is given up when nothing can be written any more.

use std::fs::File;
use std::path::{Path, PathBuf};
use teal_model::fault::{Code, Fault};

const MIB: u64 = 1 << 20;
/// The lines, settings and receipt of some deployments, with SQLite's log.
const BYTES: u64 = 8 * MIB;
/// Made again only when there is as much beside it: it must not take the room from those who have just got it.
const PLENTY: u64 = 2 * BYTES;
/// What an agent writes to begin.
const TO_BEGIN: u64 = MIB;

pub struct Reserve {
    path: PathBuf,
}

impl Reserve {
    pub fn of(state_dir: &Path) -> Self {
        Self { path: state_dir.join("reserve") }
    }

    /// Makes it if it is not there and there is room.
    ///
    /// # Errors
    /// In words: it is not there.
    pub fn refill(&self) -> Result<(), String> {
        if self.path.exists() {
            return Ok(());
        }
        let missing = |why: String| format!("no room is kept for a rollback on a full disk: {why}");
        let dir = self.path.parent().unwrap_or(&self.path).display();
        match self.available() {
            Err(error) => return Err(missing(format!("how much is left of {dir} is not known: {error}"))),
            Ok(bytes) if bytes < PLENTY => {
                let (free, plenty) = (bytes / MIB, PLENTY / MIB);
                return Err(missing(format!("{dir} has {free} MiB left, and it is made where there are {plenty}")));
            }
            Ok(_) => {}
        }
        let made = File::create(&self.path)
            .and_then(|file| Ok(rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, BYTES)?));
        made.map_err(|error| {
            self.give_up();
            missing(format!("{}: {error}", self.path.display()))
        })
    }

    /// True: there is room now that was not there before.
    pub fn give_up(&self) -> bool {
        let gave = std::fs::remove_file(&self.path).is_ok();
        if gave {
            tracing::warn!(path = %self.path.display(), "the disk is full: the room that was kept is given up");
        }
        gave
    }

    /// The same, where the disk is as good as full.
    pub fn give_up_if_short(&self) -> bool {
        self.available().is_ok_and(|bytes| bytes < BYTES) && self.give_up()
    }

    /// An agent that starts needs a little of it, too.
    pub fn give_up_to_begin(&self) {
        if self.is_full() {
            self.give_up();
        }
    }

    /// Where there was nothing left to give up: what a fault of the start comes from.
    pub fn explained(&self, fault: Fault) -> Fault {
        if !self.is_full() {
            return fault;
        }
        let dir = self.path.parent().unwrap_or(&self.path).display();
        Fault::new(Code::DiskFull, format!("the disk of {dir} is full, and nothing is set aside there any more"))
            .hint("make room there: the agent begins by itself then, and the proxy serves on meanwhile")
            .detail(vec![fault.what])
    }

    fn is_full(&self) -> bool {
        self.available().is_ok_and(|bytes| bytes < TO_BEGIN)
    }

    fn available(&self) -> std::io::Result<u64> {
        let disk = rustix::fs::statvfs(self.path.parent().unwrap_or(&self.path))?;
        Ok(disk.f_bavail * disk.f_frsize)
    }
}
