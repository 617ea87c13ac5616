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
mod usage;
mod verb;
mod who;

use clap::Parser;

fn main() -> std::process::ExitCode {
    let words: Vec<_> = std::env::args_os().collect();
    let error = match cli::Cli::try_parse_from(&words) {
        Ok(cli) => return std::process::ExitCode::from(verb::run(cli)),
        Err(error) => error,
    };
    let (output, fault) = match usage::wants_json(&words) && error.use_stderr() {
        true => (cli::Output::Json, Some(usage::fault(&error, &words))),
        false => (cli::Output::Text, usage::unknown(&error, &words)),
    };
    let Some(fault) = fault else { error.exit() };
    print::Out::new(output).fault(&fault);
    std::process::ExitCode::from(fault.code.exit())
}
