//! Layout `shapenet`: version 1 `<synset>/<id>/model.obj`, version 2
//! `<synset>/<id>/models/model_normalized.obj`; `taxonomy.json` names the synsets.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::listing::Listing;
use super::{Candidate, Tree, mesh_file};
use crate::error::{DatasetError, Result, SourceError};
use crate::manifest::SkipReason;

/// Names of the synsets.
pub(super) const TAXONOMY_FILE_NAME: &str = "taxonomy.json";
/// Size limit, enough for all of `WordNet`.
const MAX_TAXONOMY_BYTES: u64 = 64 << 20;
/// Mesh path within an object folder, by version.
const MESH_PATHS: [&str; 2] = ["model.obj", "models/model_normalized.obj"];

/// Cars: the synset of version 2 with object folders that are empty or hold only images.
const SYNSET_WITH_GAPS: &str = "02958343";

/// Entry of the taxonomy; other fields are ignored.
#[derive(Debug, Deserialize)]
struct Synset {
    #[serde(rename = "synsetId")]
    id: String,
    /// Comma-separated synonyms, the most common first.
    name: String,
}

/// Eight digits: a `WordNet` noun offset.
pub(super) fn is_synset(name: &str) -> bool {
    name.len() == 8 && name.bytes().all(|b| b.is_ascii_digit())
}

/// Scan result.
pub(super) struct ShapenetListing {
    pub(super) candidates: Vec<Candidate>,
    /// Version, and what it implies about axes.
    pub(super) publication: Option<String>,
}

pub(super) fn find(listing: &Listing) -> Result<ShapenetListing> {
    let tree = &listing.tree;
    let names = category_names(tree)?;
    let mut candidates = Vec::new();
    let mut num_of_version = [0; MESH_PATHS.len()];
    for synset in tree
        .entries(Path::new(""))?
        .into_iter()
        .filter(|entry| entry.is_dir)
    {
        let is_named = is_synset(&synset.name) || names.contains_key(&synset.name);
        if !is_named && !holds_objects(listing, &synset.name) {
            continue;
        }
        let category = names.get(&synset.name).unwrap_or(&synset.name);
        let objects = tree.entries(Path::new(&synset.name))?;
        for object in objects.into_iter().filter(|entry| entry.is_dir) {
            let dir = PathBuf::from(&synset.name).join(&object.name);
            let published = MESH_PATHS
                .iter()
                .map(|path| dir.join(path))
                .enumerate()
                .find(|(_, path)| listing.has_mesh(path));
            if let Some((version, _)) = &published {
                num_of_version[*version] += 1;
            }
            let mesh = match published {
                Some((_, path)) => Some(path),
                None => only_mesh(listing, &dir),
            };
            let skip = match &mesh {
                Some(_) => None,
                None => Some((SkipReason::Missing, describe_folder(tree, &dir)?)),
            };
            candidates.push(Candidate {
                category: category.clone(),
                category_alias: Some(synset.name.clone()),
                name: object.name,
                path: mesh.unwrap_or(dir),
                split: None,
                skip,
            });
        }
    }
    let version = match num_of_version {
        [0, 0] => None,
        [_, 0] => Some("v1"),
        [0, _] => Some("v2"),
        [_, _] => Some("v1 and v2, mixed"),
    };
    if version == Some("v2") {
        for candidate in &mut candidates {
            let is_known = candidate.category_alias.as_deref() == Some(SYNSET_WITH_GAPS);
            if let Some((reason, message)) = &mut candidate.skip
                && is_known
            {
                *reason = SkipReason::NotPublished;
                message.push_str("; some cars of ShapeNetCore v2 were published so");
            }
        }
    }
    // The versions differ in the front axis and do not record it in their files, so the version is stored.
    let publication =
        version.map(|version| format!("ShapeNetCore {version}: +y up, front as that version has it"));
    Ok(ShapenetListing {
        candidates,
        publication,
    })
}

/// Whether a folder has a mesh where an object folder has it.
pub(super) fn holds_objects(listing: &Listing, folder: &str) -> bool {
    let is_published = |mesh: &PathBuf| {
        let in_object: PathBuf = mesh.iter().skip(2).collect();
        MESH_PATHS.iter().any(|path| in_object == Path::new(path))
    };
    listing.below(Path::new(folder)).any(is_published)
}

/// The mesh of an object folder that has one, in another place than the published ones.
fn only_mesh(listing: &Listing, dir: &Path) -> Option<PathBuf> {
    let mut meshes = listing.below(dir).filter(|mesh| !mesh_file::is_ambiguous(mesh));
    let mesh = meshes.next()?.clone();
    meshes.next().is_none().then_some(mesh)
}

/// Describes an object folder without a mesh.
fn describe_folder(tree: &Tree, dir: &Path) -> Result<String> {
    let entries = tree.entries(dir)?;
    let detail = if entries.is_empty() {
        "its folder is empty".to_owned()
    } else if entries
        .iter()
        .all(|entry| entry.name == "images" || entry.name == "screenshots")
    {
        "its folder holds pictures alone".to_owned()
    } else {
        format!(
            "neither {} nor {} is there, nor one other mesh",
            MESH_PATHS[0], MESH_PATHS[1]
        )
    };
    Ok(detail)
}

/// First synonym of each synset that has a folder; duplicates get the synset appended.
fn category_names(tree: &Tree) -> Result<BTreeMap<String, String>> {
    let mut names = all_names(tree)?;
    names.retain(|id, _| is_single_component(id) && tree.is_dir(Path::new(id)));
    let mut num_uses: BTreeMap<String, usize> = BTreeMap::new();
    for name in names.values() {
        *num_uses.entry(name.clone()).or_default() += 1;
    }
    for (id, name) in &mut names {
        if num_uses[name] > 1 {
            *name = format!("{name}-{id}");
        }
    }
    Ok(names)
}

/// First synonym of each synset in the taxonomy, or the synset itself if there is none.
pub(super) fn all_names(tree: &Tree) -> Result<BTreeMap<String, String>> {
    let path = Path::new(TAXONOMY_FILE_NAME);
    let Some(bytes) = tree.read_list(path, "read the taxonomy", MAX_TAXONOMY_BYTES)? else {
        return Ok(BTreeMap::new());
    };
    let synsets: Vec<Synset> = serde_json::from_slice(&bytes).map_err(|source| {
        DatasetError::Source(SourceError::Json {
            detail: "taxonomy",
            path: tree.folder().join(path),
            source,
        })
    })?;
    let mut names = BTreeMap::new();
    for Synset { id, name } in synsets {
        let first = name.split(',').next().unwrap_or_default().trim();
        let first = if first.is_empty() {
            id.clone()
        } else {
            first.replace(['/', '\\'], "-")
        };
        names.entry(id).or_insert(first);
    }
    Ok(names)
}

/// Whether the name is a single path component.
fn is_single_component(name: &str) -> bool {
    !name.is_empty() && !name.starts_with('.') && !name.contains(['/', '\\'])
}
