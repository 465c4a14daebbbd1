//! Batches are a function of (seed, step): not of threads, of the cache, or of where one begins.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod shape;

use std::collections::BTreeSet;
use std::num::NonZeroU32;
use std::sync::Arc;

use proptest::prelude::*;
use tap_dataset::{BlockShuffle, Order, Split};
use tap_train::data::augment::{Augmentation, HeightFrom};
use tap_train::data::batch::CpuBatch;
use tap_train::data::collator::{Collator, LoaderOptions, PointSampling, ViewSampling};
use tap_train::data::loader::Loader;
use tap_train::data::sampler::{BatchSampler, LastBatch, RowOrder, Shuffle};
use tap_train::data::source::SampleSource;
use tap_train::task::OpenData;
use tch::Device;

fn options(seed: u64, cache_bytes: u64) -> LoaderOptions {
    LoaderOptions {
        seed,
        num_points: 32,
        point_choice: PointSampling::Farthest,
        views: ViewSampling::Random(3),
        normals: false,
        features: None,
        is_color: false,
        augmentation: Augmentation {
            scale: [0.9, 1.1],
            height: HeightFrom::Scaled,
            normalize: false,
            shift: 0.0,
            rotate_y: true,
        },
        parts: None,
        cache_bytes,
    }
}

fn batches(
    source: &Arc<dyn SampleSource>,
    seed: u64,
    cache_bytes: u64,
    steps: std::ops::Range<u64>,
    threads: usize,
) -> Vec<CpuBatch> {
    let options = options(seed, cache_bytes);
    let sampler = BatchSampler {
        num_rows: source.len(),
        batch_size: 4,
        last_batch: LastBatch::Carry,
        shuffle: Some(Shuffle::Keyed(Order::new(source.len() as u64, Some(seed)))),
    };
    let collator = Arc::new(Collator::new(Arc::clone(source), sampler, options));
    Loader::start(&collator, steps, threads)
        .map(Result::unwrap)
        .collect()
}

#[test]
fn threads_cache_and_beginning_change_nothing() {
    let folder = tempfile::tempdir().unwrap();
    shape::write(folder.path(), 5, 16, 64);
    let data = OpenData::open(folder.path()).unwrap();
    let source: Arc<dyn SampleSource> = Arc::new(data.rows(Split::Train).unwrap());
    let all = batches(&source, 1, 1 << 30, 0..9, 1);
    assert_eq!(all, batches(&source, 1, 1 << 30, 0..9, 4), "threads");
    assert_eq!(all, batches(&source, 1, 0, 0..9, 2), "without a cache");
    assert_eq!(all, batches(&source, 1, 3000, 0..9, 2), "with a small cache");
    assert_eq!(all[4..], batches(&source, 1, 1 << 30, 4..9, 3), "from step 4 on");
    assert_ne!(all, batches(&source, 2, 1 << 30, 0..9, 1), "the seed counts");
    assert_eq!(
        (
            all[0].images.len(),
            all[0].points.len(),
            all[0].view_indices.len()
        ),
        (4 * 3 * 256, 4 * 32 * 3, 12),
        "sizes"
    );
}

#[test]
fn gray_images_in_color_have_the_same_in_every_channel() {
    let folder = tempfile::tempdir().unwrap();
    shape::write(folder.path(), 2, 16, 64);
    let data = OpenData::open(folder.path()).unwrap();
    let source: Arc<dyn SampleSource> = Arc::new(data.rows(Split::Train).unwrap());
    let batch = |is_color: bool| {
        let sampler = BatchSampler {
            num_rows: source.len(),
            batch_size: 3,
            last_batch: LastBatch::Drop,
            shuffle: None,
        };
        let options = LoaderOptions {
            is_color,
            ..options(1, 0)
        };
        Collator::new(Arc::clone(&source), sampler, options)
            .batch(0)
            .unwrap()
    };
    let (gray, color) = (batch(false), batch(true));
    assert_eq!(color.gray_images(), gray.gray_images(), "the same images");
    let (gray, color) = (gray.to_tensors(Device::Cpu), color.to_tensors(Device::Cpu));
    let (gray, color) = (gray.views.unwrap(), color.views.unwrap());
    assert_eq!(color.images.size(), [3, 3, 3, 16, 16], "B,V,C,H,W");
    assert_eq!(color.masks, gray.masks, "one mask for all channels");
    assert!(
        color.images.equal(&gray.images.expand([3, 3, 3, 16, 16], false)),
        "each channel is the gray one"
    );
}

