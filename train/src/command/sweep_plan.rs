//! What of a sweep can be run with the data that is there, and the commands that do it.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};
use tap_cli::ui;
use tap_dataset::Dataset;
use tap_dataset::sha256::hex;
use tap_train::config::Task as ConfigTask;
use tap_train::method;
use tap_train::run::request::is_url;
use tap_train::task::few_shot::{Episode, PUBLISHED_EPISODES, is_of_published};
use tap_train::task::provenance::imported_name;
use tap_train::task::sweep::{Need, PRETRAIN, Row, Sweep, Task, TaskCommand};
use tap_train::task::{DataChoice, OpenData};

use super::child_run::{ChildRun, parent_arguments};
use super::sweep_request::SweepRequest;

/// The folder of the runs.
pub(super) const RUNS: &str = "runs";
/// `--data` itself, among the names of folders.
const DATA_ITSELF: &str = ".";

/// A data set of the sweep, or why there is none.
pub(super) type DataState = Result<DataFacts, String>;

/// What is known of a data set.
#[derive(Debug, Clone, Default)]
pub(super) struct DataFacts {
    pub(super) sha256: String,
    /// What it is a copy of.
    pub(super) data_name: String,
}

/// A row, and what of it can be run.
pub(super) struct PlannedRow<'a> {
    pub(super) row: &'a Row,
    /// The row whose pre-training it starts from; none from random weights.
    pub(super) pretrained_by: Option<usize>,
    pub(super) tasks: Vec<&'a Task>,
    /// What cannot be run, and why.
    pub(super) missing: Vec<String>,
}

/// One run of a row: of its pre-training, or of a task.
#[derive(Debug, Clone, Copy)]
pub(super) struct Run<'a> {
    pub(super) row: &'a Row,
    pub(super) seed: u64,
    pub(super) task: Option<&'a Task>,
}

/// A sweep with its data.
pub(super) struct OpenSweep<'a> {
    pub(super) request: &'a SweepRequest,
    pub(super) out: &'a Path,
    pub(super) data: BTreeMap<String, DataState>,
}

/// The data sets that tasks and pre-trainings read.
pub(super) fn survey(request: &SweepRequest) -> anyhow::Result<BTreeMap<String, DataState>> {
    let mut states = BTreeMap::new();
    let sweep = &request.sweep;
    let wanted = [(sweep.pretrain_data.as_str(), false)].into_iter().chain(
        sweep
            .tasks
            .iter()
            .map(|task| (task.data.as_str(), task.command == TaskCommand::FewShot)),
    );
    for (folder, is_episodes) in wanted {
        let key = if folder.is_empty() { DATA_ITSELF } else { folder };
        if states.contains_key(key) {
            continue;
        }
        let path = request.path(folder);
        // Where no data is named, everything is taken to be there: a list of what would be run.
        let state = if request.data.as_os_str().is_empty() {
            Ok(DataFacts::default())
        } else if !is_url(&path) && !path.exists() {
            Err(match sweep.data.get(folder) {
                Some(source) => format!("there is no {}, {}: {}", path.display(), source.what, source.how),
                None => format!("there is no {}", path.display()),
            })
        } else if is_episodes {
            episodes(&path)
        } else {
            match Dataset::open(&path) {
                Ok(dataset) => Ok(DataFacts {
                    sha256: dataset.sha256().to_owned(),
                    data_name: imported_name(dataset.manifest()),
                }),
                // A data set that everything depends on is a fault of the command line.
                Err(error) if folder.is_empty() => return Err(error.into()),
                Err(error) => Err(format!("{:#}", anyhow::Error::new(error))),
            }
        };
        states.insert(key.to_owned(), state);
    }
    Ok(states)
}

fn episodes(path: &Path) -> DataState {
    let of_folds = || -> anyhow::Result<DataFacts> {
        let episodes = Episode::list(path, &[], &[])?;
        let mut hash = Sha256::new();
        let mut are_published = true;
        for episode in &episodes {
            let (sha256, data_name) = episode.data()?;
            hash.update(episode.name());
            hash.update(sha256);
            are_published &= is_of_published(&data_name);
        }
        let data_name = if are_published { PUBLISHED_EPISODES } else { "" };
        Ok(DataFacts {
            sha256: hex(&hash.finalize()),
            data_name: data_name.to_owned(),
        })
    };
    of_folds().map_err(|error| format!("{error:#}"))
}

/// The folder within `--data` that a key of the survey stands for.
pub(super) fn within(key: &str) -> &str {
    if key == DATA_ITSELF { "" } else { key }
}

impl<'a> Run<'a> {
    /// The name of its folder within that of its row and seed.
    pub(super) fn step(self) -> &'a str {
        self.task.map_or(PRETRAIN, |task| task.name.as_str())
    }

    /// Its folder, within that of the sweep.
    pub(super) fn folder(self) -> PathBuf {
        [RUNS, &format!("{}-seed{}", self.row.name, self.seed), self.step()]
            .iter()
            .collect()
    }
}

