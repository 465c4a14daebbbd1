//! [`overlap`](fn@overlap): which objects of one dataset are, or nearly are, objects of another: what leaks from
//! pre-training into a test.
//!
//! Equal meshes have equal hashes. The same shape sampled otherwise, turned or saved anew has another hash and nearly the
//! same distances between its points: their quantiles make a fingerprint that neither sampling nor rotation changes
//! much. Pairs of like fingerprints are turned upon each other and compared point by point.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use glam::Vec3;
use serde::Serialize;

use crate::cloud::Cloud;
use crate::parallel::{in_parallel, num_threads};
use crate::{Dataset, ObjectId, Result, Split, ViewSelection};

/// Mean distance to each other's surface, in radii, up to which two shapes count as the same.
///
/// Chosen on 659 real meshes against the same ones turned, scaled, saved anew and sampled anew at 1024 points. Of the
/// objects in both, 88 % were found again at this distance (62 % at 0.006, 93 % at 0.016); of all pairs reported, 91 % were
/// of one model or a variant of it (95 %, 87 %). Most of the others are one model in two packs, or with something added (a
/// cactus with flowers, a police car and a taxi); plainly different shapes begin at 0.004 (an apple and a round tree).
pub const DEFAULT_OVERLAP_DISTANCE: f64 = 0.012;
/// Mean distance, at the first guess of a turn, beyond which shapes are not looked at more closely.
const GIVE_UP: f64 = 0.06;
/// Points whose distances make a fingerprint.
const FINGERPRINT_POINTS: usize = 384;
/// Quantiles of the distances between points, and to the middle.
const QUANTILES: usize = 32;
/// How finely distances are told apart.
const BINS: usize = 1024;
/// How far the quantiles of two samplings of one shape lie apart at most, on average, in mean distances.
const FINGERPRINT_DISTANCE: f32 = 0.03;
/// The best partners by fingerprint that are compared point by point.
const MAX_CANDIDATES: usize = 8;

/// How two objects overlap.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum OverlapKind {
    /// The same mesh file.
    SameMesh,
    /// The same points.
    SamePoints,
    /// Nearly the same shape.
    NearShape,
}

impl fmt::Display for OverlapKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::SameMesh => "same-mesh",
            Self::SamePoints => "same-points",
            Self::NearShape => "near-shape",
        })
    }
}

/// An object and where it is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Place {
    /// Which object.
    pub id: ObjectId,
    /// Its split.
    pub split: Split,
}

/// Two objects that overlap.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct OverlapPair {
    /// In the first dataset.
    pub a: Place,
    /// In the second one.
    pub b: Place,
    /// How.
    pub kind: OverlapKind,
    /// Mean distance to each other's surface, in radii of the object.
    pub distance: f64,
}

/// What two datasets have in common.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct OverlapReport {
    /// The hashes that name the data.
    pub sha256: [String; 2],
    /// Their rows.
    pub num_rows: [usize; 2],
    /// How near counts as the same.
    pub max_distance: f64,
    /// Pairs by kind.
    pub kinds: BTreeMap<OverlapKind, usize>,
    /// Rows of the second dataset that have a partner in the first.
    pub num_overlapping: usize,
    /// All pairs: the best partners of each object of the second dataset.
    pub pairs: Vec<OverlapPair>,
}

/// What happens while datasets are compared.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum OverlapEvent {
    /// It begins.
    Started {
        /// Rows to be read, and rows to be compared.
        total: usize,
    },
    /// A row was read or compared.
    Row,
}

/// A row's points, and what of them is compared first.
struct Shape {
    place: Place,
    source_sha256: String,
    points_sha256: String,
    quantiles: Vec<f32>,
}

/// Compares two datasets; without a second one, the first with itself.
///
/// # Errors
/// When a folder is no finished dataset, or a shard is damaged.
pub fn overlap(
    a: &Path,
    b: Option<&Path>,
    max_distance: f64,
    on_event: &mut (dyn FnMut(OverlapEvent) + Send),
) -> Result<OverlapReport> {
    let first = Dataset::open(a)?;
    let second = b.map(Dataset::open).transpose()?;
    let other = second.as_ref().unwrap_or(&first);
    let num_rows =
        [&first, other].map(|dataset| Split::ALL.iter().map(|&split| dataset.len(split)).sum::<usize>());
    let to_read = num_rows[0] + if second.is_some() { num_rows[1] } else { 0 };
    on_event(OverlapEvent::Started {
        total: to_read + num_rows[1],
    });
    let of_first = shapes(&first, on_event)?;
    let of_second = second
        .as_ref()
        .map(|second| shapes(second, on_event))
        .transpose()?;
    let is_same_set = of_second.is_none();
    let of_second = of_second.as_ref().unwrap_or(&of_first);

    let compare = |i: usize| {
        let (place, shape) = &of_second[i];
        // Within one dataset each pair counts once, and no object is its own partner.
        let partners = if is_same_set {
            &of_first[..i]
        } else {
            &of_first[..]
        };
        partners_of(&first, partners, other, *place, shape, max_distance)
    };
    let found = in_parallel(num_threads(0), of_second.len(), compare, || {
        on_event(OverlapEvent::Row);
    });
    let mut report = OverlapReport {
        sha256: [&first, other].map(|dataset| dataset.sha256().to_owned()),
        num_rows,
        max_distance,
        kinds: BTreeMap::new(),
        num_overlapping: 0,
        pairs: Vec::new(),
    };
    for pairs in found {
        let pairs = pairs?;
        report.num_overlapping += usize::from(!pairs.is_empty());
        for pair in &pairs {
            *report.kinds.entry(pair.kind).or_default() += 1;
        }
        report.pairs.extend(pairs);
    }
    Ok(report)
}

