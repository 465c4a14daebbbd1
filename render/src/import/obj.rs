//! Wavefront OBJ: `v`, `f`, `g` and `o`; everything else (materials, normals, lines, points, curves) is passed over.
//!
//! A parser of our own, because the usual crate reads `l` elements as faces, cuts concave faces wrongly, overflows
//! on wild texture indices, stops at text that is not UTF-8, and takes several times as long.

use glam::DVec3;

use super::{ImportError, MeshFormat, Soup, number, polygon, text};

/// A face as it stands in the file: the end of its corners in `corners`, its part and its line.
struct Face {
    end: usize,
    part: u16,
    line: usize,
}

/// Reads an OBJ. A group is a part; faces outside of any group belong to the part of their object's name.
pub(super) fn read(bytes: &[u8]) -> Result<Soup, ImportError> {
    let mut soup = Soup::default();
    let mut corners: Vec<u32> = Vec::new();
    let mut faces: Vec<Face> = Vec::new();
    let mut object = String::new();
    let mut part = None;

    text::for_each_line(&text::decode(bytes), |line, text| {
        let at = |problem| ImportError::Line {
            format: MeshFormat::Obj,
            line,
            problem,
        };
        let mut words = text::words(text);
        match words.next() {
            Some(b"v") => {
                // A fourth number is the weight of a rational curve, or the first of a color: neither moves the point.
                let mut coordinate = || number::parse_f64(words.next()?);
                let position = coordinate().zip(coordinate()).zip(coordinate());
                let ((x, y), z) = position.ok_or_else(|| at("a vertex needs three numbers"))?;
                soup.positions.push(DVec3::new(x, y, z));
            }
            Some(b"f") => {
                let start = corners.len();
                for word in words {
                    let index = word
                        .split(|&byte| byte == b'/')
                        .next()
                        .and_then(number::parse_i64);
                    let index = match index {
                        Some(index @ 1..) => index - 1,
                        Some(back @ ..=-1) => soup.positions.len() as i64 + back,
                        Some(0) => return Err(at("face indices count from 1, this one is 0")),
                        None => return Err(at("a corner of a face is not a number")),
                    };
                    let index = u32::try_from(index)
                        .map_err(|_| at("a face refers to a vertex that does not exist"))?;
                    corners.push(index);
                }
                if corners.len() - start < 3 {
                    corners.truncate(start);
                } else {
                    let part = *part.get_or_insert_with(|| soup.part(&object));
                    faces.push(Face {
                        end: corners.len(),
                        part,
                        line,
                    });
                }
            }
            Some(b"g") => {
                let name = name_after(text, 1);
                part = (!name.is_empty()).then(|| soup.part(&name));
            }
            Some(b"o") => {
                object = name_after(text, 1);
                part = None;
            }
            _ => {}
        }
        Ok(())
    })?;

    let mut polygon = Vec::new();
    let mut start = 0;
    for Face { end, part, line } in faces {
        let corners = &corners[start..end];
        start = end;
        polygon.clear();
        for &corner in corners {
            polygon.push(*soup.positions.get(corner as usize).ok_or(ImportError::Line {
                format: MeshFormat::Obj,
                line,
                problem: "a face refers to a vertex that does not exist",
            })?);
        }
        polygon::triangulate(&polygon, |triangle| {
            soup.push(triangle.map(|corner| corners[corner]), part);
        });
    }
    Ok(soup)
}

