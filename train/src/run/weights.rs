//! Weights that a run offers to others: which file they are in, what they were trained on, and that they are whole.
//!
//! A number is of the weights that it names: those that a run finished with, or those of a checkpoint with its step. Where
//! a run averages its weights, the average is what it offers.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use tch::Tensor;

use crate::config::{Plan, Selection, Task};
use crate::error::TrainError;
use crate::model::EncoderConfig;
use crate::run::event::{OnEvent, TrainEvent};
use crate::run::request::Request;
use crate::run::{CHECKPOINTS, CONFIG_FILE};
use crate::weights::checkpoint::{self, Checkpoint, ENCODER_FILE, ENCODER_PREFIX, MODEL_FILE, STATE_FILE};
use crate::weights::file_kind::FileKind;
use crate::weights::safetensors::{read_metadata, read_weights};

/// The best weights so far of a fine-tuning that selects, in the run's folder until it is finished.
pub(crate) const BEST_FILE: &str = "best.safetensors";
/// Where files of weights keep the class names, as JSON.
pub(crate) const CLASSES_KEY: &str = "classes";
/// Where they keep how many objects of each class were trained on, as JSON.
const OBJECTS_KEY: &str = "train_objects_per_class";

/// Which weights of a run are meant.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum WeightChoice {
    /// Those that it finished with.
    #[default]
    Finished,
    /// Those of its newest whole checkpoint.
    Latest,
    /// Those that an evaluation liked best: of a pre-training the checkpoint with the lowest validation loss, of a
    /// fine-tuning that selects its weights the best so far.
    Best,
    /// Those of the checkpoint of this step.
    Step(u64),
    /// Those of a file, or of the folder of a checkpoint.
    File(PathBuf),
}

/// The objects that weights were trained on, as their file says.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TrainedOn {
    /// Class names in label order; none where the file does not say.
    pub classes: Option<Vec<String>>,
    /// Training objects of each class; empty where the file does not say.
    pub objects_per_class: Vec<usize>,
}

impl TrainedOn {
    /// Counts `labels`, the labels of the training rows.
    #[must_use]
    pub fn new(classes: &[String], labels: &[i64]) -> Self {
        let count = |class: usize| labels.iter().filter(|&&label| label == class as i64).count();
        Self {
            classes: Some(classes.to_vec()),
            objects_per_class: (0..classes.len()).map(count).collect(),
        }
    }

    /// Metadata of a file of weights.
    #[must_use]
    pub fn to_metadata(&self) -> BTreeMap<String, String> {
        let classes = self.classes.as_ref().map(|classes| serde_json::json!(classes));
        let entries = [
            (CLASSES_KEY, classes),
            (OBJECTS_KEY, Some(serde_json::json!(self.objects_per_class))),
        ];
        entries
            .into_iter()
            .filter_map(|(key, value)| Some((key.to_owned(), value?.to_string())))
            .collect()
    }

    /// What metadata says; files of earlier versions leave some of it out.
    #[must_use]
    pub fn from_metadata(metadata: &BTreeMap<String, String>) -> Self {
        let objects = metadata.get(OBJECTS_KEY);
        Self {
            // What is no list of names is no class name that any data has.
            classes: metadata
                .get(CLASSES_KEY)
                .map(|json| serde_json::from_str(json).unwrap_or_default()),
            objects_per_class: objects
                .and_then(|json| serde_json::from_str(json).ok())
                .unwrap_or_default(),
        }
    }
}

/// All weights of a run.
#[derive(Debug)]
pub struct RunWeights {
    /// By name.
    pub tensors: BTreeMap<String, Tensor>,
    /// The file that they are in.
    pub file: PathBuf,
    /// What they were trained on.
    pub trained_on: TrainedOn,
    /// Steps that they were trained for.
    pub num_steps: u64,
    /// Text for results: of the last step or a checkpoint, raw or moving average.
    pub selection: String,
}

