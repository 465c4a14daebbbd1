//! `tap dataset import`: the published sets that the field is scored on.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::Args;
use serde::Serialize;
use tap_cli::flag::ThreadsFlag;
use tap_cli::{interrupt, ui};
use tap_dataset::{
    DEFAULT_ROWS_PER_SHARD, EpisodeOptions, ImportEvent, ImportOptions, ImportReport, ImportSet, Split,
    import, refuse_inputs,
};
use tap_render::UpAxis;

use super::output::ResumeFlag;

/// Import a published set: points, normals, classes, parts and splits as they were published.
///
/// Which copy it is is recognized by what it holds, and said; every object is checked before anything is written. Points are
/// stored in object space; the inverse of `object_from_mesh` gives the coordinates of the source. The result is a data set
/// like any other: verify, inspect, select, relabel, tap train finetune.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Arguments {
    /// scanobjectnn, modelnet40, shapenetpart, shapenet55, fewshot or mvcnn.
    #[arg(value_name = "SET")]
    set: ImportSet,
    /// Folder of the published files; for fewshot also a data set of ModelNet40, from which episodes are drawn.
    #[arg(value_name = "SRC")]
    src: PathBuf,
    /// Folder of shards to write or to resume; for fewshot a data set per episode, such as `DIR/5way_10shot/0`.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Variant, listed below; by default the one that is there.
    #[arg(long, value_name = "NAME")]
    variant: Option<String>,
    /// Folder of the points that go with pictures (mvcnn), by the same names: PLY, NPY, text, or meshes, of which points are
    /// sampled. By default `pointclouds` beside the pictures, or their own folder.
    #[arg(long, value_name = "DIR")]
    points: Option<PathBuf>,
    /// Axis of the source's points that points up: y, as all sets of points have it, or z, as the meshes of ModelNet.
    #[arg(long, value_name = "AXIS", default_value_t)]
    up: UpAxis,
    /// Take a set of which objects are missing or damaged. The data set says so ever after.
    #[arg(long)]
    allow_incomplete: bool,
    /// Rows per shard.
    #[arg(long, value_name = "N", default_value_t = DEFAULT_ROWS_PER_SHARD)]
    rows_per_shard: usize,
    /// Overwrite another dataset in the folder; refused where it holds anything else, or the source.
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    resume: ResumeFlag,
    #[command(flatten)]
    threads: ThreadsFlag,
    /// Print JSON.
    #[arg(long)]
    json: bool,
    // Last, since its heading stands above all that follow.
    #[command(flatten)]
    episodes: EpisodeFlags,
}

/// Which few-shot episodes are drawn from a data set.
#[derive(Debug, Args)]
#[command(next_help_heading = "Few-shot episodes drawn from a data set")]
struct EpisodeFlags {
    /// Numbers of classes.
    #[arg(long, value_name = "N,...", value_delimiter = ',', default_values_t = EpisodeOptions::default().ways)]
    ways: Vec<usize>,
    /// Numbers of training objects a class.
    #[arg(long, value_name = "N,...", value_delimiter = ',', default_values_t = EpisodeOptions::default().shots)]
    shots: Vec<usize>,
    /// Episodes of each pair of them.
    #[arg(long, value_name = "N", default_value_t = EpisodeOptions::default().folds)]
    folds: usize,
    /// Test objects a class.
    #[arg(long, value_name = "N", default_value_t = EpisodeOptions::default().num_test)]
    num_test: usize,
    /// Seed of what is drawn.
    #[arg(long, value_name = "S", default_value_t = 0)]
    seed: u64,
}

const EXAMPLES: &str = "\
Variants:
  scanobjectnn    OBJ_BG, OBJ_ONLY, PB_T25, PB_T25_R, PB_T50_R, PB_T50_RS; PB_..._NOBG without background
  modelnet40      txt, h5, dat; txt10 and dat10 of the ten classes
  shapenetpart    txt, h5
  shapenet55      ShapeNet-55, ShapeNet-34, ShapeNet-Unseen21

Examples:
  tap dataset import scanobjectnn ScanObjectNN --variant PB_T50_RS --out pb
  tap dataset import modelnet40 modelnet40_normal_resampled --out mn40     10,000 points with normals
  tap dataset import modelnet40 modelnet40_ply_hdf5_2048 --out mn40-h5
  tap dataset import modelnet40 data/ModelNet --variant dat --out mn40-8192
  tap dataset import shapenetpart shapenetcore_partanno_segmentation_benchmark_v0_normal --out parts
  tap dataset import shapenet55 ShapeNet55-34 --variant ShapeNet-55 --out sn55
  tap dataset import mvcnn data/shapenet55v1 --out mvcnn            with data/pointclouds beside it
  tap dataset import mvcnn modelnet40v1 --points ModelNet40 --up z --out mvcnn40
  tap dataset import fewshot ModelNetFewshot --out episodes
  tap dataset import fewshot mn40-8192 --ways 5,10 --shots 10,20 --folds 10 --seed 1 --out my-episodes

