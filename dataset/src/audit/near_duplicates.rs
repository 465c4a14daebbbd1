//! [`find_near_duplicates`](fn@find_near_duplicates): objects of one dataset that also occur in another, to
//! detect leakage from pre-training into test data.
//!
//! Equal meshes have equal hashes. A shape that was resampled, rotated or re-exported has another hash but nearly the same
//! [`Profile`], in some orientation, which sampling hardly changes. The few most similar ones are registered by ICP, first a
//! few points and then all, and compared by surface distance.

use std::collections::BTreeMap;
use std::path::Path;

use glam::Vec3;
use serde::Serialize;

use crate::audit::icp::{PointCloud, Probes};
use crate::audit::orientation::{Likeness, Orientations, Profile};
use crate::error::Result;
use crate::pipeline::{num_threads, parallel_map};
use crate::reader::Dataset;
use crate::schema::{ObjectId, Split};
use crate::shard::ViewSelection;

/// Mean surface distance, in object radii, below which two shapes count as duplicates.
///
/// Calibrated on 659 real meshes against copies that were rotated, scaled, re-exported and resampled at 1024
/// points. Of the objects in both, 88 % were found at this distance (62 % at 0.006, 93 % at 0.016); of all
/// reported pairs, 91 % were the same model or a variant (95 %, 87 %). Most others are one model in two
/// packs, or with additions (a cactus with flowers, a police car and a taxi); clearly different shapes begin
/// at 0.004 (an apple and a round tree).
pub const DEFAULT_DUPLICATE_DISTANCE: f64 = 0.012;
/// Most similar profiles per object that are registered. Of a thousand shapes that were deformed, sampled and moved, each had
/// its own among the first four, of five thousand like it.
const MAX_CANDIDATES: usize = 12;

/// How two objects match.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, strum::Display)]
#[serde(rename_all = "kebab-case")]
#[strum(serialize_all = "kebab-case")]
pub enum DuplicateKind {
    /// Identical mesh file.
    SameMesh,
    /// Identical points.
    SamePoints,
    /// Similar shape.
    NearShape,
}

/// An object of a dataset.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct ObjectRef {
    /// Object id.
    pub id: ObjectId,
    /// Its split.
    pub split: Split,
}

/// Two matching objects.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct DuplicatePair {
    /// In the first dataset.
    pub a: ObjectRef,
    /// In the second dataset.
    pub b: ObjectRef,
    /// How they match.
    pub kind: DuplicateKind,
    /// Mean surface distance, in object radii.
    pub distance: f64,
}

/// Duplicates between two datasets.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct NearDuplicateReport {
    /// Hashes of the data.
    pub sha256: [String; 2],
    /// Rows of the two datasets.
    pub num_rows: [usize; 2],
    /// Distance threshold, in object radii.
    pub max_distance: f64,
    /// Number of pairs by kind.
    pub kinds: BTreeMap<DuplicateKind, usize>,
    /// Rows of the second dataset with a duplicate in the first.
    #[serde(rename = "num_overlapping")]
    pub num_duplicates: usize,
    /// All pairs, sorted by distance for each object of the second dataset.
    pub pairs: Vec<DuplicatePair>,
}

/// Progress events of [`find_near_duplicates`](fn@find_near_duplicates).
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum NearDuplicateEvent {
    /// Start of the comparison.
    Started {
        /// Rows to read plus rows to compare.
        total: usize,
    },
    /// A row was read or compared.
    Row,
}

/// Hashes and shape of a row.
struct ShapeDescriptor {
    object: ObjectRef,
    source_sha256: String,
    points_sha256: String,
    profile: Profile,
    probes: Probes,
}

