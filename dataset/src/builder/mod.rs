//! [`build`]: a folder of meshes to a dataset.
//!
//! The build is a job of the [pipeline](crate::pipeline): [`prepare`](prepare::prepare) a mesh, render it,
//! [`encode`](encode::encode) a row, and write rows in plan order. The bytes therefore do not depend on the number
//! of workers. Without views there is one stage, and no renderer ([`points`]).
//!
//! What is built is an [`Assignment`]: all shards of a data set, those of a [part](BuildPart), or those of a
//! [unit](build_unit) of a build that several machines share.

mod encode;
mod plan;
mod points;
mod prepare;
mod skip_reason;
mod source_change;
mod thin;
mod timing;
mod trial;
mod unit;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io::{self, BufRead, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use tap_render::{BackendKind, CpuRenderer, RenderError, Renderer, RendererOptions, View};

use crate::error::{BuildError, DatasetError, Result, error_chain};
use crate::manifest::{BuildPart, Manifest, ShardEntry, ShardRanges, SkipReason, SkippedObject};
use crate::pipeline::{Delivery, Limits, MeshJob, catch_panic, num_threads, render_all, run};
use crate::recipe::BuildRecipe;
use crate::schema::{ObjectId, Sample, ShardHeader};
use crate::source::{DEFAULT_MAX_MESH_BYTES, MeshFiles, ReadAhead, Source, SourceObject, expected_bytes};
use crate::writer::Skipped as Skip;
use crate::writer::{Access, DatasetPlan, DatasetWriter, Keep, ObjectFile, num_shards, shard_ranges};
pub(crate) use encode::encode_color;
use plan::check_free_space;
use points::PointsJob;
use prepare::Prepared;
use source_change::{Changed, SourceChanges};
use timing::{Stage, StageClock};

pub use plan::{PlanReport, plan};
pub use timing::{BuildTimings, StageTiming};
pub use trial::TrialCommand;
pub use unit::{UnitShards, begin_build, build_unit, try_unit};

/// Limit on the total size of mesh files in flight.
pub const MAX_IN_FLIGHT_BYTES: u64 = 1 << 30;

/// Settings that do not affect the output bytes.
#[derive(Debug, Clone)]
pub struct BuildOptions {
    /// Output folder.
    pub out: PathBuf,
    /// Threads that prepare and encode; 0 means one per core.
    pub workers: usize,
    /// Backend and adapter.
    pub renderer: RendererOptions,
    /// Overwrite a different dataset in `out`.
    pub force: bool,
    /// Size limit for a mesh with the files it refers to; larger ones are skipped.
    pub max_mesh_bytes: u64,
    /// Build only this part; see [`merge`](crate::merge()).
    pub part: Option<BuildPart>,
    /// Do not check the free disk space first.
    pub ignore_free_space: bool,
    /// Have each object tried first by other processes, and skip those that end them. Then the free disk space is not
    /// checked.
    pub trial: Option<TrialCommand>,
}

impl BuildOptions {
    /// Builds in `out` with one worker per core and the best available renderer.
    #[must_use]
    pub fn new(out: PathBuf) -> Self {
        Self {
            out,
            workers: 0,
            renderer: RendererOptions::default(),
            force: false,
            max_mesh_bytes: DEFAULT_MAX_MESH_BYTES,
            part: None,
            ignore_free_space: false,
            trial: None,
        }
    }

    pub(crate) fn num_workers(&self) -> usize {
        num_threads(self.workers)
    }
}

/// Progress events of a build.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum BuildEvent {
    /// Start of the build.
    Started {
        /// Objects to process, including those finished by an earlier run.
        total: usize,
        /// Adapter that renders; `None` if nothing is rendered.
        adapter: Option<String>,
    },
    /// Objects finished by an earlier run.
    Resumed {
        /// Number of objects.
        objects: usize,
    },
    /// A shard of an earlier run is missing or damaged and will be rebuilt.
    ShardDamaged {
        /// File name.
        file: String,
    },
    /// Meshes, or files that they refer to, have changed since an earlier run; their shards will be rebuilt.
    SourceChanged {
        /// Object ids, sorted.
        objects: Vec<ObjectId>,
        /// Number of shards.
        num_shards: usize,
    },
    /// An object became a row.
    Done {
        /// Object id.
        id: ObjectId,
    },
    /// An object becomes a row, but something about its mesh is wrong or was left out.
    Warned {
        /// Object id.
        id: ObjectId,
        /// As in [`MeshIssues::warnings`](crate::MeshIssues::warnings), never empty.
        warnings: Vec<String>,
    },
    /// An object was skipped.
    Skipped {
        /// Object id, even if invalid.
        id: String,
        /// Reason code.
        reason: SkipReason,
        /// Human-readable detail.
        message: String,
    },
    /// A shard is finished.
    ShardWritten {
        /// File name.
        file: String,
        /// Number of rows.
        rows: usize,
        /// Length in bytes.
        bytes: u64,
    },
}

