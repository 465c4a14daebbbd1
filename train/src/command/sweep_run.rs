//! Runs sweeps: every pre-training and every task is an ordinary command in a process of its own with one thread, and can be repeated
//! by hand.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Context as _;
use serde::Serialize;
use tap_cli::exit_code::INTERRUPTED;
use tap_cli::{interrupt, ui};
use tap_dataset::{
    FolderLock, LOCK_FILE_NAME, OwnedFolder, RUN_FILES, refuse_foreign_file, refuse_inputs, sha256,
};
use tap_train::run::request::REQUEST_FILE;
use tap_train::run::write_json;
use tap_train::task::provenance::VERSION;
use tap_train::task::sweep::{RowResult, RunRecord, Sweep, SweepResult};
use tap_train::weights::safetensors::write_atomic;

use super::child_run::{ChildRun, OnFailure, RunEnd, run_each};
use super::sweep::SweepFlags;
use super::sweep_plan::{DataState, OpenSweep, PlannedRow, RUNS, Run, survey, within};
use super::sweep_record::read_record;
use super::sweep_request::SweepRequest;
use super::{is_result_file, require_inputs};

/// The results, within the folder.
const SWEEP_FILE: &str = "sweep.json";
/// Keys that such a file has.
const SWEEP_KEYS: [&str; 3] = ["sweep", "columns", "rows"];
/// The table as Markdown.
const TABLE_FILE: &str = "table.md";
/// The folder of the rows' results.
const ROWS: &str = "rows";
/// Kind of the folder in its lock file.
const LOCK_KIND: &str = "sweep";

/// Runs the sweep that is asked for.
pub(super) fn run(command: &str, table: Option<&str>, flags: &SweepFlags) -> anyhow::Result<ExitCode> {
    let mut request = SweepRequest::of(command, table, flags)?;
    // What a table of several data sets lacks is told set by set.
    let is_one_set = request.sweep.pretrain_data.is_empty() && !request.data.as_os_str().is_empty();
    require_inputs([
        ("--data", Some(request.data.as_path()).filter(|_| is_one_set)),
        ("--vgg", request.vgg.as_deref()),
    ])?;
    let data = survey(&request)?;
    if flags.dry_run {
        return dry_run(&request, data, flags.json);
    }
    let out = flags.out.as_deref().context("--out is required")?;
    let resume = format!("tap-train {command} --out {} --resume", out.display());
    refuse_other_data(&request, &data)?;
    refuse_what_is_there(&request, flags, out, &resume)?;
    for (folder, state) in &data {
        if let Ok(facts) = state {
            request.data_sha256.insert(folder.clone(), facts.sha256.clone());
        }
    }
    let sweep = OpenSweep {
        request: &request,
        out,
        data,
    };
    let rows = sweep.plan();
    sweep.refuse_nothing(&rows)?;
    let _lock = FolderLock::take(out, LOCK_KIND)?;
    if flags.force {
        OwnedFolder::survey(out, &patterns())?.remove_contents()?;
    }
    request.write(out)?;
    let cancel = interrupt::listen()?;
    let all = sweep.runs(&rows);
    let (children, ends) = sweep.run_open(&rows, &all, request.jobs, &cancel)?;
    let num_open = ends.iter().filter(|end| **end != RunEnd::Finished).count();
    if cancel.load(Ordering::Relaxed) && num_open > 0 {
        ui::note(format_args!(
            "interrupted, {} of {} runs are finished; to go on: {resume}",
            all.len() - num_open,
            all.len()
        ));
        return Ok(ExitCode::from(INTERRUPTED));
    }
    let mut failed: BTreeMap<&Path, &str> = BTreeMap::new();
    let mut first_failure = None;
    for (child, end) in children.iter().zip(&ends) {
        if let RunEnd::Failed(line) = end {
            failed.insert(&child.folder, line);
            first_failure.get_or_insert_with(|| format!("{}: {line}", child.name));
        }
    }
    let result = sweep.result(&rows, &failed)?;
    sweep.write(&result)?;
    if flags.json {
        ui::json(&result)?;
    } else {
        print(&result, out);
    }
    match first_failure {
        None => Ok(ExitCode::SUCCESS),
        Some(first) => anyhow::bail!(
            "{} of {} runs failed, the first: {first}; to try them again: {resume}",
            failed.len(),
            all.len()
        ),
    }
}

