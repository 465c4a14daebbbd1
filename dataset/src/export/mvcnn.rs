//! Views as files, in the two layouts of MVCNN's pictures.
//!
//! The released code of TAP lists `pointclouds/<split>/*.ply` (`pointclouds_p2048` for 2048 points) and finds view v of each
//! cloud by its path: `shapenet55v1/<split>/<same name>_<v + 1, 3 digits>.jpg`. `mvcnn_pytorch` lists
//! `<class>/<split>/*.png`, sorted, and takes each twelve for an object. Objects are numbered here, since a name that begins
//! like another one would come between its views; `objects.csv` says which is which.

use std::io::Write as _;

use image::ExtendedColorType;
use image::codecs::jpeg::JpegEncoder;

use super::{OutputFile, Row};
use crate::error::{DatasetError, ExportError, Result};
use crate::image::decode_png;
use crate::schema::Sample;

/// Quality of JPEGs: rings around a silhouette stay faint (`docs/conventions.md`, "JPEG ringing").
const JPEG_QUALITY: u8 = 95;
/// Number of points that the released code of TAP looks for in a folder of its own.
const NUM_POINTS_P2048: usize = 2048;

/// JPEGs and the point cloud of a row, as the released code of TAP reads them.
pub(super) fn files_for_tap(row: &Row, sample: &Sample) -> Result<Vec<OutputFile>> {
    let (split, name) = (row.split, model_name(row));
    let mut files = Vec::with_capacity(sample.views.len() + 1);
    for (view_number, view) in (1..).zip(&sample.views) {
        let jpeg = rgb_jpeg(&view.image_png)?;
        files.push((format!("shapenet55v1/{split}/{name}_{view_number:03}.jpg"), jpeg));
    }
    let folder = match sample.points.len() {
        NUM_POINTS_P2048 => "pointclouds_p2048",
        _ => "pointclouds",
    };
    files.push((format!("{folder}/{split}/{name}.ply"), ply(sample)));
    Ok(files)
}

/// PNGs of a row, as `mvcnn_pytorch` reads them.
pub(super) fn files_for_pytorch(row: &Row, sample: &Sample) -> Vec<OutputFile> {
    let (category, split, name) = (row.id.category(), row.split, model_name(row));
    let path = |view_number: usize| format!("{category}/{split}/{name}_{view_number:03}.png");
    let views = (1..).zip(&sample.views);
    views
        .map(|(view_number, view)| (path(view_number), view.image_png.clone()))
        .collect()
}

/// Which number is which object.
pub(super) fn list(rows: &[Row]) -> OutputFile {
    let mut table = csv::Writer::from_writer(Vec::new());
    let mut push = |record: [&str; 4]| table.write_record(record).expect("memory takes any write");
    push(["model", "id", "category", "split"]);
    for row in rows {
        push([
            &model_name(row),
            row.id.as_str(),
            row.id.category(),
            row.split.as_str(),
        ]);
    }
    let text = table.into_inner().expect("memory takes any write");
    ("objects.csv".to_owned(), text)
}

fn model_name(row: &Row) -> String {
    format!("model_{:06}", row.number)
}

/// A PNG as a JPEG in RGB, which MVCNN's pictures are in, gray or not.
fn rgb_jpeg(png: &[u8]) -> Result<Vec<u8>> {
    let image = decode_png(png)?;
    let rgb: Vec<u8> = match image.num_channels {
        1 => image.values.iter().flat_map(|value| [*value; 3]).collect(),
        _ => image.values,
    };
    let mut jpeg = Vec::new();
    JpegEncoder::new_with_quality(&mut jpeg, JPEG_QUALITY)
        .encode(&rgb, image.width_px, image.height_px, ExtendedColorType::Rgb8)
        .map_err(|error| DatasetError::Export(ExportError::Jpeg(error)))?;
    Ok(jpeg)
}

/// A point cloud as binary PLY, with normals if there are any.
fn ply(sample: &Sample) -> Vec<u8> {
    let normals = sample.normals.as_deref();
    let of_normals = match normals {
        Some(_) => "property float nx\nproperty float ny\nproperty float nz\n",
        None => "",
    };
    let mut bytes = Vec::new();
    let header = format!(
        "ply\nformat binary_little_endian 1.0\nelement vertex {}\nproperty float x\nproperty float y\nproperty float z\n\
         {of_normals}end_header\n",
        sample.points.len()
    );
    bytes
        .write_all(header.as_bytes())
        .expect("memory takes any write");
    for (i, point) in sample.points.iter().enumerate() {
        let normal = normals.map(|normals| normals[i]);
        for number in point.iter().chain(normal.iter().flatten()) {
            bytes.extend_from_slice(&number.to_le_bytes());
        }
    }
    bytes
}
