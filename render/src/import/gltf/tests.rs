//! Small documents, one for each way to define a surface.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use base64::prelude::{BASE64_STANDARD, Engine};
use glam::{DVec3, Vec2, Vec3};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::super::{
    AssetError, AssetResolver, ImportError, ImportOptions, MeshFormat, NoAssets, import_mesh, import_object,
};
use crate::mesh::{Appearance, Mesh, Wrap};

const TRIANGLE: &[u8] = include_bytes!("../../../../assets/triangle.gltf");
const F32: u32 = 5126;
const U16: u32 = 5123;
const U8: u32 = 5121;
const I16: u32 = 5122;

/// A document under construction: accessors are added, everything else is plain JSON.
#[derive(Default)]
struct Builder {
    blob: Vec<u8>,
    views: Vec<Value>,
    accessors: Vec<Value>,
}

impl Builder {
    fn view(&mut self, bytes: &[u8]) -> usize {
        self.blob.resize(self.blob.len().next_multiple_of(4), 0);
        self.views
            .push(json!({"buffer": 0, "byteOffset": self.blob.len(), "byteLength": bytes.len()}));
        self.blob.extend_from_slice(bytes);
        self.views.len() - 1
    }

    fn accessor(&mut self, component: u32, kind: &str, count: usize, bytes: &[u8]) -> usize {
        let view = self.view(bytes);
        self.accessors
            .push(json!({"bufferView": view, "componentType": component, "type": kind, "count": count}));
        self.accessors.len() - 1
    }

    fn vectors(&mut self, vectors: &[[f32; 3]]) -> usize {
        self.accessor(F32, "VEC3", vectors.len(), &floats(vectors.as_flattened()))
    }

    fn indices(&mut self, indices: &[u16]) -> usize {
        let bytes: Vec<u8> = indices.iter().flat_map(|index| index.to_le_bytes()).collect();
        self.accessor(U16, "SCALAR", indices.len(), &bytes)
    }

    fn glb(&self, rest: Value) -> Vec<u8> {
        let mut document = json!({
            "asset": {"version": "2.0"},
            "buffers": [{"byteLength": self.blob.len()}],
            "bufferViews": self.views,
            "accessors": self.accessors,
            "scene": 0,
            "scenes": [{"nodes": [0]}],
        });
        let Value::Object(rest) = rest else {
            panic!("the rest of a document is an object")
        };
        document.as_object_mut().unwrap().extend(rest);
        let mut text = document.to_string().into_bytes();
        text.resize(text.len().next_multiple_of(4), b' ');
        let chunk = |kind: &[u8], bytes: &[u8]| [&(bytes.len() as u32).to_le_bytes(), kind, bytes].concat();
        let chunks = [chunk(b"JSON", &text), chunk(b"BIN\0", &self.blob)].concat();
        [
            b"glTF".as_slice(),
            &2_u32.to_le_bytes(),
            &(12 + chunks.len() as u32).to_le_bytes(),
            &chunks,
        ]
        .concat()
    }

    /// One mesh with one primitive, shown by one node.
    fn one(&self, primitive: &Value, mut node: Value) -> Vec<u8> {
        node["mesh"] = json!(0);
        self.glb(json!({"meshes": [{"primitives": [primitive]}], "nodes": [node]}))
    }
}

fn floats(numbers: &[f32]) -> Vec<u8> {
    numbers.iter().flat_map(|number| number.to_le_bytes()).collect()
}

fn import(bytes: &[u8]) -> Result<Mesh, ImportError> {
    import_mesh(MeshFormat::Gltf, bytes, &NoAssets)
}

/// With its appearance, and with `red.png`, a half transparent texel, beside it.
fn import_with_appearance(bytes: &[u8]) -> Mesh {
    struct Folder;
    impl AssetResolver for Folder {
        fn read(&self, relative: &str) -> Result<Vec<u8>, AssetError> {
            match relative {
                "red.png" => Ok(png([255, 0, 0, 128])),
                _ => NoAssets.read(relative),
            }
        }
    }
    let options = ImportOptions {
        appearance: true,
        ..ImportOptions::default()
    };
    import_object(MeshFormat::Gltf, bytes, &Folder, &options).unwrap()
}

fn png(texel: [u8; 4]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, 1, 1);
    encoder.set_color(png::ColorType::Rgba);
    encoder.write_header().unwrap().write_image_data(&texel).unwrap();
    bytes
}

