//! Simulated bakes: made-up traffic for [`teal_model::verdict`], and the figures that it is held to.
//!
//! ```text
//! Scenario ─▶ World ─▶ statistics of both releases, every 100 ms ─▶ Watch ─▶ Ruling ─▶ Outcome ─▶ rows ─▶ Measured
//!               ▲                                                             │
//!               └──────────────────── the candidate's share ──────────────────┘
//! ```
//!
//! All of it follows from seeds: the same rows with the same number of bakes give the same figures.

mod bake;
mod measure;
mod random;
mod requests;
mod rows;
mod threshold;
mod trouble;

pub use bake::{Outcome, Scenario, bake, bakes};
pub use measure::{Limit, Measured};
pub use rows::{ROWS, Row, Size};
pub use trouble::{Slowing, Trouble};
