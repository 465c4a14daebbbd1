//! `EXT_mesh_gpu_instancing`: a node that shows its mesh many times, each time moved, rotated and scaled.
//!
//! Source: <https://github.com/KhronosGroup/glTF/tree/main/extensions/2.0/Vendor/EXT_mesh_gpu_instancing>.

use glam::{DMat4, DQuat, DVec3};
use gltf::{Document, Node};

use super::{ImportError, Reader, file_error};

/// The extension's name.
pub(super) const NAME: &str = "EXT_mesh_gpu_instancing";

/// The transform of each instance relative to its node; `None` if the node has none of the extension.
pub(super) fn node_from_instances(
    document: &Document,
    node: &Node<'_>,
    reader: &mut Reader<'_>,
) -> Result<Option<Vec<DMat4>>, ImportError> {
    let Some(extension) = node.extension_value(NAME) else {
        return Ok(None);
    };
    let mut numbers = |attribute: &str, num_components: usize| {
        let accessor = extension
            .get("attributes")
            .and_then(|attributes| attributes.get(attribute));
        let Some(accessor) = accessor else { return Ok(None) };
        let index = accessor.as_u64().and_then(|index| usize::try_from(index).ok());
        let accessor = index.and_then(|index| document.accessors().nth(index));
        let accessor =
            accessor.ok_or_else(|| file_error("instances refer to an accessor that does not exist"))?;
        reader.numbers(&accessor, num_components).map(Some)
    };
    let translations = numbers("TRANSLATION", 3)?;
    let rotations = numbers("ROTATION", 4)?;
    let scales = numbers("SCALE", 3)?;
    let counts = [(&translations, 3), (&rotations, 4), (&scales, 3)];
    let mut counts = counts
        .into_iter()
        .filter_map(|(numbers, num_components)| Some(numbers.as_ref()?.len() / num_components));
    let num_instances = counts.next().unwrap_or(0);
    if counts.any(|count| count != num_instances) {
        return Err(file_error("the attributes of instances differ in number"));
    }
    let vector = |numbers: &Option<Vec<f64>>, instance: usize, default: DVec3| {
        let numbers = numbers.as_ref();
        numbers.map_or(default, |numbers| DVec3::from_slice(&numbers[3 * instance..]))
    };
    let transform = |instance: usize| {
        let rotation = rotations.as_ref().map_or(DQuat::IDENTITY, |numbers| {
            DQuat::from_slice(&numbers[4 * instance..])
        });
        let is_rotation = rotation.length_squared() > 0.0;
        DMat4::from_scale_rotation_translation(
            vector(&scales, instance, DVec3::ONE),
            if is_rotation {
                rotation.normalize()
            } else {
                DQuat::IDENTITY
            },
            vector(&translations, instance, DVec3::ZERO),
        )
    };
    Ok(Some((0..num_instances).map(transform).collect()))
}