fn message(bytes: &[u8]) -> String {
    import(bytes).unwrap_err().to_string()
}

/// Vertices in the coordinates of the file.
fn positions(mesh: &Mesh) -> Vec<Vec3> {
    mesh.positions()
        .iter()
        .map(|position| (position.as_dvec3() + mesh.origin()).as_vec3())
        .collect()
}

fn normal(mesh: &Mesh, triangle: usize) -> Vec3 {
    let [a, b, c] = mesh.corners().nth(triangle).unwrap();
    (b - a).cross(c - a).normalize().round()
}

const CORNERS: [[f32; 3]; 3] = [[0., 0., 0.], [1., 0., 0.], [0., 1., 0.]];

#[test]
fn the_asset_is_moved_by_its_node() {
    let mesh = import(TRIANGLE).unwrap();
    assert_eq!(mesh.part_names(), ["flag"]);
    assert_eq!(
        positions(&mesh),
        [
            Vec3::new(1., 2., 3.),
            Vec3::new(1., 2., 1.),
            Vec3::new(1., 5., 3.)
        ]
    );
}

#[test]
fn nested_mirrored_and_stretched_nodes() {
    let mut builder = Builder::default();
    let position = builder.vectors(&CORNERS);
    let bytes = builder.glb(json!({
        "meshes": [{"name": "a mesh", "primitives": [{"attributes": {"POSITION": position}}]}],
        "nodes": [{"children": [1], "translation": [10, 0, 0]}, {"mesh": 0, "scale": [-2, 3, 1]}],
    }));
    let mesh = import(&bytes).unwrap();
    assert_eq!(mesh.part_names(), ["a mesh"]);
    assert_eq!(
        positions(&mesh),
        [
            Vec3::new(10., 0., 0.),
            Vec3::new(8., 0., 0.),
            Vec3::new(10., 3., 0.)
        ]
    );
    assert_eq!(normal(&mesh, 0), Vec3::Z, "a mirrored surface keeps its outside");
}

#[test]
fn strips_and_fans() {
    let mut builder = Builder::default();
    let strip = builder.vectors(&[
        [0., 0., 0.],
        [1., 0., 0.],
        [0., 1., 0.],
        [1., 1., 0.],
        [0., 2., 0.],
    ]);
    let fan = builder.vectors(&[
        [0., 0., 0.],
        [1., 0., 0.],
        [1., 1., 0.],
        [0., 1., 0.],
        [-1., 1., 0.],
    ]);
    for (mode, position) in [(5, strip), (6, fan)] {
        let mesh = import(&builder.one(
            &json!({"attributes": {"POSITION": position}, "mode": mode}),
            json!({}),
        ))
        .unwrap();
        assert_eq!(mesh.triangles().len(), 3);
        assert!(
            (0..3).all(|triangle| normal(&mesh, triangle) == Vec3::Z),
            "mode {mode} turns one way"
        );
    }
    let lines = builder.one(&json!({"attributes": {"POSITION": strip}, "mode": 1}), json!({}));
    assert!(message(&lines).contains("no faces"));
}

#[test]
fn sparse_and_quantized_positions() {
    let mut builder = Builder::default();
    let (indices, values) = (
        builder.view(&[1, 2]),
        builder.view(&floats(CORNERS[1..].as_flattened())),
    );
    builder.accessors.push(json!({
        "componentType": F32, "type": "VEC3", "count": 3,
        "sparse": {
            "count": 2,
            "indices": {"bufferView": indices, "componentType": U8},
            "values": {"bufferView": values},
        },
    }));
    let mesh = import(&builder.one(&json!({"attributes": {"POSITION": 0}}), json!({}))).unwrap();
    assert_eq!(positions(&mesh), CORNERS.map(Vec3::from));

    let mut builder = Builder::default();
    let shorts = CORNERS
        .as_flattened()
        .iter()
        .flat_map(|&number| (number as i16 * i16::MAX).to_le_bytes());
    let position = builder.accessor(I16, "VEC3", 3, &shorts.collect::<Vec<u8>>());
    builder.accessors[position]["normalized"] = json!(true);
    let mesh = import(&builder.one(&json!({"attributes": {"POSITION": position}}), json!({}))).unwrap();
    assert_eq!(positions(&mesh), CORNERS.map(Vec3::from));
}

