//! [`build`]: a folder of meshes to a dataset.
//!
//! ```text
//! feed -> prepare (workers) -> draw (one thread owns the device) -> encode (workers) -> write (in order)
//! ```
//!
//! Without a device each worker draws what it has prepared, and encodes it.
//!
//! The calling thread feeds and writes. It starts an object only while fewer than a fixed number are on their way,
//! from the first byte read to the row written, and while their files together stay under [`MAX_IN_FLIGHT_BYTES`]
//! (a single larger one goes alone): memory doesn't grow with the number of objects, and no channel can fill up.
//! Rows are written in the order of the plan, whichever worker was first, so the bytes don't depend on the workers.

mod draw;
mod encode;
mod prepare;
mod reason;
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

use crate::dataset_writer::num_shards;
use crate::parallel::num_threads;
use crate::plan::check_room;
use crate::{
    BuildPart, BuildRecipe, DEFAULT_MAX_MESH_BYTES, DatasetError, DatasetPlan, DatasetWriter, Manifest,
    ObjectFile, ObjectId, Result, Sample, ShardHeader, SkipReason, Skipped as Skip, SkippedObject, Source,
    SourceObject, Split,
};
pub(crate) use encode::encode_color;
use prepare::Prepared;
use timing::{Stage, StageClock};

pub use timing::{BuildTimings, StageTiming};

/// The most bytes that the files of the objects on their way may have together.
pub const MAX_IN_FLIGHT_BYTES: u64 = 1 << 30;
/// How often the calling thread looks whether it shall stop.
const CANCEL_INTERVAL: Duration = Duration::from_millis(50);

/// How to build; nothing here changes a byte of what is built.
#[derive(Debug, Clone)]
pub struct BuildOptions {
    /// The folder of the dataset.
    pub out: PathBuf,
    /// Threads that prepare and encode; 0 for one a core.
    pub workers: usize,
    /// Who draws.
    pub renderer: RendererOptions,
    /// Start anew if `out` holds another dataset.
    pub force: bool,
    /// The most bytes that a mesh may have, with the files that it refers to; larger ones are skipped.
    pub max_mesh_bytes: u64,
    /// Build this share alone; [`merge`](crate::merge()) joins the shares.
    pub part: Option<BuildPart>,
    /// Build even where the disk has no room for what a sample predicts.
    pub ignore_free_space: bool,
}

impl BuildOptions {
    /// To build in `out`, with one worker a core and whatever draws best.
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

/// What happens while a dataset is built.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum BuildEvent {
    /// It begins.
    Started {
        /// Objects of the source (or of the part of it that is built), those that an earlier run has dealt with
        /// included.
        total: usize,
        /// The adapter that draws.
        adapter: String,
    },
    /// An earlier run has dealt with these objects.
    Resumed {
        /// How many.
        objects: usize,
    },
    /// A shard of an earlier run is gone or damaged, and is made again.
    ShardLost {
        /// Its name.
        file: String,
    },
    /// An object became a row.
    Done {
        /// Which.
        id: ObjectId,
    },
    /// An object was left out.
    Skipped {
        /// Which.
        id: String,
        /// Why, in a word.
        reason: SkipReason,
        /// Why, in a sentence.
        message: String,
    },
    /// A shard is whole.
    ShardWritten {
        /// Its name.
        file: String,
        /// Its rows.
        rows: usize,
        /// Its bytes.
        bytes: u64,
    },
}

/// What a build came to.
#[derive(Debug, Clone, PartialEq)]
pub struct BuildSummary {
    /// Is the dataset (or the part of it that was asked for) whole? `false` if the build was told to stop; the same call goes on then.
    pub is_complete: bool,
    /// What is there.
    pub manifest: Manifest,
    /// What it took; nothing of it is in the dataset.
    pub timings: BuildTimings,
}

impl BuildSummary {
    /// Rows of all shards.
    #[must_use]
    pub fn num_rows(&self) -> usize {
        self.manifest.shards.iter().map(|shard| shard.rows).sum()
    }

    /// Objects that were lost, those left out on purpose not counted.
    #[must_use]
    pub fn num_lost(&self) -> usize {
        self.manifest.num_lost()
    }
}

/// Builds a dataset, or goes on with one: the shards that an earlier run has finished stay.
///
/// Sets `cancel` to stop at any time; the shard in work is dropped then.
///
/// # Errors
/// When the recipe is out of range, no adapter can draw, the output folder can't be written to, is full, or holds
/// something else, or when no object can be used. Single bad objects are no error but part of the manifest.
pub fn build(
    source: &Source,
    recipe: &BuildRecipe,
    options: &BuildOptions,
    cancel: &AtomicBool,
    on_event: &mut dyn FnMut(BuildEvent),
) -> Result<BuildSummary> {
    build_child(source, recipe, options, None, cancel, on_event)
}

