//! Stages, queues and threads of the pipeline.
//!
//! The calling thread admits items and takes outputs. An item is in flight from admission until its output is
//! delivered; their number and total size are bounded ([`Limits`]), so memory does not grow with the number of
//! items. A larger item is processed alone. Outputs are delivered in input order, so what the caller writes does
//! not depend on the number of threads.
//!
//! A panic in a stage costs its item alone. An error of [`Job::Error`] ends the run when its item's turn comes.

use std::any::Any;
use std::collections::{BTreeMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use crate::error::ThreadError;

/// How often the calling thread checks for cancellation.
const CANCEL_POLL_INTERVAL: Duration = Duration::from_millis(50);

/// The requested number of threads; 0 means one per core.
pub(crate) fn num_threads(requested: usize) -> usize {
    match requested {
        0 => thread::available_parallelism().map_or(1, usize::from),
        num_threads => num_threads,
    }
}

/// What is done to each item. Items are numbered from 0.
pub(crate) trait Job: Sync {
    /// State of an item between [`prepare`](Self::prepare) and [`finish`](Self::finish).
    type Prepared: Send;
    /// What the device thread adds to it.
    type Rendered: Send;
    /// Result of an item, its own failure included.
    type Output: Send;
    /// Progress reported while an item is processed.
    type Event: Send;
    /// An error that ends the run.
    type Error: Send + From<ThreadError>;

    /// Number of items.
    fn num_items(&self) -> usize;

    /// Size of an item that counts towards [`Limits::max_bytes`].
    fn size_bytes(&self, _item: usize) -> u64 {
        0
    }

    /// First stage, on a worker.
    fn prepare(
        &self,
        item: usize,
        reporter: &Reporter<'_, Self>,
    ) -> Result<Step<Self::Prepared, Self::Output>, Self::Error>;

    /// Last stage, on a worker.
    fn finish(
        &self,
        item: usize,
        prepared: Self::Prepared,
        rendered: Self::Rendered,
    ) -> Result<Self::Output, Self::Error>;

    /// Output of an item that panicked.
    fn panicked(&self, item: usize, message: String) -> Result<Self::Output, Self::Error>;
}

/// Where an item goes after the first stage.
#[derive(Debug)]
pub(crate) enum Step<Prepared, Output> {
    /// To the device thread, and then to [`Job::finish`].
    Render(Prepared),
    /// To the caller.
    Done(Output),
}

/// Bounds on threads and on items in flight.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// Worker threads, at least 1.
    pub(crate) num_threads: usize,
    /// Items in flight, at least 1.
    pub(crate) max_items: usize,
    /// Total [`Job::size_bytes`] in flight.
    pub(crate) max_bytes: u64,
}

/// What the caller receives, in this order: events as they come, outputs by item.
#[derive(Debug)]
pub(crate) enum Delivery<Output, Event> {
    /// Progress of some item.
    Event(Event),
    /// Output of the next item.
    Output(usize, Output),
}

/// The caller's function for deliveries; its error ends the run.
pub(crate) type Deliver<'a, J> =
    dyn FnMut(Delivery<<J as Job>::Output, <J as Job>::Event>) -> Result<(), <J as Job>::Error> + 'a;

/// Reports events from a stage to the caller.
pub(crate) struct Reporter<'a, J: Job + ?Sized>(&'a Shared<J>);

impl<J: Job + ?Sized> Reporter<'_, J> {
    /// Queues an event; the caller handles it soon after.
    pub(crate) fn report(&self, event: J::Event) {
        self.0.lock().events.push_back(event);
        self.0.for_caller.notify_one();
    }
}

/// The thread that renders: [`Device::next`] until `None`, and [`Device::rendered`] or [`Device::done`] for each.
pub(crate) struct Device<'a, J: Job>(&'a Shared<J>);

