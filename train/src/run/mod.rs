//! The run folder: `config.toml`, `request.toml`, `metrics.jsonl`, `events/`, `checkpoints/`, `samples/`,
//! `encoder.safetensors`, `result.json`, `non-finite-*/` of steps that could not be taken, and `.lock`, which one process holds at a time and which marks the folder as a
//! run's.

pub mod event;
pub mod fault;
pub mod image_grid;
pub mod request;
pub mod tensorboard;
pub mod weights;

use std::fs::{self, File, OpenOptions};
use std::io::{BufWriter, Write as _};
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;
use tap_dataset::atomic_file::partial_path;
use tap_dataset::{
    DatasetError, FolderLock, LOCK_FILE_NAME, OwnedFolder, RUN_FILES, StoreError, locked_kind, refuse_inputs,
};

use crate::config::{Plan, Task};
use crate::error::TrainError;
use crate::run::event::Record;
use crate::run::image_grid::ImageGrid;
use crate::run::request::{REQUEST_FILE, Request};
use crate::run::tensorboard::{EncodedImage, TensorBoardWriter};
use crate::weights::checkpoint::{self, Checkpoint, ENCODER_FILE, MODEL_FILE};
use crate::weights::safetensors::{check_hash_of, write_atomic};

/// The resolved configuration, as TOML.
pub const CONFIG_FILE: &str = "config.toml";
/// Records of training and evaluation, one JSON object a line.
pub const METRICS_FILE: &str = "metrics.jsonl";
/// Scalars that are left out of TensorBoard.
const NOT_PLOTTED: [&str; 3] = ["views_per_s", "elapsed_s", "loss_plain"];
/// The folder of checkpoints.
pub const CHECKPOINTS: &str = "checkpoints";
/// The results of a finished run, as JSON.
pub const RESULT_FILE: &str = "result.json";

/// Treatment of a folder that already holds a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Existing {
    /// An error.
    #[default]
    Refuse,
    /// It is deleted, if it is a run.
    Replace,
    /// It is continued; a new run if the folder is empty.
    Resume,
}

/// An open run folder.
#[derive(Debug)]
pub struct RunFolder {
    path: PathBuf,
    metrics: BufWriter<File>,
    events: TensorBoardWriter,
    is_new: bool,
    /// Steps of the checkpoint that this session read or wrote last.
    pub(crate) checkpoint_step: Option<u64>,
}

/// Kind of the folder in its lock file.
const LOCK_KIND: &str = "run";

/// Whether the folder holds a run.
#[must_use]
pub fn is_run(path: &Path) -> bool {
    path.join(CONFIG_FILE).is_file()
}

/// Locks `path` for one process, until dropped. Called before anything is read; changes no other file.
///
/// # Errors
/// Where the folder holds something that `existing` does not allow for, where a run that would be replaced is or holds
/// one of `inputs`, or where another process is at work in it.
pub fn lock(path: &Path, existing: Existing, inputs: &[&Path]) -> Result<FolderLock, TrainError> {
    look(path, existing)?;
    if existing == Existing::Replace {
        refuse_inputs(path, inputs.iter().copied())?;
    }
    Ok(FolderLock::take(path, LOCK_KIND)?)
}

/// Prepares `path` for a run: a run in it is removed, if it is to be replaced. Writes nothing yet.
///
/// # Errors
/// Where the folder holds something that `existing` does not allow for, or an old run cannot be removed.
pub fn prepare(path: &Path, existing: Existing) -> Result<(), TrainError> {
    look(path, existing)?;
    if existing == Existing::Replace {
        OwnedFolder::survey(path, &RUN_FILES)?.remove_contents()?;
    }
    Ok(())
}

/// The plan of the run in a folder; none where none was begun.
///
/// # Errors
/// Where it cannot be read or is damaged.
pub fn read_plan(path: &Path) -> Result<Option<Plan>, TrainError> {
    is_run(path)
        .then(|| Plan::read(&path.join(CONFIG_FILE)))
        .transpose()
}

