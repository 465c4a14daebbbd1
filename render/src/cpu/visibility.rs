//! Visibility pass: the nearest triangle at each sample of a view; at equal depth the one with the lowest index.

use std::mem;
use std::ops::Range;

use glam::Mat4;
use wide::{f32x4, i32x4, u32x4};

use super::surface::ShadingContext;
use crate::cpu::raster::{
    FOUR_SAMPLES, LANES, Meshlets, ONE_SAMPLE, ProjectedMeshlets, RasterTarget, Viewport,
};
use crate::recipe::RenderRecipe;
use crate::simd::{SplatMat4, Vec3x4};

/// Visibility buffer entry of a sample that no triangle covers.
pub(crate) const NO_TRIANGLE: u32 = u32::MAX;

/// Depth and triangle index per sample for a band of rows, cell by cell. Large, so worth reusing between meshes.
#[derive(Debug, Default)]
pub(crate) struct VisibilityBuffer {
    depths: Vec<[f32; LANES]>,
    triangles: Vec<[u32; LANES]>,
}

/// The visibility of a band of rows of a view.
#[derive(Debug)]
pub(crate) struct VisibilityPass {
    clip_from_object: Mat4,
    viewport: Viewport,
    projected: ProjectedMeshlets,
    /// Pixels outside are uncovered, and their samples are stale.
    columns: Range<u32>,
    rows: Range<u32>,
    buffer: VisibilityBuffer,
}

impl VisibilityPass {
    /// For the views of a recipe, writing into `buffer`.
    pub(crate) fn new(recipe: &RenderRecipe, buffer: VisibilityBuffer) -> Self {
        let pattern = if recipe.samples == 1 {
            ONE_SAMPLE
        } else {
            FOUR_SAMPLES
        };
        Self {
            clip_from_object: Mat4::IDENTITY,
            viewport: Viewport::new(pattern, [recipe.size_px; 2]),
            projected: ProjectedMeshlets::default(),
            columns: 0..0,
            rows: 0..0,
            buffer,
        }
    }

    /// Takes the buffer back, for reuse.
    pub(crate) fn take_buffer(&mut self) -> VisibilityBuffer {
        mem::take(&mut self.buffer)
    }

    /// Projects a mesh's meshlets into a view.
    pub(crate) fn project(&mut self, clip_from_object: &Mat4, meshlets: &Meshlets) {
        self.clip_from_object = *clip_from_object;
        self.projected.project(
            meshlets,
            self.viewport.size_px,
            viewport_transform(clip_from_object, self.size_px()),
        );
        [self.columns, self.rows] = self.projected.pixels();
        self.columns = self.viewport.align_to_cells(&self.columns);
    }

    fn size_px(&self) -> u32 {
        self.viewport.size_px[0]
    }

    /// Columns of pixels that may be covered.
    pub(crate) fn columns(&self) -> Range<u32> {
        self.columns.clone()
    }

    /// Rows of pixels that may be covered.
    pub(crate) fn rows(&self) -> Range<u32> {
        self.rows.clone()
    }

    /// Rasterizes rows of the view that the mesh was projected into.
    #[inline(always)]
    pub(crate) fn draw(&mut self, context: &ShadingContext<'_>, meshlets: &Meshlets, rows: Range<u32>) {
        self.buffer.clear(&self.viewport, &rows, &self.columns);
        self.viewport.rows = rows;
        let project = viewport_transform(&self.clip_from_object, self.size_px());
        let mut depth_test = DepthTestTarget {
            depths: &mut self.buffer.depths,
            triangles: &mut self.buffer.triangles,
            index: 0,
        };
        if context.has_alpha_test() {
            let mut alpha_test_target = AlphaTestTarget {
                depth_test,
                context,
                viewport: &self.viewport,
                is_alpha_tested: false,
            };
            self.viewport
                .draw(meshlets, &self.projected, project, &mut alpha_test_target);
        } else {
            self.viewport
                .draw(meshlets, &self.projected, project, &mut depth_test);
        }
        if context.has_earlier() {
            self.show_first_coplanar(context);
        }
    }

