//! The process `teal proxy`: one control thread, one thread a worker.

use crate::control::Control;
use crate::counters::WorkerCounters;
use crate::worker::{Command, Report, Shared, Worker};
use std::io;
use std::num::NonZeroUsize;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::thread::JoinHandle;
use tokio::runtime::{Builder, LocalOptions};
use tokio::sync::mpsc;

/// Commands that wait for a busy worker.
const COMMANDS: usize = 256;
/// Reports that wait for control.
const REPORTS: usize = 1024;

/// What the process is started with.
#[derive(Debug)]
pub struct Options {
    /// A listening unix socket that the agent connects to.
    pub control: OwnedFd,
    /// None: one a core.
    pub workers: Option<NonZeroUsize>,
    /// Told to the agent.
    pub version: String,
    /// Whether SIGTERM and SIGINT end the proxy in an orderly way; a process has one such proxy.
    pub signals: bool,
}

#[derive(Debug, thiserror::Error)]
pub enum RunError {
    #[error("the control socket cannot be used")]
    Control(#[source] io::Error),
    #[error("a thread or its event loop cannot be started")]
    Thread(#[source] io::Error),
    #[error("signals cannot be caught")]
    Signals(#[source] io::Error),
    #[error("a worker thread panicked")]
    Worker,
}

/// Serves until the agent, SIGTERM or SIGINT ends it.
pub fn run(options: Options) -> Result<(), RunError> {
    raise_open_files();
    let count = options.workers.or_else(|| std::thread::available_parallelism().ok()).map_or(1, NonZeroUsize::get);
    let shared = Arc::new(Shared::new());
    let (reports, inbox) = mpsc::channel(REPORTS);
    let mut workers = Vec::with_capacity(count);
    let mut threads = Vec::with_capacity(count);
    for index in 0..count {
        let (commands, thread, counters) = start_worker(index, shared.clone(), reports.clone())?;
        workers.push((commands, counters));
        threads.push(thread);
    }
    drop(reports);

    let runtime = Builder::new_current_thread().enable_all().build().map_err(RunError::Thread)?;
    let served = runtime.block_on(async {
        let control = Control::new(options, workers, inbox, shared.epoch)?;
        control.run().await
    });
    // The commands' senders went with control, so the workers end.
    for thread in threads {
        thread.join().map_err(|_| RunError::Worker)?;
    }
    served
}

type Started = (mpsc::Sender<Command>, JoinHandle<()>, Arc<WorkerCounters>);

fn start_worker(index: usize, shared: Arc<Shared>, reports: mpsc::Sender<Report>) -> Result<Started, RunError> {
    let (commands, inbox) = mpsc::channel(COMMANDS);
    let counters = Arc::new(WorkerCounters::default());
    let mine = counters.clone();
    let (started, starting) = std::sync::mpsc::sync_channel(1);
    let thread = std::thread::Builder::new().name(format!("worker-{index}")).spawn(move || {
        let runtime = match Builder::new_current_thread().enable_all().build_local(LocalOptions::default()) {
            Ok(runtime) => runtime,
            Err(error) => return drop(started.send(Err(error))),
        };
        let _ = started.send(Ok(()));
        runtime.block_on(async move { Worker::new(index, shared, mine, reports).run(inbox).await });
    });
    let thread = thread.map_err(RunError::Thread)?;
    match starting.recv() {
        Ok(Ok(())) => Ok((commands, thread, counters)),
        Ok(Err(error)) => Err(RunError::Thread(error)),
        Err(_) => Err(RunError::Worker),
    }
}

/// Every connection is a descriptor or two, and the soft limit is often 1024.
fn raise_open_files() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    if let Err(error) = setrlimit(Resource::Nofile, limit) {
        tracing::warn!(%error, "the limit of open files stays as it was");
    }
}
