//! The longest time that a service gave no answer while somebody waited for one.
//!
//! ```text
//! slot of 1 ms     0 1 2 3 4 5 6 7 8
//! worker 0 waits     ■ ■ ■ ■ ■ ■        (bit set when its last waiting request ends)
//! worker 0 answers     ✓
//! worker 1 answers             ✓
//! gap                    └ 3 ┘
//! ```
//!
//! Each worker keeps a ring of bits; only all workers' bits together say how long the gap was.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

const WORDS: u64 = 64;
/// How far back the ring reaches; a reader that comes later sees what is left.
const SLOTS: u64 = WORDS * 64;

/// Milliseconds since `epoch`.
pub(crate) fn slot(epoch: Instant, now: Instant) -> u64 {
    // 2^64 ms do not pass.
    now.saturating_duration_since(epoch).as_millis() as u64
}

#[derive(Debug, Default)]
struct Word {
    /// Which 64 ms since the epoch the bits are of, plus one.
    of: AtomicU64,
    answered: AtomicU64,
    waited: AtomicU64,
}

/// One worker's part. Only that worker writes.
#[derive(Debug)]
pub(crate) struct Gap {
    words: [Word; WORDS as usize],
    waiting: AtomicU64,
    /// The slot when `waiting` left 0, plus one; 0 while nobody waits.
    since: AtomicU64,
}

impl Default for Gap {
    fn default() -> Self {
        Self { words: std::array::from_fn(|_| Word::default()), waiting: AtomicU64::new(0), since: AtomicU64::new(0) }
    }
}

/// One writer: no lock prefix.
fn set(word: &AtomicU64, bits: u64) {
    word.store(word.load(Ordering::Relaxed) | bits, Ordering::Relaxed);
}

impl Gap {
    /// A request begins to wait for its answer.
    pub(crate) fn begin(&self, slot: u64) {
        let waiting = self.waiting.load(Ordering::Relaxed);
        if waiting == 0 {
            self.since.store(slot + 1, Ordering::Release);
        }
        self.waiting.store(waiting + 1, Ordering::Relaxed);
    }

    /// A request waits no longer.
    pub(crate) fn end(&self, slot: u64, answered: bool) {
        if answered {
            set(&self.word(slot).answered, 1 << (slot % 64));
        }
        let waiting = self.waiting.load(Ordering::Relaxed).saturating_sub(1);
        self.waiting.store(waiting, Ordering::Relaxed);
        if waiting == 0 {
            let since = self.since.load(Ordering::Relaxed).saturating_sub(1);
            self.mark_waited(since.max(slot.saturating_sub(SLOTS - 64)), slot);
            // After the bits, so that a reader sees the bits or the open interval.
            self.since.store(0, Ordering::Release);
        }
    }

    fn mark_waited(&self, from: u64, to: u64) {
        let mut at = from;
        while at <= to {
            let last = to.min(at | 63);
            let bits = (u64::MAX << (at % 64)) & (u64::MAX >> (63 - last % 64));
            set(&self.word(at).waited, bits);
            at = last + 1;
        }
    }

    fn word(&self, slot: u64) -> &Word {
        // Below WORDS.
        let word = &self.words[(slot / 64 % WORDS) as usize];
        let of = slot / 64 + 1;
        if word.of.load(Ordering::Relaxed) != of {
            word.answered.store(0, Ordering::Relaxed);
            word.waited.store(0, Ordering::Relaxed);
            word.of.store(of, Ordering::Release);
        }
        word
    }

    fn read(&self, of: impl Fn(&Word) -> &AtomicU64, slot: u64) -> bool {
        let word = &self.words[(slot / 64 % WORDS) as usize];
        word.of.load(Ordering::Acquire) == slot / 64 + 1 && of(word).load(Ordering::Relaxed) >> (slot % 64) & 1 == 1
    }
}

/// Follows one service over all workers.
#[derive(Debug)]
pub(crate) struct GapReader {
    next: u64,
    /// Slots of the gap that is open at `next`.
    open: u64,
}

impl GapReader {
    pub(crate) fn starting_at(slot: u64) -> Self {
        Self { next: slot.saturating_sub(SLOTS / 2), open: 0 }
    }

    /// The longest gap, in slots, that ended or was open since the last call, up to (not with) the slot `now`.
    pub(crate) fn longest_until(&mut self, now: u64, workers: &[&Gap]) -> u64 {
        let since: Vec<u64> = workers.iter().map(|gap| gap.since.load(Ordering::Acquire)).collect();
        let mut longest = self.open;
        let start = self.next.max(now.saturating_sub(SLOTS - 64));
        for slot in start..now {
            let answered = workers.iter().any(|gap| gap.read(|word| &word.answered, slot));
            let open = since.iter().any(|since| *since != 0 && slot + 1 >= *since);
            let waited = open || workers.iter().any(|gap| gap.read(|word| &word.waited, slot));
            self.open = if waited && !answered { self.open + 1 } else { 0 };
            longest = longest.max(self.open);
        }
        self.next = self.next.max(now);
        longest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gap_is_what_no_worker_answered_in_while_one_had_a_request_waiting() {
        let (a, b) = (Gap::default(), Gap::default());
        let mut reader = GapReader::starting_at(0);
        a.begin(10);
        b.begin(12);
        b.end(14, true);
        assert_eq!(reader.longest_until(20, &[&a, &b]), 5);
        a.end(50, true);
        assert_eq!(reader.longest_until(100, &[&a, &b]), 50 - 15);
        assert_eq!(reader.longest_until(5_000, &[&a, &b]), 0, "nobody waits, nothing is a gap");
    }

    #[test]
    fn an_open_gap_is_reported_while_it_grows() {
        let gap = Gap::default();
        let mut reader = GapReader::starting_at(0);
        gap.begin(1_000);
        assert_eq!(reader.longest_until(1_100, &[&gap]), 100);
        assert_eq!(reader.longest_until(9_000, &[&gap]), 100 + 9_000 - (9_000 - (SLOTS - 64)));
    }

    #[test]
    fn steady_answers_leave_no_gap() {
        let gap = Gap::default();
        let mut reader = GapReader::starting_at(0);
        for slot in 0..10_000 {
            gap.begin(slot);
            gap.end(slot, true);
            if slot % 100 == 99 {
                assert_eq!(reader.longest_until(slot, &[&gap]), 0);
            }
        }
    }
}
