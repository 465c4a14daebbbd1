//! Checkpoints, from which a run resumes exactly, and copying of weights between networks.
//!
//! `RUN/checkpoints/step-0000000500/` holds `model.safetensors`, `optimizer.safetensors`, `state.json` and, where weights
//! are averaged, `ema.safetensors`. The folder is written under a `.partial` name and renamed, so a checkpoint that
//! exists was complete once. `state.json` has the SHA-256 of every file and its own, so later damage is detected, and a run
//! resumes from the newest intact checkpoint. No generator state is stored: every draw is a function of
//! (seed, step, micro-batch) or of (seed, epoch, sample id).

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use tap_dataset::atomic_file::{partial_path, sync_dir};
use tap_dataset::sha256::hex;
use tch::nn::VarStore;
use tch::{Tensor, no_grad};

use crate::error::TrainError;
use crate::optim::AdamW;
use crate::optim::ema::Ema;
use crate::weights::safetensors::{
    NO_HASH, file_sha256, read_tensors, read_weights, write_atomic, write_tensors,
};

/// The version of the checkpoint's layout. Version 1, without hashes, version 2, without threads, and version 3, without the
/// best checkpoint, are read too.
const FORMAT_VERSION: u32 = 4;
/// The file of all weights, of a checkpoint and of a finished fine-tuning.
pub const MODEL_FILE: &str = "model.safetensors";
const OPTIMIZER_FILE: &str = "optimizer.safetensors";
/// The file of averaged weights of a checkpoint.
pub(crate) const EMA_FILE: &str = "ema.safetensors";
pub(crate) const STATE_FILE: &str = "state.json";
/// The file of encoder weights that a finished pre-training leaves.
pub const ENCODER_FILE: &str = "encoder.safetensors";
/// Prefix of the encoder's keys in a whole model.
pub const ENCODER_PREFIX: &str = "encoder.";
/// Prefix of the names of folders with the state before a step that could not be taken.
pub(crate) const FAULT_PREFIX: &str = "non-finite-";
/// Suffix of the name of a checkpoint while it is written.
const PARTIAL: &str = ".partial";

/// Steps that were computed with the same threads and device. With others, sums are split elsewhere and differ in their
/// last bits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ComputeSpan {
    /// Steps taken before its first one.
    pub first_step: u64,
    /// Threads of torch.
    pub num_threads: usize,
    /// Device.
    pub device: String,
    /// Processes that computed them together.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub num_ranks: usize,
}

fn one() -> usize {
    1
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands a reference over")]
fn is_one(number: &usize) -> bool {
    *number == 1
}

impl std::fmt::Display for ComputeSpan {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let plural = if self.num_threads == 1 { "" } else { "s" };
        if self.num_ranks > 1 {
            write!(f, "{} ranks, each ", self.num_ranks)?;
        }
        write!(f, "{} with {} thread{plural}", self.device, self.num_threads)
    }
}

/// A checkpoint whose weights were scored on held-out objects.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BestCheckpoint {
    /// Its steps.
    pub step: u64,
    /// The loss.
    pub validation_loss: f64,
}

/// State of a checkpoint beside its tensors.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CheckpointState {
    /// Version of the layout of the files.
    pub format_version: u32,
    /// Steps taken.
    pub step: u64,
    /// Steps that the optimizer took.
    pub optimizer_steps: i64,
    /// SHA-256 of the plan; a checkpoint is refused by any other.
    pub plan_sha256: String,
    /// Seed of the run; with `step` it is the position of every generator.
    pub seed: u64,
    /// Wall-clock seconds of training so far.
    pub elapsed_s: f64,
    /// CPU seconds of training so far, over all threads.
    pub cpu_s: f64,
    /// Lowest validation loss so far; reported, never selected by.
    pub best_validation_loss: Option<f64>,
    /// The checkpoint with the lowest validation loss so far, which is kept beside the newest ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub best_checkpoint: Option<BestCheckpoint>,
    /// What the steps were computed with, in order; empty where an earlier version did not record it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub compute: Vec<ComputeSpan>,
    /// SHA-256 of each file beside it; only in the file itself.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    files: BTreeMap<String, String>,
    /// SHA-256 of the file with 64 zeros in this place; only in the file itself.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    state_sha256: String,
}

