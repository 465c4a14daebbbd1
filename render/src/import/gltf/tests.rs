//! Small documents of our own, one for each way to say where a surface is.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use glam::{DVec3, Vec3};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::super::{AssetError, AssetResolver, ImportError, MeshFormat, NoAssets, import_mesh};
use crate::mesh::Mesh;

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
fn a_skin_ignores_its_node_and_follows_its_joints() {
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
        // The armature is a hundred times as large as the mesh; the second joint is bound one unit to the right.
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
fn morph_targets_rest_at_their_default_weights() {
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
fn hostile_sizes_are_refused_before_memory_is_taken() {
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

    // A chain of nodes as deep as the file is long, and a mesh shown once a node.
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

proptest! {
    #[test]
    fn never_panics(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
        cut in any::<prop::sample::Index>(),
        noise in prop::collection::vec(any::<u8>(), 0..60),
    ) {
        let mut builder = Builder::default();
        let (position, indices) = (builder.vectors(&CORNERS), builder.indices(&[0, 1, 2]));
        let good = builder.one(&json!({"attributes": {"POSITION": position}, "indices": indices}), json!({}));
        for source in [good.as_slice(), TRIANGLE] {
            let mut bytes = source.to_vec();
            for (place, byte) in &changes {
                *place.get_mut(&mut bytes) = *byte;
            }
            let _ = import(&bytes);
            let _ = import(&bytes[..cut.index(bytes.len())]);
        }
        let _ = import(&noise);
        let _ = import(&[b"glTF".as_slice(), &noise].concat());
    }
}
