//! How far apart two surfaces are of which points are known, when one is turned, moved and scaled upon the other.

use std::f32::consts::TAU;

use glam::{Mat3, Quat, Vec3};

/// Points of one shape that are looked for on the other while it is turned, and at the end.
const COARSE_POINTS: usize = 64;
const FINE_POINTS: usize = 512;
/// Turns around the upright axis that are tried.
const YAWS: usize = 24;
/// Times that shapes are moved and scaled upon each other.
const ALIGNMENTS: usize = 6;
/// A small turn, a shift, a growth.
const UNKNOWNS: usize = 7;
/// The most, in radians or as a share, that one step turns or scales.
const MAX_STEP: f32 = 0.2;
/// Cells along a side of the grid that points are sorted into.
const CELLS: usize = 16;

/// Points of a surface with the directions in which it looks.
pub(crate) struct Cloud {
    pub(crate) points: Vec<Vec3>,
    pub(crate) normals: Vec<Vec3>,
    grid: Grid,
    /// How far apart neighbors are.
    spacing: f32,
}

/// A point and the nearest one of another cloud.
struct Match {
    from: Vec3,
    to: Vec3,
    normal: Vec3,
}

impl Cloud {
    pub(crate) fn new(points: &[[f32; 3]], normals: &[[f32; 3]]) -> Self {
        let [points, normals] =
            [points, normals].map(|vectors| vectors.iter().map(|&v| Vec3::from(v)).collect::<Vec<_>>());
        let grid = Grid::new(&points);
        let step = points.len().div_ceil(COARSE_POINTS).max(1);
        let places = (0..points.len()).step_by(step);
        let neighbors = places.filter_map(|i| {
            let nearest = grid.nearest(&points, points[i], Some(i))?;
            Some(points[i].distance(points[nearest]))
        });
        let distances: Vec<f32> = neighbors.collect();
        let spacing = distances.iter().sum::<f32>() / distances.len().max(1) as f32;
        Self {
            points,
            normals,
            grid,
            spacing,
        }
    }

    /// Mean distance between the surfaces, whichever way round, when they lie upon each other as well as they can. Shapes
    /// that are farther apart than `give_up` when they are but turned upon each other are not moved: theirs is a first
    /// guess.
    pub(crate) fn distance_to(&self, other: &Self, give_up: f32) -> f32 {
        let turns = turns();
        let coarse = |turn: &Mat3| {
            let placement = Placement {
                turn: *turn,
                scale: 1.0,
                shift: Vec3::ZERO,
            };
            other.residual(&self.matches(other, placement, COARSE_POINTS))
        };
        let best = turns
            .iter()
            .map(|turn| (coarse(turn), *turn))
            .min_by(|a, b| a.0.total_cmp(&b.0));
        let (_, mut turn) = best.expect("there is a turn");
        // Finer around the upright axis, half a step to either side.
        for half in [0.5, 0.25, 0.125, 0.0625] {
            let step = half * TAU / YAWS as f32;
            let near = [-step, 0.0, step].map(|angle| Mat3::from_rotation_y(angle) * turn);
            let better = near.into_iter().min_by(|a, b| coarse(a).total_cmp(&coarse(b)));
            turn = better.expect("there are three");
        }
        let guess = coarse(&turn);
        if guess > give_up {
            return guess;
        }
        // Middle and size follow from the points that happened to be drawn, and the turn is known to a degree: all of
        // them are matched.
        let mut placement = Placement {
            turn,
            scale: 1.0,
            shift: Vec3::ZERO,
        };
        for _ in 0..ALIGNMENTS {
            let near = 4.0 * (self.spacing + other.spacing);
            let mut matches = self.matches(other, placement, FINE_POINTS);
            matches.retain(|m| m.from.distance(m.to) <= near);
            placement = placement.improved(&matches);
        }
        let there = other.residual(&self.matches(other, placement, FINE_POINTS));
        let here = self.residual(&other.matches(self, placement.inverse(), FINE_POINTS));
        there.max(here)
    }

    /// Some points of this cloud, turned, scaled and moved, each with the nearest one of the other.
    fn matches(&self, other: &Self, placement: Placement, num: usize) -> Vec<Match> {
        let step = self.points.len().div_ceil(num).max(1);
        let nearest = |from: Vec3| {
            let nearest = other.grid.nearest(&other.points, from, None);
            let nearest = nearest.expect("a cloud has points");
            Match {
                from,
                to: other.points[nearest],
                normal: other.normals[nearest],
            }
        };
        let points = self.points.iter().step_by(step);
        points.map(|&point| nearest(placement.apply(point))).collect()
    }

