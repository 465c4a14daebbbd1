//! The names under which 2D networks are published, as the names of timm.
//!
//! OpenAI and `open_clip`, `transformers`, and DINO's own code name the same tensors differently and store some of them in
//! other shapes: query, key and value apart, projections transposed, tokens without leading ones. CLIP's ResNets keep their
//! own names, which all have in common.

use std::collections::BTreeMap;

use strum::Display;
use tch::Tensor;

/// Tensors that are named where a file is of no known network.
const MAX_NAMED: usize = 3;
/// Axes of tokens and positions: 1,T,C.
const TOKEN_AXES: usize = 3;

/// Whose names the tensors of a network have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Display)]
pub enum Naming {
    /// A ResNet of CLIP, by OpenAI or `open_clip`.
    #[strum(to_string = "CLIP's ResNets")]
    ClipResNet,
    /// A Transformer of CLIP, by OpenAI or `open_clip`.
    #[strum(to_string = "OpenAI and open_clip")]
    OpenClip,
    /// CLIP in `transformers`.
    #[strum(to_string = "CLIP in transformers")]
    TransformersClip,
    /// DINO, DINOv2 and ViT in `transformers`.
    #[strum(to_string = "ViT and DINOv2 in transformers")]
    TransformersVit,
    /// timm, DINO and DINOv2 themselves.
    #[strum(to_string = "timm and DINO")]
    Timm,
}

impl Naming {
    const ALL: [Self; 5] = [
        Self::ClipResNet,
        Self::OpenClip,
        Self::TransformersClip,
        Self::TransformersVit,
        Self::Timm,
    ];

    /// Two tensors by which it is told.
    fn signs(self) -> [&'static str; 2] {
        match self {
            Self::ClipResNet => ["attnpool.positional_embedding", "layer1.0.conv1.weight"],
            Self::OpenClip => ["class_embedding", "conv1.weight"],
            Self::TransformersClip => ["embeddings.class_embedding", "embeddings.patch_embedding.weight"],
            Self::TransformersVit => [
                "embeddings.cls_token",
                "embeddings.patch_embeddings.projection.weight",
            ],
            Self::Timm => ["cls_token", "patch_embed.proj.weight"],
        }
    }

