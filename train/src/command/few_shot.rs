//! `tap-train few-shot`: every fold is an ordinary `finetune` or `probe` in a process of its own with one thread.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Args, ValueEnum};
use serde::{Deserialize, Serialize};
use tap_cli::exit_code::INTERRUPTED;
use tap_cli::{interrupt, ui};
use tap_dataset::{FolderLock, LOCK_FILE_NAME, OwnedFolder, RUN_FILES, refuse_foreign_file, refuse_inputs};
use tap_train::run::request::{REQUEST_FILE, noted};
use tap_train::run::weights::read_encoder;
use tap_train::run::{RESULT_FILE, write_json};
use tap_train::task::classify::ClassifyResult;
use tap_train::task::few_shot::{Episode, FewShotResult, FoldScore, Learner, PUBLISHED_FOLDS};
use tap_train::task::probe::{HeadKind, ProbeResult};
use tap_train::task::provenance::VERSION;
use tap_train::weights::safetensors::file_sha256;

use super::child_run::{ChildRun, ParentArgs, parent_arguments, run_all};
use super::probe::PROBE_FILE;
use super::{ConfigArgs, InitCheckpointArgs, is_result_file, request_file, require_inputs};

/// The results, within the folder.
pub(super) const FEW_SHOT_FILE: &str = "few_shot.json";
/// Keys that such a file has.
const FEW_SHOT_KEYS: [&str; 3] = ["learner", "settings", "folds"];
/// The folder of the folds' runs, within the folder.
const FOLDS: &str = "folds";
/// Kind of the folder in its lock file.
const LOCK_KIND: &str = "few-shot";

/// How a fold is learned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum HeadName {
    /// Fine-tune the whole network.
    Finetune,
    /// A linear SVM on frozen features, one class against the rest.
    Svm,
    /// A linear SVM on frozen features as papers report it, one class against one other.
    Svc,
    /// Logistic regression on frozen features.
    Logistic,
    /// Nearest neighbors of frozen features.
    Knn,
}

impl HeadName {
    fn learner(self) -> Learner {
        match self {
            Self::Finetune => Learner::Finetune,
            Self::Svm => Learner::Probe(HeadKind::Svm),
            Self::Svc => Learner::Probe(HeadKind::Svc),
            Self::Logistic => Learner::Probe(HeadKind::Logistic),
            Self::Knn => Learner::Probe(HeadKind::Knn),
        }
    }
}

/// Arguments of `few-shot`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  tap dataset import fewshot ModelNetFewshot --out episodes         # the published folds
  tap dataset import fewshot out/data --out episodes --seed 1       # or drawn from any data set with labels
  tap-train few-shot --data episodes --init out/tap --out out/few-shot
  tap-train few-shot --data episodes --init out/tap --head svm --ways 5 --shots 10,20 --out out/few-shot-svm
  tap-train few-shot --out out/few-shot --resume")]
pub(crate) struct FewShot {
    /// A folder of episodes, as `tap dataset import fewshot` writes it; with --resume that of before.
    #[arg(long, required_unless_present = "resume")]
    data: Option<PathBuf>,
    /// Start from the encoder of a run or of a safetensors file; from scratch if absent.
    #[arg(long, value_name = "RUN_OR_FILE")]
    init: Option<PathBuf>,
    #[command(flatten)]
    checkpoint: InitCheckpointArgs,
    /// The folder for `few_shot.json` and the runs of the folds.
    #[arg(long)]
    out: PathBuf,
    /// How a fold is learned; finetune unless given.
    #[arg(long, value_enum)]
    head: Option<HeadName>,
    /// Only episodes with so many classes.
    #[arg(long, value_delimiter = ',')]
    ways: Vec<usize>,
    /// Only episodes with so many training objects a class.
    #[arg(long, value_delimiter = ',')]
    shots: Vec<usize>,
    /// Folds that are learned at once, each with one thread; one per core, or with --resume as many as before, unless given.
    #[arg(long, value_name = "N")]
    jobs: Option<usize>,
    /// `auto`, `cpu` or `cuda:N`; cpu unless given.
    #[arg(long)]
    device: Option<String>,
    /// Keep folds that are finished and continue the others, with the settings of before; nothing else needs to be given.
    #[arg(long, conflicts_with = "force")]
    resume: bool,
    /// Replace earlier results; refused where the folder holds anything else, or an input.
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    config: ConfigArgs,
    /// Print the result as JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    parent: ParentArgs,
}