/// The result of a run that is finished: its last step is taken, and its weights and its result are whole.
#[must_use]
pub fn finished<R: DeserializeOwned>(path: &Path, plan: &Plan) -> Option<R> {
    let weights = match plan.task {
        Task::Pretrain => ENCODER_FILE,
        Task::Classify | Task::Segment | Task::Other(_) => MODEL_FILE,
    };
    let result = serde_json::from_slice(&fs::read(path.join(RESULT_FILE)).ok()?).ok()?;
    check_hash_of(&path.join(weights)).ok()?;
    // Checkpoints of a finished run may have been removed to save space.
    let newest = Checkpoint::newest(&path.join(CHECKPOINTS)).ok()?;
    newest
        .is_none_or(|newest| newest.state.step == plan.phase.num_steps)
        .then_some(result)
}

/// Content of a folder that a run may be written to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Found {
    Nothing,
    Run,
}

/// Checks the content of a folder, whatever the plan.
fn look(path: &Path, existing: Existing) -> Result<Found, TrainError> {
    let mut entries = match fs::read_dir(path) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Found::Nothing),
        Err(error) => return Err(TrainError::io("read", path)(error)),
    };
    let is_empty = entries.all(|entry| entry.is_ok_and(|entry| entry.file_name() == LOCK_FILE_NAME));
    if is_empty {
        return Ok(Found::Nothing);
    }
    match existing {
        Existing::Refuse => Err(TrainError::RunExists {
            path: path.to_owned(),
        }),
        Existing::Replace => {
            refuse_what_is_no_run(path)?;
            Ok(Found::Run)
        }
        Existing::Resume if is_run(path) => Ok(Found::Run),
        // Killed, or out of disk space, before the configuration was written.
        Existing::Resume if refuse_what_is_no_run(path).is_ok() => Ok(Found::Nothing),
        Existing::Resume => {
            let reason = String::from("the folder holds something that is no run");
            Err(TrainError::Resume {
                reason,
                path: path.to_owned(),
            })
        }
    }
}

/// Refuses a folder that is not surely a run's: each entry must be one that runs write, and the proof is the
/// configuration or, where that was not written yet or is another version's, the lock or the request.
fn refuse_what_is_no_run(path: &Path) -> Result<(), TrainError> {
    let survey = OwnedFolder::survey(path, &RUN_FILES);
    let is_marked = locked_kind(path).as_deref() == Some(LOCK_KIND)
        || Request::read(path).is_ok_and(|request| request.is_some());
    let mut reason = match Plan::read(&path.join(CONFIG_FILE)) {
        _ if is_marked => return Ok(survey.map(drop)?),
        Ok(_) => return Ok(survey.map(drop)?),
        Err(TrainError::Io { .. }) => String::from("it has no config.toml"),
        Err(_) => String::from("its config.toml is not one of a run"),
    };
    if let Err(DatasetError::Store(StoreError::NotOurs { what, .. })) = survey {
        reason = format!("{reason}, and {what}");
    }
    Err(TrainError::NotARun {
        reason,
        path: path.to_owned(),
    })
}

impl RunFolder {
    /// Opens a prepared folder at `first_step`: drops later records of an interrupted session and deletes partial files.
    ///
    /// # Errors
    /// Where it cannot be written.
    pub fn open(path: &Path, plan: &Plan, first_step: u64) -> Result<Self, TrainError> {
        for folder in [CHECKPOINTS, "samples", "events"] {
            fs::create_dir_all(path.join(folder)).map_err(TrainError::io("create", path.join(folder)))?;
        }
        checkpoint::remove_partial(&path.join(CHECKPOINTS))?;
        checkpoint::remove_partial(path)?;
        let names = [
            REQUEST_FILE,
            CONFIG_FILE,
            METRICS_FILE,
            RESULT_FILE,
            ENCODER_FILE,
            MODEL_FILE,
        ];
        for name in names {
            remove_file(&partial_path(&path.join(name)))?;
        }
        remove_partial_images(&path.join("samples"))?;
        write_atomic(&path.join(CONFIG_FILE), plan.to_toml()?.as_bytes())?;
        let metrics_path = path.join(METRICS_FILE);
        let kept = kept_records(&metrics_path, first_step, plan.phase.num_steps)?;
        write_atomic(&metrics_path, &kept)?;
        let metrics = OpenOptions::new()
            .append(true)
            .open(&metrics_path)
            .map_err(TrainError::io("open", &metrics_path))?;
        let events = TensorBoardWriter::create(&path.join("events"), first_step)
            .map_err(TrainError::io("write", path.join("events")))?;
        Ok(Self {
            path: path.to_owned(),
            metrics: BufWriter::new(metrics),
            events,
            is_new: kept.is_empty(),
            checkpoint_step: (first_step > 0).then_some(first_step),
        })
    }

