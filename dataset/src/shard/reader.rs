//! [`ShardReader`]: random access to the rows of one shard.

use std::borrow::Cow;
use std::collections::HashMap;
use std::path::{Path, PathBuf};

use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use arrow_array::{Array as _, RecordBatch};
use bytes::Bytes;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReaderBuilder, RowSelection, RowSelector,
};
use parquet::errors::{ParquetError, Result as ParquetResult};
use parquet::file::metadata::PageIndexPolicy;
use parquet::file::reader::{ChunkReader, Length};

use super::column::{RowStats, images_from_batch, sample_from_batch, stats_from_batch};
use crate::error::{DatasetError, ManifestError, Result, ShardError};
use crate::schema::{
    OLDEST_SCHEMA_VERSION, ObjectId, RowLayout, SCHEMA_VERSION, Sample, ShardHeader, arrow_schema, column,
    key,
};
use crate::store;

/// Views to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ViewSelection<'a> {
    /// No views: points only.
    None,
    /// All views in rig order.
    All,
    /// All views with their G-buffers.
    WithGbuffer,
    /// These view indices, in this order.
    Some(&'a [usize]),
}

/// An open shard. Threads can share it: reads are independent.
#[derive(Debug)]
pub struct ShardReader {
    path: PathBuf,
    file: store::StoreFile,
    metadata: ArrowReaderMetadata,
    header: ShardHeader,
    /// First row of each row group.
    row_group_starts: Vec<usize>,
    num_rows: usize,
    points_only: ProjectionMask,
    without_gbuffer: ProjectionMask,
}

impl ShardReader {
    /// Opens a shard: reads and checks its footer only.
    ///
    /// # Errors
    /// When it is not a complete Parquet file, or its schema or schema version is unsupported.
    pub fn open(path: &Path) -> Result<Self> {
        Self::from_file(
            store::open(path).map_err(DatasetError::io("open the shard", path))?,
            path,
        )
    }

    /// Opens a shard from an open file.
    pub(crate) fn from_file(file: store::StoreFile, path: &Path) -> Result<Self> {
        catch_decoder_panic(path, || Self::from_file_unchecked(file, path))
    }

    fn from_file_unchecked(file: store::StoreFile, path: &Path) -> Result<Self> {
        // Files of other writers may lack the offset index, which only makes them slower to read.
        let options = ArrowReaderOptions::new().with_offset_index_policy(PageIndexPolicy::Optional);
        let metadata = ArrowReaderMetadata::load(&file, options)
            .map_err(DatasetError::parquet("read the shard", path))?;
        let (version, header) = header(&metadata, path)?;
        let invalid = |detail: String| {
            DatasetError::Shard(ShardError::Invalid {
                detail,
                path: path.to_owned(),
            })
        };
        check_schema(&metadata, &header.layout, version).map_err(invalid)?;

        let mut num_rows = 0_usize;
        let mut row_group_starts = Vec::new();
        for row_group in metadata.metadata().row_groups() {
            row_group_starts.push(num_rows);
            let more = usize::try_from(row_group.num_rows()).ok();
            // A row takes more than a byte; a damaged footer may claim any number of rows.
            num_rows = more
                .and_then(|more| num_rows.checked_add(more))
                .filter(|&num_rows| num_rows as u64 <= file.len())
                .ok_or_else(|| invalid("more rows than its length allows".to_owned()))?;
        }
        let points_only = project_roots(&metadata, |root| !column::VIEW_COLUMNS.contains(&root));
        let without_gbuffer = project_roots(&metadata, |root| !column::GBUFFER_COLUMNS.contains(&root));
        Ok(Self {
            path: path.to_owned(),
            file,
            metadata,
            header,
            row_group_starts,
            num_rows,
            points_only,
            without_gbuffer,
        })
    }

    /// Number of rows.
    #[must_use]
    pub fn num_rows(&self) -> usize {
        self.num_rows
    }

    /// Metadata of the shard.
    #[must_use]
    pub fn header(&self) -> &ShardHeader {
        &self.header
    }

    /// Reads one row with the selected views; no image is decoded.
    ///
    /// # Errors
    /// When the row or a view does not exist, or the shard is damaged.
    pub fn read(&self, row: usize, views: ViewSelection<'_>) -> Result<Sample> {
        let view_indices = &*self.view_indices(views)?;
        let projection = match views {
            _ if view_indices.is_empty() => self.points_only.clone(),
            ViewSelection::WithGbuffer => ProjectionMask::all(),
            _ => self.without_gbuffer.clone(),
        };
        catch_decoder_panic(&self.path, || {
            let batch = self.read_row(row, projection)?;
            sample_from_batch(&batch, 0, &self.header.layout, view_indices)
                .map_err(|detail| self.invalid(detail))
        })
    }

