//! What one request or TCP connection holds while it is under way: its release and backend, and its place among those that wait.

use crate::backend::Backend;
use crate::counters::{Counter, Failure, ReleaseCounters, RequestCounters};
use crate::gap;
use crate::table::{Release, Service};
use crate::waits::Wait;
use std::cell::Cell;
use std::rc::Rc;
use std::time::{Duration, Instant};
use teal_model::wire::Sample;

/// So much of a path is kept in a sample.
const SAMPLED_PATH: usize = 200;

/// What became of a claim.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Outcome {
    ClientGone,
    /// The same, after a long wait for the head of the answer.
    GaveUp,
    Answered(u16),
    Failed(Failure),
    /// Sent again; the next claim counts.
    Retried,
    /// The same, not for the first time.
    RetriedMore,
    /// A TCP connection that was closed, since its release's drain time was over.
    Closed,
}

/// What a claim is counted as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Request,
    Preview,
    /// To a listener that speaks plain TCP.
    Connection,
}

/// A request's or TCP connection's hold on a release and a backend. It begins on the table that the request is routed by, so it is counted before
/// the worker acknowledges a later one, and ends when the answer has been handed to the client.
#[derive(Debug)]
pub(crate) struct Claim {
    release: Rc<Release>,
    backend: Rc<Backend>,
    kind: Kind,
    outcome: Cell<Outcome>,
    /// Until the head of the answer is there.
    wait: Cell<Option<Wait>>,
}

impl Claim {
    /// `arrived`: when the request did, as [`gap::slot`] tells it.
    pub(crate) fn new(release: &Rc<Release>, backend: &Rc<Backend>, arrived: u64) -> Self {
        let claim = Self::begin(release, backend, Kind::Request);
        claim.wait.set(Some(release.counters.waits.begin(arrived)));
        claim
    }

    pub(crate) fn of_preview(release: &Rc<Release>, backend: &Rc<Backend>) -> Self {
        Self::begin(release, backend, Kind::Preview)
    }

    pub(crate) fn of_connection(release: &Rc<Release>, backend: &Rc<Backend>) -> Self {
        Self::begin(release, backend, Kind::Connection)
    }

    fn begin(release: &Rc<Release>, backend: &Rc<Backend>, kind: Kind) -> Self {
        let outcome = Cell::new(Outcome::ClientGone);
        let claim = Self { release: release.clone(), backend: backend.clone(), kind, outcome, wait: Cell::new(None) };
        claim.under_way().up();
        backend.claim();
        claim
    }

    fn under_way(&self) -> &Counter {
        let counters = &self.release.counters;
        self.requests().map_or(&counters.tcp_open, |requests| &requests.in_flight)
    }

    /// None: it is no request.
    fn requests(&self) -> Option<&RequestCounters> {
        match self.kind {
            Kind::Request => Some(&self.release.counters.requests),
            Kind::Preview => Some(&self.release.counters.previews),
            Kind::Connection => None,
        }
    }

    pub(crate) fn backend(&self) -> &Rc<Backend> {
        &self.backend
    }

    pub(crate) fn release(&self) -> &Release {
        &self.release
    }

    /// The head of an answer is there, `took` after the request.
    pub(crate) fn answer_begins(&self, status: u16, took: Duration) {
        self.wait_ends();
        if self.kind == Kind::Request && status < 500 && status != 101 {
            self.release.counters.latency(took);
        }
    }

    fn wait_ends(&self) {
        if let Some(wait) = self.wait.take() {
            self.release.counters.waits.end(wait);
        }
    }

    /// Keeps what is needed to find out why this request failed. `status` None: no answer came, or it broke off.
    pub(crate) fn sample(&self, method: &[u8], path: &[u8], status: Option<u16>) {
        if self.kind == Kind::Request {
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            let (method, path) = (text(method), text(&path[..path.len().min(SAMPLED_PATH)]));
            self.release.counters.sample(Sample { method, path, status, backend: self.backend.id.clone() });
        }
    }

    pub(crate) fn ends(self, outcome: Outcome) {
        self.outcome.set(outcome);
    }

    pub(crate) fn tunnel_begins(&self) {
        self.outcome.set(Outcome::Answered(101));
        self.release.counters.tunnels.up();
    }

    /// The tunnel is closed by us. An upgraded request was answered all the same.
    pub(crate) fn closed(&self) {
        if self.kind == Kind::Connection {
            self.outcome.set(Outcome::Closed);
        }
    }

    pub(crate) fn tunnel_ends(&self) {
        self.release.counters.tunnels.down();
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.wait_ends();
        match self.requests() {
            Some(requests) => request_ends(requests, self.outcome.get()),
            None => connection_ends(&self.release.counters, self.outcome.get()),
        }
        self.under_way().down();
        self.backend.unclaim();
    }
}

fn request_ends(counters: &RequestCounters, outcome: Outcome) {
    match outcome {
        Outcome::Retried => counters.retries.up(),
        Outcome::RetriedMore => {}
        Outcome::ClientGone | Outcome::Closed => counters.client_aborts.up(),
        Outcome::GaveUp => {
            counters.client_aborts.up();
            counters.gave_up.up();
        }
        // Heads below 100 and above 599 do not get here as anything but 5xx.
        Outcome::Answered(status) => counters.answered[usize::from(status / 100).clamp(1, 5) - 1].up(),
        Outcome::Failed(failure) => counters.failed(failure),
    }
}

fn connection_ends(counters: &ReleaseCounters, outcome: Outcome) {
    match outcome {
        Outcome::Retried | Outcome::RetriedMore => {}
        Outcome::Failed(_) => counters.tcp_failed.up(),
        Outcome::Closed => {
            counters.tcp_ended.up();
            counters.tcp_closed.up();
        }
        Outcome::ClientGone | Outcome::GaveUp | Outcome::Answered(_) => counters.tcp_ended.up(),
    }
}

/// A request that waits for its answer, as the service's longest gap sees it.
pub(crate) struct Waiting {
    service: Rc<Service>,
    epoch: Instant,
    over: bool,
}

impl Waiting {
    /// `arrived`: as [`gap::slot`] tells it.
    pub(crate) fn new(service: &Rc<Service>, epoch: Instant, arrived: u64) -> Self {
        service.counters.gap.begin(arrived);
        Self { service: service.clone(), epoch, over: false }
    }

    pub(crate) fn answered(&mut self, now: Instant) {
        self.over = true;
        self.service.counters.gap.end(gap::slot(self.epoch, now), true);
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        if !self.over {
            self.service.counters.gap.end(gap::slot(self.epoch, Instant::now()), false);
        }
    }
}
