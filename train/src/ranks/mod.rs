//! The processes that train one network together: *ranks*, each with the whole network and its own micro-batches of every
//! batch.
//!
//! [`Ranks`] is how the rest of the crate speaks of them. A process alone is rank 0 of 1: sums are what they are, what is
//! gathered is what was given, and nothing is sent. In several, all ranks call the same functions in the same order.
//! Rank 0 alone writes and prints. Where one fails, the others fail at their next call.
//!
//! Gradients are summed after the backward passes of a step or, where ranks [overlap](RankOptions::overlap), during the last of
//! them, by a [`GradientReducer`].

#[cfg(feature = "distributed")]
mod c10d;
mod launch;
mod synchronized;

use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use tch::{Device, Kind, Tensor, no_grad};

use crate::error::TrainError;

pub use launch::Launch;
pub(crate) use synchronized::{is_synchronizing, total};

/// How long a rank waits for another, unless told otherwise.
pub const DEFAULT_TIMEOUT: Duration = Duration::from_mins(10);
/// Bytes that a rank sends in the first round of [`Ranks::gather`]; more of them take a second one.
const GATHERED_BYTES: usize = 4096;
/// Bytes in front of them: how many there are.
const LENGTH_BYTES: usize = 8;

/// Collectives among ranks. Tensors are dense ones in main memory, of the same shapes and kinds on all ranks; a call returns
/// when this rank's part is done.
pub trait ProcessGroup: Debug + Send + Sync {
    /// Puts the sum over all ranks into each tensor.
    ///
    /// # Errors
    /// Where a rank is gone or late: in words.
    fn all_reduce_sum(&self, tensors: &[Tensor]) -> Result<(), String>;

    /// The sum over all ranks of a tensor of any device, through which gradients flow: its gradient, too, is summed over all
    /// ranks.
    ///
    /// # Errors
    /// Where a rank is gone or late: in words.
    fn sum_with_gradient(&self, tensor: &Tensor) -> Result<Tensor, String>;

    /// Puts the numbers of rank 0's tensors into those of all others.
    ///
    /// # Errors
    /// Where a rank is gone or late: in words.
    fn broadcast(&self, tensors: &[Tensor]) -> Result<(), String>;

    /// The tensor of each rank, in their order.
    ///
    /// # Errors
    /// Where a rank is gone or late: in words.
    fn all_gather(&self, tensor: &Tensor) -> Result<Vec<Tensor>, String>;

    /// What sums the gradients of these parameters, which require one and have none, while others are still computed. They are
    /// in the order in which their gradients are expected. The group has no other use as long as it is there.
    ///
    /// # Errors
    /// Where that cannot be had of such parameters: in words.
    fn reducer(&self, parameters: &[Tensor]) -> Result<Box<dyn GradientReducer>, String>;
}

/// Gradients of parameters that are summed over all ranks during backward passes.
pub trait GradientReducer: Debug {
    /// Adds the gradient of a loss to that of the parameters. Where it `is_last`, what was added up by then on all ranks is
    /// summed, and all of it is there when this returns: each rank calls it so once a step.
    ///
    /// # Errors
    /// Where a rank is gone or late, or libtorch fails. It is of no further use then.
    fn backward(&self, loss: &Tensor, is_last: bool) -> Result<(), TrainError>;

    /// Takes the gradients of the parameters, in their order; undefined where the losses of no rank depend on one. They are to
    /// be read before the next backward pass.
    ///
    /// # Errors
    /// Where libtorch fails.
    fn take_gradients(&self) -> Result<Vec<Tensor>, TrainError>;
}

/// How ranks train together. None of it changes what two of them compute.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RankOptions {
    /// How long one waits for another.
    pub timeout: Duration,
    /// Whether gradients are summed while the backward pass still computes others.
    pub overlap: bool,
}

impl Default for RankOptions {
    fn default() -> Self {
        Self {
            timeout: DEFAULT_TIMEOUT,
            overlap: false,
        }
    }
}

/// The place of a process among the ranks of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// From 0 on.
    pub rank: usize,
    /// Number of ranks.
    pub world_size: usize,
}

impl Place {
    /// Of a process alone.
    pub const ALONE: Self = Self {
        rank: 0,
        world_size: 1,
    };

    /// Whether it takes the piece of work with this number: they are dealt out in turn.
    #[must_use]
    pub fn takes(self, piece: usize) -> bool {
        piece % self.world_size == self.rank
    }
}

