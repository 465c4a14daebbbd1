//! `tap dataset begin`, `unit`, `status` and `finish`: one build by several machines, in its final place.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Result;
use clap::Args;
use serde::Serialize;
use tap_cli::flag::MaxSkippedFlag;
use tap_cli::{interrupt, ui};
use tap_dataset::{
    BuildOptions, BuildPart, BuildStatus, BuildTimings, ShardRanges, UnitShards, begin_build, build_status,
    build_unit, finish_build, try_unit,
};

use super::output::{IsolateFlags, WorkFlags, answer_trials, show_finished};
use super::{BuildBar, JobFlags, print_timings, refuse_lost, stopped};

/// Longer lists of shards are not printed twice.
const MAX_NOTED: usize = 40;

/// Begin a build that several machines share: list the objects and write the plan; nothing is built.
///
/// Then any machine that reaches the folder, or the bucket, builds shards of it with tap dataset unit, and tap dataset
/// finish writes the manifest: the bytes are those of tap dataset build on one machine. To begin again with the same flags
/// changes nothing; with others it is refused. The plan names the device that renders, so begin on a machine like those
/// that build, or with --backend cpu, which draws the same on all.
#[derive(Debug, Args)]
#[command(after_help = BEGIN_EXAMPLES)]
pub(super) struct BeginArguments {
    #[command(flatten)]
    job: JobFlags,
}

const BEGIN_EXAMPLES: &str = "\
Examples:
  tap dataset begin ShapeNetCore.v2 --out /shared/shards          once, on any machine
  tap dataset unit /shared/shards --unit 3/100                    on many, in any order
  tap dataset status /shared/shards                               what is missing
  tap dataset finish /shared/shards                               once, at the end
  tap dataset begin s3://bucket/objaverse --split-fractions 0.9,0.1 --backend cpu --out s3://bucket/shards";

/// Build some shards of a build that was begun, straight into its folder or bucket.
///
/// Units run at any time, in any order, several at once; a unit that is run again builds what is missing of it, and the same
/// unit run twice at once gives the same bytes twice. A unit that was killed leaves nothing wrong. Meshes that cannot be used
/// are listed with reasons, and counted by tap dataset finish. A machine that would build something else (another program
/// version, device or source) is refused by name.
#[derive(Debug, Args)]
#[command(after_help = UNIT_EXAMPLES)]
pub(super) struct UnitArguments {
    /// Folder in which the build was begun.
    #[arg(value_name = "DIR")]
    dir: PathBuf,
    #[command(flatten)]
    shards: ShardFlags,
    /// The source, where its path on this machine is another one than where the build was begun; an address in an object
    /// store is the same everywhere.
    #[arg(long, value_name = "SRC")]
    source: Option<PathBuf>,
    /// Build as far as possible where there is not enough disk space.
    #[arg(long)]
    ignore_free_space: bool,
    #[command(flatten)]
    isolate: IsolateFlags,
    /// Print the CPU time of each stage, and how close the whole is to the sum of its stages.
    #[arg(long)]
    timings: bool,
    #[command(flatten)]
    work: WorkFlags,
}

const UNIT_EXAMPLES: &str = "\
Examples:
  tap dataset unit shards --shards 0-3
  tap dataset unit shards --shards 0-3,7,12-15             as tap dataset status prints what is missing
  tap dataset unit shards --unit 3/100                     the third of a hundred equal shares
  tap dataset unit s3://bucket/shards --unit 3/100 --source /mnt/ShapeNetCore.v2 --threads 8
  tap dataset unit shards --shards 4-7 --isolate           a mesh in them ends the program: name it, build the rest

assets/slurm/units.sh and assets/kubernetes/units.yaml run this on a cluster.";

/// Which shards.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct ShardFlags {
    /// Shards by their numbers, from 0, as in 0-3,7.
    #[arg(long, value_name = "A-B")]
    shards: Option<ShardRanges>,
    /// The I-th of N equal shares of the shards.
    #[arg(long, value_name = "I/N")]
    unit: Option<BuildPart>,
}

impl ShardFlags {
    fn shards(&self) -> UnitShards {
        match (&self.shards, self.unit) {
            (Some(shards), _) => UnitShards::Ranges(shards.clone()),
            (None, share) => UnitShards::Share(share.expect("the parser requires one of both")),
        }
    }
}

