//! HDF5 files of many objects each, in the two forms that point-cloud programs read.
//!
//! `h5`, as `modelnet40_ply_hdf5_2048` and `hdf5_data` of `ShapeNetPart` are: `ply_data_<split><number>.h5` of at most 2048
//! objects with `data` [M, N, 3], `label` [M, 1], `normal` [M, N, 3] and `pid` [M, N] where all rows have normals and part
//! labels, `<split>_files.txt` with a file name a line, and `shape_names.txt`, whose lines are the classes. Programs find the
//! files by that list, or by `*train*.h5`. `h5-scanobjectnn`: a file per split with `data` and `label` of shape (M).

use std::path::PathBuf;

use super::hdf5_file::{Array, Hdf5File, Number};
use super::{ExportFormat, Folder, OutputFile, Row};
use crate::error::{DatasetError, ExportError, Result};
use crate::reader::Dataset;
use crate::schema::column::PART_LABELS;
use crate::schema::{ColumnSet, Sample, Split, little_endian};
use crate::shard::Projection;

/// Objects of a file of `modelnet40_ply_hdf5_2048`.
const ROWS_PER_FILE: usize = 2048;
/// Classes that a label of one byte tells apart.
const MAX_BYTE_CLASSES: usize = 256;

/// What the files of an export hold, and which row is in which.
#[derive(Debug, Clone)]
pub(super) struct H5Layout {
    is_scanobjectnn: bool,
    num_points: u64,
    has_normals: bool,
    has_parts: bool,
    label: Number,
    rows_of_split: [usize; Split::ALL.len()],
}

/// The file that is written.
pub(super) struct H5Files {
    layout: H5Layout,
    open: Option<(Hdf5File, PathBuf)>,
}

impl H5Layout {
    /// # Errors
    /// When a shard is damaged.
    pub(super) fn new(dataset: &Dataset, format: ExportFormat) -> Result<Self> {
        let is_scanobjectnn = format == ExportFormat::H5Scanobjectnn;
        let has = |set| !is_scanobjectnn && dataset.columns().has(set);
        let is_byte = !is_scanobjectnn && dataset.classes().len() <= MAX_BYTE_CLASSES;
        Ok(Self {
            is_scanobjectnn,
            num_points: dataset.num_points() as u64,
            has_normals: has(ColumnSet::Normals),
            has_parts: format == ExportFormat::H5 && has(ColumnSet::Parts) && all_have_parts(dataset)?,
            label: if is_byte { Number::U8 } else { Number::I32 },
            rows_of_split: Split::ALL.map(|split| dataset.len(split)),
        })
    }

    /// The arrays of a file of so many rows.
    fn arrays(&self, num_rows: usize) -> Vec<Array> {
        let array = |name, number, row: &[u64]| Array {
            name,
            number,
            shape: [&[num_rows as u64], row].concat(),
        };
        let label_row: &[u64] = if self.is_scanobjectnn { &[] } else { &[1] };
        let mut arrays = vec![
            array("data", Number::F32, &[self.num_points, 3]),
            array("label", self.label, label_row),
        ];
        if self.has_normals {
            arrays.push(array("normal", Number::F32, &[self.num_points, 3]));
        }
        if self.has_parts {
            arrays.push(array("pid", Number::U8, &[self.num_points]));
        }
        arrays
    }

    /// A row of each array.
    pub(super) fn encode(&self, sample: &Sample) -> Result<Vec<Vec<u8>>> {
        let Sample {
            id, label, points, ..
        } = sample;
        let invalid = || {
            DatasetError::Export(ExportError::Label {
                id: id.to_string(),
                label: *label,
            })
        };
        let label = match self.label {
            Number::U8 => vec![u8::try_from(*label).map_err(|_| invalid())?],
            _ => i32::try_from(*label)
                .map_err(|_| invalid())?
                .to_le_bytes()
                .to_vec(),
        };
        let mut rows = vec![little_endian(points.as_flattened()), label];
        if let Some(normals) = sample.normals.as_ref().filter(|_| self.has_normals) {
            rows.push(little_endian(normals.as_flattened()));
        }
        if let Some(part_labels) = sample.part_labels.as_ref().filter(|_| self.has_parts) {
            rows.push(part_labels.clone());
        }
        Ok(rows)
    }

