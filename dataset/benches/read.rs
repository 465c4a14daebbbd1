//! Samples per second of random row reads, with some of twelve views selected, with and without PNG decoding, and of a stream
//! that decodes in its threads. `decode` alone is the upper bound.

use std::hint::black_box;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use divan::Bencher;
use divan::counter::ItemsCount;
use tap_dataset::{
    Columns, Dataset, GrayImage, Mask1Bit, MeshStats, ObjectId, Projection, Reader, RowLayout, Sample,
    SampleView, ShardHeader, Split, StreamSample, ViewSelection, decode_gray_png, encode_gray_png,
    write_samples,
};

const LAYOUT: RowLayout = RowLayout {
    num_points: 1024,
    num_views: 12,
    image_size_px: 224,
    columns: Columns::DEFAULT,
};
const NUM_ROWS: usize = 128;
/// View selections of a typical training loader.
const DRAWN: [&[usize]; 3] = [&[], &[0, 3, 6, 9], &[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11]];

fn main() {
    divan::main();
}

/// A flat-shaded view: a few dozen facets of one gray each on a white background.
fn view(seed: usize) -> SampleView {
    let size = LAYOUT.image_size_px as usize;
    let value = |i: usize| {
        let (x, y) = ((i % size) as f32 - 112.0, (i / size) as f32 - 112.0);
        let radius = x.hypot(y);
        let facet = (y.atan2(x) * 4.0).floor() + (radius / 13.0).floor() * 7.0 + seed as f32;
        if radius < 80.0 {
            77 + (facet.rem_euclid(31.0) * 5.0) as u8
        } else {
            255
        }
    };
    let pixels: Vec<u8> = (0..size * size).map(value).collect();
    SampleView {
        image_png: encode_gray_png(LAYOUT.image_size_px, &pixels).expect("the image has its size"),
        mask: Mask1Bit::from_covered(
            LAYOUT.image_size_px,
            &pixels.iter().map(|&p| p != 255).collect::<Vec<_>>(),
        ),
        view_from_object: [0.5; 16],
        clip_from_view: [0.5; 16],
        gbuffer: None,
    }
}

fn write(dir: &Path) {
    let sample = |row: usize| Sample {
        id: ObjectId::try_new("chair", &format!("{row:05}")).expect("the name is plain"),
        category: "chair".to_owned(),
        label: 0,
        points: (0..LAYOUT.num_points)
            .map(|i| [(i + row) as f32 * 1e-4; 3])
            .collect(),
        normals: Some(vec![[0.0, 1.0, 0.0]; LAYOUT.num_points]),
        part_labels: None,
        views: (0..LAYOUT.num_views).map(|v| view(row * 12 + v)).collect(),
        coverage_min: Some(0.4),
        object_from_mesh: [0.5; 16],
        source_sha256: "0".repeat(64),
        assets_sha256: None,
        mesh: Some(MeshStats {
            num_triangles: 1,
            surface_area: 1.0,
            is_watertight: true,
            issues: None,
        }),
    };
    let header = ShardHeader {
        layout: LAYOUT,
        classes: vec!["chair".to_owned()],
        parts: Vec::new(),
        recipe: serde_json::Value::Null,
        adapter: serde_json::Value::Null,
    };
    let samples = (0..NUM_ROWS).map(|row| (Split::Train, sample(row))).collect();
    write_samples(dir, &header, NUM_ROWS, samples).expect("the folder is empty");
}

/// Row indices with no two neighbors in sequence.
fn next_row(counter: &AtomicUsize) -> usize {
    counter.fetch_add(1, Ordering::Relaxed) * 37 % NUM_ROWS
}

fn bench(bencher: Bencher<'_, '_>, views: &[usize], is_decoded: bool) {
    let dir = tempfile::tempdir().expect("a folder for the bench");
    write(dir.path());
    let dataset = Dataset::open(dir.path()).expect("it was just written");
    let counter = AtomicUsize::new(0);
    bencher.counter(ItemsCount::new(1_usize)).bench(|| {
        let row = next_row(&counter);
        let sample = dataset
            .read(Split::Train, row, ViewSelection::Some(views))
            .expect("the row is there");
        if is_decoded {
            for view in &sample.views {
                black_box(decode_gray_png(&view.image_png).expect("it is a PNG"));
            }
        }
        sample
    });
}

/// Reads encoded bytes only.
#[divan::bench(args = DRAWN, threads = [1, 0])]
fn read(bencher: Bencher<'_, '_>, views: &[usize]) {
    bench(bencher, views, false);
}

/// Reads and decodes, as a loader does.
#[divan::bench(args = DRAWN, threads = [1, 0])]
fn read_and_decode(bencher: Bencher<'_, '_>, views: &[usize]) {
    bench(bencher, views, true);
}

/// An epoch on all cores, decoded by the threads of the stream.
#[divan::bench(args = DRAWN)]
fn stream(bencher: Bencher<'_, '_>, views: &[usize]) {
    let dir = tempfile::tempdir().expect("a folder for the bench");
    write(dir.path());
    let dataset = Arc::new(Dataset::open(dir.path()).expect("it was just written"));
    let projection = Projection::default().with_views(views);
    let decode = |read: StreamSample| {
        let images = read
            .sample
            .views
            .iter()
            .map(|view| decode_gray_png(&view.image_png));
        images.collect::<Result<Vec<_>, _>>()
    };
    let num_bytes = |images: &Vec<GrayImage>| images.iter().map(|image| image.pixels.len()).sum();
    bencher.counter(ItemsCount::new(NUM_ROWS)).bench_local(|| {
        let reader = Reader::new(Arc::clone(&dataset))
            .columns(projection.clone())
            .shuffled(1);
        for images in reader.stream_of(decode, num_bytes).expect("there are rows") {
            black_box(images.expect("they are PNGs"));
        }
    });
}

/// Upper bound: decodes the same number of images from memory.
#[divan::bench(args = DRAWN, threads = [1, 0])]
fn decode(bencher: Bencher<'_, '_>, views: &[usize]) {
    let pngs: Vec<_> = views.iter().map(|&v| view(v).image_png).collect();
    bencher.counter(ItemsCount::new(1_usize)).bench(|| {
        for png in &pngs {
            black_box(decode_gray_png(png).expect("it is a PNG"));
        }
    });
}