/// Outcome of a build.
#[derive(Debug, Clone, PartialEq)]
pub struct BuildSummary {
    /// Whether the dataset, or the requested part, is finished; `false` after cancellation, in which case the
    /// same call resumes.
    pub is_complete: bool,
    /// Manifest as written.
    pub manifest: Manifest,
    /// Time and memory used; not part of the dataset.
    pub timings: BuildTimings,
}

impl BuildSummary {
    /// Rows in all shards.
    #[must_use]
    pub fn num_rows(&self) -> usize {
        self.manifest.shards.iter().map(|shard| shard.rows).sum()
    }

    /// Number of objects lost unintentionally; see [`SkipReason::is_failure`].
    #[must_use]
    pub fn num_failed(&self) -> usize {
        self.manifest.num_failed()
    }
}

/// Builds a dataset, or resumes one: finished shards are kept if their sources have not changed since.
///
/// Set `cancel` to stop at any time; the current shard is discarded.
///
/// # Errors
/// When the recipe is invalid, no adapter can render, the output folder is not writable, full or holds
/// something else, or every object is skipped. Single bad objects are recorded in the manifest instead.
pub fn build(
    source: &Source,
    recipe: &BuildRecipe,
    options: &BuildOptions,
    cancel: &AtomicBool,
    on_event: &mut dyn FnMut(BuildEvent),
) -> Result<BuildSummary> {
    build_child(source, recipe, options, None, cancel, on_event)
}

/// Builds a dataset derived from the one with the hash `parent`.
pub(crate) fn build_child(
    source: &Source,
    recipe: &BuildRecipe,
    options: &BuildOptions,
    parent: Option<&str>,
    cancel: &AtomicBool,
    on_event: &mut dyn FnMut(BuildEvent),
) -> Result<BuildSummary> {
    recipe.validate()?;
    refuse_empty(source)?;
    let renderer = start_renderer(recipe, &options.renderer)?;
    let plan = DatasetPlan {
        parent: parent.map(str::to_owned),
        ..new_plan(source, recipe, adapter_of(renderer.as_ref()), options.part)
    };
    let shards = shard_ranges(recipe.rows_per_shard, |split| source.num_objects(split));
    let is_own = |shard: usize| options.part.is_none_or(|part| part.has(shard));
    let assignment = Assignment {
        source,
        recipe,
        plan,
        shards: shards
            .into_iter()
            .enumerate()
            .filter(|(shard, _)| is_own(*shard))
            .collect(),
        beside: None,
    };
    build_assigned(&assignment, renderer, options, cancel, on_event)
}

/// Tries objects of a source, without writing anything: the other side of a [`TrialCommand`]. Numbers of objects come in,
/// and go out when they were tried.
///
/// # Errors
/// When a line is no number of an object, the streams fail, or no adapter can render.
pub fn try_build(
    source: &Source,
    recipe: &BuildRecipe,
    options: &BuildOptions,
    input: impl BufRead,
    output: impl Write,
) -> Result<()> {
    recipe.validate()?;
    let clock = StageClock::start();
    trial::answer(input, output, source.objects().len(), |object| {
        let renderer = start_renderer(recipe, &options.renderer)?;
        let job = BuildJob {
            source,
            recipe,
            objects: vec![object],
            ahead: None,
            max_mesh_bytes: options.max_mesh_bytes,
            crashing: &BTreeSet::new(),
            clock: &clock,
        };
        run_job(&job, renderer, options, &AtomicBool::new(false), &mut |_| Ok(()))?;
        Ok(())
    })
}

/// Shards to build, and what they are made of.
struct Assignment<'a> {
    source: &'a Source,
    recipe: &'a BuildRecipe,
    plan: DatasetPlan,
    /// Objects of the source, by plan index of their shard.
    shards: BTreeMap<usize, Range<usize>>,
    /// The same shards, of a build that was begun; `None` if nobody else writes to the folder.
    beside: Option<&'a ShardRanges>,
}