    /// Beginnings of names, and of timm's for the same; `*` is a number.
    fn table(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Self::ClipResNet => &[],
            Self::OpenClip => &[
                ("class_embedding", "cls_token"),
                ("positional_embedding", "pos_embed"),
                ("conv1", "patch_embed.proj"),
                ("ln_pre", "norm_pre"),
                ("transformer.resblocks.*.ln_1", "blocks.*.norm1"),
                (
                    "transformer.resblocks.*.attn.in_proj_weight",
                    "blocks.*.attn.qkv.weight",
                ),
                (
                    "transformer.resblocks.*.attn.in_proj_bias",
                    "blocks.*.attn.qkv.bias",
                ),
                ("transformer.resblocks.*.attn.out_proj", "blocks.*.attn.proj"),
                ("transformer.resblocks.*.ls_1", "blocks.*.ls1"),
                ("transformer.resblocks.*.ln_2", "blocks.*.norm2"),
                ("transformer.resblocks.*.mlp.c_fc", "blocks.*.mlp.fc1"),
                ("transformer.resblocks.*.mlp.c_proj", "blocks.*.mlp.fc2"),
                ("transformer.resblocks.*.ls_2", "blocks.*.ls2"),
                ("ln_post", "norm"),
                ("proj", TRANSPOSED_HEAD),
            ],
            Self::TransformersClip => &[
                ("embeddings.class_embedding", "cls_token"),
                ("embeddings.position_embedding.weight", "pos_embed"),
                ("embeddings.patch_embedding", "patch_embed.proj"),
                ("pre_layrnorm", "norm_pre"),
                ("encoder.layers.*.layer_norm1", "blocks.*.norm1"),
                ("encoder.layers.*.self_attn.q_proj", "blocks.*.attn.q"),
                ("encoder.layers.*.self_attn.k_proj", "blocks.*.attn.k"),
                ("encoder.layers.*.self_attn.v_proj", "blocks.*.attn.v"),
                ("encoder.layers.*.self_attn.out_proj", "blocks.*.attn.proj"),
                ("encoder.layers.*.layer_norm2", "blocks.*.norm2"),
                ("encoder.layers.*.mlp", "blocks.*.mlp"),
                ("post_layernorm", "norm"),
            ],
            Self::TransformersVit => &[
                ("embeddings.cls_token", "cls_token"),
                ("embeddings.position_embeddings", "pos_embed"),
                ("embeddings.register_tokens", "reg_token"),
                ("embeddings.patch_embeddings.projection", "patch_embed.proj"),
                ("encoder.layer.*.layernorm_before", "blocks.*.norm1"),
                ("encoder.layer.*.norm1", "blocks.*.norm1"),
                ("encoder.layer.*.attention.attention.query", "blocks.*.attn.q"),
                ("encoder.layer.*.attention.attention.key", "blocks.*.attn.k"),
                ("encoder.layer.*.attention.attention.value", "blocks.*.attn.v"),
                ("encoder.layer.*.attention.output.dense", "blocks.*.attn.proj"),
                // In memory, since version 5.
                ("encoder.layer.*.attention.q_proj", "blocks.*.attn.q"),
                ("encoder.layer.*.attention.k_proj", "blocks.*.attn.k"),
                ("encoder.layer.*.attention.v_proj", "blocks.*.attn.v"),
                ("encoder.layer.*.attention.o_proj", "blocks.*.attn.proj"),
                ("encoder.layer.*.layer_scale1.lambda1", "blocks.*.ls1.gamma"),
                ("encoder.layer.*.layernorm_after", "blocks.*.norm2"),
                ("encoder.layer.*.norm2", "blocks.*.norm2"),
                ("encoder.layer.*.intermediate.dense", "blocks.*.mlp.fc1"),
                ("encoder.layer.*.output.dense", "blocks.*.mlp.fc2"),
                ("encoder.layer.*.mlp.weights_in", "blocks.*.mlp.fc1"),
                ("encoder.layer.*.mlp.weights_out", "blocks.*.mlp.fc2"),
                ("encoder.layer.*.mlp", "blocks.*.mlp"),
                ("encoder.layer.*.layer_scale2.lambda1", "blocks.*.ls2.gamma"),
                ("layernorm", "norm"),
            ],
            Self::Timm => &[
                ("register_tokens", "reg_token"),
                ("blocks.*.mlp.w12", "blocks.*.mlp.fc1"),
                ("blocks.*.mlp.w3", "blocks.*.mlp.fc2"),
            ],
        }
    }

    /// timm's name of a tensor; its own where the table has none.
    fn translate(self, name: &str) -> String {
        let found = self
            .table()
            .iter()
            .find_map(|(from, to)| replace_beginning(name, from, to));
        found.unwrap_or_else(|| name.to_owned())
    }
}

/// A projection as a matrix that tokens are multiplied with from the left.
const TRANSPOSED_HEAD: &str = "head.transposed";
/// CLIP in `transformers`: the Transformer, and the projection beside it.
const VISION_MODEL: &str = "vision_model.";
const PROJECTION: &str = "visual_projection.weight";
/// What the archives of OpenAI have beside the weights.
const OPENAI_SIGNS: [&str; 3] = ["input_resolution", "context_length", "vocab_size"];

/// `name` with `to` in place of its beginning `from`, both in whole parts; the number at `*` is taken over.
fn replace_beginning(name: &str, from: &str, to: &str) -> Option<String> {
    let mut parts = name.split('.');
    let mut number = "";
    for wanted in from.split('.') {
        let part = parts.next()?;
        match wanted {
            "*" if !part.is_empty() && part.bytes().all(|digit| digit.is_ascii_digit()) => number = part,
            _ if part == wanted => {}
            _ => return None,
        }
    }
    let beginning = to.replace('*', number);
    Some(parts.fold(beginning, |name, part| format!("{name}.{part}")))
}

