//! [`build`]: a folder of meshes to a dataset.
//!
//! ```text
//! feed -> prepare (workers) -> render (one thread owns the device) -> encode (workers) -> write (in order)
//! ```
//!
//! Without a device each worker renders and encodes what it has prepared.
//!
//! The calling thread feeds and writes. It starts an object only while the number in flight, from the first
//! byte read to the row written, is below a fixed limit and their files together stay below
//! [`MAX_IN_FLIGHT_BYTES`] (a larger file is processed alone). Memory therefore does not grow with the number
//! of objects, and no channel can fill up. Rows are written in plan order, so the bytes do not depend on the
//! number of workers.

mod encode;
mod plan;
mod prepare;
mod render;
mod skip_reason;
mod timing;

use std::any::Any;
use std::collections::BTreeMap;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded, never, select, unbounded};
use tap_render::{BackendKind, CpuRenderer, Renderer, RendererOptions, View};

use crate::error::{BuildError, DatasetError, Result};
use crate::manifest::{BuildPart, Manifest, SkipReason, SkippedObject};
use crate::parallel::num_threads;
use crate::recipe::BuildRecipe;
use crate::schema::{ObjectId, Sample, ShardHeader, Split};
use crate::source::{DEFAULT_MAX_MESH_BYTES, Source, SourceObject};
use crate::writer::Skipped as Skip;
use crate::writer::{DatasetPlan, DatasetWriter, ObjectFile, num_shards};
pub(crate) use encode::encode_color;
use plan::check_free_space;
use prepare::Prepared;
use timing::{Stage, StageClock};

pub use plan::{PlanReport, plan};
pub use timing::{BuildTimings, StageTiming};

/// Limit on the total size of mesh files in flight.
pub const MAX_IN_FLIGHT_BYTES: u64 = 1 << 30;
/// How often the calling thread checks for cancellation.
const CANCEL_POLL_INTERVAL: Duration = Duration::from_millis(50);

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
        /// Adapter that renders.
        adapter: String,
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
    /// An object became a row.
    Done {
        /// Object id.
        id: ObjectId,
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

/// Builds a dataset, or resumes one: finished shards are kept.
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
    if source.objects().is_empty() {
        let reasons = source
            .skipped()
            .iter()
            .take(3)
            .map(|s| format!("{}: {}", s.id, s.message));
        let reasons = reasons.collect::<Vec<_>>().join("; ");
        return Err(DatasetError::Build(BuildError::AllSkipped {
            num_objects: source.skipped().len(),
            reasons,
        }));
    }
    let renderer = Renderer::try_new(&options.renderer)?;
    let adapter = renderer.adapter();
    let plan = DatasetPlan {
        parent: parent.map(str::to_owned),
        ..new_plan(source, recipe, to_value(adapter), options.part)
    };
    let shards = shard_ranges(source.objects(), recipe.rows_per_shard);
    let own = shards.iter().enumerate();
    let own = own.filter(|(shard, _)| options.part.is_none_or(|part| part.has(*shard)));
    let total = own.map(|(_, objects)| objects.len()).sum();
    on_event(BuildEvent::Started {
        total,
        adapter: adapter.to_string(),
    });

    let mut writer = DatasetWriter::open(&options.out, &plan, options.force)?;
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
    for file in writer.damaged_shards() {
        on_event(BuildEvent::ShardDamaged { file: file.clone() });
    }
    let shards: Vec<_> = writer
        .missing_shards()
        .map(|shard| shards[shard].clone())
        .collect();
    let num_missing: usize = shards.iter().map(Range::len).sum();
    if !options.ignore_free_space {
        check_free_space(source, recipe, options, num_missing, cancel)?;
    }
    if num_missing < total {
        on_event(BuildEvent::Resumed {
            objects: total - num_missing,
        });
    }
    let stop = AtomicBool::new(false);
    let clock = StageClock::start();
    let cpu_renderer = renderer.cpu();
    let context = BuildContext {
        source,
        recipe,
        options,
        backend_kind: renderer.backend_kind(),
        cpu_renderer: cpu_renderer.as_ref(),
        stop: &stop,
        cancel,
        clock: &clock,
    };
    let is_complete = context.run(renderer, &shards, &mut writer, on_event)?;
    let manifest = if is_complete {
        clock.time(Stage::Write, || writer.finish())?
    } else {
        writer.manifest().clone()
    };
    Ok(BuildSummary {
        is_complete,
        manifest,
        timings: clock.timings(options.num_workers()),
    })
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
        num_shards: num_shards(recipe.rows_per_shard, |split| {
            source
                .objects()
                .iter()
                .filter(|object| object.split == split)
                .count()
        }),
        part,
        parent: None,
        is_relit: false,
        skipped: source.skipped().to_vec(),
    }
}

