//! How a forward pass is run: passed from the trainer or the evaluation down to every layer.

use tch::{Kind, Tensor};

/// What a forward pass is for, and in which precision it multiplies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mode {
    /// Batch norms use and update the statistics of the batch, and dropout drops.
    pub is_training: bool,
    /// Of the products of linear layers and transposed convolutions.
    pub precision: Precision,
    /// The encoder of a fine-tuning is frozen: it runs as in an evaluation ([`Mode::of_encoder`]).
    pub freezes_encoder: bool,
}

/// In which type products are formed. Weights, sums over batches, softmax and losses stay in `f32`, and so do gradients but
/// for the products' own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Precision {
    /// `f32` throughout.
    #[default]
    Float32,
    /// Operands and results of products are rounded to `bf16`. (libtorch's own autocast can be switched on from tch for CUDA
    /// and 16-bit floats alone.)
    BFloat16,
}

impl Mode {
    /// A training step in `f32`.
    pub const TRAIN: Self = Self {
        is_training: true,
        precision: Precision::Float32,
        freezes_encoder: false,
    };
    /// An evaluation in `f32`.
    pub const EVAL: Self = Self {
        is_training: false,
        precision: Precision::Float32,
        freezes_encoder: false,
    };

    /// The same in another precision.
    #[must_use]
    pub fn with_precision(self, precision: Precision) -> Self {
        Self { precision, ..self }
    }

    /// The same with an encoder that is frozen, or is not.
    #[must_use]
    pub fn freezing_encoder(self, freezes_encoder: bool) -> Self {
        Self {
            freezes_encoder,
            ..self
        }
    }

    /// How a downstream task runs its encoder: while that is frozen as in an evaluation, with the running statistics of its
    /// batch norms and without dropout.
    #[must_use]
    pub fn of_encoder(self) -> Self {
        Self {
            is_training: self.is_training && !self.freezes_encoder,
            ..self
        }
    }

    /// An operand of a product.
    pub(super) fn operand(self, tensor: &Tensor) -> Tensor {
        match self.precision {
            Precision::Float32 => tensor.shallow_clone(),
            Precision::BFloat16 => tensor.to_kind(Kind::BFloat16),
        }
    }

    /// The result of a product, as `f32`.
    pub(super) fn result(self, product: Tensor) -> Tensor {
        match self.precision {
            Precision::Float32 => product,
            Precision::BFloat16 => product.to_kind(Kind::Float),
        }
    }
}