#[test]
fn skins_follow_joints_and_ignore_their_node() {
    let mut builder = Builder::default();
    let position = builder.vectors(&CORNERS);
    let joints = builder.accessor(U8, "VEC4", 3, &[0, 1, 0, 0].repeat(3));
    let weights = builder.accessor(
        F32,
        "VEC4",
        3,
        &floats(&[[0.5, 0.5, 0.0, 0.0], [0.5, 0.5, 0.0, 0.0], [f32::NAN; 4]].concat()),
    );
    let mut inverse_bind = [0.0; 32];
    for (joint, matrix) in inverse_bind.chunks_exact_mut(16).enumerate() {
        // The armature is scaled by a hundred relative to the mesh; the second joint is bound one unit to the right.
        matrix.copy_from_slice(&glam::Mat4::from_scale(Vec3::splat(0.01)).to_cols_array());
        matrix[12] = -(joint as f32);
    }
    let inverse_bind = builder.accessor(F32, "MAT4", 2, &floats(&inverse_bind));
    let bytes = builder.glb(json!({
        "meshes": [{"primitives": [{"attributes": {"POSITION": position, "JOINTS_0": joints, "WEIGHTS_0": weights}}]}],
        "skins": [{"joints": [2, 3], "inverseBindMatrices": inverse_bind}],
        "nodes": [
            {"children": [1, 2]},
            {"mesh": 0, "skin": 0, "translation": [999, 999, 999], "scale": [7, 7, 7]},
            {"scale": [100, 100, 100], "children": [3]},
            {"translation": [1, 0, 0]},
        ],
    }));
    let moved = positions(&import(&bytes).unwrap());
    assert!(
        moved
            .iter()
            .zip(CORNERS)
            .all(|(moved, corner)| moved.distance(corner.into()) < 1e-6),
        "{moved:?}"
    );
}

#[test]
fn morph_targets_use_default_weights() {
    let mut builder = Builder::default();
    let (position, target) = (builder.vectors(&CORNERS), builder.vectors(&[[0., 0., 2.]; 3]));
    let primitive = json!({"attributes": {"POSITION": position}, "targets": [{"POSITION": target}]});
    let bytes = builder.one(&primitive, json!({"weights": [0.5]}));
    assert_eq!(positions(&import(&bytes).unwrap())[0], Vec3::Z);
}

#[test]
fn buffers_beside_the_document() {
    struct Folder;
    impl AssetResolver for Folder {
        fn read(&self, relative: &str) -> Result<Vec<u8>, AssetError> {
            assert_eq!(relative, "the triangle.bin");
            Ok(floats(CORNERS.as_flattened()))
        }
    }
    let document = json!({
        "asset": {"version": "2.0"},
        "buffers": [{"byteLength": 36, "uri": "the%20triangle.bin"}, {"byteLength": 9, "uri": "never-read.bin"}],
        "bufferViews": [{"buffer": 0, "byteLength": 36}],
        "accessors": [{"bufferView": 0, "componentType": F32, "type": "VEC3", "count": 3}],
        "meshes": [{"primitives": [{"attributes": {"POSITION": 0}}]}],
        "nodes": [{"mesh": 0}],
    });
    let bytes = document.to_string().into_bytes();
    assert_eq!(
        import_mesh(MeshFormat::Gltf, &bytes, &Folder)
            .unwrap()
            .triangles()
            .len(),
        1
    );
    assert_eq!(import(&bytes).unwrap_err().code(), "missing_file");
}

