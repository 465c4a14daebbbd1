//! [`BlockShuffle`]: an order that reads neighbors together, for disks and stores that are slow to seek.
//!
//! Blocks of consecutive rows are permuted, and then the rows within each window of some blocks that now follow each other. So
//! whoever keeps a window in memory reads each block once an epoch. Every row still comes exactly once, and what comes at a
//! place follows from the place alone.

use std::num::NonZeroU32;

use serde::{Deserialize, Serialize};

use super::permutation::Permutation;
use crate::shard::ROW_GROUP_ROWS;

/// Purposes of permutations, part of their keys.
const OF_BLOCKS: u64 = 2;
const OF_WINDOW: u64 = 3;

/// Rows of a block, unless told otherwise: a row group of our shards.
pub const DEFAULT_BLOCK_ROWS: NonZeroU32 =
    NonZeroU32::new(ROW_GROUP_ROWS as u32).expect("a row group has rows");
/// Blocks of a window, unless told otherwise: a thousand rows are mixed.
pub const DEFAULT_WINDOW_BLOCKS: NonZeroU32 = NonZeroU32::new(16).expect("it is not zero");

/// Sizes of blocks and windows. The larger they are together, the more the order is like a full permutation, and the more rows
/// are in use at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BlockShuffle {
    /// Consecutive rows of a block; the last block of a dataset may be shorter.
    pub block_rows: NonZeroU32,
    /// Blocks whose rows are mixed.
    pub window_blocks: NonZeroU32,
}

impl Default for BlockShuffle {
    fn default() -> Self {
        Self {
            block_rows: DEFAULT_BLOCK_ROWS,
            window_blocks: DEFAULT_WINDOW_BLOCKS,
        }
    }
}

impl BlockShuffle {
    /// The row at a place of a pass over `num_rows` rows.
    pub(super) fn row_at(self, num_rows: u64, [seed, set, pass]: [u64; 3], place: u64) -> u64 {
        let block_rows = u64::from(self.block_rows.get());
        let num_blocks = num_rows.div_ceil(block_rows);
        let blocks = Permutation::new(num_blocks, &[seed, OF_BLOCKS, set, pass]);
        let slots = Slots {
            num_missing: num_blocks * block_rows - num_rows,
            missing_end: (blocks.place_of(num_blocks - 1) + 1) * block_rows,
        };
        let window_slots = block_rows * u64::from(self.window_blocks.get());
        let window = slots.slot_of(place) / window_slots;
        let begin = slots.first_place(window * window_slots);
        let end = slots.first_place(
            window_slots
                .saturating_mul(window + 1)
                .min(num_blocks * block_rows),
        );
        let rows = Permutation::new(end - begin, &[seed, OF_WINDOW, set, pass, window]);
        let slot = slots.slot_of(begin + rows.at(place - begin));
        blocks.at(slot / block_rows) * block_rows + slot % block_rows
    }
}

/// The rows in the order of their blocks, counted as if the dataset's last block were full: what it lacks are slots without a
/// row at its end, wherever it comes.
struct Slots {
    num_missing: u64,
    /// Slot after the missing ones.
    missing_end: u64,
}

impl Slots {
    /// Slot of the row that comes at a place.
    fn slot_of(&self, place: u64) -> u64 {
        if place + self.num_missing < self.missing_end {
            place
        } else {
            place + self.num_missing
        }
    }

    /// Place of the first row at or after a slot where a block begins, or the last one ends.
    fn first_place(&self, slot: u64) -> u64 {
        if slot < self.missing_end {
            slot
        } else {
            slot - self.num_missing
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use std::collections::{BTreeMap, BTreeSet, VecDeque};

    use proptest::prelude::*;

    use super::*;

    fn shuffle(block_rows: u32, window_blocks: u32) -> BlockShuffle {
        BlockShuffle {
            block_rows: NonZeroU32::new(block_rows).unwrap(),
            window_blocks: NonZeroU32::new(window_blocks).unwrap(),
        }
    }

    fn rows(shuffle: BlockShuffle, num_rows: u64, key: [u64; 3]) -> Vec<u64> {
        (0..num_rows)
            .map(|place| shuffle.row_at(num_rows, key, place))
            .collect()
    }

    /// How often a block is read by someone who keeps those that were used last.
    fn reads(rows: &[u64], block_rows: u32, num_kept: usize) -> BTreeMap<u64, usize> {
        let mut kept: VecDeque<u64> = VecDeque::new();
        let mut reads = BTreeMap::new();
        for row in rows {
            let block = row / u64::from(block_rows);
            match kept.iter().position(|&other| other == block) {
                Some(place) => drop(kept.remove(place)),
                None => *reads.entry(block).or_default() += 1,
            }
            kept.push_back(block);
            if kept.len() > num_kept {
                kept.pop_front();
            }
        }
        reads
    }

    proptest! {
        #[test]
        fn every_row_comes_once_and_windows_hold_whole_blocks(
            num_rows in 1..2000_u64,
            block_rows in 1..100_u32,
            window_blocks in 1..20_u32,
            key in any::<[u64; 3]>(),
        ) {
            let shuffle = shuffle(block_rows, window_blocks);
            let rows = rows(shuffle, num_rows, key);
            let distinct: BTreeSet<u64> = rows.iter().copied().collect();
            prop_assert_eq!(distinct.len() as u64, num_rows);
            prop_assert!(distinct.last().is_none_or(|&last| last < num_rows));
            // With a window and no more in memory, each block is read once.
            let reads = reads(&rows, block_rows, window_blocks as usize);
            prop_assert_eq!(reads.len() as u64, num_rows.div_ceil(u64::from(block_rows)));
            prop_assert!(reads.values().all(|&count| count == 1), "{:?}", reads);
        }

        #[test]
        fn places_of_any_size_are_rows(
            num_rows in 1..u64::MAX / 2,
            sizes in any::<[u32; 2]>(),
            place in any::<u64>(),
        ) {
            let shuffle = shuffle(sizes[0].max(1), sizes[1].max(1));
            prop_assert!(shuffle.row_at(num_rows, [1, 2, 3], place % num_rows) < num_rows);
        }
    }

    #[test]
    fn a_full_permutation_reads_blocks_again_and_again() {
        let of_all = Permutation::new(64_000, &[1]);
        let rows: Vec<u64> = (0..64_000).map(|place| of_all.at(place)).collect();
        let reads = reads(&rows, 64, 16);
        assert!(reads.values().sum::<usize>() > 60_000, "nearly one read a row");
    }

    #[test]
    fn blocks_and_rows_are_mixed_and_each_number_of_the_key_counts() {
        let shuffle = shuffle(8, 4);
        let one = rows(shuffle, 1000, [1, 0, 0]);
        for other in [[2, 0, 0], [1, 1, 0], [1, 0, 1]] {
            let other = rows(shuffle, 1000, other);
            assert!(one.iter().zip(&other).filter(|(a, b)| a == b).count() < 20);
        }
        let blocks: BTreeSet<u64> = one[..32].iter().map(|row| row / 8).collect();
        assert!(
            blocks.len() <= 5 && blocks.last().unwrap() - blocks.first().unwrap() > 10,
            "{blocks:?}"
        );
        assert!(
            one[..8].iter().map(|row| row / 8).collect::<BTreeSet<_>>().len() > 1,
            "rows of several blocks"
        );
        // Runs are resumed by other versions of this program.
        assert_eq!(
            rows(shuffle, 20, [1, 2, 3])[..6],
            [5, 10, 11, 18, 16, 15],
            "never changes"
        );
    }
}
