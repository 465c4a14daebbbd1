//! OFF as in `ModelNet`: counts, then a line per vertex and per face.
//!
//! Common deviations are accepted: counts glued to the keyword (`OFF490 518 0`, in hundreds of `ModelNet40`'s files),
//! blank lines, comments, a missing number of edges. Normals (`NOFF`) are ignored; colors are those of the faces if any
//! face has one, else those of the vertices (`COFF`).

use glam::DVec3;

use super::{
    ImportError, MeshFormat, number, polygon, text,
    triangle_soup::{self, TriangleSoup},
};

fn error(line: usize, problem: &'static str) -> ImportError {
    ImportError::Line {
        format: MeshFormat::Off,
        line,
        problem,
    }
}

/// Three numbers, or `None` if there are fewer.
fn color<'a>(words: impl Iterator<Item = &'a [u8]>) -> Option<[f32; 3]> {
    let mut channels = words.map_while(number::parse_f64).map(|channel| channel as f32);
    Some([channels.next()?, channels.next()?, channels.next()?])
}

/// Reads an OFF file.
pub(super) fn read(bytes: &[u8], reads_colors: bool) -> Result<TriangleSoup, ImportError> {
    let bytes = text::decode(bytes);
    let mut lines = bytes
        .split(|&byte| byte == b'\n')
        .map(|line| {
            line.split(|&byte| byte == b'#')
                .next()
                .unwrap_or_default()
                .trim_ascii()
        })
        .enumerate()
        .map(|(index, line)| (index + 1, line))
        .filter(|(_, line)| !line.is_empty())
        .peekable();
    let at_end = |problem| ImportError::File {
        format: MeshFormat::Off,
        problem,
    };

    let &(line, header) = lines.peek().ok_or_else(|| at_end("the file is empty"))?;
    let keyword_len = header
        .iter()
        .take_while(|byte| !byte.is_ascii_digit() && !byte.is_ascii_whitespace())
        .count();
    let (keyword, mut counts) = (&header[..keyword_len], header[keyword_len..].trim_ascii());
    match keyword {
        b"OFF" | b"COFF" | b"NOFF" | b"CNOFF" | b"NCOFF" | b"STOFF" | b"STCOFF" | b"STNOFF" | b"STCNOFF" => {}
        _ => return Err(error(line, "an OFF file begins with the word OFF")),
    }
    let has_colors = reads_colors && keyword.contains(&b'C');
    let num_skipped = if keyword.contains(&b'N') { 3 } else { 0 };
    lines.next();
    if counts.starts_with(b"BINARY") {
        return Err(error(line, "binary OFF is not supported"));
    }
    let mut counts_line = line;
    if counts.is_empty() {
        (counts_line, counts) = lines.next().ok_or_else(|| at_end("the counts are missing"))?;
    }
    let mut counts = text::words(counts).map(number::parse_i64);
    let mut count = || {
        let count = counts
            .next()
            .flatten()
            .and_then(|count| usize::try_from(count).ok());
        // Each vertex and each face takes at least two bytes of text.
        count.filter(|&count| count <= bytes.len() / 2).ok_or_else(|| {
            error(
                counts_line,
                "the counts of vertices and faces are missing, negative or larger than the file",
            )
        })
    };
    let (num_vertices, num_faces) = (count()?, count()?);

    let mut soup = TriangleSoup::default();
    let (mut vertex_colors, mut face_colors) = (Vec::new(), Vec::new());
    for _ in 0..num_vertices {
        let (line, text) = lines.next().ok_or_else(|| at_end("it ends among the vertices"))?;
        let mut words = text::words(text);
        let mut coordinate = || number::parse_f64(words.next()?);
        let position = coordinate().zip(coordinate()).zip(coordinate());
        let ((x, y), z) = position.ok_or_else(|| error(line, "a vertex needs three numbers"))?;
        soup.positions.push(DVec3::new(x, y, z));
        if has_colors {
            vertex_colors.push(color(words.skip(num_skipped)).unwrap_or(triangle_soup::NO_COLOR));
        }
    }
    let part = soup.part("");
    let (mut corners, mut polygon) = (Vec::new(), Vec::new());
    // The number of triangles after each face.
    let mut ends = Vec::new();
    for _ in 0..num_faces {
        let (line, text) = lines.next().ok_or_else(|| at_end("it ends among the faces"))?;
        let mut words = text::words(text);
        let num_corners = words.next().and_then(number::parse_i64).unwrap_or(-1);
        corners.clear();
        polygon.clear();
        for _ in 0..num_corners {
            let corner = words
                .next()
                .and_then(number::parse_i64)
                .and_then(|corner| u32::try_from(corner).ok());
            let corner = corner.ok_or_else(|| error(line, "a face has fewer corners than it says"))?;
            let position = soup.positions.get(corner as usize);
            polygon
                .push(*position.ok_or_else(|| error(line, "a face refers to a vertex that does not exist"))?);
            corners.push(corner);
        }
        if num_corners < 0 {
            return Err(error(line, "a face begins with the number of its corners"));
        }
        if reads_colors {
            face_colors.push(color(words).unwrap_or(triangle_soup::NO_COLOR));
        }
        polygon::triangulate(&polygon, |triangle| {
            soup.push(triangle.map(|corner| corners[corner]), part);
        });
        ends.push(soup.triangles.len());
    }
    let has_color = |colors: &[[f32; 3]]| colors.iter().any(|color| !color[0].is_nan());
    if has_color(&vertex_colors) || has_color(&face_colors) {
        set_colors(&mut soup, &vertex_colors, &face_colors, &ends);
    }
    Ok(soup)
}

fn set_colors(soup: &mut TriangleSoup, vertex_colors: &[[f32; 3]], face_colors: &[[f32; 3]], ends: &[usize]) {
    let (of_vertex, of_face) = (
        triangle_soup::bytes_of_colors(vertex_colors),
        triangle_soup::bytes_of_colors(face_colors),
    );
    let mut start = 0;
    for (face, &end) in ends.iter().enumerate() {
        let has_color = !face_colors[face][0].is_nan();
        for corners in &soup.triangles[start..end] {
            let of_corners = corners.map(|vertex| {
                of_vertex
                    .get(vertex as usize)
                    .copied()
                    .unwrap_or(triangle_soup::WHITE)
            });
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
