//! PointNet++ with single-scale set abstraction (`docs/method.md`, "PointNet++"), and the `mini` variant of this project.
//!
//! A stage takes centers by farthest-point sampling, groups neighbors around each, runs a shared MLP over
//! (relative position ‖ feature) and takes the maximum over the group. Rows are points and columns channels all the way,
//! so that the 1×1 convolutions of the checkpoint are plain matrix products.

use serde::{Deserialize, Serialize};
use tch::{Tensor, nn, no_grad};

use super::{Cloud, Encoder, Layers, Tokens, number_behind};
use crate::model::group::max_over_group;
use crate::model::layer::{BatchNorm, Linear};
use crate::model::mode::Mode;
use crate::ops;

/// Sizes of a PointNet++. The default is the paper's.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PointNet2Config {
    /// Number of input points, by farthest-point sampling; all if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub num_points: Option<i64>,
    /// What enters the first stage beside the relative position.
    pub input: PointFeature,
    /// How neighbors are chosen.
    pub neighbors: NeighborRule,
    /// The grouping stages.
    pub stages: Vec<StageConfig>,
    /// The stage that makes the tokens.
    pub last: LastStage,
}

/// Features of a single point.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PointFeature {
    /// Absolute position and height.
    XyzHeight,
    /// Height alone.
    Height,
}

/// Which points within the radius belong to a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NeighborRule {
    /// The first ones in index order, as the released code does.
    FirstInBall,
    /// The nearest ones.
    NearestInBall,
}

/// One set-abstraction stage.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StageConfig {
    /// Centers, by farthest-point sampling.
    pub num_centers: i64,
    /// Radius of a group; a cloud has radius 1.
    pub radius: f64,
    /// Places in a group; free ones repeat its first point.
    pub num_neighbors: i64,
    /// Widths of the shared MLP.
    pub widths: Vec<i64>,
}

/// The last stage.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum LastStage {
    /// Parity: one set of weights, two uses (`docs/method.md`, "Last stage of PointNet++"). Tokens come from groups with
    /// relative positions; the global feature from one group of all points with absolute positions. Published weights
    /// rely on it.
    Grouped(StageConfig),
    /// The MLP on every point of the stage before, with its absolute position; the global feature is the maximum and
    /// the mean of the tokens.
    PerToken {
        /// Widths of the shared MLP.
        widths: Vec<i64>,
    },
}

impl Default for PointNet2Config {
    fn default() -> Self {
        let stage = |num_centers, radius, num_neighbors, widths: [i64; 3]| StageConfig {
            num_centers,
            radius,
            num_neighbors,
            widths: widths.to_vec(),
        };
        Self {
            num_points: None,
            input: PointFeature::XyzHeight,
            neighbors: NeighborRule::FirstInBall,
            stages: vec![
                stage(512, 0.2, 32, [64, 64, 128]),
                stage(128, 0.4, 64, [128, 128, 256]),
            ],
            last: LastStage::Grouped(stage(64, 0.2, 32, [256, 512, 1024])),
        }
    }
}

impl PointNet2Config {
    /// 512 points, 32 tokens of 256 channels, 70,848 parameters.
    #[must_use]
    pub fn mini() -> Self {
        let stage = |num_centers, radius, widths: [i64; 3]| StageConfig {
            num_centers,
            radius,
            num_neighbors: 16,
            widths: widths.to_vec(),
        };
        Self {
            num_points: Some(512),
            input: PointFeature::Height,
            neighbors: NeighborRule::NearestInBall,
            stages: vec![stage(128, 0.2, [32, 32, 64]), stage(32, 0.4, [64, 64, 128])],
            last: LastStage::PerToken {
                widths: vec![128, 256],
            },
        }
    }
}

impl Layers for PointNet2Config {
    fn num_layers(&self) -> usize {
        self.stages.len() + 1
    }

    fn layer_of(&self, name: &str) -> Option<usize> {
        number_behind(name, "SA_modules")
    }
}

/// The network. Its one field is called as in the checkpoint.
#[derive(Debug)]
#[expect(non_snake_case, reason = "field names equal checkpoint keys")]
pub(in crate::model) struct PointNet2 {
    SA_modules: Vec<SharedMlp>,
    config: PointNet2Config,
    token_channels: i64,
}

/// Points that a stage hands to the next: rows are points.
struct Level {
    /// B,N,3.
    xyz: Tensor,
    /// B,N,C.
    features: Tensor,
    /// Whether the points lie in farthest-point order, so that any prefix is a farthest-point sample.
    is_ordered: bool,
}

