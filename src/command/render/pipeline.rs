//! Many meshes at once: workers prepare and encode, one thread draws, and outcomes come back in order.
//!
//! ```text
//! feed -> prepare (workers) -> draw (one thread) -> encode and write (workers) -> outcomes, in order
//! ```
//!
//! Where the CPU draws, each worker draws what it has prepared.
//!
//! A mesh is started only while fewer than a fixed number are on their way, and while their files together stay below
//! [`MAX_IN_FLIGHT_BYTES`]: memory does not grow with the number of meshes, and no channel can fill up.

use std::any::Any;
use std::collections::{BTreeMap, VecDeque};
use std::fs;
use std::iter;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded, never, select, unbounded};
use tap_dataset::SkipReason;
use tap_render::{CpuRenderer, QueueEvent, Renderer, RendererOptions, View, run_render_queue};

use super::input::Input;
use super::job::{self, Clock, Done, Failure, Prepared, Ready, Task, in_full};
use tap_cli::ui;

/// The most bytes that the files of the meshes on their way may have together; a larger one goes alone.
const MAX_IN_FLIGHT_BYTES: u64 = 256 << 20;
/// How often the calling thread looks whether it shall stop.
const CANCEL_INTERVAL: Duration = Duration::from_millis(50);

/// What became of a mesh.
#[derive(Debug)]
pub(super) enum Outcome {
    /// Its views are there.
    Rendered(Done),
    /// They were there already.
    Unchanged,
    /// It has none.
    Failed(Failure),
}

/// All that the threads share.
#[derive(Clone, Copy)]
pub(super) struct Pipeline<'a> {
    pub(super) task: &'a Task,
    pub(super) inputs: &'a [Input],
    pub(super) renderer_options: &'a RendererOptions,
    /// The CPU's hand, if it is the CPU that draws: each worker then draws what it has prepared.
    pub(super) software: Option<&'a CpuRenderer>,
    /// At least one.
    pub(super) num_workers: usize,
    /// Raised from outside to end it.
    pub(super) cancel: &'a AtomicBool,
}

struct Drawn {
    input_idx: usize,
    ready: Ready,
    views: Vec<View>,
}

struct Finished {
    input_idx: usize,
    /// An error ends the run.
    outcome: Result<Outcome>,
}

/// The ends of the channels that a worker holds.
struct WorkerChannels {
    jobs: Receiver<usize>,
    ready: Sender<(usize, Ready)>,
    drawn: Receiver<Drawn>,
    finished: Sender<Finished>,
}

