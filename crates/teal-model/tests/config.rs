//! What a compose file means to Teal, through the one way in.

#![allow(clippy::unwrap_used)]

#[path = "config/collection.rs"]
mod collection;
#[path = "config/common.rs"]
mod common;
#[path = "config/compose.rs"]
mod compose;
#[path = "config/containers.rs"]
mod containers;
#[path = "config/files.rs"]
mod files;
#[path = "config/manual.rs"]
mod manual;
#[path = "config/mutated.rs"]
mod mutated;
#[path = "config/problems.rs"]
mod problems;
#[path = "config/safety.rs"]
mod safety;
#[path = "config/spec.rs"]
mod spec;
#[path = "config/teal.rs"]
mod teal;
#[path = "config/write.rs"]
mod write;
