//! `_manifest.json`: contents, provenance and skipped objects of a dataset.
//!
//! The manifest is written when a build begins and when it ends. In between, each finished shard has a
//! [`JournalEntry`] beside it, so the cost of progress does not grow with the number of shards; a shard that
//! neither lists does not exist. The manifest holds no times, absolute paths or worker counts, so equal
//! builds give equal bytes. Objects of large data sets are [listed](Lists) in files beside it.

mod difference;
mod journal;
mod list_file;
mod part;
mod shard_objects;
mod shard_ranges;

pub(crate) use difference::json_differences;
pub(crate) use journal::{JOURNAL_SUFFIX, JournalEntry};
pub use list_file::{ListFile, Lists, MAX_OBJECTS_IN_MANIFEST};
pub(crate) use list_file::{is_list_file_name, is_own_list, needs_list_files};
pub use part::BuildPart;
pub use shard_objects::ShardObjects;
pub use shard_ranges::ShardRanges;

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::ser::Formatter;

use crate::error::{DatasetError, ManifestError, Result};
use crate::schema::{
    Columns, OLDEST_SCHEMA_VERSION, ObjectId, PartName, RowDigest, RowLayout, SCHEMA_VERSION, Split,
};
use crate::sha256;
use crate::store;

/// File name of the manifest. Parquet readers that are given a folder skip names with an underscore in front.
pub const MANIFEST_FILE_NAME: &str = "_manifest.json";
/// Its name up to version 3.
pub(crate) const OLD_MANIFEST_FILE_NAME: &str = "manifest.json";
/// File name of the objects of a build that was begun for several machines; there until it is finished.
pub(crate) const PLAN_FILE_NAME: &str = "_plan.parquet";

/// Size limit for reading: 2.7 million objects in manifests of versions that listed all of them there.
pub(crate) const MAX_MANIFEST_BYTES: u64 = 1 << 30;
/// Version of manifests whose objects are listed in files. All others have [`SCHEMA_VERSION`], as the shards of both do.
pub const LIST_FILES_SCHEMA_VERSION: u32 = SCHEMA_VERSION + 1;
/// Extension of shards.
const SHARD_EXTENSION: &str = ".parquet";
/// Extension of the shards of image sets.
const IMAGE_SHARD_EXTENSION: &str = ".pq";
/// Schema version that gave the shards of image sets their own extension.
const IMAGE_SHARDS_SINCE: u32 = 4;
/// Limit on planned shards, against damaged manifests.
pub(crate) const MAX_SHARDS: usize = 300_000;
/// Indentation depth: fields of a shard are indented, each of its objects is one line.
const MAX_INDENT: usize = 4;
/// The same where objects are listed in files: each shard is one line.
const MAX_INDENT_WITH_LIST_FILES: usize = 2;

/// Contents of `_manifest.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// [`SCHEMA_VERSION`], [`LIST_FILES_SCHEMA_VERSION`], or an older supported version.
    pub schema_version: u32,
    /// Program and version that wrote it.
    pub generator: String,
    /// Hash of the data: over the shard hashes. `None` until the build is complete.
    pub sha256: Option<String>,
    /// The part that this folder holds; `None` for the whole dataset.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub part: Option<BuildPart>,
    /// Hash of the dataset that this one is derived from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<String>,
    /// Whether images were relit from the parent's G-buffer instead of rendered.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_relit: bool,
    /// Description of the source.
    pub source: SourceDescription,
    /// All settings that affect views and points.
    pub recipe: serde_json::Value,
    /// Adapter that rendered the views.
    pub adapter: serde_json::Value,
    /// Row dimensions.
    pub layout: RowLayout,
    /// Class names, sorted; labels are indices into this list.
    pub classes: Vec<String>,
    /// Part names; part labels are indices into this list.
    pub parts: Vec<PartName>,
    /// Planned shards per split.
    pub num_shards: Vec<ShardCount>,
    /// Where the objects are listed, of a large data set; `None` if here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lists: Option<Lists>,
    /// Finished shards, in plan order.
    pub shards: Vec<ShardEntry>,
    /// Skipped objects, sorted by split and id; none if they are listed in files.
    pub skipped: Vec<SkippedObject>,
}

