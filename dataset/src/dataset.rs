//! [`Dataset`]: a finished folder of shards, read at random.

use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::image_set::read_image_set;
use crate::{
    Columns, DatasetError, Manifest, ObjectId, Result, RowLayout, Sample, ShardEntry, ShardReader, Split,
    ViewSelection, durable, store,
};

/// An open dataset. `Send` and `Sync`: a loader's threads share one.
#[derive(Debug)]
pub struct Dataset {
    dir: PathBuf,
    manifest: Manifest,
    splits: [SplitShards; Split::ALL.len()],
    sha256: String,
}

#[derive(Debug, Default)]
struct SplitShards {
    shards: Vec<ShardReader>,
    /// For each shard the one that its pictures come from, if they come from an image set.
    images: Vec<ShardReader>,
    /// The first row of each shard, and the number of rows at the end.
    starts: Vec<usize>,
}

impl Dataset {
    /// Opens a dataset: reads the manifest and the footer of every shard, and checks that they agree. Hashes and
    /// rows are left to [`verify`](crate::verify()), so that training starts at once.
    ///
    /// # Errors
    /// When the folder is no dataset, its build has not ended, it is of another schema version, or a shard is
    /// missing, truncated or of another dataset.
    pub fn open(dir: &Path) -> Result<Self> {
        let manifest = Manifest::read(dir)?;
        let sha256 = manifest.finished(dir)?.to_owned();
        let mut splits = Split::ALL.map(|_| SplitShards {
            shards: Vec::new(),
            images: Vec::new(),
            starts: vec![0],
        });
        if manifest.layout.columns == Columns::Images {
            return Err(DatasetError::ImagesAlone { path: dir.to_owned() });
        }
        for entry in &manifest.shards {
            let shard = open_shard(dir, entry, &manifest)?;
            let split = &mut splits[entry.split as usize];
            split.starts.push(split.len() + shard.num_rows());
            split.shards.push(shard);
        }
        Ok(Self {
            dir: dir.to_owned(),
            manifest,
            splits,
            sha256,
        })
    }

    /// The same rows, with the pictures of one of its image sets.
    ///
    /// # Errors
    /// When there is no such set, it is not finished, is of another dataset, or a shard of it is damaged.
    pub fn with_images(mut self, name: &str) -> Result<Self> {
        let (set_dir, set) = read_image_set(&self.dir, name, &self.manifest)?;
        for split in &mut self.splits {
            split.images.clear();
        }
        for entry in &set.shards {
            let shard = open_shard(&set_dir, entry, &set)?;
            self.splits[entry.split as usize].images.push(shard);
        }
        let names = [&self.manifest, &set].map(|manifest| manifest.sha256.clone().unwrap_or_default());
        self.sha256 = durable::hex(&Sha256::digest(names.join(" ")));
        Ok(self)
    }

    /// What the dataset is made of, and how.
    #[must_use]
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// The class names that labels index.
    #[must_use]
    pub fn classes(&self) -> &[String] {
        &self.manifest.classes
    }

    /// The hash that names the data, with the pictures that are read.
    #[must_use]
    pub fn sha256(&self) -> &str {
        &self.sha256
    }

    /// The sizes of every row.
    #[must_use]
    pub fn layout(&self) -> RowLayout {
        self.manifest.layout
    }

    /// V: views of an object.
    #[must_use]
    pub fn num_views(&self) -> usize {
        self.manifest.layout.num_views
    }

    /// N: points of an object.
    #[must_use]
    pub fn num_points(&self) -> usize {
        self.manifest.layout.num_points
    }

    /// Pixels along a side of a view.
    #[must_use]
    pub fn image_size_px(&self) -> u32 {
        self.manifest.layout.image_size_px
    }

    /// How many rows a split has.
    #[must_use]
    pub fn len(&self, split: Split) -> usize {
        self.splits[split as usize].len()
    }

    /// Has the split no row?
    #[must_use]
    pub fn is_empty(&self, split: Split) -> bool {
        self.len(split) == 0
    }

    /// The labels of a split, in the order of its rows. Reads that column alone.
    ///
    /// # Errors
    /// When a shard is damaged.
    pub fn labels(&self, split: Split) -> Result<Vec<i64>> {
        let of_shards: Vec<_> = self.splits[split as usize]
            .shards
            .iter()
            .map(ShardReader::labels)
            .collect::<Result<_>>()?;
        Ok(of_shards.concat())
    }

    /// The ids of a split, in the order of its rows: sorted. Reads that column alone.
    ///
    /// # Errors
    /// When a shard is damaged.
    pub fn ids(&self, split: Split) -> Result<Vec<ObjectId>> {
        let of_shards: Vec<_> = self.splits[split as usize]
            .shards
            .iter()
            .map(ShardReader::ids)
            .collect::<Result<_>>()?;
        Ok(of_shards.concat())
    }

    /// Reads one row and of its views those that are asked for. Touches that row's pages alone and decodes no
    /// picture.
    ///
    /// # Errors
    /// When there is no such row or view, or the shard is damaged.
    pub fn read(&self, split: Split, row: usize, views: ViewSelection<'_>) -> Result<Sample> {
        let shards = &self.splits[split as usize];
        if row >= shards.len() {
            return Err(DatasetError::NoSuchRow {
                split,
                row,
                num_rows: shards.len(),
            });
        }
        // Of shards that begin at the same row all but the last are empty.
        let shard_idx = shards.starts.partition_point(|&start| start <= row) - 1;
        let row = row - shards.starts[shard_idx];
        let mut sample = shards.shards[shard_idx].read(row, views)?;
        if let Some(images) = shards.images.get(shard_idx)
            && !sample.views.is_empty()
        {
            let (id, pngs) = images.read_images(row, views)?;
            if id != sample.id {
                return Err(DatasetError::OtherImages {
                    path: self.dir.clone(),
                });
            }
            for (view, png) in sample.views.iter_mut().zip(pngs) {
                view.image_png = png;
            }
        }
        Ok(sample)
    }
}

/// Opens a shard and holds it against its manifest.
fn open_shard(dir: &Path, entry: &ShardEntry, manifest: &Manifest) -> Result<ShardReader> {
    let path = dir.join(&entry.file);
    let file = store::open(&path).map_err(DatasetError::io("open the shard", &path))?;
    let found = file.len();
    if found != entry.bytes {
        return Err(DatasetError::ShardLength {
            expected: entry.bytes,
            found,
            path,
        });
    }
    let shard = ShardReader::of(file, &path)?;
    let content = |what: String| DatasetError::ShardContent {
        what,
        path: path.clone(),
    };
    let header = shard.header();
    if (header.layout, &header.classes, &header.parts)
        != (manifest.layout, &manifest.classes, &manifest.parts)
    {
        return Err(content("its metadata is not that of the manifest".to_owned()));
    }
    if shard.num_rows() != entry.rows {
        return Err(content(format!(
            "{} rows instead of {}",
            shard.num_rows(),
            entry.rows
        )));
    }
    Ok(shard)
}

impl SplitShards {
    fn len(&self) -> usize {
        *self.starts.last().expect("the list begins with 0")
    }
}
