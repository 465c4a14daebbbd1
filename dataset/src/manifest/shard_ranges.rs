//! [`ShardRanges`]: some shards of a plan, written `0-3,7` on the command line.

use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;

use serde::{Serialize, Serializer};

use crate::error::NameError;

/// Plan indices of shards, from 0, as ranges: ascending, apart from each other, each with its last shard.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ShardRanges(Vec<RangeInclusive<usize>>);

impl ShardRanges {
    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Number of shards.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.iter().map(|range| range.end() - range.start() + 1).sum()
    }

    /// The last shard.
    #[must_use]
    pub fn last(&self) -> Option<usize> {
        self.0.last().map(|range| *range.end())
    }

    /// Plan indices, ascending.
    pub fn iter(&self) -> impl Iterator<Item = usize> {
        self.0.iter().cloned().flatten()
    }

    /// The first ranges as text, and whether there are more.
    pub(crate) fn first(&self, num_ranges: usize) -> String {
        let first = Self(self.0.iter().take(num_ranges).cloned().collect());
        let more = if self.0.len() > num_ranges {
            ",... (all: `tap dataset status`)"
        } else {
            ""
        };
        format!("{first}{more}")
    }

    /// Adds shards behind those that there are, if they start no earlier.
    fn push(&mut self, next: RangeInclusive<usize>) {
        match self.0.last_mut() {
            Some(last) if *next.start() <= last.end().saturating_add(1) => {
                *last = *last.start()..=*last.end().max(next.end());
            }
            _ => self.0.push(next),
        }
    }
}

impl FromIterator<usize> for ShardRanges {
    fn from_iter<Shards: IntoIterator<Item = usize>>(shards: Shards) -> Self {
        let mut shards: Vec<usize> = shards.into_iter().collect();
        shards.sort_unstable();
        let mut ranges = Self::default();
        for shard in shards {
            ranges.push(shard..=shard);
        }
        ranges
    }
}

impl fmt::Display for ShardRanges {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (idx, range) in self.0.iter().enumerate() {
            let comma = if idx > 0 { "," } else { "" };
            let (first, last) = (range.start(), range.end());
            if first == last {
                write!(f, "{comma}{first}")?;
            } else {
                write!(f, "{comma}{first}-{last}")?;
            }
        }
        Ok(())
    }
}

impl FromStr for ShardRanges {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let range = |text: &str| {
            let (first, last) = text.split_once('-').unwrap_or((text, text));
            let range = first.trim().parse().ok()?..=last.trim().parse().ok()?;
            (!range.is_empty()).then_some(range)
        };
        let parsed: Option<Vec<RangeInclusive<usize>>> = text.split(',').map(range).collect();
        let mut parsed = parsed.ok_or_else(|| NameError::Shards {
            text: text.to_owned(),
        })?;
        parsed.sort_by_key(|range| *range.start());
        let mut ranges = Self::default();
        for range in parsed {
            ranges.push(range);
        }
        Ok(ranges)
    }
}

impl Serialize for ShardRanges {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    #[test]
    fn ranges_parse_what_they_print() {
        for (text, printed, num) in [
            ("0", "0", 1),
            ("0-3,7", "0-3,7", 5),
            ("7, 2-3,0-1", "0-3,7", 5),
            ("0-5,2-3,6", "0-6", 7),
        ] {
            let ranges: ShardRanges = text.parse().unwrap();
            assert_eq!(
                (ranges.to_string().as_str(), ranges.len()),
                (printed, num),
                "{text}"
            );
            assert_eq!(ranges.iter().collect::<ShardRanges>(), ranges, "{text}");
        }
        for text in ["", "3-2", "a", "1-", "-1", "1,,2"] {
            text.parse::<ShardRanges>().unwrap_err();
        }
    }
}
