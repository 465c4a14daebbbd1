//! [`Reader`] and [`Stream`]: the samples of one dataset or of several, epoch by epoch, read ahead by threads.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::Dataset;
use super::block_shuffle::BlockShuffle;
use super::order::{Order, Place};
use super::prefetch::Prefetch;
use crate::error::{DatasetError, Result, StreamError};
use crate::image::ViewGbuffer;
use crate::predicate::Predicate;
use crate::schema::{Sample, Split};
use crate::sha256;
use crate::shard::Projection;

/// Memory of samples that wait to be taken, unless told otherwise.
pub const DEFAULT_READ_AHEAD_BYTES: usize = 64 << 20;
/// Version of the order; states of another one are refused.
const ORDER_VERSION: u32 = 1;

/// What is streamed, and how: `Reader::new(dataset).shuffled(7).threads(4).stream()?`.
///
/// ```no_run
/// # use std::path::Path;
/// # use std::sync::Arc;
/// use tap_dataset::{Dataset, Projection, Reader};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let dataset = Arc::new(Dataset::open(Path::new("out/shapes"))?);
/// let mut stream = Reader::new(dataset)
///     .filter("category = 'chair' and coverage_min > 0.02".parse()?)
///     .columns(Projection::of_columns(["points", "label"])?)
///     .shuffled(7)
///     .ranks(0, 4)
///     .stream()?;
/// for _ in 0..10 {
///     for sample in &mut stream {
///         let sample = sample?.sample;
///         println!("{} {}", sample.id, sample.points.len());
///     }
///     stream.next_epoch();
/// }
/// let state = serde_json::to_string(&stream.state())?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
#[must_use]
pub struct Reader {
    sets: Vec<(Arc<Dataset>, Option<f64>)>,
    split: Split,
    filter: Option<Predicate>,
    projection: Projection,
    seed: Option<u64>,
    blocks: Option<BlockShuffle>,
    rank: u64,
    num_ranks: u64,
    is_even: bool,
    num_threads: usize,
    read_ahead_bytes: usize,
}

impl Reader {
    /// All training rows of a dataset, in row order, with all columns but the G-buffer.
    pub fn new(dataset: Arc<Dataset>) -> Self {
        Self::mixed([(dataset, None)])
    }

    /// A mixture of datasets by weight, as [`Order::mixed`] defines it.
    pub fn mixed(sets: impl IntoIterator<Item = (Arc<Dataset>, Option<f64>)>) -> Self {
        Self {
            sets: sets.into_iter().collect(),
            split: Split::Train,
            filter: None,
            projection: Projection::default(),
            seed: None,
            blocks: None,
            rank: 0,
            num_ranks: 1,
            is_even: false,
            num_threads: 0,
            read_ahead_bytes: DEFAULT_READ_AHEAD_BYTES,
        }
    }

    /// Rows of this split.
    pub fn split(self, split: Split) -> Self {
        Self { split, ..self }
    }

    /// Only rows of which the condition is true, in each of the datasets.
    pub fn filter(self, predicate: Predicate) -> Self {
        let filter = Some(predicate);
        Self { filter, ..self }
    }

    /// Only these columns and views.
    pub fn columns(self, projection: Projection) -> Self {
        Self { projection, ..self }
    }

    /// Shuffled anew each epoch: a full permutation, which is a function of (seed, epoch).
    pub fn shuffled(self, seed: u64) -> Self {
        let (seed, blocks) = (Some(seed), None);
        Self { seed, blocks, ..self }
    }

    /// Shuffled anew each epoch in blocks of consecutive rows, so that rows that lie together on a disk or in a store are read
    /// together: each row group about once an epoch. A function of (seed, epoch) too.
    pub fn shuffled_in_blocks(self, seed: u64, blocks: BlockShuffle) -> Self {
        let (seed, blocks) = (Some(seed), Some(blocks));
        Self { seed, blocks, ..self }
    }

    /// Only the share of one of several processes: of each `num_ranks` positions the one numbered `rank`. Shares do not
    /// overlap; they differ by one sample where the epoch cannot be divided.
    pub fn ranks(self, rank: u64, num_ranks: u64) -> Self {
        Self {
            rank,
            num_ranks,
            ..self
        }
    }

    /// Leaves out the last few positions of an epoch, other rows each epoch, so that all ranks get as many samples.
    pub fn even_ranks(self) -> Self {
        Self {
            is_even: true,
            ..self
        }
    }

    /// Threads that read; 0, the default, is one per core, and 16 where a dataset is in a store. Samples and their order do not
    /// depend on it.
    pub fn threads(self, num_threads: usize) -> Self {
        Self { num_threads, ..self }
    }

    /// Bound on the memory of samples that wait to be taken ([`DEFAULT_READ_AHEAD_BYTES`]); to it comes one sample a thread.
    pub fn read_ahead_bytes(self, read_ahead_bytes: usize) -> Self {
        Self {
            read_ahead_bytes,
            ..self
        }
    }

