//! Point-MAE against its released code: pre-training with a given mask, and the logits of a fine-tuning.

use std::collections::BTreeSet;

use tap_train::model::{
    ClassifierHead, Cloud, EncoderConfig, GroupMask, HeadConfig, MaskedAutoencoder, MaskedAutoencoderConfig,
    Mode, PointMaeConfig,
};
use tap_train::ops::{ChamferNorm, chamfer};
use tch::{Device, Kind, Tensor, nn};

use crate::reference::{Folder, Run, compare, values};
use crate::{
    FORWARD, TRAINING, Training, assign_named, assign_weights, clear_gradients, compare_rows,
    compare_training_loss, gradients,
};

/// The farthest member of a group may nearly tie with the next point, and either may be in it: then one token is off, and
/// little behind it.
const NEAR_TIES: Training = Training {
    flipped_rows: 0.05,
    ..TRAINING
};

/// The reference ran in training mode with every random drop at probability 0.
fn encoder() -> PointMaeConfig {
    PointMaeConfig {
        drop_path: 0.0,
        ..PointMaeConfig::default()
    }
}

fn cloud(xyz: &Tensor) -> Cloud {
    Cloud {
        features: xyz.transpose(1, 2),
        xyz: xyz.shallow_clone(),
    }
}

#[test]
fn point_mae_pretraining() {
    let run = Folder::open().run("pointmae");
    let config = MaskedAutoencoderConfig {
        encoder: encoder(),
        decoder_blocks: 4,
        decoder_drop_path: 0.0,
    };
    let vs = nn::VarStore::new(Device::Cpu);
    let model = MaskedAutoencoder::new(&vs.root(), &config);
    assign_weights(&run, &vs);

    let cloud = cloud(run.need("in.pos"));
    let flags = run.need("in.mask");
    let mask = GroupMask::from_flags(flags, flags.get(0).sum(Kind::Int64).int64_value(&[]));
    let groups = model.groups(&cloud);
    compare(&run, "group.center", &groups.centers, 0.0);
    compare_groups(&run, "group.neigh_sub", &groups.points);
    let encoded = model.encode(&groups, &mask, Mode::EVAL);
    let evaluation = compare_rows(&run, "enc.x_vis", &encoded, encoded.size()[2], NEAR_TIES);

    let truth = groups.select(&mask.masked).points;
    let step = |mode: Mode| {
        clear_gradients(&vs);
        let points = model.reconstruct(&groups, &mask, mode);
        let loss = chamfer(&points.flatten(0, 1), &truth.flatten(0, 1), ChamferNorm::L2);
        loss.backward();
        loss
    };
    compare(&run, "loss.eval_fwd", &step(Mode::EVAL), evaluation.loss);
    gradients(&run, &vs, "eval", evaluation.gradient);
    let training = Training {
        loss: evaluation.loss,
        ..NEAR_TIES
    };
    compare_training_loss(&run, &step(Mode::TRAIN), training);
    gradients(&run, &vs, "train", training.gradient);
}

/// Of the groups only every so-manieth is stored; the order of its points does not count, and a few groups may have another
/// point as their last.
fn compare_groups(run: &Run, name: &str, got: &Tensor) {
    let Some(expected) = run.get(name) else { return };
    let got = got.slice(1, 0, None, got.size()[1] / expected.size()[1]);
    assert_eq!(got.size(), expected.size(), "{name}: shape");
    let group_len = 3 * got.size()[2] as usize;
    let bits = |group: &[f64]| -> BTreeSet<[u64; 3]> {
        let points = group.as_chunks::<3>().0.iter();
        points.map(|point| point.map(f64::to_bits)).collect()
    };
    let (got, expected) = (values(&got), values(expected));
    let num_groups = expected.len() / group_len;
    let mut num_off = 0;
    let groups = got.chunks(group_len).zip(expected.chunks(group_len));
    for (place, (got, expected)) in groups.enumerate() {
        let num_other = bits(expected).difference(&bits(got)).count();
        assert!(
            num_other <= 1,
            "{name}: {num_other} points of group {place} are others"
        );
        num_off += num_other;
    }
    assert!(
        num_off as f64 <= NEAR_TIES.flipped_rows * num_groups as f64 + 1.0,
        "{name}: {num_off} of {num_groups} groups have another point"
    );
}

#[test]
fn point_mae_finetuning() {
    let run = Folder::open().run("pointmae");
    let vs = nn::VarStore::new(Device::Cpu);
    let mut encoder = EncoderConfig::from(encoder()).build(&(vs.root() / "encoder"));
    let prediction = vs.root() / "prediction";
    encoder.add_global_weights(&prediction);
    let config = HeadConfig {
        widths: vec![256, 256],
        dropout: 0.0,
        bias: true,
    };
    let head = ClassifierHead::new(&prediction, encoder.global_channels(), 40, &config);
    let tensors = vs.variables().into_iter();
    let tensors = tensors
        .map(|(name, tensor)| (published_name(&name), tensor))
        .collect();
    assign_named(&run, &run.state_dict_of("finetune_state_dict"), tensors);
    let feature = encoder.global_feature(&cloud(run.need("ft.pos")), Mode::EVAL);
    compare(&run, "ft.logits", &head.forward(&feature, Mode::EVAL), FORWARD);
}

/// The released code has encoder, class token and head side by side, and the head as one sequence.
pub(crate) fn published_name(name: &str) -> String {
    if let Some(of_encoder) = name.strip_prefix("encoder.") {
        return of_encoder.to_owned();
    }
    let of_prediction = name.strip_prefix("prediction.").expect("encoder or prediction");
    let Some(of_head) = of_prediction.strip_prefix("head.") else {
        return of_prediction.to_owned();
    };
    let parts: Vec<&str> = of_head.splitn(3, '.').collect();
    let [layer, part] = [parts[0], parts[1]].map(|number| number.parse::<usize>().expect("a place"));
    // Dropout and ReLU take places of the published sequence; ours counts dropout alone.
    format!("cls_head_finetune.{}.{}", 2 * layer + part, parts[2])
}
