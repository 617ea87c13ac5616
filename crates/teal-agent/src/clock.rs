//! The agent's clocks: one for people, and those for differences.

use std::sync::OnceLock;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// Unix milliseconds. On the paused clock of a test they pass as its time does.
pub fn unix_ms() -> u64 {
    let (here, outside) = (tokio::time::Instant::now().into_std(), Instant::now());
    let now = SystemTime::now() + here.saturating_duration_since(outside);
    let now = now - outside.saturating_duration_since(here);
    now.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}

/// CLOCK_MONOTONIC in microseconds, the clock of the proxy's acknowledgements.
pub fn monotonic_us() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    now.tv_sec as u64 * 1_000_000 + now.tv_nsec as u64 / 1_000
}

/// Milliseconds that no correction of the host's time changes; they mean nothing to another process.
pub fn steady_ms() -> u64 {
    static FIRST: OnceLock<Instant> = OnceLock::new();
    let now = tokio::time::Instant::now().into_std();
    let first = *FIRST.get_or_init(|| now);
    now.saturating_duration_since(first).as_millis() as u64
}
