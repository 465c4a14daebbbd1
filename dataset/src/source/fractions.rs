//! [`SplitFractions`]: splits drawn by chance, category by category.

use std::fmt;
use std::str::FromStr;

use sha2::{Digest, Sha256};

use super::SourceObject;
use crate::{DatasetError, Split};

/// How far from 1 the shares may add up.
const TOLERANCE: f64 = 1e-6;

/// Which share of each category is for what, and what the draw follows from. On a command line `0.8,0.2` (train, test)
/// or `0.7,0.1,0.2` (train, val, test).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SplitFractions {
    /// In the order of [`Split::ALL`]; they add up to 1.
    fractions: [f64; Split::ALL.len()],
    seed: u64,
}

impl SplitFractions {
    /// Another seed, another draw; 0 unless given.
    #[must_use]
    pub fn with_seed(self, seed: u64) -> Self {
        Self { seed, ..self }
    }

    /// Gives each object its split. In each category objects are ranked by a hash of their ids, so that the shares are
    /// as exact as they can be and the draw does not depend on the other categories.
    pub(super) fn draw(&self, objects: &mut [SourceObject]) {
        let rank = |object: &SourceObject| {
            let hash = Sha256::new()
                .chain_update(self.seed.to_le_bytes())
                .chain_update(object.id.as_str());
            <[u8; 32]>::from(hash.finalize())
        };
        objects.sort_by_cached_key(|object| (object.id.category().to_owned(), rank(object)));
        for category in objects.chunk_by_mut(|a, b| a.id.category() == b.id.category()) {
            let num_objects = category.len() as f64;
            let mut share = 0.0;
            let mut begin = 0;
            for (split, fraction) in Split::ALL.into_iter().zip(self.fractions) {
                share += fraction;
                let end = ((share * num_objects).round() as usize).clamp(begin, category.len());
                for object in &mut category[begin..end] {
                    object.split = split;
                }
                begin = end;
            }
        }
    }
}

impl fmt::Display for SplitFractions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [train, val, test] = self.fractions;
        write!(
            f,
            "shares of each category: train {train}, val {val}, test {test}; seed {}",
            self.seed
        )
    }
}

impl FromStr for SplitFractions {
    type Err = DatasetError;

    fn from_str(text: &str) -> Result<Self, DatasetError> {
        let wrong = || DatasetError::SplitFractions {
            text: text.to_owned(),
        };
        let parts: Result<Vec<f64>, _> = text.split(',').map(|part| part.trim().parse()).collect();
        let fractions = match parts.as_deref() {
            Ok(&[train, test]) => [train, 0.0, test],
            Ok(&[train, val, test]) => [train, val, test],
            _ => return Err(wrong()),
        };
        let is_share = |fraction: &f64| (0.0..=1.0).contains(fraction);
        if fractions.iter().all(is_share) && (fractions.iter().sum::<f64>() - 1.0).abs() <= TOLERANCE {
            Ok(Self { fractions, seed: 0 })
        } else {
            Err(wrong())
        }
    }
}
