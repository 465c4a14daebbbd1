//! PointMLP (`docs/method.md`, "PointMLP"; Ma et al., "Rethinking Network Design and Local Geometry in Point Cloud"),
//! and its elite variant.
//!
//! A stage halves the points: neighbors around each center, their differences to the center brought to one scale by a
//! geometric affine module, residual MLPs before and after the maximum over each group.

use serde::{Deserialize, Serialize};
use tch::{Tensor, nn, no_grad};

use super::{Cloud, Encoder, Layers, Tokens, is_below, number_behind};
use crate::model::group::{difference_deviation, max_over_group};
use crate::model::layer::{BatchNorm, Linear};
use crate::model::mode::Mode;
use crate::ops;

/// x, y, z and height.
const INPUT_CHANNELS: i64 = 4;
/// Added to a deviation before it divides.
const DEVIATION_EPSILON: f64 = 1e-5;

/// Sizes of a PointMLP. The default is the paper's.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PointMlpConfig {
    /// Width of the embedding of a point.
    pub channels: i64,
    /// Width inside a residual block, as a part of the block's own.
    pub bottleneck: f64,
    /// The stages.
    pub stages: Vec<PointMlpStage>,
}

/// One stage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PointMlpStage {
    /// Of so many points one stays.
    pub reduction: i64,
    /// Members of a group.
    pub num_neighbors: i64,
    /// Width behind the stage, in multiples of that before it.
    pub expansion: i64,
    /// Residual blocks on every neighbor.
    pub num_pre_blocks: i64,
    /// Residual blocks on every center.
    pub num_pos_blocks: i64,
}

impl PointMlpStage {
    /// Half of the points stay.
    #[must_use]
    pub const fn halving(num_neighbors: i64, expansion: i64, num_blocks: i64) -> Self {
        Self {
            reduction: 2,
            num_neighbors,
            expansion,
            num_pre_blocks: num_blocks,
            num_pos_blocks: num_blocks,
        }
    }
}

impl Default for PointMlpConfig {
    fn default() -> Self {
        Self {
            channels: 64,
            bottleneck: 1.0,
            stages: vec![PointMlpStage::halving(24, 2, 2); 4],
        }
    }
}

impl PointMlpConfig {
    /// PointMLP-elite of the same publication: narrow residual blocks, half the width.
    #[must_use]
    pub fn elite() -> Self {
        let stage = |expansion, num_blocks| PointMlpStage::halving(24, expansion, num_blocks);
        Self {
            channels: 32,
            bottleneck: 0.25,
            stages: vec![stage(2, 1), stage(2, 1), stage(2, 2), stage(1, 1)],
        }
    }

    /// An elite of half its width: 32 tokens of 256 channels from 512 points.
    #[must_use]
    pub fn mini() -> Self {
        Self {
            channels: 16,
            bottleneck: 0.25,
            stages: vec![PointMlpStage::halving(12, 2, 1); 4],
        }
    }
}

impl Layers for PointMlpConfig {
    fn num_layers(&self) -> usize {
        self.stages.len() + 1
    }

    fn layer_of(&self, name: &str) -> Option<usize> {
        if is_below(name, &["embedding"]) {
            return Some(0);
        }
        let lists = ["local_grouper_list", "pre_blocks_list", "pos_blocks_list"];
        let stage = lists.iter().find_map(|list| number_behind(name, list));
        stage.map(|i| i + 1)
    }
}

/// The network.
#[derive(Debug)]
pub(in crate::model) struct PointMlp {
    embedding: ConvBnRelu,
    local_grouper_list: Vec<LocalGrouper>,
    pre_blocks_list: Vec<PreExtraction>,
    pos_blocks_list: Vec<Vec<Residual>>,
    /// Width of each level, the embedding first.
    widths: Vec<i64>,
}

/// Points that a stage hands to the next: rows are points.
#[derive(Debug)]
pub(in crate::model) struct Level {
    /// B,N,3.
    pub(in crate::model) xyz: Tensor,
    /// B,N,C.
    pub(in crate::model) features: Tensor,
}

impl PointMlp {
    pub(super) fn new(vs: &nn::Path<'_>, config: &PointMlpConfig) -> Self {
        Self::with_input(vs, config, INPUT_CHANNELS)
    }

