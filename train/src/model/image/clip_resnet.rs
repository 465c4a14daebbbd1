//! The ResNets of CLIP: a stem of three convolutions, strides by average pooling, and attention in place of the last pooling
//! (`docs/method.md`, "2D networks").
//!
//! CLIP itself pools: it says one thing of an image. Its patches get what the pooling would add up: the feature map through
//! the value and output projections of the attention (as `MaskCLIP` does); how much of each, the pooling's query says.

use tch::Tensor;

use super::parameter::Parameters;
use super::{
    ImageEncoder, ImageEncoderOptions, ImageFeatures, Linear, Normalization, Resizing, mean_attention,
};

/// Width of a head of the attention pooling.
const HEAD_CHANNELS: i64 = 64;
/// Channels behind a bottleneck, in multiples of its width.
const EXPANSION: i64 = 4;
/// Pixels of the image by pixel of the last feature map.
const PATCH_PX: i64 = 32;
/// Limits, against damaged files.
const MAX_WIDTH: i64 = 1 << 11;
const MAX_BLOCKS: i64 = 1 << 9;
const EPSILON: f64 = 1e-5;
/// Sizes that have a name: width of the stem and bottlenecks by stage.
const NAMES: [(i64, [i64; 4], &str); 5] = [
    (64, [3, 4, 6, 3], "RN50"),
    (64, [3, 4, 23, 3], "RN101"),
    (80, [4, 6, 10, 6], "RN50x4"),
    (96, [6, 8, 18, 8], "RN50x16"),
    (128, [3, 15, 36, 10], "RN50x64"),
];

/// A frozen ResNet of CLIP.
#[derive(Debug)]
pub struct ClipResNet {
    name: String,
    stem: [Convolution; 3],
    stages: Vec<Vec<Bottleneck>>,
    attnpool: AttentionPool,
}

impl ClipResNet {
    /// From tensors under CLIP's names.
    ///
    /// # Errors
    /// Where a size does not follow from them, or an option does not fit.
    pub(super) fn try_new(parameters: &mut Parameters, options: ImageEncoderOptions) -> Result<Self, String> {
        if options.layer.is_some() || options.activation.is_some() {
            return Err(String::from(
                "a ResNet has neither blocks nor activations to choose; leave --layer and --activation out",
            ));
        }
        let width = parameters.length_of("conv3.weight", 0);
        let num_blocks = [1, 2, 3, 4].map(|stage| parameters.num_blocks(&format!("layer{stage}.")));
        let is_sound = |&count: &i64| (1..=MAX_BLOCKS).contains(&count);
        if !(2..=MAX_WIDTH).contains(&width) || !num_blocks.iter().all(is_sound) {
            return Err(format!(
                "a stem of {width} channels and stages of {num_blocks:?} blocks; expected CLIP's stem of three convolutions and four stages"
            ));
        }
        let known = NAMES
            .iter()
            .find(|(w, blocks, _)| (*w, *blocks) == (width, num_blocks));
        let name = known.map_or_else(
            || format!("CLIP ResNet {num_blocks:?} of width {width}"),
            |(_, _, name)| format!("CLIP {name}"),
        );
        let half = width / 2;
        let stem = [
            Convolution::take(parameters, ["conv1", "bn1"], [3, half, 3], 2),
            Convolution::take(parameters, ["conv2", "bn2"], [half, half, 3], 1),
            Convolution::take(parameters, ["conv3", "bn3"], [half, width, 3], 1),
        ];
        let mut in_channels = width;
        let mut stages = Vec::new();
        for (stage, &num_blocks) in num_blocks.iter().enumerate() {
            let channels = width << stage;
            let blocks = (0..num_blocks).map(|i| {
                let stride = if stage > 0 && i == 0 { 2 } else { 1 };
                let name = format!("layer{}.{i}", stage + 1);
                let block = Bottleneck::take(parameters, &name, [in_channels, channels], stride);
                in_channels = channels * EXPANSION;
                block
            });
            stages.push(blocks.collect());
        }
        Ok(Self {
            name,
            stem,
            stages,
            attnpool: AttentionPool::take(parameters, in_channels)?,
        })
    }
}

impl ImageEncoder for ClipResNet {
    fn name(&self) -> &str {
        &self.name
    }

    fn num_channels(&self) -> i64 {
        self.attnpool.c_proj.weight.size()[0]
    }

    fn patch_px(&self) -> i64 {
        PATCH_PX
    }

    fn image_size_px(&self) -> i64 {
        (self.attnpool.positional_embedding.size()[1] - 1).isqrt() * PATCH_PX
    }

    fn normalization(&self) -> Normalization {
        Normalization::CLIP
    }

    fn encode(&self, pixels: &Tensor) -> ImageFeatures {
        let _no_grad = tch::no_grad_guard();
        let x = self
            .stem
            .iter()
            .fold(pixels.shallow_clone(), |x, layer| layer.forward(&x).relu_());
        let x = average(&x, 2);
        let x = self.stages.iter().flatten().fold(x, |x, block| block.forward(&x));
        self.attnpool.forward(&x)
    }
}

/// A convolution without bias, and its batch normalization with running statistics, in one.
#[derive(Debug)]
struct Convolution {
    weight: Tensor,
    bias: Tensor,
    stride: i64,
    padding: i64,
}

