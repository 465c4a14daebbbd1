//! Layers with PyTorch's initialization and checkpoint shapes, working on the last axis.
//!
//! tch's own layers start from other distributions (He-uniform for ReLU); the released code relies on PyTorch's
//! defaults. Weights are drawn on the CPU from the default generator, in the order the layers are built, and then
//! moved: after `tch::manual_seed(seed)` a model is a function of the seed alone, whatever the device.

use std::borrow::Borrow;

use tch::{Device, Kind, Tensor, nn};

use super::mode::Mode;
use crate::ranks;

const BATCH_NORM_EPSILON: f64 = 1e-5;
const BATCH_NORM_MOMENTUM: f64 = 0.1;
/// libtorch's kernel for rows sums them one after the other in `f32`. That is fast, but over the 65,536 rows of a paper
/// model's groups the gradients lose four digits; for more rows than this, slower pairwise sums are used.
const MAX_NAIVE_ROWS: i64 = 1 << 14;
const LAYER_NORM_EPSILON: f64 = 1e-5;
/// Of weights and tokens in vision Transformers.
pub(super) const SMALL_DEVIATION: f64 = 0.02;

/// U(-bound, bound), drawn on the CPU and stored under `name`.
fn uniform(vs: &nn::Path<'_>, name: &str, shape: &[i64], bound: f64) -> Tensor {
    let drawn = Tensor::empty(shape, (Kind::Float, Device::Cpu)).uniform_(-bound, bound);
    vs.var_copy(name, &drawn)
}

/// N(0, `deviation`²), drawn on the CPU and stored under `name`.
pub(super) fn normal(vs: &nn::Path<'_>, name: &str, shape: &[i64], deviation: f64) -> Tensor {
    vs.var_copy(
        name,
        &(Tensor::randn(shape, (Kind::Float, Device::Cpu)) * deviation),
    )
}

/// How the weights of a [`Linear`] start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Init {
    /// PyTorch's default: weight and bias uniform within ±1/√in.
    Uniform,
    /// Weight normal with deviation [`SMALL_DEVIATION`], bias zero. (Published code cuts the draw off at ±2, a hundred
    /// deviations away.)
    Normal,
    /// Weight uniform within ±√(6 / (in + out)), bias zero.
    Xavier,
}

/// `x · weightᵀ + bias` over the last axis. The weight may carry the trailing ones of a 1×1 convolution.
#[derive(Debug)]
pub(super) struct Linear {
    weight: Tensor,
    bias: Option<Tensor>,
    in_channels: i64,
    out_channels: i64,
}

