//! torch's own process groups, c10d, for tensors of [`tch`], which does not wrap them: a key-value store over TCP by which
//! processes find each other, and collectives over gloo, which is part of libtorch for CPUs.
//!
//! What is here is what training of one network in several processes needs. All ranks of a group call the same functions
//! in the same order; a call returns when this rank's part is done, or with an error when a peer is gone or a time limit
//! has passed. After an error the group is of no further use.
//!
//! There is no authentication, neither in the store nor between ranks: for private networks only. NCCL is left out: it is
//! part of `libtorch_cuda`, which this workspace opens at run time and does not link to.
#![allow(
    unsafe_code,
    reason = "c10d is C++: functions of the shim are called with pointers to its objects and to tensors"
)]

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::fmt;
use std::io;
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use tch::Tensor;
use torch_sys::C_tensor;

/// What c10d or gloo says of a call that failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Error(String);

impl Error {
    /// In one line, without the place in gloo's sources and without a trailing period.
    fn new(text: &str) -> Self {
        let text = text.trim().lines().next().unwrap_or_default();
        let text = match text.strip_prefix('[').and_then(|rest| rest.split_once("] ")) {
            Some((place, rest)) if place.contains(".cc:") || place.contains(".cpp:") => rest,
            _ => text,
        };
        Self(text.trim_end_matches('.').to_owned())
    }
}

/// How long c10d may take for its own words after its time limit.
const GRACE: Duration = Duration::from_secs(1);

/// How c10d begins where something answers that is no store.
const NO_STORE: &str = "Ping failed";

/// A result of c10d.
pub type Result<T> = std::result::Result<T, Error>;

/// The shim's objects.
#[repr(C)]
struct RawStore([u8; 0]);
#[repr(C)]
struct RawGroup([u8; 0]);
#[repr(C)]
struct RawReducer([u8; 0]);

// src/shim.cpp, which says what `error` is.
unsafe extern "C" {
    fn tap_c10d_store_open(
        host: *const c_char,
        port: u16,
        is_server: bool,
        timeout_ms: i64,
        error: *mut *mut c_char,
    ) -> *mut RawStore;
    fn tap_c10d_store_set(
        store: *mut RawStore,
        key: *const c_char,
        value: *const u8,
        length: usize,
        error: *mut *mut c_char,
    ) -> bool;
    fn tap_c10d_store_get(
        store: *mut RawStore,
        key: *const c_char,
        length: *mut usize,
        error: *mut *mut c_char,
    ) -> *mut u8;
    fn tap_c10d_store_close(store: *mut RawStore);
    fn tap_c10d_gloo_open(
        store: *mut RawStore,
        prefix: *const c_char,
        interface: *const c_char,
        address: *const c_char,
        rank: c_int,
        world_size: c_int,
        timeout_ms: i64,
        error: *mut *mut c_char,
    ) -> *mut RawGroup;
    fn tap_c10d_all_reduce_sum(
        group: *mut RawGroup,
        tensors: *const *const C_tensor,
        count: usize,
        error: *mut *mut c_char,
    ) -> bool;
    fn tap_c10d_sum_with_gradient(
        group: *mut RawGroup,
        tensor: *const C_tensor,
        error: *mut *mut c_char,
    ) -> *mut C_tensor;
    fn tap_c10d_broadcast(
        group: *mut RawGroup,
        tensors: *const *const C_tensor,
        count: usize,
        root: c_int,
        error: *mut *mut c_char,
    ) -> bool;
    fn tap_c10d_all_gather(
        group: *mut RawGroup,
        input: *const C_tensor,
        outputs: *const *const C_tensor,
        count: usize,
        error: *mut *mut c_char,
    ) -> bool;
    fn tap_c10d_reducer_new(
        group: *mut RawGroup,
        parameters: *const *const C_tensor,
        count: usize,
        first_bucket_bytes: usize,
        bucket_bytes: usize,
        error: *mut *mut c_char,
    ) -> *mut RawReducer;
    fn tap_c10d_reducer_backward(
        reducer: *mut RawReducer,
        loss: *const C_tensor,
        is_last: bool,
        has_lost_ranks: *mut bool,
        error: *mut *mut c_char,
    ) -> bool;
    fn tap_c10d_reducer_take(
        reducer: *mut RawReducer,
        gradients: *mut *mut C_tensor,
        error: *mut *mut c_char,
    ) -> bool;
    fn tap_c10d_reducer_close(reducer: *mut RawReducer);
    fn tap_c10d_group_close(group: *mut RawGroup);
    fn free(memory: *mut c_void);
}

