//! [`BuildRecipe`]: all settings that determine the content of a dataset. Equal source, recipe and adapter
//! give equal bytes.

use std::path::Path;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tap_render::{Channels, MaterialChoice, Normals, RenderRecipe, UpAxis};

use crate::error::{DatasetError, RecipeError, Result};
use crate::image::MAX_IMAGE_SIZE_PX;
use crate::manifest::{MAX_OBJECTS_IN_MANIFEST, Manifest};
use crate::schema::{ColumnSet, Columns, ObjectId, RowLayout};
use crate::surface::Sampler;

/// Points per object (TAP, section 4.1).
pub const DEFAULT_NUM_POINTS: usize = 1024;
/// Objects per shard: the work lost at most when a build is killed.
pub const DEFAULT_ROWS_PER_SHARD: usize = 128;
/// Schema version since which smooth normals are those of the file; before it, they were averaged.
const FILE_NORMALS_SINCE: u32 = 4;
/// Limit on points per object.
const MAX_NUM_POINTS: usize = 1 << 18;
/// Limit on objects per shard.
pub(crate) const MAX_ROWS_PER_SHARD: usize = 1 << 20;

/// Settings of a dataset.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[allow(clippy::struct_excessive_bools, reason = "each is a key of a recipe's file")]
pub struct BuildRecipe {
    /// Views and lighting.
    pub render: RenderRecipe,
    /// Whether to render and store views. Without them nothing is rendered, and no object is skipped for how it looks.
    #[serde(skip_serializing_if = "is_true")]
    pub views: bool,
    /// Whether to store the normals of the points.
    #[serde(skip_serializing_if = "is_true")]
    pub normals: bool,
    /// Whether to examine the meshes and store their statistics and issues.
    #[serde(skip_serializing_if = "is_true")]
    pub mesh_stats: bool,
    /// Whether to store a G-buffer for relighting without meshes. Its normals are flat or smooth as in the
    /// lighting; albedo is stored if the lighting shows it.
    pub gbuffer: bool,
    /// N: points per object.
    pub num_points: usize,
    /// Point sampling method.
    pub sampler: Sampler,
    /// Combined with an object's id into the seed of its points.
    pub seed: u64,
    /// Up axis of the meshes.
    pub up: UpAxis,
    /// Translation and scale into object space.
    pub normalization: Normalization,
    /// Objects per shard; skipped ones leave it shorter.
    pub rows_per_shard: usize,
    /// Objects up to which the manifest lists them itself; those of a larger data set are listed in files beside it.
    #[serde(skip_serializing_if = "is_default_max_objects")]
    pub max_objects_in_manifest: usize,
    /// Objects that cover less than this fraction of one of their images are left out; 0 keeps all.
    #[serde(skip_serializing_if = "is_zero")]
    pub min_coverage: f32,
}

/// Refuses shards without rows, and shards too large.
pub(crate) fn check_rows_per_shard(rows_per_shard: usize) -> Result<()> {
    if (1..=MAX_ROWS_PER_SHARD).contains(&rows_per_shard) {
        return Ok(());
    }
    Err(DatasetError::Recipe(RecipeError::OutOfRange {
        key: "rows_per_shard",
        value: rows_per_shard.to_string(),
        rule: "1 to 1048576",
    }))
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_zero(number: &f32) -> bool {
    *number == 0.0
}

/// Came later, too.
#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_default_max_objects(number: &usize) -> bool {
    *number == MAX_OBJECTS_IN_MANIFEST
}

/// Settings that leave out columns came later: the default is not written, so that recipes without them stay the same.
#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde hands over a reference")]
fn is_true(setting: &bool) -> bool {
    *setting
}

/// Translation and scale into object space.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Normalization {
    /// Centroid of the sampled points at the origin, farthest point at distance 1.
    #[default]
    Points,
    /// Center of the bounding box at the origin, farthest vertex at distance 1.
    BoundingBox,
    /// Centroid of the surface at the origin, farthest vertex at distance 1.
    Surface,
}

