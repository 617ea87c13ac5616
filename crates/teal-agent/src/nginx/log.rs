//! What nginx says of its requests: a log of Teal's own, followed by its offset, counted as the proxy's statistics are.

use super::file;
use super::process::{Reached, Running};
use crate::clock::monotonic_us;
use crate::runtime::Runtime;
use crate::traffic::Counts;
use async_trait::async_trait;
use rustix::process::Signal;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use teal_model::config::{NginxPlace, NginxProcess};
use teal_model::ids::{ReleaseKey, ServiceKey, TableNumber};
use teal_model::wire::{
    Connections, Counters, GAVE_UP_AFTER_MS, Latency, ReleaseStatistics, ServiceStatistics, Statistics,
};
use tokio::sync::broadcast;
use tokio::task::AbortHandle;

const EVERY: Duration = Duration::from_millis(100);
/// A log that has become longer is put aside, and removed once its last line was read.
const LONGEST: u64 = 64 * 1024 * 1024;
/// A release of which no request came for so long is gone.
const FORGOTTEN_MS: u64 = 3_600_000;
/// So much is read in one turn.
const AT_A_TIME: u64 = 4 * 1024 * 1024;
/// Who writes to a log that was put aside has opened the new one after this.
const LINGER: Duration = Duration::from_secs(2);

/// The requests of every service behind an nginx, as their logs tell of them.
pub struct Counted {
    instance: String,
    sums: Mutex<Sums>,
    news: broadcast::Sender<Arc<Statistics>>,
    followers: Mutex<BTreeMap<NginxPlace, Follower>>,
    /// Where requests pass that no log tells of, and why.
    blind: Mutex<BTreeMap<NginxPlace, String>>,
}

struct Follower {
    process: NginxProcess,
    tail: Arc<Mutex<Tail>>,
    task: AbortHandle,
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.task.abort();
    }
}

#[derive(Default)]
struct Sums {
    sequence: u64,
    told: Option<Instant>,
    releases: BTreeMap<ReleaseKey, Sum>,
    services: BTreeMap<ServiceKey, Gap>,
}

#[derive(Default)]
struct Sum {
    counters: Counters,
    latency: Latency,
    last_ms: u64,
}

/// The longest time without an answer while a request was waiting.
#[derive(Default, Clone, Copy)]
struct Gap {
    last_answer_ms: u64,
    /// Since the message before.
    longest_ms: u64,
}

/// One request.
#[derive(Debug, Clone, PartialEq)]
struct Line {
    release: ReleaseKey,
    began_ms: u64,
    ended_ms: u64,
    outcome: Outcome,
    /// Servers that were asked before the last one.
    retries: u64,
    header_us: Option<u64>,
}

impl Line {
    /// As in [`teal_model::wire::Counters::gave_up`]; nginx reads the whole request before it asks a server.
    fn gave_up(&self) -> bool {
        self.outcome == Outcome::Left
            && self.header_us.is_none()
            && self.ended_ms.saturating_sub(self.began_ms) >= GAVE_UP_AFTER_MS
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    /// With its class: 1xx to 5xx.
    Answered(usize),
    /// No server took the connection, or none is there.
    Connect,
    /// A server closed before its answer's head.
    Reset,
    Timeout,
    /// The client went away, or the answer broke off: nginx does not tell which.
    Left,
}

impl Counted {
    pub fn new(agent: &str) -> Self {
        let (news, _) = broadcast::channel(64);
        // Another one with each start of the agent: what it counted before is not known.
        let instance = format!("nginx:{agent}:{}", monotonic_us());
        Self { instance, sums: Mutex::default(), news, followers: Mutex::default(), blind: Mutex::default() }
    }

