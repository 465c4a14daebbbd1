//! `tap-train predict`.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Args, ValueEnum};
use tap_cli::ui;
use tap_dataset::{Split, is_manifest_name};
use tap_train::config::Task;
use tap_train::data::cloud_file::is_cloud_file;
use tap_train::run::Existing;
use tap_train::run::request::is_url;
use tap_train::task::predict::{
    ClassMap, PREDICTION_FILES, PredictResult, Predictor, Unlabeled, note_unmapped,
};
use tap_train::task::{DataChoice, OpenData};

use super::{CheckpointArgs, DeviceArgs, RowArgs, empty_folder, require_inputs, tap_build};
use crate::progress::Progress;

/// The axis that points up in files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Up {
    /// As in `ShapeNet` and scans of `ScanObjectNN`.
    Y,
    /// As in `ModelNet` and most CAD.
    Z,
}

/// Arguments of `predict`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  tap-train predict --run out/tuned scan.npy more-scans/ --out out/predicted
  tap-train predict --run out/tuned --up z chairs/*.off --out out/predicted
  tap-train predict --run out/parts --category Chair chair.xyz --out out/parts-of-chair
  tap-train predict --run out/modelnet40 out/scanobjectnn --split test --class-map map.toml --out out/transferred

A class map is a TOML file with a line for each class of the data that is to be scored, and the classes of the run that are right
for it:  desk = [\"desk\", \"table\"]")]
pub(crate) struct Predict {
    /// Data sets of shards; files of points (.npy, .xyz, .txt, .pts, .csv: x, y, z and anything behind); meshes in any format that
    /// `tap dataset build` reads; folders of such files.
    #[arg(required = true, value_name = "INPUT")]
    inputs: Vec<PathBuf>,
    /// A fine-tuned run.
    #[arg(long)]
    run: PathBuf,
    #[command(flatten)]
    checkpoint: CheckpointArgs,
    /// The folder to write. Classification: `predictions.csv` and `logits.npy`. Part segmentation: `parts.npy`,
    /// `points.npy` and, where they are known, `true_parts.npy`, which `tap dataset preview --predicted` draws side by side.
    /// What they are of, and the score where classes are known: `predict.json`.
    #[arg(long)]
    out: PathBuf,
    /// Splits of data sets; all unless given.
    #[arg(long, value_delimiter = ',')]
    split: Vec<Split>,
    #[command(flatten)]
    rows: RowArgs,
    /// The axis that points up in files.
    #[arg(long, value_enum, default_value = "y")]
    up: Up,
    /// The class of all objects, which part segmentation has to be told where the data does not say it.
    #[arg(long, value_name = "CLASS")]
    category: Option<String>,
    /// Which classes of the run are right for which of the data; those of equal names unless given.
    #[arg(long, value_name = "FILE.toml")]
    class_map: Option<PathBuf>,
    /// Replace earlier predictions; refused where the folder holds anything else, or an input.
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    device: DeviceArgs,
    /// Print the result as JSON.
    #[arg(long)]
    json: bool,
}

/// Inputs by what they are.
#[derive(Debug, Default)]
struct Inputs {
    datasets: Vec<PathBuf>,
    clouds: Vec<PathBuf>,
    /// Files and folders of meshes.
    meshes: Vec<PathBuf>,
}

impl Predict {
    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
        require_inputs([
            ("--run", Some(self.run.as_path())),
            ("--class-map", self.class_map.as_deref()),
        ])?;
        require_inputs(self.inputs.iter().map(|path| ("INPUT", Some(path.as_path()))))?;
        let mut progress = Progress::new(false);
        let predictor = Predictor::open(&self.run, &self.checkpoint.weights(), &mut |event| {
            progress.show(&event);
        })?;
        let map = match &self.class_map {
            Some(file) => ClassMap::read(file, &predictor.classes)?,
            None => ClassMap::of_equal_names(&predictor.classes),
        };
        let inputs = Inputs::sort(&self.inputs)?;
        let read: Vec<&Path> = self
            .inputs
            .iter()
            .chain([&self.run])
            .map(PathBuf::as_path)
            .collect();
        empty_folder(&self.out, self.force, &read, &PREDICTION_FILES)?;
        let options = self
            .device
            .options(&self.run, &self.out, Existing::Refuse, None)?;
        let num_points = predictor.plan.data.num_points;
        let mut objects = Vec::new();
        if !inputs.clouds.is_empty() {
            let knows_class = |name: &str| map.0.contains_key(name);
            objects.push(Unlabeled::of_files(
                &inputs.clouds,
                self.up == Up::Z,
                num_points,
                knows_class,
            )?);
        }
        let condition = self.rows.condition();
        let choice = DataChoice {
            filter: &condition,
            ..DataChoice::default()
        };
        for data in &inputs.datasets {
            objects.extend(Unlabeled::of_data(&OpenData::choose(data, choice)?, &self.split)?);
        }
        // Holds the rows of meshes until they are read.
        let temporary = tempfile::tempdir().context("cannot create a temporary folder")?;
        for (number, meshes) in inputs.meshes.iter().enumerate() {
            let of_input = temporary.path().join(number.to_string());
            let shards = of_input.join("shards");
            self.sample_meshes(meshes, &of_input, &shards, num_points)?;
            objects.extend(Unlabeled::of_data(&OpenData::choose(&shards, choice)?, &[])?);
        }
        std::fs::create_dir_all(&self.out)
            .with_context(|| format!("cannot create {}", self.out.display()))?;
        let result = if predictor.plan.task == Task::Segment {
            predictor.segment(&objects, self.category.as_deref(), &options)?
        } else {
            note_unmapped(&objects, &map, &mut |event| progress.show(&event));
            predictor.classify(&objects, map, &options)?
        };
        if self.json {
            ui::json(&result)?;
        } else {
            print(&result);
            ui::result(format_args!("{}", self.out.display()));
        }
        Ok(ExitCode::SUCCESS)
    }

    /// Samples the surfaces of meshes by `tap dataset build`, which has the readers that this program is built without.
    fn sample_meshes(
        &self,
        meshes: &Path,
        temporary: &Path,
        shards: &Path,
        num_points: usize,
    ) -> anyhow::Result<()> {
        let source = folder_of(meshes, temporary)?;
        let up = match self.up {
            Up::Y => "y",
            Up::Z => "z",
        };
        let num_points = num_points.to_string();
        let arguments = [
            "--no-views",
            "--sampler",
            "fps",
            "--up",
            up,
            "--split-fractions",
            "0,0,1",
        ];
        let arguments = arguments
            .into_iter()
            .chain(["--num-points", &num_points, "--max-skipped", "0"]);
        tap_build::build(&source, shards, arguments.map(OsStr::new)).map_err(|error| {
            // It names its source, which may be a copy.
            let [copy, input] = [source.as_path(), meshes].map(|path| path.display().to_string());
            anyhow::anyhow!("{}", format!("{error:#}").replace(&copy, &input))
        })
    }
}

impl Inputs {
    fn sort(paths: &[PathBuf]) -> anyhow::Result<Self> {
        let mut inputs = Self::default();
        for path in paths {
            if is_url(path) || is_dataset(path) {
                inputs.datasets.push(path.clone());
            } else if path.is_dir() {
                let before = inputs.clouds.len();
                collect_clouds(path, &mut inputs.clouds)?;
                if inputs.clouds.len() == before {
                    inputs.meshes.push(path.clone());
                }
            } else if is_cloud_file(path) {
                inputs.clouds.push(path.clone());
            } else {
                inputs.meshes.push(path.clone());
            }
        }
        Ok(inputs)
    }
}

fn is_dataset(path: &Path) -> bool {
    let Ok(mut entries) = std::fs::read_dir(path) else {
        return false;
    };
    entries.any(|entry| entry.is_ok_and(|entry| entry.file_name().to_str().is_some_and(is_manifest_name)))
}

/// Files of points in a folder and in those below it, sorted. Linked folders are passed over.
fn collect_clouds(folder: &Path, clouds: &mut Vec<PathBuf>) -> anyhow::Result<()> {
    let entries = std::fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))?;
    let mut entries: Vec<_> = entries.collect::<Result<_, _>>()?;
    entries.sort_by_key(std::fs::DirEntry::file_name);
    for entry in entries {
        let path = entry.path();
        if entry.file_type()?.is_dir() {
            collect_clouds(&path, clouds)?;
        } else if is_cloud_file(&path) {
            clouds.push(path);
        }
    }
    Ok(())
}

/// The folder of meshes, or one with a copy of the mesh in a folder of the same name as its own.
fn folder_of(meshes: &Path, temporary: &Path) -> anyhow::Result<PathBuf> {
    if meshes.is_dir() {
        return Ok(meshes.to_owned());
    }
    let name = meshes.file_name().unwrap_or_default();
    let absolute =
        std::path::absolute(meshes).with_context(|| format!("cannot read {}", meshes.display()))?;
    let parent = absolute
        .parent()
        .and_then(Path::file_name)
        .unwrap_or("file".as_ref());
    let folder = temporary.join("meshes").join(parent);
    std::fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
    std::fs::copy(meshes, folder.join(name)).with_context(|| format!("cannot read {}", meshes.display()))?;
    Ok(temporary.join("meshes"))
}

fn print(result: &PredictResult) {
    ui::result(format_args!(
        "{} objects of {} points ({})",
        result.num_objects, result.num_points, result.selection
    ));
    if let Some(score) = &result.score {
        ui::result(format_args!(
            "accuracy {:.1} %, {:.1} % among the classes of the map, over {} objects; {} are of no class in it",
            100.0 * score.accuracy,
            100.0 * score.accuracy_among_mapped,
            score.num_scored,
            score.num_not_scored
        ));
    }
}
