//! `teal proxy`: the proxy itself; the agent starts it and talks to it over a socket that it hands down.

use crate::inherited;
use crate::verb::log;
use clap::Args;
use std::error::Error;
use std::num::NonZeroUsize;
use teal_model::fault::{Code, Fault};

#[derive(Debug, Args)]
pub struct Arguments {
    /// The inherited socket that agents connect to
    #[arg(long, value_name = "N")]
    pub control_fd: i32,
    /// Threads that serve [default: one a core]
    #[arg(long, value_name = "N")]
    pub workers: Option<NonZeroUsize>,
}

pub fn run(arguments: &Arguments) -> Result<u8, Fault> {
    // A session of its own: what ends the agent, or the terminal that it was started from, does not end the proxy.
    // It fails only for a process that leads a group already, as under a service manager; there it is not needed.
    let _ = rustix::process::setsid();
    log();
    let control = inherited::descriptor(arguments.control_fd)
        .map_err(|error| Fault::new(Code::Usage, format!("--control-fd {}: {error}", arguments.control_fd)))?;
    let options = teal_proxy::Options {
        control,
        workers: arguments.workers,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        signals: true,
    };
    teal_proxy::run(options).map(|()| 0).map_err(|error| {
        let cause = error.source().map(|cause| format!(": {cause}")).unwrap_or_default();
        Fault::new(Code::ProxyDown, format!("the proxy ended: {error}{cause}"))
    })
}
