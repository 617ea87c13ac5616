//! Clients that see every failure: HTTP/1.1 and WebSocket on bare sockets, which never send a request twice.
//!
//! A library for HTTP would hide what is looked for here: a connection that closes under a request, an answer cut
//! short, a retry behind the caller's back.
//!
//! ```text
//!   Config ──▶ Prober ──▶ thread: drive ──▶ Client, WebSocket ──▶ link ──▶ socket
//!                 │                             └─▶ Recorder ──▶ Snapshot (live)
//!              Handle ──stop──▶ Report
//! ```

mod answer;
mod client;
mod config;
mod drive;
mod link;
mod random;
mod record;
mod recorder;
mod report;
#[cfg(test)]
#[allow(clippy::unwrap_used)] // a test that cannot go on says where
mod tests;
mod websocket;

pub use config::{Clients, Config, Pace, WebSockets};
pub use random::Random;
pub use record::{Cause, Failure, Kind, Record};
pub use recorder::Snapshot;
pub use report::{Report, Window};

use drive::{Harvest, Signals};
use rustix::thread::{CpuSet, sched_setaffinity};
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::thread::JoinHandle;

/// Begins a run.
#[derive(Debug)]
pub struct Prober;

/// A run under way. Dropping it lets the threads go on unheard; stop it.
#[derive(Debug)]
#[must_use]
pub struct Handle {
    threads: Vec<(Arc<Signals>, JoinHandle<std::io::Result<Harvest>>)>,
}

impl Prober {
    /// Starts the threads. Fails when the system refuses one.
    pub fn start(config: Config) -> std::io::Result<Handle> {
        let config = Arc::new(config);
        let mut threads = Vec::new();
        for number in 0..config.threads.max(1) {
            let (config, signals) = (Arc::clone(&config), Arc::new(Signals::default()));
            let theirs = Arc::clone(&signals);
            let thread = std::thread::Builder::new().name(format!("prober-{number}")).spawn(move || {
                if !config.cpus.is_empty() {
                    pin(config.cpus[number % config.cpus.len()])?;
                }
                drive::run(&config, number, &theirs)
            })?;
            threads.push((signals, thread));
        }
        Ok(Handle { threads })
    }
}

impl Handle {
    /// Counts so far, at most 20 ms old. Taking one begins a new `worst_us`.
    pub fn snapshot(&self) -> Snapshot {
        let mut sum = Snapshot::default();
        for (signals, _) in &self.threads {
            let mut live = signals.live.lock().unwrap_or_else(PoisonError::into_inner);
            sum.merge(&live);
            live.worst_us = 0;
        }
        sum
    }

    /// Sends no more requests, waits for those in flight (at most the timeout), and reports. Fails when a thread could
    /// not go on (no epoll, no such processor): then there is nothing to be trusted.
    pub fn stop(self) -> std::io::Result<Report> {
        for (signals, _) in &self.threads {
            signals.stop.store(true, Ordering::Release);
        }
        let mut harvests = Vec::new();
        for (_, thread) in self.threads {
            let harvest = thread.join().map_err(|_| std::io::Error::other("a prober thread panicked"))?;
            harvests.push(harvest?);
        }
        Ok(Report::from_harvests(harvests))
    }
}

fn pin(cpu: usize) -> std::io::Result<()> {
    let mut cpus = CpuSet::new();
    cpus.set(cpu);
    Ok(sched_setaffinity(None, &cpus)?)
}
