//! The control plane: owns Docker, the journal and the API, and tells the proxy what to do.

mod adopt;
pub mod agent;
mod alerts;
pub mod api;
pub mod clock;
mod commands;
pub mod conduct;
mod containers;
mod divert;
mod early;
pub mod effects;
mod found;
mod get;
mod histories;
pub mod host_command;
pub mod journal;
pub mod judges;
mod jury;
mod kept;
mod keys;
mod lineage;
pub mod meter;
pub mod migrate;
mod names;
pub mod nginx;
mod planning;
mod probe;
pub mod process;
mod proof;
mod prune;
pub mod publish;
mod pulls;
mod reach;
pub mod reconcile;
mod remove;
mod reserve;
mod rollback;
pub mod run;
pub mod runtime;
pub mod smoke;
mod sockets;
pub mod store;
mod takeover;
pub mod traffic;
mod warm;
pub mod warmup;
mod whole;
mod words;
pub mod world;

pub use run::{Options, run};

/// `bytes` random bytes in hexadecimal digits.
fn random_hex(bytes: usize) -> String {
    let mut buffer = vec![0u8; bytes];
    let mut filled = 0;
    while filled < bytes {
        // The kernel's generator gives up to 256 bytes at once and cannot fail once it is seeded; an interrupted call is repeated.
        if let Ok(n) = rustix::rand::getrandom(&mut buffer[filled..], rustix::rand::GetRandomFlags::empty()) {
            filled += n;
        }
    }
    buffer.iter().map(|byte| format!("{byte:02x}")).collect()
}