    /// Where faces of one plane overlap, the depth test has no say: the first in the file is visible.
    fn show_first_coplanar(&mut self, context: &ShadingContext<'_>) {
        let stride = self.viewport.stride;
        let columns = self.viewport.cells_of(&self.columns);
        for row in 0..self.viewport.rows.len() {
            for cell in row * stride + columns.start..row * stride + columns.end {
                for lane in 0..LANES {
                    let triangle = &mut self.buffer.triangles[cell][lane];
                    if *triangle != NO_TRIANGLE {
                        let [sample, center] =
                            [self.viewport.sample(cell, lane), self.viewport.center(cell, lane)];
                        *triangle = context.first_coplanar(*triangle, sample, center);
                    }
                }
            }
        }
    }

    /// Samples per pixel.
    pub(crate) fn num_samples(&self) -> usize {
        self.viewport.pattern.num_samples()
    }

    /// Triangle indices of a row's samples, by cell, from the first column of [`Self::columns`]. The last cell may
    /// extend beyond the image.
    pub(crate) fn cells(&self, y: u32) -> &[[u32; LANES]] {
        let row = (y - self.viewport.rows.start) as usize * self.viewport.stride;
        let cells = self.viewport.cells_of(&self.columns);
        &self.buffer.triangles[row + cells.start..row + cells.end]
    }

    /// Depths and triangle indices of each pixel of a row, over [`Self::columns`].
    pub(crate) fn row(&self, y: u32) -> impl Iterator<Item = (&[f32], &[u32])> {
        let num_samples = self.num_samples();
        let row = (y - self.viewport.rows.start) as usize * self.viewport.stride * LANES;
        let [first, end] = [self.columns.start, self.columns.end].map(|x| row + x as usize * num_samples);
        let depths = self.buffer.depths.as_flattened()[first..end].chunks_exact(num_samples);
        depths.zip(self.buffer.triangles.as_flattened()[first..end].chunks_exact(num_samples))
    }
}

impl VisibilityBuffer {
    /// Resizes for a number of rows and clears the given columns.
    fn clear(&mut self, viewport: &Viewport, rows: &Range<u32>, columns: &Range<u32>) {
        let num_cells = viewport.stride * rows.len();
        if self.depths.len() < num_cells {
            self.depths.resize(num_cells, [f32::INFINITY; LANES]);
            self.triangles.resize(num_cells, [NO_TRIANGLE; LANES]);
        }
        let cells = viewport.cells_of(columns);
        for row in 0..rows.len() {
            let cells = row * viewport.stride + cells.start..row * viewport.stride + cells.end;
            self.depths[cells.clone()].fill([f32::INFINITY; LANES]);
            self.triangles[cells].fill([NO_TRIANGLE; LANES]);
        }
    }
}

/// Projects points to pixels from the top left, with depth as z; the second result is w, positive in front of the eye.
fn viewport_transform(clip_from_object: &Mat4, size_px: u32) -> impl Fn(&Vec3x4) -> (Vec3x4, f32x4) {
    let half = f32x4::splat(size_px as f32 / 2.0);
    let clip_from_object = SplatMat4::from(clip_from_object);
    move |points| {
        let (clip, w) = points.transform(&clip_from_object);
        let inv_w = f32x4::ONE / w;
        let pixels = Vec3x4 {
            x: half + clip.x * inv_w * half,
            y: half - clip.y * inv_w * half,
            z: clip.z * inv_w,
        };
        (pixels, w)
    }
}

/// Visibility buffer with a depth test.
struct DepthTestTarget<'a> {
    depths: &'a mut [[f32; LANES]],
    triangles: &'a mut [[u32; LANES]],
    index: u32,
}

impl RasterTarget for DepthTestTarget<'_> {
    #[inline]
    fn begin_triangle(&mut self, index: u32) {
        self.index = index;
    }

    #[inline]
    fn is_occluded(&self, cells: Range<usize>, nearest: f32) -> bool {
        let nearest = f32x4::splat(nearest);
        self.depths[cells]
            .iter()
            .all(|depths| f32x4::from(*depths).simd_lt(nearest).all())
    }

    #[inline]
    fn write(&mut self, cell: usize, outside: i32x4, depth: f32x4) {
        let (depths, triangles) = (&mut self.depths[cell], &mut self.triangles[cell]);
        let old = f32x4::from(*depths);
        let is_nearer: i32x4 = bytemuck::cast(depth.simd_lt(old));
        let is_equal: i32x4 = bytemuck::cast(depth.simd_eq(old));
        // Triangle indices are below 2^31: comparing them as signed integers is safe.
        let is_first =
            i32x4::splat(self.index as i32).simd_lt(i32x4::from(triangles.map(|index| index as i32)));
        // All bits set in lanes that pass.
        let wins = (is_nearer | is_equal & is_first) & !(outside >> 31_i32);
        *depths = bytemuck::cast::<_, f32x4>(wins).bitselect(depth, old).to_array();
        *triangles = bytemuck::cast::<_, u32x4>(wins)
            .bitselect(u32x4::splat(self.index), u32x4::from(*triangles))
            .to_array();
    }
}

