//! [`Rows`] and [`RowStream`]: the rows of data sets that match a condition, at random and in the order of an epoch. `Dataset` in
//! `tap_views/_dataset.py` gives them shares for the workers of a loader, and a state.

use std::num::NonZeroU32;
use std::path::PathBuf;
use std::process;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use pyo3::exceptions::{PyIndexError, PyRuntimeError, PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyDict;
use tap_dataset::predicate::Predicate;
use tap_dataset::{BlockShuffle, Dataset, DatasetError, Projection, Reader, Split, Stream, StreamState};

use crate::error::{dataset_error, value_error};
use crate::row::{Row, Selection, ViewChoice};

/// Data sets with their weights in a mixture.
type Sets = Vec<(Arc<Dataset>, Option<f64>)>;

/// Rows of data sets: of one split, those of which a condition is true.
#[pyclass(frozen, module = "tap_views._native")]
pub(crate) struct Rows {
    source: RowSource,
    split: Split,
    predicate: Option<Predicate>,
    seed: u64,
    selection: Selection,
    projection: Projection,
    /// Of each data set, the places in its split; `None` for all.
    matching: Vec<Option<Vec<usize>>>,
    /// Number of rows of each data set.
    lengths: Vec<usize>,
}

/// Data sets that are opened again after a fork, which threads and connections do not survive.
struct RowSource {
    sets: Vec<(PathBuf, Option<f64>)>,
    images: Option<String>,
    opened: RwLock<(u32, Sets)>,
}

impl RowSource {
    fn open(sets: Vec<(PathBuf, Option<f64>)>, images: Option<String>) -> Result<Self, DatasetError> {
        let opened = open(&sets, images.as_deref())?;
        Ok(Self {
            sets,
            images,
            opened: RwLock::new((process::id(), opened)),
        })
    }

    /// The data sets, opened by this process.
    fn get(&self) -> Result<Sets, DatasetError> {
        {
            let opened = self.opened.read().unwrap_or_else(PoisonError::into_inner);
            let (pid, sets) = &*opened;
            if *pid == process::id() {
                return Ok(sets.clone());
            }
        }
        let sets = open(&self.sets, self.images.as_deref())?;
        let mut opened = self.opened.write().unwrap_or_else(PoisonError::into_inner);
        *opened = (process::id(), sets.clone());
        Ok(sets)
    }
}

fn open(sets: &[(PathBuf, Option<f64>)], images: Option<&str>) -> Result<Sets, DatasetError> {
    let open_one = |(path, weight): &(PathBuf, Option<f64>)| {
        let dataset = Dataset::open(path)?;
        let dataset = match images {
            Some(images) => dataset.with_images(images)?,
            None => dataset,
        };
        Ok((Arc::new(dataset), *weight))
    };
    sets.iter().map(open_one).collect()
}

#[pymethods]
impl Rows {
    /// `views`: None for all, numbers, or how many are drawn by `seed`, epoch and id.
    #[new]
    #[pyo3(signature = (sets, split, condition=None, columns=None, views=None, images=None, seed=0))]
    #[allow(clippy::too_many_arguments, reason = "they are keywords in Python")]
    fn new(
        py: Python<'_>,
        sets: Vec<(PathBuf, Option<f64>)>,
        split: &str,
        condition: Option<&str>,
        columns: Option<Vec<String>>,
        views: Option<&Bound<'_, PyAny>>,
        images: Option<String>,
        seed: u64,
    ) -> PyResult<Self> {
        let split = split.parse::<Split>().map_err(|error| value_error(&error))?;
        let predicate = condition
            .map(str::parse::<Predicate>)
            .transpose()
            .map_err(|error| value_error(&error))?;
        let views = match views {
            None => ViewChoice::All,
            Some(views) => match views.extract::<usize>() {
                Ok(num_views) => ViewChoice::Drawn { num_views, seed },
                Err(_) => ViewChoice::These(views.extract()?),
            },
        };
        py.detach(|| {
            let wrong = |error: DatasetError| dataset_error(&error);
            let source = RowSource::open(sets, images).map_err(wrong)?;
            let opened = source.get().map_err(wrong)?;
            let Some((first, _)) = opened.first() else {
                return Err(PyTypeError::new_err("no data set is given"));
            };
            let selection = Selection::new(first, columns.as_deref(), views)?;
            let projection = selection.projection(first).map_err(wrong)?;
            let matching_of = |(dataset, _): &(Arc<Dataset>, _)| {
                let predicate = predicate.as_ref();
                predicate
                    .map(|predicate| dataset.matching(split, predicate))
                    .transpose()
            };
            let matching: Result<Vec<_>, DatasetError> = opened.iter().map(matching_of).collect();
            let matching = matching.map_err(wrong)?;
            let lengths = opened.iter().zip(&matching).map(|((dataset, _), matching)| {
                matching.as_ref().map_or_else(|| dataset.len(split), Vec::len)
            });
            Ok(Self {
                lengths: lengths.collect(),
                source,
                split,
                predicate,
                seed,
                selection,
                projection,
                matching,
            })
        })
    }

    fn __len__(&self) -> usize {
        self.num_rows()
    }

    /// The row at a place, decoded; `epoch` says which views are drawn.
    fn row<'py>(&self, py: Python<'py>, place: usize, epoch: u64) -> PyResult<Bound<'py, PyDict>> {
        let row = py.detach(|| self.read(place, epoch))?;
        row.into_python(py)
    }

    /// The rows of an epoch for one of several ranks. `blocks`: rows of a block and blocks of a window, where they are shuffled so.
    #[pyo3(signature = (*, is_shuffled, blocks, rank, num_ranks, is_even, threads, read_ahead_bytes))]
    #[allow(clippy::too_many_arguments, reason = "they are keywords in Python")]
    fn stream(
        &self,
        py: Python<'_>,
        is_shuffled: bool,
        blocks: Option<(NonZeroU32, NonZeroU32)>,
        rank: u64,
        num_ranks: u64,
        is_even: bool,
        threads: usize,
        read_ahead_bytes: usize,
    ) -> PyResult<RowStream> {
        let opened = py.detach(|| -> Result<_, DatasetError> {
            let sets = self.source.get()?;
            let sizes: Vec<u32> = sets.iter().map(|(dataset, _)| dataset.image_size_px()).collect();
            let mut reader = Reader::mixed(sets)
                .split(self.split)
                .columns(self.projection.clone())
                .ranks(rank, num_ranks)
                .threads(threads)
                .read_ahead_bytes(read_ahead_bytes);
            if let Some(predicate) = &self.predicate {
                reader = reader.filter(predicate.clone());
            }
            reader = match blocks {
                Some((block_rows, window_blocks)) if is_shuffled => {
                    let blocks = BlockShuffle {
                        block_rows,
                        window_blocks,
                    };
                    reader.shuffled_in_blocks(self.seed, blocks)
                }
                None if is_shuffled => reader.shuffled(self.seed),
                _ => reader,
            };
            if is_even {
                reader = reader.even_ranks();
            }
            let selection = self.selection.clone();
            reader.stream_of(
                move |row| Row::decode(row.sample, row.pass, &selection, sizes[row.set]),
                Row::num_bytes,
            )
        });
        let stream = opened.map_err(|error| dataset_error(&error))?;
        Ok(RowStream {
            pid: process::id(),
            share: (rank, num_ranks),
            stream: Mutex::new(Some(stream)),
        })
    }

    /// Names of the columns that are read.
    #[getter]
    fn columns(&self) -> Vec<&'static str> {
        self.selection.columns().to_vec()
    }

    /// Class names; a label is an index into them.
    #[getter]
    fn classes(&self) -> PyResult<Vec<String>> {
        Ok(self.first()?.classes().to_vec())
    }

    /// Pairs of category and name; a part label is an index into them.
    #[getter]
    fn parts(&self) -> PyResult<Vec<(String, String)>> {
        let dataset = self.first()?;
        let parts = dataset.manifest().parts.iter();
        Ok(parts
            .map(|part| (part.category.clone(), part.name.clone()))
            .collect())
    }
}