type Row = (Split, usize);

/// Reads every row and takes its fingerprint.
fn shapes(dataset: &Dataset, on_event: &mut (dyn FnMut(OverlapEvent) + Send)) -> Result<Vec<(Row, Shape)>> {
    let rows: Vec<Row> = Split::ALL
        .into_iter()
        .flat_map(|split| (0..dataset.len(split)).map(move |row| (split, row)))
        .collect();
    let shape = |i: usize| {
        let (split, row) = rows[i];
        let sample = dataset.read(split, row, ViewSelection::None)?;
        let points_sha256 = sample.digest().points_sha256;
        let shape = Shape {
            quantiles: fingerprint(&vectors(&sample.points)),
            source_sha256: sample.source_sha256,
            points_sha256,
            place: Place { id: sample.id, split },
        };
        Ok((rows[i], shape))
    };
    in_parallel(num_threads(0), rows.len(), shape, || on_event(OverlapEvent::Row))
        .into_iter()
        .collect()
}

/// The partners of an object, best first.
fn partners_of(
    dataset: &Dataset,
    partners: &[(Row, Shape)],
    other: &Dataset,
    (split, row): Row,
    shape: &Shape,
    max_distance: f64,
) -> Result<Vec<OverlapPair>> {
    let mut pairs = Vec::new();
    let mut candidates: Vec<(f32, usize)> = Vec::new();
    let pair = |partner: &Shape, kind, distance| OverlapPair {
        a: partner.place.clone(),
        b: shape.place.clone(),
        kind,
        distance,
    };
    for (partner_idx, (_, partner)) in partners.iter().enumerate() {
        if partner.source_sha256 == shape.source_sha256 {
            pairs.push(pair(partner, OverlapKind::SameMesh, 0.0));
        } else if partner.points_sha256 == shape.points_sha256 {
            pairs.push(pair(partner, OverlapKind::SamePoints, 0.0));
        } else if let Some(distance) = fingerprint_distance(&partner.quantiles, &shape.quantiles) {
            candidates.push((distance, partner_idx));
        }
    }
    candidates.sort_by(|a, b| a.0.total_cmp(&b.0));
    candidates.truncate(MAX_CANDIDATES);
    if candidates.is_empty() {
        return Ok(pairs);
    }
    let read = |dataset: &Dataset, (split, row)| -> Result<Cloud> {
        let sample = dataset.read(split, row, ViewSelection::None)?;
        Ok(Cloud::new(&sample.points, &sample.normals))
    };
    let cloud = read(other, (split, row))?;
    let mut near = Vec::new();
    for (_, partner_idx) in candidates {
        let (row, partner) = &partners[partner_idx];
        let give_up = GIVE_UP.max(5.0 * max_distance) as f32;
        let distance = f64::from(cloud.distance_to(&read(dataset, *row)?, give_up));
        if distance <= max_distance {
            near.push(pair(partner, OverlapKind::NearShape, distance));
        }
    }
    near.sort_by(|a, b| a.distance.total_cmp(&b.distance));
    pairs.extend(near);
    Ok(pairs)
}

fn vectors(points: &[[f32; 3]]) -> Vec<Vec3> {
    points.iter().map(|&point| Vec3::from(point)).collect()
}

/// Quantiles of the distances between points and from the middle to points, in mean distances between points: the size
/// of an object follows from one point, its farthest, and that is chance.
fn fingerprint(points: &[Vec3]) -> Vec<f32> {
    let step = points.len().div_ceil(FINGERPRINT_POINTS).max(1);
    let some: Vec<Vec3> = points.iter().copied().step_by(step).collect();
    let between = some
        .iter()
        .enumerate()
        .flat_map(|(i, &p)| some[..i].iter().map(move |&q| p.distance(q)));
    let mut fingerprint = quantiles(between);
    let mean = fingerprint.iter().sum::<f32>() / fingerprint.len() as f32;
    fingerprint.extend(quantiles(points.iter().map(|point| point.length())));
    for quantile in &mut fingerprint {
        *quantile /= mean.max(f32::MIN_POSITIVE);
    }
    fingerprint
}