/// Description of the source of a dataset.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SourceDescription {
    /// Layout name, or the name that a source of one's own gives itself.
    pub layout: String,
    /// Detected publication, which implies the axes of its meshes; `None` if not recognized.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub publication: Option<String>,
    /// Ratios of a random split; `None` if a list or folders define the splits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub splits: Option<String>,
    /// Number of objects found.
    pub num_objects: usize,
    /// Hash over id, split, path and length of every file, known before the first mesh is read.
    pub listing_sha256: String,
    /// Hash over ids and mesh hashes; `None` until the build is complete.
    pub content_sha256: Option<String>,
}

/// Planned shards of a split.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ShardCount {
    /// Split of the shards.
    pub split: Split,
    /// Number of shards.
    pub shards: usize,
}

/// A finished shard.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ShardEntry {
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
    /// Hash over ids and mesh hashes of its objects, including skipped ones.
    pub source_sha256: String,
    /// Number of its objects, including skipped ones, where they are listed in files.
    #[serde(default, rename = "num_objects", skip_serializing_if = "Option::is_none")]
    pub num_listed: Option<usize>,
    /// Number of its skipped objects by reason, where they are listed in files.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub num_skipped: BTreeMap<SkipReason, usize>,
    /// Its objects, including skipped ones; empty in manifests of version 1, and where they are listed in files: see
    /// [`Manifest::objects`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub objects: Vec<ObjectEntry>,
}

impl ShardEntry {
    /// Number of its objects, including skipped ones.
    #[must_use]
    pub fn num_objects(&self) -> usize {
        self.num_listed.unwrap_or(self.objects.len())
    }

    /// Number of its skipped objects, where they are listed in files.
    fn num_skipped(&self) -> usize {
        self.num_skipped.values().sum()
    }

    /// Counts what is to be listed in files.
    pub(crate) fn count(&mut self, skipped: &[SkippedObject]) {
        self.num_listed = Some(self.objects.len());
        self.num_skipped.clear();
        for object in skipped {
            *self.num_skipped.entry(object.reason).or_default() += 1;
        }
    }
}

/// An object of a shard, skipped or not: locates its mesh and identifies its row.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ObjectEntry {
    /// Object id.
    pub id: ObjectId,
    /// Mesh file, relative to the source.
    pub path: String,
    /// Length of the mesh file when the source was scanned; 0 if the source did not know it.
    pub bytes: u64,
    /// SHA-256 of the mesh file; `None` if it could not be read.
    pub sha256: Option<String>,
    /// Hash of the files the mesh refers to; `None` if it read none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub assets_sha256: Option<String>,
    /// Hashes of its row; `None` if it was skipped.
    pub row: Option<RowDigest>,
}

/// A skipped object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SkippedObject {
    /// Object id, even if invalid.
    pub id: String,
    /// Intended split; `None` if unknown.
    pub split: Option<Split>,
    /// Mesh file, relative to the source.
    pub path: String,
    /// Reason code.
    pub reason: SkipReason,
    /// Human-readable detail.
    pub message: String,
    /// Plan index of its shard; `None` if it was skipped before any mesh was read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shard: Option<usize>,
}

/// Reason code of a skipped object.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, strum::Display,
)]
#[serde(rename_all = "kebab-case")]
#[strum(serialize_all = "kebab-case")]
#[non_exhaustive]
pub enum SkipReason {
    /// The file could not be read.
    Unreadable,
    /// The file does not exist, or was removed during the build.
    Missing,
    /// The file length changed since the source was scanned.
    Changed,
    /// The file, or one it refers to, is outside the source folder.
    OutsideSource,
    /// Unsupported mesh format.
    UnsupportedFormat,
    /// The file violates its format.
    Malformed,
    /// No triangle with non-zero area.
    Empty,
    /// A coordinate is NaN or infinite.
    NonFinite,
    /// Exceeds the size limit of the build.
    TooLarge,
    /// The name is not a valid id.
    InvalidId,
    /// Another object has the same id.
    DuplicateId,
    /// Not in the split list: excluded on purpose.
    NotInSplits,
    /// A mesh where the layout has none: excluded by the choice of layout.
    NotInLayout,
    /// A part that the part list does not name.
    UnknownPart,
    /// Known to be published without a mesh.
    NotPublished,
    /// The renderer failed on it.
    RenderFailed,
    /// A view in which nothing is visible, though the object is not thinner than a pixel.
    EmptyView,
    /// It covers less of an image than the recipe asks for: excluded on purpose.
    LowCoverage,
    /// Points do not reproject into the object's own masks.
    #[serde(rename = "pose-contract")]
    #[strum(to_string = "pose-contract")]
    Reprojection,
    /// The program panicked on it: a bug.
    Crashed,
}

