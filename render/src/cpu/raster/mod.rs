//! Which samples of a picture a triangle holds, on the CPU: for the pictures themselves, and for the silhouettes that
//! frame them.
//!
//! Corners are rounded to 1/256 of a pixel, and whether a sample lies within is decided in whole numbers with the
//! top-left rule: triangles that share an edge share no sample and leave none out. Samples are where Vulkan has them.
//! Depth runs linearly over the picture.
//!
//! Samples are kept in *cells* of four lanes: the four samples of a pixel, or one sample of each of four pixels beside
//! each other. All tests are made on a cell at once. Numbers are as small as a triangle allows: up to 8 pixels whole ones
//! below 2^24, which `f32` holds exactly, and multiplies fastest; up to 32 pixels 32-bit integers ([`small_triangle`]); beyond,
//! 32-bit integers block by block ([`tiled_triangle`]).

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

use fixed_point::Whole;
use meshlet::MAX_TRIANGLES;
pub(crate) use meshlet::Meshlets;
pub(crate) use projection::Placed;
use projection::{Corners, PlacedMeshlet};
use small_triangle::Triangle;
use tiled_triangle::Edges;

use crate::simd::Four;

/// Steps of a pixel that corners are rounded to.
const STEPS: i32 = 1 << STEP_BITS;
const STEP_BITS: u32 = 8;
/// Samples in a cell.
pub(crate) const LANES: usize = 4;
/// Columns of samples in a cell, to the power of two.
const CELL_COLUMN_BITS: u32 = LANES.ilog2();

/// How many samples a pixel has, and where they are.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pattern {
    /// In steps from the corner of a cell.
    x: [i32; LANES],
    y: [i32; LANES],
    cell_width: i32,
    /// Samples stand on columns and rows that are 2 to the power of this many steps apart, the first at half of it.
    pitch_bits: u32,
    /// A pixel's samples stand on 2 to the power of this many rows, a cell's on as many columns as it has lanes.
    rows_bits: u32,
}

/// One sample, in the middle.
pub(crate) const ONE_SAMPLE: Pattern = Pattern {
    x: [128, 384, 640, 896],
    y: [128; LANES],
    cell_width: LANES as i32 * STEPS,
    pitch_bits: 8,
    rows_bits: 0,
};
/// Vulkan's standard positions.
pub(crate) const FOUR_SAMPLES: Pattern = Pattern {
    x: [96, 224, 32, 160],
    y: [32, 96, 160, 224],
    cell_width: STEPS,
    pitch_bits: 6,
    rows_bits: 2,
};
impl Pattern {
    /// Samples of a pixel.
    pub(crate) fn num_samples(&self) -> usize {
        1 << self.rows_bits
    }

    /// Pixels beside each other of which a cell holds samples.
    fn pixels_of_cell(&self) -> u32 {
        1 << (CELL_COLUMN_BITS - self.rows_bits)
    }
}

/// What is drawn on.
pub(crate) trait Canvas {
    /// From now on this triangle is drawn.
    fn begin(&mut self, index: u32);

    /// Is it known that nothing changes whatever is drawn in these cells that is not nearer than this?
    fn is_settled(&self, _cells: Range<usize>, _nearest: f32) -> bool {
        false
    }

    /// Is it known that nothing changes whatever is drawn within these columns and rows of samples?
    #[inline]
    fn is_full(&self, _columns: RangeInclusive<u32>, _rows: RangeInclusive<u32>) -> bool {
        false
    }

    /// Draws a triangle in a cell, whose lanes are outside of it where the sign of `outside` is set.
    fn draw(&mut self, cell: usize, outside: i32x4, depth: f32x4);
}

/// The rows of a picture that are drawn, and how their cells are laid out.
#[derive(Debug, Clone)]
pub(crate) struct Field {
    pub(crate) pattern: Pattern,
    /// Width and height of the whole picture.
    pub(crate) size_px: [u32; 2],
    pub(crate) rows: Range<u32>,
    /// From a cell to the one below it.
    pub(crate) stride: usize,
}