impl RunWeights {
    /// Reads the weights that `choice` means of `run`, whose plan is `plan`. A note says where a damaged checkpoint was
    /// passed over.
    ///
    /// # Errors
    /// Where there are none, the run is not finished though that was asked for, or they are damaged, of another
    /// configuration, or not finite.
    pub fn read(
        run: &Path,
        plan: &Plan,
        choice: &WeightChoice,
        on_event: OnEvent<'_>,
    ) -> Result<Self, TrainError> {
        let chosen = Chosen::of(run, plan, choice)?;
        if let Some(note) = chosen.damage_note() {
            on_event(TrainEvent::Note(note));
        }
        let file = chosen.file(plan);
        let metadata = read_metadata(&file)?;
        let of_plan = metadata.get("config_sha256").or(metadata.get("plan_sha256"));
        let request = Request::read(run)?;
        if of_plan.is_some_and(|sha256| !is_named(plan, request.as_ref(), sha256)) {
            return Err(TrainError::NoWeights {
                reason: format!("the weights are of another configuration than {CONFIG_FILE} of the run"),
                path: file,
            });
        }
        let (num_steps, selection) = chosen.described(plan, &metadata);
        Ok(Self {
            tensors: read_weights(&file)?,
            trained_on: TrainedOn::from_metadata(&metadata),
            file,
            num_steps,
            selection,
        })
    }
}

/// The weights of a run that a choice means.
#[derive(Debug)]
enum Chosen {
    /// The last ones of a run that is finished.
    Finished(PathBuf),
    /// Those of a checkpoint, and whether they were chosen for their validation loss.
    Checkpoint(Box<Checkpoint>, bool),
    /// The best so far of a fine-tuning that selects.
    Best(PathBuf),
    /// A file that was named.
    File(PathBuf),
}

impl Chosen {
    fn of(run: &Path, plan: &Plan, choice: &WeightChoice) -> Result<Self, TrainError> {
        let folder = run.join(CHECKPOINTS);
        let finished = run.join(MODEL_FILE);
        Ok(match choice {
            WeightChoice::Finished if finished.is_file() => Self::Finished(finished),
            WeightChoice::Finished => {
                return Err(TrainError::NotFinished {
                    step: newest_of(run)?.state.step,
                    num_steps: plan.phase.num_steps,
                    path: run.to_owned(),
                });
            }
            WeightChoice::Latest => Self::Checkpoint(newest_of(run)?.into(), false),
            WeightChoice::Best => Self::best(run, plan)?,
            WeightChoice::Step(step) => {
                let path = checkpoint::path_of(&folder, *step);
                if !path.is_dir() {
                    return Err(not_there(
                        run,
                        &format!("the run has no checkpoint of step {step}"),
                    ));
                }
                Self::Checkpoint(Checkpoint::open(&path)?.into(), false)
            }
            WeightChoice::File(path) if path.join(STATE_FILE).is_file() => {
                Self::Checkpoint(Checkpoint::open(path)?.into(), false)
            }
            WeightChoice::File(path) if path.is_file() => Self::File(path.clone()),
            WeightChoice::File(path) => {
                return Err(not_there(
                    run,
                    &format!("{} is neither a file of weights nor a checkpoint", path.display()),
                ));
            }
        })
    }

    fn best(run: &Path, plan: &Plan) -> Result<Self, TrainError> {
        let (so_far, finished) = (run.join(BEST_FILE), run.join(MODEL_FILE));
        if plan.task != Task::Pretrain {
            return match plan.phase.select {
                _ if so_far.is_file() => Ok(Self::Best(so_far)),
                Selection::Validation | Selection::BestOnTest if finished.is_file() => {
                    Ok(Self::Finished(finished))
                }
                _ => Err(not_there(
                    run,
                    "the run does not keep its best weights, as a fine-tuning with --set finetune.select=validation does",
                )),
            };
        }
        let best = newest_of(run)?.state.best_checkpoint;
        let path = best.map(|best| checkpoint::path_of(&run.join(CHECKPOINTS), best.step));
        let Some(path) = path.filter(|path| path.is_dir()) else {
            return Err(not_there(
                run,
                "no checkpoint of the run was written together with a validation (log.validate_every, log.checkpoint_every)",
            ));
        };
        Ok(Self::Checkpoint(Checkpoint::open(&path)?.into(), true))
    }