/// Builds a dataset that was derived from another one, of which this is the hash.
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
        return Err(DatasetError::NothingSurvived {
            num_objects: source.skipped().len(),
            reasons,
        });
    }
    let renderer = Renderer::try_new(&options.renderer)?;
    let adapter = renderer.adapter();
    let plan = DatasetPlan {
        parent: parent.map(str::to_owned),
        ..plan(source, recipe, to_value(adapter), options.part)
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
    for file in writer.lost_shards() {
        on_event(BuildEvent::ShardLost { file: file.clone() });
    }
    let shards: Vec<_> = writer
        .missing_shards()
        .map(|shard| shards[shard].clone())
        .collect();
    let num_missing: usize = shards.iter().map(Range::len).sum();
    if !options.ignore_free_space {
        check_room(source, recipe, options, num_missing, cancel)?;
    }
    if num_missing < total {
        on_event(BuildEvent::Resumed {
            objects: total - num_missing,
        });
    }
    let stop = AtomicBool::new(false);
    let clock = StageClock::start();
    let software = renderer.cpu();
    let context = Context {
        source,
        recipe,
        options,
        backend_kind: renderer.backend_kind(),
        software: software.as_ref(),
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

fn plan(
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

/// Which objects belong to which shard: fixed by the sorted list alone.
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

/// An object on its way from the device to the encoder.
#[derive(Debug)]
struct Drawn {
    object_idx: usize,
    prepared: Prepared,
    views: Vec<View>,
}

/// An object at the end of its way.
#[derive(Debug)]
struct Finished {
    object_idx: usize,
    outcome: Result<Box<Sample>, Skip>,
}

/// What all threads of a build share.
#[derive(Clone, Copy)]
struct Context<'a> {
    source: &'a Source,
    recipe: &'a BuildRecipe,
    options: &'a BuildOptions,
    backend_kind: BackendKind,
    /// There if workers draw.
    software: Option<&'a CpuRenderer>,
    /// Set when the writer has failed or was told to stop: what is on its way is dropped.
    stop: &'a AtomicBool,
    cancel: &'a AtomicBool,
    clock: &'a StageClock,
}

/// The ends of the channels that a worker holds.
struct WorkerChannels {
    jobs: Receiver<usize>,
    prepared: Sender<(usize, Prepared)>,
    drawn: Receiver<Drawn>,
    finished: Sender<Finished>,
}

impl Context<'_> {
    /// Brings all shards to their end; `false` if told to stop before.
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
        // Every worker has one object in hand and one waiting on either side of the device.
        let max_in_flight = 3 * num_workers + renderer.max_in_flight();
        // What is on its way is bounded by the feed, so the channels need no bound of their own.
        let (job_sender, jobs) = bounded(max_in_flight);
        let (prepared_sender, prepared) = unbounded();
        let (drawn_sender, drawn) = unbounded();
        let (finished_sender, finished) = unbounded();
        thread::scope(|scope| {
            let mut threads = Vec::new();
            for _ in 0..num_workers {
                let channels = WorkerChannels {
                    jobs: jobs.clone(),
                    prepared: prepared_sender.clone(),
                    drawn: drawn.clone(),
                    finished: finished_sender.clone(),
                };
                threads.push(scope.spawn(move || {
                    self.work(channels);
                    Ok(())
                }));
            }
            drop((jobs, prepared_sender, drawn));
            threads
                .push(scope.spawn(move || self.draw(renderer, &prepared, &drawn_sender, &finished_sender)));

            let mut feed = Feed {
                context: self,
                max_in_flight,
                jobs: Some(job_sender),
                finished,
            };
            let written = feed.write_all(shards, writer, on_event);
            let is_all = matches!(written, Ok(true));
            self.stop.store(!is_all, Ordering::Relaxed);
            drop(feed);
            // What ended a thread is the reason why its objects never arrived.
            for thread in threads {
                thread
                    .join()
                    .unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
            }
            written
        })
    }

    /// A worker: encodes what was drawn, and prepares the next mesh when there is nothing to encode. What was drawn
    /// comes first, because it is nearest to leaving memory.
    fn work(self, channels: WorkerChannels) {
        let WorkerChannels {
            mut jobs,
            prepared,
            drawn,
            finished,
        } = channels;
        let mut prepared = Some(prepared);
        loop {
            if let Ok(drawn) = drawn.try_recv() {
                self.encode(drawn, &finished);
                continue;
            }
            let mut is_over = false;
            select! {
                recv(drawn) -> message => match message {
                    Ok(message) => self.encode(message, &finished),
                    Err(_) => is_over = true,
                },
                recv(jobs) -> job => if let (Ok(object_idx), Some(prepared)) = (job, &prepared) {
                    self.prepare(object_idx, prepared, &finished);
                } else {
                    // No more meshes: the device's thread ends when no worker can send to it.
                    jobs = never();
                    prepared = None;
                },
            }
            // The device's thread has ended: all is drawn, or its error is what the build reports.
            if is_over {
                return;
            }
        }
    }

    fn prepare(self, object_idx: usize, prepared: &Sender<(usize, Prepared)>, finished: &Sender<Finished>) {
        if self.stop.load(Ordering::Relaxed) {
            return;
        }
        let result = guarded(|| {
            prepare::prepare(
                self.source,
                object_idx,
                self.recipe,
                self.backend_kind,
                self.options.max_mesh_bytes,
                self.clock,
            )
        });
        // Either receiver is gone only when the build is stopping.
        match (result, self.software) {
            (Ok(prepared), Some(software)) => {
                let views = self.clock.time(Stage::Draw, || software.draw(&prepared.framed));
                let drawn = Drawn {
                    object_idx,
                    prepared,
                    views,
                };
                self.encode(drawn, finished);
            }
            (Ok(object), None) => drop(prepared.send((object_idx, object))),
            (Err(skip), _) => drop(finished.send(Finished {
                object_idx,
                outcome: Err(skip),
            })),
        }
    }

    fn encode(self, drawn: Drawn, finished: &Sender<Finished>) {
        let Drawn {
            object_idx,
            prepared,
            views,
        } = drawn;
        let source_sha256 = prepared.source_sha256.clone();
        let columns = self.recipe.row_layout().columns;
        let encoded = self.clock.time(Stage::Encode, || {
            guarded(|| encode::encode(self.source, object_idx, prepared, &views, columns))
        });
        let outcome = encoded.map(Box::new).map_err(|mut skip| {
            skip.source_sha256 = Some(source_sha256);
            skip
        });
        // The writer is gone when the build is stopping.
        let _ = finished.send(Finished { object_idx, outcome });
    }

    fn is_cancelled(&self) -> bool {
        self.cancel.load(Ordering::Relaxed)
    }
}

