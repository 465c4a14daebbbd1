//! [`plan`]: estimates rows, bytes, time and memory of a build from a sample of its objects.
//!
//! The sample is built with the same settings and workers into a temporary folder. It is stratified by file
//! size, because a few large meshes cost as much as many small ones. The window of consecutive objects with
//! the largest files, as many as a build has in flight, is built too: that is where memory peaks.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Instant;

use serde::Serialize;
use tap_render::DEFAULT_IN_FLIGHT;

use crate::builder::{BuildEvent, BuildOptions, build};
use crate::error::{BuildError, DatasetError, Result};
use crate::image::Mask1Bit;
use crate::manifest::SkippedObject;
use crate::recipe::{BuildRecipe, MAX_ROWS_PER_SHARD};
use crate::schema::{ColumnSet, RowLayout};
use crate::shard::ShardWriter;
use crate::source::Source;
use crate::store;
use crate::writer::num_shards;

/// Fraction of the objects in the sample.
const SAMPLE_FRACTION: f64 = 0.01;
/// Smallest sample size.
const MIN_SAMPLE: usize = 16;
/// Largest sample size.
const MAX_SAMPLE: usize = 400;
/// Required free space relative to the estimate.
const FREE_SPACE_MARGIN: f64 = 1.05;
/// Size of a data set from which on small shards are a burden: their files are many to list, to open and to keep.
const LARGE_BYTES: f64 = (16_u64 << 30) as f64;
/// Size of a shard that is recommended for a large data set, at most; at least half of it.
const RECOMMENDED_SHARD_BYTES: f64 = (128_u64 << 20) as f64;
/// Shards that differ from a recommended one by less than this factor are left alone.
const SIZE_TOLERANCE: f64 = 2.0;
/// Bytes of an object that is listed in a file beside the manifest, about.
const LISTED_OBJECT_BYTES: f64 = 150.0;
/// Bound on the bytes of a row besides points and images, including its footer metadata.
const MAX_ROW_OVERHEAD_BYTES: u64 = 1 << 14;
/// Bound on the growth of incompressible data by PNG or LZ4.
const MAX_CODEC_OVERHEAD_BYTES: u64 = 1 << 10;

/// Estimate of a build.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PlanReport {
    /// Objects of the source.
    pub num_objects: usize,
    /// Objects skipped before any mesh is read.
    pub num_left_out: usize,
    /// Objects in the sample.
    pub num_sampled: usize,
    /// Skipped objects of the sample.
    pub sampled_skips: Vec<SkippedObject>,
    /// Estimated rows.
    pub num_rows: usize,
    /// Planned shards.
    pub num_shards: usize,
    /// Estimated size of shards and manifest.
    pub bytes: u64,
    /// Estimated size of a row.
    pub bytes_per_row: f64,
    /// Rows a shard, a power of two, with which the shards of a large data set have 64 to 128 MiB; `None` if the data set is
    /// small or its shards have about that size.
    pub recommended_rows_per_shard: Option<usize>,
    /// Estimated seconds of the whole build.
    pub elapsed_s: f64,
    /// Measured throughput.
    pub objects_per_s: f64,
    /// Peak resident memory in bytes; `None` where the system does not report it.
    pub peak_memory_bytes: Option<u64>,
    /// Free bytes at the output folder; `None` where the system does not report it.
    pub free_bytes: Option<u64>,
    /// Adapter that renders; `None` if nothing is rendered.
    pub adapter: Option<String>,
}

impl PlanReport {
    /// Whether the dataset fits into the free space; `true` if that is unknown.
    #[must_use]
    pub fn fits(&self) -> bool {
        self.free_bytes.is_none_or(|free| self.needed_bytes() <= free)
    }

    /// Estimate with a safety margin.
    #[must_use]
    pub fn needed_bytes(&self) -> u64 {
        (self.bytes as f64 * FREE_SPACE_MARGIN) as u64
    }
}

