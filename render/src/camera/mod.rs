//! Cameras: the one module that builds matrices and defines the axes.
//!
//! - **Object space** is right-handed: +x right, +y up, +z front.
//! - **View space** is that of OpenGL: +x right, +y up, +z towards the viewer, who looks along -z. `view_from_object`
//!   is rigid.
//! - **Clip space**: a point is a column, `clip = clip_from_view * view_from_object * (x, y, z, 1)` and `ndc = clip.xyz
//! / clip.w`; depth is 0 at the near plane and 1 at the far one.
//! - **Pixels**: `x_px = (ndc.x / 2 + 1/2) * width_px`, `y_px = (1/2 - ndc.y / 2) * height_px`; the center of the top
//!   left pixel is at (1/2, 1/2).
//!
//! Outputs store matrices row by row ([`row_major`]).
//!
//! Framing measures on the *image plane*: `(x, y)` of view space under orthographic projection, `(x, y) / -z` under
//! perspective. A [`Window`] is the square of it that becomes the image. It need not be centered on the axis, which
//! makes the framing exact: an off-axis crop and zoom, in `clip_from_view`.

mod picture;
pub mod pose_format;
mod rig;
mod rig_spec;

use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;

use glam::{DMat4, DVec2, DVec3, DVec4, Mat4, Vec2, Vec3};
use serde::{Deserialize, Serialize};
use wide::f32x4;

use crate::parse::ParseError;
use crate::simd::{SplatMat4, Vec3x4};
pub use rig::{Pose, PoseDegrees, Rig};
pub use rig_spec::{MAX_VIEWS, RigError, RigSpec};

/// Distance of MVCNN's eye from the center of the object's bounding box, in diagonals of that box
/// (`docs/conventions.md`, "Camera of MVCNN").
pub const MVCNN_DISTANCE_DIAGONALS: f32 = 4.6;
/// Valid distances. Below half a diagonal the eye may be inside the object.
const DISTANCES_DIAGONALS: RangeInclusive<f32> = 0.75..=1000.0;
/// Under orthographic projection the distance only offsets the depth.
const ORTHOGRAPHIC_DISTANCE_DIAGONALS: f64 = 1.0;
/// Margin between the object and the near and far planes, in diagonals.
const DEPTH_MARGIN_DIAGONALS: f64 = 0.01;

/// Projection of a view.
///
/// In a recipe and on a command line: `perspective` (MVCNN's), `perspective:D` (the eye D bounding-box diagonals from
/// the box's center), `orthographic` or, as the paper says and outputs store, `parallel`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Projection {
    /// Central projection.
    Perspective {
        /// Distance of the eye from the center of the object's bounding box, in diagonals of that box.
        distance_diagonals: f32,
    },
    /// All rays are parallel.
    Orthographic,
}

/// Why a camera's settings are not valid.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum CameraError {
    /// The eye would be inside of the object, or too far away.
    #[error("the eye must be 0.75 to 1000 diagonals away, not {distance_diagonals}")]
    Distance {
        /// The distance, in diagonals.
        distance_diagonals: f32,
    },
}

impl Projection {
    /// # Errors
    ///
    /// [`CameraError::Distance`] if the eye would be within the object or absurdly far.
    pub fn validate(&self) -> Result<(), CameraError> {
        match *self {
            Self::Perspective { distance_diagonals }
                if !DISTANCES_DIAGONALS.contains(&distance_diagonals) =>
            {
                Err(CameraError::Distance { distance_diagonals })
            }
            Self::Perspective { .. } | Self::Orthographic => Ok(()),
        }
    }
}

impl Default for Projection {
    fn default() -> Self {
        Self::Perspective {
            distance_diagonals: MVCNN_DISTANCE_DIAGONALS,
        }
    }
}

impl fmt::Display for Projection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Perspective { distance_diagonals } => write!(f, "perspective:{distance_diagonals}"),
            Self::Orthographic => f.write_str("parallel"),
        }
    }
}