    /// Reads id and selected images of a row; also from image sets.
    ///
    /// # Errors
    /// As [`ShardReader::read`].
    pub(crate) fn read_images(
        &self,
        row: usize,
        views: ViewSelection<'_>,
    ) -> Result<(ObjectId, Vec<Vec<u8>>)> {
        let view_indices = &*self.view_indices(views)?;
        let projection = project_roots(&self.metadata, |root| {
            [column::ID, column::IMAGES].contains(&root)
        });
        catch_decoder_panic(&self.path, || {
            let batch = self.read_row(row, projection)?;
            images_from_batch(&batch, 0, &self.header.layout, view_indices)
                .map_err(|detail| self.invalid(detail))
        })
    }

    fn view_indices<'a>(&self, views: ViewSelection<'a>) -> Result<Cow<'a, [usize]>> {
        let num_views = self.header.layout.num_views;
        let indices = match views {
            ViewSelection::None => Cow::Borrowed(&[] as &[usize]),
            ViewSelection::Some(indices) => Cow::Borrowed(indices),
            ViewSelection::All | ViewSelection::WithGbuffer => (0..num_views).collect(),
        };
        match indices.iter().find(|&&view| view >= num_views) {
            Some(&view) => Err(DatasetError::Shard(ShardError::NoSuchView { view, num_views })),
            None => Ok(indices),
        }
    }

    /// Scalar columns of all rows, in row order.
    ///
    /// # Errors
    /// When the shard is damaged.
    pub fn stats(&self) -> Result<Vec<RowStats>> {
        let mut stats = Vec::new();
        self.for_each_batch(&column::STATS_COLUMNS, |batch| {
            for row in 0..batch.num_rows() {
                stats.push(stats_from_batch(batch, row).map_err(|detail| self.invalid(detail))?);
            }
            Ok(())
        })?;
        Ok(stats)
    }

    /// Labels of all rows, in row order.
    ///
    /// # Errors
    /// When the shard is damaged.
    pub fn labels(&self) -> Result<Vec<i64>> {
        let mut labels = Vec::with_capacity(self.num_rows());
        self.for_each_batch(&[column::LABEL], |batch| {
            let column = batch.column(0).as_primitive::<Int64Type>();
            if column.null_count() > 0 {
                return Err(self.invalid(format!("{} is null", column::LABEL)));
            }
            labels.extend_from_slice(column.values());
            Ok(())
        })?;
        Ok(labels)
    }

    /// Ids of all rows, in row order.
    ///
    /// # Errors
    /// When the shard is damaged.
    pub fn ids(&self) -> Result<Vec<ObjectId>> {
        let mut ids = Vec::with_capacity(self.num_rows());
        self.for_each_batch(&[column::ID], |batch| {
            for id in batch.column(0).as_string::<i32>() {
                ids.push(id.unwrap_or_default().parse()?);
            }
            Ok(())
        })?;
        Ok(ids)
    }

    fn read_row(&self, row: usize, projection: ProjectionMask) -> Result<RecordBatch> {
        if row >= self.num_rows {
            return Err(self.invalid(format!("row {row} of {}", self.num_rows)));
        }
        let row_group = self.row_group_starts.partition_point(|&start| start <= row) - 1;
        let row_in_group = row - self.row_group_starts[row_group];
        let selection = RowSelection::from(vec![RowSelector::skip(row_in_group), RowSelector::select(1)]);
        let mut batches =
            ParquetRecordBatchReaderBuilder::new_with_metadata(self.file.clone(), self.metadata.clone())
                .with_projection(projection)
                .with_row_groups(vec![row_group])
                .with_row_selection(selection)
                .with_batch_size(1)
                .build()
                .map_err(DatasetError::parquet("read the shard", &self.path))?;
        match batches.next() {
            Some(Ok(batch)) if batch.num_rows() == 1 => Ok(batch),
            Some(Err(e)) => Err(DatasetError::parquet("read the shard", &self.path)(e.into())),
            _ => Err(self.invalid(format!("row {row} is not there"))),
        }
    }

    /// Reads whole columns batch by batch.
    fn for_each_batch(
        &self,
        columns: &[&str],
        mut visit: impl FnMut(&RecordBatch) -> Result<()>,
    ) -> Result<()> {
        catch_decoder_panic(&self.path, || self.visit_batches(columns, &mut visit))
    }

    fn visit_batches(
        &self,
        columns: &[&str],
        visit: &mut dyn FnMut(&RecordBatch) -> Result<()>,
    ) -> Result<()> {
        let batches =
            ParquetRecordBatchReaderBuilder::new_with_metadata(self.file.clone(), self.metadata.clone())
                .with_projection(project_roots(&self.metadata, |root| columns.contains(&root)))
                .build()
                .map_err(DatasetError::parquet("read the shard", &self.path))?;
        for batch in batches {
            let batch = batch.map_err(|e| DatasetError::parquet("read the shard", &self.path)(e.into()))?;
            visit(&batch)?;
        }
        Ok(())
    }

    fn invalid(&self, detail: String) -> DatasetError {
        DatasetError::Shard(ShardError::Invalid {
            detail,
            path: self.path.clone(),
        })
    }
}

