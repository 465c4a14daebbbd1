//! Point clouds, and their conversion to a mesh of surfels.
//!
//! [`PointCloud::to_mesh`] places a small disc (a *surfel*) at each point, perpendicular to the point's normal, or to a
//! normal fitted to its neighbors, and as wide as their spacing. The discs are an ordinary [`Mesh`], so all lightings
//! and channels work.

use glam::{DMat3, DVec3, Vec3};

use super::{Appearance, Material, Mesh, MeshError, WarningKind, Warnings, bounds_of};

/// Neighbors that a normal is fitted to.
pub const DEFAULT_NUM_NEIGHBORS: u16 = 12;
/// A disc's radius is the distance to this neighbor: for uniformly random points such discs leave less than 1 part in
/// 3000 of the surface open (e^-8), and for points on a square lattice nothing.
const RADIUS_NEIGHBOR: usize = 8;
/// Largest radius, in medians: an outlier stays small.
const MAX_RADIUS_IN_MEDIANS: f32 = 3.0;
/// Default number of discs: one side of an object has a disc per 6 pixels of a 1024 x 1024 image.
pub const DEFAULT_MAX_SURFELS: u32 = 1 << 18;
/// Most points in a leaf of the k-d tree.
const LEAF_LEN: usize = 12;

/// How points become surfels.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SurfelOptions {
    /// Neighbors that a normal is fitted to if the cloud has none, 3 to 64.
    pub num_neighbors: u16,
    /// Radius as a multiple of the distance to the eighth neighbor.
    pub radius_factor: f32,
    /// Triangles per disc, 2 (a square) to 6 (an octagon).
    pub num_triangles: u8,
    /// Larger clouds are evenly subsampled to this number.
    pub max_surfels: u32,
}

impl Default for SurfelOptions {
    /// Hexagons.
    fn default() -> Self {
        Self {
            num_neighbors: DEFAULT_NUM_NEIGHBORS,
            radius_factor: 1.0,
            num_triangles: 4,
            max_surfels: DEFAULT_MAX_SURFELS,
        }
    }
}

/// Points with optional normals and colors. Each list is empty or has one entry per point.
#[derive(Debug, Clone, PartialEq)]
pub struct PointCloud {
    positions: Vec<DVec3>,
    normals: Vec<Vec3>,
    colors: Vec<[u8; 4]>,
    num_dropped: usize,
    warnings: Warnings,
}

impl PointCloud {
    /// `normals` and `colors` have one entry per point, or else they are dropped. Scanners write NaN for missing
    /// points: points that are not finite are dropped and counted.
    ///
    /// # Errors
    /// [`MeshError::NoTriangles`] if no point is left.
    pub fn try_new(
        mut positions: Vec<DVec3>,
        mut normals: Vec<Vec3>,
        mut colors: Vec<[u8; 4]>,
    ) -> Result<Self, MeshError> {
        let num_points = positions.len();
        if normals.len() != num_points {
            normals.clear();
        }
        if colors.len() != num_points {
            colors.clear();
        }
        let is_finite: Vec<bool> = positions.iter().map(|position| position.is_finite()).collect();
        retain(&mut positions, &is_finite);
        retain(&mut normals, &is_finite);
        retain(&mut colors, &is_finite);
        if positions.is_empty() {
            return Err(MeshError::NoTriangles);
        }
        Ok(Self {
            num_dropped: num_points - positions.len(),
            positions,
            normals,
            colors,
            warnings: Warnings::default(),
        })
    }

    pub(crate) fn with_warnings(self, warnings: Warnings) -> Self {
        Self { warnings, ..self }
    }

    /// In file units.
    #[must_use]
    pub fn positions(&self) -> &[DVec3] {
        &self.positions
    }

    /// Of any length; empty if the source has none.
    #[must_use]
    pub fn normals(&self) -> &[Vec3] {
        &self.normals
    }

    /// sRGB-encoded RGBA; empty if the source has none.
    #[must_use]
    pub fn colors(&self) -> &[[u8; 4]] {
        &self.colors
    }

    /// Number of points that were not finite.
    #[must_use]
    pub fn num_dropped(&self) -> usize {
        self.num_dropped
    }

