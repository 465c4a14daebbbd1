//! How large an object appears: the area of its silhouette with the holes filled, on the CPU, without a device.
//!
//! It is counted in cells, [`CELLS`] along the longer side of the silhouette's box. A cell counts if its centre is
//! covered or if there is no way from it to the border that avoids covered cells.

use std::ops::{Range, RangeInclusive};

use glam::{DVec2, Vec2, Vec3};
use multiversion::multiversion;
use wide::{f32x4, i32x4};

use crate::camera::Camera;
use crate::cpu::raster::{Canvas, Field, LANES, Meshlets, ONE_SAMPLE, Placed};
use crate::simd::Four;

/// Cells along the longer side: the area is right to half a percent, a scale that follows from it to a quarter.
const CELLS: usize = 256;

/// A mesh on a camera's image plane.
#[derive(Debug)]
pub(crate) struct Projected<'a> {
    camera: &'a Camera,
    meshlets: &'a Meshlets,
    /// x and y on the plane, +y up; distance from the eye's plane.
    min: Vec3,
    max: Vec3,
}

impl<'a> Projected<'a> {
    /// `None` if a point is nowhere, or if there is none.
    pub(crate) fn try_new(camera: &'a Camera, meshlets: &'a Meshlets) -> Option<Self> {
        let project = camera.projection();
        let [min, max] = meshlets.extremes(|points| {
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

    /// From the nearest to the farthest, from the eye's plane.
    pub(crate) fn depths(&self) -> RangeInclusive<f32> {
        self.min.z..=self.max.z
    }

    /// On the plane; `None` if all points are at one place.
    pub(crate) fn bounds(&self) -> Option<Bounds> {
        let (min, max) = (self.min.truncate(), self.max.truncate());
        ((max - min).max_element() > 0.0).then_some(Bounds { min, max })
    }

    /// Area of the filled silhouette, within its `bounds`.
    ///
    /// Areas up to `negligible` need not be told apart: whatever is returned for them is at most that.
    pub(crate) fn filled_area(&self, bounds: &Bounds, negligible: f64) -> f64 {
        let of_box = bounds.sides().element_product();
        if of_box <= negligible {
            return of_box;
        }
        let mut grid = Grid::new(bounds);
        cover(&mut grid, self.camera, self.meshlets, bounds.min);
        let cell_area = f64::from(grid.cells_per_unit).powi(2).recip();
        let at_most = grid.num_within_spans() as f64 * cell_area;
        if at_most <= negligible {
            at_most
        } else {
            grid.num_not_outside() as f64 * cell_area
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

/// Cells with a border one cell wide that nothing covers; a bit each, so that 64 are looked at in one step.
struct Grid {
    width: usize,
    cells_per_unit: f32,
    /// Which cells are covered.
    rows: Vec<Row>,
}

/// The cells of a row, the first in the lowest bit of the first word.
type Row = [u64; ROW_WORDS];

/// Words of the longest row, with its border.
const ROW_WORDS: usize = (CELLS + 2).div_ceil(WORD);
/// Cells in a word.
const WORD: usize = u64::BITS as usize;

/// A bit for each cell, row by row.
struct Covered<'a>(&'a mut [u64]);

impl Covered<'_> {
    /// Are all bits from the first to the last set?
    #[inline]
    fn holds(&self, first: usize, last: usize) -> bool {
        let (from, to) = (u64::MAX << (first % WORD), u64::MAX >> (WORD - 1 - last % WORD));
        match &self.0[first / WORD..=last / WORD] {
            [word] => !word & from & to == 0,
            [first, between @ .., last] => {
                !first & from == 0 && between.iter().all(|word| *word == u64::MAX) && !last & to == 0
            }
            [] => true,
        }
    }
}

impl Canvas for Covered<'_> {
    #[inline]
    fn begin(&mut self, _index: u32) {}

    /// Half of a closed mesh lies behind the other half.
    #[inline]
    fn is_settled(&self, cells: Range<usize>, _nearest: f32) -> bool {
        self.holds(cells.start * LANES, cells.end * LANES - 1)
    }

    #[inline]
    fn is_full(&self, columns: RangeInclusive<u32>, mut rows: RangeInclusive<u32>) -> bool {
        rows.all(|row| {
            let start = row as usize * ROW_WORDS * WORD;
            self.holds(start + *columns.start() as usize, start + *columns.end() as usize)
        })
    }

    #[inline]
    fn draw(&mut self, cell: usize, outside: i32x4, _depth: f32x4) {
        let inside = u64::from(!outside.to_bitmask() & ((1 << LANES) - 1));
        let first = cell * LANES;
        self.0[first / WORD] |= inside << (first % WORD);
    }
}

impl Grid {
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

    /// Cells between the first and the last covered one of their row, or of their column if those are fewer. The filled
    /// silhouette never has more.
    fn num_within_spans(&self) -> usize {
        let in_rows: usize = self.rows.iter().map(span).sum();
        // A cell is between covered ones of its column if there is one at or above it, and one at or below it.
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

    /// Cells that cannot be reached from the border. Ways go along rows and columns.
    fn num_not_outside(&self) -> usize {
        let mut inside_border: Row = [0; ROW_WORDS];
        fill(&mut inside_border, 0..self.width);
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
                let reached = spread(&seeds, &free[to]);
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

/// Covers the cells of a grid whose centres lie in a triangle.
#[multiversion(targets("x86_64+avx512f", "x86_64+avx2"))]
fn cover(grid: &mut Grid, camera: &Camera, meshlets: &Meshlets, min: Vec2) {
    let size = [grid.width as u32, grid.rows.len() as u32];
    let cells_per_unit = f32x4::splat(grid.cells_per_unit);
    let in_cells = |along: f32x4, min: f32| (along - f32x4::splat(min)) * cells_per_unit + f32x4::ONE;
    let project = camera.projection();
    let place = |points: &Four| {
        let projected = project(points);
        let placed = Four {
            x: in_cells(projected.x, min.x),
            y: in_cells(projected.y, min.y),
            z: projected.z,
        };
        (placed, projected.z)
    };
    let mut placed = Placed::default();
    placed.place(meshlets, size, place);
    let field = Field {
        stride: ROW_WORDS * WORD / LANES,
        ..Field::new(ONE_SAMPLE, size)
    };
    let mut covered = Covered(grid.rows.as_flattened_mut());
    field.draw(meshlets, &placed, place, &mut covered);
}

/// Sets the bits of a range.
fn fill(row: &mut Row, columns: Range<usize>) {
    let (first, last) = (columns.start / WORD, (columns.end - 1) / WORD);
    let from = u64::MAX << (columns.start % WORD);
    let to = u64::MAX >> (WORD - 1 - (columns.end - 1) % WORD);
    if first == last {
        row[first] |= from & to;
        return;
    }
    row[first] |= from;
    row[first + 1..last].fill(u64::MAX);
    row[last] |= to;
}

/// Bits from the first to the last that is set.
fn span(row: &Row) -> usize {
    let first = row.iter().position(|word| *word != 0);
    let last = row.iter().rposition(|word| *word != 0);
    let (Some(first), Some(last)) = (first, last) else {
        return 0;
    };
    let start = first * WORD + row[first].trailing_zeros() as usize;
    let end = (last + 1) * WORD - row[last].leading_zeros() as usize;
    end - start
}

/// The free cells that can be reached within a row from those of its seeds that are free.
fn spread(seeds: &Row, free: &Row) -> Row {
    let mut reached: Row = std::array::from_fn(|i| seeds[i] & free[i]);
    let mut carry = 0;
    for (word, &free) in reached.iter_mut().zip(free) {
        *word = spread_up(*word | (carry & free), free);
        carry = *word >> (WORD - 1);
    }
    let mut carry = 0;
    for (word, &free) in reached.iter_mut().zip(free).rev() {
        let (turned, free) = (word.reverse_bits(), free.reverse_bits());
        let spread = spread_up(turned | (carry & free), free);
        carry = spread >> (WORD - 1);
        *word = spread.reverse_bits();
    }
    reached
}

/// Free bits with nothing but free bits between them and a lower seed, which is free.
fn spread_up(seeds: u64, free: u64) -> u64 {
    // Added to a run of ones, a seed carries through to its end; what it has changed on its way is reached.
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

    /// What is seen of triangles on the image plane.
    fn on_plane<T>(
        points: &[Vec2],
        triangles: &[[u32; 3]],
        see: impl FnOnce(Projected<'_>) -> T,
    ) -> Option<T> {
        let pose = Pose {
            azimuth_rad: 0.0,
            elevation_rad: 0.0,
            roll_rad: 0.0,
        };
        let camera = Camera::new(&pose, Projection::Parallel, DVec3::ZERO, 1.0);
        let points: Vec<Vec3> = points.iter().map(|point| point.extend(0.0)).collect();
        let meshlets = Meshlets::new(&points, triangles);
        Projected::try_new(&camera, &meshlets).map(see)
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
    fn what_cannot_matter_is_not_counted() {
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
