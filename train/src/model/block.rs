//! What standard Transformers over points share (`docs/method.md`, "Transformer"): a stack of pre-norm blocks, the
//! embedding of positions, and the class token.

use tch::{Kind, Tensor, nn};

use super::layer::{Init, LayerNorm, Linear, drop_path};
use super::mode::Mode;

/// Added to the logit of a token that is not attended to.
const HIDDEN_LOGIT: f64 = -1e5;

/// Sizes of the blocks of a stack.
#[derive(Debug, Clone, Copy)]
pub(super) struct BlockSizes {
    /// Width of a token.
    pub(super) channels: i64,
    /// Attention heads.
    pub(super) num_heads: i64,
    /// Width of the feed-forward part, in multiples of `channels`.
    pub(super) mlp_ratio: i64,
}

/// The probability to drop a residual branch of each of `num_blocks` blocks: from 0 in the first linearly to `last`.
pub(super) fn rising_drop_path(num_blocks: i64, last: f64) -> Vec<f64> {
    let steps = (num_blocks - 1).max(1) as f64;
    (0..num_blocks).map(|i| last * i as f64 / steps).collect()
}

/// What is added to the logits of attention: nothing where a token is attended to, and elsewhere so little is left that it
/// does not count.
///
/// # Shapes
/// - `is_attended`: B,1,T or 1,T flags
/// - returns B,1,T or 1,T
pub(super) fn attention_bias(is_attended: &Tensor) -> Tensor {
    is_attended.logical_not().to_kind(Kind::Float) * HIDDEN_LOGIT
}

/// Blocks in a row; the position embedding is added in front of every one.
#[derive(Debug)]
pub(super) struct Blocks(Vec<Block>);

impl Blocks {
    /// Blocks at `vs / 0`, `vs / 1`, ..., one for each probability to drop its residual branches.
    pub(super) fn new(vs: &nn::Path<'_>, sizes: BlockSizes, drop_path: &[f64], init: Init) -> Self {
        let build = |(i, &drop_path): (usize, &f64)| Block::new(&(vs / i), sizes, drop_path, init);
        Self(drop_path.iter().enumerate().map(build).collect())
    }

    /// # Shapes
    /// - `x`, `position`: B,T,C
    /// - returns B,T,C
    pub(super) fn forward(&self, x: &Tensor, position: &Tensor, mode: Mode) -> Tensor {
        self.forward_with(x, position, None, mode)
    }

    /// The same, with an [`attention_bias`].
    pub(super) fn forward_with(
        &self,
        x: &Tensor,
        position: &Tensor,
        bias: Option<&Tensor>,
        mode: Mode,
    ) -> Tensor {
        let add = |x: Tensor, block: &Block| block.forward(&(x + position), bias, mode);
        self.0.iter().fold(x.shallow_clone(), add)
    }

    /// What stands behind a third, two thirds and all of the blocks.
    ///
    /// # Shapes
    /// - `x`, `position`: B,T,C
    /// - returns B,T,C each
    pub(super) fn thirds(&self, x: &Tensor, position: &Tensor, mode: Mode) -> [Tensor; 3] {
        let mut x = x.shallow_clone();
        let mut behind_block = Vec::new();
        for block in &self.0 {
            x = block.forward(&(&x + position), None, mode);
            behind_block.push(x.shallow_clone());
        }
        [1, 2, 3].map(|third| {
            let num_blocks = (self.0.len() * third / 3).max(1);
            behind_block[num_blocks - 1].shallow_clone()
        })
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
    fn new(vs: &nn::Path<'_>, sizes: BlockSizes, drop_path: f64, init: Init) -> Self {
        let BlockSizes {
            channels,
            num_heads,
            mlp_ratio,
        } = sizes;
        let (hidden, mlp) = (channels * mlp_ratio, vs / "mlp");
        Self {
            norm1: LayerNorm::new(vs / "norm1", channels),
            attn: Attention::new(&(vs / "attn"), channels, num_heads, init),
            norm2: LayerNorm::new(vs / "norm2", channels),
            mlp: (
                Linear::with_init(&mlp / "fc1", channels, hidden, true, init),
                Linear::with_init(&mlp / "fc2", hidden, channels, true, init),
            ),
            drop_path,
        }
    }

    /// # Shapes
    /// - `x`: B,T,C; `bias`: as [`attention_bias`]
    /// - returns B,T,C
    fn forward(&self, x: &Tensor, bias: Option<&Tensor>, mode: Mode) -> Tensor {
        let x = x + drop_path(
            self.attn.forward(&self.norm1.forward(x), bias, mode),
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
    fn new(vs: &nn::Path<'_>, channels: i64, num_heads: i64, init: Init) -> Self {
        Self {
            qkv: Linear::with_init(vs / "qkv", channels, 3 * channels, false, init),
            proj: Linear::with_init(vs / "proj", channels, channels, true, init),
            num_heads,
        }
    }

    /// # Shapes
    /// - `x`: B,T,C; `bias`: as [`attention_bias`]
    /// - returns B,T,C
    fn forward(&self, x: &Tensor, bias: Option<&Tensor>, mode: Mode) -> Tensor {
        let (batch, num_tokens, channels) = x.size3().expect("tokens are B,T,C");
        let width = channels / self.num_heads;
        let qkv = self
            .qkv
            .forward(x, mode)
            .view([batch, num_tokens, 3, self.num_heads, width])
            .permute([2, 0, 3, 1, 4]);
        let (query, key, value) = (qkv.get(0), qkv.get(1), qkv.get(2));
        let mixed = Tensor::scaled_dot_product_attention(&query, &key, &value, bias, 0.0, false, None, false);
        self.proj.forward(
            &mixed.transpose(1, 2).reshape([batch, num_tokens, channels]),
            mode,
        )
    }
}

/// Positions to embeddings: an MLP with one hidden layer.
#[derive(Debug)]
pub(super) struct PositionEmbedding(Linear, Linear);

impl PositionEmbedding {
    pub(super) fn new(vs: &nn::Path<'_>, hidden: i64, channels: i64, init: Init) -> Self {
        Self(
            Linear::with_init(vs / 0, 3, hidden, true, init),
            Linear::with_init(vs / 2, hidden, channels, true, init),
        )
    }

    /// # Shapes
    /// - `centers`: B,T,3
    /// - returns B,T,C
    pub(super) fn forward(&self, centers: &Tensor, mode: Mode) -> Tensor {
        self.1.forward(&self.0.forward(centers, mode).gelu("none"), mode)
    }
}

/// A learned token that stands for the whole cloud, with a position of its own.
#[derive(Debug)]
pub(super) struct ClassToken {
    pub(super) cls_token: Tensor,
    pub(super) cls_pos: Tensor,
}

impl ClassToken {
    /// In front of the tokens of every cloud, and its position in front of theirs.
    ///
    /// # Shapes
    /// - `tokens`, `position`: B,T,C
    /// - returns B,1+T,C each
    pub(super) fn prepend(&self, tokens: &Tensor, position: &Tensor) -> (Tensor, Tensor) {
        let batch = tokens.size()[0];
        let prepend =
            |first: &Tensor, rest: &Tensor| Tensor::cat(&[&first.expand([batch, -1, -1], false), rest], 1);
        (prepend(&self.cls_token, tokens), prepend(&self.cls_pos, position))
    }
}
