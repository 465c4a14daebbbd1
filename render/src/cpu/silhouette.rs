//! Measures how large an object appears: the area of its silhouette with holes filled. Framing needs it, so it runs on
//! the CPU for both backends.
//!
//! The silhouette is rasterized into a mask with [`CELLS`] cells along the longer side of its bounding box. A cell
//! counts if its center is covered, or if a flood fill from the border does not reach it.

use std::ops::{Range, RangeInclusive};

use glam::{DVec2, Vec2, Vec3};
use multiversion::multiversion;
use wide::{f32x4, i32x4};

use crate::camera::Camera;
use crate::cpu::raster::{LANES, Meshlets, ONE_SAMPLE, ProjectedMeshlets, RasterTarget, Viewport};
use crate::simd::Vec3x4;

/// Mask cells along the longer side: the area is accurate to half a percent, a scale that follows from it to a quarter.
const CELLS: usize = 256;

/// A mesh projected to a camera's image plane.
#[derive(Debug)]
pub(crate) struct Silhouette<'a> {
    camera: &'a Camera,
    meshlets: &'a Meshlets,
    /// x and y on the image plane, +y up; z is the distance from the eye's plane.
    min: Vec3,
    max: Vec3,
}

impl<'a> Silhouette<'a> {
    /// `None` if there is no point or one that is not finite.
    pub(crate) fn try_new(camera: &'a Camera, meshlets: &'a Meshlets) -> Option<Self> {
        let project = camera.projection();
        let [min, max] = meshlets.bounds(|points| {
            let projected = project(points);
            (projected, projected.z)
        })?;
        Some(Self {
            camera,
            meshlets,
            min,
            max,
        })
    }

    /// Nearest and farthest distance from the eye's plane.
    pub(crate) fn depths(&self) -> RangeInclusive<f32> {
        self.min.z..=self.max.z
    }

    /// Bounding box on the image plane; `None` if it has no extent.
    pub(crate) fn bounds(&self) -> Option<Bounds> {
        let (min, max) = (self.min.truncate(), self.max.truncate());
        ((max - min).max_element() > 0.0).then_some(Bounds { min, max })
    }

    /// Area of the filled silhouette, within its `bounds`.
    ///
    /// Areas up to `negligible` need not be exact: for those any value up to `negligible` may be returned.
    pub(crate) fn filled_area(&self, bounds: &Bounds, negligible: f64) -> f64 {
        let of_box = bounds.sides().element_product();
        if of_box <= negligible {
            return of_box;
        }
        let mut grid = CoverageMask::new(bounds);
        rasterize(&mut grid, self.camera, self.meshlets, bounds.min);
        let cell_area = f64::from(grid.cells_per_unit).powi(2).recip();
        let at_most = grid.num_in_spans() as f64 * cell_area;
        if at_most <= negligible {
            at_most
        } else {
            grid.num_filled() as f64 * cell_area
        }
    }
}

/// Axis-aligned bounds on the image plane.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Bounds {
    min: Vec2,
    max: Vec2,
}

impl Bounds {
    pub(crate) fn center(&self) -> DVec2 {
        (self.min.as_dvec2() + self.max.as_dvec2()) / 2.0
    }

    pub(crate) fn sides(&self) -> DVec2 {
        self.max.as_dvec2() - self.min.as_dvec2()
    }
}

/// One bit per cell, with an uncovered border one cell wide, so that 64 cells are handled at a time.
struct CoverageMask {
    width: usize,
    cells_per_unit: f32,
    /// Set bits are covered cells.
    rows: Vec<Row>,
}

/// The cells of a row, the first in the lowest bit of the first word.
type Row = [u64; ROW_WORDS];

/// Words of the longest row, including its border.
const ROW_WORDS: usize = (CELLS + 2).div_ceil(WORD_BITS);
/// Cells per word.
const WORD_BITS: usize = u64::BITS as usize;

/// Raster target with one bit per cell, row by row.
struct CoverageTarget<'a>(&'a mut [u64]);

