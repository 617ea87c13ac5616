//! Requests that wait while a service has no backend (a recreate, a pause), bounded in number and time.

use crate::table::Service;
use crate::target::Target;
use crate::worker::Worker;
use std::rc::Rc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};
use teal_model::wire::Protocol;
use tokio::time::sleep_until;

/// How waiting ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Held {
    /// There may be a backend now.
    Over,
    /// It took too long, or too many wait.
    Expired,
}

/// A place in the queue, given back when dropped (also when the client goes away).
struct Place(Rc<Service>);

impl Place {
    fn take(service: &Rc<Service>, most: u32, protocol: Protocol) -> Option<Self> {
        let fits = |waiting: u32| (waiting < most).then_some(waiting + 1);
        service.waiting.fetch_update(Relaxed, Relaxed, fits).ok()?;
        service.counters.held.up();
        service.counters.held_total.up();
        if protocol == Protocol::Tcp {
            service.counters.tcp_held_total.up();
        }
        Some(Self(service.clone()))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Relaxed);
        self.0.counters.held.down();
    }
}

/// Waits until the table leads to a backend. Waiters are woken in the order in which they came.
pub(crate) async fn hold(
    worker: &Worker,
    since: Instant,
    target: Rc<Target>,
    protocol: Protocol,
    route: impl Fn() -> Option<Rc<Target>>,
) -> Held {
    let Some(_place) = Place::take(&target.service, target.hold.max_waiting, protocol) else {
        return expired(&target.service, protocol);
    };
    loop {
        let changed = worker.changed.notified();
        let bounds = match route() {
            Some(target) if !target.is_open() => target.hold,
            _ => return Held::Over,
        };
        let deadline = since + Duration::from_millis(bounds.for_ms);
        tokio::select! {
            () = changed => {}
            () = sleep_until(deadline.into()) => {
                return expired(&target.service, protocol);
            }
        }
    }
}

fn expired(service: &Service, protocol: Protocol) -> Held {
    service.counters.hold_expired.up();
    if protocol == Protocol::Tcp {
        service.counters.tcp_hold_expired.up();
    }
    Held::Expired
}
