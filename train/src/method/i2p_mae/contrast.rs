//! A contrast between what the encoder and what the 2D network make of a whole object, proposed by the authors of I2P-MAE as
//! future work (`docs/method.md`, "Contrast of objects").

use tch::{Kind, Reduction, Tensor, nn, no_grad};

use crate::data::batch::ImageFeatureBatch;
use crate::model::{Decoded, MultiScaleMask};

/// Added to the length of a vector.
const EPSILON: f64 = 1e-6;

/// The projection of the 3D feature to the channels of the 2D one.
#[derive(Debug)]
pub(super) struct Contrast {
    contrast_head: nn::Linear,
    temperature: f64,
}

impl Contrast {
    pub(super) fn new(vs: &nn::Path<'_>, [from, to]: [i64; 2], temperature: f64) -> Self {
        Self {
            contrast_head: nn::linear(vs / "contrast_head", from, to, nn::LinearConfig::default()),
            temperature,
        }
    }

    /// Cross entropy of finding an object's images among those of the batch or micro-batch, and the object among those of the
    /// batch by its images, mean of the two, summed over the batch; a scalar. Of one object alone it is 0.
    pub(super) fn loss(
        &self,
        decoded: &Decoded,
        mask: &MultiScaleMask,
        features: &ImageFeatureBatch,
    ) -> Tensor {
        let is_hidden = mask.visible.last().expect("there are levels").logical_not();
        let largest = decoded
            .coarsest
            .masked_fill(&is_hidden.unsqueeze(2), f64::NEG_INFINITY)
            .amax(1, false);
        let of_points = normalized(&largest.apply(&self.contrast_head));
        let of_images = no_grad(|| {
            let patches = features.maps.to_kind(Kind::Float).flatten(1, 3);
            normalized(&patches.mean_dim(1, false, Kind::Float))
        });
        let logits = of_points.matmul(&of_images.transpose(0, 1)) / self.temperature;
        let own = Tensor::arange(logits.size()[0], (Kind::Int64, logits.device()));
        let entropy =
            |logits: &Tensor| logits.cross_entropy_loss(&own, None::<Tensor>, Reduction::Sum, -100, 0.0);
        (entropy(&logits) + entropy(&logits.transpose(0, 1))) / 2.0
    }
}

/// Rows of length 1.
fn normalized(rows: &Tensor) -> Tensor {
    rows / (rows.square().sum_dim_intlist(1, true, Kind::Float).sqrt() + EPSILON)
}

#[cfg(test)]
mod tests {
    use tch::Device;

    use super::*;

    #[test]
    fn it_finds_objects_by_their_images() {
        tch::manual_seed(0);
        let options = (Kind::Float, Device::Cpu);
        let vs = nn::VarStore::new(Device::Cpu);
        let contrast = Contrast::new(&vs.root(), [8, 5], 0.1);
        let decoded = Decoded {
            tokens: Tensor::zeros([1, 1], options),
            coarsest: Tensor::randn([6, 4, 8], options),
        };
        let mask = MultiScaleMask {
            visible: vec![Tensor::from_slice(&[true, false, true, false]).expand([6, 4], false)],
        };
        let features = ImageFeatureBatch {
            maps: Tensor::randn([6, 3, 2, 2, 5], options),
            saliency: Tensor::zeros([6, 3, 2, 2], options),
            positions: Tensor::zeros([6, 3, 9, 2], options),
            visible: None,
        };
        let loss = || contrast.loss(&decoded, &mask, &features);
        let first = loss().double_value(&[]);
        for _ in 0..200 {
            let loss = loss();
            for mut variable in vs.trainable_variables() {
                variable.zero_grad();
            }
            loss.backward();
            no_grad(|| {
                for mut variable in vs.trainable_variables() {
                    let step = variable.grad() * 0.05;
                    let _ = variable.g_sub_(&step);
                }
            });
        }
        let last = loss().double_value(&[]);
        assert!(last < 0.5 * first, "from {first} to {last}");
        let hidden_changed = Decoded {
            coarsest: decoded
                .coarsest
                .masked_fill(&mask.visible[0].logical_not().unsqueeze(2), 7.0),
            ..decoded
        };
        let same = contrast.loss(&hidden_changed, &mask, &features).double_value(&[]);
        assert!(
            (same - last).abs() < 1e-6,
            "masked tokens do not count: {same} and {last}"
        );
    }
}
