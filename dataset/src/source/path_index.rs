//! [`PathIndex`]: the files of an archive or of a store, which know no folders, by their paths as a tree.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::path::{Path, PathBuf};

use super::walk::is_clutter;
use super::{DirEntry, slash_path};

/// What follows the slash in the order of bytes.
const AFTER_SLASH: char = '0';

/// Files by path, with slashes.
#[derive(Debug, Clone)]
pub(super) struct PathIndex<T> {
    files: BTreeMap<String, T>,
}

impl<T> Default for PathIndex<T> {
    fn default() -> Self {
        Self {
            files: BTreeMap::new(),
        }
    }
}

impl<T> PathIndex<T> {
    /// Adds a file; of duplicates the first stays.
    pub(super) fn insert(&mut self, path: String, file: T) {
        self.files.entry(path).or_insert(file);
    }

    pub(super) fn get(&self, path: &Path) -> Option<&T> {
        self.files.get(&slash_path(path))
    }

    /// All files, sorted by the bytes of their paths.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, &T)> {
        self.files.iter().map(|(path, file)| (path.as_str(), file))
    }

    /// The files below a folder, by their paths in it.
    fn below(&self, dir: &Path) -> impl Iterator<Item = &str> {
        let prefix = prefix_of(dir);
        let num = prefix.len();
        self.files
            .range(prefix.clone()..)
            .map(|(path, _)| path.as_str())
            .take_while(move |path| path.starts_with(&prefix))
            .map(move |path| &path[num..])
    }

    pub(super) fn is_dir(&self, dir: &Path) -> bool {
        self.below(dir).next().is_some()
    }

    /// Entries of a folder, sorted by name, without hidden ones and clutter. Of a folder in it one file is looked at.
    pub(super) fn entries(&self, dir: &Path) -> Vec<DirEntry> {
        let prefix = prefix_of(dir);
        let mut entries: BTreeMap<&str, bool> = BTreeMap::new();
        let mut from = Bound::Included(prefix.clone());
        while let Some((path, _)) = self.files.range((from, Bound::Unbounded)).next() {
            let Some(rest) = path.strip_prefix(&prefix) else {
                break;
            };
            let (name, is_dir) = match rest.split_once('/') {
                Some((name, _)) => (name, true),
                None => (rest, false),
            };
            from = if is_dir {
                Bound::Included(format!("{prefix}{name}{AFTER_SLASH}"))
            } else {
                Bound::Excluded(path.clone())
            };
            if !is_clutter(name) {
                *entries.entry(name).or_default() |= is_dir;
            }
        }
        let entry = |(name, is_dir): (&str, bool)| DirEntry {
            name: name.to_owned(),
            is_dir,
        };
        entries.into_iter().map(entry).collect()
    }

    /// The files of a folder, at most `max_depth` folders deep in it, by their paths in it, without hidden ones and clutter.
    pub(super) fn walk(&self, dir: &Path, max_depth: usize) -> Vec<PathBuf> {
        let is_visible = |path: &&str| {
            let names = || path.split('/');
            names().count() <= max_depth.saturating_add(1) && !names().any(is_clutter)
        };
        self.below(dir).filter(is_visible).map(PathBuf::from).collect()
    }

    /// Makes a folder the root. Files beside it stay where they are.
    pub(super) fn enter(&mut self, folder: &Path) {
        let prefix = prefix_of(folder);
        let files = std::mem::take(&mut self.files);
        let (within, beside): (Vec<_>, Vec<_>) =
            files.into_iter().partition(|(path, _)| path.starts_with(&prefix));
        let strip = |(path, file): (String, T)| (path[prefix.len()..].to_owned(), file);
        self.files = within.into_iter().map(strip).collect();
        for (path, file) in beside {
            self.insert(path, file);
        }
    }
}

/// What the paths below a folder begin with.
fn prefix_of(dir: &Path) -> String {
    match slash_path(dir) {
        root if root.is_empty() => root,
        dir => dir + "/",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_a_tree() {
        let mut index = PathIndex::default();
        let paths = [
            "a",
            "a-b/x.obj",
            "a/b/c.obj",
            "a/d.obj",
            "a/b.txt",
            "a/.git/e.obj",
            "f.obj",
            "a0.obj",
        ];
        for (number, path) in paths.into_iter().enumerate() {
            index.insert(path.to_owned(), number);
        }
        index.insert("f.obj".to_owned(), 99);
        assert_eq!(index.get(Path::new("f.obj")), Some(&6), "the first of two");
        let entries = |dir: &str| {
            let entries = index.entries(Path::new(dir)).into_iter();
            entries
                .map(|entry| (entry.name, entry.is_dir))
                .collect::<Vec<_>>()
        };
        let named = |names: &[(&str, bool)]| -> Vec<(String, bool)> {
            names
                .iter()
                .map(|&(name, is_dir)| (name.to_owned(), is_dir))
                .collect()
        };
        assert_eq!(
            entries(""),
            named(&[("a", true), ("a-b", true), ("a0.obj", false), ("f.obj", false)])
        );
        assert_eq!(
            entries("a"),
            named(&[("b", true), ("b.txt", false), ("d.obj", false)])
        );
        assert_eq!(entries("f.obj"), []);
        assert!(index.is_dir(Path::new("a/b")) && !index.is_dir(Path::new("a/b.txt")));
        let walk = |dir: &str, depth| index.walk(Path::new(dir), depth);
        assert_eq!(walk("a", 0), [Path::new("b.txt"), Path::new("d.obj")]);
        assert_eq!(walk("a", usize::MAX).len(), 3);
        assert_eq!(
            walk("", 0),
            [Path::new("a"), Path::new("a0.obj"), Path::new("f.obj")]
        );
        index.enter(Path::new("a"));
        assert_eq!(index.get(Path::new("b/c.obj")), Some(&2));
        assert_eq!(index.get(Path::new("f.obj")), Some(&6));
    }
}
