//! DGCNN (`docs/method.md`, "DGCNN"; Wang et al., "Dynamic Graph CNN for Learning on Point Clouds").
//!
//! Edge convolutions over the graph of nearest neighbors: the first on coordinates, each later one on the features
//! that the one before it made. All outputs are joined and fused to one feature a point.

use serde::{Deserialize, Serialize};
use tch::{Tensor, nn, no_grad};

use super::{Cloud, Encoder, Layers, Tokens, is_below, number_behind};
use crate::model::group::max_over_edges;
use crate::model::layer::{BatchNorm, Linear};
use crate::model::mode::Mode;
use crate::ops;

/// Negative slope of the leaky ReLU.
const NEGATIVE_SLOPE: f32 = 0.2;
/// x, y, z and height.
const INPUT_CHANNELS: i64 = 4;

/// Sizes of a DGCNN. The default is the paper's.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DgcnnConfig {
    /// Number of input points and so of tokens, by farthest-point sampling; all if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub num_points: Option<i64>,
    /// Neighbors of a point, itself among them.
    pub num_neighbors: i64,
    /// Widths of the edge convolutions.
    pub widths: Vec<i64>,
    /// Width of a token.
    pub channels: i64,
}

impl Default for DgcnnConfig {
    fn default() -> Self {
        Self {
            num_points: None,
            num_neighbors: 20,
            widths: vec![64, 64, 128, 256],
            channels: 1024,
        }
    }
}

impl DgcnnConfig {
    /// 256 points, and so 256 tokens, of 256 channels.
    #[must_use]
    pub fn mini() -> Self {
        Self {
            num_points: Some(256),
            num_neighbors: 12,
            widths: vec![32, 32, 64, 128],
            channels: 256,
        }
    }
}

impl Layers for DgcnnConfig {
    fn num_layers(&self) -> usize {
        self.widths.len() + 1
    }

    fn layer_of(&self, name: &str) -> Option<usize> {
        if is_below(name, &["head"]) {
            return Some(0);
        }
        if is_below(name, &["fusion_block"]) {
            return Some(self.widths.len());
        }
        number_behind(name, "backbone").map(|i| i + 1)
    }
}

/// The network.
#[derive(Debug)]
pub(in crate::model) struct Dgcnn {
    head: EdgeConv,
    backbone: Vec<EdgeConv>,
    fusion_block: (Linear, BatchNorm),
    config: DgcnnConfig,
}

impl Dgcnn {
    pub(super) fn new(vs: &nn::Path<'_>, config: &DgcnnConfig) -> Self {
        let (&first, rest) = config.widths.split_first().expect("there is a layer");
        let mut channels = first;
        let build = |(i, &width): (usize, &i64)| {
            let conv = EdgeConv::new(&(vs / "backbone" / i), channels, width);
            channels = width;
            conv
        };
        let fusion_block = vs / "fusion_block";
        Self {
            head: EdgeConv::new(&(vs / "head"), INPUT_CHANNELS, first),
            backbone: rest.iter().enumerate().map(build).collect(),
            fusion_block: (
                Linear::pointwise(
                    &fusion_block / 0,
                    config.widths.iter().sum(),
                    config.channels,
                    1,
                    false,
                ),
                BatchNorm::new(&fusion_block / 1, config.channels),
            ),
            config: config.clone(),
        }
    }

    /// # Shapes
    /// - `features`: B,N,C
    /// - returns N' neighbors of each point in the space of the features: B,N,K
    fn graph(&self, features: &Tensor) -> Tensor {
        no_grad(|| {
            let features = features.detach();
            // The released code's own way to distances, so that near-ties fall the same way.
            let distances = Tensor::cdist(&features, &features, 2.0, None);
            distances.topk(self.config.num_neighbors, -1, false, false).1
        })
    }
}

impl Encoder for Dgcnn {
    fn tokens(&self, cloud: &Cloud, mode: Mode) -> Tokens {
        let (xyz, features) = no_grad(|| {
            let features = cloud.features.narrow(1, 0, INPUT_CHANNELS).transpose(1, 2);
            match self.config.num_points {
                None => (cloud.xyz.shallow_clone(), features),
                Some(num_points) => {
                    let index = ops::farthest_points(&cloud.xyz, num_points);
                    (ops::gather(&cloud.xyz, &index), ops::gather(&features, &index))
                }
            }
        });
        let neighbors = ops::nearest(&xyz, &xyz, self.config.num_neighbors);
        let mut outputs = vec![self.head.forward(&features, &neighbors, mode)];
        for conv in &self.backbone {
            let input = &outputs[outputs.len() - 1];
            outputs.push(conv.forward(input, &self.graph(input), mode));
        }
        let (conv, norm) = &self.fusion_block;
        let fused = norm.forward(&conv.forward(&Tensor::cat(&outputs, 2), mode), mode);
        Tokens {
            features: leaky_relu(&fused),
            centers: xyz,
        }
    }

    fn token_channels(&self) -> i64 {
        self.config.channels
    }

    /// The maximum and the mean of the tokens.
    fn global_feature(&self, cloud: &Cloud, mode: Mode) -> Tensor {
        let tokens = self.tokens(cloud, mode).features;
        Tensor::cat(&[tokens.amax(1, false), tokens.mean_dim(1, false, None)], 1)
    }

    fn global_channels(&self) -> i64 {
        2 * self.config.channels
    }
}

/// A linear layer on `(x_i ‖ x_j - x_i)` with batch norm and leaky ReLU, and the maximum over the edges of a point. Keys
/// `gconv.nn.0.weight`, `gconv.nn.1.*`.
#[derive(Debug)]
struct EdgeConv {
    conv: Linear,
    norm: BatchNorm,
}

impl EdgeConv {
    fn new(vs: &nn::Path<'_>, in_channels: i64, width: i64) -> Self {
        let vs = vs / "gconv" / "nn";
        Self {
            conv: Linear::pointwise(&vs / 0, 2 * in_channels, width, 2, false),
            norm: BatchNorm::new(&vs / 1, width),
        }
    }

    /// # Shapes
    /// - `x`: B,N,C; `neighbors`: B,N,K
    /// - returns B,N,width
    fn forward(&self, x: &Tensor, neighbors: &Tensor, mode: Mode) -> Tensor {
        // W (x_i ‖ x_j - x_i) = (W₁ - W₂) x_i + W₂ x_j: two products a point instead of one an edge. They stay in `f32`,
        // since the next graph is built on them.
        let (matrix, channels) = (self.conv.matrix(), x.size()[2]);
        let of_difference = matrix.narrow(1, channels, channels);
        let of_self = matrix.narrow(1, 0, channels) - &of_difference;
        let of_center = x.linear(&of_self, None::<Tensor>);
        let of_point = x.linear(&of_difference, None::<Tensor>);
        // A leaky ReLU is monotone: the maximum may be taken before it.
        leaky_relu(&max_over_edges(
            &of_center, &of_point, neighbors, &self.norm, mode,
        ))
    }
}

fn leaky_relu(x: &Tensor) -> Tensor {
    x.prelu(&Tensor::from(NEGATIVE_SLOPE).view(1).to_device(x.device()))
}