/// Estimates a build into `options.out`, which is not touched. `None` if cancelled.
///
/// # Errors
/// As [`build`](crate::build()): when no adapter can render, or every sampled object is skipped.
pub fn plan(
    source: &Source,
    recipe: &BuildRecipe,
    options: &BuildOptions,
    cancel: &AtomicBool,
    on_event: &mut dyn FnMut(BuildEvent),
) -> Result<Option<PlanReport>> {
    let num_objects = source.objects().len();
    let num_sampled = ((num_objects as f64 * SAMPLE_FRACTION).ceil() as usize)
        .clamp(MIN_SAMPLE, MAX_SAMPLE)
        .min(num_objects);
    let mut adapter = None;
    let mut started = Instant::now();
    let scratch = TempFolder::create()?;
    let sample = source.subset(&stratified_by_size(source, num_sampled));
    let sample_options = |name| BuildOptions {
        out: scratch.0.join(name),
        part: None,
        force: false,
        ignore_free_space: true,
        // Of the objects of another source.
        trial: None,
        ..options.clone()
    };
    let summary = build(&sample, recipe, &sample_options("sample"), cancel, &mut |event| {
        if let BuildEvent::Started { adapter: name, .. } = &event {
            adapter.clone_from(name);
            // Device setup is paid once and excluded from the rate.
            started = Instant::now();
        }
        on_event(event);
    })?;
    let sample_s = started.elapsed().as_secs_f64();
    if !summary.is_complete {
        return Ok(None);
    }
    let stretch = largest_window(source, 3 * options.num_workers() + DEFAULT_IN_FLIGHT);
    if stretch.len() < num_objects {
        let heaviest = build(
            &source.subset(&stretch),
            recipe,
            &sample_options("heaviest"),
            cancel,
            &mut |_| {},
        );
        match heaviest {
            // All objects of the window may be bad; their memory was measured anyway.
            Ok(_) | Err(DatasetError::Build(BuildError::AllSkipped { .. })) => {}
            Err(e) => return Err(e),
        }
    }

    let scale = num_objects as f64 / num_sampled.max(1) as f64;
    let sampled_rows = summary.num_rows();
    let shard_bytes: u64 = summary.manifest.shards.iter().map(|shard| shard.bytes).sum();
    let manifest_bytes = summary.manifest.to_json().len() as f64;
    // The constant size of a shard would be overweighted in a small sample.
    let empty = ShardWriter::create(&scratch.0, "empty.parquet", &summary.manifest.header())?.finish()?;
    let empty_bytes = empty.bytes as f64;
    let of_rows = shard_bytes as f64 - empty_bytes * summary.manifest.shards.len() as f64;
    let bytes_per_row = of_rows.max(0.0) / sampled_rows.max(1) as f64;
    let num_rows = (sampled_rows as f64 * scale).round() as usize;
    let num_shards: usize = num_shards(recipe.rows_per_shard, |split| source.num_objects(split))
        .iter()
        .map(|count| count.shards)
        .sum();
    let manifest_bytes = if num_objects > recipe.max_objects_in_manifest {
        num_objects as f64 * LISTED_OBJECT_BYTES
    } else {
        manifest_bytes * scale
    };
    let bytes = bytes_per_row * num_rows as f64 + empty_bytes * num_shards as f64 + manifest_bytes;
    Ok(Some(PlanReport {
        num_objects,
        num_left_out: source.skipped().len(),
        num_sampled,
        sampled_skips: summary
            .manifest
            .first_skipped(MAX_SAMPLE)?
            .into_iter()
            .filter(|skip| skip.shard.is_some())
            .collect(),
        num_rows,
        num_shards,
        bytes: bytes as u64,
        bytes_per_row,
        recommended_rows_per_shard: recommended_rows_per_shard(bytes, bytes_per_row, recipe.rows_per_shard),
        elapsed_s: sample_s * scale,
        objects_per_s: num_sampled as f64 / sample_s.max(1e-9),
        peak_memory_bytes: peak_memory_bytes(),
        free_bytes: free_bytes_at(&options.out),
        adapter,
    }))
}

/// As documented at [`PlanReport::recommended_rows_per_shard`].
fn recommended_rows_per_shard(bytes: f64, bytes_per_row: f64, rows_per_shard: usize) -> Option<usize> {
    if bytes < LARGE_BYTES {
        return None;
    }
    let most = (RECOMMENDED_SHARD_BYTES / bytes_per_row.max(1.0)) as usize;
    let recommended = 1_usize << most.clamp(1, MAX_ROWS_PER_SHARD).ilog2();
    let factor = recommended as f64 / rows_per_shard as f64;
    (factor >= SIZE_TOLERANCE || factor <= SIZE_TOLERANCE.recip()).then_some(recommended)
}

/// Fails if the build does not fit on the disk.
///
/// Estimates from a sample only if incompressible images would not fit.
pub(crate) fn check_free_space(
    source: &Source,
    recipe: &BuildRecipe,
    options: &BuildOptions,
    num_missing: usize,
    cancel: &AtomicBool,
) -> Result<()> {
    let Some(free) = free_bytes_at(&options.out) else {
        return Ok(());
    };
    if num_missing as u64 * max_row_bytes(&recipe.row_layout()) <= free {
        return Ok(());
    }
    let Some(report) = plan(source, recipe, options, cancel, &mut |_| {})? else {
        return Ok(());
    };
    let fraction = num_missing as f64 / source.objects().len().max(1) as f64;
    let needed = (report.needed_bytes() as f64 * fraction) as u64;
    if needed <= free {
        return Ok(());
    }
    Err(DatasetError::Build(BuildError::NotEnoughDiskSpace {
        needed,
        free,
        rows: (report.num_rows as f64 * fraction).round() as usize,
        path: options.out.clone(),
    }))
}

