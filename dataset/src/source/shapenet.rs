//! Layout `shapenet`: version 1 `<synset>/<id>/model.obj`, version 2 `<synset>/<id>/models/model_normalized.obj`;
//! `taxonomy.json` gives the synsets their names.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::{Candidate, entries};
use crate::{DatasetError, Result, SkipReason, durable};

/// Where the names of synsets stand.
pub(super) const TAXONOMY_FILE_NAME: &str = "taxonomy.json";
/// The whole of `WordNet` would fit.
const MAX_TAXONOMY_BYTES: u64 = 64 << 20;
/// Where a mesh lies within its folder, by version.
const MESH_PATHS: [&str; 2] = ["model.obj", "models/model_normalized.obj"];

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

pub(super) fn find(root: &Path) -> Result<Vec<Candidate>> {
    let names = category_names(root)?;
    let mut candidates = Vec::new();
    for synset in entries(root)?.into_iter().filter(|entry| entry.is_dir) {
        let category = names.get(&synset.name).unwrap_or(&synset.name);
        for object in entries(&root.join(&synset.name))?
            .into_iter()
            .filter(|entry| entry.is_dir)
        {
            let dir = PathBuf::from(&synset.name).join(&object.name);
            let found = MESH_PATHS
                .iter()
                .map(|path| dir.join(path))
                .find(|path| root.join(path).is_file());
            let skip = found.is_none().then(|| {
                let message = format!("neither {} nor {} is there", MESH_PATHS[0], MESH_PATHS[1]);
                (SkipReason::Missing, message)
            });
            candidates.push(Candidate {
                category: category.clone(),
                category_alias: Some(synset.name.clone()),
                name: object.name,
                path: found.unwrap_or(dir),
                split: None,
                skip,
            });
        }
    }
    Ok(candidates)
}

/// The first synonym of each synset that has a folder; where two would have the same, the number is added.
fn category_names(root: &Path) -> Result<BTreeMap<String, String>> {
    let path = root.join(TAXONOMY_FILE_NAME);
    if !path.is_file() {
        return Ok(BTreeMap::new());
    }
    let bytes = durable::read_bounded(&path, MAX_TAXONOMY_BYTES)
        .map_err(DatasetError::io("read the taxonomy", &path))?;
    let synsets: Vec<Synset> = serde_json::from_slice(&bytes).map_err(|source| DatasetError::Json {
        what: "taxonomy",
        path,
        source,
    })?;
    let first = |synset: &Synset| {
        synset
            .name
            .split(',')
            .next()
            .unwrap_or_default()
            .trim()
            .replace(['/', '\\'], "-")
    };
    let mut names: BTreeMap<String, String> = BTreeMap::new();
    let mut num_uses: BTreeMap<String, usize> = BTreeMap::new();
    for synset in synsets {
        if root.join(&synset.id).is_dir() && is_plain(&synset.id) && !names.contains_key(&synset.id) {
            *num_uses.entry(first(&synset)).or_default() += 1;
            names.insert(synset.id.clone(), first(&synset));
        }
    }
    for (id, name) in &mut names {
        if name.is_empty() {
            name.clone_from(id);
        } else if num_uses[name] > 1 {
            *name = format!("{name}-{id}");
        }
    }
    Ok(names)
}

/// A single name, not a way to somewhere else.
fn is_plain(name: &str) -> bool {
    !name.is_empty() && !name.starts_with('.') && !name.contains(['/', '\\'])
}