impl FromStr for Projection {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let error = || ParseError {
            what: "projection",
            expected: "perspective, perspective:D, orthographic or parallel",
            found: text.to_owned(),
        };
        match text.split_once(':') {
            None if text == "perspective" => Ok(Self::default()),
            None if text == "parallel" || text == "orthographic" => Ok(Self::Orthographic),
            Some(("perspective", distance)) => {
                let distance_diagonals = distance.parse().map_err(|_| error())?;
                Ok(Self::Perspective { distance_diagonals })
            }
            _ => Err(error()),
        }
    }
}

impl TryFrom<String> for Projection {
    type Error = ParseError;

    fn try_from(text: String) -> Result<Self, ParseError> {
        text.parse()
    }
}

impl From<Projection> for String {
    fn from(projection: Projection) -> Self {
        projection.to_string()
    }
}

/// How an object fills the image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Framing {
    /// Per view: the longer side of the silhouette's bounding box is 0.9 of the image side, or less where the
    /// silhouette with its holes filled would cover more than 0.3 of the image. The box is centered.
    #[default]
    Mvcnn,
    /// Per view: the longer side of the silhouette's bounding box is 200/224 of the image side. The box is centered.
    Box,
    /// The same camera, but for its direction, for all views and objects: it looks at the origin, and the unit sphere
    /// is as wide as the image. The eye's distance counts the sphere's diameter as the diagonal.
    Sphere,
}

impl fmt::Display for Framing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Mvcnn => "mvcnn",
            Self::Box => "box",
            Self::Sphere => "sphere",
        })
    }
}

impl FromStr for Framing {
    type Err = ParseError;

    fn from_str(name: &str) -> Result<Self, ParseError> {
        match name {
            "mvcnn" => Ok(Self::Mvcnn),
            "box" => Ok(Self::Box),
            "sphere" => Ok(Self::Sphere),
            _ => Err(ParseError {
                what: "framing",
                expected: "mvcnn, box or sphere",
                found: name.to_owned(),
            }),
        }
    }
}

/// The two matrices of a view; see the module's documentation for their spaces.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ViewMatrices {
    /// The camera's pose, a rigid transform.
    pub view_from_object: Mat4,
    /// Projection and framing.
    pub clip_from_view: Mat4,
}

impl ViewMatrices {
    /// The product, computed in double precision and rounded once.
    #[must_use]
    pub fn clip_from_object(&self) -> Mat4 {
        (self.clip_from_view.as_dmat4() * self.view_from_object.as_dmat4()).as_mat4()
    }

    /// Projects a point to an image of `size_px` pixels a side, in pixels from its top left corner.
    #[must_use]
    pub fn pixel_of(&self, point_in_object: Vec3, size_px: u32) -> Vec2 {
        let ndc = self.clip_from_object().project_point3(point_in_object);
        Vec2::new(ndc.x / 2.0 + 0.5, 0.5 - ndc.y / 2.0) * size_px as f32
    }
}

/// The elements of a matrix row by row, as files store them.
#[must_use]
pub fn row_major(matrix: &Mat4) -> [f32; 16] {
    matrix.transpose().to_cols_array()
}

/// The square of the image plane that becomes the image.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Window {
    pub(crate) center: DVec2,
    pub(crate) half_side: f64,
}

/// A camera without its framing.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Camera {
    view_from_object: Mat4,
    is_perspective: bool,
    depth_margin: f64,
}

impl Camera {
    /// A camera that looks at `target` from the pose's direction. Distances are in units of `diagonal`.
    pub(crate) fn new(pose: &Pose, projection: Projection, target_in_object: DVec3, diagonal: f64) -> Self {
        let (is_perspective, distance_diagonals) = match projection {
            Projection::Perspective { distance_diagonals } => (true, f64::from(distance_diagonals)),
            Projection::Orthographic => (false, ORTHOGRAPHIC_DISTANCE_DIAGONALS),
        };
        // Turn the eye's azimuth to the front, tilt its elevation down to the horizon, roll, step back.
        let rotation = DMat4::from_rotation_z(f64::from(pose.roll_rad))
            * DMat4::from_rotation_x(f64::from(pose.elevation_rad))
            * DMat4::from_rotation_y(-f64::from(pose.azimuth_rad));
        let view_from_object = DMat4::from_translation(DVec3::new(0.0, 0.0, -distance_diagonals * diagonal))
            * rotation
            * DMat4::from_translation(-target_in_object);
        Self {
            view_from_object: view_from_object.as_mat4(),
            is_perspective,
            depth_margin: DEPTH_MARGIN_DIAGONALS * diagonal,
        }
    }

