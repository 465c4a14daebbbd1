//! Where the points of a row lie in images of it, and which of them an image shows.
//!
//! Stored views show a point at its pose (`docs/conventions.md`, "Matrices"); depth images show it where I2P-MAE's
//! projection puts it. What is hidden is known exactly where the views have a G-buffer, and otherwise by a depth test among
//! the points.

use serde::{Deserialize, Serialize};
use tap_dataset::{DatasetError, SampleView};

use crate::ops::{DepthView, position_of_pixel};

/// How much deeper than the surface at its pixel a point may lie to be seen, in NDC depth.
const DEPTH_TOLERANCE: f64 = 0.005;
/// Cells of the depth test among points, along a side, for each root of a point.
const CELLS_PER_ROOT: f64 = 0.5;
/// How much deeper than the nearest point of its cell a point may lie to be seen, in sides of a cell.
const CELL_TOLERANCE: f64 = 1.5;

/// What images say of points that they do not show.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HiddenPoints {
    /// What they say of the point in front, as published.
    #[default]
    Keep,
    /// Nothing.
    LeaveOut,
}

/// The points of a row in V images.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct PointViews {
    num_points: usize,
    /// V x N rows and columns, as parts of an image's height and width.
    pub positions: Vec<[f32; 2]>,
    /// V x N; empty where it does not count.
    pub visible: Vec<bool>,
}

impl PointViews {
    /// The points in stored views.
    ///
    /// # Errors
    /// Where a G-buffer is damaged.
    pub fn in_views(
        points: &[[f32; 3]],
        views: &[SampleView],
        hidden: HiddenPoints,
    ) -> Result<Self, DatasetError> {
        let mut all = Self::new(points.len());
        for view in views {
            let projected: Vec<Projected> = points.iter().map(|point| Projected::of(view, point)).collect();
            all.positions
                .extend(projected.iter().map(|projected| projected.position));
            if hidden == HiddenPoints::Keep {
                continue;
            }
            all.visible.extend(match &view.gbuffer {
                Some(gbuffer) => {
                    let size_px = view.mask.size_px();
                    let depth = gbuffer.decode(size_px)?.depth;
                    let is_seen = |projected: &Projected| projected.is_at_surface(&depth, size_px as usize);
                    projected.iter().map(is_seen).collect()
                }
                None => seen_among(&projected),
            });
        }
        Ok(all)
    }

    /// The points of a cloud in its depth images. The viewer stands where depths, whose sums are drawn, are largest.
    #[must_use]
    pub fn in_depth_images(points: &[[f32; 3]], hidden: HiddenPoints) -> Self {
        let mut all = Self::new(points.len());
        for view in DepthView::of(points) {
            let project = |point: &[f32; 3]| {
                let place = view.coordinates(point).map(f64::from);
                Projected {
                    position: position_of_pixel(view.pixel(point)),
                    in_view: [place[0], place[1], -place[2]],
                    ndc_depth: f64::NAN,
                    is_in_image: true,
                }
            };
            let projected: Vec<Projected> = points.iter().map(project).collect();
            all.positions
                .extend(projected.iter().map(|projected| projected.position));
            if hidden == HiddenPoints::LeaveOut {
                all.visible.extend(seen_among(&projected));
            }
        }
        all
    }

    fn new(num_points: usize) -> Self {
        Self {
            num_points,
            ..Self::default()
        }
    }

    /// The same of some of the points.
    #[must_use]
    pub fn select(&self, points: &[usize]) -> Self {
        fn of<T: Copy>(values: &[T], num_points: usize, points: &[usize]) -> Vec<T> {
            let views = values.chunks_exact(num_points.max(1));
            views
                .flat_map(|of_view| points.iter().map(|&point| of_view[point]))
                .collect()
        }
        Self {
            num_points: points.len(),
            positions: of(&self.positions, self.num_points, points),
            visible: of(&self.visible, self.num_points, points),
        }
    }
}

/// A point in one image.
struct Projected {
    /// Row and column as parts of the image.
    position: [f32; 2],
    /// In the directions of the image's axes and away from the viewer, in object units.
    in_view: [f64; 3],
    ndc_depth: f64,
    is_in_image: bool,
}

