//! [`ReadAhead`]: the next meshes of a build, and what they refer to, are asked of their store before a worker needs them.
//!
//! A worker that waits for a store does not work, and one request for each worker is few. Threads of their own read the
//! meshes in the order of the build, within a bound on what is read and not yet taken.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

use super::referenced::MeshFiles;
use super::{ObjectList, ObjectReader, Source, object_reader};
use crate::error::{Result, ThreadError};
use crate::pipeline::catch_panic;
use crate::store::NUM_REQUESTS;

/// Bound on the meshes that are read and not taken. A larger one is read alone.
const MAX_BYTES: u64 = 256 << 20;
/// And on their number.
const MAX_MESHES: usize = 256;

/// Reads meshes of a source in order, ahead of those who take them. Dropped, it stops; nobody waits for what is still read.
#[derive(Debug)]
pub(crate) struct ReadAhead(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    reader: Arc<dyn ObjectReader>,
    objects: Arc<ObjectList>,
    /// Objects to read, in their order.
    places: Vec<usize>,
    /// Whether rows show more than the meshes.
    reads_assets: bool,
    limit_bytes: u64,
    state: Mutex<State>,
    for_readers: Condvar,
    for_takers: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// The next mesh to read.
    next: usize,
    /// Lengths of all that are read or being read, and not taken, with what they refer to.
    num_bytes: u64,
    slots: BTreeMap<usize, Slot>,
    is_over: bool,
}

#[derive(Debug)]
enum Slot {
    Reading,
    Read(io::Result<MeshFiles>),
    /// Whoever takes it came first.
    Taken,
}

impl ReadAhead {
    /// Begins to read these objects of a source, in their order; with the files that they refer to if `reads_assets`.
    ///
    /// # Errors
    /// When no thread can be started.
    pub(crate) fn start(
        source: &Source,
        objects: &[usize],
        reads_assets: bool,
        limit_bytes: u64,
    ) -> Result<Self> {
        let shared = Arc::new(Shared {
            reader: Arc::clone(&source.reader),
            objects: Arc::clone(&source.objects),
            places: objects.to_vec(),
            reads_assets,
            limit_bytes,
            state: Mutex::default(),
            for_readers: Condvar::new(),
            for_takers: Condvar::new(),
        });
        let ahead = Self(shared);
        for num_started in 0..NUM_REQUESTS.min(objects.len()) {
            let shared = Arc::clone(&ahead.0);
            let started = thread::Builder::new()
                .name("read ahead".to_owned())
                .spawn(move || shared.read_all());
            match started {
                Ok(_) => {}
                Err(source) if num_started == 0 => {
                    return Err(ThreadError { requested: 1, source }.into());
                }
                Err(_) => break,
            }
        }
        Ok(ahead)
    }

    /// The mesh of the object at this place in the order.
    ///
    /// # Errors
    /// As [`ObjectReader::read`].
    pub(crate) fn take(&self, place: usize) -> io::Result<MeshFiles> {
        let shared = &self.0;
        let mut state = shared.lock();
        loop {
            match state.slots.get(&place) {
                None if place >= state.next => {
                    state.slots.insert(place, Slot::Taken);
                    drop(state);
                    return shared.read(place);
                }
                Some(Slot::Reading) => {
                    state = shared
                        .for_takers
                        .wait(state)
                        .unwrap_or_else(PoisonError::into_inner);
                }
                Some(Slot::Read(_)) => {
                    let Some(Slot::Read(read)) = state.slots.remove(&place) else {
                        unreachable!("it was there, and nobody else holds the lock");
                    };
                    state.num_bytes -= shared.held_bytes(place, &read);
                    drop(state);
                    shared.for_readers.notify_all();
                    return read;
                }
                // Taken before.
                None | Some(Slot::Taken) => {
                    drop(state);
                    return shared.read(place);
                }
            }
        }
    }
}