/// Turns a panic while decoding untrusted bytes into an error: the Parquet and Arrow crates do not promise
/// not to panic.
fn catch_decoder_panic<T>(path: &Path, decode: impl FnOnce() -> Result<T>) -> Result<T> {
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(decode)).unwrap_or_else(|_| {
        Err(DatasetError::Shard(ShardError::Invalid {
            detail: "it cannot be decoded".to_owned(),
            path: path.to_owned(),
        }))
    })
}

/// Projection to the root columns that satisfy `is_chosen`.
fn project_roots(metadata: &ArrowReaderMetadata, is_chosen: impl Fn(&str) -> bool) -> ProjectionMask {
    let fields = metadata.schema().fields().iter().enumerate();
    let chosen = fields
        .filter(|(_, field)| is_chosen(field.name()))
        .map(|(root_idx, _)| root_idx);
    ProjectionMask::roots(metadata.parquet_schema(), chosen)
}

/// Schema version and metadata of the file.
fn header(metadata: &ArrowReaderMetadata, path: &Path) -> Result<(u32, ShardHeader)> {
    let pairs = metadata.metadata().file_metadata().key_value_metadata();
    let pairs = pairs
        .into_iter()
        .flatten()
        .filter_map(|pair| Some((pair.key.as_str(), pair.value.as_deref()?)));
    let pairs: HashMap<&str, &str> = pairs.collect();
    let version = pairs.get(key::SCHEMA_VERSION);
    let readable = OLDEST_SCHEMA_VERSION..=SCHEMA_VERSION;
    let parsed = version.and_then(|version| version.parse::<u32>().ok());
    let Some(version) = parsed.filter(|version| readable.contains(version)) else {
        let found = version.map_or_else(|| "none".to_owned(), ToString::to_string);
        return Err(DatasetError::Manifest(ManifestError::SchemaVersion {
            found,
            oldest: OLDEST_SCHEMA_VERSION,
            newest: SCHEMA_VERSION,
            path: path.to_owned(),
        }));
    };
    let header = ShardHeader::from_metadata(&pairs).map_err(|detail| {
        DatasetError::Shard(ShardError::Invalid {
            detail,
            path: path.to_owned(),
        })
    })?;
    Ok((version, header))
}

/// Checks names, order, types and nullability of the columns.
fn check_schema(metadata: &ArrowReaderMetadata, layout: &RowLayout, version: u32) -> Result<(), String> {
    let expected = arrow_schema(layout, version);
    let found = metadata.schema();
    if found.fields().len() != expected.fields().len() {
        return Err(format!(
            "{} columns instead of {}",
            found.fields().len(),
            expected.fields().len()
        ));
    }
    for (found, expected) in found.fields().iter().zip(expected.fields()) {
        if found.name() != expected.name() {
            return Err(format!("column {} instead of {}", found.name(), expected.name()));
        }
        if found.data_type() != expected.data_type() || found.is_nullable() != expected.is_nullable() {
            return Err(format!("column {} has an unexpected type", found.name()));
        }
    }
    Ok(())
}

impl Length for store::StoreFile {
    fn len(&self) -> u64 {
        self.len()
    }
}

impl ChunkReader for store::StoreFile {
    type T = store::Cursor;

    fn get_read(&self, start: u64) -> ParquetResult<store::Cursor> {
        Ok(store::Cursor::new(self.clone(), start))
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
