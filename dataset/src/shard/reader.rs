//! [`ShardReader`]: random access to the rows of one shard.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use arrow_array::RecordBatch;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReaderBuilder, RowSelection, RowSelector,
};
use parquet::errors::ParquetError;
use parquet::file::metadata::{PageIndexPolicy, ParquetMetaData, ParquetMetaDataReader};

use super::Projection;
use super::decode::{
    RowStats, ViewColumns, comparable_from_batch, id_from_batch, label_from_batch, sample_from_batch,
    small_columns, stats_from_batch,
};
use super::row_pages::{LargeLeaf, RowPages};
use super::statistics::bounds_in_row_group;
use crate::error::{DatasetError, ManifestError, Result, ShardError};
use crate::manifest::Manifest;
use crate::parquet_file::catch_decoder_panic;
use crate::predicate::{Bounds, Predicate, Value};
use crate::schema::column::{self, COLUMNS, Column};
use crate::schema::{
    Columns, OLDEST_SCHEMA_VERSION, ObjectId, RowLayout, SCHEMA_VERSION, Sample, ShardHeader, Split,
    arrow_schema, key,
};
use crate::store::{self, SharedFile, StoreFile};

/// What a predicate calls the split of a row, which is no column of the shard.
pub(crate) const SPLIT: &str = "split";

/// Rows of a row group whose small columns are kept: those of this program have 64.
const MAX_CACHED_GROUP_ROWS: i64 = 1024;
/// Memory of the small columns of a row, about.
const SMALL_ROW_BYTES: usize = 700;

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
    /// `None` where rows are read as Arrow arrays.
    direct: Option<Direct>,
}

/// How rows of a shard of this program are read.
#[derive(Debug)]
struct Direct {
    /// Leaves of the large columns.
    leaves: Vec<LargeLeaf>,
    /// The small columns of the rows of each row group, once one of them was read.
    small: Vec<OnceLock<Vec<Sample>>>,
}

impl Direct {
    /// `None` where pages or row groups are not those of this program.
    fn new(metadata: &ParquetMetaData, columns: Columns) -> Option<Self> {
        let row_groups = metadata.row_groups();
        let are_small = row_groups
            .iter()
            .all(|group| group.num_rows() <= MAX_CACHED_GROUP_ROWS);
        let large = COLUMNS
            .iter()
            .filter(|column| column.is_of(columns) && column.is_large());
        let leaf = |column: &Column| LargeLeaf::find(metadata, column.name);
        let leaves: Vec<_> = large.map(leaf).collect::<Option<_>>()?;
        let has_pages = |large: &LargeLeaf| {
            (0..row_groups.len()).all(|group| {
                metadata
                    .page_index_for_row_group(group)
                    .page_locations(large.leaf)
                    .is_some()
            })
        };
        (are_small && leaves.iter().all(has_pages)).then(|| Self {
            leaves,
            small: row_groups.iter().map(|_| OnceLock::new()).collect(),
        })
    }