    /// Projects points to the image plane, with the distance from the eye's plane as z.
    pub(crate) fn projection(&self) -> impl Fn(&Vec3x4) -> Vec3x4 + Copy {
        let view_from_object = SplatMat4::from(&self.view_from_object);
        let is_perspective = self.is_perspective;
        move |points| {
            let (in_view, _) = points.transform(&view_from_object);
            let depth = -in_view.z;
            let per_depth = if is_perspective {
                f32x4::ONE / depth
            } else {
                f32x4::ONE
            };
            Vec3x4 {
                x: in_view.x * per_depth,
                y: in_view.y * per_depth,
                z: depth,
            }
        }
    }

    /// Projects a point to the image plane, with its distance from the eye's plane.
    #[cfg(test)]
    pub(crate) fn project_point(&self, point_in_object: Vec3) -> (Vec2, f32) {
        let [x, y, depth, _] = Vec3x4::of_points(&[point_in_object])
            .map(|four| self.projection()(&four).transpose()[0].to_array())
            .next()
            .expect("there is a point");
        (Vec2::new(x, y), depth)
    }

    /// Half the side, on the image plane, of the square around a sphere that the camera looks at.
    pub(crate) fn half_side_of_sphere(&self, radius: f64) -> f64 {
        let distance = -f64::from(self.view_from_object.w_axis.z);
        if self.is_perspective {
            radius / (distance * distance - radius * radius).sqrt()
        } else {
            radius
        }
    }

    /// The matrices that map `window` to the image and `depths`, with a margin, between near and far plane. `None` if
    /// the window is empty, a point is behind the eye, or a number is not finite.
    pub(crate) fn matrices(&self, window: Window, depths: RangeInclusive<f32>) -> Option<ViewMatrices> {
        let near = f64::from(*depths.start()) - self.depth_margin;
        let far = f64::from(*depths.end()) + self.depth_margin;
        let Window {
            center,
            half_side: half,
        } = window;
        let is_camera = center.is_finite()
            && half.is_finite()
            && half > 0.0
            && far.is_finite()
            && far > near
            && (near > 0.0 || !self.is_perspective);
        let clip_from_view = if self.is_perspective {
            // w = -z; x / w is the image plane minus the window's center, over its half side.
            DMat4::from_cols(
                DVec4::new(1.0 / half, 0.0, 0.0, 0.0),
                DVec4::new(0.0, 1.0 / half, 0.0, 0.0),
                DVec4::new(center.x / half, center.y / half, far / (near - far), -1.0),
                DVec4::new(0.0, 0.0, near * far / (near - far), 0.0),
            )
        } else {
            DMat4::from_cols(
                DVec4::new(1.0 / half, 0.0, 0.0, 0.0),
                DVec4::new(0.0, 1.0 / half, 0.0, 0.0),
                DVec4::new(0.0, 0.0, 1.0 / (near - far), 0.0),
                DVec4::new(-center.x / half, -center.y / half, near / (near - far), 1.0),
            )
        };
        let clip_from_view = clip_from_view.as_mat4();
        let view_from_object = self.view_from_object;
        let is_finite = clip_from_view.is_finite() && view_from_object.is_finite();
        (is_camera && is_finite).then_some(ViewMatrices {
            view_from_object,
            clip_from_view,
        })
    }
}

/// Rays through the image, in view space: `pixel * scale + offset` is the direction at z = -1, from the eye, or if
/// orthographic the origin on the plane z = 0.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Rays {
    pub(crate) is_orthographic: bool,
    pub(crate) scale: Vec2,
    pub(crate) offset: Vec2,
}

