//! A folder of meshes: which objects it holds, of which class, for which split. One file a layout.
//!
//! A layout only finds candidates; what all layouts share (ids, splits, formats, what lies outside) is decided
//! here. Nothing is dropped silently: what can't become a row becomes a [`SkippedObject`].

mod archive;
mod asset;
mod folders;
mod fractions;
mod listed;
mod modelnet;
mod objaverse;
mod parts;
mod shapenet;
mod shrec;
mod split_list;
mod table;
mod tree;

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fmt;
use std::io;
use std::path::{Component, Path, PathBuf};
use std::str::FromStr;

use sha2::{Digest, Sha256};
use tap_render::import::MeshFormat;

pub use asset::{DEFAULT_MAX_MESH_BYTES, FolderAssets};
pub use fractions::SplitFractions;
pub use parts::PartTable;
use split_list::SplitList;
use tree::{ReadError, Tree};

use crate::{DatasetError, ObjectId, Result, SkipReason, SkippedObject, SourceDescription, Split, durable};

/// The file of splits that is used if none is named.
const SPLITS_FILE_NAME: &str = "split.csv";
/// Mesh formats that exist and can't be read: to be reported where everything else beside a mesh is passed over.
const UNSUPPORTED_EXTENSIONS: [&str; 18] = [
    "3ds", "3mf", "abc", "blend", "dae", "fbx", "iges", "igs", "lwo", "off.gz", "skp", "step", "stp", "usd",
    "usda", "usdc", "usdz", "wrl",
];

/// How a folder of meshes is laid out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Layout {
    /// Look and recognize.
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
    /// A table, CSV or Parquet, with columns `path`, `category` and perhaps `split` and `id`.
    Csv,
}

impl fmt::Display for Layout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Auto => "auto",
            Self::Shapenet => "shapenet",
            Self::Modelnet => "modelnet",
            Self::Folders => "folders",
            Self::Shrec16 => "shrec16",
            Self::Objaverse => "objaverse",
            Self::Csv => "csv",
        })
    }
}

impl FromStr for Layout {
    type Err = DatasetError;

    fn from_str(text: &str) -> Result<Self> {
        let all = [
            Self::Auto,
            Self::Shapenet,
            Self::Modelnet,
            Self::Folders,
            Self::Shrec16,
            Self::Objaverse,
            Self::Csv,
        ];
        let found = all.into_iter().find(|layout| layout.to_string() == text);
        found.ok_or_else(|| DatasetError::LayoutName {
            text: text.to_owned(),
        })
    }
}

/// How to read a source.
#[derive(Debug, Clone, Default)]
pub struct SourceOptions {
    /// How the folder is laid out.
    pub layout: Layout,
    /// A table of splits; without one `split.csv` of the source is used, if it is there.
    pub splits: Option<PathBuf>,
    /// Draw the splits by chance instead, whatever lists and folders say.
    pub fractions: Option<SplitFractions>,
}

/// One mesh that is to become a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceObject {
    /// Its id.
    pub id: ObjectId,
    /// Its split.
    pub split: Split,
    /// Its file, relative to the source's folder.
    pub path: PathBuf,
    /// The format of the file.
    pub format: MeshFormat,
    /// The length of the file.
    pub bytes: u64,
    /// Where the file is, if it isn't at `path`: in another copy of the meshes.
    pub(crate) found_at: Option<PathBuf>,
}

impl SourceObject {
    /// Where the file is, relative to the source's folder.
    fn place(&self) -> &Path {
        self.found_at.as_deref().unwrap_or(&self.path)
    }
}

/// A folder of meshes, looked through; no mesh is opened yet.
#[derive(Debug, Clone)]
pub struct Source {
    tree: Tree,
    layout: Layout,
    publication: Option<String>,
    splits: Option<String>,
    notes: Vec<String>,
    classes: Vec<String>,
    objects: Vec<SourceObject>,
    skipped: Vec<SkippedObject>,
    parts: PartTable,
    /// Were the lengths of the files seen in this very folder, and not in the one of a manifest?
    has_seen_lengths: bool,
}

/// What a layout finds.
#[derive(Debug, Default)]
struct Candidate {
    category: String,
    /// What lists of splits may call the category instead.
    category_alias: Option<String>,
    name: String,
    /// Relative to the source's folder.
    path: PathBuf,
    split: Option<Split>,
    /// Why it can't become a row, if that is known already.
    skip: Option<(SkipReason, String)>,
}

