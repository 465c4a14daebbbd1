//! Rows to batches: points chosen, views drawn and decoded, augmentation applied. What a batch holds is a function of
//! (seed, step) alone: the views and the augmentation of a sample are one of (seed, epoch, id).

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use serde::{Deserialize, Serialize};
use tap_dataset::{FeatureViews, Sample, SampleView, ViewSelection, decode_gray_png_into, decode_rgb_planes};

use super::augment::{Augmentation, PartAugmentation, farthest_points, rotate_y};
use super::batch::{CpuBatch, CpuImageFeatures, MicroBatches};
use super::point_view::{HiddenPoints, PointViews};
use super::sampler::{BatchSampler, micro_batch_size};
use super::source::SampleSource;
use crate::error::TrainError;
use crate::ranks::Place;
use crate::seed::Stream;

/// How points are sampled from those of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PointSampling {
    /// The first ones: for rows whose points are stored in farthest-first order.
    First,
    /// Farthest-point sampling from the first point on.
    Farthest,
    /// In training, so many of a pool of 75/64 times as many farthest points, drawn anew each epoch: 1024 of 1200, 2048 of
    /// 2400. In evaluation the farthest points.
    FarthestRandom,
}

/// Points of the pool that [`PointSampling::FarthestRandom`] draws from, over those drawn, as Point-BERT and its descendants
/// have it.
const POOL_RATIO: [usize; 2] = [75, 64];

impl PointSampling {
    /// The same without random choice: for evaluation.
    #[must_use]
    pub fn without_randomness(self) -> Self {
        match self {
            Self::First => Self::First,
            Self::Farthest | Self::FarthestRandom => Self::Farthest,
        }
    }
}

/// How views of a sample are chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ViewSampling {
    /// None.
    None,
    /// So many, drawn anew each epoch.
    Random(usize),
    /// All of them, in the rig's order.
    All,
}

/// Content of rows beside points and labels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RowContent {
    /// Views.
    pub views: ViewSampling,
    /// Unit normals of the points.
    pub normals: bool,
    /// What a frozen 2D network says of images of the object, and whether also of points that they hide.
    pub features: Option<HiddenPoints>,
}

impl From<ViewSampling> for RowContent {
    /// Views alone.
    fn from(views: ViewSampling) -> Self {
        Self {
            views,
            normals: false,
            features: None,
        }
    }
}

/// Content of batches.
#[derive(Debug, Clone)]
pub struct LoaderOptions {
    /// Seed of every draw.
    pub seed: u64,
    /// Number of points of a cloud, N.
    pub num_points: usize,
    /// How the N points are sampled.
    pub point_choice: PointSampling,
    /// Views.
    pub views: ViewSampling,
    /// Images in RGB, not in gray.
    pub is_color: bool,
    /// Transforms.
    pub augmentation: Augmentation,
    /// Unit normals of the points.
    pub normals: bool,
    /// What a frozen 2D network says of images of the object, and whether also of points that they hide.
    pub features: Option<HiddenPoints>,
    /// Part labels and normals, and their augmentation; without part labels if absent. Normals are zero where the data has
    /// none.
    pub parts: Option<PartAugmentation>,
    /// Largest size of the cache of encoded rows, in bytes.
    pub cache_bytes: u64,
}

/// A cached row: sampled points, encoded images.
#[derive(Debug)]
struct Row {
    label: i64,
    points: Vec<[f32; 3]>,
    /// Normal and part label of each point, if requested.
    normals: Vec<[f32; 3]>,
    part_labels: Vec<u8>,
    views: Vec<SampleView>,
    features: Option<FeatureRow>,
}

/// The features of a row, and where the sampled points lie in the images that they are of.
#[derive(Debug)]
struct FeatureRow {
    /// V x h x w x C and V x h x w in float16.
    maps: Vec<u8>,
    saliency: Vec<u8>,
    points: PointViews,
}

impl FeatureRow {
    fn num_bytes(&self) -> usize {
        let of_points = self.points.positions.len() * 8 + self.points.visible.len();
        self.maps.len() + self.saliency.len() + of_points
    }
}

impl Row {
    /// These points of it; without its views, which are taken before.
    fn select(&self, points: &[usize]) -> Self {
        let vectors = |of_row: &[[f32; 3]]| -> Vec<[f32; 3]> {
            let chosen = points.iter().filter_map(|&point| of_row.get(point));
            chosen.copied().collect()
        };
        let part_labels = points.iter().filter_map(|&point| self.part_labels.get(point));
        Self {
            label: self.label,
            points: vectors(&self.points),
            normals: vectors(&self.normals),
            part_labels: part_labels.copied().collect(),
            views: Vec::new(),
            features: self.features.as_ref().map(|features| FeatureRow {
                maps: features.maps.clone(),
                saliency: features.saliency.clone(),
                points: features.points.select(points),
            }),
        }
    }
}

