//! A square in every encoding, with the extras of other programs' files.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fmt::Write as _;

use proptest::prelude::*;

use super::super::{AssetError, NoAssets, import_mesh, import_object};
use super::*;
use crate::mesh::Mesh;

struct Folder;

impl AssetResolver for Folder {
    fn read(&self, relative: &str) -> Result<Vec<u8>, AssetError> {
        if relative != "my wood.png" {
            return NoAssets.read(relative);
        }
        let mut bytes = Vec::new();
        let mut encoder = png::Encoder::new(&mut bytes, 1, 1);
        encoder.set_color(png::ColorType::Rgb);
        encoder
            .write_header()
            .unwrap()
            .write_image_data(&[1, 2, 3])
            .unwrap();
        Ok(bytes)
    }
}

fn import(bytes: &[u8]) -> Result<Mesh, ImportError> {
    import_mesh(MeshFormat::Ply, bytes, &NoAssets)
}

fn import_with_appearance(bytes: &[u8]) -> Mesh {
    let options = ImportOptions {
        appearance: true,
        ..ImportOptions::default()
    };
    import_object(MeshFormat::Ply, bytes, &Folder, &options).unwrap()
}

const VERTICES: [[f32; 3]; 4] = [[0., 0., 0.], [1., 0., 0.], [1., 1., 0.], [0., 1., 0.]];

/// A square of one face, surrounded by an unknown property and an unknown element.
fn square(format: &str, newline: &str) -> Vec<u8> {
    let header = format!(
        "ply\nformat {format} 1.0\ncomment by hand\nelement camera 1\nproperty double f\nproperty list uchar short k\n\
         element vertex 4\nproperty float x\nproperty double y\nproperty float z\nproperty uchar red\nproperty uchar green\n\
         property uchar blue\nproperty list uint8 int spare\nelement face 1\nproperty list uchar uint vertex_indices\nend_header\n"
    );
    let mut bytes = header.replace('\n', newline).into_bytes();
    if format == "ascii" {
        let mut rows = "0.5 2 -1 7\n\n".to_owned();
        for (index, [x, y, z]) in VERTICES.iter().enumerate() {
            writeln!(rows, " {x} {y} {z} {} 0 255 1 9", 10 * index).unwrap();
        }
        bytes.extend((rows + "4 0 1 2 3").replace('\n', newline).into_bytes());
        return bytes;
    }
    let mut push = |number: &[u8]| {
        let mut number = number.to_vec();
        if format == "binary_big_endian" {
            number.reverse();
        }
        bytes.extend(number);
    };
    push(&0.5_f64.to_le_bytes());
    push(&[2]);
    push(&(-1_i16).to_le_bytes());
    push(&7_i16.to_le_bytes());
    for (index, [x, y, z]) in VERTICES.iter().enumerate() {
        push(&x.to_le_bytes());
        push(&f64::from(*y).to_le_bytes());
        push(&z.to_le_bytes());
        for byte in [10 * index as u8, 0, 255, 1] {
            push(&[byte]);
        }
        push(&9_i32.to_le_bytes());
    }
    push(&[4]);
    for corner in 0..4_u32 {
        push(&corner.to_le_bytes());
    }
    bytes
}

#[test]
fn all_encodings_and_line_ends() {
    for format in ["ascii", "binary_little_endian", "binary_big_endian"] {
        for newline in ["\n", "\r\n"] {
            let mesh = import_with_appearance(&square(format, newline));
            assert_eq!(
                (mesh.triangles().len(), mesh.surface_area()),
                (2, 1.0),
                "{format}"
            );
            let colors = [0, 10, 20, 30].map(|red| [red, 0, 255, 255]);
            assert_eq!(
                mesh.appearance().unwrap().colors,
                [
                    [colors[0], colors[1], colors[2]],
                    [colors[0], colors[2], colors[3]]
                ],
                "{format}"
            );
        }
    }
}