impl CheckpointState {
    /// At the beginning of a run.
    #[must_use]
    pub fn start(plan_sha256: String, seed: u64) -> Self {
        Self {
            format_version: FORMAT_VERSION,
            step: 0,
            optimizer_steps: 0,
            plan_sha256,
            seed,
            elapsed_s: 0.0,
            cpu_s: 0.0,
            best_validation_loss: None,
            best_checkpoint: None,
            compute: Vec::new(),
            files: BTreeMap::new(),
            state_sha256: String::new(),
        }
    }

    /// Records the validation loss of the checkpoint that is written now.
    pub(crate) fn note_validated(&mut self, validation_loss: f64) {
        let is_best = self
            .best_checkpoint
            .is_none_or(|best| validation_loss < best.validation_loss);
        if validation_loss.is_finite() && is_best {
            self.best_checkpoint = Some(BestCheckpoint {
                step: self.step,
                validation_loss,
            });
        }
    }

    /// Records what the following steps are computed with. Returns a note where the steps so far were computed with
    /// something else, and the numbers depend on it: two micro-batches give the same ones however they are dealt out.
    pub fn compute_with(
        &mut self,
        num_threads: usize,
        device: &str,
        num_ranks: usize,
        num_micro_batches: usize,
    ) -> Option<String> {
        let first_step = self.step;
        self.compute.retain(|span| span.first_step < first_step);
        let now = ComputeSpan {
            first_step,
            num_threads,
            device: device.to_owned(),
            num_ranks,
        };
        let before = self.compute.last();
        if before.map(ComputeSpan::to_string) == Some(now.to_string()) {
            return None;
        }
        let changes_numbers = |before: &&ComputeSpan| {
            let machine = |span: &ComputeSpan| (span.num_threads, span.device.clone());
            num_micro_batches > 2 || machine(before) != machine(&now)
        };
        let note = before.filter(changes_numbers).map(|before| {
            format!(
                "up to step {first_step} the run was computed on {before}, from here on {now}: the losses are not those of an unbroken run bit for bit"
            )
        });
        self.compute.push(now);
        note
    }

    fn without_hashes(self) -> Self {
        Self {
            format_version: FORMAT_VERSION,
            files: BTreeMap::new(),
            state_sha256: String::new(),
            ..self
        }
    }

    /// The file's text: this state, with the hashes of the files beside it and its own.
    fn to_json(&self, files: BTreeMap<String, String>) -> serde_json::Result<String> {
        let state = Self {
            format_version: FORMAT_VERSION,
            files,
            state_sha256: String::from(NO_HASH),
            ..self.clone()
        };
        let json = serde_json::to_string_pretty(&state)?;
        let hash = hex(&Sha256::digest(&json));
        Ok(json.replacen(NO_HASH, &hash, 1))
    }

    /// Reads `state.json` of the checkpoint at `path`, with the hashes still in it.
    fn read(path: &Path) -> Result<Self, TrainError> {
        /// What every version has.
        #[derive(Deserialize)]
        struct Outline {
            format_version: u32,
            #[serde(default)]
            state_sha256: String,
        }
        let file = path.join(STATE_FILE);
        let damaged = |reason: String| TrainError::DamagedCheckpoint {
            reason: format!("{STATE_FILE} {reason}"),
            path: path.to_owned(),
        };
        let unreadable = |error: serde_json::Error| damaged(format!("is not readable: {error}"));
        let json = fs::read_to_string(&file).map_err(TrainError::io("read", &file))?;
        let Outline {
            format_version,
            state_sha256,
        } = serde_json::from_str(&json).map_err(unreadable)?;
        let is_intact = (format_version == 1 && state_sha256.is_empty())
            || hex(&Sha256::digest(json.replacen(&state_sha256, NO_HASH, 1))) == state_sha256;
        if !is_intact {
            return Err(damaged(String::from("is not what was written")));
        }
        if !(1..=FORMAT_VERSION).contains(&format_version) {
            return Err(TrainError::Resume {
                reason: format!(
                    "the checkpoint has version {format_version} and this program reads up to {FORMAT_VERSION}"
                ),
                path: path.to_owned(),
            });
        }
        serde_json::from_str(&json).map_err(unreadable)
    }
}

