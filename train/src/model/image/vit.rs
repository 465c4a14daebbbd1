//! Vision Transformers with a class token: CLIP, DINO, DINOv2 with and without registers, any patch, width and depth
//! (`docs/method.md`, "2D networks").

use tch::Tensor;

use super::parameter::Parameters;
use super::published::Naming;
use super::{
    Activation, ImageEncoder, ImageEncoderOptions, ImageFeatures, Linear, Norm, Normalization, Resizing,
    mean_attention,
};

/// Width of a head, in all but the largest networks of `open_clip`.
const HEAD_CHANNELS: i64 = 64;
/// Width of the network and of a head where it is another.
const OTHER_HEAD_CHANNELS: [(i64, i64); 3] = [(1280, 80), (1408, 88), (1664, 104)];
/// Letter of a size, by width and blocks.
const SIZES: [(i64, i64, &str); 9] = [
    (192, 12, "Ti"),
    (384, 12, "S"),
    (768, 12, "B"),
    (1024, 24, "L"),
    (1152, 27, "SO"),
    (1280, 32, "H"),
    (1408, 40, "g"),
    (1536, 40, "g"),
    (1664, 48, "G"),
];
/// Limits, against damaged files.
const MAX_CHANNELS: i64 = 1 << 14;
const MAX_BLOCKS: i64 = 1 << 10;
const CLIP_EPSILON: f64 = 1e-5;
const DINO_EPSILON: f64 = 1e-6;
/// Patch of DINOv2, by which it is told from other networks with scaled residuals.
const DINOV2_PATCH_PX: i64 = 14;

/// A frozen vision Transformer.
#[derive(Debug)]
pub struct Vit {
    name: String,
    patch_embed: (Tensor, Option<Tensor>),
    patch_px: i64,
    channels: i64,
    /// 1,1,C, its position added.
    cls_token: Tensor,
    /// 1,R,C, without positions.
    reg_token: Option<Tensor>,
    /// 1,n·n,C.
    pos_embed: Tensor,
    resizing: Resizing,
    norm_pre: Option<Norm>,
    blocks: Vec<Block>,
    norm: Norm,
    projection: Option<Linear>,
    layer: Option<usize>,
    normalization: Normalization,
}

