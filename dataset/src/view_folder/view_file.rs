//! Files of a view: one per channel, and its entry in `views.json`.

use glam::{Mat3, Vec3};
use png::BitDepth;
use tap_render::{PoseDegrees, View, ViewMatrices, row_major};

use super::folder::Files;
use super::image_file;
use super::views_file::{DepthFormat, NormalFormat, NormalSpace, Output, ViewEntry};
use crate::error::Result;
use crate::npy;

/// Appends the files of a view and returns its entry.
pub(super) fn encode(view_idx: usize, view: &View, output: &Output, files: &mut Files) -> Result<ViewEntry> {
    let View {
        pose,
        matrices,
        size_px,
        color,
        mask,
        depth,
        normal,
        albedo,
        part,
        material,
    } = view;
    let stem = format!("view_{:03}", view_idx + 1);
    let PoseDegrees {
        azimuth_deg,
        elevation_deg,
        roll_deg,
    } = (*pose).into();
    let mut entry = ViewEntry {
        azimuth_deg,
        elevation_deg,
        roll_deg,
        view_from_object: row_major(&matrices.view_from_object),
        clip_from_view: row_major(&matrices.clip_from_view),
        ..ViewEntry::default()
    };
    let mut push = |suffix: &str, bytes: Vec<u8>| {
        let name = format!("{stem}{suffix}");
        files.push((name.clone(), bytes));
        Some(name)
    };
    if let Some(color) = color {
        entry.file = push(".png", image_file::color_png(*size_px, color)?);
    }
    if let Some(mask) = mask {
        let pixels: Vec<u8> = mask
            .covered()
            .iter()
            .map(|&is_covered| if is_covered { u8::MAX } else { 0 })
            .collect();
        entry.coverage = Some(mask.coverage());
        entry.mask_file = push("_mask.png", image_file::gray_png(*size_px, &pixels)?);
    }
    if let Some(depth) = depth {
        match output.depth_format {
            DepthFormat::Png => {
                let (png, range) = image_file::depth_png(*size_px, depth)?;
                entry.depth = Some(range);
                entry.depth_file = push("_depth.png", png);
            }
            DepthFormat::Npy => {
                let side = *size_px as usize;
                entry.depth_file = push("_depth.npy", npy::encode_f32(&[side, side], depth));
            }
        }
    }
    if let Some(normal) = normal {
        let bit_depth = match output.normal_format {
            NormalFormat::Png => BitDepth::Eight,
            NormalFormat::Png16 => BitDepth::Sixteen,
        };
        let png = match output.normal_space {
            NormalSpace::View => image_file::normal_png(*size_px, normal, bit_depth)?,
            NormalSpace::Object => image_file::normal_png(*size_px, &in_object(normal, matrices), bit_depth)?,
        };
        entry.normal_file = push("_normal.png", png);
    }
    if let Some(albedo) = albedo {
        entry.albedo_file = push("_albedo.png", image_file::rgb_png(*size_px, albedo)?);
    }
    if let Some(part) = part {
        entry.part_file = push("_part.png", image_file::label_png(*size_px, part)?);
    }
    if let Some(material) = material {
        entry.material_file = push("_material.png", image_file::label_png(*size_px, material)?);
    }
    Ok(entry)
}

/// Normals from view space to object space; zero in the background.
fn in_object(normals: &[[f32; 3]], matrices: &ViewMatrices) -> Vec<[f32; 3]> {
    // The inverse of a rotation is its transpose.
    let object_from_view = Mat3::from_mat4(matrices.view_from_object).transpose();
    let rotate = |normal: &[f32; 3]| (object_from_view * Vec3::from(*normal)).to_array();
    normals.iter().map(rotate).collect()
}
