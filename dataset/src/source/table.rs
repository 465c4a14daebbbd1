//! Layout `csv`: a table, CSV or Parquet, with columns `path` and `category` and optionally `split` and `id`.
//! Paths are relative to the table's folder, or absolute, and must stay within it; they may be written with backslashes. Or
//! they are addresses in one bucket or web server; then the folder that all are in is the source.
//! Cells are separated by commas, semicolons or tabs; text is UTF-8, or UTF-16 with a byte order mark.

use std::collections::BTreeMap;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use arrow_array::Array;
use arrow_array::cast::AsArray;
use arrow_array::types::{Int32Type, Int64Type};
use arrow_schema::DataType;
use bytes::Bytes;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::file::reader::{ChunkReader, Length};

use super::{Candidate, Tree, mesh_file, normalize_within, stored};
use crate::error::{DatasetError, NameError, Result, SourceError};
use crate::manifest::SkipReason;
use crate::schema::{ObjectId, Split};
use crate::store::{self, StoreFile};

/// Size limit, some ten million rows, which are read one after the other.
const MAX_TABLE_BYTES: u64 = 1 << 32;
/// Size limit of what is read as a whole: a table inside a source, and UTF-16, which Excel writes, with a million rows at most.
const MAX_BYTES_IN_MEMORY: u64 = 1 << 28;
/// Where a heading ends at the latest.
const MAX_HEADING_BYTES: u64 = 1 << 16;
/// Rows whose meshes a store is asked for at once.
const ROWS_AT_A_TIME: usize = 1 << 13;

/// The meshes of a table, in its order.
///
/// # Errors
/// When there is no column of paths or categories; and, of a row, when it is malformed or its store cannot be asked.
pub(super) fn find(table: &Table, tree: Tree) -> Result<impl Iterator<Item = Result<Candidate>>> {
    let columns = Columns {
        path: table.column(&["path"])?,
        category: table.column(&["category", "label", "class"])?,
        split: table.column(&["split"]).ok(),
        id: table.column(&["id"]).ok(),
    };
    let mut rows = table.rows()?;
    let several = std::iter::from_fn(move || {
        let several: Vec<_> = rows.by_ref().take(ROWS_AT_A_TIME).collect();
        (!several.is_empty()).then_some(several)
    });
    Ok(several.flat_map(move |rows| match columns.look_up(&rows, &tree) {
        Ok(()) => {
            let candidate = |row: Result<Row>| row.and_then(|row| columns.candidate(table, &tree, &row));
            rows.into_iter().map(candidate).collect()
        }
        Err(error) => vec![Err(error)],
    }))
}

/// Where the cells of a mesh are.
struct Columns {
    path: usize,
    category: usize,
    split: Option<usize>,
    id: Option<usize>,
}

impl Columns {
    fn look_up(&self, rows: &[Result<Row>], tree: &Tree) -> Result<()> {
        let cells = rows.iter().flatten().filter_map(|(_, row)| row.get(self.path));
        let paths: Vec<PathBuf> = cells.filter_map(|cell| lexical_path(cell, tree)).collect();
        tree.look_up(&paths)
    }

    fn candidate(&self, table: &Table, tree: &Tree, (line, row): &Row) -> Result<Candidate> {
        let cell = |column: usize| row.get(column).unwrap_or_default();
        let category = cell(self.category).to_owned();
        let relative = path_in_tree(cell(self.path), tree);
        let stem = mesh_file::stem(&relative).unwrap_or_default();
        let name = self.id.map(cell).filter(|id| !id.is_empty()).unwrap_or(stem);
        // The id may include the category.
        let name = name
            .strip_prefix(&format!("{category}/"))
            .unwrap_or(name)
            .to_owned();
        let split = self.split.map(cell).filter(|split| !split.is_empty());
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
        Ok(Candidate {
            category,
            category_alias: None,
            name,
            path: inside.unwrap_or(relative),
            split,
            skip,
        })
    }
}

