//! What can go wrong while training.

use std::io;
use std::path::PathBuf;

use tap_cli::settings::SettingsError;
use tap_dataset::DatasetError;
use tch::TchError;

/// An error of this crate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TrainError {
    /// An I/O error.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// The failed operation, as a verb.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// The data cannot be read.
    #[error(transparent)]
    Dataset(#[from] DatasetError),
    /// The data is readable but not what the task needs.
    #[error("{reason}: {}", path.display())]
    UnsuitableData {
        /// What is missing, and what to do.
        reason: String,
        /// The data folder.
        path: PathBuf,
    },
    /// An error of libtorch.
    #[error("libtorch failed while {action}")]
    Torch {
        /// The operation.
        action: &'static str,
        /// The cause.
        #[source]
        source: TchError,
    },
    /// A preset, a file or a `--set` cannot be used.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// The configuration contradicts itself or the data.
    #[error("invalid configuration: {reason}")]
    Config {
        /// The key and what is wrong with it.
        reason: String,
    },
    /// The output folder holds something already.
    #[error("the run folder is not empty; pass --resume to continue it or --force to replace it: {}", path.display())]
    RunExists {
        /// The folder.
        path: PathBuf,
    },
    /// The folder was not written by this program, so it is not replaced.
    #[error("the folder is not a run ({reason}), so --force does not replace it: {}", path.display())]
    NotARun {
        /// How it shows.
        reason: String,
        /// The folder.
        path: PathBuf,
    },
    /// A run cannot be continued.
    #[error("cannot resume: {reason}: {}", path.display())]
    Resume {
        /// What does not fit.
        reason: String,
        /// The run folder or checkpoint.
        path: PathBuf,
    },
    /// A run cannot be continued by another one.
    #[error("cannot continue from this run: {reason}: {}", path.display())]
    Continue {
        /// What does not fit.
        reason: String,
        /// The folder of the run.
        path: PathBuf,
    },
    /// A file of tensors is damaged.
    #[error("not a readable safetensors file ({reason}): {}", path.display())]
    TensorFile {
        /// What is wrong with it.
        reason: String,
        /// The file.
        path: PathBuf,
    },
    /// A file of PyTorch's own format cannot be read.
    #[error("not a readable PyTorch file ({reason}): {}", path.display())]
    TorchFile {
        /// What is wrong with it.
        reason: String,
        /// The file.
        path: PathBuf,
    },
    /// A file of PyTorch's stands where weights of this program are expected.
    #[error("a file of PyTorch has to be read by `tap-train import FILE --out encoder.safetensors` first: {}", path.display())]
    NotImported {
        /// The file.
        path: PathBuf,
    },
    /// Weights belong to another network.
    #[error("the weights do not fit this network: {report}: {}", path.display())]
    Weights {
        /// Missing, unexpected and differently shaped tensors.
        report: String,
        /// The file.
        path: PathBuf,
    },
    /// A moment belongs to no parameter.
    #[error("the optimizer state holds '{name}', which fits no parameter of this network")]
    OptimizerState {
        /// The tensor's name.
        name: String,
    },
    /// The gradient is infinite or not a number.
    #[error("the gradient is not finite")]
    NonFiniteGradient,
    /// The next step of the optimizer would leave the range of its numbers.
    #[error("the update is not finite")]
    NonFiniteUpdate,
    /// A step cannot be taken: its loss, gradient or update is infinite or not a number.
    #[error(
        "{what} is not finite at step {step} ({samples}); the step is not taken, and `tap-train replay` repeats it from {}", folder.display()
    )]
    NonFinite {
        /// The term of the loss, or the tensor.
        what: String,
        /// The step, counted from 1.
        step: u64,
        /// The samples at fault, or those of the batch.
        samples: String,
        /// The folder with what is known of it.
        folder: PathBuf,
    },
    /// A weight or a running statistic became infinite or not a number.
    #[error("'{name}' is not finite after step {step}; weights of the last checkpoint are kept")]
    NonFiniteState {
        /// The tensor.
        name: String,
        /// Steps taken.
        step: u64,
    },
    /// A file holds weights that are infinite or not a number.
    #[error("'{name}' is not finite, so the weights are of no use: {}", path.display())]
    NonFiniteWeights {
        /// The first such tensor.
        name: String,
        /// The file.
        path: PathBuf,
    },
    /// A network answered with something that is infinite or not a number.
    #[error("the network's output is not finite; objects of the batch: {ids}")]
    NonFiniteOutput {
        /// The objects of the batch.
        ids: String,
    },
    /// A run has no final weights yet.
    #[error(
        "the run is not finished, its newest checkpoint is of step {step} of {num_steps}; finish it with --resume, or pass --checkpoint {step} or --checkpoint latest: {}", path.display()
    )]
    NotFinished {
        /// Of the newest checkpoint.
        step: u64,
        /// Steps of the whole run.
        num_steps: u64,
        /// The run folder.
        path: PathBuf,
    },
    /// A run has no weights that are asked for.
    #[error("{reason}: {}", path.display())]
    NoWeights {
        /// What is missing.
        reason: String,
        /// The run folder.
        path: PathBuf,
    },
    /// A file of a checkpoint is missing or was changed.
    #[error("the checkpoint is damaged ({reason}): {}", path.display())]
    DamagedCheckpoint {
        /// Which file, and what is wrong with it.
        reason: String,
        /// The checkpoint.
        path: PathBuf,
    },
    /// No checkpoint of a run is whole.
    #[error("no checkpoint is whole ({damages}): {}", path.display())]
    DamagedCheckpoints {
        /// What is wrong with each.
        damages: String,
        /// The folder of checkpoints.
        path: PathBuf,
    },
    /// A file holds no 2D network that is known, or a damaged one.
    #[error("not the weights of a 2D network: {reason}: {}", path.display())]
    ImageEncoder {
        /// What it looks like, or what does not fit.
        reason: String,
        /// The file.
        path: PathBuf,
    },
    /// A name stands for a 2D network that was never downloaded.
    #[error(
        "the weights of {name} are in none of the folders {}; download {url} and name the file",
        listed(folders)
    )]
    NotDownloaded {
        /// The name.
        name: &'static str,
        /// Where they were looked for.
        folders: Vec<PathBuf>,
        /// Where the publisher has them.
        url: &'static str,
    },
    /// This process cannot become one of several that train together.
    #[error("cannot start as one of several processes: {reason}")]
    Launch {
        /// The variable of the environment that is wrong, or who did not come.
        reason: String,
    },
    /// Processes that train together lost each other.
    #[error(
        "lost the other ranks while {action}: {reason}; start all of them again, with --resume to go on from the last checkpoint"
    )]
    Ranks {
        /// What they were at.
        action: &'static str,
        /// What the connection says.
        reason: String,
    },
    /// Processes that train together differ in what has to be the same.
    #[error("rank {rank} has another {what} than rank 0")]
    OtherRank {
        /// The first one that differs.
        rank: usize,
        /// What it has, and how it differs.
        what: String,
    },
    /// The device that was asked for is not there.
    #[error("device '{device}' cannot be used: {reason}")]
    Device {
        /// What was asked for.
        device: String,
        /// Why not.
        reason: String,
    },
}

impl TrainError {
    /// An I/O error with its verb and path.
    pub(crate) fn io(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { action, path, source }
    }
}

/// Paths one after the other.
fn listed(paths: &[PathBuf]) -> String {
    let paths: Vec<_> = paths.iter().map(|path| path.display().to_string()).collect();
    paths.join(", ")
}
