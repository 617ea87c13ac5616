//! Calls services by their names, as a container of the same project does, and counts what a user would see fail.
//!
//! ```text
//!   env ──▶ settings ──▶ a thread a connection: steady ──▶ call ──▶ http │ echo ──▶ app
//!                                                 └──▶ Counts ──▶ a line a second on stdout, and a port
//! ```

#![cfg_attr(test, allow(clippy::unwrap_used))] // a test that cannot go on says where

pub mod call;
pub mod counts;
pub mod say;
pub mod settings;
pub mod steady;
pub mod target;

/// CLOCK_MONOTONIC in microseconds: the same number in every process of this host, in a container or not.
pub fn monotonic_us() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    now.tv_sec as u64 * 1_000_000 + now.tv_nsec as u64 / 1_000
}
