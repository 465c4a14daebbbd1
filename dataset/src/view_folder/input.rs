//! Finds meshes: files, folders, glob patterns and lists; and names the folder of views of each.
//!
//! Names depend on the request alone: the file stem where files are given one by one and no two stems are equal, else
//! the path below a common folder without its extension.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::{self, Read};
use std::path::{Component, Path, PathBuf};

use tap_render::import::MeshFormat;

use super::error::{Result, ViewFolderError};
use super::glob;
use crate::source::{Links, Walk, is_readable, is_unreadable, stem, walk};
use crate::store::is_url;

/// A mesh to render, or a folder of views to relight.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Input {
    /// Mesh file or folder of views.
    pub path: PathBuf,
    /// Folder of the files that a mesh may refer to.
    ///
    /// If it is the mesh's own, the folders for textures beside it count too: `images`, `textures` and the like.
    pub root: PathBuf,
    /// Folder of its views, relative to the output folder.
    pub name: PathBuf,
}

/// Which meshes to find.
#[derive(Debug)]
pub struct Request<'a> {
    /// Files, folders, patterns; `-` is the list on stdin.
    pub meshes: &'a [PathBuf],
    /// A file with one path per line; `-` is stdin.
    pub list: Option<&'a Path>,
    /// Folder that names are relative to, and that textures may be in.
    pub root: Option<&'a Path>,
}

/// What a search has to say besides its result.
#[derive(Debug)]
#[non_exhaustive]
pub enum SearchNote<'a> {
    /// A folder of the request has no mesh.
    Empty(&'a Path),
    /// A file of a folder is a mesh in a known format that cannot be read; it is left out.
    Unreadable(&'a Path),
}

/// Receives notes of a search.
type OnNote<'a> = dyn FnMut(SearchNote<'_>) + 'a;

/// A file, and the folder in which it was searched for.
struct Found {
    path: PathBuf,
    below: Option<PathBuf>,
}

/// Finds meshes in the order of the request; within a folder they are sorted. Calls `on_note` for what is left
/// out.
///
/// # Errors
/// When a list or a folder cannot be read, when nothing is found, or when two meshes would share a folder.
pub fn find_meshes(
    request: &Request<'_>,
    stdin: &mut dyn Read,
    on_note: &mut OnNote<'_>,
) -> Result<Vec<Input>> {
    let mut found = Vec::new();
    let mut has_list = false;
    for path in request.meshes {
        if path == Path::new("-") {
            has_list = true;
            add_list(path, stdin, &mut found, on_note)?;
        } else if glob::is_pattern(path.as_os_str()) && !path.exists() {
            add_pattern(path, &mut found, on_note)?;
        } else {
            add(path, &mut found, on_note)?;
        }
    }
    if let Some(list) = request.list {
        has_list = true;
        add_list(list, stdin, &mut found, on_note)?;
    }
    let mut seen = BTreeSet::new();
    found.retain(|found| seen.insert(lexical(&found.path)));
    if found.is_empty() {
        return Err(ViewFolderError::NoMesh {
            extensions: extensions(),
        });
    }
    let root = request.root.map(lexical);
    let names = name(&found, root.as_deref(), has_list)?;
    let inputs = found.into_iter().zip(names).map(|(found, name)| {
        let folder = found.path.parent().map(Path::to_owned).unwrap_or_default();
        Input {
            root: request.root.map(Path::to_owned).or(found.below).unwrap_or(folder),
            path: found.path,
            name,
        }
    });
    Ok(inputs.collect())
}

/// File extensions of meshes, for messages.
pub(super) fn extensions() -> String {
    MeshFormat::EXTENSIONS.join(", ").to_uppercase()
}

/// Adds all meshes of a folder, or a file whatever its name.
fn add(path: &Path, found: &mut Vec<Found>, on_note: &mut OnNote<'_>) -> Result<()> {
    if is_url(path) {
        return Err(ViewFolderError::Address {
            path: path.to_owned(),
        });
    }
    if !path.is_dir() {
        found.push(Found {
            path: path.to_owned(),
            below: None,
        });
        return Ok(());
    }
    let num_before = found.len();
    search(path, path, found, on_note).map_err(ViewFolderError::io("read the folder", path))?;
    if found.len() == num_before {
        on_note(SearchNote::Empty(path));
    }
    Ok(())
}

fn add_pattern(pattern: &Path, found: &mut Vec<Found>, on_note: &mut OnNote<'_>) -> Result<()> {
    let (base, paths) = glob::expand(pattern);
    let num_before = found.len();
    for path in paths {
        if path.is_dir() {
            search(&path, &base, found, on_note).map_err(ViewFolderError::io("read the folder", &path))?;
        } else if is_readable(&path) {
            found.push(Found {
                path,
                below: Some(base.clone()),
            });
        }
    }
    if found.len() == num_before {
        return Err(ViewFolderError::NoMatch {
            pattern: pattern.to_owned(),
        });
    }
    Ok(())
}

