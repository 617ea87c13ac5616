//! `teal up`: starts the agent (which starts the proxy), in the foreground or in the background.

use crate::client::Client;
use crate::dirs::Dirs;
use crate::supervisor;
use crate::verb::Context;
use clap::Args;
use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;
use teal_model::api::Hello;
use teal_model::fault::{Code, Fault};
use tokio::time::Instant;

const START_WITHIN: Duration = Duration::from_secs(20);
/// An agent that lives and says nothing is not waited for longer.
const HELLO_WITHIN: Duration = Duration::from_secs(5);
const ASK_EVERY: Duration = Duration::from_millis(50);
/// A longer log is set aside as `agent.log.1` before the agent starts.
const LOG_BYTES: u64 = 16 * 1024 * 1024;
const TAIL_LINES: usize = 20;
const TAIL_BYTES: u64 = 16 * 1024;

#[derive(Debug, Args)]
pub struct Arguments {
    /// Return when the agent answers; it goes on in the background
    #[arg(short, long)]
    pub detach: bool,
    #[command(flatten)]
    pub agent: crate::verb::agent::Arguments,
    /// We are the parent in the background
    #[arg(long, hide = true, conflicts_with = "detach")]
    pub in_background: bool,
}

pub async fn run(context: &Context, arguments: Arguments) -> Result<u8, Fault> {
    if arguments.in_background {
        // Before anything else: the terminal that started us may close at any time.
        rustix::process::setsid()
            .map_err(|error| Fault::new(Code::Internal, format!("no session of its own: {error}")))?;
    }
    let dirs = context.dirs()?;
    let client = context.client()?.patience(HELLO_WITHIN);
    match client.hello().await {
        Ok(hello) => {
            refuse_another(&hello, &dirs)?;
            context.out.show(&hello, |hello, _| format!("the agent runs already (pid {})", hello.pid));
            return Ok(0);
        }
        Err(fault) if fault.code == Code::NoAgent => {}
        Err(fault) => return Err(fault),
    }
    dirs.create()?;
    let program = std::env::current_exe()
        .map_err(|error| Fault::new(Code::Internal, format!("this program cannot be found again: {error}")))?;
    if arguments.detach {
        return detach(context, &arguments, &program, &dirs, &client).await;
    }
    if !arguments.in_background {
        context.out.note(&format!(
            "agent in the foreground, state in {}; Ctrl-C ends it and leaves the proxy serving",
            dirs.state.display()
        ));
    }
    supervisor::keep(&program, &dirs, &arguments.agent.words(), &context.out).await
}

/// An agent on our socket that keeps its state elsewhere is not the one that is meant.
fn refuse_another(hello: &Hello, dirs: &Dirs) -> Result<(), Fault> {
    let same =
        |a: &Path, b: &Path| a == b || std::fs::canonicalize(a).is_ok_and(|a| std::fs::canonicalize(b).ok() == Some(a));
    if same(Path::new(&hello.state_dir), &dirs.state) {
        return Ok(());
    }
    let what = format!(
        "the agent in {} (pid {}) keeps its state in {}, not in {}",
        dirs.run.display(),
        hello.pid,
        hello.state_dir,
        dirs.state.display()
    );
    Err(Fault::new(Code::AgentRuns, what))
}