/// What is asked for, in `request.toml` of the folder.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct FewShotRequest {
    episodes: PathBuf,
    init: Option<PathBuf>,
    head: HeadName,
    ways: Vec<usize>,
    shots: Vec<usize>,
    device: String,
    /// Folds at once; 0 is one per core.
    #[serde(default)]
    jobs: usize,
    config: Option<String>,
    set: Vec<String>,
    seed: Option<u64>,
}

impl FewShotRequest {
    /// What is typed; the data and all that is left out come from `begun`, where there is one.
    fn of(typed: &FewShot, begun: Option<Self>) -> anyhow::Result<Self> {
        let settings = &typed.config.settings;
        let absolute = |path: &PathBuf| noted(path).map_or_else(|| path.clone(), PathBuf::from);
        require_inputs([("--init", typed.init.as_deref())])?;
        let typed_init = typed.checkpoint.encoder(typed.init.as_deref())?;
        let typed_init = typed_init.as_ref().map(absolute);
        let typed_config = match settings.file() {
            Some(file) => noted(file),
            None => settings.config.clone(),
        };
        let Some(begun) = begun else {
            let episodes = typed.data.as_ref().with_context(|| {
                format!("--data is required: the folder holds no {REQUEST_FILE} to resume")
            })?;
            return Ok(Self {
                episodes: absolute(episodes),
                init: typed_init,
                head: typed.head.unwrap_or(HeadName::Finetune),
                ways: typed.ways.clone(),
                shots: typed.shots.clone(),
                device: typed.device.clone().unwrap_or_else(|| String::from("cpu")),
                jobs: typed.jobs.unwrap_or(0),
                config: typed_config,
                set: settings.set.iter().map(ToString::to_string).collect(),
                seed: typed.config.seed,
            });
        };
        let is_other = [
            ("--init", typed_init.is_some() && typed_init != begun.init),
            ("--head", typed.head.is_some_and(|head| head != begun.head)),
            ("--ways", !typed.ways.is_empty() && typed.ways != begun.ways),
            ("--shots", !typed.shots.is_empty() && typed.shots != begun.shots),
            ("--config", typed_config.is_some() && typed_config != begun.config),
            (
                "--set",
                settings
                    .set
                    .iter()
                    .any(|setting| !begun.set.contains(&setting.to_string())),
            ),
            (
                "--seed",
                typed.config.seed.is_some() && typed.config.seed != begun.seed,
            ),
        ];
        if let Some((flag, _)) = is_other.iter().find(|(_, is_other)| *is_other) {
            anyhow::bail!(
                "{flag} is not what the folds were begun with; choose another --out: {}",
                typed.out.display()
            );
        }
        Ok(Self {
            episodes: typed.data.as_ref().map_or(begun.episodes, absolute),
            device: typed.device.clone().unwrap_or(begun.device),
            jobs: typed.jobs.unwrap_or(begun.jobs),
            ..begun
        })
    }

    fn read(folder: &Path) -> anyhow::Result<Option<Self>> {
        request_file::read(folder, "few-shot folds")
    }

    fn write(&self, folder: &Path) -> anyhow::Result<()> {
        request_file::write(self, folder)
    }

    /// The configuration as if it were typed.
    fn config(&self) -> anyhow::Result<ConfigArgs> {
        ConfigArgs::of_request(self.config.clone(), &self.set, self.seed)
    }
}

