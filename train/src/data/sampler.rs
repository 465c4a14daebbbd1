//! Which rows make which batch: a function of (seed, epoch) and the step.

use serde::{Deserialize, Serialize};
use tap_dataset::Order;

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

/// How an epoch is shuffled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Shuffle {
    /// Place by place, of one data set or of a mixture whose rows follow each other.
    Keyed(Order),
    /// A list of all rows, shuffled by a seed: the order of runs that earlier versions began.
    Listed(u64),
}

/// The order of rows of a run, as its configuration and its plan name it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RowOrder {
    /// See [`Shuffle::Listed`].
    #[default]
    Listed,
    /// See [`Shuffle::Keyed`].
    Keyed,
    /// The same in blocks of consecutive rows: see [`BlockShuffle`](tap_dataset::BlockShuffle).
    Blocks,
}

/// Samples of a micro-batch of `batch_size` samples in `accumulation_steps` parts; the last one may be smaller.
pub(crate) fn micro_batch_size(batch_size: usize, accumulation_steps: usize) -> usize {
    batch_size.div_ceil(accumulation_steps.max(1)).max(1)
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
    /// The shuffle; row order if absent.
    pub shuffle: Option<Shuffle>,
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

    /// (epoch, row) of every sample of the batch of `step`. In a mixture the epoch is that of the row's data set, so that
    /// a row that comes again is never augmented as before.
    #[must_use]
    pub fn batch(&self, step: u64) -> Vec<(u64, usize)> {
        let (rows, size) = (self.num_rows as u64, self.batch_size as u64);
        let (first, count) = match self.last_batch {
            LastBatch::Carry => (step * size, size),
            LastBatch::Drop | LastBatch::Keep => {
                let place = step % self.steps_per_epoch() * size;
                (self.epoch_of(step) * rows + place, size.min(rows - place))
            }
        };
        let mut listed = None;
        (first..first + count)
            .map(|place| self.row(place / rows, place % rows, &mut listed))
            .collect()
    }

    /// (epoch, row) at a place of an epoch; `listed` keeps the list of an epoch from place to place.
    fn row(&self, epoch: u64, place: u64, listed: &mut Option<(u64, Vec<usize>)>) -> (u64, usize) {
        match &self.shuffle {
            None => (epoch, place as usize),
            Some(Shuffle::Keyed(order)) => {
                let at = order.at(epoch, place);
                (at.pass, order.joined_row(at) as usize)
            }
            Some(Shuffle::Listed(seed)) => {
                let list = || {
                    let mut rows: Vec<usize> = (0..self.num_rows).collect();
                    Stream::new(*seed, "order", epoch, "").shuffle(&mut rows);
                    (epoch, rows)
                };
                let kept = listed.take().filter(|(of, _)| *of == epoch);
                let (_, rows) = listed.insert(kept.unwrap_or_else(list));
                (epoch, rows[place as usize])
            }
        }
    }
}
