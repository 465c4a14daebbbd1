//! The subcommands, one file each, and the flags that they share.

mod audit;
mod begun;
mod child_run;
mod compare;
mod comparison_request;
mod doctor;
mod embed;
mod evaluate;
mod export;
mod features;
mod few_shot;
mod finetune;
mod generate;
mod import;
mod mesh_data;
mod predict;
mod pretrain;
mod probe;
mod rank;
mod replay;
mod report;
mod reproduce;
mod request_file;
mod result_folder;
mod retrieve;
mod robustness;
mod sweep;
mod sweep_plan;
mod sweep_record;
mod sweep_request;
mod sweep_run;
mod table;
mod tap_build;
mod vote_args;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::str::FromStr;

use clap::{Args, Subcommand};
use strum::VariantNames;
use tap_cli::flag::SettingFlags;
use tap_cli::settings::SettingsError;
use tap_dataset::predicate::Predicate;
use tap_dataset::{Order, OwnedFolder, refuse_foreign_file, refuse_inputs};
use tap_train::TrainError;
use tap_train::config::{Config, MixConfig, PRESETS, Plan};
use tap_train::engine::trainer::RunOptions;
use tap_train::process;
use tap_train::ranks::Ranks;
use tap_train::run::fault::run_of;
use tap_train::run::request::{Request, is_url, noted};
use tap_train::run::weights::{WeightChoice, encoder_path};
use tap_train::run::{CONFIG_FILE, Existing};
use tch::Device;

/// Largest number of loader threads.
const MAX_LOADER_THREADS: usize = 8;

/// A subcommand.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Pre-train an encoder by drawing the views of each object (TAP).
    Pretrain(pretrain::Pretrain),
    /// Fine-tune an encoder on a task.
    Finetune(finetune::Finetune),
    /// Score a fine-tuned run on a split.
    Evaluate(evaluate::Evaluate),
    /// Score anybody's weights under one locked protocol, beside the number that they claim.
    Audit(audit::Audit),
    /// Score frozen features with a linear SVM, beside random encoders.
    Probe(probe::Probe),
    /// Fine-tune from scratch and from an encoder under the same seeds, and report the paired difference.
    Compare(compare::Compare),
    /// Rank objects by frozen features: precision, recall, mAP and NDCG.
    Retrieve(retrieve::Retrieve),
    /// Write frozen features of any rows as Parquet and NPY.
    Embed(embed::Embed),
    /// Score the folds of few-shot episodes, fine-tuned or by frozen features: mean and deviation.
    FewShot(few_shot::FewShot),
    /// Name classes or parts of any clouds or meshes, labeled or not.
    Predict(predict::Predict),
    /// Score a fine-tuned run on rotated, jittered, occluded, thinned and noisy clouds.
    Robustness(robustness::Robustness),
    /// Pre-train and score the rows of a table under several seeds: the paper's ablations, or one's own.
    Sweep(sweep::Sweep),
    /// Pre-train, fine-tune and score the rows of the paper's Tables 1 to 4, beside its figures.
    Reproduce(reproduce::Reproduce),
    /// Print results side by side, with means over seeds and what is published.
    Table(table::Table),
    /// Draw views of objects and meshes from any pose with a pre-trained run.
    Generate(generate::Generate),
    /// Repeat a step that was not finite, from the folder that it left in the run.
    Replay(replay::Replay),
    /// Read encoder weights out of a PyTorch checkpoint, without running any of its code.
    Import(import::Import),
    /// Write weights for PyTorch, under the names that the released code of their backbone loads.
    Export(export::Export),
    /// Compute features of a frozen 2D network for every view, and keep them beside the rows.
    Features(features::Features),
    /// Compare runs on one HTML page: curves, results, settings that differ, pictures.
    Report(report::ReportArgs),
    /// Show which libtorch this program runs with.
    Doctor(doctor::Doctor),
}

impl Command {
    /// Runs it.
    pub(crate) fn run(self) -> anyhow::Result<ExitCode> {
        if !matches!(self, Self::Pretrain(_) | Self::Finetune(_)) {
            rank::refuse_several()?;
        }
        match self {
            Self::Pretrain(command) => command.run(),
            Self::Finetune(command) => command.run(),
            Self::Evaluate(command) => command.run(),
            Self::Audit(command) => command.run(),
            Self::Probe(command) => command.run(),
            Self::Compare(command) => command.run(),
            Self::Retrieve(command) => command.run(),
            Self::Embed(command) => command.run(),
            Self::FewShot(command) => command.run(),
            Self::Predict(command) => command.run(),
            Self::Robustness(command) => command.run(),
            Self::Sweep(command) => command.run(),
            Self::Reproduce(command) => command.run(),
            Self::Table(command) => command.run(),
            Self::Generate(command) => command.run(),
            Self::Replay(command) => command.run(),
            Self::Import(command) => command.run(),
            Self::Export(command) => command.run(),
            Self::Features(command) => command.run(),
            Self::Report(command) => command.run(),
            Self::Doctor(command) => command.run(),
        }
    }
}

