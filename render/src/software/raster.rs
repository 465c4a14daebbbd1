//! Which triangle each sample of a view sees, on the CPU.
//!
//! Corners are rounded to 1/256 of a pixel, and whether a sample lies within is decided in whole numbers with the
//! top-left rule: triangles that share an edge share no sample and leave none out. Samples are where Vulkan has them.
//! Depth runs linearly over the picture; the nearer one wins, at equal depth the first.
//!
//! Samples are kept in *cells* of four lanes: the four samples of a pixel, or one sample of each of four pixels beside
//! each other. All tests are made on a cell at once. A triangle that is larger than a block of 8 by 8 pixels (4 by 4 in
//! pictures of more than 1024 pixels) is drawn block by block, so that within a block 32-bit numbers are enough.

use glam::{Mat4, Vec2, Vec3};
use wide::{f32x4, i32x4, u32x4};

use crate::shade::Stage;

/// A sample that sees nothing.
pub(crate) const NOTHING: u32 = u32::MAX;
/// Steps of a pixel that corners are rounded to.
const STEPS: i32 = 256;
const LANES: usize = 4;
/// A bit for each lane.
const ALL_LANES: u32 = (1 << LANES) - 1;
/// Side of a block, in steps.
const BLOCK: i32 = 8 * STEPS;
/// The largest extent, in steps, with which the numbers of such a block fit 32 bits: 1024 pixels.
const MAX_EXTENT: i32 = 1 << 18;
/// Corners are kept within this many steps, far outside of the largest picture.
const GUARD: f32 = (1 << 21) as f32;
/// Added to a number, it leaves the nearest whole one in the last bits.
const ROUNDER: f32 = (3 << 22) as f32;

/// Where the samples of a cell are, in steps from its corner, and how large it is.
#[derive(Debug, Clone, Copy)]
struct Pattern {
    x: [i32; LANES],
    y: [i32; LANES],
    cell_width: i32,
    /// Samples stand on columns and rows this far apart, the first at half of it.
    pitch: i32,
}

const ONE_SAMPLE: Pattern = Pattern {
    x: [128, 384, 640, 896],
    y: [128; LANES],
    cell_width: LANES as i32 * STEPS,
    pitch: STEPS,
};
const FOUR_SAMPLES: Pattern = Pattern {
    x: [96, 224, 32, 160],
    y: [32, 96, 160, 224],
    cell_width: STEPS,
    pitch: STEPS / 4,
};

/// A corner in the picture.
#[derive(Debug, Clone, Copy)]
struct Corner {
    /// In steps, from the top left.
    x: i32,
    y: i32,
    /// 0 at the near plane, 1 at the far one.
    depth: f32,
}

/// What some rows of a view see.
#[derive(Debug, Default)]
pub(crate) struct Visibility {
    corners: Vec<Corner>,
    cells_per_row: usize,
    num_samples: usize,
    first_row: u32,
    depths: Vec<[f32; LANES]>,
    triangles: Vec<[u32; LANES]>,
}

impl Visibility {
    /// Places the points of a scene in a view.
    pub(crate) fn place(&mut self, clip_from_object: &Mat4, size_px: u32, points: &[Vec3]) {
        let half = size_px as f32 * STEPS as f32 / 2.0;
        let corner = |point: &Vec3| {
            let clip = *clip_from_object * point.extend(1.0);
            let ndc = clip.truncate() / clip.w;
            let round =
                |x: f32| (x.clamp(-GUARD, GUARD) + ROUNDER).to_bits() as i32 - ROUNDER.to_bits() as i32;
            Corner {
                x: round(half + ndc.x * half),
                y: round(half - ndc.y * half),
                depth: ndc.z,
            }
        };
        self.corners.clear();
        self.corners.extend(points.iter().map(corner));
    }