impl FewShot {
    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
        let begun = if self.resume {
            FewShotRequest::read(&self.out)?
        } else {
            None
        };
        let request = FewShotRequest::of(&self, begun)?;
        let init = request.init.as_deref();
        require_inputs([("--data", Some(request.episodes.as_path())), ("--init", init)])?;
        anyhow::ensure!(
            init.is_some() || request.head == HeadName::Finetune,
            "--init is required: a frozen encoder with random weights is no score; `tap-train probe` compares with random ones"
        );
        // A wrong configuration is refused before any fold starts.
        let seed = request.config()?.load_for(init)?.seed;
        let episodes = Episode::list(&request.episodes, &request.ways, &request.shots)?;
        self.refuse_what_is_there(&request)?;
        let _lock = FolderLock::take(&self.out, LOCK_KIND)?;
        request.write(&self.out)?;
        let cancel = interrupt::listen()?;
        self.parent.watch(&cancel);
        let mut runs = Vec::new();
        for episode in &episodes {
            if self.force || self.finished(&request, episode)?.is_none() {
                runs.push(self.child_run(&request, episode, seed));
            }
        }
        let num_kept = episodes.len() - runs.len();
        if num_kept > 0 {
            ui::note(format_args!(
                "{num_kept} of {} folds are finished already",
                episodes.len()
            ));
        }
        let accuracy = |run: &ChildRun| Ok(Fold::read(request.head, &run.folder)?.accuracy);
        if !run_all(&runs, request.jobs, &cancel, accuracy)? {
            return Ok(ExitCode::from(INTERRUPTED));
        }
        let result = self.result(&request, &episodes, seed)?;
        write_json(&self.out.join(FEW_SHOT_FILE), &result)?;
        if self.json {
            ui::json(&result)?;
        } else {
            print(&result);
            ui::result(format_args!("{}", self.out.display()));
        }
        Ok(ExitCode::SUCCESS)
    }

    fn folder(&self, episode: &Episode) -> PathBuf {
        self.out.join(FOLDS).join(episode.name())
    }

    /// The score of a fold that is finished, and of the data that is there now.
    fn finished(&self, request: &FewShotRequest, episode: &Episode) -> anyhow::Result<Option<Fold>> {
        let fold = Fold::read(request.head, &self.folder(episode)).ok();
        let (data_sha256, _) = episode.data()?;
        Ok(fold.filter(|fold| fold.data_sha256 == data_sha256))
    }

    /// The command of a fold.
    fn child_run(&self, request: &FewShotRequest, episode: &Episode, seed: u64) -> ChildRun {
        let folder = self.folder(episode);
        let mut arguments: Vec<OsString> = Vec::new();
        let mut push = |more: &[&str]| arguments.extend(more.iter().map(OsString::from));
        match request.head.learner() {
            Learner::Finetune => {
                push(&["finetune", "--task", "classify"]);
                // A fold that was not begun is begun by --resume too.
                if self.resume {
                    push(&["--resume"]);
                } else if self.force {
                    push(&["--force"]);
                }
            }
            Learner::Probe(head) => {
                push(&["probe", "--random-inits", "0", "--labels-per-class", "all"]);
                push(&["--heads", &head.to_string()]);
                // What is there is not finished, or of other data.
                if self.resume || self.force {
                    push(&["--force"]);
                }
            }
        }
        push(&[
            "--threads",
            "1",
            "--json",
            "--device",
            &request.device,
            "--seed",
            &seed.to_string(),
        ]);
        if let Some(config) = &request.config {
            push(&["--config", config]);
        }
        for setting in &request.set {
            push(&["--set", setting]);
        }
        arguments.extend(parent_arguments());
        arguments.extend(["--data".into(), episode.path.clone().into()]);
        arguments.extend(["--out".into(), folder.clone().into()]);
        if let Some(init) = &request.init {
            arguments.extend(["--init".into(), init.clone().into()]);
        }
        ChildRun::alone(folder, arguments)
    }

    fn result(
        &self,
        request: &FewShotRequest,
        episodes: &[Episode],
        seed: u64,
    ) -> anyhow::Result<FewShotResult> {
        let mut folds = Vec::new();
        let mut selection = String::new();
        for episode in episodes {
            let fold = Fold::read(request.head, &self.folder(episode))?;
            selection = fold.selection;
            folds.push(FoldScore {
                setting: episode.setting,
                fold: episode.fold,
                accuracy: fold.accuracy,
                data_sha256: fold.data_sha256,
                data_name: fold.data_name,
                config_sha256: fold.config_sha256,
                chosen: fold.chosen,
            });
        }
        let init_sha256 = match &request.init {
            Some(init) => file_sha256(&read_encoder(init)?.file)?,
            None => String::from("none"),
        };
        Ok(FewShotResult {
            version: VERSION.to_owned(),
            learner: request.head.learner(),
            init_sha256,
            seed,
            selection,
            votes: 0,
            settings: FewShotResult::summarize(&folds),
            folds,
        })
    }

    /// Refuses a folder that holds results, unless they are to be resumed or replaced, and what is not surely one. Nothing is
    /// changed.
    fn refuse_what_is_there(&self, request: &FewShotRequest) -> anyhow::Result<()> {
        let [results, folds] = [FEW_SHOT_FILE, FOLDS].map(|name| self.out.join(name));
        let is_there = |path: &Path| path.symlink_metadata().is_ok();
        anyhow::ensure!(
            self.force || self.resume || !(is_there(&results) || is_there(&folds)),
            "there are few-shot folds already; pass --resume to continue them or --force to replace them: {}",
            self.out.display()
        );
        refuse_foreign_file(&results, |file| is_result_file(file, &FEW_SHOT_KEYS))?;
        let is_request = |_: &Path| FewShotRequest::read(&self.out).is_ok_and(|request| request.is_some());
        refuse_foreign_file(&self.out.join(REQUEST_FILE), is_request)?;
        if !self.force {
            return Ok(());
        }
        let inputs = [
            Some(request.episodes.as_path()),
            request.init.as_deref(),
            self.config.settings.file(),
        ];
        refuse_inputs(&self.out, inputs.into_iter().flatten())?;
        // Each fold proves its own folder again when it replaces it.
        let of_folds = RUN_FILES
            .into_iter()
            .chain([PROBE_FILE])
            .map(|file| format!("{FOLDS}/*/{file}"));
        let patterns = [LOCK_FILE_NAME, FEW_SHOT_FILE, REQUEST_FILE].map(str::to_owned);
        OwnedFolder::survey(
            &self.out,
            &patterns.into_iter().chain(of_folds).collect::<Vec<_>>(),
        )?;
        Ok(())
    }
}

