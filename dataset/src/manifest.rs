//! `manifest.json`: what a dataset is made of, how it was made, and what was left out and why.
//!
//! It is rewritten whole after each shard; a shard that it does not list does not exist. It holds no time, no
//! path of the machine and no number of workers, so that the same build gives the same bytes.

use std::fmt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::{DatasetError, PartName, Result, RowLayout, SCHEMA_VERSION, Split, durable};

/// The manifest's file name.
pub const MANIFEST_FILE_NAME: &str = "manifest.json";

/// The longest manifest that is read: room for millions of skipped objects.
const MAX_MANIFEST_BYTES: u64 = 1 << 30;

/// What a dataset is made of.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Always [`SCHEMA_VERSION`].
    pub schema_version: u32,
    /// The program that made it.
    pub generator: String,
    /// Names the data: the hash of the shards' hashes. `None` until the build has ended.
    pub sha256: Option<String>,
    /// What it was made from.
    pub source: SourceDescription,
    /// Everything that the views and points depend on.
    pub recipe: serde_json::Value,
    /// The adapter that drew the views.
    pub adapter: serde_json::Value,
    /// The sizes of a row.
    pub layout: RowLayout,
    /// The class names that labels index, sorted.
    pub classes: Vec<String>,
    /// The parts that part labels index; empty without parts.
    pub parts: Vec<PartName>,
    /// How many shards each split is planned to have.
    pub num_shards: Vec<ShardCount>,
    /// The shards that are whole, in the order of the plan.
    pub shards: Vec<ShardEntry>,
    /// The objects that were left out, sorted by split and id.
    pub skipped: Vec<SkippedObject>,
}

/// What a dataset was made from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SourceDescription {
    /// How the folder was read.
    pub layout: String,
    /// How many objects were found.
    pub num_objects: usize,
    /// Hash over id, split, path and length of every file: known before the first mesh is read.
    pub listing_sha256: String,
    /// Hash over the ids and the hashes of the meshes; `None` until the build has ended.
    pub content_sha256: Option<String>,
}

/// How many shards a split is planned to have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ShardCount {
    /// The split.
    pub split: Split,
    /// Its shards.
    pub shards: usize,
}

/// A shard that is whole.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ShardEntry {
    /// Its name within the folder.
    pub file: String,
    /// What its rows are for.
    pub split: Split,
    /// How many rows it holds.
    pub rows: usize,
    /// How many bytes.
    pub bytes: u64,
    /// The hash of these bytes.
    pub sha256: String,
    /// Hash over the ids and the hashes of the meshes that it was made from, the skipped ones included.
    pub source_sha256: String,
}

/// An object that was left out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SkippedObject {
    /// Its id, or what would have become of it.
    pub id: String,
    /// The split it would have been in; `None` if unknown.
    pub split: Option<Split>,
    /// Its file, relative to the source.
    pub path: String,
    /// Why, in a word.
    pub reason: SkipReason,
    /// Why, in a sentence.
    pub message: String,
}

/// Why an object was left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum SkipReason {
    /// The file could not be read.
    Unreadable,
    /// A list names a file that isn't there.
    Missing,
    /// The file, or one that it names, lies outside the source folder.
    OutsideSource,
    /// A mesh format that can't be read.
    UnsupportedFormat,
    /// The file breaks the rules of its format.
    Malformed,
    /// No triangle of non-zero area.
    Empty,
    /// A coordinate that is NaN or infinite.
    NonFinite,
    /// More bytes than the build allows.
    TooLarge,
    /// A name that can't be an id.
    InvalidId,
    /// Another object has this id.
    DuplicateId,
    /// The list of splits doesn't name it: left out on purpose.
    NotInSplits,
    /// A part that the source's list of parts doesn't name.
    UnknownPart,
    /// The renderer could not draw it.
    RenderFailed,
    /// A view in which nothing is seen.
    EmptyView,
    /// Its own points don't project into its own masks.
    PoseContract,
    /// The program crashed over it: a bug worth a report.
    Crashed,
}

