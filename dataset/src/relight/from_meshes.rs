//! [`relight_from_meshes`]: the meshes are drawn again with the same recipe but the lighting; every row is then held against
//! the parent's: all but the pictures must be the same.

use std::path::Path;
use std::sync::atomic::AtomicBool;

use tap_render::Lighting;

use super::{RelightReport, recipe_of};
use crate::build::build_child;
use crate::{
    BuildEvent, BuildOptions, DatasetError, Manifest, Result, Sample, SampleView, ShardReader, Source,
    ViewSelection,
};

/// Makes the dataset of `parent` anew under another light, from the meshes that it was made from. `None` if told to
/// stop; the same call goes on then.
///
/// # Errors
/// When the parent is no finished dataset or names no meshes, when a row differs in more than its pictures (another mesh,
/// another adapter), or as [`build`](crate::build()) does.
pub fn relight_from_meshes(
    parent: &Path,
    meshes: &Path,
    lighting: &Lighting,
    options: &BuildOptions,
    cancel: &AtomicBool,
    on_event: &mut dyn FnMut(BuildEvent),
) -> Result<Option<RelightReport>> {
    let manifest = Manifest::read(parent)?;
    let sha256 = manifest.finished(parent)?.to_owned();
    let mut recipe = recipe_of(&manifest, parent)?;
    recipe.render.lighting = lighting.clone();
    let source = Source::from_manifest(&manifest, meshes)?;
    let summary = build_child(&source, &recipe, options, Some(&sha256), cancel, on_event)?;
    let Some(relit) = summary.manifest.sha256.clone().filter(|_| summary.is_complete) else {
        return Ok(None);
    };
    for (of_parent, of_child) in manifest.shards.iter().zip(&summary.manifest.shards) {
        let other = |what: String| DatasetError::OtherThanLit {
            what,
            path: options.out.clone(),
        };
        if of_parent.rows != of_child.rows {
            return Err(other(format!(
                "{} has {} rows instead of {}",
                of_child.file, of_child.rows, of_parent.rows
            )));
        }
        let before = ShardReader::open(&parent.join(&of_parent.file))?;
        let after = ShardReader::open(&options.out.join(&of_child.file))?;
        for row in 0..of_child.rows {
            let [before, after] = [&before, &after].map(|shard| shard.read(row, ViewSelection::All));
            let (before, after) = (before?, after?);
            if without_pictures(&before) != without_pictures(&after) {
                return Err(other(format!("{} differs in more than its pictures", after.id)));
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

/// What a lighting has no part in. Materials are read where a lighting shows them: what they lack, and the hash of their
/// files, belongs to it.
fn without_pictures(sample: &Sample) -> Sample {
    let mut sample = sample.clone();
    for view in &mut sample.views {
        let SampleView { image_png, .. } = view;
        image_png.clear();
    }
    sample.assets_sha256 = None;
    if let Some(findings) = &mut sample.findings {
        findings.warnings.clear();
    }
    sample
}
