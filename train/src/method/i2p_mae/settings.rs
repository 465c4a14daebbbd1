//! The table `[method]` of I2P-MAE.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::config::{Config, invalid, is_default};
use crate::error::TrainError;
use crate::method::masked;
use crate::model::Compat;
use crate::ops::ChamferNorm;
use crate::weights::downloaded::weights_file;

/// Which groups of the coarsest level are visible.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MaskRule {
    /// Those drawn by their saliency in images.
    Guided,
    /// Random ones, as in Point-M2AE.
    Random,
}

/// What is predicted of a feature of the 2D network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TargetScale {
    /// The feature, as published for CLIP.
    Raw,
    /// The feature with mean 0 and deviation 1 over its channels: those of other networks have other sizes.
    Standardized,
}

/// How the views of a point become targets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fusion {
    /// Each view is predicted, as published.
    Concatenated,
    /// The mean over the views that count is.
    Mean,
}

/// Among which objects the contrast tells an object and its images apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ContrastScope {
    /// Those of its batch, which is not divided then.
    #[default]
    Batch,
    /// Those of its micro-batch. An object that is alone there has nothing to be told apart from: its contrast is 0.
    MicroBatch,
}

/// The settings. The default is the published one, but for the network, which the user has to bring.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct I2pMaeSettings {
    /// Which groups of the coarsest level are visible.
    pub mask: MaskRule,
    /// The larger, the nearer a guided mask is to a random one.
    pub temperature: f64,
    /// How many groups of the coarsest level are masked, rounded down, as a part of all.
    pub mask_ratio: f64,
    /// Weight of the points of masked groups.
    pub weight_3d: f64,
    /// Weight of the 2D features of visible groups; 0 predicts none.
    pub weight_2d: f64,
    /// Weight of the contrast of objects and their images; 0 is none.
    pub contrast_weight: f64,
    /// Its temperature.
    pub contrast_temperature: f64,
    /// Among which objects it tells an object apart.
    #[serde(skip_serializing_if = "is_default")]
    pub contrast_among: ContrastScope,
    /// What is predicted of a feature.
    pub targets: TargetScale,
    /// How the views of a point become targets.
    pub fusion: Fusion,
    /// How far reconstructed points are from the true ones.
    pub chamfer: ChamferNorm,
    /// Blocks of each stage of the decoder.
    pub decoder_blocks: i64,
    /// Probability to drop a residual branch in the decoder's last block; it rises linearly from 0 in the first.
    pub decoder_drop_path: f64,
    /// Show the first token of the first cloud of a batch on every finer level, as the released code does; where it is left
    /// open, `compat = "code"` does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shows_first: Option<bool>,
    /// The frozen 2D network that looks at depth images of the points: a file of weights, or the name of one
    /// ([`weights_file`]). `data.features` is the other source.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub teacher: Option<PathBuf>,
    /// Take the features of this block of the network, counted from 0; those of its end if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub teacher_layer: Option<i64>,
    /// SHA-256 of that file, or of the feature set. Found out and written down, not set.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub features_sha256: String,
    /// V and C of the feature set. Found out and written down, not set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub features_size: Option<[i64; 2]>,
}

impl Default for I2pMaeSettings {
    fn default() -> Self {
        Self {
            mask: MaskRule::Guided,
            temperature: 1.0,
            mask_ratio: 0.8,
            weight_3d: 1.0,
            weight_2d: 1.0,
            contrast_weight: 0.0,
            contrast_temperature: 0.07,
            contrast_among: ContrastScope::Batch,
            targets: TargetScale::Raw,
            fusion: Fusion::Concatenated,
            chamfer: ChamferNorm::L2,
            decoder_blocks: 1,
            decoder_drop_path: 0.1,
            shows_first: None,
            teacher: None,
            teacher_layer: None,
            features_sha256: String::new(),
            features_size: None,
        }
    }
}

impl I2pMaeSettings {
    /// The settings of a configuration with a value for everything that does not depend on data.
    ///
    /// # Errors
    /// Where they make no sense.
    pub(super) fn resolved(config: &Config) -> Result<Self, TrainError> {
        let mut settings: Self = config.method.parse().map_err(invalid)?;
        masked::check_settings(settings.mask_ratio, settings.decoder_drop_path)?;
        let weights = [settings.weight_3d, settings.weight_2d, settings.contrast_weight];
        if weights.iter().all(|&weight| weight == 0.0) {
            return Err(invalid(
                "method.weight_3d, weight_2d and contrast_weight are all 0, so there is nothing to learn",
            ));
        }
        let follows_code = config.compat == Some(Compat::Code);
        settings.shows_first.get_or_insert(follows_code);
        settings.teacher = settings.teacher.as_deref().map(weights_file).transpose()?;
        Ok(settings)
    }

    /// Numbers that are predicted of a point, of features of V views and C channels.
    pub(super) fn feature_channels(&self, [num_views, channels]: [i64; 2]) -> i64 {
        match self.fusion {
            _ if !self.predicts_features() => 0,
            Fusion::Concatenated => num_views * channels,
            Fusion::Mean => channels,
        }
    }

    /// Whether anything comes from a 2D network.
    #[must_use]
    pub fn needs_features(&self) -> bool {
        self.mask == MaskRule::Guided || self.predicts_features() || self.contrasts()
    }

    /// Whether objects are told apart by their images.
    #[must_use]
    pub fn contrasts(&self) -> bool {
        self.contrast_weight > 0.0
    }

    /// Whether features of a 2D network are predicted.
    #[must_use]
    pub fn predicts_features(&self) -> bool {
        self.weight_2d > 0.0
    }
}
