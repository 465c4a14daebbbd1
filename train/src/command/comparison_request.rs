//! What a comparison is asked for, kept in its folder.

use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use serde::{Deserialize, Serialize};
use tap_train::config::Config;
use tap_train::run::CONFIG_FILE;
use tap_train::run::request::{REQUEST_FILE, noted};
use tap_train::task::comparison::{ArmNames, ComparedTask};
use toml::{Table, Value};

use super::compare::Compare;
use super::{ConfigArgs, request_file, require_inputs, run_of_encoder};

/// Labels a class and number of pairs where none are named.
const DEFAULT_LABELS: [usize; 2] = [5, 10];
const ALL_LABELS: usize = 0;
const DEFAULT_SEEDS: u64 = 5;
/// What stands for random weights in place of an encoder.
const SCRATCH: &str = "scratch";
/// Tables of a configuration that both arms should agree in.
const SHARED_TABLES: [&str; 4] = ["finetune", "segment", "head", "loss"];

/// What an arm starts from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", from = "String")]
pub(super) enum Start {
    /// Random weights.
    Scratch,
    /// The encoder of a run, a checkpoint or a file.
    Encoder(PathBuf),
}

impl From<String> for Start {
    fn from(text: String) -> Self {
        if text == SCRATCH {
            Self::Scratch
        } else {
            Self::Encoder(PathBuf::from(text))
        }
    }
}

impl From<Start> for String {
    fn from(start: Start) -> Self {
        match start {
            Start::Scratch => Self::from(SCRATCH),
            Start::Encoder(path) => path.to_string_lossy().into_owned(),
        }
    }
}

/// Its name in results: that of the run, and of what is taken of it.
impl fmt::Display for Start {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self::Encoder(path) = self else {
            return f.write_str(SCRATCH);
        };
        let name = |path: &Path| path.file_name().unwrap_or(path.as_os_str()).display().to_string();
        let run = run_of_encoder(path);
        if run == path {
            f.write_str(&name(path))
        } else {
            write!(f, "{}/{}", name(run), name(path))
        }
    }
}

impl Start {
    /// Whether its run says which settings belong to it.
    fn has_run(&self) -> bool {
        self.path()
            .is_some_and(|path| run_of_encoder(path).join(CONFIG_FILE).is_file())
    }

    pub(super) fn path(&self) -> Option<&Path> {
        match self {
            Self::Scratch => None,
            Self::Encoder(path) => Some(path),
        }
    }

    /// As it is kept.
    fn noted(self) -> Self {
        match &self {
            Self::Encoder(path) => noted(path).map_or(self, Self::from),
            Self::Scratch => self,
        }
    }

    /// The path that an arm gets its settings from, beside `other`: what it starts from itself, unless only the other one
    /// lies in a run.
    fn settings_from<'a>(&'a self, other: &'a Self) -> Option<&'a Path> {
        if other.has_run() && !self.has_run() {
            return other.path();
        }
        self.path().or(other.path())
    }
}

/// A comparison as it is asked for, in `request.toml` of its folder: `--resume` needs nothing else.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ComparisonRequest {
    #[serde(default)]
    pub(super) task: ComparedTask,
    pub(super) data: PathBuf,
    pub(super) init: Start,
    /// From scratch in requests of earlier versions.
    #[serde(default = "scratch")]
    pub(super) against: Start,
    pub(super) labels_per_class: Vec<usize>,
    pub(super) seeds: u64,
    pub(super) device: String,
    /// Arms at once; 0 is one per core.
    #[serde(default)]
    pub(super) jobs: usize,
    pub(super) config: Option<String>,
    pub(super) set: Vec<String>,
    pub(super) seed: Option<u64>,
}

fn scratch() -> Start {
    Start::Scratch
}

