//! Which groups of a cloud a masked autoencoder sees, and which it has to reconstruct
//! (`docs/method.md`, "Masks of Point-MAE").

use tch::{Device, Kind, Tensor, no_grad};

use crate::ops;
use crate::seed::Stream;

/// Visible and masked groups; as many of each in every cloud.
#[derive(Debug)]
pub struct GroupMask {
    /// B,V indices of the visible groups, ascending.
    pub visible: Tensor,
    /// B,M indices of the masked groups, ascending.
    pub masked: Tensor,
}

impl GroupMask {
    /// `num_masked` random groups of each cloud, which has a stream of its own.
    #[must_use]
    pub fn random(num_groups: i64, num_masked: i64, streams: &mut [Stream]) -> Self {
        let mut flags = vec![false; streams.len() * num_groups as usize];
        for (flags, stream) in flags.chunks_exact_mut(num_groups as usize).zip(streams) {
            for group in stream.choose(num_groups as usize, num_masked as usize) {
                flags[group] = true;
            }
        }
        Self::from_flags(&Tensor::from_slice(&flags).view([-1, num_groups]), num_masked)
    }

    /// A random group of each cloud and those nearest to it, `num_masked` in all.
    ///
    /// # Shapes
    /// - `centers`: B,G,3
    #[must_use]
    pub fn block(centers: &Tensor, num_masked: i64, streams: &mut [Stream]) -> Self {
        let (batch, num_groups, _) = centers.size3().expect("centers are B,G,3");
        let draw = |stream: &mut Stream| stream.below(num_groups as usize) as i64;
        let first: Vec<i64> = streams.iter_mut().map(draw).collect();
        let first = Tensor::from_slice(&first)
            .view([batch, 1])
            .to_device(centers.device());
        no_grad(|| {
            let nearest = ops::nearest(centers, &ops::gather(centers, &first), num_masked).squeeze_dim(1);
            let flags = Tensor::zeros([batch, num_groups], (Kind::Bool, centers.device()));
            Self::from_flags(&flags.scatter_value(1, &nearest, 1), num_masked)
        })
    }

    /// From a flag for each group, true where it is masked: `num_masked` in every cloud.
    ///
    /// # Shapes
    /// - `flags`: B,G
    #[must_use]
    pub fn from_flags(flags: &Tensor, num_masked: i64) -> Self {
        let num_visible = flags.size()[1] - num_masked;
        // A stable sort: the visible ones first, in their order, then the masked ones in theirs.
        let (_, order) = flags.to_kind(Kind::Int64).sort_stable(true, 1, false);
        Self {
            visible: order.narrow(1, 0, num_visible),
            masked: order.narrow(1, num_visible, num_masked),
        }
    }

    /// On the device of the groups.
    #[must_use]
    pub fn to_device(&self, device: Device) -> Self {
        Self {
            visible: self.visible.to_device(device),
            masked: self.masked.to_device(device),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    fn streams(seeds: &[u64]) -> Vec<Stream> {
        seeds
            .iter()
            .map(|&seed| Stream::new(seed, "mask", 0, ""))
            .collect()
    }

    fn rows(index: &Tensor) -> Vec<Vec<i64>> {
        Vec::try_from(index).unwrap()
    }

    #[test]
    fn visible_and_masked_groups_are_all_groups_in_order() {
        let flags = Tensor::from_slice(&[1_u8, 0, 0, 1, 0, 0, 1, 0, 1, 0]).view([2, 5]);
        let mask = GroupMask::from_flags(&flags, 2);
        assert_eq!(rows(&mask.visible), [[1, 2, 4], [0, 2, 4]], "visible");
        assert_eq!(rows(&mask.masked), [[0, 3], [1, 3]], "masked");
    }

    #[test]
    fn a_random_mask_is_a_function_of_the_stream_of_its_cloud() {
        let masked = |seeds: &[u64]| rows(&GroupMask::random(64, 38, &mut streams(seeds)).masked);
        let both = masked(&[1, 2]);
        assert_eq!(both[0].len(), 38, "as many as asked for");
        assert_ne!(both[0], both[1], "another cloud, another mask");
        assert_eq!(
            both[1..],
            masked(&[2]),
            "whatever else is in the batch, the mask is the same"
        );
        let mut counts = [0; 8];
        for seed in 0..400 {
            for group in &rows(&GroupMask::random(8, 4, &mut streams(&[seed])).masked)[0] {
                counts[*group as usize] += 1;
            }
        }
        assert!(
            counts.iter().all(|count| (150..250).contains(count)),
            "half of the masks hold a group: {counts:?}"
        );
    }

    #[test]
    fn a_block_mask_takes_the_nearest_of_one_center() {
        let x: Vec<f32> = (0..10).flat_map(|i| [i as f32, 0.0, 0.0]).collect();
        let centers = Tensor::from_slice(&x).view([1, 10, 3]);
        let blocks: Vec<Vec<i64>> = (0..60)
            .map(|seed| rows(&GroupMask::block(&centers, 3, &mut streams(&[seed])).masked).remove(0))
            .collect();
        for block in &blocks {
            assert_eq!(
                block[2] - block[0],
                2,
                "neighbors on the line, but for ties at its ends: {block:?}"
            );
        }
        let firsts: std::collections::BTreeSet<i64> = blocks.iter().map(|block| block[0]).collect();
        assert_eq!(firsts.len(), 8, "every block occurs: {firsts:?}");
    }
}
