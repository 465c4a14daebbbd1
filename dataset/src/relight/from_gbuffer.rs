//! [`relight`](fn@relight): relights a dataset from its stored G-buffer, as a new dataset or as an image set.
//! Reads no mesh and renders nothing.
//!
//! Shards are processed one by one, so an interrupted run resumes like a build. The rows of a shard are a job of the
//! [pipeline](crate::pipeline): relit in parallel, written in order.

use std::convert::Infallible;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use tap_render::{Lighting, MaterialChoice, Normals, relight_antialiased};

use super::{RelightReport, require_views};
use crate::builder::{BuildEvent, encode_color, to_value};
use crate::error::{BuildError, DatasetError, ManifestError, RelightError, Result, ShardError};
use crate::manifest::{Manifest, ObjectEntry, ShardEntry, SkippedObject};
use crate::pipeline::{Delivery, Limits, OneStage, num_threads, run};
use crate::recipe::BuildRecipe;
use crate::schema::{ColumnSet, Columns, RowLayout, Sample, ShardHeader};
use crate::shard::{ShardReader, ViewSelection};
use crate::writer::{DatasetPlan, DatasetWriter, ObjectFile, Skipped};

/// Rows in flight per thread.
const ROWS_PER_WORKER: usize = 4;

/// Settings that do not affect the output bytes, except for the columns.
#[derive(Debug, Clone)]
pub struct RelightOptions {
    /// Folder of the new dataset, or of an image set; see [`image_set_dir`](crate::image_set_dir).
    pub out: PathBuf,
    /// Write an image set: only ids and images.
    pub images_only: bool,
    /// Threads; 0 means one per core.
    pub workers: usize,
    /// Overwrite a different dataset in `out`.
    pub force: bool,
}

/// Relights the dataset in `parent` from its G-buffer. `None` if cancelled; the same call resumes.
///
/// Inside an object, images equal a fresh build with that lighting within 1/255; for edges see
/// [`relight_antialiased`].
///
/// # Errors
/// When the parent is not a complete dataset, has no G-buffer or not what the lighting needs, is damaged, or
/// as [`DatasetWriter`].
pub fn relight(
    parent: &Path,
    lighting: &Lighting,
    options: &RelightOptions,
    cancel: &AtomicBool,
    on_event: &mut dyn FnMut(BuildEvent),
) -> Result<Option<RelightReport>> {
    lighting.validate()?;
    let manifest = Manifest::read(parent)?;
    let sha256 = manifest.complete_sha256(parent)?.to_owned();
    let recipe = BuildRecipe::of(&manifest, parent)?;
    check(lighting, &recipe, manifest.layout.columns, parent)?;
    let rendered_under = recipe.render.lighting.clone();
    let columns = if options.images_only {
        Columns::IMAGES
    } else {
        manifest.layout.columns
    };
    let plan = plan_of_child(&manifest, columns, recipe, lighting, &sha256)?;
    let total = manifest.shards.iter().map(ShardEntry::num_objects).sum();
    on_event(BuildEvent::Started {
        total,
        adapter: Some("the G-buffer".to_owned()),
    });

    let mut writer = DatasetWriter::open(&options.out, &plan, options.force)?;
    for file in writer.damaged_shards() {
        on_event(BuildEvent::ShardDamaged { file: file.clone() });
    }
    let missing: Vec<usize> = writer.missing_shards().collect();
    let num_missing: usize = missing
        .iter()
        .map(|&shard| manifest.shards[shard].num_objects())
        .sum();
    if num_missing < total {
        on_event(BuildEvent::Resumed {
            objects: total - num_missing,
        });
    }
    let objects = manifest.objects()?;
    let relighter = Relighter {
        parent,
        manifest: &manifest,
        columns,
        rendered_under: &rendered_under,
        lighting,
        num_workers: num_threads(options.workers),
        cancel,
    };
    for shard in missing {
        let (entry, skipped) = (objects.entry(shard)?, objects.skipped_of(shard)?);
        if !relighter.relight_shard(&entry, &skipped, &mut writer, on_event)? {
            return Ok(None);
        }
    }
    let child = writer.finish()?;
    Ok(Some(RelightReport {
        parent: sha256,
        sha256: child.complete_sha256(&options.out)?.to_owned(),
        num_rows: child.shards.iter().map(|shard| shard.rows).sum(),
        num_shards: child.shards.len(),
    }))
}

/// Checks that the G-buffer stores everything the lighting needs.
fn check(lighting: &Lighting, recipe: &BuildRecipe, columns: Columns, parent: &Path) -> Result<()> {
    let path = || parent.to_owned();
    require_views(columns, parent)?;
    if !columns.has(ColumnSet::Gbuffer) {
        return Err(DatasetError::Relight(RelightError::NoGbuffer { path: path() }));
    }
    let insufficient = |shown, held, remedy| {
        DatasetError::Relight(RelightError::Insufficient {
            shown,
            held,
            remedy,
            path: path(),
        })
    };
    let [shown, stored] = [lighting.normals, recipe.render.lighting.normals].map(Normals::is_smooth);
    match (shown, stored) {
        (true, false) => {
            return Err(insufficient(
                "smooth normals",
                "flat ones",
                "--set render.lighting.normals=smooth",
            ));
        }
        (false, true) => {
            return Err(insufficient(
                "flat normals",
                "smooth ones",
                "--set render.lighting.normals=flat",
            ));
        }
        _ => {}
    }
    if lighting.material == MaterialChoice::Own && !columns.has(ColumnSet::GbufferAlbedo) {
        return Err(insufficient(
            "the meshes' own colors",
            "none",
            "--lighting textured",
        ));
    }
    Ok(())
}

