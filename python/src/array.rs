//! NumPy arrays in and out.

use std::ops::RangeInclusive;

use numpy::{Element, PyArray1, PyArrayMethods, PyReadonlyArray2, dtype};
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;

/// A new array of this shape, which owns the values.
pub(crate) fn array<T: Element>(py: Python<'_>, values: Vec<T>, shape: &[usize]) -> PyResult<Py<PyAny>> {
    let array = PyArray1::from_vec(py, values).reshape(shape.to_vec())?;
    Ok(array.into_any().unbind())
}

/// Whatever NumPy makes a table of, contiguous; its rows have one of these lengths.
fn table<'py, T: Element + 'static>(
    what: &str,
    value: &Bound<'py, PyAny>,
    lengths: RangeInclusive<usize>,
    shape: &str,
) -> PyResult<PyReadonlyArray2<'py, T>> {
    let py = value.py();
    let array = py
        .import("numpy")?
        .call_method1("ascontiguousarray", (value, dtype::<T>(py)))?;
    match array.extract::<PyReadonlyArray2<'py, T>>() {
        Ok(table) if lengths.contains(&table.as_array().ncols()) => Ok(table),
        _ => Err(shape_error(what, shape, &array)),
    }
}

/// The kind of an array's numbers: `f` of floats, `i` and `u` of whole ones, `b` of truth values.
fn kind_of(array: &Bound<'_, PyAny>) -> PyResult<String> {
    array.getattr("dtype")?.getattr("kind")?.extract()
}

/// Rows of three finite or other numbers, such as positions.
pub(crate) fn rows_of_3(what: &str, value: &Bound<'_, PyAny>) -> PyResult<Vec<[f64; 3]>> {
    let table = table::<f64>(what, value, 3..=3, "(N, 3)")?;
    Ok(table.as_slice()?.as_chunks::<3>().0.to_vec())
}

/// Triangles: rows of three indices.
pub(crate) fn triangles(what: &str, value: &Bound<'_, PyAny>) -> PyResult<Vec<[u32; 3]>> {
    let given = value.py().import("numpy")?.call_method1("asarray", (value,))?;
    if !["i", "u"].contains(&kind_of(&given)?.as_str()) {
        return Err(PyTypeError::new_err(format!(
            "{what}: expected whole numbers, found {}",
            given.getattr("dtype")?
        )));
    }
    if given.getattr("dtype")?.is(dtype::<u32>(value.py())) {
        let table = table::<u32>(what, &given, 3..=3, "(M, 3)")?;
        return Ok(table.as_slice()?.as_chunks::<3>().0.to_vec());
    }
    let table = table::<i64>(what, &given, 3..=3, "(M, 3)")?;
    let (rows, _) = table.as_slice()?.as_chunks::<3>();
    let index = |index: i64| {
        u32::try_from(index)
            .map_err(|_| PyValueError::new_err(format!("{what}: {index} is not an index of a vertex")))
    };
    rows.iter()
        .map(|&[a, b, c]| Ok([index(a)?, index(b)?, index(c)?]))
        .collect()
}

/// Colors, (N, 3) or (N, 4): bytes, or numbers from 0 to 1. Without alpha they are opaque.
pub(crate) fn colors(what: &str, value: &Bound<'_, PyAny>) -> PyResult<Vec<[u8; 4]>> {
    let given = value.py().import("numpy")?.call_method1("asarray", (value,))?;
    let scale = if kind_of(&given)? == "f" { 255.0 } else { 1.0 };
    let table = table::<f64>(what, &given, 3..=4, "(N, 3) or (N, 4)")?;
    let rows = table.as_slice()?.chunks_exact(table.as_array().ncols());
    rows.map(|row| {
        let mut color = [u8::MAX; 4];
        for (channel, value) in color.iter_mut().zip(row) {
            let value = value * scale;
            if !(0.0..=255.0).contains(&value) {
                return Err(PyValueError::new_err(format!(
                    "{what}: colors are bytes, or numbers from 0 to 1"
                )));
            }
            *channel = value.round() as u8;
        }
        Ok(color)
    })
    .collect()
}

fn shape_error(what: &str, expected: &str, array: &Bound<'_, PyAny>) -> PyErr {
    let found = array.getattr("shape").map(|shape| shape.to_string());
    PyValueError::new_err(format!(
        "{what}: expected the shape {expected}, found {}",
        found.unwrap_or_default()
    ))
}