/// Calls a function of the shim with a place for the text of its error.
fn checked<T>(call: impl FnOnce(*mut *mut c_char) -> T) -> Result<T> {
    let mut error = std::ptr::null_mut();
    let value = call(&raw mut error);
    if error.is_null() {
        return Ok(value);
    }
    // SAFETY: the shim leaves a text of strdup there, or nothing.
    let text = unsafe { CStr::from_ptr(error) }.to_string_lossy().into_owned();
    // SAFETY: the text is of malloc, and nobody else has it.
    unsafe { free(error.cast()) };
    Err(Error::new(&text))
}

fn c_text(text: &str) -> Result<CString> {
    CString::new(text).map_err(|_| Error(format!("'{}' has a zero in it", text.escape_debug())))
}

fn milliseconds(timeout: Duration) -> i64 {
    i64::try_from(timeout.as_millis()).unwrap_or(i64::MAX)
}

/// Calls `work` on a thread of its own, and gives up a little after its time limit: c10d waits without one for the answers
/// of a store, so that whatever accepts connections and stays silent would hold this process forever. A thread that was
/// given up ends with its connection, or with the process.
fn within<T: Send + 'static>(
    timeout: Duration,
    work: impl FnOnce() -> Result<T> + Send + 'static,
    late: impl FnOnce() -> String,
) -> Result<T> {
    let (done, result) = mpsc::sync_channel(1);
    let start = thread::Builder::new().name(String::from("c10d")).spawn(move || {
        // Nobody waits for what comes too late.
        let _ = done.send(work());
    });
    start.map_err(|error: io::Error| Error(format!("could not start a thread: {error}")))?;
    result
        .recv_timeout(timeout.saturating_add(GRACE))
        .unwrap_or_else(|_| Err(Error(late())))
}

/// A store of the shim, which is closed with the last that uses it.
struct StoreHandle(*mut RawStore);

// SAFETY: TCPStore locks a mutex in each of its operations.
unsafe impl Send for StoreHandle {}
// SAFETY: as above.
unsafe impl Sync for StoreHandle {}

impl Drop for StoreHandle {
    fn drop(&mut self) {
        // SAFETY: it is the shim's, and is closed once.
        unsafe { tap_c10d_store_close(self.0) };
    }
}

/// A key-value store that all ranks see: one process serves it. A copy is the same store.
#[derive(Clone)]
pub struct Store {
    handle: Arc<StoreHandle>,
    timeout: Duration,
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store").finish_non_exhaustive()
    }
}

impl Store {
    /// Connects to the store at `host:port`, and serves it, on all interfaces, if `is_server`. Tries for as long as
    /// `timeout`, which is also that of later calls.
    ///
    /// # Errors
    /// Where the port is taken, nobody answers in time, or who answers is no store.
    pub fn open(host: &str, port: u16, is_server: bool, timeout: Duration) -> Result<Self> {
        let host = c_text(host)?;
        let timeout_ms = milliseconds(timeout);
        let open = move || {
            // SAFETY: the pointers are to locals that live through the call.
            let opened = checked(|error| unsafe {
                tap_c10d_store_open(host.as_ptr(), port, is_server, timeout_ms, error)
            });
            match opened {
                Ok(raw) => Ok(StoreHandle(raw)),
                Err(Error(text)) if text.starts_with(NO_STORE) => {
                    Err(Error(format!("another service has this port: {text}")))
                }
                Err(error) => Err(error),
            }
        };
        let late = || {
            format!(
                "what listens there does not answer within {} s; another service may have this port",
                timeout.as_secs()
            )
        };
        Ok(Self {
            handle: Arc::new(within(timeout, open, late)?),
            timeout,
        })
    }

