//! Camera poses in the conventions of other libraries.
//!
//! Each type has the fields that its library expects, ready to be written as JSON (or, for COLMAP, as lines). All of
//! them map every point of an object to the same pixel position as [`ViewMatrices::pixel_of`], including the off-axis
//! framing. What a library cannot express is an error.
//!
//! | type | the camera looks along | pixel centers | matrices |
//! |---|---|---|---|
//! | [`OpenCvCamera`] | +z, y down | at whole numbers | column vectors, `K [R t]` |
//! | [`OpenGlCamera`] | -z, y up | at halves, from the lower left | column vectors, depth -1 to 1 |
//! | [`PyTorch3dCamera`] | +z, x left, y up | at halves | row vectors, NDC from +1 (left, top) to -1 |
//! | [`NerfFrame`] | -z, y up | at halves | camera to world |
//! | [`ColmapImage`] | +z, y down | at halves | quaternion w, x, y, z, world to camera |
//! | [`TapRotation`] | -z', x' down, y' right | none: it fits the image to the points | points of (z, x, y) |
//!
//! 'World' is object space: +y up, +z front. Sources: `OpenCV`'s `calib3d` documentation; the fixed-function pipeline
//! of the OpenGL specification; `PyTorch3D`'s notes on cameras (the corner of the image is the corner of a pixel);
//! nerfstudio's data conventions; COLMAP's output format; for TAP `docs/conventions.md`,
//! "Rotations of the released code".

use std::fmt;
use std::str::FromStr;

use glam::{DMat3, DMat4, DQuat, DVec2, DVec3, DVec4};
use serde::{Deserialize, Serialize};

use crate::camera::ViewMatrices;
use crate::parse::ParseError;

/// A library in whose conventions poses can be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PoseFormat {
    /// [`OpenCvCamera`].
    OpenCv,
    /// [`OpenGlCamera`].
    OpenGl,
    /// [`PyTorch3dCamera`].
    PyTorch3d,
    /// [`NerfFrame`].
    Nerf,
    /// [`ColmapImage`].
    Colmap,
    /// [`TapRotation`].
    Tap,
}

impl PoseFormat {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::OpenCv,
        Self::OpenGl,
        Self::PyTorch3d,
        Self::Nerf,
        Self::Colmap,
        Self::Tap,
    ];

    /// Can the format express orthographic projection? A rotation alone is compatible with it.
    #[must_use]
    pub fn supports_orthographic(self) -> bool {
        matches!(self, Self::OpenGl | Self::PyTorch3d | Self::Tap)
    }
}

impl fmt::Display for PoseFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::OpenCv => "opencv",
            Self::OpenGl => "opengl",
            Self::PyTorch3d => "pytorch3d",
            Self::Nerf => "nerf",
            Self::Colmap => "colmap",
            Self::Tap => "tap",
        })
    }
}

impl FromStr for PoseFormat {
    type Err = ParseError;

    fn from_str(name: &str) -> Result<Self, ParseError> {
        Self::ALL
            .into_iter()
            .find(|format| format.to_string() == name)
            .ok_or_else(|| ParseError {
                what: "pose format",
                expected: "opencv, opengl, pytorch3d, nerf, colmap or tap",
                found: name.to_owned(),
            })
    }
}

/// Why a camera cannot be expressed in a format.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PoseFormatError {
    /// The format has perspective cameras only.
    #[error("{format} has no orthographic cameras")]
    Orthographic {
        /// The format.
        format: PoseFormat,
    },
    /// The projection has a shear, or is neither perspective nor orthographic.
    #[error("{format} cannot express this projection")]
    Unknown {
        /// The format.
        format: PoseFormat,
    },
}

/// `OpenCV`: `s (u, v, 1) = K (R X + t)`, where whole numbers are pixel *centers*: `u = x_px - 1/2`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct OpenCvCamera {
    /// Camera matrix, row by row.
    #[serde(rename = "K")]
    pub camera_matrix: [[f64; 3]; 3],
    /// Rotation from the world to the camera, row by row.
    #[serde(rename = "R")]
    pub rotation: [[f64; 3]; 3],
    /// Translation after the rotation.
    #[serde(rename = "t")]
    pub translation: [f64; 3],
}