impl SkipReason {
    /// Is the object lost against the user's will? One that a list of splits leaves out is not.
    #[must_use]
    pub fn is_loss(self) -> bool {
        self != Self::NotInSplits
    }
}

impl fmt::Display for SkipReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Unreadable => "unreadable",
            Self::Missing => "missing",
            Self::OutsideSource => "outside-source",
            Self::UnsupportedFormat => "unsupported-format",
            Self::Malformed => "malformed",
            Self::Empty => "empty",
            Self::NonFinite => "non-finite",
            Self::TooLarge => "too-large",
            Self::InvalidId => "invalid-id",
            Self::DuplicateId => "duplicate-id",
            Self::NotInSplits => "not-in-splits",
            Self::UnknownPart => "unknown-part",
            Self::RenderFailed => "render-failed",
            Self::EmptyView => "empty-view",
            Self::PoseContract => "pose-contract",
            Self::Crashed => "crashed",
        })
    }
}

impl Manifest {
    /// Reads the manifest of a dataset, of a half-built one too.
    ///
    /// # Errors
    /// When there is none, when it is of another schema version, or damaged.
    pub fn read(dir: &Path) -> Result<Self> {
        let path = dir.join(MANIFEST_FILE_NAME);
        let bytes = match durable::read_bounded(&path, MAX_MANIFEST_BYTES) {
            Ok(bytes) => bytes,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                return Err(DatasetError::NoManifest { path: dir.to_owned() });
            }
            Err(e) => return Err(DatasetError::io("read the manifest", &path)(e)),
        };
        let damaged = |source| DatasetError::Manifest {
            path: path.clone(),
            source,
        };
        let value: serde_json::Value = serde_json::from_slice(&bytes).map_err(damaged)?;
        let version = value.get("schema_version");
        if version.and_then(serde_json::Value::as_u64) != Some(u64::from(SCHEMA_VERSION)) {
            let found = version.map_or_else(|| "none".to_owned(), ToString::to_string);
            return Err(DatasetError::SchemaVersion { found, path });
        }
        let manifest: Self = serde_json::from_value(value).map_err(damaged)?;
        manifest
            .check()
            .map_err(|what| DatasetError::ManifestContent { what, path })?;
        Ok(manifest)
    }

    /// Writes the manifest so that after a crash either the old or the new one is there.
    pub(crate) fn write(&self, dir: &Path) -> Result<()> {
        let mut bytes = serde_json::to_vec_pretty(self).expect("a manifest has a JSON form");
        bytes.push(b'\n');
        durable::replace(&dir.join(MANIFEST_FILE_NAME), &bytes)
    }

    /// Has the build ended?
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.sha256.is_some()
    }

    /// How many rows a split has so far.
    #[must_use]
    pub fn num_rows(&self, split: Split) -> usize {
        self.shards
            .iter()
            .filter(|s| s.split == split)
            .map(|s| s.rows)
            .sum()
    }

    /// How many objects were lost, those left out on purpose not counted.
    #[must_use]
    pub fn num_lost(&self) -> usize {
        self.skipped.iter().filter(|s| s.reason.is_loss()).count()
    }

    /// The hash that names the data: over one line `<file> <sha256>` a shard.
    #[must_use]
    pub fn hash_of_shards(&self) -> String {
        let mut hasher = Sha256::new();
        for shard in &self.shards {
            hasher.update(format!("{} {}\n", shard.file, shard.sha256));
        }
        durable::hex(&hasher.finalize())
    }

    /// The names of all shards that are planned, with their splits, in order.
    #[must_use]
    pub fn planned_shards(&self) -> Vec<(Split, String)> {
        let of_split = |count: &ShardCount| {
            let ShardCount { split, shards } = *count;
            (0..shards).map(move |i| (split, shard_file_name(split, i, shards)))
        };
        self.num_shards.iter().flat_map(of_split).collect()
    }

    /// What the manifest claims must hold together; file names must not lead out of the folder.
    fn check(&self) -> Result<(), String> {
        let planned = self.planned_shards();
        if self.shards.len() > planned.len() {
            return Err(format!("{} shards of {}", self.shards.len(), planned.len()));
        }
        for (shard, (split, file)) in self.shards.iter().zip(&planned) {
            if (&shard.file, shard.split) != (file, *split) {
                return Err(format!("shard {} where {file} is due", shard.file));
            }
        }
        if let Some(sha256) = &self.sha256 {
            if self.shards.len() != planned.len() {
                return Err(format!(
                    "complete with {} shards of {}",
                    self.shards.len(),
                    planned.len()
                ));
            }
            if *sha256 != self.hash_of_shards() {
                return Err("its hash is not that of its shards".to_owned());
            }
        }
        let RowLayout {
            num_points,
            num_views,
            image_size_px,
        } = self.layout;
        if num_points == 0 || num_views == 0 || image_size_px == 0 || image_size_px > crate::MAX_IMAGE_SIZE_PX
        {
            return Err(format!(
                "rows of {num_points} points and {num_views} views of {image_size_px} pixels"
            ));
        }
        Ok(())
    }
}