#[test]
fn refuses_by_name() {
    let mut builder = Builder::default();
    let position = builder.vectors(&CORNERS);
    let good = json!({"attributes": {"POSITION": position}});
    let meshes = json!([{"primitives": [good]}]);
    let with = |rest: Value| {
        let mut all = json!({"meshes": meshes, "nodes": [{"mesh": 0}]});
        all.as_object_mut()
            .unwrap()
            .extend(rest.as_object().unwrap().clone());
        message(&builder.glb(all))
    };
    assert!(with(json!({"nodes": [{"children": [1]}, {"children": [0]}]})).contains("circle"));
    assert!(
        with(json!({"nodes": [{"children": [1, 2]}, {"children": [2]}, {"mesh": 0}]}))
            .contains("two parents")
    );
    assert!(
        with(json!({"extensionsRequired": ["KHR_draco_mesh_compression"]}))
            .contains("KHR_draco_mesh_compression")
    );
    assert!(with(json!({"nodes": [{"mesh": 5}]})).contains("nodes[0].mesh"));
    assert!(with(json!({"scenes": 3})).contains("bad JSON"));

    let mut compressed = Builder::default();
    compressed
        .accessors
        .push(json!({"componentType": F32, "type": "VEC3", "count": 3}));
    let bytes = compressed.glb(json!({
        "meshes": meshes, "nodes": [{"mesh": 0}], "extensionsUsed": ["KHR_draco_mesh_compression"],
    }));
    assert!(message(&bytes).contains("KHR_draco_mesh_compression"));

    let mut builder = Builder::default();
    let (position, indices) = (builder.vectors(&CORNERS), builder.indices(&[0, 1, 3]));
    let primitive = json!({"attributes": {"POSITION": position}, "indices": indices});
    assert_eq!(
        import(&builder.one(&primitive, json!({}))).unwrap_err().code(),
        "index_out_of_range"
    );

    let mut builder = Builder::default();
    let position = builder.vectors(&[[0.; 3], [f32::INFINITY, 0., 0.], [0., 1., 0.]]);
    let bytes = builder.one(&json!({"attributes": {"POSITION": position}}), json!({}));
    assert_eq!(import(&bytes).unwrap_err().code(), "non_finite");
    for length in [3, 11, 19, 25, bytes.len() - 9] {
        assert!(import(&bytes[..length]).is_err(), "{length} bytes");
    }
}

#[test]
fn hostile_sizes_are_refused_before_allocation() {
    let claims = |count: u64, sparse: bool| {
        let mut builder = Builder::default();
        let position = builder.vectors(&CORNERS);
        builder.accessors[position]["count"] = json!(count);
        if sparse {
            builder.accessors[position]
                .as_object_mut()
                .unwrap()
                .remove("bufferView");
            let view = builder.view(&[0; 12]);
            builder.accessors[position]["sparse"] = json!({
                "count": 1,
                "indices": {"bufferView": view, "componentType": U8},
                "values": {"bufferView": view},
            });
        }
        message(&builder.one(&json!({"attributes": {"POSITION": position}}), json!({})))
    };
    for count in [4, 1 << 40, u64::MAX] {
        assert!(claims(count, false).contains("reads past the end"), "{count}");
    }
    assert!(claims(1 << 40, true).contains("larger than memory"));

    // A chain of nodes as deep as the file is long, and a mesh instanced once per node.
    let mut builder = Builder::default();
    let position = builder.vectors(&vec![[0.0, 0.0, 0.0]; 3000]);
    let nodes: Vec<Value> = (1..=6000)
        .map(|child| json!({"mesh": 0, "children": [child]}))
        .collect();
    let nodes: Vec<Value> = nodes.into_iter().chain([json!({})]).collect();
    let bytes = builder
        .glb(json!({"meshes": [{"primitives": [{"attributes": {"POSITION": position}}]}], "nodes": nodes}));
    assert!(message(&bytes).contains("so many times"));
}

#[test]
fn origins_are_exact_for_far_nodes() {
    let mut builder = Builder::default();
    let position = builder.vectors(&CORNERS);
    let bytes = builder.one(
        &json!({"attributes": {"POSITION": position}}),
        json!({"translation": [1e6, 0, 0]}),
    );
    assert_eq!(import(&bytes).unwrap().origin(), DVec3::new(1e6 + 0.5, 0.5, 0.0));
}

/// A triangle with two sets of texture coordinates and a material; `rest` is the rest of the document.
fn textured(material: &Value, rest: &Value) -> Appearance {
    let mut builder = Builder::default();
    let position = builder.vectors(&CORNERS);
    let first = builder.accessor(F32, "VEC2", 3, &floats(&[9.0; 6]));
    let second = builder.accessor(U8, "VEC2", 3, &[0, 0, 255, 0, 0, 255]);
    builder.accessors[second]["normalized"] = json!(true);
    let embedded = builder.view(&png([0, 255, 0, 255]));
    let mut document = json!({
        "meshes": [{"primitives": [{
            "attributes": {"POSITION": position, "TEXCOORD_0": first, "TEXCOORD_1": second}, "material": 0,
        }]}],
        "nodes": [{"mesh": 0}],
        "materials": [material],
        "textures": [{"source": 0, "sampler": 0}, {"source": 1}, {"source": 2}, {"source": 7}],
        "samplers": [{"wrapS": 33071, "wrapT": 33648}],
        "images": [
            {"uri": "red.png"},
            {"bufferView": embedded, "mimeType": "image/png", "name": "green"},
            {"uri": "lost.png"},
        ],
    });
    document
        .as_object_mut()
        .unwrap()
        .extend(rest.as_object().unwrap().clone());
    let mesh = import_with_appearance(&builder.glb(document));
    let mut appearance = mesh.appearance().unwrap().clone();
    // So that one value holds everything.
    appearance.materials[0].name = mesh.warnings().join("; ");
    appearance
}