impl OpenCvCamera {
    /// # Errors
    ///
    /// [`PoseFormatError::Orthographic`]: the model has no orthographic camera.
    pub fn try_new(matrices: &ViewMatrices, size_px: u32) -> Result<Self, PoseFormatError> {
        let Pinhole {
            focal_px,
            principal_px,
        } = Pinhole::try_new(matrices, size_px, PoseFormat::OpenCv)?;
        let (rotation, translation) = looking_forward(matrices);
        let [center_x, center_y] = (principal_px - 0.5).to_array();
        Ok(Self {
            camera_matrix: [
                [focal_px.x, 0.0, center_x],
                [0.0, focal_px.y, center_y],
                [0.0, 0.0, 1.0],
            ],
            rotation: rows3(&rotation),
            translation: translation.to_array(),
        })
    }
}

/// `OpenGL`: `clip = projection view (X, 1)`, depth from -1 to 1, pixels from the lower left corner. The matrices are
/// written row by row; `glUniformMatrix4fv` takes them with `transpose = GL_TRUE`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct OpenGlCamera {
    /// From the world to the eye.
    pub view_matrix: [[f64; 4]; 4],
    /// From the eye to clip space, `glFrustum` or `glOrtho` in kind.
    pub projection_matrix: [[f64; 4]; 4],
}

impl OpenGlCamera {
    /// Every view has one.
    #[must_use]
    pub fn new(matrices: &ViewMatrices) -> Self {
        // Depth from 0..1 to -1..1.
        let stretch = DMat4::from_cols(
            DVec4::X,
            DVec4::Y,
            DVec4::new(0.0, 0.0, 2.0, 0.0),
            DVec4::new(0.0, 0.0, -1.0, 1.0),
        );
        Self {
            view_matrix: rows4(&matrices.view_from_object.as_dmat4()),
            projection_matrix: rows4(&(stretch * matrices.clip_from_view.as_dmat4())),
        }
    }
}

/// `PyTorch3D`: the arguments of `PerspectiveCameras` or `OrthographicCameras` with `in_ndc=True`. Points are rows,
/// `X_view = X R + T`; x points left and y up, in NDC too.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PyTorch3dCamera {
    /// The class that takes the other fields.
    pub camera: &'static str,
    /// Rotation, to be multiplied from the right.
    #[serde(rename = "R")]
    pub rotation: [[f64; 3]; 3],
    /// Translation after it.
    #[serde(rename = "T")]
    pub translation: [f64; 3],
    /// In NDC.
    pub focal_length: [f64; 2],
    /// In NDC.
    pub principal_point: [f64; 2],
    /// The same as a calibration matrix, the argument `K`.
    #[serde(rename = "K")]
    pub calibration: [[f64; 4]; 4],
    /// Always `true`.
    pub in_ndc: bool,
    /// Height and width, in pixels.
    pub image_size: [u32; 2],
}

impl PyTorch3dCamera {
    /// # Errors
    ///
    /// [`PoseFormatError::Unknown`] for a projection with a shear.
    pub fn try_new(matrices: &ViewMatrices, size_px: u32) -> Result<Self, PoseFormatError> {
        let Intrinsics {
            is_perspective,
            focal,
            center,
        } = Intrinsics::try_new(matrices, PoseFormat::PyTorch3d)?;
        let view = DMat4::from_scale(DVec3::new(-1.0, 1.0, -1.0)) * matrices.view_from_object.as_dmat4();
        // NDC's x runs to the left.
        let [px, py] = [-center.x, center.y];
        let [fx, fy] = focal.to_array();
        let calibration = if is_perspective {
            [
                [fx, 0.0, px, 0.0],
                [0.0, fy, py, 0.0],
                [0.0, 0.0, 0.0, 1.0],
                [0.0, 0.0, 1.0, 0.0],
            ]
        } else {
            [
                [fx, 0.0, 0.0, px],
                [0.0, fy, 0.0, py],
                [0.0, 0.0, 1.0, 0.0],
                [0.0, 0.0, 0.0, 1.0],
            ]
        };
        Ok(Self {
            camera: if is_perspective {
                "PerspectiveCameras"
            } else {
                "OrthographicCameras"
            },
            rotation: rows3(&DMat3::from_mat4(view).transpose()),
            translation: view.w_axis.truncate().to_array(),
            focal_length: [fx, fy],
            principal_point: [px, py],
            calibration,
            in_ndc: true,
            image_size: [size_px; 2],
        })
    }
}

