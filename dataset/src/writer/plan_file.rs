//! [`PlanFile`]: the list of objects of a build that was begun, for machines that build some of its shards.
//!
//! A Parquet file with a row for each object in plan order, in row groups that are read alone: whoever builds one shard of
//! ten million objects reads what that shard needs. The manifest beside it holds the rest of the plan; the file names that
//! plan by its hash, and where the source was found.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow_array::cast::AsArray as _;
use arrow_array::types::UInt64Type;
use arrow_array::{Array as _, ArrayRef, RecordBatch, StringArray, UInt64Array};
use arrow_schema::{DataType, Field, Schema};
use parquet::arrow::ArrowWriter;
use parquet::basic::Compression;
use parquet::file::metadata::KeyValue;
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::error::{DatasetError, ManifestError, Result};
use crate::manifest::{Manifest, PLAN_FILE_NAME};
use crate::parquet_file::ParquetFile;
use crate::schema::{GENERATOR, ObjectId, Split};
use crate::store;

/// Metadata key of the head.
const METADATA_KEY: &str = "tap.plan";
/// Objects that are read at a time, some hundred kilobytes.
const ROW_GROUP_ROWS: usize = 1 << 13;

/// An object that a shard is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PlannedObject {
    pub(crate) split: Split,
    pub(crate) id: ObjectId,
    /// Relative to the source, with forward slashes.
    pub(crate) path: String,
    /// Length of the mesh file; `None` if the source did not know it.
    pub(crate) bytes: Option<u64>,
}

/// What the file says besides the objects.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Head {
    /// Program and version that wrote it.
    generator: String,
    /// [`Manifest::plan_sha256`] of the manifest beside it.
    plan_sha256: String,
    /// Where the source is, for whoever opens it.
    source: Value,
    /// Objects of the train, val and test split.
    num_objects: [usize; Split::ALL.len()],
}

/// An open list of objects.
#[derive(Debug)]
pub(crate) struct PlanFile {
    path: PathBuf,
    head: Head,
    file: ParquetFile,
}

impl PlanFile {
    /// Writes the list beside the manifest, over an older one. Objects are sorted by split; so many are of each.
    ///
    /// # Errors
    /// When the disk is full or the folder is not writable.
    pub(crate) fn write(
        dir: &Path,
        manifest: &Manifest,
        source: Value,
        num_objects: [usize; Split::ALL.len()],
        mut objects: impl Iterator<Item = PlannedObject>,
    ) -> Result<()> {
        let path = dir.join(PLAN_FILE_NAME);
        let head = Head {
            generator: GENERATOR.to_owned(),
            plan_sha256: manifest.plan_sha256(),
            source,
            num_objects,
        };
        let head = serde_json::to_string(&head).expect("plain data has a JSON form");
        let properties = WriterProperties::builder()
            .set_compression(Compression::LZ4_RAW)
            .set_statistics_enabled(EnabledStatistics::None)
            .set_max_row_group_row_count(Some(ROW_GROUP_ROWS))
            .set_key_value_metadata(Some(vec![KeyValue::new(METADATA_KEY.to_owned(), head)]))
            .build();
        let write_error = |e| DatasetError::parquet("write", &path)(e);
        let mut writer = ArrowWriter::try_new(store::create(&path)?, Arc::new(schema()), Some(properties))
            .map_err(write_error)?;
        loop {
            let group: Vec<PlannedObject> = objects.by_ref().take(ROW_GROUP_ROWS).collect();
            if group.is_empty() {
                break;
            }
            writer.write(&to_batch(&group)).map_err(write_error)?;
        }
        writer.into_inner().map_err(write_error)?.finish()
    }

    /// Opens the list of a folder; `None` if there is none.
    ///
    /// # Errors
    /// When it cannot be read, or this program did not write it.
    pub(crate) fn open(dir: &Path) -> Result<Option<Self>> {
        let path = dir.join(PLAN_FILE_NAME);
        let Some(file) = ParquetFile::open(&path)? else {
            return Ok(None);
        };
        let head = file
            .value(METADATA_KEY)
            .ok_or_else(|| damaged(&path, "it is no list of objects of this program".to_owned()))?;
        let head: Head = serde_json::from_str(head).map_err(|source| {
            DatasetError::Manifest(ManifestError::Json {
                path: path.clone(),
                source,
            })
        })?;
        let num_objects = head
            .num_objects
            .iter()
            .try_fold(0_usize, |sum, num| sum.checked_add(*num));
        if num_objects.is_none() || num_objects != file.num_rows() {
            let num_rows = file.num_rows().unwrap_or_default();
            return Err(damaged(&path, format!("it has {num_rows} rows")));
        }
        Ok(Some(Self { path, head, file }))
    }

    /// Whether a folder has the list that goes with its manifest.
    pub(super) fn is_of(dir: &Path, manifest: &Manifest) -> bool {
        matches!(Self::open(dir), Ok(Some(plan)) if plan.belongs_to(manifest))
    }

