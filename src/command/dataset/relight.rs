//! `tap dataset relight`: a dataset under another lighting.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Result, bail};
use clap::Args;
use tap_dataset::{
    BuildOptions, Manifest, RelightOptions, image_set_dir, refuse_inputs, relight, relight_from_meshes,
};

use super::super::flag;
use super::BuildBar;
use super::output::{ResumeFlag, WorkFlags};
use tap_cli::{interrupt, ui};

/// Relight a dataset; only its images change.
///
/// A dataset that was built with --gbuffer is relit from its G-buffer; --add writes an image set beside its own images, in
/// DIR/__images/NAME, for `data.images = "NAME"` of a training and for tap dataset preview --images NAME. With --meshes the
/// meshes are rendered again under the new lighting, and each row is compared with the old one. The new manifest names
/// its parent. It may be killed at any moment: the same command resumes it.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Arguments {
    /// Folder of shards.
    #[arg(value_name = "DIR")]
    dir: PathBuf,
    /// The new lighting: mvcnn, mvcnn-2015, textured, three-point, headlight-specular, hemisphere, normals, depth, random:SEED, or
    /// a TOML file.
    #[arg(long, value_name = "NAME|FILE.toml")]
    lighting: String,
    /// The meshes that it was built from, to render them again; a folder or an address in an object store.
    #[arg(long, value_name = "SRC")]
    meshes: Option<PathBuf>,
    /// Folder of shards to write or to resume.
    #[arg(long, value_name = "DIR2", required_unless_present = "add")]
    out: Option<PathBuf>,
    /// Write an image set of this name in DIR instead of new shards.
    #[arg(long, value_name = "NAME", conflicts_with_all = ["out", "meshes"])]
    add: Option<String>,
    /// Overwrite another dataset in the folder; refused where it holds anything else, or an input.
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    resume: ResumeFlag,
    #[command(flatten)]
    work: WorkFlags,
}

const EXAMPLES: &str = "\
Examples:
  tap dataset build meshes --gbuffer --lighting textured --out shards
  tap dataset relight shards --lighting three-point --out shards-three-point
  tap dataset relight shards --lighting lamp.toml --out shards-lamp --json
  tap dataset relight shards --lighting random:1 --add random-1
  tap dataset relight shards --meshes meshes --lighting mvcnn-2015 --out shards-2015";

pub(super) fn run(arguments: &Arguments) -> Result<ExitCode> {
    let lighting = flag::lighting(&arguments.lighting)?;
    let num_objects = Manifest::read(&arguments.dir)?.source.num_objects;
    let out = match (&arguments.out, &arguments.add) {
        (Some(out), _) => out.clone(),
        (None, Some(name)) => image_set_dir(&arguments.dir, name)?,
        (None, None) => bail!("no output: pass --out DIR2 or --add NAME"),
    };
    if arguments.force {
        let inputs = [Some(arguments.dir.as_path()), arguments.meshes.as_deref()];
        refuse_inputs(&out, inputs.into_iter().flatten())?;
    }
    let cancel = interrupt::listen()?;
    let bar = BuildBar::new("relighting", num_objects);
    let mut on_event = |event| bar.show(event);
    let report = if let Some(meshes) = &arguments.meshes {
        let options = BuildOptions {
            force: arguments.force,
            ..arguments.work.build_options(out.clone())
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
            out: out.clone(),
            images_only: arguments.add.is_some(),
            workers: arguments.work.threads.threads,
            force: arguments.force,
        };
        relight(&arguments.dir, &lighting, &options, &cancel, &mut on_event)
    };
    drop(bar);
    let Some(report) = report? else {
        return Ok(super::stopped(&out));
    };
    if arguments.work.json {
        ui::json(&report)?;
    } else {
        ui::result(format_args!(
            "{} objects in {} shards, the same except for their images: {}",
            report.num_rows,
            report.num_shards,
            out.display()
        ));
    }
    Ok(ExitCode::SUCCESS)
}
