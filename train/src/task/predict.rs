//! Predictions for clouds that no one labeled, and scores on classes that are other ones than those of the training
//! (`docs/protocols.md`, "Other classes").

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use tap_dataset::sha256::hex;
use tap_dataset::{ObjectId, Sample, Split, ViewSelection, npy};
use tch::nn::VarStore;
use tch::{Kind, no_grad};

use super::classify::Classify;
use super::embedding::numbers;
use super::finetune::Task as _;
use super::provenance::VERSION;
use super::segment::Segment;
use super::{OpenData, evaluation_batches, require_exact, require_finite};
use crate::config::{Plan, Task, invalid};
use crate::csv;
use crate::data::augment::{farthest_points, normalize};
use crate::data::batch::{Batch, CpuBatch};
use crate::data::cloud_file::read_cloud;
use crate::data::collator::ViewSampling;
use crate::data::loader::Loader;
use crate::data::source::{MemorySource, SampleSource};
use crate::engine::trainer::RunOptions;
use crate::error::TrainError;
use crate::model::Mode;
use crate::process::device_name;
use crate::run::event::{OnEvent, TrainEvent};
use crate::run::weights::{RunWeights, WeightChoice};
use crate::run::{CONFIG_FILE, write_json};
use crate::weights::checkpoint::copy_weights;
use crate::weights::safetensors::write_atomic;

/// A line an object: id, class, its probability, the true class where it is known.
pub const CLASSES_FILE: &str = "predictions.csv";
/// Logits, objects x classes.
pub const LOGITS_FILE: &str = "logits.npy";
/// Parts of points, objects x points, and the points, objects x points x 3.
pub const PARTS_FILE: &str = "parts.npy";
/// See [`PARTS_FILE`].
pub const POINTS_FILE: &str = "points.npy";
/// The true parts of the same points, where they are known: [`NO_PART`] where they are not.
pub const TRUE_PARTS_FILE: &str = "true_parts.npy";
/// What the others are of, and the score.
pub const PREDICT_FILE: &str = "predict.json";
/// All files of a prediction.
pub const PREDICTION_FILES: [&str; 6] = [
    CLASSES_FILE,
    LOGITS_FILE,
    PARTS_FILE,
    TRUE_PARTS_FILE,
    POINTS_FILE,
    PREDICT_FILE,
];
/// A point whose part is not known.
pub const NO_PART: u8 = u8::MAX;
/// Objects of a batch.
const BATCH_SIZE: usize = 32;

/// Objects to predict, with their true classes by name where these are known.
pub struct Unlabeled {
    rows: Arc<dyn SampleSource>,
    truth: Vec<Option<String>>,
}

impl std::fmt::Debug for Unlabeled {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} objects", self.rows.len())
    }
}

impl Unlabeled {
    /// The rows of these splits of a data set, of all if none are named, that its condition leaves.
    ///
    /// # Errors
    /// Where a shard is damaged.
    pub fn of_data(data: &OpenData, splits: &[Split]) -> Result<Vec<Self>, TrainError> {
        let classes = data.dataset.classes();
        let of_split = |split| {
            let rows: Arc<dyn SampleSource> = Arc::new(data.rows(split)?);
            let name = |&label: &i64| classes.get(label as usize).cloned();
            let truth = rows.labels().iter().map(name).collect();
            Ok(Self { rows, truth })
        };
        let splits = if splits.is_empty() {
            data.filled_splits()?
        } else {
            splits.to_vec()
        };
        splits.into_iter().map(of_split).collect()
    }

    /// Files of points, each called after its folder and its name; the folder's name is its true class where `knows_class` says
    /// so. Points are turned where z is up, then centered and scaled to the unit ball.
    ///
    /// # Errors
    /// Where a file cannot be read, or two have the same id.
    pub fn of_files(
        files: &[PathBuf],
        is_z_up: bool,
        num_points: usize,
        knows_class: impl Fn(&str) -> bool,
    ) -> Result<Self, TrainError> {
        let (mut samples, mut truth) = (Vec::new(), Vec::new());
        let mut taken: BTreeMap<ObjectId, &Path> = BTreeMap::new();
        for file in files {
            let sample = sample_of(file, is_z_up, num_points)?;
            if let Some(other) = taken.insert(sample.id.clone(), file) {
                return Err(TrainError::UnsuitableData {
                    reason: format!("it is called {} as {} is; rename one", sample.id, other.display()),
                    path: file.clone(),
                });
            }
            let category = sample.id.category();
            truth.push(knows_class(category).then(|| category.to_owned()));
            samples.push(sample);
        }
        Ok(Self {
            rows: Arc::new(MemorySource::new(samples)),
            truth,
        })
    }
}