impl Pipeline<'_> {
    /// Brings all meshes to their end, or as many as there is time for until `cancel` is raised: `false` then.
    ///
    /// # Errors
    /// When nothing can be written, or nothing be drawn, any more.
    pub(super) fn run(self, renderer: Renderer, on_outcome: &mut dyn FnMut(usize, Outcome)) -> Result<bool> {
        // Every worker has one mesh in hand and one waiting on either side of the device.
        let max_in_flight = 3 * self.num_workers + renderer.max_in_flight();
        let stop = &AtomicBool::new(false);
        let (job_sender, jobs) = bounded(max_in_flight);
        let (ready_sender, ready) = unbounded();
        let (drawn_sender, drawn) = unbounded();
        let (finished_sender, finished) = unbounded();
        thread::scope(|scope| {
            let mut threads = Vec::new();
            for _ in 0..self.num_workers {
                let channels = WorkerChannels {
                    jobs: jobs.clone(),
                    ready: ready_sender.clone(),
                    drawn: drawn.clone(),
                    finished: finished_sender.clone(),
                };
                threads.push(scope.spawn(move || {
                    self.work(channels, stop);
                    Ok(())
                }));
            }
            drop((jobs, ready_sender, drawn));
            threads.push(
                scope.spawn(move || self.draw(renderer, &ready, &drawn_sender, &finished_sender, stop)),
            );

            let fed = self.feed(max_in_flight, job_sender, &finished, on_outcome);
            stop.store(!matches!(fed, Ok(true)), Ordering::Relaxed);
            drop(finished);
            // What ended a thread is the reason why its meshes never arrived.
            for thread in threads {
                thread.join().unwrap_or_else(|panic| resume_unwind(panic))?;
            }
            fed
        })
    }

    /// The calling thread: starts meshes, and hands outcomes over in order.
    fn feed(
        self,
        max_in_flight: usize,
        jobs: Sender<usize>,
        finished: &Receiver<Finished>,
        on_outcome: &mut dyn FnMut(usize, Outcome),
    ) -> Result<bool> {
        let mut jobs = Some(jobs);
        let mut waiting: BTreeMap<usize, Result<Outcome>> = BTreeMap::new();
        let mut bytes_of: VecDeque<u64> = VecDeque::new();
        for input_idx in 0..self.inputs.len() {
            loop {
                if self.cancel.load(Ordering::Relaxed) {
                    return Ok(false);
                }
                if waiting.contains_key(&input_idx) {
                    break;
                }
                while let Some(sender) = &jobs {
                    let next = input_idx + bytes_of.len();
                    if next == self.inputs.len() {
                        jobs = None;
                        break;
                    }
                    let bytes = fs::metadata(&self.inputs[next].path).map_or(0, |file| file.len());
                    let sum = bytes_of.iter().sum::<u64>() + bytes;
                    let fits = bytes_of.len() < max_in_flight && sum <= MAX_IN_FLIGHT_BYTES;
                    if !bytes_of.is_empty() && !fits {
                        break;
                    }
                    sender.send(next).map_err(|_| anyhow!("all workers ended"))?;
                    bytes_of.push_back(bytes);
                }
                match finished.recv_timeout(CANCEL_INTERVAL) {
                    Ok(Finished { input_idx, outcome }) => drop(waiting.insert(input_idx, outcome)),
                    Err(RecvTimeoutError::Timeout) => {}
                    Err(RecvTimeoutError::Disconnected) => return Err(anyhow!("a mesh never arrived")),
                }
            }
            bytes_of.pop_front();
            if let Some(outcome) = waiting.remove(&input_idx) {
                on_outcome(input_idx, outcome?);
            }
        }
        Ok(true)
    }

    /// A worker. What was drawn comes first, because it is nearest to leaving memory.
    fn work(self, channels: WorkerChannels, stop: &AtomicBool) {
        let WorkerChannels {
            mut jobs,
            ready,
            drawn,
            finished,
        } = channels;
        let mut ready = Some(ready);
        loop {
            if let Ok(drawn) = drawn.try_recv() {
                self.encode(drawn, &finished, stop);
                continue;
            }
            select! {
                recv(drawn) -> message => match message {
                    Ok(message) => self.encode(message, &finished, stop),
                    // The drawing thread has ended: all is drawn, or its error is what ends the run.
                    Err(_) => return,
                },
                recv(jobs) -> job => if let (Ok(input_idx), Some(ready)) = (job, &ready) {
                    self.prepare(input_idx, ready, &finished, stop);
                } else {
                    // No more meshes: the drawing thread ends when no worker can send to it.
                    jobs = never();
                    ready = None;
                },
            }
        }
    }

    fn prepare(
        self,
        input_idx: usize,
        ready: &Sender<(usize, Ready)>,
        finished: &Sender<Finished>,
        stop: &AtomicBool,
    ) {
        if stop.load(Ordering::Relaxed) {
            return;
        }
        // Either receiver is gone only when the run is stopping.
        let outcome = match guarded(|| job::prepare(self.task, &self.inputs[input_idx])) {
            Ok(Ok(Prepared::Ready(mesh))) => {
                match self.software {
                    Some(software) => self.draw_here(software, input_idx, *mesh, finished, stop),
                    None => drop(ready.send((input_idx, *mesh))),
                }
                return;
            }
            Ok(Ok(Prepared::Unchanged)) => Outcome::Unchanged,
            Ok(Err(failure)) | Err(failure) => Outcome::Failed(failure),
        };
        let _ = finished.send(Finished {
            input_idx,
            outcome: Ok(outcome),
        });
    }

    /// Without a device there is nothing to wait for.
    fn draw_here(
        self,
        software: &CpuRenderer,
        input_idx: usize,
        mut ready: Ready,
        finished: &Sender<Finished>,
        stop: &AtomicBool,
    ) {
        let mut clock = Clock::start();
        let drawn = guarded(|| {
            // Fewer meshes than cores leave cores to the views.
            if self.inputs.len() < self.num_workers {
                software.draw_in_parallel(&ready.framed)
            } else {
                software.draw(&ready.framed)
            }
        });
        match drawn {
            Ok(views) => {
                ready.timings.draw_s = clock.lap();
                let drawn = Drawn {
                    input_idx,
                    ready,
                    views,
                };
                self.encode(drawn, finished, stop);
            }
            Err(failure) => {
                let _ = finished.send(Finished {
                    input_idx,
                    outcome: Ok(Outcome::Failed(failure)),
                });
            }
        }
    }

    fn encode(self, drawn: Drawn, finished: &Sender<Finished>, stop: &AtomicBool) {
        let Drawn {
            input_idx,
            ready,
            views,
        } = drawn;
        if stop.load(Ordering::Relaxed) {
            return;
        }
        let outcome = match guarded(|| job::finish(self.task, &self.inputs[input_idx], ready, &views)) {
            Ok(Ok(Ok(done))) => Ok(Outcome::Rendered(done)),
            Ok(Ok(Err(failure))) | Err(failure) => Ok(Outcome::Failed(failure)),
            Ok(Err(error)) => Err(error),
        };
        let _ = finished.send(Finished { input_idx, outcome });
    }

    /// Draws until no worker can send a mesh any more.
    fn draw(
        self,
        renderer: Renderer,
        ready: &Receiver<(usize, Ready)>,
        drawn: &Sender<Drawn>,
        finished: &Sender<Finished>,
        stop: &AtomicBool,
    ) -> Result<()> {
        let next = |waits: bool| {
            let receive = || {
                if waits {
                    ready.recv().ok()
                } else {
                    ready.try_recv().ok()
                }
            };
            iter::from_fn(receive).find(|_| !stop.load(Ordering::Relaxed))
        };
        // Either receiver is gone only when the run is stopping.
        let tell = |event| match event {
            QueueEvent::Rendered {
                mesh: (input_idx, ready),
                views,
            } => drop(drawn.send(Drawn {
                input_idx,
                ready,
                views,
            })),
            QueueEvent::Failed {
                mesh: (input_idx, _),
                error,
            } => drop(finished.send(Finished {
                input_idx,
                outcome: Ok(Outcome::Failed(Failure::new(
                    SkipReason::RenderFailed,
                    in_full(&error),
                ))),
            })),
            QueueEvent::DeviceFailed { error } => ui::note(format_args!(
                "note: the device failed, it is set up anew: {}",
                in_full(&error)
            )),
        };
        run_render_queue(renderer, self.renderer_options, next, tell)
            .context("the device failed, and no other could be had")
    }
}

/// Calls what looks at a foreign mesh; a panic costs that mesh, not the night.
pub(super) fn guarded<T>(step: impl FnOnce() -> T) -> Result<T, Failure> {
    catch_unwind(AssertUnwindSafe(step))
        .map_err(|panic| Failure::new(SkipReason::Crashed, words_of(panic.as_ref())))
}

fn words_of(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("a panic without words")
}
