//! `tap dataset relight`: a dataset under another light.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::Args;
use tap_dataset::{BuildOptions, Manifest, relight};

use super::super::flag;
use super::{BuildBar, DeviceFlags};
use crate::{interrupt, ui};

/// Make a dataset anew under another light, and prove that nothing but its pictures changed.
///
/// The meshes are drawn with the same recipe but the lighting; each row is held against the old one. The new manifest
/// names its parent. It may be killed at any moment: the same command goes on with it.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Arguments {
    /// The folder of shards.
    #[arg(value_name = "DIR")]
    dir: PathBuf,
    /// The new lighting: mvcnn, three-point, headlight-specular, hemisphere, textured, random:SEED, or a TOML file.
    #[arg(long, value_name = "NAME|FILE.toml")]
    lighting: String,
    /// The meshes that it was built from.
    #[arg(long, value_name = "SRC")]
    meshes: PathBuf,
    /// The folder of shards to make, or to go on with.
    #[arg(long, value_name = "DIR2")]
    out: PathBuf,
    #[command(flatten)]
    device: DeviceFlags,
    /// Threads that read, sample and encode; one a core unless given.
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true)]
    workers: usize,
    /// Begin anew where the folder holds another dataset.
    #[arg(long)]
    force: bool,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

const EXAMPLES: &str = "\
Examples:
  tap dataset relight shards --meshes meshes --lighting three-point --out shards-three-point
  tap dataset relight shards --meshes meshes --lighting lamp.toml --out shards-lamp --json";

pub(super) fn run(arguments: &Arguments) -> Result<ExitCode> {
    let lighting = flag::lighting(&arguments.lighting)?;
    let num_objects = Manifest::read(&arguments.dir)?.source.num_objects;
    let options = BuildOptions {
        workers: arguments.workers,
        renderer: arguments.device.renderer_options(),
        force: arguments.force,
        ..BuildOptions::new(arguments.out.clone())
    };
    let cancel = interrupt::listen()?;
    let bar = BuildBar::new("relighting", num_objects);
    let mut on_event = |event| bar.show(event);
    let report = relight(
        &arguments.dir,
        &arguments.meshes,
        &lighting,
        &options,
        &cancel,
        &mut on_event,
    )?;
    drop(bar);
    let Some(report) = report else {
        return Ok(super::stopped(&arguments.out));
    };
    if arguments.json {
        ui::json(&report)?;
    } else {
        ui::result(format_args!(
            "{} objects in {} shards, the same but for their pictures: {}",
            report.num_rows,
            report.num_shards,
            arguments.out.display()
        ));
    }
    Ok(ExitCode::SUCCESS)
}