/// Where to compute.
#[derive(Debug, Args)]
pub(crate) struct DeviceArgs {
    /// `auto`, `cpu` or `cuda:N`; `auto`, or with --resume that of the run, unless given.
    #[arg(long)]
    pub(crate) device: Option<String>,
    /// Threads; one per core, or with --resume as many as the run had, unless given. Losses depend on the number in their
    /// last digits, since sums are split among threads: --threads 1 gives the same on every machine of a kind.
    #[arg(long, value_name = "N", alias = "workers")]
    pub(crate) threads: Option<usize>,
}

impl DeviceArgs {
    /// Sets the number of threads and selects the device, for what is no run.
    pub(crate) fn start(&self) -> anyhow::Result<Device> {
        process::set_num_threads(self.threads.unwrap_or(0));
        Ok(process::parse_device(self.device.as_deref().unwrap_or("auto"))?)
    }

    /// Sets the number of threads and selects the device; what is left open is as it was in the run that goes on, where
    /// this machine has it.
    pub(crate) fn options(
        &self,
        data: &Path,
        out: &Path,
        existing: Existing,
        begun: Option<&Request>,
    ) -> anyhow::Result<RunOptions> {
        self.options_of(&Ranks::default(), data, out, existing, begun)
    }

    /// The same for one of several ranks: the ranks of a machine divide its cores and its GPUs among themselves.
    fn options_of(
        &self,
        ranks: &Ranks,
        data: &Path,
        out: &Path,
        existing: Existing,
        begun: Option<&Request>,
    ) -> anyhow::Result<RunOptions> {
        let num_cores = (process::num_cores() / ranks.local_world_size()).max(1);
        let threads_of_run = begun.map(|request| request.num_threads.min(num_cores));
        let num_threads = process::set_num_threads(self.threads.or(threads_of_run).unwrap_or(num_cores));
        let begun = begun.filter(|_| ranks.is_single());
        let device = match (&self.device, begun) {
            (Some(name), _) if name != "auto" => process::parse_device(name)?,
            (None, Some(request)) => {
                process::parse_device(&request.device).or_else(|_| process::parse_device("auto"))?
            }
            _ => match process::parse_device("auto")? {
                Device::Cuda(0) => process::parse_device(&format!("cuda:{}", ranks.local_rank()))?,
                device => device,
            },
        };
        Ok(RunOptions {
            data: data.to_owned(),
            out: out.to_owned(),
            existing,
            device,
            // A store answers late, but many requests at a time.
            loader_threads: if is_url(data) {
                MAX_LOADER_THREADS
            } else {
                num_threads.clamp(1, MAX_LOADER_THREADS)
            },
            num_threads,
            continue_from: None,
            ranks: ranks.clone(),
        })
    }
}

/// Flags of the configuration.
#[derive(Debug, Args)]
pub(crate) struct ConfigArgs {
    #[command(flatten)]
    pub(crate) settings: SettingFlags,
    /// Seed of everything random; the same as `--set seed=N`.
    #[arg(long)]
    pub(crate) seed: Option<u64>,
}

impl ConfigArgs {
    /// As if a request were typed.
    fn of_request(config: Option<String>, set: &[String], seed: Option<u64>) -> anyhow::Result<Self> {
        let set = set.iter().map(|setting| setting.parse());
        Ok(Self {
            settings: SettingFlags {
                config,
                set: set.collect::<Result<_, _>>()?,
            },
            seed,
        })
    }

    /// Loads it.
    pub(crate) fn load(&self) -> anyhow::Result<Config> {
        load_config(self.settings.config.as_deref(), &self.settings())
    }

    /// Loads it for a run that goes on: unless `--config` is given, what the run was begun with counts, below what `--set`
    /// says.
    pub(crate) fn load_on(&self, begun: Option<&Request>) -> anyhow::Result<Config> {
        match begun {
            Some(request) if self.settings.config.is_none() => {
                let config = &request.config;
                config.with_settings(&self.settings()).map_err(of_command_line)
            }
            _ => self.load(),
        }
    }