/// Compares two datasets, or one with itself if `b` is `None`.
///
/// # Errors
/// When a folder is not a complete dataset, or a shard is damaged.
pub fn find_near_duplicates(
    a: &Path,
    b: Option<&Path>,
    max_distance: f64,
    on_event: &mut (dyn FnMut(NearDuplicateEvent) + Send),
) -> Result<NearDuplicateReport> {
    let first = Dataset::open(a)?;
    let second = b.map(Dataset::open).transpose()?;
    let other = second.as_ref().unwrap_or(&first);
    let num_rows =
        [&first, other].map(|dataset| Split::ALL.iter().map(|&split| dataset.len(split)).sum::<usize>());
    let to_read = num_rows[0] + if second.is_some() { num_rows[1] } else { 0 };
    on_event(NearDuplicateEvent::Started {
        total: to_read + num_rows[1],
    });
    let of_first = describe_rows(&first, on_event)?;
    let of_second = second
        .as_ref()
        .map(|second| describe_rows(second, on_event))
        .transpose()?;
    let is_same_set = of_second.is_none();
    let of_second = of_second.as_ref().unwrap_or(&of_first);

    let by_hash = ByHash::new(&of_first);
    let compare = |i: usize| {
        let (location, shape) = &of_second[i];
        // Within one dataset each pair is compared once, and no object with itself.
        let num_searched = if is_same_set { i } else { of_first.len() };
        let searched = Searched {
            dataset: &first,
            shapes: &of_first[..num_searched],
            by_hash: &by_hash,
        };
        searched.duplicates_of(other, *location, shape, max_distance)
    };
    let found = parallel_map(num_threads(0), of_second.len(), compare, || {
        on_event(NearDuplicateEvent::Row);
    })?;
    let mut report = NearDuplicateReport {
        sha256: [&first, other].map(|dataset| dataset.sha256().to_owned()),
        num_rows,
        max_distance,
        kinds: BTreeMap::new(),
        num_duplicates: 0,
        pairs: Vec::new(),
    };
    for pairs in found {
        let pairs = pairs?;
        report.num_duplicates += usize::from(!pairs.is_empty());
        for pair in &pairs {
            *report.kinds.entry(pair.kind).or_default() += 1;
        }
        report.pairs.extend(pairs);
    }
    Ok(report)
}

type Row = (Split, usize);

/// Reads every row and computes its descriptor.
fn describe_rows(
    dataset: &Dataset,
    on_event: &mut (dyn FnMut(NearDuplicateEvent) + Send),
) -> Result<Vec<(Row, ShapeDescriptor)>> {
    let rows: Vec<Row> = Split::ALL
        .into_iter()
        .flat_map(|split| (0..dataset.len(split)).map(move |row| (split, row)))
        .collect();
    let shape = |i: usize| {
        let (split, row) = rows[i];
        let sample = dataset.read(split, row, ViewSelection::None)?;
        let points_sha256 = sample.digest().points_sha256;
        let points = vectors(&sample.points);
        let shape = ShapeDescriptor {
            profile: Profile::new(&points),
            probes: Probes::new(&points),
            source_sha256: sample.source_sha256,
            points_sha256,
            object: ObjectRef { id: sample.id, split },
        };
        Ok((rows[i], shape))
    };
    parallel_map(num_threads(0), rows.len(), shape, || {
        on_event(NearDuplicateEvent::Row);
    })?
    .into_iter()
    .collect()
}

/// Which shapes have which hashes.
struct ByHash<'a> {
    meshes: BTreeMap<&'a str, Vec<usize>>,
    points: BTreeMap<&'a str, Vec<usize>>,
}

impl<'a> ByHash<'a> {
    fn new(shapes: &'a [(Row, ShapeDescriptor)]) -> Self {
        let by = |hash: fn(&ShapeDescriptor) -> &str| {
            let mut places: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
            for (place, (_, shape)) in shapes.iter().enumerate() {
                places.entry(hash(shape)).or_default().push(place);
            }
            places
        };
        Self {
            meshes: by(|shape| &shape.source_sha256),
            points: by(|shape| &shape.points_sha256),
        }
    }

    /// Places of the shapes with the same mesh or the same points, in order.
    fn equal(&self, shape: &ShapeDescriptor) -> BTreeMap<usize, DuplicateKind> {
        let of = |places: &BTreeMap<&str, Vec<usize>>, hash: &str, kind| {
            let places = places.get(hash).cloned().unwrap_or_default();
            places.into_iter().map(move |place| (place, kind))
        };
        let mut equal: BTreeMap<_, _> =
            of(&self.points, &shape.points_sha256, DuplicateKind::SamePoints).collect();
        equal.extend(of(&self.meshes, &shape.source_sha256, DuplicateKind::SameMesh));
        equal
    }
}

/// The shapes among which duplicates are searched.
struct Searched<'a> {
    dataset: &'a Dataset,
    shapes: &'a [(Row, ShapeDescriptor)],
    by_hash: &'a ByHash<'a>,
}

