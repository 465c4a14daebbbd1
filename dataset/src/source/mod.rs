//! Sources: objects, classes and splits of a folder of meshes. One file per layout.
//!
//! A layout only lists candidates, which a `Resolver` takes for all layouts.
//! Nothing is dropped silently: rejected candidates become [`SkippedObject`]s.
//!
//! # Adding a source
//!
//! A database, a tar file or meshes made on the fly, from outside of the crate (`dataset/examples/own_source.rs`): list
//! the objects as [`ListedObject`]s, implement [`ObjectReader`] to read one by its path, and pass both to
//! [`Source::from_reader`]. Folders and archives, on a disk or in an object store, are read through the same trait. [`build`](crate::build()) and
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
mod from_plan;
mod listing;
mod mesh_file;
mod modelnet;
mod objaverse;
mod object_list;
mod object_reader;
mod outage;
mod part_table;
mod path_index;
mod read_ahead;
mod referenced;
mod resolver;
mod shapenet;
mod shrec16;
mod split_list;
mod split_ratios;
mod stored;
mod table;
mod tree;
mod walk;

use std::io;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use sha2::{Digest, Sha256};
use strum::VariantNames as _;
use tap_render::import::MeshFormat;

pub use asset::{DEFAULT_MAX_MESH_BYTES, FolderAssets};
use from_plan::Form;
pub(crate) use from_plan::Place;
use listing::Listing;
pub(crate) use mesh_file::{content, expected_bytes, format_of, is_readable, is_unreadable, stem};
use object_list::ObjectListBuilder;
pub use object_list::{ObjectList, SourceObject};
pub use object_reader::{ListedObject, ObjectReader, ReadError};
use outage::Outage;
pub use part_table::PartTable;
pub(crate) use read_ahead::ReadAhead;
pub(crate) use referenced::MeshFiles;
use resolver::{Resolved, Resolver};
pub(crate) use shrec16::{UNLABELED, synsets_in};
pub(crate) use split_list::SplitList;
pub use split_ratios::SplitRatios;
pub(crate) use table::read_classes;
use tree::Tree;
pub(crate) use walk::{Links, Walk, walk};

use crate::error::{DatasetError, NameError, Result, SourceError};
use crate::manifest::{SkipReason, SkippedObject, SourceDescription};
use crate::schema::Split;
use crate::{sha256, store};

/// Default split list in the source folder.
const SPLITS_FILE_NAME: &str = "split.csv";

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
    /// `<category>/**/*.{obj,off,ply,stl,glb,gltf}`, `<split>/<category>/...`, or meshes in no folder.
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

/// A list of meshes, in a scanned folder or behind an [`ObjectReader`]; no mesh has been opened.
#[derive(Debug, Clone)]
pub struct Source {
    reader: Arc<dyn ObjectReader>,
    layout: String,
    publication: Option<String>,
    splits: Option<String>,
    notes: Vec<String>,
    classes: Vec<String>,
    objects: Arc<ObjectList>,
    skipped: Vec<SkippedObject>,
    parts: PartTable,
    /// Whether file lengths were measured in this folder rather than taken from a manifest.
    has_scanned_lengths: bool,
    /// Where others find it; `None` for a source of one's own.
    place: Option<Place>,
    /// Set if its files are in an object store, where reading is waiting: their folder, and what was noted of the store.
    store: Option<(PathBuf, Outage)>,
}

/// What is found in a source, before names and paths are checked.
struct Found<'a> {
    candidates: Box<dyn Iterator<Item = Result<Candidate>> + 'a>,
    notes: Vec<String>,
    publication: Option<String>,
}

