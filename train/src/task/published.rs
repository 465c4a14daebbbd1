//! Published scores, to stand beside those of results (`docs/protocols.md`, "Published numbers"). All as their authors report
//! them, in %, none reproduced here. Most are of the best epoch on the test split.

/// A published score.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Published {
    /// What its data is, as the import of a data set says; of `ModelNet40` and `ShapeNetPart` any copy.
    pub benchmark: &'static str,
    /// What it measures, as in results.
    pub measure: &'static str,
    /// Method and backbone.
    pub method: &'static str,
    /// The score in %.
    pub percent: f64,
    /// Its deviation over runs or folds, where it is published.
    pub deviation: Option<f64>,
    /// What keeps it from being compared as it is; empty for the best epoch on test of one run.
    pub note: &'static str,
}

const PB: &str = "scanobjectnn PB_T50_RS";
const BG: &str = "scanobjectnn OBJ_BG";
const ONLY: &str = "scanobjectnn OBJ_ONLY";
const MODELNET: &str = "modelnet40";
const PARTS: &str = "shapenetpart";

/// Overall accuracy of fine-tuning.
const ACCURACY: &str = "accuracy";
/// Accuracy of a linear SVM on frozen features.
const SVM: &str = "svc accuracy";

const EIGHT_SEEDS: &str = "best of 8 seeds";
const LABELED: &str = "labels in pre-training";

const fn score(benchmark: &'static str, method: &'static str, percent: f64) -> Published {
    Published {
        benchmark,
        measure: ACCURACY,
        method,
        percent,
        deviation: None,
        note: "",
    }
}

const fn noted(score: Published, note: &'static str) -> Published {
    Published { note, ..score }
}

const fn of(score: Published, measure: &'static str) -> Published {
    Published { measure, ..score }
}

const fn spread(score: Published, deviation: f64) -> Published {
    Published {
        deviation: Some(deviation),
        ..score
    }
}

/// All of them: TAP's Tables 1 to 4, then other methods.
pub const PUBLISHED: [Published; 66] = [
    score(PB, "DGCNN, from scratch", 86.1),
    score(PB, "DGCNN, TAP", 86.6),
    score(PB, "PointNet++, from scratch", 86.2),
    score(PB, "PointNet++, TAP", 86.8),
    score(PB, "PointMLP, from scratch", 87.4),
    score(PB, "PointMLP, TAP", 88.5),
    score(PB, "Transformer, from scratch", 77.24),
    score(PB, "Transformer, Point-BERT", 83.07),
    score(PB, "Transformer, MaskPoint", 84.30),
    score(PB, "Transformer, Point-MAE", 85.18),
    score(PB, "Transformer, TAP", 85.67),
    score(PB, "I2P-MAE", 90.11),
    noted(score(PB, "ReCon", 91.26), EIGHT_SEEDS),
    score(PB, "PCP-MAE", 90.35),
    score(PB, "Point-FEMAE", 90.22),
    spread(score(PB, "Point-JEPA", 86.6), 0.3),
    score(PB, "PointMamba", 89.31),
    score(PB, "Mamba3D", 92.05),
    score(PB, "Mamba3D, from scratch", 91.81),
    noted(score(PB, "PointGPT-L", 93.4), LABELED),
    score(PB, "ReCon++-L", 95.25),
    score(BG, "Transformer, from scratch", 79.86),
    score(BG, "Transformer, Point-MAE", 90.02),
    score(BG, "Transformer, TAP", 90.36),
    score(BG, "I2P-MAE", 94.15),
    noted(score(BG, "ReCon", 95.35), EIGHT_SEEDS),
    score(BG, "PCP-MAE", 95.52),
    score(BG, "Point-FEMAE", 95.18),
    score(BG, "PointMamba", 94.32),
    noted(score(BG, "PointGPT-L", 97.2), LABELED),
    score(BG, "ReCon++-L", 98.80),
    score(ONLY, "Transformer, from scratch", 80.55),
    score(ONLY, "Transformer, Point-MAE", 88.29),
    score(ONLY, "Transformer, TAP", 89.50),
    score(ONLY, "I2P-MAE", 91.57),
    noted(score(ONLY, "ReCon", 93.80), EIGHT_SEEDS),
    score(ONLY, "PCP-MAE", 94.32),
    score(ONLY, "Point-FEMAE", 93.29),
    score(ONLY, "PointMamba", 92.60),
    noted(score(ONLY, "PointGPT-L", 96.6), LABELED),
    score(ONLY, "ReCon++-L", 97.59),
    score(MODELNET, "PointMLP, from scratch", 93.7),
    score(MODELNET, "PointMLP, TAP", 94.0),
    score(MODELNET, "I2P-MAE", 93.67),
    noted(score(MODELNET, "I2P-MAE", 94.06), "best of many votes"),
    noted(score(MODELNET, "Point-MAE", 93.8), "best of many votes"),
    score(MODELNET, "Point-MAE", 93.2),
    noted(score(MODELNET, "ReCon", 94.5), EIGHT_SEEDS),
    score(MODELNET, "PCP-MAE", 94.1),
    score(MODELNET, "Point-FEMAE", 94.04),
    spread(score(MODELNET, "Point-JEPA", 93.8), 0.2),
    score(MODELNET, "PointMamba", 93.6),
    score(MODELNET, "Mamba3D", 94.7),
    noted(score(MODELNET, "PointGPT-L", 94.7), LABELED),
    score(MODELNET, "ReCon++-L", 94.8),
    noted(
        of(score(MODELNET, "I2P-MAE", 93.35), SVM),
        "C = 0.0093, checkpoint by this score",
    ),
    of(score(MODELNET, "Point-M2AE", 92.87), SVM),
    of(score(MODELNET, "ReCon", 93.4), SVM),
    spread(of(score(MODELNET, "Point-JEPA", 93.7), SVM), 0.2),
    noted(
        of(score(BG, "I2P-MAE", 87.09), SVM),
        "C = 0.018, checkpoint by this score",
    ),
    of(score(BG, "Point-M2AE", 84.12), SVM),
    noted(
        of(score(PARTS, "PointMLP, from scratch", 84.6), "class mIoU"),
        "refined, voted",
    ),
    noted(
        of(score(PARTS, "PointMLP, TAP", 85.2), "class mIoU"),
        "refined, voted",
    ),
    noted(
        of(score(PARTS, "PointMLP, from scratch", 86.1), "instance mIoU"),
        "refined, voted",
    ),
    noted(
        of(score(PARTS, "PointMLP, TAP", 86.9), "instance mIoU"),
        "refined, voted",
    ),
    noted(
        of(score(PARTS, "Point-FEMAE", 86.3), "instance mIoU"),
        "refinement and votes unknown",
    ),
];

