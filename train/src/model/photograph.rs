//! The photograph module: cross-attention between pose queries and point tokens (`docs/method.md`, "Photograph module").
//!
//! Blocks of self-attention over the queries of a view, cross-attention from them to the tokens, and a gated
//! feed-forward part. The views of one object share its tokens: cross-attention runs on all their queries at once, and
//! nothing is repeated.
//!
//! The ablations of the paper with explicit instead of learned projection ([`FeatureProjection::SelfAttention`],
//! [`FeatureProjection::Projection`]) average the tokens whose positions a cell's line passes nearest.

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};
use tch::{Kind, Tensor, nn};

use super::encoder::Tokens;
use super::layer::{LayerNorm, Linear, drop_path, dropout};
use super::mode::Mode;
use super::query::{QueryComponents, QueryConfig, QuerySource, RayDirection, RayOrigin, Rays};
use crate::ops;

/// Channels of a query: origin, direction, position.
const QUERY_CHANNELS: i64 = 8;
/// Channels of a pose: its rotation matrix.
const POSE_CHANNELS: i64 = 9;
/// Width of the hidden layer of a gated feed-forward part, in multiples of the channels.
const FEED_FORWARD_RATIO: i64 = 4;
/// Bias of the pad token's logit where tokens get the ray bias.
const PAD_RAY_BIAS: f64 = -2.0;

/// Whether the paper or the released code is followed where they differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Compat {
    /// As in the paper: a pad token in the memory, the true direction of the optical lines, drop path.
    Paper,
    /// As in the released code, which produced the published numbers: no pad token, a constant direction, 32 heads, dropout.
    Code,
}

/// All switches of the photograph module.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PhotographConfig {
    /// Where queries come from.
    pub query: QueryConfig,
    /// How token features are brought to the cells of the image grid (Table 6a).
    #[serde(default, rename = "mixing", alias = "feature_projection")]
    pub feature_projection: FeatureProjection,
    /// Width of queries and memory.
    pub channels: i64,
    /// Blocks.
    pub num_blocks: i64,
    /// Attention heads.
    pub num_heads: i64,
    /// Width of a head; heads × width need not be `channels`.
    pub head_channels: i64,
    /// Whether a learnable token for empty space is appended to the memory.
    pub pad_token: bool,
    /// Hidden width of the query's MLP.
    pub query_hidden: i64,
    /// Hidden width of the memory's MLP; that of its input (token and position) if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_hidden: Option<i64>,
    /// Probability to drop elements behind each attention and inside the feed-forward part.
    pub dropout: f64,
    /// Probability to drop the residual branch of the cross-attention for a whole object.
    pub drop_path: f64,
    /// Extension of this project, in neither the paper nor the released code: in training the module sees a random subset
    /// with this fraction of each object's tokens, so that each token has to describe more of its surroundings; all of them
    /// if absent. Evaluation uses all tokens, and the pad token is never dropped.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token_keep: Option<f64>,
    /// Extension of this project, in neither the paper nor the released code: a bias on the cross-attention from the
    /// distance of a token to the query's optical line.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ray_bias: Option<RayBiasConfig>,
}

/// How token features are brought to the cells of the image grid.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FeatureProjection {
    /// Cross-attention from cells to tokens; the projection is learned.
    #[default]
    CrossAttention,
    /// Model A2: tokens are projected into their cells, then the cells and a token of the pose attend to each other.
    SelfAttention,
    /// Model A1: tokens are projected into their cells, without attention.
    Projection,
}

/// Initial weights of the ray bias: `logits += -(distance · d² + depth · t)` for head h, with d the
/// distance of the token to the line and t its position along it. The list is repeated for further heads.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RayBiasConfig {
    /// Weight of the squared distance, one a head; at least one.
    #[serde(deserialize_with = "at_least_one")]
    pub distance: Vec<f64>,
    /// Weight of the position along the line, one a head; at least one.
    #[serde(deserialize_with = "at_least_one")]
    pub depth: Vec<f64>,
    /// Whether the weights are constants instead of parameters.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_fixed: bool,
}

/// The list is repeated over the heads, so it must not be empty.
fn at_least_one<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<f64>, D::Error> {
    let list = Vec::deserialize(deserializer)?;
    if list.is_empty() {
        return Err(D::Error::custom(
            "the ray bias needs a weight for at least one head, and the list is empty",
        ));
    }
    Ok(list)
}

impl Default for RayBiasConfig {
    fn default() -> Self {
        Self {
            distance: vec![3.0, 10.0, 30.0, 0.0],
            depth: vec![0.0, 2.0, 2.0, 0.0],
            is_fixed: false,
        }
    }
}