/// An intact checkpoint.
#[derive(Debug)]
pub struct Checkpoint {
    /// Its folder.
    pub path: PathBuf,
    /// Its state.
    pub state: CheckpointState,
    /// Damaged newer checkpoints, each with the reason.
    pub damaged: Vec<String>,
}

impl Checkpoint {
    /// Verifies a checkpoint.
    ///
    /// # Errors
    /// Where a file is missing or damaged, or holds weights that are not finite.
    pub fn open(path: &Path) -> Result<Self, TrainError> {
        let mut state = CheckpointState::read(path)?;
        let damaged = |reason| TrainError::DamagedCheckpoint {
            reason,
            path: path.to_owned(),
        };
        if step_of(path).is_some_and(|step| step != state.step) {
            return Err(damaged(format!("its {STATE_FILE} is of step {}", state.step)));
        }
        for (name, expected) in std::mem::take(&mut state.files) {
            if file_sha256(&path.join(&name))? != expected {
                return Err(damaged(format!("{name} is not what was written")));
            }
        }
        if state.format_version == 1 {
            read_weights(&path.join(MODEL_FILE))?;
            read_tensors(&path.join(OPTIMIZER_FILE))?;
            if path.join(EMA_FILE).is_file() {
                read_weights(&path.join(EMA_FILE))?;
            }
        }
        Ok(Self {
            path: path.to_owned(),
            state: state.without_hashes(),
            damaged: Vec::new(),
        })
    }

    /// The newest intact checkpoint of a folder; none if there is no checkpoint at all.
    ///
    /// # Errors
    /// Where there are checkpoints and none is whole, or the folder cannot be read.
    pub fn newest(folder: &Path) -> Result<Option<Self>, TrainError> {
        let mut damaged = Vec::new();
        for path in list(folder)?.into_iter().rev() {
            match Self::open(&path) {
                Ok(checkpoint) => {
                    return Ok(Some(Self {
                        damaged,
                        ..checkpoint
                    }));
                }
                Err(error) if is_damage(&error) => {
                    let name = path.file_name().unwrap_or_default().display();
                    damaged.push(format!("{name}: {}", reason(&error)));
                }
                Err(error) => return Err(error),
            }
        }
        if damaged.is_empty() {
            return Ok(None);
        }
        Err(TrainError::DamagedCheckpoints {
            damages: damaged.join("; "),
            path: folder.to_owned(),
        })
    }

    /// A note on damaged checkpoints and the one that is used instead.
    #[must_use]
    pub fn damage_note(&self) -> Option<String> {
        (!self.damaged.is_empty()).then(|| {
            format!(
                "damaged checkpoint {}; going on from that of step {}",
                self.damaged.join("; "),
                self.state.step
            )
        })
    }

    /// The file of its weights: the averaged ones, where the run averages.
    #[must_use]
    pub fn weights_file(&self) -> PathBuf {
        let average = self.path.join(EMA_FILE);
        if average.is_file() {
            average
        } else {
            self.path.join(MODEL_FILE)
        }
    }
}

/// Whether the file is damaged, in contrast to an I/O error.
fn is_damage(error: &TrainError) -> bool {
    match error {
        TrainError::Io { source, .. } => matches!(
            source.kind(),
            std::io::ErrorKind::NotFound
                | std::io::ErrorKind::UnexpectedEof
                | std::io::ErrorKind::InvalidData
        ),
        // Of another version.
        TrainError::Resume { .. } => false,
        _ => true,
    }
}

/// The reason of an error, without the path.
fn reason(error: &TrainError) -> String {
    let file = |path: &Path| path.file_name().unwrap_or_default().display().to_string();
    match error {
        TrainError::DamagedCheckpoint { reason, .. } => reason.clone(),
        TrainError::TensorFile { reason, path } => format!("{} is damaged ({reason})", file(path)),
        TrainError::NonFiniteWeights { name, path } => format!("'{name}' in {} is not finite", file(path)),
        TrainError::Io { source, path, .. } => format!("{}: {source}", file(path)),
        error => error.to_string(),
    }
}

