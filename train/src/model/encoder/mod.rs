//! Point-cloud backbones behind one trait ("Backbones"). One file a backbone.

mod point_net2;
mod transformer;

use std::fmt::Debug;

use serde::{Deserialize, Serialize};
use tch::{Tensor, nn};

pub use point_net2::{LastStage, NeighborRule, PointFeature, PointNet2Config, StageConfig};
pub use transformer::TransformerConfig;

/// A batch of point clouds as the networks take them.
#[derive(Debug)]
pub struct Cloud {
    /// B,N,3 coordinates in `f32`.
    pub xyz: Tensor,
    /// B,C,N features: x, y, z and the height above the lowest point.
    pub features: Tensor,
}

/// What an encoder says about parts of a cloud.
#[derive(Debug)]
pub struct Tokens {
    /// B,M,C features.
    pub features: Tensor,
    /// B,M,3 positions in the space of the cloud.
    pub centers: Tensor,
}

/// A backbone: clouds to tokens for pre-training, clouds to one feature for classification.
///
/// Its parameters lie under the [`nn::Path`] it was built at; `encoder.` in every checkpoint.
pub trait Encoder: Debug + Send {
    /// Tokens with their positions.
    ///
    /// # Shapes
    /// - `cloud`: B,N,3 and B,C,N
    /// - returns B,M,[`token_channels`](Self::token_channels) and B,M,3
    fn tokens(&self, cloud: &Cloud, train: bool) -> Tokens;

    /// Width of a token.
    fn token_channels(&self) -> i64;

    /// One feature a cloud, for a classification head.
    ///
    /// # Shapes
    /// - `cloud`: B,N,3 and B,C,N
    /// - returns B,[`global_channels`](Self::global_channels)
    fn global_feature(&self, cloud: &Cloud, train: bool) -> Tensor;

    /// Width of the global feature.
    fn global_channels(&self) -> i64;
}

/// Which backbone, and all its sizes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum EncoderConfig {
    /// A standard Transformer over groups of points, as in Point-BERT.
    Transformer(TransformerConfig),
    /// PointNet++, single-scale grouping.
    PointNet2(PointNet2Config),
}

impl EncoderConfig {
    /// The Transformer of the paper.
    #[must_use]
    pub fn transformer() -> Self {
        Self::Transformer(TransformerConfig::default())
    }

    /// The PointNet++ of the paper.
    #[must_use]
    pub fn point_net2() -> Self {
        Self::PointNet2(PointNet2Config::default())
    }

    /// A PointNet++ small enough to pre-train on two cores in minutes.
    #[must_use]
    pub fn point_net2_mini() -> Self {
        Self::PointNet2(PointNet2Config::mini())
    }

    /// Builds the backbone with fresh weights under `vs`, by convention `root / "encoder"`.
    ///
    /// Weights are drawn from the default generator of the CPU: call `tch::manual_seed` before.
    #[must_use]
    pub fn build(&self, vs: &nn::Path<'_>) -> Box<dyn Encoder> {
        match self {
            Self::Transformer(config) => Box::new(transformer::Transformer::new(vs, config)),
            Self::PointNet2(config) => Box::new(point_net2::PointNet2::new(vs, config)),
        }
    }
}