    /// The mean distance to this cloud's surface: across it near a point, and all of it where no point is near.
    fn residual(&self, matches: &[Match]) -> f32 {
        let of_match = |m: &Match| {
            let across = (m.from - m.to).dot(m.normal).abs();
            across + (m.from.distance(m.to) - 3.0 * self.spacing).max(0.0)
        };
        matches.iter().map(of_match).sum::<f32>() / matches.len().max(1) as f32
    }
}

/// The turns that are tried: around the upright axis, and every other axis upright.
fn turns() -> Vec<Mat3> {
    let axes = [Vec3::X, Vec3::NEG_X, Vec3::Y, Vec3::NEG_Y, Vec3::Z, Vec3::NEG_Z];
    let yaws = |upright: Vec3| {
        let aside = if upright.y.abs() > 0.5 { Vec3::X } else { Vec3::Y };
        let to_upright = Mat3::from_cols(aside, upright, aside.cross(upright)).transpose();
        // The upright axis itself is tried finely, other ones by quarters.
        let steps = if upright == Vec3::Y { YAWS } else { 4 };
        (0..steps).map(move |k| Mat3::from_rotation_y(k as f32 / steps as f32 * TAU) * to_upright)
    };
    axes.into_iter().flat_map(yaws).collect()
}

/// How a cloud lies upon another one.
#[derive(Debug, Clone, Copy)]
struct Placement {
    turn: Mat3,
    scale: f32,
    shift: Vec3,
}

impl Placement {
    fn apply(self, point: Vec3) -> Vec3 {
        self.turn * point * self.scale + self.shift
    }

    fn inverse(self) -> Self {
        let turn = self.turn.transpose();
        Self {
            turn,
            scale: 1.0 / self.scale,
            shift: turn * (-self.shift / self.scale),
        }
    }

    /// One step of least squares: the small turn, growth and shift that bring points nearest to the planes of their
    /// partners.
    fn improved(self, matches: &[Match]) -> Self {
        let mut sums = [[0.0_f64; UNKNOWNS + 1]; UNKNOWNS];
        for m in matches {
            let turning = m.from.cross(m.normal);
            let row = [
                turning.x,
                turning.y,
                turning.z,
                m.normal.x,
                m.normal.y,
                m.normal.z,
                m.from.dot(m.normal),
                (m.to - m.from).dot(m.normal),
            ]
            .map(f64::from);
            for (i, sums) in sums.iter_mut().enumerate() {
                for (sum, value) in sums.iter_mut().zip(row) {
                    *sum += row[i] * value;
                }
            }
        }
        // What a symmetric shape leaves open stays as it is.
        for (i, sums) in sums.iter_mut().enumerate() {
            sums[i] += 1e-3 * matches.len() as f64 + 1e-9;
        }
        let [x, y, z, right, up, front, growth] = solved(sums).map(|value| value as f32);
        let angles = Vec3::new(x, y, z).clamp_length_max(MAX_STEP);
        let turn = Mat3::from_quat(Quat::from_scaled_axis(angles));
        let growth = 1.0 + growth.clamp(-MAX_STEP, MAX_STEP);
        Self {
            turn: turn * self.turn,
            scale: self.scale * growth,
            shift: turn * self.shift * growth + Vec3::new(right, up, front),
        }
    }
}

/// The solution of symmetric equations that have one, by elimination.
fn solved(mut rows: [[f64; UNKNOWNS + 1]; UNKNOWNS]) -> [f64; UNKNOWNS] {
    for i in 0..UNKNOWNS {
        let pivot = rows[i];
        for (_, row) in rows.iter_mut().enumerate().filter(|(j, _)| *j != i) {
            let factor = row[i] / pivot[i];
            for (value, pivot) in row.iter_mut().zip(pivot) {
                *value -= factor * pivot;
            }
        }
    }
    std::array::from_fn(|i| rows[i][UNKNOWNS] / rows[i][i])
}

