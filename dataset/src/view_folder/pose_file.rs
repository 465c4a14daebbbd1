//! Pose files in other conventions, documented in [`tap_render::pose_format`].

use serde::Serialize;
use serde_json::{Value, json};
use tap_render::ViewMatrices;
use tap_render::pose_format::{
    ColmapImage, NerfFrame, OpenCvCamera, OpenGlCamera, PoseFormat, PoseFormatError, PyTorch3dCamera,
    TapRotation,
};

use super::views_file::ViewEntry;

type Result<T> = std::result::Result<T, PoseFormatError>;

/// A view whose pose is written.
#[derive(Debug, Clone, Copy)]
pub(super) struct Posed<'a> {
    pub(super) entry: &'a ViewEntry,
    pub(super) matrices: &'a ViewMatrices,
}

/// Names of the files of a format.
pub(super) fn file_names(format: PoseFormat) -> &'static [&'static str] {
    match format {
        PoseFormat::OpenCv => &["poses_opencv.json"],
        PoseFormat::OpenGl => &["poses_opengl.json"],
        PoseFormat::PyTorch3d => &["poses_pytorch3d.json"],
        PoseFormat::Nerf => &["transforms.json"],
        PoseFormat::Colmap => &["colmap/cameras.txt", "colmap/images.txt", "colmap/points3D.txt"],
        PoseFormat::Tap => &["poses_tap.json"],
    }
}

/// Whether a format names color images and is of no use without them.
pub(super) fn names_images(format: PoseFormat) -> bool {
    matches!(format, PoseFormat::Nerf | PoseFormat::Colmap)
}

/// Files of a format.
///
/// # Errors
/// When the format cannot express the projection of the views.
pub(super) fn write(format: PoseFormat, size_px: u32, views: &[Posed<'_>]) -> Result<Vec<(String, Vec<u8>)>> {
    let contents = match format {
        PoseFormat::OpenCv => {
            let convention = "s (u, v, 1) = K (R X + t); x right, y down, z forward; (0, 0) is the centre of the upper \
                              left pixel; X in object space";
            let views = each(views, |view| OpenCvCamera::try_new(view.matrices, size_px))?;
            vec![to_json(&json!({
                "convention": convention, "image_size": [size_px, size_px], "views": views,
            }))]
        }
        PoseFormat::OpenGl => {
            let convention = "clip = projection_matrix view_matrix (X, 1), rows as written; depth -1 to 1, pixels from \
                              the lower left corner; X in object space";
            let views = each(views, |view| Ok(OpenGlCamera::new(view.matrices)))?;
            vec![to_json(&json!({
                "convention": convention, "viewport": [0, 0, size_px, size_px], "views": views,
            }))]
        }
        PoseFormat::PyTorch3d => {
            let convention = "the arguments of the named class; X_view = X R + T for a row X in object space; x left, y \
                              up, z forward; NDC from +1 (left, top) to -1";
            let views = each(views, |view| PyTorch3dCamera::try_new(view.matrices, size_px))?;
            vec![to_json(&json!({ "convention": convention, "views": views }))]
        }
        PoseFormat::Nerf => vec![to_json(&transforms(size_px, views)?)],
        PoseFormat::Colmap => colmap(size_px, views)?.map(String::into_bytes).to_vec(),
        PoseFormat::Tap => {
            let convention = "p' = rotation p for p = (z, x, y) of object space; x' runs down the picture, y' to its \
                              right, z' towards the viewer; scale and place are fitted to the points";
            let rotation = |view: &Posed<'_>| Ok(json!({ "rotation": TapRotation::new(view.matrices) }));
            vec![to_json(
                &json!({ "convention": convention, "views": each(views, rotation)? }),
            )]
        }
    };
    let names = file_names(format).iter().map(|name| (*name).to_owned());
    Ok(names.zip(contents).collect())
}

/// Camera of each view, with its color image.
fn each<T: Serialize>(views: &[Posed<'_>], camera: impl Fn(&Posed<'_>) -> Result<T>) -> Result<Vec<Value>> {
    let mut cameras = Vec::with_capacity(views.len());
    for view in views {
        let mut fields = serde_json::to_value(camera(view)?).expect("a camera has a JSON form");
        if let (Some(file), Value::Object(fields)) = (&view.entry.file, &mut fields) {
            fields.insert("file".to_owned(), file.clone().into());
        }
        cameras.push(fields);
    }
    Ok(cameras)
}

/// `transforms.json`; each frame has its own intrinsics, because each view is framed separately.
fn transforms(size_px: u32, views: &[Posed<'_>]) -> Result<Value> {
    let frame = |view: &Posed<'_>| {
        let file = view.entry.file.clone().unwrap_or_default();
        NerfFrame::try_new(view.matrices, size_px, file, view.entry.mask_file.clone())
    };
    let frames = views.iter().map(frame).collect::<Result<Vec<_>>>()?;
    Ok(json!({
        "camera_model": "OPENCV", "k1": 0.0, "k2": 0.0, "p1": 0.0, "p2": 0.0, "frames": frames,
    }))
}

/// Sparse model without points: `cameras.txt`, `images.txt`, `points3D.txt`.
fn colmap(size_px: u32, views: &[Posed<'_>]) -> Result<[String; 3]> {
    let mut cameras = "# CAMERA_ID, MODEL, WIDTH, HEIGHT, PARAMS[]\n".to_owned();
    let mut images =
        "# IMAGE_ID, QW, QX, QY, QZ, TX, TY, TZ, CAMERA_ID, NAME\n# POINTS2D[] as (X, Y, POINT3D_ID)\n"
            .to_owned();
    for (view_idx, view) in views.iter().enumerate() {
        let image = ColmapImage::try_new(view.matrices, size_px)?;
        let id = view_idx + 1;
        let name = view.entry.file.as_deref().unwrap_or_default();
        cameras += &image.camera_line(id);
        cameras.push('\n');
        images += &image.image_line(id, id, name);
        images.push_str("\n\n");
    }
    let points = "# POINT3D_ID, X, Y, Z, R, G, B, ERROR, TRACK[] as (IMAGE_ID, POINT2D_IDX)\n".to_owned();
    Ok([cameras, images, points])
}

fn to_json(value: &Value) -> Vec<u8> {
    let mut bytes = serde_json::to_vec_pretty(value).expect("a JSON value can be written");
    bytes.push(b'\n');
    bytes
}
