//! The awkward app: it closes idle connections under its clients, and answers before it has read what it was sent.

use super::web;
use crate::prober::{Clients, Config, Prober, Report};
use crate::stage::{Stage, docker};
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::process::{Child, Command};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// The app's keep-alive time in these runs.
const KEEP_ALIVE: Duration = Duration::from_millis(300);

pub struct Kept {
    /// POSTs around the keep-alive limit.
    pub gaps: Report,
    /// POSTs that are answered before they are read, the connection closed after it.
    pub early: Report,
    /// Failed requests of which the app's own log says that it had read or answered them before it closed: a close with
    /// unread bytes is a reset, and a reset may overtake the answer (RFC 9112 section 9.6).
    pub lost_by_app: Vec<String>,
}

impl Kept {
    /// The failures that count.
    pub fn failed(&self) -> u64 {
        self.gaps.failed() + self.early.failed() - self.lost_by_app.len() as u64
    }
}

/// Follows the log of every container of the project from its start: a log is gone with its container.
struct Logs {
    directory: PathBuf,
    done: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl Logs {
    fn follow(stage: &Stage) -> std::io::Result<Self> {
        let directory = stage.root().join("app-logs");
        std::fs::create_dir(&directory)?;
        let done = Arc::new(AtomicBool::new(false));
        let (into, over, filter) = (directory.clone(), done.clone(), format!("label=teal.project={}", stage.project));
        let thread = std::thread::spawn(move || {
            let mut followed: BTreeMap<String, Child> = BTreeMap::new();
            while !over.load(Ordering::Relaxed) {
                for id in docker(&["ps", "--quiet", "--filter", &filter]).lines() {
                    followed.entry(id.to_owned()).or_insert_with(|| {
                        let file = std::fs::File::create(into.join(id)).unwrap_or_else(|error| panic!("{id}: {error}"));
                        let follow = Command::new("docker").args(["logs", "--follow", id]).stdout(file).spawn();
                        follow.unwrap_or_else(|error| panic!("docker logs: {error}"))
                    });
                }
                std::thread::sleep(Duration::from_millis(100));
            }
            for child in followed.values_mut() {
                crate::stage::kill(child.id(), rustix::process::Signal::TERM);
                // It was told to end a moment ago.
                let _ = child.wait();
            }
        });
        Ok(Self { directory, done, thread })
    }

    /// Those of these requests that an app says it has read or answered.
    fn taken(self, requests: Vec<String>) -> std::io::Result<Vec<String>> {
        self.done.store(true, Ordering::Relaxed);
        self.thread.join().unwrap_or_else(|_| panic!("the logs could not be followed"));
        let mut taken = BTreeSet::new();
        for entry in std::fs::read_dir(&self.directory)? {
            let log = std::fs::read_to_string(entry?.path())?;
            for request in &requests {
                let said = |verb: &str| log.contains(&format!("id={request} {verb}"));
                if said("read") || said("answered") {
                    taken.insert(request.clone());
                }
            }
        }
        Ok(taken.into_iter().collect())
    }
}

/// Loads for this long, with deployments in the second half.
pub fn run(stage: &Stage, seconds: u64) -> std::io::Result<Kept> {
    let environment = format!(
        "      KEEP_ALIVE_MS: \"{}\"\n      KEEP_ALIVE_RANDOM: \"1\"\n      LOG_REQUESTS: \"1\"",
        KEEP_ALIVE.as_millis()
    );
    stage.compose(&web(2, "", &environment)).up();
    let logs = Logs::follow(stage)?;
    stage.must_deploy("0");
    let gaps = Clients::gaps(48, KEEP_ALIVE, KEEP_ALIVE / 3);
    let early = Clients {
        post_share: 1.0,
        post_path: "/early".to_owned(),
        post_bytes: 40_000,
        post_echoes: false,
        ..Clients::steady(16)
    }
    .pace(crate::prober::Pace::Think(Duration::from_millis(5)));
    let gaps = Prober::start(Config { tag: "gap".to_owned(), ..Config::new(stage.address()).with(gaps) })?;
    let early = Prober::start(Config { tag: "early".to_owned(), ..Config::new(stage.address()).with(early) })?;
    std::thread::sleep(Duration::from_secs(seconds / 2));
    let until = std::time::Instant::now() + Duration::from_secs(seconds - seconds / 2);
    let mut version = 0;
    while std::time::Instant::now() < until {
        version += 1;
        stage.must_deploy(&version.to_string());
        std::thread::sleep(Duration::from_millis(500));
    }
    let (gaps, early) = (gaps.stop()?, early.stop()?);
    let failed = gaps.failures.iter().chain(&early.failures).map(|failure| failure.request_id.clone());
    let lost_by_app = logs.taken(failed.collect())?;
    Ok(Kept { gaps, early, lost_by_app })
}