impl CoverageTarget<'_> {
    /// Are all bits from `first` to `last` set?
    #[inline]
    fn is_range_set(&self, first: usize, last: usize) -> bool {
        let (from, to) = (
            u64::MAX << (first % WORD_BITS),
            u64::MAX >> (WORD_BITS - 1 - last % WORD_BITS),
        );
        match &self.0[first / WORD_BITS..=last / WORD_BITS] {
            [word] => !word & from & to == 0,
            [first, between @ .., last] => {
                !first & from == 0 && between.iter().all(|word| *word == u64::MAX) && !last & to == 0
            }
            [] => true,
        }
    }
}

impl RasterTarget for CoverageTarget<'_> {
    #[inline]
    fn begin_triangle(&mut self, _index: u32) {}

    /// Depth plays no part. Half of a closed mesh lies behind the other half, so many meshlets are skipped.
    #[inline]
    fn is_occluded(&self, cells: Range<usize>, _nearest: f32) -> bool {
        self.is_range_set(cells.start * LANES, cells.end * LANES - 1)
    }

    #[inline]
    fn is_covered(&self, columns: RangeInclusive<u32>, mut rows: RangeInclusive<u32>) -> bool {
        rows.all(|row| {
            let start = row as usize * ROW_WORDS * WORD_BITS;
            self.is_range_set(start + *columns.start() as usize, start + *columns.end() as usize)
        })
    }

    #[inline]
    fn write(&mut self, cell: usize, outside: i32x4, _depth: f32x4) {
        let inside = u64::from(!outside.to_bitmask() & ((1 << LANES) - 1));
        let first = cell * LANES;
        self.0[first / WORD_BITS] |= inside << (first % WORD_BITS);
    }
}

impl CoverageMask {
    fn new(bounds: &Bounds) -> Self {
        let sides = bounds.max - bounds.min;
        let cells_per_unit = CELLS as f32 / sides.max_element();
        let cells_along = |side: f32| ((side * cells_per_unit).ceil() as usize).clamp(1, CELLS) + 2;
        Self {
            width: cells_along(sides.x),
            cells_per_unit,
            rows: vec![[0; ROW_WORDS]; cells_along(sides.y)],
        }
    }

    /// Cells between the first and the last covered one of their row, or of their column if those are fewer: an upper
    /// bound of the filled silhouette.
    fn num_in_spans(&self) -> usize {
        let in_rows: usize = self.rows.iter().map(span).sum();
        // A cell is within its column's span if a cell is covered at or above it, and one at or below it.
        let mut below = self.rows.clone();
        for y in (0..below.len() - 1).rev() {
            let next = below[y + 1];
            below[y]
                .iter_mut()
                .zip(next)
                .for_each(|(word, next)| *word |= next);
        }
        let mut above: Row = [0; ROW_WORDS];
        let mut in_columns = 0;
        for (row, below) in self.rows.iter().zip(&below) {
            for ((above, row), below) in above.iter_mut().zip(row).zip(below) {
                *above |= row;
                in_columns += (*above & below).count_ones() as usize;
            }
        }
        in_rows.min(in_columns)
    }

    /// Cells that a 4-connected flood fill from the border does not reach.
    fn num_filled(&self) -> usize {
        let mut inside_border: Row = [0; ROW_WORDS];
        set_range(&mut inside_border, 0..self.width);
        let is_free = |row: &Row| -> Row { std::array::from_fn(|i| !row[i] & inside_border[i]) };
        let free: Vec<Row> = self.rows.iter().map(is_free).collect();
        let mut outside = vec![[0; ROW_WORDS]; free.len()];
        outside[0] = free[0];
        loop {
            let mut has_grown = false;
            let mut reach = |from: usize, to: usize| {
                let mut seeds = outside[to];
                seeds
                    .iter_mut()
                    .zip(outside[from])
                    .for_each(|(seed, from)| *seed |= from);
                let reached = flood_fill_row(&seeds, &free[to]);
                has_grown |= reached != outside[to];
                outside[to] = reached;
            };
            (1..free.len()).for_each(|y| reach(y - 1, y));
            (1..free.len()).rev().for_each(|y| reach(y, y - 1));
            if !has_grown {
                break;
            }
        }
        let num_outside: u32 = outside.as_flattened().iter().map(|word| word.count_ones()).sum();
        self.width * self.rows.len() - num_outside as usize
    }
}