/// What a finished fold says.
struct Fold {
    accuracy: f64,
    data_sha256: String,
    data_name: String,
    config_sha256: Option<String>,
    selection: String,
    chosen: Option<String>,
}

impl Fold {
    fn read(head: HeadName, folder: &Path) -> anyhow::Result<Self> {
        let file = |name: &str| -> anyhow::Result<(PathBuf, Vec<u8>)> {
            let path = folder.join(name);
            let bytes = std::fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
            Ok((path, bytes))
        };
        if head == HeadName::Finetune {
            let (path, bytes) = file(RESULT_FILE)?;
            let result: ClassifyResult = serde_json::from_slice(&bytes)
                .with_context(|| format!("damaged result {}", path.display()))?;
            return Ok(Self {
                accuracy: result.score.accuracy,
                data_sha256: result.provenance.data_sha256,
                data_name: result.provenance.data_name,
                config_sha256: Some(result.provenance.config_sha256),
                selection: result.provenance.selection,
                chosen: None,
            });
        }
        let (path, bytes) = file(PROBE_FILE)?;
        let result: ProbeResult =
            serde_json::from_slice(&bytes).with_context(|| format!("damaged result {}", path.display()))?;
        let cells = result.arms.iter().flat_map(|arm| &arm.grid);
        let chosen = cells
            .into_iter()
            .find(|cell| cell.is_chosen)
            .with_context(|| format!("no classifier was chosen: {}", path.display()))?;
        Ok(Self {
            accuracy: chosen.accuracy,
            chosen: Some(format!(
                "{}, {} = {}",
                chosen.pooling, chosen.setting_name, chosen.setting
            )),
            data_sha256: result.data_sha256,
            data_name: result.data_name,
            config_sha256: None,
            selection: result.grid_selection.unwrap_or_default(),
        })
    }
}

fn print(result: &FewShotResult) {
    ui::result(format_args!(
        "accuracy in %, mean and sample deviation over folds ({}, no voting)",
        result.selection
    ));
    for setting in &result.settings {
        let count = setting.accuracy.count;
        let note = if count == PUBLISHED_FOLDS {
            ""
        } else {
            " (published scores are means of ten)"
        };
        ui::result(format_args!(
            "{:14} {:.1} ±{:.1} over {count} folds{note}",
            setting.setting.to_string(),
            100.0 * setting.accuracy.mean,
            100.0 * setting.accuracy.std,
        ));
    }
}
