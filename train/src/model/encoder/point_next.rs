//! PointNeXt (Qian et al., "PointNeXt: Revisiting PointNet++ with Improved Training and Scaling Strategies",
//! arXiv:2206.04670); sizes as in the authors' configuration for ScanObjectNN.
//!
//! A linear stem on every point; four stages that halve the points, each a set abstraction with a residual connection
//! and positions relative to the radius, followed, in the larger variants, by inverted residual MLPs; at the end an MLP on
//! every point with its absolute position, over which classification takes the maximum.

use serde::{Deserialize, Serialize};
use tch::{Tensor, nn, no_grad};

use super::{Cloud, Encoder, Layers, Tokens, number_behind};
use crate::model::group::{max_over_edges, max_over_group};
use crate::model::layer::{BatchNorm, Linear};
use crate::model::mode::Mode;
use crate::ops;

/// x, y, z and height.
const INPUT_CHANNELS: i64 = 4;

/// Sizes of a PointNeXt. The default is PointNeXt-S: 1.37 million parameters with its head.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PointNextConfig {
    /// Width of the stem; every stage doubles it.
    pub width: i64,
    /// Blocks of each stage, the set abstraction among them. S has one each, B 2, 3, 2, 2.
    pub blocks: Vec<i64>,
    /// Layers of a set abstraction. Two, with a residual connection, in S; one, without, in the larger variants.
    pub num_abstraction_layers: i64,
    /// Has a set abstraction a residual connection?
    pub abstraction_residual: bool,
    /// Radius of the first stage's groups; a cloud has radius 1.
    pub radius: f64,
    /// From stage to stage, and from a stage's abstraction to its blocks, the radius grows by this factor.
    pub radius_scaling: f64,
    /// Places in a group: the first points within the radius; free ones repeat the first.
    pub num_neighbors: i64,
    /// Width inside an inverted residual block, in multiples of the block's own.
    pub expansion: i64,
}

impl Default for PointNextConfig {
    fn default() -> Self {
        Self {
            width: 32,
            blocks: vec![1; 4],
            num_abstraction_layers: 2,
            abstraction_residual: true,
            radius: 0.15,
            radius_scaling: 1.5,
            num_neighbors: 32,
            expansion: 4,
        }
    }
}

impl PointNextConfig {
    /// PointNeXt-S at half its width with smaller groups: 32 tokens of 256 channels from 512 points.
    #[must_use]
    pub fn mini() -> Self {
        Self {
            width: 16,
            radius: 0.2,
            num_neighbors: 16,
            ..Self::default()
        }
    }
}

impl Layers for PointNextConfig {
    fn num_layers(&self) -> usize {
        self.blocks.len() + 2
    }

    fn layer_of(&self, name: &str) -> Option<usize> {
        number_behind(name, "encoder")
    }
}

/// The network: the stem, the stages and the last MLP are `encoder.0`, `encoder.1` and so on.
#[derive(Debug)]
pub(in crate::model) struct PointNext {
    stem: Linear,
    stages: Vec<Stage>,
    last: Vec<(Linear, BatchNorm)>,
    channels: i64,
}

/// Rows are points.
struct Level {
    /// B,N,3.
    xyz: Tensor,
    /// B,N,C.
    features: Tensor,
}

impl PointNext {
    pub(super) fn new(vs: &nn::Path<'_>, config: &PointNextConfig) -> Self {
        let vs = vs / "encoder";
        let stem = Linear::pointwise(
            &vs / 0 / 0 / "convs" / 0 / 0,
            INPUT_CHANNELS,
            config.width,
            1,
            true,
        );
        let (mut channels, mut radius) = (config.width, config.radius);
        let mut stages = Vec::new();
        for (i, &num_blocks) in config.blocks.iter().enumerate() {
            let stage = Stage::new(&(&vs / (i + 1)), channels, num_blocks, radius, config);
            stages.push(stage);
            channels *= 2;
            radius *= config.radius_scaling;
        }
        let vs = &vs / (config.blocks.len() + 1) / 0 / "convs";
        let widths = vec![channels; config.num_abstraction_layers as usize];
        Self {
            stem,
            stages,
            last: convs(&vs, 3 + channels, &widths),
            channels,
        }
    }
}

