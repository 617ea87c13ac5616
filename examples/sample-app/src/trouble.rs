//! How a release goes wrong that looked well: a part of its requests fails or is slow, all of them hang, or all fail with
//! what it depends on. Health goes on being good, and so do HEAD requests.

use crate::settings::Settings;
use std::net::{TcpStream, ToSocketAddrs};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

const DEPENDENCY_PATIENCE: Duration = Duration::from_millis(200);

pub struct Trouble {
    fails: Spread,
    fails_from: Instant,
    slow: Spread,
    slow_by: Duration,
    hangs: bool,
    dependency: Option<String>,
}

/// What becomes of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    Good,
    Fails,
    Hangs,
}

impl Trouble {
    pub fn new(settings: &Settings, started: Instant) -> Self {
        Self {
            fails: Spread::new(settings.fail),
            fails_from: started + settings.fail_after,
            slow: Spread::new(settings.slow),
            slow_by: settings.slow_by,
            hangs: settings.hang,
            dependency: settings.dependency.clone(),
        }
    }

    /// Of the next request. Takes its time where that is slow.
    pub fn next(&self) -> Fate {
        if self.slow.picks() {
            std::thread::sleep(self.slow_by);
        }
        let alone = self.dependency.as_deref().is_some_and(|address| !answers(address));
        match self.hangs {
            true => Fate::Hangs,
            false if alone || (Instant::now() >= self.fails_from && self.fails.picks()) => Fate::Fails,
            false => Fate::Good,
        }
    }
}

fn answers(address: &str) -> bool {
    let mut found = address.to_socket_addrs().into_iter().flatten();
    found.any(|address| TcpStream::connect_timeout(&address, DEPENDENCY_PATIENCE).is_ok())
}

/// Picks a part of what comes, as evenly as can be: of 0.1 every tenth.
struct Spread {
    part: f64,
    seen: AtomicU64,
}

impl Spread {
    fn new(part: f64) -> Self {
        Self { part, seen: AtomicU64::new(0) }
    }

    fn picks(&self) -> bool {
        let before = self.seen.fetch_add(1, Ordering::Relaxed);
        let of = |seen: u64| (seen as f64 * self.part).floor();
        of(before + 1) > of(before)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_is_picked_evenly() {
        let picked = |part| {
            let spread = Spread::new(part);
            (0..1000).map(|_| spread.picks()).collect::<Vec<_>>()
        };
        let count = |part| picked(part).into_iter().filter(|picked| *picked).count();
        assert_eq!([0.0, 0.1, 0.5, 1.0].map(count), [0, 100, 500, 1000]);
        assert!(picked(0.1).windows(20).all(|window| window.contains(&true)), "spread over the whole");
    }
}
