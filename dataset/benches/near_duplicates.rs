//! Objects per second that are searched for in another data set of as many, where shapes are many and alike: four-legged
//! tables of all proportions, each with its most similar ones as candidates, and a tenth of them in both sets.

use std::path::Path;

use divan::Bencher;
use divan::counter::ItemsCount;
use tap_dataset::{
    ColumnSet, Columns, DEFAULT_DUPLICATE_DISTANCE, ObjectId, RowLayout, Sample, ShardHeader, Split,
    find_near_duplicates, write_samples,
};

const NUM_OBJECTS: usize = 400;
const NUM_POINTS: usize = 1024;
/// Each n-th object is in both data sets, sampled anew.
const SHARED_EACH: usize = 10;

fn main() {
    divan::main();
}

/// A sequence of numbers from 0 to 1 with even gaps.
fn part(index: usize, ratio: f64) -> f32 {
    (index as f64 * ratio).fract() as f32
}

/// Points on the top and the legs of a table.
fn table(shape: usize, sampling: usize) -> (Vec<[f32; 3]>, Vec<[f32; 3]>) {
    let [width, depth, height] =
        [0.618_034, 0.414_214, 0.732_051].map(|ratio| 0.3 + 0.7 * part(shape, ratio));
    let mut points = Vec::with_capacity(NUM_POINTS);
    let mut normals = Vec::with_capacity(NUM_POINTS);
    for k in 0..NUM_POINTS {
        let [u, v] = [0.754_878, 0.569_840].map(|ratio| 2.0 * part(k + sampling * NUM_POINTS, ratio) - 1.0);
        if k % 3 == 0 {
            let leg = [[-1.0, -1.0], [1.0, -1.0], [1.0, 1.0], [-1.0, 1.0]][k % 4];
            points.push([leg[0] * width * 0.9, u * height, leg[1] * depth * 0.9]);
            normals.push([1.0, 0.0, 0.0]);
        } else {
            points.push([u * width, height, v * depth]);
            normals.push([0.0, 1.0, 0.0]);
        }
    }
    let radius = points
        .iter()
        .map(|p| p.iter().map(|x| x * x).sum::<f32>().sqrt())
        .fold(0.0, f32::max);
    let points = points.into_iter().map(|p| p.map(|x| x / radius)).collect();
    (points, normals)
}

fn write(dir: &Path, set: usize) {
    let layout = RowLayout {
        num_points: NUM_POINTS,
        num_views: 0,
        image_size_px: 0,
        columns: Columns::POINTS.with(ColumnSet::Normals),
    };
    let sample = |row: usize| {
        let shape = if row.is_multiple_of(SHARED_EACH) {
            row
        } else {
            row + set * NUM_OBJECTS
        };
        let (points, normals) = table(shape, set);
        Sample {
            id: ObjectId::try_new("table", &format!("{row:05}")).expect("the name is plain"),
            category: "table".to_owned(),
            label: 0,
            points,
            normals: Some(normals),
            part_labels: None,
            views: Vec::new(),
            coverage_min: None,
            object_from_mesh: [0.5; 16],
            source_sha256: format!("{:064}", row + set * NUM_OBJECTS),
            assets_sha256: None,
            mesh: None,
        }
    };
    let header = ShardHeader {
        layout,
        classes: vec!["table".to_owned()],
        parts: Vec::new(),
        recipe: serde_json::Value::Null,
        adapter: serde_json::Value::Null,
    };
    let samples = (0..NUM_OBJECTS).map(|row| (Split::Train, sample(row))).collect();
    write_samples(dir, &header, 128, samples).expect("the folder is empty");
}

#[divan::bench(sample_count = 3, sample_size = 1)]
fn search(bencher: Bencher<'_, '_>) {
    let dir = tempfile::tempdir().expect("a folder for the bench");
    let [a, b] = ["a", "b"].map(|name| dir.path().join(name));
    write(&a, 0);
    write(&b, 1);
    bencher.counter(ItemsCount::new(NUM_OBJECTS)).bench(|| {
        let report = find_near_duplicates(&a, Some(&b), DEFAULT_DUPLICATE_DISTANCE, &mut |_| {})
            .expect("the data sets are whole");
        assert!(
            report.num_duplicates >= NUM_OBJECTS / SHARED_EACH,
            "{}",
            report.num_duplicates
        );
        report
    });
}
