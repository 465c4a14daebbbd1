//! [`Prefetch`]: items made ahead of time by threads, and delivered in order.
//!
//! Items are made in order, each by the next thread that is free. No item is begun while those that wait for delivery hold
//! more than the given bytes, unless nothing waits: so memory is bounded by these bytes and one item a thread.

use std::any::Any;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};

/// An item and the memory that it takes in bytes.
pub(super) type Weighed<T> = (T, usize);
/// Makes the item of a number.
pub(super) type Make<T> = dyn Fn(u64) -> Weighed<T> + Send + Sync;

/// The items `0..num_items`, made ahead by threads that end when it is dropped.
pub(super) struct Prefetch<T> {
    shared: Arc<Shared<T>>,
    /// None where no thread could be started: the consumer makes the items.
    threads: Vec<JoinHandle<()>>,
}

struct Shared<T> {
    make: Box<Make<T>>,
    num_items: u64,
    max_bytes: usize,
    state: Mutex<State<T>>,
    for_threads: Condvar,
    for_consumer: Condvar,
}

/// What a thread made of an item: its panic goes on in the consumer.
type Made<T> = Result<Weighed<T>, Box<dyn Any + Send>>;

struct State<T> {
    /// The next item to be begun, and the next to be delivered.
    begun: u64,
    delivered: u64,
    waiting: BTreeMap<u64, Made<T>>,
    waiting_bytes: usize,
    is_over: bool,
}

impl<T: Send + 'static> Prefetch<T> {
    pub(super) fn start(make: Box<Make<T>>, num_items: u64, num_threads: usize, max_bytes: usize) -> Self {
        let shared = Arc::new(Shared {
            make,
            num_items,
            max_bytes,
            state: Mutex::new(State {
                begun: 0,
                delivered: 0,
                waiting: BTreeMap::new(),
                waiting_bytes: 0,
                is_over: false,
            }),
            for_threads: Condvar::new(),
            for_consumer: Condvar::new(),
        });
        let mut threads = Vec::new();
        for num_started in 0..num_threads {
            let shared = Arc::clone(&shared);
            match thread::Builder::new()
                .name("reader".to_owned())
                .spawn(move || shared.work())
            {
                Ok(thread) => threads.push(thread),
                Err(error) => {
                    tracing::warn!("could only start {num_started} of {num_threads} threads: {error}");
                    break;
                }
            }
        }
        Self { shared, threads }
    }
}

impl<T> Iterator for Prefetch<T> {
    type Item = T;

    fn next(&mut self) -> Option<T> {
        let shared = &*self.shared;
        let mut state = shared.lock();
        let item = state.delivered;
        if item == shared.num_items {
            return None;
        }
        if self.threads.is_empty() {
            state.delivered += 1;
            drop(state);
            return Some((shared.make)(item).0);
        }
        let made = loop {
            if let Some(made) = state.waiting.remove(&item) {
                break made;
            }
            state = shared
                .for_consumer
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        };
        state.delivered += 1;
        match made {
            Ok((value, bytes)) => {
                state.waiting_bytes -= bytes;
                drop(state);
                shared.for_threads.notify_one();
                Some(value)
            }
            Err(panic) => {
                drop(state);
                resume_unwind(panic)
            }
        }
    }
}

impl<T> Shared<T> {
    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn work(&self) {
        while let Some(item) = self.begin() {
            let made = catch_unwind(AssertUnwindSafe(|| (self.make)(item)));
            let mut state = self.lock();
            if let Ok((_, bytes)) = &made {
                state.waiting_bytes += bytes;
            }
            state.waiting.insert(item, made);
            let is_awaited = state.delivered == item;
            drop(state);
            if is_awaited {
                self.for_consumer.notify_one();
            }
        }
    }

    /// The next item to make; waits until there is room for it.
    fn begin(&self) -> Option<u64> {
        let mut state = self.lock();
        loop {
            if state.is_over || state.begun == self.num_items {
                return None;
            }
            if state.waiting_bytes < self.max_bytes || state.begun == state.delivered {
                state.begun += 1;
                return Some(state.begun - 1);
            }
            state = self
                .for_threads
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl<T> Drop for Prefetch<T> {
    fn drop(&mut self) {
        self.shared.lock().is_over = true;
        self.shared.for_threads.notify_all();
        for thread in self.threads.drain(..) {
            // Panics are kept as items, so a thread has none of its own.
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use super::*;

    #[test]
    fn items_come_in_order_from_any_number_of_threads() {
        for num_threads in [0, 1, 2, 7] {
            let make = |item: u64| {
                // Later items are often done before earlier ones.
                thread::sleep(Duration::from_micros(item * 7919 % 300));
                (item, 1)
            };
            let items: Vec<u64> = Prefetch::start(Box::new(make), 200, num_threads, 16).collect();
            assert_eq!(items, (0..200).collect::<Vec<_>>(), "{num_threads} threads");
        }
    }

    #[test]
    fn bytes_ahead_are_bounded() {
        let begun = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&begun);
        let make = move |item: u64| {
            counter.fetch_add(1, Ordering::SeqCst);
            (item, 10)
        };
        let mut items = Prefetch::start(Box::new(make), 1000, 3, 50);
        for taken in 1..100 {
            items.next().unwrap();
            thread::sleep(Duration::from_micros(200));
            let ahead = begun.load(Ordering::SeqCst) - taken;
            assert!(ahead <= 5 + 3, "{ahead} items ahead");
        }
    }

    #[test]
    fn an_item_larger_than_the_bound_comes_alone() {
        let items: Vec<u64> = Prefetch::start(Box::new(|item| (item, 1 << 40)), 20, 4, 1).collect();
        assert_eq!(items.len(), 20);
    }

    #[test]
    fn a_panic_goes_on_where_its_item_is_taken() {
        let make = |item: u64| {
            assert_ne!(item, 3, "the third");
            (item, 1)
        };
        let mut items = Prefetch::start(Box::new(make), 10, 2, 100);
        assert_eq!(items.by_ref().take(3).collect::<Vec<_>>(), [0, 1, 2]);
        assert!(
            catch_unwind(AssertUnwindSafe(|| items.next())).is_err(),
            "the panic"
        );
        assert_eq!(items.collect::<Vec<_>>(), [4, 5, 6, 7, 8, 9], "the others come");
    }
}
