//! [`Permutation`]: a random order of rows, computed place by place.
//!
//! A Feistel network permutes the numbers below the smallest power of two that holds all rows; a number that is no row is
//! permuted again until it is one (cycle walking, after Black and Rogaway, "Ciphers with Arbitrary Finite Domains", 2002).
//! Since fewer than half of the numbers are no rows, a place takes two walks at most on average.

/// Rounds of the network; its halves take turns. Halves of one or two bits need so many: after 10 some orders of seven rows are
/// likelier than others by far, after 24 none is.
const NUM_ROUNDS: usize = 24;
/// The odd number nearest to 2^64 divided by the golden ratio, which steps from key to key.
const GOLDEN_RATIO: u64 = 0x9E37_79B9_7F4A_7C15;

/// A bijection of the numbers below `len`, drawn by a key.
#[derive(Debug, Clone)]
pub struct Permutation {
    len: u64,
    /// Bits of the upper half of a number, and of the lower one.
    half_bits: [u32; 2],
    round_keys: [u64; NUM_ROUNDS],
}

impl Permutation {
    /// The order of `len` rows that `key` draws, such as seed, epoch and dataset: every number of it counts.
    #[must_use]
    pub fn new(len: u64, key: &[u64]) -> Self {
        let num_bits = u64::BITS - len.saturating_sub(1).leading_zeros();
        let key = key.iter().fold(key.len() as u64, |state, &number| {
            mix(state.wrapping_add(GOLDEN_RATIO) ^ number)
        });
        let round_key = |round: usize| mix(key.wrapping_add((round as u64 + 1).wrapping_mul(GOLDEN_RATIO)));
        Self {
            len,
            half_bits: [num_bits.div_ceil(2), num_bits / 2],
            round_keys: std::array::from_fn(round_key),
        }
    }

    /// Number of rows.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether there are no rows.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The row at a place.
    ///
    /// # Panics
    /// When `place` is not below [`len`](Self::len).
    #[must_use]
    pub fn at(&self, place: u64) -> u64 {
        assert!(place < self.len, "place {place} of {}", self.len);
        let mut row = self.permute(place);
        while row >= self.len {
            row = self.permute(row);
        }
        row
    }

    /// The place of a row.
    ///
    /// # Panics
    /// When `row` is not below [`len`](Self::len).
    #[must_use]
    pub fn place_of(&self, row: u64) -> u64 {
        assert!(row < self.len, "row {row} of {}", self.len);
        let mut place = self.permute_back(row);
        while place >= self.len {
            place = self.permute_back(place);
        }
        place
    }

    fn permute(&self, number: u64) -> u64 {
        self.through_rounds(number, self.round_keys.iter().enumerate())
    }

    /// The inverse of [`permute`](Self::permute): a round is its own inverse.
    fn permute_back(&self, number: u64) -> u64 {
        self.through_rounds(number, self.round_keys.iter().enumerate().rev())
    }

    /// The network: each round adds to one half what a function makes of the other.
    fn through_rounds<'a>(&self, number: u64, rounds: impl Iterator<Item = (usize, &'a u64)>) -> u64 {
        let [upper_bits, lower_bits] = self.half_bits;
        let [upper_mask, lower_mask] = self.half_bits.map(|bits| (1_u64 << bits) - 1);
        let (mut upper, mut lower) = (number >> lower_bits & upper_mask, number & lower_mask);
        for (round, key) in rounds {
            if round % 2 == 0 {
                upper ^= mix(lower ^ key) & upper_mask;
            } else {
                lower ^= mix(upper ^ key) & lower_mask;
            }
        }
        debug_assert!(upper_bits <= u64::BITS / 2, "a half fits its mask");
        upper << lower_bits | lower
    }
}

/// A bijection of 64 bits in which each bit depends on all (`SplitMix64`: Steele, Lea and Flood, "Fast Splittable
/// Pseudorandom Number Generators", 2014, with the constants of Stafford's variant 13).
fn mix(mut bits: u64) -> u64 {
    bits = (bits ^ bits >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    bits = (bits ^ bits >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
    bits ^ bits >> 31
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn every_row_comes_once(len in 0..3000_u64, key in any::<[u64; 3]>()) {
            let permutation = Permutation::new(len, &key);
            let rows: BTreeSet<u64> = (0..len).map(|place| permutation.at(place)).collect();
            prop_assert!((0..len).all(|place| permutation.place_of(permutation.at(place)) == place), "the inverse");
            prop_assert_eq!(rows.len() as u64, len);
            prop_assert!(rows.last().is_none_or(|&last| last < len));
        }

        #[test]
        fn places_of_any_size_are_rows(len in 1..u64::MAX, key in any::<u64>(), place in any::<u64>()) {
            prop_assert!(Permutation::new(len, &[key]).at(place % len) < len);
        }
    }

    #[test]
    fn all_orders_of_a_few_rows_are_equally_likely() {
        const NUM_DRAWS: u64 = 60_000;
        let mut counts: BTreeMap<Vec<u64>, u64> = BTreeMap::new();
        for epoch in 0..NUM_DRAWS {
            let permutation = Permutation::new(5, &[3, epoch]);
            *counts
                .entry((0..5).map(|place| permutation.at(place)).collect())
                .or_default() += 1;
        }
        assert_eq!(counts.len(), 120, "every order comes");
        let expected = NUM_DRAWS as f64 / 120.0;
        let chi_squared: f64 = counts
            .values()
            .map(|&count| (count as f64 - expected).powi(2) / expected)
            .sum();
        // Mean 119, standard deviation 15.4.
        assert!((60.0..190.0).contains(&chi_squared), "chi squared {chi_squared}");
    }

    #[test]
    fn neighbors_part_and_every_row_goes_everywhere() {
        const LEN: u64 = 1000;
        let (mut num_neighbors, mut sum) = (0, 0.0);
        let mut bins = [[0_u32; 10]; 10];
        for epoch in 0..100 {
            let permutation = Permutation::new(LEN, &[0, epoch]);
            for place in 0..LEN {
                let row = permutation.at(place);
                bins[(place / 100) as usize][(row / 100) as usize] += 1;
                sum += row as f64 * place as f64;
                num_neighbors += u32::from(place > 0 && permutation.at(place - 1).abs_diff(row) == 1);
            }
        }
        // Two in a thousand pairs are neighbors by chance.
        assert!((150..250).contains(&num_neighbors), "{num_neighbors} neighbors");
        assert!(
            bins.iter().flatten().all(|count| (850..1150).contains(count)),
            "{bins:?}"
        );
        let mean = sum / (100 * LEN) as f64 / (LEN as f64 / 2.0).powi(2);
        assert!(
            (mean - 1.0).abs() < 0.01,
            "places and rows are correlated: {mean}"
        );
    }

    #[test]
    fn every_number_of_a_key_counts() {
        let order = |key: &[u64]| -> Vec<u64> {
            let permutation = Permutation::new(100, key);
            (0..100).map(|place| permutation.at(place)).collect()
        };
        assert_eq!(order(&[1, 2, 3]), order(&[1, 2, 3]), "repeatable");
        for other in [
            &[2, 2, 3][..],
            &[1, 3, 3],
            &[1, 2, 4],
            &[1 | 1 << 40, 2, 3],
            &[1, 2],
            &[2, 1, 3],
        ] {
            assert_ne!(order(&[1, 2, 3]), order(other), "{other:?}");
        }
        // Runs are resumed by other versions of this program.
        assert_eq!(order(&[1, 2, 3])[..6], [85, 86, 69, 9, 38, 63], "never changes");
    }
}
