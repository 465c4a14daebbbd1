//! [`plan`]: what a build will come to, from a sample of its objects: rows, bytes, time and memory.
//!
//! The sample is built as the whole would be, with the same workers, into a folder that is removed again. It is drawn
//! evenly over the sizes of the meshes, because the few large ones cost as much as the many small ones. The heaviest
//! stretch of the list, as many neighbors as a build has in work at once, is built as well: that is where memory
//! peaks.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Instant;

use serde::Serialize;
use tap_render::DEFAULT_IN_FLIGHT;

use crate::dataset_writer::num_shards;
use crate::{
    BuildEvent, BuildOptions, BuildRecipe, DatasetError, Mask1Bit, Result, RowLayout, ShardWriter,
    SkippedObject, Source, build, durable, store,
};

/// The part of the objects that is built to see what the whole costs.
const SAMPLE_SHARE: f64 = 0.01;
/// Fewer would say little.
const MIN_SAMPLE: usize = 16;
/// More would say no more.
const MAX_SAMPLE: usize = 400;
/// How much more room than predicted a build asks for.
const ROOM_MARGIN: f64 = 1.05;
/// The most that a row holds beside points and pictures, and its part of the footer.
const MAX_ROW_REST_BYTES: u64 = 1 << 14;
/// The most that a PNG or a compressed mask is longer than its pixels.
const MAX_CODEC_REST_BYTES: u64 = 1 << 10;

/// What a build will come to.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PlanReport {
    /// Objects of the source.
    pub num_objects: usize,
    /// Objects that are left out before any mesh is read.
    pub num_left_out: usize,
    /// Objects that were built to find out.
    pub num_sampled: usize,
    /// Those of them that could not be used.
    pub sampled_skips: Vec<SkippedObject>,
    /// Rows.
    pub num_rows: usize,
    /// Shards.
    pub num_shards: usize,
    /// Bytes of all shards and the manifest.
    pub bytes: u64,
    /// Bytes of a row.
    pub bytes_per_row: f64,
    /// Seconds of the whole build.
    pub elapsed_s: f64,
    /// Objects in a second.
    pub objects_per_s: f64,
    /// Bytes of memory at the peak; `None` where the system doesn't say.
    pub peak_memory_bytes: Option<u64>,
    /// Bytes that are free where the dataset is to be written; `None` where the system doesn't say.
    pub free_bytes: Option<u64>,
    /// The adapter that draws.
    pub adapter: String,
}

impl PlanReport {
    /// Is there room for the dataset? Yes, where nobody knows.
    #[must_use]
    pub fn fits(&self) -> bool {
        self.free_bytes.is_none_or(|free| self.needed_bytes() <= free)
    }

    /// The room that a build asks for: somewhat more than is predicted.
    #[must_use]
    pub fn needed_bytes(&self) -> u64 {
        (self.bytes as f64 * ROOM_MARGIN) as u64
    }
}

/// Predicts a build into `options.out`, which is not touched. `None` if told to stop.
///
/// # Errors
/// As [`build`](crate::build()): when no adapter can draw, or none of the sampled objects can be used.
pub fn plan(
    source: &Source,
    recipe: &BuildRecipe,
    options: &BuildOptions,
    cancel: &AtomicBool,
    on_event: &mut dyn FnMut(BuildEvent),
) -> Result<Option<PlanReport>> {
    let num_objects = source.objects().len();
    let num_sampled = ((num_objects as f64 * SAMPLE_SHARE).ceil() as usize)
        .clamp(MIN_SAMPLE, MAX_SAMPLE)
        .min(num_objects);
    let mut adapter = String::new();
    let mut started = Instant::now();
    let scratch = ScratchFolder::create()?;
    let sample = source.subset(&evenly_by_size(source, num_sampled));
    let sample_options = |name| BuildOptions {
        out: scratch.0.join(name),
        part: None,
        force: false,
        ignore_free_space: true,
        ..options.clone()
    };
    let summary = build(&sample, recipe, &sample_options("sample"), cancel, &mut |event| {
        if let BuildEvent::Started { adapter: name, .. } = &event {
            adapter.clone_from(name);
            // Setting the device up is paid once, and is no part of the rate.
            started = Instant::now();
        }
        on_event(event);
    })?;
    let sample_s = started.elapsed().as_secs_f64();
    if !summary.is_complete {
        return Ok(None);
    }
    let stretch = heaviest_stretch(source, 3 * options.num_workers() + DEFAULT_IN_FLIGHT);
    if stretch.len() < num_objects {
        let heaviest = build(
            &source.subset(&stretch),
            recipe,
            &sample_options("heaviest"),
            cancel,
            &mut |_| {},
        );
        match heaviest {
            // All of a stretch may be broken; it has shown what it costs to find out.
            Ok(_) | Err(DatasetError::NothingSurvived { .. }) => {}
            Err(e) => return Err(e),
        }
    }

    let scale = num_objects as f64 / num_sampled.max(1) as f64;
    let sampled_rows = summary.num_rows();
    let shard_bytes: u64 = summary.manifest.shards.iter().map(|shard| shard.bytes).sum();
    let manifest_bytes = summary.manifest.to_json().len() as f64;
    // What a shard takes before its first row weighs more in the few rows of a sample.
    let empty = ShardWriter::create(&scratch.0, "empty.parquet", &summary.manifest.header())?.finish()?;
    let empty_bytes = empty.bytes as f64;
    let of_rows = shard_bytes as f64 - empty_bytes * summary.manifest.shards.len() as f64;
    let bytes_per_row = of_rows.max(0.0) / sampled_rows.max(1) as f64;
    let num_rows = (sampled_rows as f64 * scale).round() as usize;
    let of_split = |split| {
        source
            .objects()
            .iter()
            .filter(|object| object.split == split)
            .count()
    };
    let num_shards: usize = num_shards(recipe.rows_per_shard, of_split)
        .iter()
        .map(|count| count.shards)
        .sum();
    Ok(Some(PlanReport {
        num_objects,
        num_left_out: source.skipped().len(),
        num_sampled,
        sampled_skips: summary
            .manifest
            .skipped
            .iter()
            .filter(|skip| skip.shard.is_some())
            .cloned()
            .collect(),
        num_rows,
        num_shards,
        bytes: (bytes_per_row * num_rows as f64 + empty_bytes * num_shards as f64 + manifest_bytes * scale)
            as u64,
        bytes_per_row,
        elapsed_s: sample_s * scale,
        objects_per_s: num_sampled as f64 / sample_s.max(1e-9),
        peak_memory_bytes: peak_memory_bytes(),
        free_bytes: free_bytes_at(&options.out),
        adapter,
    }))
}

