//! 2D features as targets: what a 2D network says of the points of visible groups (`docs/method.md`, "2D-semantic targets").

use tch::{Kind, Reduction, Tensor, no_grad};

use super::settings::{Fusion, TargetScale};
use crate::data::batch::ImageFeatureBatch;
use crate::model::{Groups, HierarchicalAutoencoder, MultiScaleMask};

/// Added to the variance of a feature's channels.
const EPSILON: f64 = 1e-6;

/// What features become before they are predicted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TargetForm {
    /// Raw, or standardized.
    pub scale: TargetScale,
    /// Each view, or their mean.
    pub fusion: Fusion,
}

impl TargetForm {
    /// As published.
    pub const PUBLISHED: Self = Self {
        scale: TargetScale::Raw,
        fusion: Fusion::Concatenated,
    };
}

/// Features of the K points of each of S visible groups, in V views of C channels; V is 1 for the mean of views.
#[derive(Debug)]
pub struct FeatureTargets {
    /// S·K,V,C.
    values: Tensor,
    /// S·K,V: 1 where the view, or any, sees the point; all do if absent.
    weights: Option<Tensor>,
}

impl FeatureTargets {
    /// Those of the visible groups of the level that is reconstructed. A group's points are centers of the level below.
    #[must_use]
    pub fn of(
        features: &ImageFeatureBatch,
        groups: &[Groups],
        mask: &MultiScaleMask,
        form: TargetForm,
    ) -> Self {
        no_grad(|| {
            let centers = &groups[0].index;
            let (mut values, mut seen) = (features.at(centers), features.seen(centers));
            if form.scale == TargetScale::Standardized {
                values = standardized(&values);
            }
            if form.fusion == Fusion::Mean {
                values = mean_of_views(&values, seen.as_ref());
                seen = seen.map(|seen| seen.any_dim(2, true));
            }
            let places = places(groups, mask);
            let select = |of_centers: &Tensor| of_centers.flatten(0, 1).index_select(0, &places);
            Self {
                values: select(&values),
                weights: seen.map(|seen| select(&seen).to_kind(Kind::Float)),
            }
        })
    }

    /// How many numbers are predicted of the same, without looking at any feature.
    #[must_use]
    pub fn count_of(
        features: &ImageFeatureBatch,
        groups: &[Groups],
        mask: &MultiScaleMask,
        form: TargetForm,
    ) -> f64 {
        no_grad(|| {
            let places = places(groups, mask);
            let [num_views, channels] = [1, 4].map(|axis| features.maps.size()[axis]);
            let num_views = if form.fusion == Fusion::Mean { 1 } else { num_views };
            let num_seen = match features.seen(&groups[0].index) {
                None => (places.size()[0] * num_views) as f64,
                Some(seen) => {
                    let seen = match form.fusion {
                        Fusion::Concatenated => seen,
                        Fusion::Mean => seen.any_dim(2, true),
                    };
                    let seen = seen.flatten(0, 1).index_select(0, &places);
                    seen.sum(Kind::Double).double_value(&[])
                }
            };
            num_seen * channels as f64
        })
    }

    /// How many numbers are predicted.
    #[must_use]
    pub fn count(&self) -> f64 {
        let num_seen = match &self.weights {
            Some(weights) => weights.sum(Kind::Double).double_value(&[]),
            None => (self.values.size()[0] * self.values.size()[1]) as f64,
        };
        num_seen * self.values.size()[2] as f64
    }

    /// The sum of squared errors over what is predicted; a scalar.
    ///
    /// # Shapes
    /// - `predicted`: S,K·V·C
    pub fn squared_error(&self, predicted: &Tensor) -> Tensor {
        let predicted = predicted.view_as(&self.values);
        let Some(weights) = &self.weights else {
            return predicted.mse_loss(&self.values, Reduction::Sum);
        };
        let of_features = (predicted - &self.values)
            .square()
            .sum_dim_intlist(2, false, Kind::Float);
        (of_features * weights).sum(Kind::Float)
    }
}

/// Which centers of the finest level, those of all clouds one after the other, the points of the visible groups are, S·K.
fn places(groups: &[Groups], mask: &MultiScaleMask) -> Tensor {
    const LEVEL: usize = HierarchicalAutoencoder::RECONSTRUCTED;
    let neighbors = &groups[LEVEL].neighbors;
    let num_finer = groups[LEVEL - 1].centers.size()[1];
    let first = Tensor::arange(neighbors.size()[0], (Kind::Int64, neighbors.device())) * num_finer;
    let neighbors = (neighbors + first.view([-1, 1, 1])).flatten(0, 1);
    neighbors
        .index_select(0, &mask.visible_places(LEVEL))
        .flatten(0, 1)
}

/// The mean of the features of a point over the views that see it, or over all of them.
///
/// # Shapes
/// - `values`: B,P,V,C; `seen`: B,P,V
/// - returns B,P,1,C; zeros where no view sees the point
fn mean_of_views(values: &Tensor, seen: Option<&Tensor>) -> Tensor {
    let Some(seen) = seen else {
        return values.mean_dim(2, true, Kind::Float);
    };
    let weights = seen.unsqueeze(3).to_kind(Kind::Float);
    let num_seen = weights.sum_dim_intlist(2, true, Kind::Float).clamp_min(1.0);
    (values * weights).sum_dim_intlist(2, true, Kind::Float) / num_seen
}