/// Cells, from the first to the last.
#[derive(Debug, Clone, Copy)]
struct Cells {
    first_column: u32,
    last_column: u32,
    first_row: u32,
    last_row: u32,
}

impl Field {
    /// All rows of a picture of some width and height.
    pub(crate) fn new(pattern: Pattern, size_px: [u32; 2]) -> Self {
        let [width, height] = size_px;
        Self {
            pattern,
            size_px,
            rows: 0..height,
            stride: (width as usize * pattern.num_samples()).div_ceil(LANES),
        }
    }

    /// Draws those of the meshlets that were placed, in the same way, in this picture.
    #[inline(always)]
    pub(crate) fn draw(
        &self,
        meshlets: &Meshlets,
        placed: &Placed,
        place: impl Fn(&Four) -> (Four, f32x4),
        canvas: &mut impl Canvas,
    ) {
        let mut corners = Corners::new();
        // Most triangles of a fine mesh lie between two columns or two rows of samples. Which ones nobody can guess, not
        // even a processor, so they are sorted out beforehand without a branch.
        let mut kept = [0; MAX_TRIANGLES];
        for meshlet in placed.meshlets() {
            if self.is_settled(meshlet, canvas) {
                continue;
            }
            let triangles = meshlets.triangles_of(meshlet.number as usize);
            let points = triangles.points.iter().map(|points| place(points).0);
            corners.place(points, self.size_px, self.pattern);
            let mut num_kept = 0;
            for (index, triangle) in (0_u8..).zip(triangles.corners) {
                kept[num_kept] = index;
                let [a, b, c] = each(*triangle, |corner| corners.lots[usize::from(corner)]);
                let differing = (a ^ b) | (a ^ c);
                num_kept += usize::from(differing & 0xFFFF != 0 && differing >> 16 != 0);
            }
            for &index in &kept[..num_kept] {
                let index = usize::from(index);
                canvas.begin(triangles.sources[index]);
                self.draw_triangle(&corners, triangles.corners[index], canvas);
            }
        }
    }

    /// Is a meshlet outside of the rows that are drawn, or behind what is there?
    #[inline(always)]
    fn is_settled(&self, meshlet: &PlacedMeshlet, canvas: &impl Canvas) -> bool {
        let columns = self.cells_of(&meshlet.columns);
        let rows = meshlet.rows.start.max(self.rows.start)..meshlet.rows.end.min(self.rows.end);
        if rows.is_empty() {
            return true;
        }
        let cells = Cells {
            first_column: columns.start as u32,
            last_column: columns.end as u32 - 1,
            first_row: rows.start,
            last_row: rows.end - 1,
        };
        self.are_settled(cells, meshlet.nearest, canvas)
    }

    /// Is everything in these cells nearer than this?
    #[inline(always)]
    fn are_settled(&self, cells: Cells, nearest: f32, canvas: &impl Canvas) -> bool {
        self.rows_of(cells).all(|row| canvas.is_settled(row, nearest))
    }

    /// Those of a row that hold some columns of pixels.
    pub(crate) fn cells_of(&self, columns: &Range<u32>) -> Range<usize> {
        let pixels_of_cell = self.pattern.pixels_of_cell();
        let end = columns.end.div_ceil(pixels_of_cell);
        (columns.start / pixels_of_cell) as usize..end as usize
    }

    /// Columns of pixels, and those that share a cell with them.
    pub(crate) fn in_whole_cells(&self, columns: &Range<u32>) -> Range<u32> {
        let Range { start, end } = self.cells_of(columns);
        let pixels_of_cell = self.pattern.pixels_of_cell();
        start as u32 * pixels_of_cell..(end as u32 * pixels_of_cell).min(self.size_px[0])
    }