    /// Counts what this nginx logs from now on.
    pub fn follow(self: &Arc<Self>, process: &NginxProcess, runtime: &Arc<dyn Runtime>) {
        let mut followers = locked(&self.followers);
        if followers.get(&process.place()).is_some_and(|follower| follower.process == *process) {
            return;
        }
        let tail = Arc::new(Mutex::new(Tail::default()));
        let (counted, process_there, runtime, its) =
            (Arc::downgrade(self), process.clone(), runtime.clone(), tail.clone());
        let task = tokio::spawn(async move {
            let mut looked: Option<Instant> = None;
            loop {
                // A container that was made again has another root.
                if looked.is_none_or(|at| at.elapsed() > LINGER) {
                    looked = Some(Instant::now());
                    let running = Running::find(&process_there, &runtime).await.ok();
                    locked(&its).at(running, &process_there);
                }
                let Some(counted) = counted.upgrade() else { return };
                counted.read(&its);
                counted.tell_sometimes();
                drop(counted);
                tokio::time::sleep(EVERY).await;
            }
        });
        let follower = Follower { process: process.clone(), tail, task: task.abort_handle() };
        followers.insert(process.place(), follower);
    }

    pub fn leave(&self, place: &NginxPlace) {
        locked(&self.followers).remove(place);
        locked(&self.blind).remove(place);
    }

    /// Whether every request of this nginx is in its log; `uncounted`: why not, or why nobody knows.
    pub fn sees(&self, process: &NginxProcess, uncounted: Option<String>) {
        let mut blind = locked(&self.blind);
        match uncounted {
            None => drop(blind.remove(&process.place())),
            Some(why) => drop(blind.insert(process.place(), why)),
        }
    }

    fn read(&self, tail: &Mutex<Tail>) -> bool {
        let mut tail = locked(tail);
        match tail.lines() {
            Ok(lines) => {
                locked(&self.sums).take(&lines);
                true
            }
            Err(error) => {
                tail.complain(&error);
                false
            }
        }
    }

    /// Of several followers one tells for all.
    fn tell_sometimes(&self) {
        if locked(&self.sums).told.is_none_or(|told| told.elapsed() >= EVERY) {
            self.tell();
        }
    }

    fn tell(&self) -> Arc<Statistics> {
        let mut sums = locked(&self.sums);
        sums.sequence += 1;
        sums.told = Some(Instant::now());
        let releases = sums.releases.iter().map(|(release, Sum { counters, latency, .. })| ReleaseStatistics {
            counters: *counters,
            latency: latency.clone(),
            ..ReleaseStatistics::of(release.clone())
        });
        let releases = releases.collect();
        let services = sums.services.iter_mut().map(|(service, gap)| ServiceStatistics {
            service: service.clone(),
            held: 0,
            held_total: 0,
            hold_expired: 0,
            tcp_held_total: 0,
            tcp_hold_expired: 0,
            longest_gap_us: std::mem::take(&mut gap.longest_ms) * 1_000,
        });
        let told = Arc::new(Statistics {
            token: None,
            instance: self.instance.clone(),
            services: services.collect(),
            sequence: sums.sequence,
            table: TableNumber::default(),
            at_us: monotonic_us(),
            releases,
            connections: Connections::default(),
        });
        // Nobody listens: the sums are kept.
        let _ = self.news.send(told.clone());
        told
    }
}

#[async_trait]
impl Counts for Counted {
    /// Everything that is in the logs now. None: one of them cannot be read.
    async fn ask(&self) -> Option<Arc<Statistics>> {
        let tails: Vec<_> = locked(&self.followers).values().map(|follower| follower.tail.clone()).collect();
        let read: Vec<bool> = tails.iter().map(|tail| self.read(tail)).collect();
        let told = self.tell();
        (read.iter().all(|read| *read) && locked(&self.blind).is_empty()).then_some(told)
    }

    fn unknown(&self) -> String {
        let blind = locked(&self.blind).values().next().cloned();
        blind.unwrap_or_else(|| "nginx's log cannot be read".to_owned())
    }

