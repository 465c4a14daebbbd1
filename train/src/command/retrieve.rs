//! `tap-train retrieve`.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use tap_cli::ui;
use tap_dataset::Split;
use tap_train::metric::RetrievalScore;
use tap_train::run::Existing;
use tap_train::task::embedding::Pooling;
use tap_train::task::retrieval::{
    DEFAULT_LIST_LENGTH, Distance, RETRIEVAL_FILE, RetrievalOptions, RetrievalResult, retrieve,
};

use super::{CheckpointArgs, ConfigArgs, DeviceArgs, RowArgs, empty_folder, parse_name, require_inputs};
use crate::progress::Progress;

/// Arguments of `retrieve`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  tap-train retrieve --data out/shapenet55 --init out/tap --out out/retrieval
  tap-train retrieve --data out/data --init out/tap --split val --distance euclidean --leave-out-query --out out/retrieval")]
pub(crate) struct Retrieve {
    /// A data set of shards.
    #[arg(long)]
    data: PathBuf,
    /// The encoder: a run or a safetensors file.
    #[arg(long, value_name = "RUN_OR_FILE")]
    init: PathBuf,
    #[command(flatten)]
    checkpoint: CheckpointArgs,
    /// The folder for `retrieval.json`, and for the ranked lists as the SHREC tracks read them: `SPLIT_normal/ID`, lines `id
    /// distance`.
    #[arg(long)]
    out: PathBuf,
    /// Each object of this split is a query, and all are ranked for it.
    #[arg(long, default_value = "test")]
    split: Split,
    /// What becomes of the tokens of a cloud: max, mean, sum (maximum plus mean), max-mean (both, one behind the other).
    #[arg(long, default_value = "max-mean", value_parser = parse_name::<Pooling>)]
    pooling: Pooling,
    /// Distance of features: cosine or euclidean.
    #[arg(long, default_value = "cosine", value_parser = parse_name::<Distance>)]
    distance: Distance,
    /// Objects of a list, at most: the N of the scores.
    #[arg(long, value_name = "N", default_value_t = DEFAULT_LIST_LENGTH, value_parser = parse_length)]
    list_length: usize,
    /// Leave the query out of its own list and of what is relevant; the SHREC tracks count it.
    #[arg(long)]
    leave_out_query: bool,
    /// Replace earlier lists; refused where the folder holds anything else, or an input.
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    rows: RowArgs,
    #[command(flatten)]
    config: ConfigArgs,
    #[command(flatten)]
    device: DeviceArgs,
    /// Print the result as JSON.
    #[arg(long)]
    json: bool,
}

impl Retrieve {
    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
        let inputs = [
            ("--data", Some(self.data.as_path())),
            ("--init", Some(&self.init)),
        ];
        require_inputs(inputs)?;
        let init = self.checkpoint.encoder(&self.init)?;
        let mut config = self.config.load_for(Some(&self.init))?;
        self.rows.apply(&mut config);
        let lists = Split::ALL.map(|split| format!("{split}_normal/*"));
        let patterns: Vec<&str> = lists.iter().map(String::as_str).chain([RETRIEVAL_FILE]).collect();
        empty_folder(&self.out, self.force, &[&self.data, &self.init, &init], &patterns)?;
        let options = self
            .device
            .options(&self.data, &self.out, Existing::Refuse, None)?;
        let what = RetrievalOptions {
            split: self.split,
            pooling: self.pooling,
            distance: self.distance,
            list_length: self.list_length,
            leaves_out_query: self.leave_out_query,
        };
        let mut progress = Progress::new(false);
        let result = retrieve(&config, &options, &init, &what, &mut |event| {
            progress.show(&event);
        })?;
        if self.json {
            ui::json(&result)?;
        } else {
            print(&result);
            ui::result(format_args!("{}", self.out.display()));
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn print(result: &RetrievalResult) {
    let query = if result.leaves_out_query {
        "left out"
    } else {
        "counted"
    };
    ui::result(format_args!(
        "{} queries on {}, N = {}, {} distance of {} features, the query {query}; in %",
        result.num_queries, result.split, result.list_length, result.distance, result.pooling
    ));
    let row = |name: &str, score: &RetrievalScore| {
        let scores = [
            score.precision,
            score.recall,
            score.f1,
            score.average_precision,
            score.ndcg,
        ];
        let mut row = vec![name.to_owned()];
        row.extend(scores.map(|score| format!("{:.1}", 100.0 * score)));
        row
    };
    let header = ["", "P@N", "R@N", "F1@N", "mAP", "NDCG"]
        .map(str::to_owned)
        .to_vec();
    let rows = [
        header,
        row("micro", &result.means.micro),
        row("macro", &result.means.by_class_mean),
    ];
    ui::result(ui::table(&rows));
}

/// A whole number above 0.
fn parse_length(text: &str) -> Result<usize, String> {
    let length = text.parse().ok().filter(|length| *length > 0);
    length.ok_or_else(|| format!("'{text}' is no whole number above 0"))
}
