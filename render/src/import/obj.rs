//! Wavefront OBJ: `v`, `vt`, `vn`, `f`, `g`, `o`, `usemtl` and `mtllib`; other statements (lines, points, curves) are
//! ignored.
//!
//! This is not the `tobj` crate, which reads `l` elements as faces, triangulates concave faces as fans, overflows on
//! out-of-range texture indices, rejects text that is not UTF-8, and takes several times as long.
//! `tests/obj_differential.rs` compares the two.

use std::{cell::RefCell, collections::HashMap};

use glam::{DVec3, Vec2, Vec3};

use super::{
    AssetResolver, ImportError, ImportOptions, MeshFormat, color, mtl, number, polygon, text,
    texture::{self, Decoder},
    triangle_soup::{TriangleAttributes, TriangleSoup},
};
use crate::mesh::{Material, WarningKind};

/// Index of a corner without texture coordinates, and of a face without a material.
const NONE: u32 = u32::MAX;
/// Most libraries of a file.
const MAX_LIBRARIES: usize = 64;

/// A face statement; `end` is the end of its range in `corners`.
#[derive(Debug, PartialEq)]
struct Face {
    end: usize,
    part: u16,
    material: u32,
    line: usize,
}

/// Appearance statements of the file; empty if they are not read.
#[derive(Default)]
struct ObjAppearance {
    uvs: Vec<Vec2>,
    /// Per corner, an index into `uvs`.
    uv_of_corner: Vec<u32>,
    /// Per vertex; may be shorter than the vertices.
    colors: Vec<[f32; 3]>,
    /// The materials that `usemtl` names, in order.
    materials: Vec<String>,
    material_by_name: HashMap<String, u32>,
    libraries: Vec<String>,
}

impl ObjAppearance {
    fn material(&mut self, name: &[u8]) -> u32 {
        let name = text::name(name);
        if let Some(&material) = self.material_by_name.get(&name) {
            return material;
        }
        let material = self.materials.len() as u32;
        self.materials.push(name.clone());
        self.material_by_name.insert(name, material);
        material
    }

    /// A texture coordinate has one to three numbers; a malformed one still takes an index.
    fn push_uv<'a>(&mut self, mut words: impl Iterator<Item = &'a [u8]>) {
        let mut number = || number::parse_f64(words.next()?);
        let uv = number().map(|u| Vec2::new(u as f32, number().unwrap_or(0.0) as f32));
        self.uvs.push(uv.unwrap_or(Vec2::NAN));
    }

    /// Three numbers after a vertex's coordinates are its color; one is the weight of a rational curve.
    fn push_color<'a>(&mut self, vertex: usize, mut words: impl Iterator<Item = &'a [u8]>) {
        let mut channel = || {
            let number = number::parse_f64(words.next()?)? as f32;
            number.is_finite().then_some(number.max(0.0))
        };
        if let (Some(r), Some(g), Some(b)) = (channel(), channel(), channel()) {
            self.colors.resize(vertex, color::NO_COLOR);
            self.colors.push([r, g, b]);
        }
    }
}

/// Normals of the file; empty if they are not read.
#[derive(Default)]
struct ObjNormals {
    normals: Vec<Vec3>,
    /// Per corner, an index into `normals`.
    of_corner: Vec<u32>,
}

impl ObjNormals {
    /// A malformed normal still takes an index.
    fn push<'a>(&mut self, mut words: impl Iterator<Item = &'a [u8]>) {
        let mut number = || Some(number::parse_f64(words.next()?)? as f32);
        let normal = number().zip(number()).zip(number());
        self.normals
            .push(normal.map_or(Vec3::ZERO, |((x, y), z)| Vec3::new(x, y, z)));
    }

    /// `None` if no corner has one.
    fn of_corners(&self, corners: [usize; 3]) -> Option<[Vec3; 3]> {
        let normal = |corner: usize| self.normals.get(*self.of_corner.get(corner)? as usize);
        let normals = corners.map(normal);
        normals
            .iter()
            .any(Option::is_some)
            .then(|| normals.map(|normal| normal.copied().unwrap_or_default()))
    }
}

