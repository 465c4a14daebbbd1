//! The hierarchical Transformer of Point-M2AE and I2P-MAE (`docs/method.md`, "Encoder of Point-M2AE"): groups of points,
//! groups of groups, and blocks on each level, some of whose tokens can be left out.

use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor, nn};

use super::{Cloud, Encoder, Groups, Layers, Tokens, number_behind};
use crate::model::block::{BlockSizes, Blocks, PositionEmbedding, attention_bias, rising_drop_path};
use crate::model::group_embedding::GroupEmbedding;
use crate::model::group_mask::MultiScaleMask;
use crate::model::layer::{Init, LayerNorm};
use crate::model::mode::Mode;
use crate::ops;

/// Sizes of the Transformer. The default is that of pre-training on 2048 points.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PointM2aeConfig {
    /// From fine to coarse.
    pub levels: Vec<PointM2aeLevel>,
    /// Widths of the two layers of the small `PointNet` over points in front of its first maximum.
    pub group_widths: [i64; 2],
    /// Attention heads.
    pub num_heads: i64,
    /// Width of the feed-forward part, in multiples of a level's `channels`.
    pub mlp_ratio: i64,
    /// Probability to drop a residual branch in the last block of all; it rises linearly from 0 in the first.
    pub drop_path: f64,
    /// What classification makes of the tokens.
    pub pooling: Pooling,
}

/// One level of tokens.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PointM2aeLevel {
    /// Groups, and so tokens, by farthest-point sampling among the centers of the level before, or the points.
    pub num_groups: i64,
    /// Members of a group: the nearest to its center, which is one of them.
    pub num_neighbors: i64,
    /// Width of a token.
    pub channels: i64,
    /// Blocks.
    pub num_blocks: i64,
    /// In classification a token attends to those nearer than this; 0 is to all, as in pre-training.
    #[serde(default)]
    pub attention_radius: f64,
}

/// What the global feature is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Pooling {
    /// Mean ‖ maximum of the tokens.
    Concatenated,
    /// Mean + maximum of the tokens.
    Added,
}

impl Default for PointM2aeConfig {
    fn default() -> Self {
        let level = |num_groups, num_neighbors, channels| PointM2aeLevel {
            num_groups,
            num_neighbors,
            channels,
            num_blocks: 5,
            attention_radius: 0.0,
        };
        Self {
            levels: vec![level(512, 16, 96), level(256, 8, 192), level(64, 8, 384)],
            group_widths: [128, 256],
            num_heads: 6,
            mlp_ratio: 4,
            drop_path: 0.1,
            pooling: Pooling::Concatenated,
        }
    }
}

impl PointM2aeConfig {
    /// Blocks of the levels before this one.
    fn blocks_below(&self, level: usize) -> usize {
        let levels = self.levels.iter().take(level);
        levels.map(|level| level.num_blocks as usize).sum()
    }

    /// Levels of 64 and 16 groups for 512 points.
    #[must_use]
    pub fn mini() -> Self {
        let level = |num_groups, num_neighbors, channels| PointM2aeLevel {
            num_groups,
            num_neighbors,
            channels,
            num_blocks: 2,
            attention_radius: 0.0,
        };
        Self {
            levels: vec![level(128, 16, 48), level(64, 8, 96), level(16, 8, 192)],
            group_widths: [32, 64],
            ..Self::default()
        }
    }

    pub(in crate::model) fn block_sizes(&self, channels: i64) -> BlockSizes {
        BlockSizes {
            channels,
            num_heads: self.num_heads,
            mlp_ratio: self.mlp_ratio,
        }
    }

    /// The last level.
    ///
    /// # Panics
    /// Where there is none; a configuration without any is refused.
    #[must_use]
    pub fn coarsest(&self) -> &PointM2aeLevel {
        self.levels.last().expect("there is a level")
    }
}

impl Layers for PointM2aeConfig {
    fn num_layers(&self) -> usize {
        self.blocks_below(self.levels.len()) + 1
    }

    fn layer_of(&self, name: &str) -> Option<usize> {
        // The embedding and the norm of a level share the rate of the blocks in front of them.
        let embeddings = ["token_embed", "encoder_pos_embeds"];
        if let Some(level) = embeddings.iter().find_map(|list| number_behind(name, list)) {
            return Some(self.blocks_below(level));
        }
        if let Some(level) = number_behind(name, "encoder_norms") {
            let is_last = level + 1 == self.levels.len();
            return Some(self.blocks_below(level + 1) + usize::from(is_last));
        }
        let level = number_behind(name, "encoder_blocks")?;
        let block = number_behind(name, &format!("encoder_blocks.{level}.blocks"))?;
        Some(self.blocks_below(level) + block + 1)
    }
}

