//! Rasterization: finds the samples that triangles cover, for images and for the silhouettes that frame them.
//!
//! Corners are rounded to 1/256 of a pixel, and edge functions are evaluated in exact integers with the top-left rule:
//! triangles that share an edge cover each sample exactly once. Sample positions are Vulkan's standard ones. Depth is
//! interpolated linearly in screen space.
//!
//! Samples are grouped in *cells* of four SIMD lanes: the four samples of a pixel, or one sample each of four
//! neighboring pixels. The arithmetic is as narrow as a triangle's size allows: `f32` up to 8 pixels, exact below 2^24
//! and fastest to multiply; 32-bit integers up to 32 pixels ([`small_triangle`]); 32-bit integers tile by tile beyond
//! ([`tiled_triangle`]).

#![allow(
    clippy::inline_always,
    reason = "called for each triangle or cell, a quarter of the time is lost where one of them is a call; and what is not \
    compiled with its callers has none of the instructions that those are compiled for"
)]

mod fixed_point;
mod meshlet;
mod projection;
mod small_triangle;
mod tiled_triangle;

use std::ops::{Add, Range, RangeInclusive};

use glam::Vec2;
use wide::{f32x4, i32x4};

use fixed_point::FixedPoint;
use meshlet::MAX_TRIANGLES;
pub(crate) use meshlet::Meshlets;
pub(crate) use projection::ProjectedMeshlets;
use projection::{ProjectedMeshlet, ProjectedVertices};
use small_triangle::SmallTriangle;
use tiled_triangle::TiledTriangle;

use crate::simd::Vec3x4;

/// Subpixel steps per pixel, to which corners are rounded.
const SUBPIXELS: i32 = 1 << SUBPIXEL_BITS;
const SUBPIXEL_BITS: u32 = 8;
/// Samples per cell.
pub(crate) const LANES: usize = 4;
/// Base-2 logarithm of the sample columns per cell.
const CELL_COLUMN_BITS: u32 = LANES.ilog2();

/// Samples per pixel and their positions.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SamplePattern {
    /// Sample positions in subpixels from the cell's corner.
    x: [i32; LANES],
    y: [i32; LANES],
    cell_width: i32,
    /// Base-2 logarithm of the distance between sample rows and columns, in subpixels; the first is at half that
    /// distance.
    pitch_bits: u32,
    /// Base-2 logarithm of the sample rows per pixel. A cell has as many sample columns as lanes.
    rows_bits: u32,
}

/// One sample, at the pixel's center.
pub(crate) const ONE_SAMPLE: SamplePattern = SamplePattern {
    x: [128, 384, 640, 896],
    y: [128; LANES],
    cell_width: LANES as i32 * SUBPIXELS,
    pitch_bits: 8,
    rows_bits: 0,
};
/// Vulkan's standard positions for four samples.
pub(crate) const FOUR_SAMPLES: SamplePattern = SamplePattern {
    x: [96, 224, 32, 160],
    y: [32, 96, 160, 224],
    cell_width: SUBPIXELS,
    pitch_bits: 6,
    rows_bits: 2,
};
impl SamplePattern {
    /// Samples per pixel.
    pub(crate) fn num_samples(&self) -> usize {
        1 << self.rows_bits
    }

    /// Number of neighboring pixels that share a cell.
    fn pixels_per_cell(&self) -> u32 {
        1 << (CELL_COLUMN_BITS - self.rows_bits)
    }
}

/// What triangles are rasterized into.
pub(crate) trait RasterTarget {
    /// The following writes belong to this triangle.
    fn begin_triangle(&mut self, index: u32);

    /// Would writes at this depth or beyond change nothing in these cells?
    fn is_occluded(&self, _cells: Range<usize>, _nearest: f32) -> bool {
        false
    }

    /// Would no write change anything within these columns and rows of samples?
    #[inline]
    fn is_covered(&self, _columns: RangeInclusive<u32>, _rows: RangeInclusive<u32>) -> bool {
        false
    }

    /// Writes a triangle to a cell. Lanes where the sign bit of `outside` is set are not covered.
    fn write(&mut self, cell: usize, outside: i32x4, depth: f32x4);
}

/// The rows of an image that are drawn, and the layout of their cells.
#[derive(Debug, Clone)]
pub(crate) struct Viewport {
    pub(crate) pattern: SamplePattern,
    /// Width and height of the whole image, in pixels.
    pub(crate) size_px: [u32; 2],
    pub(crate) rows: Range<u32>,
    /// Cells per row.
    pub(crate) stride: usize,
}

