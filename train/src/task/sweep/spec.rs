//! What a sweep is: [`SweepFile`] is what a file says, [`Sweep`] what it means for one budget.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::Path;

use serde::{Deserialize, Serialize};
use strum::Display;
use tap_cli::settings::{self, Presets, SettingsError, no_expansion};

use crate::config::{Config, DEFAULT_PRESET, PRESETS};
use crate::error::TrainError;
use crate::task::published::FEW_SHOT_SETTINGS;

/// The name and the text of a sweep that the program carries.
macro_rules! sweep {
    ($name:literal) => {
        (
            $name,
            include_str!(concat!("../../../../assets/sweeps/", $name, ".toml")),
        )
    };
}

/// The sweeps that the program carries, and what they start from.
pub const SWEEPS: Presets = Presets(&[
    sweep!("paper"),
    sweep!("ablation"),
    sweep!("table1"),
    sweep!("table2"),
    sweep!("table3"),
    sweep!("table4"),
    sweep!("table6a"),
    sweep!("table6b"),
    sweep!("table7a"),
    sweep!("table7b"),
]);
/// The paper's main results.
pub const REPRODUCTIONS: [&str; 4] = ["table1", "table2", "table3", "table4"];
/// The paper's ablations.
pub const TABLES: [&str; 4] = ["table6a", "table6b", "table7a", "table7b"];

/// Seeds of a sweep that names no number.
const DEFAULT_SEEDS: u64 = 3;
/// The budget of a file with several, where none is named.
const DEFAULT_BUDGET: &str = "mini";
/// The folder of the pre-training beside those of the tasks.
pub const PRETRAIN: &str = "pretrain";

/// A sweep as its file says it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SweepFile {
    /// The sweep of this program that this one starts from.
    pub preset: Option<String>,
    /// The heading of the table.
    pub title: String,
    /// Where the published figures are from.
    pub source: String,
    /// Columns of published figures, in order.
    pub published: Vec<String>,
    /// The row that the others are compared with; the first unless named.
    pub baseline: Option<String>,
    /// The configuration of every row, a preset or a file beside this one.
    pub config: Option<String>,
    /// Settings of every row, as `--set` has them.
    pub set: Vec<String>,
    /// Number of seeds.
    pub seeds: Option<u64>,
    /// The folder within `--data` to pre-train on; `--data` itself unless named.
    pub pretrain_data: Option<String>,
    /// What keeps the scores from being compared with the published figures.
    pub not_comparable: Vec<String>,
    /// What is done with the encoder of each row.
    pub task: Vec<TaskFile>,
    /// The rows, in order.
    pub row: Vec<RowFile>,
    /// What differs under a budget, by its name.
    pub budget: BTreeMap<String, BudgetFile>,
    /// What the folders within `--data` are.
    pub data: BTreeMap<String, DataSource>,
}

/// What differs under a budget.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BudgetFile {
    /// In place of the sweep's.
    pub config: Option<String>,
    /// On top of the sweep's.
    pub set: Vec<String>,
    /// In place of the sweep's.
    pub seeds: Option<u64>,
    /// In place of the sweep's.
    pub pretrain_data: Option<String>,
    /// Beside the sweep's.
    pub not_comparable: Vec<String>,
    /// In place of the sweep's, where there are any.
    pub task: Vec<TaskFile>,
}

/// What differs in a row under a budget; what is absent stays.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RowChange {
    /// Its configuration.
    pub config: Option<String>,
    /// Its settings, all of them.
    pub set: Option<Vec<String>>,
    /// A word on it.
    pub note: Option<String>,
    /// Configurations of tasks, by name.
    pub task_config: Option<BTreeMap<String, String>>,
    /// Why it is printed and not run.
    pub not_run: Option<String>,
}

