//! What is true and what to do next: the part of Teal that can be read without knowing tokio, Docker or the clock.
//!
//! ```text
//! compose file ─▶ config ─▶ plan ─▶ deployment ─▶ receipt
//!                                      │
//!                                      └▶ wire (what the agent tells the proxy)
//! ```

pub mod config;
pub mod ids;
pub mod wire;
