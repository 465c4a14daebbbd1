//! Layout `csv`: a table, CSV or Parquet, with columns `path` and `category` and optionally `split` and `id`.
//! Paths are relative to the table's folder, or absolute, and must stay within it; they may be written with backslashes. Or
//! they are addresses in one bucket or web server; then the folder that all are in is the source.
//! Cells are separated by commas, semicolons or tabs; text is UTF-8, or UTF-16 with a byte order mark.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use arrow_array::Array;
use arrow_array::cast::AsArray;
use arrow_array::types::{Int32Type, Int64Type};
use arrow_schema::DataType;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use super::{Candidate, Tree, mesh_file, normalize_within, stored};
use crate::error::{DatasetError, NameError, Result, SourceError};
use crate::manifest::SkipReason;
use crate::schema::{ObjectId, Split};
use crate::store;

/// Size limit, about a million rows.
const MAX_TABLE_BYTES: u64 = 1 << 28;

pub(super) fn find(table: &Table, tree: &Tree) -> Result<Vec<Candidate>> {
    let path_column = table.column(&["path"])?;
    let category_column = table.column(&["category", "label", "class"])?;
    let split_column = table.column(&["split"]).ok();
    let id_column = table.column(&["id"]).ok();
    let cells = table.rows.iter().filter_map(|(_, row)| row.get(path_column));
    let paths: Vec<PathBuf> = cells.filter_map(|cell| lexical_path(cell, tree)).collect();
    tree.look_up(&paths)?;
    let mut candidates = Vec::new();
    for (line, row) in &table.rows {
        let cell = |column: usize| row.get(column).unwrap_or_default();
        let category = cell(category_column).to_owned();
        let relative = path_in_tree(cell(path_column), tree);
        let stem = mesh_file::stem(&relative).unwrap_or_default();
        let name = id_column.map(cell).filter(|id| !id.is_empty()).unwrap_or(stem);
        // The id may include the category.
        let name = name
            .strip_prefix(&format!("{category}/"))
            .unwrap_or(name)
            .to_owned();
        let split = split_column.map(cell).filter(|split| !split.is_empty());
        let split = split
            .map(str::parse::<Split>)
            .transpose()
            .map_err(|e| table.malformed(*line, e.to_string()))?;
        let inside = normalize_within(&relative);
        let skip = inside.is_none().then(|| {
            (
                SkipReason::OutsideSource,
                "the path leads out of the table's folder".to_owned(),
            )
        });
        candidates.push(Candidate {
            category,
            category_alias: None,
            name,
            path: inside.unwrap_or(relative),
            split,
            skip,
        });
    }
    Ok(candidates)
}

/// The folder in a store that all paths of a table are addresses in; `None` if the first one is no address.
///
/// # Errors
/// When the addresses are in several buckets, or one has a secret in it.
pub(super) fn stored_root(table: &Table) -> Result<Option<PathBuf>> {
    let path_column = table.column(&["path"])?;
    let mut root: Option<PathBuf> = None;
    for (line, row) in &table.rows {
        let address = Path::new(row.get(path_column).unwrap_or_default());
        if !store::is_url(address) {
            if root.is_none() {
                return Ok(None);
            }
            continue;
        }
        stored::refuse_secret(address)?;
        let folder = address.parent().unwrap_or(address);
        let common = match &root {
            Some(root) => root.ancestors().find(|root| folder.starts_with(root)),
            None => Some(folder),
        };
        let common = common.filter(|common| store::is_url(common) && common.components().count() > 1);
        let several = || {
            let message = "the paths are in several buckets; make a table of each".to_owned();
            table.malformed(*line, message)
        };
        root = Some(common.ok_or_else(several)?.to_owned());
    }
    Ok(root)
}

/// The path of a cell in the tree by its letters alone; `None` if it leads out of it.
fn lexical_path(cell: &str, tree: &Tree) -> Option<PathBuf> {
    match Path::new(cell).strip_prefix(tree.folder()) {
        Ok(inside) => normalize_within(inside),
        Err(_) if store::is_url(Path::new(cell)) => None,
        Err(_) => normalize_within(Path::new(&cell.replace('\\', "/"))),
    }
}

