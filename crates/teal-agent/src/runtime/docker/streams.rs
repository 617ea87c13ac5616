//! What a container says and does over time: logs, events, a command inside it.

use super::super::{ContainerEvent, LogLine, Result, RuntimeError};
use super::DockerRuntime;
use super::connection::bounded;
use super::lifecycle::{label_filter, plain};
use bollard::container::LogOutput;
use bollard::errors::Error;
use bollard::exec::{CreateExecOptions, StartExecOptions, StartExecResults};
use bollard::query_parameters::{EventsOptions, LogsOptions};
use futures_util::StreamExt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::io::AsyncWriteExt;
use tokio::sync::mpsc;

/// Docker itself remembers 256.
const EVENTS_KEPT: usize = 1024;
/// A longer line comes in pieces.
const LINE_MOST: usize = 256 * 1024;
/// What changes a container. Its health checks alone would fill the stream with `exec_*`.
const ACTIONS: [&str; 11] =
    ["create", "start", "die", "kill", "oom", "stop", "pause", "unpause", "rename", "destroy", "health_status"];
const EXIT_CODE_SOON: Duration = Duration::from_millis(10);
const EXIT_CODE_LATE: Duration = Duration::from_secs(1);
const END_OF_TRANSMISSION: u8 = 4;

impl DockerRuntime {
    pub(super) async fn log_lines(&self, id: &str, lines: u32, follow: bool, to: mpsc::Sender<LogLine>) -> Result<()> {
        let id = plain(id)?;
        let options = LogsOptions {
            follow,
            stdout: true,
            stderr: true,
            timestamps: true,
            tail: lines.to_string(),
            ..Default::default()
        };
        let client = self.connection.client().await?;
        let mut frames = client.logs(id, Some(options));
        let mut parts = Parts::default();
        loop {
            let frame = tokio::select! {
                frame = frames.next() => frame,
                () = to.closed() => return Ok(()),
            };
            let lines = match frame {
                Some(frame) => {
                    parts.take(frame.map_err(|e| self.connection.fault(format!("read the log of container {id}"), e))?)
                }
                None => parts.rest(),
            };
            let ended = lines.is_empty() && parts.ended;
            for line in lines {
                if to.send(line).await.is_err() {
                    return Ok(());
                }
            }
            if ended || parts.ended {
                return Ok(());
            }
        }
    }

    /// `since` closes the gap between this call and Docker's subscription, which it makes just after it answers.
    pub(super) async fn container_events(&self, labels: &[(&str, &str)]) -> Result<mpsc::Receiver<ContainerEvent>> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let mut filters = label_filter(labels);
        filters.insert("type".into(), vec!["container".into()]);
        filters.insert("event".into(), ACTIONS.map(str::to_owned).to_vec());
        let since = format!("{}.{:09}", now.as_secs(), now.subsec_nanos());
        let client = self.connection.client().await?;
        // The stream asks only when it is read: this tells at once when nobody answers.
        bounded(client.ping()).await.map_err(|e| self.connection.fault("subscribe to events", e))?;
        let mut news =
            Box::pin(client.events(Some(EventsOptions { since: Some(since), until: None, filters: Some(filters) })));
        let (to, events) = mpsc::channel(EVENTS_KEPT);
        tokio::spawn(async move {
            loop {
                let item = tokio::select! {
                    item = news.next() => item,
                    () = to.closed() => return,
                };
                let event = match item {
                    Some(Ok(event)) => event,
                    Some(Err(error)) => return tracing::debug!(%error, "the event stream broke"),
                    None => return,
                };
                let (Some(action), Some(container)) = (event.action, event.actor.and_then(|a| a.id)) else {
                    continue;
                };
                // A reader that is this far behind subscribes again and lists: nothing is lost silently.
                if to.try_send(ContainerEvent { container, action }).is_err() {
                    return;
                }
            }
        });
        Ok(events)
    }

    pub(super) async fn run_inside(
        &self,
        id: &str,
        command: &[String],
        tty: bool,
        mut input: mpsc::Receiver<Vec<u8>>,
        output: mpsc::Sender<Vec<u8>>,
    ) -> Result<i64> {
        let id = plain(id)?;
        let fault = |error| self.connection.fault(format!("run a command in container {id}"), error);
        let client = self.connection.client().await?;
        let options = CreateExecOptions {
            attach_stdin: Some(true),
            attach_stdout: Some(true),
            attach_stderr: Some(true),
            tty: Some(tty),
            cmd: Some(command.to_vec()),
            ..Default::default()
        };
        let made = bounded(client.create_exec(id, options)).await.map_err(fault)?;
        let started =
            bounded(client.start_exec(&made.id, Some(StartExecOptions { detach: false, tty, output_capacity: None })))
                .await
                .map_err(fault)?;
        if let StartExecResults::Attached { output: mut said, input: mut stdin } = started {
            let feed = async move {
                while let Some(bytes) = input.recv().await {
                    if stdin.write_all(&bytes).await.is_err() || stdin.flush().await.is_err() {
                        break;
                    }
                }
                // With a terminal Docker takes a closed stdin for the end of the session and drops the output: say ^D.
                let _ = if tty { stdin.write_all(&[END_OF_TRANSMISSION]).await } else { stdin.shutdown().await };
                stdin
            };
            let read = async {
                while let Some(piece) = said.next().await {
                    if output.send(piece?.into_bytes().to_vec()).await.is_err() {
                        break;
                    }
                }
                Ok::<(), Error>(())
            };
            tokio::pin!(feed, read);
            let mut fed = None;
            loop {
                tokio::select! {
                    outcome = &mut read => break outcome.map_err(fault)?,
                    stdin = &mut feed, if fed.is_none() => fed = Some(stdin),
                    () = output.closed() => {
                        let why = "nobody reads its output any more; it may still run".to_owned();
                        return Err(RuntimeError::Refused { what: format!("run a command in container {id}"), why });
                    }
                }
            }
        }
        exit_code(&client, &made.id).await.map_err(fault)
    }
}

