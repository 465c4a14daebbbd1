//! A data set folder in other people's readers: pyarrow, pandas, polars, `DuckDB`, Hugging Face `datasets`, as
//! `docs/formats.md`, "Other readers", says. `scripts/test` lays them, and names their folder in `TAP_READERS`.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod util;

use std::path::Path;

use util::{Outcome, TestDir, python_with_readers};

#[test]
fn a_folder_of_shards_is_a_parquet_dataset_for_every_reader() {
    let Some(mut python) = python_with_readers() else {
        return;
    };
    let place = TestDir::new();
    place.synthesize(3, 4);
    // With lists of objects beside the shards, which no reader takes for shards.
    let build = "dataset build meshes --out shards --size 32 --num-points 64 --gbuffer --split-fractions 0.5,0.25,0.25 --set max_objects_in_manifest=8";
    place.run(&build.split(' ').collect::<Vec<_>>()).succeeds();
    let relight = "dataset relight shards --lighting hemisphere --add sky";
    place.run(&relight.split(' ').collect::<Vec<_>>()).succeeds();

    python
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/other_readers.py"))
        .args([place.path("shards").as_os_str(), "sky".as_ref()])
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/datasets.md"));
    let said = Outcome::of(&mut python).succeeds().stdout;
    let expected = "\
pyarrow table: 12
pyarrow dataset: 12
pandas: 12
polars *.parquet: 12
duckdb *.parquet: 12
polars **/*.parquet: 12
duckdb **/*.parquet: 12
datasets: 12
datasets parquet: 12
datasets streaming: 12
size of a view: (32, 32)
class names: ['chair', 'lamp', 'table']
points in NumPy: ((64, 3), (64, 3))
images in NumPy: ((12, 32, 32), 'uint8')
masks in NumPy: ((12, 32, 32), True)
points in masks: True
parts in NumPy: (64,)
image set, pyarrow: 12
image set, polars: 12
image set, datasets: 12
objects listed: (12, ['shard', 'id'])
";
    assert_eq!(said, expected);
}
