//! Pre-training, fine-tuning tasks, probing, importing and features of 2D networks: one file each.

pub mod audit;
pub mod classify;
pub mod comparison;
pub mod embed;
pub mod embedding;
pub mod export;
pub mod features;
pub mod few_shot;
pub mod finetune;
pub mod generate;
pub mod import;
pub mod inspect;
mod mismatch;
pub mod predict;
pub mod pretrain;
pub mod probe;
pub mod provenance;
pub mod published;
pub mod replay;
pub mod result_table;
pub mod retrieval;
pub mod robustness;
pub mod segment;
pub mod selection;
mod session;
mod settings;
pub mod sweep;
pub mod tsne;
pub mod vote;

use std::iter;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rayon::prelude::*;
use tap_dataset::predicate::{Predicate, PredicateError};
use tap_dataset::{
    ColumnSet, Dataset, FeatureManifest, FeatureSet, FeatureViews, ObjectId, Order, Split, ViewSelection,
};
use tch::Tensor;

use crate::config::{
    Config, DataConfig, DataPlan, DatasetInfo, FeatureInfo, MixConfig, MixPlan, Plan, Task, invalid,
    num_parts,
};
use crate::data::augment::PartAugmentation;
use crate::data::batch::CpuBatch;
use crate::data::collator::{Collator, LoaderOptions, RowContent};
use crate::data::sampler::{BatchSampler, LastBatch, RowOrder, Shuffle};
use crate::data::source::{SampleSource, ShardSource, SourceSet, is_among};
use crate::error::TrainError;
use crate::method::{self, Inputs, MethodKind};
use crate::ranks::Ranks;
use crate::run::event::{OnEvent, TrainEvent};
use crate::run::weights::{EncoderWeights, read_encoder};
use crate::scalar::Sums;
use crate::weights::checkpoint::WeightReport;
use crate::weights::safetensors::{file_sha256, is_finite};

/// Which rows of which data are read.
#[derive(Debug, Clone, Copy, Default)]
pub struct DataChoice<'a> {
    /// The image set that images come from; empty for the data set's own.
    pub images: &'a str,
    /// The feature set that 2D features come from; empty for none.
    pub features: &'a str,
    /// The condition on rows; empty for all.
    pub filter: &'a str,
    /// Ids of rows that are left out.
    pub leave_out: &'a [String],
    /// Further data sets to train on.
    pub mix: &'a [MixConfig],
}

impl<'a> DataChoice<'a> {
    /// What a configuration says.
    #[must_use]
    pub fn of(config: &'a DataConfig) -> Self {
        Self {
            images: &config.images,
            features: &config.features,
            filter: &config.filter,
            leave_out: &config.leave_out,
            mix: &config.mix,
        }
    }
}

/// An open data set and its folder, with what is mixed into its training rows.
#[derive(Debug, Clone)]
pub struct OpenData {
    /// The data set.
    pub dataset: Arc<Dataset>,
    /// Its folder.
    pub path: PathBuf,
    /// The feature set in use.
    pub features: Option<Arc<FeatureSet>>,
    /// The condition on rows.
    filter: Option<Predicate>,
    /// Ids of rows that are left out.
    leave_out: Vec<String>,
    mixed: Vec<MixedSet>,
}

/// A data set that is mixed into the training rows.
#[derive(Debug, Clone)]
struct MixedSet {
    set: SourceSet,
    weight: Option<f64>,
}

impl OpenData {
    /// Opens a data set.
    ///
    /// # Errors
    /// Where there is none, or it is damaged.
    pub fn open(path: &Path) -> Result<Self, TrainError> {
        Self::choose(path, DataChoice::default())
    }

    /// Opens a data set with the images of an image set; with its own if that has no name.
    ///
    /// # Errors
    /// Where there is no such set, or it is of another data set.
    pub fn with_images(path: &Path, images: &str) -> Result<Self, TrainError> {
        let choice = DataChoice {
            images,
            ..DataChoice::default()
        };
        Self::choose(path, choice)
    }