/// One frame of a `transforms.json` as nerfstudio and instant-ngp read it: the pose from the camera to the world in
/// OpenGL's axes, with intrinsics of its own.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct NerfFrame {
    /// The image, relative to the file.
    pub file_path: String,
    /// Its mask, if there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mask_path: Option<String>,
    /// Focal length along x, in pixels.
    pub fl_x: f64,
    /// Focal length along y, in pixels.
    pub fl_y: f64,
    /// Principal point from the image's left edge, in pixels.
    pub cx: f64,
    /// Principal point from the image's upper edge, in pixels.
    pub cy: f64,
    /// Width, in pixels.
    pub w: u32,
    /// Height, in pixels.
    pub h: u32,
    /// From the camera to the world, row by row.
    pub transform_matrix: [[f64; 4]; 4],
}

impl NerfFrame {
    /// # Errors
    ///
    /// [`PoseFormatError::Orthographic`]: such a frame is a perspective camera.
    pub fn try_new(
        matrices: &ViewMatrices,
        size_px: u32,
        file_path: String,
        mask_path: Option<String>,
    ) -> Result<Self, PoseFormatError> {
        let Pinhole {
            focal_px,
            principal_px,
        } = Pinhole::try_new(matrices, size_px, PoseFormat::Nerf)?;
        let view_from_object = matrices.view_from_object.as_dmat4();
        let rotation = DMat3::from_mat4(view_from_object).transpose();
        let eye = -(rotation * view_from_object.w_axis.truncate());
        let object_from_view = DMat4::from_mat3_translation(rotation, eye);
        Ok(Self {
            file_path,
            mask_path,
            fl_x: focal_px.x,
            fl_y: focal_px.y,
            cx: principal_px.x,
            cy: principal_px.y,
            w: size_px,
            h: size_px,
            transform_matrix: rows4(&object_from_view),
        })
    }
}

/// COLMAP: a camera of the model `PINHOLE` and the image taken with it, lines of `cameras.txt` and `images.txt`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ColmapImage {
    /// Width and height, in pixels.
    pub size_px: [u32; 2],
    /// The parameters of `PINHOLE`: fx, fy, cx, cy, in pixels; the upper left pixel's center is (1/2, 1/2).
    pub params: [f64; 4],
    /// Rotation from the world to the camera as a quaternion w, x, y, z with w >= 0.
    pub rotation_wxyz: [f64; 4],
    /// Translation after it.
    pub translation: [f64; 3],
}

impl ColmapImage {
    /// # Errors
    ///
    /// [`PoseFormatError::Orthographic`]: none of COLMAP's models is orthographic.
    pub fn try_new(matrices: &ViewMatrices, size_px: u32) -> Result<Self, PoseFormatError> {
        let Pinhole {
            focal_px,
            principal_px,
        } = Pinhole::try_new(matrices, size_px, PoseFormat::Colmap)?;
        let (rotation, translation) = looking_forward(matrices);
        let quaternion = DQuat::from_mat3(&rotation).normalize();
        let quaternion = if quaternion.w < 0.0 {
            -quaternion
        } else {
            quaternion
        };
        let [x, y, z, w] = quaternion.to_array();
        Ok(Self {
            size_px: [size_px; 2],
            params: [focal_px.x, focal_px.y, principal_px.x, principal_px.y],
            rotation_wxyz: [w, x, y, z],
            translation: translation.to_array(),
        })
    }

    /// Its line of `cameras.txt`.
    #[must_use]
    pub fn camera_line(&self, camera_id: usize) -> String {
        let [width, height] = self.size_px;
        format!("{camera_id} PINHOLE {width} {height} {}", spaced(&self.params))
    }

    /// Its line of `images.txt`; the line of its keypoints, which is empty, follows it there.
    #[must_use]
    pub fn image_line(&self, image_id: usize, camera_id: usize, name: &str) -> String {
        let (rotation, translation) = (spaced(&self.rotation_wxyz), spaced(&self.translation));
        format!("{image_id} {rotation} {translation} {camera_id} {name}")
    }
}

/// The rotation that the released code of TAP has for a view: `p' = R p` for a point of *its* axes, which are the
/// object's (z, x, y), so that z is up; x' runs down the image, y' to its right, z' towards the viewer.
///
/// For `mvcnn12` the rotations are that code's table, in its order. It has neither scale nor translation: it assumes
/// orthographic projection and fits the bounding box of the rotated points to the image, as `framing = "box"` and
/// `projection = "parallel"` do.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(transparent)]
pub struct TapRotation(pub [[f64; 3]; 3]);

