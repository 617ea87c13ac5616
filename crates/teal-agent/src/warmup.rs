//! Requests to each replica of a candidate before anybody else's: caches fill and code is compiled on nobody's time.

use crate::get::Get;
use futures_util::future::join_all;
use futures_util::stream::{self, StreamExt};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use teal_model::config::Warmup;
use tokio::time::{Instant, timeout};

/// What it came to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Warmed {
    /// That were answered, or failed.
    pub requests: u32,
    pub failed: u32,
    pub slowest_ms: u64,
    /// How long the last one took: what a user's will.
    pub last_ms: u64,
    /// Its time was over before it had asked everything.
    pub out_of_time: bool,
    /// The first that failed, in words.
    pub failure: Option<String>,
}

impl Warmed {
    pub fn words(&self) -> String {
        let Self { requests, failed, slowest_ms, last_ms, .. } = self;
        let mut words = match requests {
            0 => "no request was answered".to_owned(),
            _ => format!("{requests} requests, the slowest {slowest_ms} ms, the last {last_ms} ms"),
        };
        if let Some(failure) = &self.failure {
            words += &format!("; {failed} failed, the first: {failure}");
        }
        if self.out_of_time {
            words += "; its time was over before it had sent all of them";
        }
        words
    }

    fn add(&mut self, took: Duration, failure: Option<String>) {
        self.requests += 1;
        self.last_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
        self.slowest_ms = self.slowest_ms.max(self.last_ms);
        self.failed += u32::from(failure.is_some());
        self.failure = self.failure.take().or(failure);
    }
}

/// Requests that fail are told and stop nothing: whether the candidate is fit to serve is for others to say.
pub async fn warm(warmup: &Warmup, replicas: &[SocketAddr], host: &str) -> Warmed {
    let warmed = Arc::new(Mutex::new(Warmed::default()));
    let lanes = (warmup.concurrency as usize).max(1);
    let all = replicas.iter().map(|address| {
        let paths = warmup.paths.iter().cycle().take(warmup.requests as usize);
        let asked: Vec<_> = paths.map(|path| ask(*address, path.clone(), host.to_owned(), warmed.clone())).collect();
        stream::iter(asked).buffer_unordered(lanes).for_each(std::future::ready)
    });
    let out_of_time = timeout(Duration::from_millis(warmup.timeout_ms), join_all(all)).await.is_err();
    let warmed = locked(&warmed).clone();
    Warmed { out_of_time, ..warmed }
}

async fn ask(address: SocketAddr, path: String, host: String, warmed: Arc<Mutex<Warmed>>) {
    let get = Get { path: path.clone(), host, ..Get::default() };
    let began = Instant::now();
    let failure = match get.from(address).await {
        Ok(answer) if answer.is_good() => None,
        Ok(answer) => Some(format!("http://{address}{path} answered {}", answer.status)),
        Err(why) => Some(format!("http://{address}{path}: {why}")),
    };
    locked(&warmed).add(began.elapsed(), failure);
}

fn locked(warmed: &Mutex<Warmed>) -> MutexGuard<'_, Warmed> {
    warmed.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::get::tests::{answer, server};
    use std::sync::atomic::{AtomicUsize, Ordering};
    use tokio::net::TcpListener;

    fn warmup(requests: u32, paths: &[&str], timeout_ms: u64) -> Warmup {
        let paths = paths.iter().map(|path| (*path).to_owned()).collect();
        Warmup { requests, paths, concurrency: 4, timeout_ms }
    }

    #[tokio::test]
    async fn each_replica_is_asked_for_all_paths_in_turn() {
        let counts: Arc<[AtomicUsize; 2]> = Arc::default();
        let mut replicas = Vec::new();
        for _ in 0..2 {
            let counts = counts.clone();
            let count = move |head: &str| {
                assert!(head.contains("host: shop.example\r\n"));
                counts[usize::from(head.starts_with("GET /b "))].fetch_add(1, Ordering::Relaxed);
                answer("302 Found", "")
            };
            replicas.push(server(count).await);
        }
        let warmed = warm(&warmup(11, &["/a", "/b"], 30_000), &replicas, "shop.example").await;
        assert_eq!((warmed.requests, warmed.failed, warmed.out_of_time), (22, 0, false), "{}", warmed.words());
        assert_eq!(counts.each_ref().map(|count| count.load(Ordering::Relaxed)), [12, 10]);
        assert!(warmed.words().starts_with("22 requests, the slowest "), "{}", warmed.words());
    }

    #[tokio::test]
    async fn requests_that_fail_are_told_and_stop_nothing() {
        let missing = server(|_| answer("404 Not Found", "")).await;
        let nobody = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        let warmed = warm(&warmup(5, &["/warm"], 30_000), &[missing], "x").await;
        assert_eq!((warmed.requests, warmed.failed), (5, 5));
        assert!(warmed.words().ends_with(&format!("5 failed, the first: http://{missing}/warm answered 404")));
        let warmed = warm(&warmup(5, &["/warm"], 30_000), &[nobody], "x").await;
        assert_eq!((warmed.requests, warmed.failed, warmed.out_of_time), (5, 5, false));
    }

    #[tokio::test]
    async fn it_ends_when_its_time_is_over() {
        let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let good = server(|_| answer("200 OK", "warm")).await;
        let warmed = warm(&warmup(3, &["/"], 2_000), &[silent.local_addr().unwrap(), good], "x").await;
        assert_eq!((warmed.requests, warmed.failed, warmed.out_of_time), (3, 0, true));
        assert!(warmed.words().ends_with("; its time was over before it had sent all of them"));
    }
}