/// Class per object, from a table with the columns `id` and `category`.
///
/// # Errors
/// When it cannot be read, an id is invalid, or an object is listed with two classes.
pub(crate) fn read_classes(path: &Path) -> Result<BTreeMap<ObjectId, String>> {
    let table = Table::read(path)?;
    let id_column = table.column(&["id"])?;
    let category_column = table.column(&["category", "label", "class"])?;
    let mut classes = BTreeMap::new();
    for (line, row) in &table.rows {
        let cell = |column: usize| row.get(column).unwrap_or_default();
        let id: ObjectId = cell(id_column)
            .parse()
            .map_err(|e: NameError| table.malformed(*line, e.to_string()))?;
        let class = cell(category_column).to_owned();
        if let Some(other) = classes.insert(id.clone(), class.clone())
            && other != class
        {
            return Err(table.malformed(*line, format!("{id} is both {other} and {class}")));
        }
    }
    Ok(classes)
}

/// The path of a cell, relative to the tree where it leads into it.
fn path_in_tree(cell: &str, tree: &Tree) -> PathBuf {
    let as_written = PathBuf::from(cell);
    if store::is_url(&as_written) {
        let inside = as_written.strip_prefix(tree.folder()).map(Path::to_owned);
        // Into another tree, as `..` is.
        return inside.unwrap_or_else(|_| Path::new("..").join(as_written));
    }
    if tree.is_file(&as_written) && as_written.is_relative() {
        return as_written;
    }
    let path = PathBuf::from(cell.replace('\\', "/"));
    if path.is_absolute() {
        let folder = tree.folder();
        let below = |path: &Path| path.strip_prefix(folder).map(Path::to_owned);
        // The folder may be known by another name, through a link.
        let below = below(&path).or_else(|_| below(&path.canonicalize().unwrap_or_default()));
        return below.unwrap_or(path);
    }
    let Some(inside) = normalize_within(&path) else {
        return path;
    };
    if tree.is_file(&inside) {
        return inside;
    }
    tree.find_normalized(&inside).unwrap_or(inside)
}

/// An in-memory table of strings.
#[derive(Debug)]
pub(super) struct Table {
    path: PathBuf,
    headers: csv::StringRecord,
    /// With line numbers.
    pub(super) rows: Vec<(u64, csv::StringRecord)>,
}

impl Table {
    pub(super) fn read(path: &Path) -> Result<Self> {
        let bytes =
            store::read_bounded(path, MAX_TABLE_BYTES).map_err(DatasetError::io("read the table", path))?;
        Self::parse(bytes, path.to_owned())
    }

    /// A table inside the source; `None` if it does not exist.
    pub(super) fn in_tree(tree: &Tree, path: &Path) -> Result<Option<Self>> {
        let bytes = tree.read_list(path, "read the table", MAX_TABLE_BYTES)?;
        bytes
            .map(|bytes| Self::parse(bytes, tree.folder().join(path)))
            .transpose()
    }

