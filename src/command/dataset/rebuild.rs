//! `tap dataset rebuild`: a dataset again from its manifest, with its differences.

use std::ffi::OsStr;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Result, bail};
use clap::Args;
use tap_dataset::{Manifest, RebuildReport, is_manifest_name, rebuild};

use super::BuildBar;
use super::output::OutputFlags;
use tap_cli::{interrupt, ui};

/// Limit on printed differences.
const MAX_LINES: usize = 20;

/// Rebuild a dataset from its manifest and your own copy of the meshes, and check that it is equal.
///
/// The manifest holds the recipe, the hash of every mesh and the hashes of every row: whoever may not share meshes or
/// images shares the manifest. Meshes that were moved are found by their hashes. Differences are listed: a mesh that is
/// missing or has changed, or images that differ because another adapter rendered them.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Arguments {
    /// The manifest, or the folder that holds it.
    #[arg(value_name = "MANIFEST")]
    manifest: PathBuf,
    /// Your copy of the meshes; a folder, an archive or an address in an object store.
    #[arg(long, value_name = "SRC")]
    meshes: PathBuf,
    #[command(flatten)]
    output: OutputFlags,
}

const EXAMPLES: &str = "\
Examples:
  tap dataset rebuild _manifest.json --meshes ShapeNetCore.v2 --out shards
  tap dataset rebuild published/ --meshes ShapeNetCore.v2 --out shards --json";

pub(super) fn run(arguments: &Arguments) -> Result<ExitCode> {
    let manifest = arguments.manifest.as_path();
    let is_file = manifest
        .file_name()
        .and_then(OsStr::to_str)
        .is_some_and(is_manifest_name);
    let folder = manifest.parent().filter(|_| is_file).unwrap_or(manifest);
    let inputs = [manifest, &arguments.meshes];
    arguments.output.refuse_inputs(inputs)?;
    let manifest = Manifest::read(folder)?;
    let options = arguments.output.build_options();
    let cancel = interrupt::listen()?;
    let bar = BuildBar::new("rebuilding", manifest.source.num_objects);
    let report = rebuild(&manifest, &arguments.meshes, &options, &cancel, &mut |event| {
        bar.show(event);
    })?;
    drop(bar);
    let Some(report) = report else {
        return Ok(super::stopped(&arguments.output.out));
    };
    if arguments.output.work.json {
        ui::json(&report)?;
    }
    let RebuildReport {
        is_equal,
        num_shards,
        num_equal_shards,
        num_objects,
        num_equal_objects,
        builds,
        kinds,
        differences,
    } = &report;
    if *is_equal {
        if !arguments.output.work.json {
            ui::result(format_args!(
                "equal: all {num_shards} shards of {num_objects} objects are the same, byte for byte: {}",
                arguments.output.out.display()
            ));
        }
        return Ok(ExitCode::SUCCESS);
    }
    if !arguments.output.work.json {
        for difference in differences.iter().take(MAX_LINES) {
            ui::result(format_args!(
                "{} {}: {}",
                difference.kind, difference.id, difference.message
            ));
        }
        for (kind, count) in kinds {
            ui::result(format_args!("{count} objects: {kind}"));
        }
        for difference in builds {
            ui::result(format_args!("the builds: {difference}"));
        }
    }
    bail!(
        "{num_equal_shards} of {num_shards} shards and {num_equal_objects} of {num_objects} objects are the same; what \
         was made is in {}",
        arguments.output.out.display()
    );
}
