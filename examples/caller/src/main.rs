//! `caller`: calls until it is told to end. `caller counts`: what the one that runs in this container has counted.

use caller::{say, settings::Settings, steady};
use std::process::ExitCode;

fn main() -> ExitCode {
    let settings = match Settings::from_env() {
        Ok(settings) => settings,
        Err(problem) => {
            say::complain(&problem);
            return ExitCode::from(2);
        }
    };
    let ended = match std::env::args().nth(1).as_deref() {
        None => steady::run(&settings),
        Some("counts") => say::ask(settings.port),
        Some(other) => {
            say::complain(&format!("unknown subcommand {other:?}; there is only `counts`"));
            return ExitCode::from(2);
        }
    };
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            say::complain(&problem.to_string());
            ExitCode::FAILURE
        }
    }
}
