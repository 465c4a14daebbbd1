//! All chance in a synthesized object, a function of (seed, category, index).

use rand_chacha::{
    ChaCha8Rng,
    rand_core::{Rng, SeedableRng},
};
use sha2::{Digest, Sha256};

/// Throws for one object. What it throws doesn't depend on which other objects are made.
pub(super) struct Dice(ChaCha8Rng);

impl Dice {
    pub(super) fn new(seed: u64, category: &str, index: usize) -> Self {
        let key = Sha256::new()
            .chain_update(seed.to_le_bytes())
            .chain_update((index as u64).to_le_bytes())
            .chain_update(category);
        Self(ChaCha8Rng::from_seed(key.finalize().into()))
    }

    /// Below 1, not below 0.
    fn unit(&mut self) -> f64 {
        (self.0.next_u64() >> 11) as f64 / (1_u64 << 53) as f64
    }

    pub(super) fn between(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * self.unit()
    }

    /// A factor around 1, as likely to halve as to double for a `spread` of 2.
    pub(super) fn factor(&mut self, spread: f64) -> f64 {
        let log = spread.ln();
        self.between(-log, log).exp()
    }

    pub(super) fn chance(&mut self, probability: f64) -> bool {
        self.unit() < probability
    }

    /// A whole number; both ends are possible.
    pub(super) fn count(&mut self, low: usize, high: usize) -> usize {
        low + (self.unit() * (high - low + 1) as f64) as usize
    }
}
