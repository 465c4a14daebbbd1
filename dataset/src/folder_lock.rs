//! [`FolderLock`]: one process at a time works in a folder; its file also marks the folder as ours.
//!
//! The file `.lock` is locked (`flock` on Unix) as long as the process lives, and says who holds it. It stays behind: a
//! lock that nobody holds any more is no hindrance, and its content is one that only this program writes.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use crate::error::{DatasetError, Result, StoreError};
use crate::local_file::read_bounded;
use crate::store::{LOCK_POLL_INTERVAL, LOCK_TIMEOUT};

/// The name of the file; hidden, so that readers of folders pass it over.
pub const LOCK_FILE_NAME: &str = ".lock";
/// Which program locks in this way.
const WRITER: &str = "tap";
/// The version of the file.
const FORMAT_VERSION: u32 = 1;
/// No such file is longer.
const MAX_BYTES: u64 = 4096;

/// What the file says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Holder {
    written_by: String,
    format_version: u32,
    /// What the folder is: `run`, `comparison`, `demo`.
    kind: String,
    pid: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    host: Option<String>,
    started_unix_s: u64,
}

impl Holder {
    fn new(kind: &str) -> Self {
        Self {
            written_by: WRITER.to_owned(),
            format_version: FORMAT_VERSION,
            kind: kind.to_owned(),
            pid: std::process::id(),
            host: host(),
            started_unix_s: unix_s(),
        }
    }

    fn read(dir: &Path) -> Option<Self> {
        let bytes = read_bounded(&dir.join(LOCK_FILE_NAME), MAX_BYTES).ok()?;
        let holder: Self = serde_json::from_slice(&bytes).ok()?;
        (holder.written_by == WRITER).then_some(holder)
    }
}

fn unix_s() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |time| time.as_secs())
}

/// The machine's name, where the system has a file of it.
fn host() -> Option<String> {
    let name = fs::read_to_string("/proc/sys/kernel/hostname").ok()?;
    Some(name.trim().to_owned()).filter(|name| !name.is_empty())
}

/// What kind of folder the lock in it says that it is, whether anybody holds it or not; `None` without one of ours.
#[must_use]
pub fn locked_kind(dir: &Path) -> Option<String> {
    Holder::read(dir).map(|holder| holder.kind)
}

/// The right to write to a folder, until dropped.
#[derive(Debug)]
pub struct FolderLock {
    dir: PathBuf,
    /// `None` where the file system has no locks.
    file: Option<File>,
    /// The outermost folder that was made for it.
    made: Option<PathBuf>,
}

impl FolderLock {
    /// Takes the right to a folder, which is made where it has to be; waits a moment for a process that was just killed.
    ///
    /// # Errors
    /// When another process holds it, when the folder holds a `.lock` of somebody else's, or when it can't be written.
    pub fn take(dir: &Path, kind: &str) -> Result<Self> {
        let path = dir.join(LOCK_FILE_NAME);
        if !is_absent_or_ours(dir) {
            return Err(DatasetError::Store(StoreError::NotOurs {
                what: format!("its {LOCK_FILE_NAME} is another program's"),
                path: dir.to_owned(),
            }));
        }
        let absent = dir
            .ancestors()
            .take_while(|folder| !folder.as_os_str().is_empty() && fs::symlink_metadata(folder).is_err());
        let made = absent.last().map(Path::to_owned);
        fs::create_dir_all(dir).map_err(DatasetError::io("create the folder", dir))?;
        let mut lock = Self {
            dir: dir.to_owned(),
            file: None,
            made,
        };
        let refused = |e| DatasetError::io("lock", &path)(e);
        let deadline = Instant::now() + LOCK_TIMEOUT;
        loop {
            let file = OpenOptions::new()
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                .open(&path)
                .map_err(refused)?;
            match file.try_lock() {
                Ok(()) if is_same_file(&file, &path) => {
                    let file = lock.file.insert(file);
                    write(file, kind).map_err(refused)?;
                    return Ok(lock);
                }
                // It was removed by its last holder in between.
                Ok(()) => {}
                // File systems without locks exist.
                Err(TryLockError::Error(_)) => {
                    let mut file = file;
                    write(&mut file, kind).map_err(refused)?;
                    return Ok(lock);
                }
                Err(TryLockError::WouldBlock) if Instant::now() < deadline => {
                    thread::sleep(LOCK_POLL_INTERVAL);
                }
                Err(TryLockError::WouldBlock) => {
                    // The folder is its holder's.
                    lock.made = None;
                    return Err(held(dir));
                }
            }
        }
    }
}