/// The output ends a moment before Docker knows the code, or long before when the command closes it and goes on.
async fn exit_code(client: &bollard::Docker, exec: &str) -> std::result::Result<i64, Error> {
    let mut pause = EXIT_CODE_SOON;
    loop {
        let seen = bounded(client.inspect_exec(exec)).await?;
        if seen.running != Some(true) {
            return Ok(seen.exit_code.unwrap_or(-1));
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(EXIT_CODE_LATE);
    }
}

/// Lines put together from frames: Docker cuts a line at 16 KiB and stamps each piece.
#[derive(Default)]
struct Parts {
    out: Option<LogLine>,
    err: Option<LogLine>,
    ended: bool,
}

impl Parts {
    fn take(&mut self, frame: LogOutput) -> Vec<LogLine> {
        let stderr = matches!(frame, LogOutput::StdErr { .. });
        let text = String::from_utf8_lossy(frame.as_ref()).into_owned();
        let (at, text) =
            text.split_once(' ').filter(|(at, _)| at.len() > 19 && at.ends_with('Z')).unwrap_or(("", &text));
        let slot = if stderr { &mut self.err } else { &mut self.out };
        let line = slot.get_or_insert_with(|| LogLine { stderr, at: at.to_owned(), text: String::new() });
        line.text.push_str(text);
        if !line.text.ends_with('\n') && line.text.len() < LINE_MOST {
            return Vec::new();
        }
        slot.take().map(finished).into_iter().collect()
    }

    fn rest(&mut self) -> Vec<LogLine> {
        self.ended = true;
        [self.out.take(), self.err.take()].into_iter().flatten().map(finished).collect()
    }
}

fn finished(mut line: LogLine) -> LogLine {
    line.text.truncate(line.text.trim_end_matches(['\n', '\r']).len());
    line
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn frame(text: &str) -> LogOutput {
        LogOutput::StdOut { message: text.to_owned().into() }
    }

    #[test]
    fn a_long_line_is_put_together_from_its_frames() {
        let mut parts = Parts::default();
        assert!(parts.take(frame("2026-01-01T00:00:00.000000000Z first, ")).is_empty());
        let lines = parts.take(frame("2026-01-01T00:00:00.000000001Z second\r\n"));
        assert_eq!(
            lines,
            [LogLine { stderr: false, at: "2026-01-01T00:00:00.000000000Z".into(), text: "first, second".into() }]
        );
        assert!(parts.take(frame("2026-01-01T00:00:01.000000000Z no end")).is_empty());
        assert_eq!(parts.rest()[0].text, "no end");
    }
}
