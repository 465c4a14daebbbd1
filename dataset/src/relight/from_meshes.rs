//! [`relight_from_meshes`]: renders the meshes again with a new lighting, and checks that nothing but images
//! changed.

use std::path::Path;
use std::sync::atomic::AtomicBool;

use tap_render::Lighting;

use super::{RelightReport, recipe_of, require_views};
use crate::builder::{BuildEvent, BuildOptions, build_child};
use crate::error::{DatasetError, RelightError, Result};
use crate::manifest::Manifest;
use crate::schema::{Sample, SampleView};
use crate::shard::{ShardReader, ViewSelection};
use crate::source::Source;

/// Relights the dataset in `parent` by rendering its meshes again. `None` if cancelled; the same call
/// resumes.
///
/// # Errors
/// When the parent is not a complete dataset or lists no meshes, when a row differs in more than its images
/// (another mesh or adapter), or as [`build`](crate::build()).
pub fn relight_from_meshes(
    parent: &Path,
    meshes: &Path,
    lighting: &Lighting,
    options: &BuildOptions,
    cancel: &AtomicBool,
    on_event: &mut dyn FnMut(BuildEvent),
) -> Result<Option<RelightReport>> {
    let manifest = Manifest::read(parent)?;
    let sha256 = manifest.complete_sha256(parent)?.to_owned();
    require_views(manifest.layout.columns, parent)?;
    let mut recipe = recipe_of(&manifest, parent)?;
    recipe.render.lighting = lighting.clone();
    let source = Source::from_manifest(&manifest, meshes)?;
    let summary = build_child(&source, &recipe, options, Some(&sha256), cancel, on_event)?;
    let Some(relit) = summary.manifest.sha256.clone().filter(|_| summary.is_complete) else {
        return Ok(None);
    };
    for (of_parent, of_child) in manifest.shards.iter().zip(&summary.manifest.shards) {
        let other = |detail: String| {
            DatasetError::Relight(RelightError::Mismatch {
                detail,
                path: options.out.clone(),
            })
        };
        if of_parent.rows != of_child.rows {
            return Err(other(format!(
                "{} has {} rows instead of {}",
                of_child.file, of_child.rows, of_parent.rows
            )));
        }
        let before = ShardReader::open_of(&manifest, &parent.join(&of_parent.file))?;
        let after = ShardReader::open(&options.out.join(&of_child.file))?;
        for row in 0..of_child.rows {
            let [before, after] = [&before, &after].map(|shard| shard.read(row, ViewSelection::All));
            let (before, after) = (before?, after?);
            if without_images(&before) != without_images(&after) {
                return Err(other(format!("{} differs in more than its images", after.id)));
            }
        }
    }
    Ok(Some(RelightReport {
        parent: sha256,
        sha256: relit,
        num_rows: summary.num_rows(),
        num_shards: summary.manifest.shards.len(),
    }))
}

/// The row without what depends on lighting. Materials are read only if the lighting shows them, so importer
/// warnings and the asset hash depend on it too.
fn without_images(sample: &Sample) -> Sample {
    let mut sample = sample.clone();
    for view in &mut sample.views {
        let SampleView { image_png, .. } = view;
        image_png.clear();
    }
    sample.assets_sha256 = None;
    if let Some(issues) = sample.mesh.as_mut().and_then(|mesh| mesh.issues.as_mut()) {
        issues.warnings.clear();
    }
    sample
}