    /// Sets a value, in place of an earlier one: all ranks see it when this returns.
    ///
    /// # Errors
    /// Where the server is gone, or silent.
    pub fn set(&self, key: &str, value: &[u8]) -> Result<()> {
        let (key, value) = (c_text(key)?, value.to_vec());
        self.ask(move |store| {
            // SAFETY: the store lives through the call, the other pointers are to locals.
            checked(|error| unsafe {
                tap_c10d_store_set(store.0, key.as_ptr(), value.as_ptr(), value.len(), error)
            })
            .map(drop)
        })
    }

    /// The value of a key, if there is one now.
    ///
    /// # Errors
    /// Where the server is gone, or silent.
    pub fn get(&self, key: &str) -> Result<Option<Vec<u8>>> {
        let key = c_text(key)?;
        self.ask(move |store| {
            let mut length = 0;
            // SAFETY: the store lives through the call, the other pointers are to locals.
            let value = checked(|error| unsafe {
                tap_c10d_store_get(store.0, key.as_ptr(), &raw mut length, error)
            })?;
            if value.is_null() {
                return Ok(None);
            }
            // SAFETY: the shim says how many bytes it left there.
            let bytes = unsafe { std::slice::from_raw_parts(value, length) }.to_vec();
            // SAFETY: they are of malloc, and nobody else has them.
            unsafe { free(value.cast()) };
            Ok(Some(bytes))
        })
    }

    fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(&StoreHandle) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let store = Arc::clone(&self.handle);
        within(self.timeout, move || question(&store), || self.silent())
    }

    fn silent(&self) -> String {
        format!(
            "the store does not answer any more within {} s",
            self.timeout.as_secs()
        )
    }
}

/// How a rank is reached by the others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Interface {
    /// By the network interface of this name, as in `eth0`.
    Named(String),
    /// By this address, or host name, of its own.
    Address(String),
}

/// The place of a process in its group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// From 0 on.
    pub rank: usize,
    /// Number of ranks.
    pub world_size: usize,
}

/// A group of the shim.
struct GroupHandle(*mut RawGroup);

// SAFETY: a process group may be used from any thread, by one at a time or under its own mutex.
unsafe impl Send for GroupHandle {}
// SAFETY: ProcessGroupGloo takes its work through a queue under a mutex.
unsafe impl Sync for GroupHandle {}

impl Drop for GroupHandle {
    fn drop(&mut self) {
        // SAFETY: it is the shim's, and is closed once.
        unsafe { tap_c10d_group_close(self.0) };
    }
}

/// Ranks that are connected with each other, by gloo. Tensors are dense ones of a CPU.
pub struct Group {
    handle: GroupHandle,
    place: Place,
    /// The ranks' addresses are in it, and what it is served by goes away with it.
    _store: Store,
}

impl fmt::Debug for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Group")
            .field("place", &self.place)
            .finish_non_exhaustive()
    }
}

impl Group {
    /// Connects with all other ranks, which write their addresses into the store under `prefix`: one that no earlier group
    /// used there.
    ///
    /// # Errors
    /// Where the interface does not exist, or not all have come before `timeout`, which is also that of each collective.
    pub fn gloo(
        store: Store,
        prefix: &str,
        interface: &Interface,
        place: Place,
        timeout: Duration,
    ) -> Result<Self> {
        let (name, address) = match interface {
            Interface::Named(name) => (name.as_str(), ""),
            Interface::Address(address) => ("", address.as_str()),
        };
        let (prefix, name, address) = (c_text(prefix)?, c_text(name)?, c_text(address)?);
        let timeout_ms = milliseconds(timeout);
        let of_store = Arc::clone(&store.handle);
        let open = move || {
            let raw = checked(|error| {
                // SAFETY: the store lives through the call, and the shim keeps a reference of its own to what is in it; the
                // other pointers are to locals.
                unsafe {
                    tap_c10d_gloo_open(
                        of_store.0,
                        prefix.as_ptr(),
                        name.as_ptr(),
                        address.as_ptr(),
                        place.rank as c_int,
                        place.world_size as c_int,
                        timeout_ms,
                        error,
                    )
                }
            })?;
            Ok(GroupHandle(raw))
        };
        Ok(Self {
            handle: within(timeout, open, || store.silent())?,
            place,
            _store: store,
        })
    }

    /// Where this process stands.
    #[must_use]
    pub fn place(&self) -> Place {
        self.place
    }

