//! Reads accessors: every component type, normalized or not, dense or sparse, with bounds checks.

use glam::DVec3;
use gltf::{
    Accessor,
    accessor::{DataType, sparse::IndexType},
    buffer::View,
};

use super::{Buffers, ImportError, file_error};

/// Reads accessors; `max_elements` limits the allocation for sparse accessors without data.
pub(super) struct Reader<'a> {
    pub(super) buffers: Buffers<'a>,
    pub(super) max_elements: usize,
}

/// Layout of elements in a buffer view.
struct Layout {
    offset: usize,
    count: usize,
    num_components: usize,
    data_type: DataType,
    normalized: bool,
}

impl Reader<'_> {
    /// Three-component vectors.
    pub(super) fn vectors(&mut self, accessor: &Accessor<'_>) -> Result<Vec<DVec3>, ImportError> {
        Ok(self
            .numbers(accessor, 3)?
            .chunks_exact(3)
            .map(DVec3::from_slice)
            .collect())
    }

    /// Integers.
    pub(super) fn scalars(&mut self, accessor: &Accessor<'_>) -> Result<Vec<u32>, ImportError> {
        Ok(self
            .numbers(accessor, 1)?
            .into_iter()
            .map(|number| number as u32)
            .collect())
    }

    /// All components of all elements, concatenated.
    pub(super) fn numbers(
        &mut self,
        accessor: &Accessor<'_>,
        num_components: usize,
    ) -> Result<Vec<f64>, ImportError> {
        if accessor.dimensions().multiplicity() != num_components {
            return Err(file_error("an accessor has the wrong number of components"));
        }
        let count = accessor.count();
        let layout = Layout {
            offset: accessor.offset(),
            count,
            num_components,
            data_type: accessor.data_type(),
            normalized: accessor.normalized(),
        };
        let mut numbers = match (accessor.view(), accessor.sparse()) {
            (Some(view), _) => self.dense(&view, &layout)?,
            (None, Some(_)) if count <= self.max_elements => vec![0.0; count * num_components],
            (None, Some(_)) => return Err(file_error("a sparse accessor is larger than memory allows")),
            (None, None) => return Err(self.buffers.no_data("an accessor has no data")),
        };
        if let Some(sparse) = accessor.sparse() {
            let indices = Layout {
                offset: sparse.indices().offset(),
                count: sparse.count(),
                num_components: 1,
                data_type: match sparse.indices().index_type() {
                    IndexType::U8 => DataType::U8,
                    IndexType::U16 => DataType::U16,
                    IndexType::U32 => DataType::U32,
                },
                normalized: false,
            };
            let indices = self.dense(&sparse.indices().view(), &indices)?;
            let values = Layout {
                offset: sparse.values().offset(),
                count: sparse.count(),
                ..layout
            };
            let values = self.dense(&sparse.values().view(), &values)?;
            for (index, value) in indices.into_iter().zip(values.chunks_exact(num_components)) {
                let start = index as usize * num_components;
                let place = numbers.get_mut(start..start + num_components);
                place
                    .ok_or_else(|| file_error("a sparse accessor replaces an element that does not exist"))?
                    .copy_from_slice(value);
            }
        }
        Ok(numbers)
    }

    fn dense(&mut self, view: &View<'_>, layout: &Layout) -> Result<Vec<f64>, ImportError> {
        if layout.count == 0 {
            return Ok(Vec::new());
        }
        let size = layout.data_type.size() * layout.num_components;
        let stride = view.stride().unwrap_or(size);
        let end = (layout.count - 1)
            .checked_mul(stride)
            .and_then(|last| last.checked_add(size)?.checked_add(layout.offset));
        let bytes = self.buffers.view(view)?;
        let bytes = end
            .and_then(|end| bytes.get(layout.offset..end))
            .ok_or_else(|| file_error("an accessor reads past the end of its buffer view"))?;
        let mut numbers = Vec::with_capacity(layout.count * layout.num_components);
        for element in 0..layout.count {
            let element = &bytes[element * stride..element * stride + size];
            numbers.extend(
                element
                    .chunks_exact(layout.data_type.size())
                    .map(|bytes| layout.number(bytes)),
            );
        }
        Ok(numbers)
    }
}

impl Layout {
    fn number(&self, bytes: &[u8]) -> f64 {
        let (number, one) = match (self.data_type, bytes) {
            (DataType::I8, &[a]) => (f64::from(a.cast_signed()), f64::from(i8::MAX)),
            (DataType::U8, &[a]) => (f64::from(a), f64::from(u8::MAX)),
            (DataType::I16, &[a, b]) => (f64::from(i16::from_le_bytes([a, b])), f64::from(i16::MAX)),
            (DataType::U16, &[a, b]) => (f64::from(u16::from_le_bytes([a, b])), f64::from(u16::MAX)),
            (DataType::U32, &[a, b, c, d]) => {
                (f64::from(u32::from_le_bytes([a, b, c, d])), f64::from(u32::MAX))
            }
            (DataType::F32, &[a, b, c, d]) => return f64::from(f32::from_le_bytes([a, b, c, d])),
            _ => unreachable!("chunks have the size of the data type"),
        };
        if self.normalized {
            (number / one).max(-1.0)
        } else {
            number
        }
    }
}
