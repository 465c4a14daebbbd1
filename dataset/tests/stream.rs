//! Streams: each sample exactly once an epoch, whatever threads, ranks, weights and resume points; the order is a function of
//! (seed, epoch).

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod fixture;

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU32;
use std::sync::{Arc, LazyLock};

use proptest::prelude::*;
use tap_dataset::{
    BlockShuffle, Columns, Dataset, Projection, Reader, RowLayout, Split, Stream, StreamSample, StreamState,
    write_samples,
};
use tempfile::TempDir;

use fixture::{header, sample};

const LAYOUT: RowLayout = RowLayout {
    num_points: 5,
    num_views: 3,
    image_size_px: 8,
    columns: Columns::DEFAULT,
};

/// Data sets of 37 and 11 training rows in shards of 4.
static SETS: LazyLock<[(TempDir, Arc<Dataset>); 2]> = LazyLock::new(|| {
    [0..37, 100..111].map(|seeds| {
        let dir = tempfile::tempdir().unwrap();
        let rows = seeds.map(|seed| (Split::Train, sample(LAYOUT, seed)));
        write_samples(dir.path(), &header(LAYOUT), 4, rows.collect()).unwrap();
        let dataset = Arc::new(Dataset::open(dir.path()).unwrap());
        (dir, dataset)
    })
});

/// A reader of both sets, or of the first.
fn reader(weights: Option<[Option<f64>; 2]>) -> Reader {
    let [(_, first), (_, second)] = &*SETS;
    match weights {
        Some([a, b]) => Reader::mixed([(Arc::clone(first), a), (Arc::clone(second), b)]),
        None => Reader::new(Arc::clone(first)),
    }
}

fn block_shuffle(block_rows: u32, window_blocks: u32) -> BlockShuffle {
    BlockShuffle {
        block_rows: NonZeroU32::new(block_rows).unwrap(),
        window_blocks: NonZeroU32::new(window_blocks).unwrap(),
    }
}

/// What identifies a sample: its set, pass, row and id.
type Identity = (usize, u64, usize, String);

fn identity(read: tap_dataset::Result<StreamSample>) -> Identity {
    let StreamSample {
        set,
        pass,
        row,
        sample,
    } = read.unwrap();
    (set, pass, row, sample.id.to_string())
}

fn epochs(stream: &mut Stream, num_epochs: u64) -> Vec<Identity> {
    let mut all = Vec::new();
    for _ in 0..num_epochs {
        all.extend(stream.by_ref().map(identity));
        stream.next_epoch();
    }
    all
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn each_sample_comes_exactly_once(
        weights in prop::option::of(prop_oneof![
            Just([None, None]),
            [0.1..9.0_f64, 0.1..9.0].prop_map(|weights| weights.map(Some)),
        ]),
        seed in any::<u64>(),
        blocks in prop::option::of([1..12_u32, 1..6_u32]),
        num_threads in 1..5_usize,
        num_ranks in 1..5_u64,
        resumed_ranks in 1..5_u64,
        resume_after in 0..70_usize,
        read_ahead_bytes in 1..20_000_usize,
    ) {
        let reader = || {
            let reader = reader(weights).columns(Projection::of_columns(["label"]).unwrap());
            match blocks {
                Some([block_rows, window_blocks]) => {
                    reader.shuffled_in_blocks(seed, block_shuffle(block_rows, window_blocks))
                }
                None => reader.shuffled(seed),
            }
        };
        let expected = epochs(&mut reader().threads(1).stream().unwrap(), 2);
        let distinct: BTreeSet<&Identity> = expected.iter().collect();
        prop_assert_eq!(distinct.len(), expected.len(), "a sample twice in a pass");
        if weights.is_none_or(|weights| weights == [None, None]) {
            let of_epoch = expected.iter().filter(|(_, pass, ..)| *pass == 0).count();
            prop_assert_eq!(of_epoch, expected.len() / 2, "an epoch is a pass");
        }

        // Ranks take turns, until they stop after as many samples each, and others go on.
        let ranks = |num_ranks: u64| -> Vec<Stream> {
            let of_rank = |rank| {
                let reader = reader().ranks(rank, num_ranks).threads(num_threads);
                reader.read_ahead_bytes(read_ahead_bytes).stream().unwrap()
            };
            (0..num_ranks).map(of_rank).collect()
        };
        let mut found = Vec::new();
        let mut streams = ranks(num_ranks);
        let steps = resume_after / num_ranks as usize;
        let take_turns = |streams: &mut [Stream], num_steps: usize, found: &mut Vec<Identity>| {
            for _ in 0..num_steps {
                let taken: Vec<_> = streams.iter_mut().filter_map(Iterator::next).collect();
                if taken.is_empty() {
                    break;
                }
                found.extend(taken.into_iter().map(identity));
            }
        };
        take_turns(&mut streams, steps, &mut found);
        let is_over = streams[0].num_left() == 0;
        let state = serde_json::to_string(&streams[0].state()).unwrap();
        let state: StreamState = serde_json::from_str(&state).unwrap();
        let mut streams = ranks(resumed_ranks);
        for stream in &mut streams {
            stream.resume(&state).unwrap();
        }
        if !is_over {
            take_turns(&mut streams, usize::MAX, &mut found);
            streams.iter_mut().for_each(Stream::next_epoch);
        }
        take_turns(&mut streams, usize::MAX, &mut found);
        prop_assert_eq!(found, expected);
    }
}

