//! I2P-MAE against its released code: saliency, both losses and all gradients with a given mask and given features of a 2D
//! network, the feature of the SVM, and the logits of a fine-tuning.

use tap_train::data::batch::ImageFeatureBatch;
use tap_train::method::i2p_mae::{FeatureTargets, TargetForm};
use tap_train::model::{
    ClassifierHead, Cloud, EncoderConfig, GroupMask, HeadConfig, HierarchicalAutoencoder,
    HierarchicalAutoencoderConfig, Mode, MultiScaleMask, PointM2aeConfig,
};
use tap_train::ops::{ChamferNorm, chamfer, depth_positions};
use tch::{Device, Kind, Tensor, nn};

use crate::point_mae::published_name;
use crate::reference::{Folder, Run, compare, record};
use crate::{
    Evaluation, FORWARD, TRAINING, Training, assign_named, assign_weights, clear_gradients, compare_rows,
    compare_training_loss, gradients, gradients_above,
};

/// Views of the projection.
const NUM_VIEWS: i64 = 3;
/// Neighbors of these clouds nearly tie: another one in a group moves what comes of it, but little beside.
const NEAR_TIES: Training = Training {
    flipped_rows: 0.05,
    ..TRAINING
};

/// Single precision leaves 1e-5 of the bias in front of the first batch norm; the smallest gradient that counts is 40 times
/// that.
const TRAINING_FLOOR: f64 = 3e-5;

fn cloud(run: &Run) -> Cloud {
    let xyz = run.need("in.pos");
    Cloud {
        features: xyz.transpose(1, 2),
        xyz: xyz.shallow_clone(),
    }
}

/// What stands in for a 2D network; the reference has all clouds of a view behind each other.
fn features(run: &Run, xyz: &Tensor) -> ImageFeatureBatch {
    let maps = run.need("in.img_feats").to_kind(Kind::Float);
    let side = maps.size()[3];
    let by_cloud = |maps: &Tensor| maps.unflatten(0, [NUM_VIEWS, -1]).transpose(0, 1);
    ImageFeatureBatch {
        maps: by_cloud(&maps).permute([0, 1, 3, 4, 2]),
        saliency: by_cloud(run.need("in.cls_attn")).unflatten(2, [side, side]),
        positions: depth_positions(xyz),
        visible: None,
    }
}

#[test]
fn i2p_mae_pretraining() {
    let run = Folder::open().run("i2pmae");
    let cloud = cloud(&run);
    let features = features(&run, &cloud.xyz);
    let config = HierarchicalAutoencoderConfig {
        // The reference ran in training mode with every random drop at probability 0.
        encoder: PointM2aeConfig {
            drop_path: 0.0,
            ..PointM2aeConfig::default()
        },
        decoder_blocks: 1,
        decoder_drop_path: 0.0,
        feature_channels: NUM_VIEWS * features.maps.size()[4],
    };
    let vs = nn::VarStore::new(Device::Cpu);
    let model = HierarchicalAutoencoder::new(&vs.root(), &config);
    assign_weights(&run, &vs);

    let groups = model.groups(&cloud);
    compare(&run, "centers2", &groups[2].centers, 0.0);
    let saliency = features.saliency_at(&HierarchicalAutoencoder::point_index(&groups, 2));
    compare(&run, "sals", &saliency, FORWARD);
    let flags = run.need("in.mask");
    let coarsest = GroupMask::from_flags(flags, flags.get(0).sum(Kind::Int64).int64_value(&[]));
    let mask = MultiScaleMask::new(&groups, &coarsest, true);
    let truth = HierarchicalAutoencoder::masked_points(&groups, &mask);
    let targets = FeatureTargets::of(&features, &groups, &mask, TargetForm::PUBLISHED);
    let step = |mode: Mode| {
        clear_gradients(&vs);
        let decoded = model.decode(&groups, &mask, mode);
        let points = model.points(&decoded, &mask, mode);
        let loss_3d = chamfer(&points, &truth, ChamferNorm::L2);
        let loss_2d = targets.squared_error(&model.features(&decoded, &mask, mode)) / targets.count();
        (&loss_3d + &loss_2d).backward();
        (loss_3d, loss_2d)
    };
    let evaluation = svm_feature(&run);
    let (loss_3d, loss_2d) = step(Mode::EVAL);
    compare(&run, "loss_3d", &loss_3d, evaluation.loss);
    compare(&run, "loss_2d", &loss_2d, evaluation.loss);
    gradients(&run, &vs, "eval", evaluation.gradient);
    let (loss_3d, loss_2d) = step(Mode::TRAIN);
    let training = Training {
        loss: evaluation.loss,
        ..NEAR_TIES
    };
    compare_training_loss(&run, &(loss_3d + loss_2d), training);
    gradients_above(TRAINING_FLOOR, &run, &vs, "train", training.gradient);
}