    fn file(&self, plan: &Plan) -> PathBuf {
        match self {
            Self::Checkpoint(checkpoint, _) if plan.phase.ema_decay > 0.0 => {
                checkpoint.path.join(checkpoint::EMA_FILE)
            }
            Self::Checkpoint(checkpoint, _) => checkpoint.path.join(MODEL_FILE),
            Self::Finished(file) | Self::Best(file) | Self::File(file) => file.clone(),
        }
    }

    fn damage_note(&self) -> Option<String> {
        match self {
            Self::Checkpoint(checkpoint, _) => checkpoint.damage_note(),
            Self::Finished(_) | Self::Best(_) | Self::File(_) => None,
        }
    }

    /// Steps that the weights were trained for, and text for results. `metadata` is that of the file.
    fn described(&self, plan: &Plan, metadata: &BTreeMap<String, String>) -> (u64, String) {
        let num_steps = plan.phase.num_steps;
        let noted = ["step", "num_steps"]
            .iter()
            .find_map(|key| metadata.get(*key)?.parse().ok());
        match self {
            Self::Finished(_) => (num_steps, plan.selection()),
            Self::Checkpoint(checkpoint, is_best) => {
                let best = if *is_best {
                    ", the lowest validation loss"
                } else {
                    ""
                };
                let average = if plan.phase.ema_decay > 0.0 {
                    ", moving average"
                } else {
                    ""
                };
                let step = checkpoint.state.step;
                (
                    step,
                    format!("checkpoint of step {step} of {num_steps}{best}{average}"),
                )
            }
            Self::Best(_) => {
                let step = noted.unwrap_or(num_steps);
                (
                    step,
                    format!("{}, so far: step {step} of {num_steps}", plan.selection()),
                )
            }
            Self::File(file) => {
                let of_folder = file.parent().and_then(checkpoint::step_of);
                let step = noted.or(of_folder).unwrap_or(num_steps);
                (step, format!("weights of {}", file.display()))
            }
        }
    }
}

/// The newest whole checkpoint of a run.
fn newest_of(run: &Path) -> Result<Checkpoint, TrainError> {
    Checkpoint::newest(&run.join(CHECKPOINTS))?.ok_or_else(|| TrainError::NoWeights {
        reason: String::from("the run has no weights: neither a model.safetensors nor a checkpoint"),
        path: run.to_owned(),
    })
}

/// The error where a run has no weights that are asked for: why, and what there is.
fn not_there(run: &Path, reason: &str) -> TrainError {
    let steps: Vec<String> = checkpoint::list(&run.join(CHECKPOINTS))
        .unwrap_or_default()
        .iter()
        .filter_map(|path| checkpoint::step_of(path))
        .map(|step| step.to_string())
        .collect();
    let mut there = match steps.as_slice() {
        [] => Vec::new(),
        [step] => vec![format!("the checkpoint of step {step}")],
        steps => vec![format!("checkpoints of steps {}", steps.join(", "))],
    };
    for (file, what) in [
        (BEST_FILE, "the best weights so far"),
        (MODEL_FILE, "the weights that it finished with"),
    ] {
        if run.join(file).is_file() {
            there.push(what.to_owned());
        }
    }
    if there.is_empty() {
        there.push(String::from("no weights"));
    }
    TrainError::NoWeights {
        reason: format!("{reason}; it has {}", there.join(" and ")),
        path: run.to_owned(),
    }
}

/// Where the encoder lies that a choice means, as [`read_encoder`] takes it: the run itself where nothing is chosen.
///
/// # Errors
/// Where there are no such weights, or `run` is no run.
pub fn encoder_path(run: &Path, choice: Option<&WeightChoice>) -> Result<PathBuf, TrainError> {
    let Some(choice) = choice else {
        return Ok(run.to_owned());
    };
    if let WeightChoice::File(path) = choice {
        return Ok(path.clone());
    }
    let config = run.join(CONFIG_FILE);
    if !config.is_file() {
        return Err(TrainError::NoWeights {
            reason: String::from("--checkpoint chooses among the weights of a run, and this is none"),
            path: run.to_owned(),
        });
    }
    Ok(match Chosen::of(run, &Plan::read(&config)?, choice)? {
        Chosen::Checkpoint(checkpoint, _) => checkpoint.path,
        Chosen::Finished(path) | Chosen::Best(path) | Chosen::File(path) => path,
    })
}