fn name_after(line: &[u8], keyword_len: usize) -> String {
    String::from_utf8_lossy(line[keyword_len..].trim_ascii()).into_owned()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use proptest::prelude::*;

    use super::super::{MeshFormat, NoAssets, import_mesh};
    use super::*;
    use crate::mesh::Mesh;

    fn import(text: &str) -> Result<Mesh, ImportError> {
        import_mesh(MeshFormat::Obj, text.as_bytes(), &NoAssets)
    }

    const SQUARE: &str = "v 0 0 0\nv 1 0 0\nv 1 1 0\nv 0 1 0\n";

    #[test]
    fn the_axes_have_three_arms() {
        let bytes = include_bytes!("../../../assets/axes.obj");
        let mesh = import_mesh(MeshFormat::Obj, bytes, &NoAssets).unwrap();
        assert_eq!(mesh.part_names(), ["x", "y", "z"]);
        assert_eq!(mesh.triangles().len(), 36);
        assert!(mesh.is_watertight());
        let reach = |part: u16| {
            let parts = mesh.part_of_triangle().iter();
            let corners = mesh
                .corners()
                .zip(parts)
                .filter(|(_, of)| **of == part)
                .flat_map(|(corners, _)| corners);
            corners.fold(DVec3::ZERO, |reach, corner| {
                reach.max(corner.as_dvec3() + mesh.origin())
            })
        };
        let reaches = [reach(0).x, reach(1).y, reach(2).z].map(|reach| (reach * 1e3).round() as i32);
        assert_eq!(reaches, [1000, 750, 500]);
    }

    #[test]
    fn all_forms_of_corners() {
        for face in [
            "f 1 2 3 4",
            "f 1/1 2/9 3/3 4/4",
            "f 1//1 2//1 3//1 4//1",
            "f 1/1/1 2/2/2 3/3/3 4/4/4",
            "f -4 -3 -2 -1",
            "f 1// 2// 3// 4//",
            "f 1 2 \\\n 3 4",
            "f\t1\t2\t3\t4\r",
        ] {
            let mesh = import(&format!("{SQUARE}{face}")).unwrap_or_else(|error| panic!("{face}: {error}"));
            assert_eq!((mesh.triangles().len(), mesh.surface_area()), (2, 1.0), "{face}");
        }
    }

    #[test]
    fn groups_come_before_objects() {
        let mesh = import(&format!(
            "{SQUARE}f 1 2 3\no chair\nf 1 2 3\ng leg\nf 1 3 4\ng\nf 1 2 4\ng leg\nf 2 3 4\no b\nf 1 2 3"
        ))
        .unwrap();
        assert_eq!(mesh.part_names(), ["", "chair", "leg", "b"]);
        assert_eq!(mesh.part_of_triangle(), [0, 1, 2, 1, 2, 3]);
    }

    #[test]
    fn what_is_not_surface_is_passed_over() {
        let mesh = import(&format!(
            "mtllib missing.mtl\nusemtl red\ns 1\nvn 0 0 1\nvt nonsense\n{SQUARE}l 1 2 3 4\np 1 2 3\nf 1 2\nf 1 2 3\n\u{fe}"
        ))
        .unwrap();
        assert_eq!(mesh.triangles().len(), 1);
        let mesh = import("v 0 0 0 0.5\nv 2 0 0 1 0 0\nv 0 2 0 0\nf 1 2 3").unwrap();
        assert!(
            (mesh.surface_area() - 2.0).abs() < 1e-12,
            "the fourth number moves nothing"
        );
        let latin1 = [b"# caf\xe9\ng caf\xe9\n", SQUARE.as_bytes(), b"f 1 2 3"].concat();
        assert!(import_mesh(MeshFormat::Obj, &latin1, &NoAssets).is_ok());
    }

    #[test]
    fn refuses_by_name() {
        for (text, code, says) in [
            ("", "no_faces", "no faces"),
            ("v 0 0 0\nv 1 1 1\n", "no_faces", "no faces"),
            (
                "v 0 0\n",
                "malformed",
                "line 1 of the OBJ: a vertex needs three numbers",
            ),
            ("v 0 0 x\n", "malformed", "line 1"),
            ("f -4 -3 -2", "malformed", "does not exist"),
            (
                "v 0 0 0\nf 0 1 1",
                "malformed",
                "line 2 of the OBJ: face indices count from 1",
            ),
            (
                "v 0 0 0\nf 1 1 2",
                "malformed",
                "line 2 of the OBJ: a face refers",
            ),
            ("v 0 0 0\nf 1 1 99999999999", "malformed", "does not exist"),
            ("v 0 0 0\nv nan 0 1\nv 1 1 1\nf 1 2 3", "non_finite", "vertex 1"),
            (
                "v 0 0 0\nv 1.#INF 0 1\nv 1 1 1\nf 1 2 3",
                "non_finite",
                "vertex 1",
            ),
        ] {
            let error = import(text).unwrap_err();
            assert!(
                error.code() == code && error.to_string().contains(says),
                "{text:?}: {error}"
            );
        }
    }

    proptest! {
        #[test]
        fn never_panics(
            words in prop::collection::vec(
                prop_oneof!["[vfgol#]", "-?[0-9]{1,3}(/-?[0-9]{0,2}){0,2}", "-?[0-9]\\.[0-9]", "\n", "\\\\\n", ".{0,4}"],
                0..200,
            ),
            bytes in prop::collection::vec(any::<u8>(), 0..50),
        ) {
            let text = [words.join(" ").as_bytes(), &bytes].concat();
            let _ = import_mesh(MeshFormat::Obj, &text, &NoAssets);
        }
    }
}