    /// With `in_channels` features a point instead of position and height.
    pub(in crate::model) fn with_input(vs: &nn::Path<'_>, config: &PointMlpConfig, in_channels: i64) -> Self {
        let embedding = ConvBnRelu::new(&(vs / "embedding"), in_channels, config.channels);
        let mut network = Self {
            embedding,
            local_grouper_list: Vec::new(),
            pre_blocks_list: Vec::new(),
            pos_blocks_list: Vec::new(),
            widths: vec![config.channels],
        };
        for (i, stage) in config.stages.iter().enumerate() {
            let input = network.widths[i];
            let width = input * stage.expansion;
            network.local_grouper_list.push(LocalGrouper::new(
                &(vs / "local_grouper_list" / i),
                input,
                stage,
            ));
            network.pre_blocks_list.push(PreExtraction::new(
                &(vs / "pre_blocks_list" / i),
                input,
                width,
                stage.num_pre_blocks,
                config.bottleneck,
            ));
            network.pos_blocks_list.push(residuals(
                &(vs / "pos_blocks_list" / i),
                width,
                stage.num_pos_blocks,
                config.bottleneck,
            ));
            network.widths.push(width);
        }
        network
    }

    /// Widths of the levels.
    pub(in crate::model) fn widths(&self) -> &[i64] {
        &self.widths
    }

    /// The embedded points and what each stage makes of them.
    ///
    /// # Shapes
    /// - `xyz`: B,N,3; `features`: B,N,C
    pub(in crate::model) fn levels(&self, xyz: &Tensor, features: &Tensor, mode: Mode) -> Vec<Level> {
        let mut levels = vec![Level {
            xyz: xyz.shallow_clone(),
            features: self.embedding.forward(features, mode),
        }];
        let stages = self.local_grouper_list.iter().zip(&self.pre_blocks_list);
        for ((grouper, pre), pos) in stages.zip(&self.pos_blocks_list) {
            let level = &levels[levels.len() - 1];
            let groups = grouper.groups(&level.xyz);
            let pooled = max_over_group(&pre.forward(grouper, &level.features, &groups, mode));
            levels.push(Level {
                xyz: groups.xyz,
                features: run(pos, pooled, mode),
            });
        }
        levels
    }

    fn last_level(&self, cloud: &Cloud, mode: Mode) -> Level {
        let features = cloud.features.narrow(1, 0, INPUT_CHANNELS).transpose(1, 2);
        self.levels(&cloud.xyz, &features, mode)
            .pop()
            .expect("the embedding is a level")
    }
}

impl Encoder for PointMlp {
    fn tokens(&self, cloud: &Cloud, mode: Mode) -> Tokens {
        let level = self.last_level(cloud, mode);
        Tokens {
            features: level.features,
            centers: level.xyz,
        }
    }

    fn token_channels(&self) -> i64 {
        *self.widths.last().expect("the embedding is a level")
    }

    /// The maximum of the tokens.
    fn global_feature(&self, cloud: &Cloud, mode: Mode) -> Tensor {
        self.last_level(cloud, mode).features.amax(1, false)
    }

    fn global_channels(&self) -> i64 {
        self.token_channels()
    }
}

/// Groups of neighbors and their normalization ("geometric affine module").
#[derive(Debug)]
struct LocalGrouper {
    affine_alpha: Tensor,
    affine_beta: Tensor,
    reduction: i64,
    num_neighbors: i64,
}

/// Centers and their neighbors.
struct Groups {
    /// B,G,3.
    xyz: Tensor,
    /// B,G.
    centers: Tensor,
    /// B,G,K.
    neighbors: Tensor,
}

impl LocalGrouper {
    fn new(vs: &nn::Path<'_>, channels: i64, stage: &PointMlpStage) -> Self {
        Self {
            affine_alpha: vs.ones("affine_alpha", &[1, 1, 1, channels]),
            affine_beta: vs.zeros("affine_beta", &[1, 1, 1, channels]),
            reduction: stage.reduction,
            num_neighbors: stage.num_neighbors,
        }
    }

    fn groups(&self, xyz: &Tensor) -> Groups {
        no_grad(|| {
            let centers = ops::farthest_points(xyz, xyz.size()[1] / self.reduction);
            let of_centers = ops::gather(xyz, &centers);
            Groups {
                neighbors: ops::nearest(xyz, &of_centers, self.num_neighbors),
                xyz: of_centers,
                centers,
            }
        })
    }