    #[inline(always)]
    fn draw_triangle(&self, corners: &Corners, triangle: [u8; 3], canvas: &mut impl Canvas) {
        let lots = each(triangle, |corner| corners.lots[usize::from(corner)]);
        let columns = each(lots, |lot| lot & 0xFFFF);
        let rows = each(lots, |lot| lot >> 16);
        let (lowest, highest) = (
            |[a, b, c]: [u32; 3]| a.min(b).min(c),
            |[a, b, c]: [u32; 3]| a.max(b).max(c),
        );
        let (columns, rows) = (
            lowest(columns)..=highest(columns) - 1,
            lowest(rows)..=highest(rows) - 1,
        );
        let cells = Cells {
            first_column: columns.start() >> CELL_COLUMN_BITS,
            last_column: columns.end() >> CELL_COLUMN_BITS,
            first_row: (rows.start() >> self.pattern.rows_bits).max(self.rows.start),
            last_row: (rows.end() >> self.pattern.rows_bits).min(self.rows.end - 1),
        };
        if cells.first_row > cells.last_row || canvas.is_full(columns, rows) {
            return;
        }
        let corner = |i: usize| corners.points[usize::from(triangle[i])];
        let (a, b, c) = (corner(0), corner(1), corner(2));
        if Triangle::new(a, b, c).draw(self, cells, canvas) {
            return;
        }
        if let Some(edges) = Edges::new([a, b, c]) {
            edges.draw(self, cells, canvas);
        }
    }

    /// Draws in cells what lies within sides: where none of them is negative.
    #[inline(always)]
    fn fill<N: Whole, const SIDES: usize>(
        &self,
        cells: Cells,
        mut sides: [Ramp<N>; SIDES],
        depth: DepthRamp,
        canvas: &mut impl Canvas,
    ) {
        let DepthRamp {
            ramp: mut depth,
            nearest,
            farthest,
        } = depth;
        for row in self.rows_of(cells) {
            let (mut in_row, mut depth_in_row) = (sides, depth);
            for cell in row {
                let outside = in_row
                    .iter()
                    .fold(i32x4::ZERO, |outside, side| outside | side.here.signs());
                canvas.draw(
                    cell,
                    outside,
                    depth_in_row.here.fast_max(nearest).fast_min(farthest),
                );
                in_row.iter_mut().for_each(Ramp::go_to_next_cell);
                depth_in_row.go_to_next_cell();
            }
            sides.iter_mut().for_each(Ramp::go_to_next_row);
            depth.go_to_next_row();
        }
    }

    /// The cells of each row.
    #[inline(always)]
    fn rows_of(&self, cells: Cells) -> impl Iterator<Item = Range<usize>> {
        let num_columns = (cells.last_column - cells.first_column + 1) as usize;
        let start = (cells.first_row - self.rows.start) as usize * self.stride + cells.first_column as usize;
        let num_rows = (cells.last_row - cells.first_row + 1) as usize;
        let stride = self.stride;
        (0..num_rows).map(move |row| start + row * stride..start + row * stride + num_columns)
    }

    /// The centre of the pixel that a lane of a cell belongs to.
    pub(crate) fn center(&self, cell: usize, lane: usize) -> Vec2 {
        let (row, column) = (cell / self.stride, cell % self.stride);
        let sample = column * LANES + lane;
        let x = sample / self.pattern.num_samples();
        let y = self.rows.start as usize + row;
        Vec2::new(x as f32 + 0.5, y as f32 + 0.5)
    }
}

/// A linear function over the samples of some cells.
#[derive(Clone, Copy)]
struct Ramp<N> {
    /// In the first cell.
    here: N,
    per_cell: N,
    per_row: N,
}

impl<N: Copy + Add<Output = N>> Ramp<N> {
    #[inline(always)]
    fn go_to_next_cell(&mut self) {
        self.here = self.here + self.per_cell;
    }

    #[inline(always)]
    fn go_to_next_row(&mut self) {
        self.here = self.here + self.per_row;
    }
}

/// Depth over some cells, which stays within that of the corners.
#[derive(Clone, Copy)]
struct DepthRamp {
    ramp: Ramp<f32x4>,
    nearest: f32x4,
    farthest: f32x4,
}