impl PhotographConfig {
    /// The switches of the paper or of the released code. No other code depends on which of the two it is.
    #[must_use]
    pub fn from_compat(compat: Compat) -> Self {
        let shared = |origin, direction| Self {
            query: QueryConfig {
                grid: 7,
                origin,
                direction,
                source: QuerySource::Line,
                components: QueryComponents::default(),
            },
            feature_projection: FeatureProjection::CrossAttention,
            channels: 256,
            num_blocks: 6,
            num_heads: 8,
            head_channels: 32,
            pad_token: true,
            query_hidden: QUERY_CHANNELS,
            memory_hidden: None,
            dropout: 0.0,
            drop_path: 0.0,
            token_keep: None,
            ray_bias: None,
        };
        match compat {
            // The paper gives 256 channels and no number of heads; 8 × 32 keeps the width. It names cross-attention
            // layers alone; the self-attention of the released blocks stays, since every published number has it.
            Compat::Paper => Self {
                drop_path: 0.1,
                ..shared(RayOrigin::Matrices, RayDirection::Line)
            },
            // Parity: the released code passes the width of a head where the number of heads belongs, so there are 32.
            Compat::Code => Self {
                num_heads: 32,
                pad_token: false,
                dropout: 0.1,
                ..shared(RayOrigin::PointExtent, RayDirection::RotationColumn)
            },
        }
    }

    /// A small module with the ray bias, which learns view dependence within minutes on two cores.
    #[must_use]
    pub fn mini() -> Self {
        Self {
            query: QueryConfig {
                grid: 4,
                origin: RayOrigin::Matrices,
                direction: RayDirection::Line,
                source: QuerySource::Line,
                components: QueryComponents::default(),
            },
            feature_projection: FeatureProjection::CrossAttention,
            channels: 128,
            num_blocks: 2,
            num_heads: 4,
            head_channels: 32,
            pad_token: true,
            query_hidden: 64,
            memory_hidden: None,
            dropout: 0.0,
            drop_path: 0.0,
            token_keep: None,
            ray_bias: Some(RayBiasConfig::default()),
        }
    }

    /// A contradiction between settings, if there is one.
    #[must_use]
    pub fn contradiction(&self) -> Option<&'static str> {
        let sizes = [
            self.query.grid,
            self.channels,
            self.num_heads,
            self.head_channels,
            self.query_hidden,
        ];
        if sizes.iter().any(|&size| size < 1) || self.num_blocks < 0 {
            Some("sizes have to be at least 1")
        } else if self.token_keep.is_some_and(|keep| !(keep > 0.0 && keep <= 1.0)) {
            Some("token_keep is a part of the tokens, above 0 and at most 1")
        } else if self.query.source == QuerySource::Line && self.query.components.channels() == 0 {
            Some("a query without any component of its line is the same for all cells")
        } else if self.feature_projection == FeatureProjection::CrossAttention {
            None
        } else if self.pad_token {
            Some("a pad token is attended to, and without cross-attention nothing attends to it")
        } else if self.ray_bias.is_some() {
            Some("the ray bias is one of cross-attention, and there is none")
        } else {
            None
        }
    }
}

/// The module. Field names equal checkpoint keys; unused parts have no parameters.
#[derive(Debug)]
pub struct Photograph {
    pad_memory: Tensor,
    feat_mlp: Mlp,
    query_mlp: Option<Mlp>,
    pose_mlp: Option<Mlp>,
    transformer: Vec<Block>,
    config: PhotographConfig,
}

impl Photograph {
    /// A module with fresh weights under `vs`, by convention `root / "generator"`.
    pub(super) fn new(vs: &nn::Path<'_>, token_channels: i64, config: &PhotographConfig) -> Self {
        let channels = config.channels;
        // Parity: the released code keeps the pad token in its checkpoints although nothing reads it. Here it is then a
        // constant, so that no optimizer waits for its gradient.
        let pad_memory = if config.pad_token {
            vs.zeros("pad_memory", &[channels])
        } else {
            vs.zeros_no_train("pad_memory", &[channels])
        };
        let memory_in = token_channels + 3;
        let memory_hidden = config.memory_hidden.unwrap_or(memory_in);
        let blocks = vs / "transformer";
        let num_cells = config.query.grid * config.query.grid;
        let query_sizes = match config.query.source {
            QuerySource::Line => [config.query.components.channels(), config.query_hidden, channels],
            QuerySource::Pose => [POSE_CHANNELS, channels, num_cells * channels],
        };
        let num_blocks = match config.feature_projection {
            FeatureProjection::Projection => 0,
            FeatureProjection::CrossAttention | FeatureProjection::SelfAttention => config.num_blocks,
        };
        Self {
            pad_memory,
            feat_mlp: Mlp::new(&(vs / "feat_mlp"), [memory_in, memory_hidden, channels]),
            query_mlp: (config.feature_projection == FeatureProjection::CrossAttention)
                .then(|| Mlp::new(&(vs / "query_mlp"), query_sizes)),
            pose_mlp: (config.feature_projection == FeatureProjection::SelfAttention)
                .then(|| Mlp::new(&(vs / "pose_mlp"), [POSE_CHANNELS, channels, channels])),
            transformer: (0..num_blocks)
                .map(|i| Block::new(&(&blocks / i), config))
                .collect(),
            config: config.clone(),
        }
    }