    fn rows_per_file(&self) -> usize {
        if self.is_scanobjectnn {
            usize::MAX
        } else {
            ROWS_PER_FILE
        }
    }

    /// Rows of the file that begins with this one.
    fn rows_from(&self, row: &Row) -> usize {
        (self.rows_of_split[row.split as usize] - row.place_in_split).min(self.rows_per_file())
    }

    /// Number of its file within the split, and its row there.
    fn place(&self, row: &Row) -> (usize, usize) {
        let rows_per_file = self.rows_per_file();
        (
            row.place_in_split / rows_per_file,
            row.place_in_split % rows_per_file,
        )
    }

    fn num_files(&self, split: Split) -> usize {
        self.rows_of_split[split as usize].div_ceil(self.rows_per_file())
    }

    /// Numbers have as many digits as the largest one, since programs sort files by name.
    fn file_name(&self, split: Split, file_idx: usize) -> String {
        if self.is_scanobjectnn {
            let split = match split {
                Split::Train => "training",
                Split::Val => "validation",
                Split::Test => "test",
            };
            return format!("main_split/{split}_objectdataset.h5");
        }
        let num_digits = self.num_files(split).saturating_sub(1).to_string().len();
        format!("ply_data_{split}{file_idx:0num_digits$}.h5")
    }

    /// Lists of files and classes, and which row is which object. Lists of training and test files are there even if empty.
    pub(super) fn lists(&self, rows: &[Row], classes: &[String]) -> Vec<OutputFile> {
        let lines = |lines: &mut dyn Iterator<Item = String>| -> Vec<u8> {
            lines.map(|line| line + "\n").collect::<String>().into_bytes()
        };
        let mut lists = vec![
            ("shape_names.txt".to_owned(), lines(&mut classes.iter().cloned())),
            ("objects.csv".to_owned(), self.objects(rows)),
        ];
        if !self.is_scanobjectnn {
            let splits = Split::ALL.into_iter();
            lists.extend(
                splits
                    .filter(|&split| split != Split::Val || self.num_files(split) > 0)
                    .map(|split| {
                        let names =
                            &mut (0..self.num_files(split)).map(|file_idx| self.file_name(split, file_idx));
                        (format!("{split}_files.txt"), lines(names))
                    }),
            );
        }
        lists
    }

    fn objects(&self, rows: &[Row]) -> Vec<u8> {
        let mut table = csv::Writer::from_writer(Vec::new());
        let mut push = |record: [&str; 5]| table.write_record(record).expect("memory takes any write");
        push(["file", "row", "id", "category", "split"]);
        for row in rows {
            let (file_idx, place) = self.place(row);
            push([
                &self.file_name(row.split, file_idx),
                &place.to_string(),
                row.id.as_str(),
                row.id.category(),
                row.split.as_str(),
            ]);
        }
        table.into_inner().expect("memory takes any write")
    }
}

/// Whether no row is without part labels, as objects without parts are.
fn all_have_parts(dataset: &Dataset) -> Result<bool> {
    let only_parts = Projection::of_columns([PART_LABELS])?;
    for split in Split::ALL {
        for row in 0..dataset.len(split) {
            if dataset
                .read_columns(split, row, &only_parts)?
                .part_labels
                .is_none()
            {
                return Ok(false);
            }
        }
    }
    Ok(true)
}

impl H5Files {
    pub(super) fn new(layout: H5Layout) -> Self {
        Self { layout, open: None }
    }

    /// Writes the next row, to a new file where the last one is full or of another split.
    pub(super) fn append(&mut self, folder: &mut Folder, row: &Row, arrays: &[Vec<u8>]) -> Result<()> {
        let (file_idx, place) = self.layout.place(row);
        if place == 0 {
            let num_rows = self.layout.rows_from(row);
            let name = self.layout.file_name(row.split, file_idx);
            let path = folder.path.join(&name);
            let file = Hdf5File::create(folder.create(&name)?, &self.layout.arrays(num_rows));
            let file = file.map_err(DatasetError::io("write", &path))?;
            folder.bytes += file.len();
            self.open = Some((file, path));
        }
        let (file, path) = self.open.as_mut().expect("the first row of a file opens it");
        for (array, numbers) in arrays.iter().enumerate() {
            file.write_row(array, place as u64, numbers)
                .map_err(DatasetError::io("write", path.as_path()))?;
        }
        Ok(())
    }
}
