//! The standard Transformer over groups of points (`docs/method.md`, "Transformer"), as in Point-BERT.
//!
//! Groups of neighbors go through a small PointNet to one embedding each; a class token is put before them; twelve
//! pre-norm blocks follow, the position embedding added in front of every one.

use serde::{Deserialize, Serialize};
use tch::{Tensor, nn, no_grad};

use super::{Cloud, Encoder, NeighborRule, Tokens};
use crate::model::layer::{BatchNorm, LayerNorm, Linear, drop_path, normal};
use crate::model::mode::Mode;
use crate::ops;

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

/// The network.
#[derive(Debug)]
pub(in crate::model) struct Transformer {
    encoder: GroupEncoder,
    reduce_dim: Linear,
    cls_token: Tensor,
    cls_pos: Tensor,
    pos_embed: (Linear, Linear),
    blocks: Vec<Block>,
    norm: LayerNorm,
    config: TransformerConfig,
}

/// Everything behind the last block.
struct Output {
    /// B,C.
    class_token: Tensor,
    /// B,G,C.
    patch_tokens: Tensor,
    /// B,G,3.
    centers: Tensor,
}

impl Transformer {
    pub(super) fn new(vs: &nn::Path<'_>, config: &TransformerConfig) -> Self {
        let channels = config.channels;
        let blocks = vs / "blocks" / "blocks";
        let build = |i: i64| {
            let drop_path = config.drop_path * i as f64 / (config.num_blocks - 1).max(1) as f64;
            Block::new(&(&blocks / i), config, drop_path)
        };
        Self {
            encoder: GroupEncoder::new(&(vs / "encoder"), config),
            reduce_dim: Linear::new(vs / "reduce_dim", config.group_channels, channels, true),
            cls_token: vs.zeros("cls_token", &[1, 1, channels]),
            cls_pos: normal(vs, "cls_pos", &[1, 1, channels]),
            pos_embed: (
                Linear::new(vs / "pos_embed" / 0, 3, 128, true),
                Linear::new(vs / "pos_embed" / 2, 128, channels, true),
            ),
            blocks: (0..config.num_blocks).map(build).collect(),
            norm: LayerNorm::new(vs / "norm", channels),
            config: config.clone(),
        }
    }

    fn forward(&self, cloud: &Cloud, mode: Mode) -> Output {
        self.forward_with(cloud, mode, |_| ())
    }

    /// `after_block` sees what each block made.
    fn forward_with(&self, cloud: &Cloud, mode: Mode, mut after_block: impl FnMut(&Tensor)) -> Output {
        let (centers, groups) = no_grad(|| self.groups(cloud));
        let tokens = self
            .reduce_dim
            .forward(&self.encoder.forward(&groups, mode), mode);
        let position = self
            .pos_embed
            .1
            .forward(&self.pos_embed.0.forward(&centers, mode).gelu("none"), mode);
        let batch = tokens.size()[0];
        let expand = |token: &Tensor| token.expand([batch, -1, -1], false);
        let mut x = Tensor::cat(&[expand(&self.cls_token), tokens], 1);
        let position = Tensor::cat(&[expand(&self.cls_pos), position], 1);
        for block in &self.blocks {
            x = block.forward(&(x + &position), mode);
            after_block(&x);
        }
        let x = self.norm.forward(&x);
        Output {
            class_token: x.select(1, 0),
            patch_tokens: x.narrow(1, 1, self.config.num_groups),
            centers,
        }
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
        let output = self.forward(cloud, mode);
        Tokens {
            features: output.patch_tokens,
            centers: output.centers,
        }
    }

    fn token_channels(&self) -> i64 {
        self.config.channels
    }

    /// What stands behind a third, two thirds and all of the blocks, each normalized, as in Point-MAE.
    fn dense_tokens(&self, cloud: &Cloud, mode: Mode) -> Tokens {
        let num_blocks = self.config.num_blocks;
        let taps = [1, 2, 3].map(|third| (num_blocks * third / DENSE_TAPS - 1).max(0));
        let mut behind_block = Vec::new();
        let output = self.forward_with(cloud, mode, |x| behind_block.push(x.shallow_clone()));
        let tapped = taps.map(|i| {
            let x = behind_block[i as usize].narrow(1, 1, self.config.num_groups);
            self.norm.forward(&x)
        });
        Tokens {
            features: Tensor::cat(&tapped, 2),
            centers: output.centers,
        }
    }

    fn dense_channels(&self) -> i64 {
        DENSE_TAPS * self.config.channels
    }

    fn global_feature(&self, cloud: &Cloud, mode: Mode) -> Tensor {
        let output = self.forward(cloud, mode);
        Tensor::cat(&[output.class_token, output.patch_tokens.amax(1, false)], 1)
    }