impl SkipReason {
    /// Whether the object was lost unintentionally, rather than excluded by a split list, the layout or the
    /// recipe, or never published.
    #[must_use]
    pub fn is_failure(self) -> bool {
        !matches!(
            self,
            Self::NotInSplits | Self::NotInLayout | Self::NotPublished | Self::LowCoverage
        )
    }
}

impl Manifest {
    /// Reads the manifest of a dataset, complete or not, with the shards finished since it was written.
    ///
    /// # Errors
    /// When it does not exist, has an unsupported schema version, or is damaged.
    pub fn read(dir: &Path) -> Result<Self> {
        let mut manifest = Self::read_alone(dir)?;
        if !manifest.is_complete() {
            manifest.replay_journal(dir, &store::list(dir)?)?;
        }
        Ok(manifest)
    }

    /// Reads the manifest as it was written, without the journal.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub(crate) fn read_alone(dir: &Path) -> Result<Self> {
        let Some((path, bytes)) = manifest_file(dir)? else {
            return Err(DatasetError::Manifest(ManifestError::NotFound {
                path: dir.to_owned(),
            }));
        };
        let damaged = |source| {
            DatasetError::Manifest(ManifestError::Json {
                path: path.clone(),
                source,
            })
        };
        // What another version would say first; the rest may be large, and is not made a tree of values.
        let head: Head = serde_json::from_slice(&bytes).map_err(damaged)?;
        let version = head.schema_version.as_ref();
        let readable = u64::from(OLDEST_SCHEMA_VERSION)..=u64::from(LIST_FILES_SCHEMA_VERSION);
        if !version
            .and_then(serde_json::Value::as_u64)
            .is_some_and(|version| readable.contains(&version))
        {
            let found = version.map_or_else(|| "none".to_owned(), ToString::to_string);
            return Err(DatasetError::Manifest(ManifestError::SchemaVersion {
                found,
                oldest: OLDEST_SCHEMA_VERSION,
                newest: LIST_FILES_SCHEMA_VERSION,
                path,
            }));
        }
        let columns = head.layout.get("columns").and_then(Columns::from_json);
        if let Some(Err(source)) = columns {
            return Err(DatasetError::Manifest(ManifestError::Columns { path, source }));
        }
        let mut manifest: Self = serde_json::from_slice(&bytes).map_err(damaged)?;
        manifest.place_lists(dir);
        manifest
            .check()
            .map_err(|detail| DatasetError::Manifest(ManifestError::Invalid { detail, path }))?;
        Ok(manifest)
    }

    pub(crate) fn sort_skipped(&mut self) {
        sort_skipped(&mut self.skipped);
    }

    /// Identifies the plan, independent of progress.
    pub(crate) fn plan_sha256(&self) -> String {
        self.plan_sha256_with(self.lists.as_ref().map(Lists::of_plan))
    }

    fn plan_sha256_with(&self, lists: Option<Lists>) -> String {
        let unread = self.skipped.iter().filter(|skipped| skipped.shard.is_none());
        let plan = Self {
            sha256: None,
            source: SourceDescription {
                content_sha256: None,
                ..self.source.clone()
            },
            recipe: self.recipe.clone(),
            adapter: self.adapter.clone(),
            classes: self.classes.clone(),
            parts: self.parts.clone(),
            num_shards: self.num_shards.clone(),
            generator: self.generator.clone(),
            parent: self.parent.clone(),
            lists,
            shards: Vec::new(),
            skipped: unread.cloned().collect(),
            ..*self
        };
        sha256::of_bytes(plan.to_json())
    }

    /// JSON with shards indented and one line per object, or one line per shard where objects are listed in files.
    pub(crate) fn to_json(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        let formatter = DepthLimitedFormatter {
            max_indent: if self.lists.is_some() {
                MAX_INDENT_WITH_LIST_FILES
            } else {
                MAX_INDENT
            },
            depth: 0,
            has_value: false,
        };
        let mut serializer = serde_json::Serializer::with_formatter(&mut bytes, formatter);
        self.serialize(&mut serializer)
            .expect("a manifest has a JSON form");
        bytes.push(b'\n');
        bytes
    }

    /// Whether the build is complete.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.sha256.is_some()
    }

    /// Hash of the data of a complete dataset.
    ///
    /// # Errors
    /// When the build is incomplete, or this is a part.
    pub(crate) fn complete_sha256(&self, dir: &Path) -> Result<&str> {
        let path = || dir.to_owned();
        match (&self.sha256, self.part) {
            (Some(sha256), _) => Ok(sha256),
            (None, Some(part)) if self.shards.len() == self.assigned_shards().len() => {
                Err(DatasetError::Manifest(ManifestError::Part {
                    part: part.to_string(),
                    path: path(),
                }))
            }
            (None, _) => Err(DatasetError::Manifest(ManifestError::Incomplete {
                finished: self.shards.len(),
                path: path(),
            })),
        }
    }

    /// Metadata of every shard.
    pub(crate) fn header(&self) -> crate::schema::ShardHeader {
        crate::schema::ShardHeader {
            layout: self.layout,
            classes: self.classes.clone(),
            parts: self.parts.clone(),
            recipe: self.recipe.clone(),
            adapter: self.adapter.clone(),
        }
    }

    /// Rows written so far in a split.
    #[must_use]
    pub fn num_rows(&self, split: Split) -> usize {
        self.shards
            .iter()
            .filter(|s| s.split == split)
            .map(|s| s.rows)
            .sum()
    }

    /// Number of objects lost unintentionally; see [`SkipReason::is_failure`].
    #[must_use]
    pub fn num_failed(&self) -> usize {
        let counts = self.skipped_by_reason().into_iter();
        let failures = counts.filter(|(reason, _)| reason.is_failure());
        failures.map(|(_, num)| num).sum()
    }

    /// Hash of the data: over one line `<file> <sha256>` per shard.
    #[must_use]
    pub fn shards_sha256(&self) -> String {
        let shards = self.shards.iter();
        sha256::of_files(shards.map(|shard| (shard.file.as_str(), shard.sha256.as_str())))
    }

    /// Split and file name of every planned shard, in order.
    #[must_use]
    pub fn planned_shards(&self) -> Vec<(Split, String)> {
        let is_image_set = self.layout.columns.is_image_set() && self.schema_version >= IMAGE_SHARDS_SINCE;
        let of_split = |count: &ShardCount| {
            let ShardCount { split, shards } = *count;
            (0..shards).map(move |i| {
                let name = shard_file_name(split, i, shards);
                (
                    split,
                    if is_image_set {
                        image_shard_file_name(&name)
                    } else {
                        name
                    },
                )
            })
        };
        self.num_shards.iter().flat_map(of_split).collect()
    }

    /// Plan indices of the shards that belong in this folder.
    #[must_use]
    pub fn assigned_shards(&self) -> Vec<usize> {
        let num_planned = self.num_shards.iter().map(|count| count.shards).sum();
        match self.part {
            Some(part) => part.shards(num_planned).collect(),
            None => (0..num_planned).collect(),
        }
    }

    /// Plan indices of the finished shards, in the order of [`Manifest::shards`].
    ///
    /// # Errors
    /// The first shard that is not in the plan or out of order.
    pub(crate) fn plan_indices(&self, planned: &[(Split, String)]) -> Result<Vec<usize>, String> {
        let mut plan_indices = Vec::with_capacity(self.shards.len());
        let mut next = 0;
        for shard in &self.shards {
            let matches = |(split, file): &(Split, String)| (file, *split) == (&shard.file, shard.split);
            let Some(skipped) = planned[next..].iter().position(matches) else {
                return Err(format!("shard {} is not in the plan or out of order", shard.file));
            };
            plan_indices.push(next + skipped);
            next += skipped + 1;
        }
        Ok(plan_indices)
    }

    /// Checks consistency; file names must match the plan, so none can point outside the folder.
    fn check(&self) -> Result<(), String> {
        let num_planned = self
            .num_shards
            .iter()
            .try_fold(0_usize, |sum, count| sum.checked_add(count.shards));
        if num_planned.is_none_or(|num_planned| num_planned > MAX_SHARDS) {
            return Err("too many shards".to_owned());
        }
        let planned = self.planned_shards();
        let plan_indices = self.plan_indices(&planned)?;
        if let Some(part) = self.part {
            part.check()?;
            if let Some(&plan_idx) = plan_indices.iter().find(|&&plan_idx| !part.has(plan_idx)) {
                return Err(format!(
                    "shard {} does not belong to part {part}",
                    planned[plan_idx].1
                ));
            }
            if self.sha256.is_some() {
                return Err("a part with a dataset hash".to_owned());
            }
        }
        if let Some(sha256) = &self.sha256 {
            if self.shards.len() != planned.len() {
                return Err(format!(
                    "{} of {} shards in a complete dataset",
                    self.shards.len(),
                    planned.len()
                ));
            }
            if *sha256 != self.shards_sha256() {
                return Err("its hash does not match its shards".to_owned());
            }
        }
        self.check_lists()?;
        self.layout.check()
    }

    fn check_lists(&self) -> Result<(), String> {
        let Some(lists) = &self.lists else {
            let is_counted =
                |shard: &&ShardEntry| shard.num_listed.is_some() || !shard.num_skipped.is_empty();
            return match self.shards.iter().find(is_counted) {
                _ if self.schema_version == LIST_FILES_SCHEMA_VERSION => {
                    Err("it names no lists of objects".to_owned())
                }
                Some(shard) => Err(format!("the objects of {} are nowhere", shard.file)),
                None => Ok(()),
            };
        };
        if self.schema_version != LIST_FILES_SCHEMA_VERSION {
            return Err("its version has no lists of objects".to_owned());
        }
        if !self.skipped.is_empty() {
            return Err("skipped objects are listed twice".to_owned());
        }
        if self.sha256.is_some() && !lists.is_whole() && !self.shards.is_empty() {
            return Err("a complete dataset without lists of its objects".to_owned());
        }
        lists.check(&self.shards)
    }
}