    fn parse(bytes: Vec<u8>, path: PathBuf) -> Result<Self> {
        let is_parquet = path
            .extension()
            .is_some_and(|extension| extension.eq_ignore_ascii_case("parquet"));
        if is_parquet {
            let (headers, rows) = parquet_rows(bytes, &path)?;
            return Ok(Self { path, headers, rows });
        }
        let bytes = to_utf8(bytes);
        let mut reader = csv::ReaderBuilder::new()
            .delimiter(delimiter_of(&bytes))
            .trim(csv::Trim::All)
            .from_reader(bytes.as_slice());
        let malformed = |source: csv::Error| {
            DatasetError::Source(SourceError::Csv {
                path: path.clone(),
                source,
            })
        };
        let headers = reader.headers().map_err(malformed)?.clone();
        let rows = reader
            .records()
            .map(|row| row.map(|row| (row.position().map_or(0, csv::Position::line), row)));
        let rows = rows.collect::<Result<_, _>>().map_err(malformed)?;
        Ok(Self { path, headers, rows })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Index of the first column with one of these names, ignoring case.
    pub(super) fn column(&self, names: &[&'static str]) -> Result<usize> {
        let place = |name: &&str| {
            self.headers
                .iter()
                .position(|header| header.eq_ignore_ascii_case(name))
        };
        names.iter().find_map(place).ok_or_else(|| {
            let found: Vec<String> = self
                .headers
                .iter()
                .map(|header| format!("\"{header}\""))
                .collect();
            let message = format!("there is no column \"{}\" among {}", names[0], found.join(", "));
            self.malformed(1, message)
        })
    }

    pub(super) fn malformed(&self, line: u64, detail: String) -> DatasetError {
        DatasetError::Source(SourceError::Table {
            line,
            detail,
            path: self.path.clone(),
        })
    }
}

/// Text as UTF-8 without a byte order mark; Excel writes UTF-16 with one.
fn to_utf8(bytes: Vec<u8>) -> Vec<u8> {
    let decode = |unit: fn([u8; 2]) -> u16| {
        let units: Vec<u16> = bytes[2..]
            .chunks_exact(2)
            .map(|pair| unit([pair[0], pair[1]]))
            .collect();
        String::from_utf16_lossy(&units).into_bytes()
    };
    match bytes.as_slice() {
        [0xff, 0xfe, ..] => decode(u16::from_le_bytes),
        [0xfe, 0xff, ..] => decode(u16::from_be_bytes),
        [0xef, 0xbb, 0xbf, rest @ ..] => rest.to_vec(),
        _ => bytes,
    }
}

/// The delimiter that the heading has most of, outside of quotes; a comma if none.
fn delimiter_of(text: &[u8]) -> u8 {
    let heading = text.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let outside_of_quotes = || heading.split(|byte| *byte == b'"').step_by(2).flatten();
    let count = |delimiter: u8| outside_of_quotes().filter(|byte| **byte == delimiter).count();
    let mut delimiter = b',';
    for other in [b';', b'\t'] {
        if count(other) > count(delimiter) {
            delimiter = other;
        }
    }
    delimiter
}

type Rows = (csv::StringRecord, Vec<(u64, csv::StringRecord)>);

/// Rows of a Parquet file as text; columns that are neither strings nor integers are empty.
fn parquet_rows(bytes: Vec<u8>, path: &Path) -> Result<Rows> {
    let failed = DatasetError::parquet("read the table", path);
    let builder = ParquetRecordBatchReaderBuilder::try_new(bytes::Bytes::from(bytes)).map_err(failed)?;
    let headers = builder
        .schema()
        .fields()
        .iter()
        .map(|field| field.name().clone())
        .collect();
    let batches = builder
        .build()
        .map_err(DatasetError::parquet("read the table", path))?;
    let mut rows = Vec::new();
    for batch in batches {
        let batch = batch.map_err(|e| DatasetError::parquet("read the table", path)(e.into()))?;
        for row in 0..batch.num_rows() {
            let cells = batch.columns().iter().map(|column| text(column, row));
            rows.push((rows.len() as u64 + 1, cells.collect()));
        }
    }
    Ok((headers, rows))
}

fn text(column: &dyn Array, row: usize) -> String {
    if column.is_null(row) {
        return String::new();
    }
    match column.data_type() {
        DataType::Utf8 => column.as_string::<i32>().value(row).to_owned(),
        DataType::LargeUtf8 => column.as_string::<i64>().value(row).to_owned(),
        DataType::Utf8View => column.as_string_view().value(row).to_owned(),
        DataType::Int64 => column.as_primitive::<Int64Type>().value(row).to_string(),
        DataType::Int32 => column.as_primitive::<Int32Type>().value(row).to_string(),
        _ => String::new(),
    }
}
