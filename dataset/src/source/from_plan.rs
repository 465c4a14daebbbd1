//! Source from a plan: some objects of a build that was begun, perhaps on another machine.
//!
//! The folder of meshes is not listed again: the plan has the list, and each object that is needed is compared with it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{
    ObjectListBuilder, ObjectReader as _, PartTable, Source, SourceObject, Tree, canonicalize_mesh,
    mesh_file, normalize_within, stored, tree,
};
use crate::error::{DatasetError, ManifestError, Result, SourceError};
use crate::manifest::Manifest;
use crate::store;
use crate::writer::PlannedObject;

/// Where a source was opened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Place {
    /// Absolute, on the machine that listed it; or an address, which is the same on all.
    path: String,
    form: Form,
}

/// What kind of source a path names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) enum Form {
    /// A folder or archives, perhaps with one folder around the whole set.
    Tree {
        lone_folder: Option<PathBuf>,
        /// Whether it is a folder of archives.
        #[serde(default)]
        has_archives: bool,
    },
    /// A list of meshes, whose paths are relative to its folder.
    Table,
    /// A single mesh.
    Mesh,
}

impl Place {
    pub(super) fn of(path: &Path, form: Form) -> Self {
        let absolute = if store::is_url(path) {
            path.to_owned()
        } else {
            std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
        };
        Self {
            path: absolute.to_string_lossy().into_owned(),
            form,
        }
    }

    pub(super) fn into_path(self) -> PathBuf {
        PathBuf::from(self.path)
    }

    /// Opens the files of the source, without a list of them.
    fn open(&self, path: &Path) -> Result<Tree> {
        match &self.form {
            Form::Tree {
                lone_folder,
                has_archives,
            } => {
                let is_folder = store::is_url(path) && !tree::is_archive(path);
                let tree = match (is_folder, has_archives) {
                    (true, true) => Tree::open_archives_in(path)?,
                    (true, false) => Tree::unlisted(path)?,
                    (false, _) => Tree::open(path)?,
                };
                match lone_folder {
                    None => Ok(tree),
                    Some(folder) => match normalize_within(folder) {
                        Some(folder) => Ok(tree.enter(&folder)),
                        None => Err(mismatch(path, "its inner folder leads out of it".to_owned())),
                    },
                }
            }
            Form::Table => Tree::unlisted(path.parent().unwrap_or(Path::new(""))),
            Form::Mesh => {
                let mesh = canonicalize_mesh(path)?;
                Ok(Tree::of_mesh_folder(mesh.parent().unwrap_or(Path::new(""))).0)
            }
        }
    }
}

impl Form {
    /// A folder without another around it.
    pub(super) fn tree() -> Self {
        Self::Tree {
            lone_folder: None,
            has_archives: false,
        }
    }
}

impl Source {
    /// Objects of a plan, where the plan says that they are, or at `path` on this machine.
    ///
    /// # Errors
    /// When the source is not there, or an object is missing or has another length than in the plan.
    pub(crate) fn from_plan(
        manifest: &Manifest,
        place: &Place,
        path: Option<&Path>,
        planned: Vec<PlannedObject>,
    ) -> Result<Self> {
        let path = path.unwrap_or(Path::new(&place.path));
        stored::refuse_secret(path)?;
        if !store::is_url(path) && !path.exists() {
            let detail =
                "there is no such folder or file; name its place on this machine with --source".to_owned();
            return Err(mismatch(path, detail));
        }
        let tree = place.open(path)?;
        let paths: Vec<PathBuf> = planned
            .iter()
            .filter_map(|object| normalize_within(Path::new(&object.path)))
            .collect();
        tree.look_up(&paths)?;
        let damaged = |detail: String| {
            DatasetError::Manifest(ManifestError::Plan {
                detail,
                path: path.to_owned(),
            })
        };
        let mut objects = ObjectListBuilder::default();
        let mut first_difference = None;
        for PlannedObject {
            split,
            id,
            path,
            bytes,
        } in planned
        {
            let path = normalize_within(Path::new(&path))
                .ok_or_else(|| damaged(format!("the path of {id} leads out of the source")))?;
            let format = mesh_file::format_of(&path)
                .ok_or_else(|| damaged(format!("the mesh of {id} is of no format")))?;
            let (difference, changed) = match tree.state(&path) {
                Err(error) => (Some(error.to_string()), None),
                Ok((found, changed)) if found != bytes => {
                    let [found, planned] = [found, bytes].map(|bytes| bytes.unwrap_or(0));
                    (Some(format!("{found} bytes instead of {planned}")), changed)
                }
                Ok((_, changed)) => (None, changed),
            };
            if let Some(difference) = difference {
                first_difference.get_or_insert_with(|| format!("{}: {difference}", path.display()));
            }
            let object = SourceObject {
                changed,
                id,
                split,
                path,
                format,
                bytes,
                relocated_to: None,
            };
            objects.add(&object).map_err(damaged)?;
        }
        if let Some(difference) = first_difference {
            return Err(mismatch(path, difference));
        }
        Ok(Self {
            publication: manifest.source.publication.clone(),
            splits: manifest.source.splits.clone(),
            classes: manifest.classes.clone(),
            objects: Arc::new(objects.in_order()),
            parts: PartTable::from_names(&manifest.parts).map_err(damaged)?,
            ..Self::of_files(manifest.source.layout.clone(), tree)
        })
    }
}

fn mismatch(path: &Path, detail: String) -> DatasetError {
    DatasetError::Source(SourceError::Mismatch {
        detail,
        path: path.to_owned(),
    })
}