/// A task as a file says it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TaskFile {
    /// Its name, that of its folder.
    pub name: String,
    /// What is done.
    pub command: TaskCommand,
    /// The folder within `--data`; `--data` itself unless named.
    pub data: Option<String>,
    /// Labels a class: one number, and of a probe any number of them; all unless named.
    #[serde(default)]
    pub labels_per_class: Vec<Labels>,
    /// Settings of the task alone.
    #[serde(default)]
    pub set: Vec<String>,
    /// Which scores are columns of the table; the usual ones of the command unless named.
    #[serde(default)]
    pub scores: Vec<Score>,
}

/// A row as a file says it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RowFile {
    /// Its name, that of its folders.
    pub name: String,
    /// What it is.
    pub title: String,
    /// Published figures in %, by column.
    pub published: BTreeMap<String, f64>,
    /// Its configuration, in place of the sweep's.
    pub config: Option<String>,
    /// Its settings, on top of all others.
    pub set: Vec<String>,
    /// A word on it.
    pub note: String,
    /// What has to be given for it.
    pub needs: Vec<Need>,
    /// Whether its tasks start from random weights.
    pub scratch: bool,
    /// The row that it is compared with, in place of the sweep's.
    pub baseline: Option<String>,
    /// Its tasks; all unless named.
    pub tasks: Option<Vec<String>>,
    /// Configurations of tasks, by name; the row's unless named.
    pub task_config: BTreeMap<String, String>,
    /// Why it is printed and not run.
    pub not_run: String,
    /// What differs under a budget, by its name.
    pub budget: BTreeMap<String, RowChange>,
}

/// What a folder within `--data` is, and how one comes by it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DataSource {
    /// What it holds.
    pub what: String,
    /// Where it is from, and the command that makes it.
    pub how: String,
    /// What an import calls it; published figures are of such data alone.
    #[serde(default)]
    pub data_name: String,
}

/// A command that scores an encoder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Display)]
#[serde(rename_all = "kebab-case")]
#[strum(serialize_all = "kebab-case")]
pub enum TaskCommand {
    /// Fine-tuning to name classes.
    Finetune,
    /// Fine-tuning to name parts.
    Segment,
    /// Classifiers on frozen features.
    Probe,
    /// Fine-tuning on the folds of few-shot episodes.
    FewShot,
}

/// What a row needs that not everybody has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Need {
    /// VGG16 with torchvision's weights, for the perceptual loss.
    Vgg,
}

impl Need {
    /// What to do where it is missing.
    #[must_use]
    pub fn remedy(self) -> &'static str {
        match self {
            Self::Vgg => "it needs torchvision's weights of VGG16: --vgg FILE (`ABLATIONS.md`, H1)",
        }
    }
}

/// Labels a class: a number, or all (0).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "LabelsText", into = "LabelsText")]
pub struct Labels(pub usize);

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum LabelsText {
    Count(usize),
    Name(String),
}

impl TryFrom<LabelsText> for Labels {
    type Error = String;

    fn try_from(text: LabelsText) -> Result<Self, String> {
        match text {
            LabelsText::Count(count) if count > 0 => Ok(Self(count)),
            LabelsText::Name(name) if name == "all" => Ok(Self(0)),
            LabelsText::Count(_) | LabelsText::Name(_) => {
                Err(String::from("labels a class are a number above 0, or \"all\""))
            }
        }
    }
}

impl From<Labels> for LabelsText {
    fn from(labels: Labels) -> Self {
        match labels.0 {
            0 => Self::Name(String::from("all")),
            count => Self::Count(count),
        }
    }
}

impl fmt::Display for Labels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            0 => f.write_str("all"),
            count => write!(f, "{count}"),
        }
    }
}

/// A score that is a column of the table.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Score {
    /// The column.
    pub title: String,
    /// Which score of the task.
    pub of: String,
}

/// Which number of a task's result a score is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ScoreOf {
    /// Over objects.
    Accuracy,
    /// Mean over classes.
    MeanClassAccuracy,
    /// Of parts, over classes.
    ClassMiou,
    /// Of parts, over objects.
    InstanceMiou,
    /// Linear SVM with so many labels a class.
    Svm(String),
    /// Nearest neighbors with so many labels a class.
    Knn(String),
    /// Mean over the folds of a setting, as in `5way_10shot`.
    Folds(String),
}

