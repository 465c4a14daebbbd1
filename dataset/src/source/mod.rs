//! Sources: objects, classes and splits of a folder of meshes. One file per layout.
//!
//! A layout only lists candidates; ids, splits, formats and path safety are handled here for all layouts.
//! Nothing is dropped silently: rejected candidates become [`SkippedObject`]s.
//!
//! # Adding a source
//!
//! A database, a tar file or meshes made on the fly, from outside of the crate (`dataset/examples/own_source.rs`): list
//! the objects as [`ListedObject`]s, implement [`ObjectReader`] to read one by its path, and pass both to
//! [`Source::from_reader`]. Folders and archives are read through the same trait. [`build`](crate::build()) and
//! [`plan`](crate::plan()) take the source like any other. [`rebuild`](crate::rebuild()) and
//! [`relight_from_meshes`](crate::relight_from_meshes) find meshes by path or hash in a folder, into which the files have
//! to be written first.
//!
//! A layout of files on disk, for `--layout`: a file here with `find`, which lists [`Candidate`]s of a [`Tree`], and a
//! variant of [`Layout`], which [`Source::open`] and `detect_layout` match.

mod archive;
mod asset;
mod folders;
mod from_manifest;
mod modelnet;
mod objaverse;
mod object_reader;
mod part_table;
mod shapenet;
mod shrec16;
mod split_list;
mod split_ratios;
mod table;
mod tree;

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::io;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use sha2::{Digest, Sha256};
use strum::VariantNames as _;
use tap_render::import::MeshFormat;

pub use asset::{DEFAULT_MAX_MESH_BYTES, FolderAssets};
pub use object_reader::{ListedObject, ObjectReader, ReadError};
pub use part_table::PartTable;
pub(crate) use split_list::SplitList;
pub use split_ratios::SplitRatios;
pub(crate) use table::read_classes;
use tree::Tree;

use crate::error::{DatasetError, NameError, Result, SourceError};
use crate::manifest::{SkipReason, SkippedObject, SourceDescription};
use crate::schema::{ObjectId, Split};
use crate::sha256;

/// Default split list in the source folder.
const SPLITS_FILE_NAME: &str = "split.csv";
/// Known mesh formats without an importer: reported, unlike other files beside meshes.
const UNSUPPORTED_EXTENSIONS: [&str; 18] = [
    "3ds", "3mf", "abc", "blend", "dae", "fbx", "iges", "igs", "lwo", "off.gz", "skp", "step", "stp", "usd",
    "usda", "usdc", "usdz", "wrl",
];

/// Layout of a source folder.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Default, strum::Display, strum::EnumString, strum::VariantNames,
)]
#[strum(serialize_all = "lowercase", parse_err_ty = NameError, parse_err_fn = unknown_layout)]
pub enum Layout {
    /// Detect the layout.
    #[default]
    Auto,
    /// `ShapeNetCore`: `<synset>/<id>/model.obj` or `<synset>/<id>/models/model_normalized.obj`, names in
    /// `taxonomy.json`.
    Shapenet,
    /// `ModelNet`: `<class>/{train,test}/*.off`.
    Modelnet,
    /// `<category>/*.{obj,off,glb,gltf}`.
    Folders,
    /// SHREC 2016's numbering of `ShapeNet55`: `{train,val,test}/model_000003.obj`, with lists of synsets.
    Shrec16,
    /// Objaverse: `glbs/000-023/<uid>.glb`, with `lvis-annotations.json` if there are categories.
    Objaverse,
    /// A table, CSV or Parquet, with columns `path`, `category` and optionally `split` and `id`.
    Csv,
}

fn unknown_layout(text: &str) -> NameError {
    NameError::Layout {
        text: text.to_owned(),
        expected: Layout::VARIANTS.join(", "),
    }
}

/// How to read a source.
#[derive(Debug, Clone, Default)]
pub struct SourceOptions {
    /// Folder layout.
    pub layout: Layout,
    /// Split list; by default `split.csv` in the source, if present.
    pub splits: Option<PathBuf>,
    /// Random split instead of lists and folders.
    pub split_ratios: Option<SplitRatios>,
}

