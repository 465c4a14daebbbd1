//! [`begin_build`] and [`build_unit`]: one data set, built by several machines in its final place.
//!
//! [`begin_build`] lists the objects and writes the plan: a manifest without a shard, as every build writes it first, and the
//! list of objects. A [unit](build_unit) is any few shards of the plan. Units write shards and journal entries side by side, without
//! a lock and without waiting for each other; a shard that two of them make is written twice with the same bytes.
//! [`finish_build`](crate::finish_build) makes the manifest of the journal, and so does an ordinary [`build`](crate::build()), which
//! first builds what is missing.

use std::io::{BufRead, Write};
use std::ops::Range;
use std::path::Path;
use std::sync::atomic::AtomicBool;

use tap_render::{BackendChoice, RendererOptions};

use super::{
    Assignment, BuildEvent, BuildOptions, BuildSummary, StageClock, adapter_of, build_assigned, new_plan,
    refuse_empty, start_renderer, to_value, try_build,
};
use crate::error::{BuildError, DatasetError, ManifestError, Result};
use crate::manifest::{BuildPart, Manifest, PLAN_FILE_NAME, ShardRanges};
use crate::recipe::BuildRecipe;
use crate::schema::{ShardHeader, Split};
use crate::source::{Place, Source, slash_path};
use crate::writer::{
    Access, BuildStatus, DatasetPlan, DatasetWriter, Keep, PlanFile, PlannedObject, begin, build_status,
    check_unit_plan, num_shards, shard_ranges,
};

/// Which shards a unit builds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UnitShards {
    /// These shards.
    Ranges(ShardRanges),
    /// The shards of one of several equal shares, those of a [part](BuildPart) with the same numbers.
    Share(BuildPart),
}

impl UnitShards {
    /// Plan indices, which may be beyond the plan.
    fn of(&self, num_planned: usize) -> ShardRanges {
        match self {
            Self::Ranges(ranges) => ranges.clone(),
            Self::Share(share) => share.shards(num_planned).collect(),
        }
    }
}

/// Begins a build for several machines in `options.out`: the plan, and no shard. A build that was begun with the same plan
/// stays as it is.
///
/// # Errors
/// As [`build`](crate::build()), and when the source has no path.
pub fn begin_build(source: &Source, recipe: &BuildRecipe, options: &BuildOptions) -> Result<BuildStatus> {
    recipe.validate()?;
    refuse_empty(source)?;
    let place = source.place().ok_or(BuildError::NotOnDisk)?;
    let renderer = start_renderer(recipe, &options.renderer)?;
    let plan = new_plan(source, recipe, adapter_of(renderer.as_ref()), None);
    let manifest = begin(&options.out, &plan, options.force)?;
    let now = build_status(&options.out)?;
    if !now.is_complete {
        let objects = source.objects().iter().map(|object| PlannedObject {
            split: object.split,
            path: slash_path(&object.path),
            bytes: object.bytes,
            id: object.id,
        });
        let num_objects = Split::ALL.map(|split| source.num_objects(split));
        PlanFile::write(&options.out, &manifest, to_value(place), num_objects, objects)?;
    }
    Ok(BuildStatus {
        is_begun: !now.is_complete,
        ..now
    })
}

