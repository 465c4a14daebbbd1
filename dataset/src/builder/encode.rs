//! Last stage, on the workers: points and views to a row, with the checks that a row must pass.

use tap_render::{ColorImage, View, row_major};

use super::Skip;
use super::prepare::SampledObject;
use crate::error::Result;
use crate::image::{GbufferPixels, Mask1Bit, ViewGbuffer, encode_gray_png, encode_rgb_png};
use crate::manifest::SkipReason;
use crate::reprojection::{MIN_POINTS_IN_MASK, points_in_mask};
use crate::schema::{ColumnSet, Columns, Sample, SampleView};
use crate::source::{Source, SourceObject};

/// Encodes a color image as stored in rows.
pub(crate) fn encode_color(size_px: u32, color: &ColorImage) -> Result<Vec<u8>> {
    match color {
        ColorImage::Gray(pixels) => encode_gray_png(size_px, pixels),
        color => encode_rgb_png(size_px, &color.to_rgb()),
    }
}

/// Encodes the views of an object as a row.
pub(super) fn encode(
    source: &Source,
    object: &SourceObject,
    sampled: SampledObject,
    views: &[View],
    columns: Columns,
) -> Result<Sample, Skip> {
    let _span = tracing::debug_span!("object", id = %object.id).entered();
    let encode = |(view_idx, view)| encode_view(view_idx, view, &sampled.points, columns);
    let views: Vec<SampleView> = views.iter().enumerate().map(encode).collect::<Result<_, _>>()?;
    let coverages = views.iter().map(|view| view.mask.coverage());
    let coverage_min = coverages.reduce(f32::min);
    Ok(Sample {
        views,
        coverage_min,
        ..to_row(source, object, sampled)
    })
}

/// A row without views.
pub(super) fn to_row(source: &Source, object: &SourceObject, sampled: SampledObject) -> Sample {
    let category = object.id.category().to_owned();
    let label = source.label_of(&category);
    let SampledObject {
        points,
        normals,
        part_labels,
        object_from_mesh,
        source_sha256,
        assets_sha256,
        mesh,
    } = sampled;
    Sample {
        id: object.id.clone(),
        category,
        label,
        points,
        normals,
        part_labels,
        views: Vec::new(),
        coverage_min: None,
        object_from_mesh,
        source_sha256,
        assets_sha256,
        mesh,
    }
}

fn encode_view(
    view_idx: usize,
    view: &View,
    points: &[[f32; 3]],
    columns: Columns,
) -> Result<SampleView, Skip> {
    let skip = |reason, message| Skip {
        reason,
        message,
        source_sha256: None,
    };
    let (Some(color), Some(mask)) = (&view.color, &view.mask) else {
        return Err(skip(
            SkipReason::RenderFailed,
            format!("view {view_idx} has no color or no mask"),
        ));
    };
    let mask = Mask1Bit::from_covered(view.size_px, mask.covered());
    if mask.num_covered() == 0 {
        return Err(skip(
            SkipReason::EmptyView,
            format!("nothing is seen in view {view_idx}"),
        ));
    }
    let image_png = encode_color(view.size_px, color)
        .map_err(|e| skip(SkipReason::RenderFailed, format!("view {view_idx}: {e}")))?;
    let gbuffer = GbufferPixels::from_view(view, columns.has(ColumnSet::GbufferAlbedo))
        .map(|pixels| ViewGbuffer::encode(view.size_px, &pixels))
        .transpose()
        .map_err(|e| skip(SkipReason::RenderFailed, format!("view {view_idx}: {e}")))?;
    let view = SampleView {
        image_png,
        mask,
        view_from_object: row_major(&view.matrices.view_from_object),
        clip_from_view: row_major(&view.matrices.clip_from_view),
        gbuffer,
    };
    let fraction = points_in_mask(points, &view);
    if fraction < MIN_POINTS_IN_MASK {
        let percent = 100.0 * fraction;
        let message = format!("only {percent:.1} % of its points lie in the mask of view {view_idx}");
        return Err(skip(SkipReason::Reprojection, message));
    }
    Ok(view)
}