/// What is read of a manifest before it is known whether this program can read it.
#[derive(Deserialize)]
struct Head {
    schema_version: Option<serde_json::Value>,
    #[serde(default)]
    layout: serde_json::Value,
}

/// Sorted by split and id.
fn sort_skipped(skipped: &mut [SkippedObject]) {
    skipped.sort_by(|a, b| (a.split, &a.id, &a.path).cmp(&(b.split, &b.id, &b.path)));
}

/// Path and content of a folder's manifest, under its name of today or of earlier versions; `None` without one.
pub(crate) fn manifest_file(dir: &Path) -> Result<Option<(PathBuf, Vec<u8>)>> {
    for name in [MANIFEST_FILE_NAME, OLD_MANIFEST_FILE_NAME] {
        let path = dir.join(name);
        match store::read_bounded(&path, MAX_MANIFEST_BYTES) {
            Ok(bytes) => return Ok(Some((path, bytes))),
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(e) if e.kind() == io::ErrorKind::FileTooLarge => {
                return Err(DatasetError::Manifest(ManifestError::TooLarge { path }));
            }
            Err(e) => return Err(DatasetError::io("read the manifest", &path)(e)),
        }
    }
    Ok(None)
}

/// Whether a file has the name of a manifest, of today or of earlier versions.
#[must_use]
pub fn is_manifest_name(name: &str) -> bool {
    [MANIFEST_FILE_NAME, OLD_MANIFEST_FILE_NAME].contains(&name)
}