/// A mesh to become a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceObject {
    /// Object id.
    pub id: ObjectId,
    /// Assigned split.
    pub split: Split,
    /// Mesh file, relative to the source folder.
    pub path: PathBuf,
    /// Mesh format, from the extension.
    pub format: MeshFormat,
    /// File length in bytes; `None` if unknown before reading.
    pub bytes: Option<u64>,
    /// Actual path in another copy of the meshes, if not `path`.
    pub(crate) relocated_to: Option<PathBuf>,
}

impl SourceObject {
    /// File length for lists and manifests, where 0 stands for an unknown one.
    pub(crate) fn listed_bytes(&self) -> u64 {
        self.bytes.unwrap_or(0)
    }

    /// Path to read, relative to the source folder.
    fn path_on_disk(&self) -> &Path {
        self.relocated_to.as_deref().unwrap_or(&self.path)
    }
}

/// A list of meshes, in a scanned folder or behind an [`ObjectReader`]; no mesh has been opened.
#[derive(Debug, Clone)]
pub struct Source {
    reader: Arc<dyn ObjectReader>,
    layout: String,
    publication: Option<String>,
    splits: Option<String>,
    notes: Vec<String>,
    classes: Vec<String>,
    objects: Vec<SourceObject>,
    skipped: Vec<SkippedObject>,
    parts: PartTable,
    /// Whether file lengths were measured in this folder rather than taken from a manifest.
    has_scanned_lengths: bool,
}

/// A mesh found by a layout.
#[derive(Debug, Default)]
struct Candidate {
    category: String,
    /// Alternative category name in split lists.
    category_alias: Option<String>,
    name: String,
    /// Relative to the source folder.
    path: PathBuf,
    split: Option<Split>,
    /// Reason for skipping, if already known.
    skip: Option<(SkipReason, String)>,
}

impl Source {
    /// Scans a folder, a zip archive or a folder of archives (or reads a table, for [`Layout::Csv`]).
    ///
    /// # Errors
    /// When the source cannot be read or has no objects, or its split list or part list is malformed.
    pub fn open(path: &Path, options: &SourceOptions) -> Result<Self> {
        let mut notes = Vec::new();
        let is_table = path.is_file() && !tree::is_archive(path);
        let tree = if options.layout == Layout::Csv || (options.layout == Layout::Auto && is_table) {
            Tree::Folder(canonicalize_dir(
                path.parent().unwrap_or(Path::new("")),
                "open the source",
            )?)
        } else {
            Tree::open(path)?
        };
        let layout = match options.layout {
            Layout::Auto => {
                let (layout, why) = if is_table {
                    (Layout::Csv, "the source is a file".to_owned())
                } else {
                    detect_layout(&tree)?
                };
                notes.push(format!("layout {layout}: {why}"));
                layout
            }
            layout => layout,
        };
        if let Tree::Folder(root) = &tree
            && !root.is_dir()
        {
            return Err(DatasetError::Source(SourceError::NoObjects {
                detail: "not a folder",
                path: path.to_owned(),
            }));
        }
        let mut publication = None;
        let candidates = match layout {
            Layout::Shapenet => {
                let listing = shapenet::find(&tree)?;
                publication = listing.publication;
                listing.candidates
            }
            Layout::Shrec16 => shrec16::find(&tree)?,
            Layout::Modelnet => modelnet::find(&tree)?,
            Layout::Objaverse => objaverse::find(&tree)?,
            Layout::Folders | Layout::Auto => folders::find(&tree)?,
            Layout::Csv => table::find(path)?,
        };
        if let Some(publication) = &publication {
            notes.push(publication.clone());
        }
        let splits = match options.split_ratios {
            Some(_) => None,
            None => SplitList::select(options.splits.as_deref(), &tree, layout)?,
        };
        if let Some(splits) = &splits {
            notes.push(format!("splits from {}", splits.path().display()));
        }
        let parts = PartTable::read(&tree)?;
        let mut source = Self {
            publication,
            splits: options.split_ratios.as_ref().map(ToString::to_string),
            notes,
            parts,
            ..Self::empty(layout.to_string(), Arc::new(tree))
        };
        source.resolve_all(candidates, splits);
        if let Some(split_ratios) = &options.split_ratios {
            let objects = source.objects.iter_mut();
            split_ratios.assign(objects.map(|object| (&object.id, &mut object.split)).collect());
            source.notes.push(format!("splits by {split_ratios}"));
        }
        source.sort_objects();
        if source.objects.is_empty() && source.skipped.is_empty() {
            let detail = match layout {
                Layout::Shapenet => {
                    "no <synset>/<id>/model.obj and no <synset>/<id>/models/model_normalized.obj"
                }
                Layout::Shrec16 => "no train/model_000000.obj",
                Layout::Modelnet => "no <class>/train/*.off and no <class>/test/*.off",
                Layout::Objaverse => "no glbs/000-000/*.glb",
                Layout::Csv => "the table has no row",
                Layout::Folders | Layout::Auto => "no <category>/*.{obj,off,ply,stl,glb,gltf}",
            };
            return Err(DatasetError::Source(SourceError::NoObjects {
                detail,
                path: path.to_owned(),
            }));
        }
        Ok(source)
    }