/// Builds what is missing of the shards.
fn build_assigned(
    assignment: &Assignment<'_>,
    renderer: Option<Renderer>,
    options: &BuildOptions,
    cancel: &AtomicBool,
    on_event: &mut dyn FnMut(BuildEvent),
) -> Result<BuildSummary> {
    let Assignment {
        source,
        recipe,
        plan,
        shards,
        beside,
    } = assignment;
    let total = shards.values().map(Range::len).sum();
    on_event(BuildEvent::Started {
        total,
        adapter: renderer.as_ref().map(|renderer| renderer.adapter().to_string()),
    });

    let changes = SourceChanges::new(source, recipe, options.max_mesh_bytes, beside.is_none());
    let is_current = |shard: &ShardEntry| changes.is_current(&options.out, shard);
    let (access, keep) = match beside {
        None => (Access::Alone { force: options.force }, Keep::Current(&is_current)),
        Some(shards) => (Access::Beside(shards), Keep::Present),
    };
    let mut writer = DatasetWriter::open_with(&options.out, plan, access, keep)?;
    source.check_store()?;
    report_opened(source, &writer, changes.changed(), on_event);
    let shards: Vec<_> = writer
        .missing_shards()
        .map(|shard| shards[&shard].clone())
        .collect();
    let num_missing: usize = shards.iter().map(Range::len).sum();
    // The estimate builds a sample, in which an object may be that ends this process.
    if !options.ignore_free_space && options.trial.is_none() {
        check_free_space(source, recipe, options, num_missing, cancel)?;
    }
    if num_missing < total {
        on_event(BuildEvent::Resumed {
            objects: total - num_missing,
        });
    }
    let clock = StageClock::start();
    let objects: Vec<usize> = shards.iter().cloned().flatten().collect();
    let crashing = match &options.trial {
        Some(command) => trial::crashing(command, &objects, options.num_workers(), cancel)?,
        None => BTreeSet::new(),
    };
    let ahead = source.is_stored().then(|| {
        let reads_assets = recipe.render.needs_appearance();
        ReadAhead::start(source, &objects, reads_assets, options.max_mesh_bytes)
    });
    let job = BuildJob {
        source,
        recipe,
        objects,
        ahead: ahead.transpose()?,
        max_mesh_bytes: options.max_mesh_bytes,
        crashing: &crashing,
        clock: &clock,
    };
    let mut outcomes = OutcomeWriter {
        writer: &mut writer,
        changes: &changes,
        out: &options.out,
        clock: &clock,
        shards: shards.iter().map(Range::len).collect(),
    };
    let mut deliver = |delivery: Delivery<Outcome, RenderError>| match delivery {
        Delivery::Output(item, outcome) => {
            // Before anything is written: a row may lack a texture that the store did not give.
            source.check_store()?;
            outcomes.write(&job.object(item), outcome, on_event)
        }
        Delivery::Event(error) => {
            tracing::warn!(error = error_chain(&error), "the device failed");
            Ok(())
        }
    };
    let is_complete = run_job(&job, renderer, options, cancel, &mut deliver)?;
    let manifest = if is_complete {
        clock.time(Stage::Write, || writer.finish())?
    } else {
        writer.into_manifest()
    };
    Ok(BuildSummary {
        is_complete,
        manifest,
        timings: clock.timings(options.num_workers()),
    })
}

/// Refuses a source of which nothing can become a row.
fn refuse_empty(source: &Source) -> Result<()> {
    if !source.objects().is_empty() {
        return Ok(());
    }
    let reasons = source
        .skipped()
        .iter()
        .take(3)
        .map(|s| format!("{}: {}", s.id, s.message));
    let reasons = reasons.collect::<Vec<_>>().join("; ");
    Err(DatasetError::Build(BuildError::AllSkipped {
        num_objects: source.skipped().len(),
        reasons,
    }))
}

/// The renderer of a build; `None` without views.
fn start_renderer(recipe: &BuildRecipe, options: &RendererOptions) -> Result<Option<Renderer>> {
    let renderer = recipe.views.then(|| Renderer::try_new(options));
    Ok(renderer.transpose()?)
}

/// What renders, for the manifest.
fn adapter_of(renderer: Option<&Renderer>) -> serde_json::Value {
    to_value(&renderer.map(Renderer::adapter))
}

/// Runs a build, with a renderer if it has views; `false` if cancelled.
fn run_job(
    job: &BuildJob<'_>,
    renderer: Option<Renderer>,
    options: &BuildOptions,
    cancel: &AtomicBool,
    deliver: &mut dyn FnMut(Delivery<Outcome, RenderError>) -> Result<()>,
) -> Result<bool> {
    let num_threads = options.num_workers();
    let Some(renderer) = renderer else {
        let limits = Limits {
            num_threads,
            max_items: 3 * num_threads,
            max_bytes: MAX_IN_FLIGHT_BYTES,
        };
        return run(&PointsJob(job), limits, cancel, deliver);
    };
    let backend_kind = renderer.backend_kind();
    render_all(
        &RenderedJob { job, backend_kind },
        renderer,
        &options.renderer,
        num_threads,
        MAX_IN_FLIGHT_BYTES,
        cancel,
        deliver,
    )
}

