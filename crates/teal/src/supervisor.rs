//! The tiny parent that `teal up` keeps: it starts the agent again when it crashed, and does nothing else.
//!
//! ```text
//! teal up ── keeps ──▶ teal agent ── starts ──▶ teal proxy (its own session: it outlives both)
//! ```

use crate::dirs::Dirs;
use crate::follow::Signals;
use crate::print::Out;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;
use teal_model::fault::{Code, Fault};
use tokio::process::{Child, Command};
use tokio::time::Instant;

/// The exit code of an agent that could not go on and may be able to later (EX_TEMPFAIL of sysexits.h).
pub const TRY_AGAIN: u8 = 75;
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// An agent that ran for so long did not fail at once: it is started again without delay.
const LONG_ENOUGH: Duration = Duration::from_secs(10);

/// The exit code of an agent that ended by this fault: its own when starting again would only say the same.
pub fn exit_code(fault: &Fault) -> u8 {
    match fault.code {
        Code::Usage | Code::AgentRuns | Code::AgentVersion | Code::StateDir => fault.code.exit(),
        _ => TRY_AGAIN,
    }
}

/// Keeps an agent until it ends for good, or a signal ends us. The agent's arguments are taken from `dirs`.
pub async fn keep(program: &Path, dirs: &Dirs, extra: &[String], out: &Out) -> Result<u8, Fault> {
    let mut signals = Signals::new()?;
    let mut pause = FIRST_PAUSE;
    loop {
        let began = Instant::now();
        let mut child = start(program, dirs, extra)?;
        let status = tokio::select! {
            status = child.wait() => status.map_err(|error| internal("the agent cannot be waited for", &error))?,
            _ = signals.next() => return end(&mut child, out).await,
        };
        match after(status) {
            After::Leave(code) => return Ok(code),
            After::Again(how) => {
                if began.elapsed() >= LONG_ENOUGH {
                    pause = FIRST_PAUSE;
                }
                out.note(&format!(
                    "the agent {how}; starting it again in {} (traffic goes on)",
                    crate::print::words::ms(pause.as_millis() as u64)
                ));
            }
        }
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            _ = signals.next() => return Ok(0),
        }
        pause = LONGEST_PAUSE.min(pause * 2);
    }
}

#[derive(Debug, PartialEq, Eq)]
enum After {
    Leave(u8),
    Again(String),
}

fn after(status: ExitStatus) -> After {
    match (status.code(), status.signal()) {
        (Some(0), _) => After::Leave(0),
        (Some(code), _) if code == i32::from(TRY_AGAIN) => After::Again("ended by a fault".to_owned()),
        // What a panic and a shell's `killed` look like: 101, 128 and above.
        (Some(code), _) if code > i32::from(Code::Stuck.exit()) => After::Again(format!("ended with code {code}")),
        (Some(code), _) => After::Leave(u8::try_from(code).unwrap_or(1)),
        (None, signal) => After::Again(format!("was ended by signal {}", signal.unwrap_or(0))),
    }
}

fn start(program: &Path, dirs: &Dirs, extra: &[String]) -> Result<Child, Fault> {
    let mut command = std::process::Command::new(program);
    command
        .arg("agent")
        .arg("--state-dir")
        .arg(&dirs.state)
        .arg("--run-dir")
        .arg(&dirs.run)
        .args(extra)
        .stdin(Stdio::null());
    // A group of its own: the keyboard's Ctrl-C reaches us alone, and we end the agent in order.
    command.process_group(0);
    Command::from(command).spawn().map_err(|error| internal("the agent cannot be started", &error))
}

async fn end(child: &mut Child, out: &Out) -> Result<u8, Fault> {
    if let Some(pid) = child.id().and_then(|pid| i32::try_from(pid).ok()).and_then(rustix::process::Pid::from_raw) {
        // It fails only when the agent has ended by itself in this moment.
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
    }
    child.wait().await.map_err(|error| internal("the agent cannot be waited for", &error))?;
    out.note("the agent has ended; the proxy goes on serving (`teal up` takes it over, `teal down --proxy` after that ends it)");
    Ok(0)
}

fn internal(what: &str, error: &std::io::Error) -> Fault {
    Fault::new(Code::Internal, format!("{what}: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_crash_is_started_again_and_an_end_on_purpose_is_not() {
        let code = |code: i32| after(ExitStatus::from_raw(code << 8));
        assert_eq!(code(0), After::Leave(0));
        assert_eq!(code(4), After::Leave(4));
        assert_eq!(code(7), After::Leave(7));
        assert!(matches!(code(75), After::Again(_)));
        assert!(matches!(code(101), After::Again(_)));
        assert_eq!(after(ExitStatus::from_raw(9)), After::Again("was ended by signal 9".to_owned()));
    }

    /// A program that stands for the agent: says what it was started with, and ends with the next of these codes.
    fn ending_with(temp: &Path, codes: &[u8]) -> std::path::PathBuf {
        use std::os::unix::fs::PermissionsExt;
        let program = temp.join("agent.sh");
        let cases: String = codes.iter().enumerate().map(|(i, code)| format!("{}) exit {code};; ", i + 1)).collect();
        std::fs::write(
            &program,
            format!(
                "#!/bin/sh\necho \"$@\" >> {0}/starts\ncase $(wc -l < {0}/starts) in {cases}esac\n",
                temp.display()
            ),
        )
        .unwrap();
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
        program
    }

    #[tokio::test]
    async fn the_agent_is_started_again_until_it_ends_on_purpose() {
        for (codes, left) in [([101, 75, 0], 0), ([75, 101, 4], 4)] {
            let temp = tempfile::tempdir().unwrap();
            let program = ending_with(temp.path(), &codes);
            let dirs = Dirs { state: "/s".into(), run: "/r".into() };
            let code =
                keep(&program, &dirs, &["--workers".to_owned(), "2".to_owned()], &Out::new(crate::cli::Output::Json))
                    .await
                    .unwrap();
            assert_eq!(code, left);
            let starts = std::fs::read_to_string(temp.path().join("starts")).unwrap();
            assert_eq!(starts, "agent --state-dir /s --run-dir /r --workers 2\n".repeat(3));
        }
    }

    #[test]
    fn only_what_would_fail_the_same_way_again_is_final() {
        for code in Code::ALL {
            let exit = exit_code(&Fault::new(*code, ""));
            let is_final = matches!(code, Code::Usage | Code::AgentRuns | Code::AgentVersion | Code::StateDir);
            assert_eq!(exit == TRY_AGAIN, !is_final, "{code}");
        }
    }
}
