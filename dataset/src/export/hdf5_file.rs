//! [`Hdf5File`]: an HDF5 file of a few named arrays of known shape, written row by row.
//!
//! The oldest form of the format, which every release of the HDF5 library reads: superblock 0, one group with a symbol table,
//! object headers of version 1, contiguous little-endian arrays (The HDF Group, "HDF5 File Format Specification Version 3.0",
//! sections II.A, III.A to III.D and IV.A). All addresses follow from the shapes, so a file of any size is written in the memory
//! of a row. The writer that our tests use holds a file in memory three times.

use std::fs::File;
use std::io::{self, Seek, SeekFrom, Write};

const SIGNATURE: [u8; 8] = *b"\x89HDF\r\n\x1a\n";
/// Address of nothing.
const UNDEFINED: u64 = u64::MAX;
/// Ranks of a group's B-tree: names of a leaf are up to twice the first, children of a node up to twice the second.
const LEAF_RANK: u16 = 4;
const NODE_RANK: u16 = 16;
/// Names that one leaf holds.
const MAX_ARRAYS: usize = 2 * LEAF_RANK as usize;

const SUPERBLOCK_BYTES: u64 = 96;
/// Prefix, and the message that names B-tree and heap.
const GROUP_HEADER_BYTES: u64 = 16 + 24;
const NODE_BYTES: u64 = 24 + 8 * (4 * NODE_RANK as u64 + 1);
const LEAF_BYTES: u64 = 8 + 40 * MAX_ARRAYS as u64;
const HEAP_HEADER_BYTES: u64 = 32;

/// Numbers of an array.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Number {
    F32,
    U8,
    I32,
}

impl Number {
    fn bytes(self) -> u64 {
        match self {
            Self::U8 => 1,
            Self::F32 | Self::I32 => 4,
        }
    }

    /// Datatype message: class and version, bits of the class, size, properties.
    fn message(self) -> Bytes {
        let message = Bytes::default();
        match self {
            Self::F32 => message
                .put(&[0x11, 0x20, 31, 0])
                .u32(4)
                .u16(0)
                .u16(32)
                .put(&[23, 8, 0, 23])
                .u32(127),
            Self::U8 => message.put(&[0x10, 0, 0, 0]).u32(1).u16(0).u16(8),
            Self::I32 => message.put(&[0x10, 0x08, 0, 0]).u32(4).u16(0).u16(32),
        }
    }
}

/// An array to write.
#[derive(Debug, Clone)]
pub(super) struct Array {
    pub(super) name: &'static str,
    pub(super) number: Number,
    /// Sides, the number of rows first.
    pub(super) shape: Vec<u64>,
}

impl Array {
    fn row_bytes(&self) -> u64 {
        self.shape[1..].iter().product::<u64>() * self.number.bytes()
    }

    fn bytes(&self) -> u64 {
        self.shape[0] * self.row_bytes()
    }

    /// Object header of the array whose numbers are at `address`.
    fn header(&self, address: u64) -> Bytes {
        let dataspace = Bytes::default().put(&[1, self.shape.len() as u8, 0, 0]).u32(0);
        let dataspace = self.shape.iter().fold(dataspace, |bytes, &side| bytes.u64(side));
        // Space is allotted early, and what is not written is not filled.
        let fill_value = Bytes::default().put(&[2, 1, 2, 0]);
        let layout = Bytes::default().put(&[3, 1]).u64(address).u64(self.bytes());
        object_header(&[
            (0x0001, dataspace),
            (0x0003, self.number.message()),
            (0x0005, fill_value),
            (0x0008, layout),
        ])
    }
}

/// A file that is written.
#[derive(Debug)]
pub(super) struct Hdf5File {
    file: File,
    /// Address and bytes of a row of each array.
    rows: Vec<(u64, u64)>,
    len: u64,
}