/// Calls what looks at a foreign mesh; a panic costs that object, not the night.
fn guarded<T>(step: impl FnOnce() -> Result<T, Skip>) -> Result<T, Skip> {
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(step)).unwrap_or_else(|panic| {
        let message = words_of(panic.as_ref()).to_owned();
        Err(Skip {
            reason: SkipReason::Crashed,
            message,
            source_sha256: None,
        })
    })
}

fn words_of(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("a panic without words")
}

/// The calling thread's end: starts objects, and writes them in order.
struct Feed<'a> {
    context: Context<'a>,
    max_in_flight: usize,
    jobs: Option<Sender<usize>>,
    finished: Receiver<Finished>,
}

impl Feed<'_> {
    fn write_all(
        &mut self,
        shards: &[Range<usize>],
        writer: &mut DatasetWriter,
        on_event: &mut dyn FnMut(BuildEvent),
    ) -> Result<bool> {
        let objects = self.context.source.objects();
        // In the order in which they are written; shards that are there already leave gaps between the numbers.
        let order: Vec<usize> = shards.iter().cloned().flatten().collect();
        let mut next_job = 0;
        let mut next_row = 0;
        // Read by workers, in work, or waiting for their turn to be written: all count as on their way.
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
                        jobs.send(order[next_job])
                            .map_err(|_| DatasetError::Died("all workers ended"))?;
                        next_job += 1;
                    }
                    if next_job == order.len() {
                        self.jobs = None;
                    }
                    match self.finished.recv_timeout(CANCEL_INTERVAL) {
                        Ok(finished) => drop(waiting.insert(finished.object_idx, finished)),
                        Err(RecvTimeoutError::Timeout) => {}
                        Err(RecvTimeoutError::Disconnected) => {
                            return Err(DatasetError::Died("an object never arrived"));
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
    let path = crate::source::portable(&object.path);
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
            found_at: None,
        };
        let mut objects: Vec<_> = (0..5).map(|i| object(Split::Train, &i.to_string())).collect();
        objects.extend((5..7).map(|i| object(Split::Test, &i.to_string())));
        assert_eq!(shard_ranges(&objects, 2), [0..2, 2..4, 4..5, 5..7]);
        assert_eq!(shard_ranges(&objects, 100), [0..5, 5..7]);
        assert_eq!(shard_ranges(&[], 2), []);
    }

    #[test]
    fn a_panic_costs_one_object() {
        let skip = guarded::<()>(|| panic!("mesh {}", 7)).unwrap_err();
        assert_eq!(
            (skip.reason, skip.message.as_str()),
            (SkipReason::Crashed, "mesh 7")
        );
    }
}
