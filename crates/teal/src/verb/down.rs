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
    let pid = match client.hello().await {
        Ok(hello) => hello.pid,
        Err(fault) if fault.code == Code::NoAgent => return without_agent(context, &arguments).await,
        Err(fault) => return Err(fault),
    };
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

/// No agent runs. A proxy that still serves is ended by the pid and start time that its agent wrote down.
async fn without_agent(context: &Context, arguments: &Arguments) -> Result<u8, Fault> {
    let socket = context.dirs()?.run.join(teal_agent::run::PROXY_SOCKET);
    let Some((pid, process)) = teal_agent::traffic::builtin::recorded(&socket) else {
        context.out.show(&json!({ "proxy": false }), |_, _| "no agent runs here, and no proxy".to_owned());
        return Ok(0);
    };
    if !arguments.proxy {
        let words = format!("no agent runs here; the proxy (pid {pid}) goes on serving: `teal down --proxy` ends it");
        context.out.show(&json!({ "proxy": true }), |_, _| words);
        return Ok(0);
    }
    let failed =
        |error: std::io::Error| Fault::new(Code::ProxyDown, format!("the proxy (pid {pid}) cannot be ended: {error}"));
    // It lets requests in flight end, as when an agent tells it.
    process.terminate().map_err(failed)?;
    match tokio::time::timeout(END_WITHIN, process.ended()).await {
        Ok(ended) => ended.map_err(failed)?,
        Err(_) => return Err(failed(std::io::ErrorKind::TimedOut.into())),
    }
    for file in [socket.clone(), socket.with_extension("pid")] {
        std::fs::remove_file(&file).map_err(failed)?;
    }
    context.out.show(&json!({ "proxy": true }), |_, _| "the proxy has ended; nothing is served".to_owned());
    Ok(0)
}

fn has_ended(process: &OwnedFd) -> bool {
    let mut fds = [PollFd::new(process, PollFlags::IN)];
    matches!(poll(&mut fds, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })), Ok(n) if n > 0)
}
