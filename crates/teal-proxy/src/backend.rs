//! One backend as one worker knows it: its pooled connections, its requests in flight, and whether it is trusted.
//!
//! ```text
//!            checkout ──▶ a connection that is alive and idle for no longer than the application grants
//! idle: ▒▒▒▒  ◀── checkin        none ──▶ the caller connects
//!   └── sweep: closes what the application closed, and learns how long it grants
//! ```

use crate::counters::{BackendCounters, ReleaseCounters};
use rustix::net::RecvFlags;
use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::task::{Context, Waker};
use std::time::{Duration, Instant};
use teal_model::wire::BackendId;
use tokio::io::Interest;
use tokio::net::TcpStream;

/// Idle connections are kept this long when the application says nothing else.
const IDLE: Duration = Duration::from_secs(60);
/// What is learned is never shorter, so that one application's shutdown does not end pooling.
const SHORTEST_IDLE: Duration = Duration::from_millis(500);
/// A request that may not be repeated takes no connection that has been idle for longer.
const UNREPEATABLE_IDLE: Duration = Duration::from_secs(1);
/// Idle for less: a repeatable request spends no system call on a look, what the event loop has heard is enough; one that
/// may not be repeated takes another, since an application that closes without a word does so right behind its answer.
const FRESH: Duration = Duration::from_millis(5);
/// A worker's idle connections to one backend.
const MAX_IDLE: usize = 1024;
/// So many failures in a row and the backend is left out for a while.
const EJECT_AFTER: u32 = 3;
const SHORTEST_EJECTION: Duration = Duration::from_secs(1);
const LONGEST_EJECTION: Duration = Duration::from_secs(30);

#[derive(Debug)]
pub(crate) struct Backend {
    pub(crate) id: BackendId,
    pub(crate) addr: SocketAddr,
    counters: Arc<BackendCounters>,
    in_flight: Cell<u32>,
    /// The pidfd fired, or no table lists it: no new request, no pooled connection.
    retired: Cell<bool>,
    idle: RefCell<Vec<Idle>>,
    /// The longest idle time believed safe, as learned from connections that the application closed.
    learned: Cell<Duration>,
    /// The same for requests that may not be repeated: without a lower bound, since a fresh connection costs less than a
    /// lost request.
    learned_unrepeatable: Cell<Duration>,
    /// A connection was seen alive after [`UNREPEATABLE_IDLE`], or the application says how long it keeps them. Before that
    /// nothing is known of how soon it closes, and a request that may not be repeated takes a fresh one.
    keeps_connections: Cell<bool>,
    failures: Cell<u32>,
    ejections: Cell<u32>,
    ejected_until: Cell<Option<Instant>>,
}

#[derive(Debug)]
struct Idle {
    stream: TcpStream,
    since: Instant,
    limit: Duration,
}

impl Backend {
    pub(crate) fn new(id: BackendId, addr: SocketAddr, release: &ReleaseCounters) -> Self {
        let counters = release.backend(&id);
        Self {
            id,
            addr,
            counters,
            in_flight: Cell::new(0),
            retired: Cell::new(false),
            idle: RefCell::default(),
            learned: Cell::new(IDLE),
            learned_unrepeatable: Cell::new(UNREPEATABLE_IDLE),
            keeps_connections: Cell::new(false),
            failures: Cell::new(0),
            ejections: Cell::new(0),
            ejected_until: Cell::new(None),
        }
    }

    /// Takes over what was learned of another backend of the same service and port.
    pub(crate) fn inherit(&self, elder: &Backend) {
        self.learned.set(elder.learned.get());
        self.learned_unrepeatable.set(elder.learned_unrepeatable.get());
        self.keeps_connections.set(elder.keeps_connections.get());
    }

    pub(crate) fn in_flight(&self) -> u32 {
        self.in_flight.get()
    }

    pub(crate) fn claim(&self) {
        self.in_flight.set(self.in_flight.get() + 1);
        self.counters.in_flight.up();
    }

    pub(crate) fn unclaim(&self) {
        self.in_flight.set(self.in_flight.get().saturating_sub(1));
        self.counters.in_flight.down();
    }

    /// A new connection, if one is taken in time.
    pub(crate) async fn connect(&self, within_ms: u64) -> Option<TcpStream> {
        let connecting = tokio::time::timeout(Duration::from_millis(within_ms), TcpStream::connect(self.addr));
        let stream = connecting.await.ok()?.ok()?;
        stream.set_nodelay(true).ok()?;
        Some(stream)
    }

    pub(crate) fn is_retired(&self) -> bool {
        self.retired.get()
    }

