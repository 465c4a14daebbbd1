//! The standard Transformer over groups of points (`docs/method.md`, "Transformer"), as in Point-BERT.
//!
//! Groups of neighbors go through a small PointNet to one embedding each; a class token is put before them; twelve
//! pre-norm blocks follow, the position embedding added in front of every one.

use serde::{Deserialize, Serialize};
use tch::{Tensor, nn, no_grad};

use super::{Cloud, Encoder, Layers, NeighborRule, Tokens, is_below, number_behind};
use crate::model::block::{BlockSizes, Blocks, ClassToken, PositionEmbedding, rising_drop_path};
use crate::model::group_embedding::GroupEmbedding;
use crate::model::layer::{Init, LayerNorm, Linear, normal};
use crate::model::mode::Mode;
use crate::ops;

/// Width of the hidden layer of the position embedding.
const POSITION_HIDDEN: i64 = 128;
/// How many blocks' outputs make a token for part segmentation.
const DENSE_TAPS: i64 = 3;

/// Sizes of the Transformer. The default is the paper's.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TransformerConfig {
    /// Groups, and so tokens, by farthest-point sampling.
    pub num_groups: i64,
    /// Places in a group; free ones repeat its first point.
    pub num_neighbors: i64,
    /// Radius of a group.
    pub radius: f64,
    /// Which points within the radius belong to a group; the released code takes the first.
    pub neighbors: NeighborRule,
    /// Positions in a group are divided by this.
    pub unit: f64,
    /// Widths of the two layers of the small PointNet in front of its first maximum.
    pub group_widths: [i64; 2],
    /// Width of the embedding of a group, before it is brought to `channels`.
    pub group_channels: i64,
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

impl Default for TransformerConfig {
    fn default() -> Self {
        Self {
            num_groups: 256,
            num_neighbors: 32,
            radius: 0.1,
            neighbors: NeighborRule::FirstInBall,
            unit: 1.0,
            group_widths: [128, 256],
            group_channels: 256,
            channels: 384,
            num_blocks: 12,
            num_heads: 6,
            mlp_ratio: 4,
            drop_path: 0.1,
        }
    }
}

impl TransformerConfig {
    /// 32 groups of 16, four blocks of 128 channels.
    #[must_use]
    pub fn mini() -> Self {
        Self {
            num_groups: 32,
            num_neighbors: 16,
            radius: 0.5,
            neighbors: NeighborRule::NearestInBall,
            unit: 0.25,
            group_widths: [64, 128],
            group_channels: 128,
            channels: 128,
            num_blocks: 4,
            num_heads: 4,
            ..Self::default()
        }
    }
}

impl Layers for TransformerConfig {
    fn num_layers(&self) -> usize {
        self.num_blocks as usize + 1
    }