    /// Whether it had no records yet when it was opened.
    #[must_use]
    pub fn is_new(&self) -> bool {
        self.is_new
    }

    /// The folder of checkpoints.
    #[must_use]
    pub fn checkpoints(&self) -> PathBuf {
        self.path.join(CHECKPOINTS)
    }

    /// The folder itself.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Appends a record to `metrics.jsonl` and the TensorBoard file.
    ///
    /// # Errors
    /// Where it cannot be written.
    pub fn record(&mut self, record: &Record) -> Result<(), TrainError> {
        let path = self.path.join(METRICS_FILE);
        let mut line =
            serde_json::to_vec(record).map_err(|error| TrainError::io("write", &path)(error.into()))?;
        line.push(b'\n');
        self.metrics
            .write_all(&line)
            .map_err(TrainError::io("write", &path))?;
        let group = match record.kind.as_str() {
            Record::STEP => "train",
            // Scores of both kinds of fine-tuning have always been in one group.
            "segmentation" => "evaluation",
            kind => kind,
        };
        let scalars: Vec<(String, f64)> = record
            .scalars
            .iter()
            .filter(|(name, _)| !NOT_PLOTTED.contains(name))
            .map(|(name, value)| (format!("{group}/{name}"), value))
            .collect();
        self.events
            .scalars(record.step, &scalars)
            .map_err(TrainError::io("write", self.events.path()))
    }

    /// Writes a grid of images under `samples/NAME.png` and to TensorBoard.
    ///
    /// # Errors
    /// Where it cannot be written.
    pub fn images(&mut self, step: u64, name: &str, images: &ImageGrid) -> Result<PathBuf, TrainError> {
        let png = images.to_png()?;
        let path = self.path.join("samples").join(format!("{name}.png"));
        write_atomic(&path, &png)?;
        let image = EncodedImage {
            height_px: images.height_px,
            width_px: images.width_px,
            colorspace: 1,
            png: &png,
        };
        self.events
            .image(step, "samples", image)
            .map_err(TrainError::io("write", self.events.path()))?;
        Ok(path)
    }

    /// Flushes both files.
    ///
    /// # Errors
    /// Where it cannot be written.
    pub fn flush(&mut self) -> Result<(), TrainError> {
        self.metrics
            .flush()
            .map_err(TrainError::io("write", self.path.join(METRICS_FILE)))?;
        self.events
            .flush()
            .map_err(TrainError::io("write", self.events.path()))
    }

    /// Writes `result.json`.
    ///
    /// # Errors
    /// Where it cannot be written.
    pub fn result(&self, result: &impl Serialize) -> Result<(), TrainError> {
        write_json(&self.path.join(RESULT_FILE), result)
    }
}

fn remove_partial_images(folder: &Path) -> Result<(), TrainError> {
    for entry in fs::read_dir(folder).map_err(TrainError::io("read", folder))? {
        let path = entry.map_err(TrainError::io("read", folder))?.path();
        if path.to_string_lossy().ends_with(".png.partial") {
            remove_file(&path)?;
        }
    }
    Ok(())
}

fn remove_file(path: &Path) -> Result<(), TrainError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(TrainError::io("remove", path)(error))
        }
        _ => Ok(()),
    }
}

/// Writes a value as indented JSON.
///
/// # Errors
/// Where it cannot be written.
pub fn write_json(path: &Path, value: &impl Serialize) -> Result<(), TrainError> {
    let mut json =
        serde_json::to_vec_pretty(value).map_err(|error| TrainError::io("write", path)(error.into()))?;
    json.push(b'\n');
    write_atomic(path, &json)
}

/// The kinds of records that score an evaluation split.
const SCORE_KINDS: [&str; 3] = ["validation", "evaluation", "segmentation"];

