//! [`Listing`]: all meshes of a source by their paths, from which a layout takes what it knows. What no layout takes is
//! listed with its reason.

use std::collections::BTreeSet;
use std::path::{Component, Path, PathBuf};

use walkdir::WalkDir;

use super::tree::Tree;
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
/// Meshes named in a message.
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
    /// What could not be looked into.
    unvisited: Vec<Candidate>,
}

impl Listing {
    /// Lists the meshes of a folder or of archives, and enters the folder around a whole set.
    pub(super) fn of_tree(tree: Tree, path: &Path) -> Result<Self> {
        let root = tree.folder().to_owned();
        let Walk {
            mut files,
            unreadable,
            outside,
        } = tree.meshes()?;
        let is_archive = matches!(tree, Tree::Archives(_));
        let named = if is_archive { path } else { root.as_path() };
        let name = if is_archive { named.file_stem() } else { named.file_name() };
        let mut name = name.map_or_else(|| "object".to_owned(), |name| name.to_string_lossy().into_owned());
        let (utf8, others): (Vec<_>, Vec<_>) = files.into_iter().partition(|file| file.to_str().is_some());
        files = utf8;
        let others = others
            .into_iter()
            .map(|file| lost(file, SkipReason::InvalidId, "the name is not UTF-8"));
        let outside = outside.into_iter().filter(|link| leads_to_mesh(&root.join(link)));
        let outside = outside.map(|link| {
            let message = "the link leads to a folder outside of the source";
            lost(link, SkipReason::OutsideSource, message)
        });
        let unreadable = unreadable
            .into_iter()
            .map(|folder| lost(folder, SkipReason::Unreadable, "the folder can't be read"));
        let unvisited: Vec<Candidate> = unreadable.chain(outside).chain(others).collect();
        let lone_folder = lone_folder(&files).filter(|_| !is_archive && unvisited.is_empty());
        let tree = match &lone_folder {
            Some(folder) => {
                for file in &mut files {
                    *file = below(file, folder);
                }
                name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
                tree.enter(folder)
            }
            None => tree,
        };
        Ok(Self {
            tree,
            lone_folder,
            name,
            meshes: files,
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
        self.meshes[start..].iter().take_while(move |mesh| mesh.starts_with(folder))
    }

    pub(super) fn has_mesh(&self, path: &Path) -> bool {
        self.meshes.binary_search_by(|mesh| mesh.as_path().cmp(path)).is_ok()
    }

    /// What a layout left: meshes elsewhere, and what could not be looked into. Arrays that may be something else are no
    /// loss.
    pub(super) fn left_by(&self, layout: Layout, candidates: &[Candidate]) -> Vec<Candidate> {
        let taken: BTreeSet<&Path> = candidates.iter().map(|candidate| candidate.path.as_path()).collect();
        let left = self
            .meshes
            .iter()
            .filter(|mesh| !taken.contains(mesh.as_path()) && !mesh_file::is_ambiguous(mesh));
        let message = format!("the layout {layout} has no mesh in this place");
        let left = left.map(|mesh| lost(mesh.clone(), SkipReason::NotInLayout, &message));
        let unvisited = self.unvisited.iter().map(|candidate| Candidate {
            category: candidate.category.clone(),
            name: candidate.name.clone(),
            path: candidate.path.clone(),
            skip: candidate.skip.clone(),
            ..Candidate::default()
        });
        left.chain(unvisited).collect()
    }

    /// The first meshes, for a message.
    pub(super) fn examples(&self) -> String {
        let named: Vec<String> = self.meshes.iter().take(NUM_EXAMPLES).map(|mesh| slash_path(mesh)).collect();
        let more = if self.meshes.len() > NUM_EXAMPLES { ", ..." } else { "" };
        named.join(", ") + more
    }
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
    let mut inner = meshes.to_vec();
    while let Some(folder) = one_lone_folder(&inner) {
        for mesh in &mut inner {
            *mesh = below(mesh, &folder);
        }
        lone.push(folder);
    }
    (!lone.as_os_str().is_empty()).then_some(lone)
}

fn one_lone_folder(meshes: &[PathBuf]) -> Option<PathBuf> {
    let first = names(meshes.first()?).first().copied()?.to_owned();
    let is_below = |mesh: &PathBuf| {
        let names = names(mesh);
        names.len() > 2 && names[0] == first
    };
    let is_category = shapenet::is_synset(&first)
        || objaverse::is_root(&first)
        || modelnet::split_of(&first).is_some()
        || meshes.iter().any(|mesh| is_of_category(&names(mesh)));
    (!is_category && meshes.iter().all(is_below)).then(|| PathBuf::from(first))
}

/// Whether the first folder is a category: it holds splits with meshes, or is that of a single object.
fn is_of_category(names: &[&str]) -> bool {
    names.len() == 3 && (modelnet::split_of(names[1]).is_some() || MESH_FOLDERS.contains(&names[1]))
}

fn below(path: &Path, folder: &Path) -> PathBuf {
    path.strip_prefix(folder).unwrap_or(path).to_owned()
}
