//! The two clocks of a measurement: time that only grows, and the processor time of a thread.

use rustix::time::{ClockId, Timespec, clock_gettime};

/// CLOCK_MONOTONIC in microseconds: the same number in every process of this host.
pub fn monotonic_us() -> u64 {
    micros(clock_gettime(ClockId::Monotonic))
}

/// Processor time that the calling thread has used, in microseconds.
pub fn thread_cpu_us() -> u64 {
    micros(clock_gettime(ClockId::ThreadCPUTime))
}

fn micros(time: Timespec) -> u64 {
    time.tv_sec as u64 * 1_000_000 + time.tv_nsec as u64 / 1_000
}
