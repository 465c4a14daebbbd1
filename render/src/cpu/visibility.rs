//! Which triangle each sample of a view sees, on the CPU: of those that hold it the nearest, at equal depth the first.

use std::mem;
use std::ops::Range;

use glam::Mat4;
use wide::{f32x4, i32x4, u32x4};

use super::surface::Stage;
use crate::cpu::raster::{Canvas, FOUR_SAMPLES, Field, LANES, Meshlets, ONE_SAMPLE, Placed};
use crate::recipe::RenderRecipe;
use crate::simd::{Four, FourMatrices};

/// A sample that sees nothing.
pub(crate) const NOTHING: u32 = u32::MAX;

/// What the samples of some rows see, a cell beside the other. It is large, and worth keeping from mesh to mesh.
#[derive(Debug, Default)]
pub(crate) struct Samples {
    depths: Vec<[f32; LANES]>,
    triangles: Vec<[u32; LANES]>,
}

/// What some rows of a view see.
#[derive(Debug)]
pub(crate) struct Visibility {
    clip_from_object: Mat4,
    field: Field,
    placed: Placed,
    /// Pixels outside of them see nothing, and their samples are whatever was there before.
    columns: Range<u32>,
    rows: Range<u32>,
    samples: Samples,
}

impl Visibility {
    /// Of the pictures of a recipe, in these samples.
    pub(crate) fn new(recipe: &RenderRecipe, samples: Samples) -> Self {
        let pattern = if recipe.samples == 1 {
            ONE_SAMPLE
        } else {
            FOUR_SAMPLES
        };
        Self {
            clip_from_object: Mat4::IDENTITY,
            field: Field::new(pattern, [recipe.size_px; 2]),
            placed: Placed::default(),
            columns: 0..0,
            rows: 0..0,
            samples,
        }
    }

    /// The samples, for other pictures.
    pub(crate) fn take_samples(&mut self) -> Samples {
        mem::take(&mut self.samples)
    }

    /// Places a mesh in a view.
    pub(crate) fn place(&mut self, clip_from_object: &Mat4, meshlets: &Meshlets) {
        self.clip_from_object = *clip_from_object;
        self.placed.place(
            meshlets,
            self.field.size_px,
            in_pixels(clip_from_object, self.size_px()),
        );
        [self.columns, self.rows] = self.placed.pixels();
        self.columns = self.field.in_whole_cells(&self.columns);
    }