/// Collates rows of a source into batches.
pub struct Collator {
    source: Arc<dyn SampleSource>,
    sampler: BatchSampler,
    options: LoaderOptions,
    /// Rows whose places in the batches stay empty.
    left_out: BTreeSet<usize>,
    cache: Vec<OnceLock<Arc<Row>>>,
    cached_bytes: AtomicU64,
}

impl std::fmt::Debug for Collator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Collator")
            .field("sampler", &self.sampler)
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}

impl Collator {
    /// A collator for all rows of `source`.
    #[must_use]
    pub fn new(source: Arc<dyn SampleSource>, sampler: BatchSampler, options: LoaderOptions) -> Self {
        let cache = (0..source.len()).map(|_| OnceLock::new()).collect();
        Self {
            source,
            sampler,
            options,
            left_out: BTreeSet::new(),
            cache,
            cached_bytes: AtomicU64::new(0),
        }
    }

    /// The same without some rows: their places in the batches of steps stay empty, and all others are as they were.
    #[must_use]
    pub fn without(mut self, rows: BTreeSet<usize>) -> Self {
        self.left_out = rows;
        self
    }

    /// Which rows make which batch.
    #[must_use]
    pub fn sampler(&self) -> &BatchSampler {
        &self.sampler
    }

    /// The batch of `step`.
    ///
    /// # Errors
    /// Where a row cannot be read, has fewer points than asked for, or every row of the batch is left out.
    pub fn batch(&self, step: u64) -> Result<CpuBatch, TrainError> {
        self.make(step, &self.rows_of(step)?)
    }

    /// The micro-batches of `step` that a rank takes; rows of others are not read.
    ///
    /// # Errors
    /// As for [`Collator::batch`].
    pub fn micro_batches(
        &self,
        step: u64,
        accumulation_steps: usize,
        place: Place,
    ) -> Result<MicroBatches, TrainError> {
        let rows = self.rows_of(step)?;
        let micro_batches = rows.chunks(micro_batch_size(rows.len(), accumulation_steps));
        let own = micro_batches
            .clone()
            .enumerate()
            .filter(|(idx, _)| place.takes(*idx));
        Ok(MicroBatches {
            epoch: epoch_of(&rows),
            num_samples: rows.len(),
            num_views: self.num_views(),
            count: micro_batches.len(),
            own: own
                .map(|(idx, rows)| Ok((idx, self.make(step, rows)?)))
                .collect::<Result<_, TrainError>>()?,
        })
    }

    /// (epoch, row) of every sample of the batch of `step` that is not left out.
    fn rows_of(&self, step: u64) -> Result<Vec<(u64, usize)>, TrainError> {
        let mut rows = self.sampler.batch(step);
        rows.retain(|(_, row)| !self.left_out.contains(row));
        if rows.is_empty() {
            let reason = format!(
                "data.leave_out leaves no sample in the batch of step {}",
                step + 1
            );
            return Err(TrainError::Config { reason });
        }
        Ok(rows)
    }

    /// Given rows as a batch of epoch 0.
    ///
    /// # Errors
    /// As for [`Collator::batch`].
    pub fn rows(&self, rows: &[usize]) -> Result<CpuBatch, TrainError> {
        let rows: Vec<(u64, usize)> = rows.iter().map(|&row| (0, row)).collect();
        self.make(0, &rows)
    }

    /// Views drawn per sample.
    fn num_views(&self) -> usize {
        match self.options.views {
            ViewSampling::None => 0,
            ViewSampling::Random(count) => count.min(self.source.num_views()),
            ViewSampling::All => self.source.num_views(),
        }
    }

    fn make(&self, step: u64, rows: &[(u64, usize)]) -> Result<CpuBatch, TrainError> {
        let mut batch = CpuBatch {
            step,
            epoch: epoch_of(rows),
            num_points: self.options.num_points,
            num_views: self.num_views(),
            is_color: self.options.is_color,
            size_px: self.source.image_size_px() as usize,
            features: self.no_features()?,
            ..CpuBatch::default()
        };
        for &(epoch, row) in rows {
            self.push(&mut batch, epoch, row)?;
        }
        Ok(batch)
    }

