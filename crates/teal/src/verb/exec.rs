//! `teal exec`: a command in a container of the live release, with this terminal as its own.

use crate::cli::{Files, number};
use crate::follow::Signals;
use crate::frame::{self, Frame, Kind};
use crate::print::Out;
use crate::terminal::Raw;
use crate::verb::Context;
use clap::Args;
use std::io::IsTerminal;
use teal_model::api::ExecRequest;
use teal_model::fault::{Code, Fault};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};

/// Bytes of input in one frame.
const CHUNK: usize = 16 * 1024;

#[derive(Debug, Args)]
pub struct Arguments {
    /// The service
    #[arg(value_name = "SERVICE")]
    pub service: String,
    /// Which of its replicas, from 1; without it, the first that runs
    #[arg(long, value_name = "I", value_parser = number::<u32>("the number of a replica, such as 2"))]
    pub replica: Option<u32>,
    /// No terminal for the command, even if this is one
    #[arg(short = 'T', long)]
    pub no_tty: bool,
    /// The command and its arguments
    #[arg(trailing_var_arg = true, required = true, value_name = "CMD")]
    pub command: Vec<String>,
    #[command(flatten)]
    pub files: Files,
}

pub async fn run(context: &Context, arguments: Arguments) -> Result<u8, Fault> {
    let project = context.needed_project_name(arguments.files)?;
    let tty = !arguments.no_tty && std::io::stdin().is_terminal() && std::io::stdout().is_terminal();
    let request = ExecRequest {
        project,
        service: arguments.service,
        replica: arguments.replica,
        command: arguments.command,
        tty,
    };
    let stream = context.client()?.upgrade("/v1/exec", &request).await?;
    let (from_agent, to_agent) = tokio::io::split(stream);
    // Given back when this function is left, by a fault too.
    let _raw = if tty { Raw::enter() } else { None };
    let input = tokio::spawn(send_input(tokio::io::stdin(), to_agent));
    let mut signals = Signals::new()?;
    let result = tokio::select! {
        result = receive(from_agent, &context.out) => result,
        // Ctrl-C goes to the command as a key where it has a terminal; a signal is for us, and the terminal must be given back.
        signal = signals.next() => Ok(signal.exit()),
    };
    input.abort();
    result
}

async fn send_input(mut stdin: impl AsyncRead + Unpin, mut to_agent: impl AsyncWrite + Unpin) {
    let mut buffer = vec![0; CHUNK];
    loop {
        // Whatever ends the input, the command goes on; a connection that broke is said by the reading side.
        let sent = match stdin.read(&mut buffer).await {
            Ok(n) if n > 0 => frame::write(&mut to_agent, Kind::Input, &buffer[..n]).await,
            _ => {
                let _ = frame::write(&mut to_agent, Kind::EndOfInput, &[]).await;
                return;
            }
        };
        if sent.is_err() {
            return;
        }
    }
}

/// Until the command's exit code comes.
async fn receive(mut from_agent: impl AsyncRead + Unpin, out: &Out) -> Result<u8, Fault> {
    loop {
        match frame::read(&mut from_agent).await? {
            Some(Frame { kind: Kind::Output, bytes }) => out.raw(&bytes),
            Some(Frame { kind: Kind::Exit, bytes }) => return exit_code(&bytes),
            Some(Frame { kind: Kind::Fault, bytes }) => {
                let fault = serde_json::from_slice(&bytes)
                    .unwrap_or_else(|_| Fault::new(Code::Internal, "the agent sent a fault that cannot be read"));
                return Err(fault);
            }
            Some(_) => {}
            None => {
                return Err(Fault::new(Code::NoAgent, "the connection to the agent broke; the command may still run"));
            }
        }
    }
}

fn exit_code(text: &[u8]) -> Result<u8, Fault> {
    let code = std::str::from_utf8(text).ok().and_then(|text| text.trim().parse::<i64>().ok());
    let code = code.ok_or_else(|| Fault::new(Code::Internal, "the agent sent an exit code that is no number"))?;
    // More does not fit into an exit code; that it is not 0 must not get lost.
    Ok(u8::try_from(code).unwrap_or(u8::MAX))
}
