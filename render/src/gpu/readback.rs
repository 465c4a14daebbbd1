//! From the device's bytes to pixels: how the planes of all views lie in the buffer that is read back, and what they mean.

use tap_shaders::unfold_normal;

use super::pipeline_key::{Plane, TargetPlan};
use super::target::Tiling;
use crate::camera::Pose;
use crate::camera::ViewMatrices;
use crate::lighting::BRIGHTEST_COVERED;
use crate::view::{ColorImage, ColorKind, Mask, NO_LABEL, View};

/// Where the planes of an atlas lie: each as the device holds it, one after the other, all of one atlas before the next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Layout {
    plan: TargetPlan,
    tiling: Tiling,
    /// Where each begins, and how many bytes a row of it has.
    planes: Vec<(Plane, u64, u32)>,
    atlas_bytes: u64,
    num_views: usize,
    background: [u8; 3],
}

impl Layout {
    pub(super) fn new(plan: TargetPlan, tiling: Tiling, num_views: usize, background: [u8; 3]) -> Self {
        let extent = tiling.extent();
        let mut atlas_bytes = 0;
        let planes = plan.planes().map(|plane| {
            let row_bytes = (extent.width * plane.bytes_per_pixel(plan))
                .next_multiple_of(wgpu::COPY_BYTES_PER_ROW_ALIGNMENT);
            let first_byte = atlas_bytes;
            atlas_bytes += u64::from(row_bytes) * u64::from(extent.height);
            (plane, first_byte, row_bytes)
        });
        let planes = planes.collect();
        Self {
            plan,
            tiling,
            planes,
            atlas_bytes,
            num_views,
            background,
        }
    }

    /// Of all atlases.
    pub(super) fn num_bytes(&self) -> u64 {
        self.num_views.div_ceil(self.tiling.num_tiles()) as u64 * self.atlas_bytes
    }

    /// Where a plane of an atlas goes.
    pub(super) fn place(&self, atlas_idx: usize, plane: Plane) -> Option<wgpu::TexelCopyBufferLayout> {
        let (_, first_byte, row_bytes) = self.planes.iter().find(|(other, ..)| *other == plane)?;
        Some(wgpu::TexelCopyBufferLayout {
            offset: atlas_idx as u64 * self.atlas_bytes + first_byte,
            bytes_per_row: Some(*row_bytes),
            rows_per_image: None,
        })
    }

    /// Makes a view of the bytes of all.
    pub(super) fn decode(&self, bytes: &[u8], view_idx: usize, pose: Pose, matrices: ViewMatrices) -> View {
        let TargetPlan {
            channels,
            color_kind,
            is_painted,
            ..
        } = self.plan;
        let (color, covered) = match color_kind {
            ColorKind::Gray if is_painted => {
                let [background, ..] = self.background;
                let is_covered = |gray| gray <= BRIGHTEST_COVERED;
                let shown = |[gray]: [u8; 1]| if is_covered(gray) { gray } else { background };
                let gray = self.pixels(bytes, view_idx, Plane::Color, shown);
                let covered = self.pixels(bytes, view_idx, Plane::Color, |[gray]| is_covered(gray));
                (ColorImage::Gray(gray), covered)
            }
            ColorKind::Gray => {
                let gray = self.pixels(bytes, view_idx, Plane::Color, |[gray, cover]| shown(gray, cover));
                let covered = self.pixels(bytes, view_idx, Plane::Color, |[_, cover]| cover != 0);
                (ColorImage::Gray(gray), covered)
            }
            ColorKind::Rgb => {
                let rgb = |[r, g, b, cover]: [u8; 4]| [r, g, b].map(|part| shown(part, cover));
                let rgb = self.pixels(bytes, view_idx, Plane::Color, rgb);
                let covered = self.pixels(bytes, view_idx, Plane::Color, |[_, _, _, cover]| cover != 0);
                (ColorImage::Rgb(rgb), covered)
            }
        };
        let words = |plane| {
            let words = self.pixels::<4, _>(bytes, view_idx, plane, |word| word);
            words
                .into_iter()
                .zip(&covered)
                .map(|(word, covered)| covered.then_some(word))
        };
        let labels = |shift: u32| {
            let of_word = |word: Option<[u8; 4]>| {
                word.map_or(NO_LABEL, |word| (u32::from_le_bytes(word) >> shift) as u16)
            };
            words(Plane::Labels).map(of_word).collect()
        };
        let size_px = self.tiling.size_px;
        View {
            pose,
            matrices,
            size_px,
            color: channels.color.then_some(color),
            depth: channels.depth.then(|| {
                let depth = |word: Option<[u8; 4]>| word.map_or(f32::INFINITY, f32::from_le_bytes);
                words(Plane::Depth).map(depth).collect()
            }),
            normal: channels.normal.then(|| {
                let normal = |word: Option<_>| {
                    word.map_or([0.0; 3], |word| {
                        unfold_normal(u32::from_le_bytes(word)).to_array()
                    })
                };
                words(Plane::Normal).map(normal).collect()
            }),
            albedo: channels.albedo.then(|| {
                let rgb = |word: Option<[u8; 4]>| word.map_or([0; 3], |[r, g, b, _]| [r, g, b]);
                words(Plane::Albedo).map(rgb).collect()
            }),
            part: channels.part.then(|| labels(0)),
            material: channels.material.then(|| labels(16)),
            mask: channels
                .mask
                .then(|| Mask::try_new(size_px, covered).expect("there are size_px squared colors")),
        }
    }