/// A lossless image of one color.
fn webp(color: [u8; 4]) -> Vec<u8> {
    let mut bytes = Vec::new();
    image::codecs::webp::WebPEncoder::new_lossless(&mut bytes)
        .encode(&color, 1, 1, image::ExtendedColorType::Rgba8)
        .unwrap();
    bytes
}

#[test]
fn webp_is_the_fallback_image() {
    let uri = format!(
        "data:image/webp;base64,{}",
        BASE64_STANDARD.encode(webp([1, 2, 3, 255]))
    );
    let with = |textures: Value| {
        textured(
            &json!({"pbrMetallicRoughness": {"baseColorTexture": {"index": 0}}}),
            &json!({
                "textures": textures,
                "images": [{"uri": "red.png"}, {"uri": uri, "mimeType": "image/webp"}],
                "extensionsRequired": ["EXT_texture_webp"],
            }),
        )
    };
    let alone = with(json!([{"extensions": {"EXT_texture_webp": {"source": 1}}}]));
    assert_eq!(alone.textures[0].texels, [[1, 2, 3, 255]]);
    let beside = with(json!([{"source": 0, "extensions": {"EXT_texture_webp": {"source": 1}}}]));
    assert_eq!(
        beside.textures[0].texels[0],
        [255, 0, 0, 128],
        "the plain image is as good"
    );
    let lost = with(json!([{"extensions": {"EXT_texture_webp": {"source": 9}}}]));
    assert!(
        lost.materials[0].name.contains("EXT_texture_webp"),
        "{}",
        lost.materials[0].name
    );
}

#[test]
fn ktx2_textures_are_warnings() {
    let appearance = textured(
        &json!({"pbrMetallicRoughness": {"baseColorTexture": {"index": 0}}}),
        &json!({
            "textures": [{"extensions": {"KHR_texture_basisu": {"source": 0}}}],
            "images": [{"uri": "red.ktx2", "mimeType": "image/ktx2"}],
            "extensionsRequired": ["KHR_texture_basisu"],
        }),
    );
    assert!(appearance.textures.is_empty(), "it is not read");
    let warning = &appearance.materials[0].name;
    assert!(warning.contains("KHR_texture_basisu"), "{warning}");
}

#[test]
fn base_colors_textures_and_their_transforms() {
    let appearance = textured(
        &json!({"pbrMetallicRoughness": {
            "baseColorFactor": [0.215, 1, 0, 0.25],
            "baseColorTexture": {"index": 0, "texCoord": 1},
        }}),
        &json!({}),
    );
    let material = &appearance.materials[0];
    assert_eq!(
        (material.base_color, material.texture, material.alpha_cutoff),
        ([128, 255, 0, 64], Some(0), None)
    );
    let texture = &appearance.textures[0];
    assert_eq!(
        (texture.texels[0], texture.wrap),
        ([255, 0, 0, 128], [Wrap::Clamp, Wrap::Mirror])
    );
    assert_eq!(appearance.uvs, [[Vec2::ZERO, Vec2::X, Vec2::Y]]);

    let appearance = textured(
        &json!({"pbrMetallicRoughness": {"baseColorTexture": {"index": 1, "extensions": {
            "KHR_texture_transform": {
                "offset": [0.5, 0], "rotation": std::f64::consts::FRAC_PI_2, "scale": [2, 3], "texCoord": 1,
            },
        }}}}),
        &json!({}),
    );
    assert_eq!(
        appearance.textures[0].texels,
        [[0, 255, 0, 255]],
        "an embedded image"
    );
    let expected = [Vec2::new(0.5, 0.0), Vec2::new(0.5, -2.0), Vec2::new(3.5, 0.0)];
    assert!(
        appearance.uvs[0]
            .iter()
            .zip(expected)
            .all(|(uv, expected)| uv.abs_diff_eq(expected, 1e-6)),
        "{:?}",
        appearance.uvs
    );

    let appearance = textured(
        &json!({"extensions": {"KHR_materials_pbrSpecularGlossiness": {"diffuseFactor": [0, 0, 1, 1]}}}),
        &json!({}),
    );
    assert_eq!(appearance.materials[0].base_color, [0, 0, 255, 255]);
}