    /// Tokens with their positions, mapped to the width of the module; the pad token, if any, is last.
    ///
    /// # Shapes
    /// - `tokens`: B,M,C and B,M,3
    /// - returns B,M or M + 1,channels
    pub fn memory(&self, tokens: &Tokens, mode: Mode) -> Tensor {
        let memory = self
            .feat_mlp
            .forward(&Tensor::cat(&[&tokens.features, &tokens.centers], 2), mode);
        if !self.config.pad_token {
            return memory;
        }
        let pad = self
            .pad_memory
            .view([1, 1, -1])
            .expand([memory.size()[0], 1, -1], false);
        Tensor::cat(&[memory, pad], 1)
    }

    /// Features of every query of every view.
    ///
    /// # Shapes
    /// - `tokens`: B,M,C and B,M,3
    /// - `rays`: B,V,Q
    /// - returns B,V,Q,channels
    pub fn forward(&self, tokens: &Tokens, rays: &Rays, mode: Mode) -> Tensor {
        let shown = match self.config.token_keep {
            Some(keep) if mode.is_training => Some(random_token_subset(tokens, keep)),
            Some(_) | None => None,
        };
        let tokens = shown.as_ref().unwrap_or(tokens);
        let memory = self.memory(tokens, mode);
        if let Some(query_mlp) = &self.query_mlp {
            let mut x = self.queries(query_mlp, rays, mode);
            let geometry = self.geometry(tokens, rays);
            for block in &self.transformer {
                x = block.forward(&x, Some(&memory), geometry.as_ref(), mode);
            }
            return x;
        }
        let mut x = project(&memory, &tokens.centers, rays);
        let Some(pose_mlp) = &self.pose_mlp else {
            return x;
        };
        let num_cells = x.size()[2];
        x = Tensor::cat(&[x, pose_mlp.forward(&rays.pose, mode).unsqueeze(2)], 2);
        for block in &self.transformer {
            x = block.forward(&x, None, None, mode);
        }
        x.narrow(2, 0, num_cells)
    }

    /// How the queries share their attention among the tokens, in each block: the mean over its heads, in evaluation. The pad
    /// token, if any, is last. Empty where no query attends to tokens.
    ///
    /// # Shapes
    /// - `tokens`: B,M,C and B,M,3
    /// - `rays`: B,V,Q
    /// - returns B,V,Q,M or M + 1 of each block
    #[must_use]
    pub fn attention(&self, tokens: &Tokens, rays: &Rays) -> Vec<Tensor> {
        let Some(query_mlp) = &self.query_mlp else {
            return Vec::new();
        };
        let memory = self.memory(tokens, Mode::EVAL);
        let geometry = self.geometry(tokens, rays);
        let mut x = self.queries(query_mlp, rays, Mode::EVAL);
        let of_block = |block: &Block| {
            let shares = block.cross_attention(&x, &memory, geometry.as_ref());
            x = block.forward(&x, Some(&memory), geometry.as_ref(), Mode::EVAL);
            shares
        };
        self.transformer.iter().filter_map(of_block).collect()
    }

    /// # Shapes
    /// - returns B,V,Q,channels
    fn queries(&self, query_mlp: &Mlp, rays: &Rays, mode: Mode) -> Tensor {
        match self.config.query.source {
            QuerySource::Line => {
                query_mlp.forward(&rays.select_components(self.config.query.components), mode)
            }
            QuerySource::Pose => query_mlp
                .forward(&rays.pose, mode)
                .unflatten(2, [rays.origin.size()[2], -1]),
        }
    }

    /// For the ray bias, where there is one.
    fn geometry(&self, tokens: &Tokens, rays: &Rays) -> Option<RayGeometry> {
        let is_biased = self.config.ray_bias.is_some();
        is_biased.then(|| RayGeometry::new(&tokens.centers, rays, self.config.pad_token))
    }
}

/// A random fraction `keep` of each object's tokens, rounded, at least one. Drawn from torch's generator, so a function of the
/// seed, the step and the index in the batch, as dropout is.
///
/// # Shapes
/// - `tokens`: B,M,C and B,M,3
/// - returns B,keep · M,C and B,keep · M,3
fn random_token_subset(tokens: &Tokens, keep: f64) -> Tokens {
    let (batch, num_tokens, _) = tokens.centers.size3().expect("centers are B,M,3");
    let num_kept = ((keep * num_tokens as f64).round() as i64).max(1);
    let draws = Tensor::rand([batch, num_tokens], (Kind::Float, tokens.centers.device()));
    let (_, kept) = draws.topk(num_kept, 1, true, false);
    Tokens {
        features: ops::gather(&tokens.features, &kept),
        centers: ops::gather(&tokens.centers, &kept),
    }
}