    /// Opens a data set, and those that are mixed into its training rows.
    ///
    /// # Errors
    /// Where one of them is missing or damaged, the condition is none or names a column that is not there, or the rows of the
    /// sets do not go together.
    pub fn choose(path: &Path, choice: DataChoice<'_>) -> Result<Self, TrainError> {
        let filter = match choice.filter {
            "" => None,
            text => Some(
                text.parse()
                    .map_err(|error: PredicateError| invalid(format!("data.where: {error}")))?,
            ),
        };
        let SourceSet {
            dataset,
            path,
            features,
        } = open_set(path, choice)?;
        let mut mixed = Vec::new();
        for MixConfig { data, weight } in choice.mix {
            mixed.push(MixedSet {
                set: open_set(Path::new(data), choice)?,
                weight: *weight,
            });
        }
        if mixed.iter().any(|set| set.weight.is_some()) && mixed.iter().any(|set| set.weight.is_none()) {
            return Err(invalid(
                "data.mix: some data sets have a weight and others have none; give each one a weight, or none",
            ));
        }
        let data = Self {
            dataset,
            path,
            features,
            filter,
            leave_out: choice.leave_out.to_vec(),
            mixed,
        };
        data.check_condition()?;
        data.mixed
            .iter()
            .try_for_each(|mixed| data.check_mixed(&mixed.set))?;
        Ok(data)
    }

    /// Refuses a condition on columns that are not there, before anything is read.
    fn check_condition(&self) -> Result<(), TrainError> {
        let Some(predicate) = &self.filter else {
            return Ok(());
        };
        for (dataset, path) in self.all_sets() {
            predicate
                .check(&dataset.comparable_columns())
                .map_err(|error| TrainError::UnsuitableData {
                    reason: format!("--where: {error}"),
                    path: path.clone(),
                })?;
        }
        Ok(())
    }

    /// Refuses a data set whose rows do not go with those of the first.
    fn check_mixed(&self, set: &SourceSet) -> Result<(), TrainError> {
        let views = |dataset: &Dataset| (dataset.num_views(), dataset.image_size_px());
        let [(num_views, size_px), (other_views, other_px)] = [views(&self.dataset), views(&set.dataset)];
        let is_same_features = match (&self.features, &set.features) {
            (Some(first), Some(other)) => are_alike(first.manifest(), other.manifest()),
            _ => true,
        };
        let reason = if (num_views, size_px) != (other_views, other_px) {
            format!(
                "--mix: its rows have {other_views} views of {other_px} pixels, those of {} have {num_views} of {size_px}",
                self.path.display()
            )
        } else if !is_same_features {
            format!(
                "--mix: its features are of another network or of other images than those of {}",
                self.path.display()
            )
        } else {
            return Ok(());
        };
        Err(TrainError::UnsuitableData {
            reason,
            path: set.path.clone(),
        })
    }

    /// Names of the classes: those of the data set, then those that only mixed sets have.
    #[must_use]
    pub fn classes(&self) -> Vec<String> {
        let mut classes = self.dataset.classes().to_vec();
        for name in self.mixed.iter().flat_map(|mixed| mixed.set.dataset.classes()) {
            if !classes.contains(name) {
                classes.push(name.clone());
            }
        }
        classes
    }

    /// Refuses mixed data whose labels say something else: a task that learns from labels needs the same classes and parts.
    ///
    /// # Errors
    /// The data set with other ones.
    pub fn require_same_labels(&self) -> Result<(), TrainError> {
        let labels = |dataset: &Dataset| (dataset.classes().to_vec(), dataset.manifest().parts.clone());
        let of_first = labels(&self.dataset);
        let mut others = self.mixed.iter().map(|mixed| &mixed.set);
        match others.find(|set| labels(&set.dataset) != of_first) {
            Some(set) => Err(TrainError::UnsuitableData {
                reason: format!(
                    "--mix: its classes or parts are not those of {}, and this task learns from them; give both the same with `tap dataset relabel`",
                    self.path.display()
                ),
                path: set.path.clone(),
            }),
            None => Ok(()),
        }
    }

