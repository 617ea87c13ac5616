//! Room on the disk for the way back: a file that is given up when nothing can be written any more.

use std::fs::File;
use std::path::{Path, PathBuf};

/// The lines, settings and receipt of some deployments, with SQLite's log.
const BYTES: u64 = 8 << 20;
/// Made again only when there is plenty: it must not take the room from those who have just got it.
const PLENTY: u64 = 4 * BYTES;

pub struct Reserve {
    path: PathBuf,
}

impl Reserve {
    pub fn open(state_dir: &Path) -> Self {
        let reserve = Self { path: state_dir.join("reserve") };
        reserve.refill();
        reserve
    }

    /// Makes it if it is not there and there is room.
    pub fn refill(&self) {
        if self.path.exists() || self.available().is_none_or(|bytes| bytes < PLENTY) {
            return;
        }
        let made = File::create(&self.path)
            .and_then(|file| Ok(rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, BYTES)?));
        if let Err(error) = made {
            tracing::warn!(%error, path = %self.path.display(), "no room is kept for a rollback");
            self.give_up();
        }
    }

    /// True: there is room now that was not there before.
    pub fn give_up(&self) -> bool {
        std::fs::remove_file(&self.path).is_ok()
    }

    /// The same, where the disk is as good as full.
    pub fn give_up_if_short(&self) -> bool {
        self.available().is_some_and(|bytes| bytes < BYTES) && self.give_up()
    }

    fn available(&self) -> Option<u64> {
        let disk = rustix::fs::statvfs(self.path.parent()?).ok()?;
        Some(disk.f_bavail * disk.f_frsize)
    }
}