/// The tensors of a network in a file.
#[derive(Debug)]
pub(super) struct Published {
    pub(super) naming: Naming,
    pub(super) prefix: String,
    pub(super) other_prefixes: Vec<String>,
    /// By timm's names.
    pub(super) tensors: BTreeMap<String, Tensor>,
    /// Names in the file by those of timm.
    pub(super) names: BTreeMap<String, String>,
    /// Tensors under the prefix, as the file counts them.
    pub(super) num_tensors: usize,
    pub(super) num_elsewhere: usize,
    /// Whether the file is an archive by OpenAI.
    pub(super) is_by_openai: bool,
}

impl Published {
    /// Finds the network in a file.
    ///
    /// # Errors
    /// Where there is none, what the tensors look like instead; where a number is infinite or not a number, its tensor.
    pub(super) fn find(file: &BTreeMap<String, Tensor>) -> Result<Self, String> {
        let (naming, mut prefixes) = Naming::ALL
            .into_iter()
            .map(|naming| (naming, prefixes(file, naming)))
            .find(|(_, prefixes)| !prefixes.is_empty())
            .ok_or_else(|| unknown(file))?;
        // DINO is used as its teacher, which the published weights are of; of others the shortest name is the network's own.
        prefixes.sort_by_key(|prefix| (!prefix.contains("teacher"), prefix.len()));
        let prefix = prefixes.remove(0);
        let (mut tensors, mut names) = (BTreeMap::new(), BTreeMap::new());
        // Beside the Transformer, not in it.
        let projection = prefix
            .strip_suffix(VISION_MODEL)
            .map(|outer| format!("{outer}{PROJECTION}"));
        for (name, tensor) in file {
            let translated = match name.strip_prefix(&prefix) {
                Some(rest) => naming.translate(rest),
                None if Some(name) == projection.as_ref() => String::from("head.weight"),
                None => continue,
            };
            if !is_finite(tensor) {
                return Err(format!("'{name}' is not finite, so the weights are of no use"));
            }
            names.insert(translated.clone(), name.clone());
            tensors.insert(translated, tensor.shallow_clone());
        }
        let num_tensors = tensors.len();
        merge_query_key_value(&mut tensors)?;
        if let Some(head) = tensors.remove(TRANSPOSED_HEAD) {
            if head.dim() != 2 {
                return Err(format!("'{prefix}proj' is {:?} and no matrix", head.size()));
            }
            tensors.insert(String::from("head.weight"), head.transpose(0, 1));
        }
        if naming != Naming::ClipResNet {
            for name in ["cls_token", "pos_embed", "reg_token"] {
                if let Some(tensor) = tensors.get_mut(name) {
                    let size = tensor.size();
                    if !(1..=TOKEN_AXES).contains(&size.len()) {
                        return Err(format!("'{}' is {size:?}, expected [1, T, C]", names[name]));
                    }
                    let ones = vec![1; TOKEN_AXES - size.len()];
                    *tensor = tensor.view([ones, size].concat().as_slice());
                }
            }
        }
        Ok(Self {
            naming,
            is_by_openai: OPENAI_SIGNS.iter().all(|sign| file.contains_key(*sign)),
            num_elsewhere: file.len() - num_tensors,
            prefix,
            other_prefixes: prefixes,
            tensors,
            names,
            num_tensors,
        })
    }
}

/// Prefixes under which a file has the signs of a naming.
fn prefixes(file: &BTreeMap<String, Tensor>, naming: Naming) -> Vec<String> {
    let [sign, other] = naming.signs();
    let names = file.keys();
    names
        .filter_map(|name| prefix_of(name, sign))
        .filter(|prefix| file.contains_key(&format!("{prefix}{other}")))
        .map(ToOwned::to_owned)
        .collect()
}

/// What stands before `sign` in a name that ends with it, in whole parts.
fn prefix_of<'a>(name: &'a str, sign: &str) -> Option<&'a str> {
    name.strip_suffix(sign)
        .filter(|prefix| prefix.is_empty() || prefix.ends_with('.'))
}