#[test]
fn the_order_is_a_function_of_seed_and_epoch() {
    let stream = |seed| reader(None).shuffled(seed).stream().unwrap();
    let mut later = stream(1);
    later.begin_epoch(5);
    let mut from_beginning = stream(1);
    let all = epochs(&mut from_beginning, 6);
    assert_eq!(later.by_ref().map(identity).collect::<Vec<_>>(), all[5 * 37..]);
    let rows =
        |identities: &[Identity]| -> Vec<usize> { identities.iter().map(|(_, _, row, _)| *row).collect() };
    assert_ne!(rows(&all[..37]), rows(&all[37..74]), "the epoch counts");
    assert_ne!(
        rows(&all[..37]),
        rows(&epochs(&mut stream(2), 1)),
        "the seed counts"
    );
    let in_order = epochs(&mut reader(None).stream().unwrap(), 1);
    assert_eq!(rows(&in_order), (0..37).collect::<Vec<_>>(), "without a seed");
}

/// Shards of 4 rows: how often one is opened by a reader that keeps the last two.
fn num_reads(rows: &[Identity]) -> usize {
    let mut kept = [usize::MAX; 2];
    let mut num_reads = 0;
    for (_, _, row, _) in rows {
        let shard = row / 4;
        num_reads += usize::from(!kept.contains(&shard));
        if kept[1] != shard {
            kept = [kept[1], shard];
        }
    }
    num_reads
}

#[test]
fn in_blocks_each_row_group_is_read_once_an_epoch() {
    let in_blocks = |seed| reader(None).shuffled_in_blocks(seed, block_shuffle(4, 2));
    for seed in 0..20 {
        let mut stream = in_blocks(seed).stream().unwrap();
        let all = epochs(&mut stream, 2);
        assert_ne!(all[..37], all[37..], "the epoch counts");
        for epoch in all.chunks(37) {
            assert_eq!(num_reads(epoch), 10, "37 rows in shards of 4");
            let neighbors = epoch.windows(2).filter(|pair| pair[1].2 == pair[0].2 + 1).count();
            assert!(neighbors < 15, "rows of a window are mixed");
        }
        let full = epochs(&mut reader(None).shuffled(seed).stream().unwrap(), 1);
        assert!(
            num_reads(&full) > 20,
            "a full permutation reads a row group for nearly each row"
        );
    }
    // A rank's share has the windows of all, so that any number of ranks reads in the same order.
    let ranks = [0, 1].map(|rank| {
        let mut stream = in_blocks(3).ranks(rank, 2).stream().unwrap();
        num_reads(&epochs(&mut stream, 1))
    });
    assert!(ranks.iter().all(|&num_reads| num_reads <= 10), "{ranks:?}");
}

#[test]
fn samples_are_those_of_the_dataset() {
    let [(_, first), _] = &*SETS;
    for read in reader(None).shuffled(3).threads(3).stream().unwrap() {
        let StreamSample { row, sample, .. } = read.unwrap();
        let expected = first.read(Split::Train, row, tap_dataset::ViewSelection::All);
        assert_eq!(sample, expected.unwrap());
    }
}

#[test]
fn a_state_of_another_order_is_refused() {
    let mut stream = reader(None).shuffled(1).stream().unwrap();
    stream.next().unwrap().unwrap();
    let state = stream.state();
    assert_eq!((state.epoch, state.position), (0, 1));
    let chairs = reader(None)
        .shuffled(1)
        .filter("category = 'chair'".parse().unwrap());
    for other in [
        reader(None).shuffled(2),
        reader(None),
        reader(None).shuffled_in_blocks(1, block_shuffle(4, 2)),
        reader(Some([None, None])).shuffled(1),
        reader(None)
            .shuffled(1)
            .split(Split::Train)
            .filter("label >= 0".parse().unwrap()),
        chairs,
    ] {
        let error = other.stream().unwrap().resume(&state).unwrap_err();
        assert!(error.to_string().contains("another seed"), "{error}");
    }
    let damaged = StreamState {
        position: 37,
        ..state.clone()
    };
    stream.resume(&damaged).unwrap_err();
    stream.by_ref().for_each(drop);
    let state = stream.state();
    assert_eq!((state.epoch, state.position), (1, 0), "at the end of an epoch");
}

