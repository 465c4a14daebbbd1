//! `tap dataset`: synthesize shapes, build shards, verify and summarize them.

mod derive;
mod export;
mod features;
mod import;
mod merge;
mod output;
mod overlap;
mod plan;
mod preview;
mod rebuild;
mod relight;
mod report;
mod synthesize;
mod units;

use std::cell::{Cell, RefCell};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::{Args, Subcommand};
use serde::Serialize;
use tap_cli::exit_code::{INTERRUPTED, usage};
use tap_cli::flag::{MaxSkippedFlag, SettingFlags};
use tap_cli::grouped::{Grouped, kind_of};
use tap_cli::settings::Setting;
use tap_cli::{interrupt, ui};
use tap_dataset::{
    BuildEvent, BuildOptions, BuildPart, BuildRecipe, BuildSummary, BuildTimings, ColumnSet, Inspection,
    Layout, ObjectId, RowLayout, Sampler, SkipReason, SkippedObject, Source, SourceOptions, SplitRatios,
    VerifyEvent, VerifyOptions, inspect, try_build, verify,
};
use toml::Value;

use self::output::{IsolateFlags, OutputFlags, answer_trials};
pub(super) use self::synthesize::synthesize_with_bar;
use super::flag::{DeviceFlags, UpFlag, ViewFlags};
use crate::recipe::{self, BUILD_PRESETS};

/// Synthesize shapes, build shards from meshes, verify and summarize them.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    command: DatasetCommand,
}

const EXAMPLES: &str = "\
Examples:
  tap dataset synthesize --out meshes
  tap dataset synthesize --suite data                  stand-ins for the published sets
  tap dataset build meshes --out shards
  tap dataset import scanobjectnn ScanObjectNN --variant PB_T50_RS --out pb     a published set
  tap dataset begin meshes --out shards                a build that several machines share; then unit and finish
  tap dataset verify shards
  tap dataset inspect shards --json
  tap dataset report shards                            issues of the meshes
  tap dataset preview shards --out shards.html         a page to browse

More: plan, unit, status, finish, merge, rebuild, relight, features, overlap, select, join, resplit, relabel, adopt, export; see --help of each.";

#[derive(Debug, Subcommand)]
enum DatasetCommand {
    Synthesize(synthesize::Arguments),
    Build(Box<BuildArguments>),
    Begin(Box<units::BeginArguments>),
    Unit(units::UnitArguments),
    Status(units::StatusArguments),
    Finish(units::FinishArguments),
    Import(Box<import::Arguments>),
    Merge(merge::Arguments),
    Select(derive::SelectArguments),
    Join(derive::JoinArguments),
    Resplit(derive::ResplitArguments),
    Relabel(derive::RelabelArguments),
    Adopt(derive::AdoptArguments),
    Plan(Box<plan::Arguments>),
    Rebuild(rebuild::Arguments),
    Relight(relight::Arguments),
    Verify(VerifyArguments),
    Inspect(InspectArguments),
    Report(report::Arguments),
    Preview(preview::Arguments),
    Features(features::Arguments),
    Overlap(overlap::Arguments),
    Export(export::Arguments),
}

/// Build shards from a folder of meshes: views, poses, masks and points.
///
/// A build may be killed at any moment: the same command resumes it, and the bytes are those of an uninterrupted build,
/// whatever the number of threads. An unusable mesh is skipped and listed in _manifest.json with a reason code.
#[derive(Debug, Args)]
#[command(after_help = BUILD_EXAMPLES)]
struct BuildArguments {
    #[command(flatten)]
    job: JobFlags,
    /// Build the I-th of N equal parts into a folder of its own, on machines that share no disk; tap dataset merge joins
    /// them. Machines that share one take tap dataset begin.
    #[arg(long, value_name = "I/N")]
    part: Option<BuildPart>,
    #[command(flatten)]
    max_skipped: MaxSkippedFlag,
    /// Build as far as possible where there is not enough disk space.
    #[arg(long)]
    ignore_free_space: bool,
    #[command(flatten)]
    isolate: IsolateFlags,
    /// Print the CPU time of each stage, and how close the whole is to the sum of its stages.
    #[arg(long)]
    timings: bool,
}

