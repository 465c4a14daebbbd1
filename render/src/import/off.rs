//! OFF as in `ModelNet`: counts, then a line per vertex and per face.
//!
//! Common deviations are accepted: counts glued to the keyword (`OFF490 518 0`, in hundreds of `ModelNet40`'s files),
//! blank lines, comments, a missing number of edges, rows that are no lines, counts that the number of lines corrects.
//! Normals (`NOFF`) are ignored; colors are those of the faces if any face has one, else those of the vertices (`COFF`).

use std::iter;

use glam::DVec3;

use super::{
    ImportError, MeshFormat, color, polygon, text,
    token::{RowLayout, Rows, Tokens, read_rows},
    triangle_soup::TriangleSoup,
};
use crate::mesh::WarningKind;

fn error(line: usize, problem: &'static str) -> ImportError {
    ImportError::Line {
        format: MeshFormat::Off,
        line,
        problem,
    }
}

fn at_end(problem: &'static str) -> ImportError {
    ImportError::File {
        format: MeshFormat::Off,
        problem,
    }
}

/// Reads an OFF file.
pub(super) fn read(bytes: &[u8], reads_colors: bool) -> Result<TriangleSoup, ImportError> {
    let text = text::decode(bytes);
    let read = |layout| {
        let mut tokens = Tokens::new(&text, 1, layout);
        let header = Header::read(&mut tokens, text.len() / 2)?;
        read_body(tokens, &header, reads_colors)
    };
    let rows = read_rows(read, || recount(&text, reads_colors))?;
    let mut soup = rows.content;
    if !rows.is_whole {
        soup.warnings.push(
            WarningKind::Trailing,
            "lines behind the last face are ignored".to_owned(),
        );
    }
    Ok(soup)
}

/// Reads line by line, with the number of faces, or else of vertices, that follows from the number of lines.
fn recount(text: &[u8], reads_colors: bool) -> Option<TriangleSoup> {
    let mut tokens = Tokens::new(text, 1, RowLayout::Line);
    let header = Header::read(&mut tokens, text.len() / 2).ok()?;
    let num_lines = tokens.clone().count_lines();
    let by_vertices = num_lines.checked_sub(header.num_vertices);
    let by_faces = num_lines.checked_sub(header.num_faces);
    let counts = [
        by_vertices.map(|num_faces| (header.num_vertices, num_faces)),
        by_faces.map(|num_vertices| (num_vertices, header.num_faces)),
    ];
    counts
        .into_iter()
        .flatten()
        .find_map(|(num_vertices, num_faces)| {
            let recounted = Header {
                num_vertices,
                num_faces,
                min_corners: 3,
                ..header
            };
            let rows = read_body(tokens.clone(), &recounted, reads_colors).ok()?;
            let is_mended = rows.is_whole && num_faces > 0;
            let mut soup = rows.content;
            soup.warnings.push(
            WarningKind::Count,
            format!(
                "its header counts {} vertices and {} faces, but there are {num_vertices} and {num_faces}",
                header.num_vertices, header.num_faces
            ),
        );
            is_mended.then_some(soup)
        })
}

/// What precedes the vertices.
#[derive(Debug, Clone, Copy)]
struct Header {
    has_colors: bool,
    has_normals: bool,
    num_vertices: usize,
    num_faces: usize,
    /// Fewest corners that a face may have.
    min_corners: i64,
}

impl Header {
    fn read(tokens: &mut Tokens<'_>, max_count: usize) -> Result<Self, ImportError> {
        if !tokens.next_row() {
            return Err(at_end("the file is empty"));
        }
        let keyword = tokens.letters();
        match keyword {
            b"OFF" | b"COFF" | b"NOFF" | b"CNOFF" | b"NCOFF" | b"STOFF" | b"STCOFF" | b"STNOFF"
            | b"STCNOFF" => {}
            _ => return Err(error(tokens.line(), "an OFF file begins with the word OFF")),
        }
        if tokens.clone().word_on_line().is_none() {
            tokens.end_row();
        }
        if !tokens.next_row() {
            return Err(at_end("the counts are missing"));
        }
        if tokens.clone().word() == Some(b"BINARY") {
            return Err(error(tokens.line(), "binary OFF is not supported"));
        }
        let line = tokens.line();
        let mut count = || {
            let count = tokens.integer().and_then(|count| usize::try_from(count).ok());
            // Each vertex and each face takes at least two bytes of text.
            count.filter(|&count| count <= max_count).ok_or_else(|| {
                error(
                    line,
                    "the counts of vertices and faces are missing, negative or larger than the file",
                )
            })
        };
        let (num_vertices, num_faces) = (count()?, count()?);
        // The number of edges is often missing; counts on lines of their own are all there.
        if tokens.word_on_line().is_none() && tokens.line() != line {
            tokens.word();
        }
        tokens.end_row();
        Ok(Self {
            has_colors: keyword.contains(&b'C'),
            has_normals: keyword.contains(&b'N'),
            num_vertices,
            num_faces,
            min_corners: 0,
        })
    }
}

