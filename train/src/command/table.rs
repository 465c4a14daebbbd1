//! `tap-train table`.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use tap_cli::ui;
use tap_train::task::result_table::{TableRow, result_table};

use super::require_inputs;

/// Arguments of `table`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  tap-train table out/tuned-*
  tap-train table out/scratch-0 out/scratch-1 out/tuned-0/result.json out/few-shot out/probe --json")]
pub(crate) struct Table {
    /// Folders of finetune, few-shot, probe --heads and retrieve, or files of their results; also of `evaluate --json`.
    #[arg(required = true, value_name = "RESULT")]
    results: Vec<PathBuf>,
    /// Print the rows as JSON.
    #[arg(long)]
    json: bool,
}

impl Table {
    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
        require_inputs(self.results.iter().map(|path| ("RESULT", Some(path.as_path()))))?;
        let rows = result_table(&self.results)?;
        if self.json {
            ui::json(&rows)?;
            return Ok(ExitCode::SUCCESS);
        }
        ui::result(
            "in %: mean, sample deviation and 95 % confidence interval of the mean over seeds or folds",
        );
        for of_benchmark in rows.chunk_by(|a, b| a.benchmark == b.benchmark) {
            ui::result(format_args!("\n{}", of_benchmark[0].benchmark));
            ui::result(ui::table(&lines(of_benchmark)));
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn lines(rows: &[TableRow]) -> Vec<Vec<String>> {
    let header = [
        "",
        "mean",
        "deviation",
        "interval",
        "n",
        "protocol",
        "what sets it apart",
    ];
    let mut lines = vec![header.map(str::to_owned).to_vec()];
    let number = |value: Option<f64>| value.map_or_else(String::new, |value| format!("±{value:.2}"));
    lines.extend(rows.iter().map(|row| {
        vec![
            ui::printable(&row.name).into_owned(),
            format!("{:.2}", row.mean),
            number(row.std),
            number(row.interval),
            row.count.map_or_else(String::new, |count| count.to_string()),
            ui::printable(&row.protocol).into_owned(),
            ui::printable(&row.caveats.join("; ")).into_owned(),
        ]
    }));
    lines
}
