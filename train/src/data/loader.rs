//! Batches made ahead of time by background threads.
//!
//! Thread k makes the steps k, k + n, k + 2n, ... into a channel of its own, and the consumer takes from the channels in
//! turn, so the number of threads changes nothing but the speed.
//!
//! Memory: [`BATCHES_AHEAD`] batches a thread, and the collator's cache.

use std::sync::Arc;
use std::thread::JoinHandle;

use crossbeam_channel::{Receiver, bounded};

use super::batch::CpuBatch;
use super::collator::Collator;
use crate::error::TrainError;

/// Finished batches that a thread may have waiting.
pub const BATCHES_AHEAD: usize = 2;

/// An iterator over the batches of `steps`, made ahead by threads that end when it is dropped.
#[derive(Debug)]
pub struct Loader {
    channels: Vec<Receiver<Result<CpuBatch, TrainError>>>,
    threads: Vec<JoinHandle<()>>,
    next_channel: usize,
    remaining: u64,
}

impl Loader {
    /// Starts `num_threads` threads on the batches of `steps`.
    #[must_use]
    pub fn start(collator: &Arc<Collator>, steps: std::ops::Range<u64>, num_threads: usize) -> Self {
        let num_threads = num_threads.max(1);
        let (mut channels, mut threads) = (Vec::new(), Vec::new());
        for thread_idx in 0..num_threads as u64 {
            let (sender, receiver) = bounded(BATCHES_AHEAD);
            let (collator, steps) = (Arc::clone(collator), steps.clone());
            threads.push(std::thread::spawn(move || {
                for step in (steps.start + thread_idx..steps.end).step_by(num_threads) {
                    let batch = collator.batch(step);
                    let is_over = batch.is_err();
                    // A closed channel means that the consumer has gone.
                    if sender.send(batch).is_err() || is_over {
                        return;
                    }
                }
            }));
            channels.push(receiver);
        }
        Self {
            channels,
            threads,
            next_channel: 0,
            remaining: steps.end.saturating_sub(steps.start),
        }
    }
}

impl Iterator for Loader {
    type Item = Result<CpuBatch, TrainError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.remaining == 0 {
            return None;
        }
        self.remaining -= 1;
        let channel = &self.channels[self.next_channel];
        self.next_channel = (self.next_channel + 1) % self.channels.len();
        let batch = channel.recv().ok();
        if !matches!(batch, Some(Ok(_))) {
            self.remaining = 0;
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