fn plan_of_child(
    manifest: &Manifest,
    columns: Columns,
    mut recipe: BuildRecipe,
    lighting: &Lighting,
    sha256: &str,
) -> Result<DatasetPlan> {
    recipe.render.lighting = lighting.clone();
    Ok(DatasetPlan {
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
        skipped: manifest.left_out()?,
        has_list_files: manifest.lists.is_some(),
    })
}

/// Shared state of all threads.
#[derive(Clone, Copy)]
struct Relighter<'a> {
    parent: &'a Path,
    manifest: &'a Manifest,
    columns: Columns,
    /// Lighting of the parent's images.
    rendered_under: &'a Lighting,
    lighting: &'a Lighting,
    num_workers: usize,
    cancel: &'a AtomicBool,
}

impl Relighter<'_> {
    /// Relights a shard, given with its objects and those of them that were skipped; `false` if cancelled before its end.
    fn relight_shard(
        self,
        entry: &ShardEntry,
        skipped: &[SkippedObject],
        writer: &mut DatasetWriter,
        on_event: &mut dyn FnMut(BuildEvent),
    ) -> Result<bool> {
        let path = self.parent.join(&entry.file);
        let shard = ShardReader::open_of(self.manifest, &path)?;
        let expected: Vec<&ObjectEntry> = entry
            .objects
            .iter()
            .filter(|object| object.row.is_some())
            .collect();
        if expected.len() != shard.num_rows() {
            return Err(DatasetError::Shard(ShardError::Invalid {
                detail: format!("{} rows instead of {}", shard.num_rows(), expected.len()),
                path,
            }));
        }
        // Row of each object that has one.
        let mut num_rows = 0;
        let rows: Vec<Option<usize>> = entry
            .objects
            .iter()
            .map(|object| {
                object.row.as_ref()?;
                num_rows += 1;
                Some(num_rows - 1)
            })
            .collect();
        let job = OneStage::new(
            rows.len(),
            |item, _: &dyn Fn(Infallible)| {
                let relight = |row| self.relight_row(&shard, row, expected[row]);
                rows[item].map(relight).transpose()
            },
            |_, message| Err(DatasetError::Build(BuildError::WorkerPanicked(message))),
        );
        let limits = Limits {
            num_threads: self.num_workers,
            max_items: ROWS_PER_WORKER * self.num_workers,
            max_bytes: u64::MAX,
        };
        let is_complete = run(&job, limits, self.cancel, &mut |delivery| match delivery {
            Delivery::Event(event) => match event {},
            Delivery::Output(item, sample) => {
                self.write(&entry.objects[item], sample, skipped, writer, on_event)
            }
        })?;
        if !is_complete {
            return Ok(false);
        }
        let entry = writer.finish_shard()?;
        on_event(BuildEvent::ShardWritten {
            file: entry.file.clone(),
            rows: entry.rows,
            bytes: entry.bytes,
        });
        Ok(true)
    }

    /// Writes the row of an object, or that it was skipped.
    fn write(
        self,
        object: &ObjectEntry,
        sample: Option<Sample>,
        skipped: &[SkippedObject],
        writer: &mut DatasetWriter,
        on_event: &mut dyn FnMut(BuildEvent),
    ) -> Result<()> {
        let file = ObjectFile {
            path: &object.path,
            bytes: object.bytes,
        };
        if let Some(sample) = sample {
            writer.append(&sample, file)?;
            on_event(BuildEvent::Done { id: sample.id });
        } else {
            let skipped = self.skipped(object, skipped)?;
            on_event(BuildEvent::Skipped {
                id: object.id.to_string(),
                reason: skipped.reason,
                message: skipped.message.clone(),
            });
            writer.skip(&object.id, file, skipped);
        }
        Ok(())
    }

    fn relight_row(self, shard: &ShardReader, row: usize, expected: &ObjectEntry) -> Result<Sample> {
        let mut sample = shard.read(row, ViewSelection::WithGbuffer)?;
        let damaged = |detail: String| {
            DatasetError::Shard(ShardError::Invalid {
                detail,
                path: self.parent.to_owned(),
            })
        };
        if sample.id != expected.id || Some(sample.digest()) != expected.row {
            return Err(damaged(format!("row {row} does not match the manifest")));
        }
        for view in &mut sample.views {
            let view_as_rendered = view
                .to_view()?
                .ok_or_else(|| damaged(format!("{} has no G-buffer", sample.id)))?;
            let color = relight_antialiased(&view_as_rendered, self.rendered_under, self.lighting)?;
            view.image_png = encode_color(view_as_rendered.size_px, &color)?;
            if !self.columns.has(ColumnSet::Gbuffer) {
                view.gbuffer = None;
            }
        }
        Ok(sample)
    }

    /// Why the parent skipped an object.
    fn skipped(self, object: &ObjectEntry, of_shard: &[SkippedObject]) -> Result<Skipped> {
        let is_it = |skipped: &&SkippedObject| {
            (skipped.id.as_str(), &skipped.path) == (object.id.as_str(), &object.path)
        };
        let found = of_shard.iter().find(is_it);
        let found = found.ok_or_else(|| {
            DatasetError::Manifest(ManifestError::Invalid {
                detail: format!("{} is skipped without a reason", object.id),
                path: self.parent.to_owned(),
            })
        })?;
        Ok(Skipped {
            reason: found.reason,
            message: found.message.clone(),
            source_sha256: object.sha256.clone(),
        })
    }
}
