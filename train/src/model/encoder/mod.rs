//! Point-cloud backbones behind one trait (`docs/method.md`, "Backbones"). One file a backbone, and one line of the
//! list below.
//!
//! # Adding a backbone
//!
//! **Inside this crate**: write `train/src/model/encoder/my_net.rs` with two types, and add the line
//! `my_net: MyNet(MyNetConfig),` to the list. That is all: `kind = "my_net"` in a configuration then selects it for
//! pre-training, fine-tuning, segmentation, probes and comparisons.
//! - `MyNetConfig` holds the sizes: plain data with `Debug, Clone, PartialEq, Serialize, Deserialize`, a `Default`, and
//!   `#[serde(default, deny_unknown_fields)]`. It implements [`Layers`], for learning rates by layer.
//! - `MyNet` is the network: `MyNet::new(vs: &nn::Path, config: &MyNetConfig)` builds it under `vs`, and it implements
//!   [`Encoder`]. Name its fields as the checkpoint does.
//!
//! `cargo fmt` finds files by their `mod` lines, which the list hides: format with `rustfmt train/src/model/encoder/*.rs`.
//!
//! **Outside of it**: implement [`Encoder`] for a type of your own and give it to
//! [`Tap::with_encoder`](crate::model::Tap::with_encoder). `train/examples/own_backbone.rs` does so and pre-trains for
//! some steps: `cargo run -p tap-train --example own_backbone`.

use std::fmt::Debug;
use std::rc::Rc;

use serde::{Deserialize, Serialize};
use tch::{Tensor, nn};

use super::mode::Mode;

