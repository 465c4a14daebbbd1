//! `manifest.json`: what a dataset is made of, how it was made, and what was left out and why.
//!
//! It is written when a build begins and when it ends. In between each finished shard has a [`ShardNote`] beside it, so
//! that what is written grows with the shards and not with their square; a shard that neither lists does not exist. It
//! holds no time, no path of the machine and no number of workers, so that the same build gives the same bytes.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::{fmt, io};

use serde::{Deserialize, Serialize};
use serde_json::ser::Formatter;
use sha2::{Digest, Sha256};

use crate::{
    BuildPart, DatasetError, OLDEST_SCHEMA_VERSION, ObjectId, PartName, Result, RowLayout, SCHEMA_VERSION,
    Split, durable, store,
};

/// The manifest's file name.
pub const MANIFEST_FILE_NAME: &str = "manifest.json";

/// The longest manifest that is read: room for millions of objects.
pub(crate) const MAX_MANIFEST_BYTES: u64 = 1 << 30;
/// More shards than any build has; a plan of more would only fill memory.
const MAX_SHARDS: usize = 300_000;
/// How deep a manifest is indented: the fields of a shard are, those of its objects are not.
const MAX_INDENT: usize = 4;

/// What a dataset is made of.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// [`SCHEMA_VERSION`], or an older one that can be read still.
    pub schema_version: u32,
    /// The program that made it.
    pub generator: String,
    /// Names the data: the hash of the shards' hashes. `None` until the build has ended.
    pub sha256: Option<String>,
    /// Which share of the shards this folder is for; `None` for all of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub part: Option<BuildPart>,
    /// The hash of the dataset that this one was derived from, if it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<String>,
    /// Were its pictures lit from the G-buffer of that dataset, and not drawn?
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_relit: bool,
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
    /// Which publication it was recognized as, and with it the axes of its meshes; `None` if as none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub publication: Option<String>,
    /// How objects were drawn for the splits; `None` if a list or folders say it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub splits: Option<String>,
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
    /// What it was made from, object by object; empty in a manifest of version 1.
    #[serde(default)]
    pub objects: Vec<ObjectEntry>,
}

/// An object of a shard, row or not: enough to find its mesh again and to prove what became of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ObjectEntry {
    /// Its id.
    pub id: ObjectId,
    /// Its file, relative to the source.
    pub path: String,
    /// The length of the file when the source was looked through.
    pub bytes: u64,
    /// The hash of the file; `None` if it could not be read.
    pub sha256: Option<String>,
    /// The hash of the files that the mesh refers to; `None` if it reads none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub assets_sha256: Option<String>,
    /// The hashes of its row; `None` if it was left out.
    pub row: Option<RowDigest>,
}

/// What tells two rows apart, and in which of their halves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RowDigest {
    /// The hash of points, normals, part labels and the transform that brought them into object space.
    pub points_sha256: String,
    /// The hash of pictures, masks and poses.
    pub views_sha256: String,
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
    /// The place in the plan of the shard that it would have been in; `None` if it was left out before any mesh was
    /// read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shard: Option<usize>,
}

/// Why an object was left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum SkipReason {
    /// The file could not be read.
    Unreadable,
    /// A file that isn't there: a list names it, or it went while the build ran.
    Missing,
    /// A file of another length than when the source was looked through: somebody writes to the source.
    Changed,
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
    /// Its folder was published without a mesh: nothing is lost that anybody has.
    NotPublished,
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
    /// Is the object lost against the user's will? One that a list of splits leaves out, or that nobody has, is not.
    #[must_use]
    pub fn is_loss(self) -> bool {
        !matches!(self, Self::NotInSplits | Self::NotPublished)
    }
}