/// A row of a file's points, in farthest-first order; repeated where they are too few.
fn sample_of(file: &Path, is_z_up: bool, num_points: usize) -> Result<Sample, TrainError> {
    let unsuitable = |reason: String| TrainError::UnsuitableData {
        reason,
        path: file.to_owned(),
    };
    let text =
        |part: Option<&std::ffi::OsStr>| part.and_then(|part| part.to_str()).unwrap_or_default().to_owned();
    let folder = file
        .parent()
        .map_or_else(String::new, |folder| text(folder.file_name()));
    let category = if folder.is_empty() {
        String::from("file")
    } else {
        folder
    };
    let id = ObjectId::try_new(&category, &text(file.file_stem()))
        .map_err(|error| unsuitable(error.to_string()))?;
    let mut points = read_cloud(file)?;
    let source_sha256 = hex(&Sha256::digest(
        points
            .as_flattened()
            .iter()
            .flat_map(|x| x.to_le_bytes())
            .collect::<Vec<u8>>(),
    ));
    if is_z_up {
        for point in &mut points {
            *point = [point[0], point[2], -point[1]];
        }
    }
    normalize(&mut points);
    let order = farthest_points(&points, num_points);
    let points: Vec<[f32; 3]> = order
        .iter()
        .cycle()
        .take(num_points)
        .map(|&place| points[place])
        .collect();
    Ok(Sample {
        id,
        category,
        label: 0,
        part_labels: None,
        normals: None,
        views: Vec::new(),
        coverage_min: None,
        object_from_mesh: [0.0; 16],
        source_sha256,
        assets_sha256: None,
        mesh: None,
        points,
    })
}

/// Rows with the labels that the network is told, and with what a batch of its task has.
struct Told {
    rows: Arc<dyn SampleSource>,
    labels: Vec<i64>,
    has_parts: bool,
}

impl SampleSource for Told {
    fn ids(&self) -> &[ObjectId] {
        self.rows.ids()
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
        let mut sample = self.rows.read(row, ViewSelection::None)?;
        sample.label = self.labels[row];
        if self.has_parts && sample.part_labels.is_none() {
            sample.part_labels = Some(vec![NO_PART; sample.points.len()]);
        }
        Ok(sample)
    }
}

/// Which classes of the network are right for a class of the data, by name. Classes that it does not list are not scored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ClassMap(pub BTreeMap<String, Vec<String>>);

impl ClassMap {
    /// Equal names.
    #[must_use]
    pub fn of_equal_names(classes: &[String]) -> Self {
        Self(
            classes
                .iter()
                .map(|class| (class.clone(), vec![class.clone()]))
                .collect(),
        )
    }

    /// Reads a TOML file, a line a class of the data: `desk = ["desk", "table"]`.
    ///
    /// # Errors
    /// Where it cannot be read, or names a class that the network has not.
    pub fn read(path: &Path, classes: &[String]) -> Result<Self, TrainError> {
        let text = std::fs::read_to_string(path).map_err(TrainError::io("read", path))?;
        let map: Self = toml::from_str(&text)
            .map_err(|error| invalid(format!("{}: {}", path.display(), error.message())))?;
        let unknown = map.0.values().flatten().find(|name| !classes.contains(name));
        match unknown {
            Some(name) => Err(invalid(format!(
                "{}: the run has no class '{name}', only {}",
                path.display(),
                classes.join(", ")
            ))),
            None => Ok(map),
        }
    }

    /// Scores logits of objects by the true classes that the map lists; none where there is none of them.
    fn score(
        &self,
        logits: &[Vec<f32>],
        truth: &[Option<String>],
        classes: &[String],
    ) -> Option<MappedScore> {
        let is_scored = |class: usize| self.0.values().flatten().any(|name| *name == classes[class]);
        let (mut num_right, mut num_right_among, mut num_scored) = (0_usize, 0_usize, 0_usize);
        for (logits, truth) in logits.iter().zip(truth) {
            let Some(right) = truth.as_ref().and_then(|truth| self.0.get(truth)) else {
                continue;
            };
            num_scored += 1;
            let is_right = |class: Option<usize>| class.is_some_and(|class| right.contains(&classes[class]));
            num_right += usize::from(is_right(largest(logits, |_| true)));
            num_right_among += usize::from(is_right(largest(logits, is_scored)));
        }
        (num_scored > 0).then(|| MappedScore {
            num_scored,
            num_not_scored: truth.len() - num_scored,
            accuracy: num_right as f64 / num_scored as f64,
            accuracy_among_mapped: num_right_among as f64 / num_scored as f64,
        })
    }
}