    fn leaf(&self, name: &str) -> Option<&LargeLeaf> {
        self.leaves.iter().find(|leaf| leaf.column == name)
    }
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
        let (metadata, is_own) = arrow_metadata(footer, &header.layout, version, path)?;
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
        let direct = is_own
            .then(|| Direct::new(metadata.metadata(), header.layout.columns))
            .flatten();
        Ok(Self {
            path: path.to_owned(),
            direct,
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

    /// Memory of the footer and of the small columns, about.
    pub(crate) fn footer_bytes(&self) -> usize {
        let small = self
            .direct
            .as_ref()
            .map_or(0, |_| self.num_rows * SMALL_ROW_BYTES);
        self.metadata.metadata().memory_size() + small
    }

    /// Reads one row with the selected views; no image is decoded.
    ///
    /// # Errors
    /// When the row or a view does not exist, or the shard is damaged.
    pub fn read(&self, row: usize, views: ViewSelection<'_>) -> Result<Sample> {
        self.read_columns(row, &Projection::of_views(views))
    }

    /// Reads one row, and of it only the chosen columns and views; no image is decoded.
    ///
    /// # Errors
    /// When the row or a view does not exist, or the shard is damaged.
    pub fn read_columns(&self, row: usize, projection: &Projection) -> Result<Sample> {
        self.read_but(row, projection, "")
    }

    /// As [`read_columns`](Self::read_columns), with images that are empty.
    ///
    /// # Errors
    /// As there.
    pub(crate) fn read_without_images(&self, row: usize, projection: &Projection) -> Result<Sample> {
        self.read_but(row, projection, column::IMAGES)
    }

    /// Reads the chosen columns but one.
    fn read_but(&self, row: usize, projection: &Projection, left_out: &str) -> Result<Sample> {
        let columns = self.header.layout.columns;
        let is_chosen =
            |column: &Column| column.is_of(columns) && column.name != left_out && projection.has(column.name);
        self.read_chosen(row, projection, is_chosen)
    }

    /// Reads the columns that satisfy `is_chosen`, with the views of the projection.
    fn read_chosen(
        &self,
        row: usize,
        projection: &Projection,
        is_chosen: impl Fn(&Column) -> bool,
    ) -> Result<Sample> {
        let view_indices = &*self.view_indices(projection)?;
        let is_read = |name: &str| column::find(name).is_some_and(&is_chosen);
        catch_decoder_panic(&self.path, || {
            if let Some(direct) = &self.direct {
                return self.read_direct(direct, row, &is_read, view_indices);
            }
            let batch = self.read_row(row, project(&self.metadata, &is_chosen))?;
            sample_from_batch(&batch, 0, &self.header.layout, &is_read, view_indices)
                .map_err(|detail| self.invalid(detail))
        })
    }

    /// The same, with large columns straight from their pages, and small ones from memory.
    fn read_direct(
        &self,
        direct: &Direct,
        row: usize,
        is_read: &dyn Fn(&str) -> bool,
        view_indices: &[usize],
    ) -> Result<Sample> {
        let (row_group, row) = self.locate(row)?;
        let wrong = |error| match error {
            ParquetError::General(detail) => self.invalid(detail),
            error => DatasetError::parquet("read the shard", &self.path)(error),
        };
        let invalid = |detail: String| self.invalid(detail);
        let RowLayout {
            num_points,
            num_views,
            image_size_px,
            ..
        } = self.header.layout;
        let file = self.open_file()?;
        let ranges = || {
            let read = direct.leaves.iter().filter(|leaf| is_read(leaf.column));
            let leaves = read.map(|leaf| leaf.leaf);
            let mask = ProjectionMask::leaves(self.metadata.parquet_schema(), leaves);
            self.page_ranges(row_group, row, &mask)
        };
        file.prefetch(ranges)
            .map_err(DatasetError::io("read the shard", &self.path))?;
        let pages = RowPages {
            file: Arc::new(file),
            metadata: self.metadata.metadata(),
            row_group,
            row,
        };
        let leaf = |name| direct.leaf(name).filter(|_| is_read(name));
        let vectors = |name| {
            leaf(name)
                .map(|leaf| pages.arrays::<3>(leaf, num_points))
                .transpose()
                .map_err(wrong)
        };
        let matrices = |name| {
            leaf(name)
                .map(|leaf| pages.arrays::<16>(leaf, num_views))
                .transpose()
                .map_err(wrong)
        };
        let binaries = |name| {
            leaf(name)
                .map(|leaf| pages.binaries(leaf, num_views))
                .transpose()
                .map_err(wrong)
        };
        let part_labels = leaf(column::PART_LABELS)
            .map(|leaf| pages.bytes(leaf, num_points))
            .transpose()
            .map_err(wrong)?;
        let views = ViewColumns {
            images: binaries(column::IMAGES)?,
            masks: binaries(column::MASKS)?,
            view_from_object: matrices(column::VIEW_FROM_OBJECT)?,
            clip_from_view: matrices(column::CLIP_FROM_VIEW)?,
            gbuffer_normals: binaries(column::GBUFFER_NORMALS)?,
            gbuffer_depth: binaries(column::GBUFFER_DEPTH)?,
            gbuffer_albedo: binaries(column::GBUFFER_ALBEDO)?,
        };
        Ok(Sample {
            points: vectors(column::POINTS)?.unwrap_or_default(),
            normals: vectors(column::NORMALS)?,
            part_labels: part_labels.flatten(),
            views: views.select(view_indices, image_size_px).map_err(invalid)?,
            ..small_columns(&self.small_rows(direct, row_group)?[row], is_read)
        })
    }

    /// The small columns of a row group, read once.
    fn small_rows<'a>(&self, direct: &'a Direct, row_group: usize) -> Result<&'a [Sample]> {
        if let Some(rows) = direct.small[row_group].get() {
            return Ok(rows);
        }
        let columns = self.header.layout.columns;
        let is_small = |column: &Column| column.is_of(columns) && !column.is_large();
        let is_read = |name: &str| column::find(name).is_some_and(is_small);
        let rows = self.for_each_row_of(&[row_group], is_small, |batch, row| {
            sample_from_batch(batch, row, &self.header.layout, &is_read, &[])
        })?;
        let num_rows = self.metadata.metadata().row_group(row_group).num_rows();
        if rows.len() as i64 != num_rows {
            return Err(self.invalid(format!("{} rows of {num_rows}", rows.len())));
        }
        Ok(direct.small[row_group].get_or_init(|| rows))
    }

