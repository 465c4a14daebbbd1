//! PointMLP for part segmentation (`docs/method.md`, "Part segmentation networks").
//!
//! The encoder keeps all its levels; a decoder carries features from the coarsest back to the points, level by level; a
//! summary of all levels and the class of the object join in front of the classifier.

use tch::{Kind, Tensor, nn};

use super::{LabelTensors, PartInput, Segmenter, SegmenterSizes, one_hot};
use crate::model::encoder::PointMlpConfig;
use crate::model::encoder::point_mlp::{ConvBnRelu, Level, PointMlp, Residual};
use crate::model::layer::{BatchNorm, Linear, dropout};
use crate::model::mode::Mode;
use crate::ops;

/// Position and normal.
const INPUT_CHANNELS: i64 = 6;
/// Width of the summary of the levels, of each level's share in it, and of the class.
const CONTEXT_CHANNELS: i64 = 64;
/// Residual blocks behind each interpolation.
const NUM_DECODER_BLOCKS: i64 = 4;
/// Width in front of the last layer.
const HIDDEN_CHANNELS: i64 = 128;

pub(super) const LABEL_TENSORS: LabelTensors = LabelTensors {
    class: "cls_map.0.net.0.weight",
    parts: &["classifier.3.weight"],
};

/// The network.
#[derive(Debug)]
pub struct PointMlpSegmenter {
    /// Its parameters lie beside those of the decoder: `embedding`, `local_grouper_list` and so on.
    encoder: PointMlp,
    decode_list: Vec<Propagation>,
    cls_map: [ConvBnRelu; 2],
    gmp_map_list: Vec<ConvBnRelu>,
    gmp_map_end: ConvBnRelu,
    classifier: (Linear, BatchNorm, Linear),
    sizes: SegmenterSizes,
}

/// What the network makes on its way.
#[derive(Debug)]
pub struct Trace {
    /// Features behind the embedding and behind each stage of the encoder, B,N,C each.
    pub encoded: Vec<Tensor>,
    /// Features behind each stage of the decoder, coarse to fine.
    pub decoded: Vec<Tensor>,
    /// B,N,parts.
    pub log_probabilities: Tensor,
}

impl PointMlpSegmenter {
    /// A network with fresh weights under `vs`.
    #[must_use]
    pub fn new(vs: &nn::Path<'_>, config: &PointMlpConfig, sizes: &SegmenterSizes) -> Self {
        let encoder = PointMlp::with_input(vs, config, INPUT_CHANNELS);
        let widths = encoder.widths().to_vec();
        let coarse_to_fine = || widths.iter().rev();
        let mut decode_list = Vec::new();
        let mut channels = widths[widths.len() - 1];
        for (i, &fine) in coarse_to_fine().skip(1).enumerate() {
            // The finest level, the embedding alone, is decoded as widely as the one above it.
            let width = fine.max(widths[1]);
            decode_list.push(Propagation::new(
                &(vs / "decode_list" / i),
                fine,
                channels,
                width,
                config,
            ));
            channels = width;
        }
        let map =
            |(i, &width): (usize, &i64)| ConvBnRelu::new(&(vs / "gmp_map_list" / i), width, CONTEXT_CHANNELS);
        let gmp_map_list: Vec<_> = coarse_to_fine().enumerate().map(map).collect();
        let gmp_map_end = ConvBnRelu::new(
            &(vs / "gmp_map_end"),
            widths.len() as i64 * CONTEXT_CHANNELS,
            CONTEXT_CHANNELS,
        );
        let cls_map = vs / "cls_map";
        let classifier = vs / "classifier";
        Self {
            encoder,
            decode_list,
            cls_map: [
                ConvBnRelu::new(&(&cls_map / 0), sizes.num_classes, CONTEXT_CHANNELS),
                ConvBnRelu::new(&(&cls_map / 1), CONTEXT_CHANNELS, CONTEXT_CHANNELS),
            ],
            gmp_map_list,
            gmp_map_end,
            classifier: (
                Linear::pointwise(
                    &classifier / 0,
                    channels + 2 * CONTEXT_CHANNELS,
                    HIDDEN_CHANNELS,
                    1,
                    false,
                ),
                BatchNorm::new(&classifier / 1, HIDDEN_CHANNELS),
                Linear::pointwise(&classifier / 3, HIDDEN_CHANNELS, sizes.num_parts, 1, false),
            ),
            sizes: *sizes,
        }
    }