/// The lines of a file of metrics without those that come after `step`, and without scores of the last step, since they
/// are computed after its checkpoint and will be computed again. A truncated last line is dropped too; every other line is
/// kept as it is, whether it is a record or not.
fn kept_records(path: &Path, step: u64, num_steps: u64) -> Result<Vec<u8>, TrainError> {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Vec::new(),
        Err(error) => return Err(TrainError::io("read", path)(error)),
    };
    let is_kept = |line: &&[u8]| {
        let Ok(record) = serde_json::from_slice::<serde_json::Value>(line) else {
            return line.ends_with(b"\n");
        };
        let Some(of_step) = record["step"].as_u64() else {
            return true;
        };
        let is_score = SCORE_KINDS.iter().any(|kind| record["kind"] == *kind);
        of_step <= step && (of_step < num_steps || !is_score)
    };
    let mut kept = Vec::with_capacity(bytes.len());
    for line in bytes.split_inclusive(|&byte| byte == b'\n').filter(is_kept) {
        kept.extend(line);
        if !line.ends_with(b"\n") {
            kept.push(b'\n');
        }
    }
    Ok(kept)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;
    use crate::scalar::Scalars;

    #[test]
    fn records_after_the_checkpoint_are_dropped() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(METRICS_FILE);
        let line = |step| {
            let scalars = [("accuracy", 0.5), ("mean_class_accuracy", 0.5)];
            let record = Record::new("evaluation", step, Scalars::from_iter(scalars));
            serde_json::to_string(&record).unwrap() + "\n"
        };
        fs::write(&path, line(1) + &line(2) + &line(3) + "{\"kind\":\"step\",\"st").unwrap();
        let kept = |path: &Path, step, num_steps| {
            String::from_utf8(kept_records(path, step, num_steps).unwrap()).unwrap()
        };
        assert_eq!(kept(&path, 2, 9), line(1) + &line(2), "up to step 2");
        assert_eq!(
            kept(&path, 9, 9),
            line(1) + &line(2) + &line(3),
            "without the torn line"
        );
        assert_eq!(
            kept(&path, 3, 3),
            line(1) + &line(2),
            "the last score is taken again"
        );
        assert_eq!(kept(&folder.path().join("none"), 9, 9), "", "no file, no records");
    }

    #[test]
    fn no_other_line_is_lost() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(METRICS_FILE);
        let validation = |step, loss| {
            let scalars = [
                ("loss", loss),
                ("loss_foreground", loss),
                ("loss_background", 0.5),
                ("loss_plain", f64::INFINITY),
            ];
            let record = Record::new(Record::VALIDATION, step, Scalars::from_iter(scalars));
            serde_json::to_string(&record).unwrap() + "\n"
        };
        let old = "{\"kind\":\"validation\",\"step\":2,\"loss\":null}\n";
        let foreign = "a note of mine\n{\"kind\":\"gpu\",\"watts\":300}\n\n\"step\"\n";
        let not_utf8: &[u8] = b"\xff\xfe\n";
        let later = validation(5, 1.0) + "{\"kind\":\"gpu\",\"step\":6}\n";
        let before = [
            validation(1, f64::NAN).as_bytes(),
            old.as_bytes(),
            foreign.as_bytes(),
            not_utf8,
            validation(3, 0.25).as_bytes(),
        ]
        .concat();
        let (late_note, torn) = (b"another note\n", b"{\"kind\":\"ste");
        fs::write(&path, [&before, later.as_bytes(), late_note, torn].concat()).unwrap();
        assert_eq!(
            kept_records(&path, 4, 9).unwrap(),
            [&before[..], late_note].concat(),
            "records of later steps and the torn line alone go"
        );
        for line in [&validation(1, f64::NAN), &validation(2, f64::NEG_INFINITY)] {
            let record: Record = serde_json::from_str(line).unwrap();
            assert_eq!(
                serde_json::to_string(&record).unwrap() + "\n",
                *line,
                "reads back"
            );
        }
        let last = "{\"kind\":\"step\",\"step\":5}\n{\"kind\":\"gpu\",\"step\":5}\n";
        fs::write(&path, validation(5, 1.0) + last).unwrap();
        assert_eq!(
            kept_records(&path, 5, 5).unwrap(),
            last.as_bytes(),
            "the last score alone is taken again"
        );
        let whole = validation(1, 1.0);
        fs::write(&path, whole.trim_end()).unwrap();
        assert_eq!(
            kept_records(&path, 4, 9).unwrap(),
            whole.as_bytes(),
            "whole but for its end of line"
        );
    }
}
