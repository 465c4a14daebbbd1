//! The photograph module (paper: cross-attention between pose queries and point tokens; "Photograph module").
//!
//! Blocks of self-attention over the queries of a view, cross-attention from them to the tokens, and a gated
//! feed-forward part. The views of one object share its tokens: cross-attention runs on all their queries at once, and
//! nothing is repeated.

use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor, nn};

use super::encoder::Tokens;
use super::layer::{LayerNorm, Linear, drop_path, dropout};
use super::query::{QueryConfig, RayDirection, RayOrigin, Rays};

/// Numbers that describe a query: origin, direction, position.
const QUERY_CHANNELS: i64 = 8;
/// Width of the hidden layer of a gated feed-forward part, in multiples of the channels.
const FEED_FORWARD_RATIO: i64 = 4;
/// Bias of the pad token's logit where tokens get the ray bias.
const PAD_RAY_BIAS: f64 = -2.0;

/// Which account of TAP is followed where paper and released code differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Compat {
    /// What the paper says: a pad token in the memory, the true direction of the optical lines, drop path.
    Paper,
    /// What the published numbers were made with: no pad token, a constant direction, 32 heads, dropout.
    Code,
}

/// All switches of the photograph module.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PhotographConfig {
    /// Where queries come from.
    pub query: QueryConfig,
    /// Width of queries and memory.
    pub channels: i64,
    /// Blocks.
    pub num_blocks: i64,
    /// Attention heads.
    pub num_heads: i64,
    /// Width of a head; heads × width need not be `channels`.
    pub head_channels: i64,
    /// Whether a learnable token that stands for "nothing here" joins the memory.
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
    /// Extension of this project, in neither the paper nor the released code: a bias on the cross-attention from the
    /// distance of a token to the query's optical line.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ray_bias: Option<RayBiasConfig>,
}

/// Where the learnable weights of the ray bias start: `logits += -(distance · d² + depth · t)` for head h, with d the
/// distance of the token to the line and t its position along it. Heads beyond the list begin it again.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RayBiasConfig {
    /// Weight of the squared distance, one a head.
    pub distance: Vec<f64>,
    /// Weight of the position along the line, one a head.
    pub depth: Vec<f64>,
}

impl Default for RayBiasConfig {
    fn default() -> Self {
        Self {
            distance: vec![3.0, 10.0, 30.0, 0.0],
            depth: vec![0.0, 2.0, 2.0, 0.0],
        }
    }
}