const BUILD_EXAMPLES: &str = "\
Examples:
  tap dataset build ShapeNetCore.v2 --out shards
  tap dataset build objaverse/ --split-fractions 0.9,0.1 --out shards
  tap dataset build ShapeNetCore.v2.zip --out shards           read in place
  tap dataset build ModelNet40 --layout modelnet --up z --out shards --threads 8
  tap dataset build meshes --splits split.csv --framing sphere --projection parallel --size 64 --out shards
  tap dataset build meshes --gbuffer --lighting textured --out shards      to relight it later
  tap dataset build meshes --no-views --split-fractions 0.8,0.2 --out shards      points and labels alone
  tap dataset build meshes --config mini-data --split-fractions 0.8,0.2 --out shards
  tap dataset build meshes --part 3/8 --out shards-3      on the third of eight machines
  tap dataset build s3://bucket/meshes --out s3://bucket/shards
  tap dataset build s3://bucket/ShapeNetCore.v2.zip --out shards           read in place, by ranges";

/// What is built, of what, and where to.
#[derive(Debug, Args)]
struct JobFlags {
    #[command(flatten)]
    source: SourceFlags,
    #[command(flatten)]
    output: OutputFlags,
    #[command(flatten)]
    recipe: RecipeFlags,
}

impl JobFlags {
    /// Scans the source and resolves the recipe; refuses to overwrite what is read.
    fn open(&self) -> Result<(Source, BuildRecipe)> {
        let Self {
            source,
            output,
            recipe,
        } = self;
        let inputs = [
            Some(source.source.as_path()),
            source.splits.as_deref(),
            recipe.settings.file(),
            recipe.views.rig_file(),
        ];
        output.refuse_inputs(inputs.into_iter().flatten())?;
        let recipe = recipe.resolve()?;
        Ok((source.open()?, recipe))
    }
}

/// Where the meshes are.
#[derive(Debug, Args)]
struct SourceFlags {
    /// A folder of meshes, a zip archive or a folder of them, a mesh, or a CSV or Parquet file with the columns path and
    /// category; on a disk or in an object store (s3://, gs://, az://). Of a web server (https://) a file, not a folder.
    #[arg(value_name = "SRC")]
    source: PathBuf,
    /// Layout of the meshes: auto, shapenet, shrec16, modelnet, objaverse, folders (CATEGORY/.../MESH) or csv.
    #[arg(long, value_name = "LAYOUT", default_value_t)]
    layout: Layout,
    /// Splits of the objects: a CSV file with the columns id, category and split.
    #[arg(long, value_name = "FILE.csv")]
    splits: Option<PathBuf>,
    /// Assign splits at random, stratified by category: ratios of train,test or train,val,test, for example 0.8,0.2.
    #[arg(long, value_name = "SHARES", conflicts_with = "splits")]
    split_fractions: Option<SplitRatios>,
    /// Seed of the random splits.
    #[arg(long, value_name = "S", default_value_t = 0, requires = "split_fractions")]
    split_seed: u64,
}

impl SourceFlags {
    /// Scans the source.
    fn open(&self) -> Result<Source> {
        let Self {
            source,
            layout,
            splits,
            split_fractions,
            split_seed,
        } = self;
        let options = SourceOptions {
            layout: *layout,
            splits: splits.clone(),
            split_ratios: split_fractions.map(|fractions| fractions.with_seed(*split_seed)),
        };
        Ok(Source::open(source, &options)?)
    }
}

/// The settings of a recipe.
#[derive(Debug, Args)]
struct RecipeFlags {
    #[command(flatten)]
    settings: SettingFlags,
    /// Points per object.
    #[arg(long, value_name = "N")]
    num_points: Option<usize>,
    /// How points are sampled: poisson, uniform or fps.
    #[arg(long, value_name = "SAMPLER")]
    sampler: Option<Sampler>,
    /// Seed of the point samples.
    #[arg(long, value_name = "S")]
    seed: Option<u64>,
    /// Also store normals, depth and colors per pixel (a G-buffer), to relight the shards without the meshes.
    #[arg(long)]
    gbuffer: bool,
    /// Store no views: points, normals and mesh statistics alone. Nothing is rendered, and no mesh is skipped for how it
    /// looks. `--set normals=false` and `--set mesh_stats=false` leave out those.
    #[arg(long, conflicts_with = "gbuffer")]
    no_views: bool,
    /// Leave out objects that cover less than this fraction of one of their images, as wires and sheets do; 0 keeps all.
    #[arg(long, value_name = "FRACTION")]
    min_coverage: Option<f32>,
    #[command(flatten)]
    up: UpFlag,
    #[command(flatten)]
    views: ViewFlags,
}