/// Whether a file of weights or a checkpoint that names `sha256` is of a run with this plan.
pub(crate) fn is_named(plan: &Plan, request: Option<&Request>, sha256: &str) -> bool {
    let earlier = request.and_then(|request| request.earlier_config_sha256.as_deref());
    plan.identity_sha256() == sha256 || plan.sha256() == sha256 || earlier == Some(sha256)
}

/// Where files of weights keep how the names of the encoder's tensors begin; empty where the file holds nothing else.
pub(crate) const ENCODER_PREFIX_KEY: &str = "encoder_prefix";
/// Where they keep which encoder it is, as JSON.
const ENCODER_KEY: &str = "encoder";

/// Metadata that says which tensors of a file are the encoder, and what it is.
#[must_use]
pub fn encoder_metadata(prefix: &str, encoder: &EncoderConfig) -> BTreeMap<String, String> {
    let encoder = serde_json::json!(encoder);
    BTreeMap::from([
        (String::from(ENCODER_PREFIX_KEY), prefix.to_owned()),
        (String::from(ENCODER_KEY), encoder.to_string()),
    ])
}

/// The weights of an encoder, keys without prefix.
#[derive(Debug)]
pub struct EncoderWeights {
    /// By name.
    pub tensors: BTreeMap<String, Tensor>,
    /// The file that they are in.
    pub file: PathBuf,
    /// Notes for the user: the weights are of a checkpoint, or a damaged checkpoint was skipped.
    pub notes: Vec<String>,
}

/// Reads the encoder weights that a run, a checkpoint or a file offers. Of a run that is not finished they are those of
/// its newest whole checkpoint, and a note says so.
///
/// # Errors
/// Where there are none, or they are damaged or not finite.
pub fn read_encoder(path: &Path) -> Result<EncoderWeights, TrainError> {
    let (file, notes) = if path.is_dir() {
        file_of_run(path)?
    } else {
        (path.to_owned(), Vec::new())
    };
    if matches!(FileKind::of(&file)?, FileKind::Zip | FileKind::Pickle) {
        return Err(TrainError::NotImported { path: file });
    }
    let tensors = read_weights(&file)?;
    let prefix = match read_metadata(&file)?.remove(ENCODER_PREFIX_KEY) {
        Some(prefix) => prefix,
        None => guessed_prefix(&tensors).to_owned(),
    };
    let tensors = tensors
        .into_iter()
        .filter_map(|(name, tensor)| Some((name.strip_prefix(&prefix)?.to_owned(), tensor)))
        .collect();
    Ok(EncoderWeights { tensors, file, notes })
}

/// Of a file whose metadata does not say it, as in earlier versions: a whole model has its encoder under a prefix. A
/// Transformer's own keys may also begin with `encoder.` (its mini-PointNet), so the prefix only counts where everything else
/// belongs to the other parts of TAP.
fn guessed_prefix(tensors: &BTreeMap<String, Tensor>) -> &'static str {
    let is_whole = tensors
        .keys()
        .any(|name| name.starts_with("generator.") || name.starts_with("prediction."));
    if is_whole { ENCODER_PREFIX } else { "" }
}

