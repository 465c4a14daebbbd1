//! Last stage, on the workers: points and views to a row, with the checks that a row must pass.

use tap_render::{ColorImage, View, row_major};

use super::Skip;
use super::prepare::{Prepared, SampledObject};
use super::thin::{self, Surfels};
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
    prepared: Prepared,
    views: &[View],
    columns: Columns,
) -> Result<Sample, Skip> {
    let _span = tracing::debug_span!("object", id = %object.id).entered();
    let encode = |(view_number, view)| encode_view(view_number, view, columns);
    let views: Vec<SampleView> = (1..).zip(views).map(encode).collect::<Result<_, _>>()?;
    let coverages = views.iter().map(|view| view.mask.coverage());
    let coverage_min = coverages.reduce(f32::min);
    let thin = thin_warning(&prepared, &views)?;
    let mut sampled = prepared.object;
    match (thin, sampled.mesh.as_mut().and_then(|mesh| mesh.issues.as_mut())) {
        (Some(thin), Some(issues)) => issues.warnings.push(thin),
        // Nothing in the row would say why its points are outside of its masks.
        (Some(thin), None) => return Err(skip(SkipReason::EmptyView, thin)),
        (None, _) => {}
    }
    Ok(Sample {
        views,
        coverage_min,
        ..to_row(source, object, sampled, columns)
    })
}

/// The warning of an object that is too thin for some of its views.
///
/// # Errors
/// The reason to skip it, if it is not where its points are.
fn thin_warning(prepared: &Prepared, views: &[SampleView]) -> Result<Option<String>, Skip> {
    let SampledObject { points, normals, .. } = &prepared.object;
    let is_suspect =
        |view: &SampleView| view.mask.num_covered() == 0 || points_in_mask(points, view) < MIN_POINTS_IN_MASK;
    let suspects: Vec<usize> = (0..views.len())
        .filter(|&view_idx| is_suspect(&views[view_idx]))
        .collect();
    if suspects.is_empty() {
        return Ok(None);
    }
    let explained = thin::explain(&prepared.job, Surfels { points, normals }, views, &suspects);
    explained
        .map(Some)
        .map_err(|(reason, message)| skip(reason, message))
}

/// A row without views.
pub(super) fn to_row(
    source: &Source,
    object: &SourceObject,
    sampled: SampledObject,
    columns: Columns,
) -> Sample {
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
        normals: columns.has(ColumnSet::Normals).then_some(normals),
        part_labels,
        views: Vec::new(),
        coverage_min: None,
        object_from_mesh,
        source_sha256,
        assets_sha256,
        mesh,
    }
}

fn encode_view(view_number: usize, view: &View, columns: Columns) -> Result<SampleView, Skip> {
    let failed = |detail: String| skip(SkipReason::RenderFailed, format!("view {view_number}{detail}"));
    let (Some(color), Some(mask)) = (&view.color, &view.mask) else {
        return Err(failed(" has no color or no mask".to_owned()));
    };
    let image_png = encode_color(view.size_px, color).map_err(|e| failed(format!(": {e}")))?;
    let gbuffer = GbufferPixels::from_view(view, columns.has(ColumnSet::GbufferAlbedo))
        .map(|pixels| ViewGbuffer::encode(view.size_px, &pixels))
        .transpose()
        .map_err(|e| failed(format!(": {e}")))?;
    Ok(SampleView {
        image_png,
        mask: Mask1Bit::from_covered(view.size_px, mask.covered()),
        view_from_object: row_major(&view.matrices.view_from_object),
        clip_from_view: row_major(&view.matrices.clip_from_view),
        gbuffer,
    })
}

/// The caller knows the hash of the mesh.
fn skip(reason: SkipReason, message: String) -> Skip {
    Skip {
        reason,
        message,
        source_sha256: None,
    }
}
