//! Poses to queries: the optical line behind every query of a view (`docs/method.md`, "Queries").
//!
//! **Space.** All lines are in the object space of the shards: right-handed, +y up, +z front, unit 1. The released code
//! works with z up; its axes are (x, y, z) there = (z, x, y) here, see [`code_from_object`].
//! **Sign.** A direction is a unit vector from the viewer into the scene; an origin lies in the plane through the
//! object's center that faces the viewer. So the position of a point along its line is negative in front of the center.
//! **Order.** Query q = row · grid + column, rows downwards, as pixels are stored.

use serde::{Deserialize, Serialize};
use tch::{Device, Kind, Tensor, no_grad};

/// Longer side of the object in the released code's image, less the border it leaves.
const CODE_OBJECT_PX: f64 = 200.0;
/// Side of the released code's image.
const CODE_IMAGE_PX: f64 = 224.0;

/// Where queries come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct QueryConfig {
    /// Queries a side; the image is 2D-generated from grid × grid of them.
    pub grid: i64,
    /// Origin of a line.
    pub origin: RayOrigin,
    /// Direction of a line.
    pub direction: RayDirection,
    /// How a pose becomes queries (Table 6b).
    #[serde(default)]
    pub source: QuerySource,
    /// Which components of its line a query contains (Table 6b).
    #[serde(default)]
    pub components: QueryComponents,
}

/// How a pose becomes queries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum QuerySource {
    /// The optical line of the cell.
    #[default]
    Line,
    /// Model E: an MLP maps the pose matrix to the queries of all cells.
    Pose,
}

/// Which components of its line a query contains.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct QueryComponents {
    /// Origin of the line: three channels.
    pub origin: bool,
    /// Direction of the line: three channels.
    pub direction: bool,
    /// Row and column of the cell: two channels.
    pub position: bool,
}

impl Default for QueryComponents {
    fn default() -> Self {
        Self {
            origin: true,
            direction: true,
            position: true,
        }
    }
}

impl QueryComponents {
    /// Number of channels.
    #[must_use]
    pub fn channels(self) -> i64 {
        3 * i64::from(self.origin) + 3 * i64::from(self.direction) + 2 * i64::from(self.position)
    }
}

/// How the origin of an optical line is computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RayOrigin {
    /// Exactly, from the matrices of the view.
    Matrices,
    /// Parity: estimated from the extent of the points, as the released code does; right only for images framed by
    /// the points' own box with parallel projection.
    PointExtent,
}

/// Which direction a query contains.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RayDirection {
    /// The true direction of the line.
    Line,
    /// Parity: the normalized third column of the rotation instead of its third row, as in the released code. For the
    /// twelve views it is one constant.
    RotationColumn,
}

/// Optical lines, one a query.
#[derive(Debug)]
pub struct Rays {
    /// B,V,Q,3.
    pub origin: Tensor,
    /// B,V,Q,3, unit length.
    pub direction: Tensor,
    /// B,V,Q,2: row and column of the query, 0 to 1.
    pub position: Tensor,
    /// B,V,9: the rotation into the view, row by row.
    pub pose: Tensor,
}

impl QueryConfig {
    /// The lines of a batch, as configured.
    ///
    /// # Shapes
    /// - `xyz`: B,N,3 coordinates that the network sees
    /// - `view_from_object`, `clip_from_view`: B,V,4,4 with columns as points
    #[must_use]
    pub fn rays(&self, xyz: &Tensor, view_from_object: &Tensor, clip_from_view: &Tensor) -> Rays {
        let exact = || Rays::from_matrices(view_from_object, clip_from_view, self.grid);
        let released = || {
            let rays = Rays::released_code(
                &code_from_object(xyz),
                &code_rotations(view_from_object),
                self.grid,
            );
            Rays {
                origin: object_from_code(&rays.origin),
                direction: object_from_code(&rays.direction),
                ..rays
            }
        };
        match (self.origin, self.direction) {
            (RayOrigin::Matrices, RayDirection::Line) => exact(),
            (RayOrigin::PointExtent, RayDirection::RotationColumn) => released(),
            (RayOrigin::Matrices, RayDirection::RotationColumn) => Rays {
                direction: released().direction,
                ..exact()
            },
            (RayOrigin::PointExtent, RayDirection::Line) => Rays {
                direction: exact().direction,
                ..released()
            },
        }
    }
}

