//! `healthcheck.start_interval` for engines that do not know it (before Docker 25): the agent runs the check itself.

use crate::runtime::{Container, Runtime};
use std::sync::Arc;
use std::time::Duration;
use teal_model::config::Healthcheck;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout};

/// The first API version that has it.
const KNOWS: (u32, u32) = (1, 44);
/// Docker's own.
const TIMEOUT: Duration = Duration::from_secs(30);

/// True: it passed within the start period. Beyond that the engine's own interval holds, as in Docker.
pub async fn check(runtime: Arc<dyn Runtime>, container: Container, healthcheck: Option<Healthcheck>) -> bool {
    let Some((command, interval, check)) = healthcheck.and_then(asked) else { return false };
    let knows = |version: &str| {
        let (major, minor) = version.split_once('.')?;
        Some((major.parse::<u32>().ok()?, minor.parse::<u32>().ok()?) >= KNOWS)
    };
    match runtime.engine().await {
        Ok(engine) if knows(&engine.api_version) == Some(false) => {}
        _ => return false,
    }
    let until = Instant::now() + Duration::from_millis(check.start_period_ms.unwrap_or(0));
    let patience = check.timeout_ms.map_or(TIMEOUT, Duration::from_millis);
    while Instant::now() < until {
        sleep(interval).await;
        if let Ok(Some(0)) = timeout(patience, run(&*runtime, &container, &command)).await {
            return true;
        }
        match runtime.inspect(&container.id).await {
            Ok(Some(now)) if now.started_at == container.started_at => {}
            // An engine that does not answer now may do so later.
            Err(_) => {}
            Ok(_) => return false,
        }
    }
    false
}

async fn run(runtime: &dyn Runtime, container: &Container, command: &[String]) -> Option<i64> {
    let (_, input) = mpsc::channel(1);
    let (output, mut said) = mpsc::channel::<Vec<u8>>(8);
    // Nobody reads it; a check that writes must not wait for that.
    let unread = async { while said.recv().await.is_some() {} };
    let (code, ()) = tokio::join!(runtime.exec(&container.id, command, false, input, output), unread);
    code.ok()
}

/// Its command and interval. None: nothing to do, also where the test is the image's own and so is not known here.
fn asked(check: Healthcheck) -> Option<(Vec<String>, Duration, Healthcheck)> {
    let interval = Duration::from_millis(check.start_interval_ms.filter(|ms| *ms > 0)?);
    let test = check.test.clone()?;
    let (kind, words) = test.split_first()?;
    let command = match kind.as_str() {
        "CMD" => words.to_vec(),
        "CMD-SHELL" => vec!["/bin/sh".to_owned(), "-c".to_owned(), words.join(" ")],
        _ => return None,
    };
    (!command.is_empty()).then_some((command, interval, check))
}
