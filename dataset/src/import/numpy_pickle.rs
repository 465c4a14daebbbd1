//! Arrays of numpy in a pickle, as Point-BERT's files hold them. Nothing is called: an array is recognized by the names, the
//! shape and the type that its pickle states, and its numbers are read where they lie in the file.

use std::fs::File;
use std::path::{Path, PathBuf};

use crate::error::{DatasetError, ImportError, Result};
use crate::local_file::read_exact_at;
use crate::pickle::{self, Pickle, Value};

/// Largest array that is read: the points of one object.
const MAX_ARRAY_BYTES: u64 = 64 << 20;

/// Functions that make an array of its state, or of a buffer, by numpy's versions.
const RECONSTRUCT: [&str; 2] = [
    "numpy.core.multiarray._reconstruct",
    "numpy._core.multiarray._reconstruct",
];
const FROM_BUFFER: [&str; 2] = [
    "numpy.core.numeric._frombuffer",
    "numpy._core.numeric._frombuffer",
];
const SCALAR: [&str; 2] = ["numpy.core.multiarray.scalar", "numpy._core.multiarray.scalar"];

/// A pickle that is read in place.
#[derive(Debug)]
pub(super) struct PickleFile {
    pub(super) pickle: Pickle,
    pub(super) numbers: NumberFile,
}

/// The file of a pickle, for the arrays in it. It is read from several threads.
#[derive(Debug)]
pub(super) struct NumberFile {
    file: File,
    path: PathBuf,
}

/// An array, as the pickle describes it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct PickledArray {
    pub(super) shape: Vec<usize>,
    number: NumberType,
    is_fortran: bool,
    data: Data,
}

#[derive(Debug, Clone, PartialEq)]
enum Data {
    Held(Vec<u8>),
    Stored { offset: u64, num_bytes: u64 },
}

/// Type of the numbers, as in `<f4`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct NumberType {
    kind: u8,
    width: usize,
    is_big_endian: bool,
}

impl PickleFile {
    pub(super) fn open(path: &Path) -> Result<Self> {
        let file = File::open(path).map_err(DatasetError::io("open", path))?;
        let pickle = pickle::index(&file).map_err(|source| {
            DatasetError::Import(ImportError::Pickle {
                path: path.to_owned(),
                source,
            })
        })?;
        Ok(Self {
            pickle,
            numbers: NumberFile {
                file,
                path: path.to_owned(),
            },
        })
    }

    pub(super) fn malformed(&self, detail: impl Into<String>) -> DatasetError {
        self.numbers.malformed(detail)
    }

    /// An array, or what it is instead.
    pub(super) fn array(&self, value: &Value) -> Result<PickledArray, String> {
        match array(&self.pickle, value) {
            Some(array) => array.checked(),
            None => match self.pickle.call(value) {
                Some((callee, _)) => Err(format!(
                    "a call of {callee}, which is not made, instead of an array"
                )),
                None => Err("no array".to_owned()),
            },
        }
    }

    /// A whole number: of Python, of numpy, or the only one of an array.
    pub(super) fn integer(&self, value: &Value) -> Option<i64> {
        if let Some(int) = value.as_int() {
            return Some(int);
        }
        let array = match scalar(&self.pickle, value) {
            Some(array) => array,
            None => array(&self.pickle, value)?,
        };
        let array = array.checked().ok()?;
        let [number] = self.numbers.read(&array).ok()?[..] else {
            return None;
        };
        (number.fract() == 0.0 && number.abs() < 2_f64.powi(53)).then_some(number as i64)
    }
}

impl NumberFile {
    pub(super) fn malformed(&self, detail: impl Into<String>) -> DatasetError {
        DatasetError::Import(ImportError::Malformed {
            detail: detail.into(),
            path: self.path.clone(),
        })
    }

    /// The numbers of an array, row by row.
    pub(super) fn read(&self, array: &PickledArray) -> Result<Vec<f64>> {
        let stored;
        let bytes: &[u8] = match &array.data {
            Data::Held(bytes) => bytes,
            Data::Stored { offset, num_bytes } => {
                let mut buffer = vec![0; *num_bytes as usize];
                read_exact_at(&self.file, &mut buffer, *offset)
                    .map_err(DatasetError::io("read", &self.path))?;
                stored = buffer;
                &stored
            }
        };
        let numbers: Vec<f64> = bytes
            .chunks_exact(array.number.width)
            .map(|bytes| array.number.decode(bytes))
            .collect();
        let [num_rows, num_columns] = match array.shape[..] {
            [num_rows, num_columns] if array.is_fortran => [num_rows, num_columns],
            _ => return Ok(numbers),
        };
        let at = |place: usize| numbers[place % num_columns * num_rows + place / num_columns];
        Ok((0..numbers.len()).map(at).collect())
    }
}

