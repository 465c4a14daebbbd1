//! `tap demo`: the main job from meshes to scores on synthetic shapes, with a report at the end.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use clap::Args;
use tap_dataset::{
    BuildOptions, BuildRecipe, Dataset, FolderLock, LOCK_FILE_NAME, OwnedFolder, RUN_FILES, Source,
    SourceOptions, Split, SynthesizeOptions,
};

use super::dataset;
use crate::recipe::{self, BUILD_PRESETS};
use crate::report::{self, Comparison, Curve, Pretraining, Probe, Report, Stage};
use crate::trainer;
use tap_cli::ui;

/// Run the main job on synthetic shapes: meshes, views, shards, pre-training, scores, and a report.
///
/// Prints one table and writes DIR/report.html with the loss curves, generated views beside the true ones, and the
/// confusion matrices. Takes less than ten minutes on two cores. --force replaces an earlier demo.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Arguments {
    /// Output folder.
    #[arg(long, value_name = "DIR", default_value = "out/demo")]
    out: PathBuf,
    /// Number of categories.
    #[arg(long, value_name = "K", default_value_t = 12)]
    classes: usize,
    /// Shapes per category.
    #[arg(long, value_name = "M", default_value_t = 48)]
    per_class: usize,
    /// Pre-training steps.
    #[arg(long, value_name = "N", default_value_t = 1200)]
    steps: usize,
    /// Labels per class for fine-tuning.
    #[arg(long, value_name = "LIST", default_value = "5")]
    labels_per_class: String,
    /// Paired seeds of the comparison.
    #[arg(long, value_name = "N", default_value_t = 5)]
    seeds: usize,
    /// A setting of the trainer, for example `finetune.steps_by_labels.5=50`.
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Replace an earlier demo; refused where the folder holds anything else.
    #[arg(long)]
    force: bool,
}

const EXAMPLES: &str = "\
Examples:
  tap demo
  tap demo --out /tmp/demo --steps 3400 --labels-per-class 5,10";

/// The recipe of the shards, and the trainer's preset for them.
const DATA_PRESET: &str = "mini-data";
const PRESET: &str = "mini";
/// Points of the validation curve.
const NUM_VALIDATIONS: usize = 8;
/// File that marks a demo folder; `--force` removes no other.
const MARKER: &str = "demo.toml";
/// Content of the marker.
const MARKER_TEXT: &str =
    "# Everything in this folder is made by `tap demo`, and removed by `tap demo --force`.\n";
/// Random encoders to compare the pre-trained one with.
const RANDOM_INITS: &str = "3";

pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode> {
    let trainer = trainer::find()
        .with_context(|| format!("the demo needs tap-train; build it: {}", trainer::REMEDY))?;
    let _lock = prepare(&arguments.out, arguments.force)?;
    let demo = DemoFolder {
        out: &arguments.out,
        trainer: &trainer,
        settings: &arguments.set,
    };
    let mut log = StageLog::default();

    log.time(
        "synthesize",
        || demo.synthesize(arguments),
        |num_objects| {
            (
                format!("{num_objects} meshes of {} classes", arguments.classes),
                None,
            )
        },
    )?;
    let dataset = log.time(
        "build",
        || demo.build(),
        |dataset| {
            let num_views = num_objects(dataset) * dataset.num_views();
            (
                format!("{num_views} views of {} px", dataset.image_size_px()),
                Some(num_views as f64),
            )
        },
    )?;
    let pretraining = log.time(
        "pre-train",
        || demo.pretrain(arguments.steps),
        |result| {
            (
                format!("{} steps", result.num_steps),
                Some(result.views_per_s * result.elapsed_s),
            )
        },
    )?;
    let probe: Probe = log.time(
        "probe",
        || demo.probe(&arguments.labels_per_class),
        |_| ("linear SVM on frozen features".to_owned(), None),
    )?;
    let comparison: Comparison = log.time(
        "compare",
        || demo.compare(arguments),
        |_| (format!("fine-tuning, {} paired seeds", arguments.seeds), None),
    )?;

    let report = Report {
        stages: log.stages,
        data: describe(&dataset),
        adapter: dataset.manifest().adapter["name"]
            .as_str()
            .unwrap_or("an unnamed adapter")
            .to_owned(),
        curve: Curve::read(&demo.path("pretrain/metrics.jsonl"))?,
        pretraining,
        probe,
        comparison,
        samples_png: read(&demo.path("pretrain/samples/final.png"))?,
    };
    let path = demo.path("report.html");
    write(&path, &report::html(&report))?;
    ui::result(report::summary(&report));
    ui::result(format_args!("\nThe report: {}", path.display()));
    Ok(ExitCode::SUCCESS)
}