/// What a checkpoint holds; `metadata` goes into its files of weights.
#[derive(Debug, Clone, Copy)]
pub struct Saved<'a> {
    /// State beside the tensors.
    pub state: &'a CheckpointState,
    /// Weights.
    pub store: &'a VarStore,
    /// Moments.
    pub optimizer: &'a AdamW,
    /// Averaged weights.
    pub ema: Option<&'a Ema>,
    /// Of its files of weights.
    pub metadata: &'a BTreeMap<String, String>,
}

/// Writes a checkpoint into `folder` and removes all but the newest `keep` and the one with the lowest validation loss.
///
/// # Errors
/// Where it cannot be written; older ones are then untouched.
pub fn save(folder: &Path, saved: &Saved<'_>, keep: usize) -> Result<PathBuf, TrainError> {
    let path = path_of(folder, saved.state.step);
    saved.write(&path, &[])?;
    // Later ones are damaged, since the run went on from an older one: they are not counted, and stay until they are
    // written again.
    let older = list(folder)?.into_iter().rev().filter(|other| *other <= path);
    let best = saved.state.best_checkpoint.map(|best| best.step);
    for old in older.skip(keep.max(1)) {
        if step_of(&old) != best {
            remove_folder(&old)?;
        }
    }
    Ok(path)
}

impl Saved<'_> {
    /// Writes it at `path`, with further files; an earlier one there is replaced when this one is complete.
    ///
    /// # Errors
    /// Where it cannot be written; nothing is there then that was not there before.
    pub(crate) fn write(&self, path: &Path, further: &[(&str, &[u8])]) -> Result<(), TrainError> {
        let partial = partial_path(path);
        remove_folder(&partial)?;
        let written = self.write_files(&partial, further);
        if written.is_err() {
            // On a full disk half a checkpoint is in the way; where it cannot be removed, the next session does it.
            let _ = remove_folder(&partial);
        }
        written?;
        // A run that was resumed from an older checkpoint may come by here again.
        remove_folder(path)?;
        fs::rename(&partial, path).map_err(TrainError::io("rename", &partial))?;
        let folder = path.parent().unwrap_or(path);
        sync_dir(folder).map_err(TrainError::io("sync", folder))
    }

    fn write_files(&self, folder: &Path, further: &[(&str, &[u8])]) -> Result<(), TrainError> {
        fs::create_dir_all(folder).map_err(TrainError::io("create", folder))?;
        let mut metadata = self.metadata.clone();
        metadata.insert(String::from("plan_sha256"), self.state.plan_sha256.clone());
        let mut files = BTreeMap::new();
        let mut write = |name: &str, tensors| -> Result<(), TrainError> {
            let file = folder.join(name);
            write_tensors(&file, tensors, &metadata)?;
            files.insert(name.to_owned(), file_sha256(&file)?);
            Ok(())
        };
        write(MODEL_FILE, self.store.variables().into_iter().collect())?;
        // Before the first step the buffers of moments are not allocated, and a session that goes on must not have them
        // either: matrix products may round differently for another alignment of the weights.
        let moments = match self.state.optimizer_steps {
            0 => Vec::new(),
            _ => self.optimizer.state(),
        };
        write(OPTIMIZER_FILE, moments)?;
        if let Some(ema) = self.ema {
            write(EMA_FILE, ema.state())?;
        }
        for (name, bytes) in further {
            let file = folder.join(name);
            write_atomic(&file, bytes)?;
            files.insert((*name).to_owned(), file_sha256(&file)?);
        }
        let json = self
            .state
            .to_json(files)
            .map_err(|error| TrainError::io("write", folder.join(STATE_FILE))(error.into()))?;
        write_atomic(&folder.join(STATE_FILE), json.as_bytes())?;
        sync_dir(folder).map_err(TrainError::io("sync", folder))
    }
}

/// Removes partially written checkpoints, and states before steps that could not be taken.
///
/// # Errors
/// Where the folder cannot be read or changed.
pub fn remove_partial(folder: &Path) -> Result<(), TrainError> {
    for path in entries(folder)? {
        let name = path
            .file_name()
            .and_then(|name| name.to_str())
            .unwrap_or_default();
        let is_partial = name.strip_suffix(PARTIAL).map(Path::new).is_some_and(|whole| {
            let of_fault = number_of(whole, FAULT_PREFIX);
            step_of(whole).or(of_fault).is_some()
        });
        if is_partial {
            remove_folder(&path)?;
        }
    }
    Ok(())
}