    fn push(&self, batch: &mut CpuBatch, epoch: u64, row: usize) -> Result<(), TrainError> {
        let id = self.source.ids()[row].as_str();
        let seed = self.options.seed;
        let drawn: Vec<usize> = match self.options.views {
            ViewSampling::None => Vec::new(),
            ViewSampling::Random(_) => {
                Stream::new(seed, "views", epoch, id).choose(self.source.num_views(), batch.num_views)
            }
            ViewSampling::All => (0..self.source.num_views()).collect(),
        };
        let (kept, views) = if let Some(kept) = self.cached(row)? {
            let views: Vec<SampleView> = drawn.iter().map(|&view| kept.views[view].clone()).collect();
            (kept, views)
        } else {
            let wanted = if drawn.is_empty() {
                ViewSelection::None
            } else {
                ViewSelection::Some(&drawn)
            };
            let mut read = self.read(row, wanted)?;
            let views = std::mem::take(&mut read.views);
            (Arc::new(read), views)
        };
        let kept = match self.draw_points(epoch, id, kept.points.len()) {
            Some(drawn) => Arc::new(kept.select(&drawn)),
            None => kept,
        };
        let mut points = kept.points.clone();
        let mut matrices: Vec<[f32; 16]> = views.iter().map(|view| view.view_from_object).collect();
        let heights = self
            .options
            .augmentation
            .apply(seed, epoch, id, &mut points, &mut matrices);
        let mut normals = kept.normals.clone();
        if let Some(angle_rad) = self.options.augmentation.angle_rad(seed, epoch, id) {
            rotate_y(angle_rad, &mut normals, &mut []);
        }
        if let Some(augmentation) = &self.options.parts {
            augmentation.apply(seed, epoch, id, &mut points, &mut normals);
        }
        batch.normals.extend(normals.iter().flatten());
        let part_labels = kept.part_labels.iter().map(|&part| i64::from(part));
        batch.part_labels.extend(part_labels);
        for view in &views {
            if batch.is_color {
                batch.images.extend(decode_rgb_planes(&view.image_png)?);
            } else {
                decode_gray_png_into(&view.image_png, &mut batch.images)?;
            }
            view.mask.append_pixels(&mut batch.masks);
            batch.clip_from_view.extend_from_slice(&view.clip_from_view);
        }
        batch.view_from_object.extend(matrices.iter().flatten());
        batch.view_indices.extend(drawn.iter().map(|&view| view as i64));
        batch
            .sample_seeds
            .push(Stream::new(seed, "sample", epoch, id).bits());
        if let (Some(features), Some(of_row)) = (&mut batch.features, &kept.features) {
            features.maps.extend_from_slice(&of_row.maps);
            features.saliency.extend_from_slice(&of_row.saliency);
            features
                .positions
                .extend(of_row.points.positions.iter().flatten());
            let visible = of_row.points.visible.iter().map(|&seen| u8::from(seen));
            features.visible.extend(visible);
        }
        batch.ids.push(id.to_owned());
        batch.labels.push(kept.label);
        batch.points.extend(points.iter().flatten());
        batch.heights.extend(heights);
        Ok(())
    }

    /// Which of the points of a row's pool this epoch has; all where there is no pool.
    fn draw_points(&self, epoch: u64, id: &str, num_in_pool: usize) -> Option<Vec<usize>> {
        let is_drawn = self.options.point_choice == PointSampling::FarthestRandom;
        let mut stream = Stream::new(self.options.seed, "points", epoch, id);
        is_drawn.then(|| stream.choose(num_in_pool, self.options.num_points))
    }

    /// The row from the cache; if it is not there and fits, it is read and cached.
    fn cached(&self, row: usize) -> Result<Option<Arc<Row>>, TrainError> {
        if let Some(kept) = self.cache[row].get() {
            return Ok(Some(Arc::clone(kept)));
        }
        if self.cached_bytes.load(Ordering::Relaxed) >= self.options.cache_bytes {
            return Ok(None);
        }
        let wanted = if self.options.views == ViewSampling::None {
            ViewSelection::None
        } else {
            ViewSelection::All
        };
        let kept = Arc::new(self.read(row, wanted)?);
        let view_bytes: usize = kept
            .views
            .iter()
            .map(|view| view.image_png.len() + view.mask.as_bytes().len() + 128)
            .sum();
        let feature_bytes = kept.features.as_ref().map_or(0, FeatureRow::num_bytes);
        self.cached_bytes.fetch_add(
            (view_bytes
                + feature_bytes
                + (kept.points.len() + kept.normals.len()) * 12
                + kept.part_labels.len()) as u64,
            Ordering::Relaxed,
        );
        Ok(Some(Arc::clone(self.cache[row].get_or_init(|| kept))))
    }

