//! Builds a dataset with default settings, verifies it, and reads a row:
//! `cargo run --release --example build -- SOURCE OUT [SPLITS.csv]`.
#![allow(clippy::print_stdout, reason = "an example talks to its user")]

use std::error::Error;
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use tap_dataset::{
    BuildEvent, BuildOptions, BuildRecipe, Dataset, Source, SourceOptions, Split, VerifyOptions,
    ViewSelection, build, verify,
};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<PathBuf> = std::env::args_os().skip(1).map(PathBuf::from).collect();
    let [path, out, rest @ ..] = &arguments[..] else {
        return Err("usage: build SOURCE OUT [SPLITS.csv]".into());
    };
    let source_options = SourceOptions {
        splits: rest.first().cloned(),
        ..SourceOptions::default()
    };
    let source = Source::open(path, &source_options)?;
    for note in source.notes() {
        println!("{note}");
    }

    let started = Instant::now();
    let options = BuildOptions::new(out.clone());
    let summary = build(
        &source,
        &BuildRecipe::default(),
        &options,
        &AtomicBool::new(false),
        &mut |event| {
            // Row events are too frequent to print.
            if !matches!(event, BuildEvent::Done { .. }) {
                println!("{event:?}");
            }
        },
    )?;
    println!(
        "{} rows, {} lost, {:.1} s",
        summary.num_rows(),
        summary.num_failed(),
        started.elapsed().as_secs_f64()
    );

    let started = Instant::now();
    let report = verify(out, VerifyOptions { is_deep: true }, &mut |_| {})?;
    println!(
        "{report:#?}\nverified in {:.1} s",
        started.elapsed().as_secs_f64()
    );

    let dataset = Dataset::open(out)?;
    let sample = dataset.read(Split::Train, 0, ViewSelection::All)?;
    println!(
        "{} of class {}: {} views of {} pixels",
        sample.id,
        sample.label,
        sample.views.len(),
        dataset.image_size_px()
    );
    Ok(())
}