    /// A disc per point. Of points at equal positions the first counts. Fitted normals face away from the center of the
    /// cloud; the renderer lights both sides.
    ///
    /// Takes O(n log n) time, and about 400 bytes per disc.
    ///
    /// # Errors
    /// [`MeshError`] if fewer than three distinct positions are left, or if their extent is out of range.
    pub fn to_mesh(&self, options: &SurfelOptions) -> Result<Mesh, MeshError> {
        let (low, high) = self.positions.iter().fold(
            (DVec3::INFINITY, DVec3::NEG_INFINITY),
            |(low, high), &position| (low.min(position), high.max(position)),
        );
        let half_extent = (high / 2.0 - low / 2.0).max_element();
        if half_extent == 0.0 {
            return Err(MeshError::AllDegenerate {
                num_triangles: self.positions.len(),
            });
        }
        if !(crate::MIN_HALF_EXTENT..=crate::MAX_HALF_EXTENT).contains(&half_extent) {
            return Err(MeshError::Extent {
                extent: 2.0 * half_extent,
            });
        }
        let middle = low / 2.0 + high / 2.0;

        let num_points = self.positions.len();
        let num_kept = num_points.min(options.max_surfels.max(3) as usize);
        let points = (0..num_kept)
            .map(|kept| {
                let index = (kept as u64 * num_points as u64 / num_kept as u64) as u32;
                let position = ((self.positions[index as usize] - middle) / half_extent).as_vec3();
                Point { position, index }
            })
            .collect();
        let tree = KdTree::new(points);
        let discs = self.discs(&tree, options);
        if discs.len() < 3 {
            return Err(MeshError::AllDegenerate {
                num_triangles: discs.len(),
            });
        }
        self.mesh_of(&discs, middle, half_extent, options)
    }

    /// Relative to `middle`, in units of the half extent.
    fn discs(&self, tree: &KdTree, options: &SurfelOptions) -> Vec<Disc> {
        let num_neighbors = usize::from(options.num_neighbors.clamp(3, 64)).max(RADIUS_NEIGHBOR);
        let mut nearest = Vec::with_capacity(num_neighbors + 1);
        let mut discs: Vec<Disc> = tree
            .points
            .iter()
            .map(|&Point { position, index }| {
                tree.nearest(position, num_neighbors + 1, &mut nearest);
                // The nearest is the point itself.
                let last = nearest.get(RADIUS_NEIGHBOR).or(nearest.last());
                let radius = last.map_or(0.0, |&(distance_squared, _)| distance_squared.sqrt());
                let given = self
                    .normals
                    .get(index as usize)
                    .map_or(DVec3::ZERO, |normal| normal.as_dvec3());
                let normal = given.try_normalize().unwrap_or_else(|| {
                    let neighbors = nearest
                        .iter()
                        .map(|&(_, neighbor)| tree.points[neighbor].position);
                    let normal = fitted_normal(neighbors);
                    if normal.dot(position.as_dvec3()) < 0.0 {
                        -normal
                    } else {
                        normal
                    }
                });
                Disc {
                    position,
                    normal,
                    radius,
                    index,
                }
            })
            .collect();
        // Back to the order of the file.
        discs.sort_unstable_by_key(|disc| disc.index);
        let mut radii: Vec<f32> = discs.iter().map(|disc| disc.radius).collect();
        let middle = radii.len() / 2;
        let median = *radii.select_nth_unstable_by(middle, f32::total_cmp).1;
        let factor = if options.radius_factor.is_finite() {
            options.radius_factor.clamp(0.01, 100.0)
        } else {
            1.0
        };
        for disc in &mut discs {
            disc.radius = factor * disc.radius.min(MAX_RADIUS_IN_MEDIANS * median);
        }
        discs
    }