/// Depth test plus alpha test; alpha is evaluated at the pixel's center.
struct AlphaTestTarget<'a> {
    depth_test: DepthTestTarget<'a>,
    context: &'a ShadingContext<'a>,
    viewport: &'a Viewport,
    is_alpha_tested: bool,
}

impl RasterTarget for AlphaTestTarget<'_> {
    fn begin_triangle(&mut self, index: u32) {
        self.depth_test.begin_triangle(index);
        self.is_alpha_tested = self.context.is_alpha_tested(index);
    }

    fn is_occluded(&self, cells: Range<usize>, nearest: f32) -> bool {
        self.depth_test.is_occluded(cells, nearest)
    }

    fn write(&mut self, cell: usize, outside: i32x4, depth: f32x4) {
        if !self.is_alpha_tested {
            return self.depth_test.write(cell, outside, depth);
        }
        let passes_depth_test = depth
            .simd_le(f32x4::from(self.depth_test.depths[cell]))
            .to_bitmask();
        let mut outside = outside.to_array();
        for (lane, outside) in outside.iter_mut().enumerate() {
            let passes_depth = *outside >= 0 && passes_depth_test >> lane & 1 == 1;
            if passes_depth
                && self
                    .context
                    .fails_alpha_test(self.depth_test.index, self.viewport.center(cell, lane))
            {
                *outside = -1;
            }
        }
        self.depth_test.write(cell, i32x4::from(outside), depth);
    }
}

#[cfg(test)]
mod tests {
    use glam::Vec3;
    use proptest::prelude::*;

    use super::*;
    use crate::cpu::raster::SamplePattern;

    const SIDE_PX: u32 = 48;

    /// Draws all meshlets, without occlusion culling.
    struct NoOcclusion<'a>(DepthTestTarget<'a>);

    impl RasterTarget for NoOcclusion<'_> {
        fn begin_triangle(&mut self, index: u32) {
            self.0.begin_triangle(index);
        }

        fn write(&mut self, cell: usize, outside: i32x4, depth: f32x4) {
            self.0.write(cell, outside, depth);
        }
    }

    type VisibilityBuffer = (Vec<[f32; LANES]>, Vec<[u32; LANES]>);

    fn buffer(
        pattern: SamplePattern,
        points: &[Vec3],
        triangles: &[[u32; 3]],
        uses_occlusion: bool,
    ) -> VisibilityBuffer {
        let meshlets = Meshlets::new(points, triangles);
        let project = |points: &Vec3x4| (*points, f32x4::ONE);
        let mut projected = ProjectedMeshlets::default();
        projected.project(&meshlets, [SIDE_PX; 2], project);
        let viewport = Viewport::new(pattern, [SIDE_PX; 2]);
        let num_cells = viewport.stride * SIDE_PX as usize;
        let mut depths = vec![[f32::INFINITY; LANES]; num_cells];
        let mut numbers = vec![[NO_TRIANGLE; LANES]; num_cells];
        let mut depth_test = DepthTestTarget {
            depths: &mut depths,
            triangles: &mut numbers,
            index: 0,
        };
        if uses_occlusion {
            viewport.draw(&meshlets, &projected, project, &mut depth_test);
        } else {
            viewport.draw(&meshlets, &projected, project, &mut NoOcclusion(depth_test));
        }
        (depths, numbers)
    }

    proptest! {
        /// Sheets behind each other, some at equal depth, in random order.
        #[test]
        fn occlusion_culling_changes_nothing(
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
            let all = buffer(pattern, &points, &triangles, false);
            prop_assert_eq!(buffer(pattern, &points, &triangles, true), all);
        }
    }
}
