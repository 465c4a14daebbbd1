//! Why no tensor of a file fits an encoder, in words: what the file holds, and what comes closest.

use std::collections::BTreeMap;

use tch::Tensor;

use super::import::shapes;
use crate::model::EncoderConfig;

/// Tensors, or pairs of them, that are named.
const MAX_NAMED: usize = 3;

/// A tensor of the file beside the tensor of an encoder whose name ends most like its own.
struct Pair<'a> {
    /// Parts that both names end with.
    num_common: usize,
    is_of_same_shape: bool,
    in_file: (&'a String, Vec<i64>),
    in_encoder: (String, Vec<i64>),
}

/// What is said of a file of which nothing fits any of the encoders, under `prefix` if one was given.
pub(super) fn nothing_fits(
    tensors: &BTreeMap<String, Tensor>,
    encoders: &[(String, EncoderConfig)],
    prefix: Option<&str>,
    passed_over: &[String],
) -> String {
    let skipped = match passed_over {
        [] => String::new(),
        [first, ..] => format!(
            "; {} objects were passed over, not run: {first}, ...",
            passed_over.len()
        ),
    };
    if tensors.is_empty() {
        return format!(
            "the file holds no tensors{skipped}; save them in Python with torch.save(model.state_dict(), 'weights.pth')"
        );
    }
    let names: Vec<&str> = encoders.iter().map(|(name, _)| name.as_str()).collect();
    let place = prefix.map_or_else(String::new, |prefix| format!(" under '{prefix}'"));
    format!(
        "none of the {} tensors fits an encoder of {}{place}; {}{skipped}",
        tensors.len(),
        names.join(", "),
        closest(tensors, encoders)
    )
}

fn closest(tensors: &BTreeMap<String, Tensor>, encoders: &[(String, EncoderConfig)]) -> String {
    let networks: Vec<Vec<(String, Vec<i64>)>> = encoders.iter().map(|(_, config)| shapes(config)).collect();
    let mut pairs: Vec<Pair<'_>> = tensors
        .iter()
        .filter_map(|(name, tensor)| {
            let size = tensor.size();
            let of_networks = networks.iter().flatten().map(|(own, own_size)| Pair {
                num_common: num_common_parts(name, own),
                is_of_same_shape: size == *own_size,
                in_file: (name, size.clone()),
                in_encoder: (own.clone(), own_size.clone()),
            });
            of_networks.max_by_key(|pair| (pair.num_common, pair.is_of_same_shape))
        })
        .collect();
    pairs.sort_by_key(|pair| std::cmp::Reverse((pair.num_common, pair.is_of_same_shape)));
    let texts: Vec<String> = pairs
        .iter()
        .take(MAX_NAMED)
        .map(|pair| {
            let ((name, size), (own, own_size)) = (&pair.in_file, &pair.in_encoder);
            format!("{name} {size:?} of the file and {own} {own_size:?} of an encoder")
        })
        .collect();
    format!("closest are {}", texts.join(", "))
}

/// How many parts two dotted names have in common at their ends.
fn num_common_parts(a: &str, b: &str) -> usize {
    a.rsplit('.')
        .zip(b.rsplit('.'))
        .take_while(|(a, b)| a == b)
        .count()
}
