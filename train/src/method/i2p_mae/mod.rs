//! I2P-MAE: a Point-M2AE whose masks are guided by what a frozen 2D network finds salient in images of the object, and
//! whose visible groups predict what that network says of their points (`docs/method.md`, "I2P-MAE").

mod contrast;
pub mod settings;
mod target;
mod teacher;

use std::fmt::Write as _;
use std::path::PathBuf;
use std::rc::Rc;

use tch::{Device, Kind, Tensor, nn};

use self::contrast::Contrast;
use self::settings::{ContrastScope, I2pMaeSettings, MaskRule};
pub use self::target::{FeatureTargets, TargetForm};
use self::teacher::Teacher;
use super::masked::{self, CHAMFER, Reconstruction};
use super::{Baselines, CpuBatches, Inputs, Method, MethodKind, plan_with, settings};
use crate::config::{Config, DatasetInfo, MethodPlan, PhasePlan, Plan, invalid};
use crate::data::batch::{Batch, CpuBatch, ImageFeatureBatch};
use crate::data::sampler::micro_batch_size;
use crate::engine::objective::{Loss, Term};
use crate::error::TrainError;
use crate::model::{
    Decoded, Encoder, GroupMask, Groups, HierarchicalAutoencoder, HierarchicalAutoencoderConfig, Mode,
    MultiScaleMask, PointM2aeConfig,
};
use crate::optim::ParameterGroup;
use crate::run::image_grid::ImageGrid;
use crate::scalar::{Scalars, Sums};
use crate::weights::safetensors::file_sha256;

/// What configurations call the method.
const NAME: &str = "i2p-mae";
/// The term of the 2D features, over numbers that are predicted.
const FEATURES: &str = "features";
/// The term of the contrast, over objects.
const CONTRAST: &str = "contrast";

/// I2P-MAE, by its name.
#[derive(Debug)]
pub struct I2pMaeKind;

impl MethodKind for I2pMaeKind {
    fn name(&self) -> &'static str {
        NAME
    }

    fn plan(&self, config: &Config) -> Result<MethodPlan, TrainError> {
        plan_with(NAME, &I2pMaeSettings::resolved(config)?)
    }

    fn files(&self, config: &Config) -> Vec<PathBuf> {
        let settings = I2pMaeSettings::resolved(config).unwrap_or_default();
        settings.teacher.into_iter().collect()
    }

    fn bind(&self, plan: &mut Plan, data: &DatasetInfo) -> Result<(), TrainError> {
        let mut settings: I2pMaeSettings = settings(plan)?;
        if !settings.needs_features() {
            return Ok(());
        }
        match (&settings.teacher, &data.features) {
            (Some(path), None) => settings.features_sha256 = file_sha256(path)?,
            (None, Some(features)) => {
                settings.features_sha256.clone_from(&features.sha256);
                settings.features_size = Some([features.num_views as i64, features.num_channels as i64]);
            }
            (Some(_), Some(_)) => {
                return Err(invalid(
                    "method.teacher and data.features are both set, and features come from one of them",
                ));
            }
            (None, None) => {
                return Err(invalid(format!(
                    "the method {NAME} needs a 2D network: set method.teacher to a file of its weights, or data.features to a set made by `tap dataset features`; or mask = \"random\" and weight_2d = 0"
                )));
            }
        }
        plan.method = plan_with(NAME, &settings)?;
        Ok(())
    }

    fn check(&self, plan: &Plan, _data: &DatasetInfo) -> Result<(), TrainError> {
        let settings: I2pMaeSettings = settings(plan)?;
        masked::check_hierarchy(plan, NAME, settings.mask_ratio)?;
        if settings.contrasts() {
            check_contrast(settings.contrast_among, &plan.phase)?;
        }
        Ok(())
    }

    fn build(&self, vs: &nn::Path<'_>, plan: &Plan) -> Result<Box<dyn Method>, TrainError> {
        let settings: I2pMaeSettings = settings(plan)?;
        let path = settings.teacher.as_deref().filter(|_| settings.needs_features());
        let teacher = path
            .map(|path| Teacher::read(path, settings.teacher_layer, vs.device()))
            .transpose()?;
        let encoder = masked::hierarchy(plan, NAME)?;
        Ok(Box::new(I2pMaeMethod::new(vs, encoder, settings, teacher)))
    }
}