impl Vit {
    /// From tensors under timm's names.
    ///
    /// # Errors
    /// Where a size does not follow from them, or an option does not fit.
    pub(super) fn try_new(
        parameters: &mut Parameters,
        options: ImageEncoderOptions,
        naming: Naming,
        is_by_openai: bool,
    ) -> Result<Self, String> {
        let size = parameters.size_of("patch_embed.proj.weight").unwrap_or_default();
        let [channels, 3, patch_px, width_px] = size[..] else {
            return Err(format!("the patch embedding is {size:?}, expected [C, 3, P, P]"));
        };
        let num_blocks = parameters.num_blocks("blocks.");
        let is_sound = (1..=MAX_CHANNELS).contains(&channels) && (1..=MAX_BLOCKS).contains(&num_blocks);
        if patch_px != width_px || patch_px < 1 || !is_sound {
            return Err(format!(
                "patches of {width_px}x{patch_px} px, {channels} channels and {num_blocks} blocks; expected square patches and at least one block"
            ));
        }
        let head_channels = OTHER_HEAD_CHANNELS
            .iter()
            .find_map(|&(width, of_head)| (width == channels).then_some(of_head))
            .unwrap_or(HEAD_CHANNELS);
        if channels % head_channels != 0 {
            return Err(format!(
                "tokens of {channels} channels are no whole number of heads of {head_channels}"
            ));
        }
        let layer = match options.layer {
            Some(layer) if !(0..num_blocks).contains(&layer) => {
                return Err(format!(
                    "there is no block {layer}; the network has {num_blocks}, counted from 0"
                ));
            }
            layer => layer.map(|layer| layer as usize),
        };
        let is_clip = parameters.size_of("norm_pre.weight").is_some();
        let activation = activation(options.activation, is_clip, is_by_openai)?;
        let epsilon = if is_clip { CLIP_EPSILON } else { DINO_EPSILON };
        let num_positions = parameters.length_of("pos_embed", 1);
        let positions = parameters.take("pos_embed", &[1, num_positions, channels]);
        let cls_token = parameters.take("cls_token", &[1, 1, channels]);
        // Parity: in timm's form of DINOv2 with registers the class token has its position in itself.
        let has_cls_position = num_positions.isqrt().pow(2) != num_positions;
        let num_patches = num_positions - i64::from(has_cls_position);
        if num_patches < 1 || num_patches.isqrt().pow(2) != num_patches {
            return Err(format!(
                "{num_positions} positions are no square grid, with or without a class token"
            ));
        }
        let num_registers = parameters.length_of("reg_token", 1);
        let reg_token = parameters.take_if_present("reg_token", &[1, num_registers, channels]);
        parameters.check()?;
        let has_layer_scale = parameters.size_of("blocks.0.ls1.gamma").is_some();
        let sizes = BlockSizes {
            channels,
            head_channels,
            activation,
            epsilon,
        };
        let vit = Self {
            name: name(is_clip, has_layer_scale, [channels, num_blocks, patch_px]),
            patch_embed: (
                parameters.take("patch_embed.proj.weight", &[channels, 3, patch_px, patch_px]),
                parameters.take_if_present("patch_embed.proj.bias", &[channels]),
            ),
            patch_px,
            channels,
            cls_token: if has_cls_position {
                cls_token + positions.narrow(1, 0, 1)
            } else {
                cls_token
            },
            resizing: resizing(naming, is_clip, reg_token.is_some()),
            reg_token,
            pos_embed: positions.narrow(1, i64::from(has_cls_position), num_patches),
            norm_pre: is_clip.then(|| Norm::take(parameters, "norm_pre", channels, epsilon)),
            blocks: (0..num_blocks)
                .map(|i| Block::take(parameters, &format!("blocks.{i}"), sizes))
                .collect(),
            norm: Norm::take(parameters, "norm", channels, epsilon),
            // The head of other networks tells the classes of ImageNet apart.
            projection: (is_clip && parameters.size_of("head.weight").is_some()).then(|| {
                let out_channels = parameters.length_of("head.weight", 0);
                Linear::take_with_any_bias(parameters, "head", [channels, out_channels])
            }),
            layer,
            normalization: if is_clip {
                Normalization::CLIP
            } else {
                Normalization::IMAGENET
            },
        };
        Ok(vit)
    }

    /// # Shapes
    /// - `pixels`: B,3,H,W
    /// - returns B,1 + R + h·w,C, and h,w
    fn tokens(&self, pixels: &Tensor) -> (Tensor, [i64; 2]) {
        let (weight, bias) = &self.patch_embed;
        let patches = pixels.conv2d(weight, bias.as_ref(), [self.patch_px; 2], [0, 0], [1, 1], 1);
        let (batch, _, h, w) = patches.size4().expect("patches are B,C,h,w");
        let patches = patches.flatten(2, 3).transpose(1, 2) + self.resizing.apply(&self.pos_embed, [h, w]);
        let shared = |tokens: &Tensor| tokens.expand([batch, -1, -1], false);
        let mut parts = vec![shared(&self.cls_token)];
        parts.extend(self.reg_token.as_ref().map(shared));
        parts.push(patches);
        let tokens = Tensor::cat(&parts, 1);
        let tokens = match &self.norm_pre {
            Some(norm) => norm.forward(&tokens),
            None => tokens,
        };
        (tokens, [h, w])
    }

    /// Tokens in front of the patches: the class token and registers.
    fn num_prefix_tokens(&self) -> i64 {
        1 + self.reg_token.as_ref().map_or(0, |tokens| tokens.size()[1])
    }
}

impl ImageEncoder for Vit {
    fn name(&self) -> &str {
        &self.name
    }

    fn num_channels(&self) -> i64 {
        match (&self.projection, self.layer) {
            (Some(projection), None) => projection.weight.size()[0],
            _ => self.channels,
        }
    }

    fn patch_px(&self) -> i64 {
        self.patch_px
    }

    fn image_size_px(&self) -> i64 {
        self.pos_embed.size()[1].isqrt() * self.patch_px
    }

    fn normalization(&self) -> Normalization {
        self.normalization
    }