impl ComparisonRequest {
    /// What is typed, above what a comparison that is resumed was begun with.
    pub(super) fn of(typed: &Compare) -> anyhow::Result<Self> {
        let begun = if typed.resume {
            Self::read(&typed.out)?
        } else {
            None
        };
        let required = |flag: &str| {
            format!("{flag} is required: the folder holds no {REQUEST_FILE} of a comparison to resume")
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
        let begun = begun.as_ref();
        let task = typed
            .task
            .map(ComparedTask::from)
            .or(begun.map(|begun| begun.task));
        let task = task.unwrap_or_default();
        typed.require_pairs_of(task)?;
        let data = typed.data.clone().or(begun.map(|begun| begun.data.clone()));
        let data = data.with_context(|| required("--data"))?;
        let init = typed.init.clone().or(begun.map(|begun| begun.init.clone()));
        let against = typed.against.clone().or(begun.map(|begun| begun.against.clone()));
        let mut labels_per_class = typed.labels_per_class.clone();
        if labels_per_class.is_empty() {
            labels_per_class = match (begun, task) {
                (Some(begun), _) => begun.labels_per_class.clone(),
                (None, ComparedTask::Classify) => DEFAULT_LABELS.to_vec(),
                (None, ComparedTask::Segment | ComparedTask::FewShot) => vec![ALL_LABELS],
            };
        }
        Ok(Self {
            task,
            data: noted(&data).map_or(data, PathBuf::from),
            init: init.with_context(|| required("--init"))?.noted(),
            against: against.unwrap_or_else(scratch).noted(),
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
            jobs: typed.jobs.or(begun.map(|begun| begun.jobs)).unwrap_or(0),
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

    /// Refuses inputs that are not there, and two arms that are the same.
    pub(super) fn check(&self) -> anyhow::Result<()> {
        require_inputs([
            ("--data", Some(self.data.as_path())),
            ("--init", self.init.path()),
            ("--against", self.against.path()),
        ])?;
        anyhow::ensure!(
            self.init != self.against,
            "--init and --against are the same; one of them may be another run, a file, or `{SCRATCH}`"
        );
        Ok(())
    }

    /// The configuration of both arms, that of `--init` first.
    pub(super) fn configs(&self) -> anyhow::Result<[Config; 2]> {
        let args = || ConfigArgs::of_request(self.config.clone(), &self.set, self.seed);
        let load = |start: &Start, other| args()?.load_for(start.settings_from(other));
        Ok([load(&self.init, &self.against)?, load(&self.against, &self.init)?])
    }

    /// The arguments of `finetune` that say what an arm starts from, and whose settings it has.
    pub(super) fn start_arguments(&self, is_init: bool) -> Vec<OsString> {
        let (start, other) = if is_init {
            (&self.init, &self.against)
        } else {
            (&self.against, &self.init)
        };
        let settings_from = start.settings_from(other);
        let mut arguments: Vec<OsString> = Vec::new();
        if let Some(path) = start.path() {
            arguments.extend(["--init".into(), path.into()]);
        }
        // From scratch it is the architecture of the encoder that it is compared with, not its weights.
        if let Some(like) = settings_from.filter(|like| Some(*like) != start.path()) {
            arguments.extend(["--like".into(), like.into()]);
        }
        arguments
    }

    /// What the arms are called.
    pub(super) fn names(&self) -> ArmNames {
        let [init, against] = [&self.init, &self.against].map(Start::to_string);
        if init != against {
            return ArmNames { init, against };
        }
        let whole = |start: &Start| String::from(start.clone());
        ArmNames {
            init: whole(&self.init),
            against: whole(&self.against),
        }
    }
}

/// Settings of fine-tuning that two configurations differ in, as `key (first, second)`.
pub(super) fn differences([first, second]: &[Config; 2]) -> anyhow::Result<Vec<String>> {
    let [first, second] = [Table::try_from(first)?, Table::try_from(second)?];
    let mut differences = Vec::new();
    for table in SHARED_TABLES {
        let of = |config: &Table| {
            config
                .get(table)
                .and_then(Value::as_table)
                .cloned()
                .unwrap_or_default()
        };
        let (first, second) = (of(&first), of(&second));
        let mut keys: Vec<&String> = first.keys().chain(second.keys()).collect();
        keys.sort_unstable();
        keys.dedup();
        let text = |value: Option<&Value>| value.map_or(String::from("none"), Value::to_string);
        for key in keys.into_iter().filter(|key| first.get(*key) != second.get(*key)) {
            let values = [text(first.get(key)), text(second.get(key))];
            differences.push(format!("{table}.{key} ({})", values.join(", ")));
        }
    }
    Ok(differences)
}
