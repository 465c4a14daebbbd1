//! Ranks that speak by torch's c10d, over gloo.
//!
//! A store may outlive a group: `torchrun` keeps its own through every restart, with the keys of the ranks before. So a
//! group first agrees on a name that no other has ([`agree`]), under which its ranks then find each other. (torch counts
//! restarts in `TORCHELASTIC_RESTART_COUNT` instead, which differs among machines where some came later: pytorch#135712.)
//!
//! Sums of gradients during the backward pass are c10d's own `Reducer`, in buckets of a few megabytes.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher as _;
use std::net::UdpSocket;
use std::thread::sleep;
use std::time::{Duration, Instant};

use tap_c10d::{BackwardError, BucketSizes, Group, Interface, Place, Reducer, Store};
use tch::{TchError, Tensor};

use super::{GradientReducer, Launch, ProcessGroup};
use crate::error::TrainError;

/// How often a rank looks whether another has written.
const POLL_INTERVAL: Duration = Duration::from_millis(20);
/// Gradients that are summed at once: enough that a round trip is short beside them, and few enough that not much is left to
/// sum after the last gradient is there.
const BUCKETS: BucketSizes = BucketSizes {
    first: 1 << 20,
    others: 4 << 20,
};
/// What ranks are at in a backward pass that sums gradients.
const OVERLAPPING: &str = "adding the gradients up in the backward pass";
/// The network interface for gloo, by the variable that torch reads too.
const INTERFACE_VARIABLE: &str = "GLOO_SOCKET_IFNAME";

/// A store where all ranks of this start have met.
pub(super) struct Meeting {
    store: Store,
    name: String,
    place: Place,
    interface: Interface,
    timeout: Duration,
}

impl Meeting {
    /// Meets all other ranks.
    pub(super) fn of(launch: &Launch, timeout: Duration) -> Result<Self, String> {
        let Launch {
            rank,
            world_size,
            host,
            port,
            is_served,
            ..
        } = launch;
        let is_server = *rank == 0 && !is_served;
        let store = Store::open(host, *port, is_server, timeout).map_err(|error| {
            format!(
                "could not meet the other ranks at {host}:{port}, by MASTER_ADDR and MASTER_PORT: {error}"
            )
        })?;
        let place = Place {
            rank: *rank,
            world_size: *world_size,
        };
        Ok(Self {
            name: agree(&store, place, timeout)?,
            interface: interface(host, *port)?,
            store,
            place,
            timeout,
        })
    }

    /// Connects this rank with all others, for one use.
    pub(super) fn group(&self, usage: &str) -> Result<Group, String> {
        let Self {
            store,
            name,
            place,
            interface,
            timeout,
        } = self;
        let prefix = format!("tap/{name}/{usage}");
        let group = Group::gloo(store.clone(), &prefix, interface, *place, *timeout);
        group.map_err(|error| format!("{error}, from {interface:?}"))
    }
}

/// A name that all ranks of this start have, and no earlier one in the same store.
///
/// Rank 0 draws a name and publishes it; each other rank answers under that name with a number that it draws; rank 0
/// then publishes the numbers. A rank that finds its own among them has the name of this start: of an earlier one it would
/// find the number of its predecessor.
fn agree(store: &Store, place: Place, timeout: Duration) -> Result<String, String> {
    const FIRST: &str = "tap/first";
    let answer = |name: &str, rank: usize| format!("tap/{name}/answer/{rank}");
    let all = |name: &str| format!("tap/{name}/all");
    let text = |key: &str| -> Result<Option<String>, String> {
        let value = store.get(key).map_err(|error| error.to_string())?;
        Ok(value.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()))
    };
    let set = |key: &str, value: &str| {
        let set = store.set(key, value.as_bytes());
        set.map_err(|error| error.to_string())
    };
    let own = format!("{:016x}", RandomState::new().hash_one(std::process::id()));
    let begin = Instant::now();
    let others: Vec<usize> = (1..place.world_size).collect();
    if place.rank == 0 {
        set(FIRST, &own)?;
        let mut answers: Vec<Option<String>> = vec![None; others.len()];
        loop {
            for (rank, found) in others.iter().zip(&mut answers) {
                if found.is_none() {
                    *found = text(&answer(&own, *rank))?;
                }
            }
            let missing: Vec<String> = others
                .iter()
                .zip(&answers)
                .filter(|(_, found)| found.is_none())
                .map(|(rank, _)| rank.to_string())
                .collect();
            if missing.is_empty() {
                break;
            }
            if begin.elapsed() > timeout {
                return Err(format!(
                    "of {} ranks these did not come within {} s: {}",
                    place.world_size,
                    timeout.as_secs(),
                    missing.join(", ")
                ));
            }
            sleep(POLL_INTERVAL);
        }
        let answers: Vec<String> = answers.into_iter().flatten().collect();
        set(&all(&own), &answers.join(" "))?;
        return Ok(own);
    }
    let mut answered = String::new();
    loop {
        if let Some(name) = text(FIRST)? {
            if name != answered {
                set(&answer(&name, place.rank), &own)?;
                answered.clone_from(&name);
            }
            let numbers = text(&all(&name))?.unwrap_or_default();
            if numbers.split(' ').any(|number| number == own) {
                return Ok(name);
            }
        }
        if begin.elapsed() > timeout {
            return Err(format!(
                "rank 0 did not come, or not all others did, within {} s",
                timeout.as_secs()
            ));
        }
        sleep(POLL_INTERVAL);
    }
}

