//! All files below a folder, each folder once, whatever links lead to it.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// File in a folder of rendered views, whose depth arrays would be taken for points.
pub(super) const VIEWS_FILE_NAME: &str = "views.json";
/// Names that systems and tools leave among files, in lower case; as hidden files they count for nothing.
const CLUTTER: [&str; 7] = [
    "$recycle.bin",
    "__macosx",
    "@eadir",
    "desktop.ini",
    "lost+found",
    "system volume information",
    "thumbs.db",
];

/// Whether an entry of this name counts for nothing: it is hidden, or systems and tools leave it behind.
pub(crate) fn is_clutter(name: &str) -> bool {
    name.starts_with('.') || CLUTTER.contains(&name.to_ascii_lowercase().as_str())
}

/// What [`walk`] finds; all paths begin with its folder.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Walk {
    /// Sorted. A dangling link counts as a file, and fails when it is read.
    pub(crate) files: Vec<PathBuf>,
    /// Folders that cannot be read.
    pub(crate) unreadable: Vec<PathBuf>,
    /// Links to folders outside, where links must stay inside; their files are not listed.
    pub(crate) outside: Vec<PathBuf>,
}

/// Where links to folders may lead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Links {
    /// Below the folder that is walked.
    Inside,
    /// Anywhere but to a folder above.
    Anywhere,
}

/// Finds the files below a folder for which `is_wanted`. Hidden files, clutter and folders of rendered views are passed
/// over. A folder that several links lead to is visited once: by its own name if it lies below, else by the first link.
///
/// # Errors
/// When the folder itself cannot be read.
pub(crate) fn walk(root: &Path, links: Links, is_wanted: &dyn Fn(&Path) -> bool) -> io::Result<Walk> {
    let canonical_root = root.canonicalize()?;
    fs::read_dir(root)?;
    let mut walker = Walker {
        is_wanted,
        visited: BTreeSet::new(),
        links: BTreeSet::new(),
        found: Walk::default(),
    };
    walker.visit(root, canonical_root.clone());
    while let Some(link) = walker.links.pop_first() {
        let Ok(target) = link.canonicalize() else {
            continue;
        };
        if links == Links::Inside && !target.starts_with(&canonical_root) {
            walker.found.outside.push(link);
        } else if !canonical_root.starts_with(&target) {
            walker.visit(&link, target);
        }
    }
    let mut found = walker.found;
    found.files.sort();
    found.unreadable.sort();
    found.outside.sort();
    Ok(found)
}

struct Walker<'a> {
    is_wanted: &'a dyn Fn(&Path) -> bool,
    /// Canonical paths.
    visited: BTreeSet<PathBuf>,
    /// Links to folders, which come after all folders of the place itself.
    links: BTreeSet<PathBuf>,
    found: Walk,
}

impl Walker<'_> {
    /// Visits a folder and those below it, of which only the names are kept in memory: depth is no recursion.
    fn visit(&mut self, folder: &Path, canonical: PathBuf) {
        let mut folders = vec![(folder.to_owned(), canonical)];
        while let Some((folder, canonical)) = folders.pop() {
            if !self.visited.insert(canonical.clone()) {
                continue;
            }
            let Ok(entries) = fs::read_dir(&folder).and_then(Iterator::collect::<io::Result<Vec<_>>>) else {
                self.found.unreadable.push(folder);
                continue;
            };
            if entries.iter().any(|entry| entry.file_name() == VIEWS_FILE_NAME) {
                continue;
            }
            for entry in entries {
                let name = entry.file_name();
                if is_clutter(&name.to_string_lossy()) {
                    continue;
                }
                let path = entry.path();
                let kind = entry.file_type();
                if kind.as_ref().is_ok_and(fs::FileType::is_dir) {
                    folders.push((path, canonical.join(name)));
                } else if kind.is_ok_and(|kind| kind.is_symlink()) && path.is_dir() {
                    self.links.insert(path);
                } else if (self.is_wanted)(&path) {
                    self.found.files.push(path);
                }
            }
        }
    }
}

#[cfg(all(test, unix))]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use std::os::unix::fs::symlink;

    use super::*;

    fn names(root: &Path, links: Links) -> Vec<String> {
        let found = walk(root, links, &|path| path.extension().is_some()).unwrap();
        let name = |path: &PathBuf| path.strip_prefix(root).unwrap().to_string_lossy().into_owned();
        found.files.iter().map(name).collect()
    }

    #[test]
    fn folders_are_visited_once_whatever_links_lead_to_them() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("root");
        for path in [
            "root/a/x.obj",
            "root/b/y.obj",
            "root/.git/z.obj",
            "root/__MACOSX/a/._x.obj",
            "else/w.obj",
        ] {
            fs::create_dir_all(dir.path().join(path).parent().unwrap()).unwrap();
            fs::write(dir.path().join(path), "").unwrap();
        }
        for (target, link) in [("b", "a/to_b"), ("a", "b/to_a"), (".", "a/up")] {
            symlink(root.join(target), root.join(link)).unwrap();
        }
        symlink(dir.path(), root.join("above")).unwrap();
        symlink(dir.path().join("else"), root.join("c")).unwrap();
        assert_eq!(names(&root, Links::Inside), ["a/x.obj", "b/y.obj"]);
        assert_eq!(names(&root, Links::Anywhere), ["a/x.obj", "b/y.obj", "c/w.obj"]);
        let found = walk(&root, Links::Inside, &|_| true).unwrap();
        assert_eq!(found.outside, [root.join("above"), root.join("c")]);
    }

    #[test]
    fn rendered_views_are_no_meshes() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("chair")).unwrap();
        for name in ["chair/views.json", "chair/view_001_depth.npy", "a.obj"] {
            fs::write(dir.path().join(name), "").unwrap();
        }
        assert_eq!(names(dir.path(), Links::Anywhere), ["a.obj"]);
    }
}