impl PointNet2 {
    pub(super) fn new(vs: &nn::Path<'_>, config: &PointNet2Config) -> Self {
        let mut channels = match config.input {
            PointFeature::XyzHeight => 4,
            PointFeature::Height => 1,
        };
        let (LastStage::Grouped(StageConfig { widths: last, .. }) | LastStage::PerToken { widths: last }) =
            &config.last;
        let widths = config.stages.iter().map(|stage| &stage.widths).chain([last]);
        let modules = vs / "SA_modules";
        let build = |(i, widths): (usize, &Vec<i64>)| {
            let vs = &modules / i / "local_aggregations" / 0 / "SA_CONFIG_operator" / "convs";
            let mlp = SharedMlp::new(&vs, 3 + channels, widths);
            channels = *widths.last().expect("an MLP has a layer");
            mlp
        };
        let mlps = widths.enumerate().map(build).collect();
        Self {
            SA_modules: mlps,
            config: config.clone(),
            token_channels: channels,
        }
    }

    /// All grouping stages, up to the last.
    fn levels(&self, cloud: &Cloud, mode: Mode) -> Level {
        let mut level = self.input(cloud);
        for (mlp, stage) in self.SA_modules.iter().zip(&self.config.stages) {
            level = self.abstraction(&level, mlp, stage, mode);
        }
        level
    }

    fn input(&self, cloud: &Cloud) -> Level {
        no_grad(|| {
            let features = match self.config.input {
                PointFeature::XyzHeight => cloud.features.narrow(1, 0, 4),
                PointFeature::Height => cloud.features.narrow(1, 3, 1),
            };
            let features = features.transpose(1, 2);
            let Some(num_points) = self.config.num_points else {
                return Level {
                    xyz: cloud.xyz.shallow_clone(),
                    features,
                    is_ordered: false,
                };
            };
            let index = ops::farthest_points(&cloud.xyz, num_points);
            Level {
                xyz: ops::gather(&cloud.xyz, &index),
                features: ops::gather(&features, &index),
                is_ordered: true,
            }
        })
    }

    fn abstraction(&self, level: &Level, mlp: &SharedMlp, stage: &StageConfig, mode: Mode) -> Level {
        let (centers, neighbors) = no_grad(|| {
            let centers = if level.is_ordered {
                level.xyz.narrow(1, 0, stage.num_centers)
            } else {
                ops::gather(&level.xyz, &ops::farthest_points(&level.xyz, stage.num_centers))
            };
            let neighbors = match self.config.neighbors {
                NeighborRule::FirstInBall => {
                    ops::ball_query(&level.xyz, &centers, stage.radius, stage.num_neighbors)
                }
                NeighborRule::NearestInBall => {
                    ops::nearest_within(&level.xyz, &centers, stage.radius, stage.num_neighbors)
                }
            };
            (centers, neighbors)
        });
        let features = mlp.grouped(level, &centers, &neighbors, mode);
        Level {
            xyz: centers,
            features,
            is_ordered: level.is_ordered,
        }
    }

    fn last_mlp(&self) -> &SharedMlp {
        self.SA_modules.last().expect("there is a last stage")
    }
}

impl Encoder for PointNet2 {
    fn tokens(&self, cloud: &Cloud, mode: Mode) -> Tokens {
        let level = self.levels(cloud, mode);
        let tokens = match &self.config.last {
            LastStage::Grouped(stage) => self.abstraction(&level, self.last_mlp(), stage, mode),
            LastStage::PerToken { .. } => {
                let features = self.last_mlp().absolute(&level, mode);
                Level { features, ..level }
            }
        };
        Tokens {
            features: tokens.features,
            centers: tokens.xyz,
        }
    }

    fn token_channels(&self) -> i64 {
        self.token_channels
    }

    fn global_feature(&self, cloud: &Cloud, mode: Mode) -> Tensor {
        match self.config.last {
            LastStage::Grouped(_) => self
                .last_mlp()
                .absolute(&self.levels(cloud, mode), mode)
                .amax(1, false),
            LastStage::PerToken { .. } => {
                let tokens = self.tokens(cloud, mode).features;
                Tensor::cat(&[tokens.amax(1, false), tokens.mean_dim(1, false, None)], 1)
            }
        }
    }

    fn global_channels(&self) -> i64 {
        match self.config.last {
            LastStage::Grouped(_) => self.token_channels,
            LastStage::PerToken { .. } => 2 * self.token_channels,
        }
    }
}

/// 1×1 convolution, batch norm, ReLU; some times over. Keys `{i}.0.weight`, `{i}.1.*`.
#[derive(Debug)]
struct SharedMlp {
    convs: Vec<(Linear, BatchNorm)>,
    in_channels: i64,
    first_width: i64,
}

impl SharedMlp {
    fn new(vs: &nn::Path<'_>, in_channels: i64, widths: &[i64]) -> Self {
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
        let convs = widths.iter().enumerate().map(build).collect();
        Self {
            convs,
            in_channels,
            first_width: widths[0],
        }
    }