    fn layer_of(&self, name: &str) -> Option<usize> {
        if is_below(
            name,
            &["encoder", "reduce_dim", "cls_token", "cls_pos", "pos_embed"],
        ) {
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
pub(in crate::model) struct Transformer {
    encoder: GroupEmbedding,
    reduce_dim: Linear,
    class_token: ClassToken,
    pos_embed: PositionEmbedding,
    blocks: Blocks,
    norm: LayerNorm,
    config: TransformerConfig,
}

/// What the blocks get.
struct Input {
    /// B,1+G,C: the class token and those of the groups.
    tokens: Tensor,
    /// B,1+G,C.
    position: Tensor,
    /// B,G,3.
    centers: Tensor,
}

impl Transformer {
    pub(super) fn new(vs: &nn::Path<'_>, config: &TransformerConfig) -> Self {
        let (channels, init) = (config.channels, Init::Uniform);
        let group_channels = config.group_channels;
        let sizes = BlockSizes {
            channels,
            num_heads: config.num_heads,
            mlp_ratio: config.mlp_ratio,
        };
        Self {
            encoder: GroupEmbedding::new(&(vs / "encoder"), 3, config.group_widths, group_channels, init),
            reduce_dim: Linear::new(vs / "reduce_dim", group_channels, channels, true),
            class_token: ClassToken {
                cls_token: vs.zeros("cls_token", &[1, 1, channels]),
                cls_pos: normal(vs, "cls_pos", &[1, 1, channels], 1.0),
            },
            pos_embed: PositionEmbedding::new(&(vs / "pos_embed"), POSITION_HIDDEN, channels, init),
            blocks: Blocks::new(
                &(vs / "blocks" / "blocks"),
                sizes,
                &rising_drop_path(config.num_blocks, config.drop_path),
                init,
            ),
            norm: LayerNorm::new(vs / "norm", channels),
            config: config.clone(),
        }
    }

    fn input(&self, cloud: &Cloud, mode: Mode) -> Input {
        let (centers, groups) = no_grad(|| self.groups(cloud));
        let tokens = self
            .reduce_dim
            .forward(&self.encoder.forward(&groups, mode), mode);
        let position = self.pos_embed.forward(&centers, mode);
        let (tokens, position) = self.class_token.prepend(&tokens, &position);
        Input {
            tokens,
            position,
            centers,
        }
    }

    /// Normalized outputs of the last block, B,1+G,C, and the centers, B,G,3.
    fn forward(&self, cloud: &Cloud, mode: Mode) -> (Tensor, Tensor) {
        let input = self.input(cloud, mode);
        let x = self.blocks.forward(&input.tokens, &input.position, mode);
        (self.norm.forward(&x), input.centers)
    }

    /// # Shapes
    /// - `x`: B,1+G,C
    /// - returns B,G,C
    fn without_class_token(&self, x: &Tensor) -> Tensor {
        x.narrow(1, 1, self.config.num_groups)
    }

    /// # Shapes
    /// - returns centers B,G,3 and relative coordinates B,G,K,3
    fn groups(&self, cloud: &Cloud) -> (Tensor, Tensor) {
        let TransformerConfig {
            num_groups,
            num_neighbors,
            radius,
            neighbors,
            unit,
            ..
        } = self.config;
        let centers = ops::gather(&cloud.xyz, &ops::farthest_points(&cloud.xyz, num_groups));
        let neighbors = match neighbors {
            NeighborRule::FirstInBall => ops::ball_query(&cloud.xyz, &centers, radius, num_neighbors),
            NeighborRule::NearestInBall => ops::nearest_within(&cloud.xyz, &centers, radius, num_neighbors),
        };
        let groups = (ops::gather(&cloud.xyz, &neighbors) - centers.unsqueeze(2)) / unit;
        (centers, groups)
    }
}

impl Encoder for Transformer {
    fn tokens(&self, cloud: &Cloud, mode: Mode) -> Tokens {
        let (x, centers) = self.forward(cloud, mode);
        Tokens {
            features: self.without_class_token(&x),
            centers,
        }
    }

    fn token_channels(&self) -> i64 {
        self.config.channels
    }

    /// What stands behind a third, two thirds and all of the blocks, each normalized, as in Point-MAE.
    fn dense_tokens(&self, cloud: &Cloud, mode: Mode) -> Tokens {
        let input = self.input(cloud, mode);
        let taps = self.blocks.thirds(&input.tokens, &input.position, mode);
        let taps = taps.map(|x| self.norm.forward(&self.without_class_token(&x)));
        Tokens {
            features: Tensor::cat(&taps, 2),
            centers: input.centers,
        }
    }

    fn dense_channels(&self) -> i64 {
        DENSE_TAPS * self.config.channels
    }

    fn global_feature(&self, cloud: &Cloud, mode: Mode) -> Tensor {
        let (x, _) = self.forward(cloud, mode);
        let largest = self.without_class_token(&x).amax(1, false);
        Tensor::cat(&[x.select(1, 0), largest], 1)
    }

    fn global_channels(&self) -> i64 {
        2 * self.config.channels
    }
}
