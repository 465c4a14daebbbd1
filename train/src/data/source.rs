//! Sources of samples: the rows of a data set's splits, or samples in memory.

use std::path::{Path, PathBuf};
use std::sync::Arc;

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

/// Rows of one or more splits of a data set.
#[derive(Debug, Clone)]
pub struct ShardSource {
    dataset: Arc<Dataset>,
    path: PathBuf,
    rows: Vec<(Split, usize)>,
    ids: Vec<ObjectId>,
    labels: Vec<i64>,
    features: Option<Arc<FeatureSet>>,
}

impl ShardSource {
    /// All rows of `splits`, in that order.
    ///
    /// # Errors
    /// Where a shard cannot be read, or there is no row in any of the splits.
    pub fn try_new(dataset: &Arc<Dataset>, path: &Path, splits: &[Split]) -> Result<Self, TrainError> {
        let mut source = Self {
            dataset: Arc::clone(dataset),
            path: path.to_owned(),
            rows: Vec::new(),
            ids: Vec::new(),
            labels: Vec::new(),
            features: None,
        };
        for &split in splits {
            source
                .rows
                .extend((0..dataset.len(split)).map(|row| (split, row)));
            source.ids.extend(dataset.ids(split)?);
            source.labels.extend(dataset.labels(split)?);
        }
        if source.rows.is_empty() {
            let names: Vec<&str> = splits.iter().map(|split| split.as_str()).collect();
            let setting = if splits.contains(&Split::Train) {
                "data.train_splits=[\"test\"]"
            } else {
                "data.evaluation_split=train"
            };
            let reason = format!(
                "the data set has no row in split {}; build it with --split-fractions 0.8,0.2, or choose a split that it has, as with --set {setting}",
                names.join(" or ")
            );
            return Err(TrainError::UnsuitableData {
                reason,
                path: path.to_owned(),
            });
        }
        Ok(source)
    }

    /// The same rows with the features of one of the data set's feature sets.
    #[must_use]
    pub fn with_features(self, features: Option<Arc<FeatureSet>>) -> Self {
        Self { features, ..self }
    }

    /// `per_class` rows of each class, drawn by `seed`; a class with fewer rows gives all it has.
    #[must_use]
    pub fn subset(&self, per_class: usize, seed: u64) -> Self {
        let mut subset = Self {
            rows: Vec::new(),
            ids: Vec::new(),
            labels: Vec::new(),
            ..self.clone()
        };
        for row in draw_per_class(&self.labels, self.dataset.classes().len(), per_class, seed) {
            subset.rows.push(self.rows[row]);
            subset.ids.push(self.ids[row].clone());
            subset.labels.push(self.labels[row]);
        }
        subset
    }

    /// The data folder.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
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

impl SampleSource for ShardSource {
    fn ids(&self) -> &[ObjectId] {
        &self.ids
    }

    fn labels(&self) -> &[i64] {
        &self.labels
    }

    fn num_views(&self) -> usize {
        self.dataset.num_views()
    }

    fn image_size_px(&self) -> u32 {
        self.dataset.image_size_px()
    }

    fn read(&self, row: usize, views: ViewSelection<'_>) -> Result<Sample, TrainError> {
        let (split, row) = self.rows[row];
        Ok(self.dataset.read(split, row, views)?)
    }

    fn feature_manifest(&self) -> Option<&FeatureManifest> {
        self.features.as_deref().map(FeatureSet::manifest)
    }

    fn read_features(&self, row: usize) -> Result<Option<RowFeatures>, TrainError> {
        let Some(features) = &self.features else {
            return Ok(None);
        };
        let (split, row_of_split) = self.rows[row];
        let read = features.read(split, row_of_split, ViewSelection::All)?;
        if read.id != self.ids[row] {
            return Err(TrainError::UnsuitableData {
                reason: format!(
                    "the feature set has {} where the rows have {}: it is of other rows; make it again",
                    read.id, self.ids[row]
                ),
                path: self.path.clone(),
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
}
