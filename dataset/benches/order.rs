//! The order of an epoch, place by place: a batch of a data set of any size takes microseconds and no memory.

use std::hint::black_box;

use divan::Bencher;
use divan::counter::ItemsCount;
use tap_dataset::{Order, Permutation};

const BATCH_SIZE: u64 = 256;
const NUM_ROWS: [u64; 3] = [10_000, 10_000_000, 10_000_000_000];

#[global_allocator]
static ALLOCATIONS: divan::AllocProfiler = divan::AllocProfiler::system();

fn main() {
    divan::main();
}

fn bench_batch(bencher: Bencher<'_, '_>, order: &Order) {
    let num_batches = order.len() / BATCH_SIZE;
    let mut batch = 0;
    bencher.counter(ItemsCount::new(BATCH_SIZE)).bench_local(|| {
        batch = (batch + 7_919) % num_batches;
        for position in batch * BATCH_SIZE..(batch + 1) * BATCH_SIZE {
            black_box(order.at(3, position));
        }
    });
}

/// A batch of a single data set.
#[divan::bench(args = NUM_ROWS)]
fn batch(bencher: Bencher<'_, '_>, num_rows: u64) {
    bench_batch(bencher, &Order::new(num_rows, Some(1)));
}

/// A batch of a mixture of four.
#[divan::bench(args = NUM_ROWS)]
fn batch_of_a_mixture(bencher: Bencher<'_, '_>, num_rows: u64) {
    let sets = [1.0, 0.5, 3.0, 0.25].map(|weight| (num_rows / 4, Some(weight)));
    bench_batch(bencher, &Order::mixed(&sets, Some(1)).expect("these are weights"));
}

/// One place of a permutation that is at hand.
#[divan::bench(args = NUM_ROWS)]
fn place(bencher: Bencher<'_, '_>, num_rows: u64) {
    let permutation = Permutation::new(num_rows, &[1, 2]);
    let mut place = 0;
    bencher.bench_local(|| {
        place = (place + 7_919) % num_rows;
        permutation.at(place)
    });
}
