//! The Transformer of Point-MAE (`docs/method.md`, "Encoder of Point-MAE"): groups of nearest neighbors, some of which
//! can be left out.
//!
//! Groups go through a small `PointNet` to one token each; pre-norm blocks follow, the position embedding added in front
//! of every one. There is no class token in pre-training: classification adds one.

use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor, nn, no_grad};

use super::{Cloud, Encoder, Layers, Tokens, is_below, number_behind};
use crate::model::block::{BlockSizes, Blocks, ClassToken, PositionEmbedding, rising_drop_path};
use crate::model::group_embedding::GroupEmbedding;
use crate::model::layer::{Init, LayerNorm, SMALL_DEVIATION, normal};
use crate::model::mode::Mode;
use crate::ops;

/// Width of the hidden layer of a position embedding.
pub(in crate::model) const POSITION_HIDDEN: i64 = 128;
/// How many blocks' outputs make a token for part segmentation.
const DENSE_TAPS: i64 = 3;

/// Sizes of the Transformer. The default is the paper's for 1024 points.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PointMaeConfig {
    /// Groups, and so tokens, by farthest-point sampling.
    pub num_groups: i64,
    /// Points of a group: the nearest to its center, which is one of them.
    pub num_neighbors: i64,
    /// Widths of the two layers of the small `PointNet` in front of its first maximum.
    pub group_widths: [i64; 2],
    /// Width of a token.
    pub channels: i64,
    /// Blocks.
    pub num_blocks: i64,
    /// Attention heads.
    pub num_heads: i64,
    /// Width of the feed-forward part, in multiples of `channels`.
    pub mlp_ratio: i64,
    /// Probability to drop a residual branch in the last block; it rises linearly from 0 in the first.
    pub drop_path: f64,
}

impl Default for PointMaeConfig {
    fn default() -> Self {
        Self {
            num_groups: 64,
            num_neighbors: 32,
            group_widths: [128, 256],
            channels: 384,
            num_blocks: 12,
            num_heads: 6,
            mlp_ratio: 4,
            drop_path: 0.1,
        }
    }
}

impl PointMaeConfig {
    /// 32 groups of 32, four blocks of 128 channels.
    #[must_use]
    pub fn mini() -> Self {
        Self {
            num_groups: 32,
            num_neighbors: 32,
            group_widths: [64, 128],
            channels: 128,
            num_blocks: 4,
            num_heads: 4,
            ..Self::default()
        }
    }

    pub(in crate::model) fn block_sizes(&self) -> BlockSizes {
        BlockSizes {
            channels: self.channels,
            num_heads: self.num_heads,
            mlp_ratio: self.mlp_ratio,
        }
    }
}

/// Groups of neighboring points.
#[derive(Debug)]
pub struct Groups {
    /// B,G indices of the points that are centers.
    pub index: Tensor,
    /// B,G,3.
    pub centers: Tensor,
    /// B,G,K,3 relative to the center, nearest first.
    pub points: Tensor,
    /// B,G,K indices of the points.
    pub neighbors: Tensor,
}

impl Groups {
    /// Centers by farthest-point sampling, each with its nearest points; without gradients.
    ///
    /// # Shapes
    /// - `xyz`: B,N,3
    #[must_use]
    pub fn of_nearest(xyz: &Tensor, num_groups: i64, num_neighbors: i64) -> Self {
        no_grad(|| {
            let index = ops::farthest_points(xyz, num_groups);
            let centers = ops::gather(xyz, &index);
            let neighbors = ops::nearest(xyz, &centers, num_neighbors);
            Self {
                points: ops::gather(xyz, &neighbors) - centers.unsqueeze(2),
                index,
                centers,
                neighbors,
            }
        })
    }

    /// Some of the groups.
    ///
    /// # Shapes
    /// - `index`: B,S of `i64` in 0..G
    #[must_use]
    pub fn select(&self, index: &Tensor) -> Self {
        let num_neighbors = self.points.size()[2];
        let rows = self.points.flatten(2, 3);
        Self {
            index: self.index.gather(1, index, false),
            centers: ops::gather(&self.centers, index),
            points: ops::gather(&rows, index).unflatten(2, [num_neighbors, 3]),
            neighbors: ops::gather(&self.neighbors, index),
        }
    }
}

impl Layers for PointMaeConfig {
    fn num_layers(&self) -> usize {
        self.num_blocks as usize + 1
    }

    fn layer_of(&self, name: &str) -> Option<usize> {
        if is_below(name, &["encoder", "pos_embed"]) {
            return Some(0);
        }
        if is_below(name, &["norm"]) {
            return Some(self.num_layers());
        }
        number_behind(name, "blocks.blocks").map(|i| i + 1)
    }
}

/// The network.
#[derive(Debug)]
pub(in crate::model) struct PointMae {
    encoder: GroupEmbedding,
    pos_embed: PositionEmbedding,
    blocks: Blocks,
    norm: LayerNorm,
    class_token: Option<ClassToken>,
    config: PointMaeConfig,
}

impl PointMae {
    pub(in crate::model) fn new(vs: &nn::Path<'_>, config: &PointMaeConfig) -> Self {
        let (channels, init) = (config.channels, Init::Normal);
        Self {
            encoder: GroupEmbedding::new(&(vs / "encoder"), 3, config.group_widths, channels, init),
            pos_embed: PositionEmbedding::new(&(vs / "pos_embed"), POSITION_HIDDEN, channels, init),
            blocks: Blocks::new(
                &(vs / "blocks" / "blocks"),
                config.block_sizes(),
                &rising_drop_path(config.num_blocks, config.drop_path),
                init,
            ),
            norm: LayerNorm::new(vs / "norm", channels),
            class_token: None,
            config: config.clone(),
        }
    }

