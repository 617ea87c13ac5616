//! The measured claims: one subcommand a bench, figures as a table and as JSON under target/bench/.

// Printing is what a bench is for.
#![allow(clippy::print_stdout, clippy::print_stderr)]

mod cpu;
mod flip;
mod nginx;
mod project;
mod real;
mod table;
mod verdict;

use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let ended = match arguments.first().map(String::as_str) {
        Some("flip") => flip::run(&arguments[1..]),
        Some("table") if arguments[1..] == ["nginx"] => table::run(),
        Some("nginx") => nginx::run(&arguments[1..]),
        Some("project") => project::run(&arguments[1..]),
        Some("real") => real::run(&arguments[1..]),
        Some("verdict") => verdict::run(&arguments[1..]),
        _ => {
            eprintln!(
                "usage: teal-bench flip|project|nginx|real|verdict [--short] [PART...]\n\
                 usage: teal-bench table nginx\n\
                 parts of flip: flips recreate keepalive agent proxy overhead cpu\n\
                 parts of project: project internal identity data noop\n\
                 parts of nginx: script script_wait behind edge\n\
                 parts of real: bad outage rollback canary\n\
                 parts of verdict: its rows, as in docs/verdict.md"
            );
            return ExitCode::from(2);
        }
    };
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}