/// A mesh found by a layout.
#[derive(Debug, Clone, Default)]
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
    /// Scans a folder, a zip archive or a folder of archives; reads a table, for [`Layout::Csv`]; or takes a single mesh. The
    /// path may be an address in an object store. A web server has no lists: of one, a table, an archive or a mesh is taken.
    ///
    /// Every mesh of a folder or archive becomes an object or is [skipped](Self::skipped) with a reason.
    ///
    /// # Errors
    /// When the source cannot be read or has no objects, or its split list or part list is malformed.
    pub fn open(path: &Path, options: &SourceOptions) -> Result<Self> {
        stored::refuse_secret(path)?;
        let is_plain_file = !tree::is_archive(path) && stored::is_file(path)?;
        if options.layout != Layout::Csv && is_plain_file && mesh_file::is_mesh(path) {
            Self::of_mesh(path, options)
        } else if options.layout == Layout::Csv || (options.layout == Layout::Auto && is_plain_file) {
            Self::of_table(path, options)
        } else {
            Self::of_tree(path, options)
        }
    }

    fn of_mesh(path: &Path, options: &SourceOptions) -> Result<Self> {
        let mesh = canonicalize_mesh(path)?;
        let (tree, folder) = Tree::of_mesh_folder(mesh.parent().unwrap_or(Path::new("")));
        let in_tree = folder.join(mesh.file_name().unwrap_or_default());
        let found = Found {
            candidates: Box::new(std::iter::once(Ok(folders::find_one(&mesh, &in_tree)))),
            notes: vec!["the source is a single mesh".to_owned()],
            publication: None,
        };
        Self::resolve_found(Place::of(path, Form::Mesh), Layout::Folders, tree, found, options)
    }

    fn of_table(path: &Path, options: &SourceOptions) -> Result<Self> {
        let table = table::Table::open(path)?;
        let (tree, place) = match table::stored_root(&table)? {
            Some(root) => (Tree::unlisted(&root)?, Place::of(&root, Form::tree())),
            None => (
                Tree::unlisted(path.parent().unwrap_or(Path::new("")))?,
                Place::of(path, Form::Table),
            ),
        };
        let note = format!("layout {}: the source is a file", Layout::Csv);
        let found = Found {
            candidates: Box::new(table::find(&table, tree.clone())?),
            notes: (options.layout == Layout::Auto)
                .then_some(note)
                .into_iter()
                .collect(),
            publication: None,
        };
        Self::resolve_found(place, Layout::Csv, tree, found, options)
    }

    fn of_tree(path: &Path, options: &SourceOptions) -> Result<Self> {
        let tree = Tree::open(path)?;
        if matches!(tree, Tree::Folder(_)) && !tree.folder().is_dir() {
            return Err(DatasetError::Source(SourceError::NoObjects {
                detail: "not a folder".to_owned(),
                path: path.to_owned(),
            }));
        }
        let listing = Listing::of_tree(tree, path)?;
        let mut notes: Vec<String> = listing
            .lone_folder
            .iter()
            .map(|folder| format!("all meshes are in the folder {}", folder.display()))
            .collect();
        let layout = match options.layout {
            Layout::Auto => {
                let (layout, why) = detect_layout(&listing)?;
                notes.push(format!("layout {layout}: {why}"));
                layout
            }
            layout => layout,
        };
        notes.extend(listing.unopened());
        let mut publication = None;
        let candidates: Box<dyn Iterator<Item = Candidate>> = match layout {
            Layout::Shapenet => {
                let found = shapenet::find(&listing)?;
                publication = found.publication;
                Box::new(found.candidates.into_iter())
            }
            Layout::Shrec16 => {
                notes.extend(shrec16::describe_lists(&listing.tree)?);
                Box::new(shrec16::find(&listing.tree)?.into_iter())
            }
            Layout::Modelnet => Box::new(modelnet::find(&listing)),
            Layout::Objaverse => objaverse::find(&listing)?,
            Layout::Folders | Layout::Auto | Layout::Csv => {
                notes.extend(folders::describe(&listing));
                Box::new(folders::find(&listing))
            }
        };
        let mut candidates = candidates.peekable();
        if candidates.peek().is_none() && listing.is_visited() {
            let is_nothing = matches!(&listing.tree, Tree::Stored(folder) if folder.is_empty());
            return Err(DatasetError::Source(SourceError::NoObjects {
                detail: if is_nothing {
                    "nothing is at this address".to_owned()
                } else {
                    absence(layout, &listing)
                },
                path: path.to_owned(),
            }));
        }
        notes.extend(publication.clone());
        let found = Found {
            candidates: Box::new(listing.with_left(layout, candidates).map(Ok)),
            notes,
            publication,
        };
        let form = Form::Tree {
            lone_folder: listing.lone_folder.clone(),
            has_archives: matches!(listing.tree, Tree::Archives(_)) && !tree::is_archive(path),
        };
        Self::resolve_found(
            Place::of(path, form),
            layout,
            listing.tree.clone(),
            found,
            options,
        )
    }

    /// Splits, parts and order of what a layout found.
    fn resolve_found(
        place: Place,
        layout: Layout,
        tree: Tree,
        found: Found<'_>,
        options: &SourceOptions,
    ) -> Result<Self> {
        let Found {
            candidates,
            mut notes,
            publication,
        } = found;
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
            ..Self::of_files(layout.to_string(), tree)
        };
        source.notes.extend(
            options
                .split_ratios
                .map(|split_ratios| format!("splits by {split_ratios}")),
        );
        source.resolve(candidates, splits, options.split_ratios.as_ref())?;
        if source.objects.is_empty() && source.skipped.is_empty() {
            return Err(DatasetError::Source(SourceError::NoObjects {
                detail: "the table has no row".to_owned(),
                path: place.into_path(),
            }));
        }
        source.place = Some(place);
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
        source.resolve(objects.into_iter().map(|object| Ok(object.into())), None, None)?;
        if source.objects.is_empty() && source.skipped.is_empty() {
            return Err(DatasetError::Source(SourceError::NoObjects {
                detail: "the list is empty".to_owned(),
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
            objects: Arc::default(),
            skipped: Vec::new(),
            parts: PartTable::default(),
            has_scanned_lengths: true,
            place: None,
            store: None,
        }
    }

    /// A source of the files of a tree, without an object.
    fn of_files(layout: String, tree: Tree) -> Self {
        let store = (tree.folder().to_owned(), tree.outage());
        Self {
            store: tree.is_stored().then_some(store),
            ..Self::empty(layout, Arc::new(tree))
        }
    }

    /// Takes candidates as objects or skipped objects.
    fn resolve(
        &mut self,
        candidates: impl Iterator<Item = Result<Candidate>>,
        splits: Option<SplitList>,
        split_ratios: Option<&SplitRatios>,
    ) -> Result<()> {
        let mut resolver = Resolver::new(&*self.reader, splits);
        for candidate in candidates {
            resolver.add(candidate?);
        }
        let Resolved {
            objects,
            skipped,
            classes,
        } = resolver.finish(split_ratios);
        (self.objects, self.skipped, self.classes) = (Arc::new(objects), skipped, classes);
        Ok(())
    }

    /// Reads the mesh of an object.
    pub(crate) fn read(&self, object: &SourceObject, limit_bytes: u64) -> io::Result<Vec<u8>> {
        let bytes = self.reader.read(object.path_on_disk(), limit_bytes)?;
        Ok(object_reader::within(bytes, limit_bytes)?)
    }

    /// Whether its files are in an object store, where many at a time are asked for.
    pub(crate) fn is_stored(&self) -> bool {
        self.store.is_some()
    }

    /// Refuses to go on where a store did not give a file that should be there, which says nothing of the mesh.
    ///
    /// # Errors
    /// What the store said first.
    pub(crate) fn check_store(&self) -> Result<()> {
        match &self.store {
            Some((path, outage)) if outage.get().is_some() => {
                Err(DatasetError::Source(SourceError::Outage {
                    detail: outage.get().unwrap_or_default().to_owned(),
                    path: path.clone(),
                }))
            }
            _ => Ok(()),
        }
    }

    /// Length of the mesh when this source was scanned; `None` if it was not, or the length is unknown.
    pub(crate) fn scanned_bytes(&self, object: &SourceObject) -> Option<u64> {
        object.bytes.filter(|_| self.has_scanned_lengths)
    }

    /// When any file of the source last changed; `None` if it does not tell.
    pub(crate) fn last_change(&self) -> Option<SystemTime> {
        self.reader.last_change()
    }

    /// Assets that the mesh of an object may read.
    pub(crate) fn assets(&self, object: &SourceObject, limit_bytes: u64) -> FolderAssets {
        FolderAssets::read_by(Arc::clone(&self.reader), object.path_on_disk(), limit_bytes)
    }

    /// Where others find it; `None` for a source of one's own.
    pub(crate) fn place(&self) -> Option<&Place> {
        self.place.as_ref()
    }

    /// Only the objects with these indices, which must ascend; none are skipped.
    pub(crate) fn subset(&self, objects: &[usize]) -> Self {
        Self {
            objects: Arc::new(self.objects.subset(objects)),
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
    pub fn objects(&self) -> &ObjectList {
        &self.objects
    }

    /// Number of objects of a split.
    pub(crate) fn num_objects(&self, split: Split) -> usize {
        self.objects.num_of_split(split)
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
        for object in self.objects.iter() {
            let bytes = object.listed_bytes();
            let SourceObject {
                id,
                split,
                path,
                format: _,
                bytes: _,
                relocated_to: _,
                changed: _,
            } = object;
            listing.update(format!("{split} {id} {bytes} {}\n", slash_path(&path)));
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
}

/// Detects the layout, with the reason.
fn detect_layout(listing: &Listing) -> Result<(Layout, String)> {
    let tree = &listing.tree;
    let taxonomy = Path::new(shapenet::TAXONOMY_FILE_NAME);
    if shrec16::matches_layout(tree)? {
        return Ok((
            Layout::Shrec16,
            "meshes are numbered as for SHREC 2016".to_owned(),
        ));
    }
    if tree.has_list(taxonomy) {
        return Ok((Layout::Shapenet, format!("there is a {}", taxonomy.display())));
    }
    let folders = listing.top_folders();
    let (synsets, others): (Vec<&str>, Vec<&str>) =
        folders.iter().partition(|folder| shapenet::is_synset(folder));
    let has_objects = synsets
        .iter()
        .any(|synset| shapenet::holds_objects(listing, synset));
    if !synsets.is_empty() && others.is_empty() && has_objects {
        return Ok((Layout::Shapenet, "all folders are named like synsets".to_owned()));
    }
    if synsets.len() > others.len() && has_objects {
        let why = format!(
            "{} of {} folders are named like synsets, not {}",
            synsets.len(),
            folders.len(),
            others.join(", ")
        );
        return Ok((Layout::Shapenet, why));
    }
    if let Some(root) = objaverse::mesh_root(listing) {
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
    if let Some(class) = modelnet::class_with_splits(listing) {
        return Ok((
            Layout::Modelnet,
            format!("{class} has folders for training and test"),
        ));
    }
    let is_one_deep = listing.meshes.iter().all(|mesh| mesh.components().count() == 2);
    let why = if is_one_deep {
        format!("{} folders, one a category", folders.len())
    } else {
        format!("{} meshes in {} folders", listing.meshes.len(), folders.len())
    };
    let of_synsets = if has_objects {
        format!(
            "; {} are named like synsets, --layout shapenet takes those alone",
            synsets.len()
        )
    } else {
        String::new()
    };
    Ok((Layout::Folders, why + &of_synsets))
}

/// What is missing of a layout, and which meshes there are instead.
fn absence(layout: Layout, listing: &Listing) -> String {
    if listing.meshes.is_empty() {
        let extensions = MeshFormat::EXTENSIONS.join(", ");
        return format!("no mesh is in it or below it ({extensions} files are meshes)");
    }
    let expected = match layout {
        Layout::Shapenet => "no <synset>/<id>/model.obj and no <synset>/<id>/models/model_normalized.obj",
        Layout::Shrec16 => "no train/model_000000.obj",
        Layout::Modelnet => "no <class>/train/*.off and no <class>/test/*.off",
        Layout::Objaverse => "no glbs/000-000/*.glb",
        Layout::Folders | Layout::Auto | Layout::Csv => "no mesh",
    };
    format!(
        "{expected}, but {} meshes elsewhere ({}): leave out --layout",
        listing.meshes.len(),
        listing::examples(&listing.meshes)
    )
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
        stem(Path::new(&self.name)).unwrap_or(&self.name)
    }

    /// Whether it is a mesh, in a supported or unsupported format.
    fn is_mesh(&self) -> bool {
        !self.is_dir && mesh_file::is_mesh(Path::new(&self.name))
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

/// Canonical path of a mesh; its address, if it is in a store.
fn canonicalize_mesh(path: &Path) -> Result<PathBuf> {
    if store::is_url(path) {
        return Ok(path.to_owned());
    }
    path.canonicalize()
        .map_err(DatasetError::io("open the mesh", path))
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
