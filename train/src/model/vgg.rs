//! The perceptual loss (Table 7b): the distance of two images in the feature space of a VGG16 trained on photographs.
//!
//! Its weights are the user's to bring: a file with torchvision's keys, `features.0.weight` to `features.28.bias`.
//! Parity: the paper's formula is a sum over the layers of the squared distance by element; which layers is not stated.
//! Here they are the four of the work it cites: behind the ReLU of the 2nd, 4th, 7th and 10th convolution.

use std::collections::BTreeMap;

use tch::{Device, Kind, Tensor, no_grad};

use super::image::Normalization;

/// Behind these convolutions, counted from 1, a block ends: its output is compared, then pooled.
const BLOCK_ENDS: [usize; 4] = [2, 4, 7, 10];

/// The frozen network.
#[derive(Debug)]
pub struct Vgg {
    convolutions: Vec<(Tensor, Tensor)>,
    mean: Tensor,
    deviation: Tensor,
}

impl Vgg {
    /// The convolutions up to the last layer that is compared: index among torchvision's `features`, channels in and out.
    pub const CONVOLUTIONS: [(i64, i64, i64); 10] = [
        (0, 3, 64),
        (2, 64, 64),
        (5, 64, 128),
        (7, 128, 128),
        (10, 128, 256),
        (12, 256, 256),
        (14, 256, 256),
        (17, 256, 512),
        (19, 512, 512),
        (21, 512, 512),
    ];

    /// From torchvision's tensors; layers behind the tenth convolution are ignored.
    ///
    /// # Errors
    /// Where a tensor is missing or has another shape: which one, and what was expected.
    pub fn try_new(tensors: &BTreeMap<String, Tensor>, device: Device) -> Result<Self, String> {
        let take = |name: String, shape: &[i64]| {
            let tensor = tensors.get(&name).ok_or_else(|| format!("{name} is missing"))?;
            if tensor.size() != shape {
                return Err(format!("{name} is {:?} and VGG16 has {shape:?}", tensor.size()));
            }
            Ok(tensor.to_kind(Kind::Float).to_device(device).detach())
        };
        let convolutions = Self::CONVOLUTIONS
            .iter()
            .map(|&(place, input, output)| {
                Ok((
                    take(format!("features.{place}.weight"), &[output, input, 3, 3])?,
                    take(format!("features.{place}.bias"), &[output])?,
                ))
            })
            .collect::<Result<Vec<_>, String>>()?;
        let channel = |values: &[f32]| Tensor::from_slice(values).view([1, 3, 1, 1]).to_device(device);
        Ok(Self {
            convolutions,
            mean: channel(&Normalization::IMAGENET.mean),
            deviation: channel(&Normalization::IMAGENET.deviation),
        })
    }

    /// The sum over the layers of the mean squared distance of their outputs.
    ///
    /// # Shapes
    /// - `pred`, `target`: ...,C,H,W in 0 to 1 with one or three channels each, H and W at least 8
    /// - returns a scalar
    pub fn distance(&self, pred: &Tensor, target: &Tensor) -> Tensor {
        let expected = no_grad(|| self.features(target));
        let distances: Vec<Tensor> = self
            .features(pred)
            .into_iter()
            .zip(expected)
            .map(|(pred, target)| (pred - target).square().mean(Kind::Float))
            .collect();
        Tensor::stack(&distances, 0).sum(Kind::Float)
    }

    fn features(&self, images: &Tensor) -> Vec<Tensor> {
        let size = images.size();
        let [.., channels, height, width] = size[..] else {
            unreachable!("images have channels, rows and columns")
        };
        let images = images.reshape([-1, channels, height, width]);
        // Gray is a color too.
        let mut x = (images.expand([-1, 3, -1, -1], false) - &self.mean) / &self.deviation;
        let mut outputs = Vec::with_capacity(BLOCK_ENDS.len());
        for (i, (weight, bias)) in self.convolutions.iter().enumerate() {
            x = x.conv2d(weight, Some(bias), [1, 1], [1, 1], [1, 1], 1).relu();
            if BLOCK_ENDS.contains(&(i + 1)) {
                outputs.push(x.shallow_clone());
                x = x.max_pool2d([2, 2], [2, 2], [0, 0], [1, 1], false);
            }
        }
        outputs
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    fn weights() -> BTreeMap<String, Tensor> {
        tch::manual_seed(0);
        let mut tensors = BTreeMap::new();
        for (place, input, output) in Vgg::CONVOLUTIONS {
            let scale = (2.0 / (9 * input) as f64).sqrt();
            let weight = Tensor::randn([output, input, 3, 3], (Kind::Float, Device::Cpu)) * scale;
            tensors.insert(format!("features.{place}.weight"), weight);
            tensors.insert(
                format!("features.{place}.bias"),
                Tensor::zeros([output], (Kind::Float, Device::Cpu)),
            );
        }
        tensors
    }

    #[test]
    fn equal_images_are_at_distance_zero_and_others_pull_together() {
        let vgg = Vgg::try_new(&weights(), Device::Cpu).unwrap();
        let target = Tensor::rand([2, 1, 1, 16, 16], (Kind::Float, Device::Cpu));
        let colored = target.expand([2, 1, 3, 16, 16], false);
        let same = vgg.distance(&colored, &target).double_value(&[]);
        assert!(
            same.abs() < 1e-9,
            "gray in three channels is the same image: {same}"
        );
        let pred = target.zeros_like().set_requires_grad(true);
        let before = vgg.distance(&pred, &target);
        before.backward();
        let stepped = pred.detach() - pred.grad() / pred.grad().norm() * 0.5;
        let after = vgg.distance(&stepped, &target).double_value(&[]);
        assert!(
            after < before.double_value(&[]),
            "down its gradient it is nearer: {after}"
        );
    }

    #[test]
    fn tensors_that_do_not_fit_are_named() {
        let mut tensors = weights();
        tensors.insert(
            String::from("features.5.weight"),
            Tensor::zeros([128, 64, 5, 5], (Kind::Float, Device::Cpu)),
        );
        let error = Vgg::try_new(&tensors, Device::Cpu).unwrap_err();
        assert!(error.contains("features.5.weight is [128, 64, 5, 5]"), "{error}");
        tensors.remove("features.0.bias");
        let error = Vgg::try_new(&tensors, Device::Cpu).unwrap_err();
        assert_eq!(error, "features.0.bias is missing");
    }
}