impl Searched<'_> {
    /// Duplicates of a row of another dataset, closest first.
    fn duplicates_of(
        &self,
        other: &Dataset,
        row: Row,
        shape: &ShapeDescriptor,
        max_distance: f64,
    ) -> Result<Vec<DuplicatePair>> {
        let pair = |place: usize, kind, distance| DuplicatePair {
            a: self.shapes[place].1.object.clone(),
            b: shape.object.clone(),
            kind,
            distance,
        };
        let mut equal = self.by_hash.equal(shape);
        equal.retain(|&place, _| place < self.shapes.len());
        let mut pairs: Vec<_> = equal
            .iter()
            .map(|(&place, &kind)| pair(place, kind, 0.0))
            .collect();
        let candidates = self.candidates(shape, &equal);
        if candidates.is_empty() {
            return Ok(pairs);
        }
        let cloud = read_cloud(other, row)?;
        let mut near = Vec::new();
        for (Likeness { rotations, .. }, place) in candidates {
            let (row, candidate) = &self.shapes[place];
            let Some(registered) = cloud.register_probes(&candidate.probes, &rotations, max_distance as f32)
            else {
                continue;
            };
            let distance = f64::from(cloud.distance_to(&read_cloud(self.dataset, *row)?, registered));
            if distance <= max_distance {
                near.push(pair(place, DuplicateKind::NearShape, distance));
            }
        }
        near.sort_by(|a, b| a.distance.total_cmp(&b.distance));
        pairs.extend(near);
        Ok(pairs)
    }

    /// The shapes with the most similar profiles, the most similar first, without those that are equal.
    fn candidates(
        &self,
        shape: &ShapeDescriptor,
        equal: &BTreeMap<usize, DuplicateKind>,
    ) -> Vec<(Likeness, usize)> {
        let orientations = Orientations::new(&shape.profile);
        let likeness = |(place, (_, other)): (usize, &(Row, ShapeDescriptor))| {
            let likeness = orientations.likeness(&other.profile)?;
            (!equal.contains_key(&place)).then_some((likeness, place))
        };
        let mut candidates: Vec<_> = self.shapes.iter().enumerate().filter_map(likeness).collect();
        candidates.sort_by(|(a, _), (b, _)| a.difference.total_cmp(&b.difference));
        candidates.truncate(MAX_CANDIDATES);
        candidates
    }
}

fn read_cloud(dataset: &Dataset, (split, row): Row) -> Result<PointCloud> {
    let sample = dataset.read(split, row, ViewSelection::None)?;
    Ok(PointCloud::new(&sample.points, sample.normals.as_deref()))
}

fn vectors(points: &[[f32; 3]]) -> Vec<Vec3> {
    points.iter().map(|&point| Vec3::from(point)).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use std::f32::consts::TAU;

    use glam::Mat3;

    use super::*;
    use crate::seeded_rng::SeededRng;

    /// Random points on a box.
    fn box_points(half: Vec3, seed: u64, num: usize) -> PointCloud {
        let mut rng = SeededRng::from_u64(seed);
        let mut part = || rng.unit() as f32;
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
        PointCloud::new(&points, Some(&normals))
    }

    fn rotated(cloud: &PointCloud, rotation: Mat3) -> PointCloud {
        let rotated = |vectors: &[Vec3]| {
            vectors
                .iter()
                .map(|&v| (rotation * v).to_array())
                .collect::<Vec<_>>()
        };
        PointCloud::new(&rotated(&cloud.points), Some(&rotated(&cloud.normals)))
    }

    #[test]
    fn another_sampling_is_near_and_another_shape_is_not() {
        let half = Vec3::new(1.0, 0.5, 0.3);
        let cloud = box_points(half, 1, 1024);
        let again = box_points(half, 2, 1024);
        let likeness = |other: &PointCloud| {
            Orientations::new(&Profile::new(&cloud.points)).likeness(&Profile::new(&other.points))
        };
        let distance_to = |other: &PointCloud| {
            let rotations = likeness(other).expect("similar profiles").rotations;
            let registered = cloud.register_probes(&Probes::new(&other.points), &rotations, 1.0);
            f64::from(cloud.distance_to(other, registered.expect("no distance is too far")))
        };
        let distance = distance_to(&again);
        assert!(distance < DEFAULT_DUPLICATE_DISTANCE, "{distance}");
        for rotation in [Mat3::from_rotation_y(1.0), Mat3::from_rotation_z(TAU / 4.0)] {
            let distance = distance_to(&rotated(&again, rotation));
            assert!(distance < DEFAULT_DUPLICATE_DISTANCE, "rotated: {distance}");
        }
        let other = box_points(Vec3::new(1.0, 0.6, 0.3), 3, 1024);
        let distance = distance_to(&other);
        assert!(
            distance > DEFAULT_DUPLICATE_DISTANCE,
            "a tenth higher: {distance}"
        );
        let flat = box_points(Vec3::new(1.0, 1.0, 0.1), 4, 1024);
        assert!(likeness(&flat).is_none(), "another shape has another profile");
    }
}