impl Score {
    /// The number that is meant.
    ///
    /// # Errors
    /// What the command has instead.
    pub fn of(&self, command: TaskCommand) -> Result<ScoreOf, String> {
        let labels = |name: &str| {
            let labels = self.of.strip_prefix(name)?.strip_prefix(' ')?;
            (labels == "all" || labels.parse().is_ok_and(|count: usize| count > 0)).then(|| labels.to_owned())
        };
        let (of, known) = match command {
            TaskCommand::Finetune => (
                match self.of.as_str() {
                    "accuracy" => Some(ScoreOf::Accuracy),
                    "mean class accuracy" => Some(ScoreOf::MeanClassAccuracy),
                    _ => None,
                },
                "accuracy, mean class accuracy",
            ),
            TaskCommand::Segment => (
                match self.of.as_str() {
                    "class mIoU" => Some(ScoreOf::ClassMiou),
                    "instance mIoU" => Some(ScoreOf::InstanceMiou),
                    _ => None,
                },
                "class mIoU, instance mIoU",
            ),
            TaskCommand::Probe => (
                labels("svm")
                    .map(ScoreOf::Svm)
                    .or_else(|| labels("knn").map(ScoreOf::Knn)),
                "svm or knn with a number of labels, as in 'svm 5' and 'knn all'",
            ),
            TaskCommand::FewShot => (
                self.of.ends_with("shot").then(|| ScoreOf::Folds(self.of.clone())),
                "settings, as in '5way_10shot'",
            ),
        };
        of.ok_or_else(|| format!("'{}' is no score of {command}, which has {known}", self.of))
    }
}

/// A sweep under one budget.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sweep {
    /// What it is called.
    pub name: String,
    /// The heading of the table.
    pub title: String,
    /// Where the published figures are from.
    pub source: String,
    /// The budget; empty where the sweep has but one.
    pub budget: String,
    /// Columns of published figures, in order.
    pub published: Vec<String>,
    /// Number of seeds, unless another is asked for.
    pub seeds: u64,
    /// The folder within `--data` to pre-train on; empty for `--data` itself.
    pub pretrain_data: String,
    /// What keeps the scores from being compared with the published figures.
    pub not_comparable: Vec<String>,
    /// What is done with the encoder of each row.
    pub tasks: Vec<Task>,
    /// The rows, in order.
    pub rows: Vec<Row>,
    /// What the folders within `--data` are.
    pub data: BTreeMap<String, DataSource>,
}

/// A task of a sweep.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Task {
    /// Its name.
    pub name: String,
    /// What is done.
    pub command: TaskCommand,
    /// The folder within `--data`; empty for `--data` itself.
    pub data: String,
    /// Labels a class.
    pub labels_per_class: Vec<Labels>,
    /// Settings of the task alone.
    pub set: Vec<String>,
    /// Its columns.
    pub scores: Vec<Score>,
}

/// A row of a sweep.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Row {
    /// Its name.
    pub name: String,
    /// What it is.
    pub title: String,
    /// Published figures in %, by column.
    pub published: BTreeMap<String, f64>,
    /// Its configuration.
    pub config: String,
    /// Its settings, with those of the sweep and of the budget.
    pub set: Vec<String>,
    /// The settings that are its own.
    pub own: Vec<String>,
    /// A word on it.
    pub note: String,
    /// What has to be given for it.
    pub needs: Vec<Need>,
    /// Whether its tasks start from random weights.
    pub is_scratch: bool,
    /// The row that it is compared with.
    pub baseline: String,
    /// Names of its tasks.
    pub tasks: Vec<String>,
    /// Configurations of tasks that are not the row's.
    pub task_config: BTreeMap<String, String>,
    /// Why it is printed and not run; empty where it is run.
    pub not_run: String,
}