impl Hdf5File {
    /// Writes all but the numbers of up to eight arrays with distinct names.
    pub(super) fn create(mut file: File, arrays: &[Array]) -> io::Result<Self> {
        assert!(arrays.len() <= MAX_ARRAYS, "the group has one leaf");
        let mut sorted: Vec<usize> = (0..arrays.len()).collect();
        sorted.sort_by_key(|&array| arrays[array].name);

        // The heap begins with the empty name, the lower bound of the leaf's names.
        let mut heap = Bytes::default().u64(0);
        let mut name_offsets = vec![0; arrays.len()];
        for &array in &sorted {
            name_offsets[array] = heap.len();
            heap = heap.put(arrays[array].name.as_bytes()).put(&[0]).padded();
        }
        let group = SUPERBLOCK_BYTES;
        let node = group + GROUP_HEADER_BYTES;
        let leaf = node + NODE_BYTES;
        let heap_header = leaf + LEAF_BYTES;
        let names = heap_header + HEAP_HEADER_BYTES;
        let first_header = names + heap.len();
        let header_lens: Vec<u64> = arrays.iter().map(|array| array.header(0).len()).collect();
        let headers = addresses(first_header, &header_lens);
        let numbers: Vec<u64> = arrays.iter().map(Array::bytes).collect();
        let numbers = addresses(*headers.last().expect("one more than arrays"), &numbers);
        let len = *numbers.last().expect("one more than arrays");

        let last_name = sorted.last().map_or(0, |&array| name_offsets[array]);
        let heap_len = heap.len();
        let table = Bytes::default().u64(node).u64(heap_header);
        let symbols = sorted.iter().fold(Bytes::default(), |bytes, &array| {
            bytes.u64(name_offsets[array]).u64(headers[array]).put(&[0; 24])
        });
        let parts = [
            superblock(len, group, node, heap_header),
            object_header(&[(0x0011, table)]),
            Bytes::default()
                .put(b"TREE\0\0")
                .u16(1)
                .u64(UNDEFINED)
                .u64(UNDEFINED)
                .u64(0)
                .u64(leaf)
                .u64(last_name)
                .zeros_to(NODE_BYTES),
            Bytes::default()
                .put(b"SNOD\x01\0")
                .u16(arrays.len() as u16)
                .put(&symbols.0)
                .zeros_to(LEAF_BYTES),
            // 1: no part of the heap is free.
            Bytes::default()
                .put(b"HEAP\0\0\0\0")
                .u64(heap_len)
                .u64(1)
                .u64(names),
            heap,
        ];
        for part in &parts {
            file.write_all(&part.0)?;
        }
        for (array, &address) in arrays.iter().zip(&numbers) {
            file.write_all(&array.header(address).0)?;
        }
        file.set_len(len)?;
        let rows = numbers
            .into_iter()
            .zip(arrays.iter().map(Array::row_bytes))
            .collect();
        Ok(Self { file, rows, len })
    }

    /// Writes a row of the array at a place of the list that the file was created with: little-endian numbers.
    pub(super) fn write_row(&mut self, array: usize, row: u64, numbers: &[u8]) -> io::Result<()> {
        let (address, row_bytes) = self.rows[array];
        assert_eq!(numbers.len() as u64, row_bytes, "a row of the stated shape");
        self.file.seek(SeekFrom::Start(address + row * row_bytes))?;
        self.file.write_all(numbers)
    }

    /// Length of the file.
    pub(super) fn len(&self) -> u64 {
        self.len
    }
}

/// Superblock with the root group's entry, which says where its B-tree and heap are.
fn superblock(len: u64, group: u64, node: u64, heap_header: u64) -> Bytes {
    Bytes::default()
        .put(&SIGNATURE)
        // Versions are 0, addresses and lengths have 8 bytes.
        .put(&[0, 0, 0, 0, 0, 8, 8, 0])
        .u16(LEAF_RANK)
        .u16(NODE_RANK)
        .u32(0)
        .u64(0)
        .u64(UNDEFINED)
        .u64(len)
        .u64(UNDEFINED)
        .u64(0)
        .u64(group)
        .u32(1)
        .u32(0)
        .u64(node)
        .u64(heap_header)
}