impl<J: Job> Device<'_, J> {
    /// The next prepared item. If there is none yet, waits for one if `waits`; `None` to a call that waits means
    /// that the run is over.
    pub(crate) fn next(&self, waits: bool) -> Option<(usize, J::Prepared)> {
        let mut state = self.0.lock();
        loop {
            if state.is_over {
                return None;
            }
            let next = state.prepared.pop_front();
            if next.is_some() || !waits {
                return next;
            }
            state = wait(&self.0.for_device, state);
        }
    }

    /// Passes an item on to [`Job::finish`].
    pub(crate) fn rendered(&self, item: usize, prepared: J::Prepared, rendered: J::Rendered) {
        self.0.lock().rendered.push_back((item, prepared, rendered));
        self.0.for_workers.notify_one();
    }

    /// Ends an item that cannot be rendered.
    pub(crate) fn done(&self, item: usize, output: J::Output) {
        self.0.complete(item, Ok(output));
    }

    /// Reports events to the caller.
    pub(crate) fn reporter(&self) -> Reporter<'_, J> {
        Reporter(self.0)
    }
}

/// Processes all items of a job that never returns [`Step::Render`]; `false` if cancelled before the last output
/// was delivered.
///
/// # Errors
/// The error of an item or of `deliver`, or when no thread can be started.
pub(crate) fn run<J: Job>(
    job: &J,
    limits: Limits,
    cancel: &AtomicBool,
    deliver: &mut Deliver<'_, J>,
) -> Result<bool, J::Error> {
    let no_device = None::<fn(&Device<'_, J>) -> Result<(), J::Error>>;
    run_with_device(job, limits, cancel, no_device, deliver)
}

/// As [`run`]; `device` is the body of the device thread.
///
/// # Errors
/// As [`run`], and the error of `device`.
pub(crate) fn run_with_device<J, D>(
    job: &J,
    limits: Limits,
    cancel: &AtomicBool,
    device: Option<D>,
    deliver: &mut Deliver<'_, J>,
) -> Result<bool, J::Error>
where
    J: Job,
    D: FnOnce(&Device<'_, J>) -> Result<(), J::Error> + Send,
{
    if job.num_items() == 0 {
        return Ok(true);
    }
    let shared = &Shared::new();
    thread::scope(|scope| {
        // Threads end even if `deliver` panics, so that the scope can.
        let _end = EndOnDrop(shared);
        if let Some(device) = device {
            let body = move || {
                let ended = catch_unwind(AssertUnwindSafe(|| device(&Device(shared))));
                shared.lock().device_ended = Some(ended);
                shared.for_caller.notify_one();
            };
            thread::Builder::new()
                .spawn_scoped(scope, body)
                .map_err(|source| ThreadError { requested: 1, source })?;
        }
        let requested = limits.num_threads.min(job.num_items()).max(1);
        for num_started in 0..requested {
            match thread::Builder::new().spawn_scoped(scope, || shared.work(job)) {
                Ok(_) => {}
                Err(source) if num_started == 0 => return Err(ThreadError { requested, source }.into()),
                Err(error) => {
                    tracing::warn!(
                        "could only start {num_started} of {requested} threads; ask for fewer with --threads: {error}"
                    );
                    break;
                }
            }
        }
        shared.feed(job, limits, cancel, deliver)
    })
}

/// Calls a stage on untrusted input.
///
/// # Errors
/// The message of a panic.
pub(crate) fn catch_panic<T>(stage: impl FnOnce() -> T) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(stage)).map_err(|panic| panic_message(panic.as_ref()).to_owned())
}

fn panic_message(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("panic with no message")
}

/// All queues, and who waits for them.
struct Shared<J: Job + ?Sized> {
    state: Mutex<State<J>>,
    for_workers: Condvar,
    for_device: Condvar,
    for_caller: Condvar,
}

struct State<J: Job + ?Sized> {
    admitted: VecDeque<usize>,
    prepared: VecDeque<(usize, J::Prepared)>,
    rendered: VecDeque<(usize, J::Prepared, J::Rendered)>,
    events: VecDeque<J::Event>,
    /// Results that wait for those of earlier items.
    done: BTreeMap<usize, Result<J::Output, J::Error>>,
    /// How the device thread ended; a panic or an error explains why items never arrive.
    device_ended: Option<thread::Result<Result<(), J::Error>>>,
    /// All outputs are delivered, or no more are wanted.
    is_over: bool,
}