    /// The groups of a batch of clouds.
    pub(in crate::model) fn groups(&self, cloud: &Cloud) -> Groups {
        Groups::of_nearest(&cloud.xyz, self.config.num_groups, self.config.num_neighbors)
    }

    /// One token a group, before any block.
    ///
    /// # Shapes
    /// - returns B,G,C
    pub(in crate::model) fn embed(&self, groups: &Groups, mode: Mode) -> Tensor {
        self.encoder.forward(&groups.points, mode)
    }

    /// Tokens behind the last block, normalized.
    ///
    /// # Shapes
    /// - `tokens`: B,T,C of [`embed`](Self::embed); `centers`: B,T,3
    /// - returns B,T,C
    pub(in crate::model) fn encode(&self, tokens: &Tensor, centers: &Tensor, mode: Mode) -> Tensor {
        let position = self.pos_embed.forward(centers, mode);
        self.norm.forward(&self.blocks.forward(tokens, &position, mode))
    }
}

impl Encoder for PointMae {
    fn tokens(&self, cloud: &Cloud, mode: Mode) -> Tokens {
        let groups = self.groups(cloud);
        Tokens {
            features: self.encode(&self.embed(&groups, mode), &groups.centers, mode),
            centers: groups.centers,
        }
    }

    fn token_channels(&self) -> i64 {
        self.config.channels
    }

    /// What stands behind a third, two thirds and all of the blocks, each normalized.
    fn dense_tokens(&self, cloud: &Cloud, mode: Mode) -> Tokens {
        let groups = self.groups(cloud);
        let position = self.pos_embed.forward(&groups.centers, mode);
        let taps = self.blocks.thirds(&self.embed(&groups, mode), &position, mode);
        Tokens {
            features: Tensor::cat(&taps.map(|x| self.norm.forward(&x)), 2),
            centers: groups.centers,
        }
    }

    fn dense_channels(&self) -> i64 {
        DENSE_TAPS * self.config.channels
    }

    fn add_global_weights(&mut self, vs: &nn::Path<'_>) {
        let token = |name: &str| normal(vs, name, &[1, 1, self.config.channels], SMALL_DEVIATION);
        self.class_token = Some(ClassToken {
            cls_token: token("cls_token"),
            cls_pos: token("cls_pos"),
        });
    }

    /// Class token ‖ maximum of the others; mean ‖ maximum as long as no class token was added.
    fn global_feature(&self, cloud: &Cloud, mode: Mode) -> Tensor {
        let Some(class_token) = &self.class_token else {
            let tokens = self.tokens(cloud, mode).features;
            let mean = tokens.mean_dim(1, false, Kind::Float);
            return Tensor::cat(&[mean, tokens.amax(1, false)], 1);
        };
        let groups = self.groups(cloud);
        let position = self.pos_embed.forward(&groups.centers, mode);
        let (tokens, position) = class_token.prepend(&self.embed(&groups, mode), &position);
        let x = self.norm.forward(&self.blocks.forward(&tokens, &position, mode));
        let largest = x.narrow(1, 1, self.config.num_groups).amax(1, false);
        Tensor::cat(&[x.select(1, 0), largest], 1)
    }

    fn global_channels(&self) -> i64 {
        2 * self.config.channels
    }
}

#[cfg(test)]
mod tests {
    use tch::Device;

    use super::*;
    use crate::model::EncoderConfig;

    #[test]
    fn classification_adds_a_class_token_of_its_own() {
        tch::manual_seed(2);
        let xyz = Tensor::randn([2, 128, 3], (Kind::Float, Device::Cpu)) * 0.4;
        let cloud = Cloud {
            features: xyz.transpose(1, 2),
            xyz,
        };
        let vs = nn::VarStore::new(Device::Cpu);
        let mut encoder = EncoderConfig::PointMae(PointMaeConfig::mini()).build(&(vs.root() / "encoder"));
        let num_pretrained = vs.len();
        let without = encoder.global_feature(&cloud, Mode::EVAL);
        let tokens = encoder.tokens(&cloud, Mode::EVAL).features;
        assert!(
            without.equal(&Tensor::cat(
                &[tokens.mean_dim(1, false, Kind::Float), tokens.amax(1, false)],
                1
            )),
            "mean and maximum"
        );
        encoder.add_global_weights(&(vs.root() / "prediction"));
        assert_eq!(vs.len(), num_pretrained + 2, "the token and its position");
        let feature = encoder.global_feature(&cloud, Mode::EVAL);
        assert_eq!(
            feature.size(),
            [2, encoder.global_channels()],
            "as wide as before"
        );
        assert!(!feature.allclose(&without, 1e-3, 1e-4, false), "it is seen");
        feature.square().sum(Kind::Float).backward();
        let variables = vs.variables();
        for name in ["prediction.cls_token", "prediction.cls_pos"] {
            let gradient = variables[name].grad();
            assert!(gradient.norm().double_value(&[]) > 0.0, "{name} learns");
        }
        let again = encoder.tokens(&cloud, Mode::EVAL).features;
        assert!(again.equal(&tokens), "tokens are those of pre-training");
    }
}
