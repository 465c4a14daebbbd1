//! The values of a tensor in place, for loops that libtorch has no single operation for.

use tch::{Device, Kind, Tensor};

/// The values of a contiguous `f32` tensor in main memory; none for any other tensor.
///
/// Views of the same storage see what is written. Take care that no operation of torch runs on it meanwhile.
#[allow(unsafe_code, reason = "a tensor's memory is only to be had as a pointer")]
pub(crate) fn floats_mut(tensor: &mut Tensor) -> Option<&mut [f32]> {
    let is_plain = tensor.defined()
        && tensor.device() == Device::Cpu
        && tensor.kind() == Kind::Float
        && tensor.is_contiguous();
    // SAFETY: a contiguous CPU tensor of `f32` holds `numel` of them from its data pointer on, aligned as the allocator
    // aligned them; they live as long as the tensor, which is borrowed for as long as the slice.
    is_plain.then(|| unsafe {
        let (start, length) = (tensor.data_ptr().cast::<f32>(), tensor.numel());
        if length == 0 {
            return &mut [][..];
        }
        std::slice::from_raw_parts_mut(start, length)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_tensors_give_their_memory() {
        let mut tensor = Tensor::zeros([2, 3], (Kind::Float, Device::Cpu));
        floats_mut(&mut tensor).expect("it is plain")[4] = 5.0;
        assert!(
            (tensor.double_value(&[1, 1]) - 5.0).abs() < 1e-9,
            "written in place"
        );
        assert!(
            floats_mut(&mut tensor.transpose(0, 1)).is_none(),
            "not contiguous"
        );
        assert!(floats_mut(&mut tensor.to_kind(Kind::Double)).is_none(), "not f32");
        assert!(
            floats_mut(&mut Tensor::zeros([0], (Kind::Float, Device::Cpu)))
                .is_some_and(|floats| floats.is_empty()),
            "nothing is plain too"
        );
    }
}
