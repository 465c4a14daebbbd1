//! [`Listing`]: all meshes of a source by their paths, from which a layout takes what it knows. What no layout takes is
//! listed with its reason.

use std::collections::BTreeSet;
use std::path::{Component, Path, PathBuf};

use walkdir::WalkDir;

use super::tree::{self, Tree};
use super::walk::Walk;
use super::{Candidate, Layout, mesh_file, modelnet, objaverse, shapenet, slash_path};
use crate::error::Result;
use crate::manifest::SkipReason;

/// Folders within that of an object: its meshes, beside its textures.
pub(super) const MESH_FOLDERS: [&str; 4] = ["mesh", "meshes", "model", "models"];
/// How deep a folder outside of the source is searched for a mesh, to say that it is left out.
const MAX_DEPTH_OUTSIDE: usize = 4;
/// And how many entries of it.
const MAX_ENTRIES_OUTSIDE: usize = 10_000;
/// Category of meshes in a source without a name: the root of a disk.
pub(super) const UNNAMED: &str = "object";
/// Paths named in a message.
const NUM_EXAMPLES: usize = 3;

/// The tree of a source with all its meshes.
#[derive(Debug)]
pub(super) struct Listing {
    pub(super) tree: Tree,
    /// The folder around the whole set that was entered.
    pub(super) lone_folder: Option<PathBuf>,
    /// Name of the source: of its folder, archive, or mesh.
    pub(super) name: String,
    /// In formats that can be read or not; sorted, relative to the tree.
    pub(super) meshes: Vec<PathBuf>,
    /// Archives among the files of a folder, or in an archive, which are not opened.
    archives: Vec<PathBuf>,
    /// What could not be looked into.
    unvisited: Vec<Candidate>,
}

impl Listing {
    /// Lists the meshes of a folder or of archives, and enters the folder around a whole set.
    pub(super) fn of_tree(tree: Tree, path: &Path) -> Result<Self> {
        let is_archive = matches!(tree, Tree::Archives(_));
        let mut found = tree.files(&|path| mesh_file::is_mesh(path) || mesh_file::is_archive(path))?;
        let unvisited = take_unvisited(&mut found, tree.folder());
        let (mut meshes, archives): (Vec<_>, Vec<_>) =
            found.files.into_iter().partition(|path| mesh_file::is_mesh(path));
        let lone_folder = lone_folder(&meshes).filter(|_| !is_archive && unvisited.is_empty());
        let name = match &lone_folder {
            Some(folder) => folder.file_name(),
            None if tree::is_archive(path) => path.file_stem(),
            None => tree.folder().file_name(),
        };
        let name = name.map_or_else(|| UNNAMED.to_owned(), |name| name.to_string_lossy().into_owned());
        let tree = match &lone_folder {
            Some(folder) => {
                for mesh in &mut meshes {
                    *mesh = below(mesh, folder);
                }
                tree.enter(folder)
            }
            None => tree,
        };
        Ok(Self {
            tree,
            lone_folder,
            name,
            meshes,
            archives,
            unvisited,
        })
    }

    /// Names of the folders directly in the source that hold meshes.
    pub(super) fn top_folders(&self) -> BTreeSet<&str> {
        self.meshes
            .iter()
            .filter_map(|mesh| {
                let names = names(mesh);
                names.first().copied().filter(|_| names.len() > 1)
            })
            .collect()
    }

    /// Meshes below a folder.
    pub(super) fn below<'a>(&'a self, folder: &'a Path) -> impl Iterator<Item = &'a PathBuf> {
        let start = self.meshes.partition_point(|mesh| mesh.as_path() < folder);
        self.meshes[start..]
            .iter()
            .take_while(move |mesh| mesh.starts_with(folder))
    }

    pub(super) fn has_mesh(&self, path: &Path) -> bool {
        self.place(path).is_some()
    }

    fn place(&self, path: &Path) -> Option<usize> {
        self.meshes.binary_search_by(|mesh| mesh.as_path().cmp(path)).ok()
    }

    /// Whether all of it could be looked into.
    pub(super) fn is_visited(&self) -> bool {
        self.unvisited.is_empty()
    }

    /// The candidates of a layout, and then what it left: meshes elsewhere, and what could not be looked into. Arrays that may
    /// be something else are no loss.
    pub(super) fn with_left(
        &self,
        layout: Layout,
        mut candidates: impl Iterator<Item = Candidate>,
    ) -> impl Iterator<Item = Candidate> {
        let mut is_left: Vec<bool> = self
            .meshes
            .iter()
            .map(|mesh| !mesh_file::is_ambiguous(mesh))
            .collect();
        let mut left = 0..self.meshes.len();
        let message = format!("the layout {layout} has no mesh in this place");
        let with_left = std::iter::from_fn(move || {
            if let Some(candidate) = candidates.next() {
                if let Some(place) = self.place(&candidate.path) {
                    is_left[place] = false;
                }
                return Some(candidate);
            }
            let place = left.find(|&place| is_left[place])?;
            Some(lost(
                self.meshes[place].clone(),
                SkipReason::NotInLayout,
                &message,
            ))
        });
        with_left.chain(self.unvisited.iter().cloned())
    }

