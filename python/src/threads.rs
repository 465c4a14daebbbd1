//! [`Threads`]: a pool that survives a fork, as the workers of a PyTorch loader are made by one.

use std::process;
use std::sync::{Arc, Mutex, PoisonError};

use rayon::{ThreadPool, ThreadPoolBuilder};

/// Threads that views are drawn on, started at first use.
#[derive(Debug)]
pub(crate) struct Threads {
    /// 0 for one per core, 1 for none but the caller's.
    num: usize,
    pool: Mutex<Option<(u32, Arc<ThreadPool>)>>,
}

impl Threads {
    pub(crate) fn new(num: usize) -> Self {
        Self {
            num,
            pool: Mutex::default(),
        }
    }

    /// The pool of this process; `None` to work on the calling thread, which is also what remains where the system starts no
    /// threads.
    pub(crate) fn pool(&self) -> Option<Arc<ThreadPool>> {
        if self.num == 1 {
            return None;
        }
        let mut pool = self.pool.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((pid, pool)) = &*pool
            && *pid == process::id()
        {
            return Some(Arc::clone(pool));
        }
        // A fork copies the pool and none of its threads: it can't even be dropped.
        std::mem::forget(pool.take());
        let started = Arc::new(ThreadPoolBuilder::new().num_threads(self.num).build().ok()?);
        *pool = Some((process::id(), Arc::clone(&started)));
        Some(started)
    }
}
