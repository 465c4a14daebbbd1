//! [`RowPages`]: the large columns of one row, straight from their pages.
//!
//! Building Arrow arrays for a single row takes longer than reading it, and shares reference counts among all threads. In
//! shards of this program every large column has one row a page and a known type, so its numbers and bytes are taken from the
//! page as they are. Lists of the same length have the same levels, byte for byte: those of the first row are decoded and
//! checked, those of the others compared. Shards of other programs are read as Arrow arrays (`decode.rs`).

use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use parquet::basic::Encoding;
use parquet::column::page::{Page, PageReader};
use parquet::column::reader::ColumnReaderImpl;
use parquet::data_type::{ByteArray, ByteArrayType, DataType, FloatType, Int32Type};
use parquet::errors::{ParquetError, Result};
use parquet::file::metadata::{ColumnChunkMetaData, ParquetMetaData};
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
#[derive(Debug)]
pub(super) struct LargeLeaf {
    pub(super) column: &'static str,
    pub(super) leaf: usize,
    /// Encoded levels of a row in which no value is null, once one was read.
    full_levels: OnceLock<Box<[u8]>>,
}

impl LargeLeaf {
    /// `None` if there is no such column.
    pub(super) fn find(metadata: &ParquetMetaData, name: &'static str) -> Option<Self> {
        let columns = metadata.file_metadata().schema_descr().columns().iter();
        let mut of_column = columns
            .enumerate()
            .filter(|(_, leaf)| leaf.path().parts().first().is_some_and(|first| first == name));
        of_column
            .find(|(_, leaf)| name != column::IMAGES || leaf.name() == "bytes")
            .map(|(leaf, _)| Self {
                column: name,
                leaf,
                full_levels: OnceLock::new(),
            })
    }

    fn is_full(&self, page: &PlainPage) -> bool {
        self.full_levels
            .get()
            .is_some_and(|levels| **levels == *page.levels)
    }

    fn set_full(&self, page: Option<PlainPage>) {
        if let Some(page) = page {
            self.full_levels.get_or_init(|| page.levels.to_vec().into());
        }
    }
}

/// A page as this program writes it: encoded levels, and plain values.
struct PlainPage {
    levels: Bytes,
    values: Bytes,
}

impl RowPages<'_> {
    /// A list of `num` arrays of `L` numbers.
    pub(super) fn arrays<const L: usize>(&self, leaf: &LargeLeaf, num: usize) -> Result<Vec<[f32; L]>> {
        let page = self.plain_page(leaf, num * L)?;
        if let Some(page) = page.as_ref().filter(|page| leaf.is_full(page)) {
            let (numbers, rest) = page.values.as_chunks::<4>();
            let (arrays, more) = numbers.as_chunks::<L>();
            self.require(leaf, arrays.len() == num && more.is_empty() && rest.is_empty())?;
            return Ok(arrays.iter().map(|array| array.map(f32::from_le_bytes)).collect());
        }
        let numbers = self.read::<FloatType>(leaf)?;
        let level = |i: usize| match i {
            0 => 0,
            _ if i.is_multiple_of(L) => 1,
            _ => 2,
        };
        self.require(leaf, numbers.are_full(num * L, level))?;
        leaf.set_full(page);
        Ok(numbers.values.as_chunks::<L>().0.to_vec())
    }

    /// A list of `num` byte strings.
    pub(super) fn binaries(&self, leaf: &LargeLeaf, num: usize) -> Result<Vec<ByteArray>> {
        let page = self.plain_page(leaf, num)?;
        if let Some(page) = page.as_ref().filter(|page| leaf.is_full(page)) {
            let mut values = page.values.clone();
            let strings: Option<Vec<_>> = (0..num).map(|_| next_string(&mut values)).collect();
            self.require(leaf, strings.is_some() && values.is_empty())?;
            return Ok(strings.unwrap_or_default());
        }
        let binaries = self.read::<ByteArrayType>(leaf)?;
        self.require(leaf, binaries.are_full(num, |i| i16::from(i > 0)))?;
        leaf.set_full(page);
        Ok(binaries.values)
    }

    /// A list of `num` numbers below 256, or null.
    pub(super) fn bytes(&self, leaf: &LargeLeaf, num: usize) -> Result<Option<Vec<u8>>> {
        let bytes = self.read::<Int32Type>(leaf)?;
        if bytes.values.is_empty() && bytes.def_levels == [0] {
            return Ok(None);
        }
        let small: Option<Vec<u8>> = bytes.values.iter().map(|&byte| byte.try_into().ok()).collect();
        self.require(leaf, bytes.are_full(num, |i| i16::from(i > 0)))?;
        self.require(leaf, small.is_some())?;
        Ok(small)
    }

    /// The page of the row, if it has so many values in the form that this program writes, nulls included.
    fn plain_page(&self, leaf: &LargeLeaf, num: usize) -> Result<Option<PlainPage>> {
        let row_group = self.metadata.row_group(self.row_group);
        let index = self.metadata.page_index_for_row_group(self.row_group);
        let Some(location) = index
            .page_locations(leaf.leaf)
            .filter(|pages| pages.len() as i64 == row_group.num_rows())
            .map(|pages| &pages[self.row])
            .filter(|page| page.first_row_index == self.row as i64)
        else {
            return Ok(None);
        };
        // A chunk of this page alone: the reader would take what is in front of it for a dictionary.
        let chunk = row_group.column(leaf.leaf);
        let chunk = ColumnChunkMetaData::builder(chunk.column_descr_ptr())
            .set_compression(chunk.compression())
            .set_data_page_offset(location.offset)
            .set_total_compressed_size(location.compressed_page_size.into())
            .build()?;
        let pages = vec![location.clone()];
        let page =
            SerializedPageReader::new(Arc::clone(&self.file), &chunk, 1, Some(pages))?.get_next_page()?;
        let Some(Page::DataPage {
            mut buf,
            num_values,
            encoding: Encoding::PLAIN,
            def_level_encoding: Encoding::RLE,
            rep_level_encoding: Encoding::RLE,
            ..
        }) = page
        else {
            return Ok(None);
        };
        // Repetition and definition levels, each behind its length.
        let num_level_bytes = [(); 2].iter().try_fold(0_usize, |begin, ()| {
            let length = u32::from_le_bytes(*buf.get(begin..)?.first_chunk()?);
            begin.checked_add(4)?.checked_add(length as usize)
        });
        let levels = num_level_bytes
            .filter(|&num_bytes| num_bytes <= buf.len() && num_values as usize == num)
            .map(|num_bytes| buf.split_to(num_bytes));
        Ok(levels.map(|levels| PlainPage { levels, values: buf }))
    }

    /// Values and levels, whatever the form of their page.
    fn read<T: DataType>(&self, large: &LargeLeaf) -> Result<Leaf<T::T>> {
        let leaf = large.leaf;
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
        self.require(large, num_skipped == self.row && num_read == 1)?;
        Ok(read)
    }

    fn require(&self, leaf: &LargeLeaf, is_right: bool) -> Result<()> {
        if is_right {
            return Ok(());
        }
        let path = self
            .metadata
            .row_group(self.row_group)
            .column(leaf.leaf)
            .column_path();
        Err(ParquetError::General(format!(
            "{path} has another length, or null"
        )))
    }
}

/// The next of the byte strings that lie behind each other, each behind its length.
fn next_string(values: &mut Bytes) -> Option<ByteArray> {
    let length = u32::from_le_bytes(*values.first_chunk()?) as usize;
    let end = length.checked_add(4).filter(|&end| end <= values.len())?;
    Some(values.split_to(end).slice(4..).into())
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