impl Rows {
    fn num_rows(&self) -> usize {
        self.lengths.iter().sum()
    }

    fn first(&self) -> PyResult<Arc<Dataset>> {
        let sets = self.source.get().map_err(|error| dataset_error(&error))?;
        Ok(Arc::clone(&sets[0].0))
    }

    fn read(&self, place: usize, epoch: u64) -> PyResult<Row> {
        let mut row = place;
        for (set, &length) in self.lengths.iter().enumerate() {
            if row < length {
                let row = self.matching[set].as_ref().map_or(row, |matching| matching[row]);
                return self
                    .decode(set, row, epoch)
                    .map_err(|error| dataset_error(&error));
            }
            row -= length;
        }
        Err(PyIndexError::new_err(format!(
            "row {place} of {}",
            self.__len__()
        )))
    }

    fn decode(&self, set: usize, row: usize, epoch: u64) -> Result<Row, DatasetError> {
        let sets = self.source.get()?;
        let (dataset, _) = &sets[set];
        let sample = dataset.read_columns(self.split, row, &self.projection)?;
        Row::decode(sample, epoch, &self.selection, dataset.image_size_px())
    }
}

/// An iterator over rows, read and decoded ahead of time by threads.
#[pyclass(frozen, module = "tap_views._native")]
pub(crate) struct RowStream {
    /// The process whose threads read.
    pid: u32,
    /// Rank and number of ranks.
    share: (u64, u64),
    /// `None` once it is dropped.
    stream: Mutex<Option<Stream<Row>>>,
}