/// The mean of the tokens in each cell; a token lies in the cell whose line passes it nearest, and a cell without any
/// token is zero. (The paper does not state how several tokens of a cell are combined.)
///
/// # Shapes
/// - `memory`: B,M,C; `centers`: B,M,3; `rays`: B,V,Q
/// - returns B,V,Q,C
fn project(memory: &Tensor, centers: &Tensor, rays: &Rays) -> Tensor {
    let size = rays.origin.size();
    let (num_views, num_cells) = (size[1], size[2]);
    let share = tch::no_grad(|| {
        let distance = RayGeometry::new(centers, rays, false).distance;
        let cell = distance.unflatten(1, [num_views, num_cells]).argmin(2, false);
        let holds = cell.one_hot(num_cells).transpose(2, 3).to_kind(Kind::Float);
        let count = holds.sum_dim_intlist(-1, true, Kind::Float).clamp_min(1.0);
        (holds / count).flatten(1, 2)
    });
    share.matmul(memory).unflatten(1, [num_views, num_cells])
}

/// Linear, GELU, linear; keys `fc1` and `fc2`.
#[derive(Debug)]
struct Mlp {
    fc1: Linear,
    fc2: Linear,
}

impl Mlp {
    fn new(vs: &nn::Path<'_>, [input, hidden, output]: [i64; 3]) -> Self {
        Self {
            fc1: Linear::new(vs / "fc1", input, hidden, true),
            fc2: Linear::new(vs / "fc2", hidden, output, true),
        }
    }

    fn forward(&self, x: &Tensor, mode: Mode) -> Tensor {
        self.fc2.forward(&self.fc1.forward(x, mode).gelu("none"), mode)
    }
}

/// Positions of tokens relative to the lines of queries.
struct RayGeometry {
    /// B,V·Q,M: squared distance to the line.
    distance: Tensor,
    /// B,V·Q,M: position along the line, 0 in the plane through the object's center.
    depth: Tensor,
    /// M: bias of a token's logit; 0 but for the pad token.
    offset: Option<Tensor>,
}

impl RayGeometry {
    fn new(centers: &Tensor, rays: &Rays, pad_token: bool) -> Self {
        tch::no_grad(|| {
            let batch = centers.size()[0];
            let origin = rays.origin.reshape([batch, -1, 3]);
            let direction = rays.direction.reshape([batch, -1, 3]);
            // |c - o|² and (c - o)·d from products of matrices; all lengths are of order one.
            let dot = |x: &Tensor, y: &Tensor| (x * y).sum_dim_intlist(-1, true, Kind::Float);
            let toward = centers.transpose(1, 2);
            let depth = direction.matmul(&toward) - dot(&origin, &direction);
            let squared =
                dot(centers, centers).transpose(1, 2) + dot(&origin, &origin) - origin.matmul(&toward) * 2.0;
            let distance = (squared - &depth * &depth).clamp_min(0.0);
            if !pad_token {
                return Self {
                    distance,
                    depth,
                    offset: None,
                };
            }
            let options = (Kind::Float, centers.device());
            let offset = Tensor::cat(
                &[
                    Tensor::zeros([centers.size()[1]], options),
                    Tensor::full([1], PAD_RAY_BIAS, options),
                ],
                0,
            );
            let pad = |x: Tensor| x.constant_pad_nd([0, 1]);
            Self {
                distance: pad(distance),
                depth: pad(depth),
                offset: Some(offset),
            }
        })
    }
}

/// Weights of the ray bias, one a head.
#[derive(Debug)]
struct RayBias {
    distance: Tensor,
    depth: Tensor,
}

impl RayBias {
    fn new(vs: &nn::Path<'_>, config: &RayBiasConfig, num_heads: i64) -> Self {
        let start = |name: &str, values: &[f64]| {
            let values: Vec<f32> = values
                .iter()
                .cycle()
                .take(num_heads as usize)
                .map(|&value| value as f32)
                .collect();
            let values = Tensor::from_slice(&values);
            if config.is_fixed {
                let mut fixed = vs.zeros_no_train(name, &[num_heads]);
                tch::no_grad(|| fixed.copy_(&values));
                fixed
            } else {
                vs.var_copy(name, &values)
            }
        };
        Self {
            distance: start("distance", &config.distance),
            depth: start("depth", &config.depth),
        }
    }

    /// # Shapes
    /// - returns B,heads,V·Q,M
    fn forward(&self, geometry: &RayGeometry) -> Tensor {
        let head = |weight: &Tensor| weight.view([1, -1, 1, 1]);
        let bias = -(head(&self.distance) * geometry.distance.unsqueeze(1)
            + head(&self.depth) * geometry.depth.unsqueeze(1));
        match &geometry.offset {
            Some(offset) => bias + offset,
            None => bias,
        }
    }
}

