//! Cross-attention as the page holds it: coordinates in 16 bits, shares in 8, and what is needed to say how large they are.

use serde::Serialize;
use tap_cli::page::base64;
use tap_train::task::inspect::ObjectAttention;

use super::gallery::{Gallery, Object};

/// Shares of one run on the page, in bytes, at most: above it the page has the last block alone.
const MAX_SHARES: usize = 1 << 20;

/// All that a gallery's script needs. Images are not in it: they stand in the page already.
#[derive(Debug, Serialize)]
pub(super) struct Inspected {
    /// Names of the runs.
    runs: Vec<String>,
    /// Numbers of the views, from 1.
    views: Vec<usize>,
    objects: Vec<InspectedObject>,
}

#[derive(Debug, Serialize)]
struct InspectedObject {
    /// Its place among the objects of the gallery.
    place: usize,
    label: String,
    /// Of each run.
    attention: Vec<Option<Attention>>,
}

/// Numbers are little-endian, in Base64.
#[derive(Debug, Serialize)]
struct Attention {
    grid: usize,
    num_tokens: usize,
    has_pad_token: bool,
    /// Numbers of the blocks, from 1.
    blocks: Vec<usize>,
    /// i16, N x 3; the largest coordinate is 32767.
    points: String,
    /// u16, N.
    nearest: String,
    views: Vec<View>,
}

#[derive(Debug, Serialize)]
struct View {
    pose: [f32; 9],
    /// u8, blocks x patches x tokens, without the pad token: the share of the token as a part of `largest`, times 255.
    shares: String,
    /// f32, blocks x patches: the largest share of a token.
    largest: String,
    /// f32, blocks x patches: the share of the pad token.
    pad: String,
}

impl Inspected {
    /// What a gallery holds; none where no run attends to tokens.
    pub(super) fn of(gallery: &Gallery) -> Option<Self> {
        let of_object = |(place, object): (usize, &Object)| {
            let attention = object.drawings.iter().map(|drawing| drawing.attention.as_ref());
            let attention: Vec<Option<Attention>> = attention
                .map(|attention| Some(Attention::of(attention?)))
                .collect();
            attention.iter().any(Option::is_some).then(|| InspectedObject {
                place,
                label: format!("{}: {}", object.kind.name(), object.id),
                attention,
            })
        };
        let objects: Vec<InspectedObject> =
            gallery.objects.iter().enumerate().filter_map(of_object).collect();
        (!objects.is_empty()).then(|| Self {
            runs: gallery.artists.iter().map(|artist| artist.name.clone()).collect(),
            views: gallery.views.iter().map(|view| view + 1).collect(),
            objects,
        })
    }
}

impl Attention {
    fn of(attention: &ObjectAttention) -> Self {
        let ObjectAttention {
            points,
            nearest_token,
            num_tokens,
            has_pad_token,
            grid,
            views,
        } = attention;
        let num_blocks = views.first().map_or(0, |view| view.shares.len());
        // The first object of each kind.
        let num_shares = 3 * views.len() * num_blocks * grid * grid * num_tokens;
        let first = if num_shares > MAX_SHARES {
            num_blocks - 1
        } else {
            0
        };
        let largest = points
            .iter()
            .flatten()
            .fold(f32::MIN_POSITIVE, |largest, x| largest.max(x.abs()));
        let points = points.iter().flatten();
        let points = points.flat_map(|x| ((x / largest * 32767.0).round() as i16).to_le_bytes());
        Self {
            grid: *grid,
            num_tokens: *num_tokens,
            has_pad_token: *has_pad_token,
            blocks: (first..num_blocks).map(|block| block + 1).collect(),
            points: base64(&points.collect::<Vec<u8>>()),
            nearest: base64(
                &nearest_token
                    .iter()
                    .flat_map(|token| token.to_le_bytes())
                    .collect::<Vec<u8>>(),
            ),
            views: views
                .iter()
                .map(|view| {
                    View::of(
                        view.view_from_object,
                        &view.shares[first..],
                        *num_tokens,
                        *has_pad_token,
                    )
                })
                .collect(),
        }
    }
}

impl View {
    fn of(pose: [f32; 9], blocks: &[Vec<f32>], num_tokens: usize, has_pad_token: bool) -> Self {
        let (mut shares, mut largest, mut pad) = (Vec::new(), Vec::new(), Vec::new());
        let rows = blocks
            .iter()
            .flat_map(|block| block.chunks_exact(num_tokens + usize::from(has_pad_token)));
        for row in rows {
            let (tokens, of_pad) = row.split_at(num_tokens);
            let of_largest = tokens.iter().copied().fold(f32::MIN_POSITIVE, f32::max);
            shares.extend(
                tokens
                    .iter()
                    .map(|share| (share / of_largest * 255.0).round() as u8),
            );
            largest.extend(of_largest.to_le_bytes());
            pad.extend(of_pad.first().copied().unwrap_or(0.0).to_le_bytes());
        }
        Self {
            pose,
            shares: base64(&shares),
            largest: base64(&largest),
            pad: base64(&pad),
        }
    }
}

#[cfg(test)]
mod tests {
    use tap_train::task::inspect::ViewAttention;

    use super::*;

    fn attention(num_blocks: usize, grid: usize, num_tokens: usize) -> ObjectAttention {
        let of_patch = |patch: usize| {
            let shares =
                (0..num_tokens).map(move |token| if token == patch % num_tokens { 0.5 } else { 0.125 });
            shares.chain([0.25])
        };
        let shares = (0..grid * grid).flat_map(of_patch).collect::<Vec<f32>>();
        ObjectAttention {
            points: vec![[0.5, -0.25, 0.0], [0.0, 0.1, -0.5]],
            nearest_token: vec![1, 258],
            num_tokens,
            has_pad_token: true,
            grid,
            views: vec![ViewAttention {
                view_from_object: [0.0; 9],
                shares: vec![shares; num_blocks],
            }],
        }
    }

    #[test]
    fn shares_are_parts_of_the_largest_and_the_pad_token_is_apart() {
        let packed = Attention::of(&attention(2, 1, 3));
        assert_eq!(packed.blocks, [1, 2], "all of a small module");
        assert_eq!(
            packed.points,
            base64(&[255, 127, 0, 192, 0, 0, 0, 0, 153, 25, 1, 128]),
            "16 bits"
        );
        assert_eq!(packed.nearest, base64(&[1, 0, 2, 1]));
        let view = &packed.views[0];
        assert_eq!(view.shares, base64(&[255, 64, 64, 255, 64, 64]));
        let two = |number: f32| base64(&[number.to_le_bytes(), number.to_le_bytes()].concat());
        assert_eq!((&view.largest, &view.pad), (&two(0.5), &two(0.25)));
    }

    #[test]
    fn of_a_large_module_the_page_has_the_last_block() {
        let packed = Attention::of(&attention(6, 14, 1024));
        assert_eq!(packed.blocks, [6]);
        assert_eq!(packed.views[0].largest.len(), (196_usize * 4).div_ceil(3) * 4);
    }
}
