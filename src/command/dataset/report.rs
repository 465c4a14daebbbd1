//! `tap dataset report`: mesh issues by category.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::Args;
use tap_dataset::{CategoryReport, MeshIssue, report};

use tap_cli::ui;

/// Report issues of the meshes of a dataset: a table by category.
///
/// Open, non-manifold and flipped surfaces, coplanar duplicates, missing materials, and objects that were skipped, with
/// reasons. The column `findings` of the shards has the same issues, to filter by.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Arguments {
    /// Folder of shards.
    #[arg(value_name = "DIR")]
    dir: PathBuf,
    /// List every object with an issue.
    #[arg(long)]
    objects: bool,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

const EXAMPLES: &str = "\
Examples:
  tap dataset report shards
  tap dataset report shards --objects
  tap dataset report shards --json";

pub(super) fn run(arguments: &Arguments) -> Result<ExitCode> {
    let report = report(&arguments.dir)?;
    if arguments.json {
        ui::json(&report)?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut heading = vec!["category".to_owned(), "rows".to_owned(), "clean".to_owned()];
    heading.extend(MeshIssue::ALL.map(|finding| finding.to_string()));
    heading.extend(["skipped", "least cover"].map(str::to_owned));
    let mut rows = vec![heading];
    rows.extend(report.categories.iter().chain([&report.all]).map(row));
    ui::result(ui::table(&rows));
    if !report.all.skipped.is_empty() {
        ui::result("");
        for (reason, count) in &report.all.skipped {
            ui::result(format_args!("skipped    {count}, {reason}"));
        }
    }
    if arguments.objects {
        ui::result("");
        for object in &report.objects {
            let findings: Vec<&str> = object.issues.iter().map(|finding| finding.as_str()).collect();
            ui::result(format_args!("{}: {}", object.id, findings.join(", ")));
            for warning in &object.warnings {
                ui::result(format_args!("  {warning}"));
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn row(category: &CategoryReport) -> Vec<String> {
    let CategoryReport {
        name,
        num_rows,
        num_unknown: _,
        num_clean,
        issues,
        skipped,
        num_triangles: _,
        coverage_min,
    } = category;
    let mut cells = vec![name.clone(), num_rows.to_string(), num_clean.to_string()];
    cells.extend(MeshIssue::ALL.map(|finding| issues.get(&finding).copied().unwrap_or(0).to_string()));
    cells.push(skipped.values().sum::<usize>().to_string());
    cells.push(coverage_min.map_or_else(String::new, |part| format!("{:.1} %", 100.0 * part)));
    cells
}
