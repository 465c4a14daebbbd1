//! Batches made ahead of time by background threads.
//!
//! Thread k makes the steps k, k + n, k + 2n, ... into a channel of its own, and the consumer takes from the channels in
//! turn, so the number of threads changes nothing but the speed.
//!
//! Memory: [`BATCHES_AHEAD`] batches a thread, and the collator's cache.

use std::fmt;
use std::iter::StepBy;
use std::ops::Range;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use crossbeam_channel::{Receiver, Sender, bounded};

use super::batch::{CpuBatch, MicroBatches};
use super::collator::Collator;
use crate::error::TrainError;
use crate::ranks::Place;

/// Finished batches that a thread may have waiting.
pub const BATCHES_AHEAD: usize = 2;

/// Steps at equal distances.
type Steps = StepBy<Range<u64>>;
/// Makes what is loaded for a step.
type Make<T> = Arc<dyn Fn(u64) -> Result<T, TrainError> + Send + Sync>;

/// An iterator over the batches of some steps, made ahead by threads that end when it is dropped.
pub struct Loader<T = CpuBatch> {
    make: Make<T>,
    /// Empty where no thread could be started: the consumer makes the batches.
    channels: Vec<Receiver<Result<T, TrainError>>>,
    threads: Vec<JoinHandle<()>>,
    next_channel: usize,
    steps: Steps,
}

impl<T> fmt::Debug for Loader<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Loader")
            .field("steps", &self.steps)
            .field("threads", &self.threads)
            .finish_non_exhaustive()
    }
}

impl Loader {
    /// Starts `num_threads` threads on the batches of `steps`, or as many as the machine allows.
    #[must_use]
    pub fn start(collator: &Arc<Collator>, steps: Range<u64>, num_threads: usize) -> Self {
        Self::of_place(collator, steps, Place::ALONE, num_threads)
    }

    /// The same on those of the batches that a rank takes.
    #[must_use]
    pub fn of_place(collator: &Arc<Collator>, steps: Range<u64>, place: Place, num_threads: usize) -> Self {
        let collator = Arc::clone(collator);
        let first = steps.start + place.rank as u64;
        let steps = (first..steps.end).step_by(place.world_size);
        Self::start_on(Arc::new(move |step| collator.batch(step)), &steps, num_threads)
    }
}

impl Loader<MicroBatches> {
    /// Starts `num_threads` threads on the micro-batches of `steps` that a rank takes, or as many as the machine allows.
    #[must_use]
    pub fn of_micro_batches(
        collator: &Arc<Collator>,
        steps: Range<u64>,
        accumulation_steps: usize,
        place: Place,
        num_threads: usize,
    ) -> Self {
        let collator = Arc::clone(collator);
        let make = move |step| collator.micro_batches(step, accumulation_steps, place);
        Self::start_on(Arc::new(make), &steps.step_by(1), num_threads)
    }
}

impl<T: Send + 'static> Loader<T> {
    fn start_on(make: Make<T>, steps: &Steps, num_threads: usize) -> Self {
        let mut loader = Self {
            make,
            channels: Vec::new(),
            threads: Vec::new(),
            next_channel: 0,
            steps: steps.clone(),
        };
        // A thread's share depends on how many there are, which is known when all are started.
        let mut shares: Vec<Sender<Share>> = Vec::new();
        for num_started in 0..num_threads.max(1) {
            let (share_sender, share) = bounded(1);
            let (sender, receiver) = bounded(BATCHES_AHEAD);
            let make = Arc::clone(&loader.make);
            let body = move || make_batches(make.as_ref(), &share, &sender);
            match thread::Builder::new().spawn(body) {
                Ok(thread) => loader.threads.push(thread),
                Err(error) => {
                    tracing::warn!(
                        "could only start {num_started} of {num_threads} threads; ask for fewer with --threads: {error}"
                    );
                    break;
                }
            }
            loader.channels.push(receiver);
            shares.push(share_sender);
        }
        for (thread_idx, share) in shares.iter().enumerate() {
            // A thread that has ended is noticed when its first batch is missing.
            let _ = share.send(Share {
                steps: steps.clone(),
                thread_idx,
                num_threads: shares.len(),
            });
        }
        loader
    }
}

/// What one of several threads makes: each `num_threads`-th step.
#[derive(Debug)]
struct Share {
    steps: Steps,
    thread_idx: usize,
    num_threads: usize,
}

fn make_batches<T>(
    make: &dyn Fn(u64) -> Result<T, TrainError>,
    share: &Receiver<Share>,
    sender: &Sender<Result<T, TrainError>>,
) {
    let Ok(Share {
        steps,
        thread_idx,
        num_threads,
    }) = share.recv()
    else {
        return;
    };
    for step in steps.skip(thread_idx).step_by(num_threads) {
        let batch = make(step);
        let is_over = batch.is_err();
        // A closed channel means that the consumer has gone.
        if sender.send(batch).is_err() || is_over {
            return;
        }
    }
}

impl<T> Iterator for Loader<T> {
    type Item = Result<T, TrainError>;

    fn next(&mut self) -> Option<Self::Item> {
        let step = self.steps.next()?;
        let batch = match self.channels.get(self.next_channel) {
            Some(channel) => channel.recv().ok(),
            None => Some((self.make)(step)),
        };
        self.next_channel = (self.next_channel + 1) % self.channels.len().max(1);
        if !matches!(batch, Some(Ok(_))) {
            self.steps = (0..0).step_by(1);
        }
        batch
    }
}

impl<T> Drop for Loader<T> {
    fn drop(&mut self) {
        // Without receivers every send fails, so the threads end.
        self.channels.clear();
        for thread in self.threads.drain(..) {
            // A panic of a thread has been printed; nothing is left to save.
            let _ = thread.join();
        }
    }
}