    fn mesh_of(
        &self,
        discs: &[Disc],
        middle: DVec3,
        half_extent: f64,
        options: &SurfelOptions,
    ) -> Result<Mesh, MeshError> {
        let num_triangles = u32::from(options.num_triangles.clamp(2, 6));
        let num_corners = num_triangles + 2;
        // The polygon circumscribes the disc.
        let circumradius = (std::f64::consts::PI / f64::from(num_corners)).cos().recip();
        let directions: Vec<(f64, f64)> = (0..num_corners)
            .map(|corner| (std::f64::consts::TAU * f64::from(corner) / f64::from(num_corners)).sin_cos())
            .collect();
        let mut positions = Vec::with_capacity(discs.len() * num_corners as usize);
        let mut triangles = Vec::with_capacity(discs.len() * num_triangles as usize);
        let mut colors = Vec::new();
        for disc in discs {
            let first = positions.len() as u32;
            let (right, up) = disc.normal.any_orthonormal_pair();
            let center = middle + disc.position.as_dvec3() * half_extent;
            let radius = f64::from(disc.radius) * half_extent * circumradius;
            positions.extend(
                directions
                    .iter()
                    .map(|(sin, cos)| center + radius * (*cos * right + *sin * up)),
            );
            triangles.extend((2..num_corners).map(|corner| [first, first + corner - 1, first + corner]));
            if let Some(&color) = self.colors.get(disc.index as usize) {
                colors.extend(std::iter::repeat_n([color; 3], num_triangles as usize));
            }
        }
        let mut warnings = self.warnings.clone();
        if self.num_dropped > 0 {
            warnings.push(
                WarningKind::Points,
                format!("{} points are not finite: dropped", self.num_dropped),
            );
        }
        if self.positions.len() > options.max_surfels as usize {
            warnings.push(
                WarningKind::Points,
                format!(
                    "{} points are thinned to {} discs",
                    self.positions.len(),
                    discs.len()
                ),
            );
        }
        let mesh = if colors.is_empty() {
            Mesh::try_new(&positions, triangles, None)?
        } else {
            let appearance = Appearance {
                materials: vec![Material::white()],
                material_of_triangle: vec![0; triangles.len()],
                colors,
                ..Appearance::default()
            };
            Mesh::try_with_appearance(&positions, triangles, None, appearance)?
        };
        Ok(mesh.with_warnings(warnings))
    }
}

fn retain<T>(list: &mut Vec<T>, is_kept: &[bool]) {
    let mut is_kept = is_kept.iter();
    list.retain(|_| is_kept.next().is_none_or(|&is_kept| is_kept));
}

struct Disc {
    position: Vec3,
    normal: DVec3,
    radius: f32,
    index: u32,
}

/// The direction of least variance.
fn fitted_normal(points: impl Iterator<Item = Vec3> + Clone) -> DVec3 {
    let (sum, count) = points.clone().fold((DVec3::ZERO, 0.0), |(sum, count), point| {
        (sum + point.as_dvec3(), count + 1.0)
    });
    let mean = sum / count;
    let mut spread = DMat3::ZERO;
    for point in points {
        let offset = point.as_dvec3() - mean;
        spread += DMat3::from_cols(offset * offset.x, offset * offset.y, offset * offset.z);
    }
    smallest_eigenvector(spread)
}

/// Of a symmetric matrix, by Jacobi rotations.
fn smallest_eigenvector(mut matrix: DMat3) -> DVec3 {
    let mut vectors = DMat3::IDENTITY;
    // Convergence is quadratic.
    for _ in 0..8 {
        let off = matrix.y_axis.x.abs() + matrix.z_axis.x.abs() + matrix.z_axis.y.abs();
        if off <= 1e-12 * (matrix.x_axis.x + matrix.y_axis.y + matrix.z_axis.z) {
            break;
        }
        for (p, q) in [(0, 1), (0, 2), (1, 2)] {
            let off = matrix.col(q)[p];
            if off == 0.0 {
                continue;
            }
            let theta = (matrix.col(q)[q] - matrix.col(p)[p]) / (2.0 * off);
            let tangent = theta.signum() / (theta.abs() + (theta * theta + 1.0).sqrt());
            let cos = (tangent * tangent + 1.0).sqrt().recip();
            let sin = tangent * cos;
            let mut rotation = DMat3::IDENTITY;
            rotation.col_mut(p)[p] = cos;
            rotation.col_mut(q)[q] = cos;
            rotation.col_mut(q)[p] = sin;
            rotation.col_mut(p)[q] = -sin;
            matrix = rotation.transpose() * matrix * rotation;
            vectors *= rotation;
        }
    }
    let values = [matrix.x_axis.x, matrix.y_axis.y, matrix.z_axis.z];
    let smallest = (0..3).fold(
        0,
        |best, axis| if values[axis] < values[best] { axis } else { best },
    );
    vectors.col(smallest).try_normalize().unwrap_or(DVec3::Z)
}

#[derive(Debug, Clone, Copy)]
struct Point {
    position: Vec3,
    /// Index in the cloud.
    index: u32,
}

/// An implicit k-d tree: the median of a range of points splits it along the axis stored for that point.
struct KdTree {
    points: Vec<Point>,
    /// Split axis per point; undefined within leaves.
    axes: Vec<u8>,
}

