//! A disk small enough to be filled: a tmpfs of its own. Needs root.

use std::fs::File;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::Command;

/// Dropped, it is unmounted.
pub struct Disk(PathBuf);

impl Disk {
    pub fn mount(at: PathBuf, mebibytes: u32) -> io::Result<Self> {
        std::fs::create_dir_all(&at)?;
        let size = format!("size={mebibytes}m");
        let status = Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(&at).status()?;
        match status.success() {
            true => Ok(Self(at)),
            false => Err(io::Error::other(format!("a tmpfs cannot be mounted at {}: {status}", at.display()))),
        }
    }

    /// To the last byte, by one file.
    pub fn fill(&self) -> io::Result<()> {
        let mut file = File::create(self.filler())?;
        for size in [1 << 16, 512, 1] {
            while file.write_all(&vec![1; size]).is_ok() {}
        }
        Ok(())
    }

    pub fn free(&self) -> io::Result<()> {
        std::fs::remove_file(self.filler())
    }

    fn filler(&self) -> PathBuf {
        self.0.join("filler")
    }

    /// Bytes that anybody may still write.
    pub fn left(&self) -> io::Result<u64> {
        let disk = rustix::fs::statvfs(&self.0)?;
        Ok(disk.f_bavail * disk.f_frsize)
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // What still has a file there keeps it until it ends.
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}