    /// Puts the sum over all ranks into each tensor.
    ///
    /// # Errors
    /// Where a rank is gone or late.
    pub fn all_reduce_sum(&self, tensors: &[Tensor]) -> Result<()> {
        let raw = pointers(tensors);
        // SAFETY: group and tensors live through the call, which waits for the work on them.
        checked(|error| unsafe { tap_c10d_all_reduce_sum(self.handle.0, raw.as_ptr(), raw.len(), error) })
            .map(drop)
    }

    /// The sum over all ranks, through which gradients flow: a tensor has as gradient the sum of those that all ranks have
    /// of it, so that their losses act as one. All ranks run their backward passes too, over graphs that are built alike.
    ///
    /// # Errors
    /// Where a rank is gone or late; in the backward pass that is an error of libtorch.
    pub fn sum_with_gradient(&self, tensor: &Tensor) -> Result<Tensor> {
        // SAFETY: group and tensor live through the call, which waits for the work on it.
        let sum =
            checked(|error| unsafe { tap_c10d_sum_with_gradient(self.handle.0, tensor.as_ptr(), error) })?;
        // SAFETY: the shim made it, and nobody else has it.
        Ok(unsafe { Tensor::from_ptr(sum) })
    }

    /// Puts the numbers of the tensors of rank `root` into those of all others.
    ///
    /// # Errors
    /// Where a rank is gone or late.
    pub fn broadcast(&self, tensors: &[Tensor], root: usize) -> Result<()> {
        let (raw, root) = (pointers(tensors), root as c_int);
        // SAFETY: group and tensors live through the call, which waits for the work on them.
        checked(|error| unsafe { tap_c10d_broadcast(self.handle.0, raw.as_ptr(), raw.len(), root, error) })
            .map(drop)
    }

    /// The tensor of each rank, in their order; it has the same shape and kind on all.
    ///
    /// # Errors
    /// Where a rank is gone or late.
    pub fn all_gather(&self, tensor: &Tensor) -> Result<Vec<Tensor>> {
        let gathered: Vec<Tensor> = (0..self.place.world_size).map(|_| tensor.zeros_like()).collect();
        let raw = pointers(&gathered);
        // SAFETY: group and tensors live through the call, which waits for the work on them.
        checked(|error| unsafe {
            tap_c10d_all_gather(self.handle.0, tensor.as_ptr(), raw.as_ptr(), raw.len(), error)
        })?;
        Ok(gathered)
    }
}

/// Sizes of the buckets that gradients are summed in, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BucketSizes {
    /// Of the first, which nothing else is summed beside: the smaller, the earlier it is on its way.
    pub first: usize,
    /// Of the others.
    pub others: usize,
}

/// What ended a backward pass.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BackwardError {
    /// A rank is gone or late.
    #[error(transparent)]
    Ranks(Error),
    /// libtorch failed, here.
    #[error(transparent)]
    Torch(Error),
}

/// Gradients that are summed over all ranks while a backward pass still computes others: c10d's own `Reducer`, by hooks of
/// the parameters. While there is one, nothing else may run a backward pass into them.
///
/// A bucket of gradients is on its way as soon as it is complete, and those before it are. So parameters are best given in
/// the order in which their gradients are computed. They keep their storage, and their place, as long as this is there.
///
/// It speaks through its group from the begin of a backward pass to its end, and the group must have no other use: ranks
/// compute at their own pace, and what else they sum would come between buckets at another place on each.
pub struct Reducer {
    raw: *mut RawReducer,
    num_parameters: usize,
}

impl fmt::Debug for Reducer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reducer")
            .field("num_parameters", &self.num_parameters)
            .finish_non_exhaustive()
    }
}

impl Drop for Reducer {
    fn drop(&mut self) {
        // SAFETY: it is the shim's, and is closed once; it has its own references to the group and to what is on its way.
        unsafe { tap_c10d_reducer_close(self.raw) };
    }
}