/// Self-attention, cross-attention, feed-forward; pre-norm, residual each.
#[derive(Debug)]
struct Block {
    attn1: Attention,
    ff: FeedForward,
    /// None without cross-attention.
    attn2: Option<(Attention, LayerNorm)>,
    norm1: LayerNorm,
    norm3: LayerNorm,
    ray_bias: Option<RayBias>,
    drop_path: f64,
}

impl Block {
    fn new(vs: &nn::Path<'_>, config: &PhotographConfig) -> Self {
        let norm = |name: &str| LayerNorm::new(vs / name, config.channels);
        Self {
            attn1: Attention::new(&(vs / "attn1"), config),
            ff: FeedForward::new(&(vs / "ff" / "net"), config),
            attn2: (config.feature_projection == FeatureProjection::CrossAttention)
                .then(|| (Attention::new(&(vs / "attn2"), config), norm("norm2"))),
            norm1: norm("norm1"),
            norm3: norm("norm3"),
            ray_bias: config
                .ray_bias
                .as_ref()
                .map(|bias| RayBias::new(&(vs / "ray_bias"), bias, config.num_heads)),
            drop_path: config.drop_path,
        }
    }

    /// # Shapes
    /// - `x`: B,V,Q,C; `memory`: B,M,C
    /// - returns B,V,Q,C
    fn forward(
        &self,
        x: &Tensor,
        memory: Option<&Tensor>,
        geometry: Option<&RayGeometry>,
        mode: Mode,
    ) -> Tensor {
        let size = x.size();
        let mut x = self.self_attention(x, mode);
        if let (Some((attention, norm)), Some(memory)) = (&self.attn2, memory) {
            let by_object = x.view([size[0], -1, size[3]]);
            let bias = self.bias(geometry);
            let update = attention.forward(&norm.forward(&by_object), memory, bias.as_ref(), mode);
            x = &by_object + drop_path(update, self.drop_path, mode);
        }
        let x = &x + self.ff.forward(&self.norm3.forward(&x), mode);
        x.view(size.as_slice())
    }

    /// Shares of the tokens in what each query takes from them, the mean over heads; none without cross-attention.
    ///
    /// # Shapes
    /// - `x`: B,V,Q,C; `memory`: B,M,C
    /// - returns B,V,Q,M
    fn cross_attention(&self, x: &Tensor, memory: &Tensor, geometry: Option<&RayGeometry>) -> Option<Tensor> {
        let (attention, norm) = self.attn2.as_ref()?;
        let size = x.size();
        let by_object = self.self_attention(x, Mode::EVAL).view([size[0], -1, size[3]]);
        let bias = self.bias(geometry);
        let shares = attention.shares(&norm.forward(&by_object), memory, bias.as_ref());
        Some(
            shares
                .mean_dim(1, false, Kind::Float)
                .unflatten(1, [size[1], size[2]]),
        )
    }

    /// # Shapes
    /// - `x`: B,V,Q,C
    /// - returns B·V,Q,C
    fn self_attention(&self, x: &Tensor, mode: Mode) -> Tensor {
        let by_view = x.flatten(0, 1);
        let normed = self.norm1.forward(&by_view);
        &by_view + self.attn1.forward(&normed, &normed, None, mode)
    }

    fn bias(&self, geometry: Option<&RayGeometry>) -> Option<Tensor> {
        let (bias, geometry) = self.ray_bias.as_ref().zip(geometry)?;
        Some(bias.forward(geometry))
    }
}

/// Multi-head attention. Channel = head · width + position within the head.
#[derive(Debug)]
struct Attention {
    to_q: Linear,
    to_k: Linear,
    to_v: Linear,
    to_out: Linear,
    num_heads: i64,
    head_channels: i64,
    dropout: f64,
}

impl Attention {
    fn new(vs: &nn::Path<'_>, config: &PhotographConfig) -> Self {
        let inner = config.num_heads * config.head_channels;
        let inward = |name: &str| Linear::new(vs / name, config.channels, inner, false);
        Self {
            to_q: inward("to_q"),
            to_k: inward("to_k"),
            to_v: inward("to_v"),
            to_out: Linear::new(vs / "to_out" / 0, inner, config.channels, true),
            num_heads: config.num_heads,
            head_channels: config.head_channels,
            dropout: config.dropout,
        }
    }