/// JSON formatter with a limited indentation depth.
#[derive(Debug)]
struct DepthLimitedFormatter {
    max_indent: usize,
    depth: usize,
    has_value: bool,
}

impl DepthLimitedFormatter {
    fn begin<W: ?Sized + io::Write>(&mut self, writer: &mut W, bracket: &[u8]) -> io::Result<()> {
        self.depth += 1;
        self.has_value = false;
        writer.write_all(bracket)
    }

    fn end<W: ?Sized + io::Write>(&mut self, writer: &mut W, bracket: &[u8]) -> io::Result<()> {
        self.depth -= 1;
        if self.has_value && self.depth < self.max_indent {
            self.new_line(writer)?;
        }
        self.has_value = true;
        writer.write_all(bracket)
    }

    fn item<W: ?Sized + io::Write>(&self, writer: &mut W, is_first: bool) -> io::Result<()> {
        if self.depth > self.max_indent {
            return writer.write_all(if is_first { b"" } else { b", " });
        }
        writer.write_all(if is_first { b"" } else { b"," })?;
        self.new_line(writer)
    }

    fn new_line<W: ?Sized + io::Write>(&self, writer: &mut W) -> io::Result<()> {
        writer.write_all(b"\n")?;
        (0..self.depth).try_for_each(|_| writer.write_all(b"  "))
    }
}

