//! What a sweep is asked for, kept in its folder.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use serde::{Deserialize, Serialize};
use tap_train::run::request::{REQUEST_FILE, noted};
use tap_train::task::sweep::Sweep;

use super::request_file;
use super::sweep::SweepFlags;

/// A sweep as it is asked for, in `request.toml` of its folder, with its rows: `--resume` needs nothing else, and does not depend on
/// the file of the sweep.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SweepRequest {
    /// `sweep` or `reproduce`.
    pub(super) command: String,
    pub(super) data: PathBuf,
    pub(super) first_seed: u64,
    pub(super) num_seeds: u64,
    pub(super) device: String,
    /// Runs at once; 0 is one per core.
    #[serde(default)]
    pub(super) jobs: usize,
    pub(super) vgg: Option<PathBuf>,
    /// Settings that were typed.
    pub(super) typed: Vec<String>,
    pub(super) sweep: Sweep,
    /// SHA-256 of the data that the runs were begun with, by folder; "." is `--data` itself.
    pub(super) data_sha256: BTreeMap<String, String>,
}

impl SweepRequest {
    /// What is typed, above what a sweep that is resumed was begun with.
    pub(super) fn of(command: &str, table: Option<&str>, flags: &SweepFlags) -> anyhow::Result<Self> {
        let begun = match (&flags.out, flags.resume) {
            (Some(out), true) => Self::read(out)?,
            _ => None,
        };
        let absolute = |path: &PathBuf| noted(path).map_or_else(|| path.clone(), PathBuf::from);
        let typed: Vec<String> = flags.set.iter().map(ToString::to_string).collect();
        let Some(begun) = begun else {
            let table = table.with_context(|| {
                format!("which table? The folder holds no {REQUEST_FILE} of a sweep to resume")
            })?;
            let sweep = Sweep::load(table, flags.budget.as_deref(), &typed)?;
            return Ok(Self {
                command: command.to_owned(),
                data: match &flags.data {
                    Some(data) => absolute(data),
                    None if flags.dry_run => PathBuf::new(),
                    None => anyhow::bail!("--data is required: the folder holds no {REQUEST_FILE} to resume"),
                },
                first_seed: flags.first_seed.unwrap_or(0),
                num_seeds: flags.seeds.unwrap_or(sweep.seeds),
                device: flags.device.clone().unwrap_or_else(|| String::from("cpu")),
                jobs: flags.jobs.unwrap_or(0),
                vgg: flags.vgg.as_ref().map(absolute),
                typed,
                sweep,
                data_sha256: BTreeMap::new(),
            });
        };
        let out = flags.out.as_deref().unwrap_or(Path::new("")).display();
        anyhow::ensure!(
            begun.command == command,
            "the folder is that of `tap-train {} {}`: {out}",
            begun.command,
            begun.sweep.name
        );
        let is_other_table = match table {
            Some(table) => {
                let budget = flags.budget.as_deref().or(begun.budget());
                Sweep::load(table, budget, &begun.typed)? != begun.sweep
            }
            None => false,
        };
        let is_other = [
            (
                "--budget",
                flags.budget.is_some() && flags.budget.as_deref() != begun.budget(),
            ),
            ("the table", is_other_table),
            (
                "--first-seed",
                flags.first_seed.is_some_and(|seed| seed != begun.first_seed),
            ),
            (
                "--set",
                typed.iter().any(|setting| !begun.typed.contains(setting)),
            ),
            (
                "--vgg",
                flags.vgg.is_some() && begun.vgg.is_some() && flags.vgg.as_ref().map(absolute) != begun.vgg,
            ),
        ];
        if let Some((what, _)) = is_other.iter().find(|(_, is_other)| *is_other) {
            anyhow::bail!("{what} is not what the sweep was begun with; choose another --out: {out}");
        }
        Ok(Self {
            data: flags.data.as_ref().map_or(begun.data, absolute),
            num_seeds: flags.seeds.unwrap_or(begun.num_seeds),
            device: flags.device.clone().unwrap_or(begun.device),
            jobs: flags.jobs.unwrap_or(begun.jobs),
            vgg: flags.vgg.as_ref().map(absolute).or(begun.vgg),
            ..begun
        })
    }

    fn budget(&self) -> Option<&str> {
        Some(self.sweep.budget.as_str()).filter(|budget| !budget.is_empty())
    }

    /// Its seeds, in order.
    pub(super) fn seeds(&self) -> Vec<u64> {
        (self.first_seed..).take(self.num_seeds as usize).collect()
    }

    /// A folder within `--data`, or `--data` itself.
    pub(super) fn path(&self, folder: &str) -> PathBuf {
        if folder.is_empty() {
            self.data.clone()
        } else {
            self.data.join(folder)
        }
    }

    pub(super) fn read(folder: &Path) -> anyhow::Result<Option<Self>> {
        request_file::read(folder, "a sweep")
    }

    pub(super) fn write(&self, folder: &Path) -> anyhow::Result<()> {
        request_file::write(self, folder)
    }
}