    /// Loads it for an encoder: unless `--config` is given, the preset, the sizes and the points of the encoder's run count,
    /// below what `--set` says.
    pub(crate) fn load_for(&self, run: Option<&Path>) -> anyhow::Result<Config> {
        let plan = run.map(plan_of_encoder).transpose()?.flatten();
        self.load_like(plan.as_ref())
    }

    /// The same for an encoder of a run with this plan.
    fn load_like(&self, plan: Option<&Plan>) -> anyhow::Result<Config> {
        let Some(plan) = plan.filter(|_| self.settings.config.is_none()) else {
            return self.load();
        };
        let mut config = load_config(PRESETS.names().find(|name| *name == plan.preset), &[])?;
        config.encoder.clone_from(&plan.encoder);
        (config.data.num_points, config.data.point_choice) = (plan.data.num_points, plan.data.point_choice);
        config.with_settings(&self.settings()).map_err(of_command_line)
    }

    fn settings(&self) -> Vec<String> {
        let seed = self.seed.map(|seed| format!("seed={seed}"));
        let settings = self.settings.set.iter().map(ToString::to_string);
        settings.chain(seed).collect()
    }
}

fn load_config(preset_or_file: Option<&str>, settings: &[String]) -> anyhow::Result<Config> {
    Config::load(preset_or_file, settings).map_err(of_command_line)
}

/// A wrong `--set` or `--config` is an error of the command line.
fn of_command_line(error: TrainError) -> anyhow::Error {
    match error {
        TrainError::Settings(error @ SettingsError::UnknownPreset { .. }) => {
            anyhow::Error::new(error).context("--config")
        }
        TrainError::Settings(error) => error.into(),
        error => error.into(),
    }
}

/// Which weights of a run are read.
#[derive(Debug, Args)]
pub(crate) struct CheckpointArgs {
    /// Weights of a run: `best` (a pre-training's checkpoint with the lowest validation loss, a fine-tuning's by
    /// finetune.select), `latest` (of the newest checkpoint), the step of a checkpoint, or a file of weights or the folder of a
    /// checkpoint; those that the run finished with unless given.
    #[arg(long, value_name = "best|latest|STEP|FILE", value_parser = parse_checkpoint)]
    checkpoint: Option<WeightChoice>,
}

impl CheckpointArgs {
    /// The weights of a run that is scored.
    fn weights(&self) -> WeightChoice {
        self.checkpoint.clone().unwrap_or_default()
    }

    /// The path that an encoder is read from, where `init` is the run, or the file, that is typed.
    fn encoder(&self, init: &Path) -> anyhow::Result<PathBuf> {
        Ok(encoder_path(init, self.checkpoint.as_ref())?)
    }
}

/// Which weights of the run of `--init` a training starts from.
#[derive(Debug, Args)]
pub(crate) struct InitCheckpointArgs {
    /// Weights of the run of --init: `best`, `latest`, the step of a checkpoint, or a file; those that it finished with, or else
    /// of its newest checkpoint, unless given.
    #[arg(long, value_name = "best|latest|STEP|FILE", value_parser = parse_checkpoint, requires = "init")]
    checkpoint: Option<WeightChoice>,
}

impl InitCheckpointArgs {
    /// The path that the encoder is read from.
    fn encoder(&self, init: Option<&Path>) -> anyhow::Result<Option<PathBuf>> {
        let path = init.map(|init| encoder_path(init, self.checkpoint.as_ref()));
        Ok(path.transpose()?)
    }
}

/// The folder of the run that an encoder is of, where it lies in one: in a checkpoint, or as a file.
fn run_of_encoder(path: &Path) -> &Path {
    let run = match path.parent() {
        Some(parent) if path.is_file() => run_of(parent),
        _ => run_of(path),
    };
    if run.join(CONFIG_FILE).is_file() {
        run
    } else {
        path
    }
}

/// The plan of the run that an encoder lies in.
fn plan_of_encoder(path: &Path) -> Result<Option<Plan>, TrainError> {
    let file = run_of_encoder(path).join(CONFIG_FILE);
    file.is_file().then(|| Plan::read(&file)).transpose()
}

