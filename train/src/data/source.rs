//! Sources of samples: the rows of a data set's splits, or samples in memory.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use tap_dataset::predicate::Predicate;
use tap_dataset::{
    Dataset, FeatureManifest, FeatureSet, ObjectId, RowFeatures, Sample, Split, ViewSelection,
};

use crate::error::TrainError;
use crate::seed::Stream;

/// Random access to rows, from any thread.
pub trait SampleSource: Send + Sync {
    /// Ids of all rows, in row order.
    fn ids(&self) -> &[ObjectId];

    /// Labels of all rows, in row order.
    fn labels(&self) -> &[i64];

    /// Number of views of a row; 0 without views.
    fn num_views(&self) -> usize;

    /// Pixels along a side of a view; 0 without views.
    fn image_size_px(&self) -> u32;

    /// One row with the views that are asked for, in the order asked.
    ///
    /// # Errors
    /// Where the row cannot be read.
    fn read(&self, row: usize, views: ViewSelection<'_>) -> Result<Sample, TrainError>;

    /// What the features are of that [`read_features`](Self::read_features) gives.
    fn feature_manifest(&self) -> Option<&FeatureManifest> {
        None
    }

    /// What a frozen 2D network says of a row, where there is a feature set.
    ///
    /// # Errors
    /// Where it cannot be read, or is of another row.
    fn read_features(&self, _row: usize) -> Result<Option<RowFeatures>, TrainError> {
        Ok(None)
    }

    /// Number of rows.
    fn len(&self) -> usize {
        self.ids().len()
    }

    /// Number of rows of each data set of a mixture, whose rows follow each other.
    fn rows_per_set(&self) -> Vec<usize> {
        vec![self.len()]
    }

    /// Whether there is no row.
    fn is_empty(&self) -> bool {
        self.ids().is_empty()
    }
}

impl std::fmt::Debug for dyn SampleSource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} rows", self.len())
    }
}

/// Samples in memory, without views.
#[derive(Debug, Clone, Default)]
pub struct MemorySource {
    ids: Vec<ObjectId>,
    labels: Vec<i64>,
    samples: Vec<Sample>,
}

impl MemorySource {
    /// These samples, in this order.
    #[must_use]
    pub fn new(samples: Vec<Sample>) -> Self {
        Self {
            ids: samples.iter().map(|sample| sample.id.clone()).collect(),
            labels: samples.iter().map(|sample| sample.label).collect(),
            samples,
        }
    }
}

impl SampleSource for MemorySource {
    fn ids(&self) -> &[ObjectId] {
        &self.ids
    }

    fn labels(&self) -> &[i64] {
        &self.labels
    }

    fn num_views(&self) -> usize {
        0
    }

    fn image_size_px(&self) -> u32 {
        0
    }

    fn read(&self, row: usize, _views: ViewSelection<'_>) -> Result<Sample, TrainError> {
        Ok(self.samples[row].clone())
    }
}

/// A data set that rows are taken from.
#[derive(Debug, Clone)]
pub struct SourceSet {
    /// The data set.
    pub dataset: Arc<Dataset>,
    /// Its folder.
    pub path: PathBuf,
    /// Its feature set in use.
    pub features: Option<Arc<FeatureSet>>,
}

/// Rows of one or more splits of a data set, or of several.
#[derive(Debug, Clone)]
pub struct ShardSource {
    sets: Vec<SourceSet>,
    rows: Vec<RowRef>,
    ids: Vec<ObjectId>,
    labels: Vec<i64>,
    num_classes: usize,
}

/// Where a row is.
#[derive(Debug, Clone, Copy)]
struct RowRef {
    set: u32,
    split: Split,
    row: usize,
}

impl ShardSource {
    /// The rows of `splits` of data sets, one after the other, of which the condition is true, if there is one. Labels count in
    /// `classes`, which begin with those of the first set.
    ///
    /// # Errors
    /// Where a shard cannot be read, the condition names a column that is not there, or a data set has no such row.
    pub fn try_new(
        sets: Vec<SourceSet>,
        classes: &[String],
        splits: &[Split],
        filter: Option<&Predicate>,
    ) -> Result<Self, TrainError> {
        let mut source = Self {
            sets: Vec::new(),
            rows: Vec::new(),
            ids: Vec::new(),
            labels: Vec::new(),
            num_classes: classes.len(),
        };
        for set in sets {
            let num_before = source.rows.len();
            let labels = if source.sets.is_empty() {
                Vec::new()
            } else {
                labels_among(classes, set.dataset.classes())
            };
            for &split in splits {
                source.append(&set, &labels, split, filter)?;
            }
            if source.rows.len() == num_before {
                return Err(no_rows(&set.path, splits, filter));
            }
            source.sets.push(set);
        }
        Ok(source)
    }