    fn encode(&self, pixels: &Tensor) -> ImageFeatures {
        let _no_grad = tch::no_grad_guard();
        let (mut tokens, [h, w]) = self.tokens(pixels);
        let (batch, num_tokens, _) = tokens.size3().expect("tokens are B,T,C");
        let num_patches = h * w;
        let first_patch = num_tokens - num_patches;
        debug_assert_eq!(first_patch, self.num_prefix_tokens(), "class token and registers");
        let patches_of = |tokens: &Tensor| tokens.narrow(1, first_patch, num_patches);
        let (last, before) = self.blocks.split_last().expect("a network has a block");
        let mut of_layer = None;
        for (i, block) in before.iter().enumerate() {
            tokens = block.forward(&tokens);
            if self.layer == Some(i) {
                of_layer = Some(tokens.shallow_clone());
            }
        }
        let saliency = last.class_attention(&tokens).narrow(1, first_patch, num_patches);
        let features = match of_layer {
            Some(tokens) => patches_of(&tokens),
            None if self.layer.is_some() => patches_of(&last.forward(&tokens)),
            None => {
                let normalized = self.norm.forward(&patches_of(&last.forward(&tokens)));
                match &self.projection {
                    Some(projection) => projection.forward(&normalized),
                    None => normalized,
                }
            }
        };
        ImageFeatures {
            features: features.transpose(1, 2).reshape([batch, -1, h, w]),
            saliency: saliency.reshape([batch, h, w]),
        }
    }
}

/// The activation that was asked for, or that follows from whose weights they are.
fn activation(asked: Option<Activation>, is_clip: bool, is_by_openai: bool) -> Result<Activation, String> {
    match (asked, is_clip, is_by_openai) {
        (Some(activation), _, _) => Ok(activation),
        (None, false, _) => Ok(Activation::Gelu),
        (None, true, true) => Ok(Activation::QuickGelu),
        (None, true, false) => Err(String::from(
            "weights of CLIP in this form do not say their activation; pass --activation quick-gelu for those of OpenAI, \
             MetaCLIP or DFN and --activation gelu for those trained with open_clip",
        )),
    }
}

fn resizing(naming: Naming, is_clip: bool, has_registers: bool) -> Resizing {
    match naming {
        _ if has_registers => Resizing::Antialiased,
        Naming::TransformersClip | Naming::TransformersVit => Resizing::Plain,
        _ if is_clip => Resizing::Antialiased,
        _ => Resizing::TenthLarger,
    }
}

/// "CLIP ViT-B/16".
fn name(is_clip: bool, has_layer_scale: bool, [channels, num_blocks, patch_px]: [i64; 3]) -> String {
    let size = SIZES
        .iter()
        .find(|&&(width, depth, _)| (width, depth) == (channels, num_blocks))
        .map_or_else(
            || format!("{num_blocks}x{channels}"),
            |(_, _, letter)| (*letter).to_owned(),
        );
    let family = match (is_clip, has_layer_scale && patch_px == DINOV2_PATCH_PX) {
        (true, _) => "CLIP ",
        (false, true) => "DINOv2 ",
        (false, false) => "",
    };
    format!("{family}ViT-{size}/{patch_px}")
}

#[derive(Debug, Clone, Copy)]
struct BlockSizes {
    channels: i64,
    head_channels: i64,
    activation: Activation,
    epsilon: f64,
}

/// Pre-norm attention and feed-forward, each added to its input, in DINOv2 with a scale by channel.
#[derive(Debug)]
struct Block {
    norm1: Norm,
    qkv: Linear,
    proj: Linear,
    head_channels: i64,
    ls1: Option<Tensor>,
    norm2: Norm,
    mlp: Mlp,
    ls2: Option<Tensor>,
}