    /// The stream of samples, from the beginning of epoch 0.
    ///
    /// # Errors
    /// When the condition names a column that a dataset does not have, no row is left, a weight makes no sense, the rank is
    /// none, or a shard is damaged.
    pub fn stream(self) -> Result<Stream> {
        self.stream_of(Ok, |sample| num_bytes(&sample.sample))
    }

    /// A stream of what `make` makes of each sample, such as decoded images, in the reading threads. `num_bytes` is the memory
    /// that a result takes while it waits.
    ///
    /// # Errors
    /// As [`stream`](Self::stream).
    pub fn stream_of<T: Send + 'static>(
        self,
        make: impl Fn(StreamSample) -> Result<T> + Send + Sync + 'static,
        num_bytes: impl Fn(&T) -> usize + Send + Sync + 'static,
    ) -> Result<Stream<T>> {
        let Self { rank, num_ranks, .. } = self;
        if rank >= num_ranks {
            return Err(DatasetError::Stream(StreamError::Rank { rank, num_ranks }));
        }
        let rows: Vec<SetRows> = self
            .sets
            .iter()
            .map(|(dataset, _)| SetRows::choose(dataset, self.split, self.filter.as_ref()))
            .collect::<Result<_>>()?;
        let weights = self.sets.iter().map(|(_, weight)| *weight);
        let shares: Vec<_> = rows.iter().map(SetRows::len).zip(weights).collect();
        let order = Order::mixed(&shares, self.seed)?;
        let order = match self.blocks {
            Some(blocks) => order.in_blocks(blocks),
            None => order,
        };
        let num_threads = match self.num_threads {
            0 => self
                .sets
                .iter()
                .map(|(dataset, _)| dataset.num_threads())
                .max()
                .unwrap_or(1),
            num_threads => num_threads,
        };
        let order_sha256 = order_sha256(&self, &order);
        let projection = self.projection;
        let read = move |place: Place| {
            let rows = &rows[place.set];
            let row = rows.at(place.row);
            let sample = rows.dataset.read_columns(rows.split, row, &projection)?;
            make(StreamSample {
                set: place.set,
                pass: place.pass,
                row,
                sample,
            })
        };
        let made = move |place| {
            let result = read(place);
            let num_bytes = result.as_ref().map_or(0, &num_bytes);
            (result, num_bytes)
        };
        Ok(Stream {
            order,
            order_sha256,
            rank,
            num_ranks,
            is_even: self.is_even,
            num_threads,
            read_ahead_bytes: self.read_ahead_bytes,
            read: Arc::new(made),
            epoch: 0,
            begin: 0,
            num_taken: 0,
            ahead: None,
        })
    }
}

/// Hash of what decides on the order.
fn order_sha256(reader: &Reader, order: &Order) -> String {
    let sets: Vec<&str> = reader.sets.iter().map(|(dataset, _)| dataset.sha256()).collect();
    let filter = reader.filter.as_ref().map(ToString::to_string);
    let decisive = (ORDER_VERSION, order, sets, reader.split, filter);
    sha256::of_bytes(serde_json::to_vec(&decisive).expect("plain data has a JSON form"))
}

/// The rows of a dataset that are streamed: all, or a list.
struct SetRows {
    dataset: Arc<Dataset>,
    split: Split,
    /// 8 bytes a row.
    chosen: Option<Vec<usize>>,
}

impl SetRows {
    fn choose(dataset: &Arc<Dataset>, split: Split, filter: Option<&Predicate>) -> Result<Self> {
        let rows = Self {
            dataset: Arc::clone(dataset),
            split,
            chosen: filter
                .map(|predicate| dataset.matching(split, predicate))
                .transpose()?,
        };
        if rows.len() == 0 {
            return Err(DatasetError::Stream(StreamError::NoRows {
                split: split.as_str(),
                condition: filter.map_or_else(String::new, |predicate| format!(" where {predicate}")),
                path: dataset.dir().to_owned(),
            }));
        }
        Ok(rows)
    }

    fn len(&self) -> u64 {
        self.chosen
            .as_ref()
            .map_or_else(|| self.dataset.len(self.split), Vec::len) as u64
    }

    fn at(&self, row: u64) -> usize {
        self.chosen
            .as_ref()
            .map_or(row as usize, |chosen| chosen[row as usize])
    }
}

/// A sample and where it comes from.
#[derive(Debug, Clone, PartialEq)]
pub struct StreamSample {
    /// Index of its dataset in the mixture.
    pub set: usize,
    /// 0-based pass over that dataset, in which each of its rows comes once: draws that are keyed by it and the id differ
    /// each time. Of a single dataset it is the epoch.
    pub pass: u64,
    /// Row in the split of its dataset.
    pub row: usize,
    /// Its columns.
    pub sample: Sample,
}

/// Where a stream is: between two samples of an epoch. Of all ranks that have taken as many samples it is the same, and any
/// number of ranks goes on from it without a sample twice or left out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StreamState {
    /// 0-based epoch.
    pub epoch: u64,
    /// Positions of the epoch that all ranks together have taken.
    pub position: u64,
    /// Hash of what decides on the order: data, condition, weights, seed.
    pub order_sha256: String,
}

