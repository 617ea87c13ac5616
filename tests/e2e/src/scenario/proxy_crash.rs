//! `kill -9` of the proxy under load: connections wait in the accept queue, requests in flight are lost, nothing else.

use super::web;
use crate::prober::{Cause, Clients, Config, Pace, Prober, Report};
use crate::stage::{Stage, kill};
use rustix::process::Signal;
use std::time::Duration;

pub struct Crashes {
    pub report: Report,
    /// From the kill to the first answer of a request that was sent after it, microseconds.
    pub serving_us: Vec<u64>,
    /// Requests that were neither answered nor in flight at a kill.
    pub failed_elsewhere: u64,
}

impl Crashes {
    pub fn refused(&self) -> u64 {
        self.report.failed_by(Cause::Refused)
    }
}

pub fn run(stage: &Stage, kills: usize, pause: Duration) -> std::io::Result<Crashes> {
    stage.compose(&web(2, "", "")).up();
    stage.must_deploy("0");
    let load = Config::new(stage.address())
        .with(Clients { slow_share: 0.0, ..Clients::mixed(32).pace(Pace::per_second(50.0)) });
    let prober = Prober::start(load)?;
    std::thread::sleep(Duration::from_millis(500));
    let mut killed = Vec::new();
    for _ in 0..kills {
        let proxy = stage.proxy_pid();
        let told = crate::clock::monotonic_us();
        kill(proxy, Signal::KILL);
        // It lives, and takes requests, until the kernel has closed its sockets.
        stage.until("the proxy is dead", Duration::from_secs(5), || is_dead(proxy));
        killed.push((told, crate::clock::monotonic_us()));
        std::thread::sleep(pause);
    }
    let report = prober.stop()?;
    let serving_us = killed.iter().map(|(told, _)| {
        let after = report.records.iter().filter(|record| record.ok() && record.sent_us() > *told);
        after.map(|record| record.ended_us()).min().map_or(u64::MAX, |first| first - told)
    });
    let serving_us = serving_us.collect();
    let in_flight = |failed: &crate::prober::Record| {
        killed.iter().any(|(told, dead)| failed.sent_us() <= *dead && failed.ended_us() >= *told)
    };
    let failed_elsewhere = report.records.iter().filter(|record| !record.ok() && !in_flight(record)).count() as u64;
    Ok(Crashes { report, serving_us, failed_elsewhere })
}

/// Gone, or a zombie without another thread: its sockets are closed.
fn is_dead(pid: u32) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).map_or(0, Iterator::count);
    threads <= 1 && !status.lines().any(|line| line.starts_with("State:") && !line.contains('Z'))
}
