//! Values of Arrow arrays, whichever of the types that hold them another program chose.
//!
//! Arrow types are derived from those of the Parquet file, so texts are `Utf8` and lists are `List`, whatever they were in
//! memory; in shards of this program a list may be of fixed size. What is left is the width of numbers.

use arrow_array::cast::AsArray;
use arrow_array::types::{
    Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type, UInt8Type, UInt16Type, UInt32Type,
    UInt64Type,
};
use arrow_array::{Array, ArrayRef, BinaryArray, Float32Array};
use arrow_schema::DataType;

/// The text at `row`; `None` where there is null, or no text.
pub(super) fn text(array: &dyn Array, row: usize) -> Option<&str> {
    if array.is_null(row) {
        return None;
    }
    match array.data_type() {
        DataType::Utf8 => Some(array.as_string::<i32>().value(row)),
        // Text that its writer did not mark as such.
        DataType::Binary => std::str::from_utf8(array.as_binary::<i32>().value(row)).ok(),
        _ => None,
    }
}

/// The number at `row`.
pub(super) fn number(array: &dyn Array, row: usize) -> Option<f64> {
    match array.data_type() {
        DataType::Float64 => Some(array.as_primitive::<Float64Type>().value(row)),
        DataType::Float32 => Some(array.as_primitive::<Float32Type>().value(row).into()),
        _ => integer(array, row).map(|integer| integer as f64),
    }
}

/// The whole number at `row`. Programs without null integers store them as floats.
pub(super) fn integer(array: &dyn Array, row: usize) -> Option<i64> {
    let whole = |number: f64| {
        let is_whole = number.fract() == 0.0 && number.abs() < (1_u64 << 53) as f64;
        is_whole.then_some(number as i64)
    };
    match array.data_type() {
        DataType::Int64 => Some(array.as_primitive::<Int64Type>().value(row)),
        DataType::Int32 => Some(array.as_primitive::<Int32Type>().value(row).into()),
        DataType::Int16 => Some(array.as_primitive::<Int16Type>().value(row).into()),
        DataType::Int8 => Some(array.as_primitive::<Int8Type>().value(row).into()),
        DataType::UInt64 => array.as_primitive::<UInt64Type>().value(row).try_into().ok(),
        DataType::UInt32 => Some(array.as_primitive::<UInt32Type>().value(row).into()),
        DataType::UInt16 => Some(array.as_primitive::<UInt16Type>().value(row).into()),
        DataType::UInt8 => Some(array.as_primitive::<UInt8Type>().value(row).into()),
        DataType::Float64 => whole(array.as_primitive::<Float64Type>().value(row)),
        DataType::Float32 => whole(array.as_primitive::<Float32Type>().value(row).into()),
        _ => None,
    }
}

/// The truth value at `row`, also as a number.
pub(super) fn boolean(array: &dyn Array, row: usize) -> Option<bool> {
    if let Some(booleans) = array.as_boolean_opt() {
        return Some(booleans.value(row));
    }
    match integer(array, row)? {
        0 => Some(false),
        1 => Some(true),
        _ => None,
    }
}

/// The items of the list at `row`.
pub(super) fn list(array: &dyn Array, row: usize) -> Option<ArrayRef> {
    match array.data_type() {
        DataType::List(_) => Some(array.as_list::<i32>().value(row)),
        DataType::FixedSizeList(..) => Some(array.as_fixed_size_list().value(row)),
        _ => None,
    }
}

/// The bytes of images, with or without file names beside them.
pub(super) fn images(items: &ArrayRef) -> Option<BinaryArray> {
    match items.as_struct_opt() {
        Some(images) => images.column_by_name("bytes").and_then(binaries),
        None => binaries(items),
    }
}

/// The numbers of a list, or of a list of lists of `len` items each; `None` where there is null, another length or no
/// number.
pub(super) fn numbers(mut items: ArrayRef, len: usize) -> Option<Float32Array> {
    while matches!(items.data_type(), DataType::List(_) | DataType::FixedSizeList(..)) {
        items = flatten(&items, len)?;
    }
    if items.null_count() > 0 {
        return None;
    }
    match items.as_primitive_opt::<Float32Type>() {
        Some(numbers) => Some(numbers.clone()),
        None => (0..items.len())
            .map(|i| number(&items, i).map(|number| Some(number as f32)))
            .collect(),
    }
}