/// The index that a corner states into a list of `len` elements; [`NONE`] if it states none that may be in a list.
fn attribute_index(index: Option<&[u8]>, len: usize) -> u32 {
    let index = match index.and_then(number::parse_i64) {
        Some(index @ 1..) => index - 1,
        Some(back @ ..=-1) => len as i64 + back,
        _ => return NONE,
    };
    u32::try_from(index).unwrap_or(NONE)
}

/// What is read besides shapes.
#[derive(Debug, Clone, Copy, Default)]
struct Reads {
    appearance: bool,
    normals: bool,
}

/// Reads an OBJ. A group is a part; faces outside of any group belong to a part named after their object.
pub(super) fn read(
    bytes: &[u8],
    assets: &dyn AssetResolver,
    options: &ImportOptions,
) -> Result<TriangleSoup, ImportError> {
    let reads = Reads {
        appearance: options.appearance,
        normals: options.normals,
    };
    let File {
        mut soup,
        corners,
        faces,
        appearance,
        normals,
        ..
    } = File::read(&text::decode(bytes), reads, true)?;
    let resolver = options
        .appearance
        .then(|| MaterialResolver::new(&mut soup, appearance, &faces, assets, options));
    let mut polygon = Vec::new();
    let mut start = 0;
    for face in faces {
        let of_face = start..face.end;
        start = face.end;
        let corners = &corners[of_face.clone()];
        let push = |triangle: [usize; 3], soup: &mut TriangleSoup| {
            let vertices = triangle.map(|corner| corners[corner]);
            match &resolver {
                Some(resolver) => {
                    let corners = triangle.map(|corner| of_face.start + corner);
                    soup.push_with_attributes(
                        vertices,
                        face.part,
                        resolver.attributes(face.material, corners, vertices),
                    );
                }
                None => soup.push(vertices, face.part),
            }
            if let Some(normals) = normals.of_corners(triangle.map(|corner| of_face.start + corner)) {
                soup.set_normals(normals);
            }
        };
        if corners
            .iter()
            .any(|&corner| corner as usize >= soup.positions.len())
        {
            return Err(ImportError::Line {
                format: MeshFormat::Obj,
                line: face.line,
                problem: "a face refers to a vertex that does not exist",
            });
        }
        if corners.len() == 3 {
            push([0, 1, 2], &mut soup);
            continue;
        }
        polygon.clear();
        polygon.extend(corners.iter().map(|&corner| soup.positions[corner as usize]));
        polygon::triangulate(&polygon, |triangle| push(triangle, &mut soup));
    }
    Ok(soup)
}

/// Parser state.
#[derive(Default)]
struct File {
    soup: TriangleSoup,
    corners: Vec<u32>,
    faces: Vec<Face>,
    appearance: ObjAppearance,
    normals: ObjNormals,
    reads: Reads,
    object: String,
    part: Option<u16>,
    material: u32,
}

impl File {
    /// `use_fast_path` does not change the result.
    fn read(text: &[u8], reads: Reads, use_fast_path: bool) -> Result<Self, ImportError> {
        let file = RefCell::new(Self {
            material: NONE,
            reads,
            ..Self::default()
        });
        let fast_path = |line, text: &[u8]| {
            if use_fast_path {
                file.borrow_mut().push_fast_line(line, text)
            } else {
                0
            }
        };
        text::for_each_line(text, fast_path, |line, text| {
            let pushed = file.borrow_mut().push_line(line, text);
            pushed.map_err(|problem| ImportError::Line {
                format: MeshFormat::Obj,
                line,
                problem,
            })
        })?;
        Ok(file.into_inner())
    }

    /// Fast path for the most common lines, `v` with three decimals and `f` with positive indices, in one pass over the
    /// bytes. Returns the number of bytes consumed; for any other line 0, without a change.
    fn push_fast_line(&mut self, line: usize, text: &[u8]) -> usize {
        match text {
            [b'v', b' ', ..] => self.push_fast_vertex(text).unwrap_or(0),
            [b'f', b' ', ..] => {
                let start = self.corners.len();
                let taken = self.push_fast_corners(text);
                if let Some(taken) = taken.filter(|_| self.corners.len() - start >= 3) {
                    self.end_face(line);
                    return taken;
                }
                self.corners.truncate(start);
                self.appearance.uv_of_corner.truncate(start);
                self.normals.of_corner.truncate(start);
                0
            }
            _ => 0,
        }
    }