    fn statistics(&self) -> broadcast::Receiver<Arc<Statistics>> {
        self.news.subscribe()
    }
}

impl Sums {
    fn take(&mut self, lines: &[Line]) {
        let mut by_service: BTreeMap<&ServiceKey, Vec<&Line>> = BTreeMap::new();
        for line in lines {
            by_service.entry(&line.release.service).or_default().push(line);
            let Sum { counters, latency, last_ms } = self.releases.entry(line.release.clone()).or_default();
            *last_ms = line.ended_ms.max(*last_ms);
            counters.requests += 1;
            counters.retries += line.retries;
            match line.outcome {
                Outcome::Answered(class) => counters.answered[class - 1] += 1,
                Outcome::Connect => counters.failed.connect += 1,
                Outcome::Reset => counters.failed.reset += 1,
                Outcome::Timeout => counters.failed.timeout += 1,
                Outcome::Left => {
                    counters.client_aborts += 1;
                    counters.gave_up += u64::from(line.gave_up());
                }
            }
            if let Some(us) = line.header_us {
                let bucket = Latency::bucket(us);
                if latency.buckets.len() <= bucket {
                    latency.buckets.resize(bucket + 1, 0);
                }
                latency.buckets[bucket] += 1;
            }
        }
        let newest = lines.iter().map(|line| line.ended_ms).max().unwrap_or(0);
        self.releases.retain(|_, sum| sum.last_ms + FORGOTTEN_MS > newest);
        for (service, mut lines) in by_service {
            self.services.entry(service.clone()).or_default().take(&mut lines);
        }
    }
}

impl Gap {
    fn take(&mut self, lines: &mut [&Line]) {
        lines.sort_by_key(|line| line.ended_ms);
        // Who was waiting already when an answer came: the earliest of those that ended then or later.
        let mut since: Vec<u64> = lines.iter().map(|line| line.began_ms).collect();
        for i in (0..since.len().saturating_sub(1)).rev() {
            since[i] = since[i].min(since[i + 1]);
        }
        for (line, since) in lines.iter().zip(since) {
            let waited_from = since.max(self.last_answer_ms);
            self.longest_ms = self.longest_ms.max(line.ended_ms.saturating_sub(waited_from));
            self.last_answer_ms = self.last_answer_ms.max(line.ended_ms);
        }
    }
}

/// A log that is read from where it was left; it may be put aside by anybody (logrotate) and begun anew.
#[derive(Default)]
struct Tail {
    path: Option<Arc<Reached>>,
    master: Option<Running>,
    open: Option<File>,
    /// A line that is not whole yet.
    rest: String,
    put_aside: Option<(PathBuf, Instant)>,
    complained: String,
    begun: bool,
}

impl Tail {
    /// Looks where the log is now; what was in it before the first look is not counted.
    fn at(&mut self, running: Option<Running>, process: &NginxProcess) {
        let path = match (&running, &process.container) {
            // Where its folder is not there yet it is looked for again.
            (Some(running), _) => running.path(&process.log).ok().map(Arc::new),
            (None, None) => Some(Arc::new(PathBuf::from(&process.log).into())),
            (None, Some(_)) => self.path.clone(),
        };
        self.master = running;
        self.path = path;
        if !std::mem::replace(&mut self.begun, true)
            && let Some(file) = self.path.as_ref().and_then(|path| file::open(path).ok())
        {
            let mut file = file;
            if file.seek(SeekFrom::End(0)).is_ok() {
                self.open = Some(file);
            }
        }
    }

    fn lines(&mut self) -> io::Result<Vec<Line>> {
        let Some(path) = self.path.clone() else { return Ok(Vec::new()) };
        let mut text = std::mem::take(&mut self.rest);
        if let Some(file) = &mut self.open {
            let read = file.take(AT_A_TIME).read_to_string(&mut text)?;
            let length = file.stream_position()?;
            match inode(&path) {
                // Another one is there, and the last writer has had time to change over.
                Some(other) if other != file.metadata()?.ino() => {
                    let aside = self.put_aside.get_or_insert_with(|| (PathBuf::new(), Instant::now()));
                    if read > 0 {
                        aside.1 = Instant::now();
                    }
                    if aside.1.elapsed() > LINGER {
                        self.change_over();
                    }
                }
                // Removed: nginx goes on writing to it until it opens another.
                Some(_) if length > LONGEST && self.put_aside.is_none() => self.put_it_aside(&path),
                // Emptied in place.
                Some(_) if file.metadata()?.len() < length => drop(file.seek(SeekFrom::Start(0))?),
                _ => {}
            }
        }
        if self.open.is_none() {
            self.open = match file::open(&path) {
                Ok(file) => Some(file),
                // Nginx makes it when it reads the file that names it.
                Err(error) if error.kind() == io::ErrorKind::NotFound => None,
                Err(error) => return Err(error),
            };
            if let Some(file) = &mut self.open {
                file.read_to_string(&mut text)?;
            }
        }
        let whole = text.rfind('\n').map_or(0, |end| end + 1);
        self.rest = text.split_off(whole);
        let mut lines = Vec::new();
        for line in text.lines() {
            match read_line(line) {
                Some(line) => lines.push(line),
                None => self.complain(&io::Error::other("a line that is none of Teal's")),
            }
        }
        Ok(lines)
    }

