//! [`Dataset`]: random access to the rows of a complete dataset.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::open_shards::{MAX_FOOTER_BYTES, OpenShards, ShardSlot};
use crate::error::{DatasetError, DeriveError, ImageSetError, Result, ShardError, StreamError};
use crate::image_set::read_image_set;
use crate::manifest::{Manifest, ShardEntry};
use crate::pipeline::{num_threads, parallel_map};
use crate::predicate::{Predicate, ValueKind};
use crate::schema::column::{self, Column};
use crate::schema::{Columns, ObjectId, RowLayout, Sample, Split};
use crate::sha256;
use crate::shard::{Projection, RowStats, SPLIT, ShardReader, ViewSelection};
use crate::store;

/// Requests at a time to a store, whose answers take long.
const NUM_REMOTE_THREADS: usize = 16;

/// An open dataset. `Send` and `Sync`: threads share one.
///
/// Memory: the manifest, and the footers of the shards that were used last, up to 256 MiB.
#[derive(Debug)]
pub struct Dataset {
    dir: PathBuf,
    manifest: Arc<Manifest>,
    splits: [SplitShards; Split::ALL.len()],
    sha256: String,
    open: OpenShards,
}

#[derive(Debug)]
struct SplitShards {
    /// Numbers of the shards.
    shards: Vec<usize>,
    /// Per shard, the image-set shard that replaces its images; empty without an image set.
    images: Vec<usize>,
    /// First row of each shard, followed by the total number of rows.
    starts: Vec<usize>,
}

impl Dataset {
    /// Opens a dataset: reads the manifest, lists the folder once and checks that the shards have their lengths. Of each
    /// split the first shard is opened, the others when they are first read. Hashes and rows are not read (see
    /// [`verify`](crate::verify())), so training starts immediately.
    ///
    /// # Errors
    /// When the folder is not a dataset, its build is incomplete, its schema version is unsupported, or a
    /// shard is missing, truncated or belongs to another dataset.
    pub fn open(dir: &Path) -> Result<Self> {
        let manifest = Arc::new(Manifest::read(dir)?);
        let sha256 = manifest.complete_sha256(dir)?.to_owned();
        if manifest.layout.columns.is_image_set() {
            return Err(DatasetError::ImageSet(ImageSetError::NotADataset {
                path: dir.to_owned(),
            }));
        }
        let mut splits = empty_splits();
        let slots = slots(dir, &manifest)?;
        for (number, (entry, slot)) in manifest.shards.iter().zip(&slots).enumerate() {
            splits[entry.split as usize].push(number, slot);
        }
        let dataset = Self {
            dir: dir.to_owned(),
            manifest,
            splits,
            sha256,
            open: OpenShards::new(slots, MAX_FOOTER_BYTES),
        };
        dataset.open_first(|split| &split.shards)?;
        Ok(dataset)
    }

    /// The same rows with the images of one of the dataset's image sets.
    ///
    /// # Errors
    /// When the image set does not exist, is incomplete or damaged, or belongs to another dataset.
    pub fn with_images(mut self, name: &str) -> Result<Self> {
        let (set_dir, set) = read_image_set(&self.dir, name, &self.manifest)?;
        let set = Arc::new(set);
        for split in &mut self.splits {
            split.images.clear();
        }
        let first = self.open.slots().len();
        self.open.extend(slots(&set_dir, &set)?);
        for (number, entry) in set.shards.iter().enumerate() {
            self.splits[entry.split as usize].images.push(first + number);
        }
        self.open_first(|split| &split.images)?;
        let names = [&self.manifest, &set].map(|manifest| manifest.sha256.clone().unwrap_or_default());
        self.sha256 = sha256::of_bytes(names.join(" "));
        Ok(self)
    }

    /// Opens one shard of each split, so that what this program cannot read is refused at once.
    fn open_first(&self, numbers: fn(&SplitShards) -> &Vec<usize>) -> Result<()> {
        let first = self.splits.iter().filter_map(|split| numbers(split).first());
        first
            .copied()
            .try_for_each(|number| self.open.get(number).map(drop))
    }

    /// Shards that no manifest lists, read as this one says.
    #[cfg(feature = "build")]
    pub(crate) fn of_foreign(dir: &Path, manifest: Manifest, shards: Vec<(Split, PathBuf)>) -> Result<Self> {
        let manifest = Arc::new(manifest);
        let (mut splits, mut slots, mut hashes) = (empty_splits(), Vec::new(), Vec::new());
        for (split, path) in shards {
            let (hash, num_bytes) = sha256::of_file(&path).map_err(DatasetError::io("read", &path))?;
            hashes.push(hash);
            let slot = ShardSlot::foreign(&path, num_bytes, &manifest)?;
            splits[split as usize].push(slots.len(), &slot);
            slots.push(slot);
        }
        Ok(Self {
            dir: dir.to_owned(),
            manifest,
            splits,
            sha256: sha256::of_bytes(hashes.join(" ")),
            open: OpenShards::new(slots, MAX_FOOTER_BYTES),
        })
    }