impl PhotographConfig {
    /// The switches of the paper or of the released code. Nowhere else are the two told apart.
    #[must_use]
    pub fn from_compat(compat: Compat) -> Self {
        let shared = |origin, direction| Self {
            query: QueryConfig {
                grid: 7,
                origin,
                direction,
            },
            channels: 256,
            num_blocks: 6,
            num_heads: 8,
            head_channels: 32,
            pad_token: true,
            query_hidden: QUERY_CHANNELS,
            memory_hidden: None,
            dropout: 0.0,
            drop_path: 0.0,
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

    /// Small and with the ray bias: learns view dependence within minutes on two cores.
    #[must_use]
    pub fn mini() -> Self {
        Self {
            query: QueryConfig {
                grid: 4,
                origin: RayOrigin::Matrices,
                direction: RayDirection::Line,
            },
            channels: 128,
            num_blocks: 2,
            num_heads: 4,
            head_channels: 32,
            pad_token: true,
            query_hidden: 64,
            memory_hidden: None,
            dropout: 0.0,
            drop_path: 0.0,
            ray_bias: Some(RayBiasConfig::default()),
        }
    }
}

/// The module. Field names equal checkpoint keys.
#[derive(Debug)]
pub struct Photograph {
    pad_memory: Tensor,
    feat_mlp: Mlp,
    query_mlp: Mlp,
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
        Self {
            pad_memory,
            feat_mlp: Mlp::new(&(vs / "feat_mlp"), [memory_in, memory_hidden, channels]),
            query_mlp: Mlp::new(
                &(vs / "query_mlp"),
                [QUERY_CHANNELS, config.query_hidden, channels],
            ),
            transformer: (0..config.num_blocks)
                .map(|i| Block::new(&(&blocks / i), config))
                .collect(),
            config: config.clone(),
        }
    }

    /// Tokens with their positions, brought to the width of the module; the pad token, if any, comes last.
    ///
    /// # Shapes
    /// - `tokens`: B,M,C and B,M,3
    /// - returns B,M or M + 1,channels
    pub fn memory(&self, tokens: &Tokens) -> Tensor {
        let memory = self
            .feat_mlp
            .forward(&Tensor::cat(&[&tokens.features, &tokens.centers], 2));
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
    pub fn forward(&self, tokens: &Tokens, rays: &Rays, train: bool) -> Tensor {
        let memory = self.memory(tokens);
        let mut x = self.query_mlp.forward(&rays.query());
        let geometry = self
            .config
            .ray_bias
            .is_some()
            .then(|| RayGeometry::new(&tokens.centers, rays, self.config.pad_token));
        for block in &self.transformer {
            x = block.forward(&x, &memory, geometry.as_ref(), train);
        }
        x
    }
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

    fn forward(&self, x: &Tensor) -> Tensor {
        self.fc2.forward(&self.fc1.forward(x).gelu("none"))
    }
}

/// Where tokens lie as seen from the queries' lines.
struct RayGeometry {
    /// B,V·Q,M: squared distance to the line.
    distance: Tensor,
    /// B,V·Q,M: position along the line, 0 in the plane through the object's centre.
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

/// Learnable weights of the ray bias, one a head.
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
            vs.var_copy(name, &Tensor::from_slice(&values))
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
    attn2: Attention,
    norm1: LayerNorm,
    norm2: LayerNorm,
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
            attn2: Attention::new(&(vs / "attn2"), config),
            norm1: norm("norm1"),
            norm2: norm("norm2"),
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
    fn forward(&self, x: &Tensor, memory: &Tensor, geometry: Option<&RayGeometry>, train: bool) -> Tensor {
        let size = x.size();
        let by_view = x.flatten(0, 1);
        let normed = self.norm1.forward(&by_view);
        let x = &by_view + self.attn1.forward(&normed, &normed, None, train);
        let by_object = x.view([size[0], -1, size[3]]);
        let bias = self
            .ray_bias
            .as_ref()
            .zip(geometry)
            .map(|(bias, geometry)| bias.forward(geometry));
        let update = self
            .attn2
            .forward(&self.norm2.forward(&by_object), memory, bias.as_ref(), train);
        let x = &by_object + drop_path(update, self.drop_path, train);
        let x = &x + self.ff.forward(&self.norm3.forward(&x), train);
        x.view(size.as_slice())
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
    fn forward(&self, x: &Tensor, memory: &Tensor, bias: Option<&Tensor>, train: bool) -> Tensor {
        let heads = |rows: Tensor| {
            let (batch, num_rows, _) = rows.size3().expect("rows are B,T,C");
            rows.view([batch, num_rows, self.num_heads, self.head_channels])
                .transpose(1, 2)
        };
        let query = heads(self.to_q.forward(x));
        let key = heads(self.to_k.forward(memory));
        let value = heads(self.to_v.forward(memory));
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
            let logits = query.matmul(&key.transpose(2, 3)) * (self.head_channels as f64).powf(-0.5);
            let logits = match bias {
                Some(bias) => logits + bias,
                None => logits,
            };
            logits.softmax(-1, Kind::Float).matmul(&value)
        };
        let out = self.to_out.forward(&mixed.transpose(1, 2).flatten(2, 3));
        dropout(out, self.dropout, train)
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
    fn forward(&self, x: &Tensor, train: bool) -> Tensor {
        let hidden = self.proj.forward(x).chunk(2, -1);
        let gated = &hidden[0] * hidden[1].gelu("none");
        self.out.forward(&dropout(gated, self.dropout, train))
    }
}