impl Rays {
    /// Exact optical lines through the centers of grid × grid cells, for parallel and perspective views alike.
    ///
    /// A pixel's line is the intersection of two planes through the viewer (one of its column, one of its row); with the plane
    /// through the object's center that faces the viewer they give the origin, and their common direction is the line's.
    ///
    /// # Shapes
    /// - `view_from_object`, `clip_from_view`: B,V,4,4
    /// - returns lines B,V,grid²
    #[must_use]
    pub fn from_matrices(view_from_object: &Tensor, clip_from_view: &Tensor, grid: i64) -> Self {
        no_grad(|| {
            let view = view_from_object.to_kind(Kind::Double);
            let clip = clip_from_view.to_kind(Kind::Double).matmul(&view);
            let device = view.device();
            let (batch, num_views) = (view.size()[0], view.size()[1]);
            let (rows, columns) = cells(grid, device);
            let ndc_x: Tensor = (columns + 0.5) * (2.0 / grid as f64) - 1.0;
            let ndc_y: Tensor = (rows + 0.5) * (-2.0 / grid as f64) + 1.0;
            // Planes n · p + d = 0 as B,V,Q,4: clip.x - ndc.x · clip.w = 0 and the same for y.
            let clip_row = |i: i64| clip.select(2, i).unsqueeze(2);
            let column_plane = clip_row(0) - ndc_x.view([1, 1, -1, 1]) * clip_row(3);
            let row_plane = clip_row(1) - ndc_y.view([1, 1, -1, 1]) * clip_row(3);
            // The plane through the object's center has the viewing axis as its normal and no offset.
            let axis = view
                .select(2, 2)
                .unsqueeze(2)
                .narrow(3, 0, 3)
                .expand_as(&column_plane.narrow(3, 0, 3));
            let (n1, d1) = (column_plane.narrow(3, 0, 3), column_plane.narrow(3, 3, 1));
            let (n2, d2) = (row_plane.narrow(3, 0, 3), row_plane.narrow(3, 3, 1));
            let line = n1.linalg_cross(&n2, -1);
            let along_axis = (&line * &axis).sum_dim_intlist(-1, true, Kind::Double);
            let numerator = d1 * n2.linalg_cross(&axis, -1) + d2 * axis.linalg_cross(&n1, -1);
            let origin = -numerator / &along_axis;
            // The viewing axis points at the viewer; a line points away from it.
            let line = -&line * along_axis.sign();
            let direction = &line / line.norm_scalaropt_dim(2, [-1], true);
            Self {
                origin: origin.to_kind(Kind::Float),
                direction: direction.to_kind(Kind::Float),
                position: position(grid, batch, num_views, device),
                pose: pose(&view.narrow(2, 0, 3).narrow(3, 0, 3)),
            }
        })
    }

    /// Parity: the optical lines as the released code estimates them, in its own z-up axes. The origin comes from the
    /// extent of the rotated points, in an image of 224 pixels whose longer side the object fills with 200; the
    /// direction is the normalized third *column* of the rotation, which is one constant for the twelve views.
    ///
    /// # Shapes
    /// - `pos`: B,N,3 in the axes of the released code
    /// - `rotations`: B,V,3,3, rows being down, right and towards the viewer
    /// - returns lines B,V,grid²
    #[must_use]
    pub fn released_code(pos: &Tensor, rotations: &Tensor, grid: i64) -> Self {
        no_grad(|| {
            let device = pos.device();
            let (batch, num_views) = (rotations.size()[0], rotations.size()[1]);
            let extent = CodeExtent::new(pos, rotations);
            let (rows, columns) = cells(grid, device);
            let pixel = (Tensor::stack(&[rows, columns], 1) + 0.5) * (CODE_IMAGE_PX / grid as f64);
            let pixel = pixel.to_kind(Kind::Float).view([1, 1, -1, 2]);
            let in_plane = pixel * extent.scale.unsqueeze(2) + extent.bias.unsqueeze(2);
            let inverse = rotations.to_kind(Kind::Double).inverse().to_kind(Kind::Float);
            let origin = in_plane.matmul(&inverse.narrow(3, 0, 2).transpose(2, 3));
            let column = rotations.select(3, 2);
            let column = &column / column.norm_scalaropt_dim(2, [-1], true);
            let direction = column
                .to_kind(Kind::Float)
                .unsqueeze(2)
                .expand([-1, -1, grid * grid, -1], false);
            Self {
                origin,
                direction,
                position: position(grid, batch, num_views, device),
                pose: pose(rotations),
            }
        })
    }

