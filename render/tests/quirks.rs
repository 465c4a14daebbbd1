//! Troublesome files from other programs, in the folder that `TAP_REAL_DATA` names, and the expected outcome of each.
//!
//! Each is read with and without its appearance. The index that comes with the files says what their makers expect;
//! where the outcome here differs, a comment says why.
#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a test fails by panicking and says what it skips"
)]

mod folder;

use std::{collections::BTreeMap, fs, path::Path};

use tap_render::{
    Mesh,
    import::{ImportError, ImportOptions, MeshFormat, import_object},
};

use folder::{Folder, real_data, rows};

/// The outcome of an import.
enum Outcome {
    /// A mesh with this many triangles with an area, without textures and warnings.
    Drawn(usize),
    /// As above, with this many textures.
    Textured(usize, usize),
    /// A mesh with this many triangles, without textures, and a warning that contains this text.
    Warns(usize, &'static str),
    /// An error with this code.
    Refused(&'static str),
}

use Outcome::{Drawn, Refused, Textured, Warns};

const OUTCOMES: [(&str, Outcome); 73] = [
    (
        "obj_missing_mtl_file",
        Warns(36, "no library defines the material \"white\""),
    ),
    ("obj_missing_texture_image", Refused("all_degenerate")),
    ("obj_missing_usemtl", Textured(5856, 1)),
    ("obj_cow_textured", Textured(5856, 1)),
    ("obj_negative_indices", Drawn(12)),
    ("obj_ngon_polygonfaces", Warns(3, "\"surface.mtl\" is left out")),
    ("obj_concave_ngon", Drawn(64)),
    ("obj_ngon_triangulation_failure", Drawn(28)),
    ("obj_ngon_hole", Warns(57, "\"00.mtl\" is left out")),
    ("obj_zero_face_index", Refused("malformed")),
    ("obj_bad_relative_index", Refused("malformed")),
    ("obj_nan_vertices", Refused("non_finite")),
    ("obj_two_objects", Drawn(16)),
    ("obj_many_groups", Drawn(2308)),
    ("obj_multi_material_cornell", Drawn(36)),
    ("obj_spider_multi_object", Textured(1312, 4)),
    ("obj_wuson_textured", Drawn(3732)),
    (
        "obj_utf16",
        Warns(12, "no library defines the material \"Default\""),
    ),
    (
        "obj_line_continuation",
        Warns(478, "no library defines the material \"Defauli\""),
    ),
    (
        "obj_no_final_newline",
        Warns(12, "no library defines the material \"Default\""),
    ),
    ("obj_points_only", Refused("no_faces")),
    ("obj_empty", Refused("no_faces")),
    ("obj_malformed", Refused("malformed")),
    ("obj_textured_fuze", Textured(1000, 1)),
    (
        "obj_texture_name_spaces",
        Warns(12, "the texture \"texture 01.png\" is left out"),
    ),
    ("obj_armchair_textured", Textured(18400, 2)),
    ("gltf_armchair", Textured(18400, 2)),
    ("obj_amsterdam_multi_material", Drawn(3864)),
    ("glb_nested_scaled_nodes", Drawn(36)),
    ("glb_no_indices", Drawn(72)),
    ("gltf_triangle_strip", Drawn(2786)),
    ("glb_vertex_colours", Drawn(48)),
    ("glb_infinite_values", Refused("non_finite")),
    ("gltf_index_out_of_range", Refused("index_out_of_range")),
    ("gltf_missing_bin", Refused("missing_file")),
    ("gltf_recursive_nodes", Refused("malformed")),
    ("gltf_draco", Refused("unsupported")),
    ("glb_external_texture_kenney", Textured(960, 1)),
    ("glb_skinned_character", Drawn(5240)),
    ("glb_textured_tank", Drawn(6064)),
    ("off_comments", Drawn(12)),
    ("off_whitespace", Drawn(12)),
    ("off_invalid", Refused("malformed")),
    ("off_out_of_memory", Refused("malformed")),
    ("stl_multibody", Drawn(32)),
    ("stl_busted_nonmanifold", Drawn(3878)),
    ("stl_ascii_spider", Drawn(1312)),
    ("stl_empty", Refused("no_faces")),
    ("ply_binary_crlf_header", Drawn(12)),
    ("ply_vertex_colour_uv_tex", Drawn(12)),
    ("obj_tiny_far_from_origin", Textured(608, 1)),
    ("obj_huge_regr01", Drawn(2694)),
    (
        "trimesh_notenoughindices_obj",
        Warns(1, "\"surface.mtl\" is left out"),
    ),
    ("tinyobj_cube-vertex-w-component", Drawn(12)),
    (
        "tinyobj_issue-161-inconsistent-f",
        Warns(12, "no library defines the material \"cube\""),
    ),
    ("tinyobj_line-prim", Refused("no_faces")),
    ("trimesh_face_in_group_name_obj", Refused("no_faces")),
    ("trimesh_BoxInterleaved_glb", Drawn(12)),
    ("tinyobj_issue-319-002", Drawn(13)),
    ("assimp_gltf_Cube_gltf", Drawn(46)),
    ("assimp_multiple_spaces", Drawn(1)),
    ("trimesh_cube_compressed_obj", Drawn(12)),
    (
        "assimp_gltf_AllIndicesOutOfRange_gltf",
        Refused("index_out_of_range"),
    ),
    ("assimp_ply_points", Drawn(16)),
    ("trimesh_multi_ply", Drawn(2)),
    ("tinyobj_map-bump", Drawn(400)),
    ("assimp_gltf_Cameras_gltf", Drawn(2)),
    (
        "tinyobj_mtllib-multiple-files-issue-112",
        Warns(1, "\"invalid-file-aaa.mtl\" is left out"),
    ),
    ("trimesh_jacked_obj", Warns(12, "\"nonexistent.mtl\" is left out")),
    ("trimesh_TestScene_gltf", Drawn(1096)),
    ("assimp_number_formats", Refused("malformed")),
    ("assimp_gltf_sceneWrongType_gltf", Refused("malformed")),
    ("assimp_gltf_2CylinderEngine_gltf", Refused("unsupported")),
];

fn import(path: &Path, appearance: bool) -> Result<Mesh, ImportError> {
    let format = MeshFormat::from_extension(path.extension().unwrap().to_str().unwrap()).unwrap();
    let options = ImportOptions {
        appearance,
        ..ImportOptions::default()
    };
    let folder = Folder(path.parent().unwrap().to_owned());
    import_object(format, &fs::read(path).unwrap(), &folder, &options)
}

fn matches(outcome: &Outcome, result: &Result<Mesh, ImportError>) -> bool {
    let mesh = match (outcome, result) {
        (Refused(code), Err(error)) => return error.code() == *code,
        (Drawn(_) | Textured(..) | Warns(..), Ok(mesh)) => mesh,
        _ => return false,
    };
    let num_triangles = mesh.triangles().len();
    let num_textures = mesh.appearance().map_or(0, |surface| surface.textures.len());
    match outcome {
        Drawn(expected) => (num_triangles, num_textures) == (*expected, 0) && mesh.warnings().is_empty(),
        Textured(expected, textures) => {
            (num_triangles, num_textures) == (*expected, *textures) && mesh.warnings().is_empty()
        }
        Warns(expected, says) => {
            num_triangles == *expected && mesh.warnings().iter().any(|warning| warning.contains(says))
        }
        Refused(_) => false,
    }
}

#[test]
fn every_file_ends_as_expected() {
    let Some(folder) = real_data("quirks") else { return };
    let outcomes: BTreeMap<&str, &Outcome> = OUTCOMES.iter().map(|(tag, outcome)| (*tag, outcome)).collect();
    let mut problems = Vec::new();
    let mut num_checked = 0;
    for row in rows(&folder.join("index.csv")) {
        let (tag, path) = (row[0].as_str(), folder.join(&row[1]));
        let result = import(&path, true);
        num_checked += 1;
        let said = match &result {
            Ok(mesh) => format!("{} triangles, {:?}", mesh.triangles().len(), mesh.warnings()),
            Err(error) => format!("{}: {error}", error.code()),
        };
        if !outcomes.get(tag).is_some_and(|outcome| matches(outcome, &result)) {
            problems.push(format!("{tag}: {said}"));
        }
        // The index expects an image of this one, but all its corners lie on one line: there is nothing to draw.
        let may_pass = ["ok", "decode", "render"]
            .iter()
            .any(|word| row[3].contains(word));
        let is_line = tag == "obj_missing_texture_image";
        let is_as_indexed = if result.is_ok() {
            may_pass
        } else {
            row[3].contains("error") || is_line
        };
        if !is_as_indexed {
            problems.push(format!("{tag}: {said}, but the index expects {}", row[3]));
        }
        let same = match (&result, import(&path, false)) {
            (Ok(painted), Ok(white)) => {
                painted.triangles() == white.triangles()
                    && painted.positions() == white.positions()
                    && white.appearance().is_none()
            }
            (Err(painted), Err(white)) => painted.to_string() == white.to_string(),
            _ => false,
        };
        if !same {
            problems.push(format!("{tag}: its appearance changes its shape"));
        }
    }
    assert!(
        num_checked == OUTCOMES.len() && problems.is_empty(),
        "of {num_checked}:\n{}",
        problems.join("\n")
    );
}

#[test]
fn details_of_some_files() {
    let Some(folder) = real_data("quirks") else { return };
    let mesh = |file: &str| import(&folder.join(file), true).unwrap();
    let size = |mesh: &Mesh| {
        let (low, high) = mesh.bounds();
        high - low
    };

    let concave = mesh("obj_concave_ngon/concave_polygon.obj");
    let (of_triangles, of_box) = (
        concave.surface_area(),
        f64::from(size(&concave).y * size(&concave).z),
    );
    assert!(
        of_triangles < of_box,
        "a fan covers more than the polygon: {of_triangles}"
    );

    let tiny = mesh("obj_tiny_far_from_origin/part142.obj");
    assert!(tiny.origin().length() > 100.0 && size(&tiny).max_element() < 0.03);
    assert!(
        tiny.num_degenerate() == 0,
        "no triangle collapses where it lies far away"
    );

    let character = mesh("glb_skinned_character/Worker.glb");
    assert!((1.5..2.5).contains(&size(&character).y), "{}", size(&character));

    let (obj, gltf) = (
        mesh("obj_armchair_textured/armchair.obj"),
        mesh("gltf_armchair/armchair.gltf"),
    );
    assert!((size(&obj) - size(&gltf)).abs().max_element() < 1e-3);
    assert!((obj.surface_area() / gltf.surface_area() - 1.0).abs() < 1e-4);
    let (obj, gltf) = (obj.appearance().unwrap(), gltf.appearance().unwrap());
    assert_eq!(
        obj.textures.len(),
        gltf.textures.len(),
        "one chair in two formats"
    );

    let kenney = mesh("glb_external_texture_kenney/vehicle-motorcycle.glb");
    assert_eq!(
        kenney.appearance().unwrap().textures[0].name,
        "Textures/colormap.png"
    );

    let groups = mesh("obj_many_groups/groups.obj");
    assert!(groups.part_names().len() > 10, "{:?}", groups.part_names());
    let bodies = mesh("stl_multibody/multibody.stl");
    assert!(!bodies.part_names().is_empty() && bodies.positions().len() < 3 * bodies.triangles().len());
}