impl Source {
    /// Looks through a folder, zip archives or a folder of them (or, for [`Layout::Csv`], reads a table).
    ///
    /// # Errors
    /// When the source can't be read or holds no object, or when the list of splits or of parts is malformed.
    pub fn open(path: &Path, options: &SourceOptions) -> Result<Self> {
        let mut notes = Vec::new();
        let is_table = path.is_file() && !tree::is_archive(path);
        let tree = if options.layout == Layout::Csv || (options.layout == Layout::Auto && is_table) {
            Tree::Folder(canonical(
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
                    recognize(&tree)?
                };
                notes.push(format!("layout {layout}: {why}"));
                layout
            }
            layout => layout,
        };
        if let Tree::Folder(root) = &tree
            && !root.is_dir()
        {
            return Err(DatasetError::NoObjects {
                what: "not a folder",
                path: path.to_owned(),
            });
        }
        let mut publication = None;
        let candidates = match layout {
            Layout::Shapenet => {
                let found = shapenet::find(&tree)?;
                publication = found.publication;
                found.candidates
            }
            Layout::Shrec16 => shrec::find(&tree)?,
            Layout::Modelnet => modelnet::find(&tree)?,
            Layout::Objaverse => objaverse::find(&tree)?,
            Layout::Folders | Layout::Auto => folders::find(&tree)?,
            Layout::Csv => table::find(path)?,
        };
        if let Some(publication) = &publication {
            notes.push(publication.clone());
        }
        let splits = match options.fractions {
            Some(_) => None,
            None => SplitList::choose(options.splits.as_deref(), &tree, layout)?,
        };
        if let Some(splits) = &splits {
            notes.push(format!("splits from {}", splits.path().display()));
        }
        let parts = PartTable::read(&tree)?;
        let mut source = Self {
            tree,
            layout,
            publication,
            splits: options.fractions.as_ref().map(ToString::to_string),
            notes,
            classes: Vec::new(),
            objects: Vec::new(),
            skipped: Vec::new(),
            parts,
            has_seen_lengths: true,
        };
        source.take(candidates, splits);
        if let Some(fractions) = &options.fractions {
            fractions.draw(&mut source.objects);
            source.notes.push(format!("splits by {fractions}"));
        }
        source
            .objects
            .sort_by(|a, b| (a.split, &a.id).cmp(&(b.split, &b.id)));
        if source.objects.is_empty() && source.skipped.is_empty() {
            let what = match layout {
                Layout::Shapenet => {
                    "no <synset>/<id>/model.obj and no <synset>/<id>/models/model_normalized.obj"
                }
                Layout::Shrec16 => "no train/model_000000.obj",
                Layout::Modelnet => "no <class>/train/*.off and no <class>/test/*.off",
                Layout::Objaverse => "no glbs/000-000/*.glb",
                Layout::Csv => "the table has no row",
                Layout::Folders | Layout::Auto => "no <category>/*.{obj,off,ply,stl,glb,gltf}",
            };
            return Err(DatasetError::NoObjects {
                what,
                path: path.to_owned(),
            });
        }
        Ok(source)
    }

    /// The folder that paths are relative to.
    #[must_use]
    pub fn root(&self) -> &Path {
        self.tree.folder()
    }

    /// Reads the mesh of an object.
    pub(crate) fn read(&self, object: &SourceObject, limit_bytes: u64) -> io::Result<Vec<u8>> {
        self.tree
            .read(object.place(), limit_bytes)
            .map_err(|error| match error {
                ReadError::Outside => {
                    io::Error::new(io::ErrorKind::PermissionDenied, "a link leads out of the source")
                }
                ReadError::Io(error) => error,
            })
    }

    /// The length that a mesh had when the source was looked through; `None` if that was elsewhere.
    pub(crate) fn seen_bytes(&self, object: &SourceObject) -> Option<u64> {
        self.has_seen_lengths.then_some(object.bytes)
    }

    /// The files that the mesh of an object may read.
    pub(crate) fn assets(&self, object: &SourceObject, limit_bytes: u64) -> FolderAssets {
        FolderAssets::in_tree(self.tree.clone(), object.place(), limit_bytes)
    }

    /// Some of the objects alone, by their places in the list, which must ascend; nothing is left out.
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

    /// The layout, recognized if it was `auto`.
    #[must_use]
    pub fn layout(&self) -> Layout {
        self.layout
    }

    /// What was recognized and used without being asked for, in sentences for the user.
    #[must_use]
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// The objects, sorted by split and id.
    #[must_use]
    pub fn objects(&self) -> &[SourceObject] {
        &self.objects
    }