/// The ranks of a run, as one of them sees them.
#[derive(Debug, Clone)]
pub struct Ranks {
    place: Place,
    /// Which of the ranks of its machine it is, and how many those are.
    local_rank: usize,
    local_world_size: usize,
    /// None of a process alone.
    group: Option<Arc<dyn ProcessGroup>>,
    /// That of the sums of gradients where they overlap the backward pass: what else is summed then would come between them.
    overlapping: Option<Arc<dyn ProcessGroup>>,
}

impl Default for Ranks {
    /// A process alone.
    fn default() -> Self {
        Self {
            place: Place::ALONE,
            local_rank: 0,
            local_world_size: 1,
            group: None,
            overlapping: None,
        }
    }
}

impl Ranks {
    /// Joins the other ranks, if the environment says that there are any. Waits for them for as long as the time limit, which
    /// is also how long later calls wait.
    ///
    /// # Errors
    /// Where the environment contradicts itself, this program is built without the feature `distributed`, not all ranks
    /// come in time, or they have other options.
    pub fn join(options: RankOptions) -> Result<Self, TrainError> {
        match Launch::from_env()? {
            Some(launch) => Self::connect(&launch, options),
            None => Ok(Self::default()),
        }
    }

    #[cfg(feature = "distributed")]
    fn connect(launch: &Launch, options: RankOptions) -> Result<Self, TrainError> {
        let failed = |reason| TrainError::Launch { reason };
        let meeting = c10d::Meeting::of(launch, options.timeout).map_err(failed)?;
        let mut ranks = Self {
            place: Place {
                rank: launch.rank,
                world_size: launch.world_size,
            },
            local_rank: launch.local_rank,
            local_world_size: launch.local_world_size.unwrap_or(1),
            group: Some(Arc::new(meeting.group("all").map_err(failed)?)),
            overlapping: None,
        };
        ranks.require_same_overlap(options.overlap)?;
        if options.overlap {
            ranks.overlapping = Some(Arc::new(meeting.group("overlapping").map_err(failed)?));
        }
        Ok(ranks)
    }

    /// Refuses ranks of which some would wait for sums that others never begin.
    #[cfg(feature = "distributed")]
    fn require_same_overlap(&self, overlap: bool) -> Result<(), TrainError> {
        let of_ranks = self.gather(overlap, "comparing how they sum gradients")?;
        match of_ranks.iter().position(|of_rank| *of_rank != of_ranks[0]) {
            None => Ok(()),
            Some(rank) => Err(TrainError::Launch {
                reason: format!(
                    "rank {rank} was started {} --overlap and rank 0 {}; start all ranks alike",
                    if of_ranks[rank] { "with" } else { "without" },
                    if of_ranks[0] { "with it" } else { "without it" },
                ),
            }),
        }
    }

    #[cfg(not(feature = "distributed"))]
    fn connect(launch: &Launch, _options: RankOptions) -> Result<Self, TrainError> {
        Err(TrainError::Launch {
            reason: format!(
                "{} processes are to train together, and this program was built without that; build it with `cargo build --release -p tap-train --features distributed`, or start one process",
                launch.world_size
            ),
        })
    }

    /// Where this one stands.
    #[must_use]
    pub fn place(&self) -> Place {
        self.place
    }

    /// How many there are.
    #[must_use]
    pub fn world_size(&self) -> usize {
        self.place.world_size
    }

    /// Which of the ranks of its machine this one is.
    #[must_use]
    pub fn local_rank(&self) -> usize {
        self.local_rank
    }

    /// How many ranks its machine has, as far as that is said.
    #[must_use]
    pub fn local_world_size(&self) -> usize {
        self.local_world_size.max(1)
    }

    /// Whether this is the one that writes and prints.
    #[must_use]
    pub fn is_first(&self) -> bool {
        self.place.rank == 0
    }

    /// Whether there is no other.
    #[must_use]
    pub fn is_single(&self) -> bool {
        self.group.is_none()
    }

    /// Whether gradients are summed while the backward pass still computes others.
    #[must_use]
    pub fn overlap(&self) -> bool {
        self.overlapping.is_some()
    }

    /// What sums the gradients of these parameters where ranks overlap: see [`ProcessGroup::reducer`].
    ///
    /// # Errors
    /// Where that cannot be had of such parameters.
    pub fn reducer(&self, parameters: &[Tensor]) -> Result<Option<Box<dyn GradientReducer>>, TrainError> {
        let reducer = self.overlapping.as_ref().map(|group| group.reducer(parameters));
        reducer
            .transpose()
            .map_err(|reason| TrainError::Launch { reason })
    }

