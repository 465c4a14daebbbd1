//! The whole TAP model: points to tokens, poses to queries, queries to images (paper: "Take-A-Photo").

use serde::{Deserialize, Serialize};
use tch::{Tensor, nn};

use super::decoder::{Decoder, DecoderConfig};
use super::encoder::{Cloud, Encoder, EncoderConfig, Tokens};
use super::mode::Mode;
use super::photograph::{Compat, Photograph, PhotographConfig};
use super::query::{QueryConfig, Rays};

/// All sizes and switches of a TAP model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TapConfig {
    /// The backbone to pre-train.
    pub encoder: EncoderConfig,
    /// Queries and cross-attention.
    pub photograph: PhotographConfig,
    /// Query features to pixels.
    pub decoder: DecoderConfig,
}

impl TapConfig {
    /// TAP as the paper or as the released code has it, around any backbone.
    #[must_use]
    pub fn from_compat(compat: Compat, encoder: EncoderConfig) -> Self {
        Self {
            encoder,
            photograph: PhotographConfig::from_compat(compat),
            decoder: DecoderConfig::paper(),
        }
    }

    /// A small model for two CPU cores and a few minutes: 64-pixel gray images, with the ray bias.
    #[must_use]
    pub fn mini() -> Self {
        Self {
            encoder: EncoderConfig::point_net2_mini(),
            photograph: PhotographConfig::mini(),
            decoder: DecoderConfig::mini(),
        }
    }

    /// Side of the images it draws.
    #[must_use]
    pub fn image_size_px(&self) -> i64 {
        self.photograph.query.grid * self.decoder.scale()
    }
}

/// The model. Field names equal checkpoint keys.
#[derive(Debug)]
pub struct Tap {
    encoder: Box<dyn Encoder>,
    generator: Photograph,
    decoder: Decoder,
    query: QueryConfig,
}

impl Tap {
    /// A model with fresh weights at the root `vs`: `encoder.*`, `generator.*`, `decoder.*`.
    ///
    /// Weights are drawn from the default generator of the CPU: after `tch::manual_seed(seed)` they are a function of
    /// the seed, and the encoder's are those that [`EncoderConfig::build`] alone would have drawn.
    #[must_use]
    pub fn new(vs: &nn::Path<'_>, config: &TapConfig) -> Self {
        let encoder = config.encoder.build(&(vs / "encoder"));
        Self::with_encoder(vs, encoder, &config.photograph, &config.decoder)
    }

    /// A model around any backbone, also one of another crate, by convention built at `vs / "encoder"`.
    #[must_use]
    pub fn with_encoder(
        vs: &nn::Path<'_>,
        encoder: Box<dyn Encoder>,
        photograph: &PhotographConfig,
        decoder: &DecoderConfig,
    ) -> Self {
        Self {
            generator: Photograph::new(&(vs / "generator"), encoder.token_channels(), photograph),
            decoder: Decoder::new(&(vs / "decoder"), photograph.channels, decoder),
            query: photograph.query,
            encoder,
        }
    }

    /// Images of the clouds along the given optical lines.
    ///
    /// # Shapes
    /// - `cloud`: B,N,3 and B,C,N
    /// - `rays`: B,V,grid²
    /// - returns B,V,channels,H,W in 0 to 1
    pub fn photograph(&self, cloud: &Cloud, rays: &Rays, mode: Mode) -> Tensor {
        let tokens = self.encoder.tokens(cloud, mode);
        self.draw(&self.features(&tokens, rays, mode), mode)
    }

    /// Features of the queries as images.
    ///
    /// # Shapes
    /// - `tokens`: B,M,C and B,M,3; `rays`: B,V,grid²
    /// - returns B,V,channels,grid,grid
    pub fn features(&self, tokens: &Tokens, rays: &Rays, mode: Mode) -> Tensor {
        let grid = self.query.grid;
        let features = self.generator.forward(tokens, rays, mode);
        features.unflatten(2, [grid, grid]).permute([0, 1, 4, 2, 3])
    }

    /// Images from features of the queries.
    ///
    /// # Shapes
    /// - `features`: B,V,C,grid,grid
    /// - returns B,V,channels,H,W in 0 to 1
    pub fn draw(&self, features: &Tensor, mode: Mode) -> Tensor {
        let size = features.size();
        self.decoder
            .forward(&features.flatten(0, 1), mode)
            .unflatten(0, [size[0], size[1]])
    }

    /// The backbone.
    #[must_use]
    pub fn encoder(&self) -> &dyn Encoder {
        self.encoder.as_ref()
    }

    /// The photograph module.
    #[must_use]
    pub fn generator(&self) -> &Photograph {
        &self.generator
    }

    /// How its queries come from poses.
    #[must_use]
    pub fn query(&self) -> &QueryConfig {
        &self.query
    }
}