    /// The folder.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The manifest: contents and provenance.
    #[must_use]
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Class names, indexed by label.
    #[must_use]
    pub fn classes(&self) -> &[String] {
        &self.manifest.classes
    }

    /// Hash of the data, including the image set in use.
    #[must_use]
    pub fn sha256(&self) -> &str {
        &self.sha256
    }

    /// Row dimensions shared by all rows.
    #[must_use]
    pub fn layout(&self) -> RowLayout {
        self.manifest.layout
    }

    /// Sets of columns that the rows have.
    #[must_use]
    pub fn columns(&self) -> Columns {
        self.manifest.layout.columns
    }

    /// V: views per object; 0 without views.
    #[must_use]
    pub fn num_views(&self) -> usize {
        self.manifest.layout.num_views
    }

    /// N: points per object.
    #[must_use]
    pub fn num_points(&self) -> usize {
        self.manifest.layout.num_points
    }

    /// Width and height of a view in pixels; 0 without views.
    #[must_use]
    pub fn image_size_px(&self) -> u32 {
        self.manifest.layout.image_size_px
    }

    /// Number of rows in a split.
    #[must_use]
    pub fn len(&self, split: Split) -> usize {
        self.splits[split as usize].len()
    }

    /// Whether the split has no rows.
    #[must_use]
    pub fn is_empty(&self, split: Split) -> bool {
        self.len(split) == 0
    }

    /// Labels of a split in row order. Reads only that column.
    ///
    /// # Errors
    /// When a shard is damaged.
    pub fn labels(&self, split: Split) -> Result<Vec<i64>> {
        self.concat(split, ShardReader::labels)
    }

    /// Ids of a split in row order, which is sorted. Reads only that column.
    ///
    /// # Errors
    /// When a shard is damaged.
    pub fn ids(&self, split: Split) -> Result<Vec<ObjectId>> {
        self.concat(split, ShardReader::ids)
    }

    /// Columns that a [`Predicate`] may name.
    #[must_use]
    pub fn comparable_columns(&self) -> Vec<(&'static str, ValueKind)> {
        let comparable = self
            .stored_columns()
            .filter_map(|column| Some((column.name, column.value_kind()?)));
        comparable.chain([(SPLIT, ValueKind::Text)]).collect()
    }

    /// Rows of a split of which a predicate is true, in order. Reads only the columns that it names.
    ///
    /// # Errors
    /// When it names a column that the rows do not have, or a shard is damaged.
    pub fn matching(&self, split: Split, predicate: &Predicate) -> Result<Vec<usize>> {
        predicate
            .check(&self.comparable_columns())
            .map_err(DeriveError::from)?;
        let of_shards = self.read_shards(split, |shard| shard.matching(split, predicate))?;
        let starts = &self.splits[split as usize].starts;
        let rows = of_shards.into_iter().zip(starts);
        Ok(rows
            .flat_map(|(rows, start)| rows.into_iter().map(move |row| start + row))
            .collect())
    }

    /// Small columns of a split in row order.
    ///
    /// # Errors
    /// When a shard is damaged.
    pub fn stats(&self, split: Split) -> Result<Vec<RowStats>> {
        self.concat(split, ShardReader::stats)
    }

    fn concat<T: Send>(&self, split: Split, read: fn(&ShardReader) -> Result<Vec<T>>) -> Result<Vec<T>> {
        Ok(self.read_shards(split, read)?.into_iter().flatten().collect())
    }

    /// What `read` takes from each shard of a split, in order.
    fn read_shards<T: Send>(
        &self,
        split: Split,
        read: impl Fn(&ShardReader) -> Result<T> + Sync,
    ) -> Result<Vec<T>> {
        let shards = &self.splits[split as usize].shards;
        let num_threads = self.num_threads();
        let of_shard = |idx: usize| read(&*self.open.get(shards[idx])?);
        match shards.len() {
            0 => Ok(Vec::new()),
            1 => Ok(vec![of_shard(0)?]),
            num_shards => parallel_map(num_threads, num_shards, of_shard, || {})?
                .into_iter()
                .collect(),
        }
    }

