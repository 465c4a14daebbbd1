//! Which meshes: files, folders, patterns and lists, each with the folder that its views go to.
//!
//! Names are a function of what was asked for alone: the stem where files are named one by one and no two stems are
//! equal, else the path below a common folder without its extension.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::{self, Read};
use std::path::{Component, Path, PathBuf};

use anyhow::{Context, Result, bail};
use tap_render::import::MeshFormat;

use super::glob;
use crate::views_file::VIEWS_FILE_NAME;

/// A mesh to draw.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Input {
    /// Its file.
    pub(super) path: PathBuf,
    /// The folder that it may read the files it refers to from.
    pub(super) root: PathBuf,
    /// The folder of its views, relative to the output's.
    pub(super) name: PathBuf,
}

/// What was asked for, as typed.
#[derive(Debug)]
pub(super) struct Request<'a> {
    /// Files, folders, patterns, `-`.
    pub(super) meshes: &'a [PathBuf],
    /// A file with a path a line, `-` for stdin.
    pub(super) list: Option<&'a Path>,
    /// The folder that names are relative to, and that textures may lie in.
    pub(super) root: Option<&'a Path>,
}

/// A file that was found, and the folder in which it was looked for.
struct Found {
    path: PathBuf,
    below: Option<PathBuf>,
}

/// Finds the meshes, in the order asked for; within a folder they are sorted.
///
/// # Errors
/// When a list or a folder can't be read, when nothing is found, or when two meshes would share a folder.
pub(super) fn find(request: &Request<'_>, note: &dyn Fn(String)) -> Result<Vec<Input>> {
    let mut found = Vec::new();
    let mut has_list = false;
    for path in request.meshes {
        if path == Path::new("-") {
            has_list = true;
            add_list(path, &mut found, note)?;
        } else if glob::is_pattern(path.as_os_str()) && !path.exists() {
            add_pattern(path, &mut found)?;
        } else {
            add(path, &mut found, note)?;
        }
    }
    if let Some(list) = request.list {
        has_list = true;
        add_list(list, &mut found, note)?;
    }
    let mut seen = BTreeSet::new();
    found.retain(|found| seen.insert(lexical(&found.path)));
    if found.is_empty() {
        bail!("no mesh found ({} files are meshes)", extensions());
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

/// The extensions of meshes, for people.
pub(super) fn extensions() -> String {
    MeshFormat::EXTENSIONS.join(", ").to_uppercase()
}

/// Is it a mesh by its name alone? What stands for many things, like `txt`, is one only if it is asked for.
fn is_mesh(path: &Path) -> bool {
    let extension = path.extension().and_then(|extension| extension.to_str());
    extension.is_some_and(|extension| {
        let extension = extension.to_ascii_lowercase();
        MeshFormat::EXTENSIONS.contains(&extension.as_str())
    })
}

/// A folder with all that is in it, or a file, which is taken at its word.
fn add(path: &Path, found: &mut Vec<Found>, note: &dyn Fn(String)) -> Result<()> {
    if !path.is_dir() {
        found.push(Found {
            path: path.to_owned(),
            below: None,
        });
        return Ok(());
    }
    let num_before = found.len();
    walk(path, path, found).with_context(|| format!("could not read the folder {}", path.display()))?;
    if found.len() == num_before {
        note(format!("no mesh is in {}", path.display()));
    }
    Ok(())
}

fn add_pattern(pattern: &Path, found: &mut Vec<Found>) -> Result<()> {
    let (base, paths) = glob::expand(pattern);
    let num_before = found.len();
    for path in paths {
        if path.is_dir() {
            walk(&path, &base, found)
                .with_context(|| format!("could not read the folder {}", path.display()))?;
        } else if is_mesh(&path) {
            found.push(Found {
                path,
                below: Some(base.clone()),
            });
        }
    }
    if found.len() == num_before {
        bail!("no mesh matches {}", pattern.display());
    }
    Ok(())
}

/// A path a line; the bytes of a line are the path. Windows' line ends and its mark at the beginning are no part of it.
fn add_list(list: &Path, found: &mut Vec<Found>, note: &dyn Fn(String)) -> Result<()> {
    let mut bytes = Vec::new();
    if list == Path::new("-") {
        io::stdin()
            .lock()
            .read_to_end(&mut bytes)
            .context("could not read the list from stdin")?;
    } else {
        bytes = fs::read(list).with_context(|| format!("could not read the list {}", list.display()))?;
    }
    for path in paths_of_lines(&bytes) {
        add(&path, found, note)?;
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

/// All meshes below a folder, sorted by name; hidden entries are passed over, and folders of views, whose depth could
/// be taken for points. Links are followed, but not back up. A folder that can't be read is found in place of its meshes.
fn walk(folder: &Path, below: &Path, found: &mut Vec<Found>) -> io::Result<()> {
    if folder.join(VIEWS_FILE_NAME).is_file() {
        return Ok(());
    }
    let mut entries = fs::read_dir(folder)?.collect::<io::Result<Vec<_>>>()?;
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let path = entry.path();
        if entry.file_name().as_encoded_bytes().starts_with(b".") {
            continue;
        }
        if path.is_dir() {
            let leads_back = path.is_symlink() && leads_back(folder, &path);
            let walked = if leads_back {
                Ok(())
            } else {
                walk(&path, below, found)
            };
            // It goes on the list itself: nobody knows how many meshes are lost with it.
            if walked.is_err() {
                found.push(Found {
                    path,
                    below: Some(below.to_owned()),
                });
            }
        } else if is_mesh(&path) {
            found.push(Found {
                path,
                below: Some(below.to_owned()),
            });
        }
    }
    Ok(())
}

/// Is the link's target a folder that it lies in? What can't be told does.
fn leads_back(folder: &Path, link: &Path) -> bool {
    match (folder.canonicalize(), link.canonicalize()) {
        (Ok(folder), Ok(target)) => folder.starts_with(target),
        _ => true,
    }
}

/// A folder for each mesh; none is another's, nor within another's.
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
        let name = path
            .strip_prefix(&base)
            .with_context(|| format!("not below --root {}: {}", base.display(), path.display()))?;
        names.push(without_extension(name));
    }
    for name_idx in clashing(&names) {
        paths[name_idx]
            .strip_prefix(&base)?
            .clone_into(&mut names[name_idx]);
    }
    if let Some(name_idx) = clashing(&names).first() {
        bail!(
            "two meshes would share the folder {}, render them apart: {}",
            names[*name_idx].display(),
            found[*name_idx].path.display()
        );
    }
    Ok(names)
}

/// The path without its extension; with it, where nothing but dots would be left, which are other folders.
fn without_extension(path: &Path) -> PathBuf {
    let is_name = |stem: &OsStr| stem != "." && stem != "..";
    if path.file_stem().is_some_and(is_name) {
        path.with_extension("")
    } else {
        path.to_owned()
    }
}

/// The one folder that all was looked for in, else the deepest folder that holds all.
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

/// The names that are another's too, or that another lies within.
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

/// An absolute path without `.` and `..`, going by its words alone; what says nothing is the folder worked in.
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
