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
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use crossbeam_channel::{
    Receiver, RecvTimeoutError, Sender, TryRecvError, bounded, never, select, unbounded,
};
use tap_dataset::SkipReason;
use tap_render::{PendingViews, RenderError, Renderer, RendererOptions, SoftwareRenderer, View};

use super::input::Input;
use super::job::{self, Clock, Done, Failure, Prepared, Ready, Task, in_full};
use crate::ui;

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
    pub(super) software: Option<SoftwareRenderer>,
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
        software: SoftwareRenderer,
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
    ///
    /// When the device fails, a new renderer is set up and the meshes in flight are drawn again one by one; the one
    /// that fails again is left out. So a mesh that crashes a driver costs itself alone.
    fn draw(
        self,
        mut renderer: Renderer,
        ready: &Receiver<(usize, Ready)>,
        drawn: &Sender<Drawn>,
        finished: &Sender<Finished>,
        stop: &AtomicBool,
    ) -> Result<()> {
        let mut pending: VecDeque<(usize, Ready, PendingViews)> = VecDeque::new();
        loop {
            while pending.len() < renderer.max_in_flight() {
                // With something in flight there is no waiting for more.
                let next = if pending.is_empty() {
                    ready.recv().map_err(|_| TryRecvError::Disconnected)
                } else {
                    ready.try_recv()
                };
                let (input_idx, mut mesh) = match next {
                    Ok(next) => next,
                    Err(TryRecvError::Disconnected) if pending.is_empty() => return Ok(()),
                    Err(_) => break,
                };
                if stop.load(Ordering::Relaxed) {
                    continue;
                }
                let mut clock = Clock::start();
                match renderer.submit(&mesh.framed) {
                    Ok(views) => {
                        mesh.timings.upload_s = clock.lap();
                        pending.push_back((input_idx, mesh, views));
                    }
                    Err(error) if is_of_the_mesh(&error) => leave_out(input_idx, &error, finished),
                    Err(error) => {
                        note_failure(&error);
                        let lost = pending.drain(..).map(|(input_idx, mesh, _)| (input_idx, mesh));
                        let lost = lost.chain([(input_idx, mesh)]).collect();
                        renderer = self.redraw(renderer, lost, drawn, finished)?;
                    }
                }
            }
            let Some((input_idx, mut ready, views)) = pending.pop_front() else {
                continue;
            };
            let mut clock = Clock::start();
            let waited = renderer.wait(&views);
            ready.timings.draw_s = clock.lap();
            match waited.and_then(|()| renderer.finish(views)) {
                Ok(views) => {
                    ready.timings.read_back_s = clock.lap();
                    // The receiver is gone when the run is stopping.
                    let _ = drawn.send(Drawn {
                        input_idx,
                        ready,
                        views,
                    });
                }
                Err(error) => {
                    note_failure(&error);
                    let lost = pending.drain(..).map(|(input_idx, mesh, _)| (input_idx, mesh));
                    let lost = [(input_idx, ready)].into_iter().chain(lost).collect();
                    renderer = self.redraw(renderer, lost, drawn, finished)?;
                }
            }
        }
    }

    /// Draws what a failed device has lost, each mesh alone.
    fn redraw(
        self,
        failed: Renderer,
        lost: Vec<(usize, Ready)>,
        drawn: &Sender<Drawn>,
        finished: &Sender<Finished>,
    ) -> Result<Renderer> {
        drop(failed);
        let renew = || {
            Renderer::try_new(self.renderer_options).context("the device failed, and no other could be had")
        };
        let mut renderer = renew()?;
        for (input_idx, mut ready) in lost {
            let mut clock = Clock::start();
            let views = renderer
                .submit(&ready.framed)
                .and_then(|pending| renderer.finish(pending));
            match views {
                Ok(views) => {
                    ready.timings.draw_s = clock.lap();
                    let _ = drawn.send(Drawn {
                        input_idx,
                        ready,
                        views,
                    });
                }
                Err(error) => {
                    leave_out(input_idx, &error, finished);
                    if !is_of_the_mesh(&error) {
                        drop(renderer);
                        renderer = renew()?;
                    }
                }
            }
        }
        Ok(renderer)
    }
}

fn leave_out(input_idx: usize, error: &RenderError, finished: &Sender<Finished>) {
    let failure = Failure::new(SkipReason::RenderFailed, in_full(error));
    let _ = finished.send(Finished {
        input_idx,
        outcome: Ok(Outcome::Failed(failure)),
    });
}

/// Is the device still of use after this error?
fn is_of_the_mesh(error: &RenderError) -> bool {
    matches!(
        error,
        RenderError::MeshTooLarge { .. }
            | RenderError::ViewsTooLarge { .. }
            | RenderError::Unframeable { .. }
    )
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

fn note_failure(error: &RenderError) {
    ui::note(format_args!(
        "note: the device failed, it is set up anew: {}",
        in_full(error)
    ));
}
