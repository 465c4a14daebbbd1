//! Statistics of row groups as bounds on the values of a column.

use parquet::basic::{ConvertedType, LogicalType};
use parquet::file::metadata::{ColumnChunkMetaData, RowGroupMetaData};
use parquet::file::statistics::Statistics;

use crate::predicate::{Bounds, Value, ValueKind};
use crate::schema::column::{self, Column};

/// What a footer says of the values of a column in a row group; `None` for nothing that could be relied on.
pub(super) fn bounds_in_row_group(row_group: &RowGroupMetaData, name: &str) -> Option<Bounds> {
    let kind = column::find(name).and_then(Column::value_kind)?;
    let is_column =
        |chunk: &&ColumnChunkMetaData| matches!(chunk.column_path().parts(), [only] if only == name);
    let chunk = row_group.columns().iter().find(is_column)?;
    let statistics = chunk.statistics()?;
    let num_nulls = statistics.null_count_opt();
    let range = match kind {
        // Bounds of old writers are in an order that nobody can tell, and those of unsigned numbers are in one of their own.
        _ if statistics.is_min_max_deprecated() || is_unsigned(chunk) => None,
        ValueKind::Number => numbers(statistics)
            .filter(|range| !range.iter().any(|number| number.is_nan()))
            .map(|range| range.map(Value::Number)),
        ValueKind::Text => texts(statistics).map(|range| range.map(|text| Value::Text(text.to_owned()))),
        ValueKind::Bool => match statistics {
            Statistics::Boolean(bounds) => Some([*bounds.min_opt()?, *bounds.max_opt()?].map(Value::Bool)),
            _ => None,
        },
        ValueKind::Texts => None,
    };
    Some(Bounds {
        range,
        may_be_null: num_nulls != Some(0),
        may_be_value: num_nulls.is_none_or(|num_nulls| num_nulls < row_group.num_rows() as u64),
    })
}

fn numbers(statistics: &Statistics) -> Option<[f64; 2]> {
    match statistics {
        Statistics::Int32(bounds) => Some([*bounds.min_opt()?, *bounds.max_opt()?].map(f64::from)),
        Statistics::Int64(bounds) => {
            Some([*bounds.min_opt()?, *bounds.max_opt()?].map(|number| number as f64))
        }
        Statistics::Float(bounds) => Some([*bounds.min_opt()?, *bounds.max_opt()?].map(f64::from)),
        Statistics::Double(bounds) => Some([*bounds.min_opt()?, *bounds.max_opt()?]),
        _ => None,
    }
}

/// Bounds of long texts are cut off, so that they are less or greater.
fn texts(statistics: &Statistics) -> Option<[&str; 2]> {
    let Statistics::ByteArray(_) = statistics else {
        return None;
    };
    let text = |bytes| std::str::from_utf8(bytes).ok();
    Some([
        text(statistics.min_bytes_opt()?)?,
        text(statistics.max_bytes_opt()?)?,
    ])
}

fn is_unsigned(chunk: &ColumnChunkMetaData) -> bool {
    let column = chunk.column_descr();
    let is_logically =
        matches!(column.logical_type_ref(), Some(LogicalType::Integer(integer)) if !integer.is_signed);
    is_logically
        || matches!(
            column.converted_type(),
            ConvertedType::UINT_8 | ConvertedType::UINT_16 | ConvertedType::UINT_32 | ConvertedType::UINT_64
        )
}
