//! Which groups of a cloud a masked autoencoder sees, and which it has to reconstruct
//! (`docs/method.md`, "Masks of Point-MAE").

use tch::{Device, Kind, Tensor, no_grad};

use super::encoder::Groups;
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

    /// Groups of each cloud that are drawn to be visible, one after the other without replacement, each with a probability
    /// in proportion to e^(saliency / temperature); `num_masked` are left. I2P-MAE draws so
    /// (`docs/method.md`, "2D-guided masks").
    ///
    /// The draw is that of the largest saliency / temperature plus noise of Gumbel's distribution, which is the same.
    #[must_use]
    pub fn guided(saliency: &[Vec<f64>], num_masked: i64, temperature: f64, streams: &mut [Stream]) -> Self {
        let num_groups = saliency.first().map_or(0, Vec::len);
        let num_visible = num_groups - num_masked as usize;
        let mut flags = vec![true; saliency.len() * num_groups];
        let clouds = flags
            .chunks_exact_mut(num_groups.max(1))
            .zip(saliency)
            .zip(streams);
        for ((flags, saliency), stream) in clouds {
            let mut keys: Vec<(f64, usize)> = saliency
                .iter()
                .enumerate()
                .map(|(group, saliency)| (saliency / temperature + gumbel(stream), group))
                .collect();
            keys.sort_by(|a, b| b.0.total_cmp(&a.0));
            for (_, group) in keys.iter().take(num_visible) {
                flags[*group] = false;
            }
        }
        let flags = Tensor::from_slice(&flags).view([-1, num_groups as i64]);
        Self::from_flags(&flags, num_masked)
    }

    /// A random group of each cloud and those nearest to it, `num_masked` in all.
    ///
    /// # Shapes
    /// - `centers`: B,G,3
    #[must_use]
    pub fn block(centers: &Tensor, num_masked: i64, streams: &mut [Stream]) -> Self {
        let (batch, num_groups) = (centers.size()[0], centers.size()[1]);
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

    /// A flag for each of `num_groups` groups, true where it is visible.
    ///
    /// # Shapes
    /// - returns B,G
    pub fn visible_flags(&self, num_groups: i64) -> Tensor {
        let options = (Kind::Bool, self.visible.device());
        Tensor::zeros([self.visible.size()[0], num_groups], options).scatter_value(1, &self.visible, 1)
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

/// Which tokens of every level of a hierarchy are visible: those of a finer level that are in a visible group of the
/// coarser one (`docs/method.md`, "Masks of Point-M2AE").
#[derive(Debug)]
pub struct MultiScaleMask {
    /// B,G of flags for each level, from fine to coarse.
    pub visible: Vec<Tensor>,
}

impl MultiScaleMask {
    /// From the groups of every level, from fine to coarse, and the mask of the coarsest. With `shows_first` the first token
    /// of the first cloud is visible on every finer level, and so what is in its group.
    ///
    /// Parity: the released code marks the members of visible groups by their flat index in the batch, multiplied by the
    /// flag of the group, so that every masked group marks index 0.
    #[must_use]
    pub fn new(groups: &[Groups], coarsest: &GroupMask, shows_first: bool) -> Self {
        let num_groups = groups.last().map_or(0, |coarsest| coarsest.centers.size()[1]);
        Self::of_coarsest(groups, coarsest.visible_flags(num_groups), shows_first)
    }

    /// With all groups of the coarsest level visible.
    ///
    /// Parity: a token of a finer level that is in no group is hidden even so.
    #[must_use]
    pub fn of_all(groups: &[Groups]) -> Self {
        let Some(coarsest) = groups.last() else {
            return Self { visible: Vec::new() };
        };
        let all = coarsest.centers.select(2, 0).ones_like().to_kind(Kind::Bool);
        Self::of_coarsest(groups, all, false)
    }

    /// # Shapes
    /// - `flags`: B,G of the coarsest level
    fn of_coarsest(groups: &[Groups], flags: Tensor, shows_first: bool) -> Self {
        let members_of_visible = |coarser: &Groups, finer: &Groups, flags: &Tensor| {
            let members = coarser.neighbors.flatten(1, 2);
            let of_members = flags.unsqueeze(2).expand_as(&coarser.neighbors).flatten(1, 2);
            let size = [flags.size()[0], finer.centers.size()[1]];
            let counts = Tensor::zeros(size, (Kind::Int64, members.device()));
            counts
                .scatter_add(1, &members, &of_members.to_kind(Kind::Int64))
                .gt(0)
        };
        no_grad(|| {
            let mut visible = vec![flags];
            for pair in groups.windows(2).rev() {
                let flags = visible.last().expect("the coarsest was put first");
                let finer = members_of_visible(&pair[1], &pair[0], flags);
                if shows_first {
                    let _ = finer.get(0).narrow(0, 0, 1).fill_(1);
                }
                visible.push(finer);
            }
            visible.reverse();
            Self { visible }
        })
    }

    /// Places of the masked tokens of a level in the tokens of all clouds, one after the other.
    pub fn masked(&self, level: usize) -> Tensor {
        places(&self.visible[level].logical_not())
    }

    /// The same of the visible tokens.
    pub fn visible_places(&self, level: usize) -> Tensor {
        places(&self.visible[level])
    }
}

/// A draw from Gumbel's distribution.
fn gumbel(stream: &mut Stream) -> f64 {
    // Above 0, so that its logarithm is a number.
    let uniform = (1.0 - stream.unit()).min(1.0 - f64::EPSILON);
    -(-uniform.ln()).ln()
}

/// Where flags are true, in the order of all clouds.
fn places(flags: &Tensor) -> Tensor {
    flags.flatten(0, 1).nonzero().squeeze_dim(1)
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
    fn a_guided_mask_draws_by_saliency_and_without_replacement() {
        // Two of three visible: with weights 1, 2 and 4 the pair without group g has the sum over both orders of
        // w_a / 7 * w_b / (7 - w_a).
        let weights = [1.0_f64, 2.0, 4.0];
        for temperature in [1.0, 0.5] {
            let saliency = vec![weights.map(f64::ln).map(|x| x * temperature).to_vec()];
            let mut counts = [0.0; 3];
            let num_draws = 6000;
            for seed in 0..num_draws {
                let mask = GroupMask::guided(&saliency, 1, temperature, &mut streams(&[seed]));
                counts[rows(&mask.masked)[0][0] as usize] += 1.0 / num_draws as f64;
            }
            for (hidden, count) in counts.into_iter().enumerate() {
                let [a, b] = [(hidden + 1) % 3, (hidden + 2) % 3].map(|group| weights[group]);
                let expected = a / 7.0 * b / (7.0 - a) + b / 7.0 * a / (7.0 - b);
                assert!(
                    (count - expected).abs() < 0.02,
                    "group {hidden}: {count} and {expected}"
                );
            }
        }
        let both = vec![vec![0.0, 9.0, 0.0, 9.0, 0.0], vec![9.0, 0.0, 0.0, 0.0, 9.0]];
        let mask = GroupMask::guided(&both, 3, 0.1, &mut streams(&[1, 2]));
        assert_eq!(rows(&mask.visible), [[1, 3], [0, 4]], "what stands out is seen");
        assert_eq!(
            rows(&GroupMask::guided(&both[1..], 3, 0.1, &mut streams(&[2])).visible),
            [[0, 4]],
            "whatever else is in the batch"
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

    #[test]
    fn finer_tokens_are_visible_where_a_visible_group_holds_them() {
        let groups = |num: i64, neighbors: &[i64]| Groups {
            index: Tensor::zeros([2, num], (Kind::Int64, Device::Cpu)),
            centers: Tensor::zeros([2, num, 3], (Kind::Float, Device::Cpu)),
            points: Tensor::zeros([2, num, 2, 3], (Kind::Float, Device::Cpu)),
            neighbors: Tensor::from_slice(neighbors).view([2, num, 2]),
        };
        let finest = groups(4, &[0; 16]);
        let coarser = groups(3, &[1, 2, 2, 3, 0, 3, 0, 1, 2, 1, 3, 0]);
        let coarsest = GroupMask::from_flags(&Tensor::from_slice(&[0_u8, 1, 1, 1, 0, 1]).view([2, 3]), 2);
        let flags = |mask: &MultiScaleMask, level: usize| {
            Vec::<Vec<i64>>::try_from(mask.visible[level].to_kind(Kind::Int64)).unwrap()
        };
        let levels = [finest, coarser];
        let mask = MultiScaleMask::new(&levels, &coarsest, false);
        assert_eq!(flags(&mask, 1), [[1, 0, 0], [0, 1, 0]], "the coarsest as given");
        assert_eq!(
            flags(&mask, 0),
            [[0, 1, 1, 0], [0, 1, 1, 0]],
            "members of groups 0 and 1"
        );
        let masked: Vec<i64> = Vec::try_from(mask.masked(0)).unwrap();
        assert_eq!(masked, [0, 3, 4, 7], "places in the batch");
        let unmasked = MultiScaleMask::of_all(&[
            groups(5, &[0; 20]),
            groups(3, &[1, 2, 2, 3, 0, 3, 0, 1, 2, 1, 3, 4]),
        ]);
        assert_eq!(
            flags(&unmasked, 0),
            [[1, 1, 1, 1, 0], [1, 1, 1, 1, 1]],
            "token 4 is in no group of the first cloud"
        );
        let released = MultiScaleMask::new(&levels, &coarsest, true);
        assert_eq!(
            flags(&released, 0),
            [[1, 1, 1, 0], [0, 1, 1, 0]],
            "and the very first"
        );
    }
}
