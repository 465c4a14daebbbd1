//! Our OBJ reader against the `tobj` crate: the same faces in the same order, in parts of the same names, for generated
//! files and for all real ones below the folder that `TAP_REAL_DATA` names. Where the two should differ, the difference
//! has a name here.
//!
//! `tobj` is asked for polygons, not triangles, since it cuts concave ones as fans: a polygon is compared by its corners
//! and its area vector, which no triangulation changes.
#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a test fails by panicking and says what it skips"
)]

#[allow(dead_code, reason = "the other tests of real files use the rest of it")]
mod folder;

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use glam::DVec3;
use proptest::prelude::*;
use tap_render::import::{MeshFormat, NoAssets, import_mesh};

use folder::real_data;

/// Error of `tobj`'s single-precision coordinates, as a fraction of the largest.
const TOLERANCE: f64 = 1e-6;

/// A wanted difference between the two readers.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Difference {
    /// `tobj` reads UTF-8 only; we read UTF-16 and Latin-1, too.
    Encoding,
    /// `tobj` refuses a file for a broken texture coordinate or a material without a name; we do not, since the shape is
    /// whole.
    BrokenAppearance,
    /// `tobj` refuses the ways in which C runtimes print numbers; we read them, NaN and infinity as NaN, which is an error
    /// only where a face uses it.
    NumberFormat,
    /// `tobj` knows no `\` at the end of a line.
    Continuation,
    /// `tobj` reads `l` elements of three or more vertices as faces.
    Polyline,
    /// `tobj` divides positions by a fourth coordinate; we take it for the weight of a rational curve.
    Weight,
    /// We refuse a mesh without any area.
    NoArea,
}

/// The real files that are read differently.
const DIFFERENT_FILES: [(&str, Difference); 7] = [
    ("box_UTF16BE.obj", Difference::Encoding),
    ("cube-vertex-w-component.obj", Difference::Weight),
    ("line-prim.obj", Difference::Polyline),
    ("model.obj", Difference::NoArea),
    ("model2.obj", Difference::NoArea),
    ("regr01.obj", Difference::Encoding),
    ("wallhole.obj", Difference::BrokenAppearance),
];

/// A face with its part.
#[derive(Debug)]
struct Polygon {
    part: String,
    corners: Vec<DVec3>,
}

/// The triangles that we read, as polygons.
fn ours(bytes: &[u8]) -> Result<Vec<Polygon>, String> {
    let mesh = import_mesh(MeshFormat::Obj, bytes, &NoAssets).map_err(|error| error.code().to_owned())?;
    let triangles = mesh.corners().zip(mesh.part_of_triangle());
    let polygon = |(corners, part): ([glam::Vec3; 3], &u16)| Polygon {
        part: mesh.part_names()[usize::from(*part)].clone(),
        corners: corners.map(|corner| corner.as_dvec3() + mesh.origin()).to_vec(),
    };
    Ok(triangles.map(polygon).collect())
}

/// The polygons that `tobj` reads.
fn theirs(mut bytes: &[u8]) -> Result<Vec<Polygon>, tobj::LoadError> {
    let options = tobj::LoadOptions {
        ignore_points: true,
        ignore_lines: true,
        ..tobj::LoadOptions::default()
    };
    let no_materials = |_: &Path| Err(tobj::LoadError::OpenFileFailed);
    let (models, _) = tobj::load_obj_buf(&mut bytes, &options, no_materials)?;
    let mut polygons = Vec::new();
    for tobj::Model { mesh, name } in models {
        let part = if name == "unnamed_object" { "" } else { &name };
        let mut indices = mesh.indices.iter();
        let arities = if mesh.face_arities.is_empty() {
            vec![3; mesh.indices.len() / 3]
        } else {
            mesh.face_arities
        };
        for arity in arities {
            let corner = |index: &u32| {
                let [x, y, z] = [0, 1, 2].map(|axis| mesh.positions[3 * *index as usize + axis]);
                DVec3::new(x.into(), y.into(), z.into())
            };
            polygons.push(Polygon {
                part: part.to_owned(),
                corners: indices.by_ref().take(arity as usize).map(corner).collect(),
            });
        }
    }
    Ok(polygons)
}

