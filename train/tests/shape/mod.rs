//! A data set for tests: boxes, balls and cones as points, drawn by splatting them, written as real shards.

#![allow(dead_code, reason = "each test program uses its own part of this")]

use std::path::Path;

use tap_dataset::{
    ColumnSet, Columns, Mask1Bit, ObjectId, PartName, RowLayout, Sample, SampleView, ShardHeader, Split,
    encode_gray_png, write_samples,
};
use tap_train::seed::Stream;

pub(crate) const CLASSES: [&str; 3] = ["ball", "box", "cone"];
pub(crate) const NUM_VIEWS: usize = 12;

/// Writes `per_class` objects of each class for training and half as many for the test split.
pub(crate) fn write(dir: &Path, per_class: usize, size_px: u32, num_points: usize) {
    write_parts(dir, per_class, size_px, num_points, &[]);
}

/// The same, with two parts a class for the classes named: what is below the middle, and what is above.
pub(crate) fn write_parts(
    dir: &Path,
    per_class: usize,
    size_px: u32,
    num_points: usize,
    classes_with_parts: &[&str],
) {
    let layout = RowLayout {
        num_points,
        num_views: NUM_VIEWS,
        image_size_px: size_px,
        columns: Columns::DEFAULT.without(ColumnSet::Mesh),
    };
    let samples = samples(per_class, size_px, num_points, classes_with_parts);
    write_rows(dir, layout, classes_with_parts, samples);
}

/// The same objects, but points and labels alone.
pub(crate) fn write_points(dir: &Path, per_class: usize, num_points: usize, classes_with_parts: &[&str]) {
    let layout = RowLayout {
        num_points,
        num_views: 0,
        image_size_px: 0,
        columns: Columns::POINTS.with(ColumnSet::Parts),
    };
    let mut samples = samples(per_class, 16, num_points, classes_with_parts);
    for (_, sample) in &mut samples {
        sample.normals = None;
        sample.views.clear();
        sample.coverage_min = None;
    }
    write_rows(dir, layout, classes_with_parts, samples);
}

fn samples(
    per_class: usize,
    size_px: u32,
    num_points: usize,
    classes_with_parts: &[&str],
) -> Vec<(Split, Sample)> {
    let mut samples = Vec::new();
    for (label, class) in CLASSES.iter().enumerate() {
        for object in 0..per_class + per_class.div_ceil(2) {
            let split = if object < per_class {
                Split::Train
            } else {
                Split::Test
            };
            let mut sample = sample(class, label, object, size_px, num_points);
            if let Some(place) = classes_with_parts.iter().position(|with| with == class) {
                let part = |point: &[f32; 3]| 2 * place as u8 + u8::from(point[1] > 0.0);
                sample.part_labels = Some(sample.points.iter().map(part).collect());
            }
            samples.push((split, sample));
        }
    }
    samples
}

fn write_rows(dir: &Path, layout: RowLayout, classes_with_parts: &[&str], samples: Vec<(Split, Sample)>) {
    let header = ShardHeader {
        layout,
        classes: CLASSES.map(String::from).to_vec(),
        parts: classes_with_parts.iter().flat_map(|class| parts(class)).collect(),
        recipe: serde_json::json!({}),
        adapter: serde_json::json!({}),
    };
    write_samples(dir, &header, 7, samples).expect("a temporary folder can be written");
}

fn parts(class: &str) -> [PartName; 2] {
    ["below", "above"].map(|name| PartName {
        category: class.to_owned(),
        name: name.to_owned(),
    })
}

fn sample(class: &str, label: usize, object: usize, size_px: u32, num_points: usize) -> Sample {
    let mut stream = Stream::new(1, "shape", object as u64, class);
    let size = [(); 3].map(|()| stream.uniform(0.35, 0.55) as f32);
    let surface: Vec<[[f32; 3]; 2]> = (0..num_points)
        .map(|_| surface_point(class, &mut stream, size))
        .collect();
    let (points, normals): (Vec<_>, Vec<_>) = surface.iter().map(|[point, normal]| (*point, *normal)).unzip();
    let views = (0..NUM_VIEWS)
        .map(|view| draw(view, &points, &normals, size_px))
        .collect();
    let id = ObjectId::try_new(class, &format!("{object:04}")).expect("a plain name");
    Sample {
        id,
        category: class.to_owned(),
        label: label as i64,
        points,
        normals: Some(normals),
        part_labels: None,
        views,
        coverage_min: Some(0.1),
        object_from_mesh: [
            1.0, 0.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 1.0,
        ],
        source_sha256: String::from("0000000000000000000000000000000000000000000000000000000000000000"),
        assets_sha256: None,
        mesh: None,
    }
}

