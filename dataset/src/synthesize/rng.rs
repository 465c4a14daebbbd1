//! Seeded random numbers of a synthesized object: a function of (seed, category, index).

use rand_chacha::{
    ChaCha8Rng,
    rand_core::{Rng, SeedableRng},
};
use sha2::{Digest, Sha256};

/// Random number generator of one object, independent of all others.
pub(super) struct ObjectRng(ChaCha8Rng);

impl ObjectRng {
    pub(super) fn new(seed: u64, category: &str, index: usize) -> Self {
        let key = Sha256::new()
            .chain_update(seed.to_le_bytes())
            .chain_update((index as u64).to_le_bytes())
            .chain_update(category);
        Self(ChaCha8Rng::from_seed(key.finalize().into()))
    }

    /// Uniform in [0, 1).
    fn unit_f64(&mut self) -> f64 {
        (self.0.next_u64() >> 11) as f64 / (1_u64 << 53) as f64
    }

    pub(super) fn uniform(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * self.unit_f64()
    }

    /// Log-uniform in [1/spread, spread].
    pub(super) fn log_uniform(&mut self, spread: f64) -> f64 {
        let log = spread.ln();
        self.uniform(-log, log).exp()
    }

    pub(super) fn bernoulli(&mut self, probability: f64) -> bool {
        self.unit_f64() < probability
    }

    /// Uniform integer in [low, high], both inclusive.
    pub(super) fn uniform_int(&mut self, low: usize, high: usize) -> usize {
        low + (self.unit_f64() * (high - low + 1) as f64) as usize
    }
}