impl Sweep {
    /// Reads a sweep of this program, or a file, for a budget; `more` are settings for all rows, below their own.
    ///
    /// # Errors
    /// Where there is none, or something in it does not fit; settings are tried.
    pub fn load(name_or_path: &str, budget: Option<&str>, more: &[String]) -> Result<Self, TrainError> {
        let path = Path::new(name_or_path);
        let table = SWEEPS.get_or_read(name_or_path)?;
        let file: SweepFile = settings::resolve(table, Some(path), &[], &no_expansion)?;
        let is_carried = SWEEPS.names().any(|name| name == name_or_path);
        let folder = (!is_carried).then(|| path.parent().unwrap_or(Path::new("")));
        let name = if is_carried {
            name_or_path.to_owned()
        } else {
            path.file_stem()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned()
        };
        let sweep = file.resolve(name, budget, more, folder);
        let sweep = sweep.map_err(|problem| SettingsError::File {
            problem,
            path: path.to_owned(),
        })?;
        sweep.check_settings()?;
        Ok(sweep)
    }

    /// Tries the settings of every row and task.
    fn check_settings(&self) -> Result<(), TrainError> {
        for row in self.rows.iter().filter(|row| row.not_run.is_empty()) {
            self.config_of(row, None)?;
            for task in self.tasks_of(row) {
                self.config_of(row, Some(task))?;
            }
        }
        Ok(())
    }

    /// The configuration of a row: of its pre-training, or of one of its tasks.
    ///
    /// # Errors
    /// Where a setting does not fit; the row is named.
    pub fn config_of(&self, row: &Row, task: Option<&Task>) -> Result<Config, TrainError> {
        let config = Config::load(Some(row.config_for(task)), &row.settings_for(task));
        config.map_err(|error| match error {
            TrainError::Settings(SettingsError::Setting { problem }) => SettingsError::File {
                problem: format!("row '{}': {problem}", row.name),
                path: self.name.clone().into(),
            }
            .into(),
            error => error,
        })
    }

    /// The tasks of a row.
    pub fn tasks_of<'a>(&'a self, row: &'a Row) -> impl Iterator<Item = &'a Task> {
        self.tasks.iter().filter(|task| row.tasks.contains(&task.name))
    }

    /// A row by its name.
    #[must_use]
    pub fn row(&self, name: &str) -> Option<&Row> {
        self.rows.iter().find(|row| row.name == name)
    }

    /// Titles of the columns of scores, in the order of the tasks.
    #[must_use]
    pub fn columns(&self) -> Vec<String> {
        let mut columns: Vec<String> = Vec::new();
        for score in self.tasks.iter().flat_map(|task| &task.scores) {
            if !columns.contains(&score.title) {
                columns.push(score.title.clone());
            }
        }
        columns
    }
}

impl Row {
    /// The preset or file of its pre-training, or of one of its tasks.
    #[must_use]
    pub fn config_for(&self, task: Option<&Task>) -> &str {
        task.and_then(|task| self.task_config.get(&task.name))
            .unwrap_or(&self.config)
    }

    /// Its settings in pre-training, or in one of its tasks.
    #[must_use]
    pub fn settings_for(&self, task: Option<&Task>) -> Vec<String> {
        let of_task = task.map(|task| task.set.clone()).unwrap_or_default();
        self.set.iter().cloned().chain(of_task).collect()
    }

    /// Whether both are pre-trained alike, so that one pre-training is enough.
    #[must_use]
    pub fn is_pretrained_like(&self, other: &Self) -> bool {
        let what = |row: &Self| (row.is_scratch, row.config.clone(), row.set.clone());
        what(self) == what(other) && self.needs == other.needs
    }
}