#[test]
fn points_are_drawn_anew_each_epoch_from_a_pool_of_the_farthest() {
    let folder = tempfile::tempdir().unwrap();
    shape::write(folder.path(), 2, 16, 96);
    let data = OpenData::open(folder.path()).unwrap();
    let source: Arc<dyn SampleSource> = Arc::new(data.rows(Split::Train).unwrap());
    let points = |point_choice, num_points, seed, step| -> BTreeSet<[u32; 3]> {
        let sampler = BatchSampler {
            num_rows: source.len(),
            batch_size: source.len(),
            last_batch: LastBatch::Drop,
            shuffle: None,
        };
        let options = LoaderOptions {
            num_points,
            point_choice,
            augmentation: options(seed, 0).augmentation.without_randomness(),
            ..options(seed, 0)
        };
        let batch = Collator::new(Arc::clone(&source), sampler, options)
            .batch(step)
            .unwrap();
        let (points, _) = batch.points.as_chunks::<3>();
        points[..num_points]
            .iter()
            .map(|point| point.map(f32::to_bits))
            .collect()
    };
    let drawn = |seed, step| points(PointSampling::FarthestRandom, 64, seed, step);
    assert_eq!(drawn(1, 0).len(), 64, "no point twice");
    let pool = points(PointSampling::Farthest, 75, 1, 0);
    assert!(drawn(1, 0).is_subset(&pool), "64 of the 75 farthest");
    assert_eq!(drawn(1, 0), drawn(1, 0), "by seed, epoch and object");
    assert_ne!(drawn(1, 0), drawn(1, 1), "another epoch, other points");
    assert_ne!(drawn(1, 0), drawn(2, 0), "another seed, other points");
    let in_evaluation = points(PointSampling::FarthestRandom.without_randomness(), 64, 1, 0);
    assert_eq!(
        in_evaluation,
        points(PointSampling::Farthest, 64, 9, 0),
        "nothing is drawn"
    );
}

#[test]
fn a_reader_that_leaves_early_ends_the_threads() {
    let folder = tempfile::tempdir().unwrap();
    shape::write(folder.path(), 5, 16, 64);
    let data = OpenData::open(folder.path()).unwrap();
    let source: Arc<dyn SampleSource> = Arc::new(data.rows(Split::Train).unwrap());
    let sampler = BatchSampler {
        num_rows: source.len(),
        batch_size: 4,
        last_batch: LastBatch::Drop,
        shuffle: None,
    };
    let augmentation = Augmentation {
        scale: [1.0, 1.0],
        height: HeightFrom::Scaled,
        normalize: false,
        shift: 0.0,
        rotate_y: false,
    };
    let options = LoaderOptions {
        seed: 0,
        num_points: 32,
        point_choice: PointSampling::First,
        views: ViewSampling::None,
        normals: false,
        features: None,
        is_color: false,
        augmentation,
        parts: None,
        cache_bytes: 0,
    };
    let collator = Arc::new(Collator::new(source, sampler, options));
    let mut loader = Loader::start(&collator, 0..u64::MAX, 3);
    assert_eq!(loader.next().unwrap().unwrap().len(), 4, "one batch");
    drop(loader);
    assert_eq!(
        Arc::strong_count(&collator),
        1,
        "no thread holds the data any more"
    );
}