impl Linear {
    /// A fully connected layer, weight `[out, in]`.
    pub(super) fn new<'a>(
        vs: impl Borrow<nn::Path<'a>>,
        in_channels: i64,
        out_channels: i64,
        bias: bool,
    ) -> Self {
        Self::shaped(vs.borrow(), [in_channels, out_channels], &[], bias, Init::Uniform)
    }

    /// The same from another start.
    pub(super) fn with_init<'a>(
        vs: impl Borrow<nn::Path<'a>>,
        in_channels: i64,
        out_channels: i64,
        bias: bool,
        init: Init,
    ) -> Self {
        Self::shaped(vs.borrow(), [in_channels, out_channels], &[], bias, init)
    }

    /// A 1×1 convolution over `num_axes` axes, weight `[out, in, 1, ...]`.
    pub(super) fn pointwise<'a>(
        vs: impl Borrow<nn::Path<'a>>,
        in_channels: i64,
        out_channels: i64,
        num_axes: usize,
        bias: bool,
    ) -> Self {
        let ones = vec![1; num_axes];
        Self::shaped(
            vs.borrow(),
            [in_channels, out_channels],
            &ones,
            bias,
            Init::Uniform,
        )
    }

    /// A 1×1 convolution over one axis from another start.
    pub(super) fn pointwise_with_init<'a>(
        vs: impl Borrow<nn::Path<'a>>,
        in_channels: i64,
        out_channels: i64,
        init: Init,
    ) -> Self {
        Self::shaped(vs.borrow(), [in_channels, out_channels], &[1], true, init)
    }

    fn shaped(
        vs: &nn::Path<'_>,
        [in_channels, out_channels]: [i64; 2],
        ones: &[i64],
        bias: bool,
        init: Init,
    ) -> Self {
        // PyTorch's kaiming_uniform(a = √5) comes to 1/√fan_in for weight and bias alike.
        let default_bound = 1.0 / (in_channels as f64).sqrt();
        let shape = [&[out_channels, in_channels], ones].concat();
        let weight = match init {
            Init::Uniform => uniform(vs, "weight", &shape, default_bound),
            Init::Normal => normal(vs, "weight", &shape, SMALL_DEVIATION),
            Init::Xavier => {
                let bound = (6.0 / (in_channels + out_channels) as f64).sqrt();
                uniform(vs, "weight", &shape, bound)
            }
        };
        let bias = bias.then(|| match init {
            Init::Uniform => uniform(vs, "bias", &[out_channels], default_bound),
            Init::Normal | Init::Xavier => vs.zeros("bias", &[out_channels]),
        });
        Self {
            weight,
            bias,
            in_channels,
            out_channels,
        }
    }

    /// # Shapes
    /// - `x`: ...,in
    /// - returns ...,out
    pub(super) fn forward(&self, x: &Tensor, mode: Mode) -> Tensor {
        let bias = self.bias.as_ref().map(|bias| mode.operand(bias));
        mode.result(
            mode.operand(x)
                .linear(&mode.operand(&self.matrix()), bias.as_ref()),
        )
    }

    /// The contribution of some of the input channels, which `x` holds alone, to the product. Without the bias.
    ///
    /// # Shapes
    /// - `x`: ...,len for the channels from `first` on
    /// - returns ...,out
    pub(super) fn forward_part(&self, x: &Tensor, first: i64, mode: Mode) -> Tensor {
        let len = x.size()[x.dim() - 1];
        let matrix = self.matrix().narrow(1, first, len);
        mode.result(mode.operand(x).linear(&mode.operand(&matrix), None::<Tensor>))
    }

    /// The weight as an out,in matrix.
    pub(super) fn matrix(&self) -> Tensor {
        self.weight.view([self.out_channels, self.in_channels])
    }

    pub(super) fn bias(&self) -> Option<&Tensor> {
        self.bias.as_ref()
    }
}

/// Batch normalization over all axes but the last; over those of all ranks too where the trainer
/// [synchronizes](ranks::Ranks::synchronizing) them.
#[derive(Debug)]
pub(super) struct BatchNorm {
    weight: Tensor,
    bias: Tensor,
    running_mean: Tensor,
    running_var: Tensor,
}