/// The class of the largest logit among some; the first of several.
fn largest(logits: &[f32], is_allowed: impl Fn(usize) -> bool) -> Option<usize> {
    let allowed = (0..logits.len()).filter(|&class| is_allowed(class));
    allowed.max_by(|&a, &b| logits[a].total_cmp(&logits[b]).then(b.cmp(&a)))
}

/// A score over the objects whose class the map lists.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MappedScore {
    /// Objects that were scored.
    pub num_scored: usize,
    /// Objects of other classes, or of none that is known.
    pub num_not_scored: usize,
    /// Accuracy where the network may name any of its classes, 0 to 1.
    pub accuracy: f64,
    /// Accuracy where it may name those alone that the map has, 0 to 1.
    pub accuracy_among_mapped: f64,
}

/// What was predicted.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PredictResult {
    /// The program's version.
    pub version: String,
    /// SHA-256 of what the run's configuration says about the numbers.
    pub config_sha256: String,
    /// Which weights.
    pub selection: String,
    /// Classes of the network, in the order of logits.
    pub classes: Vec<String>,
    /// Objects.
    pub num_objects: usize,
    /// Points of a cloud.
    pub num_points: usize,
    /// Which classes are right for which of the data; of a classification.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub class_map: Option<ClassMap>,
    /// The score over objects with a known class.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub score: Option<MappedScore>,
    /// Ids in row order, of a segmentation.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ids: Vec<String>,
    /// Device.
    pub device: String,
}

/// A finished run that is asked about objects.
#[derive(Debug)]
pub struct Predictor {
    /// Its plan.
    pub plan: Plan,
    /// Its classes, in label order.
    pub classes: Vec<String>,
    weights: RunWeights,
}

impl Predictor {
    /// Opens a fine-tuned run.
    ///
    /// # Errors
    /// Where it is a pre-training, not finished, or its weights do not name their classes.
    pub fn open(run: &Path, weights: &WeightChoice, on_event: OnEvent<'_>) -> Result<Self, TrainError> {
        let plan = Plan::read(&run.join(CONFIG_FILE))?;
        let refused = |reason: &str| TrainError::NoWeights {
            reason: reason.to_owned(),
            path: run.to_owned(),
        };
        if !matches!(plan.task, Task::Classify | Task::Segment) {
            return Err(refused(
                "the run names neither classes nor parts; fine-tune it first",
            ));
        }
        let weights = RunWeights::read(run, &plan, weights, on_event)?;
        let classes = weights.trained_on.classes.clone();
        let classes = classes.ok_or_else(|| refused("the weights do not name their classes"))?;
        Ok(Self {
            plan,
            classes,
            weights,
        })
    }

    fn load(&self, store: &VarStore) -> Result<(), TrainError> {
        let RunWeights { tensors, file, .. } = &self.weights;
        require_exact(copy_weights(store, tensors, ""), file).map(|_| ())
    }

    /// Names the class of objects; writes the files of a classification into `options.out`.
    ///
    /// # Errors
    /// Where an object cannot be read, an answer is not finite, or the folder cannot be written.
    pub fn classify(
        &self,
        objects: &[Unlabeled],
        map: ClassMap,
        options: &RunOptions,
    ) -> Result<PredictResult, TrainError> {
        let store = VarStore::new(options.device);
        let network = Classify::with_classes(&self.plan, self.classes.len(), &store);
        self.load(&store)?;
        let mut logits: Vec<Vec<f32>> = Vec::new();
        for of_source in objects {
            let told = vec![0; of_source.rows.len()];
            self.for_each_batch(of_source, told, options, |batch, cpu_batch| {
                let answers = no_grad(|| network.logits(batch, Mode::EVAL));
                require_finite(&answers, cpu_batch)?;
                logits.extend(
                    numbers(&answers)?
                        .chunks_exact(self.classes.len())
                        .map(<[f32]>::to_vec),
                );
                Ok(())
            })?;
        }
        let truth: Vec<Option<String>> = objects.iter().flat_map(|objects| objects.truth.clone()).collect();
        let ids: Vec<&ObjectId> = objects.iter().flat_map(|objects| objects.rows.ids()).collect();
        let result = PredictResult {
            score: map.score(&logits, &truth, &self.classes),
            class_map: Some(map),
            ..self.result(ids.len(), options)
        };
        write_atomic(
            &options.out.join(CLASSES_FILE),
            self.csv(&ids, &logits, &truth).as_bytes(),
        )?;
        let array = npy::encode_f32(&[ids.len(), self.classes.len()], &logits.concat());
        write_atomic(&options.out.join(LOGITS_FILE), &array)?;
        write_json(&options.out.join(PREDICT_FILE), &result)?;
        Ok(result)
    }