    /// Puts the sum over all ranks into each tensor.
    ///
    /// # Errors
    /// Where a rank is gone or late.
    pub fn sum(&self, tensors: &[Tensor], action: &'static str) -> Result<(), TrainError> {
        self.in_main_memory(tensors, action, |group, tensors| group.all_reduce_sum(tensors))
    }

    /// Puts the numbers of rank 0's tensors into those of all others.
    ///
    /// # Errors
    /// Where a rank is gone or late.
    pub fn broadcast(&self, tensors: &[Tensor], action: &'static str) -> Result<(), TrainError> {
        self.in_main_memory(tensors, action, |group, tensors| group.broadcast(tensors))
    }

    /// A value of each rank, in their order.
    ///
    /// # Errors
    /// Where a rank is gone or late, or runs another version of this program.
    pub fn gather<T: Serialize + DeserializeOwned>(
        &self,
        value: T,
        action: &'static str,
    ) -> Result<Vec<T>, TrainError> {
        let Some(group) = &self.group else {
            return Ok(vec![value]);
        };
        let gathered = encode(&value)
            .and_then(|bytes| gather_bytes(group.as_ref(), &bytes))
            .and_then(|all| all.iter().map(|bytes| decode(bytes)).collect());
        gathered.map_err(|reason| TrainError::Ranks { action, reason })
    }

    /// The value of rank 0, which alone makes one.
    ///
    /// # Errors
    /// Where making it fails, or a rank is gone or late.
    pub fn share<T: Serialize + DeserializeOwned>(
        &self,
        action: &'static str,
        make: impl FnOnce() -> Result<T, TrainError>,
    ) -> Result<T, TrainError> {
        // A list of one or none: in JSON an option of what may be null would lose the difference.
        let value: Vec<T> = self.is_first().then(make).transpose()?.into_iter().collect();
        let first = self.gather(value, action)?.into_iter().next();
        let first = first.and_then(|mut of_first| of_first.pop());
        first.ok_or_else(|| TrainError::Ranks {
            action,
            reason: String::from("rank 0 sent nothing"),
        })
    }

    /// Computes with batch norms whose statistics are those of all ranks, which compute the same of their own micro-batches.
    ///
    /// # Errors
    /// Where a rank is gone or late.
    pub fn synchronizing<T>(
        &self,
        action: &'static str,
        compute: impl FnOnce() -> T,
    ) -> Result<T, TrainError> {
        match &self.group {
            Some(group) => {
                synchronized::within(group, compute).map_err(|reason| TrainError::Ranks { action, reason })
            }
            None => Ok(compute()),
        }
    }

    /// Waits for all others.
    ///
    /// # Errors
    /// Where a rank is gone or late.
    pub fn wait(&self, action: &'static str) -> Result<(), TrainError> {
        self.gather((), action).map(drop)
    }

    /// Calls the group with tensors that it takes, and copies what they are then to where they come from.
    fn in_main_memory(
        &self,
        tensors: &[Tensor],
        action: &'static str,
        call: impl FnOnce(&dyn ProcessGroup, &[Tensor]) -> Result<(), String>,
    ) -> Result<(), TrainError> {
        let Some(group) = &self.group else {
            return Ok(());
        };
        no_grad(|| {
            let sent: Vec<Tensor> = tensors
                .iter()
                .map(|tensor| tensor.detach().to_device(Device::Cpu).contiguous())
                .collect();
            call(group.as_ref(), &sent).map_err(|reason| TrainError::Ranks { action, reason })?;
            for (tensor, sent) in tensors.iter().zip(&sent) {
                if tensor.data_ptr() != sent.data_ptr() {
                    tensor.detach().copy_(sent);
                }
            }
            Ok(())
        })
    }
}

fn encode(value: &impl Serialize) -> Result<Vec<u8>, String> {
    serde_json::to_vec(value).map_err(|error| error.to_string())
}

fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, String> {
    serde_json::from_slice(bytes)
        .map_err(|error| format!("a rank speaks of something else, is it another version? ({error})"))
}

/// The bytes of each rank: in one round where none has many, else in two.
fn gather_bytes(group: &dyn ProcessGroup, bytes: &[u8]) -> Result<Vec<Vec<u8>>, String> {
    let all = group.all_gather(&framed(bytes, GATHERED_BYTES))?;
    let all = all.iter().map(to_bytes).collect::<Result<Vec<_>, _>>()?;
    let longest = all.iter().map(|frame| length(frame)).max().unwrap_or(0);
    let all = if longest <= GATHERED_BYTES {
        all
    } else {
        let all = group.all_gather(&framed(bytes, longest))?;
        all.iter().map(to_bytes).collect::<Result<Vec<_>, _>>()?
    };
    Ok(all
        .into_iter()
        .map(|frame| frame[LENGTH_BYTES..][..length(&frame)].to_vec())
        .collect())
}

