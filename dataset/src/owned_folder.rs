//! Folders that may be emptied: those that hold nothing but what this program wrote.
//!
//! `--force` never removes a folder as a whole. The folder is surveyed first: every entry must be one that a run, a
//! build or a render writes, by a list of path patterns. Only then are these entries removed, one by one, so that a file
//! that appears in between survives.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::atomic_file::{self, complete_name};
use crate::error::{DatasetError, Result, StoreError};
use crate::folder_lock::{LOCK_FILE_NAME, refuse_held};
use crate::store::is_url;

/// Entries that are in the way and named in a message; of the others only the number is given.
const MAX_NAMED: usize = 4;

/// The files of a training run, for the trainer and for those whose folders hold runs.
pub const RUN_FILES: [&str; 16] = [
    LOCK_FILE_NAME,
    "config.toml",
    "request.toml",
    "metrics.jsonl",
    "result.json",
    "encoder.safetensors",
    "model.safetensors",
    "best.safetensors",
    "confusion.csv",
    "confusion.png",
    "events/events.out.tfevents.*",
    "samples/*.png",
    "checkpoints/step-#/*.safetensors",
    "checkpoints/step-#/*.json",
    "non-finite-#/*.safetensors",
    "non-finite-#/*.json",
];

/// A folder of which every entry is one that this program writes.
#[derive(Debug)]
pub struct OwnedFolder {
    path: PathBuf,
    /// Relative to it.
    files: Vec<PathBuf>,
    /// Relative to it; a folder comes before those in it.
    folders: Vec<PathBuf>,
}

impl OwnedFolder {
    /// Looks through a folder, which may be absent, and changes nothing. Files must match one of the patterns: paths
    /// relative to the folder, where `*` stands for one or more characters of a name and `#` for one or more digits. Any
    /// name may also end in `.partial`, as what is half-written does. Links are never ours.
    ///
    /// # Errors
    /// When anything else is there (the first few are named), when the folder is a link, when the lock of a folder within
    /// it is held (its own is for the caller to take), or when it can't be read.
    pub fn survey(path: &Path, patterns: &[impl AsRef<str>]) -> Result<Self> {
        refuse_link(path)?;
        let patterns: Vec<Vec<&str>> = patterns
            .iter()
            .map(|pattern| pattern.as_ref().split('/').collect())
            .collect();
        let mut owned = Self {
            path: path.to_owned(),
            files: Vec::new(),
            folders: Vec::new(),
        };
        let mut foreign = Vec::new();
        owned.descend(Path::new(""), &patterns, &mut foreign)?;
        refuse_foreign(path, foreign)?;
        for file in &owned.files {
            if let Some(folder) = file.parent().filter(|_| file.ends_with(LOCK_FILE_NAME))
                && !folder.as_os_str().is_empty()
            {
                refuse_held(&path.join(folder))?;
            }
        }
        Ok(owned)
    }

    fn descend(&mut self, below: &Path, patterns: &[Vec<&str>], foreign: &mut Vec<String>) -> Result<()> {
        let folder = self.path.join(below);
        let refused = |e| DatasetError::io("read the folder", &folder)(e);
        let entries = match fs::read_dir(&folder) {
            Err(e) if e.kind() == io::ErrorKind::NotFound && below.as_os_str().is_empty() => return Ok(()),
            entries => entries.map_err(refused)?,
        };
        let mut entries = entries.collect::<io::Result<Vec<_>>>().map_err(refused)?;
        entries.sort_by_key(fs::DirEntry::file_name);
        for entry in entries {
            let path = below.join(entry.file_name());
            let kind = entry.file_type().map_err(refused)?;
            let names: Option<Vec<&str>> = path.iter().map(|name| name.to_str()).collect();
            let matches = |is_whole: bool| {
                names.as_ref().is_some_and(|names| {
                    let mut patterns = patterns.iter();
                    patterns.any(|pattern| {
                        (if is_whole {
                            pattern.len() == names.len()
                        } else {
                            pattern.len() > names.len()
                        }) && names.iter().zip(pattern).all(|(name, part)| is_like(name, part))
                    })
                })
            };
            if kind.is_dir() && matches(false) {
                self.folders.push(path.clone());
                self.descend(&path, patterns, foreign)?;
            } else if kind.is_file() && matches(true) {
                self.files.push(path);
            } else {
                let slash = if kind.is_dir() { "/" } else { "" };
                foreign.push(format!("{}{slash}", path.display()));
            }
        }
        Ok(())
    }