    /// Names the part of each point of objects of a known class, that of the data or `category`; writes the files of a
    /// segmentation.
    ///
    /// # Errors
    /// As for [`classify`](Self::classify), and where the class of an object is not known.
    pub fn segment(
        &self,
        objects: &[Unlabeled],
        category: Option<&str>,
        options: &RunOptions,
    ) -> Result<PredictResult, TrainError> {
        let store = VarStore::new(options.device);
        let network = Segment::of_plan(&self.plan, &store)?;
        self.load(&store)?;
        let (mut parts, mut truth, mut points): (Vec<u8>, Vec<u8>, Vec<f32>) =
            (Vec::new(), Vec::new(), Vec::new());
        for of_source in objects {
            let label = |(id, truth): (&ObjectId, &Option<String>)| {
                let name = category.or(truth.as_deref());
                let label = name.and_then(|name| self.classes.iter().position(|class| class == name));
                label.map(|label| label as i64).ok_or_else(|| {
                    invalid(format!(
                        "{id}: its class is not known, and the network has to be told it; pass --category with one of {}",
                        self.classes.join(", ")
                    ))
                })
            };
            let told = of_source.rows.ids().iter().zip(&of_source.truth).map(label);
            let told = told.collect::<Result<Vec<_>, _>>()?;
            self.for_each_batch(of_source, told, options, |batch, cpu_batch| {
                let answers = no_grad(|| network.predict(batch));
                require_finite(&answers, cpu_batch)?;
                let chosen = numbers(&answers.argmax(-1, false).to_kind(Kind::Float))?;
                parts.extend(chosen.into_iter().map(|part| part as u8));
                truth.extend(cpu_batch.part_labels.iter().map(|&part| part as u8));
                points.extend_from_slice(&cpu_batch.points);
                Ok(())
            })?;
        }
        let ids: Vec<String> = objects
            .iter()
            .flat_map(|objects| objects.rows.ids())
            .map(ToString::to_string)
            .collect();
        let num_points = self.plan.data.num_points;
        write_atomic(
            &options.out.join(PARTS_FILE),
            &npy::encode_u8(&[ids.len(), num_points], &parts),
        )?;
        if truth.iter().any(|&part| part != NO_PART) {
            write_atomic(
                &options.out.join(TRUE_PARTS_FILE),
                &npy::encode_u8(&[ids.len(), num_points], &truth),
            )?;
        }
        write_atomic(
            &options.out.join(POINTS_FILE),
            &npy::encode_f32(&[ids.len(), num_points, 3], &points),
        )?;
        let result = PredictResult {
            ids: ids.clone(),
            ..self.result(ids.len(), options)
        };
        write_json(&options.out.join(PREDICT_FILE), &result)?;
        Ok(result)
    }

    /// Calls `on_batch` with the batches of a source, whose labels are those `told`.
    fn for_each_batch(
        &self,
        objects: &Unlabeled,
        told: Vec<i64>,
        options: &RunOptions,
        mut on_batch: impl FnMut(&Batch, &CpuBatch) -> Result<(), TrainError>,
    ) -> Result<(), TrainError> {
        let rows: Arc<dyn SampleSource> = Arc::new(Told {
            rows: Arc::clone(&objects.rows),
            labels: told,
            has_parts: self.plan.parts.is_some(),
        });
        let batches = evaluation_batches(&self.plan, rows, ViewSampling::None, BATCH_SIZE);
        let steps = batches.sampler().steps_per_epoch();
        for cpu_batch in Loader::start(&batches, 0..steps, options.loader_threads) {
            let cpu_batch = cpu_batch?;
            on_batch(&cpu_batch.to_tensors(options.device), &cpu_batch)?;
        }
        Ok(())
    }

    fn result(&self, num_objects: usize, options: &RunOptions) -> PredictResult {
        PredictResult {
            version: VERSION.to_owned(),
            config_sha256: self.plan.identity_sha256(),
            selection: self.weights.selection.clone(),
            classes: self.classes.clone(),
            num_objects,
            num_points: self.plan.data.num_points,
            class_map: None,
            score: None,
            ids: Vec::new(),
            device: device_name(options.device),
        }
    }

