//! `tap-train compare`: every arm is an ordinary `finetune` in a process of its own with one thread.
//!
//! torch's generator belongs to the process, so arms in threads would disturb each other's dropout; and one thread an arm
//! gives the same numbers whatever `--jobs` is. Each arm can be repeated by hand with the same command.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Args;
use tap_cli::exit_code::INTERRUPTED;
use tap_cli::{interrupt, ui};
use tap_dataset::{FolderLock, LOCK_FILE_NAME, OwnedFolder, RUN_FILES, refuse_foreign_file, refuse_inputs};
use tap_train::run::request::REQUEST_FILE;
use tap_train::run::{RESULT_FILE, write_json};
use tap_train::task::classify::ClassifyResult;
use tap_train::task::comparison::{Arms, Comparison};
use tap_train::task::provenance::labels_note;

use super::child_run::{ChildRun, parent_arguments, run_all};
use super::comparison_request::ComparisonRequest;
use super::{ConfigArgs, is_result_file, labels_name, parse_labels, require_inputs};

/// The results, within the folder.
const COMPARISON_FILE: &str = "compare.json";
/// Keys that such a file has.
const COMPARISON_KEYS: [&str; 3] = ["data_sha256", "init_sha256", "settings"];
/// The folder of the arms' runs, within the folder.
const ARMS: &str = "arms";
/// Kind of the folder in its lock file.
const LOCK_KIND: &str = "comparison";

/// Arguments of `compare`.
#[derive(Debug, Args)]
#[command(after_help = "Example:
  tap-train compare --data out/real --init out/tap --labels-per-class 5,10 --seeds 5 --out out/compare
  tap-train compare --out out/compare --resume")]