impl Block {
    fn take(parameters: &mut Parameters, name: &str, sizes: BlockSizes) -> Self {
        let BlockSizes {
            channels,
            head_channels,
            activation,
            epsilon,
        } = sizes;
        let of_block = |part: &str| format!("{name}.{part}");
        Self {
            norm1: Norm::take(parameters, &of_block("norm1"), channels, epsilon),
            qkv: Linear::take_with_any_bias(parameters, &of_block("attn.qkv"), [channels, 3 * channels]),
            proj: Linear::take(parameters, &of_block("attn.proj"), [channels, channels]),
            head_channels,
            ls1: parameters.take_if_present(&of_block("ls1.gamma"), &[channels]),
            norm2: Norm::take(parameters, &of_block("norm2"), channels, epsilon),
            mlp: Mlp::take(parameters, &of_block("mlp"), channels, activation),
            ls2: parameters.take_if_present(&of_block("ls2.gamma"), &[channels]),
        }
    }

    /// # Shapes
    /// - `x`: B,T,C
    /// - returns B,T,C
    fn forward(&self, x: &Tensor) -> Tensor {
        let update = self.attention(&self.norm1.forward(x));
        let x = add_scaled(x, &update, self.ls1.as_ref());
        let update = self.mlp.forward(&self.norm2.forward(&x));
        add_scaled(&x, &update, self.ls2.as_ref())
    }

    /// # Shapes
    /// - `x`: B,T,C
    /// - returns B,T,C
    fn attention(&self, x: &Tensor) -> Tensor {
        let (batch, num_tokens, channels) = x.size3().expect("tokens are B,T,C");
        let qkv = self
            .qkv
            .forward(x)
            .view([batch, num_tokens, 3, -1, self.head_channels])
            .permute([2, 0, 3, 1, 4]);
        let no_bias = None::<&Tensor>;
        let mixed = Tensor::scaled_dot_product_attention(
            &qkv.get(0),
            &qkv.get(1),
            &qkv.get(2),
            no_bias,
            0.0,
            false,
            None,
            false,
        );
        self.proj
            .forward(&mixed.transpose(1, 2).reshape([batch, num_tokens, channels]))
    }

    /// How the class token attends to all tokens, mean over the heads.
    ///
    /// # Shapes
    /// - `x`: B,T,C, in front of the block
    /// - returns B,T
    fn class_attention(&self, x: &Tensor) -> Tensor {
        let (batch, _, channels) = x.size3().expect("tokens are B,T,C");
        let x = self.norm1.forward(x);
        let project = |x: &Tensor, which: i64| {
            let rows = |tensor: &Tensor| tensor.narrow(0, which * channels, channels);
            let num_tokens = x.size()[1];
            x.linear(&rows(&self.qkv.weight), self.qkv.bias.as_ref().map(rows))
                .view([batch, num_tokens, -1, self.head_channels])
                .transpose(1, 2)
        };
        let (query, key) = (project(&x.narrow(1, 0, 1), 0), project(&x, 1));
        mean_attention(&query, &key)
    }
}

/// `x + update · scale`.
fn add_scaled(x: &Tensor, update: &Tensor, scale: Option<&Tensor>) -> Tensor {
    match scale {
        Some(scale) => x.addcmul(update, scale),
        None => x + update,
    }
}

/// The feed-forward part of a block.
#[derive(Debug)]
struct Mlp {
    fc1: Linear,
    activation: Activation,
    fc2: Linear,
    /// Half of the first layer's channels gate the others (the largest DINOv2).
    is_gated: bool,
}

impl Mlp {
    fn take(parameters: &mut Parameters, name: &str, channels: i64, activation: Activation) -> Self {
        let [fc1, fc2] = ["fc1", "fc2"].map(|layer| format!("{name}.{layer}"));
        let size = |layer: &str, axis: usize| parameters.length_of(&format!("{layer}.weight"), axis);
        let (outer, inner) = (size(&fc1, 0), size(&fc2, 1));
        let is_gated = outer == 2 * inner && inner > 0;
        let inner = if is_gated { inner } else { outer };
        Self {
            fc1: Linear::take(parameters, &fc1, [channels, outer]),
            activation,
            fc2: Linear::take(parameters, &fc2, [inner, channels]),
            is_gated,
        }
    }

    fn forward(&self, x: &Tensor) -> Tensor {
        let hidden = self.fc1.forward(x);
        let hidden = if self.is_gated {
            let halves = hidden.chunk(2, -1);
            halves[0].silu() * &halves[1]
        } else {
            self.activation.apply(&hidden)
        };
        self.fc2.forward(&hidden)
    }
}