/// Refuses a contrast among objects that are not computed together, or of objects that are all alone.
fn check_contrast(among: ContrastScope, phase: &PhasePlan) -> Result<(), TrainError> {
    let PhasePlan {
        batch_size,
        accumulation_steps,
        ..
    } = *phase;
    match among {
        ContrastScope::Batch if accumulation_steps > 1 => Err(invalid(format!(
            "method.contrast_weight tells the objects of a whole batch apart (contrast_among = \"batch\"), and accumulation_steps = {accumulation_steps} divides it; set method.contrast_among = \"micro-batch\" to tell those of each micro-batch apart, or accumulation_steps = 1, in one process"
        ))),
        ContrastScope::MicroBatch if micro_batch_size(batch_size, accumulation_steps) == 1 => {
            Err(invalid(format!(
                "method.contrast_among = \"micro-batch\" has nothing to tell apart: batch_size = {batch_size} and accumulation_steps = {accumulation_steps} make micro-batches of one object; set a larger batch_size, or contrast_weight = 0"
            )))
        }
        ContrastScope::Batch | ContrastScope::MicroBatch => Ok(()),
    }
}

/// The autoencoder with its loss, and the 2D network where one looks at every batch. With random masks and without 2D features
/// it is Point-M2AE.
#[derive(Debug)]
pub(super) struct I2pMaeMethod {
    autoencoder: HierarchicalAutoencoder,
    contrast: Option<Contrast>,
    teacher: Option<Teacher>,
    /// Of the coarsest level.
    num_groups: i64,
    settings: I2pMaeSettings,
    device: Device,
}

impl I2pMaeMethod {
    pub(super) fn new(
        vs: &nn::Path<'_>,
        encoder: &PointM2aeConfig,
        settings: I2pMaeSettings,
        teacher: Option<Teacher>,
    ) -> Self {
        let size = teacher.as_ref().map(Teacher::size).or(settings.features_size);
        let config = HierarchicalAutoencoderConfig {
            encoder: encoder.clone(),
            decoder_blocks: settings.decoder_blocks,
            decoder_drop_path: settings.decoder_drop_path,
            feature_channels: size.map_or(0, |size| settings.feature_channels(size)),
        };
        let autoencoder = HierarchicalAutoencoder::new(vs, &config);
        let contrast = size.filter(|_| settings.contrasts()).map(|[_, channels]| {
            let channels = [encoder.coarsest().channels, channels];
            Contrast::new(vs, channels, settings.contrast_temperature)
        });
        Self {
            autoencoder,
            contrast,
            teacher,
            num_groups: encoder.coarsest().num_groups,
            settings,
            device: vs.device(),
        }
    }

    fn form(&self) -> TargetForm {
        TargetForm {
            scale: self.settings.targets,
            fusion: self.settings.fusion,
        }
    }

    fn mask(&self, batch: &Batch) -> (Vec<Groups>, MultiScaleMask) {
        let groups = self.autoencoder.groups(&batch.cloud);
        let num_masked = masked::num_masked(self.settings.mask_ratio, self.num_groups);
        let mut streams = masked::streams(batch);
        let coarsest = match self.settings.mask {
            MaskRule::Random => GroupMask::random(self.num_groups, num_masked, &mut streams),
            MaskRule::Guided => {
                let saliency = coarsest_saliency(features(batch), &groups);
                GroupMask::guided(&saliency, num_masked, self.settings.temperature, &mut streams)
            }
        };
        let coarsest = coarsest.to_device(batch.cloud.xyz.device());
        let shows_first = self.settings.shows_first.unwrap_or(false);
        let mask = MultiScaleMask::new(&groups, &coarsest, shows_first);
        (groups, mask)
    }

    fn reconstruction(
        &self,
        decoded: &Decoded,
        groups: &[Groups],
        mask: &MultiScaleMask,
        mode: Mode,
    ) -> Reconstruction {
        Reconstruction {
            points: self.autoencoder.points(decoded, mask, mode),
            truth: HierarchicalAutoencoder::masked_points(groups, mask),
        }
    }

    /// The sum of squared errors of the 2D features, and how many numbers it is over.
    fn feature_error(
        &self,
        batch: &Batch,
        decoded: &Decoded,
        groups: &[Groups],
        mask: &MultiScaleMask,
        mode: Mode,
    ) -> (Tensor, f64) {
        let targets = FeatureTargets::of(features(batch), groups, mask, self.form());
        let predicted = self.autoencoder.features(decoded, mask, mode);
        (targets.squared_error(&predicted), targets.count())
    }
}

/// The 2D features of a batch, which [`Loss::prepare`] or the loader put there.
fn features(batch: &Batch) -> &ImageFeatureBatch {
    batch.features.as_ref().expect("batches of I2P-MAE have features")
}

