//! `tap dataset select`, `join`, `resplit`, `relabel`, `adopt`: datasets from the rows of others.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use super::output::ResumeFlag;
use anyhow::{Context, Result, bail};
use clap::Args;
use serde::Serialize;
use tap_cli::{interrupt, ui};
use tap_dataset::predicate::Predicate;
use tap_dataset::{
    ClassRule, DEFAULT_ROWS_PER_SHARD, Dataset, DeriveEvent, DeriveOptions, DeriveReport, ForeignReport,
    ObjectId, RowRules, SplitRatios, SplitRule, VerifyEvent, VerifyOptions, derive, open_foreign,
    refuse_inputs, verify,
};

/// Where a derived dataset is written, and how.
#[derive(Debug, Args)]
struct DeriveFlags {
    /// Folder of shards to write or to resume.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Rows per shard.
    #[arg(long, value_name = "N", default_value_t = DEFAULT_ROWS_PER_SHARD)]
    rows_per_shard: usize,
    /// Overwrite another dataset in the folder; refused where it holds anything else, or an input.
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    resume: ResumeFlag,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Select rows of a dataset, by a condition on their columns or a list of ids.
///
/// Classes that have no row left are dropped, and labels are numbered anew.
#[derive(Debug, Args)]
#[command(after_help = SELECT_EXAMPLES)]
pub(super) struct SelectArguments {
    /// Folder of shards.
    #[arg(value_name = "DIR")]
    dir: PathBuf,
    /// Take the rows of which this is true.
    #[arg(long = "where", value_name = "CONDITION", required_unless_present_any = ["ids", "per_class"])]
    predicate: Option<Predicate>,
    /// Take the rows with these ids, one a line.
    #[arg(long, value_name = "FILE")]
    ids: Option<PathBuf>,
    /// Take at most K rows of each class in each split, drawn by the seed.
    #[arg(long, value_name = "K")]
    per_class: Option<usize>,
    /// Seed of --per-class.
    #[arg(long, value_name = "S", default_value_t = 0)]
    seed: u64,
    #[command(flatten)]
    flags: DeriveFlags,
}

const SELECT_EXAMPLES: &str = "\
A condition is one of SQL: =, !=, <, <=, >, >=, between, in (...), like, is null, and, or, not, parentheses; 'open-edges' in
findings asks for an entry of a list. Columns: id, category, label, split, source_sha256, assets_sha256; with views
coverage_min; with statistics of meshes num_triangles, surface_area, is_watertight, is_inside_out, num_open_edges,
num_non_manifold_edges, num_flipped_edges, num_coincident_triangles, num_degenerate_triangles, findings, warnings.

Examples:
  tap dataset select shards --where \"category = 'chair' and coverage_min > 0.02\" --out chairs
  tap dataset select shards --where \"is_watertight and num_triangles between 100 and 50000\" --out clean
  tap dataset select shards --where \"split = 'train'\" --per-class 10 --seed 1 --out ten-a-class
  tap dataset select shards --ids ids.txt --out mine";

/// Join datasets with the same columns and sizes: the rows of all, with the classes of all.
///
/// Splits stay as they are. Two rows with the same id are an error; parts of one build are joined by tap dataset merge.
#[derive(Debug, Args)]
#[command(after_help = JOIN_EXAMPLES)]
pub(super) struct JoinArguments {
    /// Folders of shards.
    #[arg(value_name = "DIR", required = true, num_args = 2..)]
    dirs: Vec<PathBuf>,
    #[command(flatten)]
    flags: DeriveFlags,
}

const JOIN_EXAMPLES: &str = "\
Examples:
  tap dataset join chairs tables --out furniture";

/// Give the rows of a dataset other splits.
#[derive(Debug, Args)]
#[command(after_help = RESPLIT_EXAMPLES)]
pub(super) struct ResplitArguments {
    /// Folder of shards.
    #[arg(value_name = "DIR")]
    dir: PathBuf,
    /// Ratios of train and test, or of train, val and test, within each class.
    #[arg(long, value_name = "R,R[,R]", required_unless_present = "splits")]
    split_fractions: Option<SplitRatios>,
    /// Seed of --split-fractions.
    #[arg(long, value_name = "S", default_value_t = 0, conflicts_with = "splits")]
    split_seed: u64,
    /// Table with the columns id and split; rows that it does not name are left out.
    #[arg(long, value_name = "FILE", conflicts_with = "split_fractions")]
    splits: Option<PathBuf>,
    #[command(flatten)]
    flags: DeriveFlags,
}

const RESPLIT_EXAMPLES: &str = "\
Examples:
  tap dataset resplit shards --split-fractions 0.8,0.1,0.1 --out shards-8-1-1
  tap dataset resplit shards --splits official.csv --out shards-official";

/// Give the rows of a dataset other classes.
///
/// An id begins with the class, so ids change with it.
#[derive(Debug, Args)]
#[command(after_help = RELABEL_EXAMPLES)]
pub(super) struct RelabelArguments {
    /// Folder of shards.
    #[arg(value_name = "DIR")]
    dir: PathBuf,
    /// Give a class another name; two may become one.
    #[arg(long = "map", value_name = "OLD=NEW", value_parser = parse_renaming, required_unless_present = "labels")]
    renamings: Vec<(String, String)>,
    /// Table with the columns id and category; rows that it does not name keep their class.
    #[arg(long, value_name = "FILE", conflicts_with = "renamings")]
    labels: Option<PathBuf>,
    #[command(flatten)]
    flags: DeriveFlags,
}

const RELABEL_EXAMPLES: &str = "\
Examples:
  tap dataset relabel shards --map sofa=seat --map chair=seat --out shards-seats
  tap dataset relabel shards --labels fixed.csv --out shards-fixed";

/// Make a dataset again of shards that another program wrote: filtered, joined, compressed, with columns of its own.
///
/// The files are read for what they hold, whatever their compression and the types of their numbers. Classes, parts and
/// recipe come from what the files still say of themselves, or from the dataset that they come from. Splits follow from
/// the names of the files (train..., val..., test...). What was lost is printed; the new dataset is verified.
#[derive(Debug, Args)]
#[command(after_help = ADOPT_EXAMPLES)]
pub(super) struct AdoptArguments {
    /// Folder of Parquet files, or one file.
    #[arg(value_name = "PATH")]
    path: PathBuf,
    /// The dataset that the files come from; by default the manifest beside them, if there is one.
    #[arg(long = "of", value_name = "DIR")]
    original: Option<PathBuf>,
    #[command(flatten)]
    flags: DeriveFlags,
}

const ADOPT_EXAMPLES: &str = "\
Examples:
  tap dataset adopt filtered --of shards --out shards-filtered
  tap dataset adopt rows.parquet --out shards";

pub(super) fn select(arguments: &SelectArguments) -> Result<ExitCode> {
    let ids = arguments.ids.as_deref().map(read_ids).transpose()?;
    let mut name = vec!["select".to_owned()];
    name.extend(
        arguments
            .predicate
            .as_ref()
            .map(|predicate| format!("where {predicate}")),
    );
    name.extend(ids.as_ref().map(|ids| format!("{} ids", ids.len())));
    name.extend(
        arguments
            .per_class
            .map(|per_class| format!("{per_class} per class, seed {}", arguments.seed)),
    );
    let rules = RowRules {
        predicate: arguments.predicate.clone(),
        ids,
        max_per_class: arguments.per_class,
        seed: arguments.seed,
        ..RowRules::default()
    };
    run(&[&arguments.dir], &rules, name.join("; "), &arguments.flags)
}

pub(super) fn join(arguments: &JoinArguments) -> Result<ExitCode> {
    let dirs: Vec<&PathBuf> = arguments.dirs.iter().collect();
    run(&dirs, &RowRules::default(), "join".to_owned(), &arguments.flags)
}

pub(super) fn resplit(arguments: &ResplitArguments) -> Result<ExitCode> {
    let (splits, name) = match (&arguments.splits, arguments.split_fractions) {
        (Some(list), _) => (SplitRule::List(list.clone()), "resplit by a list".to_owned()),
        (None, Some(ratios)) => {
            let ratios = ratios.with_seed(arguments.split_seed);
            (SplitRule::Ratios(ratios), format!("resplit: {ratios}"))
        }
        (None, None) => bail!("no splits: pass --split-fractions or --splits"),
    };
    let rules = RowRules {
        splits,
        ..RowRules::default()
    };
    run(&[&arguments.dir], &rules, name, &arguments.flags)
}

pub(super) fn relabel(arguments: &RelabelArguments) -> Result<ExitCode> {
    let classes = match &arguments.labels {
        Some(list) => ClassRule::List(list.clone()),
        None => ClassRule::Rename(arguments.renamings.iter().cloned().collect::<BTreeMap<_, _>>()),
    };
    let rules = RowRules {
        classes,
        ..RowRules::default()
    };
    run(&[&arguments.dir], &rules, "relabel".to_owned(), &arguments.flags)
}

/// What `--json` prints.
#[derive(Debug, Serialize)]
struct Adopted {
    #[serde(flatten)]
    dataset: DeriveReport,
    files: ForeignReport,
}

pub(super) fn adopt(arguments: &AdoptArguments) -> Result<ExitCode> {
    let AdoptArguments {
        path,
        original,
        flags,
    } = arguments;
    let inputs = [Some(path.as_path()), original.as_deref()];
    flags.refuse_inputs(inputs.into_iter().flatten())?;
    let (dataset, files) = open_foreign(path, original.as_deref())?;
    let name = dataset.manifest().source.layout.clone();
    let Some(report) = flags.write(&[dataset], &RowRules::default(), name)? else {
        return Ok(super::stopped(&flags.out));
    };
    print_losses(&files);
    let bar = ui::Bar::new("verifying", report.num_rows as u64);
    let verified = verify(&flags.out, VerifyOptions { is_deep: true }, &mut |event| {
        if let VerifyEvent::Row = event {
            bar.advance();
        }
    })?;
    drop(bar);
    if let Some(first) = verified.problems.first() {
        verified.problems.iter().for_each(ui::note);
        bail!(
            "the dataset was written, but it has {} problems, the first of them: {first}",
            verified.num_problems
        );
    }
    if flags.json {
        ui::json(&Adopted {
            dataset: report,
            files,
        })?;
    } else {
        flags.print(&report);
    }
    Ok(ExitCode::SUCCESS)
}

fn print_losses(files: &ForeignReport) {
    let ForeignReport {
        num_files: _,
        columns: _,
        missing_columns,
        ignored_columns,
        num_missing_rows,
        num_new_rows,
        has_splits,
    } = files;
    if !missing_columns.is_empty() {
        ui::note(format_args!("note: lost: {}", missing_columns.join(", ")));
    }
    if !ignored_columns.is_empty() {
        ui::note(format_args!(
            "note: left out, columns of other programs or without the rest of their set: {}",
            ignored_columns.join(", ")
        ));
    }
    if let Some(missing @ 1..) = num_missing_rows {
        ui::note(format_args!("note: {missing} rows of the original are not here"));
    }
    if let Some(new @ 1..) = num_new_rows {
        ui::note(format_args!("note: {new} rows are not in the original"));
    }
    if !has_splits {
        ui::note(format_args!(
            "note: files whose names begin with no split are taken for training; tap dataset resplit draws splits"
        ));
    }
}

fn run(dirs: &[&PathBuf], rules: &RowRules, name: String, flags: &DeriveFlags) -> Result<ExitCode> {
    flags.refuse_inputs(dirs.iter().map(|dir| dir.as_path()))?;
    let datasets: Vec<Dataset> = dirs
        .iter()
        .map(|dir| Dataset::open(dir))
        .collect::<Result<_, _>>()?;
    let Some(report) = flags.write(&datasets, rules, name)? else {
        return Ok(super::stopped(&flags.out));
    };
    if flags.json {
        ui::json(&report)?;
    } else {
        flags.print(&report);
    }
    Ok(ExitCode::SUCCESS)
}

impl DeriveFlags {
    /// Refuses to overwrite a folder that holds an input.
    fn refuse_inputs<'a>(&self, inputs: impl IntoIterator<Item = &'a Path>) -> Result<()> {
        if self.force {
            refuse_inputs(&self.out, inputs)?;
        }
        Ok(())
    }