/// What a worker does next.
enum Task<J: Job + ?Sized> {
    Prepare(usize),
    Finish(usize, J::Prepared, J::Rendered),
}

impl<J: Job> Shared<J> {
    fn new() -> Self {
        Self {
            state: Mutex::new(State {
                admitted: VecDeque::new(),
                prepared: VecDeque::new(),
                rendered: VecDeque::new(),
                events: VecDeque::new(),
                done: BTreeMap::new(),
                device_ended: None,
                is_over: false,
            }),
            for_workers: Condvar::new(),
            for_device: Condvar::new(),
            for_caller: Condvar::new(),
        }
    }

    /// Worker loop.
    fn work(&self, job: &J) {
        while let Some(task) = self.next_task() {
            let item = match task {
                Task::Prepare(item) | Task::Finish(item, ..) => item,
            };
            let step = catch_panic(|| match task {
                Task::Prepare(item) => job.prepare(item, &Reporter(self)),
                Task::Finish(item, prepared, rendered) => {
                    job.finish(item, prepared, rendered).map(Step::Done)
                }
            });
            match step {
                Ok(Ok(Step::Render(prepared))) => {
                    self.lock().prepared.push_back((item, prepared));
                    self.for_device.notify_one();
                }
                Ok(Ok(Step::Done(output))) => self.complete(item, Ok(output)),
                Ok(Err(error)) => self.complete(item, Err(error)),
                Err(message) => self.complete(item, job.panicked(item, message)),
            }
        }
    }

    /// Waits for a task. What is rendered comes first, because finishing it frees memory.
    fn next_task(&self) -> Option<Task<J>> {
        let mut state = self.lock();
        loop {
            if state.is_over {
                return None;
            }
            if let Some((item, prepared, rendered)) = state.rendered.pop_front() {
                return Some(Task::Finish(item, prepared, rendered));
            }
            if let Some(item) = state.admitted.pop_front() {
                return Some(Task::Prepare(item));
            }
            state = wait(&self.for_workers, state);
        }
    }

    /// The calling thread's loop.
    fn feed(
        &self,
        job: &J,
        limits: Limits,
        cancel: &AtomicBool,
        deliver: &mut Deliver<'_, J>,
    ) -> Result<bool, J::Error> {
        let mut window = Window::new(limits);
        for item in 0..job.num_items() {
            let output = loop {
                if cancel.load(Ordering::Relaxed) {
                    return Ok(false);
                }
                while let Some(next) = window.admit(job, item) {
                    self.lock().admitted.push_back(next);
                    self.for_workers.notify_one();
                }
                let mut state = self.lock();
                if state.events.is_empty() && !state.done.contains_key(&item) && state.device_ended.is_none()
                {
                    state = self
                        .for_caller
                        .wait_timeout(state, CANCEL_POLL_INTERVAL)
                        .unwrap_or_else(PoisonError::into_inner)
                        .0;
                }
                let events = std::mem::take(&mut state.events);
                let output = state.done.remove(&item);
                let ended = match output {
                    Some(_) => None,
                    None => state.device_ended.take(),
                };
                drop(state);
                for event in events {
                    deliver(Delivery::Event(event))?;
                }
                match (output, ended) {
                    (Some(output), _) => break output?,
                    (None, Some(Ok(ended))) => ended?,
                    (None, Some(Err(panic))) => resume_unwind(panic),
                    (None, None) => {}
                }
            };
            window.pop();
            deliver(Delivery::Output(item, output))?;
        }
        Ok(true)
    }

    fn complete(&self, item: usize, result: Result<J::Output, J::Error>) {
        self.lock().done.insert(item, result);
        self.for_caller.notify_one();
    }
}

