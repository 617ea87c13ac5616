//! How long answers took, as counts that add up over workers and time.

use serde::{Deserialize, Serialize};

/// A latency histogram: time from the arrival of a request's head to the arrival of its answer's head, tunnels and answers
/// of 500 and above excluded.
///
/// Log-linear buckets over microseconds: bucket `i` ends at [`Latency::upper_us`]. Relative error at most 1/8.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct Latency {
    /// Counts by bucket, trailing zeros cut off.
    pub buckets: Vec<u64>,
}

impl Latency {
    /// Linear steps in each doubling.
    pub const BOUNDS_PER_OCTAVE: u64 = 8;
    /// Enough for 64 s; longer ones land in the last bucket.
    pub const BUCKETS: usize = 8 * 24;

    /// The bucket that a latency falls in.
    pub fn bucket(us: u64) -> usize {
        let step = Self::BOUNDS_PER_OCTAVE;
        if us < step {
            return us as usize;
        }
        let octave = u64::from(us.ilog2()) - u64::from(step.ilog2());
        let offset = (us >> octave) - step;
        ((octave + 1) * step + offset).min(Self::BUCKETS as u64 - 1) as usize
    }

    /// The highest latency of a bucket, in microseconds.
    pub fn upper_us(bucket: usize) -> u64 {
        let step = Self::BOUNDS_PER_OCTAVE;
        let bucket = bucket as u64;
        if bucket < step {
            return bucket;
        }
        let (octave, offset) = (bucket / step - 1, bucket % step);
        ((step + offset + 1) << octave) - 1
    }

    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }

    /// The latency that `part` (0 to 1) of the requests did not exceed; None when there were none.
    pub fn quantile_us(&self, part: f64) -> Option<u64> {
        let count = self.count();
        let rank = ((count as f64 * part).ceil() as u64).max(1);
        let mut seen = 0;
        for (bucket, n) in self.buckets.iter().enumerate() {
            seen += n;
            if *n > 0 && seen >= rank {
                return Some(Self::upper_us(bucket));
            }
        }
        None
    }

    /// What was added since `earlier`, a histogram of the same instance.
    pub fn since(&self, earlier: &Latency) -> Latency {
        let then = |i: usize| earlier.buckets.get(i).copied().unwrap_or(0);
        Latency { buckets: self.buckets.iter().enumerate().map(|(i, n)| n.saturating_sub(then(i))).collect() }
    }

    pub fn add(&mut self, other: &Latency) {
        if self.buckets.len() < other.buckets.len() {
            self.buckets.resize(other.buckets.len(), 0);
        }
        for (mine, theirs) in self.buckets.iter_mut().zip(&other.buckets) {
            *mine += theirs;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_latency_is_within_its_bucket() {
        for us in (0..10_000).chain((0..60).map(|i| 1_000_000 * i)) {
            let bucket = Latency::bucket(us);
            assert!(us <= Latency::upper_us(bucket), "{us} in {bucket}");
            assert!(bucket == 0 || us > Latency::upper_us(bucket - 1), "{us} in {bucket}");
        }
    }
}