/// Twice a polygon's area, as a vector along its normal.
fn area_vector(corners: &[DVec3]) -> DVec3 {
    let first = corners[0];
    let pairs = corners.windows(2);
    pairs.map(|pair| (pair[0] - first).cross(pair[1] - first)).sum()
}

/// How the two readings of a file differ. Files that both refuse are read alike.
fn compare(bytes: &[u8]) -> Result<(), String> {
    let ours = ours(bytes);
    let theirs = match theirs(bytes) {
        Ok(theirs) => theirs,
        Err(_) if ours.is_err() => return Ok(()),
        Err(error) => return Err(format!("only tobj refuses it: {error:?}")),
    };
    let extent = theirs
        .iter()
        .flat_map(|polygon| &polygon.corners)
        .fold(0.0, |extent: f64, corner| extent.max(corner.abs().max_element()));
    let tolerance = TOLERANCE * extent;
    let ours = match ours {
        Ok(ours) => ours,
        Err(code) if code == "no_faces" && theirs.is_empty() => return Ok(()),
        Err(code) => return Err(format!("only we refuse it: {code}")),
    };
    let mut rest = ours.as_slice();
    for (index, polygon) in theirs.iter().enumerate() {
        let is_corner = |point: &DVec3| {
            let mut corners = polygon.corners.iter();
            corners.any(|corner| corner.abs_diff_eq(*point, tolerance))
        };
        let most = rest.len().min(polygon.corners.len().saturating_sub(2));
        // Triangles without an area are dropped.
        let len = rest[..most]
            .iter()
            .take_while(|triangle| triangle.corners.iter().all(is_corner))
            .count();
        let (triangles, behind) = rest.split_at(len);
        rest = behind;
        let covered: DVec3 = triangles
            .iter()
            .map(|triangle| area_vector(&triangle.corners))
            .sum();
        if !covered.abs_diff_eq(area_vector(&polygon.corners), 16.0 * tolerance * extent) {
            return Err(format!("face {index} has another area in {len} triangles"));
        }
        if let Some(triangle) = triangles.iter().find(|triangle| triangle.part != polygon.part) {
            return Err(format!(
                "face {index} is in '{}', not '{}'",
                triangle.part, polygon.part
            ));
        }
    }
    if rest.is_empty() {
        Ok(())
    } else {
        Err(format!("{} triangles more", rest.len()))
    }
}

/// One statement of a generated file.
#[derive(Debug, Clone)]
enum Statement {
    /// A face of several vertices; the style says how its corners are written.
    Face {
        corners: Vec<prop::sample::Index>,
        style: u8,
    },
    Group(u8),
    Object(u8),
    Material(u8),
    Comment,
}

fn statement() -> impl Strategy<Value = Statement> {
    let corners = prop::collection::vec(any::<prop::sample::Index>(), 3..7);
    prop_oneof![
        6 => (corners, 0_u8..5).prop_map(|(corners, style)| Statement::Face { corners, style }),
        1 => (0_u8..4).prop_map(Statement::Group),
        1 => (0_u8..4).prop_map(Statement::Object),
        1 => (0_u8..4).prop_map(Statement::Material),
        1 => Just(Statement::Comment),
    ]
}