/// How the others reach this rank: by the interface that the user names, else by the address from which it reaches the
/// store. (A host's own name often stands for a loopback address.)
fn interface(host: &str, port: u16) -> Result<Interface, String> {
    let named = std::env::var(INTERFACE_VARIABLE).ok();
    if let Some(name) = named.filter(|name| !name.is_empty()) {
        return Ok(Interface::Named(name));
    }
    let unknown = |error: std::io::Error| {
        format!("no address by which {host} is reached; name an interface in {INTERFACE_VARIABLE} ({error})")
    };
    // Nothing is sent: connecting a UDP socket looks the route up.
    for any in ["0.0.0.0:0", "[::]:0"] {
        let socket = UdpSocket::bind(any).map_err(unknown)?;
        if socket.connect((host, port)).is_ok() {
            let address = socket.local_addr().map_err(unknown)?.ip();
            return Ok(Interface::Address(address.to_string()));
        }
    }
    Err(format!(
        "no address by which {host} is reached; name an interface in {INTERFACE_VARIABLE}"
    ))
}

impl ProcessGroup for Group {
    fn all_reduce_sum(&self, tensors: &[Tensor]) -> Result<(), String> {
        Self::all_reduce_sum(self, tensors).map_err(|error| error.to_string())
    }

    fn sum_with_gradient(&self, tensor: &Tensor) -> Result<Tensor, String> {
        Self::sum_with_gradient(self, tensor).map_err(|error| error.to_string())
    }

    fn broadcast(&self, tensors: &[Tensor]) -> Result<(), String> {
        Self::broadcast(self, tensors, 0).map_err(|error| error.to_string())
    }

    fn all_gather(&self, tensor: &Tensor) -> Result<Vec<Tensor>, String> {
        Self::all_gather(self, tensor).map_err(|error| error.to_string())
    }

    fn reducer(&self, parameters: &[Tensor]) -> Result<Box<dyn GradientReducer>, String> {
        let reducer = Reducer::new(self, parameters, BUCKETS).map_err(|error| error.to_string())?;
        Ok(Box::new(reducer))
    }
}

impl GradientReducer for Reducer {
    fn backward(&self, loss: &Tensor, is_last: bool) -> Result<(), TrainError> {
        Self::backward(self, loss, is_last).map_err(|error| match error {
            BackwardError::Ranks(error) => TrainError::Ranks {
                action: OVERLAPPING,
                reason: error.to_string(),
            },
            BackwardError::Torch(error) => TrainError::Torch {
                action: "running the backward pass",
                source: TchError::Torch(error.to_string()),
            },
        })
    }

    fn take_gradients(&self) -> Result<Vec<Tensor>, TrainError> {
        Self::take_gradients(self).map_err(|error| TrainError::Torch {
            action: "reading gradients",
            source: TchError::Torch(error.to_string()),
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use std::net::TcpListener;
    use std::sync::Arc;
    use std::thread;

    use super::*;

    const TIMEOUT: Duration = Duration::from_secs(20);

    #[test]
    fn starts_in_one_store_agree_on_names_of_their_own() {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        drop(listener);
        let store = Arc::new(Store::open("127.0.0.1", port, true, TIMEOUT).unwrap());
        let mut names = Vec::new();
        for start in 0..3 {
            // The ranks come in another order each time; rank 0 last is when those of the start before are still there.
            let order = [[0, 1, 2], [1, 2, 0], [2, 0, 1]][start];
            let ranks = order.map(|rank| {
                let store = Arc::clone(&store);
                let thread = thread::spawn(move || {
                    let place = Place { rank, world_size: 3 };
                    agree(&store, place, TIMEOUT).unwrap()
                });
                sleep(2 * POLL_INTERVAL);
                thread
            });
            let of_ranks = ranks.map(|thread| thread.join().unwrap());
            assert!(of_ranks.iter().all(|name| *name == of_ranks[0]), "{of_ranks:?}");
            assert!(!names.contains(&of_ranks[0]), "{names:?}");
            names.push(of_ranks[0].clone());
        }
        let error = agree(
            &store,
            Place {
                rank: 0,
                world_size: 2,
            },
            Duration::from_millis(50),
        )
        .unwrap_err();
        assert!(error.contains("did not come within 0 s: 1"), "{error}");
    }
}