    fn size_px(&self) -> u32 {
        self.field.size_px[0]
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
    #[inline(always)]
    pub(crate) fn draw(&mut self, stage: &Stage<'_>, meshlets: &Meshlets, rows: Range<u32>) {
        self.samples.clear(&self.field, &rows, &self.columns);
        self.field.rows = rows;
        let place = in_pixels(&self.clip_from_object, self.size_px());
        let mut seen = Seen {
            depths: &mut self.samples.depths,
            triangles: &mut self.samples.triangles,
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
                .draw(meshlets, &self.placed, place, &mut looked_through);
        } else {
            self.field.draw(meshlets, &self.placed, place, &mut seen);
        }
    }

    /// How many samples a pixel has.
    pub(crate) fn num_samples(&self) -> usize {
        self.field.pattern.num_samples()
    }

    /// Which triangles the samples of a row see, a cell after the other, from the first pixel that may see something on. The
    /// last cell may reach beyond the picture.
    pub(crate) fn cells(&self, y: u32) -> &[[u32; LANES]] {
        let row = (y - self.field.rows.start) as usize * self.field.stride;
        let cells = self.field.cells_of(&self.columns);
        &self.samples.triangles[row + cells.start..row + cells.end]
    }

    /// The samples of each pixel of a row that may see something: their depths, and which triangles they see.
    pub(crate) fn row(&self, y: u32) -> impl Iterator<Item = (&[f32], &[u32])> {
        let num_samples = self.num_samples();
        let row = (y - self.field.rows.start) as usize * self.field.stride * LANES;
        let [first, end] = [self.columns.start, self.columns.end].map(|x| row + x as usize * num_samples);
        let depths = self.samples.depths.as_flattened()[first..end].chunks_exact(num_samples);
        depths.zip(self.samples.triangles.as_flattened()[first..end].chunks_exact(num_samples))
    }
}

impl Samples {
    /// Makes room for rows, of which these columns of pixels see nothing yet.
    fn clear(&mut self, field: &Field, rows: &Range<u32>, columns: &Range<u32>) {
        let num_cells = field.stride * rows.len();
        if self.depths.len() < num_cells {
            self.depths.resize(num_cells, [f32::INFINITY; LANES]);
            self.triangles.resize(num_cells, [NOTHING; LANES]);
        }
        let cells = field.cells_of(columns);
        for row in 0..rows.len() {
            let cells = row * field.stride + cells.start..row * field.stride + cells.end;
            self.depths[cells.clone()].fill([f32::INFINITY; LANES]);
            self.triangles[cells].fill([NOTHING; LANES]);
        }
    }
}

/// Where points are in a picture: in pixels from the top left, and their depths. Also how far before the eye they are.
fn in_pixels(clip_from_object: &Mat4, size_px: u32) -> impl Fn(&Four) -> (Four, f32x4) {
    let half = f32x4::splat(size_px as f32 / 2.0);
    let clip_from_object = FourMatrices::from(clip_from_object);
    move |points| {
        let (clip, w) = points.transform(&clip_from_object);
        let per_w = f32x4::ONE / w;
        let pixels = Four {
            x: half + clip.x * per_w * half,
            y: half - clip.y * per_w * half,
            z: clip.z * per_w,
        };
        (pixels, w)
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
    fn is_settled(&self, cells: Range<usize>, nearest: f32) -> bool {
        let nearest = f32x4::splat(nearest);
        self.depths[cells]
            .iter()
            .all(|depths| f32x4::from(*depths).simd_lt(nearest).all())
    }

    #[inline]
    fn draw(&mut self, cell: usize, outside: i32x4, depth: f32x4) {
        let (depths, triangles) = (&mut self.depths[cell], &mut self.triangles[cell]);
        let old = f32x4::from(*depths);
        let is_nearer: i32x4 = bytemuck::cast(depth.simd_lt(old));
        let is_equal: i32x4 = bytemuck::cast(depth.simd_eq(old));
        // No mesh has so many triangles that a number is negative here.
        let is_first =
            i32x4::splat(self.index as i32).simd_lt(i32x4::from(triangles.map(|index| index as i32)));
        // All bits of a lane that sees it.
        let wins = (is_nearer | is_equal & is_first) & !(outside >> 31_i32);
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

    fn is_settled(&self, cells: Range<usize>, nearest: f32) -> bool {
        self.seen.is_settled(cells, nearest)
    }

    fn draw(&mut self, cell: usize, outside: i32x4, depth: f32x4) {
        if !self.has_holes {
            return self.seen.draw(cell, outside, depth);
        }
        let is_not_farther = depth.simd_le(f32x4::from(self.seen.depths[cell])).to_bitmask();
        let mut outside = outside.to_array();
        for (lane, outside) in outside.iter_mut().enumerate() {
            let is_seen = *outside >= 0 && is_not_farther >> lane & 1 == 1;
            if is_seen && self.stage.is_hole(self.seen.index, self.field.center(cell, lane)) {
                *outside = -1;
            }
        }
        self.seen.draw(cell, i32x4::from(outside), depth);
    }
}

#[cfg(test)]
mod tests {
    use glam::Vec3;
    use proptest::prelude::*;

    use super::*;
    use crate::cpu::raster::Pattern;

    const SIDE_PX: u32 = 48;

    /// Draws all meshlets, whatever is there already.
    struct Everything<'a>(Seen<'a>);

    impl Canvas for Everything<'_> {
        fn begin(&mut self, index: u32) {
            self.0.begin(index);
        }

        fn draw(&mut self, cell: usize, outside: i32x4, depth: f32x4) {
            self.0.draw(cell, outside, depth);
        }
    }

    type Samples = (Vec<[f32; LANES]>, Vec<[u32; LANES]>);

    fn samples(pattern: Pattern, points: &[Vec3], triangles: &[[u32; 3]], leaves_out: bool) -> Samples {
        let meshlets = Meshlets::new(points, triangles);
        let place = |points: &Four| (*points, f32x4::ONE);
        let mut placed = Placed::default();
        placed.place(&meshlets, [SIDE_PX; 2], place);
        let field = Field::new(pattern, [SIDE_PX; 2]);
        let num_cells = field.stride * SIDE_PX as usize;
        let mut depths = vec![[f32::INFINITY; LANES]; num_cells];
        let mut numbers = vec![[NOTHING; LANES]; num_cells];
        let mut seen = Seen {
            depths: &mut depths,
            triangles: &mut numbers,
            index: 0,
        };
        if leaves_out {
            field.draw(&meshlets, &placed, place, &mut seen);
        } else {
            field.draw(&meshlets, &placed, place, &mut Everything(seen));
        }
        (depths, numbers)
    }

    proptest! {
        /// Sheets behind each other, some of them at one depth, in an order of chance.
        #[test]
        fn what_is_left_out_could_not_be_seen(
            pattern in prop_oneof![Just(ONE_SAMPLE), Just(FOUR_SAMPLES)],
            sheets in prop::collection::vec((0.0_f32..20.0, 0.0_f32..20.0, 0_u8..5, 1_u8..12), 2..9),
        ) {
            let (mut points, mut triangles) = (Vec::new(), Vec::new());
            for (left, top, depth, tilt) in sheets {
                let first = points.len() as u32;
                for i in 0..169_u8 {
                    let (x, y) = (f32::from(i % 13), f32::from(i / 13));
                    let z = 0.1 + 0.2 * f32::from(depth) + 1e-4 * f32::from(tilt / 4) * x;
                    points.push(Vec3::new(left + 2.3 * x, top + 2.1 * y, z));
                }
                triangles.extend((0..144).flat_map(|i| {
                    let corner = first + i / 12 * 13 + i % 12;
                    [[corner, corner + 1, corner + 13], [corner + 1, corner + 14, corner + 13]]
                }));
            }
            let all = samples(pattern, &points, &triangles, false);
            prop_assert_eq!(samples(pattern, &points, &triangles, true), all);
        }
    }
}