    fn put_it_aside(&mut self, path: &Path) {
        let Some(running) = &self.master else { return };
        let aside = aside(path);
        let done = std::fs::rename(path, &aside).map_err(|error| error.to_string());
        if let Err(error) = done.and_then(|()| running.signal(Signal::USR1).map_err(|fault| fault.to_string())) {
            self.complain(&io::Error::other(error));
        }
        self.put_aside = Some((aside, Instant::now()));
    }

    fn change_over(&mut self) {
        self.open = None;
        let Some((aside, _)) = self.put_aside.take() else { return };
        // One that somebody else has put aside is theirs.
        if !aside.as_os_str().is_empty()
            && let Err(error) = std::fs::remove_file(&aside)
        {
            self.complain(&error);
        }
    }

    fn complain(&mut self, error: &io::Error) {
        let words = error.to_string();
        if self.complained != words {
            let log = self.path.as_ref().map(|path| path.display().to_string());
            tracing::warn!(log, %error, "nginx's log for Teal");
            self.complained = words;
        }
    }
}

/// Where a log is put when it has become long.
pub fn aside(log: &Path) -> PathBuf {
    let name = log.file_name().unwrap_or_default().to_string_lossy();
    log.with_file_name(format!("{name}.aside"))
}

/// It is there, and begins otherwise than with a line of Teal's.
pub fn is_of_others(log: &Path) -> bool {
    let mut begin = String::new();
    let read = file::open(log).and_then(|file| file.take(4096).read_to_string(&mut begin));
    let first = begin.lines().next();
    // A text that cannot be read as one is none of ours.
    match read {
        Ok(_) => first.is_some_and(|line| read_line(line).is_none()),
        Err(error) => error.kind() == io::ErrorKind::InvalidData,
    }
}

fn inode(path: &Path) -> Option<u64> {
    Some(std::fs::metadata(path).ok()?.ino())
}

/// `release, end, duration, time to the head, status, times to connect to each server asked, whole?`, by tabs (see file.rs).
fn read_line(line: &str) -> Option<Line> {
    let fields: Vec<&str> = line.split('\t').collect();
    let [release, end, took, heads, status, connects, whole] = fields[..] else { return None };
    let release = ReleaseKey::try_from(release.to_owned()).ok()?;
    let ended_ms = thousandths(end)?;
    let status: u16 = status.parse().ok()?;
    let last = |list: &str| list.rsplit([',', ':']).next().map(|one| one.trim().to_owned()).unwrap_or_default();
    let head_ms = thousandths(&last(heads));
    let outcome = match status {
        499 => Outcome::Left,
        // The app's own answer, passed on.
        _ if head_ms.is_some() && whole == "OK" => Outcome::Answered(class(status)?),
        _ if head_ms.is_some() => Outcome::Left,
        504 => Outcome::Timeout,
        502 if thousandths(&last(connects)).is_none() => Outcome::Connect,
        502 => Outcome::Reset,
        _ => Outcome::Answered(class(status)?),
    };
    let asked = connects.split([',', ':']).filter(|one| !one.trim().is_empty()).count() as u64;
    Some(Line {
        release,
        began_ms: ended_ms.saturating_sub(thousandths(took)?),
        ended_ms,
        outcome,
        retries: asked.saturating_sub(1),
        header_us: head_ms.map(|ms| ms * 1_000),
    })
}

fn class(status: u16) -> Option<usize> {
    Some(usize::from(status / 100)).filter(|class| (1..=5).contains(class))
}

/// `12.345` -> 12345
fn thousandths(text: &str) -> Option<u64> {
    let (whole, part) = text.split_once('.')?;
    let part: u64 = (part.len() == 3).then(|| part.parse().ok())??;
    Some(whole.parse::<u64>().ok()? * 1_000 + part)
}

fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn line(rest: &str) -> Line {
        read_line(&format!("shop/web@3\t1700000000.500\t{}", rest.replace(' ', "\t"))).unwrap()
    }

