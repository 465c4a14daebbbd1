//! Part segmentation on the tokens of any backbone, with the head that Point-MAE (Pang et al.) puts on its Transformer.
//!
//! Token features are interpolated to the points; the maximum and the mean of all tokens and the class of the object join
//! in front of a small MLP on every point.

use tch::{Kind, Tensor, nn};

use super::{LabelTensors, PartInput, Segmenter, SegmenterSizes, one_hot};
use crate::model::encoder::Encoder;
use crate::model::layer::{BatchNorm, Linear, dropout};
use crate::model::mode::Mode;
use crate::ops;

/// Width of the class.
const CLASS_CHANNELS: i64 = 64;
/// Widths of the MLP behind the interpolation: first layer in multiples of a token's own width, at most, and the second.
const PROPAGATION_FACTOR: i64 = 4;
const MAX_PROPAGATION_CHANNELS: i64 = 1024;
/// Widths of the MLP on every point.
const HIDDEN_CHANNELS: [i64; 2] = [512, 256];

pub(super) const LABEL_TENSORS: LabelTensors = LabelTensors {
    class: "label_conv.0.weight",
    parts: &["convs3.weight", "convs3.bias"],
};

/// The network. The backbone's parameters lie beside those of the head.
#[derive(Debug)]
pub struct TokenSegmenter {
    encoder: Box<dyn Encoder>,
    label_conv: (Linear, BatchNorm),
    propagation_0: Vec<(Linear, BatchNorm)>,
    convs1: Linear,
    bns1: BatchNorm,
    convs2: Linear,
    bns2: BatchNorm,
    convs3: Linear,
    sizes: SegmenterSizes,
}

impl TokenSegmenter {
    /// A head with fresh weights under `vs` around `encoder`, which was built at `vs`.
    #[must_use]
    pub fn new(vs: &nn::Path<'_>, encoder: Box<dyn Encoder>, sizes: &SegmenterSizes) -> Self {
        let dense = encoder.dense_channels();
        let propagated = (PROPAGATION_FACTOR * encoder.token_channels()).min(MAX_PROPAGATION_CHANNELS);
        let propagation = |i: i64, input, output| {
            let vs = vs / "propagation_0";
            (
                Linear::pointwise(&vs / "mlp_convs" / i, input, output, 1, true),
                BatchNorm::new(&vs / "mlp_bns" / i, output),
            )
        };
        let [first, second] = HIDDEN_CHANNELS.map(|width| width.min(propagated));
        let joined = propagated + 2 * dense + CLASS_CHANNELS;
        Self {
            encoder,
            label_conv: (
                Linear::pointwise(vs / "label_conv" / 0, sizes.num_classes, CLASS_CHANNELS, 1, false),
                BatchNorm::new(vs / "label_conv" / 1, CLASS_CHANNELS),
            ),
            propagation_0: vec![
                propagation(0, 3 + dense, propagated),
                propagation(1, propagated, propagated),
            ],
            convs1: Linear::pointwise(vs / "convs1", joined, first, 1, true),
            bns1: BatchNorm::new(vs / "bns1", first),
            convs2: Linear::pointwise(vs / "convs2", first, second, 1, true),
            bns2: BatchNorm::new(vs / "bns2", second),
            convs3: Linear::pointwise(vs / "convs3", second, sizes.num_parts, 1, true),
            sizes: *sizes,
        }
    }
}

impl Segmenter for TokenSegmenter {
    fn log_probabilities(&self, input: &PartInput<'_>, mode: Mode) -> Tensor {
        let tokens = self.encoder.dense_tokens(input.cloud, mode.of_encoder());
        let xyz = &input.cloud.xyz;
        let nearest = ops::three_nearest(&tokens.centers, xyz);
        let mut rows = Tensor::cat(&[xyz, &ops::interpolate(&tokens.features, &nearest)], 2);
        for (conv, norm) in &self.propagation_0 {
            rows = norm.forward_relu(&conv.forward(&rows, mode), mode);
        }
        let (conv, norm) = &self.label_conv;
        let class = conv.forward(&one_hot(input.class, self.sizes.num_classes), mode);
        let class = norm.forward_relu(&class, mode);
        let largest = tokens.features.amax(1, false);
        let mean = tokens.features.mean_dim(1, false, None);
        let of_object = Tensor::cat(&[largest, mean, class], 1);
        // What is the same for all points of an object is multiplied once an object.
        let per_object = self.convs1.forward_part(&of_object, rows.size()[2], mode);
        let hidden = self.convs1.forward_part(&rows, 0, mode) + per_object.unsqueeze(1);
        let hidden = self.bns1.forward_relu(
            &(hidden + self.convs1.bias().expect("it was built with one")),
            mode,
        );
        let hidden = self
            .convs2
            .forward(&dropout(hidden, self.sizes.dropout, mode), mode);
        let hidden = self.bns2.forward_relu(&hidden, mode);
        self.convs3.forward(&hidden, mode).log_softmax(-1, Kind::Float)
    }
}
