//! [`Lists`]: the objects of a large data set, in Parquet files beside its manifest.
//!
//! A manifest of ten million objects would be gigabytes of JSON that everyone has to read whole. So those of large data sets
//! keep a line a shard, and name files that list the objects of many shards each, what was skipped, and what was left out
//! unread. A file names its data set and itself, and the manifest its rows, length and hash. The objects of a build that goes
//! on are in its journal, and in no list.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow_array::cast::AsArray as _;
use arrow_array::types::{UInt32Type, UInt64Type};
use arrow_array::{Array as _, ArrayRef, RecordBatch, StringArray, UInt32Array, UInt64Array};
use arrow_schema::{DataType, Field, Schema};
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::metadata::KeyValue;
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::schema::types::ColumnPath;
use serde::{Deserialize, Serialize};

use super::{Manifest, ObjectEntry, ShardEntry, SkipReason, SkippedObject};
use crate::error::{DatasetError, ManifestError, Result};
use crate::parquet_file::{HashingFile, ParquetFile};
use crate::schema::{GENERATOR, RowDigest, Split};
use crate::store;

/// Objects up to which a manifest lists them itself, by default.
pub const MAX_OBJECTS_IN_MANIFEST: usize = 1 << 16;
/// Objects of a list file, or one shard more: some megabytes.
const OBJECTS_PER_FILE: usize = 1 << 16;
/// Objects of a row group, or one shard more: what is read for one shard.
const ROW_GROUP_OBJECTS: usize = 1 << 10;
/// Objects that are encoded at a time, and of a row group at most.
const BATCH_OBJECTS: usize = 1 << 13;
/// Metadata key of the head of a list.
const METADATA_KEY: &str = "tap.list";

/// What was left out before any mesh was read.
pub(crate) const LEFT_OUT_FILE_NAME: &str = "_left-out.parq";
/// What was skipped when its mesh was read.
pub(crate) const SKIPPED_FILE_NAME: &str = "_skipped.parq";
/// What the names of the lists of the objects of shards begin and end with. Patterns for shards, `*.parquet`, and for those of
/// image sets, `*.pq`, do not match them.
const OBJECTS_FILE_STEM: &str = "_objects-";
const EXTENSION: &str = ".parq";

/// Whether a data set is so large that its objects are listed in files, by what is known of it before its first row.
pub(crate) fn needs_list_files(
    num_objects: usize,
    num_left_out: usize,
    max_objects_in_manifest: usize,
) -> bool {
    num_objects.max(num_left_out) > max_objects_in_manifest
}

/// File name of the objects of some shards.
fn object_file_name(idx: usize, count: usize) -> String {
    format!("{OBJECTS_FILE_STEM}{idx:05}-of-{count:05}{EXTENSION}")
}

/// Whether a file has the name of a list.
pub(crate) fn is_list_file_name(name: &str) -> bool {
    let of_objects = || {
        let numbers = name.strip_prefix(OBJECTS_FILE_STEM)?.strip_suffix(EXTENSION)?;
        let (idx, count) = numbers.split_once("-of-")?;
        Some(object_file_name(idx.parse().ok()?, count.parse().ok()?))
    };
    [LEFT_OUT_FILE_NAME, SKIPPED_FILE_NAME].contains(&name)
        || of_objects().is_some_and(|listed| listed == name)
}

/// Whether this program wrote a list, of whatever data set.
pub(crate) fn is_own_list(path: &Path) -> bool {
    matches!(ParquetFile::open(path), Ok(Some(file)) if file.value(METADATA_KEY).is_some())
}

/// The lists of a large data set.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lists {
    /// What was left out before any mesh was read; `None` if there is nothing. A part of the plan.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub left_out: Option<ListFile>,
    /// Number of objects of [`left_out`](Self::left_out), by reason.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub num_left_out: BTreeMap<SkipReason, usize>,
    /// The objects of the shards, in the order of the manifest; empty until all shards are there.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub objects: Vec<ListFile>,
    /// The skipped objects of the shards, in the same order; `None` if there are none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub skipped: Option<ListFile>,
    /// Where the files lie.
    #[serde(skip)]
    pub(super) folder: PathBuf,
    /// By what they name their data set.
    #[serde(skip)]
    pub(super) owner: String,
}