    /// The MLP on (relative position ‖ feature) of every neighbor, and the maximum over each group.
    ///
    /// # Shapes
    /// - `centers`: B,G,3; `neighbors`: B,G,K
    /// - returns B,G,out
    fn grouped(&self, level: &Level, centers: &Tensor, neighbors: &Tensor, mode: Mode) -> Tensor {
        let rows = if self.in_channels < self.first_width {
            let grouped = grouped_input(level, centers, neighbors);
            self.convs[0].0.forward(&grouped, mode)
        } else {
            self.first_layer_by_point(level, centers, neighbors, mode)
        };
        max_over_group(&self.after_first_layer(&rows, mode))
    }

    /// The first layer, applied before grouping where that is cheaper: `W (p_j - p_i ‖ f_j) = W (p_j ‖ f_j) - W (p_i ‖ 0)`,
    /// one product a point instead of one a neighbor.
    fn first_layer_by_point(
        &self,
        level: &Level,
        centers: &Tensor,
        neighbors: &Tensor,
        mode: Mode,
    ) -> Tensor {
        let conv = &self.convs[0].0;
        let of_point = conv.forward(&Tensor::cat(&[&level.xyz, &level.features], 2), mode);
        let of_center = conv.forward_part(centers, 0, mode);
        ops::gather(&of_point, neighbors) - of_center.unsqueeze(2)
    }

    /// The MLP on (absolute position ‖ feature) of every point.
    ///
    /// # Shapes
    /// - returns B,N,out
    fn absolute(&self, level: &Level, mode: Mode) -> Tensor {
        let rows = Tensor::cat(&[&level.xyz, &level.features], 2);
        self.after_first_layer(&self.convs[0].0.forward(&rows, mode), mode)
    }

    fn after_first_layer(&self, rows: &Tensor, mode: Mode) -> Tensor {
        let mut rows = self.convs[0].1.forward_relu(rows, mode);
        for (conv, norm) in &self.convs[1..] {
            rows = norm.forward_relu(&conv.forward(&rows, mode), mode);
        }
        rows
    }
}

/// (relative position ‖ feature) of every neighbor; for the first stage, whose input carries no gradient.
fn grouped_input(level: &Level, centers: &Tensor, neighbors: &Tensor) -> Tensor {
    let rows = Tensor::cat(&[&level.xyz, &level.features], 2);
    let grouped = ops::gather(&rows, neighbors);
    let relative = grouped.narrow(-1, 0, 3) - centers.unsqueeze(2);
    Tensor::cat(&[relative, grouped.narrow(-1, 3, grouped.size()[3] - 3)], -1)
}

#[cfg(test)]
mod tests {
    use tch::{Device, Kind};

    use super::*;
    use crate::model::encoder::EncoderConfig;

    fn cloud(batch: i64, num_points: i64) -> Cloud {
        let xyz = Tensor::randn([batch, num_points, 3], (Kind::Float, Device::Cpu));
        let xyz = &xyz / xyz.norm_scalaropt_dim(2, [-1], true).amax(1, true);
        let height = xyz.narrow(2, 1, 1) - xyz.narrow(2, 1, 1).amin(1, true);
        let features = Tensor::cat(&[&xyz, &height], 2).transpose(1, 2).contiguous();
        Cloud { xyz, features }
    }

    #[test]
    fn shapes_and_sizes() {
        tch::manual_seed(0);
        let vs = nn::VarStore::new(Device::Cpu);
        let encoder = EncoderConfig::point_net2_mini().build(&(vs.root() / "encoder"));
        let num_parameters: usize = vs.trainable_variables().iter().map(Tensor::numel).sum();
        assert_eq!(num_parameters, 70_848, "parameters of the mini encoder");
        let cloud = cloud(2, 1024);
        let tokens = encoder.tokens(&cloud, Mode::TRAIN);
        assert_eq!(tokens.features.size(), [2, 32, 256], "32 tokens of 256");
        assert_eq!(tokens.centers.size(), [2, 32, 3], "each with a position");
        assert_eq!(
            encoder.global_feature(&cloud, Mode::TRAIN).size(),
            [2, 512],
            "maximum and mean"
        );
    }

    #[test]
    fn the_first_layer_commutes_with_grouping() {
        tch::manual_seed(1);
        let vs = nn::VarStore::new(Device::Cpu);
        let mlp = SharedMlp::new(&vs.root(), 3 + 8, &[4, 4]);
        let cloud = cloud(2, 40);
        let features = Tensor::randn([2, 40, 8], (Kind::Float, Device::Cpu));
        let level = Level {
            xyz: cloud.xyz,
            features,
            is_ordered: false,
        };
        let centers = level.xyz.narrow(1, 0, 6);
        let neighbors = ops::nearest(&level.xyz, &centers, 5);
        let by_point = mlp.first_layer_by_point(&level, &centers, &neighbors, Mode::EVAL);
        let by_neighbor = mlp.convs[0]
            .0
            .forward(&grouped_input(&level, &centers, &neighbors), Mode::EVAL);
        assert!(
            by_point.allclose(&by_neighbor, 1e-4, 1e-5, false),
            "both orders give one result"
        );
    }
}