/// Restores a checkpoint.
///
/// # Errors
/// Where a file is damaged, or belongs to another plan or network.
pub fn load(
    path: &Path,
    plan_sha256: &str,
    store: &VarStore,
    optimizer: &mut AdamW,
) -> Result<CheckpointState, TrainError> {
    let state = read_state(path)?;
    if state.plan_sha256 != plan_sha256 {
        return Err(TrainError::Resume {
            reason: String::from("the checkpoint is of another configuration"),
            path: path.to_owned(),
        });
    }
    let tensors = read_tensors(&path.join(MODEL_FILE))?;
    let report = copy_weights(store, &tensors, "");
    if !report.is_exact() {
        return Err(TrainError::Weights {
            report: report.to_string(),
            path: path.join(MODEL_FILE),
        });
    }
    let moments = read_tensors(&path.join(OPTIMIZER_FILE))?.into_iter().collect();
    optimizer.load_state(state.optimizer_steps, moments)?;
    Ok(state)
}

/// Reads the state of a checkpoint.
///
/// # Errors
/// Where it is damaged or of another version.
pub fn read_state(path: &Path) -> Result<CheckpointState, TrainError> {
    Ok(CheckpointState::read(path)?.without_hashes())
}

/// The averaged weights of a checkpoint.
///
/// # Errors
/// Where there are none, or the file is damaged.
pub fn read_ema(path: &Path) -> Result<BTreeMap<String, Tensor>, TrainError> {
    read_tensors(&path.join(EMA_FILE))
}

/// Where the checkpoint of a step lies in a folder of checkpoints.
pub(crate) fn path_of(folder: &Path, step: u64) -> PathBuf {
    folder.join(format!("step-{step:010}"))
}

/// The step in the name of a checkpoint's folder.
pub(crate) fn step_of(path: &Path) -> Option<u64> {
    number_of(path, "step-")
}

/// The number in the name of a folder, behind `prefix`.
fn number_of(path: &Path, prefix: &str) -> Option<u64> {
    let digits = path.file_name()?.to_str()?.strip_prefix(prefix)?;
    let is_number = digits.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| digits.parse().ok()).flatten()
}

/// Checkpoints by step, oldest first.
pub(crate) fn list(folder: &Path) -> Result<Vec<PathBuf>, TrainError> {
    let mut paths = entries(folder)?;
    paths.retain(|path| step_of(path).is_some());
    paths.sort_by_key(|path| step_of(path));
    Ok(paths)
}

/// Entries of a folder; none if it does not exist.
fn entries(folder: &Path) -> Result<Vec<PathBuf>, TrainError> {
    if !folder.is_dir() {
        return Ok(Vec::new());
    }
    fs::read_dir(folder)
        .map_err(TrainError::io("read", folder))?
        .map(|entry| Ok(entry.map_err(TrainError::io("read", folder))?.path()))
        .collect()
}

fn remove_folder(path: &Path) -> Result<(), TrainError> {
    if path.exists() {
        fs::remove_dir_all(path).map_err(TrainError::io("remove", path))
    } else {
        Ok(())
    }
}

/// Report on loading weights into a network.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct WeightReport {
    /// Tensors copied.
    pub num_copied: usize,
    /// Tensors of the network that are missing in the file.
    pub missing: Vec<String>,
    /// Tensors of the file that the network does not have.
    pub unexpected: Vec<String>,
    /// Tensors of both with different shapes.
    pub differing: Vec<String>,
}

impl WeightReport {
    /// Whether the file holds exactly the network's tensors.
    #[must_use]
    pub fn is_exact(&self) -> bool {
        self.missing.is_empty() && self.unexpected.is_empty() && self.differing.is_empty()
    }
}

impl std::fmt::Display for WeightReport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} tensors fit", self.num_copied)?;
        for (what, names) in [
            ("missing", &self.missing),
            ("unexpected", &self.unexpected),
            ("of another shape", &self.differing),
        ] {
            if !names.is_empty() {
                write!(f, ", {} {what} ({})", names.len(), names.join(", "))?;
            }
        }
        Ok(())
    }
}