/// Reports what is left out unread, and which shards of an earlier run are rebuilt.
fn report_opened(
    source: &Source,
    writer: &DatasetWriter,
    changed: Changed,
    on_event: &mut dyn FnMut(BuildEvent),
) {
    for SkippedObject {
        id, reason, message, ..
    } in source.skipped()
    {
        on_event(BuildEvent::Skipped {
            id: id.clone(),
            reason: *reason,
            message: message.clone(),
        });
    }
    let Changed { objects, shards } = changed;
    for file in writer
        .damaged_shards()
        .iter()
        .filter(|file| !shards.contains(*file))
    {
        on_event(BuildEvent::ShardDamaged { file: file.clone() });
    }
    if !objects.is_empty() {
        on_event(BuildEvent::SourceChanged {
            objects: objects.into_iter().collect(),
            num_shards: shards.len(),
        });
    }
}

fn new_plan(
    source: &Source,
    recipe: &BuildRecipe,
    adapter: serde_json::Value,
    part: Option<BuildPart>,
) -> DatasetPlan {
    DatasetPlan {
        header: ShardHeader {
            layout: recipe.row_layout(),
            classes: source.classes().to_vec(),
            parts: source.parts().names().to_vec(),
            recipe: to_value(recipe),
            adapter,
        },
        source: source.describe(),
        num_shards: num_shards(recipe.rows_per_shard, |split| source.num_objects(split)),
        part,
        parent: None,
        is_relit: false,
        skipped: source.skipped().to_vec(),
        has_list_files: false,
    }
    .listed_above(recipe.max_objects_in_manifest)
}

/// Recipes and adapter reports are plain data.
pub(crate) fn to_value(data: &impl serde::Serialize) -> serde_json::Value {
    serde_json::to_value(data).expect("plain data has a JSON form")
}

/// The job of a build: an object becomes a row.
struct BuildJob<'a> {
    source: &'a Source,
    recipe: &'a BuildRecipe,
    /// Objects to process, in write order; shards of an earlier run leave gaps.
    objects: Vec<usize>,
    /// Reads the meshes of a store.
    ahead: Option<ReadAhead>,
    max_mesh_bytes: u64,
    /// Objects of the source that end a process that tries them.
    crashing: &'a BTreeSet<usize>,
    clock: &'a StageClock,
}

/// A row, or why there is none.
type Outcome = Result<Box<Sample>, Skip>;

impl BuildJob<'_> {
    fn object(&self, item: usize) -> SourceObject {
        self.source.objects().get(self.objects[item])
    }

    /// Refuses an object that would end this process.
    fn require_tried(&self, item: usize) -> Result<(), Skip> {
        if self.crashing.contains(&self.objects[item]) {
            return Err(crashed(trial::MESSAGE.to_owned(), None));
        }
        Ok(())
    }

    /// Reads the mesh of an item; of a store with what it refers to.
    fn read(&self, item: usize) -> io::Result<MeshFiles> {
        if let Some(ahead) = &self.ahead {
            return ahead.take(item);
        }
        let bytes = self.source.read(&self.object(item), self.max_mesh_bytes)?;
        Ok(MeshFiles::alone(bytes))
    }

    fn size_bytes(&self, item: usize) -> u64 {
        let object = self.object(item);
        let bytes = object.bytes.map(|bytes| expected_bytes(&object.path, bytes));
        bytes.unwrap_or(self.max_mesh_bytes)
    }
}

/// An object whose processing panicked.
fn crashed(message: String, source_sha256: Option<String>) -> Skip {
    Skip {
        reason: SkipReason::Crashed,
        message,
        source_sha256,
    }
}

/// A build with views.
struct RenderedJob<'a> {
    job: &'a BuildJob<'a>,
    backend_kind: BackendKind,
}