/// Equal lists have equal content, wherever they lie.
impl PartialEq for Lists {
    fn eq(&self, other: &Self) -> bool {
        let content = |lists: &Self| {
            let Self {
                left_out,
                num_left_out,
                objects,
                skipped,
                folder: _,
                owner: _,
            } = lists.clone();
            (left_out, num_left_out, objects, skipped)
        };
        content(self) == content(other)
    }
}

/// A list: a Parquet file in the folder of the data set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ListFile {
    /// File name within the folder.
    pub file: String,
    /// Number of rows: of objects.
    pub rows: usize,
    /// Length in bytes.
    pub bytes: u64,
    /// SHA-256 of the file.
    pub sha256: String,
}

/// What a list says of itself.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Head {
    /// Program and version that wrote it.
    generator: String,
    /// Of its data set: the plan, without its lists.
    plan_sha256: String,
    /// Its own name: lists of one data set are not confused either.
    file: String,
}

impl Lists {
    /// What the plan says, without progress.
    pub(super) fn of_plan(&self) -> Self {
        Self {
            left_out: self.left_out.clone(),
            num_left_out: self.num_left_out.clone(),
            ..Self::default()
        }
    }

    /// All files.
    pub fn files(&self) -> impl Iterator<Item = &ListFile> {
        self.left_out.iter().chain(&self.objects).chain(&self.skipped)
    }

    /// Whether the objects of the shards are listed: all shards are there.
    pub(crate) fn is_whole(&self) -> bool {
        !self.objects.is_empty()
    }

    /// Forgets the lists of the shards, whose objects are in the journal.
    pub(crate) fn reopen(&mut self) {
        self.objects.clear();
        self.skipped = None;
    }

    /// Checks names and numbers against the manifest; none leads out of the folder.
    pub(super) fn check(&self, shards: &[ShardEntry]) -> Result<(), String> {
        let Self {
            left_out,
            num_left_out,
            objects,
            skipped,
            folder: _,
            owner: _,
        } = self;
        let names = [(left_out, LEFT_OUT_FILE_NAME), (skipped, SKIPPED_FILE_NAME)];
        for (list, name) in names {
            if let Some(list) = list.as_ref().filter(|list| list.file != name) {
                return Err(format!("a list is called {} instead of {name}", list.file));
            }
        }
        let rows = |list: &Option<ListFile>| list.as_ref().map_or(0, |list| list.rows);
        if sum(num_left_out.values().copied()) != Some(rows(left_out)) {
            return Err("its counts of what was left out do not add up".to_owned());
        }
        for shard in shards {
            let num_skipped = sum(shard.num_skipped.values().copied());
            let num_objects = num_skipped.and_then(|skipped| shard.rows.checked_add(skipped));
            if num_objects.is_none() || num_objects != shard.num_listed || num_objects == Some(0) {
                return Err(format!("the numbers of {} do not add up", shard.file));
            }
            if !shard.objects.is_empty() {
                return Err(format!("the objects of {} are listed twice", shard.file));
            }
        }
        if !self.is_whole() {
            return match skipped {
                Some(_) => Err("it lists skipped objects, but no others".to_owned()),
                None => Ok(()),
            };
        }
        let num_skipped = sum(shards
            .iter()
            .flat_map(|shard| shard.num_skipped.values().copied()));
        if num_skipped != Some(rows(skipped)) {
            return Err("its counts of skipped objects do not add up".to_owned());
        }
        let cuts = cut(shards);
        for (idx, list) in objects.iter().enumerate() {
            let name = object_file_name(idx, objects.len());
            if list.file != name {
                return Err(format!("a list is called {} instead of {name}", list.file));
            }
            let of_shards = cuts.get(idx).map(|cut| &shards[cut.clone()]);
            if of_shards.and_then(|shards| sum(shards.iter().map(ShardEntry::num_objects))) != Some(list.rows)
            {
                return Err(format!("{} has not as many objects as its shards", list.file));
            }
        }
        if cuts.len() == objects.len() {
            Ok(())
        } else {
            Err(format!("{} lists instead of {}", objects.len(), cuts.len()))
        }
    }