/// The network.
#[derive(Debug)]
pub(in crate::model) struct PointM2ae {
    levels: Vec<Level>,
    /// Of classification.
    norm: Option<LayerNorm>,
    config: PointM2aeConfig,
}

#[derive(Debug)]
struct Level {
    token_embed: GroupEmbedding,
    encoder_pos_embed: PositionEmbedding,
    encoder_blocks: Blocks,
    encoder_norm: LayerNorm,
}

/// Which tokens a level's blocks get.
#[derive(Debug, Clone, Copy)]
enum Attention<'a> {
    /// All of them, each attending to those nearer than a radius; 0 is to all.
    Local(f64),
    /// Those whose flag is true, B,G.
    Visible(&'a Tensor),
}

impl PointM2ae {
    pub(in crate::model) fn new(vs: &nn::Path<'_>, config: &PointM2aeConfig) -> Self {
        let num_blocks = config.levels.iter().map(|level| level.num_blocks).sum();
        let mut drop_path = rising_drop_path(num_blocks, config.drop_path).into_iter();
        let mut in_channels = 3;
        let mut build = |(i, level): (usize, &PointM2aeLevel)| {
            let (channels, init) = (level.channels, Init::Normal);
            let widths = if i == 0 {
                config.group_widths
            } else {
                [in_channels, in_channels]
            };
            let drop_path: Vec<f64> = drop_path.by_ref().take(level.num_blocks as usize).collect();
            let built = Level {
                token_embed: GroupEmbedding::new(
                    &(vs / "token_embed" / i),
                    in_channels,
                    widths,
                    channels,
                    init,
                ),
                encoder_pos_embed: PositionEmbedding::new(
                    &(vs / "encoder_pos_embeds" / i),
                    channels,
                    channels,
                    init,
                ),
                encoder_blocks: Blocks::new(
                    &(vs / "encoder_blocks" / i / "blocks"),
                    config.block_sizes(channels),
                    &drop_path,
                    init,
                ),
                encoder_norm: LayerNorm::new(vs / "encoder_norms" / i, channels),
            };
            in_channels = channels;
            built
        };
        Self {
            levels: config.levels.iter().enumerate().map(&mut build).collect(),
            norm: None,
            config: config.clone(),
        }
    }

    /// The groups of every level, from fine to coarse.
    pub(in crate::model) fn groups(&self, cloud: &Cloud) -> Vec<Groups> {
        let next = |xyz: &mut Tensor, level: &PointM2aeLevel| {
            let groups = Groups::of_nearest(xyz, level.num_groups, level.num_neighbors);
            *xyz = groups.centers.shallow_clone();
            Some(groups)
        };
        self.config
            .levels
            .iter()
            .scan(cloud.xyz.shallow_clone(), next)
            .collect()
    }

    /// The visible tokens of every level, normalized, each in its place, and zeros in those of the others.
    ///
    /// # Shapes
    /// - `visible`: B,G of flags for each level
    /// - returns B,G,C for each level
    pub(in crate::model) fn encode_visible(
        &self,
        groups: &[Groups],
        visible: &[Tensor],
        mode: Mode,
    ) -> Vec<Tensor> {
        let encoded = self.encode(groups, |level| Attention::Visible(&visible[level]), mode);
        let levels = self.levels.iter().zip(encoded).zip(visible);
        levels
            .map(|((level, tokens), visible)| {
                level.encoder_norm.forward(&tokens) * visible.unsqueeze(2).to_kind(Kind::Float)
            })
            .collect()
    }

    /// The tokens of every level behind its blocks.
    fn encode<'a>(
        &self,
        groups: &[Groups],
        attention: impl Fn(usize) -> Attention<'a>,
        mode: Mode,
    ) -> Vec<Tensor> {
        let mut outputs: Vec<Tensor> = Vec::new();
        for (i, (level, groups)) in self.levels.iter().zip(groups).enumerate() {
            let members = match outputs.last() {
                None => groups.points.shallow_clone(),
                Some(finer) => ops::gather(finer, &groups.neighbors),
            };
            let tokens = level.token_embed.forward(&members, mode);
            outputs.push(level.encode(&tokens, &groups.centers, attention(i), mode));
        }
        outputs
    }

    /// The coarsest tokens before any norm, with the attention of classification.
    fn encode_locally(&self, groups: &[Groups], mode: Mode) -> Tensor {
        let radius = |level: usize| Attention::Local(self.config.levels[level].attention_radius);
        self.encode(groups, radius, mode).pop().expect("there is a level")
    }
}

