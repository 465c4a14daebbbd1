//! What a Parquet file of another program holds, from its columns and first row.

use arrow_array::{Array as _, RecordBatch};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{ArrowReaderOptions, ParquetRecordBatchReaderBuilder};

use super::value;
use crate::image::png_size;
use crate::schema::column::{self, COLUMNS};
use crate::schema::{ColumnSet, Columns, RowLayout, SCHEMA_VERSION};
use crate::store::StoreFile;

/// Columns of a file and dimensions of its first row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct InferredShard {
    /// Dimensions, with those sets of columns that are whole.
    pub(crate) layout: RowLayout,
    /// Columns of sets that are not whole, which are as good as missing.
    pub(crate) incomplete: Vec<String>,
    /// Columns that are not ours.
    pub(crate) foreign: Vec<String>,
}

/// # Errors
/// What it lacks to be a shard.
pub(crate) fn infer_shard(file: StoreFile) -> Result<InferredShard, String> {
    let options = ArrowReaderOptions::new().with_skip_arrow_metadata(true);
    let builder =
        ParquetRecordBatchReaderBuilder::try_new_with_options(file, options).map_err(|e| e.to_string())?;
    let names: Vec<String> = builder
        .schema()
        .fields()
        .iter()
        .map(|field| field.name().clone())
        .collect();
    let has = |name: &str| names.iter().any(|other| other == name);
    let columns = whole_sets(&has);
    if !columns.has(ColumnSet::Points) {
        let of_points = column::stored(Columns::POINTS, 1).map(|column| column.name);
        let missing: Vec<&str> = of_points.filter(|name| !has(name)).collect();
        return Err(format!("no column {}", missing.join(", ")));
    }
    let dimensions = [column::POINTS, column::IMAGES];
    let roots = names
        .iter()
        .enumerate()
        .filter(|(_, name)| dimensions.contains(&name.as_str()));
    let mask = ProjectionMask::roots(builder.parquet_schema(), roots.map(|(root_idx, _)| root_idx));
    let mut batches = builder
        .with_projection(mask)
        .with_batch_size(1)
        .with_limit(1)
        .build()
        .map_err(|e| e.to_string())?;
    let first = batches.next().ok_or("no rows")?.map_err(|e| e.to_string())?;
    let (num_views, image_size_px) = if columns.has(ColumnSet::Views) {
        size_of_views(&first)?
    } else {
        (0, 0)
    };
    Ok(InferredShard {
        layout: RowLayout {
            num_points: list(&first, column::POINTS)?.len(),
            num_views,
            image_size_px,
            columns,
        },
        incomplete: names
            .iter()
            .filter(|name| column::find(name).is_some_and(|column| !column.is_of(columns)))
            .cloned()
            .collect(),
        foreign: names
            .iter()
            .filter(|name| column::find(name).is_none())
            .cloned()
            .collect(),
    })
}

/// The sets of which a file has every column; columns that came with a later version may be missing.
fn whole_sets(has: &dyn Fn(&str) -> bool) -> Columns {
    let all = Columns::DEFAULT.with(ColumnSet::GbufferAlbedo);
    all.sets().fold(all, |columns, set| {
        let only = COLUMNS.iter().filter(|column| column.set == set);
        let oldest = only
            .clone()
            .map(|column| column.since)
            .min()
            .unwrap_or(SCHEMA_VERSION);
        let mut needed = only.filter(|column| column.since == oldest);
        if needed.all(|column| has(column.name)) {
            columns
        } else {
            columns.without(set)
        }
    })
}

fn size_of_views(first: &RecordBatch) -> Result<(usize, u32), String> {
    let images = list(first, column::IMAGES)?;
    let pngs = value::images(&images).ok_or("images that are not bytes")?;
    if pngs.is_empty() {
        return Err("no view in its first row".to_owned());
    }
    let (width, height) = png_size(pngs.value(0)).ok_or("views that are not PNGs")?;
    if width == height {
        Ok((pngs.len(), width))
    } else {
        Err(format!("views of {width}x{height} pixels, which are not square"))
    }
}

fn list(first: &RecordBatch, name: &str) -> Result<arrow_array::ArrayRef, String> {
    let column = first
        .column_by_name(name)
        .ok_or_else(|| format!("no column {name}"))?;
    value::list(column, 0).ok_or_else(|| format!("{name} is not a list"))
}