impl PickledArray {
    /// Refuses an array whose bytes are not those of its shape.
    fn checked(self) -> Result<Self, String> {
        let num_bytes = match &self.data {
            Data::Held(bytes) => bytes.len() as u64,
            Data::Stored { num_bytes, .. } => *num_bytes,
        };
        let expected = self
            .shape
            .iter()
            .try_fold(self.number.width as u64, |bytes, &side| {
                bytes.checked_mul(side as u64)
            });
        if expected != Some(num_bytes) {
            return Err(format!("an array of shape {:?} in {num_bytes} bytes", self.shape));
        }
        if num_bytes > MAX_ARRAY_BYTES {
            return Err(format!("an array of {num_bytes} bytes"));
        }
        Ok(self)
    }
}

impl NumberType {
    /// Of `f4`, and perhaps a byte order in front.
    fn parse(text: &str) -> Option<Self> {
        let rest = text.trim_start_matches(['<', '>', '|', '=']);
        let (kind, width) = (*rest.as_bytes().first()?, rest.get(1..)?.parse().ok()?);
        let is_known = matches!((kind, width), (b'f', 4 | 8) | (b'i' | b'u', 1 | 2 | 4 | 8));
        is_known.then_some(Self {
            kind,
            width,
            is_big_endian: text.starts_with('>'),
        })
    }

    fn decode(self, bytes: &[u8]) -> f64 {
        let mut little = [0; 8];
        little[..self.width].copy_from_slice(bytes);
        if self.is_big_endian {
            little[..self.width].reverse();
        }
        let raw = u64::from_le_bytes(little);
        let unused = 64 - 8 * self.width as u32;
        match (self.kind, self.width) {
            (b'f', 4) => f64::from(f32::from_bits(raw as u32)),
            (b'f', _) => f64::from_bits(raw),
            (b'i', _) => ((raw << unused).cast_signed() >> unused) as f64,
            _ => raw as f64,
        }
    }
}

fn array(pickle: &Pickle, value: &Value) -> Option<PickledArray> {
    let (callee, arguments) = pickle.call(value)?;
    if RECONSTRUCT.contains(&callee) {
        // (version, shape, type, whether in Fortran's order, bytes)
        let [_, shape, dtype, is_fortran, data] = pickle.items(pickle.state(value)?)?.first_chunk::<5>()?;
        return Some(PickledArray {
            shape: sides(pickle, shape)?,
            number: number_type(pickle, dtype)?,
            is_fortran: matches!(is_fortran, Value::Bool(true)),
            data: self::data(pickle, data)?,
        });
    }
    if FROM_BUFFER.contains(&callee) {
        let [data, dtype, shape, order] = arguments.first_chunk::<4>()?;
        return Some(PickledArray {
            shape: sides(pickle, shape)?,
            number: number_type(pickle, dtype)?,
            is_fortran: order.as_text() == Some("F"),
            data: self::data(pickle, data)?,
        });
    }
    None
}

/// A number of numpy, as an array without sides.
fn scalar(pickle: &Pickle, value: &Value) -> Option<PickledArray> {
    let (callee, arguments) = pickle.call(value)?;
    let [dtype, data] = arguments
        .first_chunk::<2>()
        .filter(|_| SCALAR.contains(&callee))?;
    Some(PickledArray {
        shape: Vec::new(),
        number: number_type(pickle, dtype)?,
        is_fortran: false,
        data: self::data(pickle, data)?,
    })
}

fn sides(pickle: &Pickle, shape: &Value) -> Option<Vec<usize>> {
    let sides = pickle.items(shape)?.iter();
    sides.map(|side| usize::try_from(side.as_int()?).ok()).collect()
}

/// `numpy.dtype('f4', ...)` with a state that begins with its version and byte order.
fn number_type(pickle: &Pickle, dtype: &Value) -> Option<NumberType> {
    let (callee, arguments) = pickle.call(dtype)?;
    let text = arguments.first()?.as_text().filter(|_| callee == "numpy.dtype")?;
    let mut number = NumberType::parse(text)?;
    let order = pickle
        .state(dtype)
        .and_then(|state| pickle.items(state)?.get(1)?.as_text());
    if let Some(order) = order {
        number.is_big_endian = order == ">";
    }
    Some(number)
}

/// Bytes, or what stands for them: text of Python 2, or bytes that protocol 2 wrote as text.
fn data(pickle: &Pickle, value: &Value) -> Option<Data> {
    let latin1 = |text: &str| {
        text.chars()
            .map(|c| u8::try_from(c).ok())
            .collect::<Option<Vec<u8>>>()
    };
    Some(match value {
        Value::Bytes(bytes) => Data::Held(bytes.to_vec()),
        &Value::Stored { offset, num_bytes } => Data::Stored { offset, num_bytes },
        Value::Call(_) => {
            let (callee, arguments) = pickle.call(value)?;
            match (callee, arguments) {
                ("_codecs.encode", [Value::Text(text), encoding])
                    if matches!(encoding.as_text(), Some("latin1" | "latin-1")) =>
                {
                    Data::Held(latin1(text)?)
                }
                ("builtins.bytearray" | "__builtin__.bytearray", [bytes, ..]) => data(pickle, bytes)?,
                _ => return None,
            }
        }
        _ => return None,
    })
}