impl SweepFile {
    fn resolve(
        self,
        name: String,
        budget: Option<&str>,
        more: &[String],
        folder: Option<&Path>,
    ) -> Result<Sweep, String> {
        let (budget_name, budget) = self.budget(budget)?;
        let budgets: BTreeSet<String> = self.budget.keys().cloned().collect();
        let config = budget.config.clone().or(self.config.clone());
        let config = beside(config.as_deref().unwrap_or(DEFAULT_PRESET), folder);
        let tasks = if budget.task.is_empty() {
            self.task
        } else {
            budget.task
        };
        let tasks = tasks
            .into_iter()
            .map(TaskFile::resolve)
            .collect::<Result<Vec<_>, _>>()?;
        let names = || tasks.iter().map(|task| task.name.as_str());
        check_names("task", names())?;
        if tasks.is_empty() {
            return Err(String::from(
                "the sweep has no [[task]], so that there is nothing to score",
            ));
        }
        check_names("row", self.row.iter().map(|row| row.name.as_str()))?;
        let known: BTreeSet<String> = self.row.iter().map(|row| row.name.clone()).collect();
        let must_be_row = |name: &str, what: &str| {
            if known.contains(name) {
                Ok(())
            } else {
                Err(format!("{what}: there is no row '{name}'"))
            }
        };
        let first = self.row.first().ok_or("the sweep has no [[row]]")?.name.clone();
        let baseline = self.baseline.unwrap_or(first);
        must_be_row(&baseline, "baseline")?;
        let common: Vec<String> = [&self.set[..], &budget.set, more].concat();
        let mut rows = Vec::new();
        for row in self.row {
            if let Some(unknown) = row.budget.keys().find(|name| !budgets.contains(*name)) {
                return Err(format!("row '{}': there is no budget '{unknown}'", row.name));
            }
            let change = row.budget.get(&budget_name).cloned().unwrap_or_default();
            let own = change.set.unwrap_or(row.set);
            let of_row = row.tasks.clone();
            let tasks: Vec<String> = of_row.unwrap_or_else(|| names().map(str::to_owned).collect());
            for task in tasks.iter().chain(row.task_config.keys()) {
                if !names().any(|name| name == task) {
                    return Err(format!("row '{}': there is no task '{task}'", row.name));
                }
            }
            for column in row.published.keys() {
                if !self.published.contains(column) {
                    return Err(format!(
                        "row '{}': '{column}' is no column of `published`",
                        row.name
                    ));
                }
            }
            let baseline = row.baseline.unwrap_or_else(|| baseline.clone());
            must_be_row(&baseline, &format!("row '{}', baseline", row.name))?;
            let own_config = change.config.or(row.config);
            let task_config = change.task_config.unwrap_or(row.task_config);
            rows.push(Row {
                config: own_config.map_or_else(|| config.clone(), |config| beside(&config, folder)),
                set: [&common[..], &own].concat(),
                own,
                note: change.note.unwrap_or(row.note),
                needs: row.needs,
                is_scratch: row.scratch,
                baseline,
                tasks,
                task_config: task_config
                    .into_iter()
                    .map(|(task, config)| (task, beside(&config, folder)))
                    .collect(),
                not_run: change.not_run.unwrap_or(row.not_run),
                name: row.name,
                title: row.title,
                published: row.published,
            });
        }
        let seeds = budget.seeds.or(self.seeds).unwrap_or(DEFAULT_SEEDS);
        if seeds == 0 {
            return Err(String::from("seeds: at least 1"));
        }
        Ok(Sweep {
            name,
            title: self.title,
            source: self.source,
            budget: budget_name,
            published: self.published,
            seeds,
            pretrain_data: budget.pretrain_data.or(self.pretrain_data).unwrap_or_default(),
            not_comparable: [self.not_comparable, budget.not_comparable].concat(),
            tasks,
            rows,
            data: self.data,
        })
    }