/// Refuses data that has changed since the sweep was begun.
fn refuse_other_data(request: &SweepRequest, data: &BTreeMap<String, DataState>) -> anyhow::Result<()> {
    for (folder, state) in data {
        if let (Some(begun), Ok(facts)) = (request.data_sha256.get(folder), state) {
            anyhow::ensure!(
                *begun == facts.sha256,
                "the data is not what the sweep was begun with; choose another --out: {}",
                request.path(within(folder)).display()
            );
        }
    }
    Ok(())
}

/// Files that a sweep's folder may hold.
fn patterns() -> Vec<String> {
    let own = [
        LOCK_FILE_NAME,
        SWEEP_FILE,
        TABLE_FILE,
        REQUEST_FILE,
        "rows/*.json",
        "runs/*/*/probe.json",
        "runs/*/*/few_shot.json",
        "runs/*/*/folds/*/probe.json",
    ];
    let of_runs = RUN_FILES.map(|file| format!("{RUNS}/*/*/{file}"));
    let of_folds = RUN_FILES.map(|file| format!("{RUNS}/*/*/folds/*/{file}"));
    own.map(str::to_owned)
        .into_iter()
        .chain(of_runs)
        .chain(of_folds)
        .collect()
}

/// Refuses a folder that holds a sweep, unless it is to be resumed or replaced, and what is not surely one. Nothing is changed.
fn refuse_what_is_there(
    request: &SweepRequest,
    flags: &SweepFlags,
    out: &Path,
    resume: &str,
) -> anyhow::Result<()> {
    let is_there = |name: &str| out.join(name).symlink_metadata().is_ok();
    anyhow::ensure!(
        flags.force || flags.resume || !(is_there(SWEEP_FILE) || is_there(RUNS)),
        "there is a sweep already; continue it with `{resume}`, or pass --force to replace it: {}",
        out.display()
    );
    refuse_foreign_file(&out.join(SWEEP_FILE), |file| is_result_file(file, &SWEEP_KEYS))?;
    let is_request = |_: &Path| SweepRequest::read(out).is_ok_and(|request| request.is_some());
    refuse_foreign_file(&out.join(REQUEST_FILE), is_request)?;
    if flags.force {
        let inputs = [Some(request.data.as_path()), request.vgg.as_deref()];
        refuse_inputs(out, inputs.into_iter().flatten())?;
        OwnedFolder::survey(out, &patterns())?;
    }
    Ok(())
}

/// What would be run, as text or JSON.
#[derive(Debug, Serialize)]
struct DryRun<'a> {
    sweep: &'a Sweep,
    seeds: Vec<u64>,
    num_runs: usize,
    num_runs_by_kind: BTreeMap<String, usize>,
    /// What of each row cannot be run, and why.
    missing: BTreeMap<String, Vec<String>>,
}