impl Convolution {
    fn take(
        parameters: &mut Parameters,
        [convolution, norm]: [&str; 2],
        [in_channels, out_channels, kernel]: [i64; 3],
        stride: i64,
    ) -> Self {
        let weight = parameters.take(
            &format!("{convolution}.weight"),
            &[out_channels, in_channels, kernel, kernel],
        );
        let [scale, shift, mean, variance] = ["weight", "bias", "running_mean", "running_var"]
            .map(|name| parameters.take(&format!("{norm}.{name}"), &[out_channels]));
        // Says how many batches were seen, in a file of PyTorch.
        let _ = parameters.take_if_present(&format!("{norm}.num_batches_tracked"), &[]);
        let fits = |tensor: &Tensor| tensor.size() == [out_channels];
        let (weight, bias) = if [&scale, &shift, &mean, &variance].into_iter().all(fits) && weight.dim() == 4
        {
            let scale = scale / (variance + EPSILON).sqrt();
            (weight * scale.view([-1, 1, 1, 1]), shift - mean * scale)
        } else {
            // The parameters have noted what does not fit; the network is not used.
            (weight, shift)
        };
        Self {
            weight,
            bias,
            stride,
            padding: kernel / 2,
        }
    }

    fn forward(&self, x: &Tensor) -> Tensor {
        let (stride, padding) = ([self.stride; 2], [self.padding; 2]);
        x.conv2d(&self.weight, Some(&self.bias), stride, padding, [1, 1], 1)
    }
}

fn average(x: &Tensor, size: i64) -> Tensor {
    x.avg_pool2d([size; 2], [size; 2], [0, 0], false, true, None)
}

/// 1×1, 3×3 and 1×1 convolutions beside a shortcut; a stride is an average in front of a 1×1 convolution.
#[derive(Debug)]
struct Bottleneck {
    convolutions: [Convolution; 3],
    downsample: Option<Convolution>,
    stride: i64,
}

impl Bottleneck {
    fn take(parameters: &mut Parameters, name: &str, [in_channels, channels]: [i64; 2], stride: i64) -> Self {
        let out_channels = channels * EXPANSION;
        let mut take = |[convolution, norm]: [&str; 2], sizes: [i64; 3]| {
            let names = [convolution, norm].map(|part| format!("{name}.{part}"));
            Convolution::take(parameters, [&names[0], &names[1]], sizes, 1)
        };
        Self {
            convolutions: [
                take(["conv1", "bn1"], [in_channels, channels, 1]),
                take(["conv2", "bn2"], [channels, channels, 3]),
                take(["conv3", "bn3"], [channels, out_channels, 1]),
            ],
            downsample: (stride > 1 || in_channels != out_channels)
                .then(|| take(["downsample.0", "downsample.1"], [in_channels, out_channels, 1])),
            stride,
        }
    }

    fn forward(&self, x: &Tensor) -> Tensor {
        let pooled = |x: Tensor| {
            if self.stride > 1 {
                average(&x, self.stride)
            } else {
                x
            }
        };
        let [conv1, conv2, conv3] = &self.convolutions;
        let inner = pooled(conv2.forward(&conv1.forward(x).relu_()).relu_());
        let shortcut = match &self.downsample {
            Some(downsample) => downsample.forward(&pooled(x.shallow_clone())),
            None => x.shallow_clone(),
        };
        (conv3.forward(&inner) + shortcut).relu_()
    }
}

/// Attention of the mean of all positions to them and itself.
#[derive(Debug)]
struct AttentionPool {
    /// 1,1 + n·n,C: the mean's, then the positions'.
    positional_embedding: Tensor,
    q_proj: Linear,
    k_proj: Linear,
    v_proj: Linear,
    c_proj: Linear,
}

impl AttentionPool {
    fn take(parameters: &mut Parameters, channels: i64) -> Result<Self, String> {
        let size = parameters
            .size_of("attnpool.positional_embedding")
            .unwrap_or_default();
        let num_positions = parameters.length_of("attnpool.positional_embedding", 0) - 1;
        if num_positions < 1 || num_positions.isqrt().pow(2) != num_positions || channels % HEAD_CHANNELS != 0
        {
            return Err(format!(
                "the attention pooling has positions {size:?} for {channels} channels; expected one and a square grid of them"
            ));
        }
        let positions = parameters.take("attnpool.positional_embedding", &[num_positions + 1, channels]);
        let out_channels = parameters.length_of("attnpool.c_proj.weight", 0);
        let mut take =
            |name: &str, out| Linear::take(parameters, &format!("attnpool.{name}"), [channels, out]);
        Ok(Self {
            positional_embedding: positions.unsqueeze(0),
            q_proj: take("q_proj", channels),
            k_proj: take("k_proj", channels),
            v_proj: take("v_proj", channels),
            c_proj: take("c_proj", out_channels),
        })
    }

    /// # Shapes
    /// - `x`: B,C,h,w
    /// - returns features B,out,h,w and saliency B,h,w
    fn forward(&self, x: &Tensor) -> ImageFeatures {
        let (batch, channels, h, w) = x.size4().expect("feature maps are B,C,h,w");
        let patches = x.flatten(2, 3).transpose(1, 2);
        let features = self.c_proj.forward(&self.v_proj.forward(&patches));
        let positions = &self.positional_embedding;
        let of_mean = positions.narrow(1, 0, 1);
        let of_grid = positions.narrow(1, 1, positions.size()[1] - 1);
        let mean = patches.mean_dim(1, true, None) + of_mean;
        let tokens = Tensor::cat(
            &[&mean, &(patches + Resizing::Antialiased.apply(&of_grid, [h, w]))],
            1,
        );
        let heads = |x: Tensor| {
            x.view([batch, -1, channels / HEAD_CHANNELS, HEAD_CHANNELS])
                .transpose(1, 2)
        };
        let (query, key) = (
            heads(self.q_proj.forward(&mean)),
            heads(self.k_proj.forward(&tokens)),
        );
        let saliency = mean_attention(&query, &key).narrow(1, 1, h * w);
        ImageFeatures {
            features: features.transpose(1, 2).reshape([batch, -1, h, w]),
            saliency: saliency.reshape([batch, h, w]),
        }
    }
}
