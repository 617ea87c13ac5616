//! `sample-app store`: stands for a database, which must never run twice on the same data. It holds a lock, shows that it
//! lives by a heartbeat, and writes down whenever it finds another one that does.
//!
//! ```text
//!   DATA/lock        flock, as long as it runs
//!   DATA/heartbeat   "<instance> <beat>", replaced again and again
//!   DATA/starts      a line for each start: "<version> <instance>"
//!   DATA/doubles     a line for each other holder that was met
//! ```

use crate::settings::Settings;
use crate::{log, serve};
use rustix::fs::{FlockOperation, flock};
use signal_hook::consts::{SIGINT, SIGTERM};
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

const BEAT: Duration = Duration::from_millis(20);
/// A heart that has not beaten for so long has stopped, however its holder ended.
const DEAD: Duration = Duration::from_millis(200);

/// Runs until it is told to end; meeting another holder ends neither.
pub fn run(settings: &Settings) -> io::Result<()> {
    let ended = Arc::new(AtomicBool::new(false));
    for signal in [SIGTERM, SIGINT] {
        signal_hook::flag::register(signal, Arc::clone(&ended))?;
    }
    let folder = &settings.data;
    std::fs::create_dir_all(folder)?;
    let lock = OpenOptions::new().create(true).append(true).open(folder.join("lock"))?;
    let me = serve::instance();
    let mut met = String::new();
    if flock(&lock, FlockOperation::NonBlockingLockExclusive).is_err() {
        double(folder, &me, "the holder of the lock")?;
    }
    if let Some(other) = beating(folder) {
        double(folder, &me, &other)?;
        met = other;
    }
    append(&folder.join("starts"), &format!("{} {me}", settings.version))?;
    log::line(&format!("storing version={} instance={me}", settings.version));
    for number in 0u64.. {
        beat(folder, &me, number)?;
        std::thread::sleep(BEAT);
        // Only one that lives writes over what was written a moment ago.
        if let Some((other, _)) = heartbeat(folder).filter(|(other, _)| *other != me && *other != met) {
            double(folder, &me, &other)?;
            met = other;
        }
        if ended.load(Ordering::SeqCst) {
            break;
        }
    }
    log::line("stored");
    Ok(())
}

/// What the data says of itself: `starts=3 doubles=0 versions=1,2,3`.
pub fn report(settings: &Settings) -> io::Result<()> {
    let starts = std::fs::read_to_string(settings.data.join("starts"))?;
    let doubles = std::fs::read_to_string(settings.data.join("doubles")).unwrap_or_default();
    let versions: Vec<&str> = starts.lines().filter_map(|line| line.split(' ').next()).collect();
    log::line(&format!(
        "starts={} doubles={} versions={}",
        versions.len(),
        doubles.lines().count(),
        versions.join(",")
    ));
    Ok(())
}

/// Who wrote it, and what.
fn heartbeat(folder: &Path) -> Option<(String, String)> {
    let text = std::fs::read_to_string(folder.join("heartbeat")).ok()?;
    text.rsplit_once(' ').map(|(who, beat)| (who.to_owned(), beat.to_owned()))
}

/// Another holder, whose heart beats while it is watched.
fn beating(folder: &Path) -> Option<String> {
    let before = heartbeat(folder)?;
    std::thread::sleep(DEAD);
    heartbeat(folder).filter(|after| *after != before).map(|(who, _)| who)
}

/// Replaced whole, so that nobody reads half of it.
fn beat(folder: &Path, me: &str, number: u64) -> io::Result<()> {
    let new = folder.join(format!("heartbeat.{}", me.replace('/', "-")));
    std::fs::write(&new, format!("{me} {number}"))?;
    std::fs::rename(new, folder.join("heartbeat"))
}

fn double(folder: &Path, me: &str, other: &str) -> io::Result<()> {
    log::line(&format!("double instance={me} met={other}"));
    append(&folder.join("doubles"), &format!("double {me} met {other}"))
}

fn append(path: &Path, line: &str) -> io::Result<()> {
    let mut file: File = OpenOptions::new().create(true).append(true).open(path)?;
    file.write_all(format!("{line}\n").as_bytes())?;
    file.sync_all()
}
