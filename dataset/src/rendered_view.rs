//! Conversion between rendered views and stored G-buffers.
//!
//! The renderer gives normals in view space and linear distance to the eye plane. Stored are normals in
//! object space, which all views share, and NDC depth, which needs no range of its own.

use glam::{DMat4, Mat3, Mat4, Vec3};
use tap_render::{ColorImage, Mask, PoseDegrees, View, ViewMatrices};

use super::GbufferPixels;
use crate::error::{DatasetError, ImageError, Result};
use crate::image::{Pixels, decode_pixels};
use crate::reprojection::from_row_major;
use crate::schema::SampleView;

impl GbufferPixels {
    /// The G-buffer of a rendered view; `None` if its channels were not rendered.
    pub(crate) fn from_view(view: &View, has_albedo: bool) -> Option<Self> {
        let View {
            matrices,
            depth,
            normal,
            albedo,
            ..
        } = view;
        let object_from_view = Mat3::from_mat4(matrices.view_from_object).transpose();
        let scale = DepthProjection::from_matrix(&matrices.clip_from_view);
        Some(Self {
            normals: normal
                .as_ref()?
                .iter()
                .map(|normal| (object_from_view * Vec3::from(*normal)).to_array())
                .collect(),
            depth: depth.as_ref()?.iter().map(|&depth| scale.depth(depth)).collect(),
            albedo: albedo.clone().filter(|_| has_albedo),
        })
    }
}

impl SampleView {
    /// The stored view as the renderer's type; `None` without a G-buffer.
    ///
    /// # Errors
    /// When the image or the G-buffer is damaged.
    pub(crate) fn to_view(&self) -> Result<Option<View>> {
        let Self {
            image_png,
            mask,
            view_from_object,
            clip_from_view,
            gbuffer,
        } = self;
        let Some(gbuffer) = gbuffer else {
            return Ok(None);
        };
        let size_px = mask.size_px();
        let GbufferPixels {
            normals,
            depth,
            albedo,
        } = gbuffer.decode(size_px)?;
        let matrices = ViewMatrices {
            view_from_object: from_row_major(view_from_object),
            clip_from_view: from_row_major(clip_from_view),
        };
        let rotation = Mat3::from_mat4(matrices.view_from_object);
        let scale = DepthProjection::from_matrix(&matrices.clip_from_view);
        let covered = mask.to_pixels().into_iter().map(|covered| covered == 1).collect();
        Ok(Some(View {
            // Not stored, and not used by lighting: the matrices are sufficient.
            pose: PoseDegrees {
                azimuth_deg: 0.0,
                elevation_deg: 0.0,
                roll_deg: 0.0,
            }
            .into(),
            matrices,
            size_px,
            color: Some(match decode_pixels(image_png, size_px, size_px)? {
                Pixels::Gray8(values) => ColorImage::Gray(values),
                Pixels::Rgb8(bytes) => ColorImage::Rgb(bytes.as_chunks().0.to_vec()),
                Pixels::Gray16(_) => {
                    return Err(DatasetError::Image(ImageError::Format(
                        "16 bits of gray".to_owned(),
                    )));
                }
            }),
            mask: Mask::try_new(size_px, covered),
            normal: Some(
                normals
                    .iter()
                    .map(|normal| (rotation * Vec3::from(*normal)).normalize_or_zero().to_array())
                    .collect(),
            ),
            albedo,
            depth: Some(depth.iter().map(|&depth| scale.distance(depth)).collect()),
            part: None,
            material: None,
        }))
    }
}

/// Maps eye-plane distance to NDC depth: `(a z + b) / (c z + d)` with z < 0.
struct DepthProjection {
    a: f64,
    b: f64,
    c: f64,
    d: f64,
}

impl DepthProjection {
    fn from_matrix(clip_from_view: &Mat4) -> Self {
        let DMat4 { z_axis, w_axis, .. } = clip_from_view.as_dmat4();
        Self {
            a: z_axis.z,
            b: w_axis.z,
            c: z_axis.w,
            d: w_axis.w,
        }
    }

    fn depth(&self, distance: f32) -> f64 {
        let Self { a, b, c, d } = self;
        let z = -f64::from(distance);
        if z.is_finite() {
            (a * z + b) / (c * z + d)
        } else {
            f64::INFINITY
        }
    }

    fn distance(&self, depth: f64) -> f32 {
        let Self { a, b, c, d } = self;
        if depth.is_finite() {
            ((b - d * depth) / (a - c * depth)) as f32
        } else {
            f32::INFINITY
        }
    }
}

#[cfg(test)]
mod tests {
    use glam::Vec4;

    use super::*;

    #[test]
    fn depth_and_distance_are_inverse() {
        // Both have near 5 and far 9.
        let perspective = Mat4::from_cols(
            Vec4::X,
            Vec4::Y,
            Vec4::new(0.0, 0.0, -2.25, -1.0),
            Vec4::Z * -11.25,
        );
        let orthographic =
            Mat4::from_cols(Vec4::X, Vec4::Y, Vec4::Z * -0.25, Vec4::new(0.0, 0.0, -1.25, 1.0));
        for scale in [perspective, orthographic].map(|matrix| DepthProjection::from_matrix(&matrix)) {
            assert!(scale.depth(5.0).abs() < 1e-6, "near is 0");
            assert!((scale.depth(9.0) - 1.0).abs() < 1e-6, "far is 1");
            for distance in [5.0, 6.1, 7.0, 8.999] {
                let back = scale.distance(scale.depth(distance));
                assert!((back - distance).abs() < 1e-5, "{back} and {distance}");
            }
            assert!(
                scale.distance(scale.depth(f32::INFINITY)).is_infinite(),
                "nothing is far"
            );
        }
    }
}
