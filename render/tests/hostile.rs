//! Hostile and broken files: refused with a stable code, in memory bounded by their length.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    alloc::{GlobalAlloc, Layout, System},
    sync::atomic::{AtomicUsize, Ordering},
};

use proptest::prelude::*;
use tap_render::{
    Mesh,
    import::{AssetError, AssetResolver, ImportError, ImportOptions, MeshFormat, import_object},
};

/// Allocation that any import may make, and per byte of the file and of those beside it: a compressed byte may decode
/// to 2048, a few times over.
const BASE_BYTES: usize = 1 << 20;
const BYTES_PER_BYTE: usize = 8192;

/// Counts allocated bytes, and their peak.
struct Counting;

static NOW: AtomicUsize = AtomicUsize::new(0);
static MOST: AtomicUsize = AtomicUsize::new(0);

#[allow(
    unsafe_code,
    reason = "an allocator is unsafe by its trait; this one hands everything on to the system's"
)]
// SAFETY: every call goes to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let now = NOW.fetch_add(layout.size(), Ordering::Relaxed) + layout.size();
        MOST.fetch_max(now, Ordering::Relaxed);
        // SAFETY: the caller keeps the promises of this function, which are those of the system's.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        NOW.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Materials and an image beside the mesh; `..` leads out.
struct Beside {
    materials: Vec<u8>,
    image: Vec<u8>,
}

impl AssetResolver for Beside {
    fn read(&self, relative: &str) -> Result<Vec<u8>, AssetError> {
        let name = relative.to_owned();
        match relative {
            "a.mtl" => Ok(self.materials.clone()),
            "a.png" | "a.bmp" | "a.tga" | "a.jpg" => Ok(self.image.clone()),
            _ if relative.split('/').any(|part| part == "..") => Err(AssetError::Outside { name }),
            _ => Err(AssetError::NotFound { name }),
        }
    }
}

fn png() -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, 2, 2);
    encoder.set_color(png::ColorType::Rgba);
    encoder
        .write_header()
        .unwrap()
        .write_image_data(&[200; 16])
        .unwrap();
    bytes
}

fn bmp(width: i32, height: i32) -> Vec<u8> {
    let mut bytes = b"BM".to_vec();
    bytes.extend([0; 8]);
    bytes.extend(54_u32.to_le_bytes());
    bytes.extend(40_u32.to_le_bytes());
    bytes.extend(width.to_le_bytes());
    bytes.extend(height.to_le_bytes());
    bytes.extend(1_u16.to_le_bytes());
    bytes.extend(24_u16.to_le_bytes());
    bytes.extend([0; 24]);
    bytes.extend([7; 16]);
    bytes
}

fn import(format: MeshFormat, bytes: &[u8], beside: &Beside) -> Result<Mesh, ImportError> {
    let options = ImportOptions {
        appearance: true,
        ..ImportOptions::default()
    };
    import_object(format, bytes, beside, &options)
}

const OBJ: &str = "mtllib a.mtl\nv 0 0 0 1 0 0\nv 1 0 0 0 1 0\nv 1 1 0 0 0 1\nv 0 1 0\nv 0.5 0.5 2\nvt 0 0\nvt 1 1\n\
    usemtl wood\nf 1/1 2/2 3/1 4/2\nusemtl iron\nf -1 -2 -3\nl 1 2\ng top\nf 1 2 5\\\n 4\n";
const MTL: &str = "newmtl wood\nKd 1 0.5 0\nmap_Kd -s 1 1 a.png\nmap_d a.png\nnewmtl iron\nmap_Kd a.bmp\n";
const OFF: &str =
    "COFF\n4 2 0\n0 0 0 1 0 0 1\n1 0 0 0 1 0 1\n0 1 0 0 0 1 1\n0 0 1 1 1 1 1\n3 0 1 2 9 9 9\n4 0 1 2 3\n";
const PLY: &str = "ply\nformat ascii 1.0\ncomment TextureFile a.png\nelement vertex 3\nproperty float x\nproperty float y\n\
    property float z\nproperty float s\nproperty float t\nproperty uchar red\nproperty uchar green\nproperty uchar blue\n\
    element face 1\nproperty list uchar int vertex_indices\nend_header\n0 0 0 0 0 1 2 3\n1 0 0 1 0 4 5 6\n0 1 0 0 1 7 8 9\n\
    3 0 1 2\n";
const STL: &str = "solid a\nfacet normal 0 0 1\nouter loop\nvertex 0 0 0\nvertex 1 0 0\nvertex 0 1 0\nendloop\nendfacet\n\
    endsolid a\n";
const GLTF: &str = include_str!("../../assets/triangle.gltf");
const XYZ: &str = "0 0 0 0 0 1 255 0 0\n1 0 0 0 0 1 0 255 0\n0 1 0 0 0 1 0 0 255\n1 1 0 0 0 1 9 9 9\n";

fn npy() -> Vec<u8> {
    let header = "{'descr': '<f4', 'fortran_order': False, 'shape': (4, 3), }\n";
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend((header.len() as u16).to_le_bytes());
    bytes.extend(header.bytes());
    bytes.extend((0..12_u8).flat_map(|number| f32::from(number % 5).to_le_bytes()));
    bytes
}

