//! [`ShardWriter`]: writes a shard under a `.partial` name and renames it once it is complete and synced.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow_schema::{Schema, SchemaRef};
use parquet::arrow::{ArrowSchemaConverter, ArrowWriter};
use parquet::basic::Encoding;
use parquet::file::metadata::KeyValue;
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::schema::types::SchemaDescriptor;

use super::float_order::FloatOrder;
use super::{ROW_GROUP_ROWS, encode};
use crate::error::{DatasetError, Result, ShardError};
use crate::parquet_file::HashingFile;
use crate::schema::{RowLayout, SCHEMA_VERSION, Sample, ShardHeader, arrow_schema, column};
use crate::store;

/// Identity of a finished shard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShardDigest {
    /// Number of rows.
    pub rows: usize,
    /// Length in bytes.
    pub bytes: u64,
    /// SHA-256 of the file.
    pub sha256: String,
}

/// Writes one shard. Holds at most one row group ([`ROW_GROUP_ROWS`] encoded samples) in memory.
///
/// If dropped before [`ShardWriter::finish`], the file is removed; a kill leaves at most a `.partial` file.
#[derive(Debug)]
pub struct ShardWriter {
    path: PathBuf,
    layout: RowLayout,
    schema: SchemaRef,
    writer: ArrowWriter<FloatOrder<HashingFile>>,
    rows: usize,
}

impl ShardWriter {
    /// Creates the shard `dir/file_name`.
    ///
    /// # Errors
    /// When the layout's dimensions are not those of its columns, or the file cannot be created.
    pub fn create(dir: &Path, file_name: &str, header: &ShardHeader) -> Result<Self> {
        let path = dir.join(file_name);
        header.layout.check().map_err(|detail| {
            let path = path.clone();
            DatasetError::Shard(ShardError::Invalid { detail, path })
        })?;
        // In the Parquet metadata for general tools, and in the Arrow schema for Arrow readers such as
        // `datasets`.
        let metadata = header
            .to_metadata()
            .into_iter()
            .map(|(key, value)| (key.to_owned(), value));
        let metadata: HashMap<String, String> = metadata.collect();
        let schema = Arc::new(arrow_schema(&header.layout, SCHEMA_VERSION).with_metadata(metadata));
        let leaves = leaves(&schema);
        let file = HashingFile::new(store::create(&path)?);
        let file = FloatOrder::new(file, leaves.num_columns());
        let writer = ArrowWriter::try_new(file, Arc::clone(&schema), Some(properties(header, &leaves)))
            .map_err(DatasetError::parquet("write", &path))?;
        Ok(Self {
            path,
            layout: header.layout,
            schema,
            writer,
            rows: 0,
        })
    }

    /// Appends a row.
    ///
    /// # Errors
    /// When the sample does not match the shard's layout, or the disk is full.
    pub fn append(&mut self, sample: &Sample) -> Result<()> {
        let batch = encode::sample_to_batch(sample, &self.layout, &self.schema)?;
        self.writer
            .write(&batch)
            .map_err(DatasetError::parquet("write", &self.path))?;
        self.rows += 1;
        Ok(())
    }

    /// Writes the rest, syncs, and renames the shard to its final name.
    ///
    /// # Errors
    /// When the disk is full or the folder is not writable; the partial file is removed.
    pub fn finish(self) -> Result<ShardDigest> {
        let Self {
            path, writer, rows, ..
        } = self;
        let file = writer
            .into_inner()
            .map_err(DatasetError::parquet("write", &path))?;
        let file = file.finish().map_err(DatasetError::io("write", &path))?;
        let (sha256, bytes) = file.finish()?;
        Ok(ShardDigest { rows, bytes, sha256 })
    }
}

/// The columns as Parquet counts them, without nesting.
fn leaves(schema: &Schema) -> SchemaDescriptor {
    ArrowSchemaConverter::new()
        .convert(schema)
        .expect("the schema is of types that Parquet has")
}

/// Pages, compression and statistics of each column; a page of one row has an offset index, so that it can be read alone.
fn properties(header: &ShardHeader, leaves: &SchemaDescriptor) -> WriterProperties {
    let metadata = header
        .to_metadata()
        .into_iter()
        .map(|(key, value)| KeyValue::new(key.to_owned(), value));
    let mut properties = WriterProperties::builder()
        .set_key_value_metadata(Some(metadata.collect()))
        .set_created_by(crate::schema::GENERATOR.to_owned())
        .set_max_row_group_row_count(Some(ROW_GROUP_ROWS))
        .set_dictionary_enabled(false)
        .set_encoding(Encoding::PLAIN)
        .set_statistics_enabled(EnabledStatistics::Chunk);
    for leaf in leaves.columns() {
        let column = column::find(&leaf.path().parts()[0]).expect("the schema is made of known columns");
        properties = properties.set_column_compression(leaf.path().clone(), column.compression());
        if column.is_large() {
            properties = properties
                .set_column_data_page_row_count_limit(leaf.path().clone(), 1)
                .set_column_statistics_enabled(leaf.path().clone(), EnabledStatistics::None);
        }
    }
    properties.build()
}