proptest! {
    #[test]
    fn every_row_comes_once_an_epoch(
        num_rows in 1..60_usize,
        batch_size in 1..20_usize,
        seed in any::<u64>(),
        order in prop_oneof![Just(RowOrder::Listed), Just(RowOrder::Keyed), Just(RowOrder::Blocks)],
    ) {
        let keyed = Order::new(num_rows as u64, Some(seed));
        let shuffle = match order {
            RowOrder::Listed => Shuffle::Listed(seed),
            RowOrder::Keyed => Shuffle::Keyed(keyed),
            RowOrder::Blocks => Shuffle::Keyed(keyed.in_blocks(BlockShuffle {
                block_rows: NonZeroU32::new(7).expect("it is not zero"),
                window_blocks: NonZeroU32::new(3).expect("it is not zero"),
            })),
        };
        for last_batch in [LastBatch::Drop, LastBatch::Keep, LastBatch::Carry] {
            let sampler = BatchSampler { num_rows, batch_size, last_batch, shuffle: Some(shuffle.clone()) };
            let num_steps = 3 * sampler.steps_per_epoch();
            let drawn: Vec<(u64, usize)> = (0..num_steps).flat_map(|step| sampler.batch(step)).collect();
            let distinct: BTreeSet<_> = drawn.iter().copied().collect();
            prop_assert_eq!(distinct.len(), drawn.len(), "no row twice in an epoch");
            for epoch in 0..2 {
                let count = drawn.iter().filter(|(of, _)| *of == epoch).count();
                let expected = match last_batch {
                    LastBatch::Drop => num_rows / batch_size * batch_size,
                    LastBatch::Keep | LastBatch::Carry => num_rows,
                };
                prop_assert_eq!(count, expected, "{:?}", last_batch);
            }
            for step in 0..num_steps {
                prop_assert_eq!(sampler.epoch_of(step), sampler.batch(step)[0].0, "the epoch of a step");
            }
        }
    }
}

/// Runs that were begun before rows were ordered by a key go on as they began.
#[test]
fn the_order_of_earlier_versions_stays() {
    let sampler = BatchSampler {
        num_rows: 7,
        batch_size: 4,
        last_batch: LastBatch::Carry,
        shuffle: Some(Shuffle::Listed(3)),
    };
    let steps: Vec<Vec<(u64, usize)>> = (0..3).map(|step| sampler.batch(step)).collect();
    assert_eq!(
        steps,
        [
            vec![(0, 3), (0, 5), (0, 0), (0, 2)],
            vec![(0, 4), (0, 6), (0, 1), (1, 4)],
            vec![(1, 0), (1, 1), (1, 2), (1, 5)],
        ]
    );
}

#[test]
fn normals_come_without_parts_and_turn_with_their_points() {
    let folder = tempfile::tempdir().unwrap();
    shape::write(folder.path(), 2, 16, 64);
    let data = OpenData::open(folder.path()).unwrap();
    let source: Arc<dyn SampleSource> = Arc::new(data.rows(Split::Train).unwrap());
    let batch = |normals: bool, rotate_y: bool| {
        let sampler = BatchSampler {
            num_rows: source.len(),
            batch_size: 6,
            last_batch: LastBatch::Drop,
            shuffle: None,
        };
        let plain = options(1, 0);
        let options = LoaderOptions {
            normals,
            augmentation: Augmentation {
                scale: [1.0, 1.0],
                rotate_y,
                ..plain.augmentation.clone()
            },
            ..plain
        };
        Collator::new(Arc::clone(&source), sampler, options)
            .batch(0)
            .unwrap()
    };
    assert!(
        batch(false, false).to_tensors(Device::Cpu).normals.is_none(),
        "not asked for"
    );
    let [plain, turned] = [false, true].map(|rotate_y| batch(true, rotate_y).to_tensors(Device::Cpu));
    assert!(plain.part_labels.is_none(), "no parts");
    let dot = |batch: &tap_train::data::batch::Batch| {
        let normals = batch.normals.as_ref().unwrap();
        (normals * &batch.cloud.xyz).sum_dim_intlist(-1, false, tch::Kind::Float)
    };
    assert!(
        dot(&plain).allclose(&dot(&turned), 1e-4, 1e-5, false),
        "angles to the points stay"
    );
    assert!(
        !plain.cloud.xyz.allclose(&turned.cloud.xyz, 1e-3, 1e-3, false),
        "the points turn"
    );
}
