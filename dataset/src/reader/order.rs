//! [`Order`]: which row of which dataset comes at which position of an epoch, alone or mixed by weight.
//!
//! A dataset has passes of its own, each a [`Permutation`] of its rows, or a [`BlockShuffle`] of them: in a pass each row comes
//! exactly once, and the next pass begins when all have. A mixture takes the next row of one of its datasets at each position. Whose turn it is follows
//! from the position alone: of the first k positions a dataset gets its share of k, rounded, and these turns are shuffled
//! within blocks of [`BLOCK_LEN`]. So the shares hold in every stretch of an epoch, not only on average.

use std::ops::RangeInclusive;

use serde::{Deserialize, Serialize};

use super::block_shuffle::BlockShuffle;
use super::permutation::Permutation;
use crate::error::{DatasetError, Result, StreamError};

/// Positions within which turns are shuffled.
const BLOCK_LEN: u64 = 1024;
/// Weights count in millionths.
const WEIGHT_UNITS: f64 = 1e6;
/// Purposes of permutations, part of their keys.
const OF_ROWS: u64 = 0;
const OF_TURNS: u64 = 1;

/// The order of all epochs: a function of (seed, epoch), of the numbers of rows and of the weights. It takes no memory but
/// for two numbers a dataset.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Order {
    sets: Vec<Share>,
    /// Seed of the shuffle; row order if absent.
    seed: Option<u64>,
    /// Rows are shuffled in blocks; each pass is a full permutation if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    blocks: Option<BlockShuffle>,
    /// Positions of an epoch.
    len: u64,
}

/// A dataset of a mixture.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Share {
    num_rows: u64,
    /// Relative to the others.
    weight: u64,
}

/// What comes at a position.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    /// The dataset, in the order in which the mixture lists them.
    pub set: usize,
    /// 0-based pass over that dataset; of a single dataset this is the epoch.
    pub pass: u64,
    /// Row of that dataset.
    pub row: u64,
}

impl Order {
    /// Weights that a dataset of a mixture may have.
    pub const WEIGHTS: RangeInclusive<f64> = 1.0 / WEIGHT_UNITS..=1e9;

    /// The order of a single dataset, shuffled by `seed` if there is one.
    #[must_use]
    pub fn new(num_rows: u64, seed: Option<u64>) -> Self {
        let weight = num_rows;
        Self {
            sets: vec![Share { num_rows, weight }],
            seed,
            blocks: None,
            len: num_rows,
        }
    }

    /// The order of a mixture, from the number of rows and the weight of each dataset. A weight is the share of samples
    /// that a dataset gives, relative to the others, whatever its size; without weights each gives as many as it has rows,
    /// so that an epoch is a pass over all. An epoch has as many positions as there are rows altogether.
    ///
    /// # Errors
    /// When some datasets have a weight and others have none, a weight is not between a millionth and 10^9, or a dataset has
    /// no rows.
    pub fn mixed(sets: &[(u64, Option<f64>)], seed: Option<u64>) -> Result<Self> {
        let are_weighted = sets.iter().any(|(_, weight)| weight.is_some());
        let share = |&(num_rows, weight): &(u64, Option<f64>)| {
            if num_rows == 0 && sets.len() > 1 {
                return Err(StreamError::EmptyShare);
            }
            let weight = match weight {
                Some(weight) if Self::WEIGHTS.contains(&weight) => (weight * WEIGHT_UNITS).round() as u64,
                Some(weight) => return Err(StreamError::Weight { weight }),
                None if are_weighted => return Err(StreamError::WeightMissing),
                None => num_rows,
            };
            Ok(Share { num_rows, weight })
        };
        let sets: Vec<Share> = sets
            .iter()
            .map(share)
            .collect::<Result<_, _>>()
            .map_err(DatasetError::Stream)?;
        Ok(Self {
            len: sets.iter().map(|set| set.num_rows).sum(),
            sets,
            seed,
            blocks: None,
        })
    }

    /// The same with passes that are shuffled in blocks. Without a seed nothing is shuffled.
    #[must_use]
    pub fn in_blocks(self, blocks: BlockShuffle) -> Self {
        let blocks = Some(blocks);
        Self { blocks, ..self }
    }

    /// Positions of an epoch: the number of rows of all datasets.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether there are no rows.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// What comes at a position of an epoch.
    ///
    /// # Panics
    /// When `position` is not below [`len`](Self::len).
    #[must_use]
    pub fn at(&self, epoch: u64, position: u64) -> Place {
        assert!(position < self.len, "position {position} of {}", self.len);
        let (set, turn) = self.turn(epoch, position);
        let Share { num_rows, .. } = self.sets[set];
        let (pass, place) = (turn / num_rows, turn % num_rows);
        let row = match (self.seed, self.blocks) {
            (None, _) => place,
            (Some(seed), None) => Permutation::new(num_rows, &[seed, OF_ROWS, set as u64, pass]).at(place),
            (Some(seed), Some(blocks)) => blocks.row_at(num_rows, [seed, set as u64, pass], place),
        };
        Place { set, pass, row }
    }

    /// The row of a place where the rows of the datasets follow each other.
    #[must_use]
    pub fn joined_row(&self, place: Place) -> u64 {
        let before = self.sets[..place.set].iter().map(|set| set.num_rows);
        before.sum::<u64>() + place.row
    }

