//! [`EmbeddingTable`]: one feature an object as a Parquet file, for what reads tables.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use arrow_array::{ArrayRef, FixedSizeListArray, Float32Array, Int64Array, RecordBatch, StringArray};
use arrow_schema::{DataType, Field, Schema};
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, Encoding};
use parquet::file::metadata::KeyValue;
use parquet::file::properties::WriterProperties;

use crate::atomic_file::AtomicFile;
use crate::error::{DatasetError, Result, StoreError};
use crate::schema::ObjectId;

/// Metadata key of what the features are of.
const METADATA_KEY: &str = "tap.embeddings";
/// Rows of a row group.
const ROW_GROUP_ROWS: usize = 4096;

/// Features of objects. Columns of the file: `id`, `category`, `label` (null where it is unknown), `split`, `feature` (a list of
/// fixed length).
#[derive(Debug)]
pub struct EmbeddingTable<'a> {
    /// The objects.
    pub ids: &'a [ObjectId],
    /// Their labels.
    pub labels: &'a [Option<i64>],
    /// Their splits.
    pub splits: &'a [String],
    /// One row an object, one behind the other.
    pub features: &'a [f32],
}

impl EmbeddingTable<'_> {
    /// Writes it, with `provenance` as metadata under `tap.embeddings`.
    ///
    /// # Errors
    /// When the disk is full or the folder is not writable; nothing is then under the name.
    ///
    /// # Panics
    /// When numbers of ids, labels, splits and features do not go together.
    pub fn write(&self, path: &Path, provenance: &serde_json::Value) -> Result<()> {
        let num_rows = self.ids.len();
        assert!(
            num_rows > 0
                && self.labels.len() == num_rows
                && self.splits.len() == num_rows
                && self.features.len().is_multiple_of(num_rows),
            "one label, split and feature an object"
        );
        let io = |source| StoreError::Io {
            action: "write",
            path: path.to_owned(),
            source,
        };
        let batch = self.to_batch();
        let metadata = KeyValue::new(METADATA_KEY.to_owned(), provenance.to_string());
        let properties = WriterProperties::builder()
            .set_key_value_metadata(Some(vec![metadata]))
            .set_max_row_group_row_count(Some(ROW_GROUP_ROWS))
            .set_compression(Compression::LZ4_RAW)
            .set_column_dictionary_enabled("feature.list.item".into(), false)
            .set_column_encoding("feature.list.item".into(), Encoding::BYTE_STREAM_SPLIT)
            .build();
        let file = AtomicFile::create(path).map_err(io)?;
        let write = |file| {
            let mut writer = ArrowWriter::try_new(file, batch.schema(), Some(properties))?;
            writer.write(&batch)?;
            writer.into_inner()
        };
        let file = write(file).map_err(DatasetError::parquet("write", path))?;
        Ok(file.finish().map_err(io)?)
    }

    fn to_batch(&self) -> RecordBatch {
        let width = self.features.len() / self.ids.len();
        let item = Arc::new(Field::new_list_field(DataType::Float32, false));
        let features: ArrayRef = Arc::new(Float32Array::from(self.features.to_vec()));
        let columns: [(&str, bool, ArrayRef); 5] = [
            ("id", false, strings(self.ids.iter().map(ObjectId::as_str))),
            (
                "category",
                false,
                strings(self.ids.iter().map(ObjectId::category)),
            ),
            ("label", true, Arc::new(Int64Array::from(self.labels.to_vec()))),
            ("split", false, strings(self.splits.iter().map(String::as_str))),
            (
                "feature",
                false,
                Arc::new(FixedSizeListArray::new(item, width as i32, features, None)),
            ),
        ];
        let fields: Vec<Field> = columns
            .iter()
            .map(|(name, is_nullable, array)| Field::new(*name, array.data_type().clone(), *is_nullable))
            .collect();
        let schema = Arc::new(Schema::new_with_metadata(fields, HashMap::new()));
        let arrays = columns.into_iter().map(|(_, _, array)| array).collect();
        RecordBatch::try_new(schema, arrays)
            .expect("fields are those of the arrays, which have a row an object")
    }
}

fn strings<'a>(values: impl Iterator<Item = &'a str>) -> ArrayRef {
    Arc::new(StringArray::from_iter_values(values))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use arrow_array::Array as _;
    use arrow_array::cast::AsArray as _;
    use arrow_array::types::{Float32Type, Int64Type};
    use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

    use super::*;

    #[test]
    fn a_table_is_read_back() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("embeddings.parquet");
        let ids = [
            ObjectId::try_new("chair", "a").unwrap(),
            ObjectId::try_new("lamp", "b").unwrap(),
        ];
        let table = EmbeddingTable {
            ids: &ids,
            labels: &[Some(4), None],
            splits: &["test".to_owned(), "val".to_owned()],
            features: &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0],
        };
        table
            .write(&path, &serde_json::json!({"pooling": "max"}))
            .unwrap();
        let builder = ParquetRecordBatchReaderBuilder::try_new(std::fs::File::open(&path).unwrap()).unwrap();
        let metadata = builder.metadata().file_metadata().key_value_metadata().unwrap();
        assert!(
            metadata
                .iter()
                .any(|entry| entry.key == METADATA_KEY
                    && entry.value.as_deref() == Some("{\"pooling\":\"max\"}")),
            "{metadata:?}"
        );
        let batch = builder.build().unwrap().next().unwrap().unwrap();
        let column = |name| batch.column_by_name(name).unwrap();
        assert_eq!(column("id").as_string::<i32>().value(1), "lamp/b");
        assert_eq!(column("category").as_string::<i32>().value(0), "chair");
        let labels = column("label").as_primitive::<Int64Type>();
        assert_eq!((labels.value(0), labels.null_count()), (4, 1));
        let second = column("feature").as_fixed_size_list().value(1);
        assert_eq!(second.as_primitive::<Float32Type>().values()[..], [4.0, 5.0, 6.0]);
    }
}