/// Refuses a build that the disk has no room for.
///
/// Where even incompressible pictures would fit, nothing needs to be tried; else a sample tells.
pub(crate) fn check_room(
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
    let share = num_missing as f64 / source.objects().len().max(1) as f64;
    let needed = (report.needed_bytes() as f64 * share) as u64;
    if needed <= free {
        return Ok(());
    }
    Err(DatasetError::DiskShort {
        needed,
        free,
        rows: (report.num_rows as f64 * share).round() as usize,
        path: options.out.clone(),
    })
}

/// No row is longer.
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
    // Normals and depth are four planes of two bytes, colors three of one.
    let mut num_planes = 1;
    num_planes += if columns.has_gbuffer() { 8 } else { 0 };
    num_planes += if columns.has_albedo() { 3 } else { 0 };
    let view = num_planes * (plane + MAX_CODEC_REST_BYTES) + mask + MAX_CODEC_REST_BYTES + 128;
    num_points as u64 * 25 + num_views as u64 * view + MAX_ROW_REST_BYTES
}

/// Free bytes where a folder is or would be made; object stores have no end.
fn free_bytes_at(path: &Path) -> Option<u64> {
    if store::is_address(path) {
        return None;
    }
    let path = std::path::absolute(path).ok()?;
    path.ancestors()
        .find(|folder| folder.is_dir())
        .and_then(durable::free_bytes)
}

/// Objects of every size: the middle one of each of `num` equal ranges of the list sorted by size.
fn evenly_by_size(source: &Source, num: usize) -> Vec<usize> {
    let objects = source.objects();
    let mut by_size: Vec<usize> = (0..objects.len()).collect();
    by_size.sort_by_key(|&i| (objects[i].bytes, i));
    let mut chosen: Vec<usize> = (0..num)
        .map(|k| by_size[((2 * k + 1) * objects.len() / (2 * num)).min(objects.len() - 1)])
        .collect();
    chosen.sort_unstable();
    chosen
}

/// The neighbors whose files are the longest together.
fn heaviest_stretch(source: &Source, len: usize) -> Vec<usize> {
    let bytes: Vec<u64> = source.objects().iter().map(|object| object.bytes).collect();
    let len = len.min(bytes.len());
    let starts = 0..=bytes.len() - len;
    let start = starts.max_by_key(|&start| bytes[start..start + len].iter().sum::<u64>());
    let start = start.unwrap_or(0);
    (start..start + len).collect()
}

/// The most memory that this program ever had.
pub(crate) fn peak_memory_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

/// A folder of the system's temporary ones, removed when dropped.
#[derive(Debug)]
struct ScratchFolder(PathBuf);

impl ScratchFolder {
    fn create() -> Result<Self> {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("tap-plan-{}-{count}", std::process::id()));
        std::fs::create_dir(&path).map_err(DatasetError::io("create the folder", &path))?;
        Ok(Self(path))
    }
}

impl Drop for ScratchFolder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
