//! A format of one's own: an iterator of objects becomes a data set that everything else takes.
//!
//! `cargo run --example own_samples -- OUT`; without a folder it writes to a temporary one, and checks what is in it, which
//! is how the tests run it.

use std::path::Path;

use tap_dataset::{
    ColumnSet, Columns, Dataset, ObjectId, RowLayout, ShardHeader, Split, VerifyOptions, sample_of_points,
    verify, write_samples,
};

/// Points of an object.
const NUM_POINTS: usize = 256;
/// Class names, sorted; a label is a place in this list.
const CLASSES: [&str; 2] = ["helix", "ring"];

/// An object of one's own format: split, class, name, points and their normals in coordinates of one's own.
type Object = (Split, usize, String, Vec<[f64; 3]>, Vec<[f64; 3]>);

/// Stands for whatever reads one's own files.
fn objects() -> impl Iterator<Item = Object> {
    (0..20).map(|number| {
        let (label, turns) = (number % CLASSES.len(), 1.0 + number as f64);
        let split = if number < 16 { Split::Train } else { Split::Test };
        let at = |i: usize| {
            let angle = std::f64::consts::TAU * turns * i as f64 / NUM_POINTS as f64;
            let (sin, cos) = angle.sin_cos();
            let height = if label == 0 { 0.01 * i as f64 } else { 0.0 };
            ([100.0 + cos, height, sin], [cos, 0.0, sin])
        };
        let (points, normals) = (0..NUM_POINTS).map(at).unzip();
        (split, label, format!("object-{number}"), points, normals)
    })
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let temporary = tempfile::tempdir()?;
    let out = std::env::args()
        .nth(1)
        .filter(|argument| !argument.starts_with('-'));
    let out = out.map_or_else(
        || temporary.path().join("shards"),
        |out| Path::new(&out).to_owned(),
    );

    let header = ShardHeader {
        layout: RowLayout {
            num_points: NUM_POINTS,
            num_views: 0,
            image_size_px: 0,
            columns: Columns::POINTS.with(ColumnSet::Normals),
        },
        classes: CLASSES.map(str::to_owned).to_vec(),
        parts: Vec::new(),
        recipe: serde_json::json!({ "made_by": "own_samples" }),
        adapter: serde_json::Value::Null,
    };
    let mut samples = Vec::new();
    for (split, label, name, points, normals) in objects() {
        let id = ObjectId::try_new(CLASSES[label], &name)?;
        samples.push((
            split,
            sample_of_points(id, label as i64, &points, Some(&normals), None)?,
        ));
    }
    // All rows at once; a set that does not fit the memory is written in parts, which `tap dataset join` joins.
    write_samples(&out, &header, 128, samples)?;

    let verified = verify(&out, VerifyOptions::default(), &mut |_| {})?;
    assert!(verified.is_ok(), "{:?}", verified.problems);
    let dataset = Dataset::open(&out)?;
    assert_eq!(
        [dataset.len(Split::Train), dataset.len(Split::Test)],
        [16, 4],
        "every object is a row"
    );
    Ok(())
}
