//! From the device's words to pixels: how a view's channels lie in memory, and what their words mean.

use tap_shaders::{NO_CHANNEL, ResolveUniform, unfold_normal};

use crate::camera::ViewMatrices;
use crate::recipe::Channels;
use crate::rig::Pose;
use crate::view::{ColorImage, ColorKind, Mask, View};

const BYTES_PER_WORD: u64 = 4;

/// Where the words of one view are: a word a pixel and channel. All views have the same layout, one after the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ViewLayout {
    size_px: u32,
    channels: Channels,
    color_kind: ColorKind,
    uniform: ResolveUniform,
    num_words: u32,
    stride_words: u32,
}

impl ViewLayout {
    /// Each view begins at a multiple of `alignment` bytes.
    pub(super) fn new(size_px: u32, channels: Channels, color_kind: ColorKind, alignment: u32) -> Self {
        let mut num_words = 0;
        let mut first = |is_there: bool| {
            if !is_there {
                return NO_CHANNEL;
            }
            num_words += size_px * size_px;
            num_words - size_px * size_px
        };
        let uniform = ResolveUniform {
            // The color tells what is covered, which every other channel depends on.
            first_color: first(true),
            first_depth: first(channels.depth),
            first_normal: first(channels.normal),
            first_albedo: first(channels.albedo),
            first_labels: first(channels.part || channels.material),
        };
        Self {
            size_px,
            channels,
            color_kind,
            uniform,
            num_words,
            stride_words: num_words.next_multiple_of(alignment / BYTES_PER_WORD as u32),
        }
    }

    pub(super) fn uniform(&self) -> ResolveUniform {
        self.uniform
    }

    pub(super) fn num_pixels(&self) -> u32 {
        self.size_px * self.size_px
    }

    /// Bytes of one view.
    pub(super) fn view_bytes(&self) -> u64 {
        u64::from(self.num_words) * BYTES_PER_WORD
    }

    /// Bytes from one view to the next.
    pub(super) fn stride_bytes(&self) -> u64 {
        u64::from(self.stride_words) * BYTES_PER_WORD
    }

    /// Makes a view of its bytes.
    pub(super) fn decode(&self, bytes: &[u8], pose: Pose, matrices: ViewMatrices) -> View {
        let Self {
            size_px,
            channels,
            color_kind,
            uniform,
            ..
        } = *self;
        let num_pixels = self.num_pixels() as usize;
        let words = bytes.as_chunks::<{ BYTES_PER_WORD as usize }>().0;
        let channel = |first: u32| words[first as usize..][..num_pixels].iter().copied();
        let word = u32::from_le_bytes;
        let rgb = |[red, green, blue, _]: [u8; 4]| [red, green, blue];
        let covered = || channel(uniform.first_color).map(|[.., covered]| covered != 0);
        let normal = |(covered, folded)| {
            if covered {
                unfold_normal(word(folded)).to_array()
            } else {
                [0.0; 3]
            }
        };
        let labels = |shift: u32| {
            channel(uniform.first_labels)
                .map(|labels| (word(labels) >> shift) as u16)
                .collect()
        };
        View {
            pose,
            matrices,
            size_px,
            color: channels
                .color
                .then(|| ColorImage::new(color_kind, channel(uniform.first_color).map(rgb))),
            mask: channels.mask.then(|| {
                Mask::try_new(size_px, covered().collect()).expect("there are size_px squared colors")
            }),
            depth: channels
                .depth
                .then(|| channel(uniform.first_depth).map(f32::from_le_bytes).collect()),
            normal: channels
                .normal
                .then(|| covered().zip(channel(uniform.first_normal)).map(normal).collect()),
            albedo: channels
                .albedo
                .then(|| channel(uniform.first_albedo).map(rgb).collect()),
            part: channels.part.then(|| labels(0)),
            material: channels.material.then(|| labels(16)),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use glam::{Mat4, Vec3};

    use super::*;

    const MATRICES: ViewMatrices = ViewMatrices {
        view_from_object: Mat4::IDENTITY,
        clip_from_view: Mat4::IDENTITY,
    };
    const COVERED: u32 = 0xff00_0000;

    #[test]
    fn channels_lie_behind_each_other_and_views_are_aligned() {
        let channels = Channels {
            depth: true,
            part: true,
            ..Channels::NONE
        };
        let layout = ViewLayout::new(3, channels, ColorKind::Gray, 256);
        let expected = ResolveUniform {
            first_color: 0,
            first_depth: 9,
            first_normal: NO_CHANNEL,
            first_albedo: NO_CHANNEL,
            first_labels: 18,
        };
        assert_eq!(layout.uniform(), expected);
        assert_eq!(layout.view_bytes(), 3 * 9 * 4);
        assert_eq!(layout.stride_bytes(), 256);
    }

    #[test]
    fn words_become_the_channels_that_were_asked_for() {
        // The middle of the octahedral square is +z.
        let ahead = 32767_u32 | 32767 << 16;
        let words = [
            [0x000a_0b0c | COVERED, 0x00ff_ffff],
            [1.5_f32.to_bits(), f32::INFINITY.to_bits()],
            [ahead, 0],
            [0x0003_0201, 0],
            [5 | 7 << 16, u32::MAX],
        ];
        // Pictures are square, so each line comes twice.
        let bytes: Vec<u8> = words
            .iter()
            .flat_map(|line| [line, line])
            .flatten()
            .flat_map(|word| word.to_le_bytes())
            .collect();
        let layout = ViewLayout::new(2, Channels::ALL, ColorKind::Rgb, 4);
        let view = layout.decode(&bytes, Pose::default(), MATRICES);
        assert_eq!(view.color.unwrap().to_rgb()[..2], [[12, 11, 10], [255; 3]]);
        assert_eq!(view.mask.unwrap().covered(), [true, false, true, false]);
        assert_eq!(view.depth.unwrap(), [1.5, f32::INFINITY, 1.5, f32::INFINITY]);
        assert_eq!(Vec3::from(view.normal.as_ref().unwrap()[0]), Vec3::Z);
        assert_eq!(Vec3::from(view.normal.unwrap()[1]), Vec3::ZERO);
        assert_eq!(view.albedo.unwrap()[..2], [[1, 2, 3], [0; 3]]);
        assert_eq!(view.part.unwrap()[..2], [5, u16::MAX]);
        assert_eq!(view.material.unwrap()[..2], [7, u16::MAX]);

        let only_mask = Channels {
            mask: true,
            ..Channels::NONE
        };
        let layout = ViewLayout::new(2, only_mask, ColorKind::Gray, 4);
        let view = layout.decode(&bytes, Pose::default(), MATRICES);
        assert_eq!((view.color, view.depth, view.part), (None, None, None));
    }
}