    /// Draws rows of a view whose points are placed.
    pub(crate) fn draw(&mut self, stage: &Stage<'_>, size_px: u32, samples: u32, rows: std::ops::Range<u32>) {
        let pattern = if samples == 1 { ONE_SAMPLE } else { FOUR_SAMPLES };
        self.num_samples = samples as usize;
        self.cells_per_row = (size_px as usize * self.num_samples).div_ceil(LANES);
        self.first_row = rows.start;
        let num_cells = self.cells_per_row * rows.len();
        self.depths.clear();
        self.depths.resize(num_cells, [f32::INFINITY; LANES]);
        self.triangles.clear();
        self.triangles.resize(num_cells, [NOTHING; LANES]);
        let field = Field {
            pattern,
            right: size_px as i32 * STEPS,
            top: rows.start as i32 * STEPS,
            bottom: rows.end as i32 * STEPS,
            cells_per_row: self.cells_per_row,
        };
        let mut canvas = Canvas {
            depths: &mut self.depths,
            triangles: &mut self.triangles,
        };
        let has_cutout = stage.has_cutout();
        for (index, triangle) in (0..).zip(stage.triangles()) {
            let corners = each([triangle.a, triangle.b, triangle.c], |corner| {
                self.corners[corner as usize]
            });
            let Some(bounds) = field.bounds(&corners) else {
                continue;
            };
            let Some(edges) = Edges::new(corners) else {
                continue;
            };
            if has_cutout && stage.has_holes(index) {
                let is_seen = |pixel: Vec2| !stage.is_hole(index, pixel);
                field.draw::<true>(&edges, bounds, index, &mut canvas, &is_seen);
            } else {
                field.draw::<false>(&edges, bounds, index, &mut canvas, &|_| true);
            }
        }
    }

    /// The samples of a pixel: their depths, and which triangles they see.
    pub(crate) fn pixel(&self, x: u32, y: u32) -> (&[f32], &[u32]) {
        let first =
            ((y - self.first_row) as usize * self.cells_per_row * LANES) + x as usize * self.num_samples;
        let range = first..first + self.num_samples;
        (
            &self.depths.as_flattened()[range.clone()],
            &self.triangles.as_flattened()[range],
        )
    }
}

/// The rows that are drawn, in steps.
struct Field {
    pattern: Pattern,
    right: i32,
    top: i32,
    bottom: i32,
    cells_per_row: usize,
}

struct Canvas<'a> {
    depths: &'a mut [[f32; LANES]],
    triangles: &'a mut [[u32; LANES]],
}

/// Columns and rows, in steps: from the first to before the last.
#[derive(Debug, Clone, Copy)]
struct Bounds {
    left: i32,
    right: i32,
    top: i32,
    bottom: i32,
}

impl Field {
    /// The part of the field that may hold samples of a triangle; `None` if it lies between them or outside.
    fn bounds(&self, [a, b, c]: &[Corner; 3]) -> Option<Bounds> {
        let (left, right) = (
            a.x.min(b.x).min(c.x).max(0),
            a.x.max(b.x).max(c.x).min(self.right),
        );
        let (top, bottom) = (
            a.y.min(b.y).min(c.y).max(self.top),
            a.y.max(b.y).max(c.y).min(self.bottom),
        );
        let half = self.pattern.pitch / 2;
        let is_between = |low: i32, high: i32| {
            (low + half - 1) / self.pattern.pitch > (high - half).div_euclid(self.pattern.pitch)
        };
        if left > right || top > bottom || is_between(left, right) || is_between(top, bottom) {
            return None;
        }
        Some(Bounds {
            left,
            right,
            top,
            bottom,
        })
    }

    fn draw<const HAS_HOLES: bool>(
        &self,
        edges: &Edges,
        bounds: Bounds,
        index: u32,
        canvas: &mut Canvas<'_>,
        is_seen: &impl Fn(Vec2) -> bool,
    ) {
        let Pattern { cell_width, .. } = self.pattern;
        let left = bounds.left / cell_width * cell_width;
        let top = bounds.top / STEPS * STEPS;
        let side = if edges.extent <= MAX_EXTENT {
            BLOCK
        } else {
            BLOCK / 2
        };
        if bounds.right - left < side && bounds.bottom - top < side {
            self.draw_block::<HAS_HOLES>(edges, Bounds { left, top, ..bounds }, index, canvas, is_seen);
            return;
        }
        for top in (top..=bounds.bottom.min(self.bottom - 1)).step_by(side as usize) {
            for left in (left..=bounds.right.min(self.right - 1)).step_by(side as usize) {
                let block = Bounds {
                    left,
                    right: bounds.right.min(left + side - 1),
                    top,
                    bottom: bounds.bottom.min(top + side - 1),
                };
                self.draw_block::<HAS_HOLES>(edges, block, index, canvas, is_seen);
            }
        }
    }