/// Recipes and adapter reports are plain data.
pub(crate) fn to_value(data: &impl serde::Serialize) -> serde_json::Value {
    serde_json::to_value(data).expect("plain data has a JSON form")
}

/// Object ranges of the shards; depends only on the sorted object list.
fn shard_ranges(objects: &[SourceObject], rows_per_shard: usize) -> Vec<Range<usize>> {
    let mut ranges = Vec::new();
    let mut start = 0;
    for split in Split::ALL {
        let end = start
            + objects[start..]
                .iter()
                .take_while(|object| object.split == split)
                .count();
        while start < end {
            let next = (start + rows_per_shard).min(end);
            ranges.push(start..next);
            start = next;
        }
    }
    ranges
}

/// A rendered object, on its way to the encoder.
#[derive(Debug)]
struct Rendered {
    object_idx: usize,
    prepared: Prepared,
    views: Vec<View>,
}

/// A finished object.
#[derive(Debug)]
struct Finished {
    object_idx: usize,
    outcome: Result<Box<Sample>, Skip>,
}

/// Shared state of all threads of a build.
#[derive(Clone, Copy)]
struct BuildContext<'a> {
    source: &'a Source,
    recipe: &'a BuildRecipe,
    options: &'a BuildOptions,
    backend_kind: BackendKind,
    /// Set if workers render on the CPU themselves.
    cpu_renderer: Option<&'a CpuRenderer>,
    /// Set on failure or cancellation: objects in flight are dropped.
    stop: &'a AtomicBool,
    cancel: &'a AtomicBool,
    clock: &'a StageClock,
}

/// Channel ends of a worker.
struct WorkerChannels {
    jobs: Receiver<usize>,
    prepared: Sender<(usize, Prepared)>,
    rendered: Receiver<Rendered>,
    finished: Sender<Finished>,
}

