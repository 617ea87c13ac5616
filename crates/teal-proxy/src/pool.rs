//! What of one release answers on one port.

use crate::backend::Backend;
use crate::table::Release;
use std::cell::Cell;
use std::rc::Rc;
use std::time::Instant;

#[derive(Debug)]
pub(crate) struct Pool {
    pub(crate) release: Rc<Release>,
    backends: Vec<Rc<Backend>>,
    next: Cell<usize>,
}

fn is_in(backend: &Rc<Backend>, tried: &[Rc<Backend>]) -> bool {
    tried.iter().any(|other| Rc::ptr_eq(other, backend))
}

impl Pool {
    pub(crate) fn new(release: Rc<Release>, backends: Vec<Rc<Backend>>) -> Self {
        Self { release, backends, next: Cell::new(0) }
    }

    pub(crate) fn is_alive(&self) -> bool {
        self.backends.iter().any(|backend| !backend.is_retired())
    }

    /// Whether a backend outside `tried` could be chosen.
    pub(crate) fn has_other(&self, tried: &[Rc<Backend>]) -> bool {
        self.backends.iter().any(|backend| !backend.is_retired() && !is_in(backend, tried))
    }

    /// The backend with the least in flight. Those in `tried` only when there is no other.
    pub(crate) fn backend(&self, tried: &[Rc<Backend>]) -> Option<&Rc<Backend>> {
        if let [only] = &self.backends[..] {
            return (!only.is_retired()).then_some(only);
        }
        let mut clock = None;
        let mut ejected = |backend: &Backend| backend.is_ejected(|| *clock.get_or_insert_with(Instant::now));
        let alive = self.backends.iter().filter(|backend| !backend.is_retired());
        let (count, out) = alive.fold((0, 0), |(count, out), backend| (count + 1, out + usize::from(ejected(backend))));
        // More than half out: rather the fault of the network or of every backend, and the rest would drown.
        let panic = out * 2 > count;

        let start = self.next.get();
        let mut best: Option<((bool, bool, u32), usize)> = None;
        for step in 0..self.backends.len() {
            let at = (start + step) % self.backends.len();
            let backend = &self.backends[at];
            if backend.is_retired() {
                continue;
            }
            let rank = (is_in(backend, tried), !panic && ejected(backend), backend.in_flight());
            if best.is_none_or(|(best, _)| rank < best) {
                best = Some((rank, at));
            }
        }
        let (_, at) = best?;
        self.next.set(at + 1);
        Some(&self.backends[at])
    }
}