    /// No request goes there from now on, and its idle connections are closed.
    pub(crate) fn retire(&self) {
        self.retired.set(true);
        self.set_idle(|idle| idle.clear());
    }

    fn set_idle<T>(&self, change: impl FnOnce(&mut Vec<Idle>) -> T) -> T {
        let mut idle = self.idle.borrow_mut();
        let before = idle.len() as u64;
        let result = change(&mut idle);
        // Several ports of one backend share a counter.
        let counter = &self.counters.idle;
        counter.set((counter.get() + idle.len() as u64).saturating_sub(before));
        result
    }

    /// A connection that is safe to use for this request.
    pub(crate) fn checkout(&self, now: Instant, repeatable: bool) -> Option<TcpStream> {
        loop {
            let Idle { stream, since, limit } = self.take(now, repeatable)?;
            let age = now.saturating_duration_since(since);
            let old = age >= limit.min(self.learned.get());
            if !old && is_silent(&stream, !repeatable || age >= FRESH) {
                return Some(stream);
            }
            if !old {
                self.learn(age);
            }
        }
    }

    /// The one used last, so that the others age and are closed. Not so for a request that may not be repeated: the oldest
    /// one that is young enough.
    fn take(&self, now: Instant, repeatable: bool) -> Option<Idle> {
        if !repeatable && !self.keeps_connections.get() {
            return None;
        }
        let learned = self.learned_unrepeatable.get();
        let fits = |connection: &Idle| {
            let age = now.saturating_duration_since(connection.since);
            let longest = learned.min(connection.limit / 2);
            (FRESH..longest).contains(&age)
        };
        self.set_idle(|idle| if repeatable { idle.pop() } else { idle.iter().position(fits).map(|at| idle.remove(at)) })
    }

    /// Keeps a connection whose answer is complete. `granted`: the answer's own `Keep-Alive: timeout`.
    pub(crate) fn checkin(&self, stream: TcpStream, now: Instant, granted: Option<Duration>) {
        let limit = granted.map_or(IDLE, |granted| {
            granted.saturating_sub(Duration::from_secs(1)).max(granted.min(SHORTEST_IDLE) / 2).min(IDLE)
        });
        if granted.is_some() {
            self.keeps_connections.set(true);
        }
        if !self.retired.get() {
            self.set_idle(|idle| {
                if idle.len() < MAX_IDLE {
                    idle.push(Idle { stream, since: now, limit });
                }
            });
        }
    }

    /// Drops idle connections that are closed or too old.
    pub(crate) fn sweep(&self, now: Instant) {
        let learned = self.learned.get();
        let mut closed_at = None;
        self.set_idle(|idle| {
            idle.retain(|connection| {
                let age = now.saturating_duration_since(connection.since);
                let silent = is_silent(&connection.stream, false);
                if !silent {
                    closed_at = Some(age);
                }
                if silent && age >= UNREPEATABLE_IDLE {
                    self.keeps_connections.set(true);
                }
                silent && age < connection.limit.min(learned)
            });
        });
        if let Some(age) = closed_at {
            self.learn(age);
        }
    }

    /// The application closed a connection that was idle for `age`: half of that is safe.
    fn learn(&self, age: Duration) {
        self.learned_unrepeatable.set(self.learned_unrepeatable.get().min(age / 4));
        self.learned.set(self.learned.get().min((age / 2).max(SHORTEST_IDLE)));
    }

    /// A connection was refused, timed out or broke before an answer.
    pub(crate) fn failed(&self, now: Instant) {
        let failures = self.failures.get() + 1;
        self.failures.set(failures);
        if failures >= EJECT_AFTER {
            let doubled = SHORTEST_EJECTION * 2_u32.pow(self.ejections.get().min(5));
            self.ejected_until.set(Some(now + doubled.min(LONGEST_EJECTION)));
            self.ejections.set(self.ejections.get() + 1);
            self.counters.ejected.set(1);
        }
    }

    pub(crate) fn answered(&self) {
        if self.failures.get() != 0 {
            self.failures.set(0);
            self.ejections.set(0);
            self.ejected_until.set(None);
            self.counters.ejected.set(0);
        }
    }

    pub(crate) fn is_ejected(&self, now: impl FnOnce() -> Instant) -> bool {
        match self.ejected_until.get() {
            None => false,
            Some(until) if until > now() => true,
            Some(_) => {
                // On probation: the next failure ejects again, an answer acquits.
                self.ejected_until.set(None);
                self.counters.ejected.set(0);
                false
            }
        }
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        self.set_idle(Vec::clear);
    }
}