impl Default for BuildRecipe {
    fn default() -> Self {
        Self {
            render: RenderRecipe::default(),
            views: true,
            normals: true,
            mesh_stats: true,
            gbuffer: false,
            num_points: DEFAULT_NUM_POINTS,
            sampler: Sampler::default(),
            seed: 0,
            up: UpAxis::default(),
            normalization: Normalization::default(),
            rows_per_shard: DEFAULT_ROWS_PER_SHARD,
            max_objects_in_manifest: MAX_OBJECTS_IN_MANIFEST,
            min_coverage: 0.0,
        }
    }
}

impl BuildRecipe {
    /// Checks all settings.
    ///
    /// # Errors
    /// The first setting that is out of range.
    pub fn validate(&self) -> Result<()> {
        // Exhaustive: a new field must be checked or listed here.
        let Self {
            render,
            views,
            normals: _,
            mesh_stats: _,
            gbuffer,
            num_points,
            sampler: _,
            seed: _,
            up: _,
            normalization: _,
            rows_per_shard,
            max_objects_in_manifest,
            min_coverage,
        } = self;
        render.validate()?;
        let out_of_range = |key, value: String, rule| {
            Err(DatasetError::Recipe(RecipeError::OutOfRange { key, value, rule }))
        };
        if *gbuffer && !views {
            return out_of_range("gbuffer", gbuffer.to_string(), "false without views");
        }
        if !(1..=MAX_NUM_POINTS).contains(num_points) {
            return out_of_range("num_points", num_points.to_string(), "1 to 262144");
        }
        check_rows_per_shard(*rows_per_shard)?;
        if *max_objects_in_manifest > MAX_OBJECTS_IN_MANIFEST {
            return out_of_range(
                "max_objects_in_manifest",
                max_objects_in_manifest.to_string(),
                "at most 65536",
            );
        }
        if !(0.0..=1.0).contains(min_coverage) {
            return out_of_range("min_coverage", min_coverage.to_string(), "0 to 1");
        }
        if render.size_px > MAX_IMAGE_SIZE_PX {
            return out_of_range("render.size_px", render.size_px.to_string(), "at most 4096");
        }
        if render.channels != Channels::default() {
            return out_of_range(
                "render.channels",
                render.channels.to_string(),
                "color,mask: what a shard stores (`gbuffer = true` stores more)",
            );
        }
        Ok(())
    }

    /// Row dimensions.
    pub(crate) fn row_layout(&self) -> RowLayout {
        let left_out = [
            (self.views, ColumnSet::Views),
            (self.normals, ColumnSet::Normals),
            (self.mesh_stats, ColumnSet::Mesh),
        ];
        let columns = left_out
            .into_iter()
            .filter(|(is_stored, _)| !is_stored)
            .fold(Columns::DEFAULT, |columns, (_, set)| columns.without(set));
        if !self.views {
            return RowLayout {
                num_points: self.num_points,
                num_views: 0,
                image_size_px: 0,
                columns,
            };
        }
        RowLayout {
            num_points: self.num_points,
            num_views: self.render.rig.num_views(),
            image_size_px: self.render.size_px,
            columns: match (self.gbuffer, self.render.lighting.material) {
                (false, _) => columns,
                (true, MaterialChoice::White) => columns.with(ColumnSet::Gbuffer),
                (true, MaterialChoice::Own) => columns.with(ColumnSet::GbufferAlbedo),
            },
        }
    }

    /// The recipe that a dataset in `dir` was built with.
    ///
    /// # Errors
    /// When the manifest holds none of this program.
    pub(crate) fn of(manifest: &Manifest, dir: &Path) -> Result<Self> {
        if ["import", "synthesize"]
            .iter()
            .any(|key| manifest.recipe.get(key).is_some())
        {
            return Err(DatasetError::Recipe(RecipeError::Imported {
                path: dir.to_owned(),
            }));
        }
        let recipe: Result<Self, _> = serde_json::from_value(manifest.recipe.clone());
        let mut recipe = recipe.map_err(|source| {
            DatasetError::Recipe(RecipeError::Json {
                path: dir.to_owned(),
                source,
            })
        })?;
        let normals = &mut recipe.render.lighting.normals;
        if manifest.schema_version < FILE_NORMALS_SINCE && normals.is_smooth() {
            *normals = Normals::Averaged;
        }
        Ok(recipe)
    }

