//! Layout `csv`: a table with the columns `path` and `category`, and perhaps `split` and `id`. Paths are relative
//! to the table's folder and must stay within it.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use super::{Candidate, within};
use crate::{DatasetError, Result, SkipReason, Split, durable};

/// Room for a million rows.
const MAX_TABLE_BYTES: u64 = 1 << 28;

pub(super) fn find(path: &Path) -> Result<Vec<Candidate>> {
    let table = Table::read(path)?;
    let path_column = table.column(&["path"])?;
    let category_column = table.column(&["category"])?;
    let split_column = table.column(&["split"]).ok();
    let id_column = table.column(&["id"]).ok();
    let mut candidates = Vec::new();
    for (line, row) in &table.rows {
        let cell = |column: usize| row.get(column).unwrap_or_default();
        let category = cell(category_column).to_owned();
        let relative = PathBuf::from(cell(path_column));
        let stem = relative.file_stem().and_then(OsStr::to_str).unwrap_or_default();
        let name = id_column.map(cell).filter(|id| !id.is_empty()).unwrap_or(stem);
        // An id may be written whole.
        let name = name
            .strip_prefix(&format!("{category}/"))
            .unwrap_or(name)
            .to_owned();
        let split = split_column.map(cell).filter(|split| !split.is_empty());
        let split = split
            .map(str::parse::<Split>)
            .transpose()
            .map_err(|e| table.malformed(*line, e.to_string()))?;
        let inside = within(&relative);
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

/// A CSV file in memory.
#[derive(Debug)]
pub(super) struct Table {
    path: PathBuf,
    headers: csv::StringRecord,
    /// With the number of the line.
    pub(super) rows: Vec<(u64, csv::StringRecord)>,
}

impl Table {
    pub(super) fn read(path: &Path) -> Result<Self> {
        let bytes =
            durable::read_bounded(path, MAX_TABLE_BYTES).map_err(DatasetError::io("read the table", path))?;
        let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&bytes);
        let mut reader = csv::ReaderBuilder::new().trim(csv::Trim::All).from_reader(bytes);
        let malformed = |source: csv::Error| DatasetError::Csv {
            path: path.to_owned(),
            source,
        };
        let headers = reader.headers().map_err(malformed)?.clone();
        let rows = reader
            .records()
            .map(|row| row.map(|row| (row.position().map_or(0, csv::Position::line), row)));
        let rows = rows.collect::<Result<_, _>>().map_err(malformed)?;
        Ok(Self {
            path: path.to_owned(),
            headers,
            rows,
        })
    }

    /// The place of the first column that bears one of these names, in any case.
    pub(super) fn column(&self, names: &[&'static str]) -> Result<usize> {
        let place = |name: &&str| {
            self.headers
                .iter()
                .position(|header| header.eq_ignore_ascii_case(name))
        };
        names
            .iter()
            .find_map(place)
            .ok_or_else(|| self.malformed(1, format!("there is no column \"{}\"", names[0])))
    }

    pub(super) fn malformed(&self, line: u64, what: String) -> DatasetError {
        DatasetError::Table {
            line,
            what,
            path: self.path.clone(),
        }
    }
}
