//! `tap dataset relight`: a dataset under another light.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::Args;
use tap_dataset::{BuildOptions, Manifest, RelightOptions, relight, relight_from_meshes};

use super::super::flag;
use super::{BuildBar, DeviceFlags};
use crate::{interrupt, ui};

/// Make a dataset anew under another light; nothing but its pictures changes.
///
/// A dataset that was built with --gbuffer is lit from what it stores. With --meshes it is drawn again with the same recipe
/// but the lighting, and each row is held against the old one. The new manifest names its parent. It may be killed at any
/// moment: the same command goes on with it.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Arguments {
    /// The folder of shards.
    #[arg(value_name = "DIR")]
    dir: PathBuf,
    /// The new lighting: mvcnn, mvcnn-2015, textured, three-point, headlight-specular, hemisphere, normals, random:SEED, or
    /// a TOML file.
    #[arg(long, value_name = "NAME|FILE.toml")]
    lighting: String,
    /// The meshes that it was built from, to draw them again.
    #[arg(long, value_name = "SRC")]
    meshes: Option<PathBuf>,
    /// The folder of shards to make, or to go on with.
    #[arg(long, value_name = "DIR2")]
    out: PathBuf,
    #[command(flatten)]
    device: DeviceFlags,
    /// Threads; one a core unless given. The bytes don't depend on it.
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
  tap dataset build meshes --gbuffer --lighting textured --out shards
  tap dataset relight shards --lighting three-point --out shards-three-point
  tap dataset relight shards --lighting lamp.toml --out shards-lamp --json
  tap dataset relight shards --meshes meshes --lighting mvcnn-2015 --out shards-2015";

pub(super) fn run(arguments: &Arguments) -> Result<ExitCode> {
    let lighting = flag::lighting(&arguments.lighting)?;
    let num_objects = Manifest::read(&arguments.dir)?.source.num_objects;
    let cancel = interrupt::listen()?;
    let bar = BuildBar::new("relighting", num_objects);
    let mut on_event = |event| bar.show(event);
    let report = if let Some(meshes) = &arguments.meshes {
        let options = BuildOptions {
            workers: arguments.workers,
            renderer: arguments.device.renderer_options(),
            force: arguments.force,
            ..BuildOptions::new(arguments.out.clone())
        };
        relight_from_meshes(
            &arguments.dir,
            meshes,
            &lighting,
            &options,
            &cancel,
            &mut on_event,
        )
    } else {
        let options = RelightOptions {
            out: arguments.out.clone(),
            workers: arguments.workers,
            force: arguments.force,
        };
        relight(&arguments.dir, &lighting, &options, &cancel, &mut on_event)
    };
    drop(bar);
    let Some(report) = report? else {
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