impl Drop for FolderLock {
    /// A folder in which nothing was begun is left as it was.
    fn drop(&mut self) {
        let is_alone = fs::read_dir(&self.dir)
            .is_ok_and(|entries| entries.flatten().all(|entry| entry.file_name() == LOCK_FILE_NAME));
        if self.file.is_none() || !is_alone {
            return;
        }
        // What can't be removed is no hindrance to the next one.
        let _ = fs::remove_file(self.dir.join(LOCK_FILE_NAME));
        if let Some(made) = &self.made {
            for folder in self.dir.ancestors().take_while(|folder| folder.starts_with(made)) {
                if fs::remove_dir(folder).is_err() {
                    break;
                }
            }
        }
    }
}

/// Does a process hold the lock of a folder? Nothing is written.
#[must_use]
pub fn is_folder_held(dir: &Path) -> bool {
    refuse_held(dir).is_err()
}

/// Refuses a folder whose lock is held. Nothing is written.
pub(crate) fn refuse_held(dir: &Path) -> Result<()> {
    let Ok(file) = File::open(dir.join(LOCK_FILE_NAME)) else {
        return Ok(());
    };
    match file.try_lock_shared() {
        Err(TryLockError::WouldBlock) => Err(held(dir)),
        _ => Ok(()),
    }
}

/// Is there no lock file, an empty one that a kill left, or one of ours?
fn is_absent_or_ours(dir: &Path) -> bool {
    match fs::symlink_metadata(dir.join(LOCK_FILE_NAME)) {
        Err(_) => true,
        Ok(metadata) => metadata.is_file() && (metadata.len() == 0 || Holder::read(dir).is_some()),
    }
}

fn held(dir: &Path) -> DatasetError {
    let holder = Holder::read(dir);
    let kind = holder
        .as_ref()
        .map_or("run", |holder| holder.kind.as_str())
        .to_owned();
    let holder = holder.map_or_else(
        || "by another process".to_owned(),
        |Holder {
             pid,
             host,
             started_unix_s,
             ..
         }| {
            let host = host.map(|host| format!(" on {host}")).unwrap_or_default();
            let since_s = unix_s().saturating_sub(started_unix_s);
            format!("pid {pid}{host}, begun {since_s} s ago")
        },
    );
    DatasetError::Store(StoreError::Held {
        kind,
        holder,
        path: dir.to_owned(),
    })
}

fn write(file: &mut File, kind: &str) -> io::Result<()> {
    let mut json = serde_json::to_vec(&Holder::new(kind))?;
    json.push(b'\n');
    // Nothing of an old content may be lost before it is known to be ours.
    let mut old = String::new();
    file.take(MAX_BYTES).read_to_string(&mut old)?;
    if !old.is_empty() && serde_json::from_str::<Holder>(&old).is_err() {
        return Err(io::Error::other("the file is another program's"));
    }
    let written = overwrite(file, &json);
    if written.is_err() {
        // The disk is full: the old content, which had its place, still marks the folder.
        let _ = overwrite(file, old.as_bytes());
    }
    written
}

/// Writes over the content of a file, which keeps its place on the disk.
fn overwrite(file: &mut File, bytes: &[u8]) -> io::Result<()> {
    file.rewind()?;
    file.write_all(bytes)?;
    file.set_len(bytes.len() as u64)?;
    file.sync_all()
}

/// Is the open file still the one of that name?
fn is_same_file(file: &File, path: &Path) -> bool {
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt;
        let place = |metadata: fs::Metadata| (metadata.dev(), metadata.ino());
        let open = file.metadata().map(place);
        let named = fs::symlink_metadata(path).map(place);
        matches!((open, named), (Ok(open), Ok(named)) if open == named)
    }
    #[cfg(not(unix))]
    {
        let _ = (file, path);
        true
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    #[test]
    fn a_folder_has_one_holder_who_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let run = dir.path().join("runs/a");
        let lock = FolderLock::take(&run, "run").unwrap();
        let refused = FolderLock::take(&run, "run").unwrap_err().to_string();
        let pid = format!("pid {}", std::process::id());
        assert!(refused.contains(&pid) && refused.contains("runs/a"), "{refused}");
        fs::write(run.join("config.toml"), "").unwrap();
        drop(lock);
        assert_eq!(locked_kind(&run).as_deref(), Some("run"), "the mark stays");
        FolderLock::take(&run, "run").unwrap();
    }

    #[test]
    fn a_folder_in_which_nothing_was_begun_is_left_as_it_was() {
        let dir = tempfile::tempdir().unwrap();
        drop(FolderLock::take(&dir.path().join("runs/a"), "run").unwrap());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0, "made and removed");
        drop(FolderLock::take(dir.path(), "run").unwrap());
        assert_eq!(
            fs::read_dir(dir.path()).unwrap().count(),
            0,
            "it was there, and stays"
        );
    }

    #[test]
    fn a_lock_of_another_program_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(LOCK_FILE_NAME);
        fs::write(&path, "mine").unwrap();
        FolderLock::take(dir.path(), "run").unwrap_err();
        assert_eq!(fs::read(&path).unwrap(), b"mine");
        fs::write(&path, "").unwrap();
        FolderLock::take(dir.path(), "run").unwrap();
    }
}
