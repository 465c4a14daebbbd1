//! STL, text and binary. It is a triangle soup, so corners at exactly equal positions are welded.
//!
//! Some binary files begin with the keyword of text files, `solid`: only the file size tells. Solids are parts. Colors
//! in the spare bits of facets are ignored.

use std::collections::HashMap;

use glam::DVec3;

use super::{ImportError, MeshFormat, number, polygon, text, triangle_soup::TriangleSoup};

/// Header and count of a binary file, in bytes.
const HEADER_LEN: usize = 84;
/// Normal, three corners and two spare bytes.
const FACET_LEN: usize = 50;
/// A file that begins like text is text unless a zero byte is among this many first bytes.
const SNIFFED_LEN: usize = 1024;

/// Reads an STL.
pub(super) fn read(bytes: &[u8]) -> Result<TriangleSoup, ImportError> {
    let error = |problem| ImportError::File {
        format: MeshFormat::Stl,
        problem,
    };
    let decoded = text::decode(bytes);
    let begins_as_text = decoded
        .trim_ascii_start()
        .get(..5)
        .is_some_and(|word| word.eq_ignore_ascii_case(b"solid"));
    let count = bytes
        .get(HEADER_LEN - 4..)
        .and_then(|rest| rest.first_chunk())
        .map(|&count| u32::from_le_bytes(count) as usize);
    let has_binary_size = count
        .is_some_and(|count| (HEADER_LEN as u64 + FACET_LEN as u64 * count as u64) == bytes.len() as u64);
    let has_zeros = decoded[..decoded.len().min(SNIFFED_LEN)].contains(&0);
    if begins_as_text && !has_binary_size && !has_zeros {
        return read_text(&decoded);
    }
    let Some(count) = count else {
        return Err(error(if bytes.is_empty() {
            "the file is empty"
        } else {
            "it is neither text nor long enough for a binary header"
        }));
    };
    let facets = bytes[HEADER_LEN..].as_chunks::<FACET_LEN>().0;
    let facets = facets
        .get(..count)
        .ok_or_else(|| error("its number of triangles is larger than the file"))?;
    let mut solid = Solid::default();
    let part = solid.soup.part("");
    for facet in facets {
        let corner = |corner: usize| {
            let bytes = &facet[12 + 12 * corner..24 + 12 * corner];
            let coordinate = |axis: usize| bytes.as_chunks().0.get(axis).copied().map(f32::from_le_bytes);
            [0, 1, 2].map(|axis| f64::from(coordinate(axis).unwrap_or(f32::NAN)))
        };
        let triangle = [0, 1, 2].map(|index| solid.vertex(DVec3::from(corner(index))));
        solid.soup.push(triangle, part);
    }
    Ok(solid.soup)
}

#[derive(Default)]
struct Solid {
    soup: TriangleSoup,
    vertex_by_place: HashMap<[u64; 3], u32>,
}

impl Solid {
    fn vertex(&mut self, position: DVec3) -> u32 {
        // Adding zero turns -0 into +0, which are equal.
        let place = (position + 0.0).to_array().map(f64::to_bits);
        let positions = &mut self.soup.positions;
        *self.vertex_by_place.entry(place).or_insert_with(|| {
            positions.push(position);
            positions.len() as u32 - 1
        })
    }
}

