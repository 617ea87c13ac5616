//! The verdict: what is counted, what is ruled, and the figures that it is held to.

// A test fails where it stands.
#![allow(clippy::unwrap_used)]

#[path = "verdict/counted.rs"]
mod counted;
#[path = "verdict/figures.rs"]
mod figures;
#[path = "verdict/ruled.rs"]
mod ruled;
#[path = "verdict/said.rs"]
mod said;