impl Formatter for DepthLimitedFormatter {
    fn begin_array<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.begin(writer, b"[")
    }

    fn end_array<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.end(writer, b"]")
    }

    fn begin_array_value<W: ?Sized + io::Write>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        self.item(writer, first)
    }

    fn end_array_value<W: ?Sized + io::Write>(&mut self, _: &mut W) -> io::Result<()> {
        self.has_value = true;
        Ok(())
    }

    fn begin_object<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.begin(writer, b"{")
    }

    fn end_object<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.end(writer, b"}")
    }

    fn begin_object_key<W: ?Sized + io::Write>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        self.item(writer, first)
    }

    fn begin_object_value<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        writer.write_all(b": ")
    }

    fn end_object_value<W: ?Sized + io::Write>(&mut self, _: &mut W) -> io::Result<()> {
        self.has_value = true;
        Ok(())
    }
}

/// File name of a shard.
#[must_use]
pub fn shard_file_name(split: Split, shard_idx: usize, num_shards: usize) -> String {
    format!("{split}-{shard_idx:05}-of-{num_shards:05}{SHARD_EXTENSION}")
}

/// File name of an image set's shard, for a shard of the dataset: with a short extension, which patterns such as
/// `**/*.parquet` do not match. Image sets of earlier versions have the names of the dataset's shards.
pub(crate) fn image_shard_file_name(shard: &str) -> String {
    let stem = shard_stem(shard).unwrap_or(shard);
    format!("{stem}{IMAGE_SHARD_EXTENSION}")
}

/// The name of a shard, of the dataset or of an image set, without its extension.
pub(crate) fn shard_stem(shard: &str) -> Option<&str> {
    let extensions = [SHARD_EXTENSION, IMAGE_SHARD_EXTENSION];
    extensions
        .iter()
        .find_map(|extension| shard.strip_suffix(extension))
}

