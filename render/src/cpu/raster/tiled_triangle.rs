//! Triangles of more than 32 pixels: drawn block by block, so that 32-bit numbers are enough and what of their box is
//! empty is skipped.

use wide::{f32x4, i32x4};

use super::{Canvas, Cells, DepthRamp, Field, LANES, Pattern, Ramp, STEPS, each, to_f32};

/// Side of a block, in steps.
const BLOCK: i32 = 8 * STEPS;
/// The largest extent, in steps, with which the numbers of such a block fit 32 bits: 1024 pixels.
const MAX_EXTENT: i32 = 1 << 18;

/// A corner of a large triangle.
#[derive(Debug, Clone, Copy)]
struct Corner {
    /// In steps, from the top left.
    x: i32,
    y: i32,
    /// 0 at the near plane, 1 at the far one.
    depth: f32,
}

impl From<f32x4> for Corner {
    fn from(corner: f32x4) -> Self {
        let [x, y, depth, _] = corner.to_array();
        Self {
            x: x as i32,
            y: y as i32,
            depth,
        }
    }
}

/// The edge functions of a triangle, not negative inside, and its depth.
pub(super) struct Edges {
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
#[derive(Clone, Copy, PartialEq)]
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

impl SideInBlock {
    /// Of a block that is within it as a whole.
    const EVERYWHERE: Self = Self {
        value: 0,
        per_x: 0,
        per_y: 0,
    };

    #[inline(always)]
    fn ramp(self, pattern: Pattern) -> Ramp<i32x4> {
        let times = |per_step: i32, lanes: [i32; LANES]| i32x4::splat(per_step) * i32x4::from(lanes);
        Ramp {
            here: i32x4::splat(self.value) + times(self.per_x, pattern.x) + times(self.per_y, pattern.y),
            per_cell: i32x4::splat(self.per_x.wrapping_mul(pattern.cell_width)),
            per_row: i32x4::splat(self.per_y.wrapping_mul(STEPS)),
        }
    }
}

impl Depth {
    /// From the top left of a block on.
    #[inline(always)]
    fn ramp(&self, pattern: Pattern, left: i32, top: i32) -> DepthRamp {
        let Pattern { x, y, cell_width, .. } = pattern;
        DepthRamp {
            ramp: Ramp {
                here: f32x4::splat(self.value)
                    + (to_f32(x) + f32x4::splat((left - self.at.0) as f32)) * f32x4::splat(self.per_x)
                    + (to_f32(y) + f32x4::splat((top - self.at.1) as f32)) * f32x4::splat(self.per_y),
                per_cell: f32x4::splat(self.per_x * cell_width as f32),
                per_row: f32x4::splat(self.per_y * STEPS as f32),
            },
            nearest: f32x4::splat(self.nearest),
            farthest: f32x4::splat(self.farthest),
        }
    }
}

impl Edges {
    /// `None` if the triangle is seen from its edge.
    #[inline(always)]
    pub(super) fn new(corners: [f32x4; 3]) -> Option<Self> {
        let [a, b, c] = corners.map(Corner::from);
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

    /// Draws a triangle block by block.
    #[inline(always)]
    pub(super) fn draw(&self, field: &Field, cells: Cells, canvas: &mut impl Canvas) {
        let columns_of_block = (self.side_of_block() / field.pattern.cell_width) as u32;
        let rows_of_block = (self.side_of_block() / STEPS) as u32;
        for first_row in (cells.first_row..=cells.last_row).step_by(rows_of_block as usize) {
            for first_column in (cells.first_column..=cells.last_column).step_by(columns_of_block as usize) {
                let block = Cells {
                    first_column,
                    last_column: cells.last_column.min(first_column + columns_of_block - 1),
                    first_row,
                    last_row: cells.last_row.min(first_row + rows_of_block - 1),
                };
                let (left, top) = (
                    block.first_column as i32 * field.pattern.cell_width,
                    block.first_row as i32 * STEPS,
                );
                let Some(sides) = self.in_block(left, top) else {
                    continue;
                };
                if field.are_settled(block, self.depth.nearest, canvas) {
                    continue;
                }
                let depth = self.depth.ramp(field.pattern, left, top);
                if sides == [SideInBlock::EVERYWHERE; 3] {
                    field.fill::<i32x4, 0>(block, [], depth, canvas);
                } else {
                    let sides = each(sides, |side| side.ramp(field.pattern));
                    field.fill(block, sides, depth, canvas);
                }
            }
        }
    }

    fn side_of_block(&self) -> i32 {
        if self.extent <= MAX_EXTENT {
            BLOCK
        } else {
            BLOCK / 2
        }
    }

    /// The sides as a block sees them, in numbers that fit; `None` if nothing of the triangle is in it.
    #[inline(always)]
    fn in_block(&self, left: i32, top: i32) -> Option<[SideInBlock; 3]> {
        let mut result = [SideInBlock::EVERYWHERE; 3];
        let reach = i64::from(self.side_of_block());
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