    /// Refuses data that lacks what is read beside points. `reader` says what reads it, as in "method tap".
    ///
    /// # Errors
    /// What is missing, and how to get it.
    pub fn require(&self, inputs: Inputs, reader: &str) -> Result<(), TrainError> {
        for (dataset, path) in self.all_sets() {
            let columns = dataset.columns();
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
                continue;
            };
            return Err(TrainError::UnsuitableData {
                reason: format!(
                    "the data set has no {missing}, which {reader} needs; build it from its meshes {remedy}"
                ),
                path: path.clone(),
            });
        }
        Ok(())
    }

    /// The data set and those that are mixed in.
    fn all_sets(&self) -> impl Iterator<Item = (&Arc<Dataset>, &PathBuf)> {
        let others = self.mixed.iter();
        let others = others.map(|mixed| (&mixed.set.dataset, &mixed.set.path));
        iter::once((&self.dataset, &self.path)).chain(others)
    }

    /// The condition on rows, as it was typed.
    #[must_use]
    pub fn filter(&self) -> Option<String> {
        self.filter.as_ref().map(Predicate::to_string)
    }

    /// Whether features of stored views are read, whose poses say where the points are.
    fn needs_poses(&self, inputs: Inputs) -> bool {
        let is_of_views = |set: &Arc<FeatureSet>| set.manifest().recipe.views == FeatureViews::Images;
        inputs.features && self.features.as_ref().is_some_and(is_of_views)
    }

    /// The training rows: all, a part of them, or `labels_per_class` of each class, drawn by `seed`.
    ///
    /// # Errors
    /// Where there are none.
    pub fn train_rows(
        &self,
        splits: &[Split],
        fraction: f64,
        labels_per_class: usize,
        seed: u64,
    ) -> Result<ShardSource, TrainError> {
        let others = self.mixed.iter().map(|mixed| mixed.set.clone());
        let sets = iter::once(self.first_set()).chain(others).collect();
        let all = ShardSource::try_new(sets, &self.classes(), splits, self.filter.as_ref())?;
        let all = if fraction < 1.0 {
            all.part(fraction, seed)
        } else {
            all
        };
        Ok(if labels_per_class == 0 {
            all
        } else {
            all.subset(labels_per_class, seed)
        })
    }

    fn first_set(&self) -> SourceSet {
        SourceSet {
            dataset: Arc::clone(&self.dataset),
            path: self.path.clone(),
            features: self.features.clone(),
        }
    }

    /// The rows of one split of the data set, without those that are left out.
    ///
    /// # Errors
    /// Where there are none.
    pub fn rows(&self, split: Split) -> Result<ShardSource, TrainError> {
        let classes = self.dataset.classes();
        let all = ShardSource::try_new(vec![self.first_set()], classes, &[split], self.filter.as_ref())?;
        if self.leave_out.is_empty() {
            return Ok(all);
        }
        let kept = all.without(&self.leave_out);
        if kept.is_empty() {
            return Err(invalid(format!("data.leave_out leaves no row in split {split}")));
        }
        Ok(kept)
    }

    /// Refuses ids to leave out that no row has: it would be a slip of the pen.
    fn check_left_out(&self, train: &ShardSource) -> Result<(), TrainError> {
        let mut unknown = self.leave_out.clone();
        let mut drop_known =
            |ids: &[ObjectId]| unknown.retain(|id| !ids.iter().any(|known| known.as_str() == id));
        drop_known(train.ids());
        for split in Split::ALL {
            drop_known(&self.dataset.ids(split)?);
        }
        match unknown.first() {
            Some(id) => Err(invalid(format!("data.leave_out: the data has no row '{id}'"))),
            None => Ok(()),
        }
    }

    /// The splits that have rows of which the condition is true.
    fn filled_splits(&self) -> Result<Vec<Split>, TrainError> {
        let counts = self.num_rows()?;
        let filled = Split::ALL.into_iter().zip(counts).filter(|(_, count)| *count > 0);
        Ok(filled.map(|(split, _)| split).collect())
    }

    /// Number of rows of each split of which the condition is true.
    fn num_rows(&self) -> Result<[usize; 3], TrainError> {
        let mut counts = Split::ALL.map(|split| self.dataset.len(split));
        if let Some(predicate) = &self.filter {
            for (count, split) in counts.iter_mut().zip(Split::ALL) {
                *count = self.dataset.matching(split, predicate)?.len();
            }
        }
        Ok(counts)
    }

    /// Properties that a plan depends on, for these training rows.
    ///
    /// # Errors
    /// Where a shard is damaged.
    pub fn dataset_info(&self, train: &dyn SampleSource) -> Result<DatasetInfo, TrainError> {
        let mix = self.mixed.iter().map(|MixedSet { set, weight }| MixPlan {
            data_sha256: set.dataset.sha256().to_owned(),
            weight: *weight,
        });
        Ok(DatasetInfo {
            sha256: self.dataset.sha256().to_owned(),
            num_rows: self.num_rows()?,
            num_train_rows: train.len(),
            num_views: self.dataset.num_views(),
            image_size_px: self.dataset.image_size_px(),
            parts_by_class: self.parts_by_class(),
            mix: mix.collect(),
            features: self.features.as_ref().map(|set| FeatureInfo {
                sha256: set.sha256().to_owned(),
                num_views: set.layout().num_views,
                num_channels: set.layout().num_channels,
            }),
            label_counts: Vec::new(),
        })
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

    /// Training objects of each class, or training points of each part in part segmentation, for which all rows are read.
    fn label_counts(&self, task: &Task, train: &ShardSource) -> Result<Vec<u64>, TrainError> {
        let train = train.without(&self.leave_out);
        let num_parts = num_parts(&self.parts_by_class());
        let count_of = |labels: &mut dyn Iterator<Item = usize>, num_labels: usize| {
            let mut counts = vec![0_u64; num_labels];
            for label in labels {
                // A part that no class has is refused when it is trained on.
                counts.get_mut(label).into_iter().for_each(|count| *count += 1);
            }
            counts
        };
        if *task != Task::Segment {
            let mut labels = train.labels().iter().map(|&label| label as usize);
            return Ok(count_of(&mut labels, self.dataset.classes().len()));
        }
        let of_row = |row| {
            let sample = train.read(row, ViewSelection::None)?;
            let mut parts = sample.part_labels.iter().flatten().map(|&part| usize::from(part));
            Ok(count_of(&mut parts, num_parts))
        };
        let add = |a: Vec<u64>, b: Vec<u64>| Ok(a.iter().zip(&b).map(|(a, b)| a + b).collect());
        let rows = (0..train.len()).into_par_iter().map(of_row);
        rows.try_reduce(|| vec![0; num_parts], add)
    }

    /// Resolves a configuration for `task` on this data; a pre-training for the method `kind`, or the one that it names.
    ///
    /// # Errors
    /// Where the configuration contradicts itself or the data.
    pub fn plan(
        &self,
        kind: Option<&dyn MethodKind>,
        config: &Config,
        task: Task,
        labels_per_class: usize,
        init_sha256: &str,
    ) -> Result<(Plan, ShardSource), TrainError> {
        if task != Task::Pretrain {
            self.require_same_labels()?;
        }
        let train = self.train_rows(
            &config.data.train_splits,
            config.data.fraction,
            labels_per_class,
            config.seed,
        )?;
        if !self.leave_out.is_empty() {
            self.check_left_out(&train)?;
        }
        let mut info = self.dataset_info(&train)?;
        if task.phase(config).class_weights.need_counts() {
            info.label_counts = self.label_counts(&task, &train)?;
        }
        let plan = method::plan(kind, config, task, labels_per_class, init_sha256, &info)?;
        Ok((plan, train))
    }
}