    fn push_fast_vertex(&mut self, text: &[u8]) -> Option<usize> {
        let mut at = 2;
        let mut position = [0.0; 3];
        for coordinate in &mut position {
            at += num_spaces(&text[at..]);
            let (number, len) = number::scan_f64(&text[at..])?;
            *coordinate = number;
            at += len;
            text.get(at).filter(|byte| byte.is_ascii_whitespace())?;
        }
        at += num_spaces(&text[at..]);
        text.get(at).filter(|&&byte| byte == b'\n')?;
        self.soup.positions.push(DVec3::from(position));
        Some(at + 1)
    }

    fn push_fast_corners(&mut self, text: &[u8]) -> Option<usize> {
        let mut at = 2;
        loop {
            at += num_spaces(&text[at..]);
            if text.get(at)? == &b'\n' {
                return Some(at + 1);
            }
            let (index, len) = number::scan_u32(&text[at..])?;
            at += len;
            self.corners.push(index.checked_sub(1)?);
            let (mut uv, mut normal) = (NONE, NONE);
            if text.get(at) == Some(&b'/') {
                at += 1;
                if let Some((index, len)) = number::scan_u32(&text[at..]) {
                    uv = index.wrapping_sub(1);
                    at += len;
                }
                if text.get(at) == Some(&b'/') {
                    at += 1;
                    if let Some((index, len)) = number::scan_u32(&text[at..]) {
                        normal = index.wrapping_sub(1);
                        at += len;
                    }
                }
            }
            if self.reads.appearance {
                self.appearance.uv_of_corner.push(uv);
            }
            if self.reads.normals {
                self.normals.of_corner.push(normal);
            }
            text.get(at).filter(|byte| byte.is_ascii_whitespace())?;
        }
    }

    fn push_line(&mut self, line: usize, text: &[u8]) -> Result<(), &'static str> {
        let mut words = text::words(text);
        match words.next() {
            Some(b"v") => {
                let mut coordinate = || number::parse_f64(words.next()?);
                let position = coordinate().zip(coordinate()).zip(coordinate());
                let ((x, y), z) = position.ok_or("a vertex needs three numbers")?;
                if self.reads.appearance {
                    self.appearance.push_color(self.soup.positions.len(), words);
                }
                self.soup.positions.push(DVec3::new(x, y, z));
            }
            // `fo` is an obsolete form of `f`.
            Some(b"f" | b"fo") => self.push_face(line, words)?,
            Some(b"g") => {
                let name = name_after(text, 1);
                self.part = (!name.is_empty()).then(|| self.soup.part(&name));
            }
            Some(b"o") => {
                self.object = name_after(text, 1);
                self.part = None;
            }
            Some(b"vt") if self.reads.appearance => self.appearance.push_uv(words),
            Some(b"vn") if self.reads.normals => self.normals.push(words),
            Some(b"usemtl") if self.reads.appearance => self.material = self.appearance.material(&text[6..]),
            Some(b"mtllib") if self.reads.appearance && self.appearance.libraries.len() < MAX_LIBRARIES => {
                self.appearance.libraries.push(text::name(&text[6..]));
            }
            Some(b"p") => self.soup.count_undrawn("points"),
            Some(b"l") => self.soup.count_undrawn("lines"),
            Some(b"curv" | b"curv2") => self.soup.count_undrawn("curves"),
            Some(b"surf") => self.soup.count_undrawn("free-form surfaces"),
            _ => {}
        }
        Ok(())
    }

    fn push_face<'a>(
        &mut self,
        line: usize,
        words: impl Iterator<Item = &'a [u8]>,
    ) -> Result<(), &'static str> {
        let start = self.corners.len();
        for word in words.take_while(|word| !word.starts_with(b"#")) {
            let mut indices = word.split(|&byte| byte == b'/');
            let index = match indices.next().and_then(number::parse_i64) {
                Some(index @ 1..) => index - 1,
                Some(back @ ..=-1) => self.soup.positions.len() as i64 + back,
                Some(0) => return Err("face indices count from 1, this one is 0"),
                None => return Err("a corner of a face is not a number"),
            };
            let index = u32::try_from(index).map_err(|_| "a face refers to a vertex that does not exist")?;
            self.corners.push(index);
            let (uv, normal) = (indices.next(), indices.next());
            if self.reads.appearance {
                let uv = attribute_index(uv, self.appearance.uvs.len());
                self.appearance.uv_of_corner.push(uv);
            }
            if self.reads.normals {
                let normal = attribute_index(normal, self.normals.normals.len());
                self.normals.of_corner.push(normal);
            }
        }
        if self.corners.len() - start < 3 {
            self.soup.count_undrawn("faces of fewer than three corners");
            self.corners.truncate(start);
            self.appearance.uv_of_corner.truncate(start);
            self.normals.of_corner.truncate(start);
        } else {
            self.end_face(line);
        }
        Ok(())
    }

    /// Ends a face of all corners that belong to no face yet.
    fn end_face(&mut self, line: usize) {
        let part = *self.part.get_or_insert_with(|| self.soup.part(&self.object));
        self.faces.push(Face {
            end: self.corners.len(),
            part,
            material: self.material,
            line,
        });
    }
}