    /// Origin, direction and position of each query in one tensor.
    ///
    /// # Shapes
    /// - returns B,V,Q,8
    pub fn query(&self) -> Tensor {
        self.select_components(QueryComponents::default())
    }

    /// The chosen ones of origin, direction and position, in that order.
    ///
    /// # Shapes
    /// - returns B,V,Q,[`channels`](QueryComponents::channels)
    pub fn select_components(&self, components: QueryComponents) -> Tensor {
        let all = [
            (components.origin, &self.origin),
            (components.direction, &self.direction),
            (components.position, &self.position),
        ];
        let selected: Vec<&Tensor> = all
            .into_iter()
            .filter_map(|(is_selected, tensor)| is_selected.then_some(tensor))
            .collect();
        Tensor::cat(&selected, -1)
    }
}

/// The image plane that the released code derives from the extent of the points.
struct CodeExtent {
    /// B,V,1: object units a pixel.
    scale: Tensor,
    /// B,V,2: plane position of the image's corner.
    bias: Tensor,
}

impl CodeExtent {
    fn new(pos: &Tensor, rotations: &Tensor) -> Self {
        let rotation = rotations.to_kind(Kind::Float);
        let plane = pos.unsqueeze(1).matmul(&rotation.transpose(2, 3)).narrow(3, 0, 2);
        let low = plane.amin(2, false);
        let range = plane.amax(2, false) - &low;
        let scale = range.amax(-1, true) / (CODE_OBJECT_PX - 3.0);
        let idx = ((plane - low.unsqueeze(2)) / scale.unsqueeze(2)).floor();
        let center = ((idx.amax(2, false) + idx.amin(2, false)) / 2.0).floor();
        let offset: Tensor = CODE_OBJECT_PX / 2.0 - center - 1.0;
        let padding = (CODE_IMAGE_PX - CODE_OBJECT_PX) / 2.0;
        let bias = low - &scale * (offset + padding);
        Self { scale, bias }
    }
}

/// Coordinates in the axes of the released code (z up): (x, y, z) there = (z, x, y) here.
///
/// # Shapes
/// - `xyz`: ...,3
pub fn code_from_object(xyz: &Tensor) -> Tensor {
    xyz.roll([1], [-1])
}

fn object_from_code(xyz: &Tensor) -> Tensor {
    xyz.roll([-1], [-1])
}

/// The rotation matrices that the released code would have used for these views: rows down, right, towards the viewer,
/// acting on its axes.
///
/// # Shapes
/// - `view_from_object`: B,V,4,4
/// - returns B,V,3,3 in `f64`
pub fn code_rotations(view_from_object: &Tensor) -> Tensor {
    let rotation = view_from_object
        .to_kind(Kind::Double)
        .narrow(2, 0, 3)
        .narrow(3, 0, 3);
    let (right, up, back) = (
        rotation.select(2, 0),
        rotation.select(2, 1),
        rotation.select(2, 2),
    );
    code_from_object(&Tensor::stack(&[-up, right, back], 2))
}

/// Row and column of every cell, as Q values of `f64` each.
fn cells(grid: i64, device: Device) -> (Tensor, Tensor) {
    let index = Tensor::arange(grid * grid, (Kind::Int64, device));
    let column = index.remainder(grid).to_kind(Kind::Double);
    let row = index.divide_scalar_mode(grid, "floor").to_kind(Kind::Double);
    (row, column)
}