/// Object header of version 1, whose messages have lengths that 8 divides.
fn object_header(messages: &[(u16, Bytes)]) -> Bytes {
    let body = messages.iter().fold(Bytes::default(), |bytes, (kind, message)| {
        let len = message.len().next_multiple_of(8);
        bytes.u16(*kind).u16(len as u16).u32(0).put(&message.0).padded()
    });
    Bytes::default()
        .put(&[1, 0])
        .u16(messages.len() as u16)
        .u32(1)
        .u32(body.len() as u32)
        .u32(0)
        .put(&body.0)
}

/// Where parts of these lengths begin, each at a multiple of 8, and where the last one ends.
fn addresses(first: u64, lens: &[u64]) -> Vec<u64> {
    let mut addresses = vec![first];
    let mut next = first;
    for len in lens {
        next = (next + len).next_multiple_of(8);
        addresses.push(next);
    }
    addresses
}

/// Little-endian bytes, put one after the other.
#[derive(Debug, Default)]
struct Bytes(Vec<u8>);

impl Bytes {
    fn len(&self) -> u64 {
        self.0.len() as u64
    }

    fn put(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(bytes);
        self
    }

    fn u16(self, number: u16) -> Self {
        self.put(&number.to_le_bytes())
    }

    fn u32(self, number: u32) -> Self {
        self.put(&number.to_le_bytes())
    }

    fn u64(self, number: u64) -> Self {
        self.put(&number.to_le_bytes())
    }

    fn padded(self) -> Self {
        let len = self.len().next_multiple_of(8);
        self.zeros_to(len)
    }

    fn zeros_to(mut self, len: u64) -> Self {
        self.0.resize(len as usize, 0);
        self
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    #[test]
    fn arrays_are_read_back_whatever_the_order_of_their_rows_and_names() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.h5");
        let array = |name, number, shape: &[u64]| Array {
            name,
            number,
            shape: shape.to_vec(),
        };
        let arrays = [
            array("pid", Number::U8, &[3, 5]),
            array("data", Number::F32, &[3, 1, 3]),
            array("label", Number::I32, &[3]),
        ];
        let mut file = Hdf5File::create(File::create(&path).unwrap(), &arrays).unwrap();
        for row in [2, 0, 1] {
            let number = row as u8;
            file.write_row(0, row, &[number; 5]).unwrap();
            let point: Vec<u8> = [f32::from(number), -0.5, 2.25]
                .iter()
                .flat_map(|x| x.to_le_bytes())
                .collect();
            file.write_row(1, row, &point).unwrap();
            file.write_row(2, row, &(i32::from(number) - 1).to_le_bytes())
                .unwrap();
        }
        assert_eq!(std::fs::metadata(&path).unwrap().len(), file.len());
        let read = hdf5_reader::Hdf5File::open(&path).unwrap();
        let mut names = read.root_group().unwrap().member_names().unwrap().1;
        names.sort();
        assert_eq!(names, ["data", "label", "pid"]);
        let shape = |name: &str| read.dataset(name).unwrap().shape().to_vec();
        assert_eq!(
            [shape("pid"), shape("data"), shape("label")],
            [vec![3, 5], vec![3, 1, 3], vec![3]]
        );
        let pid = read.dataset("pid").unwrap().read_array::<u8>().unwrap();
        assert_eq!(
            pid.iter().copied().collect::<Vec<u8>>(),
            [0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 2, 2, 2, 2, 2]
        );
        let data = read.dataset("data").unwrap().read_array::<f32>().unwrap();
        assert_eq!(data.iter().copied().collect::<Vec<f32>>()[6..], [2.0, -0.5, 2.25]);
        let label = read.dataset("label").unwrap().read_array::<i32>().unwrap();
        assert_eq!(label.iter().copied().collect::<Vec<i32>>(), [-1, 0, 1]);
    }
}