    /// The folder.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Removes what was found, and nothing that came since. The folder itself and its lock stay.
    ///
    /// # Errors
    /// When something can't be removed, or when a folder isn't empty then.
    pub fn remove_contents(self) -> Result<()> {
        for file in self
            .files
            .iter()
            .filter(|file| *file != Path::new(LOCK_FILE_NAME))
        {
            let path = self.path.join(file);
            fs::remove_file(&path).map_err(DatasetError::io("remove", &path))?;
        }
        for folder in self.folders.iter().rev() {
            let path = self.path.join(folder);
            fs::remove_dir(&path).map_err(DatasetError::io("remove the folder", &path))?;
        }
        if self.path.is_dir() {
            atomic_file::sync_dir(&self.path).map_err(DatasetError::io("sync", &self.path))?;
        }
        Ok(())
    }
}

/// Is a name like a part of a pattern?
fn is_like(name: &str, part: &str) -> bool {
    fn matches(name: &[u8], part: &[u8]) -> bool {
        match part {
            [] => name.is_empty(),
            [wildcard @ (b'*' | b'#'), rest @ ..] => {
                let fits = |byte: &u8| *wildcard == b'*' || byte.is_ascii_digit();
                let longest = name.iter().take_while(|byte| fits(byte)).count();
                (1..=longest).any(|length| matches(&name[length..], rest))
            }
            [byte, rest @ ..] => name.first() == Some(byte) && matches(&name[1..], rest),
        }
    }
    let whole = complete_name(name).unwrap_or(name);
    matches(whole.as_bytes(), part.as_bytes())
}

/// Refuses a folder for what else lies in it.
pub(crate) fn refuse_foreign(dir: &Path, foreign: Vec<String>) -> Result<()> {
    if foreign.is_empty() {
        return Ok(());
    }
    let num_more = foreign.len().saturating_sub(MAX_NAMED);
    let mut names = foreign.into_iter().take(MAX_NAMED).collect::<Vec<_>>().join(", ");
    if num_more > 0 {
        names = format!("{names} and {num_more} more");
    }
    Err(DatasetError::Store(StoreError::NotOurs {
        what: format!("it holds {names}"),
        path: dir.to_owned(),
    }))
}

/// Refuses an output that is a link: what it leads to has an owner elsewhere.
///
/// # Errors
/// When it is one.
pub fn refuse_link(out: &Path) -> Result<()> {
    // With a slash at its end a path names what the link leads to.
    let named: PathBuf = out.components().collect();
    match fs::symlink_metadata(named) {
        Ok(metadata) if metadata.is_symlink() => Err(DatasetError::Store(StoreError::NotOurs {
            what: "it is a symbolic link".to_owned(),
            path: out.to_owned(),
        })),
        _ => Ok(()),
    }
}

/// Refuses to replace `out` where an input is the same or lies in it, whatever links and `..` their paths have.
///
/// # Errors
/// When one does.
pub fn refuse_inputs<'a>(out: &Path, inputs: impl IntoIterator<Item = &'a Path>) -> Result<()> {
    // Addresses of object stores have no other name.
    let real = |path: &Path| {
        if is_url(path) {
            Some(path.to_owned())
        } else {
            path.canonicalize().ok()
        }
    };
    let Some(real_out) = real(out) else {
        return Ok(());
    };
    match inputs
        .into_iter()
        .find(|input| real(input).is_some_and(|input| input.starts_with(&real_out)))
    {
        Some(input) => Err(DatasetError::Store(StoreError::HoldsInput {
            input: input.to_owned(),
            path: out.to_owned(),
        })),
        None => Ok(()),
    }
}