    /// The row group of a row, and its place there.
    fn locate(&self, row: usize) -> Result<(usize, usize)> {
        if row >= self.num_rows {
            return Err(self.invalid(format!("row {row} of {}", self.num_rows)));
        }
        let row_group = self.row_group_starts.partition_point(|&start| start <= row) - 1;
        Ok((row_group, row - self.row_group_starts[row_group]))
    }

    /// Reads id and selected images of a row; also from image sets.
    ///
    /// # Errors
    /// As [`ShardReader::read`].
    pub(crate) fn read_images(
        &self,
        row: usize,
        projection: &Projection,
    ) -> Result<(ObjectId, Vec<Vec<u8>>)> {
        let is_chosen = |column: &Column| [column::ID, column::IMAGES].contains(&column.name);
        let sample = self.read_chosen(row, projection, is_chosen)?;
        let pngs = sample.views.into_iter().map(|view| view.image_png);
        Ok((sample.id, pngs.collect()))
    }

    fn view_indices<'a>(&self, projection: &'a Projection) -> Result<Cow<'a, [usize]>> {
        let num_views = self.header.layout.num_views;
        let indices = match projection.views() {
            Some(indices) => Cow::Borrowed(indices),
            None => (0..num_views).collect(),
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

    /// Rows of which a predicate is true, in order. Reads only the columns that it names, of those row groups whose
    /// statistics do not rule it out.
    ///
    /// # Errors
    /// When the shard is damaged.
    pub(crate) fn matching(&self, split: Split, predicate: &Predicate) -> Result<Vec<usize>> {
        let columns = predicate.columns();
        // A projection without columns has no rows.
        let is_read = |column: &Column| column.name == column::ID || columns.contains(column.name);
        let stored = columns.iter().copied().filter(|&name| name != SPLIT);
        let row_groups: Vec<usize> = (0..self.row_group_starts.len())
            .filter(|&group| predicate.may_match(&|name| self.bounds(group, split, name)))
            .collect();
        if row_groups.is_empty() {
            return Ok(Vec::new());
        }
        let matches = self.for_each_row_of(&row_groups, is_read, |batch, row| {
            let mut values = BTreeMap::from([(SPLIT, Value::Text(split.to_string()))]);
            for name in stored.clone() {
                values.extend(comparable_from_batch(batch, row, name)?.map(|value| (name, value)));
            }
            Ok(predicate.matches(&|name| values.get(name).cloned()))
        })?;
        let rows = row_groups.iter().flat_map(|&group| {
            let start = self.row_group_starts[group];
            start..start + self.metadata.metadata().row_group(group).num_rows() as usize
        });
        Ok(rows
            .zip(matches)
            .filter(|&(_, is_match)| is_match)
            .map(|(row, _)| row)
            .collect())
    }

    /// What the footer says of the values of a column in a row group.
    fn bounds(&self, row_group: usize, split: Split, name: &str) -> Option<Bounds> {
        if name == SPLIT {
            return Some(Bounds::exactly(Value::Text(split.to_string())));
        }
        bounds_in_row_group(self.metadata.metadata().row_group(row_group), name)
    }

    /// Ids of all rows, in row order.
    ///
    /// # Errors
    /// When the shard is damaged.
    pub fn ids(&self) -> Result<Vec<ObjectId>> {
        self.for_each_row(|column| column.name == column::ID, id_from_batch)
    }

    fn read_row(&self, row: usize, projection: ProjectionMask) -> Result<RecordBatch> {
        let (row_group, row_in_group) = self.locate(row)?;
        let selection = RowSelection::from(vec![RowSelector::skip(row_in_group), RowSelector::select(1)]);
        let file = self.open_file()?;
        file.prefetch(|| self.page_ranges(row_group, row_in_group, &projection))
            .map_err(DatasetError::io("read the shard", &self.path))?;
        let mut batches = ParquetRecordBatchReaderBuilder::new_with_metadata(file, self.metadata.clone())
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

    /// Where the pages of a row are in the file.
    fn page_ranges(&self, row_group: usize, row: usize, projection: &ProjectionMask) -> Vec<Range<u64>> {
        let metadata = self.metadata.metadata();
        let pages = metadata.page_index_for_row_group(row_group);
        let chunks = metadata.row_group(row_group).columns().iter().enumerate();
        let read = chunks.filter(|(leaf, _)| projection.leaf_included(*leaf));
        read.map(|(leaf, chunk)| {
            let (start, len) = chunk.byte_range();
            let of_row = pages
                .page_locations(leaf)
                .and_then(|pages| pages.iter().rfind(|page| page.first_row_index <= row as i64));
            match of_row {
                Some(page) if chunk.dictionary_page_offset().is_none() => {
                    let start = page.offset as u64;
                    start..start.saturating_add(page.compressed_page_size as u64)
                }
                _ => start..start.saturating_add(len),
            }
        })
        .collect()
    }

    /// Where columns of row groups are in the file.
    fn chunk_ranges(&self, row_groups: &[usize], projection: &ProjectionMask) -> Vec<Range<u64>> {
        let of_group = |&row_group: &usize| {
            let chunks = self
                .metadata
                .metadata()
                .row_group(row_group)
                .columns()
                .iter()
                .enumerate();
            let read = chunks.filter(|(leaf, _)| projection.leaf_included(*leaf));
            read.map(|(_, chunk)| {
                let (start, len) = chunk.byte_range();
                start..start.saturating_add(len)
            })
        };
        row_groups.iter().flat_map(of_group).collect()
    }

    /// What `read` takes from some columns of each row, in row order.
    fn for_each_row<T>(
        &self,
        is_chosen: impl Fn(&Column) -> bool,
        read: impl Fn(&RecordBatch, usize) -> Result<T, String>,
    ) -> Result<Vec<T>> {
        let all: Vec<usize> = (0..self.row_group_starts.len()).collect();
        self.for_each_row_of(&all, is_chosen, read)
    }

    /// The same of some row groups.
    fn for_each_row_of<T>(
        &self,
        row_groups: &[usize],
        is_chosen: impl Fn(&Column) -> bool,
        read: impl Fn(&RecordBatch, usize) -> Result<T, String>,
    ) -> Result<Vec<T>> {
        catch_decoder_panic(&self.path, || {
            let (file, projection) = (self.open_file()?, project(&self.metadata, is_chosen));
            file.prefetch(|| self.chunk_ranges(row_groups, &projection))
                .map_err(DatasetError::io("read the shard", &self.path))?;
            let batches = ParquetRecordBatchReaderBuilder::new_with_metadata(file, self.metadata.clone())
                .with_projection(projection)
                .with_row_groups(row_groups.to_vec())
                .build()
                .map_err(DatasetError::parquet("read the shard", &self.path))?;
            let mut rows = Vec::new();
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

/// How to read the file as Arrow arrays, and whether in exactly the types of this program: if it wrote the file; and else in those
/// that follow from the Parquet file alone, which are few. What another program had in memory, and wrote into the file for
/// its own use, is ignored.
fn arrow_metadata(
    footer: ParquetMetaData,
    layout: &RowLayout,
    version: u32,
    path: &Path,
) -> Result<(ArrowReaderMetadata, bool)> {
    let footer = Arc::new(footer);
    let own = ArrowReaderMetadata::try_new(Arc::clone(&footer), ArrowReaderOptions::new());
    match own {
        Ok(own) if own.schema().fields() == arrow_schema(layout, version).fields() => Ok((own, true)),
        _ => {
            let options = ArrowReaderOptions::new().with_skip_arrow_metadata(true);
            let metadata = ArrowReaderMetadata::try_new(footer, options);
            Ok((
                metadata.map_err(DatasetError::parquet("read the shard", path))?,
                false,
            ))
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