    /// Draws what of a triangle lies in a block, whose left and top are those of cells.
    fn draw_block<const HAS_HOLES: bool>(
        &self,
        edges: &Edges,
        block: Bounds,
        index: u32,
        canvas: &mut Canvas<'_>,
        is_seen: &impl Fn(Vec2) -> bool,
    ) {
        let Pattern {
            x: sample_x,
            y: sample_y,
            cell_width,
            ..
        } = self.pattern;
        let Some(sides) = edges.in_block(block.left, block.top) else {
            return;
        };
        // What each sample of a cell is outside of: the sign of these numbers. They go on by addition from cell to cell.
        let (x, y) = (i32x4::from(sample_x), i32x4::from(sample_y));
        let mut rows = each(sides, |side| {
            i32x4::splat(side.value) + i32x4::splat(side.per_x) * x + i32x4::splat(side.per_y) * y
        });
        let per_cell = each(sides, |side| i32x4::splat(side.per_x.wrapping_mul(cell_width)));
        let per_row = each(sides, |side| i32x4::splat(side.per_y.wrapping_mul(STEPS)));
        let depth = &edges.depth;
        let (nearest, farthest) = (f32x4::splat(depth.nearest), f32x4::splat(depth.farthest));
        let at_sample = |i: usize| depth.at(block.left + sample_x[i], block.top + sample_y[i]);
        let depth_lanes = f32x4::from([at_sample(0), at_sample(1), at_sample(2), at_sample(3)]);
        let last_column = (block.right.min(self.right - 1) - block.left) / cell_width;
        let last_row = (block.bottom.min(self.bottom - 1) - block.top) / STEPS;
        let first_cell = ((block.top - self.top) / STEPS) as usize * self.cells_per_row
            + (block.left / cell_width) as usize;
        for row in 0..=last_row {
            let start = first_cell + row as usize * self.cells_per_row;
            let cells = start..start + last_column as usize + 1;
            let row_step = depth.per_y * (row * STEPS) as f32;
            let mut cell_sides = rows;
            for ((column, depths), triangles) in (0..)
                .zip(&mut canvas.depths[cells.clone()])
                .zip(&mut canvas.triangles[cells])
            {
                let [first, second, third] = cell_sides;
                let outside = first | second | third;
                if outside.to_bitmask() != ALL_LANES {
                    let step = depth.per_x * (column * cell_width) as f32 + row_step;
                    let new = (depth_lanes + f32x4::splat(step))
                        .fast_max(nearest)
                        .fast_min(farthest);
                    let old = f32x4::from(*depths);
                    let is_nearer: i32x4 = bytemuck::cast(new.simd_lt(old));
                    // All bits of a lane that is seen.
                    let mut wins = is_nearer & !(outside >> 31_i32);
                    if HAS_HOLES {
                        let corner = (block.left + column * cell_width, block.top + row * STEPS);
                        wins = self.look_through(wins, corner, is_seen);
                    }
                    *depths = bytemuck::cast::<_, f32x4>(wins).select(new, old).to_array();
                    let seen: u32x4 = bytemuck::cast(wins);
                    *triangles = seen
                        .select(u32x4::splat(index), u32x4::from(*triangles))
                        .to_array();
                }
                cell_sides = each([0, 1, 2], |i| cell_sides[i] + per_cell[i]);
            }
            rows = each([0, 1, 2], |i| rows[i] + per_row[i]);
        }
    }

    /// Takes away what looks through a hole, which the centres of the pixels decide.
    #[inline]
    fn look_through(&self, wins: i32x4, (left, top): (i32, i32), is_seen: &impl Fn(Vec2) -> bool) -> i32x4 {
        let center = |lane: usize| {
            let x = if self.pattern.cell_width == STEPS {
                0
            } else {
                lane as i32
            };
            Vec2::new((left / STEPS + x) as f32 + 0.5, (top / STEPS) as f32 + 0.5)
        };
        let mut lanes = wins.to_array();
        for (lane, wins) in lanes.iter_mut().enumerate() {
            if *wins != 0 && !is_seen(center(lane)) {
                *wins = 0;
            }
        }
        i32x4::from(lanes)
    }
}

/// The same of all three. (`map` of arrays is not always compiled in place, and costs a tenth of the time then.)
#[inline]
fn each<T, U>([a, b, c]: [T; 3], what: impl Fn(T) -> U) -> [U; 3] {
    [what(a), what(b), what(c)]
}

/// The edge functions of a triangle, not negative inside, and its depth.
struct Edges {
    sides: [Side; 3],
    depth: Depth,
    extent: i32,
}