fn dry_run(
    request: &SweepRequest,
    data: BTreeMap<String, DataState>,
    as_json: bool,
) -> anyhow::Result<ExitCode> {
    let sweep = OpenSweep {
        request,
        out: Path::new(""),
        data,
    };
    let rows = sweep.plan();
    let mut num_runs_by_kind: BTreeMap<String, usize> = BTreeMap::new();
    for run in sweep.runs(&rows) {
        *num_runs_by_kind.entry(run.step().to_owned()).or_default() += 1;
    }
    let summary = DryRun {
        sweep: &request.sweep,
        seeds: request.seeds(),
        num_runs: num_runs_by_kind.values().sum(),
        num_runs_by_kind,
        missing: rows
            .iter()
            .filter(|planned| !planned.missing.is_empty())
            .map(|planned| (planned.row.name.clone(), planned.missing.clone()))
            .collect(),
    };
    if as_json {
        ui::json(&summary)?;
        return Ok(ExitCode::SUCCESS);
    }
    let sweep = &request.sweep;
    ui::result(&sweep.title);
    for planned in &rows {
        let row = planned.row;
        let settings = if row.own.is_empty() {
            String::from("no settings of its own")
        } else {
            row.own.join(" ")
        };
        let start = if row.is_scratch {
            "not pre-trained"
        } else {
            row.config.as_str()
        };
        ui::result(format_args!("{}: {}", row.name, row.title));
        ui::result(format_args!("    {start}; {settings}"));
        let notes = Some(&row.note).filter(|note| !note.is_empty()).into_iter();
        for note in notes
            .cloned()
            .chain(planned.missing.iter().map(|reason| format!("not run: {reason}")))
        {
            ui::result(format_args!("    {note}"));
        }
    }
    let common: Vec<&str> = rows
        .first()
        .map(|planned| {
            let row = planned.row;
            let num_common = row.set.len() - row.own.len();
            row.set[..num_common].iter().map(String::as_str).collect()
        })
        .unwrap_or_default();
    if !common.is_empty() {
        ui::result(format_args!("settings of all rows: {}", common.join(" ")));
    }
    let by_kind: Vec<String> = summary
        .num_runs_by_kind
        .iter()
        .map(|(kind, count)| format!("{count} {kind}"))
        .collect();
    ui::result(format_args!(
        "{} rows, {} seeds: {} runs ({})",
        rows.len(),
        summary.seeds.len(),
        summary.num_runs,
        by_kind.join(", ")
    ));
    Ok(ExitCode::SUCCESS)
}

