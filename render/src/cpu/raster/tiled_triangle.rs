//! Triangles above 32 pixels: drawn tile by tile, so that 32-bit integers suffice and empty tiles are skipped.

use wide::{f32x4, i32x4};

use super::{
    CellRect, DepthStepper, LANES, RasterTarget, SUBPIXELS, SamplePattern, Stepper, Viewport, map3, to_f32,
};

/// Side of a tile, in subpixels.
const TILE_SIZE: i32 = 8 * SUBPIXELS;
/// Largest extent, in subpixels, with which edge functions fit 32 bits in a tile: 1024 pixels.
const MAX_EXTENT: i32 = 1 << 18;

/// A corner of the triangle.
#[derive(Debug, Clone, Copy)]
struct Corner {
    /// In subpixels, from the top left.
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

/// Triangle setup: edge functions, not negative inside, and the depth plane.
pub(super) struct TiledTriangle {
    edges: [EdgeFunction; 3],
    depth: DepthPlane,
    extent: i32,
}

/// `per_x * (x - at.x) + per_y * (y - at.y) - bias`
#[derive(Clone, Copy)]
struct EdgeFunction {
    at: (i32, i32),
    per_x: i32,
    per_y: i32,
    /// 1 where the top-left rule gives samples on the edge to the neighbor.
    bias: i32,
}

/// An edge function relative to a tile's corner.
#[derive(Clone, Copy, PartialEq)]
struct TileEdge {
    value: i32,
    per_x: i32,
    per_y: i32,
}

/// Depth as a linear function of screen position.
struct DepthPlane {
    at: (i32, i32),
    value: f32,
    per_x: f32,
    per_y: f32,
    nearest: f32,
    farthest: f32,
}

impl TileEdge {
    /// An edge that the whole tile is inside of.
    const ALL_INSIDE: Self = Self {
        value: 0,
        per_x: 0,
        per_y: 0,
    };

    #[inline(always)]
    fn stepper(self, pattern: SamplePattern) -> Stepper<i32x4> {
        let times = |per_step: i32, lanes: [i32; LANES]| i32x4::splat(per_step) * i32x4::from(lanes);
        Stepper {
            here: i32x4::splat(self.value) + times(self.per_x, pattern.x) + times(self.per_y, pattern.y),
            per_cell: i32x4::splat(self.per_x.wrapping_mul(pattern.cell_width)),
            per_row: i32x4::splat(self.per_y.wrapping_mul(SUBPIXELS)),
        }
    }
}

impl DepthPlane {
    /// Starts at a tile's top left.
    #[inline(always)]
    fn stepper(&self, pattern: SamplePattern, left: i32, top: i32) -> DepthStepper {
        let SamplePattern { x, y, cell_width, .. } = pattern;
        DepthStepper {
            stepper: Stepper {
                here: f32x4::splat(self.value)
                    + (to_f32(x) + f32x4::splat((left - self.at.0) as f32)) * f32x4::splat(self.per_x)
                    + (to_f32(y) + f32x4::splat((top - self.at.1) as f32)) * f32x4::splat(self.per_y),
                per_cell: f32x4::splat(self.per_x * cell_width as f32),
                per_row: f32x4::splat(self.per_y * SUBPIXELS as f32),
            },
            nearest: f32x4::splat(self.nearest),
            farthest: f32x4::splat(self.farthest),
        }
    }
}

impl TiledTriangle {
    /// `None` if the triangle has no area on screen.
    #[inline(always)]
    pub(super) fn new(corners: [f32x4; 3]) -> Option<Self> {
        let [a, b, c] = corners.map(Corner::from);
        let (ab, ac) = ((b.x - a.x, b.y - a.y), (c.x - a.x, c.y - a.y));
        let area = i64::from(ab.0) * i64::from(ac.1) - i64::from(ab.1) * i64::from(ac.0);
        if area == 0 {
            return None;
        }
        let (b, c, ab, ac) = if area > 0 { (b, c, ab, ac) } else { (c, b, ac, ab) };
        let edge = |from: Corner, to: Corner| {
            let (x, y) = (to.x - from.x, to.y - from.y);
            // y runs down, so with a positive area the corners run clockwise on the screen: a top edge runs right, a
            // left edge runs up.
            let is_top_left = (y == 0 && x > 0) || y < 0;
            EdgeFunction {
                at: (from.x, from.y),
                per_x: -y,
                per_y: x,
                bias: i32::from(!is_top_left),
            }
        };
        let per_area = (area.unsigned_abs() as f32).recip();
        let (to_b, to_c) = (b.depth - a.depth, c.depth - a.depth);
        let depth = DepthPlane {
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
            edges: [edge(a, b), edge(b, c), edge(c, a)],
            depth,
            extent,
        })
    }