/// `per_x * (x - at.x) + per_y * (y - at.y) - bias`
#[derive(Clone, Copy)]
struct Side {
    at: (i32, i32),
    per_x: i32,
    per_y: i32,
    /// 1 where samples on the edge belong to the neighbour.
    bias: i32,
}

/// A side within a block: its value at the block's corner.
#[derive(Clone, Copy)]
struct SideInBlock {
    value: i32,
    per_x: i32,
    per_y: i32,
}

/// Depth over the picture.
struct Depth {
    at: (i32, i32),
    value: f32,
    per_x: f32,
    per_y: f32,
    nearest: f32,
    farthest: f32,
}

impl Depth {
    #[inline]
    fn at(&self, x: i32, y: i32) -> f32 {
        self.value + (x - self.at.0) as f32 * self.per_x + (y - self.at.1) as f32 * self.per_y
    }
}

impl Edges {
    /// `None` if the triangle is seen from its edge.
    #[inline]
    fn new([a, b, c]: [Corner; 3]) -> Option<Self> {
        let (ab, ac) = ((b.x - a.x, b.y - a.y), (c.x - a.x, c.y - a.y));
        let area = i64::from(ab.0) * i64::from(ac.1) - i64::from(ab.1) * i64::from(ac.0);
        if area == 0 {
            return None;
        }
        let (b, c, ab, ac) = if area > 0 { (b, c, ab, ac) } else { (c, b, ac, ab) };
        let side = |from: Corner, to: Corner| {
            let (x, y) = (to.x - from.x, to.y - from.y);
            // y runs down, so with a positive area the corners run clockwise on the screen: a top edge runs right, a
            // left edge runs up.
            let owns_its_samples = (y == 0 && x > 0) || y < 0;
            Side {
                at: (from.x, from.y),
                per_x: -y,
                per_y: x,
                bias: i32::from(!owns_its_samples),
            }
        };
        let per_area = (area.unsigned_abs() as f32).recip();
        let (to_b, to_c) = (b.depth - a.depth, c.depth - a.depth);
        let depth = Depth {
            at: (a.x, a.y),
            value: a.depth,
            per_x: (to_b * ac.1 as f32 - to_c * ab.1 as f32) * per_area,
            per_y: (to_c * ab.0 as f32 - to_b * ac.0 as f32) * per_area,
            nearest: a.depth.min(b.depth).min(c.depth),
            farthest: a.depth.max(b.depth).max(c.depth),
        };
        let extent = [ab.0, ab.1, ac.0, ac.1, c.x - b.x, c.y - b.y]
            .map(i32::abs)
            .into_iter()
            .max()
            .unwrap_or_default();
        Some(Self {
            sides: [side(a, b), side(b, c), side(c, a)],
            depth,
            extent,
        })
    }

    /// The sides as a block sees them, in numbers that fit; `None` if nothing of the triangle is in it.
    #[inline]
    fn in_block(&self, left: i32, top: i32) -> Option<[SideInBlock; 3]> {
        let mut result = [SideInBlock {
            value: 0,
            per_x: 0,
            per_y: 0,
        }; 3];
        let reach = i64::from(if self.extent <= MAX_EXTENT {
            BLOCK
        } else {
            BLOCK / 2
        });
        // Of triangles that reach far beyond the largest picture the numbers are halved until they fit; a sample that
        // lies within less than a step of such an edge may then fall on the wrong side.
        let too_large = self.extent / (2 * MAX_EXTENT + 1);
        let shift = if too_large == 0 { 0 } else { too_large.ilog2() + 1 };
        for (side, in_block) in self.sides.iter().zip(&mut result) {
            let (per_x, per_y) = (i64::from(side.per_x), i64::from(side.per_y));
            let value = per_x * i64::from(left - side.at.0) + per_y * i64::from(top - side.at.1)
                - i64::from(side.bias);
            let highest = value + (per_x.max(0) + per_y.max(0)) * reach;
            if highest < 0 {
                return None;
            }
            let lowest = value + (per_x.min(0) + per_y.min(0)) * reach;
            // A side that the whole block is within decides nothing.
            if lowest < 0 {
                *in_block = SideInBlock {
                    value: (value >> shift) as i32,
                    per_x: (per_x >> shift) as i32,
                    per_y: (per_y >> shift) as i32,
                };
            }
        }
        Some(result)
    }
}
