//! The one binary: the CLI, and (hidden) the agent and the proxy that it starts.
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod build;
mod cli;
mod client;
mod dirs;
mod follow;
mod frame;
mod inherited;
mod print;
mod project;
mod supervisor;
mod terminal;
mod verb;
mod who;

use clap::Parser;

fn main() -> std::process::ExitCode {
    std::process::ExitCode::from(verb::run(cli::Cli::parse()))
}