/// A rectangle of cells, both ends inclusive.
#[derive(Debug, Clone, Copy)]
struct CellRect {
    first_column: u32,
    last_column: u32,
    first_row: u32,
    last_row: u32,
}

impl Viewport {
    /// All rows of an image.
    pub(crate) fn new(pattern: SamplePattern, size_px: [u32; 2]) -> Self {
        let [width, height] = size_px;
        Self {
            pattern,
            size_px,
            rows: 0..height,
            stride: (width as usize * pattern.num_samples()).div_ceil(LANES),
        }
    }

    /// Draws projected meshlets. `project` must be the function that they were projected with.
    #[inline(always)]
    pub(crate) fn draw(
        &self,
        meshlets: &Meshlets,
        projected: &ProjectedMeshlets,
        project: impl Fn(&Vec3x4) -> (Vec3x4, f32x4),
        target: &mut impl RasterTarget,
    ) {
        let mut corners = ProjectedVertices::new();
        // Most triangles of a fine mesh fall between two columns or rows of samples. Branch prediction fails on them,
        // so they are filtered out without a branch first.
        let mut survivors = [0; MAX_TRIANGLES];
        for meshlet in projected.meshlets() {
            if self.is_occluded(meshlet, target) {
                continue;
            }
            let triangles = meshlets.triangles_of(meshlet.number as usize);
            let points = triangles.points.iter().map(|points| project(points).0);
            corners.project(points, self.size_px, self.pattern);
            let mut num_survivors = 0;
            for (index, triangle) in (0_u8..).zip(triangles.corners) {
                survivors[num_survivors] = index;
                let [a, b, c] = map3(*triangle, |corner| corners.bins[usize::from(corner)]);
                let differing = (a ^ b) | (a ^ c);
                num_survivors += usize::from(differing & 0xFFFF != 0 && differing >> 16 != 0);
            }
            for &index in &survivors[..num_survivors] {
                let index = usize::from(index);
                target.begin_triangle(triangles.sources[index]);
                self.draw_triangle(&corners, triangles.corners[index], target);
            }
        }
    }

    /// Is a meshlet outside of the drawn rows, or occluded?
    #[inline(always)]
    fn is_occluded(&self, meshlet: &ProjectedMeshlet, target: &impl RasterTarget) -> bool {
        let columns = self.cells_of(&meshlet.columns);
        let rows = meshlet.rows.start.max(self.rows.start)..meshlet.rows.end.min(self.rows.end);
        if rows.is_empty() {
            return true;
        }
        let cells = CellRect {
            first_column: columns.start as u32,
            last_column: columns.end as u32 - 1,
            first_row: rows.start,
            last_row: rows.end - 1,
        };
        self.are_occluded(cells, meshlet.nearest, target)
    }

    /// Are these cells occluded at this depth?
    #[inline(always)]
    fn are_occluded(&self, cells: CellRect, nearest: f32, target: &impl RasterTarget) -> bool {
        self.rows_of(cells).all(|row| target.is_occluded(row, nearest))
    }

    /// The range of cells in a row that hold these columns of pixels.
    pub(crate) fn cells_of(&self, columns: &Range<u32>) -> Range<usize> {
        let pixels_per_cell = self.pattern.pixels_per_cell();
        let end = columns.end.div_ceil(pixels_per_cell);
        (columns.start / pixels_per_cell) as usize..end as usize
    }

    /// Columns of pixels, extended to whole cells.
    pub(crate) fn align_to_cells(&self, columns: &Range<u32>) -> Range<u32> {
        let Range { start, end } = self.cells_of(columns);
        let pixels_per_cell = self.pattern.pixels_per_cell();
        start as u32 * pixels_per_cell..(end as u32 * pixels_per_cell).min(self.size_px[0])
    }

    #[inline(always)]
    fn draw_triangle(&self, corners: &ProjectedVertices, triangle: [u8; 3], target: &mut impl RasterTarget) {
        let bins = map3(triangle, |corner| corners.bins[usize::from(corner)]);
        let columns = map3(bins, |bin| bin & 0xFFFF);
        let rows = map3(bins, |bin| bin >> 16);
        let (lowest, highest) = (
            |[a, b, c]: [u32; 3]| a.min(b).min(c),
            |[a, b, c]: [u32; 3]| a.max(b).max(c),
        );
        let (columns, rows) = (
            lowest(columns)..=highest(columns) - 1,
            lowest(rows)..=highest(rows) - 1,
        );
        let cells = CellRect {
            first_column: columns.start() >> CELL_COLUMN_BITS,
            last_column: columns.end() >> CELL_COLUMN_BITS,
            first_row: (rows.start() >> self.pattern.rows_bits).max(self.rows.start),
            last_row: (rows.end() >> self.pattern.rows_bits).min(self.rows.end - 1),
        };
        if cells.first_row > cells.last_row || target.is_covered(columns, rows) {
            return;
        }
        let corner = |i: usize| corners.points[usize::from(triangle[i])];
        let (a, b, c) = (corner(0), corner(1), corner(2));
        if SmallTriangle::new(a, b, c).draw(self, cells, target) {
            return;
        }
        if let Some(edges) = TiledTriangle::new([a, b, c]) {
            edges.draw(self, cells, target);
        }
    }

