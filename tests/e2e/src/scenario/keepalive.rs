//! The awkward app: it closes idle connections under its clients, and answers before it has read what it was sent.

use super::web;
use crate::prober::{Clients, Config, Prober, Report};
use crate::stage::Stage;
use std::time::Duration;

/// The app's keep-alive time in these runs.
const KEEP_ALIVE: Duration = Duration::from_millis(300);

pub struct Kept {
    /// POSTs around the keep-alive limit.
    pub gaps: Report,
    /// POSTs that are answered before they are read, the connection closed after it.
    pub early: Report,
}

/// Loads for this long, with deployments in the second half.
pub fn run(stage: &Stage, seconds: u64) -> std::io::Result<Kept> {
    let environment = format!("      KEEP_ALIVE_MS: \"{}\"\n      KEEP_ALIVE_RANDOM: \"1\"", KEEP_ALIVE.as_millis());
    stage.compose(&web(2, "", &environment)).up();
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
    Ok(Kept { gaps: gaps.stop()?, early: early.stop()? })
}