#[test]
fn colors_of_faces_and_of_floats() {
    let bytes = b"ply\nformat ascii 1.0\nelement vertex 3\nproperty float x\nproperty float y\nproperty float z\n\
        property float red\nproperty float green\nproperty float blue\nelement face 1\nproperty list uchar int vertex_index\n\
        end_header\n0 0 0 1 0 0\n1 0 0 0 1 0\n0 1 0 0 0 0.2\n3 0 1 2\n";
    let expected = [[255, 0, 0, 255], [0, 255, 0, 255], [0, 0, 51, 255]];
    assert_eq!(
        import_with_appearance(bytes).appearance().unwrap().colors,
        [expected]
    );
    assert!(import(bytes).unwrap().appearance().is_none());
    let bytes = b"ply\nformat ascii 1.0\nelement vertex 3\nproperty float x\nproperty float y\nproperty float z\n\
        element face 1\nproperty list uchar int vertex_index\nproperty uchar red\nproperty uchar green\nproperty uchar blue\n\
        end_header\n0 0 0\n1 0 0\n0 1 0\n3 0 1 2 9 8 7\n";
    assert_eq!(
        import_with_appearance(bytes).appearance().unwrap().colors,
        [[[9, 8, 7, 255]; 3]]
    );
}

#[test]
fn a_texture_by_comment() {
    let head = "ply\nformat ascii 1.0\ncomment TextureFile my wood.png\nelement vertex 3\nproperty float x\nproperty float y\n\
        property float z\n";
    let at_vertices = format!(
        "{head}property float s\nproperty float t\nelement face 1\nproperty list uchar int vertex_indices\nend_header\n\
        0 0 0 0 0\n1 0 0 1 0.25\n0 1 0 0 1\n3 0 1 2\n"
    );
    let at_corners = format!(
        "{head}element face 1\nproperty list uchar int vertex_indices\nproperty list uchar float texcoord\nend_header\n\
        0 0 0\n1 0 0\n0 1 0\n3 0 1 2 6 0 0 1 0.25 0 1\n"
    );
    for text in [at_vertices, at_corners] {
        let mesh = import_with_appearance(text.as_bytes());
        let appearance = mesh.appearance().unwrap();
        assert_eq!(appearance.textures[0].texels, [[1, 2, 3, 255]]);
        assert_eq!(appearance.uvs, [[Vec2::Y, Vec2::new(1.0, 0.75), Vec2::ZERO]]);
        let lost = import_with_appearance(text.replace("wood", "iron").as_bytes());
        assert!(
            lost.warnings()[0].contains("my iron.png"),
            "{:?}",
            lost.warnings()
        );
    }
}

#[test]
fn strips_keep_their_winding() {
    let bytes =
        b"ply\nformat ascii 1.0\nelement vertex 4\nproperty float x\nproperty float y\nproperty float z\n\
        element tristrips 1\nproperty list int int vertex_indices\nend_header\n\
        0 0 0\n1 0 0\n0 1 0\n1 1 0\n8 0 1 2 3 -1 0 1 2\n";
    let mesh = import(bytes).unwrap();
    assert_eq!(mesh.triangles(), [[0, 1, 2], [2, 1, 3], [0, 1, 2]]);
}

#[test]
fn point_clouds_become_surfels() {
    let bytes = b"ply\nformat ascii 1.0\nelement vertex 3\nproperty float x\nproperty float y\nproperty float z\n\
        property float nx\nproperty float ny\nproperty float nz\nproperty uchar red\nproperty uchar green\nproperty uchar blue\n\
        element face 0\nproperty list uchar int vertex_indices\nend_header\n\
        0 0 0 0 0 1 1 2 3\n1 0 0 0 0 1 1 2 3\n0 1 0 0 0 1 1 2 3\n";
    let mesh = import_with_appearance(bytes);
    assert_eq!(mesh.triangles().len(), 12);
    assert_eq!(mesh.appearance().unwrap().colors[0], [[1, 2, 3, 255]; 3]);
    assert!(import(bytes).unwrap().appearance().is_none());
}