/// Copies `tensors` into those variables of `store` whose names begin with `prefix`; the files' names lack it.
///
/// Values are copied in place, since the variables are views of the optimizer's buffers. `num_batches_tracked` counters are ignored: nothing
/// reads them.
#[must_use]
pub fn copy_weights(store: &VarStore, tensors: &BTreeMap<String, Tensor>, prefix: &str) -> WeightReport {
    let mut report = WeightReport::default();
    let variables: BTreeMap<String, Tensor> = store
        .variables()
        .into_iter()
        .filter_map(|(name, tensor)| name.strip_prefix(prefix).map(|name| (name.to_owned(), tensor)))
        .collect();
    let counts = |name: &str| name.ends_with("num_batches_tracked");
    for (name, variable) in &variables {
        match tensors.get(name) {
            None if counts(name) => {}
            None => report.missing.push(name.clone()),
            Some(tensor) if tensor.size() != variable.size() => {
                report.differing.push(format!(
                    "{name}: {:?} in the file, {:?} in the network",
                    tensor.size(),
                    variable.size()
                ));
            }
            Some(tensor) => {
                no_grad(|| variable.shallow_clone().copy_(tensor));
                report.num_copied += 1;
            }
        }
    }
    report.unexpected.extend(
        tensors
            .keys()
            .filter(|name| !variables.contains_key(*name) && !counts(name))
            .cloned(),
    );
    report
}

