//! A process that is not a child: named by its pidfd, so that its number cannot come to mean another.

// One reason: `AsyncFd::register` asks for a descriptor that stays the same for its lifetime.
#![allow(unsafe_code)]

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use std::io;
use std::os::fd::OwnedFd;
use tokio::io::unix::AsyncFd;

pub struct Process {
    fd: AsyncFd<OwnedFd>,
}

impl Process {
    /// An error: there is no such process.
    pub fn open(pid: u32) -> io::Result<Self> {
        let pid = i32::try_from(pid).ok().and_then(Pid::from_raw).ok_or(io::ErrorKind::InvalidInput)?;
        let fd = pidfd_open(pid, PidfdFlags::NONBLOCK)?;
        // SAFETY: an OwnedFd owns its descriptor until it is dropped, and nothing takes it out of the AsyncFd.
        let fd = unsafe { AsyncFd::register(fd) }?;
        Ok(Self { fd })
    }

    /// Returns when the process has ended. Safe to drop and call again.
    pub async fn ended(&self) -> io::Result<()> {
        self.fd.readable().await.map(drop)
    }

    /// SIGTERM.
    pub fn terminate(&self) -> io::Result<()> {
        Ok(pidfd_send_signal(self.fd.get_ref(), Signal::TERM)?)
    }

    /// SIGKILL.
    pub fn kill(&self) -> io::Result<()> {
        Ok(pidfd_send_signal(self.fd.get_ref(), Signal::KILL)?)
    }
}

/// When a process started, in clock ticks since boot (proc(5), field 22 of stat); None: there is no such process.
pub fn started(pid: u32) -> Option<String> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in field 2 may hold anything, a `)` too.
    stat.rsplit_once(") ")?.1.split(' ').nth(19).map(str::to_owned)
}
