//! The hierarchy of Point-M2AE against the released code of I2P-MAE, which has the same one: reconstruction with a given
//! mask. `i2p_mae.rs` has the rest.

use tap_train::model::{
    Cloud, GroupMask, HierarchicalAutoencoder, HierarchicalAutoencoderConfig, Mode, MultiScaleMask,
    PointM2aeConfig,
};
use tap_train::ops::{ChamferNorm, chamfer};
use tch::{Device, Kind, nn};

use crate::reference::{Folder, Run, compare};
use crate::{LOSS, assign_named};

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
    let config = HierarchicalAutoencoderConfig {
        encoder: PointM2aeConfig::default(),
        decoder_blocks: 1,
        decoder_drop_path: 0.1,
        feature_channels: 0,
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
}