/// Verify a dataset: hashes, schema, ids, poses, and that every object's points reproject into its masks.
#[derive(Debug, Args)]
#[command(after_help = VERIFY_EXAMPLES)]
struct VerifyArguments {
    /// Folder of shards.
    #[arg(value_name = "DIR")]
    dir: PathBuf,
    /// Also decode every image and compare it with its mask.
    #[arg(long)]
    deep: bool,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

const VERIFY_EXAMPLES: &str = "\
Examples:
  tap dataset verify shards && echo valid
  tap dataset verify shards --deep --json";

/// Summarize a dataset: objects, classes, splits, skipped objects, recipe.
#[derive(Debug, Args)]
#[command(after_help = INSPECT_EXAMPLES)]
struct InspectArguments {
    /// Folder of shards.
    #[arg(value_name = "DIR")]
    dir: PathBuf,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

const INSPECT_EXAMPLES: &str = "\
Examples:
  tap dataset inspect shards
  tap dataset inspect shards --json";

pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode> {
    match &arguments.command {
        DatasetCommand::Synthesize(arguments) => synthesize::run(arguments),
        DatasetCommand::Build(arguments) => run_build(arguments),
        DatasetCommand::Begin(arguments) => units::begin(arguments),
        DatasetCommand::Unit(arguments) => units::unit(arguments),
        DatasetCommand::Status(arguments) => units::status(arguments),
        DatasetCommand::Finish(arguments) => units::finish(arguments),
        DatasetCommand::Import(arguments) => import::run(arguments),
        DatasetCommand::Merge(arguments) => merge::run(arguments),
        DatasetCommand::Select(arguments) => derive::select(arguments),
        DatasetCommand::Join(arguments) => derive::join(arguments),
        DatasetCommand::Resplit(arguments) => derive::resplit(arguments),
        DatasetCommand::Relabel(arguments) => derive::relabel(arguments),
        DatasetCommand::Adopt(arguments) => derive::adopt(arguments),
        DatasetCommand::Plan(arguments) => plan::run(arguments),
        DatasetCommand::Rebuild(arguments) => rebuild::run(arguments),
        DatasetCommand::Relight(arguments) => relight::run(arguments),
        DatasetCommand::Verify(arguments) => run_verify(arguments),
        DatasetCommand::Inspect(arguments) => run_inspect(arguments),
        DatasetCommand::Report(arguments) => report::run(arguments),
        DatasetCommand::Preview(arguments) => preview::run(arguments),
        DatasetCommand::Features(arguments) => features::run(arguments),
        DatasetCommand::Overlap(arguments) => overlap::run(arguments),
        DatasetCommand::Export(arguments) => export::run(arguments),
    }
}

/// What `--json` prints of a build.
#[derive(Debug, Serialize)]
struct BuildResult<'a> {
    out: &'a Path,
    part: Option<BuildPart>,
    sha256: Option<&'a str>,
    num_rows: usize,
    num_shards: usize,
    num_lost: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    timings: Option<&'a BuildTimings>,
}

fn run_build(arguments: &BuildArguments) -> Result<ExitCode> {
    let output = &arguments.job.output;
    let (source, recipe) = arguments.job.open()?;
    let options = BuildOptions {
        part: arguments.part,
        ignore_free_space: arguments.ignore_free_space,
        trial: arguments.isolate.command()?,
        ..output.build_options()
    };
    if arguments.isolate.trial {
        return answer_trials(|numbers, answers| try_build(&source, &recipe, &options, numbers, answers));
    }
    let Some(summary) = build_with_bar(&source, &recipe, &options)? else {
        return Ok(stopped(&output.out));
    };
    if output.work.json {
        ui::json(&BuildResult {
            out: &output.out,
            part: arguments.part,
            sha256: summary.manifest.sha256.as_deref(),
            num_rows: summary.num_rows(),
            num_shards: summary.manifest.shards.len(),
            num_lost: summary.num_failed(),
            timings: arguments.timings.then_some(&summary.timings),
        })?;
    } else {
        if arguments.timings {
            print_timings(&summary);
        }
        let of_part = arguments
            .part
            .map(|part| format!("part {part}: "))
            .unwrap_or_default();
        ui::result(format_args!(
            "{of_part}{} objects in {} shards, {} skipped: {}",
            summary.num_rows(),
            summary.manifest.shards.len(),
            summary.num_failed(),
            output.out.display()
        ));
    }
    refuse_lost(
        summary.num_failed(),
        source.objects().len() + source.skipped().len(),
        arguments.max_skipped,
        &output.out,
    )?;
    Ok(ExitCode::SUCCESS)
}

/// Fails if more objects were lost than allowed.
fn refuse_lost(num_lost: usize, num_objects: usize, allowed: MaxSkippedFlag, out: &Path) -> Result<()> {
    let MaxSkippedFlag { max_skipped } = allowed;
    if num_lost > max_skipped {
        bail!(
            "{num_lost} of {num_objects} meshes were skipped, --max-skipped allows {max_skipped}; the shards are complete \
             without them, the reasons are in {}",
            out.join(tap_dataset::MANIFEST_FILE_NAME).display()
        );
    }
    Ok(())
}

fn print_timings(summary: &BuildSummary) {
    let BuildTimings {
        wall_s,
        cpu_s,
        num_threads,
        stages,
        peak_memory_bytes,
    } = &summary.timings;
    // The rows of a resumed build include those of earlier runs.
    let per_row = |seconds: f64| format!("{:.2}", 1e3 * seconds / summary.num_rows().max(1) as f64);
    let row = |name: &str, seconds: f64| vec![name.to_owned(), format!("{seconds:.2}"), per_row(seconds)];
    let mut rows = vec![["stage", "CPU s", "ms per row"].map(str::to_owned).to_vec()];
    rows.extend(stages.iter().map(|stage| row(stage.stage, stage.cpu_s)));
    rows.push(row("all stages", stages.iter().map(|stage| stage.cpu_s).sum()));
    rows.push(row("the program", *cpu_s));
    ui::result(ui::table(&rows));
    let bound_s = summary.timings.lower_bound_s();
    ui::result(format_args!(
        "{wall_s:.2} s wall-clock: {:.2} times the stages' CPU time on {num_threads} threads; peak memory {}",
        wall_s / bound_s.max(f64::MIN_POSITIVE),
        peak_memory_bytes.map_or_else(|| "unknown".to_owned(), ui::bytes)
    ));
}

/// Says how to resume after Ctrl-C.
fn stopped(out: &Path) -> ExitCode {
    ui::note(format_args!(
        "stopped; run the same command again to resume: {}",
        out.display()
    ));
    ExitCode::from(INTERRUPTED)
}

impl RecipeFlags {
    fn resolve(&self) -> Result<BuildRecipe> {
        let mut settings = self.settings()?;
        settings.extend_from_slice(&self.settings.set);
        let recipe: BuildRecipe = recipe::resolve(BUILD_PRESETS, self.settings.config.as_deref(), &settings)?;
        recipe.validate().map_err(usage)?;
        Ok(recipe)
    }

