//! The folder that commands which score a network write their result to.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::Args;
use serde::Serialize;
use tap_train::run::{RESULT_FILE, write_json};
use tap_train::task::classify::{CONFUSION_CSV, CONFUSION_PNG};
use tap_train::task::finetune::{Scored, Task, write_files};

use super::empty_folder;

/// Where a result is written to, if anywhere.
#[derive(Debug, Args)]
pub(super) struct ResultFolderArgs {
    /// A folder for `result.json`, which `tap-train table` reads, and, of a classification, `confusion.csv` and `confusion.png`.
    #[arg(long)]
    out: Option<PathBuf>,
    /// Replace an earlier result in that folder; refused where it holds anything else, or an input.
    #[arg(long, requires = "out")]
    force: bool,
}

impl ResultFolderArgs {
    /// The folder, if there is one.
    pub(super) fn path(&self) -> Option<&Path> {
        self.out.as_deref()
    }

    /// Empties it, before anything is computed.
    pub(super) fn empty(&self, inputs: &[&Path]) -> anyhow::Result<()> {
        match &self.out {
            Some(out) => empty_folder(
                out,
                self.force,
                inputs,
                &[RESULT_FILE, CONFUSION_CSV, CONFUSION_PNG],
            ),
            None => Ok(()),
        }
    }

    /// Writes `result`, and the files of the score in it.
    pub(super) fn write<T: Task>(
        &self,
        scored: &Scored<T::Score>,
        result: &impl Serialize,
    ) -> anyhow::Result<()> {
        let Some(out) = &self.out else { return Ok(()) };
        std::fs::create_dir_all(out).with_context(|| format!("cannot create {}", out.display()))?;
        write_files::<T>(out, scored)?;
        Ok(write_json(&out.join(RESULT_FILE), result)?)
    }
}