/// The folder in a store that all paths of a table are addresses in; `None` if the first one is no address.
///
/// # Errors
/// When the addresses are in several buckets, or one has a secret in it.
pub(super) fn stored_root(table: &Table) -> Result<Option<PathBuf>> {
    let path_column = table.column(&["path"])?;
    let mut root: Option<PathBuf> = None;
    for row in table.rows()? {
        let (line, row) = row?;
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
            table.malformed(line, message)
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
    let table = Table::open(path)?;
    let id_column = table.column(&["id"])?;
    let category_column = table.column(&["category", "label", "class"])?;
    let mut classes = BTreeMap::new();
    for row in table.rows()? {
        let (line, row) = row?;
        let cell = |column: usize| row.get(column).unwrap_or_default();
        let id: ObjectId = cell(id_column)
            .parse()
            .map_err(|e: NameError| table.malformed(line, e.to_string()))?;
        let class = cell(category_column).to_owned();
        if let Some(other) = classes.insert(id.clone(), class.clone())
            && other != class
        {
            return Err(table.malformed(line, format!("{id} is both {other} and {class}")));
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

/// A table of strings, which is read from its file as often as its rows are gone through.
#[derive(Debug)]
pub(super) struct Table {
    path: PathBuf,
    headers: csv::StringRecord,
    content: Content,
    form: Form,
}

/// A row, with its line number.
pub(super) type Row = (u64, csv::StringRecord);

type Rows<'a> = Box<dyn Iterator<Item = Result<Row>> + 'a>;

#[derive(Debug, Clone, Copy)]
enum Form {
    Parquet,
    Text { delimiter: u8 },
}

/// The bytes of a table.
#[derive(Debug, Clone)]
enum Content {
    File(StoreFile),
    Memory(Bytes),
}

impl Length for Content {
    fn len(&self) -> u64 {
        match self {
            Self::File(file) => file.len(),
            Self::Memory(bytes) => bytes.len() as u64,
        }
    }
}

impl ChunkReader for Content {
    type T = Box<dyn Read>;

    fn get_read(&self, start: u64) -> parquet::errors::Result<Self::T> {
        Ok(match self {
            Self::File(file) => Box::new(file.get_read(start)?),
            Self::Memory(bytes) => Box::new(bytes.get_read(start)?),
        })
    }

    fn get_bytes(&self, start: u64, length: usize) -> parquet::errors::Result<Bytes> {
        match self {
            Self::File(file) => file.get_bytes(start, length),
            Self::Memory(bytes) => bytes.get_bytes(start, length),
        }
    }
}

impl Table {
    /// Opens a table; one in a store is fetched.
    pub(super) fn open(path: &Path) -> Result<Self> {
        let file = open_bounded(path, MAX_TABLE_BYTES).map_err(DatasetError::io("read the table", path))?;
        Self::of_content(Content::File(file), path.to_owned())
    }

    /// A table inside the source; `None` if it does not exist.
    pub(super) fn in_tree(tree: &Tree, path: &Path) -> Result<Option<Self>> {
        let bytes = tree.read_list(path, "read the table", MAX_BYTES_IN_MEMORY)?;
        bytes
            .map(|bytes| Self::of_content(Content::Memory(bytes.into()), tree.folder().join(path)))
            .transpose()
    }

    fn of_content(content: Content, path: PathBuf) -> Result<Self> {
        let mut table = Self {
            path,
            headers: csv::StringRecord::new(),
            content,
            form: Form::Parquet,
        };
        let is_parquet = table
            .path
            .extension()
            .is_some_and(|extension| extension.eq_ignore_ascii_case("parquet"));
        if is_parquet {
            let columns = table.parquet()?.schema().fields().clone();
            table.headers = columns.iter().map(|column| column.name().as_str()).collect();
            return Ok(table);
        }
        let mut heading = table.start(MAX_HEADING_BYTES)?;
        let of_utf16: Option<fn([u8; 2]) -> u16> = match heading.as_slice() {
            [0xff, 0xfe, ..] => Some(u16::from_le_bytes),
            [0xfe, 0xff, ..] => Some(u16::from_be_bytes),
            _ => None,
        };
        if let Some(unit) = of_utf16 {
            table.content = table.decoded(unit)?;
            heading = table.start(MAX_HEADING_BYTES)?;
        }
        let delimiter = delimiter_of(&heading);
        table.form = Form::Text { delimiter };
        let mut reader = table.text(delimiter)?;
        table.headers = reader.headers().map_err(|e| table.csv_error(e))?.clone();
        Ok(table)
    }

    /// The first bytes of the content.
    fn start(&self, limit_bytes: u64) -> Result<Vec<u8>> {
        let mut start = Vec::new();
        let read = self.read()?.take(limit_bytes).read_to_end(&mut start);
        read.map_err(DatasetError::io("read the table", &self.path))?;
        Ok(start)
    }

    /// UTF-16 as UTF-8.
    fn decoded(&self, unit: fn([u8; 2]) -> u16) -> Result<Content> {
        if self.content.len() > MAX_BYTES_IN_MEMORY {
            let detail = format!("UTF-16 is read up to {MAX_BYTES_IN_MEMORY} bytes; save it as UTF-8");
            return Err(self.malformed(1, detail));
        }
        let units: Vec<u16> = self.start(MAX_BYTES_IN_MEMORY)?[2..]
            .chunks_exact(2)
            .map(|pair| unit([pair[0], pair[1]]))
            .collect();
        Ok(Content::Memory(
            String::from_utf16_lossy(&units).into_bytes().into(),
        ))
    }

    fn read(&self) -> Result<Box<dyn Read>> {
        let read = self.content.get_read(0);
        read.map_err(DatasetError::parquet("read the table", &self.path))
    }

    fn text(&self, delimiter: u8) -> Result<csv::Reader<Box<dyn Read>>> {
        Ok(csv::ReaderBuilder::new()
            .delimiter(delimiter)
            .trim(csv::Trim::All)
            .from_reader(self.read()?))
    }

    /// All rows, with line numbers.
    ///
    /// # Errors
    /// When the file cannot be read; and, of a row, when it is malformed.
    pub(super) fn rows(&self) -> Result<Rows<'_>> {
        match self.form {
            Form::Parquet => self.parquet_rows(),
            Form::Text { delimiter } => {
                let rows = self.text(delimiter)?.into_records();
                Ok(Box::new(rows.map(|row| {
                    let row = row.map_err(|e| self.csv_error(e))?;
                    Ok((row.position().map_or(0, csv::Position::line), row))
                })))
            }
        }
    }

    pub(super) fn num_rows(&self) -> Result<usize> {
        self.rows()?.try_fold(0, |num, row| row.map(|_| num + 1))
    }

    /// Rows of a Parquet file as text; columns that are neither strings nor integers are empty.
    fn parquet_rows(&self) -> Result<Rows<'_>> {
        let batches = self
            .parquet()?
            .build()
            .map_err(DatasetError::parquet("read the table", &self.path))?;
        let rows = batches.flat_map(|batch| match batch {
            Ok(batch) => {
                let row = |row| batch.columns().iter().map(|column| text(column, row)).collect();
                (0..batch.num_rows()).map(row).map(Ok).collect()
            }
            Err(error) => vec![Err(DatasetError::parquet("read the table", &self.path)(
                error.into(),
            ))],
        });
        Ok(Box::new(
            (1..).zip(rows).map(|(line, row)| row.map(|row| (line, row))),
        ))
    }

    fn parquet(&self) -> Result<ParquetRecordBatchReaderBuilder<Content>> {
        ParquetRecordBatchReaderBuilder::try_new(self.content.clone())
            .map_err(DatasetError::parquet("read the table", &self.path))
    }

    fn csv_error(&self, source: csv::Error) -> DatasetError {
        DatasetError::Source(SourceError::Csv {
            path: self.path.clone(),
            source,
        })
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

/// Opens a regular file of at most so many bytes. It is looked at first: opening a pipe would block until there is a writer, and
/// what is too large is not fetched.
fn open_bounded(path: &Path, limit_bytes: u64) -> io::Result<StoreFile> {
    if store::state(path)?.bytes > limit_bytes {
        let message = format!("more than {limit_bytes} bytes");
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, message));
    }
    if store::is_url(path) {
        store::fetch(path).map(|(_, file)| file)
    } else {
        store::open(path)
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