    /// The budget that is asked for; a file without any has one without a name.
    fn budget(&self, wanted: Option<&str>) -> Result<(String, BudgetFile), String> {
        if self.budget.is_empty() && wanted.is_none() {
            return Ok((String::new(), BudgetFile::default()));
        }
        let name = wanted.unwrap_or(DEFAULT_BUDGET);
        let budget = self.budget.get(name).ok_or_else(|| {
            let known: Vec<&str> = self.budget.keys().map(String::as_str).collect();
            if known.is_empty() {
                format!("the sweep has no budgets, so none is '{name}'")
            } else {
                format!(
                    "there is no budget '{name}', expected one of {}",
                    known.join(", ")
                )
            }
        })?;
        Ok((name.to_owned(), budget.clone()))
    }
}

impl TaskFile {
    fn resolve(self) -> Result<Task, String> {
        let wrong = |problem: String| format!("task '{}': {problem}", self.name);
        let is_probe = self.command == TaskCommand::Probe;
        let mut labels = self.labels_per_class.clone();
        if labels.is_empty() {
            labels.push(Labels(0));
        }
        if labels.len() > 1 && !is_probe {
            return Err(wrong(String::from("one number of labels a class, please")));
        }
        if self.command == TaskCommand::FewShot && !self.labels_per_class.is_empty() {
            return Err(wrong(String::from(
                "labels of few-shot episodes are those of their folds",
            )));
        }
        let mut scores = self.scores.clone();
        if scores.is_empty() {
            scores = usual_scores(self.command, &labels);
        }
        for score in &scores {
            let of = score.of(self.command).map_err(wrong)?;
            let (ScoreOf::Svm(wanted) | ScoreOf::Knn(wanted)) = of else {
                continue;
            };
            if !labels.iter().any(|labels| labels.to_string() == wanted) {
                return Err(wrong(format!(
                    "'{}': {wanted} is none of labels_per_class",
                    score.of
                )));
            }
        }
        Ok(Task {
            name: self.name,
            command: self.command,
            data: self.data.unwrap_or_default(),
            labels_per_class: labels,
            set: self.set,
            scores,
        })
    }
}

/// The scores of a task that names none.
fn usual_scores(command: TaskCommand, labels: &[Labels]) -> Vec<Score> {
    let score = |title: String, of: String| Score { title, of };
    let of_labels = |labels: &Labels| format!("{labels} labels");
    match command {
        TaskCommand::Finetune => {
            let labels = labels.first().map(of_labels).unwrap_or_default();
            vec![score(format!("fine-tuned, {labels}"), String::from("accuracy"))]
        }
        TaskCommand::Segment => ["class mIoU", "instance mIoU"]
            .map(|of| score(of.to_owned(), of.to_owned()))
            .to_vec(),
        TaskCommand::Probe => labels
            .iter()
            .map(|labels| score(format!("SVM, {}", of_labels(labels)), format!("svm {labels}")))
            .collect(),
        TaskCommand::FewShot => FEW_SHOT_SETTINGS
            .map(|setting| score(setting.to_owned(), setting.to_owned()))
            .to_vec(),
    }
}

/// A configuration as the program finds it: a preset by its name, a file beside the sweep's.
fn beside(config: &str, folder: Option<&Path>) -> String {
    match folder {
        Some(folder) if !PRESETS.names().any(|name| name == config) => {
            let path = folder.join(config);
            std::path::absolute(&path)
                .unwrap_or(path)
                .to_string_lossy()
                .into_owned()
        }
        _ => config.to_owned(),
    }
}

/// Names become folders.
fn check_names<'a>(what: &str, names: impl Iterator<Item = &'a str>) -> Result<(), String> {
    let mut seen = BTreeSet::new();
    for name in names {
        let is_plain = |char: char| char.is_ascii_alphanumeric() || matches!(char, '-' | '_' | '.');
        if name.is_empty() || name.starts_with('.') || !name.chars().all(is_plain) || name == PRETRAIN {
            return Err(format!(
                "{what} '{name}': a name is one of letters, digits, '-', '_' and '.', does not begin with '.' and is not '{PRETRAIN}'"
            ));
        }
        if !seen.insert(name.to_lowercase()) {
            return Err(format!("there are two {what}s '{name}'"));
        }
    }
    Ok(())
}
