//! `tap dataset preview`: a dataset as an HTML page.

use std::fs::File;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::Args;
use serde::Serialize;
use tap_dataset::refuse_foreign_file;

use crate::preview::{Choice, Preview, html, is_preview};
use tap_cli::ui;

/// Write a page to browse a dataset: objects, views, points and cameras, settings, and skipped objects.
///
/// A single HTML file that loads nothing else: open it, send it, keep it beside the shards.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Arguments {
    /// Folder of shards.
    #[arg(value_name = "DIR")]
    dir: PathBuf,
    /// Show this image set, written by tap dataset relight --add.
    #[arg(long, value_name = "NAME")]
    images: Option<String>,
    /// Show parts that tap-train predict named for rows of this dataset, beside the true ones; no other objects.
    #[arg(long, value_name = "FOLDER", conflicts_with = "images")]
    predicted: Option<PathBuf>,
    /// Output file.
    #[arg(long, value_name = "FILE.html")]
    out: PathBuf,
    /// Objects on the page, the same number of each category.
    #[arg(long, value_name = "N", default_value_t = 96)]
    limit: usize,
    /// Replace an existing page, if this command wrote it.
    #[arg(long)]
    force: bool,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

const EXAMPLES: &str = "\
Examples:
  tap dataset preview shards --out shards.html
  tap dataset preview shards --out more.html --limit 400
  tap-train predict --run parts shards --split test --out predicted
  tap dataset preview shards --predicted predicted --out parts.html

Of objects without views the points are drawn, in the colors of their parts where they have any.";

/// What `--json` prints.
#[derive(Debug, Serialize)]
struct Made<'a> {
    out: &'a PathBuf,
    bytes: usize,
    limit: usize,
}

pub(super) fn run(arguments: &Arguments) -> Result<ExitCode> {
    let Arguments {
        dir,
        images,
        predicted,
        out,
        limit,
        force,
        json,
    } = arguments;
    if out.symlink_metadata().is_ok() && !force {
        bail!(
            "the page exists; choose another name or pass --force: {}",
            out.display()
        );
    }
    refuse_foreign_file(out, is_preview)?;
    let choice = Choice {
        images: images.as_deref(),
        predicted: predicted.as_deref(),
        limit: *limit,
    };
    let bar = ui::Bar::new("reading", *limit as u64);
    let preview = Preview::read(dir, choice, || bar.advance())?;
    drop(bar);
    let page = html(&preview)?;
    let file = if *force {
        File::create(out)
    } else {
        File::create_new(out)
    };
    file.and_then(|mut file| file.write_all(page.as_bytes()))
        .with_context(|| format!("could not write {}", out.display()))?;
    if *json {
        ui::json(&Made {
            out,
            bytes: page.len(),
            limit: *limit,
        })?;
    } else {
        ui::result(format_args!(
            "{}, open it in a browser: {}",
            ui::bytes(page.len() as u64),
            out.display()
        ));
    }
    Ok(ExitCode::SUCCESS)
}
