//! [`FeatureSet`]: random access to the rows of a complete feature set.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow_array::cast::AsArray as _;
use arrow_array::{Array, RecordBatch};
use arrow_schema::DataType;
use parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReaderBuilder, RowSelection, RowSelector,
};
use parquet::file::metadata::{PageIndexPolicy, ParquetMetaDataReader};

use super::{
    FEATURES, FeatureLayout, FeatureManifest, FeatureShard, ID, RowFeatures, SALIENCY, feature_set_dir,
};
use crate::error::{DatasetError, FeatureSetError, Result, ShardError};
use crate::parquet_file::catch_decoder_panic;
use crate::pipeline::parallel_map;
use crate::reader::Dataset;
use crate::schema::{ObjectId, Split};
use crate::shard::ViewSelection;
use crate::store::{FileCache, NUM_REQUESTS, SharedFile};

/// Files that are open at a time; the footers of all are kept in memory.
const MAX_OPEN_FILES: usize = 16;

/// An open feature set. `Send` and `Sync`: loader threads share one.
#[derive(Debug)]
pub struct FeatureSet {
    manifest: FeatureManifest,
    splits: [FilesOfSplit; Split::ALL.len()],
}

#[derive(Debug, Default)]
struct FilesOfSplit {
    files: Vec<FeatureFile>,
    /// Number of rows up to the end of each file.
    ends: Vec<usize>,
}

impl FilesOfSplit {
    fn num_rows(&self) -> usize {
        self.ends.last().copied().unwrap_or(0)
    }

    fn push(&mut self, file: FeatureFile) {
        self.ends.push(self.num_rows() + file.num_rows);
        self.files.push(file);
    }
}

impl FeatureSet {
    /// Opens a feature set of a dataset: reads its manifest and the footers of its files.
    ///
    /// # Errors
    /// When there is none of this name, it is incomplete or damaged, or the rows have changed since.
    pub fn open(dataset: &Dataset, name: &str) -> Result<Self> {
        let manifest = FeatureManifest::read_complete(dataset.dir(), name, dataset.manifest())?;
        let dir = feature_set_dir(dataset.dir(), name)?;
        let files = Arc::new(FileCache::new(MAX_OPEN_FILES));
        let open = |idx: usize| {
            let shard = &manifest.shards[idx];
            let path = dir.join(&shard.file);
            let file = files.file(&path).map_err(DatasetError::io("open", &path))?;
            FeatureFile::open(file, &path, shard, manifest.layout)
        };
        let opened = parallel_map(NUM_REQUESTS, manifest.shards.len(), open, || {})?;
        let mut splits = Split::ALL.map(|_| FilesOfSplit::default());
        for (shard, file) in manifest.shards.iter().zip(opened) {
            splits[shard.split as usize].push(file?);
        }
        Ok(Self { manifest, splits })
    }

    /// What the features are of.
    #[must_use]
    pub fn manifest(&self) -> &FeatureManifest {
        &self.manifest
    }

    /// Sizes of a row.
    #[must_use]
    pub fn layout(&self) -> FeatureLayout {
        self.manifest.layout
    }

    /// Hash of the data.
    #[must_use]
    pub fn sha256(&self) -> &str {
        self.manifest.sha256.as_deref().unwrap_or_default()
    }

    /// Reads the selected views of a row, which has the same number as in the dataset.
    ///
    /// # Errors
    /// When the row or a view does not exist, or the file is damaged.
    pub fn read(&self, split: Split, row: usize, views: ViewSelection<'_>) -> Result<RowFeatures> {
        let of_split = &self.splits[split as usize];
        let idx = of_split.ends.partition_point(|&end| end <= row);
        match of_split.files.get(idx) {
            Some(file) => file.read(row - (of_split.ends[idx] - file.num_rows), views),
            None => Err(DatasetError::Shard(ShardError::NoSuchRow {
                split: split.as_str(),
                row,
                num_rows: of_split.num_rows(),
            })),
        }
    }
}

/// One file of a feature set.
#[derive(Debug)]
pub(super) struct FeatureFile {
    path: PathBuf,
    file: SharedFile,
    metadata: ArrowReaderMetadata,
    num_rows: usize,
    /// First row of each row group.
    row_group_starts: Vec<usize>,
    layout: FeatureLayout,
}

