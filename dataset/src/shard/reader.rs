//! [`ShardReader`]: random access to the rows of one shard.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow_array::RecordBatch;
use bytes::Bytes;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReaderBuilder, RowSelection, RowSelector,
};
use parquet::errors::{ParquetError, Result as ParquetResult};
use parquet::file::metadata::{PageIndexPolicy, ParquetMetaData, ParquetMetaDataReader};
use parquet::file::reader::{ChunkReader, Length};

use super::decode::{
    RowStats, comparable_from_batch, id_from_batch, images_from_batch, label_from_batch, sample_from_batch,
    stats_from_batch,
};
use crate::error::{DatasetError, ManifestError, Result, ShardError};
use crate::manifest::Manifest;
use crate::predicate::{Predicate, Value};
use crate::schema::column::{self, Column};
use crate::schema::{
    OLDEST_SCHEMA_VERSION, ObjectId, RowLayout, SCHEMA_VERSION, Sample, ShardHeader, Split, arrow_schema, key,
};
use crate::store::{self, SharedFile, StoreFile};

/// What a predicate calls the split of a row, which is no column of the shard.
pub(crate) const SPLIT: &str = "split";

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
    file: SharedFile,
    metadata: ArrowReaderMetadata,
    header: ShardHeader,
    /// First row of each row group.
    row_group_starts: Vec<usize>,
    num_rows: usize,
    without_views: ProjectionMask,
    without_gbuffer: ProjectionMask,
    all: ProjectionMask,
}

impl ShardReader {
    /// Opens a shard: reads and checks its footer only.
    ///
    /// # Errors
    /// When it is not a complete Parquet file, or its schema or schema version is unsupported.
    pub fn open(path: &Path) -> Result<Self> {
        let file = store::open(path).map_err(DatasetError::io("open the shard", path))?;
        Self::from_file(SharedFile::Kept(file), path, None)
    }

    /// Opens a shard of a dataset. A file that another program wrote again, and that no longer says what it holds, is read
    /// as the manifest says.
    ///
    /// # Errors
    /// As [`ShardReader::open`].
    pub fn open_of(manifest: &Manifest, path: &Path) -> Result<Self> {
        let file = store::open(path).map_err(DatasetError::io("open the shard", path))?;
        Self::from_file(SharedFile::Kept(file), path, Some(manifest))
    }

    /// Opens a shard from an open file.
    pub(crate) fn from_file(file: SharedFile, path: &Path, manifest: Option<&Manifest>) -> Result<Self> {
        catch_decoder_panic(path, || {
            Self::with_header(file, path, |footer| header(footer, path, manifest))
        })
    }

    /// Opens a file of another program, which holds what a manifest says, whatever it says of itself.
    #[cfg(feature = "build")]
    pub(crate) fn from_foreign(file: SharedFile, path: &Path, manifest: &Manifest) -> Result<Self> {
        catch_decoder_panic(path, || {
            Self::with_header(file, path, |_| Ok((manifest.schema_version, manifest.header())))
        })
    }