impl Encoder for PointNext {
    fn tokens(&self, cloud: &Cloud, mode: Mode) -> Tokens {
        let features = cloud.features.narrow(1, 0, INPUT_CHANNELS).transpose(1, 2);
        let mut level = Level {
            xyz: cloud.xyz.shallow_clone(),
            features: self.stem.forward(&features, mode),
        };
        for stage in &self.stages {
            level = stage.forward(&level, mode);
        }
        let rows = Tensor::cat(&[&level.xyz, &level.features], 2);
        Tokens {
            features: all_active(&self.last, rows, mode),
            centers: level.xyz,
        }
    }

    fn token_channels(&self) -> i64 {
        self.channels
    }

    /// The maximum of the tokens: the last abstraction, of one group with all points.
    fn global_feature(&self, cloud: &Cloud, mode: Mode) -> Tensor {
        self.tokens(cloud, mode).features.amax(1, false)
    }

    fn global_channels(&self) -> i64 {
        self.channels
    }
}

/// A set abstraction and the blocks behind it.
#[derive(Debug)]
struct Stage {
    abstraction: SetAbstraction,
    blocks: Vec<InvResMlp>,
}

impl Stage {
    fn new(vs: &nn::Path<'_>, input: i64, num_blocks: i64, radius: f64, config: &PointNextConfig) -> Self {
        let blocks = (1..num_blocks).map(|i| InvResMlp::new(&(vs / i), 2 * input, radius, config));
        Self {
            abstraction: SetAbstraction::new(&(vs / 0), input, radius, config),
            blocks: blocks.collect(),
        }
    }

    fn forward(&self, level: &Level, mode: Mode) -> Level {
        let level = self.abstraction.forward(level, mode);
        let Some(block) = self.blocks.first() else {
            return level;
        };
        // All blocks of a stage share one ball query.
        let neighbors = ops::ball_query(&level.xyz, &level.xyz, block.radius, block.num_neighbors);
        self.blocks.iter().fold(level, |level, block| Level {
            features: block.forward(&level, &neighbors, mode),
            xyz: level.xyz,
        })
    }
}

/// Half of the points, each with the maximum over an MLP of its neighbors, added to a linear map of its own feature.
#[derive(Debug)]
struct SetAbstraction {
    convs: Vec<(Linear, BatchNorm)>,
    skipconv: Option<Linear>,
    radius: f64,
    num_neighbors: i64,
}

impl SetAbstraction {
    fn new(vs: &nn::Path<'_>, input: i64, radius: f64, config: &PointNextConfig) -> Self {
        let output = 2 * input;
        let mut widths = vec![output / 2; config.num_abstraction_layers as usize - 1];
        widths.push(output);
        Self {
            convs: convs(&(vs / "convs"), 3 + input, &widths),
            skipconv: config
                .abstraction_residual
                .then(|| Linear::pointwise(vs / "skipconv" / 0, input, output, 1, true)),
            radius,
            num_neighbors: config.num_neighbors,
        }
    }

    fn forward(&self, level: &Level, mode: Mode) -> Level {
        let (xyz, centers, neighbors) = no_grad(|| {
            let centers = ops::farthest_points(&level.xyz, level.xyz.size()[1] / 2);
            let xyz = ops::gather(&level.xyz, &centers);
            let neighbors = ops::ball_query(&level.xyz, &xyz, self.radius, self.num_neighbors);
            (xyz, centers, neighbors)
        });
        let ((first, first_norm), rest) = self.convs.split_first().expect("an abstraction has a layer");
        let (of_point, of_center) = by_point(first, level, &xyz, self.radius, mode);
        let pooled = match rest.split_last() {
            None => max_over_edges(&-of_center, &of_point, &neighbors, first_norm, mode),
            Some(((last, last_norm), middle)) => {
                let rows = ops::gather(&of_point, &neighbors) - of_center.unsqueeze(2);
                let rows = all_active(middle, first_norm.forward_relu(&rows, mode), mode);
                // With a residual connection the last layer is left linear until the sum.
                max_over_group(&last_norm.forward(&last.forward(&rows, mode), mode))
            }
        };
        // A ReLU is monotone: behind the maximum it does what it would do before.
        let features = match &self.skipconv {
            Some(skipconv) => {
                (pooled + skipconv.forward(&ops::gather(&level.features, &centers), mode)).relu_()
            }
            None => pooled.relu(),
        };
        Level { xyz, features }
    }
}