    /// The dataset whose turn it is, and how many turns it has had since the beginning of epoch 0.
    fn turn(&self, epoch: u64, position: u64) -> (usize, u64) {
        // Of a single dataset the shuffle of turns would change nothing.
        let position = match self.seed {
            Some(seed) if self.sets.len() > 1 => {
                let block = position / BLOCK_LEN;
                let begin = block * BLOCK_LEN;
                let turns =
                    Permutation::new(BLOCK_LEN.min(self.len - begin), &[seed, OF_TURNS, epoch, block]);
                begin + turns.at(position - begin)
            }
            _ => position,
        };
        let mut position = u128::from(epoch) * u128::from(self.len) + u128::from(position);
        let mut total: u128 = self.sets.iter().map(|set| u128::from(set.weight)).sum();
        let (last, others) = self.sets.split_last().expect("a mixture has a dataset");
        for (set, share) in others.iter().enumerate() {
            let weight = u128::from(share.weight);
            // Turns of this dataset before the position, among those that the datasets before it leave.
            let turns = position * weight / total;
            if (position + 1) * weight / total > turns {
                return (set, turns as u64);
            }
            position -= turns;
            total -= weight;
        }
        debug_assert!(total == u128::from(last.weight), "the last one has what is left");
        (others.len(), position as u64)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    /// Positions of the first `num_epochs` epochs.
    fn places(order: &Order, num_epochs: u64) -> Vec<Place> {
        let positions =
            (0..num_epochs).flat_map(|epoch| (0..order.len()).map(move |position| (epoch, position)));
        positions
            .map(|(epoch, position)| order.at(epoch, position))
            .collect()
    }

    fn counts(places: &[Place]) -> BTreeMap<Place, usize> {
        let mut counts = BTreeMap::new();
        for &place in places {
            *counts.entry(place).or_default() += 1;
        }
        counts
    }

    proptest! {
        #[test]
        fn each_row_comes_once_a_pass_whatever_the_weights(
            sets in prop::collection::vec((1..300_u64, 0.01..20.0_f64), 1..5),
            seed in any::<Option<u64>>(),
        ) {
            let weighted: Vec<_> = sets.iter().map(|&(num_rows, weight)| (num_rows, Some(weight))).collect();
            let order = Order::mixed(&weighted, seed).unwrap();
            let places = places(&order, 3);
            prop_assert!(counts(&places).values().all(|&count| count == 1), "a row twice in a pass");
            let total: f64 = sets.iter().map(|(_, weight)| weight).sum();
            for (set, &(num_rows, weight)) in sets.iter().enumerate() {
                let of_set: Vec<&Place> = places.iter().filter(|place| place.set == set).collect();
                let share = places.len() as f64 * weight / total;
                prop_assert!((of_set.len() as f64 - share).abs() < sets.len() as f64, "its share");
                // All passes but the last are whole.
                let last = of_set.iter().map(|place| place.pass).max();
                for pass in 0..last.unwrap_or(0) {
                    let rows = of_set.iter().filter(|place| place.pass == pass).count();
                    prop_assert_eq!(rows as u64, num_rows, "pass {} of {}", pass, set);
                }
            }
        }

        #[test]
        fn without_weights_an_epoch_is_a_pass_over_all(
            sets in prop::collection::vec(1..3000_u64, 1..5),
            seed in any::<u64>(),
        ) {
            let unweighted: Vec<_> = sets.iter().map(|&num_rows| (num_rows, None)).collect();
            let order = Order::mixed(&unweighted, Some(seed)).unwrap();
            for epoch in [0, 1, 7] {
                let places: Vec<Place> = (0..order.len()).map(|position| order.at(epoch, position)).collect();
                prop_assert_eq!(counts(&places).len() as u64, order.len());
                prop_assert!(places.iter().all(|place| place.pass == epoch));
            }
        }
    }

    #[test]
    fn shares_hold_in_every_stretch() {
        let order = Order::mixed(&[(10_000_000, Some(1.0)), (500, Some(3.0))], Some(1)).unwrap();
        for begin in [0, 4_096, 9_999_360] {
            let second = (begin..begin + BLOCK_LEN).filter(|&position| order.at(0, position).set == 1);
            let count = second.count();
            assert!((766..=770).contains(&count), "{count} of {BLOCK_LEN} at {begin}");
        }
        let alternating =
            (0..100).filter(|&position| order.at(0, position).set != order.at(0, position + 4).set);
        assert!(
            alternating.count() > 20,
            "turns are shuffled, so that ranks get some of each"
        );
    }

    #[test]
    fn one_dataset_is_a_mixture_of_one() {
        let order = Order::new(1000, Some(5));
        assert_eq!(
            Order::mixed(&[(1000, Some(7.0))], Some(5)).unwrap().at(3, 77),
            order.at(3, 77)
        );
        let places =
            |epoch| -> Vec<u64> { (0..1000).map(|position| order.at(epoch, position).row).collect() };
        assert_ne!(places(0), places(1), "the epoch counts");
        let other = Order::new(1000, Some(6));
        assert_ne!(
            places(0)[..9],
            (0..9)
                .map(|position| other.at(0, position).row)
                .collect::<Vec<_>>()[..]
        );
        let in_order = Order::new(1000, None);
        assert!((0..1000).all(|position| in_order.at(2, position)
            == Place {
                set: 0,
                pass: 2,
                row: position
            }));
    }

    #[test]
    fn weights_that_make_no_sense_are_refused() {
        for weight in [0.0, -1.0, f64::NAN, f64::INFINITY, 1e-9, 1e12] {
            Order::mixed(&[(5, Some(weight)), (5, Some(1.0))], None).unwrap_err();
        }
        let error = Order::mixed(&[(5, Some(1.0)), (5, None)], None).unwrap_err();
        assert!(error.to_string().contains("weight"), "{error}");
        Order::mixed(&[(5, Some(1.0)), (0, Some(1.0))], None).unwrap_err();
    }
}