impl MeshJob for RenderedJob<'_> {
    type Prepared = Prepared;
    type Output = Outcome;
    type Error = DatasetError;

    fn num_items(&self) -> usize {
        self.job.objects.len()
    }

    fn size_bytes(&self, item: usize) -> u64 {
        self.job.size_bytes(item)
    }

    fn prepare(&self, item: usize) -> Result<Prepared, Outcome> {
        self.job.require_tried(item).map_err(Err)?;
        let BuildJob {
            source,
            recipe,
            max_mesh_bytes,
            clock,
            ..
        } = *self.job;
        prepare::prepare(
            source,
            &self.job.object(item),
            &|| self.job.read(item),
            recipe,
            self.backend_kind,
            max_mesh_bytes,
            clock,
        )
        .map_err(Err)
    }

    fn render_on_cpu(&self, renderer: &CpuRenderer, prepared: &mut Prepared) -> Vec<View> {
        self.job.clock.time(Stage::Draw, || renderer.draw(&prepared.job))
    }

    fn finish(&self, item: usize, prepared: Prepared, views: &[View]) -> Result<Outcome> {
        let BuildJob { source, recipe, .. } = *self.job;
        let source_sha256 = Some(prepared.object.source_sha256.clone());
        let columns = recipe.row_layout().columns;
        let object = self.job.object(item);
        let encoded = self.job.clock.time(Stage::Encode, || {
            catch_panic(|| encode::encode(source, &object, prepared, views, columns))
        });
        let min_coverage = recipe.min_coverage;
        let low_coverage = |coverage: f32| Skip {
            reason: SkipReason::LowCoverage,
            message: format!("it covers {coverage} of an image, less than {min_coverage}"),
            source_sha256: source_sha256.clone(),
        };
        Ok(match encoded {
            Ok(Ok(Sample {
                coverage_min: Some(coverage),
                ..
            })) if coverage < min_coverage => Err(low_coverage(coverage)),
            Ok(Ok(sample)) => Ok(Box::new(sample)),
            Ok(Err(skip)) => Err(Skip {
                source_sha256,
                ..skip
            }),
            Err(message) => Err(crashed(message, source_sha256)),
        })
    }

    fn render_failed(&self, prepared: Prepared, error: &RenderError) -> Outcome {
        Err(Skip {
            reason: SkipReason::RenderFailed,
            message: error_chain(error),
            source_sha256: Some(prepared.object.source_sha256),
        })
    }

    fn panicked(&self, _: usize, message: String) -> Outcome {
        Err(crashed(message, None))
    }

    fn on_device_thread<R>(&self, render: impl FnOnce() -> R) -> R {
        // Waiting for meshes costs no CPU time.
        self.job.clock.time(Stage::Draw, render)
    }
}

/// Writes outcomes, which arrive in order.
struct OutcomeWriter<'a, 'w> {
    writer: &'w mut DatasetWriter,
    changes: &'a SourceChanges<'a>,
    out: &'a Path,
    clock: &'a StageClock,
    /// Objects left of each missing shard.
    shards: VecDeque<usize>,
}

impl OutcomeWriter<'_, '_> {
    /// Writes an outcome, and its shard after the last one.
    fn write(
        &mut self,
        object: &SourceObject,
        outcome: Outcome,
        on_event: &mut dyn FnMut(BuildEvent),
    ) -> Result<()> {
        let Self { writer, clock, .. } = self;
        clock.time(Stage::Write, || write(object, outcome, writer, on_event))?;
        let num_left = self
            .shards
            .front_mut()
            .expect("each object belongs to a missing shard");
        *num_left -= 1;
        if *num_left == 0 {
            self.shards.pop_front();
            let entry = clock.time(Stage::Write, || writer.finish_shard())?;
            self.changes.record(self.out, entry);
            on_event(BuildEvent::ShardWritten {
                file: entry.file.clone(),
                rows: entry.rows,
                bytes: entry.bytes,
            });
        }
        Ok(())
    }
}

fn write(
    object: &SourceObject,
    outcome: Outcome,
    writer: &mut DatasetWriter,
    on_event: &mut dyn FnMut(BuildEvent),
) -> Result<()> {
    let path = crate::source::slash_path(&object.path);
    let file = ObjectFile {
        path: &path,
        bytes: object.listed_bytes(),
    };
    match outcome {
        Ok(sample) => {
            writer.append(&sample, file)?;
            let warnings = sample
                .mesh
                .and_then(|mesh| mesh.issues)
                .map(|issues| issues.warnings)
                .unwrap_or_default();
            if !warnings.is_empty() {
                on_event(BuildEvent::Warned {
                    id: sample.id.clone(),
                    warnings,
                });
            }
            on_event(BuildEvent::Done { id: sample.id });
        }
        Err(skip) => {
            on_event(BuildEvent::Skipped {
                id: object.id.to_string(),
                reason: skip.reason,
                message: skip.message.clone(),
            });
            writer.skip(&object.id, file, skip);
        }
    }
    Ok(())
}