    /// # Shapes
    /// - `x`: B,T,C; `memory`: B,M,C; `bias`: B,heads,T,M
    /// - returns B,T,C
    fn forward(&self, x: &Tensor, memory: &Tensor, bias: Option<&Tensor>, mode: Mode) -> Tensor {
        let query = self.heads(&self.to_q.forward(x, mode));
        let key = self.heads(&self.to_k.forward(memory, mode));
        let value = self.heads(&self.to_v.forward(memory, mode));
        let mixed = if bias.is_none() {
            Tensor::scaled_dot_product_attention(
                &query,
                &key,
                &value,
                None::<Tensor>,
                0.0,
                false,
                None,
                false,
            )
        } else {
            self.softmax(&query, &key, bias).matmul(&value)
        };
        let out = self.to_out.forward(&mixed.transpose(1, 2).flatten(2, 3), mode);
        dropout(out, self.dropout, mode)
    }

    /// Shares of the rows of `memory` in what each row of `x` takes from them; they sum up to 1.
    ///
    /// # Shapes
    /// - `x`: B,T,C; `memory`: B,M,C; `bias`: B,heads,T,M
    /// - returns B,heads,T,M
    fn shares(&self, x: &Tensor, memory: &Tensor, bias: Option<&Tensor>) -> Tensor {
        let query = self.heads(&self.to_q.forward(x, Mode::EVAL));
        let key = self.heads(&self.to_k.forward(memory, Mode::EVAL));
        self.softmax(&query, &key, bias)
    }

    /// # Shapes
    /// - `query`: B,heads,T,width; `key`: B,heads,M,width; `bias`: B,heads,T,M
    /// - returns B,heads,T,M
    fn softmax(&self, query: &Tensor, key: &Tensor, bias: Option<&Tensor>) -> Tensor {
        let logits = query.matmul(&key.transpose(2, 3)) * (self.head_channels as f64).powf(-0.5);
        let logits = match bias {
            Some(bias) => logits + bias,
            None => logits,
        };
        logits.softmax(-1, Kind::Float)
    }

    /// # Shapes
    /// - `rows`: B,T,heads · width
    /// - returns B,heads,T,width
    fn heads(&self, rows: &Tensor) -> Tensor {
        let (batch, num_rows, _) = rows.size3().expect("rows are B,T,C");
        rows.view([batch, num_rows, self.num_heads, self.head_channels])
            .transpose(1, 2)
    }
}

/// GEGLU: half of the hidden layer gates the other half. Keys `0.proj` and `2`.
#[derive(Debug)]
struct FeedForward {
    proj: Linear,
    out: Linear,
    dropout: f64,
}

impl FeedForward {
    fn new(vs: &nn::Path<'_>, config: &PhotographConfig) -> Self {
        let hidden = config.channels * FEED_FORWARD_RATIO;
        Self {
            proj: Linear::new(vs / 0 / "proj", config.channels, 2 * hidden, true),
            out: Linear::new(vs / 2, hidden, config.channels, true),
            dropout: config.dropout,
        }
    }