pub(crate) struct Compare {
    /// A data set of shards; with --resume that of the comparison, unless given.
    #[arg(long, required_unless_present = "resume")]
    pub(super) data: Option<PathBuf>,
    /// The pre-trained encoder: a run or a safetensors file; with --resume that of the comparison, unless given.
    #[arg(long, value_name = "RUN_OR_FILE", required_unless_present = "resume")]
    pub(super) init: Option<PathBuf>,
    /// The folder for `compare.json` and the runs of the arms.
    #[arg(long)]
    pub(super) out: PathBuf,
    /// Labels a class, numbers or `all`; 5,10, or with --resume those of the comparison, unless given.
    #[arg(long, value_delimiter = ',', value_parser = parse_labels)]
    pub(super) labels_per_class: Vec<usize>,
    /// Number of pairs; 5, or with --resume that of the comparison, unless given.
    #[arg(long)]
    pub(super) seeds: Option<u64>,
    /// Arms that train at once, each with one thread; one per core unless given.
    #[arg(
        long,
        value_name = "N",
        default_value_t = 0,
        hide_default_value = true,
        alias = "workers"
    )]
    jobs: usize,
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
    labels_per_class: usize,
    seed: u64,
    is_scratch: bool,
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
        let ComparisonRequest { data, init, .. } = &request;
        require_inputs([("--data", Some(data.as_path())), ("--init", Some(init))])?;
        let first_seed = request.config()?.load_for(Some(init))?.seed;
        self.refuse_what_is_there(&request)?;
        let _lock = FolderLock::take(&self.out, LOCK_KIND)?;
        // Results of other arms would be taken for those of this comparison.
        remove_if_present(&self.out.join(COMPARISON_FILE))?;
        request.write(&self.out)?;
        let cancel = interrupt::listen()?;
        let seeds: Vec<u64> = (first_seed..first_seed + request.seeds).collect();
        let mut arms = Vec::new();
        for &labels_per_class in &request.labels_per_class {
            for &seed in &seeds {
                for is_scratch in [true, false] {
                    arms.push(Arm {
                        folder: self.arm_folder(is_scratch, labels_per_class, seed),
                        labels_per_class,
                        seed,
                        is_scratch,
                    });
                }
            }
        }
        let runs: Vec<ChildRun> = arms.iter().map(|arm| self.child_run(&request, arm)).collect();
        let accuracy = |run: &ChildRun| Ok(read_result(&run.folder)?.score.accuracy);
        if !run_all(&runs, self.jobs, &cancel, accuracy)? {
            return Ok(ExitCode::from(INTERRUPTED));
        }
        let mut groups = Vec::new();
        for &labels_per_class in &request.labels_per_class {
            let results = |is_scratch: bool| {
                let of_setting = arms
                    .iter()
                    .filter(|arm| arm.labels_per_class == labels_per_class && arm.is_scratch == is_scratch);
                of_setting
                    .map(|arm| read_result(&arm.folder))
                    .collect::<anyhow::Result<Vec<_>>>()
            };
            groups.push(Arms {
                seeds: seeds.clone(),
                scratch: results(true)?,
                tap: results(false)?,
            });
        }
        let comparison = Comparison::new(&groups).context("there is nothing to compare")?;
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

    fn arm_folder(&self, is_scratch: bool, labels_per_class: usize, seed: u64) -> PathBuf {
        let start = if is_scratch { "scratch" } else { "tap" };
        let name = format!("{start}-{}-seed{seed}", labels_name(labels_per_class));
        self.out.join(ARMS).join(name)
    }

    /// The results of a comparison that is resumed though it is finished, with all its arms, and asked for as before.
    fn finished(&self, request: &ComparisonRequest) -> anyhow::Result<Option<Comparison>> {
        if !self.resume || ComparisonRequest::read(&self.out)?.as_ref() != Some(request) {
            return Ok(None);
        }
        let results = std::fs::read(self.out.join(COMPARISON_FILE)).ok();
        let comparison: Option<Comparison> = results.and_then(|json| serde_json::from_slice(&json).ok());
        let has_arms = |comparison: &Comparison| {
            comparison.settings.iter().all(|setting| {
                let mut seeds = setting.seeds.iter();
                seeds.all(|&seed| {
                    [true, false].into_iter().all(|is_scratch| {
                        let folder = self.arm_folder(is_scratch, setting.labels_per_class, seed);
                        folder.join(RESULT_FILE).is_file()
                    })
                })
            })
        };
        Ok(comparison.filter(has_arms))
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
            Some(&request.init),
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
        let mut arguments: Vec<OsString> = [
            "finetune",
            "--task",
            "classify",
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
        arguments.extend(["--data".into(), request.data.clone().into()]);
        arguments.extend(["--out".into(), arm.folder.clone().into()]);
        if let Some(config) = &request.config {
            arguments.extend(["--config".into(), config.into()]);
        }
        for setting in &request.set {
            arguments.extend(["--set".into(), setting.into()]);
        }
        // Scratch gets the architecture of the encoder that it is compared with, not its weights.
        let start = if arm.is_scratch { "--like" } else { "--init" };
        arguments.extend([start.into(), request.init.clone().into()]);
        // An arm that was not begun is begun by --resume too.
        if self.resume {
            arguments.push("--resume".into());
        } else if self.force {
            arguments.push("--force".into());
        }
        ChildRun::alone(arm.folder.clone(), arguments)
    }
}

fn remove_if_present(file: &Path) -> anyhow::Result<()> {
    match std::fs::remove_file(file) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", file.display()))
        }
        _ => Ok(()),
    }
}

fn read_result(folder: &Path) -> anyhow::Result<ClassifyResult> {
    let path = folder.join(RESULT_FILE);
    let bytes = std::fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
    serde_json::from_slice(&bytes).with_context(|| format!("damaged result {}", path.display()))
}

fn print(comparison: &Comparison) {
    ui::result(format_args!(
        "accuracy in % on {} ({}, no voting), mean and sample deviation over paired seeds",
        comparison.evaluation_split, comparison.selection
    ));
    for setting in &comparison.settings {
        ui::result(format_args!(
            "{:>4} labels a class: scratch {:.1} ±{:.1}, tap {:.1} ±{:.1}, paired {:+.1} (standard error {:.1}, {} pairs): {}",
            labels_name(setting.labels_per_class),
            100.0 * setting.scratch_summary.mean,
            100.0 * setting.scratch_summary.std,
            100.0 * setting.tap_summary.mean,
            100.0 * setting.tap_summary.std,
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
