//! [`SplitRatios`]: random splits, stratified by category.

use std::fmt;
use std::str::FromStr;

use sha2::{Digest, Sha256};

use crate::error::NameError;
use crate::schema::{ObjectId, Split};

/// Tolerance for the sum of the ratios.
const TOLERANCE: f64 = 1e-6;

/// Ratios and seed of a random split. On the command line `0.8,0.2` (train, test) or `0.7,0.1,0.2` (train,
/// val, test).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SplitRatios {
    /// In the order of [`Split::ALL`]; the sum is 1.
    ratios: [f64; Split::ALL.len()],
    seed: u64,
}

impl SplitRatios {
    /// Sets the seed, 0 by default.
    #[must_use]
    pub fn with_seed(self, seed: u64) -> Self {
        Self { seed, ..self }
    }

    /// Assigns splits. In each category objects are ranked by a hash of seed and id, so ratios are as exact
    /// as possible and independent of other categories.
    pub(crate) fn assign<'a>(&self, mut objects: Vec<(&'a ObjectId, &'a mut Split)>) {
        let rank = |id: &ObjectId| {
            let hash = Sha256::new()
                .chain_update(self.seed.to_le_bytes())
                .chain_update(id.as_str());
            <[u8; 32]>::from(hash.finalize())
        };
        objects.sort_by_cached_key(|(id, _)| (id.category(), rank(id)));
        for category in objects.chunk_by_mut(|(a, _), (b, _)| a.category() == b.category()) {
            let num_objects = category.len() as f64;
            let mut cumulative = 0.0;
            let mut begin = 0;
            for (split, ratio) in Split::ALL.into_iter().zip(self.ratios) {
                cumulative += ratio;
                let end = ((cumulative * num_objects).round() as usize).clamp(begin, category.len());
                for (_, assigned) in &mut category[begin..end] {
                    **assigned = split;
                }
                begin = end;
            }
        }
    }
}

impl fmt::Display for SplitRatios {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [train, val, test] = self.ratios;
        write!(
            f,
            "shares of each category: train {train}, val {val}, test {test}; seed {}",
            self.seed
        )
    }
}

impl FromStr for SplitRatios {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let wrong = || NameError::SplitRatios {
            text: text.to_owned(),
        };
        let parts: Result<Vec<f64>, _> = text.split(',').map(|part| part.trim().parse()).collect();
        let ratios = match parts.as_deref() {
            Ok(&[train, test]) => [train, 0.0, test],
            Ok(&[train, val, test]) => [train, val, test],
            _ => return Err(wrong()),
        };
        let is_ratio = |ratio: &f64| (0.0..=1.0).contains(ratio);
        if ratios.iter().all(is_ratio) && (ratios.iter().sum::<f64>() - 1.0).abs() <= TOLERANCE {
            Ok(Self { ratios, seed: 0 })
        } else {
            Err(wrong())
        }
    }
}