    /// A source of one's own: these objects, in any order, read by `reader`. Ids, splits, formats and paths are checked
    /// as for a folder, and what cannot become a row is [skipped](Self::skipped).
    ///
    /// `layout` is a name for the manifest, such as `own`. A resumed build compares it, and the ids, splits, paths and
    /// lengths of the objects.
    ///
    /// # Errors
    /// When there are no objects.
    pub fn from_reader(
        layout: &str,
        objects: impl IntoIterator<Item = ListedObject>,
        reader: impl ObjectReader + 'static,
    ) -> Result<Self> {
        let mut source = Self::empty(layout.to_owned(), Arc::new(reader));
        source.resolve_all(objects.into_iter().map(Candidate::from).collect(), None);
        source.sort_objects();
        if source.objects.is_empty() && source.skipped.is_empty() {
            return Err(DatasetError::Source(SourceError::NoObjects {
                detail: "the list is empty",
                path: PathBuf::from(layout),
            }));
        }
        Ok(source)
    }

    fn empty(layout: String, reader: Arc<dyn ObjectReader>) -> Self {
        Self {
            reader,
            layout,
            publication: None,
            splits: None,
            notes: Vec::new(),
            classes: Vec::new(),
            objects: Vec::new(),
            skipped: Vec::new(),
            parts: PartTable::default(),
            has_scanned_lengths: true,
        }
    }

    fn sort_objects(&mut self) {
        self.objects
            .sort_by(|a, b| (a.split, &a.id).cmp(&(b.split, &b.id)));
    }

    /// Reads the mesh of an object.
    pub(crate) fn read(&self, object: &SourceObject, limit_bytes: u64) -> io::Result<Vec<u8>> {
        let bytes = self.reader.read(object.path_on_disk(), limit_bytes)?;
        Ok(object_reader::within(bytes, limit_bytes)?)
    }

    /// Length of the mesh when this source was scanned; `None` if it was not, or the length is unknown.
    pub(crate) fn scanned_bytes(&self, object: &SourceObject) -> Option<u64> {
        object.bytes.filter(|_| self.has_scanned_lengths)
    }

    /// Assets that the mesh of an object may read.
    pub(crate) fn assets(&self, object: &SourceObject, limit_bytes: u64) -> FolderAssets {
        FolderAssets::read_by(Arc::clone(&self.reader), object.path_on_disk(), limit_bytes)
    }

    /// Only the objects with these indices, which must ascend; none are skipped.
    pub(crate) fn subset(&self, objects: &[usize]) -> Self {
        Self {
            objects: objects
                .iter()
                .map(|&object| self.objects[object].clone())
                .collect(),
            skipped: Vec::new(),
            ..self.clone()
        }
    }

    /// Name of the [`Layout`], detected if it was `auto`, or the one given to [`Source::from_reader`].
    #[must_use]
    pub fn layout(&self) -> &str {
        &self.layout
    }

    /// What was detected and applied by default, as sentences for the user.
    #[must_use]
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// Objects sorted by split and id.
    #[must_use]
    pub fn objects(&self) -> &[SourceObject] {
        &self.objects
    }

    /// Candidates rejected without opening a mesh.
    #[must_use]
    pub fn skipped(&self) -> &[SkippedObject] {
        &self.skipped
    }

    /// Parts listed by the source.
    #[must_use]
    pub fn parts(&self) -> &PartTable {
        &self.parts
    }

