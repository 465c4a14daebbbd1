//! [`SplitRatios`]: random splits, stratified by category.

use std::borrow::Borrow;
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

    /// Assigns splits to objects of any categories.
    pub(crate) fn assign<'a>(&self, mut objects: Vec<(&'a ObjectId, &'a mut Split)>) {
        objects.sort_by_key(|(id, _)| id.category());
        for category in objects.chunk_by_mut(|(a, _), (b, _)| a.category() == b.category()) {
            let splits = self.splits(category.len(), |place| category[place].0);
            for ((_, assigned), split) in category.iter_mut().zip(splits) {
                **assigned = split;
            }
        }
    }

    /// Splits of the `num` objects of a category. They are ranked by a hash of seed and id, so ratios are as exact as
    /// possible and independent of other categories.
    pub(crate) fn splits<Id: Borrow<ObjectId>>(&self, num: usize, id: impl Fn(usize) -> Id) -> Vec<Split> {
        // Half of a hash tells any number of objects apart.
        let rank = |place: usize| -> [u8; 16] {
            let hash = Sha256::new()
                .chain_update(self.seed.to_le_bytes())
                .chain_update(id(place).borrow().as_str())
                .finalize();
            hash[..16].try_into().expect("a hash has 32 bytes")
        };
        let mut ranked: Vec<([u8; 16], u32)> = (0..num).map(|place| (rank(place), place as u32)).collect();
        ranked.sort_unstable();
        let mut splits = vec![Split::Train; num];
        let (mut cumulative, mut begin) = (0.0, 0);
        for (split, ratio) in Split::ALL.into_iter().zip(self.ratios) {
            cumulative += ratio;
            let end = ((cumulative * num as f64).round() as usize).clamp(begin, num);
            for (_, place) in &ranked[begin..end] {
                splits[*place as usize] = split;
            }
            begin = end;
        }
        splits
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
