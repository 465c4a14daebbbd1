//! Layout of the readback buffer, and its decoding to views.

use tap_shaders::decode_octahedral;

use super::pipeline_key::{Attachment, TargetKey};
use super::target::Atlas;
use crate::camera::{Pose, ViewMatrices};
use crate::lighting::{BRIGHTEST_COVERED, ColorKind};
use crate::view::{ColorImage, Mask, NO_LABEL, View};

/// Attachments follow each other, with padded rows; atlases follow each other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ReadbackLayout {
    key: TargetKey,
    atlas: Atlas,
    /// Attachment, offset in the atlas and bytes per row.
    attachments: Vec<(Attachment, u64, u32)>,
    atlas_bytes: u64,
    num_views: usize,
    background: [u8; 3],
}

impl ReadbackLayout {
    pub(super) fn new(key: TargetKey, atlas: Atlas, num_views: usize, background: [u8; 3]) -> Self {
        let extent = atlas.extent();
        let mut atlas_bytes = 0;
        let attachments = key.attachments().map(|attachment| {
            let row_bytes = (extent.width * attachment.bytes_per_pixel(key))
                .next_multiple_of(wgpu::COPY_BYTES_PER_ROW_ALIGNMENT);
            let first_byte = atlas_bytes;
            atlas_bytes += u64::from(row_bytes) * u64::from(extent.height);
            (attachment, first_byte, row_bytes)
        });
        let attachments = attachments.collect();
        Self {
            key,
            atlas,
            attachments,
            atlas_bytes,
            num_views,
            background,
        }
    }

    /// Of all atlases.
    pub(super) fn num_bytes(&self) -> u64 {
        self.num_views.div_ceil(self.atlas.num_tiles()) as u64 * self.atlas_bytes
    }

    /// Destination of an attachment's copy.
    pub(super) fn copy_layout(
        &self,
        atlas_idx: usize,
        attachment: Attachment,
    ) -> Option<wgpu::TexelCopyBufferLayout> {
        let (_, first_byte, row_bytes) = self.attachments.iter().find(|(other, ..)| *other == attachment)?;
        Some(wgpu::TexelCopyBufferLayout {
            offset: atlas_idx as u64 * self.atlas_bytes + first_byte,
            bytes_per_row: Some(*row_bytes),
            rows_per_image: None,
        })
    }

    /// Decodes a view from the bytes of all atlases.
    pub(super) fn decode(&self, bytes: &[u8], view_idx: usize, pose: Pose, matrices: ViewMatrices) -> View {
        let TargetKey {
            channels,
            color_kind,
            is_forward,
            ..
        } = self.key;
        let (color, covered) = match color_kind {
            ColorKind::Gray if is_forward => {
                let [background, ..] = self.background;
                let is_covered = |gray| gray <= BRIGHTEST_COVERED;
                let clamp_covered = |[gray]: [u8; 1]| if is_covered(gray) { gray } else { background };
                let gray = self.pixels(bytes, view_idx, Attachment::Color, clamp_covered);
                let covered = self.pixels(bytes, view_idx, Attachment::Color, |[gray]| is_covered(gray));
                (ColorImage::Gray(gray), covered)
            }
            ColorKind::Gray => {
                let gray = self.pixels(bytes, view_idx, Attachment::Color, |[gray, coverage]| {
                    clamp_covered(gray, coverage)
                });
                let covered = self.pixels(bytes, view_idx, Attachment::Color, |[_, coverage]| coverage != 0);
                (ColorImage::Gray(gray), covered)
            }
            ColorKind::Rgb => {
                let rgb = |[r, g, b, coverage]: [u8; 4]| [r, g, b].map(|part| clamp_covered(part, coverage));
                let rgb = self.pixels(bytes, view_idx, Attachment::Color, rgb);
                let covered = self.pixels(bytes, view_idx, Attachment::Color, |[_, _, _, coverage]| {
                    coverage != 0
                });
                (ColorImage::Rgb(rgb), covered)
            }
        };
        let texel_words = |attachment| {
            let texel_words = self.pixels::<4, _>(bytes, view_idx, attachment, |word| word);
            texel_words
                .into_iter()
                .zip(&covered)
                .map(|(word, covered)| covered.then_some(word))
        };
        let labels = |shift: u32| {
            let of_word = |word: Option<[u8; 4]>| {
                word.map_or(NO_LABEL, |word| (u32::from_le_bytes(word) >> shift) as u16)
            };
            texel_words(Attachment::Labels).map(of_word).collect()
        };
        let size_px = self.atlas.size_px;
        View {
            pose,
            matrices,
            size_px,
            color: channels.color.then_some(color),
            depth: channels.depth.then(|| {
                let depth = |word: Option<[u8; 4]>| word.map_or(f32::INFINITY, f32::from_le_bytes);
                texel_words(Attachment::Depth).map(depth).collect()
            }),
            normal: channels.normal.then(|| {
                let normal = |word: Option<_>| {
                    word.map_or([0.0; 3], |word| {
                        decode_octahedral(u32::from_le_bytes(word)).to_array()
                    })
                };
                texel_words(Attachment::Normal).map(normal).collect()
            }),
            albedo: channels.albedo.then(|| {
                let rgb = |word: Option<[u8; 4]>| word.map_or([0; 3], |[r, g, b, _]| [r, g, b]);
                texel_words(Attachment::Albedo).map(rgb).collect()
            }),
            part: channels.part.then(|| labels(0)),
            material: channels.material.then(|| labels(16)),
            mask: channels
                .mask
                .then(|| Mask::try_new(size_px, covered).expect("there are size_px squared colors")),
        }
    }