/// The name of a shard.
#[must_use]
pub fn shard_file_name(split: Split, shard_idx: usize, num_shards: usize) -> String {
    format!("{split}-{shard_idx:05}-of-{num_shards:05}.parquet")
}

/// The name under which a shard grows until it is whole.
#[must_use]
pub(crate) fn partial_path(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".partial");
    PathBuf::from(name)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    fn manifest() -> Manifest {
        Manifest {
            schema_version: SCHEMA_VERSION,
            generator: "test".to_owned(),
            sha256: None,
            source: SourceDescription {
                layout: "folders".to_owned(),
                num_objects: 1,
                listing_sha256: "0".to_owned(),
                content_sha256: None,
            },
            recipe: serde_json::json!({ "seed": 0.1 }),
            adapter: serde_json::Value::Null,
            layout: RowLayout {
                num_points: 4,
                num_views: 2,
                image_size_px: 8,
            },
            classes: vec!["a".to_owned()],
            parts: Vec::new(),
            num_shards: vec![ShardCount {
                split: Split::Train,
                shards: 1,
            }],
            shards: Vec::new(),
            skipped: vec![SkippedObject {
                id: "a/b".to_owned(),
                split: Some(Split::Train),
                path: "a/b.obj".to_owned(),
                reason: SkipReason::NonFinite,
                message: "a NaN".to_owned(),
            }],
        }
    }

    #[test]
    fn a_manifest_survives_its_file() {
        let dir = tempfile::tempdir().unwrap();
        assert!(
            matches!(Manifest::read(dir.path()), Err(DatasetError::NoManifest { .. })),
            "nothing there yet"
        );
        manifest().write(dir.path()).unwrap();
        assert_eq!(Manifest::read(dir.path()).unwrap(), manifest());
    }

    #[test]
    fn a_manifest_of_another_version_or_with_other_names_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        Manifest {
            schema_version: SCHEMA_VERSION + 1,
            ..manifest()
        }
        .write(dir.path())
        .unwrap();
        let error = Manifest::read(dir.path()).unwrap_err();
        assert!(matches!(error, DatasetError::SchemaVersion { .. }), "{error}");

        let entry = ShardEntry {
            file: "../../outside.parquet".to_owned(),
            split: Split::Train,
            rows: 1,
            bytes: 1,
            sha256: String::new(),
            source_sha256: String::new(),
        };
        Manifest {
            shards: vec![entry],
            ..manifest()
        }
        .write(dir.path())
        .unwrap();
        let error = Manifest::read(dir.path()).unwrap_err();
        assert!(matches!(error, DatasetError::ManifestContent { .. }), "{error}");

        std::fs::write(dir.path().join(MANIFEST_FILE_NAME), "{").unwrap();
        assert!(
            matches!(Manifest::read(dir.path()), Err(DatasetError::Manifest { .. })),
            "not JSON"
        );
    }

    #[test]
    fn a_reason_is_printed_as_it_is_stored() {
        for reason in [
            SkipReason::NonFinite,
            SkipReason::PoseContract,
            SkipReason::NotInSplits,
        ] {
            assert_eq!(serde_json::to_string(&reason).unwrap(), format!("\"{reason}\""));
        }
    }
}
