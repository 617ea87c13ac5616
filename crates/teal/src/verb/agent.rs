//! `teal agent`: the agent itself, until it is told to end.

use crate::supervisor;
use crate::verb::{Context, log};
use clap::Args;
use teal_model::fault::{Code, Fault};

/// Also taken by `teal up`, which hands it on.
#[derive(Debug, Clone, Args)]
#[group(skip)]
pub struct Arguments {
    /// The user that the proxy runs as, when the agent runs as root [default: nobody]
    #[arg(long, value_name = "USER", env = "TEAL_PROXY_USER", hide_env_values = true)]
    pub proxy_user: Option<String>,
    /// Threads of the proxy [default: one a core]
    #[arg(long, value_name = "N", env = "TEAL_WORKERS", hide_env_values = true, value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub workers: Option<u32>,
}

impl Arguments {
    /// As they are written on a command line.
    pub fn words(&self) -> Vec<String> {
        let user = self.proxy_user.iter().flat_map(|user| ["--proxy-user".to_owned(), user.clone()]);
        user.chain(self.workers.iter().flat_map(|workers| ["--workers".to_owned(), workers.to_string()])).collect()
    }
}

pub fn run(context: &Context, arguments: Arguments) -> Result<u8, Fault> {
    log();
    match serve(context, arguments) {
        Ok(()) => Ok(0),
        Err(fault) => {
            context.out.fault(&fault);
            Ok(supervisor::exit_code(&fault))
        }
    }
}

fn serve(context: &Context, arguments: Arguments) -> Result<(), Fault> {
    let dirs = context.dirs()?;
    dirs.create()?;
    let program = std::env::current_exe()
        .map_err(|error| Fault::new(Code::Internal, format!("this program cannot be found again: {error}")))?;
    teal_agent::run(teal_agent::Options {
        state_dir: dirs.state,
        run_dir: dirs.run,
        proxy_user: arguments.proxy_user,
        workers: arguments.workers,
        program,
    })
}