/// The saliency of the centers of the coarsest level, a list a cloud.
///
/// # Panics
/// Where there is no level.
#[must_use]
pub fn coarsest_saliency(features: &ImageFeatureBatch, groups: &[Groups]) -> Vec<Vec<f64>> {
    let points = HierarchicalAutoencoder::point_index(groups, groups.len() - 1);
    let saliency = features.saliency_at(&points).to_kind(Kind::Double);
    Vec::try_from(saliency.to_device(Device::Cpu)).expect("saliency is B,G")
}

impl Loss for I2pMaeMethod {
    fn prepare(&self, batch: &mut Batch) -> Result<(), TrainError> {
        if let Some(teacher) = &self.teacher {
            batch.features = Some(teacher.look(&batch.cloud.xyz)?);
        }
        Ok(())
    }

    fn normalizer(&self, batch: &Batch) -> Sums {
        let (groups, mask) = self.mask(batch);
        let truth = HierarchicalAutoencoder::masked_points(&groups, &mask);
        let mut sums = Sums::default().with(CHAMFER, &[Reconstruction::at_center(truth).num_groups()]);
        if self.settings.predicts_features() {
            let count = FeatureTargets::count_of(features(batch), &groups, &mask, self.form());
            sums.add(FEATURES, &[count]);
        }
        if self.contrast.is_some() {
            sums.add(CONTRAST, &[batch.len() as f64]);
        }
        sums
    }

    fn terms(&self, batch: &Batch, mode: Mode) -> Vec<Term> {
        let (groups, mask) = self.mask(batch);
        let decoded = self.autoencoder.decode(&groups, &mask, mode);
        let mut terms = Vec::new();
        if self.settings.weight_3d > 0.0 {
            let reconstruction = self.reconstruction(&decoded, &groups, &mask, mode);
            let sum = reconstruction.distance(self.settings.chamfer);
            terms.push(Term::new(CHAMFER, self.settings.weight_3d, sum));
        }
        if self.settings.predicts_features() {
            let (sum, _) = self.feature_error(batch, &decoded, &groups, &mask, mode);
            terms.push(Term::new(FEATURES, self.settings.weight_2d, sum));
        }
        if let Some(contrast) = &self.contrast {
            let sum = contrast.loss(&decoded, &mask, features(batch));
            terms.push(Term::new(CONTRAST, self.settings.contrast_weight, sum));
        }
        terms
    }
}

impl Method for I2pMaeMethod {
    fn inputs(&self) -> Inputs {
        Inputs {
            features: self.settings.needs_features() && self.teacher.is_none(),
            ..Inputs::default()
        }
    }

    fn encoder_prefix(&self) -> &str {
        HierarchicalAutoencoder::ENCODER_PREFIX
    }

    fn encoder(&self) -> Option<Rc<dyn Encoder>> {
        Some(self.autoencoder.encoder())
    }

    fn parameter_group(&self, name: &str, tensor: &Tensor) -> ParameterGroup {
        masked::parameter_group(name, tensor)
    }

    /// All points of a group at its center, and the best constant feature of each view.
    fn baselines(
        &self,
        _training: CpuBatches<'_>,
        evaluation: CpuBatches<'_>,
    ) -> Result<Baselines, TrainError> {
        let (mut points, mut moments) = (Sums::default(), target::Moments::default());
        for batch in evaluation {
            let mut batch = batch?.to_tensors(self.device);
            tch::no_grad(|| -> Result<(), TrainError> {
                self.prepare(&mut batch)?;
                let (groups, mask) = self.mask(&batch);
                let truth = HierarchicalAutoencoder::masked_points(&groups, &mask);
                Reconstruction::at_center(truth).add_to(&mut points);
                if self.settings.predicts_features() {
                    moments.add(&FeatureTargets::of(features(&batch), &groups, &mask, self.form()));
                }
                Ok(())
            })?;
        }
        let mut baselines = masked::center_baseline(&points, self.settings.chamfer);
        if self.settings.predicts_features() {
            let constant = moments.variance();
            baselines.scalars.set("constant_feature_loss", constant);
            let note = baselines.note.get_or_insert_default();
            let _ = write!(note, ", {constant:.4} (the best constant feature)");
        }
        Ok(baselines)
    }

    fn evaluate(&self, batch: &Batch, sums: &mut Sums) {
        let (groups, mask) = self.mask(batch);
        let decoded = self.autoencoder.decode(&groups, &mask, Mode::EVAL);
        self.reconstruction(&decoded, &groups, &mask, Mode::EVAL)
            .add_to(sums);
        if self.settings.predicts_features() {
            let (sum, count) = self.feature_error(batch, &decoded, &groups, &mask, Mode::EVAL);
            sums.add(FEATURES, &[sum.double_value(&[]), count]);
        }
        if let Some(contrast) = &self.contrast {
            let sum = contrast.loss(&decoded, &mask, features(batch));
            sums.add(CONTRAST, &[sum.double_value(&[]), batch.len() as f64]);
        }
    }