/// Inverted residual MLP: the maximum over an MLP of the neighbors, then two layers on every point with a wide middle.
#[derive(Debug)]
struct InvResMlp {
    convs: (Linear, BatchNorm),
    pwconv: [(Linear, BatchNorm); 2],
    radius: f64,
    num_neighbors: i64,
}

impl InvResMlp {
    fn new(vs: &nn::Path<'_>, channels: i64, stage_radius: f64, config: &PointNextConfig) -> Self {
        let convs = vs / "convs" / "convs" / 0;
        let pwconv = |i: i64, input, output| {
            let vs = vs / "pwconv" / i;
            (
                Linear::pointwise(&vs / 0, input, output, 1, false),
                BatchNorm::new(&vs / 1, output),
            )
        };
        let middle = channels * config.expansion;
        Self {
            convs: (
                Linear::pointwise(&convs / 0, 3 + channels, channels, 2, false),
                BatchNorm::new(&convs / 1, channels),
            ),
            pwconv: [pwconv(0, channels, middle), pwconv(1, middle, channels)],
            radius: stage_radius * config.radius_scaling,
            num_neighbors: config.num_neighbors,
        }
    }

    /// # Shapes
    /// - `neighbors`: B,N,K
    /// - returns B,N,C
    fn forward(&self, level: &Level, neighbors: &Tensor, mode: Mode) -> Tensor {
        let (conv, norm) = &self.convs;
        let (of_point, of_center) = by_point(conv, level, &level.xyz, self.radius, mode);
        let pooled = max_over_edges(&-of_center, &of_point, neighbors, norm, mode).relu();
        let [(widen, wide_norm), (narrow, narrow_norm)] = &self.pwconv;
        let wide = wide_norm.forward_relu(&widen.forward(&pooled, mode), mode);
        narrow_norm.forward_add_relu(&narrow.forward(&wide, mode), &level.features, mode)
    }
}

/// A layer on `((p_j - p_i) / radius ‖ f_j)` in two parts whose difference it is: one of the neighbor, one of the center.
///
/// # Shapes
/// - `centers`: B,G,3
/// - returns B,N,out and B,G,out
fn by_point(conv: &Linear, level: &Level, centers: &Tensor, radius: f64, mode: Mode) -> (Tensor, Tensor) {
    let rows = Tensor::cat(&[&(&level.xyz / radius), &level.features], 2);
    (
        conv.forward(&rows, mode),
        conv.forward_part(&(centers / radius), 0, mode),
    )
}

/// 1×1 convolutions with batch norm. Keys `{i}.0.weight`, `{i}.1.*`.
fn convs(vs: &nn::Path<'_>, in_channels: i64, widths: &[i64]) -> Vec<(Linear, BatchNorm)> {
    let mut channels = in_channels;
    let build = |(i, &width): (usize, &i64)| {
        let vs = vs / i;
        let conv = (
            Linear::pointwise(&vs / 0, channels, width, 2, false),
            BatchNorm::new(&vs / 1, width),
        );
        channels = width;
        conv
    };
    widths.iter().enumerate().map(build).collect()
}

/// Every layer with its ReLU.
fn all_active(convs: &[(Linear, BatchNorm)], rows: Tensor, mode: Mode) -> Tensor {
    convs.iter().fold(rows, |rows, (conv, norm)| {
        norm.forward_relu(&conv.forward(&rows, mode), mode)
    })
}
