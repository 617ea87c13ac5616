//! The compose file that a team already has, plus `x-teal`, read into a [`Project`].
//!
//! [`parse`] takes texts and gives a [`Project`], or every [`Problem`] at once. It opens no file and knows no clock.

mod check;
mod dotenv;
mod environment;
mod health;
mod interpolate;
pub mod keys;
mod parse;
mod ports;
mod problem;
pub mod project;
mod quantity;
mod read;
mod service;
mod teal;
mod teal_keys;
mod volumes;
mod words;
mod yaml;

pub use parse::{FILE_NAMES, OVERRIDE_NAMES, Parsed, Sources, find_file, find_override, parse};
pub use problem::Problem;
pub use project::*;
pub use teal::PRIVATE_RANGES;
