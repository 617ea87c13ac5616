//! What one request or TCP connection holds while it is under way: its release and backend, and its place among those that wait.

use crate::backend::Backend;
use crate::gap;
use crate::stats::Failure;
use crate::table::{Release, Service};
use std::cell::Cell;
use std::rc::Rc;
use std::time::Instant;
use teal_model::wire::Protocol;

/// What became of a claim.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Outcome {
    ClientGone,
    Answered(u16),
    Failed(Failure),
    /// Sent again; the next claim counts.
    Retried,
    /// The same, not for the first time.
    RetriedMore,
    /// A TCP connection that was closed, since its release's drain time was over.
    Closed,
}

/// A request's or TCP connection's hold on a release and a backend. It begins on the table that the request is routed by, so it is counted before
/// the worker acknowledges a later one, and ends when the answer has been handed to the client.
#[derive(Debug)]
pub(crate) struct Claim {
    release: Rc<Release>,
    backend: Rc<Backend>,
    protocol: Protocol,
    outcome: Cell<Outcome>,
}

impl Claim {
    pub(crate) fn new(release: &Rc<Release>, backend: &Rc<Backend>) -> Self {
        Self::begin(release, backend, Protocol::Http)
    }

    /// Of a connection to a listener that speaks plain TCP.
    pub(crate) fn of_connection(release: &Rc<Release>, backend: &Rc<Backend>) -> Self {
        Self::begin(release, backend, Protocol::Tcp)
    }

    fn begin(release: &Rc<Release>, backend: &Rc<Backend>, protocol: Protocol) -> Self {
        release.counters.under_way(protocol).up();
        backend.claim();
        Self { release: release.clone(), backend: backend.clone(), protocol, outcome: Cell::new(Outcome::ClientGone) }
    }

    pub(crate) fn backend(&self) -> &Rc<Backend> {
        &self.backend
    }

    pub(crate) fn release(&self) -> &Release {
        &self.release
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
        if self.protocol == Protocol::Tcp {
            self.outcome.set(Outcome::Closed);
        }
    }

    pub(crate) fn tunnel_ends(&self) {
        self.release.counters.tunnels.down();
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        let counters = &self.release.counters;
        match self.outcome.get() {
            Outcome::Retried if self.protocol == Protocol::Tcp => {}
            Outcome::Retried => counters.retries.up(),
            Outcome::RetriedMore => {}
            Outcome::Failed(_) if self.protocol == Protocol::Tcp => counters.tcp_failed.up(),
            Outcome::Closed => {
                counters.tcp_ended.up();
                counters.tcp_closed.up();
            }
            _ if self.protocol == Protocol::Tcp => counters.tcp_ended.up(),
            Outcome::ClientGone => counters.client_aborts.up(),
            // Heads below 100 and above 599 do not get here as anything but 5xx.
            Outcome::Answered(status) => counters.answered[usize::from(status / 100).clamp(1, 5) - 1].up(),
            Outcome::Failed(failure) => counters.failed(failure),
        }
        counters.under_way(self.protocol).down();
        self.backend.unclaim();
    }
}

/// A request that waits for its answer, as the service's longest gap sees it.
pub(crate) struct Waiting {
    service: Rc<Service>,
    epoch: Instant,
    over: bool,
}

impl Waiting {
    pub(crate) fn new(service: &Rc<Service>, epoch: Instant, now: Instant) -> Self {
        service.counters.gap.begin(gap::slot(epoch, now));
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
