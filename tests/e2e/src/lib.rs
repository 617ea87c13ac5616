//! What Teal's end-to-end tests and benches share: clients that see every failure, figures, and the search for
//! what a deployment left over.
//!
//! ```text
//!   prober ──▶ proxy under test ──▶ sample app      prober::Report ──▶ figures ──▶ target/bench/<name>.json
//!   leftovers: Snapshot before, Snapshot after ──▶ what is there now and was not
//! ```

pub mod clock;
pub mod daemon;
pub mod disk;
pub mod figures;
pub mod leftovers;
pub mod machine;
pub mod nginx;
pub mod prober;
pub mod rootless;
pub mod scenario;
pub mod site;
pub mod stage;