async fn detach(
    context: &Context,
    arguments: &Arguments,
    program: &PathBuf,
    dirs: &Dirs,
    client: &Client,
) -> Result<u8, Fault> {
    let (log, from) = open_log(dirs)?;
    let no_log = |error: std::io::Error| {
        Fault::new(Code::StateDir, format!("{} cannot be used: {error}", dirs.agent_log().display()))
    };
    // A program of its own and no fork: what a fork leaves behind of a process with threads is not to be relied on.
    let mut parent = tokio::process::Command::new(program)
        .args(["up", "--in-background", "--state-dir"])
        .arg(&dirs.state)
        .arg("--run-dir")
        .arg(&dirs.run)
        .args(arguments.agent.words())
        .stdin(Stdio::null())
        .stdout(log.try_clone().map_err(no_log)?)
        .stderr(log)
        // The folder that it was started from must not be kept busy for ever.
        .current_dir("/")
        .spawn()
        .map_err(|error| Fault::new(Code::Internal, format!("the agent cannot be started: {error}")))?;
    let deadline = Instant::now() + START_WITHIN;
    while Instant::now() < deadline {
        match client.hello().await {
            Ok(hello) => {
                context.out.show(&hello, |hello, _| text(hello));
                return Ok(0);
            }
            Err(fault) if fault.code == Code::NoAgent => {}
            Err(fault) => return Err(fault),
        }
        if let Ok(Some(status)) = parent.try_wait() {
            return Err(failed(status, dirs, from));
        }
        tokio::time::sleep(ASK_EVERY).await;
    }
    Err(Fault::new(
        Code::NoAgent,
        format!("the agent did not answer within {} s; it is still being started", START_WITHIN.as_secs()),
    )
    .hint(format!("see {}, then `teal status`", dirs.agent_log().display()))
    .detail(tail(dirs, from)))
}

fn text(hello: &Hello) -> String {
    format!("the agent runs (pid {}), state in {}", hello.pid, hello.state_dir)
}

/// The parent in the background ended before the agent answered: what it said is in the log.
fn failed(status: ExitStatus, dirs: &Dirs, from: u64) -> Fault {
    let code = Code::ALL.iter().copied().find(|code| status.code() == Some(i32::from(code.exit())));
    let code = match code {
        // One exit code, several kinds: these are the ones that a start ends with.
        Some(Code::NoAgent) => Code::AgentRuns,
        Some(code) => code,
        None => Code::Internal,
    };
    Fault::new(code, format!("the agent did not start ({status})")).detail(tail(dirs, from))
}

/// The log, and where this start's part of it begins.
fn open_log(dirs: &Dirs) -> Result<(File, u64), Fault> {
    let path = dirs.agent_log();
    let unusable =
        |error: std::io::Error| Fault::new(Code::StateDir, format!("{} cannot be used: {error}", path.display()));
    if std::fs::metadata(&path).is_ok_and(|metadata| metadata.len() > LOG_BYTES) {
        std::fs::rename(&path, path.with_extension("log.1")).map_err(unusable)?;
    }
    let log = OpenOptions::new().append(true).create(true).mode(0o600).open(&path).map_err(unusable)?;
    let from = log.metadata().map_err(unusable)?.len();
    Ok((log, from))
}

fn tail(dirs: &Dirs, from: u64) -> Vec<String> {
    let read = || -> std::io::Result<Vec<u8>> {
        let mut file = File::open(dirs.agent_log())?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(from.max(length.saturating_sub(TAIL_BYTES))))?;
        let mut bytes = Vec::new();
        file.take(TAIL_BYTES).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    let bytes = read().unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    let lines: Vec<&str> = text.lines().collect();
    lines.iter().skip(lines.len().saturating_sub(TAIL_LINES)).map(|line| (*line).to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn a_long_log_is_set_aside_and_only_this_start_is_shown() {
        let temp = tempfile::tempdir().unwrap();
        let dirs = Dirs { state: temp.path().to_owned(), run: temp.path().join("run") };
        std::fs::write(dirs.agent_log(), "an earlier start\n").unwrap();
        let (mut log, from) = open_log(&dirs).unwrap();
        for i in 0..30 {
            writeln!(log, "line {i}").unwrap();
        }
        let tail = tail(&dirs, from);
        assert_eq!((tail.len(), tail[0].as_str(), tail[19].as_str()), (20, "line 10", "line 29"));
        log.set_len(LOG_BYTES + 1).unwrap();
        assert_eq!(open_log(&dirs).unwrap().1, 0);
        assert!(temp.path().join("agent.log.1").exists());
    }
}
