//! Frozen 2D networks: what CLIP, DINO or DINOv2 says of an image (`docs/method.md`, "2D networks").
//!
//! A network is built from the tensors that somebody published, under any of the names that they are published with
//! (`published.rs`), and is recognized by names and shapes alone: [`Vit`] for every vision Transformer, [`ClipResNet`] for
//! CLIP's ResNets. It is never trained.

mod clip_resnet;
mod parameter;
mod published;
mod vit;

pub use clip_resnet::ClipResNet;
pub use vit::Vit;

use std::collections::BTreeMap;
use std::fmt::Debug;

use strum::{Display, EnumString, VariantNames};
use tch::{Device, Kind, Tensor};

use parameter::Parameters;
pub use published::Naming;
use published::Published;

/// What a frozen network says of images.
#[derive(Debug)]
pub struct ImageFeatures {
    /// Features of the patches, B,C,h,w.
    pub features: Tensor,
    /// How much the class token attends to each patch in the last block, mean over the heads, B,h,w. Not negative; the sum
    /// over an image is below 1 by what the class token and registers get.
    pub saliency: Tensor,
}

/// A frozen network that gives features of an image's patches and its saliency.
pub trait ImageEncoder: Debug + Send {
    /// The network: "CLIP ViT-B/16".
    fn name(&self) -> &str;

    /// C: channels of a patch's features.
    fn num_channels(&self) -> i64;

    /// Width and height of a patch in pixels; images have a multiple of it.
    fn patch_px(&self) -> i64;

    /// Width and height of the images that it was trained on last. Others are encoded too: position embeddings are
    /// interpolated.
    fn image_size_px(&self) -> i64;

    /// How the pixels that it was trained on were normalized.
    fn normalization(&self) -> Normalization;

    /// # Shapes
    /// - `pixels`: B,3,H,W, normalized ([`Normalization::apply`]), on the network's device; H and W multiples of
    ///   [`Self::patch_px`]
    /// - returns features B,C,h,w and saliency B,h,w with h = H / patch, without gradient
    fn encode(&self, pixels: &Tensor) -> ImageFeatures;
}

/// Mean and deviation of pixels in 0 to 1, by color channel.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Normalization {
    /// Subtracted.
    pub mean: [f32; 3],
    /// Divided by.
    pub deviation: [f32; 3],
}

impl Normalization {
    /// Of DINO, DINOv2 and most networks trained on photographs.
    pub const IMAGENET: Self = Self {
        mean: [0.485, 0.456, 0.406],
        deviation: [0.229, 0.224, 0.225],
    };
    /// Of CLIP.
    pub const CLIP: Self = Self {
        mean: [0.481_454_66, 0.457_827_5, 0.408_210_73],
        deviation: [0.268_629_54, 0.261_302_6, 0.275_777_1],
    };

    /// # Shapes
    /// - `pixels`: B,3,H,W in 0 to 1
    /// - returns the same
    pub fn apply(&self, pixels: &Tensor) -> Tensor {
        let channel = |values: &[f32]| {
            Tensor::from_slice(values)
                .view([1, 3, 1, 1])
                .to_device(pixels.device())
        };
        (pixels - channel(&self.mean)) / channel(&self.deviation)
    }
}

/// The activation of the feed-forward layers. Files don't say which one a network was trained with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Display, EnumString, VariantNames)]
#[strum(serialize_all = "kebab-case")]
pub enum Activation {
    /// `x · Φ(x)`: DINO, DINOv2, CLIP as `open_clip` trains it.
    Gelu,
    /// `x · sigmoid(1.702 x)`: CLIP by OpenAI.
    QuickGelu,
}

impl Activation {
    fn apply(self, x: &Tensor) -> Tensor {
        match self {
            Self::Gelu => x.gelu("none"),
            Self::QuickGelu => x * (x * 1.702).sigmoid(),
        }
    }
}

/// What a file of weights leaves open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ImageEncoderOptions {
    /// Take features behind this block, counted from 0, as they are: neither normalized nor projected. Saliency is of the
    /// last block all the same. `None`: behind the last block, with the final norm and, in CLIP, the projection.
    pub layer: Option<i64>,
    /// Of the feed-forward layers; `None` where the weights tell.
    pub activation: Option<Activation>,
}

/// A network from the tensors of a file.
#[derive(Debug)]
pub struct Recognized {
    /// The network.
    pub encoder: Box<dyn ImageEncoder>,
    /// Whose names the tensors have.
    pub naming: Naming,
    /// Prefix of the network's names in the file.
    pub prefix: String,
    /// Other prefixes under which networks lie.
    pub other_prefixes: Vec<String>,
    /// Tensors that the network is made of, as the file counts them.
    pub num_tensors: usize,
    /// Tensors under the prefix that are of no use for features, by their names in the file.
    pub unused: Vec<String>,
    /// Number of tensors elsewhere in the file, such as a text encoder's.
    pub num_elsewhere: usize,
}