/// The items of all lists of an array, each of which has `len`.
fn flatten(lists: &ArrayRef, len: usize) -> Option<ArrayRef> {
    if lists.null_count() > 0 {
        return None;
    }
    let num_items = lists.len() * len;
    if let Some(lists) = lists.as_list_opt::<i32>() {
        let are_full = lists.offsets().lengths().all(|length| length == len);
        return are_full.then(|| lists.values().slice(lists.offsets()[0] as usize, num_items));
    }
    let lists = lists.as_fixed_size_list_opt()?;
    let are_full = lists.value_length() as usize == len;
    are_full.then(|| lists.values().slice(lists.value_offset_at(0), num_items))
}

/// The items of a list as bytes; `None` where one is null or no number below 256.
pub(super) fn bytes(items: &ArrayRef) -> Option<Vec<u8>> {
    if items.null_count() > 0 {
        return None;
    }
    match items.as_primitive_opt::<UInt8Type>() {
        Some(bytes) => Some(bytes.values().to_vec()),
        None => (0..items.len())
            .map(|i| u8::try_from(integer(items, i)?).ok())
            .collect(),
    }
}

/// The items of a list as byte strings.
pub(super) fn binaries(items: &ArrayRef) -> Option<BinaryArray> {
    match items.data_type() {
        DataType::Binary => Some(items.as_binary::<i32>().clone()),
        DataType::FixedSizeBinary(_) => Some(items.as_fixed_size_binary().iter().collect()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use std::sync::Arc;

    use arrow_array::types::{Float64Type, Int32Type};
    use arrow_array::{
        BooleanArray, FixedSizeBinaryArray, FixedSizeListArray, Float64Array, Int32Array, ListArray,
        StringArray,
    };

    use super::*;

    #[test]
    fn a_number_is_one_in_any_width() {
        let wide: [ArrayRef; 2] = [
            Arc::new(Int32Array::from(vec![3, -1])),
            Arc::new(Float64Array::from(vec![3.0, -1.0])),
        ];
        for array in wide {
            assert_eq!(integer(&array, 0), Some(3));
            assert_eq!(integer(&array, 1), Some(-1));
            assert_eq!(number(&array, 1), Some(-1.0));
        }
        assert_eq!(integer(&Float64Array::from(vec![0.5]), 0), None);
        assert_eq!(integer(&Float64Array::from(vec![f64::NAN]), 0), None);
        assert_eq!(integer(&StringArray::from(vec!["3"]), 0), None);
        assert_eq!(boolean(&BooleanArray::from(vec![true]), 0), Some(true));
        assert_eq!(boolean(&Int32Array::from(vec![2]), 0), None);
    }

    #[test]
    fn lists_are_flattened_if_each_is_full() {
        let rows = |rows: Vec<Option<Vec<Option<f64>>>>| -> ArrayRef {
            Arc::new(ListArray::from_iter_primitive::<Float64Type, _, _>(rows))
        };
        let full = rows(vec![
            Some(vec![Some(1.0), Some(2.0)]),
            Some(vec![Some(3.0), Some(4.0)]),
        ]);
        assert_eq!(
            numbers(Arc::clone(&full), 2).unwrap().values()[..],
            [1.0, 2.0, 3.0, 4.0]
        );
        assert_eq!(numbers(full.slice(1, 1), 2).unwrap().values()[..], [3.0, 4.0]);
        assert!(numbers(full, 4).is_none(), "as many numbers, but in other lists");
        assert!(numbers(rows(vec![Some(vec![Some(1.0)]), Some(vec![])]), 1).is_none());
        assert!(numbers(rows(vec![Some(vec![None])]), 1).is_none());
        assert!(numbers(rows(vec![None]), 1).is_none());
        let fixed = FixedSizeListArray::from_iter_primitive::<Int32Type, _, _>(
            [Some(vec![Some(1), Some(2)]), Some(vec![Some(3), Some(4)])],
            2,
        );
        assert_eq!(
            numbers(Arc::new(fixed.slice(1, 1)), 2).unwrap().values()[..],
            [3.0, 4.0]
        );
    }

    #[test]
    fn bytes_are_small_numbers_and_binaries_may_be_of_fixed_size() {
        let small: ArrayRef = Arc::new(Int32Array::from(vec![0, 255]));
        let large: ArrayRef = Arc::new(Int32Array::from(vec![0, 256]));
        assert_eq!(bytes(&small), Some(vec![0, 255]));
        assert_eq!(bytes(&large), None);
        let fixed = FixedSizeBinaryArray::try_from_iter([[1, 2], [3, 4]].into_iter()).unwrap();
        let fixed: ArrayRef = Arc::new(fixed);
        assert_eq!(binaries(&fixed).unwrap().value(1), [3, 4]);
        assert!(binaries(&small).is_none());
    }
}