#[test]
fn alpha_cutoffs_come_from_images_or_alpha_modes() {
    let alpha_cutoff = |mode: &str, texture: u32, cutoff: &Value| {
        let mut material = json!({
            "alphaMode": mode,
            "pbrMetallicRoughness": {
                "baseColorFactor": [1, 1, 1, 0.25],
                "baseColorTexture": {"index": texture, "texCoord": 1},
            },
        });
        if !cutoff.is_null() {
            material["alphaCutoff"] = cutoff.clone();
        }
        let material = textured(&material, &json!({})).materials.remove(0);
        (material.alpha_cutoff, material.base_color[3])
    };
    let default = Value::Null;
    assert_eq!(alpha_cutoff("OPAQUE", 0, &default), (None, 64));
    assert_eq!(alpha_cutoff("MASK", 0, &default), (Some(0.5), 64));
    assert_eq!(alpha_cutoff("MASK", 1, &json!(0.75)), (Some(0.75), 64));
    assert_eq!(alpha_cutoff("MASK", 1, &json!(7)), (Some(1.0), 64));
    assert_eq!(
        alpha_cutoff("BLEND", 0, &default),
        (Some(0.5), 255),
        "the image has holes"
    );
    assert_eq!(alpha_cutoff("BLEND", 1, &default), (None, 64), "glass stays");
}

#[test]
fn missing_images_are_warnings() {
    let lost = |texture: u32, rest: Value| {
        let material = json!({"pbrMetallicRoughness": {"baseColorTexture": {"index": texture}}});
        let appearance = textured(&material, &rest);
        assert!(appearance.textures.is_empty() && appearance.materials[0].texture.is_none());
        appearance.materials[0].name.clone()
    };
    assert!(lost(2, json!({})).contains("lost.png"));
    assert!(lost(3, json!({})).contains("no image"));
    assert!(lost(9, json!({})).contains("texture 9"));
    let outside = json!({"images": [{"uri": "../../etc/passwd"}]});
    assert!(lost(0, outside).contains("../../etc/passwd"));
    let garbage = json!({"images": [{"uri": "data:image/png;base64,AAAA"}]});
    assert!(lost(0, garbage).contains("image 0"));
    let nowhere = json!({"images": [{"bufferView": 99, "mimeType": "image/png"}]});
    assert!(lost(0, nowhere).contains("neither a URI nor a buffer view"));
}

#[test]
fn vertex_colors_of_all_kinds() {
    let colors = |component: u32, kind: &str, bytes: &[u8], normalized: bool| {
        let mut builder = Builder::default();
        let position = builder.vectors(&CORNERS);
        let color = builder.accessor(component, kind, 3, bytes);
        if normalized {
            builder.accessors[color]["normalized"] = json!(true);
        }
        let primitive = json!({"attributes": {"POSITION": position, "COLOR_0": color}});
        import_with_appearance(&builder.one(&primitive, json!({})))
            .appearance()
            .unwrap()
            .colors[0]
    };
    let expected = [[255, 0, 0, 255], [0, 188, 0, 255], [0, 0, 255, 255]];
    let linear = [1.0, 0.0, 0.0, 0.0, 0.502_886, 0.0, 0.0, 0.0, 1.0_f32];
    assert_eq!(colors(F32, "VEC3", &floats(&linear), false), expected);
    let with_opacity: Vec<f32> = linear.chunks(3).flat_map(|rgb| [rgb, &[0.5]].concat()).collect();
    let half = expected.map(|[r, g, b, _]| [r, g, b, 128]);
    assert_eq!(colors(F32, "VEC4", &floats(&with_opacity), false), half);
    let shorts: Vec<u8> = linear
        .iter()
        .flat_map(|&number| ((number * 65535.0).round() as u16).to_le_bytes())
        .collect();
    assert_eq!(colors(U16, "VEC3", &shorts[..18], true), expected);
    let bytes: Vec<u8> = with_opacity
        .iter()
        .map(|&number| (number * 255.0).round() as u8)
        .collect();
    assert_eq!(colors(U8, "VEC4", &bytes, true), half);
    assert_eq!(
        colors(U8, "VEC4", &bytes, false),
        half,
        "a writer that forgot to normalize"
    );
}