impl Rays {
    pub(crate) fn new(matrices: &ViewMatrices, size_px: u32) -> Self {
        let clip = matrices.clip_from_view.as_dmat4();
        // Under orthographic projection w is the constant 1.
        let is_orthographic = clip.w_axis.w > 0.5;
        let focal = DVec2::new(clip.x_axis.x, clip.y_axis.y);
        // ndc = (x f + z c) / -z, so a ray with z = -1 has x = (ndc + c) / f; or ndc = x f + o. ndc is affine in the pixel.
        let center = if is_orthographic {
            -DVec2::new(clip.w_axis.x, clip.w_axis.y)
        } else {
            DVec2::new(clip.z_axis.x, clip.z_axis.y)
        };
        let ndc_per_px = DVec2::new(2.0, -2.0) / f64::from(size_px);
        Self {
            is_orthographic,
            scale: (ndc_per_px / focal).as_vec2(),
            offset: ((DVec2::new(-1.0, 1.0) + center) / focal).as_vec2(),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use glam::{Mat3, Vec4Swizzles};
    use proptest::prelude::*;

    use super::*;

    fn pose() -> impl Strategy<Value = Pose> {
        (-10.0_f32..10.0, -1.6_f32..1.6, -10.0_f32..10.0).prop_map(
            |(azimuth_rad, elevation_rad, roll_rad)| Pose {
                azimuth_rad,
                elevation_rad,
                roll_rad,
            },
        )
    }

    fn projection() -> impl Strategy<Value = Projection> {
        prop_oneof![
            Just(Projection::Orthographic),
            (0.8_f32..20.0).prop_map(|distance_diagonals| Projection::Perspective { distance_diagonals }),
        ]
    }

    fn point(side: f32) -> impl Strategy<Value = Vec3> {
        (-side..side, -side..side, -side..side).prop_map(Vec3::from)
    }

    fn window() -> impl Strategy<Value = Window> {
        (-0.5..0.5, -0.5..0.5, 0.05..2.0).prop_map(|(x, y, half_side)| Window {
            center: DVec2::new(x, y),
            half_side,
        })
    }

    proptest! {
        #[test]
        fn rotations_are_orthonormal_and_proper(pose in pose(), projection in projection(), target in point(3.0)) {
            let camera = Camera::new(&pose, projection, target.as_dvec3(), 2.0);
            let rotation = Mat3::from_mat4(camera.view_from_object);
            let identity = rotation * rotation.transpose();
            prop_assert!(identity.abs_diff_eq(Mat3::IDENTITY, 1e-6), "{}", identity);
            prop_assert!((rotation.determinant() - 1.0).abs() < 1e-6, "a mirror");
        }

        #[test]
        fn the_eye_is_where_the_pose_says(pose in pose(), target in point(3.0), distance in 1.0_f32..10.0) {
            let projection = Projection::Perspective { distance_diagonals: distance };
            let camera = Camera::new(&pose, projection, target.as_dvec3(), 2.0);
            let eye = target + pose.eye_direction() * distance * 2.0;
            let eye_in_view = camera.view_from_object.transform_point3(eye);
            prop_assert!(eye_in_view.length() < 1e-4, "{}", eye_in_view);
            let target_in_view = camera.view_from_object.transform_point3(target);
            let expected = Vec3::new(0.0, 0.0, -2.0 * distance);
            prop_assert!((target_in_view - expected).length() < 1e-4, "{}", target_in_view);
        }

        #[test]
        fn the_window_becomes_the_image(pose in pose(), projection in projection(), p in point(0.5), window in window()) {
            let camera = Camera::new(&pose, projection, DVec3::ZERO, 2.0);
            let (on_plane, depth) = camera.project_point(p);
            let matrices = camera.matrices(window, depth..=depth).unwrap();
            let expected = (on_plane.as_dvec2() - window.center) / window.half_side;
            let clip = matrices.clip_from_object() * p.extend(1.0);
            let ndc = clip.xyz() / clip.w;
            let off = (ndc.truncate().as_dvec2() - expected).abs().max_element();
            prop_assert!(off < 1e-3, "{} is not {}", ndc, expected);
            prop_assert!((0.0..=1.0).contains(&ndc.z), "{}", ndc.z);
        }

        #[test]
        fn pixels_unproject_to_points(pose in pose(), projection in projection(), p in point(0.5), window in window()) {
            let camera = Camera::new(&pose, projection, DVec3::ZERO, 2.0);
            let (_, depth) = camera.project_point(p);
            let matrices = camera.matrices(window, depth - 0.3..=depth + 0.2).unwrap();
            let rays = Rays::new(&matrices, 64);
            let in_view = matrices.view_from_object.transform_point3(p);
            let place = matrices.pixel_of(p, 64) * rays.scale + rays.offset;
            let distance = if projection == Projection::Orthographic { 1.0 } else { depth };
            prop_assert_eq!(rays.is_orthographic, projection == Projection::Orthographic);
            prop_assert!((place * distance - in_view.truncate()).length() < 1e-2, "{} is not {}", place * distance, in_view);
        }
    }

    #[test]
    fn row_major_order() {
        let matrix = Mat4::from_translation(Vec3::new(1.0, 2.0, 3.0));
        let rows = [
            1.0, 0.0, 0.0, 1.0, 0.0, 1.0, 0.0, 2.0, 0.0, 0.0, 1.0, 3.0, 0.0, 0.0, 0.0, 1.0,
        ];
        assert_eq!(row_major(&matrix).map(f32::to_bits), rows.map(f32::to_bits));
    }

    #[test]
    fn the_front_view_shows_x_to_the_right_and_y_up() {
        let camera = Camera::new(
            &Rig::mvcnn12().poses()[0],
            Projection::default(),
            DVec3::ZERO,
            2.0,
        );
        let window = Window {
            center: DVec2::ZERO,
            half_side: 0.2,
        };
        let matrices = camera.matrices(window, 8.0..=11.0).unwrap();
        let middle = Vec2::splat(112.0);
        assert!(
            (matrices.pixel_of(Vec3::ZERO, 224) - middle).length() < 1e-3,
            "the target is in the middle"
        );
        let right = matrices.pixel_of(Vec3::X, 224) - middle;
        assert!(right.x > 50.0 && right.y.abs() < 1e-2, "{right}");
        let up = matrices.pixel_of(Vec3::Y, 224) - middle;
        assert!(up.y < -50.0 && up.x.abs() < 1e-2, "{up}");
        // Seen from above, nearer points are lower.
        let front = matrices.pixel_of(Vec3::Z, 224) - middle;
        assert!(front.y > 20.0 && front.x.abs() < 1e-2, "{front}");
    }

    #[test]
    fn roll_is_counter_clockwise() {
        let pose = Pose {
            roll_rad: 0.5,
            ..Pose::default()
        };
        let camera = Camera::new(&pose, Projection::Orthographic, DVec3::ZERO, 2.0);
        let (right, _) = camera.project_point(Vec3::X);
        assert!((right - Vec2::from_angle(0.5)).length() < 1e-6, "{right}");
    }

    #[test]
    fn invalid_cameras_are_refused() {
        let camera = Camera::new(&Pose::default(), Projection::default(), DVec3::ZERO, 2.0);
        let window = Window {
            center: DVec2::ZERO,
            half_side: 0.2,
        };
        assert!(
            camera.matrices(window, -1.0..=1.0).is_none(),
            "a point behind the eye"
        );
        assert!(
            camera
                .matrices(
                    Window {
                        half_side: 0.0,
                        ..window
                    },
                    8.0..=9.0
                )
                .is_none(),
            "an empty window"
        );
        assert!(
            camera
                .matrices(
                    Window {
                        half_side: f64::NAN,
                        ..window
                    },
                    8.0..=9.0
                )
                .is_none(),
            "no number"
        );
        assert!(camera.matrices(window, 8.0..=8.0).is_some(), "a flat object");
    }

    #[test]
    fn projections_are_parsed_and_printed() {
        for text in ["perspective:4.6", "perspective:2", "parallel"] {
            assert_eq!(text.parse::<Projection>().unwrap().to_string(), text);
        }
        assert_eq!(
            "perspective".parse::<Projection>().unwrap(),
            Projection::default()
        );
        assert_eq!(
            "orthographic".parse::<Projection>().unwrap(),
            Projection::Orthographic
        );
        for text in ["", "isometric", "perspective:far", "parallel:1"] {
            assert!(text.parse::<Projection>().is_err(), "{text}");
        }
    }
}