/// The file of weights in the folder of a run or a checkpoint, and notes for the user.
fn file_of_run(folder: &Path) -> Result<(PathBuf, Vec<String>), TrainError> {
    if folder.join(STATE_FILE).is_file() {
        return Ok((Checkpoint::open(folder)?.weights_file(), Vec::new()));
    }
    let finished = [ENCODER_FILE, MODEL_FILE].map(|name| folder.join(name));
    if let Some(file) = finished.into_iter().find(|file| file.is_file()) {
        return Ok((file, Vec::new()));
    }
    let checkpoint = Checkpoint::newest(&folder.join(CHECKPOINTS))?.ok_or_else(|| TrainError::NoWeights {
        reason: String::from("neither encoder.safetensors nor a checkpoint; was this run pre-trained?"),
        path: folder.to_owned(),
    })?;
    let step = checkpoint.state.step;
    let num_steps = Plan::read(&folder.join(CONFIG_FILE)).map(|plan| plan.phase.num_steps);
    let file = checkpoint.weights_file();
    let mut notes: Vec<String> = checkpoint.damage_note().into_iter().collect();
    if num_steps.as_ref().ok() != Some(&step) {
        let of = num_steps.map_or_else(|_| String::new(), |num_steps| format!(" of {num_steps}"));
        notes.push(format!(
            "the run is not finished: the weights of its checkpoint of step {step}{of} are taken, from {}",
            file.display()
        ));
    }
    Ok((file, notes))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;
    use crate::weights::checkpoint::{copy_weights, encoder_tensors};
    use crate::weights::safetensors::write_tensors;
    use tch::Device;
    use tch::nn::{self, VarStore};

    fn network(seed: i64) -> VarStore {
        tch::manual_seed(seed);
        let store = VarStore::new(Device::Cpu);
        let path = store.root() / "encoder" / "layer";
        let _ = nn::linear(path, 3, 2, nn::LinearConfig::default());
        store
    }

    #[test]
    fn encoder_keys_lose_their_prefix_and_find_their_way_back() {
        let folder = tempfile::tempdir().unwrap();
        let store = network(1);
        let path = folder.path().join(ENCODER_FILE);
        write_tensors(&path, encoder_tensors(&store, ENCODER_PREFIX), &BTreeMap::new()).unwrap();
        let EncoderWeights { tensors, file, notes } = read_encoder(folder.path()).unwrap();
        assert_eq!(file, path, "the finished encoder");
        assert!(notes.is_empty(), "{notes:?}");
        assert!(tensors.contains_key("layer.weight"), "without prefix");
        let other = network(2);
        assert!(
            copy_weights(&other, &tensors, ENCODER_PREFIX).is_exact(),
            "all of it"
        );
        assert_eq!(
            store.variables()["encoder.layer.weight"],
            other.variables()["encoder.layer.weight"],
            "copied"
        );
    }

    #[test]
    fn the_metadata_of_a_file_says_which_tensors_are_the_encoder() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.safetensors");
        let tensor = |name: &str| {
            (
                name.to_owned(),
                Tensor::zeros([2], (tch::Kind::Float, Device::Cpu)),
            )
        };
        let names = |metadata: &BTreeMap<String, String>| -> Vec<String> {
            let tensors = ["student.a", "student.encoder.b", "prediction.c"].map(tensor);
            write_tensors(&path, tensors.into(), metadata).unwrap();
            read_encoder(&path).unwrap().tensors.into_keys().collect()
        };
        let encoder = EncoderConfig::point_net2_mini();
        assert_eq!(
            names(&encoder_metadata("student.", &encoder)),
            ["a", "encoder.b"],
            "as it says"
        );
        assert_eq!(names(&encoder_metadata("", &encoder)).len(), 3, "all of it");
        assert!(
            names(&BTreeMap::new()).is_empty(),
            "without a word by the names of TAP's parts"
        );
    }

    #[test]
    fn metadata_tells_what_was_there_and_old_files_tell_nothing() {
        let classes = ["ball", "box"].map(String::from);
        let trained_on = TrainedOn::new(&classes, &[1, 1, 0, 1]);
        assert_eq!(trained_on.objects_per_class, [1, 3], "counted");
        assert_eq!(
            TrainedOn::from_metadata(&trained_on.to_metadata()),
            trained_on,
            "there and back"
        );
        assert_eq!(
            TrainedOn::from_metadata(&BTreeMap::new()),
            TrainedOn::default(),
            "nothing"
        );
    }
}