fn to_f32(lanes: [i32; LANES]) -> f32x4 {
    f32x4::from(lanes.map(|lane| lane as f32))
}

/// The same of all three. (`map` of arrays is not always compiled in place, and costs a tenth of the time then.)
#[inline(always)]
fn each<T, U>([a, b, c]: [T; 3], mut what: impl FnMut(T) -> U) -> [U; 3] {
    [what(a), what(b), what(c)]
}

#[cfg(test)]
mod tests {
    use glam::Vec3;
    use proptest::prelude::*;

    use super::*;

    const SIDE_PX: u32 = 400;

    /// How many triangles each sample lies in.
    struct Counts(Vec<[u32; LANES]>);

    impl Canvas for Counts {
        fn begin(&mut self, _index: u32) {}

        fn draw(&mut self, cell: usize, outside: i32x4, _depth: f32x4) {
            for (count, outside) in self.0[cell].iter_mut().zip(outside.to_array()) {
                *count += u32::from(outside >= 0);
            }
        }
    }

    fn counts(pattern: Pattern, points: &[[f32; 2]], triangles: &[[u32; 3]]) -> Vec<u32> {
        let points: Vec<Vec3> = points.iter().map(|[x, y]| Vec3::new(*x, *y, 0.5)).collect();
        let meshlets = Meshlets::new(&points, triangles);
        let place = |points: &Four| (*points, f32x4::ONE);
        let mut placed = Placed::default();
        placed.place(&meshlets, [SIDE_PX; 2], place);
        let field = Field::new(pattern, [SIDE_PX; 2]);
        let mut counts = Counts(vec![[0; LANES]; field.stride * SIDE_PX as usize]);
        field.draw(&meshlets, &placed, place, &mut counts);
        counts.0.into_flattened()
    }

    fn pattern() -> impl Strategy<Value = Pattern> {
        prop_oneof![Just(ONE_SAMPLE), Just(FOUR_SAMPLES)]
    }

    proptest! {
        /// Triangles of all sizes around a point, of which those of one size are drawn in other numbers than those of the next.
        #[test]
        fn a_fan_leaves_no_gap_and_covers_nothing_twice(
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
            // A fan is what its triangles are one by one.
            let mut sum = vec![0; covered.len()];
            for triangle in &fan {
                let one = counts(pattern, &points, &[*triangle]);
                sum.iter_mut().zip(one).for_each(|(sum, one)| *sum += one);
            }
            prop_assert_eq!(covered, sum);
        }

        /// What is cut into pieces covers what it covered in one.
        #[test]
        fn a_triangle_covers_what_its_pieces_cover(
            pattern in pattern(),
            left in 0_u16..100,
            top in 0_u16..100,
            side in prop_oneof![1_u16..12, 12_u16..64, 64_u16..290],
        ) {
            let [left, top, side] = [left, top, side].map(f32::from);
            // Halves and whole pixels, where samples lie on edges; the middle of the diagonal is on it exactly.
            let points = [
                [left, top],
                [left + side, top],
                [left, top + side],
                [left + side / 2.0, top + side / 2.0],
            ];
            let whole = counts(pattern, &points, &[[0, 1, 2]]);
            let pieces = counts(pattern, &points, &[[0, 1, 3], [0, 3, 2]]);
            prop_assert_eq!(whole, pieces);
        }
    }

    #[test]
    fn samples_on_edges_belong_to_the_top_and_the_left() {
        let square = [[0.5, 0.5], [2.5, 0.5], [0.5, 2.5], [2.5, 2.5]];
        let covered = counts(ONE_SAMPLE, &square, &[[0, 1, 2], [2, 1, 3]]);
        let expected = |i: usize| {
            let (x, y) = (i % SIDE_PX as usize, i / SIDE_PX as usize);
            u32::from(x < 2 && y < 2)
        };
        assert!(
            (0..covered.len()).all(|i| covered[i] == expected(i)),
            "two by two pixels, the centres of whose outer ones lie on the border"
        );
    }
}
