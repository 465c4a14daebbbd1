//! `tap dataset plan`: estimates a build from a sample.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Result, bail};
use clap::Args;
use serde::Serialize;
use tap_dataset::{BuildRecipe, PlanReport, Source, plan};

use super::output::WorkFlags;
use super::{BuildBar, RecipeFlags, SourceFlags};
use tap_cli::exit_code::INTERRUPTED;
use tap_cli::{interrupt, ui};

/// Estimate a build: rows, bytes, time and memory, from a sample of the meshes.
///
/// One object in a hundred is built, at least 16, with the settings and threads of the whole build, and discarded. The
/// exit code is 1 if there is not enough disk space.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Arguments {
    #[command(flatten)]
    source: SourceFlags,
    /// Where the dataset would be written, to check its disk. Nothing is written there.
    #[arg(long, value_name = "DIR", default_value = ".")]
    out: PathBuf,
    #[command(flatten)]
    recipe: RecipeFlags,
    #[command(flatten)]
    work: WorkFlags,
}

const EXAMPLES: &str = "\
Examples:
  tap dataset plan ShapeNetCore.v2 --out /data/shards
  tap dataset plan meshes --size 64 --num-points 512 --json";

/// What `--json` prints.
#[derive(Debug, Serialize)]
struct Planned<'a> {
    #[serde(flatten)]
    report: &'a PlanReport,
    fits: bool,
    /// Number of meshes that are left out unread, by reason.
    left_out: BTreeMap<String, usize>,
}

pub(super) fn run(arguments: &Arguments) -> Result<ExitCode> {
    let recipe: BuildRecipe = arguments.recipe.resolve()?;
    let source: Source = arguments.source.open()?;
    let options = arguments.work.build_options(arguments.out.clone());
    let cancel = interrupt::listen()?;
    let bar = BuildBar::new("sampling", source.objects().len());
    bar.notes(&source);
    bar.left_out(&source);
    let report = plan(&source, &recipe, &options, &cancel, &mut |event| bar.show(event))?;
    drop(bar);
    let Some(report) = report else {
        return Ok(ExitCode::from(INTERRUPTED));
    };
    let fits = report.fits();
    if arguments.work.json {
        ui::json(&Planned {
            report: &report,
            fits,
            left_out: count_left_out(&source),
        })?;
    } else {
        print(&report);
    }
    if !fits {
        bail!(
            "not enough disk space: about {} are needed, {} are free: {}",
            ui::bytes(report.needed_bytes()),
            ui::bytes(report.free_bytes.unwrap_or_default()),
            arguments.out.display()
        );
    }
    Ok(ExitCode::SUCCESS)
}

fn count_left_out(source: &Source) -> BTreeMap<String, usize> {
    let mut num_of_reason = BTreeMap::new();
    for skipped in source.skipped() {
        *num_of_reason.entry(skipped.reason.to_string()).or_default() += 1;
    }
    num_of_reason
}

fn print(report: &PlanReport) {
    let PlanReport {
        num_objects,
        num_left_out,
        num_sampled,
        sampled_skips,
        num_rows,
        num_shards,
        bytes,
        bytes_per_row,
        recommended_rows_per_shard,
        elapsed_s,
        objects_per_s,
        peak_memory_bytes,
        free_bytes,
        adapter,
    } = report;
    let known = |bytes: &Option<u64>| bytes.map_or_else(|| "unknown".to_owned(), ui::bytes);
    ui::result(format_args!("objects    {num_objects}, {num_left_out} left out"));
    ui::result(format_args!(
        "sample     {num_sampled} objects, {} of them skipped",
        sampled_skips.len()
    ));
    ui::result(format_args!("rows       {num_rows} in {num_shards} shards"));
    ui::result(format_args!(
        "size       {}, {} per row; {} free",
        ui::bytes(*bytes),
        ui::bytes(*bytes_per_row as u64),
        known(free_bytes)
    ));
    ui::result(format_args!(
        "time       {}, {objects_per_s:.1} objects per second{}",
        ui::seconds(*elapsed_s),
        adapter
            .as_ref()
            .map_or_else(String::new, |adapter| format!(" on {adapter}"))
    ));
    ui::result(format_args!("memory     {}", known(peak_memory_bytes)));
    if let Some(rows) = recommended_rows_per_shard {
        ui::note(format_args!(
            "note: --set rows_per_shard={rows} makes {} shards of about {} each",
            num_rows.div_ceil(*rows),
            ui::bytes((bytes_per_row * *rows as f64) as u64)
        ));
    }
}