impl<J: Job + ?Sized> Shared<J> {
    /// No code of a job runs under the lock, so no panic leaves the state half-changed.
    fn lock(&self) -> MutexGuard<'_, State<J>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn wait<'a, T>(condvar: &Condvar, guard: MutexGuard<'a, T>) -> MutexGuard<'a, T> {
    condvar.wait(guard).unwrap_or_else(PoisonError::into_inner)
}

/// Sizes of the items in flight.
struct Window {
    limits: Limits,
    sizes: VecDeque<u64>,
    num_bytes: u64,
    /// Size of the next item, once it is known.
    next_size: Option<u64>,
}

impl Window {
    fn new(limits: Limits) -> Self {
        Self {
            limits,
            sizes: VecDeque::new(),
            num_bytes: 0,
            next_size: None,
        }
    }

    /// The next item if it fits; `first` is the first item in flight.
    fn admit(&mut self, job: &impl Job, first: usize) -> Option<usize> {
        let next = first + self.sizes.len();
        if next == job.num_items() || self.sizes.len() >= self.limits.max_items.max(1) {
            return None;
        }
        let size = *self.next_size.get_or_insert_with(|| job.size_bytes(next));
        if !self.sizes.is_empty() && self.num_bytes.saturating_add(size) > self.limits.max_bytes {
            return None;
        }
        self.next_size = None;
        self.sizes.push_back(size);
        self.num_bytes = self.num_bytes.saturating_add(size);
        Some(next)
    }

    /// The first item is delivered.
    fn pop(&mut self) {
        self.num_bytes -= self.sizes.pop_front().unwrap_or(0);
    }
}

/// Ends all threads when dropped.
struct EndOnDrop<'a, J: Job>(&'a Shared<J>);

impl<J: Job> Drop for EndOnDrop<'_, J> {
    fn drop(&mut self) {
        self.0.lock().is_over = true;
        self.0.for_workers.notify_all();
        self.0.for_device.notify_all();
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use std::io;
    use std::sync::atomic::AtomicUsize;

    use super::*;

    /// Item k passes the device as 2 k; some items panic, fail to be prepared, or end the run.
    struct Doubling {
        num_items: usize,
        panics_in_prepare: usize,
        panics_in_finish: usize,
        skips_device: usize,
        ends_run: usize,
        num_in_flight: AtomicUsize,
        max_in_flight: AtomicUsize,
    }

    const NONE: usize = usize::MAX;

    impl Doubling {
        fn new(num_items: usize) -> Self {
            Self {
                num_items,
                panics_in_prepare: NONE,
                panics_in_finish: NONE,
                skips_device: NONE,
                ends_run: NONE,
                num_in_flight: AtomicUsize::new(0),
                max_in_flight: AtomicUsize::new(0),
            }
        }

        fn run(
            &self,
            limits: Limits,
            deliver: &mut dyn FnMut(Delivery<String, usize>) -> Result<(), ThreadError>,
        ) -> Result<bool, ThreadError> {
            let device = |device: &Device<'_, Self>| {
                while let Some((item, prepared)) = device.next(true) {
                    device.reporter().report(item);
                    device.rendered(item, prepared, 2 * prepared);
                }
                Ok(())
            };
            run_with_device(self, limits, &AtomicBool::new(false), Some(device), deliver)
        }
    }

    impl Job for Doubling {
        type Prepared = usize;
        type Rendered = usize;
        type Output = String;
        type Event = usize;
        type Error = ThreadError;

        fn num_items(&self) -> usize {
            self.num_items
        }

        fn size_bytes(&self, item: usize) -> u64 {
            // Every tenth alone is larger than the limit.
            if item % 10 == 9 { 1000 } else { 10 }
        }

        fn prepare(&self, item: usize, _: &Reporter<'_, Self>) -> Result<Step<usize, String>, ThreadError> {
            let num_in_flight = self.num_in_flight.fetch_add(1, Ordering::SeqCst) + 1;
            self.max_in_flight.fetch_max(num_in_flight, Ordering::SeqCst);
            assert_ne!(item, self.panics_in_prepare, "prepare {item}");
            if item == self.ends_run {
                return Err(ThreadError {
                    requested: item,
                    source: io::ErrorKind::StorageFull.into(),
                });
            }
            Ok(if item == self.skips_device {
                Step::Done("skipped".to_owned())
            } else {
                Step::Render(item)
            })
        }

        fn finish(&self, item: usize, prepared: usize, rendered: usize) -> Result<String, ThreadError> {
            assert_eq!(item, prepared, "an item keeps its own state");
            assert_ne!(item, self.panics_in_finish, "finish {item}");
            Ok(rendered.to_string())
        }

