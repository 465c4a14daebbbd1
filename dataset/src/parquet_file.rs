//! What Parquet files of this program have in common, whatever their rows: [`HashingFile`] writes one, [`ParquetFile`] reads
//! rows of one at given places, and [`catch_decoder_panic`] holds what a damaged one may do.

use std::io::{self, BufReader, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};

use arrow_array::RecordBatch;
use bytes::Bytes;
use parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReaderBuilder, RowSelection,
};
use parquet::errors::{ParquetError, Result as ParquetResult};
use parquet::file::metadata::RowGroupMetaData;
use parquet::file::reader::{ChunkReader, Length};
use sha2::{Digest, Sha256};

use crate::error::{DatasetError, Result, ShardError};
use crate::sha256;
use crate::store::{self, StoreFile};

/// Rows that are decoded at a time.
const BATCH_ROWS: usize = 1 << 13;

/// A writer that hashes what passes through.
#[derive(Debug)]
pub(crate) struct HashingFile {
    file: store::NewFile,
    hasher: Sha256,
    bytes: u64,
}

impl HashingFile {
    pub(crate) fn new(file: store::NewFile) -> Self {
        Self {
            file,
            hasher: Sha256::new(),
            bytes: 0,
        }
    }

    /// Syncs the file and renames it to its final name; its SHA-256 and its length in bytes.
    pub(crate) fn finish(self) -> Result<(String, u64)> {
        self.file.finish()?;
        Ok((sha256::hex(&self.hasher.finalize()), self.bytes))
    }
}

impl Write for HashingFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let num_written = self.file.write(bytes)?;
        self.hasher.update(&bytes[..num_written]);
        self.bytes += num_written as u64;
        Ok(num_written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// An open Parquet file whose footer was read.
#[derive(Debug)]
pub(crate) struct ParquetFile {
    path: PathBuf,
    file: StoreFile,
    metadata: ArrowReaderMetadata,
}

impl ParquetFile {
    /// Opens a file; `None` if there is none.
    ///
    /// # Errors
    /// When it cannot be read, or is not a complete Parquet file.
    pub(crate) fn open(path: &Path) -> Result<Option<Self>> {
        let file = match store::open(path) {
            Ok(file) => file,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(DatasetError::io("open", path)(e)),
        };
        let metadata = catch_decoder_panic(path, || {
            ArrowReaderMetadata::load(&file, ArrowReaderOptions::new())
                .map_err(DatasetError::parquet("read", path))
        })?;
        Ok(Some(Self {
            path: path.to_owned(),
            file,
            metadata,
        }))
    }

    /// Length in bytes.
    pub(crate) fn len(&self) -> u64 {
        self.file.len()
    }

    /// Number of rows; `None` if the row groups contradict each other.
    pub(crate) fn num_rows(&self) -> Option<usize> {
        let groups = self.metadata.metadata().row_groups();
        groups
            .iter()
            .try_fold(0_usize, |sum, group| sum.checked_add(num_rows_of(group)?))
    }

    /// Value of a metadata key.
    pub(crate) fn value(&self, key: &str) -> Option<&str> {
        let pairs = self.metadata.metadata().file_metadata().key_value_metadata()?;
        pairs.iter().find(|pair| pair.key == key)?.value.as_deref()
    }

    /// Hands over the rows in these places, which ascend and do not overlap. Only the row groups that hold them are read.
    ///
    /// # Errors
    /// When the file cannot be read or decoded, or as `on_batch`.
    pub(crate) fn read(
        &self,
        places: &[Range<usize>],
        mut on_batch: impl FnMut(&RecordBatch) -> Result<()>,
    ) -> Result<()> {
        let mut groups = Vec::new();
        let mut selected = Vec::new();
        let mut stored = Vec::new();
        // Where a row group begins, in the file and among those that are read.
        let (mut start, mut begin) = (0, 0);
        let mut places = places
            .iter()
            .filter(|place| !place.is_empty())
            .cloned()
            .peekable();
        for (group, metadata) in self.metadata.metadata().row_groups().iter().enumerate() {
            if places.peek().is_none() {
                break;
            }
            let len = num_rows_of(metadata).unwrap_or(0);
            let end = start + len;
            let num_before = selected.len();
            while let Some(place) = places.peek_mut().filter(|place| place.start < end) {
                let last = place.end.min(end);
                selected.push(begin + place.start - start..begin + last - start);
                if place.end > end {
                    place.start = end;
                    break;
                }
                places.next();
            }
            if selected.len() > num_before {
                groups.push(group);
                stored.extend(stored_in(metadata));
                begin += len;
            }
            start = end;
        }
        let read_error = |e| DatasetError::parquet("read", &self.path)(e);
        catch_decoder_panic(&self.path, || {
            self.file
                .prefetch(|| stored)
                .map_err(DatasetError::io("read", &self.path))?;
            let selection = RowSelection::from_consecutive_ranges(selected.into_iter(), begin);
            let reader =
                ParquetRecordBatchReaderBuilder::new_with_metadata(self.file.clone(), self.metadata.clone())
                    .with_row_groups(groups)
                    .with_row_selection(selection)
                    .with_batch_size(BATCH_ROWS)
                    .build()
                    .map_err(read_error)?;
            for batch in reader {
                on_batch(&batch.map_err(|e| read_error(e.into()))?)?;
            }
            Ok(())
        })
    }
}

fn num_rows_of(group: &RowGroupMetaData) -> Option<usize> {
    usize::try_from(group.num_rows()).ok()
}

/// Where the bytes of a row group lie; nothing if the footer says so of no file.
fn stored_in(group: &RowGroupMetaData) -> Option<Range<u64>> {
    let chunk = |start: i64, len: i64| {
        let start = u64::try_from(start).ok()?;
        Some(start..start.checked_add(u64::try_from(len).ok()?)?)
    };
    let chunks = group.columns().iter().map(|column| {
        let start = column
            .dictionary_page_offset()
            .unwrap_or(column.data_page_offset());
        chunk(start, column.compressed_size())
    });
    chunks
        .collect::<Option<Vec<_>>>()?
        .into_iter()
        .reduce(|all, chunk| all.start.min(chunk.start)..all.end.max(chunk.end))
}

/// Turns a panic while decoding untrusted bytes into an error: the Parquet and Arrow crates do not promise
/// not to panic.
pub(crate) fn catch_decoder_panic<T>(path: &Path, decode: impl FnOnce() -> Result<T>) -> Result<T> {
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(decode)).unwrap_or_else(|_| {
        Err(DatasetError::Shard(ShardError::Invalid {
            detail: "it cannot be decoded".to_owned(),
            path: path.to_owned(),
        }))
    })
}

impl Length for StoreFile {
    fn len(&self) -> u64 {
        self.len()
    }
}

impl ChunkReader for StoreFile {
    type T = BufReader<store::Cursor>;

    /// Headers of pages are read byte by byte where there is no index of pages.
    fn get_read(&self, start: u64) -> ParquetResult<Self::T> {
        Ok(BufReader::new(store::Cursor::new(self.clone(), start)))
    }

    fn get_bytes(&self, start: u64, length: usize) -> ParquetResult<Bytes> {
        // A damaged footer may ask for any length: never allocate more than the file holds.
        if start
            .checked_add(length as u64)
            .is_none_or(|end| end > self.len())
        {
            return Err(ParquetError::EOF(format!(
                "{length} bytes at {start} of a file of {}",
                self.len()
            )));
        }
        Ok(self.bytes(start, length)?)
    }
}
