//! [`read_in_order`]: something of every shard, read in parallel and taken in order, a few shards in memory.

use std::convert::Infallible;
use std::path::Path;
use std::sync::atomic::AtomicBool;

use crate::error::{BuildError, DatasetError, Result};
use crate::manifest::{Manifest, ShardEntry};
use crate::pipeline::{Delivery, Limits, OneStage, num_threads, run};
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
    let limits = Limits {
        num_threads,
        max_items: 2 * num_threads,
        max_bytes: u64::MAX,
    };
    let read = |shard: usize, _: &dyn Fn(Infallible)| {
        read(&ShardReader::open_of(
            manifest,
            &dir.join(&manifest.shards[shard].file),
        )?)
    };
    let panicked = |_, message| Err(BuildError::WorkerPanicked(message).into());
    let job = OneStage::new(manifest.shards.len(), read, panicked);
    run(&job, limits, &AtomicBool::new(false), &mut |delivery| {
        match delivery {
            Delivery::Event(event) => match event {},
            Delivery::Output(shard, found) => take(&manifest.shards[shard], found),
        }
        Ok::<_, DatasetError>(())
    })?;
    Ok(())
}
