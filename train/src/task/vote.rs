//! Voting, that is test-time augmentation: predictions averaged over several copies of every object.
//!
//! Other work predicts scaled copies, some of it many times over, and reports the best vote, which is selection on the test
//! set (`docs/protocols.md`, "Voting"). Here there is one vote, and its rule is part of every result.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

use super::loader_options;
use crate::config::Plan;
use crate::data::collator::{Collator, LoaderOptions, ViewSampling};
use crate::data::sampler::{BatchSampler, LastBatch};
use crate::data::source::SampleSource;
use crate::model::Cloud;
use crate::seed::{Stream, torch_seed};

/// How many augmented predictions are added to the plain one in an evaluation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Votes {
    /// Number of augmented predictions.
    pub count: u32,
    /// Seed of the augmentation.
    pub seed: u64,
    /// What is augmented.
    pub rule: VoteRule,
    /// What is averaged; what the task averages by itself unless chosen.
    pub average: Option<VoteAverage>,
}

/// What the predictions of votes are averaged as, which differs in published code (`docs/protocols.md`, "Voting").
#[derive(Debug, Clone, Copy, PartialEq, Eq, strum::Display, strum::EnumString, strum::VariantNames)]
#[strum(serialize_all = "kebab-case")]
pub enum VoteAverage {
    /// Softmax probabilities: a vote that is sure weighs no more than one.
    Probabilities,
    /// What the network says before the softmax, or the logarithms of probabilities where that is what it says: the same
    /// decision, since the two differ by the same number for all classes of a vote.
    Logits,
}

impl VoteAverage {
    /// What is added up over votes.
    ///
    /// # Shapes
    /// - `predictions`: [..., classes], logits or logarithms of probabilities
    pub(super) fn summand(self, predictions: &Tensor) -> Tensor {
        match self {
            Self::Probabilities => predictions.softmax(-1, Kind::Double),
            Self::Logits => predictions.shallow_clone(),
        }
    }
}

/// What a vote augments.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum VoteRule {
    /// Every object augmented as in training, each anew in every vote.
    #[default]
    Augmented,
    /// As the released code of TAP votes in part segmentation (`docs/protocols.md`, "Published votes"): the positions
    /// alone, by which neighbors are found, are scaled axis by axis, in every vote on top of the votes before and by the
    /// same factors for a whole batch; the features of a point, position and normal, stay as they are.
    Published,
}

impl Votes {
    /// The clouds of published votes; empty by another rule.
    ///
    /// # Shapes
    /// - `cloud`: those of batch `batch_idx`; `scale`: the range of a factor
    pub(super) fn rescaled(
        self,
        cloud: &Cloud,
        scale: [f64; 2],
        batch_idx: u64,
    ) -> impl Iterator<Item = Cloud> + use<> {
        let count = match self.rule {
            VoteRule::Augmented => 0,
            VoteRule::Published => self.count,
        };
        let (mut xyz, features) = (cloud.xyz.shallow_clone(), cloud.features.shallow_clone());
        (1..=count).map(move |vote| {
            let mut stream = Stream::new(self.seed, "vote scale", u64::from(vote), &batch_idx.to_string());
            let factors = [(); 3].map(|()| stream.uniform(scale[0], scale[1]) as f32);
            xyz = &xyz * Tensor::from_slice(&factors).to_device(xyz.device());
            Cloud {
                xyz: xyz.shallow_clone(),
                features: features.shallow_clone(),
            }
        })
    }

    /// The batches of every augmented vote; empty by another rule.
    pub(super) fn augmented<'a>(
        self,
        plan: &'a Plan,
        rows: &'a Arc<dyn SampleSource>,
        batch_size: usize,
    ) -> impl Iterator<Item = Arc<Collator>> + 'a {
        let count = match self.rule {
            VoteRule::Augmented => self.count,
            VoteRule::Published => 0,
        };
        (1..=count).map(move |vote| {
            let sampler = BatchSampler {
                num_rows: rows.len(),
                batch_size,
                last_batch: LastBatch::Keep,
                shuffle: None,
            };
            let options = LoaderOptions {
                seed: torch_seed(self.seed, "vote", u64::from(vote)) as u64,
                point_choice: plan.data.point_choice,
                augmentation: plan.phase.augmentation.clone(),
                parts: plan.parts.as_ref().map(|parts| parts.augmentation),
                cache_bytes: 0,
                ..loader_options(plan, ViewSampling::None)
            };
            Arc::new(Collator::new(Arc::clone(rows), sampler, options))
        })
    }
}

#[cfg(test)]
mod tests {
    use tch::Device;

    use super::*;

    #[test]
    fn a_vote_that_is_sure_outweighs_others_as_logits_alone() {
        // Two votes lean to the first class, one is sure of the second.
        let votes = [[3.0_f32, 0.0], [3.0, 0.0], [-4.0, 4.0]];
        let decide = |average: VoteAverage| {
            let sum = votes
                .map(|vote| average.summand(&Tensor::from_slice(&vote)))
                .into_iter()
                .reduce(|a, b| a + b);
            sum.map(|sum| sum.argmax(-1, false).int64_value(&[]))
        };
        assert_eq!(decide(VoteAverage::Logits), Some(1), "2 < 4");
        assert_eq!(decide(VoteAverage::Probabilities), Some(0), "1.91 > 1.09");
    }

    #[test]
    fn published_votes_scale_positions_on_top_of_each_other_and_nothing_else() {
        tch::manual_seed(3);
        let xyz = Tensor::rand([2, 7, 3], (Kind::Float, Device::Cpu)) + 0.5;
        let cloud = Cloud {
            features: xyz.transpose(1, 2).contiguous(),
            xyz,
        };
        let votes = |count, seed| Votes {
            count,
            seed,
            rule: VoteRule::Published,
            average: None,
        };
        let of_batch = |votes: Votes, batch_idx| -> Vec<Tensor> {
            let clouds = votes.rescaled(&cloud, [0.8, 1.2], batch_idx);
            clouds
                .map(|vote| {
                    assert!(vote.features.equal(&cloud.features), "features stay");
                    vote.xyz
                })
                .collect()
        };
        let clouds = of_batch(votes(10, 0), 0);
        assert_eq!(clouds.len(), 10, "one cloud a vote");
        let mut before = &cloud.xyz;
        for scaled in &clouds {
            let factors = scaled / before;
            let (low, high) = (factors.amin([0, 1], false), factors.amax([0, 1], false));
            assert!(
                low.allclose(&high, 1e-5, 1e-6, false),
                "one factor an axis for the whole batch, on top of the vote before"
            );
            assert!(
                low.min().double_value(&[]) >= 0.799 && high.max().double_value(&[]) <= 1.201,
                "within the range: {low}"
            );
            before = scaled;
        }
        let widest = (&clouds[9] / &cloud.xyz - 1.0).abs().max().double_value(&[]);
        assert!(widest > 0.2, "ten votes leave the range of one: {widest}");
        assert!(
            clouds[0].equal(&of_batch(votes(1, 0), 0)[0]),
            "the same draws again"
        );
        assert!(!clouds[0].equal(&of_batch(votes(1, 1), 0)[0]), "by seed");
        assert!(!clouds[0].equal(&of_batch(votes(1, 0), 1)[0]), "by batch");
        let augmented = Votes {
            rule: VoteRule::Augmented,
            ..votes(10, 0)
        };
        assert_eq!(of_batch(augmented, 0).len(), 0, "not by this rule");
    }
}
