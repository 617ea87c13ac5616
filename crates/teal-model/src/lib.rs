//! What is true and what to do next: the part of Teal that can be read without knowing tokio, Docker or the clock.
//!
//! ```text
//! compose file ─▶ config ─▶ plan ─▶ deployment ─▶ receipt
//!                                      │
//!                                      └▶ wire (what the agent tells the proxy)
//! ```

pub mod api;
pub mod config;
pub mod deployment;
pub mod described;
pub mod door;
pub mod fault;
pub mod ids;
pub mod nginx;
pub mod plan;
pub mod receipt;
pub mod verdict;
pub mod wire;
