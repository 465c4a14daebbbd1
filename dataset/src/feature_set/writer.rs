//! [`FeatureSetWriter`]: writes the files of a feature set, and resumes after an interrupted run.
//!
//! The manifest is replaced after every file, which is small beside it. A file that it does not list is removed on open,
//! and one that it lists is hashed and written again where its content has changed.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow_array::{ArrayRef, BinaryArray, ListArray, RecordBatch, StringArray};
use arrow_buffer::OffsetBuffer;
use arrow_schema::{DataType, Field, Schema, SchemaRef};
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, Encoding};
use parquet::file::metadata::KeyValue;
use parquet::file::properties::{EnabledStatistics, WriterProperties};

use super::manifest::file_name;
use super::{
    FEATURE_MANIFEST_FILE_NAME, FEATURES, FeatureLayout, FeatureManifest, FeatureRecipe, FeatureShard,
    HALF_BYTES, ID, RowFeatures, SALIENCY, feature_set_dir,
};
use crate::atomic_file::complete_name;
use crate::error::{DatasetError, FeatureSetError, Result, StoreError};
use crate::manifest::{image_shard_file_name, shard_stem};
use crate::parquet_file::HashingFile;
use crate::pipeline::{num_threads, parallel_map};
use crate::reader::Dataset;
use crate::schema::{GENERATOR, Split};
use crate::store;

/// Rows per row group, which the writer holds in memory: a row may be some megabytes.
const ROW_GROUP_ROWS: usize = 8;
/// Metadata key of the recipe and the layout in every file.
const METADATA_KEY: &str = "tap.features";
/// The exponent of infinities and of what is not a number.
const HALF_EXPONENT: u16 = 0x7c00;

/// A shard of the dataset whose features are still to be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MissingShard {
    /// Split of its rows.
    pub split: Split,
    /// Its first row within the split.
    pub first_row: usize,
    /// Number of rows.
    pub num_rows: usize,
    /// Place among the dataset's shards.
    idx: usize,
}

/// Writes a feature set file by file.
#[derive(Debug)]
pub struct FeatureSetWriter {
    dir: PathBuf,
    manifest: FeatureManifest,
    /// Names, splits and rows of all files.
    planned: Vec<FeatureShard>,
    schema: SchemaRef,
    current: Option<OpenFile>,
    lock: store::WriteLock,
}

#[derive(Debug)]
struct OpenFile {
    writer: ArrowWriter<HashingFile>,
    path: PathBuf,
    num_rows: usize,
}

impl FeatureSetWriter {
    /// Creates the feature set `name` of a dataset or resumes one.
    ///
    /// # Errors
    /// When there is one of another recipe or other rows (unless `force` is set), the folder holds other files, is locked by
    /// another program, or is not writable.
    pub fn open(
        dataset: &Dataset,
        name: &str,
        recipe: FeatureRecipe,
        layout: FeatureLayout,
        force: bool,
    ) -> Result<Self> {
        let rows = dataset.manifest();
        let dir = feature_set_dir(dataset.dir(), name)?;
        let damaged = |detail: String| {
            let path = dir.clone();
            DatasetError::FeatureSet(FeatureSetError::Damaged { detail, path })
        };
        let parent = rows.complete_sha256(dataset.dir())?;
        let wanted = FeatureManifest::new(parent, recipe, layout).map_err(damaged)?;
        refuse_foreign_files(&dir)?;
        let mut lock = store::lock_for_writing(&dir, FEATURE_MANIFEST_FILE_NAME)?;
        let mut manifest = match FeatureManifest::read(&dir) {
            _ if force => wanted,
            Ok(Some(found)) => {
                let differences = found.differences(&wanted);
                if !differences.is_empty() {
                    return Err(DatasetError::FeatureSet(FeatureSetError::Recipe {
                        differences,
                        path: dir,
                    }));
                }
                found.check_parent(dataset.dir(), rows, &dir)?;
                found
            }
            Ok(None) => wanted,
            Err(error) => return Err(error),
        };
        let planned: Vec<FeatureShard> = rows
            .shards
            .iter()
            .map(|shard| FeatureShard {
                file: file_name(shard),
                split: shard.split,
                rows: shard.rows,
                bytes: 0,
                sha256: String::new(),
            })
            .collect();
        manifest.keep_intact(&dir, &planned)?;
        lock.replace(&dir.join(FEATURE_MANIFEST_FILE_NAME), &manifest.to_json())?;
        remove_stale_files(&dir, &manifest)?;
        Ok(Self {
            schema: schema(&manifest),
            dir,
            manifest,
            planned,
            current: None,
            lock,
        })
    }

