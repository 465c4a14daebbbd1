//! `tap-train probe`.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Context as _;
use clap::Args;
use tap_cli::exit_code::INTERRUPTED;
use tap_cli::ui;
use tap_train::run::Existing;
use tap_train::task::embedding::Pooling;
use tap_train::task::probe::{GridOptions, GridScore, HeadKind, ProbeOptions, probe};
use tap_train::task::provenance::labels_note;

use super::child_run::ParentArgs;
use super::{
    CheckpointArgs, ConfigArgs, DeviceArgs, TrainRowArgs, is_result_file, labels_name, parse_labels,
    parse_name, replace_file, require_inputs,
};
use crate::progress::Progress;

/// The results, within the folder.
pub(super) const PROBE_FILE: &str = "probe.json";
/// Keys that such a file has.
const RESULT_KEYS: [&str; 4] = ["data_sha256", "init_sha256", "method", "arms"];

/// Arguments of `probe`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  tap-train probe --data out/real --init out/tap --random-inits 3 --labels-per-class 5,10,all --out out/probe
  tap-train probe --data out/real --init out/tap --heads svm,svc,logistic,knn,mlp3 --out out/heads
  tap-train probe --data out/real --init out/tap --heads svc --poolings max --costs 0.018 --out out/as-published")]
pub(crate) struct Probe {
    /// A data set of shards.
    #[arg(long)]
    data: PathBuf,
    /// The encoder: a run or a safetensors file.
    #[arg(long, value_name = "RUN_OR_FILE")]
    init: PathBuf,
    #[command(flatten)]
    checkpoint: CheckpointArgs,
    /// The folder for `probe.json`.
    #[arg(long)]
    out: PathBuf,
    /// Random encoders to compare with, batch norm calibrated.
    #[arg(long, default_value_t = 3)]
    random_inits: u64,
    /// Labels a class, numbers or `all`.
    #[arg(long, value_delimiter = ',', default_value = "5,10,all", value_parser = parse_labels)]
    labels_per_class: Vec<usize>,
    /// Add a table of poolings and settings of these classifiers on all labels: svm (linear, one class against the rest, squared
    /// hinge), svc (linear, one against one, hinge, as papers report it), logistic, knn, mlp3. The best cell of each is chosen by
    /// cross-validation on the training rows; the evaluation split chooses nothing.
    #[arg(long, value_delimiter = ',', value_parser = parse_name::<HeadKind>)]
    heads: Vec<HeadKind>,
    /// Poolings of the table: max, mean, sum (maximum plus mean), max-mean (both, one behind the other).
    #[arg(long, value_delimiter = ',', default_value = "max,mean,sum,max-mean", value_parser = parse_name::<Pooling>)]
    poolings: Vec<Pooling>,
    /// Values of C of the table.
    #[arg(long, value_delimiter = ',', default_value = "0.001,0.01,0.1,1,10", value_parser = parse_cost)]
    costs: Vec<f64>,
    /// Folds of the cross-validation, drawn by the seed.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u8).range(2..))]
    folds: u8,
    /// Replace an earlier `probe.json`; a file of that name with anything else in it is left alone.
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    rows: TrainRowArgs,
    #[command(flatten)]
    config: ConfigArgs,
    #[command(flatten)]
    device: DeviceArgs,
    /// Print the result as JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    parent: ParentArgs,
}

impl Probe {
    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
        // A probe has no checkpoint: the signal that it is sent when its parent dies ends it.
        let is_orphan = AtomicBool::new(false);
        self.parent.watch(&is_orphan);
        if is_orphan.load(Ordering::Relaxed) {
            return Ok(ExitCode::from(INTERRUPTED));
        }
        require_inputs([
            ("--data", Some(self.data.as_path())),
            ("--init", Some(&self.init)),
        ])?;
        let init = self.checkpoint.encoder(&self.init)?;
        let mut config = self.config.load_for(Some(&self.init))?;
        self.rows.apply(&mut config)?;
        let inputs = [self.data.as_path(), &self.init, &init];
        replace_file(&self.out.join(PROBE_FILE), self.force, &inputs, |file| {
            is_result_file(file, &RESULT_KEYS)
        })?;
        std::fs::create_dir_all(&self.out)
            .with_context(|| format!("cannot create {}", self.out.display()))?;
        let options = self
            .device
            .options(&self.data, &self.out, Existing::Refuse, None)?;
        let what = ProbeOptions {
            random_inits: self.random_inits,
            labels_per_class: self.labels_per_class.clone(),
            seed: config.seed,
            grid: (!self.heads.is_empty()).then(|| GridOptions {
                heads: self.heads.clone(),
                poolings: self.poolings.clone(),
                costs: self.costs.clone(),
                num_folds: usize::from(self.folds),
            }),
        };
        let mut progress = Progress::new(false);
        let result = probe(&config, &options, &init, &what, &mut |event| {
            progress.show(&event);
        })?;
        if self.json {
            ui::json(&result)?;
            return Ok(ExitCode::SUCCESS);
        }
        for &labels in &self.labels_per_class {
            if let Some(note) = labels_note(labels, &result.train_objects_per_class) {
                ui::result(&note);
            }
        }
        ui::result("accuracy in %, mean and deviation over label draws: SVM, nearest neighbors");
        for arm in &result.arms {
            let cells = self.labels_per_class.iter().map(|&labels| {
                let name = labels_name(labels);
                let percent = |scores: &serde_json::Map<String, serde_json::Value>, key: &str| {
                    100.0
                        * scores
                            .get(&name)
                            .and_then(|score| score[key].as_f64())
                            .unwrap_or(0.0)
                };
                format!(
                    "{name}: {:.1} ±{:.1}, {:.1} ±{:.1}",
                    percent(&arm.svm, "mean"),
                    percent(&arm.svm, "std"),
                    percent(&arm.knn, "mean"),
                    percent(&arm.knn, "std")
                )
            });
            ui::result(format_args!(
                "{:10} {}",
                arm.name,
                cells.collect::<Vec<_>>().join("  |  ")
            ));
        }
        for arm in result.arms.iter().filter(|arm| !arm.grid.is_empty()) {
            ui::result(format_args!(
                "\n{}: accuracy in % with all labels; * is the cell of a classifier with the {}",
                arm.name,
                result.grid_selection.as_deref().unwrap_or_default()
            ));
            ui::result(ui::table(&grid_rows(&arm.grid)));
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// A row a cell.
fn grid_rows(cells: &[GridScore]) -> Vec<Vec<String>> {
    let header = [
        "classifier",
        "pooling",
        "setting",
        "cross-validation",
        "evaluation",
        "",
    ];
    let mut rows = vec![header.map(str::to_owned).to_vec()];
    rows.extend(cells.iter().map(|cell| {
        vec![
            cell.head.to_string(),
            cell.pooling.to_string(),
            format!("{} = {}", cell.setting_name, cell.setting),
            format!(
                "{:.1} ±{:.1}",
                100.0 * cell.cross_validation.mean,
                100.0 * cell.cross_validation.std
            ),
            format!("{:.1}", 100.0 * cell.accuracy),
            String::from(if cell.is_chosen { "*" } else { "" }),
        ]
    }));
    rows
}

/// A positive number.
fn parse_cost(text: &str) -> Result<f64, String> {
    text.parse()
        .ok()
        .filter(|cost: &f64| cost.is_finite() && *cost > 0.0)
        .ok_or_else(|| format!("'{text}' is no number above 0"))
}
