//! Reading datasets: rows at random ([`Dataset`]), and as a stream in the order of an epoch ([`Reader`], [`Stream`]).
//!
//! The order is computed place by place ([`Permutation`], [`Order`]), so a dataset of any size is shuffled in no memory, a
//! stream begins anywhere at once, and nothing depends on the number of threads.

mod block_shuffle;
mod dataset;
mod open_shards;
mod order;
mod permutation;
mod prefetch;
mod stream;

pub use block_shuffle::{BlockShuffle, DEFAULT_BLOCK_ROWS, DEFAULT_WINDOW_BLOCKS};
pub use dataset::Dataset;
pub use order::{Order, Place};
pub use permutation::Permutation;
pub use stream::{DEFAULT_READ_AHEAD_BYTES, Reader, Stream, StreamSample, StreamState};
