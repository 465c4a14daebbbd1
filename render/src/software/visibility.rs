//! Which triangle each sample of a view sees, on the CPU: of those that hold it the nearest, at equal depth the first.

use std::ops::Range;

use glam::Mat4;
use wide::{f32x4, i32x4, u32x4};

use crate::four::Four;
use crate::raster::{Canvas, FOUR_SAMPLES, Field, LANES, ONE_SAMPLE, Placed};
use crate::recipe::RenderRecipe;
use crate::scene::Scene;
use crate::shade::Stage;

/// A sample that sees nothing.
pub(crate) const NOTHING: u32 = u32::MAX;

/// What some rows of a view see.
#[derive(Debug)]
pub(crate) struct Visibility {
    size_px: u32,
    field: Field,
    placed: Placed,
    /// Pixels outside of them see nothing.
    columns: Range<u32>,
    rows: Range<u32>,
    depths: Vec<[f32; LANES]>,
    triangles: Vec<[u32; LANES]>,
}

impl Visibility {
    /// Of the pictures of a recipe.
    pub(crate) fn new(recipe: &RenderRecipe) -> Self {
        let size_px = recipe.size_px;
        let pattern = if recipe.samples == 1 {
            ONE_SAMPLE
        } else {
            FOUR_SAMPLES
        };
        Self {
            size_px,
            field: Field {
                pattern,
                rows: 0..0,
                stride: (size_px as usize * pattern.num_samples()).div_ceil(LANES),
            },
            placed: Placed::default(),
            columns: 0..0,
            rows: 0..0,
            depths: Vec::new(),
            triangles: Vec::new(),
        }
    }

    /// Places the points of a scene in a view.
    pub(crate) fn place(&mut self, clip_from_object: &Mat4, scene: &Scene) {
        let half = f32x4::splat(self.size_px as f32 / 2.0);
        let in_pixels = |points: Four| {
            let (clip, w) = points.transform(clip_from_object);
            let per_w = f32x4::ONE / w;
            Four {
                x: half + clip.x * per_w * half,
                y: half - clip.y * per_w * half,
                z: clip.z * per_w,
            }
        };
        let points = Four::of_points(&scene.points).map(in_pixels);
        self.placed.place(points, [self.size_px; 2], self.field.pattern);
        [self.columns, self.rows] = self.placed.pixels(self.field.pattern);
    }

    /// Pixels that may see something: the others see nothing.
    pub(crate) fn columns(&self) -> Range<u32> {
        self.columns.clone()
    }

    /// Rows of pixels that may see something.
    pub(crate) fn rows(&self) -> Range<u32> {
        self.rows.clone()
    }

    /// Draws rows of a view whose points are placed.
    pub(crate) fn draw(&mut self, stage: &Stage<'_>, rows: Range<u32>) {
        let num_cells = self.field.stride * rows.len();
        self.field.rows = rows;
        self.depths.clear();
        self.depths.resize(num_cells, [f32::INFINITY; LANES]);
        self.triangles.clear();
        self.triangles.resize(num_cells, [NOTHING; LANES]);
        let mut seen = Seen {
            depths: &mut self.depths,
            triangles: &mut self.triangles,
            index: 0,
        };
        if stage.has_cutout() {
            let mut looked_through = LookedThrough {
                seen,
                stage,
                field: &self.field,
                has_holes: false,
            };
            self.field
                .draw(&self.placed, stage.triangles(), &mut looked_through);
        } else {
            self.field.draw(&self.placed, stage.triangles(), &mut seen);
        }
    }

    /// The samples of a pixel: their depths, and which triangles they see.
    pub(crate) fn pixel(&self, x: u32, y: u32) -> (&[f32], &[u32]) {
        let num_samples = self.field.pattern.num_samples();
        let row = (y - self.field.rows.start) as usize * self.field.stride * LANES;
        let first = row + x as usize * num_samples;
        let range = first..first + num_samples;
        (
            &self.depths.as_flattened()[range.clone()],
            &self.triangles.as_flattened()[range],
        )
    }
}

/// A triangle among what is seen.
struct Seen<'a> {
    depths: &'a mut [[f32; LANES]],
    triangles: &'a mut [[u32; LANES]],
    index: u32,
}

impl Canvas for Seen<'_> {
    #[inline]
    fn begin(&mut self, index: u32) {
        self.index = index;
    }

    #[inline]
    fn draw(&mut self, cell: usize, outside: i32x4, depth: f32x4) {
        let (depths, triangles) = (&mut self.depths[cell], &mut self.triangles[cell]);
        let old = f32x4::from(*depths);
        let is_nearer: i32x4 = bytemuck::cast(depth.simd_lt(old));
        // All bits of a lane that sees it.
        let wins = is_nearer & !(outside >> 31_i32);
        *depths = bytemuck::cast::<_, f32x4>(wins).bitselect(depth, old).to_array();
        *triangles = bytemuck::cast::<_, u32x4>(wins)
            .bitselect(u32x4::splat(self.index), u32x4::from(*triangles))
            .to_array();
    }
}

/// A triangle that may have holes, which the centres of the pixels decide.
struct LookedThrough<'a> {
    seen: Seen<'a>,
    stage: &'a Stage<'a>,
    field: &'a Field,
    has_holes: bool,
}

impl Canvas for LookedThrough<'_> {
    fn begin(&mut self, index: u32) {
        self.seen.begin(index);
        self.has_holes = self.stage.has_holes(index);
    }

    fn draw(&mut self, cell: usize, outside: i32x4, depth: f32x4) {
        if !self.has_holes {
            return self.seen.draw(cell, outside, depth);
        }
        let is_nearer = depth.simd_lt(f32x4::from(self.seen.depths[cell])).to_bitmask();
        let mut outside = outside.to_array();
        for (lane, outside) in outside.iter_mut().enumerate() {
            let is_seen = *outside >= 0 && is_nearer >> lane & 1 == 1;
            if is_seen && self.stage.is_hole(self.seen.index, self.field.center(cell, lane)) {
                *outside = -1;
            }
        }
        self.seen.draw(cell, i32x4::from(outside), depth);
    }
}