    fn csv(&self, ids: &[&ObjectId], logits: &[Vec<f32>], truth: &[Option<String>]) -> String {
        let mut csv = String::from("id,class,probability,label\n");
        for ((id, logits), truth) in ids.iter().zip(logits).zip(truth) {
            let class = largest(logits, |_| true).unwrap_or(0);
            let sum: f32 = logits.iter().map(|logit| (logit - logits[class]).exp()).sum();
            let cells = [
                id.to_string(),
                self.classes[class].clone(),
                format!("{:.6}", 1.0 / sum),
                truth.clone().unwrap_or_default(),
            ];
            csv.push_str(&cells.map(|cell| csv::cell(&cell)).join(","));
            csv.push('\n');
        }
        csv
    }
}

/// Notes that names of the data and of the run are other ones.
pub fn note_unmapped(objects: &[Unlabeled], map: &ClassMap, on_event: OnEvent<'_>) {
    let mut unmapped: Vec<&str> = objects
        .iter()
        .flat_map(|objects| objects.truth.iter().flatten())
        .map(String::as_str)
        .filter(|name| !map.0.contains_key(*name))
        .collect();
    unmapped.sort_unstable();
    unmapped.dedup();
    if !unmapped.is_empty() {
        on_event(TrainEvent::Note(format!(
            "not scored, since the class map does not name them: {}",
            unmapped.join(", ")
        )));
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|&name| name.to_owned()).collect()
    }

    #[test]
    fn classes_are_scored_by_the_map_among_all_and_among_those_it_names() {
        let classes = names(&["chair", "desk", "table", "piano"]);
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("map.toml");
        std::fs::write(&file, "desk = [\"desk\", \"table\"]\nchair = [\"chair\"]\n").unwrap();
        let map = ClassMap::read(&file, &classes).unwrap();
        let logits = [
            vec![0.0, 1.0, 2.0, 0.0],
            vec![1.0, 0.0, 0.0, 2.0],
            vec![0.0, 3.0, 0.0, 0.0],
            vec![0.0, 0.0, 0.0, 1.0],
        ];
        let truth = ["desk", "chair", "chair", "bin"].map(|name| Some(name.to_owned()));
        let score = map.score(&logits, &truth, &classes).unwrap();
        assert_eq!(
            (score.num_scored, score.num_not_scored),
            (3, 1),
            "there is no bin in the map"
        );
        assert!((score.accuracy - 1.0 / 3.0).abs() < 1e-12, "{score:?}");
        assert!(
            (score.accuracy_among_mapped - 2.0 / 3.0).abs() < 1e-12,
            "no piano: {score:?}"
        );
        assert_eq!(map.score(&logits, &[None, None, None, None], &classes), None);

        std::fs::write(&file, "desk = [\"sofa\"]\n").unwrap();
        let error = ClassMap::read(&file, &classes).unwrap_err().to_string();
        assert!(
            error.contains("no class 'sofa'") && error.contains("chair, desk"),
            "{error}"
        );
        std::fs::write(&file, "desk = 3\n").unwrap();
        let error = ClassMap::read(&file, &classes).unwrap_err().to_string();
        assert!(!error.contains('\n'), "one line: {error}");
    }

    #[test]
    fn files_become_rows_of_the_length_asked_for() {
        let folder = tempfile::tempdir().unwrap();
        let chair = folder.path().join("chair");
        std::fs::create_dir(&chair).unwrap();
        let file = chair.join("a.xyz");
        std::fs::write(&file, "0 0 0\n0 0 4\n").unwrap();
        let objects =
            Unlabeled::of_files(std::slice::from_ref(&file), true, 5, |name| name == "chair").unwrap();
        assert_eq!(objects.truth, [Some(String::from("chair"))]);
        let sample = objects.rows.read(0, ViewSelection::None).unwrap();
        assert_eq!(sample.id.as_str(), "chair/a");
        assert_eq!(sample.points.len(), 5, "repeated");
        assert_eq!(
            sample.points[..2],
            [[0.0, -1.0, 0.0], [0.0, 1.0, 0.0]],
            "z became y, within the unit ball"
        );
        let twice = Unlabeled::of_files(&[file.clone(), file], true, 5, |_| false).unwrap_err();
        assert!(twice.to_string().contains("chair/a"), "{twice}");
    }
}