/// Mean 0 and deviation 1 over the channels of each feature.
fn standardized(features: &Tensor) -> Tensor {
    let channels = features.size().last().copied().unwrap_or(1);
    features.layer_norm([channels], None::<Tensor>, None::<Tensor>, EPSILON, false)
}

/// Sums over features, from which follows how far the best constant feature of each view is from all of them.
#[derive(Debug, Default)]
pub(super) struct Moments {
    /// Sum, V,C, sum of squares, V,C, and number of features, V.
    sums: Option<[Tensor; 3]>,
}

impl Moments {
    pub(super) fn add(&mut self, targets: &FeatureTargets) {
        let values = targets.values.to_kind(Kind::Double);
        let weights = match &targets.weights {
            Some(weights) => weights.to_kind(Kind::Double),
            None => values.select(2, 0).ones_like(),
        };
        let sum = |values: &Tensor| (values * weights.unsqueeze(2)).sum_dim_intlist(0, false, Kind::Double);
        let sums = [
            sum(&values),
            sum(&values.square()),
            weights.sum_dim_intlist(0, false, Kind::Double),
        ];
        self.sums = Some(match self.sums.take() {
            None => sums,
            Some([a, b, c]) => [a + &sums[0], b + &sums[1], c + &sums[2]],
        });
    }

    /// The mean squared error of the constant; 0 where nothing was added.
    pub(super) fn variance(&self) -> f64 {
        let Some([sum, squares, counts]) = &self.sums else {
            return 0.0;
        };
        let errors = squares - sum.square() / counts.clamp_min(1.0).unsqueeze(1);
        let num_numbers = counts.sum(Kind::Double).double_value(&[]) * sum.size()[1] as f64;
        errors.sum(Kind::Double).double_value(&[]) / num_numbers.max(1.0)
    }
}

#[cfg(test)]
mod tests {
    use tch::Device;

    use super::*;

    fn targets(weights: Option<Tensor>) -> FeatureTargets {
        FeatureTargets {
            values: Tensor::randn([24, 3, 5], (Kind::Float, Device::Cpu)),
            weights,
        }
    }

    #[test]
    fn what_no_view_sees_is_not_predicted() {
        tch::manual_seed(0);
        let seen = Tensor::randint(2, [24, 3], (Kind::Float, Device::Cpu));
        let masked = targets(Some(seen.shallow_clone()));
        let predicted = Tensor::randn([6, 4 * 3 * 5], (Kind::Float, Device::Cpu)).set_requires_grad(true);
        let sum = masked.squared_error(&predicted);
        sum.backward();
        let difference = (predicted.detach().view([24, 3, 5]) - &masked.values).square();
        let expected = (difference * seen.unsqueeze(2))
            .sum(Kind::Double)
            .double_value(&[]);
        assert!(
            (sum.double_value(&[]) / expected - 1.0).abs() < 1e-5,
            "{sum} and {expected}"
        );
        let touched = predicted.grad().view([24, 3, 5]).abs().amax(2, false).gt(0.0);
        assert!(touched.to_kind(Kind::Float).equal(&seen), "no gradient elsewhere");
        let count = seen.sum(Kind::Double).double_value(&[]) * 5.0;
        assert!(
            (masked.count() - count).abs() < 1e-9,
            "{} and {count}",
            masked.count()
        );
        let all = targets(Some(seen.ones_like()));
        let of_all = FeatureTargets {
            values: all.values.shallow_clone(),
            weights: None,
        };
        let [one, other] = [&all, &of_all].map(|targets| targets.squared_error(&predicted).double_value(&[]));
        assert!(
            (one / other - 1.0).abs() < 1e-5,
            "all seen is no weights: {one} and {other}"
        );
    }

    #[test]
    fn the_best_constant_is_the_mean_of_each_view() {
        tch::manual_seed(1);
        let seen = Tensor::randint(2, [24, 3], (Kind::Float, Device::Cpu));
        let (one, other) = (targets(None), targets(Some(seen.shallow_clone())));
        let mut moments = Moments::default();
        moments.add(&one);
        moments.add(&other);
        let values = Tensor::cat(&[&one.values, &other.values], 0);
        let weights = Tensor::cat(&[&seen.ones_like(), &seen], 0).unsqueeze(2);
        let mean = (&values * &weights).sum_dim_intlist(0, true, Kind::Float)
            / weights.sum_dim_intlist(0, true, Kind::Float);
        let errors = ((values - mean).square() * &weights)
            .sum(Kind::Double)
            .double_value(&[]);
        let expected = errors / (weights.sum(Kind::Double).double_value(&[]) * 5.0);
        let got = moments.variance();
        assert!((got / expected - 1.0).abs() < 1e-4, "{got} and {expected}");
    }
}
