//! The awkward app: a small web server that misbehaves on request, in the ways real apps do.
//!
//! ```text
//!   env ──▶ settings ──▶ life (boot, signals, leak, exit)
//!                          │
//!   socket ──▶ serve ──▶ connection: request ──▶ answer ──▶ socket
//!                                                  ├─ trouble
//!                                                  ├─ websocket
//!                                                  └─ orders ──▶ Postgres, Redis
//!   socket ──▶ serve ──▶ echo: line by line
//! ```

#![cfg_attr(test, allow(clippy::unwrap_used))] // a test that cannot go on says where

mod answer;
mod body;
mod connection;
mod echo;
mod healthcheck;
mod life;
mod log;
mod orders;
mod request;
mod serve;
mod settings;
mod sha1;
mod store;
mod trouble;
mod websocket;
mod worker;

use settings::Settings;
use std::process::ExitCode;

fn main() -> ExitCode {
    let settings = match Settings::from_env() {
        Ok(settings) => settings,
        Err(problem) => {
            log::complain(&problem);
            return ExitCode::from(2);
        }
    };
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let ended = match words.as_slice() {
        [] => serve::run(settings),
        ["healthcheck"] => return healthcheck::run(&settings),
        ["worker"] => worker::run(&settings),
        ["store"] => store::run(&settings),
        ["store", "report"] => store::report(&settings),
        other => {
            log::complain(&format!("{other:?} is not known; there are healthcheck, worker, store and store report"));
            return ExitCode::from(2);
        }
    };
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            log::complain(&problem.to_string());
            ExitCode::FAILURE
        }
    }
}