/// Adds the paths of a list, one per line. The bytes of a line are the path, without a carriage return at the end; a byte
/// order mark is ignored.
fn add_list(
    list: &Path,
    stdin: &mut dyn Read,
    found: &mut Vec<Found>,
    on_note: &mut OnNote<'_>,
) -> Result<()> {
    let mut bytes = Vec::new();
    if list == Path::new("-") {
        stdin
            .read_to_end(&mut bytes)
            .map_err(ViewFolderError::io("read the list from", Path::new("stdin")))?;
    } else {
        bytes = fs::read(list).map_err(ViewFolderError::io("read the list", list))?;
    }
    for path in paths_of_lines(&bytes) {
        add(&path, found, on_note)?;
    }
    Ok(())
}

fn paths_of_lines(bytes: &[u8]) -> Vec<PathBuf> {
    let bytes = bytes.strip_prefix("\u{feff}".as_bytes()).unwrap_or(bytes);
    let lines = bytes.split(|byte| *byte == b'\n');
    lines
        .map(|line| line.strip_suffix(b"\r").unwrap_or(line))
        .filter(|line| !line.trim_ascii().is_empty())
        .map(|line| PathBuf::from(os_string(line)))
        .collect()
}

#[cfg(unix)]
fn os_string(bytes: &[u8]) -> OsString {
    std::os::unix::ffi::OsStringExt::from_vec(bytes.to_vec())
}

#[cfg(not(unix))]
fn os_string(bytes: &[u8]) -> OsString {
    String::from_utf8_lossy(bytes).into_owned().into()
}

/// Finds all meshes below a folder, sorted by path. A folder that cannot be read is itself found, in place of its meshes:
/// it becomes a failed input, since nobody knows how many meshes are lost with it.
fn search(folder: &Path, below: &Path, found: &mut Vec<Found>, on_note: &mut OnNote<'_>) -> io::Result<()> {
    let Walk {
        files: mut paths,
        unreadable,
        outside: _,
    } = walk(folder, Links::Anywhere, &|path| {
        is_readable(path) || is_unreadable(path)
    })?;
    paths.retain(|path| {
        if is_unreadable(path) {
            on_note(SearchNote::Unreadable(path));
        }
        is_readable(path)
    });
    paths.extend(unreadable);
    paths.sort();
    found.extend(paths.into_iter().map(|path| Found {
        path,
        below: Some(below.to_owned()),
    }));
    Ok(())
}

/// Names a folder for each mesh; none is equal to another or inside another.
fn name(found: &[Found], root: Option<&Path>, has_list: bool) -> Result<Vec<PathBuf>> {
    let paths: Vec<PathBuf> = found.iter().map(|found| lexical(&found.path)).collect();
    let is_named_one_by_one = !has_list && root.is_none() && found.iter().all(|found| found.below.is_none());
    if is_named_one_by_one {
        let stems: Vec<PathBuf> = paths
            .iter()
            .map(|path| without_extension(Path::new(path.file_name().unwrap_or_default())))
            .collect();
        if clashing(&stems).is_empty() {
            return Ok(stems);
        }
    }
    let base = match root {
        Some(root) => root.to_owned(),
        None => base_of(found, &paths),
    };
    let mut names = Vec::with_capacity(paths.len());
    for path in &paths {
        names.push(without_extension(below(path, &base)?));
    }
    for name_idx in clashing(&names) {
        below(&paths[name_idx], &base)?.clone_into(&mut names[name_idx]);
    }
    if let Some(name_idx) = clashing(&names).first() {
        return Err(ViewFolderError::SharedFolder {
            name: names[*name_idx].clone(),
            path: found[*name_idx].path.clone(),
        });
    }
    Ok(names)
}

fn below<'a>(path: &'a Path, root: &Path) -> Result<&'a Path> {
    path.strip_prefix(root).map_err(|_| ViewFolderError::OutsideRoot {
        root: root.to_owned(),
        path: path.to_owned(),
    })
}

/// The path without its extension; with it where the rest would be `.` or `..`.
fn without_extension(path: &Path) -> PathBuf {
    let is_name = |stem: &OsStr| stem != "." && stem != "..";
    if let Some(stem) = stem(path).filter(|stem| is_name(OsStr::new(stem))) {
        path.with_file_name(stem)
    } else if path.file_stem().is_some_and(is_name) {
        path.with_extension("")
    } else {
        path.to_owned()
    }
}