    /// The folder.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Shards that are still to be written, in order; rows go into the first.
    #[must_use]
    pub fn missing_shards(&self) -> Vec<MissingShard> {
        let mut starts = [0; Split::ALL.len()];
        let mut missing = Vec::new();
        for (idx, planned) in self.planned.iter().enumerate() {
            let start = &mut starts[planned.split as usize];
            if !self.has(&planned.file) {
                missing.push(MissingShard {
                    split: planned.split,
                    first_row: *start,
                    num_rows: planned.rows,
                    idx,
                });
            }
            *start += planned.rows;
        }
        missing
    }

    fn has(&self, file: &str) -> bool {
        self.manifest.shards.iter().any(|shard| shard.file == file)
    }

    /// Appends the next row of `shard`.
    ///
    /// # Errors
    /// When its size is not that of the layout, a number is infinite or not a number (as float16), or the disk is full.
    pub fn append(&mut self, shard: MissingShard, row: &RowFeatures) -> Result<()> {
        let layout = self.manifest.layout;
        check_row(row, &layout)?;
        let batch = to_batch(row, &layout, &self.schema);
        let file = self.open_file(shard)?;
        let wrong = DatasetError::parquet("write", &file.path);
        file.writer.write(&batch).map_err(wrong)?;
        file.num_rows += 1;
        Ok(())
    }

    /// Finishes the file of `shard` and lists it.
    ///
    /// # Errors
    /// When the disk is full or the folder is not writable.
    ///
    /// # Panics
    /// When rows are missing.
    pub fn finish_shard(&mut self, shard: MissingShard) -> Result<()> {
        // A shard may have no rows.
        self.open_file(shard)?;
        let OpenFile {
            writer,
            path,
            num_rows,
        } = self.current.take().expect("it was just opened");
        assert_eq!(num_rows, shard.num_rows, "every row of a shard is written");
        let file = writer
            .into_inner()
            .map_err(DatasetError::parquet("write", &path))?;
        let (sha256, bytes) = file.finish()?;
        let finished = FeatureShard {
            bytes,
            sha256,
            ..self.planned[shard.idx].clone()
        };
        let before = self.planned[..shard.idx].iter();
        let at = before.filter(|planned| self.has(&planned.file)).count();
        self.manifest.shards.insert(at, finished);
        self.write_manifest()
    }

    /// Marks the feature set complete.
    ///
    /// # Errors
    /// When the manifest cannot be written.
    ///
    /// # Panics
    /// When shards are missing.
    pub fn finish(mut self) -> Result<FeatureManifest> {
        assert_eq!(
            self.manifest.shards.len(),
            self.planned.len(),
            "every shard is written"
        );
        let sha256 = Some(self.manifest.shards_sha256());
        if self.manifest.sha256 != sha256 {
            self.manifest.sha256 = sha256;
            self.write_manifest()?;
        }
        Ok(self.manifest)
    }

    fn write_manifest(&mut self) -> Result<()> {
        let path = self.dir.join(FEATURE_MANIFEST_FILE_NAME);
        self.lock.replace(&path, &self.manifest.to_json())
    }

    fn open_file(&mut self, shard: MissingShard) -> Result<&mut OpenFile> {
        if self.current.is_none() {
            let path = self.dir.join(&self.planned[shard.idx].file);
            let file = HashingFile::new(store::create(&path)?);
            let properties = properties(&self.manifest);
            let writer = ArrowWriter::try_new(file, Arc::clone(&self.schema), Some(properties))
                .map_err(DatasetError::parquet("write", &path))?;
            self.current = Some(OpenFile {
                writer,
                path,
                num_rows: 0,
            });
        }
        Ok(self.current.as_mut().expect("it was just opened"))
    }
}

impl FeatureManifest {
    /// Keeps the planned files whose content is what was written. Hashed in parallel, because a resumed run waits for it.
    fn keep_intact(&mut self, dir: &Path, planned: &[FeatureShard]) -> Result<()> {
        let is_planned = |shard: &FeatureShard| {
            let mut planned = planned.iter();
            planned.any(|planned| {
                (&planned.file, planned.split, planned.rows) == (&shard.file, shard.split, shard.rows)
            })
        };
        let shards = std::mem::take(&mut self.shards);
        let is_intact = |i: usize| {
            let shard: &FeatureShard = &shards[i];
            is_planned(shard) && store::is_intact(&dir.join(&shard.file), shard.bytes, &shard.sha256)
        };
        let are_intact = parallel_map(num_threads(0), shards.len(), is_intact, || {})?;
        let intact = shards
            .into_iter()
            .zip(are_intact)
            .filter(|(_, is_intact)| *is_intact);
        self.shards = intact.map(|(shard, _)| shard).collect();
        if self.shards.len() < planned.len() {
            self.sha256 = None;
        }
        Ok(())
    }
}

