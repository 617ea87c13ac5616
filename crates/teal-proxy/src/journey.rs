//! What one request, or one TCP connection, remembers from attempt to attempt.

use crate::backend::Backend;
use crate::claim::Outcome;
use crate::target::{Target, Way};
use crate::worker::Worker;
use std::rc::Rc;
use std::time::{Duration, Instant};

/// Between two looks for a backend while none takes connections.
const RECONNECT_AFTER: Duration = Duration::from_millis(20);

#[derive(Debug)]
pub(crate) struct Journey {
    pub(crate) arrived: Instant,
    pub(crate) way: Way,
    pub(crate) tried: Vec<Rc<Backend>>,
    pub(crate) attempts: usize,
    /// Until when a backend is looked for, once none took a connection.
    reconnect_until: Option<Instant>,
    retried: bool,
}

/// What to do after a backend took no connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Onward {
    Elsewhere,
    /// There is no other: the same again after a pause, since its container may just be going and the table behind it.
    AfterPause,
    GiveUp,
}

impl Journey {
    pub(crate) fn new(arrived: Instant, way: Way) -> Self {
        Self { arrived, way, tried: Vec::new(), attempts: 0, reconnect_until: None, retried: false }
    }

    pub(crate) fn retried(&mut self) -> Outcome {
        if std::mem::replace(&mut self.retried, true) { Outcome::RetriedMore } else { Outcome::Retried }
    }

    /// No connection to this backend.
    pub(crate) fn no_connection(&mut self, worker: &Worker, target: &Target, backend: &Rc<Backend>) -> Onward {
        let now = Instant::now();
        backend.failed(now);
        self.tried.push(backend.clone());
        if target.has_other(self.way, &self.tried) {
            return if worker.budget.retry(now) { Onward::Elsewhere } else { Onward::GiveUp };
        }
        let within = Duration::from_millis(target.timeouts.connect_ms);
        if now >= *self.reconnect_until.get_or_insert(now + within) {
            return Onward::GiveUp;
        }
        self.tried.clear();
        Onward::AfterPause
    }
}

/// Until it may be worth looking again.
pub(crate) async fn pause(worker: &Worker) {
    tokio::select! {
        () = worker.changed.notified() => {}
        () = tokio::time::sleep(RECONNECT_AFTER) => {}
    }
}