    /// Room for features, where they are asked for.
    fn no_features(&self) -> Result<Option<CpuImageFeatures>, TrainError> {
        if self.options.features.is_none() {
            return Ok(None);
        }
        let Some(manifest) = self.source.feature_manifest() else {
            let reason = String::from("the data has no feature set in use; set data.features");
            return Err(TrainError::Config { reason });
        };
        Ok(Some(CpuImageFeatures {
            layout: manifest.layout,
            maps: Vec::new(),
            saliency: Vec::new(),
            positions: Vec::new(),
            visible: Vec::new(),
        }))
    }

    /// The row with the views asked for, and the features with the points in all images that they are of.
    fn read_sample(
        &self,
        row: usize,
        views: ViewSelection<'_>,
    ) -> Result<(Sample, Option<FeatureRow>), TrainError> {
        let (Some(hidden), Some(manifest)) = (self.options.features, self.source.feature_manifest()) else {
            return Ok((self.source.read(row, views)?, None));
        };
        let is_of_depth = manifest.recipe.views == FeatureViews::Depth;
        let all = match hidden {
            _ if is_of_depth => views,
            HiddenPoints::Keep => ViewSelection::All,
            HiddenPoints::LeaveOut => ViewSelection::WithGbuffer,
        };
        let mut sample = self.source.read(row, all)?;
        let points = if is_of_depth {
            PointViews::in_depth_images(&sample.points, hidden)
        } else {
            let points = PointViews::in_views(&sample.points, &sample.views, hidden)?;
            for view in &mut sample.views {
                view.gbuffer = None;
            }
            match views {
                ViewSelection::None => sample.views.clear(),
                ViewSelection::Some(some) => {
                    sample.views = some.iter().map(|&view| sample.views[view].clone()).collect();
                }
                ViewSelection::All | ViewSelection::WithGbuffer => {}
            }
            points
        };
        let Some(features) = self.source.read_features(row)? else {
            return Ok((sample, None));
        };
        if points.positions.len() != manifest.layout.num_views * sample.points.len() {
            let reason = format!("{} has another number of views than the feature set", sample.id);
            return Err(TrainError::Config { reason });
        }
        if [&features.features, &features.saliency]
            .into_iter()
            .any(|halves| !are_finite(halves))
        {
            let reason = format!(
                "the feature set has a number of {} that is not finite; make it again",
                sample.id
            );
            return Err(TrainError::Config { reason });
        }
        let row = FeatureRow {
            maps: features.features,
            saliency: features.saliency,
            points,
        };
        Ok((sample, Some(row)))
    }

    fn read(&self, row: usize, views: ViewSelection<'_>) -> Result<Row, TrainError> {
        let (sample, features) = self.read_sample(row, views)?;
        let num_points = self.options.num_points;
        if sample.points.len() < num_points {
            let reason = format!(
                "{} has {} points and the configuration asks for {num_points}",
                sample.id,
                sample.points.len()
            );
            return Err(TrainError::Config { reason });
        }
        let chosen: Vec<usize> = match self.options.point_choice {
            PointSampling::First => (0..num_points).collect(),
            PointSampling::Farthest => farthest_points(&sample.points, num_points),
            PointSampling::FarthestRandom => {
                let pool = num_points * POOL_RATIO[0] / POOL_RATIO[1];
                farthest_points(&sample.points, pool.min(sample.points.len()))
            }
        };
        let (mut normals, mut part_labels) = (Vec::new(), Vec::new());
        if self.options.normals || self.options.parts.is_some() {
            normals = match &sample.normals {
                Some(of_points) => chosen.iter().map(|&point| of_points[point]).collect(),
                // What a segmenter gets where normals are withheld.
                None if self.options.parts.is_some() => vec![[0.0; 3]; num_points],
                None => {
                    let reason = format!("{} has no normals", sample.id);
                    return Err(TrainError::Config { reason });
                }
            };
        }
        if self.options.parts.is_some() {
            let Some(of_points) = &sample.part_labels else {
                let reason = format!("{} has no part labels", sample.id);
                return Err(TrainError::Config { reason });
            };
            part_labels = chosen.iter().map(|&point| of_points[point]).collect();
        }
        Ok(Row {
            label: sample.label,
            points: chosen.iter().map(|&point| sample.points[point]).collect(),
            normals,
            part_labels,
            views: sample.views,
            features: features.map(|features| FeatureRow {
                points: features.points.select(&chosen),
                ..features
            }),
        })
    }
}

/// The epoch of the first of (epoch, row).
fn epoch_of(rows: &[(u64, usize)]) -> u64 {
    rows.first().map_or(0, |(epoch, _)| *epoch)
}

/// Whether all numbers are finite that are float16, little-endian.
fn are_finite(halves: &[u8]) -> bool {
    const EXPONENT: u8 = 0x7c;
    let mut halves = halves.as_chunks::<2>().0.iter();
    halves.all(|[_, high]| high & EXPONENT != EXPONENT)
}
