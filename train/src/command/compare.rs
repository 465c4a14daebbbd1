//! `tap-train compare`: every arm is an ordinary `finetune` in a process of its own with one thread.
//!
//! torch's generator belongs to the process, so arms in threads would disturb each other's dropout; and one thread an arm
//! gives the same numbers whatever `--jobs` is. Each arm can be repeated by hand with the same command.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Args, ValueEnum};
use tap_cli::exit_code::{self, INTERRUPTED};
use tap_cli::{interrupt, ui};
use tap_dataset::{FolderLock, LOCK_FILE_NAME, OwnedFolder, RUN_FILES, refuse_foreign_file, refuse_inputs};
use tap_train::run::request::REQUEST_FILE;
use tap_train::run::{RESULT_FILE, write_json};
use tap_train::task::comparison::{ArmResult, Arms, ComparedTask, Comparison, Setting};
use tap_train::task::few_shot::{self, Episode};
use tap_train::task::provenance::labels_note;

use super::child_run::{ChildRun, parent_arguments, run_all};
use super::comparison_request::{ComparisonRequest, Start, differences};
use super::{ConfigArgs, is_result_file, labels_name, parse_labels};

/// The results, within the folder.
const COMPARISON_FILE: &str = "compare.json";
/// Keys that such a file has.
const COMPARISON_KEYS: [&str; 3] = ["data_sha256", "init_sha256", "settings"];
/// The folder of the arms' runs, within the folder.
const ARMS: &str = "arms";
/// Kind of the folder in its lock file.
const LOCK_KIND: &str = "comparison";

/// What the arms are fine-tuned for.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(super) enum TaskName {
    /// Name the class of an object.
    Classify,
    /// Name the part of every point.
    Segment,
    /// Name the class in episodes with few classes and labels; --data is a folder of episodes, and a fold is a pair.
    FewShot,
}

impl From<TaskName> for ComparedTask {
    fn from(name: TaskName) -> Self {
        match name {
            TaskName::Classify => Self::Classify,
            TaskName::Segment => Self::Segment,
            TaskName::FewShot => Self::FewShot,
        }
    }
}

/// Arguments of `compare`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  tap-train compare --data out/real --init out/tap --labels-per-class 5,10 --seeds 5 --out out/compare
  tap-train compare --data out/real --init out/tap --against out/mae --labels-per-class 10,all --out out/tap-or-mae
  tap-train compare --data out/real --init out/tap --against out/tap/checkpoints/step-0000000500 --out out/longer
  tap-train compare --task segment --data out/parts --init out/tap --out out/compare-parts
  tap-train compare --task few-shot --data out/episodes --init out/tap --against out/mae --out out/compare-few
  tap-train compare --out out/compare --resume")]
pub(crate) struct Compare {
    /// What the arms are fine-tuned for; classify, or with --resume that of the comparison, unless given.
    #[arg(long, value_enum)]
    pub(super) task: Option<TaskName>,
    /// A data set of shards, for few-shot a folder of episodes; with --resume that of the comparison, unless given.
    #[arg(long, required_unless_present = "resume")]
    pub(super) data: Option<PathBuf>,
    /// The pre-trained encoder: a run, a checkpoint in it or a safetensors file; with --resume that of the comparison, unless
    /// given.
    #[arg(long, value_name = "RUN_OR_FILE", required_unless_present = "resume", value_parser = parse_start)]
    pub(super) init: Option<Start>,
    /// What it is compared with: another encoder, with the sizes of its own run, or `scratch`, the same network with random
    /// weights; scratch unless given.
    #[arg(long, value_name = "RUN_OR_FILE|scratch", value_parser = parse_start)]
    pub(super) against: Option<Start>,
    /// The folder for `compare.json` and the runs of the arms.
    #[arg(long)]
    pub(super) out: PathBuf,
    /// Labels a class, numbers or `all`; 5,10 for classes, all for parts, or with --resume those of the comparison, unless
    /// given.
    #[arg(long, value_delimiter = ',', value_parser = parse_labels)]
    pub(super) labels_per_class: Vec<usize>,
    /// Number of pairs; 5, or with --resume that of the comparison, unless given. The pairs of few-shot are the folds.
    #[arg(long)]
    pub(super) seeds: Option<u64>,
    /// Arms that train at once, each with one thread; one per core, or with --resume as many as before, unless given.
    #[arg(long, value_name = "N", alias = "workers")]
    pub(super) jobs: Option<usize>,
    /// `auto`, `cpu` or `cuda:N`; cpu, or with --resume that of the comparison, unless given.
    #[arg(long)]
    pub(super) device: Option<String>,
    /// Keep arms that are finished and continue the others; nothing else needs to be given.
    #[arg(long, conflicts_with = "force")]
    pub(super) resume: bool,
    /// Replace an earlier comparison; refused where the folder holds anything else, or an input.
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    pub(super) config: ConfigArgs,
    /// Print the result as JSON.
    #[arg(long)]
    json: bool,
}

