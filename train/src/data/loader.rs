//! Batches made ahead of time by background threads.
//!
//! Thread k makes the steps k, k + n, k + 2n, ... into a channel of its own, and the consumer takes from the channels in
//! turn, so the number of threads changes nothing but the speed.
//!
//! Memory: [`BATCHES_AHEAD`] batches a thread, and the collator's cache.

use std::ops::Range;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use crossbeam_channel::{Receiver, Sender, bounded};

use super::batch::CpuBatch;
use super::collator::Collator;
use crate::error::TrainError;

/// Finished batches that a thread may have waiting.
pub const BATCHES_AHEAD: usize = 2;

/// An iterator over the batches of `steps`, made ahead by threads that end when it is dropped.
#[derive(Debug)]
pub struct Loader {
    collator: Arc<Collator>,
    /// Empty where no thread could be started: the consumer makes the batches.
    channels: Vec<Receiver<Result<CpuBatch, TrainError>>>,
    threads: Vec<JoinHandle<()>>,
    next_channel: usize,
    steps: Range<u64>,
}

impl Loader {
    /// Starts `num_threads` threads on the batches of `steps`, or as many as the machine allows.
    #[must_use]
    pub fn start(collator: &Arc<Collator>, steps: Range<u64>, num_threads: usize) -> Self {
        let mut loader = Self {
            collator: Arc::clone(collator),
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
            let collator = Arc::clone(collator);
            let body = move || make_batches(&collator, &share, &sender);
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
                steps: steps.start + thread_idx as u64..steps.end,
                num_threads: shares.len(),
            });
        }
        loader
    }
}

/// What one of several threads makes: each `num_threads`-th step.
#[derive(Debug)]
struct Share {
    steps: Range<u64>,
    num_threads: usize,
}

fn make_batches(collator: &Collator, share: &Receiver<Share>, sender: &Sender<Result<CpuBatch, TrainError>>) {
    let Ok(Share { steps, num_threads }) = share.recv() else {
        return;
    };
    for step in steps.step_by(num_threads) {
        let batch = collator.batch(step);
        let is_over = batch.is_err();
        // A closed channel means that the consumer has gone.
        if sender.send(batch).is_err() || is_over {
            return;
        }
    }
}

impl Iterator for Loader {
    type Item = Result<CpuBatch, TrainError>;

    fn next(&mut self) -> Option<Self::Item> {
        let step = self.steps.next()?;
        let batch = match self.channels.get(self.next_channel) {
            Some(channel) => channel.recv().ok(),
            None => Some(self.collator.batch(step)),
        };
        self.next_channel = (self.next_channel + 1) % self.channels.len().max(1);
        if !matches!(batch, Some(Ok(_))) {
            self.steps = 0..0;
        }
        batch
    }
}

impl Drop for Loader {
    fn drop(&mut self) {
        // Without receivers every send fails, so the threads end.
        self.channels.clear();
        for thread in self.threads.drain(..) {
            // A panic of a thread has been printed; nothing is left to save.
            let _ = thread.join();
        }
    }
}
