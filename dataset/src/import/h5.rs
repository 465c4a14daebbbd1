//! HDF5 files as h5py writes them: named arrays of numbers, contiguous or in compressed chunks.
//!
//! Read with `hdf5-reader`, which is in Rust alone: no C library, so a hostile file is an error and never an abort. What a
//! file claims is bounded by its length before anything is allocated. Rows are read one by one; an array in chunks, of which a
//! row touches many, is unpacked once into a temporary file.

use std::fmt;
use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use hdf5_reader::{Dataset, Datatype, FileStorage, Hdf5File, OpenOptions, SliceInfo, SliceInfoElem};

use crate::error::{DatasetError, ImportError, Result};
use crate::local_file::read_exact_at;
use crate::pipeline::catch_panic;

/// Largest chunk that is decoded, and largest block of rows that is read at a time.
const MAX_BLOCK_BYTES: usize = 256 << 20;
/// Target size of a block of rows.
const BLOCK_BYTES: usize = 8 << 20;
/// Largest number of rows of a file.
const MAX_ROWS: u64 = 1 << 24;
/// Largest number of values in a row.
const MAX_ROW_LEN: u64 = 1 << 21;
/// Coordinates compress to little less than themselves: a file that claims so many times its length is a bomb.
const MAX_COMPRESSION: u64 = 256;

/// An open file.
pub(super) struct H5File {
    file: Hdf5File,
    path: PathBuf,
    len: u64,
}

/// An array of a file: rows of numbers.
pub(super) struct H5Array {
    dataset: Dataset,
    path: PathBuf,
    name: String,
    len: u64,
}

impl fmt::Debug for H5File {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("H5File")
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for H5Array {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("H5Array")
            .field("name", &self.name)
            .field("shape", &self.shape())
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}

impl H5File {
    pub(super) fn open(path: &Path) -> Result<Self> {
        let file = File::open(path).map_err(DatasetError::io("open", path))?;
        let metadata = file.metadata().map_err(DatasetError::io("open", path))?;
        let options = OpenOptions::default()
            .with_max_chunk_bytes(MAX_BLOCK_BYTES)
            .with_max_read_bytes(MAX_BLOCK_BYTES);
        // Not mapped into memory, where a file that is cut off meanwhile would end the program.
        let file = guarded(path, || {
            Hdf5File::from_storage_with_options(Arc::new(FileStorage::from_file(file)?), options)
        })?;
        let (len, whole) = (metadata.len(), file.superblock().eof_address);
        if len < whole {
            return Err(malformed(path, format!("it is cut off: {len} bytes of {whole}")));
        }
        Ok(Self {
            file,
            path: path.to_owned(),
            len,
        })
    }

    /// Names of the arrays at the top of the file.
    pub(super) fn names(&self) -> Result<Vec<String>> {
        guarded(&self.path, || Ok(self.file.root_group()?.member_names()?.1))
    }

    /// The first of these arrays that is there.
    pub(super) fn find(&self, names: &[&str]) -> Result<Option<H5Array>> {
        let there = self.names()?;
        let Some(name) = names
            .iter()
            .find(|&&name| there.iter().any(|other| other == name))
        else {
            return Ok(None);
        };
        let dataset = guarded(&self.path, || self.file.dataset(name))?;
        let array = H5Array {
            dataset,
            path: self.path.clone(),
            name: (*name).to_owned(),
            len: self.len,
        };
        array.check()?;
        Ok(Some(array))
    }

