//! Sets in HDF5 files of many objects each: points, a class and perhaps normals and parts of every row.

use std::collections::BTreeSet;
use std::path::Path;

use super::cloud::{Cloud, Defect, class_of_label, part_labels_of};
use super::h5::{H5Array, H5File, H5Rows};
use super::{CloudReader, ImportSet, ListedCloud, PublishedSet, relative};
use crate::error::{DatasetError, ImportError, Result};
use crate::schema::{ObjectId, PartName, Split};

/// A file, with what is read from it row by row.
#[derive(Debug)]
pub(super) struct H5Part {
    /// Relative to the source.
    pub(super) path: String,
    pub(super) split: Split,
    labels: Vec<i64>,
    /// C: numbers of a point.
    num_values: usize,
    points: H5Rows,
    normals: Option<H5Rows>,
    part_labels: Option<H5Rows>,
    /// Arrays that are left out.
    ignored: Vec<String>,
}

impl H5Part {
    /// Opens a file with `data` and `label`, `normal` if it is there, and the array of part labels if it has to be.
    pub(super) fn open(path: &Path, src: &Path, split: Split, part_labels: Option<&[&str]>) -> Result<Self> {
        let file = H5File::open(path)?;
        let points = file.array(&["data"])?;
        let [num_points, num_values] = points.points_per_row()?;
        let num_rows = points.num_rows();
        let labels = file.array(&["label"])?;
        labels.expect(num_rows, 1)?;
        let labels = labels.labels()?;
        let checked = |array: H5Array, row_len| -> Result<H5Rows> {
            array.expect(num_rows, row_len)?;
            array.into_rows()
        };
        let normals = file.find(&["normal"])?;
        let part_labels = part_labels.map(|names| file.array(names)).transpose()?;
        let used = [
            "data",
            "label",
            "normal",
            part_labels.as_ref().map_or("", H5Array::name),
        ];
        let ignored = file
            .names()?
            .into_iter()
            .filter(|name| !used.contains(&name.as_str()))
            .collect();
        Ok(Self {
            path: relative(path, src),
            split,
            labels,
            num_values,
            normals: normals.map(|array| checked(array, 3 * num_points)).transpose()?,
            part_labels: part_labels.map(|array| checked(array, num_points)).transpose()?,
            points: points.into_rows()?,
            ignored,
        })
    }
}

/// All files of a set.
#[derive(Debug)]
pub(super) struct H5Set {
    pub(super) set: ImportSet,
    pub(super) variant: &'static str,
    /// In the order of the labels.
    pub(super) classes: Vec<String>,
    pub(super) parts: Vec<PartName>,
    pub(super) files: Vec<H5Part>,
}

impl H5Set {
    pub(super) fn into_set(self) -> Result<PublishedSet> {
        let mut objects = Vec::new();
        let mut skipped = Vec::new();
        let mut num_of_split = [0_usize; Split::ALL.len()];
        for (file_idx, file) in self.files.iter().enumerate() {
            for (row, &label) in file.labels.iter().enumerate() {
                let number = num_of_split[file.split as usize];
                num_of_split[file.split as usize] += 1;
                let path = format!("{}#{row}", file.path);
                // Rows have no name: the place in the split is one, the same in every copy.
                let name = format!("{}-{number:05}", file.split);
                let class = match class_of_label(label, &self.classes) {
                    Ok(class) => class,
                    Err(defect) => {
                        skipped.push(defect.skipped(name, file.split, path));
                        continue;
                    }
                };
                objects.push(ListedCloud {
                    id: ObjectId::try_new(class, &name)?,
                    split: file.split,
                    path,
                    bytes: 0,
                    place: (file_idx, row),
                });
            }
        }
        if objects.is_empty() && skipped.is_empty() {
            return Err(DatasetError::Import(ImportError::Incomplete {
                set: self.set.title().to_owned(),
                detail: "its files have no row".to_owned(),
                obtain: self.set.obtain(),
            }));
        }
        let ignored: BTreeSet<String> = self
            .files
            .iter()
            .filter(|file| !file.ignored.is_empty())
            .map(|file| format!("left out of its files: {}", file.ignored.join(", ")))
            .collect();
        Ok(PublishedSet {
            set: self.set,
            variant: self.variant.to_owned(),
            format: "h5",
            objects,
            skipped,
            missing: Vec::new(),
            classes: self.classes,
            parts: self.parts,
            notes: ignored.into_iter().collect(),
            pictures: None,
            reader: Box::new(H5Reader(self.files)),
        })
    }
}

#[derive(Debug)]
struct H5Reader(Vec<H5Part>);

impl CloudReader for H5Reader {
    fn read(&self, object: &ListedCloud) -> Result<Result<Cloud, Defect>> {
        let (file, row) = object.place;
        let file = &self.0[file];
        let mut cloud = Cloud::of_rows(&file.points.read(row)?, file.num_values, file.normals.is_none());
        if let Some(normals) = &file.normals {
            cloud.normals = Some(Cloud::of_rows(&normals.read(row)?, 3, false).points);
        }
        if let Some(part_labels) = &file.part_labels {
            match part_labels_of(part_labels.read(row)?.into_iter()) {
                Ok(labels) => cloud.part_labels = Some(labels),
                Err(defect) => return Ok(Err(defect)),
            }
        }
        Ok(Ok(cloud.with_hash_of_numbers()))
    }
}