/// The text of a file. Corners of a face are distinct vertices.
fn text(vertices: &[[f64; 3]], statements: &[Statement], newline: &str) -> String {
    let num = vertices.len();
    let mut text = String::new();
    for [x, y, z] in vertices {
        write!(
            text,
            "v {x:.5}\t{y:.6} {z:.4} {newline}vt 0.5 {x}{newline}vn 0 0 1{newline}"
        )
        .unwrap();
    }
    for statement in statements {
        match statement {
            Statement::Face { corners, style } => {
                let mut used: Vec<usize> = Vec::new();
                for corner in corners {
                    let vertex = corner.index(num) + 1;
                    if !used.contains(&vertex) {
                        used.push(vertex);
                    }
                }
                if used.len() < 3 {
                    continue;
                }
                text.push('f');
                for vertex in used {
                    match style {
                        0 => write!(text, " {vertex}"),
                        1 => write!(text, "  {vertex}/{vertex}"),
                        2 => write!(text, " {vertex}//{vertex}"),
                        3 => write!(text, "\t{vertex}/{vertex}/{vertex}"),
                        _ => write!(text, " -{}", num + 1 - vertex),
                    }
                    .unwrap();
                }
                text.push_str(newline);
            }
            Statement::Group(name) => write!(text, "g group{name}{newline}").unwrap(),
            Statement::Object(name) => write!(text, "o an object {name}{newline}").unwrap(),
            Statement::Material(name) => write!(text, "usemtl material{name}{newline}").unwrap(),
            Statement::Comment => write!(text, "# f 1 2 3{newline}{newline}s off{newline}").unwrap(),
        }
    }
    text
}

proptest! {
    #[test]
    fn generated_files_are_read_alike(
        vertices in prop::collection::vec(prop::array::uniform3(-9.0_f64..9.0), 6..40),
        statements in prop::collection::vec(statement(), 1..40),
        is_dos in any::<bool>(),
    ) {
        let text = text(&vertices, &statements, if is_dos { "\r\n" } else { "\n" });
        if let Err(difference) = compare(text.as_bytes()) {
            return Err(TestCaseError::fail(format!("{difference}\n{text}")));
        }
    }
}

#[test]
fn named_differences_are_there() {
    let triangle = b"v 0 0 0\nv 1 0 0\nv 0 1 0\nf 1 2 3\n";
    for (rest, difference) in [
        (&b"g na\xefve\nf 1 2 3\n"[..], Difference::Encoding),
        (b"vt nonsense\n", Difference::BrokenAppearance),
        (b"usemtl\n", Difference::BrokenAppearance),
        (b"v 1.#QNAN 0 0\n", Difference::NumberFormat),
        (b"f 1 2 \\\n3\n", Difference::Continuation),
        (b"l 1 2 3\n", Difference::Polyline),
        (b"v 2 2 2 2\nf 1 2 4\n", Difference::Weight),
    ] {
        let file = [&triangle[..], rest].concat();
        assert!(ours(&file).is_ok(), "we read it: {difference:?}");
        assert!(compare(&file).is_err(), "it is read alike: {difference:?}");
    }
    let flat = b"v 0 0 0\nv 1 0 0\nf 1 2 2\n";
    assert!(
        compare(flat).is_err(),
        "it is read alike: {:?}",
        Difference::NoArea
    );
}

#[test]
fn broken_files_are_refused_by_both() {
    for rest in ["f 1 2 9\n", "f 1 2 0\n", "f 1 2 -9\n", "f 1 2 x\n", "v 1 2\n"] {
        let file = format!("v 0 0 0\nv 1 0 0\nv 0 1 0\nf 1 2 3\n{rest}");
        assert!(ours(file.as_bytes()).is_err(), "we read {rest:?}");
        assert!(theirs(file.as_bytes()).is_err(), "tobj reads {rest:?}");
    }
}

/// The OBJ files below a folder.
fn obj_files(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "obj") {
                files.push(path);
            }
        }
    }
    files.sort();
    files
}

#[test]
fn real_files_are_read_alike() {
    let Some(root) = real_data("") else { return };
    for path in obj_files(&root) {
        let name = path.file_name().unwrap().to_str().unwrap();
        let expected = DIFFERENT_FILES.iter().find(|(different, _)| *different == name);
        let outcome = compare(&fs::read(&path).unwrap());
        assert_eq!(
            outcome.is_err(),
            expected.is_some(),
            "{}: {outcome:?}, expected {expected:?}",
            path.display()
        );
    }
}
