//! `tap doctor`: checks what the main job needs, with the command that fixes what is missing.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::Args;
use serde::{Deserialize, Serialize};
use tap_render::{AdapterReport, list_adapters};

use crate::{libtorch, trainer};
use tap_cli::ui;

/// Check this machine: what is installed, what is missing and how to fix it.
///
/// Exits with 0 only if the main job (meshes, views, shards, pre-training, scores) can run.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Arguments {
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

const EXAMPLES: &str = "\
Examples:
  tap doctor
  tap doctor --json | python3 -m json.tool";

/// Disk space of the demo, with a margin.
const NEEDED_BYTES: u64 = 1 << 30;

#[derive(Debug, Serialize)]
struct Diagnosis {
    /// Whether the main job can run.
    ok: bool,
    rendering: Rendering,
    libtorch: Libtorch,
    trainer: Option<PathBuf>,
    threads: usize,
    disk: Option<Disk>,
    missing: Vec<Missing>,
}

#[derive(Debug, Serialize)]
struct Rendering {
    adapters: Vec<AdapterReport>,
    /// Name of the default adapter.
    used: Option<String>,
}

#[derive(Debug, Serialize)]
struct Libtorch {
    path: Option<PathBuf>,
    version: Option<String>,
    expected_version: &'static str,
    cuda: Option<bool>,
    /// Whether the trainer started with it.
    is_loaded: bool,
}

#[derive(Debug, Serialize)]
struct Disk {
    path: PathBuf,
    free_bytes: u64,
}

/// A missing requirement, and the command that fixes it.
#[derive(Debug, Serialize)]
struct Missing {
    what: String,
    remedy: String,
}

pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode> {
    let diagnosis = diagnose()?;
    if arguments.json {
        ui::json(&diagnosis)?;
    } else {
        print(&diagnosis);
    }
    Ok(if diagnosis.ok {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn diagnose() -> Result<Diagnosis> {
    let mut missing = Vec::new();
    let rendering = check_rendering();
    let trainer = trainer::find();
    let libtorch = check_libtorch(trainer.as_deref(), &mut missing);
    let threads = std::thread::available_parallelism()
        .context("could not count the threads")?
        .get();
    let disk = check_disk(&mut missing)?;
    Ok(Diagnosis {
        ok: missing.is_empty(),
        rendering,
        libtorch,
        trainer,
        threads,
        disk,
        missing,
    })
}

/// Never empty: the CPU renders without a driver.
fn check_rendering() -> Rendering {
    let adapters = list_adapters();
    Rendering {
        used: adapters.first().map(|adapter| adapter.name.clone()),
        adapters,
    }
}

/// Fields of `tap-train doctor --json` about libtorch.
#[derive(Debug, Deserialize)]
struct TrainerDiagnosis {
    libtorch_version: String,
    libtorch_path: Option<PathBuf>,
    has_cuda: bool,
    is_working: bool,
}

fn check_libtorch(trainer: Option<&Path>, missing: &mut Vec<Missing>) -> Libtorch {
    let on_disk = libtorch::find();
    let mut libtorch = Libtorch {
        path: on_disk.as_ref().map(|found| found.path.clone()),
        version: on_disk.as_ref().and_then(|found| found.version.clone()),
        expected_version: libtorch::EXPECTED_VERSION,
        cuda: on_disk.as_ref().map(|found| found.has_cuda),
        is_loaded: false,
    };
    match trainer {
        Some(program) => match ask_trainer(program) {
            Ok(loaded) => {
                libtorch.is_loaded = true;
                libtorch.cuda = Some(loaded.has_cuda);
                libtorch.path = loaded.libtorch_path.or(libtorch.path);
                let version = Some(loaded.libtorch_version).filter(|version| version != "unknown");
                libtorch.version = version.or(libtorch.version);
            }
            Err(error) => missing.push(Missing {
                what: format!("a trainer that starts ({error:#})"),
                remedy: trainer::REMEDY.to_owned(),
            }),
        },
        None if on_disk.is_none() => missing.push(Missing {
            what: format!("libtorch {} and the trainer", libtorch::EXPECTED_VERSION),
            remedy: trainer::REMEDY.to_owned(),
        }),
        None => missing.push(Missing {
            what: "the trainer".to_owned(),
            remedy: "cargo build --release --package tap-train".to_owned(),
        }),
    }
    if let Some(version) = &libtorch.version
        && version.split('+').next() != Some(libtorch::EXPECTED_VERSION)
    {
        missing.push(Missing {
            what: format!("libtorch {}; found {version}", libtorch::EXPECTED_VERSION),
            remedy: format!("unset LIBTORCH LIBTORCH_USE_PYTORCH && {}", trainer::REMEDY),
        });
    }
    libtorch
}

fn ask_trainer(program: &Path) -> Result<TrainerDiagnosis> {
    let answer = trainer::output(program, &["doctor", "--json"])?;
    let diagnosis: TrainerDiagnosis =
        serde_json::from_str(&answer).context("tap-train doctor gave no usable answer")?;
    if !diagnosis.is_working {
        bail!("its libtorch computes wrongly");
    }
    Ok(diagnosis)
}

/// The disk of the default output folder, the current one.
fn check_disk(missing: &mut Vec<Missing>) -> Result<Option<Disk>> {
    let path = match std::env::current_dir() {
        Ok(path) => path,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error).context("could not find the current folder"),
    };
    let Some(free_bytes) = free_bytes(&path) else {
        return Ok(None);
    };
    if free_bytes < NEEDED_BYTES {
        missing.push(Missing {
            what: format!("disk space: {} free in {}", ui::bytes(free_bytes), path.display()),
            remedy: format!(
                "free {}, or use a folder on another disk",
                ui::bytes(NEEDED_BYTES)
            ),
        });
    }
    Ok(Some(Disk { path, free_bytes }))
}

#[cfg(unix)]
fn free_bytes(path: &Path) -> Option<u64> {
    let stat = rustix::fs::statvfs(path).ok()?;
    Some(stat.f_bavail * stat.f_frsize)
}

#[cfg(not(unix))]
fn free_bytes(_path: &Path) -> Option<u64> {
    None
}

fn print(diagnosis: &Diagnosis) {
    let Diagnosis {
        ok,
        rendering,
        libtorch,
        trainer,
        threads,
        disk,
        missing,
    } = diagnosis;
    for (adapter_idx, adapter) in rendering.adapters.iter().enumerate() {
        let heading = if adapter_idx == 0 { "rendering" } else { "" };
        let used = if adapter_idx == 0 { "   <- used" } else { "" };
        ui::result(format_args!("{heading:<10}  {adapter}{used}"));
    }
    let version = libtorch.version.as_deref().unwrap_or("of unknown version");
    let expected = libtorch.expected_version;
    let cuda = match libtorch.cuda {
        Some(true) => "CUDA",
        Some(false) => "no CUDA",
        None => "CUDA unknown",
    };
    match &libtorch.path {
        Some(path) => {
            ui::result(format_args!(
                "libtorch    {version} (expected {expected}), {cuda}, {}",
                path.display()
            ));
        }
        None if libtorch.is_loaded => ui::result(format_args!(
            "libtorch    {version} (expected {expected}), {cuda}"
        )),
        None => ui::result(format_args!("libtorch    none (expected {expected})")),
    }
    match trainer {
        Some(path) => ui::result(format_args!("trainer     {}", path.display())),
        None => ui::result("trainer     not built"),
    }
    ui::result(format_args!("threads     {threads}"));
    if let Some(Disk { path, free_bytes }) = disk {
        ui::result(format_args!(
            "free disk   {} in {}",
            ui::bytes(*free_bytes),
            path.display()
        ));
    }
    ui::result("");
    for Missing { what, remedy } in missing {
        ui::result(format_args!("missing: {what}\n         {remedy}"));
    }
    if *ok {
        ui::result("Nothing is missing: the main job can run.");
    }
}