    /// Whether materials and textures are seen.
    pub(crate) fn needs_appearance(&self) -> bool {
        self.views && self.render.needs_appearance()
    }

    /// Whether the normals of the file are seen.
    pub(crate) fn needs_normals(&self) -> bool {
        self.views && self.render.needs_normals()
    }

    /// Render recipe with all channels that a row stores.
    pub(crate) fn rendered(&self) -> RenderRecipe {
        let channels = if self.gbuffer {
            Channels {
                color: true,
                ..Channels::GBUFFER
            }
        } else {
            self.render.channels
        };
        RenderRecipe {
            channels,
            ..self.render.clone()
        }
    }

    /// Sampling seed of an object: the first eight bytes of a hash over seed and id, independent of other
    /// objects.
    pub(crate) fn seed_of(&self, id: &ObjectId) -> u64 {
        let hash = Sha256::new()
            .chain_update(self.seed.to_le_bytes())
            .chain_update(id.as_str())
            .finalize();
        u64::from_le_bytes(*hash.first_chunk().expect("a SHA-256 hash has 32 bytes"))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    #[test]
    fn the_default_is_valid_and_round_trips_through_json() {
        let recipe = BuildRecipe::default();
        recipe.validate().unwrap();
        let json = serde_json::to_string(&recipe).unwrap();
        assert_eq!(serde_json::from_str::<BuildRecipe>(&json).unwrap(), recipe);
        assert_eq!(
            recipe.row_layout(),
            RowLayout {
                num_points: 1024,
                num_views: 12,
                image_size_px: 224,
                columns: Columns::DEFAULT,
            }
        );
        serde_json::from_str::<BuildRecipe>("{\"num_point\": 3}").unwrap_err();
    }

    #[test]
    fn what_is_left_out_has_no_column_and_what_is_stored_no_key() {
        let json = serde_json::to_value(BuildRecipe::default()).unwrap();
        for key in ["views", "normals", "mesh_stats"] {
            assert!(json.get(key).is_none(), "{key}");
        }
        let points: BuildRecipe =
            serde_json::from_str("{\"views\": false, \"normals\": false, \"mesh_stats\": false}").unwrap();
        let layout = points.row_layout();
        assert_eq!((layout.num_views, layout.image_size_px), (0, 0));
        let sets: Vec<ColumnSet> = layout.columns.sets().collect();
        assert_eq!(sets, [ColumnSet::Points, ColumnSet::Parts]);
        let gbuffer = BuildRecipe {
            gbuffer: true,
            ..points
        };
        assert!(gbuffer.validate().unwrap_err().to_string().contains("gbuffer"));
    }

    #[test]
    fn settings_out_of_range_are_named() {
        let recipe = BuildRecipe {
            num_points: 0,
            ..BuildRecipe::default()
        };
        assert!(recipe.validate().unwrap_err().to_string().contains("num_points"));
        let recipe = BuildRecipe {
            rows_per_shard: 0,
            ..BuildRecipe::default()
        };
        assert!(
            recipe
                .validate()
                .unwrap_err()
                .to_string()
                .contains("rows_per_shard")
        );
        let mut recipe = BuildRecipe::default();
        recipe.render.channels = Channels::ALL;
        assert!(recipe.validate().unwrap_err().to_string().contains("channels"));
    }

    #[test]
    fn each_object_has_a_seed_of_its_own() {
        let recipe = BuildRecipe::default();
        let seed = |seed, name| {
            BuildRecipe {
                seed,
                ..recipe.clone()
            }
            .seed_of(&ObjectId::try_new("a", name).unwrap())
        };
        assert_eq!(seed(0, "b"), seed(0, "b"));
        assert_ne!(seed(0, "b"), seed(0, "c"));
        assert_ne!(seed(0, "b"), seed(1, "b"));
    }
}
