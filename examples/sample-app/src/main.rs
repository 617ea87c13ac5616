//! The awkward app: a small web server that misbehaves on request, in the ways real apps do.
//!
//! ```text
//!   env ──▶ settings ──▶ life (boot, signals, leak, exit)
//!                          │
//!   socket ──▶ serve ──▶ connection: request ──▶ answer ──▶ socket
//!                                                  └─ websocket
//! ```

#![cfg_attr(test, allow(clippy::unwrap_used))] // a test that cannot go on says where

mod answer;
mod body;
mod connection;
mod healthcheck;
mod life;
mod log;
mod request;
mod serve;
mod settings;
mod sha1;
mod websocket;

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
    match std::env::args().nth(1).as_deref() {
        None => match serve::run(settings) {
            Ok(()) => ExitCode::SUCCESS,
            Err(problem) => {
                log::complain(&problem.to_string());
                ExitCode::FAILURE
            }
        },
        Some("healthcheck") => healthcheck::run(&settings),
        Some(other) => {
            log::complain(&format!("unknown subcommand {other:?}; there is only `healthcheck`"));
            ExitCode::from(2)
        }
    }
}