    /// The flags that are settings of the recipe.
    fn settings(&self) -> Result<Vec<Setting>> {
        let number = |number: u64| {
            i64::try_from(number)
                .map(Value::Integer)
                .context("a number is too large")
        };
        let mut settings = self.views.settings("render.")?;
        if let Some(num_points) = self.num_points {
            settings.push(Setting::new("num_points", number(num_points as u64)?));
        }
        if let Some(sampler) = self.sampler {
            settings.push(Setting::new("sampler", sampler.to_string()));
        }
        if let Some(seed) = self.seed {
            settings.push(Setting::new("seed", number(seed)?));
        }
        if self.gbuffer {
            settings.push(Setting::new("gbuffer", true));
        }
        if self.no_views {
            settings.push(Setting::new("views", false));
        }
        if let Some(min_coverage) = self.min_coverage {
            settings.push(Setting::new("min_coverage", f64::from(min_coverage)));
        }
        if let Some(up) = self.up.up {
            settings.push(Setting::new("up", up.to_string()));
        }
        Ok(settings)
    }
}

/// Builds or resumes a build; `None` after Ctrl-C.
///
/// # Errors
/// As [`tap_dataset::build`].
pub(super) fn build_with_bar(
    source: &Source,
    recipe: &BuildRecipe,
    options: &BuildOptions,
) -> Result<Option<BuildSummary>> {
    let cancel = interrupt::listen()?;
    let bar = BuildBar::new("building", source.objects().len());
    bar.notes(source);
    let summary = tap_dataset::build(source, recipe, options, &cancel, &mut |event| bar.show(event))?;
    Ok(summary.is_complete.then_some(summary))
}

/// Changed objects that are named.
const NUM_NAMED: usize = 3;

/// Progress bar of a build. What is left out is shown by kind, the first of each; the rest is counted at the end.
struct BuildBar {
    bar: ui::Bar,
    skips: RefCell<Grouped>,
    warnings: RefCell<Grouped>,
    num_not_in_splits: Cell<usize>,
}

impl BuildBar {
    fn new(verb: &'static str, num_objects: usize) -> Self {
        Self {
            bar: ui::Bar::new(verb, num_objects as u64),
            skips: RefCell::default(),
            warnings: RefCell::default(),
            num_not_in_splits: Cell::default(),
        }
    }