/// The encoder of a store, keys without their prefix.
#[must_use]
pub fn encoder_tensors(store: &VarStore, prefix: &str) -> Vec<(String, Tensor)> {
    store
        .variables()
        .into_iter()
        .filter_map(|(name, tensor)| name.strip_prefix(prefix).map(|name| (name.to_owned(), tensor)))
        .collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;
    use crate::optim::AdamWConfig;
    use tch::{Device, Kind, nn};

    const CONFIG: AdamWConfig = AdamWConfig {
        beta1: 0.9,
        beta2: 0.999,
        epsilon: 1e-8,
        weight_decay: 0.05,
        max_grad_norm: 10.0,
    };

    fn network(seed: i64) -> (VarStore, nn::Linear) {
        tch::manual_seed(seed);
        let store = VarStore::new(Device::Cpu);
        let layer = nn::linear(
            store.root() / "encoder" / "layer",
            3,
            2,
            nn::LinearConfig::default(),
        );
        (store, layer)
    }

    #[test]
    fn a_checkpoint_restores_weights_and_moments_and_old_ones_go() {
        let folder = tempfile::tempdir().unwrap();
        let (store, layer) = network(1);
        let mut optimizer = AdamW::new(CONFIG, store.variables());
        let mut state = CheckpointState::start(String::from("p"), 1);
        for step in 1..=4 {
            let loss = Tensor::ones([4, 3], (Kind::Float, Device::Cpu))
                .apply(&layer)
                .square()
                .sum(Kind::Float);
            optimizer.step(&loss, 0.1).unwrap();
            (state.step, state.optimizer_steps) = (step, optimizer.num_steps());
            let saved = Saved {
                state: &state,
                store: &store,
                optimizer: &optimizer,
                ema: None,
                metadata: &BTreeMap::new(),
            };
            save(folder.path(), &saved, 2).unwrap();
        }
        assert_eq!(list(folder.path()).unwrap().len(), 2, "two are kept");
        let path = Checkpoint::newest(folder.path()).unwrap().unwrap().path;
        let (other_store, _) = network(2);
        let mut other_optimizer = AdamW::new(CONFIG, other_store.variables());
        assert_eq!(
            load(&path, "p", &other_store, &mut other_optimizer).unwrap(),
            state,
            "the state"
        );
        for (name, tensor) in store.variables().into_iter().collect::<BTreeMap<_, _>>() {
            assert_eq!(tensor, other_store.variables()[&name], "{name}");
        }
        assert_eq!(
            optimizer.state().len(),
            other_optimizer.state().len(),
            "moments of both parameters"
        );
        let error = load(&path, "q", &other_store, &mut other_optimizer)
            .unwrap_err()
            .to_string();
        assert!(error.contains("another configuration"), "{error}");
    }

    #[test]
    fn the_best_checkpoint_is_kept_beside_the_newest() {
        let folder = tempfile::tempdir().unwrap();
        let (store, _) = network(1);
        let optimizer = AdamW::new(CONFIG, store.variables());
        let mut state = CheckpointState::start(String::from("p"), 1);
        for (step, loss) in [(1, 3.0), (2, 1.0), (3, 2.0), (4, f64::NAN), (5, 1.5)] {
            state.step = step;
            state.note_validated(loss);
            let saved = Saved {
                state: &state,
                store: &store,
                optimizer: &optimizer,
                ema: None,
                metadata: &BTreeMap::new(),
            };
            save(folder.path(), &saved, 2).unwrap();
        }
        let kept: Vec<u64> = list(folder.path())
            .unwrap()
            .iter()
            .filter_map(|path| step_of(path))
            .collect();
        assert_eq!(kept, [2, 4, 5], "the best and the last two");
        let read = Checkpoint::newest(folder.path()).unwrap().unwrap().state;
        assert_eq!(read.best_checkpoint.map(|best| best.step), Some(2), "{read:?}");
    }

    #[test]
    fn weights_that_do_not_fit_are_listed() {
        let (store, _) = network(1);
        let tensors = BTreeMap::from([
            (
                String::from("layer.weight"),
                Tensor::zeros([2, 4], (Kind::Float, Device::Cpu)),
            ),
            (
                String::from("extra"),
                Tensor::zeros([1], (Kind::Float, Device::Cpu)),
            ),
        ]);
        let report = copy_weights(&store, &tensors, ENCODER_PREFIX);
        assert!(!report.is_exact(), "{report}");
        let text = report.to_string();
        for part in ["layer.bias", "extra", "[2, 4] in the file, [2, 3] in the network"] {
            assert!(text.contains(part), "{text}");
        }
    }

    /// A folder with the checkpoints of these steps, and what they hold.
    fn saved(folder: &Path, steps: &[u64]) -> CheckpointState {
        let (store, _) = network(1);
        let optimizer = AdamW::new(CONFIG, store.variables());
        let ema = Ema::new(&store, 0.5, 0);
        let mut state = CheckpointState::start(String::from("p"), 1);
        for &step in steps {
            state.step = step;
            let saved = Saved {
                state: &state,
                store: &store,
                optimizer: &optimizer,
                ema: Some(&ema),
                metadata: &BTreeMap::new(),
            };
            save(folder, &saved, 9).unwrap();
        }
        state
    }

    #[test]
    fn a_damaged_file_of_a_checkpoint_is_found_and_the_one_before_takes_its_place() {
        let folder = tempfile::tempdir().unwrap();
        saved(folder.path(), &[5, 10]);
        let newest = list(folder.path()).unwrap().pop().unwrap();
        for name in [MODEL_FILE, OPTIMIZER_FILE, EMA_FILE, STATE_FILE] {
            let file = newest.join(name);
            let whole = fs::read(&file).unwrap();
            let mut flipped = whole.clone();
            let place = whole.len() - 7;
            flipped[place] ^= 1;
            for bytes in [
                Some(&flipped[..]),
                Some(&whole[..whole.len() / 2]),
                Some(&[]),
                None,
            ] {
                match bytes {
                    Some(bytes) => fs::write(&file, bytes).unwrap(),
                    None => fs::remove_file(&file).unwrap(),
                }
                let found = Checkpoint::newest(folder.path()).unwrap().unwrap();
                assert_eq!(found.state.step, 5, "{name}");
                let note = found.damage_note().unwrap();
                assert!(
                    note.contains(name) && note.contains("step-0000000010") && note.ends_with("of step 5"),
                    "{note}"
                );
            }
            fs::write(&file, &whole).unwrap();
        }
        let found = Checkpoint::newest(folder.path()).unwrap().unwrap();
        assert_eq!((found.state.step, found.damage_note()), (10, None), "whole again");
        for path in list(folder.path()).unwrap() {
            fs::write(path.join(MODEL_FILE), "damaged").unwrap();
        }
        let error = Checkpoint::newest(folder.path()).unwrap_err().to_string();
        assert!(
            error.contains("step-0000000010: model") && error.contains("step-0000000005: model"),
            "each is named: {error}"
        );
        let nothing = Checkpoint::newest(&folder.path().join("none")).unwrap();
        assert!(nothing.is_none(), "a run that has only begun");
    }

    #[test]
    fn other_threads_are_noted_from_their_step_on() {
        let mut state = CheckpointState::start(String::from("p"), 1);
        assert_eq!(state.compute_with(2, "cpu", 1, 4), None, "a new run");
        state.step = 4;
        assert_eq!(state.compute_with(2, "cpu", 1, 4), None, "as before");
        let note = state.compute_with(1, "cpu", 1, 4).unwrap();
        assert!(
            note.contains("step 4") && note.contains("2 threads, from here on cpu with 1 thread:"),
            "{note}"
        );
        // That session took no step, and neither do those after it.
        assert_eq!(state.compute_with(2, "cpu", 2, 2), None, "the same numbers");
        state.compute_with(2, "cpu", 2, 4).unwrap();
        state.compute_with(3, "cuda:0", 1, 4).unwrap();
        let steps: Vec<_> = state
            .compute
            .iter()
            .map(|span| (span.first_step, span.num_threads))
            .collect();
        assert_eq!(steps, [(0, 2), (4, 3)]);
        state.compute.clear();
        assert_eq!(
            state.compute_with(1, "cpu", 1, 4),
            None,
            "of an earlier version nothing is known"
        );
    }

    #[test]
    fn every_byte_of_the_state_counts() {
        let folder = tempfile::tempdir().unwrap();
        let state = saved(folder.path(), &[5]);
        let path = list(folder.path()).unwrap().remove(0);
        assert_eq!(read_state(&path).unwrap(), state, "as it was saved");
        let whole = fs::read(path.join(STATE_FILE)).unwrap();
        for place in 0..whole.len() {
            let mut changed = whole.clone();
            changed[place] ^= 1;
            fs::write(path.join(STATE_FILE), &changed).unwrap();
            assert!(
                Checkpoint::open(&path).is_err(),
                "byte {place}: {}",
                String::from_utf8_lossy(&changed)
            );
        }
    }

    #[test]
    fn a_checkpoint_of_version_1_is_read_and_its_numbers_are_looked_at() {
        let folder = tempfile::tempdir().unwrap();
        let state = saved(folder.path(), &[5, 10]);
        for path in list(folder.path()).unwrap() {
            let json = fs::read_to_string(path.join(STATE_FILE)).unwrap();
            let mut json: serde_json::Value = serde_json::from_str(&json).unwrap();
            let fields = json.as_object_mut().unwrap();
            fields.remove("files");
            fields.remove("state_sha256");
            fields.insert(String::from("format_version"), serde_json::json!(1));
            fs::write(path.join(STATE_FILE), json.to_string()).unwrap();
        }
        let found = Checkpoint::newest(folder.path()).unwrap().unwrap();
        assert_eq!(found.state, state, "the state");
        let nan = Tensor::from_slice(&[f32::NAN]);
        write_tensors(
            &found.path.join(MODEL_FILE),
            vec![(String::from("norm.running_var"), nan)],
            &BTreeMap::new(),
        )
        .unwrap();
        let found = Checkpoint::newest(folder.path()).unwrap().unwrap();
        assert_eq!(found.state.step, 5, "the one before");
        let note = found.damage_note().unwrap();
        assert!(note.contains("'norm.running_var'"), "{note}");
    }

    #[test]
    fn a_damaged_later_checkpoint_takes_no_place_and_what_was_half_written_goes() {
        let folder = tempfile::tempdir().unwrap();
        saved(folder.path(), &[5, 20]);
        fs::create_dir(folder.path().join("step-0000000007.partial")).unwrap();
        fs::create_dir(folder.path().join("mine.partial")).unwrap();
        let (store, _) = network(1);
        let optimizer = AdamW::new(CONFIG, store.variables());
        let mut state = CheckpointState::start(String::from("p"), 1);
        state.step = 10;
        let saved = Saved {
            state: &state,
            store: &store,
            optimizer: &optimizer,
            ema: None,
            metadata: &BTreeMap::new(),
        };
        save(folder.path(), &saved, 1).unwrap();
        remove_partial(folder.path()).unwrap();
        let mut names: Vec<_> = fs::read_dir(folder.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        assert_eq!(
            names,
            ["mine.partial", "step-0000000010", "step-0000000020"],
            "the one that was written stays, whatever lies behind it"
        );
    }
}