/// A published mean over ten folds and its deviation, in %.
type FoldScore = (f64, Option<f64>);

/// Few-shot accuracy on `ModelNet40`, in the settings of [`FEW_SHOT_SETTINGS`]. No deviations are known of TAP's.
pub const FEW_SHOT: [(&str, [FoldScore; 4]); 4] = [
    (
        "Transformer, Point-MAE",
        [
            (96.3, Some(2.5)),
            (97.8, Some(1.8)),
            (92.6, Some(4.1)),
            (95.0, Some(3.0)),
        ],
    ),
    (
        "Transformer, TAP",
        [(97.3, None), (97.8, None), (93.1, None), (95.8, None)],
    ),
    (
        "Point-M2AE",
        [(96.8, None), (98.3, None), (92.3, None), (95.0, None)],
    ),
    (
        "PCP-MAE",
        [(97.4, None), (99.1, None), (93.5, None), (95.9, None)],
    ),
];

/// The settings of [`FEW_SHOT`], in its order.
pub const FEW_SHOT_SETTINGS: [&str; 4] = ["5way_10shot", "5way_20shot", "10way_10shot", "10way_20shot"];

impl Published {
    /// Those for a measure on a data set.
    pub fn beside(data_name: &str, measure: &str) -> impl Iterator<Item = &'static Self> {
        PUBLISHED
            .iter()
            .filter(move |published| published.is_of(data_name) && published.measure == measure)
    }

    /// Whether a data set of this name is a copy of what it was measured on.
    fn is_of(&self, data_name: &str) -> bool {
        if self.benchmark.contains(' ') {
            data_name == self.benchmark
        } else {
            data_name.split(' ').next() == Some(self.benchmark)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scores_stand_beside_those_of_the_same_data_and_measure() {
        let methods = |data, measure| -> Vec<&str> {
            Published::beside(data, measure)
                .map(|published| published.method)
                .collect()
        };
        assert!(methods(PB, ACCURACY).contains(&"PointMLP, TAP"));
        assert!(
            methods("scanobjectnn PB_T25", ACCURACY).is_empty(),
            "another variant"
        );
        assert!(
            methods("modelnet40 normal_resampled", ACCURACY).contains(&"Mamba3D"),
            "any copy"
        );
        assert_eq!(methods("shapenetpart h5", "class mIoU").len(), 2);
        assert!(methods("", ACCURACY).is_empty(), "data of the user's own");
    }
}