impl TapRotation {
    /// Every view has one.
    #[must_use]
    pub fn new(matrices: &ViewMatrices) -> Self {
        let rotation = DMat3::from_mat4(matrices.view_from_object.as_dmat4()).transpose();
        let [right, up, back] = [rotation.x_axis, rotation.y_axis, rotation.z_axis];
        let in_tap_axes = |row: DVec3| [row.z, row.x, row.y].map(|x| x + 0.0);
        Self([-up, right, back].map(in_tap_axes))
    }
}

/// The rotation and translation into a camera that looks along +z with y down.
fn looking_forward(matrices: &ViewMatrices) -> (DMat3, DVec3) {
    let view = DMat4::from_scale(DVec3::new(1.0, -1.0, -1.0)) * matrices.view_from_object.as_dmat4();
    (DMat3::from_mat4(view), view.w_axis.truncate())
}

/// A projection in our own NDC (x right, y up): `ndc = focal * plane + center`, where `plane` is `(x, y) / -z` in
/// perspective and `(x, y)` in orthographic projection.
struct Intrinsics {
    is_perspective: bool,
    focal: DVec2,
    center: DVec2,
}

impl Intrinsics {
    fn try_new(matrices: &ViewMatrices, format: PoseFormat) -> Result<Self, PoseFormatError> {
        let clip = matrices.clip_from_view.as_dmat4();
        let is_perspective = clip.row(3) == DVec4::new(0.0, 0.0, -1.0, 0.0);
        let is_orthographic = clip.row(3) == DVec4::W;
        let is_straight = clip.x_axis.y == 0.0 && clip.y_axis.x == 0.0;
        if !is_straight || !(is_perspective || is_orthographic) {
            return Err(PoseFormatError::Unknown { format });
        }
        let center = if is_perspective {
            -clip.z_axis.truncate().truncate()
        } else {
            clip.w_axis.truncate().truncate()
        };
        Ok(Self {
            is_perspective,
            focal: DVec2::new(clip.x_axis.x, clip.y_axis.y),
            center,
        })
    }
}

/// A perspective camera in pixels from the upper left corner of the image, y down.
struct Pinhole {
    focal_px: DVec2,
    principal_px: DVec2,
}

impl Pinhole {
    fn try_new(matrices: &ViewMatrices, size_px: u32, format: PoseFormat) -> Result<Self, PoseFormatError> {
        let Intrinsics {
            is_perspective,
            focal,
            center,
        } = Intrinsics::try_new(matrices, format)?;
        if !is_perspective {
            return Err(PoseFormatError::Orthographic { format });
        }
        let half_px = f64::from(size_px) / 2.0;
        Ok(Self {
            focal_px: focal * half_px,
            principal_px: DVec2::new(1.0 + center.x, 1.0 - center.y) * half_px,
        })
    }
}

fn rows3(matrix: &DMat3) -> [[f64; 3]; 3] {
    // No `-0.0` in files.
    [0, 1, 2].map(|row| matrix.row(row).to_array().map(|x| x + 0.0))
}

fn rows4(matrix: &DMat4) -> [[f64; 4]; 4] {
    [0, 1, 2, 3].map(|row| matrix.row(row).to_array().map(|x| x + 0.0))
}