/// Whether features of two data sets mean the same.
fn are_alike(a: &FeatureManifest, b: &FeatureManifest) -> bool {
    let network = |manifest: &FeatureManifest| {
        let recipe = &manifest.recipe;
        let kind = (
            recipe.network_sha256.clone(),
            recipe.layer,
            recipe.activation.clone(),
        );
        (kind, recipe.views, recipe.image_size_px, manifest.layout)
    };
    network(a) == network(b)
}

/// A data set with the image set and the feature set of the choice.
fn open_set(path: &Path, choice: DataChoice<'_>) -> Result<SourceSet, TrainError> {
    let mut dataset = Dataset::open(path)?;
    if !choice.images.is_empty() {
        dataset = dataset.with_images(choice.images)?;
    }
    let features = match choice.features {
        "" => None,
        name => Some(Arc::new(FeatureSet::open(&dataset, name)?)),
    };
    Ok(SourceSet {
        dataset: Arc::new(dataset),
        path: path.to_owned(),
        features,
    })
}

/// Batches to train on.
///
/// # Errors
/// Where a data set of a mixture gives no row.
pub fn train_batches(
    plan: &Plan,
    source: Arc<dyn SampleSource>,
    content: impl Into<RowContent>,
) -> Result<Arc<Collator>, TrainError> {
    let sampler = BatchSampler {
        num_rows: source.len(),
        batch_size: plan.phase.batch_size,
        last_batch: plan.phase.last_batch,
        shuffle: Some(shuffle(plan, source.as_ref())?),
    };
    let options = LoaderOptions {
        point_choice: plan.data.point_choice,
        augmentation: plan.phase.augmentation.clone(),
        parts: plan.parts.as_ref().map(|parts| parts.augmentation),
        ..loader_options(plan, content)
    };
    let rows = source.ids().iter().enumerate();
    let left_out = rows
        .filter(|(_, id)| is_among(&plan.data.leave_out, id))
        .map(|(row, _)| row)
        .collect();
    Ok(Arc::new(
        Collator::new(source, sampler, options).without(left_out),
    ))
}

