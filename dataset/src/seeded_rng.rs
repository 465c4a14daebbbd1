//! The crate's random number generator: `ChaCha8` with its own conversions, so that no update of a dependency can
//! change a result.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

/// A deterministic random number generator.
#[derive(Debug, Clone)]
pub(crate) struct SeededRng(ChaCha8Rng);

impl SeededRng {
    pub(crate) fn from_u64(seed: u64) -> Self {
        Self(ChaCha8Rng::seed_from_u64(seed))
    }

    pub(crate) fn from_key(key: [u8; 32]) -> Self {
        Self(ChaCha8Rng::from_seed(key))
    }

    /// 64 random bits.
    pub(crate) fn bits(&mut self) -> u64 {
        self.0.next_u64()
    }

    /// Uniform in [0, 1), with 53 bits.
    pub(crate) fn unit(&mut self) -> f64 {
        (self.bits() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// Two uniform numbers in [0, 1), with 32 bits each.
    pub(crate) fn unit_pair(&mut self) -> [f64; 2] {
        let bits = self.bits();
        [bits >> 32, bits & 0xFFFF_FFFF].map(|half| half as f64 / (1_u64 << 32) as f64)
    }

    /// Uniform in [`low`, `high`).
    pub(crate) fn uniform(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * self.unit()
    }

    /// Log-uniform in [1/spread, spread].
    pub(crate) fn log_uniform(&mut self, spread: f64) -> f64 {
        let log = spread.ln();
        self.uniform(-log, log).exp()
    }

    /// `true` with the given probability.
    pub(crate) fn bernoulli(&mut self, probability: f64) -> bool {
        self.unit() < probability
    }

    /// Uniform integer in [low, high], both inclusive.
    pub(crate) fn uniform_int(&mut self, low: usize, high: usize) -> usize {
        low + (self.unit() * (high - low + 1) as f64) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_follow_from_the_seed_and_never_change() {
        let mut rng = SeededRng::from_u64(1);
        let [a, b] = [rng.bits(), rng.bits()];
        assert_ne!(a, b);
        assert_eq!(SeededRng::from_u64(1).bits(), a, "the same seed");
        assert_ne!(SeededRng::from_key([1; 32]).bits(), a, "another one");
    }

    #[test]
    fn numbers_stay_within_their_range() {
        let mut rng = SeededRng::from_key([7; 32]);
        for _ in 0..1000 {
            assert!((0.0..1.0).contains(&rng.unit()));
            assert!(rng.unit_pair().iter().all(|x| (0.0..1.0).contains(x)));
            assert!((0.5..=2.0).contains(&rng.log_uniform(2.0)));
            assert!((3..=5).contains(&rng.uniform_int(3, 5)));
        }
        assert!(!rng.bernoulli(0.0), "never");
    }
}