impl Reducer {
    /// Over a group, for parameters that require a gradient and have none: the same ones, in the same order, on all ranks.
    ///
    /// # Errors
    /// Where a parameter is no dense one of a CPU, or requires no gradient.
    pub fn new(group: &Group, parameters: &[Tensor], sizes: BucketSizes) -> Result<Self> {
        let raw = pointers(parameters);
        // SAFETY: group and parameters live through the call; the shim keeps references of its own to what is in them.
        let raw = checked(|error| unsafe {
            tap_c10d_reducer_new(
                group.handle.0,
                raw.as_ptr(),
                raw.len(),
                sizes.first,
                sizes.others,
                error,
            )
        })?;
        Ok(Self {
            raw,
            num_parameters: parameters.len(),
        })
    }

    /// Adds the gradient of a loss to that of the parameters. Where it `is_last`, what was added up by then on all ranks is
    /// summed, and all of it is there when this returns. Each rank calls it so once, after as many other calls as it likes.
    ///
    /// # Errors
    /// Where a rank is gone or late, or libtorch fails. It is of no further use then.
    pub fn backward(&self, loss: &Tensor, is_last: bool) -> std::result::Result<(), BackwardError> {
        let mut has_lost_ranks = false;
        // SAFETY: reducer and loss live through the call, which waits for the work on gradients or has failed.
        let done = checked(|error| unsafe {
            tap_c10d_reducer_backward(self.raw, loss.as_ptr(), is_last, &raw mut has_lost_ranks, error)
        });
        match done {
            Ok(_) => Ok(()),
            Err(error) if has_lost_ranks => Err(BackwardError::Ranks(error)),
            Err(error) => Err(BackwardError::Torch(error)),
        }
    }

    /// Takes the gradients of the parameters, in their order, which have none then. One that the losses of no rank depend on
    /// is undefined. They are to be read before the next backward pass, which writes over them.
    ///
    /// # Errors
    /// Where libtorch fails.
    pub fn take_gradients(&self) -> Result<Vec<Tensor>> {
        let mut raw = vec![std::ptr::null_mut(); self.num_parameters];
        // SAFETY: there is a place for each parameter.
        checked(|error| unsafe { tap_c10d_reducer_take(self.raw, raw.as_mut_ptr(), error) })?;
        // SAFETY: the shim made them, and nobody else has them.
        Ok(raw
            .into_iter()
            .map(|raw| unsafe { Tensor::from_ptr(raw) })
            .collect())
    }
}

