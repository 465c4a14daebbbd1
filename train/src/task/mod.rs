//! What can be done with shards and weights: one file a task.

pub mod classify;
pub mod finetuned;
pub mod generate;
pub mod import;
pub mod pretrain;
pub mod probe;
pub mod segment;
pub mod vote;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tap_dataset::{Dataset, Split};
use tch::Tensor;

use crate::augment::PartAugmentation;
use crate::checkpoint::file_sha256;
use crate::config::{Config, DataFacts, DataPlan, Plan};
use crate::error::TrainError;
use crate::loader::{BatchMaker, LoaderOptions, Order, Tail, ViewChoice};
use crate::source::{SampleSource, ShardSource};

/// An open data set and its folder.
#[derive(Debug, Clone)]
pub struct OpenData {
    /// The data set.
    pub dataset: Arc<Dataset>,
    /// Its folder.
    pub path: PathBuf,
}

impl OpenData {
    /// Opens a data set.
    ///
    /// # Errors
    /// Where there is none, or it is damaged.
    pub fn open(path: &Path) -> Result<Self, TrainError> {
        Self::with_images(path, "")
    }

    /// Opens a data set with the pictures of an image set; with its own if that has no name.
    ///
    /// # Errors
    /// Where there is no such set, or it is of another data set.
    pub fn with_images(path: &Path, images: &str) -> Result<Self, TrainError> {
        let dataset = Dataset::open(path)?;
        let dataset = if images.is_empty() {
            dataset
        } else {
            dataset.with_images(images)?
        };
        Ok(Self {
            dataset: Arc::new(dataset),
            path: path.to_owned(),
        })
    }

    /// The training rows: all, or `labels_per_class` of each class drawn by `seed`.
    ///
    /// # Errors
    /// Where there are none.
    pub fn train_rows(
        &self,
        splits: &[Split],
        labels_per_class: usize,
        seed: u64,
    ) -> Result<ShardSource, TrainError> {
        let all = ShardSource::try_new(&self.dataset, &self.path, splits)?;
        Ok(if labels_per_class == 0 {
            all
        } else {
            all.subset(labels_per_class, seed)
        })
    }

    /// The rows of one split.
    ///
    /// # Errors
    /// Where there are none.
    pub fn rows(&self, split: Split) -> Result<ShardSource, TrainError> {
        ShardSource::try_new(&self.dataset, &self.path, &[split])
    }

    /// What a plan has to know, for these training rows.
    #[must_use]
    pub fn facts(&self, train: &dyn SampleSource) -> DataFacts {
        DataFacts {
            sha256: self.dataset.sha256().to_owned(),
            num_rows: Split::ALL.map(|split| self.dataset.len(split)),
            num_train_rows: train.len(),
            num_views: self.dataset.num_views(),
            image_size_px: self.dataset.image_size_px(),
            parts_by_class: self.parts_by_class(),
        }
    }

    /// The parts of each class, by number.
    fn parts_by_class(&self) -> Vec<Vec<u8>> {
        let parts = &self.dataset.manifest().parts;
        let of_class = |class: &String| {
            let numbered = parts.iter().zip(0_u8..=u8::MAX);
            numbered
                .filter(|(part, _)| part.category == *class)
                .map(|(_, number)| number)
                .collect()
        };
        self.dataset.classes().iter().map(of_class).collect()
    }

    /// Resolves a configuration for `task` on this data.
    ///
    /// # Errors
    /// Where the configuration contradicts itself or the data.
    pub fn plan(
        &self,
        config: &Config,
        task: crate::config::Task,
        labels_per_class: usize,
        init_sha256: &str,
    ) -> Result<(Plan, ShardSource), TrainError> {
        let train = self.train_rows(&config.data.train_splits, labels_per_class, config.seed)?;
        let plan = Plan::resolve(config, task, labels_per_class, init_sha256, &self.facts(&train))?;
        Ok((plan, train))
    }
}

/// Batches to train on.
#[must_use]
pub fn train_batches(plan: &Plan, source: Arc<dyn SampleSource>, views: ViewChoice) -> Arc<BatchMaker> {
    let order = Order {
        num_rows: source.len(),
        batch_size: plan.phase.batch_size,
        tail: plan.phase.tail,
        shuffle: Some(plan.seed),
    };
    let options = LoaderOptions {
        augmentation: plan.phase.augmentation.clone(),
        parts: plan.parts.as_ref().map(|parts| parts.augmentation),
        ..loader_options(plan, views)
    };
    Arc::new(BatchMaker::new(source, order, options))
}

/// Batches to look at, every row once in its order, without randomness.
#[must_use]
pub fn plain_batches(
    plan: &Plan,
    source: Arc<dyn SampleSource>,
    views: ViewChoice,
    batch_size: usize,
) -> Arc<BatchMaker> {
    let order = Order {
        num_rows: source.len(),
        batch_size,
        tail: Tail::Keep,
        shuffle: None,
    };
    Arc::new(BatchMaker::new(source, order, loader_options(plan, views)))
}

/// The hash of an initial encoder's file, or "none".
fn init_sha256(init: Option<&(BTreeMap<String, Tensor>, PathBuf)>) -> Result<String, TrainError> {
    init.map_or_else(|| Ok(String::from("none")), |(_, path)| file_sha256(path))
}

fn loader_options(plan: &Plan, views: ViewChoice) -> LoaderOptions {
    let DataPlan {
        num_points,
        point_choice,
        cache_bytes,
        color,
        ..
    } = plan.data;
    LoaderOptions {
        seed: plan.seed,
        num_points,
        point_choice,
        views,
        is_color: color,
        augmentation: plan.phase.augmentation.without_randomness(),
        parts: plan.parts.as_ref().map(|_| PartAugmentation::NONE),
        cache_bytes,
    }
}