/// Three numbers, or `None` if there are fewer.
fn read_color(tokens: &mut Tokens<'_>) -> Option<[f32; 3]> {
    let mut channel = || tokens.optional_number().map(|channel| channel as f32);
    Some([channel()?, channel()?, channel()?])
}

/// Vertices and faces. In a stream the header tells how many numbers a vertex has, and faces have no colors.
fn read_body(
    mut tokens: Tokens<'_>,
    header: &Header,
    reads_colors: bool,
) -> Result<Rows<TriangleSoup>, ImportError> {
    let is_stream = tokens.layout() == RowLayout::Stream;
    let &Header {
        has_colors,
        has_normals,
        ..
    } = header;
    let mut soup = TriangleSoup::default();
    let (mut vertex_colors, mut face_colors) = (Vec::new(), Vec::new());
    for _ in 0..header.num_vertices {
        if !tokens.next_row() {
            return Err(at_end("it ends among the vertices"));
        }
        let mut coordinate = || tokens.number();
        let position = coordinate().zip(coordinate()).zip(coordinate());
        let ((x, y), z) = position.ok_or_else(|| error(tokens.line(), "a vertex needs three numbers"))?;
        soup.positions.push(DVec3::new(x, y, z));
        if has_normals && (has_colors || is_stream) {
            iter::repeat_with(|| tokens.optional_number())
                .take(3)
                .for_each(drop);
        }
        if has_colors && (reads_colors || is_stream) {
            vertex_colors.push(read_color(&mut tokens).unwrap_or(color::NO_COLOR));
        }
        if has_colors && is_stream {
            tokens.number();
        }
        tokens.end_row();
    }
    let part = soup.part("");
    let (mut corners, mut polygon) = (Vec::new(), Vec::new());
    // The number of triangles after each face.
    let mut ends = Vec::new();
    for _ in 0..header.num_faces {
        if !tokens.next_row() {
            return Err(at_end("it ends among the faces"));
        }
        let num_corners = tokens
            .integer()
            .filter(|num_corners| *num_corners >= header.min_corners)
            .ok_or_else(|| error(tokens.line(), "a face begins with the number of its corners"))?;
        corners.clear();
        polygon.clear();
        for _ in 0..num_corners {
            let corner = tokens.integer().and_then(|corner| u32::try_from(corner).ok());
            let corner =
                corner.ok_or_else(|| error(tokens.line(), "a face has fewer corners than it says"))?;
            let position = soup.positions.get(corner as usize);
            polygon.push(
                *position
                    .ok_or_else(|| error(tokens.line(), "a face refers to a vertex that does not exist"))?,
            );
            corners.push(corner);
        }
        if reads_colors {
            let color = if is_stream { None } else { read_color(&mut tokens) };
            face_colors.push(color.unwrap_or(color::NO_COLOR));
        }
        polygon::triangulate(&polygon, |triangle| {
            soup.push(triangle.map(|corner| corners[corner]), part);
        });
        ends.push(soup.triangles.len());
        tokens.end_row();
    }
    if reads_colors
        && [&vertex_colors, &face_colors]
            .iter()
            .any(|colors| has_color(colors))
    {
        set_colors(&mut soup, &vertex_colors, &face_colors, &ends);
    }
    Ok(Rows {
        content: soup,
        is_whole: !tokens.next_row(),
    })
}

fn has_color(colors: &[[f32; 3]]) -> bool {
    colors.iter().any(|color| !color[0].is_nan())
}