    /// The pixels of a view, row by row; none if the plane is not read back.
    fn pixels<const N: usize, T>(
        &self,
        bytes: &[u8],
        view_idx: usize,
        plane: Plane,
        make: impl Fn([u8; N]) -> T,
    ) -> Vec<T> {
        let num_tiles = self.tiling.num_tiles();
        let Some(place) = self.place(view_idx / num_tiles, plane) else {
            return Vec::new();
        };
        let size_px = self.tiling.size_px as usize;
        let origin_px = self.tiling.origin_px(view_idx % num_tiles);
        let row_bytes = place.bytes_per_row.unwrap_or_default() as usize;
        let first = place.offset as usize + origin_px.y as usize * row_bytes + origin_px.x as usize * N;
        let mut pixels = Vec::with_capacity(size_px * size_px);
        for row in 0..size_px {
            let row = &bytes[first + row * row_bytes..][..size_px * N];
            pixels.extend(row.as_chunks::<N>().0.iter().map(|pixel| make(*pixel)));
        }
        pixels
    }
}

/// A covered pixel is not white, be it mixed with the background.
fn shown(part: u8, cover: u8) -> u8 {
    if cover == 0 {
        part
    } else {
        part.min(BRIGHTEST_COVERED)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use glam::{Mat4, Vec3};

    use super::*;
    use crate::recipe::Channels;

    const MATRICES: ViewMatrices = ViewMatrices {
        view_from_object: Mat4::IDENTITY,
        clip_from_view: Mat4::IDENTITY,
    };
    /// The middle of the octahedral square is +z.
    const AHEAD: u32 = 32767 | 32767 << 16;

    fn layout(channels: Channels, color_kind: ColorKind, num_views: usize) -> Layout {
        let plan = TargetPlan {
            samples: 1,
            channels,
            color_kind,
            is_painted: false,
        };
        Layout::new(plan, Tiling::new(2, 3), num_views, [255; 3])
    }

    /// Fills a pixel of a plane.
    fn put(layout: &Layout, bytes: &mut [u8], plane: Plane, [x, y]: [usize; 2], pixel: &[u8]) {
        let place = layout.place(0, plane).unwrap();
        let first = place.offset as usize + y * place.bytes_per_row.unwrap() as usize + x * pixel.len();
        bytes[first..][..pixel.len()].copy_from_slice(pixel);
    }

    #[test]
    fn planes_lie_behind_each_other_and_rows_are_aligned() {
        let channels = Channels {
            depth: true,
            part: true,
            ..Channels::NONE
        };
        let layout = layout(channels, ColorKind::Gray, 4);
        let place = |atlas_idx, plane| {
            let place = layout.place(atlas_idx, plane)?;
            Some((place.offset, place.bytes_per_row?))
        };
        // Three tiles are one column of six rows.
        assert_eq!(place(0, Plane::Color), Some((0, 256)));
        assert_eq!(place(0, Plane::Depth), Some((6 * 256, 256)));
        assert_eq!(place(0, Plane::Labels), Some((12 * 256, 256)));
        assert_eq!(place(1, Plane::Color), Some((18 * 256, 256)));
        assert_eq!(place(0, Plane::Albedo), None);
        assert_eq!(
            layout.num_bytes(),
            36 * 256,
            "the fourth view has an atlas of its own"
        );
    }

    #[test]
    fn bytes_become_the_channels_that_were_asked_for() {
        let layout = layout(Channels::ALL, ColorKind::Rgb, 3);
        let mut bytes = vec![0; layout.num_bytes() as usize];
        // The second view's upper right pixel is covered, the one below it holds what nobody cleared.
        for (y, cover) in [(2, 64), (3, 0)] {
            for (plane, pixel) in [
                (Plane::Color, [10, 20, 255, cover]),
                (Plane::Depth, 1.5_f32.to_le_bytes()),
                (Plane::Normal, AHEAD.to_le_bytes()),
                (Plane::Albedo, [1, 2, 3, 255]),
                (Plane::Labels, (5_u32 | 7 << 16).to_le_bytes()),
            ] {
                put(&layout, &mut bytes, plane, [1, y], &pixel);
            }
        }
        let view = layout.decode(&bytes, 1, Pose::default(), MATRICES);
        assert_eq!(
            view.color.unwrap().to_rgb(),
            [[0; 3], [10, 20, BRIGHTEST_COVERED], [0; 3], [10, 20, 255]]
        );
        assert_eq!(view.mask.unwrap().covered(), [false, true, false, false]);
        assert_eq!(
            view.depth.unwrap(),
            [f32::INFINITY, 1.5, f32::INFINITY, f32::INFINITY]
        );
        let normals = view.normal.unwrap();
        assert_eq!(Vec3::from(normals[1]), Vec3::Z);
        assert_eq!(Vec3::from(normals[3]), Vec3::ZERO);
        assert_eq!(view.albedo.unwrap(), [[0; 3], [1, 2, 3], [0; 3], [0; 3]]);
        assert_eq!(view.part.unwrap(), [NO_LABEL, 5, NO_LABEL, NO_LABEL]);
        assert_eq!(view.material.unwrap(), [NO_LABEL, 7, NO_LABEL, NO_LABEL]);
    }

    #[test]
    fn gray_is_two_bytes_and_what_is_not_asked_for_is_not_there() {
        let only_mask = Channels {
            mask: true,
            ..Channels::NONE
        };
        let layout = layout(only_mask, ColorKind::Gray, 1);
        let mut bytes = vec![0; layout.num_bytes() as usize];
        put(&layout, &mut bytes, Plane::Color, [0, 1], &[90, 255]);
        let view = layout.decode(&bytes, 0, Pose::default(), MATRICES);
        assert_eq!(view.mask.unwrap().covered(), [false, false, true, false]);
        assert_eq!((view.color, view.depth, view.part), (None, None, None));
    }

    #[test]
    fn painted_gray_is_one_byte_and_white_where_nothing_covers() {
        let plan = TargetPlan {
            samples: 1,
            channels: Channels {
                color: true,
                mask: true,
                ..Channels::NONE
            },
            color_kind: ColorKind::Gray,
            is_painted: true,
        };
        let layout = Layout::new(plan, Tiling::new(2, 1), 1, [40; 3]);
        let mut bytes = vec![255; layout.num_bytes() as usize];
        put(&layout, &mut bytes, Plane::Color, [1, 0], &[BRIGHTEST_COVERED]);
        let view = layout.decode(&bytes, 0, Pose::default(), MATRICES);
        assert_eq!(
            view.color,
            Some(ColorImage::Gray(vec![40, BRIGHTEST_COVERED, 40, 40]))
        );
        assert_eq!(view.mask.unwrap().covered(), [false, true, false, false]);
    }
}
