//! Last stage, on the workers: views to a row, with the checks that a row must pass.

use tap_render::{ColorImage, View, row_major};

use super::Skip;
use super::prepare::Prepared;
use super::thin::{self, Surfels};
use crate::error::Result;
use crate::image::{GbufferPixels, Mask1Bit, ViewGbuffer, encode_gray_png, encode_rgb_png};
use crate::manifest::SkipReason;
use crate::reprojection::{MIN_POINTS_IN_MASK, points_in_mask};
use crate::schema::{Columns, Sample, SampleView};
use crate::source::{Source, SourceObject};

/// Encodes a color image as stored in rows.
pub(crate) fn encode_color(size_px: u32, color: &ColorImage) -> Result<Vec<u8>> {
    match color {
        ColorImage::Gray(pixels) => encode_gray_png(size_px, pixels),
        color => encode_rgb_png(size_px, &color.to_rgb()),
    }
}

pub(super) fn encode(
    source: &Source,
    object: &SourceObject,
    prepared: Prepared,
    views: &[View],
    columns: Columns,
) -> Result<Sample, Skip> {
    let _span = tracing::debug_span!("object", id = %object.id).entered();
    let skip = |reason, message| Skip {
        reason,
        message,
        source_sha256: None,
    };
    let mut sample_views = Vec::with_capacity(views.len());
    let mut coverage_min = f32::INFINITY;
    let mut suspects = Vec::new();
    for (view_number, view) in (1..).zip(views) {
        let (Some(color), Some(mask)) = (&view.color, &view.mask) else {
            return Err(skip(
                SkipReason::RenderFailed,
                format!("view {view_number} has no color or no mask"),
            ));
        };
        let mask = Mask1Bit::from_covered(view.size_px, mask.covered());
        coverage_min = coverage_min.min(mask.coverage());
        let image_png = encode_color(view.size_px, color)
            .map_err(|e| skip(SkipReason::RenderFailed, format!("view {view_number}: {e}")))?;
        let gbuffer = GbufferPixels::from_view(view, columns.has_albedo())
            .map(|pixels| ViewGbuffer::encode(view.size_px, &pixels))
            .transpose()
            .map_err(|e| skip(SkipReason::RenderFailed, format!("view {view_number}: {e}")))?;
        let view = SampleView {
            image_png,
            mask,
            view_from_object: row_major(&view.matrices.view_from_object),
            clip_from_view: row_major(&view.matrices.clip_from_view),
            gbuffer,
        };
        if view.mask.num_covered() == 0 || points_in_mask(&prepared.points, &view) < MIN_POINTS_IN_MASK {
            suspects.push(sample_views.len());
        }
        sample_views.push(view);
    }
    let thin = if suspects.is_empty() {
        None
    } else {
        let surfels = Surfels {
            points: &prepared.points,
            normals: &prepared.normals,
        };
        let explained = thin::explain(&prepared.framed, surfels, &sample_views, &suspects);
        Some(explained.map_err(|(reason, message)| skip(reason, message))?)
    };
    let category = object.id.category().to_owned();
    let label = source.label_of(&category);
    let Prepared {
        framed: _,
        points,
        normals,
        part_labels,
        object_from_mesh,
        num_triangles,
        surface_area,
        is_watertight,
        source_sha256,
        assets_sha256,
        mut issues,
    } = prepared;
    issues.warnings.extend(thin);
    Ok(Sample {
        id: object.id.clone(),
        category,
        label,
        points,
        normals,
        part_labels,
        views: sample_views,
        object_from_mesh,
        num_triangles,
        surface_area,
        is_watertight,
        coverage_min,
        source_sha256,
        assets_sha256,
        issues: Some(issues),
    })
}
