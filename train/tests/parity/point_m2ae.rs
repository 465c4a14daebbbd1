//! The hierarchy of Point-M2AE against the released code of I2P-MAE, which has the same one: reconstruction with a given
//! mask, the feature of the SVM, and the logits of a fine-tuning.

use tap_train::model::{
    ClassifierHead, Cloud, EncoderConfig, GroupMask, HeadConfig, HierarchicalAutoencoder,
    HierarchicalAutoencoderConfig, Mode, MultiScaleMask, PointM2aeConfig,
};
use tap_train::ops::{ChamferNorm, chamfer};
use tch::{Device, Kind, Tensor, nn};

use crate::point_mae::published_name;
use crate::reference::{Folder, Run, compare};
use crate::{FORWARD, LOSS, assign_named};

fn cloud(run: &Run) -> Cloud {
    let xyz = run.need("in.pos");
    Cloud {
        features: xyz.transpose(1, 2),
        xyz: xyz.shallow_clone(),
    }
}

#[test]
fn point_m2ae_pretraining() {
    let run = Folder::open().run("i2pmae");
    let encoder = PointM2aeConfig::default();
    let config = HierarchicalAutoencoderConfig {
        encoder: encoder.clone(),
        decoder_blocks: 1,
        decoder_drop_path: 0.1,
    };
    let vs = nn::VarStore::new(Device::Cpu);
    let model = HierarchicalAutoencoder::new(&vs.root(), &config);
    // Features of a 2D network, which I2P-MAE reconstructs as well, have a head of their own.
    let of_3d = |(name, _): &(String, Vec<i64>)| !name.starts_with("rec_head_2d.");
    let state_dict: Vec<_> = run.state_dict().into_iter().filter(of_3d).collect();
    assign_named(&run, &state_dict, vs.variables().into_iter().collect());

    let cloud = cloud(&run);
    let groups = model.groups(&cloud);
    compare(&run, "centers2", &groups[2].centers, 0.0);
    let flags = run.need("in.mask");
    let coarsest = GroupMask::from_flags(flags, flags.get(0).sum(Kind::Int64).int64_value(&[]));
    let mask = MultiScaleMask::new(&groups, &coarsest, true);
    let points = model.reconstruct(&groups, &mask, Mode::EVAL);
    let truth = HierarchicalAutoencoder::masked_points(&groups, &mask);
    compare(&run, "loss_3d", &chamfer(&points, &truth, ChamferNorm::L2), LOSS);

    let vs = nn::VarStore::new(Device::Cpu);
    let encoder = EncoderConfig::from(encoder).build(&(vs.root() / "h_encoder"));
    let of_encoder = |(name, _): &(String, Vec<i64>)| name.starts_with("h_encoder.");
    let state_dict: Vec<_> = state_dict.into_iter().filter(of_encoder).collect();
    assign_named(&run, &state_dict, vs.variables().into_iter().collect());
    let largest = encoder.tokens(&cloud, Mode::EVAL).features.amax(1, false);
    compare(&run, "svm_feat", &largest, FORWARD);
}

#[test]
fn point_m2ae_finetuning() {
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
    compare(&run, "ft.logits", &head.forward(&feature, Mode::EVAL), FORWARD);
}
