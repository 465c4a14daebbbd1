//! One Parquet file of samples.

mod decode;
mod encode;
mod float_order;
#[cfg(feature = "build")]
mod infer;
mod projection;
mod reader;
mod row_pages;
mod statistics;
mod value;
mod writer;

pub use decode::RowStats;
#[cfg(feature = "build")]
pub(crate) use infer::{InferredShard, infer_shard};
pub use projection::Projection;
pub(crate) use reader::SPLIT;
#[cfg(feature = "build")]
pub(crate) use reader::metadata_header;
pub use reader::{ShardReader, ViewSelection};
pub use writer::{ShardDigest, ShardWriter};

/// Rows per row group: small, for seeking and for the writer's memory.
pub const ROW_GROUP_ROWS: usize = 64;