/// One run to do.
#[derive(Debug)]
struct Arm {
    folder: PathBuf,
    data: PathBuf,
    labels_per_class: usize,
    seed: u64,
    /// From `--init`, or from what that is compared with.
    is_init: bool,
}

/// Pairs of arms that are summarized together.
#[derive(Debug)]
struct Group {
    /// The setting of few-shot episodes, and their folds.
    episodes: Option<(few_shot::Setting, Vec<usize>)>,
    seeds: Vec<u64>,
    /// In the order of the seeds.
    init: Vec<Arm>,
    against: Vec<Arm>,
}

impl Compare {
    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
        // Refuse wrong paths and a wrong configuration before any arm starts.
        let request = ComparisonRequest::of(&self)?;
        if let Some(comparison) = self.finished(&request)? {
            ui::note(format_args!(
                "finished already, nothing is left to do: {}",
                self.out.display()
            ));
            return self.report(&comparison);
        }
        request.check()?;
        let configs = request.configs()?;
        let differences = differences(&configs)?;
        let groups = self.groups(&request, configs[0].seed)?;
        self.refuse_what_is_there(&request)?;
        if !differences.is_empty() {
            ui::note(format_args!(
                "the arms are fine-tuned with other settings, {} first: {}; --set gives both the same",
                request.names().init,
                differences.join(", ")
            ));
        }
        let _lock = FolderLock::take(&self.out, LOCK_KIND)?;
        // Results of other arms would be taken for those of this comparison.
        remove_if_present(&self.out.join(COMPARISON_FILE))?;
        request.write(&self.out)?;
        let cancel = interrupt::listen()?;
        // Pair by pair, so that what is stopped has whole pairs.
        let pairs = groups
            .iter()
            .flat_map(|group| group.against.iter().zip(&group.init));
        let arms: Vec<&Arm> = pairs.flat_map(|(against, init)| [against, init]).collect();
        let runs: Vec<ChildRun> = arms.iter().map(|arm| self.child_run(&request, arm)).collect();
        let score = |run: &ChildRun| Ok(ArmResult::read(&run.folder, request.task)?.score);
        if !run_all(&runs, request.jobs, &cancel, score)? {
            return Ok(ExitCode::from(INTERRUPTED));
        }
        let results = |arms: &[Arm]| {
            let results = arms.iter().map(|arm| ArmResult::read(&arm.folder, request.task));
            results.collect::<Result<Vec<_>, _>>()
        };
        let mut measured = Vec::new();
        for group in groups {
            measured.push(Arms {
                against: results(&group.against)?,
                init: results(&group.init)?,
                episodes: group.episodes,
                seeds: group.seeds,
            });
        }
        let comparison = Comparison::new(request.task, request.names(), differences, &measured);
        let comparison = comparison.context("there is nothing to compare")?;
        write_json(&self.out.join(COMPARISON_FILE), &comparison)?;
        self.report(&comparison)
    }

    fn report(&self, comparison: &Comparison) -> anyhow::Result<ExitCode> {
        if self.json {
            ui::json(comparison)?;
        } else {
            print(comparison);
        }
        Ok(ExitCode::SUCCESS)
    }

    /// Refuses numbers of labels and seeds where the pairs are folds.
    pub(super) fn require_pairs_of(&self, task: ComparedTask) -> anyhow::Result<()> {
        let flag = match (self.labels_per_class.is_empty(), self.seeds) {
            (false, _) => "--labels-per-class",
            (true, Some(_)) => "--seeds",
            (true, None) => return Ok(()),
        };
        if task == ComparedTask::FewShot {
            return Err(exit_code::usage(format_args!(
                "{flag} is not for few-shot: an episode says which labels there are, and each fold is a pair"
            )));
        }
        Ok(())
    }

    /// All pairs to do.
    fn groups(&self, request: &ComparisonRequest, first_seed: u64) -> anyhow::Result<Vec<Group>> {
        if request.task == ComparedTask::FewShot {
            return self.groups_of_episodes(request, first_seed);
        }
        let seeds: Vec<u64> = (first_seed..first_seed + request.seeds).collect();
        let group = |&labels_per_class: &usize| {
            let arms = |is_init: bool| {
                let arm = |&seed: &u64| Arm {
                    folder: self.arm_folder(request, is_init, &labels_name(labels_per_class), "seed", seed),
                    data: request.data.clone(),
                    labels_per_class,
                    seed,
                    is_init,
                };
                seeds.iter().map(arm).collect()
            };
            Group {
                episodes: None,
                init: arms(true),
                against: arms(false),
                seeds: seeds.clone(),
            }
        };
        Ok(request.labels_per_class.iter().map(group).collect())
    }

    /// A group for each setting of episodes, with a pair for each fold.
    fn groups_of_episodes(&self, request: &ComparisonRequest, seed: u64) -> anyhow::Result<Vec<Group>> {
        let episodes = Episode::list(&request.data, &[], &[])?;
        let group = |of_setting: &[Episode]| {
            let setting = of_setting[0].setting;
            let arms = |is_init: bool| {
                let arm = |episode: &Episode| Arm {
                    folder: self.arm_folder(
                        request,
                        is_init,
                        &setting.to_string(),
                        "fold",
                        episode.fold as u64,
                    ),
                    data: episode.path.clone(),
                    labels_per_class: 0,
                    seed,
                    is_init,
                };
                of_setting.iter().map(arm).collect()
            };
            Group {
                episodes: Some((setting, of_setting.iter().map(|episode| episode.fold).collect())),
                init: arms(true),
                against: arms(false),
                seeds: vec![seed; of_setting.len()],
            }
        };
        let by_setting = episodes.chunk_by(|a, b| a.setting == b.setting);
        Ok(by_setting.map(group).collect())
    }

    /// Where one encoder is compared with none, the arms are called as in earlier versions.
    fn arm_folder(
        &self,
        request: &ComparisonRequest,
        is_init: bool,
        setting: &str,
        pair: &str,
        number: u64,
    ) -> PathBuf {
        let start = match (is_init, &request.against) {
            (true, Start::Scratch) => "tap",
            (false, Start::Scratch) => "scratch",
            (true, Start::Encoder(_)) => "init",
            (false, Start::Encoder(_)) => "against",
        };
        self.out
            .join(ARMS)
            .join(format!("{start}-{setting}-{pair}{number}"))
    }

    /// The results of a comparison that is resumed though it is finished, with all its arms, and asked for as before.
    fn finished(&self, request: &ComparisonRequest) -> anyhow::Result<Option<Comparison>> {
        if !self.resume || ComparisonRequest::read(&self.out)?.as_ref() != Some(request) {
            return Ok(None);
        }
        let results = std::fs::read(self.out.join(COMPARISON_FILE)).ok();
        let comparison: Option<Comparison> = results.and_then(|json| serde_json::from_slice(&json).ok());
        let has_arms = |setting: &Setting| {
            let numbers: Vec<(&str, u64)> = match &setting.episodes {
                Some(_) => setting.folds.iter().map(|&fold| ("fold", fold as u64)).collect(),
                None => setting.seeds.iter().map(|&seed| ("seed", seed)).collect(),
            };
            numbers.into_iter().all(|(pair, number)| {
                [true, false].into_iter().all(|is_init| {
                    let folder = self.arm_folder(request, is_init, &setting_name(setting), pair, number);
                    folder.join(RESULT_FILE).is_file()
                })
            })
        };
        Ok(comparison.filter(|comparison| comparison.settings.iter().all(has_arms)))
    }

    /// Refuses a folder that holds a comparison, unless it is to be resumed or replaced, and what is
    /// not surely one. Nothing is changed.
    fn refuse_what_is_there(&self, request: &ComparisonRequest) -> anyhow::Result<()> {
        let arms = self.out.join(ARMS);
        let is_there = |path: &Path| path.symlink_metadata().is_ok();
        anyhow::ensure!(
            self.force || self.resume || !(is_there(&self.out.join(COMPARISON_FILE)) || is_there(&arms)),
            "there is a comparison already; pass --resume to continue it or --force to replace it: {}",
            self.out.display()
        );
        let results = self.out.join(COMPARISON_FILE);
        refuse_foreign_file(&results, |file| is_result_file(file, &COMPARISON_KEYS))?;
        let is_request = |_: &Path| ComparisonRequest::read(&self.out).is_ok_and(|request| request.is_some());
        refuse_foreign_file(&self.out.join(REQUEST_FILE), is_request)?;
        if !self.force {
            return Ok(());
        }
        let inputs = [
            Some(request.data.as_path()),
            request.init.path(),
            request.against.path(),
            self.config.settings.file(),
        ];
        refuse_inputs(&self.out, inputs.into_iter().flatten())?;
        // Each arm proves its own folder again when it replaces it.
        let of_arms = RUN_FILES.map(|file| format!("{ARMS}/*/{file}"));
        let patterns = [LOCK_FILE_NAME, COMPARISON_FILE, REQUEST_FILE].map(str::to_owned);
        OwnedFolder::survey(&self.out, &[&patterns[..], &of_arms].concat())?;
        Ok(())
    }

    /// The command of an arm.
    fn child_run(&self, request: &ComparisonRequest, arm: &Arm) -> ChildRun {
        let task = match request.task {
            ComparedTask::Segment => "segment",
            ComparedTask::Classify | ComparedTask::FewShot => "classify",
        };
        let mut arguments: Vec<OsString> = [
            "finetune",
            "--task",
            task,
            "--threads",
            "1",
            "--json",
            "--device",
            &request.device,
            "--labels-per-class",
            &labels_name(arm.labels_per_class),
            "--seed",
            &arm.seed.to_string(),
        ]
        .map(OsString::from)
        .to_vec();
        arguments.extend(parent_arguments());
        arguments.extend(["--data".into(), arm.data.clone().into()]);
        arguments.extend(["--out".into(), arm.folder.clone().into()]);
        if let Some(config) = &request.config {
            arguments.extend(["--config".into(), config.into()]);
        }
        for setting in &request.set {
            arguments.extend(["--set".into(), setting.into()]);
        }
        arguments.extend(request.start_arguments(arm.is_init));
        // An arm that was not begun is begun by --resume too.
        if self.resume {
            arguments.push("--resume".into());
        } else if self.force {
            arguments.push("--force".into());
        }
        ChildRun::alone(arm.folder.clone(), arguments)
    }
}