/// Number of leading spaces, not counting line ends.
fn num_spaces(text: &[u8]) -> usize {
    text.iter()
        .take_while(|byte| byte.is_ascii_whitespace() && **byte != b'\n')
        .count()
}

fn name_after(line: &[u8], keyword_len: usize) -> String {
    text::string(line[keyword_len..].trim_ascii())
}

/// Materials of the file, resolved against its libraries.
struct MaterialResolver {
    uvs: Vec<Vec2>,
    uv_of_corner: Vec<u32>,
    colors: Vec<[u8; 4]>,
    /// In the order of `usemtl`.
    materials: Vec<(u16, mtl::UvTransform)>,
    /// For faces before the first `usemtl`.
    default_material: (u16, mtl::UvTransform),
}

impl MaterialResolver {
    fn new(
        soup: &mut TriangleSoup,
        appearance: ObjAppearance,
        faces: &[Face],
        assets: &dyn AssetResolver,
        options: &ImportOptions,
    ) -> Self {
        let definitions = read_libraries(soup, &appearance.libraries, assets);
        let mut decoder = Decoder::new(assets, options.max_texture_side_px);
        let mut default_material = (0, mtl::UvTransform::IDENTITY);
        if faces.iter().any(|face| face.material == NONE)
            && !(definitions.is_empty() && appearance.materials.is_empty())
        {
            // A single material that is never used is meant for all faces.
            default_material = match definitions.as_slice() {
                [only] if appearance.materials.is_empty() => {
                    let (material, transform) = only.load(soup, &mut decoder);
                    (soup.material(material), transform)
                }
                _ => (soup.material(Material::white()), mtl::UvTransform::IDENTITY),
            };
        }
        let mut definition_by_name: HashMap<&str, &mtl::MtlMaterial> = HashMap::new();
        for definition in &definitions {
            definition_by_name.entry(&definition.name).or_insert(definition);
        }
        let mut materials = Vec::with_capacity(appearance.materials.len());
        for name in appearance.materials {
            let (material, transform) = if let Some(definition) = definition_by_name.get(name.as_str()) {
                definition.load(soup, &mut decoder)
            } else {
                if !name.is_empty() {
                    soup.warnings.push(
                        WarningKind::Material,
                        format!("no library defines the material \"{name}\": it is white"),
                    );
                }
                let material = Material {
                    name,
                    ..Material::white()
                };
                (material, mtl::UvTransform::IDENTITY)
            };
            materials.push((soup.material(material), transform));
        }
        Self {
            uvs: appearance.uvs,
            uv_of_corner: appearance.uv_of_corner,
            colors: color::bytes_of_colors(&appearance.colors),
            materials,
            default_material,
        }
    }

    fn attributes(&self, material: u32, corners: [usize; 3], vertices: [u32; 3]) -> TriangleAttributes {
        let (material, transform) = match self.materials.get(material as usize) {
            Some(&material) => material,
            None => self.default_material,
        };
        let uv = |corner: usize| self.uvs.get(self.uv_of_corner[corner] as usize);
        let uvs = corners.map(uv);
        let color = |vertex: u32| self.colors.get(vertex as usize).copied().unwrap_or(color::WHITE);
        TriangleAttributes {
            material,
            uvs: uvs
                .iter()
                .any(Option::is_some)
                .then(|| uvs.map(|uv| transform.apply(uv.copied().unwrap_or_default()))),
            colors: (!self.colors.is_empty()).then(|| vertices.map(color)),
        }
    }
}

