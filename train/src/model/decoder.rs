//! The 2D generator: transposed convolutions from the grid of query features to pixels
//! (`docs/method.md`, "2D generator").

use serde::{Deserialize, Serialize};
use tch::{Tensor, nn};

use super::layer::ConvTranspose;
use super::mode::Mode;

/// Sizes of the 2D generator.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DecoderConfig {
    /// The layers, from queries to pixels. All but the last end in a ReLU, the last in a sigmoid.
    pub layers: Vec<DecoderLayer>,
    /// Where the bias of the last layer starts; drawn like every other if absent. Most pixels of an image are white.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_bias: Option<f64>,
}

/// One transposed convolution with a kernel of stride + 1, padding 1 and output padding 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DecoderLayer {
    /// Channels out.
    pub channels: i64,
    /// Upsampling factor.
    pub stride: i64,
}

impl DecoderConfig {
    /// The paper's: 7 × 7 queries to 224 × 224 pixels in three channels.
    #[must_use]
    pub fn paper() -> Self {
        let layer = |channels, stride| DecoderLayer { channels, stride };
        Self {
            layers: vec![layer(128, 4), layer(64, 2), layer(32, 2), layer(3, 2)],
            last_bias: None,
        }
    }

    /// 4 × 4 queries to 64 × 64 gray pixels.
    #[must_use]
    pub fn mini() -> Self {
        let layer = |channels| DecoderLayer { channels, stride: 2 };
        Self {
            layers: vec![layer(64), layer(32), layer(16), layer(1)],
            last_bias: Some(1.0),
        }
    }

    /// Side of an image over the side of the query grid.
    #[must_use]
    pub fn scale(&self) -> i64 {
        self.layers.iter().map(|layer| layer.stride).product()
    }

    /// Channels of the image.
    #[must_use]
    pub fn channels(&self) -> i64 {
        self.layers.last().map_or(0, |layer| layer.channels)
    }
}

/// The network; keys `layer1.0` to `layer4.0`.
#[derive(Debug)]
pub(super) struct Decoder {
    layers: Vec<ConvTranspose>,
}

impl Decoder {
    pub(super) fn new(vs: &nn::Path<'_>, in_channels: i64, config: &DecoderConfig) -> Self {
        let mut channels = in_channels;
        let build = |(i, layer): (usize, &DecoderLayer)| {
            let vs = vs / format!("layer{}", i + 1) / 0;
            let conv = ConvTranspose::new(vs, channels, layer.channels, layer.stride);
            channels = layer.channels;
            conv
        };
        let mut layers: Vec<_> = config.layers.iter().enumerate().map(build).collect();
        if let (Some(last), Some(bias)) = (layers.last_mut(), config.last_bias) {
            last.fill_bias(bias);
        }
        Self { layers }
    }

    /// # Shapes
    /// - `x`: B,C,h,w
    /// - returns B,channels,h·scale,w·scale in 0 to 1
    pub(super) fn forward(&self, x: &Tensor, mode: Mode) -> Tensor {
        let (last, hidden) = self.layers.split_last().expect("a decoder has a layer");
        let mut x = x.shallow_clone();
        for layer in hidden {
            x = layer.forward(&x, mode).relu_();
        }
        last.forward(&x, mode).sigmoid()
    }
}