impl KdTree {
    /// Of points at equal positions only the first is kept.
    fn new(mut points: Vec<Point>) -> Self {
        // Adding zero turns -0 into +0.
        let key = |point: &Point| (point.position + 0.0).to_array().map(f32::to_bits);
        points.sort_unstable_by_key(|point| (key(point), point.index));
        points.dedup_by_key(|point| key(point));
        let mut tree = Self {
            axes: vec![0; points.len()],
            points,
        };
        let whole = 0..tree.points.len();
        let mut ranges = vec![whole];
        while let Some(range) = ranges.pop() {
            if range.len() <= LEAF_LEN {
                continue;
            }
            let points = &mut tree.points[range.clone()];
            let (low, high) = bounds_of(points.iter().map(|point| point.position));
            let axis = (high - low).max_position();
            let half = points.len() / 2;
            points.select_nth_unstable_by(half, |left, right| {
                left.position[axis]
                    .total_cmp(&right.position[axis])
                    .then(left.index.cmp(&right.index))
            });
            let middle = range.start + half;
            tree.axes[middle] = axis as u8;
            ranges.push(range.start..middle);
            ranges.push(middle + 1..range.end);
        }
        tree
    }

    /// The `count` nearest points, nearest first, as squared distances and indices into `points`; ties in the order of
    /// the cloud.
    fn nearest(&self, position: Vec3, count: usize, found: &mut Vec<(f32, usize)>) {
        found.clear();
        self.search(0..self.points.len(), position, count, found);
    }

    fn search(
        &self,
        range: std::ops::Range<usize>,
        position: Vec3,
        count: usize,
        found: &mut Vec<(f32, usize)>,
    ) {
        if range.len() <= LEAF_LEN {
            for slot in range {
                self.insert_candidate(slot, position, count, found);
            }
            return;
        }
        let middle = range.start + range.len() / 2;
        let axis = usize::from(self.axes[middle]);
        let offset = position[axis] - self.points[middle].position[axis];
        let (near, far) = if offset < 0.0 {
            (range.start..middle, middle + 1..range.end)
        } else {
            (middle + 1..range.end, range.start..middle)
        };
        self.search(near, position, count, found);
        self.insert_candidate(middle, position, count, found);
        if found.len() < count || found.last().is_none_or(|&(worst, _)| offset * offset <= worst) {
            self.search(far, position, count, found);
        }
    }