fn is_finite(tensor: &Tensor) -> bool {
    tensor.to_kind(tch::Kind::Float).isfinite().all().int64_value(&[]) == 1
}

/// Makes one matrix of `attn.q`, `attn.k` and `attn.v` of each block.
fn merge_query_key_value(tensors: &mut BTreeMap<String, Tensor>) -> Result<(), String> {
    let queries: Vec<String> = tensors
        .keys()
        .filter(|name| name.contains(".attn.q."))
        .cloned()
        .collect();
    for query in queries {
        let parts = ["q", "k", "v"].map(|part| query.replacen(".attn.q.", &format!(".attn.{part}."), 1));
        let merged = query.replacen(".attn.q.", ".attn.qkv.", 1);
        let found: Vec<Tensor> = parts.iter().filter_map(|name| tensors.remove(name)).collect();
        if found.len() < parts.len() {
            return Err(format!("{merged} lacks one of query, key and value"));
        }
        let joined = Tensor::f_cat(&found, 0)
            .map_err(|_| format!("{merged}: query, key and value differ in shape"))?;
        tensors.insert(merged, joined);
    }
    Ok(())
}

/// What a network that is none of ours looks like, by a tensor that it has.
const LOOKS_LIKE: [(&str, &str); 12] = [
    ("attn_pool.latent", "SigLIP, which has no class token"),
    ("vision_model.head.probe", "SigLIP, which has no class token"),
    ("features.0.weight", "VGG or AlexNet of torchvision"),
    ("layer1.0.conv1.weight", "a ResNet without attention pooling"),
    ("stages.0.blocks.0.conv_dw.weight", "ConvNeXt"),
    ("layers.0.blocks.0.attn.relative_position_bias_table", "Swin"),
    (
        "text_model.embeddings.token_embedding.weight",
        "the text encoder of CLIP",
    ),
    ("token_embedding.weight", "the text encoder of CLIP"),
    ("decoder_embed.weight", "the decoder of a masked autoencoder"),
    ("encoder.first_conv.0.weight", "a network on point clouds"),
    ("token_embed.0.first_conv.0.weight", "a network on point clouds"),
    ("embedding.net.0.weight", "a network on point clouds"),
];

/// What is said of a file without a known network.
fn unknown(file: &BTreeMap<String, Tensor>) -> String {
    const EXPECTED: &str = "expected a vision Transformer with a class token (CLIP, DINO, DINOv2) or a ResNet of CLIP, under the names of \
                            OpenAI, open_clip, DINO, timm or transformers";
    if file.is_empty() {
        return format!("the file holds no tensors; {EXPECTED}");
    }
    let looks = LOOKS_LIKE.iter().find_map(|(sign, network)| {
        let has_sign = |name: &String| prefix_of(name, sign).is_some();
        file.keys().any(has_sign).then_some(*network)
    });
    let looks = looks.map_or_else(
        || {
            let named = file.iter().take(MAX_NAMED);
            let named: Vec<String> = named
                .map(|(name, tensor)| format!("{name} {:?}", tensor.size()))
                .collect();
            format!(
                "{} tensors of an unknown network ({}, ...)",
                file.len(),
                named.join(", ")
            )
        },
        |network| format!("it looks like {network}"),
    );
    format!("{looks}; {EXPECTED}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn beginnings_are_replaced_in_whole_parts() {
        let naming = Naming::OpenClip;
        assert_eq!(
            naming.translate("transformer.resblocks.11.ln_1.weight"),
            "blocks.11.norm1.weight"
        );
        assert_eq!(
            naming.translate("transformer.resblocks.0.attn.in_proj_bias"),
            "blocks.0.attn.qkv.bias"
        );
        assert_eq!(naming.translate("proj"), TRANSPOSED_HEAD);
        assert_eq!(
            naming.translate("projection.weight"),
            "projection.weight",
            "another word"
        );
        assert_eq!(
            naming.translate("transformer.resblocks.x.ln_1.weight"),
            "transformer.resblocks.x.ln_1.weight"
        );
    }
}