/// A path or `scratch`.
#[expect(clippy::unnecessary_wraps, reason = "clap takes a parser that may fail")]
fn parse_start(text: &str) -> Result<Start, String> {
    Ok(Start::from(text.to_owned()))
}

fn remove_if_present(file: &Path) -> anyhow::Result<()> {
    match std::fs::remove_file(file) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", file.display()))
        }
        _ => Ok(()),
    }
}

/// What a setting is called in names of folders.
fn setting_name(setting: &Setting) -> String {
    let labels = || labels_name(setting.labels_per_class);
    setting
        .episodes
        .map_or_else(labels, |episodes| episodes.to_string())
}

fn print(comparison: &Comparison) {
    let Comparison { init, against, .. } = comparison;
    let pairs = match comparison.task {
        ComparedTask::FewShot => "folds",
        ComparedTask::Classify | ComparedTask::Segment => "seeds",
    };
    ui::result(format_args!(
        "{} in % on {} ({}, no voting), mean and sample deviation over paired {pairs}",
        comparison.measure, comparison.evaluation_split, comparison.selection
    ));
    for setting in &comparison.settings {
        let name = match setting.episodes {
            Some(episodes) => episodes.to_string(),
            None => format!("{:>4} labels a class", labels_name(setting.labels_per_class)),
        };
        ui::result(format_args!(
            "{name}: {against} {:.1} ±{:.1}, {init} {:.1} ±{:.1}, paired {:+.1} (standard error {:.1}, {} pairs): {}",
            100.0 * setting.against_summary.mean,
            100.0 * setting.against_summary.std,
            100.0 * setting.init_summary.mean,
            100.0 * setting.init_summary.std,
            100.0 * setting.paired_mean,
            100.0 * setting.paired_standard_error,
            setting.seeds.len(),
            setting.verdict
        ));
        if let Some(note) = labels_note(setting.labels_per_class, &setting.train_objects_per_class) {
            ui::result(format_args!("     {note}"));
        }
    }
}