    fn insert_candidate(&self, slot: usize, position: Vec3, count: usize, found: &mut Vec<(f32, usize)>) {
        let distance_squared = self.points[slot].position.distance_squared(position);
        let is_before = |&(distance, other): &(f32, usize)| {
            distance
                .total_cmp(&distance_squared)
                .then(self.points[other].index.cmp(&self.points[slot].index))
                .is_lt()
        };
        if found.len() == count {
            if found.last().is_some_and(is_before) {
                return;
            }
            found.pop();
        }
        // There are few neighbors: shifting them costs less than a heap.
        let at = found.iter().rposition(is_before).map_or(0, |before| before + 1);
        found.insert(at, (distance_squared, slot));
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use proptest::prelude::*;

    use super::*;

    /// Points spread over the unit sphere, by the golden angle.
    fn sphere(num_points: u32) -> Vec<DVec3> {
        (0..num_points)
            .map(|point| {
                let z = 1.0 - (2.0 * f64::from(point) + 1.0) / f64::from(num_points);
                let (sin, cos) = (2.399_963 * f64::from(point)).sin_cos();
                let r = (1.0 - z * z).sqrt();
                DVec3::new(r * cos, r * sin, z)
            })
            .collect()
    }

    fn cloud(positions: Vec<DVec3>) -> PointCloud {
        PointCloud::try_new(positions, Vec::new(), Vec::new()).unwrap()
    }

    #[test]
    fn discs_lie_on_the_sphere_and_face_outwards() {
        let offset = DVec3::new(1e6, -2e6, 500.0);
        let positions: Vec<DVec3> = sphere(2000).iter().map(|point| offset + 0.01 * *point).collect();
        let mesh = cloud(positions).to_mesh(&SurfelOptions::default()).unwrap();
        assert_eq!(mesh.triangles().len() + mesh.num_degenerate(), 8000);
        let center = (offset - mesh.origin()).as_vec3();
        for [a, b, c] in mesh.corners() {
            let outwards = ((a + b + c) / 3.0 - center).normalize();
            let normal = (b - a).cross(c - a).normalize();
            assert!(normal.dot(outwards) > 0.97, "{normal} against {outwards}");
        }
        let share = mesh.surface_area() / (4.0 * std::f64::consts::PI * 1e-4);
        assert!(
            (5.0..11.0).contains(&share),
            "discs overlap, {share} times the sphere"
        );
    }

    #[test]
    fn given_normals_and_colors_are_kept() {
        let positions = vec![DVec3::ZERO, DVec3::X, DVec3::Y, DVec3::new(f64::NAN, 0.0, 0.0)];
        let colors = [[1, 2, 3, 255], [4, 5, 6, 255], [7, 8, 9, 255], [0; 4]].to_vec();
        let cloud = PointCloud::try_new(positions, vec![Vec3::NEG_X * 5.0; 4], colors).unwrap();
        assert_eq!(cloud.num_dropped(), 1);
        let options = SurfelOptions {
            num_triangles: 2,
            ..SurfelOptions::default()
        };
        let mesh = cloud.to_mesh(&options).unwrap();
        assert_eq!(mesh.warnings(), ["1 points are not finite: dropped"]);
        let appearance = mesh.appearance().unwrap();
        assert_eq!(
            (mesh.triangles().len(), appearance.colors[5]),
            (6, [[7, 8, 9, 255]; 3])
        );
        for [a, b, c] in mesh.corners() {
            assert!(
                (b - a).cross(c - a).normalize().abs_diff_eq(Vec3::NEG_X, 1e-5),
                "across the given normal"
            );
        }
    }

    #[test]
    fn clouds_are_subsampled_and_duplicate_points_count_once() {
        let options = SurfelOptions {
            max_surfels: 100,
            ..SurfelOptions::default()
        };
        let mesh = cloud(sphere(1000)).to_mesh(&options).unwrap();
        assert_eq!(mesh.triangles().len(), 400);
        assert_eq!(mesh.warnings(), ["1000 points are thinned to 100 discs"]);
        let mut twice = sphere(100);
        twice.extend(sphere(100));
        let mesh = cloud(twice).to_mesh(&SurfelOptions::default()).unwrap();
        assert_eq!(mesh.triangles().len(), 400);
    }

    #[test]
    fn refuses_by_name() {
        let code = |positions: Vec<DVec3>| {
            PointCloud::try_new(positions, Vec::new(), Vec::new())
                .and_then(|cloud| cloud.to_mesh(&SurfelOptions::default()))
                .unwrap_err()
                .code()
        };
        assert_eq!(code(vec![]), "no_faces");
        assert_eq!(code(vec![DVec3::NAN; 5]), "no_faces");
        assert_eq!(code(vec![DVec3::ONE; 5]), "all_degenerate");
        assert_eq!(code(vec![DVec3::ONE, DVec3::ZERO]), "all_degenerate");
        assert_eq!(
            code(vec![DVec3::splat(1e300), DVec3::ZERO, DVec3::X]),
            "bad_extent"
        );
    }

    proptest! {
        #[test]
        fn kd_tree_finds_the_nearest(
            points in prop::collection::vec(prop::array::uniform3(-4_i8..4), 1..200), count in 1_usize..20,
        ) {
            let points: Vec<Point> = points.iter().zip(0..)
                .map(|(point, index)| Point { position: Vec3::from(point.map(f32::from)), index })
                .collect();
            let tree = KdTree::new(points);
            let mut found = Vec::new();
            for point in &tree.points {
                tree.nearest(point.position, count, &mut found);
                let mut expected: Vec<(f32, u32)> = tree.points.iter()
                    .map(|other| (other.position.distance_squared(point.position), other.index))
                    .collect();
                expected.sort_by(|left, right| left.0.total_cmp(&right.0).then(left.1.cmp(&right.1)));
                expected.truncate(count);
                let found: Vec<(f32, u32)> = found.iter()
                    .map(|&(distance, slot)| (distance, tree.points[slot].index))
                    .collect();
                prop_assert_eq!(found, expected);
            }
        }

        #[test]
        fn smallest_eigenvector_is_an_eigenvector(
            points in prop::collection::vec(prop::array::uniform3(-1.0_f32..1.0), 4..20),
        ) {
            let points: Vec<Vec3> = points.into_iter().map(Vec3::from).collect();
            let normal = fitted_normal(points.iter().copied());
            let mean = points.iter().map(|point| point.as_dvec3()).sum::<DVec3>() / points.len() as f64;
            let spread = |direction: DVec3| -> f64 {
                points.iter().map(|point| (point.as_dvec3() - mean).dot(direction).powi(2)).sum()
            };
            prop_assert!((normal.length() - 1.0).abs() < 1e-9);
            for point in &points {
                let direction = (point.as_dvec3() - mean).normalize_or(DVec3::X);
                prop_assert!(spread(normal) <= spread(direction) + 1e-9);
            }
        }
    }
}