    fn scalars(&self, sums: &Sums) -> Scalars {
        let of_points = masked::scalars(sums, self.settings.chamfer);
        let chamfer = of_points.get("loss").unwrap_or(f64::NAN);
        let (features, contrast) = (sums.mean(FEATURES), sums.mean(CONTRAST));
        let settings = &self.settings;
        let loss = settings.weight_3d * chamfer
            + settings.weight_2d * features
            + settings.contrast_weight * contrast;
        let mut scalars = of_points.with("loss", loss);
        if settings.predicts_features() {
            scalars.set("loss_features", features);
        }
        if settings.contrasts() {
            scalars.set("loss_contrast", contrast);
        }
        scalars
    }

    fn images(&self, _cpu_batch: &CpuBatch, batch: &Batch) -> Option<ImageGrid> {
        let (groups, mask) = self.mask(batch);
        Some(masked::hierarchy_grid(&self.autoencoder, batch, &groups, &mask))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;
    use crate::method::i2p_mae::settings::{Fusion, TargetScale};

    const SIZE: [i64; 2] = [3, 5];

    fn method(vs: &nn::VarStore, settings: I2pMaeSettings) -> I2pMaeMethod {
        let mut encoder = PointM2aeConfig::mini();
        for (level, num_groups) in encoder.levels.iter_mut().zip([32, 24, 8]) {
            level.num_groups = num_groups;
            level.num_neighbors = 4;
            level.num_blocks = 1;
        }
        let settings = I2pMaeSettings {
            mask_ratio: 0.5,
            features_size: Some(SIZE),
            ..settings
        };
        I2pMaeMethod::new(&vs.root(), &encoder, settings, None)
    }

    fn batch(num_samples: i64, has_hidden: bool) -> Batch {
        let options = (Kind::Float, Device::Cpu);
        let xyz = Tensor::randn([num_samples, 96, 3], options) * 0.4;
        let [views, channels] = SIZE;
        let features = ImageFeatureBatch {
            maps: Tensor::randn([num_samples, views, 7, 7, channels], options),
            saliency: Tensor::rand([num_samples, views, 7, 7], options),
            positions: crate::ops::depth_positions(&xyz),
            visible: has_hidden.then(|| Tensor::rand([num_samples, views, 96], options).gt(0.6)),
        };
        Batch {
            features: Some(features),
            ..Batch::of_points(
                xyz,
                (0..num_samples as u64).map(|sample| 7 + 3 * sample).collect(),
            )
        }
    }

    #[test]
    fn micro_batches_mask_and_add_up_as_the_batch_does() {
        tch::manual_seed(0);
        for (has_hidden, fusion, mask) in [
            (false, Fusion::Concatenated, MaskRule::Guided),
            (true, Fusion::Concatenated, MaskRule::Random),
            (true, Fusion::Mean, MaskRule::Guided),
        ] {
            let vs = nn::VarStore::new(Device::Cpu);
            let settings = I2pMaeSettings {
                mask,
                fusion,
                targets: TargetScale::Standardized,
                ..I2pMaeSettings::default()
            };
            let (method, batch) = (method(&vs, settings), batch(4, has_hidden));
            let parts = [batch.micro_batch(0, 1), batch.micro_batch(1, 3)];
            for (place, name) in [CHAMFER, FEATURES].into_iter().enumerate() {
                let count = |batch: &Batch| method.normalizer(batch).at(name, 0);
                let of_parts: f64 = parts.iter().map(count).sum();
                let whole = count(&batch);
                assert!((whole - of_parts).abs() < 1e-9, "{name}: {whole} and {of_parts}");
                assert!(whole > 1.0, "{name}: something is predicted");
                let sum = |batch: &Batch| method.terms(batch, Mode::EVAL)[place].sum.double_value(&[]);
                let (whole, of_parts) = (sum(&batch), parts.iter().map(sum).sum::<f64>());
                assert!(
                    (whole / of_parts - 1.0).abs() < 1e-4,
                    "{name}, {fusion:?}: {whole} and {of_parts}"
                );
            }
            let mut evaluated = Sums::default();
            for part in &parts {
                method.evaluate(part, &mut evaluated);
            }
            let normalizer = method.normalizer(&batch);
            let expected: f64 = method
                .terms(&batch, Mode::EVAL)
                .iter()
                .map(|term| term.weight * term.sum.double_value(&[]) / normalizer.at(&term.name, 0))
                .sum();
            let loss = method.scalars(&evaluated).get("loss").unwrap();
            assert!(
                (loss / expected - 1.0).abs() < 1e-4,
                "an evaluation has the loss of one batch: {loss} and {expected}"
            );
        }
    }

    #[test]
    fn the_contrast_of_an_object_alone_is_nothing_and_moves_nothing() {
        tch::manual_seed(3);
        let vs = nn::VarStore::new(Device::Cpu);
        let settings = I2pMaeSettings {
            contrast_weight: 0.5,
            contrast_among: ContrastScope::MicroBatch,
            weight_2d: 0.0,
            ..I2pMaeSettings::default()
        };
        let (method, batch) = (method(&vs, settings), batch(3, false));
        let counted = method.normalizer(&batch).at(CONTRAST, 0);
        assert!((counted - 3.0).abs() < 1e-9, "each counts: {counted}");
        for (num_objects, is_told_apart) in [(2, true), (1, false)] {
            let mut terms = method
                .terms(&batch.micro_batch(0, num_objects), Mode::TRAIN)
                .into_iter();
            let contrast = terms.find(|term| term.name == CONTRAST).unwrap();
            for mut variable in vs.trainable_variables() {
                variable.zero_grad();
            }
            contrast.sum.backward();
            let moves = |variable: &Tensor| {
                let gradient = variable.grad();
                gradient.defined() && gradient.abs().max().double_value(&[]) > 1e-9
            };
            let is_moved = vs.trainable_variables().iter().any(moves);
            let is_zero = contrast.sum.double_value(&[]).abs() < 1e-9;
            assert_eq!(
                (is_moved, is_zero),
                (is_told_apart, !is_told_apart),
                "{num_objects} objects"
            );
        }
    }

    #[test]
    fn each_loss_is_there_alone() {
        tch::manual_seed(1);
        let batch = batch(2, false);
        for (weight_3d, weight_2d, mask, names) in [
            (1.0, 0.0, MaskRule::Guided, vec![CHAMFER]),
            (0.0, 2.0, MaskRule::Random, vec![FEATURES]),
            (0.5, 2.0, MaskRule::Guided, vec![CHAMFER, FEATURES]),
        ] {
            let vs = nn::VarStore::new(Device::Cpu);
            let settings = I2pMaeSettings {
                mask,
                weight_3d,
                weight_2d,
                ..I2pMaeSettings::default()
            };
            let method = method(&vs, settings);
            let terms = method.terms(&batch, Mode::TRAIN);
            let got: Vec<&str> = terms.iter().map(|term| term.name.as_str()).collect();
            assert_eq!(got, names, "terms of weights {weight_3d} and {weight_2d}");
            let has_head = vs.variables().keys().any(|name| name.starts_with("rec_head_2d"));
            assert_eq!(
                has_head,
                weight_2d > 0.0,
                "a head where it has something to predict"
            );
            let total = terms
                .into_iter()
                .fold(Tensor::from(0.0_f32), |total, term| total + term.sum);
            total.backward();
            let gradient = vs.variables()["h_encoder.token_embed.0.first_conv.0.weight"].grad();
            assert!(
                gradient.defined() && gradient.abs().sum(Kind::Double).double_value(&[]) > 0.0,
                "the encoder learns from it"
            );
        }
    }

    #[test]
    fn what_a_view_hides_changes_nothing_where_it_is_left_out() {
        tch::manual_seed(2);
        let vs = nn::VarStore::new(Device::Cpu);
        let method = method(&vs, I2pMaeSettings::default());
        let mut batch = batch(2, true);
        let sum = |batch: &Batch| {
            let terms = method.terms(batch, Mode::EVAL);
            terms.iter().map(|term| term.sum.double_value(&[])).sum::<f64>()
        };
        let expected = sum(&batch);
        let features = batch.features.as_mut().unwrap();
        // All points of a view that it hides are moved to another place in it.
        let hidden = features.visible.as_ref().unwrap().logical_not().unsqueeze(3);
        features.positions = features.positions.masked_fill(&hidden, 0.9);
        assert!((sum(&batch) / expected - 1.0).abs() < 1e-6, "hidden points");
        let features = batch.features.as_mut().unwrap();
        features.positions = features.positions.masked_fill(&hidden.logical_not(), 0.9);
        assert!(
            (sum(&batch) / expected - 1.0).abs() > 1e-3,
            "points that are seen"
        );
    }
}
