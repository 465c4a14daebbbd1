//! STL, text and binary. It is a triangle soup, so corners at exactly equal positions are welded.
//!
//! Some binary files begin with the keyword of text files, `solid`: only the file size tells. Solids are parts. Where the
//! number of triangles in the header contradicts the size of a binary file, and the size is that of whole triangles, the
//! size counts.

mod color;

use std::collections::HashMap;

use glam::DVec3;

use self::color::FacetColors;
use super::{
    ImportError, MeshFormat, polygon, text,
    token::{RowLayout, Tokens},
    triangle_soup::{TriangleAttributes, TriangleSoup},
};
use crate::mesh::WarningKind;

/// Header and count of a binary file, in bytes.
const HEADER_LEN: usize = 84;
/// Normal, three corners and two spare bytes.
const FACET_LEN: usize = 50;
/// A file that begins like text is text unless a zero byte is among this many first bytes.
const SNIFFED_LEN: usize = 1024;

/// Facets behind the counted ones are data of another kind if they lie this many times as far out.
const FARTHEST_CONTINUATION: f64 = 100.0;

type Facet = [u8; FACET_LEN];

fn error(problem: &'static str) -> ImportError {
    ImportError::File {
        format: MeshFormat::Stl,
        problem,
    }
}

/// Reads an STL.
pub(super) fn read(bytes: &[u8], reads_colors: bool) -> Result<TriangleSoup, ImportError> {
    let decoded = text::without_mark(bytes);
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
        return read_text(&text::decode(bytes));
    }
    let Some(count) = count else {
        return Err(error(if bytes.is_empty() {
            "the file is empty"
        } else {
            "it is neither text nor long enough for a binary header"
        }));
    };
    let mut solid = Solid::default();
    let (header, body) = bytes.split_at(HEADER_LEN);
    let facets = solid.facets(body, count)?;
    let colors = FacetColors::new(header, facets).filter(|_| reads_colors);
    let part = solid.soup.part("");
    for facet in facets {
        let triangle = corners(facet).map(|corner| solid.vertex(corner));
        match &colors {
            Some(colors) => {
                let attributes = TriangleAttributes {
                    colors: Some([colors.of(facet); 3]),
                    ..TriangleAttributes::default()
                };
                solid.soup.push_with_attributes(triangle, part, attributes);
            }
            None => solid.soup.push(triangle, part),
        }
    }
    Ok(solid.soup)
}

fn corners(facet: &Facet) -> [DVec3; 3] {
    let coordinates = facet[12..48].as_chunks().0;
    [0, 1, 2].map(|corner| {
        DVec3::from([0, 1, 2].map(|axis| f64::from(f32::from_le_bytes(coordinates[3 * corner + axis]))))
    })
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

    /// The facets of a binary file whose header counts `count`.
    fn facets<'a>(&mut self, body: &'a [u8], count: usize) -> Result<&'a [Facet], ImportError> {
        let (facets, rest) = body.as_chunks::<FACET_LEN>();
        let has_whole_facets = rest.is_empty() && !facets.is_empty();
        if count == facets.len() && has_whole_facets {
            return Ok(facets);
        }
        if has_whole_facets && (count > facets.len() || continues(facets, count)) {
            self.soup.warnings.push(
                WarningKind::Count,
                format!(
                    "its header counts {count} triangles, but there are {}",
                    facets.len()
                ),
            );
            return Ok(facets);
        }
        if count == 0 && !body.is_empty() {
            return Err(error(
                "its number of triangles is 0, but bytes follow that are no whole number of triangles",
            ));
        }
        let counted = facets.get(..count);
        let counted = counted.ok_or_else(|| error("its number of triangles is larger than the file"))?;
        let num_bytes = body.len() - FACET_LEN * count;
        if num_bytes > 0 {
            self.soup.warnings.push(
                WarningKind::Trailing,
                format!("{num_bytes} bytes behind the last triangle are ignored"),
            );
        }
        Ok(counted)
    }
}

/// Are the facets behind the first `count` near those, and not other data?
fn continues(facets: &[Facet], count: usize) -> bool {
    let (counted, further) = facets.split_at(count);
    let reach = |facets: &[Facet]| {
        let corners = facets.iter().flat_map(corners);
        corners.fold(0.0, |reach: f64, corner| reach.max(corner.abs().max_element()))
    };
    let is_finite = further.iter().flat_map(corners).all(DVec3::is_finite);
    is_finite && (count == 0 || reach(further) <= FARTHEST_CONTINUATION * reach(counted))
}

