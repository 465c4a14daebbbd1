//! A source that the crate does not know: prisms and cones by their number of sides, with no file anywhere.

use std::fmt::Write as _;
use std::io;
use std::path::Path;
use std::sync::atomic::AtomicBool;

use tap_dataset::{
    BuildOptions, BuildRecipe, Dataset, ListedObject, ObjectReader, ReadError, Source, Split, ViewSelection,
    build,
};

/// Makes `<category>/<number of sides>.obj` when it is read.
#[derive(Debug)]
struct Solids;

impl ObjectReader for Solids {
    fn read(&self, path: &Path, _limit_bytes: u64) -> Result<Vec<u8>, ReadError> {
        let num_sides = path.file_stem().and_then(|stem| stem.to_str()?.parse().ok());
        let num_sides: u32 = num_sides.ok_or_else(|| io::Error::other("its name is no number"))?;
        // Of its upper rim, relative to the lower one.
        let radius = if path.starts_with("cone") { 0.01 } else { 1.0 };
        Ok(solid(num_sides, radius).into_bytes())
    }
}

/// OBJ text: two rims, their caps, and the quadrilaterals between them.
fn solid(num_sides: u32, upper_radius: f64) -> String {
    let mut obj = String::new();
    for (y, radius) in [(-1.0, 1.0), (1.0, upper_radius)] {
        for side in 0..num_sides {
            let (sin, cos) = (std::f64::consts::TAU * f64::from(side) / f64::from(num_sides)).sin_cos();
            let _ = writeln!(obj, "v {} {y} {}", radius * cos, -radius * sin);
        }
    }
    let mut face = |corners: Vec<u32>| {
        let corners = corners.iter().map(|corner| format!(" {}", corner + 1));
        let _ = writeln!(obj, "f{}", corners.collect::<String>());
    };
    face((0..num_sides).rev().collect());
    face((num_sides..2 * num_sides).collect());
    for side in 0..num_sides {
        let next = (side + 1) % num_sides;
        face(vec![side, next, num_sides + next, num_sides + side]);
    }
    obj
}

fn main() {
    let objects = (3..7).flat_map(|num_sides| {
        ["prism", "cone"].map(|category| ListedObject {
            category: category.to_owned(),
            name: format!("{num_sides}"),
            split: if num_sides < 6 { Split::Train } else { Split::Test },
            path: format!("{category}/{num_sides}.obj").into(),
        })
    });
    let source = Source::from_reader("solids", objects, Solids).expect("there are objects");
    let mut recipe = BuildRecipe::default();
    recipe.render.size_px = 64;
    let folder = tempfile::tempdir().expect("a temporary folder");
    let options = BuildOptions::new(folder.path().join("data"));
    let summary = build(&source, &recipe, &options, &AtomicBool::new(false), &mut |_| {});
    let summary = summary.expect("it builds");
    assert_eq!(summary.manifest.source.layout, "solids");
    assert_eq!((summary.num_rows(), summary.num_failed()), (8, 0));

    let dataset = Dataset::open(&options.out).expect("it is complete");
    assert_eq!(dataset.classes(), ["cone", "prism"]);
    let sample = dataset.read(Split::Test, 1, ViewSelection::All).expect("a row");
    assert_eq!((sample.id.as_str(), sample.label), ("prism/6", 1));
    let mesh = sample.mesh.expect("it is made from a mesh");
    assert!(mesh.is_watertight, "its caps close it");
    assert_eq!((mesh.num_triangles, sample.views.len()), (2 * 4 + 6 * 2, 12));
}