impl<'a> OpenSweep<'a> {
    pub(super) fn sweep(&self) -> &'a Sweep {
        &self.request.sweep
    }

    pub(super) fn data(&self, folder: &str) -> &DataState {
        let key = if folder.is_empty() { DATA_ITSELF } else { folder };
        &self.data[key]
    }

    /// What of each row can be run.
    pub(super) fn plan(&self) -> Vec<PlannedRow<'a>> {
        let sweep = self.sweep();
        let mut planned: Vec<PlannedRow<'a>> = Vec::new();
        for (place, row) in sweep.rows.iter().enumerate() {
            let mut missing: Vec<String> = self.obstacle(row).into_iter().collect();
            let mut tasks = Vec::new();
            if missing.is_empty() {
                for task in sweep.tasks_of(row) {
                    match self.task_obstacle(row, task) {
                        None => tasks.push(task),
                        Some(reason) => missing.push(format!("{}: {reason}", task.name)),
                    }
                }
            }
            let pretrained_by = (!tasks.is_empty() && !row.is_scratch).then(|| {
                let alike = |other: &PlannedRow<'_>| {
                    other.pretrained_by.is_some() && other.row.is_pretrained_like(row)
                };
                planned.iter().position(alike).unwrap_or(place)
            });
            planned.push(PlannedRow {
                row,
                pretrained_by,
                tasks,
                missing,
            });
        }
        planned
    }

    /// Why nothing of a row can be run.
    fn obstacle(&self, row: &Row) -> Option<String> {
        if !row.not_run.is_empty() {
            return Some(row.not_run.clone());
        }
        if row.needs.contains(&Need::Vgg) && self.request.vgg.is_none() {
            return Some(Need::Vgg.remedy().to_owned());
        }
        if row.is_scratch {
            return None;
        }
        if let Err(reason) = self.data(&self.sweep().pretrain_data) {
            return Some(reason.clone());
        }
        let run = Run {
            row,
            seed: self.request.first_seed,
            task: None,
        };
        self.misfit(run)
    }

    /// Why a task of a row cannot be run.
    fn task_obstacle(&self, row: &Row, task: &Task) -> Option<String> {
        if let Err(reason) = self.data(&task.data) {
            return Some(reason.clone());
        }
        if row.is_scratch && task.command == TaskCommand::Probe {
            // Random weights are probed beside those of a pre-training, with the same label draws.
            let beside = self.sweep().row(&row.baseline)?;
            let is_pretrained = !beside.is_scratch
                && self.obstacle(beside).is_none()
                && self
                    .sweep()
                    .tasks_of(beside)
                    .any(|task| self.data(&task.data).is_ok());
            if !is_pretrained {
                return Some(format!(
                    "random weights are probed beside those of row '{}', which are not there",
                    beside.name
                ));
            }
        }
        match task.command {
            TaskCommand::FewShot => None,
            TaskCommand::Finetune | TaskCommand::Segment | TaskCommand::Probe => self.misfit(Run {
                row,
                seed: self.request.first_seed,
                task: Some(task),
            }),
        }
    }

    /// Where settings and data contradict each other.
    fn misfit(&self, run: Run<'_>) -> Option<String> {
        if self.request.data.as_os_str().is_empty() {
            return None;
        }
        let plan = || -> anyhow::Result<()> {
            let config = self
                .sweep()
                .config_of(run.row, run.task)?
                .with_settings(&self.vgg_setting(run))?;
            let path = self.request.path(self.data_folder(run));
            let data = OpenData::choose(&path, DataChoice::of(&config.data))?;
            match run.task {
                None => {
                    let kind = method::find(&config.method.kind)?;
                    data.plan(Some(kind), &config, ConfigTask::Pretrain, 0, "none")?;
                }
                Some(task) => {
                    let of_config = match task.command {
                        TaskCommand::Segment => ConfigTask::Segment,
                        _ => ConfigTask::Classify,
                    };
                    let labels = task.labels_per_class.first().map_or(0, |labels| labels.0);
                    data.plan(None, &config, of_config, labels, "none")?;
                }
            }
            Ok(())
        };
        plan().err().map(|error| format!("{error:#}"))
    }

    /// The setting that a row with a perceptual loss is not complete without.
    fn vgg_setting(&self, run: Run<'_>) -> Vec<String> {
        let vgg = self
            .request
            .vgg
            .as_ref()
            .filter(|_| run.task.is_none() && run.row.needs.contains(&Need::Vgg));
        vgg.map(|vgg| format!("loss.perceptual_network={}", vgg.display()))
            .into_iter()
            .collect()
    }

    /// Refuses a sweep of which no row can be run.
    pub(super) fn refuse_nothing(&self, rows: &[PlannedRow<'_>]) -> anyhow::Result<()> {
        if rows.iter().any(|planned| !planned.tasks.is_empty()) {
            return Ok(());
        }
        let mut reasons: Vec<&String> = rows.iter().flat_map(|planned| &planned.missing).collect();
        reasons.sort();
        reasons.dedup();
        for reason in reasons {
            ui::note(reason);
        }
        anyhow::bail!(
            "no row can be run with {}; the lines above say why",
            self.request.data.display()
        )
    }

    /// All runs, a seed after the other: those that others need first.
    pub(super) fn runs(&self, rows: &[PlannedRow<'a>]) -> Vec<Run<'a>> {
        let mut runs = Vec::new();
        for seed in self.request.seeds() {
            for (place, planned) in rows.iter().enumerate() {
                let row = planned.row;
                if planned.pretrained_by == Some(place) {
                    runs.push(Run {
                        row,
                        seed,
                        task: None,
                    });
                }
                runs.extend(planned.tasks.iter().map(|&task| Run {
                    row,
                    seed,
                    task: Some(task),
                }));
            }
        }
        runs
    }

    /// The pre-training that a run starts from.
    pub(super) fn pretraining(&self, rows: &[PlannedRow<'a>], run: Run<'a>) -> Option<Run<'a>> {
        let task = run.task?;
        let row = if run.row.is_scratch && task.command == TaskCommand::Probe {
            self.sweep().row(&run.row.baseline)?
        } else {
            run.row
        };
        let planned = rows.iter().find(|planned| planned.row.name == row.name)?;
        let owner = rows.get(planned.pretrained_by?)?;
        Some(Run {
            row: owner.row,
            seed: run.seed,
            task: None,
        })
    }

    /// The commands of runs that are not finished.
    pub(super) fn children(&self, rows: &[PlannedRow<'a>], open: &[Run<'a>]) -> Vec<ChildRun> {
        open.iter()
            .map(|&run| {
                let pretraining = self.pretraining(rows, run);
                let after = pretraining
                    .and_then(|before| open.iter().position(|other| other.folder() == before.folder()));
                ChildRun {
                    folder: self.out.join(run.folder()),
                    arguments: self.arguments(run, pretraining),
                    name: format!("{}, seed {}, {}", run.row.name, run.seed, run.step()),
                    kind: run.step().to_owned(),
                    after,
                }
            })
            .collect()
    }

    /// The command line of a run.
    fn arguments(&self, run: Run<'_>, pretraining: Option<Run<'_>>) -> Vec<OsString> {
        let mut arguments: Vec<OsString> = Vec::new();
        let mut push = |more: &[&str]| arguments.extend(more.iter().map(OsString::from));
        let labels = |task: &Task| {
            let labels: Vec<String> = task.labels_per_class.iter().map(ToString::to_string).collect();
            labels.join(",")
        };
        // A run that was not begun is begun by --resume too.
        match run.task {
            None => push(&["pretrain", "--resume"]),
            Some(task) => match task.command {
                TaskCommand::Finetune => {
                    push(&["finetune", "--task", "classify", "--resume"]);
                    push(&["--labels-per-class", &labels(task)]);
                }
                TaskCommand::Segment => {
                    push(&["finetune", "--task", "segment", "--resume"]);
                    push(&["--labels-per-class", &labels(task)]);
                }
                TaskCommand::Probe => {
                    // What is there is not finished, or of other data.
                    let random = if run.row.is_scratch { "1" } else { "0" };
                    push(&["probe", "--force", "--random-inits", random]);
                    push(&["--labels-per-class", &labels(task)]);
                }
                TaskCommand::FewShot => push(&["few-shot", "--resume", "--jobs", "1"]),
            },
        }
        if run.task.is_none_or(|task| task.command != TaskCommand::FewShot) {
            push(&["--threads", "1"]);
        }
        push(&["--json", "--device", &self.request.device]);
        push(&["--seed", &run.seed.to_string()]);
        push(&["--config", run.row.config_for(run.task)]);
        let settings = run.row.settings_for(run.task);
        for setting in settings.iter().chain(&self.vgg_setting(run)) {
            push(&["--set", setting]);
        }
        let data = self.request.path(self.data_folder(run));
        arguments.extend(["--data".into(), data.into()]);
        arguments.extend(["--out".into(), self.out.join(run.folder()).into()]);
        if let Some(pretraining) = pretraining {
            arguments.extend(["--init".into(), self.out.join(pretraining.folder()).into()]);
        }
        arguments.extend(parent_arguments());
        arguments
    }

    /// The folder within `--data` that a run reads.
    pub(super) fn data_folder<'b>(&self, run: Run<'b>) -> &'b str
    where
        'a: 'b,
    {
        match run.task {
            None => &self.request.sweep.pretrain_data,
            Some(task) => &task.data,
        }
    }
}
