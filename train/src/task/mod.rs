//! Pre-training, fine-tuning tasks, probing, importing and features of 2D networks: one file each.

pub mod classify;
pub mod comparison;
pub mod features;
pub mod finetune;
pub mod generate;
pub mod import;
mod mismatch;
pub mod pretrain;
pub mod probe;
pub mod provenance;
pub mod segment;
mod session;
pub mod svm;
pub mod vote;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use tap_dataset::{ColumnSet, Dataset, FeatureSet, FeatureViews, Split};
use tch::Tensor;

use crate::config::{Config, DataPlan, DatasetInfo, FeatureInfo, Plan};
use crate::data::augment::PartAugmentation;
use crate::data::batch::CpuBatch;
use crate::data::collator::{Collator, LoaderOptions, RowContent};
use crate::data::sampler::{BatchSampler, LastBatch};
use crate::data::source::{SampleSource, ShardSource};
use crate::error::TrainError;
use crate::method::{self, Inputs, MethodKind};
use crate::run::event::{OnEvent, TrainEvent};
use crate::run::weights::{EncoderWeights, read_encoder};
use crate::weights::checkpoint::WeightReport;
use crate::weights::safetensors::{file_sha256, is_finite};

/// An open data set and its folder.
#[derive(Debug, Clone)]
pub struct OpenData {
    /// The data set.
    pub dataset: Arc<Dataset>,
    /// Its folder.
    pub path: PathBuf,
    /// The feature set in use.
    pub features: Option<Arc<FeatureSet>>,
}

impl OpenData {
    /// Opens a data set.
    ///
    /// # Errors
    /// Where there is none, or it is damaged.
    pub fn open(path: &Path) -> Result<Self, TrainError> {
        Self::with_images(path, "")
    }