    /// What can't become a row, as far as can be seen without opening a mesh.
    #[must_use]
    pub fn skipped(&self) -> &[SkippedObject] {
        &self.skipped
    }

    /// The parts that the source names.
    #[must_use]
    pub fn parts(&self) -> &PartTable {
        &self.parts
    }

    /// The class names, sorted.
    #[must_use]
    pub fn classes(&self) -> &[String] {
        &self.classes
    }

    /// The place of a category among the class names.
    pub(crate) fn label_of(&self, category: &str) -> i64 {
        let place = self
            .classes
            .binary_search_by(|class| class.as_str().cmp(category));
        place.expect("every object's category is a class") as i64
    }

    /// What the manifest says about the source: independent of where the folder lies.
    pub(crate) fn describe(&self) -> SourceDescription {
        let mut listing = Sha256::new();
        for SourceObject {
            id,
            split,
            path,
            format: _,
            bytes,
            found_at: _,
        } in &self.objects
        {
            listing.update(format!("{split} {id} {bytes} {}\n", portable(path)));
        }
        SourceDescription {
            layout: self.layout.to_string(),
            publication: self.publication.clone(),
            splits: self.splits.clone(),
            num_objects: self.objects.len() + self.skipped.iter().filter(|s| s.reason.is_loss()).count(),
            listing_sha256: durable::hex(&listing.finalize()),
            content_sha256: None,
        }
    }

    /// Turns candidates into objects, or says why not.
    fn take(&mut self, mut candidates: Vec<Candidate>, mut splits: Option<SplitList>) {
        candidates.sort_by(|a, b| (&a.category, &a.name, &a.path).cmp(&(&b.category, &b.name, &b.path)));
        let categories: BTreeSet<String> = candidates
            .iter()
            .flat_map(|c| [Some(c.category.clone()), c.category_alias.clone()])
            .flatten()
            .collect();
        let mut path_of_id: BTreeMap<ObjectId, PathBuf> = BTreeMap::new();
        for candidate in candidates {
            let id_text = format!("{}/{}", candidate.category, candidate.name);
            let path = portable(&candidate.path);
            let listed = splits.as_mut().map(|splits| splits.split_of(&candidate));
            // A list of splits outranks what the folders say.
            let split = listed.flatten().or(candidate.split).unwrap_or(Split::Train);
            let object = match (candidate.skip.clone(), listed) {
                (Some(skip), _) => Err(skip),
                (None, Some(None)) => Err((
                    SkipReason::NotInSplits,
                    "the list of splits does not name it".to_owned(),
                )),
                (None, _) => self.check(&candidate, split, &path_of_id),
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

    fn check(
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
                format!("{} has this id", portable(other)),
            ));
        }
        let bytes = self
            .tree
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
            found_at: None,
        })
    }
}

/// Which layout a tree has, and by what that is seen.
fn recognize(tree: &Tree) -> Result<(Layout, String)> {
    let taxonomy = Path::new(shapenet::TAXONOMY_FILE_NAME);
    if shrec::is_laid_out(tree)? {
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
    if let Some(place) = objaverse::place(tree)? {
        let place = if place.as_os_str().is_empty() {
            Path::new(".")
        } else {
            &place
        };
        return Ok((
            Layout::Objaverse,
            format!("the folders in {} are numbered like Objaverse's", place.display()),
        ));
    }
    let has_splits = |folder: &&Entry| {
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

/// Something in a folder.
#[derive(Debug)]
struct Entry {
    name: String,
    is_dir: bool,
}

impl Entry {
    /// The name without the extension.
    fn stem(&self) -> &str {
        Path::new(&self.name)
            .file_stem()
            .and_then(OsStr::to_str)
            .unwrap_or(&self.name)
    }

    /// A file that is, or was meant to be, a mesh.
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

/// A relative path with slashes, the same on every system.
pub(crate) fn portable(path: &Path) -> String {
    let names = path.components().filter_map(|component| match component {
        Component::Normal(name) => Some(name.to_string_lossy()),
        _ => None,
    });
    names.collect::<Vec<_>>().join("/")
}

/// The folder without links and dots; an empty path is the folder that the program runs in.
fn canonical(folder: &Path, action: &'static str) -> Result<PathBuf> {
    let folder = if folder.as_os_str().is_empty() {
        Path::new(".")
    } else {
        folder
    };
    folder.canonicalize().map_err(DatasetError::io(action, folder))
}

/// A path that stays within the folder that it is relative to; `None` if it leads out, going by its words alone.
fn within(relative: &Path) -> Option<PathBuf> {
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