impl FeatureFile {
    /// Reads and checks the footer.
    pub(super) fn open(
        file: SharedFile,
        path: &Path,
        expected: &FeatureShard,
        layout: FeatureLayout,
    ) -> Result<Self> {
        let damaged = |detail: String| damaged(detail, path);
        if file.len() != expected.bytes {
            return Err(damaged(format!(
                "{} bytes instead of {}",
                file.len(),
                expected.bytes
            )));
        }
        catch_decoder_panic(path, || {
            let wrong = DatasetError::parquet("read", path);
            let open = file.open().map_err(DatasetError::io("open", path))?;
            let footer = ParquetMetaDataReader::new()
                .with_offset_index_policy(PageIndexPolicy::Optional)
                .parse_and_finish(&open)
                .map_err(wrong)?;
            let options = ArrowReaderOptions::new();
            let metadata = ArrowReaderMetadata::try_new(Arc::new(footer), options)
                .map_err(DatasetError::parquet("read", path))?;
            let fields = metadata.schema().fields();
            let columns: Vec<(&str, &DataType)> = fields
                .iter()
                .map(|field| (field.name().as_str(), field.data_type()))
                .collect();
            let is_views = |data_type: &DataType| matches!(data_type, DataType::List(item) if *item.data_type() == DataType::Binary);
            let fits = matches!(&columns[..], [(ID, DataType::Utf8), (FEATURES, features), (SALIENCY, saliency)]
                if is_views(features) && is_views(saliency));
            if !fits {
                return Err(damaged(format!("its columns are {columns:?}")));
            }
            let mut num_rows = 0_usize;
            let mut row_group_starts = Vec::new();
            for row_group in metadata.metadata().row_groups() {
                row_group_starts.push(num_rows);
                num_rows = num_rows.saturating_add(usize::try_from(row_group.num_rows()).unwrap_or(0));
            }
            if num_rows != expected.rows {
                return Err(damaged(format!("{num_rows} rows instead of {}", expected.rows)));
            }
            Ok(Self {
                path: path.to_owned(),
                file,
                metadata,
                num_rows,
                row_group_starts,
                layout,
            })
        })
    }

    /// Reads the selected views of one row.
    pub(super) fn read(&self, row: usize, views: ViewSelection<'_>) -> Result<RowFeatures> {
        let num_views = self.layout.num_views;
        let all: Vec<usize>;
        let views = match views {
            ViewSelection::None => &[],
            ViewSelection::Some(views) => views,
            ViewSelection::All | ViewSelection::WithGbuffer => {
                all = (0..num_views).collect();
                &all[..]
            }
        };
        if let Some(&view) = views.iter().find(|&&view| view >= num_views) {
            return Err(DatasetError::Shard(ShardError::NoSuchView { view, num_views }));
        }
        catch_decoder_panic(&self.path, || {
            let batch = self.read_batch(row)?;
            from_batch(&batch, &self.layout, views).map_err(|detail| damaged(detail, &self.path))
        })
    }

    fn read_batch(&self, row: usize) -> Result<RecordBatch> {
        let row_group = self.row_group_starts.partition_point(|&start| start <= row) - 1;
        let skipped = row - self.row_group_starts[row_group];
        let selection = RowSelection::from(vec![RowSelector::skip(skipped), RowSelector::select(1)]);
        let wrong = || DatasetError::parquet("read", &self.path);
        let file = self.file.open().map_err(DatasetError::io("open", &self.path))?;
        let mut batches = ParquetRecordBatchReaderBuilder::new_with_metadata(file, self.metadata.clone())
            .with_row_groups(vec![row_group])
            .with_row_selection(selection)
            .with_batch_size(1)
            .build()
            .map_err(wrong())?;
        match batches.next() {
            Some(Ok(batch)) if batch.num_rows() == 1 => Ok(batch),
            Some(Err(e)) => Err(wrong()(e.into())),
            _ => Err(damaged(format!("row {row} is not there"), &self.path)),
        }
    }
}

fn damaged(detail: String, path: &Path) -> DatasetError {
    let path = path.to_owned();
    DatasetError::FeatureSet(FeatureSetError::Damaged { detail, path })
}

/// Some views of the one row of a batch; values that are null or of another length are an error.
fn from_batch(batch: &RecordBatch, layout: &FeatureLayout, views: &[usize]) -> Result<RowFeatures, String> {
    let id = batch.column(0).as_string::<i32>();
    let id = (!id.is_null(0)).then(|| id.value(0)).ok_or("a row has no id")?;
    let id: ObjectId = id.parse().map_err(|_| format!("'{id}' is no id"))?;
    let bytes_of = |column: usize, of_view: usize| -> Result<Vec<u8>, String> {
        let list = batch.column(column).as_list::<i32>();
        let name = [ID, FEATURES, SALIENCY][column];
        let stored = (!list.is_null(0)).then(|| list.value(0));
        let stored = stored.filter(|stored| stored.len() == layout.num_views);
        let stored = stored.ok_or_else(|| format!("{id} has {name} of another number of views"))?;
        let stored = stored.as_binary::<i32>();
        let mut bytes = Vec::with_capacity(views.len() * of_view);
        for &view in views {
            let of_this = if stored.is_null(view) {
                &[]
            } else {
                stored.value(view)
            };
            if of_this.len() != of_view {
                return Err(format!(
                    "{id} has {} bytes of {name} instead of {of_view}",
                    of_this.len()
                ));
            }
            bytes.extend_from_slice(of_this);
        }
        Ok(bytes)
    };
    Ok(RowFeatures {
        features: bytes_of(1, layout.view_bytes())?,
        saliency: bytes_of(2, layout.saliency_bytes())?,
        id,
    })
}
