//! Layout `shapenet`: version 1 `<synset>/<id>/model.obj`, version 2 `<synset>/<id>/models/model_normalized.obj`;
//! `taxonomy.json` gives the synsets their names.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::{Candidate, Tree};
use crate::{DatasetError, Result, SkipReason};

/// Where the names of synsets stand.
pub(super) const TAXONOMY_FILE_NAME: &str = "taxonomy.json";
/// The whole of `WordNet` would fit.
const MAX_TAXONOMY_BYTES: u64 = 64 << 20;
/// Where a mesh lies within its folder, by version.
const MESH_PATHS: [&str; 2] = ["model.obj", "models/model_normalized.obj"];

/// The cars: the synset of version 2 of which some folders are empty, or hold pictures alone.
const SYNSET_WITH_GAPS: &str = "02958343";

/// One entry of the taxonomy; what else it says is of no use here.
#[derive(Debug, Deserialize)]
struct Synset {
    #[serde(rename = "synsetId")]
    id: String,
    /// Synonyms, comma-separated; the first is the usual one.
    name: String,
}

/// Eight digits, as `WordNet` counts nouns.
pub(super) fn is_synset(name: &str) -> bool {
    name.len() == 8 && name.bytes().all(|b| b.is_ascii_digit())
}

/// What a tree of synsets holds.
pub(super) struct Found {
    pub(super) candidates: Vec<Candidate>,
    /// Which version it is, and what is known of its axes.
    pub(super) publication: Option<String>,
}

pub(super) fn find(tree: &Tree) -> Result<Found> {
    let names = category_names(tree)?;
    let mut candidates = Vec::new();
    let mut num_of_version = [0; MESH_PATHS.len()];
    for synset in tree
        .entries(Path::new(""))?
        .into_iter()
        .filter(|entry| entry.is_dir)
    {
        let category = names.get(&synset.name).unwrap_or(&synset.name);
        let objects = tree.entries(Path::new(&synset.name))?;
        for object in objects.into_iter().filter(|entry| entry.is_dir) {
            let dir = PathBuf::from(&synset.name).join(&object.name);
            let found = MESH_PATHS
                .iter()
                .map(|path| dir.join(path))
                .enumerate()
                .find(|(_, path)| tree.is_file(path));
            if let Some((version, _)) = &found {
                num_of_version[*version] += 1;
            }
            let skip = match &found {
                Some(_) => None,
                None => Some((SkipReason::Missing, what_is_there(tree, &dir)?)),
            };
            candidates.push(Candidate {
                category: category.clone(),
                category_alias: Some(synset.name.clone()),
                name: object.name,
                path: found.map_or(dir, |(_, path)| path),
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
    // The versions differ in which way is front, and say so nowhere in their files: it is recorded, not guessed.
    let publication =
        version.map(|version| format!("ShapeNetCore {version}: +y up, front as that version has it"));
    Ok(Found {
        candidates,
        publication,
    })
}

/// What lies in a folder that has no mesh, in words.
fn what_is_there(tree: &Tree, dir: &Path) -> Result<String> {
    let entries = tree.entries(dir)?;
    let what = if entries.is_empty() {
        "its folder is empty".to_owned()
    } else if entries
        .iter()
        .all(|entry| entry.name == "images" || entry.name == "screenshots")
    {
        "its folder holds pictures alone".to_owned()
    } else {
        format!("neither {} nor {} is there", MESH_PATHS[0], MESH_PATHS[1])
    };
    Ok(what)
}

/// The first synonym of each synset that has a folder; where two would have the same, the number is added.
fn category_names(tree: &Tree) -> Result<BTreeMap<String, String>> {
    let mut names = all_names(tree)?;
    names.retain(|id, _| is_plain(id) && tree.is_dir(Path::new(id)));
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

/// The first synonym of each synset of the taxonomy, its number where it has none.
pub(super) fn all_names(tree: &Tree) -> Result<BTreeMap<String, String>> {
    let path = Path::new(TAXONOMY_FILE_NAME);
    let Some(bytes) = tree.read_list(path, "read the taxonomy", MAX_TAXONOMY_BYTES)? else {
        return Ok(BTreeMap::new());
    };
    let synsets: Vec<Synset> = serde_json::from_slice(&bytes).map_err(|source| DatasetError::Json {
        what: "taxonomy",
        path: tree.folder().join(path),
        source,
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

/// A single name, not a way to somewhere else.
fn is_plain(name: &str) -> bool {
    !name.is_empty() && !name.starts_with('.') && !name.contains(['/', '\\'])
}
