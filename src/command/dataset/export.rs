//! `tap dataset export`: a dataset in the layouts that other programs read.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::Args;
use serde::Serialize;
use tap_cli::flag::ThreadsFlag;
use tap_cli::{interrupt, ui};
use tap_dataset::{
    DEFAULT_ROWS_PER_TAR, Dataset, ExportEvent, ExportFormat, ExportOptions, ExportReport, export,
};

/// Write a dataset in a layout that other programs read.
///
/// The folder appears when it is complete. Coordinates are those of object space: +y up, +z front, within the unit ball.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Arguments {
    /// Folder of shards.
    #[arg(value_name = "DIR")]
    dir: PathBuf,
    /// The layout: mvcnn, mvcnn-pytorch, webdataset, npy, h5 or h5-scanobjectnn.
    #[arg(long = "as", value_name = "LAYOUT")]
    format: ExportFormat,
    /// Folder to write.
    #[arg(long, value_name = "DIR2")]
    out: PathBuf,
    /// The images of this image set, in place of the dataset's own.
    #[arg(long, value_name = "NAME")]
    images: Option<String>,
    /// Objects of a tar file of webdataset.
    #[arg(long, value_name = "N", default_value_t = DEFAULT_ROWS_PER_TAR)]
    rows_per_tar: usize,
    /// Replace an earlier export in the folder; refused where it holds anything else, or an input.
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    threads: ThreadsFlag,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

const EXAMPLES: &str = "\
Layouts:
  mvcnn          MVCNN's ShapeNet55, which the released code of TAP reads with DIR2 as its data_dir:
                   shapenet55v1/SPLIT/model_000001_001.jpg ...      RGB, quality 95
                   pointclouds/SPLIT/model_000001.ply               (pointclouds_p2048 for 2048 points)
  mvcnn-pytorch  what mvcnn_pytorch reads: CLASS/SPLIT/model_000001_001.png ...
  webdataset     SPLIT-000000.tar ...: json, cls, points.npy, normals.npy, part_labels.npy,
                 view_001.png, mask_001.png ..., view_from_object.npy, clip_from_view.npy
  npy            Point-BERT's ShapeNet55, which Point-MAE and I2P-MAE read:
                   shapenet_pc/CATEGORY-NAME.npy, ShapeNet-55/{train,test}.txt
                 Their configurations expect 8192 points, and train and test splits.
  h5             what PointNet++, DGCNN and PointNeXt read as modelnet40_ply_hdf5_2048, and with parts as hdf5_data:
                   ply_data_SPLIT0.h5 ...                           data, label, normal, pid; 2048 objects each
                   SPLIT_files.txt, shape_names.txt
  h5-scanobjectnn  what Point-MAE, I2P-MAE, TAP and PointNeXt read as ScanObjectNN, at 2048 points:
                   main_split/{training,test}_objectdataset.h5      data, label

objects.csv says which object a number is; export.json what was exported.

Examples:
  tap dataset export shards --as mvcnn --out data/ShapeNet55
  tap dataset export shards --as webdataset --rows-per-tar 500 --out tars
  tap dataset build meshes --no-views --num-points 8192 --split-fractions 0.9,0.1 --out points
  tap dataset export points --as npy --out data/ShapeNet55-34
  tap dataset export points --as h5 --out data/modelnet40_ply_hdf5_2048";

/// What `--json` prints.
#[derive(Debug, Serialize)]
struct Exported<'a> {
    out: &'a PathBuf,
    #[serde(flatten)]
    report: &'a ExportReport,
}

pub(super) fn run(arguments: &Arguments) -> Result<ExitCode> {
    let dataset = Dataset::open(&arguments.dir)?;
    let dataset = match &arguments.images {
        Some(images) => dataset.with_images(images)?,
        None => dataset,
    };
    let options = ExportOptions {
        format: arguments.format,
        out: arguments.out.clone(),
        force: arguments.force,
        rows_per_tar: arguments.rows_per_tar,
        workers: arguments.threads.threads,
    };
    let cancel = interrupt::listen()?;
    let bar = ui::Bar::new("exporting", 0);
    let report = export(&dataset, &options, &cancel, &mut |event| match event {
        ExportEvent::Started { rows } => bar.set_length(rows as u64),
        ExportEvent::Written => bar.advance(),
        _ => {}
    })?;
    drop(bar);
    let Some(report) = report else {
        ui::note("stopped; nothing was left");
        return Ok(ExitCode::from(tap_cli::exit_code::INTERRUPTED));
    };
    let out = &arguments.out;
    if arguments.json {
        ui::json(&Exported { out, report: &report })?;
    } else {
        let num_rows: usize = report.num_rows_by_split.values().sum();
        ui::result(format_args!(
            "{num_rows} objects in {} files, {}: {}",
            report.num_files,
            ui::bytes(report.bytes),
            out.display()
        ));
    }
    Ok(ExitCode::SUCCESS)
}