    /// Writes the cells in which no edge function is negative.
    #[inline(always)]
    fn fill<N: FixedPoint, const EDGES: usize>(
        &self,
        cells: CellRect,
        mut edges: [Stepper<N>; EDGES],
        depth: DepthStepper,
        target: &mut impl RasterTarget,
    ) {
        let DepthStepper {
            stepper: mut depth,
            nearest,
            farthest,
        } = depth;
        for row in self.rows_of(cells) {
            let (mut in_row, mut depth_in_row) = (edges, depth);
            for cell in row {
                let outside = in_row
                    .iter()
                    .fold(i32x4::ZERO, |outside, edge| outside | edge.here.sign_bits());
                target.write(
                    cell,
                    outside,
                    depth_in_row.here.fast_max(nearest).fast_min(farthest),
                );
                in_row.iter_mut().for_each(Stepper::step_cell);
                depth_in_row.step_cell();
            }
            edges.iter_mut().for_each(Stepper::step_row);
            depth.step_row();
        }
    }

    /// Cell ranges, row by row.
    #[inline(always)]
    fn rows_of(&self, cells: CellRect) -> impl Iterator<Item = Range<usize>> {
        let num_columns = (cells.last_column - cells.first_column + 1) as usize;
        let start = (cells.first_row - self.rows.start) as usize * self.stride + cells.first_column as usize;
        let num_rows = (cells.last_row - cells.first_row + 1) as usize;
        let stride = self.stride;
        (0..num_rows).map(move |row| start + row * stride..start + row * stride + num_columns)
    }

    /// The center of the pixel that a lane of a cell belongs to.
    pub(crate) fn center(&self, cell: usize, lane: usize) -> Vec2 {
        let (row, column) = (cell / self.stride, cell % self.stride);
        let sample = column * LANES + lane;
        let x = sample / self.pattern.num_samples();
        let y = self.rows.start as usize + row;
        Vec2::new(x as f32 + 0.5, y as f32 + 0.5)
    }

    /// The position of the sample of a lane, in pixels.
    pub(crate) fn sample(&self, cell: usize, lane: usize) -> Vec2 {
        let (row, column) = (cell / self.stride, cell % self.stride);
        let x = column as i32 * self.pattern.cell_width + self.pattern.x[lane];
        let y = (self.rows.start as i32 + row as i32) * SUBPIXELS + self.pattern.y[lane];
        Vec2::new(x as f32, y as f32) / SUBPIXELS as f32
    }
}

/// Evaluates a linear function (an edge function or depth) incrementally over cells.
#[derive(Clone, Copy)]
struct Stepper<N> {
    /// Value in the current cell.
    here: N,
    per_cell: N,
    per_row: N,
}

impl<N: Copy + Add<Output = N>> Stepper<N> {
    #[inline(always)]
    fn step_cell(&mut self) {
        self.here = self.here + self.per_cell;
    }

    #[inline(always)]
    fn step_row(&mut self) {
        self.here = self.here + self.per_row;
    }
}

/// Steps depth over cells, clamped to the range of the triangle's corners.
#[derive(Clone, Copy)]
struct DepthStepper {
    stepper: Stepper<f32x4>,
    nearest: f32x4,
    farthest: f32x4,
}

fn to_f32(lanes: [i32; LANES]) -> f32x4 {
    f32x4::from(lanes.map(|lane| lane as f32))
}

/// Maps three values. (`map` of arrays is not always inlined, which costs a tenth of the time.)
#[inline(always)]
fn map3<T, U>([a, b, c]: [T; 3], mut what: impl FnMut(T) -> U) -> [U; 3] {
    [what(a), what(b), what(c)]
}

#[cfg(test)]
mod tests {
    use glam::Vec3;
    use proptest::prelude::*;

    use super::*;

    const SIDE_PX: u32 = 400;