impl BatchNorm {
    pub(super) fn new<'a>(vs: impl Borrow<nn::Path<'a>>, channels: i64) -> Self {
        let vs = vs.borrow();
        Self {
            weight: vs.ones("weight", &[channels]),
            bias: vs.zeros("bias", &[channels]),
            running_mean: vs.zeros_no_train("running_mean", &[channels]),
            running_var: vs.ones_no_train("running_var", &[channels]),
        }
    }

    /// Batch statistics in training, running ones (unbiased variance, momentum 0.1) otherwise.
    ///
    /// One row alone has no variance: its output is the bias, and the running variance is unchanged. (PyTorch
    /// refuses this in its Python layer; libtorch's kernel divides by n - 1 = 0.)
    ///
    /// # Shapes
    /// - `x`: ...,C
    /// - returns ...,C
    pub(super) fn forward(&self, x: &Tensor, mode: Mode) -> Tensor {
        let channels = self.weight.size()[0];
        let rows = x.reshape([-1, channels]);
        let is_for_kernel = (2..=MAX_NAIVE_ROWS).contains(&rows.size()[0]) && !ranks::is_synchronizing();
        let normalized = if mode.is_training && !is_for_kernel {
            self.forward_cascaded(&rows)
        } else {
            rows.batch_norm(
                Some(&self.weight),
                Some(&self.bias),
                Some(&self.running_mean),
                Some(&self.running_var),
                mode.is_training,
                BATCH_NORM_MOMENTUM,
                BATCH_NORM_EPSILON,
                true,
            )
        };
        // Autograd must not take it for a view: whoever changes a view in place, as the next ReLU does, makes the backward
        // pass copy the whole gradient twice. Nobody else holds `normalized`, so nothing is hidden from anybody.
        normalized.internal_unsafe_view(x.size().as_slice())
    }

    /// `relu(norm(x))`.
    pub(super) fn forward_relu(&self, x: &Tensor, mode: Mode) -> Tensor {
        self.forward(x, mode).relu_()
    }

    /// `relu(norm(x) + residual)`.
    pub(super) fn forward_add_relu(&self, x: &Tensor, residual: &Tensor, mode: Mode) -> Tensor {
        let mut sum = self.forward(x, mode);
        sum += residual;
        sum.relu_()
    }

    /// The same in training, with pairwise summation, and with the statistics of all ranks.
    ///
    /// # Shapes
    /// - `rows`: R,C
    /// - returns R,C
    fn forward_cascaded(&self, rows: &Tensor) -> Tensor {
        // Sums divided afterwards, and a product instead of a power: on the way back each saves a pass over all rows.
        let total = |rows: &Tensor| ranks::total(rows.sum_dim_intlist(0, false, None), rows.size()[0] as f64);
        let (sum, num_rows) = total(rows);
        let mean = sum / num_rows;
        let centered = rows - &mean;
        let variance = total(&(&centered * &centered)).0 / num_rows;
        self.follow(&mean, &variance, num_rows);
        let scale = &self.weight * (variance + BATCH_NORM_EPSILON).rsqrt();
        self.bias.addcmul(&centered, &scale)
    }

    /// In training, with given statistics of `num_rows` rows, of which `x` may be a subset.
    ///
    /// # Shapes
    /// - `x`: ...,C; `mean`, `variance` (biased): C
    /// - returns ...,C
    pub(super) fn forward_with(&self, x: &Tensor, mean: &Tensor, variance: &Tensor, num_rows: f64) -> Tensor {
        self.follow(mean, variance, num_rows);
        let scale = &self.weight * (variance + BATCH_NORM_EPSILON).rsqrt();
        self.bias.addcmul(&(x - mean), &scale)
    }

    /// Updates the running statistics; a single row has no variance.
    fn follow(&self, mean: &Tensor, variance: &Tensor, num_rows: f64) {
        tch::no_grad(|| {
            let update = |running: &Tensor, batch: &Tensor| {
                let _ = running.shallow_clone().lerp_(batch, BATCH_NORM_MOMENTUM);
            };
            update(&self.running_mean, mean);
            if num_rows > 1.0 {
                update(&self.running_var, &(variance * (num_rows / (num_rows - 1.0))));
            }
        });
    }

    /// For each channel 1 where larger inputs give larger outputs, else -1; without gradient.
    pub(super) fn sign(&self) -> Tensor {
        tch::no_grad(|| self.weight.ge(0.0).to_kind(Kind::Float) * 2.0 - 1.0)
    }
}

/// Layer normalization over the last axis.
#[derive(Debug)]
pub(super) struct LayerNorm {
    weight: Tensor,
    bias: Tensor,
}

impl LayerNorm {
    pub(super) fn new<'a>(vs: impl Borrow<nn::Path<'a>>, channels: i64) -> Self {
        let vs = vs.borrow();
        Self {
            weight: vs.ones("weight", &[channels]),
            bias: vs.zeros("bias", &[channels]),
        }
    }

    /// # Shapes
    /// - `x`: ...,C
    /// - returns ...,C
    pub(super) fn forward(&self, x: &Tensor) -> Tensor {
        x.layer_norm(
            self.weight.size(),
            Some(&self.weight),
            Some(&self.bias),
            LAYER_NORM_EPSILON,
            true,
        )
    }
}

/// A transposed convolution that makes an image `stride` times larger: kernel stride + 1, padding 1, output padding 1;
/// weight `[in, out, k, k]`.
#[derive(Debug)]
pub(super) struct ConvTranspose {
    weight: Tensor,
    bias: Tensor,
    stride: i64,
}