    /// An array that has to be there.
    pub(super) fn array(&self, names: &[&str]) -> Result<H5Array> {
        match self.find(names)? {
            Some(array) => Ok(array),
            None => Err(malformed(
                &self.path,
                format!(
                    "no array {}, only {}",
                    names.join(" or "),
                    self.names()?.join(", ")
                ),
            )),
        }
    }
}

impl H5Array {
    fn error(&self, detail: impl fmt::Display) -> DatasetError {
        malformed(&self.path, format!("array {}: {detail}", self.name))
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Sides, each of which fits the memory.
    fn shape(&self) -> Vec<usize> {
        self.dataset.shape().iter().map(|&side| side as usize).collect()
    }

    /// Refuses types that are no numbers, and sizes that cannot be true.
    fn check(&self) -> Result<()> {
        let shape = self.dataset.shape();
        let is_number = matches!(
            self.dataset.dtype(),
            Datatype::FixedPoint {
                size: 1 | 2 | 4 | 8,
                ..
            } | Datatype::FloatingPoint { size: 4 | 8, .. }
        );
        if !is_number {
            return Err(self.error(format_args!(
                "expected integers or floats of 32 or 64 bits, not {:?}",
                self.dataset.dtype()
            )));
        }
        let [num_rows, sides @ ..] = shape else {
            return Err(self.error("a single number"));
        };
        let row_len = sides.iter().try_fold(1_u64, |len, side| len.checked_mul(*side));
        let fits = *num_rows <= MAX_ROWS && row_len.is_some_and(|len| len <= MAX_ROW_LEN);
        let claimed = row_len.and_then(|len| len.checked_mul(*num_rows)?.checked_mul(self.width() as u64));
        let is_plausible = claimed.is_some_and(|claimed| claimed <= self.len.saturating_mul(MAX_COMPRESSION));
        if fits && is_plausible {
            Ok(())
        } else {
            Err(self.error(format_args!("claims {shape:?} numbers in {} bytes", self.len)))
        }
    }

    /// Bytes of a number.
    fn width(&self) -> usize {
        match self.dataset.dtype() {
            Datatype::FixedPoint { size, .. } | Datatype::FloatingPoint { size, .. } => usize::from(*size),
            _ => 8,
        }
    }

    pub(super) fn num_rows(&self) -> usize {
        self.shape().first().copied().unwrap_or_default()
    }

    /// Numbers of a row.
    fn row_len(&self) -> usize {
        self.shape().iter().skip(1).product()
    }

    /// N and C of an array of rows of N points with C numbers each.
    pub(super) fn points_per_row(&self) -> Result<[usize; 2]> {
        match self.shape()[..] {
            [_, num_points, num_values] if num_points > 0 && num_values >= 3 => Ok([num_points, num_values]),
            _ => Err(self.error(format_args!(
                "is of shape {:?}, expected objects x points x 3",
                self.shape()
            ))),
        }
    }

    /// Refuses an array of another number of rows, or of rows of another length.
    pub(super) fn expect(&self, num_rows: usize, row_len: usize) -> Result<()> {
        if [self.num_rows(), self.row_len()] == [num_rows, row_len] {
            Ok(())
        } else {
            Err(self.error(format_args!(
                "is of shape {:?}, expected {num_rows} rows of {row_len} numbers",
                self.shape()
            )))
        }
    }

    /// Some rows, one after the other. Integers above 2^53 are rounded.
    #[allow(clippy::cast_lossless, reason = "one line reads numbers of all types")]
    fn rows(&self, rows: Range<usize>) -> Result<Vec<f64>> {
        let mut selections = vec![SliceInfoElem::Slice {
            start: rows.start as u64,
            end: rows.end as u64,
            step: 1,
        }];
        let all = |&side: &u64| SliceInfoElem::Slice {
            start: 0,
            end: side,
            step: 1,
        };
        selections.extend(self.dataset.shape()[1..].iter().map(all));
        let slice = SliceInfo { selections };
        macro_rules! read {
            ($number:ty) => {
                guarded(&self.path, || self.dataset.read_slice::<$number>(&slice))?
                    .iter()
                    .map(|&number| number as f64)
                    .collect()
            };
        }
        let numbers: Vec<f64> = match self.dataset.dtype() {
            Datatype::FloatingPoint { size: 4, .. } => read!(f32),
            Datatype::FloatingPoint { .. } => read!(f64),
            Datatype::FixedPoint { size, signed, .. } => match (size, signed) {
                (1, true) => read!(i8),
                (1, false) => read!(u8),
                (2, true) => read!(i16),
                (2, false) => read!(u16),
                (4, true) => read!(i32),
                (4, false) => read!(u32),
                (_, true) => read!(i64),
                (_, false) => read!(u64),
            },
            other => return Err(self.error(format_args!("expected numbers, not {other:?}"))),
        };
        if numbers.len() == rows.len() * self.row_len() {
            Ok(numbers)
        } else {
            Err(self.error(format_args!("{} numbers for {} rows", numbers.len(), rows.len())))
        }
    }

    /// Rows of a block: about so many bytes, and whole chunks.
    fn block_rows(&self) -> usize {
        let chunk = self.dataset.chunks().and_then(|sides| sides.first().copied());
        let chunk = chunk.map_or(1, |side| side as usize).max(1);
        let row_bytes = (self.row_len() * self.width()).max(1);
        let most = (MAX_BLOCK_BYTES / row_bytes).max(1);
        (BLOCK_BYTES / row_bytes).next_multiple_of(chunk).clamp(1, most)
    }

    /// Class of each row: integers of any type, or floats without a fraction, as (rows) or (rows, 1).
    pub(super) fn labels(&self) -> Result<Vec<i64>> {
        self.expect(self.num_rows(), 1)?;
        let mut labels = Vec::with_capacity(self.num_rows());
        for start in (0..self.num_rows()).step_by(self.block_rows()) {
            let end = (start + self.block_rows()).min(self.num_rows());
            for (row, label) in (start..).zip(self.rows(start..end)?) {
                if label.fract() != 0.0 || label.abs() >= 2_f64.powi(53) {
                    return Err(self.error(format_args!("row {row} is {label}, which is no label")));
                }
                labels.push(label as i64);
            }
        }
        Ok(labels)
    }

    /// Random access to the rows. An array in chunks is unpacked into a temporary file, which has no name and ends with the
    /// program.
    pub(super) fn into_rows(self) -> Result<H5Rows> {
        if self.dataset.chunks().is_none() {
            return Ok(H5Rows::InPlace(Box::new(self)));
        }
        let spool_error = |e| DatasetError::io("unpack into the temporary folder", &self.path)(e);
        let file = tempfile::tempfile().map_err(spool_error)?;
        let mut writer = BufWriter::with_capacity(1 << 20, file);
        for start in (0..self.num_rows()).step_by(self.block_rows()) {
            let end = (start + self.block_rows()).min(self.num_rows());
            for number in self.rows(start..end)? {
                writer.write_all(&number.to_le_bytes()).map_err(spool_error)?;
            }
        }
        let file = writer.into_inner().map_err(|e| spool_error(e.into_error()))?;
        Ok(H5Rows::Unpacked {
            file,
            row_len: self.row_len(),
            path: self.path,
        })
    }
}

/// Rows of an array, read one by one from any thread.
#[derive(Debug)]
pub(super) enum H5Rows {
    InPlace(Box<H5Array>),
    Unpacked {
        file: File,
        row_len: usize,
        path: PathBuf,
    },
}

impl H5Rows {
    /// The numbers of a row.
    pub(super) fn read(&self, row: usize) -> Result<Vec<f64>> {
        match self {
            Self::InPlace(array) => array.rows(row..row + 1),
            Self::Unpacked { file, row_len, path } => {
                let mut bytes = vec![0; row_len * size_of::<f64>()];
                let start = (row * bytes.len()) as u64;
                read_exact_at(file, &mut bytes, start)
                    .map_err(DatasetError::io("read the unpacked rows of", path))?;
                let (numbers, _) = bytes.as_chunks();
                Ok(numbers.iter().map(|&number| f64::from_le_bytes(number)).collect())
            }
        }
    }
}

fn malformed(path: &Path, detail: String) -> DatasetError {
    DatasetError::Import(ImportError::Malformed {
        detail,
        path: path.to_owned(),
    })
}

/// Calls the reader; a panic of it is an error too.
fn guarded<T>(path: &Path, read: impl FnOnce() -> Result<T, hdf5_reader::error::Error>) -> Result<T> {
    match catch_panic(read) {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(DatasetError::Import(ImportError::Hdf5 {
            detail: error.to_string(),
            path: path.to_owned(),
        })),
        Err(message) => Err(malformed(path, format!("the HDF5 reader panicked: {message}"))),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use hdf5_writer::{
        DatasetBuilder, FILTER_DEFLATE, FILTER_SHUFFLE, FilterDescription, Hdf5Builder, WriteOptions,
    };
    use proptest::prelude::*;

    use super::*;

    fn filter(id: u16, client_data: Vec<u32>) -> FilterDescription {
        FilterDescription {
            id,
            name: None,
            client_data,
        }
    }

    /// 5 x 4 x 3 numbers, contiguous and in compressed chunks across all sides.
    fn file(dir: &Path) -> PathBuf {
        let numbers: Vec<f32> = (0..60).map(|i| i as f32 / 4.0).collect();
        let plain = DatasetBuilder::typed_data("data", vec![5, 4, 3], &numbers).unwrap();
        let chunked = DatasetBuilder::typed_data("chunked", vec![5, 4, 3], &numbers)
            .unwrap()
            .chunked(vec![2, 3, 1])
            .filter(filter(FILTER_SHUFFLE, vec![4]))
            .filter(filter(FILTER_DEFLATE, vec![4]));
        let labels = DatasetBuilder::typed_data("label", vec![5, 1], &[0_u8, 1, 2, 3, 250]).unwrap();
        let halves = DatasetBuilder::typed_data("halves", vec![2], &[0.5_f64, 1.0]).unwrap();
        let builder = Hdf5Builder::new()
            .dataset(plain)
            .dataset(chunked)
            .dataset(labels)
            .dataset(halves);
        let bytes = builder
            .into_plan()
            .unwrap()
            .encode(WriteOptions::default())
            .unwrap();
        let path = dir.join("a.h5");
        std::fs::write(&path, bytes).unwrap();
        path
    }

    #[test]
    fn rows_are_read_in_any_order_in_place_and_from_chunks() {
        let dir = tempfile::tempdir().unwrap();
        let file = H5File::open(&file(dir.path())).unwrap();
        for name in ["data", "chunked"] {
            let array = file.array(&["points", name]).unwrap();
            assert_eq!((array.num_rows(), array.points_per_row().unwrap()), (5, [4, 3]));
            let rows = array.into_rows().unwrap();
            assert_eq!(matches!(rows, H5Rows::Unpacked { .. }), name == "chunked");
            for row in [4, 0, 2] {
                let expected: Vec<f64> = (0..12).map(|i| (12 * row + i) as f64 / 4.0).collect();
                assert_eq!(rows.read(row).unwrap(), expected, "{name}");
            }
        }
        assert_eq!(
            file.array(&["label"]).unwrap().labels().unwrap(),
            [0, 1, 2, 3, 250]
        );
    }

    #[test]
    fn what_is_missing_or_of_another_shape_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let file = H5File::open(&file(dir.path())).unwrap();
        let error = file.array(&["pid", "seg"]).unwrap_err().to_string();
        assert!(error.contains("no array pid or seg, only"), "{error}");
        let error = file
            .array(&["label"])
            .unwrap()
            .points_per_row()
            .unwrap_err()
            .to_string();
        assert!(error.contains("[5, 1]"), "{error}");
        let error = file.array(&["halves"]).unwrap().labels().unwrap_err().to_string();
        assert!(error.contains("row 0 is 0.5"), "{error}");
        file.array(&["data"]).unwrap().labels().unwrap_err();
    }

    #[test]
    fn a_file_that_is_cut_off_anywhere_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let path = file(dir.path());
        let whole = std::fs::read(&path).unwrap();
        let read = |bytes: &[u8]| -> Result<()> {
            std::fs::write(&path, bytes).unwrap();
            let file = H5File::open(&path)?;
            for name in ["data", "chunked"] {
                let rows = file.array(&[name])?.into_rows()?;
                (0..5).try_for_each(|row| rows.read(row).map(drop))?;
            }
            file.array(&["label"])?.labels().map(drop)
        };
        read(&whole).unwrap();
        for len in (0..whole.len()).step_by(7) {
            let error = read(&whole[..len]).unwrap_err();
            assert!(error.to_string().ends_with("a.h5"), "{error}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]
        #[test]
        fn no_changed_byte_does_harm(changes in proptest::collection::vec((0_usize..4000, any::<u8>()), 1..8)) {
            let dir = tempfile::tempdir().unwrap();
            let path = file(dir.path());
            let mut bytes = std::fs::read(&path).unwrap();
            for (at, byte) in changes {
                let at = at % bytes.len();
                bytes[at] = byte;
            }
            std::fs::write(&path, bytes).unwrap();
            let Ok(file) = H5File::open(&path) else { return Ok(()) };
            for name in ["data", "chunked", "label"] {
                let Ok(array) = file.array(&[name]) else { continue };
                let num_rows = array.num_rows().min(10);
                let Ok(rows) = array.into_rows() else { continue };
                for row in 0..num_rows {
                    let _ = rows.read(row);
                }
            }
        }
    }
}
