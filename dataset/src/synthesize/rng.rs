//! Seeded random numbers of a synthesized object: a function of (seed, category, index).

use sha2::{Digest, Sha256};

use crate::seeded_rng::SeededRng;

/// Random number generator of one object, independent of all others.
pub(crate) fn object_rng(seed: u64, category: &str, index: usize) -> SeededRng {
    let key = Sha256::new()
        .chain_update(seed.to_le_bytes())
        .chain_update((index as u64).to_le_bytes())
        .chain_update(category);
    SeededRng::from_key(key.finalize().into())
}