impl fmt::Display for SkipReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Unreadable => "unreadable",
            Self::Missing => "missing",
            Self::Changed => "changed",
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
            Self::NotPublished => "not-published",
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
        let bytes = match store::read_bounded(&path, MAX_MANIFEST_BYTES) {
            Ok(bytes) => bytes,
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
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
        let readable = u64::from(OLDEST_SCHEMA_VERSION)..=u64::from(SCHEMA_VERSION);
        if !version
            .and_then(serde_json::Value::as_u64)
            .is_some_and(|version| readable.contains(&version))
        {
            let found = version.map_or_else(|| "none".to_owned(), ToString::to_string);
            return Err(DatasetError::SchemaVersion { found, path });
        }
        let mut manifest: Self = serde_json::from_value(value).map_err(damaged)?;
        let check = |manifest: &Self| {
            let path = path.clone();
            manifest
                .check()
                .map_err(|what| DatasetError::ManifestContent { what, path })
        };
        check(&manifest)?;
        if !manifest.is_complete() {
            manifest.take_in_notes(dir)?;
            check(&manifest)?;
        }
        Ok(manifest)
    }

    /// Adds the shards that were finished since the manifest was written.
    fn take_in_notes(&mut self, dir: &Path) -> Result<()> {
        let planned = self.planned_shards();
        let place_of: BTreeMap<&str, usize> = planned
            .iter()
            .enumerate()
            .map(|(place, (_, file))| (file.as_str(), place))
            .collect();
        let plan_sha256 = self.plan_sha256();
        let known: BTreeSet<String> = self.shards.iter().map(|shard| shard.file.clone()).collect();
        for found in store::list(dir)? {
            let shard = found.name.strip_suffix(NOTE_SUFFIX);
            let Some(shard) = shard.filter(|shard| place_of.contains_key(shard) && !known.contains(*shard))
            else {
                continue;
            };
            let path = dir.join(&found.name);
            let bytes =
                store::read_bounded(&path, MAX_MANIFEST_BYTES).map_err(DatasetError::io("read", &path))?;
            let note: ShardNote =
                serde_json::from_slice(&bytes).map_err(|source| DatasetError::Manifest { path, source })?;
            // One of another plan was left behind when that was given up.
            if note.plan_sha256 == plan_sha256 && note.entry.file == shard {
                self.shards.push(note.entry);
                self.skipped.extend(note.skipped);
            }
        }
        self.shards
            .sort_by_key(|shard| place_of.get(shard.file.as_str()).copied());
        self.sort_skipped();
        Ok(())
    }

    pub(crate) fn sort_skipped(&mut self) {
        self.skipped
            .sort_by(|a, b| (a.split, &a.id, &a.path).cmp(&(b.split, &b.id, &b.path)));
    }

    /// Names what is to be built, whatever is there of it.
    pub(crate) fn plan_sha256(&self) -> String {
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
            shards: Vec::new(),
            skipped: unread.cloned().collect(),
            ..*self
        };
        durable::hex(&Sha256::digest(plan.to_json()))
    }

    /// Indented as far as the shards; an object is a line.
    pub(crate) fn to_json(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut serializer = serde_json::Serializer::with_formatter(&mut bytes, Indented::default());
        self.serialize(&mut serializer)
            .expect("a manifest has a JSON form");
        bytes.push(b'\n');
        bytes
    }

    /// Has the build ended?
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.sha256.is_some()
    }

    /// The hash that names the data.
    ///
    /// # Errors
    /// When the build has not ended, or this is a part of one.
    pub(crate) fn finished(&self, dir: &Path) -> Result<&str> {
        let path = || dir.to_owned();
        match (&self.sha256, self.part) {
            (Some(sha256), _) => Ok(sha256),
            (None, Some(part)) if self.shards.len() == self.own_shards().len() => {
                Err(DatasetError::Part { part, path: path() })
            }
            (None, _) => Err(DatasetError::Unfinished {
                finished: self.shards.len(),
                path: path(),
            }),
        }
    }

    /// What every shard says about itself.
    #[cfg(feature = "build")]
    pub(crate) fn header(&self) -> crate::ShardHeader {
        crate::ShardHeader {
            layout: self.layout,
            classes: self.classes.clone(),
            parts: self.parts.clone(),
            recipe: self.recipe.clone(),
            adapter: self.adapter.clone(),
        }
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

    /// The places in the plan of the shards that this folder is for.
    #[must_use]
    pub fn own_shards(&self) -> Vec<usize> {
        let num_planned = self.num_shards.iter().map(|count| count.shards).sum();
        match self.part {
            Some(part) => part.shards(num_planned).collect(),
            None => (0..num_planned).collect(),
        }
    }

    /// The places in the plan of the shards that are whole, in the order of [`Manifest::shards`].
    ///
    /// # Errors
    /// The first shard that the plan doesn't have at its place.
    pub(crate) fn places(&self, planned: &[(Split, String)]) -> Result<Vec<usize>, String> {
        let mut places = Vec::with_capacity(self.shards.len());
        let mut next = 0;
        for shard in &self.shards {
            let is_it = |(split, file): &(Split, String)| (file, *split) == (&shard.file, shard.split);
            let Some(skipped) = planned[next..].iter().position(is_it) else {
                return Err(format!(
                    "shard {} is not in the plan or not at its place",
                    shard.file
                ));
            };
            places.push(next + skipped);
            next += skipped + 1;
        }
        Ok(places)
    }

    /// What the manifest claims must hold together; file names must not lead out of the folder.
    fn check(&self) -> Result<(), String> {
        let num_planned = self
            .num_shards
            .iter()
            .try_fold(0_usize, |sum, count| sum.checked_add(count.shards));
        if num_planned.is_none_or(|num_planned| num_planned > MAX_SHARDS) {
            return Err("more shards than can be".to_owned());
        }
        let planned = self.planned_shards();
        let places = self.places(&planned)?;
        if let Some(part) = self.part {
            part.check()?;
            if let Some(&place) = places.iter().find(|&&place| !part.has(place)) {
                return Err(format!("shard {} is not of part {part}", planned[place].1));
            }
            if self.sha256.is_some() {
                return Err("a part that claims to be whole".to_owned());
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
            columns: _,
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

/// What follows a shard's name in that of its note.
pub(crate) const NOTE_SUFFIX: &str = ".json";

/// A finished shard, before the manifest lists it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ShardNote {
    /// [`Manifest::plan_sha256`] of the build.
    pub(crate) plan_sha256: String,
    pub(crate) entry: ShardEntry,
    /// What was left out of it.
    pub(crate) skipped: Vec<SkippedObject>,
}

impl ShardNote {
    pub(crate) fn file_name(shard: &str) -> String {
        format!("{shard}{NOTE_SUFFIX}")
    }
}

/// Writes JSON that a person can read and that has no more lines than there are objects.
#[derive(Debug, Default)]
struct Indented {
    depth: usize,
    has_value: bool,
}

impl Indented {
    fn begin<W: ?Sized + io::Write>(&mut self, writer: &mut W, bracket: &[u8]) -> io::Result<()> {
        self.depth += 1;
        self.has_value = false;
        writer.write_all(bracket)
    }

    fn end<W: ?Sized + io::Write>(&mut self, writer: &mut W, bracket: &[u8]) -> io::Result<()> {
        self.depth -= 1;
        if self.has_value && self.depth < MAX_INDENT {
            self.new_line(writer)?;
        }
        self.has_value = true;
        writer.write_all(bracket)
    }

    fn item<W: ?Sized + io::Write>(&self, writer: &mut W, is_first: bool) -> io::Result<()> {
        if self.depth > MAX_INDENT {
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

impl Formatter for Indented {
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
                columns: crate::Columns::Plain,
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
                shard: Some(0),
            }],
        }
    }

    impl Manifest {
        fn write(&self, dir: &Path) -> Result<()> {
            store::replace(&dir.join(MANIFEST_FILE_NAME), &self.to_json())
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
            objects: Vec::new(),
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
            objects: vec![object("b"), object("c")],
        };
        let manifest = Manifest {
            shards: vec![entry],
            ..manifest()
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
            ..manifest()
        })
        .unwrap();
        value["schema_version"] = 1.into();
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join(MANIFEST_FILE_NAME), value.to_string()).unwrap();
        assert_eq!(Manifest::read(dir.path()).unwrap().schema_version, 1);
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