    fn write(&self, datasets: &[Dataset], rules: &RowRules, name: String) -> Result<Option<DeriveReport>> {
        let options = DeriveOptions {
            name,
            out: self.out.clone(),
            rows_per_shard: self.rows_per_shard,
            force: self.force,
        };
        let cancel = interrupt::listen()?;
        let bar = ui::Bar::new("writing", 0);
        let report = derive(datasets, rules, &options, &cancel, &mut |event| match event {
            DeriveEvent::Started { rows } => bar.set_length(rows as u64),
            DeriveEvent::Resumed { rows } => bar.skip(rows as u64),
            DeriveEvent::Written => bar.advance(),
            _ => {}
        })?;
        Ok(report)
    }

    fn print(&self, report: &DeriveReport) {
        let splits = report
            .num_rows_by_split
            .iter()
            .map(|(split, rows)| format!("{split} {rows}"));
        ui::result(format_args!(
            "{} rows ({}) of {} classes in {} shards, {} left out: {}",
            report.num_rows,
            splits.collect::<Vec<_>>().join(", "),
            report.classes.len(),
            report.num_shards,
            report.num_left_out,
            self.out.display()
        ));
    }
}

fn read_ids(path: &Path) -> Result<BTreeSet<ObjectId>> {
    let text = fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    lines
        .map(|line| line.parse().with_context(|| format!("{}", path.display())))
        .collect()
}

fn parse_renaming(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((old, new)) if !old.is_empty() && !new.is_empty() => Ok((old.to_owned(), new.to_owned())),
        _ => Err("expected OLD=NEW".to_owned()),
    }
}