    /// How many triangles cover each sample.
    struct Counts(Vec<[u32; LANES]>);

    impl RasterTarget for Counts {
        fn begin_triangle(&mut self, _index: u32) {}

        fn write(&mut self, cell: usize, outside: i32x4, _depth: f32x4) {
            for (count, outside) in self.0[cell].iter_mut().zip(outside.to_array()) {
                *count += u32::from(outside >= 0);
            }
        }
    }

    fn counts(pattern: SamplePattern, points: &[[f32; 2]], triangles: &[[u32; 3]]) -> Vec<u32> {
        let points: Vec<Vec3> = points.iter().map(|[x, y]| Vec3::new(*x, *y, 0.5)).collect();
        let meshlets = Meshlets::new(&points, triangles);
        let project = |points: &Vec3x4| (*points, f32x4::ONE);
        let mut projected = ProjectedMeshlets::default();
        projected.project(&meshlets, [SIDE_PX; 2], project);
        let viewport = Viewport::new(pattern, [SIDE_PX; 2]);
        let mut counts = Counts(vec![[0; LANES]; viewport.stride * SIDE_PX as usize]);
        viewport.draw(&meshlets, &projected, project, &mut counts);
        counts.0.into_flattened()
    }

    fn pattern() -> impl Strategy<Value = SamplePattern> {
        prop_oneof![Just(ONE_SAMPLE), Just(FOUR_SAMPLES)]
    }

    proptest! {
        /// Triangles of all sizes around a point, so that neighbors take different code paths.
        #[test]
        fn a_fan_covers_each_sample_once(
            pattern in pattern(),
            middle in prop::array::uniform2(100.0_f32..300.0),
            radii in prop::collection::vec(prop_oneof![0.5_f32..12.0, 12.0_f32..99.0], 3..9),
        ) {
            let angle = |i: usize| std::f32::consts::TAU * i as f32 / radii.len() as f32;
            let mut points = vec![middle];
            points.extend(radii.iter().enumerate().map(|(i, radius)| {
                [middle[0] + radius * angle(i).cos(), middle[1] + radius * angle(i).sin()]
            }));
            let num_rim = radii.len() as u32;
            let fan: Vec<[u32; 3]> = (0..num_rim).map(|i| [0, 1 + i, 1 + (i + 1) % num_rim]).collect();
            let covered = counts(pattern, &points, &fan);
            prop_assert!(covered.iter().all(|count| *count <= 1), "a sample in two triangles of a fan");
            let turned: Vec<[u32; 3]> = fan.iter().map(|[a, b, c]| [*b, *a, *c]).collect();
            prop_assert_eq!(&covered, &counts(pattern, &points, &turned), "seen from behind");
            // A fan is the sum of its triangles.
            let mut sum = vec![0; covered.len()];
            for triangle in &fan {
                let one = counts(pattern, &points, &[*triangle]);
                sum.iter_mut().zip(one).for_each(|(sum, one)| *sum += one);
            }
            prop_assert_eq!(covered, sum);
        }

        /// Splitting a triangle changes no coverage.
        #[test]
        fn splitting_a_triangle_keeps_its_coverage(
            pattern in pattern(),
            left in 0_u16..100,
            top in 0_u16..100,
            edge in prop_oneof![1_u16..12, 12_u16..64, 64_u16..290],
        ) {
            let [left, top, edge] = [left, top, edge].map(f32::from);
            // Multiples of half a pixel, where samples lie on edges; the middle of the diagonal is on it exactly.
            let points = [
                [left, top],
                [left + edge, top],
                [left, top + edge],
                [left + edge / 2.0, top + edge / 2.0],
            ];
            let whole = counts(pattern, &points, &[[0, 1, 2]]);
            let pieces = counts(pattern, &points, &[[0, 1, 3], [0, 3, 2]]);
            prop_assert_eq!(whole, pieces);
        }
    }

    #[test]
    fn samples_on_edges_follow_the_top_left_rule() {
        let square = [[0.5, 0.5], [2.5, 0.5], [0.5, 2.5], [2.5, 2.5]];
        let covered = counts(ONE_SAMPLE, &square, &[[0, 1, 2], [2, 1, 3]]);
        let expected = |i: usize| {
            let (x, y) = (i % SIDE_PX as usize, i / SIDE_PX as usize);
            u32::from(x < 2 && y < 2)
        };
        assert!(
            (0..covered.len()).all(|i| covered[i] == expected(i)),
            "two by two pixels, the centers of whose outer ones lie on the border"
        );
    }
}
