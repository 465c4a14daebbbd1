//! [`read_in_order`]: something of every shard, read in parallel and taken in order, a few shards in memory.

use std::path::Path;
use std::sync::atomic::AtomicBool;

use crate::error::Result;
use crate::manifest::{Manifest, ShardEntry};
use crate::pipeline::{in_order_within, num_threads};
use crate::shard::ShardReader;
use crate::store::{self, NUM_REQUESTS};

/// Calls `take` with what `read` says of each shard, in the order of the manifest.
///
/// # Errors
/// When a shard is missing or damaged.
pub(super) fn read_in_order<T: Send>(
    dir: &Path,
    manifest: &Manifest,
    read: fn(&ShardReader) -> Result<T>,
    take: &mut dyn FnMut(&ShardEntry, T),
) -> Result<()> {
    let num_threads = if store::is_url(dir) {
        NUM_REQUESTS
    } else {
        num_threads(0)
    };
    let read = |shard: usize| {
        read(&ShardReader::open_of(
            manifest,
            &dir.join(&manifest.shards[shard].file),
        )?)
    };
    let never = AtomicBool::new(false);
    in_order_within(
        num_threads,
        2 * num_threads,
        manifest.shards.len(),
        &never,
        read,
        &mut |shard, found| {
            take(&manifest.shards[shard], found);
            Ok(())
        },
    )?;
    Ok(())
}