#[test]
fn a_mirrored_primitive_keeps_its_texture() {
    let mut builder = Builder::default();
    let position = builder.vectors(&CORNERS);
    let uv = builder.accessor(F32, "VEC2", 3, &floats(&[0., 0., 1., 0., 0., 1.]));
    let bytes = builder.glb(json!({
        "meshes": [{"primitives": [{"attributes": {"POSITION": position, "TEXCOORD_0": uv}, "material": 0}]}],
        "nodes": [{"mesh": 0, "scale": [-1, 1, 1]}],
        "materials": [{"pbrMetallicRoughness": {"baseColorTexture": {"index": 0}}}],
        "textures": [{"source": 0}],
        "images": [{"uri": "red.png"}],
    }));
    let mesh = import_with_appearance(&bytes);
    assert_eq!(mesh.triangles(), [[0, 2, 1]]);
    assert_eq!(mesh.appearance().unwrap().uvs, [[Vec2::ZERO, Vec2::Y, Vec2::X]]);
}

proptest! {
    #[test]
    fn never_panics(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
        cut in any::<prop::sample::Index>(),
        noise in prop::collection::vec(any::<u8>(), 0..60),
    ) {
        let mut builder = Builder::default();
        let (position, indices) = (builder.vectors(&CORNERS), builder.indices(&[0, 1, 2]));
        let uv = builder.accessor(F32, "VEC2", 3, &floats(&[0.5; 6]));
        let image = builder.view(&png([1, 2, 3, 4]));
        let attributes = json!({"POSITION": position, "TEXCOORD_0": uv, "COLOR_0": position});
        let good = builder.glb(json!({
            "meshes": [{"primitives": [{"attributes": attributes, "indices": indices, "material": 0}]}],
            "nodes": [{"mesh": 0}],
            "materials": [{"alphaMode": "BLEND", "pbrMetallicRoughness": {"baseColorTexture": {"index": 0, "texCoord": 0}}}],
            "textures": [{"source": 0, "sampler": 0}],
            "samplers": [{"wrapS": 33071}],
            "images": [{"bufferView": image, "mimeType": "image/png"}],
        }));
        for source in [good.as_slice(), TRIANGLE] {
            let mut bytes = source.to_vec();
            for (place, byte) in &changes {
                *place.get_mut(&mut bytes) = *byte;
            }
            let white = import(&bytes).map(|mesh| mesh.triangles().to_vec()).map_err(|error| error.to_string());
            let options = ImportOptions { appearance: true, ..ImportOptions::default() };
            let import_with_appearance = import_object(MeshFormat::Gltf, &bytes, &NoAssets, &options);
            prop_assert_eq!(
                white,
                import_with_appearance.map(|mesh| mesh.triangles().to_vec()).map_err(|error| error.to_string())
            );
            let _ = import(&bytes[..cut.index(bytes.len())]);
        }
        let _ = import(&noise);
        let _ = import(&[b"glTF".as_slice(), &noise].concat());
    }
}

#[test]
fn instances_are_drawn() {
    let mut builder = Builder::default();
    let position = builder.vectors(&[[0., 0., 0.], [1., 0., 0.], [0., 1., 0.]]);
    let translation = builder.vectors(&[[0., 0., 0.], [5., 0., 0.]]);
    let half = f32::sqrt(0.5);
    let rotations = [[0., 0., 0., 1.], [0., 0., half, half]];
    let rotation = builder.accessor(F32, "VEC4", 2, &floats(rotations.as_flattened()));
    let scale = builder.vectors(&[[1., 1., 1.], [2., -3., 1.]]);
    let attributes = json!({"TRANSLATION": translation, "ROTATION": rotation, "SCALE": scale});
    let node = |attributes: &Value| json!({"translation": [0, 0, 7], "extensions": {"EXT_mesh_gpu_instancing": {"attributes": attributes}}});
    let primitive = json!({"attributes": {"POSITION": position}});
    let mesh = import(&builder.one(&primitive, node(&attributes))).unwrap();
    let places: Vec<DVec3> = mesh
        .positions()
        .iter()
        .map(|p| p.as_dvec3() + mesh.origin())
        .collect();
    let expected =
        [[0., 0.], [1., 0.], [0., 1.], [5., 0.], [5., 2.], [8., 0.]].map(|[x, y]| DVec3::new(x, y, 7.0));
    for (place, expected) in places.iter().zip(expected) {
        assert!((place - expected).length() < 1e-5, "{place} is not {expected}");
    }
    assert_eq!(
        mesh.triangles(),
        [[0, 1, 2], [3, 5, 4]],
        "a mirrored instance keeps its front"
    );

    let differing = json!({"TRANSLATION": translation, "SCALE": position});
    assert!(message(&builder.one(&primitive, node(&differing))).contains("differ in number"));
    let missing = json!({"TRANSLATION": 99});
    assert!(message(&builder.one(&primitive, node(&missing))).contains("does not exist"));
}