    /// Pixels of a view, row by row; empty if the attachment is not read back.
    fn pixels<const N: usize, T>(
        &self,
        bytes: &[u8],
        view_idx: usize,
        attachment: Attachment,
        make: impl Fn([u8; N]) -> T,
    ) -> Vec<T> {
        let num_tiles = self.atlas.num_tiles();
        let Some(copy_layout) = self.copy_layout(view_idx / num_tiles, attachment) else {
            return Vec::new();
        };
        let size_px = self.atlas.size_px as usize;
        let origin_px = self.atlas.origin_px(view_idx % num_tiles);
        let row_bytes = copy_layout.bytes_per_row.unwrap_or_default() as usize;
        let first = copy_layout.offset as usize + origin_px.y as usize * row_bytes + origin_px.x as usize * N;
        let mut pixels = Vec::with_capacity(size_px * size_px);
        for row in 0..size_px {
            let row = &bytes[first + row * row_bytes..][..size_px * N];
            pixels.extend(row.as_chunks::<N>().0.iter().map(|pixel| make(*pixel)));
        }
        pixels
    }
}

/// A covered pixel is not white, even where it is blended with the background.
fn clamp_covered(part: u8, coverage: u8) -> u8 {
    if coverage == 0 {
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
    /// The center of the octahedral square is +z.
    const FACING_VIEWER: u32 = 32767 | 32767 << 16;

    fn layout(channels: Channels, color_kind: ColorKind, num_views: usize) -> ReadbackLayout {
        let key = TargetKey {
            samples: 1,
            channels,
            color_kind,
            is_forward: false,
        };
        ReadbackLayout::new(key, Atlas::new(2, 3), num_views, [255; 3])
    }

    /// Writes one pixel of an attachment.
    fn write_pixel(
        layout: &ReadbackLayout,
        bytes: &mut [u8],
        attachment: Attachment,
        [x, y]: [usize; 2],
        pixel: &[u8],
    ) {
        let copy_layout = layout.copy_layout(0, attachment).unwrap();
        let first =
            copy_layout.offset as usize + y * copy_layout.bytes_per_row.unwrap() as usize + x * pixel.len();
        bytes[first..][..pixel.len()].copy_from_slice(pixel);
    }

    #[test]
    fn attachments_are_consecutive_and_rows_aligned() {
        let channels = Channels {
            depth: true,
            part: true,
            ..Channels::NONE
        };
        let layout = layout(channels, ColorKind::Gray, 4);
        let copy_layout = |atlas_idx, attachment| {
            let copy_layout = layout.copy_layout(atlas_idx, attachment)?;
            Some((copy_layout.offset, copy_layout.bytes_per_row?))
        };
        // Three tiles are one column of six rows.
        assert_eq!(copy_layout(0, Attachment::Color), Some((0, 256)));
        assert_eq!(copy_layout(0, Attachment::Depth), Some((6 * 256, 256)));
        assert_eq!(copy_layout(0, Attachment::Labels), Some((12 * 256, 256)));
        assert_eq!(copy_layout(1, Attachment::Color), Some((18 * 256, 256)));
        assert_eq!(copy_layout(0, Attachment::Albedo), None);
        assert_eq!(
            layout.num_bytes(),
            36 * 256,
            "the fourth view has an atlas of its own"
        );
    }

    #[test]
    fn requested_channels_are_decoded() {
        let layout = layout(Channels::ALL, ColorKind::Rgb, 3);
        let mut bytes = vec![0; layout.num_bytes() as usize];
        // The second view's upper right pixel is covered; the one below it is uncovered and holds stale data.
        for (y, coverage) in [(2, 64), (3, 0)] {
            for (attachment, pixel) in [
                (Attachment::Color, [10, 20, 255, coverage]),
                (Attachment::Depth, 1.5_f32.to_le_bytes()),
                (Attachment::Normal, FACING_VIEWER.to_le_bytes()),
                (Attachment::Albedo, [1, 2, 3, 255]),
                (Attachment::Labels, (5_u32 | 7 << 16).to_le_bytes()),
            ] {
                write_pixel(&layout, &mut bytes, attachment, [1, y], &pixel);
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
    fn gray_is_two_bytes_and_other_channels_are_absent() {
        let only_mask = Channels {
            mask: true,
            ..Channels::NONE
        };
        let layout = layout(only_mask, ColorKind::Gray, 1);
        let mut bytes = vec![0; layout.num_bytes() as usize];
        write_pixel(&layout, &mut bytes, Attachment::Color, [0, 1], &[90, 255]);
        let view = layout.decode(&bytes, 0, Pose::default(), MATRICES);
        assert_eq!(view.mask.unwrap().covered(), [false, false, true, false]);
        assert_eq!((view.color, view.depth, view.part), (None, None, None));
    }

    #[test]
    fn forward_gray_is_one_byte_and_white_where_uncovered() {
        let key = TargetKey {
            samples: 1,
            channels: Channels {
                color: true,
                mask: true,
                ..Channels::NONE
            },
            color_kind: ColorKind::Gray,
            is_forward: true,
        };
        let layout = ReadbackLayout::new(key, Atlas::new(2, 1), 1, [40; 3]);
        let mut bytes = vec![255; layout.num_bytes() as usize];
        write_pixel(
            &layout,
            &mut bytes,
            Attachment::Color,
            [1, 0],
            &[BRIGHTEST_COVERED],
        );
        let view = layout.decode(&bytes, 0, Pose::default(), MATRICES);
        assert_eq!(
            view.color,
            Some(ColorImage::Gray(vec![40, BRIGHTEST_COVERED, 40, 40]))
        );
        assert_eq!(view.mask.unwrap().covered(), [false, true, false, false]);
    }
}
