//! [`Dataset`]: random access to the rows of a complete dataset.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::error::{DatasetError, DeriveError, ImageSetError, Result, ShardError};
use crate::image_set::read_image_set;
use crate::manifest::{Manifest, ShardEntry};
use crate::predicate::{Predicate, ValueKind};
use crate::schema::column;
use crate::schema::{Columns, ObjectId, RowLayout, Sample, Split};
use crate::sha256;
use crate::shard::{RowStats, SPLIT, ShardReader, ViewSelection};
use crate::store::FileCache;

/// Shards whose files are open at a time; the footers of all are kept in memory.
const MAX_OPEN_FILES: usize = 16;

/// An open dataset. `Send` and `Sync`: loader threads share one.
#[derive(Debug)]
pub struct Dataset {
    dir: PathBuf,
    manifest: Manifest,
    splits: [SplitShards; Split::ALL.len()],
    sha256: String,
    files: Arc<FileCache>,
}

#[derive(Debug, Default)]
struct SplitShards {
    shards: Vec<ShardReader>,
    /// Per shard, the image-set shard that replaces its images; empty without an image set.
    images: Vec<ShardReader>,
    /// First row of each shard, followed by the total number of rows.
    starts: Vec<usize>,
}

impl Dataset {
    /// Opens a dataset: reads the manifest and every shard footer, and checks that they agree. Hashes and
    /// rows are not read (see [`verify`](crate::verify())), so training starts immediately.
    ///
    /// # Errors
    /// When the folder is not a dataset, its build is incomplete, its schema version is unsupported, or a
    /// shard is missing, truncated or belongs to another dataset.
    pub fn open(dir: &Path) -> Result<Self> {
        let manifest = Manifest::read(dir)?;
        let sha256 = manifest.complete_sha256(dir)?.to_owned();
        let mut splits = empty_splits();
        if manifest.layout.columns.is_image_set() {
            return Err(DatasetError::ImageSet(ImageSetError::NotADataset {
                path: dir.to_owned(),
            }));
        }
        let files = Arc::new(FileCache::new(MAX_OPEN_FILES));
        for entry in &manifest.shards {
            let shard = open_shard(&files, dir, entry, &manifest)?;
            splits[entry.split as usize].push(shard);
        }
        Ok(Self {
            dir: dir.to_owned(),
            manifest,
            splits,
            sha256,
            files,
        })
    }

    /// The same rows with the images of one of the dataset's image sets.
    ///
    /// # Errors
    /// When the image set does not exist, is incomplete or damaged, or belongs to another dataset.
    pub fn with_images(mut self, name: &str) -> Result<Self> {
        let (set_dir, set) = read_image_set(&self.dir, name, &self.manifest)?;
        for split in &mut self.splits {
            split.images.clear();
        }
        for entry in &set.shards {
            let shard = open_shard(&self.files, &set_dir, entry, &set)?;
            self.splits[entry.split as usize].images.push(shard);
        }
        let names = [&self.manifest, &set].map(|manifest| manifest.sha256.clone().unwrap_or_default());
        self.sha256 = sha256::of_bytes(names.join(" "));
        Ok(self)
    }

    /// Shards that no manifest lists, read as this one says.
    #[cfg(feature = "build")]
    pub(crate) fn of_foreign(dir: &Path, manifest: Manifest, shards: Vec<(Split, PathBuf)>) -> Result<Self> {
        let files = Arc::new(FileCache::new(MAX_OPEN_FILES));
        let mut splits = empty_splits();
        let mut hashes = Vec::new();
        for (split, path) in shards {
            let open_error = DatasetError::io("open the shard", &path);
            let file = files.file(&path).map_err(open_error)?;
            let (hash, _) = sha256::of_file(&path).map_err(DatasetError::io("read", &path))?;
            hashes.push(hash);
            let shard = ShardReader::from_foreign(file, &path, &manifest)?;
            splits[split as usize].push(shard);
        }
        Ok(Self {
            dir: dir.to_owned(),
            manifest,
            splits,
            sha256: sha256::of_bytes(hashes.join(" ")),
            files,
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
        let stored = column::stored(self.columns(), self.manifest.schema_version);
        let comparable = stored.filter_map(|column| Some((column.name, column.value_kind()?)));
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
        let shards = &self.splits[split as usize];
        let mut rows = Vec::new();
        for (shard, start) in shards.shards.iter().zip(&shards.starts) {
            rows.extend(
                shard
                    .matching(split, predicate)?
                    .into_iter()
                    .map(|row| start + row),
            );
        }
        Ok(rows)
    }

    /// Small columns of a split in row order.
    ///
    /// # Errors
    /// When a shard is damaged.
    pub fn stats(&self, split: Split) -> Result<Vec<RowStats>> {
        self.concat(split, ShardReader::stats)
    }

    fn concat<T>(&self, split: Split, read: fn(&ShardReader) -> Result<Vec<T>>) -> Result<Vec<T>> {
        let mut rows = Vec::with_capacity(self.len(split));
        for shard in &self.splits[split as usize].shards {
            rows.extend(read(shard)?);
        }
        Ok(rows)
    }

    /// Reads one row with the selected views. Reads only that row's pages and decodes no image.
    ///
    /// # Errors
    /// When the row or a view does not exist, or the shard is damaged.
    pub fn read(&self, split: Split, row: usize, views: ViewSelection<'_>) -> Result<Sample> {
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
        let mut sample = shards.shards[shard_idx].read(row, views)?;
        if let Some(images) = shards.images.get(shard_idx)
            && !sample.views.is_empty()
        {
            let (id, pngs) = images.read_images(row, views)?;
            if id != sample.id {
                return Err(DatasetError::ImageSet(ImageSetError::Mismatch {
                    path: self.dir.clone(),
                }));
            }
            for (view, png) in sample.views.iter_mut().zip(pngs) {
                view.image_png = png;
            }
        }
        Ok(sample)
    }
}

fn empty_splits() -> [SplitShards; Split::ALL.len()] {
    Split::ALL.map(|_| SplitShards {
        shards: Vec::new(),
        images: Vec::new(),
        starts: vec![0],
    })
}

/// Opens a shard and checks it against the manifest.
fn open_shard(
    files: &Arc<FileCache>,
    dir: &Path,
    entry: &ShardEntry,
    manifest: &Manifest,
) -> Result<ShardReader> {
    let path = dir.join(&entry.file);
    let file = files
        .file(&path)
        .map_err(DatasetError::io("open the shard", &path))?;
    let found = file.len();
    if found != entry.bytes {
        return Err(DatasetError::Shard(ShardError::Length {
            expected: entry.bytes,
            found,
            path,
        }));
    }
    let shard = ShardReader::from_file(file, &path, Some(manifest))?;
    let invalid = |detail: String| {
        DatasetError::Shard(ShardError::Invalid {
            detail,
            path: path.clone(),
        })
    };
    let header = shard.header();
    if (header.layout, &header.classes, &header.parts)
        != (manifest.layout, &manifest.classes, &manifest.parts)
    {
        return Err(invalid("its metadata does not match the manifest".to_owned()));
    }
    if shard.num_rows() != entry.rows {
        return Err(invalid(format!(
            "{} rows instead of {}",
            shard.num_rows(),
            entry.rows
        )));
    }
    Ok(shard)
}

impl SplitShards {
    fn push(&mut self, shard: ShardReader) {
        self.starts.push(self.len() + shard.num_rows());
        self.shards.push(shard);
    }

    fn len(&self) -> usize {
        *self.starts.last().expect("the list begins with 0")
    }
}
