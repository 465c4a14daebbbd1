//! Part segmentation: a cloud and its class in, a part for every point out.
//!
//! PointMLP has the decoder of its publication; any other backbone, the Transformer among them, gets its tokens carried
//! back to the points.

mod point_mlp;
mod token;

use std::fmt::Debug;

use tch::{Kind, Tensor, nn};

use super::encoder::{Cloud, EncoderConfig};
use super::mode::Mode;

pub use point_mlp::{PointMlpSegmenter, Trace};
pub use token::TokenSegmenter;

/// Input of a segmenter.
#[derive(Debug)]
pub struct PartInput<'a> {
    /// The cloud.
    pub cloud: &'a Cloud,
    /// B,N,3 unit normals; zeros where they are withheld.
    pub normals: &'a Tensor,
    /// B of `i64`: the class of each object.
    pub class: &'a Tensor,
}

/// What the last layer depends on.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SegmenterSizes {
    /// Classes of objects.
    pub num_classes: i64,
    /// Parts, over all classes.
    pub num_parts: i64,
    /// Probability to drop an element in front of the last layer.
    pub dropout: f64,
}

/// A backbone with a decoder to the points.
///
/// Parameters of the backbone have the names that they have in its own checkpoint, beside those of the decoder: encoder
/// weights load into a segmenter by name.
pub trait Segmenter: Debug {
    /// The logarithm of each part's probability, over the parts of all classes. The backbone runs as
    /// [`Mode::of_encoder`] says.
    ///
    /// # Shapes
    /// - returns B,N,parts
    fn log_probabilities(&self, input: &PartInput<'_>, mode: Mode) -> Tensor;
}

/// A segmenter around a backbone, with fresh weights under `vs`, by convention `root / "segmentor"`.
#[must_use]
pub fn build_segmenter(
    encoder: &EncoderConfig,
    vs: &nn::Path<'_>,
    sizes: &SegmenterSizes,
) -> Box<dyn Segmenter> {
    match encoder {
        EncoderConfig::PointMlp(config) => Box::new(PointMlpSegmenter::new(vs, config, sizes)),
        other => Box::new(TokenSegmenter::new(vs, other.build(vs), sizes)),
    }
}

/// The tensors of a segmenter whose sides are classes and parts, behind its prefix.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LabelTensors {
    /// The layer that a class enters, channels,classes,1.
    pub class: &'static str,
    /// Those of the last layer, parts,...
    pub parts: &'static [&'static str],
}

impl LabelTensors {
    /// Those of the segmenter around a backbone.
    #[must_use]
    pub fn of(encoder: &EncoderConfig) -> Self {
        match encoder {
            EncoderConfig::PointMlp(_) => point_mlp::LABEL_TENSORS,
            _ => token::LABEL_TENSORS,
        }
    }
}

/// # Shapes
/// - `class`: B of `i64`
/// - returns B,classes of zeros and ones
fn one_hot(class: &Tensor, num_classes: i64) -> Tensor {
    class.one_hot(num_classes).to_kind(Kind::Float)
}

#[cfg(test)]
mod tests {
    use tch::{Device, no_grad};

    use super::*;
    use crate::model::{DgcnnConfig, PointMlpConfig, TransformerConfig};

    #[test]
    fn every_point_gets_a_distribution_that_depends_on_class_and_place() {
        tch::manual_seed(0);
        let options = (Kind::Float, Device::Cpu);
        let xyz = Tensor::randn([2, 256, 3], options) * 0.4;
        let height = xyz.narrow(2, 1, 1) - xyz.narrow(2, 1, 1).amin(1, true);
        let cloud = Cloud {
            features: Tensor::cat(&[&xyz, &height], 2).transpose(1, 2),
            xyz,
        };
        let normals = Tensor::randn([2, 256, 3], options);
        let sizes = SegmenterSizes {
            num_classes: 3,
            num_parts: 7,
            dropout: 0.5,
        };
        let encoders = [
            PointMlpConfig::mini().into(),
            TransformerConfig::mini().into(),
            DgcnnConfig::mini().into(),
            EncoderConfig::point_net2_mini(),
        ];
        for encoder in encoders {
            let vs = nn::VarStore::new(Device::Cpu);
            let segmenter = build_segmenter(&encoder, &(vs.root() / "segmentor"), &sizes);
            let run = |class: [i64; 2], mode| {
                let class = Tensor::from_slice(&class);
                let input = PartInput {
                    cloud: &cloud,
                    normals: &normals,
                    class: &class,
                };
                segmenter.log_probabilities(&input, mode)
            };
            let got = no_grad(|| run([0, 1], Mode::EVAL));
            assert_eq!(got.size(), [2, 256, 7], "{encoder:?}");
            let sums = got.exp().sum_dim_intlist(-1, false, Kind::Float);
            assert!(
                sums.allclose(&sums.ones_like(), 1e-4, 1e-4, false),
                "{encoder:?}: sums"
            );
            let other = no_grad(|| run([0, 2], Mode::EVAL));
            assert!(
                got.get(0).allclose(&other.get(0), 1e-4, 1e-5, false),
                "{encoder:?}: same class"
            );
            assert!(
                !got.get(1).allclose(&other.get(1), 1e-4, 1e-5, false),
                "{encoder:?}: the class counts"
            );
            assert!(
                got.get(0).std_dim(0, true, false).min().double_value(&[]) > 0.0,
                "{encoder:?}: the place counts"
            );
            run([0, 1], Mode::TRAIN).select(2, 3).mean(Kind::Float).backward();
            for (name, parameter) in vs.variables().into_iter().filter(|(_, v)| v.requires_grad()) {
                let gradient = parameter.grad();
                assert!(
                    gradient.defined() && gradient.isfinite().all().int64_value(&[]) == 1,
                    "{encoder:?}: gradient of {name}"
                );
            }
        }
    }

    #[test]
    fn point_mlp_tells_what_a_point_is_from_where_its_neighbors_are() {
        tch::manual_seed(1);
        let options = (Kind::Float, Device::Cpu);
        let xyz = Tensor::randn([2, 64, 3], options) * 0.4;
        let [normals, class] = [
            Tensor::randn([2, 64, 3], options),
            Tensor::from_slice(&[0_i64, 2]),
        ];
        let sizes = SegmenterSizes {
            num_classes: 3,
            num_parts: 4,
            dropout: 0.0,
        };
        let vs = nn::VarStore::new(Device::Cpu);
        let segmenter = build_segmenter(&PointMlpConfig::mini().into(), &vs.root(), &sizes);
        let run = |xyz: &Tensor, features: &Tensor| {
            let cloud = Cloud {
                xyz: xyz.shallow_clone(),
                features: features.transpose(1, 2),
            };
            let input = PartInput {
                cloud: &cloud,
                normals: &normals,
                class: &class,
            };
            no_grad(|| segmenter.log_probabilities(&input, Mode::EVAL))
        };
        let plain = run(&xyz, &xyz);
        let twice = &xyz * 2.0;
        assert!(
            run(&twice, &xyz).allclose(&plain, 1e-4, 1e-4, false),
            "neighbors are the same in a cloud of twice the size"
        );
        assert!(
            !run(&xyz, &twice).allclose(&plain, 1e-4, 1e-4, false),
            "the features of a point count"
        );
        let stretched = &xyz * Tensor::from_slice(&[1.2_f32, 0.8, 1.0]);
        assert!(
            !run(&stretched, &xyz).allclose(&plain, 1e-4, 1e-4, false),
            "so does where its neighbors are"
        );
    }
}
