//! Checkpoints: all that a run needs to go on as if it had never stopped, and weights that move between networks.
//!
//! `RUN/checkpoints/step-0000000500/` holds `model.safetensors`, `optimizer.safetensors`, `state.json` and, where weights
//! are averaged, `ema.safetensors`. The folder is
//! written under a `.partial` name and renamed, so a checkpoint that exists is whole. No generator state is stored:
//! every draw is a function of (seed, step) or of (seed, epoch, sample id).

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use tch::nn::VarStore;
use tch::{Tensor, no_grad};

use crate::ema::Ema;
use crate::error::TrainError;
use crate::optim::AdamW;
use crate::tensor_file::{read_tensors, write_tensors, write_whole};

/// The version of the checkpoint's layout.
const FORMAT_VERSION: u32 = 1;
/// The file of all weights, of a checkpoint and of a finished fine-tuning.
pub const MODEL_FILE: &str = "model.safetensors";
const OPTIMIZER_FILE: &str = "optimizer.safetensors";
const EMA_FILE: &str = "ema.safetensors";
const STATE_FILE: &str = "state.json";
/// The file of encoder weights that a finished pre-training leaves.
pub const ENCODER_FILE: &str = "encoder.safetensors";
/// How every encoder key begins inside a whole model.
pub const ENCODER_PREFIX: &str = "encoder.";

/// What a checkpoint knows beside its tensors.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CheckpointState {
    /// Layout of the files.
    pub format_version: u32,
    /// Steps taken.
    pub step: u64,
    /// Steps that the optimizer took.
    pub optimizer_steps: i64,
    /// Names the plan: a checkpoint continues no other.
    pub plan_sha256: String,
    /// Seed of the run; with `step` it is the position of every generator.
    pub seed: u64,
    /// Wall-clock seconds of training so far.
    pub elapsed_s: f64,
    /// CPU seconds of training so far, over all threads.
    pub cpu_s: f64,
    /// Lowest validation loss so far; reported, never selected by.
    pub best_validation_loss: Option<f64>,
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
        }
    }
}

/// Writes a checkpoint into `folder` and removes all but the newest `keep`.
///
/// # Errors
/// Where it cannot be written; older ones are then untouched.
pub fn save(
    folder: &Path,
    state: &CheckpointState,
    store: &VarStore,
    optimizer: &AdamW,
    ema: Option<&Ema>,
    keep: usize,
) -> Result<PathBuf, TrainError> {
    let path = folder.join(format!("step-{:010}", state.step));
    let partial = folder.join(format!("step-{:010}.partial", state.step));
    remove_folder(&partial)?;
    fs::create_dir_all(&partial).map_err(TrainError::io("create", &partial))?;
    let metadata = BTreeMap::from([(String::from("plan_sha256"), state.plan_sha256.clone())]);
    write_tensors(
        &partial.join(MODEL_FILE),
        store.variables().into_iter().collect(),
        &metadata,
    )?;
    write_tensors(&partial.join(OPTIMIZER_FILE), optimizer.state(), &metadata)?;
    if let Some(ema) = ema {
        write_tensors(&partial.join(EMA_FILE), ema.state(), &metadata)?;
    }
    let json = serde_json::to_vec_pretty(state)
        .map_err(|error| TrainError::io("write", partial.join(STATE_FILE))(error.into()))?;
    write_whole(&partial.join(STATE_FILE), &json)?;
    sync_folder(&partial)?;
    // A run that was resumed from an older checkpoint may come by here again.
    remove_folder(&path)?;
    fs::rename(&partial, &path).map_err(TrainError::io("rename", &partial))?;
    sync_folder(folder)?;
    for old in list(folder)?.into_iter().rev().skip(keep.max(1)) {
        remove_folder(&old)?;
    }
    Ok(path)
}

/// The newest checkpoint of a folder.
///
/// # Errors
/// Where the folder cannot be read.
pub fn latest(folder: &Path) -> Result<Option<PathBuf>, TrainError> {
    Ok(list(folder)?.pop())
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
    let resume = |reason: String| TrainError::Resume {
        reason,
        path: path.to_owned(),
    };
    let bytes = fs::read(path.join(STATE_FILE)).map_err(TrainError::io("read", path.join(STATE_FILE)))?;
    let state: CheckpointState =
        serde_json::from_slice(&bytes).map_err(|error| resume(format!("state.json is damaged ({error})")))?;
    if state.format_version != FORMAT_VERSION {
        return Err(resume(format!(
            "the checkpoint has version {} and this program reads {FORMAT_VERSION}",
            state.format_version
        )));
    }
    Ok(state)
}

/// All weights of a run: those that it finished with, or those of its newest checkpoint.
///
/// # Errors
/// Where there are none.
pub fn model_file(run: &Path) -> Result<PathBuf, TrainError> {
    let file = run.join(MODEL_FILE);
    if file.is_file() {
        return Ok(file);
    }
    let reason =
        String::from("there is no model.safetensors and no checkpoint; has this run been fine-tuned?");
    let checkpoint = latest(&run.join("checkpoints"))?.ok_or(TrainError::Resume {
        reason,
        path: run.to_owned(),
    })?;
    Ok(checkpoint.join(MODEL_FILE))
}

/// The weights of a checkpoint.
///
/// # Errors
/// Where the file is damaged.
pub fn read_model(path: &Path) -> Result<BTreeMap<String, Tensor>, TrainError> {
    read_tensors(&path.join(MODEL_FILE))
}