impl BuildContext<'_> {
    /// Processes all shards; `false` if cancelled.
    fn run(
        self,
        renderer: Renderer,
        shards: &[Range<usize>],
        writer: &mut DatasetWriter,
        on_event: &mut dyn FnMut(BuildEvent),
    ) -> Result<bool> {
        if shards.is_empty() {
            return Ok(true);
        }
        let num_workers = self.options.num_workers();
        // Each worker has one object in progress and one queued on either side of the device.
        let max_in_flight = 3 * num_workers + renderer.max_in_flight();
        // The feed bounds what is in flight, so the channels need no bound.
        let (job_sender, jobs) = bounded(max_in_flight);
        let (prepared_sender, prepared) = unbounded();
        let (rendered_sender, rendered) = unbounded();
        let (finished_sender, finished) = unbounded();
        thread::scope(|scope| {
            let mut threads = Vec::new();
            for _ in 0..num_workers {
                let channels = WorkerChannels {
                    jobs: jobs.clone(),
                    prepared: prepared_sender.clone(),
                    rendered: rendered.clone(),
                    finished: finished_sender.clone(),
                };
                threads.push(scope.spawn(move || {
                    self.work(channels);
                    Ok(())
                }));
            }
            drop((jobs, prepared_sender, rendered));
            threads.push(
                scope.spawn(move || self.render(renderer, &prepared, &rendered_sender, &finished_sender)),
            );

            let mut ordered_writer = OrderedWriter {
                context: self,
                max_in_flight,
                jobs: Some(job_sender),
                finished,
            };
            let written = ordered_writer.write_all(shards, writer, on_event);
            let is_all = matches!(written, Ok(true));
            self.stop.store(!is_all, Ordering::Relaxed);
            drop(ordered_writer);
            // A thread's error explains why its objects never arrived.
            for thread in threads {
                thread
                    .join()
                    .unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
            }
            written
        })
    }

    /// Worker loop: encodes rendered objects first, since that frees memory, and otherwise prepares the next
    /// mesh.
    fn work(self, channels: WorkerChannels) {
        let WorkerChannels {
            mut jobs,
            prepared,
            rendered,
            finished,
        } = channels;
        let mut prepared = Some(prepared);
        loop {
            if let Ok(rendered) = rendered.try_recv() {
                self.encode(rendered, &finished);
                continue;
            }
            let mut is_done = false;
            select! {
                recv(rendered) -> message => match message {
                    Ok(message) => self.encode(message, &finished),
                    Err(_) => is_done = true,
                },
                recv(jobs) -> job => if let (Ok(object_idx), Some(prepared)) = (job, &prepared) {
                    self.prepare(object_idx, prepared, &finished);
                } else {
                    // No more meshes: the render thread ends when all senders are dropped.
                    jobs = never();
                    prepared = None;
                },
            }
            // The render thread has ended: everything is rendered, or its error will be reported.
            if is_done {
                return;
            }
        }
    }

    fn prepare(self, object_idx: usize, prepared: &Sender<(usize, Prepared)>, finished: &Sender<Finished>) {
        if self.stop.load(Ordering::Relaxed) {
            return;
        }
        let result = catch_panic(|| {
            prepare::prepare(
                self.source,
                object_idx,
                self.recipe,
                self.backend_kind,
                self.options.max_mesh_bytes,
                self.clock,
            )
        });
        // A receiver is dropped only when the build stops.
        match (result, self.cpu_renderer) {
            (Ok(prepared), Some(cpu_renderer)) => {
                let views = self
                    .clock
                    .time(Stage::Draw, || cpu_renderer.draw(&prepared.framed));
                let rendered = Rendered {
                    object_idx,
                    prepared,
                    views,
                };
                self.encode(rendered, finished);
            }
            (Ok(object), None) => drop(prepared.send((object_idx, object))),
            (Err(skip), _) => drop(finished.send(Finished {
                object_idx,
                outcome: Err(skip),
            })),
        }
    }

    fn encode(self, rendered: Rendered, finished: &Sender<Finished>) {
        let Rendered {
            object_idx,
            prepared,
            views,
        } = rendered;
        let source_sha256 = prepared.source_sha256.clone();
        let columns = self.recipe.row_layout().columns;
        let encoded = self.clock.time(Stage::Encode, || {
            catch_panic(|| encode::encode(self.source, object_idx, prepared, &views, columns))
        });
        let outcome = encoded.map(Box::new).map_err(|mut skip| {
            skip.source_sha256 = Some(source_sha256);
            skip
        });
        // The receiver is dropped only when the build stops.
        let _ = finished.send(Finished { object_idx, outcome });
    }

    fn is_cancelled(&self) -> bool {
        self.cancel.load(Ordering::Relaxed)
    }
}

/// Runs a step on untrusted input; a panic skips the object.
fn catch_panic<T>(step: impl FnOnce() -> Result<T, Skip>) -> Result<T, Skip> {
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(step)).unwrap_or_else(|panic| {
        let message = panic_message(panic.as_ref()).to_owned();
        Err(Skip {
            reason: SkipReason::Crashed,
            message,
            source_sha256: None,
        })
    })
}

fn panic_message(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("panic with no message")
}

/// Calling thread: starts objects and writes results in order.
struct OrderedWriter<'a> {
    context: BuildContext<'a>,
    max_in_flight: usize,
    jobs: Option<Sender<usize>>,
    finished: Receiver<Finished>,
}