/// Length, bytes, and zeros up to `capacity` bytes; what does not fit is cut off.
fn framed(bytes: &[u8], capacity: usize) -> Tensor {
    let mut frame = (bytes.len() as u64).to_le_bytes().to_vec();
    frame.extend(&bytes[..bytes.len().min(capacity)]);
    frame.resize(LENGTH_BYTES + capacity, 0);
    Tensor::from_slice(&frame)
}

fn length(frame: &[u8]) -> usize {
    let length = frame.first_chunk().copied().unwrap_or_default();
    u64::from_le_bytes(length) as usize
}

fn to_bytes(frame: &Tensor) -> Result<Vec<u8>, String> {
    debug_assert_eq!(frame.kind(), Kind::Uint8, "a frame is made of bytes");
    Vec::<u8>::try_from(frame).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    /// A group whose other rank says the same as this one.
    #[derive(Debug)]
    struct Echo;

    impl ProcessGroup for Echo {
        fn all_reduce_sum(&self, tensors: &[Tensor]) -> Result<(), String> {
            for tensor in tensors {
                let _ = tensor.shallow_clone().g_mul_scalar_(2.0);
            }
            Ok(())
        }

        fn sum_with_gradient(&self, tensor: &Tensor) -> Result<Tensor, String> {
            match tensor.numel() {
                0 => Err(String::from("it is empty")),
                _ => Ok(tensor * 2.0),
            }
        }

        fn broadcast(&self, _tensors: &[Tensor]) -> Result<(), String> {
            Ok(())
        }

        fn all_gather(&self, tensor: &Tensor) -> Result<Vec<Tensor>, String> {
            Ok(vec![tensor.copy(), tensor.copy()])
        }

        fn reducer(&self, _parameters: &[Tensor]) -> Result<Box<dyn GradientReducer>, String> {
            Err(String::from("it sums afterwards"))
        }
    }

    fn two() -> Ranks {
        Ranks {
            place: Place {
                rank: 0,
                world_size: 2,
            },
            group: Some(Arc::new(Echo)),
            ..Ranks::default()
        }
    }

    #[test]
    fn values_of_any_length_are_gathered_whole() {
        for length in [
            0,
            1,
            GATHERED_BYTES - 2,
            GATHERED_BYTES - 1,
            GATHERED_BYTES,
            3 * GATHERED_BYTES,
        ] {
            let text = "x".repeat(length);
            let gathered = two().gather(text.clone(), "testing").unwrap();
            assert_eq!(gathered, [text.clone(), text.clone()], "{length} characters");
            assert_eq!(Ranks::default().gather(text.clone(), "testing").unwrap(), [text]);
        }
    }

    #[test]
    fn totals_are_of_all_ranks_where_that_is_asked_for_alone() {
        let sum = Tensor::from_slice(&[1.0_f32, 0.5]);
        let numbers = |(total, count): (Tensor, f64)| (Vec::<f32>::try_from(total).unwrap(), count);
        let own = (vec![1.0, 0.5], 3.0);
        let of_two = two().synchronizing("testing", || numbers(total(sum.shallow_clone(), 3.0)));
        assert_eq!(of_two.unwrap(), (vec![2.0, 1.0], 6.0), "both");
        let alone = Ranks::default().synchronizing("testing", || numbers(total(sum.shallow_clone(), 3.0)));
        assert_eq!(alone.unwrap(), own, "one");
        assert_eq!(numbers(total(sum.shallow_clone(), 3.0)), own, "outside");
    }

    #[test]
    fn nothing_is_a_value_too() {
        let shared = two().share("testing", || Ok(None::<u64>)).unwrap();
        assert_eq!(shared, None, "rank 0 has none");
        assert_eq!(two().share("testing", || Ok(Some(3))).unwrap(), Some(3));
    }

    #[test]
    fn tensors_that_are_parts_of_others_are_summed_in_place() {
        let whole = Tensor::from_slice(&[1.0_f32, 2.0, 3.0, 4.0]).view([2, 2]);
        two().sum(&[whole.select(1, 1)], "testing").unwrap();
        let numbers: Vec<f32> = Vec::try_from(whole.reshape([-1])).unwrap();
        assert_eq!(numbers, [1.0, 4.0, 3.0, 8.0], "a column");
        Ranks::default().sum(&[whole], "testing").unwrap();
    }
}