    #[test]
    fn a_line_says_how_a_request_ended() {
        let one = line("0.120 0.100 200 0.001 OK");
        assert_eq!((one.began_ms, one.ended_ms), (1_700_000_000_380, 1_700_000_000_500));
        assert_eq!((one.outcome, one.retries, one.header_us), (Outcome::Answered(2), 0, Some(100_000)));
        assert_eq!(line("0.120 0.100 503 0.001 OK").outcome, Outcome::Answered(5), "the app's own");
        assert_eq!(line("0.120 - 502 0.001 OK").outcome, Outcome::Reset);
        assert_eq!(line("0.000 - 502 - OK").outcome, Outcome::Connect);
        assert_eq!(line("60.000 - 504 0.001 OK").outcome, Outcome::Timeout);
        assert_eq!(line("0.120 0.100 200 0.001 ").outcome, Outcome::Left);
        assert_eq!(line("0.120 - 499 - ").outcome, Outcome::Left);
        let gave_up = |text| line(text).gave_up();
        assert!(gave_up("5.000 - 499 - ") && !gave_up("4.999 - 499 - ") && !gave_up("9.000 0.100 200 0.001 "));
        let again = read_line("shop/web@3\t1.500\t0.120\t-, 0.100\t200\t-, 0.001\tOK").unwrap();
        assert_eq!((again.outcome, again.retries), (Outcome::Answered(2), 1));
        for other in ["", "x", "shop/web@3\t1\t0.1\t-\t200\t200\tOK", "web\t1.500\t0.120\t-\t200\t200\tOK"] {
            assert_eq!(read_line(other), None, "{other}");
        }
    }

    #[test]
    fn the_longest_gap_is_a_time_in_which_somebody_waited() {
        let at = |began_ms, ended_ms| Line { began_ms, ended_ms, ..line("0.000 0.000 200 200 OK") };
        let gap = |lines: &[Line]| {
            let mut gap = Gap::default();
            gap.take(&mut lines.iter().collect::<Vec<_>>());
            gap.longest_ms
        };
        assert_eq!(gap(&[at(0, 10), at(500, 505)]), 10, "nobody waited in between");
        assert_eq!(gap(&[at(5, 9), at(1, 10)]), 8, "one waited that was answered later");
        assert_eq!(gap(&[at(0, 10), at(2, 60)]), 50);
    }

    #[test]
    fn a_log_is_read_once_also_when_it_is_put_aside_or_emptied() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("teal.log");
        let one = "shop/web@3\t1.500\t0.120\t0.100\t200\t200\tOK\n";
        let mut tail = Tail { path: Some(Arc::new(path.clone().into())), begun: true, ..Tail::default() };
        assert!(tail.lines().unwrap().is_empty(), "it is not there yet");
        std::fs::write(&path, format!("{one}{}", &one[..10])).unwrap();
        assert_eq!(tail.lines().unwrap().len(), 1, "the second is not whole");
        std::fs::write(&path, format!("{one}{one}")).unwrap();
        assert_eq!(tail.lines().unwrap().len(), 1);
        assert!(tail.lines().unwrap().is_empty());
        std::fs::rename(&path, dir.path().join("teal.log.1")).unwrap();
        std::fs::write(&path, one).unwrap();
        assert!(tail.lines().unwrap().is_empty(), "somebody may still write to the old one");
        tail.put_aside = Some((PathBuf::new(), Instant::now().checked_sub(LINGER * 2).unwrap()));
        assert_eq!(tail.lines().unwrap().len(), 1);
        assert!(dir.path().join("teal.log.1").exists(), "it is not ours");
    }
}