    /// Opens a list.
    ///
    /// # Errors
    /// When it is missing, or not the one that the manifest names.
    pub(super) fn open(&self, list: &ListFile) -> Result<ParquetFile> {
        let path = self.folder.join(&list.file);
        let damaged = |detail: String| damaged(&path, detail);
        let file = ParquetFile::open(&path)?.ok_or_else(|| damaged("it is missing".to_owned()))?;
        if file.len() != list.bytes {
            return Err(damaged(format!("{} bytes instead of {}", file.len(), list.bytes)));
        }
        let head: Option<Head> = file
            .value(METADATA_KEY)
            .and_then(|head| serde_json::from_str(head).ok());
        match head {
            Some(head) if head.plan_sha256 == self.owner && head.file == list.file => {}
            Some(head) if head.plan_sha256 == self.owner => {
                return Err(damaged(format!("it is {}", head.file)));
            }
            _ => return Err(damaged("it is of another data set".to_owned())),
        }
        if file.num_rows() != Some(list.rows) {
            let found = file.num_rows().unwrap_or_default();
            return Err(damaged(format!("{found} rows instead of {}", list.rows)));
        }
        Ok(file)
    }
}

/// Which shards, by their places in the manifest, share a list.
pub(super) fn cut<'a>(shards: impl IntoIterator<Item = &'a ShardEntry>) -> Vec<Range<usize>> {
    let mut cuts = Vec::new();
    let (mut start, mut end, mut num_objects) = (0, 0, 0_usize);
    for shard in shards {
        end += 1;
        num_objects = num_objects.saturating_add(shard.num_objects());
        if num_objects >= OBJECTS_PER_FILE {
            cuts.push(start..end);
            (start, num_objects) = (end, 0);
        }
    }
    if start < end {
        cuts.push(start..end);
    }
    cuts
}

fn sum(mut numbers: impl Iterator<Item = usize>) -> Option<usize> {
    numbers.try_fold(0_usize, usize::checked_add)
}

/// A list that is being written.
pub(super) struct ListWriter {
    path: PathBuf,
    file: String,
    schema: Arc<Schema>,
    writer: ArrowWriter<HashingFile>,
    rows: usize,
}

impl ListWriter {
    pub(super) fn of_objects(dir: &Path, owner: &str, idx: usize, count: usize) -> Result<Self> {
        Self::create(dir, object_file_name(idx, count), owner, object_schema())
    }

    pub(super) fn of_skipped(dir: &Path, file: &str, owner: &str) -> Result<Self> {
        Self::create(dir, file.to_owned(), owner, skipped_schema())
    }

    fn create(dir: &Path, file: String, owner: &str, schema: Schema) -> Result<Self> {
        let path = dir.join(&file);
        let schema = Arc::new(schema);
        let head = Head {
            generator: GENERATOR.to_owned(),
            plan_sha256: owner.to_owned(),
            file: file.clone(),
        };
        let head = serde_json::to_string(&head).expect("plain data has a JSON form");
        let level = ZstdLevel::try_new(1).expect("level 1 exists");
        let properties = WriterProperties::builder()
            .set_created_by(GENERATOR.to_owned())
            .set_compression(Compression::ZSTD(level))
            .set_dictionary_enabled(false)
            .set_statistics_enabled(EnabledStatistics::None)
            // What one looks up.
            .set_column_statistics_enabled(ColumnPath::from("shard"), EnabledStatistics::Chunk)
            .set_column_statistics_enabled(ColumnPath::from("id"), EnabledStatistics::Chunk)
            .set_max_row_group_row_count(Some(BATCH_OBJECTS))
            .set_key_value_metadata(Some(vec![KeyValue::new(METADATA_KEY.to_owned(), head)]))
            .build();
        let target = HashingFile::new(store::create(&path)?);
        let writer = ArrowWriter::try_new(target, Arc::clone(&schema), Some(properties))
            .map_err(DatasetError::parquet("write", &path))?;
        Ok(Self {
            path,
            file,
            schema,
            writer,
            rows: 0,
        })
    }

    /// Adds the objects of a shard, which has this place in the manifest.
    pub(super) fn add_shard(&mut self, shard: usize, objects: &[ObjectEntry]) -> Result<()> {
        for objects in objects.chunks(BATCH_OBJECTS) {
            self.write(object_columns(shard, objects))?;
        }
        if self.writer.in_progress_rows() >= ROW_GROUP_OBJECTS {
            self.writer
                .flush()
                .map_err(DatasetError::parquet("write", &self.path))?;
        }
        Ok(())
    }