/// All materials of all libraries; a library that cannot be read is skipped.
fn read_libraries(
    soup: &mut TriangleSoup,
    libraries: &[String],
    assets: &dyn AssetResolver,
) -> Vec<mtl::MtlMaterial> {
    let mut definitions = Vec::new();
    for (index, line) in libraries.iter().enumerate() {
        if line.is_empty() || libraries[..index].contains(line) {
            continue;
        }
        let error = match texture::read_beside(assets, line) {
            Ok(bytes) => {
                definitions.extend(mtl::parse(line, &bytes));
                continue;
            }
            Err(error) => error,
        };
        // A line may name several libraries, or one whose name contains spaces.
        let mut num_read = 0;
        let names: Vec<&str> = line.split_ascii_whitespace().take(MAX_LIBRARIES).collect();
        for name in names.iter().filter(|_| names.len() > 1) {
            match texture::read_beside(assets, name) {
                Ok(bytes) => {
                    definitions.extend(mtl::parse(name, &bytes));
                    num_read += 1;
                }
                Err(error) => soup.warnings.push(
                    WarningKind::Material,
                    format!("the material library \"{name}\" is left out: {error}"),
                ),
            }
        }
        if num_read == 0 {
            soup.warnings.push(
                WarningKind::Material,
                format!("the material library \"{line}\" is left out: {error}"),
            );
        }
    }
    definitions
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use proptest::prelude::*;

    use super::super::{AssetError, MeshFormat, NoAssets, import_mesh, import_object};
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
    fn texture_is_the_right_way_up() {
        struct Assets;
        impl AssetResolver for Assets {
            fn read(&self, relative: &str) -> Result<Vec<u8>, AssetError> {
                Ok(match relative {
                    "sign.mtl" => include_bytes!("../../../assets/sign.mtl").to_vec(),
                    _ => include_bytes!("../../../assets/sign.png").to_vec(),
                })
            }
        }
        let options = ImportOptions {
            appearance: true,
            ..ImportOptions::default()
        };
        let bytes = include_bytes!("../../../assets/sign.obj");
        let mesh = import_object(MeshFormat::Obj, bytes, &Assets, &options).unwrap();
        let appearance = mesh.appearance().unwrap();
        assert_eq!(
            (
                appearance.materials[0].alpha_cutoff,
                appearance.materials[1].alpha_cutoff
            ),
            (Some(0.5), None)
        );
        let texture = &appearance.textures[0];
        let mut found = Vec::new();
        for ((corners, uvs), material) in mesh
            .corners()
            .zip(&appearance.uvs)
            .zip(&appearance.material_of_triangle)
        {
            for (corner, uv) in corners.iter().zip(uvs).filter(|_| *material == 0) {
                let texel = uv.clamp(Vec2::ZERO, Vec2::splat(0.99)) * 8.0;
                let texel = texture.texels[8 * texel.y as usize + texel.x as usize];
                let place = corner.as_dvec3() + mesh.origin();
                found.push(((place.x > 0.0, place.y > 0.5), texel));
            }
        }
        found.sort_unstable();
        found.dedup();
        let (left_bottom, right_bottom) = ((false, false), (true, false));
        let (left_top, right_top) = ((false, true), (true, true));
        assert_eq!(
            found,
            [
                (left_bottom, [0, 0, 255, 255]),
                (left_top, [255, 0, 0, 255]),
                (right_bottom, [255, 255, 0, 0]),
                (right_top, [0, 255, 0, 255]),
            ]
        );
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
    fn other_elements_are_ignored() {
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
    fn what_there_is_instead_of_faces_is_said() {
        for (text, says) in [
            (
                "v 0 0 0\nv 1 0 0\nl 1 2\nl 2 1\np 1",
                "the mesh has no faces, only 2 lines, 1 points, 2 vertices",
            ),
            (
                "v 0 0 0\ncurv 0 1 1 1\nsurf 0 1 0 1 1",
                "only 1 curves, 1 free-form surfaces, 1 vertices",
            ),
            (
                "v 0 0 0\nf 1 1",
                "only 1 faces of fewer than three corners, 1 vertices",
            ),
        ] {
            let error = import(text).unwrap_err();
            assert!(
                error.to_string().contains(says) && error.code() == "no_faces",
                "{error}"
            );
        }
    }

    #[test]
    fn maps_that_cannot_be_drawn_are_warnings() {
        let text = format!("mtllib a b.mtl\n{SQUARE}usemtl a\nf 1 2 3\nf 1 3 4\nusemtl b\nf 1 2 4");
        let mesh = import_painted(&text, "newmtl a\nmap_Kd my map.png\nnewmtl b\nmap_Ka my map.png");
        assert_eq!(
            mesh.warning_kinds(),
            [WarningKind::Material, WarningKind::Texture]
        );
        assert!(
            mesh.warnings()[1].contains("2 triangles of the material \"a\" have no coordinates"),
            "{:?}",
            mesh.warnings()
        );
    }

    #[test]
    fn normals_are_read_if_asked_for() {
        let text =
            format!("vn 0 0 1\nvn 0 1 x\nvn 1 0 0\n{SQUARE}f 1//1 2//2 3//-1\nf 1 3 4\nf 1//9 2//3 4//1");
        let options = ImportOptions {
            normals: true,
            ..ImportOptions::default()
        };
        let mesh = import_object(MeshFormat::Obj, text.as_bytes(), &NoAssets, &options).unwrap();
        let expected = [
            [Vec3::Z, Vec3::ZERO, Vec3::X],
            [Vec3::ZERO; 3],
            [Vec3::ZERO, Vec3::X, Vec3::Z],
        ];
        assert_eq!(mesh.file_normals(), expected);
        assert!(import(&text).unwrap().file_normals().is_empty());
    }

    #[test]
    fn lines_end_in_any_way() {
        let text = format!("# old\n{SQUARE}g a\nf 1 2 3\nf 1 3 4\n");
        for text in [text.replace('\n', "\r"), text.replace('\n', "\r\n"), text] {
            let mesh = import(&text).unwrap();
            assert_eq!(mesh.triangles(), [[0, 1, 2], [0, 2, 3]], "{text:?}");
        }
        let mesh = import_painted(
            &format!("mtllib a b.mtl\n{SQUARE}usemtl b\nf 1 2 3").replace('\n', "\r"),
            "newmtl a\rKd 1 0 0\rnewmtl b\rKd 0 1 0\r",
        );
        assert_eq!(
            mesh.appearance().unwrap().materials[0].base_color,
            [0, 255, 0, 255]
        );
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

    /// A red and a green texel side by side, and materials beside them.
    struct Folder {
        materials: &'static str,
    }

    impl AssetResolver for Folder {
        fn read(&self, relative: &str) -> Result<Vec<u8>, AssetError> {
            match relative {
                "a b.mtl" | "c.mtl" => Ok(self.materials.as_bytes().to_vec()),
                "my map.png" => {
                    let mut bytes = Vec::new();
                    let mut encoder = png::Encoder::new(&mut bytes, 2, 1);
                    encoder.set_color(png::ColorType::Rgba);
                    let mut writer = encoder.write_header().unwrap();
                    writer.write_image_data(&[255, 0, 0, 255, 0, 255, 0, 0]).unwrap();
                    drop(writer);
                    Ok(bytes)
                }
                _ => Err(AssetError::NotFound {
                    name: relative.to_owned(),
                }),
            }
        }
    }

    fn import_painted(text: &str, materials: &'static str) -> Mesh {
        let options = ImportOptions {
            appearance: true,
            ..ImportOptions::default()
        };
        import_object(MeshFormat::Obj, text.as_bytes(), &Folder { materials }, &options).unwrap()
    }

    #[test]
    fn materials_and_their_maps() {
        let materials =
            "newmtl plain\nKd 0.2 0.4 0.6\nnewmtl mapped\nKd 0 0 0\nmap_Kd -s 2 1 C:\\maps\\my map.png\n";
        let text = format!(
            "mtllib a b.mtl\n{SQUARE}vt 0.25 0.5\nvt 1 0\nvt 1 1\nf 1 2 3\nusemtl mapped\nf 1/1 2/2 3/-1\nusemtl plain\nf 1 3 4\nusemtl lost\nf 2 3 4\nusemtl plain\nf 1 2 4"
        );
        let mesh = import_painted(&text, materials);
        let appearance = mesh.appearance().unwrap();
        let names: Vec<&str> = appearance
            .materials
            .iter()
            .map(|material| material.name.as_str())
            .collect();
        assert_eq!(names, ["", "mapped", "plain", "lost"]);
        assert_eq!(appearance.material_of_triangle, [0, 1, 2, 3, 2]);
        let mapped = &appearance.materials[1];
        assert_eq!(
            (mapped.base_color, mapped.texture, mapped.alpha_cutoff),
            ([255; 4], Some(0), Some(0.5)),
            "black beside a map is unset, and the map has transparency"
        );
        assert_eq!(appearance.materials[2].base_color, [51, 102, 153, 255]);
        assert_eq!(appearance.materials[3].base_color, [255; 4]);
        assert_eq!(
            appearance.uvs[1],
            [Vec2::new(0.5, 0.5), Vec2::new(2.0, 1.0), Vec2::new(2.0, 0.0)]
        );
        assert_eq!(appearance.textures[0].texels, [[255, 0, 0, 255], [0, 255, 0, 0]]);
        assert_eq!(
            mesh.warnings(),
            ["no library defines the material \"lost\": it is white"]
        );
    }

    #[test]
    fn comments_and_obsolete_faces() {
        let commented = SQUARE.replace('\n', " # 1 2 3\n");
        let mesh = import(&format!("{commented}f 1 2 3 # 4\nfo 1 3 4 #4 x\n# f 1 2 4\n")).unwrap();
        assert_eq!(mesh.triangles(), [[0, 1, 2], [0, 2, 3]]);
        assert!(
            import("v 0 0 0\nv 1 0 0\nv 0 1 0\nf 1 2 x3").is_err(),
            "no comment"
        );
    }

    #[test]
    fn textures_are_relative_to_their_library() {
        struct Tree;
        impl AssetResolver for Tree {
            fn read(&self, relative: &str) -> Result<Vec<u8>, AssetError> {
                let color = match relative {
                    "../looks/chair.mtl" => {
                        return Ok(b"newmtl a\nmap_Kd wood.png\nnewmtl b\nmap_Kd maps/b.png".to_vec());
                    }
                    "../looks/wood.png" => [1, 2, 3],
                    "maps/b.png" => [4, 5, 6],
                    _ => {
                        return Err(AssetError::NotFound {
                            name: relative.to_owned(),
                        });
                    }
                };
                let mut bytes = Vec::new();
                let mut encoder = png::Encoder::new(&mut bytes, 1, 1);
                encoder.set_color(png::ColorType::Rgb);
                encoder.write_header().unwrap().write_image_data(&color).unwrap();
                Ok(bytes)
            }
        }
        let options = ImportOptions {
            appearance: true,
            ..ImportOptions::default()
        };
        let faces = "vt 0 0\nusemtl a\nf 1/1 2/1 3/1\nusemtl b\nf 1/1 3/1 4/1";
        let text = format!("mtllib ../looks/chair.mtl\n{SQUARE}{faces}");
        let mesh = import_object(MeshFormat::Obj, text.as_bytes(), &Tree, &options).unwrap();
        assert_eq!(mesh.warnings(), [""; 0]);
        let textures = mesh.appearance().unwrap().textures.iter();
        let texels: Vec<[u8; 4]> = textures.map(|texture| texture.texels[0]).collect();
        assert_eq!(
            texels,
            [[1, 2, 3, 255], [4, 5, 6, 255]],
            "or else beside the mesh"
        );
    }

    #[test]
    fn missing_files_are_warnings() {
        let text = format!("mtllib no.mtl\nmtllib none.mtl c.mtl\n{SQUARE}usemtl a\nf 1 2 3");
        let mesh = import_painted(&text, "newmtl a\nKd 1 0 0\nmap_Kd ../../etc/no.png");
        assert_eq!(
            mesh.appearance().unwrap().materials[0].base_color,
            [255, 0, 0, 255]
        );
        assert!(
            mesh.warnings()
                .iter()
                .any(|warning| warning.contains("\"no.mtl\""))
                && mesh.warnings().iter().any(|warning| warning.contains("no.png")),
            "{:?}",
            mesh.warnings()
        );
        let white = import_mesh(MeshFormat::Obj, text.as_bytes(), &Folder { materials: "" }).unwrap();
        assert!(
            white.appearance().is_none() && white.warnings().is_empty(),
            "its appearance is not read"
        );
    }

    #[test]
    fn a_single_unused_material_applies_to_all_faces() {
        let mesh = import_painted(&format!("mtllib a b.mtl\n{SQUARE}f 1 2 3"), "newmtl a\nKd 0 1 0");
        assert_eq!(
            mesh.appearance().unwrap().materials[0].base_color,
            [0, 255, 0, 255]
        );
    }

    #[test]
    fn vertex_colors_of_both_ranges() {
        for (text, expected) in [
            (
                "v 0 0 0 1 0 0\nv 1 0 0 0 1 0\nv 0 1 0\nf 1 2 3",
                [[255, 0, 0, 255], [0, 255, 0, 255], [255; 4]],
            ),
            (
                "v 0 0 0 255 0 0\nv 1 0 0 0 51 0\nv 0 1 0 1 1 1\nf 1 2 3",
                [[255, 0, 0, 255], [0, 51, 0, 255], [1, 1, 1, 255]],
            ),
        ] {
            let mesh = import_painted(text, "");
            assert_eq!(mesh.appearance().unwrap().colors, [expected], "{text}");
        }
        assert!(
            import_painted("v 0 0 0 1\nv 1 0 0 1\nv 0 1 0 1\nf 1 2 3", "")
                .appearance()
                .is_none()
        );
    }

    proptest! {
        #[test]
        fn fast_path_changes_nothing(
            words in prop::collection::vec(
                prop_oneof![
                    8 => "v -?[0-9]{1,4}\\.[0-9]{1,17} [0-9]{1,3}  -?[0-9]{1,2}\\.?( [0-9.]{1,3}){0,3}",
                    8 => "f( [0-9]{1,2}(/[0-9]{0,11}){0,3}){0,5}",
                    1 => "[vf] ", 1 => "[ \t\r]", 1 => "-[0-9]", 1 => "\\\\", 1 => "#", 1 => "vt 1 2", 1 => "usemtl a", 1 => "g b",
                    16 => "\n",
                ],
                0..60,
            ),
            reads_appearance: bool,
        ) {
            let text = words.concat();
            let told = |use_fast_path: bool| {
                let reads = Reads { appearance: reads_appearance, normals: reads_appearance };
                File::read(text.as_bytes(), reads, use_fast_path)
                    .map(|file| (
                        file.soup.positions, file.corners, file.faces, file.appearance.uv_of_corner, file.appearance.uvs,
                        file.normals.of_corner,
                    ))
                    .map_err(|error| error.to_string())
            };
            // As text, in which NaN equals NaN.
            prop_assert_eq!(format!("{:?}", told(true)), format!("{:?}", told(false)));
        }

        #[test]
        fn never_panics(
            words in prop::collection::vec(
                prop_oneof!["[vfgol#]|vt|usemtl|mtllib a b.mtl", "-?[0-9]{1,3}(/-?[0-9]{0,2}){0,2}", "-?[0-9]\\.[0-9]", "\n", "\\\\\n", ".{0,4}"],
                0..200,
            ),
            bytes in prop::collection::vec(any::<u8>(), 0..50),
        ) {
            let text = [words.join(" ").as_bytes(), &bytes].concat();
            let options = ImportOptions { appearance: true, ..ImportOptions::default() };
            let materials = "newmtl 1\nmap_Kd my map.png";
            let imported = import_object(MeshFormat::Obj, &text, &Folder { materials }, &options);
            let white = import_mesh(MeshFormat::Obj, &text, &NoAssets);
            prop_assert_eq!(white.map_err(|e| e.to_string()).map(|mesh| mesh.triangles().to_vec()),
                imported.map_err(|e| e.to_string()).map(|mesh| mesh.triangles().to_vec()));
        }
    }
}