/// Refuses to replace a file unless it is absent, or a regular file that `is_ours` knows by its content.
///
/// # Errors
/// When it is anything else.
pub fn refuse_foreign_file(file: &Path, is_ours: impl FnOnce(&Path) -> bool) -> Result<()> {
    let what = match fs::symlink_metadata(file) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(DatasetError::io("look at", file)(e)),
        Ok(metadata) if metadata.is_symlink() => "it is a symbolic link",
        Ok(metadata) if metadata.is_dir() => "it is a folder",
        Ok(metadata) if !metadata.is_file() => "it is no regular file",
        Ok(_) if is_ours(file) => return Ok(()),
        Ok(_) => "its content is not of this program",
    };
    Err(DatasetError::Store(StoreError::NotOurs {
        what: what.to_owned(),
        path: file.to_owned(),
    }))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;
    use crate::FolderLock;

    fn write(dir: &Path, name: &str) {
        let path = dir.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, name).unwrap();
    }

    #[test]
    fn names_are_matched_by_patterns() {
        for (name, part, is_match) in [
            ("config.toml", "config.toml", true),
            ("config.toml.partial", "config.toml", true),
            ("config_toml", "config.toml", false),
            ("step-0000000005", "step-#", true),
            ("step-0000000005.partial", "step-#", true),
            ("step-", "step-#", false),
            ("step-5a", "step-#", false),
            ("train-00000-of-00010.parquet", "train-#-of-#.parquet", true),
            (".png", "*.png", false),
            ("a.png.png", "*.png", true),
        ] {
            assert_eq!(is_like(name, part), is_match, "{name} {part}");
        }
    }

    #[test]
    fn only_known_entries_are_removed_and_others_are_named() {
        let dir = tempfile::tempdir().unwrap();
        let run = dir.path().join("run");
        OwnedFolder::survey(&run, &RUN_FILES)
            .unwrap()
            .remove_contents()
            .unwrap();
        for name in [
            "config.toml",
            "samples/final.png",
            "checkpoints/step-0000000003.partial/model.safetensors.partial",
        ] {
            write(&run, name);
        }
        let surveyed = OwnedFolder::survey(&run, &RUN_FILES).unwrap();
        write(&run, "samples/mine.txt");
        let refused = OwnedFolder::survey(&run, &RUN_FILES).unwrap_err().to_string();
        assert!(refused.contains("samples/mine.txt"), "{refused}");
        surveyed.remove_contents().unwrap_err();
        assert!(
            run.join("samples/mine.txt").is_file(),
            "what came after the survey stays"
        );
        assert!(!run.join("config.toml").exists(), "what was surveyed is gone");
    }

    #[test]
    fn a_folder_whose_lock_is_held_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let inner = dir.path().join("pretrain");
        write(&inner, "config.toml");
        let patterns = ["pretrain/config.toml", "pretrain/.lock"];
        let lock = FolderLock::take(&inner, "run").unwrap();
        let refused = OwnedFolder::survey(dir.path(), &patterns)
            .unwrap_err()
            .to_string();
        assert!(refused.contains(&std::process::id().to_string()), "{refused}");
        drop(lock);
        OwnedFolder::survey(dir.path(), &patterns).unwrap();
    }

    #[cfg(unix)]
    #[test]
    fn inputs_are_found_behind_links() {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), "out/data/a");
        let link = dir.path().join("link");
        std::os::unix::fs::symlink(dir.path().join("out/data"), &link).unwrap();
        let out = dir.path().join("out/../out");
        assert!(refuse_inputs(&out, [link.as_path()]).is_err(), "a link into it");
        assert!(refuse_inputs(&out, [out.as_path()]).is_err(), "itself");
        refuse_inputs(&dir.path().join("out/data"), [out.as_path()]).unwrap();
        refuse_inputs(&dir.path().join("ou"), [out.as_path()]).unwrap();
        assert!(refuse_link(&link).is_err(), "a link is no folder of ours");
        assert!(
            refuse_link(&link.join("")).is_err(),
            "nor with a slash at its end"
        );
        write(dir.path(), "run/config.toml");
        std::os::unix::fs::symlink(dir.path().join("out"), dir.path().join("run/samples")).unwrap();
        let refused = OwnedFolder::survey(&dir.path().join("run"), &RUN_FILES).unwrap_err();
        assert!(refused.to_string().contains("samples"), "{refused}");
        let file = dir.path().join("f");
        refuse_foreign_file(&file, |_| false).unwrap();
        write(dir.path(), "f");
        refuse_foreign_file(&file, |_| true).unwrap();
        assert!(refuse_foreign_file(&file, |_| false).is_err(), "other content");
        assert!(refuse_foreign_file(&link, |_| true).is_err(), "a link");
    }
}
