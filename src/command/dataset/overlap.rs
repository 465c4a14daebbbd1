//! `tap dataset overlap`: near-duplicates of two datasets.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::Args;
use tap_dataset::{
    DEFAULT_DUPLICATE_DISTANCE, NearDuplicateEvent, NearDuplicateReport, find_near_duplicates,
};

use tap_cli::ui;

/// Limit on printed pairs.
const MAX_LINES: usize = 40;

/// Find near-duplicates in two datasets, whatever their names: leakage from training into a test set.
///
/// Equal meshes and equal points are found by their hashes. The same shape with other samples, rotated about the up axis or
/// with another up axis, is found by its points. Without B, duplicates within A.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Arguments {
    /// A folder of shards.
    #[arg(value_name = "A")]
    a: PathBuf,
    /// Another one.
    #[arg(value_name = "B")]
    b: Option<PathBuf>,
    /// Largest mean distance of two surfaces that count as the same, in radii.
    #[arg(long, value_name = "RADII", default_value_t = DEFAULT_DUPLICATE_DISTANCE)]
    max_distance: f64,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

const EXAMPLES: &str = "\
Examples:
  tap dataset overlap pretraining test
  tap dataset overlap shards                   objects that it has twice
  tap dataset overlap pretraining test --max-distance 0.02 --json";

pub(super) fn run(arguments: &Arguments) -> Result<ExitCode> {
    let bar = ui::Bar::new("comparing", 0);
    let mut on_event = |event| match event {
        NearDuplicateEvent::Started { total } => bar.set_length(total as u64),
        NearDuplicateEvent::Row => bar.advance(),
        _ => {}
    };
    let report = find_near_duplicates(
        &arguments.a,
        arguments.b.as_deref(),
        arguments.max_distance,
        &mut on_event,
    )?;
    drop(bar);
    if arguments.json {
        ui::json(&report)?;
        return Ok(ExitCode::SUCCESS);
    }
    let NearDuplicateReport {
        sha256: _,
        num_rows,
        max_distance: _,
        kinds,
        num_duplicates,
        pairs,
    } = &report;
    for pair in pairs.iter().take(MAX_LINES) {
        let (a, b) = (&pair.a, &pair.b);
        ui::result(format_args!(
            "{:<11}  {} ({})  =  {} ({}), {:.4} apart",
            pair.kind, a.id, a.split, b.id, b.split, pair.distance
        ));
    }
    if pairs.len() > MAX_LINES {
        ui::result(format_args!(
            "and {} more; --json lists all",
            pairs.len() - MAX_LINES
        ));
    }
    for (kind, count) in kinds {
        ui::result(format_args!("{count} pairs: {kind}"));
    }
    ui::result(format_args!(
        "{num_duplicates} of {} objects have a partner among {}",
        num_rows[1], num_rows[0]
    ));
    Ok(ExitCode::SUCCESS)
}
