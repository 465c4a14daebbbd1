//! Which rows make which batch: a function of (seed, epoch) and the step.

use serde::{Deserialize, Serialize};

use crate::seed::Stream;

/// Treatment of samples that do not fill the last batch of an epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LastBatch {
    /// Dropped (others each epoch), as in the reference.
    Drop,
    /// Kept as a smaller batch.
    Keep,
    /// Filled up with the first samples of the next epoch.
    Carry,
}

/// Assignment of rows to batches.
#[derive(Debug, Clone)]
pub struct BatchSampler {
    /// Rows of an epoch.
    pub num_rows: usize,
    /// Rows of a batch.
    pub batch_size: usize,
    /// Treatment of the last batch of an epoch.
    pub last_batch: LastBatch,
    /// Seed of the shuffle; row order if absent.
    pub shuffle: Option<u64>,
}

impl BatchSampler {
    /// Steps of an epoch; with [`LastBatch::Carry`] rounded up, since the last batch reaches into the next epoch.
    #[must_use]
    pub fn steps_per_epoch(&self) -> u64 {
        (match self.last_batch {
            LastBatch::Drop => self.num_rows / self.batch_size,
            LastBatch::Keep | LastBatch::Carry => self.num_rows.div_ceil(self.batch_size),
        }) as u64
    }

    /// Rows of the first batch of an epoch.
    #[must_use]
    pub fn first_batch(&self) -> usize {
        match self.last_batch {
            LastBatch::Keep => self.batch_size.min(self.num_rows),
            LastBatch::Drop | LastBatch::Carry => self.batch_size,
        }
    }

    /// Rows of the last batch of an epoch.
    #[must_use]
    pub fn last_batch(&self) -> usize {
        match (self.last_batch, self.num_rows % self.batch_size) {
            (LastBatch::Keep, rest) if rest > 0 => rest,
            _ => self.first_batch(),
        }
    }

    /// The epoch in which `step` begins.
    #[must_use]
    pub fn epoch_of(&self, step: u64) -> u64 {
        match self.last_batch {
            LastBatch::Drop | LastBatch::Keep => step / self.steps_per_epoch().max(1),
            LastBatch::Carry => step * self.batch_size as u64 / self.num_rows.max(1) as u64,
        }
    }

    /// (epoch, row) of every sample of the batch of `step`.
    #[must_use]
    pub fn batch(&self, step: u64) -> Vec<(u64, usize)> {
        let (rows, size) = (self.num_rows as u64, self.batch_size as u64);
        let (first_epoch, first, count) = match self.last_batch {
            LastBatch::Carry => (step * size / rows, step * size % rows, size),
            LastBatch::Drop | LastBatch::Keep => {
                let first = step % self.steps_per_epoch() * size;
                (self.epoch_of(step), first, size.min(rows - first))
            }
        };
        let mut batch = Vec::with_capacity(self.batch_size);
        let (mut epoch, mut place) = (first_epoch, first as usize);
        let mut permutation = self.permutation(epoch);
        for _ in 0..count {
            if place == self.num_rows {
                (epoch, place) = (epoch + 1, 0);
                permutation = self.permutation(epoch);
            }
            batch.push((epoch, permutation[place]));
            place += 1;
        }
        batch
    }

    fn permutation(&self, epoch: u64) -> Vec<usize> {
        let mut rows: Vec<usize> = (0..self.num_rows).collect();
        if let Some(seed) = self.shuffle {
            Stream::new(seed, "order", epoch, "").shuffle(&mut rows);
        }
        rows
    }
}