    /// Opens a data set with the images of an image set; with its own if that has no name.
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
            features: None,
        })
    }

    /// The same with a feature set; without one if that has no name.
    ///
    /// # Errors
    /// Where there is no such set, it is incomplete, or of other rows.
    pub fn with_features(self, name: &str) -> Result<Self, TrainError> {
        let open = || FeatureSet::open(&self.dataset, name).map(Arc::new);
        let features = (!name.is_empty()).then(open).transpose()?;
        Ok(Self { features, ..self })
    }

    /// Refuses data that lacks what is read beside points. `reader` says what reads it, as in "method tap".
    ///
    /// # Errors
    /// What is missing, and how to get it.
    pub fn require(&self, inputs: Inputs, reader: &str) -> Result<(), TrainError> {
        let columns = self.dataset.columns();
        let (missing, remedy) = if inputs.views && !columns.has(ColumnSet::Views) {
            ("views", "without --no-views")
        } else if self.needs_poses(inputs) && !columns.has(ColumnSet::Views) {
            (
                "poses of the views that the features are of",
                "without --no-views",
            )
        } else if inputs.normals && !columns.has(ColumnSet::Normals) {
            ("normals", "with --set normals=true")
        } else {
            return Ok(());
        };
        Err(TrainError::UnsuitableData {
            reason: format!(
                "the data set has no {missing}, which {reader} needs; build it from its meshes {remedy}"
            ),
            path: self.path.clone(),
        })
    }

    /// Whether features of stored views are read, whose poses say where the points are.
    fn needs_poses(&self, inputs: Inputs) -> bool {
        let is_of_views = |set: &Arc<FeatureSet>| set.manifest().recipe.views == FeatureViews::Images;
        inputs.features && self.features.as_ref().is_some_and(is_of_views)
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
        let all = all.with_features(self.features.clone());
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
        let rows = ShardSource::try_new(&self.dataset, &self.path, &[split])?;
        Ok(rows.with_features(self.features.clone()))
    }

    /// Properties that a plan depends on, for these training rows.
    #[must_use]
    pub fn dataset_info(&self, train: &dyn SampleSource) -> DatasetInfo {
        DatasetInfo {
            sha256: self.dataset.sha256().to_owned(),
            num_rows: Split::ALL.map(|split| self.dataset.len(split)),
            num_train_rows: train.len(),
            num_views: self.dataset.num_views(),
            image_size_px: self.dataset.image_size_px(),
            parts_by_class: self.parts_by_class(),
            features: self.features.as_ref().map(|set| FeatureInfo {
                sha256: set.sha256().to_owned(),
                num_views: set.layout().num_views,
                num_channels: set.layout().num_channels,
            }),
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

    /// Resolves a configuration for `task` on this data; a pre-training for the method `kind`, or the one that it names.
    ///
    /// # Errors
    /// Where the configuration contradicts itself or the data.
    pub fn plan(
        &self,
        kind: Option<&dyn MethodKind>,
        config: &Config,
        task: crate::config::Task,
        labels_per_class: usize,
        init_sha256: &str,
    ) -> Result<(Plan, ShardSource), TrainError> {
        let train = self.train_rows(&config.data.train_splits, labels_per_class, config.seed)?;
        let plan = method::plan(
            kind,
            config,
            task,
            labels_per_class,
            init_sha256,
            &self.dataset_info(&train),
        )?;
        Ok((plan, train))
    }
}

/// Batches to train on.
#[must_use]
pub fn train_batches(
    plan: &Plan,
    source: Arc<dyn SampleSource>,
    content: impl Into<RowContent>,
) -> Arc<Collator> {
    let sampler = BatchSampler {
        num_rows: source.len(),
        batch_size: plan.phase.batch_size,
        last_batch: plan.phase.last_batch,
        shuffle: Some(plan.seed),
    };
    let options = LoaderOptions {
        augmentation: plan.phase.augmentation.clone(),
        parts: plan.parts.as_ref().map(|parts| parts.augmentation),
        ..loader_options(plan, content)
    };
    Arc::new(Collator::new(source, sampler, options))
}

/// Batches for evaluation: every row once, in order, without random augmentation.
#[must_use]
pub fn evaluation_batches(
    plan: &Plan,
    source: Arc<dyn SampleSource>,
    content: impl Into<RowContent>,
    batch_size: usize,
) -> Arc<Collator> {
    let sampler = BatchSampler {
        num_rows: source.len(),
        batch_size,
        last_batch: LastBatch::Keep,
        shuffle: None,
    };
    Arc::new(Collator::new(source, sampler, loader_options(plan, content)))
}

/// The encoder to start from, where there is one, and the hash of its file, or "none".
fn read_init(
    init: Option<&Path>,
    on_event: OnEvent<'_>,
) -> Result<(Option<EncoderWeights>, String), TrainError> {
    let Some(init) = init.map(read_encoder).transpose()? else {
        return Ok((None, String::from("none")));
    };
    for note in &init.notes {
        on_event(TrainEvent::Note(note.clone()));
    }
    let sha256 = file_sha256(&init.file)?;
    Ok((Some(init), sha256))
}

/// Refuses weights that do not fit a network exactly.
fn require_exact(report: WeightReport, file: &Path) -> Result<WeightReport, TrainError> {
    if report.is_exact() {
        Ok(report)
    } else {
        Err(TrainError::Weights {
            report: report.to_string(),
            path: file.to_owned(),
        })
    }
}

/// Refuses predictions that are not finite.
fn require_finite(output: &Tensor, batch: &CpuBatch) -> Result<(), TrainError> {
    if is_finite(output) {
        return Ok(());
    }
    Err(TrainError::NonFiniteOutput {
        ids: batch.ids.join(", "),
    })
}

fn loader_options(plan: &Plan, content: impl Into<RowContent>) -> LoaderOptions {
    let RowContent {
        views,
        normals,
        features,
    } = content.into();
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
        normals,
        features,
        is_color: color,
        augmentation: plan.phase.augmentation.without_randomness(),
        parts: plan.parts.as_ref().map(|_| PartAugmentation::NONE),
        cache_bytes,
    }
}