    /// Adds rows of a set; `mapped` says what its labels become, and those that it does not list stay.
    fn append(
        &mut self,
        set: &SourceSet,
        mapped: &[i64],
        split: Split,
        filter: Option<&Predicate>,
    ) -> Result<(), TrainError> {
        let dataset = &set.dataset;
        let chosen: Vec<usize> = match filter {
            Some(predicate) => dataset.matching(split, predicate)?,
            None => (0..dataset.len(split)).collect(),
        };
        let (ids, labels) = (dataset.ids(split)?, dataset.labels(split)?);
        for row in chosen {
            let set = self.sets.len() as u32;
            self.rows.push(RowRef { set, split, row });
            self.ids.push(ids[row].clone());
            let label = labels[row];
            self.labels
                .push(mapped.get(label as usize).copied().unwrap_or(label));
        }
        Ok(())
    }

    /// `per_class` rows of each class, drawn by `seed`; a class with fewer rows gives all it has.
    #[must_use]
    pub fn subset(&self, per_class: usize, seed: u64) -> Self {
        self.of_rows(draw_per_class(&self.labels, self.num_classes, per_class, seed))
    }

    /// A part of the rows of each data set, drawn by `seed`, at least one; a larger part holds all of a smaller one.
    #[must_use]
    pub fn part(&self, fraction: f64, seed: u64) -> Self {
        let mut chosen = Vec::new();
        for set in 0..self.sets.len() as u32 {
            let rows = (0..self.rows.len()).filter(|&row| self.rows[row].set == set);
            let rows: Vec<usize> = rows.collect();
            chosen.extend(draw_part(&rows, &self.ids, fraction, seed));
        }
        chosen.sort_unstable();
        self.of_rows(chosen)
    }

    /// All rows but those with these ids.
    #[must_use]
    pub fn without(&self, left_out: &[String]) -> Self {
        self.of_rows((0..self.rows.len()).filter(|&row| !is_among(left_out, &self.ids[row])))
    }

    fn of_rows(&self, rows: impl IntoIterator<Item = usize>) -> Self {
        let mut subset = Self {
            rows: Vec::new(),
            ids: Vec::new(),
            labels: Vec::new(),
            ..self.clone()
        };
        for row in rows {
            subset.rows.push(self.rows[row]);
            subset.ids.push(self.ids[row].clone());
            subset.labels.push(self.labels[row]);
        }
        subset
    }

    /// The data folder; of several the first.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.sets[0].path
    }
}

/// Whether an id is one of a list.
pub(crate) fn is_among(list: &[String], id: &ObjectId) -> bool {
    list.iter().any(|listed| listed == id.as_str())
}

/// For each name its place among all classes.
fn labels_among(classes: &[String], names: &[String]) -> Vec<i64> {
    let label = |name: &String| classes.iter().position(|class| class == name);
    let labels = names.iter().filter_map(label);
    labels.map(|label| label as i64).collect()
}

fn no_rows(path: &Path, splits: &[Split], filter: Option<&Predicate>) -> TrainError {
    let names: Vec<&str> = splits.iter().map(|split| split.as_str()).collect();
    let names = names.join(" or ");
    let setting = if splits.contains(&Split::Train) {
        "data.train_splits=[\"test\"]"
    } else {
        "data.evaluation_split=train"
    };
    let reason = match filter {
        Some(predicate) => format!("the data set has no row in split {names} where {predicate}"),
        None => format!(
            "the data set has no row in split {names}; build it with --split-fractions 0.8,0.2, or choose a split that it has, as with --set {setting}"
        ),
    };
    TrainError::UnsuitableData {
        reason,
        path: path.to_owned(),
    }
}

