//! Weights by recipe: a hash of the parameter's name and the position of the element, so that none need be shipped.

use tch::Tensor;

/// Values of one entry of a checkpoint, flat.
pub(crate) fn generate(name: &str, shape: &[i64], salt: u32) -> Vec<f32> {
    let start = crc32(name.as_bytes()) ^ salt;
    let (center, spread) = range(name, shape);
    let len: i64 = shape.iter().product();
    (0..len as u32)
        .map(|k| (center + spread * unit(start, k)) as f32)
        .collect()
}

/// Overwrites a parameter or buffer.
pub(crate) fn assign(name: &str, tensor: &Tensor, salt: u32) {
    let shape = tensor.size();
    let values = Tensor::from_slice(&generate(name, &shape, salt)).view(shape.as_slice());
    tch::no_grad(|| tensor.shallow_clone().copy_(&values));
}

/// CRC-32 as in zlib.
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |crc, &byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| {
            (crc >> 1) ^ (0xEDB8_8320 & 0u32.wrapping_sub(crc & 1))
        })
    })
}

/// A number in [-1, 1): the finalizer of `MurmurHash3` on a running count.
fn unit(start: u32, k: u32) -> f64 {
    let mut hash = start.wrapping_add(k.wrapping_mul(0x9E37_79B9));
    hash = (hash ^ (hash >> 16)).wrapping_mul(0x85EB_CA6B);
    hash = (hash ^ (hash >> 13)).wrapping_mul(0xC2B2_AE35);
    hash ^= hash >> 16;
    2.0 * (f64::from(hash >> 8) / f64::from(1 << 24)) - 1.0
}

/// Center and spread of the values, by the first rule that matches the name and shape.
fn range(name: &str, shape: &[i64]) -> (f64, f64) {
    let last = name.rsplit('.').next().unwrap_or(name);
    let numel: i64 = shape.iter().product();
    let fan = numel as f64 / shape.first().copied().unwrap_or(1) as f64;
    if name.ends_with("running_var") {
        (1.0, 0.5)
    } else if name.ends_with("running_mean") || name.ends_with("affine_beta") {
        (0.0, 0.1)
    } else if name.ends_with("affine_alpha") {
        (1.0, 0.2)
    } else if ["cls_token", "cls_pos", "pad_memory", "mask_token"].contains(&last) {
        (0.0, 0.2)
    } else if name.ends_with(".net2.1.weight") {
        (0.25, 0.05)
    } else if name.ends_with(".transfer.net.1.weight") {
        (0.5, 0.1)
    } else if name.ends_with(".weight") && shape.len() == 1 {
        (1.0, 0.2)
    } else if name.ends_with("bias") {
        (0.0, 0.1)
    } else if shape.len() == 4 && shape[2] * shape[3] > 1 {
        (
            0.0,
            (3.0 / (shape[0] as f64 * (shape[2] * shape[3]) as f64 / 4.0)).sqrt(),
        )
    } else if name.starts_with("generator.") {
        (0.0, (3.0 / fan).sqrt())
    } else {
        (0.0, (6.0 / fan).sqrt())
    }
}