fn binary_stl() -> Vec<u8> {
    let mut bytes = vec![b' '; 80];
    bytes.extend(1_u32.to_le_bytes());
    bytes.extend([0; 12]);
    bytes.extend(
        [0., 0., 0., 1., 0., 0., 0., 1., 0.0_f32]
            .map(f32::to_le_bytes)
            .as_flattened(),
    );
    bytes.extend([0; 2]);
    bytes
}

fn binary_ply() -> Vec<u8> {
    let mut bytes = PLY[..PLY.find("0 0 0").unwrap()]
        .replace("ascii", "binary_little_endian")
        .into_bytes();
    for corner in [[0., 0.], [1., 0.], [0., 1.0_f32]] {
        bytes.extend(
            [corner[0], corner[1], 0.0, 0.5, 0.5]
                .map(f32::to_le_bytes)
                .as_flattened(),
        );
        bytes.extend([1, 2, 3]);
    }
    bytes.push(3);
    bytes.extend([0, 1, 2_i32].map(i32::to_le_bytes).as_flattened());
    bytes
}

/// One valid file of each kind.
fn good_files() -> Vec<(MeshFormat, Vec<u8>)> {
    vec![
        (MeshFormat::Obj, OBJ.into()),
        (MeshFormat::Off, OFF.into()),
        (MeshFormat::Ply, PLY.into()),
        (MeshFormat::Ply, binary_ply()),
        (MeshFormat::Stl, STL.into()),
        (MeshFormat::Stl, binary_stl()),
        (MeshFormat::Gltf, GLTF.into()),
        (MeshFormat::Xyz, XYZ.into()),
        (MeshFormat::Npy, npy()),
    ]
}

#[derive(Debug, Clone)]
enum Change {
    /// Replaces a byte.
    Byte(prop::sample::Index, u8),
    /// Writes a number over some bytes, so that counts and indices grow.
    Number(prop::sample::Index, u64),
    /// Truncates the file.
    Cut(prop::sample::Index),
    /// Repeats a piece.
    Again(prop::sample::Index, prop::sample::Index),
}

impl Change {
    fn apply(&self, bytes: &mut Vec<u8>) {
        if bytes.is_empty() {
            return;
        }
        match self {
            Self::Byte(at, byte) => *at.get_mut(bytes) = *byte,
            Self::Number(at, number) => {
                let at = at.index(bytes.len());
                bytes.splice(at..=at, number.to_string().into_bytes());
            }
            Self::Cut(at) => bytes.truncate(at.index(bytes.len())),
            Self::Again(from, to) => {
                let (from, to) = (from.index(bytes.len()), to.index(bytes.len()));
                let piece = bytes[from.min(to)..from.max(to)].to_vec();
                let at = from.max(to);
                bytes.splice(at..at, piece);
            }
        }
    }
}

fn change() -> impl Strategy<Value = Change> {
    let at = any::<prop::sample::Index>;
    prop_oneof![
        4 => (at(), any::<u8>()).prop_map(|(at, byte)| Change::Byte(at, byte)),
        2 => (at(), any::<u64>(), 0..64_u32).prop_map(|(at, number, shift)| Change::Number(at, number >> shift)),
        1 => at().prop_map(Change::Cut),
        1 => (at(), at()).prop_map(|(from, to)| Change::Again(from, to)),
    ]
}

/// A single test, so that no other allocates at the same time.
#[test]
fn memory_is_bounded_and_nothing_panics() {
    for (format, bytes) in good_files() {
        let beside = Beside {
            materials: MTL.into(),
            image: png(),
        };
        import(format, &bytes, &beside).unwrap_or_else(|error| panic!("{format}: {error}"));
    }
    refuses_by_name();
    errors_name_other_file_kinds();
    let changes = || prop::collection::vec(change(), 0..5);
    proptest!(ProptestConfig::with_cases(1000), |(
        of_file in changes(), of_materials in changes(), of_image in changes(), noise in prop::collection::vec(any::<u8>(), 0..100),
        is_bmp: bool,
    )| {
        for (format, mut bytes) in good_files() {
            let mut beside = Beside {
                materials: MTL.into(),
                image: if is_bmp { bmp(2, 2) } else { png() },
            };
            for change in &of_file {
                change.apply(&mut bytes);
            }
            for change in &of_materials {
                change.apply(&mut beside.materials);
            }
            for change in &of_image {
                change.apply(&mut beside.image);
            }
            for bytes in [&bytes, &noise] {
                let before = NOW.load(Ordering::Relaxed);
                MOST.store(before, Ordering::Relaxed);
                let result = import(format, bytes, &beside);
                let most = MOST.load(Ordering::Relaxed) - before;
                drop(result);
                let len = bytes.len() + beside.materials.len() + beside.image.len();
                prop_assert!(most <= BASE_BYTES + BYTES_PER_BYTE * len, "{} took {} bytes of memory for {}", format, most, len);
            }
        }
    });
}