    /// Adds skipped objects.
    pub(super) fn add_skipped(&mut self, objects: &[SkippedObject]) -> Result<()> {
        for objects in objects.chunks(BATCH_OBJECTS) {
            self.write(skipped_columns(objects))?;
        }
        Ok(())
    }

    fn write(&mut self, columns: Vec<ArrayRef>) -> Result<()> {
        let batch = RecordBatch::try_new(Arc::clone(&self.schema), columns)
            .expect("the columns are those of the schema");
        self.rows += batch.num_rows();
        self.writer
            .write(&batch)
            .map_err(DatasetError::parquet("write", &self.path))
    }

    pub(super) fn finish(self) -> Result<ListFile> {
        let Self {
            path,
            file,
            writer,
            rows,
            ..
        } = self;
        let target = writer
            .into_inner()
            .map_err(DatasetError::parquet("write", &path))?;
        let (sha256, bytes) = target.finish()?;
        Ok(ListFile {
            file,
            rows,
            bytes,
            sha256,
        })
    }
}

pub(super) fn damaged(path: &Path, detail: String) -> DatasetError {
    DatasetError::Manifest(ManifestError::List {
        detail,
        path: path.to_owned(),
    })
}

fn text(name: &str, is_nullable: bool) -> Field {
    Field::new(name, DataType::Utf8, is_nullable)
}

fn object_schema() -> Schema {
    Schema::new(vec![
        Field::new("shard", DataType::UInt32, false),
        text("id", false),
        text("path", false),
        Field::new("bytes", DataType::UInt64, false),
        text("sha256", true),
        text("assets_sha256", true),
        text("points_sha256", true),
        text("views_sha256", true),
    ])
}

fn object_columns(shard: usize, objects: &[ObjectEntry]) -> Vec<ArrayRef> {
    let shard = u32::try_from(shard).expect("the number of shards is bounded");
    let required = |of: fn(&ObjectEntry) -> &str| -> ArrayRef {
        Arc::new(StringArray::from_iter_values(objects.iter().map(of)))
    };
    let optional = |of: fn(&ObjectEntry) -> Option<&str>| -> ArrayRef {
        Arc::new(objects.iter().map(of).collect::<StringArray>())
    };
    vec![
        Arc::new(UInt32Array::from_value(shard, objects.len())),
        required(|object| object.id.as_str()),
        required(|object| &object.path),
        Arc::new(UInt64Array::from_iter_values(
            objects.iter().map(|object| object.bytes),
        )),
        optional(|object| object.sha256.as_deref()),
        optional(|object| object.assets_sha256.as_deref()),
        optional(|object| object.row.as_ref().map(|row| row.points_sha256.as_str())),
        optional(|object| object.row.as_ref().map(|row| row.views_sha256.as_str())),
    ]
}

fn skipped_schema() -> Schema {
    Schema::new(vec![
        text("id", false),
        text("split", true),
        text("path", false),
        text("reason", false),
        text("message", false),
        Field::new("shard", DataType::UInt32, true),
    ])
}

fn skipped_columns(objects: &[SkippedObject]) -> Vec<ArrayRef> {
    let required = |of: fn(&SkippedObject) -> &str| -> ArrayRef {
        Arc::new(StringArray::from_iter_values(objects.iter().map(of)))
    };
    let splits = objects.iter().map(|object| object.split.map(Split::as_str));
    let reasons = objects.iter().map(|object| object.reason.to_string());
    let shard = |shard| u32::try_from(shard).expect("the number of shards is bounded");
    let shards = objects.iter().map(|object| object.shard.map(shard));
    vec![
        required(|object| &object.id),
        Arc::new(splits.collect::<StringArray>()),
        required(|object| &object.path),
        Arc::new(StringArray::from_iter_values(reasons)),
        required(|object| &object.message),
        Arc::new(shards.collect::<UInt32Array>()),
    ]
}

fn texts<'a>(batch: &'a RecordBatch, name: &str) -> Result<&'a StringArray, String> {
    let column = batch
        .column_by_name(name)
        .and_then(|column| column.as_string_opt::<i32>());
    column.ok_or_else(|| format!("no texts in the column {name}"))
}

fn required(texts: &StringArray, row: usize) -> Result<String, String> {
    optional(texts, row).ok_or_else(|| "a text is null".to_owned())
}

