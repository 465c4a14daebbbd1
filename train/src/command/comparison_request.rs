//! What a comparison is asked for, kept in its folder.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use serde::{Deserialize, Serialize};
use tap_train::run::request::{REQUEST_FILE, noted};

use super::compare::Compare;
use super::{ConfigArgs, request_file};

/// Labels a class and number of pairs where none are named.
const DEFAULT_LABELS: [usize; 2] = [5, 10];
const DEFAULT_SEEDS: u64 = 5;

/// A comparison as it is asked for, in `request.toml` of its folder: `--resume` needs nothing else.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ComparisonRequest {
    pub(super) data: PathBuf,
    pub(super) init: PathBuf,
    pub(super) labels_per_class: Vec<usize>,
    pub(super) seeds: u64,
    pub(super) device: String,
    pub(super) config: Option<String>,
    pub(super) set: Vec<String>,
    pub(super) seed: Option<u64>,
}

impl ComparisonRequest {
    /// What is typed, above what a comparison that is resumed was begun with.
    pub(super) fn of(typed: &Compare) -> anyhow::Result<Self> {
        let begun = if typed.resume {
            Self::read(&typed.out)?
        } else {
            None
        };
        let path = |flag: &str, typed: &Option<PathBuf>, begun: Option<&PathBuf>| {
            let path = typed.as_deref().or(begun.map(PathBuf::as_path));
            let path = path.with_context(|| {
                format!("{flag} is required: the folder holds no {REQUEST_FILE} of a comparison to resume")
            })?;
            Ok::<_, anyhow::Error>(noted(path).map_or_else(|| path.to_owned(), PathBuf::from))
        };
        let settings = &typed.config.settings;
        // A typed preset or file is a configuration of its own.
        let below = begun.as_ref().filter(|_| settings.config.is_none());
        let typed_config = match settings.file() {
            Some(file) => noted(file),
            None => settings.config.clone(),
        };
        let typed_set: Vec<String> = settings.set.iter().map(ToString::to_string).collect();
        let mut set = below.map(|begun| begun.set.clone()).unwrap_or_default();
        // What is repeated is not there twice.
        set.retain(|setting| !typed_set.contains(setting));
        set.extend(typed_set);
        let mut labels_per_class = typed.labels_per_class.clone();
        if labels_per_class.is_empty() {
            labels_per_class = begun
                .as_ref()
                .map_or_else(|| DEFAULT_LABELS.to_vec(), |begun| begun.labels_per_class.clone());
        }
        let begun = begun.as_ref();
        Ok(Self {
            data: path("--data", &typed.data, begun.map(|begun| &begun.data))?,
            init: path("--init", &typed.init, begun.map(|begun| &begun.init))?,
            labels_per_class,
            seeds: typed
                .seeds
                .or(begun.map(|begun| begun.seeds))
                .unwrap_or(DEFAULT_SEEDS),
            device: typed
                .device
                .clone()
                .or(begun.map(|begun| begun.device.clone()))
                .unwrap_or_else(|| String::from("cpu")),
            config: typed_config.or_else(|| below?.config.clone()),
            set,
            seed: typed.config.seed.or_else(|| below?.seed),
        })
    }

    pub(super) fn read(folder: &Path) -> anyhow::Result<Option<Self>> {
        request_file::read(folder, "a comparison")
    }

    pub(super) fn write(&self, folder: &Path) -> anyhow::Result<()> {
        request_file::write(self, folder)
    }

    /// The configuration as if it were typed.
    pub(super) fn config(&self) -> anyhow::Result<ConfigArgs> {
        ConfigArgs::of_request(self.config.clone(), &self.set, self.seed)
    }
}
