//! [`relight`](fn@relight): pictures lit from the G-buffer that stands beside them, as a dataset or as an image set. No mesh is
//! read and nothing is drawn.
//!
//! Shard after shard of the parent becomes one of the child, so that a killed run goes on as a build does. Rows are lit
//! side by side, a few at a time, and written in their order: neither memory nor bytes depend on the number of threads.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use tap_render::{Lighting, MaterialChoice, Normals, relight_antialiased};

use super::{RelightReport, recipe_of};
use crate::build::{encode_color, to_value};
use crate::parallel::{in_parallel, num_threads};
use crate::{
    BuildEvent, BuildRecipe, Columns, DatasetError, DatasetPlan, DatasetWriter, Manifest, ObjectEntry,
    ObjectFile, Result, RowLayout, Sample, ShardEntry, ShardHeader, ShardReader, Skipped, SkippedObject,
    ViewSelection,
};

/// Rows that are lit at a time, a thread.
const ROWS_PER_WORKER: usize = 4;

/// Where to put relit data; no byte of it depends on the rest.
#[derive(Debug, Clone)]
pub struct RelightOptions {
    /// The folder of the new dataset; or of an image set, see [`image_set_dir`](crate::image_set_dir).
    pub out: PathBuf,
    /// Make an image set: pictures alone.
    pub images_only: bool,
    /// Threads; 0 for one a core.
    pub workers: usize,
    /// Start anew if `out` holds another dataset.
    pub force: bool,
}

/// Makes the dataset of `parent` anew under another light, from its G-buffer. `None` if told to stop; the same call goes
/// on then.
///
/// Within an object pictures are those of a build with that lighting, within 1/255; see [`relight_antialiased`] for edges.
///
/// # Errors
/// When the parent is no finished dataset, holds no G-buffer or none that the lighting can do with, is damaged, or as
/// [`DatasetWriter`] does.
pub fn relight(
    parent: &Path,
    lighting: &Lighting,
    options: &RelightOptions,
    cancel: &AtomicBool,
    on_event: &mut dyn FnMut(BuildEvent),
) -> Result<Option<RelightReport>> {
    lighting.validate()?;
    let manifest = Manifest::read(parent)?;
    let sha256 = manifest.finished(parent)?.to_owned();
    let recipe = recipe_of(&manifest, parent)?;
    check(lighting, &recipe, manifest.layout.columns, parent)?;
    let taken = recipe.render.lighting.clone();
    let columns = if options.images_only {
        Columns::Images
    } else {
        manifest.layout.columns
    };
    let plan = plan_of_child(&manifest, columns, recipe, lighting, &sha256);
    let total = manifest.shards.iter().map(|shard| shard.objects.len()).sum();
    on_event(BuildEvent::Started {
        total,
        adapter: "the G-buffer".to_owned(),
    });

    let mut writer = DatasetWriter::open(&options.out, &plan, options.force)?;
    for file in writer.lost_shards() {
        on_event(BuildEvent::ShardLost { file: file.clone() });
    }
    let missing: Vec<usize> = writer.missing_shards().collect();
    let num_missing: usize = missing
        .iter()
        .map(|&shard| manifest.shards[shard].objects.len())
        .sum();
    if num_missing < total {
        on_event(BuildEvent::Resumed {
            objects: total - num_missing,
        });
    }
    let relighter = Relighter {
        parent,
        manifest: &manifest,
        columns,
        taken: &taken,
        lighting,
        num_workers: num_threads(options.workers),
        cancel,
    };
    for shard in missing {
        if !relighter.relight_shard(&manifest.shards[shard], &mut writer, on_event)? {
            return Ok(None);
        }
    }
    let child = writer.finish()?;
    Ok(Some(RelightReport {
        parent: sha256,
        sha256: child.finished(&options.out)?.to_owned(),
        num_rows: child.shards.iter().map(|shard| shard.rows).sum(),
        num_shards: child.shards.len(),
    }))
}

/// Does a lighting show nothing but what a G-buffer holds?
fn check(lighting: &Lighting, recipe: &BuildRecipe, columns: Columns, parent: &Path) -> Result<()> {
    let path = || parent.to_owned();
    if !columns.has_gbuffer() {
        return Err(DatasetError::NoGbuffer { path: path() });
    }
    let unlit = |shown, held, remedy| DatasetError::Unlit {
        shown,
        held,
        remedy,
        path: path(),
    };
    match (lighting.normals, recipe.render.lighting.normals) {
        (Normals::Smooth, Normals::Flat) => {
            return Err(unlit(
                "smooth normals",
                "flat ones",
                "--set render.lighting.normals=smooth",
            ));
        }
        (Normals::Flat, Normals::Smooth) => {
            return Err(unlit(
                "flat normals",
                "smooth ones",
                "--set render.lighting.normals=flat",
            ));
        }
        _ => {}
    }
    if lighting.material == MaterialChoice::Own && !columns.has_albedo() {
        return Err(unlit("the meshes' own colors", "none", "--lighting textured"));
    }
    Ok(())
}