/// Builds some shards of the build that was begun in `options.out`, or what is missing of them. The summary is of these
/// shards alone. The meshes are where the plan says, or in `source` on this machine; what renders by default is what
/// rendered for the plan.
///
/// # Errors
/// When no build was begun there, the program, the adapter or a mesh is another than that of the plan, the plan has no
/// such shard, or as [`build`](crate::build()).
pub fn build_unit(
    shards: &UnitShards,
    source: Option<&Path>,
    options: &BuildOptions,
    cancel: &AtomicBool,
    on_event: &mut dyn FnMut(BuildEvent),
) -> Result<BuildSummary> {
    let dir = &options.out;
    let manifest = Manifest::read_alone(dir)?;
    let begun = DatasetPlan::of(&manifest);
    // Another version may not even understand the recipe.
    check_unit_plan(dir, &manifest, &begun)?;
    let recipe = BuildRecipe::of(&manifest, dir)?;
    let renderer = start_renderer(&recipe, &as_planned(&manifest, options))?;
    let plan = DatasetPlan {
        header: ShardHeader {
            layout: recipe.row_layout(),
            recipe: to_value(&recipe),
            adapter: adapter_of(renderer.as_ref()),
            ..begun.header
        },
        ..begun
    };
    check_unit_plan(dir, &manifest, &plan)?;
    let num_shards = manifest.assigned_shards().len();
    let shards = shards.of(num_shards);
    if let Some(shard) = shards.last().filter(|shard| *shard >= num_shards) {
        return Err(DatasetError::Build(BuildError::NoSuchShard {
            shard,
            num_shards,
            path: dir.clone(),
        }));
    }
    if manifest.is_complete() {
        let writer = DatasetWriter::open_with(dir, &plan, Access::Beside(&shards), Keep::Present)?;
        if writer.missing_shards().len() == 0 {
            return Ok(BuildSummary {
                is_complete: true,
                manifest: writer.finish()?,
                timings: StageClock::start().timings(options.num_workers()),
            });
        }
    }
    let (source, places) = read_objects(dir, &manifest, &recipe, &shards, source)?;
    let assignment = Assignment {
        source: &source,
        recipe: &recipe,
        plan,
        shards: shards.iter().zip(places).collect(),
        beside: Some(&shards),
    };
    build_assigned(&assignment, renderer, options, cancel, on_event)
}

/// Tries objects of shards of a build that was begun: the other side of the [`TrialCommand`](super::TrialCommand) of
/// [`build_unit`], as [`try_build`].
///
/// # Errors
/// As [`build_unit`] and [`try_build`].
pub fn try_unit(
    shards: &UnitShards,
    source: Option<&Path>,
    options: &BuildOptions,
    input: impl BufRead,
    output: impl Write,
) -> Result<()> {
    let dir = &options.out;
    let manifest = Manifest::read_alone(dir)?;
    check_unit_plan(dir, &manifest, &DatasetPlan::of(&manifest))?;
    let recipe = BuildRecipe::of(&manifest, dir)?;
    let options = BuildOptions {
        renderer: as_planned(&manifest, options),
        ..options.clone()
    };
    let shards = shards.of(manifest.assigned_shards().len());
    let (source, _) = read_objects(dir, &manifest, &recipe, &shards, source)?;
    try_build(&source, &recipe, &options, input, output)
}

/// What renders by default is what rendered for the plan.
fn as_planned(manifest: &Manifest, options: &BuildOptions) -> RendererOptions {
    let mut renderer = options.renderer.clone();
    if renderer.backend == BackendChoice::Auto && manifest.adapter["backend"] == "cpu" {
        renderer.backend = BackendChoice::Cpu;
    }
    renderer
}

/// The objects of some shards of a build that was begun, and which of them each shard is made of.
fn read_objects(
    dir: &Path,
    manifest: &Manifest,
    recipe: &BuildRecipe,
    shards: &ShardRanges,
    path: Option<&Path>,
) -> Result<(Source, Vec<Range<usize>>)> {
    let list = PlanFile::open(dir)?.filter(|list| list.belongs_to(manifest));
    let list = list.ok_or_else(|| BuildError::NotBegun { path: dir.to_owned() })?;
    let damaged = |detail: String| {
        let path = dir.join(PLAN_FILE_NAME);
        DatasetError::Manifest(ManifestError::Plan { detail, path })
    };
    if num_shards(recipe.rows_per_shard, |split| list.num_objects(split)) != manifest.num_shards {
        return Err(damaged("it has other shards than the manifest".to_owned()));
    }
    let place: Place = serde_json::from_value(list.source().clone()).map_err(|e| damaged(e.to_string()))?;
    let all = shard_ranges(recipe.rows_per_shard, |split| list.num_objects(split));
    let in_list: Vec<Range<usize>> = shards.iter().map(|shard| all[shard].clone()).collect();
    let objects = list.objects(&in_list)?;
    let source = Source::from_plan(manifest, &place, path, objects)?;
    let mut start = 0;
    let in_source = in_list.iter().map(|objects| {
        let end = start + objects.len();
        std::mem::replace(&mut start, end)..end
    });
    let in_source = in_source.collect();
    Ok((source, in_source))
}
