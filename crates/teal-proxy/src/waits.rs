//! How long the requests of one release that wait for the head of an answer have waited.
//!
//! ```text
//! slot of 16 ms     … 7 8 9 …
//! began then, and waits still   2 0 1      a request adds one to the slot in which it arrived, and takes it back later
//! ```
//!
//! One worker writes, the collector reads. The ring is as long as the longest latency that is told apart; what is older is
//! one number.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use teal_model::wire::Latency;

const SLOT_MS: u64 = 16;
const SLOTS: u64 = 4096;
/// The lower bits of a cell are the number, the upper ones the slot.
const NUMBER: u32 = 24;

#[derive(Debug, Default)]
pub(crate) struct Waits {
    /// Without memory until the first request.
    cells: OnceLock<Box<[AtomicU64]>>,
    older: AtomicU64,
}

/// A request that waits, by the slot in which it arrived.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wait(u64);

impl Waits {
    /// A request that arrived at `ms` of the worker's clock waits.
    pub(crate) fn begin(&self, ms: u64) -> Wait {
        let slot = ms / SLOT_MS;
        let cell = self.cell(slot);
        let value = cell.load(Relaxed);
        if value >> NUMBER == slot {
            cell.store(value + 1, Relaxed);
        } else if value >> NUMBER < slot {
            self.add_older(value & ((1 << NUMBER) - 1));
            cell.store(slot << NUMBER | 1, Relaxed);
        } else {
            self.add_older(1);
        }
        Wait(slot)
    }

    pub(crate) fn end(&self, Wait(slot): Wait) {
        let cell = self.cell(slot);
        let value = cell.load(Relaxed);
        if value >> NUMBER == slot {
            cell.store(value.saturating_sub(1).max(slot << NUMBER), Relaxed);
        } else {
            self.older.store(self.older.load(Relaxed).saturating_sub(1), Relaxed);
        }
    }

    fn add_older(&self, n: u64) {
        self.older.store(self.older.load(Relaxed) + n, Relaxed);
    }

    fn cell(&self, slot: u64) -> &AtomicU64 {
        let cells = self.cells.get_or_init(|| (0..SLOTS).map(|_| AtomicU64::new(0)).collect());
        // Below SLOTS.
        &cells[(slot % SLOTS) as usize]
    }

    /// Adds those that wait at `ms` to `buckets`, each with less than [`SLOT_MS`] too little.
    pub(crate) fn add_to(&self, buckets: &mut [u64], ms: u64) {
        let waited = |slot: u64| ms.saturating_sub(slot * SLOT_MS + SLOT_MS - 1);
        for cell in self.cells.get().into_iter().flatten() {
            let value = cell.load(Relaxed);
            let number = value & ((1 << NUMBER) - 1);
            if number > 0 {
                buckets[Latency::bucket(waited(value >> NUMBER).saturating_mul(1000))] += number;
            }
        }
        buckets[Latency::BUCKETS - 1] += self.older.load(Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The lowest and highest wait in milliseconds, and how many there are.
    fn seen(waits: &Waits, ms: u64) -> (u64, u64, u64) {
        let mut buckets = vec![0; Latency::BUCKETS];
        waits.add_to(&mut buckets, ms);
        let latency = Latency { buckets };
        let at = |part| latency.quantile_us(part).unwrap_or(0) / 1000;
        (at(0.0), at(1.0), latency.count())
    }

    #[test]
    fn every_wait_is_known_while_it_lasts_and_never_as_longer_than_it_is() {
        let waits = Waits::default();
        assert_eq!(seen(&waits, 5), (0, 0, 0));
        let (first, second) = (waits.begin(10_000), waits.begin(12_345));
        for ms in 12_400..20_000 {
            let (lowest, highest, count) = seen(&waits, ms);
            assert_eq!(count, 2);
            for (told, waited) in [(lowest, ms - 12_345), (highest, ms - 10_000)] {
                // A bucket is told by its upper end, an eighth above the lower.
                assert!(told <= waited + waited / 8 && told + 16 >= waited, "{told} of {waited}");
            }
        }
        waits.end(first);
        assert_eq!(seen(&waits, 20_000).2, 1);
        waits.end(second);
        assert_eq!(seen(&waits, 20_000).2, 0);
    }

    #[test]
    fn those_that_wait_for_longer_than_the_ring_are_still_counted() {
        let waits = Waits::default();
        let round = SLOTS * SLOT_MS;
        let old = waits.begin(32);
        let young = waits.begin(32 + round);
        let late = waits.begin(32);
        assert_eq!(seen(&waits, 40 + round).2, 3);
        waits.end(old);
        waits.end(late);
        assert_eq!(seen(&waits, 40 + round), (0, 0, 1));
        waits.end(young);
        assert_eq!(seen(&waits, 40 + round).2, 0);
    }
}