    /// # Shapes
    /// - `x`: ...,C
    /// - returns ...,C
    fn forward(&self, x: &Tensor, mode: Mode) -> Tensor {
        let hidden = self.proj.forward(x, mode).chunk(2, -1);
        let gated = &hidden[0] * hidden[1].gelu("none");
        self.out.forward(&dropout(gated, self.dropout, mode), mode)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use tch::Device;

    use super::*;

    const FLOAT: (Kind, Device) = (Kind::Float, Device::Cpu);

    fn small(change: impl Fn(&mut PhotographConfig)) -> PhotographConfig {
        let mut config = PhotographConfig {
            channels: 16,
            num_heads: 2,
            head_channels: 8,
            ..PhotographConfig::mini()
        };
        config.query.grid = 2;
        change(&mut config);
        config
    }

    fn tokens() -> Tokens {
        Tokens {
            features: Tensor::randn([2, 5, 6], FLOAT),
            centers: Tensor::randn([2, 5, 3], FLOAT) * 0.4,
        }
    }

    /// Two views along the axes, parallel.
    fn rays() -> Rays {
        let front = Tensor::eye(4, FLOAT);
        let side = Tensor::from_slice(&[
            0.0f32, 0.0, -1.0, 0.0, 0.0, 1.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0,
        ])
        .view([4, 4]);
        let view = Tensor::stack(&[front, side], 0)
            .unsqueeze(0)
            .expand([2, 2, 4, 4], false);
        let clip = Tensor::eye(4, FLOAT).expand([2, 2, 4, 4], false);
        Rays::from_matrices(&view, &clip, 2)
    }

    fn build(config: &PhotographConfig) -> (nn::VarStore, Photograph) {
        assert_eq!(config.contradiction(), None, "{config:?}");
        tch::manual_seed(0);
        let vs = nn::VarStore::new(Device::Cpu);
        let module = Photograph::new(&vs.root(), 6, config);
        (vs, module)
    }

    type Change = (&'static str, fn(&mut PhotographConfig));

    #[test]
    fn every_switch_changes_the_features_and_every_weight_learns() {
        let plain = small(|_| ());
        let changes: [Change; 9] = [
            ("no pad token", |c| c.pad_token = false),
            ("no ray bias", |c| c.ray_bias = None),
            ("queries from the pose", |c| c.query.source = QuerySource::Pose),
            ("no origin", |c| c.query.components.origin = false),
            ("no direction", |c| c.query.components.direction = false),
            ("no position", |c| c.query.components.position = false),
            ("more blocks", |c| c.num_blocks = 3),
            ("self-attention", |c| {
                (c.feature_projection, c.pad_token, c.ray_bias) =
                    (FeatureProjection::SelfAttention, false, None);
            }),
            ("projection", |c| {
                (c.feature_projection, c.pad_token, c.ray_bias) =
                    (FeatureProjection::Projection, false, None);
            }),
        ];
        tch::manual_seed(1);
        let (tokens, rays) = (tokens(), rays());
        let features = |config: &PhotographConfig| {
            let (vs, module) = build(config);
            let features = module.forward(&tokens, &rays, Mode::EVAL);
            assert_eq!(features.size(), [2, 2, 4, 16], "B,V,Q,channels");
            features.square().sum(Kind::Float).backward();
            for tensor in vs.trainable_variables() {
                assert!(
                    tensor.grad().defined(),
                    "weights {:?} take no part: {config:?}",
                    tensor.size()
                );
            }
            features
        };
        let expected = features(&plain);
        for (name, change) in changes {
            let got = features(&small(change));
            assert!(
                !got.allclose(&expected, 1e-4, 1e-4, false),
                "{name} changes nothing"
            );
        }
        let fixed = small(|c| c.ray_bias.as_mut().unwrap().is_fixed = true);
        let (vs, _) = build(&fixed);
        let names: Vec<String> = vs
            .variables()
            .into_iter()
            .filter(|(_, tensor)| !tensor.requires_grad())
            .map(|(name, _)| name)
            .collect();
        assert_eq!(names.len(), 4, "distance and depth of two blocks: {names:?}");
        assert!(
            features(&fixed).allclose(&expected, 1e-6, 1e-6, false),
            "it starts the same"
        );
    }

    #[test]
    fn tokens_are_projected_into_the_cells_they_are_seen_in() {
        // Upper right and nearer the viewer; lower left. From the side (looking along -x) the first is at the upper left.
        let centers = Tensor::from_slice(&[0.5f32, 0.5, 0.5, -0.5, -0.5, 0.2]).view([1, 2, 3]);
        let memory = Tensor::from_slice(&[1.0f32, 2.0]).view([1, 2, 1]);
        let both = rays();
        let first = Rays {
            origin: both.origin.narrow(0, 0, 1),
            direction: both.direction.narrow(0, 0, 1),
            position: both.position.narrow(0, 0, 1),
            pose: both.pose.narrow(0, 0, 1),
        };
        let cells = project(&memory, &centers, &first);
        let values = Vec::<f32>::try_from(cells.contiguous().view(-1)).unwrap();
        // Rows from the top: front view, then the side view, where the second token is at the lower left too.
        assert_eq!(values, [0.0, 1.0, 2.0, 0.0, 1.0, 0.0, 2.0, 0.0]);
        let crowded = project(&memory, &(centers * 0.0 + 0.5), &first);
        let largest = crowded.max().double_value(&[]);
        assert!((largest - 1.5).abs() < 1e-6, "tokens of one cell are averaged");
    }

    #[test]
    fn training_shows_some_tokens_whole_and_evaluation_shows_all() {
        let num_tokens = 10;
        // What a token says is its number, and so is where it lies.
        let number = Tensor::arange(2 * num_tokens, FLOAT).view([2, num_tokens, 1]);
        let tokens = Tokens {
            features: number.expand([2, num_tokens, 6], true),
            centers: number.expand([2, num_tokens, 3], true) * 0.01,
        };
        for (keep, expected) in [(0.01, 1), (0.25, 3), (0.5, 5), (1.0, 10)] {
            tch::manual_seed(4);
            let shown = random_token_subset(&tokens, keep);
            assert_eq!(shown.features.size(), [2, expected, 6], "{keep} of ten");
            assert!(
                shown
                    .centers
                    .allclose(&(shown.features.narrow(2, 0, 3) * 0.01), 1e-6, 1e-6, false),
                "each stays where it is"
            );
            let mut numbers = Vec::<f32>::try_from(shown.features.select(2, 0).reshape([-1])).unwrap();
            numbers.sort_by(f32::total_cmp);
            numbers.dedup();
            let of_first = numbers
                .iter()
                .filter(|&&number| number < num_tokens as f32)
                .count();
            assert_eq!(
                [of_first as i64, numbers.len() as i64],
                [expected, 2 * expected],
                "no token twice, none of another object"
            );
            tch::manual_seed(4);
            let again = random_token_subset(&tokens, keep);
            assert_eq!(again.features, shown.features, "a function of the seed");
        }

        let (_all_store, all) = build(&small(|_| ()));
        let (_half_store, half) = build(&small(|c| c.token_keep = Some(0.5)));
        tch::manual_seed(1);
        let (tokens, rays) = (self::tokens(), rays());
        let expected = all.forward(&tokens, &rays, Mode::EVAL);
        let features = |mode| half.forward(&tokens, &rays, mode);
        assert!(features(Mode::EVAL).equal(&expected), "evaluation");
        let seen = [features(Mode::TRAIN), features(Mode::TRAIN)];
        assert_eq!(seen[0].size(), expected.size(), "as many queries");
        for (one, other) in [(&seen[0], &expected), (&seen[0], &seen[1])] {
            assert!(!one.allclose(other, 1e-4, 1e-4, false), "other tokens each time");
        }
    }

    #[test]
    fn attention_is_what_the_features_are_mixed_by() {
        let changes: [Change; 3] = [
            ("pad token and ray bias", |_| ()),
            ("fused attention", |c| c.ray_bias = None),
            ("no pad token", |c| c.pad_token = false),
        ];
        tch::manual_seed(2);
        let (tokens, rays) = (tokens(), rays());
        for (name, change) in changes {
            let config = small(change);
            let (_store, module) = build(&config);
            let shares = module.attention(&tokens, &rays);
            assert_eq!(shares.len() as i64, config.num_blocks, "{name}: every block");
            let num_rows = 5 + i64::from(config.pad_token);
            for of_block in &shares {
                assert_eq!(of_block.size(), [2, 2, 4, num_rows], "{name}: B,V,Q,M");
                let sums = of_block.sum_dim_intlist(-1, false, Kind::Float);
                assert!(
                    sums.allclose(&sums.ones_like(), 1e-5, 1e-5, false),
                    "{name}: nothing is lost"
                );
            }
            // With one head the shares alone say what is taken from the memory.
            let one_head = small(|c| {
                change(c);
                c.num_heads = 1;
            });
            let (_store, module) = build(&one_head);
            let memory = module.memory(&tokens, Mode::EVAL);
            let geometry = module.geometry(&tokens, &rays);
            let x = module.queries(module.query_mlp.as_ref().unwrap(), &rays, Mode::EVAL);
            let block = &module.transformer[0];
            let (attention, norm) = block.attn2.as_ref().unwrap();
            let inner = norm.forward(&block.self_attention(&x, Mode::EVAL).view([2, 8, 16]));
            let bias = block.bias(geometry.as_ref());
            let expected = attention.forward(&inner, &memory, bias.as_ref(), Mode::EVAL);
            let value = attention.to_v.forward(&memory, Mode::EVAL);
            let first = &module.attention(&tokens, &rays)[0];
            let mixed = attention
                .to_out
                .forward(&first.flatten(1, 2).matmul(&value), Mode::EVAL);
            assert!(
                mixed.allclose(&expected, 1e-4, 1e-5, false),
                "{name}: the same mixture"
            );
        }
        let projected = small(|c| {
            (c.feature_projection, c.pad_token, c.ray_bias) = (FeatureProjection::Projection, false, None);
        });
        let (_store, module) = build(&projected);
        assert!(
            module.attention(&tokens, &rays).is_empty(),
            "none without attention"
        );
    }

    #[test]
    fn contradictions_are_named() {
        let no_components = small(|c| {
            c.query.components = QueryComponents {
                origin: false,
                direction: false,
                position: false,
            };
        });
        let projected_pad =
            small(|c| (c.feature_projection, c.ray_bias) = (FeatureProjection::Projection, None));
        let projected_bias =
            small(|c| (c.feature_projection, c.pad_token) = (FeatureProjection::SelfAttention, false));
        let no_heads = small(|c| c.num_heads = 0);
        let nothing_shown = small(|c| c.token_keep = Some(0.0));
        let more_than_all = small(|c| c.token_keep = Some(1.5));
        for (config, word) in [
            (no_components, "without any component"),
            (projected_pad, "pad token"),
            (projected_bias, "ray bias"),
            (no_heads, "at least 1"),
            (nothing_shown, "token_keep"),
            (more_than_all, "token_keep"),
        ] {
            assert!(
                config.contradiction().is_some_and(|text| text.contains(word)),
                "{word}"
            );
        }
    }

    #[test]
    fn a_ray_bias_without_heads_is_refused_where_it_is_read() {
        let read = |text: &str| toml::from_str::<RayBiasConfig>(text);
        assert!(
            read("distance = [1.0]\ndepth = [0.0]").is_ok(),
            "one weight for all heads"
        );
        for text in ["distance = []\ndepth = [0.0]", "distance = [1.0]\ndepth = []"] {
            let error = read(text).unwrap_err().to_string();
            assert!(error.contains("the list is empty"), "{error}");
        }
    }
}