impl<'a> OpenSweep<'a> {
    /// Runs what is not finished; the commands, and how each ended.
    fn run_open(
        &self,
        rows: &[PlannedRow<'a>],
        all: &[Run<'a>],
        jobs: usize,
        cancel: &AtomicBool,
    ) -> anyhow::Result<(Vec<ChildRun>, Vec<RunEnd>)> {
        let mut open = Vec::new();
        for &run in all {
            if self.record(run)?.is_none() {
                open.push(run);
            }
        }
        ui::note(format_args!(
            "{}: {} rows, {} seeds, {} runs, of which {} are finished",
            self.sweep().name,
            rows.len(),
            self.request.num_seeds,
            all.len(),
            all.len() - open.len()
        ));
        let children = self.children(rows, &open);
        let report = |place: usize| {
            let record = self.record(open[place])?;
            let folder = &children[place].folder;
            let record = record.with_context(|| format!("the run left no result: {}", folder.display()))?;
            Ok(scores_line(&record))
        };
        let ends = run_each(&children, jobs, cancel, OnFailure::GoOn, report)?;
        Ok((children, ends))
    }

    /// What a run came to, if it is finished.
    fn record(&self, run: Run<'_>) -> anyhow::Result<Option<RunRecord>> {
        let folder = self.out.join(run.folder());
        let Ok(facts) = self.data(self.data_folder(run)) else {
            return Ok(None);
        };
        let blank = RunRecord {
            folder: run.folder().display().to_string(),
            task: run.step().to_owned(),
            seed: run.seed,
            data_name: facts.data_name.clone(),
            data_sha256: facts.sha256.clone(),
            config_sha256: None,
            init_sha256: None,
            num_steps: None,
            selection: String::new(),
            evaluation_split: String::new(),
            votes: 0,
            validation_loss: None,
            scores: BTreeMap::new(),
        };
        let record = read_record(&folder, run.task, run.row.is_scratch, blank)?;
        // What is there may be of other data.
        let is_ours = |record: &RunRecord| record.seed == run.seed && record.data_sha256 == facts.sha256;
        Ok(record.filter(is_ours))
    }

    /// The table of what is finished; `failed` are folders of runs that failed.
    fn result(&self, rows: &[PlannedRow<'a>], failed: &BTreeMap<&Path, &str>) -> anyhow::Result<SweepResult> {
        let seeds = self.request.seeds();
        let mut results = Vec::new();
        for planned in rows {
            let row = planned.row;
            let mut missing = planned.missing.clone();
            let mut runs = Vec::new();
            for &seed in &seeds {
                let owner = planned.pretrained_by.and_then(|place| rows.get(place));
                let pretraining = owner.map(|owner| Run {
                    row: owner.row,
                    seed,
                    task: None,
                });
                let tasks = planned.tasks.iter().map(|&task| Run {
                    row,
                    seed,
                    task: Some(task),
                });
                for run in pretraining.into_iter().chain(tasks) {
                    let folder = self.out.join(run.folder());
                    match (self.record(run)?, failed.get(folder.as_path())) {
                        (Some(record), _) => runs.push(record),
                        (None, Some(line)) => {
                            missing.push(format!("seed {seed}, {} failed: {line}", run.step()));
                        }
                        // What it starts from failed.
                        (None, None) => {}
                    }
                }
            }
            results.push(RowResult::new(row, missing, runs));
        }
        let data_sha256 = self
            .data
            .iter()
            .filter_map(|(folder, state)| Some((folder.clone(), state.as_ref().ok()?.sha256.clone())))
            .collect();
        Ok(SweepResult::new(
            VERSION,
            self.sweep(),
            &seeds,
            data_sha256,
            self.not_comparable(),
            &results,
        ))
    }

    /// What keeps the scores from being compared with the published figures.
    fn not_comparable(&self) -> Vec<String> {
        let sweep = self.sweep();
        if sweep.published.is_empty() {
            return Vec::new();
        }
        let mut reasons = sweep.not_comparable.clone();
        for (folder, state) in &self.data {
            let Ok(facts) = state else { continue };
            let name = if facts.data_name.is_empty() {
                format!("data of its own ({})", sha256::short(&facts.sha256))
            } else {
                facts.data_name.clone()
            };
            let is_scored = sweep.tasks.iter().any(|task| task.data == within(folder));
            match sweep.data.get(folder) {
                Some(source) if !facts.data_name.starts_with(&source.data_name) => {
                    reasons.push(format!("{folder} is {name}, not {}", source.what));
                }
                None if is_scored => {
                    let columns = sweep.published.join(", ");
                    reasons.push(format!("scored on {name}, not on {columns}"));
                }
                _ => {}
            }
        }
        if !self.request.typed.is_empty() {
            reasons.push(format!(
                "settings of all rows were typed: {}",
                self.request.typed.join(" ")
            ));
        }
        reasons
    }

    /// Writes the results of the rows, the table and the whole.
    fn write(&self, result: &SweepResult) -> anyhow::Result<()> {
        let folder = self.out.join(ROWS);
        std::fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
        for row in &result.rows {
            let of_row = RowFile {
                version: &result.version,
                sweep: &result.sweep,
                budget: &result.budget,
                seeds: &result.seeds,
                data_sha256: &result.data_sha256,
                row,
            };
            write_json(&folder.join(format!("{}.json", row.name)), &of_row)?;
        }
        write_atomic(&self.out.join(TABLE_FILE), result.markdown().as_bytes())?;
        Ok(write_json(&self.out.join(SWEEP_FILE), result)?)
    }
}

/// The result file of a row.
#[derive(Debug, Serialize)]
struct RowFile<'a> {
    version: &'a str,
    sweep: &'a str,
    budget: &'a str,
    seeds: &'a [u64],
    data_sha256: &'a BTreeMap<String, String>,
    #[serde(flatten)]
    row: &'a RowResult,
}

/// What is said of a run that has ended.
fn scores_line(record: &RunRecord) -> String {
    if let Some(loss) = record.validation_loss {
        return format!("validation loss {loss:.4}");
    }
    let scores: Vec<String> = record
        .scores
        .iter()
        .map(|(column, score)| format!("{column} {:.1} %", 100.0 * score))
        .collect();
    scores.join(", ")
}

fn print(result: &SweepResult, out: &Path) {
    ui::result(&result.title);
    ui::result(result.legend());
    ui::result(ui::table(&result.table()));
    for note in result.notes() {
        ui::result(note);
    }
    ui::result(format_args!("{}", out.join(TABLE_FILE).display()));
}