fn refuses_by_name() {
    let beside = Beside {
        materials: b"newmtl wood\nmap_Kd a.bmp\nnewmtl iron\nmap_Kd ../../../etc/shadow\n".to_vec(),
        image: bmp(30_000, 30_000),
    };
    let mesh = import(MeshFormat::Obj, OBJ.as_bytes(), &beside).unwrap();
    let says = |words: &str| mesh.warnings().iter().any(|warning| warning.contains(words));
    assert!(
        says("\"a.bmp\" is left out: 30000 x 30000 texels")
            && says("outside of its folder: ../../../etc/shadow"),
        "{:?}",
        mesh.warnings()
    );

    let utf16: Vec<u8> = [0xFE, 0xFF]
        .into_iter()
        .chain(
            "v 0 0 0\nv 1 0 0\nv 0 1 0\nf 1 2 3"
                .encode_utf16()
                .flat_map(u16::to_be_bytes),
        )
        .collect();
    assert_eq!(
        import(MeshFormat::Obj, &utf16, &beside)
            .unwrap()
            .triangles()
            .len(),
        1
    );
    let arrow = "v 0 0 0\nv 4 1 0\nv 0 2 0\nv 1 1 0\nf 4 1 2 3\n";
    let area = import(MeshFormat::Obj, arrow.as_bytes(), &beside)
        .unwrap()
        .surface_area();
    assert!(
        (area - 3.0).abs() < 1e-6,
        "a fan from the dent would be right by chance: {area}"
    );
    let arrow = "v 0 0 0\nv 4 1 0\nv 0 2 0\nv 1 1 0\nf 1 2 3 4\n";
    let area = import(MeshFormat::Obj, arrow.as_bytes(), &beside)
        .unwrap()
        .surface_area();
    assert!((area - 3.0).abs() < 1e-6, "a concave face: {area}");

    let gltf = |rest: &str| format!("{{\"asset\": {{\"version\": \"2.0\"}}, {rest}}}").into_bytes();
    let outside = gltf(
        r#""buffers": [{"byteLength": 36, "uri": "../secret.bin"}], "bufferViews": [{"buffer": 0, "byteLength": 36}],
        "accessors": [{"bufferView": 0, "componentType": 5126, "type": "VEC3", "count": 3}],
        "meshes": [{"primitives": [{"attributes": {"POSITION": 0}}]}], "nodes": [{"mesh": 0}]"#,
    );
    for (format, bytes, code) in [
        (MeshFormat::Gltf, outside, "outside_folder"),
        (
            MeshFormat::Gltf,
            gltf(r#""nodes": [{"children": [1]}, {"children": [0]}]"#),
            "malformed",
        ),
        (
            MeshFormat::Gltf,
            gltf(r#""extensionsRequired": ["EXT_meshopt_compression"]"#),
            "unsupported",
        ),
        (
            MeshFormat::Gltf,
            b"glTF\x02\0\0\0\xff\xff\xff\xff\xff\xff\xff\xffJSON".to_vec(),
            "malformed",
        ),
        (
            MeshFormat::Obj,
            b"v 0 0 0\nv 1e999 0 0\nv 0 1 0\nf 1 2 3".to_vec(),
            "non_finite",
        ),
        (
            MeshFormat::Obj,
            b"v 0 0 0\nf 1 -2 4000000000".to_vec(),
            "malformed",
        ),
        (
            MeshFormat::Off,
            b"OFF999999999 999999999 0\n".to_vec(),
            "malformed",
        ),
        (
            MeshFormat::Stl,
            [vec![b'x'; 80], vec![255; 4]].concat(),
            "malformed",
        ),
        (
            MeshFormat::Ply,
            PLY.replace("vertex 3", "vertex 999999999999").into_bytes(),
            "malformed",
        ),
        (
            MeshFormat::Ply,
            PLY.replace("3 0 1 2", "9 0 1 2").into_bytes(),
            "malformed",
        ),
        (MeshFormat::Npy, b"\x93NUMPY\x01\0\xff\xff".to_vec(), "malformed"),
        (MeshFormat::Xyz, b"0 0 0\n0 0 0\n".to_vec(), "all_degenerate"),
    ] {
        let error = import(format, &bytes, &beside).unwrap_err();
        assert_eq!(error.code(), code, "{format}: {error}");
    }
}

/// Files that users mistake for meshes.
fn errors_name_other_file_kinds() {
    let beside = Beside {
        materials: Vec::new(),
        image: Vec::new(),
    };
    let pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:0f\nsize 9\n";
    let old = br#"{"asset": {"version": "1.0"}, "meshes": {"a": {}}, "nodes": {}}"#;
    for (format, bytes, words) in [
        (MeshFormat::Obj, &pointer[..], "git lfs pull"),
        (MeshFormat::Gltf, pointer, "git lfs pull"),
        (MeshFormat::Gltf, old, "version 1"),
    ] {
        let error = import(format, bytes, &beside).unwrap_err().to_string();
        assert!(error.contains(words), "{format}: {error}");
    }
}
