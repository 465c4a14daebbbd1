//! Golden images, inspected once, that both backends must reproduce.
//!
//! A failure writes the actual image and the difference; `UPDATE_GOLDEN=1` accepts the actual one.

use std::fs::{self, File};
use std::io::BufReader;
use std::path::{Path, PathBuf};

use glam::Vec3;
use tap_render::{Channels, Framing, Mesh, Projection, RenderRecipe, View};

use crate::{centered, renderers, shape};

const SIZE: usize = 64;
const COLUMNS: usize = 4;
/// Tolerance for another driver version's rounding of values,
const MAX_OFF: u8 = 2;
/// and for samples on edges, in at most one of this many pixels.
const ONE_FREE_IN: usize = 500;

/// All views side by side, three bytes per pixel.
#[derive(PartialEq)]
struct Sheet {
    width: usize,
    height: usize,
    rgb: Vec<u8>,
}

impl Sheet {
    fn new(views: &[View], pixel: impl Fn(&View, usize) -> [u8; 3]) -> Self {
        let (width, height) = (SIZE * COLUMNS, SIZE * views.len().div_ceil(COLUMNS));
        let rgb = (0..width * height).flat_map(|i| {
            let (x, y) = (i % width, i / width);
            pixel(&views[y / SIZE * COLUMNS + x / SIZE], y % SIZE * SIZE + x % SIZE)
        });
        Self {
            width,
            height,
            rgb: rgb.collect(),
        }
    }

    fn read(path: &Path) -> Option<Self> {
        let mut reader = png::Decoder::new(BufReader::new(File::open(path).ok()?))
            .read_info()
            .unwrap();
        let mut rgb = vec![0; reader.output_buffer_size().unwrap()];
        let info = reader.next_frame(&mut rgb).unwrap();
        Some(Self {
            width: info.width as usize,
            height: info.height as usize,
            rgb,
        })
    }

    fn write(&self, path: &Path) {
        let file = File::create(path).unwrap();
        let mut encoder = png::Encoder::new(file, self.width as u32, self.height as u32);
        encoder.set_color(png::ColorType::Rgb);
        encoder
            .write_header()
            .unwrap()
            .write_image_data(&self.rgb)
            .unwrap();
    }

    fn differences(&self, other: &Self) -> Vec<u8> {
        self.rgb
            .iter()
            .zip(&other.rgb)
            .map(|(a, b)| a.abs_diff(*b))
            .collect()
    }
}

fn assert_golden(name: &str, views: &[Vec<View>; 2], pixel: impl Fn(&View, usize) -> [u8; 3]) {
    for views in views {
        assert_sheet(name, &Sheet::new(views, &pixel));
    }
}

fn assert_sheet(name: &str, actual: &Sheet) {
    let golden_path = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("tests/golden")
        .join(name);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        actual.write(&golden_path);
    }
    let golden =
        Sheet::read(&golden_path).unwrap_or_else(|| panic!("there is no {name}: UPDATE_GOLDEN=1 makes it"));
    assert_eq!(
        (actual.width, actual.height),
        (golden.width, golden.height),
        "size of {name}"
    );
    let differences = actual.differences(&golden);
    let num_off = differences
        .chunks(3)
        .filter(|pixel| pixel.iter().any(|off| *off > MAX_OFF))
        .count();
    if num_off > actual.width * actual.height / ONE_FREE_IN {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("golden");
        fs::create_dir_all(&folder).unwrap();
        let (actual_path, diff_path) = (folder.join(name), folder.join(format!("diff_{name}")));
        actual.write(&actual_path);
        Sheet {
            rgb: differences,
            ..*actual
        }
        .write(&diff_path);
        panic!(
            "{num_off} pixels of {name} differ: drawn {}, differences {}; UPDATE_GOLDEN=1 accepts what is drawn",
            actual_path.display(),
            diff_path.display()
        );
    }
}

/// Both backends must draw the same images.
fn views(mesh: &Mesh, recipe: RenderRecipe) -> [Vec<View>; 2] {
    let recipe = RenderRecipe {
        size_px: SIZE as u32,
        channels: Channels::ALL,
        ..recipe
    };
    renderers().map(|mut renderer| renderer.render(mesh, &centered(mesh), &recipe).unwrap())
}

fn gray(view: &View, pixel: usize) -> [u8; 3] {
    [view.color.as_ref().unwrap().gray().unwrap()[pixel]; 3]
}

#[test]
fn axes_as_mvcnn_shows_them() {
    let views = views(&shape::axes(), RenderRecipe::default());
    assert_golden("axes_color.png", &views, gray);
}

#[test]
fn a_ring_in_parallel_projection() {
    let recipe = RenderRecipe {
        framing: Framing::Box,
        projection: Projection::Orthographic,
        ..RenderRecipe::default()
    };
    let views = views(&shape::torus(12, 0.4), recipe);
    assert_golden("torus_color.png", &views, gray);
}

#[test]
fn normals_of_a_ring() {
    let views = views(&shape::torus(12, 0.4), RenderRecipe::default());
    let normal = |view: &View, pixel: usize| {
        let normal = Vec3::from(view.normal.as_ref().unwrap()[pixel]);
        ((normal * 0.5 + 0.5) * 255.0)
            .round()
            .to_array()
            .map(|value| value as u8)
    };
    assert_golden("torus_normal.png", &views, normal);
}

#[test]
fn depth_of_the_axes() {
    let views = views(&shape::axes(), RenderRecipe::default());
    // The object's box is 2 wide, its diagonal at most 2 sqrt 3, and the eye 4.6 of them away.
    let depth = |view: &View, pixel: usize| {
        let eye = -view.matrices.view_from_object.w_axis.z;
        let from_middle = view.depth.as_ref().unwrap()[pixel] - eye;
        [((from_middle * 0.25 + 0.5).clamp(0.0, 1.0) * 255.0).round() as u8; 3]
    };
    assert_golden("axes_depth.png", &views, depth);
}
