//! Random numbers that are the same each time: SplitMix64 (Steele, Lea and Flood, OOPSLA 2014).

#[derive(Debug, Clone)]
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        let mut random = Self(seed);
        Self(random.next())
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Above 0, at most 1.
    pub fn unit(&mut self) -> f64 {
        ((self.next() >> 11) + 1) as f64 / (1u64 << 53) as f64
    }

    pub fn between(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * self.unit()
    }

    pub fn happens(&mut self, chance: f64) -> bool {
        self.unit() <= chance
    }

    pub fn exponential(&mut self, mean: f64) -> f64 {
        -mean * self.unit().ln()
    }

    /// Of at least one.
    pub fn geometric(&mut self, mean: f64) -> u64 {
        1 + (self.unit().ln() / (1.0 - 1.0 / mean).ln()) as u64
    }

    pub fn normal(&mut self) -> f64 {
        (-2.0 * self.unit().ln()).sqrt() * (std::f64::consts::TAU * self.unit()).cos()
    }

    /// For means up to some hundreds.
    pub fn poisson(&mut self, mean: f64) -> u64 {
        let (mut left, mut term, mut count) = (self.unit(), (-mean).exp(), 0);
        while left > term && count < 10_000 {
            left -= term;
            count += 1;
            term *= mean / count as f64;
        }
        count
    }
}
