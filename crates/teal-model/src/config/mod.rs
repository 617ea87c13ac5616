//! The compose file that a team already has, plus `x-teal`, read into a [`Project`].

pub mod project;

pub use project::*;
