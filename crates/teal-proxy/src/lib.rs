//! The data plane of Teal: takes requests from clients and brings them to the backends that the current route table names.
//!
//! ```text
//!  agent ──Link──▶ control thread ──Command──▶ worker threads (one a core, nothing shared)
//!                                               │
//!  client ──▶ listen ─▶ serve ─▶ forward ─▶ table ─▶ target ─▶ backend (pool) ──▶ application
//!                │        │         ├─ visit     a preview, or a user who keeps to a release
//!                │        │         ├─ hold      waits while there is no backend
//!                │        │         ├─ skew      asks another release for what one has not
//!                │        └ park    └─ transfer  the bytes, both ways at once ─▶ tunnel
//!                └─▶ plain (TCP) ─▶ target ─▶ hold, backend ─▶ tunnel
//! ```

mod agent;
mod alarm;
mod backend;
mod budget;
mod claim;
mod contradiction;
mod control;
mod counters;
mod forward;
mod gap;
pub mod harness;
mod hold;
mod http1;
mod journey;
mod listen;
mod network;
mod peer;
mod pidfd;
mod plain;
mod pool;
mod preview;
mod processes;
mod run;
mod serve;
mod skew;
mod split;
mod stats;
mod sticky;
mod table;
mod target;
mod tcp;
mod transfer;
mod tunnel;
mod visit;
mod waits;
mod worker;

pub use run::{Options, RunError, run};
pub use teal_link as link;