/// Sizes and values of a row.
pub(super) fn check_row(row: &RowFeatures, layout: &FeatureLayout) -> Result<()> {
    let wrong = |detail: String| {
        let id = row.id.to_string();
        Err(DatasetError::FeatureSet(FeatureSetError::Row { id, detail }))
    };
    let expected = [layout.view_bytes(), layout.saliency_bytes()].map(|bytes| bytes * layout.num_views);
    for (name, bytes, expected) in [
        (FEATURES, &row.features, expected[0]),
        (SALIENCY, &row.saliency, expected[1]),
    ] {
        if bytes.len() != expected {
            return wrong(format!("{} bytes of {name} instead of {expected}", bytes.len()));
        }
        let (halves, _) = bytes.as_chunks::<HALF_BYTES>();
        let is_finite = |half: &[u8; HALF_BYTES]| u16::from_le_bytes(*half) & HALF_EXPONENT != HALF_EXPONENT;
        if !halves.iter().all(is_finite) {
            return wrong(format!("{name} are infinite or not a number as float16"));
        }
    }
    Ok(())
}

/// Columns, and the recipe as metadata: a file says of itself what it holds.
fn schema(manifest: &FeatureManifest) -> SchemaRef {
    let views = || DataType::List(Arc::new(Field::new_list_field(DataType::Binary, true)));
    let fields = vec![
        Field::new(ID, DataType::Utf8, true),
        Field::new(FEATURES, views(), true),
        Field::new(SALIENCY, views(), true),
    ];
    let metadata = [(METADATA_KEY.to_owned(), metadata(manifest))];
    Arc::new(Schema::new(fields).with_metadata(HashMap::from(metadata)))
}

fn metadata(manifest: &FeatureManifest) -> String {
    serde_json::json!({
        "format_version": manifest.format_version,
        "parent": manifest.parent,
        "recipe": manifest.recipe,
        "layout": manifest.layout,
    })
    .to_string()
}

/// A page per row, so that it can be read alone; float16 is not compressed, since that gains nothing.
fn properties(manifest: &FeatureManifest) -> WriterProperties {
    let metadata = KeyValue::new(METADATA_KEY.to_owned(), metadata(manifest));
    WriterProperties::builder()
        .set_key_value_metadata(Some(vec![metadata]))
        .set_created_by(GENERATOR.to_owned())
        .set_max_row_group_row_count(Some(ROW_GROUP_ROWS))
        .set_data_page_row_count_limit(1)
        .set_dictionary_enabled(false)
        .set_encoding(Encoding::PLAIN)
        .set_compression(Compression::UNCOMPRESSED)
        .set_statistics_enabled(EnabledStatistics::None)
        .build()
}

fn to_batch(row: &RowFeatures, layout: &FeatureLayout, schema: &SchemaRef) -> RecordBatch {
    let views = |bytes: &[u8], of_view: usize| -> ArrayRef {
        let views = BinaryArray::from_iter_values(bytes.chunks_exact(of_view));
        let field = Arc::new(Field::new_list_field(DataType::Binary, true));
        let offsets = OffsetBuffer::from_lengths([layout.num_views]);
        Arc::new(ListArray::new(field, offsets, Arc::new(views), None))
    };
    let columns: Vec<ArrayRef> = vec![
        Arc::new(StringArray::from_iter_values([row.id.as_str()])),
        views(&row.features, layout.view_bytes()),
        views(&row.saliency, layout.saliency_bytes()),
    ];
    RecordBatch::try_new(Arc::clone(schema), columns).expect("the columns are those of the schema")
}

/// Whether a feature set has files of this name.
pub(super) fn is_own_file(name: &str) -> bool {
    let whole = complete_name(name).unwrap_or(name);
    whole == FEATURE_MANIFEST_FILE_NAME
        || (shard_stem(whole).is_some() && image_shard_file_name(whole) == whole)
}

fn refuse_foreign_files(dir: &Path) -> Result<()> {
    let found = store::list(dir)?;
    match found.into_iter().find(|file| !is_own_file(&file.name)) {
        Some(foreign) => Err(DatasetError::Store(StoreError::ForeignFiles {
            name: foreign.name.trim_end_matches('/').to_owned(),
            path: dir.to_owned(),
        })),
        None => Ok(()),
    }
}

/// Removes files that the manifest does not list.
fn remove_stale_files(dir: &Path, manifest: &FeatureManifest) -> Result<()> {
    let found = store::list(dir)?;
    let is_listed = |name: &str| {
        name == FEATURE_MANIFEST_FILE_NAME || manifest.shards.iter().any(|shard| shard.file == name)
    };
    let names = found.iter().map(|file| file.name.as_str());
    store::remove_all(dir, names.filter(|name| !is_listed(name)))
}