impl Level {
    /// # Shapes
    /// - `tokens`: B,G,C; `centers`: B,G,3
    /// - returns B,G,C; hidden tokens stay as they are
    fn encode(&self, tokens: &Tensor, centers: &Tensor, attention: Attention<'_>, mode: Mode) -> Tensor {
        match attention {
            Attention::Local(radius) => {
                let position = self.encoder_pos_embed.forward(centers, mode);
                let bias = (radius > 0.0).then(|| {
                    let near = Tensor::cdist(centers, centers, 2.0, None::<i64>).lt(radius);
                    attention_bias(&near.unsqueeze(1))
                });
                self.encoder_blocks
                    .forward_with(tokens, &position, bias.as_ref(), mode)
            }
            Attention::Visible(flags) => {
                let packed = Packed::new(flags);
                let position = self.encoder_pos_embed.forward(&packed.pack(centers), mode);
                let bias = attention_bias(&packed.is_filled.transpose(1, 2).unsqueeze(1));
                let x = packed.pack(tokens);
                let x = self.encoder_blocks.forward_with(&x, &position, Some(&bias), mode);
                packed.put_back(&x, tokens)
            }
        }
    }
}

/// The visible tokens of a batch in a tensor without gaps: clouds have different numbers of them.
struct Packed {
    /// B,T places, those of the visible tokens first.
    index: Tensor,
    /// B,T,1: whether a place is one of a visible token.
    is_filled: Tensor,
}

impl Packed {
    /// # Shapes
    /// - `visible`: B,G
    fn new(visible: &Tensor) -> Self {
        let counts = visible.sum_dim_intlist(1, true, Kind::Int64);
        let longest = counts.max().int64_value(&[]);
        let (_, order) = visible
            .logical_not()
            .to_kind(Kind::Int64)
            .sort_stable(true, 1, false);
        let place = Tensor::arange(longest, (Kind::Int64, visible.device())).unsqueeze(0);
        Self {
            index: order.narrow(1, 0, longest),
            is_filled: place.lt_tensor(&counts).unsqueeze(2),
        }
    }

    /// # Shapes
    /// - `rows`: B,G,C
    /// - returns B,T,C; zeros where nothing is
    fn pack(&self, rows: &Tensor) -> Tensor {
        ops::gather(rows, &self.index) * self.is_filled.to_kind(Kind::Float)
    }

    /// `rows` with the packed ones in their places.
    ///
    /// # Shapes
    /// - `packed`: B,T,C; `rows`: B,G,C
    /// - returns B,G,C
    fn put_back(&self, packed: &Tensor, rows: &Tensor) -> Tensor {
        let there = ops::gather(rows, &self.index);
        let index = self.index.unsqueeze(2).expand_as(packed);
        rows.scatter(1, &index, &packed.where_self(&self.is_filled, &there))
    }
}

impl Encoder for PointM2ae {
    /// Those of the coarsest level as pre-training makes them, but that none is masked.
    fn tokens(&self, cloud: &Cloud, mode: Mode) -> Tokens {
        let mut groups = self.groups(cloud);
        let visible = MultiScaleMask::of_all(&groups).visible;
        let mut encoded = self.encode_visible(&groups, &visible, mode);
        let coarsest = encoded.pop().zip(groups.pop());
        let (features, Groups { centers, .. }) = coarsest.expect("there is a level");
        Tokens { features, centers }
    }

    fn token_channels(&self) -> i64 {
        self.config.coarsest().channels
    }

    fn add_global_weights(&mut self, vs: &nn::Path<'_>) {
        self.norm = Some(LayerNorm::new(vs / "norm", self.token_channels()));
    }

    /// Mean and maximum of the tokens, through a norm of classification's own once that was added.
    fn global_feature(&self, cloud: &Cloud, mode: Mode) -> Tensor {
        let x = match &self.norm {
            Some(norm) => norm.forward(&self.encode_locally(&self.groups(cloud), mode)),
            None => self.tokens(cloud, mode).features,
        };
        let (mean, largest) = (x.mean_dim(1, false, Kind::Float), x.amax(1, false));
        match self.config.pooling {
            Pooling::Concatenated => Tensor::cat(&[mean, largest], 1),
            Pooling::Added => mean + largest,
        }
    }

    fn global_channels(&self) -> i64 {
        match self.config.pooling {
            Pooling::Concatenated => 2 * self.token_channels(),
            Pooling::Added => self.token_channels(),
        }
    }
}