/// The averaged weights of a checkpoint.
///
/// # Errors
/// Where there are none, or the file is damaged.
pub fn read_ema(path: &Path) -> Result<BTreeMap<String, Tensor>, TrainError> {
    read_tensors(&path.join(EMA_FILE))
}

/// Checkpoints by step, oldest first.
fn list(folder: &Path) -> Result<Vec<PathBuf>, TrainError> {
    if !folder.is_dir() {
        return Ok(Vec::new());
    }
    let mut paths = Vec::new();
    for entry in fs::read_dir(folder).map_err(TrainError::io("read", folder))? {
        let path = entry.map_err(TrainError::io("read", folder))?.path();
        let name = path
            .file_name()
            .and_then(|name| name.to_str())
            .unwrap_or_default();
        if name
            .strip_prefix("step-")
            .is_some_and(|step| step.bytes().all(|byte| byte.is_ascii_digit()))
        {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths)
}

fn remove_folder(path: &Path) -> Result<(), TrainError> {
    if path.exists() {
        fs::remove_dir_all(path).map_err(TrainError::io("remove", path))
    } else {
        Ok(())
    }
}

fn sync_folder(path: &Path) -> Result<(), TrainError> {
    // A folder can be opened and synced on Unix alone; elsewhere the rename has to do.
    if cfg!(unix) {
        File::open(path)
            .and_then(|folder| folder.sync_all())
            .map_err(TrainError::io("sync", path))?;
    }
    Ok(())
}

/// How a file of tensors fits a network.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct WeightReport {
    /// Tensors copied.
    pub num_copied: usize,
    /// Tensors of the network that the file has not.
    pub missing: Vec<String>,
    /// Tensors of the file that the network has not.
    pub unexpected: Vec<String>,
    /// Tensors of both with different shapes.
    pub differing: Vec<String>,
}

impl WeightReport {
    /// Does the file hold exactly the network's tensors?
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
/// Values are copied in place, as the optimizer's buffers demand. `num_batches_tracked` counters are ignored: nothing
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
pub fn encoder_tensors(store: &VarStore) -> Vec<(String, Tensor)> {
    store
        .variables()
        .into_iter()
        .filter_map(|(name, tensor)| {
            name.strip_prefix(ENCODER_PREFIX)
                .map(|name| (name.to_owned(), tensor))
        })
        .collect()
}

/// The encoder weights that a run folder or a file offers, keys without prefix, and the file they came from.
///
/// # Errors
/// Where there is none, or it is damaged.
pub fn read_encoder(path: &Path) -> Result<(BTreeMap<String, Tensor>, PathBuf), TrainError> {
    let file = if path.is_dir() {
        let finished = path.join(ENCODER_FILE);
        if finished.is_file() {
            finished
        } else {
            let checkpoint = latest(&path.join("checkpoints"))?;
            let reason =
                String::from("neither encoder.safetensors nor a checkpoint; was this run pre-trained?");
            checkpoint
                .ok_or(TrainError::Weights {
                    report: reason,
                    path: path.to_owned(),
                })?
                .join(MODEL_FILE)
        }
    } else {
        path.to_owned()
    };
    if file
        .extension()
        .is_some_and(|extension| extension == "pth" || extension == "pt")
    {
        let reason = String::from("bring it over with `tap-train import`");
        return Err(TrainError::TorchFile { reason, path: file });
    }
    let tensors = read_tensors(&file)?;
    // A whole model brings its encoder under a prefix. A Transformer's own keys may also begin with `encoder.`
    // (its mini-PointNet), so the prefix only counts where everything else belongs to the other parts of TAP.
    let is_whole = tensors
        .keys()
        .any(|name| name.starts_with("generator.") || name.starts_with("prediction."));
    let tensors = if is_whole {
        tensors
            .into_iter()
            .filter_map(|(name, tensor)| {
                name.strip_prefix(ENCODER_PREFIX)
                    .map(|name| (name.to_owned(), tensor))
            })
            .collect()
    } else {
        tensors
    };
    Ok((tensors, file))
}

/// SHA-256 of a file, in hexadecimal.
///
/// # Errors
/// Where it cannot be read.
pub fn file_sha256(path: &Path) -> Result<String, TrainError> {
    let mut file = File::open(path).map_err(TrainError::io("open", path))?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        let count = std::io::Read::read(&mut file, &mut buffer).map_err(TrainError::io("read", path))?;
        if count == 0 {
            return Ok(hex(&hash.finalize()));
        }
        hash.update(&buffer[..count]);
    }
}

/// Bytes as hexadecimal digits.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        use std::fmt::Write as _;
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
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
        clip_norm: 10.0,
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
            save(folder.path(), &state, &store, &optimizer, None, 2).unwrap();
        }
        assert_eq!(list(folder.path()).unwrap().len(), 2, "two are kept");
        let path = latest(folder.path()).unwrap().unwrap();
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

    #[test]
    fn encoder_keys_lose_their_prefix_and_find_their_way_back() {
        let folder = tempfile::tempdir().unwrap();
        let (store, _) = network(1);
        let path = folder.path().join(ENCODER_FILE);
        write_tensors(&path, encoder_tensors(&store), &BTreeMap::new()).unwrap();
        let (tensors, file) = read_encoder(folder.path()).unwrap();
        assert_eq!(file, path, "the finished encoder");
        assert!(tensors.contains_key("layer.weight"), "without prefix");
        let (other, _) = network(2);
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
}