/// Show how far a build is: which shards are there, and which are missing.
///
/// Works on every folder of shards, while units are at work too. Shards are not opened; tap dataset verify does that.
#[derive(Debug, Args)]
#[command(after_help = STATUS_EXAMPLES)]
pub(super) struct StatusArguments {
    /// Folder of shards.
    #[arg(value_name = "DIR")]
    dir: PathBuf,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

const STATUS_EXAMPLES: &str = "\
Examples:
  tap dataset status shards
  tap dataset unit shards --shards \"$(tap dataset status shards --json | jq -r .missing)\"";

/// Finish a build whose units are all built: write the manifest.
///
/// The bytes are those of tap dataset build on one machine, the manifest included. Where shards are missing they are named,
/// and nothing changes. tap dataset build with the flags of tap dataset begin builds what is missing and finishes too.
#[derive(Debug, Args)]
#[command(after_help = FINISH_EXAMPLES)]
pub(super) struct FinishArguments {
    /// Folder in which the build was begun.
    #[arg(value_name = "DIR")]
    dir: PathBuf,
    #[command(flatten)]
    max_skipped: MaxSkippedFlag,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

const FINISH_EXAMPLES: &str = "\
Examples:
  tap dataset finish shards
  tap dataset finish s3://bucket/shards --max-skipped 20 --json";

/// What `--json` prints of a unit.
#[derive(Debug, Serialize)]
struct BuiltUnit<'a> {
    out: &'a Path,
    num_rows: usize,
    num_shards: usize,
    num_lost: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    timings: Option<&'a BuildTimings>,
}

pub(super) fn begin(arguments: &BeginArguments) -> Result<ExitCode> {
    let output = &arguments.job.output;
    let (source, recipe) = arguments.job.open()?;
    let bar = BuildBar::new("listing", source.objects().len());
    bar.notes(&source);
    bar.left_out(&source);
    let status = begin_build(&source, &recipe, &output.build_options())?;
    drop(bar);
    print_status(&output.out, &status, output.work.json)?;
    Ok(ExitCode::SUCCESS)
}

pub(super) fn unit(arguments: &UnitArguments) -> Result<ExitCode> {
    let UnitArguments {
        dir,
        shards,
        source,
        ignore_free_space,
        isolate,
        timings,
        work,
    } = arguments;
    let options = BuildOptions {
        ignore_free_space: *ignore_free_space,
        trial: isolate.command()?,
        ..work.build_options(dir.clone())
    };
    if isolate.trial {
        let shards = shards.shards();
        return answer_trials(|numbers, answers| {
            try_unit(&shards, source.as_deref(), &options, numbers, answers)
        });
    }
    let cancel = interrupt::listen()?;
    let bar = BuildBar::new("building", 0);
    let summary = build_unit(
        &shards.shards(),
        source.as_deref(),
        &options,
        &cancel,
        &mut |event| bar.show(event),
    )?;
    drop(bar);
    if !summary.is_complete {
        return Ok(stopped(dir));
    }
    let built = BuiltUnit {
        out: dir,
        num_rows: summary.num_rows(),
        num_shards: summary.manifest.shards.len(),
        num_lost: summary.num_failed(),
        timings: timings.then_some(&summary.timings),
    };
    if work.json {
        ui::json(&built)?;
        return Ok(ExitCode::SUCCESS);
    }
    if *timings {
        print_timings(&summary);
    }
    let BuiltUnit {
        num_rows,
        num_shards,
        num_lost,
        ..
    } = built;
    ui::result(format_args!(
        "unit: {num_rows} objects in {num_shards} shards, {num_lost} skipped: {}",
        dir.display()
    ));
    Ok(ExitCode::SUCCESS)
}

pub(super) fn status(arguments: &StatusArguments) -> Result<ExitCode> {
    print_status(&arguments.dir, &build_status(&arguments.dir)?, arguments.json)?;
    Ok(ExitCode::SUCCESS)
}

pub(super) fn finish(arguments: &FinishArguments) -> Result<ExitCode> {
    let FinishArguments {
        dir,
        max_skipped,
        json,
    } = arguments;
    let manifest = finish_build(dir)?;
    show_finished(dir, &manifest, *json)?;
    refuse_lost(
        manifest.num_failed(),
        manifest.source.num_objects,
        *max_skipped,
        dir,
    )?;
    Ok(ExitCode::SUCCESS)
}

fn print_status(dir: &Path, status: &BuildStatus, json: bool) -> Result<()> {
    if json {
        return ui::json(status);
    }
    let BuildStatus {
        is_complete,
        is_begun,
        sha256,
        num_shards,
        num_finished,
        missing,
        num_objects,
        num_rows,
        skipped,
        ..
    } = status;
    let state = match sha256 {
        Some(sha256) if *is_complete => sha256.clone(),
        _ => "unfinished".to_owned(),
    };
    ui::result(format_args!("data       {state}"));
    ui::result(format_args!("shards     {num_finished} of {num_shards}"));
    ui::result(format_args!("objects    {num_objects}, {num_rows} rows so far"));
    for (reason, count) in skipped {
        ui::result(format_args!("skipped    {count}, {reason}"));
    }
    let dir = dir.display();
    if !missing.is_empty() {
        ui::result(format_args!("missing    {missing}"));
    }
    // What to do next.
    if missing.is_empty() && !is_complete {
        ui::note(format_args!(
            "note: all shards are there; tap dataset finish {dir}"
        ));
    } else if !missing.is_empty() && *is_begun {
        let missing = missing.to_string();
        let shards = if missing.len() <= MAX_NOTED {
            &missing
        } else {
            "..."
        };
        ui::note(format_args!("note: tap dataset unit {dir} --shards {shards}"));
    } else if !missing.is_empty() {
        ui::note("note: run the command of this build again to resume it");
    }
    Ok(())
}