impl ConvTranspose {
    pub(super) fn new<'a>(
        vs: impl Borrow<nn::Path<'a>>,
        in_channels: i64,
        out_channels: i64,
        stride: i64,
    ) -> Self {
        let vs = vs.borrow();
        let kernel = stride + 1;
        // PyTorch takes the fan-in of a transposed convolution from its second axis, the outputs.
        let bound = 1.0 / ((out_channels * kernel * kernel) as f64).sqrt();
        Self {
            weight: uniform(vs, "weight", &[in_channels, out_channels, kernel, kernel], bound),
            bias: uniform(vs, "bias", &[out_channels], bound),
            stride,
        }
    }

    /// Initializes the bias with one value.
    pub(super) fn fill_bias(&mut self, value: f64) {
        let _ = tch::no_grad(|| self.bias.fill_(value));
    }

    /// # Shapes
    /// - `x`: B,in,H,W
    /// - returns B,out,H·stride,W·stride
    pub(super) fn forward(&self, x: &Tensor, mode: Mode) -> Tensor {
        mode.result(mode.operand(x).conv_transpose2d(
            &mode.operand(&self.weight),
            Some(&mode.operand(&self.bias)),
            [self.stride, self.stride],
            [1, 1],
            [1, 1],
            1,
            [1, 1],
        ))
    }
}

/// Stochastic depth: drops the residual branch of whole samples and scales the others, so that the mean is unchanged.
///
/// # Shapes
/// - `x`: B,...
pub(super) fn drop_path(x: Tensor, probability: f64, mode: Mode) -> Tensor {
    if !mode.is_training || probability <= 0.0 {
        return x;
    }
    let keep = 1.0 - probability;
    let mut size = vec![1; x.dim()];
    size[0] = x.size()[0];
    let kept = Tensor::empty(size.as_slice(), (x.kind(), x.device())).bernoulli_float_(keep) / keep;
    x * kept
}