impl Projected {
    fn of(view: &SampleView, point: &[f32; 3]) -> Self {
        let point = [point[0], point[1], point[2], 1.0].map(f64::from);
        let in_view = transformed(&view.view_from_object, point);
        let clip = transformed(&view.clip_from_view, in_view);
        let ndc = [0, 1, 2].map(|axis| clip[axis] / clip[3]);
        let position = [0.5 - ndc[1] / 2.0, 0.5 + ndc[0] / 2.0];
        let is_in_image = clip[3] > 0.0 && position.iter().all(|place| (0.0..1.0).contains(place));
        Self {
            // Points behind the eye or at infinity are nowhere.
            position: position.map(|place| if place.is_finite() { place as f32 } else { 0.5 }),
            in_view: [in_view[0], in_view[1], -in_view[2]],
            ndc_depth: ndc[2],
            is_in_image,
        }
    }

    /// Whether it lies no deeper than the surface at its pixel or at one beside it, where the surface may be steep.
    fn is_at_surface(&self, depth: &[f64], size_px: usize) -> bool {
        if !self.is_in_image {
            return false;
        }
        let last = size_px as i64 - 1;
        let [row, column] = self
            .position
            .map(|place| (f64::from(place) * size_px as f64) as i64);
        let mut deepest = f64::NEG_INFINITY;
        for row in (row - 1).max(0)..=(row + 1).min(last) {
            for column in (column - 1).max(0)..=(column + 1).min(last) {
                let here = depth[row as usize * size_px + column as usize];
                if here.is_finite() {
                    deepest = deepest.max(here);
                }
            }
        }
        self.ndc_depth <= deepest + DEPTH_TOLERANCE
    }
}

/// Row-major matrix times column.
fn transformed(matrix: &[f32; 16], point: [f64; 4]) -> [f64; 4] {
    [0, 1, 2, 3].map(|row| {
        let row = &matrix[4 * row..4 * row + 4];
        row.iter().zip(point).map(|(a, b)| f64::from(*a) * b).sum()
    })
}