/// Sets the bits of all cells whose centers are covered.
#[multiversion(targets("x86_64+avx512f", "x86_64+avx2"))]
fn rasterize(grid: &mut CoverageMask, camera: &Camera, meshlets: &Meshlets, min: Vec2) {
    let size = [grid.width as u32, grid.rows.len() as u32];
    let cells_per_unit = f32x4::splat(grid.cells_per_unit);
    let to_cells = |along: f32x4, min: f32| (along - f32x4::splat(min)) * cells_per_unit + f32x4::ONE;
    let project = camera.projection();
    let project = |points: &Vec3x4| {
        let projected = project(points);
        let projected = Vec3x4 {
            x: to_cells(projected.x, min.x),
            y: to_cells(projected.y, min.y),
            z: projected.z,
        };
        (projected, projected.z)
    };
    let mut projected = ProjectedMeshlets::default();
    projected.project(meshlets, size, project);
    let viewport = Viewport {
        stride: ROW_WORDS * WORD_BITS / LANES,
        ..Viewport::new(ONE_SAMPLE, size)
    };
    let mut coverage = CoverageTarget(grid.rows.as_flattened_mut());
    viewport.draw(meshlets, &projected, project, &mut coverage);
}

/// Sets the bits of a range.
fn set_range(row: &mut Row, columns: Range<usize>) {
    let (first, last) = (columns.start / WORD_BITS, (columns.end - 1) / WORD_BITS);
    let from = u64::MAX << (columns.start % WORD_BITS);
    let to = u64::MAX >> (WORD_BITS - 1 - (columns.end - 1) % WORD_BITS);
    if first == last {
        row[first] |= from & to;
        return;
    }
    row[first] |= from;
    row[first + 1..last].fill(u64::MAX);
    row[last] |= to;
}

/// Number of bits from the first set one to the last.
fn span(row: &Row) -> usize {
    let first = row.iter().position(|word| *word != 0);
    let last = row.iter().rposition(|word| *word != 0);
    let (Some(first), Some(last)) = (first, last) else {
        return 0;
    };
    let start = first * WORD_BITS + row[first].trailing_zeros() as usize;
    let end = (last + 1) * WORD_BITS - row[last].leading_zeros() as usize;
    end - start
}

/// Flood fill within a row: the free cells connected to a free seed.
fn flood_fill_row(seeds: &Row, free: &Row) -> Row {
    let mut reached: Row = std::array::from_fn(|i| seeds[i] & free[i]);
    let mut carry = 0;
    for (word, &free) in reached.iter_mut().zip(free) {
        *word = flood_fill_up(*word | (carry & free), free);
        carry = *word >> (WORD_BITS - 1);
    }
    let mut carry = 0;
    for (word, &free) in reached.iter_mut().zip(free).rev() {
        let (turned, free) = (word.reverse_bits(), free.reverse_bits());
        let flood_fill_row = flood_fill_up(turned | (carry & free), free);
        carry = flood_fill_row >> (WORD_BITS - 1);
        *word = flood_fill_row.reverse_bits();
    }
    reached
}