#[test]
fn quantized_positions_are_read() {
    let mut builder = Builder::default();
    let numbers = |numbers: &[i16]| {
        numbers
            .iter()
            .flat_map(|number| number.to_le_bytes())
            .collect::<Vec<u8>>()
    };
    let corners = [0, 0, 0, 0, i16::MAX, 0, 0, 0, 0, i16::MIN, 0, 0];
    let view = builder.view(&numbers(&corners));
    builder.views[view]["byteStride"] = json!(8);
    for normalized in [false, true] {
        builder.accessors.push(json!({
            "bufferView": view, "componentType": I16, "type": "VEC3", "count": 3, "normalized": normalized,
        }));
    }
    for (accessor, unit) in [(0, 32767.0), (1, 1.0)] {
        let primitive = json!({"attributes": {"POSITION": accessor}});
        let document = json!({
            "extensionsUsed": ["KHR_mesh_quantization"], "extensionsRequired": ["KHR_mesh_quantization"],
            "meshes": [{"primitives": [primitive]}], "nodes": [{"mesh": 0}],
        });
        let mesh = import(&builder.glb(document)).unwrap();
        assert!(
            (mesh.surface_area() / (unit * unit) - 0.5).abs() < 1e-3,
            "{}",
            mesh.surface_area()
        );
        assert!(mesh.warnings().is_empty());
    }
}

#[test]
fn extensions_of_geometry_are_named() {
    let mut builder = Builder::default();
    let position = builder.vectors(&[[0., 0., 0.], [1., 0., 0.], [0., 1., 0.]]);
    let document = json!({
        "extensionsUsed": ["KHR_node_visibility", "KHR_materials_unlit", "EXT_mesh_gpu_instancing"],
        "meshes": [
            {"primitives": [{"attributes": {"POSITION": position}}, {"attributes": {"POSITION": position}, "mode": 0}]},
        ],
        "nodes": [{"mesh": 0}],
    });
    let mesh = import(&builder.glb(document)).unwrap();
    assert_eq!(mesh.warning_kinds(), [crate::mesh::WarningKind::Unsupported]);
    assert!(
        mesh.warnings()[0].contains("KHR_node_visibility"),
        "{:?}",
        mesh.warnings()
    );
    let points = builder.one(
        &json!({"attributes": {"POSITION": position}, "mode": 0}),
        json!({}),
    );
    assert_eq!(message(&points), "the mesh has no faces, only 1 sets of points");
}

#[test]
fn normals_turn_with_their_node() {
    let mut builder = Builder::default();
    let position = builder.vectors(&[[0., 0., 0.], [1., 0., 0.], [0., 1., 0.]]);
    let normal = builder.vectors(&[[0., 0., 1.], [0., 1., 1.], [1., 0., 0.]]);
    let primitive = json!({"attributes": {"POSITION": position, "NORMAL": normal}});
    let glb = builder.one(&primitive, json!({"scale": [1, 2, 1], "rotation": [0, 0, 1, 0]}));
    let options = ImportOptions {
        normals: true,
        ..ImportOptions::default()
    };
    let mesh = import_object(MeshFormat::Gltf, &glb, &NoAssets, &options).unwrap();
    let expected = [Vec3::Z, Vec3::new(0.0, -0.5, 1.0), Vec3::NEG_X];
    for (normal, expected) in mesh.file_normals()[0].iter().zip(expected) {
        assert!((*normal - expected).length() < 1e-6, "{normal} is not {expected}");
    }
    assert!(import(&glb).unwrap().file_normals().is_empty());
}
