//! One Parquet file of samples.

mod column;
mod reader;
mod writer;

pub use column::RowStats;
pub use reader::{ShardReader, ViewSelection};
pub use writer::{ShardDigest, ShardWriter};

/// Rows per row group: small, for seeking and for the writer's memory.
pub const ROW_GROUP_ROWS: usize = 64;