    /// `layer` on (alpha · difference / deviation + beta ‖ center) of every neighbor; the deviation is one of a cloud, over
    /// all groups, neighbors and channels.
    ///
    /// The product is formed by point instead of by neighbor: of a difference it is a difference, and deviation, beta
    /// and center are the same for a whole group.
    ///
    /// # Shapes
    /// - `features`: B,N,C
    /// - returns B,G,K,out
    fn apply(&self, layer: &ConvBnRelu, features: &Tensor, groups: &Groups, mode: Mode) -> Tensor {
        let channels = features.size()[2];
        let of_center = ops::gather(features, &groups.centers);
        let deviation = difference_deviation(&of_center, features, &groups.neighbors) + DEVIATION_EPSILON;
        let of_point = layer.forward_part(&(features * self.affine_alpha.view([1, 1, channels])), 0, mode)
            / deviation.view([-1, 1, 1]);
        let of_group = layer.forward_part(&of_center, channels, mode)
            + layer.forward_part(&self.affine_beta.view([1, 1, channels]), 0, mode)
            - ops::gather(&of_point, &groups.centers);
        ops::gather(&of_point, &groups.neighbors) + of_group.unsqueeze(2)
    }
}

/// A layer on (difference ‖ center) of every neighbor, then residual blocks.
#[derive(Debug)]
struct PreExtraction {
    transfer: ConvBnRelu,
    operation: Vec<Residual>,
}

impl PreExtraction {
    fn new(vs: &nn::Path<'_>, input: i64, width: i64, num_blocks: i64, bottleneck: f64) -> Self {
        Self {
            transfer: ConvBnRelu::new(&(vs / "transfer"), 2 * input, width),
            operation: residuals(vs, width, num_blocks, bottleneck),
        }
    }

    /// # Shapes
    /// - returns B,G,K,width
    fn forward(&self, grouper: &LocalGrouper, features: &Tensor, groups: &Groups, mode: Mode) -> Tensor {
        let rows = grouper.apply(&self.transfer, features, groups, mode);
        run(&self.operation, self.transfer.activate(&rows, mode), mode)
    }
}

fn residuals(vs: &nn::Path<'_>, channels: i64, num_blocks: i64, bottleneck: f64) -> Vec<Residual> {
    let operation = vs / "operation";
    (0..num_blocks)
        .map(|i| Residual::new(&(&operation / i), channels, bottleneck))
        .collect()
}

fn run(blocks: &[Residual], rows: Tensor, mode: Mode) -> Tensor {
    blocks.iter().fold(rows, |rows, block| block.forward(&rows, mode))
}

/// `relu(net2(net1(x)) + x)`.
#[derive(Debug)]
pub(in crate::model) struct Residual {
    net1: (Linear, BatchNorm),
    net2: (Linear, BatchNorm),
}

impl Residual {
    pub(in crate::model) fn new(vs: &nn::Path<'_>, channels: i64, bottleneck: f64) -> Self {
        let hidden = (channels as f64 * bottleneck) as i64;
        let layer = |name: &str, input, output| {
            let vs = vs / name;
            (
                Linear::pointwise(&vs / 0, input, output, 1, false),
                BatchNorm::new(&vs / 1, output),
            )
        };
        Self {
            net1: layer("net1", channels, hidden),
            net2: layer("net2", hidden, channels),
        }
    }

    /// # Shapes
    /// - `x`: ...,C
    /// - returns ...,C
    pub(in crate::model) fn forward(&self, x: &Tensor, mode: Mode) -> Tensor {
        let (conv, norm) = &self.net1;
        let hidden = norm.forward_relu(&conv.forward(x, mode), mode);
        let (conv, norm) = &self.net2;
        norm.forward_add_relu(&conv.forward(&hidden, mode), x, mode)
    }
}

/// 1×1 convolution, batch norm, ReLU. Keys `net.0.weight`, `net.1.*`.
#[derive(Debug)]
pub(in crate::model) struct ConvBnRelu {
    conv: Linear,
    norm: BatchNorm,
}

impl ConvBnRelu {
    pub(in crate::model) fn new(vs: &nn::Path<'_>, in_channels: i64, out_channels: i64) -> Self {
        let vs = vs / "net";
        Self {
            conv: Linear::pointwise(&vs / 0, in_channels, out_channels, 1, false),
            norm: BatchNorm::new(&vs / 1, out_channels),
        }
    }

    /// # Shapes
    /// - `x`: ...,in
    /// - returns ...,out
    pub(in crate::model) fn forward(&self, x: &Tensor, mode: Mode) -> Tensor {
        self.activate(&self.conv.forward(x, mode), mode)
    }

    /// The part of the convolution that the input channels from `first` on have.
    pub(in crate::model) fn forward_part(&self, x: &Tensor, first: i64, mode: Mode) -> Tensor {
        self.conv.forward_part(x, first, mode)
    }

    /// What follows the convolution.
    pub(in crate::model) fn activate(&self, rows: &Tensor, mode: Mode) -> Tensor {
        self.norm.forward_relu(rows, mode)
    }
}
