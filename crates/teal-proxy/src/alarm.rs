//! Coarse timeouts: one slot a connection, swept a few times a second, instead of a timer armed for every request.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

/// How often alarms are looked at, which is how late they may be.
pub(crate) const SWEEP_EVERY: Duration = Duration::from_millis(100);

#[derive(Debug)]
pub(crate) struct Alarms {
    started: Instant,
    /// Milliseconds since `started`, as of the last sweep.
    now: Cell<u64>,
    slots: RefCell<Vec<Option<Rc<Slot>>>>,
    free: RefCell<Vec<usize>>,
}

#[derive(Debug)]
struct Slot {
    /// u64::MAX: not set.
    at: Cell<u64>,
    waker: RefCell<Option<Waker>>,
}

/// A connection's alarm. Dropping it gives the slot back.
#[derive(Debug)]
pub(crate) struct Alarm {
    alarms: Rc<Alarms>,
    slot: Rc<Slot>,
    index: usize,
}

impl Alarms {
    pub(crate) fn new(now: Instant) -> Rc<Self> {
        Rc::new(Self { started: now, now: Cell::new(0), slots: RefCell::default(), free: RefCell::default() })
    }

    pub(crate) fn alarm(self: &Rc<Self>) -> Alarm {
        let slot = Rc::new(Slot { at: Cell::new(u64::MAX), waker: RefCell::new(None) });
        let mut slots = self.slots.borrow_mut();
        let index = self.free.borrow_mut().pop().unwrap_or_else(|| {
            slots.push(None);
            slots.len() - 1
        });
        slots[index] = Some(slot.clone());
        Alarm { alarms: self.clone(), slot, index }
    }

    /// Wakes whoever's time has come.
    pub(crate) fn sweep(&self, now: Instant) {
        // Milliseconds of uptime fit.
        let now = now.saturating_duration_since(self.started).as_millis() as u64;
        self.now.set(now);
        for slot in self.slots.borrow().iter().flatten() {
            if slot.at.get() <= now
                && let Some(waker) = slot.waker.borrow_mut().take()
            {
                waker.wake();
            }
        }
    }
}

impl Alarm {
    pub(crate) fn set(&self, after: Duration) {
        self.slot.at.set(self.alarms.now.get() + after.as_millis() as u64);
    }

    pub(crate) fn clear(&self) {
        self.slot.at.set(u64::MAX);
    }

    pub(crate) fn is_set(&self) -> bool {
        self.slot.at.get() != u64::MAX
    }

    /// Ready when the time has come.
    pub(crate) fn poll(&self, cx: &mut Context<'_>) -> Poll<()> {
        if self.slot.at.get() <= self.alarms.now.get() {
            return Poll::Ready(());
        }
        let mut waker = self.slot.waker.borrow_mut();
        if !waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            *waker = Some(cx.waker().clone());
        }
        Poll::Pending
    }
}

impl Drop for Alarm {
    fn drop(&mut self) {
        self.alarms.slots.borrow_mut()[self.index] = None;
        self.alarms.free.borrow_mut().push(self.index);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_alarm_fires_at_the_first_sweep_behind_its_time() {
        let start = Instant::now();
        let alarms = Alarms::new(start);
        let (alarm, other) = (alarms.alarm(), alarms.alarm());
        let mut cx = Context::from_waker(Waker::noop());
        alarm.set(Duration::from_millis(150));
        assert!(alarm.poll(&mut cx).is_pending() && other.poll(&mut cx).is_pending());
        alarms.sweep(start + Duration::from_millis(100));
        assert!(alarm.poll(&mut cx).is_pending());
        alarms.sweep(start + Duration::from_millis(200));
        assert!(alarm.poll(&mut cx).is_ready() && other.poll(&mut cx).is_pending());
        alarm.clear();
        assert!(alarm.poll(&mut cx).is_pending());
        drop(alarm);
        assert_eq!(alarms.alarm().index, 0, "the slot is used again");
    }
}
