//! Jobs of a single stage, from functions.

use std::convert::Infallible;
use std::marker::PhantomData;
use std::sync::atomic::AtomicBool;

#[cfg(feature = "build")]
use super::ordered::num_threads;
use super::ordered::{Delivery, Job, Limits, Reporter, Step, run};
use crate::error::{BuildError, DatasetError, Result, ThreadError};

/// A single-stage job: `work` is called for each item, `panicked` turns the message of a panic into its output.
pub(crate) struct OneStage<Work, Panicked, Of> {
    num_items: usize,
    work: Work,
    panicked: Panicked,
    types: PhantomData<fn() -> Of>,
}

impl<Work, Panicked, Output, Event, Error> OneStage<Work, Panicked, (Output, Event, Error)>
where
    Work: Fn(usize, &dyn Fn(Event)) -> Result<Output, Error> + Sync,
    Panicked: Fn(usize, String) -> Result<Output, Error> + Sync,
{
    /// `work` takes an item and a function that reports events.
    pub(crate) fn new(num_items: usize, work: Work, panicked: Panicked) -> Self {
        Self {
            num_items,
            work,
            panicked,
            types: PhantomData,
        }
    }
}

impl<Work, Panicked, Output, Event, Error> Job for OneStage<Work, Panicked, (Output, Event, Error)>
where
    Work: Fn(usize, &dyn Fn(Event)) -> Result<Output, Error> + Sync,
    Panicked: Fn(usize, String) -> Result<Output, Error> + Sync,
    Output: Send,
    Event: Send,
    Error: Send + From<ThreadError>,
{
    type Prepared = Infallible;
    type Rendered = Infallible;
    type Output = Output;
    type Event = Event;
    type Error = Error;

    fn num_items(&self) -> usize {
        self.num_items
    }

    fn prepare(&self, item: usize, reporter: &Reporter<'_, Self>) -> Result<Step<Infallible, Output>, Error> {
        (self.work)(item, &|event| reporter.report(event)).map(Step::Done)
    }

    fn finish(&self, _: usize, prepared: Infallible, _: Infallible) -> Result<Output, Error> {
        match prepared {}
    }

    fn panicked(&self, item: usize, message: String) -> Result<Output, Error> {
        (self.panicked)(item, message)
    }
}

/// Calls `work` for each index below `num` on `num_threads` threads, and `on_done` on the calling thread after
/// each; results are in index order, and all are kept.
///
/// # Errors
/// When `work` panics or no thread can be started.
pub(crate) fn parallel_map<T: Send>(
    num_threads: usize,
    num: usize,
    work: impl Fn(usize) -> T + Sync,
    mut on_done: impl FnMut(),
) -> Result<Vec<T>> {
    let limits = Limits {
        num_threads,
        max_items: num,
        max_bytes: u64::MAX,
    };
    let job = OneStage::new(
        num,
        |item, _: &dyn Fn(Infallible)| Ok::<_, DatasetError>(work(item)),
        |_, message| Err(BuildError::WorkerPanicked(message).into()),
    );
    let mut results = Vec::with_capacity(num);
    run(&job, limits, &AtomicBool::new(false), &mut |delivery| {
        match delivery {
            Delivery::Event(event) => match event {},
            Delivery::Output(_, result) => results.push(result),
        }
        on_done();
        Ok(())
    })?;
    Ok(results)
}

/// Calls `work` for each index below `num` on so many threads (0 means one per core), and `deliver` in order; `false` if
/// cancelled. A few results are in memory at a time.
///
/// # Errors
/// The first of `work` or `deliver`, or when `work` panics.
#[cfg(feature = "build")]
pub(crate) fn in_order<T: Send>(
    workers: usize,
    num: usize,
    cancel: &AtomicBool,
    work: impl Fn(usize) -> Result<T> + Sync,
    deliver: &mut dyn FnMut(usize, T) -> Result<()>,
) -> Result<bool> {
    let num_threads = num_threads(workers);
    in_order_within(num_threads, 4 * num_threads, num, cancel, work, deliver)
}

/// As `in_order`, with so many items between the start of their work and their delivery at most.
///
/// # Errors
/// As `in_order`.
pub(crate) fn in_order_within<T: Send>(
    num_threads: usize,
    max_items: usize,
    num: usize,
    cancel: &AtomicBool,
    work: impl Fn(usize) -> Result<T> + Sync,
    deliver: &mut dyn FnMut(usize, T) -> Result<()>,
) -> Result<bool> {
    let limits = Limits {
        num_threads,
        max_items,
        max_bytes: u64::MAX,
    };
    let job = OneStage::new(
        num,
        |item, _: &dyn Fn(Infallible)| work(item),
        |_, message| Err(DatasetError::from(BuildError::WorkerPanicked(message))),
    );
    run(&job, limits, cancel, &mut |delivery| match delivery {
        Delivery::Event(event) => match event {},
        Delivery::Output(item, output) => deliver(item, output),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    #[test]
    fn results_are_in_the_order_of_the_items() {
        let items: Vec<usize> = (0..100).collect();
        let doubled: Vec<usize> = items.iter().map(|item| 2 * item).collect();
        for num_workers in [1, 3, 200] {
            let mut num_done = 0;
            let results = parallel_map(num_workers, items.len(), |i| 2 * items[i], || num_done += 1);
            assert_eq!((results.unwrap(), num_done), (doubled.clone(), items.len()));
        }
        assert!(parallel_map(3, 0, |i| i, || {}).unwrap().is_empty(), "of nothing");
    }

    #[test]
    fn a_panic_is_an_error() {
        let error = parallel_map(2, 3, |i| assert_ne!(i, 1, "item {i}"), || {}).unwrap_err();
        assert!(error.to_string().contains("item 1"), "{error}");
    }
}