    /// Prints the notes of a source.
    fn notes(&self, source: &Source) {
        for note in source.notes() {
            self.bar.note(format_args!("note: {note}"));
        }
    }

    /// Prints what is left out without being read. A build reports it by itself.
    fn left_out(&self, source: &Source) {
        for SkippedObject {
            id, reason, message, ..
        } in source.skipped()
        {
            self.show(BuildEvent::Skipped {
                id: id.clone(),
                reason: *reason,
                message: message.clone(),
            });
        }
    }

    fn show(&self, event: BuildEvent) {
        let bar = &self.bar;
        match event {
            BuildEvent::Started { total, adapter } => {
                bar.set_length(total as u64);
                bar.message(adapter.unwrap_or_else(|| "no renderer".to_owned()));
            }
            BuildEvent::Resumed { objects } => {
                bar.skip(objects as u64);
                bar.note(format_args!("note: resuming after {objects} objects"));
            }
            BuildEvent::ShardDamaged { file } => {
                bar.note(format_args!("note: {file} is missing or damaged and is rebuilt"));
            }
            BuildEvent::SourceChanged { objects, num_shards } => {
                let named: Vec<&str> = objects.iter().take(NUM_NAMED).map(ObjectId::as_str).collect();
                let more = if objects.len() > NUM_NAMED { ", ..." } else { "" };
                bar.note(format_args!(
                    "note: {} meshes or their textures have changed ({}{more}), {num_shards} shards are rebuilt",
                    objects.len(),
                    named.join(", ")
                ));
            }
            BuildEvent::Done { .. } => bar.advance(),
            BuildEvent::Warned { id, warnings } => {
                for warning in warnings {
                    if self.warnings.borrow_mut().count(kind_of(&warning)) {
                        bar.note(format_args!("note: {id}: {warning}"));
                    }
                }
            }
            BuildEvent::Skipped {
                reason: SkipReason::NotInSplits,
                ..
            } => self.num_not_in_splits.update(|num| num + 1),
            BuildEvent::Skipped { id, reason, message } => {
                if self.skips.borrow_mut().count(reason.to_string()) {
                    bar.note(format_args!("skipped {id}, {reason}: {message}"));
                }
                // What is left out on purpose is not counted by the bar.
                if reason.is_failure() {
                    bar.advance();
                }
            }
            _ => {}
        }
    }
}

impl Drop for BuildBar {
    fn drop(&mut self) {
        for (reason, num_more) in self.skips.borrow().not_shown() {
            self.bar.note(format_args!(
                "skipped {num_more} more, {reason}: see manifest.json"
            ));
        }
        for (kind, num_more) in self.warnings.borrow().not_shown() {
            self.bar.note(format_args!(
                "note: and {num_more} more, see tap dataset report --objects: {kind}"
            ));
        }
        let num_not_in_splits = self.num_not_in_splits.get();
        if num_not_in_splits > 0 {
            self.bar.note(format_args!(
                "note: {num_not_in_splits} meshes are not in the list of splits and left out"
            ));
        }
    }
}

fn run_verify(arguments: &VerifyArguments) -> Result<ExitCode> {
    let bar = ui::Bar::new("verifying", 0);
    let options = VerifyOptions {
        is_deep: arguments.deep,
    };
    let report = verify(&arguments.dir, options, &mut |event| match event {
        VerifyEvent::Started { rows } => bar.set_length(rows as u64),
        VerifyEvent::Row => bar.advance(),
        _ => {}
    })?;
    drop(bar);
    if arguments.json {
        ui::json(&report)?;
    }
    let Some(first) = report.problems.first() else {
        if !arguments.json {
            let in_masks = format!(
                "at least {:.1} % of an object's points are inside its masks; ",
                100.0 * report.points_in_mask_min
            );
            ui::result(format_args!(
                "valid: {} objects, {} images, {} shards; {}{}",
                report.num_rows,
                report.num_images,
                report.num_shards,
                if report.num_images > 0 {
                    in_masks.as_str()
                } else {
                    ""
                },
                report.sha256
            ));
        }
        return Ok(ExitCode::SUCCESS);
    };
    if !arguments.json {
        report.problems.iter().for_each(ui::result);
    }
    bail!(
        "{} problems, build the dataset again; the first is {first}",
        report.num_problems
    );
}

fn run_inspect(arguments: &InspectArguments) -> Result<ExitCode> {
    let inspection = inspect(&arguments.dir)?;
    if arguments.json {
        ui::json(&inspection)?;
    } else {
        print(&inspection);
    }
    Ok(ExitCode::SUCCESS)
}

/// What a row has, and what it lacks of what most have.
fn describe_row(layout: &RowLayout, num_parts: usize) -> String {
    let RowLayout {
        num_points,
        num_views,
        image_size_px,
        columns,
    } = layout;
    let has = |set| columns.has(set);
    let mut parts = vec![format!("{num_points} points")];
    parts.push(if has(ColumnSet::Views) {
        format!("{num_views} views of {image_size_px} pixels")
    } else {
        "no views".to_owned()
    });
    parts.push(format!("{num_parts} part labels"));
    let others = [
        (
            has(ColumnSet::GbufferAlbedo),
            "normals, depth and colors of each pixel",
        ),
        (
            has(ColumnSet::Gbuffer) && !has(ColumnSet::GbufferAlbedo),
            "normals and depth of each pixel",
        ),
        (!has(ColumnSet::Normals), "no normals"),
        (!has(ColumnSet::Mesh), "no mesh statistics"),
    ];
    let others = others.into_iter().filter(|(is_said, _)| *is_said);
    parts.extend(others.map(|(_, what)| what.to_owned()));
    parts.join(", ")
}

fn print(inspection: &Inspection) {
    let Inspection {
        sha256,
        generator,
        source,
        layout,
        num_shards,
        num_shards_planned,
        bytes,
        num_rows,
        image_sets,
        feature_sets,
        classes,
        num_parts,
        skipped,
        recipe,
        adapter,
    } = inspection;
    let state = match sha256 {
        Some(sha256) => sha256.clone(),
        None => format!("unfinished, {num_shards} of {num_shards_planned} shards"),
    };
    ui::result(format_args!("data       {state}"));
    let adapter = match adapter["name"].as_str() {
        Some(adapter) => adapter,
        None if adapter.is_null() => "nothing rendered",
        None => "an unnamed adapter",
    };
    ui::result(format_args!("made by    {generator}, {adapter}"));
    ui::result(format_args!(
        "source     {} objects, layout {}",
        source.num_objects, source.layout
    ));
    ui::result(format_args!(
        "objects    {num_rows} in {num_shards} shards, {}",
        ui::bytes(*bytes)
    ));
    ui::result(format_args!("a row      {}", describe_row(layout, *num_parts)));
    for set in image_sets {
        let state = if set.sha256.is_some() { "" } else { ", unfinished" };
        ui::result(format_args!(
            "images     {}, {}{state}",
            set.name,
            ui::bytes(set.bytes)
        ));
    }
    for set in feature_sets {
        let state = if set.sha256.is_some() { "" } else { ", unfinished" };
        ui::result(format_args!(
            "features   {}, {} of {}, {}{state}",
            set.name,
            set.network,
            set.views,
            ui::bytes(set.bytes)
        ));
    }
    for (reason, count) in skipped {
        ui::result(format_args!("skipped    {count}, {reason}"));
    }
    ui::result(format_args!("recipe     {recipe}\n"));
    let heading = ["class", "train", "val", "test"].map(str::to_owned).to_vec();
    let row = |name: &str, counts: [usize; 3]| {
        [name.to_owned()]
            .into_iter()
            .chain(counts.map(|count| count.to_string()))
            .collect()
    };
    let mut rows = vec![heading];
    rows.extend(
        classes
            .iter()
            .map(|class| row(&class.name, [class.train, class.val, class.test])),
    );
    let total = |count: fn(&tap_dataset::ClassCount) -> usize| classes.iter().map(count).sum();
    rows.push(row(
        "all",
        [
            total(|class| class.train),
            total(|class| class.val),
            total(|class| class.test),
        ],
    ));
    ui::result(ui::table(&rows));
}