/// The order of the training rows.
fn shuffle(plan: &Plan, source: &dyn SampleSource) -> Result<Shuffle, TrainError> {
    if plan.data.order == RowOrder::Listed {
        return Ok(Shuffle::Listed(plan.seed));
    }
    let first = plan.data.mix.iter().find_map(|set| set.weight).map(|_| 1.0);
    let weights = iter::once(first).chain(plan.data.mix.iter().map(|set| set.weight));
    let shares: Vec<_> = source
        .rows_per_set()
        .into_iter()
        .map(|rows| rows as u64)
        .zip(weights)
        .collect();
    let order = Order::mixed(&shares, Some(plan.seed))?;
    Ok(Shuffle::Keyed(match plan.data.order {
        RowOrder::Blocks => order.in_blocks(plan.data.blocks),
        RowOrder::Keyed | RowOrder::Listed => order,
    }))
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

/// The sums of an evaluation whose batches are dealt out to the ranks, from those of each batch that this one takes. They are
/// added in the order of the batches, so that the number of ranks does not show.
fn sums_over_ranks(
    ranks: &Ranks,
    own: impl Iterator<Item = Result<Sums, TrainError>>,
) -> Result<Sums, TrainError> {
    let own = own.collect::<Result<Vec<Sums>, TrainError>>()?;
    let of_ranks = ranks.gather(own, "adding the scores up")?;
    let num_rounds = of_ranks.iter().map(Vec::len).max().unwrap_or(0);
    let mut sums = Sums::default();
    for round in 0..num_rounds {
        for of_batch in of_ranks.iter().filter_map(|of_rank| of_rank.get(round)) {
            sums.merge(of_batch);
        }
    }
    Ok(sums)
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
        point_choice: point_choice.without_randomness(),
        views,
        normals,
        features,
        is_color: color,
        augmentation: plan.phase.augmentation.without_randomness(),
        parts: plan.parts.as_ref().map(|_| PartAugmentation::NONE),
        cache_bytes,
    }
}
