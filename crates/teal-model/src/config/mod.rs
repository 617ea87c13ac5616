//! The compose file that a team already has, plus `x-teal`, read into a [`Project`].
//!
//! [`parse`] takes texts and gives a [`Project`], or every [`Problem`] at once. It opens no file and knows no clock.

mod build;
mod canary;
mod check;
mod container;
mod depends;
mod deploy;
mod devices;
mod dotenv;
mod environment;
mod extend;
mod files;
mod health;
mod image;
mod include;
mod interpolate;
mod isolation;
pub mod keys;
mod limits;
mod listen;
mod load;
mod merge;
mod misplaced;
mod networks;
mod nginx;
mod parse;
mod ports;
mod preview;
mod problem;
mod profiles;
pub mod project;
mod quantity;
mod ranges;
mod read;
mod resolver;
mod rollback;
mod route;
mod safety_keys;
mod service;
mod teal;
mod teal_keys;
mod trial;
mod volumes;
mod words;
pub mod write;
mod yaml;

pub use load::variables;
pub use parse::{
    FILE_NAMES, OVERRIDE_NAMES, Parsed, SourceFile, Sources, find_file, find_override, is_project_name, parse,
};
pub use problem::Problem;
pub use project::*;
pub use ranges::{PRIVATE_RANGES, is_trusted};