    fn with_header(
        file: SharedFile,
        path: &Path,
        header: impl FnOnce(&ParquetMetaData) -> Result<(u32, ShardHeader)>,
    ) -> Result<Self> {
        let parquet = DatasetError::parquet("read the shard", path);
        let footer = ParquetMetaDataReader::new()
            // Files of other writers may lack the offset index, which only makes them slower to read.
            .with_offset_index_policy(PageIndexPolicy::Optional)
            .parse_and_finish(&open(&file, path)?)
            .map_err(parquet)?;
        let (version, header) = header(&footer)?;
        let invalid = |detail: String| {
            DatasetError::Shard(ShardError::Invalid {
                detail,
                path: path.to_owned(),
            })
        };
        header.layout.check().map_err(invalid)?;
        let metadata = arrow_metadata(footer, &header.layout, version, path)?;
        check_columns(&metadata, &header.layout, version).map_err(invalid)?;

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
        let columns = header.layout.columns;
        let project = |is_chosen: fn(&Column) -> bool| {
            project(&metadata, |column| column.is_of(columns) && is_chosen(column))
        };
        Ok(Self {
            path: path.to_owned(),
            without_views: project(|column| !column.is_per_view()),
            without_gbuffer: project(|column| !column.is_gbuffer()),
            all: project(|_| true),
            file,
            metadata,
            header,
            row_group_starts,
            num_rows,
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
            _ if view_indices.is_empty() => &self.without_views,
            ViewSelection::WithGbuffer => &self.all,
            _ => &self.without_gbuffer,
        };
        catch_decoder_panic(&self.path, || {
            let batch = self.read_row(row, projection.clone())?;
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
        let projection = project(&self.metadata, |column| {
            [column::ID, column::IMAGES].contains(&column.name)
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

    /// Small columns of all rows, in row order.
    ///
    /// # Errors
    /// When the shard is damaged.
    pub fn stats(&self) -> Result<Vec<RowStats>> {
        let columns = self.header.layout.columns;
        self.for_each_row(
            |column| column.is_of(columns) && !column.is_large(),
            stats_from_batch,
        )
    }

    /// Labels of all rows, in row order.
    ///
    /// # Errors
    /// When the shard is damaged.
    pub fn labels(&self) -> Result<Vec<i64>> {
        self.for_each_row(|column| column.name == column::LABEL, label_from_batch)
    }

    /// Rows of which a predicate is true, in order. Reads only the columns that it names.
    ///
    /// # Errors
    /// When the shard is damaged.
    pub(crate) fn matching(&self, split: Split, predicate: &Predicate) -> Result<Vec<usize>> {
        let columns = predicate.columns();
        // A projection without columns has no rows.
        let is_read = |column: &Column| column.name == column::ID || columns.contains(column.name);
        let stored = columns.iter().copied().filter(|&name| name != SPLIT);
        let matches = self.for_each_row(is_read, |batch, row| {
            let mut values = BTreeMap::from([(SPLIT, Value::Text(split.to_string()))]);
            for name in stored.clone() {
                values.extend(comparable_from_batch(batch, row, name)?.map(|value| (name, value)));
            }
            Ok(predicate.matches(&|name| values.get(name).cloned()))
        })?;
        let rows = matches.into_iter().enumerate();
        Ok(rows
            .filter(|&(_, is_match)| is_match)
            .map(|(row, _)| row)
            .collect())
    }

    /// Ids of all rows, in row order.
    ///
    /// # Errors
    /// When the shard is damaged.
    pub fn ids(&self) -> Result<Vec<ObjectId>> {
        self.for_each_row(|column| column.name == column::ID, id_from_batch)
    }

    fn read_row(&self, row: usize, projection: ProjectionMask) -> Result<RecordBatch> {
        if row >= self.num_rows {
            return Err(self.invalid(format!("row {row} of {}", self.num_rows)));
        }
        let row_group = self.row_group_starts.partition_point(|&start| start <= row) - 1;
        let row_in_group = row - self.row_group_starts[row_group];
        let selection = RowSelection::from(vec![RowSelector::skip(row_in_group), RowSelector::select(1)]);
        let mut batches =
            ParquetRecordBatchReaderBuilder::new_with_metadata(self.open_file()?, self.metadata.clone())
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

    /// What `read` takes from some columns of each row, in row order.
    fn for_each_row<T>(
        &self,
        is_chosen: impl Fn(&Column) -> bool,
        read: impl Fn(&RecordBatch, usize) -> Result<T, String>,
    ) -> Result<Vec<T>> {
        catch_decoder_panic(&self.path, || {
            let batches =
                ParquetRecordBatchReaderBuilder::new_with_metadata(self.open_file()?, self.metadata.clone())
                    .with_projection(project(&self.metadata, is_chosen))
                    .build()
                    .map_err(DatasetError::parquet("read the shard", &self.path))?;
            let mut rows = Vec::with_capacity(self.num_rows());
            for batch in batches {
                let batch =
                    batch.map_err(|e| DatasetError::parquet("read the shard", &self.path)(e.into()))?;
                for row in 0..batch.num_rows() {
                    rows.push(read(&batch, row).map_err(|detail| self.invalid(detail))?);
                }
            }
            Ok(rows)
        })
    }

    fn open_file(&self) -> Result<StoreFile> {
        open(&self.file, &self.path)
    }

    fn invalid(&self, detail: String) -> DatasetError {
        DatasetError::Shard(ShardError::Invalid {
            detail,
            path: self.path.clone(),
        })
    }
}

fn open(file: &SharedFile, path: &Path) -> Result<StoreFile> {
    file.open().map_err(DatasetError::io("open the shard", path))
}

/// What a file says of itself; `None` if it is of another program, or of another version.
#[cfg(feature = "build")]
pub(crate) fn metadata_header(file: &StoreFile, path: &Path) -> Result<Option<ShardHeader>> {
    let footer = ParquetMetaDataReader::new().parse_and_finish(file);
    let footer = footer.map_err(DatasetError::parquet("read the shard", path))?;
    Ok(header(&footer, path, None).ok().map(|(_, header)| header))
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

/// Projection to the columns of this program that satisfy `is_chosen`.
fn project(metadata: &ArrowReaderMetadata, is_chosen: impl Fn(&Column) -> bool) -> ProjectionMask {
    let fields = metadata.schema().fields().iter().enumerate();
    let chosen = fields
        .filter(|(_, field)| column::find(field.name()).is_some_and(&is_chosen))
        .map(|(root_idx, _)| root_idx);
    ProjectionMask::roots(metadata.parquet_schema(), chosen)
}

/// Schema version and metadata of the file; if it has none, those of its dataset.
fn header(footer: &ParquetMetaData, path: &Path, manifest: Option<&Manifest>) -> Result<(u32, ShardHeader)> {
    let pairs = footer.file_metadata().key_value_metadata();
    let pairs = pairs
        .into_iter()
        .flatten()
        .filter_map(|pair| Some((pair.key.as_str(), pair.value.as_deref()?)));
    let pairs: HashMap<&str, &str> = pairs.collect();
    let version = pairs.get(key::SCHEMA_VERSION);
    if let (None, Some(manifest)) = (version, manifest) {
        return Ok((manifest.schema_version, manifest.header()));
    }
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

/// How to read the file as Arrow arrays: in exactly the types of this program if it wrote the file, and else in those
/// that follow from the Parquet file alone, which are few. What another program had in memory, and wrote into the file for
/// its own use, is ignored.
fn arrow_metadata(
    footer: ParquetMetaData,
    layout: &RowLayout,
    version: u32,
    path: &Path,
) -> Result<ArrowReaderMetadata> {
    let footer = Arc::new(footer);
    let own = ArrowReaderMetadata::try_new(Arc::clone(&footer), ArrowReaderOptions::new());
    match own {
        Ok(own) if own.schema().fields() == arrow_schema(layout, version).fields() => Ok(own),
        _ => {
            let options = ArrowReaderOptions::new().with_skip_arrow_metadata(true);
            ArrowReaderMetadata::try_new(footer, options)
                .map_err(DatasetError::parquet("read the shard", path))
        }
    }
}

/// Checks that the columns of the layout are there, once each. Their types are checked as they are read.
fn check_columns(metadata: &ArrowReaderMetadata, layout: &RowLayout, version: u32) -> Result<(), String> {
    for column in column::stored(layout.columns, version) {
        let fields = metadata.schema().fields().iter();
        match fields.filter(|field| field.name() == column.name).count() {
            1 => {}
            0 => return Err(format!("column {} is missing", column.name)),
            num_columns => return Err(format!("{num_columns} columns {}", column.name)),
        }
    }
    Ok(())
}

impl Length for StoreFile {
    fn len(&self) -> u64 {
        self.len()
    }
}

impl ChunkReader for StoreFile {
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