type Read<T> = dyn Fn(Place) -> (Result<T>, usize) + Send + Sync;

/// An iterator over the samples of an epoch; [`next_epoch`](Self::next_epoch) begins the next one. An error does not end it.
///
/// Memory: the bytes that were read ahead ([`Reader::read_ahead_bytes`]) and one sample a thread; the footers of the shards
/// that were used last ([`Dataset`]); with a condition 8 bytes for each row that is left.
pub struct Stream<T = StreamSample> {
    order: Order,
    order_sha256: String,
    rank: u64,
    num_ranks: u64,
    is_even: bool,
    num_threads: usize,
    read_ahead_bytes: usize,
    read: Arc<Read<T>>,
    epoch: u64,
    /// Position at which this stream began or was resumed within the epoch.
    begin: u64,
    /// Samples of this rank taken since.
    num_taken: u64,
    ahead: Option<Prefetch<Result<T>>>,
}

impl<T> fmt::Debug for Stream<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stream")
            .field("order", &self.order)
            .field("state", &self.state())
            .finish_non_exhaustive()
    }
}

impl<T> Stream<T> {
    /// The epoch whose samples come next.
    #[must_use]
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Samples of an epoch, of all ranks together.
    #[must_use]
    pub fn epoch_len(&self) -> u64 {
        self.order.len()
    }

    /// Samples that are left of this epoch for this rank.
    #[must_use]
    pub fn num_left(&self) -> u64 {
        self.num_items() - self.num_taken
    }

    /// Begins an epoch from its first sample.
    pub fn begin_epoch(&mut self, epoch: u64) {
        self.go_to(epoch, 0);
    }

    /// Begins the next epoch, wherever this one is.
    pub fn next_epoch(&mut self) {
        self.go_to(self.epoch + 1, 0);
    }

    /// Where this stream is.
    #[must_use]
    pub fn state(&self) -> StreamState {
        let position = self.begin + self.num_taken * self.num_ranks;
        let is_over = position >= self.order.len() || (self.is_even && self.num_left() == 0);
        StreamState {
            epoch: self.epoch + u64::from(is_over),
            position: if is_over { 0 } else { position },
            order_sha256: self.order_sha256.clone(),
        }
    }

    /// Goes on from a state, of this rank or another, of a stream with the same order.
    ///
    /// # Errors
    /// When the state is of another order: of other data, another condition, other weights or another seed.
    pub fn resume(&mut self, state: &StreamState) -> Result<()> {
        if state.order_sha256 != self.order_sha256 {
            return Err(DatasetError::Stream(StreamError::OtherOrder));
        }
        let (position, len) = (state.position, self.order.len());
        if position >= len {
            return Err(DatasetError::Stream(StreamError::Position { position, len }));
        }
        self.go_to(state.epoch, position);
        Ok(())
    }

    fn go_to(&mut self, epoch: u64, position: u64) {
        self.ahead = None;
        (self.epoch, self.begin, self.num_taken) = (epoch, position, 0);
    }

    /// Samples of this rank from `begin` to the end of the epoch.
    fn num_items(&self) -> u64 {
        let num_positions = self.order.len() - self.begin;
        if self.is_even {
            num_positions / self.num_ranks
        } else {
            num_positions.saturating_sub(self.rank).div_ceil(self.num_ranks)
        }
    }
}

impl<T: Send + 'static> Stream<T> {
    fn start(&self) -> Prefetch<Result<T>> {
        let Self {
            rank,
            num_ranks,
            epoch,
            begin,
            ..
        } = *self;
        let (order, read) = (self.order.clone(), Arc::clone(&self.read));
        let make = move |item: u64| read(order.at(epoch, begin + rank + item * num_ranks));
        Prefetch::start(
            Box::new(make),
            self.num_items(),
            self.num_threads,
            self.read_ahead_bytes,
        )
    }
}

impl<T: Send + 'static> Iterator for Stream<T> {
    type Item = Result<T>;

    fn next(&mut self) -> Option<Result<T>> {
        if self.num_left() == 0 {
            self.ahead = None;
            return None;
        }
        if self.ahead.is_none() {
            self.ahead = Some(self.start());
        }
        let sample = self.ahead.as_mut()?.next();
        self.num_taken += u64::from(sample.is_some());
        sample
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let num_left = self.num_left() as usize;
        (num_left, Some(num_left))
    }
}

/// Memory of a sample.
fn num_bytes(sample: &Sample) -> usize {
    let views = sample.views.iter().map(|view| {
        let gbuffer: usize = view
            .gbuffer
            .iter()
            .flat_map(ViewGbuffer::pngs)
            .map(Vec::len)
            .sum();
        view.image_png.len() + view.mask.as_bytes().len() + gbuffer + size_of_val(view)
    });
    let normals = sample.normals.as_deref().map_or(0, size_of_val);
    let part_labels = sample.part_labels.as_ref().map_or(0, Vec::len);
    size_of_val(sample) + size_of_val(&sample.points[..]) + normals + part_labels + views.sum::<usize>()
}