#[test]
fn even_ranks_have_as_many_samples() {
    let mut counts = BTreeMap::new();
    for epoch in 0..40 {
        for rank in 0..4 {
            let mut stream = reader(None)
                .shuffled(1)
                .ranks(rank, 4)
                .even_ranks()
                .stream()
                .unwrap();
            stream.begin_epoch(epoch);
            let rows: Vec<_> = stream.map(identity).collect();
            assert_eq!(rows.len(), 9, "37 samples of 4 ranks");
            for (_, _, row, _) in rows {
                *counts.entry(row).or_insert(0) += 1;
            }
        }
    }
    assert_eq!(counts.len(), 37, "what is left out differs from epoch to epoch");
    assert!(counts.values().all(|&count| count >= 30), "{counts:?}");
    reader(None).ranks(4, 4).stream().unwrap_err();
}

#[test]
fn what_is_not_asked_for_is_not_read() {
    let read = |projection| {
        reader(None)
            .columns(projection)
            .stream()
            .unwrap()
            .next()
            .unwrap()
            .unwrap()
            .sample
    };
    let all = read(Projection::default());
    let label = read(Projection::of_columns(["label"]).unwrap());
    assert_eq!((&label.id, label.label), (&all.id, all.label));
    assert!(
        label.points.is_empty() && label.views.is_empty() && label.mesh.is_none() && label.normals.is_none()
    );
    let masks = read(
        Projection::of_columns(["masks", "num_triangles"])
            .unwrap()
            .with_views([2, 0]),
    );
    assert_eq!(masks.views.len(), 2);
    assert_eq!(masks.views[0].mask, all.views[2].mask);
    assert!(masks.views[0].image_png.is_empty());
    assert_eq!(masks.mesh, all.mesh, "the statistics of a mesh are one value");
    let error = Projection::of_columns(["pints"]).unwrap_err().to_string();
    assert!(error.contains("\"pints\"") && error.contains("points"), "{error}");
    let gbuffer = Projection::of_columns(["gbuffer_depth"]).unwrap();
    let error = reader(None)
        .columns(gbuffer)
        .stream()
        .unwrap()
        .next()
        .unwrap()
        .unwrap_err();
    assert!(
        error.to_string().contains("no column \"gbuffer_depth\""),
        "{error}"
    );
}

#[test]
fn a_condition_leaves_rows_out() {
    let chairs = reader(None)
        .filter("category = 'chair'".parse().unwrap())
        .shuffled(0);
    let ids: Vec<Identity> = chairs.stream().unwrap().map(identity).collect();
    assert_eq!(ids.len(), 13);
    assert!(ids.iter().all(|(.., id)| id.starts_with("chair/")));
    let error = reader(None)
        .filter("category = 'sofa'".parse().unwrap())
        .stream()
        .unwrap_err();
    assert!(error.to_string().contains("where category = 'sofa'"), "{error}");
    let error = reader(None)
        .filter("colour = 'red'".parse().unwrap())
        .stream()
        .unwrap_err();
    assert!(error.to_string().contains("no column \"colour\""), "{error}");
}

#[test]
fn work_on_samples_is_done_in_the_threads() {
    let main = std::thread::current().id();
    let stream = reader(None).threads(2).stream_of(
        move |sample| Ok((std::thread::current().id() != main, sample.row)),
        |_| 1,
    );
    let made: Vec<(bool, usize)> = stream.unwrap().map(Result::unwrap).collect();
    assert_eq!(made, (0..37).map(|row| (true, row)).collect::<Vec<_>>());
}

#[test]
fn an_error_costs_its_sample_alone() {
    let stream = reader(None).stream_of(
        |sample| match sample.row {
            5 => Err(tap_dataset::DatasetError::from(tap_dataset::ImageError::Format(
                "five".to_owned(),
            ))),
            row => Ok(row),
        },
        |_| 1,
    );
    let results: Vec<_> = stream.unwrap().collect();
    assert_eq!(results.len(), 37);
    assert_eq!(results.iter().filter(|result| result.is_err()).count(), 1);
}