/// The same as rank 0 finds it.
fn plan_of_encoder_on(ranks: &Ranks, path: Option<&Path>) -> Result<Option<Plan>, TrainError> {
    let text = ranks.share("reading the run of the encoder", || {
        let plan = path.map(plan_of_encoder).transpose()?.flatten();
        plan.as_ref().map(Plan::to_toml).transpose()
    })?;
    text.as_deref().map(Plan::from_toml).transpose()
}

/// Which rows are read.
#[derive(Debug, Args)]
pub(crate) struct RowArgs {
    /// Only rows of which this is true, as in `category = 'chair' and coverage_min > 0.02`.
    #[arg(long = "where", value_name = "CONDITION")]
    filter: Option<Predicate>,
}

impl RowArgs {
    /// The condition; empty for all rows.
    pub(crate) fn condition(&self) -> String {
        self.filter.as_ref().map(Predicate::to_string).unwrap_or_default()
    }

    fn apply(&self, config: &mut Config) {
        if self.filter.is_some() {
            config.data.filter = self.condition();
        }
    }
}

/// Which rows are trained on.
#[derive(Debug, Args)]
pub(crate) struct TrainRowArgs {
    #[command(flatten)]
    rows: RowArgs,
    /// Train on the rows of this data set too; repeat it for more. WEIGHT samples of it come for each one of --data. If no
    /// weight is given, each row of all sets comes once an epoch. What is evaluated are rows of --data alone.
    #[arg(long, value_name = "DIR[=WEIGHT]", value_parser = parse_mix)]
    mix: Vec<MixConfig>,
    /// Leave out the samples with these ids, as after a step that was not finite. The order of all others stays as it is.
    #[arg(long, value_name = "ID", value_delimiter = ',')]
    leave_out: Vec<String>,
}

impl TrainRowArgs {
    /// Sets what is given; the rest stays as the configuration has it.
    pub(crate) fn apply(&self, config: &mut Config) -> anyhow::Result<()> {
        self.rows.apply(config);
        if !self.mix.is_empty() {
            config.data.mix.clone_from(&self.mix);
        }
        for id in &self.leave_out {
            if !config.data.leave_out.contains(id) {
                config.data.leave_out.push(id.clone());
            }
        }
        let mixed = config
            .data
            .mix
            .iter()
            .map(|set| ("--mix", Some(Path::new(&set.data))));
        require_inputs(mixed)
    }
}

/// A folder or URL, with a weight behind the last `=`.
fn parse_mix(text: &str) -> Result<MixConfig, String> {
    let weighted = text
        .rsplit_once('=')
        .and_then(|(data, weight)| Some((data, weight.parse::<f64>().ok()?)));
    let (data, weight) = match weighted {
        Some((data, weight)) => (data, Some(weight)),
        None => (text, None),
    };
    if weight.is_some_and(|weight| !Order::WEIGHTS.contains(&weight)) {
        return Err(String::from(
            "a weight is a number between 0.000001 and 1000000000",
        ));
    }
    let data = noted(Path::new(data)).ok_or("the path is no text")?;
    Ok(MixConfig { data, weight })
}

/// Flags for an existing run.
#[derive(Debug, Args)]
pub(crate) struct ExistingArgs {
    /// Continue the run that is in the folder, with its own data and settings: nothing else needs to be given. What is
    /// given changes nothing but cache, log intervals, threads and device; another setting is refused.
    #[arg(long, conflicts_with = "force")]
    pub(crate) resume: bool,
    /// Replace the run that is in the folder; refused where the folder holds anything else, or an input.
    #[arg(long)]
    pub(crate) force: bool,
    /// Train on from the newest checkpoint of this run, or from one checkpoint or `non-finite-*` folder in it, with its data
    /// and settings, its weights and its optimizer, but with other steps, another learning rate or another optimizer, as --set
    /// says, or without some samples, as --leave-out says. Steps are counted from its beginning. That run stays as it is; the
    /// new one says what it continues.
    #[arg(long, value_name = "RUN_OR_CHECKPOINT")]
    pub(crate) continue_from: Option<PathBuf>,
}

impl ExistingArgs {
    /// The path that the encoder to start from is read from, which rank 0 alone does, as it reads the run that is continued:
    /// both must be there.
    fn init(
        &self,
        ranks: &Ranks,
        init: Option<&Path>,
        checkpoint: &InitCheckpointArgs,
    ) -> anyhow::Result<Option<PathBuf>> {
        if !ranks.is_first() {
            return Ok(None);
        }
        require_inputs([
            ("--init", init),
            ("--continue-from", self.continue_from.as_deref()),
        ])?;
        checkpoint.encoder(init)
    }