/// B,V,3,3 to B,V,9 in `f32`.
fn pose(rotation: &Tensor) -> Tensor {
    rotation.flatten(2, 3).to_kind(Kind::Float)
}

/// B,V,Q,2: rows and columns from 0 to 1, both ends included.
fn position(grid: i64, batch: i64, num_views: i64, device: Device) -> Tensor {
    let line = Tensor::linspace(0, 1, grid, (Kind::Float, device));
    let rows = line.repeat_interleave_self_int(grid, 0, None);
    let columns = line.repeat([grid]);
    Tensor::stack(&[rows, columns], 1)
        .view([1, 1, grid * grid, 2])
        .expand([batch, num_views, -1, -1], false)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOLERANCE: f64 = 1e-5;

    fn values(tensor: &Tensor) -> Vec<f64> {
        Vec::<f64>::try_from(tensor.contiguous().view(-1).to_kind(Kind::Double)).expect("a tensor of numbers")
    }

    /// View k of the twelve: the eye at azimuth 30 k and elevation 30 degrees, `distance` from the object's center.
    fn view_from_object(k: i32, distance: f64) -> Tensor {
        let (azimuth, elevation) = (f64::from(k) * 30f64.to_radians(), 30f64.to_radians());
        let back = [
            azimuth.sin() * elevation.cos(),
            elevation.sin(),
            azimuth.cos() * elevation.cos(),
        ];
        let right = [azimuth.cos(), 0.0, -azimuth.sin()];
        let up = [
            back[1] * right[2] - back[2] * right[1],
            back[2] * right[0] - back[0] * right[2],
            back[0] * right[1] - back[1] * right[0],
        ];
        let row = |axis: [f64; 3], translation: f64| [axis[0], axis[1], axis[2], translation];
        let rows = [
            row(right, 0.0),
            row(up, 0.0),
            row(back, -distance),
            [0.0, 0.0, 0.0, 1.0],
        ];
        Tensor::from_slice(&rows.concat()).view([1, 1, 4, 4])
    }

    /// Parallel: [-1, 1]² of the view shifted and scaled.
    fn parallel(scale: f64, shift: [f64; 2]) -> Tensor {
        let rows = [
            [scale, 0.0, 0.0, shift[0]],
            [0.0, scale, 0.0, shift[1]],
            [0.0, 0.0, -0.1, 0.0],
            [0.0, 0.0, 0.0, 1.0],
        ];
        Tensor::from_slice(&rows.concat()).view([1, 1, 4, 4])
    }

    /// Perspective with an off-axis crop.
    fn perspective(scale: f64, shift: [f64; 2]) -> Tensor {
        let rows = [
            [scale, 0.0, shift[0], 0.0],
            [0.0, scale, shift[1], 0.0],
            [0.0, 0.0, -1.2, -0.5],
            [0.0, 0.0, -1.0, 0.0],
        ];
        Tensor::from_slice(&rows.concat()).view([1, 1, 4, 4])
    }

    #[test]
    fn every_point_of_a_line_projects_into_its_cell() {
        for k in [0, 1, 4, 9] {
            for clip in [parallel(0.8, [0.1, -0.2]), perspective(3.0, [0.2, -0.1])] {
                let view = view_from_object(k, 4.0);
                let rays = Rays::from_matrices(&view, &clip, 4);
                for along in [-0.7, 0.0, 0.9] {
                    let point = &rays.origin + &rays.direction * along;
                    let ones = Tensor::ones([1, 1, 16, 1], (Kind::Float, Device::Cpu));
                    let point = Tensor::cat(&[point, ones], 3).to_kind(Kind::Double);
                    let projected = point.matmul(&clip.matmul(&view).transpose(2, 3));
                    let ndc = projected.narrow(3, 0, 2) / projected.narrow(3, 3, 1);
                    for (q, ndc) in values(&ndc).chunks(2).enumerate() {
                        let (row, column) = ((q / 4) as f64, (q % 4) as f64);
                        let px = [(ndc[0] / 2.0 + 0.5) * 4.0, (0.5 - ndc[1] / 2.0) * 4.0];
                        assert!(
                            (px[0] - column - 0.5).abs() < TOLERANCE,
                            "view {k}, query {q}: column {}",
                            px[0]
                        );
                        assert!(
                            (px[1] - row - 0.5).abs() < TOLERANCE,
                            "view {k}, query {q}: row {}",
                            px[1]
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn lines_point_into_the_scene_from_the_plane_through_the_center() {
        for clip in [parallel(1.0, [0.0, 0.0]), perspective(3.0, [0.0, 0.0])] {
            let view = view_from_object(2, 4.0);
            let rays = Rays::from_matrices(&view, &clip, 4);
            let back = view.narrow(2, 2, 1).narrow(3, 0, 3).to_kind(Kind::Float);
            let along = |x: &Tensor| values(&(x * &back).sum_dim_intlist(-1, false, Kind::Float));
            assert!(
                along(&rays.origin).iter().all(|d| d.abs() < TOLERANCE),
                "origins lie in the plane"
            );
            assert!(
                along(&rays.direction).iter().all(|&d| d < -0.5),
                "directions leave the viewer"
            );
            let length = values(&rays.direction.square().sum_dim_intlist(-1, false, Kind::Float));
            assert!(
                length.iter().all(|l| (l - 1.0).abs() < TOLERANCE),
                "directions are unit vectors"
            );
        }
    }

    #[test]
    fn the_released_frame_is_a_permutation_of_ours() {
        let xyz = Tensor::from_slice(&[1.0f32, 2.0, 3.0]).view([1, 1, 3]);
        assert_eq!(
            values(&code_from_object(&xyz)),
            [3.0, 1.0, 2.0],
            "(x, y, z) there = (z, x, y) here"
        );
        assert!(object_from_code(&code_from_object(&xyz)).equal(&xyz), "and back");
        // Rows of the table of twelve views: k = 0 and k = 1.
        let first = values(&code_rotations(&view_from_object(0, 4.0)));
        let table = [0.5, 0.0, -0.866_025_4, 0.0, 1.0, 0.0, 0.866_025_4, 0.0, 0.5];
        assert!(
            first.iter().zip(table).all(|(a, b)| (a - b).abs() < TOLERANCE),
            "view 0: {first:?}"
        );
        let second = values(&code_rotations(&view_from_object(1, 4.0)));
        let table = [
            0.433_012_7,
            0.25,
            -0.866_025_4,
            -0.5,
            0.866_025_4,
            0.0,
            0.75,
            0.433_012_7,
            0.5,
        ];
        assert!(
            second.iter().zip(table).all(|(a, b)| (a - b).abs() < TOLERANCE),
            "view 1: {second:?}"
        );
    }

    #[test]
    fn the_released_estimate_is_right_for_its_own_framing() {
        // Points whose box fills the image's 200 of 224 pixels in a parallel view; the estimate is off by the
        // released code's rounding alone, within two pixels.
        let view = view_from_object(0, 4.0);
        let xyz = Tensor::from_slice(&[-0.5f32, 0.0, 0.0, 0.5, 0.0, 0.0, 0.0, 0.1, 0.0]).view([1, 3, 3]);
        let scale = 200.0 / 224.0 / 0.5;
        let middle = 0.1 * 30f64.to_radians().cos() / 2.0;
        let clip = parallel(scale, [0.0, -middle * scale]);
        let config = QueryConfig {
            grid: 7,
            origin: RayOrigin::PointExtent,
            direction: RayDirection::RotationColumn,
            source: QuerySource::Line,
            components: QueryComponents::default(),
        };
        let estimate = config.rays(&xyz, &view, &clip);
        let exact = Rays::from_matrices(&view, &clip, 7);
        let worst = (&estimate.origin - &exact.origin).abs().max().double_value(&[]);
        assert!(
            worst < 2.0 * 1.0 / 197.0 + 0.5 * (1.0 / 197.0 - 1.0 / 200.0) * 224.0,
            "off by {worst}"
        );
        let constant = [0.0, 0.5, -0.866_025_4];
        for direction in values(&estimate.direction).chunks(3) {
            assert!(
                direction
                    .iter()
                    .zip(constant)
                    .all(|(a, b)| (a - b).abs() < TOLERANCE),
                "{direction:?}"
            );
        }
    }
}