    /// Draws the triangle tile by tile.
    #[inline(always)]
    pub(super) fn draw(&self, viewport: &Viewport, cells: CellRect, target: &mut impl RasterTarget) {
        let columns_per_tile = (self.tile_size() / viewport.pattern.cell_width) as u32;
        let rows_per_tile = (self.tile_size() / SUBPIXELS) as u32;
        for first_row in (cells.first_row..=cells.last_row).step_by(rows_per_tile as usize) {
            for first_column in (cells.first_column..=cells.last_column).step_by(columns_per_tile as usize) {
                let tile = CellRect {
                    first_column,
                    last_column: cells.last_column.min(first_column + columns_per_tile - 1),
                    first_row,
                    last_row: cells.last_row.min(first_row + rows_per_tile - 1),
                };
                let (left, top) = (
                    tile.first_column as i32 * viewport.pattern.cell_width,
                    tile.first_row as i32 * SUBPIXELS,
                );
                let Some(edges) = self.edges_in_tile(left, top) else {
                    continue;
                };
                if viewport.are_occluded(tile, self.depth.nearest, target) {
                    continue;
                }
                let depth = self.depth.stepper(viewport.pattern, left, top);
                if edges == [TileEdge::ALL_INSIDE; 3] {
                    viewport.fill::<i32x4, 0>(tile, [], depth, target);
                } else {
                    let edges = map3(edges, |edge| edge.stepper(viewport.pattern));
                    viewport.fill(tile, edges, depth, target);
                }
            }
        }
    }

    fn tile_size(&self) -> i32 {
        if self.extent <= MAX_EXTENT {
            TILE_SIZE
        } else {
            TILE_SIZE / 2
        }
    }

    /// The edge functions within a tile, in 32 bits; `None` if the tile is outside of the triangle.
    #[inline(always)]
    fn edges_in_tile(&self, left: i32, top: i32) -> Option<[TileEdge; 3]> {
        let mut result = [TileEdge::ALL_INSIDE; 3];
        let reach = i64::from(self.tile_size());
        // For triangles that extend far beyond the largest image, values are halved until they fit; samples less than a
        // subpixel from such an edge may then fall on the wrong side.
        let too_large = self.extent / (2 * MAX_EXTENT + 1);
        let shift = if too_large == 0 { 0 } else { too_large.ilog2() + 1 };
        for (edge, edges_in_tile) in self.edges.iter().zip(&mut result) {
            let (per_x, per_y) = (i64::from(edge.per_x), i64::from(edge.per_y));
            let value = per_x * i64::from(left - edge.at.0) + per_y * i64::from(top - edge.at.1)
                - i64::from(edge.bias);
            let highest = value + (per_x.max(0) + per_y.max(0)) * reach;
            if highest < 0 {
                return None;
            }
            let lowest = value + (per_x.min(0) + per_y.min(0)) * reach;
            // An edge that the whole tile is inside of needs no test.
            if lowest < 0 {
                *edges_in_tile = TileEdge {
                    value: (value >> shift) as i32,
                    per_x: (per_x >> shift) as i32,
                    per_y: (per_y >> shift) as i32,
                };
            }
        }
        Some(result)
    }
}