fn read_text(bytes: &[u8]) -> Result<TriangleSoup, ImportError> {
    let mut solid = Solid::default();
    let mut part = None;
    let (mut loop_corners, mut polygon) = (Vec::new(), Vec::new());
    let mut is_open = false;
    let mut tokens = Tokens::new(bytes, 1, RowLayout::Stream);
    while let Some(word) = tokens.word() {
        let is = |keyword: &[u8]| word.eq_ignore_ascii_case(keyword);
        if is(b"vertex") {
            let line = tokens.line();
            let mut coordinate = || tokens.number();
            let position = coordinate().zip(coordinate()).zip(coordinate());
            let ((x, y), z) = position.ok_or(ImportError::Line {
                format: MeshFormat::Stl,
                line,
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
            let name = before_facet(tokens.rest_of_line());
            tokens.skip(name.len());
            part = Some(solid.soup.part(&text::string(name.trim_ascii())));
            is_open = true;
        } else if is(b"endsolid") {
            let line = tokens.rest_of_line();
            let name = before_facet(line);
            // Another solid may begin on the same line.
            let next = words_at(name)
                .filter(|(_, word)| word.eq_ignore_ascii_case(b"solid"))
                .last();
            let next = next.filter(|_| name.len() < line.len());
            tokens.skip(next.map_or(line.len(), |(at, _)| at));
            is_open = false;
        }
    }
    if !polygon.is_empty() {
        return Err(error("it ends within a facet"));
    }
    if is_open {
        solid.soup.warnings.push(
            WarningKind::CutOff,
            "the last solid has no end: the file may be cut off".to_owned(),
        );
    }
    Ok(solid.soup)
}

/// The part of a line before the words `facet normal`: a file may be a single line.
fn before_facet(line: &[u8]) -> &[u8] {
    let mut words = words_at(line).peekable();
    while let Some((at, word)) = words.next() {
        let is_followed = words
            .peek()
            .is_some_and(|(_, next)| next.eq_ignore_ascii_case(b"normal"));
        if is_followed && word.eq_ignore_ascii_case(b"facet") {
            return &line[..at];
        }
    }
    line
}

/// The words of a line, and where they begin.
fn words_at(line: &[u8]) -> impl Iterator<Item = (usize, &[u8])> {
    text::words(line).map(|word| (word.as_ptr().addr() - line.as_ptr().addr(), word))
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
    fn the_length_corrects_the_count() {
        for count in [0, 1, 3, 5, u32::MAX, u32::from_le_bytes(*b"    ")] {
            for header in [&b"made by hand"[..], b"solid made by hand \0"] {
                let mesh = import(&binary(header, count)).unwrap();
                assert_eq!(mesh.triangles().len(), 4, "{count}");
                assert_eq!(mesh.warning_kinds(), [WarningKind::Count], "{count}");
            }
        }
        let with_other_data = [binary(b"", 4), b"some text in the place of numbers".repeat(50)].concat();
        for bytes in [[binary(b"", 4), vec![0; 7]].concat(), with_other_data] {
            let mesh = import(&bytes).unwrap();
            assert_eq!(mesh.triangles().len(), 4);
            assert_eq!(mesh.warning_kinds(), [WarningKind::Trailing]);
        }
    }

    #[test]
    fn rows_need_not_be_lines() {
        let one_line = |text: String| text.replace("\r\n", " ").replace('\n', " ");
        for text in [
            text("a b").replace("\r\n", "\n").replace(' ', "\n "),
            one_line(text("a b")),
            text("a b").replace("\r\n", "\n").replace('\n', "\r"),
            text("a b").replace("vertex ", "vertex\n"),
        ] {
            let mesh = import(text.as_bytes()).unwrap_or_else(|error| panic!("{text}: {error}"));
            assert_eq!(mesh.triangles().len(), 4, "{text}");
            assert!(mesh.warnings().is_empty(), "{text}");
        }
        let two = import(one_line(text("a b") + &text("c")).as_bytes()).unwrap();
        assert_eq!(two.part_names(), ["a b", "c"]);
        assert_eq!(two.part_of_triangle(), [0, 0, 0, 0, 1, 1, 1, 1]);
    }

    #[test]
    fn refuses_by_name() {
        let cut = |count| {
            let mut bytes = binary(b"", count);
            bytes.truncate(bytes.len() - 7);
            bytes
        };
        for (bytes, says) in [
            (vec![], "the file is empty"),
            (b"PK".to_vec(), "neither text nor long enough"),
            (b"solid a\nendsolid a".to_vec(), "no faces"),
            (
                b"solid a\nvertex 1 2\n".to_vec(),
                "line 2 of the STL: a vertex needs three numbers",
            ),
            (b"solid a\nfacet\nvertex 1 2 3".to_vec(), "ends within a facet"),
            (cut(u32::MAX), "larger than the file"),
            (cut(5), "larger than the file"),
            (cut(0), "its number of triangles is 0, but bytes follow"),
            (binary(b"", 0)[..84].to_vec(), "no faces"),
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
