//! A dataset under another light: from the G-buffer that its shards hold ([`relight`](fn@relight)), or drawn again from its
//! meshes ([`relight_from_meshes`]). Either way all but the pictures is the parent's, row for row.

mod from_gbuffer;
mod from_meshes;

use std::path::Path;

use serde::Serialize;

pub use from_gbuffer::{RelightOptions, relight};
pub use from_meshes::relight_from_meshes;

use crate::{BuildRecipe, DatasetError, Manifest, Result};

/// What a relit dataset has in common with its parent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RelightReport {
    /// The hash that names the parent.
    pub parent: String,
    /// The hash that names the relit data.
    pub sha256: String,
    /// Rows; all of them are the parent's but for their pictures.
    pub num_rows: usize,
    /// Shards.
    pub num_shards: usize,
}

fn recipe_of(manifest: &Manifest, dir: &Path) -> Result<BuildRecipe> {
    serde_json::from_value(manifest.recipe.clone()).map_err(|source| DatasetError::Json {
        what: "recipe of the manifest",
        path: dir.to_owned(),
        source,
    })
}