#[pymethods]
impl RowStream {
    fn __iter__(this: Py<Self>) -> Py<Self> {
        this
    }

    fn __next__<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyDict>>> {
        let next = py.detach(|| {
            if self.pid != process::id() {
                return Err(PyRuntimeError::new_err(
                    "an iterator can't be used in a forked process: make it there",
                ));
            }
            let next = self.with(|stream| stream.next().transpose());
            next.map_err(|error| dataset_error(&error))
        })?;
        next.map(|row| row.into_python(py)).transpose()
    }

    /// Rows that are left.
    fn __length_hint__(&self) -> usize {
        self.with(|stream| stream.num_left()) as usize
    }

    /// Whether it can be used here, for this share.
    fn is_of(&self, rank: u64, num_ranks: u64) -> bool {
        self.pid == process::id() && self.share == (rank, num_ranks)
    }

    /// Goes to a state (JSON), or without one to the beginning of an epoch.
    #[pyo3(signature = (epoch, state=None))]
    fn go_to(&self, py: Python<'_>, epoch: u64, state: Option<&str>) -> PyResult<()> {
        let state: Option<StreamState> = state
            .map(serde_json::from_str)
            .transpose()
            .map_err(|error| PyValueError::new_err(format!("not a state of a Dataset: {error}")))?;
        let gone = py.detach(|| {
            self.with(|stream| {
                if let Some(state) = &state {
                    return stream.resume(state);
                }
                stream.begin_epoch(epoch);
                Ok(())
            })
        });
        gone.map_err(|error| dataset_error(&error))
    }

    /// The epoch whose rows come next.
    #[getter]
    fn epoch(&self) -> u64 {
        self.with(|stream| stream.epoch())
    }

    /// Where the stream is, as JSON.
    fn state(&self) -> PyResult<String> {
        self.with(|stream| serde_json::to_string(&stream.state()))
            .map_err(|error| value_error(&error))
    }
}

impl RowStream {
    fn with<R>(&self, work: impl FnOnce(&mut Stream<Row>) -> R) -> R {
        let mut stream = self.stream.lock().unwrap_or_else(PoisonError::into_inner);
        work(stream.as_mut().expect("it is there until it is dropped"))
    }
}

impl Drop for RowStream {
    fn drop(&mut self) {
        if self.pid != process::id() {
            // Its threads are in another process: they can't be joined.
            let stream = self.stream.get_mut().unwrap_or_else(PoisonError::into_inner);
            std::mem::forget(stream.take());
        }
    }
}
