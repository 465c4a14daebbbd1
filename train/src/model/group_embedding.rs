//! A small `PointNet` over the points of a group: one token a group (`docs/method.md`, "Transformer").

use tch::{Tensor, nn};

use super::layer::{BatchNorm, Init, Linear};
use super::mode::Mode;

/// The network.
#[derive(Debug)]
pub(super) struct GroupEmbedding {
    first_conv: (Linear, BatchNorm, Linear),
    second_conv: (Linear, BatchNorm, Linear),
}

impl GroupEmbedding {
    /// `widths` are those of the two layers in front of the first maximum.
    pub(super) fn new(
        vs: &nn::Path<'_>,
        in_channels: i64,
        widths: [i64; 2],
        out_channels: i64,
        init: Init,
    ) -> Self {
        let [first, second] = widths;
        let conv = |name: &str, [input, hidden, output]: [i64; 3]| {
            let vs = vs / name;
            (
                Linear::pointwise_with_init(&vs / 0, input, hidden, init),
                BatchNorm::new(&vs / 1, hidden),
                Linear::pointwise_with_init(&vs / 3, hidden, output, init),
            )
        };
        Self {
            first_conv: conv("first_conv", [in_channels, first, second]),
            second_conv: conv("second_conv", [2 * second, 2 * second, out_channels]),
        }
    }

    /// # Shapes
    /// - `groups`: B,G,K,in
    /// - returns B,G,out
    pub(super) fn forward(&self, groups: &Tensor, mode: Mode) -> Tensor {
        let (conv, norm, conv_out) = &self.first_conv;
        let local = conv_out.forward(&norm.forward_relu(&conv.forward(groups, mode), mode), mode);
        let global = local.amax(2, true);
        // The input of the second part is (global ‖ local), and the global half is the same for the whole group: its
        // product is formed once a group and added.
        let (conv, norm, conv_out) = &self.second_conv;
        let of_global = conv.forward_part(&global, 0, mode) + conv.bias().expect("it was built with one");
        let joined = conv.forward_part(&local, global.size()[3], mode) + of_global;
        conv_out
            .forward(&norm.forward_relu(&joined, mode), mode)
            .amax(2, false)
    }
}
