//! [`RowPages`]: the large columns of one row, straight from their pages.
//!
//! Building Arrow arrays for a single row takes longer than reading it, and shares reference counts among all threads. In
//! shards of this program every large column has one row a page and a known type, so its numbers and bytes are taken from the
//! page as they are. Shards of other programs are read as Arrow arrays (`decode.rs`).

use std::sync::Arc;

use parquet::column::reader::ColumnReaderImpl;
use parquet::data_type::{ByteArray, ByteArrayType, DataType, FloatType, Int32Type};
use parquet::errors::{ParquetError, Result};
use parquet::file::metadata::ParquetMetaData;
use parquet::file::serialized_reader::SerializedPageReader;

use crate::schema::column;
use crate::store::StoreFile;

/// A row of an open shard.
pub(super) struct RowPages<'a> {
    pub(super) file: Arc<StoreFile>,
    pub(super) metadata: &'a ParquetMetaData,
    pub(super) row_group: usize,
    /// Within the row group.
    pub(super) row: usize,
}

/// The leaf of a Parquet schema that holds the values of a large column.
pub(super) fn leaf_of(metadata: &ParquetMetaData, name: &str) -> Option<usize> {
    let columns = metadata.file_metadata().schema_descr().columns().iter();
    let mut of_column = columns
        .enumerate()
        .filter(|(_, leaf)| leaf.path().parts().first().is_some_and(|first| first == name));
    of_column
        .find(|(_, leaf)| name != column::IMAGES || leaf.name() == "bytes")
        .map(|(leaf, _)| leaf)
}

impl RowPages<'_> {
    /// A list of `num` arrays of `L` numbers.
    pub(super) fn arrays<const L: usize>(&self, leaf: usize, num: usize) -> Result<Vec<[f32; L]>> {
        let numbers = self.read::<FloatType>(leaf)?;
        let level = |i: usize| match i {
            0 => 0,
            _ if i.is_multiple_of(L) => 1,
            _ => 2,
        };
        self.require(leaf, numbers.are_full(num * L, level))?;
        Ok(numbers.values.as_chunks::<L>().0.to_vec())
    }

    /// A list of `num` byte strings.
    pub(super) fn binaries(&self, leaf: usize, num: usize) -> Result<Vec<ByteArray>> {
        let binaries = self.read::<ByteArrayType>(leaf)?;
        self.require(leaf, binaries.are_full(num, |i| i16::from(i > 0)))?;
        Ok(binaries.values)
    }

    /// A list of `num` numbers below 256, or null.
    pub(super) fn bytes(&self, leaf: usize, num: usize) -> Result<Option<Vec<u8>>> {
        let bytes = self.read::<Int32Type>(leaf)?;
        if bytes.values.is_empty() && bytes.def_levels == [0] {
            return Ok(None);
        }
        let small: Option<Vec<u8>> = bytes.values.iter().map(|&byte| byte.try_into().ok()).collect();
        self.require(leaf, bytes.are_full(num, |i| i16::from(i > 0)))?;
        self.require(leaf, small.is_some())?;
        Ok(small)
    }

    fn read<T: DataType>(&self, leaf: usize) -> Result<Leaf<T::T>> {
        let row_group = self.metadata.row_group(self.row_group);
        let pages = self.metadata.page_index_for_row_group(self.row_group);
        let pages = SerializedPageReader::new(
            Arc::clone(&self.file),
            row_group.column(leaf),
            row_group.num_rows() as usize,
            pages.page_locations(leaf).cloned(),
        )?;
        let descr = row_group.column(leaf).column_descr_ptr();
        let mut read = Leaf {
            values: Vec::new(),
            def_levels: Vec::new(),
            rep_levels: Vec::new(),
            max_def_level: descr.max_def_level(),
        };
        let mut reader = ColumnReaderImpl::<T>::new(descr, Box::new(pages));
        let num_skipped = reader.skip_records(self.row)?;
        let (num_read, ..) = reader.read_records(
            1,
            Some(&mut read.def_levels),
            Some(&mut read.rep_levels),
            &mut read.values,
        )?;
        self.require(leaf, num_skipped == self.row && num_read == 1)?;
        Ok(read)
    }

    fn require(&self, leaf: usize, is_right: bool) -> Result<()> {
        if is_right {
            return Ok(());
        }
        let path = self.metadata.row_group(self.row_group).column(leaf).column_path();
        Err(ParquetError::General(format!(
            "{path} has another length, or null"
        )))
    }
}

/// Values of a row with their definition and repetition levels.
struct Leaf<T> {
    values: Vec<T>,
    def_levels: Vec<i16>,
    rep_levels: Vec<i16>,
    max_def_level: i16,
}

impl<T> Leaf<T> {
    /// Whether there are so many values, none of them null, in lists that begin where their repetition level says.
    fn are_full(&self, num: usize, rep_level: impl Fn(usize) -> i16) -> bool {
        self.values.len() == num
            && self.def_levels.iter().all(|&level| level == self.max_def_level)
            && self.rep_levels.len() == num
            && self
                .rep_levels
                .iter()
                .enumerate()
                .all(|(i, &level)| level == rep_level(i))
    }
}