    /// Class names, sorted.
    #[must_use]
    pub fn classes(&self) -> &[String] {
        &self.classes
    }

    /// Index of a category in the class names.
    pub(crate) fn label_of(&self, category: &str) -> i64 {
        let place = self
            .classes
            .binary_search_by(|class| class.as_str().cmp(category));
        place.expect("every object's category is a class") as i64
    }

    /// Description for the manifest, independent of the folder's location.
    pub(crate) fn describe(&self) -> SourceDescription {
        let mut listing = Sha256::new();
        for object in &self.objects {
            let bytes = object.listed_bytes();
            let SourceObject {
                id,
                split,
                path,
                format: _,
                bytes: _,
                relocated_to: _,
            } = object;
            listing.update(format!("{split} {id} {bytes} {}\n", slash_path(path)));
        }
        SourceDescription {
            layout: self.layout.clone(),
            publication: self.publication.clone(),
            splits: self.splits.clone(),
            num_objects: self.objects.len() + self.skipped.iter().filter(|s| s.reason.is_failure()).count(),
            listing_sha256: sha256::hex(&listing.finalize()),
            content_sha256: None,
        }
    }

    /// Turns candidates into objects or skipped objects.
    fn resolve_all(&mut self, mut candidates: Vec<Candidate>, mut splits: Option<SplitList>) {
        candidates.sort_by(|a, b| (&a.category, &a.name, &a.path).cmp(&(&b.category, &b.name, &b.path)));
        let categories: BTreeSet<String> = candidates
            .iter()
            .flat_map(|c| [Some(c.category.clone()), c.category_alias.clone()])
            .flatten()
            .collect();
        let mut path_of_id: BTreeMap<ObjectId, PathBuf> = BTreeMap::new();
        for candidate in candidates {
            let id_text = format!("{}/{}", candidate.category, candidate.name);
            let path = slash_path(&candidate.path);
            let split_in_list = splits.as_mut().map(|splits| splits.split_of(&candidate));
            // A split list overrides folders.
            let split = split_in_list
                .flatten()
                .or(candidate.split)
                .unwrap_or(Split::Train);
            let object = match (candidate.skip.clone(), split_in_list) {
                (Some(skip), _) => Err(skip),
                (None, Some(None)) => Err((
                    SkipReason::NotInSplits,
                    "the list of splits does not name it".to_owned(),
                )),
                (None, _) => self.resolve(&candidate, split, &path_of_id),
            };
            match object {
                Ok(object) => {
                    path_of_id.insert(object.id.clone(), object.path.clone());
                    self.objects.push(object);
                }
                Err((reason, message)) => {
                    self.skipped.push(SkippedObject {
                        id: id_text,
                        split: Some(split),
                        path,
                        reason,
                        message,
                        shard: None,
                    });
                }
            }
        }
        let classes: BTreeSet<&str> = self.objects.iter().map(|object| object.id.category()).collect();
        self.classes = classes.into_iter().map(str::to_owned).collect();
        for (id, split) in splits.iter().flat_map(|splits| splits.unused(&categories)) {
            let message = "the list of splits names it, but there is no such mesh".to_owned();
            let path = String::new();
            self.skipped.push(SkippedObject {
                id,
                split: Some(split),
                path,
                reason: SkipReason::Missing,
                message,
                shard: None,
            });
        }
    }

    fn resolve(
        &self,
        candidate: &Candidate,
        split: Split,
        path_of_id: &BTreeMap<ObjectId, PathBuf>,
    ) -> Result<SourceObject, (SkipReason, String)> {
        let extension = candidate
            .path
            .extension()
            .and_then(OsStr::to_str)
            .unwrap_or_default();
        let Some(format) = MeshFormat::from_extension(extension) else {
            return Err((
                SkipReason::UnsupportedFormat,
                format!("meshes of format \"{extension}\" can't be read"),
            ));
        };
        let id = ObjectId::try_new(&candidate.category, &candidate.name)
            .map_err(|e| (SkipReason::InvalidId, e.to_string()))?;
        if let Some(other) = path_of_id.get(&id) {
            return Err((
                SkipReason::DuplicateId,
                format!("{} has this id", slash_path(other)),
            ));
        }
        let bytes = self
            .reader
            .file_bytes(&candidate.path)
            .map_err(|error| match error {
                ReadError::Outside => (
                    SkipReason::OutsideSource,
                    "a link leads out of the source's folder".to_owned(),
                ),
                ReadError::Io(e) if e.kind() == io::ErrorKind::NotFound => {
                    (SkipReason::Missing, "there is no such file".to_owned())
                }
                ReadError::Io(e) => (SkipReason::Unreadable, e.to_string()),
            })?;
        Ok(SourceObject {
            id,
            split,
            path: candidate.path.clone(),
            format,
            bytes,
            relocated_to: None,
        })
    }
}

