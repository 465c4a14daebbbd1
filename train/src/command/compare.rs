//! `tap-train compare`: every arm is an ordinary `finetune` in a process of its own with one thread.
//!
//! torch's generator belongs to the process, so arms in threads would disturb each other's dropout; and one thread an arm
//! gives the same numbers whatever `--workers` is. Each arm can be repeated by hand with the same command.

use std::path::{Path, PathBuf};
use std::process::{Child, ExitCode, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use clap::Args;
use tap_train::comparison::{Arms, Comparison};
use tap_train::process::num_cores;
use tap_train::run::{CONFIG_FILE, RESULT_FILE, write_json};
use tap_train::task::classify::ClassifyResult;

use super::{ConfigArgs, INTERRUPTED, cancel_on_interrupt, labels_name, parse_labels, prepare_output};
use crate::ui;

/// Arguments of `compare`.
#[derive(Debug, Args)]
#[command(after_help = "Example:
  tap-train compare --data out/real --init out/tap --labels-per-class 5,10 --seeds 5 --out out/compare")]
pub(crate) struct Compare {
    /// A data set of shards.
    #[arg(long)]
    data: PathBuf,
    /// The pre-trained encoder: a run or a safetensors file.
    #[arg(long, value_name = "RUN_OR_FILE")]
    init: PathBuf,
    /// The folder for `compare.json` and the runs of the arms.
    #[arg(long)]
    out: PathBuf,
    /// Labels a class, numbers or `all`.
    #[arg(long, value_delimiter = ',', default_value = "5,10", value_parser = parse_labels)]
    labels_per_class: Vec<usize>,
    /// How many pairs.
    #[arg(long, default_value_t = 5)]
    seeds: u64,
    /// Arms that run at once, each with one thread; 0 is one a core.
    #[arg(long, default_value_t = 0)]
    workers: usize,
    /// `auto`, `cpu` or `cuda:N`.
    #[arg(long, default_value = "cpu")]
    device: String,
    /// Keep arms that are finished and continue the others.
    #[arg(long, conflicts_with = "force")]
    resume: bool,
    /// Replace an earlier comparison.
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    config: ConfigArgs,
    /// Print the result as JSON.
    #[arg(long)]
    json: bool,
}

/// One run to do.
#[derive(Debug)]
struct Arm {
    folder: PathBuf,
    labels_per_class: usize,
    seed: u64,
    is_scratch: bool,
}

impl Compare {
    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
        // Refuse a wrong configuration before any arm starts.
        let first_seed = self.config.load()?.seed;
        prepare_output(&self.out, "compare.json", self.force || self.resume)?;
        let cancel = cancel_on_interrupt()?;
        let seeds: Vec<u64> = (first_seed..first_seed + self.seeds).collect();
        let mut arms = Vec::new();
        for &labels_per_class in &self.labels_per_class {
            for &seed in &seeds {
                for is_scratch in [true, false] {
                    let name = format!(
                        "{}-{}-seed{seed}",
                        if is_scratch { "scratch" } else { "tap" },
                        labels_name(labels_per_class)
                    );
                    arms.push(Arm {
                        folder: self.out.join("arms").join(name),
                        labels_per_class,
                        seed,
                        is_scratch,
                    });
                }
            }
        }
        if !self.run_arms(&arms, &cancel)? {
            return Ok(ExitCode::from(INTERRUPTED));
        }
        let mut groups = Vec::new();
        for &labels_per_class in &self.labels_per_class {
            let results = |is_scratch: bool| {
                let of_setting = arms
                    .iter()
                    .filter(|arm| arm.labels_per_class == labels_per_class && arm.is_scratch == is_scratch);
                of_setting
                    .map(|arm| read_result(&arm.folder))
                    .collect::<anyhow::Result<Vec<_>>>()
            };
            groups.push(Arms {
                seeds: seeds.clone(),
                scratch: results(true)?,
                tap: results(false)?,
            });
        }
        let comparison = Comparison::new(&groups).context("there is nothing to compare")?;
        write_json(&self.out.join("compare.json"), &comparison)?;
        if self.json {
            ui::json(&comparison)?;
        } else {
            print(&comparison);
        }
        Ok(ExitCode::SUCCESS)
    }

    /// Runs all arms, `workers` at once; false where it was interrupted.
    fn run_arms(&self, arms: &[Arm], cancel: &AtomicBool) -> anyhow::Result<bool> {
        let workers = if self.workers == 0 {
            num_cores()
        } else {
            self.workers
        };
        let (mut running, mut waiting, mut done): (Vec<(&Arm, Child)>, _, usize) =
            (Vec::new(), arms.iter(), 0);
        loop {
            while running.len() < workers && !cancel.load(Ordering::Relaxed) {
                let Some(arm) = waiting.next() else { break };
                running.push((arm, self.start(arm)?));
            }
            if running.is_empty() {
                return Ok(done == arms.len());
            }
            let mut still_running = Vec::new();
            let mut failure = None;
            for (arm, mut child) in running {
                match child.try_wait().context("cannot wait for an arm")? {
                    None => still_running.push((arm, child)),
                    Some(status) if status.success() => {
                        done += 1;
                        let result = read_result(&arm.folder)?;
                        let name = arm.folder.file_name().unwrap_or_default().display();
                        ui::note(&format!(
                            "{done}/{} {name}: {:.1} %",
                            arms.len(),
                            100.0 * result.accuracy
                        ));
                    }
                    Some(status) if status.code() == Some(i32::from(INTERRUPTED)) => {
                        cancel.store(true, Ordering::Relaxed);
                    }
                    Some(_) => failure = failure.or_else(|| Some((arm, read_stderr(&mut child)))),
                }
            }
            running = still_running;
            if let Some((arm, message)) = failure {
                for (_, child) in &mut running {
                    // It may have ended by itself in the meantime.
                    let _ = child.kill();
                    let _ = child.wait();
                }
                anyhow::bail!("{}: {message}", arm.folder.display());
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn start(&self, arm: &Arm) -> anyhow::Result<Child> {
        let program = std::env::current_exe().context("cannot find this program's own file")?;
        let mut command = std::process::Command::new(program);
        command.args([
            "finetune",
            "--task",
            "classify",
            "--threads",
            "1",
            "--json",
            "--device",
            &self.device,
        ]);
        command
            .arg("--data")
            .arg(&self.data)
            .arg("--out")
            .arg(&arm.folder);
        command.args(["--labels-per-class", &labels_name(arm.labels_per_class)]);
        if let Some(config) = &self.config.config {
            command.args(["--config", config]);
        }
        for setting in &self.config.set {
            command.args(["--set", setting]);
        }
        // Scratch gets the architecture of the encoder that it is compared with, not its weights.
        if arm.is_scratch {
            command.arg("--like").arg(&self.init);
        } else {
            command.arg("--init").arg(&self.init);
        }
        command.args(["--seed", &arm.seed.to_string()]);
        command.arg(if self.resume && arm.folder.join(CONFIG_FILE).is_file() {
            "--resume"
        } else {
            "--force"
        });
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        command.spawn().context("cannot start an arm")
    }
}

fn read_result(folder: &Path) -> anyhow::Result<ClassifyResult> {
    let path = folder.join(RESULT_FILE);
    let bytes = std::fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
    serde_json::from_slice(&bytes).with_context(|| format!("damaged result {}", path.display()))
}

/// The last line that an arm said.
fn read_stderr(child: &mut Child) -> String {
    let mut text = String::new();
    if let Some(mut stderr) = child.stderr.take() {
        // What cannot be read cannot be shown either.
        let _ = std::io::Read::read_to_string(&mut stderr, &mut text);
    }
    text.lines()
        .next_back()
        .unwrap_or("the arm ended without a word")
        .trim_start_matches("error: ")
        .to_owned()
}

fn print(comparison: &Comparison) {
    ui::line(&format!(
        "accuracy in % on {} ({}, no voting), mean and sample deviation over paired seeds",
        comparison.evaluation_split, comparison.selection
    ));
    for setting in &comparison.settings {
        ui::line(&format!(
            "{:>4} labels a class: scratch {:.1} ±{:.1}, tap {:.1} ±{:.1}, paired {:+.1} (standard error {:.1}, {} pairs): {}",
            labels_name(setting.labels_per_class),
            100.0 * setting.scratch_summary.mean,
            100.0 * setting.scratch_summary.std,
            100.0 * setting.tap_summary.mean,
            100.0 * setting.tap_summary.std,
            100.0 * setting.paired_mean,
            100.0 * setting.paired_standard_error,
            setting.seeds.len(),
            setting.verdict
        ));
    }
}
