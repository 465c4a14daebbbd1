//! A dataset under another lighting: from its stored G-buffer ([`relight`](fn@relight)) or rendered again
//! from its meshes ([`relight_from_meshes`]). Everything but the images equals the parent, row by row.

mod from_gbuffer;
mod from_meshes;

use std::path::Path;

use serde::Serialize;

pub use from_gbuffer::{RelightOptions, relight};
pub use from_meshes::relight_from_meshes;

use crate::error::{DatasetError, RecipeError, RelightError, Result};
use crate::manifest::Manifest;
use crate::recipe::BuildRecipe;
use crate::schema::{ColumnSet, Columns};

/// Outcome of relighting.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RelightReport {
    /// Hash of the parent's data.
    pub parent: String,
    /// Hash of the relit data.
    pub sha256: String,
    /// Number of rows, equal to the parent's.
    pub num_rows: usize,
    /// Number of shards.
    pub num_shards: usize,
}

fn recipe_of(manifest: &Manifest, dir: &Path) -> Result<BuildRecipe> {
    serde_json::from_value(manifest.recipe.clone()).map_err(|source| {
        DatasetError::Recipe(RecipeError::Json {
            path: dir.to_owned(),
            source,
        })
    })
}

fn require_views(columns: Columns, dir: &Path) -> Result<()> {
    if columns.has(ColumnSet::Views) {
        return Ok(());
    }
    let path = dir.to_owned();
    Err(DatasetError::Relight(RelightError::NoViews { path }))
}