    /// Threads that keep the processor or the store busy.
    pub(super) fn num_threads(&self) -> usize {
        if store::is_url(&self.dir) {
            NUM_REMOTE_THREADS
        } else {
            num_threads(0)
        }
    }

    /// Reads one row with the selected views. Reads only that row's pages and decodes no image.
    ///
    /// # Errors
    /// When the row or a view does not exist, or the shard is damaged.
    pub fn read(&self, split: Split, row: usize, views: ViewSelection<'_>) -> Result<Sample> {
        self.read_columns(split, row, &Projection::of_views(views))
    }

    /// Reads one row, and of it only the chosen columns and views. Decodes no image.
    ///
    /// # Errors
    /// When the row or a view does not exist, the rows have no such column, or the shard is damaged.
    pub fn read_columns(&self, split: Split, row: usize, projection: &Projection) -> Result<Sample> {
        self.check_columns(projection)?;
        let shards = &self.splits[split as usize];
        if row >= shards.len() {
            return Err(DatasetError::Shard(ShardError::NoSuchRow {
                split: split.as_str(),
                row,
                num_rows: shards.len(),
            }));
        }
        // Among shards with the same first row, all but the last are empty.
        let shard_idx = shards.starts.partition_point(|&start| start <= row) - 1;
        let row = row - shards.starts[shard_idx];
        let shard = self.open.get(shards.shards[shard_idx])?;
        let is_replaced = |_: &&usize| projection.has(column::IMAGES);
        let Some(&images) = shards.images.get(shard_idx).filter(is_replaced) else {
            return shard.read_columns(row, projection);
        };
        let mut sample = shard.read_without_images(row, projection)?;
        let (id, pngs) = self.open.get(images)?.read_images(row, projection)?;
        if id != sample.id {
            return Err(DatasetError::ImageSet(ImageSetError::Mismatch {
                path: self.dir.clone(),
            }));
        }
        for (view, png) in sample.views.iter_mut().zip(pngs) {
            view.image_png = png;
        }
        Ok(sample)
    }

    /// Names of the columns that the rows have, in the order of the file.
    #[must_use]
    pub fn column_names(&self) -> Vec<&'static str> {
        self.stored_columns().map(|column| column.name).collect()
    }

    fn stored_columns(&self) -> impl Iterator<Item = &'static Column> {
        column::stored(self.columns(), self.manifest.schema_version)
    }

    /// Refuses a choice of columns that the rows do not have.
    fn check_columns(&self, projection: &Projection) -> Result<()> {
        let is_missing = |name: &&&str| self.stored_columns().all(|column| column.name != **name);
        match projection.named().and_then(|names| names.iter().find(is_missing)) {
            Some(name) => Err(DatasetError::Stream(StreamError::UnknownColumn {
                name: (*name).to_owned(),
                columns: self.column_names().join(", "),
            })),
            None => Ok(()),
        }
    }
}

fn empty_splits() -> [SplitShards; Split::ALL.len()] {
    Split::ALL.map(|_| SplitShards {
        shards: Vec::new(),
        images: Vec::new(),
        starts: vec![0],
    })
}

/// The shards of a manifest, after a look at the folder whether they are there in full length. What cannot be listed is
/// looked at when it is opened.
fn slots(dir: &Path, manifest: &Arc<Manifest>) -> Result<Vec<ShardSlot>> {
    if !store::can_list(dir)? {
        let slot =
            |entry: &ShardEntry| ShardSlot::new(dir.join(&entry.file), entry.rows, entry.bytes, manifest);
        return Ok(manifest.shards.iter().map(slot).collect());
    }
    let listed = store::list(dir)?;
    let lengths: BTreeMap<&str, u64> = listed
        .iter()
        .map(|entry| (entry.name.as_str(), entry.bytes))
        .collect();
    let slot = |ShardEntry {
                    file, rows, bytes, ..
                }: &ShardEntry| {
        let path = dir.join(file);
        match lengths.get(file.as_str()) {
            Some(&found) if found != *bytes => Err(DatasetError::Shard(ShardError::Length {
                expected: *bytes,
                found,
                path,
            })),
            Some(_) => Ok(ShardSlot::new(path, *rows, *bytes, manifest)),
            None => {
                let missing = std::io::ErrorKind::NotFound.into();
                Err(DatasetError::io("open the shard", &path)(missing))
            }
        }
    };
    manifest.shards.iter().map(slot).collect()
}

impl SplitShards {
    fn push(&mut self, number: usize, slot: &ShardSlot) {
        self.starts.push(self.len() + slot.num_rows());
        self.shards.push(number);
    }

    fn len(&self) -> usize {
        *self.starts.last().expect("the list begins with 0")
    }
}
