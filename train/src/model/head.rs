//! The classification head on an encoder's global feature (`docs/method.md`, "Classification head").

use serde::{Deserialize, Serialize};
use tch::{Tensor, nn};

use super::layer::{BatchNorm, Linear, dropout};
use super::mode::Mode;

/// Sizes of a head. The default is the paper's.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HeadConfig {
    /// Widths of the hidden layers, each with batch norm, ReLU and dropout.
    pub widths: Vec<i64>,
    /// Probability to drop an element behind each hidden layer.
    pub dropout: f64,
    /// Give the hidden layers a bias, which the batch norm behind them takes out again; in published heads of Point-MAE.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub bias: bool,
}

impl Default for HeadConfig {
    fn default() -> Self {
        Self {
            widths: vec![512, 256],
            dropout: 0.5,
            bias: false,
        }
    }
}

impl HeadConfig {
    /// One hidden layer, for small encoders.
    #[must_use]
    pub fn mini() -> Self {
        Self {
            widths: vec![256],
            dropout: 0.5,
            bias: false,
        }
    }
}

/// The head; keys `head.0.0.weight`, `head.0.1.*`, `head.2...`, the last with a bias and without batch norm.
#[derive(Debug)]
pub struct ClassifierHead {
    hidden: Vec<(Linear, BatchNorm)>,
    last: Linear,
    dropout: f64,
}

impl ClassifierHead {
    /// A head with fresh weights under `vs`, by convention `root / "prediction"`.
    #[must_use]
    pub fn new(vs: &nn::Path<'_>, in_channels: i64, num_classes: i64, config: &HeadConfig) -> Self {
        let head = vs / "head";
        let mut channels = in_channels;
        let build = |(i, &width): (usize, &i64)| {
            // Dropout takes the odd places of the released sequence.
            let vs = &head / (2 * i);
            let layer = (
                Linear::new(&vs / 0, channels, width, config.bias),
                BatchNorm::new(&vs / 1, width),
            );
            channels = width;
            layer
        };
        let hidden: Vec<_> = config.widths.iter().enumerate().map(build).collect();
        let last = Linear::new(&head / (2 * hidden.len()) / 0, channels, num_classes, true);
        Self {
            hidden,
            last,
            dropout: config.dropout,
        }
    }

    /// # Shapes
    /// - `feature`: B,F
    /// - returns logits B,classes
    pub fn forward(&self, feature: &Tensor, mode: Mode) -> Tensor {
        let mut x = feature.shallow_clone();
        for (linear, norm) in &self.hidden {
            x = dropout(
                norm.forward_relu(&linear.forward(&x, mode), mode),
                self.dropout,
                mode,
            );
        }
        self.last.forward(&x, mode)
    }
}