impl OrderedWriter<'_> {
    fn write_all(
        &mut self,
        shards: &[Range<usize>],
        writer: &mut DatasetWriter,
        on_event: &mut dyn FnMut(BuildEvent),
    ) -> Result<bool> {
        let objects = self.context.source.objects();
        // Object indices in write order; finished shards leave gaps.
        let order: Vec<usize> = shards.iter().cloned().flatten().collect();
        let mut next_job = 0;
        let mut next_row = 0;
        // Counts objects being read, processed, or waiting to be written.
        let mut in_flight_bytes = 0;
        let mut waiting: BTreeMap<usize, Finished> = BTreeMap::new();
        for shard in shards {
            for object_idx in shard.clone() {
                loop {
                    if self.context.is_cancelled() {
                        return Ok(false);
                    }
                    if waiting.contains_key(&object_idx) {
                        break;
                    }
                    while next_job < order.len()
                        && next_job - next_row < self.max_in_flight
                        && (next_job == next_row
                            || in_flight_bytes + objects[order[next_job]].bytes <= MAX_IN_FLIGHT_BYTES)
                    {
                        in_flight_bytes += objects[order[next_job]].bytes;
                        let jobs = self.jobs.as_ref().expect("jobs are fed until the last");
                        jobs.send(order[next_job]).map_err(|_| {
                            DatasetError::Build(BuildError::WorkerPanicked("all workers ended early"))
                        })?;
                        next_job += 1;
                    }
                    if next_job == order.len() {
                        self.jobs = None;
                    }
                    match self.finished.recv_timeout(CANCEL_POLL_INTERVAL) {
                        Ok(finished) => drop(waiting.insert(finished.object_idx, finished)),
                        Err(RecvTimeoutError::Timeout) => {}
                        Err(RecvTimeoutError::Disconnected) => {
                            return Err(DatasetError::Build(BuildError::WorkerPanicked(
                                "an object was never returned",
                            )));
                        }
                    }
                }
                let finished = waiting.remove(&object_idx).expect("it was waited for");
                in_flight_bytes -= objects[object_idx].bytes;
                next_row += 1;
                self.context.clock.time(Stage::Write, || {
                    write(&objects[object_idx], finished.outcome, writer, on_event)
                })?;
            }
            let entry = self.context.clock.time(Stage::Write, || writer.finish_shard())?;
            on_event(BuildEvent::ShardWritten {
                file: entry.file.clone(),
                rows: entry.rows,
                bytes: entry.bytes,
            });
        }
        Ok(true)
    }
}

fn write(
    object: &SourceObject,
    outcome: Result<Box<Sample>, Skip>,
    writer: &mut DatasetWriter,
    on_event: &mut dyn FnMut(BuildEvent),
) -> Result<()> {
    let path = crate::source::slash_path(&object.path);
    let file = ObjectFile {
        path: &path,
        bytes: object.bytes,
    };
    match outcome {
        Ok(sample) => {
            writer.append(&sample, file)?;
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    #[test]
    fn shards_are_cut_by_the_list_alone() {
        let object = |split, name: &str| SourceObject {
            id: ObjectId::try_new("a", name).unwrap(),
            split,
            path: PathBuf::new(),
            format: tap_render::import::MeshFormat::Obj,
            bytes: 1,
            relocated_to: None,
        };
        let mut objects: Vec<_> = (0..5).map(|i| object(Split::Train, &i.to_string())).collect();
        objects.extend((5..7).map(|i| object(Split::Test, &i.to_string())));
        assert_eq!(shard_ranges(&objects, 2), [0..2, 2..4, 4..5, 5..7]);
        assert_eq!(shard_ranges(&objects, 100), [0..5, 5..7]);
        assert_eq!(shard_ranges(&[], 2), []);
    }

    #[test]
    fn a_panic_costs_one_object() {
        let skip = catch_panic::<()>(|| panic!("mesh {}", 7)).unwrap_err();
        assert_eq!(
            (skip.reason, skip.message.as_str()),
            (SkipReason::Crashed, "mesh 7")
        );
    }
}
