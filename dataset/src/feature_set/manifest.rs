//! `_features.json`: which network a feature set is of, what it saw, and the finished files.

use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{HALF_BYTES, feature_set_dir, feature_sets};
use crate::error::{DatasetError, FeatureSetError, Result};
use crate::image_set::read_image_set;
use crate::manifest::{Manifest, ShardEntry, image_shard_file_name, json_differences};
use crate::schema::Split;
use crate::sha256;
use crate::store;

/// File name of the manifest of a feature set.
pub const FEATURE_MANIFEST_FILE_NAME: &str = "_features.json";
/// Version of the files.
const FORMAT_VERSION: u32 = 1;
/// Limit on the manifest: hundreds of thousands of shards.
const MAX_MANIFEST_BYTES: u64 = 1 << 28;
/// Limit on a row, against damaged manifests.
const MAX_ROW_BYTES: usize = 1 << 30;

/// Content of `_features.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FeatureManifest {
    /// Version of the files.
    pub format_version: u32,
    /// Program and version that wrote it.
    pub generator: String,
    /// Hash of the data: over the hashes of the files. `None` until all are there.
    pub sha256: Option<String>,
    /// Hash of the dataset whose rows these are.
    pub parent: String,
    /// What the numbers follow from.
    pub recipe: FeatureRecipe,
    /// Sizes of a row.
    pub layout: FeatureLayout,
    /// Finished files, in the order of the dataset's shards.
    pub shards: Vec<FeatureShard>,
}

/// What the numbers of a feature set follow from, beside the rows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FeatureRecipe {
    /// The network, in words: "CLIP ViT-B/16".
    pub network: String,
    /// SHA-256 of the file of its weights.
    pub network_sha256: String,
    /// Block behind which features are taken, counted from 0; `None`: behind the whole network.
    pub layer: Option<i64>,
    /// Activation that was asked for; `None` where the weights tell.
    pub activation: Option<String>,
    /// Subtracted from pixels in 0 to 1, by color channel.
    pub mean: [f32; 3],
    /// Divided by.
    pub deviation: [f32; 3],
    /// What the network saw.
    pub views: FeatureViews,
    /// The image set that the views are of; `None`: the dataset's own images.
    pub images: Option<FeatureImages>,
    /// Width and height that the views were resized to, in pixels.
    pub image_size_px: u32,
}

/// What a network is shown of a row.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    Serialize,
    Deserialize,
    strum::Display,
    strum::EnumString,
    strum::VariantNames,
)]
#[serde(rename_all = "kebab-case")]
#[strum(serialize_all = "kebab-case")]
pub enum FeatureViews {
    /// The stored views.
    Images,
    /// The depth maps that I2P-MAE makes of the points, three views.
    Depth,
}

/// An image set that features are of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FeatureImages {
    /// Name of the image set.
    pub name: String,
    /// Hash of its data.
    pub sha256: String,
}

/// Sizes of a row of a feature set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FeatureLayout {
    /// V: views.
    pub num_views: usize,
    /// h: patches from top to bottom.
    pub height: usize,
    /// w: patches from left to right.
    pub width: usize,
    /// C: channels of a patch.
    pub num_channels: usize,
}

impl FeatureLayout {
    /// Bytes of the features of a view.
    #[must_use]
    pub fn view_bytes(&self) -> usize {
        self.saliency_bytes() * self.num_channels
    }

    /// Bytes of the saliency of a view.
    #[must_use]
    pub fn saliency_bytes(&self) -> usize {
        self.height * self.width * HALF_BYTES
    }

    fn check(&self) -> Result<(), String> {
        let Self {
            num_views,
            height,
            width,
            num_channels,
        } = *self;
        let sizes = [num_views, height, width, num_channels];
        let num_bytes = sizes
            .iter()
            .try_fold(HALF_BYTES, |product, &size| product.checked_mul(size));
        match num_bytes {
            Some(1..=MAX_ROW_BYTES) => Ok(()),
            _ => Err(format!(
                "rows of {num_views} views, {height}x{width} patches and {num_channels} channels"
            )),
        }
    }
}

/// A finished file of a feature set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FeatureShard {
    /// File name within the folder.
    pub file: String,
    /// Split of its rows.
    pub split: Split,
    /// Number of rows.
    pub rows: usize,
    /// Length in bytes.
    pub bytes: u64,
    /// SHA-256 of the file.
    pub sha256: String,
}

impl FeatureManifest {
    pub(super) fn new(parent: &str, recipe: FeatureRecipe, layout: FeatureLayout) -> Result<Self, String> {
        layout.check()?;
        Ok(Self {
            format_version: FORMAT_VERSION,
            generator: crate::schema::GENERATOR.to_owned(),
            sha256: None,
            parent: parent.to_owned(),
            recipe,
            layout,
            shards: Vec::new(),
        })
    }