/// The folder in which everything was searched for if it is one, else the deepest folder that holds all.
fn base_of(found: &[Found], paths: &[PathBuf]) -> PathBuf {
    let folders: Vec<Option<PathBuf>> = found
        .iter()
        .map(|found| found.below.as_deref().map(lexical))
        .collect();
    if let [Some(first), rest @ ..] = folders.as_slice()
        && rest.iter().all(|folder| folder.as_ref() == Some(first))
    {
        return first.clone();
    }
    let mut base = paths[0].parent().unwrap_or(Path::new("")).to_owned();
    for path in paths {
        while !path.starts_with(&base) && base.pop() {}
    }
    base
}

/// Indices of names that occur twice or that contain another.
fn clashing(names: &[PathBuf]) -> Vec<usize> {
    let mut owners: BTreeMap<&Path, Vec<usize>> = BTreeMap::new();
    for (name_idx, name) in names.iter().enumerate() {
        owners.entry(name).or_default().push(name_idx);
    }
    let mut clashing: Vec<usize> = Vec::new();
    for (name, name_idxs) in &owners {
        if name_idxs.len() > 1 {
            clashing.extend(name_idxs);
        }
        for ancestor in name.ancestors().skip(1) {
            clashing.extend(owners.get(ancestor).into_iter().flatten());
        }
    }
    clashing.sort_unstable();
    clashing.dedup();
    clashing
}

/// An absolute path without `.` and `..`, without looking at the disk; an empty path is the working directory.
fn lexical(path: &Path) -> PathBuf {
    let path = if path.as_os_str().is_empty() {
        Path::new(".")
    } else {
        path
    };
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let mut clean = PathBuf::new();
    for component in absolute.components() {
        match component {
            Component::ParentDir => drop(clean.pop()),
            Component::CurDir => {}
            other => clean.push(other),
        }
    }
    clean
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    fn names_of(paths: &[&str], below: Option<&str>, root: Option<&str>, has_list: bool) -> Vec<String> {
        let found: Vec<Found> = paths
            .iter()
            .map(|path| Found {
                path: PathBuf::from(path),
                below: below.map(PathBuf::from),
            })
            .collect();
        let names = name(&found, root.map(Path::new), has_list).unwrap();
        names
            .iter()
            .map(|name| name.to_string_lossy().replace('\\', "/"))
            .collect()
    }

    #[test]
    fn files_named_one_by_one_keep_their_stems() {
        let names = |paths: &[&str]| names_of(paths, None, None, false);
        assert_eq!(names(&["/a/chair.obj", "/b/table.off"]), ["chair", "table"]);
        assert_eq!(
            names(&["/s/02/x/model.obj", "/s/03/y/model.obj", "/s/03/z/lamp.obj"]),
            ["02/x/model", "03/y/model", "03/z/lamp"],
            "as the shell has expanded */*/model.obj"
        );
        assert_eq!(names(&["/a/m.obj", "/a/m.off"]), ["m.obj", "m.off"]);
        assert_eq!(names(&["/a/../b/m.obj", "/c/m.obj"]), ["b/m", "c/m"]);
        assert_eq!(names(&["/a/..obj"]), ["..obj"], "a dot is another folder");
        assert_eq!(names(&["/a/...obj", "/b/...obj"]), ["a/...obj", "b/...obj"]);
    }

    #[test]
    fn folders_and_lists_give_relative_paths() {
        let below = |paths: &[&str]| names_of(paths, Some("/s"), None, false);
        assert_eq!(below(&["/s/a/chair.obj"]), ["a/chair"], "however few there are");
        assert_eq!(
            below(&["/s/a.obj", "/s/a/x.obj"]),
            ["a.obj", "a/x"],
            "no folder of views holds another"
        );
        let listed = |paths: &[&str]| names_of(paths, None, None, true);
        assert_eq!(listed(&["/s/a/x.obj", "/s/b/y.obj"]), ["a/x", "b/y"]);
        assert_eq!(listed(&["/s/a/x.obj"]), ["x"]);
        let rooted = |paths: &[&str]| names_of(paths, None, Some("/s"), false);
        assert_eq!(rooted(&["/s/a/b/x.obj"]), ["a/b/x"], "--root settles it");
        let outside = Found {
            path: PathBuf::from("/t/x.obj"),
            below: None,
        };
        assert!(name(&[outside], Some(Path::new("/s")), false).is_err());
        let here = names_of(&["a/x.obj", "y.obj"], Some(""), None, false);
        assert_eq!(here, ["a/x", "y"], "a pattern that begins with no folder");
    }

    #[cfg(unix)]
    #[test]
    fn lists_come_from_anywhere() {
        use std::os::unix::ffi::OsStrExt;

        let paths = paths_of_lines(b"\xef\xbb\xbfa.obj\r\n\n  \nb \xff.obj\nlast.obj");
        let bytes: Vec<&[u8]> = paths.iter().map(|path| path.as_os_str().as_bytes()).collect();
        assert_eq!(bytes, [&b"a.obj"[..], b"b \xff.obj", b"last.obj"]);
    }
}