/// Rows of a balanced subset, sorted: for each class a random choice of `per_class` of its rows.
#[must_use]
pub fn draw_per_class(labels: &[i64], num_classes: usize, per_class: usize, seed: u64) -> Vec<usize> {
    let mut chosen = Vec::new();
    for class in 0..num_classes {
        let rows: Vec<usize> = (0..labels.len())
            .filter(|&row| labels[row] == class as i64)
            .collect();
        let mut stream = Stream::new(seed, "labels", 0, &class.to_string());
        chosen.extend(
            stream
                .choose(rows.len(), per_class)
                .into_iter()
                .map(|place| rows[place]),
        );
    }
    chosen.sort_unstable();
    chosen
}

/// The part of `rows` whose ids come first in an order that the seed decides, at least one of them.
fn draw_part(rows: &[usize], ids: &[ObjectId], fraction: f64, seed: u64) -> Vec<usize> {
    let place = |&row: &usize| (Stream::new(seed, "fraction", 0, ids[row].as_str()).bits(), row);
    let mut order: Vec<(u64, usize)> = rows.iter().map(place).collect();
    order.sort_unstable();
    let count = (fraction * rows.len() as f64).round().max(1.0) as usize;
    order.into_iter().take(count).map(|(_, row)| row).collect()
}

impl SampleSource for ShardSource {
    fn ids(&self) -> &[ObjectId] {
        &self.ids
    }

    fn labels(&self) -> &[i64] {
        &self.labels
    }

    fn num_views(&self) -> usize {
        self.sets[0].dataset.num_views()
    }

    fn image_size_px(&self) -> u32 {
        self.sets[0].dataset.image_size_px()
    }

    fn rows_per_set(&self) -> Vec<usize> {
        let mut counts = vec![0; self.sets.len()];
        for row in &self.rows {
            counts[row.set as usize] += 1;
        }
        counts
    }

    fn read(&self, row: usize, views: ViewSelection<'_>) -> Result<Sample, TrainError> {
        let label = self.labels[row];
        let RowRef { set, split, row } = self.rows[row];
        let sample = self.sets[set as usize].dataset.read(split, row, views)?;
        Ok(Sample { label, ..sample })
    }

    fn feature_manifest(&self) -> Option<&FeatureManifest> {
        self.sets[0].features.as_deref().map(FeatureSet::manifest)
    }

    fn read_features(&self, row: usize) -> Result<Option<RowFeatures>, TrainError> {
        let RowRef {
            set,
            split,
            row: row_of_set,
        } = self.rows[row];
        let SourceSet { features, path, .. } = &self.sets[set as usize];
        let Some(features) = features else {
            return Ok(None);
        };
        let read = features.read(split, row_of_set, ViewSelection::All)?;
        if read.id != self.ids[row] {
            return Err(TrainError::UnsuitableData {
                reason: format!(
                    "the feature set has {} where the rows have {}: it is of other rows; make it again",
                    read.id, self.ids[row]
                ),
                path: path.clone(),
            });
        }
        Ok(Some(read))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subset_is_balanced_and_drawn_by_the_seed() {
        let labels: Vec<i64> = (0..60).map(|row| row % 4).collect();
        let chosen = draw_per_class(&labels, 4, 5, 1);
        for class in 0..4 {
            assert_eq!(
                chosen.iter().filter(|&&row| labels[row] == class).count(),
                5,
                "class {class}"
            );
        }
        assert_eq!(chosen, draw_per_class(&labels, 4, 5, 1), "repeatable");
        assert_ne!(
            chosen,
            draw_per_class(&labels, 4, 5, 2),
            "another seed, other rows"
        );
        assert_eq!(draw_per_class(&labels, 4, 500, 1).len(), 60, "no row twice");
    }

    #[test]
    fn a_larger_part_holds_a_smaller_one() {
        let ids: Vec<ObjectId> = (0..100)
            .map(|i| ObjectId::try_new("chair", &i.to_string()).expect("a name"))
            .collect();
        let rows: Vec<usize> = (0..100).collect();
        let draw = |fraction, seed| draw_part(&rows, &ids, fraction, seed);
        let (small, large) = (draw(0.1, 1), draw(0.35, 1));
        assert_eq!((small.len(), large.len()), (10, 35));
        assert!(small.iter().all(|row| large.contains(row)), "{small:?} {large:?}");
        assert_ne!(small, draw(0.1, 2), "another seed, other rows");
        assert_eq!(draw(1e-9, 1).len(), 1, "never none");
    }
}