/// A small manifest of a build without a shard, for tests.
#[cfg(test)]
pub(crate) fn example() -> Manifest {
    Manifest {
        schema_version: SCHEMA_VERSION,
        generator: "test".to_owned(),
        sha256: None,
        part: None,
        parent: None,
        is_relit: false,
        source: SourceDescription {
            layout: "folders".to_owned(),
            publication: None,
            splits: None,
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
            columns: Columns::DEFAULT,
        },
        classes: vec!["a".to_owned()],
        parts: Vec::new(),
        num_shards: vec![ShardCount {
            split: Split::Train,
            shards: 1,
        }],
        lists: None,
        shards: Vec::new(),
        skipped: vec![SkippedObject {
            id: "a/b".to_owned(),
            split: Some(Split::Train),
            path: "a/b.obj".to_owned(),
            reason: SkipReason::NonFinite,
            message: "a NaN".to_owned(),
            shard: Some(0),
        }],
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    impl Manifest {
        fn write(&self, dir: &Path) -> Result<()> {
            store::replace(&dir.join(MANIFEST_FILE_NAME), &self.to_json())
        }
    }

    #[test]
    fn a_manifest_round_trips_through_its_file() {
        let dir = tempfile::tempdir().unwrap();
        assert!(
            matches!(
                Manifest::read(dir.path()),
                Err(DatasetError::Manifest(ManifestError::NotFound { .. }))
            ),
            "nothing there yet"
        );
        example().write(dir.path()).unwrap();
        assert_eq!(Manifest::read(dir.path()).unwrap(), example());
    }

    #[test]
    fn a_manifest_of_another_version_or_with_other_names_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        Manifest {
            schema_version: LIST_FILES_SCHEMA_VERSION + 1,
            ..example()
        }
        .write(dir.path())
        .unwrap();
        let error = Manifest::read(dir.path()).unwrap_err();
        assert!(
            matches!(error, DatasetError::Manifest(ManifestError::SchemaVersion { .. })),
            "{error}"
        );

        let entry = ShardEntry {
            file: "../../outside.parquet".to_owned(),
            split: Split::Train,
            rows: 1,
            bytes: 1,
            sha256: String::new(),
            source_sha256: String::new(),
            num_listed: None,
            num_skipped: BTreeMap::new(),
            objects: Vec::new(),
        };
        Manifest {
            shards: vec![entry],
            ..example()
        }
        .write(dir.path())
        .unwrap();
        let error = Manifest::read(dir.path()).unwrap_err();
        assert!(
            matches!(error, DatasetError::Manifest(ManifestError::Invalid { .. })),
            "{error}"
        );

        std::fs::write(dir.path().join(MANIFEST_FILE_NAME), "{").unwrap();
        assert!(
            matches!(
                Manifest::read(dir.path()),
                Err(DatasetError::Manifest(ManifestError::Json { .. }))
            ),
            "not JSON"
        );
    }

    #[test]
    fn a_manifest_has_a_line_for_each_object() {
        let object = |name: &str| ObjectEntry {
            id: ObjectId::try_new("a", name).unwrap(),
            path: format!("a/{name}.obj"),
            bytes: 7,
            sha256: Some("0".to_owned()),
            assets_sha256: None,
            row: None,
        };
        let entry = ShardEntry {
            file: shard_file_name(Split::Train, 0, 1),
            split: Split::Train,
            rows: 0,
            bytes: 1,
            sha256: String::new(),
            source_sha256: String::new(),
            num_listed: None,
            num_skipped: BTreeMap::new(),
            objects: vec![object("b"), object("c")],
        };
        let manifest = Manifest {
            shards: vec![entry],
            ..example()
        };
        let text = String::from_utf8(manifest.to_json()).unwrap();
        assert!(
            text.contains("\n        {\"id\": \"a/b\", \"path\": \"a/b.obj\", \"bytes\": 7, "),
            "{text}"
        );
        assert!(
            text.contains("\n  \"classes\": [\n    \"a\"\n  ],\n  \"parts\": [],\n"),
            "{text}"
        );
        assert_eq!(serde_json::from_str::<Manifest>(&text).unwrap(), manifest);
    }

    #[test]
    fn a_manifest_of_version_1_is_read() {
        let mut value = serde_json::to_value(Manifest {
            skipped: Vec::new(),
            ..example()
        })
        .unwrap();
        value["schema_version"] = 1.into();
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join(MANIFEST_FILE_NAME), value.to_string()).unwrap();
        assert_eq!(Manifest::read(dir.path()).unwrap().schema_version, 1);
    }

    #[test]
    fn columns_of_a_later_version_are_named() {
        let dir = tempfile::tempdir().unwrap();
        let mut value = serde_json::to_value(example()).unwrap();
        value["layout"]["columns"] = serde_json::json!(["points", "boxes", "point-labels"]);
        std::fs::write(dir.path().join(MANIFEST_FILE_NAME), value.to_string()).unwrap();
        let error = Manifest::read(dir.path()).unwrap_err();
        assert!(
            matches!(error, DatasetError::Manifest(ManifestError::Columns { .. })),
            "{error}"
        );
        let chain = crate::error::error_chain(&error);
        assert!(
            chain.contains("boxes, point-labels") && chain.contains("newer version"),
            "{chain}"
        );
    }

    #[test]
    fn a_reason_is_printed_as_it_is_stored() {
        for reason in [
            SkipReason::NonFinite,
            SkipReason::Reprojection,
            SkipReason::NotInSplits,
        ] {
            assert_eq!(serde_json::to_string(&reason).unwrap(), format!("\"{reason}\""));
        }
    }
}
