//! One Parquet file: samples in, samples out.

mod column;
mod reader;
mod writer;

pub use column::RowFacts;
pub use reader::{ShardReader, ViewSelection};
pub use writer::{ShardDigest, ShardWriter};

/// Rows of a row group: few, so that a reader can seek and a writer holds little.
pub const ROW_GROUP_ROWS: usize = 64;
