//! Shards written again, as other programs and earlier versions do.
#![allow(dead_code, reason = "each test program uses its part")]

use std::collections::HashMap;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::path::Path;
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{Float32Type, Int64Type, UInt8Type};
use arrow_array::{
    Array, ArrayRef, Float64Array, Int32Array, Int64Array, LargeBinaryArray, LargeListArray,
    LargeStringArray, RecordBatch, StructArray,
};
use arrow_buffer::OffsetBuffer;
use arrow_schema::{DataType, Field, Fields, Schema};
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::file::metadata::KeyValue;
use parquet::file::properties::{WriterProperties, WriterPropertiesBuilder};
use tap_dataset::{MANIFEST_FILE_NAME, sha256};

pub(crate) type Metadata = HashMap<String, String>;

/// Writes every shard again, its columns changed by `change` and its metadata by `describe`, and makes the hashes of the
/// manifest right.
pub(crate) fn rewrite(
    dir: &Path,
    properties: &dyn Fn() -> WriterPropertiesBuilder,
    describe: &dyn Fn(&mut Metadata),
    change: &dyn Fn(RecordBatch) -> RecordBatch,
) {
    let path = dir.join(MANIFEST_FILE_NAME);
    let mut manifest: serde_json::Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    let mut line_of_each = String::new();
    for entry in manifest["shards"].as_array_mut().unwrap() {
        let file = entry["file"].as_str().unwrap().to_owned();
        let shard = dir.join(&file);
        rewrite_shard(&shard, properties(), describe, change);
        let bytes = fs::read(&shard).unwrap();
        entry["bytes"] = bytes.len().into();
        let hash = sha256::of_bytes(&bytes);
        writeln!(line_of_each, "{file} {hash}").unwrap();
        entry["sha256"] = hash.into();
    }
    manifest["sha256"] = sha256::of_bytes(line_of_each).into();
    fs::write(&path, manifest.to_string()).unwrap();
}

fn rewrite_shard(
    shard: &Path,
    properties: WriterPropertiesBuilder,
    describe: &dyn Fn(&mut Metadata),
    change: &dyn Fn(RecordBatch) -> RecordBatch,
) {
    let reader = ParquetRecordBatchReaderBuilder::try_new(File::open(shard).unwrap()).unwrap();
    let pairs = reader.metadata().file_metadata().key_value_metadata().unwrap();
    let mut metadata: Metadata = pairs
        .iter()
        .filter(|pair| pair.key != "ARROW:schema")
        .map(|pair| (pair.key.clone(), pair.value.clone().unwrap()))
        .collect();
    describe(&mut metadata);
    let batches: Vec<RecordBatch> = reader
        .build()
        .unwrap()
        .map(|batch| change(strip_metadata(&batch.unwrap())))
        .collect();
    let pairs = metadata.into_iter().map(|(key, value)| KeyValue::new(key, value));
    let properties = properties.set_key_value_metadata(Some(pairs.collect())).build();
    let file = File::create(shard).unwrap();
    let mut writer = ArrowWriter::try_new(file, batches[0].schema(), Some(properties)).unwrap();
    for batch in &batches {
        writer.write(batch).unwrap();
    }
    writer.close().unwrap();
}

/// Without the metadata of its schema.
fn strip_metadata(batch: &RecordBatch) -> RecordBatch {
    let schema = Schema::new(batch.schema().fields().clone());
    RecordBatch::try_new(Arc::new(schema), batch.columns().to_vec()).unwrap()
}

/// As it is.
pub(crate) fn same(batch: RecordBatch) -> RecordBatch {
    batch
}

/// Other columns, by name.
pub(crate) fn with_columns(columns: impl IntoIterator<Item = (String, ArrayRef)>) -> RecordBatch {
    let fields = columns
        .into_iter()
        .map(|(name, array)| (Field::new(name, array.data_type().clone(), true), array));
    let (fields, arrays): (Vec<_>, Vec<_>) = fields.unzip();
    RecordBatch::try_new(Arc::new(Schema::new(fields)), arrays).unwrap()
}

/// The columns with their names.
pub(crate) fn columns(batch: &RecordBatch) -> Vec<(String, ArrayRef)> {
    let names = batch
        .schema()
        .fields()
        .iter()
        .map(|field| field.name().clone())
        .collect::<Vec<_>>();
    names.into_iter().zip(batch.columns().to_vec()).collect()
}

/// The same values in other types: large lists with another name for their items, large texts, and numbers of another
/// width.
pub(crate) fn in_other_types(array: &ArrayRef) -> ArrayRef {
    let list = |lengths: Vec<usize>, values: ArrayRef| -> ArrayRef {
        let values = in_other_types(&values);
        let item = Arc::new(Field::new("l", values.data_type().clone(), true));
        let offsets = OffsetBuffer::from_lengths(lengths);
        Arc::new(LargeListArray::new(item, offsets, values, array.nulls().cloned()))
    };
    match array.data_type() {
        DataType::FixedSizeList(_, len) => {
            let values = Arc::clone(array.as_fixed_size_list().values());
            list(vec![*len as usize; array.len()], values)
        }
        DataType::List(_) => {
            let lists = array.as_list::<i32>();
            list(lists.offsets().lengths().collect(), Arc::clone(lists.values()))
        }
        DataType::Struct(_) => {
            let structs = array.as_struct();
            let fields = structs.fields().iter().zip(structs.columns()).rev();
            let (fields, columns): (Vec<_>, Vec<_>) = fields
                .map(|(field, column)| {
                    let column = in_other_types(column);
                    (Field::new(field.name(), column.data_type().clone(), true), column)
                })
                .unzip();
            Arc::new(StructArray::new(
                Fields::from(fields),
                columns,
                structs.nulls().cloned(),
            ))
        }
        DataType::Utf8 => Arc::new(LargeStringArray::from_iter(array.as_string::<i32>())),
        DataType::Binary => Arc::new(LargeBinaryArray::from_iter(array.as_binary::<i32>())),
        DataType::Float32 => {
            let numbers = array.as_primitive::<Float32Type>().iter();
            Arc::new(
                numbers
                    .map(|number| number.map(f64::from))
                    .collect::<Float64Array>(),
            )
        }
        DataType::Int64 => {
            let numbers = array.as_primitive::<Int64Type>().iter();
            Arc::new(
                numbers
                    .map(|number| number.map(|n| n as i32))
                    .collect::<Int32Array>(),
            )
        }
        DataType::UInt8 => {
            let numbers = array.as_primitive::<UInt8Type>().iter();
            Arc::new(
                numbers
                    .map(|number| number.map(i64::from))
                    .collect::<Int64Array>(),
            )
        }
        _ => Arc::clone(array),
    }
}

/// Changes the manifest as JSON.
pub(crate) fn edit_manifest(dir: &Path, edit: impl FnOnce(&mut serde_json::Value)) {
    let path = dir.join(MANIFEST_FILE_NAME);
    let mut manifest = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    edit(&mut manifest);
    fs::write(&path, manifest.to_string()).unwrap();
}

/// Properties that the parquet crate chooses.
pub(crate) fn default_properties() -> WriterPropertiesBuilder {
    WriterProperties::builder()
}