/// Points sorted into cells, to find the nearest one without looking at all.
struct Grid {
    low: Vec3,
    cell: f32,
    /// Where the points of each cell begin in `order`, and the end.
    starts: Vec<u32>,
    order: Vec<u32>,
}

impl Grid {
    fn new(points: &[Vec3]) -> Self {
        let low = points.iter().copied().reduce(Vec3::min).unwrap_or_default();
        let high = points.iter().copied().reduce(Vec3::max).unwrap_or_default();
        let cell = ((high - low).max_element() / CELLS as f32).max(f32::MIN_POSITIVE);
        let mut grid = Self {
            low,
            cell,
            starts: vec![0; CELLS * CELLS * CELLS + 1],
            order: vec![0; points.len()],
        };
        let cells: Vec<usize> = points.iter().map(|&point| index(grid.cell_of(point))).collect();
        for &cell in &cells {
            grid.starts[cell + 1] += 1;
        }
        for cell in 1..grid.starts.len() {
            grid.starts[cell] += grid.starts[cell - 1];
        }
        let mut next = grid.starts.clone();
        for (i, &cell) in cells.iter().enumerate() {
            grid.order[next[cell] as usize] = i as u32;
            next[cell] += 1;
        }
        grid
    }

    /// The cell of a place, or the nearest cell.
    fn cell_of(&self, place: Vec3) -> [i32; 3] {
        ((place - self.low) / self.cell)
            .to_array()
            .map(|x| (x as i32).clamp(0, CELLS as i32 - 1))
    }

    /// The nearest point but `except`; `None` if there is no other.
    fn nearest(&self, points: &[Vec3], place: Vec3, except: Option<usize>) -> Option<usize> {
        let middle = self.cell_of(place);
        let mut best: Option<(f32, usize)> = None;
        for ring in 0..CELLS as i32 {
            let [x, y, z] = middle.map(|m| (m - ring).max(0)..=(m + ring).min(CELLS as i32 - 1));
            for x in x {
                for y in y.clone() {
                    let is_side = (x - middle[0]).abs() == ring || (y - middle[1]).abs() == ring;
                    for z in z.clone() {
                        // The inner cells were looked at before.
                        if !is_side && (z - middle[2]).abs() != ring {
                            continue;
                        }
                        let cell = index([x, y, z]);
                        let members = self.starts[cell] as usize..self.starts[cell + 1] as usize;
                        for &i in &self.order[members] {
                            let distance = points[i as usize].distance_squared(place);
                            if Some(i as usize) != except && best.is_none_or(|(least, _)| distance < least) {
                                best = Some((distance, i as usize));
                            }
                        }
                    }
                }
            }
            // What was not looked at is farther than this.
            let reach = ring as f32 * self.cell;
            if best.is_some_and(|(distance, _)| distance <= reach * reach) {
                break;
            }
        }
        best.map(|(_, i)| i)
    }
}

fn index([x, y, z]: [i32; 3]) -> usize {
    (x as usize * CELLS + y as usize) * CELLS + z as usize
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use rand_chacha::ChaCha8Rng;
    use rand_chacha::rand_core::{Rng, SeedableRng};

    use super::*;

    #[test]
    fn the_grid_finds_the_nearest_point() {
        let mut dice = ChaCha8Rng::seed_from_u64(1);
        let mut place = |size: f32| {
            let mut part = || (dice.next_u32() as f32 / u32::MAX as f32 - 0.5) * size;
            Vec3::new(part(), part(), 0.1 * part())
        };
        let points: Vec<Vec3> = (0..300).map(|_| place(2.0)).collect();
        let grid = Grid::new(&points);
        for _ in 0..300 {
            let place = place(4.0);
            let by_all = points
                .iter()
                .map(|p| p.distance_squared(place))
                .fold(f32::INFINITY, f32::min);
            let nearest = grid.nearest(&points, place, None).unwrap();
            assert!(points[nearest].distance_squared(place) <= by_all, "{place}");
        }
        assert_eq!(
            Grid::new(&points[..1]).nearest(&points[..1], Vec3::ONE, Some(0)),
            None
        );
    }

    #[test]
    fn all_turns_are_rotations() {
        for turn in turns() {
            assert!((turn.determinant() - 1.0).abs() < 1e-5, "{turn}");
            assert!(
                (turn * turn.transpose()).abs_diff_eq(Mat3::IDENTITY, 1e-5),
                "{turn}"
            );
        }
    }
}
