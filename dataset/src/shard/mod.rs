//! One Parquet file of samples.

mod decode;
mod encode;
mod float_order;
mod reader;
mod value;
mod writer;

pub use decode::RowStats;
pub use reader::{ShardReader, ViewSelection};
pub use writer::{ShardDigest, ShardWriter};

/// Rows per row group: small, for seeking and for the writer's memory.
pub const ROW_GROUP_ROWS: usize = 64;