fn set_colors(soup: &mut TriangleSoup, vertex_colors: &[[f32; 3]], face_colors: &[[f32; 3]], ends: &[usize]) {
    let (of_vertex, of_face) = (
        color::bytes_of_colors(vertex_colors),
        color::bytes_of_colors(face_colors),
    );
    let mut start = 0;
    for (face, &end) in ends.iter().enumerate() {
        let has_color = !face_colors[face][0].is_nan();
        for corners in &soup.triangles[start..end] {
            let of_corners =
                corners.map(|vertex| of_vertex.get(vertex as usize).copied().unwrap_or(color::WHITE));
            soup.appearance
                .colors
                .push(if has_color { [of_face[face]; 3] } else { of_corners });
        }
        start = end;
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use proptest::prelude::*;

    use super::super::{ImportOptions, NoAssets, import_mesh, import_object};
    use super::*;
    use crate::mesh::Mesh;

    fn import(text: &str) -> Result<Mesh, ImportError> {
        import_mesh(MeshFormat::Off, text.as_bytes(), &NoAssets)
    }

    #[test]
    fn the_cube() {
        let bytes = include_bytes!("../../../assets/cube.off");
        let mesh = import_mesh(MeshFormat::Off, bytes, &NoAssets).unwrap();
        assert_eq!((mesh.triangles().len(), mesh.positions().len()), (12, 8));
        assert!(mesh.is_watertight() && (mesh.surface_area() - 6.0).abs() < 1e-6);
    }

    #[test]
    fn all_forms_of_headers() {
        let body = "0 0 0\n1 0 0\n1 1 0\n0 1 0\n4 0 1 2 3";
        for header in [
            "OFF\n4 1 0",
            "OFF4 1 0",
            "OFF 4 1 0",
            "  OFF # what\n\n# so\n4 1",
            "COFF\n4 1 0",
            "NOFF\r\n4 1 0\r",
        ] {
            let mesh =
                import(&format!("{header}\n{body}")).unwrap_or_else(|error| panic!("{header}: {error}"));
            assert_eq!(mesh.triangles().len(), 2, "{header}");
        }
        let colored = "COFF\n3 1 0\n0 0 0 255 0 0 1\n1 0 0 255 0 0 1\n0 1 0 255 0 0 1\n3 0 1 2 0.5 0.5 0.5\n";
        assert_eq!(import(colored).unwrap().triangles().len(), 1);
    }

    #[test]
    fn colors_of_vertices_and_faces() {
        let colors = |text: &str| {
            let options = ImportOptions {
                appearance: true,
                ..ImportOptions::default()
            };
            let mesh = import_object(MeshFormat::Off, text.as_bytes(), &NoAssets, &options).unwrap();
            mesh.appearance().map(|appearance| appearance.colors.clone())
        };
        let [red, green, blue] = [[255, 0, 0, 255], [0, 255, 0, 255], [0, 0, 255, 255]];
        let plain = "3 1 0\n0 0 0\n1 0 0\n0 1 0\n3 0 1 2";
        assert_eq!(colors(&format!("OFF\n{plain}")), None);
        assert_eq!(
            colors(&format!("OFF\n{plain} 7")),
            None,
            "an index into a color map"
        );
        assert_eq!(colors(&format!("OFF\n{plain} 0 0.0 1.0")), Some(vec![[blue; 3]]));
        assert_eq!(
            colors(&format!("OFF\n{plain} 0 255 0 128")),
            Some(vec![[green; 3]])
        );
        let vertices = "3 1 0\n0 0 0 255 0 0 255\n1 0 0 0 255 0 255\n0 1 0 0 0 255 255\n3 0 1 2";
        assert_eq!(
            colors(&format!("COFF\n{vertices}")),
            Some(vec![[red, green, blue]])
        );
        assert_eq!(
            colors(&format!("OFF\n{vertices}")),
            None,
            "not what the header says"
        );
        let both = "NCOFF 3 1 0\n0 0 0 0 0 1 1 0 0 1\n1 0 0 0 0 1 0 1 0 1\n0 1 0 0 0 1 0 0 1 1\n3 0 1 2";
        assert_eq!(colors(both), Some(vec![[red, green, blue]]));
    }

    #[test]
    fn refuses_by_name() {
        for (text, says) in [
            ("", "empty"),
            ("solid cube", "begins with the word OFF"),
            ("OFF BINARY\n", "binary"),
            ("OFF", "counts are missing"),
            ("OFF\n999999999999 1 0\n", "larger than the file"),
            ("OFF\n-3 1 0\n", "larger than the file"),
            ("OFF\n3 1 0\n0 0 0\n", "ends among the vertices"),
            (
                "OFF\n1 1 0\n0 0\n",
                "line 3 of the OFF: a vertex needs three numbers",
            ),
            ("OFF\n1 1 0\n0 0 0\n", "ends among the faces"),
            (
                "OFF\n1 1 0\n0 0 0\n3 0 0\n",
                "line 4 of the OFF: a face has fewer corners",
            ),
            ("OFF\n1 1 0\n0 0 0\n3 0 0 7\n", "does not exist"),
            ("OFF\n1 1 0\n0 0 0\nx\n", "the number of its corners"),
            ("OFF\n1 1 0\n0 0 0\n1 0\n", "no faces"),
        ] {
            let error = import(text).unwrap_err().to_string();
            assert!(error.contains(says), "{text:?}: {error}");
        }
    }

    /// Two triangles side by side, as vertices and faces.
    const VERTICES: [&str; 4] = ["0 0 0", "1 0 0", "1 1 0", "0 1 0"];
    const FACES: [&str; 2] = ["3 0 1 2", "3 0 2 3"];

    #[test]
    fn rows_need_not_be_lines() {
        let broken = |rows: &[&str]| rows.join("\n").replace(' ', "\n");
        let files = [
            format!("OFF\n4 2 5\n{}\n{}", broken(&VERTICES), FACES.join("\n")),
            format!("OFF\n4 2 5\n{}\n{}", VERTICES.join("\n"), broken(&FACES)),
            format!("OFF 4 2 5 {} {}\n", VERTICES.join(" "), FACES.join(" ")),
            format!("OFF\n4\n2\n5\n{}\n{}", VERTICES.join("\n"), FACES.join("\n")),
            format!("OFF\n4\n2\n5\n{}\n{}\n", broken(&VERTICES), broken(&FACES)),
            format!("OFF\n4 2 5\n{}\n{}", VERTICES.join("  "), FACES.join("  ")),
            format!("OFF\n4 2 5\n{}\n3 0\n 1 2 255 0 0\n3 0 2 3", VERTICES.join("\n")),
        ];
        for text in files {
            for text in [text.replace('\n', "\r"), text.replace('\n', "\r\n"), text] {
                let mesh = import(&text).unwrap_or_else(|error| panic!("{text}: {error}"));
                assert_eq!(mesh.triangles(), [[0, 1, 2], [0, 2, 3]], "{text}");
                assert!(mesh.warnings().is_empty(), "{text}: {:?}", mesh.warnings());
            }
        }
        let colored = "COFF\n3 1 3\n0 0 0\n255 0 0 255 1 0 0\n0 255 0 255 0 1 0 0 0 255 255 3 0 1 2";
        let options = ImportOptions {
            appearance: true,
            ..ImportOptions::default()
        };
        let mesh = import_object(MeshFormat::Off, colored.as_bytes(), &NoAssets, &options).unwrap();
        let corners = [[255, 0, 0, 255], [0, 255, 0, 255], [0, 0, 255, 255]];
        assert_eq!(mesh.appearance().unwrap().colors, [corners]);
    }

    #[test]
    fn lines_correct_the_counts() {
        for counts in ["4 0 0", "4 1 0", "4 3 0", "3 2 0", "9 2 0"] {
            let text = format!("OFF\n{counts}\n{}\n{}\n", VERTICES.join("\n"), FACES.join("\n"));
            let mesh = import(&text).unwrap_or_else(|error| panic!("{counts}: {error}"));
            assert_eq!(mesh.triangles(), [[0, 1, 2], [0, 2, 3]], "{counts}");
            assert_eq!(mesh.warning_kinds(), [WarningKind::Count], "{counts}");
        }
        let text = format!(
            "OFF\n4 2 0\n{}\n{}\nthe end",
            VERTICES.join("\n"),
            FACES.join("\n")
        );
        let mesh = import(&text).unwrap();
        assert_eq!(
            (mesh.triangles().len(), mesh.warning_kinds()),
            (2, &[WarningKind::Trailing][..])
        );
    }

    proptest! {
        #[test]
        fn never_panics(
            numbers in prop::collection::vec(prop_oneof!["-?[0-9]{1,2}", "[0-9]\\.[0-9]", "\n", ".{0,3}"], 0..100),
            bytes in prop::collection::vec(any::<u8>(), 0..50),
        ) {
            let text = ["OFF\n3 2 0\n", &numbers.join(" ")].concat();
            let _ = import_mesh(MeshFormat::Off, &[text.as_bytes(), &bytes].concat(), &NoAssets);
            let _ = import_mesh(MeshFormat::Off, &bytes, &NoAssets);
        }
    }
}
