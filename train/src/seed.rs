//! Seeded random generators keyed by their use: a draw is a function of (seed, purpose, epoch, sample id).
//!
//! Every stream is keyed by a SHA-256 of those four, so that neither the number of threads, nor the order in which
//! samples are read, nor a restart can change a draw. The conversions from bits to numbers are written here, so that
//! an update of a dependency cannot change them either.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng as _, SeedableRng as _};
use sha2::{Digest as _, Sha256};

/// A random generator for one purpose.
#[derive(Debug, Clone)]
pub struct Stream(ChaCha8Rng);

impl Stream {
    /// The stream for `purpose` in `epoch` of the sample `id`, under the 64-bit `seed` of the run.
    #[must_use]
    pub fn new(seed: u64, purpose: &str, epoch: u64, id: &str) -> Self {
        Self(ChaCha8Rng::from_seed(key(seed, purpose, epoch, id)))
    }

    /// 64 random bits.
    pub fn bits(&mut self) -> u64 {
        self.0.next_u64()
    }

    /// Uniform in [0, 1), 53 bits.
    pub fn unit(&mut self) -> f64 {
        (self.bits() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// Uniform in [`low`, `high`).
    pub fn uniform(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * self.unit()
    }

    /// From the standard normal distribution (Box and Muller).
    pub fn normal(&mut self) -> f64 {
        let radius = (-2.0 * (1.0 - self.unit()).ln()).sqrt();
        radius * (std::f64::consts::TAU * self.unit()).cos()
    }

    /// A whole number below `bound`, each equally likely.
    pub fn below(&mut self, bound: usize) -> usize {
        let bound = bound.max(1) as u64;
        // The largest multiple of `bound`; draws above it would favor small numbers.
        let limit = u64::MAX - u64::MAX % bound;
        loop {
            let bits = self.bits();
            if bits < limit {
                return (bits % bound) as usize;
            }
        }
    }

    /// Shuffles in place (Fisher and Yates).
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.below(last + 1));
        }
    }

    /// `count` distinct numbers below `bound` in random order; all of them where `count` is larger.
    pub fn choose(&mut self, bound: usize, count: usize) -> Vec<usize> {
        let mut numbers: Vec<usize> = (0..bound).collect();
        let count = count.min(bound);
        for place in 0..count {
            numbers.swap(place, place + self.below(bound - place));
        }
        numbers.truncate(count);
        numbers
    }
}

/// A 63-bit seed for torch, for `purpose` at `position` (a step or an epoch).
#[must_use]
pub fn torch_seed(seed: u64, purpose: &str, position: u64) -> i64 {
    (Stream::new(seed, purpose, position, "").bits() >> 1) as i64
}

/// The seed for torch of a micro-batch in the step after `step` others: what dropout and drop path draw there does not
/// depend on which rank computes it, or after which other one. The first has that of a step that is not divided.
#[must_use]
pub fn micro_batch_seed(seed: u64, step: u64, micro_batch: usize) -> i64 {
    let id = match micro_batch {
        0 => String::new(),
        idx => idx.to_string(),
    };
    (Stream::new(seed, "step", step, &id).bits() >> 1) as i64
}

fn key(seed: u64, purpose: &str, epoch: u64, id: &str) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update(seed.to_le_bytes());
    hash.update(epoch.to_le_bytes());
    hash.update((purpose.len() as u64).to_le_bytes());
    hash.update(purpose.as_bytes());
    hash.update(id.as_bytes());
    hash.finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_differ_by_every_part_of_their_key() {
        let first = Stream::new(1, "order", 2, "chair/a").bits();
        assert_eq!(
            first,
            Stream::new(1, "order", 2, "chair/a").bits(),
            "the same key gives the same bits"
        );
        for other in [
            (2, "order", 2, "chair/a"),
            (1, "view", 2, "chair/a"),
            (1, "order", 3, "chair/a"),
            (1, "order", 2, "chair/b"),
        ] {
            assert_ne!(
                first,
                Stream::new(other.0, other.1, other.2, other.3).bits(),
                "{other:?} must differ"
            );
        }
    }

    #[test]
    fn micro_batches_differ_and_the_first_is_the_step() {
        let seeds = [0, 1, 2].map(|micro_batch| micro_batch_seed(3, 7, micro_batch));
        assert_eq!(seeds[0], torch_seed(3, "step", 7), "a step that is not divided");
        assert!(seeds[0] != seeds[1] && seeds[1] != seeds[2], "{seeds:?}");
        assert_ne!(seeds[1], micro_batch_seed(3, 8, 1), "another step");
    }

    #[test]
    fn all_64_bits_of_the_seed_count() {
        let low = Stream::new(1, "order", 0, "").bits();
        assert_ne!(
            low,
            Stream::new(1 | 1 << 40, "order", 0, "").bits(),
            "bit 40 of the seed must count"
        );
    }

    #[test]
    fn a_choice_is_distinct_and_a_shuffle_is_a_permutation() {
        let mut stream = Stream::new(7, "test", 0, "");
        let mut chosen = stream.choose(12, 4);
        assert_eq!(chosen.len(), 4, "four of twelve");
        chosen.sort_unstable();
        chosen.dedup();
        assert_eq!(chosen.len(), 4, "no view twice");
        let mut items: Vec<usize> = (0..100).collect();
        stream.shuffle(&mut items);
        assert_ne!(
            items,
            (0..100).collect::<Vec<_>>(),
            "a shuffle of 100 moves something"
        );
        items.sort_unstable();
        assert_eq!(items, (0..100).collect::<Vec<_>>(), "nothing is lost");
    }

    #[test]
    fn uniform_numbers_fill_their_range() {
        let mut stream = Stream::new(3, "test", 0, "");
        let draws: Vec<f64> = (0..2000).map(|_| stream.uniform(0.9, 1.1)).collect();
        assert!(draws.iter().all(|&x| (0.9..1.1).contains(&x)), "in the range");
        let mean = draws.iter().sum::<f64>() / 2000.0;
        assert!((mean - 1.0).abs() < 0.01, "mean {mean}");
    }
}