fn spaced(numbers: &[f64]) -> String {
    numbers.iter().map(f64::to_string).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use glam::Vec3;
    use proptest::prelude::*;

    use super::*;
    use crate::camera::{Camera, Projection, Window};
    use crate::camera::{Pose, Rig};

    const SIZE_PX: u32 = 224;
    /// Error of single precision, in pixels.
    const TOLERANCE_PX: f64 = 0.01;

    /// An off-axis camera, and points of the object that it sees.
    #[derive(Debug, Clone)]
    struct Case {
        matrices: ViewMatrices,
        points: Vec<Vec3>,
    }

    impl Case {
        /// Compares pixels from the upper left corner with those of the renderer.
        fn agrees(&self, pixel_of: impl Fn(DVec3) -> DVec2) -> Result<(), TestCaseError> {
            for point in &self.points {
                let ours = self.matrices.pixel_of(*point, SIZE_PX).as_dvec2();
                let theirs = pixel_of(point.as_dvec3());
                prop_assert!(
                    ours.distance(theirs) < TOLERANCE_PX,
                    "{point}: {ours} and {theirs}"
                );
            }
            Ok(())
        }
    }

    fn case(projection: impl Strategy<Value = Projection>) -> impl Strategy<Value = Case> {
        let angles = prop::array::uniform3(-4.0_f32..4.0);
        let center = prop::array::uniform2(-0.5..0.5_f64);
        let points = prop::collection::vec(prop::array::uniform3(-0.5_f32..0.5), 5);
        (projection, angles, center, 0.2..2.0_f64, points).prop_map(
            |(projection, angles, center, zoom, points)| {
                let [azimuth_rad, elevation_rad, roll_rad] = angles;
                let pose = Pose {
                    azimuth_rad,
                    elevation_rad,
                    roll_rad,
                };
                let camera = Camera::new(&pose, projection, DVec3::new(0.1, -0.2, 0.05), 1.7);
                // The image plane is one unit away in perspective, so the window is smaller the farther the eye.
                let distance = match projection {
                    Projection::Perspective { distance_diagonals } => 1.7 * f64::from(distance_diagonals),
                    Projection::Orthographic => 1.0,
                };
                let window = Window {
                    center: DVec2::from(center) / distance,
                    half_side: zoom / distance,
                };
                let points: Vec<Vec3> = points.into_iter().map(Vec3::from).collect();
                let depths = points.iter().map(|point| camera.project_point(*point).1);
                let near = depths.clone().fold(f32::INFINITY, f32::min);
                let far = depths.fold(f32::NEG_INFINITY, f32::max);
                let matrices = camera.matrices(window, near..=far).unwrap();
                Case { matrices, points }
            },
        )
    }

    fn perspective() -> impl Strategy<Value = Projection> {
        (1.0_f32..6.0).prop_map(|distance_diagonals| Projection::Perspective { distance_diagonals })
    }

    fn any_projection() -> impl Strategy<Value = Projection> {
        prop_oneof![Just(Projection::Orthographic), perspective()]
    }

    fn times3(rows: &[[f64; 3]; 3], v: DVec3) -> DVec3 {
        DVec3::from(rows.map(|row| DVec3::from(row).dot(v)))
    }

    fn times4(rows: &[[f64; 4]; 4], v: DVec4) -> DVec4 {
        DVec4::from(rows.map(|row| DVec4::from(row).dot(v)))
    }

    proptest! {
        /// `calib3d`: s (u, v, 1) = K (R X + t). The first pixel's center is (0, 0).
        #[test]
        fn opencv_agrees(case in case(perspective())) {
            let camera = OpenCvCamera::try_new(&case.matrices, SIZE_PX).unwrap();
            case.agrees(|point| {
                let in_camera = times3(&camera.rotation, point) + DVec3::from(camera.translation);
                let scaled = times3(&camera.camera_matrix, in_camera);
                assert!(in_camera.z > 0.0, "in front of the camera");
                DVec2::new(scaled.x / scaled.z, scaled.y / scaled.z) + 0.5
            })?;
        }

        /// `glViewport(0, 0, w, h)`: window = (ndc + 1) w/2, from the lower left; the near plane is -1, the far one 1.
        #[test]
        fn opengl_agrees(case in case(any_projection())) {
            let camera = OpenGlCamera::new(&case.matrices);
            case.agrees(|point| {
                let clip = times4(&camera.projection_matrix, times4(&camera.view_matrix, point.extend(1.0)));
                let ndc = clip.truncate() / clip.w;
                assert!(ndc.z.abs() <= 1.0, "between near and far: {ndc}");
                let side = f64::from(SIZE_PX);
                let window = (ndc.truncate() + 1.0) * (side / 2.0);
                DVec2::new(window.x, side - window.y)
            })?;
            let depth_of = |point: &Vec3| case.matrices.clip_from_object().project_point3(*point).z;
            for point in &case.points {
                let clip = times4(&camera.projection_matrix, times4(&camera.view_matrix, point.as_dvec3().extend(1.0)));
                let from_zero = f64::from(depth_of(point));
                prop_assert!((clip.z / clip.w - (2.0 * from_zero - 1.0)).abs() < 1e-4, "depth is stretched");
            }
        }

        /// The notes on cameras: X_view = X R + T; x = fx X / Z + px (orthographic: x = fx X + px); the screen is
        /// (w/2 - x w/2, h/2 - y h/2) for a square. `K` says the same, transposed onto rows.
        #[test]
        fn pytorch3d_agrees(case in case(any_projection())) {
            let camera = PyTorch3dCamera::try_new(&case.matrices, SIZE_PX).unwrap();
            let in_view = |point: DVec3| {
                let columns = [0, 1, 2].map(|column| camera.rotation.map(|row| row[column]));
                times3(&columns, point) + DVec3::from(camera.translation)
            };
            let screen = |ndc: DVec2| (1.0 - ndc) * (f64::from(SIZE_PX) / 2.0);
            case.agrees(|point| {
                let view = in_view(point);
                let focal = DVec2::from(camera.focal_length);
                let principal = DVec2::from(camera.principal_point);
                let depth = if camera.camera == "PerspectiveCameras" { view.z } else { 1.0 };
                screen(focal * view.truncate() / depth + principal)
            })?;
            case.agrees(|point| {
                let ndc = times4(&camera.calibration, in_view(point).extend(1.0));
                screen(ndc.truncate().truncate() / ndc.w)
            })?;
        }

        /// nerfstudio: a ray through (x + 1/2, y + 1/2) has the direction ((x - cx) / fl_x, -(y - cy) / fl_y, -1) in the
        /// camera, which `transform_matrix` takes to the world. So a pixel's ray must hit the point.
        #[test]
        fn nerf_agrees(case in case(perspective())) {
            let frame = NerfFrame::try_new(&case.matrices, SIZE_PX, "a.png".to_owned(), None).unwrap();
            for point in &case.points {
                let pixel = case.matrices.pixel_of(*point, SIZE_PX).as_dvec2();
                let in_camera = DVec4::new(
                    (pixel.x - frame.cx) / frame.fl_x,
                    -(pixel.y - frame.cy) / frame.fl_y,
                    -1.0,
                    0.0,
                );
                let direction = times4(&frame.transform_matrix, in_camera).truncate().normalize();
                let eye = times4(&frame.transform_matrix, DVec4::W).truncate();
                let to_point = point.as_dvec3() - eye;
                prop_assert!(to_point.dot(direction) > 0.0, "in front of the camera");
                let missed_by = to_point.cross(direction).length() / to_point.length();
                prop_assert!(missed_by * frame.fl_x < TOLERANCE_PX, "{missed_by}");
            }
            // OpenGL's projection with the inverse of the pose, too.
            case.agrees(|point| {
                let rows = frame.transform_matrix;
                let eye = DVec3::new(rows[0][3], rows[1][3], rows[2][3]);
                let axes = [0, 1, 2].map(|axis| DVec3::new(rows[0][axis], rows[1][axis], rows[2][axis]));
                let [x, y, z] = axes.map(|axis| axis.dot(point - eye));
                DVec2::new(frame.cx + frame.fl_x * x / -z, frame.cy - frame.fl_y * y / -z)
            })?;
        }

        /// COLMAP: the quaternion is Hamilton's, X_cam = R X + T; PINHOLE: x = fx X / Z + cx, y = fy Y / Z + cy.
        #[test]
        fn colmap_agrees(case in case(perspective())) {
            let image = ColmapImage::try_new(&case.matrices, SIZE_PX).unwrap();
            // Through the text, as COLMAP reads it.
            let numbers = |line: &str| -> Vec<f64> {
                line.split(' ').filter_map(|field| field.parse().ok()).collect()
            };
            let camera = numbers(&image.camera_line(3));
            prop_assert_eq!(&camera[..3], &[3.0, f64::from(SIZE_PX), f64::from(SIZE_PX)]);
            let [fx, fy, cx, cy] = [3, 4, 5, 6].map(|field| camera[field]);
            let line = numbers(&image.image_line(7, 3, "view_007.png"));
            prop_assert_eq!((line[0], line[8], line.len()), (7.0, 3.0, 9));
            let [w, x, y, z] = [1, 2, 3, 4].map(|field| line[field]);
            let rotation = [
                [1.0 - 2.0 * (y * y + z * z), 2.0 * (x * y - w * z), 2.0 * (x * z + w * y)],
                [2.0 * (x * y + w * z), 1.0 - 2.0 * (x * x + z * z), 2.0 * (y * z - w * x)],
                [2.0 * (x * z - w * y), 2.0 * (y * z + w * x), 1.0 - 2.0 * (x * x + y * y)],
            ];
            case.agrees(|point| {
                let in_camera = times3(&rotation, point) + DVec3::new(line[5], line[6], line[7]);
                DVec2::new(fx * in_camera.x / in_camera.z + cx, fy * in_camera.y / in_camera.z + cy)
            })?;
        }

        /// The released code: rows of the image follow x', columns y', both by one scale, after an offset.
        #[test]
        fn tap_agrees_up_to_scale_and_translation(case in case(Just(Projection::Orthographic))) {
            let TapRotation(rotation) = TapRotation::new(&case.matrices);
            let rotated = |point: Vec3| times3(&rotation, DVec3::new(point.z.into(), point.x.into(), point.y.into()));
            let scale = f64::from(case.matrices.clip_from_view.x_axis.x) * f64::from(SIZE_PX) / 2.0;
            let origin = rotated(Vec3::ZERO);
            let center = case.matrices.pixel_of(Vec3::ZERO, SIZE_PX).as_dvec2();
            for point in &case.points {
                let pixel = case.matrices.pixel_of(*point, SIZE_PX).as_dvec2() - center;
                let moved = (rotated(*point) - origin) * scale;
                prop_assert!(pixel.distance(DVec2::new(moved.y, moved.x)) < TOLERANCE_PX, "{pixel} and {moved}");
                let depth = case.matrices.view_from_object.transform_point3(*point).z
                    - case.matrices.view_from_object.w_axis.z;
                prop_assert!((rotated(*point).z - f64::from(depth)).abs() < 1e-5, "z' comes nearer");
            }
        }
    }

    /// `docs/conventions.md`, "Rotations of the released code": phi = -60 degrees, theta = 30 k degrees.
    #[test]
    fn the_rotations_of_mvcnn12_are_the_table_of_the_released_code() {
        let (cos_phi, sin_phi) = (0.5, -0.75_f64.sqrt());
        for (view_idx, pose) in Rig::mvcnn12().poses().iter().enumerate() {
            let (sin, cos) = (view_idx as f64 * 30.0_f64).to_radians().sin_cos();
            let table = [
                [cos_phi * cos, cos_phi * sin, sin_phi],
                [-sin, cos, 0.0],
                [-sin_phi * cos, -sin_phi * sin, cos_phi],
            ];
            let camera = Camera::new(pose, Projection::Orthographic, DVec3::ZERO, 2.0);
            let window = Window {
                center: DVec2::ZERO,
                half_side: 1.0,
            };
            let TapRotation(ours) = TapRotation::new(&camera.matrices(window, 1.0..=3.0).unwrap());
            for (row, (ours, table)) in ours.iter().zip(&table).enumerate() {
                let error = DVec3::from(*ours).distance(DVec3::from(*table));
                assert!(error < 1e-6, "view {view_idx}, row {row}: {ours:?} and {table:?}");
            }
        }
    }

    #[test]
    fn unsupported_cameras_are_errors() {
        let camera = Camera::new(&Pose::default(), Projection::Orthographic, DVec3::ZERO, 2.0);
        let window = Window {
            center: DVec2::ZERO,
            half_side: 1.0,
        };
        let mut matrices = camera.matrices(window, 1.0..=3.0).unwrap();
        let error = OpenCvCamera::try_new(&matrices, 8).unwrap_err();
        assert_eq!(error.to_string(), "opencv has no orthographic cameras");
        let error = ColmapImage::try_new(&matrices, 8).unwrap_err();
        assert_eq!(error.to_string(), "colmap has no orthographic cameras");
        let error = NerfFrame::try_new(&matrices, 8, String::new(), None).unwrap_err();
        assert_eq!(error.to_string(), "nerf has no orthographic cameras");
        assert!(
            PyTorch3dCamera::try_new(&matrices, 8).is_ok(),
            "it has orthographic cameras"
        );
        matrices.clip_from_view.x_axis.y = 0.5;
        assert!(PyTorch3dCamera::try_new(&matrices, 8).is_err(), "a shear");
    }

    #[test]
    fn formats_are_parsed_and_printed() {
        for format in PoseFormat::ALL {
            assert_eq!(format.to_string().parse(), Ok(format));
        }
        assert!("blender".parse::<PoseFormat>().is_err());
    }
}
