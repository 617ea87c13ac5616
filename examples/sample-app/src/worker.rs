//! `sample-app worker`: no port, no requests. It takes tasks from a list in Redis and says so.

use crate::log;
use crate::orders::WORK;
use crate::settings::Settings;
use neighbours::redis::{Redis, Reply};
use signal_hook::consts::{SIGINT, SIGTERM};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

const TIMEOUT: Duration = Duration::from_secs(5);
/// In seconds, for Redis: how long the worker may not hear a signal.
const WAIT: &str = "1";
const PAUSE: Duration = Duration::from_millis(500);

/// Works until it is told to end, and then ends the task in hand.
pub fn run(settings: &Settings) -> io::Result<()> {
    let cache =
        settings.cache.as_deref().ok_or_else(|| io::Error::other("CACHE=HOST:PORT says where tasks come from"))?;
    let ended = Arc::new(AtomicBool::new(false));
    for signal in [SIGTERM, SIGINT] {
        signal_hook::flag::register(signal, Arc::clone(&ended))?;
    }
    log::line(&format!("working version={}", settings.version));
    let mut done = 0u64;
    let mut redis = None;
    while !ended.load(Ordering::SeqCst) {
        match take(&mut redis, cache) {
            Ok(Some(task)) => {
                done += 1;
                log::line(&format!("worked task={task} done={done}"));
            }
            Ok(None) => {}
            Err(error) => {
                log::complain(&format!("no task from {cache}: {error}"));
                redis = None;
                std::thread::sleep(PAUSE);
            }
        }
    }
    log::line(&format!("ending done={done}"));
    Ok(())
}

fn take(redis: &mut Option<Redis>, cache: &str) -> io::Result<Option<String>> {
    let redis = match redis {
        Some(redis) => redis,
        None => redis.insert(Redis::open(cache, TIMEOUT)?),
    };
    match redis.ask(&["BRPOP", WORK, WAIT])? {
        Reply::Many(pair) => match pair.into_iter().nth(1) {
            Some(Reply::Text(task)) => Ok(Some(task)),
            other => Err(io::Error::other(format!("a task that is none: {other:?}"))),
        },
        _ => Ok(None),
    }
}