/// Flood fill towards higher bits; seeds must be free.
fn flood_fill_up(seeds: u64, free: u64) -> u64 {
    // Adding a seed to a run of ones carries to the run's end; the bits that change are filled.
    let changed = (free.wrapping_add(seeds) ^ free) & free;
    changed | seeds
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use std::f32::consts::TAU;

    use glam::DVec3;

    use super::*;
    use crate::camera::Pose;
    use crate::camera::Projection;

    /// Measures triangles on the image plane.
    fn on_plane<T>(
        points: &[Vec2],
        triangles: &[[u32; 3]],
        measure: impl FnOnce(Silhouette<'_>) -> T,
    ) -> Option<T> {
        let pose = Pose {
            azimuth_rad: 0.0,
            elevation_rad: 0.0,
            roll_rad: 0.0,
        };
        let camera = Camera::new(&pose, Projection::Orthographic, DVec3::ZERO, 1.0);
        let points: Vec<Vec3> = points.iter().map(|point| point.extend(0.0)).collect();
        let meshlets = Meshlets::new(&points, triangles);
        Silhouette::try_new(&camera, &meshlets).map(measure)
    }

    fn area_above(negligible: f64, points: &[Vec2], triangles: &[[u32; 3]]) -> f64 {
        let area = on_plane(points, triangles, |projected| {
            let bounds = projected.bounds().unwrap();
            projected.filled_area(&bounds, negligible)
        });
        area.unwrap()
    }

    fn area(points: &[Vec2], triangles: &[[u32; 3]]) -> f64 {
        area_above(0.0, points, triangles)
    }

    /// A ring of `n` quads between two radii; a disc if the inner one is 0.
    fn ring(n: u32, inner: f32, outer: f32) -> (Vec<Vec2>, Vec<[u32; 3]>) {
        let direction = |i: u32| Vec2::from_angle(TAU * i as f32 / n as f32);
        let points = (0..n)
            .flat_map(|i| [direction(i) * inner, direction(i) * outer])
            .collect();
        let quads = (0..n).flat_map(|i| {
            let next = (i + 1) % n;
            let [a, b, c, d] = [2 * i, 2 * i + 1, 2 * next, 2 * next + 1];
            [[a, b, c], [c, b, d]]
        });
        (points, quads.collect())
    }

    #[test]
    fn a_rectangle_has_the_area_of_its_box() {
        for width in [1.0, 0.7, 0.1] {
            let points = [Vec2::ZERO, Vec2::new(width, 0.0), Vec2::new(width, 1.0), Vec2::Y];
            let area = area(&points, &[[0, 1, 2], [0, 2, 3]]);
            assert!((area - f64::from(width)).abs() < 0.005, "{area} is not {width}");
        }
    }

    #[test]
    fn holes_are_filled() {
        let expected = std::f64::consts::PI;
        for inner in [0.0, 0.5, 0.97] {
            let (points, triangles) = ring(720, inner, 1.0);
            let area = area(&points, &triangles);
            assert!(
                (area / expected - 1.0).abs() < 0.005,
                "{area} with a hole of radius {inner}"
            );
        }
    }

    #[test]
    fn bays_are_not_filled() {
        let (points, mut triangles) = ring(720, 0.5, 1.0);
        triangles.drain(..72);
        let area = area(&points, &triangles);
        let expected = std::f64::consts::PI * 0.75 * 0.95;
        assert!((area / expected - 1.0).abs() < 0.01, "{area} is not {expected}");
    }

    #[test]
    fn many_small_triangles_cover_as_one_large_one_does() {
        let n = 700_u32;
        let points: Vec<Vec2> = (0..=n)
            .flat_map(|y| (0..=n).map(move |x| Vec2::new(x as f32, y as f32) / n as f32))
            .collect();
        let cell = |x: u32, y: u32| y * (n + 1) + x;
        let triangles: Vec<[u32; 3]> = (0..n)
            .flat_map(|y| (0..n - y).map(move |x| (x, y)))
            .flat_map(|(x, y)| {
                let lower = [cell(x, y), cell(x + 1, y), cell(x, y + 1)];
                let upper = [cell(x + 1, y), cell(x + 1, y + 1), cell(x, y + 1)];
                [Some(lower), (x + y + 1 < n).then_some(upper)]
            })
            .flatten()
            .collect();
        let area = area(&points, &triangles);
        assert!((area - 0.5).abs() < 0.003, "{area} is not 0.5");
    }

    #[test]
    fn negligible_areas_are_bounded() {
        let (points, triangles) = ring(72, 0.5, 1.0);
        assert!(
            area_above(5.0, &points, &triangles) <= 5.0,
            "the box alone is at most 4"
        );
        assert!(
            area_above(3.2, &points, &triangles) <= 3.2,
            "the spans alone are at most pi"
        );
    }

    #[test]
    fn bounds_need_an_extent() {
        let bounds = |points: &[Vec2]| {
            let fan: Vec<[u32; 3]> = (0..points.len() as u32).map(|i| [i; 3]).collect();
            on_plane(points, &fan, |projected| projected.bounds())?
        };
        assert_eq!(bounds(&[]), None, "no point");
        assert_eq!(bounds(&[Vec2::ONE, Vec2::ONE]), None, "one place");
        let nowhere = [Vec2::ONE, Vec2::new(f32::NAN, 0.0), Vec2::ZERO];
        assert_eq!(bounds(&nowhere), None, "nowhere");
        let bounds = bounds(&[Vec2::ONE, Vec2::new(3.0, 0.0)]).unwrap();
        assert_eq!(
            (bounds.center(), bounds.sides()),
            (DVec2::new(2.0, 0.5), DVec2::new(2.0, 1.0))
        );
    }
}
