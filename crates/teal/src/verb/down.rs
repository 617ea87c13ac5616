//! `teal down`: ends the agent, and the proxy only when asked.

use crate::verb::Context;
use clap::Args;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use serde_json::json;
use std::os::fd::OwnedFd;
use std::time::Duration;
use teal_model::api::DownRequest;
use teal_model::fault::{Code, Fault};
use tokio::time::Instant;

const END_WITHIN: Duration = Duration::from_secs(60);
const LOOK_EVERY: Duration = Duration::from_millis(20);

#[derive(Debug, Args)]
pub struct Arguments {
    /// End the proxy too: requests are refused from then on
    #[arg(long)]
    pub proxy: bool,
}

pub async fn run(context: &Context, arguments: Arguments) -> Result<u8, Fault> {
    let client = context.client()?.any_version();
    let pid = client.hello().await?.pid;
    // Opened before it is told, so that the number cannot have come to mean another process.
    let process =
        i32::try_from(pid).ok().and_then(Pid::from_raw).and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok());
    let _: serde_json::Value = client.post("/v1/down", &DownRequest { proxy: arguments.proxy }).await?;
    let deadline = Instant::now() + END_WITHIN;
    loop {
        let gone = match &process {
            Some(process) => has_ended(process),
            // Another user's process, or another namespace's: its socket is what is left to go by.
            None => client.hello().await.is_err_and(|fault| fault.code == Code::NoAgent),
        };
        if gone {
            break;
        }
        if Instant::now() >= deadline {
            return Err(Fault::new(
                Code::Internal,
                format!("the agent (pid {pid}) has not ended within {} s", END_WITHIN.as_secs()),
            ));
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
    let words = if arguments.proxy {
        "the agent and the proxy have ended; nothing is served"
    } else {
        "the agent has ended; the proxy goes on serving"
    };
    context.out.show(&json!({ "pid": pid, "proxy": arguments.proxy }), |_, _| words.to_owned());
    Ok(0)
}

fn has_ended(process: &OwnedFd) -> bool {
    let mut fds = [PollFd::new(process, PollFlags::IN)];
    matches!(poll(&mut fds, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })), Ok(n) if n > 0)
}
