//! [`BuildPart`]: one part of a build that is distributed over several machines.
//!
//! A part consists of whole shards selected by plan index alone, so all parts together are byte-identical to
//! a build on one machine.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::NameError;

/// Limit on the number of parts.
const MAX_PARTS: usize = 100_000;

/// Part `index` of `count`, written `2/8` on the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BuildPart {
    /// Part number, from 1.
    pub index: usize,
    /// Number of parts.
    pub count: usize,
}

impl BuildPart {
    /// Whether the shard with this plan index belongs to this part. Shards are assigned round-robin:
    /// neighbors share a category and cost about the same, so parts get similar work.
    #[must_use]
    pub fn has(self, shard: usize) -> bool {
        shard % self.count == self.index - 1
    }

    /// Plan indices of this part's shards.
    pub(crate) fn shards(self, num_planned: usize) -> impl Iterator<Item = usize> {
        (0..num_planned).filter(move |&shard| self.has(shard))
    }

    pub(crate) fn check(self) -> Result<(), String> {
        if (1..=MAX_PARTS).contains(&self.count) && (1..=self.count).contains(&self.index) {
            Ok(())
        } else {
            Err(format!("invalid part {self}"))
        }
    }
}

impl fmt::Display for BuildPart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.index, self.count)
    }
}

impl FromStr for BuildPart {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let part = || {
            let (index, count) = text.split_once('/')?;
            let part = Self {
                index: index.trim().parse().ok()?,
                count: count.trim().parse().ok()?,
            };
            part.check().is_ok().then_some(part)
        };
        part().ok_or_else(|| NameError::Part {
            text: text.to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    #[test]
    fn every_shard_is_of_one_part() {
        for count in 1..9 {
            let parts = (1..=count).map(|index| BuildPart { index, count });
            let mut shards: Vec<usize> = parts.flat_map(|part| part.shards(7)).collect();
            shards.sort_unstable();
            assert_eq!(shards, (0..7).collect::<Vec<_>>(), "{count} parts");
        }
    }

    #[test]
    fn parts_parse_what_they_print() {
        let part: BuildPart = "2/8".parse().unwrap();
        assert_eq!((part.index, part.count, part.to_string().as_str()), (2, 8, "2/8"));
        for text in ["0/8", "9/8", "2", "2/", "1/0", "a/b", "-1/2"] {
            text.parse::<BuildPart>().unwrap_err();
        }
    }
}