fn optional(texts: &StringArray, row: usize) -> Option<String> {
    (!texts.is_null(row)).then(|| texts.value(row).to_owned())
}

/// Objects with the places of their shards in the manifest.
pub(super) fn objects_from_batch(
    batch: &RecordBatch,
    objects: &mut Vec<(usize, ObjectEntry)>,
) -> Result<(), String> {
    let shards = batch
        .column_by_name("shard")
        .and_then(|column| column.as_primitive_opt::<UInt32Type>())
        .filter(|column| column.null_count() == 0)
        .ok_or("no numbers in the column shard")?;
    let lengths = batch
        .column_by_name("bytes")
        .and_then(|column| column.as_primitive_opt::<UInt64Type>())
        .filter(|column| column.null_count() == 0)
        .ok_or("no lengths in the column bytes")?;
    let (ids, paths) = (texts(batch, "id")?, texts(batch, "path")?);
    let (hashes, assets) = (texts(batch, "sha256")?, texts(batch, "assets_sha256")?);
    let (points, views) = (texts(batch, "points_sha256")?, texts(batch, "views_sha256")?);
    objects.reserve(batch.num_rows());
    for row in 0..batch.num_rows() {
        let id = required(ids, row)?;
        let digest = match (optional(points, row), optional(views, row)) {
            (Some(points_sha256), Some(views_sha256)) => Some(RowDigest {
                points_sha256,
                views_sha256,
            }),
            (None, None) => None,
            _ => return Err(format!("{id} has half a row")),
        };
        let object = ObjectEntry {
            id: id.parse().map_err(|_| format!("\"{id}\" is no id"))?,
            path: required(paths, row)?,
            bytes: lengths.value(row),
            sha256: optional(hashes, row),
            assets_sha256: optional(assets, row),
            row: digest,
        };
        objects.push((shards.value(row) as usize, object));
    }
    Ok(())
}

pub(super) fn skipped_from_batch(
    batch: &RecordBatch,
    objects: &mut Vec<SkippedObject>,
) -> Result<(), String> {
    let shards = batch
        .column_by_name("shard")
        .and_then(|column| column.as_primitive_opt::<UInt32Type>())
        .ok_or("no numbers in the column shard")?;
    let (ids, splits, paths) = (texts(batch, "id")?, texts(batch, "split")?, texts(batch, "path")?);
    let (reasons, messages) = (texts(batch, "reason")?, texts(batch, "message")?);
    for row in 0..batch.num_rows() {
        let id = required(ids, row)?;
        let split = optional(splits, row).map(|split| split.parse());
        let reason = serde_json::Value::String(required(reasons, row)?);
        objects.push(SkippedObject {
            split: split.transpose().map_err(|_| format!("unknown split of {id}"))?,
            path: required(paths, row)?,
            reason: serde_json::from_value(reason).map_err(|_| format!("unknown reason of {id}"))?,
            message: required(messages, row)?,
            shard: (!shards.is_null(row)).then(|| shards.value(row) as usize),
            id,
        });
    }
    Ok(())
}

impl Manifest {
    /// Tells the lists where they lie, and of which data set they are.
    pub(super) fn place_lists(&mut self, dir: &Path) {
        if let Some(lists) = self.lists.take() {
            self.lists = Some(Lists {
                folder: dir.to_owned(),
                owner: self.plan_sha256_with(Some(Lists::default())),
                ..lists
            });
        }
    }

    /// Writes what was left out unread, sorted, into the folder of a large data set that begins.
    pub(crate) fn list_left_out(&mut self, dir: &Path, mut left_out: Vec<SkippedObject>) -> Result<()> {
        super::sort_skipped(&mut left_out);
        self.place_lists(dir);
        let lists = self.lists.as_mut().expect("the data set is large");
        lists.num_left_out = BTreeMap::new();
        for object in &left_out {
            *lists.num_left_out.entry(object.reason).or_default() += 1;
        }
        lists.left_out = None;
        if !left_out.is_empty() {
            let mut writer = ListWriter::of_skipped(dir, LEFT_OUT_FILE_NAME, &lists.owner)?;
            writer.add_skipped(&left_out)?;
            lists.left_out = Some(writer.finish()?);
        }
        Ok(())
    }
}