/// Dropout in training; `x` itself otherwise.
pub(super) fn dropout(x: Tensor, probability: f64, mode: Mode) -> Tensor {
    if !mode.is_training || probability <= 0.0 {
        x
    } else {
        x.dropout(probability, true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Precision;

    #[test]
    fn weights_start_as_in_pytorch() {
        tch::manual_seed(3);
        let vs = nn::VarStore::new(Device::Cpu);
        let linear = Linear::pointwise(vs.root() / "conv", 16, 400, 2, true);
        let bound = linear.weight.abs().max().double_value(&[]);
        assert!(bound <= 0.25 && bound > 0.249, "U(±1/√16), got up to {bound}");
        assert_eq!(
            linear.weight.size(),
            [400, 16, 1, 1],
            "the shape of the checkpoint"
        );
        let xavier = Linear::with_init(vs.root() / "xavier", 100, 200, true, Init::Xavier);
        let bound = xavier.weight.abs().max().double_value(&[]);
        assert!(
            bound <= 0.02_f64.sqrt() && bound > 0.1413,
            "U(±√(6/300)), got up to {bound}"
        );
        let normal = Linear::with_init(vs.root() / "normal", 100, 200, true, Init::Normal);
        let deviation = normal.weight.std(true).double_value(&[]);
        assert!((deviation - 0.02).abs() < 5e-4, "N(0, 0.02²), got {deviation}");
        for linear in [xavier, normal] {
            let largest = linear.bias.map(|bias| bias.abs().max().double_value(&[]));
            assert_eq!(largest, Some(0.0), "biases of zero");
        }
        let conv = ConvTranspose::new(vs.root() / "up", 64, 16, 2);
        let bound = conv.weight.abs().max().double_value(&[]);
        assert!(
            bound <= 1.0 / 12.0 && bound > 0.083,
            "U(±1/√(16·9)), got up to {bound}"
        );
        assert_eq!(
            conv.forward(
                &Tensor::zeros([1, 64, 4, 4], (Kind::Float, Device::Cpu)),
                Mode::EVAL
            )
            .size(),
            [1, 16, 8, 8]
        );
    }

    #[test]
    fn the_seed_alone_decides_the_weights() {
        let build = || {
            tch::manual_seed(11);
            let vs = nn::VarStore::new(Device::Cpu);
            Linear::new(vs.root(), 8, 8, true).weight.copy()
        };
        let first = build();
        let _ = Tensor::randn([100], (Kind::Float, Device::Cpu));
        assert!(first.equal(&build()), "the same seed gives the same weights");
    }

    #[test]
    fn both_ways_to_normalize_a_batch_agree() {
        tch::manual_seed(7);
        let x = Tensor::randn([600, 5], (Kind::Float, Device::Cpu)) * 3.0 + 2.0;
        let run = |forward: &dyn Fn(&BatchNorm, &Tensor) -> Tensor| {
            let vs = nn::VarStore::new(Device::Cpu);
            let norm = BatchNorm::new(vs.root(), 5);
            let x = x.copy().set_requires_grad(true);
            let y = forward(&norm, &x);
            (&y * &y * &y).sum(Kind::Float).backward();
            [
                y.detach(),
                x.grad(),
                norm.weight.grad(),
                norm.bias.grad(),
                norm.running_mean,
                norm.running_var,
            ]
        };
        let kernel = run(&|norm, x| norm.forward(x, Mode::TRAIN));
        let cascaded = run(&|norm, x| norm.forward_cascaded(x));
        for (i, (kernel, cascaded)) in kernel.iter().zip(&cascaded).enumerate() {
            assert!(
                kernel.allclose(cascaded, 1e-3, 1e-3, false),
                "result {i}: {kernel:?} {cascaded:?}"
            );
        }
    }

    #[test]
    fn one_row_leaves_the_running_variance_alone() {
        let vs = nn::VarStore::new(Device::Cpu);
        let norm = BatchNorm::new(vs.root(), 3);
        let x = Tensor::from_slice(&[1.0_f32, -2.0, 5.0]).view([1, 3]);
        let y = norm.forward(&x.copy().set_requires_grad(true), Mode::TRAIN);
        assert!(y.equal(&Tensor::zeros_like(&y)), "the bias: {y:?}");
        y.sum(Kind::Float).backward();
        assert!(
            norm.weight.grad().isfinite().all().int64_value(&[]) == 1,
            "gradients are finite"
        );
        assert!(
            norm.running_var.equal(&Tensor::ones_like(&norm.running_var)),
            "as it was"
        );
        assert!(
            norm.running_mean
                .allclose(&(x.view(-1) * BATCH_NORM_MOMENTUM), 1e-6, 1e-6, false),
            "the mean follows"
        );
    }

    #[test]
    fn products_in_bf16_stay_close_and_leave_no_trace() {
        tch::manual_seed(4);
        let vs = nn::VarStore::new(Device::Cpu);
        let linear = Linear::new(vs.root() / "linear", 32, 16, true);
        let conv = ConvTranspose::new(vs.root() / "conv", 4, 3, 2);
        let x = Tensor::randn([8, 32], (Kind::Float, Device::Cpu));
        let run = |precision| {
            let mode = Mode::TRAIN.with_precision(precision);
            let y = linear.forward(&x, mode);
            conv.forward(&y.view([8, 4, 2, 2]), mode)
        };
        let (exact, rough) = (run(Precision::Float32), run(Precision::BFloat16));
        assert_eq!(rough.kind(), Kind::Float, "what comes out is f32");
        let error = (&rough - &exact).norm().double_value(&[]) / exact.norm().double_value(&[]);
        assert!(error > 1e-5 && error < 2e-2, "rounded to 8 bits: {error}");
        rough.sum(Kind::Float).backward();
        for tensor in vs.trainable_variables() {
            assert_eq!(tensor.grad().kind(), Kind::Float, "gradients are f32");
        }
        assert!(
            run(Precision::Float32).equal(&exact),
            "other passes are as before"
        );
    }

    #[test]
    fn drop_path_keeps_or_drops_whole_samples() {
        tch::manual_seed(5);
        let x = Tensor::ones([64, 3, 2], (Kind::Float, Device::Cpu));
        let y = drop_path(x.shallow_clone(), 0.5, Mode::TRAIN).view([64, 6]);
        let low = y.amin(1, false);
        assert!(low.equal(&y.amax(1, false)), "a sample is dropped whole");
        assert!(
            low.eq(0.0).logical_or(&low.eq(2.0)).all().int64_value(&[]) == 1,
            "kept samples are scaled by 1/keep"
        );
        assert!(
            drop_path(x.shallow_clone(), 0.5, Mode::EVAL).equal(&x),
            "nothing is dropped in evaluation"
        );
    }
}
