//! Parallel map with results in input order.

use std::collections::BTreeMap;
use std::panic::resume_unwind;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread;

/// The requested number of threads; 0 means one per core.
pub(crate) fn num_threads(asked: usize) -> usize {
    match asked {
        0 => thread::available_parallelism().map_or(1, usize::from),
        num_threads => num_threads,
    }
}

/// Calls `work` for each index below `num` on `num_threads` threads, and `on_done` on the calling thread
/// after each; results are in index order.
pub(crate) fn parallel_map<T: Send>(
    num_threads: usize,
    num: usize,
    work: impl Fn(usize) -> T + Sync,
    mut on_done: impl FnMut(),
) -> Vec<T> {
    let next = AtomicUsize::new(0);
    let (sender, receiver) = mpsc::channel();
    let some = |sender: mpsc::Sender<(usize, T)>| {
        loop {
            let i = next.fetch_add(1, Ordering::Relaxed);
            // The receiver outlives all senders.
            if i >= num || sender.send((i, work(i))).is_err() {
                break;
            }
        }
    };
    thread::scope(|scope| {
        let threads: Vec<_> = (0..num_threads.min(num))
            .map(|_| {
                let (some, sender) = (&some, sender.clone());
                scope.spawn(move || some(sender))
            })
            .collect();
        drop(sender);
        let mut results = BTreeMap::new();
        for (i, result) in receiver {
            on_done();
            results.insert(i, result);
        }
        for thread in threads {
            thread.join().unwrap_or_else(|panic| resume_unwind(panic));
        }
        results.into_values().collect()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_are_in_the_order_of_the_items() {
        let items: Vec<usize> = (0..100).collect();
        let doubled: Vec<usize> = items.iter().map(|item| 2 * item).collect();
        for num_workers in [1, 3, 200] {
            let mut num_done = 0;
            let results = parallel_map(num_workers, items.len(), |i| 2 * items[i], || num_done += 1);
            assert_eq!((results, num_done), (doubled.clone(), items.len()));
        }
        assert!(parallel_map(3, 0, |i| i, || {}).is_empty(), "of nothing");
    }
}