/// A point of the surface and its normal.
fn surface_point(class: &str, stream: &mut Stream, size: [f32; 3]) -> [[f32; 3]; 2] {
    let angle = stream.uniform(0.0, std::f64::consts::TAU) as f32;
    let height = stream.uniform(-1.0, 1.0) as f32;
    match class {
        "ball" => {
            let radius = (1.0 - height * height).sqrt();
            let normal = [radius * angle.cos(), height, radius * angle.sin()];
            [[0, 1, 2].map(|axis| normal[axis] * size[axis]), normal]
        }
        "box" => {
            let face = stream.below(6);
            let mut point = [(); 3].map(|()| stream.uniform(-1.0, 1.0) as f32);
            let mut normal = [0.0; 3];
            normal[face / 2] = if face.is_multiple_of(2) { 1.0 } else { -1.0 };
            point[face / 2] = normal[face / 2];
            [[0, 1, 2].map(|axis| point[axis] * size[axis]), normal]
        }
        _ => {
            let radius = (1.0 - height) / 2.0;
            let point = [
                radius * angle.cos() * size[0],
                height * size[1],
                radius * angle.sin() * size[2],
            ];
            [point, [0.9 * angle.cos(), 0.436, 0.9 * angle.sin()]]
        }
    }
}

/// View k of the ring at 30 degrees of elevation, parallel, the unit sphere filling the frame.
fn draw(view: usize, points: &[[f32; 3]], normals: &[[f32; 3]], size_px: u32) -> SampleView {
    let (azimuth, elevation) = ((view as f32 * 30.0).to_radians(), 30.0_f32.to_radians());
    let right = [azimuth.cos(), 0.0, -azimuth.sin()];
    let up = [
        -azimuth.sin() * elevation.sin(),
        elevation.cos(),
        -azimuth.cos() * elevation.sin(),
    ];
    let toward = [
        azimuth.sin() * elevation.cos(),
        elevation.sin(),
        azimuth.cos() * elevation.cos(),
    ];
    let dot = |a: &[f32; 3], b: &[f32; 3]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>();
    let size = size_px as usize;
    let (mut pixels, mut depths) = (vec![255_u8; size * size], vec![f32::NEG_INFINITY; size * size]);
    for (point, normal) in points.iter().zip(normals) {
        let column = (dot(&right, point) / 2.0 + 0.5) * size as f32;
        let row = (0.5 - dot(&up, point) / 2.0) * size as f32;
        let depth = dot(&toward, point);
        let gray = 255.0 * (0.3 + 0.6 * dot(&toward, normal).abs());
        for row in [row - 0.6, row, row + 0.6] {
            for column in [column - 0.6, column, column + 0.6] {
                let (row, column) = (row as usize, column as usize);
                if row < size && column < size && depths[row * size + column] < depth {
                    depths[row * size + column] = depth;
                    pixels[row * size + column] = gray as u8;
                }
            }
        }
    }
    let view_from_object = [
        right[0], right[1], right[2], 0.0, up[0], up[1], up[2], 0.0, toward[0], toward[1], toward[2], -3.0,
        0.0, 0.0, 0.0, 1.0,
    ];
    let clip_from_view = [
        1.0, 0.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, -0.25, -0.5, 0.0, 0.0, 0.0, 1.0,
    ];
    SampleView {
        image_png: encode_gray_png(size_px, &pixels).expect("the size is right"),
        mask: Mask1Bit::from_covered(
            size_px,
            &depths.iter().map(|depth| depth.is_finite()).collect::<Vec<_>>(),
        ),
        view_from_object,
        clip_from_view,
        gbuffer: None,
    }
}