/// Recognizes the network whose tensors a file holds, and builds it on `device`.
///
/// # Errors
/// Where they are of no known network, some are missing or of another shape, an option does not fit, or a number is infinite or
/// not a number, in one line.
pub fn recognize(
    tensors: &BTreeMap<String, Tensor>,
    options: ImageEncoderOptions,
    device: Device,
) -> Result<Recognized, String> {
    let published = Published::find(tensors)?;
    let mut parameters = Parameters::new(published.tensors, device);
    let encoder: Box<dyn ImageEncoder> = match published.naming {
        Naming::ClipResNet => Box::new(ClipResNet::try_new(&mut parameters, options)?),
        _ => Box::new(Vit::try_new(
            &mut parameters,
            options,
            published.naming,
            published.is_by_openai,
        )?),
    };
    let unused = parameters.finish(&published.names)?;
    Ok(Recognized {
        encoder,
        naming: published.naming,
        prefix: published.prefix,
        other_prefixes: published.other_prefixes,
        num_tensors: published.num_tensors - unused.len(),
        unused,
        num_elsewhere: published.num_elsewhere,
    })
}

/// Layer normalization over the last axis.
#[derive(Debug)]
struct Norm {
    weight: Tensor,
    bias: Tensor,
    epsilon: f64,
}

impl Norm {
    fn take(parameters: &mut Parameters, name: &str, channels: i64, epsilon: f64) -> Self {
        Self {
            weight: parameters.take(&format!("{name}.weight"), &[channels]),
            bias: parameters.take(&format!("{name}.bias"), &[channels]),
            epsilon,
        }
    }

    fn forward(&self, x: &Tensor) -> Tensor {
        let (weight, bias) = (Some(&self.weight), Some(&self.bias));
        x.layer_norm(self.weight.size(), weight, bias, self.epsilon, true)
    }
}

/// `x · weightᵀ + bias` over the last axis.
#[derive(Debug)]
struct Linear {
    weight: Tensor,
    bias: Option<Tensor>,
}

impl Linear {
    /// Weight out,in, and a bias.
    fn take(parameters: &mut Parameters, name: &str, [in_channels, out_channels]: [i64; 2]) -> Self {
        Self {
            weight: parameters.take(&format!("{name}.weight"), &[out_channels, in_channels]),
            bias: Some(parameters.take(&format!("{name}.bias"), &[out_channels])),
        }
    }

    /// The same where the bias may be absent.
    fn take_with_any_bias(
        parameters: &mut Parameters,
        name: &str,
        [in_channels, out_channels]: [i64; 2],
    ) -> Self {
        Self {
            weight: parameters.take(&format!("{name}.weight"), &[out_channels, in_channels]),
            bias: parameters.take_if_present(&format!("{name}.bias"), &[out_channels]),
        }
    }

    fn forward(&self, x: &Tensor) -> Tensor {
        x.linear(&self.weight, self.bias.as_ref())
    }
}

/// How much a query attends to each key, mean over the heads.
///
/// # Shapes
/// - `query`: B,heads,1,D; `key`: B,heads,T,D
/// - returns B,T
fn mean_attention(query: &Tensor, key: &Tensor) -> Tensor {
    let (_, _, _, head_channels) = query.size4().expect("queries are B,heads,1,D");
    let logits = query.matmul(&key.transpose(2, 3)) / (head_channels as f64).sqrt();
    logits.softmax(-1, None).mean_dim(1, false, None).squeeze_dim(1)
}

/// How position embeddings are resized to a grid that the network was not trained on: as the code does whose names the tensors
/// have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Resizing {
    /// Bicubic, with a low-pass filter where the grid gets smaller: CLIP in `open_clip` and timm, DINOv2 with registers.
    Antialiased,
    /// Bicubic: `transformers`.
    Plain,
    /// Bicubic, for a grid that is taken to be a tenth of a patch larger than it is. Parity: DINO and DINOv2 do so against
    /// rounding, which moves every position by up to a tenth of a patch.
    TenthLarger,
}

/// Extent that DINO adds to the grid, in patches.
const DINO_OFFSET: f64 = 0.1;

impl Resizing {
    /// # Shapes
    /// - `positions`: 1,n·n,C
    /// - returns 1,h·w,C
    fn apply(self, positions: &Tensor, [h, w]: [i64; 2]) -> Tensor {
        let (_, num_positions, channels) = positions.size3().expect("positions are 1,n,C");
        let side = num_positions.isqrt();
        if [h, w] == [side, side] {
            return positions.shallow_clone();
        }
        let grid = positions.view([1, side, side, channels]).permute([0, 3, 1, 2]);
        let resized = match self {
            Self::Antialiased => grid.internal_upsample_bicubic2d_aa([h, w], false, None, None),
            Self::Plain => grid.upsample_bicubic2d([h, w], false, None, None),
            Self::TenthLarger => {
                let scale = |size: i64| (size as f64 + DINO_OFFSET) / side as f64;
                grid.upsample_bicubic2d([h, w], false, scale(h), scale(w))
            }
        };
        resized.permute([0, 2, 3, 1]).reshape([1, h * w, channels])
    }
}

/// As `f32` on a device, without gradient.
fn frozen(tensor: &Tensor, device: Device) -> Tensor {
    tensor
        .detach()
        .to_kind(Kind::Float)
        .to_device(device)
        .contiguous()
}