fn plan_of_child(
    manifest: &Manifest,
    columns: Columns,
    mut recipe: BuildRecipe,
    lighting: &Lighting,
    sha256: &str,
) -> DatasetPlan {
    recipe.render.lighting = lighting.clone();
    let skipped = manifest.skipped.iter().filter(|skipped| skipped.shard.is_none());
    DatasetPlan {
        header: ShardHeader {
            layout: RowLayout {
                columns,
                ..manifest.layout
            },
            recipe: to_value(&recipe),
            ..manifest.header()
        },
        source: manifest.source.clone(),
        num_shards: manifest.num_shards.clone(),
        part: None,
        parent: Some(sha256.to_owned()),
        is_relit: true,
        skipped: skipped.cloned().collect(),
    }
}

/// What all threads share.
#[derive(Clone, Copy)]
struct Relighter<'a> {
    parent: &'a Path,
    manifest: &'a Manifest,
    columns: Columns,
    /// The light in which the parent's pictures were taken.
    taken: &'a Lighting,
    lighting: &'a Lighting,
    num_workers: usize,
    cancel: &'a AtomicBool,
}

impl Relighter<'_> {
    /// Lights a shard; `false` if told to stop before its end.
    fn relight_shard(
        self,
        entry: &ShardEntry,
        writer: &mut DatasetWriter,
        on_event: &mut dyn FnMut(BuildEvent),
    ) -> Result<bool> {
        let path = self.parent.join(&entry.file);
        let shard = ShardReader::open(&path)?;
        let promised: Vec<&ObjectEntry> = entry
            .objects
            .iter()
            .filter(|object| object.row.is_some())
            .collect();
        if promised.len() != shard.num_rows() {
            return Err(DatasetError::ShardContent {
                what: format!("{} rows instead of {}", shard.num_rows(), promised.len()),
                path,
            });
        }
        let rows: Vec<usize> = (0..promised.len()).collect();
        let mut batches = rows.chunks(ROWS_PER_WORKER * self.num_workers);
        let mut lit: VecDeque<Sample> = VecDeque::new();
        for object in &entry.objects {
            let file = ObjectFile {
                path: &object.path,
                bytes: object.bytes,
            };
            if object.row.is_none() {
                let skipped = self.skipped(object)?;
                on_event(BuildEvent::Skipped {
                    id: object.id.to_string(),
                    reason: skipped.reason,
                    message: skipped.message.clone(),
                });
                writer.skip(&object.id, file, skipped);
                continue;
            }
            if lit.is_empty() {
                if self.cancel.load(Ordering::Relaxed) {
                    return Ok(false);
                }
                let batch = batches.next().unwrap_or_default();
                let relight = |i: usize| self.relight_row(&shard, batch[i], promised[batch[i]]);
                lit = in_parallel(self.num_workers, batch.len(), relight, || {})
                    .into_iter()
                    .collect::<Result<_>>()?;
            }
            let sample = lit.pop_front().expect("there is a sample for each row");
            writer.append(&sample, file)?;
            on_event(BuildEvent::Done { id: sample.id });
        }
        let entry = writer.finish_shard()?;
        on_event(BuildEvent::ShardWritten {
            file: entry.file.clone(),
            rows: entry.rows,
            bytes: entry.bytes,
        });
        Ok(true)
    }

    fn relight_row(self, shard: &ShardReader, row: usize, promised: &ObjectEntry) -> Result<Sample> {
        let mut sample = shard.read(row, ViewSelection::WithGbuffer)?;
        let damaged = |what: String| DatasetError::ShardContent {
            what,
            path: self.parent.to_owned(),
        };
        if sample.id != promised.id || Some(sample.digest()) != promised.row {
            return Err(damaged(format!("row {row} is not what the manifest says")));
        }
        for view in &mut sample.views {
            let drawn = view
                .drawn()?
                .ok_or_else(|| damaged(format!("{} has no G-buffer", sample.id)))?;
            let color = relight_antialiased(&drawn, self.taken, self.lighting)?;
            view.image_png = encode_color(drawn.size_px, &color)?;
            if !self.columns.has_gbuffer() {
                view.gbuffer = None;
            }
        }
        Ok(sample)
    }

    /// Why the parent lacks an object.
    fn skipped(self, object: &ObjectEntry) -> Result<Skipped> {
        let is_it = |skipped: &&SkippedObject| {
            skipped.shard.is_some()
                && (skipped.id.as_str(), &skipped.path) == (object.id.as_str(), &object.path)
        };
        let found = self.manifest.skipped.iter().find(is_it);
        let found = found.ok_or_else(|| DatasetError::ManifestContent {
            what: format!("{} is left out without a reason", object.id),
            path: self.parent.to_owned(),
        })?;
        Ok(Skipped {
            reason: found.reason,
            message: found.message.clone(),
            source_sha256: object.sha256.clone(),
        })
    }
}