    /// Reads the manifest in a folder; `None` without one.
    ///
    /// # Errors
    /// When it cannot be read, is damaged, or of another version.
    pub(crate) fn read(set_dir: &Path) -> Result<Option<Self>> {
        let path = set_dir.join(FEATURE_MANIFEST_FILE_NAME);
        let bytes = match store::read_bounded(&path, MAX_MANIFEST_BYTES) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            bytes => bytes.map_err(DatasetError::io("read", &path))?,
        };
        let damaged = |detail: String| {
            let path = path.clone();
            DatasetError::FeatureSet(FeatureSetError::Damaged { detail, path })
        };
        let value: Value = serde_json::from_slice(&bytes).map_err(|e| damaged(e.to_string()))?;
        let version = &value["format_version"];
        if version.as_u64() != Some(u64::from(FORMAT_VERSION)) {
            return Err(damaged(format!("version {version} instead of {FORMAT_VERSION}")));
        }
        let manifest: Self = serde_json::from_value(value).map_err(|e| damaged(e.to_string()))?;
        manifest.layout.check().map_err(damaged)?;
        Ok(Some(manifest))
    }

    /// The manifest of a complete feature set of a dataset's rows as they are.
    ///
    /// # Errors
    /// When there is none, it is incomplete or damaged, or the rows or images have changed since.
    pub(crate) fn read_complete(dir: &Path, name: &str, dataset: &Manifest) -> Result<Self> {
        let path = feature_set_dir(dir, name)?;
        let Some(manifest) = Self::read(&path)? else {
            return Err(DatasetError::FeatureSet(FeatureSetError::NotFound {
                name: name.to_owned(),
                names: feature_sets(dir)?.join(", "),
                path: dir.to_owned(),
            }));
        };
        let Some(sha256) = &manifest.sha256 else {
            return Err(DatasetError::FeatureSet(FeatureSetError::Incomplete {
                finished: manifest.shards.len(),
                num_shards: dataset.shards.len(),
                path,
            }));
        };
        manifest.check_parent(dir, dataset, &path)?;
        let rows = |file: &str, split: Split, rows: usize| (file.to_owned(), split, rows);
        let of_set = manifest.shards.iter().map(|s| rows(&s.file, s.split, s.rows));
        let of_dataset = dataset
            .shards
            .iter()
            .map(|s| rows(&file_name(s), s.split, s.rows));
        if !of_set.eq(of_dataset) || *sha256 != manifest.shards_sha256() {
            return Err(DatasetError::FeatureSet(FeatureSetError::Damaged {
                detail: String::from("its files are not those of the data set's shards"),
                path: path.join(FEATURE_MANIFEST_FILE_NAME),
            }));
        }
        Ok(manifest)
    }

    /// Checks that the rows, and the images that were looked at, are still what they were.
    pub(super) fn check_parent(&self, dir: &Path, dataset: &Manifest, path: &Path) -> Result<()> {
        let changed = |what: String| {
            let path = path.to_owned();
            Err(DatasetError::FeatureSet(FeatureSetError::Mismatch { what, path }))
        };
        if Some(&self.parent) != dataset.sha256.as_ref() {
            return changed(String::from("rows"));
        }
        if let Some(FeatureImages { name, sha256 }) = &self.recipe.images {
            let (_, images) = read_image_set(dir, name, dataset)?;
            if images.sha256.as_ref() != Some(sha256) {
                return changed(format!("pictures of the image set {name}"));
            }
        }
        Ok(())
    }

    /// Hash of the data: over one line `<file> <sha256>` per file.
    pub(super) fn shards_sha256(&self) -> String {
        let shards = self.shards.iter();
        sha256::of_files(shards.map(|shard| (shard.file.as_str(), shard.sha256.as_str())))
    }

    pub(super) fn to_json(&self) -> Vec<u8> {
        let mut json = serde_json::to_vec_pretty(self).expect("a manifest has a JSON form");
        json.push(b'\n');
        json
    }

    /// What differs between this one and what is wanted, such as `layer is 7 there and null here`.
    pub(super) fn differences(&self, wanted: &Self) -> String {
        let of = |manifest: &Self| {
            let mut recipe = serde_json::to_value(&manifest.recipe).expect("a recipe has a JSON form");
            recipe["layout"] = serde_json::to_value(manifest.layout).expect("a layout has a JSON form");
            recipe
        };
        json_differences(&of(self), &of(wanted)).join("; ")
    }
}

/// File of a feature set for a shard of the dataset.
pub(super) fn file_name(shard: &ShardEntry) -> String {
    image_shard_file_name(&shard.file)
}