#[test]
fn refuses_by_name() {
    let head = "ply\nformat ascii 1.0\nelement vertex 3\nproperty float x\nproperty float y\nproperty float z\n\
        element face 1\nproperty list uchar int vertex_indices\nend_header\n";
    let binary = |count: &str, list: &str| {
        let mut bytes = format!(
            "ply\nformat binary_little_endian 1.0\nelement vertex {count}\nproperty char x\nproperty char y\n\
             property char z\nelement face 1\nproperty list {list} uchar vertex_indices\nend_header\n"
        )
        .into_bytes();
        bytes.extend([0, 0, 0, 1, 0, 0, 0, 1, 0, 0xF0, 0xFF, 0xFF, 0xFF, 0, 1, 2]);
        bytes
    };
    let with = |rows: &str| [head, rows].concat().into_bytes();
    for (bytes, says) in [
        (b"".to_vec(), "empty"),
        (b"ply".to_vec(), "no end"),
        (b"plyx\n".to_vec(), "begins with the word ply"),
        (b"ply\nend_header\n".to_vec(), "names no format"),
        (b"ply\nformat morse 1.0\n".to_vec(), "neither ascii nor binary"),
        (
            b"ply\nformat ascii 1.0\nproperty int x\n".to_vec(),
            "before any element",
        ),
        (
            b"ply\nformat ascii 1.0\nelement vertex\n".to_vec(),
            "a name and a count",
        ),
        (
            b"ply\nformat ascii 1.0\nelement vertex -3\n".to_vec(),
            "a name and a count",
        ),
        (
            b"ply\nformat ascii 1.0\nelement a 1\nproperty lisp x\n".to_vec(),
            "a type and a name",
        ),
        (
            b"ply\nformat ascii 1.0\nelement vertex 1\nproperty int x\nend_header\n5\n".to_vec(),
            "lack x, y or z",
        ),
        (b"ply\nformat ascii 1.0\nend_header\n".to_vec(), "no faces"),
        (
            with("0.000 0.000 0.000\n1 0 0\n\n\n"),
            "ends before all its elements",
        ),
        (
            with("0 0 0\n1 0\n0 1 0\n3 0 1 2"),
            "line 11 of the PLY: it has fewer numbers",
        ),
        (with("0 0 0\n1 0 0\n0 1 0\n3 0 1 3"), "does not exist"),
        (with("0 0 0\n1 0 0\n0 1 0\n3 0 1 -2"), "does not exist"),
        (with("0 0 0\n1 0 0\n0 1 0\n99 0 1 2"), "a list is longer"),
        (with("0 0 0\nnan 0 0\n0 1 0\n3 0 1 2"), "not a finite number"),
        (binary("99999999999999999", "uchar"), "counts are larger"),
        (binary("3", "uchar"), "a list is longer"),
        (binary("3", "uint"), "a list is longer"),
        (binary("3", "int"), "a list is longer"),
        (binary("3", "double"), "ends before"),
    ] {
        let error = import(&bytes).unwrap_err().to_string();
        assert!(error.contains(says), "{error}, but expected {says}");
    }
}

/// Two triangles as vertices and faces, in text.
const ROWS: [&str; 6] = ["0 0 0", "1 0 0", "1 1 0", "0 1 0", "3 0 1 2", "3 0 2 3"];

fn header(format: &str, num_vertices: usize, num_faces: usize, list: &str) -> String {
    format!(
        "ply\nformat {format} 1.0\nelement vertex {num_vertices}\nproperty float x\nproperty float y\nproperty float z\n\
         element face {num_faces}\nproperty list {list}\nend_header\n"
    )
}

#[test]
fn rows_need_not_be_lines() {
    let header = header("ascii", 4, 2, "uchar int vertex_indices");
    for rows in [
        ROWS.join("\n"),
        ROWS.join("\n").replace(' ', "\n"),
        ROWS.join(" "),
        ROWS.join(" 9 9\n"),
        [&ROWS[..4].join(" "), "\n", &ROWS[4..].join(" ")].concat(),
        [
            &ROWS[..4].join("\n").replacen(" 0", "\n 0", 3),
            "\n",
            &ROWS[4..].join("\n"),
        ]
        .concat(),
    ] {
        let text = format!("{header}{rows}\n");
        for text in [
            text.replace('\n', "\r"),
            text.replace('\n', "\r\n"),
            format!("\u{feff} {text}"),
        ] {
            let mesh = import(text.as_bytes()).unwrap_or_else(|error| panic!("{text}: {error}"));
            assert_eq!(mesh.triangles(), [[0, 1, 2], [0, 2, 3]], "{text}");
            assert!(mesh.warnings().is_empty(), "{text}: {:?}", mesh.warnings());
        }
    }
}