    fn global_channels(&self) -> i64 {
        2 * self.config.channels
    }
}

/// A small PointNet over the points of a group.
#[derive(Debug)]
struct GroupEncoder {
    first_conv: (Linear, BatchNorm, Linear),
    second_conv: (Linear, BatchNorm, Linear),
}

impl GroupEncoder {
    fn new(vs: &nn::Path<'_>, config: &TransformerConfig) -> Self {
        let [first, second] = config.group_widths;
        let conv = |name: &str, [input, hidden, output]: [i64; 3]| {
            let vs = vs / name;
            (
                Linear::pointwise(&vs / 0, input, hidden, 1, true),
                BatchNorm::new(&vs / 1, hidden),
                Linear::pointwise(&vs / 3, hidden, output, 1, true),
            )
        };
        Self {
            first_conv: conv("first_conv", [3, first, second]),
            second_conv: conv("second_conv", [2 * second, 2 * second, config.group_channels]),
        }
    }

    /// # Shapes
    /// - `groups`: B,G,K,3
    /// - returns B,G,C
    fn forward(&self, groups: &Tensor, mode: Mode) -> Tensor {
        let (conv, norm, conv_out) = &self.first_conv;
        let local = conv_out.forward(&norm.forward_relu(&conv.forward(groups, mode), mode), mode);
        let global = local.amax(2, true);
        // The input of the second part is (global ‖ local), and the global half is the same for the whole group: its
        // product is formed once a group and added.
        let (conv, norm, conv_out) = &self.second_conv;
        let of_global = conv.forward_part(&global, 0, mode) + conv.bias().expect("it was built with one");
        let joined = conv.forward_part(&local, global.size()[3], mode) + of_global;
        conv_out
            .forward(&norm.forward_relu(&joined, mode), mode)
            .amax(2, false)
    }
}

/// Pre-norm attention and feed-forward, residual each.
#[derive(Debug)]
struct Block {
    norm1: LayerNorm,
    attn: Attention,
    norm2: LayerNorm,
    mlp: (Linear, Linear),
    drop_path: f64,
}

impl Block {
    fn new(vs: &nn::Path<'_>, config: &TransformerConfig, drop_path: f64) -> Self {
        let (channels, hidden) = (config.channels, config.channels * config.mlp_ratio);
        let mlp = vs / "mlp";
        Self {
            norm1: LayerNorm::new(vs / "norm1", channels),
            attn: Attention::new(&(vs / "attn"), channels, config.num_heads),
            norm2: LayerNorm::new(vs / "norm2", channels),
            mlp: (
                Linear::new(&mlp / "fc1", channels, hidden, true),
                Linear::new(&mlp / "fc2", hidden, channels, true),
            ),
            drop_path,
        }
    }

    /// # Shapes
    /// - `x`: B,T,C
    /// - returns B,T,C
    fn forward(&self, x: &Tensor, mode: Mode) -> Tensor {
        let x = x + drop_path(
            self.attn.forward(&self.norm1.forward(x), mode),
            self.drop_path,
            mode,
        );
        let hidden = self.mlp.0.forward(&self.norm2.forward(&x), mode).gelu("none");
        let update = self.mlp.1.forward(&hidden, mode);
        x + drop_path(update, self.drop_path, mode)
    }
}

/// Multi-head self-attention with one matrix for query, key and value.
#[derive(Debug)]
struct Attention {
    qkv: Linear,
    proj: Linear,
    num_heads: i64,
}

impl Attention {
    fn new(vs: &nn::Path<'_>, channels: i64, num_heads: i64) -> Self {
        Self {
            qkv: Linear::new(vs / "qkv", channels, 3 * channels, false),
            proj: Linear::new(vs / "proj", channels, channels, true),
            num_heads,
        }
    }

    /// # Shapes
    /// - `x`: B,T,C
    /// - returns B,T,C
    fn forward(&self, x: &Tensor, mode: Mode) -> Tensor {
        let (batch, num_tokens, channels) = x.size3().expect("tokens are B,T,C");
        let width = channels / self.num_heads;
        let qkv = self
            .qkv
            .forward(x, mode)
            .view([batch, num_tokens, 3, self.num_heads, width])
            .permute([2, 0, 3, 1, 4]);
        let (query, key, value) = (qkv.get(0), qkv.get(1), qkv.get(2));
        let mixed = Tensor::scaled_dot_product_attention(
            &query,
            &key,
            &value,
            None::<Tensor>,
            0.0,
            false,
            None,
            false,
        );
        self.proj.forward(
            &mixed.transpose(1, 2).reshape([batch, num_tokens, channels]),
            mode,
        )
    }
}