fn pointers(tensors: &[Tensor]) -> Vec<*const C_tensor> {
    tensors.iter().map(Tensor::as_ptr).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use std::io::Write as _;
    use std::net::TcpListener;
    use std::time::Instant;

    use tch::Kind;

    use super::*;

    const TIMEOUT: Duration = Duration::from_secs(20);

    fn free_port() -> u16 {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        listener.local_addr().unwrap().port()
    }

    fn join(port: u16, rank: usize, timeout: Duration) -> Group {
        let store = Store::open("127.0.0.1", port, rank == 0, TIMEOUT).unwrap();
        let place = Place { rank, world_size: 2 };
        let loopback = Interface::Address(String::from("127.0.0.1"));
        Group::gloo(store, "test", &loopback, place, timeout).unwrap()
    }

    /// Rank 0, with a second to wait, and rank 1, that leaves at once if it `is_gone`, else when the sender does.
    fn join_peer(is_gone: bool) -> (Group, mpsc::Sender<()>, thread::JoinHandle<()>) {
        let port = free_port();
        let (done, wait) = mpsc::channel();
        let peer = thread::spawn(move || {
            let group = join(port, 1, TIMEOUT);
            if !is_gone {
                let _ = wait.recv();
            }
            drop(group);
        });
        (join(port, 0, Duration::from_secs(1)), done, peer)
    }

    #[test]
    fn two_ranks_sum_gather_and_broadcast() {
        let port = free_port();
        let of_rank = move |rank: usize| {
            let group = join(port, rank, TIMEOUT);
            let number = rank as f32 + 1.0;
            let mut tensors = [
                Tensor::from_slice(&[number, 2.0]),
                Tensor::from_slice(&[0.25_f64; 3]),
            ];
            group.all_reduce_sum(&tensors).unwrap();
            let gathered = group.all_gather(&Tensor::from_slice(&[rank as i64])).unwrap();
            let gathered: Vec<i64> = gathered.iter().map(|of_rank| of_rank.int64_value(&[0])).collect();
            let sums = Vec::<f32>::try_from(&tensors[0]).unwrap();
            tensors[1] = Tensor::from_slice(&[number]);
            group.broadcast(&tensors[1..], 0).unwrap();
            (sums, gathered, tensors[1].double_value(&[0]))
        };
        let other = thread::spawn(move || of_rank(1));
        let expected = (vec![3.0, 4.0], vec![0, 1], 1.0);
        assert_eq!(of_rank(0), expected, "rank 0");
        assert_eq!(other.join().unwrap(), expected, "rank 1");
    }

    #[test]
    fn a_sum_over_ranks_has_the_gradient_of_all_their_losses() {
        let port = free_port();
        // Of x and y on two ranks, and s = x + y: the losses x s and 3 s^2, whose sum has the gradients 2 x + y + 6 s and
        // x + 6 s.
        let of_rank = move |rank: usize| {
            let group = join(port, rank, TIMEOUT);
            let own = [[2.0_f32, -1.0], [0.5, 4.0]][rank];
            let own = Tensor::from_slice(&own).set_requires_grad(true);
            let sum = group.sum_with_gradient(&own).unwrap();
            let loss = if rank == 0 { &own * &sum } else { &sum * &sum * 3.0 };
            loss.sum(Kind::Float).backward();
            let numbers = |tensor: &Tensor| Vec::<f32>::try_from(tensor).unwrap();
            let constant = group.sum_with_gradient(&own.detach()).unwrap();
            assert!(!constant.requires_grad(), "a constant has no gradient");
            assert!(constant.equal(&sum.detach()), "the same sum");
            (numbers(&sum.detach()), numbers(&own.grad()))
        };
        let other = thread::spawn(move || of_rank(1));
        assert_eq!(of_rank(0), (vec![2.5, 3.0], vec![19.5, 20.0]), "rank 0");
        let of_other = other.join().unwrap();
        assert_eq!(of_other, (vec![2.5, 3.0], vec![17.0, 17.0]), "rank 1");
    }

    const SIZES: BucketSizes = BucketSizes { first: 8, others: 16 };

    /// Parameters, none of which is in a bucket with all others.
    fn parameters() -> Vec<Tensor> {
        let options = (Kind::Float, tch::Device::Cpu);
        let leaf = |size: i64| Tensor::full([size], 2.0, options).set_requires_grad(true);
        [3, 1, 4, 2].map(leaf).into()
    }

    #[test]
    fn a_reducer_sums_what_micro_batches_accumulate_and_leaves_the_unused_alone() {
        let port = free_port();
        let of_rank = move |rank: usize| {
            let group = join(port, rank, TIMEOUT);
            let parameters = parameters();
            let reducer = Reducer::new(&group, &parameters, SIZES).unwrap();
            let number = rank as f64 + 1.0;
            let mut all = Vec::new();
            for step in 0..3 {
                // Of the second parameter rank 1 has no gradient, of the last nobody has.
                let weighed = |factor: f64| {
                    let of_rank = &parameters[0] * factor;
                    let of_all = (&parameters[2] * &parameters[2]).sum(Kind::Float) * number;
                    of_rank.sum(Kind::Float) + of_all
                };
                for micro_batch in 0..2 {
                    let mut loss = weighed(f64::from(10 * step + micro_batch) * number);
                    if rank == 0 {
                        loss += parameters[1].sum(Kind::Float) * 0.5;
                    }
                    reducer.backward(&loss, micro_batch == 1).unwrap();
                }
                let gradients = reducer.take_gradients().unwrap();
                let numbers = |gradient: &Tensor| {
                    let is_there = gradient.defined();
                    is_there.then(|| Vec::<f32>::try_from(gradient).unwrap())
                };
                all.push(gradients.iter().map(numbers).collect::<Vec<_>>());
                assert!(
                    parameters.iter().all(|parameter| !parameter.grad().defined()),
                    "taken"
                );
            }
            drop(reducer);
            parameters[0].sum(Kind::Float).backward();
            assert_eq!(
                Vec::<f32>::try_from(parameters[0].grad()).unwrap(),
                [1.0; 3],
                "without it a gradient is one's own"
            );
            all
        };
        let expected: Vec<_> = (0..3)
            .map(|step| {
                let first = 3.0 * (20.0 * step as f32 + 1.0);
                vec![Some(vec![first; 3]), Some(vec![1.0]), Some(vec![24.0; 4]), None]
            })
            .collect();
        let other = thread::spawn(move || of_rank(1));
        assert_eq!(of_rank(0), expected, "rank 0");
        assert_eq!(other.join().unwrap(), expected, "rank 1");
    }

    #[test]
    fn a_backward_pass_says_whether_ranks_are_lost_or_torch_fails() {
        for is_gone in [true, false] {
            let (group, done, other) = join_peer(is_gone);
            if is_gone {
                other.join().unwrap();
                drop(done);
                let parameters = parameters();
                let reducer = Reducer::new(&group, &parameters, SIZES).unwrap();
                let no_gradient = Tensor::from_slice(&[1.0]);
                let failed = reducer.backward(&no_gradient, false).unwrap_err();
                assert!(matches!(failed, BackwardError::Torch(_)), "{failed:?}");
                lose(&reducer, &parameters);
                continue;
            }
            let parameters = parameters();
            let reducer = Reducer::new(&group, &parameters, SIZES).unwrap();
            let begin = Instant::now();
            lose(&reducer, &parameters);
            assert!(begin.elapsed() < Duration::from_secs(10), "{:?}", begin.elapsed());
            drop((reducer, group));
            assert!(begin.elapsed() < Duration::from_secs(10), "{:?}", begin.elapsed());
            drop(done);
            other.join().unwrap();
        }
    }

    /// Runs a backward pass that no other rank takes part in.
    fn lose(reducer: &Reducer, parameters: &[Tensor]) {
        let sum = |parameter: &Tensor| parameter.sum(Kind::Float);
        let loss = parameters.iter().map(sum).sum::<Tensor>();
        let lost = reducer.backward(&loss, true).unwrap_err();
        let text = lost.to_string();
        assert!(matches!(lost, BackwardError::Ranks(_)), "{lost:?}");
        assert!(
            !text.is_empty() && !text.contains('\n') && !text.starts_with('['),
            "{text}"
        );
    }

    #[test]
    fn another_service_is_an_error_within_the_time_limit() {
        let timeout = Duration::from_secs(1);
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let begin = Instant::now();
        let silent = Store::open("127.0.0.1", port, false, timeout).unwrap_err();
        assert!(begin.elapsed() < 10 * timeout, "{:?}", begin.elapsed());
        assert!(silent.to_string().contains("another service"), "{silent}");
        let server = thread::spawn(move || {
            // The first is the one of before.
            for stream in listener.incoming().take(2) {
                let _ = stream.unwrap().write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n");
            }
        });
        let web = Store::open("127.0.0.1", port, false, timeout).unwrap_err();
        assert!(begin.elapsed() < 10 * timeout, "{:?}", begin.elapsed());
        assert!(!web.to_string().contains('\n'), "{web}");
        server.join().unwrap();
    }

    #[test]
    fn a_store_has_what_was_set_last_and_nothing_else() {
        let port = free_port();
        let server = Store::open("127.0.0.1", port, true, TIMEOUT).unwrap();
        let client = Store::open("127.0.0.1", port, false, TIMEOUT).unwrap();
        assert_eq!(client.get("key").unwrap(), None, "not yet");
        for value in [&b"one"[..], b"", b"two\0three"] {
            server.set("key", value).unwrap();
            assert_eq!(client.get("key").unwrap().as_deref(), Some(value));
        }
    }

    #[test]
    fn a_peer_that_is_gone_or_silent_is_an_error_of_one_line() {
        for is_gone in [true, false] {
            let (group, done, other) = join_peer(is_gone);
            if is_gone {
                other.join().unwrap();
                group.all_reduce_sum(&[Tensor::from_slice(&[1.0])]).unwrap_err();
                continue;
            }
            let error = group.all_reduce_sum(&[Tensor::from_slice(&[1.0])]).unwrap_err();
            let text = error.to_string();
            assert!(
                !text.is_empty() && !text.contains('\n') && !text.starts_with('['),
                "{text}"
            );
            drop(done);
            other.join().unwrap();
        }
    }
}