impl Drop for ReadAhead {
    fn drop(&mut self) {
        self.0.lock().is_over = true;
        self.0.for_readers.notify_all();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Length of a mesh, or the most that is allowed if it is not known.
    fn bytes(&self, place: usize) -> u64 {
        let bytes = self.objects.bytes(self.places[place]);
        bytes.unwrap_or(self.limit_bytes).min(self.limit_bytes)
    }

    /// The loop of a thread.
    fn read_all(&self) {
        while let Some(place) = self.next() {
            let read = catch_panic(|| self.read(place)).unwrap_or_else(|panic| Err(io::Error::other(panic)));
            let mut state = self.lock();
            state.num_bytes += self.held_bytes(place, &read) - self.bytes(place);
            state.slots.insert(place, Slot::Read(read));
            drop(state);
            self.for_takers.notify_all();
        }
    }

    /// The next mesh to read, when there is room for it; `None` at the end.
    fn next(&self) -> Option<usize> {
        let mut state = self.lock();
        loop {
            while state
                .slots
                .get(&state.next)
                .is_some_and(|slot| matches!(slot, Slot::Taken))
            {
                let place = state.next;
                state.slots.remove(&place);
                state.next += 1;
            }
            let place = state.next;
            if state.is_over || place >= self.places.len() {
                return None;
            }
            let bytes = self.bytes(place);
            let has_room = state.slots.len() < MAX_MESHES && state.num_bytes + bytes <= MAX_BYTES;
            if state.num_bytes == 0 || has_room {
                state.next += 1;
                state.num_bytes += bytes;
                state.slots.insert(place, Slot::Reading);
                return Some(place);
            }
            state = self
                .for_readers
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// What a mesh counts for until it is taken.
    fn held_bytes(&self, place: usize, read: &io::Result<MeshFiles>) -> u64 {
        let of_assets = read.as_ref().map_or(0, MeshFiles::num_asset_bytes);
        self.bytes(place) + of_assets
    }

    fn read(&self, place: usize) -> io::Result<MeshFiles> {
        let object = self.objects.get(self.places[place]);
        let path = object.path_on_disk();
        let bytes = object_reader::within(self.reader.read(path, self.limit_bytes)?, self.limit_bytes)?;
        Ok(if self.reads_assets {
            MeshFiles::with_assets(&*self.reader, path, bytes)
        } else {
            MeshFiles::alone(bytes)
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use std::path::{Path, PathBuf};
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use super::super::{ListedObject, ReadError};
    use super::*;
    use crate::schema::Split;

    /// Says how many are read at a time.
    #[derive(Debug, Default)]
    struct Slow {
        num_at_a_time: AtomicUsize,
        most: Arc<AtomicUsize>,
    }

    impl ObjectReader for Slow {
        fn read(&self, path: &Path, _: u64) -> Result<Vec<u8>, ReadError> {
            let num = self.num_at_a_time.fetch_add(1, Ordering::SeqCst) + 1;
            self.most.fetch_max(num, Ordering::SeqCst);
            thread::sleep(Duration::from_millis(2));
            self.num_at_a_time.fetch_sub(1, Ordering::SeqCst);
            match path.to_str() {
                Some("7.obj") => Err(io::Error::from(io::ErrorKind::NotFound).into()),
                Some("9.obj") => panic!("it has nine lives"),
                Some(name) => Ok(name.as_bytes().to_vec()),
                None => Ok(Vec::new()),
            }
        }
    }

    #[test]
    fn meshes_are_read_ahead_and_taken_in_any_order() {
        let most = Arc::new(AtomicUsize::new(0));
        let reader = Slow {
            most: Arc::clone(&most),
            ..Slow::default()
        };
        let object = |number: usize| ListedObject {
            category: "a".to_owned(),
            name: format!("{number:03}"),
            split: Split::Train,
            path: PathBuf::from(format!("{number}.obj")),
        };
        let source = Source::from_reader("own", (0..100).map(object), reader).unwrap();
        let objects: Vec<usize> = (0..100).collect();
        // Lengths are unknown: two of the limit are within the bound, and never more.
        for (limit_bytes, at_most) in [(MAX_BYTES / 2, 2), (1000, NUM_REQUESTS)] {
            most.store(0, Ordering::SeqCst);
            let ahead = ReadAhead::start(&source, &objects, false, limit_bytes).unwrap();
            for pair in objects.chunks(2) {
                for place in [pair[1], pair[0]] {
                    let read = ahead.take(place);
                    match place {
                        7 => assert_eq!(read.unwrap_err().kind(), io::ErrorKind::NotFound),
                        9 => assert!(read.is_err(), "a panic is an error of its mesh"),
                        place => assert_eq!(read.unwrap().bytes, format!("{place}.obj").as_bytes()),
                    }
                }
            }
            let most = most.load(Ordering::SeqCst);
            // One that is not yet read is read by whoever takes it.
            assert!((2..=at_most + 1).contains(&most), "{most} at a time");
            assert!(ahead.0.lock().slots.is_empty(), "nothing is left");
        }
    }

    #[test]
    fn what_is_not_taken_is_bounded_and_left() {
        let reader = Slow::default();
        let object = |number: usize| ListedObject {
            category: "a".to_owned(),
            name: number.to_string(),
            split: Split::Train,
            path: PathBuf::from(format!("x{number}.obj")),
        };
        let source = Source::from_reader("own", (0..1000).map(object), reader).unwrap();
        let objects: Vec<usize> = (0..1000).collect();
        let ahead = ReadAhead::start(&source, &objects, false, 1000).unwrap();
        thread::sleep(Duration::from_millis(200));
        let shared = Arc::clone(&ahead.0);
        assert!(shared.lock().slots.len() <= MAX_MESHES);
        drop(ahead);
        assert!(shared.lock().next <= MAX_MESHES + NUM_REQUESTS);
    }
}
