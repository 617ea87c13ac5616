//! A command of somebody's, run on the agent's host: without a shell, with few variables, and never longer than it may.

use rustix::fs::{Access, access};
use rustix::process::{Pid, Signal, kill_process_group};
use std::collections::{BTreeMap, VecDeque};
use std::io::{self, ErrorKind};
use std::os::fd::OwnedFd;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe;
use tokio::time::timeout;

/// Of what it printed.
const LINES: usize = 20;
/// A longer line is cut.
const LINE: usize = 1000;
/// What it printed is read to the end for at most this once it has ended: what it has started may hold its output open.
const LAST_WORDS: Duration = Duration::from_millis(200);
/// Of the agent's own variables, what a command needs to find programs and its user's files.
const PASSED_ON: [&str; 2] = ["PATH", "HOME"];

/// Where commands run, and what they are told.
#[derive(Debug, Clone, Default)]
pub struct Surroundings {
    pub directory: PathBuf,
    /// Beside PATH and HOME.
    pub variables: BTreeMap<String, String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ended {
    Exited(i32),
    Signalled(i32),
    /// It ran until its time was over, and was killed with all that it had started.
    TimedOut,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ran {
    pub ended: Ended,
    /// Of both its outputs.
    pub last_lines: Vec<String>,
}

/// A process group, killed when this is dropped.
struct Group(Pid);

impl Drop for Group {
    fn drop(&mut self) {
        // Nobody left in it is as good.
        let _ = kill_process_group(self.0, Signal::KILL);
    }
}

/// Nothing of it is left when this returns, or is dropped.
///
/// # Errors
/// It could not be run at all; in words.
pub async fn run(command: &[String], surroundings: &Surroundings, within: Duration) -> Result<Ran, String> {
    let cannot = |why: &str| format!("`{}` cannot be run: {why}", command.join(" "));
    let Surroundings { directory, variables } = surroundings;
    if !directory.is_dir() {
        return Err(cannot(&format!("the folder {} is not there", directory.display())));
    }
    let (program, arguments) = command.split_first().ok_or_else(|| cannot("it is empty"))?;
    let (output, theirs) = io::pipe().map_err(|error| cannot(&error.to_string()))?;
    let mut output =
        pipe::Receiver::from_owned_fd(OwnedFd::from(output)).map_err(|error| cannot(&error.to_string()))?;
    let mut child = {
        let mut asked = tokio::process::Command::new(program);
        asked.args(arguments).current_dir(directory).env_clear();
        asked.envs(PASSED_ON.iter().filter_map(|name| Some((name, std::env::var_os(name)?)))).envs(variables);
        asked.stdin(Stdio::null()).process_group(0).kill_on_drop(true);
        asked.stdout(theirs.try_clone().map_err(|error| cannot(&error.to_string()))?).stderr(theirs);
        asked.spawn().map_err(|error| {
            cannot(&match error.kind() {
                ErrorKind::NotFound => format!("there is no {program}"),
                ErrorKind::PermissionDenied => format!("{program} may not be executed"),
                _ => error.to_string(),
            })
        })?
    };
    let group = child.id().and_then(|pid| Pid::from_raw(pid.cast_signed())).map(Group);
    let mut lines = LastLines::default();
    let ended = timeout(within, async {
        tokio::select! {
            ended = child.wait() => ended,
            () = lines.read(&mut output) => child.wait().await,
        }
    })
    .await;
    drop(group);
    // A stream that is closed already is at its end at once.
    let _ = timeout(LAST_WORDS, lines.read(&mut output)).await;
    let ended = match ended {
        Err(_) => Ended::TimedOut,
        Ok(Err(error)) => return Err(cannot(&error.to_string())),
        Ok(Ok(status)) => match status.code() {
            Some(code) => Ended::Exited(code),
            None => Ended::Signalled(status.signal().unwrap_or_default()),
        },
    };
    Ok(Ran { ended, last_lines: lines.all() })
}

/// Why this host cannot run it; None: it is there, and may be executed.
pub fn missing(command: &[String], directory: &Path) -> Option<String> {
    let program = command.first()?;
    if !directory.is_dir() {
        return Some(format!("the folder {} is not there", directory.display()));
    }
    if program.contains('/') {
        let path: PathBuf = directory.join(program).components().collect();
        let named = path.display();
        return match path.metadata() {
            Err(error) if error.kind() == ErrorKind::NotFound => Some(format!("there is no {named} on this host")),
            Err(error) => Some(format!("{named}: {error}")),
            Ok(found) if !found.is_file() => Some(format!("{named} is no program")),
            Ok(_) => may_not_be_executed(&path).then(|| format!("{named} may not be executed")),
        };
    }
    let places = std::env::var_os("PATH")?;
    let there = |place: PathBuf| {
        let path = directory.join(place).join(program);
        path.is_file() && !may_not_be_executed(&path)
    };
    (!std::env::split_paths(&places).any(there)).then(|| format!("there is no {program} in the agent's PATH"))
}

fn may_not_be_executed(path: &Path) -> bool {
    access(path, Access::EXEC_OK).is_err()
}

#[derive(Default)]
struct LastLines {
    lines: VecDeque<String>,
    begun: Vec<u8>,
}

impl LastLines {
    /// To the end.
    async fn read(&mut self, from: &mut pipe::Receiver) {
        let mut chunk = [0; 4096];
        while let Ok(read @ 1..) = from.read(&mut chunk).await {
            for byte in &chunk[..read] {
                match byte {
                    b'\n' => self.end_line(),
                    _ if self.begun.len() < LINE => self.begun.push(*byte),
                    _ => {}
                }
            }
        }
    }

    fn end_line(&mut self) {
        let line = String::from_utf8_lossy(&std::mem::take(&mut self.begun)).trim_end().to_owned();
        if self.lines.len() == LINES {
            self.lines.pop_front();
        }
        self.lines.push_back(line);
    }

    fn all(mut self) -> Vec<String> {
        if !self.begun.is_empty() {
            self.end_line();
        }
        self.lines.into()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::time::Instant;

    fn here() -> Surroundings {
        let variables = BTreeMap::from([("TEAL_SERVICE".to_owned(), "web".to_owned())]);
        Surroundings { directory: std::env::temp_dir(), variables }
    }

    fn sh(script: &str) -> Vec<String> {
        ["sh", "-c", script].map(str::to_owned).to_vec()
    }

    const LONG: Duration = Duration::from_secs(30);

    #[tokio::test]
    async fn it_is_told_little_and_both_its_outputs_are_heard() {
        let script = "pwd; echo $TEAL_SERVICE >&2; env | cut -d= -f1 | sort | tr '\\n' ' '";
        let ran = run(&sh(script), &here(), LONG).await.unwrap();
        assert_eq!(ran.ended, Ended::Exited(0));
        assert_eq!(ran.last_lines[..2], [std::env::temp_dir().display().to_string(), "web".to_owned()]);
        for word in ran.last_lines[2].split(' ') {
            assert!(["HOME", "PATH", "PWD", "OLDPWD", "SHLVL", "_", "TEAL_SERVICE"].contains(&word), "{word}");
        }
    }

    #[tokio::test]
    async fn its_last_lines_are_kept() {
        let script = "i=0; while [ $i -lt 5000 ]; do i=$((i+1)); echo line $i; done; printf end; exit 3";
        let ran = run(&sh(script), &here(), LONG).await.unwrap();
        assert_eq!((ran.ended, ran.last_lines.len()), (Ended::Exited(3), 20));
        assert_eq!(ran.last_lines[18..], ["line 5000", "end"]);
        let killed = run(&sh("kill -9 $$"), &here(), LONG).await.unwrap();
        assert_eq!(killed.ended, Ended::Signalled(9));
    }

    #[tokio::test]
    async fn its_time_over_all_that_it_started_is_killed() {
        let dir = tempfile::tempdir().unwrap();
        let alive = dir.path().join("alive");
        let script = format!("echo begun; (while :; do date > {}; sleep 0.05; done) & wait", alive.display());
        let began = Instant::now();
        let ran = run(&sh(&script), &here(), Duration::from_secs(2)).await.unwrap();
        assert_eq!(ran, Ran { ended: Ended::TimedOut, last_lines: vec!["begun".to_owned()] });
        assert!(began.elapsed() < Duration::from_secs(20));
        std::fs::remove_file(&alive).unwrap();
        tokio::time::sleep(Duration::from_millis(300)).await;
        assert!(!alive.exists(), "its child writes on");
    }

    #[tokio::test]
    async fn what_it_leaves_in_the_background_does_not_keep_it() {
        let began = Instant::now();
        let ran = run(&sh("sleep 60 & echo done"), &here(), LONG).await.unwrap();
        assert_eq!((ran.ended, ran.last_lines), (Ended::Exited(0), vec!["done".to_owned()]));
        assert!(began.elapsed() < Duration::from_secs(20));
    }

    #[tokio::test]
    async fn one_that_is_not_waited_for_any_more_is_killed() {
        let dir = tempfile::tempdir().unwrap();
        let alive = dir.path().join("alive");
        let script = format!("while :; do date > {}; sleep 0.05; done", alive.display());
        let task = tokio::spawn(async move { run(&sh(&script), &here(), LONG).await });
        while !alive.exists() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        task.abort();
        assert!(task.await.unwrap_err().is_cancelled());
        std::fs::remove_file(&alive).unwrap();
        tokio::time::sleep(Duration::from_millis(300)).await;
        assert!(!alive.exists());
    }

    #[tokio::test]
    async fn what_cannot_be_run_is_said() {
        let dir = tempfile::tempdir().unwrap();
        let plain = dir.path().join("plain");
        std::fs::write(&plain, "text").unwrap();
        let run = async |command: &str, surroundings: &Surroundings| {
            run(&[command.to_owned()], surroundings, LONG).await.unwrap_err()
        };
        assert_eq!(
            run("no-such-program", &here()).await,
            "`no-such-program` cannot be run: there is no no-such-program"
        );
        let plain = plain.display().to_string();
        assert_eq!(run(&plain, &here()).await, format!("`{plain}` cannot be run: {plain} may not be executed"));
        let nowhere = Surroundings { directory: "/no/such/folder".into(), ..Surroundings::default() };
        assert!(run("true", &nowhere).await.ends_with("the folder /no/such/folder is not there"));
    }
}