    /// Says which archives are not opened, if any.
    pub(super) fn unopened(&self) -> Option<String> {
        let num = self.archives.len();
        (num > 0).then(|| {
            format!(
                "archives beside meshes are not opened ({num}: {}): unpack them",
                examples(&self.archives)
            )
        })
    }
}

/// The first paths, for a message.
pub(super) fn examples(paths: &[PathBuf]) -> String {
    let named: Vec<String> = paths
        .iter()
        .take(NUM_EXAMPLES)
        .map(|path| slash_path(path))
        .collect();
    let more = if paths.len() > NUM_EXAMPLES { ", ..." } else { "" };
    named.join(", ") + more
}

/// Takes what could not be looked into, or not be named, out of what was found.
fn take_unvisited(found: &mut Walk, root: &Path) -> Vec<Candidate> {
    let Walk {
        files,
        unreadable,
        outside,
    } = found;
    let unnamed = files.extract_if(.., |file| file.to_str().is_none());
    let unnamed = unnamed.map(|file| lost(file, SkipReason::InvalidId, "the name is not UTF-8"));
    let unreadable = unreadable
        .drain(..)
        .map(|folder| lost(folder, SkipReason::Unreadable, "the folder can't be read"));
    let outside = outside.drain(..).filter(|link| leads_to_mesh(&root.join(link)));
    let outside = outside.map(|link| {
        let message = "the link leads to a folder outside of the source";
        lost(link, SkipReason::OutsideSource, message)
    });
    unreadable.chain(outside).chain(unnamed).collect()
}

/// What cannot become a row; its id is its path.
fn lost(path: PathBuf, reason: SkipReason, message: &str) -> Candidate {
    let name = mesh_file::stem(&path).map_or_else(|| path.to_string_lossy().into_owned(), str::to_owned);
    Candidate {
        category: path.parent().map(slash_path).unwrap_or_default(),
        name,
        skip: Some((reason, message.to_owned())),
        path,
        ..Candidate::default()
    }
}

fn leads_to_mesh(folder: &Path) -> bool {
    let entries = WalkDir::new(folder).max_depth(MAX_DEPTH_OUTSIDE).into_iter();
    let mut entries = entries.take(MAX_ENTRIES_OUTSIDE).flatten();
    entries.any(|entry| mesh_file::is_mesh(entry.path()) && !entry.file_type().is_dir())
}

/// Components of a relative path.
pub(super) fn names(path: &Path) -> Vec<&str> {
    let name = |component| match component {
        Component::Normal(name) => Path::new(name).to_str(),
        _ => None,
    };
    path.components().filter_map(name).collect()
}

/// The folder, or folders one in another, around a whole set; no category, which holds meshes itself.
pub(super) fn lone_folder(meshes: &[PathBuf]) -> Option<PathBuf> {
    let mut lone = PathBuf::new();
    for depth in 0.. {
        let Some(folder) = lone_folder_at(meshes, depth) else {
            break;
        };
        lone.push(folder);
    }
    (!lone.as_os_str().is_empty()).then_some(lone)
}

/// The lone folder within so many lone folders.
fn lone_folder_at<'a>(meshes: &'a [PathBuf], depth: usize) -> Option<&'a str> {
    let within = |mesh: &'a PathBuf| names(mesh).split_off(depth);
    let first = *within(meshes.first()?).first()?;
    let is_below = |mesh: &'a PathBuf| {
        let names = within(mesh);
        names.len() > 2 && names[0] == first
    };
    let is_category = shapenet::is_synset(first)
        || objaverse::is_root(first)
        || modelnet::split_of(first).is_some()
        || meshes.iter().any(|mesh| is_of_category(&within(mesh)));
    (!is_category && meshes.iter().all(is_below)).then_some(first)
}

/// Whether the first folder is a category: it holds splits with meshes, or is that of a single object.
fn is_of_category(names: &[&str]) -> bool {
    names.len() == 3 && (modelnet::split_of(names[1]).is_some() || MESH_FOLDERS.contains(&names[1]))
}

fn below(path: &Path, folder: &Path) -> PathBuf {
    path.strip_prefix(folder).unwrap_or(path).to_owned()
}