/// Declares the file of each backbone, its place in [`EncoderConfig`], and how it is built.
macro_rules! backbones {
    ($($(#[$doc:meta])* $module:ident: $Network:ident($Config:ident),)+) => {
        $(pub(in crate::model) mod $module;)+
        $(pub use $module::*;)+

        /// Which backbone, and all its sizes.
        #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
        #[serde(tag = "kind", rename_all = "snake_case")]
        pub enum EncoderConfig {
            $($(#[$doc])* $Network($Config),)+
        }

        impl EncoderConfig {
            /// What configurations call each backbone that there is.
            pub const KINDS: &'static [&'static str] = &[$(stringify!($module)),+];

            /// What configurations call it.
            #[must_use]
            pub fn kind(&self) -> &'static str {
                match self {
                    $(Self::$Network(_) => stringify!($module),)+
                }
            }

            fn layers(&self) -> &dyn Layers {
                match self {
                    $(Self::$Network(config) => config,)+
                }
            }

            /// Builds the backbone with fresh weights under `vs`, by convention `root / "encoder"`.
            ///
            /// Weights are drawn from the default generator of the CPU: call `tch::manual_seed` before.
            #[must_use]
            pub fn build(&self, vs: &nn::Path<'_>) -> Box<dyn Encoder> {
                match self {
                    $(Self::$Network(config) => Box::new($module::$Network::new(vs, config)),)+
                }
            }
        }

        $(impl From<$Config> for EncoderConfig {
            fn from(config: $Config) -> Self {
                Self::$Network(config)
            }
        })+
    };
}

backbones! {
    /// A standard Transformer over groups of points, as in Point-BERT.
    transformer: Transformer(TransformerConfig),
    /// The hierarchical Transformer of Point-M2AE and I2P-MAE, which can leave groups out.
    point_m2ae: PointM2ae(PointM2aeConfig),
    /// The Transformer of Point-MAE, which can leave groups out.
    point_mae: PointMae(PointMaeConfig),
    /// PointNet++, single-scale grouping.
    point_net2: PointNet2(PointNet2Config),
    /// PointMLP, and its elite variant.
    point_mlp: PointMlp(PointMlpConfig),
    /// DGCNN: edge convolutions over graphs that are rebuilt from features.
    dgcnn: Dgcnn(DgcnnConfig),
    /// PointNeXt, by default its variant S.
    point_next: PointNext(PointNextConfig),
}

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
///
/// What an implementation has to keep:
/// - A cloud is a set: another order of the points gives the same tokens. Published exceptions: farthest-point sampling
///   begins at point 0, and a ball query takes the first points of a crowded ball.
/// - `centers` are in the space of `cloud.xyz`. The photograph module reads them as positions, and the ray bias measures
///   their distance to the rays, so they have to be the position of the token.
/// - `mode` goes on to every layer: in training batch norms use and update the statistics of the batch, and dropout drops.
/// - Coordinates carry no gradient. Searches (neighbors, centers) belong into [`tch::no_grad`].
/// - Random weights and random drops come from torch's default generator alone, so that a seed fixes a run.
pub trait Encoder: Debug {
    /// Tokens with their positions.
    ///
    /// # Shapes
    /// - `cloud`: B,N,3 and B,C,N
    /// - returns B,M,[`token_channels`](Self::token_channels) and B,M,3
    fn tokens(&self, cloud: &Cloud, mode: Mode) -> Tokens;

    /// Width of a token.
    fn token_channels(&self) -> i64;

    /// Tokens for part segmentation; those of pre-training, unless the backbone has more to say about each place.
    ///
    /// # Shapes
    /// - returns B,M,[`dense_channels`](Self::dense_channels) and B,M,3
    fn dense_tokens(&self, cloud: &Cloud, mode: Mode) -> Tokens {
        self.tokens(cloud, mode)
    }

    /// Width of such a token.
    fn dense_channels(&self) -> i64 {
        self.token_channels()
    }

    /// Adds the weights that the global feature has and pre-training has not, under `vs`, by convention
    /// `root / "prediction"`: a class token, a norm; for most backbones nothing. Called once, before the first
    /// classification.
    fn add_global_weights(&mut self, _vs: &nn::Path<'_>) {}

    /// One feature a cloud, for a classification head.
    ///
    /// # Shapes
    /// - `cloud`: B,N,3 and B,C,N
    /// - returns B,[`global_channels`](Self::global_channels)
    fn global_feature(&self, cloud: &Cloud, mode: Mode) -> Tensor;

    /// Width of the global feature.
    fn global_channels(&self) -> i64;
}

/// The depth of a backbone's parameters, as learning rates by layer count it (`BEiT`, MAE): layer 0 embeds the input, each
/// block or stage is one further, and what stands behind the last of them, a final norm, is of the layer
/// [`num_layers`](Self::num_layers), as the head is.
pub trait Layers {
    /// Layers below the head.
    fn num_layers(&self) -> usize;

    /// The layer of a parameter, by its name below the backbone's own path; none for what the backbone does not have.
    fn layer_of(&self, name: &str) -> Option<usize>;
}

/// The number behind a name's first parts: of `blocks.3.norm.weight` behind `blocks` it is 3.
fn number_behind(name: &str, parts: &str) -> Option<usize> {
    let rest = name.strip_prefix(parts)?.strip_prefix('.')?;
    rest.split('.').next()?.parse().ok()
}

/// Whether a name begins with one of these, up to a dot or its end.
fn is_below(name: &str, parts: &[&str]) -> bool {
    let is_rest = |rest: &str| rest.is_empty() || rest.starts_with('.');
    parts
        .iter()
        .any(|part| name.strip_prefix(part).is_some_and(is_rest))
}

impl Layers for EncoderConfig {
    fn num_layers(&self) -> usize {
        self.layers().num_layers()
    }

    fn layer_of(&self, name: &str) -> Option<usize> {
        self.layers().layer_of(name)
    }
}

/// An encoder that several methods read: each with the same weights.
impl<E: Encoder + ?Sized> Encoder for Rc<E> {
    fn tokens(&self, cloud: &Cloud, mode: Mode) -> Tokens {
        (**self).tokens(cloud, mode)
    }

    fn token_channels(&self) -> i64 {
        (**self).token_channels()
    }

    fn dense_tokens(&self, cloud: &Cloud, mode: Mode) -> Tokens {
        (**self).dense_tokens(cloud, mode)
    }

    fn dense_channels(&self) -> i64 {
        (**self).dense_channels()
    }

    /// # Panics
    /// Where others read the encoder already.
    fn add_global_weights(&mut self, vs: &nn::Path<'_>) {
        let encoder = Self::get_mut(self).expect("weights are added before an encoder is shared");
        encoder.add_global_weights(vs);
    }

    fn global_feature(&self, cloud: &Cloud, mode: Mode) -> Tensor {
        (**self).global_feature(cloud, mode)
    }

    fn global_channels(&self) -> i64 {
        (**self).global_channels()
    }
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
}

#[cfg(test)]
mod tests {
    use tch::{Device, Kind, no_grad};

    use super::*;
    use crate::model::{SegmenterSizes, build_segmenter};

    const NUM_POINTS: i64 = 512;

    fn minis() -> [EncoderConfig; 7] {
        [
            EncoderConfig::point_net2_mini(),
            TransformerConfig::mini().into(),
            PointM2aeConfig::mini().into(),
            PointMaeConfig::mini().into(),
            PointMlpConfig::mini().into(),
            DgcnnConfig::mini().into(),
            // The published ball query takes the first points of a ball; with room for all of them none is first.
            EncoderConfig::PointNext(PointNextConfig {
                num_neighbors: NUM_POINTS,
                blocks: vec![1, 2, 1, 1],
                ..PointNextConfig::mini()
            }),
        ]
    }

    fn cloud(xyz: Tensor) -> Cloud {
        let height = xyz.narrow(2, 1, 1) - xyz.narrow(2, 1, 1).amin(1, true);
        let features = Tensor::cat(&[&xyz, &height], 2).transpose(1, 2).contiguous();
        Cloud { xyz, features }
    }

    fn random_cloud(batch: i64) -> Cloud {
        let normal = Tensor::randn([batch, NUM_POINTS, 3], (Kind::Float, Device::Cpu));
        cloud(&normal / normal.norm_scalaropt_dim(2, [-1], true).amax(1, true))
    }

    fn num_parameters(vs: &nn::VarStore) -> usize {
        vs.trainable_variables().iter().map(Tensor::numel).sum()
    }

    #[test]
    fn shapes_are_as_promised_and_gradients_reach_every_weight() {
        tch::manual_seed(0);
        let cloud = random_cloud(2);
        for config in minis() {
            let vs = nn::VarStore::new(Device::Cpu);
            let encoder = config.build(&(vs.root() / "encoder"));
            let tokens = encoder.tokens(&cloud, Mode::TRAIN);
            let (batch, num_tokens, channels) = tokens.features.size3().expect("B,M,C");
            assert_eq!((batch, channels), (2, encoder.token_channels()), "{config:?}");
            assert_eq!(tokens.centers.size(), [2, num_tokens, 3], "{config:?}");
            let dense = encoder.dense_tokens(&cloud, Mode::EVAL);
            assert_eq!(
                dense.features.size(),
                [2, num_tokens, encoder.dense_channels()],
                "{config:?}"
            );
            let feature = encoder.global_feature(&cloud, Mode::TRAIN);
            assert_eq!(feature.size(), [2, encoder.global_channels()], "{config:?}");
            (feature.square().mean(Kind::Float) + tokens.features.square().mean(Kind::Float)).backward();
            for (name, parameter) in vs.variables().into_iter().filter(|(_, v)| v.requires_grad()) {
                // The norms of finer levels are those of what the decoder of pre-training gets.
                let is_of_decoder = ["encoder.encoder_norms.0.", "encoder.encoder_norms.1."];
                if is_of_decoder.iter().any(|norm| name.starts_with(norm)) {
                    continue;
                }
                let gradient = parameter.grad();
                assert!(gradient.defined(), "{config:?}: no gradient for {name}");
                assert!(
                    gradient.isfinite().all().int64_value(&[]) == 1,
                    "{config:?}: {name}"
                );
            }
        }
    }

    #[test]
    fn every_weight_has_a_layer_and_none_of_another_network_has() {
        for config in minis() {
            let vs = nn::VarStore::new(Device::Cpu);
            let _ = config.build(&vs.root());
            let names: Vec<String> = vs.variables().into_keys().collect();
            let mut layers: Vec<usize> = names
                .iter()
                .map(|name| {
                    config
                        .layer_of(name)
                        .unwrap_or_else(|| panic!("{config:?}: {name}"))
                })
                .collect();
            layers.sort_unstable();
            layers.dedup();
            // All of them are there; only some backbones have a norm behind the last.
            let below_head: Vec<usize> = (0..config.num_layers()).collect();
            assert!(layers.starts_with(&below_head), "{config:?}: {layers:?}");
            assert!(layers.len() <= below_head.len() + 1, "{config:?}: {layers:?}");

            let vs = nn::VarStore::new(Device::Cpu);
            let sizes = SegmenterSizes {
                num_classes: 2,
                num_parts: 3,
                dropout: 0.0,
            };
            let _ = build_segmenter(&config, &vs.root(), &sizes);
            let mut of_segmenter: Vec<String> = vs.variables().into_keys().collect();
            of_segmenter.sort_unstable();
            for name in &of_segmenter {
                let is_of_encoder = names.contains(name);
                assert_eq!(
                    config.layer_of(name).is_some(),
                    is_of_encoder,
                    "{config:?}: {name}"
                );
            }
        }
    }

    #[test]
    fn layers_rise_from_the_input_to_the_head() {
        type Expected = (EncoderConfig, usize, &'static [(&'static str, usize)]);
        let expected: [Expected; 7] = [
            (
                EncoderConfig::transformer(),
                13,
                &[
                    ("encoder.first_conv.0.weight", 0),
                    ("cls_pos", 0),
                    ("pos_embed.2.bias", 0),
                    ("blocks.blocks.0.norm1.weight", 1),
                    ("blocks.blocks.11.mlp.fc2.weight", 12),
                    ("norm.weight", 13),
                ],
            ),
            (
                PointMaeConfig::default().into(),
                13,
                &[("blocks.blocks.3.attn.qkv.weight", 4), ("norm.bias", 13)],
            ),
            (
                PointM2aeConfig::default().into(),
                16,
                &[
                    ("token_embed.0.first_conv.0.weight", 0),
                    ("encoder_blocks.0.blocks.4.norm1.weight", 5),
                    ("token_embed.1.first_conv.0.weight", 5),
                    ("encoder_blocks.2.blocks.4.norm1.weight", 15),
                    ("encoder_norms.0.weight", 5),
                    ("encoder_norms.2.weight", 16),
                ],
            ),
            (
                EncoderConfig::point_net2(),
                3,
                &[(
                    "SA_modules.2.local_aggregations.0.SA_CONFIG_operator.convs.0.0.weight",
                    2,
                )],
            ),
            (
                PointMlpConfig::default().into(),
                5,
                &[
                    ("embedding.net.0.weight", 0),
                    ("pos_blocks_list.3.operation.0.net1.0.weight", 4),
                ],
            ),
            (
                DgcnnConfig::default().into(),
                5,
                &[
                    ("head.gconv.nn.0.weight", 0),
                    ("backbone.2.gconv.nn.0.weight", 3),
                    ("fusion_block.0.weight", 4),
                ],
            ),
            (
                PointNextConfig::default().into(),
                6,
                &[
                    ("encoder.0.0.convs.0.0.weight", 0),
                    ("encoder.5.0.convs.0.0.weight", 5),
                ],
            ),
        ];
        for (config, num_layers, names) in expected {
            assert_eq!(config.num_layers(), num_layers, "{config:?}");
            for (name, layer) in names {
                assert_eq!(config.layer_of(name), Some(*layer), "{config:?}: {name}");
            }
        }
    }

    #[test]
    fn the_order_of_the_points_does_not_count() {
        tch::manual_seed(1);
        let given = random_cloud(2);
        // Point 0, where farthest-point sampling begins, stays.
        let order = Tensor::randperm(NUM_POINTS - 1, (Kind::Int64, Device::Cpu)) + 1;
        let order = Tensor::cat(&[Tensor::zeros([1], (Kind::Int64, Device::Cpu)), order], 0);
        let shuffled = cloud(given.xyz.index_select(1, &order));
        for config in minis() {
            let vs = nn::VarStore::new(Device::Cpu);
            let encoder = config.build(&vs.root());
            let [one, other] =
                [&given, &shuffled].map(|cloud| no_grad(|| encoder.global_feature(cloud, Mode::EVAL)));
            assert!(one.allclose(&other, 1e-3, 1e-4, false), "{config:?}");
            let moved = cloud(&given.xyz * 0.5);
            let moved = no_grad(|| encoder.global_feature(&moved, Mode::EVAL));
            assert!(
                !one.allclose(&moved, 1e-3, 1e-4, false),
                "{config:?}: the points count"
            );
        }
    }

    #[test]
    fn sizes_are_those_that_were_published() {
        let sizes: [(EncoderConfig, usize); 7] = [
            (PointMlpConfig::default().into(), 12_570_624),
            // 0.72 million with three input channels and a head of 512 and 256 for 40 classes.
            (PointMlpConfig::elite().into(), 441_536),
            (DgcnnConfig::default().into(), 617_984),
            (EncoderConfig::transformer(), 21_858_816),
            // 12,921,935 with a head of 256 and 256 for 15 classes and a norm in front of it, and without the three norms of
            // pre-training.
            (
                PointM2aeConfig::default().into(),
                12_921_935 - 267_535 - 2 * 384 + 2 * (96 + 192 + 384),
            ),
            // 22,099,752 with a class token, its position, and a head of 256 and 256 for 40 classes.
            (PointMaeConfig::default().into(), 22_099_752 - 2 * 384 - 273_960),
            // 1.367 million with a head of 512 and 256 for 15 classes.
            (PointNextConfig::default().into(), 1_367_119 - 398_607),
        ];
        for (config, expected) in sizes {
            let vs = nn::VarStore::new(Device::Cpu);
            let _ = config.build(&vs.root());
            assert_eq!(num_parameters(&vs), expected, "{config:?}");
        }
    }
}