/// Finished stages.
#[derive(Debug, Default)]
struct StageLog {
    stages: Vec<Stage>,
}

impl StageLog {
    /// Runs a stage; `describe` gives a summary and the number of views.
    fn time<T>(
        &mut self,
        name: &'static str,
        job: impl FnOnce() -> Result<T>,
        describe: impl FnOnce(&T) -> (String, Option<f64>),
    ) -> Result<T> {
        let started = Instant::now();
        let outcome = job().with_context(|| format!("the stage '{name}' failed"))?;
        let (what, num_views) = describe(&outcome);
        let elapsed_s = started.elapsed().as_secs_f64();
        ui::note(format_args!("{name}: {what}, {}", ui::seconds(elapsed_s)));
        self.stages.push(Stage {
            name,
            what,
            elapsed_s,
            num_views,
        });
        Ok(outcome)
    }
}

/// The output folder, and the trainer that works in it.
#[derive(Debug)]
struct DemoFolder<'a> {
    out: &'a Path,
    trainer: &'a Path,
    /// Trainer settings from the command line.
    settings: &'a [String],
}

impl DemoFolder<'_> {
    fn path(&self, name: &str) -> PathBuf {
        self.out.join(name)
    }

    fn synthesize(&self, arguments: &Arguments) -> Result<usize> {
        dataset::synthesize_with_bar(&SynthesizeOptions {
            classes: arguments.classes,
            per_class: arguments.per_class,
            random_yaw: true,
            ..SynthesizeOptions::new(self.path("meshes"))
        })
    }

    fn build(&self) -> Result<Dataset> {
        let recipe: BuildRecipe = recipe::resolve(BUILD_PRESETS, Some(DATA_PRESET), &[])?;
        let source = Source::open(&self.path("meshes"), &SourceOptions::default())?;
        let Some(summary) = dataset::build_with_bar(&source, &recipe, &BuildOptions::new(self.path("data")))?
        else {
            bail!("stopped; run it again to start over");
        };
        if summary.num_failed() > 0 {
            bail!("{} synthetic meshes were skipped", summary.num_failed());
        }
        Ok(Dataset::open(&self.path("data"))?)
    }

    fn pretrain(&self, num_steps: usize) -> Result<Pretraining> {
        let steps = format!("pretrain.steps={num_steps}");
        let validate_every = format!("log.validate_every={}", num_steps.div_ceil(NUM_VALIDATIONS));
        let settings = ["--config", PRESET, "--set", &steps, "--set", &validate_every];
        self.train("pretrain", &settings.map(OsStr::new))?;
        report::read_json(&self.path("pretrain/result.json"))
    }

    fn probe(&self, labels_per_class: &str) -> Result<Probe> {
        let labels = format!("{labels_per_class},all");
        let run = self.path("pretrain");
        let arguments = [
            "--init".as_ref(),
            run.as_os_str(),
            "--random-inits".as_ref(),
            RANDOM_INITS.as_ref(),
        ];
        self.train(
            "probe",
            &[&arguments[..], &["--labels-per-class".as_ref(), labels.as_ref()]].concat(),
        )?;
        report::read_json(&self.path("probe/probe.json"))
    }

    fn compare(&self, arguments: &Arguments) -> Result<Comparison> {
        let run = self.path("pretrain");
        let seeds = arguments.seeds.to_string();
        let labels = &arguments.labels_per_class;
        let init = [
            "--init".as_ref(),
            run.as_os_str(),
            "--seeds".as_ref(),
            seeds.as_ref(),
        ];
        self.train(
            "compare",
            &[&init[..], &["--labels-per-class".as_ref(), labels.as_ref()]].concat(),
        )?;
        report::read_json(&self.path("compare/compare.json"))
    }

    /// Runs a command of the trainer on the demo's data, with its output in a folder of the command's name. Its stderr
    /// is passed on, its stdout is not.
    fn train(&self, command: &str, arguments: &[&OsStr]) -> Result<()> {
        let status = Command::new(self.trainer)
            .arg(command)
            .arg("--data")
            .arg(self.path("data"))
            .arg("--out")
            .arg(self.path(command))
            .args(arguments)
            .args(self.settings.iter().flat_map(|setting| ["--set", setting]))
            .stdout(Stdio::null())
            .status()
            .with_context(|| format!("could not start {}", self.trainer.display()))?;
        if !status.success() {
            bail!("tap-train {command} ended with {status}");
        }
        Ok(())
    }
}

