//! Crafted files of PyTorch's format: what they claim is checked against what is there, and each is refused in one line.
//!
//! Among them is the class of CVE-2026-24747: storages that announce other sizes than they have, and instructions on values
//! that they are not for.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::io::{Cursor, Write as _};
use std::path::Path;
use std::process::Command;

use zip::write::FileOptions;
use zip::{CompressionMethod, ZipWriter};

/// A tensor as a pickle describes it.
#[derive(Clone)]
struct Described {
    key: &'static str,
    num_elements: i64,
    offset: i64,
    size: Vec<i64>,
    stride: Vec<i64>,
}

/// A tensor of 4 numbers that is what it says.
fn honest() -> Described {
    Described {
        key: "0",
        num_elements: 4,
        offset: 0,
        size: vec![2, 2],
        stride: vec![2, 1],
    }
}

fn text(text: &str) -> Vec<u8> {
    [b"X", &(text.len() as u32).to_le_bytes()[..], text.as_bytes()].concat()
}

fn int(value: i64) -> Vec<u8> {
    [&b"\x8a\x08"[..], &value.to_le_bytes()].concat()
}

fn ints(values: &[i64]) -> Vec<u8> {
    [
        b"(".to_vec(),
        values.iter().flat_map(|&value| int(value)).collect(),
        b"t".to_vec(),
    ]
    .concat()
}

/// A dictionary with `count` times this tensor, each under its own name.
fn pickle(tensor: &Described, count: usize) -> Vec<u8> {
    let mut bytes = b"\x80\x02}(".to_vec();
    for name in 0..count {
        bytes.extend(text(&format!("layer{name}.weight")));
        bytes.extend(b"ctorch._utils\n_rebuild_tensor_v2\n((");
        bytes.extend(text("storage"));
        bytes.extend(b"ctorch\nFloatStorage\n");
        bytes.extend(text(tensor.key));
        bytes.extend(text("cpu"));
        bytes.extend(int(tensor.num_elements));
        bytes.extend(b"tQ");
        bytes.extend(int(tensor.offset));
        bytes.extend(ints(&tensor.size));
        bytes.extend(ints(&tensor.stride));
        bytes.extend(b"\x89ccollections\nOrderedDict\n)RtR");
    }
    bytes.extend(b"u.");
    bytes
}

fn archive(entries: &[(&str, &[u8])]) -> Vec<u8> {
    let mut archive = ZipWriter::new(Cursor::new(Vec::new()));
    for (name, bytes) in entries {
        let options = FileOptions::default().compression_method(CompressionMethod::Stored);
        archive.start_file(*name, options).unwrap();
        archive.write_all(bytes).unwrap();
    }
    archive.finish().unwrap().into_inner()
}

/// Four numbers, with this pickle over them.
fn file(pickle: &[u8]) -> Vec<u8> {
    archive(&[
        ("archive/data.pkl", pickle),
        ("archive/byteorder", b"little"),
        ("archive/data/0", &[0; 16]),
        ("archive/version", b"3\n"),
    ])
}

fn replaced(bytes: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    let places: Vec<usize> = (0..bytes.len() - from.len())
        .filter(|&place| bytes[place..].starts_with(from))
        .collect();
    assert!(!places.is_empty(), "there is something to replace");
    for place in places {
        bytes[place..place + to.len()].copy_from_slice(to);
    }
    bytes
}

/// Bytes at `offset` of the record of the entry of the numbers in the central directory.
fn with_central(bytes: &[u8], offset: usize, value: &[u8]) -> Vec<u8> {
    let (name, header) = (b"archive/data/0", b"PK\x01\x02");
    let mut bytes = bytes.to_vec();
    let record = (0..bytes.len() - 60)
        .find(|&at| bytes[at..].starts_with(header) && bytes[at + 46..].starts_with(name))
        .unwrap();
    bytes[record + offset..record + offset + value.len()].copy_from_slice(value);
    bytes
}

/// What the program says of a file.
fn import(folder: &Path, bytes: &[u8]) -> (Option<i32>, String) {
    let path = folder.join("crafted.pth");
    fs::write(&path, bytes).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_tap-train"));
    command.current_dir(folder).arg("import").arg(&path);
    let output = command.args(["--out", "encoder.safetensors"]).output().unwrap();
    (
        output.status.code(),
        String::from_utf8_lossy(&output.stderr).into_owned(),
    )
}

/// A crafted file: what it is, its bytes, and what the refusal says.
type Crafted = (&'static str, Vec<u8>, &'static str);

/// Each is refused in one line, and nothing is written.
fn assert_refused(cases: &[Crafted]) {
    let folder = tempfile::tempdir().unwrap();
    for (what, bytes, part) in cases {
        let (code, text) = import(folder.path(), bytes);
        assert_eq!(code, Some(1), "{what}: {text}");
        assert_eq!(text.lines().count(), 1, "{what}: one line: {text}");
        assert!(
            text.contains(part) && text.contains("crafted.pth"),
            "{what}: {text}"
        );
    }
    assert!(
        !folder.path().join("encoder.safetensors").exists(),
        "nothing is written"
    );
}