/// Whether nothing has arrived on an idle connection: neither its end nor bytes that nobody asked for.
/// `surely` looks at the socket, else only at what the event loop has heard.
fn is_silent(stream: &TcpStream, surely: bool) -> bool {
    let heard = stream.poll_read_ready(&mut Context::from_waker(Waker::noop())).is_ready();
    if !heard && !surely {
        return true;
    }
    let look = || {
        let (_, n) = rustix::net::recv(stream.as_fd(), &mut [0; 1], RecvFlags::PEEK | RecvFlags::DONTWAIT)?;
        Ok(n)
    };
    // Through the stream where it was heard of, so that a false alarm is cleared.
    let seen = if heard { stream.try_io(Interest::READABLE, look) } else { look() };
    matches!(seen, Err(error) if error.kind() == std::io::ErrorKind::WouldBlock)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::TcpListener;

    async fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
        let (client, server) =
            tokio::join!(TcpStream::connect(listener.local_addr().expect("an address")), listener.accept());
        (client.expect("connected"), server.expect("accepted").0)
    }

    fn backend() -> Backend {
        Backend::new(BackendId("a:1".into()), "127.0.0.1:1".parse().expect("an address"), &ReleaseCounters::default())
    }

    const SECOND: Duration = Duration::from_secs(1);

    #[tokio::test]
    async fn a_request_that_may_not_be_repeated_takes_only_a_young_connection() {
        let (backend, (stream, _server), now) = (backend(), pair().await, Instant::now());
        backend.checkin(stream, now, None);
        assert!(
            backend.checkout(now + SECOND / 2, false).is_none(),
            "nor any while nothing is known of the application"
        );
        backend.sweep(now + SECOND);
        assert!(backend.checkout(now + SECOND, false).is_none());
        let stream = backend.checkout(now + SECOND, true).expect("kept for those that may");
        backend.checkin(stream, now, None);
        assert!(backend.checkout(now + FRESH / 2, false).is_none(), "nor one that may be closing");
        assert!(backend.checkout(now + SECOND / 2, false).is_some());
    }

    #[tokio::test]
    async fn what_one_release_has_shown_is_believed_of_the_next() {
        let (elder, now) = (backend(), Instant::now());
        let (kept, _server) = pair().await;
        elder.checkin(kept, now, None);
        elder.sweep(now + SECOND);
        let (backend, (stream, _other)) = (backend(), pair().await);
        backend.inherit(&elder);
        backend.checkin(stream, now, None);
        assert!(backend.checkout(now + SECOND / 2, false).is_some());
    }

    #[tokio::test]
    async fn a_connection_is_used_for_less_than_the_application_grants() {
        let (backend, (stream, _server), now) = (backend(), pair().await, Instant::now());
        backend.checkin(stream, now, Some(5 * SECOND));
        assert!(backend.checkout(now + 4 * SECOND, true).is_none());
    }

    #[tokio::test]
    async fn a_close_by_the_application_is_seen_and_learned_from() {
        let (backend, now) = (backend(), Instant::now());
        let (stream, server) = pair().await;
        backend.checkin(stream, now, None);
        drop(server);
        assert!(backend.checkout(now + 4 * SECOND, true).is_none(), "closed");
        let (stream, _server) = pair().await;
        backend.checkin(stream, now, None);
        assert!(backend.checkout(now + 2 * SECOND, true).is_none(), "half of four seconds is the limit now");
    }

    #[tokio::test]
    async fn a_retired_backend_keeps_no_connection() {
        let (backend, now) = (backend(), Instant::now());
        let (stream, mut server) = pair().await;
        backend.checkin(stream, now, None);
        assert_eq!(backend.counters.idle.get(), 1);
        backend.retire();
        assert_eq!(backend.counters.idle.get(), 0);
        let mut byte = [0];
        assert_eq!(tokio::io::AsyncReadExt::read(&mut server, &mut byte).await.expect("the end"), 0);
        backend.checkin(pair().await.0, now, None);
        assert!(backend.checkout(now, true).is_none());
    }

    #[test]
    fn three_failures_in_a_row_eject_for_a_time_that_grows() {
        let (backend, now) = (backend(), Instant::now());
        (0..2).for_each(|_| backend.failed(now));
        assert!(!backend.is_ejected(|| now));
        backend.failed(now);
        assert!(backend.is_ejected(|| now) && !backend.is_ejected(|| now + SECOND));
        backend.failed(now);
        assert!(backend.is_ejected(|| now + SECOND) && !backend.is_ejected(|| now + 2 * SECOND));
        backend.answered();
        backend.failed(now);
        assert!(!backend.is_ejected(|| now));
    }
}