/// Compares the feature of the SVM, in evaluation and with nothing masked, and says what everything behind the same groups is
/// held to.
fn svm_feature(run: &Run) -> Evaluation {
    let vs = nn::VarStore::new(Device::Cpu);
    let encoder = EncoderConfig::from(PointM2aeConfig::default()).build(&(vs.root() / "h_encoder"));
    let of_encoder = |(name, _): &(String, Vec<i64>)| name.starts_with("h_encoder.");
    let state_dict: Vec<_> = run.state_dict().into_iter().filter(of_encoder).collect();
    assign_named(run, &state_dict, vs.variables().into_iter().collect());
    let tokens = encoder.tokens(&cloud(run), Mode::EVAL);
    // A cloud has one row, so its channels are compared one by one.
    compare_rows(run, "svm_feat", &tokens.features.amax(1, false), 1, NEAR_TIES)
}

#[test]
fn i2p_mae_svm_feature() {
    let _ = svm_feature(&Folder::open().run("i2pmae"));
}

#[test]
fn i2p_mae_finetuning() {
    let run = Folder::open().run("i2pmae");
    let mut config = PointM2aeConfig::default();
    for (level, (num_neighbors, radius)) in config.levels.iter_mut().zip([(32, 0.48), (16, 0.96), (16, 1.92)])
    {
        level.num_neighbors = num_neighbors;
        level.attention_radius = radius;
    }
    let vs = nn::VarStore::new(Device::Cpu);
    let mut encoder = EncoderConfig::from(config).build(&(vs.root() / "encoder"));
    let prediction = vs.root() / "prediction";
    encoder.add_global_weights(&prediction);
    let head = HeadConfig {
        widths: vec![256, 256],
        dropout: 0.0,
        bias: true,
    };
    let head = ClassifierHead::new(&prediction, encoder.global_channels(), 15, &head);
    // The norms of pre-training are not in use, and the released classifier has none.
    let in_use = |(name, _): &(String, Tensor)| !name.contains("encoder_norms");
    let published = |(name, tensor): (String, Tensor)| {
        let name = name.replacen("encoder.", "encoder.h_encoder.", 1);
        (published_name(&name), tensor)
    };
    let tensors = vs.variables().into_iter().filter(in_use).map(published).collect();
    assign_named(&run, &run.state_dict_of("finetune_state_dict"), tensors);
    let feature = encoder.global_feature(&cloud(&run), Mode::EVAL);
    let logits = head.forward(&feature, Mode::EVAL);
    compare(&run, "ft.logits", &logits, FORWARD);
}

/// A swap of two views, or of rows and columns, would show.
#[test]
fn i2p_mae_saliency_tells_views_and_axes_apart() {
    let run = Folder::open().run("i2pmae");
    let Some(expected) = run.get("sals") else { return };
    let cloud = cloud(&run);
    let encoder = HierarchicalAutoencoder::new(
        &nn::VarStore::new(Device::Cpu).root(),
        &HierarchicalAutoencoderConfig {
            encoder: PointM2aeConfig::default(),
            decoder_blocks: 1,
            decoder_drop_path: 0.0,
            feature_channels: 0,
        },
    );
    let groups = encoder.groups(&cloud);
    let centers = HierarchicalAutoencoder::point_index(&groups, 2);
    let error = |features: &ImageFeatureBatch| {
        let got = features.saliency_at(&centers);
        ((got - expected).norm() / expected.norm()).double_value(&[])
    };
    let mut given = features(&run, &cloud.xyz);
    record(&run, "sals", error(&given), FORWARD);
    given.saliency = given.saliency.transpose(2, 3);
    assert!(error(&given) > 1e-2, "rows and columns: {}", error(&given));
    given.saliency = given.saliency.transpose(2, 3).flip([1]);
    assert!(error(&given) > 1e-2, "views: {}", error(&given));
}