/// Upper bound on the size of a row.
fn max_row_bytes(layout: &RowLayout) -> u64 {
    let RowLayout {
        num_points,
        num_views,
        image_size_px,
        columns,
    } = *layout;
    let size_px = u64::from(image_size_px);
    let plane = size_px * (size_px + 1) + size_px * size_px / 64;
    let mask = Mask1Bit::num_bytes(image_size_px) as u64;
    // Normals and depth are four 16-bit planes, albedo three 8-bit ones.
    let mut num_planes = 1;
    num_planes += if columns.has(ColumnSet::Gbuffer) { 8 } else { 0 };
    num_planes += if columns.has(ColumnSet::GbufferAlbedo) {
        3
    } else {
        0
    };
    let view = num_planes * (plane + MAX_CODEC_OVERHEAD_BYTES) + mask + MAX_CODEC_OVERHEAD_BYTES + 128;
    num_points as u64 * 25 + num_views as u64 * view + MAX_ROW_OVERHEAD_BYTES
}

/// Free bytes at the nearest existing parent folder; `None` for object stores, which have no limit.
fn free_bytes_at(path: &Path) -> Option<u64> {
    if store::is_url(path) {
        return None;
    }
    let path = std::path::absolute(path).ok()?;
    path.ancestors()
        .find(|folder| folder.is_dir())
        .and_then(free_bytes)
}

/// Free bytes available to the user on the file system of `dir`; `None` where the system does not report it.
fn free_bytes(dir: &Path) -> Option<u64> {
    #[cfg(unix)]
    return rustix::fs::statvfs(dir)
        .ok()
        .map(|disk| disk.f_bavail * disk.f_frsize);
    #[cfg(not(unix))]
    return {
        let _ = dir;
        None
    };
}

/// Indices stratified by file size: the median of each of `num` equal ranges of the size-sorted list.
fn stratified_by_size(source: &Source, num: usize) -> Vec<usize> {
    let mut by_size: Vec<(u64, usize)> = source.objects().listed_bytes().zip(0..).collect();
    by_size.sort_unstable();
    let len = by_size.len();
    let mut chosen: Vec<usize> = (0..num)
        .map(|k| by_size[((2 * k + 1) * len / (2 * num)).min(len - 1)].1)
        .collect();
    chosen.sort_unstable();
    chosen
}

/// The `len` consecutive objects with the largest total file size.
fn largest_window(source: &Source, len: usize) -> Vec<usize> {
    let bytes: Vec<u64> = source.objects().listed_bytes().collect();
    let len = len.min(bytes.len());
    let starts = 0..=bytes.len() - len;
    let start = starts.max_by_key(|&start| bytes[start..start + len].iter().sum::<u64>());
    let start = start.unwrap_or(0);
    (start..start + len).collect()
}

/// Peak resident memory of this process, from `/proc`.
pub(crate) fn peak_memory_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

/// A temporary folder, removed on drop.
#[derive(Debug)]
struct TempFolder(PathBuf);

impl TempFolder {
    fn create() -> Result<Self> {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("tap-plan-{}-{count}", std::process::id()));
        std::fs::create_dir(&path).map_err(DatasetError::io("create the folder", &path))?;
        Ok(Self(path))
    }
}

impl Drop for TempFolder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_data_sets_get_shards_of_64_to_128_mib() {
        let gib = f64::from(1 << 30);
        for (bytes, bytes_per_row, rows_per_shard, recommended) in [
            (870.0 * gib, 87_000.0, 128, Some(1024)),
            (870.0 * gib, 87_000.0, 1024, None),
            (870.0 * gib, 87_000.0, 4096, Some(1024)),
            (3000.0 * gib, 303_000.0, 128, Some(256)),
            (3000.0 * gib, 300e6, 128, Some(1)),
            (20.0 * gib, 0.0, 128, Some(MAX_ROWS_PER_SHARD)),
            (4.6 * gib, 87_000.0, 128, None),
        ] {
            let found = recommended_rows_per_shard(bytes, bytes_per_row, rows_per_shard);
            assert_eq!(found, recommended, "{bytes} {bytes_per_row} {rows_per_shard}");
            if let Some(rows) = found.filter(|rows| (2..MAX_ROWS_PER_SHARD).contains(rows)) {
                let mib = rows as f64 * bytes_per_row / f64::from(1 << 20);
                assert!((64.0..=128.0).contains(&mib), "{mib}");
            }
        }
    }
}
