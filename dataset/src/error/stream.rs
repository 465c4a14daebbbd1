//! Errors of reading rows in the order of an epoch.

use std::path::PathBuf;

/// Rows that cannot be chosen, ordered or streamed as asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StreamError {
    /// A column that no dataset of this program has.
    #[error("no column \"{name}\"; there are: {columns}")]
    UnknownColumn {
        /// Name that was asked for.
        name: String,
        /// Names of the columns that the rows have.
        columns: String,
    },
    /// A weight that is no share.
    #[error("a weight of {weight}: a weight is between 0.000001 and 10^9")]
    Weight {
        /// The weight.
        weight: f64,
    },
    /// A mixture of datasets with and without a weight.
    #[error(
        "some datasets of the mixture have a weight and others have none; give each one a weight, or none"
    )]
    WeightMissing,
    /// A dataset of a mixture gives no rows.
    #[error("a dataset of the mixture has no rows")]
    EmptyShare,
    /// A dataset has no rows in the split, or none of which the condition is true.
    #[error("no row of split {split}{condition}: {}", .path.display())]
    NoRows {
        /// The split.
        split: &'static str,
        /// " where ...", or empty.
        condition: String,
        /// Dataset folder.
        path: PathBuf,
    },
    /// A rank that is not below the number of ranks.
    #[error("rank {rank} of {num_ranks}: ranks are counted from 0")]
    Rank {
        /// The rank.
        rank: u64,
        /// Number of ranks.
        num_ranks: u64,
    },
    /// The state of a stream with another order.
    #[error("the state is of a stream with other data, another condition, other weights or another seed")]
    OtherOrder,
    /// The state of a stream is behind the end of its epoch.
    #[error("the state is damaged: position {position} in an epoch of {len}")]
    Position {
        /// The position.
        position: u64,
        /// Positions of an epoch.
        len: u64,
    },
}
