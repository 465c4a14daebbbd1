//! Whole networks under the names of the released code of Point-BERT, Point-MAE and their descendants: there the parts of the encoder
//! lie at the top, beside the head or the decoder to points.

use std::collections::{BTreeMap, BTreeSet};

use tch::Tensor;

/// How names of a head for classification begin.
const HEAD: &str = "cls_head_finetune.";
/// Entries of a hidden layer in their head: linear layer, batch norm, ReLU and dropout.
const HEAD_STEP: usize = 4;
/// The last layer of a network for part segmentation.
const PARTS: &str = "convs3.weight";
/// What networks for part segmentation are called in the released code of TAP, and here.
const SEGMENTER: &str = "segmentor.";

/// Gives the tensors of such networks the names that they have here, wherever in a file they lie.
pub fn rename(tensors: &mut BTreeMap<String, Tensor>) {
    let heads: BTreeSet<String> = tensors.keys().filter_map(|name| place_of(name, HEAD)).collect();
    rename_under(tensors, &heads, classifier_name);
    let parts: BTreeSet<String> = tensors
        .keys()
        .filter(|name| name.ends_with(PARTS))
        .filter_map(|name| place_of(name, PARTS))
        .filter(|place| !place.ends_with(SEGMENTER))
        .collect();
    rename_under(tensors, &parts, |name| format!("{SEGMENTER}{name}"));
}

/// What stands in front of this part of a name.
fn place_of(name: &str, part: &str) -> Option<String> {
    name.find(part).map(|begin| name[..begin].to_owned())
}

fn rename_under(
    tensors: &mut BTreeMap<String, Tensor>,
    places: &BTreeSet<String>,
    renamed: impl Fn(&str) -> String,
) {
    if places.is_empty() {
        return;
    }
    *tensors = std::mem::take(tensors)
        .into_iter()
        .map(|(name, tensor)| {
            // Of places within each other the innermost.
            let place = places.iter().filter(|place| name.starts_with(*place));
            let name = match place.max_by_key(|place| place.len()) {
                Some(place) => format!("{place}{}", renamed(&name[place.len()..])),
                None => name,
            };
            (name, tensor)
        })
        .collect();
}

/// The name here of a tensor of a network for classification.
fn classifier_name(name: &str) -> String {
    let of_head = name.strip_prefix(HEAD).and_then(|rest| {
        let (place, tensor) = rest.split_once('.')?;
        let place: usize = place.parse().ok()?;
        let (layer, part) = (place / HEAD_STEP, place % HEAD_STEP);
        Some(format!(
            "prediction.head.{}.{part}.{tensor}",
            layer.checked_mul(2)?
        ))
    });
    // Point-M2AE and I2P-MAE have their encoder in a module of its own, but for its last norm.
    of_head.unwrap_or_else(|| format!("encoder.{}", name.strip_prefix("h_encoder.").unwrap_or(name)))
}

#[cfg(test)]
mod tests {
    use tch::{Device, Kind};

    use super::*;

    fn renamed(names: &[&str]) -> Vec<String> {
        let tensor = || Tensor::zeros([1], (Kind::Float, Device::Cpu));
        let mut tensors = names.iter().map(|name| ((*name).to_owned(), tensor())).collect();
        rename(&mut tensors);
        tensors.into_keys().collect()
    }

    #[test]
    fn heads_and_encoders_of_point_mae_and_i2p_mae_get_our_names() {
        let at = "base_model.module.";
        let of_file = [
            "best_metrics.acc",
            "base_model.module.blocks.blocks.0.norm1.weight",
            "base_model.module.cls_head_finetune.0.weight",
            "base_model.module.cls_head_finetune.1.running_mean",
            "base_model.module.cls_head_finetune.4.bias",
            "base_model.module.cls_head_finetune.8.weight",
            "base_model.module.encoder.first_conv.0.weight",
            "base_model.module.h_encoder.token_embed.0.first_conv.0.weight",
            "base_model.module.norm.bias",
        ];
        let mut expected: Vec<String> = [
            "encoder.blocks.blocks.0.norm1.weight",
            "encoder.encoder.first_conv.0.weight",
            "encoder.norm.bias",
            "encoder.token_embed.0.first_conv.0.weight",
            "prediction.head.0.0.weight",
            "prediction.head.0.1.running_mean",
            "prediction.head.2.0.bias",
            "prediction.head.4.0.weight",
        ]
        .map(|name| format!("{at}{name}"))
        .into();
        expected.push(String::from("best_metrics.acc"));
        assert_eq!(renamed(&of_file), expected);
    }

    #[test]
    fn networks_for_parts_get_our_prefix_once() {
        assert_eq!(
            renamed(&[
                "model_state_dict.convs3.weight",
                "model_state_dict.norm.bias",
                "epoch"
            ]),
            [
                "epoch",
                "model_state_dict.segmentor.convs3.weight",
                "model_state_dict.segmentor.norm.bias"
            ]
        );
        let ours = ["model.segmentor.convs3.weight", "model.segmentor.norm.bias"];
        assert_eq!(renamed(&ours), ours);
    }
}