    /// What to do with a run that is in `out`, which rank 0 alone has; one that would be replaced must hold none of the inputs.
    fn existing<'a>(
        &self,
        ranks: &Ranks,
        out: &Path,
        inputs: impl IntoIterator<Item = &'a Path>,
    ) -> anyhow::Result<Existing> {
        Ok(match (self.resume, self.force) {
            (true, _) => Existing::Resume,
            (_, true) => {
                if ranks.is_first() {
                    refuse_inputs(out, inputs)?;
                }
                Existing::Replace
            }
            _ => Existing::Refuse,
        })
    }
}

/// What is printed of a run that was finished before it was resumed.
fn finished_line(out: &Path, score: &str) -> String {
    format!(
        "finished already, nothing is left to do: {score}: {}",
        out.display()
    )
}

/// Refuses paths of inputs at which there is nothing, each with the flag or setting that gave it. Data sets may lie in an
/// object store, which is asked when they are opened.
fn require_inputs<'a>(inputs: impl IntoIterator<Item = (&'a str, Option<&'a Path>)>) -> anyhow::Result<()> {
    for (name, path) in inputs {
        let missing = path.filter(|path| !path.exists() && !is_url(path));
        if let Some(path) = missing {
            anyhow::bail!("{name}: there is no such file or folder: {}", path.display());
        }
    }
    Ok(())
}

/// A name, a step or a path.
fn parse_checkpoint(text: &str) -> Result<WeightChoice, String> {
    let path = Path::new(text);
    match (text, text.parse()) {
        ("best", _) => Ok(WeightChoice::Best),
        ("latest", _) => Ok(WeightChoice::Latest),
        (_, Ok(step)) => Ok(WeightChoice::Step(step)),
        _ if path.exists() => Ok(WeightChoice::File(path.to_owned())),
        _ => Err(format!(
            "'{text}' is none of best, latest, a step and a file or folder that is there"
        )),
    }
}

/// "5", "10" or "all".
fn parse_labels(text: &str) -> Result<usize, String> {
    match text {
        "all" => Ok(0),
        _ => text
            .parse()
            .ok()
            .filter(|count| *count > 0)
            .ok_or_else(|| format!("'{text}' is neither a number of labels nor 'all'")),
    }
}

/// The name of a number of labels.
fn labels_name(labels_per_class: usize) -> String {
    if labels_per_class == 0 {
        String::from("all")
    } else {
        labels_per_class.to_string()
    }
}

/// Whether it is a JSON file with at least these top-level keys.
fn is_result_file(file: &Path, keys: &[&str]) -> bool {
    let json: Option<serde_json::Value> = std::fs::read(file)
        .ok()
        .and_then(|bytes| serde_json::from_slice(&bytes).ok());
    json.is_some_and(|json| keys.iter().all(|key| json.get(key).is_some()))
}

/// Refuses an existing file without `--force`, and with it one that is an input or is not `ours`.
fn replace_file(
    file: &Path,
    force: bool,
    inputs: &[&Path],
    is_ours: impl FnOnce(&Path) -> bool,
) -> anyhow::Result<()> {
    anyhow::ensure!(
        force || file.symlink_metadata().is_err(),
        "{} exists; pass --force to replace it",
        file.display()
    );
    refuse_inputs(file, inputs.iter().copied())?;
    Ok(refuse_foreign_file(file, is_ours)?)
}

/// Refuses a folder that is not empty without `--force`, and with it empties one that holds only files by these patterns and no
/// input.
fn empty_folder(out: &Path, force: bool, inputs: &[&Path], patterns: &[&str]) -> anyhow::Result<()> {
    let is_empty = match std::fs::read_dir(out) {
        Ok(mut entries) => entries.next().is_none(),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => true,
        Err(error) => return Err(anyhow::Error::new(error).context(format!("cannot read {}", out.display()))),
    };
    if is_empty {
        return Ok(());
    }
    anyhow::ensure!(
        force,
        "the folder is not empty; choose another one, or pass --force to replace results of this command: {}",
        out.display()
    );
    refuse_inputs(out, inputs.iter().copied())?;
    OwnedFolder::survey(out, patterns)?.remove_contents()?;
    Ok(())
}

/// One of the names of an option.
fn parse_name<T: FromStr + VariantNames>(text: &str) -> Result<T, String> {
    text.parse()
        .map_err(|_| format!("unknown '{text}', expected one of {}", T::VARIANTS.join(", ")))
}