        fn panicked(&self, _: usize, message: String) -> Result<String, ThreadError> {
            Ok(message.lines().last().unwrap_or_default().to_owned())
        }
    }

    fn limits(num_threads: usize) -> Limits {
        Limits {
            num_threads,
            max_items: 4,
            max_bytes: 30,
        }
    }

    #[test]
    fn outputs_are_in_order_and_items_in_flight_are_bounded() {
        for num_threads in [1, 3, 40] {
            let job = Doubling::new(100);
            let mut outputs = Vec::new();
            let mut events = Vec::new();
            let is_complete = job.run(limits(num_threads), &mut |delivery| {
                match delivery {
                    Delivery::Event(event) => events.push(event),
                    Delivery::Output(item, output) => {
                        assert_eq!(item, outputs.len());
                        outputs.push(output);
                        job.num_in_flight.fetch_sub(1, Ordering::SeqCst);
                    }
                }
                Ok(())
            });
            assert!(is_complete.unwrap());
            let expected: Vec<String> = (0..100).map(|item| (2 * item).to_string()).collect();
            assert_eq!(outputs, expected);
            events.sort_unstable();
            assert_eq!(events, (0..100).collect::<Vec<_>>(), "every event arrives");
            // Three items of 10 bytes fill the 30.
            assert!(job.max_in_flight.into_inner() <= 3, "with {num_threads} threads");
        }
    }

    #[test]
    fn a_panic_or_failure_costs_one_item() {
        let job = Doubling {
            panics_in_prepare: 2,
            panics_in_finish: 5,
            skips_device: 7,
            ..Doubling::new(10)
        };
        let mut outputs = Vec::new();
        job.run(limits(3), &mut |delivery| {
            if let Delivery::Output(_, output) = delivery {
                outputs.push(output);
            }
            Ok(())
        })
        .unwrap();
        let of = |item: usize| outputs[item].as_str();
        assert!(
            outputs[2].contains('2') && outputs[5].contains('5'),
            "{outputs:?}"
        );
        assert_eq!([of(1), of(3), of(7), of(9)], ["2", "6", "skipped", "18"]);
    }

    #[test]
    fn an_error_ends_the_run_at_its_turn() {
        let job = Doubling {
            ends_run: 6,
            ..Doubling::new(100)
        };
        let mut num_outputs = 0;
        let mut count = |delivery: Delivery<String, usize>| {
            num_outputs += usize::from(matches!(delivery, Delivery::Output(..)));
            Ok(())
        };
        assert_eq!(job.run(limits(3), &mut count).unwrap_err().requested, 6);
        assert_eq!(num_outputs, 6);
        let mut refuse = |delivery: Delivery<String, usize>| match delivery {
            Delivery::Output(3, _) => Err(ThreadError {
                requested: 3,
                source: io::ErrorKind::StorageFull.into(),
            }),
            _ => Ok(()),
        };
        assert_eq!(job.run(limits(3), &mut refuse).unwrap_err().requested, 3);
    }

    #[test]
    fn a_lost_device_ends_the_run() {
        let job = Doubling::new(100);
        let device = |device: &Device<'_, Doubling>| {
            let (item, prepared) = device.next(true).unwrap();
            device.rendered(item, prepared, 0);
            Err(ThreadError {
                requested: 77,
                source: io::ErrorKind::BrokenPipe.into(),
            })
        };
        let error = run_with_device(
            &job,
            limits(2),
            &AtomicBool::new(false),
            Some(device),
            &mut |_| Ok(()),
        );
        assert_eq!(error.unwrap_err().requested, 77);
    }

    #[test]
    fn a_cancelled_run_stops_although_an_item_never_arrives() {
        let job = Doubling::new(3);
        let cancel = &AtomicBool::new(false);
        let device = |device: &Device<'_, Doubling>| {
            device.next(true).unwrap();
            cancel.store(true, Ordering::Relaxed);
            while device.next(true).is_some() {}
            Ok(())
        };
        let is_complete = run_with_device(&job, limits(2), cancel, Some(device), &mut |_| Ok(()));
        assert!(!is_complete.unwrap());
    }
}