#[test]
fn the_length_corrects_the_counts() {
    for counts in [[4, 0], [4, 1], [4, 7], [3, 2], [9, 2]] {
        let text = header("ascii", counts[0], counts[1], "uchar int vertex_indices") + &ROWS.join("\n");
        let mesh = import(text.as_bytes()).unwrap_or_else(|error| panic!("{counts:?}: {error}"));
        assert_eq!(mesh.triangles(), [[0, 1, 2], [0, 2, 3]], "{counts:?}");
        assert_eq!(mesh.warning_kinds(), [WarningKind::Count], "{counts:?}");
    }
    let binary = |num_faces: usize, cut: usize| {
        let mut bytes =
            header("binary_little_endian", 4, num_faces, "uchar uchar vertex_indices").into_bytes();
        bytes.extend(
            VERTICES
                .as_flattened()
                .iter()
                .flat_map(|number| number.to_le_bytes()),
        );
        bytes.extend([3, 0, 1, 2, 3, 0, 2, 3]);
        bytes.truncate(bytes.len() - cut);
        bytes
    };
    for num_faces in [0, 1, 3, 999] {
        let mesh = import(&binary(num_faces, 0)).unwrap();
        assert_eq!(
            (mesh.triangles().len(), mesh.warning_kinds()),
            (2, &[WarningKind::Count][..])
        );
    }
    for cut in [1, 8] {
        assert!(import(&binary(2, cut)).is_err(), "cut off by {cut}");
    }
    let mesh = import(&[binary(2, 0), b"more".to_vec()].concat()).unwrap();
    assert_eq!(
        (mesh.triangles().len(), mesh.warning_kinds()),
        (2, &[WarningKind::Trailing][..])
    );
}

#[test]
fn normals_of_faces_are_read_if_asked_for() {
    let text = "ply\nformat ascii 1.0\nelement vertex 3\nproperty float x\nproperty float y\nproperty float z\n\
        property float nx\nproperty float ny\nproperty float nz\nelement face 1\nproperty list uchar int vertex_index\n\
        end_header\n0 0 0 0 0 1\n1 0 0 1 0 0\n0 1 0 0 1 0\n3 0 1 2\n";
    let options = ImportOptions {
        normals: true,
        ..ImportOptions::default()
    };
    let mesh = import_object(MeshFormat::Ply, text.as_bytes(), &NoAssets, &options).unwrap();
    assert_eq!(mesh.file_normals(), [[Vec3::Z, Vec3::X, Vec3::Y]]);
    assert!(import(text.as_bytes()).unwrap().file_normals().is_empty());
}

#[test]
fn lists_of_all_names_and_types() {
    for list in [
        "uchar int vertex_index",
        "uint8 uint32 vertex_indices",
        "uint8_t int64 vertex_indices",
        "int64 uint64 Vertex_Index",
        "uchar int corners",
    ] {
        let text = header("ascii", 4, 2, list) + &ROWS.join("\n");
        assert_eq!(import(text.as_bytes()).unwrap().triangles().len(), 2, "{list}");
    }
    let mut bytes = header("binary_big_endian", 4, 2, "int64 uint64 vertex_indices").into_bytes();
    bytes.extend(
        VERTICES
            .as_flattened()
            .iter()
            .flat_map(|number| number.to_be_bytes()),
    );
    bytes.extend(
        [3, 0, 1, 2, 3, 0, 2, 3_u64]
            .iter()
            .flat_map(|number| number.to_be_bytes()),
    );
    assert_eq!(import(&bytes).unwrap().triangles().len(), 2);
}

proptest! {
    #[test]
    fn never_panics(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
        cut in any::<prop::sample::Index>(),
        words in prop::collection::vec(
            prop_oneof!["element|property|list|vertex|face|x|y|z|uchar|int|float", "[0-9]{1,12}", "\n", ".{0,3}"], 0..60,
        ),
        noise in prop::collection::vec(any::<u8>(), 0..60),
    ) {
        for format in ["ascii", "binary_little_endian", "binary_big_endian"] {
            let mut bytes = square(format, "\n");
            for (place, byte) in &changes {
                *place.get_mut(&mut bytes) = *byte;
            }
            let _ = import(&bytes[..cut.index(bytes.len())]);
            let _ = import(&bytes);
            let made_up = format!("ply\nformat {format} 1.0\n{}\nend_header\n", words.join(" "));
            let _ = import(&[made_up.as_bytes(), &noise].concat());
        }
        let _ = import(&noise);
    }
}