    /// Whether this list goes with a manifest.
    pub(crate) fn belongs_to(&self, manifest: &Manifest) -> bool {
        self.head.plan_sha256 == manifest.plan_sha256()
    }

    /// Where the source was found.
    pub(crate) fn source(&self) -> &Value {
        &self.head.source
    }

    /// Number of objects of a split.
    pub(crate) fn num_objects(&self, split: Split) -> usize {
        self.head.num_objects[split as usize]
    }

    /// The objects in these places of the list, which ascend and do not overlap.
    ///
    /// # Errors
    /// When the file cannot be read, or its rows are not objects.
    pub(crate) fn objects(&self, places: &[Range<usize>]) -> Result<Vec<PlannedObject>> {
        let mut objects = Vec::new();
        self.file.read(places, |batch| {
            from_batch(batch, &mut objects).map_err(|detail| damaged(&self.path, detail))
        })?;
        Ok(objects)
    }
}

fn damaged(path: &Path, detail: String) -> DatasetError {
    DatasetError::Manifest(ManifestError::Plan {
        detail,
        path: path.to_owned(),
    })
}

fn schema() -> Schema {
    let text = |name| Field::new(name, DataType::Utf8, false);
    Schema::new(vec![
        text("split"),
        text("id"),
        text("path"),
        Field::new("bytes", DataType::UInt64, true),
    ])
}

fn to_batch(objects: &[PlannedObject]) -> RecordBatch {
    let text = |of: &dyn Fn(&PlannedObject) -> &str| -> ArrayRef {
        Arc::new(StringArray::from_iter_values(objects.iter().map(of)))
    };
    let columns: Vec<ArrayRef> = vec![
        text(&|object| object.split.as_str()),
        text(&|object| object.id.as_str()),
        text(&|object| &object.path),
        Arc::new(objects.iter().map(|object| object.bytes).collect::<UInt64Array>()),
    ];
    RecordBatch::try_new(Arc::new(schema()), columns).expect("the columns are those of the schema")
}

fn from_batch(batch: &RecordBatch, objects: &mut Vec<PlannedObject>) -> Result<(), String> {
    let text = |name: &str| {
        let column = batch
            .column_by_name(name)
            .and_then(|column| column.as_string_opt::<i32>());
        column.ok_or_else(|| format!("no texts in the column {name}"))
    };
    let (splits, ids, paths) = (text("split")?, text("id")?, text("path")?);
    let bytes = batch
        .column_by_name("bytes")
        .and_then(|column| column.as_primitive_opt::<UInt64Type>())
        .ok_or("no lengths in the column bytes")?;
    for row in 0..batch.num_rows() {
        let id = ids.value(row);
        let (category, name) = id.split_once('/').ok_or_else(|| format!("\"{id}\" is no id"))?;
        objects.push(PlannedObject {
            split: splits
                .value(row)
                .parse()
                .map_err(|_| format!("unknown split of {id}"))?,
            id: ObjectId::try_new(category, name).map_err(|e| e.to_string())?,
            path: paths.value(row).to_owned(),
            bytes: (!bytes.is_null(row)).then(|| bytes.value(row)),
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use std::slice;

    use super::*;

    #[test]
    fn places_are_read_alone_across_row_groups() {
        let dir = tempfile::tempdir().unwrap();
        let manifest = crate::manifest::example();
        let num = 2 * ROW_GROUP_ROWS + 100;
        let objects: Vec<PlannedObject> = (0..num)
            .map(|i| PlannedObject {
                split: if i < num - 7 { Split::Train } else { Split::Test },
                id: ObjectId::try_new("a", &format!("{i:06}")).unwrap(),
                path: format!("a/{i:06}.obj"),
                bytes: (i % 3 > 0).then_some(i as u64),
            })
            .collect();
        assert!(PlanFile::open(dir.path()).unwrap().is_none(), "nothing there yet");
        let source = Value::from("there");
        let listed = objects.iter().cloned();
        PlanFile::write(dir.path(), &manifest, source, [num - 7, 0, 7], listed).unwrap();
        let plan = PlanFile::open(dir.path()).unwrap().unwrap();
        assert!(plan.belongs_to(&manifest));
        assert_eq!(plan.source(), "there");
        assert_eq!(
            (plan.num_objects(Split::Train), plan.num_objects(Split::Test)),
            (num - 7, 7)
        );
        let size = ROW_GROUP_ROWS;
        let (group, all) = (size..2 * size, 0..num);
        let some = [3..5, 5..9, size - 1..size + 2, num - 1..num];
        for places in [
            &[],
            &some[..1],
            &some[..],
            slice::from_ref(&group),
            slice::from_ref(&all),
        ] {
            let expected: Vec<PlannedObject> = places
                .iter()
                .cloned()
                .flat_map(|place| objects[place].to_vec())
                .collect();
            assert!(plan.objects(places).unwrap() == expected, "{places:?}");
        }
    }

    #[test]
    fn a_file_of_others_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join(PLAN_FILE_NAME), "PAR1 mine").unwrap();
        PlanFile::open(dir.path()).unwrap_err();
    }
}
