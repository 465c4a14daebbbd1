//! From the device's words to pixels: how a view's channels lie in memory, and what their bytes mean.

use tap_shaders::{ResolveUniform, octahedral_normal};

use crate::camera::ViewMatrices;
use crate::lighting::BACKGROUND;
use crate::recipe::Channels;
use crate::rig::Pose;
use crate::view::{ColorImage, Mask, View};

const BYTES_PER_WORD: u64 = 4;
const SHADES_PER_WORD: u32 = 4;

/// Where the words of one view are. All views have the same layout, one after the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ViewLayout {
    size_px: u32,
    channels: Channels,
    num_shade_words: u32,
    num_words: u32,
    stride_words: u32,
}

impl ViewLayout {
    /// Each view begins at a multiple of `alignment` bytes.
    pub(crate) fn new(size_px: u32, channels: Channels, alignment: u32) -> Self {
        let num_pixels = size_px * size_px;
        let num_shade_words = num_pixels.div_ceil(SHADES_PER_WORD);
        let num_planes = u32::from(channels.depth) + u32::from(channels.normal);
        let num_words = num_shade_words + num_planes * num_pixels;
        let stride_words = num_words.next_multiple_of(alignment / BYTES_PER_WORD as u32);
        Self {
            size_px,
            channels,
            num_shade_words,
            num_words,
            stride_words,
        }
    }

    pub(crate) fn uniform(&self) -> ResolveUniform {
        let first_distance = self.num_shade_words;
        let num_distances = if self.channels.depth { self.num_pixels() } else { 0 };
        ResolveUniform {
            size_px: self.size_px,
            first_shade: 0,
            first_distance,
            first_normal: first_distance + num_distances,
        }
    }

    pub(crate) fn num_pixels(&self) -> u32 {
        self.size_px * self.size_px
    }

    pub(crate) fn num_shade_words(&self) -> u32 {
        self.num_shade_words
    }

    /// Bytes of one view.
    pub(crate) fn view_bytes(&self) -> u64 {
        u64::from(self.num_words) * BYTES_PER_WORD
    }

    /// Bytes from one view to the next.
    pub(crate) fn stride_bytes(&self) -> u64 {
        u64::from(self.stride_words) * BYTES_PER_WORD
    }

    /// Makes a view of its bytes.
    pub(crate) fn decode(&self, bytes: &[u8], pose: Pose, matrices: ViewMatrices) -> View {
        let Self {
            size_px, channels, ..
        } = *self;
        let ResolveUniform {
            first_distance,
            first_normal,
            ..
        } = self.uniform();
        let num_pixels = self.num_pixels() as usize;
        let shades = &bytes[..num_pixels];
        let words = |first: u32| {
            let start = first as usize * BYTES_PER_WORD as usize;
            let words = bytes[start..].as_chunks::<{ BYTES_PER_WORD as usize }>().0;
            words[..num_pixels].iter().map(|word| u32::from_le_bytes(*word))
        };
        let is_covered = |shade: &u8| *shade != BACKGROUND;
        let covered = || shades.iter().map(is_covered);
        let normal = |(covered, packed)| {
            if covered {
                octahedral_normal(packed).to_array()
            } else {
                [0.0; 3]
            }
        };
        View {
            pose,
            matrices,
            size_px,
            color: channels.color.then(|| ColorImage::Gray(shades.to_vec())),
            mask: channels.mask.then(|| {
                Mask::try_new(size_px, covered().collect()).expect("there are size_px squared shades")
            }),
            depth: channels
                .depth
                .then(|| words(first_distance).map(f32::from_bits).collect()),
            normal: channels
                .normal
                .then(|| covered().zip(words(first_normal)).map(normal).collect()),
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

    #[test]
    fn channels_lie_behind_each_other_and_views_are_aligned() {
        let layout = ViewLayout::new(3, Channels::ALL, 256);
        let expected = ResolveUniform {
            size_px: 3,
            first_shade: 0,
            first_distance: 3,
            first_normal: 12,
        };
        assert_eq!(layout.uniform(), expected);
        assert_eq!(layout.view_bytes(), 84, "9 bytes in 3 words, 9 words, 9 words");
        assert_eq!(layout.stride_bytes(), 256);
        assert_eq!(
            ViewLayout::new(224, Channels::default(), 256).stride_bytes(),
            224 * 224
        );
    }

    #[test]
    fn bytes_become_the_channels_that_were_asked_for() {
        let mut bytes = vec![10, 255, 254, 255];
        for distance in [1.5, f32::INFINITY, 2.5, f32::INFINITY] {
            bytes.extend(distance.to_le_bytes());
        }
        // The middle of the octahedral square is +z.
        let ahead = 32767_u32 | 32767 << 16;
        for normal in [ahead, 0, ahead, 0] {
            bytes.extend(normal.to_le_bytes());
        }
        let view = ViewLayout::new(2, Channels::ALL, 4).decode(&bytes, Pose::default(), MATRICES);
        assert_eq!(view.color.unwrap().gray(), [10, 255, 254, 255]);
        assert_eq!(view.mask.unwrap().covered(), [true, false, true, false]);
        assert_eq!(view.depth.unwrap(), [1.5, f32::INFINITY, 2.5, f32::INFINITY]);
        assert_eq!(
            view.normal.unwrap(),
            [[0.0, 0.0, 1.0], [0.0; 3], [0.0, 0.0, 1.0], [0.0; 3]]
        );

        let only_normal = Channels {
            normal: true,
            ..Channels::NONE
        };
        bytes.drain(4..20);
        let view = ViewLayout::new(2, only_normal, 4).decode(&bytes, Pose::default(), MATRICES);
        assert_eq!((view.color, view.mask, view.depth), (None, None, None));
        assert_eq!(Vec3::from(view.normal.unwrap()[2]), Vec3::Z);
    }
}