fn quantiles(distances: impl Iterator<Item = f32>) -> Vec<f32> {
    let mut counts = [0_u32; BINS];
    let mut total = 0_u32;
    for distance in distances {
        // Objects have radius 1: no distance is above 2 by more than rounding.
        let bin = (distance * (BINS as f32 / 2.0)) as usize;
        counts[bin.min(BINS - 1)] += 1;
        total += 1;
    }
    let mut quantiles = Vec::with_capacity(QUANTILES);
    let mut sum = 0;
    for (bin, count) in counts.into_iter().enumerate() {
        sum += count;
        let due = |quantiles: &Vec<f32>| (quantiles.len() as f32 + 0.5) / QUANTILES as f32 * total as f32;
        while quantiles.len() < QUANTILES && sum as f32 >= due(&quantiles) && sum > 0 {
            quantiles.push((bin as f32 + 0.5) * (2.0 / BINS as f32));
        }
    }
    quantiles.resize(QUANTILES, 2.0);
    quantiles
}

/// How far two fingerprints lie apart on average; `None` if too far.
fn fingerprint_distance(a: &[f32], b: &[f32]) -> Option<f32> {
    let limit = FINGERPRINT_DISTANCE * a.len() as f32;
    let mut sum = 0.0;
    for (a, b) in a.chunks(8).zip(b.chunks(8)) {
        sum += a.iter().zip(b).map(|(a, b)| (a - b).abs()).sum::<f32>();
        if sum > limit {
            return None;
        }
    }
    Some(sum / a.len() as f32)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use std::f32::consts::TAU;

    use glam::Mat3;
    use rand_chacha::ChaCha8Rng;
    use rand_chacha::rand_core::{Rng, SeedableRng};

    use super::*;

    /// Points of a box, thrown by chance.
    fn box_cloud(half: Vec3, seed: u64, num: usize) -> Cloud {
        let mut dice = ChaCha8Rng::seed_from_u64(seed);
        let mut part = || dice.next_u32() as f32 / u32::MAX as f32;
        let mut points = Vec::new();
        let mut normals = Vec::new();
        let areas = [half.y * half.z, half.x * half.z, half.x * half.y];
        for _ in 0..num {
            let pick = part() * areas.iter().sum::<f32>();
            let axis = usize::from(pick > areas[0]) + usize::from(pick > areas[0] + areas[1]);
            let side = if part() < 0.5 { -1.0 } else { 1.0 };
            let mut point = half * Vec3::new(2.0 * part() - 1.0, 2.0 * part() - 1.0, 2.0 * part() - 1.0);
            let mut normal = Vec3::ZERO;
            point[axis] = side * half[axis];
            normal[axis] = side;
            points.push(point);
            normals.push(normal);
        }
        let radius = points.iter().map(|point| point.length()).fold(0.0, f32::max);
        let points: Vec<_> = points.iter().map(|&point| (point / radius).to_array()).collect();
        let normals: Vec<_> = normals.iter().map(Vec3::to_array).collect();
        Cloud::new(&points, &normals)
    }

    fn turned(cloud: &Cloud, turn: Mat3) -> Cloud {
        let turned = |vectors: &[Vec3]| vectors.iter().map(|&v| (turn * v).to_array()).collect::<Vec<_>>();
        Cloud::new(&turned(&cloud.points), &turned(&cloud.normals))
    }

    #[test]
    fn another_sampling_is_near_and_another_shape_is_not() {
        let half = Vec3::new(1.0, 0.5, 0.3);
        let cloud = box_cloud(half, 1, 1024);
        let again = box_cloud(half, 2, 1024);
        let apart =
            |a: &Cloud, b: &Cloud| fingerprint_distance(&fingerprint(&a.points), &fingerprint(&b.points));
        assert!(apart(&cloud, &again).is_some(), "like fingerprints");
        let distance = f64::from(cloud.distance_to(&again, 1.0));
        assert!(distance < DEFAULT_OVERLAP_DISTANCE, "{distance}");
        for turn in [Mat3::from_rotation_y(1.0), Mat3::from_rotation_z(TAU / 4.0)] {
            let turned = turned(&again, turn);
            assert!(apart(&cloud, &turned).is_some(), "like fingerprints");
            let distance = f64::from(cloud.distance_to(&turned, 1.0));
            assert!(distance < DEFAULT_OVERLAP_DISTANCE, "turned: {distance}");
        }
        let other = box_cloud(Vec3::new(1.0, 0.6, 0.3), 3, 1024);
        let distance = f64::from(cloud.distance_to(&other, 1.0));
        assert!(distance > DEFAULT_OVERLAP_DISTANCE, "a tenth higher: {distance}");
        let flat = box_cloud(Vec3::new(1.0, 1.0, 0.1), 4, 1024);
        assert!(
            apart(&cloud, &flat).is_none(),
            "another shape has another fingerprint"
        );
    }
}
