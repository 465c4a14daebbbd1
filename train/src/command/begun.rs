//! What `--resume` and `--continue-from` leave unsaid: the run that is in the folder, or that is continued, says it.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use tap_cli::exit_code;
use tap_train::config::Task;
use tap_train::ranks::Ranks;
use tap_train::run::fault::run_of;
use tap_train::run::request::Request;

use super::{ExistingArgs, require_inputs};

/// The request of a run that was begun, where one is resumed or continued and left it.
#[derive(Debug)]
pub(crate) struct Begun {
    pub(crate) request: Option<Request>,
    /// The folder that was looked into.
    folder: PathBuf,
}

impl Begun {
    /// Reads it, on rank 0: the others need not have the folder. A run that is resumed goes by its own request, though it
    /// continues another.
    pub(crate) fn read(existing: &ExistingArgs, out: &Path, ranks: &Ranks) -> anyhow::Result<Self> {
        let own = ranks
            .is_first()
            .then(|| Self::read_own(existing, out))
            .transpose()?;
        let request = own.as_ref().and_then(|own| own.request.as_ref());
        let request = request.map(Request::to_toml).transpose()?;
        let request = ranks.share("reading what the run was asked for", || Ok(request))?;
        Ok(match own {
            Some(own) => own,
            None => Self {
                request: request.as_deref().map(Request::from_toml).transpose()?,
                folder: out.to_owned(),
            },
        })
    }

    fn read_own(existing: &ExistingArgs, out: &Path) -> anyhow::Result<Self> {
        if existing.resume
            && let Some(request) = Request::read(out)?
        {
            return Ok(Self {
                request: Some(request),
                folder: out.to_owned(),
            });
        }
        let folder = existing.continue_from.as_deref().map(run_of);
        Ok(Self {
            request: folder.map(Request::read).transpose()?.flatten(),
            folder: folder.unwrap_or(out).to_owned(),
        })
    }

    /// The data set: as typed, or that of the run.
    pub(crate) fn data(&self, typed: Option<PathBuf>) -> anyhow::Result<PathBuf> {
        if let Some(data) = typed {
            require_inputs([("--data", Some(data.as_path()))])?;
            return Ok(data);
        }
        let folder = self.folder.display();
        let Some(request) = &self.request else {
            return Err(exit_code::usage(format_args!(
                "--data is required: there is no request.toml that says which data the run is of, and with which settings it was begun: {folder}"
            )));
        };
        let noted = request.data.as_ref().map(PathBuf::from);
        noted.with_context(|| format!("the run does not say where its data is; pass --data: {folder}"))
    }

    /// Refuses a run of another command.
    pub(crate) fn require_pretraining(&self, is_wanted: bool) -> anyhow::Result<()> {
        let Some(request) = &self.request else {
            return Ok(());
        };
        let is_pretraining = request.task == Task::Pretrain;
        let (what, command) = if is_pretraining {
            ("a pre-training", "pretrain")
        } else {
            ("a fine-tuning", "finetune")
        };
        anyhow::ensure!(
            is_pretraining == is_wanted,
            "the run is {what}; go on with `tap-train {command}`: {}",
            self.folder.display()
        );
        Ok(())
    }
}