/// Makes the folder with nothing but the marker, and locks it. Removes an earlier demo, if there is nothing else.
fn prepare(out: &Path, force: bool) -> Result<FolderLock> {
    let marker = out.join(MARKER);
    let is_empty = fs::read_dir(out).map_or(true, |entries| {
        entries.flatten().all(|entry| entry.file_name() == LOCK_FILE_NAME)
    });
    if !is_empty {
        if !fs::read_to_string(&marker).is_ok_and(|text| text == MARKER_TEXT) {
            bail!("not a demo's folder, and not empty: {}", out.display());
        }
        if !force {
            bail!("there is a demo already (--force replaces it): {}", out.display());
        }
    }
    let survey = OwnedFolder::survey(out, &files())?;
    let lock = FolderLock::take(out, "demo")?;
    survey.remove_contents()?;
    write(&marker, MARKER_TEXT)?;
    Ok(lock)
}

/// The files of a demo, as patterns: its own, those of its meshes and shards, and those of its runs.
fn files() -> Vec<String> {
    let own = [
        LOCK_FILE_NAME,
        MARKER,
        "data.toml",
        "report.html",
        "meshes/split.csv",
        "meshes/parts.json",
        "meshes/taxonomy.json",
        "meshes/#/*_#/model.obj",
        "meshes/#/*_#/model.mtl",
        "data/_manifest.json",
        "data/manifest.json",
        "data/*-#-of-#.parquet",
        "data/*-#-of-#.parquet.json",
        "probe/probe.json",
        "compare/.lock",
        "compare/compare.json",
        "compare/request.toml",
    ];
    let of_runs = ["pretrain", "compare/arms/*"]
        .iter()
        .flat_map(|run| RUN_FILES.map(|file| format!("{run}/{file}")));
    own.map(str::to_owned).into_iter().chain(of_runs).collect()
}

fn num_objects(dataset: &Dataset) -> usize {
    Split::ALL.map(|split| dataset.len(split)).iter().sum()
}

fn describe(dataset: &Dataset) -> String {
    format!(
        "{} synthetic objects of {} classes ({} to learn from, {} to test on), {} points and {} views of {} pixels each",
        num_objects(dataset),
        dataset.classes().len(),
        dataset.len(Split::Train),
        dataset.len(Split::Test),
        dataset.num_points(),
        dataset.num_views(),
        dataset.image_size_px()
    )
}

fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).with_context(|| format!("could not read {}", path.display()))
}

fn write(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).with_context(|| format!("could not write {}", path.display()))
}
