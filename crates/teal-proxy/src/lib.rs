//! The data plane of Teal: takes requests from clients and brings them to the backends that the current route table names.
//!
//! ```text
//!  agent ──Link──▶ control thread ──Command──▶ worker threads (one a core, nothing shared)
//!                                               │
//!  client ──▶ listen ─▶ serve ─▶ forward ─▶ table ─▶ backend (pool) ──▶ application
//!                │        │         ├─ hold      waits while there is no backend
//!                │        └ park    └─ transfer  the bytes, both ways at once ─▶ tunnel
//!                └─▶ plain (TCP) ─▶ table ─▶ hold, backend ─▶ tunnel
//! ```

mod agent;
mod alarm;
mod backend;
mod budget;
mod claim;
mod contradiction;
mod control;
mod forward;
mod gap;
pub mod harness;
mod hold;
mod http1;
mod journey;
mod listen;
mod pidfd;
mod plain;
mod processes;
mod run;
mod serve;
mod stats;
mod table;
mod tcp;
mod transfer;
mod tunnel;
mod worker;

pub use run::{Options, RunError, run};
pub use teal_link as link;
