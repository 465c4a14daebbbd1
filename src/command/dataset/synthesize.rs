//! `tap dataset synthesize`: meshes, or the suite of sets that stand in for the published ones.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Result;
use clap::Args;
use serde::Serialize;
use tap_cli::flag::ThreadsFlag;
use tap_cli::{interrupt, ui};
use tap_dataset::{
    BuildRecipe, ShapeFamily, StandIn, SuiteEvent, SuiteOptions, SuiteReport, SynthesizeEvent,
    SynthesizeOptions, synthesize, synthesize_suite,
};

use crate::recipe::{self, BUILD_PRESETS};

/// Preset of the set with views.
const VIEWS_PRESET: &str = "mini-data";

/// Synthesize a labeled set of CAD-like objects with parts, in the layout of `ShapeNetCore`; or data sets that stand in for the
/// published ones.
///
/// Every object differs; the same seed gives the same bytes. A suite may be killed at any moment: the same command goes on.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Arguments {
    /// Output folder of meshes. A new one appears when it is complete.
    #[arg(
        long,
        value_name = "DIR",
        required_unless_present = "suite",
        conflicts_with = "suite"
    )]
    out: Option<PathBuf>,
    /// Make data sets instead of meshes, each in a folder of its name in this one; see below.
    #[arg(long, value_name = "ROOT")]
    suite: Option<PathBuf>,
    /// Which sets of the suite; all by default.
    #[arg(long, value_name = "NAME,...", value_delimiter = ',', conflicts_with = "out")]
    sets: Vec<StandIn>,
    /// Which shapes: basic (16 categories, each with proportions of its own) or varied (24 that differ in their parts).
    #[arg(long, value_name = "FAMILY", default_value_t, conflicts_with = "suite")]
    family: ShapeFamily,
    /// Number of categories; all by default. A set of the suite that has fewer takes all.
    #[arg(long, value_name = "K")]
    classes: Option<usize>,
    /// Objects per category.
    #[arg(long, value_name = "M", default_value_t = 100)]
    per_class: usize,
    /// Seed of the generator.
    #[arg(long, value_name = "S", default_value_t = 0)]
    seed: u64,
    /// Rotate each object about the up axis by a random angle.
    #[arg(long, conflicts_with = "suite")]
    random_yaw: bool,
    /// Write into a folder that is not empty. Only synthetic objects are replaced; refused where other files would be
    /// lost. With --suite replace other data sets in the folders of the sets.
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    threads: ThreadsFlag,
    /// Print JSON.
    #[arg(long, conflicts_with = "out")]
    json: bool,
}

const EXAMPLES: &str = "\
Sets of a suite (synthesized stand-ins, and never the published sets):
  shapenet                 views and points to pre-train on, 24 classes
  modelnet40               whole shapes, points with normals, 24 classes; episodes for few-shot are drawn from it
  shapenetpart             whole shapes with parts, 16 classes
  scanobjectnn-obj-only    objects as scanners see them, 15 classes: stands in for OBJ_ONLY
  scanobjectnn-obj-bg      the same with floor, walls and neighbors in their boxes: OBJ_BG
  scanobjectnn-pb-t50-rs   seen from one side, the boxes shifted, turned and scaled: PB_T50_RS

Examples:
  tap dataset synthesize --out meshes
  tap dataset synthesize --out small --classes 4 --per-class 10 --seed 7
  tap dataset synthesize --out hard --family varied --random-yaw
  tap dataset synthesize --suite data
  tap dataset synthesize --suite data --sets scanobjectnn-pb-t50-rs,modelnet40 --per-class 20
  tap dataset import fewshot data/modelnet40 --out data/fewshot --seed 1";

/// What `--json` prints.
#[derive(Debug, Serialize)]
struct Suite {
    datasets: Vec<SuiteReport>,
}

pub(super) fn run(arguments: &Arguments) -> Result<ExitCode> {
    match (&arguments.suite, &arguments.out) {
        (Some(root), _) => run_suite(root, arguments),
        (None, Some(out)) => run_meshes(out, arguments),
        (None, None) => unreachable!("one of them is required"),
    }
}

fn run_meshes(out: &Path, arguments: &Arguments) -> Result<ExitCode> {
    let family = arguments.family;
    let classes = arguments.classes.unwrap_or(family.category_names().len());
    let num_objects = synthesize_with_bar(&SynthesizeOptions {
        family,
        classes,
        per_class: arguments.per_class,
        seed: arguments.seed,
        random_yaw: arguments.random_yaw,
        force: arguments.force,
        ..SynthesizeOptions::new(out)
    })?;
    ui::result(format_args!(
        "{num_objects} objects of {classes} classes: {}",
        out.display()
    ));
    Ok(ExitCode::SUCCESS)
}

/// Synthesizes objects and returns their number.
///
/// # Errors
/// As [`tap_dataset::synthesize`].
pub(in crate::command) fn synthesize_with_bar(options: &SynthesizeOptions) -> Result<usize> {
    let bar = ui::Bar::new("synthesizing", 0);
    let summary = synthesize(options, &mut |event| match event {
        SynthesizeEvent::Started { total } => bar.set_length(total as u64),
        SynthesizeEvent::Done { .. } => bar.advance(),
        _ => {}
    })?;
    Ok(summary.num_objects)
}

fn run_suite(root: &Path, arguments: &Arguments) -> Result<ExitCode> {
    let pretrain: BuildRecipe = recipe::resolve(BUILD_PRESETS, Some(VIEWS_PRESET), &[])?;
    let mut options = SuiteOptions {
        classes: arguments.classes.unwrap_or(SuiteOptions::MAX_CLASSES),
        per_class: arguments.per_class,
        seed: arguments.seed,
        pretrain,
        workers: arguments.threads.threads,
        force: arguments.force,
        ..SuiteOptions::new(root)
    };
    if !arguments.sets.is_empty() {
        options.sets.retain(|set| arguments.sets.contains(set));
    }
    let cancel = interrupt::listen()?;
    let mut bar = None;
    let reports = synthesize_suite(&options, &cancel, &mut |event| match event {
        SuiteEvent::Started { set, rows, done } => {
            ui::note(format_args!("note: {set}, {rows} objects"));
            let synthesizing = ui::Bar::new("synthesizing", rows as u64);
            synthesizing.skip(done as u64);
            bar = Some(synthesizing);
        }
        SuiteEvent::Written => bar.iter().for_each(ui::Bar::advance),
        _ => {}
    })?;
    drop(bar);
    let Some(datasets) = reports else {
        return Ok(super::stopped(root));
    };
    if arguments.json {
        ui::json(&Suite { datasets })?;
    } else {
        datasets.iter().for_each(print);
    }
    Ok(ExitCode::SUCCESS)
}

/// `scanobjectnn-pb-t50-rs, a synthesized stand-in for ScanObjectNN PB_T50_RS: 1500 objects (train 1200, test 300) of 15 classes, ...`
fn print(report: &SuiteReport) {
    let SuiteReport {
        set,
        out,
        stand_in_for,
        sha256: _,
        num_train,
        num_test,
        num_points,
        num_views,
        num_parts,
        classes,
    } = report;
    let views = match num_views {
        0 => String::new(),
        num_views => format!(", {num_views} views"),
    };
    let parts = match num_parts {
        0 => String::new(),
        num_parts => format!(", {num_parts} part labels"),
    };
    ui::result(format_args!(
        "{set}, a synthesized stand-in for {stand_in_for}: {} objects (train {num_train}, test {num_test}) of {} classes, \
         {num_points} points{views}{parts}: {}",
        num_train + num_test,
        classes.len(),
        out.display()
    ));
}