/// Detects the layout, with the reason.
fn detect_layout(tree: &Tree) -> Result<(Layout, String)> {
    let taxonomy = Path::new(shapenet::TAXONOMY_FILE_NAME);
    if shrec16::matches_layout(tree)? {
        return Ok((
            Layout::Shrec16,
            "meshes are numbered as for SHREC 2016".to_owned(),
        ));
    }
    if tree.is_file(taxonomy) {
        return Ok((Layout::Shapenet, format!("there is a {}", taxonomy.display())));
    }
    let folders = tree.entries(Path::new(""))?;
    let folders = folders
        .into_iter()
        .filter(|entry| entry.is_dir)
        .collect::<Vec<_>>();
    if !folders.is_empty() && folders.iter().all(|folder| shapenet::is_synset(&folder.name)) {
        return Ok((Layout::Shapenet, "all folders are named like synsets".to_owned()));
    }
    if let Some(root) = objaverse::mesh_root(tree)? {
        let root = if root.as_os_str().is_empty() {
            Path::new(".")
        } else {
            &root
        };
        return Ok((
            Layout::Objaverse,
            format!("the folders in {} are numbered like Objaverse's", root.display()),
        ));
    }
    let has_splits = |folder: &&DirEntry| {
        let folder = Path::new(&folder.name);
        modelnet::SPLIT_FOLDERS
            .iter()
            .any(|s| tree.is_dir(&folder.join(s.0)))
    };
    if let Some(folder) = folders.iter().find(has_splits) {
        return Ok((
            Layout::Modelnet,
            format!("{} has folders for training and test", folder.name),
        ));
    }
    Ok((
        Layout::Folders,
        format!("{} folders, one a category", folders.len()),
    ))
}

/// A directory entry.
#[derive(Debug)]
struct DirEntry {
    name: String,
    is_dir: bool,
}

impl DirEntry {
    /// File name without extension.
    fn stem(&self) -> &str {
        Path::new(&self.name)
            .file_stem()
            .and_then(OsStr::to_str)
            .unwrap_or(&self.name)
    }

    /// Whether it is a mesh, in a supported or unsupported format.
    fn is_mesh(&self) -> bool {
        let extension = Path::new(&self.name)
            .extension()
            .and_then(OsStr::to_str)
            .unwrap_or_default()
            .to_ascii_lowercase();
        !self.is_dir
            && (MeshFormat::EXTENSIONS.contains(&extension.as_str())
                || UNSUPPORTED_EXTENSIONS.contains(&extension.as_str()))
    }
}

/// Relative path with forward slashes.
pub(crate) fn slash_path(path: &Path) -> String {
    let names = path.components().filter_map(|component| match component {
        Component::Normal(name) => Some(name.to_string_lossy()),
        _ => None,
    });
    names.collect::<Vec<_>>().join("/")
}

/// Canonical path; an empty path is the working directory.
fn canonicalize_dir(folder: &Path, action: &'static str) -> Result<PathBuf> {
    let folder = if folder.as_os_str().is_empty() {
        Path::new(".")
    } else {
        folder
    };
    folder.canonicalize().map_err(DatasetError::io(action, folder))
}

/// Lexically normalizes a relative path; `None` if it leaves its base folder.
fn normalize_within(relative: &Path) -> Option<PathBuf> {
    let mut path = PathBuf::new();
    for component in relative.components() {
        match component {
            Component::Normal(name) => path.push(name),
            Component::CurDir => {}
            Component::ParentDir => {
                if !path.pop() {
                    return None;
                }
            }
            Component::RootDir | Component::Prefix(_) => return None,
        }
    }
    Some(path)
}

#[cfg(test)]
mod tests;