fn read_text(bytes: &[u8]) -> Result<TriangleSoup, ImportError> {
    let mut solid = Solid::default();
    let mut part = None;
    let (mut loop_corners, mut polygon) = (Vec::new(), Vec::new());
    let mut is_open = false;
    for (index, line) in bytes.split(|&byte| byte == b'\n').enumerate() {
        let mut words = text::words(line);
        while let Some(word) = words.next() {
            let is = |keyword: &[u8]| word.eq_ignore_ascii_case(keyword);
            if is(b"vertex") {
                let mut coordinate = || number::parse_f64(words.next()?);
                let position = coordinate().zip(coordinate()).zip(coordinate());
                let ((x, y), z) = position.ok_or(ImportError::Line {
                    format: MeshFormat::Stl,
                    line: index + 1,
                    problem: "a vertex needs three numbers",
                })?;
                polygon.push(DVec3::new(x, y, z));
                loop_corners.push(solid.vertex(DVec3::new(x, y, z)));
            } else if is(b"endloop") || is(b"endfacet") {
                let part = *part.get_or_insert_with(|| solid.soup.part(""));
                polygon::triangulate(&polygon, |triangle| {
                    solid.soup.push(triangle.map(|corner| loop_corners[corner]), part);
                });
                polygon.clear();
                loop_corners.clear();
            } else if is(b"solid") {
                let name = line.trim_ascii();
                part = Some(
                    solid
                        .soup
                        .part(&text::string(name.get(5..).unwrap_or_default().trim_ascii())),
                );
                is_open = true;
                break;
            } else if is(b"endsolid") {
                is_open = false;
                break;
            }
        }
    }
    if !polygon.is_empty() {
        return Err(ImportError::File {
            format: MeshFormat::Stl,
            problem: "it ends within a facet",
        });
    }
    if is_open {
        solid
            .soup
            .warnings
            .push("the last solid has no end: the file may be cut off".to_owned());
    }
    Ok(solid.soup)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use std::fmt::Write as _;

    use proptest::prelude::*;

    use super::super::{NoAssets, import_mesh};
    use super::*;
    use crate::mesh::Mesh;

    fn import(bytes: &[u8]) -> Result<Mesh, ImportError> {
        import_mesh(MeshFormat::Stl, bytes, &NoAssets)
    }

    const TETRAHEDRON: [[[f32; 3]; 3]; 4] = [
        [[0., 0., 0.], [0., 1., 0.], [1., 0., 0.]],
        [[0., 0., 0.], [1., 0., 0.], [0., 0., 1.]],
        [[-0., 0., 0.], [0., 0., 1.], [0., 1., 0.]],
        [[1., 0., 0.], [0., 1., 0.], [0., 0., 1.]],
    ];

    fn binary(header: &[u8], count: u32) -> Vec<u8> {
        let mut bytes = header.to_vec();
        bytes.resize(80, b' ');
        bytes.extend(count.to_le_bytes());
        for facet in TETRAHEDRON {
            bytes.extend([0; 12]);
            bytes.extend(
                facet
                    .as_flattened()
                    .iter()
                    .flat_map(|number| number.to_le_bytes()),
            );
            bytes.extend([0xFF, 0x7F]);
        }
        bytes
    }

    fn text(name: &str) -> String {
        let mut text = format!("solid {name}\n");
        for facet in TETRAHEDRON {
            text += "  facet normal 0 0 0\n    outer loop\n";
            for [x, y, z] in facet {
                write!(text, "      vertex {x} {y} {z:e}\r\n").unwrap();
            }
            text += "    endloop\n  endfacet\n";
        }
        text + "endsolid " + name + "\n"
    }

    #[test]
    fn text_and_binary_are_welded_alike() {
        for bytes in [
            binary(b"made by hand", 4),
            binary(b"solid made by hand", 4),
            [binary(b"", 4), vec![0; 7]].concat(),
            [binary(b"solid \0", 4), vec![0; 7]].concat(),
            text("a tetrahedron").into_bytes(),
            text("").to_uppercase().into_bytes(),
        ] {
            let mesh = import(&bytes).unwrap();
            assert_eq!((mesh.triangles().len(), mesh.positions().len()), (4, 4));
            assert!(mesh.is_watertight());
        }
    }

    #[test]
    fn solids_are_parts() {
        let mesh = import((text("a b") + &text("c")).as_bytes()).unwrap();
        assert_eq!(mesh.part_names(), ["a b", "c"]);
        assert_eq!(mesh.part_of_triangle(), [0, 0, 0, 0, 1, 1, 1, 1]);
        let cut = text("a");
        let mesh = import(&cut.as_bytes()[..cut.len() - 12]).unwrap();
        assert_eq!(
            mesh.warnings(),
            ["the last solid has no end: the file may be cut off"]
        );
    }

    #[test]
    fn refuses_by_name() {
        for (bytes, says) in [
            (vec![], "the file is empty"),
            (b"PK".to_vec(), "neither text nor long enough"),
            (b"solid a\nendsolid a".to_vec(), "no faces"),
            (
                b"solid a\nvertex 1 2\n".to_vec(),
                "line 2 of the STL: a vertex needs three numbers",
            ),
            (b"solid a\nfacet\nvertex 1 2 3".to_vec(), "ends within a facet"),
            (binary(b"", u32::MAX), "larger than the file"),
            (binary(b"", 5), "larger than the file"),
            (binary(b"", 0), "no faces"),
        ] {
            let error = import(&bytes).unwrap_err().to_string();
            assert!(error.contains(says), "{error}, but expected {says}");
        }
    }

    proptest! {
        #[test]
        fn never_panics(
            words in prop::collection::vec(
                prop_oneof!["solid|vertex|endloop|endfacet|endsolid", "-?[0-9]{1,3}", "\n", ".{0,3}"], 0..100,
            ),
            changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
            noise in prop::collection::vec(any::<u8>(), 0..200),
        ) {
            let mut bytes = binary(b"solid", 4);
            for (place, byte) in changes {
                *place.get_mut(&mut bytes) = byte;
            }
            for bytes in [bytes, noise, format!("solid {}", words.join(" ")).into_bytes()] {
                let _ = import(&bytes);
            }
        }
    }
}
