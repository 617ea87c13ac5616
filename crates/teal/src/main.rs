//! The one binary: the CLI, and (hidden) the agent and the proxy that it starts.
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod build;
mod cli;
mod client;
mod dirs;
mod follow;
mod frame;
mod inherited;
mod nginx;
mod print;
mod project;
mod supervisor;
mod terminal;
mod verb;
mod who;

use clap::Parser;

fn main() -> std::process::ExitCode {
    match cli::Cli::try_parse() {
        Ok(cli) => std::process::ExitCode::from(verb::run(cli)),
        Err(error) if error.use_stderr() && cli::wants_json(std::env::args_os()) => {
            let fault = cli::fault(&error);
            print::Out::new(cli::Output::Json).fault(&fault);
            std::process::ExitCode::from(fault.code.exit())
        }
        Err(error) => error.exit(),
    }
}
