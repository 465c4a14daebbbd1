//! A small source of boxes, and settings for building it on the CPU.
#![allow(dead_code, reason = "each test program uses its part of the harness")]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use tap_dataset::{BuildOptions, BuildRecipe, BuildSummary, DatasetError, Source, SourceOptions, build};

/// A box with these half sizes, rotated slightly so that no view is degenerate.
pub(crate) fn box_obj(x: f32, y: f32, z: f32) -> String {
    let mut obj = String::new();
    for corner in 0..8 {
        let side = |bit: i32, half: f32| if corner & bit == 0 { -half } else { half };
        let (x, y, z) = (side(1, x), side(2, y) + 0.2 * side(1, x), side(4, z));
        writeln!(obj, "v {x} {y} {z}").unwrap();
    }
    obj + "g body\nf 1 3 4 2\nf 5 6 8 7\ng rest\nf 1 2 6 5\nf 3 7 8 4\nf 1 5 7 3\nf 2 4 8 6\n"
}

/// A source of 14 boxes in two categories, 10 for training and 4 for test.
pub(crate) fn boxes() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let mut splits = "id,category,split\n".to_owned();
    for i in 0_u8..14 {
        let category = if i % 2 == 0 { "crate" } else { "plank" };
        fs::create_dir_all(dir.path().join(category)).unwrap();
        let thickness = if i % 2 == 0 { 0.8 } else { 0.1 };
        let obj = box_obj(1.0, thickness, 0.3 + 0.1 * f32::from(i));
        fs::write(dir.path().join(category).join(format!("{i:02}.obj")), obj).unwrap();
        let split = if i < 10 { "train" } else { "test" };
        writeln!(splits, "{i:02},{category},{split}").unwrap();
    }
    fs::write(dir.path().join("split.csv"), splits).unwrap();
    dir
}

pub(crate) fn recipe() -> BuildRecipe {
    let mut recipe = BuildRecipe {
        num_points: 128,
        rows_per_shard: 4,
        ..BuildRecipe::default()
    };
    recipe.render.size_px = 48;
    recipe
}

pub(crate) fn options(out: &Path, workers: usize) -> BuildOptions {
    BuildOptions {
        workers,
        ..BuildOptions::new(out.to_owned())
    }
}

pub(crate) fn open(source: &Path) -> Source {
    Source::open(source, &SourceOptions::default()).unwrap()
}

pub(crate) fn run(source: &Path, out: &Path, workers: usize) -> Result<BuildSummary, DatasetError> {
    run_with(source, &recipe(), &options(out, workers))
}

pub(crate) fn run_with(
    source: &Path,
    recipe: &BuildRecipe,
    options: &BuildOptions,
) -> Result<BuildSummary, DatasetError> {
    build(
        &open(source),
        recipe,
        options,
        &AtomicBool::new(false),
        &mut |_| {},
    )
}

/// All files of a folder with their bytes.
pub(crate) fn bytes(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let files = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    files
        .map(|path| (path.file_name().unwrap().into(), fs::read(path).unwrap()))
        .collect()
}

pub(crate) fn names(dir: &Path) -> Vec<String> {
    bytes(dir)
        .into_keys()
        .map(|name| name.to_str().unwrap().to_owned())
        .collect()
}