Meshes of ModelNet, ShapeNetCore, SHREC 2016 and Objaverse are sources of tap dataset build.
A format that is not here: twenty lines of Rust or Python, in docs/datasets.md, 'A format of your own'.";

/// What `--json` prints.
#[derive(Debug, Serialize)]
struct Imported {
    datasets: Vec<ImportReport>,
}

pub(super) fn run(arguments: &Arguments) -> Result<ExitCode> {
    let Arguments {
        set,
        src,
        out,
        variant,
        points,
        up,
        allow_incomplete,
        episodes:
            EpisodeFlags {
                ways,
                shots,
                folds,
                num_test,
                seed,
            },
        rows_per_shard,
        force,
        resume: _,
        threads,
        json,
    } = arguments;
    if *force {
        refuse_inputs(out, [src.as_path()].into_iter().chain(points.as_deref()))?;
    }
    let options = ImportOptions {
        variant: variant.clone(),
        points: points.clone(),
        up: *up,
        episodes: EpisodeOptions {
            ways: ways.clone(),
            shots: shots.clone(),
            folds: *folds,
            num_test: *num_test,
            seed: *seed,
        },
        allow_incomplete: *allow_incomplete,
        rows_per_shard: *rows_per_shard,
        workers: threads.threads,
        force: *force,
        ..ImportOptions::new(*set, src, out)
    };
    let cancel = interrupt::listen()?;
    let mut bar = None;
    let reports = import(&options, &cancel, &mut |event| match event {
        ImportEvent::Checking { objects } => bar = Some(ui::Bar::new("checking", objects as u64)),
        ImportEvent::Checked | ImportEvent::Written => bar.iter().for_each(ui::Bar::advance),
        ImportEvent::Note(note) => match &bar {
            Some(bar) => bar.note(format_args!("note: {note}")),
            None => ui::note(format_args!("note: {note}")),
        },
        ImportEvent::Writing { rows, done } => {
            let writing = ui::Bar::new("writing", rows as u64);
            writing.skip(done as u64);
            bar = Some(writing);
        }
        _ => {}
    })?;
    drop(bar);
    let Some(datasets) = reports else {
        return Ok(super::stopped(out));
    };
    if *json {
        ui::json(&Imported { datasets })?;
    } else {
        datasets.iter().for_each(print);
    }
    Ok(ExitCode::SUCCESS)
}

/// `ScanObjectNN PB_T50_RS: 14298 objects (train 11416, test 2882) of 15 classes, 2048 points: pb`
fn print(report: &ImportReport) {
    let ImportReport {
        out,
        set,
        variant,
        format,
        publication,
        is_whole,
        missing,
        sha256: _,
        num_rows_by_split,
        num_points,
        num_views,
        num_padded_rows: _,
        has_normals,
        num_parts,
        classes,
        num_shards,
    } = report;
    let name = match publication {
        Some(publication) => format!("{publication} ({format}), as it was published"),
        None => format!("{set} {variant} ({format})"),
    };
    let num_rows: usize = num_rows_by_split.values().sum();
    let splits = Split::ALL.into_iter().filter_map(|split| {
        let rows = num_rows_by_split.get(split.as_str())?;
        Some(format!("{split} {rows}"))
    });
    let splits: Vec<String> = splits.collect();
    let normals = if *has_normals { " with normals" } else { "" };
    let parts = match num_parts {
        0 => String::new(),
        num_parts => format!(", {num_parts} part labels"),
    };
    let views = match num_views {
        0 => String::new(),
        num_views => format!(", {num_views} views"),
    };
    ui::result(format_args!(
        "{name}: {num_rows} objects ({}) of {} classes, {num_points} points{normals}{parts}{views}, in {num_shards} shards: {}",
        splits.join(", "),
        classes.len(),
        out.display()
    ));
    if !is_whole {
        let first = missing
            .first()
            .map_or_else(|| "what it comes from is not".to_owned(), Clone::clone);
        let others = match missing.len().saturating_sub(1) {
            0 => String::new(),
            others => format!(", and {others} more"),
        };
        ui::note(format_args!(
            "note: not whole: {first}{others}; the data set says so"
        ));
    }
}