    /// The forward pass with all its levels.
    #[must_use]
    pub fn trace(&self, input: &PartInput<'_>, mode: Mode) -> Trace {
        // Features of a point; the positions by which neighbors are found are separate, since votes scale those alone.
        let position = input.cloud.features.narrow(1, 0, 3).transpose(1, 2);
        let features = Tensor::cat(&[&position, input.normals], 2);
        let levels = self
            .encoder
            .levels(&input.cloud.xyz, &features, mode.of_encoder());
        let mut decoded: Vec<Tensor> = Vec::new();
        let coarse_to_fine: Vec<&Level> = levels.iter().rev().collect();
        for (pair, propagation) in coarse_to_fine.windows(2).zip(&self.decode_list) {
            let coarse = decoded.last().unwrap_or(&pair[0].features);
            decoded.push(propagation.forward(pair[0], coarse, pair[1], mode));
        }
        let context = self.context(&coarse_to_fine, mode);
        let [first, second] = &self.cls_map;
        let class = one_hot(input.class, self.sizes.num_classes);
        let class = second.forward(&first.forward(&class, mode), mode);
        let of_points = decoded.last().unwrap_or(&levels[0].features);
        let log_probabilities = self.classify(of_points, &Tensor::cat(&[context, class], 1), mode);
        Trace {
            encoded: levels.into_iter().map(|level| level.features).collect(),
            decoded,
            log_probabilities,
        }
    }

    /// # Shapes
    /// - returns B,C: the maximum over the points of every level
    fn context(&self, levels: &[&Level], mode: Mode) -> Tensor {
        let maps = levels.iter().zip(&self.gmp_map_list);
        let of_levels: Vec<Tensor> = maps
            .map(|(level, map)| map.forward(&level.features, mode).amax(1, false))
            .collect();
        self.gmp_map_end.forward(&Tensor::cat(&of_levels, 1), mode)
    }

    /// # Shapes
    /// - `of_points`: B,N,C; `of_object`: B,D, joined behind each point's feature
    /// - returns B,N,parts
    fn classify(&self, of_points: &Tensor, of_object: &Tensor, mode: Mode) -> Tensor {
        let (first, norm, last) = &self.classifier;
        let per_object = first.forward_part(of_object, of_points.size()[2], mode);
        let hidden = first.forward_part(of_points, 0, mode) + per_object.unsqueeze(1);
        // Parity: no activation between the two layers.
        let hidden = dropout(norm.forward(&hidden, mode), self.sizes.dropout, mode);
        last.forward(&hidden, mode).log_softmax(-1, Kind::Float)
    }
}

impl Segmenter for PointMlpSegmenter {
    fn log_probabilities(&self, input: &PartInput<'_>, mode: Mode) -> Tensor {
        self.trace(input, mode).log_probabilities
    }
}

/// From a coarse level to the next finer one: interpolation, joined with the finer level's own features.
#[derive(Debug)]
struct Propagation {
    fuse: ConvBnRelu,
    extraction: Vec<Residual>,
}

impl Propagation {
    fn new(vs: &nn::Path<'_>, fine: i64, coarse: i64, width: i64, config: &PointMlpConfig) -> Self {
        let operation = vs / "extraction" / "operation";
        Self {
            fuse: ConvBnRelu::new(&(vs / "fuse"), fine + coarse, width),
            extraction: (0..NUM_DECODER_BLOCKS)
                .map(|i| Residual::new(&(&operation / i), width, config.bottleneck))
                .collect(),
        }
    }

    /// # Shapes
    /// - `features`: B,M,C at the coarse level
    /// - returns B,N,width at the fine level
    fn forward(&self, coarse: &Level, features: &Tensor, fine: &Level, mode: Mode) -> Tensor {
        // Interpolation and a matrix commute; the product is formed where there are fewer points.
        let of_coarse = self.fuse.forward_part(features, fine.features.size()[2], mode);
        let of_coarse = ops::interpolate_expanded(&of_coarse, &coarse.xyz, &fine.xyz);
        let of_fine = self.fuse.forward_part(&fine.features, 0, mode);
        let joined = self.fuse.activate(&(of_fine + of_coarse), mode);
        self.extraction
            .iter()
            .fold(joined, |rows, block| block.forward(&rows, mode))
    }
}