fn with(change: impl Fn(&mut Described)) -> Vec<u8> {
    let mut tensor = honest();
    change(&mut tensor);
    file(&pickle(&tensor, 1))
}

#[test]
fn a_storage_has_as_many_numbers_as_it_announces() {
    let announced = "numbers of 4 bytes are announced and 16 bytes are there";
    assert_refused(&[
        ("more", with(|tensor| tensor.num_elements = 1 << 40), announced),
        ("fewer", with(|tensor| tensor.num_elements = 1), announced),
        (
            "a length that overflows",
            with(|tensor| tensor.num_elements = (1 << 62) + 4),
            announced,
        ),
        (
            "no such storage",
            with(|tensor| tensor.key = "7"),
            "archive/data/7",
        ),
        (
            "a storage outside of its folder",
            with(|tensor| tensor.key = "../../../../etc/passwd"),
            "etc/passwd",
        ),
    ]);
}

#[test]
fn a_tensor_stays_within_its_storage() {
    let leaves = "leaves its 4 numbers";
    let many = "claim many times the file";
    let repeated = Described {
        size: vec![1024],
        stride: vec![0],
        ..honest()
    };
    assert_refused(&[
        ("a large shape", with(|tensor| tensor.size = vec![2, 3]), leaves),
        (
            "a negative shape",
            with(|tensor| tensor.size = vec![-2, -2]),
            leaves,
        ),
        (
            "a shape whose product overflows",
            with(|tensor| (tensor.size, tensor.stride) = (vec![1 << 40; 2], vec![0, 0])),
            leaves,
        ),
        (
            "a negative stride",
            with(|tensor| tensor.stride = vec![-2, 1]),
            leaves,
        ),
        (
            "a stride that overflows",
            with(|tensor| tensor.stride = vec![i64::MAX, 1]),
            leaves,
        ),
        (
            "fewer strides than axes",
            with(|tensor| tensor.stride = vec![1]),
            leaves,
        ),
        ("a negative offset", with(|tensor| tensor.offset = -4), leaves),
        ("an offset beyond", with(|tensor| tensor.offset = 1), leaves),
        (
            "a number repeated without end",
            with(|tensor| (tensor.size, tensor.stride) = (vec![1 << 30], vec![0])),
            many,
        ),
        (
            "one storage in a thousand tensors",
            file(&pickle(&repeated, 1000)),
            many,
        ),
    ]);
}

#[test]
fn an_archive_says_one_thing_to_every_reader() {
    let honest_pickle = pickle(&honest(), 1);
    let whole = file(&honest_pickle);
    let twice = archive(&[
        ("archive/data.pkl", &honest_pickle),
        ("archive/data/0", &[0; 16]),
        ("archive/data/1", &[1; 16]),
    ]);
    let two_pickles = archive(&[
        ("a/data.pkl", &honest_pickle),
        ("a/data/0", &[0; 16]),
        ("b/data.pkl", &honest_pickle),
        ("b/data/0", &[1; 16]),
    ]);
    let big_endian = archive(&[
        ("archive/data.pkl", &honest_pickle),
        ("archive/byteorder", b"big"),
        ("archive/data/0", &[0; 16]),
    ]);
    assert_refused(&[
        (
            "two entries of one name",
            replaced(&twice, b"archive/data/1", b"archive/data/0"),
            "names an entry twice",
        ),
        (
            "two pickles",
            two_pickles,
            "several pickles: a/data.pkl, b/data.pkl",
        ),
        ("big-endian numbers", big_endian, "little-endian"),
        (
            "a changed byte",
            replaced(&whole, b"little", b"biglit"),
            "archive/byteorder",
        ),
        (
            "an entry larger than the file",
            with_central(&whole, 20, &[0xff, 0xff, 0xff, 0x7f, 0xff, 0xff, 0xff, 0x7f]),
            "archive/data/0 claims 2147483647 bytes",
        ),
        (
            "a compressed entry",
            with_central(&whole, 10, &[8, 0]),
            "crafted.pth",
        ),
        (
            "an entry that lies elsewhere",
            with_central(&whole, 42, &[0xff, 0xff, 0xff, 0x0f]),
            "archive/data/0",
        ),
    ]);
    // The same file, honest, is refused for what it holds and not for how.
    let folder = tempfile::tempdir().unwrap();
    let (_, text) = import(folder.path(), &whole);
    assert!(text.contains("none of the 1 tensors fits an encoder"), "{text}");
}

#[test]
fn instructions_are_for_the_values_that_they_are_for() {
    let honest_pickle = pickle(&honest(), 1);
    let set_items = [b"(".to_vec(), text("key"), text("value"), b"u.".to_vec()].concat();
    let of_a_tuple = [&b"\x80\x02(K\x01t"[..], &set_items].concat();
    // The dictionary is not closed: what lies on top is its first tensor.
    let open = &honest_pickle[..honest_pickle.len() - 2];
    let of_a_tensor = [open, &set_items].concat();
    assert_refused(&[
        (
            "items set in a tuple",
            file(&of_a_tuple),
            "does not fit what is there",
        ),
        ("items set in a tensor", file(&of_a_tensor), "crafted.pth"),
        (
            "half a pickle",
            file(&honest_pickle[..90]),
            "in the middle of an instruction",
        ),
    ]);
}