/// Which points are near to the nearest one in their cell of a grid over all of them: coarse, since points have gaps, so the
/// front and the back of what is thin are both seen.
fn seen_among(points: &[Projected]) -> Vec<bool> {
    let bounds = |axis: usize| {
        let values = points.iter().map(|point| point.in_view[axis]);
        values.fold((f64::INFINITY, f64::NEG_INFINITY), |(min, max), x| {
            (min.min(x), max.max(x))
        })
    };
    let bounds = [bounds(0), bounds(1)];
    let range = bounds
        .iter()
        .fold(f64::MIN_POSITIVE, |range, (min, max)| range.max(max - min));
    let num_cells = ((points.len() as f64).sqrt() * CELLS_PER_ROOT).ceil().max(1.0);
    let side = range / num_cells;
    let num_cells = num_cells as usize;
    let cell = |point: &Projected| {
        let [x, y] = [0, 1].map(|axis| ((point.in_view[axis] - bounds[axis].0) / side) as usize);
        y.min(num_cells - 1) * num_cells + x.min(num_cells - 1)
    };
    let mut nearest = vec![f64::INFINITY; num_cells * num_cells];
    for point in points {
        let nearest = &mut nearest[cell(point)];
        *nearest = nearest.min(point.in_view[2]);
    }
    let is_seen = |point: &Projected| {
        point.is_in_image && point.in_view[2] <= nearest[cell(point)] + CELL_TOLERANCE * side
    };
    points.iter().map(is_seen).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use tap_dataset::{GbufferPixels, Mask1Bit, ViewGbuffer};

    use super::*;
    use crate::seed::Stream;

    const SIZE_PX: u32 = 64;

    /// From the front, the unit square filling the image; depth 0 at z = 1 and 1 at z = -1.
    fn front_view() -> SampleView {
        #[rustfmt::skip]
        let clip_from_view = [
            1.0, 0.0, 0.0, 0.0,
            0.0, 1.0, 0.0, 0.0,
            0.0, 0.0, -0.5, 0.5,
            0.0, 0.0, 0.0, 1.0,
        ];
        let identity = std::array::from_fn(|i| if i % 5 == 0 { 1.0 } else { 0.0 });
        SampleView {
            image_png: Vec::new(),
            mask: Mask1Bit::from_covered(SIZE_PX, &[true; (SIZE_PX * SIZE_PX) as usize]),
            view_from_object: identity,
            clip_from_view,
            gbuffer: None,
        }
    }

    fn sphere(count: usize) -> Vec<[f32; 3]> {
        let mut stream = Stream::new(3, "sphere", 0, "");
        let mut point = || {
            let point = [(); 3].map(|()| stream.normal());
            let length = point.iter().map(|x| x * x).sum::<f64>().sqrt();
            point.map(|x| (x / length * 0.9) as f32)
        };
        (0..count).map(|_| point()).collect()
    }

    /// Depth of the sphere in [`front_view`].
    fn sphere_gbuffer() -> ViewGbuffer {
        let size = SIZE_PX as usize;
        let at = |place: usize| (place as f64 + 0.5) / size as f64 * 2.0 - 1.0;
        let depth = |pixel: usize| {
            let (x, y) = (at(pixel % size), at(pixel / size));
            let rest = 0.81 - x * x - y * y;
            if rest > 0.0 {
                0.5 - rest.sqrt() / 2.0
            } else {
                f64::INFINITY
            }
        };
        let pixels = GbufferPixels {
            normals: vec![[0.0; 3]; size * size],
            depth: (0..size * size).map(depth).collect(),
            albedo: None,
        };
        ViewGbuffer::encode(SIZE_PX, &pixels).unwrap()
    }

    #[test]
    fn points_lie_where_the_view_shows_them() {
        let points = [[0.0, 0.0, 0.3], [0.5, 0.9, 0.0], [3.0, 0.0, 0.0]];
        let views = PointViews::in_views(&points, &[front_view()], HiddenPoints::LeaveOut).unwrap();
        let [row, column] = views.positions[0];
        assert!(
            (row - 0.5).abs() < 1e-6 && (column - 0.5).abs() < 1e-6,
            "the middle"
        );
        let [row, column] = views.positions[1];
        assert!(
            (row - 0.05).abs() < 1e-6 && (column - 0.75).abs() < 1e-6,
            "{row} {column}"
        );
        assert_eq!(views.visible, [true, true, false], "the last is out of the image");
        let some = views.select(&[2, 0]);
        assert_eq!(
            some.positions,
            [views.positions[2], views.positions[0]],
            "some of them"
        );
        assert_eq!(some.visible, [false, true], "and what is seen of them");
        let all = PointViews::in_views(&points, &[front_view()], HiddenPoints::Keep).unwrap();
        assert!(
            all.visible.is_empty(),
            "nothing is tested where nothing is left out"
        );
    }

    #[test]
    fn the_back_of_a_sphere_is_hidden() {
        let points = sphere(2048);
        // At the rim front and back are near to each other.
        let wrong = |visible: &[bool]| {
            let is_wrong =
                |(point, seen): &(&[f32; 3], &bool)| point[2].abs() > 0.2 && (point[2] > 0.0) != **seen;
            points.iter().zip(visible).filter(is_wrong).count() as f64 / points.len() as f64
        };
        let mut view = front_view();
        view.gbuffer = Some(sphere_gbuffer());
        let exact = PointViews::in_views(&points, &[view], HiddenPoints::LeaveOut).unwrap();
        assert!(
            wrong(&exact.visible) < 0.01,
            "with a G-buffer: {}",
            wrong(&exact.visible)
        );
        let coarse = PointViews::in_views(&points, &[front_view()], HiddenPoints::LeaveOut).unwrap();
        assert!(
            wrong(&coarse.visible) < 0.1,
            "among points: {}",
            wrong(&coarse.visible)
        );
        let depth = PointViews::in_depth_images(&points, HiddenPoints::LeaveOut);
        assert_eq!(depth.visible.len(), 3 * points.len(), "three views");
        // The first view looks along z.
        let first = &depth.visible[..points.len()];
        assert!(wrong(first) < 0.1, "in depth images: {}", wrong(first));
    }
}
